"""What a push of Bitget's says, read in the plainest way: Python's own JSON, Decimal, a dictionary a side, sorted when
looked at. Nothing here is shared with the code that it judges.

It may be more lenient than the code (who refuses more does no harm), so it is told when the code's book is lost.
"""

import json
import re
import zlib
from decimal import Context, Decimal
from typing import Any, Final

from mmdaemon.core.events import BookUpdate, Fill, FundingRate, MarkPrice, TradePrint
from mmdaemon.core.types import E10, ExecKind, Liquidity, OrderStatus, Side
from mmdaemon.venues.bitget.streams import OrderPush

TICK: Final = Decimal("0.01")
LOT: Final = Decimal("0.0001")
INTERVAL_S: Final = 28_800
CHANNELS: Final = {
    "classic": {"books": "books", "trade": "trade", "ticker": "ticker", "orders": "orders", "fill": "fill"},
    "unified": {"books": "books", "publicTrade": "trade", "ticker": "ticker", "order": "orders", "fill": "fill"},
}
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)
_WIDE: Final = Context(prec=200)
_MONEY: Final = 1 << 63
_LIVE: Final = ("init", "new", "live", "partially_filled")
_KINDS: Final = {
    "open": ExecKind.TRADE,
    "close": ExecKind.TRADE,
    "buy_single": ExecKind.TRADE,
    "sell_single": ExecKind.TRADE,
    "burst_buy_single": ExecKind.LIQUIDATION,
    "burst_sell_single": ExecKind.LIQUIDATION,
    "dte_sys_adl_buy_in_single_side_mode": ExecKind.ADL,
    "dte_sys_adl_sell_in_single_side_mode": ExecKind.ADL,
}


class Bad(Exception):
    """It says nothing that could be told."""


def parsed(data: str | bytes) -> Any:
    """Raises Bad."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    try:
        return json.loads(text, strict=False, parse_constant=_never)
    except (ValueError, RecursionError):
        raise Bad("no JSON") from None


def _never(word: str) -> None:
    raise ValueError(word)


def amount(text: Any) -> Decimal:
    if not isinstance(text, str) or not _NUMBER.fullmatch(text) or len(text) > 60:
        raise Bad("no number")
    value = Decimal(text)
    if abs(value.adjusted()) > 60:
        raise Bad("absurd")
    return value


def steps(text: Any, step: Decimal) -> int:
    quotient, rest = _WIDE.divmod(amount(text), step)
    if rest:
        raise Bad("between steps")
    return int(quotient)


def nearest(text: Any) -> int:
    return int(_WIDE.to_integral_value(_WIDE.divide(amount(text), TICK)))


def whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,25}", value, re.ASCII):
        value = int(value)
    if type(value) is not int:
        raise Bad("not whole")
    return value


def time_ns(value: Any) -> int:
    ms = whole(value)
    if ms <= 0:
        raise Bad("no time")
    return ms * 1_000_000


def text_at(row: Any, key: str) -> str:
    if not isinstance(row, dict) or not isinstance(row.get(key), str):
        raise Bad(key)
    return row[key]


class PlainFrames:
    """`read` says every fact that a frame may give, and keeps the book."""

    def __init__(self, api: str, *, verifies: bool) -> None:
        self.api, self.verifies = api, verifies
        self.unified = api == "unified"
        self.bids: dict[int, tuple[int, str]] = {}
        self.asks: dict[int, tuple[int, str]] = {}
        self.seq: int | None = None
        self.is_good = self.is_fresh = False
        self.newest_ns = 0
        self.client_ids: dict[str, str] = {}

    def lose(self) -> None:
        self.is_good = False

    def read(self, data: str | bytes, mono_ns: int, ts_ns: int) -> list[Any]:
        """Raises Bad where nothing may be told at all."""
        push = parsed(data)
        arg = push.get("arg") if isinstance(push, dict) else None
        if not isinstance(arg, dict) or push.get("event") is not None:
            raise Bad("no push")
        name = arg.get("channel") or arg.get("topic")
        channel = CHANNELS[self.api].get(name) if isinstance(name, str) else None
        if channel is None:
            raise Bad("not ours")
        private = channel in ("orders", "fill")
        products = ("UTA",) if self.unified and private else ("USDT-FUTURES", "usdt-futures")
        if arg.get("instType") not in products:
            raise Bad("another product")
        if not private and (arg.get("instId") or arg.get("symbol")) != "BTCUSDT":
            raise Bad("another symbol")
        rows = push.get("data")
        if not isinstance(rows, list):
            raise Bad("no rows")
        if channel == "books":
            return [self._book(push, rows, mono_ns, ts_ns)]
        facts: list[Any] = []
        for row in rows:
            try:
                facts += {
                    "trade": self._trade,
                    "ticker": self._ticker,
                    "orders": self._order,
                    "fill": self._fill,
                }[channel](row, push, mono_ns, ts_ns)
            except Bad:
                continue
        return facts

    # --- the book -----------------------------------------------------------------------------------------------------

    def _book(self, push: Any, rows: list[Any], mono_ns: int, ts_ns: int) -> BookUpdate:
        if len(rows) != 1 or not isinstance(rows[0], dict):
            raise Bad("rows")
        (row,) = rows
        is_snapshot = push.get("action") == "snapshot"
        if not is_snapshot and push.get("action") != "update":
            raise Bad("action")
        at_ns = time_ns(row.get("ts"))
        if at_ns > ts_ns + 60_000_000_000:
            raise Bad("future")
        seq = None if row.get("seq") is None else whole(row["seq"])
        pseq = None if row.get("pseq") is None else whole(row["pseq"])
        if (seq is not None and seq <= 0) or (pseq is not None and pseq < 0):
            raise Bad("numbers")
        checksum = row.get("checksum")
        if type(checksum) not in (int, type(None)):
            raise Bad("checksum")
        proves = bool(checksum) and self.verifies
        if is_snapshot:
            if at_ns < self.newest_ns or (seq is None and not proves):
                raise Bad("stale or unproven")
            bids, asks = {}, {}
        else:
            if not self.is_good:
                raise Bad("no book")
            if self.seq is None:
                follows = seq is None and proves
            elif seq is None or pseq is None:
                follows = False
            else:
                follows = pseq < seq and (pseq == self.seq or (self.is_fresh and pseq > 0 and pseq <= self.seq <= seq))
            if not follows:
                raise Bad("gap")
            bids, asks = dict(self.bids), dict(self.asks)
        names = ("b", "a") if self.unified else ("bids", "asks")
        for side, name in zip((bids, asks), names, strict=True):
            self._change(side, row.get(name), is_snapshot=is_snapshot)
        if bids and asks and max(bids) > min(asks):
            raise Bad("crossed")
        if proves and checksum != crc(bids, asks):
            raise Bad("checksum")
        self.bids, self.asks, self.seq, self.is_good, self.is_fresh = bids, asks, seq, True, is_snapshot
        self.newest_ns = max(self.newest_ns, at_ns)
        ours = [(px, bids[px][0]) for px in sorted(bids, reverse=True)]
        theirs = [(px, asks[px][0]) for px in sorted(asks)]
        return BookUpdate(mono_ns, ts_ns, at_ns, tuple(ours[:10]), tuple(theirs[:10]))

    def _change(self, side: dict[int, tuple[int, str]], levels: Any, *, is_snapshot: bool) -> None:
        if not isinstance(levels, list):
            raise Bad("levels")
        for level in levels:
            if not isinstance(level, list) or len(level) != 2:
                raise Bad("level")
            px, lots = steps(level[0], TICK), steps(level[1], LOT)
            if px <= 0 or lots < 0 or (is_snapshot and lots and px in side):
                raise Bad("level")
            side[px] = (lots, f"{level[0]}:{level[1]}")
            if not lots:
                del side[px]

    # --- the rest -----------------------------------------------------------------------------------------------------

    def _trade(self, row: Any, _push: Any, mono_ns: int, ts_ns: int) -> list[TradePrint]:
        keys = ("T", "p", "v", "S") if self.unified else ("ts", "price", "size", "side")
        at, px, qty, side = (row.get(key) if isinstance(row, dict) else None for key in keys)
        px_ticks, lots = steps(px, TICK), steps(qty, LOT)
        if px_ticks <= 0 or lots <= 0 or not isinstance(side, str) or side.lower() not in ("buy", "sell"):
            raise Bad("trade")
        aggressor = Side.BUY if side.lower() == "buy" else Side.SELL
        return [TradePrint(mono_ns, ts_ns, time_ns(at), px_ticks, lots, aggressor)]

    def _ticker(self, row: Any, push: Any, mono_ns: int, ts_ns: int) -> list[MarkPrice | FundingRate]:
        if not isinstance(row, dict) or len(push["data"]) != 1 or row.get("instId") not in (None, "", "BTCUSDT"):
            raise Bad("ticker")
        at_ns = time_ns(row["ts"] if row.get("ts") is not None else push.get("ts"))
        mark = nearest(row.get("markPrice"))
        if mark <= 0 or at_ns > ts_ns + 60_000_000_000:
            raise Bad("mark")
        facts: list[MarkPrice | FundingRate] = [MarkPrice(mono_ns, ts_ns, at_ns, mark)]
        try:
            rate = float(amount(row.get("fundingRate")))
            if -1 < rate < 1:
                next_ns = time_ns(row.get("nextFundingTime"))
                facts.append(FundingRate(mono_ns, ts_ns, at_ns, rate, next_ns, INTERVAL_S))
        except Bad:
            pass
        return facts

    def _is_ours(self, row: Any, key: str) -> bool:
        if self.unified and row.get("category") not in ("usdt-futures", "USDT-FUTURES"):
            return False
        return row.get(key) == "BTCUSDT"

    def _order(self, row: Any, push: Any, mono_ns: int, ts_ns: int) -> list[OrderPush]:
        names = (
            ("symbol", "qty", "cumExecQty", "orderStatus", "updatedTime")
            if self.unified
            else ("instId", "size", "accBaseVolume", "status", "uTime")
        )
        symbol, size, filled, status, updated = names
        if not isinstance(row, dict) or not self._is_ours(row, symbol):
            raise Bad("another's")
        lots, done, word = steps(row.get(size), LOT), steps(row.get(filled), LOT), row.get(status)
        if lots <= 0 or not 0 <= done <= lots:
            raise Bad("sizes")
        if word in _LIVE:
            meant = OrderStatus.PARTIAL if done else OrderStatus.LIVE
        elif word in ("filled", "cancelled", "canceled"):
            meant = OrderStatus.FILLED if word == "filled" else OrderStatus.CANCELLED
        else:
            raise Bad("status")
        side = {"buy": Side.BUY, "sell": Side.SELL}.get(text_at(row, "side"))
        price = row.get("price") or "0"
        px_ticks: int | None = steps(price, TICK) if isinstance(price, str) and price.strip("0.") else None
        if side is None or (px_ticks is not None and px_ticks <= 0):
            raise Bad("side or price")
        at = row[updated] if row.get(updated) is not None else push.get("ts")
        at_ns = None if at is None else time_ns(at)
        order_id = text_at(row, "orderId")
        client_id = self._named(row, order_id)
        self.client_ids[order_id] = client_id
        why = row.get("cancelReason") or ""
        reason = {"normal_cancel": "cancelled", "stp_cancel": "self_trade", "": ""}.get(str(why).lower(), "cancelled")
        reason = "post_only" if "post" in str(why).lower() else reason
        reason = reason if meant is OrderStatus.CANCELLED else ""
        return [OrderPush(mono_ns, ts_ns, at_ns, client_id, order_id, side, meant, done, px_ticks, lots, reason)]

    def _named(self, row: Any, order_id: str) -> str:
        client_id = row.get("clientOid")
        is_id = isinstance(client_id, str) and re.fullmatch(r"[A-Za-z0-9_.:#/-]{1,64}", client_id, re.ASCII)
        return str(client_id) if is_id else f"venue:{order_id}"

    def _fill(self, row: Any, _push: Any, mono_ns: int, ts_ns: int) -> list[Fill]:
        names = ("execId", "execPrice", "execQty", "execTime", "createdTime", "fee", 1)
        if not self.unified:
            names = ("tradeId", "price", "baseVolume", "uTime", "cTime", "totalFee", -1)
        trade_id, price, size, at, created, fee, sign = names
        if not isinstance(row, dict) or not self._is_ours(row, "symbol"):
            raise Bad("another's")
        kind = _KINDS.get(str(row.get("tradeSide")))
        if row.get("execType") not in (None, "", "normal"):
            kind = ExecKind.LIQUIDATION if kind and row["execType"] == "liquidation" else None
        side = {"buy": Side.BUY, "sell": Side.SELL}.get(text_at(row, "side"))
        scope = {"maker": Liquidity.MAKER, "taker": Liquidity.TAKER}.get(text_at(row, "tradeScope"))
        px_ticks, lots = steps(row.get(price), TICK), steps(row.get(size), LOT)
        fees = row.get("feeDetail")
        if kind is None or side is None or scope is None or px_ticks <= 0 or lots <= 0 or not fees:
            raise Bad("fill")
        total = Decimal(0)
        parts: list[Any] = fees if isinstance(fees, list) else [None]
        for each in parts:
            coin, paid = text_at(each, "feeCoin"), amount(text_at(each, fee))
            if not isinstance(each.get("deduction"), str | bool | None) or (paid and not coin):
                raise Bad("fee")
            px = {"USDT": Decimal(1), "BTC": px_ticks * TICK}.get(coin, Decimal(0))
            total = _WIDE.add(total, _WIDE.multiply(paid, _WIDE.multiply(px, Decimal(sign * E10))))
        charged = int(_WIDE.to_integral_value(total))
        if not -_MONEY <= charged < _MONEY:
            raise Bad("fee")
        order_id = text_at(row, "orderId")
        known = self.client_ids.get(order_id)
        client_id = known if known and not row.get("clientOid") else self._named(row, order_id)
        if kind is ExecKind.TRADE and not row.get("clientOid") and known is None:
            raise Bad("whose")
        at_ns = time_ns(row[at] if row.get(at) is not None else row.get(created))
        ids = (text_at(row, trade_id), client_id)
        return [Fill(mono_ns, ts_ns, at_ns, *ids, side, px_ticks, lots, charged, scope, kind)]


def crc(bids: dict[int, tuple[int, str]], asks: dict[int, tuple[int, str]]) -> int:
    """The venue's checksum of a book."""
    ours, theirs = sorted(bids, reverse=True), sorted(asks)
    parts: list[str] = []
    for i in range(25):
        if i < len(ours):
            parts.append(bids[ours[i]][1])
        if i < len(theirs):
            parts.append(asks[theirs[i]][1])
    value = zlib.crc32(":".join(parts).encode(errors="replace"))
    return value - 2**32 if value >= 2**31 else value
