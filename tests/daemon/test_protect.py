"""What the venue does for us should nobody here be able to: the countdown, and the stop of the position."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import NEVER_NS, NS, GuardState, KillState, Side
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.venues.base import PositionStop, VenueUnavailable
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.daemon.build import World, busy, run_world, say_nothing
from tests.faults.build import agrees, emptied

GRANTED = {"has_dead_man": True}
COUNTS = busy(venue__dead_man_s=10)


class Asked(msgspec.Struct):
    """Requests for protection: when, and which; `fails` says which are not answered though they may work."""

    stops: list[tuple[int, PositionStop | None]] = []
    countdowns: list[tuple[int, int]] = []
    fails: str = ""
    refused: str = ""
    """Those that do not get there at all."""


def watched(world: World) -> Asked:
    asked, venue = Asked(), world.venue

    async def request(name: str) -> None:
        if asked.refused == name:
            raise VenueUnavailable("the test says so")

    async def protect(stop: PositionStop | None) -> None:
        asked.stops.append((world.now_ns, stop))
        await request("protect")
        await SimulatedVenue.protect(venue, stop)
        if asked.fails == "protect":
            raise VenueUnavailable("the test says so")

    async def dead_man(seconds: int) -> bool:
        asked.countdowns.append((world.now_ns, seconds))
        await request("dead_man")
        return await SimulatedVenue.dead_man(venue, seconds)

    venue.protect, venue.dead_man = protect, dead_man
    return asked


def kept(world: World) -> PositionStop | None:
    """The stop that the venue keeps, by its own record."""
    return world.venue.exchange.stop_keeper.stop


def counts(world: World) -> bool:
    """Whether a countdown is on at the venue."""
    return world.venue.exchange._dead_man_ns != NEVER_NS


def hang(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller waits for ever, and everything around it goes on."""
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def arrival(_inbox: Inbox) -> asyncio.Future[None]:
        return never

    def empty(_inbox: Inbox) -> int:
        return 0

    monkeypatch.setattr(Inbox, "arrival", arrival)
    monkeypatch.setattr(Inbox, "__len__", empty)


# --- the countdown ----------------------------------------------------------------------------------------------------


def test_the_countdown_is_refreshed_while_it_quotes_and_never_runs_out(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(60)
        refreshes = [at_ns for at_ns, _ in asked.countdowns]
        assert {seconds for _, seconds in asked.countdowns} == {10}
        gaps = [after - before for before, after in itertools.pairwise(refreshes)]
        assert gaps
        assert max(gaps) < 5 * NS
        assert min(gaps) >= 3 * NS  # a third of it: the venue takes one a second
        assert counts(world)
        assert world.parts.protector.unprotected_s(world.now_ns) == 0
        assert not any(order.reason == "dead_man" for order in world.venue.truth().orders.values())

    run_world(script, path, COUNTS, config=GRANTED)


def test_a_core_that_hangs_lets_it_run_out_and_the_venue_cancels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop turns, timers fire, and events wait: nobody is in charge of what rests."""

    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(5)
        assert world.venue.resting()
        assert world.venue.position_lots()
        hang(world, monkeypatch)
        hung_ns = world.now_ns
        await world.until(lambda: not counts(world), within_s=10 + 4)
        assert world.venue.resting() == []
        assert [at_ns for at_ns, _ in asked.countdowns if at_ns > hung_ns + 4 * NS] == []
        assert kept(world) is not None  # the position is still looked after
        monkeypatch.undo()
        await world.crash()

    run_world(script, path, COUNTS, config=GRANTED)


def test_a_process_that_is_gone_lets_it_run_out_and_the_next_begins_it_anew(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        assert world.venue.resting()
        await world.crash()
        await world.sleep(11)
        assert world.venue.resting() == []
        await world.restart()
        await agrees(world)
        assert counts(world)

    run_world(script, path, COUNTS, config=GRANTED)


def test_a_kill_lets_it_run_out_and_keeps_the_stop_of_the_position(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(5)
        held, stop = world.venue.position_lots(), kept(world)
        assert held
        assert stop is not None
        world.parts.kill_switch.trip("test")
        tripped_ns = world.now_ns
        await emptied(world)
        await world.sleep(20)
        assert [at_ns for at_ns, _ in asked.countdowns if at_ns > tripped_ns + NS] == []
        assert not counts(world)
        assert world.venue.position_lots() != 0
        assert kept(world) is not None
        assert (await world.parts.operator.resume("go on", "test")).ok
        assert "unprotected" not in world.parts.status().reasons
        await agrees(world)
        assert counts(world)
        assert not [fields for name, fields in world.said if name == "dead_man_lapsed"]

    run_world(script, path, COUNTS, config=GRANTED)


def test_a_stop_ends_it_only_once_the_venue_was_read_empty(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(5)
        foreign = world.venue.foreign_order(Side.BUY, 1, 100)
        assert await world.stop() == 0
        at_ns, seconds = asked.countdowns[-1]
        assert seconds == 0
        assert [seconds for _, seconds in asked.countdowns].count(0) == 1
        assert at_ns > max(asked_ns for asked_ns, what in world.venue.asked if what == "open_orders")
        await world.sleep(60)
        assert world.venue.resting() == [foreign]  # of somebody else: nothing runs out on it

    run_world(script, path, COUNTS, config=GRANTED)


def test_a_stop_that_could_not_read_the_venue_leaves_it_to_run_out(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(5)
        world.venue.failing = {"open_orders"}
        world.venue.inject(FaultKind.REST_DOWN, 5)
        assert await world.stop() == 75
        assert all(seconds for _, seconds in asked.countdowns)
        await world.sleep(11)
        assert world.venue.resting() == []
        assert not counts(world)

    run_world(script, path, COUNTS, config=GRANTED)


def test_a_countdown_that_cannot_be_ended_is_said_and_holds_no_stop_up(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(5)
        asked.refused = "dead_man"
        asked_ns = world.now_ns
        assert await world.stop() == 0
        assert world.now_ns - asked_ns < 10 * NS
        assert any(name == "dead_man_runs_out" for name, _ in world.said)

    run_world(script, path, COUNTS, config=GRANTED)


def test_one_that_ran_out_is_said_read_and_blocks_increases_until_it_is_on_again(path: Path) -> None:
    """The venue cancelled everything, and the stream told of none of it: reads do."""

    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(5)
        asked.refused = "dead_man"
        began_ns = world.now_ns
        await world.until(lambda: counts(world) is False, within_s=15)
        for _ in range(8):
            world.venue.inject(FaultKind.STREAM_LOST)
        await world.until(lambda: any(name == "dead_man_lapsed" for name, _ in world.said), within_s=5)
        said_ns = world.now_ns
        await world.sleep(0.5)
        assert "open_orders" in {what for at_ns, what in world.venue.asked if at_ns >= said_ns - NS // 50}
        tries = [at_ns for at_ns, _ in asked.countdowns if at_ns >= began_ns]
        assert len(tries) >= 3
        assert all(after - before >= NS for before, after in itertools.pairwise(tries))
        cancelled = [o.client_id for o in world.venue.truth().orders.values() if o.reason == "dead_man"]
        assert cancelled
        await world.until(lambda: not set(cancelled) & world.state.orders.live.keys(), within_s=20)
        await world.until(lambda: "unprotected" in world.parts.status().reasons, within_s=45)
        assert world.guard is GuardState.REDUCING
        asked.refused = ""
        await world.until(lambda: "unprotected" not in world.parts.status().reasons, within_s=30)
        assert any(name == "dead_man_on" for name, _ in world.said)
        await agrees(world)

    run_world(script, path, COUNTS, config=GRANTED)


def test_a_venue_that_has_none_is_asked_once_and_nothing_is_missing(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(60)
        assert len(asked.countdowns) == 1
        assert not world.parts.protector.has_dead_man
        assert world.parts.protector.unprotected_s(world.now_ns) == 0
        assert [name for name, _ in world.said].count("no_dead_man") == 1
        await world.stop()
        assert len(asked.countdowns) == 1

    run_world(script, path, COUNTS)


def test_a_countdown_whose_end_is_refused_is_said_to_run_out(path: Path) -> None:
    """It was granted, so it counts on: whoever is told that it ended would not know why all orders go."""

    async def script(world: World) -> None:
        watched(world)
        await world.trade(5)

        async def refuse(seconds: int) -> bool:
            return False

        world.venue.dead_man = refuse
        assert await world.stop() == 0
        assert counts(world)
        assert any(name == "dead_man_runs_out" for name, _ in world.said)

    run_world(script, path, COUNTS, config=GRANTED)


def test_one_that_was_granted_and_is_refused_later_runs_out_and_is_missed(path: Path) -> None:
    """A key that is refused for a while is no venue that has none: the countdown that is on cancels everything, and
    there must be one again."""

    async def script(world: World) -> None:
        watched(world)
        grant = world.venue.dead_man

        async def refuse(seconds: int) -> bool:
            return False

        await world.trade(20)
        world.venue.dead_man = refuse
        await world.until(lambda: any(name == "dead_man_lapsed" for name, _ in world.said), within_s=20)
        assert world.parts.protector.has_dead_man
        assert world.parts.protector.unprotected_s(world.now_ns) > 0
        world.venue.dead_man = grant
        await world.until(lambda: counts(world), within_s=15)
        assert [name for name, _ in world.said].count("no_dead_man") == 0
        await world.trade(20)
        await world.stop()
        assert not counts(world)

    run_world(script, path, COUNTS, config=GRANTED)


def test_switched_off_it_is_not_asked_for(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(5)
        await world.stop()
        assert asked.countdowns == asked.stops == []

    run_world(script, path, busy(venue__dead_man_s=0, venue__stop_bps=0.0), config=GRANTED)


# --- the stop ---------------------------------------------------------------------------------------------------------


def is_right(world: World, stop_bps: float) -> bool:
    """The venue keeps a stop on the losing side, as far away as it should be, give or take what mark moved since."""
    stop, lots, mark = kept(world), world.venue.position_lots(), world.venue.exchange.mark_ticks
    if stop is None or not lots:
        return stop is None and not lots
    away_bps = (mark - stop.trigger_px_ticks) / mark * 1e4 * (1 if lots > 0 else -1)
    return 0.6 * stop_bps < away_bps < 1.4 * stop_bps


def test_a_position_has_a_stop_at_the_venue_wherever_it_turns(path: Path) -> None:
    async def script(world: World) -> None:
        sides: set[bool] = set()
        bare_ns = longest_ns = 0
        for _ in range(600):
            await world.sleep(0.5)
            if lots := world.venue.position_lots():
                sides.add(lots > 0)
            if kept(world) is None and lots:
                bare_ns = bare_ns or world.now_ns
                longest_ns = max(longest_ns, world.now_ns - bare_ns)
            else:
                bare_ns = 0
                assert not lots or is_right(world, 500.0), (kept(world), lots)
        assert sides == {True, False}
        assert longest_ns <= 3 * NS
        await world.parts.operator.pause("x", "x")
        await world.parts.operator.flatten("x", "x", say_nothing)
        await world.until(lambda: kept(world) is None, within_s=10)

    run_world(script, path)


def test_the_stop_follows_what_moves_for_us_and_is_never_loosened(path: Path) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(20)
        await world.parts.operator.pause("hold still", "test")
        await world.until(lambda: not world.venue.resting(), within_s=5)
        await world.sleep(5)
        side = 1 if world.state.position.position_lots > 0 else -1
        first = kept(world)
        assert first is not None
        mark = world.venue.exchange.mark_ticks
        away, before = mark * 0.05, len(asked.stops)

        async def moved(by: float) -> int:
            """The trigger after mark moved by a share of the distance, in our favour where positive."""
            at = round(mark + side * away * by)
            world.state.venue.mark_px_ticks, world.state.venue.mark_ns = at, world.now_ns
            await world.parts.protector._look_at_stop()
            stop = kept(world)
            assert stop is not None
            return stop.trigger_px_ticks

        assert await moved(0.2) == first.trigger_px_ticks
        assert await moved(-0.5) == first.trigger_px_ticks
        tighter = await moved(0.4)
        assert (tighter - first.trigger_px_ticks) * side == pytest.approx(0.4 * away, rel=0.05)
        assert await moved(0.1) == tighter
        assert await moved(-0.3) == tighter
        assert len(asked.stops) == before + 1

    run_world(script, path)


def test_a_stop_that_the_venue_lost_is_there_again(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(20)
        await world.parts.operator.pause("hold still", "test")
        await world.until(lambda: kept(world) is not None, within_s=5)
        world.venue.exchange.protect(None)
        await world.until(lambda: kept(world) is not None, within_s=65)

    run_world(script, path)


def test_a_stop_is_set_anew_after_a_restart_and_left_by_the_end_of_a_process(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(20)
        await world.until(lambda: kept(world) is not None, within_s=5)
        assert await world.stop() == 0
        assert world.venue.position_lots()
        assert kept(world) is not None
        asked = watched(world)
        world.venue.exchange.protect(None)
        await world.restart()
        await world.until(lambda: kept(world) is not None, within_s=30)
        assert None not in {stop for _, stop in asked.stops}  # never bare, though nobody knew at first what is held

    run_world(script, path)


def test_a_stop_that_is_there_is_not_taken_away_before_anybody_knows_what_is_held(path: Path) -> None:
    """The books are flat, and the venue is not: somebody traded while nobody was here, and looked after it."""

    async def script(world: World) -> None:
        await world.trade(5)
        await world.parts.operator.flatten("x", "x", say_nothing)
        assert await world.stop() == 0
        world.venue.manual_trade(Side.BUY, 50)
        stop = PositionStop(world.venue.exchange.mark_ticks * 9 // 10)
        world.venue.exchange.protect(stop)
        world.venue.failing = {"fills", "snapshot"}
        await world.restart()
        await world.sleep(15)
        assert kept(world) == stop
        world.venue.failing = set()
        await world.until(lambda: kept(world) not in (stop, None), within_s=30)
        assert is_right(world, 500.0)

    run_world(script, path)


def why(world: World) -> set[str]:
    return set(world.parts.status().reasons)


@pytest.mark.parametrize("how", ["refused", "fails"])
def test_a_position_that_gets_no_stop_for_half_a_minute_is_only_reduced(path: Path, how: str) -> None:
    async def script(world: World) -> None:
        asked = watched(world)
        setattr(asked, how, "protect")
        await world.trade(5)
        began_ns = world.now_ns
        await world.until(lambda: "unprotected" in why(world), within_s=60)
        assert world.now_ns - began_ns > 20 * NS
        assert world.guard is GuardState.REDUCING
        assert Reason.UNPROTECTED in [reason for _, moved in world.daemon.transitions for reason in moved.reasons]
        seen = world.now_ns
        await world.sleep(5)
        assert not [e for e in world.venue.increasing_since(seen + NS) if not reduces(world, e.command)]
        tries = [at_ns for at_ns, _ in asked.stops]
        assert all(after - before >= NS for before, after in itertools.pairwise(tries))
        setattr(asked, how, "")
        await world.until(lambda: "unprotected" not in why(world), within_s=30)
        await agrees(world)

    run_world(script, path)


def test_a_stop_that_cannot_be_confirmed_any_more_does_not_count(path: Path) -> None:
    """A request without an answer may have taken the old one away and not set the new one."""

    async def script(world: World) -> None:
        asked = watched(world)
        await world.trade(20)
        await world.parts.operator.pause("hold still", "test")
        await world.until(lambda: kept(world) is not None, within_s=5)
        asked.refused = "protect"
        await world.sleep(80)
        assert "unprotected" not in why(world)
        await world.until(lambda: "unprotected" in why(world), within_s=25)
        asked.refused = ""
        await world.until(lambda: "unprotected" not in why(world), within_s=20)

    run_world(script, path)


def reduces(world: World, command: object) -> bool:
    lots = world.venue.position_lots()
    return bool(getattr(command, "side", 0) * lots < 0)


def test_a_stop_that_is_hit_closes_the_position_and_is_booked(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(20)
        await world.until(lambda: kept(world) is not None, within_s=5)
        stop, lots = kept(world), world.venue.position_lots()
        assert stop is not None
        exchange = world.venue.exchange
        exchange.on_mark(world.venue._feed.advance(), stop.trigger_px_ticks)
        assert world.venue.position_lots() == 0
        assert lots
        await agrees(world)
        assert world.kill is KillState.ARMED
        breaks: Callable[[], list[str]] = lambda: [name for name in world.parts.ledger.open]  # noqa: E731, C416
        assert any("manual_trade" in name or "foreign" in name for name in breaks()), breaks()

    run_world(script, path)
