"""The unified account's answers (v3), read. Signs: a fill's `fee` is positive where it cost; a line of the ledger is
negative where it was paid, its fee too."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

from mmdaemon.core.events import AccountSnapshot, BarClosed, Bill, FeeSchedule, Fill, FundingRate, MarkPrice
from mmdaemon.core.types import ExecKind, Instrument
from mmdaemon.venues.base import Absent, AccountFacts, Cursor, OrderReport, PositionStop, VenueUnavailable
from mmdaemon.venues.bitget import bars, charges, endpoints, ledger, paging, snapshots, stops
from mmdaemon.venues.bitget import unified_rows as wire
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

_CATEGORIES = (PRODUCT, "OTHER", "SPOT", "MARGIN", "COIN-FUTURES", "USDC-FUTURES")
"""One balance of USDT serves them all, so what moved it may be written under any. Transfers are under OTHER."""
_PERMISSIONS = frozenset(
    ("uta_mgt", "uta_trade", "withdraw", "transfer", "copy_futures_position", "copy_futures_order")
)
_WRITES = {"read-and-write": True, "read_write": True, "read-only": False, "read_only": False}
R_co = TypeVar("R_co", covariant=True)


# --- orders -----------------------------------------------------------------------------------------------------------


async def order(scale: Scale, sends: Sends, client_id: str) -> OrderReport | Absent:
    """Raises VenueUnavailable; `Refused` and its like as they are (and so do all below)."""
    try:
        told = await _order(scale, sends, client_id)
    except Refused as refused:
        if refused.meaning is Meaning.NOT_FOUND:
            return Absent(client_id)
        raise
    report = _report(endpoints.UNIFIED_ORDER, scale, told)
    if client_id not in (report.client_id, BY_VENUE + told.order_id):
        raise unreadable(endpoints.UNIFIED_ORDER, "clientOid", "is of another order")
    return msgspec.structs.replace(report, client_id=client_id)


async def open_orders(scale: Scale, sends: Sends) -> list[OrderReport]:
    endpoint = endpoints.UNIFIED_OPEN_ORDERS

    async def page(cursor: str) -> tuple[Sequence[wire.Order], str]:
        params = {**_of_symbol(scale), "limit": str(paging.LIMIT), **_after(cursor)}
        data, _ = await ask(sends, endpoint, params, wire.OPEN_ORDERS)
        return _page(data)

    rows = await paging.every(endpoint, page, lambda row: row.order_id)
    return [_report(endpoint, scale, row) for row in rows if row.symbol == scale.instrument.symbol]


async def _order(scale: Scale, sends: Sends, client_id: str) -> wire.Order:
    told, _ = await ask(sends, endpoints.UNIFIED_ORDER, key(client_id), wire.ORDER)
    if told.symbol != scale.instrument.symbol:
        raise unreadable(endpoints.UNIFIED_ORDER, "symbol", "is of another contract")
    return told


def _report(endpoint: Endpoint, scale: Scale, row: wire.Order) -> OrderReport:
    said = OrderWords(
        *(row.order_id, row.client_oid, row.order_type, row.side),
        *(row.price, row.qty, row.cum_exec_qty, row.order_status, row.reduce_only),
    )
    return order_report(endpoint, scale, said)


# --- history ----------------------------------------------------------------------------------------------------------


async def fills(
    scale: Scale, sends: Sends, since: Cursor, names: Names | None = None, fees_in: set[str] | None = None
) -> list[Fill]:
    """Those since `since`, oldest first, each once. `names` saves asking again for orders that were asked for;
    `fees_in` takes the names of what fees were paid in beside the quote currency."""
    endpoint = endpoints.UNIFIED_FILLS

    async def page(span: dict[str, str], cursor: str) -> tuple[Sequence[wire.Fill], str]:
        data, _ = await ask(sends, endpoint, {**_of_symbol(scale), **span, **_after(cursor)}, wire.FILLS)
        return _page(data)

    async def name(client_id: str) -> OrderName:
        told = await _order(scale, sends, client_id)
        return OrderName(named(endpoints.UNIFIED_ORDER, told.client_oid, told.order_id), told.exec_type)

    names, bill = names or Names(), charges.Bill(scale, lambda: fees(scale, sends), fees_in)
    found: list[Fill] = []
    until_ns = await paging.venue_now_ns(sends)
    for row in await paging.history(endpoint, since, until_ns, page, lambda row: row.exec_id):
        if row.symbol != scale.instrument.symbol:
            continue  # the venue is known to answer for all contracts
        client_id, kind = named(endpoint, row.client_oid, row.order_id), None
        if row.trade_side:
            kind = take(endpoint, "tradeSide", exec_kind, row.trade_side)
        if kind is None or (kind is ExecKind.TRADE and not row.client_oid):
            at_ns = take(endpoint, "createdTime", milliseconds_ns, row.created_time)
            whose = await names.of(row.order_id, until_ns - at_ns, name)
            client_id, kind = client_id if row.client_oid else whose.client_id, _kind(row, whose.execution)
        found.append(await bill.with_fee(endpoint, _fill(scale, row, client_id, kind), _lines(row), until_ns))
    return paging.in_order(found, since, lambda fill: fill.trade_id)


def _kind(row: wire.Fill, execution: str | None) -> ExecKind:
    """By the fill's own word and its order's. Raises VenueUnavailable where neither says."""
    if not row.trade_side and not execution:
        raise unreadable(endpoints.UNIFIED_FILLS, "tradeSide", "is missing")
    return take(endpoints.UNIFIED_FILLS, "tradeSide", lambda _: exec_kind(row.trade_side or "open", execution), None)


def _lines(row: wire.Fill) -> list[charges.Line]:
    endpoint = endpoints.UNIFIED_FILLS
    return [(fee.fee_coin, take(endpoint, "fee", number, fee.fee), fee.deduction) for fee in row.fee_detail]


def _fill(scale: Scale, row: wire.Fill, client_id: str, kind: ExecKind) -> Fill:
    """All but its fee."""
    endpoint = endpoints.UNIFIED_FILLS
    return Fill(
        mono_ns=0,
        ts_ns=0,
        venue_ts_ns=take(endpoint, "createdTime", milliseconds_ns, row.created_time),
        trade_id=identity(endpoint, "execId", row.exec_id),
        client_id=client_id,
        side=word(endpoint, "side", SIDES, row.side),
        px_ticks=take(endpoint, "execPrice", scale.px_ticks, row.exec_price),
        qty_lots=traded_lots(endpoint, "execQty", scale, row.exec_qty),
        fee_e10=0,
        liquidity=word(endpoint, "tradeScope", LIQUIDITIES, row.trade_scope),
        exec_kind=kind,
    )


async def bills(scale: Scale, sends: Sends, since: Cursor) -> list[Bill]:
    """Lines of the ledger that no fill carries, since `since`, oldest first, each once: the rule is `ledger`'s."""
    endpoint = endpoints.UNIFIED_BILLS

    async def read(category: str) -> list[wire.Record]:
        async def page(span: dict[str, str], cursor: str) -> tuple[Sequence[wire.Record], str]:
            params = {"category": category, "coin": COIN, **span, **_after(cursor)}
            data, _ = await ask(sends, endpoint, params, wire.RECORDS)
            return _page(data)

        return await paging.history(endpoint, since, until_ns, page, lambda row: row.id)

    until_ns = await paging.venue_now_ns(sends)
    rows = [row for category in _CATEGORIES for row in await read(category)]
    found = [booked for row in rows if (booked := _bill(scale, row)) is not None]
    return paging.in_order(found, since, lambda bill: bill.bill_id)


def _bill(scale: Scale, row: wire.Record) -> Bill | None:
    if row.coin != COIN:
        return None  # another wallet
    endpoint = endpoints.UNIFIED_BILLS
    return ledger.bill(
        bill_id=identity(endpoint, "id", row.id),
        word=row.type,
        is_ours=row.category.upper() in (PRODUCT, "OTHER") and (row.symbol or "") in ("", scale.instrument.symbol),
        amount_e10=take(endpoint, "amount", money_e10, row.amount),
        fee_e10=take(endpoint, "fee", money_e10, row.fee or "0"),
        venue_ts_ns=take(endpoint, "ts", milliseconds_ns, row.ts),
    )


# --- the account ------------------------------------------------------------------------------------------------------


async def snapshot(scale: Scale, sends: Sends) -> AccountSnapshot:
    """The wallet is the balance of USDT less what is owed of it. Margin is of the account as a whole: what is free is
    the lesser of what the venue lets be used of USDT and the effective equity less what is in use."""

    async def wallet() -> snapshots.Wallet:
        endpoint = endpoints.UNIFIED_ACCOUNT
        told, _ = await ask(sends, endpoint, {}, wire.ASSETS)
        ours = only(endpoint, [asset for asset in told.assets or () if asset.coin == COIN])
        owed_e10 = abs(take(endpoint, "debt", money_e10, ours.debt))
        equity_e10, used_e10 = take(endpoint, "effEquity", money_e10, told.eff_equity), _used_e10(told)
        return snapshots.Wallet(
            take(endpoint, "balance", money_e10, ours.balance) - owed_e10,
            min(take(endpoint, "available", money_e10, ours.available), equity_e10 - used_e10),
        )

    async def held() -> snapshots.Held:
        endpoint = endpoints.UNIFIED_POSITION
        rows, venue_ts_ns = await _positions(scale, sends)
        found = tuple(
            each
            for row in rows
            if (each := position(endpoint, scale, row.pos_side, row.total, row.avg_price)) is not None
        )
        if found:
            mark_px_ticks = take(endpoint, "markPrice", scale.near_px_ticks, rows[0].mark_price)
        else:
            mark_px_ticks = (await mark(scale, sends)).px_ticks
        return snapshots.Held(found, mark_px_ticks, venue_ts_ns)

    return await snapshots.picture(scale, wallet, held)


def _used_e10(told: wire.Assets) -> int:
    used_e10 = take(endpoints.UNIFIED_ACCOUNT, "imr", money_e10, told.imr)
    if used_e10 < 0:
        raise unreadable(endpoints.UNIFIED_ACCOUNT, "imr", "negative")
    return used_e10


async def facts(scale: Scale, sends: Sends, clock_offset_s: float) -> AccountFacts:
    endpoint = endpoints.UNIFIED_SETTINGS
    whose, _ = await ask(sends, endpoints.UNIFIED_KEY, {}, wire.KEY)
    if not _PERMISSIONS.issuperset(whose.permissions):
        raise unreadable(endpoints.UNIFIED_KEY, "permissions", "one of them is not known")
    may_write = word(endpoints.UNIFIED_KEY, "permType", _WRITES, whose.perm_type)
    told, _ = await ask(sends, endpoint, {}, wire.SETTINGS)
    listed = told.symbol_config_list or ()
    ours = only(endpoint, [row for row in listed if (row.category, row.symbol) == (PRODUCT, scale.instrument.symbol)])
    return AccountFacts(
        account=str(whose.user_id),
        position_mode=word(endpoint, "holdMode", POSITION_MODES, told.hold_mode),
        margin_mode=word(endpoint, "marginMode", MARGIN_MODES, ours.margin_mode),
        leverage=float(take(endpoint, "leverage", number, ours.leverage)),
        can_trade=may_write and "uta_trade" in whose.permissions,
        # Even of a key that may read alone: it must not be there.
        can_withdraw="withdraw" in whose.permissions,
        clock_offset_s=clock_offset_s,
    )


async def fees(scale: Scale, sends: Sends) -> FeeSchedule:
    endpoint = endpoints.UNIFIED_FEES
    told, venue_ts_ns = await ask(sends, endpoint, _of_symbol(scale), wire.FEES)
    maker = rate(endpoint, "makerFeeRate", told.maker_fee_rate)
    taker = rate(endpoint, "takerFeeRate", told.taker_fee_rate)
    return FeeSchedule(0, 0, venue_ts_ns, maker, taker, "bitget v3/account/fee-rate")


async def _positions(scale: Scale, sends: Sends) -> tuple[list[wire.Position], int]:
    data, venue_ts_ns = await ask(sends, endpoints.UNIFIED_POSITION, _of_symbol(scale), wire.POSITIONS)
    rows = (data.list if data else None) or ()
    return [row for row in rows if row.symbol == scale.instrument.symbol], venue_ts_ns


# --- the market -------------------------------------------------------------------------------------------------------


async def candles(scale: Scale, sends: Sends, n: int) -> list[BarClosed]:
    endpoint = endpoints.UNIFIED_CANDLES
    params = {**_of_symbol(scale), "interval": "1m", "limit": str(min(n + 1, paging.LIMIT))}

    async def page(before: str) -> tuple[bars.Rows, int]:
        return await ask(sends, endpoint, {**params, "endTime": before} if before else params, bars.ROWS)

    return await bars.closed(endpoint, scale, page, n)


async def funding(scale: Scale, sends: Sends) -> FundingRate:
    endpoint = endpoints.UNIFIED_FUNDING
    rows, venue_ts_ns = await ask(sends, endpoint, _of_symbol(scale), wire.FUNDING)
    told = only(endpoint, [row for row in rows or () if row.symbol == scale.instrument.symbol])
    return funding_rate(endpoint, venue_ts_ns, told.funding_rate, told.funding_rate_interval, told.next_update)


async def mark(scale: Scale, sends: Sends) -> MarkPrice:
    endpoint = endpoints.UNIFIED_PRICE
    rows, _ = await ask(sends, endpoint, _of_symbol(scale), wire.TICKERS)
    told = only(endpoint, [row for row in rows or () if row.symbol == scale.instrument.symbol])
    at_ns = take(endpoint, "ts", milliseconds_ns, told.ts)
    return MarkPrice(0, 0, at_ns, take(endpoint, "markPrice", scale.near_px_ticks, told.mark_price))


async def read_instrument(sends: Sends, symbol: str) -> Instrument:
    endpoint = endpoints.UNIFIED_CONTRACTS
    rows, _ = await ask(sends, endpoint, {"category": PRODUCT, "symbol": symbol}, wire.RULES)
    told = only(endpoint, [row for row in rows or () if row.symbol == symbol])
    contract = Contract(
        symbol=symbol,
        quote=told.quote_coin,
        tick=take(endpoint, "priceMultiplier", number, told.price_multiplier),
        lot=take(endpoint, "quantityMultiplier", number, told.quantity_multiplier),
        min_qty=told.min_order_qty,
        max_qty=told.max_order_qty,
        min_notional=told.min_order_amount,
        status=told.status,
    )
    return instrument_of(endpoint, contract)


# --- the stop ---------------------------------------------------------------------------------------------------------


async def protect(scale: Scale, sends: Sends, stop: PositionStop | None) -> None:
    """One stop of the whole position, on the mark, at market. What takes profit too, or is of a part of the position (a
    person's), is left alone."""
    held, held_lots = await _held(scale, sends) if stop is not None else ("", 0)
    endpoint = endpoints.UNIFIED_TPSL_PENDING
    price = {
        "stopLoss": scale.px_text(stop.trigger_px_ticks) if stop is not None else "",
        "slTriggerBy": "mark",
        "slOrderType": "market",
    }

    async def pending() -> list[stops.Pending]:
        rows, _ = await ask(sends, endpoint, {**_of_symbol(scale), "type": "tpsl"}, wire.STRATEGIES)
        mine = [row for row in rows or () if row.symbol == scale.instrument.symbol]
        return [
            stops.Pending(row.order_id, _is_right(scale, row, stop, held))
            for row in mine
            if row.stop_loss and not row.take_profit and not _is_of_a_part(scale, row, held_lots)
        ]

    async def place() -> None:
        params = {**_of_symbol(scale), "type": "tpsl", "tpslMode": "full", "posSide": held, **price}
        await sends.ask(Request(endpoints.UNIFIED_TPSL_PLACE, params))

    async def move(order_id: str) -> None:
        await sends.ask(Request(endpoints.UNIFIED_TPSL_MODIFY, {"orderId": order_id, **price}))

    async def cancel(order_id: str) -> None:
        await sends.ask(Request(endpoints.UNIFIED_TPSL_CANCEL, {"orderId": order_id}))

    await stops.keep(is_wanted=stop is not None, pending=pending, place=place, move=move, cancel=cancel)


async def _held(scale: Scale, sends: Sends) -> tuple[str, int]:
    """ "long" or "short", and how many lots."""
    endpoint = endpoints.UNIFIED_POSITION
    rows, _ = await _positions(scale, sends)
    told = [row for row in rows if take(endpoint, "total", scale.qty_lots, row.total)]
    if len(told) != 1:
        raise VenueUnavailable("protect: the venue holds no position, or one on each side")
    side = "long" if word(endpoint, "posSide", HELD, told[0].pos_side) > 0 else "short"
    return side, take(endpoint, "total", scale.qty_lots, told[0].total)


def _is_of_a_part(scale: Scale, row: wire.Strategy, held_lots: int) -> bool:
    """Moved to where ours belongs it would pass for it, and leave the rest of the position without a stop."""
    lots = take(endpoints.UNIFIED_TPSL_PENDING, "qty", scale.qty_lots, row.qty or "0")
    return lots > 0 and not 0 < held_lots <= lots


def _is_right(scale: Scale, row: wire.Strategy, stop: PositionStop | None, held: str) -> bool:
    if stop is None or (row.sl_trigger_by, row.sl_order_type) != ("mark", "market"):
        return False
    if row.pos_side in HELD and row.pos_side != held:
        return False
    at = take(endpoints.UNIFIED_TPSL_PENDING, "stopLoss", scale.near_px_ticks, row.stop_loss)
    return at == stop.trigger_px_ticks


def _of_symbol(scale: Scale) -> dict[str, str]:
    return {"category": PRODUCT, "symbol": scale.instrument.symbol}


def _after(cursor: str) -> dict[str, str]:
    return {"cursor": cursor} if cursor else {}


class _Page(Protocol[R_co]):
    @property
    def list(self) -> Sequence[R_co] | None: ...
    @property
    def cursor(self) -> str | None: ...


def _page(data: _Page[R_co] | None) -> tuple[Sequence[R_co], str]:
    """Rows and cursor, as `paging` has them."""
    return ((data.list or ()), data.cursor or "") if data is not None else ((), "")
