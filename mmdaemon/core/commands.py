"""Everything that can go out. A command is an intent: what became of it comes back as an event, always."""

import msgspec

from mmdaemon.core.types import Purpose, Side


class Place(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Put a limit order in the book. `ioc` takes what is there within the limit and cancels the rest."""

    client_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    purpose: Purpose
    level: int
    """Rung of the ladder, 0 nearest to fair value; 0 for anything but a quote."""
    post_only: bool
    reduce_only: bool
    ioc: bool = False


class Amend(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Change price or total size of a live order. A smaller size at the same price keeps its place in the queue."""

    client_id: str
    revision: int
    px_ticks: int
    qty_lots: int
    """New total size, what is already filled included."""


class Cancel(msgspec.Struct, frozen=True, tag=True, gc=False):
    """Take an order out. `risk` cancels never count towards the cancel budget and are never held back."""

    client_id: str
    risk: bool


Command = Place | Amend | Cancel
