"""The stop that the venue keeps for the whole position, as both APIs see it: an order with an id, a client id, a time.

The account keeps the trigger and fires it; what it was called is remembered here, and forgotten with it.
"""

from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import msgspec

from mmdaemon.core.types import Side
from mmdaemon.venues.emulator.errors import Told
from mmdaemon.venues.emulator.rows import No, Why

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account


class Stop(msgspec.Struct, frozen=True):
    order_id: str
    client_id: str
    trigger_px_ticks: int
    side: Side
    """Of the order that it becomes."""
    created_ms: int
    updated_ms: int


_NAMED: Final[WeakKeyDictionary["Account", Stop]] = WeakKeyDictionary()


def place(account: "Account", trigger_px_ticks: int, side: Side | None, client_id: str) -> Stop:
    """Keep a stop for the position that there is, in place of any other.

    Raises:
        No: there is no position, the side is not the one that closes it, or the trigger lies on the wrong side of mark.
    """
    position = account.position()
    if position is None:
        raise No(Why.REDUCE_ONLY)
    closing = Side.SELL if position.lots > 0 else Side.BUY
    if side is not None and side is not closing:
        raise No(Why.REDUCE_ONLY)
    if (trigger_px_ticks - account.mark_px_ticks()) * closing <= 0:
        words = ("40917", "long", "<") if closing is Side.SELL else ("40918", "short", ">")  # the second is a guess
        code, of, than = words
        raise Told(Why.PARAMETER, code, f"Stop price for {of} positions please {than} mark price")
    now_ms = account.now_ms()
    order_id = account.protect(trigger_px_ticks)
    stop = Stop(order_id, client_id or order_id, trigger_px_ticks, closing, now_ms, now_ms)
    _NAMED[account] = stop
    return stop


def pending(account: "Account") -> Stop | None:
    trigger_px_ticks, stop = account.stop_px_ticks(), _NAMED.get(account)
    if trigger_px_ticks is None or stop is None or stop.trigger_px_ticks != trigger_px_ticks:
        return None
    return stop


def by_key(account: "Account", key: str) -> Stop:
    """Raises No(NOT_FOUND)."""
    stop = pending(account)
    if stop is None or key not in (stop.order_id, stop.client_id):
        raise No(Why.NOT_FOUND)
    return stop


def modify(account: "Account", key: str, trigger_px_ticks: int) -> Stop:
    """Another trigger; the id stays. Raises No."""
    old = by_key(account, key)
    place(account, trigger_px_ticks, None, old.client_id)
    stop = msgspec.structs.replace(old, trigger_px_ticks=trigger_px_ticks, updated_ms=account.now_ms())
    _NAMED[account] = stop
    return stop


def cancel(account: "Account", key: str) -> Stop:
    """Raises No(NOT_FOUND)."""
    stop = by_key(account, key)
    account.protect(None)
    return stop
