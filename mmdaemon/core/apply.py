"""apply(): one fact into the slices that it concerns, and a mark on what must be decided or guarded anew.

Between timers, books, prints and marks change only integers that fold. Floats change at timers, closed bars, fills,
bills and funding rates, and whatever depends on time is sampled at `TimerFired`. Nothing here decides anything.
"""

from typing import assert_never

from mmdaemon.core import (
    bars,
    book,
    cost,
    derisk,
    edge_gate,
    fair_value,
    features,
    figures,
    fill_quality,
    limits,
    markout,
    orders,
    position,
    reasons,
    regime,
    risk,
    sampled,
    signal,
    signals,
)
from mmdaemon.core import guard as guard_rules
from mmdaemon.core.events import (
    RATE_LIMITED,
    UNSENT,
    AccountHint,
    AccountSnapshot,
    BarClosed,
    Bill,
    BookUpdate,
    Event,
    FeeSchedule,
    Fill,
    FundingRate,
    HealthFacts,
    KillChanged,
    LinkChanged,
    MarketDataRefused,
    MarkPrice,
    OperatorAction,
    OrderAdopted,
    OrderUpdate,
    Reconciled,
    RequestFailed,
    SignalReceived,
    SignalRefused,
    SourceChanged,
    SourceEnded,
    Started,
    StopRequested,
    TaskDied,
    TimerFired,
    TradePrint,
)
from mmdaemon.core.observe import observe, regime_in_force
from mmdaemon.core.params import Params
from mmdaemon.core.state import Dirty, State
from mmdaemon.core.types import BPS, NS, GuardState, KillState, Link, OrderStatus, Purpose, Side

_BOOK_BIT = reasons.BIT[reasons.Reason.BOOK]
_MARK_BIT = reasons.BIT[reasons.Reason.MARK]
_NO_FACTS_BIT = reasons.BIT[reasons.Reason.NO_FACTS]
_FUNDING_STALE_NS = 600 * NS
"""A predicted rate is of one settlement. So long after it nobody has told of the next: it is no rate any more."""


def apply(state: State, event: Event, params: Params) -> None:
    """Fold `event` into `state`. Marks `state.dirty` and `state.guard.dirty` for whatever depends on it."""
    if state.mono_ns >= state.signals.due_ns:
        _on_effect(state, signals.on_time(state.signals, state.mono_ns, state.seq, params.signals), params)
    match event:
        case BookUpdate():
            _on_book(state, event, params)
        case TradePrint():
            if not book.on_trade(state.book, event):
                signal.on_trade(state.signal, event, state.book, params.signal)
                if params.features:
                    features.on_trade(state.features, event)
        case MarkPrice():
            _on_mark(state, event.px_ticks, event.mono_ns, params)
        case TimerFired():
            _on_timer(state, event, params)
        case OrderUpdate():
            if orders.on_update(state.orders, event):
                if event.status is OrderStatus.REJECTED:  # one that is told again pauses nothing again
                    _on_refusal(state, event.reason, event.mono_ns)
                state.dirty |= Dirty.ORDERS
                state.guard.dirty = True
        case RequestFailed():
            _on_refusal(state, event.reason, event.mono_ns)
            if orders.on_request_failed(state.orders, event):
                state.dirty |= Dirty.ORDERS
        case OrderAdopted():
            orders.on_adopted(state.orders, event)
            state.dirty |= Dirty.ORDERS
        case Fill():
            _on_fill(state, event, params)
        case Bill():
            if position.on_bill(state.position, event):
                _sample_risk(state, params)
        case BarClosed():
            if not bars.on_bar(state.bars, event):
                _on_closed_bar(state, params)
        case FundingRate():
            # A rate that cannot be is no rate: what it was before does not make it known.
            state.venue.funding = event if figures.is_funding(event) else None
            state.guard.dirty = True
            _sample_costs(state, params)
        case FeeSchedule():
            fees = event if all(map(figures.is_rate, (event.maker_rate, event.taker_rate))) else None
            cost.on_schedule(state.venue.charged, state.venue.fees, fees)
            state.venue.fees = fees
            state.guard.dirty = True
            state.dirty |= Dirty.COSTS
        case AccountSnapshot():
            # Neither does an account that cannot be: NaN is below no limit.
            state.venue.account = event if figures.is_account(event) else None
            state.guard.dirty = True
            if state.venue.account is event and event.mono_ns > state.venue.mark_ns:
                _on_mark(state, event.mark_px_ticks, event.mono_ns, params)
        case AccountHint():
            pass  # no truth: whoever reads acts on it
        case HealthFacts():
            _on_health(state, event)
        case LinkChanged():
            _on_link(state, event, params)
        case MarketDataRefused():
            book.on_refused(state.book, event.reason)
        case Reconciled():
            _on_reconciled(state, event)
        case OperatorAction():
            _on_operator(state, event, params)
        case KillChanged():
            state.facts.kill, state.facts.kill_reason = event.state, event.reason
            state.guard.dirty = True
        case Started():
            state.facts.started = True
            state.guard.latched = state.guard.latched or event.latched
            state.guard.dirty = True
        case TaskDied():
            state.facts.dead_tasks = (*state.facts.dead_tasks, event.task)
            state.guard.dirty = True
        case SourceEnded():
            state.facts.source_ended = True
            state.guard.dirty = True
        case SignalReceived():
            _on_effect(state, signals.receive(state.signals, event, state.seq, params.signals), params)
        case SignalRefused():
            signals.refused(state.signals, event, state.seq, params.signals)
        case SourceChanged():
            _on_effect(state, signals.changed(state.signals, event, state.seq, params.signals), params)
        case StopRequested():
            state.facts.stop_reason = event.reason or "asked"
            state.guard.dirty = True
        case _:
            assert_never(event)


def _on_book(state: State, event: BookUpdate, params: Params) -> None:
    if not state.venue.public_up:
        # It was on its way when the link fell, and is of before the next one.
        book.on_refused(state.book, "link_down")
        return
    before = markout.held(state.book, params) if event.mono_ns > state.markouts.next_due_ns else None
    refused = book.on_book(state.book, event)
    if refused:
        return
    if before is not None:
        _close_markouts(state, before, params)
    if state.guard.active & _BOOK_BIT:
        # The one event that cures a stale book. Missing it would hide every order behind a guard that never looks
        # again.
        state.guard.dirty = True
    signal.on_book(state.signal, state.book, event.mono_ns, params.signal)
    if params.features:
        features.on_book(state.features, state.book, event.mono_ns)
    closed = bars.on_mid(state.bars, state.book.bid_px + state.book.ask_px, event.ts_ns)
    if closed is not None:
        _on_closed_bar(state, params)


def _on_mark(state: State, px_ticks: int, mono_ns: int, params: Params) -> None:
    """The venue's mark, streamed or read with the account. The loss limits see it at the next timer, fill or bill."""
    if not position.on_mark(state.position, px_ticks, params.instrument):
        return
    state.venue.mark_px_ticks, state.venue.mark_ns = px_ticks, mono_ns
    if state.guard.active & _MARK_BIT:
        state.guard.dirty = True  # as in `_on_book`: this cures it, and nothing else has the guard look again


def _on_health(state: State, event: HealthFacts) -> None:
    before = state.facts.health
    state.facts.health = event
    # The same again only puts off the deadline by which the next must come; the guard looks then, and finds it put off.
    if (
        before is None
        or event.loop_lag_s != before.loop_lag_s
        or event.clock_offset_s != before.clock_offset_s
        or event.journal_age_s != before.journal_age_s
        or event.journal_failed is not before.journal_failed
        or event.account_facts_ok is not before.account_facts_ok
        or event.unprotected_s != before.unprotected_s
        or state.guard.active & _NO_FACTS_BIT
    ):
        state.guard.dirty = True


def _on_fill(state: State, fill: Fill, params: Params) -> None:
    if not position.on_fill(state.position, fill, params.instrument):
        return
    order = state.orders.live.get(fill.client_id)
    if order is None or order.purpose is Purpose.QUOTE:
        limits.on_fill(state.budgets, fill)
    orders.on_fill(state.orders, fill)
    cost.on_charged(state.venue.charged, fill, params.instrument.unit_e10, state.venue.fees)
    if cost.is_own(fill, params.bot_tag):
        cost.on_traded(state.venue.taken, fill, params.instrument.unit_e10)
    state.guard.fills_not_quoting += state.guard.state not in guard_rules.QUOTING
    fair = fair_value.fair_value_ticks(state.book, params.quotes.depth_levels)
    late_ns = params.guard.book_age_max_ns
    markout.on_fill(state.markouts, fill, fair, regime_in_force(state), params.instrument, late_ns)
    state.dirty |= Dirty.POSITION
    state.guard.dirty = True
    _sample_risk(state, params)


def _close_markouts(state: State, before: markout.Held, params: Params) -> None:
    """Horizons that ended before this event, by the book of then. What they say is judged and sampled at timers."""
    for closed in markout.close(state.markouts, state.mono_ns, before, state.seq):
        markout.learn(state.markouts, closed, params.instrument.unit_e10, params.cost)
        fill_quality.learn(state.quality, closed, params.quality)


def _on_timer(state: State, event: TimerFired, params: Params) -> None:
    """Once a second: everything that depends on time."""
    now = event.mono_ns
    if book.is_healthy(state.book, now, params.guard.book_age_max_ns):
        mid_x2 = state.book.bid_px + state.book.ask_px
        bars.sample_mid(state.bars, mid_x2, now)
        if sampled.on_mid(state.sampled, mid_x2, now):
            state.dirty |= Dirty.RISK
    if now > state.markouts.next_due_ns:
        _close_markouts(state, markout.held(state.book, params), params)
    fees = state.venue.fees
    maker_bps = cost.maker_rate(fees, state.venue.charged) / BPS if fees else None
    if fill_quality.on_timer(state.quality, now, maker_bps, params.cost.min_edge_bps, params.quality):
        state.dirty |= Dirty.COSTS
    if regime.on_timer(state.detector, state.bars, now, params):
        state.dirty |= Dirty.REGIME
    risk.roll_day(state, params)
    risk.sample(state)
    if derisk.on_timer(state, params, blocked=bool(state.guard.active & reasons.INCREASE_MASK)):
        state.dirty |= Dirty.RISK
    funding = state.venue.funding
    if funding is not None and event.ts_ns > funding.next_ts_ns + _FUNDING_STALE_NS:
        state.venue.funding = None
    _sample_costs(state, params)
    _look_at_the_gate(state, params)
    if sampled.on_second(state, params):
        state.dirty |= Dirty.RISK
    if _is_ladder_due(state):
        state.dirty |= Dirty.REFRESH
    state.guard.dirty = True


def _sample_risk(state: State, params: Params) -> None:
    """Equity for limits and sizes, and the costs that rest on it."""
    if sampled.sample_risk(state):
        state.dirty |= Dirty.RISK
    _sample_costs(state, params)
    state.guard.dirty = True


def _sample_costs(state: State, params: Params) -> None:
    if sampled.sample_costs(state, params):
        state.dirty |= Dirty.COSTS


def _look_at_the_gate(state: State, params: Params) -> None:
    """What a quote must earn on each side, against the widest spread of the regime. Unknown fees open nothing."""
    if state.venue.fees is None:
        return
    seen = observe(state, params)
    buy, sell = (cost.required_edge(side, seen, params.cost).total_bps for side in (Side.BUY, Side.SELL))
    most_bps = params.regimes[seen.regime].spread_max_bps
    if edge_gate.on_timer(state.gate, buy, sell, most_bps, state.mono_ns, params.gate):
        state.dirty |= Dirty.COSTS


def _is_ladder_due(state: State) -> bool:
    """Whether a resting quote is old enough to be moved, or the last decision could not be carried out in full yet."""
    decision = state.decision
    if decision is None:
        return True
    wanted = len(decision.quotes)
    for order in state.orders.live.values():
        if order.purpose is not Purpose.QUOTE:
            continue
        if state.mono_ns - order.priced_ns >= decision.refresh_ns:
            return True
        for quote in decision.quotes:
            if quote.side is order.side and quote.lo_px_ticks <= order.px_ticks <= quote.hi_px_ticks:
                wanted -= 1
                break
        else:
            return True
    return wanted != 0


def _on_closed_bar(state: State, params: Params) -> None:
    if regime.on_bar(state.detector, state.bars, state.mono_ns, params):
        state.dirty |= Dirty.REGIME
    _sample_risk(state, params)


def _on_effect(state: State, changed: bool, params: Params) -> None:
    """Signals from outside came, lost weight or ended. What pauses is the guard's to say."""
    if not changed:
        return
    state.dirty |= Dirty.SIGNALS
    state.guard.dirty = True
    _sample_costs(state, params)  # which are of the regime in force


def _on_refusal(state: State, reason: str, mono_ns: int) -> None:
    if reason == RATE_LIMITED:
        limits.on_rate_refusal(state.budgets, state.orders.taken, mono_ns)
        state.guard.dirty = True
    elif reason.startswith(UNSENT):
        limits.on_unsent(state.budgets, mono_ns)


def _on_link(state: State, event: LinkChanged, params: Params) -> None:
    venue = state.venue
    match event.link:
        case Link.PUBLIC:
            venue.public_up = event.up
            if state.mono_ns > state.markouts.next_due_ns:
                _close_markouts(state, markout.held(state.book, params), params)
            # What was seen before a reconnect is not a book any more.
            book.invalidate(state.book)
            signal.forget(state.signal)
            features.forget(state.features)
        case Link.PRIVATE:
            venue.private_up = event.up
            if not event.up:
                venue.private_down_ns = venue.private_down_ns or event.mono_ns
        case _:
            assert_never(event.link)
    state.guard.dirty = True


def _on_reconciled(state: State, event: Reconciled) -> None:
    facts = state.facts
    facts.breaks = event.breaks
    if event.breaks:
        facts.bad_reconciles += not event.mending
    else:
        facts.bad_reconciles = 0
        facts.reconciled_ns = event.mono_ns
        if state.venue.private_up:
            state.venue.private_down_ns = 0
            state.guard.reconciled = True
    state.guard.dirty = True


def _on_operator(state: State, event: OperatorAction, params: Params) -> None:
    facts = state.facts
    match event.action:
        case "pause":
            facts.pause_reason = event.reason or "operator"
        case "resume":
            facts.pause_reason = ""
            if state.guard.state is GuardState.HARD_STOP:
                facts.kill, facts.kill_reason = KillState.ARMED, ""
                facts.bad_reconciles = 0
                state.orders.reject_streak = 0
                limits.on_resume(state.budgets)
                state.risk.resumed_ns = event.mono_ns
                state.risk.peak_e10 = state.risk.equity_e10
                # Not left to the next timer: it may be RUNNING before that.
                state.sampled.size_share = sampled.size_share(state, params)
                state.dirty |= Dirty.RISK
                guard_rules.resume(state)
        case "kill":
            facts.kill, facts.kill_reason = KillState.KILLING, event.reason
        case _:
            raise ValueError(f"no such operator action: {event.action!r}")
    state.guard.dirty = True
