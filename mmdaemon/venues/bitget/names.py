"""Whose a fill is. Fills carry the venue's order id, and ours only in some calls; a fill under the wrong name would be
taken for a manual trade, so the order is asked for."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from mmdaemon.core.types import NS
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.bitget.api import Meaning, Refused
from mmdaemon.venues.bitget.reading import BY_VENUE

_KEPT_MAX: Final = 20_000
_SHOWN_NS: Final = 600 * NS
"""By then every replica has the order."""


class OrderName(msgspec.Struct, frozen=True):
    client_id: str
    execution: str | None
    """The order's own word for why it was executed, where the API has one."""


class Names:
    """Orders by the venue's id, as they were read. An order keeps its name for good, so each is asked for once."""

    def __init__(self) -> None:
        self._known: dict[str, OrderName] = {}

    async def of(self, order_id: str, age_ns: int, read: Callable[[str], Awaitable[OrderName]]) -> OrderName:
        """`read` asks for the order by `venue:` and its id; `age_ns` is how long ago it filled. One that the venue does
        not know any more keeps the venue's name.

        Raises:
            VenueUnavailable: the venue does not know an order that filled just now: a replica that lags. Taken at its
                word, our own fill would be booked as a manual trade, and its order would never be freed.
            Refused, Unanswered, Unsent: the order could not be read.
        """
        known = self._known.get(order_id)
        if known is not None:
            return known
        try:
            name = await read(BY_VENUE + order_id)
        except Refused as refused:
            if refused.meaning is not Meaning.NOT_FOUND:
                raise
            if age_ns < _SHOWN_NS:
                raise VenueUnavailable("fills: the order of a new fill is not shown yet") from None
            return OrderName(BY_VENUE + order_id, None)
        if len(self._known) >= _KEPT_MAX:
            self._known.clear()
        self._known[order_id] = name
        return name
