"""Slow factors of a quote: sampled when a timer, bar, fill or bill moves them, and constant in between.

Each is quantised to a step so small that it moves no quote by itself, so that a factor which creeps does not make every
second a new decision.

    sigma       sqrt of the mean squared change of the mid over one second, exponentially forgotten [bps / sqrt(s)]
    drift       1 + gain * (|drift over 30 s| - threshold), at once when it grows, back by a quarter of the way a second
    slow mid    EWMA of the mid, one second of weight 1/30
"""

from math import floor, sqrt
from typing import TYPE_CHECKING

import msgspec

from mmdaemon.core import cost, markout, risk
from mmdaemon.core.observe import regime_in_force
from mmdaemon.core.params import Params
from mmdaemon.core.types import NS, Side

if TYPE_CHECKING:
    from mmdaemon.core.state import State

_SLOW_MID_WEIGHT = 1.0 / 30.0
"""Weight of one second in the slow mid: a time constant of half a minute."""
_SIGMA_WEIGHT = 1.0 / 600.0
"""Weight of one second in sigma's mean: a time constant of ten minutes."""
_SIGMA_LEAST = 60
"""So many changes over one second before sigma is known."""
_SIGMA_GAP_NS = 3 * NS // 2
"""Two samples further apart are not one second apart."""
_DRIFT_DECAY = 0.25
"""Of the way back that the drift multiplier goes in a second: the desk's alpha."""


class Sampled(msgspec.Struct):
    """The slice. Changed only by the functions below."""

    carry_bps: float = 0.0
    has_carry: bool = False
    """Whether `carry_bps` is of a rate that was told."""
    drift_multiplier: float = 1.0
    adverse_buy_bps: float = 0.0
    adverse_sell_bps: float = 0.0
    turnover_bps: float = 0.0
    taker_share: float = 0.0
    sigma_bps: float = 0.0
    """Quantised; 0 until enough seconds were seen."""
    size_share: float = 1.0
    equity_e10: int = 0
    """Equity the sizes rest on, sampled once a minute and at each fill."""
    slow_mid_ticks: float = 0.0
    """EWMA of the mid, the second anchor of the price collar; 0 until there was a healthy book."""

    drift_raw: float = 1.0
    """The drift multiplier before it is quantised."""
    variance_bps2: float = 0.0
    """Mean squared change over one second."""
    changes: int = 0
    mid_x2: int = 0
    """Twice the mid of the last sample, and when that was."""
    mid_mono_ns: int = 0


def on_mid(sampled: Sampled, mid_x2: int, mono_ns: int) -> bool:
    """Once a second, with a healthy book. True where sigma moved by a step."""
    mid = mid_x2 / 2
    slow = sampled.slow_mid_ticks
    sampled.slow_mid_ticks = mid if not slow else slow + _SLOW_MID_WEIGHT * (mid - slow)
    if sampled.mid_x2 and mono_ns - sampled.mid_mono_ns <= _SIGMA_GAP_NS:
        moved_bps = (mid_x2 / sampled.mid_x2 - 1.0) * 1e4
        sampled.changes += 1
        weight = max(_SIGMA_WEIGHT, 1.0 / sampled.changes)
        sampled.variance_bps2 += weight * (moved_bps * moved_bps - sampled.variance_bps2)
    sampled.mid_x2, sampled.mid_mono_ns = mid_x2, mono_ns
    sigma = quantised(sqrt(sampled.variance_bps2), 0.02) if sampled.changes >= _SIGMA_LEAST else 0.0
    if sigma == sampled.sigma_bps:
        return False
    sampled.sigma_bps = sigma
    return True


def on_second(state: "State", params: Params) -> bool:
    """Size after a resume, and the drift multiplier. True where one of them moved."""
    sampled = state.sampled
    wide = _wide(state, params)
    sampled.drift_raw = max(wide, sampled.drift_raw + _DRIFT_DECAY * (wide - sampled.drift_raw))
    new = (size_share(state, params), quantised(sampled.drift_raw, 0.05))
    if new == (sampled.size_share, sampled.drift_multiplier):
        return False
    sampled.size_share, sampled.drift_multiplier = new
    return True


def sample_risk(state: "State") -> bool:
    """Equity for limits and sizes. True where sizes rest on another equity now."""
    risk.sample(state)
    if state.sampled.equity_e10 == state.risk.equity_e10:
        return False
    state.sampled.equity_e10 = state.risk.equity_e10
    return True


def sample_costs(state: "State", params: Params) -> bool:
    """Carry, adverse selection, turnover and the taker's share. True where one of them moved by a step."""
    sampled, venue = state.sampled, state.venue
    carry = 0.0
    funding = venue.funding
    if funding is not None:
        last = sampled.carry_bps if sampled.has_carry else None
        interval_ns = funding.interval_s * NS
        now = cost.carry_at_bps(funding.rate, funding.next_ts_ns, interval_ns, state.ts_ns, params.cost, last)
        carry = quantised(now, 0.01)
    sampled.has_carry = funding is not None
    # A hint from outside may ask for more edge, never for less: what the detector's own regime costs stays the least.
    rows = {state.detector.regime, regime_in_force(state)}
    buy = max(markout.adverse_bps(state.markouts, row, Side.BUY, state.mono_ns, params.cost) for row in rows)
    sell = max(markout.adverse_bps(state.markouts, row, Side.SELL, state.mono_ns, params.cost) for row in rows)
    day_turnover = state.position.turnover_e10 - state.risk.day_turnover_start_e10
    turnover = cost.turnover_bps(day_turnover, state.risk.equity_e10, params.cost)
    taker = cost.taker_share(venue.taken, state.mono_ns, params.cost)
    before = (
        sampled.carry_bps,
        sampled.adverse_buy_bps,
        sampled.adverse_sell_bps,
        sampled.turnover_bps,
        sampled.taker_share,
    )
    new = (carry, quantised(buy, 0.05), quantised(sell, 0.05), quantised(turnover, 0.05), quantised(taker, 0.005))
    if new == before:
        return False
    sampled.carry_bps, sampled.adverse_buy_bps, sampled.adverse_sell_bps = new[:3]
    sampled.turnover_bps, sampled.taker_share = new[3:]
    return True


def size_share(state: "State", params: Params) -> float:
    """Share of the normal size: less for a while after a resume."""
    resumed = state.risk.resumed_ns
    is_fresh = resumed > 0 and state.mono_ns - resumed < params.quotes.resume_ns
    return params.quotes.resume_size if is_fresh else 1.0


def quantised(value: float, step: float) -> float:
    # Adding 0.0 turns a negative zero into zero: it would compare equal and encode differently.
    return round(floor(value / step + 0.5) * step, 6) + 0.0


def _wide(state: "State", params: Params) -> float:
    """Wider while the mid runs: 1 up to the threshold, then by the gain."""
    drift = state.detector.drift_bps
    if drift is None:
        return 1.0
    beyond = abs(drift) - params.quotes.drift_threshold_bps
    return min(params.quotes.drift_multiplier_max, 1.0 + params.quotes.drift_gain * max(0.0, beyond))
