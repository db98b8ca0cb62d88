"""A contract's rules as either API states them, made an `Instrument`."""

from decimal import ROUND_CEILING, Decimal

import msgspec

from mmdaemon.core.types import E10, Instrument
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.bitget.api import Endpoint
from mmdaemon.venues.bitget.reading import COIN, Text, take, unreadable
from mmdaemon.venues.codec import money_e10, number

_MOST_LOTS = 1_000_000_000
_OFF = frozenset(("off", "offline"))
"""Taken off: it takes no order of any size. What passes (maintenance, closing only) is left to refusals."""


class Contract(msgspec.Struct, frozen=True):
    symbol: str
    quote: str
    tick: Decimal
    lot: Decimal
    min_qty: Text
    max_qty: Text | None
    """Of a limit order; empty or 0 where there is no limit."""
    min_notional: Text
    status: str


def instrument_of(endpoint: Endpoint, told: Contract) -> Instrument:
    """Raises VenueUnavailable: a rule is missing, senseless, or too fine for exact money."""
    if told.quote != COIN:
        raise unreadable(endpoint, "quoteCoin", f"is not {COIN}")
    tick_e10, lot_e10 = told.tick * E10, told.lot * E10
    if tick_e10 <= 0 or lot_e10 <= 0 or tick_e10 % 1 or lot_e10 % 1:
        raise unreadable(endpoint, "tick or lot", "is no multiple of 1e-10")
    least = take(endpoint, "least of an order", number, told.min_qty)
    most = take(endpoint, "most of an order", number, told.max_qty or "0")
    try:
        return Instrument.of(
            venue="bitget",
            symbol=told.symbol,
            quote=told.quote,
            tick_e10=int(tick_e10),
            lot_e10=int(lot_e10),
            # A minimum between two lots is met by the next; a maximum by the one before.
            min_qty_lots=max(1, int((least / told.lot).to_integral_value(ROUND_CEILING))),
            max_qty_lots=0 if told.status in _OFF else int(most // told.lot) if most > 0 else _MOST_LOTS,
            min_notional_e10=take(endpoint, "least value", money_e10, told.min_notional),
        )
    except ValueError as error:
        raise VenueUnavailable(f"{endpoint.path}: {error}") from None
