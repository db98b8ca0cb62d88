"""How a stop makes sure that nothing of ours is left at the venue."""

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Cancel
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.venues.base import Venue, VenueUnavailable

_READ_NS = NS // 5
"""Between two reads of open orders."""


async def confirm_nothing_rests(venue: Venue, state: State, params: Params, clock: Clock) -> bool:
    """Read open orders until none of ours is there twice, cancelling those that are, and until nothing of ours
    is on its way any more; bounded by the in-flight window, after which nothing can land. Orders of others stay."""
    until_ns = clock.mono_ns() + params.in_flight_max_ns
    own = f"mm{params.bot_tag}-"
    empty = 0
    while clock.mono_ns() < until_ns:
        try:
            reports = await venue.open_orders()
            ours = [report for report in reports if report.client_id.startswith(own)]
            if ours and len(ours) == len(reports):
                await venue.cancel_all()
            else:
                for report in ours:
                    await venue.send(Cancel(report.client_id, risk=True))
            empty = 0 if ours else empty + 1
        except VenueUnavailable:
            # What cannot be read may still hear a cancel.
            empty = 0
            for client_id in may_rest(state):
                await venue.send(Cancel(client_id, risk=True))
        if empty >= 2 and not _is_on_its_way(state):
            return True
        await sleep_ns(clock, _READ_NS)
    return empty >= 2


def may_rest(state: State) -> list[str]:
    """Ids of ours that may rest at the venue as far as anybody said, UNKNOWN ones among them."""
    return [order.client_id for order in state.orders.live.values() if not order.ended_ns]


def cancels_unanswered(state: State, params: Params, now_ns: int) -> list[str]:
    """Ids whose cancel should have been answered long ago: it may never have arrived, and while no read says so nobody
    else repeats it."""
    due_ns = now_ns - params.ack_check_ns
    return [o.client_id for o in state.orders.live.values() if not o.ended_ns and 0 < o.cancel_sent_ns < due_ns]


def _is_on_its_way(state: State) -> bool:
    """Whether an order was sent of which the venue has shown nothing yet: it may land after the last read."""
    return any(not order.acked_ns and not order.ended_ns for order in state.orders.live.values())
