"""The required edge as a sum of addends: fees as charged, the exit as measured, turnover. Carry: `test_funding.py`."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import cost
from mmdaemon.core.cost import Charged, Taken
from mmdaemon.core.events import FeeSchedule, Fill
from mmdaemon.core.types import E10, NS, ExecKind, Liquidity, Side
from tests.core.build import BTC, EQUITY_E10, MID, Desk, inputs, modest, params, running

COST = {
    "min_edge_bps": 1.0,
    "slippage_bps": 5.0,
    "taker_probability": 0.05,
    "adverse_prior_fills": 50.0,
    "turnover_soft_multiple": 2.0,
    "turnover_cap_multiple": 3.0,
    "turnover_penalty_bps": 5.0,
}
"""The costs that the figures below were computed for by hand, whatever a preset says."""
PARAMS = params(cost=COST)
P = PARAMS.cost
HOUR_NS = 3600 * NS


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
    step = params(cost={**COST, "turnover_soft_multiple": 3.0}).cost
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
    desk = Desk(PARAMS).start()
    desk.feed(desk.fees(0.0004, 0.0009))
    assert desk.state.inputs is not None
    assert (desk.state.inputs.maker_bps, desk.state.inputs.taker_bps) == pytest.approx((4.0, 9.0))


# --- fees as charged --------------------------------------------------------------------------------------------------

SCHEDULE = FeeSchedule(0, 0, None, 0.0002, 0.0006, "test")


def a_fill(rate: float, qty_lots: int = 10, **changed: Any) -> Fill:
    """A maker's fill at `MID`, charged at that rate, rounded as the simulated venue does."""
    fee_e10 = round(BTC.notional_e10(MID, qty_lots) * rate)
    made = Fill(0, 0, None, "t", "o", Side.BUY, MID, qty_lots, fee_e10, Liquidity.MAKER, ExecKind.TRADE)
    return msgspec.structs.replace(made, **changed)


def charge(charged: Charged, fill: Fill, times: int = 1, fees: FeeSchedule | None = SCHEDULE) -> None:
    for _ in range(times):
        cost.on_charged(charged, fill, BTC.unit_e10, fees)


@pytest.mark.parametrize("rate", [0.0002, 0.0, -0.00005])
def test_fills_charged_as_the_schedule_says_change_nothing(rate: float) -> None:
    charged = Charged()
    fees = msgspec.structs.replace(SCHEDULE, maker_rate=rate)
    charge(charged, a_fill(rate, 7), 100, fees)
    assert (charged.otherwise, charged.rate) == (0, None)
    assert cost.maker_rate(fees, charged) == rate


def test_the_twentieth_maker_fill_tells_that_they_are_charged_otherwise() -> None:
    charged = Charged()
    charge(charged, a_fill(0.00022), 19)
    assert (charged.otherwise, cost.maker_rate(SCHEDULE, charged)) == (0, 0.0002)
    charge(charged, a_fill(0.00022))
    assert (charged.otherwise, cost.maker_rate(SCHEDULE, charged)) == (1, 0.00022)
    # The next twenty say so again, and then they do not.
    charge(charged, a_fill(0.00022), 20)
    assert (charged.otherwise, cost.maker_rate(SCHEDULE, charged)) == (2, 0.00022)
    charge(charged, a_fill(0.0002), 20)
    assert (charged.otherwise, cost.maker_rate(SCHEDULE, charged)) == (2, 0.0002)


def test_one_fill_of_twenty_charged_at_another_tier_is_seen() -> None:
    charged = Charged()
    charge(charged, a_fill(0.0002), 19)
    charge(charged, a_fill(0.00018))
    assert charged.otherwise == 1


def test_who_is_charged_less_than_told_counts_on_what_was_told() -> None:
    charged = Charged()
    charge(charged, a_fill(0.0001), 20)
    assert charged.otherwise == 1
    assert cost.maker_rate(SCHEDULE, charged) == 0.0002


def test_a_rebate_that_is_not_paid_is_charged_otherwise() -> None:
    charged = Charged()
    rebate = msgspec.structs.replace(SCHEDULE, maker_rate=-0.0001)
    charge(charged, a_fill(0.0), 20, rebate)
    assert (charged.otherwise, cost.maker_rate(rebate, charged)) == (1, 0.0)


@pytest.mark.parametrize(("off_e10", "seen"), [(10_000, 0), (-10_000, 0), (10_001, 1), (-10_001, 1)])
def test_a_step_of_rounding_is_no_other_fee(off_e10: int, seen: int) -> None:
    charged = Charged()
    plain = a_fill(0.0002)
    charge(charged, msgspec.structs.replace(plain, fee_e10=plain.fee_e10 + off_e10), 20)
    assert charged.otherwise == seen


def test_only_maker_fills_of_trades_under_a_known_schedule_are_compared() -> None:
    charged = Charged()
    charge(charged, a_fill(0.0006, liquidity=Liquidity.TAKER), 40)
    charge(charged, a_fill(0.0012, exec_kind=ExecKind.LIQUIDATION), 40)
    charge(charged, a_fill(0.0006), 40, None)
    assert charged == Charged()


def test_fills_of_the_schedule_before_are_not_held_against_the_new_one() -> None:
    charged = Charged()
    charge(charged, a_fill(0.0002), 19)
    dearer = msgspec.structs.replace(SCHEDULE, maker_rate=0.0003)
    cost.on_schedule(charged, SCHEDULE, dearer)
    charge(charged, a_fill(0.0003), 20, dearer)
    assert charged.otherwise == 0


def test_the_same_schedule_again_settles_nothing_and_another_one_does() -> None:
    charged = Charged()
    charge(charged, a_fill(0.00022), 25)
    cost.on_schedule(charged, SCHEDULE, SCHEDULE)
    assert (charged.rate, charged.fills) == (0.00022, 5)
    cost.on_schedule(charged, SCHEDULE, msgspec.structs.replace(SCHEDULE, maker_rate=0.00022))
    assert (charged.rate, charged.fills, charged.otherwise) == (None, 0, 1)


def test_the_core_quotes_on_what_it_is_charged_until_the_schedule_says_so_too() -> None:
    desk = running(PARAMS)
    for _ in range(20):
        desk.feed(desk.fill(Side.BUY, 1, fee_e10=round(BTC.notional_e10(MID, 1) * 0.00025)))
        desk.feed(desk.fill(Side.SELL, 1, fee_e10=round(BTC.notional_e10(MID, 1) * 0.00025)))
    assert desk.state.venue.charged.otherwise == 2
    assert desk.state.inputs is not None
    assert desk.state.inputs.maker_bps == pytest.approx(2.5)
    assert desk.state.decision is not None
    assert desk.state.decision.buy_edge.maker_fee_bps == pytest.approx(2.5)
    desk.feed(desk.fees(0.0002, 0.0006))
    assert desk.state.inputs.maker_bps == pytest.approx(2.5)
    desk.feed(desk.fees(0.00024, 0.0006))
    assert desk.state.inputs.maker_bps == pytest.approx(2.4)


# --- the exit as measured ---------------------------------------------------------------------------------------------


def trade(taken: Taken, liquidity: Liquidity, qty_lots: int = 10, at_ns: int = 0, times: int = 1) -> Taken:
    for _ in range(times):
        cost.on_traded(taken, a_fill(0.0, qty_lots, liquidity=liquidity, mono_ns=at_ns), BTC.unit_e10)
    return taken


def test_where_nothing_was_traded_the_prior_stands() -> None:
    assert cost.taker_share(Taken(), 0, P) == P.taker_probability == 0.05


def test_taker_share_by_hand() -> None:
    """150 fills, a fifth of their value taken, beside fifty of the prior: (150 * 0.2 + 50 * 0.05) / 200."""
    taken = trade(Taken(), Liquidity.MAKER, 8, times=75)
    trade(taken, Liquidity.MAKER, 8, times=73)
    trade(taken, Liquidity.TAKER, 148, times=2)
    assert taken.taker_e10 / taken.whole_e10 == pytest.approx(0.2)
    assert cost.taker_share(taken, 0, P) == pytest.approx(0.1625)


def test_taker_share_is_of_value_and_not_of_fills() -> None:
    often = trade(trade(Taken(), Liquidity.TAKER, 1, times=10), Liquidity.MAKER, 90, times=1)
    seldom = trade(trade(Taken(), Liquidity.TAKER, 90, times=1), Liquidity.MAKER, 1, times=10)
    assert cost.taker_share(often, 0, P) < cost.taker_share(seldom, 0, P)


def test_what_was_taken_is_forgotten_within_days_and_the_prior_is_back() -> None:
    taken = trade(Taken(), Liquidity.TAKER, times=50)
    shares = [cost.taker_share(taken, day * 24 * HOUR_NS, P) for day in range(12)]
    assert shares[0] == pytest.approx(0.525)
    assert shares[1] == pytest.approx((50 / math.e + 50 * 0.05) / (50 / math.e + 50))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == pytest.approx(0.05, abs=1e-4)


def test_a_later_fill_weighs_more_than_an_earlier_one() -> None:
    first = trade(trade(Taken(), Liquidity.TAKER), Liquidity.MAKER, at_ns=24 * HOUR_NS)
    last = trade(trade(Taken(), Liquidity.MAKER), Liquidity.TAKER, at_ns=24 * HOUR_NS)
    assert cost.taker_share(first, 24 * HOUR_NS, P) < cost.taker_share(last, 24 * HOUR_NS, P)


def test_a_liquidation_is_no_exit_of_ours() -> None:
    taken = Taken()
    cost.on_traded(taken, a_fill(0.0, liquidity=Liquidity.TAKER, exec_kind=ExecKind.LIQUIDATION), BTC.unit_e10)
    assert taken == Taken()


FILLS = st.tuples(st.sampled_from(Liquidity), st.integers(1, 1 << 40), st.integers(0, 30 * 24 * HOUR_NS))


@given(st.lists(FILLS, max_size=30), st.integers(0, 60 * 24 * HOUR_NS))
@modest(100)
def test_taker_share_is_a_share_whatever_the_times(fills: list[tuple[Liquidity, int, int]], now_ns: int) -> None:
    taken = Taken()
    for liquidity, qty_lots, at_ns in fills:
        trade(taken, liquidity, qty_lots, at_ns)
    assert 0.0 <= cost.taker_share(taken, now_ns, P) <= 1.0
    least, most = P.taker_probability * 50 / (50 + len(fills)), (len(fills) + 2.5) / (50 + len(fills))
    assert least - 1e-9 <= cost.taker_share(taken, now_ns, P) <= most + 1e-9


def test_the_required_edge_rests_on_what_was_measured() -> None:
    """Fills of ours that took raise the exit addend of the next decision; a person's do not."""
    desk = running()
    before = desk.state.inputs
    assert before is not None
    assert before.taker_share == 0.05
    by_hand = msgspec.structs.replace(desk.fill(Side.BUY, 10), liquidity=Liquidity.TAKER)
    desk.feed(by_hand)
    assert desk.state.inputs is not None
    assert desk.state.inputs.taker_share == 0.05
    for _ in range(25):
        ours = desk.fill(Side.SELL, 10, client_id="mmabcd-1-900")
        desk.feed(msgspec.structs.replace(ours, liquidity=Liquidity.TAKER))
    after, decision = desk.state.inputs, desk.state.decision
    assert decision is not None
    assert after.taker_share == pytest.approx((25 + 2.5) / 75, abs=0.003)
    assert decision.sell_edge.exit_bps == pytest.approx(after.taker_share * (6.0 - 2.0 + 5.0))
