"""Rows of docs/FAULTS.md about what the venue answers to reads: pages without their end, lists without their content,
histories with times of another clock. Each is put upon the whole daemon while orders rest and a position is held."""

from pathlib import Path

import msgspec

from mmdaemon.core.events import Event, Fill
from mmdaemon.core.types import NS, GuardState, Side
from mmdaemon.venues.base import Cursor, OrderReport
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from tests.daemon.build import World, run_world
from tests.faults.build import agrees

THEN_CALM: Schedule = ((Stretch.TOXIC, 12.0), (Stretch.CALM, 1e6))


def test_a_history_that_ends_after_its_first_page_is_a_break_until_it_does_not(path: Path) -> None:
    """A gap with many fills, and reads that give the oldest three of what was asked for and say nothing of the rest."""

    async def script(world: World) -> None:
        await world.trade()
        real = world.venue.fills

        async def first_page(since: Cursor) -> list[Fill]:
            return (await real(since))[:3]

        world.venue.fills = first_page
        world.venue.disconnect(4.0, ("private",))
        before = len(world.venue.truth().fills)
        for side in (Side.BUY, Side.SELL, Side.BUY, Side.BUY, Side.SELL, Side.BUY):
            world.venue.manual_trade(side, 40)
        await world.until(lambda: world.state.facts.breaks, within_s=20)
        assert any(each.startswith("position") for each in world.state.facts.breaks)
        await world.until(lambda: not world.venue.resting(), within_s=5)
        broken_ns = world.now_ns
        await world.sleep(12)
        assert len(world.venue.truth().fills) >= before + 6
        assert world.guard is not GuardState.RUNNING
        assert world.venue.increasing_since(broken_ns) == []
        world.venue.fills = real
        await world.until(lambda: not world.state.facts.breaks, within_s=15)
        await agrees(world)

    run_world(script, path)


def test_a_list_of_open_orders_that_is_cut_off_frees_nothing_that_rests(path: Path) -> None:
    """Empty, or without its end: each order that is not in it is asked for by its id, and is there."""

    async def script(world: World) -> None:
        await world.trade(12)
        real = world.venue.open_orders
        shown = [0]

        async def cut_off() -> list[OrderReport]:
            return (await real())[: shown[0]]

        world.venue.open_orders = cut_off
        for shown[0] in (0, 1):
            for _ in range(200):
                await world.sleep(0.1)
                assert set(world.venue.resting()) <= set(world.state.orders.live), "an order rests that nobody counts"
        assert any(what.startswith("order ") for _, what in world.venue.asked)
        assert world.guard is GuardState.RUNNING
        world.venue.open_orders = real
        await agrees(world)

    run_world(script, path, schedule=THEN_CALM)


def test_a_fill_with_a_time_from_the_future_hides_none_that_come_after_it(path: Path) -> None:
    """One fill of the venue's is dated a day ahead. After a crash it is read again from where all agreed, and not from
    that time: what filled while nobody was there is found."""

    async def script(world: World) -> None:
        await world.trade()
        deliver = world.venue._deliver
        dated: list[str] = []

        def ahead(event: Event) -> None:
            if type(event) is Fill and not dated:
                dated.append(event.trade_id)
                assert event.venue_ts_ns is not None
                event = msgspec.structs.replace(event, venue_ts_ns=event.venue_ts_ns + 86_400 * NS)
            assert deliver is not None
            deliver(event)

        world.venue._deliver = ahead
        await world.until(lambda: dated, within_s=60)
        world.venue._deliver = deliver
        await world.sleep(40)  # and rounds agree meanwhile
        assert world.state.position.position_lots == world.venue.position_lots()
        there = len(world.venue.truth().fills)
        await world.crash()
        while len(world.venue.truth().fills) == there:
            await world.sleep(0.1)
        await world.restart()
        await world.until(world.is_two_sided_with_position, within_s=60)
        assert not world.state.facts.breaks
        await agrees(world)

    run_world(script, path)
