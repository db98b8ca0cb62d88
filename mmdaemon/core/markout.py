"""What each fill was worth later, and what that says of the next one: adverse selection per regime and side.

For a fill of side s at price p, M0 = F of the last healthy book before it and M_h = F of the last healthy book that
was received h seconds after it or before, both over M0. F is the micro-price (`fair_value.py`), without the signal:

    effective = s * (M0 - p),   impact_h = s * (M_h - M0),   markout_h = effective + impact_h            [bps]
    net_h = markout_h - fee
    adverse(s) = min(cap, max(0, -mean impact_5s * n / (n + n0)))

h is 1, 5, 30 and 60 s of the monotonic clock after the fill was received. A horizon is closed by the first book, timer
or break of the public stream after its moment, with the book from before that: exactly, however late it is closed. If
that book was older at the moment than the guard lets a book be, or there was none, the horizon is unavailable and
counted, never taken as zero. So is one that came due while nobody looked. A fill that was told later than that limit
(by the venue's clock), or before any book, has no M0 and no markouts: it is counted in `unpriced`.

Mean and n are those of `fading.py`, per regime and side, averaged, with the constant `adverse_tau_ns`; n counts what is
still remembered at the last fill. Without fills adverse(s) therefore falls by e in each tau, exactly. Every fill is
valued; learned from are those of resting orders only (not a taking slice, not what the venue did to us).
"""

from typing import NamedTuple

import msgspec

from mmdaemon.core import book as book_rules
from mmdaemon.core import fading, fair_value
from mmdaemon.core.book import Book
from mmdaemon.core.events import Fill
from mmdaemon.core.fading import FadingMean
from mmdaemon.core.params import CostParams, Params
from mmdaemon.core.types import BPS, NEVER_NS, NS, ExecKind, Instrument, Liquidity, Regime, Side

HORIZONS_S = (1, 5, 30, 60)
_ADVERSE_HORIZON_S = 5


class Watched(msgspec.Struct, frozen=True, gc=False):
    """A fill, with what was seen when it came."""

    trade_id: str
    side: Side
    regime: Regime
    mono_ns: int
    fair0_ticks: float
    """M0."""
    px_ticks: int
    qty_lots: int
    fee_bps: float
    """As charged; negative is a rebate."""
    is_maker: bool
    """An order of ours that rested was hit: what is learned from."""


class Markout(msgspec.Struct, frozen=True, gc=False):
    """One horizon of one fill, in bps of M0. None is unavailable."""

    fill: Watched
    horizon_s: int
    fair_ticks: float | None
    """M_h."""

    @property
    def due_ns(self) -> int:
        return self.fill.mono_ns + self.horizon_s * NS

    @property
    def effective_bps(self) -> float:
        fill = self.fill
        return fill.side * (fill.fair0_ticks - fill.px_ticks) / fill.fair0_ticks / BPS

    @property
    def impact_bps(self) -> float | None:
        fill = self.fill
        if self.fair_ticks is None:
            return None
        return fill.side * (self.fair_ticks - fill.fair0_ticks) / fill.fair0_ticks / BPS

    @property
    def markout_bps(self) -> float | None:
        impact = self.impact_bps
        return None if impact is None else self.effective_bps + impact

    @property
    def net_bps(self) -> float | None:
        markout = self.markout_bps
        return None if markout is None else markout - self.fill.fee_bps


class Pending(msgspec.Struct):
    """A fill some of whose horizons are not closed yet."""

    fill: Watched
    next_horizon: int = 0

    @property
    def due_ns(self) -> int:
        return self.fill.mono_ns + HORIZONS_S[self.next_horizon] * NS


class Markouts(msgspec.Struct):
    """The slice. Changed only by the functions below."""

    pending: list[Pending] = []
    next_due_ns: int = NEVER_NS
    """Of all that is pending: until then a book has nothing to close."""
    matured: tuple[Markout, ...] = ()
    """What the event `matured_seq` closed, unavailable ones too, in the order of their moments: rows of the journal.
    Read it by `matured_in`."""
    matured_seq: int = -1
    impacts: dict[tuple[Regime, Side], FadingMean] = {}
    unavailable: int = 0
    unpriced: int = 0
    """Fills without an M0: they have no markout."""
    impact_5s_e10: int = 0
    """Sum over fills of the money that the price moved against (-) or for (+) us within 5 s: the impact of
    attribution."""


class Held(NamedTuple):
    """F of the last healthy book, and from when until when, on the monotonic clock, it is one: [from, until)."""

    fair_ticks: float | None
    from_ns: int
    until_ns: int


def held(book: Book, params: Params) -> Held:
    """What horizons are valued with. To be asked before a book is applied or dropped."""
    fair = fair_value.fair_value_ticks(book, params.quotes.depth_levels)
    return Held(fair, book.healthy_mono_ns, book_rules.stale_at_ns(book, params.guard.book_age_max_ns))


def on_fill(
    markouts: Markouts, fill: Fill, fair_ticks: float | None, regime: Regime, instrument: Instrument, late_ns: int
) -> None:
    """Begin the horizons of a fill. One that was told more than `late_ns` after it happened has no M0: the book of then
    is gone."""
    told_late = fill.venue_ts_ns is not None and fill.ts_ns - fill.venue_ts_ns > late_ns
    watch(markouts, fill, None if told_late else fair_ticks, regime, instrument)


def watch(markouts: Markouts, fill: Fill, fair0_ticks: float | None, regime: Regime, instrument: Instrument) -> None:
    """Begin the horizons of a fill with this M0: one that comes, or one of the journal."""
    if fair0_ticks is None:
        markouts.unpriced += 1
        return
    fee_bps = fill.fee_e10 / instrument.notional_e10(fill.px_ticks, fill.qty_lots) / BPS
    is_maker = fill.liquidity is Liquidity.MAKER and fill.exec_kind is ExecKind.TRADE
    watched = Watched(
        fill.trade_id,
        fill.side,
        regime,
        fill.mono_ns,
        fair0_ticks,
        fill.px_ticks,
        fill.qty_lots,
        fee_bps,
        is_maker,
    )
    pending = Pending(watched)
    markouts.pending.append(pending)
    markouts.next_due_ns = min(markouts.next_due_ns, pending.due_ns)


def fair0_of(markouts: Markouts, trade_id: str) -> float | None:
    """M0 of the fill that came last; None where it has none, or this is not it."""
    last = markouts.pending[-1].fill if markouts.pending else None
    return last.fair0_ticks if last is not None and last.trade_id == trade_id else None


def close(markouts: Markouts, now_ns: int, book: Held, seq: int) -> tuple[Markout, ...]:
    """Close every horizon whose moment is before `now_ns`. They are in `matured` until event `seq` is over."""
    closed: list[Markout] = []
    for pending in markouts.pending:
        while pending.next_horizon < len(HORIZONS_S) and pending.due_ns < now_ns:
            is_healthy = book.from_ns <= pending.due_ns < book.until_ns
            horizon_s = HORIZONS_S[pending.next_horizon]
            closed.append(Markout(pending.fill, horizon_s, book.fair_ticks if is_healthy else None))
            pending.next_horizon += 1
    _forget_ended(markouts)
    # However many were due: what is learned from them does not depend on which event closed them.
    closed.sort(key=lambda each: each.due_ns)
    markouts.matured, markouts.matured_seq = tuple(closed), seq
    return markouts.matured


def matured_in(markouts: Markouts, seq: int) -> tuple[Markout, ...]:
    """What the event `seq` closed; nothing for any but the last."""
    return markouts.matured if markouts.matured_seq == seq else ()


def close_again(markouts: Markouts, trade_id: str, horizon_s: int, fair_ticks: float | None) -> Markout | None:
    """A horizon that was closed before a restart, out of the journal. None where that fill waits for no such one."""
    for pending in markouts.pending:
        if pending.fill.trade_id == trade_id and HORIZONS_S[pending.next_horizon] == horizon_s:
            pending.next_horizon += 1
            _forget_ended(markouts)
            return Markout(pending.fill, horizon_s, fair_ticks)
    return None


def learn(markouts: Markouts, closed: Markout, unit_e10: int, params: CostParams) -> None:
    """What one closed horizon says, as of its own moment: live, and again after a restart."""
    impact = closed.impact_bps
    if impact is None or closed.fair_ticks is None:
        markouts.unavailable += 1
        return
    if closed.horizon_s != _ADVERSE_HORIZON_S:
        return
    fill = closed.fill
    move_ticks = fill.side * (closed.fair_ticks - fill.fair0_ticks)
    markouts.impact_5s_e10 += round(move_ticks * fill.qty_lots * unit_e10)
    if fill.is_maker:
        seen = markouts.impacts.setdefault((fill.regime, fill.side), FadingMean())
        fading.learn(seen, impact, closed.due_ns, params.adverse_tau_ns, averaged=True)


def adverse_bps(markouts: Markouts, regime: Regime, side: Side, now_ns: int, params: CostParams) -> float:
    """Expected adverse move after a fill, in bps, at least 0: an addend of the required edge."""
    seen = markouts.impacts.get((regime, side))
    if seen is None:
        return 0.0
    mean = fading.value_at(seen, now_ns, params.adverse_tau_ns)
    return min(params.adverse_cap_bps, max(0.0, -mean * seen.count / (seen.count + params.adverse_prior_fills)))


def rebase(markouts: Markouts, by_ns: int, now_ns: int) -> None:
    """Onto the monotonic clock of another process. Nothing came after `now_ns`."""
    for pending in markouts.pending:
        moved_ns = min(pending.fill.mono_ns + by_ns, now_ns)
        pending.fill = msgspec.structs.replace(pending.fill, mono_ns=moved_ns)
    for impact in markouts.impacts.values():
        fading.rebase(impact, by_ns, now_ns)
    markouts.matured_seq = -1
    _forget_ended(markouts)


def _forget_ended(markouts: Markouts) -> None:
    # Wherever they stand: one that is stamped wrong must not keep all that came after it.
    markouts.pending = [each for each in markouts.pending if each.next_horizon < len(HORIZONS_S)]
    markouts.next_due_ns = min((each.due_ns for each in markouts.pending), default=NEVER_NS)
