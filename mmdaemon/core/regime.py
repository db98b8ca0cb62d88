"""What the market is doing: five regimes from one-minute bars and the drift of the mid.

    band  = ATR(14) / price,    drift = |mid change| over 30 s,    trend: price beyond EMA(50) by max(floor, 4 * band)
    shock beats trend beats middle beats calm

    shock   band >= max(shock floor, its own shock quantile)  or  drift >= max(drift floor, its shock quantile)
    up/down price above/below EMA(50) by the trend distance
    middle  band >= max(middle floor, its own middle quantile)
    calm    otherwise

While there are too few bars to know the band it is taken for middle: unknown is not calm.

Quantiles are over the instrument's own last 1,440 bars and count from `quantile_min_bars` on; before that the floors
stand alone. Entering a more protective regime is immediate; a less protective one must have been seen throughout
`dwell_ns` first.
"""

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


class Detector(msgspec.Struct):
    """The detector's slice."""

    regime: Regime = Regime.NEUTRAL_HIGH_VOL
    seen: Regime = Regime.NEUTRAL_HIGH_VOL
    """What the figures say now; `regime` follows at once or after the dwell."""
    seen_ns: int = 0
    """Since when nothing as protective as `regime` has been seen; 0 = it is still seen."""
    band_bps: float = 0.0
    drift_bps: float | None = None
    """Signed; None where there was no mid 30 s ago."""
    transitions: int = 0


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


def classify(bars: Bars, drift_bps: float | None, params: DetectorParams) -> Regime:
    """The regime that the figures say, with no memory."""
    band = bars.atr14_bps
    if drift_bps is not None and abs(drift_bps) >= _threshold(
        params.shock_drift_bps,
        bar_rules.drift_quantile_bps(bars, params.shock_quantile),
        bar_rules.drift_count(bars),
        params,
    ):
        return Regime.HIGH_VOL_SHOCK
    if band is None:
        return Regime.NEUTRAL_HIGH_VOL
    count = bar_rules.band_count(bars)
    shock = _threshold(params.shock_band_bps, bar_rules.band_quantile_bps(bars, params.shock_quantile), count, params)
    if band >= shock:
        return Regime.HIGH_VOL_SHOCK
    ema = bars.ema50_ticks
    if ema is not None:
        distance_bps = (bars.bars[-1].close_ticks / ema - 1.0) * 1e4
        if abs(distance_bps) > max(params.trend_floor_bps, _TREND_BANDS * band):
            return Regime.UP if distance_bps > 0 else Regime.DOWN
    middle = _threshold(
        params.middle_band_bps, bar_rules.band_quantile_bps(bars, params.middle_quantile), count, params
    )
    return Regime.NEUTRAL_HIGH_VOL if band >= middle else Regime.NEUTRAL_LOW_VOL


def _threshold(floor_bps: float, quantile_bps: float | None, count: int, params: DetectorParams) -> float:
    if quantile_bps is None or count < params.quantile_min_bars:
        return floor_bps
    return max(floor_bps, quantile_bps)


def _follow(detector: Detector, bars: Bars, mono_ns: int, params: DetectorParams) -> bool:
    detector.seen = classify(bars, detector.drift_bps, params)
    if detector.seen is detector.regime:
        detector.seen_ns = 0
        return False
    if _RANK[detector.seen] < _RANK[detector.regime]:
        if not detector.seen_ns:
            detector.seen_ns = mono_ns
        if mono_ns - detector.seen_ns < params.dwell_ns:
            return False
    detector.regime = detector.seen
    detector.seen_ns = 0
    detector.transitions += 1
    return True
