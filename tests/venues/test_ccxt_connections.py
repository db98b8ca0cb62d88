"""ccxt's connections: one that was given up is not heard any more."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from mmdaemon.clock import RealClock
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig

BOOK = '{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books","instId":"BTCUSDT"},"data":[]}'


class SlowToAnswer:
    """Holds each handshake until it is let go; then says one frame, and keeps the connection."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Event] = []
        self.open: set[int] = set()
        self.changed = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        number, let_go = len(self.asked), asyncio.Event()
        self.asked.append(let_go)
        await self._tell()
        await let_go.wait()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.open.add(number)
        await self._tell()
        await socket.send_str(BOOK.replace("BTCUSDT", f"NUMBER{number}"))
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data == "end":
                break
        self.open.discard(number)
        await self._tell()
        return socket

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


@asynccontextmanager
async def served(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncGenerator[str]:
    """The URL at which every connection is handled so."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    at = web.TCPSite(runner, "127.0.0.1", 0)
    await at.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_a_dial_that_was_given_up_is_never_heard() -> None:
    """The dial takes longer than our patience: it is dropped and dialled again, and then both come about. Two sockets
    that feed one book would break its sequence for as long as the first one lives."""
    there = SlowToAnswer()
    async with served(there.handle) as url:
        clock = RealClock(asyncio.get_running_loop())
        client = CcxtClient(CcxtConfig(emulator_url=url), clock)
        heard: list[str] = []
        made: list[bool] = []
        has_heard = asyncio.Event()

        def tap(data: str | bytes) -> bool:
            heard.append(str(data))
            has_heard.set()
            return True

        client.hear(public=tap, private=tap, on_connection=made.append)
        ex = client.exchange
        at = ex.urls["api"]["ws"]["public"]

        def dial() -> "asyncio.Future[object]":
            return asyncio.ensure_future(ex.watch(at, "books", {"op": "subscribe"}, "books"))

        async def until(holds: Callable[[], bool]) -> None:
            async with there.changed, asyncio.timeout(5.0):
                await there.changed.wait_for(holds)

        first = dial()
        await until(lambda: len(there.asked) == 1)
        # A dial, and the pause before one, is no silence of a connection: it has a time-out of its own.
        assert client.silent_ns(private=False) == client.connected_for_ns(private=False) == 0
        client.drop(private=False, why="silent")
        await asyncio.wait([first])
        assert first.exception() is not None
        second = dial()
        await until(lambda: len(there.asked) == 2)
        there.asked[1].set()
        await until(lambda: 1 in there.open)
        async with asyncio.timeout(5.0):
            await has_heard.wait()
        assert client.connected_for_ns(private=False) > 0
        there.asked[0].set()
        await until(lambda: 0 in there.open)
        try:
            await until(lambda: 0 not in there.open)
            assert 1 in there.open
            assert len(heard) == 1
            assert "NUMBER1" in heard[0]
            assert made == [False, False]
        finally:
            second.cancel()
            await client.close()


async def test_a_ping_of_a_connection_that_closes_is_no_defect() -> None:
    """What fails in a task that nobody awaits is told to the loop's exception handler, and that stops the daemon for
    good."""
    told: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context.get("exception"))))

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.ping(b"are you there")
        assert request.transport is not None
        request.transport.abort()
        return socket

    async with served(handle) as url:
        client = CcxtClient(CcxtConfig(emulator_url=url), RealClock(asyncio.get_running_loop()))
        client.hear(public=lambda _: True, private=lambda _: True, on_connection=lambda _: None)
        ex = client.exchange
        try:
            for _ in range(5):
                watching = asyncio.ensure_future(ex.watch(ex.urls["api"]["ws"]["public"], "books", {}, "books"))
                done, _ = await asyncio.wait([watching], timeout=5.0)
                assert done
                assert isinstance(watching.exception(), client.network_errors)
        finally:
            await client.close()
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


async def test_what_we_fail_of_ourselves_is_told_and_ends_the_connection() -> None:
    """It may have been a fill: the stream is begun anew, and the daemon hears of a defect."""
    told: list[BaseException | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context.get("exception")))

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(BOOK)
        async for _ in socket:
            pass
        return socket

    def tap(_: str | bytes) -> bool:
        raise ZeroDivisionError

    async with served(handle) as url:
        client = CcxtClient(CcxtConfig(emulator_url=url), RealClock(asyncio.get_running_loop()))
        client.hear(public=tap, private=tap, on_connection=lambda _: None)
        ex = client.exchange
        try:
            watching = asyncio.ensure_future(ex.watch(ex.urls["api"]["ws"]["public"], "books", {}, "books"))
            done, _ = await asyncio.wait([watching], timeout=5.0)
            assert done
            assert isinstance(watching.exception(), client.network_errors)
        finally:
            await client.close()
    assert [type(error) for error in told] == [ZeroDivisionError]
