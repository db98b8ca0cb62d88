"""Metrics of the strategy: what regimes are told by, what a quote must earn, and what its judges say of each side."""

from collections.abc import Callable
from typing import Final

from mmdaemon.core.decision import DeriskStage
from mmdaemon.core.fill_quality import Phase
from mmdaemon.core.types import NS
from mmdaemon.ops.metric import BPS, Metric, Reading, Samples, counter, gauge, is_state, one
from mmdaemon.ops.status import MarkoutView, SideView


def _edges(reading: Reading) -> Samples:
    edges = reading.status.edge_bps
    return [((side, addend), bps * BPS) for side, parts in edges.items() for addend, bps in parts.items()]


def _signal(reading: Reading) -> Samples:
    return [((name,), bps * BPS) for name, bps in reading.status.signal_features.items()]


def _said(reading: Reading) -> Samples:
    counts = reading.status.signal_counts
    return [((source, what), float(n)) for source, said in counts.items() for what, n in said.items()]


def _effect(reading: Reading) -> Samples:
    return [((name.removesuffix("_bps"),), value) for name, value in reading.status.signal_effect.items()]


def _thresholds(reading: Reading) -> Samples:
    return [((row.regime, row.figure), row.enters_at_bps * BPS) for row in reading.status.regime_rows]


def _multipliers(reading: Reading) -> Samples:
    s = reading.status
    return [(("drift",), s.drift_multiplier), (("tracker",), s.tracker_multiplier)]


def _sides(read: Callable[[SideView], float | None]) -> Callable[[Reading], Samples]:
    """A value a side; absent where it is None."""

    def samples(reading: Reading) -> Samples:
        values = [(side, read(view)) for side, view in reading.status.sides.items()]
        return [((side,), float(value)) for side, value in values if value is not None]

    return samples


def _ratio(bps: float | None) -> float | None:
    return None if bps is None else bps * BPS


def _pulls(reading: Reading) -> Samples:
    sides = reading.status.sides.items()
    return [((side, phase.value), float(view.pull == phase)) for side, view in sides for phase in Phase]


def _fees(reading: Reading) -> Samples:
    fees = reading.status.fees
    return () if fees is None else [(("maker",), fees.maker_bps * BPS), (("taker",), fees.taker_bps * BPS)]


def _markouts(read: Callable[[MarkoutView], float]) -> Callable[[Reading], Samples]:
    return lambda reading: [((m.side, f"{m.horizon_s}s"), read(m)) for m in reading.status.markouts]


STRATEGY: Final[tuple[Metric, ...]] = (
    gauge(
        "regime_threshold_ratio",
        "What the figure of a regime is entered at now, as a share of price.",
        _thresholds,
        *("regime", "figure"),
    ),
    gauge(
        "band_ratio",
        "Volatility band, ATR(14) of minute bars over price. Absent if unknown.",
        one(lambda s: _ratio(s.band_bps)),
    ),
    gauge(
        "drift_ratio",
        "Change of the mid over 30 s, signed, as a share of it. Absent if unknown.",
        one(lambda s: _ratio(s.drift_bps)),
    ),
    gauge(
        "sigma_ratio",
        "Volatility of the mid over one second, as a share of it. Absent if unknown.",
        one(lambda s: _ratio(s.sigma_bps)),
    ),
    gauge("spread_multiplier", "What the half-spread is multiplied with, by what for.", _multipliers, "of"),
    gauge("signal_ratio", "How far the short-horizon signal moves fair value.", one(lambda s: s.signal_bps * BPS)),
    gauge("signal_feature_ratio", "What the signal is made of, as shares of the mid.", _signal, "feature"),
    counter(
        "signals",
        "Signals of sources outside, by what became of them: applied, shadow, or why refused.",
        _said,
        *("source", "outcome"),
    ),
    gauge(
        "signal_effect",
        "What signals do now: target (share of the largest position), direction (bps), size and spread (multipliers).",
        _effect,
        "of",
    ),
    gauge(
        "required_edge_ratio",
        "What a quote must earn, by addend, as a share of price; the addends sum to the whole.",
        _edges,
        "side",
        "addend",
    ),
    gauge(
        "required_edge_limit_ratio",
        "What the edge gate holds the required edge against: half of the regime's widest spread.",
        _sides(lambda side: side.most_bps * BPS),
        "side",
    ),
    gauge(
        "edge_gate_blocked",
        "1 while the market cannot pay what a quote of the side must earn.",
        _sides(lambda side: float(side.gate == "blocked")),
        "side",
    ),
    gauge(
        "edge_gate_beyond_seconds",
        "How long the required edge has been beyond that; 0 while it is not.",
        _sides(lambda side: side.gate_for_s),
        "side",
    ),
    gauge("side_pull", "1 for what the side's own fills led to, 0 for others.", _pulls, "side", "state"),
    gauge(
        "net_markout_ratio",
        "Mean net markout of a side's fills as last judged. Absent until it was.",
        _sides(lambda side: _ratio(side.net_bps)),
        "side",
    ),
    gauge(
        "net_markout_bound_ratio",
        "Its upper 95 per cent bound: below 0 with fills enough, the side is pulled.",
        _sides(lambda side: _ratio(side.net_upper_bps)),
        "side",
    ),
    gauge("size_share", "Share of the normal size that a side quotes.", _sides(lambda side: side.size_share), "side"),
    gauge("carry_ratio", "Expected funding cost of being long, capped.", one(lambda s: s.carry_bps * BPS)),
    gauge(
        "funding_rate_ratio",
        "Predicted rate of the next settlement, positive if longs pay. Absent if unknown.",
        one(lambda s: None if s.funding is None else s.funding.rate),
    ),
    gauge(
        "funding_timestamp_seconds",
        "When the next settlement is (UTC). Absent if unknown.",
        one(lambda s: None if s.funding is None else s.funding.next_ts_ns / NS),
    ),
    gauge("fee_rate_ratio", "The account's own fee rates. Absent if unknown.", _fees, "of"),
    gauge(
        "derisk_stage",
        "1 for how urgently the position is worked down, 0 for others.",
        is_state(DeriskStage, lambda s: "none" if s.derisk is None else s.derisk.stage),
        "stage",
    ),
    gauge(
        "derisk_seconds",
        "How long the position has been worked down; 0 while it is not.",
        one(lambda s: 0.0 if s.derisk is None else s.derisk.for_s),
    ),
    gauge(
        "day_ending",
        "1 while the position must be flat before the trading day ends.",
        one(lambda s: s.derisk is not None and s.derisk.is_day_ending),
    ),
    counter("markouts", "Fills valued after a horizon, by our side.", _markouts(lambda m: m.count), "side", "horizon"),
    counter(
        "markouts_unavailable",
        "Fills that no healthy book could value after a horizon.",
        _markouts(lambda m: m.unavailable),
        *("side", "horizon"),
    ),
    gauge(
        "markout_sum_ratio",
        "Sum of the gross markouts of those valued, each as a share of fair value at the fill.",
        _markouts(lambda m: m.sum_bps * BPS),
        *("side", "horizon"),
    ),
)
