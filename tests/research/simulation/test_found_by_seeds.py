"""What seeds found in the daemon, each by the shortest script that shows it."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from mmdaemon.core.types import NS
from mmdaemon.journal.connection import CrashPoint
from mmdaemon.journal.statements import Row, Statement
from tests.daemon.build import World, run_world, say_nothing


def test_a_resume_is_journaled_before_the_kill_switch_is_armed(tmp_path: Path) -> None:
    """Seeds 1014 and 5000 (4 h): the process ended when ARMED was in the file and the operator's action was not."""
    path = tmp_path / "state"

    async def script(world: World) -> None:
        await world.trade(5)
        await world.parts.operator.kill("x", "test", say_nothing, wait=True)
        await world.until(lambda: world.kill.value == "killed")

        def dies(point: CrashPoint, rows: Sequence[Row]) -> None:
            armed = any(statement is Statement.KILL and "armed" in values for statement, values in rows)
            if point is CrashPoint.AFTER_COMMIT and armed:
                world.die()

        world.connection.on_point = dies
        resuming = asyncio.create_task(world.parts.operator.resume("looked", "test"))
        await world.sleep(2)
        resuming.cancel()
        await world.crash()

    run_world(script, path)
    with closing(sqlite3.connect(path / "journal.sqlite")) as db:
        last_kill = db.execute("SELECT state FROM kill ORDER BY rowid DESC LIMIT 1").fetchone()[0]
        resumes = db.execute("SELECT count(*) FROM operator_actions WHERE action = 'resume'").fetchone()[0]
    assert (last_kill, resumes) == ("armed", 1)


def test_the_message_window_goes_on_over_a_restart(tmp_path: Path) -> None:
    """Seed 8 with a second daemon and a crash: 144 orders and amends within 58 s, 140 a minute allowed."""
    path = tmp_path / "state"

    async def script(world: World) -> None:
        await world.trade(20)
        assert world.venue.resting()
        assert world.state.position.position_lots
        await world.sleep(1)
        before = [world.clock.mono_ns() - at_ns for at_ns in world.state.budgets.messages_ns]
        assert len(before) > 10
        await world.crash()
        await world.restart(30)
        after = [world.clock.mono_ns() - at_ns for at_ns in world.state.budgets.messages_ns]
        expected = [age_ns + 30 * NS for age_ns in before if age_ns < 30 * NS]
        assert len(after) >= len(expected) > 0
        assert all(abs(a - b) < NS for a, b in zip(after, expected, strict=False))

    run_world(script, path)
