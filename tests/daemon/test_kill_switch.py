"""The kill switch with live orders and a position: how fast nothing rests, what counts as proof, what survives a
restart, and what ends it."""

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmdaemon.core.commands import Cancel, Command, Place
from mmdaemon.core.events import AccountSnapshot, Event, KillChanged, MarkPrice, OrderAdopted
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus, Purpose, Side
from mmdaemon.daemon.kill_switch import TRANSITIONS
from mmdaemon.daemon.supervisor import EXIT_BUG
from mmdaemon.daemon.sweep import Progress
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import KillRow
from mmdaemon.journal.recovery import read_latch
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.venues.base import OrderReport, VenueUnavailable
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from tests.daemon.build import CALM, LATENCY_NS, World, busy, next_place, run_world, say_nothing

S = KillState
THEN_CALM: Schedule = ((Stretch.TOXIC, 12.0), (Stretch.CALM, 1e6))
"""So calm that an order which comes late still finds its price outside the touch, and rests."""
WORK = [S.KILLING, S.QUIET, S.VERIFIED, S.KILLED]


def kills(path: Path) -> list[KillRow]:
    with JournalReader(path / "journal.sqlite") as journal:
        return journal.kills()


async def killed(world: World, within_s: float = 20.0) -> None:
    await world.until(lambda: world.kill is S.KILLED, within_s)


def watch_moves(world: World) -> list[KillState]:
    """Every state the kill switch is in from now on, as the core is told of them."""
    seen: list[KillState] = []
    step = world.parts.controller._on_step

    def also(event, result) -> None:
        if isinstance(event, KillChanged):
            seen.append(event.state)
        step(event, result)

    world.parts.controller._on_step = also
    return seen


# --- the work ---------------------------------------------------------------------------------------------------------


def test_kill_with_orders_and_a_position(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        moves = watch_moves(world)
        assert world.venue.resting()
        begun_ns = world.now_ns
        world.parts.kill_switch.trip("enough")
        # At once, before anything else of the loop has run:
        assert world.daemon.gate.closed_because == "kill: enough"
        assert world.kill is S.KILLING

        await world.until(lambda: world.kill is S.QUIET, 1, every_s=0.001)
        assert world.venue.resting() == []
        seen = world.parts.kill_switch.progress
        assert seen.reads >= 2
        assert seen.orders_left == 0
        quiet_ns = world.now_ns

        await world.until(lambda: world.kill is not S.QUIET, 10)
        assert world.now_ns - quiet_ns >= world.daemon.params.in_flight_max_ns - NS // 2
        await killed(world)
        assert moves == WORK
        assert world.guard is GuardState.HARD_STOP
        assert world.venue.increasing_since(begun_ns) == []
        assert world.venue.position_lots() == world.state.position.position_lots != 0

    run_world(script, path)
    assert [row.state for row in kills(path)] == WORK
    assert kills(path)[-1].reason == "enough"
    evidence = json.loads(kills(path)[-1].evidence)
    assert evidence["reads"] > 2
    assert evidence["orders_left"] == 0


def test_latch_is_in_the_journal_and_in_both_folders(path: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()

    async def script(world: World) -> None:
        await world.trade()
        world.parts.kill_switch.trip("enough")
        await world.sleep(0.05)  # before even one cancel was answered
        assert "enough" in (path / "KILLED").read_text()
        assert "enough" in (runtime / "KILLED").read_text()
        assert kills(path)[-1].state is S.KILLING

    run_world(script, path, runtime=str(runtime))
    assert len(read_latch(open_dir(path, {"RUNTIME_DIRECTORY": str(runtime)})).sources) == 3


def test_only_moves_of_the_table(path: Path) -> None:
    allowed = {(a.value, b.value) for a, b in TRANSITIONS}

    async def script(world: World) -> list[KillState]:
        seen = [S.ARMED]
        moves = watch_moves(world)
        await world.trade()
        world.parts.kill_switch.trip("one", flatten=True)
        await killed(world)
        assert (await world.parts.operator.resume("mended", "test")).ok
        await world.sleep(5)
        world.venue.inject(FaultKind.READS_FAIL, 3.0)
        world.parts.kill_switch.trip("two")
        await killed(world)
        world.parts.kill_switch.trip("three", flatten=True)
        await killed(world)
        return seen + moves

    seen = run_world(script, path)
    assert {(a.value, b.value) for a, b in pairwise(seen)} <= allowed
    assert seen[-1] is S.KILLED
    assert seen.count(S.KILLED) == 3


def test_the_table_is_the_one_of_the_design() -> None:
    onward = {(S.ARMED, S.KILLING), (S.KILLING, S.QUIET), (S.QUIET, S.VERIFIED), (S.VERIFIED, S.KILLED)}
    anew = {(S.QUIET, S.KILLING), (S.VERIFIED, S.KILLING), (S.KILLED, S.KILLING)}
    assert onward | anew | {(S.KILLED, S.ARMED)} == TRANSITIONS


def test_every_move_that_is_not_in_the_table_is_refused(path: Path) -> None:
    async def script(world: World) -> None:
        switch = world.parts.kill_switch
        for before in S:
            for after in S:
                if (before, after) not in TRANSITIONS:
                    switch.kill_state = before
                    with pytest.raises(RuntimeError, match="cannot go"):
                        switch._move(after, "")
        switch.kill_state = S.ARMED
        with pytest.raises(RuntimeError, match="can be rearmed once it is killed"):
            switch.rearm()

    run_world(script, path, schedule=CALM)


def test_kill_while_killed_reads_the_venue_again(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        operator = world.parts.operator
        first = await operator.kill("one", "test", say_nothing, wait=True)
        assert first.ok
        await killed(world)
        bid = world.state.book.bid_px
        foreign = world.venue.foreign_order(Side.BUY, bid - 500, 3)
        assert foreign in world.venue.resting()
        again = await operator.kill("two", "test", say_nothing)
        assert again.ok
        assert world.venue.resting() == []
        await killed(world)

    run_world(script, path)


def test_the_first_reason_stays_until_a_resume_and_every_trip_counts(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        switch = world.parts.kill_switch
        assert (switch.trips, switch.reason) == (0, "")
        switch.trip("one")
        switch.trip("two")
        assert (switch.trips, switch.reason) == (2, "one")
        await killed(world)
        assert {row.reason for row in kills(path)} == {"one"}
        assert (await world.parts.operator.resume("mended", "test")).ok
        assert switch.reason == ""
        trips = switch.trips
        switch.trip("three")
        assert (switch.trips, switch.reason) == (trips + 1, "three")
        await killed(world)

    run_world(script, path)
    assert [row.reason for row in kills(path)][-4:] == ["three"] * 4


def test_to_flatten_is_asked_for_each_time(path: Path) -> None:
    """A kill that flattened leaves nothing behind that would have the next one sell what it was not asked to."""

    async def script(world: World) -> None:
        await world.trade()
        world.parts.kill_switch.trip("one", flatten=True)
        await killed(world)
        assert world.venue.position_lots() == 0
        assert (await world.parts.operator.resume("mended", "test")).ok
        await world.trade()
        sold = len([e for e in world.venue.sent if isinstance(e.command, Place) and "-k" in e.command.client_id])
        world.parts.kill_switch.trip("two")
        await killed(world)
        assert world.venue.position_lots() != 0
        assert sold == len(
            [e for e in world.venue.sent if isinstance(e.command, Place) and "-k" in e.command.client_id]
        )

    run_world(script, path, busy(quotes__resume_size_fraction=1.0))


# --- proof ------------------------------------------------------------------------------------------------------------


def test_reads_that_fail_prove_nothing(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.inject(FaultKind.READS_FAIL, 10.0)
        begun_ns = world.now_ns
        world.parts.kill_switch.trip("enough")
        while world.now_ns - begun_ns < 10 * NS:
            assert world.kill is S.KILLING
            await world.sleep(0.1)
        assert world.venue.resting() == []  # the cancels went out all the same
        await world.until(lambda: world.kill is S.QUIET, 3)
        assert world.parts.kill_switch.progress.failed_reads > 3
        await killed(world)

    run_world(script, path)


def test_a_read_that_fails_after_quiet_begins_the_wait_anew(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.parts.kill_switch.trip("enough")
        await world.until(lambda: world.kill is S.QUIET, 3, every_s=0.001)
        await world.sleep(1.5)
        world.venue.inject(FaultKind.READS_FAIL, 1.0)
        failed_ns = world.now_ns
        await world.until(lambda: world.kill in (S.VERIFIED, S.KILLED), 20, every_s=0.001)
        assert world.now_ns - failed_ns >= world.daemon.params.in_flight_max_ns

    run_world(script, path)


@pytest.mark.parametrize("link", ["private", None])
def test_an_order_that_lands_after_quiet_is_cancelled_before_verified(link: str | None, path: Path) -> None:
    """Delivered late, and with the private link down besides: then only the reads can find it."""

    async def script(world: World) -> None:
        await world.trade()
        late = await next_place(world, FaultKind.LATE, 1.5)
        if link:
            world.venue.disconnect(60.0, (link,))
        world.parts.kill_switch.trip("enough")
        await world.until(lambda: world.kill is S.QUIET, 3, every_s=0.001)
        assert late not in world.venue.truth().orders
        await world.until(lambda: late in world.venue.truth().orders, 3, every_s=0.001)
        landed_ns = world.now_ns
        assert late in world.venue.resting()
        await world.until(lambda: not world.venue.resting(), 2, every_s=0.001)
        assert world.venue.truth().orders[late].filled_lots == 0
        assert world.kill in (S.QUIET, S.KILLING)
        await world.until(lambda: world.kill in (S.VERIFIED, S.KILLED), 20, every_s=0.001)
        assert world.now_ns - landed_ns >= world.daemon.params.in_flight_max_ns

    run_world(script, path, schedule=THEN_CALM)


@pytest.mark.parametrize("late_s", [8.0, 9.0, 10.0])
def test_what_lands_in_a_long_window_is_gone_in_two_seconds(late_s: float, path: Path) -> None:
    """With the in-flight window of a real venue the reads after QUIET must not become as rare as it is long. The
    quoting controller is the part that died, so that nobody else cancels."""

    async def script(world: World) -> None:
        await world.trade()
        late = await next_place(world, FaultKind.LATE, late_s)
        world.daemon.tasks["quoting"].cancel()
        await world.until(lambda: late in world.venue.truth().orders, 11, every_s=0.001)
        assert world.kill is S.QUIET
        landed_ns = world.now_ns
        assert late in world.venue.resting()
        await world.until(lambda: not world.venue.resting(), 5, every_s=0.001)
        assert world.venue.truth().orders[late].filled_lots == 0
        assert world.now_ns - landed_ns <= 2 * NS
        assert world.running is not None
        assert await world.running == EXIT_BUG
        assert world.now_ns - landed_ns >= world.daemon.params.in_flight_max_ns
        world.running = None
        world.state_dir.release()

    run_world(script, path, busy(venue__in_flight_max_s=15.0), schedule=THEN_CALM)


def test_an_order_whose_answer_was_lost_is_found_by_the_reads(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        lost = await next_place(world, FaultKind.ACK_LOST)
        world.venue.disconnect(30.0, ("private",))
        world.parts.kill_switch.trip("enough")
        await world.until(lambda: world.kill is S.QUIET, 3)
        assert lost in world.venue.truth().orders
        assert world.venue.resting() == []
        await killed(world)

    run_world(script, path)


def test_foreign_orders_are_cancelled_by_a_kill(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        bid, ask = world.state.book.bid_px, world.state.book.ask_px
        world.venue.foreign_order(Side.BUY, bid - 400, 7)
        world.venue.foreign_order(Side.SELL, ask + 400, 7, "by-hand")
        await world.sleep(30)
        assert {"by-hand"} < set(world.venue.resting())  # before the kill they are left alone
        world.parts.kill_switch.trip("enough")
        await world.until(lambda: world.kill is S.QUIET, 3)
        assert world.venue.resting() == []

    run_world(script, path)


def test_a_kill_while_disconnected_ends_after_the_link_is_back(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        resting = world.venue.resting()
        world.venue.disconnect(20.0, ("private", "public", "rest"))
        back_ns = world.now_ns + 20 * NS
        world.parts.kill_switch.trip("enough")
        while world.now_ns < back_ns - NS:
            assert world.kill is S.KILLING
            await world.sleep(0.5)
        assert set(world.venue.resting()) <= set(resting)
        await world.until(lambda: world.kill is S.QUIET, 5)
        assert world.now_ns >= back_ns
        assert world.venue.resting() == []
        await killed(world)

    run_world(script, path)


# --- disk -------------------------------------------------------------------------------------------------------------


async def time_to_nothing_resting(world: World) -> float:
    """Seconds from the trip until the venue's own record is empty."""
    assert world.venue.resting()
    begun_ns = world.now_ns
    cancels = len(world.venue.cancel_alls)
    world.parts.kill_switch.trip("enough")
    await world.until(lambda: not world.venue.resting(), 2, every_s=0.001)
    # By its own lane and at once, whatever the core sends besides.
    assert world.venue.cancel_alls[cancels] == begun_ns
    return (world.now_ns - begun_ns) / NS


@pytest.mark.parametrize("trouble", ["hangs", "fails", "file", "folder hangs"])
def test_disk_trouble_delays_no_cancel(trouble: str, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        if trouble == "file":
            (path / "KILLED").mkdir()
        elif trouble == "folder hangs":

            async def hang(_reason: str) -> None:
                await asyncio.get_running_loop().create_future()

            world.parts.kill_switch._write_latch = hang
        else:
            setattr(world.connection, trouble, True)
        assert await time_to_nothing_resting(world) <= 2 * LATENCY_NS / NS
        await world.until(lambda: world.kill is S.QUIET, 1)
        await killed(world)
        if trouble == "file":
            assert "latch_file_failed" in [name for name, _ in world.said]
        if trouble in ("hangs", "fails"):
            assert (path / "KILLED").is_file()
        world.connection.hangs = False
        await world.crash()

    run_world(script, path)
    assert read_latch(open_dir(path, {})).closed


def test_a_latch_that_fails_as_nobody_foresaw_is_not_passed_over(path: Path) -> None:
    """The cancels went out; but the part ends instead of saying KILLED, and is begun again with the latch."""

    async def script(world: World) -> None:
        await world.trade()
        switch = world.parts.kill_switch
        write_latch = switch._write_latch

        async def break_once(_reason: str) -> None:
            switch._write_latch = write_latch
            raise RuntimeError("nobody foresaw this")

        switch._write_latch = break_once
        moves = watch_moves(world)
        switch.trip("enough")
        await killed(world, 30)
        assert world.venue.resting() == []
        assert moves == [S.KILLING, S.QUIET, S.VERIFIED, S.KILLING, S.QUIET, S.VERIFIED, S.KILLED]
        assert "kill_switch" in world.state.facts.dead_tasks
        assert (path / "KILLED").is_file()

    run_world(script, path)


def test_twenty_kills_in_a_row(path: Path) -> None:
    """Each with live orders, each resumed: nothing rests one way after the trip, and QUIET follows the second read."""

    async def script(world: World) -> tuple[list[float], list[float]]:
        empty: list[float] = []
        quiet: list[float] = []
        for number in range(20):
            await world.until(lambda: world.guard is GuardState.RUNNING and len(world.venue.resting()) >= 2, 30)
            await world.sleep(0.013 * number)  # at no moment in particular
            await world.until(world.venue.resting, 5)
            begun_ns = world.now_ns
            empty.append(await time_to_nothing_resting(world))
            await world.until(lambda: world.kill is S.QUIET, 5, every_s=0.001)
            quiet.append((world.now_ns - begun_ns) / NS)
            await killed(world)
            outcome = await world.parts.operator.resume(f"number {number}", "test")
            assert outcome.ok, outcome.message
        return empty, quiet

    empty, quiet = run_world(script, path, busy(quotes__resume_size_fraction=1.0))
    # Cancels need one latency to arrive; an order that was on its way is cancelled by what the first read saw.
    assert max(empty) <= 0.3
    assert sorted(empty)[10] <= 0.06
    assert max(quiet) <= 0.8


# --- across restarts --------------------------------------------------------------------------------------------------


def test_a_killed_daemon_begins_killed_and_finishes_the_work(path: Path) -> None:
    """The process ends right after the trip, with everything still resting. The next one cancels it and sends
    nothing; the one after that is killed still."""

    async def script(world: World) -> None:
        await world.trade()
        resting = world.venue.resting()
        assert resting
        world.venue.inject(FaultKind.REST_DOWN, 0.5)
        world.parts.kill_switch.trip("enough")
        await world.sleep(0.2)
        await world.crash()
        await world.sleep(1)
        assert world.venue.resting() == resting

        for _ in range(2):
            begun_ns = world.now_ns
            await world.restart()
            assert world.daemon.gate.closed_because
            await world.until(lambda: world.guard is not GuardState.STARTING, 1)
            assert world.guard is GuardState.HARD_STOP
            await world.until(lambda: world.kill is S.QUIET, 3)
            assert world.venue.resting() == []
            await killed(world)
            await world.sleep(10)
            assert world.guard is GuardState.HARD_STOP
            sent = [each.command for each in world.venue.sent if each.mono_ns >= begun_ns]
            assert not [command for command in sent if not isinstance(command, Cancel)]
            await world.stop()

    run_world(script, path)
    assert [row.state for row in kills(path)][-4:] == WORK
    assert "KILLED" in kills(path)[-1].reason  # where the latch was found


def test_a_kill_file_of_another_hand_is_the_latch(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        (path / "KILLED").write_text("by hand")
        await world.restart()
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 3)
        assert world.parts.kill_switch.reason == f"{path / 'KILLED'}: by hand"
        await killed(world)

    run_world(script, path)


def test_a_kill_file_that_comes_while_it_trades_is_named(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        (path / "KILLED").write_text("by hand")
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 3)
        assert world.parts.kill_switch.reason == f"kill file {path / 'KILLED'}"

    run_world(script, path)


@pytest.mark.parametrize("text", [b"", b"\n", b"\xff\xfe\x1b[2J", b"x" * 100_000])
def test_whatever_a_kill_file_says_it_is_the_latch(path: Path, text: bytes) -> None:
    state = open_dir(path, {})
    (path / "KILLED").write_bytes(text)
    (found,) = read_latch(state).sources
    assert found.startswith(str(path / "KILLED"))
    assert found.isprintable()
    assert len(found) < 300 + len(str(path))


# --- resume -----------------------------------------------------------------------------------------------------------


def test_resume_is_refused_until_all_is_well(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        operator = world.parts.operator
        world.parts.kill_switch.trip("enough")
        at_work = await operator.resume("too early", "test")
        assert not at_work.ok
        assert "at work" in at_work.message
        await killed(world)

        for reason in ("", "  "):
            assert not (await operator.resume(reason, "test")).ok
        world.venue.inject(FaultKind.READS_FAIL, 2.0)
        unread = await operator.resume("blind", "test")
        assert not unread.ok
        assert "could not be read" in unread.message
        await world.sleep(3)

        world.venue.snapshot_off_lots = 5
        broken = await operator.resume("with a break", "test")
        assert not broken.ok
        assert "position" in broken.message
        assert world.daemon.gate.closed_because
        assert read_latch(open_dir(path, {})).closed
        assert world.guard is GuardState.HARD_STOP
        world.venue.snapshot_off_lots = 0

        granted = await operator.resume("mended", "test")
        assert granted.ok, granted.message
        assert not world.daemon.gate.closed_because
        await world.until(lambda: world.guard is GuardState.RUNNING, 10)
        await world.until(world.venue.resting, 5)
        assert not read_latch(open_dir(path, {})).closed

    run_world(script, path)
    assert [row.state for row in kills(path)] == [*WORK, S.ARMED]
    assert kills(path)[-1].reason == "resumed"
    with JournalReader(path / "journal.sqlite") as journal:
        rows = journal.operator_actions(1)
    assert [(row.action, row.outcome.split(":")[0], row.who) for row in rows] == [
        *[("resume", "refused", "test")] * 5,
        ("resume", "arming the kill switch again", "test"),
        ("resume", "taken", "test"),
    ]


def test_resume_is_refused_while_a_hard_reason_stands(path: Path) -> None:
    """The day's loss stands until the day is over: nobody resumes into it."""

    async def script(world: World) -> None:
        await world.trade()
        world.venue.manual_trade(Side.BUY, 5_000)  # its fee alone is more than may be lost in a day
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 5)
        assert "daily_loss" in world.parts.status().reasons
        await killed(world)
        refused = await world.parts.operator.resume("I want my money back", "test")
        assert not refused.ok
        assert "daily_loss" in refused.message
        assert world.guard is GuardState.HARD_STOP
        assert world.daemon.gate.closed_because

    run_world(script, path, busy(guard__daily_loss_fraction=0.0001))


def test_resume_begins_at_reduced_size(path: Path) -> None:
    async def script(world: World) -> tuple[int, list[int]]:
        await world.trade()
        assert world.state.decision is not None
        full = max(q.qty_lots for q in world.state.decision.quotes)
        world.parts.kill_switch.trip("enough")
        await killed(world)
        world.venue.sent.clear()
        assert (await world.parts.operator.resume("mended", "test")).ok
        await world.until(lambda: world.guard is GuardState.RUNNING, 10)
        await world.sleep(20)
        return full, [each.command.qty_lots for each in world.venue.sent if isinstance(each.command, Place)]

    full, sizes = run_world(script, path)
    assert sizes
    assert max(sizes) <= full // 10 + 1


def test_a_kill_during_a_resume_wins(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.parts.kill_switch.trip("one")
        await killed(world)
        resuming = asyncio.create_task(world.parts.operator.resume("mended", "test"))
        await world.sleep(0.15)  # it reads the venue
        assert not resuming.done()
        world.parts.kill_switch.trip("two")
        outcome = await resuming
        assert not outcome.ok
        assert world.daemon.gate.closed_because
        assert world.guard is GuardState.HARD_STOP
        await killed(world)
        assert world.guard is GuardState.HARD_STOP

    run_world(script, path)


def test_resume_whose_latch_file_stays_is_no_resume(path: Path) -> None:
    """The file cannot be taken away: the daemon must not believe itself armed while the disk says killed."""

    async def script(world: World) -> None:
        await world.trade()
        world.parts.kill_switch.trip("one")
        await killed(world)
        (path / "KILLED").unlink()
        (path / "KILLED").mkdir()
        outcome = await world.parts.operator.resume("mended", "test")
        assert not outcome.ok
        assert "KILLED" in outcome.message
        assert world.kill is S.KILLED
        assert world.daemon.gate.closed_because
        (path / "KILLED").rmdir()
        assert (await world.parts.operator.resume("mended", "test")).ok

    run_world(script, path)


# --- flatten ----------------------------------------------------------------------------------------------------------


def test_kill_with_flatten_closes_the_position_by_reduce_only_slices(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.until(lambda: abs(world.state.position.position_lots) > 150, 120)
        await world.parts.operator.kill("enough", "test", say_nothing, flatten=True)
        assert world.kill is S.KILLED
        assert world.venue.position_lots() == 0
        await world.sleep(1)
        assert world.state.position.position_lots == 0
        assert world.venue.resting() == []
        limits = world.daemon.params.limits
        mark = world.state.venue.mark_px_ticks
        slices = [e.command for e in world.venue.sent if isinstance(e.command, Place) and "-k" in e.command.client_id]
        assert len(slices) > 1
        for each in slices:
            assert each.reduce_only
            assert each.ioc
            assert each.purpose is Purpose.FLATTEN
            assert world.daemon.params.instrument.notional_e10(each.px_ticks, each.qty_lots) <= limits.max_order_e10
            assert abs(each.px_ticks - mark) <= mark * (limits.collar_bps + 5) / 1e4
        assert {(e.client_id, 0) for e in slices} <= world.connection.intents
        assert not world.state.orders.live

    run_world(script, path)


def test_flatten_waits_while_the_venue_cannot_be_read(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.inject(FaultKind.READS_FAIL, 10.0)
        killing = asyncio.create_task(world.parts.operator.kill("enough", "test", say_nothing, flatten=True))
        await world.sleep(9)
        assert not killing.done()
        assert not [e for e in world.venue.sent if isinstance(e.command, Place) and "-k" in e.command.client_id]
        assert (await killing).ok
        assert world.venue.position_lots() == 0
        assert world.parts.kill_switch.progress.position_lots == 0

    run_world(script, path)


def test_one_read_of_flat_is_not_flat(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        held = world.venue.position_lots()
        world.venue.snapshot_says = [0]
        await world.parts.operator.flatten("going home", "test", say_nothing)
        assert held != 0
        assert world.venue.position_lots() == 0

    run_world(script, path)


def test_flatten_without_a_kill_pauses_and_closes(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        outcome = await world.parts.operator.flatten("going home", "test", say_nothing)
        assert outcome.ok
        assert world.venue.position_lots() == 0
        await world.sleep(5)
        assert world.venue.resting() == []
        assert world.guard is GuardState.SOFT_PAUSE
        assert world.kill is S.ARMED

    run_world(script, path)


class Answering:
    """A venue that answers a flatten with what it is told to, the last of each list ever after. None: no answer."""

    def __init__(
        self,
        world: World,
        lots: Sequence[int | None],
        rests: Sequence[Sequence[str] | None] = ((),),
        mark_ages_ns: Sequence[int] = (0,),
        mark_px: int = 100_000,
    ) -> None:
        self.clock = world.clock
        self.lots, self.rests, self.mark_ages_ns, self.mark_px = list(lots), list(rests), list(mark_ages_ns), mark_px
        self.snapshots = 0
        self.sent: list[Command] = []

    async def open_orders(self) -> list[OrderReport]:
        ids = self._next(self.rests)
        return [OrderReport(name, Side.BUY, 100, 1, 0, OrderStatus.LIVE, False) for name in ids]

    async def snapshot(self) -> AccountSnapshot:
        self.snapshots += 1
        now = (self.clock.mono_ns(), self.clock.wall_ns(), self.clock.wall_ns())
        return AccountSnapshot(*now, self._next(self.lots), 0, 0, 0, 1)

    async def mark(self) -> MarkPrice:
        at_ns = self.clock.mono_ns() - self._next(self.mark_ages_ns)
        return MarkPrice(at_ns, self.clock.wall_ns(), None, self.mark_px)

    async def send(self, command: Command) -> None:
        self.sent.append(command)

    def _next(self, answers: list[Any]) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            raise VenueUnavailable("the test says so")
        return answer


def flattened(path: Path, lots: Sequence[int | None], **answers: Any) -> tuple[Answering, Progress, float]:
    """The venue after a flatten that met these answers, what was seen, and the seconds it took."""

    async def script(world: World) -> tuple[Answering, Progress, float]:
        venue: Any = Answering(world, lots, **answers)
        switch, theirs = world.parts.kill_switch, world.venue
        switch._venue = venue
        begun_ns = world.now_ns
        seen = await switch.flatten()
        took_s = (world.now_ns - begun_ns) / NS
        switch._venue = theirs
        return venue, seen, took_s

    return run_world(script, path, schedule=CALM)


def test_flat_is_read_twice_half_a_second_apart(path: Path) -> None:
    venue, seen, took_s = flattened(path, [0])
    assert (venue.snapshots, venue.sent, took_s) == (2, [], 1.0)
    assert (seen.position_lots, seen.slices, seen.failed_reads) == (0, 0, 0)


@pytest.mark.parametrize("rests", [["theirs"], None], ids=["rests", "no answer"])
def test_flat_is_read_twice_anew_after_something_rested_or_was_not_read(path: Path, rests: list[str] | None) -> None:
    venue, _, took_s = flattened(path, [0], rests=[[], rests, []])
    assert (venue.snapshots, took_s) == (3, 2.0)
    assert venue.sent == [Cancel(name, risk=True) for name in rests or []]


def test_flat_is_read_twice_anew_after_a_position_that_was_not_read(path: Path) -> None:
    venue, seen, took_s = flattened(path, [0, None, None, 0])
    assert (venue.snapshots, seen.failed_reads, took_s) == (5, 2, 2.5)


def test_flat_is_read_twice_anew_after_a_position_was_seen(path: Path) -> None:
    venue, seen, _ = flattened(path, [0, 5, 0])
    assert (venue.snapshots, len(venue.sent), seen.slices, seen.position_lots) == (4, 1, 1, 0)


def test_a_slice_waits_for_a_mark_of_the_last_five_seconds(path: Path) -> None:
    venue, _, _ = flattened(path, [5, 5, 0], mark_ages_ns=[5 * NS + 1, 5 * NS])
    assert (venue.snapshots, len(venue.sent)) == (4, 1)


@pytest.mark.parametrize(
    ("lots", "mark_px", "side", "px", "qty"),
    [
        (5, 100_000, Side.SELL, 99_000, 5),  # a collar of 1 % from mark, on the side it gives way to
        (-5, 100_000, Side.BUY, 101_000, 5),
        (70, 100_000, Side.SELL, 99_000, 50),  # most that one order may be worth: 50 lots at 99,000 ticks
        (-70, 100_000, Side.BUY, 101_000, 49),
        (-70, 1_000, Side.BUY, 1_010, 60),  # largest quantity that the venue takes
        (70, 10_000_000, Side.SELL, 9_900_000, 2),  # and the least, though it is worth more than allowed
        (1, 100_000, Side.SELL, 99_000, 1),  # never more than is held
        (5, 0, Side.SELL, 1, 5),  # a price is positive
    ],
)
def test_a_slice_is_no_more_than_is_held_than_one_order_may_be_and_than_the_venue_takes(
    path: Path, lots: int, mark_px: int, side: Side, px: int, qty: int
) -> None:
    async def script(world: World) -> None:
        switch = world.parts.kill_switch
        venue: Any = Answering(world, [0])
        theirs, switch._venue = switch._venue, venue
        instrument = msgspec.structs.replace(world.daemon.params.instrument, min_qty_lots=2, max_qty_lots=60)
        worth_e10 = instrument.notional_e10(99_000, 50)
        limits = msgspec.structs.replace(world.daemon.params.limits, collar_bps=100.0, max_order_e10=worth_e10)
        switch._params = msgspec.structs.replace(world.daemon.params, instrument=instrument, limits=limits)
        told: list[Event] = []
        switch._post = told.append
        await switch._send_slice(lots, mark_px)
        await switch._send_slice(lots, mark_px)
        ids = [f"mm{world.daemon.params.bot_tag}-{world.daemon.params.run_epoch}-k{n}" for n in (1, 2)]
        terms = (side, px, qty, Purpose.FLATTEN, 0)
        assert venue.sent == [Place(name, *terms, post_only=False, reduce_only=True, ioc=True) for name in ids]
        assert {(name, 0) for name in ids} <= world.connection.intents
        adopted = (side, px, qty, 0, Purpose.FLATTEN, True, OrderStatus.SENT)
        assert [msgspec.structs.replace(event, mono_ns=0, ts_ns=0) for event in told] == [
            OrderAdopted(0, 0, None, name, *adopted) for name in ids
        ]
        switch._venue = theirs

    run_world(script, path, schedule=CALM)


@pytest.mark.parametrize("flatten_first", [False, True])
def test_flatten_and_kill_at_once_are_one_work_at_the_venue(flatten_first: bool, path: Path) -> None:
    """Two hands at one position would each send a slice, and what the kill read would be no evidence of its own."""

    async def script(world: World) -> None:
        await world.trade(12)
        operator = world.parts.operator
        asked = [operator.kill("enough", "anna", say_nothing, wait=True), operator.flatten("", "ben", say_nothing)]
        if flatten_first:
            asked.reverse()
        first = asyncio.create_task(asked[0])
        await world.sleep(0.8)
        second = asyncio.create_task(asked[1])
        verified_ns = 0
        while not (first.done() and second.done()):
            if world.kill is S.VERIFIED and not verified_ns:
                verified_ns = world.now_ns
                assert world.venue.resting() == []
            await world.sleep(0.01)
        for outcome in (first.result(), second.result()):
            assert (outcome.ok, outcome.exit_code) == (True, 0), outcome.message
        await killed(world)
        assert world.venue.position_lots() == world.state.position.position_lots == 0
        slices = [e for e in world.venue.sent if isinstance(e.command, Place) and e.command.purpose is Purpose.FLATTEN]
        # By one hand: a slice goes out once the one before it was read.
        assert all(after.mono_ns - before.mono_ns >= NS // 2 for before, after in pairwise(slices))
        at_work = [e for e in slices if flatten_first is False or e.mono_ns > verified_ns]
        assert all(e.mono_ns >= verified_ns for e in at_work)

    run_world(script, path, schedule=THEN_CALM)
    evidence = json.loads(kills(path)[-1].evidence)
    assert (evidence["orders_left"], evidence["position_lots"]) == (0, 0)
    assert [row.state for row in kills(path)] == WORK


@pytest.mark.parametrize("failing", [set(), {"fills", "open_orders", "snapshot"}])
def test_a_kill_before_it_ever_ran_comes_before_everything_else(failing: set[str], path: Path) -> None:
    """Orders of the run before rest; the new one is told to stop before it has read anything."""

    async def script(world: World) -> None:
        await world.trade()
        await world.crash()
        assert world.venue.resting()
        begun_ns = world.now_ns
        world.venue.failing = failing
        await world.restart()
        world.parts.kill_switch.trip("enough")
        await world.sleep(1)
        assert world.venue.resting() == []  # cancels need no read
        assert (world.kill is S.KILLING) is bool(failing)
        world.venue.failing = set()
        await killed(world)
        await world.sleep(5)
        assert world.guard is GuardState.HARD_STOP
        assert GuardState.RUNNING not in {moved.after for _, moved in world.daemon.transitions}
        assert world.venue.increasing_since(begun_ns) == []

    run_world(script, path)
