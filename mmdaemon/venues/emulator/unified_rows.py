"""What the account has, in the rows of the unified API (v3). Fees are positive where they were charged; the ledger's
are negative."""

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import OrderStatus
from mmdaemon.venues.emulator import figures
from mmdaemon.venues.emulator.figures import FUTURES, KEEP_MARGIN_RATE, POSITION_MODE, SCOPE, SIDE_WORD, money, plain
from mmdaemon.venues.emulator.rows import BillRow, FillRow, OrderRow, PositionRow
from mmdaemon.venues.emulator.stops import Stop

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

Row = dict[str, Any]

OTHER: Final = "OTHER"
"""The ledger's category of what is of no product."""
STATUS: Final = {
    OrderStatus.PARTIAL: "partially_filled",
    OrderStatus.FILLED: "filled",
    OrderStatus.CANCELLED: "cancelled",
    OrderStatus.REJECTED: "cancelled",
}
TYPE: Final = {
    "funding": ("CONTRACT_MAIN_SETTLE_FEE_USER_IN", "CONTRACT_MAIN_SETTLE_FEE_USER_OUT"),
    "transfer_in": ("TRANSFER_IN", "TRANSFER_IN"),
    "transfer_out": ("TRANSFER_OUT", "TRANSFER_OUT"),
    "fee": ("RISK_CAPTITAL_USER_TRANSFER", "RISK_CAPTITAL_USER_TRANSFER"),
    "trade": ("BUY", "BUY"),
}
"""The word of a line that was received, and of one that was paid."""


def named(row: OrderRow) -> Row:
    return {"orderId": row.order_id, "clientOid": figures.client_oid(row)}


def charged(account: "Account", fee_e10: int, filled_lots: int) -> list[Row]:
    """Of an order that nothing filled of, coin and fee are empty."""
    return [{"feeCoin": account.coin, "fee": money(fee_e10)} if filled_lots else {"feeCoin": "", "fee": ""}]


def open_order(account: "Account", row: OrderRow) -> Row:
    return {
        **named(row),
        "category": FUTURES,
        "symbol": account.symbol,
        "orderType": "limit",
        "side": SIDE_WORD[row.side],
        "price": account.scale.px_text(row.px_ticks),
        "qty": account.scale.qty_text(row.qty_lots),
        "amount": "0",
        "cumExecQty": account.scale.qty_text(row.filled_lots),
        "cumExecValue": figures.filled_value(account, row),
        "avgPrice": row.average_px or "0",
        "timeInForce": figures.force(row),
        "orderStatus": STATUS.get(row.status, "live"),
        "posSide": "net",
        "holdMode": POSITION_MODE[account.facts.position_mode],
        "reduceOnly": "YES" if row.reduce_only else "NO",
        "feeDetail": charged(account, row.fee_e10, row.filled_lots),
        "createdTime": str(row.created_ms),
        "updatedTime": str(row.updated_ms),
        "stpMode": "none",
        "tpTriggerBy": None,
        "slTriggerBy": None,
        "takeProfit": None,
        "stopLoss": None,
        "tpOrderType": None,
        "slOrderType": None,
        "tpLimitPrice": None,
        "slLimitPrice": None,
    }


def order(account: "Account", row: OrderRow) -> Row:
    kind = "liquidation" if row.reason == "liquidation" else "normal"
    return {**open_order(account, row), "cancelReason": figures.cancel_reason(row), "execType": kind}


def stop(account: "Account", row: Stop) -> Row:
    return {
        "orderId": row.order_id,
        "clientOid": row.client_id,
        "symbol": account.symbol,
        "category": FUTURES,
        "qty": "",
        "posSide": figures.HOLDS[row.side],
        "tpTriggerBy": "market",
        "slTriggerBy": "mark",
        "takeProfit": "",
        "stopLoss": account.scale.px_text(row.trigger_px_ticks),
        "tpOrderType": "market",
        "slOrderType": "market",
        "tpLimitPrice": "",
        "slLimitPrice": "",
        "createdTime": str(row.created_ms),
        "updatedTime": str(row.updated_ms),
    }


def fill(account: "Account", row: FillRow) -> Row:
    """A fill's row has no client id: it is known by its order."""
    return {
        "execId": row.trade_id,
        "orderId": row.order_id,
        "category": FUTURES,
        "symbol": account.symbol,
        "orderType": "limit",
        "side": SIDE_WORD[row.side],
        "execPrice": account.scale.px_text(row.px_ticks),
        "execQty": account.scale.qty_text(row.qty_lots),
        "execValue": figures.fill_value(account, row),
        "tradeScope": SCOPE[row.liquidity],
        "tradeSide": figures.trade_side(row.side, row.kind),
        "feeDetail": charged(account, row.fee_e10, row.qty_lots),
        "createdTime": str(row.at_ms),
        "updatedTime": str(row.at_ms),
        "execPnl": money(row.pnl_e10),
    }


def bill(account: "Account", row: BillRow) -> Row:
    is_transfer = row.kind.startswith("transfer")
    return {
        "category": OTHER if is_transfer else FUTURES,
        "id": row.bill_id,
        "symbol": "" if is_transfer else account.symbol,
        "coin": account.coin,
        "type": TYPE[row.kind][row.amount_e10 < 0],
        "positionType": "" if is_transfer else account.facts.margin_mode,
        "fee": money(-row.fee_e10),
        "positionAmount": "0",
        "positionBalance": "0",
        "amount": money(row.amount_e10),
        "balance": money(row.balance_e10),
        "ts": str(row.at_ms),
    }


def position(account: "Account", row: PositionRow) -> Row:
    size = account.scale.qty_text(abs(row.lots))
    return {
        "category": FUTURES,
        "symbol": account.symbol,
        "marginCoin": account.coin,
        "holdMode": POSITION_MODE[account.facts.position_mode],
        "posSide": "long" if row.lots > 0 else "short",
        "marginMode": account.facts.margin_mode,
        "positionBalance": money(row.margin_e10),
        "available": size,
        "frozen": "0",
        "total": size,
        "leverage": str(account.facts.leverage),
        "curRealisedPnl": "0",
        "avgPrice": row.average_px,
        "positionStatus": "normal",
        "unrealisedPnl": money(row.unrealised_e10),
        "liquidationPrice": row.liquidation_px or "0",
        "mmr": KEEP_MARGIN_RATE,
        "profitRate": profit_rate(row),
        "markPrice": account.scale.px_text(row.mark_px_ticks),
        "breakEvenPrice": row.average_px,
        "totalFunding": "0",
        "openFeeTotal": "0",
        "closeFeeTotal": "0",
        "createdTime": str(row.updated_ms),
        "updatedTime": str(row.updated_ms),
    }


def profit_rate(row: PositionRow) -> str:
    rate = Decimal(row.unrealised_e10) / row.margin_e10 if row.margin_e10 else Decimal(0)
    return plain(rate.quantize(Decimal("1e-12")))


def assets(account: "Account") -> Row:
    """`mmr` and `imr` are amounts here, not rates; free margin is `effEquity` less `imr`."""
    row = account.balance()
    equity, unrealised = money(row.wallet_e10 + row.unrealised_e10), money(row.unrealised_e10)
    risk = figures.risk_rate(account)
    return {
        "accountEquity": equity,
        "usdtEquity": equity,
        "btcEquity": figures.btc(account, row.wallet_e10 + row.unrealised_e10),
        "unrealisedPnl": unrealised,
        "usdtUnrealisedPnl": unrealised,
        "btcUnrealizedPnl": figures.btc(account, row.unrealised_e10),
        "effEquity": equity,
        "mmr": plain(figures.maintenance(account)),
        "imr": money(row.margin_e10),
        "mgnRatio": risk,
        "positionMgnRatio": risk,
        "assets": [
            {
                "coin": account.coin,
                "equity": equity,
                "usdValue": equity,
                "balance": money(row.wallet_e10),
                "available": money(max(0, row.available_e10)),
                "debt": "0",
                "locked": "0",
            }
        ],
    }


def candle(account: "Account", bar: BarClosed) -> Row:
    """As the stream writes it."""
    px = account.scale.px_text
    return {
        "start": str(bar.open_ts_ns // 1_000_000),
        "open": px(bar.open_ticks),
        "close": px(bar.close_ticks),
        "high": px(bar.high_ticks),
        "low": px(bar.low_ticks),
        "volume": account.scale.qty_text(bar.qty_lots),
        "turnover": money(figures.value_e10(account, bar.close_ticks, bar.qty_lots)),
    }


def instrument(account: "Account") -> Row:
    """The rates here are the contract's defaults, not the account's."""
    rules, scale = account.instrument, account.scale
    return {
        "symbol": account.symbol,
        "category": FUTURES,
        "baseCoin": account.symbol.removesuffix(account.coin),
        "quoteCoin": account.coin,
        "buyLimitPriceRatio": str(figures.MARKET_RATIO),
        "sellLimitPriceRatio": str(figures.MARKET_RATIO),
        "feeRateUpRatio": "0.005",
        "makerFeeRate": "0.0002",
        "takerFeeRate": "0.0006",
        "openCostUpRatio": "0.01",
        "minOrderQty": scale.qty_text(rules.min_qty_lots),
        "maxOrderQty": scale.qty_text(rules.max_qty_lots),
        "pricePrecision": str(figures.decimals(scale.tick)),
        "quantityPrecision": str(figures.decimals(scale.lot)),
        "quotePrecision": None,
        "priceMultiplier": plain(scale.tick),
        "quantityMultiplier": plain(scale.lot),
        "type": "perpetual",
        "minOrderAmount": money(rules.min_notional_e10),
        "maxSymbolOrderNum": "200",
        "maxProductOrderNum": "1000",
        "maxPositionNum": "150",
        "status": "online",
        "offTime": "-1",
        "limitOpenTime": "-1",
        "deliveryTime": "",
        "deliveryStartTime": "",
        "deliveryPeriod": "",
        "launchTime": "",
        "fundInterval": str(account.funding()[2] // 3600),
        "minLeverage": "1",
        "maxLeverage": str(figures.LEVERAGE_MAX),
        "maintainTime": "",
    }


def ticker(account: "Account") -> Row:
    """What is not kept here (the day's high, low and volume) is the last price and zero."""
    row, px, qty = account.ticker(), account.scale.px_text, account.scale.qty_text
    last, mark = px(row.last_px_ticks), px(row.mark_px_ticks)
    return {
        "category": FUTURES,
        "symbol": account.symbol,
        "ts": str(row.at_ms),
        "lastPrice": last,
        "openPrice24h": last,
        "highPrice24h": last,
        "lowPrice24h": last,
        "ask1Price": px(row.ask_px_ticks),
        "bid1Price": px(row.bid_px_ticks),
        "bid1Size": qty(row.bid_lots),
        "ask1Size": qty(row.ask_lots),
        "price24hPcnt": "0",
        "volume24h": "0",
        "turnover24h": "0",
        "indexPrice": mark,
        "markPrice": mark,
        "fundingRate": row.funding_rate,
        "openInterest": "0",
        "deliveryStartTime": "",
        "deliveryTime": "",
        "deliveryStatus": "",
    }
