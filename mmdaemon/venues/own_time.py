"""A clock that the venue refuses must not keep a cancel from it.

Every request is signed with the time, and the venue takes none that lies outside its window. With our clock off by that
much nothing gets through: no new order, which is as it should be, but no cancel and no read either, and what rests
would rest on. So what the venue refuses for its time makes us ask for the venue's own, and from then on all but orders
is signed by that. Orders go on with our clock, and go on to be refused: what the daemon judges by it is wrong.
"""

import asyncio
from collections.abc import Callable

from mmdaemon.clock import Clock
from mmdaemon.venues.bitget.api import Answer, Meaning, Refused, Request, Sends, Unanswered, Unsent
from mmdaemon.venues.bitget.endpoints import TIME


async def offset_ns(sends: Sends, clock: Clock) -> int:
    """The venue's clock less ours, to half a round trip. Raises as `Sends.ask`."""
    before_ns, begun_ns = clock.wall_ns(), clock.mono_ns()
    answer = await sends.ask(Request(TIME, {}))
    return answer.venue_ts_ns - before_ns - (clock.mono_ns() - begun_ns) // 2


class OwnTime:
    """See `api.Sends`. Sends what it is given, once. Before it says that one was refused for its time, it has told
    `is_off` by how much the venue's clock is ahead of ours (ns), where the venue says."""

    def __init__(self, sends: Sends, clock: Clock, is_off: Callable[[int], None]) -> None:
        self._sends, self._clock, self._is_off = sends, clock, is_off
        self._asking: asyncio.Task[None] | None = None

    async def ask(self, request: Request) -> Answer:
        try:
            return await self._sends.ask(request)
        except Refused as refused:
            if refused.meaning is Meaning.CLOCK and request.endpoint.lane != "order":
                await self._learn()
            raise

    async def _learn(self) -> None:
        """Once for all who were refused meanwhile."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._asked(), name="venue.time")
        await asyncio.shield(self._asking)

    async def _asked(self) -> None:
        try:
            self._is_off(await offset_ns(self._sends, self._clock))
        except (Refused, Unanswered, Unsent):
            pass  # whoever tries again is refused again, and asks again
        finally:
            self._asking = None
