"""Named mutants of the safety code: defects that somebody once shipped, each put in by a patch, in a process of its own
or in a test, and never in a file.

The first line of a docstring is what the table of `docs/SIMULATION.md` says of it.
"""

import asyncio
import os
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mmdaemon.core import apply, book, derisk, diff, fill_quality, guard, limits, orders, position, quotes, risk
from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import BookUpdate, Fill, KillChanged, LinkChanged, OrderUpdate, RequestFailed, TimerFired
from mmdaemon.core.limits import Reference
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.types import TERMINAL, GuardState, KillState, OrderStatus, Side
from mmdaemon.daemon import kill_switch, reconcile, sweep
from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.reconcile import Reconciler
from mmdaemon.daemon.sender import Sender
from mmdaemon.journal import known, recovery, rows
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.statements import STATEMENTS, Statement
from mmdaemon.research.simulation.played import Violation
from mmdaemon.settings import Settings
from mmdaemon.venues.base import Absent, VenueUnavailable

HOURS = 0.4
"""Of a seed, in tests and table."""
Patch = pytest.MonkeyPatch


class Mutant(msgspec.Struct, frozen=True):
    name: str
    says: str
    put_in: Callable[[Patch], None]
    numbers: tuple[int, ...]
    """Of the invariants that may be the first to see it. Which one is, depends on the seed."""
    is_of_the_design: bool
    """One of the ten that the safety design names; CI plays them."""
    seed: int
    """Where CI begins to play it."""
    survives: str
    """Why no seed sees it; empty where one must."""


MUTANTS: dict[str, Mutant] = {}


def mutant(
    *numbers: int, design: bool = False, seed: int = 1, survives: str = ""
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """The function is how it is put in; its docstring is what is said of it."""

    def registers(put_in: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name, says = put_in.__name__, (put_in.__doc__ or "").partition("\n")[0].strip()
        MUTANTS[name] = Mutant(name, says, put_in, numbers, design, seed, survives)
        return put_in

    return registers


def number_of(violation: Violation) -> int:
    """Of the invariant that spoke. In the daemon itself it ends the part that asserted it, which is a 19 of its own."""
    asserted = re.search(r"InvariantBroken\(['\"]invariant (\d+)", violation.what)
    return int(asserted[1]) if asserted else violation.number


def _say_absent(reconciler: Any, order: WorkingOrder) -> None:
    """As the reconciler says of an order that cannot be there any more."""
    mono_ns, ts_ns, _ = reconciler._now()
    status, filled = OrderStatus.CANCELLED, order.filled_lots
    reconciler._post(OrderUpdate(mono_ns, ts_ns, None, order.client_id, status, filled, None, None, None, "absent"))


# --- the ten of the design --------------------------------------------------------------------------------------------


@mutant(1, 8, design=True)
def no_unique_key(patch: Patch) -> None:
    """The journal takes a fill as often as it is told."""
    key = "UNIQUE (trade_id, account_epoch, symbol, venue)"
    assert key in recovery.MIGRATIONS[0]
    migrations = {**recovery.MIGRATIONS, 0: recovery.MIGRATIONS[0].replace(key, "CHECK (1)")}
    patch.setattr(recovery, "MIGRATIONS", migrations)
    sql, on_conflict, _ = STATEMENTS[Statement.FILL].partition("ON CONFLICT")
    assert on_conflict
    patch.setitem(STATEMENTS, Statement.FILL, sql)


@mutant(3, 4, design=True, seed=2)
def intent_after_send(patch: Patch) -> None:
    """An order is sent before its intent is durable."""

    async def at_once(_self: Sender, _number: int | None) -> str:
        return ""

    patch.setattr(Sender, "_why_not_durable", at_once)


@mutant(5, design=True)
def timeout_is_rejected(patch: Patch) -> None:
    """A time-out is taken for a rejection."""
    post = Inbox.post

    def mutated(self: Inbox, event: Any) -> None:
        if isinstance(event, OrderUpdate) and event.status is OrderStatus.UNKNOWN:
            event = OrderUpdate(
                event.mono_ns, event.ts_ns, None, event.client_id, OrderStatus.REJECTED, 0, None, None, None, "timeout"
            )
        post(self, event)

    patch.setattr(Inbox, "post", mutated)


@mutant(9, 17, design=True, seed=5)
def latch_lost(patch: Patch) -> None:
    """The latch is lost over a restart."""
    patch.setattr(StateDir, "write_latch", lambda self, text: ())
    patch.setattr(recovery, "read_latch", lambda state: recovery.Latch(KillState.ARMED, ()))


@mutant(2, design=True, seed=11)
def cap_ignores_unknown(patch: Patch) -> None:
    """An UNKNOWN order does not count towards the cap."""
    worst_case = orders.worst_case_lots

    def mutated(held: Any, position_lots: int, side: Any) -> int:
        unknown = [o for o in held.live.values() if o.side is side and o.status is OrderStatus.UNKNOWN]
        return worst_case(held, position_lots, side) - sum(order.reserved_lots for order in unknown)

    patch.setattr(orders, "worst_case_lots", mutated)


@mutant(6, 22, design=True, seed=11)
def orphan_left(patch: Patch) -> None:
    """An order of ours that the journal does not know is left alone."""

    async def nothing(_self: Reconciler, _report: Any, _seen: Any) -> None:
        return

    patch.setattr(Reconciler, "_adopt_orphan", nothing)


@mutant(3, design=True)
def early_settle(patch: Patch) -> None:
    """A quantity is freed at the order's end, fills outstanding."""
    settle = orders._settle

    def mutated(held: Any, order: WorkingOrder, before_lots: int) -> bool:
        if order.status in TERMINAL:
            order.cum_final, order.cum_filled_lots = True, order.filled_lots
        return settle(held, order, before_lots)

    patch.setattr(orders, "_settle", mutated)


@mutant(5, design=True)
def quick_not_found(patch: Patch) -> None:
    """ "Not found" counts at once."""
    ask = Reconciler._ask

    async def mutated(self: Any, order: WorkingOrder) -> None:
        if isinstance(await self._venue.order(order.client_id), Absent):
            _say_absent(self, order)
        else:
            await ask(self, order)

    patch.setattr(Reconciler, "_ask", mutated)


@mutant(9, design=True, seed=6)
def kill_without_in_flight_wait(patch: Patch) -> None:
    """A kill is VERIFIED without waiting for what is in flight."""
    sweeps = sweep.sweep
    patch.setattr(
        kill_switch,
        "sweep",
        lambda venue, clock, _in_flight_max_ns, known, progress: sweeps(venue, clock, 0, known, progress),
    )


@mutant(7, design=True, seed=7)
def no_overlap(patch: Patch) -> None:
    """History is read from the last fill that is booked, and not a minute before."""
    on_fill, book_history = apply._on_fill, Reconciler._book_history
    newest: dict[int, int] = {}

    def remembers(state: Any, fill: Fill, params: Any) -> None:
        newest[id(state)] = max(newest.get(id(state), 0), fill.venue_ts_ns or 0)
        on_fill(state, fill, params)

    async def mutated(self: Any) -> None:
        self._since_ns = newest.get(id(self._state), self._since_ns)
        await book_history(self)

    patch.setattr(apply, "_on_fill", remembers)
    patch.setattr(Reconciler, "_book_history", mutated)
    patch.setattr(reconcile, "_OVERLAP_NS", 0)
    patch.setattr(reconcile, "_MENDING_OVERLAP_NS", 0)


# --- orders -----------------------------------------------------------------------------------------------------------


@mutant(7, 14, 18)
def fill_booked_twice(patch: Patch) -> None:
    """A fill is booked as often as it is told."""
    on_fill = position.on_fill

    def mutated(held: Any, fill: Any, instrument: Any) -> bool:
        held.trade_ids.pop(fill.trade_id, None)
        return on_fill(held, fill, instrument)

    patch.setattr(position, "on_fill", mutated)


@mutant(3)
def cancel_frees(patch: Patch) -> None:
    """A cancel frees its order when it is sent."""
    submit = orders.submit

    def mutated(held: Any, command: Any, mono_ns: int) -> None:
        submit(held, command, mono_ns)
        order = held.live.pop(command.client_id, None) if isinstance(command, Cancel) else None
        if order is not None:
            orders._reserve(held, order.side, -order.reserved_lots)
            held.closed[order.client_id] = order.filled_lots

    patch.setattr(orders, "submit", mutated)


@mutant(2, 3)
def amend_reserves_the_new_size(patch: Patch) -> None:
    """An amend in flight reserves its new size only."""
    patch.setattr(
        WorkingOrder,
        "reserved_lots",
        property(lambda self: max(0, (self.pending_qty_lots or self.qty_lots) - self.filled_lots)),
    )


@mutant(8)
def filled_may_fall(patch: Patch) -> None:
    """A report that is out of order lowers what was filled."""
    on_update = orders.on_update

    def mutated(held: Any, e: OrderUpdate) -> bool:
        order = held.live.get(e.client_id)
        if order is not None and e.cum_filled_lots is not None and e.cum_filled_lots < order.cum_filled_lots:
            order.cum_filled_lots = e.cum_filled_lots
            order.filled_lots = min(order.filled_lots, e.cum_filled_lots)
        return on_update(held, e)

    patch.setattr(orders, "on_update", mutated)


@mutant(7)
def late_fill_dropped(patch: Patch) -> None:
    """A fill of an order that has ended is dropped."""
    on_fill = apply._on_fill

    def mutated(state: Any, fill: Fill, params: Any) -> None:
        if fill.client_id in state.orders.live:
            on_fill(state, fill, params)

    patch.setattr(apply, "_on_fill", mutated)


@mutant(22)
def cancel_never_repeated(patch: Patch) -> None:
    """A cancel that nobody answered is never sent again."""
    evidence = reconcile.evidence

    def mutated(*given: Any) -> list[Any]:
        return [e for e in evidence(*given) if not (isinstance(e, RequestFailed) and e.request == "cancel")]

    patch.setattr(reconcile, "evidence", mutated)


@mutant(5)
def failed_read_is_not_found(patch: Patch) -> None:
    """A query that failed is taken for "no such order"."""
    ask = Reconciler._ask

    async def mutated(self: Any, order: WorkingOrder) -> None:
        try:
            await ask(self, order)
        except VenueUnavailable:
            _say_absent(self, order)

    patch.setattr(Reconciler, "_ask", mutated)


# --- reconciliation ---------------------------------------------------------------------------------------------------


@mutant(7)
def fills_from_the_stream_only(patch: Patch) -> None:
    """Fills come from the stream only: history is not read."""
    book_facts = Reconciler._book

    def mutated(self: Any, name: str, facts: Any, new: int) -> None:
        book_facts(self, name, () if name == "fills" else facts, new)

    patch.setattr(Reconciler, "_book", mutated)


@mutant(7)
def cursor_from_the_clock(patch: Patch) -> None:
    """History is read from a minute before now, however long nobody was there."""
    book_history = Reconciler._book_history

    async def mutated(self: Any) -> None:
        self._since_ns = self._clock.wall_ns()
        await book_history(self)

    patch.setattr(Reconciler, "_book_history", mutated)
    patch.setattr(reconcile, "_MENDING_OVERLAP_NS", reconcile._OVERLAP_NS)


@mutant(6)
def foreign_order_cancelled(patch: Patch) -> None:
    """An order of somebody else is cancelled."""
    check = Reconciler._check_orders

    async def mutated(self: Any) -> Any:
        seen = await check(self)
        for report in self.orders:
            if not report.client_id.startswith("mm"):
                await self._venue.send(Cancel(report.client_id, risk=True))
        return seen

    patch.setattr(Reconciler, "_check_orders", mutated)


@mutant(11)
def break_forgotten(patch: Patch) -> None:
    """Breaks do not outlive the process."""
    patch.setattr(recovery, "_open_breaks", lambda db, account, ts_ns: ())


@mutant(3)
def orders_not_recovered(patch: Patch) -> None:
    """A start does not look for the orders of the process before it."""
    patch.setattr(known, "unsettled_orders", lambda db, account, mono_ns, ts_ns: ())


@mutant(19)
def client_ids_again(patch: Patch) -> None:
    """Client ids begin anew after a restart."""
    to_params = Settings.to_params

    def mutated(self: Settings, instrument: Any, bot_tag: str, run_epoch: int, *, can_amend: bool = True) -> Any:
        return to_params(self, instrument, bot_tag, 1, can_amend=can_amend)

    patch.setattr(Settings, "to_params", mutated)


# --- money and budgets ------------------------------------------------------------------------------------------------


@mutant(14)
def funding_sign(patch: Patch) -> None:
    """Funding is booked with the wrong sign."""
    on_bill = position.on_bill

    def mutated(held: Any, bill: Any) -> bool:
        if bill.kind == "funding":
            bill = msgspec.structs.replace(bill, amount_e10=-bill.amount_e10)
        return on_bill(held, bill)

    patch.setattr(position, "on_bill", mutated)


@mutant(14)
def fee_sign(patch: Patch) -> None:
    """A fee is booked with the wrong sign."""
    on_fill = position.on_fill

    def mutated(held: Any, fill: Any, instrument: Any) -> bool:
        return on_fill(held, msgspec.structs.replace(fill, fee_e10=-fill.fee_e10), instrument)

    patch.setattr(position, "on_fill", mutated)


@mutant(18)
def loss_forgotten(patch: Patch) -> None:
    """A restart begins the day's loss anew."""
    kept = known.newest_slice
    patch.setattr(known, "newest_slice", lambda db, name, account: None if name == "risk" else kept(db, name, account))


@mutant(18)
def breaches_forgotten(patch: Patch) -> None:
    """A restart begins the breaches of the cancel budget anew."""
    number = known.number

    def mutated(db: Any, name: str, account: int, otherwise: int) -> int:
        return 0 if name == "cancel_breaches" else number(db, name, account, otherwise)

    patch.setattr(known, "number", mutated)


@mutant(
    20,
    survives="no seed sends all that it may within the minute of a crash and again after it; caught by "
    "test_found_by_seeds.py",
)
def messages_forgotten(patch: Patch) -> None:
    """A restart begins the minute's messages anew."""
    patch.setattr(known, "messages", lambda db, ts_ns: ())


@mutant(20)
def no_message_rate(patch: Patch) -> None:
    """Messages are counted, and none is held back."""
    admit = limits.admit

    def mutated(command: Any, held: Any, budgets: Any, ref: Any, params: Any) -> Any:
        refusal = admit(command, held, budgets, ref, params)
        return None if refusal is not None and refusal.check == "message_rate" else refusal

    patch.setattr(limits, "admit", mutated)


# --- working a position down ------------------------------------------------------------------------------------------


def _without_the_check(patch: Patch, *names: str) -> None:
    """Admission lets out what these checks of it refuse. They are a net of their own, below what is mutated."""
    admit = limits.admit

    def mutated(*given: Any) -> Any:
        refusal = admit(*given)
        return None if refusal is not None and refusal.check in names else refusal

    patch.setattr(limits, "admit", mutated)


def _room_for_anything(patch: Patch, while_short: list[bool]) -> None:
    plan = diff._plan_derisk

    def mutated(wanted: Any, derisking: Any, room_lots: int, rules: Any, to: Any) -> None:
        plan(wanted, derisking, 10**9 if while_short[-1] else room_lots, rules, to)

    patch.setattr(diff, "_plan_derisk", mutated)
    _without_the_check(patch, "beyond_flat")


@mutant(2)
def derisk_on_the_wrong_side(patch: Patch) -> None:
    """A short position is worked down by selling."""
    quote, is_short = derisk.quote, [False]

    def mutated(inputs: Any, fair_ticks: float, params: Any) -> Any:
        is_short.append(inputs.position_lots < 0)
        made = quote(msgspec.structs.replace(inputs, position_lots=abs(inputs.position_lots)), fair_ticks, params)
        assert made is None or made.side is Side.SELL
        return made

    patch.setattr(derisk, "quote", mutated)
    _room_for_anything(patch, is_short)


@mutant(2)
def derisk_may_increase(patch: Patch) -> None:
    """What works a position down is not reduce-only."""

    def mutated(*given: Any, **named: Any) -> Place:
        return Place(*given, **(named | {"reduce_only": False}))

    patch.setattr(diff, "Place", mutated)
    _without_the_check(patch, "reduce_only", "guard")


@mutant(2)
def derisk_ignores_what_may_fill(patch: Patch) -> None:
    """What works a position down is as large as the position, whatever else may still fill."""
    _room_for_anything(patch, [True])


@mutant(23)
def day_end_forgotten_too_early(patch: Patch) -> None:
    """The flag that the day ends is taken back before the day has turned."""
    look = derisk._look_at_the_day

    def mutated(state: Any, params: Any) -> None:
        look(state, params)
        if 4 * risk.to_rollover_ns(state.ts_ns, params.rollover_hour_utc) < 3 * params.derisk.day_end_ns:
            state.derisk.ending_day = -1

    patch.setattr(derisk, "_look_at_the_day", mutated)


# --- what fills are worth ---------------------------------------------------------------------------------------------


@mutant(2)
def pulled_side_is_quoted(patch: Patch) -> None:
    """A side that is pulled is quoted all the same."""
    patch.setattr(fill_quality, "is_pulled", lambda quality, side: False)


@mutant(23)
def pull_never_ends(patch: Patch) -> None:
    """A side that was pulled never returns."""
    follow = fill_quality._follow

    def mutated(quality: Any, side: Any, now_ns: int, params: Any) -> bool:
        return side.phase is not fill_quality.Phase.PULLED and follow(quality, side, now_ns, params)

    patch.setattr(fill_quality, "_follow", mutated)


# --- guard ------------------------------------------------------------------------------------------------------------


@mutant(16)
def admit_ignores_soft_pause(patch: Patch) -> None:
    """Quotes are made and let out in SOFT_PAUSE."""
    admit = limits.admit

    def mutated(command: Any, held: Any, budgets: Any, ref: Reference, params: Any) -> Any:
        if ref.guard is GuardState.SOFT_PAUSE:
            ref = msgspec.structs.replace(ref, guard=GuardState.RUNNING)
        return admit(command, held, budgets, ref, params)

    patch.setattr(limits, "admit", mutated)
    patch.setattr(quotes, "_QUOTING", (GuardState.RUNNING, GuardState.REDUCING, GuardState.SOFT_PAUSE))


@mutant(22)
def soft_pause_keeps_quotes(patch: Patch) -> None:
    """SOFT_PAUSE sends nothing new and cancels nothing."""
    diffs = diff.diff

    def mutated(targets: Any, *given: Any, **named: Any) -> Any:
        return diffs(targets, *given, **named) if targets or not named.get("risk") else []

    patch.setattr(diff, "diff", mutated)


@mutant(16, 19)
def guard_without_a_timer(patch: Patch) -> None:
    """The guard is evaluated at events that concern it, and at no deadline."""
    evaluate, on_timer = guard.evaluate, apply._on_timer

    def mutated(state: Any, now_ns: int, params: Any) -> Any:
        return evaluate(state, now_ns, params) if state.guard.dirty else None

    def quietly(state: Any, event: TimerFired, params: Any) -> None:
        dirty = state.guard.dirty
        on_timer(state, event, params)
        state.guard.dirty = dirty

    patch.setattr(guard, "evaluate", mutated)
    patch.setattr(apply, "_on_timer", quietly)


@mutant(17)
def no_dwell(patch: Patch) -> None:
    """A soft reason is let go of as soon as it is cured."""
    patch.setattr(guard, "_hold", lambda held, now_ns, clear_ns: (held.raw, 1 << 62))


@mutant(17)
def hard_stop_ends_by_itself(patch: Patch) -> None:
    """HARD_STOP is over once the kill switch is done."""
    applies = apply.apply

    def mutated(state: Any, event: Any, params: Any) -> None:
        applies(state, event, params)
        if type(event) is KillChanged and event.state is KillState.KILLED:
            state.facts.kill, state.guard.latched = KillState.ARMED, False

    patch.setattr("mmdaemon.core.engine.apply", mutated)


@mutant(16)
def dead_link_is_up(patch: Patch) -> None:
    """A private stream that is lost still counts as up."""
    on_link = apply._on_link

    def mutated(state: Any, event: LinkChanged, params: Any) -> None:
        if event.link == "public" or event.up:
            on_link(state, event, params)

    patch.setattr(apply, "_on_link", mutated)


@mutant(16)
def gap_needs_no_reconcile(patch: Patch) -> None:
    """A stream that came back needs no reconcile."""
    on_link = apply._on_link

    def mutated(state: Any, event: LinkChanged, params: Any) -> None:
        on_link(state, event, params)
        if event.link == "private" and event.up:
            state.venue.private_down_ns, state.guard.reconciled = 0, bool(state.facts.reconciled_ns)

    patch.setattr(apply, "_on_link", mutated)


# --- market data and prices -------------------------------------------------------------------------------------------


@mutant(15, 16)
def crossed_book(patch: Patch) -> None:
    """A crossed book is a book."""
    on_book = book.on_book

    def mutated(held: Any, e: BookUpdate) -> str:
        if e.bids and e.asks and e.bids[0][0] > e.asks[0][0]:
            e = msgspec.structs.replace(e, asks=((e.bids[0][0] + 1, 1),))
        return on_book(held, e)

    patch.setattr(book, "on_book", mutated)


@mutant(15)
def book_outlives_its_stream(patch: Patch) -> None:
    """The book of before a reconnect is still one after it."""
    patch.setattr(book, "invalidate", lambda held: None)


@mutant(13, 23)
def price_off_tick(patch: Patch) -> None:
    """A price is not rounded to the tick."""
    patch.setattr(quotes, "floor", lambda value: value)


@mutant(13)
def no_collar(patch: Patch) -> None:
    """Any price is taken, from the venue and by the last check."""
    check = limits._check

    def mutated(*given: Any, **named: Any) -> tuple[str, str]:
        failed, detail = check(*given, **named)
        return ("", "") if failed == "collar" else (failed, detail)

    patch.setattr(limits, "_check", mutated)
    patch.setattr(book, "_is_confirmed", lambda held, mid_x2, venue_ts_ns: True)


@mutant(10)
def no_self_cross_check(patch: Patch) -> None:
    """Nobody looks at our own orders of the other side."""
    in_order = diff._in_order
    far = diff.NO_PX_TICKS
    patch.setattr(limits, "_crosses_own", lambda command, side, held: False)
    patch.setattr(diff, "_is_blocked", lambda plan, best_bid, best_ask: False)
    patch.setattr(diff, "_in_order", lambda plan, bid, ask, rules, new_id: in_order(plan, -far, far, rules, new_id))


# --- kill switch and process ------------------------------------------------------------------------------------------


@mutant(
    9,
    survives="the guard stops the core in the same step; only what waits for a slow disk would pass; caught by "
    "test_kill_switch.py",
)
def gate_stays_open(patch: Patch) -> None:
    """A kill does not close the gate."""
    patch.setattr(Gate, "close", lambda self, because: None)


@mutant(9)
def kill_cancels_once(patch: Patch) -> None:
    """A kill cancels, and takes a read that failed for an empty one."""
    read = sweep.read_open_orders

    async def mutated(venue: Any, progress: Any) -> Any:
        rested = await read(venue, progress)
        return [] if rested is None else rested

    patch.setattr(sweep, "read_open_orders", mutated)


@mutant(9)
def slices_may_increase(patch: Patch) -> None:
    """The kill switch's slices are not reduce-only."""

    def mutated(*given: Any, **named: Any) -> Place:
        return Place(*given, **(named | {"reduce_only": False}))

    patch.setattr(kill_switch, "Place", mutated)


@mutant(17)
def kill_ends_at_quiet(patch: Patch) -> None:
    """A kill that is QUIET is let go of by the next start."""
    journaled = recovery._journaled_kill_state
    patch.setattr(StateDir, "write_latch", lambda self, text: ())
    patch.setattr(
        recovery,
        "_journaled_kill_state",
        lambda db: journaled(db) if journaled(db) is KillState.KILLING else KillState.ARMED,
    )


@mutant(17)
def resume_not_journaled(patch: Patch) -> None:
    """A resume is journaled as something else."""
    row = rows.operator_row

    def mutated(epoch: int, seq: Any, action: Any, outcome: str) -> Any:
        if action.action == "resume":
            action = msgspec.structs.replace(action, action="note")
        return row(epoch, seq, action, outcome)

    patch.setattr(rows, "operator_row", mutated)


@mutant(23)
def reconciler_hangs(patch: Patch) -> None:
    """The reconciler waits for ever for an answer that does not come."""
    ask = Reconciler._ask

    async def mutated(self: Any, order: WorkingOrder) -> None:
        try:
            await ask(self, order)
        except VenueUnavailable:
            await asyncio.get_running_loop().create_future()

    patch.setattr(Reconciler, "_ask", mutated)


@mutant(21)
def environment_is_journaled(patch: Patch) -> None:
    """The environment is kept with the run, keys and all."""
    row = rows.provenance_row
    patch.setattr(rows, "provenance_row", lambda epoch, told: row(epoch, {**told, **os.environ}))


@mutant(2, 3, 5, seed=300000)
def duplicate_is_a_rejection(patch: Patch) -> None:
    """A refusal as a duplicate ends the order, though a copy of the request came first."""
    patch.setattr(OrderUpdate, "word", property(lambda self: self.status))
