"""What the venue's answers say beyond what we know: of an order, as events; of time. Reads and waits for nothing."""

from mmdaemon.core.events import AccountSnapshot, OrderUpdate, RequestFailed
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.params import Params
from mmdaemon.core.types import OrderStatus
from mmdaemon.daemon.sender import LATEST_NS
from mmdaemon.venues.base import OrderReport, VenueUnavailable


def evidence(
    report: OrderReport, known: WorkingOrder, params: Params, mono_ns: int, ts_ns: int
) -> list[OrderUpdate | RequestFailed]:
    """The answer of a query by id, or of the open orders, as events; empty where it says nothing new."""
    now = (mono_ns, ts_ns, None)
    if _is_of_another_life(report, known):
        # Nothing of ours is there: that one is unknown from here on, and taken out as such where it rests.
        return [OrderUpdate(*now, report.client_id, OrderStatus.REJECTED, 0, None, None, None, "id_used")]
    told: list[OrderUpdate | RequestFailed] = []
    pending = (known.pending_px_ticks, known.pending_qty_lots)
    # The price and size that an amend asked for prove that it took; anything else proves nothing until its time
    # is over.
    took = known.pending_ns > 0 and (report.px_ticks, report.qty_lots) == pending
    if not report.status.is_terminal:
        if known.cancel_sent_ns and mono_ns - known.cancel_sent_ns > params.ack_check_ns:
            told.append(RequestFailed(*now, report.client_id, "cancel", "unanswered"))
        # Counted from the decision: it may have waited for its intent before it left.
        if known.pending_ns and not took and mono_ns - known.pending_ns > params.in_flight_max_ns + LATEST_NS:
            told.append(RequestFailed(*now, report.client_id, "amend", "unanswered", known.revision))
        if known.acked_ns and known.status in (OrderStatus.LIVE, OrderStatus.PARTIAL) and not took:
            return told
    revision = known.revision if took else known.revision_in_force
    said = (report.status, report.cum_filled_lots, report.px_ticks, report.qty_lots)
    told.append(OrderUpdate(*now, report.client_id, *said, revision, "reconciled"))
    return told


def _is_of_another_life(report: OrderReport, known: WorkingOrder) -> bool:
    """The id was used before this one (a journal that was put back, another's hand), and the venue knows that order. So
    it is where nobody has seen ours and size or side are not what was sent: the venue changes neither, but the size of
    a reduce-only order. Of an order of an earlier run it is not known which size is in force."""
    if known.acked_ns or known.adopted or known.status is not OrderStatus.UNKNOWN:
        return False
    return report.side is not known.side or (report.qty_lots != known.qty_lots and not known.reduce_only)


class NotFound:
    """Answers that the venue does not know an order, and what they prove."""

    def __init__(self, params: Params) -> None:
        self._window_ns = params.in_flight_max_ns
        self._first_ns: dict[str, int] = {}
        """Id -> when the first that counts was given."""

    def forget(self, client_id: str) -> None:
        """The venue knows it."""
        self._first_ns.pop(client_id, None)

    def prove_gone(self, order: WorkingOrder, mono_ns: int) -> bool:
        """One more such answer. It takes two, and everything we asked for must have arrived. What was answered before
        that proves nothing of an order that nobody has seen: it may have landed since.

        An order that the venue once took does not vanish without a word, so there the two must lie a whole in-flight
        window apart: one of them may come from a replica that is behind.
        """
        may_arrive = mono_ns < max(order.created_ns, order.pending_ns) + LATEST_NS + self._window_ns
        if may_arrive and not order.acked_ns:
            return False
        first_ns = self._first_ns.setdefault(order.client_id, mono_ns)
        if may_arrive or mono_ns - first_ns < (self._window_ns if order.acked_ns else 1):
            return False
        self.forget(order.client_id)
        return True


def at_venue(mono_ns: int, snapshot: AccountSnapshot) -> int:
    """A moment of our monotonic clock as the venue's time: its stamp on the answer, less what passed here until that
    came. What our wall clock says is no time of the venue.

    Raises:
        VenueUnavailable: the answer has no stamp of the venue's own, so it does not say when the account was so.
    """
    if snapshot.venue_ts_ns is None:
        raise VenueUnavailable("snapshot: the account came without the venue's own time")
    return snapshot.venue_ts_ns - (snapshot.mono_ns - mono_ns)
