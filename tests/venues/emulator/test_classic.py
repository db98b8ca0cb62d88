"""The classic API of the emulated venue: what its calls take, refuse and answer; and what ccxt.pro reads of it."""

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from mmdaemon.core.types import ExecKind, Liquidity
from mmdaemon.venues.emulator import classic_rows, unified_rows
from mmdaemon.venues.emulator.rows import BillRow, No, Why
from mmdaemon.venues.simulated.matching import PostOnly
from tests.venues.emulator.asking import CLASSIC, CONTRACT, MIX, ORDER, ask, refused
from tests.venues.emulator.build import BUY, SELL, Bench, emulated, until
from tests.venues.emulator.real_ccxt import SYMBOL, at_desk, seen

PLACE = "/api/v2/mix/order/place-order"
BATCH = "/api/v2/mix/order/batch-place-order"
MODIFY = "/api/v2/mix/order/modify-order"
CANCEL = "/api/v2/mix/order/cancel-order"
CANCEL_BATCH = "/api/v2/mix/order/batch-cancel-orders"
DETAIL = "/api/v2/mix/order/detail"
PENDING = "/api/v2/mix/order/orders-pending"
FILLS = "/api/v2/mix/order/fills"
BILLS = "/api/v2/mix/account/bill"
STOP = "/api/v2/mix/order/place-tpsl-order"
STOPS = "/api/v2/mix/order/orders-plan-pending"
CANCEL_STOP = "/api/v2/mix/order/cancel-plan-order"
A_STOP = {**MIX, "planType": "pos_loss", "triggerType": "mark_price", "triggerPrice": "90", "holdSide": "buy"}
WEEK_MS = 7 * 86_400_000


def without(params: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in params.items() if key != name}


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["symbol", "productType", "marginMode", "marginCoin", "size", "side", "orderType", "price"]
)
async def test_an_order_without_a_field_is_refused_by_its_name(name: str) -> None:
    async with emulated() as bench:
        assert refused(bench.account, PLACE, without(ORDER, name)) == (
            400,
            "40019",
            f"Parameter {name} cannot be empty",
        )
        assert bench.account.open_orders() == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"size": 0.0005}, "40017"),
        ({"size": "half"}, "40017"),
        ({"size": "-0.0005"}, "40017"),
        ({"size": "0.00055"}, "40808"),
        ({"size": "0"}, "45111"),
        ({"price": 99}, "40017"),
        ({"price": "NaN"}, "40017"),
        ({"price": "99.05"}, "41103"),
        ({"side": "up"}, "40017"),
        ({"force": "fok"}, "40017"),
        ({"reduceOnly": True}, "40017"),
        ({"reduceOnly": "YES"}, "22002"),
        ({"symbol": "ETHUSDT"}, "40309"),
        ({"productType": "COIN-FUTURES"}, "40309"),
        ({"productType": "FUTURES"}, "40017"),
        ({"marginCoin": "BTC"}, "40017"),
        ({"clientOid": "x" * 51}, "40305"),
        ({"clientOid": "a b"}, "40305"),
        ({"clientOid": "known"}, "40786"),
        ({"size": "900", "price": "99"}, "40762"),
    ],
)
async def test_an_order_that_breaks_a_rule_is_refused_with_its_code(changed: dict[str, Any], code: str) -> None:
    async with emulated() as bench:
        bench.account.cancel(bench.place("known").order_id)
        assert refused(bench.account, PLACE, {**ORDER, **changed})[1] == code
        assert bench.account.open_orders() == []


async def test_keys_that_nobody_knows_and_words_in_either_case_are_taken() -> None:
    async with emulated() as bench:
        ask(bench.account, PLACE, {**ORDER, "force": "GTC", "side": "BUY", "reduceOnly": "NO", "uta": False, "z": [1]})
        assert len(bench.account.open_orders()) == 1


async def test_a_hedged_account_takes_no_one_way_order() -> None:
    async with emulated() as bench:
        bench.account.set_position_mode("hedge")
        assert refused(bench.account, PLACE, ORDER)[1] == "40774"


@pytest.mark.parametrize("why", list(Why))
def test_each_reason_has_a_status_a_code_and_a_text(why: Why) -> None:
    status, code, text = CLASSIC.error(No(why))
    assert status >= 400
    assert code.isdecimal()
    assert code != "00000"
    assert text


# --- orders -----------------------------------------------------------------------------------------------------------


async def test_an_order_is_known_by_either_id_and_ended_ones_too() -> None:
    async with emulated() as bench:
        placed = ask(bench.account, PLACE, {**ORDER, "clientOid": "c1", "force": "post_only"})
        assert placed["clientOid"] == "c1"
        by_own = ask(bench.account, DETAIL, {**CONTRACT, "clientOid": "c1"})
        by_venue = ask(bench.account, DETAIL, {**CONTRACT, "orderId": placed["orderId"]})
        assert by_own == by_venue
        assert (by_own["state"], by_own["force"], by_own["size"], by_own["price"]) == (
            "live",
            "post_only",
            "0.0005",
            "99",
        )
        assert ask(bench.account, CANCEL, {**CONTRACT, "clientOid": "c1"}) == placed
        assert ask(bench.account, DETAIL, {**CONTRACT, "clientOid": "c1"})["state"] == "canceled"
        assert refused(bench.account, CANCEL, {**CONTRACT, "clientOid": "c1"})[1] == "40768"
        assert refused(bench.account, DETAIL, {**CONTRACT, "clientOid": "none"})[1] == "40109"
        assert refused(bench.account, DETAIL, CONTRACT)[1] == "40019"


async def test_an_order_without_a_client_id_gets_digits_which_name_it() -> None:
    async with emulated() as bench:
        placed = ask(bench.account, PLACE, ORDER)
        assert placed["clientOid"].isdecimal()
        ask(bench.account, CANCEL, {**CONTRACT, "clientOid": placed["clientOid"]})
        assert bench.account.open_orders() == []


async def test_of_a_batch_what_is_refused_is_named_and_the_rest_stands() -> None:
    async with emulated() as bench:
        items = [
            {**ORDER, "clientOid": "b1"},
            {**ORDER, "clientOid": "b2", "price": "9.95"},
            {**ORDER, "clientOid": "b1"},
        ]
        answer = ask(bench.account, BATCH, {**MIX, "marginMode": "crossed", "orderList": items})
        assert [row["clientOid"] for row in answer["successList"]] == ["b1"]
        assert [(row["clientOid"], row["errorCode"], row["orderId"]) for row in answer["failureList"]] == [
            ("b2", "41103", ""),
            ("b1", "40786", ""),
        ]
        assert [row.client_id for row in bench.account.open_orders()] == ["b1"]
        many = {**MIX, "marginMode": "crossed", "orderList": [ORDER] * 51}
        assert refused(bench.account, BATCH, many)[1] == "40017"
        assert refused(bench.account, BATCH, {**many, "orderList": []})[1] == "40019"
        assert refused(bench.account, BATCH, {**many, "orderList": ["x"]})[1] == "40017"


async def test_a_modification_is_a_cancel_and_a_new_order() -> None:
    async with emulated() as bench:
        old = bench.place("m1")
        change = {**CONTRACT, "clientOid": "m1", "newClientOid": "m2", "newSize": "0.0007", "newPrice": "98.5"}
        assert ask(bench.account, MODIFY, change) == {"clientOid": "m2", "orderId": None}
        (new,) = bench.account.open_orders()
        assert (new.client_id, new.px_ticks, new.qty_lots, new.post_only) == ("m2", 985, 7, True)
        assert new.order_id != old.order_id
        assert ask(bench.account, DETAIL, {**CONTRACT, "clientOid": "m1"})["state"] == "canceled"
        assert refused(bench.account, MODIFY, without({**change, "clientOid": "m2"}, "newClientOid"))[1] == "22003"
        assert refused(bench.account, MODIFY, {**change, "clientOid": "m1"})[1] == "40768"


async def test_a_modification_whose_new_id_is_known_leaves_no_order() -> None:
    async with emulated() as bench:
        bench.place("m1")
        change = {**CONTRACT, "clientOid": "m1", "newClientOid": "m1", "newSize": "0.0007", "newPrice": "98.5"}
        assert refused(bench.account, MODIFY, change)[1] == "40786"
        assert bench.account.open_orders() == []


async def test_an_order_that_filled_in_part_is_not_modified() -> None:
    async with emulated() as bench:
        bench.place("m1", BUY, 1001, 20, post_only=False)
        assert bench.account.order("m1").filled_lots == 10
        change = {**CONTRACT, "clientOid": "m1", "newClientOid": "m2", "newSize": "0.0007", "newPrice": "98.5"}
        assert refused(bench.account, MODIFY, change)[1] == "40768"
        assert [row.client_id for row in bench.account.open_orders()] == ["m1"]


async def test_cancelling_many_and_all() -> None:
    async with emulated() as bench:
        for name in ("a", "b", "c"):
            bench.place(name)
        listed = {**CONTRACT, "orderIdList": [{"clientOid": "a"}, {"orderId": "17"}]}
        answer = ask(bench.account, CANCEL_BATCH, listed)
        assert [row["clientOid"] for row in answer["successList"]] == ["a"]
        assert [(row["orderId"], row["errorCode"]) for row in answer["failureList"]] == [("17", "40768")]
        answer = ask(bench.account, CANCEL_BATCH, CONTRACT)
        assert {row["clientOid"] for row in answer["successList"]} == {"b", "c"}
        assert refused(bench.account, CANCEL_BATCH, CONTRACT) == (400, "22001", "No order to cancel")
        every = {"productType": "USDT-FUTURES"}
        assert refused(bench.account, "/api/v2/mix/order/cancel-all-orders", every)[1] == "22001"


async def test_a_market_order_takes_what_is_there_and_never_our_own() -> None:
    async with emulated() as bench:
        bench.place("bid", BUY, 998)
        at_market = {**without(ORDER, "price"), "orderType": "market", "size": "0.0025", "side": "sell"}
        ask(bench.account, PLACE, {**at_market, "clientOid": "x"})
        order = bench.account.order("x")
        assert (order.filled_lots, order.status.value) == (10, "cancelled")
        assert [row.client_id for row in bench.account.open_orders()] == ["bid"]


async def test_open_orders_are_paged_newest_first_and_the_empty_ones_are_null_then_a_list() -> None:
    async with emulated() as bench:
        assert ask(bench.account, PENDING, CONTRACT) == {"entrustedList": None, "endId": None}
        names = [f"o{number}" for number in range(120)]
        for name in names:
            bench.place(name, qty_lots=1)
        first = ask(bench.account, PENDING, CONTRACT)
        assert len(first["entrustedList"]) == 100
        assert first["endId"] == first["entrustedList"][-1]["orderId"]
        second = ask(bench.account, PENDING, {**CONTRACT, "idLessThan": first["endId"]})
        both = first["entrustedList"] + second["entrustedList"]
        assert [row["clientOid"] for row in both] == names[::-1]
        assert {row["status"] for row in both} == {"live"}
        last = ask(bench.account, PENDING, {**CONTRACT, "idLessThan": second["endId"]})
        assert last == {"entrustedList": [], "endId": None}
        assert refused(bench.account, PENDING, {**CONTRACT, "limit": "101"})[1] == "40017"
        one = ask(bench.account, PENDING, {**CONTRACT, "clientOid": "o7"})
        assert [row["clientOid"] for row in one["entrustedList"]] == ["o7"]
        assert ask(bench.account, PENDING, {"productType": "COIN-FUTURES"})["entrustedList"] is None


# --- history ----------------------------------------------------------------------------------------------------------


async def test_fills_are_paged_by_the_id_at_the_end_of_the_page() -> None:
    async with emulated() as bench:
        ids = fill_some(bench, 7)
        first = ask(bench.account, FILLS, {**CONTRACT, "limit": "3"})
        assert [row["tradeId"] for row in first["fillList"]] == ids[:-4:-1]
        assert "endId" not in first["fillList"][0]
        seen_ids: list[str] = []
        cursor: dict[str, str] = {}
        while (page := ask(bench.account, FILLS, {**CONTRACT, "limit": "3", **cursor}))["fillList"]:
            seen_ids += [row["tradeId"] for row in page["fillList"]]
            cursor = {"idLessThan": page["endId"]}
        assert seen_ids == ids[::-1]
        order_id = bench.account.order("f2").order_id
        (row,) = ask(bench.account, FILLS, {**CONTRACT, "orderId": order_id, "limit": "1"})["fillList"]
        assert row["orderId"] == order_id
        assert "clientOid" not in row


async def test_fills_are_of_a_week_at_most() -> None:
    async with emulated() as bench:
        fill_some(bench, 1)
        now = bench.account.now_ms()
        week = {"startTime": str(now - WEEK_MS), "endTime": str(now)}
        assert len(ask(bench.account, FILLS, {**CONTRACT, **week})["fillList"]) == 1
        longer = {**week, "startTime": str(now - WEEK_MS - 1)}
        assert refused(bench.account, FILLS, {**CONTRACT, **longer})[1] == "40017"
        assert refused(bench.account, FILLS, {**CONTRACT, "startTime": "now"})[1] == "40017"
        # One end alone: the week from there.
        old = ask(bench.account, FILLS, {**CONTRACT, "startTime": str(now - 2 * WEEK_MS)})
        assert old["fillList"] is None
        assert ask(bench.account, FILLS, {**CONTRACT, "endTime": str(now - 1000)})["fillList"] is None


async def test_a_fee_is_negative_where_it_was_charged() -> None:
    async with emulated() as bench:
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        (row,) = ask(bench.account, FILLS, CONTRACT)["fillList"]
        (fill,) = bench.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)
        assert fill.liquidity is Liquidity.TAKER
        assert fill.fee_e10 > 0
        assert Decimal(row["feeDetail"][0]["totalFee"]) == -Decimal(fill.fee_e10).scaleb(-10)
        order = ask(bench.account, DETAIL, {**CONTRACT, "clientOid": "t"})
        assert order["fee"] == row["feeDetail"][0]["totalFee"]
        assert "feeDetail" not in order
        assert row["tradeSide"] == "buy_single"


async def test_the_ledger_has_transfers_and_the_lines_of_trades() -> None:
    async with emulated() as bench:
        bench.account.transfer(25_000_000_000)
        bench.account.transfer(-5_000_000_000)
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        bills = ask(bench.account, BILLS, CONTRACT)["bills"]
        assert [(row["businessType"], row["amount"], row["symbol"]) for row in bills] == [
            ("buy", "0", "BTCUSDT"),
            ("trans_to_exchange", "-0.5", ""),
            ("trans_from_exchange", "2.5", ""),
        ]
        assert Decimal(bills[0]["fee"]) < 0
        assert bills[0]["balance"] == ask(bench.account, "/api/v2/mix/account/account", MIX)["available"]
        (only,) = ask(bench.account, BILLS, {**CONTRACT, "businessType": "trans_to_exchange", "limit": "1"})["bills"]
        assert only["amount"] == "-0.5"
        page = ask(bench.account, BILLS, {**CONTRACT, "limit": "2"})
        rest = ask(bench.account, BILLS, {**CONTRACT, "limit": "2", "idLessThan": page["endId"]})
        assert page["bills"] + rest["bills"] == bills


# --- position, stop and account ---------------------------------------------------------------------------------------


async def test_a_flat_position_has_no_row() -> None:
    async with emulated() as bench:
        assert ask(bench.account, "/api/v2/mix/position/single-position", MIX) == []
        bench.place("s", SELL, 999, post_only=False, ioc=True)
        (row,) = ask(bench.account, "/api/v2/mix/position/single-position", MIX)
        assert (row["holdSide"], row["total"], row["posMode"]) == ("short", "0.0005", "one_way_mode")
        assert ask(bench.account, "/api/v2/mix/position/all-position", {"productType": "USDC-FUTURES"}) == []


async def test_the_stop_of_the_position() -> None:
    async with emulated() as bench:
        account = bench.account
        assert refused(account, STOP, A_STOP)[1] == "22002"  # there is no position
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        assert refused(account, STOP, {**A_STOP, "triggerPrice": "101"})[1] == "40917"
        assert refused(account, STOP, {**A_STOP, "holdSide": "short"})[1] == "22002"
        assert refused(account, STOP, {**A_STOP, "planType": "loss_plan"})[1] == "40017"
        assert ask(account, STOPS, {**CONTRACT, "planType": "profit_loss"})["entrustedList"] is None
        placed = ask(account, STOP, {**A_STOP, "clientOid": "s1"})
        assert account.stop_px_ticks() == 900
        pending = ask(account, STOPS, {**CONTRACT, "planType": "profit_loss"})
        (row,) = pending["entrustedList"]
        assert (row["orderId"], row["clientOid"], row["triggerPrice"]) == (placed["orderId"], "s1", "90")
        assert (row["planType"], row["side"], row["planStatus"]) == ("pos_loss", "sell", "live")
        assert ask(account, STOPS, {**CONTRACT, "planType": "normal_plan"})["entrustedList"] is None
        moved = {**MIX, "clientOid": "s1", "triggerPrice": 91.5, "size": ""}
        assert ask(account, "/api/v2/mix/order/modify-tpsl-order", moved) == placed
        assert account.stop_px_ticks() == 915
        absent = ask(account, CANCEL_STOP, {**MIX, "planType": "pos_loss", "orderIdList": [{"orderId": "17"}]})
        assert [row["errorCode"] for row in absent["failureList"]] == ["43025"]
        gone = ask(account, CANCEL_STOP, {**MIX, "orderIdList": [{"orderId": placed["orderId"]}]})
        assert gone == {"successList": [placed], "failureList": []}
        assert account.stop_px_ticks() is None
        assert refused(account, CANCEL_STOP, MIX)[1] == "22001"


async def test_a_stop_that_fired_is_not_pending() -> None:
    async with emulated() as bench:
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        ask(bench.account, STOP, A_STOP)
        bench.show_mid(890)
        bench.account.exchange.on_mark(bench.account.advance(), 890)
        assert ask(bench.account, STOPS, {**CONTRACT, "planType": "profit_loss"})["entrustedList"] is None


async def test_the_account_adds_up() -> None:
    async with emulated() as bench:
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        bench.place("r", BUY, 990)
        row = ask(bench.account, "/api/v2/mix/account/account", MIX)
        number = {key: Decimal(value) for key, value in row.items() if isinstance(value, str) and key not in WORDS}
        assert number["accountEquity"] == number["available"] + number["unrealizedPL"]
        assert number["crossedMaxAvailable"] == number["accountEquity"] - number["locked"]
        assert number["available"] == Decimal(bench.account.balance().wallet_e10).scaleb(-10)
        assert (row["posMode"], row["marginMode"], row["crossedMarginLeverage"]) == ("one_way_mode", "crossed", 10)
        kept = Decimal("0.05") * Decimal("0.004")
        assert abs(number["crossedRiskRate"] * number["accountEquity"] - kept) < Decimal("1e-8")


WORDS = ("marginCoin", "marginMode", "posMode")


async def test_what_a_person_may_have_changed_is_shown() -> None:
    async with emulated() as bench:
        key = "/api/v2/spot/account/info"
        assert "coow" in ask(bench.account, key)["authorities"]
        assert "wwow" not in ask(bench.account, key)["authorities"]
        bench.emulator.outside.change_facts(
            can_trade=False, can_withdraw=True, leverage=3, maker_rate="-0.0001", position_mode="hedge"
        )
        assert "coow" not in ask(bench.account, key)["authorities"]
        assert "wwow" in ask(bench.account, key)["authorities"]
        row = ask(bench.account, "/api/v2/mix/account/account", MIX)
        assert (row["posMode"], row["crossedMarginLeverage"]) == ("hedge_mode", 3)
        rate = ask(bench.account, "/api/v2/common/trade-rate", {"symbol": "BTCUSDT", "businessType": "mix"})
        assert rate == {"makerFeeRate": "-0.0001", "takerFeeRate": "0.0006"}
        assert refused(bench.account, PLACE, ORDER)[1] == "40014"


async def test_modes_do_not_change_while_there_is_an_order() -> None:
    async with emulated() as bench:
        bench.place("r")
        mode = {"productType": "USDT-FUTURES", "posMode": "hedge_mode"}
        assert refused(bench.account, "/api/v2/mix/account/set-position-mode", mode)[1] == "40774"
        assert refused(bench.account, "/api/v2/mix/account/set-leverage", {**MIX, "leverage": "126"})[1] == "40017"
        assert refused(bench.account, "/api/v2/mix/account/set-leverage", {**MIX, "leverage": 20})[1] == "40017"


async def test_the_contract_is_stated_as_the_instrument_is() -> None:
    async with emulated() as bench:
        contracts = "/api/v2/mix/market/contracts"
        (row,) = ask(bench.account, contracts, {"productType": "USDT-FUTURES"})
        scale, rules = bench.account.scale, bench.account.instrument
        assert Decimal(row["priceEndStep"]).scaleb(-int(row["pricePlace"])) == scale.tick
        assert Decimal(row["sizeMultiplier"]) == scale.lot
        assert Decimal(row["minTradeNum"]) == scale.lot * rules.min_qty_lots
        assert Decimal(row["maxOrderQty"]) == scale.lot * rules.max_qty_lots
        for product in ("COIN-FUTURES", "USDC-FUTURES", "SUSDT-FUTURES", "SCOIN-FUTURES", "SUSDC-FUTURES"):
            assert ask(bench.account, contracts, {"productType": product}) == []


# --- the stream -------------------------------------------------------------------------------------------------------


async def test_an_order_push_tells_its_own_fill_apart_from_the_sum() -> None:
    async with emulated() as bench:
        account = bench.account
        on = CLASSIC.channel({"instType": "USDT-FUTURES", "channel": "orders", "instId": "default"})
        bench.place("p", BUY, 1002, 25, post_only=False)
        newest, older = account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=2)
        row = account.order("p")
        (pushed,) = CLASSIC.order(account, on, row, newest)["data"]
        assert (pushed["baseVolume"], pushed["accBaseVolume"]) == ("0.001", "0.002")
        assert (pushed["tradeId"], pushed["fillPrice"], pushed["status"]) == (
            newest.trade_id,
            "100.2",
            "partially_filled",
        )
        assert older.trade_id != newest.trade_id
        assert Decimal(pushed["fillFee"]) == -Decimal(newest.fee_e10).scaleb(-10)
        (bare,) = CLASSIC.order(account, on, row, None)["data"]
        assert not {"baseVolume", "tradeId", "fillPrice", "fillFee"} & bare.keys()
        account.cancel("p")
        (ended,) = CLASSIC.order(account, on, account.order("p"), None)["data"]
        assert (ended["status"], ended["cancelReason"]) == ("cancelled", "normal_cancel")
        assert ask(account, DETAIL, {**CONTRACT, "clientOid": "p"})["state"] == "canceled"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (ExecKind.TRADE, "buy_single"),
        (ExecKind.LIQUIDATION, "burst_buy_single"),
        (ExecKind.ADL, "dte_sys_adl_buy_in_single_side_mode"),
    ],
)
async def test_a_fill_says_whose_doing_it_was(kind: ExecKind, said: str) -> None:
    async with emulated() as bench:
        bench.place("t", BUY, 1001, post_only=False, ioc=True)
        (fill,) = bench.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)
        on = CLASSIC.channel({"instType": "USDT-FUTURES", "channel": "fill", "instId": "default"})
        (row,) = CLASSIC.fill(bench.account, on, msgspec.structs.replace(fill, kind=kind))["data"]
        assert row["tradeSide"] == said


@pytest.mark.parametrize(
    "arg",
    [
        {"instType": "USDT-FUTURES", "channel": "books50", "instId": "BTCUSDT"},
        {"instType": "USDT-FUTURES", "channel": "books", "instId": "ETHUSDT"},
        {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"},
        {"instType": "USDT-FUTURES", "channel": "candle5m", "instId": "BTCUSDT"},
        {"instType": "USDT-FUTURES", "channel": "orders", "instId": "ETHUSDT"},
        {"instType": "USDT-FUTURES", "topic": "books", "symbol": "BTCUSDT"},
        {"channel": ["books"]},
        {},
    ],
)
def test_a_channel_that_there_is_not_is_refused(arg: dict[str, Any]) -> None:
    with pytest.raises(No) as refusal:
        CLASSIC.channel(arg)
    assert refusal.value.why is Why.PARAMETER


async def test_a_post_only_order_that_would_cross_is_taken_and_cancelled_on_the_stream() -> None:
    async with emulated() as bench:
        placed = ask(bench.account, PLACE, {**ORDER, "price": "101", "force": "post_only", "clientOid": "p"})
        assert placed["clientOid"] == "p"
        on = CLASSIC.channel({"instType": "USDT-FUTURES", "channel": "orders", "instId": "default"})
        await until(lambda: bench.account.order("p").status.is_terminal)
        (pushed,) = CLASSIC.order(bench.account, on, bench.account.order("p"), None)["data"]
        assert (pushed["status"], pushed["accBaseVolume"]) == ("cancelled", "0")
        assert "post" in pushed["cancelReason"]
    async with emulated(post_only=PostOnly.REJECT) as bench:
        crossing = {**ORDER, "price": "101", "force": "post_only", "clientOid": "p"}
        assert refused(bench.account, PLACE, crossing)[0] == 400
        assert refused(bench.account, DETAIL, {**CONTRACT, "clientOid": "p"})[1] == "40109"


@pytest.mark.parametrize(
    ("kind", "amount_e10", "classic", "unified"),
    [
        ("funding", 5_000, "contract_settle_fee", "CONTRACT_MAIN_SETTLE_FEE_USER_IN"),
        ("funding", -5_000, "contract_settle_fee", "CONTRACT_MAIN_SETTLE_FEE_USER_OUT"),
        ("transfer_in", 5_000, "trans_from_exchange", "TRANSFER_IN"),
        ("transfer_out", -5_000, "trans_to_exchange", "TRANSFER_OUT"),
        ("fee", -5_000, "risk_captital_user_transfer", "RISK_CAPTITAL_USER_TRANSFER"),
        ("trade", -5_000, "buy", "BUY"),
    ],
)
async def test_a_line_of_the_ledger_has_the_word_of_each_api(
    kind: str, amount_e10: int, classic: str, unified: str
) -> None:
    row = BillRow(bill_id="1", kind=kind, amount_e10=amount_e10, fee_e10=200, balance_e10=10**13, at_ms=5)
    async with emulated() as bench:
        old, new = classic_rows.bill(bench.account, row), unified_rows.bill(bench.account, row)
    assert (old["businessType"], new["type"]) == (classic, unified)
    assert Decimal(old["amount"]) == Decimal(new["amount"]) == Decimal(amount_e10).scaleb(-10)
    assert old["fee"] == new["fee"] == "-0.00000002"
    assert old["balance"] == new["balance"] == "1000"


async def test_what_is_of_another_product_is_not_here() -> None:
    async with emulated() as bench:
        assert ask(bench.account, "/api/v2/mix/market/current-fund-rate", {"productType": "COIN-FUTURES"}) == []
        assert ask(bench.account, "/api/v2/mix/account/bill", {"productType": "COIN-FUTURES"})["bills"] is None
        assert ask(bench.account, FILLS, {"productType": "COIN-FUTURES"})["fillList"] is None
        assert ask(bench.account, "/api/v2/mix/account/accounts", {"productType": "COIN-FUTURES"}) == []
        assert ask(bench.account, "/api/v2/mix/market/tickers", {"productType": "COIN-FUTURES"}) == []
        assert refused(bench.account, "/api/v2/mix/market/ticker", {**CONTRACT, "symbol": "ETHUSDT"})[1] == "40309"


# --- what ccxt.pro reads ----------------------------------------------------------------------------------------------


async def test_ccxt_reads_orders_fills_position_and_balance_as_they_are() -> None:
    async with at_desk("classic") as desk:
        exchange, account = desk.exchange, desk.account
        market = exchange.market(SYMBOL)
        assert market["precision"] == {"amount": 0.0001, "price": 0.1}
        placed = await exchange.create_order(
            SYMBOL, "limit", "buy", 0.0005, 99.0, {"postOnly": True, "clientOrderId": "c1"}
        )
        order = await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "c1"})
        assert order["id"] == placed["id"] == account.order("c1").order_id
        assert (order["status"], order["price"], order["amount"], order["filled"]) == ("open", 99.0, 0.0005, 0.0)
        assert (order["postOnly"], order["reduceOnly"], order["side"]) == (True, False, "buy")
        await exchange.create_order(
            SYMBOL, "limit", "buy", 0.0005, 100.5, {"timeInForce": "IOC", "clientOrderId": "c2"}
        )
        filled = await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "c2"})
        (fill,) = account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=9)
        fee = float(Decimal(fill.fee_e10).scaleb(-10))
        assert (filled["status"], filled["filled"], filled["average"], filled["cost"]) == (
            "closed",
            0.0005,
            100.1,
            0.05005,
        )
        assert filled["fee"]["cost"] == fee
        (trade,) = await exchange.fetch_my_trades(SYMBOL)
        assert (trade["id"], trade["order"]) == (fill.trade_id, fill.order_id)
        assert (trade["price"], trade["amount"], trade["takerOrMaker"]) == (100.1, 0.0005, "taker")
        assert trade["fee"]["cost"] == fee
        (position,) = await exchange.fetch_positions([SYMBOL])
        assert (position["side"], position["contracts"], position["entryPrice"]) == ("long", 0.0005, 100.1)
        assert (position["hedged"], position["leverage"], position["marginMode"]) == (False, 10.0, "cross")
        balance, row = await exchange.fetch_balance(), account.balance()
        assert balance["USDT"]["total"] == float(Decimal(row.wallet_e10 + row.unrealised_e10).scaleb(-10))
        assert balance["USDT"]["free"] == float(Decimal(row.available_e10).scaleb(-10))
        assert [each["clientOrderId"] for each in await exchange.fetch_open_orders(SYMBOL)] == ["c1"]
        await exchange.cancel_all_orders(SYMBOL)
        assert account.open_orders() == []


async def test_ccxt_drops_the_refused_orders_of_a_batch() -> None:
    """Which is why the adapter does not use it."""
    async with at_desk("classic") as desk:
        order = {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.0005, "price": 99.0}
        both = [{**order, "params": {"clientOrderId": "b1"}}, {**order, "params": {"clientOrderId": "b1"}}]
        taken = await desk.exchange.create_orders(both)
        assert [each["clientOrderId"] for each in taken] == ["b1"]


async def test_ccxt_calls_of_account_and_market_are_answered() -> None:
    async with at_desk("classic") as desk:
        exchange = desk.exchange
        assert abs(await exchange.fetch_time() - desk.account.now_ms()) < 60_000
        fee = await exchange.fetch_trading_fee(SYMBOL)
        assert (fee["maker"], fee["taker"]) == (0.0002, 0.0006)
        rate = await exchange.fetch_funding_rate(SYMBOL)
        assert (rate["interval"], rate["fundingTimestamp"]) == ("8h", desk.account.funding()[1])
        ticker = await exchange.fetch_ticker(SYMBOL)
        assert (ticker["bid"], ticker["ask"], ticker["markPrice"]) == (99.9, 100.1, 100.0)
        candles = await exchange.fetch_ohlcv(SYMBOL, "1m")
        assert candles[-1][4] == 100.0
        await exchange.set_leverage(20, SYMBOL)
        assert (await exchange.fetch_leverage(SYMBOL))["longLeverage"] == 20
        await exchange.set_margin_mode("isolated", SYMBOL)
        await exchange.set_position_mode(True, SYMBOL)
        assert (desk.account.facts.margin_mode, desk.account.facts.position_mode) == ("isolated", "hedge")
        desk.account.transfer(25_000_000_000)
        (line,) = await exchange.fetch_ledger("USDT", params={"productType": "USDT-FUTURES"})
        assert (line["amount"], line["direction"]) == (2.5, "in")


async def test_ccxt_pro_reads_the_streams_as_they_are() -> None:
    async with at_desk("classic") as desk:
        exchange, account, bench = desk.exchange, desk.account, desk.bench
        book = await seen(asyncio.ensure_future(exchange.watch_order_book(SYMBOL)))
        assert (book["bids"][0][:2], book["asks"][0][:2]) == ([99.9, 0.001], [100.1, 0.001])
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
        row = account.balance()
        assert (await seen(balance))["USDT"]["total"] == float(Decimal(row.wallet_e10 + row.unrealised_e10).scaleb(-10))


async def test_ccxt_pro_takes_the_last_fill_of_an_order_for_all_of_it() -> None:
    """The pitfall that `accBaseVolume` is there for: the venue says both, ccxt reads the wrong one."""
    async with emulated() as bench:
        account = bench.account
        on = CLASSIC.channel({"instType": "USDT-FUTURES", "channel": "orders", "instId": "default"})
        bench.place("p", BUY, 1002, 25, post_only=False)
        (newest, _) = account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=2)
        async with at_desk("classic") as desk:
            (pushed,) = CLASSIC.order(account, on, account.order("p"), newest)["data"]
            read = desk.exchange.parse_ws_order(pushed, desk.exchange.market(SYMBOL))
        assert (read["filled"], read["remaining"], read["info"]["accBaseVolume"]) == (0.001, 0.0005, "0.002")


def fill_some(bench: Bench, count: int) -> list[str]:
    """Trade ids, oldest first."""
    for number in range(count):
        bench.place(f"f{number}", BUY, 1001, 1, post_only=False, ioc=True)
    return [row.trade_id for row in bench.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1000)][::-1]


async def test_an_order_of_somebody_else_has_digits_for_a_client_id_everywhere() -> None:
    async with emulated() as bench:
        row = bench.account.foreign_order(BUY, 990, 3)
        orders = CLASSIC.channel({"instType": "USDT-FUTURES", "channel": "orders", "instId": "default"})
        (pushed,) = CLASSIC.order(bench.account, orders, row, None)["data"]
        (listed,) = ask(bench.account, PENDING, CONTRACT)["entrustedList"]
        assert pushed["clientOid"] == listed["clientOid"] == row.order_id
        assert row.order_id.isdecimal()
        bench.account.manual_trade(BUY, 4)
        (fill,) = bench.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=1)
        fills = CLASSIC.channel({"instType": "USDT-FUTURES", "channel": "fill", "instId": "default"})
        (told,) = CLASSIC.fill(bench.account, fills, fill)["data"]
        assert told["clientOid"] == fill.order_id
        assert ask(bench.account, DETAIL, {**CONTRACT, "orderId": fill.order_id})["clientOid"] == fill.order_id
