"""What stands around a daemon that may end at any moment: its line to a venue that outlives it, and its disk.

Both can be cut, and then nothing of that daemon reaches anything any more, whatever its tasks do while they end.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Command
from mmdaemon.core.events import AccountSnapshot, BarClosed, Bill, Event, FeeSchedule, Fill, FundingRate, MarkPrice
from mmdaemon.core.types import Instrument
from mmdaemon.journal.connection import CrashPoint, Durability, InlineConnection, JournalFailed
from mmdaemon.journal.statements import Row, Statement
from mmdaemon.research.simulation.machine import Machine
from mmdaemon.research.simulation.replica import Replica
from mmdaemon.venues.base import Absent, AccountFacts, Cursor, Deliver, OrderReport, PositionStop
from mmdaemon.venues.simulated.venue import SimulatedVenue


class Line:
    """One daemon's way to the venue: `venues.base.Venue`, until it is cut. With a `machine`, what comes while that is
    held waits for `release`."""

    def __init__(
        self,
        venue: SimulatedVenue,
        on_send: Callable[[Command], None],
        machine: Machine | None = None,
        replica: Replica | None = None,
        reading: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`reading` surrounds each read of the fills, and hears by its end whether it was answered."""
        self._venue = venue
        self._reading = reading
        self._on_send = on_send
        self._machine = machine
        self._replica = replica
        self._deliver: Deliver = to_nobody
        self._waiting: list[Event] = []
        self._is_open = False
        self.is_cut = False

    def release(self) -> None:
        """What came while the machine was held is received now."""
        if self._machine is None:
            return
        waiting, self._waiting = self._waiting, []
        clock = self._machine.clock
        for event in waiting:
            self._deliver(msgspec.structs.replace(event, mono_ns=clock.mono_ns(), ts_ns=clock.wall_ns()))

    def _hear(self, event: Event) -> None:
        if self._machine is not None and self._machine.is_held:
            self._waiting.append(event)
        else:
            self._deliver(event)

    def cut(self) -> None:
        """The end of the process."""
        self.is_cut = True
        self._waiting.clear()
        if self._machine is not None and self in self._machine.lines:
            self._machine.lines.remove(self)
        if self._is_open:
            self._is_open = False
            self._venue.hang_up()

    @property
    def _at(self) -> SimulatedVenue:
        if self.is_cut:
            raise asyncio.CancelledError("the process has ended")
        return self._venue

    @property
    def name(self) -> str:
        return self._venue.name

    @property
    def can_amend(self) -> bool:
        return self._venue.can_amend

    @property
    def in_flight_floor_s(self) -> float:
        return self._venue.in_flight_floor_s

    @property
    def provenance(self) -> dict[str, str]:
        return self._venue.provenance

    async def instrument(self) -> Instrument:
        return await self._at.instrument()

    async def open(self, deliver: Deliver) -> None:
        self._deliver = deliver
        if self._machine is not None:
            self._machine.lines.append(self)
        await self._at.open(self._hear)
        self._is_open = True

    async def close(self) -> None:
        if not self.is_cut:
            self.cut()

    async def send(self, command: Command) -> None:
        venue = self._at
        self._on_send(command)
        await venue.send(command)

    async def cancel_all(self) -> None:
        await self._at.cancel_all()

    async def order(self, client_id: str) -> OrderReport | Absent:
        found = await self._at.order(client_id)
        return found if self._replica is None else self._replica.order(found)

    async def open_orders(self) -> list[OrderReport]:
        found = await self._at.open_orders()
        return found if self._replica is None else self._replica.open_orders(found)

    async def fills(self, since: Cursor) -> list[Fill]:
        with self._reading():
            found = await self._at.fills(since)
        return found if self._replica is None else self._replica.history(found)

    async def bills(self, since: Cursor) -> list[Bill]:
        found = await self._at.bills(since)
        return found if self._replica is None else self._replica.history(found)

    async def snapshot(self) -> AccountSnapshot:
        found = await self._at.snapshot()
        return found if self._replica is None else self._replica.snapshot(found)

    async def facts(self) -> AccountFacts:
        return await self._at.facts()

    async def fees(self) -> FeeSchedule:
        return await self._at.fees()

    async def candles(self, n: int) -> list[BarClosed]:
        return await self._at.candles(n)

    async def funding(self) -> FundingRate:
        return await self._at.funding()

    async def mark(self) -> MarkPrice:
        return await self._at.mark()

    async def protect(self, stop: PositionStop | None) -> None:
        await self._at.protect(stop)

    async def dead_man(self, seconds: int) -> bool:
        return await self._at.dead_man(seconds)


def to_nobody(_event: Event) -> None:
    """While no daemon listens."""


USUAL_NS: Final = 300_000
"""What a commit takes."""


def _nothing() -> None:
    """Until somebody wants to know."""


class Disk(InlineConnection):
    """The journal's connection, on a real file, that may be slow, may fail, and may see the process end at a commit."""

    def __init__(self, path: Path, clock: Clock, seed: int, on_commit: Callable[[], None]) -> None:
        super().__init__(path, Durability.PROCESS, clock, seed=seed, delay_ns=USUAL_NS, on_commit=self._passed)
        self._after_commit = on_commit
        self._rows: Sequence[Row] = ()
        self.fails_until_ns = 0
        self.crash_at: CrashPoint | None = None
        """Where in the next commit the process ends."""
        self.on_crash: Callable[[], None] = _nothing
        self.on_failure: Callable[[], None] = _nothing
        self.intents: set[tuple[str, int]] = set()
        """(client id, revision) of every intent that is in the file."""

    def fail_for(self, duration_ns: int) -> None:
        """Nothing can be opened or written for so long."""
        self.fails_until_ns = self._clock.mono_ns() + duration_ns

    def slow(self, delay_ns: int) -> None:
        """Every commit takes about so long from now on; 0: as usual."""
        self._delay_ns: int = delay_ns or USUAL_NS

    async def open(self) -> None:
        self._check()
        await super().open()

    def _check(self) -> None:
        if self._clock.mono_ns() < self.fails_until_ns:
            self.on_failure()
            raise JournalFailed("disk full (simulated)")

    async def commit(self, rows: Sequence[Row]) -> None:
        self._check()
        self._rows = rows
        await super().commit(rows)

    def _passed(self, point: CrashPoint, _ordinal: int) -> None:
        if point is CrashPoint.AFTER_COMMIT:
            for statement, values in self._rows:
                if statement is Statement.INTENT:
                    self.intents.add((str(values[0]), int(values[1] or 0)))
        if self.crash_at is point:
            self.crash_at = None
            self.on_crash()
        elif point is CrashPoint.AFTER_COMMIT:
            self._after_commit()
