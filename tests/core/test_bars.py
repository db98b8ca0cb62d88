"""Only closed bars count, the venue's win, and where there is a gap there is no figure."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core import bars as bars_module
from mmdaemon.core.bars import (
    MINUTE_NS,
    Bars,
    band_count,
    band_quantile_bps,
    drift30_bps,
    drift_count,
    drift_quantile_bps,
    on_bar,
    on_mid,
    sample_mid,
)
from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import NS

DAY_NS = 1_700_006_400 * NS


def bar(minute: int, close: int, high: int | None = None, low: int | None = None, source: str = "venue") -> BarClosed:
    """Opens at its close's price, unless high and low say otherwise."""
    opens_ns = DAY_NS + minute * MINUTE_NS
    return BarClosed(
        minute + 1, opens_ns + MINUTE_NS + NS, None, opens_ns, close, high or close, low or close, close, 3, source
    )


def fed(closes: list[int]) -> Bars:
    bars = Bars()
    for minute, close in enumerate(closes):
        assert on_bar(bars, bar(minute, close)) == ""
    return bars


def fold(bars: Bars, minute: int, *mids_x2: int) -> list[bars_module.Bar]:
    """Mids a second apart within one minute; the bars that this closed."""
    closed = [on_mid(bars, x2, DAY_NS + minute * MINUTE_NS + n * NS) for n, x2 in enumerate(mids_x2)]
    return [one for one in closed if one is not None]


def test_atr_is_the_mean_of_fourteen_true_ranges_and_needs_the_close_before_them() -> None:
    """Fourteen bars of range 10 after a close of 1000: the true ranges are 10, but for one with a gap of 25."""
    bars = fed([1_000])
    for minute in range(1, 14):
        on_bar(bars, bar(minute, 1_000, 1_006, 996))
        assert bars.atr14_bps is None
    on_bar(bars, bar(14, 1_020, 1_025, 1_015))
    assert bars.atr14_bps == pytest.approx((13 * 10 + 25) / 14 / 1_020 * 1e4, rel=1e-12)
    on_bar(bars, bar(15, 1_000, 1_000, 990))
    assert bars.atr14_bps == pytest.approx((12 * 10 + 25 + 30) / 14 / 1_000 * 1e4, rel=1e-12)


def test_ema_is_seeded_by_fifty_closes_and_then_follows() -> None:
    bars = fed([1_000 + n for n in range(49)])
    assert bars.ema50_ticks is None
    on_bar(bars, bar(49, 1_049))
    assert bars.ema50_ticks == sum(range(1_000, 1_050)) / 50
    on_bar(bars, bar(50, 1_200))
    assert bars.ema50_ticks == pytest.approx(1_024.5 + 2 / 51 * (1_200 - 1_024.5), rel=1e-12)


def test_ema_does_not_depend_on_how_long_we_have_run() -> None:
    closes = [10_000 + 40 * math.floor(10 * math.sin(n / 9)) for n in range(700)]
    long = fed(closes)
    full = sum(closes[:50]) / 50
    for close in closes[50:]:
        full += 2 / 51 * (close - full)
    assert long.ema50_ticks == pytest.approx(full, rel=1e-7)


@pytest.mark.parametrize(("missing", "available"), [(4, True), (5, False)])
def test_nothing_is_computed_across_a_hole_of_over_five_minutes(missing: int, available: bool) -> None:
    bars = fed([1_000] * 60)
    on_bar(bars, bar(60 + missing, 1_000))
    assert (bars.atr14_bps is not None) is available
    assert (bars.ema50_ticks is not None) is available
    for minute in range(1, 50):
        on_bar(bars, bar(60 + missing + minute, 1_000))
    assert bars.atr14_bps == 0.0
    assert bars.ema50_ticks == 1_000


def test_figures_are_withdrawn_when_the_newest_bar_is_over_five_minutes_old() -> None:
    bars = fed([1_000] * 60)
    fold(bars, 64, 2_000)
    assert bars.atr14_bps == 0.0
    fold(bars, 65, 2_000)
    assert (bars.atr14_bps, bars.ema50_ticks) == (None, None)


def test_repeats_and_older_bars_of_mids_are_ignored_and_counted() -> None:
    bars = fed([1_000, 1_001])
    on_bar(bars, bar(5, 1_002))
    before = list(bars.bars)
    assert on_bar(bars, bar(5, 1_777)) == "repeat"
    assert on_bar(bars, bar(0, 1_777)) == "repeat"
    assert on_bar(bars, bar(3, 1_777, source="mids")) == "older"
    assert on_bar(bars, bar(5, 1_777, source="mids")) == "repeat"
    assert (bars.bars, bars.ignored) == (before, {"repeat": 3, "older": 1})
    assert on_bar(bars, bar(6, 1_003, source="mids")) == ""
    assert on_bar(bars, bar(6, 1_777, source="mids")) == "repeat"
    assert (bars.bars[-1].close_ticks, bars.replaced) == (1_003, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"low_ticks": 0},
        {"low_ticks": 1_001},
        {"high_ticks": 999},
        {"open_ticks": 990},
        {"close_ticks": 1_011},
        {"close_ticks": float("nan")},
        {"close_ticks": 1_000.0},
        {"high_ticks": 1 << 49},
        {"qty_lots": -1},
        {"open_ts_ns": DAY_NS + NS},
    ],
)
def test_a_bar_that_cannot_be_is_ignored(change: dict[str, int]) -> None:
    bars = Bars()
    sick = msgspec.structs.replace(bar(0, 1_000, 1_010, 995), **change)
    assert on_bar(bars, sick) == "bad_bar"
    assert bars == Bars(ignored={"bad_bar": 1})


def test_a_bar_that_has_not_closed_yet_is_ignored() -> None:
    bars = Bars()
    forming = msgspec.structs.replace(bar(0, 1_000), ts_ns=DAY_NS + MINUTE_NS - 6 * NS)
    assert on_bar(bars, forming) == "future"
    assert bars.bars == []
    assert on_bar(bars, msgspec.structs.replace(forming, ts_ns=DAY_NS + MINUTE_NS - 5 * NS)) == ""


def test_mids_fold_into_a_bar_when_the_minute_turns() -> None:
    bars = Bars()
    fold(bars, 0, 2_000)
    assert fold(bars, 1, 2_002, 2_010, 1_998, 2_005) == []
    [closed] = fold(bars, 2, 2_100)
    assert closed == bars_module.Bar(DAY_NS + MINUTE_NS, 1_001, 1_005, 999, 1_002, 0, "mids")
    assert (bars.bars, bars.source) == ([closed], "mids")


def test_the_part_of_a_minute_seen_after_a_start_or_a_gap_is_no_bar() -> None:
    bars = Bars()
    assert fold(bars, 0, 2_000) == fold(bars, 1, 2_000) == []
    assert len(fold(bars, 2, 2_000)) == 1
    assert len(fold(bars, 5, 2_000)) == 1, "minute 2 was whole"
    assert fold(bars, 6, 2_000) == [], "minute 5 came after a gap"
    assert [one.open_ts_ns for one in fold(bars, 7, 2_000)] == [DAY_NS + 6 * MINUTE_NS]


def test_a_clock_that_steps_back_starts_a_new_minute_and_closes_none() -> None:
    bars = Bars()
    fold(bars, 10, 2_000)
    fold(bars, 11, 2_000)
    assert fold(bars, 3, 2_000) == fold(bars, 4, 2_000) == []
    assert [one.open_ts_ns for one in fold(bars, 5, 2_000)] == [DAY_NS + 4 * MINUTE_NS]


def test_the_venues_bar_wins_whichever_comes_first() -> None:
    first = Bars()
    fold(first, 0, 2_000)
    fold(first, 1, 2_000)
    on_bar(first, bar(1, 1_234))
    assert fold(first, 2, 2_000) == []
    later = Bars()
    fold(later, 0, 2_000)
    fold(later, 1, 2_000)
    fold(later, 2, 2_000)
    assert on_bar(later, bar(1, 1_234)) == ""
    assert first.bars == later.bars
    assert later.bars[0].close_ticks == 1_234
    assert (later.source, later.replaced, first.replaced) == ("venue", 1, 0)


def test_a_warm_up_that_comes_after_bars_from_mids_is_taken_all_the_same() -> None:
    """The venue could not be read in the first minutes: it must not cost a day of history."""
    bars = Bars()
    for minute in range(100, 104):
        fold(bars, minute, 2_000, 2_001)
    assert ([one.open_ts_ns for one in bars.bars], bars.ema50_ticks) == (
        [DAY_NS + minute * MINUTE_NS for minute in (101, 102)],
        None,
    )
    for minute in range(101):
        assert on_bar(bars, bar(minute, 1_000)) == ""
    assert [one.open_ts_ns for one in bars.bars] == [DAY_NS + minute * MINUTE_NS for minute in range(103)]
    assert [one.source for one in bars.bars[-3:]] == ["venue", "mids", "mids"]
    assert (band_count(bars), bars.atr14_bps, bars.ema50_ticks) == (103 - bars_module.ATR_BARS, 0.0, 1_000.0)


def test_minutes_that_were_missed_are_filled_when_the_venue_can_be_read_again() -> None:
    bars = fed([1_000] * 60)
    on_bar(bars, bar(70, 1_000))
    assert (bars.atr14_bps, bars.ema50_ticks) == (None, None)
    for minute in range(60, 71):
        on_bar(bars, bar(minute, 1_000))
    assert bars == msgspec.structs.replace(fed([1_000] * 71), ignored={"repeat": 1})


def test_a_full_history_takes_nothing_from_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars_module, "BARS_KEPT", 40)
    bars = fed([1_000] * 45)
    before = list(bars.bars)
    assert on_bar(bars, bar(4, 1_777)) == "older"
    assert (bars.bars, bars.ignored, len(bars.bands)) == (before, {"older": 1}, 40)


def test_an_old_bar_brings_no_figure_back_that_a_hole_withdrew() -> None:
    bars = fed([1_000] * 30)
    fold(bars, 40, 2_000)
    assert bars.atr14_bps is None
    assert on_bar(bars, bar(-1, 1_000)) == ""
    assert bars.atr14_bps is None
    for minute in range(30, 40):
        on_bar(bars, bar(minute, 1_000))
    assert bars.atr14_bps == 0.0


def test_the_source_is_mids_once_two_bars_of_the_venue_are_lacking() -> None:
    """One is always lacking for the seconds until the venue publishes it."""
    bars = fed([1_000] * 3)
    assert Bars().source == ""
    sources: list[str] = []
    for minute in range(2, 8):
        fold(bars, minute, 2_000, 2_001)
        sources.append(bars.source)
    assert sources == ["venue", "venue", "venue", "mids", "mids", "mids"]
    on_bar(bars, bar(6, 1_000))
    assert bars.source == "venue"


@given(
    st.lists(st.tuples(st.integers(950, 1_050), st.integers(0, 30), st.integers(0, 30)), min_size=20, max_size=40),
    st.dictionaries(st.integers(0, 38), st.booleans(), max_size=25),
)
@settings(max_examples=60, deadline=None)
def test_venue_bars_that_come_late_leave_what_they_would_have_made_in_time(
    shapes: list[tuple[int, int, int]], late: dict[int, bool]
) -> None:
    """Of the late ones, some minutes had a bar from mids in the meantime and some had none."""
    venue = [bar(minute, close, close + up, close - down) for minute, (close, up, down) in enumerate(shapes)]
    alone, mixed = Bars(), Bars()
    for minute, one in enumerate(venue):
        on_bar(alone, one)
        if minute not in late:
            on_bar(mixed, one)
        elif late[minute]:
            on_bar(mixed, bar(minute, 1_000, source="mids"))
    for minute in sorted(late, reverse=True):
        if minute < len(venue):
            assert on_bar(mixed, venue[minute]) == ""
    assert mixed.replaced == sum(folded for minute, folded in late.items() if minute < len(venue))
    assert (mixed.bars, mixed.bands, mixed.sorted_bands) == (alone.bars, alone.bands, alone.sorted_bands)
    assert (mixed.atr14_bps, mixed.ema50_ticks) == (alone.atr14_bps, alone.ema50_ticks)


@given(st.lists(st.integers(1_900, 2_100), min_size=1, max_size=50))
@settings(max_examples=60, deadline=None)
def test_the_forming_bar_is_never_counted(mids_x2: list[int]) -> None:
    bars = fed([1_000] * 60)
    fold(bars, 60, 2_000)
    fold(bars, 61, 2_000)
    before = bars.atr14_bps, bars.ema50_ticks, list(bars.bars), list(bars.sorted_bands)
    fold(bars, 61, *mids_x2)
    assert (bars.atr14_bps, bars.ema50_ticks, bars.bars, bars.sorted_bands) == before
    [closed] = fold(bars, 62, 2_000)
    whole = [2_000, *mids_x2]
    assert (closed.high_ticks, closed.low_ticks, closed.close_ticks) == (
        max(whole) // 2,
        min(whole) // 2,
        whole[-1] // 2,
    )


def test_memory_is_bounded_and_a_checkpoint_restores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars_module, "BARS_KEPT", 40)
    monkeypatch.setattr(bars_module, "BANDS_USED", 30)
    bars = fed([1_000 + n % 7 for n in range(100)])
    assert (len(bars.bars), len(bars.bands), band_count(bars)) == (40, 40, 30)
    assert bars.bars[0].open_ts_ns == DAY_NS + 60 * MINUTE_NS
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(bars), type=Bars) == bars


def test_quantiles_are_of_the_last_bands_and_linear_between_them() -> None:
    bars = Bars()
    assert band_quantile_bps(bars, 0.7) is None
    bars.sorted_bands = [1.0, 2.0, 4.0, 8.0, 16.0]
    assert [band_quantile_bps(bars, q) for q in (0, 0.25, 0.7, 1)] == [1.0, 2.0, pytest.approx(7.2), 16.0]
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="quantile"):
            band_quantile_bps(bars, q)


def test_bands_are_collected_at_every_close_once_there_is_an_atr() -> None:
    bars = fed([1_000] * 15)
    on_bar(bars, bar(15, 1_000, 1_014, 1_000))
    assert (band_count(bars), bars.sorted_bands) == (2, [0.0, pytest.approx(10.0)])
    assert bars.atr14_bps == pytest.approx(10.0)


def sampled(seconds: range, x2: int = 20_000) -> Bars:
    bars = Bars()
    for s in seconds:
        sample_mid(bars, x2, s * NS)
    return bars


def test_drift_is_signed_and_over_thirty_seconds() -> None:
    bars = sampled(range(1, 41))
    sample_mid(bars, 20_020, 41 * NS)
    assert drift30_bps(bars, 41 * NS) == pytest.approx(10.0)
    sample_mid(bars, 19_980, 42 * NS)
    assert drift30_bps(bars, 42 * NS) == pytest.approx(-10.0)


@pytest.mark.parametrize(
    ("then_s", "available"), [(10, False), (27.9, False), (28, True), (30, True), (32, True), (32.1, False)]
)
def test_thirty_seconds_ago_is_within_two_seconds_or_unavailable(then_s: float, available: bool) -> None:
    """Now is 60 s; the sample before the gap was taken at `then_s`, the next at 59 s."""
    bars = Bars()
    sample_mid(bars, 20_000, round(then_s * NS))
    sample_mid(bars, 20_010, 59 * NS)
    sample_mid(bars, 20_020, 60 * NS)
    drift = drift30_bps(bars, 60 * NS)
    assert drift == (pytest.approx(10.0) if available else None)


def test_of_the_samples_around_thirty_seconds_ago_the_nearest_is_taken() -> None:
    for at_s, expected in ((60.0, 20.0), (60.4, 20.0), (60.5, 20.0), (60.6, 10.0)):
        bars = Bars()
        sample_mid(bars, 20_000, 30 * NS)
        sample_mid(bars, 20_020, 31 * NS)
        sample_mid(bars, 20_040, 60 * NS)
        assert drift30_bps(bars, round(at_s * NS)) == pytest.approx(expected, rel=2e-3)


def test_without_a_fresh_mid_there_is_no_drift() -> None:
    bars = sampled(range(1, 61))
    assert drift30_bps(Bars(), 60 * NS) is None
    assert drift30_bps(bars, 62 * NS) == 0.0
    assert drift30_bps(bars, 62 * NS + 1) is None


def test_samples_that_are_none_or_go_back_in_time_are_not_taken_and_the_ring_is_bounded() -> None:
    bars = sampled(range(1, 200))
    size = len(bars.sample_x2)
    sample_mid(bars, 0, 200 * NS)
    sample_mid(bars, 1, 199 * NS)
    sample_mid(bars, 1, 150 * NS)
    assert len(bars.sample_x2) == len(bars.sample_mono_ns) == size <= 36


def test_absolute_drifts_are_collected_every_half_minute_into_a_bounded_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bars_module, "DRIFTS_KEPT", 5)
    bars = Bars()
    assert drift_quantile_bps(bars, 0.97) is None
    x2 = 2_000_000
    for s in range(1, 30 * 12 + 2):
        if s % 30 == 2:
            x2 += (-1) ** (s // 30) * (s // 30) * 200
        sample_mid(bars, x2, s * NS)
    assert drift_count(bars) == 5
    assert len(bars.drifts) == 5
    assert sorted(bars.drifts) == bars.sorted_drifts
    assert bars.sorted_drifts == pytest.approx([7, 8, 9, 10, 11], rel=1e-2)
    assert drift_quantile_bps(bars, 0.5) == bars.sorted_drifts[2]


def test_a_clock_that_ran_ahead_and_stepped_back_does_not_stop_the_bars() -> None:
    """Ten minutes of mids an hour ahead: no true bar, the venue's or our own, may be older than those for an hour."""
    bars = fed([1_000 + n % 7 for n in range(20)])
    for minute in range(80, 91):
        fold(bars, minute, 4_000, 4_001)
    assert bars.bars[-1].source == "mids"
    for minute in range(20, 40):
        assert len(fold(bars, minute, 2_000 + minute % 5, 2_001)) == (minute > 21)  # the first after a step is a part
        if minute % 2:
            assert on_bar(bars, bar(minute - 1, 1_000)) == ""
    assert bars.bars[-1].open_ts_ns == DAY_NS + 38 * MINUTE_NS
    assert len(bars.bands) == len(bars.bars)
    assert bars.ignored == {"unborn": 9}
    assert bars.atr14_bps is not None
    assert [one.open_ts_ns for one in bars.bars] == sorted({one.open_ts_ns for one in bars.bars})


def test_the_venues_own_bars_stay_though_our_clock_stepped_behind_them() -> None:
    bars = fed([1_000] * 20)
    fold(bars, 5, 2_000, 2_001)
    assert len(bars.bars) == 20
    assert bars.atr14_bps is not None


def test_a_clock_that_trembles_at_the_turn_of_a_minute_takes_no_bar_back() -> None:
    bars = Bars()
    for minute in range(3):
        fold(bars, minute, 2_000, 2_001)
    turn_ns = DAY_NS + 3 * MINUTE_NS
    assert on_mid(bars, 2_000, turn_ns + 1) is not None
    on_mid(bars, 2_000, turn_ns - 1)
    assert len(bars.bars) == 2
    assert bars.ignored == {}
