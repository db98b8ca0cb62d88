"""One picture of the account from several answers: the wallet is read before and after the position, until it did not
move in between. A fill moves it by its fee, funding and transfers move it too."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from mmdaemon.core.events import AccountSnapshot
from mmdaemon.core.figures import is_money
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.bitget.reading import Position
from mmdaemon.venues.codec import Scale

_TRIES: Final = 5
ROUNDED_E10: Final = 200
"""Equity and unrealised profit come rounded to 1e-8, each by itself; their difference moves by that with the mark."""


class Wallet(msgspec.Struct, frozen=True):
    wallet_e10: int
    """Everything realised in it, nothing unrealised."""
    available_e10: int
    """Margin that is free."""


class Held(msgspec.Struct, frozen=True):
    positions: tuple[Position, ...]
    """None, one, or (in hedge mode, which the facts tell) one of each side."""
    mark_px_ticks: int
    venue_ts_ns: int


async def picture(
    scale: Scale, wallet: Callable[[], Awaitable[Wallet]], held: Callable[[], Awaitable[Held]]
) -> AccountSnapshot:
    """Raises VenueUnavailable: a part of it did, or the account does not keep still."""
    before = await wallet()
    for _ in range(_TRIES):
        holds = await held()
        after = await wallet()
        if abs(after.wallet_e10 - before.wallet_e10) <= ROUNDED_E10:
            return _checked(_snapshot(scale, after, holds))
        before = after
    raise VenueUnavailable(f"snapshot: the wallet moved during each of {_TRIES} reads of the position")


def _snapshot(scale: Scale, wallet: Wallet, holds: Held) -> AccountSnapshot:
    return AccountSnapshot(
        mono_ns=0,
        ts_ns=0,
        venue_ts_ns=holds.venue_ts_ns,
        position_lots=sum(each.lots for each in holds.positions),
        wallet_e10=wallet.wallet_e10,
        unrealised_e10=sum(each.unrealised_e10(scale, holds.mark_px_ticks) for each in holds.positions),
        available_margin_e10=wallet.available_e10,
        mark_px_ticks=holds.mark_px_ticks,
    )


def _checked(made: AccountSnapshot) -> AccountSnapshot:
    """Each of several figures may be money, and what is made of them not."""
    if not all(map(is_money, (made.wallet_e10, made.unrealised_e10, made.equity_e10, made.available_margin_e10))):
        raise VenueUnavailable("snapshot: an absurd amount")
    return made
