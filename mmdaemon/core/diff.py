"""Target against working orders: the fewest commands that lead from one to the other, keeping queue priority.

On each side, in this order:
  1. as many targets as possible are seated on an order that may be left alone (a maximum matching, so that the number
     of commands is the least whatever the ranges);
  2. an order at a price that is still good but of the wrong size takes a free target: a smaller size is amended in
     place and keeps its queue, a larger one loses it anyway and goes to the target's price;
  3. what else can be moved takes the targets left, same level first: one Amend where the venue can, else Cancel now and
     Place once it is gone; what finds no target is cancelled;
  4. an order that cannot be moved (unacknowledged, UNKNOWN, a request in flight, ended with fills still to come)
     occupies a target; only targets that nothing occupies are placed.

An order is left alone when its price lies in the target's range and what remains of it is within `SIZE_TOLERANCE` of
the target, or is what a partial fill left, not below the venue's minimum: that is first in its queue, and is topped up
when the order is next moved. From age `refresh_ns` on only the exact price and size are left alone.

The order that works a position down (DERISK) is one, beside the ladder: it never stands for a quote, nor a quote for
it. It goes out reduce-only, clipped to its room: the position, less all that may still fill on its side, quotes on
their way out and orders of unknown fate too. Where there is less than no room it is cancelled. It is moved once a
second at most; one that takes is never moved, and the next goes out when nothing of it is left. Where it is not wanted
any more a risk cancel takes it out, and until it is gone it holds the place of a quote.

No own bid ever meets an own ask: a price goes out only if it is beyond every own order of the other side that may still
rest, whichever of our requests take effect and in whatever order. What is withheld for that goes out at a later diff;
and an order may not stay, in its range or not, where it would keep a target of the other side out for good.
"""

from collections.abc import Callable

import msgspec

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.decision import Quote
from mmdaemon.core.orders import Orders, WorkingOrder, worst_case_lots
from mmdaemon.core.params import DiffParams
from mmdaemon.core.types import NEVER_NS, NS, OrderStatus, Purpose, Side

LIVE, PARTIAL = OrderStatus.LIVE, OrderStatus.PARTIAL
FILLED, CANCELLED, REJECTED = OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED
BUY = Side.BUY
QUOTE, DERISK = Purpose.QUOTE, Purpose.DERISK

SIZE_TOLERANCE = 5
"""What remains is near enough within one fifth (1 / this) of the target."""
CANCEL_WAIT_NS = NS // 4
ANSWER_WAIT_NS = NS
"""So long what works a position down is left to be answered or, taking, to end by itself, before it is cancelled."""
DERISK_LIFE_NS = NS
"""So long it stands at its price before it follows the market. In REDUCING no least life of a quote holds it: moved at
every book it would use up the messages of a minute in half of one, and where it cannot be amended it would hardly
rest."""
NO_PX_TICKS = NEVER_NS
"""Beyond any price: no order on that side."""


class _Rules(msgspec.Struct, frozen=True, gc=False):
    now_ns: int
    refresh_ns: int
    min_life_ns: int
    min_qty_lots: int
    can_amend: bool
    risk: bool


class _Working:
    """Own quotes of one side, oldest first, by what may be done with them."""

    __slots__ = ("leaving", "movable", "stuck")

    def __init__(self) -> None:
        self.movable: list[WorkingOrder] = []
        self.stuck: list[WorkingOrder] = []
        """May rest, but an answer is outstanding: unacknowledged, UNKNOWN, an amend in flight."""
        self.leaving: list[WorkingOrder] = []
        """A cancel is in flight, or it has ended (or is filled whole) and is not yet freed."""


class _Plan:
    """What to do, before it is put in order and checked against own orders of the other side."""

    __slots__ = ("cancels", "empty", "moves")

    def __init__(self) -> None:
        self.cancels: list[Command] = []
        self.moves: list[tuple[WorkingOrder, int, int]] = []
        """Order, new price, new total size."""
        self.empty: list[Quote] = []


def diff(
    targets: tuple[Quote, ...],
    orders: Orders,
    params: DiffParams,
    now_ns: int,
    refresh_ns: int,
    new_id: Callable[[], str],
    risk: bool = False,
    min_qty_lots: int = 1,
    position_lots: int = 0,
) -> list[Command]:
    """Commands, most urgent first: cancels, amends that retreat, amends that advance, places.

    What the kill switch flattens with is not touched. `risk` lifts the least life of a quote, marks the cancels, and
    cancels what is stuck and in no target's range; without it that is waited for. A Cancel in flight is never repeated
    (`orders.overdue` finds it); after a refusal the next amend of that order waits `min_quote_life_ns`, and after a
    refused cancel the next cancel `CANCEL_WAIT_NS`, so that a refusal cannot spin. A refused amend holds no cancel
    back.
    `new_id` is called once for each Place. Nothing is recorded here: that is `orders.submit`.
    """
    bids, asks = _Working(), _Working()
    derisking: list[WorkingOrder] = []
    best_bid, best_ask = -NO_PX_TICKS, NO_PX_TICKS
    for order in orders.live.values():
        status = order.status
        working = bids if order.side is BUY else asks
        ended = status is FILLED or status is CANCELLED or status is REJECTED
        if not ended:
            px_ticks = order.worst_px_ticks if order.pending_ns else order.px_ticks
            if working is bids:
                best_bid = max(best_bid, px_ticks)
            else:
                best_ask = min(best_ask, px_ticks)
        if order.purpose is not QUOTE:
            if order.purpose is DERISK:
                derisking.append(order)
            continue
        if ended or order.cancel_sent_ns:
            working.leaving.append(order)
        elif order.pending_ns or not (status is PARTIAL or status is LIVE):
            working.stuck.append(order)
        elif order.qty_lots <= order.filled_lots or order.qty_lots <= order.cum_filled_lots:
            working.leaving.append(order)
        else:
            working.movable.append(order)

    rules = _Rules(now_ns, refresh_ns, params.min_quote_life_ns, min_qty_lots, params.can_amend, risk)
    bid_targets = [target for target in targets if target.side is BUY and target.purpose is QUOTE]
    ask_targets = [target for target in targets if target.side is not BUY and target.purpose is QUOTE]
    plan = _Plan()
    _plan_side(bid_targets, bids, rules, plan, derisking)
    _plan_side(ask_targets, asks, rules, plan, derisking)
    if (plan.moves or plan.empty) and _is_blocked(plan, best_bid, best_ask):
        plan = _Plan()
        _plan_side(_clipped(bid_targets, ask_targets), bids, rules, plan, derisking)
        _plan_side(_clipped(ask_targets, bid_targets), asks, rules, plan, derisking)
    if derisking or len(targets) > len(bid_targets) + len(ask_targets):
        wanted = next((target for target in targets if target.purpose is DERISK), None)
        if wanted is not None and wanted.takes:
            wanted = _short_of_own(wanted, best_bid, best_ask)
        room_lots = 0 if wanted is None else -worst_case_lots(orders, position_lots, wanted.side)
        _plan_derisk(wanted, derisking, room_lots, msgspec.structs.replace(rules, risk=True), plan)
    if not (plan.moves or plan.empty):
        return plan.cancels
    return _in_order(plan, best_bid, best_ask, rules, new_id)


def _plan_derisk(
    wanted: Quote | None, derisking: list[WorkingOrder], room_lots: int, rules: _Rules, plan: _Plan
) -> None:
    """The one order that works the position down. `room_lots`: what may be added to all that may fill on its side."""
    serving: WorkingOrder | None = None
    is_alone = True
    for order in derisking:
        if wanted is not None and order.side is wanted.side:
            is_alone = False
        if order.ended_ns or order.cancel_sent_ns or not (order.remaining_lots or order.pending_ns):
            continue  # on its way out
        if wanted is None or order.side is not wanted.side or room_lots < 0 or serving is not None:
            _cancel(order, rules, plan)
            continue
        serving = order
        target = _at_most(wanted, order.remaining_lots + room_lots)
        is_waited_for = rules.now_ns - max(order.created_ns, order.pending_ns) < ANSWER_WAIT_NS
        if not order.post_only and not order.adopted:  # it takes, and ends by itself
            if not is_waited_for:
                _cancel(order, rules, plan)
        elif wanted.takes:
            _cancel(order, rules, plan)
        elif rules.now_ns - order.priced_ns < DERISK_LIFE_NS or _may_stay(order, target, rules):
            pass
        elif order.status in (LIVE, PARTIAL) and not order.pending_ns:
            _move(order, target, rules, plan)
        elif not is_waited_for:
            _cancel(order, rules, plan)
    if wanted is not None and is_alone and room_lots >= rules.min_qty_lots:
        plan.empty.append(_at_most(wanted, room_lots))


def _short_of_own(target: Quote, best_bid: int, best_ask: int) -> Quote:
    """What takes goes no further than one tick short of what of ours may rest on the other side. Withheld for a quote
    whose cancel was lost, nothing would take until that is resolved, though the market's own side is nearer."""
    px_ticks = min(target.px_ticks, best_ask - 1) if target.side is BUY else max(target.px_ticks, best_bid + 1)
    return msgspec.structs.replace(target, px_ticks=px_ticks, lo_px_ticks=px_ticks, hi_px_ticks=px_ticks)


def _at_most(target: Quote, lots: int) -> Quote:
    return target if lots >= target.qty_lots else msgspec.structs.replace(target, qty_lots=lots)


def _plan_side(
    targets: list[Quote], working: _Working, rules: _Rules, plan: _Plan, derisking: list[WorkingOrder]
) -> None:
    if len(targets) == len(working.movable) and not working.stuck:  # nearly always: nothing to do
        for order, target in zip(working.movable, targets, strict=True):
            if not _may_stay(order, target, rules):
                break
        else:
            return
    seatable = working.movable + working.stuck
    seats = _seats(targets, seatable, rules)
    if len(targets) == len(seatable) and -1 not in seats:
        return
    free = [target for target, seat in zip(targets, seats, strict=True) if seat < 0]
    taken = set(seats)
    movable = [order for j, order in enumerate(working.movable) if j not in taken]
    stuck = [order for j, order in enumerate(working.stuck, len(working.movable)) if j not in taken]

    pairs = _pair(movable, free, _is_price_good)
    pairs += _pair(movable, free, _is_same_level)
    pairs += _pair(movable, free, _any)
    for order, target in pairs:
        _move(order, target, rules, plan)
    for order in movable:
        _cancel(order, rules, plan)
    if rules.risk:
        for order in stuck:
            _cancel(order, rules, plan)
    occupying = stuck + working.leaving
    if free and derisking:
        occupying += [order for order in derisking if order.side is free[0].side]
    _pair(occupying, free, _is_same_level)
    plan.empty += free[len(occupying) :]


def _is_blocked(plan: _Plan, best_bid: int, best_ask: int) -> bool:
    """Whether some wanted price meets an own order of the other side."""
    wanted = [(order.side, px_ticks) for order, px_ticks, _ in plan.moves]
    wanted += [(target.side, target.px_ticks) for target in plan.empty]
    return any(px_ticks >= best_ask if side is BUY else px_ticks <= best_bid for side, px_ticks in wanted)


def _clipped(targets: list[Quote], others: list[Quote]) -> list[Quote]:
    """The targets with ranges that end before the other side's nearest target; each still has its own price."""
    if not others:
        return targets
    prices = [other.px_ticks for other in others]
    nearest = max(prices) if others[0].side is BUY else min(prices)
    return [
        msgspec.structs.replace(target, hi_px_ticks=max(target.px_ticks, min(target.hi_px_ticks, nearest - 1)))
        if target.side is BUY
        else msgspec.structs.replace(target, lo_px_ticks=min(target.px_ticks, max(target.lo_px_ticks, nearest + 1)))
        for target in targets
    ]


def _seats(targets: list[Quote], seatable: list[WorkingOrder], rules: _Rules) -> list[int]:
    """For each target the index of the order that may stay for it, or -1: a maximum matching by augmenting paths."""
    seats = [-1] * len(targets)
    holder = [-1] * len(seatable)
    again: list[int] = []
    for i, target in enumerate(targets):
        for j, order in enumerate(seatable):
            if holder[j] < 0 and _may_stay(order, target, rules):
                seats[i], holder[j] = j, i
                break
        else:
            again.append(i)

    def seat(i: int, tried: set[int]) -> bool:
        for j, order in enumerate(seatable):
            if j not in tried and _may_stay(order, targets[i], rules):
                tried.add(j)
                if holder[j] < 0 or seat(holder[j], tried):
                    seats[i], holder[j] = j, i
                    return True
        return False

    for i in again:
        seat(i, set())
    return seats


def _may_stay(order: WorkingOrder, target: Quote, rules: _Rules) -> bool:
    px_ticks, qty_lots = order.px_ticks, order.qty_lots
    if order.pending_ns:
        px_ticks, qty_lots = order.pending_px_ticks, order.pending_qty_lots
    if px_ticks < target.lo_px_ticks or px_ticks > target.hi_px_ticks:
        return False
    filled_lots = max(order.filled_lots, order.cum_filled_lots)
    off_lots = qty_lots - filled_lots - target.qty_lots
    if rules.now_ns - order.priced_ns >= rules.refresh_ns:
        return px_ticks == target.px_ticks and not off_lots
    if -target.qty_lots <= SIZE_TOLERANCE * off_lots <= target.qty_lots:
        return True
    return filled_lots > 0 and off_lots < 0 and qty_lots - filled_lots >= rules.min_qty_lots


def _pair(
    idle: list[WorkingOrder], free: list[Quote], fits: Callable[[WorkingOrder, Quote], bool]
) -> list[tuple[WorkingOrder, Quote]]:
    """Take out of both lists what fits together, in their order."""
    pairs: list[tuple[WorkingOrder, Quote]] = []
    for order in tuple(idle):
        for target in free:
            if fits(order, target):
                pairs.append((order, target))
                idle.remove(order)
                free.remove(target)
                break
    return pairs


def _is_price_good(order: WorkingOrder, target: Quote) -> bool:
    return target.lo_px_ticks <= order.px_ticks <= target.hi_px_ticks


def _is_same_level(order: WorkingOrder, target: Quote) -> bool:
    return order.level == target.level


def _any(order: WorkingOrder, target: Quote) -> bool:
    return True


def _move(order: WorkingOrder, target: Quote, rules: _Rules, plan: _Plan) -> None:
    age_ns = rules.now_ns - order.priced_ns
    if age_ns < rules.min_life_ns and not rules.risk:
        return
    if order.adopted or not rules.can_amend:
        _cancel(order, rules, plan)
        return
    refused_ns = max(order.amend_refused_ns, order.cancel_refused_ns)
    if refused_ns and rules.now_ns - refused_ns < rules.min_life_ns:
        return
    px_ticks = target.px_ticks
    if order.remaining_lots > target.qty_lots and age_ns < rules.refresh_ns and _is_price_good(order, target):
        px_ticks = order.px_ticks
    plan.moves.append((order, px_ticks, order.known_filled_lots + target.qty_lots))


def _cancel(order: WorkingOrder, rules: _Rules, plan: _Plan) -> None:
    if may_cancel(order, rules.now_ns):
        plan.cancels.append(Cancel(order.client_id, rules.risk))


def may_cancel(order: WorkingOrder, now_ns: int) -> bool:
    """Whether enough time went by since the venue last refused that, or it never did."""
    return not order.cancel_refused_ns or now_ns - order.cancel_refused_ns >= CANCEL_WAIT_NS


def _in_order(plan: _Plan, best_bid: int, best_ask: int, rules: _Rules, new_id: Callable[[], str]) -> list[Command]:
    """Put the plan in order; withhold what could meet an own order that `best_bid` and `best_ask` say may rest."""

    def goes_out(side: Side, px_ticks: int) -> bool:
        nonlocal best_bid, best_ask
        if side is BUY:
            if px_ticks >= best_ask:
                return False
            best_bid = max(best_bid, px_ticks)
        else:
            if px_ticks <= best_bid:
                return False
            best_ask = min(best_ask, px_ticks)
        return True

    cancels = plan.cancels
    amends: list[Command] = []
    places: list[Command] = []
    advances: list[tuple[WorkingOrder, int, int]] = []
    for order, px_ticks, qty_lots in plan.moves:
        if order.side * px_ticks > order.side * order.px_ticks:
            advances.append((order, px_ticks, qty_lots))
        elif goes_out(order.side, px_ticks):
            amends.append(Amend(order.client_id, order.revision + 1, px_ticks, qty_lots))
        elif may_cancel(order, rules.now_ns):
            cancels.append(Cancel(order.client_id, rules.risk))  # it should not stay, and cannot go there
    for order, px_ticks, qty_lots in advances:
        if goes_out(order.side, px_ticks):
            amends.append(Amend(order.client_id, order.revision + 1, px_ticks, qty_lots))
    for target in plan.empty:
        if goes_out(target.side, target.px_ticks):
            terms = target.side, target.px_ticks, target.qty_lots, target.purpose, target.level
            is_derisk, takes = target.purpose is DERISK, target.takes
            places.append(Place(new_id(), *terms, post_only=not takes, reduce_only=is_derisk, ioc=takes))
    return [*cancels, *amends, *places]
