"""What a decision saw and what it concluded: frozen records, journaled whole, so that every quote can be recomputed.

Nothing is decided here. `engine.observe` fills the inputs, `quotes.decide` turns them into a decision, the journal
keeps both, and `mmdaemon replay --verify` and `mmdaemon explain` read them back.
"""

from enum import StrEnum

import msgspec

from mmdaemon.core.types import GuardState, Purpose, Regime, Side


class DeriskStage(StrEnum):
    """How urgently a position is worked down. `derisk.py` says when which."""

    NONE = "none"
    PASSIVE = "passive"
    TOUCH = "touch"
    TAKER = "taker"


class DecisionInputs(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything `decide` may look at. Market fields are as of the event; the rest changes only when a slice is
    dirty."""

    mono_ns: int
    ts_ns: int
    bid_px_ticks: int
    """Best bid and ask of the last healthy book; 0 where there is none, and then `fair_ticks` is None."""
    ask_px_ticks: int
    fair_ticks: float | None
    """Micro-price F, without the signal."""
    signal_bps: float
    """Where fair value is heading, by the short-horizon signal; 0 without one."""
    guard: GuardState
    regime: Regime
    band_bps: float
    """Volatility band: ATR(14) of one-minute bars over price; 0 until it is known (half-spread then rests on its
    minimum)."""
    sigma_bps: float
    """Volatility of the mid, bps per square root of a second; 0 until it is known."""
    drift_multiplier: float
    tracker_multiplier: float
    """1, or more while the fills of this regime lose."""
    position_lots: int
    equity_e10: int
    maker_bps: float
    taker_bps: float
    carry_bps: float
    """Expected funding cost of being long, until the position is likely gone; negative is income."""
    adverse_buy_bps: float
    adverse_sell_bps: float
    turnover_bps: float
    taker_share: float
    """p_taker: how much of our volume takes, as measured of late."""
    size_buy_share: float
    """1, or less for a while after a resume, or after this side was pulled."""
    size_sell_share: float
    no_buy: str
    """Why buys that increase are not to be: "edge" (`edge_gate.py`), "pulled" (`fill_quality.py`), or empty."""
    no_sell: str
    derisk: DeriskStage
    target: float = 0.0
    """Signals from outside, `signals.Effect`: share of the largest position that inventory is drawn to,"""
    direction_bps: float = 0.0
    """how far the reservation price is moved up,"""
    signal_size: float = 1.0
    """share of the size of what increases the position,"""
    signal_spread: float = 1.0
    """and of the half-spread. Journals from before there were any have none of these four."""


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
    """Where a quote stands and why, in ticks. `fair` plus the rest is the quoted price; `floor`, `clamp`
    and `rounding` are remainders."""

    fair: float
    signal: float
    skew: float
    carry: float
    half: float
    level: float
    floor: float
    clamp: float
    rounding: float
    target: float = 0.0
    """Where signals draw inventory to: what `skew` would be less."""
    direction: float = 0.0

    @property
    def total(self) -> float:
        return (
            self.fair
            + self.signal
            + self.skew
            + self.carry
            + self.half
            + self.level
            + self.floor
            + self.clamp
            + self.target
            + self.direction
            + self.rounding
        )


class Quote(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One rung of the ladder. A resting order of this rung is left alone between `lo_px_ticks` and `hi_px_ticks`."""

    side: Side
    level: int
    px_ticks: int
    qty_lots: int
    lo_px_ticks: int
    hi_px_ticks: int
    addends: QuoteAddends
    purpose: Purpose = Purpose.QUOTE
    """A DERISK quote only reduces: its order is sent reduce-only."""
    takes: bool = False
    """It is to trade at once with what is there up to its price; what is not filled goes away."""


def addends_to(
    px_ticks: int,
    fair: float,
    signal: float,
    skew: float,
    carry: float,
    half: float,
    level: float,
    floor: float,
    clamp: float,
    target: float = 0.0,
    direction: float = 0.0,
) -> QuoteAddends:
    """Why a price is what it is. `rounding` is what the rest leaves, in the order of `QuoteAddends.total`: so near to
    the price that the difference is exact, and the sum is the price to the last digit (Sterbenz, 1974)."""
    rest = fair + signal + skew + carry + half + level + floor + clamp + target + direction
    return QuoteAddends(fair, signal, skew, carry, half, level, floor, clamp, px_ticks - rest, target, direction)


class Decision(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Target quotes, best first, bids before asks; why a side is missing; and for how long all this holds."""

    quotes: tuple[Quote, ...]
    no_bid: str
    """Empty, or why there is no bid: "guard", "no_book", "inventory", "edge", "pulled", "size"."""
    no_ask: str
    band_lo_ticks: float
    """Fair value within [lo, hi] needs no new decision: the strategy's requote tolerance, live and on tape alike."""
    band_hi_ticks: float
    refresh_ns: int
    max_position_lots: int
    reservation_ticks: float
    half_bps: float
    skew_bps: float
    """How far inventory moved the reservation price down, before what signals draw it to."""
    buy_edge: EdgeBreakdown
    sell_edge: EdgeBreakdown
