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
        self.conflated = 0

    def __len__(self) -> int:
        return len(self._events)

    def post(self, event: Event) -> None:
        events = self._events
        if events and type(event) is BookUpdate and type(events[-1]) is BookUpdate:
            # Nothing happened between the two, so nobody can tell the older one from noise.
            events[-1] = event
            self.conflated += 1
        else:
            events.append(event)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def take(self) -> Event | None:
        """The oldest event, or None."""
        return self._events.popleft() if self._events else None

    async def wait(self) -> None:
        """Until there is an event."""
        if self._events:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    async def settled(self) -> None:
        """Until everything posted so far has been taken in. For those who read `State` right after they posted."""
        while self._events:
            await asyncio.sleep(0)
