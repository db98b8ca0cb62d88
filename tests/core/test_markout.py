"""What a fill was worth later, and what that adds to the next quote."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import markout
from mmdaemon.core.events import Fill
from mmdaemon.core.markout import HORIZONS_S, Markout, Markouts
from mmdaemon.core.types import NS, ExecKind, Liquidity, Regime, Side
from tests.core.build import DEFAULT, MID, Desk, modest, running

P = DEFAULT.cost
UNIT = DEFAULT.instrument.unit_e10
CALM, SHOCK = Regime.NEUTRAL_LOW_VOL, Regime.HIGH_VOL_SHOCK
TAU_S = 1_800.0


def fill(at_s: float, side: Side, px_ticks: int, qty_lots: int = 10) -> Fill:
    at_ns = round(at_s * NS)
    return Fill(at_ns, at_ns, None, f"t{at_ns}", "x", side, px_ticks, qty_lots, 0, Liquidity.MAKER, ExecKind.TRADE)


class Market:
    """Fills and timers, by the second."""

    def __init__(self) -> None:
        self.m = Markouts()

    def fill(
        self,
        at_s: float,
        side: Side = Side.BUY,
        px: int = 99_900,
        fair: float | None = 100_000.0,
        regime: Regime = CALM,
    ) -> None:
        markout.on_fill(self.m, fill(at_s, side, px), fair, regime)

    def timer(self, at_s: float, fair: float | None) -> tuple[Markout, ...]:
        return markout.on_timer(self.m, round(at_s * NS), fair, UNIT, P)

    def adverse(self, at_s: float, side: Side = Side.BUY, regime: Regime = CALM) -> float:
        return markout.adverse_bps(self.m, regime, side, round(at_s * NS), P)

    def toxic(self, at_s: float, impact_bps: float, side: Side = Side.BUY) -> None:
        """A fill after which the price moved by so much for us within 5 s."""
        self.fill(at_s, side)
        self.timer(at_s + 5, 100_000.0 * (1 + side * impact_bps * 1e-4))


# --- horizons ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_each_horizon_is_closed_once_at_its_second(side: Side) -> None:
    market = Market()
    market.fill(10, side, px=100_000 - side * 100)  # 10 bps better than fair
    done: list[tuple[float, Markout]] = []
    for tenth in range(700):
        at_s = 10 + tenth / 10
        done += [(at_s - 10, m) for m in market.timer(at_s, 100_000.0 + side * tenth)]
    assert [m.horizon_s for _, m in done] == list(HORIZONS_S)
    assert [after for after, _ in done] == pytest.approx(HORIZONS_S)
    for after, m in done:
        assert m.effective_bps == pytest.approx(10.0)
        assert m.impact_bps == pytest.approx(after)  # a tick is 0.1 bps, ten a second
        assert m.markout_bps == m.effective_bps + m.impact_bps
    assert not market.m.pending


def test_a_price_that_moves_against_us_is_negative_impact() -> None:
    for side in Side:
        market = Market()
        market.fill(0, side, px=100_000)
        (one,) = market.timer(1, 100_000.0 - side * 30)
        assert (one.effective_bps, one.impact_bps) == (0.0, pytest.approx(-3.0))


def test_a_horizon_without_a_healthy_book_is_unavailable_and_never_zero() -> None:
    market = Market()
    market.fill(0)
    assert market.timer(1, None) == ()
    assert market.timer(5, None) == ()
    assert market.m.unavailable == 2
    assert not market.m.impacts  # nothing was learned from what was not seen
    assert [m.horizon_s for m in market.timer(61, 100_000.0)] == [30, 60]


def test_a_fill_with_no_book_before_it_has_no_markout() -> None:
    market = Market()
    market.fill(0, fair=None)
    assert (market.m.unpriced, len(market.m.pending)) == (1, 0)


def test_fills_in_flight_are_kept_apart() -> None:
    market = Market()
    market.fill(0, Side.BUY)
    market.fill(3, Side.SELL)
    assert [(m.trade_id, m.horizon_s) for m in market.timer(4, 100_000.0)] == [("t0", 1), ("t3000000000", 1)]
    assert [(m.trade_id, m.horizon_s) for m in market.timer(5, 100_000.0)] == [("t0", 5)]
    market.timer(60, 100_000.0)
    assert [p.trade_id for p in market.m.pending] == ["t3000000000"]


def test_impact_in_money_is_that_of_the_first_five_seconds() -> None:
    market = Market()
    market.fill(0, Side.SELL)
    market.timer(1, 100_050.0)
    market.timer(5, 100_020.0)
    market.timer(60, 100_900.0)
    assert market.m.impact_5s_e10 == -20 * 10 * UNIT


# --- adverse selection ------------------------------------------------------------------------------------------------


def test_one_bad_fill_is_averaged_with_fifty_of_nothing() -> None:
    market = Market()
    market.toxic(0, -10.2)
    assert market.adverse(5) == pytest.approx(10.2 / 51)


def test_the_first_fills_count_alike_however_close_together() -> None:
    market = Market()
    market.toxic(0, -10.0)
    market.toxic(0.1, 0.0)
    assert market.adverse(5.1) == pytest.approx(5.0 * 2 / 52, rel=0.001)


def test_it_is_kept_by_side_and_regime() -> None:
    market = Market()
    market.toxic(0, -10.0, Side.SELL)
    assert market.adverse(5, Side.SELL) > 0
    assert market.adverse(5, Side.BUY) == 0.0
    assert market.adverse(5, Side.SELL, SHOCK) == 0.0


def test_a_price_that_moves_for_us_gives_no_discount() -> None:
    market = Market()
    market.toxic(0, 10.0)
    assert market.adverse(5) == 0.0


def test_it_decays_to_nothing_without_fills() -> None:
    market = Market()
    for i in range(200):
        market.toxic(i * 6, -8.0)
    last_s = 199 * 6 + 5
    start = market.adverse(last_s)
    later = [market.adverse(last_s + k * TAU_S) for k in range(1, 6)]
    assert later == sorted(later, reverse=True)
    assert later[0] < start * math.exp(-1)  # the mean fades by that much, and so does the weight of its fills
    assert market.adverse(last_s + 10 * TAU_S) < 1e-3


@pytest.mark.parametrize("gap_s", [2.0, 30.0, 600.0])
def test_under_constant_toxicity_it_converges(gap_s: float) -> None:
    """To the measured impact, shrunk by how many fills the memory holds. It does not run away."""
    market = Market()
    seen: list[float] = []
    n = math.ceil(8 * TAU_S / gap_s)
    for i in range(n):
        market.toxic(i * gap_s, -6.0)
        seen.append(market.adverse(i * gap_s + 5))
    fills = 1 / (1 - math.exp(-gap_s / TAU_S))
    assert seen[-1] == pytest.approx(6.0 * fills / (fills + 50), rel=0.01)
    assert all(b >= a - 1e-9 for a, b in pairwise(seen))
    assert abs(seen[-1] - seen[-2]) < 1e-3


def test_it_forgets_a_toxic_past_as_good_fills_come() -> None:
    market = Market()
    for i in range(300):
        market.toxic(i * 10, -8.0)
    worst = market.adverse(3_000)
    for i in range(300, 1_500):
        market.toxic(i * 10, 0.0)
    assert market.adverse(15_000) < 0.02 * worst


@given(st.lists(st.tuples(st.floats(0, 900), st.floats(-500, 500)), max_size=40))
@modest(80)
def test_it_stays_between_nothing_and_its_cap(history: list[tuple[float, float]]) -> None:
    market, at_s = Market(), 0.0
    for wait_s, impact in history:
        at_s += wait_s
        market.toxic(at_s, impact)
        at_s += 5
        assert 0.0 <= market.adverse(at_s) <= P.adverse_cap_bps
        assert 0.0 <= market.adverse(at_s + 10_000) <= market.adverse(at_s)


# --- in the engine ----------------------------------------------------------------------------------------------------


def hurt(desk: Desk, times: int) -> None:
    for _ in range(times):
        desk.all_of(desk.book(MID - 5, MID + 5), desk.fill(Side.BUY, 1, MID - 20), desk.fill(Side.SELL, 1, MID - 20))
        for _ in range(5):
            desk.book(MID - 605, MID - 595)
            desk.seconds(1)


def test_toxic_buys_push_the_bid_away_and_leave_the_ask() -> None:
    desk = running()
    hurt(desk, 12)
    assert desk.state.sampled.adverse_buy_bps >= 1.0
    assert desk.state.sampled.adverse_sell_bps == 0.0
    assert desk.state.inputs is not None
    assert desk.state.inputs.adverse_buy_bps == desk.state.sampled.adverse_buy_bps


def test_a_stale_book_makes_a_horizon_unavailable() -> None:
    desk = running()
    desk.feed(desk.fill(Side.BUY, 1))
    desk.wait(10).all_of(desk.health(), desk.timer())
    assert desk.state.markouts.unavailable == 2
    assert desk.state.markouts.impacts == {}


def test_a_fill_of_a_time_that_has_not_come_does_not_keep_all_that_come_after_it() -> None:
    market = Market()
    market.fill(1e9)
    for second in range(200):
        market.fill(float(second))
        market.timer(second + 0.5, 100_000.0)
    assert len(market.m.pending) <= 62
    assert market.m.unavailable == 0
