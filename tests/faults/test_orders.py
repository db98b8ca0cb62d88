"""Rows of docs/FAULTS.md about single orders, each put upon the whole daemon while it quotes and holds a position."""

from pathlib import Path

import pytest

from mmdaemon.core.commands import Cancel, Command, Place
from mmdaemon.core.events import Event, Fill, OrderUpdate, RequestFailed
from mmdaemon.core.types import NS, KillState, Liquidity, OrderStatus, Side
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.records import Happening, VenueOrder
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from tests.daemon.build import World, busy, next_place, run_world, say_nothing
from tests.faults.build import agrees, listening, sent_of

THEN_CALM: Schedule = ((Stretch.TOXIC, 12.0), (Stretch.CALM, 1e6))


@pytest.mark.parametrize("fills", [False, True])
def test_an_id_that_the_venue_has_had_before_is_refused_and_whatever_rests_under_it_is_taken_out(
    path: Path, fills: bool
) -> None:
    """The books are of a copy and the counter is behind: the next id has been used, and its order rests or fills."""

    async def script(world: World) -> None:
        await world.trade(5)
        heard = listening(world)
        epoch = world.daemon.params.run_epoch
        taken = f"mmdemo-{epoch}-{world.state.orders.counter + 3}"
        px = world.state.book.bid_px - (0 if fills else 600)
        world.venue.foreign_order(Side.BUY, px, 7, taken)

        def is_refused() -> bool:
            return any(type(e) is OrderUpdate and e.client_id == taken and e.reason == "duplicate" for e in heard)

        await world.until(is_refused, within_s=5, every_s=0.001)
        assert len(sent_of(world, Place, taken)) == 1
        await world.until(lambda: taken not in world.venue.resting(), within_s=30)
        await world.sleep(12)
        assert taken not in world.state.orders.live
        await agrees(world)

    run_world(script, path)


def test_fills_that_come_before_the_acknowledgement_are_booked_and_reserve_nothing_twice(path: Path) -> None:
    """The stream is fast and answers are slow: what the answer says afterwards is neither a second order nor fill."""

    async def script(world: World) -> None:
        early: list[str] = []

        def look(event: Event) -> None:
            if type(event) is Fill and (order := world.state.orders.live.get(event.client_id)) and not order.acked_ns:
                early.append(event.client_id)

        world.venue.on_deliver = look
        await world.until(lambda: len(early) >= 3, within_s=600)
        await world.sleep(2)
        truth = world.venue.truth().orders
        for client_id in early[:3]:
            order = world.state.orders.live.get(client_id)
            assert order is None or order.filled_lots == truth[client_id].filled_lots
            assert order is not None or world.state.orders.closed[client_id] == truth[client_id].filled_lots
        await agrees(world)

    run_world(script, path, config={"response": Delay(0.6), "stream": Delay(0.005)})


def part_fills(world: World, client_id: str) -> int:
    """Half of what is left of an order is traded, now. Returns how much; 0 where there is nothing to halve."""
    exchange = world.venue.exchange
    at_ns, order = world.venue._feed.advance(), exchange.orders.get(client_id)
    if order is None or order.remaining_lots < 2 or order.filled_lots:
        return 0
    lots = order.remaining_lots // 2
    out: list[Happening] = []
    exchange.matching._execute(order, order.px_ticks, lots, Liquidity.MAKER, out)
    exchange._tell(at_ns, out)
    return lots


def test_a_part_that_fills_while_the_cancel_is_underway_is_booked_and_the_rest_is_freed(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        raced: dict[str, int] = {}

        def fill_half(client_id: str) -> None:
            if lots := part_fills(world, client_id):
                raced[client_id] = lots

        def on_send(command: Command) -> None:
            if isinstance(command, Cancel):
                world.clock.call_at(world.now_ns + round(0.29 * NS), fill_half, command.client_id)

        world.venue.on_send = on_send
        await world.until(lambda: len(raced) >= 5, within_s=600)
        await world.sleep(3)
        truth = world.venue.truth().orders
        partly = [c for c, lots in raced.items() if truth[c].filled_lots == lots and truth[c].status.is_terminal]
        assert len(partly) >= 3
        for client_id in partly:
            assert client_id not in world.state.orders.live  # nothing stays reserved
            assert world.state.orders.closed[client_id] == raced[client_id]
        await agrees(world)

    run_world(script, path, settings=busy(venue__amend=False), config={"request": Delay(0.3)})


def test_a_fill_that_is_told_after_its_order_was_cancelled_is_booked_and_frees_nothing_before(path: Path) -> None:
    """The answer to the cancel says how much was filled in all; the fill itself is ten seconds late on the stream."""

    async def script(world: World) -> None:
        await world.trade(12)
        await world.until(lambda: any(o.remaining_lots > 2 for o in resting_orders(world)), within_s=30)
        order = next(o for o in resting_orders(world) if o.remaining_lots > 2)
        world.venue.failing = {"fills"}  # nor does history tell it yet
        world.venue.inject(FaultKind.FILL_LATE, 10)
        lots = part_fills(world, order.client_id)
        assert lots
        await world.parts.operator.pause("now", "test")
        ours = world.state.orders.live[order.client_id]
        await world.until(lambda: ours.ended_ns, within_s=2)
        before = world.state.position.position_lots
        await world.sleep(5)
        assert world.state.orders.live[order.client_id] is ours
        assert ours.reserved_lots >= lots
        assert world.state.position.position_lots == before
        await world.until(lambda: order.client_id not in world.state.orders.live, within_s=10)
        assert world.state.position.position_lots == before + order.side * lots == world.venue.position_lots()
        world.venue.failing = set()
        assert (await world.parts.operator.resume("go on", "test")).ok
        await agrees(world)

    run_world(script, path, schedule=THEN_CALM)


def resting_orders(world: World) -> list[VenueOrder]:
    return [o for o in world.venue.truth().orders.values() if not o.status.is_terminal and not o.filled_lots]


def test_a_cancel_of_an_order_that_the_venue_does_not_know_yet_proves_nothing(path: Path) -> None:
    """The order is late, its cancel is not: "not found". It lands afterwards, and is cancelled though all is paused."""

    async def script(world: World) -> None:
        await world.trade(12)
        heard = listening(world)
        late = await next_place(world, FaultKind.LATE, 1.5)
        order = world.state.orders.live[late]
        await world.parts.operator.pause("now", "test")

        def is_not_found() -> bool:
            return any(type(e) is RequestFailed and e.client_id == late and e.reason == "not_found" for e in heard)

        await world.until(is_not_found, within_s=2, every_s=0.001)
        assert late not in world.venue.truth().orders
        await world.until(lambda: late in world.venue.truth().orders, within_s=3, every_s=0.001)
        assert world.state.orders.live[late] is order
        assert order.reserved_lots == order.qty_lots
        await world.until(lambda: late not in world.venue.resting(), within_s=10)
        await world.until(lambda: not world.state.orders.live, within_s=20)
        assert world.venue.resting() == []
        assert world.state.orders.reserved_buy_lots == world.state.orders.reserved_sell_lots == 0
        assert (await world.parts.operator.resume("go on", "test")).ok
        await agrees(world)

    run_world(script, path, schedule=THEN_CALM)


def test_a_cancel_whose_acknowledgement_is_lost_frees_nothing_until_the_venue_was_asked(path: Path) -> None:
    """It worked, and nobody says so: neither the answer nor the stream."""

    async def script(world: World) -> None:
        await world.trade(12)
        world.venue.fates = [(Cancel, FaultKind.ACK_LOST, 0.0)]
        await world.parts.operator.pause("now", "test")
        await world.until(lambda: not world.venue.resting(), within_s=2)
        await world.sleep(0.3)
        (order,) = world.state.orders.live.values()
        assert order.cancel_sent_ns
        assert order.reserved_lots == order.qty_lots - order.filled_lots
        asked = len(world.venue.asked)
        await world.until(lambda: not world.state.orders.live, within_s=15)
        assert f"order {order.client_id}" in [what for _, what in world.venue.asked[asked:]]
        assert world.state.orders.closed[order.client_id] == world.venue.truth().orders[order.client_id].filled_lots
        assert (await world.parts.operator.resume("go on", "test")).ok
        await agrees(world)

    run_world(script, path, schedule=THEN_CALM)


def test_a_reduce_only_slice_that_has_nothing_to_reduce_is_freed_and_the_position_is_read_again(path: Path) -> None:
    """Somebody closes the position by hand while the slice is underway: it is refused, and turns nothing around."""

    async def script(world: World) -> None:
        await world.trade(5)
        heard = listening(world)
        closed: list[int] = []

        def on_send(command: Command) -> None:
            if isinstance(command, Place) and command.reduce_only and not closed:
                closed.append(world.venue.position_lots())
                side = Side.SELL if closed[0] > 0 else Side.BUY
                world.clock.call_at(world.now_ns + 1, world.venue.manual_trade, side, abs(closed[0]))

        world.venue.on_send = on_send
        assert (await world.parts.operator.flatten("news", "test", say_nothing)).ok
        refused = [e for e in heard if type(e) is OrderUpdate and e.reason == "reduce_only"]
        assert len(refused) == 1
        assert refused[0].status is OrderStatus.REJECTED
        assert closed[0] != 0
        assert world.venue.position_lots() == world.state.position.position_lots == 0
        assert refused[0].client_id not in world.state.orders.live
        assert world.venue.resting() == []
        assert world.state.orders.reserved_buy_lots == world.state.orders.reserved_sell_lots == 0

    run_world(script, path, config={"request": Delay(0.3)})


def test_a_cancel_of_all_that_drops_its_failures_is_not_believed(path: Path) -> None:
    """The one batch there is. It takes one order out, answers that all is well, and single cancels are lost too."""

    async def script(world: World) -> None:
        await world.trade(5)
        calls: list[int] = []

        async def cancel_some() -> None:
            calls.append(len(world.venue.resting()))
            for client_id in world.venue.resting()[:1]:
                world.venue.withdraw(client_id)

        world.venue.cancel_all = cancel_some
        world.venue.fates = [(Cancel, FaultKind.REQUEST_LOST, 0.0)] * 6
        await world.until(lambda: len(world.venue.resting()) >= 3, within_s=30)
        outcome = await world.parts.operator.kill("now", "test", say_nothing)
        assert outcome.ok
        assert calls[0] >= 3
        assert len(calls) >= 2, "it believed the first answer"
        assert world.venue.resting() == []
        await world.until(lambda: world.kill is KillState.KILLED, within_s=20)
        assert world.venue.resting() == []
        assert world.state.position.position_lots == world.venue.position_lots()

    run_world(script, path)
