"""Each fault of the emulated venue on a real server and client over loopback: whether the venue worked on the request,
and what the client was told; and frames as they would be sent."""

import asyncio
import itertools
import json
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from mmdaemon.clock import RealClock
from mmdaemon.core.types import NS
from mmdaemon.venues.emulator import spoilt
from mmdaemon.venues.emulator.faults import Faults, Rate, problem_of
from mmdaemon.venues.emulator.wrong import FAULTS, Fault, Hook, Seconds, Wrong

PLACE, PLACE_3 = "/api/v2/mix/order/place-order", "/api/v3/trade/place-order"
DETAIL, DETAIL_3 = "/api/v2/mix/order/detail", "/api/v3/trade/order-info"
CANCEL, CANCEL_3 = "/api/v2/mix/order/cancel-order", "/api/v3/trade/cancel-order"
BATCH, CONTRACTS = "/api/v2/mix/order/batch-place-order", "/api/v2/mix/market/contracts"
FILLS = "/api/v2/mix/order/fills"


class At:
    """A clock that is set."""

    def __init__(self) -> None:
        self.ns = 10 * NS

    def mono_ns(self) -> int:
        return self.ns

    def wall_ns(self) -> int:
        return 1_767_225_600 * NS + self.ns

    def call_at(self, mono_ns: int, callback: Callable[..., object], *args: object) -> Any:
        raise AssertionError("nothing here waits")


class Told:
    """What a client got: `status` 0 where it got no whole answer."""

    def __init__(self, status: int, body: bytes, kind: str, why: str = "", retry_after: str = "") -> None:
        self.status, self.body, self.content_type, self.why, self.retry_after = status, body, kind, why, retry_after

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return self.json["code"]


class Venue:
    """Works on whatever comes through, and counts it."""

    def __init__(self, port: int, faults: Faults, data: Callable[[str], Any]) -> None:
        self.url, self.faults, self.data = f"http://127.0.0.1:{port}", faults, data
        self.worked: list[str] = []
        self.came = asyncio.Event()

    async def ask(self, path: str, method: str = "POST", timeout_s: float = 5.0, **query: str) -> Told:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
            try:
                async with session.request(method, self.url + path, params=query) as response:
                    body = await response.read()
                    after = response.headers.get("Retry-After", "")
                    return Told(response.status, body, response.content_type, "", after)
            except TimeoutError:
                return Told(0, b"", "", "timeout")
            except aiohttp.ClientError as error:
                return Told(0, b"", "", type(error).__name__)


@asynccontextmanager
async def venue(data: Callable[[str], Any] = lambda _path: {"orderId": "1"}) -> AsyncGenerator[Venue]:
    faults = Faults(RealClock(asyncio.get_running_loop()), seed=3)
    here: Venue

    async def serve(request: web.Request) -> web.StreamResponse:
        path = request.path
        response = await faults.on_request(request, path)
        if response is not None:
            return response
        here.worked.append(path)
        here.came.set()
        answer = web.json_response(
            {"code": "00000", "msg": "success", "requestTime": faults._now_ms(), "data": data(path)}
        )
        return await faults.on_answer(request, path, answer)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    here = Venue(runner.addresses[0][1], faults, data)
    try:
        yield here
    finally:
        faults.close()
        await runner.cleanup()


# --- REST: what is done at the venue, and what is told ----------------------------------------------------------------

REPLIES: dict[Wrong, tuple[bool, int, str]] = {
    # kind: (it landed, status, code or "html" or "text")
    Wrong.RATE_LIMIT: (False, 429, "429"),
    Wrong.RATE_LIMIT_TEXT: (False, 429, "text"),
    Wrong.FORBIDDEN_HTML: (False, 403, "html"),
    Wrong.UNAVAILABLE_503: (False, 503, "text"),
    Wrong.MAINTENANCE_CODE: (False, 400, "40200"),
    Wrong.MAINTENANCE_HTTP: (False, 503, "html"),
    Wrong.SERVICE_ERROR_UNDONE: (False, 400, "40725"),
    Wrong.CLOCK_REFUSED: (False, 400, "40008"),
    Wrong.KEY_REVOKED: (False, 400, "40006"),
    Wrong.KEY_WRONG: (False, 400, "40012"),
    Wrong.PERMISSION_REFUSED: (False, 403, "40014"),
    Wrong.MARGIN_REFUSED: (False, 400, "40762"),
    Wrong.ERROR_500: (True, 500, "500"),
    Wrong.BAD_GATEWAY_HTML: (True, 502, "html"),
    Wrong.SERVICE_ERROR: (True, 400, "40725"),
    Wrong.SYSTEM_ERROR: (True, 400, "40015"),
    Wrong.REQUEST_TIMED_OUT: (True, 400, "40010"),
    Wrong.UNKNOWN_CODE: (True, 400, "99099"),
    Wrong.HTML_200: (True, 200, "html"),
}


@pytest.mark.parametrize(("kind", "expected"), REPLIES.items(), ids=str)
async def test_a_reply_instead_of_the_answer(kind: Wrong, expected: tuple[bool, int, str]) -> None:
    landed, status, code = expected
    async with venue() as at:
        at.faults.inject(kind)
        told = await at.ask(PLACE)
        assert told.status == status
        assert at.worked == [PLACE] * landed
        if code == "html":
            assert told.content_type == "text/html"
            assert told.body.startswith(b"<!DOCTYPE html>")
        elif code == "text":
            assert told.content_type == "text/plain"
        else:
            assert told.code == code
            assert told.json["data"] is None
            assert told.json["requestTime"] > 0
        assert (await at.ask(PLACE)).code == "00000"
        assert at.faults.seen == {kind: 1}


async def test_a_text_429_says_how_long_to_wait() -> None:
    async with venue() as at:
        at.faults.inject(Wrong.RATE_LIMIT_TEXT)
        assert (await at.ask(PLACE)).retry_after == "3"


CUT: dict[Wrong, bool] = {
    Wrong.REQUEST_LOST: False,
    Wrong.CONNECTION_RESET: False,
    Wrong.ANSWER_LOST: True,
    Wrong.ANSWER_RESET: True,
    Wrong.RESET_MID_BODY: True,
}


@pytest.mark.parametrize(("kind", "landed"), CUT.items(), ids=str)
async def test_no_answer_whether_it_landed_or_not(kind: Wrong, landed: bool) -> None:
    async with venue() as at:
        at.faults.inject(kind)
        told = await at.ask(PLACE, timeout_s=0.3 if kind in {Wrong.REQUEST_LOST, Wrong.ANSWER_LOST} else 5.0)
        assert told.status == 0
        assert (told.why == "timeout") == (kind in {Wrong.REQUEST_LOST, Wrong.ANSWER_LOST})
        assert at.worked == [PLACE] * landed
        assert (await at.ask(PLACE)).code == "00000"


async def test_what_is_delivered_late_lands_after_the_client_has_gone() -> None:
    async with venue() as at:
        at.faults.inject(Wrong.DELIVERED_LATE, seconds=0.4)
        assert (await at.ask(PLACE, timeout_s=0.1)).why == "timeout"
        assert at.worked == []
        await asyncio.wait_for(at.came.wait(), 5)
        assert at.worked == [PLACE]


@pytest.mark.parametrize("kind", [Wrong.ANSWER_SLOW, Wrong.SLOW_504, Wrong.LATENCY])
async def test_slow_ones_take_their_time_and_land(kind: Wrong) -> None:
    async with venue() as at:
        begun = asyncio.get_running_loop().time()
        at.faults.inject(kind, seconds=0.2)
        told = await at.ask(PLACE)
        assert asyncio.get_running_loop().time() - begun >= 0.2  # a sleep is never shorter
        assert told.status == (504 if kind is Wrong.SLOW_504 else 200)
        assert at.worked == [PLACE]


async def test_bodies_that_are_no_answer() -> None:
    async with venue() as at:
        at.faults.inject(Wrong.EMPTY_200)
        assert (await at.ask(PLACE)).body == b""
        at.faults.inject(Wrong.TRUNCATED_JSON)
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            _ = (await at.ask(PLACE)).json
        at.faults.inject(Wrong.DEEP_JSON)
        with pytest.raises(RecursionError):
            _ = (await at.ask(PLACE)).json
        at.faults.inject(Wrong.WRONG_CONTENT_TYPE)
        told = await at.ask(PLACE)
        assert (told.content_type, told.code) == ("text/html", "00000")
        at.faults.inject(Wrong.MISTYPED_ANSWER)
        assert (await at.ask(PLACE)).json["data"] == {"orderId": {"is": "1"}}
        at.faults.inject(Wrong.FUTURE_CLOCK)
        assert (await at.ask(PLACE)).json["requestTime"] > at.faults._now_ms() + spoilt.AHEAD_MS - 60_000
        at.faults.inject(Wrong.DUPLICATE_FIELDS)
        pairs = json.loads((await at.ask(PLACE)).body, object_pairs_hook=lambda pairs: pairs)
        assert [value for name, value in pairs if name == "code"] == ["40762", "00000"]
        assert len(at.worked) == 7


async def test_codes_are_those_of_the_api_that_was_asked() -> None:
    async with venue() as at:
        for path, code in ((PLACE, "40762"), (PLACE_3, "25202")):
            at.faults.inject(Wrong.MARGIN_REFUSED)
            assert (await at.ask(path)).code == code
        for path, code in ((DETAIL, "40109"), (DETAIL_3, "25204")):
            at.faults.inject(Wrong.READ_NOT_FOUND)
            assert (await at.ask(path, "GET")).code == code
        for path, code in ((CANCEL, "40768"), (CANCEL_3, "25204")):
            at.faults.inject(Wrong.CANCEL_NOT_FOUND)
            assert (await at.ask(path)).code == code
        assert at.worked == []


async def test_what_is_about_reads_leaves_orders_alone_and_the_other_way_round() -> None:
    async with venue() as at:
        at.faults.inject(Wrong.READS_FAIL)
        at.faults.inject(Wrong.PERMISSION_REFUSED)
        at.faults.inject(Wrong.READ_NOT_FOUND)
        assert (await at.ask(PLACE)).code == "40014"
        assert (await at.ask(PLACE)).code == "00000"
        assert (await at.ask(FILLS, "GET")).code == "40015"
        assert (await at.ask(FILLS, "GET")).code == "00000"
        assert (await at.ask(DETAIL, "GET")).code == "40109"


async def test_where_counts_and_windows() -> None:
    async with venue() as at:
        at.faults.inject(Wrong.SERVICE_ERROR, count=2, where="place-order")
        assert (await at.ask(FILLS, "GET")).code == "00000"
        assert [(await at.ask(PLACE)).code for _ in range(3)] == ["40725", "40725", "00000"]
        assert at.faults.is_calm
        at.faults.inject(Wrong.RATE_LIMIT, seconds=60)
        assert [(await at.ask(PLACE)).status for _ in range(5)] == [429] * 5
        assert not at.faults.is_calm
        at.faults.clear()
        assert (await at.ask(PLACE)).code == "00000"
        assert at.faults.is_calm
        assert at.faults.seen == {"service_error": 2, "rate_limit": 5}
        assert [(each.kind, each.count) for each in at.faults.injected] == [("service_error", 2), ("rate_limit", 1)]


async def test_a_page_has_its_first_half_and_the_cursor_of_the_whole() -> None:
    rows = [{"tradeId": str(9 - n)} for n in range(5)]
    async with venue(lambda path: {"fillList": rows, "endId": "5"} if path == FILLS else rows) as at:
        at.faults.inject(Wrong.PAGE_TRUNCATED, count=2)
        assert (await at.ask(FILLS, "GET")).json["data"] == {"fillList": rows[:3], "endId": "5"}
        assert (await at.ask("/api/v3/trade/fills", "GET")).json["data"] == rows[:3]


async def test_rows_of_a_batch_that_nobody_hears_of() -> None:
    classic = {
        "successList": [{"orderId": "1", "clientOid": "a"}, {"orderId": "2", "clientOid": "b"}],
        "failureList": [{"orderId": "", "clientOid": "c", "errorCode": "40762"}],
    }
    unified = [{"orderId": "1", "clientOid": "a"}, {"orderId": "2", "clientOid": "b"}, {"clientOid": "c", "code": "1"}]
    async with venue(lambda path: classic if path == BATCH else unified) as at:
        at.faults.inject(Wrong.BATCH_ROWS_DROPPED, count=2)
        assert (await at.ask(BATCH)).json["data"] == {"successList": classic["successList"][:1], "failureList": []}
        assert (await at.ask("/api/v3/trade/place-batch")).json["data"] == unified[:1]


async def test_an_instrument_that_changed() -> None:
    row = {"symbol": "BTCUSDT", "minTradeNum": "0.0001", "symbolStatus": "normal"}
    row_3 = {"symbol": "BTCUSDT", "minOrderQty": "0.0001", "status": "online"}
    async with venue(lambda path: [row if path == CONTRACTS else row_3]) as at:
        for path, minimum, state in (
            (CONTRACTS, ("minTradeNum", "0.0010"), ("symbolStatus", "off")),
            ("/api/v3/market/instruments", ("minOrderQty", "0.0010"), ("status", "offline")),
        ):
            at.faults.inject(Wrong.MINIMUM_CHANGED)
            (told,) = (await at.ask(path, "GET")).json["data"]
            assert told[minimum[0]] == minimum[1]
            at.faults.inject(Wrong.DELISTED)
            (told,) = (await at.ask(path, "GET")).json["data"]
            assert told[state[0]] == state[1]


async def test_a_replica_that_stands_still_answers_as_before_at_the_time_of_now() -> None:
    orders: list[str] = ["1"]
    async with venue(lambda _path: list(orders)) as at:
        first = await at.ask(FILLS, "GET", symbol="BTCUSDT", startTime="1")
        orders.append("2")
        await asyncio.sleep(0.005)  # the venue's milliseconds go on
        at.faults.inject(Wrong.STALE_READS, seconds=60)
        again = await at.ask(FILLS, "GET", symbol="BTCUSDT", startTime="2")
        assert again.json["data"] == first.json["data"] == ["1"]
        assert again.json["requestTime"] > first.json["requestTime"]
        # What was not asked before stands still from its first answer on.
        assert (await at.ask(FILLS, "GET", symbol="ETHUSDT")).json["data"] == ["1", "2"]
        orders.append("3")
        assert (await at.ask(FILLS, "GET", symbol="ETHUSDT")).json["data"] == ["1", "2"]
        at.faults.clear()
        assert (await at.ask(FILLS, "GET", symbol="BTCUSDT")).json["data"] == ["1", "2", "3"]


async def test_a_replica_says_nothing_that_the_venue_never_said() -> None:
    rows = ["1", "2", "3", "4"]
    async with venue(lambda _path: rows) as at:
        at.faults.inject(Wrong.PAGE_TRUNCATED)
        assert (await at.ask(FILLS, "GET")).json["data"] == ["1", "2"]
        at.faults.inject(Wrong.STALE_READS, seconds=60)
        assert (await at.ask(FILLS, "GET")).json["data"] == rows


async def test_closing_lets_go_of_what_is_kept_waiting() -> None:
    async with venue() as at:
        at.faults.inject(Wrong.REQUEST_LOST)
        at.faults.inject(Wrong.ANSWER_SLOW, seconds=600)
        lost = asyncio.create_task(at.ask(PLACE, timeout_s=60))
        async with asyncio.timeout(5):
            while not at.faults.seen:  # noqa: ASYNC110 - the fault has no event to tell it by
                await asyncio.sleep(0.01)
        slow = asyncio.create_task(at.ask(PLACE, timeout_s=60))
        await at.came.wait()
        at.faults.close()
        assert (await lost).why == "ServerDisconnectedError"
        assert (await slow).code == "00000"


async def test_several_at_once_all_happen() -> None:
    async with venue() as at:
        at.faults.inject(Wrong.LATENCY, seconds=0.01)
        at.faults.inject(Wrong.ANSWER_SLOW, seconds=0.01)
        at.faults.inject(Wrong.MISTYPED_ANSWER)
        assert (await at.ask(PLACE)).json["data"] == {"orderId": {"is": "1"}}
        assert at.faults.seen == {"latency": 1, "answer_slow": 1, "mistyped_answer": 1}


async def test_what_comes_after_one_that_ends_the_request_is_left_for_the_next() -> None:
    async with venue() as at:
        for kind in (Wrong.RATE_LIMIT, Wrong.KEY_REVOKED, Wrong.ANSWER_RESET, Wrong.SERVICE_ERROR):
            at.faults.inject(kind)
        assert [(await at.ask(PLACE)).status for _ in range(5)] == [429, 400, 0, 400, 200]
        assert len(at.worked) == 3
        assert at.faults.is_calm


# --- WebSocket --------------------------------------------------------------------------------------------------------

ARG = {"instType": "USDT-FUTURES", "channel": "books", "instId": "BTCUSDT"}
ASKS, BIDS = [["64000.1", "1.5"], ["64000.2", "2"]], [["63999.9", "1"], ["63999.8", "0"]]


def book(*, action: str = "update", pseq: int | str = 4, uta: bool = False) -> str:
    asks, bids = ("a", "b") if uta else ("asks", "bids")
    row = {asks: ASKS, bids: BIDS, "seq": 5, "pseq": pseq, "ts": "1767225600000", "checksum": 17}
    return json.dumps({"action": action, "arg": ARG, "data": [row], "ts": 1_767_225_600_001})


def trade() -> str:
    row = {"ts": "1767225600000", "price": "64000.1", "size": "0.01", "side": "buy", "tradeId": "77"}
    return json.dumps({"action": "update", "arg": {**ARG, "channel": "trade"}, "data": [row], "ts": 1_767_225_600_001})


def order() -> str:
    row = {"instId": "BTCUSDT", "orderId": "1", "clientOid": "a", "price": "64000", "feeDetail": [{"fee": "-0.1"}]}
    arg = {"instType": "USDT-FUTURES", "channel": "orders", "instId": "default"}
    return json.dumps({"action": "snapshot", "arg": arg, "data": [row], "ts": 1_767_225_600_001})


@pytest.fixture
def at() -> At:
    return At()


@pytest.fixture
def faults(at: At) -> Faults:
    return Faults(at, seed=3)


def sent(faults: Faults, text: str, kind: str = "books", *, private: bool = False) -> Any:
    """The one frame that is sent now, decoded."""
    ((delay_s, out),) = faults.on_frame(private, kind, text)
    assert delay_s == 0
    return json.loads(out)


def test_on_a_good_day_a_frame_is_what_it_is(faults: Faults) -> None:
    for text in (book(), trade(), "no json at all"):
        assert faults.on_frame(False, "books", text) == [(0.0, text)]


def test_lost_twice_late(faults: Faults) -> None:
    faults.inject(Wrong.FRAME_LOST)
    assert faults.on_frame(False, "books", book()) == []
    faults.inject(Wrong.FRAME_TWICE, seconds=2)
    assert faults.on_frame(True, "fills", "x") == [(0.0, "x"), (2.0, "x")]
    faults.inject(Wrong.FRAME_LATE, seconds=0.5, where="private")
    assert faults.on_frame(False, "books", "y") == [(0.0, "y")]
    assert faults.on_frame(True, "orders", "x") == [(0.5, "x")]
    assert faults.on_frame(True, "orders", "x") == [(0.0, "x")]


def test_a_frame_that_is_lost_uses_up_nothing_else(faults: Faults) -> None:
    faults.inject(Wrong.FRAME_LOST)
    faults.inject(Wrong.BOOK_GAP)
    assert faults.on_frame(False, "books", book()) == []
    assert sent(faults, book())["data"][0]["pseq"] == 11


def test_held_frames_come_in_order_at_the_end_and_so_do_those_behind_them(faults: Faults, at: At) -> None:
    faults.inject(Wrong.FRAMES_HELD, seconds=2, where="private")
    due: list[float] = []
    for step in range(300):
        at.ns = 10 * NS + step * NS // 100
        ((delay_s, text),) = faults.on_frame(True, "orders", str(step))
        assert text == str(step)
        due.append(step / 100 + delay_s)
    assert due == sorted(due)
    assert len(set(due)) == 300
    assert min(due) == pytest.approx(2.0)
    assert due[299] == 2.99
    assert faults.on_frame(False, "books", "y") == [(0.0, "y")]


def test_texts_that_are_no_frame(faults: Faults) -> None:
    for kind, bad in (
        (Wrong.FRAME_TRUNCATED, ValueError),
        (Wrong.FRAME_NOT_JSON, ValueError),
        (Wrong.FRAME_DEEP, RecursionError),
    ):
        faults.inject(kind)
        ((_, out),) = faults.on_frame(False, "books", book())
        with pytest.raises(bad):
            json.loads(out)
    faults.inject(Wrong.FRAME_HUGE)
    ((_, out),) = faults.on_frame(False, "books", book())
    assert len(out) > 6 << 20


def test_a_mistyped_frame_has_no_field_of_its_type(faults: Faults) -> None:
    faults.inject(Wrong.FRAME_MISTYPED, count=2)
    row = sent(faults, book())["data"][0]
    assert isinstance(row["asks"], str)
    assert row["seq"] == {"is": 5}
    assert sent(faults, order(), "orders", private=True)["data"][0]["orderId"] == {"is": "1"}


def test_another_symbol_s_frame(faults: Faults) -> None:
    faults.inject(Wrong.FRAME_OTHER_SYMBOL, count=2)
    assert sent(faults, book())["arg"]["instId"] == "ETHUSDT"
    told = sent(faults, order(), "orders", private=True)
    assert (told["arg"]["instId"], told["data"][0]["instId"]) == ("default", "ETHUSDT")


def test_a_frame_of_the_future(faults: Faults) -> None:
    faults.inject(Wrong.FRAME_FUTURE)
    told = sent(faults, book())
    assert told["ts"] == 1_767_225_600_001 + 3_600_000
    assert told["data"][0]["ts"] == "1767229200000"
    assert told["data"][0]["seq"] == 5


@pytest.mark.parametrize("uta", [False, True])
def test_prices_that_are_none(faults: Faults, uta: bool) -> None:
    asks = "a" if uta else "asks"
    faults.inject(Wrong.PRICE_NAN)
    assert math.isnan(float(sent(faults, book(uta=uta))["data"][0][asks][0][0]))
    faults.inject(Wrong.PRICE_INFINITE)
    assert math.isinf(float(sent(faults, book(uta=uta))["data"][0][asks][0][0]))
    faults.inject(Wrong.PRICE_ZERO)
    assert sent(faults, book(uta=uta))["data"][0][asks][0] == ["0", "1.5"]
    faults.inject(Wrong.PRICE_NEGATIVE)
    assert sent(faults, book(uta=uta))["data"][0][asks][0] == ["-64000.1", "1.5"]
    faults.inject(Wrong.PRICE_NAN, where="trades")
    assert sent(faults, book(uta=uta))["data"][0][asks] == ASKS
    assert sent(faults, trade(), "trades")["data"][0]["price"] == "NaN"
    faults.inject(Wrong.PRICE_ABSURD, where="trades")
    assert sent(faults, trade(), "trades")["data"][0]["price"] == "128000.2"


def test_gap_restart_checksum_need_an_update(faults: Faults) -> None:
    for kind in (Wrong.BOOK_GAP, Wrong.BOOK_RESTART, Wrong.BOOK_CHECKSUM):
        faults.inject(kind)
        assert sent(faults, book(action="snapshot", pseq=0))["data"][0]["pseq"] == 0
        told = sent(faults, book())
        row = told["data"][0]
        assert told["action"] == "update"
        assert row["pseq"] == {Wrong.BOOK_GAP: 11, Wrong.BOOK_RESTART: 0}.get(kind, 4)
        assert (row["checksum"] == 17) == (kind is not Wrong.BOOK_CHECKSUM)
        assert row["asks"] == ASKS


def test_a_text_sequence_stays_text(faults: Faults) -> None:
    faults.inject(Wrong.BOOK_GAP)
    assert sent(faults, book(pseq="4"))["data"][0]["pseq"] == "11"


@pytest.mark.parametrize("kind", [Wrong.BOOK_CROSSED, Wrong.BOOK_ONE_SIDED, Wrong.PRICE_ABSURD, Wrong.BOOK_FROZEN])
@pytest.mark.parametrize("uta", [False, True])
def test_untrue_books_have_their_sequence_in_order_and_a_gap_after_them(
    faults: Faults, at: At, kind: Wrong, uta: bool
) -> None:
    asks, bids = ("a", "b") if uta else ("asks", "bids")
    faults.inject(kind, seconds=5 if FAULTS[kind].seconds is Seconds.LASTS else 0)
    told = sent(faults, book(uta=uta))
    row = told["data"][0]
    assert (row["seq"], row["pseq"]) == (5, 4)
    if kind is Wrong.BOOK_CROSSED:
        assert Decimal(row[bids][0][0]) > max(Decimal(px) for px, _ in ASKS)
        assert row[bids][1:] == BIDS
    elif kind is Wrong.BOOK_ONE_SIDED:
        assert (told["action"], row[asks], row[bids]) == ("snapshot", [], BIDS[:1])
    elif kind is Wrong.BOOK_FROZEN:
        assert (row[asks], row[bids]) == ([], [])
    else:
        assert row[asks] == [["128000.2", "1.5"], ["128000.4", "2"]]
    at.ns += 6 * NS
    after = sent(faults, book(uta=uta))["data"][0]
    assert (after["pseq"], after[asks]) == (11, ASKS)
    assert sent(faults, book(uta=uta))["data"][0]["pseq"] == 4


def test_a_frozen_book_of_snapshots_repeats_the_first_with_new_times(faults: Faults, at: At) -> None:
    faults.inject(Wrong.BOOK_FROZEN, seconds=5)
    sent(faults, book(action="snapshot"), "books5")
    newer = json.loads(book(action="snapshot"))
    newer["data"][0].update(asks=[["65000", "1"]], seq=9, ts="1767225609000")
    told = sent(faults, json.dumps(newer), "books5")["data"][0]
    assert (told["asks"], told["seq"], told["ts"]) == (ASKS, 9, "1767225609000")
    at.ns += 6 * NS
    assert sent(faults, json.dumps(newer), "books5")["data"][0]["asks"] == [["65000", "1"]]
    assert faults._frozen == {}


SILENT = {
    Wrong.BOOK_SILENT: {"public books"},
    Wrong.PUBLIC_SILENT: {"public books", "public trades"},
    Wrong.PRIVATE_SILENT: {"private orders", "private fills"},
    Wrong.FILLS_LOST: {"private fills"},
    Wrong.ORDERS_LOST: {"private orders"},
    Wrong.HALF_OPEN: {"public books", "public trades", "private orders", "private fills"},
}


@pytest.mark.parametrize(("kind", "silent"), SILENT.items(), ids=list(SILENT))
def test_silence_is_where_it_is_and_ends(faults: Faults, at: At, kind: Wrong, silent: set[str]) -> None:
    names = ["public books", "public trades", "private orders", "private fills"]

    def heard() -> set[str]:
        sides = ((name.split()[0] == "private", name.split()[1], name) for name in names)
        return {name for private, channel, name in sides if faults.on_frame(private, channel, "x")}

    faults.inject(kind, seconds=5)
    assert heard() == set(names) - silent
    at.ns += 5 * NS
    assert heard() == set(names)
    assert faults.is_calm


def test_pings_and_reads(faults: Faults, at: At) -> None:
    faults.inject(Wrong.PONG_MUTED, seconds=5, where="private")
    assert (faults.answers_ping(True), faults.answers_ping(False)) == (False, True)
    assert faults.reads_socket(True)
    assert faults.on_frame(True, "orders", "x") == [(0.0, "x")]
    at.ns += 6 * NS
    assert faults.answers_ping(True)
    faults.inject(Wrong.HALF_OPEN, seconds=5, where="public")
    assert (faults.reads_socket(False), faults.answers_ping(False)) == (False, False)
    assert (faults.reads_socket(True), faults.answers_ping(True)) == (True, True)
    faults.inject(Wrong.PRIVATE_SILENT, seconds=5)
    assert faults.answers_ping(True)


def test_a_pong_is_no_frame_of_a_stream(faults: Faults) -> None:
    faults.inject(Wrong.FRAME_LOST)
    faults.inject(Wrong.PRIVATE_SILENT, seconds=5)
    assert faults.on_frame(True, "pong", "pong") == [(0.0, "pong")]
    assert faults.on_frame(True, "orders", "x") == []
    faults.clear()
    faults.inject(Wrong.FRAMES_HELD, seconds=5)
    faults.on_frame(True, "orders", "x")
    ((delay_s, _),) = faults.on_frame(True, "pong", "pong")
    assert delay_s > 5


def test_logins_and_subscriptions(faults: Faults) -> None:
    assert faults.on_ask(True, "login") is None
    faults.inject(Wrong.LOGIN_REFUSED)
    faults.inject(Wrong.SUBSCRIBE_REFUSED, where="books")
    assert faults.on_ask(True, "login") == (30005, "login failed")
    assert faults.on_ask(True, "subscribe orders") is None
    assert faults.on_ask(False, "subscribe books") == (30001, "channel doesn't exist")
    assert faults.on_ask(False, "subscribe books") is None
    faults.inject(Wrong.KEY_REVOKED, seconds=5)
    refused = faults.on_ask(True, "login")
    assert refused is not None
    assert refused[0] == 30011
    faults.inject(Wrong.ACK_LOST, where="login")
    faults.inject(Wrong.ACK_LATE, seconds=3)
    assert faults.on_frame(True, "orders", "x") == [(0.0, "x")]
    assert faults.on_frame(False, "subscribe", "x") == [(3.0, "x")]
    assert faults.on_frame(True, "login", "x") == []


def test_what_the_server_does_is_handed_to_it_at_once(faults: Faults) -> None:
    with pytest.raises(ValueError, match="no server"):
        faults.inject(Wrong.FORCED_CLOSE)
    done: list[tuple[Wrong, float, str]] = []
    faults.act = lambda kind, seconds, where: done.append((kind, seconds, where))
    faults.inject(Wrong.FORCED_CLOSE, where="private")
    faults.inject(Wrong.CONNECTION_REFUSED, seconds=2)
    faults.inject(Wrong.MANUAL_TRADE, count=2)
    assert done == [
        (Wrong.FORCED_CLOSE, 0.0, "private"),
        (Wrong.CONNECTION_REFUSED, 2.0, ""),
        (Wrong.MANUAL_TRADE, 0.0, ""),
        (Wrong.MANUAL_TRADE, 0.0, ""),
    ]


# --- rates ------------------------------------------------------------------------------------------------------------


def lost_of(at: At, rates: list[Rate], frames: int = 400) -> set[int]:
    faults = Faults(at, seed=5, rates=rates)
    return {n for n in range(frames) if not faults.on_frame(True, "orders", "x")}


def test_a_rate_is_decided_by_seed_kind_and_ordinal_alone(at: At) -> None:
    lost = Rate(Wrong.FRAME_LOST, 0.1)
    alone = lost_of(at, [lost])
    assert 15 < len(alone) < 70
    assert alone == lost_of(at, [lost])
    assert alone == lost_of(at, [Rate(Wrong.FRAME_TWICE, 0.3, 1.0), lost, Rate(Wrong.ACK_LOST, 1.0)])
    assert {n for n in range(400) if not Faults(at, 6, [lost]).on_frame(True, "orders", "x")} != alone
    assert lost_of(at, [Rate(Wrong.FRAME_LOST, 0.1, where="fills")]) == set()


def test_a_rate_of_windows_opens_them(at: At) -> None:
    faults = Faults(at, seed=5, rates=[Rate(Wrong.PRIVATE_SILENT, 0.02, 5.0)])
    while faults.on_frame(True, "orders", "x"):
        at.ns += NS // 10
    faults.set_rates(())
    at.ns += 4 * NS
    assert faults.on_frame(True, "orders", "x") == []
    at.ns += NS
    assert faults.on_frame(True, "orders", "x") == [(0.0, "x")]


def test_what_has_no_event_is_drawn_by_the_minute(at: At) -> None:
    faults = Faults(at, seed=5, rates=[Rate(Wrong.FORCED_CLOSE, 0.2), Rate(Wrong.PONG_MUTED, 0.2, 3.0)])
    done: list[Wrong] = []
    faults.act = lambda kind, _seconds, _where: done.append(kind)
    for minute in range(200):
        faults.minute(minute)
    assert 20 < len(done) < 70
    assert set(done) == {Wrong.FORCED_CLOSE}
    assert 20 < faults.seen["pong_muted"] < 70


def test_what_one_fault_left_the_next_can_take(at: At) -> None:
    """In any two orders, on any frame or answer: a fault is never a defect of the emulator."""
    frames = [("books", book()), ("books5", book(action="snapshot")), ("books", book(uta=True)), ("trades", trade())]
    frames += [("orders", order()), ("login", json.dumps({"event": "login"}))]
    kinds = [kind for kind, row in FAULTS.items() if row.hook is Hook.FRAME and kind is not Wrong.FRAME_HUGE]
    for first, second in itertools.product(kinds, kinds):
        faults = Faults(at)
        for kind in (first, second):
            row = FAULTS[kind]
            faults.inject(kind, seconds=1.0 if row.seconds in {Seconds.LATE, Seconds.LASTS} else 0.0)
        for channel, text in frames:
            private = channel in {"orders", "login"}
            assert all(delay_s >= 0 for delay_s, _ in faults.on_frame(private, channel, text))
    body = json.dumps({"code": "00000", "msg": "", "requestTime": 1, "data": {"list": [{"a": "1"}, {"a": "2"}]}})
    for first, second in itertools.product(spoilt._ANSWERS, spoilt._ANSWERS):
        for given in (body, body.replace('{"list":', "[").replace("]}}", "]]}"), spoilt.DEEP, "", "[]", "null", '"x"'):
            assert isinstance(spoilt.answer(second, spoilt.answer(first, given)), str)


# --- the table --------------------------------------------------------------------------------------------------------


def test_every_kind_has_its_row_and_says_what_it_does_and_asks() -> None:
    assert set(FAULTS) == set(Wrong)
    assert len(FAULTS) >= 80
    for kind, row in FAULTS.items():
        assert row.what, kind
        assert row.must, kind
        assert "\n" not in row.what + row.must
        assert row.hook is not Hook.ACCOUNT or row.seconds is Seconds.ONCE


PROBLEMS = [
    ((Wrong.LATENCY, 0.0, 1, ""), "needs seconds above 0 (how late)"),
    ((Wrong.HALF_OPEN, 0.0, 1, ""), "needs seconds above 0 (how long)"),
    ((Wrong.FORCED_CLOSE, 1.0, 1, ""), "takes no seconds"),
    ((Wrong.RATE_LIMIT, 0.0, 0, ""), "count must be 1 at least"),
    ((Wrong.RATE_LIMIT, 2.0, 3, ""), "either counted or lasts"),
    ((Wrong.HALF_OPEN, 2.0, 3, ""), "either counted or lasts"),
    ((Wrong.RATE_LIMIT, -1.0, 1, ""), "seconds must be 0 to"),
    ((Wrong.RATE_LIMIT, math.nan, 1, ""), "seconds must be 0 to"),
    ((Wrong.RATE_LIMIT, math.inf, 1, ""), "seconds must be 0 to"),
    ((Wrong.PONG_MUTED, 1.0, 1, "books"), "where must be public, private"),
    ((Wrong.TRANSFER, 0.0, 1, "private"), "takes no where"),
]


@pytest.mark.parametrize(("given", "why"), PROBLEMS, ids=lambda value: str(value)[:40])
def test_what_cannot_be_injected_is_said(faults: Faults, given: tuple[Wrong, float, int, str], why: str) -> None:
    kind, seconds, count, where = given
    assert why in problem_of(*given)
    with pytest.raises(ValueError, match=str(kind)):
        faults.inject(kind, seconds=seconds, count=count, where=where)
    assert not faults.injected
    assert faults.is_calm


def test_every_kind_of_request_answer_and_frame_does_something(at: At) -> None:
    """A kind without an effect would prove nothing. REST kinds are covered one by one above."""
    shown: set[Wrong] = {*REPLIES, *CUT}
    shown |= {Wrong.DELIVERED_LATE, Wrong.ANSWER_SLOW, Wrong.SLOW_504, Wrong.LATENCY, Wrong.EMPTY_200, Wrong.DEEP_JSON}
    shown |= {Wrong.TRUNCATED_JSON, Wrong.WRONG_CONTENT_TYPE, Wrong.MISTYPED_ANSWER, Wrong.FUTURE_CLOCK}
    shown |= {Wrong.DUPLICATE_FIELDS, Wrong.READ_NOT_FOUND, Wrong.READS_FAIL, Wrong.PAGE_TRUNCATED, Wrong.STALE_READS}
    shown |= {Wrong.CANCEL_NOT_FOUND, Wrong.BATCH_ROWS_DROPPED, Wrong.MINIMUM_CHANGED, Wrong.DELISTED}
    for kind, row in FAULTS.items():
        if row.hook in {Hook.REQUEST, Hook.ANSWER}:
            assert kind in shown, kind
        if row.hook is Hook.FRAME:
            assert _changes(at, kind, row), kind


def _changes(at: At, kind: Wrong, row: Fault) -> bool:
    faults = Faults(at)
    faults.inject(kind, seconds=1.0 if row.seconds in {Seconds.LATE, Seconds.LASTS} else 0.0)
    frames = (
        (False, "books", book()),
        (False, "trades", trade()),
        (True, "fills", order()),
        (True, "orders", order()),
        (True, "login", json.dumps({"event": "login"})),
    )
    return any(faults.on_frame(private, channel, text) != [(0.0, text)] for private, channel, text in frames)
