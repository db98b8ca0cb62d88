"""One WebSocket of a client: what it subscribed to, and what waits to be sent to it.

Frames leave in the order in which they were said, but for what a fault delays. One that is not read is cut at a bound,
so that a client that hangs costs the venue nothing more.
"""

import asyncio
from asyncio import Event, get_running_loop
from collections import deque
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web

from mmdaemon.venues.emulator.dialect import Channel, Dialect
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.limits import Bucket

_encode = msgspec.json.Encoder().encode


class Connection:
    """`sockets.Sockets` serves it."""

    def __init__(
        self,
        number: int,
        request: web.Request,
        socket: web.WebSocketResponse,
        dialect: Dialect,
        faults: Faults,
        bucket: Bucket | None,
        waiting_max_bytes: int,
        now_ms: int,
    ) -> None:
        self.number, self.path, self.dialect = number, request.path, dialect
        self.socket: web.WebSocketResponse | None = socket
        """None once it ended."""
        self.private = request.path.endswith(dialect.private_path)
        self.bucket = bucket
        """Of what it may say."""
        self.began_ms = now_ms
        self.ended_ms = 0
        self.why = ""
        """Why it ended; empty while it lives, or where the client went."""
        self.logged_in = False
        self.record_number = 0
        """In the SQLite record, once logged in."""
        self.channels: dict[str, list[Channel]] = {}
        """By kind."""
        self.heard = self.sent = 0
        self._faults = faults
        self._transport = request.transport
        self._waiting: deque[str] = deque()
        self._waiting_bytes = 0
        self._waiting_max_bytes = waiting_max_bytes
        self._said = Event()

    @property
    def is_open(self) -> bool:
        return not self.ended_ms and not self.why

    def say(self, kind: str, message: Any) -> None:
        """Send an object as JSON, or whatever the faults make of it. `kind`: a channel's, "subscribe", "login", ..."""
        self.say_text(kind, _encode(message).decode())

    def say_text(self, kind: str, text: str) -> None:
        if not self.is_open:
            return
        for delay_s, instead in self._faults.on_frame(self.private, kind, text):
            if delay_s > 0:
                get_running_loop().call_later(delay_s, self._put, instead)
            else:
                self._put(instead)

    def _put(self, text: str) -> None:
        if not self.is_open:
            return
        self._waiting.append(text)
        self._waiting_bytes += len(text)
        if self._waiting_bytes > self._waiting_max_bytes:
            self.cut(f"it does not read: more than {self._waiting_max_bytes:,} bytes wait for it")
        self._said.set()

    async def run(self, socket: web.WebSocketResponse) -> None:
        """Send what is said."""
        with suppress(ConnectionError):
            while self.is_open:
                await self._said.wait()
                self._said.clear()
                while self._waiting and self.is_open:
                    text = self._waiting.popleft()
                    await socket.send_str(text)
                    self._waiting_bytes -= len(text)
                    self.sent += 1

    async def settled(self) -> None:
        """Wait until nothing waits to be sent, a second at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                while self._waiting and self.is_open:  # noqa: ASYNC110 - who sends has no event for it
                    await asyncio.sleep(0.001)

    async def close(self, code: int, why: str) -> None:
        """After what waits: a proper close, as far as the client takes part in it."""
        await self.settled()
        if self.socket is None:
            return
        with suppress(ConnectionError):
            await self.socket.close(code=code, message=why.encode()[:100])
        self.why = self.why or why

    def cut(self, why: str) -> None:
        """Reset it: what waits is lost."""
        self.why = self.why or why
        self._said.set()
        if self._transport is not None:
            self._transport.abort()

    def ended(self, now_ms: int) -> None:
        """What is left is for those who ask what there was."""
        self.ended_ms = now_ms
        self.socket = self._transport = self.bucket = None
        self.channels.clear()
        self._waiting.clear()
