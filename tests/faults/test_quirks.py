"""What a real venue says differently: too little, too late, twice, or of its own accord. Each with orders resting and a
position held; see docs/FAULTS.md."""

from pathlib import Path

import pytest

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import Fill, OrderUpdate, RequestFailed
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.faults import FaultKind
from tests.daemon.build import World, busy, next_place, run_world
from tests.faults.build import agrees, listening, sent_of

BARE = {"bare_answers": True}


def arrivals(world: World, client_id: str, kind: type[Command] = Place) -> int:
    """How often a command of a kind for that order reached the engine."""
    received = world.venue.truth().received
    return sum(isinstance(command, kind) and command.client_id == client_id for _, command in received)


@pytest.mark.parametrize("first_s", [0.0, 0.4])
def test_an_order_that_the_network_doubled_is_of_unknown_fate_and_not_refused(path: Path, first_s: float) -> None:
    """The answer to the second copy says "duplicate", and comes before that to the first, or instead of it."""

    async def script(world: World) -> None:
        await world.trade(5)
        heard = listening(world)
        client_id = await next_place(world, FaultKind.REQUEST_TWICE, first_s)

        def is_told() -> bool:
            return any(isinstance(e, OrderUpdate) and e.reason == rules.DUPLICATE for e in heard)

        await world.until(is_told, within_s=2, every_s=0.001)
        assert arrivals(world, client_id) == 2
        order = world.state.orders.live[client_id]
        assert order.status is OrderStatus.UNKNOWN
        assert order.reserved_lots == order.qty_lots
        assert world.state.orders.reject_streak == 0
        await world.until(lambda: order.status is not OrderStatus.UNKNOWN, within_s=5)
        assert order.acked_ns
        assert len(sent_of(world, Place, client_id)) == 1
        await agrees(world)

    run_world(script, path)


def test_a_process_that_ends_after_that_answer_still_reserves_the_order(path: Path) -> None:
    """The journal keeps it as it is to us: of unknown fate."""

    async def script(world: World) -> None:
        await world.trade(5)
        world.venue.failing = {"order", "open_orders"}
        client_id = ""
        for _ in range(20):
            client_id = await next_place(world, FaultKind.REQUEST_TWICE)
            await world.sleep(1.2)  # until the next commit at most
            order = world.state.orders.live.get(client_id)
            if order is not None and order.status is OrderStatus.UNKNOWN:
                break
        assert world.state.orders.live[client_id].status is OrderStatus.UNKNOWN
        await world.crash()
        with world.journal() as journal:
            said = journal.db.execute("SELECT status FROM orders WHERE client_id = ?", [client_id]).fetchone()
            events = journal.db.execute(
                "SELECT status, reason FROM order_events WHERE client_id = ? AND reason = 'duplicate'", [client_id]
            ).fetchall()
        assert said == ("unknown",)
        assert events == [("unknown", "duplicate")]
        await world.restart()
        assert client_id in world.state.orders.live
        world.venue.failing = set()
        await agrees(world)

    run_world(script, path, busy(simulated__fills="through"))


@pytest.mark.parametrize("kind", [Cancel, Amend])
@pytest.mark.parametrize("first_s", [0.0, 0.4])
def test_a_cancel_or_an_amend_that_came_twice_is_settled_by_what_the_venue_shows(
    path: Path, kind: type[Command], first_s: float
) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        heard, seen = listening(world), len(world.venue.sent)
        world.venue.fates = [(kind, FaultKind.REQUEST_TWICE, first_s)]
        if kind is Cancel:
            await world.parts.operator.pause("take them out", "test")
        await world.until(lambda: any(isinstance(e.command, kind) for e in world.venue.sent[seen:]), 60, every_s=0.001)
        client_id = next(e.command.client_id for e in world.venue.sent[seen:] if isinstance(e.command, kind))
        await world.until(lambda: arrivals(world, client_id, kind) == 2, 2, every_s=0.001)
        await world.sleep(12)
        order = world.state.orders.live.get(client_id)
        if kind is Cancel:
            assert any(isinstance(e, RequestFailed) and e.client_id == client_id for e in heard)
            assert order is None
            assert (await world.parts.operator.resume("go on", "test")).ok
        elif order is not None:
            there = world.venue.truth().orders[client_id]
            assert (order.px_ticks, order.qty_lots) == (there.px_ticks, there.qty_lots)
        await agrees(world)

    run_world(script, path)


def test_an_end_without_a_figure_keeps_everything_until_it_was_read(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        heard = listening(world)
        told: list[str] = []
        for _ in range(20):
            world.venue.inject(FaultKind.STREAM_VAGUE)

        def ended_vaguely() -> bool:
            told.extend(
                e.client_id
                for e in heard
                if isinstance(e, OrderUpdate) and e.cum_filled_lots is None and e.status is OrderStatus.CANCELLED
            )
            return bool(told)

        await world.sleep(1)
        world.venue.exchange.cancel_all(world.venue._feed.advance())
        await world.until(ended_vaguely, within_s=60, every_s=0.001)
        order = world.state.orders.live[told[0]]
        assert order.ended_ns
        assert order.reserved_lots == order.qty_lots - order.filled_lots
        await world.until(lambda: told[0] not in world.state.orders.live, within_s=10)
        await agrees(world)

    run_world(script, path)


def test_a_fill_that_the_stream_brings_minutes_later_is_booked_before_and_once(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        heard = listening(world)
        known = len(world.venue.truth().fills)
        world.venue.inject(FaultKind.FILL_LATE, 180)
        await world.until(lambda: len(world.venue.truth().fills) > known, within_s=60, every_s=0.001)
        fill = world.venue.truth().fills[known]
        await world.until(lambda: fill.trade_id in world.state.position.trade_ids, within_s=45)
        assert not any(isinstance(e, Fill) and e.trade_id == fill.trade_id for e in heard)
        doubled = world.state.position.duplicate_fills
        await world.until(lambda: any(isinstance(e, Fill) and e.trade_id == fill.trade_id for e in heard), 200)
        await world.sleep(0.1)
        assert world.state.position.duplicate_fills > doubled
        await agrees(world)

    run_world(script, path)


def test_answers_that_say_nothing_are_made_up_for_by_stream_and_reads(path: Path) -> None:
    """An amend acknowledged without a word on whether it took, a cancel without what had filled."""

    async def script(world: World) -> None:
        heard = listening(world)
        await world.trade(60)
        amended = {e.command.client_id for e in world.venue.sent if isinstance(e.command, Amend)}
        assert amended
        assert any(isinstance(e, OrderUpdate) and e.qty_lots is None and e.status is OrderStatus.LIVE for e in heard)
        held = [o for o in world.working() if o.client_id in amended and not o.pending_ns]
        there = world.venue.truth().orders
        assert all((o.px_ticks, o.qty_lots) == (there[o.client_id].px_ticks, there[o.client_id].qty_lots) for o in held)
        await agrees(world)

    run_world(script, path, config=BARE)


def is_settled(world: World, client_id: str) -> bool:
    """Nothing that was asked of the order is without an outcome."""
    order = world.state.orders.live.get(client_id)
    return order is None or not (order.pending_ns or order.cancel_sent_ns)


@pytest.mark.parametrize("kind", [Amend, Cancel])
def test_where_the_stream_lost_it_too_a_read_says_what_became_of_it(path: Path, kind: type[Command]) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        hit: list[Command] = []

        def lose(_at_ns: int, command: Command) -> None:
            there = world.venue.exchange.orders.get(command.client_id)
            if isinstance(command, kind) and not hit and there is not None and not there.status.is_terminal:
                hit.append(command)
                world.venue.inject(FaultKind.STREAM_LOST)

        world.venue.exchange.on_request = lose
        if kind is Cancel:
            await world.parts.operator.pause("take them out", "test")
        await world.until(lambda: hit, within_s=60, every_s=0.001)
        client_id = hit[0].client_id
        asked = len(world.venue.asked)
        assert not is_settled(world, client_id)
        await world.until(lambda: is_settled(world, client_id), within_s=15)
        assert {f"order {client_id}", "open_orders"} & {what for _, what in world.venue.asked[asked:]}
        if kind is Cancel:
            assert (await world.parts.operator.resume("go on", "test")).ok
        await agrees(world)

    run_world(script, path, config=BARE)


def test_a_countdown_that_fires_while_all_is_well_loses_nothing(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        resting = world.venue.resting()
        assert resting
        for _ in range(len(resting)):
            world.venue.inject(FaultKind.STREAM_LOST)  # and nobody says so
        assert world.venue.dead_man_fires()
        assert world.venue.resting() == []
        await world.until(lambda: not set(resting) & world.state.orders.live.keys(), within_s=20)
        await agrees(world)

    run_world(script, path, busy(venue__dead_man_s=10), config={"has_dead_man": True})


def test_one_order_of_several_is_refused_and_the_others_rest(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        heard = listening(world)
        for _ in range(3):
            client_id = await next_place(world, FaultKind.REFUSED)
            await world.until(lambda: any(isinstance(e, OrderUpdate) and e.reason == rules.REFUSED for e in heard), 2)
            assert client_id not in world.venue.truth().orders
            await world.until(lambda c=client_id: c not in world.state.orders.live, within_s=2)
            assert world.state.position.position_lots == world.venue.position_lots()
            heard.clear()
            await world.until(world.is_two_sided_with_position, within_s=60)
        assert (world.guard, world.kill) == (GuardState.RUNNING, KillState.ARMED)
        await agrees(world)

    run_world(script, path)


def test_a_streak_of_refusals_stops_and_what_rests_is_taken_out(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        for _ in range(60):
            world.venue.inject(FaultKind.REFUSED)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=120)
        assert "reject_streak" in world.parts.status().reasons
        stopped_ns = world.now_ns
        await world.until(lambda: world.kill is KillState.KILLED, within_s=30)
        assert world.venue.resting() == []
        assert world.venue.increasing_since(stopped_ns + NS) == []
        assert world.state.position.position_lots == world.venue.position_lots()

    run_world(script, path)
