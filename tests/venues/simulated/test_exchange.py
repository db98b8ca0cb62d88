"""The exchange: margin, funding, liquidation, stop, refusals, candles; without latency."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import Bill, BillKind, Event, Fill, OrderUpdate, RequestFailed
from mmdaemon.core.types import E10, NS, ExecKind, Instrument, Liquidity, OrderStatus, Purpose, Side
from mmdaemon.venues.base import Absent, OrderReport, PositionStop, VenueUnavailable
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.exchange import Exchange

BUY, SELL = Side.BUY, Side.SELL
INSTRUMENT = Instrument.of(
    venue="simulated",
    symbol="BTCUSDT",
    tick_e10=E10 // 10,
    lot_e10=E10 // 10_000,
    min_qty_lots=2,
    max_qty_lots=50_000,
    min_notional_e10=5 * E10,
)
MID = 600_000
"""60,000.0; a lot is worth 6 quote there."""


class Account:
    """An exchange whose stream is a list, with a market of ten thousand lots a level."""

    def __init__(self, **settings: Any) -> None:
        self.stream: list[Event] = []
        self.exchange = Exchange(INSTRUMENT, SimulatedConfig(**settings), 7, self.stream.append)
        self.at = 0
        self.ids = 0
        self.market(MID)

    def market(self, mid: int) -> None:
        self.at += NS
        self.exchange.on_book(self.at, ((mid - 1, 10_000),), ((mid + 1, 10_000),))
        self.exchange.on_mark(self.at, mid)

    def place(self, side: Side, px: Any, qty: Any, **flags: Any) -> OrderUpdate:
        self.ids += 1
        flags = {"post_only": False, "reduce_only": False, "ioc": False} | flags
        client_id = flags.pop("client_id", f"mmtest-1-{self.ids}")
        answer = self.exchange.request(self.at, Place(client_id, side, px, qty, Purpose.QUOTE, 0, **flags))
        assert isinstance(answer, OrderUpdate)
        return answer

    def hold(self, lots: int) -> None:
        side = BUY if lots > 0 else SELL
        self.place(side, MID + side, abs(lots), ioc=True)
        assert self.exchange.wallet.position_lots == lots
        self.stream.clear()

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.stream if isinstance(event, kind)]


@pytest.mark.parametrize(
    ("px", "qty", "reason"),
    [
        (0, 10, "off_tick"),
        (-1, 10, "off_tick"),
        (600_000.5, 10, "off_tick"),
        (float("nan"), 10, "off_tick"),
        (MID - 5, 0, "off_lot"),
        (MID - 5, 2.5, "off_lot"),
        (MID - 5, 1, "min_qty"),
        (MID - 5, 50_001, "max_qty"),
        (100_000, 4, "min_notional"),
    ],
)
def test_what_the_rules_do_not_allow_is_refused_by_name(px: Any, qty: Any, reason: str) -> None:
    account = Account()
    answer = account.place(BUY, px, qty)
    assert (answer.status, answer.reason) == (OrderStatus.REJECTED, reason)
    assert account.stream == []
    assert account.exchange.order(answer.client_id) == Absent(answer.client_id)


def test_an_answer_is_given_once_and_not_on_the_stream() -> None:
    account = Account()
    answer = account.place(BUY, MID - 5, 10)
    assert (answer.status, answer.px_ticks, answer.qty_lots, answer.cum_filled_lots) == (
        OrderStatus.LIVE,
        MID - 5,
        10,
        0,
    )
    assert answer.venue_ts_ns == account.at
    cancelled = account.exchange.request(account.at, Cancel(answer.client_id, risk=False))
    assert isinstance(cancelled, OrderUpdate)
    assert (cancelled.status, cancelled.cum_filled_lots) == (OrderStatus.CANCELLED, 0)
    assert account.stream == []


def test_a_client_id_is_taken_in_once() -> None:
    account = Account()
    account.place(BUY, MID - 5, 10, client_id="x")
    assert account.place(BUY, MID - 5, 10, client_id="x").reason == "duplicate"
    assert len(account.exchange.open_orders()) == 1


@pytest.mark.parametrize("command", [Cancel("nobody", risk=False), Amend("nobody", 1, MID, 10)])
def test_what_is_not_there_can_be_neither_cancelled_nor_amended(command: Cancel | Amend) -> None:
    answer = Account().exchange.request(0, command)
    assert isinstance(answer, RequestFailed)
    assert answer.reason == "not_found"


def test_a_cancel_or_amend_that_comes_too_late_says_what_the_order_became() -> None:
    account = Account()
    account.place(BUY, MID - 1, 10, client_id="x")
    account.exchange.on_trade(account.at, MID - 2, 1, SELL)
    for command in (Cancel("x", risk=False), Amend("x", 1, MID - 1, 20)):
        answer = account.exchange.request(account.at, command)
        assert isinstance(answer, RequestFailed)
        assert answer.reason == "filled"
    assert account.exchange.order("x") == OrderReport("x", BUY, MID - 1, 10, 10, OrderStatus.FILLED, False)


def test_an_amend_is_held_to_the_same_rules_and_answers_with_the_numbers_in_force() -> None:
    account = Account()
    account.place(BUY, MID - 5, 10, client_id="x")
    refused = account.exchange.request(account.at, Amend("x", 1, MID - 5, 60_000))
    assert isinstance(refused, RequestFailed)
    assert (refused.request, refused.reason) == ("amend", "max_qty")
    answer = account.exchange.request(account.at, Amend("x", 2, MID - 6, 8))
    assert isinstance(answer, OrderUpdate)
    assert (answer.revision, answer.px_ticks, answer.qty_lots) == (2, MID - 6, 8)


def test_a_fill_and_its_update_agree_and_come_in_either_order() -> None:
    account = Account()
    firsts = set()
    for _ in range(40):
        account.stream.clear()
        account.place(BUY, MID - 1, 10)
        account.place(BUY, MID - 1, 10)
        account.exchange.on_trade(account.at, MID - 2, 1, SELL)
        first, second = account.stream[:2]
        firsts.add(type(first))
        fill, update = (first, second) if isinstance(first, Fill) else (second, first)
        assert isinstance(fill, Fill)
        assert isinstance(update, OrderUpdate)
        assert (fill.qty_lots, fill.px_ticks, update.cum_filled_lots, update.status) == (
            10,
            MID - 1,
            10,
            OrderStatus.FILLED,
        )
        assert fill.fee_e10 == 10 * (MID - 1) * INSTRUMENT.unit_e10 * 2 // 10_000
    assert firsts == {Fill, OrderUpdate}
    ids = [fill.trade_id for fill in account.exchange.fills]
    assert len(set(ids)) == len(ids) == 80


# --- margin and liquidation -------------------------------------------------------------------------------------------


def test_opening_beyond_the_margin_is_refused_and_closing_never() -> None:
    account = Account(start_e10=60_000 * E10)  # 10,000 lots at leverage 1
    assert account.place(BUY, MID - 5, 6_000).status is OrderStatus.LIVE
    assert account.place(BUY, MID - 5, 4_001).reason == "margin"
    assert account.place(SELL, MID + 5, 9_000).status is OrderStatus.LIVE, "the worse side counts, not the sum"
    assert account.place(BUY, MID - 5, 4_000).status is OrderStatus.LIVE
    account.exchange.cancel_all(account.at)
    account.hold(9_900)
    assert account.place(SELL, MID + 5, 9_900).status is OrderStatus.LIVE
    assert account.place(SELL, MID + 5, 9_900).status is OrderStatus.LIVE, "short by as much again"
    assert account.place(SELL, MID + 5, 9_900).reason == "margin"


def test_an_amend_up_needs_margin_too() -> None:
    account = Account(start_e10=60_000 * E10)
    account.place(BUY, MID - 5, 9_000, client_id="x")
    refused = account.exchange.request(account.at, Amend("x", 1, MID - 5, 10_001))
    assert isinstance(refused, RequestFailed)
    assert refused.reason == "margin"
    assert isinstance(account.exchange.request(account.at, Amend("x", 2, MID - 5, 10_000)), OrderUpdate)


def test_what_adds_no_exposure_passes_though_margin_is_short() -> None:
    account = Account(start_e10=60_000 * E10, leverage=5)
    account.exchange.on_book(account.at, ((MID - 1, 50_000),), ((MID + 1, 50_000),))
    account.hold(49_000)  # 294,000 quote
    account.market(MID - 6_000)  # 1 % down: equity 56,900, needed 58,200
    assert account.exchange.snapshot(account.at).available_margin_e10 == 0
    assert account.place(BUY, MID - 6_010, 10).reason == "margin"
    assert account.place(SELL, MID - 5_990, 49_000).status is OrderStatus.LIVE


def test_leverage_stretches_margin_and_available_margin_says_what_is_left() -> None:
    account = Account(start_e10=60_000 * E10, leverage=5)
    assert account.place(BUY, MID - 5, 49_999).status is OrderStatus.LIVE
    assert account.place(BUY, MID - 5, 3).reason == "margin"
    account.exchange.cancel_all(account.at)
    account.hold(10_000)
    snapshot = account.exchange.snapshot(account.at)
    assert snapshot.mark_px_ticks == MID
    assert snapshot.position_lots == 10_000
    assert snapshot.wallet_e10 == 60_000 * E10 - 6 * 10_000 * (MID + 1) * INSTRUMENT.unit_e10 // 10_000
    assert snapshot.unrealised_e10 == -10_000 * INSTRUMENT.unit_e10
    assert snapshot.available_margin_e10 == snapshot.equity_e10 - 12_000 * E10


@pytest.mark.parametrize("side", list(Side))
def test_liquidation_cancels_closes_at_mark_and_leaves_nothing(side: Side) -> None:
    account = Account(start_e10=60_000 * E10, leverage=5, taker_rate=Decimal(0))
    account.hold(side * 10_000)
    account.exchange.on_book(account.at, ((MID - 1, 50_000),), ((MID + 1, 50_000),))
    account.place(side, MID + side, 20_000, ioc=True)
    account.place(side.opposite, MID + side * 500_000, 10, client_id="resting")
    account.stream.clear()
    account.market(MID - side * 100_000)  # 10,000 a BTC on 3 BTC: half the equity
    assert account.of(Fill) == []
    account.market(MID - side * 200_000)
    assert account.of(OrderUpdate)[0].reason == "liquidation"
    (fill,) = account.of(Fill)
    assert (fill.exec_kind, fill.liquidity, fill.side) == (ExecKind.LIQUIDATION, Liquidity.TAKER, side.opposite)
    assert (fill.px_ticks, fill.qty_lots) == (MID - side * 200_000, 30_000)
    assert fill.fee_e10 == fill.px_ticks * fill.qty_lots * INSTRUMENT.unit_e10 * 6 // 10_000
    (bill,) = account.of(Bill)
    assert bill.kind is BillKind.FEE
    snapshot = account.exchange.snapshot(account.at)
    assert (snapshot.position_lots, snapshot.equity_e10, snapshot.available_margin_e10) == (0, 0, 0)
    assert account.exchange.open_orders() == []
    assert account.place(BUY, MID - 300_000, 10).reason == "margin"


# --- funding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lots", "rate", "sign"), [(100, 1e-4, -1), (100, -1e-4, 1), (-100, 1e-4, 1), (-100, -1e-4, -1)]
)
def test_funding_is_paid_by_longs_where_the_rate_is_positive(lots: int, rate: float, sign: int) -> None:
    account = Account()
    account.hold(lots)
    before_e10 = account.exchange.wallet.balance_e10
    account.exchange.on_funding(account.at, rate, account.at + 100, 28_800)
    account.market(660_000)
    account.exchange.run_due(account.at)
    (bill,) = account.of(Bill)
    assert (bill.kind, bill.venue_ts_ns) == (BillKind.FUNDING, 2 * NS - NS + 100)
    assert bill.amount_e10 == sign * 66_000 * E10 // 100 // 10_000
    assert account.exchange.wallet.balance_e10 - before_e10 == bill.amount_e10


def test_a_settlement_happens_once_whatever_the_source_repeats() -> None:
    account = Account()
    account.hold(100)
    settles = account.at + 100
    account.exchange.on_funding(account.at, 1e-4, settles, 28_800)
    account.exchange.run_due(settles - 1)
    assert account.of(Bill) == []
    account.exchange.run_due(settles)
    account.exchange.on_funding(settles, 2e-4, settles, 28_800)  # as if it were still to come
    account.exchange.run_due(settles + NS)
    assert len(account.of(Bill)) == 1
    assert account.exchange.funding(settles).next_ts_ns == settles + 28_800 * NS
    account.exchange.run_due(settles + 2 * 28_800 * NS)
    ids = [bill.bill_id for bill in account.of(Bill)]
    assert len(set(ids)) == 3


def test_flat_accounts_get_no_funding_bill() -> None:
    account = Account()
    account.exchange.on_funding(account.at, 1e-4, account.at + 100, 28_800)
    account.exchange.run_due(account.at + 100)
    assert account.of(Bill) == []


def test_a_funding_rate_that_is_no_number_is_the_sources_fault() -> None:
    with pytest.raises(ValueError, match="source is at fault"):
        Account().exchange.on_funding(0, float("nan"), 1, 28_800)


# --- stop, dead man, and what others do in our account ----------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_a_position_stop_closes_the_position_by_mark(side: Side) -> None:
    account = Account()
    account.hold(side * 100)
    account.exchange.protect(PositionStop(MID - side * 50))
    account.market(MID - side * 49)
    assert account.of(Fill) == []
    account.market(MID - side * 50)
    (fill,) = account.of(Fill)
    assert (fill.side, fill.qty_lots, fill.client_id[:6]) == (side.opposite, 100, "venue:")
    assert account.exchange.wallet.position_lots == 0
    assert account.exchange.stop_keeper.stop is None


def test_a_stop_ends_with_the_position_it_was_for() -> None:
    account = Account()
    account.hold(100)
    account.exchange.protect(PositionStop(MID - 50))
    account.place(SELL, MID - 1, 300, ioc=True)
    account.stream.clear()
    account.market(MID - 60)
    assert account.of(Fill) == []
    assert account.exchange.stop_keeper.stop is None


def test_a_stop_for_no_position_waits_for_one() -> None:
    account = Account()
    account.exchange.protect(PositionStop(MID + 50))
    account.market(MID + 60)
    account.market(MID)
    account.hold(-100)
    account.market(MID + 50)
    assert account.exchange.wallet.position_lots == 0


def test_the_dead_man_cancels_unless_told_again() -> None:
    account = Account()
    account.place(BUY, MID - 5, 10)
    account.exchange.dead_man(0, 5)
    account.exchange.run_due(4 * NS)
    account.exchange.dead_man(4 * NS, 5)
    account.exchange.run_due(9 * NS - 1)
    assert len(account.exchange.open_orders()) == 1
    account.exchange.run_due(9 * NS)
    (update,) = account.of(OrderUpdate)
    assert (update.status, update.reason, update.venue_ts_ns) == (OrderStatus.CANCELLED, "dead_man", 9 * NS)
    account.exchange.dead_man(9 * NS, 0)
    account.place(BUY, MID - 5, 10)
    account.exchange.run_due(999 * NS)
    assert len(account.exchange.open_orders()) == 1


def test_others_trade_in_our_account() -> None:
    account = Account()
    foreign = account.exchange.foreign_order(account.at, BUY, MID - 5, 10)
    assert foreign.startswith("venue:")
    assert [order.client_id for order in account.exchange.open_orders()] == [foreign]
    account.exchange.manual_trade(account.at, SELL, 20)
    (fill,) = account.of(Fill)
    assert (fill.client_id[:6], fill.side, fill.qty_lots) == ("venue:", SELL, 20)
    account.exchange.transfer(account.at, -5 * E10)
    (bill,) = account.of(Bill)
    assert (bill.kind, bill.amount_e10) == (BillKind.TRANSFER, -5 * E10)
    assert account.exchange.wallet.position_lots == -20


def test_the_record_is_bounded_and_live_orders_are_never_forgotten() -> None:
    account = Account(keep=10)
    client_id = account.place(BUY, MID - 50, 10, client_id="old").client_id
    for _ in range(100):
        client_id = account.place(BUY, MID - 5, 10).client_id
        account.exchange.request(account.at, Cancel(client_id, risk=False))
    assert len(account.exchange.received) <= 20
    assert len(account.exchange.orders) <= 21
    assert isinstance(account.exchange.order("old"), OrderReport)
    assert isinstance(account.exchange.order(client_id), OrderReport)


# --- marks and candles ------------------------------------------------------------------------------------------------


def test_before_the_first_mark_a_snapshot_is_unavailable_and_not_zero() -> None:
    exchange = Exchange(INSTRUMENT, SimulatedConfig(), 7, lambda _: None)
    for read in (exchange.snapshot, exchange.mark, exchange.funding):
        with pytest.raises(VenueUnavailable, match="yet"):
            read(0)


@pytest.mark.parametrize(("bid", "ask", "mid"), [(100, 101, 100), (101, 102, 102), (100, 102, 101)])
def test_the_mid_is_rounded_half_even(bid: int, ask: int, mid: int) -> None:
    exchange = Exchange(INSTRUMENT, SimulatedConfig(), 7, lambda _: None)
    exchange.on_book(0, ((bid, 1),), ((ask, 1),))
    assert exchange.mid_ticks == mid


def test_candles_are_whole_closed_minutes_of_trades_or_of_the_last_mid() -> None:
    exchange = Exchange(INSTRUMENT, SimulatedConfig(), 7, lambda _: None)
    minute = 60 * NS
    exchange.on_book(30 * NS, ((99, 1),), ((101, 1),))
    exchange.on_trade(50 * NS, 101, 5, BUY)  # in a minute that was not seen whole
    for at, px, qty in ((60, 101, 1), (70, 105, 2), (80, 95, 3), (119, 99, 4)):
        exchange.on_trade(at * NS, px, qty, BUY)
    assert exchange.bars(119 * NS, 10) == []
    exchange.on_book(130 * NS, ((109, 1),), ((111, 1),))
    first, second, third = exchange.bars(4 * minute, 10)
    assert (first.open_ts_ns, first.open_ticks, first.high_ticks, first.low_ticks, first.close_ticks) == (
        minute,
        101,
        105,
        95,
        99,
    )
    assert (first.qty_lots, first.source) == (10, "venue")
    assert (second.open_ts_ns, second.open_ticks, second.close_ticks, second.qty_lots) == (2 * minute, 110, 110, 0)
    assert third.open_ts_ns == 3 * minute
    assert exchange.bars(4 * minute, 2) == [second, third]


# --- the whole account ------------------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.just("market"), st.integers(-40, 40)),
        st.tuples(st.just("trade"), st.integers(-50, 50), st.integers(1, 15_000), st.sampled_from(list(Side))),
        st.tuples(st.just("place"), st.sampled_from(list(Side)), st.integers(-40, 40), st.integers(2, 5_000)),
        st.tuples(st.just("manual"), st.sampled_from(list(Side)), st.integers(1, 5_000)),
        st.tuples(st.just("funding"), st.floats(-0.01, 0.01)),
        st.tuples(st.just("transfer"), st.integers(-E10, E10)),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(steps, st.integers(1, 20))
def test_the_streams_facts_foot_to_the_wallet(steps: list[tuple], leverage: int) -> None:
    """Position is the sum of signed fills, and equity foots from fills and bills alone, to the last digit."""
    start_e10 = 5_000 * E10
    account = Account(start_e10=start_e10, leverage=leverage)
    exchange = account.exchange
    for step in steps:
        match step:
            case ("market", move):
                account.market(exchange.mid_ticks + move * 100)
            case ("trade", offset, qty, side):
                exchange.on_trade(account.at, exchange.mid_ticks + offset, qty, side)
            case ("place", side, offset, qty):
                account.place(side, exchange.mid_ticks + offset, qty)
            case ("manual", side, qty):
                exchange.manual_trade(account.at, side, qty)
            case ("funding", rate):
                account.at += NS
                exchange.on_funding(account.at, rate, account.at + 1, 28_800)
                account.at += 1
                exchange.run_due(account.at)
            case ("transfer", amount):
                exchange.transfer(account.at, amount)
            case _:
                raise AssertionError(step)
    cash = start_e10
    position = 0
    for fill in account.of(Fill):
        cash -= fill.side * fill.px_ticks * fill.qty_lots * INSTRUMENT.unit_e10 + fill.fee_e10
        position += fill.side * fill.qty_lots
    cash += sum(bill.amount_e10 for bill in account.of(Bill))
    snapshot = exchange.snapshot(account.at)
    assert snapshot.position_lots == position == exchange.matching.position_lots
    assert snapshot.equity_e10 == cash + position * snapshot.mark_px_ticks * INSTRUMENT.unit_e10
    assert account.of(Fill) == exchange.fills
    for order in exchange.orders.values():
        filled = sum(fill.qty_lots for fill in exchange.fills if fill.client_id == order.client_id)
        assert order.filled_lots == filled
