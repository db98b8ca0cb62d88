"""Invariants of orders: 2, 3, 4, 5, 6, 8, 10, 13 and 20, held against the venue's own record.

What an oracle counts as possible must never exceed what the daemon has to count, or it would cry without cause: a
request is in flight until it arrived or can no longer (`in_flight_max_ns` after it was sent), and one that was decided
but not sent counts while the daemon itself keeps it.
"""

from collections.abc import Mapping

from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.decision import DeriskStage
from mmdaemon.core.events import Fill as FillEvent
from mmdaemon.core.events import OrderAdopted, OrderUpdate, RequestFailed
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.types import NS, OrderStatus, Purpose, Side
from mmdaemon.daemon import assertions
from mmdaemon.research.simulation.seen import Seen, key_of, seconds
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.records import VenueOrder

_OF_ORDERS = (OrderUpdate, OrderAdopted, RequestFailed, FillEvent)
_KNOWN_WITHIN_NS = 30 * NS
_RATE_WINDOW_NS = 58 * NS
"""A message is counted when it is decided and may leave a second later: of 58 s of sending, all were decided within
less than a minute."""
_CEILING_SLACK_NS = 2 * NS


# --- 2: worst case ----------------------------------------------------------------------------------------------------


class Pending:
    """What was decided and has not reached the venue, and how high decisions let the worst case go of late."""

    def __init__(self) -> None:
        self.waiting: dict[tuple[str, int], tuple[Side, int]] = {}
        """(client id, revision) -> (side, total size)."""
        self.allowed: dict[Side, list[tuple[int, int]]] = {Side.BUY: [], Side.SELL: []}
        """(when, lots) of each decision that raised a worst case; lots as if nobody else ever traded in the account."""
        self.last: dict[Side, int] = {}
        self.foreign_lots = 0
        """Signed lots of all fills that no decision of the core led to: of others, and of the kill switch's slices."""
        self.fills = 0

    def trim(self, seen: Seen) -> None:
        live = seen.state.orders.live if seen.state is not None else {}
        for client_id, revision in [key for key in self.waiting if not _is_pending(seen, key, live)]:
            del self.waiting[client_id, revision]
        oldest = seen.now_ns - seen.in_flight_max_ns - _CEILING_SLACK_NS
        for side, allowed in self.allowed.items():
            self.allowed[side] = [each for each in allowed if each[0] > oldest]


def _is_pending(seen: Seen, key: tuple[str, int], live: Mapping[str, WorkingOrder]) -> bool:
    """Not arrived yet, and still to come. An amend that was refused before it left is not, though another may be."""
    if key in seen.arrived:
        return False
    if key in seen.sent_ns:
        return seen.may_land(*key)
    order = live.get(key[0])
    return order is not None and (key[1] == 0 or (order.pending_ns > 0 and order.revision == key[1]))


def is_slice(client_id: str) -> bool:
    """Of the kill switch: reduce-only, at once or not at all, and sent by no decision of the core."""
    return client_id.rpartition("-")[2].startswith("k")


def _pending(seen: Seen) -> Pending:
    found = seen.memory.get("pending")
    if not isinstance(found, Pending):
        found = seen.memory["pending"] = Pending()
    return found


def _foreign_lots(seen: Seen) -> int:
    """Signed lots of the fills that no daemon of this seed asked for and that the daemon has not booked."""
    pending = _pending(seen)
    unknown: dict[str, int] = seen.memory.setdefault("foreign", {})
    fills = seen.truth.fills
    for fill in fills[pending.fills :]:
        if not seen.is_own(fill.client_id):
            unknown[fill.trade_id] = fill.side * fill.qty_lots
        elif not is_slice(fill.client_id):
            continue
        pending.foreign_lots += fill.side * fill.qty_lots
    pending.fills = len(fills)
    if seen.state is not None:
        for trade_id in [each for each in unknown if each in seen.state.position.trade_ids]:
            del unknown[trade_id]
    return sum(unknown.values())


def exposure(seen: Seen, side: Side, *, in_flight: bool) -> int:
    """side * the venue's position + all that is open there on that side, and, if asked, all that may still get there.
    What others did in the account, and nobody told the daemon yet, is left out."""
    waiting: dict[str, int] = {}
    if in_flight:
        for (client_id, _), (order_side, qty_lots) in _pending(seen).waiting.items():
            if order_side is side:
                waiting[client_id] = max(qty_lots, waiting.get(client_id, 0))
    lots = side * (seen.truth.position_lots - _foreign_lots(seen))
    for order in seen.own_resting():
        if order.side is side and seen.is_own(order.client_id):
            lots += max(0, max(order.qty_lots, waiting.pop(order.client_id, 0)) - order.filled_lots)
    for client_id, qty_lots in waiting.items():
        if client_id not in seen.truth.orders:  # else it has ended, and an amend revives nothing
            lots += qty_lots
    return lots


def worst_case_decided(seen: Seen) -> str:
    """What a step lets out, against the venue's truth with everything in flight."""
    state = seen.state
    commands = assertions.orders_of(seen.step)
    if state is None or not commands:
        return ""
    pending = _pending(seen)
    pending.trim(seen)
    before = {side: exposure(seen, side, in_flight=True) for side in (Side.BUY, Side.SELL)}
    cap = state.decision.max_position_lots if state.decision is not None else 0
    stage, reducing = state.derisk.urgency, set[Side]()
    for command in commands:
        order = state.orders.live.get(command.client_id)
        side = command.side if isinstance(command, Place) else None if order is None else order.side
        key = key_of(command)
        if side is None or key is None:
            return f"{command} of an order that is not known"
        pending.waiting[key] = side, command.qty_lots
        purpose = command.purpose if isinstance(command, Place) else None if order is None else order.purpose
        if purpose is Purpose.DERISK:
            seen.count(f"derisk {DeriskStage.PASSIVE if stage is DeriskStage.NONE else stage}")
            reducing.add(side)
    for side, lots in before.items():
        after = exposure(seen, side, in_flight=True)
        if side in reducing and after > max(0, lots):
            return f"{side.name}: {after} lots in the worst case, {lots} before, with {commands}, which is to reduce"
        if after == lots:
            continue
        others = side * (_foreign_lots(seen) - pending.foreign_lots)
        pending.allowed[side].append((seen.now_ns, max(cap, lots) + others))
        if after > max(cap, lots):
            return f"{side.name}: {after} lots in the worst case, {lots} before, cap {cap}; {commands}"
    return ""


def only_quotes_increase(seen: Seen) -> str:
    """What arrives and is no quote, the kill switch's slices too, is reduce-only."""
    command = seen.command
    if not isinstance(command, Place) or command.purpose is Purpose.QUOTE or command.reduce_only:
        return ""
    return f"{command} may increase a position"


def worst_case_at_venue(seen: Seen) -> str:
    """Position and open orders as they are, at every event there; the trades of others taken out."""
    pending = _pending(seen)
    unknown = _foreign_lots(seen)
    for side in (Side.BUY, Side.SELL):
        others = side * pending.foreign_lots
        now = exposure(seen, side, in_flight=False) + side * unknown - others
        before = pending.last.get(side, 0)
        pending.last[side] = now
        if now <= before:
            continue
        oldest = seen.now_ns - seen.in_flight_max_ns - _CEILING_SLACK_NS
        ceiling = max((lots for at_ns, lots in pending.allowed[side] if at_ns > oldest), default=-others)
        if now > max(ceiling, before, -others):
            own = [(o.client_id, int(o.side), o.qty_lots, o.filled_lots) for o in seen.own_resting()]
            return (
                f"{side.name}: {now} lots at the venue, {before} before, no decision of late allowed over {ceiling}; "
                f"position {seen.truth.position_lots}, of it {pending.foreign_lots} by others and by slices, ours {own}"
            )
    return ""


# --- 3, 5, 8: what becomes of an order --------------------------------------------------------------------------------


def order_lives(seen: Seen) -> tuple[int, str]:
    """(number, violation) of 3, 5 or 8 by this step, evaluated once for the three of them."""
    state, event = seen.state, seen.event
    if state is None or not (isinstance(event, _OF_ORDERS) or seen.step.commands):
        return 0, ""
    was = seen.memory.get("last orders")
    now = {o.client_id: (o, o.status) for o in state.orders.live.values()}
    seen.memory["last orders"] = now
    lives = seen.memory.setdefault("lives seen", assertions.OrderLives())
    number, what = lives.look(state, event)
    if what:
        return number, what
    if was is None:
        return _taken_over(seen)
    for client_id, (order, status) in was.items():
        if order.status is not status:
            seen.count(f"order {status.value} -> {order.status.value}")
            if order.status.is_terminal and (broken := _ended_wrongly(seen, client_id, order.status)):
                return 5, f"{client_id} was {status.value} and is {order.status.value} at {event}: {broken}"
        if order.known_filled_lots > _most_sent(seen, client_id, order.qty_lots):
            return 8, f"{client_id}: {order.known_filled_lots} lots filled, {order.qty_lots} sent"
        if client_id not in now and (broken := _freed_wrongly(seen, client_id, order.filled_lots)):
            return 3, f"{client_id} was freed at {event}: {broken}"
    for order, _ in now.values():
        there = seen.truth.orders.get(order.client_id)
        if there is None or there.status.is_terminal:
            continue
        if order.reserved_lots < there.qty_lots - order.filled_lots and not order.adopted:
            return 3, (
                f"{order.client_id} reserves {order.reserved_lots} lots with {order.filled_lots} booked, and "
                f"{there.qty_lots} are at the venue"
            )
    return 0, ""


def _taken_over(seen: Seen) -> tuple[int, str]:
    """A daemon that has just begun reserves what may still land of the ones before it."""
    assert seen.state is not None
    oldest = seen.now_ns - seen.in_flight_max_ns
    for client_id, revision in reversed(seen.sent_ns):
        if seen.sent_ns[client_id, revision] < oldest:
            break
        if revision or is_slice(client_id) or client_id in seen.state.orders.live:
            continue
        if (fate := seen.fate(client_id)) in ("open", "in flight"):
            return 3, f"{client_id} is {fate} and a new daemon does not reserve it"
    return 0, ""


def _ended_wrongly(seen: Seen, client_id: str, status: OrderStatus) -> str:
    order = seen.truth.orders.get(client_id)
    fate = seen.fate(client_id)
    if fate == "open":
        return "it is open at the venue"
    if fate == "in flight" and not _was_limited(seen, client_id):
        return f"it was sent {seconds(seen.now_ns - seen.sent_ns[client_id, 0])} ago and may still land"
    if order is not None and status is OrderStatus.REJECTED and order.status is not OrderStatus.REJECTED:
        return f"it is {order.status.value} at the venue"
    return ""


def _was_limited(seen: Seen, client_id: str) -> bool:
    """The venue refused it before looking at it, so it never arrived, and the venue said so."""
    event = seen.event
    return isinstance(event, OrderUpdate) and event.client_id == client_id and event.reason == rules.RATE_LIMIT


def _freed_wrongly(seen: Seen, client_id: str, booked_lots: int) -> str:
    order = seen.truth.orders.get(client_id)
    fate = seen.fate(client_id)
    if fate == "open" or (fate == "in flight" and not _was_limited(seen, client_id)):
        return f"it is {fate}"
    if order is not None and order.filled_lots != booked_lots:
        return f"{booked_lots} lots of it are booked and {order.filled_lots} were filled"
    return ""


def _most_sent(seen: Seen, client_id: str, qty_lots: int) -> int:
    most = qty_lots
    revision = 0
    while (command := seen.sent.get((client_id, revision))) is not None or revision == 0:
        if isinstance(command, Place | Amend):
            most = max(most, command.qty_lots)
        revision += 1
    return most


def filled_within_sent(seen: Seen) -> str:
    """8 at the venue: nothing of ours filled beyond what was sent."""
    for order in seen.own_resting():
        if not seen.is_own(order.client_id):
            continue
        if order.filled_lots > order.qty_lots or order.filled_lots > _most_sent(seen, order.client_id, 0):
            return f"{order.client_id}: {order.filled_lots} lots filled, {_most_sent(seen, order.client_id, 0)} sent"
    return ""


# --- 4, 5, 13, 20: what reaches the venue -----------------------------------------------------------------------------


def durable_intent(seen: Seen) -> str:
    """4. The kill switch's own slices are left out: a disk that hangs does not hold them, and they only reduce."""
    key = key_of(seen.command) if seen.command is not None else None
    if key is None:
        return ""
    seen.arrived.add(key)
    if key in seen.durable_intents:
        return ""
    if isinstance(seen.command, Place) and seen.command.reduce_only and is_slice(key[0]):
        return ""
    return f"{seen.command} has no durable intent"


def one_set_of_parameters(seen: Seen) -> str:
    """5, as it is sent and as it arrives."""
    if seen.resent:
        return seen.resent[0]
    key = key_of(seen.command) if seen.command is not None else None
    if key is not None and seen.sent.get(key, seen.command) != seen.command:
        return f"{seen.command} arrived, {seen.sent[key]} was sent"
    return ""


def figures(seen: Seen) -> str:
    """13 at the venue. The collar is looked at where the decision is made: the mark moves while a request travels."""
    command = seen.command
    if not isinstance(command, Place | Amend):
        return ""
    px, qty = command.px_ticks, command.qty_lots
    if type(px) is not int or type(qty) is not int or px <= 0 or qty <= 0:
        return f"{command}: not whole and positive"
    if not seen.instrument.is_valid_size(px, qty) and not (isinstance(command, Place) and command.reduce_only):
        return f"{command}: not a size that the venue takes"
    worth, most = seen.instrument.notional_e10(px, qty), seen.params.limits.max_order_e10
    if worth > max(most, seen.instrument.notional_e10(px, seen.instrument.min_qty_lots)):
        return f"{command}: worth {worth}, limit {most} (1e-10 quote)"
    return ""


def figures_decided(seen: Seen) -> str:
    """13 as decided, collar included."""
    commands = assertions.orders_of(seen.step)
    return assertions.figures(seen.state, commands, seen.params) if commands and seen.state is not None else ""


def message_rates(seen: Seen) -> str:
    """20, restarts notwithstanding: what was sent leaves the share that is kept for cancels."""
    times = seen.sends_ns
    while times and times[0] <= seen.now_ns - _RATE_WINDOW_NS:
        times.popleft()
    most = assertions.orders_a_minute(seen.params)
    return f"{len(times)} orders and amends within {seconds(_RATE_WINDOW_NS)}, {most} a minute allowed" * (
        len(times) > most
    )


# --- 6, 10: what rests ------------------------------------------------------------------------------------------------


def known_or_gone(seen: Seen) -> str:
    """6: nothing of ours rests that a daemon, up and untroubled for half a minute, does not know."""
    if seen.state is None or seen.calm_ns < _KNOWN_WITHIN_NS:
        return ""
    for order in seen.own_resting():
        if order.client_id not in seen.state.orders.live and seen.now_ns - order.arrived_ns >= _KNOWN_WITHIN_NS:
            return f"{order.client_id} rests since {seconds(seen.now_ns - order.arrived_ns)} and is not known"
    return ""


def others_left_alone(seen: Seen) -> str:
    """6, its other side."""
    return seen.meddled[0] if seen.meddled else ""


def no_own_cross(seen: Seen) -> str:
    """10, at the venue."""
    bid: VenueOrder | None = None
    ask: VenueOrder | None = None
    for order in seen.own_resting():
        if order.side is Side.BUY:
            bid = order if bid is None or order.px_ticks > bid.px_ticks else bid
        else:
            ask = order if ask is None or order.px_ticks < ask.px_ticks else ask
    if bid is not None and ask is not None and bid.px_ticks >= ask.px_ticks:
        return f"own bid {bid.client_id} at {bid.px_ticks}, own ask {ask.client_id} at {ask.px_ticks}"
    return ""
