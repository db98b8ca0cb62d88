"""What the venue's answer for one order says beyond what we know of it."""

import msgspec
import pytest

from mmdaemon.core.events import AccountSnapshot, OrderUpdate, RequestFailed
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.types import NS, OrderStatus, Purpose, Side
from mmdaemon.daemon.evidence import at_venue, evidence
from mmdaemon.daemon.sender import LATEST_NS
from mmdaemon.venues.base import OrderReport, VenueUnavailable
from tests.core.build import params

SENT_NS = 100 * NS


def amended() -> WorkingOrder:
    """A resting order with an amend from 100 to 101 on its way since `SENT_NS`."""
    order = WorkingOrder(
        "mmabcd-1-1", Side.BUY, 100, 5, Purpose.QUOTE, 0, True, False, OrderStatus.LIVE, NS, NS, acked_ns=NS, revision=1
    )
    order.pending_px_ticks, order.pending_qty_lots, order.pending_ns = 101, 5, SENT_NS
    return order


@pytest.mark.parametrize(("late_ns", "given_up"), [(LATEST_NS, False), (LATEST_NS + 1, True)])
def test_an_amend_is_given_up_only_once_nothing_of_it_can_arrive(late_ns: int, given_up: bool) -> None:
    """It may have waited for its intent before it left, and then been in flight for as long as anything can be."""
    rules = params()
    asked = OrderReport("mmabcd-1-1", Side.BUY, 100, 5, 0, OrderStatus.LIVE, False)
    told = evidence(asked, amended(), rules, SENT_NS + rules.in_flight_max_ns + late_ns, 0)
    assert [type(each) for each in told] == ([RequestFailed] if given_up else [])


@pytest.mark.parametrize(
    ("side", "qty_lots", "reduce_only", "acked_ns", "refused"),
    [
        (Side.BUY, 5, False, 0, False),
        (Side.BUY, 7, False, 0, True),
        (Side.SELL, 5, False, 0, True),
        (Side.BUY, 3, True, 0, False),
        (Side.BUY, 7, False, NS, False),
    ],
)
def test_an_id_that_was_used_before_shows_by_an_order_that_was_never_sent(
    side: Side, qty_lots: int, reduce_only: bool, acked_ns: int, refused: bool
) -> None:
    """What is there is of another life only where nobody has seen ours, and it cannot have become so at the venue."""
    order = WorkingOrder(
        "mmabcd-1-1", Side.BUY, 100, 5, Purpose.QUOTE, 0, True, reduce_only, OrderStatus.UNKNOWN, NS, NS
    )
    order.acked_ns = acked_ns
    found = OrderReport("mmabcd-1-1", side, 100, qty_lots, 0, OrderStatus.LIVE, reduce_only)
    (told,) = evidence(found, order, params(), SENT_NS, 0)
    assert isinstance(told, OrderUpdate)
    assert (told.status is OrderStatus.REJECTED, told.cum_filled_lots) == (refused, 0)


def test_without_the_venues_time_no_moment_is_the_venues() -> None:
    account = AccountSnapshot(3 * NS, 50 * NS, 40 * NS, 1, 0, 0, 0, 1)
    assert at_venue(2 * NS, account) == 39 * NS
    with pytest.raises(VenueUnavailable):
        at_venue(2 * NS, msgspec.structs.replace(account, venue_ts_ns=None))
