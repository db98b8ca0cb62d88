"""The words everything else is written in: units, sides, the instrument, and the enumerations of the trade.

Units
  * price is `px_ticks`, an integer count of the instrument's tick; size is `qty_lots`, an integer count of its lot;
  * money is an integer in 1e-10 of quote currency, and its name ends in `_e10`;
  * a moment is integer nanoseconds: `mono_ns` on the local monotonic clock (ages), `ts_ns` on UTC (days);
  * a float is only ever inside a model, and its name says its unit: `half_bps`, `age_s`.
"""

from enum import IntEnum, StrEnum

import msgspec

NS = 1_000_000_000
"""Nanoseconds in a second."""
E10 = 10_000_000_000
"""Money units in one unit of quote currency."""
BPS = 1e-4
"""One basis point, as a fraction of price."""
NEVER_NS = 1 << 62
"""A moment that does not come: "no deadline"."""


class Side(IntEnum):
    """The side of an order, a fill or an aggressor. Its value is the sign it gives to a position."""

    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY


class Liquidity(StrEnum):
    """Who was resting when the fill happened."""

    MAKER = "maker"
    TAKER = "taker"


class Link(StrEnum):
    """A stream of the venue: market data, or what it tells of our account."""

    PUBLIC = "public"
    PRIVATE = "private"


class ExecKind(StrEnum):
    """Why a fill happened. Anything but a trade was the venue's doing, and is booked as such."""

    TRADE = "trade"
    LIQUIDATION = "liquidation"
    ADL = "adl"


class OrderStatus(StrEnum):
    """Life of an order: NEW -> SENT -> LIVE -> PARTIAL -> one of the three ends; UNKNOWN when the venue did not say."""

    NEW = "new"
    SENT = "sent"
    LIVE = "live"
    PARTIAL = "partial"
    UNKNOWN = "unknown"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"

    @property
    def is_terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED})


class Purpose(StrEnum):
    """Why an order exists. Only a QUOTE may increase a position."""

    QUOTE = "quote"
    DERISK = "derisk"
    FLATTEN = "flatten"


class GuardState(StrEnum):
    """What the daemon may do. The transitions among them are `guard.TRANSITIONS`."""

    STARTING = "starting"
    RECONCILING = "reconciling"
    RUNNING = "running"
    REDUCING = "reducing"
    SOFT_PAUSE = "soft_pause"
    HARD_STOP = "hard_stop"
    STOPPING = "stopping"


class KillState(StrEnum):
    """The kill switch. Anything but ARMED is the latch."""

    ARMED = "armed"
    KILLING = "killing"
    QUIET = "quiet"
    VERIFIED = "verified"
    KILLED = "killed"


class Regime(StrEnum):
    """What the market is doing, from calm to shock. Names are the desk's."""

    NEUTRAL_LOW_VOL = "neutral_low_vol"
    NEUTRAL_HIGH_VOL = "neutral_high_vol"
    UP = "up"
    DOWN = "down"
    HIGH_VOL_SHOCK = "high_vol_shock"


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One linear perpetual, as the venue described it at one moment. A changed rule is a new version.

    `tick_e10` is the price step in 1e-10 quote, `lot_e10` the size step in 1e-10 base (contract size folded in).
    `unit_e10`, the money value of one tick on one lot, must be whole, or PnL could not foot to the last digit;
    `venues` and `tapes` build instruments by `Instrument.of`, which refuses one where it is not.
    """

    venue: str
    symbol: str
    quote: str
    version: int
    tick_e10: int
    lot_e10: int
    unit_e10: int
    min_qty_lots: int
    max_qty_lots: int
    min_notional_e10: int

    @classmethod
    def of(
        cls,
        *,
        venue: str,
        symbol: str,
        quote: str = "USDT",
        version: int = 1,
        tick_e10: int,
        lot_e10: int,
        min_qty_lots: int = 1,
        max_qty_lots: int = 1_000_000_000,
        min_notional_e10: int = 0,
    ) -> "Instrument":
        """Check the steps and derive `unit_e10`.

        Raises:
            ValueError: a step is not positive, or tick times lot is not a whole number of 1e-10 quote.
        """
        if tick_e10 <= 0 or lot_e10 <= 0:
            raise ValueError(f"{symbol}: tick and lot must be positive, got {tick_e10} and {lot_e10} (1e-10)")
        unit, rest = divmod(tick_e10 * lot_e10, E10)
        if rest or not unit:
            raise ValueError(
                f"{symbol}: one tick on one lot is worth {tick_e10 * lot_e10}e-20 {quote}, which is not a whole number "
                "of 1e-10; money could not be kept exactly, so the instrument is refused"
            )
        return cls(
            venue=venue,
            symbol=symbol,
            quote=quote,
            version=version,
            tick_e10=tick_e10,
            lot_e10=lot_e10,
            unit_e10=unit,
            min_qty_lots=min_qty_lots,
            max_qty_lots=max_qty_lots,
            min_notional_e10=min_notional_e10,
        )

    def notional_e10(self, px_ticks: int, qty_lots: int) -> int:
        """Value of a size at a price, exact, in 1e-10 quote."""
        return px_ticks * qty_lots * self.unit_e10

    def is_valid_size(self, px_ticks: int, qty_lots: int) -> bool:
        """Whether the venue would take this size at this price. Never rounds anything up to make it so."""
        return (
            self.min_qty_lots <= qty_lots <= self.max_qty_lots
            and px_ticks * qty_lots * self.unit_e10 >= self.min_notional_e10
        )
