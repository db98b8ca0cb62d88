"""A listener that remembers, and the pushes of both APIs as the venue writes them."""

import json
from typing import Any, Final, Literal

from mmdaemon.core.events import Event
from mmdaemon.core.types import E10, Instrument
from mmdaemon.venues.bitget.streams import OrderPush, Streams
from mmdaemon.venues.codec import Scale

ApiName = Literal["classic", "unified"]
Json = dict[str, Any]
BTC: Final = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
MONO_NS: Final = 5_000_000_000
TS_MS: Final = 1_755_937_421_000
TS_NS: Final = TS_MS * 1_000_000
TOPICS: Final = {"trade": "publicTrade", "orders": "order", "positions": "position"}
"""What the unified API calls a channel of the classic one, where it is not the same."""
NAMES: Final[dict[str, dict[str, str]]] = {
    "books": {"bids": "b", "asks": "a"},
    "trade": {"tradeId": "i", "price": "p", "size": "v", "side": "S", "ts": "T"},
    "ticker": {},
    "orders": {
        "instId": "symbol",
        "size": "qty",
        "accBaseVolume": "cumExecQty",
        "status": "orderStatus",
        "uTime": "updatedTime",
    },
    "fill": {"tradeId": "execId", "price": "execPrice", "baseVolume": "execQty", "uTime": "execTime"},
    "positions": {
        "instId": "symbol",
        "holdSide": "posSide",
        "total": "size",
        "openPriceAvg": "avgPrice",
        "posMode": "holdMode",
    },
    "account": {},
}
PRIVATE: Final = ("orders", "fill", "positions", "account")


class Heard:
    """What was told, in order, as (what, it)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def event(self, fact: Event) -> None:
        self.told.append((type(fact).__name__, fact))

    def order(self, push: OrderPush) -> None:
        self.told.append(("OrderPush", push))

    def book_lost(self, why: str) -> None:
        self.told.append(("lost", why))

    def book_back(self) -> None:
        self.told.append(("back", None))

    def refused(self, kind: str, reason: str) -> None:
        self.told.append(("refused", (kind, reason)))

    def take(self) -> list[tuple[str, Any]]:
        told, self.told = self.told, []
        return told

    def names(self) -> list[str]:
        return [name for name, _ in self.take()]


class Bench:
    """Streams with a listener and a clock that is set by hand."""

    def __init__(self, api: ApiName, *, depth: int = 10, checksum: bool = True, instrument: Instrument = BTC) -> None:
        self.api: ApiName = api
        self.heard = Heard()
        self.now: tuple[int, int] = (MONO_NS, TS_NS)
        self.fees_in = set[str]()
        self.streams = Streams(
            *(api, instrument.symbol, Scale(instrument), lambda: self.now, self.heard, depth, checksum), self.fees_in
        )

    def play(self, *pushes: Json | str | bytes) -> list[tuple[str, Any]]:
        for push in pushes:
            assert self.streams.on_frame(text_of(push)) is True
        return self.heard.take()

    def facts(self, *pushes: Json | str) -> list[Any]:
        return [it for _, it in self.play(*pushes)]


def text_of(push: Json | str | bytes) -> str | bytes:
    return json.dumps(push) if isinstance(push, dict) else push


def push(api: str, channel: str, rows: Any, *, action: str = "snapshot", ts: int = TS_MS, **arg: str) -> Json:
    """`channel` and the fields of `rows` by their classic names."""
    named = NAMES[channel]
    if api == "unified":
        topic = {"topic": TOPICS.get(channel, channel)}
        of = {"instType": "UTA"} if channel in PRIVATE else {"instType": "usdt-futures", "symbol": "BTCUSDT"}
        if isinstance(rows, list):
            more = {"category": "usdt-futures"} if channel in ("orders", "fill") else {}
            rows = [
                more | {named.get(key, key): value for key, value in row.items()} if isinstance(row, dict) else row
                for row in rows
            ]
    else:
        topic = {"channel": channel}
        of = {"instType": "USDT-FUTURES", "instId": "default" if channel in PRIVATE else "BTCUSDT"}
    return {"action": action, "arg": {**of, **topic, **arg}, "data": rows, "ts": ts}


def book(
    api: str, bids: list[list[str]], asks: list[list[str]], *, pseq: Any = 0, seq: Any = 1, ts: int = TS_MS, **more: Any
) -> Json:
    """A snapshot where `pseq` is 0."""
    row = {"bids": bids, "asks": asks, "pseq": pseq, "seq": seq, "ts": str(ts)} | more
    row = {key: value for key, value in row.items() if value is not ...}
    return push(api, "books", [row], action="update" if pseq else "snapshot")


def order(**fields: Any) -> Json:
    """A resting order of ours, as the classic API writes it."""
    row = {
        "instId": "BTCUSDT",
        "orderId": "1171636690028761089",
        "clientOid": "mmabcd-1-7",
        "side": "buy",
        "price": "64000.1",
        "size": "0.0150",
        "accBaseVolume": "0",
        "status": "live",
        "orderType": "limit",
        "force": "post_only",
        "posMode": "one_way_mode",
        "uTime": str(TS_MS),
    }
    return row | fields


def fill(api: str, fee: str = "0.038", **fields: Any) -> Json:
    """A fill of that order; `fee` is what it costs."""
    opposite = fee.removeprefix("-") if fee.startswith("-") else f"-{fee}"
    detail = {"totalFee": opposite, "deduction": "no"} if api == "classic" else {"fee": fee}
    row = {
        "symbol": "BTCUSDT",
        "tradeId": "1171636690314407937",
        "orderId": "1171636690028761089",
        "clientOid": "mmabcd-1-7",
        "side": "buy",
        "price": "64000.1",
        "baseVolume": "0.0100",
        "tradeSide": "buy_single",
        "tradeScope": "maker",
        "feeDetail": [{"feeCoin": "USDT", **detail}],
        "uTime": str(TS_MS),
    }
    return row | fields
