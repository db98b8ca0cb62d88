"""A cancel is lost while the venue answers no read: the order must not rest until reads come back."""

from pathlib import Path

from mmdaemon.core.commands import Cancel
from mmdaemon.core.types import GuardState
from mmdaemon.venues.simulated.faults import FaultKind
from tests.daemon.build import World, run_world


def test_a_lost_cancel_is_repeated_while_nothing_can_be_read(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.failing |= {"order", "open_orders", "fills", "bills", "snapshot"}
        world.venue.fates = [(Cancel, FaultKind.REQUEST_LOST, 0.0)] * len(world.venue.resting())
        await world.parts.operator.pause("test", "test")
        assert world.guard is GuardState.SOFT_PAUSE
        await world.sleep(30.0)
        assert world.venue.resting() == [], (len(world.venue.resting()), world.picture())

    run_world(script, path)
