"""Invariants of guard, kill switch and process: 9, 11, 12, 15, 16, 17, 19, 21, 22 and 23."""

import sqlite3
from contextlib import closing

from mmdaemon.core import derisk, risk
from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.events import BookUpdate, KillChanged, LinkChanged, Reconciled, Started, TimerFired
from mmdaemon.core.reasons import ALL_MASK, BIT, HARD_MASK, INCREASE_MASK, Reason, reasons_of
from mmdaemon.core.types import BPS, NS, GuardState, KillState, Purpose, Side
from mmdaemon.daemon import assertions
from mmdaemon.daemon.breaks import is_of_fills
from mmdaemon.research.simulation.seen import Seen, seconds

_SLACK_NS = 2 * NS
"""Whether there is calm is known to this."""
_LANDED_GONE_NS = 5 * NS + _SLACK_NS
_LATE_GONE_NS = 2 * NS + _SLACK_NS
_LATCH_NS = NS
"""The latch is written within 0.1 s; a restart after longer must find it."""
_FACTS_READ_NS = 120 * NS
"""Account facts are read each minute, and a read may be late."""
_FACTS_OLD_NS = 330 * NS
"""Facts that were not read for five minutes are unknown."""
_UNTENDED_NS = 30 * NS
_TWO_SIDED_NS = 60 * NS
_CLOSING_NS = 5 * NS
"""What rests has to leave before anything is taken."""
_QUOTING = (GuardState.RUNNING, GuardState.REDUCING)
_EXCUSED = (
    Reason.DRIFT,
    Reason.TURNOVER,
    Reason.CANCEL_BUDGET,
    Reason.MESSAGE_BUDGET,
    Reason.MARGIN_SOFT,
    Reason.EDGE,
    Reason.DAY_ENDING,
    Reason.SIGNAL_PAUSE,
    Reason.OPERATOR_PAUSE,
    Reason.EXTERNAL_PAUSE,
    Reason.SOURCE_ENDED,
)
_EXCUSED_BITS = sum(BIT[reason] for reason in _EXCUSED) | HARD_MASK
"""The market's reasons, a person's, and those that pass by themselves at a moment that is known. What is HARD is a
latch."""
_EXCUSED_SIDES = ("edge", "inventory", "pulled", "size")

# --- 9: after a kill --------------------------------------------------------------------------------------------------


def nothing_sent_after_kill(seen: Seen) -> str:
    return seen.sent_killed[0] if seen.sent_killed else ""


def nothing_lands_after_verified(seen: Seen) -> str:
    """9: the fault layer's lateness stays below `in_flight_max_s`, so what lands later was sent later."""
    kill, command = seen.kill, seen.command
    if kill is None or kill.verified_ns is None or not isinstance(command, Place | Amend):
        return ""
    if isinstance(command, Place) and command.reduce_only:
        return ""
    return f"{command} landed {seconds(seen.now_ns - kill.verified_ns)} after VERIFIED"


def nothing_rests_after_kill(seen: Seen) -> str:
    """9: with the network up, 5 s later nothing that had landed, and what lands later is gone in 2 s."""
    kill = seen.kill
    if kill is None or not seen.calm_ns:
        return ""
    calm_since = seen.now_ns - seen.calm_ns
    for order in seen.own_resting():
        if _is_anothers(seen, order.client_id):
            continue
        late = order.arrived_ns > kill.tripped_ns
        rests_ns = seen.now_ns - max(calm_since, kill.tripped_ns, order.arrived_ns)
        if rests_ns > (_LATE_GONE_NS if late else _LANDED_GONE_NS):
            return f"{order.client_id} rests {seconds(rests_ns)} after a kill, {'late' if late else 'landed before'}"
    return ""


def _is_anothers(seen: Seen, client_id: str) -> bool:
    """No daemon of this seed sent it, and the one that is up says so: a break for a person, and not its to cancel."""
    told = seen.state is not None and any(client_id in text for text in seen.state.facts.breaks)
    return told and not seen.is_own(client_id)


def verified_is_true(seen: Seen) -> str:
    """9: VERIFIED is said of a venue on which nothing of ours rests, whether or not anybody could read it."""
    if type(seen.event) is not KillChanged or seen.event.state is not KillState.VERIFIED:
        return ""
    resting = [order.client_id for order in seen.own_resting() if seen.is_own(order.client_id)]
    return f"VERIFIED, and {resting[0]} rests" if resting else ""


# --- 11, 12: what forbids quoting -------------------------------------------------------------------------------------


def off_while_broken(seen: Seen) -> str:
    if type(seen.event) is Reconciled and seen.state is not None:
        seen.memory["found"] = seen.state.seq, frozenset(each.name for each in seen.event.found)
    return "" if seen.state is None else assertions.breaks_open(seen.state)


def breaks_are_kept(seen: Seen) -> str:
    """11: what waits for a person in the journal, the daemon still says, whatever happened to the process since. What
    came after its last word (the venue's stop may trade at any time) it says with the next."""
    found = seen.memory.get("found")
    if found is None or not seen.journal.is_file():
        return ""
    seq, told = found
    with closing(sqlite3.connect(f"{seen.journal.absolute().as_uri()}?mode=ro", uri=True)) as db:
        waiting = db.execute(
            "SELECT name FROM breaks WHERE closed_ts_ns IS NULL AND owner = 'operator' AND NOT (epoch = ? AND seq > ?)",
            (seen.params.run_epoch, seq),
        ).fetchall()
    lost = [name for (name,) in waiting if is_of_fills(name) and name not in told]
    return f"open in the journal, and nobody speaks of it: {', '.join(lost)}" if lost else ""


def account_facts(seen: Seen) -> str:
    """12: as read, and as they truly are once the daemon had time to read them."""
    state = seen.state
    if state is None:
        return ""
    if broken := assertions.account_facts(state):
        return broken
    since_ns = seen.facts_wrong_since_ns
    if not since_ns or state.guard.state not in _QUOTING:
        return ""
    known_ns = min(seen.now_ns - since_ns, seen.now_ns - seen.up_ns)
    if known_ns > _FACTS_OLD_NS or min(known_ns, seen.calm_ns) > _FACTS_READ_NS:
        return f"the account is not as configured since {seconds(known_ns)} and it is {state.guard.state.value}"
    return ""


# --- 15, 16: blind quotes ---------------------------------------------------------------------------------------------


def from_a_good_book(seen: Seen) -> str:
    """15, by the books that were delivered and not by what became of them."""
    event, state = seen.event, seen.state
    if type(event) is BookUpdate:
        if event.bids and event.asks and event.bids[0][0] <= event.asks[0][0]:
            seen.memory["public"] = event.mono_ns
    elif type(event) is LinkChanged and event.link == "public":
        seen.memory.pop("public", None)
    if not seen.step.commands or state is None or event is None:
        return ""
    more = assertions.increasing(state, assertions.orders_of(seen.step))
    if not more:
        return ""
    good_ns = seen.memory.get("public")
    if good_ns is None:
        return f"{more[0]} and no good book since the public stream came back"
    if event.mono_ns - good_ns > seen.params.guard.book_age_max_ns:
        return f"{more[0]} and the last good book came {seconds(event.mono_ns - good_ns)} ago"
    return assertions.healthy_book(state, more)


def not_blind(seen: Seen) -> str:
    """16, with a memory of gaps of its own: (since when it is down or 0, whether a reconcile is owed)."""
    event, state = seen.event, seen.state
    down_ns, owed = seen.memory.get("gap", (0, True))
    if type(event) is LinkChanged and event.link == "private":
        if not event.up:
            down_ns = down_ns or event.mono_ns
        elif down_ns:
            owed = owed or event.mono_ns - down_ns > seen.params.guard.private_gap_ns
            down_ns = 0
    elif type(event) is Reconciled and not event.breaks and not down_ns:
        owed = False
    seen.memory["gap"] = down_ns, owed
    if type(event) is TimerFired and state is not None and state.guard.state in _QUOTING:
        good_ns = seen.memory.get("public", 0)
        if event.mono_ns - good_ns > seen.params.guard.book_age_max_ns + _SLACK_NS:
            return f"{state.guard.state.value}, and the last good book came {seconds(event.mono_ns - good_ns)} ago"
    if not seen.step.commands or state is None or event is None:
        return ""
    more = assertions.increasing(state, assertions.orders_of(seen.step))
    if not more:
        return ""
    if owed:
        return f"{more[0]} before the first reconcile"
    if down_ns and event.mono_ns - down_ns > seen.params.guard.private_gap_ns:
        return f"{more[0]} with the private stream lost for {seconds(event.mono_ns - down_ns)}"
    return assertions.guard_allows(state, more) or assertions.not_blind(state, more, seen.params)


# --- 17: transitions and latches --------------------------------------------------------------------------------------


def transitions(seen: Seen) -> str:
    """17: each move in the table; latches left by an operator only, and found again by the next daemon."""
    state, event = seen.state, seen.event
    if state is None or event is None:
        return ""
    before = seen.memory.get("last guard", GuardState.STARTING)
    seen.memory["last guard"] = state.guard.state
    if state.guard.raw & (ALL_MASK | INCREASE_MASK):
        seen.memory["held"] = event.mono_ns
    raised = state.guard.raw & ~seen.memory.get("raised", 0)
    seen.memory["raised"] = state.guard.raw
    for reason in reasons_of(raised) if raised else ():
        seen.count(f"reason {reason}")
    if type(event) is Started and not event.latched and (lost := _lost_latch(seen)):
        return lost
    moved = seen.step.transition
    if moved is None:
        return "" if before is state.guard.state else f"{before.value} -> {state.guard.state.value}, and no word of it"
    seen.count(f"guard {moved.before.value} -> {moved.after.value}")
    held_ns = event.mono_ns - seen.memory.get("held", -NS)
    if moved.after is GuardState.RUNNING and held_ns < seen.params.guard.soft_clear_ns:
        return f"RUNNING {seconds(held_ns)} after a soft reason held"
    return assertions.transition(before, event, seen.step)


def _lost_latch(seen: Seen) -> str:
    kill = seen.kill
    if kill is None or seen.latch_excused or not seen.down_ns or seen.down_ns - kill.tripped_ns <= _LATCH_NS:
        return ""
    return f"killed {seconds(seen.down_ns - kill.tripped_ns)} before the last daemon ended, and the next is not latched"


def resumes_are_journaled(seen: Seen) -> str:
    """17 in the journal: each leaving of HARD_STOP, and each ARMED of the kill switch, has its operator's row."""
    if not seen.journal.is_file():
        return ""
    with closing(sqlite3.connect(f"{seen.journal.absolute().as_uri()}?mode=ro", uri=True)) as db:
        left = db.execute(
            "SELECT epoch, seq, to_state FROM transitions t WHERE from_state = 'hard_stop' AND to_state <> 'stopping' "
            "AND NOT EXISTS (SELECT 1 FROM operator_actions o WHERE o.epoch = t.epoch AND o.seq = t.seq "
            "AND o.action = 'resume')"
        ).fetchone()
        armed = db.execute(
            "SELECT epoch, ts_ns, reason FROM kill k WHERE state = 'armed' AND NOT EXISTS (SELECT 1 FROM "
            "operator_actions o WHERE o.epoch = k.epoch AND o.action = 'resume' AND o.outcome NOT LIKE 'refused%' "
            "AND o.mono_ns BETWEEN k.mono_ns - 60000000000 AND k.mono_ns + 5000000000)"
        ).fetchone()
    if left is not None:
        return f"run {left[0]}, event {left[1]}: HARD_STOP -> {left[2]} without a journaled resume"
    if armed is not None and seen.state is not None and seen.calm_ns > _UNTENDED_NS:
        return f"run {armed[0]}: the kill switch was armed at {armed[1]} without a journaled resume"
    return ""


# --- 19, 21: the process ----------------------------------------------------------------------------------------------


def nothing_died(seen: Seen) -> str:
    if seen.errors:
        return seen.errors[0]
    if seen.state is None:
        return ""
    dead = [name for name in seen.state.facts.dead_tasks if name not in seen.expected_deaths]
    return f"{', '.join(dead)} ended" if dead else ""


def no_secret(seen: Seen) -> str:
    """21: the canary, in what was said and in every byte of the journal and what stands beside it."""
    for path in sorted(seen.journal.parent.glob("*")):
        if path.is_file():
            seen.hear(path.read_bytes().decode("latin-1"), path.name)
    return f"the canary is in {seen.leaks[0]}" if seen.leaks else ""


# --- 22, 23: somebody tends, and it quotes ----------------------------------------------------------------------------


def tended(seen: Seen) -> str:
    """22: what rests has a daemon that is up and knows it; and one that must not quote takes its quotes out."""
    state = seen.state
    if state is None:
        most_ns = seen.untended_max_ns
        if most_ns is not None and seen.down_ns and seen.now_ns - seen.down_ns > most_ns:
            for order in seen.own_resting():
                return f"{order.client_id} rests {seconds(seen.now_ns - seen.down_ns)} after the last daemon ended"
        return ""
    if seen.calm_ns <= _UNTENDED_NS:
        return ""
    last_ns = seen.memory.get("may quote", 0)
    for order in seen.own_resting():
        rests_ns = min(seen.now_ns - order.arrived_ns, seen.calm_ns)
        if rests_ns <= _UNTENDED_NS:
            continue
        known = state.orders.live.get(order.client_id)
        if known is None and _is_anothers(seen, order.client_id):
            continue
        if known is None or known.status.is_terminal:
            return f"{order.client_id} rests {seconds(rests_ns)}, and to the daemon it is gone"
        if known.purpose is not Purpose.FLATTEN and seen.now_ns - last_ns > _UNTENDED_NS:
            return f"{order.client_id} rests, and for {seconds(seen.now_ns - last_ns)} it may not quote"
        if known.cancel_sent_ns and state.mono_ns - known.cancel_sent_ns > _UNTENDED_NS:
            return f"{order.client_id}: cancelled {seconds(state.mono_ns - known.cancel_sent_ns)} ago and it rests"
    return ""


def tended_each_second(seen: Seen) -> str:
    """22, whether or not anything happens at the venue."""
    if type(seen.event) is not TimerFired or seen.state is None:
        return ""
    if seen.state.guard.state in _QUOTING:
        seen.memory["may quote"] = seen.now_ns
    return tended(seen)


def taken_out(seen: Seen) -> str:
    """22: who must not quote any more asks for every quote in the step that says so."""
    return "" if seen.state is None else assertions.taken_out(seen.state, seen.step)


def two_sided(seen: Seen) -> str:
    """23: looked at each second; the clock runs while there is calm, no excuse, and a side is missing."""
    if type(seen.event) is not TimerFired:
        return ""
    sides = {order.side for order in seen.own_resting()}
    if len(sides) == 2 or not seen.calm_ns or _excuse(seen, set(Side) - sides):
        seen.memory["two sided"] = seen.now_ns
        return ""
    missing_ns = min(seen.now_ns - seen.memory.get("two sided", 0), seen.calm_ns)
    if missing_ns <= _TWO_SIDED_NS or seen.state is None:
        return ""
    guard, decision = seen.state.guard, seen.state.decision
    wanted = "nothing decided" if decision is None else f"no bid '{decision.no_bid}', no ask '{decision.no_ask}'"
    return (
        f"for {seconds(missing_ns)} not two-sided ({len(sides)} sides rest): {guard.state.value} for "
        f"{' '.join(reasons_of(guard.active)) or 'no reason'}; {wanted}"
    )


def flat_at_day_end(seen: Seen) -> str:
    """23: shortly before the day turns what is too much to be carried over stops the quoting, and it is gone when the
    day turns, where nothing forbade to take it out in all of the last fifth of the window, which is there for that."""
    state, params = seen.state, seen.params
    if type(seen.event) is not TimerFired or state is None:
        return ""
    before, was_ending = seen.memory.get("trading day", (-1, False))
    day, mark = state.risk.day, state.venue.mark_px_ticks
    seen.memory["trading day"] = day, derisk.is_day_ending(state)
    if not mark:
        return ""
    held, share = abs(state.position.position_lots), params.derisk.day_end_share
    most = risk.max_position_lots(state.risk.equity_e10, float(mark), params.quotes, params.instrument)
    is_small = share >= 1 or held <= share * most or not params.instrument.is_valid_size(mark, held)
    if is_small or state.guard.state not in _QUOTING or any(each.check != "derisk_rate" for each in state.withheld):
        seen.memory["need not close"] = seen.now_ns
    left_ns = risk.to_rollover_ns(state.ts_ns, params.rollover_hour_utc)
    is_early = left_ns > params.derisk.day_end_ns or not risk.clock_is_true(state, params)
    if is_small or is_early or state.guard.state is not GuardState.RUNNING:
        seen.memory["may run"] = seen.now_ns
    elif seen.now_ns - seen.memory.get("may run", seen.now_ns) > _CLOSING_NS:
        return f"RUNNING with {held} lots held and {seconds(left_ns)} of the day left"
    if before < 0 or day <= before:
        return ""
    if is_small and was_ending:
        seen.count("flat when the day turned")
    owed_ns = min(seen.calm_ns, seen.now_ns - seen.memory.get("need not close", 0))
    if owed_ns <= params.derisk.day_end_ns // 5 + _CLOSING_NS:
        return ""
    return f"the day turned with {held} lots held, and for {seconds(owed_ns)} nothing forbade to take them out"


def _excuse(seen: Seen, missing: set[Side]) -> bool:
    """A latch, a break, a person, the market, or sides that cannot be quoted for a reason that the decision names."""
    state = seen.state
    if state is None or seen.kill is not None or state.facts.breaks or state.facts.stop_reason:
        return True
    if state.guard.latched or state.facts.pause_reason:
        return True
    active = state.guard.active & (HARD_MASK | ALL_MASK | INCREASE_MASK)
    if active & _EXCUSED_BITS and not active & ~_EXCUSED_BITS:
        return True
    if any(refusal.check == "message_rate" for refusal in state.withheld):
        return True
    decision, slow = state.decision, state.sampled.slow_mid_ticks
    if decision is None:
        return False
    collar = seen.params.limits.collar_bps * BPS
    if any(abs(quote.px_ticks - slow) > collar * slow for quote in decision.quotes):
        return True  # the market jumped, and the collar holds until the slow mid has followed
    words = (decision.no_bid if side is Side.BUY else decision.no_ask for side in missing)
    return all(word in _EXCUSED_SIDES for word in words)
