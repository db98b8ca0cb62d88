"""A server of raw bytes on loopback, and a client that speaks to it, on asyncio's own loop and on uvloop.

A request is numbered, and so is what answers it: an answer that is of another request is the one thing that must never
be. Nothing is asserted of wall time.
"""

import asyncio
import functools
import gc
import inspect
import os
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvloop

from mmdaemon.venues.wire_answer import Lost, Reply
from mmdaemon.venues.wire_http import Call, HttpClient
from tests.venues.test_lanes import HandClock

PATIENCE_S = 20.0
LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test as a plain one, once on each; whatever a loop is told of and nobody heard fails it."""

    @functools.wraps(test)
    def run(loop: str, **given: object) -> None:
        failures: list[object] = []

        async def within() -> None:
            asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
            async with asyncio.timeout(PATIENCE_S):
                await test(**given)

        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(within())
        assert not failures, failures

    signature = inspect.signature(test)
    named = inspect.Parameter("loop", inspect.Parameter.KEYWORD_ONLY)
    vars(run)["__signature__"] = signature.replace(parameters=[*signature.parameters.values(), named])
    return pytest.mark.parametrize("loop", LOOPS)(run)


class Line:
    """The server's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> tuple[str, bytes]:
        """(head, body) of the next one."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = 0
        for line in head.lower().split("\r\n"):
            if line.startswith("content-length:"):
                length = int(line.partition(":")[2])
        return head, await self.reader.readexactly(length)

    async def say(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(0)

    def hang_up(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def until_gone(self) -> None:
        """The client hung up."""
        with suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass


Behave = Callable[["Peer", Line], Awaitable[None]]


class Peer:
    """The server's conduct and record, and the client."""

    def __init__(self) -> None:
        self.url = ""
        self.behave: Behave = polite
        self.clock = HandClock()
        self.client = HttpClient(ssl.create_default_context, self.clock)
        self.lines: list[Line] = []
        self.requests: list[tuple[str, bytes]] = []
        self.arrived = asyncio.Event()
        self.numbered = 0
        self.told: list[tuple[str, Reply | Lost]] = []
        """Whatever was told, in its order."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self.lines.append(line)
        try:
            await self.behave(self, line)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, RuntimeError):
            pass  # the last is uvloop's word for a connection that is gone
        finally:
            writer.close()

    async def heard(self, line: Line) -> str:
        """The number of the next request on this line."""
        head, body = await line.request()
        self.requests.append((head, body))
        self.arrived.set()
        return head.split(" ", 2)[1].rpartition("/")[2]

    def ask(
        self, method: str = "GET", body: bytes | None = None, timeout_s: float = PATIENCE_S
    ) -> tuple[Call, str, "asyncio.Future[Reply | Lost]"]:
        self.numbered += 1
        number = f"n{self.numbered:06d}"
        answered: asyncio.Future[Reply | Lost] = asyncio.get_running_loop().create_future()

        def tell(came: Reply | Lost) -> None:
            assert number not in dict(self.told)
            self.told.append((number, came))
            if not answered.cancelled():
                answered.set_result(came)

        call = self.client.send(method, f"{self.url}/a/{number}", {}, body, timeout_s, tell)
        assert not answered.done()
        return call, number, answered

    async def asked(self, method: str = "GET", body: bytes | None = None, timeout_s: float = PATIENCE_S) -> Any:
        return await self.ask(method, body, timeout_s)[2]

    async def good(self) -> None:
        """The next is answered with what is its own."""
        behave, self.behave = self.behave, polite
        _, number, answered = self.ask("POST", b"{}")
        assert await answered == Reply(200, "", number.encode())
        self.behave = behave

    async def until_asked(self, n: int) -> None:
        while len(self.requests) < n:
            self.arrived.clear()
            await self.arrived.wait()

    async def until_all_gone(self) -> None:
        while self.client._connections:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    def idle(self) -> int:
        return sum(len(site.idle) for site in self.client._sites.values())


async def polite(peer: Peer, line: Line) -> None:
    while True:
        number = await peer.heard(line)
        await line.say(sized(number.encode()))


def once(*parts: bytes, then: str) -> Behave:
    """One answer on each line; `then` "close" or "reset" it, or "wait" until the client is gone."""

    async def behave(peer: Peer, line: Line) -> None:
        await peer.heard(line)
        await line.say(*parts)
        match then:
            case "close":
                line.hang_up()
            case "reset":
                line.reset()
            case _:
                await line.until_gone()

    return behave


def sized(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    head = "".join(f"{header}\r\n" for header in (*headers, f"Content-Length: {len(body)}"))
    return f"HTTP/{version} {status}\r\n{head}\r\n".encode() + body


def chunked(*chunks: bytes, trailers: str = "") -> bytes:
    body = b"".join(f"{len(chunk):x};x=1\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + f"0\r\n{trailers}\r\n".encode()


@asynccontextmanager
async def a_peer(behave: Behave, context: ssl.SSLContext | None = None) -> AsyncGenerator[Peer]:
    peer = Peer()
    peer.behave = behave
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=context)
    scheme = "https" if context else "http"
    peer.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield peer
        assert len(peer.told) == peer.numbered  # whatever was asked for is told of, once
    finally:
        await peer.client.close()
        assert not peer.client._connections
        assert not peer.client._dialling
        server.close()
        for line in peer.lines:
            line.writer.transport.abort()
        await asyncio.sleep(0.01)


STEPS = 24
"""Turns of a loop within which a dial to loopback is over, TLS included."""


async def given_up_at_each_step(peer: Peer) -> None:
    """And whatever number becomes free in the meantime is taken at once: one that is closed twice is then a loss."""
    for steps in range(STEPS):
        call, _, answered = peer.ask("POST", b"{}")
        for _ in range(steps):
            await asyncio.sleep(0)
        call.give_up(Lost.CLOSED)
        await answered
        del call, answered
        taken: list[int] = []
        for _ in range(20):
            taken.append(os.open(os.devnull, os.O_RDONLY))
            await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        assert len(set(taken)) == len(taken), steps
        for number in taken:
            os.close(number)
        for connection in list(peer.client._connections):
            connection.abort()
        await peer.until_all_gone()


async def closed_at_each_step(peer: Peer) -> None:
    for steps in range(STEPS):
        client = HttpClient(peer.client._ssl_context, peer.clock)
        told: list[Reply | Lost] = []
        client.send("POST", f"{peer.url}/a/{steps}", {}, b"{}", PATIENCE_S, told.append)
        for _ in range(steps):
            await asyncio.sleep(0)
        await client.close()
        assert len(told) == 1
        assert not client._connections
        assert not client._dialling


FORMS: dict[str, tuple[bytes, Reply, bool]] = {
    "sized": (sized(b"0123456789", "Retry-After: 3"), Reply(200, "3", b"0123456789"), True),
    "empty": (sized(b""), Reply(200, "", b""), True),
    "chunked": (chunked(b"01234", b"56789"), Reply(200, "", b"0123456789"), True),
    "chunked, trailers": (chunked(b"01", trailers="Retry-After: 3\r\nX: y\r\n"), Reply(200, "3", b"01"), True),
    "nothing, by status": (b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n", Reply(204, "", b""), True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Reply(304, "", b""), True),
    "early hints": (
        b"HTTP/1.1 103 Early Hints\r\nRetry-After: 9\r\nContent-Length: 3\r\n\r\n"
        b"HTTP/1.1 100 Continue\r\n\r\n" + sized(b"01"),
        Reply(200, "", b"01"),
        True,
    ),
    "no word for the status": (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n01", Reply(200, "", b"01"), True),
    "says it closes": (sized(b"01", "Connection: close"), Reply(200, "", b"01"), False),
    "of old": (sized(b"01", version="1.0"), Reply(200, "", b"01"), False),
    "of old, kept": (sized(b"01", "Connection: keep-alive", version="1.0"), Reply(200, "", b"01"), True),
    "a redirect": (sized(b"", "Location: /b", status="302 Found"), Reply(302, "", b""), True),
    "offers another protocol": (sized(b"01", "Connection: upgrade", "Upgrade: h2c"), Reply(200, "", b"01"), True),
    "identity": (sized(b"01", "Content-Encoding: identity"), Reply(200, "", b"01"), True),
}
"""Answers, what each says, and whether its connection is kept."""

SURPLUS: dict[str, bytes] = {
    "an answer": sized(b"stolen"),
    "half of one": sized(b"stolen")[:-3],
    "its first letter": b"H",
    "garbage": b"\x00\x01",
    "a hint": b"HTTP/1.1 100 Continue\r\n\r\n",
}
"""What nobody asked for."""
