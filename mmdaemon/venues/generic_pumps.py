"""Loops around ccxt's `watch_...`: each result is handed over in the turn in which it comes, and no error ends them.

ccxt does not say when a private subscription holds. A link of it counts as up when nothing of it failed for a second
while its loops waited; a public one, with the first good book. What was missed is read, each time one comes up.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS, Link
from mmdaemon.venues.ccxt_client import UNREADABLE, CcxtClient

SILENT_MAX_NS: Final = 5 * NS
"""Without a book for so long the public socket is begun anew."""
_SETTLED_NS: Final = NS
_PAUSE_MIN_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0
_LOOK_S: Final = 0.2


class Pumps:
    def __init__(self, client: CcxtClient, clock: Clock, changed: Callable[[Link, bool], None]) -> None:
        self._client, self._clock, self._changed = client, clock, changed
        self._loops: list[tuple[Link, Callable[[], Awaitable[Any]], Callable[[Any], None], Callable[[], None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._up = dict.fromkeys(Link, False)
        self._waiting_since_ns = dict.fromkeys(Link, 0)
        self._good_ns = 0
        self.why = dict.fromkeys(Link, "not connected yet")
        client.hear(public=_nothing, private=_nothing, on_connection=self._connecting)

    def add(
        self,
        link: Link,
        watch: Callable[[], Awaitable[Any]],
        told: Callable[[Any], None],
        again: Callable[[], None] = lambda: None,
    ) -> None:
        """`told` takes what came, at once; `again` is called before it is watched again after an error."""
        self._loops.append((link, watch, told, again))

    def start(self, beside: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
        create = asyncio.get_running_loop().create_task
        now = self._clock.mono_ns()
        self._good_ns = now
        self._waiting_since_ns = dict.fromkeys(Link, now)
        for number, loop in enumerate(self._loops):
            self._tasks.append(create(self._pump(*loop), name=f"venue.pump.{number}"))
        self._tasks += [create(each(), name="venue.beside") for each in beside]
        self._tasks.append(create(self._look(), name="venue.links"))
        for task in self._tasks:
            task.add_done_callback(_ended)

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def good(self, link: Link) -> None:
        self._good_ns = self._clock.mono_ns()
        self._set(link, "")

    def lost(self, link: Link, why: str) -> None:
        """What came cannot be believed: the link is down, and begun anew."""
        self._set(link, why)
        asyncio.get_running_loop().call_soon(lambda: self._client.drop(private=link is Link.PRIVATE, why=why))

    def _connecting(self, private: bool) -> None:
        self._set(Link.PRIVATE if private else Link.PUBLIC, "connecting")

    def _set(self, link: Link, why: str) -> None:
        self.why[link] = why
        if why:
            self._waiting_since_ns[link] = self._clock.mono_ns()
        if self._up[link] == bool(why):
            self._up[link] = not why
            self._changed(link, not why)

    async def _pump(
        self,
        link: Link,
        watch: Callable[[], Awaitable[Any]],
        told: Callable[[Any], None],
        again: Callable[[], None],
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        pause_s = _PAUSE_MIN_S
        while True:
            try:
                told(await watch())
            except asyncio.CancelledError:
                if task.cancelling():
                    raise
                why = "closed"
            except self._client.network_errors as error:
                why = type(error).__name__
            except UNREADABLE as error:
                why = f"unreadable: {type(error).__name__}"
            else:
                pause_s = _PAUSE_MIN_S
                continue
            self._set(link, why)
            again()
            # An awaited future that is done never yields: without a pause the process would freeze.
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _PAUSE_MAX_S)

    async def _look(self) -> None:
        has_private = any(link is Link.PRIVATE for link, *_ in self._loops)
        while True:
            await asyncio.sleep(_LOOK_S)
            now = self._clock.mono_ns()
            connected = self._client.silent_ns(private=True)
            is_settled = now - self._waiting_since_ns[Link.PRIVATE] > _SETTLED_NS
            if has_private and connected and is_settled and not self._up[Link.PRIVATE]:
                self._set(Link.PRIVATE, "")
            if now - self._good_ns > SILENT_MAX_NS:
                self._good_ns = now
                self.lost(Link.PUBLIC, "silent")


def _nothing(_data: str | bytes) -> bool:
    return False


def _ended(task: asyncio.Task[None]) -> None:
    """None of them ends by itself: an error of one is a defect, and the loop's owner must hear of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        told = {"message": "a loop of the venue ended", "exception": error}
        asyncio.get_running_loop().call_exception_handler(told)
