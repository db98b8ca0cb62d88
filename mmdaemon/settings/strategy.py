"""Settings of the strategy's parts that judge and act on their own: signal, GLFT, edge gate, fill quality, derisk.

As in `trading.py`: each section stands beside its conversion to the frozen numbers of `core.params`, the bounds are
compiled in, durations are seconds here and integer nanoseconds in the core.
"""

from pydantic import Field

from mmdaemon.core.params import (
    DeriskParams,
    GateParams,
    GlftParams,
    QualityParams,
    SignalParams,
    SignalsParams,
    SourceParams,
)
from mmdaemon.core.signals import OPINIONS, Kind
from mmdaemon.settings.running import Section, to_ns


class SignalSection(Section):
    """The short-horizon signal: where fair value is heading. `mmdaemon calibrate` fits the weights."""

    print_weight: float = Field(default=0.0, ge=-5, le=5, json_schema_extra={"unit": "bps a bp"})
    """Of a print that the venue stamped later than the book: its distance from the mid."""
    momentum_weight: float = Field(default=0.0, ge=-5, le=5, json_schema_extra={"unit": "bps a bp"})
    """Of the mid's distance from its mean over 5 s. Its sign differs from venue to venue."""
    gap_weight: float = Field(default=0.0, ge=-5, le=5, json_schema_extra={"unit": "bps a bp"})
    """Of how much further from the mid the asks stand than the bids."""
    lean_weight: float = Field(default=0.0, ge=-5, le=5, json_schema_extra={"unit": "bps a bp"})
    """Of the imbalance of the book, times how far it reaches."""
    depth_levels: int = Field(default=20, ge=1, le=50, json_schema_extra={"unit": "levels"})
    """Levels a side that the last two rest on."""
    cap_bps: float = Field(default=10.0, ge=0, le=50)
    """Most that the signal moves fair value; 0 turns it off."""

    def to_params(self) -> SignalParams:
        return SignalParams(
            weights=(self.print_weight, self.momentum_weight, self.gap_weight, self.lean_weight),
            depth_levels=self.depth_levels,
            cap_bps=self.cap_bps,
        )


_NAMES = r"^([a-z0-9][a-z0-9_-]{0,31}( [a-z0-9][a-z0-9_-]{0,31})*)?$"


class SignalsSection(Section):
    """Who outside may say what of the market (`docs/SIGNALS.md`), and how far that is followed."""

    sources: str = Field(default="operator", pattern=_NAMES)
    """Names of those who may, a space between; empty is nobody. `operator` is `mmdaemon signal`."""
    shadow_sources: str = Field(default="", pattern=_NAMES)
    """Those of them whose signals are judged and journaled, and do nothing."""
    careful_sources: str = Field(default="", pattern=_NAMES)
    """Those of them that may only make the daemon careful: size, spread, regime, pause."""
    min_confidence: float = Field(default=0.2, ge=0, le=1, json_schema_extra={"unit": "of 1"})
    """A source that is less sure is not heard."""
    max_age_s: float = Field(default=10.0, ge=0.1, le=600)
    """What was said longer ago, when it comes, is stale."""
    future_max_s: float = Field(default=1.0, ge=0, le=10)
    """A source's clock may be so far ahead of ours."""
    ttl_max_s: float = Field(default=3_600.0, ge=1, le=86_400)
    """Longest that a signal may hold."""
    rate_per_minute: int = Field(default=600, ge=1, le=6_000)
    """What a source says beyond that is dropped and counted. A sixth of it may come at once."""
    target_max_fraction: float = Field(default=0.5, ge=0, le=1)
    """Farthest that inventory is drawn to, of the largest position."""
    direction_cap_bps: float = Field(default=1.0, ge=0, le=10)
    """Farthest that a direction moves the reservation price."""
    size_min_fraction: float = Field(default=0.25, ge=0, le=1)
    """Least that is left of the size."""
    spread_max: float = Field(default=3.0, ge=1, le=10, json_schema_extra={"unit": "times"})
    """Most that the half-spread is multiplied by."""

    def to_params(self) -> SignalsParams:
        careful, shadow = self.careful_sources.split(), self.shadow_sources.split()
        return SignalsParams(
            sources={
                name: SourceParams(
                    kinds=tuple(kind for kind in Kind if name not in careful or kind not in OPINIONS),
                    shadow=name in shadow,
                    min_confidence=self.min_confidence,
                    max_age_ns=to_ns(self.max_age_s),
                    ttl_max_ns=to_ns(self.ttl_max_s),
                    rate_per_minute=self.rate_per_minute,
                )
                for name in self.sources.split()
            },
            future_max_ns=to_ns(self.future_max_s),
            target_max=self.target_max_fraction,
            direction_cap_bps=self.direction_cap_bps,
            size_min=self.size_min_fraction,
            spread_max=self.spread_max,
        )


class GlftSection(Section):
    """The closed form of Gueant, Lehalle and Fernandez-Tapia, used with `quotes.model = "glft"`."""

    gamma: float = Field(default=0.001, ge=1e-9, le=1_000, json_schema_extra={"unit": "1 / quote currency"})
    """Risk aversion, 1/(price x base)."""
    intensity_per_s: float = Field(default=0.5, ge=1e-6, le=1_000, json_schema_extra={"unit": "1/s"})
    """A: how often prints reach the mid."""
    decay_per_bp: float = Field(default=0.5, ge=1e-4, le=1_000, json_schema_extra={"unit": "1/bp"})
    """k: how fast that falls with the distance from the mid."""
    fit_r2: float = Field(default=0.0, ge=0, le=1, json_schema_extra={"unit": "R2"})
    """How good the fit of A and k was, as `mmdaemon calibrate` said; 0 is no fit."""
    fit_r2_min: float = Field(default=0.8, ge=0.5, le=1, json_schema_extra={"unit": "R2"})
    """With a poorer fit the model is refused."""

    def to_params(self) -> GlftParams:
        return GlftParams(gamma=self.gamma, intensity_per_s=self.intensity_per_s, decay_per_bp=self.decay_per_bp)


class GateSection(Section):
    """The edge gate: a side whose required edge is beyond half the regime's widest spread is not quoted."""

    enabled: bool = True
    """Off is for comparisons: quotes then stand at their floor, however far that is."""
    hold_s: float = Field(default=30.0, ge=0, le=3_600)
    """How long it must be beyond before the side is blocked."""
    return_fraction: float = Field(default=0.9, ge=0.1, le=0.99)
    """A blocked side returns below this fraction of it."""

    def to_params(self) -> GateParams:
        return GateParams(enabled=self.enabled, hold_ns=to_ns(self.hold_s), return_share=self.return_fraction)


class QualitySection(Section):
    """What our fills are worth: the tracker widens a regime, the pull takes a side out."""

    tracker_multiplier: float = Field(default=1.5, ge=1, le=5, json_schema_extra={"unit": "times"})
    """Half-spread multiplier of a regime whose fills lose; 1 turns the tracker off."""
    tracker_memory_s: float = Field(default=1_800.0, ge=60, le=86_400)
    """Time constant of the mean of gross markouts 30 s after our fills."""
    tracker_after_s: float = Field(default=1_800.0, ge=0, le=86_400)
    """How long that mean must lie below -(maker fee + least edge) before the regime widens."""
    tracker_return_fraction: float = Field(default=0.5, ge=0.05, le=0.95)
    """It narrows again above this fraction of that threshold."""
    pull: bool = True
    """Whether a side is taken out at all. Off is for comparisons."""
    pull_min_fills: int = Field(default=30, ge=10, le=1_000, json_schema_extra={"unit": "fills"})
    """So many fills of a side, before it is judged."""
    pull_horizon_s: int = Field(default=5, ge=1, le=60)
    """The net markout that a side is judged by: after 1, 5, 30 or 60 seconds."""
    pull_memory_s: float = Field(default=3_600.0, ge=300, le=86_400)
    """Older fills are not judged by."""
    pull_s: float = Field(default=900.0, ge=10, le=86_400)
    """How long a side is taken out whose net markout is below 0 with 95 % confidence."""
    return_s: float = Field(default=600.0, ge=0, le=86_400)
    """How long it quotes at the size of a resume after that."""

    def to_params(self) -> QualityParams:
        return QualityParams(
            tracker_widen=self.tracker_multiplier,
            tracker_tau_ns=to_ns(self.tracker_memory_s),
            tracker_after_ns=to_ns(self.tracker_after_s),
            tracker_return=self.tracker_return_fraction,
            pull_enabled=self.pull,
            pull_min_fills=self.pull_min_fills,
            pull_horizon_s=self.pull_horizon_s,
            pull_memory_ns=to_ns(self.pull_memory_s),
            pull_ns=to_ns(self.pull_s),
            return_ns=to_ns(self.return_s),
        )


class DeriskSection(Section):
    """How a position is worked down, while increases are blocked and before the trading day ends."""

    distance_bps: float = Field(default=3.0, ge=0, le=100)
    """From fair value, while there is time."""
    touch_after_s: float = Field(default=60.0, ge=0, le=86_400)
    """From then on it stands at the touch."""
    taker_after_s: float = Field(default=300.0, ge=0, le=86_400)
    """From then on it takes."""
    taking_bps: float = Field(default=20.0, ge=1, le=200)
    """Furthest from fair value that a taking slice may trade."""
    day_end_s: float = Field(default=300.0, ge=60, le=3_600)
    """So long before the rollover a position above the threshold is flattened; it takes in the last fifth of that."""
    day_end_position_fraction: float = Field(default=0.25, ge=0, le=1)
    """The threshold, as a fraction of the largest position; 1 carries every position over."""

    def to_params(self) -> DeriskParams:
        return DeriskParams(
            distance_bps=self.distance_bps,
            touch_after_ns=to_ns(self.touch_after_s),
            taker_after_ns=to_ns(self.taker_after_s),
            taking_bps=self.taking_bps,
            day_end_ns=to_ns(self.day_end_s),
            day_end_share=self.day_end_position_fraction,
        )
