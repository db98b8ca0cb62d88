"""Answers of a copy of the venue that is behind."""

import asyncio
from collections.abc import Awaitable, Callable

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.commands import Cancel
from mmdaemon.core.types import NS, OrderStatus, Side
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.research.simulation.edges import Line
from mmdaemon.research.simulation.replica import Replica
from mmdaemon.venues.base import Absent, Cursor, OrderReport
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.research.simulation.test_edges import START_NS, far_buy

READS = 40


def play(script: Callable[[SimulatedVenue, VirtualClock, Line, Replica, list[str]], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        venue = SimulatedVenue(SyntheticMarket(7, START_NS), clock, SimulatedConfig(burst=10 * READS))
        counted: list[str] = []
        replica = Replica(venue, clock, 7, counted.append)
        venue.exchange.on_change = replica.changed
        line = Line(venue, lambda _command: None, None, replica)
        await line.open(lambda _event: None)
        await sleep_ns(clock, 2 * NS)
        await script(venue, clock, line, replica, counted)
        await venue.close()

    run_virtual(main, start_wall_ns=START_NS)


async def at_once(line: Line) -> tuple[set[int], set[str], set[int], set[int]]:
    """Many reads in one moment: open orders, states of one of them, fills, positions that were told."""
    since = Cursor(START_NS)
    lists = await asyncio.gather(*(line.open_orders() for _ in range(READS)))
    orders = await asyncio.gather(*(line.order("mmx-1-1") for _ in range(READS)))
    fills = await asyncio.gather(*(line.fills(since) for _ in range(READS)))
    held = await asyncio.gather(*(line.snapshot() for _ in range(READS)))
    states = {each.status.value if isinstance(each, OrderReport) else "absent" for each in orders}
    return {len(each) for each in lists}, states, {len(each) for each in fills}, {each.position_lots for each in held}


def test_what_came_a_moment_ago_is_there_for_some_reads_and_not_for_others() -> None:
    async def script(
        venue: SimulatedVenue, clock: VirtualClock, line: Line, replica: Replica, counted: list[str]
    ) -> None:
        replica.fall_behind(4 * NS, 4 * NS)
        await sleep_ns(clock, NS // 10)
        await line.send(far_buy())
        venue.manual_trade(Side.BUY, 5)
        await sleep_ns(clock, NS // 2)
        assert await at_once(line) == ({0, 1}, {"live", "absent"}, {0, 1}, {0, 5})
        assert counted
        assert set(counted) == {"stale answer"}

    play(script)


def test_it_is_behind_by_no_more_than_it_was_told_and_answers_about_orders_by_less() -> None:
    async def script(
        venue: SimulatedVenue, clock: VirtualClock, line: Line, replica: Replica, counted: list[str]
    ) -> None:
        replica.fall_behind(4 * NS, NS)
        await sleep_ns(clock, NS // 10)
        await line.send(far_buy())
        venue.manual_trade(Side.BUY, 5)
        await sleep_ns(clock, 2 * NS)
        lists, states, fills, _ = await at_once(line)
        assert (lists, states) == ({1}, {"live"})
        assert fills == {0, 1}
        await sleep_ns(clock, 3 * NS)
        assert await at_once(line) == ({1}, {"live"}, {1}, {5})

    play(script)


def test_an_order_that_has_ended_is_open_still_and_nothing_is_made_up_of_what_ended_before() -> None:
    async def script(
        venue: SimulatedVenue, clock: VirtualClock, line: Line, replica: Replica, counted: list[str]
    ) -> None:
        await line.send(far_buy("mmx-1-0"))
        await sleep_ns(clock, NS)
        await line.send(Cancel("mmx-1-0", risk=False))
        await sleep_ns(clock, NS)
        replica.fall_behind(2 * NS, 2 * NS)
        await line.send(far_buy())
        await sleep_ns(clock, 4 * NS)
        await line.send(Cancel("mmx-1-1", risk=False))
        await sleep_ns(clock, NS // 2)
        lists, states, _, _ = await at_once(line)
        assert (lists, states) == ({0, 1}, {"live", "cancelled"})
        ended = await asyncio.gather(*(line.order("mmx-1-0") for _ in range(READS)))
        assert {each.status for each in ended if isinstance(each, OrderReport)} == {OrderStatus.CANCELLED}
        assert await line.order("mmx-9-9") == Absent("mmx-9-9")

    play(script)


def test_it_catches_up_when_the_last_of_them_is_over() -> None:
    async def script(
        venue: SimulatedVenue, clock: VirtualClock, line: Line, replica: Replica, counted: list[str]
    ) -> None:
        replica.fall_behind(2 * NS, 2 * NS)
        replica.fall_behind(4 * NS, NS)
        replica.catch_up()
        await line.send(far_buy())
        await sleep_ns(clock, NS // 2)
        assert (await at_once(line))[0] == {0, 1}
        replica.catch_up()
        assert await at_once(line) == ({1}, {"live"}, {0}, {0})

    play(script)
