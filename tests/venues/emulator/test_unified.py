"""The unified API of the emulated venue: what its calls take, refuse and answer; and what ccxt.pro reads of it."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from mmdaemon.venues.emulator.rows import No, Why
from tests.venues.emulator.asking import FUTURE, UNIFIED, UNIFIED_ORDER, ask, refused
from tests.venues.emulator.build import BUY, SELL, Bench, emulated
from tests.venues.emulator.real_ccxt import SYMBOL, at_desk, seen

PLACE = "/api/v3/trade/place-order"
BATCH = "/api/v3/trade/place-batch"
AMEND = "/api/v3/trade/modify-order"
CANCEL = "/api/v3/trade/cancel-order"
CANCEL_BATCH = "/api/v3/trade/cancel-batch"
CANCEL_ALL = "/api/v3/trade/cancel-symbol-order"
ORDER = "/api/v3/trade/order-info"
OPEN = "/api/v3/trade/unfilled-orders"
FILLS = "/api/v3/trade/fills"
BILLS = "/api/v3/account/financial-records"
POSITION = "/api/v3/position/current-position"
STOP = "/api/v3/trade/place-strategy-order"
STOPS = "/api/v3/trade/unfilled-strategy-orders"
COUNTDOWN = "/api/v3/trade/countdown-cancel-all"
A_STOP = {**FUTURE, "stopLoss": "90", "slTriggerBy": "mark", "slOrderType": "market"}
DAY_MS = 86_400_000
LINEAR = {"instType": "usdt-futures", "symbol": "BTCUSDT"}


def emulated_unified(**settings: Any) -> Any:
    return emulated(account="unified", **settings)


def without(params: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in params.items() if key != name}


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["category", "symbol", "qty", "side", "orderType", "price"])
async def test_an_order_without_a_field_is_refused_by_its_name(name: str) -> None:
    async with emulated_unified() as bench:
        said = refused(bench.account, PLACE, without(UNIFIED_ORDER, name))
        assert said == (400, "40019", f"Parameter {name} cannot be empty")
        assert bench.account.open_orders() == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"qty": 0.0005}, "40017"),
        ({"qty": "0.00055"}, "40808"),
        ({"price": "99.05"}, "41103"),
        ({"price": "1e400"}, "40017"),
        ({"timeInForce": "day"}, "40017"),
        ({"reduceOnly": "yes"}, "25227"),
        ({"symbol": "ETHUSDT"}, "40309"),
        ({"category": "SPOT"}, "40309"),
        ({"clientOid": "x" * 33}, "40305"),
        ({"clientOid": "known"}, "25212"),
        ({"qty": "900"}, "25202"),
    ],
)
async def test_an_order_that_breaks_a_rule_is_refused_with_its_code(changed: dict[str, Any], code: str) -> None:
    async with emulated_unified() as bench:
        bench.account.cancel(bench.place("known").order_id)
        assert refused(bench.account, PLACE, {**UNIFIED_ORDER, **changed})[1] == code
        assert bench.account.open_orders() == []


@pytest.mark.parametrize("why", list(Why))
def test_each_reason_has_a_status_a_code_and_a_text(why: Why) -> None:
    status, code, text = UNIFIED.error(No(why))
    assert status >= 400
    assert code.isdecimal()
    assert code != "00000"
    assert text


async def test_a_key_of_the_other_kind_of_account_is_told_so() -> None:
    async with emulated_unified() as bench:
        assert (await bench.get("/api/v2/mix/account/accounts", {"productType": "USDT-FUTURES"}))["code"] == "40085"
        assert (await bench.get("/api/v2/public/time"))["code"] == "00000"
    async with emulated() as bench:
        assert (await bench.get("/api/v3/account/assets"))["code"] == "40084"
        assert (await bench.get("/api/v3/market/tickers", {"category": "USDT-FUTURES"}))["code"] == "00000"


# --- orders -----------------------------------------------------------------------------------------------------------


async def test_an_amendment_keeps_the_order_and_its_ids() -> None:
    async with emulated_unified() as bench:
        placed = ask(bench.account, PLACE, {**UNIFIED_ORDER, "clientOid": "a1", "timeInForce": "post_only"})
        change = {"clientOid": "a1", "qty": "0.0007", "price": "98.5"}
        assert ask(bench.account, AMEND, change) == placed
        row = ask(bench.account, ORDER, {"orderId": placed["orderId"]})
        assert (row["clientOid"], row["price"], row["qty"], row["timeInForce"]) == ("a1", "98.5", "0.0007", "post_only")
        assert ask(bench.account, AMEND, {"orderId": placed["orderId"], "price": "98"}) == placed
        assert ask(bench.account, ORDER, {"clientOid": "a1"})["qty"] == "0.0007"
        assert refused(bench.account, AMEND, {"clientOid": "a1", "price": "98"})[1] == "40923"
        assert refused(bench.account, AMEND, {"clientOid": "a1"})[1] == "40019"
        assert refused(bench.account, AMEND, {"clientOid": "none", "price": "98"})[1] == "25204"
        assert refused(bench.account, AMEND, {"price": "98"})[1] == "40019"


async def test_a_refused_amendment_leaves_the_order_unless_asked_to_cancel_it() -> None:
    async with emulated_unified() as bench:
        bench.place("a1")
        dear = {"clientOid": "a1", "qty": "900"}
        assert refused(bench.account, AMEND, dear)[1] == "25202"
        assert [row.qty_lots for row in bench.account.open_orders()] == [5]
        assert refused(bench.account, AMEND, {**dear, "autoCancel": "yes"})[1] == "25202"
        assert bench.account.open_orders() == []


async def test_of_a_batch_what_is_refused_says_so_in_its_own_row() -> None:
    async with emulated_unified() as bench:
        items = [{**UNIFIED_ORDER, "clientOid": "b1"}, {**UNIFIED_ORDER, "clientOid": "b1"}]
        taken, failed = ask(bench.account, BATCH, items)
        assert (taken["clientOid"], "code" in taken) == ("b1", False)
        assert (failed["clientOid"], failed["orderId"], failed["code"]) == ("b1", "", "25212")
        gone, absent = ask(bench.account, CANCEL_BATCH, [{**FUTURE, "clientOid": "b1"}, {**FUTURE, "orderId": "17"}])
        assert gone == taken
        assert (absent["orderId"], absent["code"]) == ("17", "25204")
        assert refused(bench.account, BATCH, [UNIFIED_ORDER] * 21)[1] == "40017"
        assert refused(bench.account, BATCH, [])[1] == "40019"
        assert refused(bench.account, BATCH, UNIFIED_ORDER)[1] == "40017"
        assert refused(bench.account, PLACE, [UNIFIED_ORDER])[1] == "40017"


async def test_cancelling_all() -> None:
    async with emulated_unified() as bench:
        bench.place("a")
        bench.place("b")
        answer = ask(bench.account, CANCEL_ALL, FUTURE)
        assert {row["clientOid"] for row in answer["list"]} == {"a", "b"}
        assert refused(bench.account, CANCEL_ALL, FUTURE) == (400, "22001", "No order to cancel")
        assert ask(bench.account, ORDER, {"clientOid": "a"})["cancelReason"] == "normal_cancel"
        assert refused(bench.account, CANCEL, {"clientOid": "a"})[1] == "25204"


async def test_the_countdown_wants_a_grant_and_a_sensible_time() -> None:
    async with emulated_unified() as bench:
        assert refused(bench.account, COUNTDOWN, {"countdown": "10"})[1] == "40014"
    async with emulated_unified(dead_man_granted=True) as bench:
        for seconds in ("5", "60", "0"):
            assert ask(bench.account, COUNTDOWN, {"countdown": seconds}) == "success"
        for wrong in ("4", "61", "-5", "5.0"):
            assert refused(bench.account, COUNTDOWN, {"countdown": wrong})[1] == "40017"
        assert refused(bench.account, COUNTDOWN, {"countdown": 10})[1] == "40017"
        assert refused(bench.account, COUNTDOWN, {})[1] == "40019"


async def test_open_orders_are_paged_by_a_cursor() -> None:
    async with emulated_unified() as bench:
        assert ask(bench.account, OPEN, FUTURE) == {"list": None, "cursor": None}
        names = [f"o{number}" for number in range(105)]
        for name in names:
            bench.place(name, qty_lots=1)
        first = ask(bench.account, OPEN, FUTURE)
        second = ask(bench.account, OPEN, {**FUTURE, "cursor": first["cursor"]})
        assert [row["clientOid"] for row in first["list"] + second["list"]] == names[::-1]
        assert ask(bench.account, OPEN, {**FUTURE, "cursor": second["cursor"]}) == {"list": [], "cursor": None}


# --- history ----------------------------------------------------------------------------------------------------------


async def test_fills_are_paged_and_of_thirty_days_at_most() -> None:
    async with emulated_unified() as bench:
        for number in range(5):
            bench.place(f"f{number}", BUY, 1001, 1, post_only=False, ioc=True)
        ids = [row.trade_id for row in bench.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=9)]
        read: list[str] = []
        cursor: dict[str, str] = {}
        while (page := ask(bench.account, FILLS, {"category": "USDT-FUTURES", "limit": "2", **cursor}))["list"]:
            read += [row["execId"] for row in page["list"]]
            cursor = {"cursor": page["cursor"]}
        assert read == ids
        now = bench.account.now_ms()
        longer = {"startTime": str(now - 30 * DAY_MS - 1), "endTime": str(now)}
        assert refused(bench.account, FILLS, longer)[1] == "40017"


async def test_a_fee_is_positive_where_it_was_charged_and_the_ledger_says_the_opposite() -> None:
    async with emulated_unified() as bench:
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        (fill,) = bench.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)
        fee = Decimal(fill.fee_e10).scaleb(-10)
        assert fee > 0
        (row,) = ask(bench.account, FILLS, {})["list"]
        assert [(Decimal(each["fee"]), each["feeCoin"]) for each in row["feeDetail"]] == [(fee, "USDT")]
        order = ask(bench.account, ORDER, {"clientOid": "t"})
        assert [Decimal(each["fee"]) for each in order["feeDetail"]] == [fee]
        (line,) = ask(bench.account, BILLS, {"category": "USDT-FUTURES"})["list"]
        assert (line["type"], Decimal(line["fee"])) == ("BUY", -fee)


async def test_the_ledger_is_read_by_category() -> None:
    async with emulated_unified() as bench:
        bench.account.transfer(25_000_000_000)
        bench.account.transfer(-5_000_000_000)
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        moved = ask(bench.account, BILLS, {"category": "OTHER"})["list"]
        assert [(row["type"], row["amount"], row["symbol"]) for row in moved] == [
            ("TRANSFER_OUT", "-0.5", ""),
            ("TRANSFER_IN", "2.5", ""),
        ]
        assert len(ask(bench.account, BILLS, {"category": "USDT-FUTURES"})["list"]) == 1
        assert ask(bench.account, BILLS, {"category": "SPOT"})["list"] is None
        page = ask(bench.account, BILLS, {"category": "OTHER", "limit": "1"})
        rest = ask(bench.account, BILLS, {"category": "OTHER", "limit": "1", "cursor": page["cursor"]})
        assert page["list"] + rest["list"] == moved
        assert refused(bench.account, BILLS, {})[1] == "40019"


# --- position, stop and account ---------------------------------------------------------------------------------------


async def test_a_flat_position_has_no_row() -> None:
    async with emulated_unified() as bench:
        assert ask(bench.account, POSITION, FUTURE) == {"list": None}
        bench.place("s", SELL, 999, post_only=False, ioc=True)
        (row,) = ask(bench.account, POSITION, FUTURE)["list"]
        assert (row["posSide"], row["total"], row["holdMode"]) == ("short", "0.0005", "one_way_mode")


async def test_the_stop_of_the_position() -> None:
    async with emulated_unified() as bench:
        account = bench.account
        assert refused(account, STOP, A_STOP)[1] == "25227"
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        assert refused(account, STOP, {**A_STOP, "stopLoss": "101"})[1] == "40917"
        assert refused(account, STOP, {**A_STOP, "posSide": "short"})[1] == "25227"
        assert refused(account, STOP, {**A_STOP, "tpslMode": "partial"})[1] == "40017"
        assert refused(account, STOP, without(A_STOP, "slTriggerBy"))[1] == "40017"  # the market's price is the default
        assert ask(account, STOPS, FUTURE) == []
        placed = ask(account, STOP, {**A_STOP, "posSide": "long", "clientOid": "s1"})
        (row,) = ask(account, STOPS, {"category": "USDT-FUTURES", "type": "tpsl"})
        assert (row["orderId"], row["clientOid"], row["stopLoss"]) == (placed["orderId"], "s1", "90")
        assert (row["posSide"], row["slTriggerBy"]) == ("long", "mark")
        moved = {"clientOid": "s1", "qty": "0", "stopLoss": "91.5", "slTriggerBy": "mark"}
        assert ask(account, "/api/v3/trade/modify-strategy-order", moved) == placed
        assert account.stop_px_ticks() == 915
        assert refused(account, "/api/v3/trade/cancel-strategy-order", {"orderId": "17"})[1] == "25204"
        assert ask(account, "/api/v3/trade/cancel-strategy-order", {"orderId": placed["orderId"]}) is None
        assert account.stop_px_ticks() is None


async def test_the_account_adds_up() -> None:
    async with emulated_unified() as bench:
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        bench.place("r", BUY, 990)
        row = ask(bench.account, "/api/v3/account/assets")
        (coin,) = row["assets"]
        assert Decimal(coin["equity"]) == Decimal(coin["balance"]) + Decimal(row["unrealisedPnl"])
        assert Decimal(coin["available"]) == Decimal(row["effEquity"]) - Decimal(row["imr"])
        assert Decimal(coin["balance"]) == Decimal(bench.account.balance().wallet_e10).scaleb(-10)


async def test_what_a_person_may_have_changed_is_shown() -> None:
    async with emulated_unified() as bench:
        key = ask(bench.account, "/api/v3/account/info")
        assert (key["permissions"], key["permType"]) == (["uta_mgt", "uta_trade"], "read-and-write")
        bench.emulator.outside.change_facts(can_trade=False, can_withdraw=True, leverage=3, position_mode="hedge")
        key = ask(bench.account, "/api/v3/account/info")
        assert (key["permissions"], key["permType"]) == (["uta_mgt", "withdraw"], "read-only")
        settings = ask(bench.account, "/api/v3/account/settings")
        assert settings["holdMode"] == "hedge_mode"
        assert [row["leverage"] for row in settings["symbolConfigList"]] == ["3"]


async def test_the_instrument_is_stated_as_it_is() -> None:
    async with emulated_unified() as bench:
        (row,) = ask(bench.account, "/api/v3/market/instruments", {"category": "USDT-FUTURES"})
        scale, rules = bench.account.scale, bench.account.instrument
        assert Decimal(row["priceMultiplier"]) == Decimal(1).scaleb(-int(row["pricePrecision"])) == scale.tick
        assert Decimal(row["quantityMultiplier"]) == Decimal(1).scaleb(-int(row["quantityPrecision"])) == scale.lot
        assert Decimal(row["minOrderQty"]) == scale.lot * rules.min_qty_lots
        for category in ("SPOT", "COIN-FUTURES", "USDC-FUTURES"):
            assert ask(bench.account, "/api/v3/market/instruments", {"category": category}) == []


# --- the stream -------------------------------------------------------------------------------------------------------


async def test_an_order_push_says_the_sum_of_its_fills() -> None:
    async with emulated_unified() as bench:
        account = bench.account
        on = UNIFIED.channel({"instType": "UTA", "topic": "order"})
        bench.place("p", BUY, 1002, 25, post_only=False)
        newest = account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)[0]
        (pushed,) = UNIFIED.order(account, on, account.order("p"), newest)["data"]
        assert (pushed["cumExecQty"], pushed["orderStatus"]) == ("0.002", "partially_filled")
        assert Decimal(pushed["cumExecValue"]) == Decimal("0.1001") + Decimal("0.1002")
        account.cancel("p")
        (ended,) = UNIFIED.order(account, on, account.order("p"), None)["data"]
        assert (ended["orderStatus"], ended["cancelReason"]) == ("cancelled", "normal_cancel")


@pytest.mark.parametrize(
    "arg",
    [
        {**LINEAR, "topic": "books15"},
        {**LINEAR, "topic": "books", "symbol": "ETHUSDT"},
        {**LINEAR, "topic": "books", "instType": "spot"},
        {**LINEAR, "topic": "kline", "interval": "5m"},
        {**LINEAR, "topic": "order"},
        {"instType": "USDT-FUTURES", "channel": "books", "instId": "BTCUSDT"},
        {"instType": "UTA", "topic": ["order"]},
        {},
    ],
)
def test_a_channel_that_there_is_not_is_refused(arg: dict[str, Any]) -> None:
    with pytest.raises(No) as refusal:
        UNIFIED.channel(arg)
    assert refusal.value.why is Why.PARAMETER


# --- what ccxt.pro reads ----------------------------------------------------------------------------------------------


async def test_ccxt_reads_orders_fills_position_and_balance_as_they_are() -> None:
    async with at_desk("unified") as desk:
        exchange, account = desk.exchange, desk.account
        assert exchange.market(SYMBOL)["precision"] == {"amount": 0.0001, "price": 0.1}
        placed = await exchange.create_order(
            SYMBOL, "limit", "buy", 0.0005, 99.0, {"postOnly": True, "clientOrderId": "c1"}
        )
        order = await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "c1"})
        assert order["id"] == placed["id"] == account.order("c1").order_id
        assert (order["status"], order["price"], order["amount"], order["filled"]) == ("open", 99.0, 0.0005, 0.0)
        assert (order["postOnly"], order["reduceOnly"], order["side"]) == (True, False, "buy")
        await exchange.edit_order(placed["id"], SYMBOL, "limit", "buy", 0.0006, 98.5)
        (amended,) = await exchange.fetch_open_orders(SYMBOL)
        assert (amended["id"], amended["price"], amended["amount"]) == (placed["id"], 98.5, 0.0006)
        await exchange.create_order(SYMBOL, "limit", "buy", 0.0005, 100.5, {"timeInForce": "IOC"})
        (fill,) = account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=9)
        (trade,) = await exchange.fetch_my_trades(SYMBOL)
        assert (trade["id"], trade["order"]) == (fill.trade_id, fill.order_id)
        assert (trade["price"], trade["amount"], trade["takerOrMaker"]) == (100.1, 0.0005, "taker")
        (position,) = await exchange.fetch_positions([SYMBOL])
        assert (position["side"], position["contracts"], position["entryPrice"]) == ("long", 0.0005, 100.1)
        assert (position["hedged"], position["leverage"], position["marginMode"]) == (False, 10.0, "cross")
        balance, row = await exchange.fetch_balance(), account.balance()
        assert balance["USDT"]["free"] == float(Decimal(row.available_e10).scaleb(-10))
        await exchange.cancel_all_orders(SYMBOL)
        assert account.open_orders() == []


async def test_ccxt_shows_a_charged_fee_as_a_rebate() -> None:
    """The pitfall of the sign: the venue says it right, ccxt turns it."""
    async with at_desk("unified") as desk:
        desk.bench.place("t", BUY, 1001, post_only=False, ioc=True)
        (trade,) = await desk.exchange.fetch_my_trades(SYMBOL)
        (fill,) = desk.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)
        assert trade["fee"]["cost"] == -float(Decimal(fill.fee_e10).scaleb(-10))
        assert Decimal(trade["info"]["feeDetail"][0]["fee"]) == Decimal(fill.fee_e10).scaleb(-10)


async def test_ccxt_names_the_refused_orders_of_a_batch_without_ids() -> None:
    async with at_desk("unified") as desk:
        order = {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.0005, "price": 99.0}
        both = [{**order, "params": {"clientOrderId": "b1"}}, {**order, "params": {"clientOrderId": "b1"}}]
        taken, failed = await desk.exchange.create_orders(both)
        assert (taken["clientOrderId"], failed["clientOrderId"]) == ("b1", "b1")
        assert (failed["id"] or None, failed["status"]) == (None, None)


async def test_ccxt_calls_of_account_and_market_are_answered() -> None:
    async with at_desk("unified", dead_man_granted=True) as desk:
        exchange = desk.exchange
        fee = await exchange.fetch_trading_fee(SYMBOL)
        assert (fee["maker"], fee["taker"]) == (0.0002, 0.0006)
        rate = await exchange.fetch_funding_rate(SYMBOL)
        assert (rate["interval"], rate["fundingTimestamp"]) == ("8h", desk.account.funding()[1])
        ticker = await exchange.fetch_ticker(SYMBOL)
        assert (ticker["bid"], ticker["ask"], ticker["markPrice"]) == (99.9, 100.1, 100.0)
        candles = await exchange.fetch_ohlcv(SYMBOL, "1m")
        assert candles[-1][4] == 100.0
        await exchange.set_leverage(20, SYMBOL)
        await exchange.set_position_mode(True, SYMBOL)
        assert (desk.account.facts.leverage, desk.account.facts.position_mode) == (20, "hedge")
        answer = await exchange.privateUtaPostV3TradeCountdownCancelAll({"countdown": "10"})
        assert answer["data"] == "success"


async def test_ccxt_pro_reads_the_streams_as_they_are() -> None:
    async with at_desk("unified") as desk:
        exchange, account, bench = desk.exchange, desk.account, desk.bench
        book = await seen(asyncio.ensure_future(exchange.watch_order_book(SYMBOL)))
        assert (book["bids"][0][:2], book["asks"][0][:2]) == ([99.9, 0.001], [100.1, 0.001])
        ticker = await seen(asyncio.ensure_future(exchange.watch_ticker(SYMBOL)))
        assert (ticker["bid"], ticker["info"]["markPrice"]) == (99.9, "100")
        orders = await desk.watching("orders", exchange.watch_orders(SYMBOL))
        fills = await desk.watching("fills", exchange.watch_my_trades(SYMBOL))
        balance, positions = await desk.watching_again(
            lambda: exchange.watch_balance({"type": "swap"}), lambda: exchange.watch_positions([SYMBOL])
        )
        bench.place("w", BUY, 1001, 7, post_only=False, ioc=True)
        (order, *_) = await seen(orders)
        assert (order["clientOrderId"], order["symbol"], order["amount"]) == ("w", SYMBOL, 0.0007)
        (trade, *_) = await seen(fills)
        (fill,) = account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)
        assert (trade["id"], trade["price"], trade["amount"]) == (fill.trade_id, 100.1, 0.0007)
        assert trade["fee"]["cost"] == float(Decimal(fill.fee_e10).scaleb(-10))
        (position, *_) = await seen(positions)
        assert (position["side"], position["contracts"], position["hedged"]) == ("long", 0.0007, False)
        assert (await seen(balance))["USDT"]["total"] == float(Decimal(account.balance().wallet_e10).scaleb(-10))


async def test_ccxt_pro_reads_public_trades_newest_last() -> None:
    for kind in ("classic", "unified"):
        async with at_desk(kind) as desk:
            bench: Bench = desk.bench
            for px_ticks in (1000, 1001):
                bench.print(px_ticks, 3, SELL)
            trades = await seen(asyncio.ensure_future(desk.exchange.watch_trades(SYMBOL)))
            assert [(each["price"], each["amount"], each["side"]) for each in trades] == [
                (100.0, 0.0003, "sell"),
                (100.1, 0.0003, "sell"),
            ]
