"""Placing an order, as both APIs take it."""

from typing import TYPE_CHECKING, Final

from mmdaemon.core.types import Side
from mmdaemon.venues.emulator.errors import Told
from mmdaemon.venues.emulator.fields import Params, optional, px_ticks, qty_lots, word
from mmdaemon.venues.emulator.figures import MARKET_RATIO
from mmdaemon.venues.emulator.rows import OrderRow, Why

if TYPE_CHECKING:
    from mmdaemon.venues.emulator.account import Account

SIDES: Final = frozenset({"buy", "sell"})
YES_NO: Final = frozenset({"yes", "no"})
TYPES: Final = frozenset({"limit", "market"})
FORCES: Final = frozenset({"gtc", "ioc", "post_only"})
_ID_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/_-")


def new_client_id(params: Params, name: str, longest: int) -> str:
    value = optional(params, name)
    if len(value) > longest or not _ID_CHARACTERS.issuperset(value):
        raise Told(Why.PARAMETER, "40305", f"client_oid length is not greater than {longest}, and is not illegal")
    return value


def place(account: "Account", params: Params, size: str, time_in_force: str, longest_id: int) -> OrderRow:
    """Both APIs take the same order; they name its size and time in force differently, and differ in the longest id.

    A market order is one to take at once, as far as the contract's price limit from the touch.
    """
    side = Side.BUY if word(params, "side", SIDES) == "buy" else Side.SELL
    lots = qty_lots(account, params, size)
    at_market = word(params, "orderType", TYPES) == "market"
    how = "ioc" if at_market else word(params, time_in_force, FORCES, "gtc")
    return account.place(
        client_id=new_client_id(params, "clientOid", longest_id),
        side=side,
        px_ticks=_far_px_ticks(account, side) if at_market else px_ticks(account, params, "price"),
        qty_lots=lots,
        post_only=how == "post_only",
        reduce_only=word(params, "reduceOnly", YES_NO, "no") == "yes",
        ioc=how == "ioc",
    )


def _far_px_ticks(account: "Account", side: Side) -> int:
    """Short of the account's own orders, which a market order would not meet."""
    ticker = account.ticker()
    touch = ticker.ask_px_ticks if side is Side.BUY else ticker.bid_px_ticks
    own = [row.px_ticks - side for row in account.open_orders() if row.side is not side]
    far = int(touch * (1 + side * MARKET_RATIO))
    return min([far, *own]) if side is Side.BUY else max([far, *own])
