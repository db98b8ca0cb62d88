"""Five regimes, each reachable; protection at once, and its end only after the dwell."""

from collections.abc import Callable, Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import bars as bar_rules
from mmdaemon.core import regime
from mmdaemon.core.bars import Bars
from mmdaemon.core.events import BarClosed
from mmdaemon.core.regime import PROTECTION, Detector
from mmdaemon.core.types import NS, Regime
from tests.core.build import DEFAULT, MID, Desk, modest, params, running

R = Regime
D = DEFAULT.detector
MINUTE_NS = 60 * NS
DAY_0_NS = 1_790_000_000 // 60 * MINUTE_NS
BP = MID // 10_000
"""One bp in ticks."""


def of(closes: Iterable[int], range_ticks: int) -> Bars:
    """Minute bars that close there, each as wide as said beyond its open and close."""
    bars = Bars()
    before = None
    for i, close in enumerate(closes):
        start = DAY_0_NS + i * MINUTE_NS
        opened = close if before is None else before
        high, low = max(opened, close) + range_ticks // 2, min(opened, close) - range_ticks // 2
        now = start + MINUTE_NS
        assert bar_rules.on_bar(bars, BarClosed(now, now, None, start, opened, high, low, close, 1, "venue")) == ""
        before = close
    return bars


def flat(n: int, bps: float) -> Bars:
    return of([MID] * n, round(bps * BP))


def slope(bps_a_bar: float, range_bps: float, n: int = 60) -> Bars:
    return of([MID + round(i * bps_a_bar * BP) for i in range(n)], round(range_bps * BP))


CASES: dict[str, tuple[Callable[[], Bars], float | None, Regime]] = {
    "calm": (lambda: flat(60, 2), 0.0, R.NEUTRAL_LOW_VOL),
    "middle": (lambda: flat(60, 5), 0.0, R.NEUTRAL_HIGH_VOL),
    "up": (lambda: slope(2, 1), 0.0, R.UP),
    "down": (lambda: slope(-2, 1), 0.0, R.DOWN),
    "shock by band": (lambda: flat(60, 7), 0.0, R.HIGH_VOL_SHOCK),
    "shock by drift": (lambda: flat(60, 2), 12.0, R.HIGH_VOL_SHOCK),
    "shock by drift down": (lambda: flat(60, 2), -12.0, R.HIGH_VOL_SHOCK),
    "shock by drift before any bar": (Bars, 12.0, R.HIGH_VOL_SHOCK),
    "shock beats trend": (lambda: slope(7, 1), 0.0, R.HIGH_VOL_SHOCK),
    "trend beats middle": (lambda: slope(3.5, 1), 0.0, R.UP),
    "a trend is no trend within four bands": (lambda: slope(0.5, 3.4), 0.0, R.NEUTRAL_LOW_VOL),
    "no trend within its floor": (lambda: slope(0.3, 0.2), 0.0, R.NEUTRAL_LOW_VOL),
    "nothing known is not calm": (Bars, None, R.NEUTRAL_HIGH_VOL),
    "too few bars for a band": (lambda: flat(10, 1), None, R.NEUTRAL_HIGH_VOL),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_figures_say(case: str) -> None:
    make, drift_bps, expected = CASES[case]
    assert regime.classify(make(), drift_bps, D) is expected


def test_each_of_the_five_is_reachable() -> None:
    assert {expected for _, _, expected in CASES.values()} == set(Regime) == set(PROTECTION)


@pytest.mark.parametrize(
    ("bps", "seen"),
    [(3.99, R.NEUTRAL_LOW_VOL), (4.0, R.NEUTRAL_HIGH_VOL), (5.99, R.NEUTRAL_HIGH_VOL), (6.0, R.HIGH_VOL_SHOCK)],
)
def test_the_floors_of_the_band(bps: float, seen: Regime) -> None:
    bars = msgspec.structs.replace(flat(60, 2), atr14_bps=bps)
    assert regime.classify(bars, 0.0, D) is seen


@pytest.mark.parametrize(("bps", "seen"), [(9.99, R.NEUTRAL_LOW_VOL), (10.0, R.HIGH_VOL_SHOCK)])
def test_the_floor_of_the_drift(bps: float, seen: Regime) -> None:
    assert regime.classify(flat(60, 2), bps, D) is seen


def test_quantiles_count_from_enough_bars_on() -> None:
    """A market that always moves by 20 bps a bar is not in shock by moving 20 bps; until that is known, it is."""
    assert regime.classify(flat(D.quantile_min_bars + bar_rules.ATR_BARS - 1, 20), 0.0, D) is R.HIGH_VOL_SHOCK
    bars = flat(D.quantile_min_bars + bar_rules.ATR_BARS, 20)
    assert regime.classify(msgspec.structs.replace(bars, atr14_bps=19.0), 0.0, D) is R.NEUTRAL_LOW_VOL
    assert regime.classify(msgspec.structs.replace(bars, atr14_bps=21.0), 0.0, D) is R.HIGH_VOL_SHOCK


def test_quantiles_never_lower_the_floors() -> None:
    bars = flat(D.quantile_min_bars + 20, 1)
    assert regime.classify(msgspec.structs.replace(bars, atr14_bps=3.0), 0.0, D) is R.NEUTRAL_LOW_VOL


def test_begins_as_not_calm() -> None:
    assert Detector().regime is Detector().seen is R.NEUTRAL_HIGH_VOL


# --- following --------------------------------------------------------------------------------------------------------


class Follower:
    """A detector told, second by second, how far the mid drifted (and so whether there is a shock)."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.detector = Detector(regime=R.NEUTRAL_LOW_VOL, seen=R.NEUTRAL_LOW_VOL)
        self.now_ns = 100 * NS

    def at(self, second: float, bars: Bars | None = None, *, drift_bps: float = 0.0) -> Regime:
        self.bars = bars or self.bars
        self.now_ns = round((100 + second) * NS)
        drift_ns = self.now_ns - bar_rules.DRIFT_NS
        self.bars.sample_mono_ns = [drift_ns, self.now_ns]
        self.bars.sample_x2 = [2 * MID, round(2 * MID * (1 + drift_bps / 1e4))]
        regime.on_timer(self.detector, self.bars, self.now_ns, DEFAULT)
        assert self.detector.drift_bps == pytest.approx(drift_bps, abs=0.01)
        return self.detector.regime


def test_protection_is_immediate() -> None:
    follow = Follower(flat(60, 2))
    assert follow.at(0) is R.NEUTRAL_LOW_VOL
    assert follow.at(1, flat(60, 5)) is R.NEUTRAL_HIGH_VOL
    assert follow.at(2, slope(2, 1)) is R.UP
    assert follow.at(3, slope(-2, 1)) is R.DOWN  # as protective: at once too
    assert follow.at(4, slope(2, 1)) is R.UP
    assert follow.at(5, drift_bps=15) is R.HIGH_VOL_SHOCK
    assert follow.detector.transitions == 5


def test_leaving_takes_the_dwell_to_the_nanosecond() -> None:
    follow = Follower(flat(60, 2))
    follow.at(0, drift_bps=15)
    assert follow.at(10) is R.HIGH_VOL_SHOCK
    assert follow.at(40 - 1e-9) is R.HIGH_VOL_SHOCK
    assert follow.at(40) is R.NEUTRAL_LOW_VOL


def test_the_dwell_begins_anew_when_it_is_seen_again() -> None:
    follow = Follower(flat(60, 2))
    follow.at(0, drift_bps=15)
    follow.at(10)
    follow.at(35, drift_bps=-15)
    assert follow.at(45) is R.HIGH_VOL_SHOCK
    assert follow.at(74) is R.HIGH_VOL_SHOCK
    assert follow.at(75) is R.NEUTRAL_LOW_VOL


def test_leaves_for_what_is_seen_then() -> None:
    follow = Follower(flat(60, 2))
    follow.at(0, drift_bps=15)
    follow.at(10)
    assert follow.at(40, flat(60, 5)) is R.NEUTRAL_HIGH_VOL


@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 29.0, 31.0]), st.sampled_from(list(CASES))), max_size=25))
@modest(60)
def test_is_never_less_protective_than_what_is_seen(history: list[tuple[float, str]]) -> None:
    follow, second, since = Follower(flat(60, 2)), 0.0, 0.0
    rank = {r: i for i, r in enumerate(PROTECTION)} | {R.DOWN: PROTECTION.index(R.UP)}
    made = {case: make() for case, (make, _, _) in CASES.items()}
    for wait_s, case in history:
        second += wait_s
        before = follow.detector.regime
        now = follow.at(second, made[case], drift_bps=CASES[case][1] or 0.0)
        assert rank[now] >= rank[follow.detector.seen]
        if rank[follow.detector.seen] >= rank[before]:
            since = second
        if rank[now] < rank[before]:
            assert second - since >= 30.0
            since = second


# --- in the engine ----------------------------------------------------------------------------------------------------


def test_a_bar_that_changes_the_band_is_a_new_decision() -> None:
    desk = running()
    first_ns = desk.now[1] // MINUTE_NS * MINUTE_NS - 30 * MINUTE_NS
    for i in range(20):
        at = first_ns + i * MINUTE_NS
        desk.feed(BarClosed(*desk.now, at, MID, MID + 100, MID - 100, MID, 1, "venue"))
    assert desk.state.detector.band_bps == pytest.approx(200 / MID * 1e4, abs=0.005)
    assert desk.state.inputs is not None
    assert desk.state.inputs.band_bps == desk.state.detector.band_bps
    assert desk.state.decision is not None
    assert desk.state.decision.half_bps == pytest.approx(2.5 + 0.5 * desk.state.detector.band_bps)


@pytest.mark.parametrize(("drift_bps", "multiplier"), [(4.0, 1.0), (10.0, 1.4), (-10.0, 1.4), (25.0, 1.8)])
def test_drift_widens_the_half_spread_in_steps(drift_bps: float, multiplier: float) -> None:
    desk = running()
    desk.seconds(31)
    off = round(MID * drift_bps / 1e4)
    desk.book(MID + off - 5, MID + off + 5)
    desk.seconds(1)
    assert desk.state.sampled.drift_multiplier == pytest.approx(multiplier, abs=0.051)
    assert desk.state.sampled.drift_multiplier * 20 == pytest.approx(round(desk.state.sampled.drift_multiplier * 20))


def test_a_shock_is_quoted_by_its_own_row() -> None:
    p = params()
    desk = Desk(p).start()
    desk.seconds(31)
    desk.book(MID + 8 * 65 + 400, MID + 8 * 65 + 410)
    desk.seconds(1)
    assert desk.state.detector.regime is R.HIGH_VOL_SHOCK
    assert desk.state.decision is not None
    assert desk.state.decision.refresh_ns == p.regimes[R.HIGH_VOL_SHOCK].refresh_ns
