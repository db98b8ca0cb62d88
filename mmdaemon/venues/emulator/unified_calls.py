"""The calls of the unified API (v3): what each takes, checks and answers. `ROUTES` is the list."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mmdaemon.venues.emulator import errors, fields, figures, placing, stops
from mmdaemon.venues.emulator import unified_rows as rows
from mmdaemon.venues.emulator.dialect import Call, Json, Route
from mmdaemon.venues.emulator.errors import mistyped
from mmdaemon.venues.emulator.fields import Params, optional, text, word
from mmdaemon.venues.emulator.rows import No, OrderRow, Why
from mmdaemon.venues.emulator.stops import Stop

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

BATCH_MAX: Final = 20
CLIENT_ID_MAX: Final = 32
COUNTDOWN_S: Final = (5, 60)
_POSITION_MODES: Final = {"one_way_mode": "one_way", "hedge_mode": "hedge"}
_HELD: Final = {word: side for side, word in figures.HOLDS.items()}


def _contract(account: "Account", params: Params) -> None:
    fields.must_be_ours(params, "category")
    fields.symbol(account, params)


def _if_given(account: "Account", params: Params) -> None:
    """Calls that find the order by its id take the contract too, and check it where it is there."""
    if optional(params, "category"):
        fields.must_be_ours(params, "category")
    if not fields.is_our_symbol(account, params):
        raise No(Why.SYMBOL)


def _is_ours(account: "Account", params: Params) -> bool:
    return fields.is_ours(params, "category") and fields.is_our_symbol(account, params)


# --- orders -----------------------------------------------------------------------------------------------------------


def place(account: "Account", params: Params) -> Json:
    _contract(account, params)
    return rows.named(placing.place(account, params, "qty", "timeInForce", CLIENT_ID_MAX))


def amend(account: "Account", params: Params) -> Json:
    """In place: the order keeps its ids. `autoCancel`: "yes" takes it out should the amendment be refused."""
    _if_given(account, params)
    key = fields.key(params)
    auto_cancel = word(params, "autoCancel", placing.YES_NO, "no") == "yes"
    px = fields.px_ticks(account, params, "price") if optional(params, "price") else None
    lots = fields.qty_lots(account, params, "qty") if optional(params, "qty") else None
    if px is None and lots is None:
        raise errors.missing("qty")
    try:
        return rows.named(account.amend(key, px, lots))
    except No as no:
        if auto_cancel and no.why is not Why.NOT_FOUND:
            account.cancel(key)
        raise


def cancel(account: "Account", params: Params) -> Json:
    _if_given(account, params)
    return rows.named(account.cancel(fields.key(params)))


def _batch(one: Callable[["Account", Params], Json]) -> Callable[["Account", Mapping[str, Any] | Sequence[Any]], Json]:
    """Of a bare list. Each for itself: what is refused has its code in its own row, the answer is a success."""

    def all_of(account: "Account", items: Mapping[str, Any] | Sequence[Any]) -> Json:
        if isinstance(items, Mapping):
            raise mistyped("body")
        return [_each(account, one, item) for item in fields.a_list(items, "body", BATCH_MAX)]

    return all_of


def _each(account: "Account", one: Callable[["Account", Params], Json], item: Params) -> Json:
    try:
        return one(account, item)
    except No as no:
        _, code, said = errors.refusal(no, errors.UNIFIED)
        order_id, client_id = str(item.get("orderId", "")), str(item.get("clientOid", ""))
        return {"orderId": order_id, "clientOid": client_id, "code": code, "msg": said}


place_batch = _batch(place)
amend_batch = _batch(amend)
cancel_batch = _batch(cancel)


def cancel_all(account: "Account", params: Params) -> Json:
    fields.must_be_ours(params, "category")
    if not fields.is_our_symbol(account, params):
        raise No(Why.SYMBOL)
    return {"list": [rows.named(row) for row in account.cancel_all()]}


def countdown(account: "Account", params: Params) -> Json:
    """Seconds; 0 ends it."""
    seconds = fields.whole(params, "countdown", None, 0, COUNTDOWN_S[1])
    if 0 < seconds < COUNTDOWN_S[0]:
        raise mistyped("countdown")
    account.dead_man(seconds)
    return "success"


def order(account: "Account", params: Params) -> Json:
    return rows.order(account, account.order(fields.key(params)))


def open_orders(account: "Account", params: Params) -> Json:
    limit = fields.whole(params, "limit", fields.PAGE_MAX, 1, fields.PAGE_MAX)
    cursor = fields.before(params, "cursor")
    found: list[OrderRow] = account.open_orders() if _is_ours(account, params) else []
    page = [rows.open_order(account, row) for row in fields.page_of_orders(found, cursor, limit)]
    return _page(page, cursor, "orderId")


def fills(account: "Account", params: Params) -> Json:
    limit = fields.whole(params, "limit", fields.PAGE_MAX, 1, fields.PAGE_MAX)
    cursor = fields.before(params, "cursor")
    since_ms, until_ms = fields.window(account, params, 7, 30)
    page: list[Json] = []
    if not optional(params, "category") or _is_ours(account, params):
        of_order = optional(params, "orderId")
        most = fields.EVERY if of_order else limit
        found = account.fills(since_ms=since_ms, until_ms=until_ms, before_id=cursor, limit=most)
        page = [rows.fill(account, row) for row in found if of_order in ("", row.order_id)][:limit]
    return _page(page, cursor, "execId")


def _page(page: list[Json], cursor: str, id_key: str) -> Json:
    """The cursor is the last row's id; there is none after an empty page."""
    return {"list": fields.listed(page, cursor), "cursor": page[-1][id_key] if page else None}


# --- the stop of the position -----------------------------------------------------------------------------------------


def place_stop(account: "Account", params: Params) -> Json:
    """Only the stop of the whole position is emulated: at market, triggered by mark."""
    _contract(account, params)
    _one(params, "type", "tpsl", "tpsl")
    _one(params, "tpslMode", "full", "full")
    trigger = _trigger(account, params)
    held = optional(params, "posSide").lower()
    if held and held not in _HELD:
        raise mistyped("posSide")
    client_id = placing.new_client_id(params, "clientOid", CLIENT_ID_MAX)
    return _stop_named(stops.place(account, trigger, _HELD.get(held), client_id))


def modify_stop(account: "Account", params: Params) -> Json:
    return _stop_named(stops.modify(account, fields.key(params), _trigger(account, params)))


def _trigger(account: "Account", params: Params) -> int:
    _one(params, "slTriggerBy", "mark", "market")
    _one(params, "slOrderType", "market", "market")
    return fields.px_ticks(account, params, "stopLoss")


def _one(params: Params, name: str, emulated: str, default: str) -> None:
    if (optional(params, name) or default).lower() != emulated:
        raise mistyped(name)


def cancel_stop(account: "Account", params: Params) -> Json:
    stops.cancel(account, fields.key(params))


def open_stops(account: "Account", params: Params) -> Json:
    found = stops.pending(account) if _is_ours(account, params) else None
    return [] if found is None or optional(params, "type") not in ("", "tpsl") else [rows.stop(account, found)]


def _stop_named(stop: Stop) -> Json:
    return {"orderId": stop.order_id, "clientOid": stop.client_id}


# --- the account ------------------------------------------------------------------------------------------------------


def bills(account: "Account", params: Params) -> Json:
    """Of one category: transfers are in OTHER, and what a contract cost or earned is in its product's."""
    limit = fields.whole(params, "limit", fields.PAGE_MAX, 1, fields.PAGE_MAX)
    cursor = fields.before(params, "cursor")
    category = text(params, "category").upper()
    if category not in fields.PRODUCTS | {rows.OTHER}:
        raise mistyped("category")
    since_ms, until_ms = fields.window(account, params, 30, 30)
    found = account.bills(since_ms=since_ms, until_ms=until_ms, before_id=cursor, limit=fields.EVERY)
    kind = optional(params, "type")
    every = [row for row in (rows.bill(account, bill) for bill in found) if row["category"] == category]
    return _page([row for row in every if kind in ("", row["type"])][:limit], cursor, "id")


def positions(account: "Account", params: Params) -> Json:
    held = account.position() if _is_ours(account, params) else None
    return {"list": None if held is None else [rows.position(account, held)]}


def assets(account: "Account", params: Params) -> Json:
    return rows.assets(account)


def settings(account: "Account", params: Params) -> Json:
    facts = account.facts
    return {
        "uid": figures.UID,
        "accountMode": "unified",
        "assetMode": "multi_assets",
        "holdMode": figures.POSITION_MODE[facts.position_mode],
        "stpMode": "none",
        "symbolConfigList": [
            {
                "category": figures.FUTURES,
                "symbol": account.symbol,
                "marginMode": facts.margin_mode,
                "leverage": str(facts.leverage),
            }
        ],
        "coinConfigList": [],
    }


def permissions(account: "Account", params: Params) -> Json:
    facts = account.facts
    return {
        "userId": figures.UID,
        "inviterId": "",
        "parentId": "",
        "channelCode": "",
        "channel": "",
        "ips": facts.addresses,
        "permType": "read-and-write" if facts.can_trade else "read-only",
        "permissions": ["uta_mgt"] + ["uta_trade"] * facts.can_trade + ["withdraw"] * facts.can_withdraw,
        "regisTime": "1645932209602",
    }


def fee_rate(account: "Account", params: Params) -> Json:
    _contract(account, params)
    return {"makerFeeRate": account.facts.maker_rate, "takerFeeRate": account.facts.taker_rate}


def fee_rates(account: "Account", params: Params) -> Json:
    if not _is_ours(account, params):
        return []
    facts = account.facts
    return [{"makerFeeRate": facts.maker_rate, "takerFeeRate": facts.taker_rate, "symbol": account.symbol}]


def set_leverage(account: "Account", params: Params) -> Json:
    _contract(account, params)
    account.set_leverage(fields.whole(params, "leverage", None, 1, figures.LEVERAGE_MAX))
    return "success"


def set_hold_mode(account: "Account", params: Params) -> Json:
    account.set_position_mode(_POSITION_MODES[word(params, "holdMode", frozenset(_POSITION_MODES))])
    return "success"


# --- the market -------------------------------------------------------------------------------------------------------


def instruments(account: "Account", params: Params) -> Json:
    return [rows.instrument(account)] if _is_ours(account, params) else []


def tickers(account: "Account", params: Params) -> Json:
    return [rows.ticker(account)] if _is_ours(account, params) else []


def candles(account: "Account", params: Params) -> Json:
    """Newest first, the minute that is not over included. The order is a guess; nothing may rest on it."""
    return _candles(account, params, forming=True)


def closed_candles(account: "Account", params: Params) -> Json:
    return _candles(account, params, forming=False)


def _candles(account: "Account", params: Params, *, forming: bool) -> Json:
    _contract(account, params)
    _one(params, "type", "market", "market")
    bars = fields.bars(account, params, "interval", fields.PAGE_MAX, forming=forming)
    keys = ("start", "open", "high", "low", "close", "volume", "turnover")
    return [[row[key] for key in keys] for row in (rows.candle(account, bar) for bar in reversed(bars))]


def funding(account: "Account", params: Params) -> Json:
    """Takes a symbol alone."""
    if text(params, "symbol").upper() != account.symbol:
        raise No(Why.SYMBOL)
    return figures.funding_rows(account)


def _get(path: str, read: fields.Read, per_s: float = 20) -> Route:
    return fields.get(path, read, per_s)


def _post(path: str, read: fields.Read, per_s: float = 10) -> Route:
    return fields.post(path, read, per_s)


def _post_list(path: str, call: Call, per_s: float = 5) -> Route:
    return Route("POST", path, call, per_s)


ROUTES: Final = (
    _post("/api/v3/trade/place-order", place),
    _post("/api/v3/trade/modify-order", amend),
    _post("/api/v3/trade/cancel-order", cancel),
    _post_list("/api/v3/trade/place-batch", place_batch),
    _post_list("/api/v3/trade/batch-modify-order", amend_batch),
    _post_list("/api/v3/trade/cancel-batch", cancel_batch),
    _post("/api/v3/trade/cancel-symbol-order", cancel_all, 5),
    _post("/api/v3/trade/countdown-cancel-all", countdown, 1),
    _get("/api/v3/trade/order-info", order),
    _get("/api/v3/trade/unfilled-orders", open_orders),
    _get("/api/v3/trade/fills", fills),
    _post("/api/v3/trade/place-strategy-order", place_stop),
    _post("/api/v3/trade/modify-strategy-order", modify_stop),
    _post("/api/v3/trade/cancel-strategy-order", cancel_stop),
    _get("/api/v3/trade/unfilled-strategy-orders", open_stops),
    _get("/api/v3/account/financial-records", bills),
    _get("/api/v3/position/current-position", positions),
    _get("/api/v3/account/assets", assets),
    _get("/api/v3/account/settings", settings),
    _get("/api/v3/account/info", permissions, 5),
    _get("/api/v3/account/fee-rate", fee_rate, 3),
    _get("/api/v3/account/all-fee-rate", fee_rates, 3),
    _post("/api/v3/account/set-leverage", set_leverage),
    _post("/api/v3/account/set-hold-mode", set_hold_mode),
    fields.TIME,
    fields.public("/api/v3/market/instruments", instruments),
    fields.public("/api/v3/market/tickers", tickers),
    fields.public("/api/v3/market/candles", candles),
    fields.public("/api/v3/market/history-candles", closed_candles),
    fields.public("/api/v3/market/current-fund-rate", funding),
)
