"""Frozen numbers the core needs, built once from settings and journaled in full with every run.

Nothing here has a default: `mmdaemon.settings` owns defaults, bounds and units, and is the only place that builds
these. Durations are seconds in settings and integer nanoseconds here, because the core compares them with event times.
"""

import msgspec

from mmdaemon.core.types import Instrument, Regime


class RegimeParams(msgspec.Struct, frozen=True):
    """One row of the ladder table: how to quote in one regime."""

    spread_min_bps: float
    """Least full width between best bid and best ask."""
    spread_max_bps: float
    levels_min: int
    levels_max: int
    refresh_ns: int
    """Age at which a resting quote is moved to its target however near it is."""
    order_size: float
    """Quote value of one order, as a fraction of equity."""
    skew_gain: float
    """How strongly inventory moves the reservation price: k of `quotes.py`."""


class DetectorParams(msgspec.Struct, frozen=True):
    """Thresholds of the regime detector, `regime.py`."""

    mode: str
    """"quantile": floors and the instrument's own quantiles. "absolute": `absolute_*` alone."""
    fixed: Regime | None
    """The detector says nothing but this: for comparisons. None is what trades."""
    absolute_middle_bps: float
    absolute_shock_bps: float
    exit_share: float
    """Hysteresis: a regime is left once its figure is below this share of what it is entered at; at most 1."""
    middle_band_bps: float
    shock_band_bps: float
    shock_drift_bps: float
    middle_quantile: float
    shock_quantile: float
    quantile_min_bars: int
    """Below this many bars the floors above stand alone."""
    trend_floor_bps: float
    dwell_ns: int
    """How long a less protective regime must persist before it is believed."""


class CostParams(msgspec.Struct, frozen=True):
    """Addends of the required edge, `cost.py`. All in bps of price unless said otherwise."""

    min_edge_bps: float
    slippage_bps: float
    taker_probability: float
    """Share of our volume that ends up paying the taker fee."""
    adverse_cap_bps: float
    adverse_prior_fills: float
    """n0: how many fills of nothing the measured impact is averaged with."""
    adverse_tau_ns: int
    carry_cap_bps: float
    inventory_tau_ns: int
    """Time constant of how long inventory is held: half-life / ln 2."""
    carry_freeze_ns: int
    """Within this long of a settlement the last carry is kept."""
    turnover_soft: float
    """Day's turnover, in equities, from which the penalty begins."""
    turnover_cap: float
    """Day's turnover, in equities, at which increases are blocked."""
    turnover_penalty_bps: float
    """Penalty reached at the cap; it never grows beyond."""


class SignalParams(msgspec.Struct, frozen=True):
    """The short-horizon signal, `signal.py`."""

    weights: tuple[float, float, float, float]
    """One for each of `signal.FEATURES`, in bps of fair value a bp of the feature; all zero is no signal."""
    depth_levels: int
    """D: levels of the book that `gap` and `lean` rest on."""
    cap_bps: float
    """Most that it moves fair value."""


class SourceParams(msgspec.Struct, frozen=True):
    """One source of signals, `signals.py`."""

    kinds: tuple[str, ...]
    """What it may say."""
    shadow: bool
    """Its signals are judged and recorded, and do nothing."""
    min_confidence: float
    max_age_ns: int
    """Said longer ago than this when it comes: stale."""
    ttl_max_ns: int
    rate_per_minute: int


class SignalsParams(msgspec.Struct, frozen=True):
    """Signals from outside, `signals.py`."""

    sources: dict[str, SourceParams]
    future_max_ns: int
    """Said later than our clock by more than this: from the future."""
    target_max: float
    direction_cap_bps: float
    size_min: float
    spread_max: float


class GlftParams(msgspec.Struct, frozen=True):
    """The closed form of `glft.py`, as fitted by `mmdaemon calibrate`."""

    gamma: float
    """Risk aversion, 1/(price x base) = 1/quote currency."""
    intensity_per_s: float
    """A: arrivals at the mid, 1/s."""
    decay_per_bp: float
    """k, in 1/bp of price; `glft.py` wants it in 1/price."""


class GateParams(msgspec.Struct, frozen=True):
    """The edge gate, `edge_gate.py`."""

    enabled: bool
    hold_ns: int
    """How long the required edge must be beyond what the market pays before a side is blocked."""
    return_share: float
    """A blocked side returns below this share of that; less than 1."""


class QualityParams(msgspec.Struct, frozen=True):
    """Tracker and pull, `fill_quality.py`."""

    tracker_widen: float
    """Half-spread multiplier of a regime whose fills lose; 1 turns the tracker off."""
    tracker_tau_ns: int
    tracker_after_ns: int
    """So long below its threshold before it widens."""
    tracker_return: float
    """It returns above this share of the threshold; less than 1."""
    pull_enabled: bool
    pull_min_fills: int
    pull_horizon_s: int
    """Markout that a side is judged by: one of `markout.HORIZONS_S`."""
    pull_memory_ns: int
    """Fills older than this are not judged by."""
    pull_ns: int
    """How long a side whose fills lose is not quoted."""
    return_ns: int
    """How long its size stays reduced after that, to the share of a resume."""


class DeriskParams(msgspec.Struct, frozen=True):
    """How a position is worked down while increases are blocked, `derisk.py`."""

    distance_bps: float
    """From fair value, while passive."""
    touch_after_ns: int
    taker_after_ns: int
    taking_bps: float
    """Furthest from fair value that a taking slice may trade."""
    day_end_ns: int
    """So long before the rollover a position above the threshold is flattened."""
    day_end_share: float
    """The threshold, as a share of the largest position."""


class QuoteParams(msgspec.Struct, frozen=True):
    """Ladder geometry, `quotes.py`."""

    model: str
    """"ladder": the regimes' widths. "glft": the closed form of `glft.py`."""
    max_position: float
    """Quote value of the largest position, as a fraction of equity (the base band)."""
    max_position_e10: int
    """And never more than this value."""
    max_order_e10: int
    band_gain: float
    """Share of the volatility band added to the half-spread."""
    level_step: float
    """Distance between rungs, as a fraction of the half-spread."""
    skew_cap_bps: float
    drift_gain: float
    """Half-spread multiplier per bps of adverse drift beyond the threshold."""
    drift_threshold_bps: float
    drift_multiplier_max: float
    tolerance_min_bps: float
    tolerance_share: float
    """Requote tolerance as a fraction of the half-spread; the larger of the two is used."""
    depth_levels: int
    """Levels of the book whose sizes weigh the fair value."""
    resume_size: float
    """Share of normal size used after a resume."""
    resume_ns: int


class DiffParams(msgspec.Struct, frozen=True):
    can_amend: bool
    min_quote_life_ns: int


class Limits(msgspec.Struct, frozen=True):
    """Pre-trade admission, `limits.py`, checked for each command after everything else."""

    collar_bps: float
    """Furthest a price may stand from mark and from the slow mid."""
    max_order_e10: int
    max_open_orders: int
    cancels_per_minute: int
    messages_per_minute: int
    reserve_for_cancels: float
    """Share of the message budget that only cancels may use."""


class GuardParams(msgspec.Struct, frozen=True):
    """Thresholds of the guard's reasons, `guard.py`."""

    book_age_max_ns: int
    mark_age_max_ns: int
    loop_lag_max_ns: int
    clock_offset_max_ns: int
    journal_age_max_ns: int
    facts_age_max_ns: int
    """HealthFacts older than this are no facts."""
    private_gap_ns: int
    drift_max_bps: float
    margin_soft: float
    margin_hard: float
    daily_loss: float
    drawdown: float
    cancel_breach_pause_ns: int
    cancel_breaches_hard: int
    fills_per_side_per_minute: int
    rejects_in_a_row: int
    soft_clear_ns: int
    """How long every soft reason must stay cured before the guard lets go of it."""
    position_tolerance_lots: int
    unknown_position_ns: int
    """Longest time the position may rest on no answer of the venue."""


class Params(msgspec.Struct, frozen=True):
    """Everything the core is told. `config_hash` ties decisions in the journal to the settings that made them."""

    instrument: Instrument
    bot_tag: str
    """Four base32 characters drawn when the state directory was created."""
    run_epoch: int
    config_hash: str
    regimes: dict[Regime, RegimeParams]
    detector: DetectorParams
    cost: CostParams
    quotes: QuoteParams
    signal: SignalParams
    signals: SignalsParams
    features: bool
    """Keep the features of `features.py`: a model asks for them."""
    glft: GlftParams
    gate: GateParams
    quality: QualityParams
    derisk: DeriskParams
    diff: DiffParams
    limits: Limits
    guard: GuardParams
    in_flight_max_ns: int
    ack_check_ns: int
    """An order not acknowledged after this long is looked into."""
    rollover_hour_utc: int
    shadow: bool
    """Evaluate guard, requote gate and reservations in full at every event and fail on a difference (tests)."""
