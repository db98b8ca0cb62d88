"""Shares of a made market to the second, and the issue's bar on the two recordings that it names."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.bars import MINUTE_NS
from mmdaemon.core.events import BarClosed, BookUpdate, Event, MarketEvent, SourceEnded, TradePrint
from mmdaemon.core.types import NS, Regime, Side
from mmdaemon.research import regimes
from mmdaemon.research.regimes import DEFAULT, BarSource, Found, defaults, play
from mmdaemon.tapes.rows import TapeError
from tests.tapes.made import INSTRUMENT

R = Regime
T0_NS = 1_767_225_600 * NS
MID = 100_000
PARAMS = defaults(INSTRUMENT)


def bar(minute: int, range_bps: float) -> BarClosed:
    start_ns, half = T0_NS + minute * MINUTE_NS, round(range_bps * MID / 2e4)
    shown_ns = start_ns + MINUTE_NS + 2 * NS
    return BarClosed(0, shown_ns, None, start_ns, MID, MID + half, MID - half, MID, 1, "venue")


def alone(events: list[Event]) -> Found:
    return play(events, {DEFAULT: PARAMS})[DEFAULT]


def test_shares_stays_and_changes_of_candles_are_counted_to_the_second() -> None:
    """A calm hour, a wild bar whose range is in the band for 14 minutes, and calm again."""
    found = alone([bar(minute, 80 if minute == 60 else 2) for minute in range(91)])
    assert (found.unknown_s, found.seconds) == (14 * 60, 76 * 60)
    seconds = {regime: round(share * found.seconds) for regime, share in found.share.items() if share}
    # The first second after a bar says what it changed, and the one in which the dwell is over is the next one's.
    shock_s = 14 * 60 + 29
    assert seconds == {
        R.NEUTRAL_HIGH_VOL: 29,
        R.HIGH_VOL_SHOCK: shock_s,
        R.NEUTRAL_LOW_VOL: 76 * 60 - 29 - shock_s,
    }
    assert found.spells_s[R.HIGH_VOL_SHOCK] == [shock_s]
    assert found.median_s(R.NEUTRAL_LOW_VOL) == sum(found.spells_s[R.NEUTRAL_LOW_VOL]) / 2
    assert found.median_s(R.UP) is None
    assert found.transitions == 3
    assert found.transitions_a_day == pytest.approx(3 * 86_400 / found.seconds)
    assert found.shock_by == {"band": found.share[R.HIGH_VOL_SHOCK]}
    assert (found.sources, found.drift_known) == ({"venue": 1.0}, 0.0)


class Market:
    """A book a second whose mid stands but for one jump, and a print a minute; from `gap_s` on no book for a minute."""

    def __init__(self, minutes: int, jump_s: int = -100, gap_s: int = -100) -> None:
        self.instrument = INSTRUMENT
        self.start_ts_ns = T0_NS
        self.provenance: dict[str, str] = {}
        self.refused: dict[str, int] = {}
        self.seconds = 60 * minutes
        self.jump_s = jump_s
        self.gap_s = gap_s

    def events(self) -> Iterator[MarketEvent]:
        for second in range(self.seconds):
            now = T0_NS + second * NS
            mid = MID + (200 if second == self.jump_s else 0)
            if not self.gap_s <= second < self.gap_s + 60:
                yield BookUpdate(0, now, now, ((mid - 1, 5),), ((mid + 1, 5),))
            if second % 60 == 30:
                yield TradePrint(0, now, now, MID - 1, 2, Side.SELL)
        end_ns = T0_NS + self.seconds * NS
        yield SourceEnded(0, end_ns, end_ns)


@pytest.mark.parametrize("bars", ["venue", "mids"])
def test_a_tape_brings_mids_so_that_drift_tells_a_shock(bars: BarSource) -> None:
    found = alone(list(regimes.of_tape(Market(30, jump_s=1_500), bars)))
    assert found.sources == {bars: 1.0}
    assert found.drift_known > 0.99
    # Seen with the jump, and 30 s later against it; then the dwell.
    assert found.spells_s[R.HIGH_VOL_SHOCK] == [61]
    assert set(found.shock_by) == {"drift"}


def test_bars_of_the_venue_are_of_prints_and_come_two_seconds_after_their_minute() -> None:
    events = list(regimes.of_tape(Market(3), "venue"))
    shown = [event for event in events if isinstance(event, BarClosed)]
    assert {(one.open_ticks, one.qty_lots) for one in shown} == {(MID - 1, 2)}
    assert [(one.ts_ns - T0_NS) // NS for one in shown] == [62, 122, 122]
    assert [event.ts_ns for event in events] == sorted(event.ts_ns for event in events)
    assert not any(isinstance(event, BarClosed) for event in regimes.of_tape(Market(3), "mids"))


def test_drift_is_unknown_after_a_gap_and_the_time_goes_on() -> None:
    whole, torn = (alone(list(regimes.of_tape(Market(30, gap_s=at), "venue"))) for at in (-100, 1_200))
    assert torn.seconds == whole.seconds
    # 57 s without a mid within 2 s, and 28 s without one 30 s before.
    assert round((whole.drift_known - torn.drift_known) * whole.seconds) == 85


def test_variants_watch_the_same_bars_each_by_its_own_thresholds() -> None:
    events: list[Event] = [bar(minute, 80 if minute == 60 else 2) for minute in range(91)]
    variants = regimes.sensitivity(PARAMS)
    found = play(events, variants)
    assert next(iter(found)) == DEFAULT
    assert all(each.detector != PARAMS.detector for name, each in variants.items() if name != DEFAULT)
    assert found["mode absolute"].share[R.HIGH_VOL_SHOCK] == 0
    assert found["dwell_s 0"].spells_s[R.HIGH_VOL_SHOCK] == [14 * 60]
    for name in (DEFAULT, "dwell_s 0", "mode absolute", "neither dwell nor hysteresis"):
        assert play(events, {name: variants[name]})[name] == found[name]


def test_a_recording_without_a_band_is_refused() -> None:
    with pytest.raises(TapeError, match="15 one-minute bars in a row"):
        alone([bar(minute, 2) for minute in range(14)])


# --- the command ------------------------------------------------------------------------------------------------------


def candles_csv(path: Path, lines: int = 30) -> Path:
    rows = (f"{T0_NS // 1_000_000 + i * 60_000},100.0,100.1,99.95,100.0,3" for i in range(lines))
    path.write_text("\n".join((",".join(regimes.CANDLE_COLUMNS), *rows)) + "\n")
    return path


def test_candles_are_read_in_their_finest_step(tmp_path: Path) -> None:
    instrument, [first, *_] = regimes.read_candles(candles_csv(tmp_path / "a.csv"))
    assert instrument.tick_e10 == 10**8
    assert isinstance(first, BarClosed)
    assert (first.open_ticks, first.high_ticks, first.low_ticks, first.close_ticks) == (10_000, 10_010, 9_995, 10_000)
    assert (first.open_ts_ns, first.ts_ns, first.source) == (T0_NS, T0_NS + 62 * NS, "venue")


def test_the_table_is_printed_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = candles_csv(tmp_path / "a.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    assert regimes.main([str(path), "--sensitivity"]) == 0
    shown = capsys.readouterr().out
    for piece in (
        "neutral_high_vol",
        "never known: there are no mids",
        "Sensitivity",
        "exit_fraction 0.8",
        "mode absolute",
    ):
        assert piece in shown
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_played_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = candles_csv(tmp_path / "short.csv", 3)
    assert regimes.main([str(short)]) == 1
    assert "15 one-minute bars" in capsys.readouterr().err
    sick = candles_csv(tmp_path / "sick.csv")
    sick.write_text(sick.read_text().replace("99.95", "nan", 1))
    assert regimes.main([str(sick)]) == 1
    assert "sick.csv row 2: low is 'nan'" in capsys.readouterr().err
    assert regimes.main([str(tmp_path / "none")]) == 1
    assert "there is no such file" in capsys.readouterr().err


# --- the bar of the issue ---------------------------------------------------------------------------------------------


def check(found: Found) -> None:
    assert sum(found.share.values()) == pytest.approx(1)
    assert all(found.share[regime] > 0.01 for regime in Regime), found.share
    assert 0.005 < found.share[R.HIGH_VOL_SHOCK] < 0.08
    assert 50 < found.transitions_a_day < 300


def test_the_bitget_minutes(shared_data: Path) -> None:
    """Candles alone: no drift, shock by band."""
    instrument, events = regimes.read_candles(shared_data / "bitget_history" / "BTC-USDT_1m_2000.csv")
    found = play(events, {DEFAULT: defaults(instrument)})[DEFAULT]
    check(found)
    assert found.seconds + found.unknown_s == 1_999 * 60
    assert (found.drift_known, list(found.shock_by)) == (0, ["band"])


@pytest.mark.parametrize("bars", ["venue", "mids"])
def test_the_standx_day(shared_data: Path, bars: BarSource) -> None:
    """And why the default is not the quantile that the design had: two tails of 3 % add up, and each is lengthened by
    dwell and hysteresis."""
    instrument, events = regimes.open_any([shared_data / "standx_btc_perp"], bars)
    params = defaults(instrument)
    design = msgspec.structs.replace(params, detector=msgspec.structs.replace(params.detector, shock_quantile=0.97))
    told = play(events, {DEFAULT: params, "design": design})
    found = told[DEFAULT]
    check(found)
    assert set(found.shock_by) == {"band", "drift"}
    assert 0.85 < found.drift_known < 0.92  # the recorder is blind for a fifth of the day
    assert max(found.sources, key=lambda source: found.sources[source]) == bars
    assert told["design"].share[R.HIGH_VOL_SHOCK] > 0.1
