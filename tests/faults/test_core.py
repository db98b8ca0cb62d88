"""Rows of docs/FAULTS.md that a few steps of the core decide."""

import pytest

from mmdaemon.core import orders
from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import MarketDataRefused
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import GuardState, OrderStatus, Purpose, Side
from tests.core.build import MID, Desk, running


@pytest.mark.parametrize("reason", ["wrong_symbol", "malformed", "not_finite", "off_tick", "checksum"])
def test_a_message_that_the_edge_refuses_is_counted_and_the_book_grows_old(reason: str) -> None:
    """A million of them keep no book young: what is quoted from is what was last healthy, and then nothing."""
    desk = running()
    before = desk.state.book.bids
    for i in range(40):
        desk.wait(0.25)
        desk.feed(MarketDataRefused(*desk.now, reason))
        if i % 4 == 3:
            desk.all_of(desk.health(), desk.account(), desk.reconciled(), desk.timer())
    assert desk.state.book.refused == {reason: 40}
    assert desk.state.book.bids == before
    assert desk.guard is GuardState.SOFT_PAUSE
    assert desk.state.guard.active & BIT[Reason.BOOK]


def reducing(desk: Desk) -> str:
    """A reduce-only order on its way, as the flatten lane makes them."""
    client_id = orders.next_id(desk.state.orders, desk.params.bot_tag, desk.params.run_epoch)
    place = Place(client_id, Side.SELL, MID, 5, Purpose.FLATTEN, 0, post_only=False, reduce_only=True, ioc=True)
    orders.submit(desk.state.orders, place, desk.now_ns)
    return client_id


def test_a_reduce_only_order_that_is_refused_is_freed_and_counts_towards_the_streak() -> None:
    """The venue says that there is nothing to reduce: nothing stays reserved, and the position is asked for."""
    desk = running()
    reserved = desk.state.orders.reserved_sell_lots
    client_id = reducing(desk)
    assert desk.state.orders.reserved_sell_lots == reserved + 5
    desk.feed(desk.update(client_id, OrderStatus.REJECTED, None, "reduce_only"))
    assert client_id not in desk.state.orders.live
    assert desk.state.orders.reserved_sell_lots == reserved
    assert desk.state.orders.reject_streak == 1


def test_insufficient_margin_again_and_again_is_a_hard_stop() -> None:
    desk = running()
    for _ in range(200):
        placed = [o.client_id for o in desk.live]
        if desk.guard is GuardState.HARD_STOP:
            break
        for client_id in placed:
            desk.feed(desk.update(client_id, OrderStatus.REJECTED, None, "margin"))
            desk.feed(desk.update(client_id, OrderStatus.CANCELLED, 0))
        desk.wait(1.0).healthy_second()
    assert desk.guard is GuardState.HARD_STOP
    assert desk.state.guard.active & BIT[Reason.REJECT_STREAK]
    assert all(isinstance(command, Cancel) for command in desk.wait(1.0).healthy_second())


def test_a_changed_fee_tier_widens_the_floor_at_once() -> None:
    """Rates of another tier are a reason to decide anew, and the required edge has them as an addend."""
    desk = running()
    desk.seconds(2)
    assert desk.state.decision is not None
    before = desk.state.decision.buy_edge.maker_fee_bps
    desk.feed(desk.fees(0.0010, 0.0020))
    assert desk.state.decision.buy_edge.maker_fee_bps == pytest.approx(10.0)
    assert before == pytest.approx(2.0)
