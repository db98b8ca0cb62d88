"""ccxt.pro as it is installed, pointed at the emulator: what it reads there is what it would read at the venue."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import ccxt.pro

from tests.venues.emulator.build import KEY, PASSPHRASE, PATIENCE_S, SECRET, Bench, emulated, until

SYMBOL = "BTC/USDT:USDT"
_APIS = ("spot", "mix", "user", "p2p", "broker", "margin", "common", "tax", "convert", "copy", "earn", "uta")


def client(url: str, *, is_unified: bool) -> Any:
    """With a demo key, as `set_sandbox_mode(True)` leaves it; no markets of other kinds are asked for."""
    ws = url.replace("http", "ws", 1) + "/demo"
    sockets = {
        "public": f"{ws}/v2/ws/public",
        "private": f"{ws}/v2/ws/private",
        "utaPublic": f"{ws}/v3/ws/public",
        "utaPrivate": f"{ws}/v3/ws/private",
    }
    config: Any = {
        "apiKey": KEY,
        "secret": SECRET,
        "password": PASSPHRASE,
        "enableRateLimit": False,
        "has": {"fetchCurrencies": False},
        "urls": {"api": {**dict.fromkeys(_APIS, url), "ws": sockets, "demo": sockets}},
        "options": {
            "defaultType": "swap",
            "uta": is_unified,
            "fetchMarkets": {"types": ["swap"]},
            "sandboxMode": True,
        },
    }
    return ccxt.pro.bitget(config)


class Desk:
    """A client, and the emulator that it talks to."""

    def __init__(self, bench: Bench, exchange: Any) -> None:
        self.bench, self.account, self.exchange = bench, bench.account, exchange

    async def watching(self, kind: str, watch: Any) -> "asyncio.Task[Any]":
        """Begin to watch; returns once the emulator has the subscription."""
        task = asyncio.ensure_future(watch)
        await until(lambda: task.done() or any(kind in each.channels for each in self.bench.emulator.connections))
        return task

    async def watching_again(self, *watch: Callable[[], Any]) -> "list[asyncio.Task[Any]]":
        """Channels that open with what is there now: that is taken, and what follows is watched for."""
        for each in watch:
            await asyncio.wait_for(each(), PATIENCE_S)
        return [asyncio.ensure_future(each()) for each in watch]


async def seen(task: "asyncio.Task[Any]") -> Any:
    return await asyncio.wait_for(task, PATIENCE_S)


@asynccontextmanager
async def at_desk(kind: str, **settings: Any) -> AsyncGenerator[Desk, None]:
    async with emulated(account=kind, **settings) as bench:
        exchange = client(bench.emulator.url, is_unified=kind == "unified")
        try:
            await exchange.load_markets()
            yield Desk(bench, exchange)
        finally:
            await exchange.close()
