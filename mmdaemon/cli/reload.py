"""SIGHUP: the configuration is read again, what is safe is applied, and the rest is refused aloud, each key by name.

Nothing that decides what is quoted, risked or sent changes under a running daemon: its parameters are of one run, in
the journal with their hash, and a decision must be explained by them. So only what neither the core nor the venue sees
is applied. A file with an error in it changes nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from loguru import logger

from mmdaemon.cli import Refused
from mmdaemon.ops.logging import LogWriter
from mmdaemon.ops.systemd import ServiceWatch
from mmdaemon.settings import ConfigError, Settings
from mmdaemon.settings.documents import toml_value

APPLIED: Final = frozenset({"log.level"})
"""Settings that take effect at once. All others need a restart."""


class Reload:
    """What a SIGHUP does. `ask` is its handler; one at a time, and one that comes meanwhile is done afterwards."""

    def __init__(self, running: Settings, again: Callable[[], Settings] | None, written: LogWriter) -> None:
        """`running` is what the daemon runs with, `again` reads the configuration as it was read at the start."""
        self._running = running.flat()
        self._again = again
        self._written = written
        self._task: asyncio.Task[None] | None = None
        self._once_more = False

    def ask(self, watch: ServiceWatch) -> None:
        """Begin. The loop does not wait for the file."""
        if self._task is not None and not self._task.done():
            self._once_more = True
            return
        self._task = asyncio.get_running_loop().create_task(self._run(watch), name="reload")
        self._task.add_done_callback(_heard)

    async def close(self) -> None:
        """Wait for one that is under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _run(self, watch: ServiceWatch) -> None:
        while True:
            self._once_more = False
            watch.reloading()
            try:
                await self._read()
            finally:
                watch.reloaded()
            if not self._once_more:
                return

    async def _read(self) -> None:
        if self._again is None:
            logger.warning("reload_refused", why="this run was given no file to read again: stop and start it instead")
            return
        try:
            fresh = (await asyncio.to_thread(self._again)).flat()
        except ConfigError as error:
            for problem in error.problems:
                why = "; ".join(filter(None, (problem.reason, problem.nearest)))
                logger.error("reload_refused", setting=problem.path, where=problem.origin, why=why)
            logger.error("reload_failed", why="the configuration has errors; nothing was changed")
            return
        except Refused as refused:
            logger.error("reload_failed", why=f"{refused}; nothing was changed")
            return
        applied = 0
        for path, value in fresh.items():
            before = self._running[path]
            if value == before:
                continue
            if path in APPLIED:
                self._apply(path, str(value))
                self._running[path] = value
                applied += 1
                logger.warning("reload_applied", setting=path, before=toml_value(before), after=toml_value(value))
            else:
                said = {"running": toml_value(before), "file": toml_value(value)}
                logger.warning("reload_refused", setting=path, **said, why="needs a restart")
        refused = sum(fresh[path] != value for path, value in self._running.items())
        logger.warning("reloaded", applied=applied, needs_restart=refused)

    def _apply(self, path: str, value: str) -> None:
        if path == "log.level":
            self._written.set_level(value)


def _heard(task: asyncio.Task[None]) -> None:
    """A defect of a reload's is said and goes no further: unheard it would come to the loop's handler when the task is
    collected, who takes it for a part that died and kills."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("reload_failed", why=f"{error!r}; what was not said to be applied was not")
