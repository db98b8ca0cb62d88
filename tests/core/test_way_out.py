"""The way out of a position is not what stops the daemon: fills of what works it down are no repeated execution."""

from mmdaemon.core.commands import Place
from mmdaemon.core.events import Event
from mmdaemon.core.types import GuardState, OrderStatus, Side
from tests.core.build import IdealVenue, params, running

IMPATIENT = params(guard={"soft_clear_s": 1.0}, derisk={"touch_after_s": 1.0, "taker_after_s": 2.0})
BUY, SELL = Side.BUY, Side.SELL


class ManyLevels(IdealVenue):
    """What takes sweeps three levels: three fills a slice."""

    def _taken(self, command: Place) -> list[Event]:
        desk, third = self.desk, command.qty_lots // 3
        edge = desk.ask if command.side is BUY else desk.bid
        sizes = [size for size in (third, third, command.qty_lots - 2 * third) if size]
        return [
            *(
                desk.fill(command.side, size, edge + command.side * n, command.client_id)
                for n, size in enumerate(sizes)
            ),
            desk.update(command.client_id, OrderStatus.FILLED, command.qty_lots),
        ]


def test_a_position_taken_down_in_slices_is_gone_and_nothing_stops_hard() -> None:
    """40 slices of 500 quote and 120 fills in a minute; the limit is 60."""
    for lots in (3_000, -3_000):
        desk = running(IMPATIENT).hold(lots)
        venue = ManyLevels(desk)
        venue.answer(desk.commands)
        venue.answer(desk.feed(desk.funding(float("nan"))).commands)
        for _ in range(60):
            venue.answer(desk.seconds(1))
            assert desk.guard is GuardState.REDUCING, (desk.reasons, desk.state.position.position_lots)
        assert desk.state.position.position_lots == 0
        # Counted: the fill by which it was come to hold, and none of the way out.
        assert desk.state.budgets.fills_peak == 1


def test_fills_of_quotes_and_of_orders_that_nobody_knows_count_as_ever() -> None:
    desk = running(params(guard={"soft_clear_s": 1.0, "fills_per_side_per_minute": 5}))
    for _ in range(3):
        desk.feed(desk.fill(BUY, 1))
    for order in [order for order in desk.live if order.side is BUY][:2]:
        desk.feed(desk.fill(BUY, 1, order.px_ticks, order.client_id))
    assert desk.guard is GuardState.RUNNING
    desk.feed(desk.fill(BUY, 1))
    assert desk.guard is GuardState.HARD_STOP
    assert "repeated_execution" in desk.reasons
