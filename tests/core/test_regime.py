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


def test_the_drifts_quantile_counts_from_as_many_minutes_on_as_the_bands() -> None:
    bars = flat(60, 2)
    enough = 2 * D.quantile_min_bars
    for known, seen in ((enough - 1, R.HIGH_VOL_SHOCK), (enough, R.NEUTRAL_LOW_VOL)):
        bars.drifts = bars.sorted_drifts = [20.0] * known
        assert regime.classify(bars, 15.0, D) is seen
    assert regime.classify(bars, 20.0, D) is R.HIGH_VOL_SHOCK


ABSOLUTE = msgspec.structs.replace(D, mode="absolute")


@pytest.mark.parametrize(
    ("band_bps", "drift_bps", "seen"),
    [
        (39.9, 0.0, R.NEUTRAL_LOW_VOL),
        (40.0, 0.0, R.NEUTRAL_HIGH_VOL),
        (79.9, 0.0, R.NEUTRAL_HIGH_VOL),
        (80.0, 0.0, R.HIGH_VOL_SHOCK),
        (2.0, 9.9, R.NEUTRAL_LOW_VOL),
        (2.0, 10.0, R.HIGH_VOL_SHOCK),
    ],
)
@pytest.mark.parametrize("usual_bps", [2, 200])
def test_absolute_thresholds_know_no_quantiles(
    band_bps: float, drift_bps: float, seen: Regime, usual_bps: float
) -> None:
    bars = msgspec.structs.replace(flat(D.quantile_min_bars + 20, usual_bps), atr14_bps=band_bps)
    bars.drifts = bars.sorted_drifts = [float(usual_bps)] * 2 * D.quantile_min_bars
    assert regime.classify(bars, drift_bps, ABSOLUTE) is seen


def test_a_trend_is_the_same_by_absolute_thresholds() -> None:
    assert regime.classify(slope(2, 1), 0.0, ABSOLUTE) is R.UP


@pytest.mark.parametrize("fixed", Regime)
def test_a_fixed_regime_is_said_from_the_first_second_and_for_good(fixed: Regime) -> None:
    p = msgspec.structs.replace(DEFAULT, detector=msgspec.structs.replace(D, fixed=fixed))
    detector = Detector(regime=R.HIGH_VOL_SHOCK)
    for i, (make, drift_bps, _) in enumerate(CASES.values()):
        bars = make()
        assert regime.classify(bars, drift_bps, p.detector) is fixed
        regime.on_timer(detector, bars, (i + 1) * NS, p)
        regime.on_bar(detector, bars, (i + 1) * NS, p)
        assert detector.regime is fixed
        assert detector.band_bps == round(bars.atr14_bps or 0.0, 2)
    assert detector.transitions == (fixed is not R.HIGH_VOL_SHOCK)


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


# --- hysteresis and what is hidden ------------------------------------------------------------------------------------


def with_band(bps: float) -> Bars:
    return msgspec.structs.replace(flat(60, 2), atr14_bps=bps)


def above_ema(bps: float, band_bps: float = 1.0) -> Bars:
    bars = with_band(band_bps)
    bars.ema50_ticks = bars.bars[-1].close_ticks / (1 + bps / 1e4)
    return bars


HYSTERESIS: dict[str, tuple[Callable[[float], tuple[Bars, float]], Regime, float]] = {
    # how a figure of so many bps looks, what it makes, and what that is entered at
    "drift": (lambda bps: (with_band(2.0), bps), R.HIGH_VOL_SHOCK, 10.0),
    "drift down": (lambda bps: (with_band(2.0), -bps), R.HIGH_VOL_SHOCK, 10.0),
    "shock's band": (lambda bps: (with_band(bps), 0.0), R.HIGH_VOL_SHOCK, 6.0),
    "up": (lambda bps: (above_ema(bps), 0.0), R.UP, 10.0),
    "down": (lambda bps: (above_ema(-bps), 0.0), R.DOWN, 10.0),
    "up, by four bands": (lambda bps: (above_ema(bps, 3.0), 0.0), R.UP, 12.0),
    "middle's band": (lambda bps: (with_band(bps), 0.0), R.NEUTRAL_HIGH_VOL, 4.0),
}


@pytest.mark.parametrize("case", HYSTERESIS)
@pytest.mark.parametrize(("share", "leaves"), [(0.91, False), (0.89, True)])
def test_a_regime_is_left_below_a_share_of_what_it_is_entered_at(case: str, share: float, leaves: bool) -> None:
    make, expected, entry_bps = HYSTERESIS[case]

    def at(second: float, share_of_entry: float) -> Regime:
        bars, drift_bps = make(share_of_entry * entry_bps)
        return follow.at(second, bars, drift_bps=drift_bps)

    follow = Follower(flat(60, 2))
    assert at(0, 0.99) is not expected
    assert at(1, 1.01) is expected
    assert at(2, share) is expected
    assert at(300, share) is (expected if not leaves else follow.detector.seen)
    assert (follow.detector.regime is not expected) is leaves


@pytest.mark.parametrize("case", HYSTERESIS)
def test_between_leaving_and_entering_the_dwell_begins_anew(case: str) -> None:
    make, expected, entry_bps = HYSTERESIS[case]
    follow = Follower(flat(60, 2))
    for second, share in ((1, 1.01), (2, 0.5), (31, 0.95), (32, 0.5), (61, 0.5)):
        bars, drift_bps = make(share * entry_bps)
        assert follow.at(second, bars, drift_bps=drift_bps) is expected
    bars, drift_bps = make(0.5 * entry_bps)
    assert follow.at(62, bars, drift_bps=drift_bps) is not expected


def test_hysteresis_acts_on_the_larger_of_floor_and_quantile() -> None:
    bars = flat(D.quantile_min_bars + bar_rules.ATR_BARS, 20)
    seen = {
        bps: regime.classify(msgspec.structs.replace(bars, atr14_bps=bps), 0.0, D, R.HIGH_VOL_SHOCK)
        for bps in (17.9, 18.1)
    }
    assert seen == {17.9: R.NEUTRAL_LOW_VOL, 18.1: R.HIGH_VOL_SHOCK}


def test_what_is_left_lowers_no_threshold_but_its_own() -> None:
    assert regime.classify(with_band(3.7), 0.0, D, R.HIGH_VOL_SHOCK) is R.NEUTRAL_LOW_VOL
    assert regime.classify(above_ema(9.5), 0.0, D, R.HIGH_VOL_SHOCK) is R.NEUTRAL_LOW_VOL
    assert regime.classify(above_ema(9.5), 0.0, D, R.UP) is R.UP
    assert regime.classify(above_ema(-9.5), 0.0, D, R.UP) is R.NEUTRAL_LOW_VOL


def test_a_shock_that_drift_raised_does_not_end_while_drift_is_unknown() -> None:
    """The book was gone for a minute: what the mid did in it is not known, and is not calm."""
    follow = Follower(flat(60, 2))
    follow.at(0, drift_bps=15)
    follow.at(1)
    follow.bars.sample_mono_ns, follow.bars.sample_x2 = [], []
    for second in range(2, 90):
        regime.on_timer(follow.detector, follow.bars, (100 + second) * NS, DEFAULT)
        assert follow.detector.drift_bps is None
        assert (follow.detector.regime, follow.detector.shock_by) == (R.HIGH_VOL_SHOCK, "drift")
    assert follow.at(90, drift_bps=9.5) is R.HIGH_VOL_SHOCK
    assert follow.at(91) is R.HIGH_VOL_SHOCK
    assert follow.at(121) is R.NEUTRAL_LOW_VOL
    assert follow.detector.shock_by == ""


def test_a_shock_that_the_band_raised_does_not_end_while_there_is_no_band() -> None:
    follow = Follower(flat(60, 7))
    assert follow.at(0) is R.HIGH_VOL_SHOCK
    assert follow.at(60, Bars()) is R.HIGH_VOL_SHOCK
    assert follow.at(600) is R.HIGH_VOL_SHOCK
    assert follow.detector.shock_by == "band"
    assert follow.at(601, flat(60, 2)) is R.NEUTRAL_LOW_VOL


def test_no_other_unknown_holds_a_regime() -> None:
    """Candles alone carry no drift: a shock by band ends without it. A trend is left when its figures are gone."""
    follow = Follower(flat(60, 7))
    follow.at(0)
    follow.bars = flat(60, 2)
    for second in (1, 31):
        regime.on_timer(follow.detector, follow.bars, (100 + second) * NS, DEFAULT)
    assert follow.detector.drift_bps is None
    assert follow.detector.regime is R.NEUTRAL_LOW_VOL
    assert follow.at(40, slope(2, 1)) is R.UP
    assert follow.at(41, Bars()) is R.UP
    assert follow.at(71) is R.NEUTRAL_HIGH_VOL


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


# --- hours of it ------------------------------------------------------------------------------------------------------


def test_made_bars_walk_through_all_five_and_back() -> None:
    """Three hours and a half, second by second: a timer and a mid in each, a bar at the end of each minute."""
    walked: list[tuple[str, Regime]] = []
    bars, detector = Bars(), Detector()
    close = float(MID)
    minute = 0

    def play(minutes: int, slope_bps: float = 0.0, wick_bps: float = 1.0, jump_bps: float = 0.0) -> None:
        """Bars that move so far from open to close, with so much beyond both; the mid jumps for a second."""
        nonlocal close, minute
        for _ in range(minutes):
            opened, close = close, close + slope_bps * BP
            start = DAY_0_NS + minute * MINUTE_NS
            for second in range(60):
                now = start + second * NS
                bar_rules.sample_mid(bars, round(2 * (opened + (jump_bps * BP if second == 20 else 0))), now)
                regime.on_timer(detector, bars, now, DEFAULT)
                say(f"{minute}:{second:02}")
            low, high = min(opened, close) - wick_bps * BP, max(opened, close) + wick_bps * BP
            shape = (round(opened), round(high), round(low), round(close))
            assert bar_rules.on_bar(bars, BarClosed(0, start + MINUTE_NS, None, start, *shape, 1, "venue")) == ""
            minute += 1
            regime.on_bar(detector, bars, start + MINUTE_NS, DEFAULT)
            say(f"{minute}:00")

    def say(at: str) -> None:
        if not walked or walked[-1][1] is not detector.regime:
            walked.append((at, detector.regime))

    play(60)
    play(20, wick_bps=2.5)
    play(20)
    play(35, slope_bps=2, wick_bps=0.5)
    play(40, slope_bps=-2, wick_bps=0.5)
    play(2, wick_bps=20)
    play(30)
    play(1, jump_bps=30)
    play(5)
    assert walked == [
        ("0:00", R.NEUTRAL_HIGH_VOL),  # nothing is known
        ("15:30", R.NEUTRAL_LOW_VOL),  # the first band, 2 bps, with the 15th bar; and the dwell
        ("70:00", R.NEUTRAL_HIGH_VOL),  # ten of 14 ranges are 5: a band of 4.14
        ("87:30", R.NEUTRAL_LOW_VOL),  # seven are 2 again: 3.5, below 0.9 x 4; by the dwell alone it were 85:30
        ("106:00", R.UP),  # six bars of 2: 10.5 above the EMA, more than 10 and than four bands of 2.43
        ("145:30", R.NEUTRAL_LOW_VOL),
        ("157:00", R.DOWN),
        ("177:00", R.HIGH_VOL_SHOCK),  # two ranges of 40: 8.3; after one it was 5.6
        ("190:30", R.NEUTRAL_HIGH_VOL),  # one of the two is out of the band: 4.7, below 0.9 x 6
        ("191:00", R.DOWN),  # both are: 2, and four bands are near enough
        ("207:20", R.HIGH_VOL_SHOCK),  # the mid jumps for a second
        ("208:21", R.NEUTRAL_LOW_VOL),  # and back within the drift of 207:50; 30 s after that is over
    ]
    assert {each for _, each in walked} == set(Regime)
    assert detector.transitions == len(walked) - 1


# --- in the engine ----------------------------------------------------------------------------------------------------


def test_a_bar_that_changes_the_band_is_a_new_decision() -> None:
    desk = running()
    first_ns = desk.now[1] // MINUTE_NS * MINUTE_NS - 20 * MINUTE_NS
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
