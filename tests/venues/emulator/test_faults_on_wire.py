"""Faults at the emulator itself, over its sockets and REST, with orders at stake: both APIs, each where it bites."""

import asyncio
import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import aiohttp
import pytest

from mmdaemon.venues.emulator.wrong import FAULTS, Hook, Seconds, Wrong
from tests.venues.emulator.build import BUY, SELL, Bench, Socket, emulated, until


class Words(NamedTuple):
    """One API's names."""

    account: str
    public: str
    private: str
    place: str
    detail: str
    cancel: str
    batch: str
    fills: str
    contract: str
    asks: str
    bids: str

    def arg(self, channel: str) -> dict[str, str]:
        if self.account == "classic":
            kind = "USDT-FUTURES"
            return {"instType": kind, "channel": channel, "instId": "BTCUSDT"}
        topic = {"trade": "publicTrade"}.get(channel, channel)
        return {"instType": "usdt-futures", "topic": topic, "symbol": "BTCUSDT"}

    def private_arg(self, channel: str) -> dict[str, str]:
        if self.account == "classic":
            return {"instType": "USDT-FUTURES", "channel": channel, "instId": "default"}
        return {"instType": "UTA", "topic": channel.removesuffix("s")}

    def order(self, client_id: str) -> dict[str, str]:
        if self.account == "classic":
            return {
                "symbol": "BTCUSDT",
                "productType": "USDT-FUTURES",
                "marginMode": "crossed",
                "marginCoin": "USDT",
                "orderType": "limit",
                "force": "post_only",
                "side": "buy",
                "price": "99",
                "size": "0.0600",
                "clientOid": client_id,
            }
        return {
            "symbol": "BTCUSDT",
            "category": "USDT-FUTURES",
            "orderType": "limit",
            "timeInForce": "post_only",
            "side": "buy",
            "price": "99",
            "qty": "0.0600",
            "clientOid": client_id,
        }

    def query(self, **more: str) -> dict[str, str]:
        which = "productType" if self.account == "classic" else "category"
        return {"symbol": "BTCUSDT", which: "USDT-FUTURES", **more}


CLASSIC = Words(
    "classic",
    "/demo/v2/ws/public",
    "/demo/v2/ws/private",
    "/api/v2/mix/order/place-order",
    "/api/v2/mix/order/detail",
    "/api/v2/mix/order/cancel-order",
    "/api/v2/mix/order/batch-place-order",
    "/api/v2/mix/order/fills",
    "/api/v2/mix/market/contracts",
    "asks",
    "bids",
)
UNIFIED = Words(
    "unified",
    "/demo/v3/ws/public",
    "/demo/v3/ws/private",
    "/api/v3/trade/place-order",
    "/api/v3/trade/order-info",
    "/api/v3/trade/cancel-order",
    "/api/v3/trade/place-batch",
    "/api/v3/trade/fills",
    "/api/v3/market/instruments",
    "a",
    "b",
)
BOTH = pytest.mark.parametrize("words", [CLASSIC, UNIFIED], ids=lambda words: words.account)


@asynccontextmanager
async def listening(words: Words, *channels: str, **settings: Any) -> AsyncGenerator[tuple[Bench, Socket]]:
    """A bench whose market stands at 1,000 ticks, and a public socket past its opening frames."""
    async with emulated(account=words.account, ticker_interval_s=0.0, **settings) as bench:
        bench.show_mid(1_000)
        socket = await bench.dial(words.public)
        for channel in channels:
            await socket.subscribe(words.arg(channel))
            await socket.hear()
        yield bench, socket


# --- books ------------------------------------------------------------------------------------------------------------


def first_row(frame: Any) -> Any:
    (row,) = frame["data"]
    return row


@BOTH
@pytest.mark.parametrize(
    "kind",
    [
        Wrong.BOOK_GAP,
        Wrong.BOOK_RESTART,
        Wrong.BOOK_CHECKSUM,
        Wrong.BOOK_CROSSED,
        Wrong.BOOK_ONE_SIDED,
        Wrong.BOOK_FROZEN,
        Wrong.PRICE_NAN,
        Wrong.PRICE_NEGATIVE,
        Wrong.PRICE_ABSURD,
        Wrong.FRAME_FUTURE,
        Wrong.FRAME_MISTYPED,
        Wrong.FRAME_OTHER_SYMBOL,
    ],
)
async def test_a_book_s_update_is_spoilt_as_it_says(words: Words, kind: Wrong) -> None:
    async with listening(words, "books", checksum=True) as (bench, socket):
        bench.show_mid(1_001)
        true = await socket.hear()
        seq = int(first_row(true)["seq"])
        lasts = 60.0 if FAULTS[kind].seconds is Seconds.LASTS else 0.0
        bench.emulator.faults.inject(kind, seconds=lasts)
        bench.show_mid(1_002)
        frame = await socket.hear()
        row = first_row(frame)
        if kind is not Wrong.FRAME_MISTYPED:
            assert int(row["seq"]) > seq
            assert (int(row["pseq"]) == seq) == (kind not in {Wrong.BOOK_GAP, Wrong.BOOK_RESTART})
        match kind:
            case Wrong.BOOK_RESTART:
                assert (int(row["pseq"]), frame["action"]) == (0, "update")
            case Wrong.BOOK_CROSSED:
                assert Decimal(row[words.bids][0][0]) > Decimal("100.5")
            case Wrong.BOOK_ONE_SIDED:
                assert (frame["action"], row[words.asks]) == ("snapshot", [])
                assert row[words.bids]
            case Wrong.BOOK_FROZEN:
                assert (row[words.asks], row[words.bids]) == ([], [])
            case Wrong.PRICE_NAN:
                assert all(math.isnan(float(px)) for px, _ in row[words.asks])
            case Wrong.PRICE_NEGATIVE:
                assert all(Decimal(px) < 0 for px, _ in row[words.bids])
            case Wrong.PRICE_ABSURD:
                assert all(Decimal(px) >= 145 for px, _ in row[words.bids])
            case Wrong.FRAME_FUTURE:
                assert int(frame["ts"]) > bench.account.now_ms() + 3_500_000
                assert int(row["ts"]) > bench.account.now_ms() + 3_500_000
            case Wrong.FRAME_MISTYPED:
                assert isinstance(row["seq"], dict)
            case Wrong.FRAME_OTHER_SYMBOL:
                assert "ETHUSDT" in frame["arg"].values()
            case _:
                pass
        bench.emulator.faults.clear()
        bench.show_mid(1_003)
        after = first_row(await socket.hear())
        untrue = {Wrong.BOOK_CROSSED, Wrong.BOOK_ONE_SIDED, Wrong.BOOK_FROZEN, Wrong.PRICE_ABSURD}
        if kind is not Wrong.FRAME_MISTYPED:
            assert (int(after["pseq"]) == int(row["seq"])) == (kind not in untrue)


async def test_a_checksum_that_was_right_is_wrong() -> None:
    async with listening(CLASSIC, "books", checksum=True) as (bench, socket):
        other = await bench.dial(CLASSIC.public)
        await other.subscribe(CLASSIC.arg("books"))
        await other.hear()
        bench.emulator.faults.inject(Wrong.BOOK_CHECKSUM)  # for the first of the two sockets alone
        bench.show_mid(1_001)
        wrong, right = first_row(await socket.hear()), first_row(await other.hear())
        assert wrong["checksum"] != right["checksum"]
        assert wrong["asks"] == right["asks"]


@BOTH
async def test_prints_and_tickers_are_spoilt_too(words: Words) -> None:
    async with listening(words, "trade") as (bench, socket):
        bench.emulator.faults.inject(Wrong.PRICE_NAN, where="trades")
        bench.print(1_001, 1, BUY)
        assert '"NaN"' in await socket.hear_text()
    async with listening(words, "ticker") as (bench, socket):
        bench.emulator.faults.inject(Wrong.PRICE_ZERO, where="ticker")
        bench.show_mid(1_001)
        row = first_row(await socket.hear())
        assert {row.get("lastPr", row.get("lastPrice")), row.get("bidPr", row.get("bid1Price"))} == {"0"}


@pytest.mark.parametrize("kind", [Wrong.FRAME_HUGE, Wrong.FRAME_DEEP, Wrong.FRAME_NOT_JSON, Wrong.FRAME_TRUNCATED])
async def test_what_is_no_frame_comes_whole_and_the_socket_lives_on(kind: Wrong) -> None:
    async with listening(CLASSIC) as (bench, _):
        wire = await bench.session.ws_connect(bench.emulator.url + CLASSIC.public, max_msg_size=0)
        socket = Socket(wire)
        bench.sockets.append(socket)
        await socket.subscribe(CLASSIC.arg("books"))
        await socket.hear()
        bench.emulator.faults.inject(kind)
        bench.show_mid(1_001)
        bad = await socket.hear_text()
        assert kind is not Wrong.FRAME_HUGE or len(bad) > 6 << 20
        bench.show_mid(1_002)
        assert first_row(await socket.hear())["pseq"]


# --- the private stream -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("kind", "heard"), [(Wrong.FILLS_LOST, "order"), (Wrong.ORDERS_LOST, "fill")])
async def test_fills_without_orders_and_orders_without_fills(words: Words, kind: Wrong, heard: str) -> None:
    async with emulated(account=words.account) as bench:
        bench.show_mid(1_000)
        socket = await bench.private(words.private)
        await socket.subscribe(words.private_arg("orders"), words.private_arg("fill"))
        bench.emulator.faults.inject(kind, seconds=60)
        bench.place("a", px_ticks=999, qty_lots=600)
        bench.print(998, 1_000, SELL)
        assert bench.account.order("a").filled_lots
        pushes = 2 if kind is Wrong.ORDERS_LOST else 1  # an order is told of when it rests, and when it fills
        await until(lambda: bench.emulator.faults.seen[kind] >= pushes)
        bench.emulator.faults.clear()
        bench.print(980, 1_000, SELL)  # nothing of ours: whatever comes now is of before
        bench.place("b", px_ticks=980, qty_lots=600)
        while True:
            frame = await socket.hear()
            if first_row(frame).get("clientOid") == "b":
                break
            assert str(frame["arg"].get("channel", frame["arg"].get("topic"))).startswith(heard)


@BOTH
async def test_a_private_frame_lost_is_lost_for_good_and_pings_are_answered(words: Words) -> None:
    async with emulated(account=words.account) as bench:
        bench.show_mid(1_000)
        socket = await bench.private(words.private)
        await socket.subscribe(words.private_arg("orders"))
        bench.emulator.faults.inject(Wrong.PRIVATE_SILENT, seconds=60)
        bench.place("a", px_ticks=990, qty_lots=600)
        await until(lambda: bench.emulator.faults.seen[Wrong.PRIVATE_SILENT])
        await socket.say("ping")
        assert await socket.hear_text() == "pong"
        bench.emulator.faults.clear()
        bench.account.cancel("a")
        assert first_row(await socket.hear())["clientOid"] == "a"
        bench.emulator.faults.inject(Wrong.FRAME_TWICE, seconds=0.01, where="orders")
        bench.place("b", px_ticks=990, qty_lots=600)
        assert await socket.hear_text() == await socket.hear_text()


# --- sockets ----------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("kind", "code"), [(Wrong.FORCED_CLOSE, 1000), (Wrong.SOCKET_RESET, 1006), (Wrong.RESTART, 1006)]
)
async def test_sockets_end_and_the_next_book_begins_with_a_snapshot(words: Words, kind: Wrong, code: int) -> None:
    async with listening(words, "books") as (bench, socket):
        bench.emulator.faults.inject(kind)
        assert await socket.ended() == code
        again = await bench.dial(words.public)
        await again.subscribe(words.arg("books"))
        bench.show_mid(1_001)
        frame = await again.hear()
        assert frame["action"] == "snapshot"


async def test_only_the_side_that_is_named_ends() -> None:
    async with listening(CLASSIC, "books") as (bench, socket):
        private = await bench.private(CLASSIC.private)
        bench.emulator.faults.inject(Wrong.SOCKET_RESET, where="private")
        assert await private.ended() == 1006
        bench.show_mid(1_001)
        assert first_row(await socket.hear())


async def test_nobody_listens_for_a_while_and_then_somebody_does_at_the_same_place() -> None:
    async with listening(CLASSIC, "books") as (bench, socket):
        url = bench.emulator.url + "/api/v2/public/time"
        bench.emulator.faults.inject(Wrong.CONNECTION_REFUSED, seconds=0.3)
        assert await socket.ended() == 1006
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(url)

            async def answers() -> bool:
                try:
                    async with session.get(url) as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            async with asyncio.timeout(20):
                while not await answers():  # noqa: ASYNC110 - asked until it answers
                    await asyncio.sleep(0.02)


async def test_a_muted_pong_a_half_open_socket_and_their_end() -> None:
    async with listening(CLASSIC, "books") as (bench, socket):
        faults = bench.emulator.faults
        faults.inject(Wrong.PONG_MUTED, seconds=60)
        await socket.say("ping")
        bench.show_mid(1_001)
        assert json.loads(await socket.hear_text())["action"] == "update"  # data, and no pong before it
        await until(lambda: bench.emulator.connections[0].heard == 2)  # or the ping would be read when it is over
        faults.clear()
        await socket.say("ping")
        assert await socket.hear_text() == "pong"
        faults.inject(Wrong.HALF_OPEN, seconds=60)
        await socket.say("ping")
        bench.show_mid(1_002)
        with pytest.raises(TimeoutError):
            await socket.wire.receive(timeout=0.2)
        assert not socket.wire.closed


@BOTH
async def test_logins_and_subscriptions_are_refused_late_or_without_a_word(words: Words) -> None:
    async with emulated(account=words.account) as bench:
        bench.show_mid(1_000)
        faults = bench.emulator.faults
        for kind, code in ((Wrong.LOGIN_REFUSED, 30005), (Wrong.KEY_REVOKED, 30011), (Wrong.KEY_WRONG, 30012)):
            faults.inject(kind)
            socket = await bench.dial(words.private)
            await socket.say({"op": "login", "args": [bench.login()]})
            told = await socket.hear()
            assert (told["event"], told["code"]) == ("error", code)
            faults.clear()
        socket = await bench.private(words.private)
        faults.inject(Wrong.SUBSCRIBE_REFUSED, where="orders")
        await socket.say({"op": "subscribe", "args": [words.private_arg("orders")]})
        assert (await socket.hear())["code"] == 30001
        bench.place("a", px_ticks=990, qty_lots=600)
        faults.inject(Wrong.ACK_LOST)
        await socket.say({"op": "subscribe", "args": [words.private_arg("orders")]})
        await until(lambda: faults.seen[Wrong.ACK_LOST])
        bench.account.cancel("a")
        assert "event" not in await socket.hear()  # subscribed all the same


# --- REST, with an order at stake -------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("kind", "rests"),
    [
        (Wrong.SERVICE_ERROR, True),
        (Wrong.SYSTEM_ERROR, True),
        (Wrong.REQUEST_TIMED_OUT, True),
        (Wrong.UNKNOWN_CODE, True),
        (Wrong.ERROR_500, True),
        (Wrong.SERVICE_ERROR_UNDONE, False),
        (Wrong.MARGIN_REFUSED, False),
        (Wrong.CLOCK_REFUSED, False),
        (Wrong.KEY_REVOKED, False),
        (Wrong.PERMISSION_REFUSED, False),
        (Wrong.MAINTENANCE_CODE, False),
        (Wrong.RATE_LIMIT, False),
    ],
)
async def test_whether_an_order_rests_after_it(words: Words, kind: Wrong, rests: bool) -> None:
    async with emulated(account=words.account) as bench:
        bench.show_mid(1_000)
        bench.emulator.faults.inject(kind)
        assert (await bench.post(words.place, words.order("a")))["code"] != "00000"
        assert [row.client_id for row in bench.account.open_orders()] == ["a"] * rests


@BOTH
async def test_a_request_that_is_late_lands_within_the_window_of_its_signature_and_not_after(words: Words) -> None:
    async with emulated(account=words.account, window_s=0.3) as bench:
        bench.show_mid(1_000)
        bench.emulator.faults.inject(Wrong.DELIVERED_LATE, seconds=0.05)
        assert (await bench.post(words.place, words.order("a")))["code"] == "00000"
        bench.emulator.faults.inject(Wrong.DELIVERED_LATE, seconds=0.5)
        assert (await bench.post(words.place, words.order("b")))["code"] in {"40008", "40004"}
        assert [row.client_id for row in bench.account.open_orders()] == ["a"]


@BOTH
async def test_an_order_that_rests_is_said_not_to_be_there(words: Words) -> None:
    async with emulated(account=words.account) as bench:
        bench.show_mid(1_000)
        assert (await bench.post(words.place, words.order("a")))["code"] == "00000"
        bench.emulator.faults.inject(Wrong.READ_NOT_FOUND)
        query = words.query(clientOid="a")
        told = await bench.get(words.detail, query)
        true = await bench.get(words.detail, words.query(clientOid="never-was"))
        assert told["code"] == true["code"] != "00000"  # nobody can tell the two apart
        assert (await bench.get(words.detail, query))["code"] == "00000"
        bench.emulator.faults.inject(Wrong.CANCEL_NOT_FOUND)
        told = await bench.post(words.cancel, query)
        true = await bench.post(words.cancel, words.query(clientOid="never-was"))
        assert told["code"] == true["code"] != "00000"
        assert [row.client_id for row in bench.account.open_orders()] == ["a"]


@BOTH
async def test_a_batch_of_which_rows_are_missing_and_a_page_of_which_half_is(words: Words) -> None:
    async with emulated(account=words.account) as bench:
        bench.show_mid(1_000)
        orders = [words.order(client_id) for client_id in ("a", "b", "c")]
        if words is CLASSIC:
            common = {key: orders[0].pop(key) for key in ("symbol", "productType", "marginMode", "marginCoin")}
            body: Any = {**common, "orderList": orders}
        else:
            body = orders
        bench.emulator.faults.inject(Wrong.BATCH_ROWS_DROPPED)
        data = (await bench.post(words.batch, body))["data"]
        rows = data["successList"] if words is CLASSIC else data
        assert [row["clientOid"] for row in rows] == ["a", "b"]
        assert len(bench.account.open_orders()) == 3
        for price in (980, 970, 960):
            bench.print(price, 2_000, SELL)
        fills = bench.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=99)
        assert len(fills) >= 2
        bench.emulator.faults.inject(Wrong.PAGE_TRUNCATED, where=words.fills)
        data = (await bench.get(words.fills, words.query()))["data"]
        rows = data["fillList"] if words is CLASSIC else data["list"]
        ids = [row.get("tradeId", row.get("execId")) for row in rows]
        assert ids == [fill.trade_id for fill in fills][: (len(fills) + 1) // 2]


@BOTH
async def test_the_instrument_changes(words: Words) -> None:
    async with emulated(account=words.account) as bench:
        bench.show_mid(1_000)
        before = (await bench.get(words.contract, words.query()))["data"][0]
        for kind in (Wrong.MINIMUM_CHANGED, Wrong.DELISTED):
            bench.emulator.faults.inject(kind)
            now = (await bench.get(words.contract, words.query()))["data"][0]
            assert {key for key in before if before[key] != now[key]} == (
                {"minTradeNum" if words is CLASSIC else "minOrderQty"}
                if kind is Wrong.MINIMUM_CHANGED
                else {"symbolStatus" if words is CLASSIC else "status"}
            )


# --- the account ------------------------------------------------------------------------------------------------------


async def test_every_kind_that_others_do_is_done_and_shows() -> None:
    shown: dict[Wrong, bool] = {}
    for kind, fault in FAULTS.items():
        if fault.hook is not Hook.ACCOUNT:
            continue
        async with emulated() as bench:
            bench.show_mid(1_000)
            bench.place("mine", px_ticks=999, qty_lots=600)
            bench.print(998, 1_000, SELL)

            def state(bench: Bench = bench) -> tuple[object, ...]:
                account = bench.account
                orders = {row.client_id for row in account.open_orders()}
                return account.facts, orders, account.position(), account.balance().wallet_e10

            before = state()
            bench.emulator.faults.inject(kind)
            shown[kind] = state() != before
    assert len(shown) == 9
    assert all(shown.values()), shown


async def test_what_the_venue_would_not_do_is_refused_and_not_counted() -> None:
    async with emulated() as bench:
        bench.show_mid(1_000)
        with pytest.raises(ValueError, match="no position"):
            bench.emulator.faults.inject(Wrong.LIQUIDATION)
        assert not bench.emulator.faults.seen
        assert (await bench.control("faults", {"kind": "liquidation"}))[0] == 400
