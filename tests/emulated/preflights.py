"""Preflights at emulators, side by side: each in a thread and an event loop of its own, with a fault for some item."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from mmdaemon.clock import RealClock
from mmdaemon.core.types import OrderStatus, Side
from mmdaemon.daemon.preflight.items import Result
from mmdaemon.daemon.preflight.running import measured
from mmdaemon.daemon.preflight.site import OURS, Site
from mmdaemon.settings import Settings
from mmdaemon.venues.ccxt_client import exchange_class
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.rows import FillRow
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.emulated.build import KEY, PASSPHRASE, SECRET, TOXIC, Kind, credentials, settings_for

SIDE_BY_SIDE = 6
PATIENCE_S = 45.0
SHORT_S = 12.0
"""How long something that never comes is waited for, while the item with the fault is measured."""
WINDOW_S = 1.0
Injection = Callable[[Emulator, str], object]
"""Called with "start", with each item as it begins, and with "" as it ended."""


class Misstating(Faults):
    """States a tick that is a tenth of the true one."""

    is_on = False

    async def on_answer(self, request: web.Request, path: str, response: web.Response) -> web.StreamResponse:
        if self.is_on and path.endswith(("market/contracts", "market/instruments")):
            whole: dict[str, Any] = json.loads(response.text or "")
            for row in whole["data"]:
                if "pricePlace" in row:
                    row["pricePlace"] = str(int(row["pricePlace"]) + 1)
                else:
                    row["priceMultiplier"] = str(Decimal(row["priceMultiplier"]) / 10)
            response = web.json_response(whole)
        return await super().on_answer(request, path, response)


class Case(NamedTuple):
    """One preflight, of these items `only`, and what goes wrong."""

    name: str
    kind: Kind
    only: tuple[str, ...] = ()
    item: str = ""
    """Whose fault it is."""
    said: str = ""
    """What its line must say: a pattern."""
    inject: Injection | None = None
    misstates: bool = False


class Seen(NamedTuple):
    results: Mapping[str, Result]
    left: tuple[int, int]
    """Orders and lots at the venue, in the end."""
    defects: Sequence[str]
    settings: Settings | None


def during(item: str, *faults: tuple[Wrong, float, str]) -> Injection:
    """From the beginning of an item to its end."""

    def inject(emulator: Emulator, begins: str) -> None:
        if begins == item:
            for kind, seconds, where in faults:
                emulator.faults.inject(kind, seconds=seconds, where=where)
        elif not begins:
            emulator.faults.clear()

    return inject


def facts(**changed: str | int | bool) -> Injection:
    return lambda emulator, begins: begins == "account" and emulator.outside.change_facts(**changed)


def overcharging(emulator: Emulator, begins: str) -> None:
    """Takes twice what it states."""
    if begins == "fees":
        stated = emulator.account.facts
        emulator.account.exchange.wallet.charge_at(Decimal(stated.maker_rate), 2 * Decimal(stated.taker_rate))


def forgetful(emulator: Emulator, begins: str) -> None:
    """A fill that was told is in no history."""
    if begins != "pnl":
        return
    account, whole, forgotten = emulator.account, emulator.account.fills, list[str]()

    def fills(**asked: Any) -> list[FillRow]:
        rows = whole(**asked)
        forgotten[1:] = []
        forgotten.extend(row.trade_id for row in rows if row.client_id.startswith(OURS))
        return [row for row in rows if row.trade_id not in forgotten[:1]]

    account.fills = fills  # a venue that forgets


def clinging(emulator: Emulator, begins: str) -> None:
    """No cancel arrives from a kill on, and what rests is nothing that the market fills."""
    if begins == "kill_switch":
        px_ticks = emulator.account.mark_px_ticks() * 9 // 10
        emulator.outside.foreign_order(Side.BUY, px_ticks, 10)
    during("kill_switch", (Wrong.REQUEST_LOST, 3_600.0, "cancel"))(emulator, begins)


async def play(case: Case, path: Path) -> Seen:
    clock = RealClock(asyncio.get_running_loop())
    config = EmulatorConfig(
        account=case.kind,
        api_key=KEY,
        secret=SECRET,
        passphrase=PASSPHRASE,
        window_s=WINDOW_S,
        book_interval_s=0.05,
        maker_rate=Decimal("-0.0001"),
    )
    faults = Misstating(clock)
    faults.is_on = case.misstates
    market = SyntheticMarket(seed=7, start_ts_ns=clock.wall_ns(), schedule=TOXIC)
    emulator = Emulator(market, clock, config, faults=faults)
    await emulator.start()
    settings = settings_for(emulator, case.kind, venue__reconcile_orders_s=1.0, venue__reconcile_position_s=2.0)
    site = Site(settings, credentials(), clock, path / case.name, patience_s=PATIENCE_S)

    def told(item: str) -> None:
        site.patience_s = SHORT_S if item and item == case.item else PATIENCE_S
        if case.inject is not None:
            case.inject(emulator, item)

    try:
        await site.open()
        told("start")
        results = await measured(site, case.only, begins=told, ended=lambda _: told(""))
        account = emulator.account
        held = account.position()
        live = [row for row in account.open_orders() if row.status is not OrderStatus.CANCELLED]
        left = len(live), held.lots if held is not None else 0
    finally:
        await site.close()
        await emulator.close()
    by_item = {result.item: result for result in results}
    assert len(by_item) == len(results)
    return Seen(by_item, left, [repr(each) for each in emulator.defects], settings)


def play_all(cases: Collection[Case], path: Path) -> dict[str, Seen | str]:
    """By name: what was seen, or what was raised."""
    exchange_class("bitget")  # once, before there are threads

    def one(case: Case) -> Seen | str:
        try:
            return asyncio.run(play(case, path))
        except Exception as error:  # noqa: BLE001 - told with its case
            return f"{type(error).__name__}: {error}"

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        begun = {case.name: pool.submit(one, case) for case in cases}
        return {name: future.result() for name, future in begun.items()}
