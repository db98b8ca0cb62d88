"""The wall clock steps under live orders: the day and its budgets stay what they are, the guard says so at once, and
nothing that is asked of the venue by time is missed.

The venue keeps its own time. `wall_offset_ns` is UTC less monotonic as the daemon's machine has it.
"""

import asyncio
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from mmdaemon.core.events import Fill
from mmdaemon.core.reasons import Reason, reasons_of
from mmdaemon.core.state import Risk
from mmdaemon.core.types import NS, GuardState, Side
from mmdaemon.venues.base import Cursor
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.daemon.build import START_NS, TOXIC, World, busy, run_world

HOUR_S = 3_600.0
BEFORE_MIDNIGHT_NS = START_NS + round(22.75 * HOUR_S) * NS
"""A quarter to midnight."""


def step(world: World, seconds: float) -> None:
    world.clock.wall_offset_ns += round(seconds * NS)


def reasons(world: World) -> tuple[str, ...]:
    return reasons_of(world.state.guard.active)


def budget(world: World) -> tuple[int, int, int]:
    risk: Risk = world.state.risk
    return risk.day, risk.day_open_e10, risk.day_turnover_start_e10


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S, 1.5, -1.5])
def test_a_step_is_said_within_two_seconds_and_nothing_increases_until_it_is_mended(
    tmp_path: Path, seconds: float
) -> None:
    async def script(world: World) -> None:
        await world.trade()
        before = budget(world)
        step(world, seconds)
        await world.until(lambda: Reason.CLOCK in reasons(world), 2.0)
        assert world.guard is GuardState.SOFT_PAUSE
        paused_ns = world.now_ns
        await world.until(lambda: not world.venue.resting(), 5.0)
        await world.sleep(90)  # and it stays said, once the account's facts were read anew
        assert Reason.CLOCK in reasons(world)
        assert world.venue.increasing_since(paused_ns + NS // 10) == []
        assert budget(world) == before
        step(world, -seconds)
        await world.until(world.is_two_sided_with_position, 90.0)
        assert budget(world) == before
        assert world.state.facts.breaks == ()

    run_world(script, tmp_path / "state", busy())


@pytest.mark.parametrize("seconds", [0.9, -0.9])
def test_a_step_within_the_limit_changes_nothing(tmp_path: Path, seconds: float) -> None:
    async def script(world: World) -> None:
        await world.trade()
        before = budget(world)
        step(world, seconds)
        for _ in range(90):
            await world.sleep(1)
            assert Reason.CLOCK not in reasons(world)
        assert budget(world) == before
        assert world.guard is GuardState.RUNNING

    run_world(script, tmp_path / "state", busy())


def test_a_step_over_midnight_opens_no_day_and_the_true_midnight_opens_it_once(tmp_path: Path) -> None:
    source = SyntheticMarket(seed=7, start_ts_ns=BEFORE_MIDNIGHT_NS, schedule=TOXIC)

    async def script(world: World) -> None:
        await world.trade()
        before = budget(world)
        step(world, HOUR_S)
        await world.sleep(70)
        assert budget(world) == before
        # Nor does a daemon that starts under the wrong clock.
        await world.crash()
        await world.restart()
        await world.sleep(30)
        assert budget(world) == before
        step(world, -HOUR_S)
        await world.until(lambda: world.guard is GuardState.RUNNING, 90.0)
        assert budget(world) == before
        days: list[int] = []
        while world.clock.wall_ns() < BEFORE_MIDNIGHT_NS + 1_200 * NS:
            await world.sleep(1)
            if budget(world)[0] not in days:
                days.append(budget(world)[0])
        assert days == [before[0], before[0] + 1]
        # And a step back over it opens it no second time.
        opened = budget(world)
        step(world, -HOUR_S)
        await world.sleep(70)
        assert budget(world) == opened
        step(world, HOUR_S)
        await world.sleep(70)
        assert budget(world) == opened

    run_world(script, tmp_path / "state", busy(), source=source)


@pytest.mark.parametrize("seconds", [30 * HOUR_S, -30 * HOUR_S])
def test_what_was_billed_while_nobody_was_there_is_read_although_the_clock_was_wrong_before(
    tmp_path: Path, seconds: float
) -> None:
    """No order of ours leads to a bill: it is found by the time from which on bills are read, or not at all."""

    async def script(world: World) -> None:
        await world.trade()
        step(world, seconds)
        await world.sleep(65)
        step(world, -seconds)
        await world.until(lambda: world.guard is GuardState.RUNNING, 90.0)
        await world.crash()
        world.venue.transfer(NS)
        await world.restart(600)  # longer ago than what is read anyhow
        await world.until(world.is_two_sided_with_position, 60.0)
        with world.journal() as journal:
            assert [bill.amount_e10 for bill in journal.bills(2)] == [NS]
        with closing(sqlite3.connect(world.state_dir.journal_path)) as db:
            found = db.execute("SELECT breaks FROM reconciliations WHERE breaks <> '[]'").fetchall()
        assert found == []

    run_world(script, tmp_path / "state", busy())


@pytest.mark.parametrize("seconds", [HOUR_S, -HOUR_S, 30 * HOUR_S])
def test_what_filled_while_nobody_was_there_is_read_although_the_clock_was_wrong_before(
    tmp_path: Path, seconds: float
) -> None:
    """Where venue and journal last agreed is a moment of the venue's time, and not of ours."""

    async def script(world: World) -> None:
        await world.trade()
        step(world, seconds)
        await world.sleep(65)  # it reconciles cleanly, by the wrong clock
        step(world, -seconds)
        await world.until(world.is_two_sided_with_position, 90.0)
        there = len(world.venue.truth().fills)
        await world.crash()
        while len(world.venue.truth().fills) == there:
            await world.sleep(0.1)
        await world.restart()
        await world.until(world.is_two_sided_with_position, 60.0)
        assert world.state.facts.breaks == ()
        await world.stop()
        with world.journal() as journal:
            journaled = [fill.trade_id for epoch in (1, 2) for fill in journal.fills(epoch)]
        assert len(journaled) == len(set(journaled))
        assert set(journaled) == {fill.trade_id for fill in world.venue.truth().fills}

    run_world(script, tmp_path / "state", busy())


# --- the venue's time, and ours ---------------------------------------------------------------------------------------

OVERLAP_NS = 60 * NS


@pytest.mark.parametrize("seconds", [0.4, 30.0, -30.0])
def test_history_is_read_from_a_time_of_the_venue_whatever_our_clock_says(tmp_path: Path, seconds: float) -> None:
    async def script(world: World) -> None:
        await world.trade()
        venue_less_mono_ns = world.clock.wall_offset_ns
        step(world, seconds)
        await world.sleep(65)
        asked: list[tuple[int, int]] = []
        real = world.venue.fills

        async def fills(since: Cursor) -> list[Fill]:
            asked.append((world.now_ns + venue_less_mono_ns, since.venue_ts_ns))
            return await real(since)

        world.venue.fills = fills
        await world.sleep(100)
        moved = [(at_ns, after) for (at_ns, before), (_, after) in pairwise(asked) if after != before]
        assert len(moved) >= 2
        for at_ns, since_ns in moved:
            # The round that moved it had begun by the read before; and it is moved, not left where it was.
            assert at_ns - 3 * NS <= since_ns + OVERLAP_NS <= at_ns

    run_world(script, tmp_path / "state", busy())


@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_is_ahead_takes_nothing_from_the_overlap(tmp_path: Path, restarts: bool) -> None:
    """A fill that nobody streams, and that history shows only 50 s later: within the overlap, so no break comes of it,
    in this run or in the next."""

    async def script(world: World) -> None:
        await world.trade()
        begun_ns = world.clock.wall_ns()
        world.venue.hidden_ts_ns = (begun_ns, begun_ns + NS)
        world.venue.disconnect(1.5, ("private",))
        world.venue.manual_trade(Side.BUY, 40)
        await world.sleep(2)
        step(world, 30.0)
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 5)
        await world.sleep(45)
        assert not world.state.facts.breaks
        assert world.state.position.position_lots != world.venue.position_lots()
        if restarts:
            await world.crash()
        world.venue.hidden_ts_ns = (0, 0)
        if restarts:
            await world.restart()
        await world.until(lambda: world.state.position.position_lots == world.venue.position_lots(), 8)
        step(world, -30.0)
        await world.until(world.is_two_sided_with_position, 90.0)
        with world.journal() as journal:
            assert [row.name for row in journal.breaks() if row.name.startswith(("position", "equity"))] == []

    run_world(script, tmp_path / "state", busy(venue__reconcile_position_s=5.0, venue__reconcile_orders_s=5.0))


def test_what_came_before_the_account_was_first_read_is_never_booked_on_top(tmp_path: Path) -> None:
    """The run begins, the venue cannot be read for a while, and meanwhile money comes: it is in the opening equity."""

    async def script(world: World) -> None:
        await world.crash()
        world.venue.failing = {"snapshot"}
        beginning = asyncio.create_task(world.begin())
        await world.sleep(3)
        world.venue.transfer(NS)
        await world.sleep(1)
        world.venue.failing = set()
        await beginning
        await world.trade()
        await world.crash()
        await world.restart()
        await world.until(world.is_two_sided_with_position, 60.0)
        with world.journal() as journal:
            assert journal.breaks() == []

    run_world(script, tmp_path / "state", busy())
