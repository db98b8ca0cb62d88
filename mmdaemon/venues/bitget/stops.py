"""The stop that the venue keeps for the whole position: as asked, or `VenueUnavailable`; asked twice, the same."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.bitget.api import Meaning, Refused

_LOOKS: Final = 5
_LOOK_S: Final = 0.1
"""What was acknowledged may show a moment later in what is pending."""


class Pending(msgspec.Struct, frozen=True):
    """A whole-position stop at the venue."""

    order_id: str
    is_right: bool
    """Trigger, side and kind are those asked for."""


async def keep(
    *,
    is_wanted: bool,
    pending: Callable[[], Awaitable[Sequence[Pending]]],
    place: Callable[[], Awaitable[None]],
    move: Callable[[str], Awaitable[None]],
    cancel: Callable[[str], Awaitable[None]],
) -> None:
    """What is pending is read first, so that nothing is placed twice; a stop that stands elsewhere is moved, so that
    there is always one, and the old one stays should the new price be refused; and it is done once a reading shows it.

    Raises:
        VenueUnavailable: it never showed as asked.
        Refused, Unanswered, Unsent: of the requests, as they are.
    """
    is_sent = False
    for look in range(_LOOKS):
        if look > 1:
            await asyncio.sleep(_LOOK_S)
        there = await pending()
        right = [each for each in there if each.is_right][: int(is_wanted)]
        extra = [each for each in there if each not in right]
        if bool(right) == is_wanted:
            if not extra:
                return
            for each in extra:
                await _unless_gone(cancel, each.order_id)
        elif not is_sent:
            if extra:
                is_sent = await _unless_gone(move, extra[0].order_id)
            else:
                await place()
                is_sent = True
    raise VenueUnavailable("protect: the stop at the venue is not as asked")


async def _unless_gone(do: Callable[[str], Awaitable[None]], order_id: str) -> bool:
    try:
        await do(order_id)
    except Refused as refused:
        if refused.meaning not in (Meaning.NOT_FOUND, Meaning.NOTHING_TO_CANCEL):
            raise
        return False
    return True
