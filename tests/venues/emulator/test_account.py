"""The emulated account: what the exchange says once becomes rows, pages and pushes that agree with each other."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from mmdaemon.clock import Clock, RealClock, VirtualClock, run_virtual
from mmdaemon.core.events import Event, FundingRate
from mmdaemon.core.types import E10, NS, ExecKind, Liquidity, OrderStatus, Side
from mmdaemon.venues.base import MarketSource
from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.emulator.history import History
from mmdaemon.venues.emulator.record import AccountChanged, FillPushed, OrderPushed, Pushed
from mmdaemon.venues.emulator.rows import BillRow, FillRow, No, OrderRow, Why
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from tests.venues.emulator.build import BUY, SELL, STILL, config
from tests.venues.simulated.test_venue import START_NS, Market, book, ended, times

EVER: dict[str, Any] = {"since_ms": 0, "until_ms": 1 << 60, "before_id": "", "limit": 1_000}


def ever(**changed: Any) -> dict[str, Any]:
    return {**EVER, **changed}


class Desk:
    def __init__(self, clock: Clock, source: MarketSource = STILL, **settings: Any) -> None:
        self.told: list[Pushed] = []
        self.heard: list[Event] = []
        self.account = Account(source, clock, config(**settings), 7, self.told.append, self.heard.append)

    def place(self, client_id: str, side: Side = BUY, px_ticks: int = 990, qty_lots: int = 5, **flags: Any) -> OrderRow:
        flags = {"post_only": False, "reduce_only": False, "ioc": False, **flags}
        return self.account.place(client_id=client_id, side=side, px_ticks=px_ticks, qty_lots=qty_lots, **flags)

    def print(self, px_ticks: int, qty_lots: int, aggressor: Side) -> None:
        self.account.exchange.on_trade(self.account.advance(), px_ticks, qty_lots, aggressor)

    def mark(self, px_ticks: int) -> None:
        self.account.exchange.on_mark(self.account.advance(), px_ticks)

    def show(self, mid: int) -> None:
        bids = tuple((mid - step, 10) for step in (1, 2, 3))
        asks = tuple((mid + step, 10) for step in (1, 2, 3))
        self.account.exchange.on_book(self.account.advance(), bids, asks)

    def orders(self) -> list[OrderPushed]:
        return [each for each in self.told if isinstance(each, OrderPushed)]

    def fills(self) -> list[FillRow]:
        return [each.row for each in self.told if isinstance(each, FillPushed)]

    def statuses(self, key: str) -> list[str]:
        return [each.row.status.value for each in self.orders() if key in (each.row.client_id, each.row.order_id)]

    def refused(self, does: Any, *args: Any, **how: Any) -> Why:
        with pytest.raises(No) as refused:
            does(*args, **how)
        return refused.value.why


@asynccontextmanager
async def at(**settings: Any) -> AsyncGenerator[Desk, None]:
    desk = Desk(RealClock(asyncio.get_running_loop()), **settings)
    try:
        yield desk
    finally:
        desk.account.close(0)


# --- orders -----------------------------------------------------------------------------------------------------------


async def test_an_order_that_rests_and_fills_in_parts_is_told_as_it_then_stood() -> None:
    async with at(fills=FillModel.QUEUE) as desk:
        row = desk.place("a", px_ticks=1_000, qty_lots=9)  # inside the spread: nobody ahead
        assert (row.status, row.client_id, row.filled_lots, row.average_px) == (OrderStatus.LIVE, "a", 0, "")
        desk.print(1_000, 4, SELL)
        desk.print(1_000, 5, SELL)
        assert desk.statuses("a") == ["live", "partial", "filled"]
        partly, wholly = desk.orders()[1:]
        assert (partly.row.filled_lots, wholly.row.filled_lots) == (4, 9)
        assert [each.qty_lots for each in desk.fills()] == [4, 5]
        assert partly.fill == desk.fills()[0]
        assert wholly.fill == desk.fills()[1]
        assert wholly.row.fee_e10 == sum(each.fee_e10 for each in desk.fills())
        assert wholly.row == desk.account.order("a") == desk.account.order(row.order_id)
        assert {each.liquidity for each in desk.fills()} == {Liquidity.MAKER}
        assert desk.account.open_orders() == []


async def test_an_order_that_takes_is_accepted_first_and_its_average_is_that_of_what_it_took() -> None:
    async with at() as desk:
        row = desk.place("a", px_ticks=1_002, qty_lots=15)
        assert row.status is OrderStatus.FILLED
        assert row.average_px == format((Decimal(10) * 1_001 + 5 * 1_002) / 15 / 10, ".10f").rstrip("0")
        assert desk.statuses("a") == ["live", "partial", "filled"]
        assert [each.row.filled_lots for each in desk.orders()] == [0, 10, 15]
        assert isinstance(desk.told[0], OrderPushed)
        assert isinstance(desk.told[-1], AccountChanged)


async def test_what_an_ioc_did_not_take_is_cancelled() -> None:
    async with at() as desk:
        row = desk.place("a", px_ticks=1_001, qty_lots=15, ioc=True)
        assert (row.status, row.filled_lots, row.reason) == (OrderStatus.CANCELLED, 10, "ioc")
        assert desk.statuses("a") == ["live", "partial", "cancelled"]


async def test_of_a_fill_and_its_orders_word_either_comes_first() -> None:
    async with at() as desk:
        firsts: set[str] = set()
        for number in range(30):
            desk.told.clear()
            desk.show(1_000)
            desk.place(
                f"o{number}", side=BUY if number % 2 else SELL, px_ticks=1_001 if number % 2 else 999, qty_lots=1
            )
            pair = [type(each).__name__ for each in desk.told[1:3]]
            assert sorted(pair) == ["FillPushed", "OrderPushed"]
            firsts.add(pair[0])
        assert firsts == {"FillPushed", "OrderPushed"}


async def test_a_post_only_order_that_would_take_is_accepted_and_cancelled_on_the_stream() -> None:
    async with at() as desk:
        row = desk.place("a", px_ticks=1_001, post_only=True)
        assert (row.status, row.reason) == (OrderStatus.CANCELLED, "post_only")
        assert desk.statuses("a") == ["live", "cancelled"]
    async with at(post_only=PostOnly.REJECT) as desk:
        assert desk.refused(desk.place, "a", px_ticks=1_001, post_only=True) is Why.PARAMETER
        assert desk.told == []
        assert desk.refused(desk.account.order, "a") is Why.NOT_FOUND


@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"px_ticks": 0}, Why.PRICE_SCALE),
        ({"qty_lots": 0}, Why.SIZE_SCALE),
        ({"qty_lots": 3_000_000_000}, Why.PARAMETER),
        ({"qty_lots": 2_000_000}, Why.MARGIN),
        ({"reduce_only": True}, Why.REDUCE_ONLY),
    ],
)
async def test_what_the_venue_does_not_take_has_its_reason_and_leaves_no_trace(order: dict[str, Any], why: Why) -> None:
    async with at() as desk:
        assert desk.refused(desk.place, "a", **order) is why
        assert desk.told == []
        assert desk.account.open_orders() == []
        assert desk.place("a").status is OrderStatus.LIVE  # the id was not used up


async def test_a_client_id_is_used_once_whatever_became_of_its_order() -> None:
    async with at() as desk:
        desk.place("a")
        assert desk.refused(desk.place, "a") is Why.DUPLICATE
        desk.account.cancel("a")
        assert desk.refused(desk.place, "a") is Why.DUPLICATE
        assert desk.statuses("a") == ["live", "cancelled"]


async def test_a_client_id_is_remembered_as_long_as_its_order() -> None:
    async with at(keep=10) as desk:
        for number in range(18):
            desk.place(f"o{number}")
            desk.account.cancel(f"o{number}")
        for row in desk.account.all_orders():
            assert desk.refused(desk.place, row.client_id) is Why.DUPLICATE
        assert {row.status for row in desk.account.all_orders()} == {OrderStatus.CANCELLED}


async def test_an_order_without_a_client_id_is_known_by_its_number() -> None:
    async with at() as desk:
        row = desk.place("")
        assert row.client_id == ""
        assert row.order_id.isdecimal()
        assert desk.account.open_orders() == [row]
        assert desk.account.cancel(row.order_id).status is OrderStatus.CANCELLED


async def test_an_amended_order_keeps_its_ids_and_is_told_with_its_new_terms() -> None:
    async with at() as desk:
        placed = desk.place("a")
        row = desk.account.amend("a", 980, 7)
        assert (row.order_id, row.px_ticks, row.qty_lots, row.status) == (placed.order_id, 980, 7, OrderStatus.LIVE)
        assert desk.orders()[-1].row == row
        assert desk.account.amend(row.order_id, None, 3).px_ticks == 980
        assert desk.refused(desk.account.amend, "a", 980, 3) is Why.AMEND_NOTHING
        assert desk.refused(desk.account.amend, "b", 980, 3) is Why.NOT_FOUND
        assert desk.refused(desk.account.amend, "a", None, 0) is Why.SIZE_SCALE
        desk.account.amend("a", 1_000, 8)
        desk.print(1_000, 4, SELL)
        assert desk.refused(desk.account.amend, "a", None, 4) is Why.PARAMETER
        desk.account.cancel("a")
        assert desk.refused(desk.account.amend, "a", 980, 9) is Why.NOT_FOUND
        assert desk.account.order("a").filled_lots == 4
        assert desk.account.truth().orders["a"].revision == 3


async def test_a_cancel_of_what_is_not_open_finds_nothing() -> None:
    async with at() as desk:
        desk.place("a", px_ticks=1_001, qty_lots=1)
        assert desk.refused(desk.account.cancel, "a") is Why.NOT_FOUND
        assert desk.refused(desk.account.cancel, "zz") is Why.NOT_FOUND


async def test_cancel_all_takes_everything_and_says_so_where_there_is_nothing() -> None:
    async with at() as desk:
        desk.place("a")
        desk.place("b", side=SELL, px_ticks=1_010)
        foreign = desk.account.foreign_order(BUY, 980, 4)
        assert [row.order_id for row in desk.account.open_orders()][-1] == foreign.order_id
        rows = desk.account.cancel_all()
        assert {row.status for row in rows} == {OrderStatus.CANCELLED}
        assert len(rows) == 3
        assert desk.account.open_orders() == []
        assert desk.refused(desk.account.cancel_all) is Why.NOTHING_TO_CANCEL


async def test_a_reduce_only_order_that_is_cut_is_told_with_its_new_size() -> None:
    async with at() as desk:
        desk.place("long", px_ticks=1_001, qty_lots=6)
        desk.place("close", side=SELL, px_ticks=1_010, qty_lots=6, reduce_only=True)
        desk.account.manual_trade(SELL, 4)
        row = desk.account.order("close")
        assert (row.qty_lots, row.status) == (2, OrderStatus.LIVE)
        assert desk.orders()[-1].row == row or row in [each.row for each in desk.orders()]


async def test_ended_orders_are_forgotten_and_open_ones_never() -> None:
    async with at(keep=10) as desk:
        rests = desk.place("rests", px_ticks=900)
        for number in range(60):
            desk.place(f"o{number}")
            desk.account.cancel(f"o{number}")
            assert min(number, 10) < len(desk.account.all_orders()) <= 21
        assert desk.account.order("rests") == rests
        assert desk.refused(desk.account.order, "o0") is Why.NOT_FOUND
        assert desk.account.order("o59").status is OrderStatus.CANCELLED


# --- pages ------------------------------------------------------------------------------------------------------------


def trades(desk: Desk, count: int) -> None:
    for number in range(count):
        desk.show(1_000)
        desk.place(f"t{number}", side=SELL if number % 3 else BUY, px_ticks=999 if number % 3 else 1_001, qty_lots=2)


async def test_fills_are_read_in_pages_from_the_newest_on_without_gap_or_overlap() -> None:
    async with at() as desk:
        trades(desk, 25)
        everything = desk.account.fills(**EVER)
        assert everything[::-1] == desk.fills()
        paged: list[FillRow] = []
        while page := desk.account.fills(**ever(before_id=paged[-1].trade_id if paged else "", limit=10)):
            assert len(page) <= 10
            paged += page
        assert paged == everything
        middle = everything[12].at_ms
        since = desk.account.fills(**ever(since_ms=middle))
        until = desk.account.fills(**ever(until_ms=middle))
        assert since == [each for each in everything if each.at_ms >= middle]
        assert until == [each for each in everything if each.at_ms <= middle]


async def test_the_ledger_adds_up_line_by_line_to_the_wallet() -> None:
    """Every change of the balance is one line, in the order of ids, that carries the balance after it."""
    async with at() as desk:
        account, start = desk.account, 1_000 * E10
        trades(desk, 10)
        account.transfer(50 * E10)
        account.exchange.on_funding(account.advance(), 0.001, account.advance() + 1, 8 * 3_600)
        await asyncio.sleep(0)
        account.exchange.run_due(account.advance() + 2)
        account.transfer(-20 * E10)
        trades_again = [desk.place(f"u{number}", px_ticks=1_001, qty_lots=1) for number in range(3)]
        assert trades_again
        lines = account.bills(**EVER)[::-1]
        assert [each.kind for each in lines if each.kind != "trade"] == ["transfer_in", "funding", "transfer_out"]
        balance = start
        for line in lines:
            balance += line.amount_e10 - line.fee_e10
            assert line.balance_e10 == balance
        assert balance == account.balance().wallet_e10
        numbers = [int(each.bill_id) for each in lines]
        assert numbers == sorted(set(numbers))
        assert {int(each.trade_id) for each in account.fills(**EVER)}.isdisjoint(numbers)


def test_a_history_serves_what_a_plain_list_would() -> None:
    history: History[int] = History(50)
    rows: list[tuple[int, int]] = []
    for number in range(1, 240):
        rows.append((2 * number, number // 3))
        history.add(2 * number, number // 3, number)
        kept = len(history.page(since_ms=0, until_ms=1_000, before_id="", limit=1_000))
        assert min(number, 50) <= kept <= 100
        rows = rows[-kept:]
        for since, until, before, limit in (
            (0, 1_000, "", 7),
            (number // 6, 1_000, str(number), 1_000),
            (3, 40, "", 5),
        ):
            wanted = [
                own // 2
                for own, at_ms in reversed(rows)
                if since <= at_ms <= until and (not before or own < int(before))
            ]
            assert history.page(since_ms=since, until_ms=until, before_id=before, limit=limit) == wanted[:limit]


# --- position, balance, terms -----------------------------------------------------------------------------------------


async def test_position_and_balance_are_those_of_the_exchange() -> None:
    async with at() as desk:
        assert desk.account.position() is None
        desk.place("a", side=SELL, px_ticks=998, qty_lots=15)
        desk.mark(990)
        position = desk.account.position()
        balance, snapshot = desk.account.balance(), desk.account.exchange.snapshot(0)
        assert position is not None
        assert (position.lots, position.mark_px_ticks) == (-15, 990)
        assert position.average_px == "99.8666666667"
        assert position.unrealised_e10 == balance.unrealised_e10 == snapshot.unrealised_e10 > 0
        assert (balance.wallet_e10, balance.available_e10) == (snapshot.wallet_e10, snapshot.available_margin_e10)
        assert balance.margin_e10 == balance.wallet_e10 + balance.unrealised_e10 - balance.available_e10
        assert desk.fills()[0].pnl_e10 == 0
        desk.show(1_000)
        desk.place("b", side=BUY, px_ticks=1_003, qty_lots=15)
        assert desk.account.position() is None
        realised = sum(each.pnl_e10 for each in desk.fills())
        assert realised == -sum(each.side * each.px_ticks * each.qty_lots for each in desk.fills()) * 100_000
        assert realised == desk.account.balance().wallet_e10 + sum(e.fee_e10 for e in desk.fills()) - 1_000 * E10


async def test_the_liquidation_price_is_where_the_venue_liquidates() -> None:
    async with at(start_e10=E10 // 10) as desk:
        desk.place("a", px_ticks=1_003, qty_lots=30)
        position = desk.account.position()
        assert position is not None
        at_ticks = int(Decimal(position.liquidation_px) * 10)
        assert 0 < at_ticks < 1_000
        desk.mark(at_ticks + 1)
        assert desk.account.position() is not None
        desk.mark(at_ticks)
        assert desk.account.position() is None
        last = desk.account.fills(**EVER)[0]
        assert (last.kind, last.client_id, last.side) == (ExecKind.LIQUIDATION, "", SELL)
        assert desk.account.order(last.order_id).status is OrderStatus.FILLED
        assert desk.account.bills(**EVER)[0].kind == "fee"
        assert desk.account.balance().wallet_e10 == 0


async def test_terms_are_in_force_from_the_moment_they_change() -> None:
    async with at() as desk:
        account = desk.account
        assert desk.refused(desk.place, "big", px_ticks=990, qty_lots=1_500_000) is Why.MARGIN
        account.set_leverage(20)
        assert desk.place("big", px_ticks=990, qty_lots=1_500_000).status is OrderStatus.LIVE
        assert desk.refused(account.set_leverage, 126) is Why.PARAMETER
        assert desk.refused(account.set_position_mode, "hedge") is Why.POSITION_MODE
        assert desk.refused(account.set_margin_mode, "isolated") is Why.POSITION_MODE
        account.cancel_all()
        account.facts = msgspec.structs.replace(account.facts, maker_rate="0.01", taker_rate="0.02")
        desk.place("a", px_ticks=1_001, qty_lots=1)
        assert desk.fills()[0].fee_e10 == 1_001 * 100_000 // 50
        desk.account.manual_trade(SELL, 1)
        account.set_position_mode("hedge")
        assert desk.refused(desk.place, "b") is Why.POSITION_MODE
        account.set_position_mode("one_way")
        resting = desk.place("c")
        account.facts = msgspec.structs.replace(account.facts, can_trade=False)
        assert desk.refused(desk.place, "d") is Why.PERMISSION
        assert desk.refused(account.amend, "c", 980, 5) is Why.PERMISSION
        assert account.cancel(resting.order_id).status is OrderStatus.CANCELLED


async def test_a_stop_closes_the_position_by_an_order_of_the_venues_own() -> None:
    async with at() as desk:
        desk.place("a", px_ticks=1_001, qty_lots=6)
        desk.account.protect(970)
        assert desk.account.stop_px_ticks() == 970
        desk.mark(971)
        assert desk.account.position() is not None
        desk.mark(969)
        assert desk.account.position() is None
        assert desk.account.stop_px_ticks() is None
        fill = desk.fills()[-1]
        assert (fill.side, fill.qty_lots, fill.client_id, fill.kind) == (SELL, 6, "", ExecKind.TRADE)
        assert desk.statuses(fill.order_id) == ["live", "filled"]
        desk.account.protect(970)
        assert desk.account.protect(None) == ""
        assert desk.account.stop_px_ticks() is None


def test_the_dead_mans_hand_lets_go_unless_it_is_told_again() -> None:
    async def lets_go(clock: VirtualClock) -> None:
        desk = Desk(clock, dead_man_granted=True)
        await asyncio.sleep(1)  # the market has said all that it will for hours
        desk.place("a")
        desk.account.dead_man(5)
        await asyncio.sleep(4)
        desk.account.dead_man(5)
        await asyncio.sleep(4)
        assert desk.account.order("a").status is OrderStatus.LIVE
        desk.told.clear()
        await asyncio.sleep(1.5)
        assert desk.statuses("a") == ["cancelled"]  # by its own timer, before anybody asks
        assert desk.account.order("a").reason == "dead_man"
        desk.place("b")
        desk.account.dead_man(5)
        desk.account.dead_man(0)
        await asyncio.sleep(60)
        assert desk.account.order("b").status is OrderStatus.LIVE
        assert desk.refused(Desk(clock).account.dead_man, 5) is Why.NOT_GRANTED

    run_virtual(lets_go, start_wall_ns=START_NS)


def test_funding_is_settled_while_nobody_asks() -> None:
    source = Market(book(0), FundingRate(*times(0.1), 0.0001, START_NS + 60 * NS, 8 * 3_600), ended(7_200))

    async def settles(clock: VirtualClock) -> None:
        desk = Desk(clock, source)
        await asyncio.sleep(1)
        desk.place("a", px_ticks=1_001, qty_lots=10)
        rate, next_ms, interval_s = desk.account.funding()
        assert (rate, next_ms, interval_s) == ("0.0001", (START_NS + 60 * NS) // 1_000_000, 8 * 3_600)
        desk.told.clear()
        await asyncio.sleep(70)
        assert desk.told == [AccountChanged(position=True)]
        (line,) = [each for each in desk.account.bills(**EVER) if each.kind == "funding"]
        assert isinstance(line, BillRow)
        assert (line.amount_e10, line.at_ms) == (-10 * 1_000 * 10, next_ms)

    run_virtual(settles, start_wall_ns=START_NS)


# --- what somebody else does ------------------------------------------------------------------------------------------


async def test_what_somebody_else_does_is_told_like_all_else() -> None:
    async with at() as desk:
        foreign = desk.account.foreign_order(BUY, 995, 4, "another-1")
        assert desk.statuses("another-1") == ["live"]
        assert desk.account.open_orders() == [foreign]
        desk.account.manual_trade(BUY, 3)
        manual = desk.fills()[-1]
        assert (manual.qty_lots, manual.client_id, manual.liquidity) == (3, "", Liquidity.TAKER)
        assert desk.refused(desk.account.foreign_order, SELL, 995, 4) is Why.PARAMETER  # would meet the one above
        desk.account.transfer(-E10)
        assert desk.account.bills(**EVER)[0].kind == "transfer_out"
        desk.account.liquidate()
        assert desk.account.position() is None
        assert desk.account.balance().wallet_e10 == 0
        assert desk.account.order("another-1").reason == "liquidation"


async def test_a_skewed_clock_shows_in_every_time_that_the_venue_tells() -> None:
    async with at() as desk:
        desk.account.skew_ms = 3_600_000
        before = RealClock(asyncio.get_running_loop()).wall_ns() // 1_000_000
        row = desk.place("a", px_ticks=1_001, qty_lots=1)
        assert min(row.created_ms, desk.fills()[0].at_ms, desk.account.now_ms()) >= before + 3_599_000


async def test_before_there_is_a_market_nothing_is_made_up() -> None:
    async with at(source=Market(ended(7_200))) as desk:
        assert desk.refused(desk.account.mark_px_ticks) is Why.SERVICE
        assert desk.refused(desk.account.ticker) is Why.SERVICE
        assert desk.account.position() is None
        assert desk.account.balance().wallet_e10 == 1_000 * E10


async def test_ids_are_numbers_that_rise_over_accounts() -> None:
    async with at() as desk:
        first = desk.place("a", px_ticks=1_001, qty_lots=1)
        earlier = int(desk.fills()[0].trade_id)
    await asyncio.sleep(0.01)
    async with at() as desk:
        second = desk.place("a", px_ticks=1_001, qty_lots=1)
        assert int(desk.fills()[0].trade_id) > earlier
        assert int(second.order_id) > int(first.order_id)
