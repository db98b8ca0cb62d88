"""What each fill was worth later, and what that says of the next one: adverse selection per regime and side.

For a fill of side s at price p, M0 = F of the last healthy book before it and M_h = F at horizon h, all over M0:

    effective = s * (M0 - p),   impact_h = s * (M_h - M0),   markout_h = effective + impact_h            [bps]
    adverse(s) = min(cap, max(0, -mean impact_5s * n / (n + n0)))

The mean is weighted by time with constant tau (w = 1 - exp(-dt / tau), dt at most tau / 4 a fill), so that it
forgets, and decays to 0 without fills. A horizon that ends without a healthy book is unavailable and counted, never
taken as zero.
"""

from collections import deque
from math import exp

import msgspec

from mmdaemon.core.events import Fill
from mmdaemon.core.params import CostParams
from mmdaemon.core.types import BPS, NS, Regime, Side

HORIZONS_S = (1, 5, 30, 60)
_ADVERSE_HORIZON_S = 5


class Pending(msgspec.Struct):
    """A fill whose later value is not known yet."""

    trade_id: str
    side: Side
    regime: Regime
    mono_ns: int
    fair0_ticks: float
    px_ticks: int
    qty_lots: int
    next_horizon: int = 0


class Markout(msgspec.Struct, frozen=True, gc=False):
    """One matured horizon of one fill, in bps of M0."""

    trade_id: str
    horizon_s: int
    effective_bps: float
    impact_bps: float

    @property
    def markout_bps(self) -> float:
        return self.effective_bps + self.impact_bps


class Impact(msgspec.Struct):
    """Running mean of `impact_5s` for one regime and side."""

    mean_bps: float = 0.0
    fills: float = 0.0
    at_ns: int = 0


class Markouts(msgspec.Struct):
    pending: deque[Pending] = msgspec.field(default_factory=deque)
    impacts: dict[tuple[Regime, Side], Impact] = msgspec.field(default_factory=dict)
    unavailable: int = 0
    unpriced: int = 0
    """Fills that came with no healthy book before them: they have no markout."""
    impact_5s_e10: int = 0
    """Sum over fills of the money that the price moved against (-) or for (+) us within 5 s: the impact of
    attribution."""


def on_fill(markouts: Markouts, fill: Fill, fair_ticks: float | None, regime: Regime) -> None:
    """Start the windows of a fill."""
    if fair_ticks is None:
        markouts.unpriced += 1
        return
    markouts.pending.append(
        Pending(fill.trade_id, fill.side, regime, fill.mono_ns, fair_ticks, fill.px_ticks, fill.qty_lots)
    )


def on_timer(
    markouts: Markouts, now_ns: int, fair_ticks: float | None, unit_e10: int, params: CostParams
) -> tuple[Markout, ...]:
    """Close the horizons that are due. `fair_ticks` is None while there is no healthy book."""
    done: list[Markout] = []
    ended = False
    for pending in markouts.pending:
        while pending.next_horizon < len(HORIZONS_S):
            horizon_s = HORIZONS_S[pending.next_horizon]
            if now_ns < pending.mono_ns + horizon_s * NS:
                break
            pending.next_horizon += 1
            if fair_ticks is None:
                markouts.unavailable += 1
                continue
            effective = pending.side * (pending.fair0_ticks - pending.px_ticks) / pending.fair0_ticks / BPS
            move_ticks = pending.side * (fair_ticks - pending.fair0_ticks)
            impact = move_ticks / pending.fair0_ticks / BPS
            done.append(Markout(pending.trade_id, horizon_s, effective, impact))
            if horizon_s == _ADVERSE_HORIZON_S:
                markouts.impact_5s_e10 += round(move_ticks * pending.qty_lots * unit_e10)
                _learn(markouts, pending.regime, pending.side, impact, now_ns, params)
        ended = ended or pending.next_horizon == len(HORIZONS_S)
    if ended:
        # Wherever they stand: one that is stamped wrong must not keep all that came after it.
        markouts.pending = deque(each for each in markouts.pending if each.next_horizon < len(HORIZONS_S))
    return tuple(done)


def adverse_bps(markouts: Markouts, regime: Regime, side: Side, now_ns: int, params: CostParams) -> float:
    """Expected adverse move after a fill, in bps, at least 0: an addend of the required edge."""
    seen = markouts.impacts.get((regime, side))
    if seen is None:
        return 0.0
    faded = exp(-(now_ns - seen.at_ns) / params.adverse_tau_ns)
    fills = seen.fills * faded
    return min(params.adverse_cap_bps, max(0.0, -seen.mean_bps * faded * fills / (fills + params.adverse_prior_fills)))


def _learn(markouts: Markouts, regime: Regime, side: Side, impact: float, now_ns: int, params: CostParams) -> None:
    seen = markouts.impacts.setdefault((regime, side), Impact(at_ns=now_ns))
    tau_ns = params.adverse_tau_ns
    weight = 1.0 - exp(-min(now_ns - seen.at_ns, tau_ns // 4) / tau_ns) if seen.fills else 1.0
    seen.mean_bps += max(weight, 1.0 / (seen.fills + 1.0)) * (impact - seen.mean_bps)
    seen.fills = seen.fills * exp(-(now_ns - seen.at_ns) / tau_ns) + 1.0
    seen.at_ns = now_ns
