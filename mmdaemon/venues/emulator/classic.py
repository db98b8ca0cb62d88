"""Bitget's classic API (v2) over the account: its calls are in `classic_calls.py`, the stream is here."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal

from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import Liquidity, OrderStatus
from mmdaemon.venues.emulator import classic_rows, errors, figures
from mmdaemon.venues.emulator.classic_calls import ROUTES
from mmdaemon.venues.emulator.classic_rows import REST_STATUS, Row
from mmdaemon.venues.emulator.dialect import BookFrame, Channel, Json, Route, TickerRow, TradeRow
from mmdaemon.venues.emulator.figures import KEEP_MARGIN_RATE, POSITION_MODE, SCOPE, SIDE_WORD, money, plain
from mmdaemon.venues.emulator.rows import AccountRow, FillRow, No, OrderRow, PositionRow, Why

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

_STATUS: Final = {**REST_STATUS, OrderStatus.CANCELLED: "cancelled", OrderStatus.REJECTED: "cancelled"}
_PUBLIC: Final[Mapping[str, Any]] = {
    "books": "books",
    "books1": "books1",
    "books5": "books5",
    "books15": "books15",
    "trade": "trades",
    "ticker": "ticker",
    "candle1m": "candles",
}
_PRIVATE: Final[Mapping[str, Any]] = {
    "orders": "orders",
    "fill": "fills",
    "positions": "positions",
    "account": "account",
}


class Classic:
    name: Literal["classic", "unified"] = "classic"
    public_path = "/v2/ws/public"
    private_path = "/v2/ws/private"

    def __init__(self, symbol: str = "BTCUSDT", coin: str = "USDT") -> None:
        self._symbol, self._coin = symbol, coin

    def routes(self) -> Sequence[Route]:
        return ROUTES

    def error(self, no: No) -> tuple[int, str, str]:
        return errors.refusal(no, errors.CLASSIC)

    def channel(self, arg: Mapping[str, Any]) -> Channel:
        name = arg.get("channel")
        if str(arg.get("instType")).upper() != figures.FUTURES or not isinstance(name, str):
            raise No(Why.PARAMETER)
        if name in _PUBLIC and arg.get("instId") == self._symbol:
            return Channel(_PUBLIC[name], arg, private=False)
        scope, whose = ("coin", self._coin) if name == "account" else ("instId", self._symbol)
        if name in _PRIVATE and arg.get(scope) in ("default", whose):
            return Channel(_PRIVATE[name], arg, private=True)
        raise No(Why.PARAMETER)

    # --- the market ---------------------------------------------------------------------------------------------------

    def book(self, account: "Account", channel: Channel, frame: BookFrame) -> Json:
        px, qty = account.scale.px_text, account.scale.qty_text
        row: Row = {
            "asks": [[px(ticks), qty(lots)] for ticks, lots in frame.asks],
            "bids": [[px(ticks), qty(lots)] for ticks, lots in frame.bids],
            "seq": frame.seq,
            "pseq": frame.pseq,
            "ts": str(frame.at_ms),
        }
        if frame.checksum is not None:
            row["checksum"] = frame.checksum
        return _frame(account, channel, [row], snapshot=frame.snapshot)

    def trades(self, account: "Account", channel: Channel, rows: Sequence[TradeRow], *, snapshot: bool) -> Json:
        data = [
            {
                "ts": str(row.at_ms),
                "price": account.scale.px_text(row.px_ticks),
                "size": account.scale.qty_text(row.qty_lots),
                "side": SIDE_WORD[row.side],
                "tradeId": row.trade_id,
            }
            for row in rows
        ]
        return _frame(account, channel, data, snapshot=snapshot)

    def ticker(self, account: "Account", channel: Channel, row: TickerRow) -> Json:
        px, qty = account.scale.px_text, account.scale.qty_text
        last, mark = px(row.last_px_ticks), px(row.mark_px_ticks)
        pushed = {
            "instId": account.symbol,
            "lastPr": last,
            "bidPr": px(row.bid_px_ticks),
            "askPr": px(row.ask_px_ticks),
            "bidSz": qty(row.bid_lots),
            "askSz": qty(row.ask_lots),
            "open24h": last,
            "high24h": last,
            "low24h": last,
            "change24h": "0",
            "fundingRate": row.funding_rate,
            "nextFundingTime": str(row.next_funding_ms),
            "markPrice": mark,
            "indexPrice": mark,
            "holdingAmount": "0",
            "baseVolume": "0",
            "quoteVolume": "0",
            "openUtc": last,
            "symbolType": "1",
            "symbol": account.symbol,
            "deliveryPrice": "0",
            "ts": str(row.at_ms),
        }
        return _frame(account, channel, [pushed])

    def candles(self, account: "Account", channel: Channel, bars: Sequence[BarClosed], *, snapshot: bool) -> Json:
        """Oldest first. The stream's rows have the value twice, in quote and in USDT."""
        data = [[*row, row[-1]] for row in (classic_rows.candle(account, bar) for bar in bars)]
        return _frame(account, channel, data, snapshot=snapshot)

    # --- the account --------------------------------------------------------------------------------------------------

    def order(self, account: "Account", channel: Channel, row: OrderRow, fill: FillRow | None) -> Json:
        """`accBaseVolume` is what filled so far, `baseVolume` the fill that this push is about: without one it is
        absent, and so is everything else of a fill."""
        return _frame(account, channel, [_order(account, row, fill)])

    def fill(self, account: "Account", channel: Channel, row: FillRow) -> Json:
        return _frame(account, channel, [_fill(account, row)])

    def positions(self, account: "Account", channel: Channel, rows: Sequence[PositionRow]) -> Json:
        """Each push is all that is held."""
        return _frame(account, channel, [_position(account, row) for row in rows if row.lots])

    def account(self, account: "Account", channel: Channel, row: AccountRow) -> Json:
        equity = money(row.wallet_e10 + row.unrealised_e10)
        pushed = {
            "marginCoin": account.coin,
            "frozen": money(row.margin_e10),
            "available": money(row.wallet_e10),
            "maxOpenPosAvailable": money(max(0, row.available_e10)),
            "maxTransferOut": money(classic_rows.transferable_e10(row)),
            "equity": equity,
            "usdtEquity": equity,
            "unrealizedPL": money(row.unrealised_e10),
        }
        return _frame(account, channel, [pushed])


def _frame(account: "Account", channel: Channel, data: Sequence[Json], *, snapshot: bool = True) -> Json:
    """Private pushes and tickers are always called a snapshot."""
    action = "snapshot" if snapshot else "update"
    return {"action": action, "arg": channel.arg, "data": data, "ts": account.now_ms()}


def _order(account: "Account", row: OrderRow, last: FillRow | None) -> Row:
    scale, facts = account.scale, account.facts
    pushed: Row = {
        "accBaseVolume": scale.qty_text(row.filled_lots),
        "cTime": str(row.created_ms),
        "clientOid": figures.client_oid(row),
        "feeDetail": [{"feeCoin": account.coin, "fee": money(-row.fee_e10)}],
        "force": figures.force(row),
        "instId": account.symbol,
        "leverage": str(facts.leverage),
        "marginCoin": account.coin,
        "marginMode": facts.margin_mode,
        "notionalUsd": money(figures.value_e10(account, row.px_ticks, row.qty_lots)),
        "orderId": row.order_id,
        "orderType": "limit",
        "pnl": money(last.pnl_e10) if last else "0",
        "posMode": POSITION_MODE[facts.position_mode],
        "posSide": "net",
        "price": scale.px_text(row.px_ticks),
        "priceAvg": row.average_px or "0",
        "reduceOnly": "yes" if row.reduce_only else "no",
        "stpMode": "none",
        "side": SIDE_WORD[row.side],
        "size": scale.qty_text(row.qty_lots),
        "enterPointSource": "API",
        "status": _STATUS.get(row.status, "live"),
        "cancelReason": figures.cancel_reason(row),
        "tradeSide": figures.trade_side(row.side, last.kind) if last else f"{SIDE_WORD[row.side]}_single",
        "presetStopSurplusPrice": "",
        "totalProfits": "0",
        "presetStopLossPrice": "",
        "uTime": str(row.updated_ms),
    }
    if last is not None:
        pushed |= {
            "baseVolume": scale.qty_text(last.qty_lots),
            "fillPrice": scale.px_text(last.px_ticks),
            "fillTime": str(last.at_ms),
            "fillFee": money(-last.fee_e10),
            "fillFeeCoin": account.coin,
            "fillNotionalUsd": figures.fill_value(account, last),
            "tradeId": last.trade_id,
            "tradeScope": "M" if last.liquidity is Liquidity.MAKER else "T",
        }
    return pushed


def _fill(account: "Account", row: FillRow) -> Row:
    return {
        "orderId": row.order_id,
        "clientOid": row.client_id or row.order_id,
        "tradeId": row.trade_id,
        "symbol": account.symbol,
        "orderType": "limit",
        "side": SIDE_WORD[row.side],
        "price": account.scale.px_text(row.px_ticks),
        "baseVolume": account.scale.qty_text(row.qty_lots),
        "quoteVolume": figures.fill_value(account, row),
        "profit": money(row.pnl_e10),
        "tradeSide": figures.trade_side(row.side, row.kind),
        "posMode": POSITION_MODE[account.facts.position_mode],
        "tradeScope": SCOPE[row.liquidity],
        "feeDetail": [
            {"feeCoin": account.coin, "deduction": "no", "totalDeductionFee": "0", "totalFee": money(-row.fee_e10)}
        ],
        "cTime": str(row.at_ms),
        "uTime": str(row.at_ms),
    }


def _position(account: "Account", row: PositionRow) -> Row:
    size, facts = account.scale.qty_text(abs(row.lots)), account.facts
    rate = Decimal(row.unrealised_e10) / row.margin_e10 if row.margin_e10 else Decimal(0)
    return {
        "posId": figures.UID,
        "instId": account.symbol,
        "marginCoin": account.coin,
        "marginSize": money(row.margin_e10),
        "marginMode": facts.margin_mode,
        "holdSide": "long" if row.lots > 0 else "short",
        "posMode": POSITION_MODE[facts.position_mode],
        "total": size,
        "available": size,
        "frozen": "0",
        "openPriceAvg": row.average_px,
        "leverage": facts.leverage,
        "achievedProfits": "0",
        "unrealizedPL": money(row.unrealised_e10),
        "unrealizedPLR": plain(rate.quantize(Decimal("1e-12"))),
        "liquidationPrice": row.liquidation_px or "0",
        "keepMarginRate": KEEP_MARGIN_RATE,
        "marginRate": figures.risk_rate(account),
        "cTime": str(row.updated_ms),
        "uTime": str(row.updated_ms),
        "autoMargin": "off",
    }
