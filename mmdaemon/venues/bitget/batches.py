"""Batches of both APIs: how large they may be, and how the rows of an answer are taken.

Each order of a batch has a fate of its own: taken, refused, or unknown. ccxt drops the refused rows of one API and
returns those of the other without an id, so they are read here.
"""

from collections.abc import Iterable, Sequence

from mmdaemon.core.commands import Place
from mmdaemon.venues.bitget.api import BATCH_MAX, Refused
from mmdaemon.venues.bitget.codes import meaning


def checked(commands: Sequence[Place]) -> None:
    """Raises ValueError: a batch of none, or of more than both APIs take."""
    if not 0 < len(commands) <= BATCH_MAX:
        raise ValueError(f"a batch is of 1 to {BATCH_MAX} orders, not {len(commands)}")


def refused(code: str | int | None, path: str) -> Refused:
    """One row's refusal. Without a code it proves nothing."""
    said = "" if code is None else str(code)
    return Refused(meaning(said, path), said)


def fates(client_ids: Sequence[str], rows: Iterable[tuple[str | None, Refused | None]]) -> dict[str, Refused | None]:
    """By client id, for those of `client_ids` that exactly one row names; what is named twice is of unknown fate."""
    named: dict[str, Refused | None] = {}
    twice: set[str] = set()
    for client_id, fate in rows:
        if client_id is None:
            continue
        if client_id in named:
            twice.add(client_id)
        named[client_id] = fate
    return {client_id: named[client_id] for client_id in client_ids if client_id in named and client_id not in twice}
