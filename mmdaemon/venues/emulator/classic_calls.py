"""The calls of the classic API (v2): what each takes, checks and answers. `ROUTES` is the list."""

from typing import TYPE_CHECKING, Final

from mmdaemon.core.types import Side
from mmdaemon.venues.emulator import classic_rows as rows
from mmdaemon.venues.emulator import errors, fields, figures, placing, stops
from mmdaemon.venues.emulator.classic_market import MARKET, contract_named
from mmdaemon.venues.emulator.dialect import Json, Route
from mmdaemon.venues.emulator.errors import Told, mistyped
from mmdaemon.venues.emulator.fields import Params, optional, text, word
from mmdaemon.venues.emulator.rows import No, OrderRow, Why
from mmdaemon.venues.emulator.stops import Stop

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

BATCH_MAX: Final = 50
CLIENT_ID_MAX: Final = 50
_MARGIN_MODES: Final = frozenset({"crossed", "isolated"})
_POSITION_MODES: Final = {"one_way_mode": "one_way", "hedge_mode": "hedge"}
_PLANS: Final = frozenset({"normal_plan", "track_plan", "profit_loss"})
_STOPS: Final = frozenset(
    {"normal_plan", "track_plan", "profit_plan", "loss_plan", "pos_profit", "pos_loss", "profit_loss"}
)
_HOLDS: Final = {"buy": Side.SELL, "long": Side.SELL, "sell": Side.BUY, "short": Side.BUY}
"""Of the position that is held: the side of the order that closes it."""


def _coin(account: "Account", params: Params) -> None:
    if text(params, "marginCoin").upper() != account.coin:
        raise mistyped("marginCoin")


def _named(order_id: str, client_id: str) -> Json:
    return {"orderId": order_id, "clientOid": client_id}


def _order_named(row: OrderRow) -> Json:
    return _named(row.order_id, figures.client_oid(row))


def _failed(no: No, order_id: str, client_id: str) -> Json:
    _, code, said = errors.refusal(no, errors.CLASSIC)
    return {"orderId": order_id, "clientOid": client_id, "errorMsg": said, "errorCode": code}


# --- orders -----------------------------------------------------------------------------------------------------------


def _common(account: "Account", params: Params) -> None:
    contract_named(account, params)
    _coin(account, params)
    word(params, "marginMode", _MARGIN_MODES)


def place(account: "Account", params: Params) -> Json:
    _common(account, params)
    return _order_named(placing.place(account, params, "size", "force", CLIENT_ID_MAX))


def place_batch(account: "Account", params: Params) -> Json:
    """Each order for itself: what is refused is in `failureList`, the answer as a whole is a success."""
    _common(account, params)
    taken: list[Json] = []
    failed: list[Json] = []
    for item in fields.a_list(params.get("orderList"), "orderList", BATCH_MAX):
        try:
            taken.append(_order_named(placing.place(account, item, "size", "force", CLIENT_ID_MAX)))
        except No as no:
            failed.append(_failed(no, "", str(item.get("clientOid", ""))))
    return {"successList": taken, "failureList": failed}


def modify(account: "Account", params: Params) -> Json:
    """Not an amendment: the order is cancelled, and a new one placed under a new client id. Only one that nothing
    filled of. Should the new one be refused, the old one is gone all the same."""
    contract_named(account, params)
    new_id = placing.new_client_id(params, "newClientOid", CLIENT_ID_MAX)
    if not new_id:
        raise Told(Why.PARAMETER, "22003", "modify price and size, please pass in newClientOid")
    px, lots = fields.px_ticks(account, params, "newPrice"), fields.qty_lots(account, params, "newSize")
    old = account.order(fields.key(params))
    if old.filled_lots:
        raise No(Why.NOT_FOUND)
    account.cancel(old.order_id)
    account.place(
        client_id=new_id,
        side=old.side,
        px_ticks=px,
        qty_lots=lots,
        post_only=old.post_only,
        reduce_only=old.reduce_only,
        ioc=old.ioc,
    )
    return {"clientOid": new_id, "orderId": None}


def cancel(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    return _order_named(account.cancel(fields.key(params)))


def cancel_batch(account: "Account", params: Params) -> Json:
    """Without a list: everything of the symbol."""
    contract_named(account, params)
    if params.get("orderIdList") is None:
        return _all_cancelled(account)
    taken: list[Json] = []
    failed: list[Json] = []
    for item in fields.a_list(params.get("orderIdList"), "orderIdList", BATCH_MAX):
        try:
            taken.append(_order_named(account.cancel(fields.key(item))))
        except No as no:
            failed.append(_failed(no, str(item.get("orderId", "")), str(item.get("clientOid", ""))))
    return {"successList": taken, "failureList": failed}


def cancel_all(account: "Account", params: Params) -> Json:
    fields.must_be_ours(params, "productType")
    return _all_cancelled(account)


def _all_cancelled(account: "Account") -> Json:
    return {"successList": [_order_named(row) for row in account.cancel_all()], "failureList": []}


def order(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    try:
        row = account.order(fields.key(params))
    except No as no:
        if no.why is not Why.NOT_FOUND:
            raise
        raise Told(no.why, "40109", "The data of the order cannot be found, please confirm the order number") from None
    return rows.order(account, row, "state")


def open_orders(account: "Account", params: Params) -> Json:
    limit = fields.whole(params, "limit", fields.PAGE_MAX, 1, fields.PAGE_MAX)
    before_id = fields.before(params, "idLessThan")
    found: list[OrderRow] = []
    if fields.is_ours(params, "productType") and fields.is_our_symbol(account, params):
        wanted = {optional(params, "orderId"), optional(params, "clientOid")} - {""}
        found = [row for row in account.open_orders() if not wanted or wanted & {row.order_id, figures.client_oid(row)}]
    page = [rows.order(account, row, "status") for row in fields.page_of_orders(found, before_id, limit)]
    return {"entrustedList": fields.listed(page, before_id), "endId": page[-1]["orderId"] if page else None}


def fills(account: "Account", params: Params) -> Json:
    """Of a week at most; the week up to now where no time is given."""
    limit = fields.whole(params, "limit", fields.PAGE_MAX, 1, fields.PAGE_MAX)
    before_id = fields.before(params, "idLessThan")
    since_ms, until_ms = fields.window(account, params, 7, 7)
    page: list[Json] = []
    if fields.is_ours(params, "productType") and fields.is_our_symbol(account, params):
        of_order = optional(params, "orderId")
        most = fields.EVERY if of_order else limit
        found = account.fills(since_ms=since_ms, until_ms=until_ms, before_id=before_id, limit=most)
        page = [rows.fill(account, row) for row in found if of_order in ("", row.order_id)][:limit]
    return {"fillList": fields.listed(page, before_id), "endId": page[-1]["tradeId"] if page else None}


# --- the stop of the position -----------------------------------------------------------------------------------------


def place_stop(account: "Account", params: Params) -> Json:
    """Only the stop of the whole position is emulated (`pos_loss`, at market, triggered by mark)."""
    contract_named(account, params)
    _coin(account, params)
    if word(params, "planType", _STOPS) != "pos_loss":
        raise mistyped("planType")
    if word(params, "triggerType", frozenset({"mark_price"}), "fill_price") != "mark_price":
        raise mistyped("triggerType")
    trigger = fields.px_ticks(account, params, "triggerPrice", number=True)
    closing = _HOLDS[word(params, "holdSide", frozenset(_HOLDS))]
    client_id = placing.new_client_id(params, "clientOid", CLIENT_ID_MAX)
    return _stop_named(stops.place(account, trigger, closing, client_id))


def modify_stop(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    _coin(account, params)
    trigger = fields.px_ticks(account, params, "triggerPrice", number=True)
    return _stop_named(stops.modify(account, fields.key(params), trigger))


def cancel_stop(account: "Account", params: Params) -> Json:
    """Without a list: all of the kind."""
    fields.must_be_ours(params, "productType")
    given = params.get("orderIdList")
    if given is None:
        found = stops.pending(account)
        if found is None:
            raise No(Why.NOTHING_TO_CANCEL)
        given = [{"orderId": found.order_id}]
    taken: list[Json] = []
    failed: list[Json] = []
    for item in fields.a_list(given, "orderIdList", BATCH_MAX):
        try:
            taken.append(_stop_named(stops.cancel(account, fields.key(item))))
        except No:
            absent = Told(Why.NOT_FOUND, "43025", "Plan order does not exist")
            failed.append(_failed(absent, str(item.get("orderId", "")), str(item.get("clientOid", ""))))
    return {"successList": taken, "failureList": failed}


def open_stops(account: "Account", params: Params) -> Json:
    kind = word(params, "planType", _PLANS)
    before_id = fields.before(params, "idLessThan")
    found = stops.pending(account) if kind == "profit_loss" and fields.is_ours(params, "productType") else None
    page = [] if found is None or before_id else [rows.stop(account, found)]
    return {"entrustedList": fields.listed(page, before_id), "endId": page[-1]["orderId"] if page else None}


def _stop_named(stop: Stop) -> Json:
    return _named(stop.order_id, stop.client_id)


# --- the account ------------------------------------------------------------------------------------------------------


def bills(account: "Account", params: Params) -> Json:
    limit = fields.whole(params, "limit", 20, 1, fields.PAGE_MAX)
    before_id = fields.before(params, "idLessThan")
    since_ms, until_ms = fields.window(account, params, 7, 30)
    page: list[Json] = []
    if fields.is_ours(params, "productType"):
        kind = optional(params, "businessType")
        most = fields.EVERY if kind else limit
        found = account.bills(since_ms=since_ms, until_ms=until_ms, before_id=before_id, limit=most)
        page = [row for row in (rows.bill(account, bill) for bill in found) if kind in ("", row["businessType"])]
        page = page[:limit]
    return {"bills": fields.listed(page, before_id), "endId": page[-1]["billId"] if page else None}


def position(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    return positions(account, params)


def positions(account: "Account", params: Params) -> Json:
    """A flat one has no row."""
    held = account.position() if fields.is_ours(params, "productType") else None
    return [] if held is None else [rows.position(account, held)]


def single_account(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    _coin(account, params)
    return rows.settings(account)


def accounts(account: "Account", params: Params) -> Json:
    return [rows.assets(account)] if fields.is_ours(params, "productType") else []


def permissions(account: "Account", _: Params) -> Json:
    """What the key may do: `coow` is writing futures orders, `coor` reading them, `wwow` withdrawing."""
    facts = account.facts
    authorities = ["coor", "cpor"] + ["coow", "cpow"] * facts.can_trade + ["wwow"] * facts.can_withdraw
    return {
        "userId": figures.UID,
        "inviterId": "",
        "ips": facts.addresses.split(",") if facts.addresses else [],
        "authorities": authorities,
        "parentId": 0,
        "traderType": "not_trader",
        "channelCode": "",
        "channel": "",
        "regisTime": "1645932209602",
    }


def trade_rate(account: "Account", params: Params) -> Json:
    fields.symbol(account, params)
    word(params, "businessType", frozenset({"mix"}))
    return {"makerFeeRate": account.facts.maker_rate, "takerFeeRate": account.facts.taker_rate}


def set_leverage(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    _coin(account, params)
    account.set_leverage(fields.whole(params, "leverage", None, 1, figures.LEVERAGE_MAX))
    leverage = str(account.facts.leverage)
    return {
        "symbol": account.symbol,
        "marginCoin": account.coin,
        "longLeverage": leverage,
        "shortLeverage": leverage,
        "crossMarginLeverage": leverage,
        "marginMode": account.facts.margin_mode,
    }


def set_margin_mode(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    _coin(account, params)
    account.set_margin_mode(word(params, "marginMode", _MARGIN_MODES))
    leverage = str(account.facts.leverage)
    return {
        "symbol": account.symbol,
        "marginCoin": account.coin,
        "longLeverage": leverage,
        "shortLeverage": leverage,
        "marginMode": account.facts.margin_mode,
    }


def set_position_mode(account: "Account", params: Params) -> Json:
    fields.must_be_ours(params, "productType")
    mode = word(params, "posMode", frozenset(_POSITION_MODES))
    account.set_position_mode(_POSITION_MODES[mode])
    return {"posMode": mode}


def _get(path: str, read: fields.Read, per_s: float = 10) -> Route:
    return fields.get(path, read, per_s)


def _post(path: str, read: fields.Read, per_s: float = 10) -> Route:
    return fields.post(path, read, per_s)


ROUTES: Final = (
    _post("/api/v2/mix/order/place-order", place),
    _post("/api/v2/mix/order/batch-place-order", place_batch, 5),
    _post("/api/v2/mix/order/modify-order", modify),
    _post("/api/v2/mix/order/cancel-order", cancel),
    _post("/api/v2/mix/order/batch-cancel-orders", cancel_batch),
    _post("/api/v2/mix/order/cancel-all-orders", cancel_all, 1),
    _get("/api/v2/mix/order/detail", order),
    _get("/api/v2/mix/order/orders-pending", open_orders),
    _get("/api/v2/mix/order/fills", fills),
    _get("/api/v2/mix/order/fill-history", fills),
    _post("/api/v2/mix/order/place-tpsl-order", place_stop),
    _post("/api/v2/mix/order/modify-tpsl-order", modify_stop),
    _post("/api/v2/mix/order/cancel-plan-order", cancel_stop),
    _get("/api/v2/mix/order/orders-plan-pending", open_stops),
    _get("/api/v2/mix/account/bill", bills),
    _get("/api/v2/mix/position/single-position", position),
    _get("/api/v2/mix/position/all-position", positions, 5),
    _get("/api/v2/mix/account/account", single_account),
    _get("/api/v2/mix/account/accounts", accounts),
    _get("/api/v2/spot/account/info", permissions, 1),
    _get("/api/v2/common/trade-rate", trade_rate),
    _post("/api/v2/mix/account/set-leverage", set_leverage, 5),
    _post("/api/v2/mix/account/set-margin-mode", set_margin_mode, 5),
    _post("/api/v2/mix/account/set-position-mode", set_position_mode, 5),
    *MARKET,
)
