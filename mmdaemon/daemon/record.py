"""What of an event and its step the journal keeps, and when a row may wait.

Intents, fills, bills, guard moves and operator actions are urgent: they ask for a commit of their own. Order events,
decisions, markouts and minutes ride the next one. Decisions are kept only where they changed, with all their inputs.
"""

import msgspec

from mmdaemon.core import guard, markout, position
from mmdaemon.core.commands import Cancel
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import (
    Bill,
    BookUpdate,
    Event,
    Fill,
    MarketDataRefused,
    MarkPrice,
    OperatorAction,
    OrderAdopted,
    OrderUpdate,
    Reconciled,
    RequestFailed,
    TimerFired,
    TradePrint,
)
from mmdaemon.core.observe import regime_in_force
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, Purpose, Side
from mmdaemon.daemon import learned
from mmdaemon.daemon.breaks import Ledger
from mmdaemon.daemon.markout_totals import MarkoutTotals
from mmdaemon.daemon.telemetry import Telemetry
from mmdaemon.journal import rows
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.statements import Row
from mmdaemon.journal.writer import JournalWriter

_encode = msgspec.msgpack.Encoder().encode
_MARKET = (BookUpdate, TradePrint, MarkPrice, MarketDataRefused)
_MINUTE_NS = 60 * NS
_CHECKPOINT_NS = 3600 * NS


class Recorder:
    """Turns events and steps into rows and hands them over. Called by the quoting controller, once an event."""

    def __init__(self, journal: JournalWriter, params: Params, chain: DecisionChain, ledger: Ledger) -> None:
        self._journal = journal
        self._params = params
        self._chain = chain
        self._ledger = ledger
        self._breaches: int | None = None
        self._verdicts: int | None = None
        self._minute = -1
        self._day = -1
        self._checkpoint_ns = 0
        self.decisions = 0
        self.markouts = MarkoutTotals()
        self.telemetry = Telemetry(params.bot_tag)

    def record(self, state: State, event: Event, step: Step) -> int:
        """Hand over what this event and its step leave behind. Returns the row number that intents wait for."""
        matured = markout.matured_in(state.markouts, state.seq)
        told = state.signals.outcomes_seq == state.seq
        if step is NOTHING and not matured and not told and isinstance(event, _MARKET):
            return 0
        self.telemetry.on_step(state, event, step)
        epoch = self._params.run_epoch
        kept: list[Row] = [rows.markout_row(epoch, state.seq, event.ts_ns, closed) for closed in matured]
        for closed in matured:
            self.markouts.add(closed)
        urgent = self._of_event(kept, state, event)
        urgent = self._of_step(kept, state, event, step) or urgent
        urgent = self._of_breaches(kept, state) or urgent
        self._of_verdicts(kept, state)
        urgent = self._of_signals(kept, state) or urgent
        if not kept:
            return 0
        return self._journal.put(kept, urgent=urgent)

    def _of_event(self, kept: list[Row], state: State, event: Event) -> bool:
        epoch, seq = self._params.run_epoch, state.seq
        match event:
            case Fill():
                mark = state.venue.mark_px_ticks or None
                fair0, row = markout.fair0_of(state.markouts, event.trade_id), regime_in_force(state)
                kept.append(
                    rows.fill_row(epoch, seq, event, self._params.instrument, mark, fair0_ticks=fair0, regime=row)
                )
                # In the same commit: a trade that nobody asked for is never booked without a word.
                kept.extend(self._ledger.on_fill(event, state.position.duplicate_fills, seq))
                return True
            case Bill():
                kept.append(rows.bill_row(epoch, seq, event, self._params.instrument.venue))
                return True
            case OrderUpdate() | OrderAdopted() | RequestFailed():
                kept.extend(rows.order_rows(epoch, seq, event))
                return isinstance(event, OrderAdopted)
            case Reconciled():
                kept.append(rows.reconciliation_row(epoch, seq, event))
                if event.venue_ts_ns is not None and not event.breaks:
                    kept.extend(read_until_of(event, epoch, seq))
                moved = self._ledger.on_reconciled(event, seq)
                kept.extend(moved)
                return bool(moved)
            case OperatorAction():
                kept.append(rows.operator_row(epoch, seq, event, "taken"))
                # After a resume fills are counted anew: those of before must not count again at the next start.
                resumed = event.action == "resume"
                kept.extend(checkpoint_of(state, self._params) if resumed else risk_of(state, self._params))
                return True
            case TimerFired():
                return self._of_time(kept, state)
            case _:
                return False

    def _of_step(self, kept: list[Row], state: State, event: Event, step: Step) -> bool:
        if step is NOTHING:
            return False
        epoch, seq = self._params.run_epoch, state.seq
        urgent = False
        if step.transition is not None:
            moved = step.transition
            now = (event.mono_ns, event.ts_ns)
            kept.append(rows.transition_row(epoch, seq, *now, moved.before, moved.after, moved.reasons))
            urgent = True
        if step.decision is not None and step.inputs is not None:
            seen, concluded = _encode(step.inputs), _encode(step.decision)
            now = (event.mono_ns, event.ts_ns)
            kept.append(self._chain.row(seq, *now, step.inputs.guard, step.inputs.regime, seen, concluded))
            self.decisions += 1
        for command in step.commands:
            kept.extend(rows.intent_rows(epoch, seq, command, event.ts_ns))
            urgent = urgent or not isinstance(command, Cancel)
        return urgent

    def _of_breaches(self, kept: list[Row], state: State) -> bool:
        """Breaches of the cancel budget count since the last resume, whatever happens to the process."""
        before, self._breaches = self._breaches, state.budgets.cancel_breaches
        if before is None or before == self._breaches:
            return False
        kept.extend(breaches_of(state, self._params))
        return True

    def _of_verdicts(self, kept: list[Row], state: State) -> None:
        """A tracker or a pull that moved goes on from there, whatever happens to the process."""
        before, self._verdicts = self._verdicts, state.quality.verdicts
        if before is not None and before != self._verdicts:
            kept.extend(learned_of(state, self._params))

    def _of_signals(self, kept: list[Row], state: State) -> bool:
        """What was taken is urgent: it holds on over a restart, a pause above all."""
        if state.signals.outcomes_seq != state.seq:
            return False
        now = (state.mono_ns, state.ts_ns)
        told = state.signals.outcomes
        kept.extend(rows.signal_row(self._params.run_epoch, state.seq, *now, outcome) for outcome in told)
        return any(outcome.what == "applied" for outcome in told)

    def _of_time(self, kept: list[Row], state: State) -> bool:
        """Once a minute a sample, the limits' slice and what fills taught; hourly the position. A day that turned is
        urgent: its opening equity is what the day's loss is measured from, whatever happens to the process."""
        if not state.venue.mark_px_ticks:
            return False
        turned = state.risk.day != self._day
        self._day = state.risk.day
        minute = state.ts_ns // _MINUTE_NS
        if minute == self._minute:
            if turned:  # the day turns a little later than the minute where the clock had to be read first
                kept.extend(risk_of(state, self._params))
            return turned
        self._minute = minute
        kept.append(rows.minute_row(minute_of(state, self._params)))
        if state.mono_ns - self._checkpoint_ns >= _CHECKPOINT_NS:
            self._checkpoint_ns = state.mono_ns
            kept.extend(checkpoint_of(state, self._params))
        else:
            kept.extend(risk_of(state, self._params))
            kept.extend(learned_of(state, self._params))
        return turned


def minute_of(state: State, params: Params) -> rows.Minute:
    """The minute's sample of what reports plot. Needs a mark; its addends foot to equity minus start at that mark."""
    held, mark = state.position, state.venue.mark_px_ticks
    orders = [o for o in state.orders.live.values() if o.purpose is Purpose.QUOTE and o.acked_ns and not o.ended_ns]
    bids = [o.px_ticks for o in orders if o.side is Side.BUY]
    asks = [o.px_ticks for o in orders if o.side is Side.SELL]
    parts = position.attribution(held, mark, state.markouts.impact_5s_e10)
    fees, funding = state.venue.fees, state.venue.funding
    return rows.Minute(
        epoch=params.run_epoch,
        ts_ns=state.ts_ns,
        mono_ns=state.mono_ns,
        seq=state.seq,
        guard=state.guard.state,
        regime=regime_in_force(state),
        position_lots=held.position_lots,
        mark_px_ticks=mark,
        bid_px_ticks=max(bids, default=None),
        ask_px_ticks=min(asks, default=None),
        equity_e10=position.equity_basis_e10(held, mark),
        spread_e10=parts.spread_e10,
        inventory_e10=parts.inventory_e10,
        impact_e10=parts.impact_e10,
        fees_e10=-parts.fees_e10,
        funding_e10=parts.funding_e10,
        transfers_e10=parts.transfers_e10,
        turnover_e10=held.turnover_e10,
        fills=held.buys + held.sells,
        book_healthy=guard.is_book_healthy(state),
        book_healthy_ns=guard.book_healthy_ns(state, state.mono_ns),
        fee_source=fees.source if fees else None,
        funding_rate=funding.rate if funding else None,
        funding_due_ts_ns=funding.next_ts_ns if funding else None,
    )


def checkpoint_of(state: State, params: Params) -> list[Row]:
    """The slices from which a restart goes on, with the fills that come after."""
    slices = {"position": _encode(state.position), "risk": _encode(state.risk)}
    slices["cancel_breaches"] = _encode(state.budgets.cancel_breaches)
    slices["learned"] = learned.kept_of(state)
    return rows.checkpoint_rows(params.run_epoch, state.seq, state.ts_ns, slices)


def learned_of(state: State, params: Params) -> list[Row]:
    """What fills taught so far: from here rows of `fills` and `markouts` are taken in again."""
    return rows.checkpoint_rows(params.run_epoch, state.seq, state.ts_ns, {"learned": learned.kept_of(state)})


def risk_of(state: State, params: Params) -> list[Row]:
    """The slice that the loss limits rest on: small, and kept often, so that a crash gives no loss back."""
    return rows.checkpoint_rows(params.run_epoch, state.seq, state.ts_ns, {"risk": _encode(state.risk)})


def read_until_of(event: Reconciled, epoch: int, seq: int) -> list[Row]:
    """Up to which time of the venue all is booked: where the next run goes on reading."""
    return rows.checkpoint_rows(epoch, seq, event.ts_ns, {"read_until": _encode(event.venue_ts_ns)})


def opened_of(params: Params, ts_ns: int, opened_ns: int) -> list[Row]:
    """When the account was first read, by the venue's clock: what is older is in its opening equity."""
    return rows.checkpoint_rows(params.run_epoch, 0, ts_ns, {"opened": _encode(opened_ns)})


def breaches_of(state: State, params: Params) -> list[Row]:
    """How often the cancel budget broke."""
    slices = {"cancel_breaches": _encode(state.budgets.cancel_breaches)}
    return rows.checkpoint_rows(params.run_epoch, state.seq, state.ts_ns, slices)
