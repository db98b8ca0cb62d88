"""The classic account's answers (v2), read. Signs: a fill's `totalFee` is negative where it cost; a line of the ledger
is negative where it was paid."""

from collections.abc import Sequence

import msgspec

from mmdaemon.core.events import AccountSnapshot, BarClosed, Bill, FeeSchedule, Fill, FundingRate, MarkPrice
from mmdaemon.core.types import ExecKind, Instrument
from mmdaemon.venues.base import Absent, AccountFacts, Cursor, OrderReport, PositionStop, VenueUnavailable
from mmdaemon.venues.bitget import bars, charges, endpoints, ledger, paging, snapshots, stops
from mmdaemon.venues.bitget import classic_rows as wire
from mmdaemon.venues.bitget.api import Endpoint, Meaning, Refused, Request, Sends
from mmdaemon.venues.bitget.instruments import Contract, instrument_of
from mmdaemon.venues.bitget.names import Names, OrderName
from mmdaemon.venues.bitget.reading import (
    BY_VENUE,
    COIN,
    HELD,
    MARGIN_MODES,
    POSITION_MODES,
    PRODUCT,
    OrderWords,
    ask,
    funding_rate,
    identity,
    key,
    named,
    only,
    order_report,
    position,
    rate,
    take,
    traded_lots,
    unreadable,
    word,
)
from mmdaemon.venues.bitget.words import LIQUIDITIES, SIDES, exec_kind
from mmdaemon.venues.codec import Scale, milliseconds_ns, money_e10, number

_READS = ("coor", "cpor", "stor", "smor", "ttor", "wtor", "taxr", "chor", "p2pr", "pllr")
_WRITES = ("coow", "cpow", "stow", "smow", "ttow", "wtow", "wwow", "chow", "p2p", "p2pw", "pllw", "taxw")
_PERMISSIONS = frozenset((*_READS, *_WRITES))
_MAY_ORDER = frozenset(("coow", "cpow"))
"""Orders and positions of contracts, to write."""
_MAY_WITHDRAW = "wwow"


# --- orders -----------------------------------------------------------------------------------------------------------


async def order(scale: Scale, sends: Sends, client_id: str) -> OrderReport | Absent:
    """Raises VenueUnavailable; `Refused` and its like as they are (and so do all below)."""
    try:
        told = await _order(scale, sends, client_id)
    except Refused as refused:
        if refused.meaning is Meaning.NOT_FOUND:
            return Absent(client_id)
        raise
    report = _report(endpoints.CLASSIC_ORDER, scale, told)
    if client_id not in (report.client_id, BY_VENUE + told.order_id):
        raise unreadable(endpoints.CLASSIC_ORDER, "clientOid", "is of another order")
    return msgspec.structs.replace(report, client_id=client_id)


async def open_orders(scale: Scale, sends: Sends) -> list[OrderReport]:
    endpoint = endpoints.CLASSIC_OPEN_ORDERS

    async def page(cursor: str) -> tuple[Sequence[wire.Order], str]:
        params = {**_of_symbol(scale), "limit": str(paging.LIMIT), **_before(cursor)}
        data, _ = await ask(sends, endpoint, params, wire.OPEN_ORDERS)
        rows = (data.entrusted_list if data else None) or []
        return rows, paging.oldest(endpoint, [row.order_id for row in rows])

    rows = await paging.every(endpoint, page, lambda row: row.order_id)
    return [_report(endpoint, scale, row) for row in rows if row.symbol == scale.instrument.symbol]


async def _order(scale: Scale, sends: Sends, client_id: str) -> wire.Order:
    told, _ = await ask(sends, endpoints.CLASSIC_ORDER, {**_of_symbol(scale), **key(client_id)}, wire.ORDER)
    return told


def _report(endpoint: Endpoint, scale: Scale, row: wire.Order) -> OrderReport:
    status = row.state if row.state is not None else row.status
    if status is None:
        raise unreadable(endpoint, "status", "is missing")
    said = OrderWords(
        *(row.order_id, row.client_oid, row.order_type, row.side),
        *(row.price, row.size, row.base_volume, status, row.reduce_only),
    )
    return order_report(endpoint, scale, said)


# --- history ----------------------------------------------------------------------------------------------------------


async def fills(
    scale: Scale, sends: Sends, since: Cursor, names: Names | None = None, fees_in: set[str] | None = None
) -> list[Fill]:
    """Those since `since`, oldest first, each once. `names` saves asking again for orders that were asked for;
    `fees_in` takes the names of what fees were paid in beside the quote currency."""
    endpoint = endpoints.CLASSIC_FILLS

    async def page(span: dict[str, str], cursor: str) -> tuple[Sequence[wire.Fill], str]:
        data, _ = await ask(sends, endpoint, {**_of_symbol(scale), **span, **_before(cursor)}, wire.FILLS)
        rows = (data.fill_list if data else None) or []
        return rows, paging.oldest(endpoint, [row.trade_id for row in rows])

    async def name(client_id: str) -> OrderName:
        told = await _order(scale, sends, client_id)
        return OrderName(named(endpoints.CLASSIC_ORDER, told.client_oid, told.order_id), None)

    names, bill = names or Names(), charges.Bill(scale, lambda: fees(scale, sends), fees_in)
    found: list[Fill] = []
    until_ns = await paging.venue_now_ns(sends)
    for row in await paging.history(endpoint, since, until_ns, page, lambda row: row.trade_id):
        if row.symbol == scale.instrument.symbol:
            fill = _fill(scale, row, named(endpoint, row.client_oid, row.order_id))
            fill = await bill.with_fee(endpoint, fill, _lines(row), until_ns)
            if not row.client_oid and fill.exec_kind is ExecKind.TRADE:
                whose = await names.of(row.order_id, until_ns - (fill.venue_ts_ns or 0), name)
                fill = msgspec.structs.replace(fill, client_id=whose.client_id)
            found.append(fill)
    return paging.in_order(found, since, lambda fill: fill.trade_id)


def _lines(row: wire.Fill) -> list[charges.Line]:
    endpoint = endpoints.CLASSIC_FILLS
    return [(fee.fee_coin, -take(endpoint, "totalFee", number, fee.total_fee), fee.deduction) for fee in row.fee_detail]


def _fill(scale: Scale, row: wire.Fill, client_id: str) -> Fill:
    """All but its fee."""
    endpoint = endpoints.CLASSIC_FILLS
    return Fill(
        mono_ns=0,
        ts_ns=0,
        venue_ts_ns=take(endpoint, "cTime", milliseconds_ns, row.c_time),
        trade_id=identity(endpoint, "tradeId", row.trade_id),
        client_id=client_id,
        side=word(endpoint, "side", SIDES, row.side),
        px_ticks=take(endpoint, "price", scale.px_ticks, row.price),
        qty_lots=traded_lots(endpoint, "baseVolume", scale, row.base_volume),
        fee_e10=0,
        liquidity=word(endpoint, "tradeScope", LIQUIDITIES, row.trade_scope),
        exec_kind=take(endpoint, "tradeSide", exec_kind, row.trade_side),
    )


async def bills(scale: Scale, sends: Sends, since: Cursor) -> list[Bill]:
    """Lines of the ledger that no fill carries, since `since`, oldest first, each once: the rule is `ledger`'s."""
    endpoint = endpoints.CLASSIC_BILLS

    async def page(span: dict[str, str], cursor: str) -> tuple[Sequence[wire.Bill], str]:
        params = {"productType": PRODUCT, "coin": COIN, **span, **_before(cursor)}
        data, _ = await ask(sends, endpoint, params, wire.BILLS)
        rows = (data.bills if data else None) or []
        return rows, paging.oldest(endpoint, [row.bill_id for row in rows])

    until_ns = await paging.venue_now_ns(sends)
    rows = await paging.history(endpoint, since, until_ns, page, lambda row: row.bill_id)
    found = [booked for row in rows if (booked := _bill(scale, row)) is not None]
    return paging.in_order(found, since, lambda bill: bill.bill_id)


def _bill(scale: Scale, row: wire.Bill) -> Bill | None:
    if row.coin != COIN:
        return None  # another wallet
    endpoint = endpoints.CLASSIC_BILLS
    return ledger.bill(
        bill_id=identity(endpoint, "billId", row.bill_id),
        word=row.business_type,
        is_ours=row.symbol in ("", scale.instrument.symbol),
        amount_e10=take(endpoint, "amount", money_e10, row.amount),
        fee_e10=take(endpoint, "fee", money_e10, row.fee or "0"),
        venue_ts_ns=take(endpoint, "cTime", milliseconds_ns, row.c_time),
    )


# --- the account ------------------------------------------------------------------------------------------------------


async def snapshot(scale: Scale, sends: Sends) -> AccountSnapshot:
    """The wallet is the equity less what is unrealised in it, both of one answer."""

    async def wallet() -> snapshots.Wallet:
        endpoint, told = endpoints.CLASSIC_ACCOUNT, await _account(scale, sends)
        equity_e10 = take(endpoint, "accountEquity", money_e10, told.account_equity)
        unrealised_e10 = take(endpoint, "unrealizedPL", money_e10, told.unrealized_pnl)
        crossed = word(endpoint, "marginMode", MARGIN_MODES, told.margin_mode) == "crossed"
        available = told.crossed_max_available if crossed else told.isolated_max_available
        return snapshots.Wallet(equity_e10 - unrealised_e10, take(endpoint, "available", money_e10, available))

    async def held() -> snapshots.Held:
        endpoint = endpoints.CLASSIC_POSITION
        rows, venue_ts_ns = await _positions(scale, sends)
        found = tuple(
            each
            for row in rows
            if (each := position(endpoint, scale, row.hold_side, row.total, row.open_price_avg)) is not None
        )
        if found:
            mark_px_ticks = take(endpoint, "markPrice", scale.near_px_ticks, rows[0].mark_price)
        else:
            mark_px_ticks = (await mark(scale, sends)).px_ticks
        return snapshots.Held(found, mark_px_ticks, venue_ts_ns)

    return await snapshots.picture(scale, wallet, held)


async def facts(scale: Scale, sends: Sends, clock_offset_s: float) -> AccountFacts:
    endpoint = endpoints.CLASSIC_ACCOUNT
    whose, _ = await ask(sends, endpoints.CLASSIC_KEY, {}, wire.KEY)
    if not _PERMISSIONS.issuperset(whose.authorities):
        raise unreadable(endpoints.CLASSIC_KEY, "authorities", "one of them is not known")
    told = await _account(scale, sends)
    mode = word(endpoint, "marginMode", MARGIN_MODES, told.margin_mode)
    by_mode = {
        "crossed": (told.crossed_margin_leverage,),
        "isolated": (told.isolated_long_lever, told.isolated_short_lever),
    }
    return AccountFacts(
        account=str(whose.user_id),
        position_mode=word(endpoint, "posMode", POSITION_MODES, told.pos_mode),
        margin_mode=mode,
        leverage=float(max(take(endpoint, "leverage", number, lever) for lever in by_mode[mode])),
        can_trade=_MAY_ORDER.issubset(whose.authorities),
        can_withdraw=_MAY_WITHDRAW in whose.authorities,
        clock_offset_s=clock_offset_s,
    )


async def fees(scale: Scale, sends: Sends) -> FeeSchedule:
    endpoint = endpoints.CLASSIC_FEES
    params = {"symbol": scale.instrument.symbol, "businessType": "mix"}
    told, venue_ts_ns = await ask(sends, endpoint, params, wire.FEES)
    maker = rate(endpoint, "makerFeeRate", told.maker_fee_rate)
    taker = rate(endpoint, "takerFeeRate", told.taker_fee_rate)
    return FeeSchedule(0, 0, venue_ts_ns, maker, taker, "bitget v2/common/trade-rate")


async def _account(scale: Scale, sends: Sends) -> wire.Account:
    told, _ = await ask(sends, endpoints.CLASSIC_ACCOUNT, {**_of_symbol(scale), "marginCoin": COIN}, wire.ACCOUNT)
    if told.margin_coin != COIN:
        raise unreadable(endpoints.CLASSIC_ACCOUNT, "marginCoin", "is of another wallet")
    return told


async def _positions(scale: Scale, sends: Sends) -> tuple[list[wire.Position], int]:
    params = {**_of_symbol(scale), "marginCoin": COIN}
    rows, venue_ts_ns = await ask(sends, endpoints.CLASSIC_POSITION, params, wire.POSITIONS)
    return [row for row in rows or () if row.symbol == scale.instrument.symbol], venue_ts_ns


# --- the market -------------------------------------------------------------------------------------------------------


async def candles(scale: Scale, sends: Sends, n: int) -> list[BarClosed]:
    endpoint = endpoints.CLASSIC_CANDLES
    params = {**_of_symbol(scale), "granularity": "1m", "limit": str(min(n + 1, bars.LIMIT))}

    async def page(before: str) -> tuple[bars.Rows, int]:
        return await ask(sends, endpoint, {**params, "endTime": before} if before else params, bars.ROWS)

    return await bars.closed(endpoint, scale, page, n)


async def funding(scale: Scale, sends: Sends) -> FundingRate:
    endpoint = endpoints.CLASSIC_FUNDING
    rows, venue_ts_ns = await ask(sends, endpoint, _of_symbol(scale), wire.FUNDING)
    told = only(endpoint, [row for row in rows or () if row.symbol == scale.instrument.symbol])
    return funding_rate(endpoint, venue_ts_ns, told.funding_rate, told.funding_rate_interval, told.next_update)


async def mark(scale: Scale, sends: Sends) -> MarkPrice:
    endpoint = endpoints.CLASSIC_PRICE
    rows, _ = await ask(sends, endpoint, _of_symbol(scale), wire.PRICES)
    told = only(endpoint, [row for row in rows or () if row.symbol == scale.instrument.symbol])
    at_ns = take(endpoint, "ts", milliseconds_ns, told.ts)
    return MarkPrice(0, 0, at_ns, take(endpoint, "markPrice", scale.near_px_ticks, told.mark_price))


async def read_instrument(sends: Sends, symbol: str) -> Instrument:
    endpoint = endpoints.CLASSIC_CONTRACTS
    params = {"productType": PRODUCT, "symbol": symbol}
    rows, _ = await ask(sends, endpoint, params, wire.CONTRACTS)
    told = only(endpoint, [row for row in rows or () if row.symbol == symbol])
    step = take(endpoint, "priceEndStep", number, told.price_end_step)
    place = take(endpoint, "pricePlace", number, told.price_place)
    if not 0 <= place <= 20 or place % 1:
        raise unreadable(endpoint, "pricePlace", "absurd")
    contract = Contract(
        symbol=symbol,
        quote=told.quote_coin,
        tick=step.scaleb(-int(place)),
        lot=take(endpoint, "sizeMultiplier", number, told.size_multiplier),
        min_qty=told.min_trade_num,
        max_qty=told.max_order_qty,
        min_notional=told.min_trade_usdt,
        status=told.symbol_status,
    )
    return instrument_of(endpoint, contract)


# --- the stop ---------------------------------------------------------------------------------------------------------


async def protect(scale: Scale, sends: Sends, stop: PositionStop | None) -> None:
    """One `pos_loss` on the mark. Stops of parts of the position (a person's) are left alone."""
    wanted = await _stop(scale, sends, stop)

    async def pending() -> list[stops.Pending]:
        endpoint = endpoints.CLASSIC_TPSL_PENDING
        params = {**_of_symbol(scale), "planType": "profit_loss"}
        data, _ = await ask(sends, endpoint, params, wire.PLANS)
        rows = [row for row in (data.entrusted_list if data else None) or () if row.plan_type == "pos_loss"]
        return [
            stops.Pending(row.order_id, _is_right(scale, row, stop, wanted))
            for row in rows
            if row.symbol == scale.instrument.symbol
        ]

    async def place() -> None:
        await sends.ask(Request(endpoints.CLASSIC_TPSL_PLACE, wanted))

    async def move(order_id: str) -> None:
        # The size is that of the position, and must be sent empty.
        await sends.ask(Request(endpoints.CLASSIC_TPSL_MODIFY, {**wanted, "orderId": order_id, "size": ""}))

    async def cancel(order_id: str) -> None:
        params = {
            **_of_symbol(scale),
            "marginCoin": COIN,
            "planType": "pos_loss",
            "orderIdList": [{"orderId": order_id}],
        }
        await sends.ask(Request(endpoints.CLASSIC_TPSL_CANCEL, params))

    await stops.keep(is_wanted=stop is not None, pending=pending, place=place, move=move, cancel=cancel)


async def _stop(scale: Scale, sends: Sends, stop: PositionStop | None) -> dict[str, str]:
    """What is placed. Empty where none is wanted."""
    if stop is None:
        return {}
    rows, _ = await _positions(scale, sends)
    told = [row for row in rows if take(endpoints.CLASSIC_POSITION, "total", scale.qty_lots, row.total)]
    if len(told) != 1:
        raise VenueUnavailable("protect: the venue holds no position, or one on each side")
    is_long = word(endpoints.CLASSIC_POSITION, "holdSide", HELD, told[0].hold_side) > 0
    return {
        **_of_symbol(scale),
        "marginCoin": COIN,
        "planType": "pos_loss",
        "triggerPrice": scale.px_text(stop.trigger_px_ticks),
        "triggerType": "mark_price",
        # In one-way mode the side of the position is named like an order's.
        "holdSide": "buy" if is_long else "sell",
    }


def _is_right(scale: Scale, row: wire.Plan, stop: PositionStop | None, wanted: dict[str, str]) -> bool:
    if stop is None or row.trigger_type != "mark_price":
        return False
    if row.pos_side in ("long", "short") and (row.pos_side == "long") != (wanted["holdSide"] == "buy"):
        return False
    at = take(endpoints.CLASSIC_TPSL_PENDING, "triggerPrice", scale.near_px_ticks, row.trigger_price)
    return at == stop.trigger_px_ticks


def _of_symbol(scale: Scale) -> dict[str, str]:
    return {"symbol": scale.instrument.symbol, "productType": PRODUCT}


def _before(cursor: str) -> dict[str, str]:
    return {"idLessThan": cursor} if cursor else {}
