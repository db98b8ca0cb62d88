"""A steady beat that does not drift, in real and virtual time alike."""

import asyncio

from mmdaemon.clock import Clock


async def sleep_until(clock: Clock, mono_ns: int) -> None:
    """Until that moment, never less: `asyncio.sleep` counts in floats, `Clock.call_at` in nanoseconds."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    timer = clock.call_at(mono_ns, wake)
    try:
        await done
    except asyncio.CancelledError:
        timer.cancel()
        raise


async def sleep_ns(clock: Clock, duration_ns: int) -> None:
    await sleep_until(clock, clock.mono_ns() + duration_ns)


class Pace:
    """Beats every `every_ns` from now on. Beats that were missed are skipped."""

    def __init__(self, clock: Clock, every_ns: int) -> None:
        self._clock = clock
        self._every_ns = every_ns
        self._next_ns = clock.mono_ns() + every_ns

    async def next(self) -> None:
        await sleep_until(self._clock, self._next_ns)
        behind_ns = self._clock.mono_ns() - self._next_ns
        self._next_ns += self._every_ns * (1 + behind_ns // self._every_ns)
