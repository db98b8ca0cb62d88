"""Invariants of the judge of fills, `core/fill_quality.py`: its parts of 2 and 23."""

from mmdaemon.core.commands import Place
from mmdaemon.core.events import TimerFired
from mmdaemon.core.fill_quality import Phase, side_of
from mmdaemon.core.types import Purpose, Side
from mmdaemon.daemon import assertions
from mmdaemon.research.simulation.seen import Seen, seconds


def pulled_side_only_reduces(seen: Seen) -> str:
    """2: what is quoted on a pulled side is no more than what is held against it."""
    state = seen.state
    if state is None or not seen.step.commands:
        return ""
    pulled = {side for side in Side if side_of(state.quality, side).phase is Phase.PULLED}
    if not pulled:
        return ""
    for command in assertions.orders_of(seen.step):
        order = state.orders.live.get(command.client_id)
        side = command.side if isinstance(command, Place) else None if order is None else order.side
        purpose = command.purpose if isinstance(command, Place) else None if order is None else order.purpose
        if side is None or side not in pulled or purpose is not Purpose.QUOTE:
            continue
        filled_lots = 0 if order is None else order.filled_lots
        against_lots = max(0, -side * state.position.position_lots)
        if command.qty_lots - filled_lots > against_lots:
            return f"{command}, and that side is pulled with {against_lots} lots held against it"
    return ""


def pull_ends(seen: Seen) -> str:
    """23: neither a pull nor the return after it outlasts its length, in one life. Judged at timers, and so looked at
    there, where what changed is counted for 24."""
    event, state = seen.event, seen.state
    if type(event) is not TimerFired or state is None:
        return ""
    quality, lengths = state.quality, seen.params.quality
    wide = {regime for regime, tracker in quality.trackers.items() if tracker.is_wide}
    was: dict[Side, tuple[Phase, int]] = seen.memory.setdefault("phases", {})
    was_wide: set[str] = seen.memory.setdefault("wide", wide)
    seen.memory["wide"] = wide
    for what, regimes in (("widened", wide - was_wide), ("narrowed", was_wide - wide)):
        if regimes:
            seen.count(f"regime {what}", len(regimes))
    for side in Side:
        phase = side_of(quality, side).phase
        before, since_ns = was.get(side, (phase, event.mono_ns))
        if phase is not before:
            seen.count(f"side {before} -> {phase}")
            since_ns = event.mono_ns
        was[side] = phase, since_ns
        length_ns = lengths.pull_ns if phase is Phase.PULLED else lengths.return_ns
        if phase is not Phase.QUOTED and event.mono_ns - since_ns > length_ns:
            return f"{side.name} is {phase} for {seconds(event.mono_ns - since_ns)} of {seconds(length_ns)}"
    return ""
