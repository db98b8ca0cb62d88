"""One defect each, built into the client or into what it tells: `soak --wrong` proves with them that it finds them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp

from mmdaemon.core.events import BookUpdate, Event, LinkChanged
from mmdaemon.core.types import Link
from mmdaemon.venues import wire_book
from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_pro import CcxtVenue
from tests.emulated.told import Told


def _wrong_accounting() -> None:
    """As ccxt's own receive loop with aiohttp 3.14.4: what is taken out behind the queue's back stays in its size."""

    async def received(_self: Any, client: Any, on_frame: Callable[[str | bytes], None]) -> None:
        while not client.closed():
            message = await client.connection.receive()
            if message.type is not aiohttp.WSMsgType.TEXT:
                client.handle_message(message)
                return
            on_frame(message.data)
            while client.buffer and client.buffer[0][0].type is aiohttp.WSMsgType.TEXT:
                on_frame(client.buffer.popleft()[0].data)

    setattr(CcxtClient, "_received", received)  # noqa: B010


def _wrong_book_kept() -> None:
    """As ccxt: a snapshot is merged into the book that was there."""

    def on_snapshot(self: Any, bids: Any, asks: Any, *, seq: Any, checksum: Any, ts_ns: int) -> str:
        self._apply(bids, asks, checksum, is_snapshot=False)
        self.is_good = self._is_fresh = True
        self.seq, self.ts_ns = seq, ts_ns
        return ""

    wire_book.WireBook.on_snapshot = on_snapshot
    wire_book.WireBook.lose = lambda self: setattr(self, "is_good", False)


def _wrong_gap_believed() -> None:
    setattr(wire_book.WireBook, "_missing", lambda *_given: "")  # noqa: B010


def _wrong_kept() -> None:
    """Every frame is remembered."""
    kept: list[str] = []
    inner: Callable[..., bool] = CcxtVenue._on_frame

    def on_frame(self: CcxtVenue, link: Link, data: str) -> bool:
        kept.append(data + " ")
        return inner(self, link, data)

    setattr(CcxtVenue, "_on_frame", on_frame)  # noqa: B010


def _wrong_lost() -> None:
    """One in a thousand frames of the book is applied and not told, as a conflating queue would."""
    inner, seen = Told.deliver, [0]

    def deliver(self: Told, event: Event) -> None:
        seen[0] += 1
        if seen[0] % 1_000 or not isinstance(event, BookUpdate):
            inner(self, event)

    Told.deliver = deliver


def _wrong_old_frames() -> None:
    """A book is told once more after the link went, as by a queue that still has it."""
    inner = Told.deliver
    last: list[Event] = []

    def deliver(self: Told, event: Event) -> None:
        inner(self, event)
        match event:
            case BookUpdate():
                last[:] = [event]
            case LinkChanged(link=Link.PUBLIC, up=False):
                for each in last:
                    inner(self, each)
            case _:
                pass

    Told.deliver = deliver


WRONG: Final[Mapping[str, Callable[[], None]]] = {
    "accounting": _wrong_accounting,
    "book kept": _wrong_book_kept,
    "gap believed": _wrong_gap_believed,
    "frames kept": _wrong_kept,
    "frames lost": _wrong_lost,
    "old frames": _wrong_old_frames,
}
