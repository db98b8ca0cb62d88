"""Bitget on loopback: one port that serves the venue's REST and WebSocket protocols over one account.

    market source ──► account ──► streams ──► sockets        market, at its arrival; private pushes, a little later
                        ▲  └────► [record committed] ──► whatever is told of it
    REST request ──► faults ──► key, limit ──► dialect ──► answer ──► faults

    /api/...                          REST of both APIs; the one that the account has not is refused by its code
    /v2/ws/..., /v3/ws/...            sockets of the live environment
    /demo/v2/ws/..., /demo/v3/ws/...  sockets of demo trading
    /emulator/...                     what a person at a shell may ask (control.py)

A key is of one environment: REST requests of a demo key need the header `PAPTRADING: 1`, and its logins the demo
sockets. What a request asks for is done at once when it is worked on, whatever becomes of whoever sent it.
"""

import asyncio
import os
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec
from aiohttp import web

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.types import NS
from mmdaemon.venues.base import MarketSource
from mmdaemon.venues.emulator import sockets
from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.emulator.auth import Auth, shown
from mmdaemon.venues.emulator.classic import Classic
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.connection import Connection
from mmdaemon.venues.emulator.control import Control
from mmdaemon.venues.emulator.dialect import Dialect, Route
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.limits import Bucket, Limits
from mmdaemon.venues.emulator.outside import Outside
from mmdaemon.venues.emulator.record import Pushed
from mmdaemon.venues.emulator.rows import No, Why
from mmdaemon.venues.emulator.sockets import MESSAGES_PER_S, Sockets
from mmdaemon.venues.emulator.streams import Streams
from mmdaemon.venues.emulator.unified import Unified
from mmdaemon.venues.simulated.latency import Lane
from mmdaemon.venues.simulated.ledger import Ledger

DEMO: Final = "/demo"
_KEPT: Final = 2_000
_PARTED_S: Final = 0.5
"""How long handlers that still run have to end when the server closes."""
MINUTE_NS: Final = 60 * NS


class Seen(msgspec.Struct, frozen=True):
    """A REST request as it came, and what it was answered with (0: nothing)."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    """Without key, passphrase and signature."""
    body: str
    at_ms: int
    answered_ms: int
    status: int


class _Watched:
    """Keeps what is raised within, but for what a client or its connection is to blame for. It is raised all the same:
    the client sees an HTTP 500 without a code."""

    def __init__(self, defects: list[Exception]) -> None:
        self._defects = defects

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, web.HTTPException | ConnectionError):
            self._defects.append(error)


class Emulator:
    """Made within a running loop; the market begins to play at once. See `docs/VENUES.md`."""

    def __init__(
        self,
        source: MarketSource,
        clock: Clock,
        config: EmulatorConfig,
        seed: int = 7,
        ledger: Ledger | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.config, self.clock = config, clock
        self.faults = faults or Faults(clock, seed)
        self.requests: deque[Seen] = deque(maxlen=_KEPT)
        self.connections: deque[Connection] = deque(maxlen=_KEPT)
        """Every socket there was, ended ones too; the oldest are forgotten."""
        self.is_under_maintenance = False
        self.defects: list[Exception] = []
        """What the emulator itself raised; a test wants none."""
        self.port = 0
        self._open: list[Connection] = []
        self._ledger = ledger
        self._pushes: Lane[Pushed] = Lane(clock, self._push)
        self.streams = Streams(lambda: self.account, clock, config, self._open)
        self.account = Account(source, clock, config, seed, self._tell, self.streams.on_market, ledger)
        self.auth = Auth(config, self.account.now_ms)
        self.outside = Outside(self)
        self.faults.act = self.outside.act
        self._dialects = dialects_of(config)
        self._own: Dialect = next(each for each in self._dialects if each.name == config.account)
        self._routes: dict[tuple[str, str], tuple[Route, Dialect]] = {
            (route.method, route.path): (route, dialect)
            for dialect in sorted(self._dialects, key=lambda each: each is self._own)
            for route in dialect.routes()
        }
        self._limits = Limits({route.path: route.per_s for route, _ in self._routes.values()} if config.limits else {})
        self._sockets = Sockets(self.auth, self.faults, clock.mono_ns, config, self.streams.begin, self._logged_in)
        self._control = Control(self)
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._returning: asyncio.Task[None] | None = None
        self._minute: Timer | None = None
        self._numbered = self._minutes = 0
        self._is_closed = self._record_ended = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self, port: int = 0) -> None:
        """Listen on 127.0.0.1. Raises OSError: the port is taken."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application, access_log=None, handle_signals=False, shutdown_timeout=_PARTED_S, keepalive_timeout=75.0
        )
        await self._runner.setup()
        await self._listen(port)
        self._each_minute()

    async def _listen(self, port: int) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", port)
        await self._site.start()
        ((_, self.port),) = [address[:2] for address in self._runner.addresses]

    async def close(self) -> None:
        """Cut whoever is there, and end the account and its record. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
        await self.outside.close()
        self.faults.close()
        if self._minute is not None:
            self._minute.cancel()
        self.streams.close()
        self._cut_all("the venue ends")
        if self._runner is not None:
            await self._runner.cleanup()
        self._pushes.clear()
        self._record_ended = True
        self.account.close(self.clock.wall_ns())

    def _each_minute(self) -> None:
        if self._minutes:
            self.faults.minute(self._minutes)
        self._minutes += 1
        self._minute = self.clock.call_at(self.clock.mono_ns() + MINUTE_NS, self._each_minute)

    # --- REST ---------------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        with _Watched(self.defects):
            path = request.path
            if path.startswith("/emulator/"):
                return await self._control.handle(request)
            for dialect in self._dialects:
                if path.removeprefix(DEMO) in (dialect.public_path, dialect.private_path):
                    return await self._socket(request, dialect)
            return await self._rest(request)

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path, body = request.path, (await request.read()).decode(errors="replace")
        at_ms = self.account.now_ms()
        response = await self.faults.on_request(request, path)
        if self._is_closed:
            raise ConnectionResetError("the venue ended while this was on its way")
        if response is None:
            answer = self._answer(request, path, body)
            if self.config.push_delay_s < 0:
                await asyncio.sleep(-self.config.push_delay_s)
            response = await self.faults.on_answer(request, path, answer)
        gone = request.transport is None or request.transport.is_closing()
        seen = request.method, path, request.raw_path.partition("?")[2], shown(request.headers), body, at_ms
        self.requests.append(Seen(*seen, self.account.now_ms(), 0 if gone else response.status))
        return response

    def _answer(self, request: web.Request, path: str, body: str) -> web.Response:
        """Work on it, now."""
        route, dialect = self._routes.get((request.method, path), (None, self._own))
        try:
            if route is None:
                return self._enveloped(404, "40404", "Request URL NOT FOUND", None)
            data = self._called(request, route, dialect, body)
        except No as no:
            return self._enveloped(*dialect.error(no), None)
        finally:
            self.account.asked_ns = None
            self.account.keep()  # nothing of it is told before it is written down
        return self._enveloped(200, "00000", "success", data)

    def _called(self, request: web.Request, route: Route, dialect: Dialect, body: str) -> Any:
        if self.is_under_maintenance:
            raise No(Why.MAINTENANCE)
        if route.signed:
            asked_ms = self.auth.check_request(request.method, request.raw_path, body, request.headers)
            self.account.asked_ns = asked_ms * 1_000_000
            if dialect is not self._own:
                raise No(Why.CLASSIC_ONLY if self._own.name == "classic" else Why.UNIFIED_ONLY)
            if request.method == "POST" and not self.account.facts.can_trade:
                raise No(Why.PERMISSION)  # a key that may only read takes nothing out either
        if not self._limits.allows(route.path, self.clock.mono_ns()):
            raise No(Why.RATE_LIMIT)
        return route.call(self.account, _params(request, body))

    def _enveloped(self, status: int, code: str, text: str, data: Any) -> web.Response:
        envelope = {"code": code, "msg": text, "requestTime": self.account.now_ms(), "data": data}
        return web.Response(status=status, body=msgspec.json.encode(envelope), content_type="application/json")

    # --- WebSocket ----------------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request, dialect: Dialect) -> web.StreamResponse:
        socket = sockets.opened()
        await socket.prepare(request)
        self._numbered += 1
        bucket = Bucket(MESSAGES_PER_S, self.clock.mono_ns()) if self.config.limits else None
        limit = self.config.waiting_max_bytes
        now_ms = self.account.now_ms()
        connection = Connection(self._numbered, request, socket, dialect, self.faults, bucket, limit, now_ms)
        self.connections.append(connection)
        self._open.append(connection)
        try:
            why = await self._sockets.serve(connection)
            connection.why = connection.why or why
        finally:
            self._open.remove(connection)
            connection.ended(self.account.now_ms())
            if connection.record_number and self._ledger is not None and not self._record_ended:
                self._ledger.disconnected(connection.record_number, self.clock.wall_ns(), connection.why)
        return socket

    def _logged_in(self, connection: Connection) -> None:
        if self._ledger is not None:
            connection.record_number = self._ledger.connected(os.getpid(), self.clock.wall_ns())

    def _tell(self, pushed: Pushed) -> None:
        self._pushes.put(self.clock.mono_ns() + max(0, round(self.config.push_delay_s * NS)), pushed)

    def _push(self, pushed: Pushed) -> None:
        self.account.keep()
        self.streams.push(pushed)

    # --- what is done to all ------------------------------------------------------------------------------------------

    def sockets_of(self, where: str) -> list[Connection]:
        """Those that are open: "public", "private", or "" for both."""
        return [each for each in self._open if not where or each.private == (where == "private")]

    def _cut_all(self, why: str) -> None:
        for connection in [*self._open]:
            connection.cut(why)

    def restart(self) -> None:
        """All sockets are cut, and the book's sequence begins anew. The account goes on."""
        self._cut_all("the venue restarts")
        self._pushes.clear()
        self.streams.restart()

    def refuse_connections(self, seconds: float) -> None:
        """Nobody listens for so long; who is connected is cut."""
        before = self._returning
        self._returning = asyncio.get_running_loop().create_task(self._away(seconds, before), name="emulator.away")

    async def _away(self, seconds: float, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)
        assert self._runner is not None
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._cut_all("the venue is gone")
        server = cast(Any, self._runner.server)
        for handler in [*server.connections]:
            if handler.transport is not None:
                handler.transport.abort()
        await asyncio.sleep(seconds)
        await self._listen(self.port)


def dialects_of(config: EmulatorConfig) -> Sequence[Dialect]:
    classic: Dialect = Classic(config.symbol, config.coin)
    unified: Dialect = Unified(config.symbol, config.coin)
    return classic, unified


def _params(request: web.Request, body: str) -> Mapping[str, Any] | list[Any]:
    """The query of a GET, or the JSON of a POST. Raises No(PARAMETER)."""
    if request.method == "GET":
        return dict(request.query)
    try:
        read: Any = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, RecursionError):
        raise No(Why.PARAMETER) from None
    if not isinstance(read, dict | list):
        raise No(Why.PARAMETER)
    return cast("Mapping[str, Any] | list[Any]", read)
