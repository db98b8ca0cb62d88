"""The three fill assumptions on a real recording: one fixed list of orders, and what each says was filled."""

from pathlib import Path

import pytest

from mmdaemon.core.events import BookUpdate, MarketEvent, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.tapes.reading import open_tape
from mmdaemon.venues.simulated.matching import FillModel, Matching
from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule
from mmdaemon.venues.simulated.records import Executed, VenueOrder

EVERY_NS = 5 * NS
LIFE_NS = 45 * NS
AWAY_TICKS = (1, 3, 8, 20, 40)
QTY_LOTS = 2_000  # 0.02 BTC


class Listed:
    """One order of the fixed list: where and when it is placed follows from the recording alone."""

    def __init__(self, number: int, at_ns: int, side: Side, px_ticks: int) -> None:
        self.client_id, self.at_ns, self.side, self.px_ticks = f"o{number}", at_ns, side, px_ticks


def orders_for(events: list[MarketEvent], side: Side) -> list[Listed]:
    listed: list[Listed] = []
    due_ns = 0
    for event in events:
        if not isinstance(event, BookUpdate) or (event.venue_ts_ns or 0) < due_ns:
            continue
        due_ns = (event.venue_ts_ns or 0) + EVERY_NS
        own = event.bids if side is Side.BUY else event.asks
        for away in AWAY_TICKS:
            px_ticks = own[0][0] - side * away + side
            listed.append(Listed(len(listed), event.venue_ts_ns or 0, side, px_ticks))
    return listed


def filled(events: list[MarketEvent], listed: list[Listed], matching: Matching) -> dict[str, int]:
    """Play the list against the recording; what was filled of each order, in lots."""
    waiting = list(reversed(listed))
    live: dict[str, tuple[int, VenueOrder]] = {}
    got: dict[str, int] = {order.client_id: 0 for order in listed}
    for event in events:
        at_ns = event.venue_ts_ns or 0
        for client_id, (ends_ns, order) in list(live.items()):
            if at_ns >= ends_ns or order.status.is_terminal:
                del live[client_id]
                if not order.status.is_terminal:
                    matching.cancel(order, "cancelled")
        happened = ()
        if isinstance(event, BookUpdate):
            happened = matching.on_book(event.bids, event.asks)
        elif isinstance(event, TradePrint):
            happened = matching.on_trade(event.px_ticks, event.qty_lots, event.aggressor)
        for what in happened:
            if isinstance(what, Executed):
                got[what.order.client_id] += what.qty_lots
        while waiting and waiting[-1].at_ns <= at_ns:
            new = waiting.pop()
            order = VenueOrder(new.client_id, new.side, new.px_ticks, QTY_LOTS, post_only=True, arrived_ns=at_ns)
            matching.place(order)
            live[new.client_id] = (at_ns + LIFE_NS, order)
    return got


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_through_queue_and_touch_are_ordered_for_each_order_of_a_fixed_list(shared_data: Path, side: Side) -> None:
    events = list(open_tape(shared_data / "hyperliquid_btc").events())
    listed = orders_for(events, side)
    assert len(listed) > 1_000
    probabilistic = QueueModel(QueueRule.PROB, 3)
    through = filled(events, listed, Matching(FillModel.THROUGH))
    queue = filled(events, listed, Matching(FillModel.QUEUE))
    kinder = filled(events, listed, Matching(FillModel.QUEUE, probabilistic))
    touch = filled(events, listed, Matching(FillModel.TOUCH))
    for client_id in through:
        assert through[client_id] <= queue[client_id] <= touch[client_id], client_id
        # Between two queue models only the sum is ordered: an earlier order that fills more leaves less of a print.
        assert type(kinder[client_id]) is int
        assert type(queue[client_id]) is int
    sums = [sum(each.values()) for each in (through, queue, kinder, touch)]
    # The three are three: a model that ignored queue or touch would make two of them equal.
    assert sums[0] < sums[1] <= sums[2] < sums[3]
    # And no model fills more than the list.
    assert sums[3] < len(listed) * QTY_LOTS
