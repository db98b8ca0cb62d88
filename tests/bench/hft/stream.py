"""The one stream that both engines get: what `Tape` tells of a recording, as our venue takes it and as rows for theirs.

Theirs has no snapshot that leaves nothing behind and ignores changes of the touch, so each book is written as the
levels that changed. A level no longer shown because the book moved away from it is not deleted: nobody knows of it.
"""

from collections.abc import Iterator

import msgspec

from mmdaemon.core.events import BookUpdate, MarketEvent, SourceEnded, TradePrint
from mmdaemon.core.types import Instrument
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Trade
from mmdaemon.tapes.rows import Refusals


class Stream:
    """A `MarketSource` and a `Recording`. Any size of order is allowed, so that one lot, which is filled whole, is."""

    def __init__(self, tape: Tape) -> None:
        self.instrument: Instrument = msgspec.structs.replace(tape.instrument, min_qty_lots=1, min_notional_e10=0)
        self.start_ts_ns = tape.start_ts_ns
        self.provenance = tape.provenance
        self.refusals = Refusals()
        self.facts = Facts(
            instrument=self.instrument, steps_from="as the recording", minimum_from="none, for the bench"
        )
        self.told: list[BookUpdate | TradePrint] = []
        ts = 0
        for event in tape.events():
            if isinstance(event, BookUpdate | TradePrint):
                ts = max(ts, event.ts_ns, event.venue_ts_ns or 0)  # as the venue's feed delivers them
                self.told.append(msgspec.structs.replace(event, ts_ns=ts))
        self.end_ts_ns = ts
        last = next(event for event in reversed(self.told) if isinstance(event, BookUpdate))
        self.last_mid_ticks = (last.bids[0][0] + last.asks[0][0]) // 2

    @property
    def refused(self) -> dict[str, int]:
        return {}

    def events(self) -> Iterator[MarketEvent]:
        yield from self.told
        yield SourceEnded(0, self.end_ts_ns, self.told[-1].venue_ts_ns)

    def records(self) -> Iterator[Record]:
        bids, asks = _Side(1), _Side(-1)
        for event in self.told:
            at = event.venue_ts_ns or 0
            if isinstance(event, TradePrint):
                yield Trade(at, event.ts_ns, event.px_ticks, event.qty_lots, event.aggressor)
                continue
            changed = bids.changed(event.bids), asks.changed(event.asks)
            if any(changed):
                yield Depth(at, event.ts_ns, DepthKind.DELTA, *changed)


class _Side:
    """One side of the book as hftbacktest has it: what is shown, and what was when it was last seen."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._known: dict[int, int] = {}
        self._unseen: set[int] = set()
        self._shown: Levels = ()

    def changed(self, levels: Levels) -> Levels:
        """The levels that are gone, then those that are new or of another size."""
        if levels == self._shown:
            return ()
        known, shown, sign = self._known, dict(levels), self._sign
        worst = levels[-1][0]
        left = {px for px, _ in self._shown} - shown.keys()
        gone = [px for px in left | self._unseen if px not in shown and (px - worst) * sign >= 0]
        self._unseen = (self._unseen | left) - shown.keys() - set(gone)
        out = [(px, 0) for px in sorted(gone)]
        for px in gone:
            del known[px]
        out += [level for level in levels if known.get(level[0]) != level[1]]
        known.update(levels)
        self._shown = levels
        return tuple(out)
