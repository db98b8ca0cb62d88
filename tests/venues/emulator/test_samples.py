"""Whatever the emulated venue says has the keys and the JSON types of the venue's own sample messages.

`ANSWERS` are answers of REST calls, `FRAMES` whole frames of the streams. Where we differ on purpose it is in `KNOWN`,
with the reason.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import Side
from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.emulator.dialect import BookFrame, Channel, Dialect, TradeRow
from tests.venues.emulator.asking import CLASSIC, CONTRACT, FUTURE, MIX, ORDER, UNIFIED, UNIFIED_ORDER, ask
from tests.venues.emulator.build import BUY, SELL, Bench, emulated

KNOWN: Mapping[str, Mapping[str, str]] = {
    "contracts": {
        ": maxOrderQty is more": "in live answers since 2025; the largest order would be unknown without it",
        ": maxMarketOrderQty is more": "in live answers since 2025",
    },
    "bills": {"bills[]: balance is more": "in live answers since 2025; shows that the wallet foots"},
    "v3 fills": {"list[]: tradeSide is more": "in live answers since 2026; tells a liquidation from a trade"},
    "v3 ticker push": {
        f"[]: {key} is more": "the sample is of a spot pair, which has no such thing"
        for key in ("symbol", "indexPrice", "markPrice", "fundingRate", "nextFundingTime", "openInterest", "ts")
    },
    "books push": {
        "data[]: seq is more": "the sample is of 2022; live frames have it",
        "data[]: pseq is more": "the sample is of 2022; live frames have it",
        ": ts is more": "of the frame; every other sample has it",
    },
    "account push": {"data[]: unrealizedPL is more": "in live frames since 2025; no balance could be told without it"},
    "fill push": {"data[]: clientOid is more": "in live frames since 2025"},
}
"""What differs on purpose, and why. A difference that is not there any more fails as well."""

Make = Callable[[Account], Any]

ANSWERS: Mapping[str, tuple[str, int, Make]] = {
    # --- classic
    "time": ("fetch_time", 0, lambda it: ask(it, "/api/v2/public/time")),
    "contracts": (
        "fetch_default_markets",
        1,
        lambda it: ask(it, "/api/v2/mix/market/contracts", {"productType": "USDT-FUTURES"})[0],
    ),
    "ticker": ("fetch_ticker", 1, lambda it: ask(it, "/api/v2/mix/market/ticker", CONTRACT)),
    "tickers": ("fetch_ticker", 1, lambda it: ask(it, "/api/v2/mix/market/tickers", {"productType": "USDT-FUTURES"})),
    "trade rate": (
        "fetch_trading_fee",
        1,
        lambda it: ask(it, "/api/v2/common/trade-rate", {"symbol": "BTCUSDT", "businessType": "mix"}),
    ),
    "accounts": (
        "fetch_balance",
        3,
        lambda it: ask(it, "/api/v2/mix/account/accounts", {"productType": "USDT-FUTURES"}),
    ),
    "account": ("fetch_leverage", 0, lambda it: ask(it, "/api/v2/mix/account/account", MIX)),
    "place": ("create_order", 0, lambda it: ask(it, "/api/v2/mix/order/place-order", {**ORDER, "clientOid": "x1"})),
    "batch place": (
        "create_orders",
        0,
        lambda it: ask(
            it,
            "/api/v2/mix/order/batch-place-order",
            {**ORDER, "orderList": [{**ORDER, "clientOid": "x2"}, {**ORDER, "clientOid": "x2"}]},
        ),
    ),
    "modify": (
        "edit_order",
        0,
        lambda it: ask(
            it,
            "/api/v2/mix/order/modify-order",
            {**CONTRACT, "clientOid": "rests", "newClientOid": "x3", "newSize": "0.0006", "newPrice": "98"},
        ),
    ),
    "cancel": (
        "cancel_order",
        0,
        lambda it: ask(it, "/api/v2/mix/order/cancel-order", {**CONTRACT, "clientOid": "rests"}),
    ),
    "batch cancel": (
        "cancel_orders",
        0,
        lambda it: ask(
            it, "/api/v2/mix/order/batch-cancel-orders", {**CONTRACT, "orderIdList": [{"clientOid": "rests"}]}
        ),
    ),
    "cancel all": (
        "cancel_all_orders",
        2,
        lambda it: ask(it, "/api/v2/mix/order/batch-cancel-orders", CONTRACT),
    ),
    "order": ("fetch_order", 1, lambda it: ask(it, "/api/v2/mix/order/detail", {**CONTRACT, "clientOid": "rests"})),
    "open orders": ("fetch_open_orders", 3, lambda it: ask(it, "/api/v2/mix/order/orders-pending", CONTRACT)),
    "fills": ("fetch_my_trades", 2, lambda it: ask(it, "/api/v2/mix/order/fills", CONTRACT)),
    "bills": ("fetch_ledger", 3, lambda it: ask(it, "/api/v2/mix/account/bill", CONTRACT)),
    "position": ("fetch_position", 1, lambda it: ask(it, "/api/v2/mix/position/single-position", MIX)),
    "positions": ("fetch_positions", 0, lambda it: ask(it, "/api/v2/mix/position/all-position", MIX)),
    "place stop": (
        "create_order",
        0,
        lambda it: ask(
            it,
            "/api/v2/mix/order/place-tpsl-order",
            {
                **MIX,
                "planType": "pos_loss",
                "triggerType": "mark_price",
                "triggerPrice": "90",
                "holdSide": "buy",
                "clientOid": "s1",
            },
        ),
    ),
    "open stops": (
        "fetch_open_orders",
        4,
        lambda it: ask(it, "/api/v2/mix/order/orders-plan-pending", {**CONTRACT, "planType": "profit_loss"}),
    ),
    "cancel stop": (
        "cancel_order",
        1,
        lambda it: ask(it, "/api/v2/mix/order/cancel-plan-order", {**MIX, "planType": "pos_loss"}),
    ),
    "candles": ("fetch_ohlcv", 0, lambda it: ask(it, "/api/v2/mix/market/candles", {**CONTRACT, "granularity": "1m"})),
    "funding": ("fetch_funding_rate", 1, lambda it: ask(it, "/api/v2/mix/market/current-fund-rate", CONTRACT)),
    "funding time": ("fetch_funding_rate", 2, lambda it: ask(it, "/api/v2/mix/market/funding-time", CONTRACT)),
    "set leverage": (
        "set_leverage",
        1,
        lambda it: ask(it, "/api/v2/mix/account/set-leverage", {**MIX, "leverage": "20"}),
    ),
    # --- unified
    "v3 instruments": (
        "fetch_uta_markets",
        2,
        lambda it: ask(it, "/api/v3/market/instruments", {"category": "USDT-FUTURES"})[0],
    ),
    "v3 tickers": ("fetch_ticker", 3, lambda it: ask(it, "/api/v3/market/tickers", FUTURE)),
    "v3 fee rate": ("fetch_trading_fee", 0, lambda it: ask(it, "/api/v3/account/fee-rate", FUTURE)),
    "v3 fee rates": ("fetch_trading_fees", 0, lambda it: ask(it, "/api/v3/account/all-fee-rate", FUTURE)),
    "v3 assets": ("fetch_balance", 4, lambda it: ask(it, "/api/v3/account/assets")),
    "v3 place": ("create_order", 0, lambda it: ask(it, "/api/v3/trade/place-order", UNIFIED_ORDER)),
    "v3 amend": (
        "create_order",
        0,
        lambda it: ask(it, "/api/v3/trade/modify-order", {"clientOid": "rests", "price": "98"}),
    ),
    "v3 cancel": ("create_order", 0, lambda it: ask(it, "/api/v3/trade/cancel-order", {"clientOid": "rests"})),
    "v3 batch place": ("create_uta_orders", 0, lambda it: ask(it, "/api/v3/trade/place-batch", [UNIFIED_ORDER])),
    "v3 batch cancel": (
        "cancel_uta_orders",
        0,
        lambda it: ask(it, "/api/v3/trade/cancel-batch", [{**FUTURE, "clientOid": "rests"}]),
    ),
    "v3 cancel all": ("cancel_all_orders", 0, lambda it: ask(it, "/api/v3/trade/cancel-symbol-order", FUTURE)),
    "v3 order": ("fetch_order", 2, lambda it: ask(it, "/api/v3/trade/order-info", {"clientOid": "rests"})),
    "v3 open orders": ("fetch_open_orders", 5, lambda it: ask(it, "/api/v3/trade/unfilled-orders", FUTURE)),
    "v3 fills": ("fetch_my_trades", 3, lambda it: ask(it, "/api/v3/trade/fills", {"category": "USDT-FUTURES"})),
    "v3 bills": ("fetch_ledger", 1, lambda it: ask(it, "/api/v3/account/financial-records", {"category": "OTHER"})),
    "v3 position": ("fetch_position", 0, lambda it: ask(it, "/api/v3/position/current-position", FUTURE)),
    "v3 place stop": (
        "create_order",
        0,
        lambda it: ask(it, "/api/v3/trade/place-strategy-order", {**FUTURE, "stopLoss": "90", "slTriggerBy": "mark"}),
    ),
    "v3 open stops": ("fetch_open_orders", 6, lambda it: ask(it, "/api/v3/trade/unfilled-strategy-orders", FUTURE)),
    "v3 cancel stop": (
        "cancel_order",
        3,
        lambda it: ask(it, "/api/v3/trade/cancel-strategy-order", {"clientOid": "stop"}),
    ),
    "v3 candles": ("fetch_ohlcv", 0, lambda it: ask(it, "/api/v3/market/candles", {**FUTURE, "interval": "1m"})),
    "v3 funding": ("fetch_funding_rate", 0, lambda it: ask(it, "/api/v3/market/current-fund-rate", FUTURE)),
    "v3 set leverage": (
        "set_leverage",
        0,
        lambda it: ask(it, "/api/v3/account/set-leverage", {**FUTURE, "leverage": "20"}),
    ),
}
FLAT: Mapping[str, tuple[str, int, Make]] = {
    "set margin mode": (
        "set_margin_mode",
        0,
        lambda it: ask(it, "/api/v2/mix/account/set-margin-mode", {**MIX, "marginMode": "isolated"}),
    ),
    "set position mode": (
        "set_position_mode",
        1,
        lambda it: ask(
            it, "/api/v2/mix/account/set-position-mode", {"productType": "USDT-FUTURES", "posMode": "hedge_mode"}
        ),
    ),
    "v3 set hold mode": (
        "set_position_mode",
        0,
        lambda it: ask(it, "/api/v3/account/set-hold-mode", {"holdMode": "hedge_mode"}),
    ),
}
"""Refused while there are orders or a position."""


def _push(dialect: Dialect, arg: Mapping[str, str], make: Callable[[Account, Channel], Any]) -> Make:
    return lambda account: make(account, dialect.channel(arg))


def _bar(account: Account) -> list[BarClosed]:
    return [BarClosed(0, 0, None, 60_000_000_000, 1000, 1001, 999, 1000, 5, "venue")]


def _book(account: Account) -> BookFrame:
    return BookFrame(True, [(999, 5)], [(1001, 5)], 7, 0, -1367582038, account.now_ms())


def _trade(account: Account) -> list[TradeRow]:
    return [TradeRow("1116461060594286593", 1000, 5, Side.BUY, account.now_ms())]


def _filled(account: Account) -> Any:
    (fill,) = account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)
    return fill


def _held(account: Account) -> Any:
    held = account.position()
    assert held is not None
    return [held]


MIX_ARG = {"instType": "USDT-FUTURES"}
UTA_ARG = {"instType": "UTA"}
LINEAR_ARG = {"instType": "usdt-futures", "symbol": "BTCUSDT"}

FRAMES: Mapping[str, tuple[str, int, Make]] = {
    "ticker push": (
        "parse_ws_ticker",
        1,
        _push(
            CLASSIC,
            {**MIX_ARG, "channel": "ticker", "instId": "BTCUSDT"},
            lambda it, on: CLASSIC.ticker(it, on, it.ticker()),
        ),
    ),
    "v3 ticker push": (
        "handle_ticker",
        1,
        _push(UNIFIED, {**LINEAR_ARG, "topic": "ticker"}, lambda it, on: UNIFIED.ticker(it, on, it.ticker())["data"]),
    ),
    "candle push": (
        "handle_ohlcv",
        0,
        _push(
            CLASSIC,
            {**MIX_ARG, "channel": "candle1m", "instId": "BTCUSDT"},
            lambda it, on: CLASSIC.candles(it, on, _bar(it), snapshot=True),
        ),
    ),
    "v3 candle push": (
        "handle_ohlcv",
        1,
        _push(
            UNIFIED,
            {**LINEAR_ARG, "topic": "kline", "interval": "1m"},
            lambda it, on: UNIFIED.candles(it, on, _bar(it), snapshot=True),
        ),
    ),
    "books push": (
        "handle_order_book",
        0,
        _push(
            CLASSIC,
            {**MIX_ARG, "channel": "books5", "instId": "BTCUSDT"},
            lambda it, on: CLASSIC.book(it, on, _book(it)),
        ),
    ),
    "trades push": (
        "handle_trades",
        0,
        _push(
            CLASSIC,
            {**MIX_ARG, "channel": "trade", "instId": "BTCUSDT"},
            lambda it, on: CLASSIC.trades(it, on, _trade(it), snapshot=True),
        ),
    ),
    "v3 trades push": (
        "parse_ws_trade",
        3,
        _push(
            UNIFIED,
            {**LINEAR_ARG, "topic": "publicTrade"},
            lambda it, on: UNIFIED.trades(it, on, _trade(it), snapshot=True)["data"][0],
        ),
    ),
    "position push": (
        "parse_ws_position",
        0,
        _push(
            CLASSIC,
            {**MIX_ARG, "channel": "positions", "instId": "default"},
            lambda it, on: CLASSIC.positions(it, on, _held(it))["data"][0],
        ),
    ),
    "v3 position push": (
        "handle_positions",
        2,
        _push(UNIFIED, {**UTA_ARG, "topic": "position"}, lambda it, on: UNIFIED.positions(it, on, _held(it))),
    ),
    "v3 order push": (
        "handle_order",
        3,
        _push(UNIFIED, {**UTA_ARG, "topic": "order"}, lambda it, on: UNIFIED.order(it, on, it.order("takes"), None)),
    ),
    "fill push": (
        "handle_my_trades",
        1,
        _push(
            CLASSIC,
            {**MIX_ARG, "channel": "fill", "instId": "default"},
            lambda it, on: CLASSIC.fill(it, on, _filled(it)),
        ),
    ),
    "v3 fill push": (
        "handle_my_trades",
        2,
        _push(UNIFIED, {**UTA_ARG, "topic": "fill"}, lambda it, on: UNIFIED.fill(it, on, _filled(it))),
    ),
    "account push": (
        "handle_balance",
        1,
        _push(
            CLASSIC,
            {**MIX_ARG, "channel": "account", "coin": "default"},
            lambda it, on: CLASSIC.account(it, on, it.balance()),
        ),
    ),
    "v3 account push": (
        "handle_balance",
        3,
        _push(UNIFIED, {**UTA_ARG, "topic": "account"}, lambda it, on: UNIFIED.account(it, on, it.balance())),
    ),
}


@pytest.mark.parametrize("name", [*ANSWERS, *FLAT])
async def test_an_answer_has_the_keys_and_types_of_the_sample(name: str, shared_data: Path) -> None:
    method, number, make = {**ANSWERS, **FLAT}[name]
    sample = _sample(shared_data / "bitget_messages" / "rest_examples.json", method, number)
    async with emulated(account="unified" if name.startswith("v3") else "classic") as bench:
        if name in ANSWERS:
            stage(bench)
        served = _as_sent(make(bench.account))
    if isinstance(sample, dict) and "requestTime" in sample:
        sample = sample["data"]
    assert _differences(sample, served) == {*KNOWN.get(name, ())}


@pytest.mark.parametrize("name", FRAMES)
async def test_a_frame_has_the_keys_and_types_of_the_sample(name: str, shared_data: Path) -> None:
    method, number, make = FRAMES[name]
    sample = _sample(shared_data / "bitget_messages" / "ws_examples.json", method, number)
    async with emulated(account="unified" if name.startswith("v3") else "classic") as bench:
        stage(bench)
        served = _as_sent(make(bench.account))
    assert _differences(sample, served) == {*KNOWN.get(name, ())}


def test_each_exception_is_of_something_that_is_compared() -> None:
    assert {*KNOWN} <= {*ANSWERS, *FLAT, *FRAMES}


def test_the_comparison_finds_what_differs() -> None:
    sample = {"a": "1", "b": [{"c": 1}], "n": None}
    assert _differences(sample, {"a": "2", "b": [{"c": 2}, {"c": 3}], "n": "x"}) == set()
    assert _differences(sample, {"a": 1, "b": [{"c": 2}], "n": None}) == {"a: str is int"}
    assert _differences(sample, {"a": "1", "b": [{"c": "2"}], "n": ""}) == {"b[].c: int is str"}
    assert _differences(sample, {"a": "1", "b": [{"c": 1}, {}], "n": ""}) == {"b[]: c is missing"}
    assert _differences(sample, {"a": "1", "b": [], "n": ""}) == {"b: is empty"}
    assert _differences(sample, {"a": "1", "b": None, "z": ""}) == {
        ": z is more",
        ": n is missing",
        "b: list is NoneType",
    }


def stage(bench: Bench) -> None:
    """An order that rests, one that filled, a position, a stop of it, money that came."""
    account = bench.account
    account.transfer(5_000_000_000)
    bench.place("takes", BUY, 1001, post_only=False, ioc=True)
    bench.place("rests", BUY, 990)
    bench.place("", SELL, 1010)
    if account.kind == "classic":
        stop = {**MIX, "planType": "pos_loss", "triggerType": "mark_price", "triggerPrice": "90", "holdSide": "buy"}
        ask(account, "/api/v2/mix/order/place-tpsl-order", {**stop, "clientOid": "stop"})
    else:
        stop = {**FUTURE, "stopLoss": "90", "slTriggerBy": "mark", "clientOid": "stop"}
        ask(account, "/api/v3/trade/place-strategy-order", stop)


def _as_sent(data: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(data))


def _sample(path: Path, method: str, number: int) -> Any:
    return json.loads(path.read_text())[method][number]["example"]


def _differences(sample: Any, served: Any, at: str = "") -> set[str]:
    """Where the keys or the types are not the sample's. A null of the sample's says nothing; rows of a list are each
    compared with the sample's first."""
    if sample is None:
        return set()
    if type(sample) is not type(served):
        return {f"{at}: {type(sample).__name__} is {type(served).__name__}"}
    found: set[str] = set()
    if isinstance(sample, dict):
        found |= {f"{at}: {key} is more" for key in served.keys() - sample.keys()}
        found |= {f"{at}: {key} is missing" for key in sample.keys() - served.keys()}
        for key in sample.keys() & served.keys():
            found |= _differences(sample[key], served[key], f"{at}.{key}" if at else key)
    elif isinstance(sample, list) and sample:
        found |= set() if served else {f"{at}: is empty"}
        for row in served:
            found |= _differences(sample[0], row, f"{at}[]")
    return found
