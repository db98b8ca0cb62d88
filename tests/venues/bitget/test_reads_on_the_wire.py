"""Every read of both APIs over loopback: our lanes, ccxt's signatures, the emulator's answers. What is read equals what
the account has, to the last digit."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest

from mmdaemon.core.events import BillKind
from mmdaemon.core.types import E10, NS, ExecKind, OrderStatus, Side
from mmdaemon.secret import Credentials, Secret
from mmdaemon.venues.base import Absent, Cursor, PositionStop, VenueUnavailable
from mmdaemon.venues.bitget import classic_reads, unified_reads
from mmdaemon.venues.bitget.api import Api, Meaning, Refused
from mmdaemon.venues.bitget.classic import Classic
from mmdaemon.venues.bitget.unified import Unified
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.lanes import Lanes
from mmdaemon.venues.simulated.candles import MINUTE_NS
from mmdaemon.venues.wire_http import HttpClient
from tests.venues.emulator.build import KEY, PASSPHRASE, SECRET, Bench, emulated

Kind = Literal["classic", "unified"]
KINDS: tuple[Kind, ...] = ("classic", "unified")
BUY, SELL = Side.BUY, Side.SELL


class Desk:
    def __init__(self, bench: Bench, lanes: Lanes, kind: Kind) -> None:
        self.bench, self.account, self.lanes, self.kind = bench, bench.account, lanes, kind
        made: dict[Kind, type[Classic] | type[Unified]] = {"classic": Classic, "unified": Unified}
        self.api: Api = made[kind](self.account.instrument)

    @property
    def long_ago(self) -> Cursor:
        return Cursor((self.account.now_ms() - 3_600_000) * 1_000_000)

    def trade(self, client_id: str, side: Side, px_ticks: int, qty_lots: int = 5) -> None:
        """A maker's order, and somebody who trades through its price."""
        self.bench.place(client_id, side, px_ticks, qty_lots)
        self.bench.print(px_ticks - side, 100, side.opposite)
        assert self.account.order(client_id).filled_lots == qty_lots


@asynccontextmanager
async def at_desk(kind: Kind, **settings: Any) -> AsyncGenerator[Desk, None]:
    async with emulated(account=kind, limits=False, **settings) as bench:
        credentials = Credentials(Secret(KEY), Secret(SECRET), Secret(PASSPHRASE))
        config = CcxtConfig(account=kind, credentials=credentials, emulator_url=bench.emulator.url)
        client = CcxtClient(config, bench.clock)
        wire = HttpClient(client.ssl_context, bench.clock)
        lanes = Lanes(client, wire, bench.clock, 5.0)
        try:
            yield Desk(bench, lanes, kind)
        finally:
            await lanes.close()
            await wire.close()
            await client.close()


async def filled(desk: Desk) -> Account:
    """Long 5 lots: bought 10 in two trades, sold 5; an order rests on each side."""
    desk.trade("mmabcd-1-1", BUY, 998)
    desk.trade("mmabcd-1-2", BUY, 997)
    desk.trade("mmabcd-1-3", SELL, 1_003)
    desk.bench.place("mmabcd-1-4", BUY, 990, 7)
    desk.bench.place("mmabcd-1-5", SELL, 1_010, 5, reduce_only=True)
    position = desk.account.position()
    assert position is not None
    assert position.lots == 5
    return desk.account


@pytest.mark.parametrize("kind", KINDS)
async def test_an_order(kind: Kind) -> None:
    async with at_desk(kind) as desk:
        await filled(desk)
        done = await desk.api.order(desk.lanes, "mmabcd-1-1")
        rests = await desk.api.order(desk.lanes, "mmabcd-1-5")
        assert not isinstance(done, Absent)
        assert not isinstance(rests, Absent)
        assert (done.status, done.cum_filled_lots, done.px_ticks) == (OrderStatus.FILLED, 5, 998)
        assert (rests.status, rests.side, rests.qty_lots, rests.reduce_only) == (OrderStatus.LIVE, SELL, 5, True)
        by_venue = await desk.api.order(desk.lanes, f"venue:{desk.account.order('mmabcd-1-4').order_id}")
        assert not isinstance(by_venue, Absent)
        assert by_venue.qty_lots == 7
        assert await desk.api.order(desk.lanes, "mmabcd-1-99") == Absent("mmabcd-1-99")


@pytest.mark.parametrize("kind", KINDS)
async def test_open_orders(kind: Kind) -> None:
    async with at_desk(kind, start_e10=1_000_000 * E10) as desk:
        assert await desk.api.open_orders(desk.lanes) == []
        for n in range(1, 231):
            desk.bench.place(f"mmabcd-1-{n}", BUY, 990 - n % 50)
        desk.account.foreign_order(BUY, 980, 5)
        told = await desk.api.open_orders(desk.lanes)
        assert len(told) == 231
        assert {each.client_id for each in told} >= {f"mmabcd-1-{n}" for n in range(1, 231)}


@pytest.mark.parametrize("kind", KINDS)
async def test_fills(kind: Kind) -> None:
    async with at_desk(kind, start_e10=1_000_000 * E10) as desk:
        assert await desk.api.fills(desk.lanes, desk.long_ago) == []
        desk.bench.place("mmabcd-1-1", BUY, 998, 115)
        desk.bench.print(998, 10, SELL)  # who was there before us
        for _ in range(115):
            desk.bench.print(998, 1, SELL)
        desk.trade("mmabcd-1-2", SELL, 1_002)
        desk.account.manual_trade(BUY, 3)
        rows = desk.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1_000)[::-1]
        told = await desk.api.fills(desk.lanes, desk.long_ago)
        assert len(told) == 117
        assert [each.trade_id for each in told] == [row.trade_id for row in rows]
        for each, row in zip(told, rows, strict=True):
            assert (each.side, each.px_ticks, each.qty_lots, each.fee_e10, each.liquidity, each.exec_kind) == (
                *(row.side, row.px_ticks, row.qty_lots, row.fee_e10, row.liquidity, row.kind),
            )
            assert each.venue_ts_ns == row.at_ms * 1_000_000
        assert [each.client_id for each in told[:116]] == ["mmabcd-1-1"] * 115 + ["mmabcd-1-2"]
        assert not told[-1].client_id.startswith("mm"), "a manual trade is of no order of ours"
        newest = await desk.api.fills(desk.lanes, Cursor(told[-1].venue_ts_ns or 0))
        assert newest[-1] == told[-1]
        assert all((each.venue_ts_ns or 0) >= (told[-1].venue_ts_ns or 0) for each in newest)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_liquidation_is_no_trade_of_ours(kind: Kind) -> None:
    async with at_desk(kind) as desk:
        await filled(desk)
        desk.account.liquidate()
        told = await desk.api.fills(desk.lanes, desk.long_ago)
        assert [each.exec_kind for each in told][-1] is ExecKind.LIQUIDATION


@pytest.mark.parametrize("kind", KINDS)
async def test_bills_and_fills_foot_to_the_wallet(kind: Kind) -> None:
    """To the last digit: what began, what was transferred and settled, what the fills earned and cost."""
    async with at_desk(kind, start_e10=1_000 * E10) as desk:
        begun = await desk.api.snapshot(desk.lanes)
        assert begun.wallet_e10 == 1_000 * E10
        await filled(desk)
        desk.account.transfer(25 * E10)
        for rate in (0.001, -0.0005):  # a long pays, then receives
            now_ns = desk.account.advance()
            desk.account.exchange.on_funding(now_ns, rate, now_ns + 1, 8 * 3_600)
            desk.account.advance()
        desk.account.transfer(-10 * E10)
        bills = await desk.api.bills(desk.lanes, desk.long_ago)
        kinds = [BillKind.TRANSFER, BillKind.FUNDING, BillKind.FUNDING, BillKind.TRANSFER]
        assert [each.kind for each in bills] == kinds
        assert (bills[0].amount_e10, bills[-1].amount_e10) == (25 * E10, -10 * E10)
        assert bills[1].amount_e10 < 0 < bills[2].amount_e10
        rows = desk.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1_000)
        told = await desk.api.snapshot(desk.lanes)
        earned = sum(row.pnl_e10 - row.fee_e10 for row in rows)
        assert told.wallet_e10 == begun.wallet_e10 + earned + sum(each.amount_e10 for each in bills)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_snapshot(kind: Kind) -> None:
    async with at_desk(kind) as desk:
        flat = await desk.api.snapshot(desk.lanes)
        assert (flat.position_lots, flat.unrealised_e10) == (0, 0)
        assert flat.available_margin_e10 == flat.wallet_e10
        account = await filled(desk)
        balance, told = account.balance(), await desk.api.snapshot(desk.lanes)
        assert (told.position_lots, told.wallet_e10) == (5, balance.wallet_e10)
        assert (told.unrealised_e10, told.available_margin_e10) == (balance.unrealised_e10, balance.available_e10)
        assert told.mark_px_ticks == account.mark_px_ticks()
        assert told.venue_ts_ns is not None
        assert abs(told.venue_ts_ns - account.now_ms() * 1_000_000) < 60 * NS


@pytest.mark.parametrize("kind", KINDS)
async def test_facts(kind: Kind) -> None:
    async with at_desk(kind) as desk:
        told = await desk.api.facts(desk.lanes, 0.125)
        assert (told.position_mode, told.margin_mode, told.leverage) == ("one_way", "crossed", 10.0)
        assert (told.can_trade, told.can_withdraw, told.clock_offset_s) == (True, False, 0.125)
        desk.bench.emulator.outside.change_facts(
            position_mode="hedge", margin_mode="isolated", leverage=3, can_trade=False, can_withdraw=True
        )
        changed = await desk.api.facts(desk.lanes, 0.0)
        assert changed.account == told.account
        assert (changed.position_mode, changed.margin_mode, changed.leverage) == ("hedge", "isolated", 3.0)
        assert (changed.can_trade, changed.can_withdraw) == (False, True)


@pytest.mark.parametrize("kind", KINDS)
async def test_fees_funding_mark_and_rules(kind: Kind) -> None:
    async with at_desk(kind) as desk:
        fees = await desk.api.fees(desk.lanes)
        assert (fees.maker_rate, fees.taker_rate) == (0.0002, 0.0006)
        rate, next_ms, interval_s = desk.account.funding()
        funding = await desk.api.funding(desk.lanes)
        assert (funding.rate, funding.next_ts_ns, funding.interval_s) == (float(rate), next_ms * 1_000_000, interval_s)
        assert (await desk.api.mark(desk.lanes)).px_ticks == desk.account.mark_px_ticks()
        rules, own = await desk.api.instrument(desk.lanes), desk.account.instrument
        for name in ("symbol", "tick_e10", "lot_e10", "unit_e10", "min_qty_lots", "max_qty_lots", "min_notional_e10"):
            assert getattr(rules, name) == getattr(own, name), name
        assert rules.venue == "bitget"


@pytest.mark.parametrize("kind", KINDS)
async def test_candles(kind: Kind) -> None:
    """More than a page of either API, and the one that forms, which is on the wire and is not told."""
    async with at_desk(kind) as desk:
        candles = desk.account.exchange.candles
        now_ns = desk.account.advance()
        candles.begin((now_ns // MINUTE_NS - 150) * MINUTE_NS)
        for minute in range(149, -1, -1):
            candles.roll((now_ns // MINUTE_NS - minute) * MINUTE_NS, 1_000 + minute)
        own = desk.account.candles(1_500)
        assert len(own) == 150
        told = await desk.api.candles(desk.lanes, 1_500)
        assert [(each.open_ts_ns, each.close_ticks) for each in told] == [(b.open_ts_ns, b.close_ticks) for b in own]
        assert await desk.api.candles(desk.lanes, 3) == told[-3:]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_stop_of_the_position(kind: Kind) -> None:
    async with at_desk(kind) as desk:
        with pytest.raises(VenueUnavailable, match="no position"):
            await desk.api.protect(desk.lanes, PositionStop(900))
        await filled(desk)
        for px_ticks in (900, 900, 910):
            await desk.api.protect(desk.lanes, PositionStop(px_ticks))
            assert desk.account.stop_px_ticks() == px_ticks
        with pytest.raises(Refused) as refused:  # above mark: it would trigger at once
            await desk.api.protect(desk.lanes, PositionStop(1_100))
        assert refused.value.meaning in (Meaning.REFUSED, Meaning.UNKNOWN)
        assert desk.account.stop_px_ticks() == 910, "the old one stays"
        await desk.api.protect(desk.lanes, None)
        await desk.api.protect(desk.lanes, None)
        assert desk.account.stop_px_ticks() is None


@pytest.mark.parametrize("kind", KINDS)
async def test_the_other_api_is_refused_by_name(kind: Kind) -> None:
    async with at_desk(kind) as desk:
        other = Unified(desk.account.instrument) if kind == "classic" else Classic(desk.account.instrument)
        with pytest.raises(Refused) as refused:
            await other.open_orders(desk.lanes)
        assert refused.value.meaning is Meaning.WRONG_API


async def test_rules_of_a_contract_that_there_is_not() -> None:
    async with at_desk("classic") as desk:
        for read in (classic_reads.read_instrument, unified_reads.read_instrument):
            with pytest.raises((VenueUnavailable, Refused)):
                await read(desk.lanes, "NOSUCHUSDT")
