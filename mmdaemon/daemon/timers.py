"""Cadences as events: the core has no clock, so somebody must tell it that time passes."""

from collections.abc import Callable

from mmdaemon.clock import Clock
from mmdaemon.core.events import Event, TimerFired
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import Pace

SAMPLE_NS = NS
"""Everything that depends on time is sampled once a second."""


async def run(clock: Clock, post: Callable[[Event], None]) -> None:
    """Post `TimerFired` once a second, until cancelled. A beat that was missed is not made up for."""
    pace = Pace(clock, SAMPLE_NS)
    while True:
        await pace.next()
        post(TimerFired(clock.mono_ns(), clock.wall_ns(), None, "sample"))
