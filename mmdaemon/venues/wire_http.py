"""HTTP/1.1 as the lanes need it: one request over a kept connection, and what came of it. For hot paths: no task, no
context and no session stands between a request that is signed and the socket.

  * Nothing is ever sent twice. A request on a connection that its peer had given up is "disconnected"; "not_connected"
    is said only where no byte of it can have left.
  * A connection has one request at a time, and is kept only where it is beyond doubt that nothing of that one is still
    to come: the answer was whole and said so, nothing followed it, the request had gone out in full. One that speaks,
    or ends, while nobody asks is dropped, also where this process has not come to hear of it yet. What cannot be told
    apart by anybody is an answer that the peer makes up and sends as the next request is under way.
  * A call that is given up (time-out, end) takes its connection with it.
  * No redirects, no proxies, no cookies, no packing: what comes packed, unasked, is unreadable.

Certificates and names are verified as ccxt does it. Names are resolved for each connection made, and of a host's
addresses the first that answers is taken, with a quarter of a second's start for the one before (RFC 8305): uvloop's
own dialling would wait for minutes on one that does not.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec
from aiohappyeyeballs import start_connection  # pyright: ignore[reportUnknownVariableType]
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from mmdaemon import __version__
from mmdaemon.clock import Clock, Timer
from mmdaemon.core.types import NS

HEAD_MAX: Final = 64 << 10
"""Bytes of an answer's headers, with those behind a chunked body."""
BODY_MAX: Final = 16 << 20
"""Bytes of an answer."""
IDLE_S: Final = 15.0
"""How long a connection is kept for the next request: less than venues keep theirs."""

_HEAD_START_S: Final = 0.25
_ALWAYS: Final = f"User-Agent: mmdaemon/{__version__}\r\nAccept: */*\r\nAccept-Encoding: identity"


class Lost(StrEnum):
    """Why there is no answer."""

    NOT_CONNECTED = "not_connected"
    """Nothing left."""
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    """Before the answer, or within its headers; `TRUNCATED`: within its body."""
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    """No HTTP, or packed."""
    TOO_LARGE = "too_large"
    CLOSED = "closed"
    """We ended it."""


class Reply(msgspec.Struct, frozen=True):
    status: int
    retry_after: str
    """As it was said; empty where it was not."""
    body: bytes


Tell = Callable[[Reply | Lost], object]


class Call:
    """A request that left or is to leave over a new connection, until something came of it. Told once."""

    __slots__ = ("_tell", "_timer", "by", "request")

    def __init__(self, request: bytes, timeout_s: float, tell: Tell) -> None:
        self.request = request
        self._tell: Tell | None = tell
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self.give_up, Lost.TIMEOUT)
        self.by: _Connection | asyncio.Task[None]
        """What carries it: a connection, or the dialling of one."""

    def give_up(self, why: Lost) -> None:
        """It may well have landed. What was still to come of it is cut off."""
        if self._tell is None:
            return
        if isinstance(self.by, _Connection):
            self.by.lose(why)
        else:
            self.by.cancel()
            self.end(why)

    def end(self, came: Reply | Lost) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            self._timer.cancel()
            tell(came)


class HttpClient:
    """Connections to the sites that are asked for. One event loop uses it."""

    def __init__(self, ssl_context: Callable[[], ssl.SSLContext], clock: Clock) -> None:
        self._ssl_context = ssl_context
        self._clock = clock
        self._sites: dict[str, _Site] = {}
        self._connections: set[_Connection] = set()
        self._dialling: dict[asyncio.Task[None], Call] = {}
        self._sweep_timer: Timer | None = None
        self._all_gone: asyncio.Future[None] | None = None
        self.closed, self.connections_made = False, 0

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout_s: float, tell: Tell
    ) -> Call:
        """Send it and return at once; `tell` hears what came of it, never within this. The address goes out as it is.

        Raises:
            ValueError: it cannot be put on a wire as it is. Nothing left.
        """
        assert not self.closed
        cut = url.find("/", 8)
        site = self._sites.get(url[:cut])
        if site is None:
            site = self._sites[url[:cut]] = _Site(url[:cut])
        call = Call(_request(method, url[cut:], site.head, headers, body), timeout_s, tell)
        connection = self._idle_of(site)
        if connection is not None:
            connection.carry(call)
        else:
            call.by = task = asyncio.get_running_loop().create_task(self._dial(site, call), name="http.dial")
            self._dialling[task] = call
            task.add_done_callback(self._dialling.pop)
        return call

    async def close(self) -> None:
        """What is under way is cut off, and told so."""
        self.closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        dialling = dict(self._dialling)
        for call in dialling.values():
            call.give_up(Lost.CLOSED)
        await asyncio.gather(*dialling, return_exceptions=True)
        for connection in list(self._connections):
            connection.lose(Lost.CLOSED)
        if self._connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            await self._all_gone

    # --- connections --------------------------------------------------------------------------------------------------

    async def _dial(self, site: "_Site", call: Call) -> None:
        connection = _Connection(self, site)
        try:
            loop = asyncio.get_running_loop()
            at = site.at or await loop.getaddrinfo(site.host, site.port, type=socket.SOCK_STREAM)
            context, name = (self._ssl_context(), site.host) if site.is_secured else (None, None)
            sock = await start_connection(at, happy_eyeballs_delay=_HEAD_START_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.create_connection(lambda: connection, sock=sock, ssl=context, server_hostname=name)
            if connection.is_open:
                connection.carry(call)
                return
        except asyncio.CancelledError:
            connection.abort()
            call.end(Lost.CLOSED)  # where it was not given up, but the loop ends
            raise
        except (OSError, ValueError, RuntimeError):  # a name that is none; uvloop's word for a failed dial
            pass
        connection.abort()
        call.end(Lost.NOT_CONNECTED)

    def _idle_of(self, site: "_Site") -> "_Connection | None":
        """The one that was used last: it is the least likely to have been given up."""
        while site.idle:
            connection = site.idle.pop()
            if connection.is_sound(self._clock.mono_ns()):
                return connection
            connection.abort()
        return None

    def kept(self, connection: "_Connection") -> None:
        connection.idle_since_ns = now_ns = self._clock.mono_ns()
        connection.site.idle.append(connection)
        if self._sweep_timer is None:
            self._sweep_timer = self._clock.call_at(now_ns + round(IDLE_S * NS), self._sweep)

    def _sweep(self) -> None:
        now_ns = self._clock.mono_ns()
        self._sweep_timer = None
        for site in self._sites.values():
            while site.idle and site.idle[0].idle_since_ns + round(IDLE_S * NS) <= now_ns:
                site.idle.pop(0).abort()
        if oldest_ns := min((site.idle[0].idle_since_ns for site in self._sites.values() if site.idle), default=0):
            self._sweep_timer = self._clock.call_at(oldest_ns + round(IDLE_S * NS), self._sweep)

    def made(self, connection: "_Connection") -> None:
        self._connections.add(connection)
        self.connections_made += 1

    def gone(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        if self._all_gone is not None and not self._connections and not self._all_gone.done():
            self._all_gone.set_result(None)


class _Site:
    """Scheme, host and port. `at`: its address, where it is named by that."""

    __slots__ = ("at", "head", "host", "idle", "is_secured", "port")

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in origin:
            raise ValueError("no address of http or https")
        self.is_secured = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.is_secured else 80)
        self.head = f"Host: {parts.netloc}\r\n{_ALWAYS}"
        self.idle: list[_Connection] = []
        self.at: Sequence[tuple[int, int, int, str, Any]] = ()
        with suppress(OSError, ValueError):
            self.at = socket.getaddrinfo(self.host, self.port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)


def _request(method: str, target: str, site_head: str, headers: Mapping[str, str], body: bytes | None) -> bytes:
    """All of it, to be written at once."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    if not target.startswith("/") or not target.isascii() or " " in target or not target.isprintable():
        raise ValueError("a target that is none")
    for line in lines:
        if not line.isprintable():  # a line break in it would make it two
            raise ValueError("a header that is none")
    if body is not None or method != "GET":
        lines.append(f"Content-Length: {len(body or b'')}")
    head = "\r\n".join((f"{method} {target} HTTP/1.1", site_head, *lines, "\r\n")).encode()
    return head + body if body else head


class _Connection(asyncio.Protocol):
    """One request after the other. What the parser calls is marked; it never raises there."""

    def __init__(self, client: HttpClient, site: _Site) -> None:
        self.site = site
        self.idle_since_ns = 0
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._readable = select.poll()
        self._call: Call | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self._why: Lost | None = None
        """What is wrong with the answer."""
        self._received = 0
        self._status = 0
        self._retry_after = ""
        self._head_size = 0
        self._in_body = False
        self._is_sized = False
        self._body: list[bytes] = []
        self._body_size = 0
        self._reply: Reply | None = None
        self._can_go_on = False

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # --- what the client does -----------------------------------------------------------------------------------------

    def is_sound(self, now_ns: int) -> bool:
        """Of an idle one: nothing came, its end included, be it that the loop has not heard of it yet."""
        is_young = now_ns - self.idle_since_ns < round(IDLE_S * NS)
        return is_young and self.is_open and not self._readable.poll(0)

    def carry(self, call: Call) -> None:
        assert self._transport is not None
        self._begin()
        self._call = call
        call.by = self
        self._transport.write(call.request)

    def lose(self, why: Lost) -> None:
        """No answer, and no more of this connection."""
        call, self._call = self._call, None
        self.abort()
        if call is not None:
            call.end(why)

    def abort(self) -> None:
        with suppress(ValueError):
            self.site.idle.remove(self)
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._client.made(self)

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if self._call is None or parser is None:
            self.abort()  # nobody asked
            return
        self._received += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._can_go_on = False
            self._why = self._why or Lost.UNREADABLE
        if self._reply is not None:
            self._answered(self._reply)
        elif self._why is not None:
            self.lose(self._why)
        elif self._received > (BODY_MAX if self._in_body else 0) + HEAD_MAX:
            self.lose(Lost.TOO_LARGE)

    def _answered(self, reply: Reply) -> None:
        call, self._call = self._call, None
        assert call is not None and self._transport is not None  # noqa: PT018
        if self._can_go_on and self.is_open and not self._transport.get_write_buffer_size():
            self._client.kept(self)
        else:
            self.abort()
        call.end(reply)

    def eof_received(self) -> None:
        if self._call is None:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._in_body:
            self.lose(Lost.DISCONNECTED)
        elif self._is_sized or exc is not None:
            self.lose(Lost.TRUNCATED)
        elif self._call is not None:  # its end is the body's
            self.on_message_complete()
            self._can_go_on = False
            if self._reply is not None:
                self._answered(self._reply)
        self._parser = None  # which knows this one
        self._client.gone(self)

    # --- what the parser calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._can_go_on = False  # where there was one already

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        if self._head_size > HEAD_MAX:
            self._why = Lost.TOO_LARGE
        match name.lower():
            case b"content-length":
                self._is_sized = True
            case b"transfer-encoding":
                self._is_sized = True
                if value.strip().lower() != b"chunked":
                    self._why = self._why or Lost.UNREADABLE
            case b"content-encoding":
                if value.strip().lower() != b"identity":
                    self._why = self._why or Lost.UNREADABLE
            case b"retry-after":
                self._retry_after = value.decode("latin-1")
            case _:
                pass

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        self._in_body = self._status >= 200

    def on_body(self, part: bytes) -> None:
        self._body_size += len(part)
        if self._body_size > BODY_MAX:
            self._why = Lost.TOO_LARGE
            self._body.clear()
        else:
            self._body.append(part)

    def on_message_complete(self) -> None:
        if self._reply is not None or self._why is not None:
            return
        if self._status == 101:
            self._why = Lost.UNREADABLE
        elif self._status < 200:
            self._is_sized, self._retry_after = False, ""
        else:
            assert self._parser is not None
            self._can_go_on = self._parser.should_keep_alive()
            self._reply = Reply(self._status, self._retry_after, b"".join(self._body))
