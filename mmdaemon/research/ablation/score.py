"""What a run earned, from what it journaled and from the recording; of the core nothing but record types is used.

    e_h = side * (M_h - price) / M0                                                         [bps, before fees]

M0 is the last price received before the fill, M_h the last received by h seconds after it, both from the venue's time
of the fill; where the last book is older than 5 s then, e_h is unavailable, and counted. A mean is weighted by value. M
is the micro-price of the touch; beside it stand `mid`, and `venue`: the micro-price by the venue's clock, which nobody
could have seen that soon.

Quoting is read off the orders: one rests from the venue's word that it does to its word that it ended, as we heard it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from mmdaemon.core.types import E10, NS, GuardState, Instrument, Liquidity, OrderStatus, Purpose, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.journal.rows import Minute
from mmdaemon.research.ablation.bootstrap import Sums
from mmdaemon.research.ablation.columns import Columns, Floats, Ints
from mmdaemon.research.ablation.decisions import Decisions
from mmdaemon.research.ablation.spans import Spans, both, length, union
from mmdaemon.research.guard_time import GuardSpan, guard_spans, last_moment
from mmdaemon.research.money import Attributed, parts_of

HORIZONS_S = (1, 5, 30, 60)
_BPS = 1e4


class Window(msgspec.Struct, frozen=True):
    """What is scored, in UTC, and how long a block of the bootstrap is."""

    from_ns: int
    to_ns: int
    block_ns: int

    @property
    def hours(self) -> float:
        return (self.to_ns - self.from_ns) / NS / 3600


class Bounds(NamedTuple):
    """What a position is held against: the cap, and one order."""

    cap_e10: int
    order_e10: int


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Edges in bps of value, money in quote currency, shares of one. None: there was nothing to measure it on."""

    hours: float
    fills: int
    taker_fills: int
    value: float
    tape_share: float | None
    """Of the value that the recording printed."""
    edges: dict[str, float | None]
    """e_h by "1", "5", "30", "60"."""
    e5_mid: float | None
    e5_venue: float | None
    effective: float | None
    """Against M0 itself: the half-spread that was captured."""
    unavailable: int
    """Fills without e5."""
    sums: Sums
    healthy_h: float
    """Time with a healthy book, by the guard's word."""
    two_sided: float | None
    """Share of healthy time in which a bid and an ask of ours rested."""
    two_sided_tape: float | None
    """The same of the time in which the recording's last book was at most 2 s old."""
    at_cap: float
    """Share of time with a position of at least the cap less one order."""
    max_position: float
    """Largest value of a position, at the price of the fill that led to it."""
    max_share: float
    """The same in units of the cap. It may pass 1 by what prices moved since the orders were sent."""
    over_cap_lots: int | None
    """Most lots by which a position passed the cap in lots that the daemon held its orders to; 0 is never. None where
    nothing was filled."""
    drawdown: float | None
    """Largest fall of minute equity from its peak."""
    pnl: float | None
    attribution: dict[str, float] | None
    """Addends of the PnL between the window's first and last minute."""
    orders: int
    amends: int
    cancels: int
    guard: dict[str, float]
    """Share of time by what the guard did, and why: "running", "soft_pause: book"."""
    absent: dict[str, float]
    """Share of healthy time of either side without a quote by the decision, by its reason."""

    @property
    def e5(self) -> float | None:
        return self.edges["5"]

    @property
    def value_an_hour(self) -> float:
        return self.value / self.hours if self.hours else 0.0

    def a_minute(self, count: int) -> float:
        return count / (self.hours * 60) if self.hours else 0.0


class Scorer:
    """One run, read once, scored over any windows."""

    def __init__(self, journal: JournalReader, run: RunRow, instrument: Instrument, columns: Columns) -> None:
        self._columns, self._instrument = columns, instrument
        self._fills: list[FillRow] = list(journal.fills(run.epoch))
        self._minutes: list[Minute] = list(journal.minutes(run.epoch))
        self._start_e10 = run.start_e10
        end_mono_ns, end_ts_ns = last_moment(journal, run)
        self._guard = guard_spans(run, journal.transitions(run.epoch), end_mono_ns, end_ts_ns)
        self._resting = _resting(journal, run.epoch, end_ts_ns)
        self._decisions = Decisions(journal, run.epoch, end_ts_ns)
        self._sent = _sent(journal, run.epoch)

    def score(self, window: Window, bounds: Bounds) -> Score:
        """Figures of one window. The run's clock is the recording's: it starts when that does."""
        unit = self._instrument.unit_e10 / E10
        fills = [fill for fill in self._fills if window.from_ns <= _at(fill) < window.to_ns]
        at_ns = np.array([_at(fill) for fill in fills], dtype=np.int64)
        side = np.array([int(fill.side) for fill in fills], dtype=np.float64)
        px = np.array([fill.px_ticks for fill in fills], dtype=np.float64)
        value = np.array([fill.px_ticks * fill.qty_lots for fill in fills], dtype=np.float64) * unit
        columns = self._columns
        before = columns.later(at_ns, columns.micro, columns.received_ns)

        def edge(horizon_s: int, prices: Floats, times_ns: Ints) -> Floats:
            later = columns.later(at_ns + horizon_s * NS, prices, times_ns)
            return side * (later - px) / before * _BPS

        edges = {str(h): edge(h, columns.micro, columns.received_ns) for h in HORIZONS_S}
        e5 = edges["5"]
        healthy = self._healthy(window)
        quoted = both(self._resting[Side.BUY], self._resting[Side.SELL])
        fresh = both(columns.fresh_ns(2 * NS), [(window.from_ns, window.to_ns)])
        printed_e10 = columns.printed_e10(window.from_ns, window.to_ns, self._instrument)
        at_cap_ns, largest, over_lots = self._position(window, bounds)
        pnl, parts, drawdown = self._money(window)
        return Score(
            hours=window.hours,
            fills=len(fills),
            taker_fills=sum(fill.liquidity is Liquidity.TAKER for fill in fills),
            value=float(value.sum()),
            tape_share=float(value.sum()) / (printed_e10 / E10) if printed_e10 else None,
            edges={name: weighted(each, value) for name, each in edges.items()},
            e5_mid=weighted(edge(5, columns.mid, columns.received_ns), value),
            e5_venue=weighted(edge(5, columns.micro, columns.venue_ns), value),
            effective=weighted(side * (before - px) / before * _BPS, value),
            unavailable=int(np.isnan(e5).sum()),
            sums=by_block(at_ns, value, e5, window),
            healthy_h=length(healthy) / NS / 3600,
            two_sided=_share(both(quoted, healthy), healthy),
            two_sided_tape=_share(both(quoted, fresh), fresh),
            at_cap=at_cap_ns / (window.to_ns - window.from_ns),
            max_position=largest,
            max_share=largest * E10 / bounds.cap_e10,
            over_cap_lots=over_lots,
            drawdown=drawdown,
            pnl=pnl,
            attribution=parts,
            orders=_within(self._sent["orders"], window),
            amends=_within(self._sent["amends"], window),
            cancels=_within(self._sent["cancels"], window),
            guard=_guard_shares(self._guard, window),
            absent=self._absences(healthy),
        )

    def _healthy(self, window: Window) -> Spans:
        spans = [(span.from_ts_ns, span.to_ts_ns) for span in self._guard if span.is_healthy]
        return both(union(spans), [(window.from_ns, window.to_ns)])

    def _position(self, window: Window, bounds: Bounds) -> tuple[int, float, int | None]:
        """(time at the cap in ns, largest value, most lots over the cap). A position is worth what it is at the last
        fill's price."""
        unit = self._instrument.unit_e10
        held = at_cap_ns = 0
        largest_e10 = 0
        over_lots: int | None = None
        value_e10, since_ns = 0, window.from_ns
        limit_e10 = bounds.cap_e10 - bounds.order_e10

        def close(now_ns: int) -> None:
            nonlocal at_cap_ns, since_ns
            until_ns = min(max(now_ns, window.from_ns), window.to_ns)
            if value_e10 >= limit_e10:
                at_cap_ns += until_ns - since_ns
            since_ns = max(since_ns, until_ns)

        for fill in self._fills:
            close(_at(fill))
            increases = fill.side * held >= 0
            held += fill.side * fill.qty_lots
            value_e10 = abs(held) * fill.px_ticks * unit
            if increases and window.from_ns <= _at(fill) < window.to_ns:
                largest_e10 = max(largest_e10, value_e10)
                over_lots = max(over_lots or 0, abs(held) - self._decisions.cap_lots(fill))
        close(window.to_ns)
        return at_cap_ns, largest_e10 / E10, over_lots

    def _money(self, window: Window) -> tuple[float | None, dict[str, float] | None, float | None]:
        """(PnL, its addends, drawdown) between the last minute at or before the window and the last one in it."""
        before = [minute for minute in self._minutes if minute.ts_ns < window.from_ns][-1:]
        inside = [minute for minute in self._minutes if window.from_ns <= minute.ts_ns <= window.to_ns]
        start_e10 = before[0].equity_e10 if before else self._start_e10
        if not inside or start_e10 is None or inside[-1].equity_e10 is None:
            return None, None, None
        zero = Attributed(*[0] * len(Attributed.__struct_fields__))
        begun = msgspec.structs.asdict(parts_of(before[0]) if before else zero)
        ended = msgspec.structs.asdict(parts_of(inside[-1]))
        parts = {name.removesuffix("_e10"): (ended[name] - begun[name]) / E10 for name in ended}
        peak_e10, fall_e10 = start_e10, 0
        for minute in inside:
            if minute.equity_e10 is not None:
                peak_e10 = max(peak_e10, minute.equity_e10)
                fall_e10 = max(fall_e10, peak_e10 - minute.equity_e10)
        return (inside[-1].equity_e10 - start_e10) / E10, parts, fall_e10 / E10

    def _absences(self, healthy: Spans) -> dict[str, float]:
        whole = 2 * length(healthy)
        if not whole:
            return {}
        times: dict[str, int] = {}
        for (_, why), spans in self._decisions.absent.items():
            times[why] = times.get(why, 0) + length(both(union(spans), healthy))
        return {why: ns / whole for why, ns in sorted(times.items(), key=lambda item: -item[1]) if ns}


def weighted(edge_bps: Floats, value: Floats) -> float | None:
    """Mean by value over what is known."""
    known = np.isfinite(edge_bps)
    whole = float(value[known].sum())
    return float((value[known] * edge_bps[known]).sum()) / whole if whole else None


def by_block(at_ns: Ints, value: Floats, edge_bps: Floats, window: Window) -> Sums:
    blocks = max(1, -(-(window.to_ns - window.from_ns) // window.block_ns))
    known = np.isfinite(edge_bps)
    place = (at_ns[known] - window.from_ns) // window.block_ns
    sums = np.bincount(place, weights=value[known], minlength=blocks)
    earned = np.bincount(place, weights=value[known] * edge_bps[known], minlength=blocks)
    return Sums(tuple(sums.tolist()), tuple(earned.tolist()))


def _at(fill: FillRow) -> int:
    return fill.ts_ns if fill.venue_ts_ns is None else fill.venue_ts_ns


def _share(part: Spans, whole: Spans) -> float | None:
    return length(part) / length(whole) if whole else None


def _within(times_ns: Ints, window: Window) -> int:
    return int(((times_ns >= window.from_ns) & (times_ns < window.to_ns)).sum())


def _sent(journal: JournalReader, epoch: int) -> dict[str, Ints]:
    queries = {
        "orders": "SELECT ts_ns FROM intents WHERE epoch = ? AND revision = 0",
        "amends": "SELECT ts_ns FROM intents WHERE epoch = ? AND revision > 0",
        "cancels": "SELECT ts_ns FROM cancels WHERE epoch = ?",
    }
    return {
        name: np.array([ts_ns for (ts_ns,) in journal.db.execute(query, (epoch,))], dtype=np.int64)
        for name, query in queries.items()
    }


def _resting(journal: JournalReader, epoch: int, end_ts_ns: int) -> dict[Side, Spans]:
    """When quotes of each side rested, as we heard it."""
    query = (
        "SELECT o.client_id, o.side, e.ts_ns, e.status FROM order_events e JOIN orders o USING (client_id) "
        "WHERE e.epoch = ? AND o.purpose = ? AND e.status NOT NULL ORDER BY e.seq, e.rowid"
    )
    begun: dict[str, tuple[int, int]] = {}
    spans: dict[Side, list[tuple[int, int]]] = {Side.BUY: [], Side.SELL: []}
    ended: set[str] = set()
    for client_id, side, ts_ns, status in journal.db.execute(query, (epoch, Purpose.QUOTE.value)):
        if OrderStatus(status).is_terminal:
            if client_id in begun:
                spans[Side(side)].append((begun.pop(client_id)[1], ts_ns))
            ended.add(client_id)
        elif status in _RESTS and client_id not in begun and client_id not in ended:
            begun[client_id] = side, ts_ns
    for side, ts_ns in begun.values():
        spans[Side(side)].append((ts_ns, end_ts_ns))
    return {side: union(each) for side, each in spans.items()}


_RESTS = frozenset({OrderStatus.LIVE.value, OrderStatus.PARTIAL.value})


def _guard_shares(guard: Sequence[GuardSpan], window: Window) -> dict[str, float]:
    shares: dict[str, float] = {}
    for span in guard:
        lasted_ns = min(span.to_ts_ns, window.to_ns) - max(span.from_ts_ns, window.from_ns)
        if lasted_ns <= 0:
            continue
        why = f": {', '.join(span.reasons)}" if span.state is not GuardState.RUNNING and span.reasons else ""
        name = f"{span.state.value}{why}"
        shares[name] = shares.get(name, 0.0) + lasted_ns / (window.to_ns - window.from_ns)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))
