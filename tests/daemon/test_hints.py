"""Hints of the private stream: what they have read, when, and how seldom; with live orders and a position."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from mmdaemon.core.events import AccountHint, Bill, Event, Fill, LinkChanged
from mmdaemon.core.position import wallet_e10
from mmdaemon.core.types import E10, NS, GuardState, Link, Side
from mmdaemon.venues.base import AccountFacts
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from tests.daemon.build import LATENCY_NS, World, run_world

THEN_CALM: Schedule = ((Stretch.TOXIC, 12.0), (Stretch.CALM, 1e6))


def hint(world: World, lots: int | None = None, wallet: int | None = None, leverage: float | None = None) -> None:
    """What the venue's stream would say: the first two are added to what the books have."""
    books = world.state.position
    said = AccountHint(
        world.now_ns,
        world.clock.wall_ns(),
        None,
        None if lots is None else books.position_lots + lots,
        None if wallet is None else wallet_e10(books) + wallet,
        leverage,
    )
    world.daemon.inbox.post(said)


def rounds(world: World) -> list[float]:
    """When a round was read for a hint, in seconds."""
    with world.journal() as journal:
        rows = journal.db.execute("SELECT mono_ns FROM reconciliations WHERE scope = 'hint' ORDER BY seq").fetchall()
    return [mono_ns / NS for (mono_ns,) in rows]


async def traded(world: World) -> float:
    """Quotes and a position, in a market that is calm now. Returns the time."""
    await world.trade(14)
    assert world.working()
    return world.now_ns / NS


@asynccontextmanager
async def untold(world: World) -> AsyncGenerator[None]:
    """What is traded or paid meanwhile is never told."""
    deliver = world.venue._deliver
    assert deliver is not None

    def lossy(event: Event) -> None:
        if not isinstance(event, Fill | Bill):
            deliver(event)

    world.venue._deliver = lossy
    yield
    await world.sleep(2 * LATENCY_NS / NS)
    world.venue._deliver = deliver


async def untold_trade(world: World) -> Fill:
    async with untold(world):
        world.venue.manual_trade(Side.BUY, 40)
    return world.venue.truth().fills[-1]


def test_a_trade_whose_fill_was_lost_is_booked_at_once(path: Path) -> None:
    async def script(world: World) -> None:
        await traded(world)
        trade = await untold_trade(world)
        hint(world, lots=40)
        await world.until(lambda: trade.trade_id in world.state.position.trade_ids, 1.5)
        await world.sleep(5)
        assert len(rounds(world)) == 1
        assert world.venue.position_lots() == world.state.position.position_lots
        with world.journal() as journal:
            assert [row.name for row in journal.breaks()] == [f"manual_trade/{trade.trade_id}"]
            (count,) = journal.db.execute("SELECT count(*) FROM fills WHERE trade_id = ?", (trade.trade_id,)).fetchone()
        assert count == 1

    run_world(script, path, schedule=THEN_CALM)


def test_a_transfer_is_booked_at_once(path: Path) -> None:
    async def script(world: World) -> None:
        await traded(world)
        hint(world, wallet=7 * E10)  # where its zero lies says nothing
        await world.sleep(2)
        assert rounds(world) == []
        async with untold(world):
            world.venue.transfer(-100 * E10)
        before = world.state.position.transfers_e10
        hint(world, wallet=(7 - 100) * E10)
        await world.until(lambda: world.state.position.transfers_e10 == before - 100 * E10, 1.5)
        await world.sleep(2)
        assert len(rounds(world)) == 1

    run_world(script, path, schedule=THEN_CALM)


def test_what_agrees_and_what_agrees_soon_costs_no_request(path: Path) -> None:
    async def script(world: World) -> None:
        await traded(world)
        for _ in range(20):
            hint(world, lots=40, wallet=-5 * E10)  # ahead of the fill that it is of
            await world.sleep(0.4)
            hint(world, lots=0, wallet=0)
            await world.sleep(0.4)
        for _ in range(20):
            hint(world, lots=40)  # and agrees before anybody has looked
            hint(world, lots=0)
            await world.sleep(0.1)
        assert rounds(world) == []

    run_world(script, path, schedule=THEN_CALM)


def test_a_fill_that_comes_late_is_reason_enough_to_agree(path: Path) -> None:
    async def script(world: World) -> None:
        await traded(world)
        trade = await untold_trade(world)
        hint(world, lots=40)
        await world.sleep(0.4)
        world.daemon.inbox.post(msgspec.structs.replace(trade, mono_ns=world.now_ns, ts_ns=world.clock.wall_ns()))
        await world.sleep(5)
        assert rounds(world) == []

    run_world(script, path, schedule=THEN_CALM)


def test_a_stream_that_errs_is_read_after_a_few_times_and_then_not_believed(path: Path) -> None:
    async def script(world: World) -> None:
        began_s = await traded(world)
        hint(world, lots=40)
        await world.sleep(60)
        read = [at - began_s for at in rounds(world)]
        assert len(read) == 3
        assert 0.5 <= read[0] < 1
        assert read[1] - read[0] < read[2] - read[1]
        assert world.guard is GuardState.RUNNING
        # And on and on: in the end it costs no more than the periodic rounds do.
        for _ in range(120):
            hint(world, lots=40)
            await world.sleep(0.5)
            hint(world, lots=41)
            await world.sleep(0.5)
        assert len(rounds(world)) <= 3 + 6

    run_world(script, path, schedule=THEN_CALM)


def test_a_reading_that_fails_is_tried_again(path: Path) -> None:
    async def script(world: World) -> None:
        await traded(world)
        trade = await untold_trade(world)
        world.venue.failing = {"fills"}
        hint(world, lots=40)
        await world.sleep(3)
        assert rounds(world) == []
        assert trade.trade_id not in world.state.position.trade_ids
        world.venue.failing = set()
        await world.until(lambda: trade.trade_id in world.state.position.trade_ids, 6)
        await world.sleep(2)
        assert len(rounds(world)) == 1

    run_world(script, path, schedule=THEN_CALM)


def test_while_the_stream_is_gone_the_verdict_is_the_reconcilers(path: Path) -> None:
    """A clean round of another scope would end the gap without what a gap is read for."""

    async def script(world: World) -> None:
        await traded(world)
        world.venue._say(LinkChanged(0, 0, None, Link.PRIVATE, False))
        await world.sleep(0.1)
        hint(world, lots=40)
        await world.sleep(6)
        assert rounds(world) == []
        world.venue._say(LinkChanged(0, 0, None, Link.PRIVATE, True))
        await world.until(lambda: world.guard is GuardState.RUNNING, 20)
        await world.sleep(2)
        with world.journal() as journal:
            scopes = [scope for (scope,) in journal.db.execute("SELECT scope FROM reconciliations ORDER BY seq")]
        assert "gap" in scopes
        assert "hint" not in scopes[: scopes.index("gap")]

    run_world(script, path, schedule=THEN_CALM)


def test_a_leverage_that_is_another_is_read_at_once_and_seldom(path: Path) -> None:
    async def script(world: World) -> None:
        await traded(world)
        facts, read = world.venue.facts, list[float]()
        said = world.settings.venue.leverage

        async def counted() -> AccountFacts:
            read.append(world.now_ns / NS)
            return await facts()

        vars(world.venue).update(facts=counted)
        hint(world, leverage=said)
        await world.sleep(4)
        assert read == []
        began_s = world.now_ns / NS
        hint(world, leverage=said + 1)
        await world.sleep(1)
        assert len(read) == 1
        assert read[0] - began_s < 1
        for _ in range(50):  # it errs
            hint(world, leverage=said + 1)
            await world.sleep(0.2)
        assert len(read) <= 1 + 2
        assert world.guard is GuardState.RUNNING

    run_world(script, path, schedule=THEN_CALM)


def test_a_leverage_changed_by_hand_stops_it_within_seconds(path: Path) -> None:
    async def script(world: World) -> None:
        await traded(world)
        facts = world.venue.facts

        async def changed() -> AccountFacts:
            return msgspec.structs.replace(await facts(), leverage=world.settings.venue.leverage + 1)

        vars(world.venue).update(facts=changed)
        hint(world, leverage=world.settings.venue.leverage + 1)
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 2.5)
        assert "account_facts" in world.parts.status().reasons
        await world.until(lambda: not world.venue.resting(), 2)

    run_world(script, path, schedule=THEN_CALM)
