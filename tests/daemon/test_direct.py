"""The sweep that kills from without, at a venue where somebody else trades: let in beside him, it cancels and reads."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.types import NS, KillState
from mmdaemon.daemon.sweep import Progress, sweep
from mmdaemon.venues import messages
from mmdaemon.venues.messages import Ask, Hello, Refused, Send, Subscribe, Told, Welcome, What
from mmdaemon.venues.remote import RemoteVenue
from mmdaemon.venues.simulated.server import KILLERS_MAX
from tests.venues.served import GREETING, Site, connected, place, raw, served, until

KILLER = Hello(messages.VERSION, 666, kills=True)


def test_who_writes_to_a_connection_that_is_closed_and_not_yet_found_lost_is_told_unknown(tmp_path: Path) -> None:
    """Of a process that was stopped: it goes on, and something is sent before the end of the connection is seen. On
    uvloop, which raises where asyncio's own loop only warns."""

    async def main(clock: RealClock) -> None:
        async with served(tmp_path) as site, connected(site.path) as trader:
            loop = asyncio.get_running_loop()
            assert trader.venue._writer is not None
            trader.venue._writer.transport.abort()
            raised: list[BaseException] = []

            async def send(number: int) -> None:
                try:
                    await trader.venue.send(place(f"s{number}"))
                except RuntimeError as error:
                    raised.append(error)

            sending: list[asyncio.Task[None]] = []
            for number in range(20):
                sending.append(loop.create_task(send(number)))
                await asyncio.sleep(0)
            await asyncio.gather(*sending)
            await until(lambda: all(trader.told(f"s{number}") for number in range(20)))
            assert raised == []
            assert trader.told("s0") == ["unknown"]
            assert clock.mono_ns()

    run_real(main)


@asynccontextmanager
async def killer(path: Path) -> AsyncGenerator[RemoteVenue, None]:
    venue = RemoteVenue(path, RealClock(asyncio.get_running_loop()), 5.0, kills=True)
    await venue.open(lambda event: pytest.fail(f"told {event}"))
    try:
        yield venue
    finally:
        await venue.close()


async def swept(site: Site, venue: RemoteVenue, known: tuple[str, ...] = ()) -> tuple[list[KillState], Progress]:
    progress = Progress()
    reached = [state async for state in sweep(venue, site.clock, NS // 2, lambda: known, progress)]
    return reached, progress


async def test_who_kills_is_let_in_beside_who_trades_and_empties_his_symbol(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as trader, killer(site.path) as venue:
        for number in range(3):
            await trader.venue.send(place(f"r{number}"))
        await trader.until_told("r2", "live")
        assert [report.client_id for report in await venue.open_orders()] == ["r0", "r1", "r2"]
        reached, progress = await swept(site, venue)
        assert reached == [KillState.QUIET, KillState.VERIFIED]
        assert (progress.orders_left, await trader.venue.open_orders()) == (0, [])
        # He who trades is still there, and is told.
        await trader.until_told("r2", "cancelled")
        assert site.rows("SELECT pid, ended_ts_ns FROM connections")[0][1] is None


async def test_what_lands_after_quiet_begins_it_anew(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as trader, killer(site.path) as venue:
        progress = Progress()
        reached: list[KillState] = []
        async for state in sweep(venue, site.clock, NS // 2, lambda: (), progress):
            reached.append(state)
            if reached == [KillState.QUIET]:
                await trader.venue.send(place("late"))
                await trader.until_told("late", "live")
        assert reached == [KillState.QUIET, KillState.KILLING, KillState.QUIET, KillState.VERIFIED]
        assert progress.late == 1
        assert await trader.venue.open_orders() == []


@pytest.mark.parametrize(
    "said",
    [Send(1, place("a")), Ask(1, What.PROTECT, 900), Ask(1, What.DEAD_MAN, 0), KILLER],
    ids=["place", "protect", "dead_man", "hello"],
)
async def test_who_kills_does_nothing_else(tmp_path: Path, said: messages.FromClient) -> None:
    async with served(tmp_path) as site, connected(site.path) as trader, raw(site.path, KILLER, said):
        await until(lambda: site.said("disconnected"))
        assert "malformed" in str(site.said("disconnected")[0])
        assert site.rows("SELECT * FROM requests WHERE kind = 'place'") == []
        assert await trader.venue.open_orders() == []


async def test_who_kills_is_told_answers_and_beats_and_not_what_happens(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as trader, raw(site.path, KILLER, Subscribe()) as client:
        await trader.venue.send(place("a"))
        await trader.until_told("a", "live")
        client.say(Ask(1, What.OPEN_ORDERS))
        heard: list[type] = []
        while messages.Answered not in heard:
            heard.append(type(await messages.read_answer(client.reader)))
        assert Told not in heard


async def test_a_killer_that_hangs_holds_no_place_of_a_trader_and_only_so_many_are_let_in(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        async with raw(site.path, KILLER), raw(site.path, KILLER), raw(site.path, KILLER), raw(site.path, KILLER):
            await until(lambda: len([name for name, _ in site.logged if name == "connected"]) == KILLERS_MAX)
            async with raw(site.path, KILLER) as fifth:
                assert "to kill" in (await fifth.hear(Refused)).why
            async with connected(site.path) as trader:
                assert await trader.venue.open_orders() == []
        # And a place is free again once one is gone.
        await until(lambda: len(site.said("disconnected")) == KILLERS_MAX + 1)
        async with raw(site.path, KILLER) as again:
            await again.hear(Welcome)


async def test_a_second_trader_is_refused_as_ever(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as site,
        raw(site.path, *GREETING),
        killer(site.path),
        raw(site.path, *GREETING) as late,
    ):
        assert "one client at a time" in (await late.hear(Refused)).why
