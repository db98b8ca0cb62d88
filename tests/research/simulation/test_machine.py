"""The machine of a daemon that does not run for a while, and the line that keeps what the venue says meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.events import BookUpdate, Event, Fill
from mmdaemon.core.types import NS, Side
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.research.simulation.edges import Line
from mmdaemon.research.simulation.machine import Machine
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.venue import SimulatedVenue
from mmdaemon.virtual_loop import VirtualLoop
from tests.research.simulation.test_edges import START_NS, far_buy

Script = Callable[[SimulatedVenue, VirtualClock, Machine], Awaitable[None]]


def play(script: Script) -> None:
    async def main(clock: VirtualClock) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        venue = SimulatedVenue(SyntheticMarket(7, START_NS), clock)
        await script(venue, clock, Machine(clock, loop))
        await venue.close()

    run_virtual(main, start_wall_ns=START_NS)


def test_of_a_held_daemon_nothing_runs_until_the_end_and_then_all_in_its_order() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock, machine: Machine) -> None:
        woke: list[tuple[str, int]] = []
        begun = clock.mono_ns()

        async def part(name: str, after_ns: int) -> None:
            await sleep_ns(clock, after_ns)
            woke.append((name, (clock.mono_ns() - begun) // (NS // 10)))

        parts = [asyncio.create_task(part(*each)) for each in (("b", 2 * NS), ("late", 9 * NS), ("a", NS))]
        clock.call_at(begun + NS // 2, list).cancel()
        await asyncio.sleep(0)
        clock.call_at(clock.mono_ns(), machine.hold, 4 * NS)
        await asyncio.gather(*parts)
        assert woke == [("a", 40), ("b", 40), ("late", 90)]

    play(script)


def test_what_the_venue_says_to_a_held_daemon_comes_at_the_end_with_the_time_of_its_receipt() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock, machine: Machine) -> None:
        heard: list[tuple[int, Event]] = []
        line = Line(venue, lambda _command: None, machine)
        await line.open(lambda event: heard.append((clock.mono_ns(), event)))
        clock.call_at(2 * NS, machine.hold, 3 * NS)
        clock.call_at(3 * NS, venue.manual_trade, Side.BUY, 5)
        clock.call_at(10 * NS, lambda: None)
        while clock.mono_ns() < 10 * NS:
            await sleep_ns(clock, NS)
        assert not [at for at, _ in heard if 2 * NS < at < 5 * NS]
        waited = [event for at, event in heard if at == 5 * NS]
        assert len(waited) > 5
        assert {event.mono_ns for event in waited} == {5 * NS}
        books = [event.venue_ts_ns or 0 for _, event in heard if isinstance(event, BookUpdate)]
        assert books == sorted(books)
        assert line in machine.lines
        line.cut()
        assert machine.lines == []

    play(script)


def test_what_a_held_daemon_sent_lands_all_the_same() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock, machine: Machine) -> None:
        heard: list[Event] = []
        line = Line(venue, lambda _command: None, machine)
        await line.open(heard.append)
        await sleep_ns(clock, NS)
        await line.send(far_buy())
        clock.call_at(clock.mono_ns(), machine.hold, 4 * NS)
        begun = clock.mono_ns()
        await sleep_ns(clock, 2 * NS)
        assert clock.mono_ns() - begun == 4 * NS  # this wait is one of the daemon's own, and was held
        ((landed_ns, _),) = venue.truth().received
        assert landed_ns - START_NS < 2 * NS
        assert not [event for event in heard if begun < event.mono_ns < begun + 4 * NS]

    play(script)


def test_of_a_machine_that_slept_each_timer_comes_later_by_as_much_and_the_clocks_went_on() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock, machine: Machine) -> None:
        heard: list[tuple[int, Event]] = []
        line = Line(venue, lambda _command: None, machine)
        await line.open(lambda event: heard.append((clock.mono_ns(), event)))
        await sleep_ns(clock, NS)
        begun, wall = clock.mono_ns(), clock.wall_ns()
        clock.call_at(begun, machine.sleep, 600 * NS)
        clock.call_at(begun + 300 * NS, venue.manual_trade, Side.BUY, 5)
        await sleep_ns(clock, 2 * NS)
        assert clock.mono_ns() - begun == 602 * NS
        assert clock.wall_ns() - wall == 602 * NS
        (fill,) = venue.truth().fills
        assert (fill.venue_ts_ns or 0) - wall == 300 * NS  # the venue did not sleep
        assert not [event for _, event in heard if begun < event.mono_ns < begun + 600 * NS]
        assert any(isinstance(event, Fill) for at_ns, event in heard if at_ns == begun + 600 * NS)

    play(script)
