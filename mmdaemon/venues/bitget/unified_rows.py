"""Rows of the unified API's answers, with the fields that are read. One that is missing or of another type refuses the
answer; an empty list comes as `[]` or `null`."""

from typing import Final

import msgspec
from msgspec.json import Decoder

from mmdaemon.venues.bitget.reading import Text


class Order(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    order_id: str
    order_type: str
    side: str
    qty: Text
    cum_exec_qty: Text
    order_status: str
    reduce_only: str
    price: Text | None = None
    client_oid: str | None = None
    exec_type: str | None = None
    """Why it was executed; of a single order only."""


class Orders(msgspec.Struct, frozen=True):
    list: list[Order] | None
    cursor: str | None = None


class Fee(msgspec.Struct, rename="camel", frozen=True):
    fee_coin: str
    fee: Text
    deduction: str | bool | None = None


class Fill(msgspec.Struct, rename="camel", frozen=True):
    exec_id: str
    order_id: str
    symbol: str
    side: str
    exec_price: Text
    exec_qty: Text
    trade_scope: str
    fee_detail: list[Fee]
    created_time: Text
    client_oid: str | None = None
    trade_side: str | None = None
    """Older rows have none; then the order says why it was executed."""


class Fills(msgspec.Struct, frozen=True):
    list: list[Fill] | None
    cursor: str | None = None


class Record(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    id: str
    category: str
    coin: str
    type: str
    amount: Text
    fee: Text
    ts: Text
    symbol: str | None = None


class Records(msgspec.Struct, frozen=True):
    list: list[Record] | None
    cursor: str | None = None


class Asset(msgspec.Struct, frozen=True):
    coin: str
    balance: Text
    available: Text
    debt: Text


class Assets(msgspec.Struct, rename="camel", frozen=True):
    eff_equity: Text
    imr: Text
    assets: list[Asset] | None


class Position(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    pos_side: str
    total: Text
    avg_price: Text | None
    mark_price: Text


class Positions(msgspec.Struct, frozen=True):
    list: list[Position] | None


class Configured(msgspec.Struct, rename="camel", frozen=True):
    category: str
    symbol: str
    margin_mode: str
    leverage: Text


class Settings(msgspec.Struct, rename="camel", frozen=True):
    hold_mode: str
    symbol_config_list: list[Configured] | None


class Key(msgspec.Struct, rename="camel", frozen=True):
    user_id: Text
    perm_type: str
    permissions: list[str]


class FeeRate(msgspec.Struct, rename="camel", frozen=True):
    maker_fee_rate: Text
    taker_fee_rate: Text


class Funding(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    funding_rate: Text
    funding_rate_interval: Text
    next_update: Text


class Ticker(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    mark_price: Text
    ts: Text


class Rules(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    quote_coin: str
    price_multiplier: Text
    quantity_multiplier: Text
    min_order_qty: Text
    min_order_amount: Text
    max_order_qty: Text | None = None
    status: str = ""


class Strategy(msgspec.Struct, rename="camel", frozen=True):
    """A stop, a take-profit, or both in one."""

    order_id: str
    symbol: str
    qty: Text | None = None
    """Of a stop of a part; empty or absent where it is of the whole position."""
    stop_loss: Text | None = None
    take_profit: Text | None = None
    sl_trigger_by: str | None = None
    sl_order_type: str | None = None
    pos_side: str | None = None


ORDER: Final = Decoder(Order)
OPEN_ORDERS: Final[Decoder[Orders | None]] = Decoder(Orders | None)
FILLS: Final[Decoder[Fills | None]] = Decoder(Fills | None)
RECORDS: Final[Decoder[Records | None]] = Decoder(Records | None)
ASSETS: Final = Decoder(Assets)
POSITIONS: Final[Decoder[Positions | None]] = Decoder(Positions | None)
SETTINGS: Final = Decoder(Settings)
KEY: Final = Decoder(Key)
FEES: Final = Decoder(FeeRate)
FUNDING: Final[Decoder[list[Funding] | None]] = Decoder(list[Funding] | None)
TICKERS: Final[Decoder[list[Ticker] | None]] = Decoder(list[Ticker] | None)
RULES: Final[Decoder[list[Rules] | None]] = Decoder(list[Rules] | None)
STRATEGIES: Final[Decoder[list[Strategy] | None]] = Decoder(list[Strategy] | None)
