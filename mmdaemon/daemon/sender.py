"""The sender: from what the core decided to the wire, through the journal and the gate.

Cancels go at once, in a lane of their own: they never wait for a disk or behind orders. Orders and amends go out
when the rows of their whole step are durable: intent before send. A cancel for an order that still waits takes it
out of the queue instead, and says so by an event.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import Event, OrderUpdate, RequestFailed
from mmdaemon.core.types import NS, OrderStatus
from mmdaemon.daemon.gate import Gate
from mmdaemon.journal.connection import JournalFailed
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.venues.base import Venue

Orders = tuple[Place | Amend, ...]
LATEST_NS = NS
"""An order that had to wait longer than this for its intent is not sent: its price is of another moment, and whoever
counts how long it can be in flight counts from its decision."""

OnSent = Callable[[Command, int, int], None]
"""(command, when the event came that led to it, now): both mono."""


def _unseen(_command: Command, _seen_ns: int, _now_ns: int) -> None:
    """For a sender that nobody watches."""


class Sender:
    """One coroutine that sends. `submit` is called by the quoting controller and never blocks."""

    def __init__(
        self,
        venue: Venue,
        journal: JournalWriter,
        gate: Gate,
        post: Callable[[Event], None],
        clock: Clock,
        on_sent: OnSent = _unseen,
    ) -> None:
        self._venue = venue
        self._journal = journal
        self._gate = gate
        self._post = post
        self._clock = clock
        self._on_sent = on_sent
        self._cancels: deque[tuple[Cancel, int]] = deque()
        self._orders: deque[tuple[int | None, int, int, Orders]] = deque()
        self._unsent: set[str] = set()
        self._withdrawn: set[str] = set()
        self._has_cancels = asyncio.Event()
        self._has_orders = asyncio.Event()
        self.sent = 0
        self.refused = 0

    def submit(self, commands: tuple[Command, ...], row_number: int | None, event_ns: int | None = None) -> None:
        """Take over the commands of one step, whose intents are the journal's rows up to `row_number` (None: not
        journaled). `event_ns` is when the event came that led to them (mono); without it, now."""
        now_ns = self._clock.mono_ns()
        seen_ns = now_ns if event_ns is None else event_ns
        orders: list[Place | Amend] = []
        for command in commands:
            if isinstance(command, Cancel):
                if command.client_id in self._unsent:
                    self._withdrawn.add(command.client_id)
                else:
                    self._cancels.append((command, seen_ns))
            else:
                orders.append(command)
                if isinstance(command, Place):
                    self._unsent.add(command.client_id)
        if orders:
            self._orders.append((row_number, now_ns, seen_ns, tuple(orders)))
            self._has_orders.set()
        if self._cancels:
            self._has_cancels.set()

    async def run(self) -> None:
        """Both lanes, until cancelled."""
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self._cancel_lane(), name="sender.cancels")
            lanes.create_task(self._order_lane(), name="sender.orders")

    async def _cancel_lane(self) -> None:
        while True:
            while self._cancels:
                await self._send(*self._cancels.popleft())
            self._has_cancels.clear()
            await self._has_cancels.wait()

    async def _order_lane(self) -> None:
        while True:
            while self._orders:
                number, decided_ns, seen_ns, orders = self._orders.popleft()
                because = await self._why_not_durable(number)
                for command in orders:
                    late = self._clock.mono_ns() - decided_ns > LATEST_NS
                    await self._send_order(command, seen_ns, because or ("late" if late else ""))
            self._has_orders.clear()
            await self._has_orders.wait()

    async def _why_not_durable(self, number: int | None) -> str:
        """Wait for the intents. Empty once they are durable, else why they never will be."""
        if number is None:
            return "journal"
        try:
            await self._journal.durable(number)
        except JournalFailed:
            return "journal"
        return ""

    async def _send_order(self, command: Place | Amend, seen_ns: int, because: str) -> None:
        if isinstance(command, Place):
            self._unsent.discard(command.client_id)
            if command.client_id in self._withdrawn:
                self._withdrawn.discard(command.client_id)
                self._answer(command, OrderStatus.CANCELLED, "never_sent")
                return
        if not because and not self._gate.passes(command):
            because = self._gate.closed_because
        if because:
            self.refused += 1
            reason = f"gate:{because}"
            if isinstance(command, Place):
                self._answer(command, OrderStatus.REJECTED, reason)
            else:
                now = (self._clock.mono_ns(), self._clock.wall_ns(), None)
                self._post(RequestFailed(*now, command.client_id, "amend", reason, command.revision))
            return
        await self._send(command, seen_ns)

    async def _send(self, command: Command, seen_ns: int) -> None:
        self.sent += 1
        # Before it is handed over: the answer may be there by the time that this goes on.
        self._on_sent(command, seen_ns, self._clock.mono_ns())
        await self._venue.send(command)

    def _answer(self, command: Place, status: OrderStatus, reason: str) -> None:
        """The order never left, so its cumulative is known: nothing."""
        now = (self._clock.mono_ns(), self._clock.wall_ns(), None)
        self._post(OrderUpdate(*now, command.client_id, status, 0, None, None, None, reason))
