"""What the venue process says to each question, and to a command that came too late."""

from collections.abc import Awaitable

from mmdaemon.core.commands import Command
from mmdaemon.venues.base import Absent, Cursor, PositionStop
from mmdaemon.venues.messages import Ask, Malformed, VenueEvent, What
from mmdaemon.venues.simulated.records import refused
from mmdaemon.venues.simulated.venue import SimulatedVenue


def answer_to(venue: SimulatedVenue, ask: Ask) -> Awaitable[object]:
    """Put a question to the venue; to be awaited for what `messages` says comes back.

    Raises Malformed: the argument is none that this question takes.
    """
    match ask.what, ask.argument:
        case What.CANCEL_ALL, None:
            return _done(venue.cancel_all())
        case What.PROTECT, int(trigger):
            return _done(venue.protect(PositionStop(trigger)))
        case What.PROTECT, None:
            return _done(venue.protect(None))
        case What.DEAD_MAN, int(seconds):
            return venue.dead_man(seconds)
        case What.ORDER, str(client_id):
            return _known(venue.order(client_id))
        case What.OPEN_ORDERS, None:
            return venue.open_orders()
        case What.FILLS, int(since):
            return venue.fills(Cursor(since))
        case What.BILLS, int(since):
            return venue.bills(Cursor(since))
        case What.SNAPSHOT, None:
            return venue.snapshot()
        case What.FACTS, None:
            return venue.facts()
        case What.FEES, None:
            return venue.fees()
        case What.CANDLES, int(n):
            return venue.candles(n)
        case What.FUNDING, None:
            return venue.funding()
        case What.MARK, None:
            return venue.mark()
        case _:
            raise Malformed(f"{ask.what} does not take {ask.argument!r:.80}")


async def _done(asked: Awaitable[None]) -> bool:
    await asked
    return True


async def _known(asked: Awaitable[object]) -> object | None:
    found = await asked
    return None if isinstance(found, Absent) else found


def expired(command: Command, now_ts_ns: int) -> VenueEvent:
    """The refusal of a request that came too late. Nothing of it was done."""
    return refused(now_ts_ns, command, "expired")
