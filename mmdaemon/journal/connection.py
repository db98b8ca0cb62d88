"""The one seam between the journal and SQLite: open, commit rows, close.

Two implementations run the same statements in the same order and leave the same content behind:
  * `ThreadConnection`, real time: aiosqlite, one thread, by its public calls;
  * `InlineConnection`, virtual time: sqlite3 in line. Completion takes a seeded delay on the virtual clock, half
    before the commit and half after it, so that a crash at any step of the loop finds either side; a hook marks both.

Within one commit rows are grouped by table. Rows of one table keep their order; those of different tables commute (see
schema.sql). A group is one `executemany`, so a ladder of orders is one transaction, one sync and few calls.
"""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import aiosqlite

from mmdaemon.clock import Clock
from mmdaemon.journal.statements import STATEMENTS, TABLE_OF, Row, Statement, Value

BUSY_S = 1.0
"""Readers never block a writer in WAL. What does (a backup's last step, an operator's own shell) may for so long."""


class JournalFailed(Exception):
    """A commit failed, or there is no journal to commit to. What was handed over since is not durable."""


class Durability(StrEnum):
    """What a commit survives.

    POWER: synchronous=FULL, each commit is synced; survives a power cut.
    PROCESS: synchronous=NORMAL, synced at checkpoints; survives the end of the process. A power cut may take the last
    commits, but never leaves a broken file (OFF might, and saves little more).
    """

    POWER = "power"
    PROCESS = "process"


SYNCHRONOUS = {Durability.POWER: "FULL", Durability.PROCESS: "NORMAL"}


class Connection(Protocol):
    """A journal that exists (`recovery.recover` makes it), open for one writer."""

    async def open(self) -> None:
        """Raises JournalFailed: no such file, or not to be written."""
        ...

    async def commit(self, rows: Sequence[Row]) -> None:
        """All rows or none. Raises JournalFailed; whether the rows are in is then unknown until recovery reads them."""
        ...

    async def close(self) -> None: ...


def grouped(rows: Sequence[Row]) -> list[tuple[Statement, list[tuple[Value, ...]]]]:
    """Rows as runs of one statement, table by table in the order of first appearance."""
    tables: dict[str, list[tuple[Statement, list[tuple[Value, ...]]]]] = {}
    for statement, values in rows:
        runs = tables.setdefault(TABLE_OF[statement], [])
        if runs and runs[-1][0] is statement:
            runs[-1][1].append(values)
        else:
            runs.append((statement, [values]))
    return [run for runs in tables.values() for run in runs]


def writable_uri(path: Path) -> str:
    """Open for writing, but never create: a journal that vanished is an error and not an empty one."""
    return f"{path.absolute().as_uri()}?mode=rw"


def pragmas(durability: Durability) -> tuple[str, ...]:
    # Some builds of SQLite overwrite what is deleted; pages that are about to be used again need not be written first.
    return (
        "PRAGMA journal_mode = WAL",
        f"PRAGMA synchronous = {SYNCHRONOUS[durability]}",
        "PRAGMA secure_delete = OFF",
    )


class ThreadConnection:
    """aiosqlite. The loop never waits for the disk; a commit is one hop to the thread a table and one for the sync."""

    def __init__(self, path: Path, durability: Durability) -> None:
        self._path = path
        self._durability = durability
        self._db: aiosqlite.Connection | None = None

    async def open(self) -> None:
        # aiosqlite leaves a thread behind that speaks to a loop perhaps closed when it cannot connect: so look first.
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise JournalFailed(f"{self._path}: there is no such file, or no permission to write it")
        try:
            self._db = await aiosqlite.connect(writable_uri(self._path), uri=True, timeout=BUSY_S)
            for pragma in pragmas(self._durability):
                await self._db.execute_fetchall(pragma)
        except (sqlite3.Error, OSError) as error:
            await self.close()
            raise JournalFailed(f"{self._path}: {error}") from error

    async def commit(self, rows: Sequence[Row]) -> None:
        db = self._db
        if db is None:
            raise JournalFailed(f"{self._path}: not open")
        try:
            for statement, values in grouped(rows):
                await db.executemany(STATEMENTS[statement], values)
            await db.commit()
        except (
            sqlite3.Error,
            OSError,
            OverflowError,
            UnicodeError,
            ValueError,
        ) as error:  # ValueError: aiosqlite, closed
            with contextlib.suppress(sqlite3.Error, ValueError):  # where this fails, the transaction is gone already
                await db.rollback()
            raise JournalFailed(f"{self._path}: {error}") from error

    async def close(self) -> None:
        """What is not committed is rolled back."""
        db, self._db = self._db, None
        if db is not None:
            await db.close()


class CrashPoint(StrEnum):
    """Where a process may end around a commit."""

    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    """The rows are in, and nobody has been told."""


OnCommit = Callable[[CrashPoint, int], None]
"""Called with the commit's ordinal, from 1. What it raises leaves `commit` as it is."""


class InlineConnection:
    """sqlite3 in line, for virtual time: no thread, and a delay that is a pure function of (seed, ordinal)."""

    def __init__(
        self,
        path: Path,
        durability: Durability,
        clock: Clock,
        *,
        seed: int,
        delay_ns: int = 300_000,
        on_commit: OnCommit | None = None,
    ) -> None:
        self._path = path
        self._durability = durability
        self._clock = clock
        self._seed = seed
        self._delay_ns = delay_ns
        self._on_commit = on_commit
        self._ordinal = 0
        self._db: sqlite3.Connection | None = None

    async def open(self) -> None:
        try:
            self._db = sqlite3.connect(writable_uri(self._path), uri=True, timeout=0)
            for pragma in pragmas(self._durability):
                self._db.execute(pragma).fetchall()
        except (sqlite3.Error, OSError) as error:
            self.crash()
            raise JournalFailed(f"{self._path}: {error}") from error

    async def commit(self, rows: Sequence[Row]) -> None:
        self._ordinal += 1
        delay_ns = completion_delay_ns(self._seed, self._ordinal, self._delay_ns)
        await self._sleep(delay_ns // 2)
        self._pass(CrashPoint.BEFORE_COMMIT)
        self._commit(rows)
        self._pass(CrashPoint.AFTER_COMMIT)
        await self._sleep(delay_ns - delay_ns // 2)

    def _commit(self, rows: Sequence[Row]) -> None:
        db = self._db
        if db is None:
            raise JournalFailed(f"{self._path}: not open")
        try:
            with db:
                for statement, values in grouped(rows):
                    db.executemany(STATEMENTS[statement], values)
        except (sqlite3.Error, OSError, OverflowError, UnicodeError) as error:
            raise JournalFailed(f"{self._path}: {error}") from error

    def _pass(self, point: CrashPoint) -> None:
        if self._on_commit is not None:
            self._on_commit(point, self._ordinal)

    async def _sleep(self, delay_ns: int) -> None:
        if delay_ns <= 0:
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._clock.call_at(self._clock.mono_ns() + delay_ns, _wake, woken)
        try:
            await woken
        except asyncio.CancelledError:
            timer.cancel()
            raise

    async def close(self) -> None:
        self.crash()

    def crash(self) -> None:
        """End the connection as the end of the process would: what is not committed is gone."""
        db, self._db = self._db, None
        if db is not None:
            db.close()


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def completion_delay_ns(seed: int, ordinal: int, mean_ns: int) -> int:
    """Uniform in [0.5, 1.5) of the mean, from splitmix64 of (seed, ordinal): taking one commit out shifts no other."""
    z = (seed * 0xD1342543DE82EF95 + ordinal * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return mean_ns // 2 + mean_ns * ((z ^ (z >> 31)) >> 32) // (1 << 32)
