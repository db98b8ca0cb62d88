"""Start and end: what a clean stop means, what is not called one, and that nothing is left open."""

from pathlib import Path

import pytest

from mmdaemon.core.commands import Place
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon.supervisor import EXIT_BUG, EXIT_OK
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import Run
from mmdaemon.venues.base import Deliver
from mmdaemon.venues.simulated.faults import FaultKind
from tests.daemon.build import World, next_place, run_world


def last_run(path: Path) -> Run:
    with JournalReader(path / "journal.sqlite") as journal:
        run = journal.run()
    assert run is not None
    return run


def test_a_clean_stop_leaves_nothing_resting(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        assert world.venue.resting()
        asked_ns = world.now_ns
        assert await world.stop("evening") == EXIT_OK
        assert world.venue.resting() == []
        assert world.now_ns - asked_ns < 2 * NS
        assert world.venue.increasing_since(asked_ns) == []
        assert world.connection.closed
        assert all(task.done() for task in world.daemon.tasks.values())

    run_world(script, path)
    run = last_run(path)
    assert run.clean_stop is True
    assert run.end_reason == "evening"
    with JournalReader(path / "journal.sqlite") as journal:
        assert journal.unsettled() == []
        assert journal.transitions(1)[-1].to_state is GuardState.STOPPING
        assert journal.db.execute("SELECT count(*) FROM digests").fetchone() == (1,)
    assert not (path / "KILLED").exists()


def test_a_stop_while_the_minute_turns_is_a_clean_one(path: Path) -> None:
    """The last event may be the timer that wrote the minute and the checkpoint already, under the same number."""

    def minutes() -> list[tuple[int, int]]:
        with JournalReader(path / "journal.sqlite") as journal:
            return journal.db.execute("SELECT seq, ts_ns FROM minutes").fetchall()

    async def script(world: World) -> None:
        await world.until(minutes, 90, every_s=1.0)
        world.venue.inject(FaultKind.PUBLIC_DOWN, 120)  # or the market's events come after it
        _, timer_ns = minutes()[-1]
        turn_ns = (timer_ns // (60 * NS) + 1) * 60 * NS + timer_ns % NS
        await world.sleep((turn_ns - world.clock.wall_ns()) / NS - 0.05)
        assert await world.stop("evening") == EXIT_OK
        assert world.daemon.state.ts_ns == turn_ns

    run_world(script, path)
    assert last_run(path).clean_stop is True


def test_what_waits_for_the_disk_does_not_go_out_after_a_stop(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.connection.slow(400_000_000)
        await world.until(lambda: world.parts.sender._orders or world.parts.sender._unsent, 60, every_s=0.001)
        world.daemon.stop("evening")
        await world.sleep(0.001)
        stopped_ns = world.now_ns
        assert world.daemon.gate.closed_because == "stopping: evening"
        assert await world.stop() == EXIT_OK
        assert world.venue.increasing_since(stopped_ns) == []

    run_world(script, path)


def test_an_order_on_its_way_is_waited_for(path: Path) -> None:
    """Asked to end while an order is late: it lands after the reads were empty, and must not be left there."""

    async def script(world: World) -> None:
        await world.trade()
        late = await next_place(world, FaultKind.LATE, 1.2)
        assert await world.stop() == EXIT_OK
        assert late in world.venue.truth().orders
        assert world.venue.resting() == []
        await world.sleep(5)
        assert world.venue.resting() == []

    run_world(script, path)
    assert last_run(path).clean_stop is True


@pytest.mark.parametrize("links", [("rest",), ("private",), ("private", "public", "rest")])
def test_a_stop_while_disconnected_is_not_called_clean(links: tuple[str, ...], path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.disconnect(60.0, links)
        await world.sleep(0.1)
        asked_ns = world.now_ns
        await world.stop()
        # A read under way may still run into its time-out.
        assert world.now_ns - asked_ns <= world.daemon.params.in_flight_max_ns + 2 * NS

    run_world(script, path)
    assert last_run(path).clean_stop is False


def test_the_run_after_an_unclean_end_knows(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.crash()
        await world.restart()
        await world.trade(1)

    run_world(script, path)
    with JournalReader(path / "journal.sqlite") as journal:
        first, second = journal.runs()
    assert (first.clean_stop, second.after_clean, second.clean_stop) == (None, False, True)


def test_a_failed_journal_is_closed_all_the_same(path: Path) -> None:
    """A connection left open is a thread left running: the process would never end."""

    async def script(world: World) -> None:
        await world.trade()
        world.connection.fails = True
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 5)
        assert await world.stop() == EXIT_BUG
        assert world.connection.closed

    run_world(script, path)


def test_stopping_twice_is_stopping_once(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.daemon.stop("first")
        world.daemon.stop("second")
        assert await world.stop("third") == EXIT_OK

    run_world(script, path)
    assert last_run(path).end_reason == "first"


def test_a_stop_during_a_kill_leaves_the_latch(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.parts.kill_switch.trip("enough")
        await world.stop()
        assert world.venue.resting() == []
        begun_ns = world.now_ns
        await world.restart()
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 3)
        await world.sleep(10)
        assert world.venue.increasing_since(begun_ns) == []

    run_world(script, path)
    assert (path / "KILLED").exists()


def test_a_stop_before_the_first_reconcile(path: Path) -> None:
    async def script(world: World) -> None:
        assert await world.stop("at once") == EXIT_OK
        assert not [each for each in world.venue.sent if isinstance(each.command, Place)]

    run_world(script, path)
    assert last_run(path).clean_stop is True


def test_nothing_is_sent_before_the_first_reconcile(path: Path) -> None:
    async def script(world: World) -> None:
        world.venue.failing = {"open_orders"}
        await world.sleep(30)
        assert world.guard is GuardState.RECONCILING
        assert world.venue.sent == []
        world.venue.failing = set()
        await world.until(lambda: world.guard is GuardState.RUNNING, 10)
        (transition, *_) = world.daemon.transitions
        assert transition[1].after is GuardState.RECONCILING
        with world.journal() as journal:
            (first,) = journal.db.execute("SELECT min(seq) FROM reconciliations").fetchone()
            (order,) = journal.db.execute("SELECT coalesce(min(seq), 1 << 60) FROM intents").fetchone()
        assert order > first

    run_world(script, path)


def test_transitions_are_said_aloud_and_journaled_alike(path: Path) -> None:
    async def script(world: World) -> list[tuple[object, object]]:
        await world.trade()
        world.venue.disconnect(8.0)
        await world.sleep(20)
        await world.stop()
        return [(fields["before"], fields["after"]) for name, fields in world.said if name == "guard"]

    said = run_world(script, path)
    with JournalReader(path / "journal.sqlite") as journal:
        rows = [(row.from_state.value, row.to_state.value) for row in journal.transitions(1)]
    assert said == rows
    assert len(rows) >= 5


@pytest.mark.parametrize("when", ["opening", "opened"])
def test_a_feed_that_breaks_before_the_daemon_runs_stops_it_with_an_empty_venue(when: str, path: Path) -> None:
    """Of a callback that raises between `open` and `run` nobody is told but the loop."""

    async def script(world: World) -> None:
        await world.trade()
        await world.crash()
        assert world.venue.resting()
        real = world.venue.open

        async def broken(deliver: Deliver) -> None:
            def fail() -> None:
                raise ValueError("a message nobody expected")

            if when == "opening":
                world.clock.call_at(world.clock.mono_ns(), fail)
                await world.sleep(0.01)
            await real(deliver)
            if when == "opened":
                world.clock.call_at(world.clock.mono_ns() + 1, fail)
                await world.sleep(0.01)

        world.venue.open = broken
        begun_ns = world.now_ns
        await world.restart()
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 2)
        await world.until(lambda: not world.venue.resting(), 2)
        assert world.venue.increasing_since(begun_ns) == []
        (died,) = [fields for name, fields in world.said if name == "task_died"]
        assert "a message nobody expected" in str(died["error"])
        await world.until(lambda: world.kill is KillState.KILLED, 10)
        assert "task_died" in (await world.parts.operator.resume("go on", "test")).message
        assert await world.stop() == EXIT_BUG
        world.venue.open = real

    run_world(script, path)
