"""How often what works a position down is moved: it follows the market, and leaves messages for what is urgent."""

import pytest

from mmdaemon.core.types import NS, GuardState, OrderStatus, Purpose
from tests.core.build import MID, IdealVenue, params, running


@pytest.mark.parametrize("is_at_touch", [False, True])
@pytest.mark.parametrize("can_amend", [False, True])
def test_in_a_busy_market_it_follows_once_a_second_and_rests_meanwhile(can_amend: bool, is_at_touch: bool) -> None:
    """Twenty books a second, each a whole bp from the one before: the budget of 420 messages was gone in 35 s, and
    without amends the order rested one twelfth of the time."""
    p = params(
        guard={"soft_clear_s": 1.0},
        quotes={"tolerance_min_bps": 0.1},
        derisk={"touch_after_s": 0.0 if is_at_touch else 300.0},
        can_amend=can_amend,
    )
    desk = running(p).hold(20)
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    venue.answer(desk.feed(desk.funding(float("nan"))).commands)
    for _ in range(3):
        venue.answer(desk.seconds(1))
    sent = len(desk.commands)
    rested = 0
    for second in range(60):
        for i in range(20):
            desk.wait(0.05)
            off = (second * 20 + i) % 7 * 65
            venue.answer(desk.feed(desk.book(MID - 5 + off, MID + 5 + off)).commands)
            rested += any(
                order.purpose is Purpose.DERISK and order.status is OrderStatus.LIVE and not order.cancel_sent_ns
                for order in desk.live
            )
            if not desk.state.position.position_lots:
                desk.hold(20)
        venue.answer(desk.healthy_second())
    assert desk.guard is GuardState.REDUCING
    assert desk.reasons == {"funding_unknown"}
    assert 30 <= len(desk.commands) - sent <= 121  # it does follow: an amend a second, or a cancel and an order
    assert rested > 0.45 * 60 * 20


def test_what_takes_waits_for_no_life() -> None:
    p = params(guard={"soft_clear_s": 1.0}, derisk={"touch_after_s": 1.5, "taker_after_s": 1.5})
    desk = running(p).hold(20)
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    venue.answer(desk.feed(desk.funding(float("nan"))).commands)
    began_ns = desk.now_ns
    while desk.state.position.position_lots:
        venue.answer(desk.seconds(1))
        assert desk.now_ns - began_ns < 6 * NS
