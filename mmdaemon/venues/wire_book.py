"""Our own order book, from a venue's snapshot and the changes that follow it.

A book is *good* or it is none: what does not prove that nothing is missing makes it none at once, whatever it says, and
only a snapshot makes it good again. The venue numbers its frames: each names the one before it.

    no_book          a change, and there is no book that it could change
    stale            a snapshot older than what is known: one that was under way while the connection was lost
    gap              the frame before this one was not the last we had, or the numbers do not rise
    no_sequence      it has neither numbers nor a checksum, so that nothing proves it
    checksum         ours is not the venue's. Verified wherever a frame has one; 0 is none
    crossed          best bid above best ask. Equal is locked, which the core counts
    duplicate_level  a snapshot that has one price twice
    flood            more levels than any book of the venue has
    (others)         a price or size that is no number, or off its step: `codec.Malformed`

A reason that leaves a good book as it was is `stale` alone.
"""

import zlib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import Final

from mmdaemon.venues.codec import Malformed, Scale

FRAME_LEVELS_MAX: Final = 5_000
SIDE_LEVELS_MAX: Final = 5_000
"""The venue's books have 1,000 levels a side at most."""
CHECKSUM_LEVELS: Final = 25

WireLevel = tuple[str, str]
"""(price, size) as sent; size 0 takes the level out."""
Levels = tuple[tuple[int, int], ...]
"""`(px_ticks, qty_lots)`, best first."""


class _Side:
    """Three lists in step, in rising order of price: one search finds a level, and the top is a slice."""

    __slots__ = ("levels", "prices", "raw")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.prices: list[int] = []
        self.levels: list[tuple[int, int]] = []
        """As they are told, made once a change and not once a look."""
        self.raw: list[WireLevel] = []

    def change(self, levels: Sequence[WireLevel], scale: Scale) -> int:
        """How many of them are of some size. Raises Malformed, having changed some of it."""
        if len(levels) > FRAME_LEVELS_MAX:
            raise Malformed("flood")
        ticks_of, lots_of = scale.ticks_of, scale.lots_of
        prices, told, raw = self.prices, self.levels, self.raw
        resting = 0
        for level in levels:
            px_text, qty_text = level
            px = ticks_of[px_text]
            lots = lots_of[qty_text]
            at = bisect_left(prices, px)
            if at < len(prices) and prices[at] == px:
                if lots:
                    resting += 1
                    told[at] = px, lots
                    raw[at] = level
                else:
                    del prices[at], told[at], raw[at]
            elif lots:
                resting += 1
                prices.insert(at, px)
                told.insert(at, (px, lots))
                raw.insert(at, level)
        if len(prices) > SIDE_LEVELS_MAX:
            raise Malformed("flood")
        return resting


class WireBook:
    """`on_snapshot` and `on_change` return "", or why the frame was refused."""

    def __init__(self, scale: Scale, *, checksum: bool = True) -> None:
        """`checksum`: verify those that are sent. Without, what has no sequence is never a book."""
        self._scale, self._verifies = scale, checksum
        self._bids, self._asks = _Side(), _Side()
        self._is_fresh = False
        """A snapshot came, and no change yet."""
        self.is_good = False
        self.seq: int | None = None
        """Of the last frame; None where the venue does not number them."""
        self.ts_ns = 0
        """The venue's time of the newest frame that was applied, from before a loss too."""

    def lose(self) -> None:
        """There is no book until a snapshot."""
        self.is_good = False
        self._bids.clear()
        self._asks.clear()

    def on_snapshot(
        self, bids: Sequence[WireLevel], asks: Sequence[WireLevel], *, seq: int | None, checksum: int | None, ts_ns: int
    ) -> str:
        if ts_ns < self.ts_ns:
            return "stale"
        self.lose()
        why = "" if seq is not None or self._is_checked(checksum) else "no_sequence"
        why = why or self._apply(bids, asks, checksum, is_snapshot=True)
        if why:
            self.lose()
            return why
        self.is_good = self._is_fresh = True
        self.seq, self.ts_ns = seq, ts_ns
        return ""

    def on_change(
        self,
        bids: Sequence[WireLevel],
        asks: Sequence[WireLevel],
        *,
        pseq: int | None,
        seq: int | None,
        checksum: int | None,
        ts_ns: int,
    ) -> str:
        """`pseq` is the number of the frame before this one."""
        if not self.is_good:
            return "no_book"
        why = self._missing(pseq, seq, checksum) or self._apply(bids, asks, checksum, is_snapshot=False)
        if why:
            self.lose()
            return why
        self._is_fresh = False
        self.seq = seq
        self.ts_ns = max(self.ts_ns, ts_ns)
        return ""

    def top(self, depth: int) -> tuple[Levels, Levels]:
        """(bids, asks) of a good book."""
        return tuple(self._bids.levels[: -depth - 1 : -1]), tuple(self._asks.levels[:depth])

    def _missing(self, pseq: int | None, seq: int | None, checksum: int | None) -> str:
        """The venue's rule: `pseq` is the last `seq`, and `seq` is above it. The first change after a snapshot may
        reach back before that, since the two are made apart: the snapshot's number lies within [pseq, seq]."""
        last = self.seq
        if last is None:
            return "" if seq is None and self._is_checked(checksum) else "no_sequence"
        if seq is None or pseq is None:
            return "no_sequence"
        if pseq == last < seq or (self._is_fresh and 0 < pseq <= last <= seq != pseq):
            return ""
        return "gap"

    def _is_checked(self, checksum: int | None) -> bool:
        return bool(checksum) and self._verifies

    def _apply(
        self, bids: Sequence[WireLevel], asks: Sequence[WireLevel], checksum: int | None, *, is_snapshot: bool
    ) -> str:
        ours, theirs = self._bids, self._asks
        try:
            resting = ours.change(bids, self._scale) + theirs.change(asks, self._scale)
        except Malformed as error:
            return str(error)
        if is_snapshot and resting != len(ours.prices) + len(theirs.prices):
            return "duplicate_level"
        if ours.prices and theirs.prices and ours.prices[-1] > theirs.prices[0]:
            return "crossed"
        if checksum and self._verifies and checksum != self._checksum():
            return "checksum"
        return ""

    def _checksum(self) -> int:
        """The venue's: CRC32, signed, of `bid1:ask1:bid2:ask2:...`, a level being `price:size` in the venue's digits,
        25 a side, and one side alone where the other has ended."""
        bids, asks = self._bids.raw[: -CHECKSUM_LEVELS - 1 : -1], self._asks.raw[:CHECKSUM_LEVELS]
        both = min(len(bids), len(asks))
        in_turn = chain.from_iterable(zip(bids[:both], asks[:both], strict=True))
        texts = chain.from_iterable(chain(in_turn, bids[both:], asks[both:]))
        crc = zlib.crc32(":".join(texts).encode())
        return crc - (1 << 32) if crc >> 31 else crc
