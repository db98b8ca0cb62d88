"""A tape as it arrives, through the core's own rules, into columns.

Each event goes through `core/apply.py:apply` at the time at which it ARRIVED (local time, as `tapes/playing.py`
corrects and raises it), with a timer every second, as in the daemon: books that the core refuses are no books, regimes
are the detector's, features are the signal's. A print is held against the last healthy book that had arrived before it.
What is on the same clock, and in the order that it came in, cannot look ahead. Features are read whenever all that
arrived at one moment was told, which is when a decision is due.
"""

from array import array
from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt

from mmdaemon.core import signal
from mmdaemon.core.apply import apply
from mmdaemon.core.events import BookUpdate, LinkChanged, TimerFired, TradePrint
from mmdaemon.core.fair_value import fair_value_ticks
from mmdaemon.core.params import Params
from mmdaemon.core.state import State, new_state
from mmdaemon.core.types import E10, NS, Instrument, Link, Regime
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.survey import GAP_NS

TOLD_EVERY = 4_096
MOST_SAMPLES = 1 << 20
"""Where there are more moments every second one is left out, and so on: a long recording must fit into memory."""
REGIMES = tuple(Regime)

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Progress = Callable[[int], None]
"""Told how much of the recording was passed, ns of arrival."""


class Books(msgspec.Struct, frozen=True):
    """Healthy books, in the order they arrived."""

    t_ns: Ints
    """Since the first event, which is at 1 s."""
    mid_x2: Ints
    """Twice the mid, ticks."""
    spread: Ints
    """Best ask less best bid, ticks."""
    fair: Floats
    """F, ticks, without the signal."""

    def before(self, t_ns: Ints) -> Ints:
        """Of each moment, the place of the last book that had arrived by then; -1 where there was none."""
        return np.searchsorted(self.t_ns, t_ns, side="right") - 1

    def fresh(self, at: Ints, t_ns: Ints, most_ns: int) -> Bools:
        """Whether the books at these places were at most so old at these moments."""
        return (at >= 0) & (t_ns - self.t_ns[np.maximum(at, 0)] <= most_ns)


class Prints(msgspec.Struct, frozen=True):
    """Prints with a known aggressor and a fresh book before them."""

    t_ns: Ints
    px: Ints
    qty: Ints
    maker: Ints
    """The virtual maker's side: +1 a bid that a seller took, -1 an ask."""
    regime: Ints
    """Place in `REGIMES`."""
    mid_x2: Ints
    """Of the last healthy book before it, as the next two."""
    spread: Ints
    fair: Floats
    features: Floats
    """(prints, features), as they stood before the moment at which the print arrived."""

    @property
    def reach_x2(self) -> Ints:
        """Twice the distance beyond the mid before it, ticks: whole, so that half ticks are exact."""
        return self.maker * (self.mid_x2 - 2 * self.px)

    @property
    def effective_bps(self) -> Floats:
        """Distance from F before it."""
        return self.maker * (self.fair - self.px) / self.fair * 1e4


class Samples(msgspec.Struct, frozen=True):
    """Features as they stood at moments at which something had arrived, with a fresh book: at every one, or every 2nd,
    4th, ..."""

    t_ns: Ints
    fair: Floats
    features: Floats
    """(samples, features)."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    instrument: Instrument
    books: Books
    prints: Prints
    samples: Samples
    first_ns: int
    """First book and last event."""
    last_ns: int
    gaps: tuple[tuple[int, int], ...]
    """Times over 3 s without a book: nobody knows what happened in them."""
    unsided: int
    stale: int
    refused: dict[str, int]
    regime_s: dict[str, int]
    """Seconds in each regime."""
    book_age_max_ns: int

    @property
    def tick(self) -> float:
        return self.instrument.tick_e10 / E10

    @property
    def mean_mid(self) -> float:
        """In quote currency, each book counting alike."""
        return float(self.books.mid_x2.mean()) / 2 * self.tick

    @property
    def stretches(self) -> Ints:
        """Times without a gap, as rows of (from, to)."""
        ends = [ns for gap in self.gaps for ns in gap]
        bounds = np.array([self.first_ns, *ends, self.last_ns], dtype=np.int64).reshape(-1, 2)
        return bounds[bounds[:, 1] > bounds[:, 0]]

    @property
    def observed_s(self) -> float:
        return float((self.stretches[:, 1] - self.stretches[:, 0]).sum()) / NS

    def windows(self, length_ns: int) -> Ints:
        """Beginnings of windows that were observed whole, one after another in each stretch without a gap."""
        each = [np.arange(begin, end - length_ns + 1, length_ns, dtype=np.int64) for begin, end in self.stretches]
        return np.concatenate(each) if each else np.empty(0, dtype=np.int64)


class _Columns:
    """What grows while the tape plays."""

    def __init__(self) -> None:
        self.book_t, self.mid_x2, self.spread, self.fair = array("q"), array("q"), array("q"), array("d")
        self.prints = [array("q") for _ in range(6)]
        self.sample_t, self.sample_fair, self.features = array("q"), array("d"), array("d")
        self.known: tuple[float, ...] = (0.0,) * len(signal.FEATURES)
        """Features when all that arrived at the last moment was told."""
        self.known_at_prints = array("d")
        self._moments, self._stride = 0, 1
        self.gaps: list[tuple[int, int]] = []
        self.regime_s = dict.fromkeys(REGIMES, 0)

    def sample(self, state: State, now: int, params: Params) -> None:
        """All that arrived at `now` was told."""
        self.known = signal.features(state.signal)
        if not self.book_t or now - self.book_t[-1] > params.guard.book_age_max_ns:
            return
        self._moments += 1
        if self._moments % self._stride:
            return
        if len(self.sample_t) >= MOST_SAMPLES:
            self._stride *= 2
            self.sample_t, self.sample_fair = self.sample_t[1::2], self.sample_fair[1::2]
            wide = len(self.known)
            self.features = array("d", _floats(self.features).reshape(-1, wide)[1::2].ravel().tobytes())
            if self._moments % self._stride:
                return
        self.sample_t.append(now)
        self.sample_fair.append(self.fair[-1])
        self.features.extend(self.known)


def observe(tape: Tape, params: Params, until_ns: int | None = None, progress: Progress | None = None) -> Observed:
    """Play a tape to its end, or `until_ns` after its first event, by arrival.

    Raises:
        TapeError: as `Tape.events`.
    """
    told: Progress = progress or (lambda _ns: None)
    params = _watching(params)
    state = new_state(params, 0)
    book, depth = state.book, params.quotes.depth_levels
    columns = _Columns()
    place = {regime: number for number, regime in enumerate(REGIMES)}
    begin_ns: int | None = None
    now = next_timer_ns = updates = unsided = 0
    for number, event in enumerate(tape.events()):
        if begin_ns is None:
            begin_ns = event.ts_ns - NS  # clocks start above 0
            next_timer_ns = 2 * NS
            apply(state, LinkChanged(NS, event.ts_ns, None, Link.PUBLIC, True), params)
        at = event.ts_ns - begin_ns
        if until_ns is not None and at - NS > until_ns:
            break
        if at > now:
            columns.sample(state, now, params)
        now = at
        while next_timer_ns <= now:
            state.mono_ns, state.ts_ns = next_timer_ns, begin_ns + next_timer_ns
            apply(state, TimerFired(next_timer_ns, state.ts_ns, None, "second"), params)
            columns.regime_s[state.detector.regime] += bool(columns.book_t)
            next_timer_ns += NS
        if number % TOLD_EVERY == 0:
            told(now - NS)
        state.mono_ns, state.ts_ns = now, event.ts_ns
        if isinstance(event, BookUpdate):
            apply(state, BookUpdate(now, event.ts_ns, event.venue_ts_ns, event.bids, event.asks), params)
            if book.updates == updates:
                continue
            updates = book.updates
            fair = fair_value_ticks(book, depth)
            assert fair is not None
            if columns.book_t and now - columns.book_t[-1] > GAP_NS:
                columns.gaps.append((columns.book_t[-1], now))
            columns.book_t.append(now)
            columns.mid_x2.append(book.bid_px + book.ask_px)
            columns.spread.append(book.ask_px - book.bid_px)
            columns.fair.append(fair)
        elif isinstance(event, TradePrint):
            if event.aggressor is None:
                unsided += 1
            elif columns.book_t:
                before = len(columns.book_t) - 1
                row = (now, event.px_ticks, event.qty_lots, -event.aggressor, place[state.detector.regime], before)
                for column, value in zip(columns.prints, row, strict=True):
                    column.append(value)
                columns.known_at_prints.extend(columns.known)
            printed = (event.venue_ts_ns, event.px_ticks, event.qty_lots, event.aggressor)
            apply(state, TradePrint(now, event.ts_ns, *printed), params)
    if columns.book_t and now - columns.book_t[-1] > GAP_NS:
        columns.gaps.append((columns.book_t[-1], now))
    return _observed(tape.instrument, columns, params, now, unsided, dict(book.refused))


def _watching(params: Params) -> Params:
    """With weights on every feature, so that the core keeps all of them up, whatever is traded on. What it then
    predicts is not looked at."""
    weights = (1.0,) * len(signal.FEATURES)
    watched = msgspec.structs.replace(params.signal, weights=weights, cap_bps=max(1.0, params.signal.cap_bps))
    return msgspec.structs.replace(params, signal=watched)


def _observed(
    instrument: Instrument, columns: _Columns, params: Params, now: int, unsided: int, refused: dict[str, int]
) -> Observed:
    books = Books(_ints(columns.book_t), _ints(columns.mid_x2), _ints(columns.spread), _floats(columns.fair))
    t_ns, px, qty, maker, regime, before = (_ints(column) for column in columns.prints)
    kept = books.fresh(before, t_ns, params.guard.book_age_max_ns)
    before = before[kept]
    return Observed(
        instrument=instrument,
        books=books,
        prints=Prints(
            t_ns=t_ns[kept],
            px=px[kept],
            qty=qty[kept],
            maker=maker[kept],
            regime=regime[kept],
            mid_x2=books.mid_x2[before],
            spread=books.spread[before],
            fair=books.fair[before],
            features=_rows(columns.known_at_prints)[kept],
        ),
        samples=Samples(
            _ints(columns.sample_t),
            _floats(columns.sample_fair),
            _rows(columns.features),
        ),
        first_ns=columns.book_t[0] if columns.book_t else now,
        last_ns=now,
        gaps=tuple(columns.gaps),
        unsided=unsided,
        stale=int((~kept).sum()),
        refused=refused,
        regime_s={regime.value: seconds for regime, seconds in columns.regime_s.items()},
        book_age_max_ns=params.guard.book_age_max_ns,
    )


def _ints(column: "array[int]") -> Ints:
    return np.array(column, dtype=np.int64)


def _floats(column: "array[float]") -> Floats:
    return np.array(column, dtype=np.float64)


def _rows(column: "array[float]") -> Floats:
    """Features, one row a moment."""
    return _floats(column).reshape(-1, max(1, len(signal.FEATURES)))
