"""The frames of Bitget's two streams, as they are typed on the wire: what is of another shape is not decoded.

The two APIs say the same things under other names, so each structure is written twice with the names of the first:
`Classic...` for /v2/ws, `Unified...` for /v3/ws. Numbers stay text: `codec` reads them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Literal, TypeVar, cast

import msgspec

from mmdaemon.venues.codec import Malformed, milliseconds_ns
from mmdaemon.venues.wire_book import WireLevel

ApiName = Literal["classic", "unified"]
Number = int | str
"""A sequence number or a time: one API sends digits, the other a string of them, and each has changed its mind."""
Text = str | None


class Arg(msgspec.Struct, frozen=True, gc=False):
    """Which subscription a push is of."""

    inst_type: str = msgspec.field(name="instType", default="")
    channel: str = ""
    """The classic API's name of it, `topic` the unified one's."""
    topic: str = ""
    inst_id: str = msgspec.field(name="instId", default="")
    symbol: str = ""


class Frame(msgspec.Struct, frozen=True):
    """Any message. Acknowledgements, logins and errors have an `event`; pushes have none."""

    arg: Arg | None = None
    action: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    ts: Number | None = None
    event: Any = None


class ClassicBook(msgspec.Struct, frozen=True, gc=False):
    bids: list[WireLevel]
    asks: list[WireLevel]
    ts: Number
    seq: Number | None = None
    pseq: Number | None = None
    checksum: int | None = None


class UnifiedBook(msgspec.Struct, frozen=True, gc=False):
    bids: list[WireLevel] = msgspec.field(name="b")
    asks: list[WireLevel] = msgspec.field(name="a")
    ts: Number
    seq: Number | None = None
    pseq: Number | None = None
    checksum: int | None = None


class ClassicBookArg(msgspec.Struct, frozen=True, gc=False):
    channel: Literal["books"]
    inst_type: str = msgspec.field(name="instType", default="")
    topic: str = ""
    inst_id: str = msgspec.field(name="instId", default="")
    symbol: str = ""


class UnifiedBookArg(msgspec.Struct, frozen=True, gc=False):
    topic: Literal["books"]
    channel: Literal[""] = ""
    inst_type: str = msgspec.field(name="instType", default="")
    inst_id: str = msgspec.field(name="instId", default="")
    symbol: str = ""


class ClassicBookFrame(msgspec.Struct, frozen=True, gc=False):
    """A push of the book, typed in one pass. It takes nothing that a `Frame` and its rows would not."""

    arg: ClassicBookArg
    data: list[ClassicBook]
    action: str = ""
    ts: Number | None = None
    event: None = None


class UnifiedBookFrame(msgspec.Struct, frozen=True, gc=False):
    """See `ClassicBookFrame`."""

    arg: UnifiedBookArg
    data: list[UnifiedBook]
    action: str = ""
    ts: Number | None = None
    event: None = None


class ClassicTrade(msgspec.Struct, frozen=True, gc=False):
    trade_id: str = msgspec.field(name="tradeId")
    price: str
    size: str
    side: str
    ts: Number


class UnifiedTrade(msgspec.Struct, frozen=True, gc=False):
    trade_id: str = msgspec.field(name="i")
    price: str = msgspec.field(name="p")
    size: str = msgspec.field(name="v")
    side: str = msgspec.field(name="S")
    ts: Number = msgspec.field(name="T")


class Ticker(msgspec.Struct, frozen=True, gc=False):
    """The same in both, except that the unified one has its time in the frame alone."""

    inst_id: str = msgspec.field(name="instId", default="")
    mark_price: Text = msgspec.field(name="markPrice", default=None)
    funding_rate: Text = msgspec.field(name="fundingRate", default=None)
    next_funding: Number | None = msgspec.field(name="nextFundingTime", default=None)
    ts: Number | None = None


class ClassicOrder(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    symbol: str = msgspec.field(name="instId")
    category: str = ""
    order_id: str = msgspec.field(name="orderId")
    client_id: Text = msgspec.field(name="clientOid", default=None)
    side: str
    price: Text = None
    size: str
    filled: str = msgspec.field(name="accBaseVolume")
    """All of it. `baseVolume` is the last fill alone."""
    status: str
    cancel_reason: Text = msgspec.field(name="cancelReason", default=None)
    updated: Number | None = msgspec.field(name="uTime", default=None)


class UnifiedOrder(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    symbol: str
    category: str
    order_id: str = msgspec.field(name="orderId")
    client_id: Text = msgspec.field(name="clientOid", default=None)
    side: str
    price: Text = None
    size: str = msgspec.field(name="qty")
    filled: str = msgspec.field(name="cumExecQty")
    status: str = msgspec.field(name="orderStatus")
    cancel_reason: Text = msgspec.field(name="cancelReason", default=None)
    updated: Number | None = msgspec.field(name="updatedTime", default=None)


class ClassicFee(msgspec.Struct, frozen=True, gc=False):
    """Negative is a cost."""

    coin: str = msgspec.field(name="feeCoin")
    fee: str = msgspec.field(name="totalFee")
    deduction: str | bool | None = None


class UnifiedFee(msgspec.Struct, frozen=True, gc=False):
    """Positive is a cost."""

    coin: str = msgspec.field(name="feeCoin")
    fee: str
    deduction: str | bool | None = None


class ClassicFill(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    symbol: str
    category: str = ""
    trade_id: str = msgspec.field(name="tradeId")
    order_id: str = msgspec.field(name="orderId")
    client_id: Text = msgspec.field(name="clientOid", default=None)
    side: str
    price: str
    size: str = msgspec.field(name="baseVolume")
    trade_side: Text = msgspec.field(name="tradeSide", default=None)
    exec_type: Text = msgspec.field(name="execType", default=None)
    scope: str = msgspec.field(name="tradeScope")
    fees: list[ClassicFee] = msgspec.field(name="feeDetail")
    at: Number | None = msgspec.field(name="uTime", default=None)
    created: Number | None = msgspec.field(name="cTime", default=None)


class UnifiedFill(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    symbol: str
    category: str
    trade_id: str = msgspec.field(name="execId")
    order_id: str = msgspec.field(name="orderId")
    client_id: Text = msgspec.field(name="clientOid", default=None)
    side: str
    price: str = msgspec.field(name="execPrice")
    size: str = msgspec.field(name="execQty")
    trade_side: Text = msgspec.field(name="tradeSide", default=None)
    exec_type: Text = msgspec.field(name="execType", default=None)
    scope: str = msgspec.field(name="tradeScope")
    fees: list[UnifiedFee] = msgspec.field(name="feeDetail")
    at: Number | None = msgspec.field(name="execTime", default=None)
    created: Number | None = msgspec.field(name="createdTime", default=None)


class ClassicPosition(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    symbol: str = msgspec.field(name="instId")
    coin: str = msgspec.field(name="marginCoin")
    side: str = msgspec.field(name="holdSide")
    size: str = msgspec.field(name="total")
    average_px: str = msgspec.field(name="openPriceAvg")
    leverage: Number
    margin_mode: str = msgspec.field(name="marginMode")
    position_mode: str = msgspec.field(name="posMode")


class UnifiedPosition(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One that ended is told once more, with a size of 0."""

    symbol: str
    coin: str = msgspec.field(name="marginCoin")
    side: str = msgspec.field(name="posSide")
    size: str
    average_px: str = msgspec.field(name="avgPrice")
    leverage: Number
    margin_mode: str = msgspec.field(name="marginMode")
    position_mode: str = msgspec.field(name="holdMode")


class ClassicAccount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    coin: str = msgspec.field(name="marginCoin")
    available: str
    equity: str
    unrealised: Text = msgspec.field(name="unrealizedPL", default=None)
    """Not in every frame that was seen."""


class UnifiedCoin(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    coin: str
    balance: str
    available: str
    equity: str
    debt: Text = msgspec.field(name="debts", default=None)


class UnifiedAccount(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    coins: list[UnifiedCoin] = msgspec.field(name="coin")


Book = ClassicBook | UnifiedBook
BookFrame = ClassicBookFrame | UnifiedBookFrame
Trade = ClassicTrade | UnifiedTrade
Order = ClassicOrder | UnifiedOrder
Fee = ClassicFee | UnifiedFee
Fill = ClassicFill | UnifiedFill

_SEQ_MAX: Final = 1 << 63
UNREADABLE: Final = (ValueError, RecursionError)
"""What decoding raises: every error of msgspec's and of Unicode is a ValueError, and too deep is the other."""

frame = msgspec.json.Decoder(Frame).decode
_apart = msgspec.json.Decoder(list[msgspec.Raw]).decode
R = TypeVar("R")


class Rows(Generic[R]):
    """Decodes the `data` of a push: a list of rows, or null where there are none."""

    def __init__(self, row: type[R]) -> None:
        self._all = cast("Callable[[msgspec.Raw], list[R] | None]", msgspec.json.Decoder(list[row] | None).decode)
        self._one = msgspec.json.Decoder(row).decode

    def read(self, data: msgspec.Raw) -> tuple[list[R], int]:
        """The rows, and how many of them could not be read: one that is bad costs no other."""
        try:
            return self._all(data) or [], 0
        except UNREADABLE:
            pass
        rows: list[R] = []
        bad = 0
        try:
            apart = _apart(data)
        except UNREADABLE:
            return rows, 1
        for raw in apart:
            try:
                rows.append(self._one(raw))
            except UNREADABLE:
                bad += 1
        return rows, bad


def book_place(row: Book, latest_ns: int) -> tuple[int, int | None, int | None]:
    """(venue's time in ns, seq, pseq). Raises Malformed; `future` is later than `latest_ns`."""
    at_ns, seq, pseq = milliseconds_ns(row.ts), row.seq, row.pseq
    if at_ns > latest_ns:
        raise Malformed("future")
    return at_ns, None if seq is None else _sequence(seq, 1), None if pseq is None else _sequence(pseq, 0)


def _sequence(text: Number, least: int) -> int:
    if type(text) is str:
        if not (0 < len(text) <= 19 and text.isascii() and text.isdecimal()):
            raise Malformed("bad_sequence")
        text = int(text)
    if type(text) is not int or not least <= text < _SEQ_MAX:
        raise Malformed("bad_sequence")
    return text


class Shapes(msgspec.Struct, frozen=True):
    """What the channels of one API are called, and how their rows look."""

    kinds: Mapping[str, str]
    """Ours, by the venue's name of the channel."""
    private_type: frozenset[str]
    """`instType` of the private channels, where it is not the product."""
    fee_sign: int
    """Times the fee as sent is what was charged."""
    book_frame: Callable[[str | bytes], BookFrame]
    """Raises one of `UNREADABLE` for whatever else it may be."""
    books: Rows[ClassicBook] | Rows[UnifiedBook]
    trades: Rows[ClassicTrade] | Rows[UnifiedTrade]
    orders: Rows[ClassicOrder] | Rows[UnifiedOrder]
    fills: Rows[ClassicFill] | Rows[UnifiedFill]
    positions: Rows[ClassicPosition] | Rows[UnifiedPosition]
    accounts: Rows[ClassicAccount] | Rows[UnifiedAccount]
    tickers: Rows[Ticker]


SHAPES: Final[Mapping[ApiName, Shapes]] = {
    "classic": Shapes(
        kinds={
            "books": "books",
            "trade": "trades",
            "ticker": "ticker",
            "orders": "orders",
            "fill": "fills",
            "positions": "positions",
            "account": "account",
        },
        private_type=frozenset(),
        fee_sign=-1,
        book_frame=msgspec.json.Decoder(ClassicBookFrame).decode,
        books=Rows(ClassicBook),
        trades=Rows(ClassicTrade),
        orders=Rows(ClassicOrder),
        fills=Rows(ClassicFill),
        positions=Rows(ClassicPosition),
        accounts=Rows(ClassicAccount),
        tickers=Rows(Ticker),
    ),
    "unified": Shapes(
        kinds={
            "books": "books",
            "publicTrade": "trades",
            "ticker": "ticker",
            "order": "orders",
            "fill": "fills",
            "position": "positions",
            "account": "account",
        },
        private_type=frozenset({"UTA"}),
        fee_sign=1,
        book_frame=msgspec.json.Decoder(UnifiedBookFrame).decode,
        books=Rows(UnifiedBook),
        trades=Rows(UnifiedTrade),
        orders=Rows(UnifiedOrder),
        fills=Rows(UnifiedFill),
        positions=Rows(UnifiedPosition),
        accounts=Rows(UnifiedAccount),
        tickers=Rows(Ticker),
    ),
}
HINTS: Final = frozenset({"positions", "account"})
"""What they say is read before it is believed: without them everything is still found, later."""
PRIVATE: Final = frozenset({"orders", "fills"}) | HINTS
