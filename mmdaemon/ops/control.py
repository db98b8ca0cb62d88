"""The operator's door: a unix socket beside the journal, one JSON line in, progress lines and one answer out.

    client  {"version":1,"verb":"kill","args":{"wait":true}}\\n                      at most 4 KiB
    server  {"type":"say","line":"gate closed"}\\n ... {"type":"beat"}\\n ... {"type":"answer","ok":true,...}\\n

A request is one connection, and a connection is one task. Nobody waits for anybody: not a kill for other verbs, not a
handler for a client that does not read, not the daemon for a client that does not write. Who may ask is decided by the
kernel: the socket has mode 0600, and the peer's uid must be the daemon's or root's. What widens must show the token
(`token.py`) as well. A handler runs to its end when its client goes away. While it runs a beat goes out every 2 s, so
that a client (`control_client.py`) can tell a long wait from a hung daemon.
"""

import asyncio
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon.ops.status import Status
from mmdaemon.secret import Secret
from mmdaemon.unix_socket import SocketRefused, listener_at

VERSION: Final = 1
CONTAINED: Final = "contained"
"""Key in what the loop's exception handler is told: the failure was answered for, and nothing else is broken by it."""
LINE_MAX_BYTES: Final = 4096
READ_S: Final = 5.0
"""Longest a client may take to bring its request."""
WRITE_S: Final = 5.0
"""Longest a client may take to fetch its answer."""
BEAT_S: Final = 2.0
READING_MAX: Final = 128
"""Connections whose request has not arrived. One more and the oldest is closed, so a newcomer is always read."""
HANDLING_MAX: Final = 16
"""Requests at work at once, kills not counted."""
KILLS_MAX: Final = 64
_BACKLOG: Final = 16
"""Far below READING_MAX: the loop accepts as many in a turn and takes four turns to read a request that is there
already, so that a burst of honest clients never pushes out its own."""
_BUFFER_MAX_BYTES: Final = 64 * 1024

OUTCOMES: Final = {
    "answered": "requests that were answered by their handler",
    "failed": "requests whose handler failed: a bug, with a traceback in the log",
    "busy": "requests refused because too many were at work",
    "malformed": "requests that were not JSON of the expected form",
    "oversized": "requests longer than 4 KiB",
    "timed_out": "connections that did not bring a request within 5 s",
    "closed_early": "connections that ended before their request did",
    "evicted": "connections closed unread to make room for a newer one",
    "refused_peer": "connections of another user, or of nobody the kernel could name",
    "lines_dropped": "progress lines that a client did not fetch in time",
}
"""What is counted, and what each count is of."""


class Request(msgspec.Struct, frozen=True):
    """What a client asks. `who` is what the kernel says of the peer, never what the client says."""

    verb: str
    args: dict[str, str | bool]
    who: str
    token: Secret = Secret("")
    """What the client showed, empty where it showed nothing."""


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """The one answer to a request. `exit_code` is that of the command that asked."""

    ok: bool
    exit_code: int
    lines: list[str] = []
    status: Status | None = None
    version: int = VERSION


Say = Callable[[str], Awaitable[None]]
"""Send one line of progress. Never waits: a line for a client that does not read is dropped and counted."""
Handler = Callable[[Request, Say], Awaitable[Answer]]


class ControlError(Exception):
    """The socket cannot be opened, or a daemon did not answer as it should. The message says what to do."""


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A request as it is on the wire."""

    version: int
    verb: str
    args: dict[str, str | bool] = {}
    token: str = ""

    def __repr__(self) -> str:
        return f"Asked({self.verb!r})"  # a token is in it


class Said(msgspec.Struct, frozen=True, tag="say"):
    """One line of progress."""

    line: str


class Beat(msgspec.Struct, frozen=True, tag="beat"):
    """The handler is still at work."""


def widens(verb: str, args: Mapping[str, str | bool]) -> bool:
    """Whether the bot may do more after it than before, so that the token is needed."""
    return verb == "resume" or (verb == "reconcile" and args.get("repair") is True)


class _Refused(Exception):
    def __init__(self, outcome: str, message: str) -> None:
        self.outcome = outcome
        super().__init__(message)


_encode = msgspec.json.Encoder().encode
_decode_asked = msgspec.json.Decoder(Asked).decode


class ControlServer:
    """Serves `handle` at `path`. `counts` has a figure for each of OUTCOMES, from 0."""

    def __init__(self, path: Path, handle: Handler) -> None:
        self.path = path
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self._handle = handle
        self._server: asyncio.Server | None = None
        self._reading: dict[asyncio.Task[None], None] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._handling: dict[asyncio.Future[Answer], str] = {}

    async def start(self) -> None:
        """Listen.

        Raises:
            ControlError: the path is too long, taken by something else, or cannot be written.
        """
        try:
            listener = listener_at(self.path)
        except SocketRefused as refused:
            raise ControlError(f"control socket {refused}") from refused
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=LINE_MAX_BYTES, backlog=_BACKLOG
        )

    async def close(self, grace_s: float = 1.0) -> None:
        """Listen no more, let what is at work end within `grace_s`, cancel the rest, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in list(self._reading):
            task.cancel()
        if self._handling:
            await asyncio.wait(self._handling, timeout=grace_s)
        for future in self._handling:
            future.cancel()
        if self._serving:
            await asyncio.wait(self._serving, timeout=WRITE_S)
        self.path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._reading) >= READING_MAX:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.cancel()
            self.counts["evicted"] += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._reading[task] = None
        self._serving.add(task)
        # Not in `_serve`: a task that is cancelled before its first step never enters its `finally`.
        task.add_done_callback(partial(self._served, writer))

    def _served(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        self._reading.pop(task, None)
        self._serving.discard(task)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _Peer(writer, self.counts)
        try:
            request = await _read_request(reader, writer)
            task = asyncio.current_task()
            assert task is not None
            self._reading.pop(task, None)
            answer = await self._answer(request, peer)
        except _Refused as refused:
            self.counts[refused.outcome] += 1
            answer = Answer(ok=False, exit_code=1, lines=[f"refused: {refused}"])
        await peer.finish(answer)

    async def _answer(self, request: Request, peer: "_Peer") -> Answer:
        is_kill = request.verb == "kill"
        at_work = sum((verb == "kill") == is_kill for verb in self._handling.values())
        if at_work >= (KILLS_MAX if is_kill else HANDLING_MAX):
            what = "kills are" if is_kill else "requests are"
            raise _Refused("busy", f"{at_work} {what} at work already; wait for one of them, then try again")
        future = asyncio.ensure_future(self._handle(request, peer.say))
        self._handling[future] = request.verb
        future.add_done_callback(self._handling.pop)
        while not (await asyncio.wait({future}, timeout=BEAT_S))[0]:
            peer.put(Beat())
        if future.cancelled():
            return Answer(ok=False, exit_code=1, lines=["the daemon is stopping; ask again once it runs"])
        error = future.exception()
        if error is None:
            self.counts["answered"] += 1
            return future.result()
        # The supervisor boundary of the door: a verb that fails takes neither the door nor the daemon with it.
        self.counts["failed"] += 1
        asyncio.get_running_loop().call_exception_handler(
            {
                "message": f"control request {request.verb!r:.80} failed",
                "exception": error,
                "future": future,
                CONTAINED: "control socket",
            }
        )
        return Answer(
            ok=False, exit_code=70, lines=[f"the daemon failed at this ({type(error).__name__}); its log says more"]
        )


class _Peer:
    """The way back to one client."""

    def __init__(self, writer: asyncio.StreamWriter, counts: dict[str, int]) -> None:
        self._writer = writer
        self._counts = counts

    async def say(self, line: str) -> None:
        if not self.put(Said(line)):
            self._counts["lines_dropped"] += 1

    def put(self, message: "Said | Beat") -> bool:
        full = self._writer.transport.get_write_buffer_size() > _BUFFER_MAX_BYTES
        if full or self._writer.is_closing():
            return False
        self._writer.write(_encode(message) + b"\n")
        return True

    async def finish(self, answer: Answer) -> None:
        if self._writer.is_closing():
            return
        self._writer.write(_encode(answer) + b"\n")
        self._writer.close()
        try:
            async with asyncio.timeout(WRITE_S):
                await self._writer.wait_closed()
        except TimeoutError:
            self._writer.transport.abort()
        except OSError:
            return  # the client went away; there is nobody to tell


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request:
    who = _who(writer)
    try:
        async with asyncio.timeout(READ_S):
            line = await reader.readuntil(b"\n")
    except TimeoutError:
        raise _Refused("timed_out", f"no request within {READ_S:g} s") from None
    except asyncio.LimitOverrunError:
        raise _Refused("oversized", f"a request is one line of at most {LINE_MAX_BYTES} bytes") from None
    except (asyncio.IncompleteReadError, OSError):
        raise _Refused("closed_early", "the request did not end in a newline") from None
    try:
        asked = _decode_asked(line)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise _Refused("malformed", f"not a request: {error}"[:200]) from None
    if asked.version != VERSION:
        message = f"version {str(asked.version)[:20]}, this daemon speaks {VERSION}; use its own `mmdaemon`"
        raise _Refused("malformed", message)
    return Request(asked.verb, asked.args, who, Secret(asked.token))


def _who(writer: asyncio.StreamWriter) -> str:
    """The peer as the kernel names it. Where it cannot (not Linux) the file's mode alone decides who gets here."""
    if sys.platform != "linux":
        return "local"
    try:
        packed = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError as error:
        raise _Refused("refused_peer", f"the kernel does not say who you are ({error})") from None
    pid, uid, _gid = struct.unpack("3i", packed)
    if uid not in (os.geteuid(), 0):
        raise _Refused("refused_peer", f"uid {uid} may not; ask as the daemon's user (uid {os.geteuid()}) or as root")
    return f"uid {uid} pid {pid}"
