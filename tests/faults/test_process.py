"""Rows of docs/FAULTS.md about the process that had no test: a part that will not be cancelled, a loop that pauses."""

import asyncio
import os
from pathlib import Path

import pytest

from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import NS, GuardState
from mmdaemon.venues.base import VenueUnavailable
from tests.core.build import running
from tests.daemon.build import World, run_world


def test_a_part_that_swallows_its_cancellation_does_not_hold_up_the_stop(path: Path) -> None:
    """Nothing rests by then, but until it ends the journal is not closed and the run is not called clean."""

    async def script(world: World) -> None:
        await world.trade(5)

        async def stubborn() -> None:
            for _ in range(3):
                try:
                    await world.sleep(3_600)
                except asyncio.CancelledError:
                    continue  # as a careless `except` around an await would

        world.daemon._begin("stubborn", stubborn())
        await world.sleep(1)
        begun_ns = world.now_ns
        code = await world.stop()
        assert world.now_ns - begun_ns < 60 * NS, "it waited for a part that does not end"
        assert world.venue.resting() == []
        assert code != 0
        assert any("stubborn" in str(fields) for _, fields in world.said)

    run_world(script, path)


def test_no_run_leaves_a_descriptor_behind_however_it_ends(path: Path) -> None:
    """Clean stops, crashes, and starts that the venue refuses, in one process."""

    async def script(world: World) -> None:
        await world.trade(5)
        await world.stop()
        before = len(os.listdir("/proc/self/fd"))
        for number in range(4):
            await world.restart()
            await world.sleep(5)
            await (world.stop() if number % 2 else world.crash())
            assert len(os.listdir("/proc/self/fd")) == before
            await refused_start(world)
            assert len(os.listdir("/proc/self/fd")) == before

    async def refused_start(world: World) -> None:
        real = world.venue.open

        async def shut(deliver: object) -> None:
            raise VenueUnavailable("the test says so")

        world.venue.open = shut
        with pytest.raises(VenueUnavailable):
            await world.restart()
        world.venue.open = real

    run_world(script, path)


def test_a_pause_of_the_garbage_collector_is_loop_lag_and_pauses() -> None:
    """Whatever keeps the loop from running shows as lag in the next measurement, and nothing is quoted meanwhile."""
    desk = running()
    commands = desk.wait(2.0).all_of(desk.health(lag_s=2.0))
    assert desk.guard is GuardState.SOFT_PAUSE
    assert desk.state.guard.active & BIT[Reason.LOOP_LAG]
    assert len(commands) == len(desk.live)
    desk.seconds(desk.params.guard.soft_clear_ns / NS + 2)
    assert desk.guard is GuardState.RUNNING
