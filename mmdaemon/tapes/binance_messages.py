"""One line of a raw stream recording of Binance USD-M futures: `<local receive ns> <json>`, and the messages in it."""

from typing import Annotated

import msgspec

from mmdaemon.tapes.rows import LATEST_NS, BadRow, moment

MS = 1_000_000
"""Nanoseconds."""
_LOCAL_DIGITS = 19

Pairs = list[tuple[str, str]]
Ms = Annotated[int, msgspec.Meta(gt=0, lt=LATEST_NS // MS)]
Id = Annotated[int, msgspec.Meta(ge=0)]


class _Message(msgspec.Struct, frozen=True, tag_field="e", gc=False):
    sent_ms: Ms = msgspec.field(name="E")
    symbol: str = msgspec.field(name="s")


class DepthUpdate(_Message, frozen=True, tag="depthUpdate", gc=False):
    at_ms: Ms = msgspec.field(name="T")
    u: Id
    pu: int
    bids: Pairs = msgspec.field(name="b")
    asks: Pairs = msgspec.field(name="a")

    def levels(self) -> Pairs:
        return [*self.bids, *self.asks]


class BookTicker(_Message, frozen=True, tag="bookTicker", gc=False):
    at_ms: Ms = msgspec.field(name="T")
    u: Id
    bid: str = msgspec.field(name="b")
    bid_size: str = msgspec.field(name="B")
    ask: str = msgspec.field(name="a")
    ask_size: str = msgspec.field(name="A")

    def levels(self) -> Pairs:
        return [(self.bid, self.bid_size), (self.ask, self.ask_size)]


class TradeMessage(_Message, frozen=True, tag="trade", gc=False):
    at_ms: Ms = msgspec.field(name="T")
    id: Id = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    size: str = msgspec.field(name="q")
    buyer_is_maker: bool = msgspec.field(name="m")
    execution: str = msgspec.field(name="X", default="MARKET")
    """MARKET is a print; INSURANCE_FUND, ADL and NA are not: nobody took what stood in the book."""

    def levels(self) -> Pairs:
        return [(self.price, self.size)]


class AggTrade(_Message, frozen=True, tag="aggTrade", gc=False):
    at_ms: Ms = msgspec.field(name="T")
    id: Id = msgspec.field(name="a")
    price: str = msgspec.field(name="p")
    size: str = msgspec.field(name="q")
    buyer_is_maker: bool = msgspec.field(name="m")
    execution: str = "MARKET"

    def levels(self) -> Pairs:
        return [(self.price, self.size)]


class MarkPrice(_Message, frozen=True, tag="markPriceUpdate", gc=False):
    """Has no transaction time: its `T` is when the next funding is settled."""

    mark: str = msgspec.field(name="p")
    funding_ms: Annotated[int, msgspec.Meta(ge=0, lt=LATEST_NS // MS)] = msgspec.field(name="T", default=0)
    index: str = msgspec.field(name="i", default="")
    rate: str = msgspec.field(name="r", default="")

    @property
    def at_ms(self) -> int:
        return self.sent_ms

    def levels(self) -> Pairs:
        return []


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """The answer of `GET /fapi/v1/depth`."""

    u: Id = msgspec.field(name="lastUpdateId")
    sent_ms: Ms = msgspec.field(name="E")
    at_ms: Ms = msgspec.field(name="T")
    bids: Pairs
    asks: Pairs
    symbol: str = ""

    def levels(self) -> Pairs:
        return [*self.bids, *self.asks]


class _Body(msgspec.Struct):
    """What is looked at to say what a message is; `data` is what an envelope holds."""

    data: msgspec.Raw = msgspec.Raw()
    e: str = ""
    lastUpdateId: int | None = None  # noqa: N815 - the venue's name


Message = DepthUpdate | BookTicker | TradeMessage | AggTrade | MarkPrice | Snapshot

_BODY = msgspec.json.Decoder(_Body)
_SNAPSHOT = msgspec.json.Decoder(Snapshot)
_TAGGED = msgspec.json.Decoder(DepthUpdate | BookTicker | TradeMessage | AggTrade | MarkPrice)
_READ = frozenset({"depthUpdate", "bookTicker", "trade", "aggTrade", "markPriceUpdate"})


def parse(line: bytes) -> tuple[int, Message]:
    """`(local_ns, message)` of a line. Raises BadRow: "bad_time", "bad_json", "bad_shape", or `kind_...` if unread."""
    local, _, text = line.partition(b" ")
    if len(local) != _LOCAL_DIGITS or not local.isdigit():
        raise BadRow("bad_time", f"a line begins with local time in ns ({_LOCAL_DIGITS} digits), not {local[:24]!r}")
    local_ns = moment(int(local), local.decode())
    try:
        body = _BODY.decode(text)
        if raw := bytes(body.data):
            text, body = raw, _BODY.decode(raw)
        if body.e in _READ:
            return local_ns, _TAGGED.decode(text)
        if body.lastUpdateId is not None:
            return local_ns, _SNAPSHOT.decode(text)
    except msgspec.ValidationError as error:
        raise BadRow("bad_shape", f"{error}, in {text[:60]!r}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "bad_json" if line.endswith(b"\n") else "cut_off"
        raise BadRow(reason, f"{error}, in {text[:60]!r}") from None
    kind = body.e if body.e.isascii() and body.e.isalnum() and len(body.e) <= 24 else "unnamed"
    raise BadRow(f"kind_{kind}", "not read here")
