"""The invariants that are cheap enough to hold in production: looked at after each step, before anything of it leaves.

One that is broken is a defect of ours, and nothing may trade on it: `check` raises, the quoting controller ends, and
the supervisor does what it does then (gate closed, kill switch, the process ends once the venue was read empty). The
numbers are those of `docs/INVARIANTS.md`. Nothing here shares a line with what it checks: where a rule is in the core,
the assertion computes it afresh from the slices.

A step that came to nothing from a market event costs one comparison. Everything else is O(commands) or O(open orders).
"""

from collections import deque

from mmdaemon.core import position
from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.diff import CANCEL_WAIT_NS
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import (
    AccountSnapshot,
    Bill,
    BookUpdate,
    Event,
    Fill,
    MarkPrice,
    OperatorAction,
    OrderAdopted,
    OrderUpdate,
    RequestFailed,
    TimerFired,
    TradePrint,
)
from mmdaemon.core.guard import QUOTING, TRANSITIONS
from mmdaemon.core.orders import LIFE, WorkingOrder, worst_case_lots
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import BPS, NS, GuardState, OrderStatus, Purpose, Side

_MARKET = frozenset({BookUpdate, TradePrint, MarkPrice, AccountSnapshot})
_MONEY = frozenset({Fill, Bill, TimerFired})
_OF_ORDERS = frozenset({OrderUpdate, OrderAdopted, RequestFailed, Fill})
_WINDOW_NS = 60 * NS

IN_PRODUCTION = frozenset({2, 3, 5, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22})
"""Numbers of the invariants of which a part is asserted here."""


class InvariantBroken(AssertionError):
    """Number and name of the invariant, and the figures that break it."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"invariant {number}: {what}")
        self.number = number


# --- of one step, without memory --------------------------------------------------------------------------------------


def orders_of(step: Step) -> list[Place | Amend]:
    """What of a step may rest at the venue."""
    return [command for command in step.commands if isinstance(command, Place | Amend)]


def increasing(state: State, commands: list[Place | Amend]) -> list[Place | Amend]:
    """Those that may increase a position."""
    return [command for command in commands if not _is_reduce_only(state, command)]


def worst_case(state: State, commands: list[Place | Amend]) -> str:
    """2: side * position + all that may fill on that side, against the cap of the decision and what it was before."""
    cap = state.decision.max_position_lots if state.decision is not None else 0
    for side in (Side.BUY, Side.SELL):
        added = sum(_added_lots(state, command) for command in commands if _side(state, command) is side)
        if not added:
            continue
        after = side * state.position.position_lots
        after += sum(order.reserved_lots for order in state.orders.live.values() if order.side is side)
        if after > max(cap, after - added):
            return f"{side.name} worst case {after} lots, {after - added} before, cap {cap}"
    return ""


def past_zero(state: State, commands: list[Place | Amend]) -> str:
    """2: with an order that is no quote, side * position + all that may fill on that side is at most 0."""
    for command in commands:
        order = state.orders.live.get(command.client_id)
        if order is None or order.purpose is Purpose.QUOTE:
            continue
        after = worst_case_lots(state.orders, state.position.position_lots, order.side)
        if after > 0:
            return f"{command} is to reduce, and {after} lots more than is held may fill with it"
    return ""


def own_cross(state: State, commands: list[Place | Amend]) -> str:
    """10: no order of ours at or through one of the other side, the prices in flight counted."""
    for command in commands:
        side = _side(state, command)
        if side is None:
            return f"{command} of an order that is not known"
        for order in state.orders.live.values():
            if order.side is not side and side * (command.px_ticks - order.worst_px_ticks) >= 0:
                return f"{command} meets our own {order.side.name} at {order.worst_px_ticks}"
    return ""


def breaks_open(state: State) -> str:
    """11: an open break and a guard that lets quotes be."""
    if state.facts.breaks and state.guard.state in QUOTING:
        return f"{state.guard.state.value} with an open break: {'; '.join(state.facts.breaks)}"
    return ""


def account_facts(state: State) -> str:
    """12: facts read as not configured, and no hard stop."""
    health = state.facts.health
    stopped = state.guard.state in (GuardState.HARD_STOP, GuardState.STOPPING)
    if health is None or health.account_facts_ok is not False or stopped:
        return ""
    return f"the account is not as configured and the guard is {state.guard.state.value}"


def figures(state: State, commands: list[Place | Amend], params: Params) -> str:
    """13: whole, positive, a size of the venue's, within the largest value and the collar."""
    instrument, limits = params.instrument, params.limits
    for command in commands:
        px, qty = command.px_ticks, command.qty_lots
        if type(px) is not int or type(qty) is not int or px <= 0 or qty <= 0:
            return f"{command}: not whole and positive"
        if not instrument.is_valid_size(px, qty):
            return f"{command}: not a size that the venue takes"
        if instrument.notional_e10(px, qty) > limits.max_order_e10:
            return f"{command}: worth {instrument.notional_e10(px, qty)}, limit {limits.max_order_e10} (1e-10 quote)"
        for name, anchor in (("mark", state.venue.mark_px_ticks), ("slow mid", state.sampled.slow_mid_ticks)):
            if not (anchor > 0 and abs(px - anchor) <= limits.collar_bps * BPS * anchor):
                return f"{command}: beyond the collar of {limits.collar_bps} bps around the {name} {anchor}"
    return ""


def identity(state: State) -> str:
    """14: cash flows and cost basis come to one equity, whatever the mark."""
    mark = state.venue.mark_px_ticks
    if not mark:
        return ""
    cash, basis = position.equity_cash_e10(state.position, mark), position.equity_basis_e10(state.position, mark)
    return f"equity {cash} from cash flows, {basis} from cost (1e-10 quote)" if cash != basis else ""


def healthy_book(state: State, commands: list[Place | Amend]) -> str:
    """15: a quote needs a book of this connection, with both sides, not crossed."""
    book = state.book
    if commands and not (state.venue.public_up and 0 < book.bid_px <= book.ask_px):
        return f"{commands[0]} from a book {book.bid_px} / {book.ask_px}, public link up: {state.venue.public_up}"
    return ""


def not_blind(state: State, commands: list[Place | Amend], params: Params) -> str:
    """16: book age, clock offset and loop lag within limits, and reconciled since the last gap that was too long."""
    if not commands:
        return ""
    now, limits, health = state.mono_ns, params.guard, state.facts.health
    age_ns = now - state.book.healthy_mono_ns
    if age_ns > limits.book_age_max_ns:
        return f"{commands[0]} on a book {age_ns / NS:.3f} s old"
    if health is None or health.clock_offset_s is None or health.loop_lag_s is None:
        return f"{commands[0]} without a measured clock offset and loop lag"
    if not abs(health.clock_offset_s) * NS <= limits.clock_offset_max_ns:
        return f"{commands[0]} with the clock off by {health.clock_offset_s} s"
    if not health.loop_lag_s * NS <= limits.loop_lag_max_ns:
        return f"{commands[0]} with the loop late by {health.loop_lag_s} s"
    if not state.facts.reconciled_ns:
        return f"{commands[0]} before the first reconcile"
    down_ns = state.venue.private_down_ns
    if down_ns and now - down_ns >= limits.private_gap_ns:
        return f"{commands[0]} unreconciled for {(now - down_ns) / NS:.3f} s since the private stream was lost"
    return ""


def guard_allows(state: State, commands: list[Place | Amend]) -> str:
    """16: nothing that increases goes out while the guard is not quoting."""
    if commands and state.guard.state not in QUOTING:
        return f"{commands[0]} while {state.guard.state.value}"
    return ""


def transition(before: GuardState, event: Event, step: Step) -> str:
    """17: each move is in the table, begins where the last one ended, and HARD_STOP is left by an operator alone."""
    moved = step.transition
    if moved is None:
        return ""
    if moved.before is not before or (moved.before, moved.after) not in TRANSITIONS:
        return f"{moved.before.value} -> {moved.after.value} from {before.value}"
    resumed = type(event) is OperatorAction and event.action == "resume"
    if moved.before is GuardState.HARD_STOP and moved.after is not GuardState.STOPPING and not resumed:
        return f"{moved.before.value} -> {moved.after.value} at {type(event).__name__}"
    return ""


def taken_out(state: State, step: Step) -> str:
    """22: a move to where nothing may be quoted takes every order out in the same step, but for those of which the
    venue has just refused that; what the kill switch flattens with is its own."""
    if step.transition is None or step.transition.after in QUOTING:
        return ""
    for order in state.orders.live.values():
        is_open = not order.ended_ns and order.qty_lots > max(order.filled_lots, order.cum_filled_lots)
        if order.cancel_refused_ns and state.mono_ns - order.cancel_refused_ns < CANCEL_WAIT_NS:
            continue
        if is_open and order.purpose is not Purpose.FLATTEN and not order.cancel_sent_ns:
            return f"{order.client_id} is left to rest in {step.transition.after.value}"
    return ""


def _side(state: State, command: Place | Amend) -> Side | None:
    if isinstance(command, Place):
        return command.side
    order = state.orders.live.get(command.client_id)
    return None if order is None else order.side


def _is_reduce_only(state: State, command: Place | Amend) -> bool:
    if isinstance(command, Place):
        return command.reduce_only
    order = state.orders.live.get(command.client_id)
    return order is not None and order.reduce_only


def _added_lots(state: State, command: Place | Amend) -> int:
    """What the command just emitted added to what is reserved: it is in the slice already."""
    order = state.orders.live.get(command.client_id)
    if isinstance(command, Place) or order is None:
        return command.qty_lots
    return order.reserved_lots - max(0, order.qty_lots - order.filled_lots)


# --- over time --------------------------------------------------------------------------------------------------------


class OrderLives:
    """What each live order was after the last event, to see what became of it. Owns nothing of the state."""

    def __init__(self) -> None:
        self._was: dict[str, tuple[WorkingOrder, OrderStatus, int]] = {}

    def look(self, state: State, event: Event) -> tuple[int, str]:
        """(number, what is broken): 3, 5 or 8."""
        found = (0, "")
        for client_id, (order, status, known_lots) in self._was.items():
            if order.status is not status and (status, order.status) not in LIFE:
                found = 8, f"{client_id} went from {status.value} to {order.status.value}"
            elif order.known_filled_lots < known_lots:
                found = 8, f"{client_id} had {known_lots} lots filled and has {order.known_filled_lots}"
            elif status is OrderStatus.UNKNOWN and order.status.is_terminal and not _is_evidence(event, client_id):
                found = 5, f"{client_id} was UNKNOWN and is {order.status.value} after {event}"
            elif client_id not in state.orders.live and not _is_settled(order):
                found = (
                    3,
                    (
                        f"{client_id} was freed as {order.status.value} with {order.filled_lots} lots booked, "
                        f"{order.cum_filled_lots} of {order.qty_lots} by the venue"
                    ),
                )
        self._was = {o.client_id: (o, o.status, o.known_filled_lots) for o in state.orders.live.values()}
        return found


def _is_evidence(event: Event, client_id: str) -> bool:
    """The venue spoke of that order, and what it said is no lack of an answer."""
    return type(event) is OrderUpdate and event.client_id == client_id and event.reason != "timeout"


def _is_settled(order: WorkingOrder) -> bool:
    return order.status.is_terminal and order.filled_lots == order.cum_filled_lots


def opening(state: State) -> tuple[int, int, int]:
    """(day, equity at its open less transfers, turnover at its open)."""
    risk = state.risk
    return risk.day, risk.day_open_e10 - risk.transfers_seen_e10, risk.day_turnover_start_e10


class Days:
    """18: within one trading day its opening figures stand, transfers apart; no day comes again."""

    def __init__(self) -> None:
        self._was: tuple[int, int, int] | None = None

    def look(self, state: State) -> str:
        now = opening(state)
        before, self._was = self._was, now
        if before is None or now == before or now[0] > before[0]:
            return ""
        return f"(day, open less transfers, turnover at the open) was {before}, is {now}"


def orders_a_minute(params: Params) -> int:
    """Orders and amends of a minute that leave the share kept for cancels."""
    limits = params.limits
    return int(limits.messages_per_minute * (1.0 - limits.reserve_for_cancels))


class Rates:
    """20: orders and amends of a minute leave the share of the budget that is kept for cancels."""

    def __init__(self, params: Params) -> None:
        self._most = orders_a_minute(params)
        self._times_ns: deque[int] = deque()

    def look(self, now_ns: int, number: int) -> str:
        times = self._times_ns
        times.extend([now_ns] * number)
        while times and times[0] <= now_ns - _WINDOW_NS:
            times.popleft()
        return f"{len(times)} orders and amends in a minute, {self._most} allowed" if len(times) > self._most else ""


class Assertions:
    """All of them, for one run."""

    def __init__(self, state: State, params: Params) -> None:
        self._params = params
        self._guard = state.guard.state
        self._lives = OrderLives()
        self._days = Days()
        self._rates = Rates(params)

    def check(self, state: State, event: Event, step: Step) -> None:
        """After a step, before its rows and commands are handed on.

        Raises:
            InvariantBroken: the first that does not hold.
        """
        kind = type(event)
        if step is NOTHING and kind in _MARKET:
            return
        if kind in _OF_ORDERS or step.commands:
            number, what = self._lives.look(state, event)
            if what:
                raise InvariantBroken(number, what)
        if step.commands:
            self._of_commands(state, orders_of(step))
        if kind in _MONEY:
            self._holds(14, identity(state))
            self._holds(18, self._days.look(state))
        self._holds(17, transition(self._guard, event, step))
        self._holds(22, taken_out(state, step))
        self._guard = state.guard.state
        self._holds(11, breaks_open(state))
        self._holds(12, account_facts(state))

    def _of_commands(self, state: State, commands: list[Place | Amend]) -> None:
        if not commands:
            return
        more = increasing(state, commands)
        self._holds(2, worst_case(state, more) or past_zero(state, commands))
        self._holds(10, own_cross(state, commands))
        self._holds(13, figures(state, commands, self._params))
        self._holds(15, healthy_book(state, more))
        self._holds(16, guard_allows(state, more) or not_blind(state, more, self._params))
        self._holds(20, self._rates.look(state.mono_ns, len(commands)))

    def _holds(self, number: int, what: str) -> None:
        if what:
            raise InvariantBroken(number, what)
