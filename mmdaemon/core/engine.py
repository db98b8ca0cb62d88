"""step(): the whole pipeline, in reading order.

    event -> apply -> guard -> (due?) -> observe -> decide -> diff -> admit -> commands

What admission holds back stays in `State.withheld` until the next look, so that a side without a quote has a reason.
The core has no clock, no I/O and no await: time arrives in the event, `State` is written here and nowhere else, and
what happened to a command comes back as another event. Live, paper, replay and simulation call this one function.
"""

from collections.abc import Callable

import msgspec

from mmdaemon.core import diff, fair_value, guard, limits, orders, shadow
from mmdaemon.core.apply import apply
from mmdaemon.core.commands import Amend, Cancel, Command
from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.events import BookUpdate, Event, TradePrint
from mmdaemon.core.guard import Transition
from mmdaemon.core.limits import Reference, Refusal
from mmdaemon.core.observe import observe
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.core.state import Dirty, State
from mmdaemon.core.types import GuardState


class Step(msgspec.Struct, frozen=True, gc=False):
    """What one event led to. `decision` is set only where it is a changed one; most steps are `NOTHING`."""

    commands: tuple[Command, ...] = ()
    decision: Decision | None = None
    inputs: DecisionInputs | None = None
    transition: Transition | None = None
    refusals: tuple[Refusal, ...] = ()


NOTHING = Step()
Strategy = Callable[[DecisionInputs, Params], Decision]
"""From what was seen to where to quote. `quotes.decide` is what trades; research compares it with others."""


def step(state: State, event: Event, params: Params, strategy: Strategy = decide) -> Step:
    """Take one event in and say what must go out. Never suspends; raises only on a defect of ours."""
    state.seq += 1
    state.mono_ns = event.mono_ns
    state.ts_ns = event.ts_ns
    apply(state, event, params)
    transition = guard.evaluate(state, event.mono_ns, params)
    if transition is not None:
        state.dirty |= Dirty.GUARD
    result = NOTHING
    if due(state, event, params):
        result = _decide(state, transition, params, strategy)
    if params.shadow:
        shadow.check(state, observe(state, params), params)
    return result


def due(state: State, event: Event, params: Params) -> bool:
    """Whether a decision is due: a slice is dirty, or book or print moved fair value out of the last one's band."""
    if state.dirty:
        return True
    last = state.decision
    kind = type(event)
    if (kind is not BookUpdate and kind is not TradePrint) or last is None or state.guard.state not in guard.QUOTING:
        return False
    depth = params.quotes.depth_levels
    return not fair_value.stays_within(state.book, last.band_lo_ticks, last.band_hi_ticks, depth, state.signal.bps)


def _decide(state: State, transition: Transition | None, params: Params, strategy: Strategy) -> Step:
    inputs, decision = state.inputs, state.decision
    changed = False
    # What became of an order changes what there is and not what is wanted: then the last decision stands.
    if state.dirty is not Dirty.ORDERS or inputs is None or decision is None:
        inputs = observe(state, params)
        decision = strategy(inputs, params)
        changed = _is_changed(state, inputs, decision)
        state.inputs, state.decision = inputs, decision
        if changed:
            state.decision_seq = state.seq
    state.dirty = Dirty.NOTHING

    wanted = diff.diff(
        decision.quotes,
        state.orders,
        params.diff,
        now_ns=state.mono_ns,
        refresh_ns=decision.refresh_ns,
        new_id=lambda: orders.next_id(state.orders, params.bot_tag, params.run_epoch),
        risk=inputs.guard is not GuardState.RUNNING,
        min_qty_lots=params.instrument.min_qty_lots,
        position_lots=inputs.position_lots,
    )
    commands: list[Command] = []
    refusals: list[Refusal] = []
    reference = Reference(
        guard=inputs.guard,
        position_lots=inputs.position_lots,
        max_position_lots=decision.max_position_lots,
        mark_px_ticks=state.venue.mark_px_ticks,
        slow_mid_ticks=state.sampled.slow_mid_ticks,
        now_ns=state.mono_ns,
    )
    for command in wanted:
        refusal = limits.admit(command, state.orders, state.budgets, reference, params)
        goes_out: Command | None = command
        if refusal is not None:
            refusals.append(refusal)
            goes_out = _instead_of(command, state, decision)
        if goes_out is not None:
            orders.submit(state.orders, goes_out, state.mono_ns)
            limits.on_command(state.budgets, goes_out, state.mono_ns, params.limits, params.guard)
            commands.append(goes_out)
    state.withheld = tuple(refusals)
    if commands:
        # Budgets are the guard's inputs: what just went out may have used one up.
        state.guard.dirty = True
    if not (commands or changed or transition or refusals):
        return NOTHING
    return Step(
        tuple(commands),
        decision if changed else None,
        inputs if changed else None,
        transition,
        tuple(refusals),
    )


def _instead_of(refused: Command, state: State, decision: Decision) -> Cancel | None:
    """An order that may not retreat and stands where no quote is wanted is taken out: its price is of another market.
    A risk cancel, because no budget may hold it there. What may not advance does no harm where it is."""
    if not isinstance(refused, Amend):
        return None
    order = state.orders.live[refused.client_id]
    if order.side * (order.px_ticks - refused.px_ticks) <= 0 or not diff.may_cancel(order, state.mono_ns):
        return None
    for quote in decision.quotes:
        if quote.side is order.side and quote.lo_px_ticks <= order.px_ticks <= quote.hi_px_ticks:
            return None
    return Cancel(refused.client_id, risk=True)


def _is_changed(state: State, inputs: DecisionInputs, decision: Decision) -> bool:
    """Changed: target ticks or lots, guard or regime differ from the last decision."""
    before, seen = state.decision, state.inputs
    if before is None or seen is None or seen.guard is not inputs.guard or seen.regime is not inputs.regime:
        return True
    if len(before.quotes) != len(decision.quotes):
        return True
    for a, b in zip(before.quotes, decision.quotes, strict=True):
        if a.px_ticks != b.px_ticks or a.qty_lots != b.qty_lots or a.side is not b.side:
            return True
    return False
