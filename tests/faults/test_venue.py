"""Rows of docs/FAULTS.md that had no test of the whole daemon: what the venue does to it for a while, or all the time.

Each ends with the same question: is what the daemon holds what the venue's own record says, and does it quote again?
"""

from itertools import pairwise
from pathlib import Path

import pytest

from mmdaemon.core.commands import Place
from mmdaemon.core.events import Event, OrderUpdate, RequestFailed
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import E10, NS, GuardState, OrderStatus
from mmdaemon.venues.simulated.faults import FaultKind, FaultRates
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.matching import PostOnly
from tests.daemon.build import CALM, World, busy, run_world
from tests.faults.build import agrees, listening

SLOW = Delay(0.5)
"""A request is half a second on its way, and the market goes on."""


def is_post_only(event: Event) -> bool:
    return type(event) is OrderUpdate and event.reason == "post_only"


@pytest.mark.parametrize(
    ("rates", "seen"),
    [
        (FaultRates(stream_lost=1.0), FaultKind.STREAM_LOST),
        (FaultRates(stream_lost=0.3), FaultKind.STREAM_LOST),
        (FaultRates(stream_again=0.5, stream_again_max_s=20.0), FaultKind.STREAM_AGAIN),
        (FaultRates(stream_late=0.5), FaultKind.STREAM_LATE),
    ],
    ids=["silent", "lossy", "doubled", "out of order"],
)
def test_a_private_stream_that_is_silent_doubled_or_out_of_order_loses_and_doubles_nothing(
    path: Path, rates: FaultRates, seen: FaultKind
) -> None:
    """Silent while the link is up and reads answer: only the continuous reconciliation can know."""

    async def script(world: World) -> None:
        await world.sleep(60)
        assert world.venue.faults.seen[seen] > 5
        assert len(world.venue.truth().fills) > 5
        assert world.guard is not GuardState.HARD_STOP
        await agrees(world)

    run_world(script, path, config={"faults": rates})


@pytest.mark.parametrize("links", [(), ("private", "public")], ids=["rest", "all of it"])
def test_maintenance_stops_quotes_and_ends(path: Path, links: tuple[str, ...]) -> None:
    """Neither requests nor reads for two minutes, nor streams perhaps; then it quotes again by itself."""

    async def script(world: World) -> None:
        await world.trade(5)
        begun_ns = world.now_ns
        world.venue.inject(FaultKind.REST_DOWN, 120)
        if links:
            world.venue.disconnect(120, links)
        await world.sleep(119)
        assert world.guard is not GuardState.HARD_STOP
        late = [each for each in world.venue.arrivals_since(begun_ns + 10**9) if isinstance(each, Place)]
        assert late == []
        reserved = world.state.orders.reserved_buy_lots, world.state.orders.reserved_sell_lots
        unsettled = [o for o in world.state.orders.live.values() if o.status is OrderStatus.UNKNOWN]
        assert sum(reserved) >= sum(o.reserved_lots for o in unsettled)
        await world.sleep(30)
        await agrees(world)

    run_world(script, path)


def test_a_rate_limit_storm_is_survived_within_the_cap(path: Path) -> None:
    """Every request and read is refused for half a minute. A refusal is definite: it frees what it refuses. After each
    the daemon waits longer, so that the storm is not fed, and it is no streak that stops for good."""

    async def script(world: World) -> None:
        await world.trade(5)
        assert world.state.decision is not None
        cap_lots = world.state.decision.max_position_lots
        assert cap_lots > 0
        world.venue.inject(FaultKind.RATE_STORM, 30)
        begun_ns = world.now_ns
        for _ in range(30):
            await world.sleep(1)
            assert abs(world.state.position.position_lots) <= 1.01 * cap_lots
            assert world.guard is not GuardState.HARD_STOP
        assert world.venue.faults.seen[FaultKind.RATE_STORM] > 0
        sent_at = [each.mono_ns for each in world.venue.increasing_since(begun_ns)]
        bursts = 1 + sum(after - before > NS // 2 for before, after in pairwise(sent_at))
        assert bursts <= 7, "it tried again and again"
        await world.until(world.is_two_sided_with_position, within_s=60)
        await agrees(world)

    run_world(script, path, settings=busy(guard__rejects_in_a_row=5))


@pytest.mark.parametrize("kind", [FaultKind.BOOK_SILENT, FaultKind.BOOK_FROZEN])
def test_a_book_that_stands_still_on_a_live_socket_is_not_quoted_from(path: Path, kind: FaultKind) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        begun_ns = world.now_ns
        world.venue.inject(kind, 40)
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, within_s=30)
        assert world.state.guard.active & BIT[Reason.BOOK]
        assert world.state.venue.public_up
        paused_ns = world.now_ns
        await world.sleep((begun_ns + 39 * 10**9 - paused_ns) / 1e9)
        if kind is FaultKind.BOOK_SILENT:
            assert world.guard is GuardState.SOFT_PAUSE
            assert world.venue.increasing_since(paused_ns + 1) == []
        await agrees(world)

    run_world(script, path)


@pytest.mark.parametrize("rule", list(PostOnly))
def test_post_only_orders_that_would_take_are_no_streak_of_refusals(path: Path, rule: PostOnly) -> None:
    """Rejected in the answer or cancelled on the stream: freed, placed anew, and no reason to stop."""

    async def script(world: World) -> None:
        heard = listening(world)
        await world.until(lambda: sum(map(is_post_only, heard)) >= 5, within_s=300)
        assert world.guard is not GuardState.HARD_STOP
        assert world.state.orders.reject_streak == 0
        await agrees(world)

    run_world(script, path, config={"post_only": rule, "request": SLOW})


def test_money_that_leaves_the_account_ends_in_refusals_and_a_stop_and_never_beyond_the_cap(path: Path) -> None:
    """Insufficient margin: each order is refused with that reason until the streak stops it; nothing stays reserved."""

    async def script(world: World) -> None:
        await world.sleep(5)
        world.venue.transfer(-(99_990 * E10))
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=120)
        await world.until(lambda: not world.venue.resting(), within_s=30)
        await world.until(lambda: not world.state.orders.live, within_s=60)
        assert (world.state.orders.reserved_buy_lots, world.state.orders.reserved_sell_lots) == (0, 0)
        assert world.state.position.position_lots == world.venue.position_lots()

    run_world(script, path, schedule=CALM)


def test_cancels_that_come_too_late_are_refused_and_the_fills_are_booked_once(path: Path) -> None:
    """With requests half a second on their way, orders fill while their cancel or amend is underway."""

    async def script(world: World) -> None:
        heard = listening(world)

        def has_raced() -> bool:
            refused = [event for event in heard if type(event) is RequestFailed]
            return sum(event.request == "cancel" and event.reason == "filled" for event in refused) >= 3

        await world.until(has_raced, within_s=600)
        assert world.guard is not GuardState.HARD_STOP
        await agrees(world)

    run_world(script, path, settings=busy(venue__amend=False), config={"request": SLOW})
