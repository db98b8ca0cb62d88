"""ccxt.pro, as installed: the one module that imports it, and the one place of it that is hooked, its receive loop.

What ccxt does for us: markets, signatures, the private login, subscriptions, keep-alive, dialling again. What it does
not: decode a hot channel, keep a book, pace a request. Each text frame is handed to our *tap* first, in the callback in
which it was received, before any cache or conflation; what the tap takes stops there, and the rest goes on to ccxt.

  * Only the exchange in use is imported: `import ccxt.pro` loads a hundred of them (0.5 s and 57 MB more, measured).
  * What ccxt raises while it handles a frame would end its receive loop without a word (the stream then stalls until
    the ping time-out). Here it counts, ends the connection, and the pumps dial again.
  * ccxt's clock is ours: signatures and the login carry the time that everything else is judged by.
"""

import asyncio
import importlib
import importlib.util
import ssl
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, cast

import aiohttp

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS
from mmdaemon.venues.bitget.api import Request
from mmdaemon.venues.ccxt_config import CcxtConfig

Tap = Callable[[str | bytes], bool]
"""One frame of a connection: True where it is ours and stops here. It never raises."""

UNREADABLE: Final = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What ccxt raises, beside errors of its own, while it reads an answer or a frame that it did not expect."""
_KEEP_ALIVE_MS: Final = 10_000
"""A text `ping` this often; two misses end the connection."""
_ENDS: Final = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
_ABNORMAL: Final = 1006
"""The code of a connection that ended without one."""
_HTTP_SECTIONS: Final = (
    "spot", "mix", "user", "p2p", "broker", "margin", "common", "tax", "convert", "copy", "earn", "uta",
)  # fmt: skip


def exchange_class(name: str) -> type[Any]:
    """The class of ccxt.pro for one exchange, with nothing of the others imported.

    The packages' own `__init__` modules import every exchange; they are stood in for by empty packages that have what
    the modules below them ask for. A ccxt that was imported whole before is used as it is.

    Raises:
        LookupError: ccxt.pro has no such exchange.
    """
    if "ccxt" not in sys.modules:
        root = _empty_package("ccxt")
        errors = importlib.import_module("ccxt.base.errors")
        for error in cast("list[str]", errors.__all__):
            setattr(root, error, getattr(errors, error))
        vars(root)["Exchange"] = importlib.import_module("ccxt.base.exchange").Exchange
        _empty_package("ccxt.async_support")
        _empty_package("ccxt.pro")
    try:
        cold = importlib.import_module(f"ccxt.async_support.{name}")
        for kind in cast("type[Any]", getattr(cold, name)).__mro__:  # one may be made of another (binanceusdm)
            if kind.__module__ == f"ccxt.async_support.{kind.__name__}":
                vars(sys.modules["ccxt.async_support"])[kind.__name__] = kind
        hot = importlib.import_module(f"ccxt.pro.{name}")
    except ModuleNotFoundError as error:
        raise LookupError(f"ccxt.pro has no exchange {name!r}") from error
    return cast("type[Any]", getattr(hot, name))


def _empty_package(name: str) -> ModuleType:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise LookupError(f"{name} is not installed")
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    above, _, last = name.rpartition(".")
    if above:
        vars(sys.modules[above])[last] = package
    return package


class CcxtClient:
    """ccxt's exchange object with our clock, our addresses and our taps. Made and used within one event loop."""

    def __init__(self, config: CcxtConfig, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        self._heard_ns = {False: 0, True: 0}
        self._connected_ns = {False: 0, True: 0}
        self.venue_ahead_ns = 0
        """By how much the venue's clock was ahead of ours when it refused ours; all but orders is signed by it."""
        self._signing_ns = 0
        self.errors_in_ccxt = 0
        """Frames that ccxt's own handlers failed of."""
        self.error_in_ccxt = ""
        """Kind of the last such error."""
        self._taps: dict[bool, Tap] = {}
        self._receiving: set[asyncio.Task[None]] = set()
        self._on_connection: Callable[[bool], None] = lambda _private: None
        self.exchange: Any = exchange_class(config.exchange)(_options(config))
        self.exchange.milliseconds = self.exchange.nonce = lambda: (clock.wall_ns() + self._signing_ns) // 1_000_000
        self.exchange.seconds = lambda: clock.wall_ns() // NS
        make: Callable[[str], Any] = self.exchange.client

        def client(url: str) -> Any:
            is_new = url not in self.exchange.clients
            made = make(url)
            if is_new:
                self._tap_in(made)
            return made

        self.exchange.client = client
        self.network_errors: tuple[type[BaseException], ...] = (sys.modules["ccxt"].BaseError,)
        """Everything that ccxt raises of its own."""

    def hear(self, *, public: Tap, private: Tap, on_connection: Callable[[bool], None]) -> None:
        """Where frames go first. `on_connection(private)` is called as a connection is made anew, before any frame."""
        self._taps = {False: public, True: private}
        self._on_connection = on_connection

    # --- REST ---------------------------------------------------------------------------------------------------------

    def ssl_context(self) -> ssl.SSLContext:
        """ccxt's own: certificates and names are verified, against certifi's authorities."""
        self.exchange.open()
        return cast("ssl.SSLContext", self.exchange.ssl_context)

    def sign(self, request: Request) -> tuple[str, dict[str, str], bytes | None]:
        """(URL, headers, body) as ccxt signs them: with the key, and with the demo header where it belongs."""
        endpoint = request.endpoint
        access = ["private" if endpoint.signed else "public", "uta" if "/v3/" in endpoint.path else "mix"]
        self._signing_ns = 0 if endpoint.lane == "order" else self.venue_ahead_ns
        try:
            signed = self.exchange.sign(endpoint.path.removeprefix("/api/"), access, endpoint.method, request.params)
        finally:
            self._signing_ns = 0
        body = cast("str | None", signed["body"])
        headers = cast("Mapping[str, str] | None", signed["headers"]) or {}
        return cast("str", signed["url"]), dict(headers), None if body is None else body.encode()

    # --- streams ------------------------------------------------------------------------------------------------------

    def drop(self, *, private: bool, why: str) -> None:
        """End the connection, if there is one: whoever waits on it hears of it, and dials again."""
        self._heard_ns[private] = self._connected_ns[private] = 0
        for url, client in list(self.exchange.clients.items()):
            if _is_private(url) == private:
                client.on_error(sys.modules["ccxt"].NetworkError(why))

    def silent_ns(self, *, private: bool) -> int:
        """How long ago the last frame came (a pong is one), or the connection was made; 0 while there is none."""
        return self._ago_ns(self._heard_ns[private])

    def connected_for_ns(self, *, private: bool) -> int:
        """How long there has been a connection; 0 while there is none, and while it is dialled or waits to be."""
        return self._ago_ns(self._connected_ns[private])

    def _ago_ns(self, then_ns: int) -> int:
        return self._clock.mono_ns() - then_ns if then_ns else 0

    def _tap_in(self, client: Any) -> None:
        private = _is_private(client.url)
        to_ccxt = client.handle_text_or_binary_message

        def on_frame(data: str | bytes) -> None:
            self._heard_ns[private] = self._clock.mono_ns()
            try:
                if self._taps[private](data):
                    return
            except Exception as error:  # noqa: BLE001 - our defect; the frame may have been a fill
                told = {"message": "a frame of the venue could not be taken", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)
                client.on_error(sys.modules["ccxt"].NetworkError(f"we failed of a frame: {type(error).__name__}"))
                return
            try:
                to_ccxt(data)
            except Exception as error:  # noqa: BLE001 - a defect in ccxt's handler must not stall the stream
                self.errors_in_ccxt += 1
                self.error_in_ccxt = type(error).__name__
                client.on_error(sys.modules["ccxt"].NetworkError(f"ccxt failed of a frame: {type(error).__name__}"))

        client.handle_text_or_binary_message = on_frame
        client.receive_loop = lambda: self._receive(client, on_frame)
        self._heard_ns[private] = self._connected_ns[private] = 0
        self._on_connection(private)

    def _receive(self, client: Any, on_frame: Callable[[str | bytes], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._received(client, on_frame), name="venue.receive")
        self._receiving.add(task)
        task.add_done_callback(self._receiving.discard)

    async def _received(self, client: Any, on_frame: Callable[[str | bytes], None]) -> None:
        """In place of ccxt's receive loop, which makes a task of each frame and takes frames out of aiohttp's own
        buffer behind its back. One task a connection; what came together is taken together."""
        if self._is_given_up(client):
            await client.close()
            return
        private = _is_private(client.url)
        self._heard_ns[private] = self._connected_ns[private] = self._clock.mono_ns()
        try:
            while not client.closed():
                message = await client.connection.receive()
                if self._is_given_up(client):
                    await client.close()
                    return
                if message.type is aiohttp.WSMsgType.TEXT:
                    on_frame(message.data)
                    continue
                if message.type is aiohttp.WSMsgType.PING:
                    # ccxt would, in a task that nobody looks at; as it failed, the daemon would stop for a defect.
                    await client.connection.pong(message.data)
                    continue
                client.handle_message(message)
                if message.type in _ENDS:
                    return  # ccxt knows
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing is received any more
            client.on_error(sys.modules["ccxt"].NetworkError(f"not received: {type(error).__name__}"))
        else:
            client.on_close(_ABNORMAL)

    def _is_given_up(self, client: Any) -> bool:
        """ccxt does not end a dial that was dropped under way: its socket comes about later, beside the next one's, and
        would log in, subscribe and speak into our taps for as long as it lives."""
        return self.exchange.clients.get(client.url) is not client

    async def close(self) -> None:
        """Connections and session. Once."""
        await self.exchange.close()


def _is_private(url: str) -> bool:
    return url.endswith("/private")


def _options(config: CcxtConfig) -> dict[str, Any]:
    options: dict[str, Any] = {
        "enableRateLimit": False,
        "has": {"fetchCurrencies": False},
        "streaming": {"keepAlive": _KEEP_ALIVE_MS},
        "timeout": round(config.request_timeout_s * 1_000),
        "options": {
            "defaultType": "swap",
            # Unset, ccxt would probe for it, and take any failure for "classic".
            "uta": config.account == "unified",
            "sandboxMode": config.environment == "demo",
            "fetchMarkets": {"types": ["swap"]},
        },
    }
    if config.credentials is not None:
        key = config.credentials
        options |= {
            "apiKey": key.api_key.reveal(),
            "secret": key.api_secret.reveal(),
            "password": key.api_passphrase.reveal(),
        }
    if config.emulator_url:
        if config.exchange != "bitget":
            raise ValueError(f"it is Bitget that is emulated: {config.exchange} would be spoken to itself")
        http = config.emulator_url.rstrip("/")
        ws = http.replace("http://", "ws://", 1)
        options["urls"] = {
            "api": {**dict.fromkeys(_HTTP_SECTIONS, http), "ws": _sockets(ws), "demo": _sockets(f"{ws}/demo")}
        }
    return options


def _sockets(root: str) -> dict[str, str]:
    return {
        "public": f"{root}/v2/ws/public",
        "private": f"{root}/v2/ws/private",
        "utaPublic": f"{root}/v3/ws/public",
        "utaPrivate": f"{root}/v3/ws/private",
    }
