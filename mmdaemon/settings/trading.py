"""Settings of the trading rules: each section beside its conversion to the frozen numbers of `core.params`.

The bounds are compiled in: neither file nor environment nor command line passes them. Numbers ending in `_fraction` are
fractions of one (0.03 is three percent). Durations are seconds here and integer nanoseconds in the core.
"""

from decimal import Decimal
from math import log
from typing import Literal

from pydantic import Field

from mmdaemon.core.params import (
    CostParams,
    DetectorParams,
    DiffParams,
    GuardParams,
    Limits,
    QuoteParams,
    RegimeParams,
)
from mmdaemon.core.types import E10, Regime
from mmdaemon.settings.running import Section, to_ns


def to_e10(quote: float) -> int:
    return round(Decimal(str(quote)) * E10)


class RegimeSection(Section):
    """One row of the ladder table. Its defaults are the preset's."""

    spread_min_bps: float = Field(ge=0.1, le=500)
    """Least full width between our best bid and best ask."""
    spread_max_bps: float = Field(ge=0.1, le=1_000)
    """Most full width before multipliers; the edge gate compares the required edge with half of it."""
    levels_min: int = Field(ge=1, le=10, json_schema_extra={"unit": "orders a side"})
    """Levels a side when the day's turnover has reached its cap."""
    levels_max: int = Field(ge=1, le=10, json_schema_extra={"unit": "orders a side"})
    """Levels a side while there is no turnover."""
    refresh_s: float = Field(ge=0.5, le=3_600)
    """Age at which a quote is moved to its target however near it is."""
    order_size_fraction: float = Field(ge=1e-6, le=0.05)
    """Value of one order, as a fraction of equity."""
    skew_gain: float = Field(ge=0, le=3, json_schema_extra={"unit": "gain"})
    """How strongly inventory moves the reservation price."""

    def to_params(self) -> RegimeParams:
        return RegimeParams(
            spread_min_bps=self.spread_min_bps,
            spread_max_bps=self.spread_max_bps,
            levels_min=self.levels_min,
            levels_max=self.levels_max,
            refresh_ns=to_ns(self.refresh_s),
            order_size=self.order_size_fraction,
            skew_gain=self.skew_gain,
        )


class RegimesSection(Section):
    """The ladder table: one row a regime."""

    neutral_low_vol: RegimeSection
    neutral_high_vol: RegimeSection
    up: RegimeSection
    down: RegimeSection
    high_vol_shock: RegimeSection


class DetectorSection(Section):
    """The regime detector: volatility band ATR(14)/price and drift over 30 s, on one-minute bars."""

    mode: Literal["quantile", "absolute"] = "quantile"
    """`quantile`: the instrument's own quantiles, above floors. `absolute`: fixed bands, as the desk had them."""
    fixed: Literal["", "neutral_low_vol", "neutral_high_vol", "up", "down", "high_vol_shock"] = ""
    """The one regime that is ever said; empty detects. Set it for comparisons only."""
    absolute_middle_bps: float = Field(default=40.0, ge=0.1, le=1_000)
    """Band from which the market is no longer calm, by `absolute`. The desk's: one-minute BTC never reaches it."""
    absolute_shock_bps: float = Field(default=80.0, ge=0.1, le=2_000)
    """Band from which it is a shock, by `absolute`."""
    exit_fraction: float = Field(default=0.9, ge=0.5, le=1)
    """A regime is left once its figure is below this fraction of what it is entered at."""
    middle_band_bps: float = Field(default=4.0, ge=0.1, le=500)
    """Floor of the band from which the market is no longer calm."""
    shock_band_bps: float = Field(default=6.0, ge=0.1, le=1_000)
    """Floor of the band from which it is a shock."""
    shock_drift_bps: float = Field(default=10.0, ge=0.1, le=1_000)
    """Floor of the 30 s mid change from which it is a shock."""
    middle_quantile: float = Field(default=0.70, ge=0, le=1, json_schema_extra={"unit": "quantile"})
    """Quantile of the instrument's own last 1,440 bands, used where it exceeds the floor."""
    shock_quantile: float = Field(default=0.99, ge=0, le=1, json_schema_extra={"unit": "quantile"})
    """The same for shock, of bands and of drifts: two tails that add up, each lengthened by dwell and hysteresis."""
    quantile_min_bars: int = Field(default=120, ge=20, le=1_440, json_schema_extra={"unit": "bars"})
    """Below this many bars the floors alone decide."""
    trend_floor_bps: float = Field(default=10.0, ge=0.1, le=1_000)
    """Least distance from EMA(50) that is a trend; four bands where that is more."""
    dwell_s: float = Field(default=30.0, ge=0, le=3_600)
    """How long a less protective regime must persist before it is believed."""

    def to_params(self) -> DetectorParams:
        return DetectorParams(
            mode=self.mode,
            fixed=Regime(self.fixed) if self.fixed else None,
            absolute_middle_bps=self.absolute_middle_bps,
            absolute_shock_bps=self.absolute_shock_bps,
            exit_share=self.exit_fraction,
            middle_band_bps=self.middle_band_bps,
            shock_band_bps=self.shock_band_bps,
            shock_drift_bps=self.shock_drift_bps,
            middle_quantile=self.middle_quantile,
            shock_quantile=self.shock_quantile,
            quantile_min_bars=self.quantile_min_bars,
            trend_floor_bps=self.trend_floor_bps,
            dwell_ns=to_ns(self.dwell_s),
        )


class CostSection(Section):
    """Addends of the required edge."""

    min_edge_bps: float = Field(default=1.0, ge=0, le=100)
    """What must be left after all costs."""
    slippage_bps: float = Field(default=5.0, ge=0, le=100)
    """Slippage of a taking exit."""
    taker_probability: float = Field(default=0.05, ge=0, le=1, json_schema_extra={"unit": "probability"})
    """Share of our volume that ends up paying the taker fee."""
    adverse_cap_bps: float = Field(default=10.0, ge=0, le=100)
    """Most that measured impact may add."""
    adverse_prior_fills: float = Field(default=50.0, ge=1, le=10_000, json_schema_extra={"unit": "fills"})
    """How many fills without impact the measured ones are averaged with."""
    adverse_memory_s: float = Field(default=1_800.0, ge=60, le=86_400)
    """Time constant with which measured impact is forgotten."""
    carry_cap_bps: float = Field(default=3.0, ge=0, le=50)
    """Most that expected funding may add or shift."""
    inventory_half_life_s: float = Field(default=1_200.0, ge=60, le=86_400)
    """Time in which half of an inventory is gone again."""
    carry_freeze_s: float = Field(default=5.0, ge=0, le=300)
    """Within this long of a settlement the last carry is kept."""
    turnover_soft_multiple: float = Field(default=2.0, ge=0, le=1_000, json_schema_extra={"unit": "equities a day"})
    """Day's turnover from which a penalty is added."""
    turnover_cap_multiple: float = Field(default=3.0, ge=0.1, le=1_000, json_schema_extra={"unit": "equities a day"})
    """Day's turnover at which increases are blocked."""
    turnover_penalty_bps: float = Field(default=5.0, ge=0, le=50)
    """Penalty reached at the cap; it never grows beyond."""

    def to_params(self) -> CostParams:
        return CostParams(
            min_edge_bps=self.min_edge_bps,
            slippage_bps=self.slippage_bps,
            taker_probability=self.taker_probability,
            adverse_cap_bps=self.adverse_cap_bps,
            adverse_prior_fills=self.adverse_prior_fills,
            adverse_tau_ns=to_ns(self.adverse_memory_s),
            carry_cap_bps=self.carry_cap_bps,
            inventory_tau_ns=to_ns(self.inventory_half_life_s / log(2)),
            carry_freeze_ns=to_ns(self.carry_freeze_s),
            turnover_soft=self.turnover_soft_multiple,
            turnover_cap=self.turnover_cap_multiple,
            turnover_penalty_bps=self.turnover_penalty_bps,
        )


class QuotesSection(Section):
    """Geometry of the ladder, and how much may be held."""

    model: Literal["ladder", "glft"] = "ladder"
    """`ladder`: the regimes' widths. `glft`: half-spread and skew by the fitted closed form, see `[glft]`."""
    max_position_fraction: float = Field(default=0.05, ge=0.0001, le=3.0)
    """Value of the largest position, as a fraction of equity."""
    max_position_quote: float = Field(default=100_000.0, ge=1, le=10_000_000)
    """And never more than this value."""
    band_gain: float = Field(default=0.5, ge=0, le=5, json_schema_extra={"unit": "gain"})
    """Share of the volatility band that is added to the half-spread."""
    level_step_fraction: float = Field(default=0.4, ge=0, le=5)
    """Distance between levels, as a fraction of the half-spread."""
    skew_cap_bps: float = Field(default=30.0, ge=0, le=500)
    """Most that inventory moves the reservation price."""
    drift_gain: float = Field(default=0.08, ge=0, le=1, json_schema_extra={"unit": "a bp"})
    """Half-spread multiplier for each bp of adverse drift beyond the threshold."""
    drift_threshold_bps: float = Field(default=5.0, ge=0, le=500)
    """Adverse drift from which the half-spread widens."""
    drift_multiplier_max: float = Field(default=1.8, ge=1, le=5, json_schema_extra={"unit": "times"})
    """Most that drift multiplies the half-spread."""
    tolerance_min_bps: float = Field(default=0.5, ge=0, le=50)
    """A quote this near to its target is left alone, for its place in the queue."""
    tolerance_fraction: float = Field(default=0.1, ge=0, le=1)
    """The same as a fraction of the half-spread; the larger of the two is used."""
    depth_levels: int = Field(default=5, ge=1, le=20, json_schema_extra={"unit": "levels"})
    """Levels of the book whose sizes weigh the fair value."""
    min_quote_life_s: float = Field(default=0.25, ge=0, le=60)
    """A quote younger than this is moved only for risk."""
    resume_size_fraction: float = Field(default=0.10, ge=0.01, le=1)
    """Share of normal size after a resume, where the venue's minimum allows it."""
    resume_s: float = Field(default=600.0, ge=0, le=86_400)
    """How long size stays reduced after a resume."""

    def to_params(self, max_order_e10: int) -> QuoteParams:
        return QuoteParams(
            model=self.model,
            max_position=self.max_position_fraction,
            max_position_e10=to_e10(self.max_position_quote),
            max_order_e10=max_order_e10,
            band_gain=self.band_gain,
            level_step=self.level_step_fraction,
            skew_cap_bps=self.skew_cap_bps,
            drift_gain=self.drift_gain,
            drift_threshold_bps=self.drift_threshold_bps,
            drift_multiplier_max=self.drift_multiplier_max,
            tolerance_min_bps=self.tolerance_min_bps,
            tolerance_share=self.tolerance_fraction,
            depth_levels=self.depth_levels,
            resume_size=self.resume_size_fraction,
            resume_ns=to_ns(self.resume_s),
        )

    def to_diff_params(self, *, can_amend: bool) -> DiffParams:
        return DiffParams(can_amend=can_amend, min_quote_life_ns=to_ns(self.min_quote_life_s))


class LimitsSection(Section):
    """Checked for each command at the last line before the wire."""

    collar_bps: float = Field(default=200.0, ge=1, le=500)
    """Furthest a price may stand from mark and from the slow mid."""
    max_order_quote: float = Field(default=500.0, ge=1, le=1_000_000)
    """Largest value of one order."""
    max_open_orders: int = Field(default=20, ge=2, le=200, json_schema_extra={"unit": "orders"})
    """Most orders open, in flight or UNKNOWN at once."""
    cancels_per_minute: int = Field(default=300, ge=1, le=600)
    """Cancel budget. `desk` keeps the desk's 50; `tight` requotes far more often. Risk cancels never count."""
    messages_per_minute: int = Field(default=600, ge=10, le=3_000)
    """Budget of all requests to the venue."""
    reserve_for_cancels_fraction: float = Field(default=0.3, ge=0.3, le=0.9)
    """Share of the message budget that only cancels may use."""

    def to_params(self) -> Limits:
        return Limits(
            collar_bps=self.collar_bps,
            max_order_e10=to_e10(self.max_order_quote),
            max_open_orders=self.max_open_orders,
            cancels_per_minute=self.cancels_per_minute,
            messages_per_minute=self.messages_per_minute,
            reserve_for_cancels=self.reserve_for_cancels_fraction,
        )


class GuardSection(Section):
    """Thresholds of the guard's reasons. Soft ones pause and may clear by themselves; hard ones latch."""

    book_age_max_s: float = Field(default=2.0, ge=0.1, le=30)
    """An older book is unhealthy: pause."""
    mark_age_max_s: float = Field(default=10.0, ge=1, le=120)
    """With an older mark price, losses cannot be measured: pause."""
    loop_lag_max_s: float = Field(default=0.5, ge=0.01, le=5)
    """Event-loop lag from which to pause."""
    clock_offset_max_s: float = Field(default=1.0, ge=0.01, le=5)
    """Offset between our clock and the venue's from which to pause."""
    journal_age_max_s: float = Field(default=3.0, ge=0.1, le=30)
    """Age of the oldest row that is not yet durable from which to pause. Telemetry may wait 1 s."""
    facts_age_max_s: float = Field(default=3.0, ge=1, le=30)
    """Health facts older than this are no facts: pause."""
    private_gap_s: float = Field(default=5.0, ge=0.5, le=60)
    """A longer gap of the private stream leads back to reconciling."""
    drift_max_bps: float = Field(default=30.0, ge=1, le=1_000)
    """Mid change over 30 s from which increases are blocked."""
    margin_soft_fraction: float = Field(default=0.20, ge=0.01, le=1)
    """Available margin / equity below which increases are blocked."""
    margin_hard_fraction: float = Field(default=0.10, ge=0.01, le=1)
    """Available margin / equity below which to stop hard."""
    daily_loss_fraction: float = Field(default=0.03, ge=0.0001, le=0.2)
    """Loss since the trading day opened, as a fraction of equity then, at which to stop hard."""
    drawdown_fraction: float = Field(default=0.05, ge=0.0001, le=0.3)
    """Fall from the deposit-adjusted peak since the last resume at which to stop hard."""
    cancel_breach_pause_s: float = Field(default=120.0, ge=1, le=3_600)
    """How long a breach of the cancel budget blocks increases."""
    cancel_breaches_hard: int = Field(default=3, ge=1, le=100, json_schema_extra={"unit": "breaches"})
    """Breaches of the cancel budget since the start or the last resume at which to stop hard."""
    fills_per_side_per_minute: int = Field(default=60, ge=1, le=600)
    """Most fills on one side within a minute; one more is repeated execution and stops hard."""
    rejects_in_a_row: int = Field(default=10, ge=1, le=100, json_schema_extra={"unit": "rejections"})
    """Rejections without a success between them at which to stop hard."""
    soft_clear_s: float = Field(default=1.0, ge=0, le=600)
    """How long every soft reason must stay cured before the guard lets go of it."""
    position_tolerance_lots: int = Field(default=0, ge=0, le=1_000_000)
    """Difference between our position and the venue's that is not a break."""
    position_unknown_s: float = Field(default=90.0, ge=5, le=600)
    """Longest the position may rest on no answer of the venue."""

    def to_params(self) -> GuardParams:
        return GuardParams(
            book_age_max_ns=to_ns(self.book_age_max_s),
            mark_age_max_ns=to_ns(self.mark_age_max_s),
            loop_lag_max_ns=to_ns(self.loop_lag_max_s),
            clock_offset_max_ns=to_ns(self.clock_offset_max_s),
            journal_age_max_ns=to_ns(self.journal_age_max_s),
            facts_age_max_ns=to_ns(self.facts_age_max_s),
            private_gap_ns=to_ns(self.private_gap_s),
            drift_max_bps=self.drift_max_bps,
            margin_soft=self.margin_soft_fraction,
            margin_hard=self.margin_hard_fraction,
            daily_loss=self.daily_loss_fraction,
            drawdown=self.drawdown_fraction,
            cancel_breach_pause_ns=to_ns(self.cancel_breach_pause_s),
            cancel_breaches_hard=self.cancel_breaches_hard,
            fills_per_side_per_minute=self.fills_per_side_per_minute,
            rejects_in_a_row=self.rejects_in_a_row,
            soft_clear_ns=to_ns(self.soft_clear_s),
            position_tolerance_lots=self.position_tolerance_lots,
            unknown_position_ns=to_ns(self.position_unknown_s),
        )
