"""The frames of Bitget's two streams, as they are typed on the wire: what is of another shape is not decoded.

The two APIs say the same things under other names, so each structure is written twice with the names of the first:
`Classic...` for /v2/ws, `Unified...` for /v3/ws. Numbers stay text: `codec` reads them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, Literal, TypeVar, cast

import msgspec

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
    deduction: Text = None


class UnifiedFee(msgspec.Struct, frozen=True, gc=False):
    """Positive is a cost."""

    coin: str = msgspec.field(name="feeCoin")
    fee: str
    deduction: Text = None


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


Book = ClassicBook | UnifiedBook
Trade = ClassicTrade | UnifiedTrade
Order = ClassicOrder | UnifiedOrder
Fee = ClassicFee | UnifiedFee
Fill = ClassicFill | UnifiedFill

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


class Shapes(msgspec.Struct, frozen=True):
    """What the channels of one API are called, and how their rows look."""

    kinds: Mapping[str, str]
    """Ours, by the venue's name of the channel."""
    private_type: frozenset[str]
    """`instType` of the private channels, where it is not the product."""
    fee_sign: int
    """Times the fee as sent is what was charged."""
    books: Rows[ClassicBook] | Rows[UnifiedBook]
    trades: Rows[ClassicTrade] | Rows[UnifiedTrade]
    orders: Rows[ClassicOrder] | Rows[UnifiedOrder]
    fills: Rows[ClassicFill] | Rows[UnifiedFill]
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
        books=Rows(ClassicBook),
        trades=Rows(ClassicTrade),
        orders=Rows(ClassicOrder),
        fills=Rows(ClassicFill),
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
        books=Rows(UnifiedBook),
        trades=Rows(UnifiedTrade),
        orders=Rows(UnifiedOrder),
        fills=Rows(UnifiedFill),
        tickers=Rows(Ticker),
    ),
}
PRIVATE: Final = frozenset({"orders", "fills", "positions", "account"})
