"""The classic account's reads, against rows as the venue (and the emulator) writes them, and against hostile ones."""

import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mmdaemon.core.events import BillKind
from mmdaemon.core.types import ExecKind, Liquidity, OrderStatus, Side
from mmdaemon.venues.base import Absent, Cursor, PositionStop, VenueUnavailable
from mmdaemon.venues.bitget import classic_reads as reads
from mmdaemon.venues.bitget import classic_rows as wire
from mmdaemon.venues.bitget.api import Meaning, Refused, Unanswered
from mmdaemon.venues.bitget.names import Names
from tests.venues.bitget.answering import BTC, MS, NOW_MS, SCALE, Venue, always, by_id, in_turn

DETAIL, PENDING = "/api/v2/mix/order/detail", "/api/v2/mix/order/orders-pending"
FILLS, BILLS = "/api/v2/mix/order/fills", "/api/v2/mix/account/bill"
ACCOUNT, POSITION = "/api/v2/mix/account/account", "/api/v2/mix/position/single-position"
KEY, FEES, PRICE = "/api/v2/spot/account/info", "/api/v2/common/trade-rate", "/api/v2/mix/market/symbol-price"
CANDLES, FUNDING = "/api/v2/mix/market/candles", "/api/v2/mix/market/current-fund-rate"
CONTRACTS = "/api/v2/mix/market/contracts"
PLANS, PLACE = "/api/v2/mix/order/orders-plan-pending", "/api/v2/mix/order/place-tpsl-order"
MOVE, CANCEL = "/api/v2/mix/order/modify-tpsl-order", "/api/v2/mix/order/cancel-plan-order"
LONG_AGO = Cursor((NOW_MS - 3_600_000) * MS)


def order(n: int = 1, **changed: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "size": "0.0200",
        "orderId": str(n),
        "clientOid": f"mmabcd-1-{n}",
        "baseVolume": "0",
        "fee": "0",
        "price": "64000.1",
        "priceAvg": "",
        "side": "buy",
        "force": "post_only",
        "orderType": "limit",
        "reduceOnly": "NO",
        "posMode": "one_way_mode",
        "cTime": str(NOW_MS),
        "uTime": str(NOW_MS),
    } | changed


def fill(n: int, **changed: Any) -> dict[str, Any]:
    return {
        "tradeId": str(n),
        "symbol": "BTCUSDT",
        "orderId": "9",
        "price": "64000.1",
        "baseVolume": "0.001",
        "feeDetail": [{"deduction": "no", "feeCoin": "USDT", "totalDeductionFee": None, "totalFee": "-0.0128"}],
        "side": "sell",
        "quoteVolume": "64.0001",
        "profit": "0",
        "tradeSide": "sell_single",
        "posMode": "one_way_mode",
        "tradeScope": "maker",
        "cTime": str(NOW_MS - 1_000 + n),
    } | changed


def bill(n: int, word: str, amount: str, fee: str = "0", **changed: Any) -> dict[str, Any]:
    return {
        "billId": str(n),
        "symbol": "BTCUSDT",
        "amount": amount,
        "fee": fee,
        "feeByCoupon": "",
        "businessType": word,
        "coin": "USDT",
        "cTime": str(NOW_MS - 1_000 + n),
    } | changed


def account(**changed: Any) -> dict[str, Any]:
    return {
        "marginCoin": "USDT",
        "locked": "0",
        "available": "1000",
        "crossedMaxAvailable": "900.5",
        "isolatedMaxAvailable": "700",
        "maxTransferOut": "900",
        "accountEquity": "1000.64",
        "usdtEquity": "1000.64",
        "unrealizedPL": "0.5",
        "crossedUnrealizedPL": None,
        "crossedMarginLeverage": 20,
        "isolatedLongLever": 10,
        "isolatedShortLever": "12",
        "marginMode": "crossed",
        "posMode": "one_way_mode",
    } | changed


def position(**changed: Any) -> dict[str, Any]:
    return {
        "marginCoin": "USDT",
        "symbol": "BTCUSDT",
        "holdSide": "long",
        "total": "0.002",
        "leverage": "20",
        "openPriceAvg": "63750.25",
        "marginMode": "crossed",
        "posMode": "one_way_mode",
        "unrealizedPL": "0.4999",
        "markPrice": "64000.04",
        "cTime": str(NOW_MS),
    } | changed


def price(mark: str = "64000.04") -> list[dict[str, str]]:
    return [{"symbol": "BTCUSDT", "price": "64000", "indexPrice": "64001", "markPrice": mark, "ts": str(NOW_MS - 5)}]


# --- orders -----------------------------------------------------------------------------------------------------------


async def test_an_order_is_asked_for_by_our_id() -> None:
    venue = Venue({DETAIL: always(order(7, state="partially_filled", baseVolume="0.005"))})
    told = await reads.order(SCALE, venue, "mmabcd-1-7")
    assert not isinstance(told, Absent)
    assert (told.client_id, told.side, told.px_ticks, told.qty_lots) == ("mmabcd-1-7", Side.BUY, 640_001, 200)
    assert (told.cum_filled_lots, told.status, told.reduce_only) == (50, OrderStatus.PARTIAL, False)
    assert venue.asked == [(DETAIL, {"symbol": "BTCUSDT", "productType": "USDT-FUTURES", "clientOid": "mmabcd-1-7"})]


async def test_an_order_without_our_id_is_asked_for_by_the_venues() -> None:
    venue = Venue({DETAIL: always(order(7, state="canceled", clientOid="someone"))})
    told = await reads.order(SCALE, venue, "venue:7")
    assert not isinstance(told, Absent)
    assert (told.client_id, told.status) == ("venue:7", OrderStatus.CANCELLED)
    assert venue.asked[0][1]["orderId"] == "7"


async def test_not_found_is_absent_and_every_other_refusal_is_none() -> None:
    venue = Venue({DETAIL: in_turn(Refused(Meaning.NOT_FOUND, "40109"), Refused(Meaning.UNKNOWN, "40725"))})
    assert await reads.order(SCALE, venue, "mmabcd-1-7") == Absent("mmabcd-1-7")
    with pytest.raises(Refused):
        await reads.order(SCALE, venue, "mmabcd-1-7")


async def test_the_answer_about_another_order_is_refused() -> None:
    with pytest.raises(VenueUnavailable, match="another order"):
        await reads.order(SCALE, Venue({DETAIL: always(order(8, state="live"))}), "mmabcd-1-7")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"state": "weird"}, "status: an unknown word"),
        ({"state": None}, "status: is missing"),
        ({"state": "live", "side": "up"}, "side"),
        ({"state": "live", "price": "64000.15"}, "price: off_tick"),
        ({"state": "live", "price": ""}, "price: not_a_number"),
        ({"state": "live", "price": 64000.1}, "price"),
        ({"state": "live", "size": "NaN"}, "size: not_a_number"),
        ({"state": "live", "size": "-1"}, "size: negative"),
        ({"state": "live", "size": "0"}, "size: is zero"),
        ({"state": "live", "baseVolume": "0.03"}, "filled: is more than the size"),
        ({"state": "live", "baseVolume": None}, "baseVolume"),
        ({"state": "live", "reduceOnly": "maybe"}, "reduceOnly"),
    ],
)
async def test_an_order_that_cannot_be_read_is_never_guessed(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(VenueUnavailable, match=field) as raised:
        await reads.order(SCALE, Venue({DETAIL: always(order(**changed))}), "mmabcd-1-1")
    assert DETAIL in str(raised.value)


async def test_open_orders_come_from_all_pages() -> None:
    """More than a page, in any order of state; another contract's are not ours to tell."""
    rows = [order(n, status="live") for n in range(1, 251)] + [order(300, status="live", symbol="ETHUSDT")]
    venue = Venue({PENDING: by_id(rows, "orderId", "entrustedList")})
    told = await reads.open_orders(SCALE, venue)
    assert sorted(each.client_id for each in told) == sorted(f"mmabcd-1-{n}" for n in range(1, 251))
    assert {params.get("idLessThan") for params in venue.asked_of(PENDING)} == {None, "152", "52", "1"}


@pytest.mark.parametrize("empty", [None, {"entrustedList": None, "endId": None}, {"entrustedList": []}])
async def test_no_open_orders_are_null_or_an_empty_list(empty: Any) -> None:
    assert await reads.open_orders(SCALE, Venue({PENDING: always(empty)})) == []


async def test_a_truncated_page_loses_no_order() -> None:
    pages = {None: ["9", "8"], "8": ["7"], "7": []}
    venue = Venue(
        {
            PENDING: lambda params: {
                "entrustedList": [order(int(n), status="live") for n in pages[params.get("idLessThan")]]
            }
        }
    )
    assert len(await reads.open_orders(SCALE, venue)) == 3


async def test_open_orders_are_whole_or_none() -> None:
    """The second page fails: what the first one had is not an answer."""
    venue = Venue({PENDING: in_turn({"entrustedList": [order(5, status="live")]}, Unanswered("timeout"))})
    with pytest.raises(Unanswered):
        await reads.open_orders(SCALE, venue)


async def test_an_order_without_any_client_id_has_the_venues() -> None:
    rows = [order(5, status="live", clientOid=""), order(6, status="live", clientOid=None)]
    told = await reads.open_orders(SCALE, Venue({PENDING: by_id(rows, "orderId", "entrustedList")}))
    assert {each.client_id for each in told} == {"venue:5", "venue:6"}


# --- fills ------------------------------------------------------------------------------------------------------------


async def test_a_fill_is_named_by_its_order() -> None:
    """The rows have the venue's order id alone. A fill without our id would be taken for a manual trade."""
    venue = Venue(
        {
            FILLS: by_id([fill(1), fill(2), fill(3, orderId="10")], "tradeId", "fillList", "cTime"),
            DETAIL: lambda params: order(int(params["orderId"]), state="filled"),
        }
    )
    names = Names()
    told = await reads.fills(SCALE, venue, LONG_AGO, names)
    assert [(each.trade_id, each.client_id) for each in told] == [
        ("1", "mmabcd-1-9"),
        ("2", "mmabcd-1-9"),
        ("3", "mmabcd-1-10"),
    ]
    assert venue.counts[DETAIL] == 2
    await reads.fills(SCALE, venue, LONG_AGO, names)
    assert venue.counts[DETAIL] == 2, "an order keeps its name"
    first = told[0]
    assert (first.side, first.px_ticks, first.qty_lots, first.fee_e10) == (Side.SELL, 640_001, 10, 128_000_000)
    assert (first.liquidity, first.exec_kind) == (Liquidity.MAKER, ExecKind.TRADE)
    assert first.venue_ts_ns == (NOW_MS - 999) * MS
    assert (first.mono_ns, first.ts_ns) == (0, 0)


async def test_a_fill_of_an_order_that_the_venue_forgot_is_not_lost() -> None:
    rows = [fill(1, cTime=str(NOW_MS - 601_000))]
    venue = Venue({FILLS: by_id(rows, "tradeId", "fillList"), DETAIL: always(Refused(Meaning.NOT_FOUND, "40109"))})
    assert [each.client_id for each in await reads.fills(SCALE, venue, LONG_AGO)] == ["venue:9"]


async def test_a_new_fill_whose_order_a_replica_does_not_show_is_not_a_manual_trade() -> None:
    """Booked under the venue's name it would be, and our order would never be freed of it."""
    rows = [fill(1, cTime=str(NOW_MS - 1_000))]
    replies = {
        FILLS: by_id(rows, "tradeId", "fillList"),
        DETAIL: in_turn(Refused(Meaning.NOT_FOUND, "40109"), order(9, state="filled")),
    }
    venue, names = Venue(replies), Names()
    with pytest.raises(VenueUnavailable, match="not shown yet"):
        await reads.fills(SCALE, venue, LONG_AGO, names)
    assert [each.client_id for each in await reads.fills(SCALE, venue, LONG_AGO, names)] == ["mmabcd-1-9"]


async def test_a_liquidation_is_of_no_order_of_ours() -> None:
    venue = Venue({FILLS: by_id([fill(1, tradeSide="burst_sell_single")], "tradeId", "fillList")})
    told = await reads.fills(SCALE, venue, LONG_AGO)
    assert [(each.client_id, each.exec_kind) for each in told] == [("venue:9", ExecKind.LIQUIDATION)]


async def test_fills_whose_order_cannot_be_read_are_not_told_under_another_name() -> None:
    venue = Venue({FILLS: by_id([fill(1)], "tradeId", "fillList"), DETAIL: always(Unanswered("timeout"))})
    with pytest.raises(Unanswered):
        await reads.fills(SCALE, venue, LONG_AGO)


async def test_fills_come_oldest_first_each_once_from_all_pages_and_windows() -> None:
    """Twenty days back: three windows of a week, 205 fills of equal times among them, one on the border of two."""
    start_ms = NOW_MS - 20 * 86_400_000
    times = sorted([start_ms, start_ms + 7 * 86_400_000, *[NOW_MS - 5 * 86_400_000 for _ in range(203)]])
    rows = [fill(n, cTime=str(at), clientOid="mmabcd-1-1") for n, at in enumerate(times, 1)]
    venue = Venue({FILLS: by_id(rows, "tradeId", "fillList", "cTime")})
    told = await reads.fills(SCALE, venue, Cursor(start_ms * MS))
    assert [int(each.trade_id) for each in told] == list(range(1, 206))
    spans = {(int(params["startTime"]), int(params["endTime"])) for params in venue.asked_of(FILLS)}
    assert len(spans) == 3
    assert all(end - begin <= 7 * 86_400_000 for begin, end in spans)


async def test_a_fill_before_the_cursor_is_left_out() -> None:
    venue = Venue({FILLS: in_turn({"fillList": [fill(n, clientOid="x") for n in (3, 2, 1)]}, {"fillList": []})})
    told = await reads.fills(SCALE, venue, Cursor((NOW_MS - 1_000 + 2) * MS))
    assert [each.trade_id for each in told] == ["2", "3"]


@pytest.mark.parametrize(
    ("lines", "fee_e10"),
    [
        ([("USDT", "-0.0128")], 128_000_000),
        ([("USDT", "0.0064")], -64_000_000),  # a rebate
        ([("USDT", "-0.01"), ("USDT", "-0.002")], 120_000_000),
        ([("BTC", "-0.0000002")], 128_000_200),  # at the fill's price, 64000.1
        ([("BGB", "-0.5")], 0),  # not of this wallet; the equity check finds it if it was
        ([("", "0")], 0),
    ],
)
async def test_a_fee_by_coin_and_sign(lines: list[tuple[str, str]], fee_e10: int) -> None:
    detail = [{"feeCoin": coin, "totalFee": total} for coin, total in lines]
    venue = Venue({FILLS: by_id([fill(1, feeDetail=detail, clientOid="x")], "tradeId", "fillList")})
    assert [each.fee_e10 for each in await reads.fills(SCALE, venue, LONG_AGO)] == [fee_e10]


@pytest.mark.parametrize(
    ("line", "fee_e10", "fees_in"),
    [
        ({"feeCoin": "USDT", "totalFee": "-0.0128"}, 128_000_000, set[str]()),
        ({"feeCoin": "USDT", "totalFee": "-0.0128", "deduction": "no"}, 128_000_000, set[str]()),
        ({"feeCoin": "USDT", "totalFee": "-0.0128", "deduction": "yes"}, 128_000_000, {"a deduction"}),
        ({"feeCoin": "USDT", "totalFee": "-0.0128", "deduction": True}, 128_000_000, {"a deduction"}),
        ({"feeCoin": "BGB", "totalFee": "-0.5"}, 0, {"BGB"}),
        ({"feeCoin": "BGB", "totalFee": "0", "deduction": "yes"}, 0, set[str]()),
        ({"feeCoin": "BTC", "totalFee": "-0.0000002"}, 128_000_200, {"BTC"}),
        ({"feeCoin": "x\n" * 20, "totalFee": "-1"}, 0, {"another coin"}),
    ],
)
async def test_what_a_fee_was_paid_in_is_remembered(line: dict[str, Any], fee_e10: int, fees_in: set[str]) -> None:
    row, elsewhere = fill(1, feeDetail=[line], clientOid="x"), set[str]()
    venue = Venue({FILLS: by_id([row], "tradeId", "fillList", "cTime")})
    told = await reads.fills(SCALE, venue, LONG_AGO, None, elsewhere)
    assert [each.fee_e10 for each in told] == [fee_e10]
    assert elsewhere == fees_in


async def test_a_new_fill_that_does_not_show_its_fee_stops_the_reading() -> None:
    row = fill(1, feeDetail=[], clientOid="x", cTime=str(NOW_MS - 59_000))
    with pytest.raises(VenueUnavailable, match="fee: no_fee"):
        await reads.fills(SCALE, Venue({FILLS: by_id([row], "tradeId", "fillList", "cTime")}), LONG_AGO)


@pytest.mark.parametrize(("scope", "fee_e10"), [("maker", 128_000_200), ("taker", 384_000_600)])
async def test_one_that_never_showed_it_was_charged_the_accounts_own_rate(scope: str, fee_e10: int) -> None:
    row = fill(1, feeDetail=[], clientOid="x", tradeScope=scope, cTime=str(NOW_MS - 61_000))
    venue = Venue(
        {
            FILLS: by_id([row], "tradeId", "fillList", "cTime"),
            FEES: always({"makerFeeRate": "0.0002", "takerFeeRate": "0.0006"}),
        }
    )
    assert [each.fee_e10 for each in await reads.fills(SCALE, venue, LONG_AGO)] == [fee_e10]
    with pytest.raises(VenueUnavailable):  # nor is a rate that was not read a fee of nothing
        await reads.fills(
            SCALE, Venue({FILLS: by_id([row], "tradeId", "fillList", "cTime"), FEES: always({})}), LONG_AGO
        )


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"feeDetail": None}, "feeDetail"),
        ({"feeDetail": [{"feeCoin": "", "totalFee": "-1"}]}, "fee: fee_coin"),
        ({"feeDetail": [{"feeCoin": "USDT", "totalFee": ""}]}, "totalFee"),
        ({"tradeSide": "who_knows"}, "tradeSide"),
        ({"tradeScope": "both"}, "tradeScope"),
        ({"tradeId": "abc"}, "id: not_a_number"),
        ({"price": "0"}, "price: not_positive"),
        ({"baseVolume": "0"}, "baseVolume: is zero"),
        ({"feeDetail": [{"feeCoin": "USDT", "totalFee": "-1e20"}]}, "fee: absurd"),
        ({"cTime": "0"}, "cTime: bad_time"),
        ({"cTime": 1.5}, "cTime"),
    ],
)
async def test_a_fill_that_cannot_be_read_stops_the_reading(changed: dict[str, Any], field: str) -> None:
    rows = [fill(1, clientOid="x"), fill(2, clientOid="x") | changed]
    with pytest.raises(VenueUnavailable, match=field):
        await reads.fills(SCALE, Venue({FILLS: in_turn({"fillList": rows}, {"fillList": []})}), LONG_AGO)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("open", ExecKind.TRADE),
        ("burst_sell_single", ExecKind.LIQUIDATION),
        ("reduce_close_long", ExecKind.LIQUIDATION),
        ("dte_sys_adl_sell_in_single_side_mode", ExecKind.ADL),
    ],
)
async def test_the_venues_own_doings_are_no_trades(word: str, kind: ExecKind) -> None:
    venue = Venue({FILLS: by_id([fill(1, tradeSide=word, clientOid="x")], "tradeId", "fillList")})
    assert [each.exec_kind for each in await reads.fills(SCALE, venue, LONG_AGO)] == [kind]


# --- bills ------------------------------------------------------------------------------------------------------------


async def test_bills_are_what_no_fill_carries() -> None:
    rows = [
        bill(1, "contract_settle_fee", "-0.004992"),
        bill(2, "trans_to_exchange", "-11.64958799", symbol=""),
        bill(3, "trans_from_exchange", "100", symbol=""),
        bill(4, "buy", "0", fee="-0.0128"),
        bill(5, "close_long", "-0.0007", fee="-0.02236284"),
        bill(6, "append_margin", "-5"),
        bill(7, "burst_sell", "-3", fee="-1"),
        bill(8, "contract_settle_fee", "0.3"),
    ]
    told = await reads.bills(SCALE, Venue({BILLS: by_id(rows, "billId", "bills", "cTime")}), LONG_AGO)
    assert [(each.bill_id, each.kind, each.amount_e10) for each in told] == [
        ("1", BillKind.FUNDING, -49_920_000),
        ("2", BillKind.TRANSFER, -116_495_879_900),
        ("3", BillKind.TRANSFER, 1_000_000_000_000),
        ("8", BillKind.FUNDING, 3_000_000_000),
    ]
    assert told[0].venue_ts_ns == (NOW_MS - 999) * MS


@pytest.mark.parametrize(
    ("row", "kind", "amount_e10"),
    [
        (bill(1, "news_to_us", "-2"), BillKind.FEE, -20_000_000_000),
        (bill(1, "news_to_us", "2"), BillKind.TRANSFER, 20_000_000_000),
        (bill(1, "risk_captured_user_transfer", "-2"), BillKind.FEE, -20_000_000_000),
        (bill(1, "close_short", "7", fee="-1", symbol="ETHUSDT"), BillKind.TRANSFER, 60_000_000_000),
        (bill(1, "contract_settle_fee", "7", symbol="ETHUSDT"), BillKind.TRANSFER, 70_000_000_000),
    ],
)
async def test_what_moved_the_wallet_is_booked_under_some_kind(row: Any, kind: BillKind, amount_e10: int) -> None:
    """A word nobody knows is never a profit; another contract's result is not this daemon's, but moved its wallet."""
    told = await reads.bills(SCALE, Venue({BILLS: by_id([row], "billId", "bills")}), LONG_AGO)
    assert [(each.kind, each.amount_e10) for each in told] == [(kind, amount_e10)]


async def test_a_bill_in_another_coin_is_of_another_wallet() -> None:
    venue = Venue({BILLS: by_id([bill(1, "trans_to_exchange", "-1", coin="BTC")], "billId", "bills")})
    assert await reads.bills(SCALE, venue, LONG_AGO) == []


@pytest.mark.parametrize("changed", [{"amount": "x"}, {"amount": None}, {"fee": 0.5}, {"businessType": None}])
async def test_a_bill_that_cannot_be_read_stops_the_reading(changed: dict[str, Any]) -> None:
    row = bill(1, "contract_settle_fee", "1") | changed
    with pytest.raises(VenueUnavailable, match=BILLS):
        await reads.bills(SCALE, Venue({BILLS: in_turn({"bills": [row]}, {"bills": []})}), LONG_AGO)


# --- the account ------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_one_picture() -> None:
    venue = Venue({ACCOUNT: always(account()), POSITION: always([position()])})
    told = await reads.snapshot(SCALE, venue)
    assert (told.position_lots, told.wallet_e10, told.mark_px_ticks) == (20, 10_001_400_000_000, 640_000)
    # 0.002 x (64000.0 - 63750.25), at the mark that is told, not the venue's figure of another moment.
    assert told.unrealised_e10 == 4_995_000_000
    assert told.available_margin_e10 == 9_005_000_000_000
    assert told.venue_ts_ns == NOW_MS * MS


async def test_a_short_position_gains_when_mark_falls() -> None:
    venue = Venue({ACCOUNT: always(account()), POSITION: always([position(holdSide="short")])})
    told = await reads.snapshot(SCALE, venue)
    assert (told.position_lots, told.unrealised_e10) == (-20, -4_995_000_000)


async def test_both_sides_of_a_hedged_account_are_netted() -> None:
    rows = [position(total="0.005"), position(holdSide="short", total="0.002", openPriceAvg="64100")]
    told = await reads.snapshot(SCALE, Venue({ACCOUNT: always(account()), POSITION: always(rows)}))
    assert told.position_lots == 30
    assert told.unrealised_e10 == 12_487_500_000 + 2_000_000_000


async def test_a_flat_account_takes_its_mark_from_the_market() -> None:
    for flat in (None, [], [position(total="0", openPriceAvg="", markPrice="1")]):
        venue = Venue({ACCOUNT: always(account()), POSITION: always(flat), PRICE: always(price())})
        told = await reads.snapshot(SCALE, venue)
        assert (told.position_lots, told.unrealised_e10, told.mark_px_ticks) == (0, 0, 640_000)


async def test_a_wallet_that_moved_meanwhile_is_read_again() -> None:
    """A fill came between the wallet and the position: the pair would be wrong by its fee."""
    before, after = account(accountEquity="1000.64"), account(accountEquity="1000.60")
    venue = Venue(
        {ACCOUNT: in_turn(before, after), POSITION: in_turn([position(total="0.001")], [position(total="0.002")])}
    )
    told = await reads.snapshot(SCALE, venue)
    assert (told.position_lots, told.wallet_e10) == (20, 10_001_000_000_000)
    assert venue.counts == {ACCOUNT: 3, POSITION: 2}


async def test_an_account_that_never_keeps_still_has_no_snapshot() -> None:
    cents = iter(range(1_000))
    venue = Venue({ACCOUNT: lambda _: account(accountEquity=f"1000.{next(cents):03}"), POSITION: always([position()])})
    with pytest.raises(VenueUnavailable, match="wallet moved"):
        await reads.snapshot(SCALE, venue)


@pytest.mark.parametrize(
    ("said", "holds", "field"),
    [
        ({"accountEquity": ""}, {}, "accountEquity"),
        ({"accountEquity": None}, {}, "accountEquity"),
        ({"unrealizedPL": ""}, {}, "unrealizedPL"),
        ({"accountEquity": "9e8", "unrealizedPL": "-9e8"}, {}, "absurd amount"),
        ({}, {"openPriceAvg": "9e20"}, "absurd amount"),
        ({"crossedMaxAvailable": "lots"}, {}, "available"),
        ({"marginCoin": "BTC"}, {}, "marginCoin"),
        ({"marginMode": "portfolio"}, {}, "marginMode"),
        ({}, {"holdSide": "net"}, "side"),
        ({}, {"total": "x"}, "total"),
        ({}, {"openPriceAvg": ""}, "average price"),
        ({}, {"openPriceAvg": None}, "average price"),
        ({}, {"openPriceAvg": "0"}, "average price"),
        ({}, {"markPrice": "0"}, "markPrice"),
    ],
)
async def test_a_snapshot_is_whole_or_none(said: dict[str, Any], holds: dict[str, Any], field: str) -> None:
    venue = Venue({ACCOUNT: always(account(**said)), POSITION: always([position(**holds)])})
    with pytest.raises(VenueUnavailable, match=field):
        await reads.snapshot(SCALE, venue)


async def test_facts_of_the_account_and_the_key() -> None:
    key = {"userId": "7264631750", "authorities": ["coor", "cpor", "coow", "cpow", "wtow"]}
    told = await reads.facts(SCALE, Venue({KEY: always(key), ACCOUNT: always(account())}), 0.25)
    assert (told.account, told.position_mode, told.margin_mode) == ("7264631750", "one_way", "crossed")
    assert (told.leverage, told.can_trade, told.can_withdraw, told.clock_offset_s) == (20.0, True, False, 0.25)


async def test_what_a_person_may_have_changed_is_told() -> None:
    key = {"userId": 7, "authorities": ["coor", "coow", "wwow"]}
    said = account(posMode="hedge_mode", marginMode="isolated")
    told = await reads.facts(SCALE, Venue({KEY: always(key), ACCOUNT: always(said)}), 0.0)
    assert (told.position_mode, told.margin_mode, told.leverage) == ("hedge", "isolated", 12.0)
    assert (told.can_trade, told.can_withdraw) == (False, True)


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ({"userId": "7", "authorities": ["coow", "cpow", "zzzz"]}, "authorities"),
        ({"userId": "7", "authorities": None}, "authorities"),
        ({"userId": "7"}, "authorities"),
    ],
)
async def test_permissions_that_cannot_be_told_are_not_none(key: dict[str, Any], field: str) -> None:
    with pytest.raises(VenueUnavailable, match=field):
        await reads.facts(SCALE, Venue({KEY: always(key), ACCOUNT: always(account())}), 0.0)


async def test_the_accounts_own_rates() -> None:
    venue = Venue({FEES: always({"makerFeeRate": "-0.00005", "takerFeeRate": "0.0006"})})
    told = await reads.fees(SCALE, venue)
    assert (told.maker_rate, told.taker_rate, told.venue_ts_ns) == (-0.00005, 0.0006, NOW_MS * MS)
    assert "trade-rate" in told.source
    with pytest.raises(VenueUnavailable, match="makerFeeRate: absurd"):
        await reads.fees(SCALE, Venue({FEES: always({"makerFeeRate": "2", "takerFeeRate": "0.0006"})}))


# --- the market -------------------------------------------------------------------------------------------------------


def candle(minutes_ago: int, close: str = "64000.5", volume: str = "1.5") -> list[str]:
    at_ms = (NOW_MS // 60_000 - minutes_ago) * 60_000
    return [str(at_ms), "64000", "64001", "63999.5", close, volume, "96000"]


async def test_only_closed_minutes_oldest_first() -> None:
    venue = Venue({CANDLES: always([candle(1), candle(3), candle(0), candle(2)])})
    told = await reads.candles(SCALE, venue, 3)
    assert [each.open_ts_ns for each in told] == [(NOW_MS // 60_000 - ago) * 60_000 * MS for ago in (3, 2, 1)]
    assert (told[0].close_ticks, told[0].qty_lots, told[0].source) == (640_005, 15_000, "venue")
    assert told[0].venue_ts_ns == told[0].open_ts_ns + 60_000 * MS
    assert venue.asked[0][1]["limit"] == "4"


async def test_more_candles_than_a_page_has() -> None:
    def page(params: Any) -> Any:
        before = int(params.get("endTime", NOW_MS))
        found = [row for ago in range(1_600, -1, -1) if int((row := candle(ago))[0]) <= before]
        return found[-int(params["limit"]) :]

    told = await reads.candles(SCALE, Venue({CANDLES: page}), 1_500)
    opens = [each.open_ts_ns for each in told]
    assert len(told) == 1_500
    assert all(after - before == 60_000 * MS for before, after in pairwise(opens))
    assert opens[-1] == (NOW_MS // 60_000 - 1) * 60_000 * MS


@pytest.mark.parametrize(
    "row", [candle(1)[:5], ["x", *candle(1)[1:]], candle(1, close="70000"), candle(1, volume="-1"), [None] * 7]
)
async def test_a_candle_that_cannot_be_read_is_refused(row: Any) -> None:
    with pytest.raises(VenueUnavailable, match=CANDLES):
        await reads.candles(SCALE, Venue({CANDLES: always([candle(2), row])}), 5)


async def test_no_candles_are_none() -> None:
    assert await reads.candles(SCALE, Venue({CANDLES: always([])}), 5) == []
    assert await reads.candles(SCALE, Venue({CANDLES: always([candle(0)])}), 5) == []


async def test_funding_has_its_own_interval() -> None:
    row = {"symbol": "BTCUSDT", "fundingRate": "-0.000013", "fundingRateInterval": "4", "nextUpdate": str(NOW_MS + 1)}
    told = await reads.funding(SCALE, Venue({FUNDING: always([row])}))
    assert (told.rate, told.interval_s, told.next_ts_ns) == (-0.000013, 14_400, (NOW_MS + 1) * MS)
    for spoilt in ({"fundingRateInterval": "0"}, {"nextUpdate": ""}, {"fundingRate": "nan"}, {"symbol": "ETHUSDT"}):
        with pytest.raises(VenueUnavailable, match=FUNDING):
            await reads.funding(SCALE, Venue({FUNDING: always([row | spoilt])}))


async def test_the_mark_is_rounded_to_a_tick() -> None:
    told = await reads.mark(SCALE, Venue({PRICE: always(price("64000.06"))}))
    assert (told.px_ticks, told.venue_ts_ns) == (640_001, (NOW_MS - 5) * MS)
    with pytest.raises(VenueUnavailable, match="none"):
        await reads.mark(SCALE, Venue({PRICE: always([])}))


def contract(**changed: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "quoteCoin": "USDT",
        "minTradeNum": "0.0001",
        "priceEndStep": "1",
        "volumePlace": "4",
        "pricePlace": "1",
        "sizeMultiplier": "0.0001",
        "minTradeUSDT": "5",
        "maxOrderQty": "1200",
    } | changed


async def test_the_contracts_rules() -> None:
    assert await reads.read_instrument(Venue({CONTRACTS: always([contract()])}), "BTCUSDT") == BTC


async def test_a_tick_is_a_step_of_its_place() -> None:
    rules = contract(priceEndStep="5", pricePlace="2", sizeMultiplier="0.01", minTradeNum="0.015", maxOrderQty="")
    told = await reads.read_instrument(Venue({CONTRACTS: always([rules])}), "BTCUSDT")
    assert (told.tick_e10, told.lot_e10, told.min_qty_lots) == (500_000_000, 100_000_000, 2)
    assert told.max_qty_lots == 1_000_000_000


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"quoteCoin": "USDC"}, "quoteCoin"),
        ({"priceEndStep": "0"}, "tick or lot"),
        ({"sizeMultiplier": "-1"}, "tick or lot"),
        ({"pricePlace": "1.5"}, "pricePlace"),
        ({"pricePlace": "99"}, "pricePlace"),
        ({"sizeMultiplier": "0.0000001", "pricePlace": "8"}, "could not be kept exactly"),
        ({"minTradeUSDT": ""}, "least value"),
        ({"symbol": "ETHUSDT"}, "none"),
    ],
)
async def test_rules_that_money_cannot_be_kept_by_are_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(VenueUnavailable, match=why):
        await reads.read_instrument(Venue({CONTRACTS: always([contract(**changed)])}), "BTCUSDT")


# --- the stop ---------------------------------------------------------------------------------------------------------


class Stops(Venue):
    """Keeps whole-position stops as the venue does."""

    def __init__(self, *plans: dict[str, Any], held: Any = None) -> None:
        super().__init__({POSITION: always([position()] if held is None else held)})
        self.plans = list(plans)
        self.replies |= {PLANS: self._pending, PLACE: self._place, MOVE: self._move, CANCEL: self._cancel}

    def _pending(self, params: Any) -> Any:
        assert params["planType"] == "profit_loss"
        return {"entrustedList": self.plans or None, "endId": None}

    def _place(self, params: Any) -> Any:
        self.plans.append(plan(900 + len(self.plans), params["triggerPrice"], params["planType"]))
        return {"orderId": "900", "clientOid": "x"}

    def _move(self, params: Any) -> Any:
        assert params["size"] == ""
        self.plans = [
            each | {"triggerPrice": params["triggerPrice"]} if each["orderId"] == params["orderId"] else each
            for each in self.plans
        ]
        return {"orderId": params["orderId"]}

    def _cancel(self, params: Any) -> Any:
        gone = {each["orderId"] for each in params["orderIdList"]}
        self.plans = [each for each in self.plans if each["orderId"] not in gone]
        return {"successList": [], "failureList": []}

    @property
    def sent(self) -> list[str]:
        return [path for path, _ in self.asked if path in (PLACE, MOVE, CANCEL)]


def plan(n: int, trigger: str, kind: str = "pos_loss", **changed: Any) -> dict[str, Any]:
    return {
        "planType": kind,
        "symbol": "BTCUSDT",
        "orderId": str(n),
        "clientOid": str(n),
        "triggerPrice": trigger,
        "triggerType": "mark_price",
        "planStatus": "live",
        "posSide": "net",
    } | changed


STOP = PositionStop(600_000)


async def test_a_stop_is_placed_once_on_the_mark_for_the_side_that_is_held() -> None:
    venue = Stops()
    await reads.protect(SCALE, venue, STOP)
    await reads.protect(SCALE, venue, STOP)
    assert venue.sent == [PLACE]
    assert venue.asked_of(PLACE) == [
        {
            "symbol": "BTCUSDT",
            "productType": "USDT-FUTURES",
            "marginCoin": "USDT",
            "planType": "pos_loss",
            "triggerPrice": "60000",
            "triggerType": "mark_price",
            "holdSide": "buy",
        }
    ]
    short = Stops(held=[position(holdSide="short")])
    await reads.protect(SCALE, short, PositionStop(680_000))
    assert short.asked_of(PLACE)[0]["holdSide"] == "sell"


async def test_a_stop_elsewhere_is_moved_so_that_there_is_always_one() -> None:
    venue = Stops(plan(1, "59000"))
    await reads.protect(SCALE, venue, STOP)
    assert (venue.sent, [each["triggerPrice"] for each in venue.plans]) == ([MOVE], ["60000"])


async def test_the_old_stop_stays_where_the_new_price_is_refused() -> None:
    venue = Stops(plan(1, "59000"))
    venue.replies[MOVE] = always(Refused(Meaning.REFUSED, "40917"))
    with pytest.raises(Refused):
        await reads.protect(SCALE, venue, STOP)
    assert [each["triggerPrice"] for each in venue.plans] == ["59000"]


async def test_a_stop_that_is_not_wanted_any_more_is_taken_away() -> None:
    venue = Stops(plan(1, "60000"), plan(2, "59000"), plan(3, "50000", "loss_plan"), held=[])
    await reads.protect(SCALE, venue, None)
    assert [each["orderId"] for each in venue.plans] == ["3"], "a person's stop of a part is left alone"
    await reads.protect(SCALE, venue, None)
    assert venue.sent == [CANCEL, CANCEL]


async def test_a_second_stop_is_taken_away() -> None:
    venue = Stops(plan(1, "60000"), plan(2, "59000"))
    await reads.protect(SCALE, venue, STOP)
    assert [each["orderId"] for each in venue.plans] == ["1"]


async def test_a_stop_on_the_last_price_is_not_the_one_asked_for() -> None:
    venue = Stops(plan(1, "60000", triggerType="fill_price"))
    venue.replies[MOVE] = lambda params: venue.plans[0].update(triggerType=params["triggerType"])
    await reads.protect(SCALE, venue, STOP)
    assert venue.sent == [MOVE]


async def test_a_stop_that_never_shows_is_not_believed() -> None:
    venue = Stops()
    venue.replies[PLACE] = always({"orderId": "1"})
    with pytest.raises(VenueUnavailable, match="not as asked"):
        await reads.protect(SCALE, venue, STOP)
    assert venue.sent == [PLACE], "not twice"


async def test_a_stop_gone_meanwhile_is_no_failure() -> None:
    venue = Stops(plan(1, "60000"))

    def gone(_: Any) -> Any:
        venue.plans.clear()
        return Refused(Meaning.NOT_FOUND, "43025")

    venue.replies[CANCEL] = gone
    await reads.protect(SCALE, venue, None)


async def test_there_is_nothing_to_protect_without_a_position() -> None:
    with pytest.raises(VenueUnavailable, match="no position"):
        await reads.protect(SCALE, Stops(held=[]), STOP)


# --- every read -------------------------------------------------------------------------------------------------------

Read = Callable[[Venue], Awaitable[Any]]
READS: dict[str, tuple[str, Read]] = {
    "order": (DETAIL, lambda venue: reads.order(SCALE, venue, "mmabcd-1-1")),
    "open_orders": (PENDING, lambda venue: reads.open_orders(SCALE, venue)),
    "fills": (FILLS, lambda venue: reads.fills(SCALE, venue, LONG_AGO)),
    "bills": (BILLS, lambda venue: reads.bills(SCALE, venue, LONG_AGO)),
    "snapshot": (ACCOUNT, lambda venue: reads.snapshot(SCALE, venue)),
    "facts": (KEY, lambda venue: reads.facts(SCALE, venue, 0.0)),
    "fees": (FEES, lambda venue: reads.fees(SCALE, venue)),
    "candles": (CANDLES, lambda venue: reads.candles(SCALE, venue, 5)),
    "funding": (FUNDING, lambda venue: reads.funding(SCALE, venue)),
    "mark": (PRICE, lambda venue: reads.mark(SCALE, venue)),
    "instrument": (CONTRACTS, lambda venue: reads.read_instrument(venue, "BTCUSDT")),
    "protect": (PLANS, lambda venue: reads.protect(SCALE, venue, None)),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("data", [b"", b"{", b'"secret"', b"[[[[", b"7", b'{"a":', b"[" * 100_000, b"true"])
async def test_rubbish_is_unavailable_and_never_quoted(name: str, data: bytes) -> None:
    path, read = READS[name]
    with pytest.raises(VenueUnavailable) as raised:
        await read(Venue({path: always(data)}))
    assert path in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("error", [Unanswered("timeout"), Refused(Meaning.WRONG_API, "40085")])
async def test_no_answer_is_no_empty_answer(name: str, error: Exception) -> None:
    """They come through as they are: the adapter says what a person is to do."""
    path, read = READS[name]
    with pytest.raises(type(error)):
        await read(Venue({path: always(error)}))


@pytest.mark.parametrize("name", READS)
async def test_an_answer_without_a_time_is_none(name: str) -> None:
    path, read = READS[name]
    venue = Venue({path: always([])})
    venue.now_ms = 0
    with pytest.raises(VenueUnavailable, match="requestTime"):
        await read(venue)


# --- the venue's own samples ------------------------------------------------------------------------------------------


def test_the_venues_samples_decode(shared_data: Path) -> None:
    """Rows as documented. A sample without a field that is read here is of another call, or older than it."""
    samples = json.loads((shared_data / "bitget_messages" / "rest_examples.json").read_text())

    def data(method: str, has: str) -> bytes:
        found = [each["example"] for each in samples[method] if has in json.dumps(each["example"])]
        return json.dumps(next(each["data"] for each in found if "data" in each)).encode()

    assert wire.ORDER.decode(data("fetch_order", '"state"')).order_id == "1111465253393825792"
    assert wire.OPEN_ORDERS.decode(data("fetch_open_orders", '"entrustedList"')) is not None
    fills = wire.FILLS.decode(data("fetch_my_trades", '"fillList"'))
    assert fills is not None
    assert [row.fee_detail[0].total_fee for row in fills.fill_list or ()] == ["-0.02236284"]
    bills = wire.BILLS.decode(data("fetch_ledger", '"bills"'))
    assert bills is not None
    assert [row.business_type for row in bills.bills or ()] == ["trans_to_exchange"]
    held = wire.POSITIONS.decode(data("fetch_position", '"holdSide"'))
    assert [(row.hold_side, row.total, row.open_price_avg) for row in held or ()] == [("long", "0.002", "37355.5")]
    assert wire.ACCOUNT.decode(data("fetch_leverage", '"crossedMarginLeverage"')).pos_mode == "hedge_mode"
    assert wire.FEES.decode(data("fetch_trading_fee", '"makerFeeRate"')).maker_fee_rate == "0.001"
    funding = wire.FUNDING.decode(data("fetch_funding_rate", '"fundingRateInterval"'))
    assert [row.next_update for row in funding or ()] == ["1750924800000"]
    contract_row = next(each for each in samples["fetch_default_markets"] if "priceEndStep" in each["example"])
    assert wire.CONTRACTS.decode(json.dumps([contract_row["example"]])) is not None
