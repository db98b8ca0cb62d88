"""The cost model's eyes: fee rates, funding rate and ledger. The rules are `core/cost.py` and `core/position.py`.

Nothing read is nothing known: until the fees have come the guard pauses, until a funding rate has come it blocks
increases. Each is read on a beat, and besides when what was read is known to be old: the fees once the core finds our
fills charged otherwise (`Charged.otherwise`), the rate once the settlement that it is of is over.
"""

import asyncio
from collections.abc import Callable

from mmdaemon.clock import Clock
from mmdaemon.core.cost import Charged
from mmdaemon.core.events import Event
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.venues.base import Cursor, Venue, VenueUnavailable

_FEES_EVERY_NS = 3600 * NS
_FEES_LOOKED_NS = NS
"""How often it is looked whether they were contradicted."""
_FUNDING_EVERY_NS = 300 * NS
_SETTLED_NS = 6 * NS
"""So long after a settlement the venue tells the rate of the next, and the core takes it (`carry_freeze_s`)."""
_RETRY_NS = 5 * NS
_OVERLAP_NS = 60 * NS


async def run(
    venue: Venue,
    clock: Clock,
    post: Callable[[Event], None],
    ledger_every_ns: int,
    opened_ns: int,
    since_ns: int,
    charged: Charged,
) -> None:
    """Three cadences in one task, until cancelled. The venue's times: what is older than `opened_ns` is in the
    account's opening equity, and the ledger is booked up to `since_ns`. `charged` is the core's, and only read."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_fees(venue, clock, post, charged), name="cost.fees")
        group.create_task(_funding(venue, clock, post), name="cost.funding")
        group.create_task(_ledger(venue, clock, post, ledger_every_ns, opened_ns, since_ns), name="cost.ledger")


async def _fees(venue: Venue, clock: Clock, post: Callable[[Event], None], charged: Charged) -> None:
    while True:
        known = charged.otherwise
        try:
            post(await venue.fees())
        except VenueUnavailable:
            await sleep_ns(clock, _RETRY_NS)
            continue
        until_ns = clock.mono_ns() + _FEES_EVERY_NS
        while clock.mono_ns() < until_ns and charged.otherwise == known:
            await sleep_ns(clock, _FEES_LOOKED_NS)


async def _funding(venue: Venue, clock: Clock, post: Callable[[Event], None]) -> None:
    while True:
        try:
            told = await venue.funding()
        except VenueUnavailable:
            await sleep_ns(clock, _RETRY_NS)
            continue
        post(told)
        # A rate of a settlement that is over already, from a replica that lags, is asked for again soon.
        over_ns = told.next_ts_ns + _SETTLED_NS - clock.wall_ns()
        await sleep_ns(clock, min(_FUNDING_EVERY_NS, max(_RETRY_NS, over_ns)))


async def _ledger(
    venue: Venue, clock: Clock, post: Callable[[Event], None], every_ns: int, opened_ns: int, since_ns: int
) -> None:
    """Funding and transfers as the venue booked them; the core knows each line by its id, so an overlap costs
    nothing."""
    while True:
        try:
            bills = await venue.bills(Cursor(max(opened_ns, since_ns - _OVERLAP_NS)))
        except VenueUnavailable:
            await sleep_ns(clock, _RETRY_NS)
            continue
        for bill in bills:
            post(bill)
            # From the last one on: the venue's own time, whatever our clock says.
            since_ns = max(since_ns, bill.venue_ts_ns or 0)
        await sleep_ns(clock, every_ns)
