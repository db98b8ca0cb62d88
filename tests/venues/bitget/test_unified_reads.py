"""The unified account's reads, against rows as the venue (and the emulator) writes them, and against hostile ones."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mmdaemon.core.events import BillKind
from mmdaemon.core.types import ExecKind, Liquidity, OrderStatus, Side
from mmdaemon.venues.base import Absent, Cursor, PositionStop, VenueUnavailable
from mmdaemon.venues.bitget import unified_reads as reads
from mmdaemon.venues.bitget import unified_rows as wire
from mmdaemon.venues.bitget.api import Meaning, Refused, Unanswered
from mmdaemon.venues.bitget.names import Names
from tests.venues.bitget.answering import BTC, MS, NOW_MS, SCALE, Reply, Venue, always, in_turn

ORDER, OPEN, FILLS = "/api/v3/trade/order-info", "/api/v3/trade/unfilled-orders", "/api/v3/trade/fills"
BILLS, ASSETS = "/api/v3/account/financial-records", "/api/v3/account/assets"
POSITION, SETTINGS = "/api/v3/position/current-position", "/api/v3/account/settings"
KEY, FEES, TICKERS = "/api/v3/account/info", "/api/v3/account/fee-rate", "/api/v3/market/tickers"
CANDLES, FUNDING = "/api/v3/market/candles", "/api/v3/market/current-fund-rate"
RULES = "/api/v3/market/instruments"
PENDING, PLACE = "/api/v3/trade/unfilled-strategy-orders", "/api/v3/trade/place-strategy-order"
MOVE, CANCEL = "/api/v3/trade/modify-strategy-order", "/api/v3/trade/cancel-strategy-order"
LONG_AGO = Cursor((NOW_MS - 3_600_000) * MS)


def listed(rows: Sequence[Mapping[str, Any]], field: str, time: str = "") -> Reply:
    """A list of a unified account: newest first after an opaque cursor; `null` when empty."""

    def page(params: Mapping[str, Any]) -> Any:
        below = int(str(params.get("cursor", f"c{1 << 62}"))[1:])
        first, last = int(params.get("startTime", 0)), int(params.get("endTime", 1 << 62))
        fits = [row for row in rows if int(row[field]) < below and (not time or first <= int(row[time]) <= last)]
        if "category" in params:
            fits = [row for row in fits if row.get("category", "USDT-FUTURES") == params["category"]]
        found = sorted(fits, key=lambda row: int(row[field]), reverse=True)[: int(params.get("limit", 100))]
        return {"list": found or None, "cursor": f"c{found[-1][field]}" if found else None}

    return page


def order(n: int = 1, **changed: Any) -> dict[str, Any]:
    return {
        "orderId": str(n),
        "clientOid": f"mmabcd-1-{n}",
        "category": "USDT-FUTURES",
        "symbol": "BTCUSDT",
        "orderType": "limit",
        "side": "buy",
        "price": "64000.1",
        "qty": "0.0200",
        "cumExecQty": "0",
        "avgPrice": "0",
        "timeInForce": "post_only",
        "orderStatus": "live",
        "posSide": "net",
        "reduceOnly": "NO",
        "feeDetail": [{"feeCoin": "", "fee": ""}],
        "createdTime": str(NOW_MS),
        "updatedTime": str(NOW_MS),
    } | changed


def fill(n: int, **changed: Any) -> dict[str, Any]:
    return {
        "execId": str(n),
        "orderId": "9",
        "category": "USDT-FUTURES",
        "symbol": "BTCUSDT",
        "side": "sell",
        "execPrice": "64000.1",
        "execQty": "0.001",
        "tradeScope": "maker",
        "tradeSide": "sell_single",
        "feeDetail": [{"feeCoin": "USDT", "fee": "0.0128"}],
        "createdTime": str(NOW_MS - 1_000 + n),
        "updatedTime": str(NOW_MS - 1_000 + n),
    } | changed


def record(n: int, word: str, amount: str, fee: str = "0", **changed: Any) -> dict[str, Any]:
    return {
        "category": "USDT-FUTURES",
        "id": str(n),
        "symbol": "BTCUSDT",
        "coin": "USDT",
        "type": word,
        "amount": amount,
        "fee": fee,
        "balance": "1000",
        "ts": str(NOW_MS - 1_000 + n),
    } | changed


def assets(ours: Mapping[str, Any] | None = None, **changed: Any) -> dict[str, Any]:
    usdt = {"coin": "USDT", "equity": "1000.64", "balance": "1000.14", "available": "950", "debt": "0", "locked": "0"}
    return {
        "accountEquity": "1100",
        "effEquity": "1000.64",
        "mmr": "1",
        "imr": "100.14",
        "assets": [{"coin": "BTC", "balance": "1", "available": "1", "debt": "0"}, usdt | dict(ours or {})],
    } | changed


def position(**changed: Any) -> dict[str, Any]:
    return {
        "category": "USDT-FUTURES",
        "symbol": "BTCUSDT",
        "marginCoin": "USDT",
        "holdMode": "one_way_mode",
        "posSide": "long",
        "marginMode": "crossed",
        "total": "0.002",
        "leverage": "20",
        "avgPrice": "63750.25",
        "unrealisedPnl": "0.4999",
        "markPrice": "64000.04",
    } | changed


def holding(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"list": list(rows) or None}


def ticker(mark: str = "64000.04", **changed: Any) -> list[dict[str, Any]]:
    return [{"category": "USDT-FUTURES", "symbol": "BTCUSDT", "ts": str(NOW_MS - 5), "markPrice": mark} | changed]


# --- orders -----------------------------------------------------------------------------------------------------------


async def test_an_order_is_asked_for_by_our_id() -> None:
    venue = Venue({ORDER: always(order(7, orderStatus="partially_filled", cumExecQty="0.005", reduceOnly="yes"))})
    told = await reads.order(SCALE, venue, "mmabcd-1-7")
    assert not isinstance(told, Absent)
    assert (told.client_id, told.side, told.px_ticks, told.qty_lots) == ("mmabcd-1-7", Side.BUY, 640_001, 200)
    assert (told.cum_filled_lots, told.status, told.reduce_only) == (50, OrderStatus.PARTIAL, True)
    assert venue.asked == [(ORDER, {"clientOid": "mmabcd-1-7"})]


async def test_not_found_is_absent_and_every_other_refusal_is_none() -> None:
    venue = Venue({ORDER: in_turn(Refused(Meaning.NOT_FOUND, "25204"), Refused(Meaning.UNKNOWN, "25001"))})
    assert await reads.order(SCALE, venue, "mmabcd-1-7") == Absent("mmabcd-1-7")
    with pytest.raises(Refused):
        await reads.order(SCALE, venue, "mmabcd-1-7")


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"orderStatus": "weird"}, "status: an unknown word"),
        ({"orderStatus": None}, "orderStatus"),
        ({"orderId": "8", "clientOid": "mmabcd-1-8"}, "another order"),
        ({"symbol": "ETHUSDT"}, "another contract"),
        ({"qty": "0.00005"}, "size: off_lot"),
        ({"cumExecQty": ""}, "filled: not_a_number"),
        ({"cumExecQty": "1"}, "filled: is more than the size"),
        ({"reduceOnly": None}, "reduceOnly"),
    ],
)
async def test_an_order_that_cannot_be_read_is_never_guessed(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(VenueUnavailable, match=field):
        await reads.order(SCALE, Venue({ORDER: always(order(**changed))}), "mmabcd-1-1")


async def test_open_orders_come_from_all_pages() -> None:
    rows = [order(n) for n in range(1, 251)] + [order(300, symbol="ETHUSDT")]
    told = await reads.open_orders(SCALE, Venue({OPEN: listed(rows, "orderId")}))
    assert sorted(each.client_id for each in told) == sorted(f"mmabcd-1-{n}" for n in range(1, 251))


@pytest.mark.parametrize("empty", [None, {"list": None, "cursor": None}, {"list": [], "cursor": ""}, {"list": []}])
async def test_no_open_orders_are_null_or_an_empty_list(empty: Any) -> None:
    assert await reads.open_orders(SCALE, Venue({OPEN: always(empty)})) == []


async def test_a_list_that_is_missing_is_not_an_empty_one() -> None:
    with pytest.raises(VenueUnavailable, match="list"):
        await reads.open_orders(SCALE, Venue({OPEN: always({"cursor": None})}))


async def test_a_page_that_repeats_its_cursor_is_refused() -> None:
    told = {"list": [order(5)], "cursor": "c5"}
    with pytest.raises(VenueUnavailable, match="comes again"):
        await reads.open_orders(SCALE, Venue({OPEN: always(told)}))


# --- fills ------------------------------------------------------------------------------------------------------------


async def test_a_fill_is_named_by_its_order() -> None:
    rows = [fill(1), fill(2), fill(3, orderId="10"), fill(4, symbol="ETHUSDT", execPrice="1.234567")]
    venue = Venue(
        {
            FILLS: listed(rows, "execId", "createdTime"),
            ORDER: lambda params: order(int(params["orderId"]), orderStatus="filled"),
        }
    )
    names = Names()
    told = await reads.fills(SCALE, venue, LONG_AGO, names)
    assert [(each.trade_id, each.client_id) for each in told] == [
        ("1", "mmabcd-1-9"),
        ("2", "mmabcd-1-9"),
        ("3", "mmabcd-1-10"),
    ]
    await reads.fills(SCALE, venue, LONG_AGO, names)
    assert venue.counts[ORDER] == 2
    first = told[0]
    assert (first.side, first.px_ticks, first.qty_lots, first.fee_e10) == (Side.SELL, 640_001, 10, 128_000_000)
    assert (first.liquidity, first.exec_kind) == (Liquidity.MAKER, ExecKind.TRADE)
    assert (first.venue_ts_ns, first.mono_ns, first.ts_ns) == ((NOW_MS - 999) * MS, 0, 0)


async def test_a_fill_of_an_order_that_the_venue_forgot_is_not_lost() -> None:
    rows = [fill(1, createdTime=str(NOW_MS - 601_000))]
    venue = Venue({FILLS: listed(rows, "execId"), ORDER: always(Refused(Meaning.NOT_FOUND, "25204"))})
    assert [each.client_id for each in await reads.fills(SCALE, venue, LONG_AGO)] == ["venue:9"]


async def test_a_new_fill_whose_order_a_replica_does_not_show_is_not_a_manual_trade() -> None:
    """Booked under the venue's name it would be, and our order would never be freed of it."""
    rows = [fill(1, createdTime=str(NOW_MS - 1_000))]
    replies = {
        FILLS: listed(rows, "execId"),
        ORDER: in_turn(Refused(Meaning.NOT_FOUND, "25204"), order(9, orderStatus="filled")),
    }
    venue, names = Venue(replies), Names()
    with pytest.raises(VenueUnavailable, match="not shown yet"):
        await reads.fills(SCALE, venue, LONG_AGO, names)
    assert [each.client_id for each in await reads.fills(SCALE, venue, LONG_AGO, names)] == ["mmabcd-1-9"]


async def test_a_liquidation_is_of_no_order_of_ours() -> None:
    venue = Venue({FILLS: listed([fill(1, tradeSide="burst_sell_single")], "execId")})
    told = await reads.fills(SCALE, venue, LONG_AGO)
    assert [(each.client_id, each.exec_kind) for each in told] == [("venue:9", ExecKind.LIQUIDATION)]


async def test_a_rows_own_names_need_no_order() -> None:
    venue = Venue({FILLS: listed([fill(1, clientOid="mmabcd-1-1", tradeSide="open")], "execId")})
    assert [each.client_id for each in await reads.fills(SCALE, venue, LONG_AGO)] == ["mmabcd-1-1"]


@pytest.mark.parametrize(
    ("row", "said", "kind"),
    [
        ({"tradeSide": "burst_sell_single"}, {}, ExecKind.LIQUIDATION),
        ({"tradeSide": "dte_sys_adl_close_long"}, {}, ExecKind.ADL),
        ({"tradeSide": None}, {"execType": "normal"}, ExecKind.TRADE),
        ({"tradeSide": None}, {"execType": "liquidation"}, ExecKind.LIQUIDATION),
        ({"tradeSide": "close"}, {"execType": "liquidation"}, ExecKind.LIQUIDATION),
    ],
)
async def test_why_a_fill_happened(row: dict[str, Any], said: dict[str, Any], kind: ExecKind) -> None:
    """By the fill's own word, or by its order's: rows are documented with and without."""
    venue = Venue({FILLS: listed([fill(1, **row)], "execId"), ORDER: always(order(9, orderStatus="filled", **said))})
    assert [each.exec_kind for each in await reads.fills(SCALE, venue, LONG_AGO)] == [kind]


@pytest.mark.parametrize(
    ("row", "said"), [({"tradeSide": None}, {}), ({"tradeSide": "huh"}, {}), ({"tradeSide": None}, {"execType": "huh"})]
)
async def test_a_fill_without_a_known_reason_is_not_a_trade(row: dict[str, Any], said: dict[str, Any]) -> None:
    venue = Venue({FILLS: listed([fill(1, **row)], "execId"), ORDER: always(order(9, orderStatus="filled", **said))})
    with pytest.raises(VenueUnavailable, match="tradeSide"):
        await reads.fills(SCALE, venue, LONG_AGO)


@pytest.mark.parametrize(
    ("lines", "fee_e10"),
    [
        ([("USDT", "0.0128")], 128_000_000),  # positive is a cost here
        ([("USDT", "-0.0064")], -64_000_000),
        ([("BTC", "0.0000002")], 128_000_200),
        ([("BGB", "0.5")], 0),
        ([("", "0")], 0),
    ],
)
async def test_a_fee_by_coin_and_sign(lines: list[tuple[str, str]], fee_e10: int) -> None:
    detail = [{"feeCoin": coin, "fee": fee} for coin, fee in lines]
    venue = Venue({FILLS: listed([fill(1, feeDetail=detail, clientOid="x")], "execId")})
    assert [each.fee_e10 for each in await reads.fills(SCALE, venue, LONG_AGO)] == [fee_e10]


@pytest.mark.parametrize(
    ("line", "fee_e10", "fees_in"),
    [
        ({"feeCoin": "USDT", "fee": "0.0128"}, 128_000_000, set[str]()),
        ({"feeCoin": "USDT", "fee": "0.0128", "deduction": "no"}, 128_000_000, set[str]()),
        ({"feeCoin": "USDT", "fee": "0.0128", "deduction": "yes"}, 128_000_000, {"a deduction"}),
        ({"feeCoin": "USDT", "fee": "0.0128", "deduction": True}, 128_000_000, {"a deduction"}),
        ({"feeCoin": "BGB", "fee": "0.5"}, 0, {"BGB"}),
        ({"feeCoin": "BGB", "fee": "0", "deduction": "yes"}, 0, set[str]()),
        ({"feeCoin": "BTC", "fee": "0.0000002"}, 128_000_200, {"BTC"}),
        ({"feeCoin": "x\n" * 20, "fee": "1"}, 0, {"another coin"}),
    ],
)
async def test_what_a_fee_was_paid_in_is_remembered(line: dict[str, Any], fee_e10: int, fees_in: set[str]) -> None:
    row, elsewhere = fill(1, feeDetail=[line], clientOid="x"), set[str]()
    venue = Venue({FILLS: listed([row], "execId", "createdTime")})
    told = await reads.fills(SCALE, venue, LONG_AGO, None, elsewhere)
    assert [each.fee_e10 for each in told] == [fee_e10]
    assert elsewhere == fees_in


async def test_a_new_fill_that_does_not_show_its_fee_stops_the_reading() -> None:
    row = fill(1, feeDetail=[], clientOid="x", createdTime=str(NOW_MS - 59_000))
    with pytest.raises(VenueUnavailable, match="fee: no_fee"):
        await reads.fills(SCALE, Venue({FILLS: listed([row], "execId", "createdTime")}), LONG_AGO)


@pytest.mark.parametrize(("scope", "fee_e10"), [("maker", 128_000_200), ("taker", 384_000_600)])
async def test_one_that_never_showed_it_was_charged_the_accounts_own_rate(scope: str, fee_e10: int) -> None:
    row = fill(1, feeDetail=[], clientOid="x", tradeScope=scope, createdTime=str(NOW_MS - 61_000))
    venue = Venue(
        {
            FILLS: listed([row], "execId", "createdTime"),
            FEES: always({"makerFeeRate": "0.0002", "takerFeeRate": "0.0006"}),
        }
    )
    assert [each.fee_e10 for each in await reads.fills(SCALE, venue, LONG_AGO)] == [fee_e10]
    with pytest.raises(VenueUnavailable):  # nor is a rate that was not read a fee of nothing
        await reads.fills(SCALE, Venue({FILLS: listed([row], "execId", "createdTime"), FEES: always({})}), LONG_AGO)


async def test_fills_come_oldest_first_each_once_from_all_pages_and_windows() -> None:
    start_ms = NOW_MS - 20 * 86_400_000
    times = sorted([start_ms, start_ms + 7 * 86_400_000, *[NOW_MS - 5 * 86_400_000 for _ in range(203)]])
    rows = [fill(n, createdTime=str(at), clientOid="mmabcd-1-1") for n, at in enumerate(times, 1)]
    told = await reads.fills(SCALE, Venue({FILLS: listed(rows, "execId", "createdTime")}), Cursor(start_ms * MS))
    assert [int(each.trade_id) for each in told] == list(range(1, 206))


@pytest.mark.parametrize("bad", ["x" * 65, "", "a b", "\u0661", "1\x00"])
async def test_an_id_that_is_not_fit_to_be_kept_is_refused(bad: str) -> None:
    named = fill(1, clientOid="x") | {"execId": bad}
    with pytest.raises(VenueUnavailable, match="execId: bad_id"):
        await reads.fills(SCALE, Venue({FILLS: always({"list": [named], "cursor": None})}), LONG_AGO)
    line = record(1, "TRANSFER_IN", "1") | {"id": bad}
    with pytest.raises(VenueUnavailable, match="id: bad_id"):
        await reads.bills(SCALE, Venue({BILLS: always({"list": [line], "cursor": None})}), LONG_AGO)


# --- bills ------------------------------------------------------------------------------------------------------------


async def test_bills_are_what_no_fill_carries_under_every_category() -> None:
    rows = [
        record(1, "CONTRACT_MAIN_SETTLE_FEE_USER_OUT", "-0.004992"),
        record(2, "TRANSFER_OUT", "-11.64958799", symbol="", category="OTHER"),
        record(3, "TRANSFER_IN", "100", symbol=None, category="OTHER"),
        record(4, "OPEN_LONG", "0", fee="-0.0128"),
        record(5, "CLOSE_LONG", "-0.0007", fee="-0.02236284"),
        record(6, "INCREASE_MARGIN", "-5"),
        record(7, "BURST_SELL_SSM", "-3", fee="-1"),
        record(8, "CONTRACT_MAIN_SETTLE_FEE_USER_IN", "0.3"),
        record(9, "ORDER_DEALT_FROZEN_OUT", "-50", symbol="BTCUSDT", category="SPOT"),
        record(10, "TRANSFER_IN", "1", coin="BTC", category="OTHER"),
        record(11, "INTEREST_SETTLEMENT_OUT", "-0.5", symbol="", category="MARGIN"),
    ]
    venue = Venue({BILLS: listed(rows, "id", "ts")})
    told = await reads.bills(SCALE, venue, LONG_AGO)
    assert [(each.bill_id, each.kind, each.amount_e10) for each in told] == [
        ("1", BillKind.FUNDING, -49_920_000),
        ("2", BillKind.TRANSFER, -116_495_879_900),
        ("3", BillKind.TRANSFER, 1_000_000_000_000),
        ("8", BillKind.FUNDING, 3_000_000_000),
        ("9", BillKind.TRANSFER, -500_000_000_000),
        ("11", BillKind.FEE, -5_000_000_000),
    ]
    assert {params["category"] for params in venue.asked_of(BILLS)} == {
        *("USDT-FUTURES", "OTHER", "SPOT", "MARGIN", "COIN-FUTURES", "USDC-FUTURES")
    }
    assert all(params["coin"] == "USDT" for params in venue.asked_of(BILLS))


@pytest.mark.parametrize("amount", ["-2", "2"])
@pytest.mark.parametrize(
    ("word", "amount_e10"),
    [
        ("CONTRACT_MAIN_SETTLE_FEE_USER_OUT", -20_000_000_000),
        ("CONTRACT_MAIN_SETTLE_FEE_USER_IN", 20_000_000_000),
        ("TRANSFER_OUT", -20_000_000_000),
    ],
)
async def test_a_word_that_names_the_direction_has_the_last_say(word: str, amount_e10: int, amount: str) -> None:
    """Whether amounts going out are negative is not documented for every line."""
    told = await reads.bills(SCALE, Venue({BILLS: listed([record(1, word, amount)], "id")}), LONG_AGO)
    assert [each.amount_e10 for each in told] == [amount_e10]


async def test_a_venue_that_ignores_the_category_doubles_nothing() -> None:
    row = record(1, "TRANSFER_IN", "5")
    venue = Venue({BILLS: lambda params: {"list": [row] if "cursor" not in params else [], "cursor": "c1"}})
    assert len(await reads.bills(SCALE, venue, LONG_AGO)) == 1


async def test_bills_are_whole_or_none() -> None:
    """The last category fails: a transfer might be in it."""

    def page(params: Mapping[str, Any]) -> Any:
        if params["category"] == "USDC-FUTURES":
            return Unanswered("timeout")
        return {"list": None, "cursor": None}

    with pytest.raises(Unanswered):
        await reads.bills(SCALE, Venue({BILLS: page}), LONG_AGO)


# --- the account ------------------------------------------------------------------------------------------------------


async def test_a_snapshot_is_one_picture() -> None:
    venue = Venue({ASSETS: always(assets()), POSITION: always(holding(position()))})
    told = await reads.snapshot(SCALE, venue)
    assert (told.position_lots, told.wallet_e10, told.mark_px_ticks) == (20, 10_001_400_000_000, 640_000)
    assert told.unrealised_e10 == 4_995_000_000
    assert told.available_margin_e10 == 9_005_000_000_000, "effective equity less what is used, below `available`"
    assert told.venue_ts_ns == NOW_MS * MS


async def test_what_is_owed_is_not_in_the_wallet() -> None:
    venue = Venue({ASSETS: always(assets({"debt": "1.14"})), POSITION: always(holding(position()))})
    assert (await reads.snapshot(SCALE, venue)).wallet_e10 == 9_990_000_000_000


async def test_a_flat_account_takes_its_mark_from_the_market() -> None:
    for flat in (None, holding(), holding(position(total="0", avgPrice="")), holding(position(symbol="ETHUSDT"))):
        venue = Venue({ASSETS: always(assets()), POSITION: always(flat), TICKERS: always(ticker())})
        told = await reads.snapshot(SCALE, venue)
        assert (told.position_lots, told.unrealised_e10, told.mark_px_ticks) == (0, 0, 640_000)


async def test_a_wallet_that_moved_meanwhile_is_read_again() -> None:
    venue = Venue(
        {
            ASSETS: in_turn(assets(), assets({"balance": "1000.10"})),
            POSITION: in_turn(holding(position(total="0.001")), holding(position(posSide="short"))),
        }
    )
    told = await reads.snapshot(SCALE, venue)
    assert (told.position_lots, told.wallet_e10) == (-20, 10_001_000_000_000)


@pytest.mark.parametrize(
    ("said", "ours", "holds", "field"),
    [
        ({"assets": None}, {}, {}, "none"),
        ({"assets": [{"coin": "BTC", "balance": "1", "available": "1", "debt": "0"}]}, {}, {}, "none"),
        ({"imr": ""}, {}, {}, "imr"),
        ({"imr": "-1"}, {}, {}, "imr: negative"),
        ({"effEquity": None}, {}, {}, "effEquity"),
        ({}, {"balance": "NaN"}, {}, "balance"),
        ({}, {"debt": ""}, {}, "debt"),
        ({}, {}, {"posSide": "net"}, "side"),
        ({}, {}, {"avgPrice": "0"}, "average price"),
        ({}, {}, {"markPrice": None}, "markPrice"),
    ],
)
async def test_a_snapshot_is_whole_or_none(
    said: dict[str, Any], ours: dict[str, Any], holds: dict[str, Any], field: str
) -> None:
    venue = Venue({ASSETS: always(assets(ours, **said)), POSITION: always(holding(position(**holds)))})
    with pytest.raises(VenueUnavailable, match=field):
        await reads.snapshot(SCALE, venue)


def settings(**changed: Any) -> dict[str, Any]:
    ours = {"category": "USDT-FUTURES", "symbol": "BTCUSDT", "marginMode": "crossed", "leverage": "20"} | changed
    others = {"category": "USDT-FUTURES", "symbol": "ETHUSDT", "marginMode": "isolated", "leverage": "3"}
    return {"uid": "7", "holdMode": "one_way_mode", "symbolConfigList": [others, ours], "coinConfigList": []}


def the_key(*permissions: str, kind: str = "read-and-write") -> dict[str, Any]:
    return {"userId": "7264631750", "permType": kind, "permissions": list(permissions)}


async def test_facts_of_the_account_and_the_key() -> None:
    venue = Venue({KEY: always(the_key("uta_mgt", "uta_trade")), SETTINGS: always(settings())})
    told = await reads.facts(SCALE, venue, 0.25)
    assert (told.account, told.position_mode, told.margin_mode) == ("7264631750", "one_way", "crossed")
    assert (told.leverage, told.can_trade, told.can_withdraw, told.clock_offset_s) == (20.0, True, False, 0.25)


@pytest.mark.parametrize(
    ("whose", "can_trade", "can_withdraw"),
    [
        (the_key("uta_mgt"), False, False),
        (the_key("uta_trade", kind="read-only"), False, False),
        (the_key("uta_trade", "withdraw"), True, True),
        (the_key("withdraw", kind="read-only"), False, True),
    ],
)
async def test_what_the_key_may_do(whose: dict[str, Any], can_trade: bool, can_withdraw: bool) -> None:
    told = await reads.facts(SCALE, Venue({KEY: always(whose), SETTINGS: always(settings())}), 0.0)
    assert (told.can_trade, told.can_withdraw) == (can_trade, can_withdraw)


@pytest.mark.parametrize(
    ("whose", "said", "field"),
    [
        (the_key("uta_trade", "something_new"), settings(), "permissions"),
        (the_key("uta_trade", kind="sometimes"), settings(), "permType"),
        ({"userId": "7", "permType": "read-only", "permissions": None}, settings(), "permissions"),
        (the_key("uta_trade"), settings(symbol="XRPUSDT"), "none"),
        (the_key("uta_trade"), settings(marginMode="portfolio"), "marginMode"),
        (the_key("uta_trade"), settings() | {"holdMode": "both"}, "holdMode"),
        (the_key("uta_trade"), settings(leverage=""), "leverage"),
    ],
)
async def test_facts_that_cannot_be_told_are_none(whose: dict[str, Any], said: dict[str, Any], field: str) -> None:
    with pytest.raises(VenueUnavailable, match=field):
        await reads.facts(SCALE, Venue({KEY: always(whose), SETTINGS: always(said)}), 0.0)


async def test_the_accounts_own_rates() -> None:
    told = await reads.fees(SCALE, Venue({FEES: always({"makerFeeRate": "0.0002", "takerFeeRate": "0.0006"})}))
    assert (told.maker_rate, told.taker_rate) == (0.0002, 0.0006)


# --- the market -------------------------------------------------------------------------------------------------------


def candle(minutes_ago: int) -> list[str]:
    at_ms = (NOW_MS // 60_000 - minutes_ago) * 60_000
    return [str(at_ms), "64000", "64001", "63999.5", "64000.5", "1.5", "96000"]


async def test_more_candles_than_a_page_has_newest_first() -> None:
    def page(params: Any) -> Any:
        assert int(params["limit"]) <= 100
        before = int(params.get("endTime", NOW_MS))
        found = [row for ago in range(1_600) if int((row := candle(ago))[0]) <= before]
        return found[: int(params["limit"])]

    told = await reads.candles(SCALE, Venue({CANDLES: page}), 1_500)
    assert [each.open_ts_ns for each in told] == [(NOW_MS // 60_000 - ago) * 60_000 * MS for ago in range(1_500, 0, -1)]


async def test_funding_and_mark() -> None:
    row = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateInterval": "8", "nextUpdate": str(NOW_MS + 1)}
    told = await reads.funding(SCALE, Venue({FUNDING: always([row])}))
    assert (told.rate, told.interval_s, told.next_ts_ns) == (0.0001, 28_800, (NOW_MS + 1) * MS)
    at = await reads.mark(SCALE, Venue({TICKERS: always(ticker("64000.06"))}))
    assert (at.px_ticks, at.venue_ts_ns) == (640_001, (NOW_MS - 5) * MS)


def rules(**changed: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "category": "USDT-FUTURES",
        "quoteCoin": "USDT",
        "minOrderQty": "0.0001",
        "maxOrderQty": "1200",
        "pricePrecision": "1",
        "quantityPrecision": "4",
        "quotePrecision": None,
        "priceMultiplier": "0.1",
        "quantityMultiplier": "0.0001",
        "minOrderAmount": "5",
    } | changed


async def test_the_contracts_rules() -> None:
    assert await reads.read_instrument(Venue({RULES: always([rules()])}), "BTCUSDT") == BTC
    coarse = await reads.read_instrument(Venue({RULES: always([rules(priceMultiplier="0.5")])}), "BTCUSDT")
    assert coarse.tick_e10 == 5_000_000_000, "the step, not the number of digits"


# --- the stop ---------------------------------------------------------------------------------------------------------


class Stops(Venue):
    """Keeps stops as the venue does."""

    def __init__(self, *rows: dict[str, Any], held: dict[str, Any] | None = None) -> None:
        super().__init__({POSITION: always(holding(position()) if held is None else held)})
        self.rows = list(rows)
        self.replies |= {PENDING: always(self.rows), PLACE: self._place, MOVE: self._move, CANCEL: self._cancel}

    def _place(self, params: Any) -> Any:
        self.rows.append(strategy(900, params["stopLoss"], posSide=params["posSide"]))
        return {"orderId": "900", "clientOid": "x"}

    def _move(self, params: Any) -> Any:
        next(row for row in self.rows if row["orderId"] == params["orderId"])["stopLoss"] = params["stopLoss"]
        return {"orderId": params["orderId"], "clientOid": "x"}

    def _cancel(self, params: Any) -> Any:
        self.rows[:] = [row for row in self.rows if row["orderId"] != params["orderId"]]

    @property
    def sent(self) -> list[str]:
        return [path for path, _ in self.asked if path in (PLACE, MOVE, CANCEL)]


def strategy(n: int, stop: str, **changed: Any) -> dict[str, Any]:
    return {
        "orderId": str(n),
        "symbol": "BTCUSDT",
        "category": "USDT-FUTURES",
        "posSide": "long",
        "slTriggerBy": "mark",
        "slOrderType": "market",
        "stopLoss": stop,
        "takeProfit": "",
    } | changed


STOP = PositionStop(600_000)


async def test_a_stop_is_placed_once() -> None:
    venue = Stops()
    await reads.protect(SCALE, venue, STOP)
    await reads.protect(SCALE, venue, STOP)
    assert venue.sent == [PLACE]
    assert venue.asked_of(PLACE)[0] == {
        "category": "USDT-FUTURES",
        "symbol": "BTCUSDT",
        "type": "tpsl",
        "tpslMode": "full",
        "posSide": "long",
        "stopLoss": "60000",
        "slTriggerBy": "mark",
        "slOrderType": "market",
    }


async def test_a_stop_elsewhere_is_moved_and_others_are_left_alone() -> None:
    mine, persons = strategy(1, "59000"), strategy(2, "50000", takeProfit="90000")
    venue = Stops(mine, persons, strategy(3, "2000", symbol="ETHUSDT"))
    await reads.protect(SCALE, venue, STOP)
    assert (venue.sent, mine["stopLoss"], persons["stopLoss"]) == ([MOVE], "60000", "50000")


@pytest.mark.parametrize("price", ["59000", "60000"])
async def test_a_stop_of_a_part_is_a_persons_and_no_stop_of_the_position(price: str) -> None:
    """The venue's own sample of a pending one has a size: taken for ours, it would leave the rest without a stop."""
    part = strategy(1, price, qty="0.001")
    venue = Stops(part)
    await reads.protect(SCALE, venue, STOP)
    assert (venue.sent, part["stopLoss"]) == ([PLACE], price)
    await reads.protect(SCALE, venue, None)
    assert venue.rows == [part]


@pytest.mark.parametrize("wrong", [{"slTriggerBy": "market"}, {"slOrderType": "limit"}, {"posSide": "short"}])
async def test_a_stop_of_another_kind_is_not_the_one_asked_for(wrong: dict[str, Any]) -> None:
    venue = Stops(strategy(1, "60000", **wrong))
    with pytest.raises(VenueUnavailable, match="not as asked"):
        await reads.protect(SCALE, venue, STOP)
    assert venue.sent == [MOVE]


async def test_a_stop_that_is_not_wanted_any_more_is_taken_away() -> None:
    venue = Stops(strategy(1, "60000"), held=holding())
    await reads.protect(SCALE, venue, None)
    assert venue.rows == []
    with pytest.raises(VenueUnavailable, match="no position"):
        await reads.protect(SCALE, venue, STOP)


# --- every read -------------------------------------------------------------------------------------------------------

Read = Callable[[Venue], Awaitable[Any]]
READS: dict[str, tuple[str, Read]] = {
    "order": (ORDER, lambda venue: reads.order(SCALE, venue, "mmabcd-1-1")),
    "open_orders": (OPEN, lambda venue: reads.open_orders(SCALE, venue)),
    "fills": (FILLS, lambda venue: reads.fills(SCALE, venue, LONG_AGO)),
    "bills": (BILLS, lambda venue: reads.bills(SCALE, venue, LONG_AGO)),
    "snapshot": (ASSETS, lambda venue: reads.snapshot(SCALE, venue)),
    "facts": (KEY, lambda venue: reads.facts(SCALE, venue, 0.0)),
    "fees": (FEES, lambda venue: reads.fees(SCALE, venue)),
    "candles": (CANDLES, lambda venue: reads.candles(SCALE, venue, 5)),
    "funding": (FUNDING, lambda venue: reads.funding(SCALE, venue)),
    "mark": (TICKERS, lambda venue: reads.mark(SCALE, venue)),
    "instrument": (RULES, lambda venue: reads.read_instrument(venue, "BTCUSDT")),
    "protect": (PENDING, lambda venue: reads.protect(SCALE, venue, None)),
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
@pytest.mark.parametrize("error", [Unanswered("timeout"), Refused(Meaning.WRONG_API, "40084")])
async def test_no_answer_is_no_empty_answer(name: str, error: Exception) -> None:
    path, read = READS[name]
    with pytest.raises(type(error)):
        await read(Venue({path: always(error)}))


# --- the venue's own samples ------------------------------------------------------------------------------------------


def test_the_venues_samples_decode(shared_data: Path) -> None:
    samples = json.loads((shared_data / "bitget_messages" / "rest_examples.json").read_text())

    def data(method: str, has: str) -> bytes:
        found = [each["example"] for each in samples[method] if has in json.dumps(each["example"])]
        return json.dumps(next(each["data"] for each in found if "data" in each)).encode()

    told = wire.ORDER.decode(data("fetch_order", '"cumExecQty"'))
    assert (told.order_status, told.reduce_only, told.exec_type) == ("live", "NO", "normal")
    assert wire.OPEN_ORDERS.decode(data("fetch_open_orders", '"cumExecQty"')) is not None
    fills = wire.FILLS.decode(data("fetch_my_trades", '"execId"'))
    assert fills is not None
    assert [(row.fee_detail[0].fee, row.trade_side, row.client_oid) for row in fills.list or ()] == [
        ("0.00642032", None, None)
    ]
    records = wire.RECORDS.decode(data("fetch_ledger", '"positionAmount"'))
    assert records is not None
    assert [(row.type, row.fee) for row in records.list or ()] == [("ORDER_DEALT_IN", "-0.00000531")]
    held = wire.POSITIONS.decode(data("fetch_position", '"positionBalance"'))
    assert held is not None
    assert [(row.pos_side, row.avg_price) for row in held.list or ()] == [("long", "107410.3")]
    assert wire.ASSETS.decode(data("fetch_balance", '"effEquity"')).imr == "0"
    stops = wire.STRATEGIES.decode(data("fetch_open_orders", '"slTriggerBy": "mark"'))
    assert [(row.stop_loss, row.sl_order_type) for row in stops or ()] == [("114000", "limit")]
    tickers = wire.TICKERS.decode(data("fetch_ticker", '"openInterest"'))
    assert [row.mark_price for row in tickers or ()] == ["104738"]
    futures = next(each for each in samples["fetch_uta_markets"] if "priceMultiplier" in each["example"])
    assert wire.RULES.decode(json.dumps([futures["example"]])) is not None
