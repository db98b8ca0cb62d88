"""The public calls of the classic API (v2): contracts, prices, candles, funding. `MARKET` is the list."""

from typing import TYPE_CHECKING, Final

from mmdaemon.venues.emulator import classic_rows as rows
from mmdaemon.venues.emulator import fields, figures
from mmdaemon.venues.emulator.dialect import Json
from mmdaemon.venues.emulator.fields import Params

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account


def contract_named(account: "Account", params: Params) -> None:
    """Symbol and product of a call that means one contract."""
    fields.must_be_ours(params, "productType")
    fields.symbol(account, params)


def contracts(account: "Account", params: Params) -> Json:
    ours = fields.is_ours(params, "productType") and fields.is_our_symbol(account, params)
    return [rows.contract(account)] if ours else []


def ticker(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    return [rows.ticker(account)]


def tickers(account: "Account", params: Params) -> Json:
    return [rows.ticker(account)] if fields.is_ours(params, "productType") else []


def price(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    row = rows.ticker(account)
    return [
        {
            "symbol": account.symbol,
            "price": row["lastPr"],
            "indexPrice": row["indexPrice"],
            "markPrice": row["markPrice"],
            "ts": row["ts"],
        }
    ]


def candles(account: "Account", params: Params) -> Json:
    """Oldest first, the minute that is not over included."""
    contract_named(account, params)
    return [rows.candle(account, bar) for bar in fields.bars(account, params, "granularity", 1000, forming=True)]


def closed_candles(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    return [rows.candle(account, bar) for bar in fields.bars(account, params, "granularity", 200, forming=False)]


def funding(account: "Account", params: Params) -> Json:
    if not (fields.is_ours(params, "productType") and fields.is_our_symbol(account, params)):
        return []
    return figures.funding_rows(account)


def funding_time(account: "Account", params: Params) -> Json:
    contract_named(account, params)
    _, next_ms, interval_s = account.funding()
    return [{"symbol": account.symbol, "nextFundingTime": str(next_ms), "ratePeriod": str(interval_s // 3600)}]


MARKET: Final = (
    fields.TIME,
    fields.public("/api/v2/mix/market/contracts", contracts),
    fields.public("/api/v2/mix/market/ticker", ticker),
    fields.public("/api/v2/mix/market/tickers", tickers),
    fields.public("/api/v2/mix/market/symbol-price", price),
    fields.public("/api/v2/mix/market/candles", candles),
    fields.public("/api/v2/mix/market/history-candles", closed_candles),
    fields.public("/api/v2/mix/market/current-fund-rate", funding),
    fields.public("/api/v2/mix/market/funding-time", funding_time),
)
