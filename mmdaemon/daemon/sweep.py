"""From "something may rest" to "nothing can land any more", by what the venue says: what the kill switch does within
the daemon, and `mmdaemon kill --direct` from without.

It needs the venue and nothing else: no core, no journal. A read that fails proves nothing and is repeated without end.
"""

from collections.abc import AsyncIterator, Callable, Iterable

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Cancel
from mmdaemon.core.types import NS, KillState
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.venues.base import OrderReport, Venue, VenueUnavailable

READ_AGAIN_NS = NS // 20
BACK_OFF_MAX_NS = 2 * NS
LOOK_AGAIN_NS = NS
"""Longest between two reads while it waits for what may still land: such an order is to be gone within 2 s."""


class Progress(msgspec.Struct):
    """What is seen while it works; the evidence in the journal."""

    tripped_ns: int = 0
    quiet_ns: int = 0
    cancels: int = 0
    reads: int = 0
    failed_reads: int = 0
    late: int = 0
    """Orders that turned up after QUIET."""
    slices: int = 0
    orders_left: int = -1
    """-1: not read yet."""
    position_lots: int | None = None


async def sweep(
    venue: Venue, clock: Clock, in_flight_max_ns: int, known: Callable[[], Iterable[str]], progress: Progress
) -> AsyncIterator[KillState]:
    """Cancel all by symbol and by id until nothing has rested throughout the in-flight window.

    Yields QUIET (read empty twice), KILLING (something landed after it, and all begins anew), and VERIFIED, the last.
    `known` are the ids that may rest there, besides what is read.
    """
    back_off_ns = READ_AGAIN_NS
    empty_reads = 0
    empty_since_ns = 0
    is_quiet = False
    quiet_pace_ns = min(LOOK_AGAIN_NS, in_flight_max_ns // 5)
    rested: list[OrderReport] | None = []
    while True:
        if not empty_reads:
            await _cancel_everything(venue, known(), rested or [], progress)
            if rested:
                await sleep_ns(clock, READ_AGAIN_NS)
        rested = await read_open_orders(venue, progress)
        now = clock.mono_ns()
        if rested is None:
            # A failed read proves nothing, not even that what was empty still is.
            empty_reads = 0
            await sleep_ns(clock, back_off_ns)
            back_off_ns = min(2 * back_off_ns, BACK_OFF_MAX_NS)
            continue
        back_off_ns = READ_AGAIN_NS
        if rested:
            if is_quiet:
                is_quiet = False
                progress.late += len(rested)
                yield KillState.KILLING
            empty_reads = 0
            continue
        empty_reads += 1
        if empty_reads == 1:
            empty_since_ns = now
        elif not is_quiet:
            is_quiet = True
            progress.quiet_ns = now
            yield KillState.QUIET
        if now - empty_since_ns >= in_flight_max_ns and empty_reads > 1:
            yield KillState.VERIFIED
            return
        await sleep_ns(clock, READ_AGAIN_NS if empty_reads == 1 else quiet_pace_ns)


async def _cancel_everything(venue: Venue, known: Iterable[str], rested: list[OrderReport], progress: Progress) -> None:
    """By symbol, and each id that is known or UNKNOWN. A foreign order is cancelled too: the symbol is to be empty."""
    try:
        await venue.cancel_all()
    except VenueUnavailable:
        progress.failed_reads += 1
    for client_id in dict.fromkeys((*known, *(report.client_id for report in rested))):
        progress.cancels += 1
        await venue.send(Cancel(client_id, risk=True))


async def read_open_orders(venue: Venue, progress: Progress) -> list[OrderReport] | None:
    """None: the read failed, which says nothing of what rests."""
    progress.reads += 1
    try:
        rested = await venue.open_orders()
    except VenueUnavailable:
        progress.failed_reads += 1
        return None
    progress.orders_left = len(rested)
    return rested
