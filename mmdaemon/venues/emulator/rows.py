"""What the emulated account has to show, in words that belong to neither API: `classic.py` and `unified.py` write these
as their own rows, `account.py` makes them. Times are the venue's, in milliseconds of UTC."""

from enum import StrEnum

import msgspec

from mmdaemon.core.types import ExecKind, Liquidity, OrderStatus, Side


class Why(StrEnum):
    """Why the venue says no. Each API has a code and a text for it."""

    NOT_FOUND = "not_found"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    DUPLICATE = "duplicate"
    MARGIN = "margin"
    TOO_SMALL = "too_small"
    NOTIONAL = "notional"
    PRICE_SCALE = "price_scale"
    SIZE_SCALE = "size_scale"
    PARAMETER = "parameter"
    SYMBOL = "symbol"
    REDUCE_ONLY = "reduce_only"
    POSITION_MODE = "position_mode"
    AMEND_NOTHING = "amend_nothing"
    RATE_LIMIT = "rate_limit"
    SIGNATURE = "signature"
    KEY = "key"
    PASSPHRASE = "passphrase"  # noqa: S105 - a word, not one
    ADDRESS = "address"
    """The key is bound to another IP."""
    PERMISSION = "permission"
    CLOCK = "clock"
    """The request's timestamp lies outside the window."""
    ENVIRONMENT = "environment"
    """A live key with the demo header, or a demo key without."""
    CLASSIC_ONLY = "classic_only"
    """A unified call with a classic account's key."""
    UNIFIED_ONLY = "unified_only"
    MAINTENANCE = "maintenance"
    SERVICE = "service"
    """"Service error": it may have happened."""
    SYSTEM = "system"
    NOT_GRANTED = "not_granted"
    """The dead-man countdown wants an approval."""


class No(Exception):
    """The venue refuses a request."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


class OrderRow(msgspec.Struct, frozen=True, kw_only=True):
    order_id: str
    """The venue's: digits."""
    client_id: str
    """Ours; empty where none was given."""
    side: Side
    px_ticks: int
    qty_lots: int
    filled_lots: int
    average_px: str
    """Decimal text; empty while nothing filled."""
    fee_e10: int
    """Charged so far; negative is a rebate."""
    status: OrderStatus
    reason: str
    """Why it ended, in the matching engine's words: "post_only", "cancelled", "reduce_only", "liquidation", ..."""
    post_only: bool
    reduce_only: bool
    ioc: bool
    created_ms: int
    updated_ms: int


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    trade_id: str
    order_id: str
    client_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    fee_e10: int
    liquidity: Liquidity
    kind: ExecKind
    pnl_e10: int
    at_ms: int


class BillRow(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the ledger. `kind`: "funding", "transfer_in", "transfer_out", "fee" (one that no fill carries) and, as
    the real ledger has them too, "trade" (fee and PnL of a fill, which must never be booked from here)."""

    bill_id: str
    kind: str
    amount_e10: int
    fee_e10: int
    balance_e10: int
    at_ms: int


class PositionRow(msgspec.Struct, frozen=True, kw_only=True):
    lots: int
    """Signed; of a flat one there is a row in pushes alone, of what has just ended."""
    average_px: str
    unrealised_e10: int
    margin_e10: int
    mark_px_ticks: int
    liquidation_px: str
    updated_ms: int


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    wallet_e10: int
    unrealised_e10: int
    available_e10: int
    """Margin that is free."""
    margin_e10: int
    """Margin in use by position and orders."""
    updated_ms: int


class FactsRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may have changed."""

    position_mode: str
    """"one_way" or "hedge"."""
    margin_mode: str
    """"crossed" or "isolated"."""
    leverage: int
    can_trade: bool
    can_withdraw: bool
    addresses: str = "127.0.0.1"
    """That the key is bound to, with commas; empty: to none."""
    maker_rate: str
    taker_rate: str
