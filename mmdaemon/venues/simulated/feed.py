"""From the market source to the exchange, and to the daemon.

Two things happen to each market event: the exchange matches against it at its `venue_ts_ns`, and the daemon gets it at
its `ts_ns`, made anew with the local clocks. Matching is put off until somebody could see its outcome: until a request
or a read arrives, the event itself is delivered, or the private stream could tell of a fill. That is one timer an
event instead of two, and changes nothing that can be seen.

Times here are the venue's: UTC as the source tells it, plus `shift_ns`. A source that starts now (within 5 s) is not
shifted; a recording is moved so that it starts now, funding times with it. Venue time runs on the monotonic clock, so
a step of the wall clock is seen as what it is.

What the source raises while it plays goes to the loop's exception handler, and the market stands still from then on:
half a recording is no result. In its first 10 s it is raised by `Venue.open`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.events import (
    BookUpdate,
    Event,
    FundingRate,
    MarketDataRefused,
    MarketEvent,
    MarkPrice,
    SourceEnded,
    TradePrint,
)
from mmdaemon.core.types import NEVER_NS, NS
from mmdaemon.venues.base import MarketSource
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.exchange import FUNDING_INTERVAL_S, Exchange
from mmdaemon.venues.simulated.faults import FaultKind, spoil
from mmdaemon.venues.simulated.latency import DelayDraws

NEAR_NS = 5 * NS
"""A source that starts within this of now starts now."""
PEEK_NS = 10 * NS
"""How much of the source is read ahead to learn whether it has marks and funding rates."""
PEEK_EVENTS = 10_000


class Feed:
    """Plays one source. `advance` brings the exchange up to now; the rest runs on one timer."""

    def __init__(
        self,
        source: MarketSource,
        exchange: Exchange,
        clock: Clock,
        config: SimulatedConfig,
        seed: int,
        deliver: Callable[[Event], None],
    ) -> None:
        self._exchange, self._clock, self._deliver = exchange, clock, deliver
        self._extra = DelayDraws(config.feed, seed, "feed")
        self._extra_least_ns = config.feed.least_ns
        self._lookahead_ns = config.stream.least_ns
        self._mark_interval_ns = round(config.mark_interval_s * NS)
        self._queue: deque[tuple[int, MarketEvent]] = deque()
        self._last_due_ns = 0
        self._timer: Timer | None = None
        self._armed_ns = NEVER_NS
        self._next_mark_ns = 0
        self._down = self._closed = False
        self._freeze: bool | None = None  # books: None delivered, False held back, True repeated
        self._spoil: FaultKind | None = None
        self._last_book: BookUpdate | None = None

        self._events: Iterator[MarketEvent] = source.events()
        peeked = self._peek(source.start_ts_ns)
        self.makes_marks = not any(type(event) is MarkPrice for event in peeked)
        self.makes_funding = not any(type(event) is FundingRate for event in peeked)
        self._events = chain(peeked, self._events)

        now_wall = clock.wall_ns()
        behind_ns = now_wall - source.start_ts_ns
        self.shift_ns = 0 if 0 <= behind_ns <= NEAR_NS else behind_ns
        self._venue_less_mono_ns = now_wall - clock.mono_ns()
        self._next = next(self._events, None)
        self._next_ns = NEVER_NS if self._next is None else self._happened_ns(self._next)
        if self.makes_funding:
            self._make_funding(now_wall)
        self.arm()

    def _peek(self, start_ts_ns: int) -> list[MarketEvent]:
        peeked: list[MarketEvent] = []
        for event in self._events:
            peeked.append(event)
            if (event.venue_ts_ns or event.ts_ns) - start_ts_ns > PEEK_NS or len(peeked) == PEEK_EVENTS:
                break
        return peeked

    def _happened_ns(self, event: MarketEvent) -> int:
        at_ns = event.venue_ts_ns
        return (event.ts_ns if at_ns is None else at_ns) + self.shift_ns

    def venue_now_ns(self) -> int:
        return self._clock.mono_ns() + self._venue_less_mono_ns

    def mono_of(self, venue_ns: int) -> int:
        return venue_ns - self._venue_less_mono_ns

    # --- to the exchange ----------------------------------------------------------------------------------------------

    def advance(self) -> int:
        """Bring the exchange up to now. Returns the venue's now."""
        now = self._clock.mono_ns() + self._venue_less_mono_ns
        exchange, shift = self._exchange, self.shift_ns
        event = self._next
        while event is not None and self._next_ns <= now:
            at = self._next_ns
            due = exchange.next_due_ns
            # A settlement is at the mark of its very moment, and at the rate that was told before.
            if due < at or (due == at and isinstance(event, FundingRate)):
                self._run_due(at)
            self._put(max(at, event.ts_ns + shift), event)
            if isinstance(event, BookUpdate):
                exchange.on_book(at, event.bids, event.asks)
                if self.makes_marks and at >= self._next_mark_ns:
                    self._make_mark(at, event.ts_ns)
            elif isinstance(event, TradePrint):
                exchange.on_trade(at, event.px_ticks, event.qty_lots, event.aggressor)
            elif isinstance(event, MarkPrice):
                exchange.on_mark(at, event.px_ticks)
            elif isinstance(event, FundingRate):
                exchange.on_funding(at, event.rate, event.next_ts_ns + shift, event.interval_s)
            self._next = event = next(self._events, None)
            self._next_ns = NEVER_NS if event is None else self._happened_ns(event)
        if exchange.next_due_ns <= now:
            self._run_due(now)
        return now

    def _run_due(self, at_ns: int) -> None:
        self._exchange.run_due(at_ns)
        if self.makes_funding:
            self._make_funding(at_ns)

    def _make_mark(self, at_ns: int, ts_ns: int) -> None:
        mark = self._exchange.mid_ticks
        if mark:
            self._next_mark_ns = at_ns + self._mark_interval_ns
            self._exchange.on_mark(at_ns, mark)
            self._put(max(at_ns, ts_ns + self.shift_ns), MarkPrice(0, ts_ns, at_ns - self.shift_ns, mark))

    def _make_funding(self, at_ns: int) -> None:
        """The source has no funding: the rate is 0, and known to be, at each settlement of the clock."""
        interval_ns = FUNDING_INTERVAL_S * NS
        next_ns = (at_ns // interval_ns + 1) * interval_ns
        self._exchange.on_funding(at_ns, 0.0, next_ns, FUNDING_INTERVAL_S)
        source_ns = at_ns - self.shift_ns
        self._put(at_ns, FundingRate(0, source_ns, source_ns, 0.0, next_ns - self.shift_ns, FUNDING_INTERVAL_S))

    # --- to the daemon ------------------------------------------------------------------------------------------------

    def disconnect(self) -> None:
        """The public stream is down: what is on its way is lost, and what happens until `reconnect` is not told."""
        self.advance()
        self._down = True
        self._queue = deque(item for item in self._queue if type(item[1]) is SourceEnded)

    def reconnect(self) -> None:
        self.advance()
        self._down = False

    def freeze_books(self, repeat: bool | None) -> None:
        """Hold books back (False), deliver the last one again in their place (True), or let them through (None)."""
        self._freeze = repeat

    def spoil_books(self, kind: FaultKind | None) -> None:
        """Deliver books that are wrong in this way, or as they are (None)."""
        self._spoil = kind

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def arm(self) -> None:
        """Set the timer to the next moment at which something can be seen."""
        due = self._queue[0][0] if self._queue else NEVER_NS
        event = self._next
        if event is not None:
            at = self._next_ns
            told = max(at, event.ts_ns + self.shift_ns) + self._extra_least_ns
            due = min(due, told, at + self._lookahead_ns)
        due = min(due, self._exchange.next_due_ns + self._lookahead_ns)
        if due == self._armed_ns or self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = due
        self._timer = None if due >= NEVER_NS else self._clock.call_at(self.mono_of(due), self._wake)

    def _wake(self) -> None:
        self._timer, self._armed_ns = None, NEVER_NS
        now = self.advance()
        queue = self._queue
        while queue and queue[0][0] <= now:
            self._tell(queue.popleft()[1])
        self.arm()

    def _put(self, due_ns: int, event: MarketEvent) -> None:
        if self._down and type(event) is not SourceEnded:
            return
        due_ns = max(due_ns + self._extra.next_ns(), self._last_due_ns)
        self._last_due_ns = due_ns
        self._queue.append((due_ns, event))

    def _tell(self, event: MarketEvent) -> None:
        mono, wall, happened = self._clock.mono_ns(), self._clock.wall_ns(), self._happened_ns(event)
        if isinstance(event, BookUpdate):
            if self._freeze is not None:
                if self._freeze and (stale := self._last_book) is not None:
                    self._deliver(BookUpdate(mono, wall, happened, stale.bids, stale.asks))
                return
            self._last_book = event
            if self._spoil is not None:
                self._deliver(BookUpdate(mono, wall, happened, *spoil(self._spoil, event.bids, event.asks)))
                return
            self._deliver(BookUpdate(mono, wall, happened, event.bids, event.asks))
        elif isinstance(event, TradePrint):
            self._deliver(TradePrint(mono, wall, happened, event.px_ticks, event.qty_lots, event.aggressor))
        elif isinstance(event, MarkPrice):
            self._deliver(MarkPrice(mono, wall, happened, event.px_ticks))
        elif isinstance(event, FundingRate):
            next_ts_ns = event.next_ts_ns + self.shift_ns
            self._deliver(FundingRate(mono, wall, happened, event.rate, next_ts_ns, event.interval_s))
        elif isinstance(event, MarketDataRefused):
            self._deliver(MarketDataRefused(mono, wall, happened, event.reason))
        else:
            self._deliver(SourceEnded(mono, wall, happened))
