"""What a start makes of the fills that it books again from the journal."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mmdaemon.core.types import GuardState
from tests.daemon.build import World, run_world


def test_fills_booked_again_at_a_start_traded_while_it_quoted(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        assert world.state.guard.fills_not_quoting == 0
        await world.crash()
        await world.restart()
        assert world.state.position.buys > 0
        assert world.state.guard.fills_not_quoting == 0

    run_world(script, path)


def test_fills_of_before_a_resume_do_not_stop_the_next_start(path: Path) -> None:
    """The operator looked at them and resumed; a crash after that must not have them latch again."""

    async def script(world: World) -> None:
        await world.trade()
        peak = world.state.budgets.fills_peak
        assert peak > 1
        world.parts.kill_switch.trip("test")
        await world.until(lambda: world.kill.value == "killed" and world.guard is GuardState.HARD_STOP)
        assert (await world.parts.operator.resume("looked into it", "test")).ok
        assert world.state.budgets.fills_peak < peak
        await world.sleep(0.5)
        now = world.state.budgets.fills_peak
        await world.crash()
        await world.restart()
        assert world.state.budgets.fills_peak <= now

    run_world(script, path)


def test_fills_of_a_position_worked_down_do_not_stop_the_next_start(path: Path) -> None:
    """Whose order it was is in the journal: a crash in the middle of it must not latch what live did not."""

    async def script(world: World) -> None:
        await world.trade()
        assert world.state.budgets.fills_peak > 1
        await world.crash()
        with closing(sqlite3.connect(path / "journal.sqlite")) as db, db:
            db.execute("UPDATE orders SET purpose = 'derisk'")
        await world.restart()
        assert world.state.position.buys + world.state.position.sells > 1
        assert world.state.budgets.fills_peak == 0

    run_world(script, path)
