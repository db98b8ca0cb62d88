"""The last row of docs/FAULTS.md: a strategy that runs away, on the whole daemon with its venue's own count."""

from pathlib import Path

import pytest

from mmdaemon.core.commands import Cancel
from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import NS, GuardState
from tests.daemon.build import World, busy, may_increase, run_world
from tests.faults.build import emptied


def most_in_a_minute(times_ns: list[int]) -> int:
    return max((sum(at <= each < at + 60 * NS for each in times_ns) for at in times_ns), default=0)


def why(world: World, state: GuardState) -> set[Reason]:
    """Every reason for which it went there."""
    return {reason for _, moved in world.daemon.transitions if moved.after is state for reason in moved.reasons}


def test_requoting_without_end_is_held_to_its_budget_and_the_third_time_stops_for_good(path: Path) -> None:
    """Quotes follow every tick, by cancel and place: what the venue received stays within what was configured."""
    settings = busy(
        venue__amend=False,
        quotes__tolerance_min_bps=0.0,
        quotes__tolerance_fraction=0.0,
        quotes__min_quote_life_s=0.0,
        limits__cancels_per_minute=40,
        limits__messages_per_minute=200,
    )

    async def script(world: World) -> None:
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=1_800, every_s=0.1)
        assert Reason.CANCEL_BREACHES in why(world, GuardState.HARD_STOP)
        assert Reason.CANCEL_BUDGET in why(world, GuardState.REDUCING)
        stopped_ns = world.now_ns
        sent = [each for each in world.venue.sent if each.mono_ns <= stopped_ns]
        quoted = [e.mono_ns for e in sent if isinstance(e.command, Cancel) and not e.command.risk]
        increasing = [each.mono_ns for each in sent if may_increase(each.command)]
        assert most_in_a_minute(quoted) <= 40 + len(world.state.orders.live) + 8
        assert most_in_a_minute(increasing) <= 140, "no more than its share: 30 % are kept for cancels"
        await emptied(world)
        await world.sleep(60)
        assert world.venue.increasing_since(stopped_ns) == []
        assert not world.venue.resting()
        assert world.state.position.position_lots == world.venue.position_lots()

    run_world(script, path, settings=settings)


@pytest.mark.parametrize("most", [6, 20])
def test_fills_on_one_side_again_and_again_stop_for_good(path: Path, most: int) -> None:
    """A loop of inventory: whatever it gets rid of it buys again. Counted by side and minute, whatever the position."""

    async def script(world: World) -> None:
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=900)
        assert Reason.REPEATED_EXECUTION in why(world, GuardState.HARD_STOP)
        stopped_ns = world.now_ns
        fills = world.venue.truth().fills
        by_side = {
            side: most_in_a_minute([fill.venue_ts_ns or 0 for fill in fills if fill.side is side])
            for side in {fill.side for fill in fills}
        }
        assert max(by_side.values()) > most
        assert max(by_side.values()) <= most + 8  # what rested when it was one too many
        await emptied(world)
        await world.sleep(60)
        assert world.venue.increasing_since(stopped_ns) == []
        assert world.state.position.position_lots == world.venue.position_lots()

    run_world(script, path, settings=busy(guard__fills_per_side_per_minute=most))
