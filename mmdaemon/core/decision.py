"""What a decision saw and what it concluded: frozen records, journaled whole, so that every quote can be recomputed.

Nothing is computed here. `engine.observe` fills the inputs, `quotes.decide` turns them into a decision, the journal
keeps both, and `mmdaemon replay --verify` and `mmdaemon explain` read them back.
"""

import msgspec

from mmdaemon.core.types import GuardState, Regime, Side


class DecisionInputs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything `decide` may look at. Market fields are as of the event; the rest changes only when a slice is
    dirty."""

    mono_ns: int
    ts_ns: int
    bid_px_ticks: int
    """Best bid and ask of the last healthy book; 0 where there is none, and then `fair_ticks` is None."""
    ask_px_ticks: int
    fair_ticks: float | None
    guard: GuardState
    regime: Regime
    band_bps: float
    """Volatility band: ATR(14) of one-minute bars over price; 0 until it is known (half-spread then rests on its
    minimum)."""
    drift_multiplier: float
    position_lots: int
    equity_e10: int
    maker_bps: float
    taker_bps: float
    carry_bps: float
    """Expected funding cost of being long, until the position is likely gone; negative is income."""
    adverse_buy_bps: float
    adverse_sell_bps: float
    turnover_bps: float
    size_share: float
    """1, or less for a while after a resume."""


class EdgeBreakdown(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The required edge of one side as addends, each a distance from fair value in bps. `cost.required_edge` makes
    it."""

    maker_fee_bps: float
    exit_bps: float
    adverse_bps: float
    carry_bps: float
    turnover_bps: float
    min_edge_bps: float

    @property
    def total_bps(self) -> float:
        return (
            self.maker_fee_bps
            + self.exit_bps
            + self.adverse_bps
            + self.carry_bps
            + self.turnover_bps
            + self.min_edge_bps
        )


class QuoteAddends(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a quote stands and why, in ticks. `fair` plus the rest is the quoted price; the last three are
    remainders."""

    fair: float
    skew: float
    carry: float
    half: float
    level: float
    floor: float
    clamp: float
    rounding: float

    @property
    def total(self) -> float:
        return self.fair + self.skew + self.carry + self.half + self.level + self.floor + self.clamp + self.rounding


class Quote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One rung of the ladder. A resting order of this rung is left alone between `lo_px_ticks` and `hi_px_ticks`."""

    side: Side
    level: int
    px_ticks: int
    qty_lots: int
    lo_px_ticks: int
    hi_px_ticks: int
    addends: QuoteAddends


class Decision(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Target quotes, best first, bids before asks; why a side is missing; and for how long all this holds."""

    quotes: tuple[Quote, ...]
    no_bid: str
    """Empty, or why there is no bid: "guard", "no_book", "inventory", "edge", "size"."""
    no_ask: str
    band_lo_ticks: float
    """Fair value within [lo, hi] needs no new decision: the strategy's requote tolerance, live and on tape alike."""
    band_hi_ticks: float
    refresh_ns: int
    max_position_lots: int
    reservation_ticks: float
    half_bps: float
    buy_edge: EdgeBreakdown
    sell_edge: EdgeBreakdown
