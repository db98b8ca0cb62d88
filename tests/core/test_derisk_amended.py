"""An order that works a position down, filled whole while an amend to more is on its way: more of it may rest."""

from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.types import GuardState, OrderStatus, Purpose, Side
from tests.core.build import IdealVenue, params, running


def test_filled_whole_with_an_amend_in_flight_it_is_taken_out_by_a_pause() -> None:
    desk = running(params(guard={"soft_clear_s": 1.0})).hold(20)
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    venue.answer(desk.feed(desk.funding(float("nan"))).commands)
    for _ in range(3):
        venue.answer(desk.seconds(1))
    [order] = desk.live
    assert (order.purpose, order.qty_lots) == (Purpose.DERISK, 20)
    desk.seconds(2)
    desk.hold(60)
    assert isinstance(desk.commands[-1], Amend)
    assert order.pending_qty_lots == 60
    # The venue amended it first and filled 20 of 60; its answer to the amend is not here yet.
    desk.feed(desk.fill(Side.SELL, 20, order.px_ticks, order.client_id))
    assert order.reserved_lots == 40
    step = desk.feed(desk.operator("pause"))
    assert desk.guard is GuardState.SOFT_PAUSE
    assert Cancel(order.client_id, risk=True) in step.commands
    desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 20))
    assert desk.live == []
