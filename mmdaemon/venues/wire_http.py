"""HTTP/1.1 as the lanes need it: one request over a kept connection, and what came of it. For hot paths: no task, no
context and no session stands between a request that is signed and the socket.

  * Nothing is ever sent twice. A request on a connection that its peer had given up is "disconnected"; "not_connected"
    is said only where no byte of it can have left.
  * A connection has one request at a time, and is kept only where it is beyond doubt that nothing of that one is still
    to come: the answer was whole and said so, nothing followed it, the request had gone out in full. One that speaks,
    or ends, while nobody asks is dropped, also where this process has not come to hear of it yet. What cannot be told
    apart by anybody is an answer that the peer makes up and sends as the next request is under way.
  * Each request has a reader of its own (`wire_answer`), made as it is written: what was read before cannot reach it.
  * A call that is given up (time-out, end) takes its connection with it.
  * No redirects, no proxies, no cookies, no packing: what comes packed, unasked, is unreadable.

Certificates and names are verified as ccxt does it. Names are resolved for each connection made, and of a host's
addresses the first that answers is taken, with a quarter of a second's start for the one before (RFC 8305).

uvloop makes the sockets itself, by address. Given one of ours (`sock=`) and cancelled, or aborted as it connects, it
closes the number and leaves our object to close that again: by then another connection's. And a dial that it cancels
just after `connection_made` closes without `connection_lost`: so only what the dial returned is waited for.
"""

import asyncio
import select
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, cast
from urllib.parse import urlsplit

from mmdaemon import __version__
from mmdaemon.clock import Clock, Timer
from mmdaemon.core.types import NS
from mmdaemon.venues.wire_answer import Lost, Reader, Reply

IDLE_S: Final = 15.0
"""How long a connection is kept for the next request: less than venues keep theirs."""
CLOSE_S: Final = 3.0
"""How long `close` waits for what it ended."""

_HEAD_START_S: Final = 0.25
_NAME_S: Final = 0.5
"""How long a name server is waited for, where addresses are known from before."""
_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""Of `SO_LINGER`: what was not sent yet is thrown away."""
_ALWAYS: Final = f"User-Agent: mmdaemon/{__version__}\r\nAccept: */*\r\nAccept-Encoding: identity"


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

    @property
    def is_dialling(self) -> bool:
        """Nothing of it has left."""
        return not isinstance(self.by, _Connection)

    @property
    def is_over(self) -> bool:
        return self._tell is None

    def give_up(self, why: Lost) -> None:
        """Unless it is dialling it may well have landed. What was still to come of it is cut off."""
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
        """Each that a dial returned, until it is lost."""
        self._dialling: dict[asyncio.Task[None], Call] = {}
        self._sweep_timer: Timer | None = None
        self._on_gone = asyncio.Event()
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
        """What is under way is cut off, and told so. What the loop does not end within `CLOSE_S` it is told of."""
        self.closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for call in list(self._dialling.values()):
            call.give_up(Lost.CLOSED)
        for connection in list(self._connections):
            connection.lose(Lost.CLOSED)
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.gather(*self._dialling, return_exceptions=True)
                while self._connections:
                    self._on_gone.clear()
                    await self._on_gone.wait()
        except TimeoutError:
            left = f"{len(self._dialling)} dials and {len(self._connections)} connections"
            told = f"HTTP: {left} did not end within {CLOSE_S} s of their being cut off. The process is to end."
            asyncio.get_running_loop().call_exception_handler({"message": told})

    # --- connections --------------------------------------------------------------------------------------------------

    async def _dial(self, site: "_Site", call: Call) -> None:
        attempts: list[asyncio.Task[_Connection]] = []
        taken: _Connection | None = None
        came = Lost.NOT_CONNECTED
        try:
            loop = asyncio.get_running_loop()
            hosts = await self._found(site)
            waits: set[asyncio.Task[_Connection]] = set()
            while taken is None and (hosts or waits):
                if hosts:
                    attempts.append(loop.create_task(self._attempt(site, hosts.pop(0)), name="http.attempt"))
                    waits.add(attempts[-1])
                patience_s = _HEAD_START_S if hosts else None
                done, waits = await asyncio.wait(waits, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                taken = next(
                    (task.result() for task in done if task.exception() is None and task.result().is_open), None
                )
            if taken is not None:
                taken.carry(call)
        except (OSError, ValueError):  # a name that is none
            pass
        except asyncio.CancelledError:
            came = Lost.CLOSED  # where it was not given up, but the loop ends
            raise
        finally:
            if taken is None:
                call.end(came)
            for attempt in attempts:
                attempt.cancel()
            for ended in await asyncio.gather(*attempts, return_exceptions=True):
                if isinstance(ended, _Connection) and ended is not taken:
                    ended.abort()

    async def _found(self, site: "_Site") -> list[str]:
        """Its addresses, best first; those of the last time where the name server fails or is slow, since a cancel must
        leave all the same. Who answers there is known by its certificate."""
        asked = asyncio.get_running_loop().getaddrinfo(site.host, site.port, type=socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(_NAME_S if site.hosts else None):
                found = await asked
        except OSError:
            if not site.hosts:
                raise
        else:
            site.hosts = [str(address[0]) for *_, address in found]
        return [*site.hosts]

    async def _attempt(self, site: "_Site", host: str) -> "_Connection":
        """
        Raises:
            OSError, ValueError, RuntimeError: nobody is there who is trusted; the last is uvloop's word for it.
        """
        connection = _Connection(self, site)
        context, name = (self._ssl_context(), site.host) if site.is_secured else (None, None)
        is_made = False
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection, host, site.port, ssl=context, server_hostname=name
            )
            is_made = True
        finally:
            if not is_made:
                connection.abort()
        if connection.is_open:
            self._connections.add(connection)
            self.connections_made += 1
        return connection

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

    def gone(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        self._on_gone.set()


class _Site:
    """Scheme, host and port."""

    __slots__ = ("head", "host", "hosts", "idle", "is_secured", "port")

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in origin:
            raise ValueError("no address of http or https")
        self.is_secured = parts.scheme == "https"
        self.host = parts.hostname
        self.port = parts.port or (443 if self.is_secured else 80)
        self.head = f"Host: {parts.netloc}\r\n{_ALWAYS}"
        self.hosts: list[str] = []
        """Its addresses, as they were found last."""
        self.idle: list[_Connection] = []


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
    """One request after the other."""

    def __init__(self, client: HttpClient, site: _Site) -> None:
        self.site = site
        self.idle_since_ns = 0
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._is_given_up = False
        self._readable = select.poll()
        self._call: Call | None = None
        """Whose request was written, while its answer is not whole; `_reader` reads what came since."""
        self._reader: Reader | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing() and not self._is_given_up

    # --- what the client does -----------------------------------------------------------------------------------------

    def is_sound(self, now_ns: int) -> bool:
        """Of an idle one: nothing came, its end included, be it that the loop has not heard of it yet."""
        is_young = now_ns - self.idle_since_ns < round(IDLE_S * NS)
        return is_young and self.is_open and not self._readable.poll(0)

    def carry(self, call: Call) -> None:
        assert self._transport is not None and self.is_open  # noqa: PT018
        assert self._call is None and not call.is_over  # noqa: PT018
        self._call, self._reader = call, Reader()
        call.by = self
        self._transport.write(call.request)

    def _let_go(self) -> Call | None:
        """Whatever comes from here on is nobody's."""
        call, self._call = self._call, None
        if self._reader is not None:
            self._reader.forget()
            self._reader = None
        return call

    def lose(self, why: Lost) -> None:
        """No answer, and no more of this connection; nor of the request, of which the system may hold some: closed
        the ordinary way, that would go on to the venue as long as TCP tries, past any time-out."""
        call = self._let_go()
        if call is not None and self._transport is not None and self.is_open:
            with suppress(OSError, ValueError):
                self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.abort()
        if call is not None:
            call.end(why)

    def abort(self) -> None:
        self._is_given_up = True
        with suppress(ValueError):
            self.site.idle.remove(self)
        if self._transport is not None:
            self._transport.abort()

    # --- what the transport calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        if self._is_given_up:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            self.abort()  # nobody asked
            return
        came = reader.read(data)
        if isinstance(came, Reply):
            self._answered(came, can_go_on=reader.can_go_on)
        elif came is not None:
            self.lose(came)

    def _answered(self, reply: Reply, *, can_go_on: bool) -> None:
        call = self._let_go()
        assert call is not None and self._transport is not None  # noqa: PT018
        if can_go_on and self.is_open and not self._transport.get_write_buffer_size():
            self._client.kept(self)
        else:
            self.abort()
        call.end(reply)

    def eof_received(self) -> None:
        if self._call is None:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reader is not None:
            came = self._reader.ended(exc)
            if isinstance(came, Reply):
                self._answered(came, can_go_on=False)
            else:
                self.lose(came)
        self.abort()
        self._transport = None
        self._client.gone(self)
