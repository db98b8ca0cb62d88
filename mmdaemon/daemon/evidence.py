"""What the venue's answer for one order says beyond what we know of it, as events. Reads nothing, waits for nothing."""

from mmdaemon.core.events import OrderUpdate, RequestFailed
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.params import Params
from mmdaemon.core.types import OrderStatus
from mmdaemon.daemon.sender import LATEST_NS
from mmdaemon.venues.base import OrderReport


def evidence(
    report: OrderReport, known: WorkingOrder, params: Params, mono_ns: int, ts_ns: int
) -> list[OrderUpdate | RequestFailed]:
    """The answer of a query by id, or of the open orders, as events; empty where it says nothing new."""
    now = (mono_ns, ts_ns, None)
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
