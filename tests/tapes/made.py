"""Recordings made in a test: records as given, and a hypothesis strategy of any that a tape may hold."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from mmdaemon.core.types import E10, Instrument, Side
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Ticker, Trade
from mmdaemon.tapes.rows import Refusals

T0 = 1_767_225_600_000_000_000
MS = 1_000_000
INSTRUMENT = Instrument.of(
    venue="made", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 1000, min_notional_e10=5 * E10
)
FACTS = Facts(instrument=INSTRUMENT, steps_from="given", minimum_from="given", provenance={"made": "in a test"})


class Made:
    """A `Recording` of these records."""

    def __init__(self, records: Sequence[Record], end_known: bool = True, **facts: Any) -> None:
        self.made = list(records)
        self.facts = msgspec.structs.replace(FACTS, **facts)
        self.refusals = Refusals()
        self.is_end_known = end_known

    def _at(self, record: Record) -> int:
        return record.venue_ts_ns - (self.facts.book_lag_ns if isinstance(record, Depth) else 0)

    @property
    def start_ts_ns(self) -> int:
        return self._at(self.made[0])

    @property
    def end_ts_ns(self) -> int | None:
        return self._at(self.made[-1]) if self.is_end_known else None

    def drop(self, reason: str, count: int) -> "Made":
        for row in range(count):
            self.refusals.add(Path("made.csv"), row, reason, "in a test")
        return self

    def records(self) -> Iterator[Record]:
        return iter(self.made)


def depth(ms: int, kind: DepthKind, bids: Levels, asks: Levels, late_ms: int = 5, more: bool = False) -> Depth:
    return Depth(T0 + ms * MS, T0 + (ms + late_ms) * MS, kind, bids, asks, more=more)


def snapshot(ms: int, bids: Levels = ((100, 5), (99, 6)), asks: Levels = ((101, 7), (102, 8)), **rest: Any) -> Depth:
    return depth(ms, DepthKind.SNAPSHOT, bids, asks, **rest)


def delta(ms: int, bids: Levels = (), asks: Levels = (), **rest: Any) -> Depth:
    return depth(ms, DepthKind.DELTA, bids, asks, **rest)


def touch(ms: int, bids: Levels = (), asks: Levels = (), **rest: Any) -> Depth:
    return depth(ms, DepthKind.TOUCH, bids, asks, **rest)


def trade(ms: int, px: int = 101, lots: int = 1, side: Side | None = Side.BUY, late_ms: int = 5) -> Trade:
    return Trade(T0 + ms * MS, T0 + (ms + late_ms) * MS, px, lots, side, f"t{ms}")


PX, LOTS, DECIMALS = st.integers(1, 10**9), st.integers(1, 10**12), st.sampled_from(["", "0.0001", "-1e-05", "9", "é"])


@st.composite
def sides(draw: st.DrawFn, most: int, least: int = 0) -> tuple[Levels, Levels]:
    """Both sides best first, not crossed."""
    prices = sorted(draw(st.lists(PX, min_size=2 * least, max_size=2 * most, unique=True)))
    cut = draw(st.integers(max(least, len(prices) - most), min(most, len(prices) - least)))
    bids = tuple((px, draw(LOTS)) for px in reversed(prices[:cut]))
    return bids, tuple((px, draw(LOTS)) for px in prices[cut:])


@st.composite
def any_record(draw: st.DrawFn, venue_ns: int) -> Record:
    local_ns = venue_ns + draw(st.integers(-(10**9), 10**9))
    match draw(st.sampled_from(["snapshot", "delta", "touch", "trade", "ticker"])):
        case "trade":
            aggressor = draw(st.sampled_from([None, Side.BUY, Side.SELL]))
            return Trade(venue_ns, local_ns, draw(PX), draw(LOTS), aggressor, draw(st.text(max_size=5)))
        case "ticker":
            settles = draw(st.none() | st.integers(1, 2**62))
            return Ticker(venue_ns, local_ns, settles, *draw(st.tuples(*[DECIMALS] * 6)))
        case "delta":
            level = st.tuples(PX, st.integers(0, 10**12))
            bids, asks = draw(st.tuples(*[st.lists(level, max_size=4).map(tuple)] * 2))
            kind = DepthKind.DELTA
        case name:
            kind = DepthKind(name)
            bids, asks = draw(sides(1 if kind is DepthKind.TOUCH else 4))
    return Depth(venue_ns, local_ns, kind, bids, asks, draw(st.booleans()), draw(st.booleans()))


@st.composite
def any_records(draw: st.DrawFn, most: int = 30) -> list[Record]:
    """In the order of time."""
    venue_ns = T0
    records: list[Record] = []
    for step in draw(st.lists(st.integers(0, 5 * 10**9), min_size=1, max_size=most)):
        venue_ns += step
        records.append(draw(any_record(venue_ns)))
    return records
