"""Pre-trade admission: the last word of the core on each command, whatever decided it.

`admit` knows nothing of strategy. It checks one command against facts: finite and on step (integers by type), valid
size, collar around mark and around the slow mid, largest value and count, worst-case position with everything in
flight and UNKNOWN counted, self-cross, reduce-only on all but quotes, the guard's state, our message rate and the
venue's. No data fails a check. A cancel is always admitted.

Worst case, invariant 2 of `docs/INVARIANTS.md`: no admitted command raises side * position + all that may fill on
that side beyond max(cap, what it was before). For what is not a quote that is not enough: with it, side * position +
all that may fill on that side is at most 0. So none turns a position round, whatever fills and in whatever order.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque

import msgspec

from mmdaemon.core import orders as order_rules
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import Fill
from mmdaemon.core.orders import Orders
from mmdaemon.core.params import GuardParams, Limits, Params
from mmdaemon.core.types import BPS, NS, GuardState, Purpose, Side

_WINDOW_NS = 60 * NS
_MAX_PX_TICKS = 1 << 48
_FILL_FUTURE_NS = 60 * NS
"""A fill that the venue stamps further ahead of our clock than any skew we trade with counts from its receipt."""
_FILLS_KEPT_NS = 600 * NS
_FILLS_KEPT = 1_000
"""Above what a limit may allow in a minute, so that it bounds the memory and never the count that matters."""
_VENUE_PAUSE_NS = NS
_VENUE_PAUSE_MAX_NS = 30 * NS
"""Within a minute of a storm's end there must be quotes again."""
_DERISK_GAP_NS = NS
"""Least time between two orders that work a position down, so that none of them spins, the ones that take above all."""
VENUE_PAUSES_HARD = 7
"""Six pauses on end are a minute and more: a venue that still refuses has banned us, and nothing can be moved there."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A command that was not let out: which check failed and the figures it failed on."""

    client_id: str
    check: str
    detail: str
    side: Side | None
    """None for an amend of an order that is not there."""


class Budgets(msgspec.Struct):
    """Messages of the last minute, and what came of too many. Times are `mono_ns`."""

    cancels_ns: deque[int] = msgspec.field(default_factory=deque)
    messages_ns: deque[int] = msgspec.field(default_factory=deque)
    buys_ns: deque[int] = msgspec.field(default_factory=deque)
    """When fills happened, ascending: by the venue's time where it gave one that can be."""
    sells_ns: deque[int] = msgspec.field(default_factory=deque)
    cancel_pause_until_ns: int = 0
    message_pause_until_ns: int = 0
    venue_pause_until_ns: int = 0
    """Until then no order and no amend goes out, because the venue refused requests for their rate."""
    venue_pauses: int = 0
    """So many on end, each twice as long as the one before."""
    fruitless_pauses: int = 0
    """So many since the venue last took an order or an amend."""
    taken: int = 0
    """`Orders.taken` when the last of them began."""
    derisked_ns: int = 0
    """When the last order that works a position down went out; 0 = never."""
    cancel_breaches: int = 0
    """Since the last resume."""
    fills_peak: int = 0
    """Most fills on one side within a minute, since the last resume."""


class Reference(msgspec.Struct, frozen=True, gc=False):
    """The facts a command is held against, gathered once for a batch of commands."""

    guard: GuardState
    position_lots: int
    max_position_lots: int
    mark_px_ticks: int
    slow_mid_ticks: float
    now_ns: int


def admit(command: Command, orders: Orders, budgets: Budgets, ref: Reference, params: Params) -> Refusal | None:
    """None where the command may go out, else the first check that it fails."""
    if isinstance(command, Cancel):
        return None
    limits = params.limits
    if isinstance(command, Amend):
        order = orders.live.get(command.client_id)
        if order is None:
            return Refusal(command.client_id, "unknown_order", "no such live order to amend", None)
        side, reduce_only, purpose = order.side, order.reduce_only, order.purpose
        open_lots = command.qty_lots - order.filled_lots
        added_lots = max(0, open_lots - order.reserved_lots)
    else:
        side, reduce_only, purpose = command.side, command.reduce_only, command.purpose
        open_lots = added_lots = command.qty_lots
    px = command.px_ticks
    if purpose is not Purpose.QUOTE and not reduce_only:
        return Refusal(command.client_id, "reduce_only", f"a {purpose.value} order without reduce-only", side)
    check, detail = _check(
        px, command.qty_lots, open_lots, added_lots, side, orders, ref, params, reduce_only=reduce_only
    )
    if not check and purpose is not Purpose.QUOTE:
        after = order_rules.worst_case_lots(orders, ref.position_lots, side) + added_lots
        if after > 0:
            check, detail = "beyond_flat", f"{after} lots more than is held could fill on that side"
    if not check and isinstance(command, Place) and purpose is Purpose.DERISK:
        gap_ns = ref.now_ns - budgets.derisked_ns
        if budgets.derisked_ns and gap_ns < _DERISK_GAP_NS:
            check, detail = "derisk_rate", f"the last one went out {gap_ns / NS:.3f} s ago"
    if not check and isinstance(command, Place) and len(orders.live) >= limits.max_open_orders:
        check, detail = "open_orders", f"{len(orders.live)} open, limit {limits.max_open_orders}"
    if not check and _crosses_own(command, side, orders):
        check, detail = "self_cross", f"{side.name} {px} would meet our own order"
    if not check and ref.now_ns < budgets.venue_pause_until_ns:
        left_s = (budgets.venue_pause_until_ns - ref.now_ns) / NS
        check, detail = "venue_rate", f"the venue refused requests for their rate; orders wait {left_s:.1f} s more"
    if not check:
        _trim(budgets.messages_ns, ref.now_ns)
        most = int(limits.messages_per_minute * (1.0 - limits.reserve_for_cancels))
        if len(budgets.messages_ns) >= most:
            check, detail = "message_rate", f"{len(budgets.messages_ns)} messages in a minute, {most} without cancels"
    return Refusal(command.client_id, check, detail, side) if check else None


def _check(  # one figure of the command after another, in the order of how wrong it would be
    px: int,
    qty: int,
    open_lots: int,
    added_lots: int,
    side: Side,
    orders: Orders,
    ref: Reference,
    params: Params,
    *,
    reduce_only: bool,
) -> tuple[str, str]:
    instrument, limits = params.instrument, params.limits
    if type(px) is not int or type(qty) is not int:
        return "off_step", f"px {px} ticks, qty {qty} lots: not whole"
    if not (0 < px < _MAX_PX_TICKS and qty > 0 and open_lots > 0):
        return "not_positive", f"px {px} ticks, qty {qty} lots"
    before = order_rules.worst_case_lots(orders, ref.position_lots, side)
    # Reducing means: if everything open on that side filled, this too, the position would not pass zero. An amend that
    # adds nothing to what is open against the position is let through too: it may be the one that shrinks it to that.
    reducing = before + added_lots <= 0 or (added_lots == 0 and side * ref.position_lots < 0)
    if ref.guard is GuardState.REDUCING and not (reducing or reduce_only):
        return "guard", "REDUCING admits only what reduces"
    if ref.guard is not GuardState.RUNNING and ref.guard is not GuardState.REDUCING and not reduce_only:
        return "guard", f"{ref.guard.value} admits only cancels and reduce-only orders"
    if not instrument.is_valid_size(px, qty):
        return "size", f"{qty} lots at {px} is not a size the venue takes"
    if instrument.notional_e10(px, qty) > limits.max_order_e10:
        return "order_value", f"{instrument.notional_e10(px, qty)} above {limits.max_order_e10} (1e-10 quote)"
    if ref.mark_px_ticks <= 0 or not ref.slow_mid_ticks > 0:
        return "no_reference", "no mark or no slow mid to hold the price against"
    collar = limits.collar_bps * BPS
    for name, anchor in (("mark", float(ref.mark_px_ticks)), ("slow mid", ref.slow_mid_ticks)):
        if abs(px - anchor) > collar * anchor:
            return "collar", f"{px} is more than {limits.collar_bps} bps from the {name} {anchor:.1f}"
    if before + added_lots > max(ref.max_position_lots, before):
        return "worst_case", f"{before} + {added_lots} lots above {ref.max_position_lots}"
    return "", ""


def _crosses_own(command: Place | Amend, side: Side, orders: Orders) -> bool:
    for order in orders.live.values():
        if order.side is not side and side * (command.px_ticks - order.worst_px_ticks) >= 0:
            return True
    return False


def on_command(budgets: Budgets, command: Command, now_ns: int, limits: Limits, guard: GuardParams) -> None:
    """Count a command that goes out. Risk cancels count towards no budget of cancels."""
    budgets.messages_ns.append(now_ns)
    _trim(budgets.messages_ns, now_ns)
    if isinstance(command, Place) and command.purpose is Purpose.DERISK:
        budgets.derisked_ns = now_ns
    if len(budgets.messages_ns) > limits.messages_per_minute:
        budgets.message_pause_until_ns = now_ns + guard.cancel_breach_pause_ns
    if isinstance(command, Cancel) and not command.risk:
        budgets.cancels_ns.append(now_ns)
        _trim(budgets.cancels_ns, now_ns)
        if len(budgets.cancels_ns) > limits.cancels_per_minute:
            budgets.cancels_ns.clear()
            budgets.cancel_breaches += 1
            budgets.cancel_pause_until_ns = now_ns + guard.cancel_breach_pause_ns


def on_rate_refusal(budgets: Budgets, taken: int, now_ns: int) -> None:
    """The venue refused a request for its rate: orders and amends wait, twice as long each time within a minute.
    `taken`: so many it took so far; one that goes on taking some is busy, and has banned nobody.

    Cancels go on. What was sent before the pause and is refused during it is of the same burst, and lengthens nothing.
    """
    if now_ns < budgets.venue_pause_until_ns:
        return
    is_again = now_ns - budgets.venue_pause_until_ns < _WINDOW_NS
    budgets.venue_pauses = budgets.venue_pauses + 1 if is_again else 1
    budgets.fruitless_pauses = budgets.fruitless_pauses + 1 if is_again and taken == budgets.taken else 1
    budgets.taken = taken
    pause_ns = min(_VENUE_PAUSE_NS << min(budgets.venue_pauses - 1, 10), _VENUE_PAUSE_MAX_NS)
    budgets.venue_pause_until_ns = now_ns + pause_ns


def on_unsent(budgets: Budgets, now_ns: int) -> None:
    """A request did not leave for our own pace at the venue, or the venue's word to wait: the next wait a second. The
    venue refused nothing, so that lengthens nothing."""
    budgets.venue_pause_until_ns = max(budgets.venue_pause_until_ns, now_ns + _VENUE_PAUSE_NS)


def on_fill(budgets: Budgets, fill: Fill) -> None:
    """Count a fill towards repeated execution, at the time it happened: those of a gap are all read in one moment.

    Not of what only reduces: it cannot run away, and one slice that sweeps a book is dozens of fills. Counted, the way
    out of a position would be the stop that leaves it open.
    """
    times_ns = budgets.buys_ns if fill.side is Side.BUY else budgets.sells_ns
    at_ns = fill.ts_ns
    if fill.venue_ts_ns is not None and fill.venue_ts_ns <= fill.ts_ns + _FILL_FUTURE_NS:
        at_ns = fill.venue_ts_ns
    # In the order of time, not of telling: what a gap held back is told after what came later.
    insort(times_ns, at_ns)
    ends = range(bisect_left(times_ns, at_ns), bisect_left(times_ns, at_ns + _WINDOW_NS))
    within = max(end + 1 - bisect_right(times_ns, times_ns[end] - _WINDOW_NS) for end in ends)
    budgets.fills_peak = max(budgets.fills_peak, within)
    while times_ns[0] < at_ns - _FILLS_KEPT_NS or len(times_ns) > _FILLS_KEPT:
        times_ns.popleft()


def on_resume(budgets: Budgets) -> None:
    """An operator resumed: breaches and peaks are counted anew; the message windows are not."""
    budgets.cancel_breaches = 0
    budgets.fills_peak = 0
    budgets.venue_pauses = budgets.fruitless_pauses = 0


def _trim(ring: deque[int], now_ns: int) -> None:
    oldest = now_ns - _WINDOW_NS
    while ring and ring[0] <= oldest:
        ring.popleft()
