"""Every coroutine of the daemon is ended by force, in the middle of trading: it stops hard, and nothing rests."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mmdaemon.core.commands import Cancel
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon.supervisor import EXIT_BUG
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import read_latch
from mmdaemon.journal.state_dir import open_dir
from tests.daemon.build import LATENCY_NS, World, run_world


def coroutines_of_a_daemon() -> tuple[str, ...]:
    """The names in the table itself, so that a part added to it is ended here too."""

    async def script(world: World) -> tuple[str, ...]:
        return tuple(world.parts.coroutines)

    with TemporaryDirectory() as folder:
        return run_world(script, Path(folder))


NAMES = coroutines_of_a_daemon()
WITH_A_CORE = tuple(name for name in NAMES if name != "quoting")
"""All but the quoting controller, without which there is nobody to see it."""


class Broken(Exception):
    """What a defect of ours would raise."""


def end_by_cancel(world: World, name: str) -> None:
    world.daemon.tasks[name].cancel()


def end_by_raise(world: World, name: str) -> None:
    """The part's next breath raises: what it waits for is answered with an error."""
    task = world.daemon.tasks[name]
    waited_for = task._fut_waiter  # type: ignore[attr-defined] # what the task awaits now
    assert waited_for is not None
    if hasattr(waited_for, "set_exception"):
        try:
            waited_for.set_exception(Broken(name))
        except RuntimeError:  # it waits for a task of its own: that one breaks
            waited_for._fut_waiter.set_exception(Broken(name))


ENDS: tuple[Callable[[World, str], None], ...] = (end_by_cancel, end_by_raise)


def test_the_table_names_the_coroutines_of_the_design() -> None:
    assert set(NAMES) >= {
        "journal",
        "quoting",
        "sender",
        "kill_switch",
        "guard",
        "reconcile",
        "cost",
        "regime",
        "timers",
    }


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", WITH_A_CORE)
def test_ended_part_stops_hard_with_nothing_resting(name: str, end: Callable[[World, str], None], path: Path) -> None:
    async def script(world: World) -> int:
        await world.trade(60)
        world.venue.sent.clear()
        ended_ns = world.now_ns
        end(world, name)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=0.01, every_s=0.001)
        assert "task_died" in world.parts.status().reasons
        assert world.daemon.gate.closed_because

        await world.until(lambda: world.kill is KillState.QUIET, within_s=2)
        assert world.venue.resting() == []
        await world.until(lambda: world.kill is KillState.KILLED, within_s=5)
        await world.sleep(20)
        assert world.venue.resting() == []
        assert world.venue.increasing_since(ended_ns) == []
        # What had left before the gate closed may still arrive, one way later and no later.
        assert world.venue.arrivals_since(ended_ns + LATENCY_NS + 1) == []
        assert world.venue.cancel_alls
        assert world.guard is GuardState.HARD_STOP
        return await world.stop()

    assert run_world(script, path) == EXIT_BUG
    assert read_latch_of(path), "a part that died must leave the latch behind"
    with JournalReader(path / "journal.sqlite") as journal:
        run = journal.run()
    assert run is not None
    if name == "journal":
        assert run.clean_stop is None  # nothing could be written any more, not even that


@pytest.mark.parametrize("end", ENDS)
def test_without_the_quoting_controller_it_cancels_everything_and_ends(
    end: Callable[[World, str], None], path: Path
) -> None:
    async def script(world: World) -> int:
        await world.trade(60)
        held = world.venue.position_lots()
        ended_ns = world.now_ns
        end(world, "quoting")
        await world.sleep(0.001)
        assert world.daemon.gate.closed_because
        await world.until(lambda: world.kill is KillState.QUIET, within_s=2)
        assert world.venue.resting() == []
        assert world.running is not None
        code = await world.running  # nobody asked it to end
        world.running = None
        world.state_dir.release()
        assert world.kill in (KillState.VERIFIED, KillState.KILLED)
        assert world.now_ns - ended_ns >= world.daemon.params.in_flight_max_ns
        await world.sleep(20)
        assert world.venue.resting() == []
        assert world.venue.increasing_since(ended_ns) == []
        assert held != 0
        return code

    assert run_world(script, path) == EXIT_BUG
    assert read_latch_of(path)


def test_a_dead_kill_switch_is_begun_again_and_acts(path: Path) -> None:
    """Also in the middle of its work: what it had begun is finished by the next one."""

    async def script(world: World) -> None:
        await world.trade(60)
        world.venue.disconnect(2.0, ("rest",))
        world.parts.kill_switch.trip("operator")
        await world.sleep(0.5)
        assert world.kill is KillState.KILLING
        world.daemon.tasks["kill_switch"].cancel()
        await world.until(lambda: world.kill is KillState.KILLED, within_s=20)
        assert world.venue.resting() == []

    run_world(script, path)


@pytest.mark.parametrize("state", [KillState.QUIET, KillState.VERIFIED])
def test_a_kill_switch_that_dies_after_quiet_reads_everything_again(state: KillState, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(20)
        world.parts.kill_switch.trip("operator")
        await world.until(lambda: world.kill is KillState.QUIET, within_s=5, every_s=0.001)
        world.parts.kill_switch.kill_state = state
        world.daemon.tasks["kill_switch"].cancel()
        await world.sleep(0.01)
        assert world.kill is KillState.KILLING
        begun_ns = world.now_ns
        await world.until(lambda: world.kill is KillState.KILLED, within_s=20)
        assert world.now_ns - begun_ns >= world.daemon.params.in_flight_max_ns

    run_world(script, path)


def test_without_a_journal_no_order_goes_out_and_cancels_do(path: Path) -> None:
    """The commit fails while orders wait for it: they are refused, and what rests is cancelled."""

    async def script(world: World) -> None:
        await world.trade(60)
        resting = world.venue.resting()
        assert resting
        failed_ns = world.now_ns
        world.connection.fails = True
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=5)
        await world.until(lambda: world.kill is KillState.KILLED, within_s=5)
        assert world.venue.resting() == []
        assert "journal_failed" in world.parts.status().reasons
        assert world.venue.increasing_since(failed_ns) == []
        journaled = world.connection.intents
        for each in world.venue.sent:
            if not isinstance(each.command, Cancel):
                revision = getattr(each.command, "revision", 0)
                assert (each.command.client_id, revision) in journaled

    run_world(script, path)


def test_an_error_in_a_callback_stops_hard_too(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(20)

        def broken() -> None:
            raise Broken("a timer of the venue")

        world.clock.call_at(world.now_ns + NS, broken)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=1.01)
        await world.until(lambda: world.kill is KillState.KILLED, within_s=5)
        assert world.venue.resting() == []

    run_world(script, path)


def read_latch_of(path: Path) -> tuple[str, ...]:
    return read_latch(open_dir(path, {})).sources
