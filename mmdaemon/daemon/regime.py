"""The regime detector's eyes: one-minute bars from the venue, a warm-up at the start and each closed bar after it.

The rule itself is `core/regime.py`. While the venue gives no bars the core folds its own from mids (`core/bars.py`);
what the venue could not be asked for meanwhile is asked for when it answers again, and takes its place. A venue that
streams bars delivers them itself as `BarClosed`, and what is read here again is ignored.
"""

from collections.abc import Callable

from mmdaemon.clock import Clock
from mmdaemon.core.bars import BARS_KEPT, MINUTE_NS
from mmdaemon.core.events import Event
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_until
from mmdaemon.venues.base import Venue, VenueUnavailable

_AFTER_CLOSE_NS = 2 * NS
"""Venues publish a bar a moment after it closed."""
_RETRY_NS = 5 * NS
_LEAST = 3
"""A bar that was published late is among the next that are asked for."""


async def run(venue: Venue, clock: Clock, post: Callable[[Event], None]) -> None:
    """Post `BarClosed` in order, until cancelled. The core ignores those it has."""
    newest_ts_ns: int | None = None
    while True:
        try:
            bars = await venue.candles(_wanted(newest_ts_ns, clock.wall_ns()))
        except VenueUnavailable:
            await sleep_until(clock, clock.mono_ns() + _RETRY_NS)
            continue
        for bar in bars:
            post(bar)
            newest_ts_ns = bar.open_ts_ns
        wall_ns = clock.wall_ns()
        next_ns = (wall_ns // MINUTE_NS + 1) * MINUTE_NS + _AFTER_CLOSE_NS
        await sleep_until(clock, clock.mono_ns() + next_ns - wall_ns)


def _wanted(newest_ts_ns: int | None, wall_ns: int) -> int:
    """How many bars to ask for: all that are kept at the start, then those since the newest that came."""
    if newest_ts_ns is None:
        return BARS_KEPT
    return min(BARS_KEPT, max(_LEAST, (wall_ns - newest_ts_ns) // MINUTE_NS + 1))
