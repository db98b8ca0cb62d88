"""Reading a request.

It is read strictly where the venue's documentation is: values are strings (a number is taken where ccxt is known to
send one), what is missing or of the wrong type is refused by name, and keys that nobody knows are let be.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from mmdaemon.core.events import BarClosed
from mmdaemon.venues.codec import Malformed
from mmdaemon.venues.emulator.dialect import Json, Route
from mmdaemon.venues.emulator.errors import missing, mistyped
from mmdaemon.venues.emulator.figures import FUTURES
from mmdaemon.venues.emulator.rows import No, OrderRow, Why

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

Params = Mapping[str, Any]
Read = Callable[["Account", Params], Json]

PRODUCTS: Final = frozenset(
    {FUTURES, "COIN-FUTURES", "USDC-FUTURES", "SUSDT-FUTURES", "SCOIN-FUTURES", "SUSDC-FUTURES", "SPOT", "MARGIN"}
)
DAY_MS: Final = 86_400_000
MINUTE_MS: Final = 60_000
PAGE_MAX: Final = 100
EVERY: Final = 1_000_000
"""No page at all: what is filtered is filtered before it is cut into pages."""


# --- routes -----------------------------------------------------------------------------------------------------------


def get(path: str, read: Read, per_s: float) -> Route:
    """A signed call."""
    return Route("GET", path, lambda account, params: read(account, an_object(params)), per_s)


def post(path: str, read: Read, per_s: float) -> Route:
    """A signed call whose body is an object."""
    return Route("POST", path, lambda account, params: read(account, an_object(params)), per_s)


def public(path: str, read: Read, per_s: float = 20) -> Route:
    return Route("GET", path, lambda account, params: read(account, an_object(params)), per_s, signed=False)


def server_time(account: "Account", _: Params) -> Json:
    return {"serverTime": str(account.now_ms())}


TIME: Final = public("/api/v2/public/time", server_time)
"""Both kinds of account ask this one."""


# --- parameters -------------------------------------------------------------------------------------------------------


def an_object(params: object) -> Params:
    if not isinstance(params, Mapping):
        raise mistyped("body")
    return cast("Params", params)


def a_list(value: object, name: str, most: int) -> list[Params]:
    """A list of objects, at most so many and at least one."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise mistyped(name)
    items = cast("Sequence[object]", value)
    if not items:
        raise missing(name)
    if len(items) > most:
        raise mistyped(name)
    return [an_object(item) for item in items]


def optional(params: Params, name: str) -> str:
    """A text; empty where it is absent, null or empty."""
    value = params.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise mistyped(name)
    return value


def text(params: Params, name: str) -> str:
    value = optional(params, name)
    if not value:
        raise missing(name)
    return value


def word(params: Params, name: str, words: frozenset[str], default: str = "") -> str:
    """One of the words, in lower case. The venue takes either case (ccxt sends `IOC`, the docs say `ioc`)."""
    value = optional(params, name).lower() or default
    if not value:
        raise missing(name)
    if value not in words:
        raise mistyped(name)
    return value


def is_ours(params: Params, name: str) -> bool:
    """Whether a product type or category is the one that is traded here; the others exist and are empty."""
    value = text(params, name).upper()
    if value not in PRODUCTS:
        raise mistyped(name)
    return value == FUTURES


def must_be_ours(params: Params, name: str) -> None:
    if not is_ours(params, name):
        raise No(Why.SYMBOL)


def symbol(account: "Account", params: Params) -> None:
    if text(params, "symbol").upper() != account.symbol:
        raise No(Why.SYMBOL)


def is_our_symbol(account: "Account", params: Params) -> bool:
    """Of a filter: absent is ours."""
    value = optional(params, "symbol").upper()
    return value in ("", account.symbol)


def key(params: Params) -> str:
    """By which id an order is meant; the venue's own wins where both are given."""
    value = optional(params, "orderId") or optional(params, "clientOid")
    if not value:
        raise missing("orderId")
    return value


def px_ticks(account: "Account", params: Params, name: str, *, number: bool = False) -> int:
    """`number`: a JSON number is taken too, as ccxt sends one for `triggerPrice`."""
    value = params.get(name)
    given = str(value) if number and type(value) in (int, float) else text(params, name)
    try:
        return account.scale.px_ticks(given)
    except Malformed as bad:
        raise (No(Why.PRICE_SCALE) if str(bad) == "off_tick" else mistyped(name)) from None


def qty_lots(account: "Account", params: Params, name: str) -> int:
    try:
        lots = account.scale.qty_lots(text(params, name))
    except Malformed as bad:
        raise (No(Why.SIZE_SCALE) if str(bad) == "off_lot" else mistyped(name)) from None
    if not lots:
        raise No(Why.TOO_SMALL)
    return lots


def whole(params: Params, name: str, default: int | None, least: int, most: int) -> int:
    """A whole number, in text."""
    value = optional(params, name)
    if not value and default is not None:
        return default
    if not value:
        raise missing(name)
    if not (value.isascii() and value.isdecimal()) or not least <= int(value) <= most:
        raise mistyped(name)
    return int(value)


def window(account: "Account", params: Params, default_days: int, most_days: int) -> tuple[int, int]:
    """(since, until) in milliseconds, both inclusive. Given one end alone the other is the default span from it."""
    start, end = optional(params, "startTime"), optional(params, "endTime")
    for name, given in (("startTime", start), ("endTime", end)):
        if given and not (given.isascii() and given.isdecimal()):
            raise mistyped(name)
    span = default_days * DAY_MS
    if not start:
        until = int(end) if end else account.now_ms()
        return until - span, until
    since = int(start)
    until = int(end) if end else min(max(account.now_ms(), since), since + most_days * DAY_MS)
    if not 0 <= until - since <= most_days * DAY_MS:
        raise mistyped("startTime")
    return since, until


def page_of_orders(rows: Sequence[OrderRow], before_id: str, limit: int) -> list[OrderRow]:
    """Newest first, older than an id."""
    newest_first = sorted(rows, key=lambda row: int(row.order_id), reverse=True)
    return [row for row in newest_first if not before_id or int(row.order_id) < int(before_id)][:limit]


def before(params: Params, name: str) -> str:
    value = optional(params, name)
    if value and not (value.isascii() and value.isdecimal()):
        raise mistyped(name)
    return value


def listed(rows: list[Json], before_id: str) -> list[Json] | None:
    """An empty list is `null` on the first page and `[]` after the last: the venue is known to send both."""
    return rows if rows or before_id else None


# --- minutes --------------------------------------------------------------------------------------------------------


def bars(account: "Account", params: Params, interval: str, most: int, *, forming: bool) -> list[BarClosed]:
    """Minutes, oldest first; with the one that is not over, as far as the last price tells of it. Raises No."""
    if text(params, interval) != "1m":
        raise mistyped(interval)
    limit = whole(params, "limit", 100, 1, most)
    since = whole(params, "startTime", 0, 0, 10**15)
    until = whole(params, "endTime", 10**15, 0, 10**15)
    found = account.candles(EVERY)  # a span further back is cut out of all that are kept
    if forming:
        found = [*found, _forming(account, found)]
    return [bar for bar in found if since <= bar.open_ts_ns // 1_000_000 <= until][-limit:]


def _forming(account: "Account", closed: Sequence[BarClosed]) -> BarClosed:
    at_ms = account.now_ms()
    last = account.ticker().last_px_ticks
    first = closed[-1].close_ticks if closed else last
    open_ns = at_ms // MINUTE_MS * MINUTE_MS * 1_000_000
    return BarClosed(0, 0, None, open_ns, first, max(first, last), min(first, last), last, 0, "venue")
