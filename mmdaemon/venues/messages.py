"""What a venue process and its client say to each other: frames of msgpack over a unix socket.

A frame is a length (4 bytes, big-endian) and one message. A conversation:

    client  Hello, then at once               venue  Welcome, or Refused and the end
            Subscribe                                Told(LinkChanged up) and from then on Told for whatever happens
            Send(command)                            nothing: the outcome is Told, as at any venue
            Ask(number, what, argument)              Answered(number, result) or Failed(number, why)
            Beat, each second                        Beat, each second

A client that says in its Hello that it came to kill is let in beside the one that trades: it may cancel and read, and
is told nothing but answers.

A frame that is too long or is no such message ends the connection: who speaks another language is not half-understood.
Events carry the venue's time; `mono_ns` and `ts_ns` mean nothing here and are the receiver's to stamp.
"""

import asyncio
import struct
from enum import StrEnum
from typing import Final

import msgspec

from mmdaemon.core.commands import Command
from mmdaemon.core.events import (
    AccountSnapshot,
    BarClosed,
    Bill,
    BookUpdate,
    FeeSchedule,
    Fill,
    FundingRate,
    LinkChanged,
    MarketDataRefused,
    MarkPrice,
    OrderUpdate,
    RequestFailed,
    SourceEnded,
    TradePrint,
)
from mmdaemon.core.types import Instrument
from mmdaemon.venues.base import AccountFacts, OrderReport

VERSION: Final = 1
REQUEST_MAX_BYTES: Final = 64 * 1024
ANSWER_MAX_BYTES: Final = 16 * 1024 * 1024
"""Some fifty thousand fills in one answer."""
BEAT_S: Final = 1.0
SILENCE_S: Final = 10.0
"""A peer that was not heard for this long is gone, whatever its socket says: it was stopped, or hangs."""

_LENGTH = struct.Struct(">I")

VenueEvent = (
    BookUpdate
    | TradePrint
    | FundingRate
    | MarkPrice
    | MarketDataRefused
    | BarClosed
    | SourceEnded
    | OrderUpdate
    | RequestFailed
    | Fill
    | Bill
    | FeeSchedule
    | AccountSnapshot
    | LinkChanged
)
"""What a venue may say. The daemon's own facts are none of its business."""

MARKET: Final = (BookUpdate, TradePrint, FundingRate, MarkPrice, MarketDataRefused, SourceEnded)
"""Of these the account learns nothing."""


class What(StrEnum):
    """What can be asked. `RESULTS` says what comes back; the argument is in brackets."""

    CANCEL_ALL = "cancel_all"
    PROTECT = "protect"
    """(trigger in ticks, or None to have no stop)"""
    DEAD_MAN = "dead_man"
    """(seconds)"""
    ORDER = "order"
    """(client id); None comes back for an order that the venue does not know"""
    OPEN_ORDERS = "open_orders"
    FILLS = "fills"
    """(venue time in ns, inclusive)"""
    BILLS = "bills"
    """(venue time in ns, inclusive)"""
    SNAPSHOT = "snapshot"
    FACTS = "facts"
    FEES = "fees"
    CANDLES = "candles"
    """(how many)"""
    FUNDING = "funding"
    MARK = "mark"


# --- from the client --------------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`pid` is for people: it names the holder to whoever is refused. `kills`: cancels and reads, whoever else is
    connected, be it stopped or hung."""

    version: int
    pid: int
    kills: bool = False


class Subscribe(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    pass


class Send(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """`sent_ts_ns` is UTC: a venue takes no request that is older than its window, wherever it lay meanwhile."""

    sent_ts_ns: int
    command: Command


class Ask(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    number: int
    what: What
    argument: str | int | None = None


# --- from the venue ---------------------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag=True):
    version: int
    name: str
    account: str
    """New with each start of the venue process."""
    instrument: Instrument
    can_amend: bool
    provenance: dict[str, str]


class Refused(msgspec.Struct, frozen=True, tag=True):
    why: str


class Told(msgspec.Struct, frozen=True, tag=True):
    event: VenueEvent


class Answered(msgspec.Struct, frozen=True, tag=True):
    number: int
    result: msgspec.Raw
    """Of the type that the question has in `RESULTS`."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The venue said that it cannot answer: `VenueUnavailable` there, and so here."""

    number: int
    why: str


class Beat(msgspec.Struct, frozen=True, tag=True):
    """I live. From either side."""


FromClient = Hello | Subscribe | Send | Ask | Beat
FromVenue = Welcome | Refused | Told | Answered | Failed | Beat

ORDER_RESULT: Final = msgspec.msgpack.Decoder(OrderReport | None)
ORDERS_RESULT: Final = msgspec.msgpack.Decoder(list[OrderReport])
FILLS_RESULT: Final = msgspec.msgpack.Decoder(list[Fill])
BILLS_RESULT: Final = msgspec.msgpack.Decoder(list[Bill])
SNAPSHOT_RESULT: Final = msgspec.msgpack.Decoder(AccountSnapshot)
FACTS_RESULT: Final = msgspec.msgpack.Decoder(AccountFacts)
FEES_RESULT: Final = msgspec.msgpack.Decoder(FeeSchedule)
CANDLES_RESULT: Final = msgspec.msgpack.Decoder(list[BarClosed])
FUNDING_RESULT: Final = msgspec.msgpack.Decoder(FundingRate)
MARK_RESULT: Final = msgspec.msgpack.Decoder(MarkPrice)
DONE_RESULT: Final = msgspec.msgpack.Decoder(bool)
"""Of CANCEL_ALL, PROTECT and DEAD_MAN: whether it was done."""

encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(FromClient).decode
decode_answer = msgspec.msgpack.Decoder(FromVenue).decode


class Malformed(Exception):
    """What arrived is no message of this protocol; the connection ends."""


def frame(message: FromClient | FromVenue) -> bytes:
    body = encode(message)
    return _LENGTH.pack(len(body)) + body


async def read_body(reader: asyncio.StreamReader, most_bytes: int) -> bytes:
    """The next frame's message, still encoded.

    Raises:
        asyncio.IncompleteReadError, ConnectionError: the other side is gone.
        Malformed: it announces more than `most_bytes`, or nothing.
    """
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if not 0 < length <= most_bytes:
        raise Malformed(f"a frame of {length:,} bytes was announced; 1 to {most_bytes:,} are taken")
    return await reader.readexactly(length)


async def read_request(reader: asyncio.StreamReader) -> FromClient:
    """What the client says next. Raises as `read_body`."""
    body = await read_body(reader, REQUEST_MAX_BYTES)
    try:
        return decode_request(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Malformed(f"not a request: {error}") from error


async def read_answer(reader: asyncio.StreamReader) -> FromVenue:
    """What the venue says next. Raises as `read_body`."""
    body = await read_body(reader, ANSWER_MAX_BYTES)
    try:
        return decode_answer(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Malformed(f"not a message of a venue: {error}") from error
