"""Lanes against a server on loopback that misbehaves in each way, and the budgets on a clock in the test's hand.

No wall time is asserted: what must not come is waited for by an event, and the budgets' time is the hand clock's.
"""

import asyncio
import json
import socket
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from ssl import create_default_context
from typing import Any, Literal

import pytest
from aiohttp import web

from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import Event, OrderUpdate
from mmdaemon.core.types import NS, Instrument, OrderStatus, Purpose, Side
from mmdaemon.venues import wire_answer
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Answer, Endpoint, Meaning, Refused, Request, Sends, Unanswered, Unsent
from mmdaemon.venues.bitget.classic import Classic
from mmdaemon.venues.budget import SHARE, Budget
from mmdaemon.venues.lanes import IN_FLIGHT_MAX, Lanes
from mmdaemon.venues.outbox import Outbox
from mmdaemon.venues.wire_http import HttpClient

PATIENCE_S = 20.0
CANARY = "canary-7f3a"
"""In every answer; in no outcome."""
AT_MS = 1_790_000_000_123
PLACE = endpoints.CLASSIC_PLACE
CANCEL = endpoints.CLASSIC_CANCEL
READ = endpoints.CLASSIC_OPEN_ORDERS

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HandTimer:
    def __init__(self, at_ns: int, call: Callable[[], object]) -> None:
        self.at_ns, self.call, self._cancelled = at_ns, call, False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled


class HandClock:
    """Time passes when the test says so; what is due then happens in its order."""

    def __init__(self) -> None:
        self.now_ns = 5 * NS
        self.timers: list[HandTimer] = []

    def mono_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return 1_790_000_000 * NS + self.now_ns

    def call_at(self, mono_ns: int, callback: Callable[..., object], *args: Any) -> HandTimer:
        timer = HandTimer(mono_ns, lambda: callback(*args))
        self.timers.append(timer)
        return timer

    async def pass_s(self, seconds: float) -> None:
        until_ns = self.now_ns + round(seconds * NS)
        while due := [timer for timer in self.timers if not timer.cancelled() and timer.at_ns <= until_ns]:
            timer = min(due, key=lambda one: one.at_ns)
            self.timers.remove(timer)
            self.now_ns = max(self.now_ns, timer.at_ns)
            timer.call()
            await settle()
        self.now_ns = until_ns


async def settle() -> None:
    """Let everything run that can run without the network."""
    for _ in range(5):
        await asyncio.sleep(0)


class Signer:
    """Address, JSON body and a stamp of when it was signed."""

    def __init__(self, url: str, clock: HandClock) -> None:
        self.url, self._clock = url, clock
        self.signed_ns: list[int] = []

    def sign(self, request: Request) -> tuple[str, dict[str, str], bytes | None]:
        self.signed_ns.append(self._clock.mono_ns())
        endpoint = request.endpoint
        if endpoint.method == "GET":
            assert isinstance(request.params, dict)
            query = "&".join(f"{key}={value}" for key, value in sorted(request.params.items()))
            return f"{self.url}{endpoint.path}" + (f"?{query}" if query else ""), {}, None
        body = json.dumps(request.params).encode()
        return f"{self.url}{endpoint.path}", {"Content-Type": "application/json"}, body


class Site:
    """The server, the connections, and lanes to it. `behave` is what it does with the next requests."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.clock = HandClock()
        self.signer = Signer(url, self.clock)
        self.http = HttpClient(create_default_context, self.clock)
        self.sends: Sends
        self.sends = self.lanes = Lanes(self.signer, self.http, self.clock, timeout_s)
        self.url = url
        self.behave: Behaviour = succeed()
        self.seen: list[web.Request] = []
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()
        """What `hangs` waits for."""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.seen.append(request)
        self.arrived.set()
        return await self.behave(request)

    async def hangs(self, request: web.Request) -> web.StreamResponse:
        await self.go_on.wait()
        return await succeed()(request)

    async def ask(self, endpoint: Endpoint = PLACE, **params: str) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            return await self.sends.ask(Request(endpoint, params))

    async def until_seen(self, n: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen) < n:
                self.arrived.clear()
                await self.arrived.wait()


@asynccontextmanager
async def a_site(timeout_s: float = PATIENCE_S) -> AsyncGenerator[Site, None]:
    app = web.Application()
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    site = Site("", timeout_s)
    app.router.add_route("*", "/{path:.*}", site.serve)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    site.url = site.signer.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield site
    finally:
        site.go_on.set()
        await site.lanes.close()
        await site.http.close()
        await runner.cleanup()
    assert not site.lanes.in_flight


def reply(status: int, text: str | bytes, **headers: str) -> Behaviour:
    async def behave(_request: web.Request) -> web.StreamResponse:
        body = text.encode() if isinstance(text, str) else text
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return behave


def envelope(code: object = "00000", msg: object = "success", at: object = AT_MS, data: object = None) -> str:
    return json.dumps({"code": code, "msg": msg, "requestTime": at, "data": data})


def succeed(data: object = None) -> Behaviour:
    return reply(200, envelope(data=data))


def refuse(code: object, status: int = 200) -> Behaviour:
    return reply(status, envelope(code, CANARY))


def cut(*raw: bytes) -> Behaviour:
    """These bytes instead of an answer, and then the connection is cut."""

    async def behave(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        for part in raw:
            request.transport.write(part)
        request.transport.close()
        return web.Response()

    return behave


async def drips(request: web.Request) -> web.StreamResponse:
    """An answer whose bytes come one by one, without end: each in time, the whole never."""
    response = web.StreamResponse(headers={"Content-Length": "100000"})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.01)


# --- what an answer says ----------------------------------------------------------------------------------------------


async def test_an_answer_is_the_data_as_it_was_sent_and_the_venues_time() -> None:
    async with a_site() as site:
        site.behave = reply(
            200, '{"requestTime":"1790000000123","data":{"a":"0.10", "b":[1]},"msg":"success","code":"00000"}'
        )
        answer = await site.ask(PLACE, symbol="BTCUSDT")
        assert bytes(answer.data) == b'{"a":"0.10", "b":[1]}'
        assert answer.venue_ts_ns == AT_MS * 1_000_000
        assert await site.seen[0].json() == {"symbol": "BTCUSDT"}
        assert site.lanes.sent == {PLACE.path: 1}
        assert not site.lanes.unanswered
        assert not site.lanes.unsent
        assert not site.lanes.limited


async def test_data_that_is_null_or_missing_is_null() -> None:
    async with a_site() as site:
        assert bytes((await site.ask()).data) == b"null"
        site.behave = reply(200, '{"code":"00000","msg":"","requestTime":1790000000123}')
        assert bytes((await site.ask()).data) == b"null"


async def test_the_address_is_sent_as_it_was_signed() -> None:
    async with a_site() as site:
        await site.ask(READ, a="1%2C2", symbol="BTCUSDT")
        assert site.seen[0].raw_path == f"{READ.path}?a=1%2C2&symbol=BTCUSDT"


REFUSALS: list[tuple[str, Behaviour, Meaning, str]] = [
    ("margin", refuse("43012"), Meaning.MARGIN, "43012"),
    ("a refusal with status 400", refuse("45110", 400), Meaning.REFUSED, "45110"),
    ("a refusal with status 500", refuse("45110", 500), Meaning.REFUSED, "45110"),
    ("a number for a code", refuse(40009), Meaning.AUTH, "40009"),
    ("the clock", refuse("40008", 400), Meaning.CLOCK, "40008"),
    ("service error", refuse("40725"), Meaning.UNKNOWN, "40725"),
    ("service error with status 500", refuse("40725", 500), Meaning.UNKNOWN, "40725"),
    ("a duplicate id", refuse("40786", 400), Meaning.UNKNOWN, "40786"),
    ("a code that nobody knows", refuse("99999"), Meaning.UNKNOWN, "99999"),
    ("a code that nobody knows with status 429", refuse("99999", 429), Meaning.UNKNOWN, "99999"),
    ("too many requests", refuse("429", 429), Meaning.RATE_LIMIT, "429"),
    ("too many requests without JSON", reply(429, CANARY), Meaning.RATE_LIMIT, "http_429"),
    ("too many requests without anything", reply(429, b""), Meaning.RATE_LIMIT, "http_429"),
]


@pytest.mark.parametrize(("behave", "meant", "code"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
async def test_a_code_is_a_refusal_and_says_what_it_proves(behave: Behaviour, meant: Meaning, code: str) -> None:
    async with a_site() as site:
        site.behave = behave
        with pytest.raises(Refused) as refused:
            await site.ask()
        assert (refused.value.meaning, refused.value.code) == (meant, code)
        assert CANARY not in repr(refused.value)
        assert len(site.seen) == 1
        assert not site.lanes.unanswered


HTML = f"<html><body>{CANARY}</body></html>"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DEEP = '{"code":"00000","msg":"success","requestTime":1790000000123,"data":' + "[" * 200_000
SILENCES: list[tuple[str, Behaviour, str]] = [
    ("502 in HTML", reply(502, HTML), "http_502"),
    ("500 in HTML", reply(500, HTML), "http_500"),
    ("503 empty", reply(503, b""), "http_503"),
    ("504 in HTML", reply(504, HTML), "http_504"),
    ("403 in HTML", reply(403, HTML), "http_403"),
    ("a status of no name", reply(599, HTML), "http_5xx"),
    ("a teapot's cousin", reply(444, HTML), "http_4xx"),
    ("nothing, politely", reply(204, b""), "http_2xx"),
    ("success with status 500", reply(500, envelope()), "http_500"),
    ("success with status 429", reply(429, envelope()), "http_4xx"),
    ("200 in HTML", reply(200, HTML), "unreadable"),
    ("200 empty", reply(200, b""), "unreadable"),
    ("half of the JSON", reply(200, envelope(data=CANARY)[:-8]), "unreadable"),
    ("JSON, but no envelope", reply(200, f'["{CANARY}"]'), "unreadable"),
    ("null", reply(200, "null"), "unreadable"),
    ("a number", reply(200, "1e999"), "unreadable"),
    ("no code", reply(200, '{"msg":"success","requestTime":1790000000123,"data":null}'), "unreadable"),
    ("a code of another type", reply(200, envelope(code={"a": CANARY})), "unreadable"),
    ("a code that is a text", reply(200, envelope(code=f"<b>{CANARY}</b>")), "unreadable"),
    ("a code that is a mark", reply(200, envelope(code="<b>4</b>")), "unreadable"),
    ("an absurd code", reply(200, envelope(code="4" * 5_000)), "unreadable"),
    ("success that says otherwise", reply(200, envelope(msg=CANARY)), "unreadable"),
    ("no time", reply(200, '{"code":"00000","msg":"success","data":null}'), "unreadable"),
    ("a time that is none", reply(200, envelope(at=CANARY)), "unreadable"),
    ("a time before time", reply(200, envelope(at=-5)), "unreadable"),
    ("a broken time", reply(200, envelope(at=1.5)), "unreadable"),
    (
        "no UTF-8",
        reply(200, b'{"code":"00000","msg":"\xff\xfe","requestTime":1790000000123,"data":null}'),
        "unreadable",
    ),
    ("deep", reply(200, DEEP), "unreadable"),
    ("deep and closed", reply(200, DEEP + "]" * 200_000 + "}"), "unreadable"),
    ("packed, but not", reply(200, envelope(data=CANARY), Content_Encoding="gzip"), "unreadable"),
    ("cut before the answer", cut(), "disconnected"),
    ("cut within the status line", cut(b"HTTP/1."), "disconnected"),
    ("cut within the headers", cut(OK), "disconnected"),
    ("cut within the body", cut(OK + b"Content-Length: 500\r\n\r\n", envelope().encode()), "truncated"),
    ("a chunk cut", cut(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"FF\r\n{"), "truncated"),
    ("no HTTP", cut(b"\x16\x03\x01 " + CANARY.encode() + b"\r\n\r\n"), "unreadable"),
]


@pytest.mark.parametrize(("behave", "reason"), [row[1:] for row in SILENCES], ids=[row[0] for row in SILENCES])
async def test_whatever_else_comes_is_no_answer_and_is_not_sent_again(behave: Behaviour, reason: str) -> None:
    async with a_site() as site:
        site.behave = behave
        with pytest.raises(Unanswered) as unanswered:
            await site.ask()
        assert str(unanswered.value) == reason
        assert CANARY not in repr(unanswered.value)
        assert unanswered.value.__cause__ is None
        assert len(site.seen) == 1
        assert site.lanes.unanswered == {(PLACE.path, reason): 1}
        site.behave = succeed()
        await site.ask()  # and the next is as good as before


async def test_an_answer_that_is_too_large_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_answer, "BODY_MAX", 5_000)
    async with a_site() as site:
        site.behave = succeed("x" * 5_000)
        with pytest.raises(Unanswered, match="too_large"):
            await site.ask()
        site.behave = succeed("x" * 4_000)
        await site.ask()


@pytest.mark.parametrize("how", ["silence", "drips"])
async def test_the_time_out_counts_the_whole_answer(how: Literal["silence", "drips"]) -> None:
    async with a_site(timeout_s=0.3) as site:
        site.behave = drips if how == "drips" else site.hangs
        with pytest.raises(Unanswered, match="timeout"):
            await site.ask()
        assert site.lanes.unanswered == {(PLACE.path, "timeout"): 1}
        assert len(site.seen) == 1


async def test_nobody_there_is_not_connected() -> None:
    async with a_site() as site:
        site.signer.url = "http://127.0.0.1:1"
        with pytest.raises(Unanswered, match="not_connected"):
            await site.ask()


async def test_a_redirect_is_no_answer_and_is_not_followed() -> None:
    async with a_site() as site:
        site.behave = reply(302, b"", Location=f"{site.url}/elsewhere")
        with pytest.raises(Unanswered, match="http_3xx"):
            await site.ask(READ)
        assert [request.path for request in site.seen] == [READ.path]


async def test_an_order_on_a_connection_that_the_server_gave_up_is_sent_at_most_once() -> None:
    async with a_site() as site:

        async def closes_after(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            asyncio.get_running_loop().call_later(0.05, request.transport.close)
            return await succeed()(request)

        site.behave = closes_after
        sent = landed = 0
        for _ in range(6):
            sent += 1
            with suppress(Unanswered):
                await site.ask(PLACE, clientOid=str(sent))
                landed += 1
            await asyncio.sleep(0.01 * sent)
        ids = [(await request.json())["clientOid"] for request in site.seen]
        assert len(ids) == len(set(ids))
        assert landed <= len(ids) <= sent
        assert all(reason == "disconnected" for _path, reason in site.lanes.unanswered)


# --- a request that left ----------------------------------------------------------------------------------------------


async def test_a_cancelled_caller_does_not_un_send() -> None:
    async with a_site() as site:
        finished = asyncio.Event()

        async def slow(request: web.Request) -> web.StreamResponse:
            await site.go_on.wait()
            finished.set()
            return await succeed()(request)

        site.behave = slow
        caller = asyncio.create_task(site.ask())
        await site.until_seen(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert site.lanes.in_flight == 1
        site.go_on.set()
        async with asyncio.timeout(PATIENCE_S):
            await finished.wait()  # a server whose client hung up would have been cancelled
            while site.lanes.in_flight:  # noqa: ASYNC110 - it has no event of its own
                await asyncio.sleep(0.002)
        assert not site.lanes.unanswered


async def test_a_refusal_that_nobody_waits_for_any_more_disturbs_nobody() -> None:
    async with a_site() as site:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))

        async def slow(request: web.Request) -> web.StreamResponse:
            await site.go_on.wait()
            return await refuse("43012")(request)

        site.behave = slow
        caller = asyncio.create_task(site.ask())
        await site.until_seen(1)
        caller.cancel()
        site.go_on.set()
        async with asyncio.timeout(PATIENCE_S):
            while site.lanes.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        assert not failures


async def test_close_leaves_what_waits_unsent_and_what_left_unanswered() -> None:
    async with a_site() as site:
        site.behave = site.hangs
        left = [asyncio.create_task(site.ask(CANCEL)) for _ in range(8)]
        await site.until_seen(8)
        waits = asyncio.create_task(site.ask(CANCEL))
        await settle()
        await site.lanes.close()
        with pytest.raises(Unsent, match="closed"):
            await waits
        for task in left:
            with pytest.raises(Unanswered, match="closed"):
                await task
        with pytest.raises(Unsent, match="closed"):
            await site.ask(READ)
        assert len(site.seen) == 8
        assert site.lanes.unsent == {(CANCEL.path, "closed"): 1, (READ.path, "closed"): 1}


async def test_close_finds_what_was_asked_for_a_moment_ago() -> None:
    async with a_site() as site:
        site.behave = site.hangs
        asked = burst(site, CANCEL, 3)
        while not site.lanes.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await site.lanes.close()
        for task in asked:
            with pytest.raises(Unanswered, match="closed"):
                await task


async def test_nothing_leaves_over_connections_that_are_closed() -> None:
    async with a_site() as site:
        await site.http.close()
        with pytest.raises(Unsent, match="closed"):
            await site.ask()
        assert not site.lanes.sent


# --- budgets ----------------------------------------------------------------------------------------------------------


def burst(site: Site, endpoint: Endpoint, n: int) -> list[asyncio.Task[Answer]]:
    return [asyncio.create_task(site.ask(endpoint, n=str(i))) for i in range(n)]


async def test_an_order_that_would_wait_longer_than_a_second_is_not_sent() -> None:
    async with a_site() as site:
        await asyncio.gather(*burst(site, PLACE, 8))
        with pytest.raises(Unsent, match="budget"):
            await site.ask()
        assert len(site.seen) == 8
        assert site.lanes.unsent == {(PLACE.path, "budget"): 1}
        await site.clock.pass_s(0.25)
        waits = burst(site, PLACE, 9)
        await settle()
        assert waits[8].done()  # it would have been the first of the second after
        with pytest.raises(Unsent, match="budget"):
            await waits[8]
        assert not any(task.done() for task in waits[:8])
        await site.clock.pass_s(0.75)
        await asyncio.gather(*waits[:8])
        assert len(site.seen) == 16


async def test_an_order_that_was_to_wait_less_is_not_sent_once_it_has_waited_a_second() -> None:
    async with a_site() as site:
        await asyncio.gather(*burst(site, PLACE, 8))
        await site.clock.pass_s(0.5)
        (waits,) = burst(site, PLACE, 1)
        await settle()
        site.lanes._budget(PLACE).limited(20.0)
        await site.clock.pass_s(1.0)
        with pytest.raises(Unsent, match="budget"):
            await waits
        await site.clock.pass_s(25.0)
        assert len(site.seen) == 8
        await site.ask()  # and it holds no place that it did not take


async def test_a_poll_waits_up_to_the_time_out() -> None:
    async with a_site(timeout_s=5.0) as site:
        await asyncio.gather(*burst(site, READ, 8))
        polls = burst(site, READ, 8 * 4 + 1)
        with pytest.raises(Unsent, match="budget"):
            await polls.pop()  # its turn would have been in five seconds
        for _ in range(4):
            await site.clock.pass_s(1.0)
            await asyncio.gather(*[polls.pop(0) for _ in range(8)])
        assert len(site.seen) == 40


async def test_cancels_wait_as_long_as_it_takes_in_their_order() -> None:
    async with a_site(timeout_s=1.0) as site:
        cancels = burst(site, CANCEL, 80)
        await settle()
        for second in range(10):
            await site.until_seen(8 * (second + 1))
            assert len(site.seen) == 8 * (second + 1)
            await asyncio.gather(*cancels[8 * second : 8 * (second + 1)])
            await site.clock.pass_s(1.0)
        numbers = [int((await request.json())["n"]) for request in site.seen]
        assert [sorted(numbers[i : i + 8]) for i in range(0, 80, 8)] == [list(range(i, i + 8)) for i in range(0, 80, 8)]
        assert not site.lanes.unsent


async def test_a_cancel_waits_behind_nothing_but_cancels() -> None:
    """Every connection that orders and reads may have is stuck, and their budgets are spent."""
    async with a_site() as site:
        site.behave = site.hangs
        stuck = [endpoints.UNIFIED_PLACE, endpoints.UNIFIED_AMEND, PLACE, READ, endpoints.UNIFIED_OPEN_ORDERS]
        callers = [task for endpoint in (*stuck, endpoints.UNIFIED_FILLS) for task in burst(site, endpoint, 16)]
        await site.until_seen(2 * IN_FLIGHT_MAX)
        await settle()
        assert site.lanes.in_flight == 2 * IN_FLIGHT_MAX
        with pytest.raises(Unsent, match="in_flight"):
            await site.ask(endpoints.CLASSIC_BILLS)
        with pytest.raises(Unsent, match="in_flight"):
            await site.ask(endpoints.CLASSIC_PLACE_BATCH)
        site.behave = succeed()
        await asyncio.gather(*burst(site, CANCEL, 8), *burst(site, endpoints.CLASSIC_CANCEL_ALL, 8))
        site.go_on.set()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)


@pytest.mark.parametrize(("endpoint", "dated_s"), [(CANCEL, 0.5), (READ, 0.5), (PLACE, 0.0)])
async def test_an_order_is_dated_when_it_was_asked_for_and_all_else_as_it_leaves(
    endpoint: Endpoint, dated_s: float
) -> None:
    """So that how long the venue may take an order counts from when the gate was read, and a cancel is never stale."""
    async with a_site() as site:
        await asyncio.gather(*burst(site, endpoint, 8))
        await site.clock.pass_s(0.5)
        begun_ns = site.clock.mono_ns()
        (waits,) = burst(site, endpoint, 1)
        await settle()
        await site.clock.pass_s(0.5)
        await waits
        assert site.signer.signed_ns[8:] == [begun_ns + round(dated_s * NS)]


@pytest.mark.parametrize("cancel_all", [endpoints.CLASSIC_CANCEL_ALL, endpoints.UNIFIED_CANCEL_ALL])
async def test_a_cancel_all_drops_the_orders_that_wait(cancel_all: Endpoint) -> None:
    async with a_site() as site:
        await asyncio.gather(*burst(site, PLACE, 8), *burst(site, endpoints.UNIFIED_AMEND, 8), *burst(site, READ, 8))
        await site.clock.pass_s(0.5)
        orders = [*burst(site, PLACE, 2), *burst(site, endpoints.UNIFIED_AMEND, 2)]
        (poll,) = burst(site, READ, 1)
        await settle()
        await site.ask(cancel_all)
        for order in orders:
            with pytest.raises(Unsent, match="cancel_all"):
                await order
        await site.clock.pass_s(2.0)
        await poll
        assert [request.path for request in site.seen[24:]] == [cancel_all.path, READ.path]
        assert site.lanes.unsent == {(PLACE.path, "cancel_all"): 2, (endpoints.UNIFIED_AMEND.path, "cancel_all"): 2}


@pytest.mark.parametrize("how", ["cancel_all", "withdrawn"])
async def test_an_order_whose_connection_is_still_being_made_is_taken_back(how: str) -> None:
    """A dial may take as long as the time-out: the order would land behind what was to take it out."""
    async with a_site(timeout_s=1.0) as site:
        plain, request = site.signer.url, Request(PLACE, {})
        with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody shakes hands there
            site.signer.url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            order = asyncio.create_task(site.lanes.ask(request))
            while not site.lanes.in_flight:  # noqa: ASYNC110
                await asyncio.sleep(0)
            site.signer.url = plain
            if how == "cancel_all":
                await site.ask(endpoints.CLASSIC_CANCEL_ALL)
            else:
                assert not site.lanes.withdraw(Request(PLACE, {}))  # another
                assert site.lanes.withdraw(request)
                assert not site.lanes.withdraw(request)
            with pytest.raises(Unsent, match=how):
                await order
            assert not site.lanes.in_flight
            assert site.lanes.unsent == {(PLACE.path, how): 1}
            assert not site.lanes.sent[PLACE.path]
        site.behave = site.hangs
        left = asyncio.create_task(site.lanes.ask(request))
        await site.until_seen(1 + (how == "cancel_all"))
        assert not site.lanes.withdraw(request)  # it left
        site.go_on.set()
        await left


async def test_a_cancel_takes_back_the_order_that_waits_for_its_turn() -> None:
    """Else the cancel, which waits for nothing, would find no order, and the order would land behind it and rest."""
    instrument = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=10**9, lot_e10=10**6)
    async with a_site() as site:
        told: list[Event] = []
        outbox = Outbox(Classic(instrument), site.lanes, site.clock, told.append, site.lanes.withdraw)
        places = [
            Place(
                f"mmtest-1-{n}", Side.BUY, 649_000, 10, Purpose.QUOTE, 0, post_only=True, reduce_only=False, ioc=False
            )
            for n in range(3)
        ]
        await asyncio.gather(*burst(site, PLACE, 8), *burst(site, endpoints.CLASSIC_PLACE_BATCH, 4))
        await site.clock.pass_s(0.5)
        gone = len(site.seen)
        outbox.send(places[0])
        await settle()
        outbox.send(places[1])
        outbox.send(places[2])
        await settle()
        outbox.send(Cancel("mmtest-1-0", risk=True))
        outbox.send(Cancel("mmtest-1-2", risk=True))
        await site.clock.pass_s(2.0)
        assert len(site.seen) == gone
        assert {(event.client_id, event.status, event.reason) for event in told if isinstance(event, OrderUpdate)} == {
            (place.client_id, OrderStatus.REJECTED, "unsent:withdrawn") for place in places
        }
        outbox.send(Cancel("mmtest-1-0", risk=True))
        while len(site.seen) == gone:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert site.seen[-1].path == CANCEL.path
        await outbox.close()


async def test_a_caller_that_is_cancelled_while_it_waits_sends_nothing_and_holds_no_place() -> None:
    async with a_site() as site:
        await asyncio.gather(*burst(site, CANCEL, 8))
        first, second = burst(site, CANCEL, 2)
        await settle()
        first.cancel()
        await settle()
        await site.clock.pass_s(1.0)
        await second
        rest = burst(site, CANCEL, 7)
        await asyncio.gather(*rest)  # of this second's eight, seven are left
        assert [(await request.json())["n"] for request in site.seen[8:9]] == ["1"]
        with pytest.raises(asyncio.CancelledError):
            await first
        assert len(site.seen) == 16


async def test_those_who_gave_up_hold_nobody_up() -> None:
    async with a_site() as site:
        await asyncio.gather(*burst(site, PLACE, 8))
        await site.clock.pass_s(0.5)
        gone = burst(site, PLACE, 8)
        await settle()
        for order in gone:
            order.cancel()
        await settle()
        (waits,) = burst(site, PLACE, 1)  # behind eight it would be refused
        await settle()
        await site.clock.pass_s(0.5)
        await waits


async def test_one_that_is_cancelled_as_its_turn_comes_lets_the_next_go() -> None:
    async with a_site() as site:
        await asyncio.gather(*burst(site, CANCEL, 8))
        first, second = burst(site, CANCEL, 2)
        await settle()
        first.cancel()
        await site.clock.pass_s(1.0)
        await second
        assert len(site.seen) == 9


async def test_nobody_overtakes_who_waits() -> None:
    """The turn is there, and the loop has not come to say so yet."""
    async with a_site() as site:
        await asyncio.gather(*burst(site, CANCEL, 8))
        waits = burst(site, CANCEL, 8)
        await settle()
        site.clock.now_ns += NS
        late = asyncio.create_task(site.ask(CANCEL, n="late"))
        await settle()
        await site.clock.pass_s(0.0)
        await asyncio.gather(*waits)
        assert not late.done()
        await site.clock.pass_s(1.0)
        await late


async def test_a_cancel_that_waits_is_not_queued_again_and_who_asks_for_it_gets_its_outcome() -> None:
    """Of a sweep in a storm: the same cancels each fiftieth of a second, and a new one that must not wait for them."""
    async with a_site() as site:
        await asyncio.gather(*burst(site, CANCEL, 8))
        again = [task for _ in range(50) for task in burst(site, CANCEL, 3)]
        new = asyncio.create_task(site.ask(CANCEL, n="new"))
        await settle()
        await site.clock.pass_s(1.0)
        await asyncio.gather(new, *again)
        assert [(await request.json())["n"] for request in site.seen[8:]] == ["0", "1", "2", "new"]
        # What has left is not joined: it may be lost.
        site.behave = site.hangs
        left = burst(site, CANCEL, 1)
        await site.until_seen(13)
        site.behave = succeed()
        await asyncio.gather(*burst(site, CANCEL, 1))
        assert not left[0].done()
        site.go_on.set()
        await asyncio.gather(*left)


async def test_who_joined_a_cancel_sends_it_where_the_first_to_ask_is_gone() -> None:
    async with a_site() as site:
        await asyncio.gather(*burst(site, CANCEL, 8))
        first, second, third = (asyncio.create_task(site.ask(CANCEL, n="same")) for _ in range(3))
        await settle()
        first.cancel()
        await settle()
        await site.clock.pass_s(1.0)
        await asyncio.gather(second, third)
        assert len(site.seen) == 9


async def test_stuck_cancels_do_not_stop_a_cancel() -> None:
    async with a_site() as site:
        site.behave = site.hangs
        stuck: list[asyncio.Task[Answer]] = []
        for _ in range(4):
            stuck.extend(burst(site, CANCEL, 8))
            await site.until_seen(len(stuck))
            await site.clock.pass_s(1.0)
        assert site.lanes.in_flight == 32 > IN_FLIGHT_MAX
        site.behave = succeed()
        await site.ask(CANCEL)
        site.go_on.set()
        await asyncio.gather(*stuck)


async def test_too_many_halves_the_budget_for_a_second() -> None:
    async with a_site() as site:
        site.behave = refuse("429", 429)
        with pytest.raises(Refused):
            await site.ask(CANCEL)
        site.behave = succeed()
        cancels = burst(site, CANCEL, 20)
        await site.until_seen(4)
        await settle()
        assert len(site.seen) == 4  # with the refused one
        await site.clock.pass_s(1.0)
        await site.until_seen(12)
        await settle()
        assert len(site.seen) == 12  # a whole second's worth again
        await site.clock.pass_s(2.0)
        await asyncio.gather(*cancels)
        assert site.lanes.limited == {CANCEL.path: 1}


@pytest.mark.parametrize(("said", "held_s"), [("3", 3.0), ("9999", 30.0), ("-1", 0.0), ("soon", 0.0), ("1" * 400, 0.0)])
async def test_retry_after_is_honoured(said: str, held_s: float) -> None:
    async with a_site() as site:
        site.behave = reply(429, CANARY, Retry_After=said)
        with pytest.raises(Refused):
            await site.ask(PLACE)
        site.behave = succeed()
        if held_s:
            await site.clock.pass_s(held_s - 1.0)
            with pytest.raises(Unsent, match="budget"):
                await site.ask(PLACE)
            await site.clock.pass_s(1.0)
        await site.ask(PLACE)


async def test_retry_after_holds_a_cancel_for_a_second_at_most() -> None:
    async with a_site() as site:
        site.behave = reply(429, CANARY, Retry_After="600")
        with pytest.raises(Refused):
            await site.ask(CANCEL)
        site.behave = succeed()
        (cancel,) = burst(site, CANCEL, 1)
        await settle()
        assert len(site.seen) == 1
        await site.clock.pass_s(1.0)
        await cancel


@pytest.mark.parametrize("endpoint", [PLACE, endpoints.CLASSIC_PLACE_BATCH, endpoints.UNIFIED_FEES,
                                      endpoints.UNIFIED_DEAD_MAN, endpoints.CLASSIC_CANDLES])  # fmt: skip
async def test_no_stretch_of_time_has_more_than_four_fifths_of_the_budget(endpoint: Endpoint) -> None:
    """Whatever comes when: against the venue's own limit in any second, and our share of it in the long run."""
    random = Random(endpoint.path)
    clock = HandClock()
    budget = Budget(endpoint, clock)
    left: deque[int] = deque()
    asked: list[asyncio.Task[None]] = []

    async def one(within_s: float | None) -> None:
        if await budget.turn(within_s) is None:
            left.append(clock.mono_ns())

    for _ in range(400):
        asked.extend(asyncio.create_task(one(random.choice((None, 1.0, 5.0)))) for _ in range(random.randrange(4)))
        await settle()
        if random.random() < 0.02:
            budget.limited(random.choice((0.0, 0.4)))
        await clock.pass_s(random.choice((0.0, 0.01, 0.2, 1.5)))
    await clock.pass_s(1_000.0)
    await asyncio.gather(*asked)
    most = max(1, int(SHARE * endpoint.burst))
    times = list(left)
    assert len(times) > 100
    stretch_ns = round(endpoint.burst / endpoint.per_s * NS)
    assert all(later - first >= stretch_ns for first, later in zip(times, times[most:], strict=False))
    took_s = (times[-1] - times[0]) / NS
    assert len(times) <= SHARE * endpoint.per_s * took_s + most
