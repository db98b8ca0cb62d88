"""The journal's only writer: rows are handed over in one call, and everything pending goes into one commit.

`put` gives a number at once; `await durable(n)` returns when everything up to that number is committed. Telemetry
(`urgent=False`) rides the next commit, and makes one of its own at latest after TELEMETRY_NS.

A commit that fails is not tried again: nobody knows what is in the file until recovery has read it. The journal is then
failed for good, every waiter and every later `put` gets `JournalFailed`, and nothing is dropped in silence.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.types import NS
from mmdaemon.journal.connection import Connection, JournalFailed
from mmdaemon.journal.statements import Row

BATCH_ROWS = 500
"""Rows in one commit. Larger ones held the interpreter, and cost the loop 20 ms in a flood."""
TELEMETRY_NS = NS


class _Put(msgspec.Struct, frozen=True, gc=False):
    number: int
    due_ns: int
    """mono_ns from which it is waiting: now, or for telemetry when its patience ends."""
    rows: Sequence[Row]


class JournalWriter:
    """`run` is the writer coroutine, one task of the daemon; the rest may be called from anywhere on the loop."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._pending: deque[_Put] = deque()
        self._pending_rows = 0
        self._committing: list[_Put] = []
        self._handed = 0
        self._durable = 0
        self._urgent = 0
        """Number of the last put that asked for a commit of its own."""
        self._error = ""
        self._closing = False
        self._running = False
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()
        self._timer: Timer | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.commits = 0
        self.rows_committed = 0
        self.on_commit: Callable[[int], None] | None = None
        """Told how long each commit took (ns)."""

    @property
    def failed(self) -> bool:
        return bool(self._error)

    @property
    def error(self) -> str:
        """Empty, or what failed first."""
        return self._error

    @property
    def handed(self) -> int:
        """Number of the last put."""
        return self._handed

    @property
    def committed(self) -> int:
        """Everything up to this number is durable."""
        return self._durable

    def put(self, rows: Sequence[Row], *, urgent: bool = True) -> int:
        """Hand over rows that belong together: they are committed in one transaction, and never split.

        Returns the number to wait for. Raises JournalFailed when the journal has failed or is closing.
        """
        if self._error:
            raise JournalFailed(self._error)
        if self._closing:
            raise JournalFailed("the journal is closing; nothing more can be journaled")
        self._handed = number = self._handed + 1
        now_ns = self._clock.mono_ns()
        self._pending.append(_Put(number, now_ns if urgent else now_ns + TELEMETRY_NS, rows))
        self._pending_rows += len(rows)
        if urgent:
            self._urgent = number
            self._wake.set()
        elif self._pending_rows >= BATCH_ROWS:
            self._wake.set()
        else:
            self._arm()
        return number

    async def durable(self, number: int) -> None:
        """Wait until everything up to `number` is committed.

        Raises:
            JournalFailed: it is not, and never will be as far as this process can tell.
            ValueError: no put has had that number yet.
        """
        if number <= self._durable:
            return
        if number > self._handed:
            raise ValueError(f"no rows were handed over under number {number}; the last is {self._handed}")
        if self._error:
            raise JournalFailed(self._error)
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((number, waiter))
        await waiter

    def oldest_pending_ns(self, now_ns: int) -> int:
        """How long the oldest rows have been kept waiting, 0 when none are. Telemetry only counts once it is due."""
        due_ns = [put.due_ns for put in self._committing]
        due_ns += [put.due_ns for put in self._pending]
        return max(0, now_ns - min(due_ns, default=now_ns))

    async def run(self) -> None:
        """Commit until `close`. What ends it earlier fails the journal: a failed commit (JournalFailed), a cancel."""
        if self._running:  # `close` came before this task's first step, and writes what is left
            await self._ended.wait()
            return
        self._running = True
        try:
            while not (self._closing and not self._pending):
                if not self._due():
                    self._arm()
                    self._wake.clear()
                    await self._wake.wait()
                elif self._pending:
                    await self._commit_batch()
        except JournalFailed as failure:
            self._fail(str(failure))
            raise
        finally:
            self._running = False
            if self._pending or self._committing or not self._closing:
                self._fail("the journal's writer was ended before it was closed")
            if self._timer is not None:
                self._timer.cancel()
            self._ended.set()

    async def close(self) -> None:
        """Commit what is pending, end `run`, close the connection. Raises JournalFailed where not all is durable."""
        self._closing = True
        self._wake.set()
        try:
            if self._running:
                await self._ended.wait()
            elif self._pending and not self._error:
                await self.run()
        finally:
            await self._connection.close()
        if self._error:
            raise JournalFailed(self._error)

    def _due(self) -> bool:
        return (
            self._closing
            or self._urgent > self._durable
            or self._pending_rows >= BATCH_ROWS
            or (bool(self._pending) and self._pending[0].due_ns <= self._clock.mono_ns())
        )

    def _arm(self) -> None:
        if self._timer is None and self._pending:
            self._timer = self._clock.call_at(self._pending[0].due_ns, self._telemetry_due)

    def _telemetry_due(self) -> None:
        self._timer = None
        self._wake.set()

    async def _commit_batch(self) -> None:
        batch: list[_Put] = []
        rows: list[Row] = []
        while self._pending and (not rows or len(rows) + len(self._pending[0].rows) <= BATCH_ROWS):
            put = self._pending.popleft()
            batch.append(put)
            rows.extend(put.rows)
        self._committing = batch
        self._pending_rows -= len(rows)
        if rows:
            begun_ns = self._clock.mono_ns()
            await self._connection.commit(rows)
            if self.on_commit is not None:
                self.on_commit(self._clock.mono_ns() - begun_ns)
            self.commits += 1
            self.rows_committed += len(rows)
        self._committing = []
        self._durable = batch[-1].number
        left: list[tuple[int, asyncio.Future[None]]] = []
        for number, waiter in self._waiters:
            if number > self._durable:
                left.append((number, waiter))
            elif not waiter.done():
                waiter.set_result(None)
        self._waiters = left

    def _fail(self, error: str) -> None:
        if self._error:
            return
        self._error = error
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(JournalFailed(error))
        self._waiters = []
