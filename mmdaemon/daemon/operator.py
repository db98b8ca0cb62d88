"""What a person may do to a running daemon: pause, resume, kill, flatten, reconcile. Used by the control
socket, scripts and tests alike.

Every action is journaled with who and why, taken or refused. Narrowing actions always work; `resume` is the one that
widens, and asks for a reason, for a kill switch that has finished, and for a clean reconcile with the venue.
"""

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core import reasons
from mmdaemon.core.events import OperatorAction
from mmdaemon.core.params import Params
from mmdaemon.core.reasons import Reason
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon.breaks import Kind, Round
from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.kill_switch import KillSwitch
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.reconcile import Reconciler
from mmdaemon.daemon.status import decimal_text
from mmdaemon.journal import rows
from mmdaemon.journal.connection import JournalFailed
from mmdaemon.journal.state_dir import StateDirRefused
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.venues.base import VenueUnavailable

Say = Callable[[str], Awaitable[None]]

ENDED_BY_RESUME = frozenset(
    {
        Reason.KILL,
        Reason.DRAWDOWN,
        Reason.CANCEL_BREACHES,
        Reason.REPEATED_EXECUTION,
        Reason.REJECT_STREAK,
        Reason.BREAK,
    }
)
"""Hard reasons that a resume begins to count anew. The others hold until what they say is no longer so."""
_SHOWN = 50
"""Breaks that are told one by one."""
_CANCEL_READS = 5
"""How often the venue is read, a second apart, until orders that a person named are gone."""
UNREADABLE = 3
"""Exit code of a reconcile that could not read the venue. Never taken for a clean one."""


class _Refused(Exception):
    """What a person asked for is not there to be done."""


class Outcome(msgspec.Struct, frozen=True):
    """What came of an action. `exit_code` is that of the command that asked."""

    ok: bool
    exit_code: int
    message: str


class Operator:
    """The verbs. `who` is the peer as the socket saw it."""

    def __init__(  # it reaches everything an operator may
        self,
        state: State,
        params: Params,
        gate: Gate,
        kill_switch: KillSwitch,
        reconciler: Reconciler,
        inbox: Inbox,
        journal: JournalWriter,
        clock: Clock,
        clear_latch: Callable[[], None],
    ) -> None:
        self._state = state
        self._params = params
        self._gate = gate
        self._kill_switch = kill_switch
        self._reconciler = reconciler
        self._inbox = inbox
        self._journal = journal
        self._clock = clock
        self._clear_latch = clear_latch
        self._narrowed = 0
        """How often somebody asked for less. A resume that was asked before that is not what they want."""

    async def pause(self, reason: str, who: str) -> Outcome:
        """Quotes go, reads stay; the position is left as it is. Ends by `resume`, and outlives a restart."""
        self._narrowed += 1
        self._inbox.post(self._action("pause", reason or "operator", who))
        await self._inbox.settled()
        return Outcome(True, 0, "paused: quotes are being cancelled; `mmdaemon resume --reason ...` goes on")

    async def kill(self, reason: str, who: str, say: Say, *, flatten: bool = False, wait: bool = False) -> Outcome:
        """Throw the kill switch. Returns at QUIET, or at VERIFIED with `wait` (and flat, where flattening was asked
        for)."""
        self._narrowed += 1
        self._kill_switch.trip(reason or "operator", flatten=flatten)
        self._inbox.post(self._action("kill", reason or "operator", who))
        await say("gate closed; cancelling everything, then reading the venue")
        done = (
            (KillState.VERIFIED, KillState.KILLED) if wait else (KillState.QUIET, KillState.VERIFIED, KillState.KILLED)
        )
        if flatten:
            done = (KillState.KILLED,)
        seen = await self._kill_switch.wait_for(*done)
        resting = "nothing rests" if seen.orders_left == 0 else f"{seen.orders_left} orders still rest"
        position = decimal_text(self._state.position.position_lots * self._params.instrument.lot_e10)
        return Outcome(
            seen.orders_left == 0,
            0 if seen.orders_left == 0 else 2,
            f"{self._kill_switch.kill_state.value}: {resting} (read from the venue {seen.reads} times), "
            f"position {position}; latched until `mmdaemon resume --reason ...`",
        )

    async def flatten(self, reason: str, who: str, say: Say) -> Outcome:
        """Pause, then close the position by reduce-only slices within the collar."""
        await self.pause(reason or "flatten", who)
        await say("paused; closing the position by reduce-only slices within the collar")
        seen = await self._kill_switch.flatten(reason or "flatten")
        held = "killed" if self._kill_switch.kill_state is KillState.KILLED else "paused"
        return Outcome(True, 0, f"flat, read twice ({seen.slices} slices); {held} until `mmdaemon resume --reason ...`")

    async def resume(self, reason: str, who: str) -> Outcome:
        """End a pause, or a kill that has finished: after a clean reconcile, at reduced size for a while."""
        action = self._action("resume", reason.strip(), who)
        asked = (self._narrowed, self._kill_switch.trips)
        stopped = self._state.guard.state is GuardState.HARD_STOP or self._kill_switch.kill_state is not KillState.ARMED
        paused = bool(self._state.facts.pause_reason)
        why_not = await self._why_no_resume(action.reason)
        if not why_not and asked != (self._narrowed, self._kill_switch.trips):
            why_not = "it was paused or killed again meanwhile"
        if not why_not and self._kill_switch.kill_state is not KillState.ARMED:
            why_not = self._rearm(action)
        if why_not:
            await self._journal_outcome(action, f"refused: {why_not}")
            return Outcome(False, 2, f"not resumed: {why_not}")
        # Posted after the gate is open: the first quote of the resumed guard must not meet a closed one.
        self._inbox.post(self._action("resume", action.reason, who))
        await self._inbox.settled()
        if self._state.guard.state is GuardState.HARD_STOP:
            return Outcome(False, 2, "not resumed: something new holds it stopped; see `mmdaemon status`")
        if not stopped and not paused:
            return Outcome(True, 0, "there was nothing to end: it was neither paused nor killed; see `mmdaemon status`")
        if not stopped:
            return Outcome(True, 0, "the pause is over; quotes come back once every other reason is gone")
        return Outcome(True, 0, "resumed; venue truth is read once more before it quotes, at reduced size for a while")

    async def refuse(self, action: str, reason: str, who: str, why: str) -> Outcome:
        """Somebody asked for what they may not: journaled, and nothing else becomes of it."""
        await self._journal_outcome(self._action(action, reason.strip(), who), f"refused: {why}")
        return Outcome(False, 2, f"refused: {why}")

    async def _why_no_resume(self, reason: str) -> str:
        if not reason:
            return 'a reason is needed: `mmdaemon resume --reason "..."`'
        if self._state.facts.stop_reason:
            return "the daemon is stopping"
        kill = self._kill_switch.kill_state
        if kill not in (KillState.ARMED, KillState.KILLED):
            left_s = self._params.in_flight_max_ns / 1e9
            return (
                f"the kill switch is still at work ({kill.value}): what was sent may land, so nothing may rest for "
                f"{left_s:g} s on end; try again once `mmdaemon status` says killed"
            )
        if kill is KillState.ARMED and self._state.guard.state is not GuardState.HARD_STOP:
            return ""
        try:
            breaks = await self._reconciler.reconcile("resume")
        except VenueUnavailable as error:
            return f"the venue could not be read ({error}); a reconcile that cannot read is never a clean one"
        if breaks:
            return "venue and journal do not agree: " + "; ".join(breaks)
        hard = reasons.reasons_of(self._state.guard.raw & reasons.HARD_MASK)
        staying = [r.value for r in hard if r not in ENDED_BY_RESUME]
        return f"still so: {', '.join(staying)}" if staying else ""

    # --- reconcile --------------------------------------------------------------------------------------------------

    async def reconcile(
        self, who: str, *, repair: bool = False, reason: str = "", cancel: Sequence[str] = ()
    ) -> Outcome:
        """One whole round now, and what came of it. `repair` accepts what was traded without an order of ours, and
        cancels the orders in `cancel`, which must not be ours; both by a person's word, with a reason.

        Exit codes: 0 clean, 2 breaks are open (or it was refused), 3 the venue could not be read, 64 usage.
        """
        if (cancel and not repair) or (repair and not reason.strip()):
            return Outcome(False, 64, 'to repair takes a reason: `mmdaemon reconcile --repair --reason "..."`')
        # Only what was there to be seen when it was asked: nobody accepts a trade that is made meanwhile.
        accepted = self._reconciler.ledger.acceptable() if repair else ()
        try:
            lines, seen = [], await self._reconciler.examine("operator")
            if repair:
                lines, seen = await self._repair(seen, self._action("repair", reason.strip(), who), accepted, cancel)
        except VenueUnavailable as error:
            return Outcome(False, UNREADABLE, f"the venue could not be read ({error}): nothing was concluded")
        except (JournalFailed, _Refused) as error:
            return Outcome(False, 2, f"not repaired: {error}")
        clean = not seen.found
        return Outcome(clean, 0 if clean else 2, "\n".join([*lines, *self._lines(seen)]))

    async def _repair(
        self, seen: Round, action: OperatorAction, accepted: Sequence[str], cancel: Sequence[str]
    ) -> tuple[list[str], Round]:
        if unknown := [client_id for client_id in cancel if client_id not in _others(seen)]:
            why = f"no order of others is open as {', '.join(unknown)}"
            await self._journal_outcome(action, f"refused: {why}")
            raise _Refused(why)
        what = [f"accepted {name}" for name in accepted] + [f"cancelling {client_id}" for client_id in cancel]
        closed = self._reconciler.ledger.accept(accepted, f"accepted by {action.who}: {action.reason}", action.ts_ns)
        epoch, seq = self._params.run_epoch, self._state.seq
        if len(what) > _SHOWN:
            what = [*what[:_SHOWN], f"and {len(what) - _SHOWN} more"]
        row = rows.operator_row(epoch, seq, action, f"taken: {'; '.join(what) or 'nothing to repair'}")
        await self._journal.durable(self._journal.put([row, *closed]))
        seen = await self._reconciler.examine("operator", cancel)
        for _ in range(_CANCEL_READS):
            if not _others(seen) & set(cancel):
                break
            await sleep_ns(self._clock, NS)
            seen = await self._reconciler.examine("operator")
        return what, seen

    def _lines(self, seen: Round) -> list[str]:
        """What was compared, and what is open, a line each."""
        lot_e10 = self._params.instrument.lot_e10
        held, booked = (decimal_text(lots * lot_e10) for lots in (seen.position_lots, seen.booked_lots))
        lines = [
            f"orders    {seen.orders} open at the venue, {seen.ours} of them ours",
            f"fills     {seen.fills} read, {seen.fills_new} of them new to the books",
            f"ledger    {seen.bills} lines read, {seen.bills_new} of them new to the books",
            f"position  the venue {held}, our books {booked}",
            f"equity    the venue {decimal_text(seen.equity_e10)}, our books {decimal_text(seen.booked_equity_e10)}",
        ]
        for each in seen.found[:_SHOWN]:
            known = self._reconciler.ledger.open.get(each.name)
            age_s = (self._clock.wall_ns() - known.opened_ts_ns) / NS if known else 0.0
            how = f"{each.owner}, {'hard' if each.hard else 'soft'}, open for {age_s:.0f} s"
            lines.append(f"break     {each.name} ({how}): {each.detail}")
        if len(seen.found) > _SHOWN:
            lines.append(f"break     and {len(seen.found) - _SHOWN} more; all are in the journal's table `breaks`")
        return [*lines, "clean: nothing is open"] if not seen.found else lines

    # --- resume -----------------------------------------------------------------------------------------------------

    def _rearm(self, action: OperatorAction) -> str:
        """Undo what a kill that has finished closed. Returns why that cannot be; nothing was opened then."""
        if self._kill_switch.kill_state is not KillState.KILLED:
            return "it was killed again meanwhile"
        try:
            self._clear_latch()
        except StateDirRefused as error:
            return str(error)
        try:
            # Before ARMED, with nothing in between: no process that ends here leaves a kill that nobody resumed.
            self._journal.put([rows.operator_row(self._params.run_epoch, None, action, "arming the kill switch again")])
        except JournalFailed as failure:
            return f"it could not be journaled ({failure})"
        self._kill_switch.rearm()
        self._gate.open()
        return ""

    async def _journal_outcome(self, action: OperatorAction, outcome: str) -> None:
        try:
            number = self._journal.put([rows.operator_row(self._params.run_epoch, None, action, outcome)])
            await self._journal.durable(number)
        except JournalFailed:
            return  # the refusal stands whether or not it could be written down

    def _action(self, action: str, reason: str, who: str) -> OperatorAction:
        return OperatorAction(self._clock.mono_ns(), self._clock.wall_ns(), None, action, reason, who)


def _others(seen: Round) -> set[str]:
    """Ids of open orders that are not this daemon's."""
    split = (each.name.partition("/") for each in seen.found)
    return {client_id for kind, _, client_id in split if kind in (Kind.FOREIGN_ORDER, Kind.SECOND_INSTANCE)}
