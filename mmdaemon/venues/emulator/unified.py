"""Bitget's unified API (v3) over the account: its calls are in `unified_calls.py`, the stream is here."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from mmdaemon.core.events import BarClosed
from mmdaemon.venues.emulator import errors, figures, unified_rows
from mmdaemon.venues.emulator.dialect import BookFrame, Channel, Json, Route, TickerRow, TradeRow
from mmdaemon.venues.emulator.figures import FUTURES, KEEP_MARGIN_RATE, POSITION_MODE, SCOPE, SIDE_WORD, money, plain
from mmdaemon.venues.emulator.rows import AccountRow, FillRow, No, OrderRow, PositionRow, Why
from mmdaemon.venues.emulator.unified_calls import ROUTES
from mmdaemon.venues.emulator.unified_rows import Row

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

_PUBLIC: Final[Mapping[str, Any]] = {
    "books": "books",
    "books1": "books1",
    "books5": "books5",
    "books50": "books50",
    "publicTrade": "trades",
    "ticker": "ticker",
    "kline": "candles",
}
_PRIVATE: Final[Mapping[str, Any]] = {
    "order": "orders",
    "fill": "fills",
    "position": "positions",
    "account": "account",
}


class Unified:
    name: Literal["classic", "unified"] = "unified"
    public_path = "/v3/ws/public"
    private_path = "/v3/ws/private"

    def __init__(self, symbol: str = "BTCUSDT", coin: str = "USDT") -> None:
        self._symbol, self._coin = symbol, coin

    def routes(self) -> Sequence[Route]:
        return ROUTES

    def error(self, no: No) -> tuple[int, str, str]:
        return errors.refusal(no, errors.UNIFIED)

    def channel(self, arg: Mapping[str, Any]) -> Channel:
        topic, product = str(arg.get("topic")), str(arg.get("instType")).upper()
        if topic in _PUBLIC and product == FUTURES and arg.get("symbol") == self._symbol:
            if topic == "kline" and arg.get("interval") != "1m":
                raise No(Why.PARAMETER)
            return Channel(_PUBLIC[topic], arg, private=False)
        if topic in _PRIVATE and product == "UTA":
            return Channel(_PRIVATE[topic], arg, private=True)
        raise No(Why.PARAMETER)

    # --- the market ---------------------------------------------------------------------------------------------------

    def book(self, account: "Account", channel: Channel, frame: BookFrame) -> Json:
        """There is no checksum in this API."""
        px, qty = account.scale.px_text, account.scale.qty_text
        row: Row = {
            "a": [[px(ticks), qty(lots)] for ticks, lots in frame.asks],
            "b": [[px(ticks), qty(lots)] for ticks, lots in frame.bids],
            "seq": frame.seq,
            "pseq": frame.pseq,
            "ts": str(frame.at_ms),
        }
        return _frame(account, channel, [row], snapshot=frame.snapshot)

    def trades(self, account: "Account", channel: Channel, rows: Sequence[TradeRow], *, snapshot: bool) -> Json:
        data = [
            {
                "i": row.trade_id,
                "L": row.trade_id,
                "p": account.scale.px_text(row.px_ticks),
                "v": account.scale.qty_text(row.qty_lots),
                "S": SIDE_WORD[row.side],
                "T": str(row.at_ms),
            }
            for row in rows
        ]
        return _frame(account, channel, data, snapshot=snapshot)

    def ticker(self, account: "Account", channel: Channel, row: TickerRow) -> Json:
        px, qty = account.scale.px_text, account.scale.qty_text
        last, mark = px(row.last_px_ticks), px(row.mark_px_ticks)
        pushed = {
            "symbol": account.symbol,
            "highPrice24h": last,
            "lowPrice24h": last,
            "openPrice24h": last,
            "lastPrice": last,
            "turnover24h": "0",
            "volume24h": "0",
            "bid1Price": px(row.bid_px_ticks),
            "ask1Price": px(row.ask_px_ticks),
            "bid1Size": qty(row.bid_lots),
            "ask1Size": qty(row.ask_lots),
            "price24hPcnt": "0",
            "indexPrice": mark,
            "markPrice": mark,
            "fundingRate": row.funding_rate,
            "nextFundingTime": str(row.next_funding_ms),
            "openInterest": "0",
            "ts": str(row.at_ms),
        }
        return _frame(account, channel, [pushed])

    def candles(self, account: "Account", channel: Channel, bars: Sequence[BarClosed], *, snapshot: bool) -> Json:
        """Oldest first."""
        return _frame(account, channel, [unified_rows.candle(account, bar) for bar in bars], snapshot=snapshot)

    # --- the account --------------------------------------------------------------------------------------------------

    def order(self, account: "Account", channel: Channel, row: OrderRow, fill: FillRow | None) -> Json:
        """Says what filled so far, and nothing of the fill that it is about but the way it came to be."""
        return _frame(account, channel, [_order(account, row, fill)])

    def fill(self, account: "Account", channel: Channel, row: FillRow) -> Json:
        return _frame(account, channel, [_fill(account, row)])

    def positions(self, account: "Account", channel: Channel, rows: Sequence[PositionRow]) -> Json:
        """One that ended is told once more."""
        return _frame(account, channel, [_position(account, row) for row in rows])

    def account(self, account: "Account", channel: Channel, row: AccountRow) -> Json:
        return _frame(account, channel, [_account(account, row)])


def _frame(account: "Account", channel: Channel, data: Sequence[Json], *, snapshot: bool = True) -> Json:
    """Private pushes and tickers are always called a snapshot."""
    action = "snapshot" if snapshot else "update"
    return {"data": data, "arg": channel.arg, "action": action, "ts": account.now_ms()}


def _order(account: "Account", row: OrderRow, last: FillRow | None) -> Row:
    facts = account.facts
    return {
        "category": FUTURES.lower(),
        "symbol": account.symbol,
        **unified_rows.named(row),
        "price": account.scale.px_text(row.px_ticks),
        "qty": account.scale.qty_text(row.qty_lots),
        "amount": money(figures.value_e10(account, row.px_ticks, row.qty_lots)),
        "holdMode": POSITION_MODE[facts.position_mode],
        "holdSide": "net",
        "tradeSide": figures.trade_side(row.side, last.kind) if last else f"{SIDE_WORD[row.side]}_single",
        "orderType": "limit",
        "timeInForce": figures.force(row),
        "side": SIDE_WORD[row.side],
        "marginMode": facts.margin_mode,
        "marginCoin": account.coin,
        "reduceOnly": "yes" if row.reduce_only else "no",
        "cumExecQty": account.scale.qty_text(row.filled_lots),
        "cumExecValue": figures.filled_value(account, row),
        "avgPrice": row.average_px or "0",
        "totalProfit": "0",
        "orderStatus": unified_rows.STATUS.get(row.status, "live"),
        "cancelReason": figures.cancel_reason(row),
        "leverage": str(facts.leverage),
        "feeDetail": unified_rows.charged(account, row.fee_e10, row.filled_lots),
        "createdTime": str(row.created_ms),
        "updatedTime": str(row.updated_ms),
        "stpMode": "none",
    }


def _fill(account: "Account", row: FillRow) -> Row:
    return {
        "symbol": account.symbol,
        "orderType": "limit",
        "updatedTime": str(row.at_ms),
        "side": SIDE_WORD[row.side],
        "orderId": row.order_id,
        "execPnl": money(row.pnl_e10),
        "feeDetail": unified_rows.charged(account, row.fee_e10, row.qty_lots),
        "execTime": str(row.at_ms),
        "tradeScope": SCOPE[row.liquidity],
        "tradeSide": figures.trade_side(row.side, row.kind),
        "execId": row.trade_id,
        "execLinkId": row.trade_id,
        "execPrice": account.scale.px_text(row.px_ticks),
        "holdSide": "net",
        "execValue": figures.fill_value(account, row),
        "category": FUTURES,
        "execQty": account.scale.qty_text(row.qty_lots),
        "clientOid": row.client_id or row.order_id,
    }


def _position(account: "Account", row: PositionRow) -> Row:
    size, facts = account.scale.qty_text(abs(row.lots)), account.facts
    return {
        "symbol": account.symbol,
        "leverage": str(facts.leverage),
        "openFeeTotal": "",
        "mmr": KEEP_MARGIN_RATE,
        "breakEvenPrice": "",
        "available": size,
        "liqPrice": row.liquidation_px,
        "marginMode": facts.margin_mode,
        "unrealisedPnl": money(row.unrealised_e10),
        "markPrice": account.scale.px_text(row.mark_px_ticks),
        "createdTime": str(row.updated_ms),
        "avgPrice": row.average_px,
        "totalFundingFee": "0",
        "updatedTime": str(row.updated_ms),
        "marginCoin": account.coin,
        "frozen": "0",
        "profitRate": unified_rows.profit_rate(row),
        "closeFeeTotal": "",
        "marginSize": money(row.margin_e10),
        "curRealisedPnl": "0",
        "size": size,
        "positionStatus": "normal" if row.lots else "ended",
        "posSide": "long" if row.lots >= 0 else "short",
        "holdMode": POSITION_MODE[facts.position_mode],
    }


def _account(account: "Account", row: AccountRow) -> Row:
    """`unrealisedPnL` with a capital L, as the venue spells it here alone."""
    equity, risk = money(row.wallet_e10 + row.unrealised_e10), figures.risk_rate(account)
    return {
        "unrealisedPnL": money(row.unrealised_e10),
        "totalEquity": equity,
        "positionMgnRatio": risk,
        "mmr": plain(figures.maintenance(account)),
        "effEquity": equity,
        "imr": money(row.margin_e10),
        "mgnRatio": risk,
        "coin": [
            {
                "debts": "0",
                "balance": money(row.wallet_e10),
                "available": money(max(0, row.available_e10)),
                "borrow": "0",
                "locked": "0",
                "equity": equity,
                "coin": account.coin,
                "usdValue": equity,
            }
        ],
    }
