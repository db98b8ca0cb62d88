"""What a world does by the clock: plans the faults of each minute, and every two seconds sees what no event says."""

from typing import TYPE_CHECKING, Final

from mmdaemon.core.types import NS, Side
from mmdaemon.research.simulation.plan import is_calm

if TYPE_CHECKING:
    from mmdaemon.research.simulation.world import World

MINUTE_NS: Final = 60 * NS
_SAMPLE_NS: Final = 2 * NS


class Beats:
    """One per seed."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._started_ns = world.clock.mono_ns()

    def begin(self) -> None:
        """From now on, until the seed is over."""
        self._minute(0)
        self._sample()

    def _minute(self, minute: int) -> None:
        world = self._world
        if world.happenings.closed:
            return
        calm = is_calm(minute)
        if world.faults.calm is not calm:
            world.faults.calm = calm
            world.happenings.fault_ended()
        for fault in world.plan.minute(minute):
            at = self._started_ns + round(fault.at_s * NS)
            world.clock.call_at(at, world.happenings.begin, fault)
        world.clock.call_at(self._started_ns + (minute + 1) * MINUTE_NS, self._minute, minute + 1)

    def _sample(self) -> None:
        world = self._world
        seen = world.watch.seen
        runs = world.is_up and not world.machine.is_held
        ours = [order for order in world.venue.exchange.matching.live if seen.is_own(order.client_id)]
        if runs and len({order.side for order in ours}) == len(Side):
            world.watch.played.two_sided_s += _SAMPLE_NS / NS
        if what := world.second.look():
            world.watch.violate(0, "two_daemons", what)
        state = world.daemon.state if world.daemon is not None and runs else None
        quiet_ns = world.happenings.ended_ns
        if state is None or not quiet_ns or not (state.venue.private_up and state.venue.public_up):
            seen.links_up_since_ns = 0
        elif not seen.links_up_since_ns:
            seen.links_up_since_ns = world.watch.venue_ns
        seen.faults_ended_ns = quiet_ns
        world.watch.look_if_settled()
        world.clock.call_at(world.clock.mono_ns() + _SAMPLE_NS, self._sample)
