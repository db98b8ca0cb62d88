"""Funding: the forecast that moves quotes, with its signs, base and time; and the payment that PnL books.

A positive rate means longs pay shorts: payment = -position * mark * rate at the settlement.
"""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import cost, position
from mmdaemon.core.decision import Decision
from mmdaemon.core.events import Bill, BillKind
from mmdaemon.core.params import CostParams
from mmdaemon.core.quotes import decide
from mmdaemon.core.types import BPS, E10, NS, Liquidity, Regime, Side
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.exchange import Exchange
from tests.core.build import BTC, MID, WALL_NS, inputs, modest, params, running

BUY, SELL = Side.BUY, Side.SELL
COST = {
    "min_edge_bps": 1.0,
    "slippage_bps": 5.0,
    "taker_probability": 0.05,
    "carry_cap_bps": 3.0,
    "inventory_half_life_s": 1_200.0,
    "carry_freeze_s": 5.0,
}
"""The costs that the figures below were computed for by hand, whatever a preset says."""
PARAMS = params(cost=COST, quotes={"band_gain": 0.5})
P = PARAMS.cost
HOUR_NS = 3600 * NS
HOURS_8 = 8 * HOUR_NS
TAU_S = 1_200 / math.log(2)
WIDE: dict[str, Any] = {"regime": Regime.HIGH_VOL_SHOCK, "maker_bps": 0.0}
"""Half-spread of 10 bps and more: the reservation price decides, no floor."""
NEAR: dict[str, Any] = {"band_bps": 0.0}
"""Half-spread of 2.5 bps under a required edge of 3.45: the floor decides."""


def carry(rate: float, due_s: float, interval_s: float = 28_800.0, p: CostParams = P) -> float:
    return cost.carry_bps(rate, round(due_s * NS), round(interval_s * NS), p)


def best(decision: Decision, side: Side) -> int:
    return next(quote.px_ticks for quote in decision.quotes if quote.side is side)


# --- the table --------------------------------------------------------------------------------------------------------


class Case(msgspec.Struct, frozen=True):
    """One signed case, computed by hand. Rate: 1 bps of notional, for the settlement that is due."""

    held: Side
    """The position: 0.01 BTC long or short."""
    rate: float
    due_s: float
    carry_bps: float
    """Cost of one more unit long: the rate, times the half of it that is left after each 20 minutes."""
    shift_ticks: float
    """What that does to the reservation price at 65,000.0, where one bp is 65 ticks."""
    buy_addend_bps: float
    """Of the floor of a bid that would open or add to a long."""
    sell_addend_bps: float
    ledger: str
    """What the venue books at the settlement for what is held, in quote: 0.01 * 66,000 * 1 bps = 0.066."""


MIN_5, HOURS_7 = 300.0, 25_200.0
# 5 min are a quarter of a half-life: 2^-0.25 = 0.840896 is held still. 7 h are 21 of them: 2^-21 = 4.8e-7.
CASES = (
    Case(BUY, +0.0001, MIN_5, +0.840896, -54.6583, 0.840896, 0.0, "-0.066"),
    Case(BUY, -0.0001, MIN_5, -0.840896, +54.6583, 0.0, 0.840896, "+0.066"),
    Case(SELL, +0.0001, MIN_5, +0.840896, -54.6583, 0.840896, 0.0, "+0.066"),
    Case(SELL, -0.0001, MIN_5, -0.840896, +54.6583, 0.0, 0.840896, "-0.066"),
    Case(BUY, +0.0001, HOURS_7, +4.76837e-7, -3.09944e-5, 4.76837e-7, 0.0, "-0.066"),
    Case(BUY, -0.0001, HOURS_7, -4.76837e-7, +3.09944e-5, 0.0, 4.76837e-7, "+0.066"),
    Case(SELL, +0.0001, HOURS_7, +4.76837e-7, -3.09944e-5, 4.76837e-7, 0.0, "+0.066"),
    Case(SELL, -0.0001, HOURS_7, -4.76837e-7, +3.09944e-5, 0.0, 4.76837e-7, "-0.066"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_forecast_of_each_case(case: Case) -> None:
    """`carry_bps`, the addend of each side's required edge, and what `decide` makes of them."""
    bps = carry(case.rate, case.due_s)
    assert bps == pytest.approx(case.carry_bps, rel=1e-5)
    for side, addend in ((BUY, case.buy_addend_bps), (SELL, case.sell_addend_bps)):
        plain = cost.required_edge(side, inputs(), P)
        edge = cost.required_edge(side, inputs(carry_bps=bps), P)
        assert edge.carry_bps == pytest.approx(addend, rel=1e-5)
        assert edge.total_bps - plain.total_bps == pytest.approx(addend, rel=1e-5)

    held_lots = case.held * 100
    with_it = decide(inputs(carry_bps=bps, position_lots=held_lots, **WIDE), PARAMS)
    without = decide(inputs(position_lots=held_lots, **WIDE), PARAMS)
    shift_ticks = with_it.reservation_ticks - without.reservation_ticks
    assert shift_ticks == pytest.approx(case.shift_ticks, rel=1e-5, abs=1e-8)
    assert [quote.addends.carry for quote in with_it.quotes] == pytest.approx([case.shift_ticks] * len(with_it.quotes))
    assert with_it.buy_edge.carry_bps == pytest.approx(case.buy_addend_bps, rel=1e-5)
    assert with_it.sell_edge.carry_bps == pytest.approx(case.sell_addend_bps, rel=1e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_where_the_floor_decides_only_the_side_that_would_pay_moves_and_by_the_addend(case: Case) -> None:
    """Flat: both sides increase. The floor of the one that would pay is further from fair value by its addend; the
    other keeps its own, since who would be paid gets no discount."""
    bps = carry(case.rate, case.due_s)
    decision = decide(inputs(carry_bps=bps, **NEAR), PARAMS)
    edge_bps = 2.0 + 0.05 * (6.0 - 2.0 + 5.0) + 1.0  # maker fee, exit, least edge
    assert best(decision, BUY) == math.floor(MID * (1 - (edge_bps + case.buy_addend_bps) * BPS))
    assert best(decision, SELL) == math.ceil(MID * (1 + (edge_bps + case.sell_addend_bps) * BPS))


@pytest.mark.parametrize("leverage", [1, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_ledger_of_each_case(case: Case, leverage: int) -> None:
    """The simulated venue books -position * mark * rate, however far off the settlement was when the rate was told, at
    whatever leverage and whatever the entry cost. Our books take it from there."""
    told: list[Any] = []
    exchange = Exchange(BTC, SimulatedConfig(leverage=leverage), 7, told.append)
    exchange.on_book(0, ((MID - 1, 10_000),), ((MID + 1, 10_000),))
    exchange.on_mark(0, MID)
    exchange.manual_trade(0, case.held, 100)  # in at 65,000.1 or 64,999.9
    exchange.on_funding(0, case.rate, round(case.due_s * NS), 28_800)
    exchange.on_mark(round(case.due_s * NS), 660_000)
    exchange.run_due(round(case.due_s * NS) - 1)
    assert not [event for event in told if isinstance(event, Bill)]
    exchange.run_due(round(case.due_s * NS))
    (bill,) = [event for event in told if isinstance(event, Bill)]
    assert bill.kind is BillKind.FUNDING
    assert bill.amount_e10 == round(float(case.ledger) * 1_000) * E10 // 1_000
    books = position.begin(BTC, 0)
    position.on_bill(books, bill)
    assert books.funding_e10 == bill.amount_e10


def test_the_forecast_at_the_settlement_is_what_one_more_unit_will_pay() -> None:
    """The two formulas meet: carry due now, on the value at mark, is the bill with its sign turned."""
    wallet = Exchange(BTC, SimulatedConfig(), 7, lambda _: None).wallet
    wallet.fill(BUY, MID, 100, Liquidity.MAKER)
    paid_e10 = -wallet.settle_funding(MID, 0.0001)
    assert paid_e10 == pytest.approx(BTC.notional_e10(MID, 100) * carry(0.0001, 0) * BPS)


# --- the forecast -----------------------------------------------------------------------------------------------------

RATES = st.floats(-0.02, 0.02)
SECONDS = st.integers(0, 300_000)
INTERVALS = st.sampled_from([3_600, 14_400, 28_800])
HALF_LIVES = st.sampled_from([60.0, 1_200.0, 86_400.0])


@given(RATES, SECONDS, INTERVALS, HALF_LIVES)
@modest(150)
def test_carry_is_odd_in_the_rate_and_capped(rate: float, due_s: int, interval_s: int, half_life_s: float) -> None:
    p = params(cost={**COST, "inventory_half_life_s": half_life_s}).cost
    here = carry(rate, due_s, interval_s, p)
    assert here == -carry(-rate, due_s, interval_s, p)
    assert abs(here) <= p.carry_cap_bps
    assert here * rate >= 0


@given(RATES, RATES, SECONDS, INTERVALS, HALF_LIVES)
@modest(150)
def test_carry_grows_with_the_rate_up_to_the_cap(
    a: float, b: float, due_s: int, interval_s: int, half_life_s: float
) -> None:
    p = params(cost={**COST, "inventory_half_life_s": half_life_s}).cost
    less, more = sorted((a, b))
    low, high = carry(less, due_s, interval_s, p), carry(more, due_s, interval_s, p)
    assert low <= high
    if abs(high) < p.carry_cap_bps and abs(low) < p.carry_cap_bps:  # below it: in proportion
        assert high - low == pytest.approx((more - less) * carry(1e-6, due_s, interval_s, p) / 1e-6, abs=1e-9)


@given(RATES, SECONDS, SECONDS)
@modest(100)
def test_carry_grows_towards_the_settlement(rate: float, a_s: int, b_s: int) -> None:
    near, far = carry(rate, min(a_s, b_s)), carry(rate, max(a_s, b_s))
    assert abs(far) <= abs(near)


def test_carry_ramps_up_to_the_settlement_by_the_chance_of_still_holding() -> None:
    assert [carry(0.0001, 1_200 * n) for n in (0, 1, 2, 3)] == pytest.approx([1.0, 0.5, 0.25, 0.125], abs=1e-6)
    assert carry(0.02, 1_200 * 60) == pytest.approx(0.0, abs=1e-12)
    assert carry(0.02, 10 * 365 * 86_400) == 0.0


@pytest.mark.parametrize(
    ("half_life_s", "bps"),
    # 1 bps due in ten minutes, hourly: rate * 2^-(600 / h), over one less half of 2^-(3600 / h).
    [(60.0, 2**-10), (1_200.0, 2**-0.5 / (1 - 2**-4)), (86_400.0, 2 ** (-600 / 86_400) / (1 - 2 ** (-1 - 1 / 24)))],
)
def test_later_settlements_count_at_half_the_rate_each(half_life_s: float, bps: float) -> None:
    p = params(cost={**COST, "inventory_half_life_s": half_life_s}).cost
    terms = [0.5**k * 2 ** -((600 + 3_600 * k) / half_life_s) for k in range(60)]
    assert sum(terms) == pytest.approx(bps, rel=1e-9)
    assert carry(0.0001, 600, 3_600, p) == pytest.approx(bps, rel=1e-9)


@pytest.mark.parametrize(("rate", "bps"), [(0.01, 3.0), (-0.01, -3.0), (0.000299, 2.99), (0.000301, 3.0)])
def test_carry_is_capped_both_ways(rate: float, bps: float) -> None:
    assert carry(rate, 0) == pytest.approx(bps, abs=1e-5)


# --- around the settlement --------------------------------------------------------------------------------------------


def carry_at(left_s: float, last_bps: float | None, rate: float = 0.0001, next_s: float = 0.0) -> float:
    """Carry `left_s` before a settlement, from a rate of the settlement `next_s` after it."""
    next_ts_ns = WALL_NS + round((left_s + next_s) * NS)
    return cost.carry_at_bps(rate, next_ts_ns, HOURS_8, WALL_NS, P, last_bps)


@pytest.mark.parametrize("left_s", [4.999, 3.0, 0.0, -1.0, -4.999])
@pytest.mark.parametrize(("rate", "next_s"), [(0.0001, 0.0), (-0.0003, 0.0), (0.0001, 28_800.0), (0.01, 28_800.0)])
def test_within_five_seconds_of_a_settlement_the_last_value_is_kept(left_s: float, rate: float, next_s: float) -> None:
    """Whatever is told meanwhile: another rate of it, or the next one's already."""
    assert carry_at(left_s, 0.84, rate, next_s) == 0.84


@pytest.mark.parametrize("left_s", [4.0, 0.0, -4.0])
def test_without_a_last_value_there_is_nothing_to_keep(left_s: float) -> None:
    after = left_s < 0
    assert carry_at(left_s, None) == pytest.approx(0.0 if after else 2 ** (-left_s / 1_200), abs=1e-6)


def test_five_seconds_before_and_after_it_is_computed() -> None:
    assert carry_at(5.0, 0.84) == pytest.approx(2 ** (-5 / 1_200))
    assert carry_at(-5.0, 0.84) == pytest.approx(0.0, abs=1e-6)
    assert carry_at(-5.0, 0.84, 0.0003, 28_800.0) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("hours", [8, 16, 24, 72])
def test_the_settlement_of_a_schedule_that_begins_later_is_far(hours: int) -> None:
    """A rate of a settlement in exactly three intervals is not one that is being settled now."""
    settling = hours == 8  # then the one before it is now
    assert (carry_at(0.0, 0.84, next_s=hours * 3600.0) == 0.84) is settling


@pytest.mark.parametrize(("passed", "half"), [(1, 0.5), (2, 0.25), (3, 0.125)])
def test_a_rate_older_than_its_settlement_speaks_of_the_coming_one(passed: int, half: float) -> None:
    """One minute before the second settlement of a rate that was told for the first, half of it is expected."""
    over_s = passed * 28_800.0 - 60.0
    assert carry_at(-over_s, 0.84) == pytest.approx(half * 2 ** (-60 / 1_200), rel=1e-5)


def test_no_quote_moves_while_a_settlement_passes_and_then_what_was_paid_is_no_cost_any_more() -> None:
    """Second by second over a settlement, the next rate coming one second after it."""
    desk = running(params("desk", cost=COST))
    desk.feed(desk.funding(0.0002, due_s=10.0))
    seen: list[float] = []
    bids: list[int] = []
    for second in range(1, 21):
        desk.seconds(1)
        if second == 11:
            desk.feed(desk.funding(-0.0001, due_s=28_799.0))
        seen.append(desk.state.sampled.carry_bps)
        assert desk.state.decision is not None
        bids.append(best(desk.state.decision, BUY))
    at_last = 2.0 * 2 ** (-5 / 1_200)  # five seconds before: the last that is computed
    assert seen[4:14] == [pytest.approx(at_last, abs=0.006)] * 10
    assert len(set(seen[4:14])) == len(set(bids[4:14])) == 1
    assert seen[14:] == [0.0] * 6
    assert bids[14] > bids[13]


def test_without_the_next_rate_the_paid_one_is_let_go_of_all_the_same() -> None:
    desk = running(PARAMS)
    desk.feed(desk.funding(0.0001, due_s=6.0))
    held = desk.state.sampled.carry_bps
    decided = desk.state.decision_seq
    assert held == pytest.approx(1.0, abs=0.011)
    desk.seconds(10)
    assert (desk.state.sampled.carry_bps, desk.state.decision_seq) == (held, decided)
    desk.seconds(1)
    assert desk.state.sampled.carry_bps == 0.0
    assert "funding_unknown" not in desk.reasons


def test_a_rate_first_told_while_it_is_settled_is_not_taken_for_zero() -> None:
    desk = running(PARAMS)
    desk.feed(desk.funding(float("nan")))
    desk.feed(desk.funding(0.0001, due_s=2.0))
    assert desk.state.sampled.carry_bps == pytest.approx(1.0, abs=0.011)


def test_the_book_is_quoted_lower_where_longs_will_pay() -> None:
    """End to end: a rate comes in, and both sides move down (the calm row of `desk`, whose floor decides nothing)."""
    desk = running(params("desk", cost=COST))
    assert desk.state.decision is not None
    before = [quote.px_ticks for quote in desk.state.decision.quotes]
    desk.feed(desk.funding(0.0002, due_s=300.0))
    after = [quote.px_ticks for quote in desk.state.decision.quotes]
    assert len(before) == len(after)
    assert all(b < a for b, a in zip(after, before, strict=True))


# --- never counted twice ----------------------------------------------------------------------------------------------

CARRIES = st.floats(0.0, 3.0)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("c", [0.5, 1.0, 2.0, 3.0])
def test_where_the_reservation_price_decides_who_would_pay_moves_by_the_carry_and_no_more(side: Side, c: float) -> None:
    """A would-be long under a positive rate, a would-be short under a negative one; all else equal."""
    plain = best(decide(inputs(**WIDE), PARAMS), side)
    moved = best(decide(inputs(carry_bps=side * c, **WIDE), PARAMS), side)
    assert side * (plain - moved) == pytest.approx(c * BPS * MID, abs=1.1)  # a tick of rounding


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("c", [0.5, 1.0, 2.0, 3.0])
def test_where_the_floor_decides_it_is_fair_value_less_the_edge_with_the_carry_in_it_once(side: Side, c: float) -> None:
    decision = decide(inputs(carry_bps=side * c, **NEAR), PARAMS)
    wanted = MID * (1 - side * (3.45 + c) * BPS)
    assert best(decision, side) == (math.floor(wanted) if side is BUY else math.ceil(wanted))


@given(CARRIES, st.sampled_from(list(Side)), st.floats(0.0, 20.0), st.sampled_from(list(Regime)))
@modest(200)
def test_whichever_decides_nobody_is_charged_the_carry_twice(
    c: float, side: Side, band_bps: float, regime: Regime
) -> None:
    """Between the two as well: a quote that would pay is further out by at most c, and by at least 0; and the other
    side comes no nearer to fair value than its floor without it."""
    seen: dict[str, Any] = {"band_bps": band_bps, "regime": regime}
    plain, moved = decide(inputs(**seen), PARAMS), decide(inputs(carry_bps=side * c, **seen), PARAMS)
    further = side * (best(plain, side) - best(moved, side))
    assert (
        0 <= further <= c * BPS * MID * 1.01 + 1
    )  # the half-spread is one of the reservation price; a tick of rounding
    other = SELL if side is BUY else BUY
    floor_bps = cost.required_edge(other, inputs(), P).total_bps
    assert -other * (best(moved, other) - MID) >= floor_bps * BPS * MID - 1e-6


# --- PnL books the ledger ---------------------------------------------------------------------------------------------


def test_pnl_books_the_payment_by_its_bill_and_never_the_forecast() -> None:
    """Forecast for 100 lots long (650 quote) at 1 bps: 0.065 to pay. The venue books 0.05, once, however often it says
    so; that, and nothing else, is in the books."""
    desk = running(PARAMS).hold(100)
    books = desk.state.position
    before_e10 = position.equity_basis_e10(books, MID)
    desk.feed(desk.funding(0.0001, due_s=300.0))
    assert desk.state.sampled.carry_bps == pytest.approx(0.84, abs=0.01)
    desk.seconds(320)
    forecast_e10 = -BTC.notional_e10(MID, 100) // 10_000
    assert books.funding_e10 == 0
    assert position.equity_basis_e10(books, MID) == before_e10

    bill = desk.bill(BillKind.FUNDING, -5 * E10 // 100)
    assert bill.amount_e10 != forecast_e10
    desk.feed(bill)
    desk.feed(bill)
    assert (books.funding_e10, books.duplicate_bills) == (bill.amount_e10, 1)
    assert position.equity_basis_e10(books, MID) - before_e10 == bill.amount_e10
    assert position.equity_cash_e10(books, MID) == position.equity_basis_e10(books, MID)
    assert position.attribution(books, MID).funding_e10 == bill.amount_e10


def test_two_bills_of_one_amount_are_two_payments() -> None:
    desk = running(PARAMS).hold(100)
    for _ in range(2):
        desk.feed(desk.bill(BillKind.FUNDING, -E10))
    assert desk.state.position.funding_e10 == -2 * E10
