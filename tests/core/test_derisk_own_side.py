"""What takes beside an order of ours on the other side that may still rest."""

import pytest

from mmdaemon.core.commands import Place
from mmdaemon.core.decision import DeriskStage
from mmdaemon.core.types import OrderStatus, Purpose, Side
from tests.core.build import Desk, params, running

BUY, SELL = Side.BUY, Side.SELL
PARAMS = params(guard={"soft_clear_s": 1.0}, derisk={"touch_after_s": 1.0, "taker_after_s": 2.0})


@pytest.mark.parametrize("lots", [60, -60, 900, -900])
def test_a_quote_of_unknown_fate_is_not_met_and_keeps_nothing_from_taking(lots: int) -> None:
    """Its own side of the market is nearer than it: what takes goes as far as one tick short of ours."""
    desk = running(PARAMS).hold(lots)
    desk.acknowledge()
    against = BUY if lots > 0 else SELL
    quotes = [order for order in desk.live if order.side is against]
    if not quotes:  # beyond the largest position none increases it; one that came late is there all the same
        desk = running(PARAMS)
        quotes = [order for order in desk.live if order.side is against]
    lost = max(quotes, key=lambda order: against * order.px_ticks)
    desk.feed(desk.update(lost.client_id, OrderStatus.UNKNOWN, None))
    desk.hold(lots)
    desk.feed(desk.funding(float("nan")))
    assert taken(desk, lost.client_id) == []
    sent = [c for _ in range(8) for c in taken(desk, lost.client_id, 1)]
    assert desk.state.derisk.urgency is DeriskStage.TAKER
    assert lost.client_id in desk.state.orders.live
    first = sent[0]
    assert first.side is not against
    assert first.px_ticks == lost.px_ticks + against
    edge = desk.bid if against is BUY else desk.ask
    assert against * (edge - first.px_ticks) >= 0  # it does take
    assert first.qty_lots == min(abs(lots), 76)


def taken(desk: Desk, kept: str, seconds: int = 0) -> list[Place]:
    """Let time pass; the venue cancels all but `kept`. What was sent that takes."""
    sent = len(desk.commands)
    for _ in range(seconds):
        desk.seconds(1)
    for order in desk.live:
        if order.client_id != kept and (order.purpose is Purpose.QUOTE or order.cancel_sent_ns):
            desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
        elif order.post_only and order.status is OrderStatus.NEW:
            desk.feed(desk.update(order.client_id, OrderStatus.LIVE, 0))
    return [c for c in desk.commands[sent:] if isinstance(c, Place) and c.ioc]
