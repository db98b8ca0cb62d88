"""How frames come off ccxt's connections: through our own loop, which tells ccxt of every way in which one ends."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
from aiohttp import WSMessage, WSMsgType, web

from mmdaemon.clock import RealClock
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig

Serve = Callable[[web.WebSocketResponse], Any]


class Site:
    """A server of one socket, and ccxt's client at it."""

    def __init__(self) -> None:
        self.frames: list[str | bytes] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.errors: list[str] = []
        self.closed: list[int] = []
        self.ended = asyncio.Event()
        self.serve: Serve = lambda _socket: None
        self.sockets: list[web.WebSocketResponse] = []
        self.ccxt: Any = None

    async def on_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False, compress=False)
        await socket.prepare(request)
        self.sockets.append(socket)
        await self.serve(socket)
        async for _ in socket:
            pass
        return socket

    def tap(self, data: str | bytes) -> bool:
        self.frames.append(data)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        return True

    def on_error(self, _client: Any, error: BaseException) -> None:
        self.errors.append(str(error))
        self.ended.set()

    def on_close(self, _client: Any, code: int) -> None:
        self.closed.append(code)
        self.ended.set()

    async def connect(self, serve: Serve) -> None:
        self.serve = serve
        self.client.exchange.open()
        await self.ccxt.connect(self.client.exchange.session)

    client: CcxtClient


@pytest.fixture
async def site() -> AsyncGenerator[Site]:
    here = Site()
    app = web.Application()
    app.router.add_get("/v2/ws/public", here.on_socket)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    listening = web.TCPSite(runner, "127.0.0.1", 0)
    await listening.start()
    port = runner.addresses[0][1]
    here.client = CcxtClient(CcxtConfig(account="classic"), RealClock(asyncio.get_running_loop()))
    here.client.hear(public=here.tap, private=here.tap, on_connection=lambda _private: None)
    here.ccxt = here.client.exchange.client(f"ws://127.0.0.1:{port}/v2/ws/public")
    here.ccxt.on_error_callback, here.ccxt.on_close_callback = here.on_error, here.on_close
    try:
        yield here
    finally:
        await here.client.close()
        await runner.cleanup()


async def test_a_connection_has_one_task_however_many_frames_it_brings(site: Site) -> None:
    """ccxt's own makes one of each, which is half of what a frame costs."""

    async def serve(socket: web.WebSocketResponse) -> None:
        for i in range(300):
            await socket.send_str(str(i))
            if i % 50 == 0:
                await asyncio.sleep(0.001)
        await socket.close()

    await site.connect(serve)
    async with asyncio.timeout(5):
        await site.ended.wait()
    assert site.frames == [str(i) for i in range(300)]
    assert len(site.tasks) == 1


async def test_bytes_and_pings_are_left_to_ccxt(site: Site) -> None:
    """Frames in bytes come to the tap as ccxt hands them on; a protocol's own ping is answered."""
    answered = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.ping(b"?")
        answer = await socket.receive()
        assert (answer.type, answer.data) == (WSMsgType.PONG, b"?")
        answered.set()
        await socket.send_bytes(b"{}")
        await socket.close()

    await site.connect(serve)
    async with asyncio.timeout(5):
        await answered.wait()
        await site.ended.wait()
    assert (site.frames, site.closed, site.errors) == ([b"{}"], [1000], [])


async def test_the_server_s_close_is_told_once(site: Site) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.close(code=4001)

    await site.connect(serve)
    async with asyncio.timeout(5):
        await site.ended.wait()
    assert (site.closed, site.errors) == ([4001], [])


async def test_a_cut_connection_is_told(site: Site) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        assert socket._req is not None
        assert socket._req.transport is not None
        socket._req.transport.abort()

    await site.connect(serve)
    async with asyncio.timeout(5):
        await site.ended.wait()
    assert site.closed == [1006]


async def test_whatever_reading_raises_ends_the_connection(site: Site) -> None:
    """ccxt's own loop would leave it open, and nobody would read it."""

    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_str("1")

    await site.connect(serve)

    class Broken:
        closed = False

        async def receive(self) -> WSMessage:
            raise RuntimeError("of the library's own")

        async def close(self) -> None:
            self.closed = True

    was, site.ccxt.connection = site.ccxt.connection, Broken()
    async with asyncio.timeout(5):
        await site.ended.wait()
    assert site.errors == ["not received: RuntimeError"]
    await was.close()
