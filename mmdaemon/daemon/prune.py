"""Old rows out of the journal, right after the copy that has them was verified. `journal/pruning.py` says which.

A small part at a time, by the journal's own writer, with a rest between; reading what is next is for another thread.
Whatever becomes of it is said, and begun again after the next copy; it never stops trading.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.journal.pruning import PRUNED, next_part, oldest_decision_ts_ns
from mmdaemon.journal.writer import JournalWriter

_DAY_NS: Final = 86_400 * NS
_REST_NS: Final = 50_000_000
"""Between two parts: the writer is free for nineteen twentieths of the time."""

P = ParamSpec("P")
T = TypeVar("T")


class Pruner:
    """`prune` after each daily copy; the rest is what `status` and metrics show."""

    def __init__(
        self,
        journal: Path,
        folder: Path,
        writer: JournalWriter,
        keep_days: int,
        clock: Clock,
        log: Callable[[str, Mapping[str, object]], None],
        *,
        in_line: bool,
    ) -> None:
        """`keep_days` 0: everything stays. `in_line` where time is virtual, which knows no threads."""
        self._journal, self.folder, self._writer = journal, folder, writer
        self.keep_days = keep_days
        self._clock = clock
        self._log = log
        self._in_line = in_line
        self.oldest_ts_ns: int | None = None
        """When the oldest decision that is kept was made; None where there is none, or it was not read yet."""
        self.rows = 0
        """Taken out by this process."""
        self.error = ""
        """Why the last time came to nothing, or not to its end; empty where it did not."""

    async def begin(self) -> None:
        """Read how far back the journal reaches. Never raises an error."""
        try:
            self.oldest_ts_ns = await self._apart(oldest_decision_ts_ns, self._journal)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    async def prune(self, copy: str) -> None:
        """All that is too old and in that copy of the folder. Never raises an error."""
        if not self.keep_days:
            return
        before, begun_ns = self.rows, self._clock.mono_ns()
        # In a task of its own, whose end is looked at: not even a defect here is a reason to stop trading.
        task = asyncio.ensure_future(self._prune_all(self.folder / copy))
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # heard, so that nobody complains that it was not
            raise
        error = RuntimeError("it was cancelled") if task.cancelled() else task.exception()
        self.error = ""
        if error is not None:
            self._fail(error)
        if self.rows > before:
            took_s = round((self._clock.mono_ns() - begun_ns) / NS, 1)
            self._log("journal_pruned", {"rows": self.rows - before, "copy": copy, "took_s": took_s})

    async def _prune_all(self, copy: Path) -> None:
        for table in PRUNED:
            await self._prune_table(table, copy)
        self.oldest_ts_ns = await self._apart(oldest_decision_ts_ns, self._journal)

    async def _prune_table(self, table: str, copy: Path) -> None:
        now_ts_ns = self._clock.wall_ns()
        before_ts_ns = now_ts_ns - self.keep_days * _DAY_NS
        while (part := await self._apart(next_part, self._journal, copy, table, before_ts_ns, now_ts_ns)) is not None:
            await self._writer.durable(self._writer.put(part.rows))
            self.rows += part.count
            if table == "decisions":
                self.oldest_ts_ns = part.to_ts_ns
            await sleep_ns(self._clock, _REST_NS)

    async def _apart(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return work(*args, **kwargs) if self._in_line else await asyncio.to_thread(work, *args, **kwargs)

    def _fail(self, error: BaseException) -> None:
        self.error = str(error) or repr(error)
        self._log("prune_failed", {"error": self.error, "what": "old rows stay until after the next daily backup"})
