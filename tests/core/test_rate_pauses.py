"""Refusals for rate: what lengthens a pause, and what is a ban."""

from mmdaemon.core.commands import Place
from mmdaemon.core.events import RATE_LIMITED
from mmdaemon.core.types import GuardState, OrderStatus
from tests.core.build import Desk, running


def _one_refusal(desk: Desk) -> None:
    """A quote is cancelled by the venue, the order in its place is refused for its rate, and the one after it is
    taken."""
    order = desk.live[0]
    step = desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
    (place,) = [each for each in step.commands if isinstance(each, Place)]
    desk.feed(desk.update(place.client_id, OrderStatus.REJECTED, 0, RATE_LIMITED))


def test_seven_refusals_between_which_the_venue_took_orders_are_no_ban() -> None:
    desk = running()
    for _ in range(9):
        _one_refusal(desk)
        for _ in range(45):
            desk.seconds(1)
            desk.acknowledge()
        assert desk.guard is GuardState.RUNNING, desk.reasons
        assert all(order.acked_ns for order in desk.live)


def test_a_ban_is_still_a_ban() -> None:
    desk = running()
    for _ in range(120):
        for order in [each for each in desk.live if not each.acked_ns]:
            desk.feed(desk.update(order.client_id, OrderStatus.REJECTED, 0, RATE_LIMITED))
        if desk.state.budgets.venue_pauses == 0:
            _one_refusal(desk)
        desk.seconds(1)
    assert desk.guard is GuardState.HARD_STOP
    assert desk.reasons == {"reject_streak"}


def test_a_refusal_that_is_told_again_later_pauses_nothing() -> None:
    desk = running()
    order = desk.live[0]
    step = desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
    (place,) = [each for each in step.commands if isinstance(each, Place)]
    desk.feed(desk.update(place.client_id, OrderStatus.REJECTED, 0, RATE_LIMITED))
    until_ns = desk.state.budgets.venue_pause_until_ns
    desk.seconds(5)
    desk.feed(desk.update(place.client_id, OrderStatus.REJECTED, 0, RATE_LIMITED))
    assert desk.state.budgets.venue_pause_until_ns == until_ns
