"""What the venue's answer for one order says beyond what we know of it."""

import pytest

from mmdaemon.core.events import RequestFailed
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.types import NS, OrderStatus, Purpose, Side
from mmdaemon.daemon.evidence import evidence
from mmdaemon.daemon.sender import LATEST_NS
from mmdaemon.venues.base import OrderReport
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
