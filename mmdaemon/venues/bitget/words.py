"""Bitget's words, and what they mean here. Both APIs use the same ones, on the streams and in answers."""

import re
from collections.abc import Mapping
from typing import Final

from mmdaemon.core.types import ExecKind, Liquidity, OrderStatus, Side
from mmdaemon.venues.codec import Malformed

SIDES: Final[Mapping[str, Side]] = {"buy": Side.BUY, "sell": Side.SELL}
LIQUIDITIES: Final[Mapping[str, Liquidity]] = {"maker": Liquidity.MAKER, "taker": Liquidity.TAKER}
STATUSES: Final[Mapping[str, OrderStatus]] = {
    "init": OrderStatus.LIVE,
    "new": OrderStatus.LIVE,
    "live": OrderStatus.LIVE,
    "partially_filled": OrderStatus.PARTIAL,
    "filled": OrderStatus.FILLED,
    "cancelled": OrderStatus.CANCELLED,
    "canceled": OrderStatus.CANCELLED,
}
EXEC_KINDS: Final[Mapping[str, ExecKind]] = {
    **dict.fromkeys(("open", "close", "buy_single", "sell_single"), ExecKind.TRADE),
    **dict.fromkeys(("reduce_close_long", "reduce_close_short"), ExecKind.LIQUIDATION),
    **dict.fromkeys(("burst_close_long", "burst_close_short"), ExecKind.LIQUIDATION),
    **dict.fromkeys(("reduce_buy_single", "reduce_sell_single"), ExecKind.LIQUIDATION),
    **dict.fromkeys(("burst_buy_single", "burst_sell_single"), ExecKind.LIQUIDATION),
    **dict.fromkeys(("dte_sys_adl_close_long", "dte_sys_adl_close_short"), ExecKind.ADL),
    **dict.fromkeys(("dte_sys_adl_buy_in_single_side_mode", "dte_sys_adl_sell_in_single_side_mode"), ExecKind.ADL),
}
"""By `tradeSide`, in the venue's enumeration. Not in it, and so refused: netting (offset_...) and delivery."""
_EXEC_TYPES: Final[Mapping[str, ExecKind]] = {"normal": ExecKind.TRADE, "liquidation": ExecKind.LIQUIDATION}
_REASONS: Final[Mapping[str, str]] = {"": "", "normal_cancel": "cancelled", "stp_cancel": "self_trade"}
ID: Final = re.compile(r"[A-Za-z0-9_.:#/-]{1,64}", re.ASCII)


def known_as(client_id: str | None, order_id: str) -> str:
    """By which id an order is known here. Raises Malformed."""
    if client_id and ID.fullmatch(client_id):
        return client_id
    if ID.fullmatch(order_id) is None:
        raise Malformed("bad_id")
    return f"venue:{order_id}"


def exec_kind(trade_side: str | None, exec_type: str | None = None) -> ExecKind:
    """Why a fill happened. Raises Malformed where the words are not known: it is never taken for a trade."""
    kind = EXEC_KINDS.get(trade_side or "")
    forced = _EXEC_TYPES.get(exec_type or "normal")
    if kind is None or forced is None:
        raise Malformed("unknown_kind")
    return kind if forced is ExecKind.TRADE else forced


def cancel_reason(text: str | None) -> str:
    """In our words. The venue's word for a post-only order that would have taken is not documented."""
    text = (text or "").lower()
    return _REASONS.get(text, "post_only" if "post" in text else "cancelled")
