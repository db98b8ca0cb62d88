"""The guard: whether the daemon may quote, may only reduce, must be quiet, or has stopped for good.

    STARTING -> RECONCILING -> RUNNING <-> REDUCING <-> SOFT_PAUSE          each of these three -> RECONCILING
    (private gap)
    any -> HARD_STOP -> (an operator's resume) -> RECONCILING               any -> STOPPING

Everything is in two tables. `reasons.RULES` has one row a reason: who owns it, what it blocks, the condition, and
what cures it. `TRANSITIONS` has every move there is. A reason is raised by its condition and by nothing else, and
cleared when its own condition has been cured for `soft_clear_ns`: no event clears another's reason. A hard reason
latches: the condition may go away, HARD_STOP stays until an operator resumes with a reason.

A condition returns whether it holds now, and the next moment at which that may change with no event at all. So the
guard is evaluated when something it depends on happened or that moment came (`Guard.deadline_ns`, which the guard
actor waits for), and not at every book. `reasons.full` evaluates everything; test builds compare it with the
incremental result at every event.
"""

from typing import TYPE_CHECKING

import msgspec

from mmdaemon.core import book, signals
from mmdaemon.core.absence import absences, figures
from mmdaemon.core.observe import blocked_why
from mmdaemon.core.params import Params
from mmdaemon.core.reasons import ALL_MASK, BIT, HARD_MASK, INCREASE_MASK, RULES, Reason, full, reasons_of
from mmdaemon.core.types import NEVER_NS, NS, GuardState, Side

if TYPE_CHECKING:
    from mmdaemon.core.state import State


class Transition(msgspec.Struct, frozen=True, gc=False):
    """The guard moved, at an event's time, for these reasons (empty: all clear)."""

    before: GuardState
    after: GuardState
    reasons: tuple[Reason, ...]


class Guard(msgspec.Struct):
    """The guard's slice. `raw` is what holds now, `active` what counts: raw, plus what was cured too recently."""

    state: GuardState = GuardState.STARTING
    raw: int = 0
    active: int = 0
    cured_ns: dict[int, int] = msgspec.field(default_factory=dict)
    """Bit of a soft reason -> when it was cured."""
    latched: bool = False
    reconciled: bool = False
    """Whether venue truth was read and found clean since the last gap."""
    deadline_ns: int = 0
    """The next moment at which something may change without an event."""
    dirty: bool = True
    entered_ns: int = 0
    spent_ns: dict[GuardState, int] = msgspec.field(default_factory=dict)
    """Time spent in each state, up to `entered_ns`."""
    fills_not_quoting: int = 0
    """Fills that came in while nothing was to rest: what traded before its cancel arrived."""
    book_turned_ns: int = 0
    """When the book's health last turned; 0 = there was none to turn."""
    book_healthy_ns: int = 0
    """Time with a healthy book, up to that turn."""


_BOOK = BIT[Reason.BOOK]
QUOTING = (GuardState.RUNNING, GuardState.REDUCING)
"""Where quotes may rest."""
_S = GuardState
TRANSITIONS: frozenset[tuple[GuardState, GuardState]] = frozenset(
    {
        (a, b)
        for a in (_S.RUNNING, _S.REDUCING, _S.SOFT_PAUSE)
        for b in (_S.RUNNING, _S.REDUCING, _S.SOFT_PAUSE)
        if a is not b
    }
    | {(a, _S.RECONCILING) for a in (_S.STARTING, _S.RUNNING, _S.REDUCING, _S.SOFT_PAUSE, _S.HARD_STOP)}
    | {(_S.RECONCILING, b) for b in (_S.RUNNING, _S.REDUCING, _S.SOFT_PAUSE)}
    | {(a, _S.HARD_STOP) for a in _S if a not in (_S.HARD_STOP, _S.STOPPING)}
    | {(a, _S.STOPPING) for a in _S if a is not _S.STOPPING}
)


def evaluate(state: "State", now_ns: int, params: Params) -> Transition | None:
    """Evaluate if it is due and move if the tables say so. Called at every event, before anything is decided."""
    guard = state.guard
    if not guard.dirty and now_ns < guard.deadline_ns:
        return None
    guard.dirty = False
    before = guard.raw
    guard.raw, deadline = full(state, now_ns, params)
    if (before ^ guard.raw) & _BOOK:
        _turn_book(guard, now_ns)
    down_ns = state.venue.private_down_ns
    if down_ns:
        gap_at = down_ns + params.guard.private_gap_ns
        if now_ns >= gap_at:
            guard.reconciled = False
        elif gap_at < deadline:
            deadline = gap_at
    guard.active, held_until = _hold(guard, now_ns, params.guard.soft_clear_ns)
    guard.deadline_ns = min(deadline, held_until)
    if guard.raw & HARD_MASK:
        guard.latched = True
    return _move(guard, _next(state), now_ns)


def is_book_healthy(state: "State") -> bool:
    """The book's health as one fact, as of the last event: what the guard used, and so what the log, the metric, the
    minute's sample and the export say. It is `book.is_healthy`, evaluated as the reason BOOK; before any event it is
    not healthy."""
    return state.seq > 0 and not state.guard.raw & _BOOK


def book_healthy_ns(state: "State", now_ns: int) -> int:
    """Time with a healthy book since the run began."""
    guard = state.guard
    return guard.book_healthy_ns + (now_ns - guard.book_turned_ns if is_book_healthy(state) else 0)


def _turn_book(guard: Guard, now_ns: int) -> None:
    if guard.raw & _BOOK and guard.book_turned_ns:
        guard.book_healthy_ns += now_ns - guard.book_turned_ns
    guard.book_turned_ns = now_ns


def resume(state: "State") -> None:
    """An operator resumed after a clean reconcile: let go of the latch. What still holds will take it again."""
    state.guard.latched = False
    state.guard.reconciled = False
    state.guard.dirty = True


def _hold(guard: Guard, now_ns: int, clear_ns: int) -> tuple[int, int]:
    """Soft reasons count until they have been cured for `clear_ns`. Returns (active bits, when the first is let go)."""
    soft = guard.raw & ~HARD_MASK
    previous = guard.active & ~HARD_MASK
    if soft == previous and not guard.cured_ns:
        return guard.raw, NEVER_NS
    until = NEVER_NS
    held = 0
    for bit in [b for b in guard.cured_ns if soft & b]:
        del guard.cured_ns[bit]
    for bit in BIT.values():
        if not previous & bit or soft & bit:
            continue
        clear_at = guard.cured_ns.setdefault(bit, now_ns) + clear_ns
        if now_ns < clear_at:
            held |= bit
            until = min(until, clear_at)
        else:
            del guard.cured_ns[bit]
    return guard.raw | held, until


def _next(state: "State") -> GuardState:
    """Where the reasons lead. Precedence: STOPPING, HARD_STOP, STARTING, RECONCILING, SOFT_PAUSE, REDUCING, RUNNING."""
    guard = state.guard
    if state.facts.stop_reason:
        return GuardState.STOPPING
    if guard.latched:
        return GuardState.HARD_STOP
    if guard.state is GuardState.STARTING and not state.facts.started:
        return GuardState.STARTING
    if not guard.reconciled:
        return GuardState.RECONCILING
    if guard.active & ALL_MASK:
        return GuardState.SOFT_PAUSE
    if guard.active & INCREASE_MASK:
        return GuardState.REDUCING
    return GuardState.RUNNING


def _move(guard: Guard, target: GuardState, now_ns: int) -> Transition | None:
    if target is guard.state:
        return None
    # STARTING and HARD_STOP have one way on, through RECONCILING, however clean the world looks.
    if (guard.state, target) not in TRANSITIONS:
        target = GuardState.RECONCILING
        guard.dirty = True
    before = guard.state
    guard.spent_ns[before] = guard.spent_ns.get(before, 0) + now_ns - (guard.entered_ns or now_ns)
    guard.state = target
    guard.entered_ns = now_ns
    return Transition(before, target, reasons_of(guard.active))


_ENDS = {
    "OperatorAction": "; ends by `mmdaemon resume --reason ...`",
    "deadline": "; ends by itself",
    "TimerFired": "; looked at anew each second, ends by itself",
    "restart": "; ends by a restart, once it is mended",
    "resume": "",
    "none": "",
}
"""What a person can do about a reason, by its cure. Other cures are events that come, or do not."""


def describe(state: "State") -> list[str]:
    """Why it is not quoting, one line a reason with what is known of it, for `status` and logs."""
    facts = state.facts
    known = {
        Reason.BOOK: book.condition(state.book, state.mono_ns),
        Reason.POSITION: "; ".join(facts.breaks),
        Reason.ACCOUNT_FACTS: facts.health.account_detail if facts.health else "",
        Reason.SIGNAL_PAUSE: signals.who_pauses(state.signals, state.mono_ns),
        Reason.OPERATOR_PAUSE: facts.pause_reason,
        Reason.EXTERNAL_PAUSE: signals.who_pauses(state.signals, state.mono_ns),
        Reason.BREAK: "; ".join(facts.breaks),
        Reason.SECOND_INSTANCE: "; ".join(facts.breaks),
        Reason.TASK_DIED: ", ".join(facts.dead_tasks),
        Reason.KILL: facts.kill_reason,
        Reason.EDGE: "; ".join(
            f"{side.name.lower()}s {word}: {figures(state, side, word)}"
            for side in Side
            if (word := blocked_why(state, side))
        ),
    }
    lines = [f"stopping: {facts.stop_reason}"] if facts.stop_reason else []
    for rule in RULES:
        if state.guard.active & BIT[rule.reason]:
            detail = f" ({known[rule.reason]})" if known.get(rule.reason) else ""
            ends = _ENDS.get(rule.cure, f"; waits for {rule.cure}")
            lines.append(f"{rule.reason}: {rule.because}{detail}{ends}")
    if state.guard.latched:
        lines.append("latched: only `mmdaemon resume --reason ...` ends a hard stop")
    if not state.guard.reconciled and state.guard.state is GuardState.RECONCILING:
        lines.append("reconciling: venue truth is being read")
    for absence in absences(state):
        name = "bid" if absence.side is Side.BUY else "ask"
        if absence.why == "starting":
            lines.append(f"no {name}: starting: {absence.detail}")
        elif absence.why != "guard":  # whose reasons are above
            rests = " rests" if absence.is_wanted and absence.detail else ""
            detail = f": {absence.detail}" if absence.detail else ""
            lines.append(f"no {name}{rests}: {absence.why}{detail}")
    if state.derisk.since_ns:
        worked_s = (state.mono_ns - state.derisk.since_ns) / NS
        lines.append(f"derisk: {state.derisk.urgency.value}, the position has been worked down for {worked_s:.0f} s")
    return lines
