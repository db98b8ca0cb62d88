"""The rules of others: where they want to quote, computed by hand, and that they move at their own moments only."""

from math import log, sqrt

import pytest

from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.types import NS, GuardState, Side
from mmdaemon.research.ablation import rules
from mmdaemon.research.ablation.rules import Clocked, Wanted
from tests.core.build import MID, params
from tests.core.build import inputs as seen

S = NS
P = params(
    regimes={},
    quotes={"max_position_quote": 10_000.0, "max_position_fraction": 0.2, "depth_levels": 1, "min_quote_life_s": 0.0},
    limits={"max_order_quote": 1_000.0},
)
"""Orders of 100 quote, which is 15 lots of 6.5; a cap of 10,000."""
ORDER = 15
LIMIT = 1538
T0 = 1_000 * NS


def look(at_s: float = 0.0, **over: object) -> DecisionInputs:
    """A touch of 2 ticks about `MID`, fair value in the middle."""
    touch: dict[str, object] = {"bid_px_ticks": MID - 1, "ask_px_ticks": MID + 1, "fair_ticks": float(MID)}
    return seen(**{"mono_ns": T0 + round(at_s * NS), **touch, **over})


def prices(decision: Decision) -> dict[Side, tuple[int, int]]:
    return {quote.side: (quote.px_ticks, quote.qty_lots) for quote in decision.quotes}


def near(wanted: Wanted, bid: float, ask: float) -> None:
    assert wanted == pytest.approx((bid, ask), rel=1e-12)


# --- prices -----------------------------------------------------------------------------------------------------------


def test_join_is_at_the_touch() -> None:
    near(rules.join_touch(look(bid_px_ticks=MID - 7, ask_px_ticks=MID + 3), P), MID - 7, MID + 3)


def test_a_fixed_distance_is_from_the_mid_and_not_from_fair_value() -> None:
    wanted = rules.fixed(2.5)(look(bid_px_ticks=MID - 4, ask_px_ticks=MID + 4, fair_ticks=MID + 3.0), P)
    near(wanted, MID - 2.5e-4 * MID, MID + 2.5e-4 * MID)


def test_the_micro_price_rule_is_from_fair_value() -> None:
    wanted = rules.micro_price(0.5)(look(fair_ticks=MID + 0.8), P)
    near(wanted, (MID + 0.8) * (1 - 0.5e-4), (MID + 0.8) * (1 + 0.5e-4))


def test_avellaneda_stoikov_by_hand() -> None:
    """A mid of 65,000, sigma 1 bp = 6.5 a root second, gamma 0.1, kappa 0.2; a tenth of the cap held."""
    held = round(LIMIT / 10)
    wanted = rules.avellaneda_stoikov(0.1, 0.2)(look(sigma_bps=1.0, position_lots=held), P)
    risk = 0.1 * 6.5**2
    reservation = 65_000 - held / LIMIT * risk
    half = (risk + 20 * log(1.5)) / 2
    near(wanted, (reservation - half) * 10, (reservation + half) * 10)


def test_glft_by_hand() -> None:
    """gamma = k = 1 per order: c1 = ln 2, c2 = sqrt(1/2 * 4); with A = 0.5, two orders short."""
    wanted = rules.glft(1.0, 0.5, 1.0)(look(sigma_bps=0.1, position_lots=-2 * ORDER), P)
    sigma, c1, c2 = 0.65, log(2.0), sqrt(1.0 / (2 * 0.5 * 1.0) * 2.0**2)
    reservation, half = 65_000 + 2 * sigma * c2, c1 + sigma * c2 / 2
    near(wanted, (reservation - half) * 10, (reservation + half) * 10)


# --- one look ---------------------------------------------------------------------------------------------------------


def test_prices_are_rounded_away_and_stay_off_the_opposite_touch() -> None:
    decision = Clocked(S, lambda _i, _p: Wanted(MID - 2.5, MID + 2.5))(look(), P)
    assert prices(decision) == {Side.BUY: (MID - 3, ORDER), Side.SELL: (MID + 3, ORDER)}
    crossing = Clocked(S, lambda _i, _p: Wanted(MID + 50.0, MID - 50.0))(look(), P)
    assert prices(crossing) == {Side.BUY: (MID, ORDER), Side.SELL: (MID, ORDER)}
    locked = Clocked(S, rules.join_touch)(look(bid_px_ticks=MID, ask_px_ticks=MID), P)
    assert prices(locked) == {Side.BUY: (MID - 1, ORDER), Side.SELL: (MID + 1, ORDER)}


def test_addends_come_to_the_price() -> None:
    decision = Clocked(S, lambda _i, _p: Wanted(MID + 50.25, MID + 2.5))(look(), P)
    assert [quote.addends.total for quote in decision.quotes] == [quote.px_ticks for quote in decision.quotes]


@pytest.mark.parametrize("side", list(Side))
def test_nothing_goes_beyond_the_cap(side: Side) -> None:
    def of(position: int) -> dict[Side, tuple[int, int]]:
        return prices(Clocked(S, rules.fixed(1.0))(look(position_lots=side * position), P))

    assert of(LIMIT - ORDER)[side][1] == ORDER
    assert of(LIMIT - ORDER + 1)[side][1] == ORDER - 1
    assert side not in of(LIMIT)
    assert of(LIMIT)[side.opposite][1] == ORDER


# --- moments ----------------------------------------------------------------------------------------------------------


def test_between_two_looks_nothing_moves() -> None:
    rule = Clocked(30 * S, rules.join_touch)
    first = prices(rule(look(0.0), P))
    for at_s in (0.25, 15.0, 29.99):
        moved = look(at_s, bid_px_ticks=MID + 99, ask_px_ticks=MID + 101, fair_ticks=MID + 100.0)
        assert prices(rule(moved, P)) == first
    moved = look(30.0, bid_px_ticks=MID + 99, ask_px_ticks=MID + 101, fair_ticks=MID + 100.0)
    assert prices(rule(moved, P)) == {Side.BUY: (MID + 99, ORDER), Side.SELL: (MID + 101, ORDER)}


def test_a_late_event_does_not_put_off_the_looks_after_it() -> None:
    rule = Clocked(S, rules.join_touch)
    rule(look(0.0), P)
    rule(look(1.9), P)
    late = look(2.0, bid_px_ticks=MID + 9, ask_px_ticks=MID + 11)
    assert prices(rule(late, P))[Side.BUY][0] == MID + 9


def test_what_is_filled_waits_for_the_next_look() -> None:
    rule = Clocked(30 * S, rules.join_touch)
    rule(look(0.0), P)
    assert prices(rule(look(1.0, position_lots=ORDER), P)) == {Side.SELL: (MID + 1, ORDER)}
    assert prices(rule(look(2.0, position_lots=ORDER), P)) == {Side.SELL: (MID + 1, ORDER)}
    assert prices(rule(look(30.0, position_lots=ORDER), P)) == {Side.BUY: (MID - 1, ORDER), Side.SELL: (MID + 1, ORDER)}


def test_what_is_partly_filled_rests_on_as_it_is() -> None:
    rule = Clocked(30 * S, rules.join_touch)
    rule(look(0.0), P)
    assert prices(rule(look(1.0, position_lots=-4), P)) == {Side.BUY: (MID - 1, ORDER), Side.SELL: (MID + 1, ORDER - 4)}
    assert prices(rule(look(2.0, position_lots=-ORDER), P)) == {Side.BUY: (MID - 1, ORDER)}
    assert prices(rule(look(30.0, position_lots=-ORDER), P))[Side.SELL] == (MID + 1, ORDER)


def test_at_a_look_nothing_but_the_exact_price_and_size_is_left_alone() -> None:
    decision = Clocked(30 * S, rules.join_touch)(look(), P)
    assert decision.refresh_ns == 0
    assert all(quote.lo_px_ticks == quote.px_ticks == quote.hi_px_ticks for quote in decision.quotes)


@pytest.mark.parametrize("guard", [GuardState.SOFT_PAUSE, GuardState.REDUCING, GuardState.HARD_STOP])
def test_while_the_guard_lets_nothing_be_there_is_nothing_and_then_a_look_at_once(guard: GuardState) -> None:
    rule = Clocked(30 * S, rules.join_touch)
    rule(look(0.0), P)
    stopped = rule(look(5.0, guard=guard), P)
    assert (stopped.quotes, stopped.no_bid, stopped.no_ask) == ((), "guard", "guard")
    back = look(6.0, bid_px_ticks=MID + 9, ask_px_ticks=MID + 11)
    assert prices(rule(back, P))[Side.SELL] == (MID + 11, ORDER)


def test_without_a_book_there_is_nothing() -> None:
    decision = Clocked(S, rules.join_touch)(look(bid_px_ticks=0, ask_px_ticks=0, fair_ticks=None), P)
    assert (decision.quotes, decision.no_bid) == ((), "no_book")
