"""Answers and frames as a fault leaves them: text in, text out, for either API. What is no JSON object of the expected
form comes out as it went in."""

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeGuard

from mmdaemon.venues.emulator.wrong import Wrong

Json = Any

AHEAD_MS: Final = 3_600_000
"""How far the future is ahead."""
HUGE_BYTES: Final = 6 << 20
"""More than any frame has, and less than what cuts a socket, here (`waiting_max_bytes`) and in ccxt (10 MiB)."""
DEEP_LEVELS: Final = 100_000
OTHER_SYMBOL: Final = "ETHUSDT"
HTML: Final = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
DEEP: Final = "[" * DEEP_LEVELS + "]" * DEEP_LEVELS

UNREADABLE: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What spoiling raises where another fault was there before: then it stays as that one left it."""

_TIMES: Final = frozenset({"ts", "requestTime", "cTime", "uTime", "createdTime", "updatedTime", "execTime", "T"})
_PRICES: Final = ("price", "p", "lastPr", "lastPrice", "bidPr", "askPr", "bid1Price", "ask1Price", "markPrice")
_TRADE_IDS: Final = ("tradeId", "execId")
_SMALLEST: Final = ("minTradeNum", "minOrderQty")
_STATES: Final = {"symbolStatus": "off", "status": "offline"}
_SIDES: Final = (("bids", "asks"), ("b", "a"))


def envelope(code: str, text: str, now_ms: int) -> str:
    """A refusal, as both APIs write it."""
    return json.dumps({"code": code, "msg": text, "requestTime": now_ms, "data": None})


def _is_map(value: Json) -> TypeGuard[dict[str, Json]]:
    return isinstance(value, dict)


def _is_list(value: Json) -> TypeGuard[list[Json]]:
    return isinstance(value, list)


# --- answers ----------------------------------------------------------------------------------------------------------


def answer(kind: Wrong, body: str) -> str:
    """The body of an answer, spoilt as `kind` does it."""
    spoil = _ANSWERS.get(kind)
    if spoil is None:
        return body
    try:
        whole = _object(body)
        return body if whole is None else spoil(whole)
    except UNREADABLE:
        return body


def at_moment(body: str, now_ms: int) -> str:
    """An older answer as a replica gives it again: its envelope is of now."""
    whole = _object(body)
    return body if whole is None else json.dumps({**whole, "requestTime": now_ms})


def _duplicated(whole: dict[str, Json]) -> str:
    return '{"code":"40762","msg":"twice","data":null,' + json.dumps(whole)[1:]


def _batch_dropped(whole: dict[str, Json]) -> str:
    data = whole.get("data")
    if _is_map(data):
        whole["data"] = {**data, "successList": (data.get("successList") or [])[:-1], "failureList": []}
    elif _is_list(data):
        whole["data"] = [row for row in data if row.get("orderId")][:-1]
    return json.dumps(whole)


def _page_truncated(whole: dict[str, Json]) -> str:
    data = whole.get("data")
    if _is_list(data):
        whole["data"] = _half(data)
    elif _is_map(data):
        whole["data"] = {key: _half(value) if _is_list(value) else value for key, value in data.items()}
        _lead_on(whole["data"])
    return json.dumps(whole)


def _lead_on(data: dict[str, Json]) -> None:
    """A short page leads on from its own last row: a cursor beyond rows that were never shown would lose them for
    whoever follows it, and the unified API's cursor is nobody's to guess."""
    rows = data.get("list")
    if data.get("cursor") and _is_list(rows) and rows and _is_map(rows[-1]):
        last = rows[-1]
        data["cursor"] = next((last[key] for key in ("execId", "orderId", "id") if key in last), data["cursor"])


def _half(rows: list[Json]) -> list[Json]:
    return rows[: (len(rows) + 1) // 2] if len(rows) > 1 else rows


def _minimum_changed(whole: dict[str, Json]) -> str:
    for row in _rows(whole):
        for key in _SMALLEST:
            if row.get(key):
                row[key] = format(Decimal(str(row[key])) * 10, "f")
    return json.dumps(whole)


def _delisted(whole: dict[str, Json]) -> str:
    for row in _rows(whole):
        for key, state in _STATES.items():
            if key in row:
                row[key] = state
    return json.dumps(whole)


def _future_clock(whole: dict[str, Json]) -> str:
    data = whole.get("data")
    if _is_map(data) and "serverTime" in data:
        data["serverTime"] = str(int(data["serverTime"]) + AHEAD_MS)
    return json.dumps({**whole, "requestTime": int(whole.get("requestTime", 0)) + AHEAD_MS})


def _mistyped(whole: dict[str, Json]) -> str:
    return json.dumps({**whole, "data": _turned(whole.get("data"))})


def _turned(value: Json) -> Json:
    if _is_map(value):
        return {key: _turned(each) for key, each in value.items()}
    if _is_list(value):
        return [_turned(each) for each in value] if value and _is_map(value[0]) else str(value)
    return {"is": value}


_ANSWERS: Final[Mapping[Wrong, Callable[[dict[str, Json]], str]]] = {
    Wrong.DUPLICATE_FIELDS: _duplicated,
    Wrong.BATCH_ROWS_DROPPED: _batch_dropped,
    Wrong.PAGE_TRUNCATED: _page_truncated,
    Wrong.MINIMUM_CHANGED: _minimum_changed,
    Wrong.DELISTED: _delisted,
    Wrong.FUTURE_CLOCK: _future_clock,
    Wrong.MISTYPED_ANSWER: _mistyped,
}


# --- frames -----------------------------------------------------------------------------------------------------------


def frame(kind: Wrong, text: str) -> str:
    """A frame, spoilt as `kind` does it."""
    match kind:
        case Wrong.FRAME_TRUNCATED:
            return text[: len(text) // 2]
        case Wrong.FRAME_NOT_JSON:
            return "upstream connect error or disconnect/reset before headers"
        case Wrong.FRAME_DEEP:
            return DEEP
        case Wrong.FRAME_HUGE:
            return json.dumps({"event": "x" * HUGE_BYTES})
        case _:
            spoil = _FRAMES.get(kind)
            try:
                whole = _object(text) if spoil is not None else None
                if spoil is None or whole is None or not _rows(whole):
                    return text
                spoil(whole)
                return json.dumps(whole)
            except UNREADABLE:
                return text


def refreshed(old: str, new: str) -> str:
    """An old book with the times and the sequence of the new one."""
    was, now = _object(old), _object(new)
    if was is None or now is None:
        return new
    for row, fresh in zip(_rows(was), _rows(now), strict=False):
        row.update({key: fresh[key] for key in ("seq", "pseq", *_TIMES) if key in fresh})
    return json.dumps({**was, **({"ts": now["ts"]} if "ts" in now else {})})


def _other_symbol(whole: dict[str, Json]) -> None:
    for row in (whole.get("arg", {}), *_rows(whole)):
        for key in ("instId", "symbol"):
            if row.get(key, "default") != "default":
                row[key] = OTHER_SYMBOL
        for key in _TRADE_IDS:
            if row.get(key):  # a trade there is none of ours, whatever else it has in common with one
                row[key] = f"{row[key]}0"


def _ahead(value: Json) -> Json:
    if _is_list(value):
        return [_ahead(each) for each in value]
    if not _is_map(value):
        return value
    return {
        key: type(each)(int(each) + AHEAD_MS)
        if key in _TIMES and isinstance(each, str | int) and str(each).isdecimal()
        else _ahead(each)
        for key, each in value.items()
    }


def _future(whole: dict[str, Json]) -> None:
    whole.update(_ahead(whole))


def _priced(change: Callable[[str], str]) -> Callable[[dict[str, Json]], None]:
    """Every price of a book; of other rows, every price that they name."""

    def spoil(whole: dict[str, Json]) -> None:
        for row in _rows(whole):
            for side in (name for names in _SIDES for name in names if _is_list(row.get(name))):
                row[side] = [[change(level[0]), *level[1:]] for level in row[side]]
            for key in _PRICES:
                if row.get(key):
                    row[key] = change(str(row[key]))

    return spoil


def _absurd(text: str) -> str:
    """Twice as high: each on a tick, and no two the same."""
    return str(Decimal(text) * 2)


def _gap(whole: dict[str, Json]) -> None:
    for row in _rows(whole):
        if "pseq" in row:
            row["pseq"] = _like(row["pseq"], int(row["pseq"]) + 7)


def _restart(whole: dict[str, Json]) -> None:
    whole["action"] = "update"
    for row in _rows(whole):
        if "pseq" in row:
            row["pseq"] = _like(row["pseq"], 0)


def _checksum(whole: dict[str, Json]) -> None:
    whole["action"] = "update"
    for row in _rows(whole):
        row["checksum"] = int(row.get("checksum", 0)) ^ 0x5A5A5A5


def _crossed(whole: dict[str, Json]) -> None:
    for row in _rows(whole):
        bids, asks = _sides(row)
        seen = [Decimal(level[0]) for level in (*row.get(asks, ()), *row.get(bids, ()))]
        if seen:
            row[bids] = [[str(int(max(seen) * 102 / 100)), "1"], *row.get(bids, ())]


def _one_sided(whole: dict[str, Json]) -> None:
    whole["action"] = "snapshot"
    for row in _rows(whole):
        bids, asks = _sides(row)
        row[bids] = [level for level in row.get(bids, ()) if Decimal(level[1]) > 0]
        row[asks] = []


def _frozen(whole: dict[str, Json]) -> None:
    if whole.get("action") == "snapshot":
        return
    for row in _rows(whole):
        for side in _sides(row):
            row[side] = []


def _sides(row: Mapping[str, Json]) -> tuple[str, str]:
    return _SIDES[1] if "a" in row or "b" in row else _SIDES[0]


def _like(was: Json, number: int) -> Json:
    return str(number) if isinstance(was, str) else number


_FRAMES: Final[Mapping[Wrong, Callable[[dict[str, Json]], None]]] = {
    Wrong.FRAME_MISTYPED: lambda whole: whole.update(data=_turned(whole["data"])),
    Wrong.FRAME_OTHER_SYMBOL: _other_symbol,
    Wrong.FRAME_FUTURE: _future,
    Wrong.PRICE_NAN: _priced(lambda _text: "NaN"),
    Wrong.PRICE_INFINITE: _priced(lambda _text: "Infinity"),
    Wrong.PRICE_ZERO: _priced(lambda _text: "0"),
    Wrong.PRICE_NEGATIVE: _priced(lambda text: f"-{text}"),
    Wrong.PRICE_ABSURD: _priced(_absurd),
    Wrong.BOOK_GAP: _gap,
    Wrong.BOOK_RESTART: _restart,
    Wrong.BOOK_CHECKSUM: _checksum,
    Wrong.BOOK_CROSSED: _crossed,
    Wrong.BOOK_ONE_SIDED: _one_sided,
    Wrong.BOOK_FROZEN: _frozen,
}


def _object(text: str) -> dict[str, Json] | None:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return whole if _is_map(whole) else None


def _rows(whole: Mapping[str, Json]) -> list[dict[str, Json]]:
    """`data` as a list of objects, whichever way it holds them; none where it holds something else."""
    data = whole.get("data")
    if _is_map(data):
        return [data]
    return [row for row in data if _is_map(row)] if _is_list(data) else []
