"""What the server asks of an API: its calls by path, its channels by name, and how everything looks on the wire."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import Side
from mmdaemon.venues.emulator.rows import AccountRow, FillRow, No, OrderRow, PositionRow

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

Json = Any
Call = Callable[["Account", Mapping[str, Any] | Sequence[Any]], Json]
"""(account, query or body) -> the envelope's `data`. Raises `No`."""


class Route(msgspec.Struct, frozen=True):
    method: Literal["GET", "POST"]
    path: str
    """From "/api/" on."""
    call: Call
    per_s: float
    """The venue's limit, per key; one burst of a second."""
    signed: bool = True


class Channel(msgspec.Struct, frozen=True):
    """One subscription, whichever API it was asked in."""

    kind: Literal["books", "books1", "books5", "books15", "books50", "trades", "ticker", "candles",
                  "orders", "fills", "positions", "account"]  # fmt: skip
    arg: Mapping[str, Any]
    """As the client sent it: echoed in the acknowledgement and in each push."""
    private: bool


class BookFrame(msgspec.Struct, frozen=True):
    """`seq` counts the frames of the book; `pseq` is the one before, 0 for a snapshot. A size of 0 lots deletes."""

    snapshot: bool
    bids: Sequence[tuple[int, int]]
    asks: Sequence[tuple[int, int]]
    seq: int
    pseq: int
    checksum: int | None
    at_ms: int


class TradeRow(msgspec.Struct, frozen=True):
    trade_id: str
    px_ticks: int
    qty_lots: int
    side: Side
    at_ms: int


class TickerRow(msgspec.Struct, frozen=True):
    bid_px_ticks: int
    ask_px_ticks: int
    bid_lots: int
    ask_lots: int
    last_px_ticks: int
    mark_px_ticks: int
    funding_rate: str
    next_funding_ms: int
    at_ms: int


class Dialect(Protocol):
    name: Literal["classic", "unified"]
    public_path: str
    """"/v2/ws/public" or "/v3/ws/public"."""
    private_path: str

    def routes(self) -> Sequence[Route]: ...
    def error(self, no: No) -> tuple[int, str, str]:
        """HTTP status, code and text of a refusal."""
        ...

    def channel(self, arg: Mapping[str, Any]) -> Channel:
        """Raises No(PARAMETER) for a channel or instrument that there is not."""
        ...

    # --- pushes: each the whole frame, as an object for JSON ----------------------------------------------------------
    def book(self, account: "Account", channel: Channel, frame: BookFrame) -> Json: ...
    def trades(self, account: "Account", channel: Channel, rows: Sequence[TradeRow], *, snapshot: bool) -> Json: ...
    def ticker(self, account: "Account", channel: Channel, row: TickerRow) -> Json: ...
    def candles(self, account: "Account", channel: Channel, bars: Sequence[BarClosed], *, snapshot: bool) -> Json:
        """Oldest first; the last may be of a minute that is not over."""
        ...

    def order(self, account: "Account", channel: Channel, row: OrderRow, fill: FillRow | None) -> Json:
        """`fill`: the one that this push is about, whose size v2 calls `baseVolume`."""
        ...

    def fill(self, account: "Account", channel: Channel, row: FillRow) -> Json: ...
    def positions(self, account: "Account", channel: Channel, rows: Sequence[PositionRow]) -> Json: ...
    def account(self, account: "Account", channel: Channel, row: AccountRow) -> Json: ...
