"""The venue's two streams: kept subscribed through ccxt, and believed only while there is reason to.

A *pump* holds one subscription: it waits on ccxt's `watch_*`, which never returns, because our tap takes the frames; it
only raises, when the connection is gone, and then watches again, after a pause (an awaited future that is done never
yields: a loop without a pause would freeze the process). ccxt dials, logs in and subscribes.

    public   up with the first good book of a connection; down as it ends, or as the book is lost
    private  up when every channel of it was acknowledged on this connection; down as it ends
    hints    asked for once their link is up, and never a reason for it to be down: a venue that refuses one (an account
             or a key that may not) would leave us without orders and fills for ever. Asked again on each connection

A socket that is silent for too long is ended by us, and so is a private stream that keeps silent about an order that
the venue took. Missed private events are not replayed: the daemon reads them, each time the link comes back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS, Link
from mmdaemon.venues.ccxt_client import CcxtClient

SILENT_MAX_NS: Final = {Link.PUBLIC: 5 * NS, Link.PRIVATE: 25 * NS}
"""A public socket has a book to tell ten times a second; a private one may have nothing but its pongs, every 10 s."""
UP_WITHIN_NS: Final = 10 * NS
"""A connection that is not up so long after it was made misses an acknowledgement or its first book: a new one."""
_BACK_OFF_MIN_S: Final = 0.1
_BACK_OFF_MAX_S: Final = 5.0
_LOOK_S: Final = 0.5


class _Arg(msgspec.Struct):
    channel: str = ""
    topic: str = ""


class _Said(msgspec.Struct):
    """What a venue says of a subscription."""

    event: str = ""
    code: int | str = 0
    arg: _Arg = msgspec.field(default_factory=_Arg)


_said = msgspec.json.Decoder(_Said).decode


class Links:
    """`start` the pumps; `changed(link, up)` is called as a link goes or comes, with the reason in `why`."""

    def __init__(
        self,
        client: CcxtClient,
        clock: Clock,
        pumps: Mapping[str, tuple[Link, Callable[[], Awaitable[Any]]]],
        changed: Callable[[Link, bool], None],
        is_push_overdue: Callable[[], bool],
        hints: Collection[str] = (),
    ) -> None:
        """`pumps`: by the channel's name on the wire; `hints`: those of them that a link can do without."""
        self._client, self._clock, self._pumps, self._changed = client, clock, pumps, changed
        self._is_push_overdue, self._hints = is_push_overdue, hints
        self._wanted = {
            link: {name for name, (at, _) in pumps.items() if at is link and name not in hints} for link in Link
        }
        self._acked: dict[Link, set[str]] = {link: set() for link in Link}
        self._asked: dict[Link, set[str]] = {link: set() for link in Link}
        """Hints, neither acknowledged nor refused yet."""
        self._has_book = False
        self._up = {link: asyncio.Event() for link in Link}
        self._back_off_s = dict.fromkeys(Link, _BACK_OFF_MIN_S)
        self._paused_for = dict.fromkeys(Link, 0)
        """For which connection, by number, it grew last."""
        self._tasks: list[asyncio.Task[None]] = []
        self.why = dict.fromkeys(Link, "not connected yet")
        self.connections = dict.fromkeys(Link, 0)
        self.errors = 0
        """What ccxt raised that is not an error of its own."""

    def start(self) -> None:
        create = asyncio.get_running_loop().create_task
        for name, (link, watch) in self._pumps.items():
            self._tasks.append(create(self._pump(name, link, watch), name=f"venue.pump.{name}"))
        self._tasks.append(create(self._look(), name="venue.links"))

    async def close(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- told by the taps ---------------------------------------------------------------------------------------------

    def connecting(self, link: Link) -> None:
        """A connection is made anew: nothing of the last one holds."""
        self.connections[link] += 1
        self._acked[link].clear()
        self._asked[link].clear()
        self._has_book = self._has_book and link is not Link.PUBLIC
        self._down(link, "connecting")

    def on_event(self, link: Link, data: str | bytes) -> str:
        """A frame that is no push: acknowledgements are noted, and ccxt handles it too. But for the refusal of a hint,
        of which the name is returned: ccxt would give up every subscription of the connection for it."""
        try:
            said = _said(data)
        except (msgspec.MsgspecError, UnicodeError):
            return ""  # a pong, or what ccxt may make of it
        name, asked = said.arg.channel or said.arg.topic, self._asked[link]
        if said.event == "subscribe":
            asked.discard(name)
            self._acked[link].add(name)
            self._consider(link)
        elif said.event == "error":
            if not name and asked and self._up[link].is_set():
                name = min(asked)  # it does not say which, and nothing else is asked for of a link that is up
            if name in self._hints:
                asked.discard(name)
                return name
            # A refused subscription is never asked for again on this connection (ccxt #19041).
            self._client.drop(private=link is Link.PRIVATE, why=f"refused:{said.code}"[:40])
        return ""

    def book_back(self) -> None:
        self._has_book = True
        self._consider(Link.PUBLIC)

    def book_lost(self, why: str) -> None:
        """Quotes must go at once; a new connection brings a new book."""
        self._has_book = False
        self._down(Link.PUBLIC, why)
        asyncio.get_running_loop().call_soon(self._drop_public, why)

    def private_lost(self, why: str) -> None:
        """Something on the private stream could not be read: believe it no more, and begin a new one."""
        self._down(Link.PRIVATE, why)
        asyncio.get_running_loop().call_soon(self._drop_private, why)

    def _drop_private(self, why: str) -> None:
        if not self._up[Link.PRIVATE].is_set():
            self._client.drop(private=True, why=why)

    def _drop_public(self, why: str) -> None:
        if not self._has_book:
            self._client.drop(private=False, why=why)

    # --- what holds ---------------------------------------------------------------------------------------------------

    def _consider(self, link: Link) -> None:
        if self._up[link].is_set() or not self._acked[link] >= self._wanted[link]:
            return
        if link is Link.PUBLIC and not self._has_book:
            return
        self._up[link].set()
        self.why[link] = ""
        self._changed(link, True)

    def _down(self, link: Link, why: str) -> None:
        self.why[link] = why
        if self._up[link].is_set():
            self._up[link].clear()
            self._changed(link, False)

    async def _pump(self, name: str, link: Link, watch: Callable[[], Awaitable[Any]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        while True:
            if name in self._hints:
                await self._up[link].wait()
                self._asked[link].add(name)
            try:
                await watch()
            except asyncio.CancelledError:
                # ccxt cancels its futures as it closes a connection; that is not our end.
                if task.cancelling():
                    raise
                why = "closed"
            except self._client.network_errors as error:
                why = type(error).__name__
            except Exception as error:  # noqa: BLE001 - ccxt may raise anything; the subscription must outlive it
                self.errors += 1
                why = f"{name}: {type(error).__name__}"
            else:
                # Our tap left a frame of it to ccxt. The subscription lives.
                await asyncio.sleep(_LOOK_S)
                continue
            self._acked[link].discard(name)
            if name in self._hints:  # the others say so, if the connection is gone
                await asyncio.sleep(_LOOK_S)
                continue
            self._down(link, why)
            await asyncio.sleep(self._pause_s(link))

    def _pause_s(self, link: Link) -> float:
        """Before it is dialled again. It grows once a connection, however many subscriptions that had."""
        if self._paused_for[link] != self.connections[link]:
            self._paused_for[link] = self.connections[link]
            self._back_off_s[link] = min(self._back_off_s[link] * 1.5, _BACK_OFF_MAX_S)
        return self._back_off_s[link]

    async def _look(self) -> None:
        """What no frame and no error tells of: silence."""
        up_since = dict.fromkeys(Link, 0)
        while True:
            await asyncio.sleep(_LOOK_S)
            now = self._clock.mono_ns()
            for link in Link:
                private = link is Link.PRIVATE
                if self._client.silent_ns(private=private) > SILENT_MAX_NS[link]:
                    self._client.drop(private=private, why="silent")
                elif not self._up[link].is_set() and self._client.connected_for_ns(private=private) > UP_WITHIN_NS:
                    self._client.drop(private=private, why="not subscribed")
                if not self._up[link].is_set():
                    up_since[link] = 0
                elif not up_since[link]:
                    up_since[link] = now
                elif now - up_since[link] > 10 * NS:
                    self._back_off_s[link] = _BACK_OFF_MIN_S
            if self._is_push_overdue():
                self._client.drop(private=True, why="silent about an order")
