"""What a client is told by the venue, or by a gateway before it, when something is wrong: codes, pages and resets."""

from contextlib import suppress
from typing import Final

from aiohttp import web

from mmdaemon.venues.emulator import spoilt
from mmdaemon.venues.emulator.wrong import Wrong

_CODES: Final[dict[Wrong, tuple[int, str, str]]] = {
    Wrong.RATE_LIMIT: (429, "429", "Too Many Requests"),
    Wrong.MAINTENANCE_CODE: (400, "40200", "Server upgrade, please try again later"),
    Wrong.SERVICE_ERROR_UNDONE: (400, "40725", "service return an error"),
    Wrong.CLOCK_REFUSED: (400, "40008", "Request timestamp expired"),
    Wrong.KEY_REVOKED: (400, "40006", "Invalid ACCESS_KEY"),
    Wrong.KEY_WRONG: (400, "40012", "apikey/password is incorrect"),
    Wrong.PERMISSION_REFUSED: (403, "40014", "Incorrect permissions, need trade permissions"),
    Wrong.READS_FAIL: (400, "40015", "System error, please try again later"),
    Wrong.ERROR_500: (500, "500", "Internal Server Error"),
    Wrong.SERVICE_ERROR: (400, "40725", "service return an error"),
    Wrong.SYSTEM_ERROR: (400, "40015", "System error, please try again later"),
    Wrong.REQUEST_TIMED_OUT: (400, "40010", "Request timed out"),
    Wrong.UNKNOWN_CODE: (400, "99099", "unheard of"),
}
_BY_API: Final[dict[Wrong, tuple[tuple[str, str], tuple[str, str]]]] = {
    Wrong.MARGIN_REFUSED: (("40762", "The order amount exceeds the balance"), ("25202", "Insufficient balance")),
    Wrong.CANCEL_NOT_FOUND: (("40768", "Order does not exist"), ("25204", "Order does not exist")),
    Wrong.READ_NOT_FOUND: (("40109", "The data of the order cannot be found"), ("25204", "Order does not exist")),
}
"""Codes of the classic and of the unified API."""
_PAGES: Final[dict[Wrong, tuple[int, str]]] = {
    Wrong.FORBIDDEN_HTML: (403, "Access denied"),
    Wrong.MAINTENANCE_HTTP: (503, "Under maintenance"),
    Wrong.BAD_GATEWAY_HTML: (502, "502 Bad Gateway"),
    Wrong.SLOW_504: (504, "504 Gateway Time-out"),
    Wrong.HTML_200: (200, "Just a moment..."),
}
NO_LOGIN: Final = {
    Wrong.LOGIN_REFUSED: (30005, "login failed"),
    Wrong.KEY_REVOKED: (30011, "Invalid ACCESS_KEY"),
    Wrong.KEY_WRONG: (30012, "Invalid ACCESS_PASSPHRASE"),
}
"""Code and text of a login's refusal."""
INSTEAD: Final = frozenset({*_CODES, *_BY_API, *_PAGES, Wrong.UNAVAILABLE_503})
"""The kinds of which `instead` knows the reply."""


def instead(kind: Wrong, path: str, now_ms: int) -> web.Response:
    """A reply that is not the venue's answer. `path` says whose codes they are."""
    if kind is Wrong.UNAVAILABLE_503:
        return web.Response(status=503, text="no healthy upstream")
    if kind in _PAGES:
        status, title = _PAGES[kind]
        return web.Response(status=status, text=spoilt.HTML.format(title), content_type="text/html")
    if kind in _BY_API:
        code, text = _BY_API[kind]["/v3/" in path]
        return of_json(spoilt.envelope(code, text, now_ms), 400)
    status, code, text = _CODES[kind]
    return of_json(spoilt.envelope(code, text, now_ms), status)


def limited(retry_after_s: str) -> web.Response:
    """Too many requests, as a gateway says it."""
    return web.Response(status=429, text="Too Many Requests", headers={"Retry-After": retry_after_s})


def of_json(text: str, status: int = 200) -> web.Response:
    return web.Response(status=status, text=text, content_type="application/json")


def is_gone(request: web.Request) -> bool:
    """Whether nobody is there to be answered."""
    return request.transport is None or request.transport.is_closing()


def cut(request: web.Request) -> web.StreamResponse:
    """Reset the connection; what is returned cannot be written any more."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def cut_in_half(request: web.Request, body: bytes) -> web.StreamResponse:
    """Half of the answer, then a reset."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body) + 1
    with suppress(ConnectionError):  # the client may be gone already
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
    cut(request)
    return response
