"""The end of a preflight that is given up: what it had sent may land after that, and nothing of it stays."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest

from mmdaemon.clock import RealClock
from mmdaemon.core.types import Side
from mmdaemon.daemon.preflight.running import measured
from mmdaemon.daemon.preflight.site import Site
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.emulated.build import KEY, PASSPHRASE, SECRET, TOXIC, credentials, settings_for


def filled(emulator: Emulator) -> object:
    return emulator.account.fills(since_ms=0, until_ms=1 << 60, before_id="", limit=100)


@pytest.mark.timeout(90)
async def test_what_was_on_its_way_at_a_ctrl_c_is_waited_for(tmp_path: Path) -> None:
    """The answer to the order has not come, so nobody has called it UNKNOWN yet."""
    clock = RealClock(asyncio.get_running_loop())
    config = EmulatorConfig(account="unified", api_key=KEY, secret=SECRET, passphrase=PASSPHRASE, book_interval_s=0.05)
    emulator = Emulator(SyntheticMarket(seed=7, start_ts_ns=clock.wall_ns(), schedule=TOXIC), clock, config)
    await emulator.start()
    settings = settings_for(emulator, "unified", venue__in_flight_max_s=4.0, venue__request_timeout_s=3.0)
    site = Site(settings, credentials(), clock, tmp_path)
    try:
        await site.open()
        lots = await site.least_lots()
        emulator.faults.inject(Wrong.DELIVERED_LATE, seconds=1.5, where="place-order")
        taking = asyncio.create_task(site.take(Side.BUY, lots))
        await site.until(lambda: site.venue.lanes.in_flight, "nothing was sent")
        taking.cancel()
        with suppress(asyncio.CancelledError):
            await taking
        assert await site.leave_nothing() == ""
        await site.until(lambda: filled(emulator), "the order did not land")
        assert emulator.account.position() is None
        assert not emulator.account.open_orders()
    finally:
        await site.close()
        await emulator.close()


@pytest.mark.timeout(90)
async def test_a_ctrl_c_does_not_end_a_daemon_in_the_middle_of_its_end(tmp_path: Path) -> None:
    clock = RealClock(asyncio.get_running_loop())
    config = EmulatorConfig(account="unified", api_key=KEY, secret=SECRET, passphrase=PASSPHRASE, book_interval_s=0.05)
    emulator = Emulator(SyntheticMarket(seed=7, start_ts_ns=clock.wall_ns(), schedule=TOXIC), clock, config)
    await emulator.start()
    site = Site(settings_for(emulator, "unified"), credentials(), clock, tmp_path)
    try:
        await site.open()
        daemon = await site.begin_daemon("daemon")
        await site.until_quoting()
        ending = asyncio.create_task(site.end_daemon())
        await site.until(lambda: daemon.has_ended, "it was not asked to end")
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert site.has_daemon
        assert await site.end_daemon() == 0
        assert not site.has_daemon
        assert not emulator.account.open_orders()
    finally:
        await site.close()
        await emulator.close()


async def test_whatever_a_daemon_ends_by_the_account_is_emptied() -> None:
    emptied: list[str] = []

    class Broken:
        has_daemon = True

        async def end_daemon(self) -> int:
            self.has_daemon = False
            raise ValueError("a defect")

        async def leave_nothing(self) -> str:
            emptied.append("emptied")
            return ""

    with pytest.raises(ValueError, match="a defect"):
        await measured(cast("Site", cast("object", Broken())), only=("none",))
    assert emptied
