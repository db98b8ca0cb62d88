"""The machine that a daemon runs on, and its two ways of not running while the venue goes on.

All of a seed is on one loop. Whose a timer is, is told by its callback: a method of the simulated venue or of the world
around the daemon belongs to them, and whatever else there is wakes the daemon or the person who attends it. A daemon
that is not to run has its timers moved, and `edges.Line` keeps what the venue tells it; nothing else can wake it, since
a fault begins in a callback of its own, with nothing ready behind it.
"""

# It moves the timers of a loop, and asks a handle for its callback.
# pyright: reportPrivateUsage=false

from collections.abc import Callable
from heapq import heapify
from inspect import ismethod
from typing import Any, Final, Protocol

from mmdaemon.clock import VirtualClock
from mmdaemon.core.types import NEVER_NS
from mmdaemon.virtual_loop import VirtualLoop

_OF_THE_VENUE: Final = "mmdaemon.venues.simulated"
_OF_THE_WORLD: Final = "mmdaemon.research.simulation"


class Receiver(Protocol):
    def release(self) -> None:
        """What came while the machine was held is received now."""
        ...


class Machine:
    """One per seed."""

    def __init__(self, clock: VirtualClock, loop: VirtualLoop) -> None:
        self.clock, self._loop = clock, loop
        self.held_until_ns = 0
        self.lines: list[Receiver] = []
        """Of the daemons on it."""

    def stall(self, duration_ns: int) -> None:
        """Nothing goes on for so long, at the venue neither: what was due meanwhile comes late, in its order."""
        self._loop._now_ns += duration_ns

    @property
    def is_held(self) -> bool:
        """Something keeps the daemon from running."""
        return self._loop._now_ns < self.held_until_ns

    def hold(self, duration_ns: int) -> None:
        """The daemon does not run for so long: what is due meanwhile comes at the end, in its order."""
        ends_ns = self._loop._now_ns + duration_ns
        self._hold_until(ends_ns)
        self._move(lambda due_ns: max(due_ns, ends_ns))

    def sleep(self, duration_ns: int) -> None:
        """The machine sleeps. Its clocks go on, as `mmdaemon.clock` has them; the timers of its loop do not, so each
        comes later by so much."""
        self._hold_until(self._loop._now_ns + duration_ns)
        self._move(lambda due_ns: due_ns + duration_ns)

    def _hold_until(self, ends_ns: int) -> None:
        self.held_until_ns = ends_ns
        for line in self.lines:
            self.clock.call_at(ends_ns, line.release)

    def _move(self, moved: Callable[[int], int]) -> None:
        loop = self._loop
        timers: list[tuple[int, int, Any]] = []
        for due_ns, number, handle in sorted(loop._timers, key=lambda timer: timer[:2]):
            if handle._cancelled:
                timers.append((due_ns, number, handle))  # the loop counts them
            elif due_ns < NEVER_NS and _is_of_the_daemon(handle._callback):
                timers.append((moved(due_ns), loop._next_timer(), handle))
            else:
                timers.append((due_ns, number, handle))
        heapify(timers)
        loop._timers[:] = timers


def _is_of_the_daemon(callback: object) -> bool:
    if ismethod(callback):
        module = type(callback.__self__).__module__
        return not module.startswith((_OF_THE_VENUE, _OF_THE_WORLD))
    return not str(getattr(callback, "__module__", "")).startswith(_OF_THE_WORLD)
