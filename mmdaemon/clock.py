"""Clocks: the machine's, and a virtual one that runs the daemon's own wiring at the speed of the processor, and the
same way every time. See `mmdaemon.virtual_loop` for what virtual time is.
"""

# pyright: reportPrivateUsage=false

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

import uvloop

from mmdaemon.core.types import NS
from mmdaemon.virtual_loop import OnStep, VirtualLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Timer(Protocol):
    """A callback to come."""

    def cancel(self) -> None: ...
    def cancelled(self) -> bool: ...


class Clock(Protocol):
    """What tells the time: `mono_ns` for ages, `wall_ns` (UTC) for days and comparison with the venue."""

    def mono_ns(self) -> int: ...
    def wall_ns(self) -> int: ...
    def call_at(self, mono_ns: int, callback: Callable[[*Ts], object], *args: *Ts) -> Timer:
        """Run a plain callback on the loop at `mono_ns` or later, never earlier and never within this call."""
        ...


_MONO_ID: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def since_boot_ns() -> int:
    """Monotonic, and it goes on while the machine sleeps: what was young before is old after. CLOCK_MONOTONIC does not
    on Linux, and a private stream that was lost for an hour would be lost for a moment."""
    return time.clock_gettime_ns(_MONO_ID)


class RealClock:
    """The machine's clocks, with asyncio's loop or uvloop."""

    mono_ns = staticmethod(since_boot_ns)
    wall_ns = staticmethod(time.time_ns)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call_at(self, mono_ns: int, callback: Callable[[*Ts], object], *args: *Ts) -> Timer:
        return _RealTimer(self._loop, mono_ns, lambda: callback(*args))


class _RealTimer:
    """Loops count on clocks coarser than ours and may wake us early; then we wait again, and end a millisecond late.
    Theirs stand while the machine sleeps, so each comes later by that."""

    __slots__ = ("_callback", "_due_ns", "_handle", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, due_ns: int, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._due_ns = due_ns
        self._callback = callback
        self._handle = loop.call_later(max(0, due_ns - since_boot_ns()) / NS, self._wake)

    def _wake(self) -> None:
        left_ns = self._due_ns - since_boot_ns()
        if left_ns > 0:  # a millisecond at least: uvloop would round less down to nothing, and the loop spin
            self._handle = self._loop.call_later(max(left_ns / NS, 0.001), self._wake)
        else:
            self._callback()

    def cancel(self) -> None:
        self._handle.cancel()

    def cancelled(self) -> bool:
        return self._handle.cancelled()


class VirtualClock:
    """The clock of a virtual loop. Setting `wall_offset_ns` (UTC less monotonic) is a step of the wall clock."""

    def __init__(self, loop: VirtualLoop, wall_offset_ns: int) -> None:
        self.mono_ns = loop.time_ns
        self.wall_offset_ns = wall_offset_ns
        self.call_at = loop.call_at_ns

    def wall_ns(self) -> int:
        return self.mono_ns() + self.wall_offset_ns


def run_virtual(
    main: Callable[[VirtualClock], Coroutine[Any, Any, T]],
    *,
    start_wall_ns: int,
    start_mono_ns: int = NS,
    on_step: OnStep | None = None,
) -> T:
    """Run `main(clock)` in virtual time to its end, then cancel the tasks it left, no longer watched by `on_step`.

    Raises what `main` or `on_step` raises, and `Stuck` when time cannot go on.
    """
    loop = VirtualLoop(start_mono_ns, on_step)
    loop._check_can_run()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # which also turns an interrupt into a cancelled `main`
        try:
            return runner.run(main(VirtualClock(loop, start_wall_ns - start_mono_ns)))
        finally:
            loop.on_step = None
            loop.run_until_complete(loop.shutdown_tasks())


def run_real(main: Callable[[RealClock], Coroutine[Any, Any, T]]) -> T:
    """Run `main(clock)` in real time on uvloop, else as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main(RealClock(runner.get_loop())))
