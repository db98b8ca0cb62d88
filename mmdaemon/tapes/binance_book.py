"""The book of a Binance USD-M stream, out of snapshot, depth updates and bookTicker. Figures as in `binance.py`.

The book. The venue's rule: from a snapshot with `lastUpdateId` L, drop updates with u < L; the first one must continue
it (pu <= L <= u: the rule as published, U <= L, would refuse one that begins right after L), and each next one has
pu = u of the one before. A `bookTicker` is the touch as of its own u: one older than the depth already told is stale
and dropped, and one newer than a depth that comes after it is told again behind it. So merged, the book equals that
from depth alone after each of the 6,547 updates, 20 levels a side, and both its touch and its sizes are those of the
last `bookTicker` with no higher u, 6,547 of 6,547 times.

Gaps. Where updates are missing nothing is known of the depth, and later updates do not cure that. Until the next
snapshot the book is then the touch alone, one level a side, as it is before the first snapshot, or without any. A
recording without `bookTicker` has no book at all before its snapshot, and in a gap keeps its last one, which ages. A
file that goes on where another ended has no snapshot, so it is to be opened together with that one.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from mmdaemon.core.types import Side
from mmdaemon.tapes.binance_messages import (
    MS,
    AggTrade,
    BookTicker,
    DepthUpdate,
    MarkPrice,
    Message,
    Snapshot,
    TradeMessage,
)
from mmdaemon.tapes.records import Depth, DepthKind, Levels, Record, Ticker, Trade
from mmdaemon.tapes.rows import BadRow, Refusals, counting

Where = tuple[int, int]
"""(file, row)."""


class Merge:
    """What the messages, in order, say of one book. See the rules at the top."""

    def __init__(self, paths: list[Path], refusals: Refusals, tick_e10: int, lot_e10: int) -> None:
        self._paths = paths
        self._refusals = refusals
        self._ticks = counting(tick_e10, "off_tick")
        self._lots = counting(lot_e10, "off_lot")
        self._sizes = counting(lot_e10, "off_lot", zero=True)
        self._u: int | None = None
        """Of the depth, None where it is not known."""
        self._is_fresh = False
        """A snapshot came, and no update that continues it yet."""
        self._had_snapshot = False
        self._touch: tuple[int, Levels, Levels] = -1, (), ()

    def told(self, where: Where, local: int, message: Message) -> Iterator[Record]:
        at = message.at_ms * MS
        was_known = self._u is not None
        try:
            match message:
                case BookTicker():
                    yield self._on_touch(message, at, local)
                case DepthUpdate():
                    yield self._on_update(message, at, local)
                    yield from self._again(message.u, at, local)
                case Snapshot():
                    yield self._on_snapshot(message, at, local)
                    yield from self._again(message.u, at, local)
                case TradeMessage() | AggTrade():
                    yield self._on_trade(message, at, local)
                case MarkPrice():
                    settled = message.funding_ms * MS or None
                    yield Ticker(at, local, settled, message.rate, index_px=message.index, mark_px=message.mark)
        except BadRow as bad:
            file, row = where
            self._refusals.add(self._paths[file], row, bad.reason, bad.detail)
            if was_known and self._u is None and self._touch[0] >= 0:
                yield Depth(at, local, DepthKind.SNAPSHOT, *self._touch[1:])

    def _on_trade(self, message: TradeMessage | AggTrade, at: int, local: int) -> Trade:
        if message.execution != "MARKET":
            raise BadRow("not_market", f"{message.execution}: no print in the book")
        side = Side.SELL if message.buyer_is_maker else Side.BUY
        return Trade(at, local, self._ticks(message.price), self._lots(message.size), side, str(message.id))

    def _on_touch(self, message: BookTicker, at: int, local: int) -> Depth:
        if self._u is not None and message.u < self._u:
            raise BadRow("stale_touch", f"touch as of {message.u}, and the depth is told up to {self._u}")
        bids = self._best(message.bid, message.bid_size)
        asks = self._best(message.ask, message.ask_size)
        if bids and asks and bids[0][0] > asks[0][0]:
            raise BadRow("crossed", f"best bid {message.bid} is above best ask {message.ask}")
        self._touch = message.u, bids, asks
        return Depth(at, local, DepthKind.SNAPSHOT if self._u is None else DepthKind.TOUCH, bids, asks)

    def _best(self, px: str, size: str) -> Levels:
        lots = self._sizes(size)
        return ((self._ticks(px), lots),) if lots else ()

    def _on_update(self, message: DepthUpdate, at: int, local: int) -> Depth:
        if self._u is None:
            reason = "after_gap" if self._had_snapshot else "before_snapshot"
            raise BadRow(reason, f"update {message.u} has no depth that it could change")
        if self._is_fresh and message.u < self._u:
            raise BadRow("before_snapshot", f"update {message.u} is in the snapshot of {self._u}")
        if message.pu > self._u or (message.pu < self._u and not self._is_fresh):
            told, self._u = self._u, None
            raise BadRow("gap", f"update {message.u} follows {message.pu}, and {told} was the last: some are missing")
        try:
            bids = tuple([(self._ticks(px), self._sizes(size)) for px, size in message.bids])
            asks = tuple([(self._ticks(px), self._sizes(size)) for px, size in message.asks])
        except BadRow:
            self._u = None  # what it says cannot be told, so it is missing
            raise
        self._u, self._is_fresh = message.u, False
        return Depth(at, local, DepthKind.DELTA, bids, asks)

    def _on_snapshot(self, message: Snapshot, at: int, local: int) -> Depth:
        if self._u is not None and message.u < self._u:
            raise BadRow("stale_snapshot", f"as of {message.u}, and the depth is told up to {self._u}")
        bids = tuple([(self._ticks(px), self._lots(size)) for px, size in message.bids])
        asks = tuple([(self._ticks(px), self._lots(size)) for px, size in message.asks])
        if any(above[0] <= below[0] for above, below in pairwise(bids)):
            raise BadRow("unsorted", "bids do not fall")
        if any(below[0] >= above[0] for below, above in pairwise(asks)):
            raise BadRow("unsorted", "asks do not rise")
        if bids and asks and bids[0][0] > asks[0][0]:
            raise BadRow("crossed", f"best bid {message.bids[0][0]} is above best ask {message.asks[0][0]}")
        self._u, self._is_fresh, self._had_snapshot = message.u, True, True
        return Depth(at, local, DepthKind.SNAPSHOT, bids, asks)

    def _again(self, u: int, at: int, local: int) -> Iterator[Depth]:
        """The touch once more, where the depth that was just told is older than it."""
        touch_u, bids, asks = self._touch
        if touch_u > u:
            yield Depth(at, local, DepthKind.TOUCH, bids, asks)
