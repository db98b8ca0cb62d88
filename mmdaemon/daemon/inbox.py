"""The inbox: the one queue into the core. Order of arrival is the order of truth; a book is conflated to its last
state."""

import asyncio
from collections import deque

from mmdaemon.core.events import BookUpdate, Event


class Inbox:
    """Events in order of arrival, for one reader. `post` never blocks and may be called from any callback of the
    loop."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._settling: list[asyncio.Future[None]] = []
        self.conflated = 0

    def __len__(self) -> int:
        return len(self._events)

    def behind_ns(self, now_ns: int) -> int:
        """How long the oldest event has waited; 0 when none does. In a flood the loop may be on time and this not."""
        return max(0, now_ns - self._events[0].mono_ns) if self._events else 0

    def post(self, event: Event) -> None:
        events = self._events
        if events and type(event) is BookUpdate and type(events[-1]) is BookUpdate:
            # Nothing happened between the two, so nobody can tell the older one from noise.
            events[-1] = event
            self.conflated += 1
        else:
            events.append(event)
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def take(self) -> Event | None:
        """The oldest event, or None. The reader deals with it before it awaits anything."""
        if not self._events:
            return None
        event = self._events.popleft()
        if self._settling and not self._events:
            for waiting in self._settling:
                if not waiting.done():
                    waiting.set_result(None)
            self._settling.clear()
        return event

    def arrival(self) -> asyncio.Future[None]:
        """What the one reader awaits: done as soon as there is an event."""
        waiter = asyncio.get_running_loop().create_future()
        if self._events:
            waiter.set_result(None)
        else:
            self._waiter = waiter
        return waiter

    async def settled(self) -> None:
        """Until everything posted so far has been dealt with. For those who read `State` right after they posted."""
        if self._events:
            waiting = asyncio.get_running_loop().create_future()
            self._settling.append(waiting)
            await waiting
