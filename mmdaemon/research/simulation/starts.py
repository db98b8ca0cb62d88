"""Starts that go wrong: what a fault has in store for the next ones."""

from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from mmdaemon.core.types import NS
from mmdaemon.journal.connection import CrashPoint
from mmdaemon.research.simulation.edges import Disk
from mmdaemon.research.simulation.plan import Fault, Kind
from mmdaemon.venues.simulated.latency import Draws

if TYPE_CHECKING:
    from mmdaemon.research.simulation.world import World

RESTART_MAX_S: Final = 2.0
"""Whoever restarts it is quick while it ends at once."""
_STEPS_MAX: Final = 60
_LOOP_MAX_NS: Final = 5 * NS


class _Doom(msgspec.Struct, frozen=True):
    """What becomes of one start."""

    kind: Kind
    number: int
    seconds: float


class Starts:
    """One per seed."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._next: deque[_Doom] = deque()

    @property
    def are_doomed(self) -> bool:
        return bool(self._next)

    def doom(self, fault: Fault) -> None:
        """Three to five starts of a crash loop, else one or two."""
        kind = Kind(fault.kind)
        times = 3 + fault.number % 3 if kind is Kind.CRASH_LOOP else 1 + fault.number % 2
        draws = Draws(fault.number, f"{kind}/{fault.ordinal}")
        self._next.extend(_Doom(kind, draws.below(n, 1 << 32), fault.seconds) for n in range(times))

    def forget(self) -> None:
        """The faults are over."""
        self._next.clear()

    def begin(self, disk: Disk) -> None:
        """A daemon is about to start on this disk."""
        if not self._next:
            return
        world, doom = self._world, self._next.popleft()
        world.say(f"start in trouble: {doom.kind}")
        number = doom.number
        match doom.kind:
            case Kind.CRASH_LOOP:
                at_ns = world.clock.mono_ns() + NS // 20 + number % _LOOP_MAX_NS
                world.clock.call_at(at_ns, self._crash, world.watch.played.lives)
            case Kind.CRASH_IN_START if number & 1:
                world.crash_in(1 + number // 2 % _STEPS_MAX)
            case Kind.CRASH_IN_START:
                disk.crash_at = CrashPoint.BEFORE_COMMIT if number & 2 else CrashPoint.AFTER_COMMIT
            case _ if number & 1:
                disk.fail_for(round(doom.seconds * NS))
            case _:
                disk.slow(NS // 50 + number % (2 * NS))
                world.clock.call_at(world.clock.mono_ns() + round(doom.seconds * NS), disk.slow, 0)

    def _crash(self, life: int) -> None:
        """If it is that life still."""
        world = self._world
        if world.is_up and world.watch.played.lives == life and not world.happenings.closed:
            world.crash_in(1)
