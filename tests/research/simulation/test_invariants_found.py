"""What the invariants found in the daemon, each as small as it could be made."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from mmdaemon.core.types import KillState
from mmdaemon.journal.connection import CrashPoint
from mmdaemon.journal.statements import Row, Statement
from tests.daemon.build import World, run_world, say_nothing


def test_a_latch_is_never_let_go_without_a_journaled_resume(tmp_path: Path) -> None:
    """Crash between the commit of ARMED and that of the operator's row (simulate: seed 225, 0.3 h)."""
    path = tmp_path / "state"

    async def script(world: World) -> None:
        await world.trade()
        await world.parts.operator.kill("looks odd", "test", say_nothing)
        await world.until(lambda: world.kill is KillState.KILLED, 20)
        died = asyncio.Event()

        def look(point: CrashPoint, rows: Sequence[Row]) -> None:
            if point is CrashPoint.AFTER_COMMIT and any(
                statement is Statement.KILL and "armed" in values for statement, values in rows
            ):
                world.die()
                died.set()

        world.connection.on_point = look
        resuming = asyncio.create_task(world.parts.operator.resume("looked into it", "test"))
        await died.wait()
        await world.crash()
        resuming.cancel()
        with suppress(asyncio.CancelledError):
            await resuming
        await world.restart()
        await world.sleep(5)
        with closing(sqlite3.connect(path / "journal.sqlite")) as db:
            (resumes,) = db.execute("SELECT count(*) FROM operator_actions WHERE action = 'resume'").fetchone()
        assert resumes or world.daemon.gate.closed_because

    run_world(script, path)
