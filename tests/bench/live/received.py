"""When the client's process had a frame: all of its bytes, before anything of the client had looked at them.

The loop hands bytes to aiohttp's protocol, ccxt's way and ours alike. That one call is stamped; what was in it is
worked out after the round, since one call may bring many frames and one frame may come in several.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp.client_proto import ResponseHandler

Chunk = tuple[object, int, bytes]
"""(connection, monotonic ns, what came)."""


class Received:
    """`chunks` are those since the last `clear`, which is called while nothing is under way."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []

    def clear(self) -> None:
        self.chunks.clear()

    def frames(self) -> dict[int, int]:
        """When the last byte of a `books` frame was there, by the frame's venue time in ms; the first of each time."""
        pending: dict[object, bytes] = {}
        at_ns: dict[int, int] = {}
        for connection, ns, data in self.chunks:
            left = pending.get(connection, b"") + data
            while (body_rest := unpacked(left)) is not None:
                body, left = body_rest
                if b'"books"' in body and (at := body.rfind(b'"ts":')) > 0:
                    at_ns.setdefault(int(body[at + 5 : -1]), ns)
            pending[connection] = left
        return at_ns


def unpacked(data: bytes) -> tuple[bytes, bytes] | None:
    """(body, rest) of the first unmasked frame, or None while it is not all there. What is no WebSocket's (an answer to
    a request) is given up as a whole."""
    if len(data) < 2:
        return None
    if data[0] & 0x70 or data[1] & 0x80:
        return b"", b""
    length, at = data[1], 2
    if length == 126:
        length, at = int.from_bytes(data[2:4]), 4
    elif length == 127:
        length, at = int.from_bytes(data[2:10]), 10
    return (data[at : at + length], data[at + length :]) if len(data) >= at + length else None


@asynccontextmanager
async def noted() -> AsyncGenerator[Received]:
    """From here on every connection that is made notes what comes. uvloop asks for the method once, when it is made."""
    received = Received()
    append, now, handed = received.chunks.append, time.monotonic_ns, ResponseHandler.data_received

    def data_received(self: ResponseHandler, data: bytes) -> None:
        append((self, now(), data))
        handed(self, data)

    kind: Any = ResponseHandler
    kind.data_received = data_received
    try:
        yield received
    finally:
        kind.data_received = handed
