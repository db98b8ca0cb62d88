"""What the market is doing: five regimes from one-minute bars and the drift of the mid.

    band = ATR(14) / price        drift = |mid change| over 30 s        trend = close / EMA(50) − 1        all in bps

    regime             figure   is entered at, mode "quantile"               mode "absolute"
    high_vol_shock     drift    max(shock_drift_bps, its shock quantile)     shock_drift_bps
    high_vol_shock     band     max(shock_band_bps, its shock quantile)      absolute_shock_bps
    up, down           ±trend   max(trend_floor_bps, 4 · band)               the same
    neutral_high_vol   band     max(middle_band_bps, its middle quantile)    absolute_middle_bps
    neutral_low_vol    none of these

The first row that holds is the regime: `ROWS`. Where there is no band it is neutral_high_vol at least: unknown is not
calm. Quantiles are over the instrument's own last 1,440 bars, for the drift over as many minutes, and count from
`quantile_min_bars` on; before that the floors stand alone.

A regime that protects as much or more is entered at once. One that protects less is entered only
  * once the figures of the one to be left are below `exit_share` times what it is entered at (hysteresis),
  * and were so throughout `dwell_ns`,
  * and, to leave a shock, the figure that held it is known: what a gap hides is not over.
"""

from collections.abc import Callable

import msgspec

from mmdaemon.core import bars as bar_rules
from mmdaemon.core.bars import Bars
from mmdaemon.core.params import DetectorParams, Params
from mmdaemon.core.types import Regime

PROTECTION: tuple[Regime, ...] = (
    Regime.NEUTRAL_LOW_VOL,
    Regime.NEUTRAL_HIGH_VOL,
    Regime.UP,
    Regime.DOWN,
    Regime.HIGH_VOL_SHOCK,
)
"""Least to most protective. UP and DOWN protect alike: from one to the other is immediate too."""
_RANK = {
    Regime.NEUTRAL_LOW_VOL: 0,
    Regime.NEUTRAL_HIGH_VOL: 1,
    Regime.UP: 2,
    Regime.DOWN: 2,
    Regime.HIGH_VOL_SHOCK: 3,
}
_TREND_BANDS = 4.0
_DRIFTS_A_BAR = bar_rules.MINUTE_NS // bar_rules.DRIFT_NS


def more_protective(regime: Regime, other: Regime | None) -> Regime:
    """The more protective of both; `regime` where they protect alike, or there is no other."""
    return regime if other is None or _RANK[other] <= _RANK[regime] else other


class Detector(msgspec.Struct):
    """The detector's slice."""

    regime: Regime = Regime.NEUTRAL_HIGH_VOL
    seen: Regime = Regime.NEUTRAL_HIGH_VOL
    """What the figures say now; `regime` follows at once or later."""
    seen_ns: int = 0
    """Since when nothing as protective as `regime` has been seen; 0 = it is still seen."""
    shock_by: str = ""
    """In a shock, the figure that held it last: "drift" or "band"; else empty."""
    band_bps: float = 0.0
    drift_bps: float | None = None
    """Signed; None where there was no mid 30 s ago."""
    transitions: int = 0


class Row(msgspec.Struct, frozen=True):
    """A line of the table: the regime holds while the figure is known and at least what it is entered at, both bps."""

    regime: Regime
    figure: str
    value_bps: Callable[[Bars, float | None], float | None]
    """Of the bars and the signed drift; None where it is unknown."""
    enters_at_bps: Callable[[Bars, DetectorParams], float]


def on_bar(detector: Detector, bars: Bars, mono_ns: int, params: Params) -> bool:
    """A bar closed. True where the regime or the band changed."""
    before = detector.band_bps
    band = bars.atr14_bps
    detector.band_bps = round(band, 2) if band is not None else 0.0
    return _follow(detector, bars, mono_ns, params.detector) or before != detector.band_bps


def on_timer(detector: Detector, bars: Bars, mono_ns: int, params: Params) -> bool:
    """Once a second: drift can raise a shock between bars. True where the regime changed."""
    detector.drift_bps = bar_rules.drift30_bps(bars, mono_ns)
    return _follow(detector, bars, mono_ns, params.detector)


def classify(bars: Bars, drift_bps: float | None, params: DetectorParams, held: Regime | None = None) -> Regime:
    """The regime that the figures say. `held` is the one that stands, which is left by hysteresis."""
    return _seen(bars, drift_bps, params, held)[0]


def _seen(bars: Bars, drift_bps: float | None, params: DetectorParams, held: Regime | None) -> tuple[Regime, str]:
    """The regime and the figure that says so."""
    if params.fixed is not None:
        return params.fixed, ""
    for row in ROWS:
        value_bps = row.value_bps(bars, drift_bps)
        share = params.exit_share if row.regime is held else 1.0
        if value_bps is not None and value_bps >= share * row.enters_at_bps(bars, params):
            return row.regime, row.figure
    return (Regime.NEUTRAL_LOW_VOL if bars.atr14_bps is not None else Regime.NEUTRAL_HIGH_VOL), ""


def _follow(detector: Detector, bars: Bars, mono_ns: int, params: DetectorParams) -> bool:
    held = detector.regime
    detector.seen, figure = _seen(bars, detector.drift_bps, params, held)
    if detector.seen is Regime.HIGH_VOL_SHOCK:
        detector.shock_by = figure
    if detector.seen is held:
        detector.seen_ns = 0
        return False
    if _RANK[detector.seen] < _RANK[held] and params.fixed is None:
        if not detector.seen_ns:
            detector.seen_ns = mono_ns
        if mono_ns - detector.seen_ns < params.dwell_ns or _is_hidden(detector, bars):
            return False
    detector.regime = detector.seen
    if detector.regime is not Regime.HIGH_VOL_SHOCK:
        detector.shock_by = ""
    detector.seen_ns = 0
    detector.transitions += 1
    return True


def _is_hidden(detector: Detector, bars: Bars) -> bool:
    """Whether the figure that held a shock is unknown now."""
    return any(
        row.value_bps(bars, detector.drift_bps) is None
        for row in ROWS
        if row.regime is detector.regime and row.figure == detector.shock_by
    )


# --- the figures ------------------------------------------------------------------------------------------------------


def _drift_bps(_bars: Bars, drift_bps: float | None) -> float | None:
    return None if drift_bps is None else abs(drift_bps)


def _band_bps(bars: Bars, _drift: float | None) -> float | None:
    return bars.atr14_bps


def _above_bps(bars: Bars, _drift: float | None) -> float | None:
    if bars.ema50_ticks is None or bars.atr14_bps is None:
        return None
    return (bars.bars[-1].close_ticks / bars.ema50_ticks - 1.0) * 1e4


def _below_bps(bars: Bars, drift_bps: float | None) -> float | None:
    above = _above_bps(bars, drift_bps)
    return None if above is None else -above


# --- what they are entered at -----------------------------------------------------------------------------------------


def _shock_drift_bps(bars: Bars, params: DetectorParams) -> float:
    known = bar_rules.drift_count(bars) // _DRIFTS_A_BAR
    quantile = bar_rules.drift_quantile_bps(bars, params.shock_quantile)
    return _threshold(params.shock_drift_bps, params.shock_drift_bps, quantile, known, params)


def _shock_band_bps(bars: Bars, params: DetectorParams) -> float:
    quantile = bar_rules.band_quantile_bps(bars, params.shock_quantile)
    return _threshold(params.absolute_shock_bps, params.shock_band_bps, quantile, bar_rules.band_count(bars), params)


def _middle_band_bps(bars: Bars, params: DetectorParams) -> float:
    quantile = bar_rules.band_quantile_bps(bars, params.middle_quantile)
    return _threshold(params.absolute_middle_bps, params.middle_band_bps, quantile, bar_rules.band_count(bars), params)


def _trend_bps(bars: Bars, params: DetectorParams) -> float:
    return max(params.trend_floor_bps, _TREND_BANDS * (bars.atr14_bps or 0.0))


def _threshold(
    absolute_bps: float, floor_bps: float, quantile_bps: float | None, known_bars: int, params: DetectorParams
) -> float:
    if params.mode == "absolute":
        return absolute_bps
    if quantile_bps is None or known_bars < params.quantile_min_bars:
        return floor_bps
    return max(floor_bps, quantile_bps)


ROWS: tuple[Row, ...] = (
    Row(Regime.HIGH_VOL_SHOCK, "drift", _drift_bps, _shock_drift_bps),
    Row(Regime.HIGH_VOL_SHOCK, "band", _band_bps, _shock_band_bps),
    Row(Regime.UP, "trend", _above_bps, _trend_bps),
    Row(Regime.DOWN, "trend", _below_bps, _trend_bps),
    Row(Regime.NEUTRAL_HIGH_VOL, "band", _band_bps, _middle_band_bps),
)
"""Strongest first."""
