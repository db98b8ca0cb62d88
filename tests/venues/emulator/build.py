"""An emulator in the test's own loop, a market that stands still until a test moves it, and a client that signs.

Prices are around 1,000 ticks of 0.1; ten lots of 0.0001 at each of three levels a side.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec

from mmdaemon.clock import RealClock
from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.types import E10, Side
from mmdaemon.venues.base import MarketSource
from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.rows import OrderRow
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.simulated.ledger import Ledger
from tests.venues.simulated.test_venue import Market, book, ended

PATIENCE_S = 20.0
KEY, SECRET, PASSPHRASE = "a-key", "a-secret", "a-passphrase"
STILL = Market(book(0), ended(36_000))
BUY, SELL = Side.BUY, Side.SELL


def config(**settings: Any) -> EmulatorConfig:
    chosen: dict[str, Any] = {
        "account": "classic",
        "api_key": KEY,
        "secret": SECRET,
        "passphrase": PASSPHRASE,
        "book_interval_s": 0.0,
        "push_delay_s": 0.005,
        "start_e10": 1_000 * E10,
        "leverage": 10,
        **settings,
    }
    return EmulatorConfig(**chosen)


async def until(holds: Callable[[], object]) -> None:
    """Patience, not a measurement."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


def sign(text: str, secret: str = SECRET) -> str:
    return base64.b64encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()).decode()


class Bench:
    """The emulator, and a client of it. `demo` is the client's belief, not the emulator's."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession, clock: RealClock) -> None:
        self.emulator, self.session, self.clock = emulator, session, clock
        self.demo = True
        self.sockets: list[Socket] = []

    @property
    def account(self) -> Account:
        return self.emulator.account

    # --- the market ---------------------------------------------------------------------------------------------------

    def show(self, bids: tuple[tuple[int, int], ...], asks: tuple[tuple[int, int], ...]) -> None:
        """Another book, for the matching and for who listens."""
        at = self.account.advance()
        self.account.exchange.on_book(at, bids, asks)
        self.emulator.streams.on_market(BookUpdate(0, at, at, bids, asks))

    def show_mid(self, mid: int) -> None:
        levels = range(1, 4)
        self.show(tuple((mid - step, 10) for step in levels), tuple((mid + step, 10) for step in levels))

    def print(self, px_ticks: int, qty_lots: int, aggressor: Side) -> None:
        at = self.account.advance()
        self.account.exchange.on_trade(at, px_ticks, qty_lots, aggressor)
        self.emulator.streams.on_market(TradePrint(0, at, at, px_ticks, qty_lots, aggressor))

    # --- the account, without the wire --------------------------------------------------------------------------------

    def place(self, client_id: str, side: Side = BUY, px_ticks: int = 990, qty_lots: int = 5, **flags: Any) -> OrderRow:
        flags = {"post_only": True, "reduce_only": False, "ioc": False, **flags}
        return self.account.place(client_id=client_id, side=side, px_ticks=px_ticks, qty_lots=qty_lots, **flags)

    # --- REST ---------------------------------------------------------------------------------------------------------

    def headers(self, method: str, path: str, query: str = "", body: str = "", **changed: str) -> dict[str, str]:
        """Of a signed request; `changed` are headers by name, with _ for -, and `secret`."""
        stamp = changed.pop("ACCESS_TIMESTAMP", str(self.account.now_ms()))
        text = stamp + method + path + (f"?{query}" if query else "") + body
        given = {
            "ACCESS-KEY": KEY,
            "ACCESS-SIGN": sign(text, changed.pop("secret", SECRET)),
            "ACCESS-TIMESTAMP": stamp,
            "ACCESS-PASSPHRASE": PASSPHRASE,
            "Content-Type": "application/json",
        }
        if self.demo:
            given["PAPTRADING"] = "1"
        given.update({name.replace("_", "-"): value for name, value in changed.items()})
        return given

    async def get(self, path: str, params: Mapping[str, str] | None = None, **changed: str) -> Any:
        params = params or {}
        plain = "&".join(f"{name}={value}" for name, value in params.items())
        url = self.emulator.url + path + (f"?{urlencode(params)}" if params else "")
        async with self.session.get(url, headers=self.headers("GET", path, plain, **changed)) as response:
            return await response.json()

    async def post(self, path: str, params: object, **changed: str) -> Any:
        body = msgspec.json.encode(params).decode()
        headers = self.headers("POST", path, body=body, **changed)
        async with self.session.post(self.emulator.url + path, data=body, headers=headers) as response:
            return await response.json()

    async def control(self, name: str, asked: object = None) -> tuple[int, Any]:
        """GET without `asked`, else POST."""
        url = f"{self.emulator.url}/emulator/{name}"
        method = "GET" if asked is None else "POST"
        async with self.session.request(method, url, json=asked) as response:
            return response.status, await response.json()

    async def reachable(self) -> None:
        """Wait until somebody listens."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await self.control("status")
                    return
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.02)

    # --- WebSocket ----------------------------------------------------------------------------------------------------

    async def dial(self, path: str) -> "Socket":
        socket = Socket(await self.session.ws_connect(self.emulator.url + path))
        self.sockets.append(socket)
        return socket

    async def private(self, path: str = "/demo/v2/ws/private", **changed: str) -> "Socket":
        """A socket that is logged in."""
        socket = await self.dial(path)
        await socket.say({"op": "login", "args": [self.login(**changed)]})
        answer = await socket.hear()
        assert answer["event"] == "login", answer
        return socket

    def login(self, **changed: str) -> dict[str, str]:
        stamp = changed.pop("timestamp", str(self.account.now_ms() // 1_000))
        given = {"apiKey": KEY, "passphrase": PASSPHRASE, "timestamp": stamp, "sign": sign(stamp + "GET/user/verify")}
        return {**given, **changed}


class Socket:
    def __init__(self, wire: aiohttp.ClientWebSocketResponse) -> None:
        self.wire = wire

    async def say(self, message: object) -> None:
        await self.wire.send_str(message if isinstance(message, str) else msgspec.json.encode(message).decode())

    async def hear_text(self) -> str:
        message = await self.wire.receive(timeout=PATIENCE_S)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        return message.data

    async def hear(self) -> Any:
        return msgspec.json.decode(await self.hear_text())

    async def subscribe(self, *args: Mapping[str, str]) -> None:
        """And hear the acknowledgement of each, which comes before its data."""
        for arg in args:
            await self.say({"op": "subscribe", "args": [arg]})
            answer = await self.hear()
            assert answer == {"event": "subscribe", "arg": arg}, answer

    async def ended(self) -> int | None:
        """Wait for the end; its close code (1006: reset)."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.wire.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        return self.wire.close_code


@asynccontextmanager
async def emulated(
    source: MarketSource = STILL, ledger: Ledger | None = None, faults: Faults | None = None, **settings: Any
) -> AsyncGenerator[Bench, None]:
    """Fails at the end where the emulator itself had a defect, in a request or on a timer."""
    loop = asyncio.get_running_loop()
    clock, broken = RealClock(loop), list[str]()
    loop.set_exception_handler(lambda _, context: broken.append(f"{context['message']}: {context.get('exception')!r}"))
    emulator = Emulator(source, clock, config(**settings), ledger=ledger, faults=faults)
    await emulator.start()
    async with aiohttp.ClientSession() as session:
        bench = Bench(emulator, session, clock)
        bench.demo = emulator.config.environment == "demo"
        try:
            yield bench
        finally:
            for socket in bench.sockets:
                await socket.wire.close()
            await emulator.close()
    assert (emulator.defects, broken) == ([], [])


def channel(name: str, symbol: str = "BTCUSDT") -> dict[str, str]:
    """An argument of the classic API's."""
    if name == "account":
        return {"instType": "USDT-FUTURES", "channel": name, "coin": "default"}
    private = name in ("orders", "fill", "positions")
    return {"instType": "USDT-FUTURES", "channel": name, "instId": "default" if private else symbol}
