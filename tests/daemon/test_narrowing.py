"""What narrows must win: over a resume that was asked before it, over a crash, over a venue that answers badly.

Each case here once let the daemon trade, or say that nothing rests, when it must not.
"""

import asyncio
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import AccountSnapshot, TaskDied
from mmdaemon.core.types import E10, NS, GuardState, KillState, OrderStatus
from mmdaemon.venues.base import Absent, AccountFacts, OrderReport, VenueUnavailable
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.daemon.build import World, busy, next_place, run_world, say_nothing


async def killed(world: World) -> None:
    await world.trade(5)
    await world.parts.operator.kill("first", "A", say_nothing, wait=True)
    await world.until(lambda: world.kill is KillState.KILLED)


def slow_snapshots(world: World, seconds: float) -> None:
    real = world.venue.snapshot

    async def slow() -> AccountSnapshot:
        await world.sleep(seconds)
        return await real()

    world.venue.snapshot = slow


def test_a_resume_asked_before_a_kill_does_not_undo_it(path: Path) -> None:
    async def script(world: World) -> None:
        await killed(world)
        slow_snapshots(world, 6.0)
        resuming = asyncio.ensure_future(world.parts.operator.resume("looks fine", "A"))
        await world.sleep(0.5)
        assert (await world.parts.operator.kill("never again", "B", say_nothing)).ok
        outcome = await resuming
        assert not outcome.ok
        await world.sleep(20)
        assert world.guard is GuardState.HARD_STOP
        assert world.kill is KillState.KILLED
        assert world.venue.resting() == []
        assert world.state_dir.latched()

    run_world(script, path)


def test_a_resume_asked_before_a_pause_does_not_undo_it(path: Path) -> None:
    async def script(world: World) -> None:
        await killed(world)
        resuming = asyncio.ensure_future(world.parts.operator.resume("looks fine", "A"))
        await world.sleep(0.05)
        assert (await world.parts.operator.pause("hold on", "B")).ok
        assert not (await resuming).ok
        await world.sleep(10)
        assert world.state.facts.pause_reason == "hold on"
        assert world.venue.resting() == []

    run_world(script, path)


def test_a_resume_into_a_new_hard_reason_is_a_kill_again(path: Path) -> None:
    """It comes between the last look and the resume: the guard does not move, and must be latched all the same."""

    async def script(world: World) -> None:
        await killed(world)
        operator = world.parts.operator
        clear = operator._clear_latch

        def clear_and_hear() -> None:
            clear()
            now = (world.clock.mono_ns(), world.clock.wall_ns(), None)
            world.daemon.inbox.post(TaskDied(*now, "timers", "a test"))

        operator._clear_latch = clear_and_hear
        assert not (await operator.resume("ok", "A")).ok
        await world.sleep(20)
        assert world.guard is GuardState.HARD_STOP
        assert world.kill is KillState.KILLED
        assert world.daemon.gate.closed_because
        assert world.state_dir.latched()

    run_world(script, path)


def test_a_pause_outlives_a_crash_and_ends_by_a_resume(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        assert (await world.parts.operator.flatten("news", "B", say_nothing)).ok
        await world.crash()
        await world.restart(1)
        await world.sleep(15)
        assert world.state.facts.pause_reason == "news"
        assert world.venue.resting() == []
        assert (await world.parts.operator.resume("over", "B")).ok
        await world.until(world.is_two_sided_with_position, 60)

    run_world(script, path)


def test_a_crash_gives_no_loss_and_no_turnover_back(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(130)
        risk, held = world.state.risk, world.state.position
        before = (risk.day, risk.day_open_e10, risk.peak_e10, risk.day_turnover_start_e10)
        turnover_e10 = held.turnover_e10
        assert turnover_e10 > 0
        await world.crash()
        await world.restart(1)
        await world.sleep(10)
        risk = world.state.risk
        assert (risk.day, risk.day_open_e10, risk.day_turnover_start_e10) == (before[0], before[1], before[3])
        assert risk.peak_e10 >= before[2] - E10  # at most a minute old
        assert world.state.position.turnover_e10 >= turnover_e10

    run_world(script, path)


def test_flat_means_that_nothing_rests_either(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        world.venue.fates = [(Cancel, FaultKind.REQUEST_LOST, 0.0)] * 8
        assert (await world.parts.operator.flatten("news", "B", say_nothing)).ok
        assert world.venue.resting() == []
        assert world.venue.position_lots() == 0

    run_world(script, path)


def test_a_stop_that_could_not_see_the_venue_empty_says_so(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        assert world.venue.resting()
        world.venue.inject(FaultKind.REST_DOWN, 120)
        assert await world.stop("SIGTERM") == 75
        assert "orders_may_rest" in [name for name, _ in world.said]

    run_world(script, path)


def test_a_stop_does_not_wait_for_ever_for_the_disk(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        world.connection.hangs = True
        assert await world.stop("SIGTERM") == 70
        assert world.venue.resting() == []

    run_world(script, path)


@pytest.mark.parametrize("every_s", [1.0, 10.0])
def test_lost_orders_are_asked_about_at_every_cadence(path: Path, every_s: float) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        lost = [await next_place(world, FaultKind.REQUEST_LOST) for _ in range(2)]
        await world.sleep(60)
        assert not [client_id for client_id in lost if client_id in world.state.orders.live]
        await world.until(world.is_two_sided_with_position, 60)

    run_world(script, path, busy(venue__reconcile_orders_s=every_s))


@pytest.mark.parametrize("seen_between", [False, True])
def test_two_stale_answers_about_an_order_that_rests_do_not_free_it(path: Path, seen_between: bool) -> None:
    """A replica that is behind says "absent" twice: at once, or a window apart with a healthy listing in between."""

    async def script(world: World) -> None:
        await world.trade(5)
        reconciler, real = world.parts.reconciler, world.venue.order
        lies: list[str] = []

        async def order(client_id: str) -> OrderReport | Absent:
            answer = await real(client_id)
            if client_id in lies:
                lies.remove(client_id)
                return Absent(client_id)
            return answer

        world.venue.order = order
        window_ns = world.daemon.params.in_flight_max_ns

        def candidates() -> list[str]:
            return [
                o.client_id
                for o in world.working()
                if o.status is OrderStatus.LIVE
                and not o.pending_ns
                and world.now_ns - o.created_ns > window_ns + 2 * NS
            ]

        await world.until(candidates, 120)
        client_id = candidates()[-1]
        found = world.state.orders.live[client_id]
        lies[:] = [client_id, client_id]
        await reconciler._ask(found)
        if seen_between:
            await reconciler._check_orders()
            assert client_id not in reconciler._not_found._first_ns
        await reconciler._ask(found)
        await world.daemon.inbox.settled()
        assert lies == []
        assert client_id not in world.state.orders.closed or client_id not in world.venue.resting()

    run_world(script, path)


def test_an_order_that_waited_for_the_disk_is_not_sent_late(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        world.connection.slow(1_500_000_000)
        seen = len(world.venue.sent)
        await world.sleep(20)
        placed = [each for each in world.venue.sent[seen:] if isinstance(each.command, Place)]
        created = {o.client_id: o.created_ns for o in world.state.orders.live.values()}
        for each in placed:
            assert each.mono_ns - created.get(each.command.client_id, each.mono_ns) <= NS
        assert world.parts.sender.refused > 0

    run_world(script, path)


def test_account_facts_are_read_each_minute_and_a_change_stops(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        real = world.venue.facts

        async def widened() -> AccountFacts:
            return msgspec.structs.replace(await real(), can_withdraw=True)

        world.venue.facts = widened
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 70)
        assert "account_facts" in world.parts.status().reasons

    run_world(script, path)


def test_facts_that_cannot_be_read_are_not_fine_for_ever(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)

        async def unreadable() -> AccountFacts:
            raise VenueUnavailable("the test says so")

        world.venue.facts = unreadable
        await world.sleep(420)
        assert world.guard is GuardState.SOFT_PAUSE
        assert "clock" in world.parts.status().reasons

    run_world(script, path)


def test_what_came_before_the_account_was_met_is_not_booked_on_top(path: Path, tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        await world.parts.operator.flatten("x", "x", say_nothing)
        assert await world.stop() == 0
        world.venue.transfer(100_000 * E10)
        await world.sleep(20)
        world.path = tmp_path / "another"
        await world.begin(fresh_account=True)
        await world.sleep(30)
        held, truth = world.state.position, await SimulatedVenue.snapshot(world.venue)
        assert held.transfers_e10 == 0
        assert held.start_e10 + held.realised_e10 - held.fees_e10 + held.funding_e10 == truth.wallet_e10

    run_world(script, path)


def test_a_kill_switch_that_dies_twice_still_empties_the_venue(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        real, calls = world.venue.cancel_all, [0]

        async def cancel_all() -> None:
            calls[0] += 1
            if calls[0] <= 2:
                raise KeyError("an answer of a shape nobody expected")
            await real()

        world.venue.cancel_all = cancel_all
        outcome = await world.parts.operator.kill("x", "B", say_nothing)
        assert outcome.ok
        assert calls[0] > 2
        assert world.venue.resting() == []

    run_world(script, path)


def test_money_that_nobody_told_us_of_is_a_break(path: Path) -> None:
    """The position agrees and the balance does not: quoting pauses, and stops for good when it stays so."""

    async def script(world: World) -> None:
        await world.trade(5)
        real = world.venue.snapshot

        async def poorer() -> AccountSnapshot:
            seen = await real()
            return msgspec.structs.replace(seen, wallet_e10=seen.wallet_e10 - E10)

        world.venue.snapshot = poorer
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 60)
        assert world.state.facts.breaks[0].startswith("equity: the venue says ")
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 60)
        assert "break" in world.parts.status().reasons

    run_world(script, path)
