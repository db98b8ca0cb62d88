"""A recording as columns: books as they are received, and what was printed. What a run is scored against.

Nothing of the core is in it: a book counts where its best bid is at or below its best ask, and is worth its micro-price
(at the touch) or its mid.
"""

from array import array
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.types import NS, Instrument
from mmdaemon.tapes.playing import Tape

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

OLD_NS = 5 * NS
"""A book that is older says nothing of now."""


class Columns(msgspec.Struct, frozen=True):
    received_ns: Ints
    """UTC at which each book is received: never before the venue's own time, never falling."""
    venue_ns: Ints
    """The venue's UTC of it."""
    micro: Floats
    """Micro-price of the touch, ticks; the price itself where the book is locked."""
    mid: Floats
    print_ns: Ints
    """The venue's UTC of each print."""
    print_lots: Ints
    print_ticks: Ints
    start_ns: int
    end_ns: int

    def later(self, at_ns: Ints, prices: Floats, times_ns: Ints, old_ns: int = OLD_NS) -> Floats:
        """The last price known at each moment by the clock of `times_ns`; NaN where there is none, or it is old."""
        if not len(times_ns):
            return np.full(len(at_ns), np.nan)
        found = np.searchsorted(times_ns, at_ns, side="right") - 1
        place = np.maximum(found, 0)
        return np.where((found >= 0) & (at_ns - times_ns[place] <= old_ns), prices[place], np.nan)

    def printed_e10(self, from_ns: int, to_ns: int, instrument: Instrument) -> int:
        """Value of all that was printed."""
        inside = (self.print_ns >= from_ns) & (self.print_ns < to_ns)
        return int((self.print_ticks[inside] * self.print_lots[inside]).sum()) * instrument.unit_e10

    def fresh_ns(self, old_ns: int) -> list[tuple[int, int]]:
        """When the last book received was at most so old, as spans of UTC."""
        if not len(self.received_ns):
            return []
        times = np.append(self.received_ns, self.end_ns)
        gaps = np.flatnonzero(np.diff(times) > old_ns)
        spans: list[tuple[int, int]] = []
        begin = int(times[0])
        for place in gaps:
            spans.append((begin, int(times[place]) + old_ns))
            begin = int(times[place + 1])
        if begin < self.end_ns:
            spans.append((begin, self.end_ns))
        return spans


def read(tape: Tape, hours: float = 0.0) -> Columns:
    """Play it once, to its end or for so many hours.

    Raises:
        TapeError: as `Tape.events`.
    """
    received, venue, prints, lots, ticks = array("q"), array("q"), array("q"), array("q"), array("q")
    micro, mid = array("d"), array("d")
    start_ns = tape.start_ts_ns
    until_ns = start_ns + round(hours * 3600 * NS) if hours else None
    last_ns = latest_ns = start_ns
    for event in tape.events():
        at_ns = event.ts_ns if event.venue_ts_ns is None else event.venue_ts_ns
        if until_ns is not None and at_ns > until_ns:
            latest_ns = until_ns
            break
        latest_ns = max(latest_ns, at_ns)
        if isinstance(event, BookUpdate):
            (bid, bid_lots), (ask, ask_lots) = event.bids[0], event.asks[0]
            last_ns = max(last_ns, event.ts_ns, at_ns)
            if bid > ask:
                continue
            received.append(last_ns)
            venue.append(at_ns)
            micro.append(bid + (ask - bid) * bid_lots / (bid_lots + ask_lots))
            mid.append((bid + ask) / 2)
        elif isinstance(event, TradePrint):
            prints.append(at_ns)
            lots.append(event.qty_lots)
            ticks.append(event.px_ticks)
    return Columns(
        np.array(received, dtype=np.int64),
        np.array(venue, dtype=np.int64),
        np.array(micro, dtype=np.float64),
        np.array(mid, dtype=np.float64),
        np.array(prints, dtype=np.int64),
        np.array(lots, dtype=np.int64),
        np.array(ticks, dtype=np.int64),
        start_ns,
        latest_ns,
    )


def save(columns: Columns, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, **msgspec.structs.asdict(columns))


def load(path: Path) -> Columns:
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in Columns.__struct_fields__}
    arrays["start_ns"], arrays["end_ns"] = int(arrays["start_ns"]), int(arrays["end_ns"])
    return Columns(**arrays)
