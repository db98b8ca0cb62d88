"""How a run begins: with which state, by what the journal knows, and with which of the facts that the venue tells."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core import apply as core_apply
from mmdaemon.core.events import Bill, Event, Fill
from mmdaemon.core.limits import Budgets
from mmdaemon.core.params import Params
from mmdaemon.core.position import Position
from mmdaemon.core.state import Risk, State, new_state
from mmdaemon.core.types import Purpose
from mmdaemon.daemon import learned
from mmdaemon.daemon.gate import Gate
from mmdaemon.journal.connection import Connection
from mmdaemon.journal.recovery import KILLED_BY_JOURNAL, JournalUnreadable, Recovered, RecoveryRefused, read_latch
from mmdaemon.journal.rows import NOT_STARTED, run_ended_row
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.venues.base import VenueUnavailable

T = TypeVar("T")


def first_gate(directory: StateDir) -> Gate:
    """Closed where a latch is: read before anything at all is asked of the venue."""
    latch = read_latch(directory)
    return Gate(f"kill: {'; '.join(latch.sources)}" if latch.closed else "")


@asynccontextmanager
async def attempted(recovered: Recovered, connection: Connection, clock: Clock) -> AsyncGenerator[None]:
    """A run that the venue does not let in, or that may not go on with this journal, has sent nothing: it is no crash,
    and it leaves things as clean as it found them."""
    try:
        yield
    except (VenueUnavailable, RecoveryRefused) as error:
        ended = (clock.mono_ns(), clock.wall_ns(), recovered.clean_start, f"{NOT_STARTED}{error}")
        await connection.commit([run_ended_row(recovered.epoch, *ended)])
        raise


def first_state(recovered: Recovered, params: Params, start_e10: int, mono_ns: int, ts_ns: int) -> State:
    """Equity at the start, the last checkpoint, what was booked after it, and every order that had not ended.

    Raises:
        JournalUnreadable: a slice of the checkpoint is damaged; treat as KILLED.
    """
    state = new_state(params, start_e10)
    state.mono_ns, state.ts_ns = mono_ns, ts_ns
    if recovered.checkpoint is not None:
        state.position = _slice(recovered.checkpoint.slices["position"], Position)
    if recovered.risk is not None:
        state.risk = _slice(recovered.risk, Risk)
        # Of a boot that is over it would lie in the future, and the size stay reduced until then.
        state.risk.resumed_ns = min(state.risk.resumed_ns, mono_ns)
    for fact in recovered.facts:
        # Booked already, so it goes past the journal; into the same slices by the same rules. It is as old as UTC
        # says: its monotonic time may be of another boot.
        aged = msgspec.structs.replace(fact.event, mono_ns=mono_ns - ts_ns + fact.event.ts_ns)
        counted = state.budgets
        if fact.purpose not in (None, Purpose.QUOTE):
            state.budgets = Budgets()  # it counts towards none of the limits, see `limits.on_fill`
        core_apply.apply(state, aged, params)
        state.budgets = counted
    # They came in when they were journaled, whatever the guard was then; what counts as new is what comes from here on.
    state.guard.fills_not_quoting = 0
    state.budgets.cancel_breaches = recovered.cancel_breaches
    # What the venue counts, it counts over a restart. By UTC; a time that a clock made up is now.
    state.budgets.messages_ns.extend(mono_ns - max(0, ts_ns - sent_ts_ns) for sent_ts_ns in recovered.messages_ts_ns)
    for order in recovered.orders:
        core_apply.apply(state, order, params)
    for said in recovered.signals:
        core_apply.apply(state, said, params)
    try:
        learned.restore(state, recovered.learned, params)  # instead of what the facts above made of it, without a book
    except msgspec.DecodeError as error:
        raise JournalUnreadable(f"what the journal kept of fills is damaged: {error}. {KILLED_BY_JOURNAL}") from error
    return state


def _slice(blob: bytes, kind: type[T]) -> T:
    try:
        return msgspec.msgpack.decode(blob, type=kind)
    except msgspec.DecodeError as error:
        raise JournalUnreadable(f"the journal's {kind.__name__} is damaged: {error}. {KILLED_BY_JOURNAL}") from error


class Door:
    """From the venue into the inbox, but for what was traded or paid before the account was first read: that is in its
    opening equity, however late the stream tells of it."""

    def __init__(self, post: Callable[[Event], None]) -> None:
        self._post = post
        self._early: list[Fill | Bill] = []
        self.opened_ns = 0
        """When the account was first read, by the venue's clock; 0 until that is known, and such facts wait."""

    def deliver(self, event: Event) -> None:
        if type(event) is Fill or type(event) is Bill:
            if not self.opened_ns:
                self._early.append(event)
                return
            if event.venue_ts_ns is not None and event.venue_ts_ns < self.opened_ns:
                return
        self._post(event)

    def let_in(self) -> None:
        """What waited."""
        early, self._early = self._early, []
        for event in early:
            self.deliver(event)
