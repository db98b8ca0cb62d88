"""What a recording is worth, measured by playing it once: its length, its gaps, its clocks, how books and trades agree.

Nothing is judged here. A figure that could not be measured is None. Quantiles are of what was recorded, of books and of
trades apart; latency is local minus venue time, as recorded and after the corrections, and so holds both feed latency
and what is left of the clocks' offset.

Places of trades are those of the first print of each venue time and aggressor, against the book before it: later ones
of a sweep go through the touch as a matter of course. An aggressor that was not recorded is the one inferred, and
prices are rounded as those of books are. Where the book's lag is right most are at the touch.
"""

from array import array
from collections.abc import Callable, Iterator
from math import ceil

import msgspec

from mmdaemon.core.events import BookUpdate, FundingRate, MarkPrice, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.tapes.playing import Tape, corrections, utc
from mmdaemon.tapes.records import Depth, Record, Recording, Ticker, Trade
from mmdaemon.tapes.rows import Refusals

GAP_NS = 3 * NS
"""As in the metadata of our own files (`parquet.GAP_NS`)."""
LISTED = 5
"""Gaps that are listed, the longest first."""
TOLD_EVERY = 4_096

Progress = Callable[[int], None]
"""Told how much corrected venue time was passed, ns."""


class Quantiles(msgspec.Struct, frozen=True):
    """In ms."""

    least: float
    p05: float
    median: float
    p95: float
    p99: float
    most: float


class Latency(msgspec.Struct, frozen=True):
    """Local minus venue time, as recorded and corrected."""

    recorded_ms: Quantiles
    corrected_ms: Quantiles


class Gap(msgspec.Struct, frozen=True):
    """A time without a book. `trades` is how many were printed in it: 0 where nothing at all was recorded."""

    from_: str = msgspec.field(name="from")
    length_s: float
    trades: int


class Gaps(msgspec.Struct, frozen=True):
    count: int
    share: float | None
    """Of the time from first to last record."""
    total_s: float
    longest: tuple[Gap, ...]


class Places(msgspec.Struct, frozen=True):
    """Where first prints stand to the touch before them. Where nobody knows the aggressor either side counts."""

    measured: int
    at: int
    inside: int
    through: int
    """Beyond the side that was taken."""
    other_side: int
    """At or beyond the side that was not taken: the book, the aggressor or their order is wrong."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What `mmdaemon tape info` shows."""

    facts: dict[str, str]
    """Instrument and corrections, each with where it comes from, and what the reader says of the recording."""
    first: str
    last: str
    span_s: float
    records: dict[str, int]
    """As recorded, by kind."""
    books: int
    trades: int
    funding_rates: int
    marks: int
    """Events that are told."""
    gaps: Gaps
    book_latency: Latency | None
    trade_latency: Latency | None
    cadence_ms: Quantiles | None
    """Time from one book to the next."""
    locked_share: float | None
    crossed: int
    aggressor_known_share: float | None
    places: Places | None
    dropped: dict[str, int]
    described: tuple[str, ...]
    local_times_raised: str


def survey(recording: Recording, progress: Progress | None = None) -> Survey:
    """Play a recording to its end and measure it.

    Raises:
        TapeError: there is no book in it, it breaks off, or its corrected venue time falls.
    """
    tapped = _Tapped(recording, progress or (lambda _ns: None))
    tape = Tape(tapped)
    places = _Places(recording.facts.book_step_ticks)
    books = locked = crossed = trades = funding = marks = 0
    bid = ask = 0
    for event in tape.events():
        if isinstance(event, BookUpdate):
            bid, ask = event.bids[0][0], event.asks[0][0]
            books += 1
            locked += bid == ask
            crossed += bid > ask
        elif isinstance(event, TradePrint):
            trades += 1
            places.add(event, bid, ask)
        elif isinstance(event, FundingRate):
            funding += 1
        elif isinstance(event, MarkPrice):
            marks += 1
    facts = recording.facts
    span_ns = tapped.latest_ns - tapped.first_ns
    shift = facts.clock_shift_ns
    instrument = facts.instrument
    return Survey(
        facts={
            name: text
            for name, text in (
                {"venue": instrument.venue, "symbol": instrument.symbol, "quote": instrument.quote}
                | corrections(facts)
                | facts.provenance
            ).items()
            if name not in {"market", "from", "to", "gaps"}  # told by other fields
        },
        first=utc(tapped.first_ns),
        last=utc(tapped.latest_ns),
        span_s=span_ns / NS,
        records={kind: count for kind, count in tapped.counts.items() if count},
        books=books,
        trades=trades,
        funding_rates=funding,
        marks=marks,
        gaps=_gaps(tapped.gaps, span_ns),
        book_latency=_latency(tapped.book_latency, shift + facts.book_lag_ns),
        trade_latency=_latency(tapped.trade_latency, shift),
        cadence_ms=_quantiles(tapped.cadence, 0),
        locked_share=locked / books if books else None,
        crossed=crossed,
        aggressor_known_share=tapped.sided / tapped.counts["trade"] if tapped.counts["trade"] else None,
        places=places.found() if trades else None,
        dropped=dict(sorted(tape.refused.items())),
        described=tuple(tape.defects),
        local_times_raised=tape.provenance["local times raised"],
    )


class _Tapped:
    """A recording whose records are measured as they pass. Each playing measures anew."""

    def __init__(self, recording: Recording, progress: Progress) -> None:
        self._recording, self._progress = recording, progress
        self.facts = recording.facts
        self.start_ts_ns = recording.start_ts_ns
        self.end_ts_ns = recording.end_ts_ns

    @property
    def refusals(self) -> Refusals:
        return self._recording.refusals

    def records(self) -> Iterator[Record]:
        self.counts = {"snapshot": 0, "delta": 0, "touch": 0, "trade": 0, "ticker": 0}
        self.book_latency, self.trade_latency, self.cadence = array("q"), array("q"), array("q")
        self.gaps: list[tuple[int, int, int]] = []
        self.first_ns = self.latest_ns = self.sided = 0
        counts, cadence = self.counts, self.cadence
        lag = self.facts.book_lag_ns
        book_ns = since = 0
        is_told = True
        for number, record in enumerate(self._recording.records()):
            if isinstance(record, Depth):
                at = record.venue_ts_ns - lag
                counts[record.kind] += 1
                self.book_latency.append(record.local_ts_ns - record.venue_ts_ns)
                if book_ns and is_told:
                    cadence.append(at - book_ns)
                    if at - book_ns > GAP_NS:
                        self.gaps.append((book_ns, at, since))
                book_ns, since, is_told = at, 0, not record.more
            elif isinstance(record, Trade):
                at = record.venue_ts_ns
                counts["trade"] += 1
                since += 1
                self.sided += record.aggressor is not None
                self.trade_latency.append(record.local_ts_ns - at)
            else:
                assert isinstance(record, Ticker)
                at = record.venue_ts_ns
                counts["ticker"] += 1
            if not number:
                self.first_ns = at
            self.latest_ns = at
            if number % TOLD_EVERY == 0:
                self._progress(at - self.first_ns)
            yield record


class _Places:
    def __init__(self, step_ticks: int) -> None:
        self._step_ticks = step_ticks
        self._at_ns: int | None = None
        self._seen: set[Side | None] = set()
        self._measured = self._at = self._inside = self._through = self._other = 0

    def add(self, trade: TradePrint, bid: int, ask: int) -> None:
        if trade.venue_ts_ns != self._at_ns:
            self._at_ns = trade.venue_ts_ns
            self._seen.clear()
        if trade.aggressor in self._seen:
            return
        self._seen.add(trade.aggressor)
        self._measured += 1
        px = trade.px_ticks // self._step_ticks * self._step_ticks
        match trade.aggressor:
            case Side.BUY:
                beyond, to_other = px - ask, px - bid
            case Side.SELL:
                beyond, to_other = bid - px, ask - px
            case None:
                beyond, to_other = max(px - ask, bid - px), 1
        if beyond > 0:
            self._through += 1
        elif not beyond:
            self._at += 1
        elif to_other > 0:
            self._inside += 1
        else:
            self._other += 1

    def found(self) -> Places:
        return Places(self._measured, self._at, self._inside, self._through, self._other)


def _gaps(found: list[tuple[int, int, int]], span_ns: int) -> Gaps:
    total = sum(end - begin for begin, end, _ in found)
    longest = sorted(found, key=lambda gap: gap[0] - gap[1])[:LISTED]
    return Gaps(
        len(found),
        total / span_ns if span_ns else None,
        total / NS,
        tuple(Gap(from_=utc(begin), length_s=(end - begin) / NS, trades=trades) for begin, end, trades in longest),
    )


def _latency(recorded_ns: "array[int]", correction_ns: int) -> Latency | None:
    recorded = _quantiles(recorded_ns, 0)
    corrected = _quantiles(recorded_ns, correction_ns)
    return Latency(recorded, corrected) if recorded and corrected else None


def _quantiles(values_ns: "array[int]", plus_ns: int) -> Quantiles | None:
    """The least value that as large a share is not above: always one that was measured."""
    if not values_ns:
        return None
    ordered = sorted(values_ns)
    shares = (0.0, 0.05, 0.5, 0.95, 0.99, 1.0)
    return Quantiles(*[(ordered[max(ceil(share * len(ordered)), 1) - 1] + plus_ns) / 1e6 for share in shares])
