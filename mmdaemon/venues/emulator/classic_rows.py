"""What the account has, in the rows of the classic API (v2). Fees are negative where they were charged."""

from typing import TYPE_CHECKING, Any, Final

from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import OrderStatus
from mmdaemon.venues.emulator import figures
from mmdaemon.venues.emulator.figures import KEEP_MARGIN_RATE, POSITION_MODE, SCOPE, SIDE_WORD, money, plain
from mmdaemon.venues.emulator.rows import AccountRow, BillRow, FillRow, OrderRow, PositionRow
from mmdaemon.venues.emulator.stops import Stop

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

Row = dict[str, Any]

REST_STATUS: Final = {
    OrderStatus.PARTIAL: "partially_filled",
    OrderStatus.FILLED: "filled",
    OrderStatus.CANCELLED: "canceled",
    OrderStatus.REJECTED: "canceled",
}
BUSINESS: Final = {
    "funding": "contract_settle_fee",
    "transfer_in": "trans_from_exchange",
    "transfer_out": "trans_to_exchange",
    "fee": "risk_captital_user_transfer",
    "trade": "buy",
}
"""A trade's line says "buy" or "sell", "open_long" and so on; which of them is in no ledger row here."""


def order(account: "Account", row: OrderRow, status_key: str) -> Row:
    """`status_key`: a detail calls it `state`, a list `status`."""
    return {
        "symbol": account.symbol,
        "size": account.scale.qty_text(row.qty_lots),
        "orderId": row.order_id,
        "clientOid": figures.client_oid(row),
        "baseVolume": account.scale.qty_text(row.filled_lots),
        "fee": money(-row.fee_e10),
        "price": account.scale.px_text(row.px_ticks),
        "priceAvg": row.average_px,
        status_key: REST_STATUS.get(row.status, "live"),
        "side": SIDE_WORD[row.side],
        "force": figures.force(row),
        "totalProfits": "0",
        "posSide": "net",
        "marginCoin": account.coin,
        "presetStopSurplusPrice": "",
        "presetStopLossPrice": "",
        "quoteVolume": figures.filled_value(account, row),
        "orderType": "limit",
        "leverage": str(account.facts.leverage),
        "marginMode": account.facts.margin_mode,
        "reduceOnly": "YES" if row.reduce_only else "NO",
        "enterPointSource": "API",
        "tradeSide": f"{SIDE_WORD[row.side]}_single",
        "posMode": POSITION_MODE[account.facts.position_mode],
        "orderSource": "normal",
        "cTime": str(row.created_ms),
        "uTime": str(row.updated_ms),
    }


def stop(account: "Account", row: Stop) -> Row:
    return {
        "planType": "pos_loss",
        "symbol": account.symbol,
        "size": "",
        "orderId": row.order_id,
        "clientOid": row.client_id,
        "price": "",
        "callbackRatio": "",
        "triggerPrice": account.scale.px_text(row.trigger_px_ticks),
        "triggerType": "mark_price",
        "planStatus": "live",
        "side": SIDE_WORD[row.side],
        "posSide": "net",
        "marginCoin": account.coin,
        "marginMode": account.facts.margin_mode,
        "enterPointSource": "API",
        "tradeSide": f"{SIDE_WORD[row.side]}_single",
        "posMode": POSITION_MODE[account.facts.position_mode],
        "orderType": "market",
        "stopSurplusTriggerPrice": "",
        "stopSurplusExecutePrice": "",
        "stopSurplusTriggerType": "fill_price",
        "stopLossTriggerPrice": "",
        "stopLossExecutePrice": "",
        "stopLossTriggerType": "fill_price",
        "cTime": str(row.created_ms),
        "uTime": str(row.updated_ms),
    }


def fill(account: "Account", row: FillRow) -> Row:
    """A fill's row has no client id: it is known by its order."""
    return {
        "tradeId": row.trade_id,
        "symbol": account.symbol,
        "orderId": row.order_id,
        "price": account.scale.px_text(row.px_ticks),
        "baseVolume": account.scale.qty_text(row.qty_lots),
        "feeDetail": [
            {"deduction": "no", "feeCoin": account.coin, "totalDeductionFee": None, "totalFee": money(-row.fee_e10)}
        ],
        "side": SIDE_WORD[row.side],
        "quoteVolume": figures.fill_value(account, row),
        "profit": money(row.pnl_e10),
        "enterPointSource": "api",
        "tradeSide": figures.trade_side(row.side, row.kind),
        "posMode": POSITION_MODE[account.facts.position_mode],
        "tradeScope": SCOPE[row.liquidity],
        "cTime": str(row.at_ms),
    }


def bill(account: "Account", row: BillRow) -> Row:
    is_transfer = row.kind.startswith("transfer")
    return {
        "billId": row.bill_id,
        "symbol": "" if is_transfer else account.symbol,
        "amount": money(row.amount_e10),
        "fee": money(-row.fee_e10),
        "feeByCoupon": "",
        "businessType": BUSINESS[row.kind],
        "coin": account.coin,
        "balance": money(row.balance_e10),
        "cTime": str(row.at_ms),
    }


def position(account: "Account", row: PositionRow) -> Row:
    size = account.scale.qty_text(abs(row.lots))
    return {
        "marginCoin": account.coin,
        "symbol": account.symbol,
        "holdSide": "long" if row.lots > 0 else "short",
        "openDelegateSize": "0",
        "marginSize": money(row.margin_e10),
        "available": size,
        "locked": "0",
        "total": size,
        "leverage": str(account.facts.leverage),
        "achievedProfits": "0",
        "openPriceAvg": row.average_px,
        "marginMode": account.facts.margin_mode,
        "posMode": POSITION_MODE[account.facts.position_mode],
        "unrealizedPL": money(row.unrealised_e10),
        "liquidationPrice": row.liquidation_px or "0",
        "keepMarginRate": KEEP_MARGIN_RATE,
        "markPrice": account.scale.px_text(row.mark_px_ticks),
        "marginRatio": figures.risk_rate(account),
        "cTime": str(row.updated_ms),
    }


def assets(account: "Account") -> Row:
    """The row of `account/accounts`. `available` is the whole balance; what is free is `crossedMaxAvailable`."""
    row = account.balance()
    equity_e10 = row.wallet_e10 + row.unrealised_e10
    return {
        "marginCoin": account.coin,
        "locked": money(row.margin_e10),
        "available": money(row.wallet_e10),
        "crossedMaxAvailable": money(row.available_e10),
        "isolatedMaxAvailable": money(row.available_e10),
        "maxTransferOut": money(transferable_e10(row)),
        "accountEquity": money(equity_e10),
        "usdtEquity": money(equity_e10),
        "btcEquity": figures.btc(account, equity_e10),
        "crossedRiskRate": figures.risk_rate(account),
        "unrealizedPL": money(row.unrealised_e10),
        "coupon": "0",
        "crossedUnrealizedPL": money(row.unrealised_e10),
        "isolatedUnrealizedPL": "0",
    }


def settings(account: "Account") -> Row:
    """The row of `account/account`: the same with what a person may set. Leverage is a number here."""
    facts = account.facts
    return {
        **assets(account),
        "crossedMarginLeverage": facts.leverage,
        "isolatedLongLever": facts.leverage,
        "isolatedShortLever": facts.leverage,
        "marginMode": facts.margin_mode,
        "posMode": POSITION_MODE[facts.position_mode],
    }


def transferable_e10(row: AccountRow) -> int:
    """Profit that is not realised cannot be taken out."""
    return max(0, min(row.available_e10, row.wallet_e10))


def candle(account: "Account", bar: BarClosed) -> list[str]:
    px = account.scale.px_text
    value = money(figures.value_e10(account, bar.close_ticks, bar.qty_lots))
    return [
        str(bar.open_ts_ns // 1_000_000),
        px(bar.open_ticks),
        px(bar.high_ticks),
        px(bar.low_ticks),
        px(bar.close_ticks),
        account.scale.qty_text(bar.qty_lots),
        value,
    ]


def contract(account: "Account") -> Row:
    """The rates here are the contract's defaults, not the account's."""
    instrument, scale = account.instrument, account.scale
    price_place = figures.decimals(scale.tick)
    return {
        "symbol": account.symbol,
        "baseCoin": account.symbol.removesuffix(account.coin),
        "quoteCoin": account.coin,
        "buyLimitPriceRatio": str(figures.MARKET_RATIO),
        "sellLimitPriceRatio": str(figures.MARKET_RATIO),
        "feeRateUpRatio": "0.005",
        "makerFeeRate": "0.0002",
        "takerFeeRate": "0.0006",
        "openCostUpRatio": "0.01",
        "supportMarginCoins": [account.coin],
        "minTradeNum": scale.qty_text(instrument.min_qty_lots),
        "priceEndStep": plain(scale.tick.scaleb(price_place)),
        "volumePlace": str(figures.decimals(scale.lot)),
        "pricePlace": str(price_place),
        "sizeMultiplier": plain(scale.lot),
        "symbolType": "perpetual",
        "minTradeUSDT": money(instrument.min_notional_e10),
        "maxSymbolOrderNum": "200",
        "maxProductOrderNum": "400",
        "maxPositionNum": "150",
        "symbolStatus": "normal",
        "offTime": "-1",
        "limitOpenTime": "-1",
        "deliveryTime": "",
        "deliveryStartTime": "",
        "deliveryPeriod": "",
        "launchTime": "",
        "fundInterval": str(account.funding()[2] // 3600),
        "minLever": "1",
        "maxLever": str(figures.LEVERAGE_MAX),
        "posLimit": "0.05",
        "maintainTime": "",
        "maxOrderQty": scale.qty_text(instrument.max_qty_lots),
        "maxMarketOrderQty": scale.qty_text(instrument.max_qty_lots),
    }


def ticker(account: "Account") -> Row:
    """What is not kept here (the day's high, low and volume) is the last price and zero."""
    row, px, qty = account.ticker(), account.scale.px_text, account.scale.qty_text
    last, mark = px(row.last_px_ticks), px(row.mark_px_ticks)
    return {
        "symbol": account.symbol,
        "lastPr": last,
        "askPr": px(row.ask_px_ticks),
        "bidPr": px(row.bid_px_ticks),
        "bidSz": qty(row.bid_lots),
        "askSz": qty(row.ask_lots),
        "high24h": last,
        "low24h": last,
        "ts": str(row.at_ms),
        "change24h": "0",
        "baseVolume": "0",
        "quoteVolume": "0",
        "usdtVolume": "0",
        "openUtc": last,
        "changeUtc24h": "0",
        "indexPrice": mark,
        "fundingRate": row.funding_rate,
        "holdingAmount": "0",
        "deliveryStartTime": None,
        "deliveryTime": None,
        "deliveryStatus": "",
        "open24h": last,
        "markPrice": mark,
    }
