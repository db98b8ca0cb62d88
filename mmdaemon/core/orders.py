"""Order truth: what may rest at the venue, what is still in flight, and how much of the limits it holds reserved.

Every report meets the life of its order in one table, `LIFE`. Rows: what the order is to us; columns: what is reported;
`.` is a report that no such order can give (late, doubled or wrong): it is counted by name and changes nothing except
evidence, which may only grow.

                sent       live       partial    unknown    filled     cancelled  rejected
    new         sent       live       partial    unknown    filled     cancelled  rejected
    sent        sent       live       partial    unknown    filled     cancelled  rejected
    live        .          live       partial    unknown    filled     cancelled  rejected
    partial     .          .          partial    unknown    filled     cancelled  rejected
    unknown     .          live       partial    unknown    filled     cancelled  rejected
    filled      .          .          .          .          filled     .          .
    cancelled   .          .          .          .          .          cancelled  .
    rejected    .          .          .          .          .          .          rejected

Evidence is apart from status: the venue's cumulative filled, its revision of price and size, and the fills booked here.

Law
  * Reserved is max(size in force, size of an amend in flight) minus fills booked, from the moment a command is emitted.
  * It is freed, and the order leaves `live`, only when the venue said *ended*, said how much it filled in all, and the
    fills booked here make up that figure. A cancel without a figure keeps everything: unknown is not zero.
  * A figure is implied in two cases only: FILLED means the size in force (unless an amend in flight, or another size in
    the same report, makes that ambiguous), and REJECTED means 0 (unless anything showed that the order was accepted).
  * UNKNOWN is left by a venue's report alone. A fill proves that the order landed, not that it still rests. A refusal
    as a duplicate leads to it (`OrderUpdate.word`).
  * A size is believed only with a higher revision than the one in force, so only an amend of ours can change it; a
    price also with an equal one (some venues move a post-only order). A report without revision counts as revision 0 of
    an order that was never amended, and says nothing of price and size of any other. An amend in flight ends when its
    revision is in force or the venue refused it.
"""

import msgspec

from mmdaemon.core.commands import Amend, Command, Place
from mmdaemon.core.events import NOT_SENT, RATE_LIMITED, Fill, OrderAdopted, OrderUpdate, RequestFailed
from mmdaemon.core.figures import is_report
from mmdaemon.core.types import TERMINAL, ExecKind, OrderStatus, Purpose, Side

NEW, SENT, LIVE, PARTIAL = OrderStatus.NEW, OrderStatus.SENT, OrderStatus.LIVE, OrderStatus.PARTIAL
UNKNOWN, FILLED = OrderStatus.UNKNOWN, OrderStatus.FILLED
CANCELLED, REJECTED = OrderStatus.CANCELLED, OrderStatus.REJECTED

_ENDS = (FILLED, CANCELLED, REJECTED)
_MAY_HEAR: dict[OrderStatus, tuple[OrderStatus, ...]] = {
    NEW: (SENT, LIVE, PARTIAL, UNKNOWN, *_ENDS),
    SENT: (SENT, LIVE, PARTIAL, UNKNOWN, *_ENDS),
    LIVE: (LIVE, PARTIAL, UNKNOWN, *_ENDS),
    PARTIAL: (PARTIAL, UNKNOWN, *_ENDS),
    UNKNOWN: (LIVE, PARTIAL, UNKNOWN, *_ENDS),
    **{end: (end,) for end in _ENDS},
}
LIFE = {(current, reported): reported for current, row in _MAY_HEAR.items() for reported in row}
"""(current, reported) -> next. A pair that is missing cannot happen to an order that is what we think it is."""

CLOSED_KEPT = 5_000  # ended orders remembered, to recognise what comes late for them (40 minutes have been seen)
ID_MAX = 32


class WorkingOrder(msgspec.Struct, gc=False):
    """One order of ours that holds a reservation. Moments are `mono_ns`; 0 is "not yet" or "none".

    `px_ticks` and `qty_lots` (total, filled part included) are in force at the venue as far as it said; `pending_*` is
    the amend in flight.
    """

    client_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    purpose: Purpose
    level: int
    post_only: bool
    reduce_only: bool
    status: OrderStatus
    created_ns: int
    priced_ns: int  # since when it has its present price and size: its age for refresh and least life
    filled_lots: int = 0  # sum of the fills booked here
    cum_filled_lots: int = 0  # largest cumulative the venue has stated; never falls
    cum_final: bool = False  # the venue stated it of an order that it also said has ended
    acked_ns: int = 0  # first sign of the venue that it took the order
    ended_ns: int = 0  # since when nothing of it can trade, by report or by our fills, though it may not be freed
    unknown_since_ns: int = 0
    cancel_sent_ns: int = 0
    cancel_refused_ns: int = 0  # when the venue last refused one
    amend_refused_ns: int = 0
    revision: int = 0  # last one sent
    revision_in_force: int = 0
    pending_px_ticks: int = 0
    pending_qty_lots: int = 0
    pending_ns: int = 0
    adopted: bool = False  # not made by this run: which revisions it has seen is not known, so it is never amended

    @property
    def known_filled_lots(self) -> int:
        """Filled as far as anybody said: fills and reports come by different roads and either may be ahead."""
        return max(self.filled_lots, self.cum_filled_lots)

    @property
    def remaining_lots(self) -> int:
        """What can rest at the venue of the size in force. Never negative."""
        return max(0, self.qty_lots - self.known_filled_lots)

    @property
    def reserved_lots(self) -> int:
        """What it may still add to the position that is booked here. Never negative, not even when overfilled."""
        return max(0, max(self.qty_lots, self.pending_qty_lots) - self.filled_lots)

    @property
    def worst_px_ticks(self) -> int:
        """The most aggressive price at which it may rest: the one in force or the one in flight."""
        if not self.pending_px_ticks:
            return self.px_ticks
        return self.side * max(self.side * self.px_ticks, self.side * self.pending_px_ticks)


class Orders(msgspec.Struct):
    """The slice of state that knows our orders. Changed by the functions of this module and by nothing else."""

    live: dict[str, WorkingOrder] = {}  # all that holds a reservation, oldest first
    closed: dict[str, int] = {}  # lately freed: id -> lots filled
    reserved_buy_lots: int = 0
    reserved_sell_lots: int = 0
    counter: int = 0  # last number used in a client id; the intent's row refuses an id a second time
    taken: int = 0  # orders and amends that the venue took
    reject_streak: int = 0  # orders refused since the venue last took one; of what an order is, not of when it came
    anomalies: dict[str, int] = {}  # what should not have been reported, by name


def next_id(orders: Orders, bot_tag: str, epoch: int) -> str:
    """The next client id, `mm<bot>-<epoch>-<counter>`.

    Raises:
        ValueError: it would not be at most 32 characters of [A-Za-z0-9_-].
    """
    orders.counter += 1
    client_id = f"mm{bot_tag}-{epoch}-{orders.counter}"
    if len(client_id) > ID_MAX or not (bot_tag.isascii() and bot_tag.isalnum()) or epoch < 0:
        raise ValueError(f"client id {client_id!r}: at most {ID_MAX} letters, digits and dashes; check the bot tag")
    return client_id


def submit(orders: Orders, command: Command, mono_ns: int) -> None:
    """Record a command at the moment the core emits it. Whatever it may do is reserved from here on.

    A cancel of an order that is not here (an orphan's) leaves no trace.

    Raises:
        ValueError: a bug of the caller: an id used twice, or an amend of an order that cannot take one.
    """
    order = orders.live.get(command.client_id)
    if isinstance(command, Place):
        if order is not None or command.client_id in orders.closed:
            raise ValueError(f"{command.client_id}: a client id is never used twice")
        c = command
        place = (c.client_id, c.side, c.px_ticks, c.qty_lots, c.purpose, c.level, c.post_only, c.reduce_only)
        orders.live[c.client_id] = WorkingOrder(*place, status=NEW, created_ns=mono_ns, priced_ns=mono_ns)
        _reserve(orders, c.side, c.qty_lots)
    elif isinstance(command, Amend):
        if order is None or order.pending_ns or order.status in TERMINAL or command.revision <= order.revision:
            raise ValueError(f"{command}: there is no order that could take this amend: {order}")
        before = order.reserved_lots
        order.revision, order.pending_ns = command.revision, mono_ns
        order.pending_px_ticks, order.pending_qty_lots = command.px_ticks, command.qty_lots
        _reserve(orders, order.side, order.reserved_lots - before)
    elif order is not None:
        order.cancel_sent_ns = mono_ns


def on_update(orders: Orders, e: OrderUpdate) -> bool:
    """Take a report. True when anything that a decision depends on has changed. One that cannot be is only counted."""
    if not is_report((e.px_ticks, e.qty_lots), (e.cum_filled_lots, e.revision)):
        return _count(orders, "bad_report")
    order = orders.live.get(e.client_id)
    if order is None:
        cum_lots = orders.closed.get(e.client_id)
        if cum_lots is not None and e.cum_filled_lots is not None and e.cum_filled_lots > cum_lots:
            _count(orders, "cum_grew_after_close")
        elif cum_lots is None or e.status not in TERMINAL:
            _count_absent(orders, e.client_id, "report")
        return False
    e = e if e.word is e.status else msgspec.structs.replace(e, status=e.word)
    was = (order.status, order.px_ticks, order.qty_lots, order.pending_ns, order.known_filled_lots)
    before, final = order.reserved_lots, False
    if e.status is not UNKNOWN and e.status is not SENT:  # those two are our own words, and no evidence
        _believe_size(orders, order, e)
        final = _believe_filled(orders, order, e)
    _live_on(orders, order, e)
    if final and order.status in TERMINAL:
        order.cum_final = True
    freed = _settle(orders, order, before)
    now = (order.status, order.px_ticks, order.qty_lots, order.pending_ns, order.known_filled_lots)
    return freed or (was != now and not (order.status is SENT and was[1:] == now[1:]))


def on_request_failed(orders: Orders, e: RequestFailed) -> bool:
    """A cancel or an amend did not take. Says nothing of the order itself: an UNKNOWN one stays UNKNOWN."""
    order = orders.live.get(e.client_id)
    if order is None:
        return _count_absent(orders, e.client_id, "refusal")
    before = order.reserved_lots
    if e.request == "cancel" and order.cancel_sent_ns:
        order.cancel_sent_ns, order.cancel_refused_ns = 0, e.mono_ns
    elif e.request == "amend" and order.pending_ns and e.revision in (None, order.revision):
        order.pending_px_ticks = order.pending_qty_lots = order.pending_ns = 0
        order.amend_refused_ns = e.mono_ns
    else:
        return _count(orders, "refusal_of_nothing")
    _settle(orders, order, before)
    return True


def on_adopted(orders: Orders, e: OrderAdopted) -> bool:
    """Take in an order that no decision of this run made.

    `cum_filled_lots` must be what is booked of it at this moment: recovery books the fills it read before it adopts,
    and every `Fill` that comes afterwards adds to it. A closed id is taken in again when it is reported open: the
    venue's word that it rests outweighs ours that it does not.
    """
    if not is_report((e.px_ticks, e.qty_lots), (e.cum_filled_lots,)):
        return _count(orders, "bad_report")
    if e.client_id in orders.live or (e.client_id in orders.closed and e.status in TERMINAL):
        return _count(orders, "adopted_twice")
    if orders.closed.pop(e.client_id, None) is not None:
        _count(orders, "open_after_close")
    status = PARTIAL if e.status is LIVE and e.cum_filled_lots else e.status
    order = WorkingOrder(
        *(e.client_id, e.side, e.px_ticks, e.qty_lots, e.purpose, 0, False, e.reduce_only),
        *(status, e.mono_ns, e.mono_ns),
        filled_lots=e.cum_filled_lots,
        cum_filled_lots=e.cum_filled_lots,
        acked_ns=0 if status in (NEW, SENT, UNKNOWN) else e.mono_ns,
        ended_ns=e.mono_ns if status in TERMINAL else 0,
        unknown_since_ns=e.mono_ns if status is UNKNOWN else 0,
        adopted=True,
    )
    orders.live[order.client_id] = order
    _reserve(orders, order.side, order.reserved_lots)
    return True


def on_fill(orders: Orders, e: Fill) -> bool:
    """Book a fill, already known to be unique by its trade id. The venue's own doings (liquidation) name no order."""
    order = orders.live.get(e.client_id)
    if order is None:
        if e.exec_kind is ExecKind.TRADE:
            _count_absent(orders, e.client_id, "fill")
        return False
    if e.side is not order.side:
        return _count(orders, "fill_of_other_side")
    before = order.reserved_lots
    order.filled_lots += e.qty_lots
    if order.filled_lots > max(order.qty_lots, order.pending_qty_lots):
        _count(orders, "overfill")
    _acknowledge(orders, order, e.mono_ns)
    if order.status in (NEW, SENT, LIVE):
        order.status = PARTIAL
    if not order.ended_ns and not order.reserved_lots:
        order.ended_ns = e.mono_ns
    _settle(orders, order, before)
    return True


def reserved_full(orders: Orders) -> tuple[int, int]:
    """Reserved (buy, sell) lots, summed afresh: what the running sums must equal after every event."""
    lots = [order.side * order.reserved_lots for order in orders.live.values()]
    return sum(n for n in lots if n > 0), -sum(n for n in lots if n < 0)


def worst_case_lots(orders: Orders, position_lots: int, side: Side) -> int:
    """Position in direction `side` (positive = held that way) if all that may fill on that side does, and nothing else.

    Reduce-only orders count like any other. Alone they cannot turn a position round, but the venue applies the rule
    when they trade, against a position that our other fills may have changed by then.
    """
    return side * position_lots + (orders.reserved_buy_lots if side is Side.BUY else orders.reserved_sell_lots)


def overdue(orders: Orders, now_ns: int, ack_check_ns: int) -> list[str]:
    """Ids to ask the venue about, oldest first: for longer than `ack_check_ns` they were unacknowledged or UNKNOWN, had
    a cancel or an amend unanswered, or had ended (by report or by our fills) without being freed."""
    limit_ns = now_ns - ack_check_ns
    return [
        o.client_id
        for o in orders.live.values()
        if (not o.acked_ns and o.created_ns < limit_ns)
        or 0 < o.unknown_since_ns < limit_ns
        or 0 < o.cancel_sent_ns < limit_ns
        or 0 < o.pending_ns < limit_ns
        or 0 < o.ended_ns < limit_ns
    ]


def _believe_size(orders: Orders, order: WorkingOrder, e: OrderUpdate) -> None:
    """Price and size in force, by revision."""
    revision = e.revision
    if revision is None:
        if order.revision:
            return  # no telling whether it is from before or after our amend
        revision = 0
    if revision < order.revision_in_force:
        _count(orders, "stale_revision")
        return
    px_ticks = order.px_ticks if e.px_ticks is None else e.px_ticks
    qty_lots = order.qty_lots if e.qty_lots is None else e.qty_lots
    if revision == order.revision_in_force:
        if qty_lots != order.qty_lots:
            _count(orders, "resized_by_venue")
            qty_lots = order.qty_lots
        if px_ticks != order.px_ticks:
            _count(orders, "moved_by_venue")
    else:
        order.revision_in_force, orders.taken = revision, orders.taken + 1
        if revision >= order.revision:
            order.revision = revision
            if order.pending_ns:
                px_ticks = e.px_ticks or order.pending_px_ticks
                qty_lots = e.qty_lots or order.pending_qty_lots
                order.pending_px_ticks = order.pending_qty_lots = order.pending_ns = 0
    if px_ticks != order.px_ticks or qty_lots != order.qty_lots:
        order.px_ticks, order.qty_lots, order.priced_ns = px_ticks, qty_lots, e.mono_ns


def _believe_filled(orders: Orders, order: WorkingOrder, e: OrderUpdate) -> bool:
    """The cumulative, stated or implied, which only grows. True when it is the last word if the order has ended."""
    cum_lots = e.cum_filled_lots
    if cum_lots is None:
        if e.status is FILLED and not order.pending_ns and e.qty_lots in (None, order.qty_lots):
            cum_lots = order.qty_lots
        elif e.status is REJECTED and not order.acked_ns and not order.known_filled_lots:
            cum_lots = 0
        else:
            return False
    if cum_lots < order.cum_filled_lots:
        return _count(orders, "cum_fell")
    if cum_lots > max(order.qty_lots, order.pending_qty_lots):
        _count(orders, "cum_over_quantity")
    order.cum_filled_lots = cum_lots
    return e.status in TERMINAL


def _live_on(orders: Orders, order: WorkingOrder, e: OrderUpdate) -> None:
    """Move along the table, or count why not."""
    current = order.status
    status = LIFE.get((current, e.status))
    if status is None:
        _count(orders, f"life:{current}->{e.status}")
        return
    if status is LIVE and order.known_filled_lots:
        status = PARTIAL  # an UNKNOWN order that comes back has not lost its fills
    order.status = status
    if status is UNKNOWN:
        order.unknown_since_ns = order.unknown_since_ns or e.mono_ns
        return
    order.unknown_since_ns = 0
    if status is SENT:
        return
    if status is not REJECTED:
        _acknowledge(orders, order, e.mono_ns)
    elif current is not REJECTED and e.reason not in ("post_only", RATE_LIMITED) and not e.reason.startswith(NOT_SENT):
        orders.reject_streak += 1
    if status in TERMINAL:
        order.ended_ns = order.ended_ns or e.mono_ns
        order.cancel_sent_ns = 0


def _acknowledge(orders: Orders, order: WorkingOrder, mono_ns: int) -> None:
    """The venue showed for the first time that it took the order."""
    if not order.acked_ns:
        order.acked_ns, orders.taken, orders.reject_streak = mono_ns, orders.taken + 1, 0


def _settle(orders: Orders, order: WorkingOrder, before_lots: int) -> bool:
    """Carry a change of one order into the sums, and free it when the law says so. True when freed."""
    if order.cum_final and order.filled_lots == order.cum_filled_lots:
        _reserve(orders, order.side, -before_lots)
        del orders.live[order.client_id]
        orders.closed[order.client_id] = order.cum_filled_lots
        if len(orders.closed) > CLOSED_KEPT:
            del orders.closed[next(iter(orders.closed))]
        return True
    _reserve(orders, order.side, order.reserved_lots - before_lots)
    return False


def _reserve(orders: Orders, side: Side, lots: int) -> None:
    if side is Side.BUY:
        orders.reserved_buy_lots += lots
    else:
        orders.reserved_sell_lots += lots


def _count(orders: Orders, anomaly: str) -> bool:
    """False: a report that is only counted has changed nothing."""
    orders.anomalies[anomaly] = orders.anomalies.get(anomaly, 0) + 1
    return False


def _count_absent(orders: Orders, client_id: str, what: str) -> bool:
    return _count(orders, f"{what}_after_close" if client_id in orders.closed else f"{what}_of_unknown_order")
