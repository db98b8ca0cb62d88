"""The page's door: HTTP on 127.0.0.1 and nowhere else.

    GET  /          the page, one document that fetches nothing
    GET  /events    server-sent events (`stream.py`), at most 8 at once
    POST /kill      {"token":"...","reason":"...","flatten":false} -> lines of JSON, as of the control socket

The kill is all that changes anything, and asks for the operator's token (`ops/token.py`): any user of the machine
reaches a port on loopback, and so does any site that such a user has open in a browser. Against the latter: a request
must name a loopback host (a name of theirs that resolves to us is not one), a browser must say that it comes from this
very page, and a kill comes as JSON with the page's Origin. Nothing is kept in the browser: no cookie, no storage.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from mmdaemon.ops.control import BEAT_S, CONTAINED, READ_S, WRITE_S, Answer, Beat, Handler, Request, Said
from mmdaemon.ops.page import document
from mmdaemon.ops.page.document import About
from mmdaemon.ops.page.stream import History, Row
from mmdaemon.ops.status import Status
from mmdaemon.ops.token import Token

HOST: Final = "127.0.0.1"
EVERY_S: Final = 1.0
CLIENTS_MAX: Final = 8
QUEUED_MAX: Final = 4
"""Updates that wait for a browser which does not fetch them. One more and it is dropped."""
KILLS_MAX: Final = 16
"""Kills that are waited for at once. One more is answered at once, and is a kill like any other."""
BODY_MAX_BYTES: Final = 4096
WRONG_MAX: Final = 5
WRONG_WINDOW_S: Final = 60.0
_REASON_MAX: Final = 200
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})
_HEADERS: Final = {
    "Server": "mmdaemon",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_encode = msgspec.json.Encoder().encode


class PageError(Exception):
    """The page cannot be served. The message says what to do."""


class _Kill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    token: str
    reason: str = ""
    flatten: bool = False


_decode_kill = msgspec.json.Decoder(_Kill).decode
_Queue = asyncio.Queue[bytes | None]
"""What one browser has yet to fetch; None ends it."""


class PageServer:
    """Serves the page and samples for it, once started. `port` is the one it got; 0 before. `counts` is what happened.

    `row` and `status` look at the daemon; `handle` is the control socket's handler, of which only `kill` is asked.
    `told` says aloud that a wrong token was shown, or that the page died.
    """

    def __init__(
        self,
        history: History,
        row: Callable[[], Row],
        status: Callable[[], Status],
        handle: Handler,
        token: Token,
        about: About,
        port: int,
        told: Callable[[str, dict[str, object]], None],
    ) -> None:
        self.port = 0
        self.counts = dict.fromkeys(("opened", "dropped", "refused", "wrong_token", "kills"), 0)
        self._history = history
        self._row = row
        self._status = status
        self._handle = handle
        self._token = token
        self._asked_port = port
        self._told = told
        self._wrong_s: list[float] = []
        self._clients: dict[_Queue, web.Request] = {}
        self._kills: set[asyncio.Future[Answer]] = set()
        self._runner: web.AppRunner | None = None
        self._sampling: asyncio.Task[None] | None = None
        self._page = document.page_of(status(), about).encode()
        self._headers = {**_HEADERS, "Content-Security-Policy": document.policy()}

    async def start(self) -> None:
        """Listen.

        Raises:
            PageError: the port is taken, or not ours to take.
        """
        self._history.sample(self._row())
        app = web.Application(middlewares=[self._guarded], client_max_size=BODY_MAX_BYTES)
        app.router.add_get("/", self._document, allow_head=False)
        app.router.add_get("/events", self._events, allow_head=False)
        app.router.add_post("/kill", self._kill)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, keepalive_timeout=15.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._asked_port).start()
        except OSError as error:
            await runner.cleanup()
            raise PageError(_refusal(self._asked_port, error)) from None
        self._runner = runner
        self.port = int(runner.addresses[0][1])
        self._sampling = asyncio.create_task(self._sample(), name="page")
        self._sampling.add_done_callback(self._sampled)

    async def _sample(self) -> None:
        """Once a second, and tell the browsers; a status is made only for somebody who looks."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.tick()

    def tick(self) -> None:
        """A second has passed."""
        self._history.sample(self._row())
        if self._clients:
            self._publish(self._history.more(self._status()))

    def _sampled(self, task: asyncio.Task[None]) -> None:
        """Nothing here trades, so the daemon goes on without it; a page that hears nothing says so."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._told("page_died", {"error": repr(error)})

    async def close(self) -> None:
        """End the streams, wait no longer for kills (the kill switch goes on by itself), listen no more."""
        if self._sampling is not None:
            self._sampling.cancel()
        for queue, request in list(self._clients.items()):
            self._end(queue, request)
        for future in self._kills:
            future.cancel()
        runner, self._runner, self.port = self._runner, None, 0
        if runner is not None:
            await runner.cleanup()

    # --- what may come in ---------------------------------------------------------------------------------------------

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        why_not = _why_not(request)
        if why_not:
            self.counts["refused"] += 1
            return self._text(403, f"refused: {why_not}")
        try:
            return await handler(request)
        except web.HTTPException as error:  # no such path, another method, too long
            return self._text(error.status, f"{error.status}: {error.reason}")

    def _text(self, code: int, text: str) -> web.Response:
        return web.Response(status=code, text=text + "\n", headers=self._headers)

    async def _document(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=self._headers)

    # --- live ---------------------------------------------------------------------------------------------------------

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._clients) >= CLIENTS_MAX:
            self.counts["refused"] += 1
            return self._text(503, f"{CLIENTS_MAX} pages are open already: close one")
        queue: _Queue = asyncio.Queue(QUEUED_MAX)
        response = web.StreamResponse(headers={**self._headers, "Content-Type": "text/event-stream"})
        whole = b"retry: 2000\n" + self._history.whole(self._status())
        self._clients[queue] = request
        self.counts["opened"] += 1
        try:
            async with asyncio.timeout(WRITE_S):
                await response.prepare(request)
                await response.write(whole)
            while (update := await queue.get()) is not None:
                async with asyncio.timeout(WRITE_S):
                    await response.write(update)
        except (ConnectionError, TimeoutError):
            _abort(request)  # it went away, or does not read: it comes again for the whole
        finally:
            self._clients.pop(queue, None)
        return response

    def _publish(self, update: bytes) -> None:
        for queue, request in list(self._clients.items()):
            if queue.full():
                self.counts["dropped"] += 1
                self._end(queue, request)
                _abort(request)
            else:
                queue.put_nowait(update)

    def _end(self, queue: _Queue, _request: web.Request) -> None:
        self._clients.pop(queue, None)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    # --- kill ---------------------------------------------------------------------------------------------------------

    async def _kill(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            return self._text(415, "a kill is JSON: Content-Type application/json")
        try:
            async with asyncio.timeout(READ_S):
                asked = _decode_kill(await request.read())
        except TimeoutError:
            return self._text(408, f"no request within {READ_S:g} s")
        except (msgspec.MsgspecError, UnicodeError) as error:
            return self._text(400, f"not a kill: {error}"[:200])
        if not self._token.matches(asked.token):
            return self._wrong_token(request)
        return await self._killed(request, asked)

    def _wrong_token(self, request: web.Request) -> web.Response:
        """A right token is taken however many wrong ones came: it is too long to be guessed, and nobody may lock the
        kill away from who has it. What is limited is what wrong ones cost: a line of the log each."""
        self.counts["wrong_token"] += 1
        now = asyncio.get_running_loop().time()
        self._wrong_s = [at for at in self._wrong_s if now - at < WRONG_WINDOW_S]
        if len(self._wrong_s) >= WRONG_MAX:
            return self._text(429, "too many wrong tokens; nothing was done")
        self._wrong_s.append(now)
        self._told("page_token_refused", {"who": _who(request)})
        return self._text(403, "this is not the token; nothing was done")

    async def _killed(self, request: web.Request, asked: _Kill) -> web.StreamResponse:
        """What the kill switch says, line by line as it comes; the kill goes on whether or not anybody reads that."""
        self.counts["kills"] += 1
        lines: _Queue = asyncio.Queue()

        async def say(line: str) -> None:
            lines.put_nowait(_encode(Said(line)) + b"\n")

        args: dict[str, str | bool] = {"reason": asked.reason.strip()[:_REASON_MAX] or "operator page"}
        if asked.flatten:
            args["flatten"] = True
        future = asyncio.ensure_future(self._handle(Request("kill", args, _who(request)), say))
        self._kills.add(future)
        future.add_done_callback(lambda done: self._ended(done, lines))
        response = web.StreamResponse(headers={**self._headers, "Content-Type": "application/x-ndjson"})
        waiting = len(self._kills) <= KILLS_MAX
        try:
            await response.prepare(request)
            while waiting:
                try:
                    async with asyncio.timeout(BEAT_S):
                        line = await lines.get()
                except TimeoutError:
                    line = _encode(Beat()) + b"\n"
                if line is None:
                    break
                async with asyncio.timeout(WRITE_S):
                    await response.write(line)
            answer = _answer_of(future) if future.done() else Answer(True, 0, ["the kill switch is at work already"])
            async with asyncio.timeout(WRITE_S):
                await response.write(_encode(answer) + b"\n")
        except (ConnectionError, TimeoutError):
            _abort(request)
        return response

    def _ended(self, future: asyncio.Future[Answer], lines: _Queue) -> None:
        self._kills.discard(future)
        lines.put_nowait(None)
        if not future.cancelled() and (error := future.exception()) is not None:
            # As at the control socket: a request that fails takes neither the door nor the daemon with it.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "kill from the page failed", "exception": error, CONTAINED: "operator page"}
            )


def _answer_of(future: asyncio.Future[Answer]) -> Answer:
    if future.cancelled():
        return Answer(False, 1, ["the daemon is stopping; the kill switch goes on by itself"])
    error = future.exception()
    if error is not None:
        return Answer(False, 70, [f"the daemon failed at this ({type(error).__name__}); use `mmdaemon kill`"])
    answer = future.result()
    return msgspec.structs.replace(answer, status=None)


def _why_not(request: web.Request) -> str:
    """Empty, or what is wrong with where a request comes from."""
    host = request.headers.get("Host", "")  # not `request.host`: without the header that asks a name server
    if _hostname(host) not in _LOOPBACK:
        return "the page is 127.0.0.1 or localhost, by no other name"
    site = request.headers.get("Sec-Fetch-Site")
    if request.path != "/" and site not in {None, "same-origin", "none"}:
        return "asked by another site"
    origin = request.headers.get("Origin")
    if origin != f"http://{host}" and (origin is not None or request.method not in {"GET", "HEAD"}):
        return "not asked by this page"
    return ""


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _who(request: web.Request) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"page {peer[0]}:{peer[1]}" if peer else "page"


def _abort(request: web.Request) -> None:
    if isinstance(request.transport, asyncio.Transport):
        request.transport.abort()


def _refusal(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"page port {port} on {HOST} is in use, perhaps by another mmdaemon: set page.port to a free one, or to 0 "
            "for any (shown by `mmdaemon status`)"
        )
    return f"page port {port} on {HOST}: {error.strerror or error}; set page.port to another, or to 0 for any"
