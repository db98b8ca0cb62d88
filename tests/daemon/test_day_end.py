"""A whole daemon over a rollover with a position: worked down before the day turns, carried openly where that is asked
for, and quoting again after it, whatever ends the process in between."""

from itertools import pairwise
from pathlib import Path

import pytest

from mmdaemon.core import position
from mmdaemon.core.commands import Place
from mmdaemon.core.reasons import Reason, reasons_of
from mmdaemon.core.types import NS, GuardState, Purpose, Side
from mmdaemon.settings import Settings
from mmdaemon.venues.simulated.market import SyntheticMarket
from tests.daemon.build import START_NS, TOXIC, World, busy, run_world

MIDNIGHT_NS = START_NS + 23 * 3_600 * NS
WINDOW_S = 60.0


def source() -> SyntheticMarket:
    """Three minutes before midnight."""
    return SyntheticMarket(seed=7, start_ts_ns=MIDNIGHT_NS - 180 * NS, schedule=TOXIC)


def settings(share: float = 0.01, distance_bps: float = 100.0) -> Settings:
    """A single order is too much to carry; passive, nothing of it fills."""
    return busy(derisk__day_end_s=WINDOW_S, derisk__day_end_position_fraction=share, derisk__distance_bps=distance_bps)


def is_ending(world: World) -> bool:
    return Reason.DAY_ENDING in reasons_of(world.state.guard.active)


async def until_wall(world: World, ts_ns: int) -> None:
    await world.sleep((ts_ns - world.clock.wall_ns()) / NS)


def of_derisk(world: World) -> list[Place]:
    return [e.command for e in world.venue.sent if isinstance(e.command, Place) and e.command.purpose is Purpose.DERISK]


@pytest.mark.parametrize("amend", [True, False])
def test_flat_before_the_day_turns_and_quoting_after_it(path: Path, amend: bool) -> None:
    async def script(world: World) -> None:
        await world.trade()
        day = world.state.risk.day
        await until_wall(world, MIDNIGHT_NS - round((WINDOW_S + 1) * NS))
        assert of_derisk(world) == []
        await world.until(world.is_two_sided_with_position, 10)
        await world.until(lambda: is_ending(world), WINDOW_S)
        begun_ns = world.now_ns
        await world.until(lambda: world.venue.position_lots() == 0, WINDOW_S)
        assert world.clock.wall_ns() < MIDNIGHT_NS
        await until_wall(world, MIDNIGHT_NS - NS // 2)
        assert is_ending(world)  # flat, and it stays so: nothing is quoted until the day has turned
        assert world.venue.position_lots() == world.state.position.position_lots == 0
        assert [each for each in world.venue.increasing_since(begun_ns) if isinstance(each.command, Place)] == []
        ours = of_derisk(world)
        assert ours
        assert all(command.reduce_only for command in ours)
        assert {command.ioc for command in ours} >= {False}
        equity_e10 = world.state.risk.equity_e10
        await world.until(lambda: world.state.risk.day == day + 1, 5)
        assert world.state.risk.day_open_e10 == equity_e10
        await world.until(world.is_two_sided_with_position, 60)
        assert world.guard is GuardState.RUNNING
        assert world.state.facts.breaks == ()

    given = settings()
    given = given.model_copy(update={"venue": given.venue.model_copy(update={"amend": amend})})
    run_world(script, path, given, source=source())


def test_what_comes_in_at_the_last_moment_is_taken_out_by_slices(path: Path) -> None:
    """By hand, ten seconds before the day turns: 200 lots, of which an order may have 83."""

    async def script(world: World) -> None:
        await world.trade()
        await until_wall(world, MIDNIGHT_NS - 10 * NS)
        assert is_ending(world)
        before = len(world.venue.sent)
        world.venue.manual_trade(Side.BUY, 200)
        await until_wall(world, MIDNIGHT_NS - NS // 2)
        assert world.venue.position_lots() == 0
        slices = [e for e in world.venue.sent[before:] if isinstance(e.command, Place) and e.command.ioc]
        assert len(slices) >= 3
        assert {e.command.side for e in slices if isinstance(e.command, Place)} == {Side.SELL}
        assert all(b.mono_ns - a.mono_ns > NS // 2 for a, b in pairwise(slices))
        await world.until(world.is_two_sided_with_position, 60)

    run_world(script, path, settings(), source=source())


def test_a_crash_in_the_window_does_not_carry_the_position_over(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.until(lambda: is_ending(world), 180)
        await world.sleep(2)
        await world.crash()
        assert world.venue.position_lots()
        await world.restart(1)
        await until_wall(world, MIDNIGHT_NS - NS // 2)
        assert world.venue.position_lots() == 0
        await world.until(world.is_two_sided_with_position, 60)

    run_world(script, path, settings(), source=source())


async def day_opened(world: World, day: int) -> int:
    """Until the next day has opened. Returns the loss that was open then."""
    while world.state.risk.day == day:
        await world.sleep(0.001)
    state = world.state
    open_e10 = position.unrealised_e10(state.position, state.venue.mark_px_ticks)
    assert state.position.position_lots
    assert state.risk.day_open_e10 == state.risk.equity_e10 + max(0, -open_e10)
    return max(0, -open_e10)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("is_down", [False, True])
def test_carried_over_its_open_loss_is_charged_to_the_new_day_and_no_restart_forgets_it(
    path: Path, is_down: bool, side: Side
) -> None:
    """Whether it is up as the day turns or not."""

    async def script(world: World) -> int:
        await world.trade()
        day = world.state.risk.day
        await until_wall(world, MIDNIGHT_NS - 3 * NS)
        world.venue.manual_trade(side, 400)
        await until_wall(world, MIDNIGHT_NS - 2 * NS)
        assert not is_ending(world)
        if is_down:
            await world.crash()
            await world.restart(20)
            assert world.state.risk.day in (-1, day)
            await world.until(lambda: world.state.risk.day == day, 5, every_s=0.001)
        open_loss_e10 = await day_opened(world, day)
        day_open_e10 = world.state.risk.day_open_e10
        await world.sleep(2)
        await world.crash()
        await world.restart(1)
        await world.trade(5)
        assert (world.state.risk.day, world.state.risk.day_open_e10) == (day + 1, day_open_e10)
        assert of_derisk(world) == []
        return open_loss_e10

    assert run_world(script, path, settings(share=1.0), source=source()) > 0
