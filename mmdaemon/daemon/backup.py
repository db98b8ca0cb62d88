"""The daily copy of the journal. Whatever becomes of it is said, and tried again; it never stops trading.

Copying, checking and hashing take minutes where the journal is large, so in real time a process of its own does them
(`mmdaemon backup --daily`): with its own interpreter lock, at low priority, ended with the daemon. The daemon only
waits for it. Whether one is due is read from the folder of copies and the clock (`journal/backup_kept.py`), so restarts
neither lose nor double one.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.prune import Pruner
from mmdaemon.journal.backup import BackupFailed, Kept, Proof, back_up, utc
from mmdaemon.journal.backup_kept import is_due, kept_in, prune

_LOOK_NS: Final = 60 * NS
"""The wall clock may be set, so nobody sleeps until the hour."""
_SETTLED_NS: Final = 60 * NS
"""So long after the hour. Where a trading day begins with it, its opening equity is journaled by then, and a restore
forgets nothing of that day's loss."""
_RETRY_NS: Final = 60 * NS
_RETRY_MOST_NS: Final = 3_600 * NS
LONGEST_S: Final = 3 * 3_600.0
"""A copy that takes longer hangs."""
_SAID_MOST: Final = 2_000
_PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")
"""Of the environment: the child needs no credentials and no address."""

T = TypeVar("T")


class Plan(msgspec.Struct, frozen=True):
    """What the settings say."""

    journal: Path
    folder: Path
    keep_daily: int
    keep_monthly: int


class Taker(Protocol):
    """How a copy is made: by a process of its own, or in line where time is virtual."""

    async def newest_ts_ns(self) -> int:
        """Moment of the newest daily copy, 0 where there is none. Raises OSError."""
        ...

    async def take(self) -> Proof:
        """Raises BackupFailed, OSError."""
        ...


def newest_ts_ns(folder: Path, bot_tag: str) -> int:
    """Of that bot: several may share a folder. A copy that a person asked for is no daily one, and may be gone."""
    ours = (each.proof for each in kept_in(folder) if each.proof.sums.bot_tag == bot_tag)
    return max((proof.moment_ts_ns for proof in ours if proof.why == "daily"), default=0)


def take(plan: Plan, ts_ns: int) -> Kept:
    """A daily copy, and then those away that need not stay. Blocking. Raises BackupFailed, OSError."""
    kept = back_up(plan.journal, plan.folder, "daily", ts_ns)
    prune(plan.folder, kept.proof.sums.bot_tag, plan.keep_daily, plan.keep_monthly)
    return kept


class InLine:
    """For virtual time, which knows no processes and no threads."""

    def __init__(self, plan: Plan, bot_tag: str, clock: Clock) -> None:
        self._plan, self._bot_tag, self._clock = plan, bot_tag, clock

    async def newest_ts_ns(self) -> int:
        return newest_ts_ns(self._plan.folder, self._bot_tag)

    async def take(self) -> Proof:
        return take(self._plan, self._clock.wall_ns()).proof


class Apart:
    """For real time."""

    def __init__(
        self, plan: Plan, bot_tag: str, environ: Mapping[str, str] = os.environ, program: str = sys.executable
    ) -> None:
        self._plan, self._bot_tag, self._program = plan, bot_tag, program
        self._environ = {name: environ[name] for name in _PASSED_ON if name in environ}

    async def newest_ts_ns(self) -> int:
        return await asyncio.to_thread(newest_ts_ns, self._plan.folder, self._bot_tag)

    async def take(self) -> Proof:
        plan = self._plan
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-m", "mmdaemon", "backup", "--daily", "--json"),
            *("--state-dir", str(plan.journal.parent), "--to", str(plan.folder)),
            *("--keep-daily", str(plan.keep_daily), "--keep-monthly", str(plan.keep_monthly)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self._environ,
        )
        try:
            async with asyncio.timeout(LONGEST_S):
                told, wrong = await process.communicate()
        except TimeoutError:
            raise BackupFailed(f"it was not done after {LONGEST_S / 3600:g} h, and was ended") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0:
            said = wrong.decode("utf-8", "replace").strip()[-_SAID_MOST:]
            raise BackupFailed(said or f"its process ended with {process.returncode} and said nothing")
        try:
            return msgspec.json.decode(told, type=Proof)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BackupFailed(f"its process said what nobody understands: {error}") from error


class Backups:
    """One coroutine; the rest is what `status` and metrics show."""

    def __init__(
        self,
        taker: Taker | None,
        hour_utc: int,
        clock: Clock,
        opened_ts_ns: int,
        log: Callable[[str, Mapping[str, object]], None],
        pruner: Pruner,
    ) -> None:
        """`opened_ts_ns`: when this account was first met. Before the first hour after that nothing is missing.
        Without a `taker` none are taken, and nothing is pruned."""
        self._taker = taker
        self.pruner = pruner
        self._hour_utc = hour_utc
        self._clock = clock
        self._opened_ts_ns = opened_ts_ns
        self._log = log
        self.newest_ts_ns = 0
        """Moment of the newest daily copy, UTC; 0 where none is known."""
        self.bytes = 0
        """Of the last that this process took."""
        self.error = ""
        """Why the last try came to nothing; empty where it did not."""
        self.failures = 0
        """Tries in a row that came to nothing."""

    @property
    def is_taken(self) -> bool:
        """Whether copies are made at all."""
        return self._taker is not None

    async def run(self) -> None:
        """Until cancelled."""
        await self.pruner.begin()
        taker = self._taker
        if taker is None:
            await asyncio.get_running_loop().create_future()
            return
        while not await self._read_newest(taker):
            await sleep_ns(self._clock, self._pause_ns())
        while True:
            now_ns = self._clock.wall_ns() - _SETTLED_NS
            if not is_due(now_ns, self.newest_ts_ns or self._opened_ts_ns, self._hour_utc):
                await sleep_ns(self._clock, _LOOK_NS)
            elif not await self._try(taker):
                await sleep_ns(self._clock, self._pause_ns())

    def _pause_ns(self) -> int:
        return min(_RETRY_MOST_NS, _RETRY_NS << min(10, max(0, self.failures - 1)))

    async def _read_newest(self, taker: Taker) -> bool:
        done, found = await self._attempt(taker.newest_ts_ns())
        if done and found is not None:
            self.newest_ts_ns, self.error, self.failures = found, "", 0
        return done

    async def _try(self, taker: Taker) -> bool:
        done, proof = await self._attempt(taker.take())
        if not done or proof is None:
            return False
        self.newest_ts_ns, self.bytes, self.error, self.failures = proof.moment_ts_ns, proof.bytes, "", 0
        told = {"file": proof.file, "moment": utc(proof.moment_ts_ns), "bytes": proof.bytes, "took_s": proof.took_s}
        self._log("backup_taken", told)
        await self.pruner.prune(proof.file)
        return True

    async def _attempt(self, work: Awaitable[T]) -> tuple[bool, T | None]:
        """In a task of its own, whose end is looked at and never raised: not even a defect of a backup's is a reason
        to stop trading."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # heard, so that nobody complains that it was not
            raise
        error = RuntimeError("it was cancelled") if task.cancelled() else task.exception()
        if error is None:
            return True, task.result()
        self.failures += 1
        self.error = str(error) if isinstance(error, BackupFailed | OSError) else repr(error)
        again_s = self._pause_ns() / NS
        self._log("backup_failed", {"error": self.error, "failures": self.failures, "again_in_s": again_s})
        return False, None
