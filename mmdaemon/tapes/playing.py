"""A recording played as a market: the book is kept, the corrections are applied, what cannot be told is counted.

The book. A SNAPSHOT replaces it. A DELTA changes the levels it names; a stream without a snapshot builds up from
nothing, so its first books lack what has not changed yet. A TOUCH takes away what is better than it, and what is deeper
stays, staler than the touch, until it is told anew; where a snapshot is all there is beside touches, no side grows
deeper than the snapshot was. A touch that says what is known already is not told again. A message in several records
(`more`) is told once, with the last. A book that lacks a side is counted and not told; a crossed one is told as it is,
and the core refuses it.

The aggressor of a print. As recorded, else by the quote rule against the last book told, whose prices may have been
rounded down when they were written (`Facts.book_step_ticks`); how often is told.

The times. `venue_ts_ns` of an event is the corrected venue time and never falls: a recording where it does is refused
there. `ts_ns` is local time plus the clock's correction, raised to the highest so far; how often is counted.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

from mmdaemon.core.events import BookUpdate, FundingRate, MarketEvent, MarkPrice, SourceEnded, TradePrint
from mmdaemon.core.figures import LARGEST
from mmdaemon.core.types import E10, NS, Instrument, Side
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Recording, Ticker, Trade
from mmdaemon.tapes.rows import DECIMAL, KEPT_PER_REASON, TapeError, counted

SHOWN = 50
"""Levels a side that are told. The daemon quotes and queues within bps of the touch; deeper is unknown to the matching
engine, as it is where a venue publishes 20. More would only cost: each is looked at again for each of our orders."""

CROSSED_MOST = 0.01
"""A larger share of crossed books is warned of."""


class Book:
    """The book that messages add up to. Prices are kept sorted beside their levels, so that a change is one search."""

    def __init__(self) -> None:
        self._snapshot: tuple[Levels, Levels] | None = None  # told, and not yet taken apart
        self._bid_px: list[int] = []
        self._ask_px: list[int] = []
        self._bids: list[tuple[int, int]] = []  # ascending, the best last
        self._asks: list[tuple[int, int]] = []  # ascending, the best first
        self._deepest: int | None = None
        """Levels a side of the last snapshot, where no delta came since."""

    def snapshot(self, bids: Levels, asks: Levels) -> None:
        self._snapshot = bids, asks

    def delta(self, bids: Levels, asks: Levels) -> None:
        if self._snapshot is not None:
            self._take_apart(*self._snapshot)
        self._deepest = None
        _change(self._bid_px, self._bids, bids)
        _change(self._ask_px, self._asks, asks)

    def touch(self, bids: Levels, asks: Levels) -> bool:
        """Put the touch on the book. False where the book said so already."""
        if self._snapshot is not None:
            self._take_apart(*self._snapshot)
        if bids == tuple(self._bids[-1:]) and asks == tuple(self._asks[:1]):
            return False
        better = bisect_left(self._bid_px, bids[0][0]) if bids else 0  # its own level goes with the better ones
        self._bid_px[better:] = [level[0] for level in bids]
        self._bids[better:] = bids
        deeper = bisect_right(self._ask_px, asks[0][0]) if asks else len(self._asks)
        self._ask_px[:deeper] = [level[0] for level in asks]
        self._asks[:deeper] = asks
        if self._deepest is not None:
            del self._bid_px[: -self._deepest], self._bids[: -self._deepest]
            del self._ask_px[self._deepest :], self._asks[self._deepest :]
        return True

    def shown(self) -> tuple[Levels, Levels]:
        """The best `SHOWN` levels of both sides, best first."""
        if self._snapshot is not None:
            bids, asks = self._snapshot
            return bids[:SHOWN], asks[:SHOWN]
        return tuple(self._bids[: -SHOWN - 1 : -1]), tuple(self._asks[:SHOWN])

    def _take_apart(self, bids: Levels, asks: Levels) -> None:
        self._snapshot = None
        self._bids, self._asks = list(bids[::-1]), list(asks)
        self._bid_px = [level[0] for level in self._bids]
        self._ask_px = [level[0] for level in self._asks]
        self._deepest = max(len(bids), len(asks), 1)


class Tape:
    """A `MarketSource` over a `Recording`. Opening plays to its first book, so that one without any is refused.

    `refused` and `defects` (the first few of each reason, with file and row or the number of the record) count the
    latest playing so far.

    Raises:
        TapeError: there is no book in it, or the recording breaks off or goes back in time before the first.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._facts: Facts = recording.facts
        self._forget()
        with closing(self.events()) as events:
            first = event = next(events)
            while not isinstance(event, BookUpdate):
                if isinstance(event, SourceEnded):
                    raise TapeError(
                        f"{self._market}: no book with both sides in the whole recording, so nothing can trade on it; "
                        + (f"dropped: {self._dropped()}" if self.refused else "there is nothing in it")
                        + "; add the files of its book, or see what `mmdaemon tape info` says"
                    )
                event = next(events)
        self._start_ts_ns = first.venue_ts_ns or first.ts_ns

    @property
    def recording(self) -> Recording:
        return self._recording

    @property
    def instrument(self) -> Instrument:
        return self._facts.instrument

    @property
    def start_ts_ns(self) -> int:
        """Corrected venue time of the first event that is told."""
        return self._start_ts_ns

    @property
    def refused(self) -> dict[str, int]:
        counts = dict(self._recording.refusals.counts)
        for reason, count in self._counts.items():
            counts[reason] = counts.get(reason, 0) + count
        return counts

    @property
    def defects(self) -> list[str]:
        return [*self._recording.refusals.described, *self._described]

    @property
    def provenance(self) -> dict[str, str]:
        """What a report prints first; what is counted is "so far" until the end was played."""
        facts, end = self._facts, self._end_ts_ns
        told = {
            "market": self._market,
            "from": utc(self._start_ts_ns),
            "to": "not known before the end is reached" if end is None else utc(end),
        }
        told |= corrections(facts) | facts.provenance
        if self._funding or self._marks or "funding, mark" not in told:
            told["funding, mark"] = self._funding_and_mark()
        told["dropped"] = (self._dropped() or "nothing") + self._so_far
        told["local times raised"] = f"{self._raised:,}{self._so_far}"
        if self._unsided:
            said = told.get("aggressor", "not told of every print")
            told["aggressor"] = (
                f"{said}; inferred by the quote rule for {self._inferred:,} of {self._unsided:,} prints{self._so_far}"
            )
        if self._crossed:
            share = f"{self._crossed:,} of {self._books:,} ({share_of(self._crossed, self._books)}){self._so_far}"
            told["crossed books"] = f"{share}, told as they are: nothing is quoted or filled on them"
        return told

    @property
    def books(self) -> int:
        """Books told, of the latest playing so far."""
        return self._books

    @property
    def crossed(self) -> int:
        """How many of them were crossed."""
        return self._crossed

    @property
    def span_ns(self) -> int | None:
        """From the first event to the end, None while that is not known."""
        end = self._end_ts_ns
        return None if end is None else end - self._start_ts_ns

    @property
    def _end_ts_ns(self) -> int | None:
        end = self._recording.end_ts_ns
        return self._ended_ts_ns if end is None else end

    def events(self) -> Generator[MarketEvent, None, None]:
        """Lazy; each call plays from the start.

        Raises:
            TapeError: when reached: the recording breaks off, or its corrected venue time falls.
        """
        self._forget()
        facts = self._facts
        shift, lag, tick_e10 = facts.clock_shift_ns, facts.book_lag_ns, facts.instrument.tick_e10
        book = Book()
        is_known = False
        step_ticks = facts.book_step_ticks
        number = ts = latest = best_bid = best_ask = 0
        for number, record in enumerate(self._recording.records(), 1):
            at = record.venue_ts_ns - lag if isinstance(record, Depth) else record.venue_ts_ns
            if at < latest:
                raise TapeError(
                    f"{self._market}: record {number:,} ({_name(record)}) is of {at} ns, corrected venue time, "
                    f"{(latest - at) / 1e6:.3f} ms before an earlier one; sort the recording by venue time"
                )
            latest = at
            local = record.local_ts_ns + shift
            if isinstance(record, Depth):
                kind = record.kind
                if kind is DepthKind.SNAPSHOT:
                    book.snapshot(record.bids, record.asks)
                elif kind is DepthKind.DELTA:
                    book.delta(record.bids, record.asks)
                elif not book.touch(record.bids, record.asks):
                    continue
                if record.more:
                    continue
                bids, asks = book.shown()
                if not bids or not asks:
                    reason = "one_sided" if is_known else "before_first_book"
                    self._drop(number, reason, "the book lacks a side, so it is not told")
                    continue
                is_known = True
                best_bid, best_ask = bids[0][0], asks[0][0]
                self._books += 1
                if best_bid > best_ask:
                    self._crossed += 1
                ts = self._raise(local, ts)
                yield BookUpdate(0, ts, at, bids, asks)
            elif isinstance(record, Trade):
                if not is_known:
                    self._drop(number, "history", "a trade older than the first book")
                    continue
                ts = self._raise(local, ts)
                side = record.aggressor
                if side is None:
                    side = by_quote_rule(record.px_ticks // step_ticks * step_ticks, best_bid, best_ask)
                    self._unsided += 1
                    self._inferred += side is not None
                yield TradePrint(0, ts, at, record.px_ticks, record.qty_lots, side)
            else:
                ts = self._raise(local, ts)
                yield from self._ticker(number, record, ts, at, tick_e10)
        self._ended_ts_ns = latest
        yield SourceEnded(0, ts, latest)

    def _raise(self, local: int, ts: int) -> int:
        if local < ts:
            self._raised += 1
            return ts
        return local

    def _ticker(self, number: int, record: Ticker, ts: int, at: int, tick_e10: int) -> Iterator[MarketEvent]:
        """Funding only where rate and a settlement still to come are both said; a mark only where there is one."""
        if record.funding_rate and record.funding_ts_ns is not None and record.funding_ts_ns > at:
            rate = _float(record.funding_rate)
            if rate is None:
                self._drop(number, "bad_number", f"funding rate {record.funding_rate[:40]!r}")
            else:
                self._funding += 1
                yield FundingRate(0, ts, at, rate, record.funding_ts_ns, self._facts.funding_interval_s)
        if record.mark_px:
            px_ticks = nearest_ticks(record.mark_px, tick_e10)
            if px_ticks is None:
                self._drop(number, "bad_number", f"mark price {record.mark_px[:40]!r}")
            else:
                self._marks += 1
                yield MarkPrice(0, ts, at, px_ticks)

    def _drop(self, number: int, reason: str, detail: str) -> None:
        count = self._counts[reason] = self._counts.get(reason, 0) + 1
        if count <= KEPT_PER_REASON:
            self._described.append(f"record {number:,}: {reason}: {detail}")

    def _forget(self) -> None:
        self._counts: dict[str, int] = {}
        self._described: list[str] = []
        self._books = self._raised = self._crossed = self._funding = self._marks = self._unsided = self._inferred = 0
        self._ended_ts_ns: int | None = None

    def _dropped(self) -> str:
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.refused.items()))

    @property
    def _market(self) -> str:
        return f"recorded at {self._facts.instrument.venue}, {self._facts.instrument.symbol} perpetual"

    def _funding_and_mark(self) -> str:
        said = [
            counted(count, name) if count else f"no {name}s"
            for name, count in (("funding rate", self._funding), ("mark", self._marks))
        ]
        return (" and ".join(said) if self._funding or self._marks else "none") + self._so_far

    @property
    def _so_far(self) -> str:
        return " so far" if self._ended_ts_ns is None else ""


def share_of(part: int, whole: int) -> str:
    """In percent; one that is there does not read as none."""
    return f"{part / whole:.1%}" if not part or part / whole >= 0.001 else "under 0.1%"


def crossed_warning(crossed: int, books: int) -> str:
    """What to say of so many crossed books; empty where that is no more than a venue's own moments."""
    if crossed <= CROSSED_MOST * books:
        return ""
    return (
        f"warning: {share_of(crossed, books)} of the books are crossed ({crossed:,} of {books:,}): updates are missing "
        "or out of order, and what a run does on them is worth nothing; record it anew"
    )


def by_quote_rule(px_ticks: int, bid_px_ticks: int, ask_px_ticks: int) -> Side | None:
    """Who took, where it was not recorded: a seller at or below the bid, a buyer at or above the ask (Lee and Ready,
    "Inferring trade direction from intraday data", 1991). None between them, and where they are equal."""
    sold, bought = px_ticks <= bid_px_ticks, px_ticks >= ask_px_ticks
    return None if sold is bought else Side.SELL if sold else Side.BUY


def corrections(facts: Facts) -> dict[str, str]:
    """Tick, lot, minimum, clock and lag with where each comes from, as a report prints them."""
    instrument = facts.instrument
    shift_ms = facts.clock_shift_ns / 1e6
    least_qty = _text(instrument.min_qty_lots * instrument.lot_e10)
    least = f"{least_qty}, {_text(instrument.min_notional_e10)} {instrument.quote}"
    return {
        "tick, lot": f"{_text(instrument.tick_e10)}, {_text(instrument.lot_e10)}: {facts.steps_from}",
        "minimum": f"{least}: {facts.minimum_from}",
        "local clock": f"{shift_ms:+,.3f} ms: {facts.clock_from}" if shift_ms else facts.clock_from,
        "lag of the book": f"{facts.book_lag_ns / 1e6:.3f} ms: {facts.lag_from}"
        if facts.book_lag_ns
        else facts.lag_from,
    }


def nearest_ticks(text: str, tick_e10: int) -> int | None:
    """A positive decimal as ticks, half to even; None where it is none, rounds to nothing, or is more than a price."""
    if DECIMAL.fullmatch(text) is None:
        return None
    numerator, denominator = Decimal(text).as_integer_ratio()
    divisor = denominator * tick_e10
    ticks, rest = divmod(numerator * E10, divisor)
    ticks += 2 * rest > divisor or (2 * rest == divisor and ticks % 2 == 1)
    return ticks if 0 < ticks <= LARGEST else None


def utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _change(prices: list[int], levels: list[tuple[int, int]], changes: Levels) -> None:
    for level in changes:
        px, lots = level
        place = bisect_left(prices, px)
        if place < len(prices) and prices[place] == px:
            if lots:
                levels[place] = level
            else:
                del prices[place], levels[place]
        elif lots:
            prices.insert(place, px)
            levels.insert(place, level)


def _float(text: str) -> float | None:
    return float(text) if DECIMAL.fullmatch(text.removeprefix("-")) else None


def _name(record: Depth | Trade | Ticker) -> str:
    return record.kind.value if isinstance(record, Depth) else type(record).__name__.lower()


def _text(amount_e10: int) -> str:
    return f"{Decimal(amount_e10).scaleb(-10).normalize():f}"
