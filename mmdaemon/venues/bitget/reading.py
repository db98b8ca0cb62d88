"""One read: send, decode, and name what cannot be read.

`ask` lets `Refused`, `Unanswered` and `Unsent` through: the adapter turns them into `VenueUnavailable`, with what a
person is to do about it. An answer that came and cannot be used raises `VenueUnavailable` here. Its text names
the call and the field, and never what the venue wrote.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeVar

import msgspec
from msgspec.json import Decoder

from mmdaemon.core.events import FundingRate
from mmdaemon.core.types import E10, Side
from mmdaemon.venues.base import OrderReport, VenueUnavailable
from mmdaemon.venues.bitget.api import Endpoint, Request, Sends
from mmdaemon.venues.bitget.words import ID, SIDES, STATUSES, known_as
from mmdaemon.venues.codec import Malformed, Scale, milliseconds_ns, nearest, number

PRODUCT: Final = "USDT-FUTURES"
COIN: Final = "USDT"
BY_VENUE: Final = "venue:"
"""Before the venue's own id, where an order has none of ours."""

Text = str | int
"""Digits, as a string or (some fields of some calls) a bare integer. A float is refused."""
HELD: Final[Mapping[str, Side]] = {"long": Side.BUY, "short": Side.SELL}
"""The side that a position is held on."""
POSITION_MODES: Final[Mapping[str, str]] = {"one_way_mode": "one_way", "hedge_mode": "hedge"}
MARGIN_MODES: Final[Mapping[str, str]] = {"crossed": "crossed", "isolated": "isolated"}
_YES: Final[Mapping[str, bool]] = {"yes": True, "no": False}
_RATE_MAX: Final = Decimal("0.1")
T = TypeVar("T")
V = TypeVar("V")


async def ask(sends: Sends, endpoint: Endpoint, params: Mapping[str, str], kind: Decoder[T]) -> tuple[T, int]:
    """The answer's data, decoded, and the venue's clock (ns).

    Raises:
        Refused, Unanswered, Unsent: as they are.
        VenueUnavailable: the answer is not what the call answers with, or has no time.
    """
    answer = await sends.ask(Request(endpoint, params))
    if answer.venue_ts_ns <= 0:
        raise unreadable(endpoint, "requestTime", "is missing")
    try:
        return kind.decode(answer.data), answer.venue_ts_ns
    except msgspec.ValidationError as error:
        # Its text has names and types of fields and their place: nothing of what was sent.
        raise VenueUnavailable(f"{endpoint.path}: {error}") from None
    except (msgspec.DecodeError, RecursionError):
        raise VenueUnavailable(f"{endpoint.path}: no JSON") from None


def take(endpoint: Endpoint, field: str, read: Callable[[V], T], value: V) -> T:
    """One field, read by a function that may find it `Malformed`. Raises VenueUnavailable, naming both."""
    try:
        return read(value)
    except Malformed as error:
        raise unreadable(endpoint, field, str(error)) from None


def word(endpoint: Endpoint, field: str, words: Mapping[str, T], told: str) -> T:
    """What a word means. Raises VenueUnavailable where it is none of them: it is not guessed."""
    meant = words.get(told.lower())
    if meant is None:
        raise unreadable(endpoint, field, "an unknown word")
    return meant


def unreadable(endpoint: Endpoint, field: str, reason: str) -> VenueUnavailable:
    return VenueUnavailable(f"{endpoint.path}: {field}: {reason}")


def only(endpoint: Endpoint, rows: Sequence[T]) -> T:
    """The one row that there must be. Raises VenueUnavailable."""
    if len(rows) != 1:
        raise unreadable(endpoint, "rows of the contract", "none" if not rows else "several")
    return rows[0]


def rate(endpoint: Endpoint, field: str, text: Text) -> float:
    """A fraction of notional. Raises VenueUnavailable, also for one beyond a tenth."""
    value = take(endpoint, field, number, text)
    if abs(value) > _RATE_MAX:
        raise unreadable(endpoint, field, "absurd")
    return float(value)


def funding_rate(endpoint: Endpoint, venue_ts_ns: int, fraction: Text, hours: Text, next_ms: Text) -> FundingRate:
    """Raises VenueUnavailable."""
    interval = take(endpoint, "fundingRateInterval", number, hours)
    if not 0 < interval <= 24:
        raise unreadable(endpoint, "fundingRateInterval", "absurd")
    next_ts_ns = take(endpoint, "nextUpdate", milliseconds_ns, next_ms)
    value = rate(endpoint, "fundingRate", fraction)
    return FundingRate(0, 0, venue_ts_ns, value, next_ts_ns, int(interval * 3_600))


def key(client_id: str) -> dict[str, str]:
    """How an order is named in a request: by our id, or by the venue's where it has none of ours."""
    if client_id.startswith(BY_VENUE):
        return {"orderId": client_id.removeprefix(BY_VENUE)}
    return {"clientOid": client_id}


def identity(endpoint: Endpoint, field: str, told: str) -> str:
    """An id that is fit to be kept: short, of plain characters. Raises VenueUnavailable."""
    if ID.fullmatch(told) is None:
        raise unreadable(endpoint, field, "bad_id")
    return told


def named(endpoint: Endpoint, client_oid: str | None, order_id: str) -> str:
    """By which id an order is known here. Raises VenueUnavailable."""
    return take(endpoint, "orderId", lambda _: known_as(client_oid, order_id), None)


class OrderWords(msgspec.Struct, frozen=True):
    """An order as either API tells it, before it is read."""

    order_id: str
    client_oid: str | None
    order_type: str
    side: str
    price: Text | None
    qty: Text
    filled: Text
    status: str
    reduce_only: str


def order_report(endpoint: Endpoint, scale: Scale, told: OrderWords) -> OrderReport:
    """Raises VenueUnavailable."""
    qty_lots = traded_lots(endpoint, "size", scale, told.qty)
    filled_lots = take(endpoint, "filled", scale.qty_lots, told.filled)
    if filled_lots > qty_lots:
        raise unreadable(endpoint, "filled", "is more than the size")
    # A market order (never ours) has no price.
    px_ticks = 0 if told.order_type == "market" else take(endpoint, "price", scale.px_ticks, told.price)
    return OrderReport(
        client_id=named(endpoint, told.client_oid, told.order_id),
        side=word(endpoint, "side", SIDES, told.side),
        px_ticks=px_ticks,
        qty_lots=qty_lots,
        cum_filled_lots=filled_lots,
        status=word(endpoint, "status", STATUSES, told.status),
        reduce_only=word(endpoint, "reduceOnly", _YES, told.reduce_only),
    )


class Position(msgspec.Struct, frozen=True):
    """One side of what is held: signed lots at their average price."""

    lots: int
    average_px: Decimal

    def unrealised_e10(self, scale: Scale, mark_px_ticks: int) -> int:
        """At the mark in ticks that is told with it. The venue's own figure is of another moment's mark, so that the
        equity made of it would not agree with books that are right."""
        gain = self.lots * scale.lot * (mark_px_ticks * scale.tick - self.average_px)
        return nearest(gain * E10)


def position(endpoint: Endpoint, scale: Scale, hold_side: str, total: Text, average: Text | None) -> Position | None:
    """None where nothing is held. Raises VenueUnavailable."""
    lots = take(endpoint, "total", scale.qty_lots, total)
    if not lots:
        return None
    held = word(endpoint, "side", HELD, hold_side)
    average_px = take(endpoint, "average price", number, average)
    if average_px <= 0:
        raise unreadable(endpoint, "average price", "not_positive")
    return Position(lots if held is Side.BUY else -lots, average_px)


def traded_lots(endpoint: Endpoint, field: str, scale: Scale, told: Text) -> int:
    """The size of a trade or of an order: never 0. Raises VenueUnavailable."""
    lots = take(endpoint, field, scale.qty_lots, told)
    if not lots:
        raise unreadable(endpoint, field, "is zero")
    return lots
