"""The regime detector's eyes: one-minute bars from the venue, a warm-up at the start and each closed bar after it.

The rule itself is `core/regime.py`. While the venue gives no bars the core folds its own from mids (`core/bars.py`).
"""

from collections.abc import Callable

from mmdaemon.clock import Clock
from mmdaemon.core.bars import BARS_KEPT
from mmdaemon.core.events import Event
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_until
from mmdaemon.venues.base import Venue, VenueUnavailable

_MINUTE_NS = 60 * NS
_AFTER_CLOSE_NS = 2 * NS
"""Venues publish a bar a moment after it closed."""
_RETRY_NS = 5 * NS


async def run(venue: Venue, clock: Clock, post: Callable[[Event], None]) -> None:
    """Post `BarClosed` in order, until cancelled. The core ignores those it has."""
    wanted = BARS_KEPT
    while True:
        try:
            bars = await venue.candles(wanted)
        except VenueUnavailable:
            await sleep_until(clock, clock.mono_ns() + _RETRY_NS)
            continue
        for bar in bars:
            post(bar)
        wanted = 3
        wall_ns = clock.wall_ns()
        next_ns = (wall_ns // _MINUTE_NS + 1) * _MINUTE_NS + _AFTER_CLOSE_NS
        await sleep_until(clock, clock.mono_ns() + next_ns - wall_ns)
