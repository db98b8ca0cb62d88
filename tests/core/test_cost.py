"""Carry with its signs, the turnover penalty, and the required edge as a sum of addends."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import cost
from mmdaemon.core.types import E10, NS, Side
from tests.core.build import DEFAULT, EQUITY_E10, WALL_NS, Desk, inputs, modest, params, running

P = DEFAULT.cost
HOURS_8 = 8 * 3600 * NS
TAU_S = 1_200 / math.log(2)


def carry(rate: float, due_s: float) -> float:
    return cost.carry_bps(rate, round(due_s * NS), HOURS_8, P)


# --- carry ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("rate", [0.0001, -0.0001])
@pytest.mark.parametrize(("due_s", "bps"), [(300.0, 0.8409), (25_200.0, 0.0)])
def test_carry_by_hand(side: Side, rate: float, due_s: float, bps: float) -> None:
    """One bp due in five minutes of an inventory that halves in twenty: 84 % of it. In seven hours: nothing. Longs pay
    a positive rate, shorts a negative one, and who is paid gets no discount."""
    expected = bps * (1 if rate > 0 else -1)
    assert carry(rate, due_s) == pytest.approx(expected, abs=1e-4)
    edge = cost.required_edge(side, inputs(carry_bps=carry(rate, due_s)), P)
    pays = side * rate > 0
    assert edge.carry_bps == pytest.approx(bps if pays else 0.0, abs=1e-4)


def test_carry_ramps_up_to_the_settlement_by_the_chance_of_still_holding() -> None:
    assert carry(0.0001, 0) == pytest.approx(1.0, abs=1e-6)
    assert carry(0.0001, 1_200) == pytest.approx(0.5, abs=1e-6)
    assert carry(0.0001, 2_400) == pytest.approx(0.25, abs=1e-6)


def test_later_settlements_count_at_half_the_rate_each() -> None:
    hour = 3600.0
    held = [math.exp(-(600 + k * hour) / TAU_S) for k in range(3)]
    expected = held[0] + 0.5 * held[1] + 0.25 * held[2]
    assert cost.carry_bps(0.0001, 600 * NS, 3600 * NS, P) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("rate", "bps"), [(0.01, 3.0), (-0.01, -3.0)])
def test_carry_is_capped_both_ways(rate: float, bps: float) -> None:
    assert carry(rate, 60) == bps


@given(st.floats(-0.02, 0.02), st.integers(0, 30_000), st.integers(0, 30_000))
@modest(100)
def test_carry_has_the_sign_of_the_rate_and_grows_towards_the_settlement(rate: float, a_s: int, b_s: int) -> None:
    near, far = carry(rate, min(a_s, b_s)), carry(rate, max(a_s, b_s))
    assert near * rate >= 0
    assert abs(far) <= abs(near) <= P.carry_cap_bps
    assert carry(-rate, a_s) == -carry(rate, a_s)


def test_carry_is_frozen_in_the_last_seconds_and_past_the_settlement() -> None:
    ts_ns = WALL_NS
    assert cost.due_ns(ts_ns + 6 * NS, ts_ns, P) == 6 * NS
    for left_ns in (5 * NS, 4 * NS, 0, -1, -3600 * NS):
        assert cost.due_ns(ts_ns + left_ns, ts_ns, P) == 5 * NS


def test_a_frozen_carry_makes_no_decision_while_the_settlement_passes() -> None:
    desk = running()
    desk.feed(desk.funding(0.0001, due_s=6.0))
    held = desk.state.sampled.carry_bps
    assert held == pytest.approx(1.0, abs=0.011)
    decided = desk.state.decision_seq
    desk.seconds(12)
    assert desk.state.sampled.carry_bps == held
    assert desk.state.decision_seq == decided


def test_the_book_is_quoted_lower_where_longs_will_pay() -> None:
    """End to end: a rate comes in, and both sides move down (the calm row of `desk`, whose floor decides nothing)."""
    desk = running(params("desk"))
    assert desk.state.decision is not None
    before = [quote.px_ticks for quote in desk.state.decision.quotes]
    desk.feed(desk.funding(0.0002, due_s=300.0))
    after = [quote.px_ticks for quote in desk.state.decision.quotes]
    assert len(before) == len(after)
    assert all(b < a for b, a in zip(after, before, strict=True))


# --- turnover ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("equities", "bps"), [(0.0, 0.0), (2.0, 0.0), (2.25, 1.25), (2.5, 2.5), (3.0, 5.0), (30.0, 5.0)]
)
def test_turnover_penalty_is_linear_from_soft_to_cap_and_never_more(equities: float, bps: float) -> None:
    assert cost.turnover_bps(round(equities * EQUITY_E10), EQUITY_E10, P) == pytest.approx(bps)


def test_without_equity_any_turnover_is_too_much() -> None:
    assert cost.turnover_bps(0, 0, P) == P.turnover_penalty_bps
    assert cost.turnover_bps(E10, -E10, P) == P.turnover_penalty_bps


def test_soft_at_the_cap_is_a_step() -> None:
    step = params(cost={"turnover_soft_multiple": 3.0}).cost
    assert cost.turnover_bps(3 * EQUITY_E10 - 1, EQUITY_E10, step) == 0.0
    assert cost.turnover_bps(3 * EQUITY_E10, EQUITY_E10, step) == 5.0


# --- required edge ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "adverse", "carry_addend"), [(Side.BUY, 1.5, 0.8), (Side.SELL, 0.25, 0.0)])
def test_required_edge_is_the_sum_of_its_addends(side: Side, adverse: float, carry_addend: float) -> None:
    now = inputs(
        maker_bps=2.0, taker_bps=6.0, adverse_buy_bps=1.5, adverse_sell_bps=0.25, carry_bps=0.8, turnover_bps=0.5
    )
    edge = cost.required_edge(side, now, P)
    assert edge.maker_fee_bps == 2.0
    assert edge.exit_bps == pytest.approx(0.05 * (6.0 - 2.0 + 5.0))
    assert edge.adverse_bps == adverse
    assert edge.carry_bps == carry_addend
    assert edge.turnover_bps == 0.5
    assert edge.min_edge_bps == 1.0
    assert edge.total_bps == pytest.approx(2.0 + 0.45 + adverse + carry_addend + 0.5 + 1.0)


def test_a_rebate_lowers_the_edge_and_raises_the_exit() -> None:
    edge = cost.required_edge(Side.BUY, inputs(maker_bps=-1.0, taker_bps=6.0), P)
    assert edge.total_bps == pytest.approx(-1.0 + 0.05 * 12.0 + 1.0)


def test_fees_are_the_accounts_own() -> None:
    desk = Desk().start()
    desk.feed(desk.fees(0.0004, 0.0009))
    assert desk.state.inputs is not None
    assert (desk.state.inputs.maker_bps, desk.state.inputs.taker_bps) == pytest.approx((4.0, 9.0))
