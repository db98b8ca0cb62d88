"""Rows of the classic API's answers, with the fields that are read. One that is missing or of another type refuses the
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
    size: Text
    base_volume: Text
    reduce_only: str
    price: Text | None = None
    client_oid: str | None = None
    status: str | None = None
    """In `orders-pending`."""
    state: str | None = None
    """In `detail`."""


class OpenOrders(msgspec.Struct, rename="camel", frozen=True):
    entrusted_list: list[Order] | None


class Fee(msgspec.Struct, rename="camel", frozen=True):
    fee_coin: str
    total_fee: Text
    deduction: str | bool | None = None


class Fill(msgspec.Struct, rename="camel", frozen=True):
    trade_id: str
    symbol: str
    order_id: str
    price: Text
    base_volume: Text
    side: str
    trade_side: str
    trade_scope: str
    c_time: Text
    fee_detail: list[Fee]
    client_oid: str | None = None


class Fills(msgspec.Struct, rename="camel", frozen=True):
    fill_list: list[Fill] | None


class Bill(msgspec.Struct, rename="camel", frozen=True):
    bill_id: str
    symbol: str
    amount: Text
    fee: Text
    business_type: str
    coin: str
    c_time: Text


class Bills(msgspec.Struct, frozen=True):
    bills: list[Bill] | None


class Account(msgspec.Struct, rename="camel", frozen=True):
    margin_coin: str
    account_equity: Text
    unrealized_pnl: Text = msgspec.field(name="unrealizedPL")
    crossed_max_available: Text
    isolated_max_available: Text
    crossed_margin_leverage: Text
    isolated_long_lever: Text
    isolated_short_lever: Text
    margin_mode: str
    pos_mode: str


class Position(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    hold_side: str
    total: Text
    open_price_avg: Text | None
    mark_price: Text


class Price(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    mark_price: Text
    ts: Text


class Key(msgspec.Struct, rename="camel", frozen=True):
    user_id: Text
    authorities: list[str]


class FeeRate(msgspec.Struct, rename="camel", frozen=True):
    maker_fee_rate: Text
    taker_fee_rate: Text


class Funding(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    funding_rate: Text
    funding_rate_interval: Text
    next_update: Text


class Contract(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    quote_coin: str
    min_trade_num: Text
    price_end_step: Text
    price_place: Text
    size_multiplier: Text
    min_trade_usdt: Text = msgspec.field(name="minTradeUSDT")
    max_order_qty: Text | None = None
    symbol_status: str = ""


class Plan(msgspec.Struct, rename="camel", frozen=True):
    symbol: str
    order_id: str
    plan_type: str
    trigger_price: Text
    trigger_type: str
    pos_side: str | None = None


class Plans(msgspec.Struct, rename="camel", frozen=True):
    entrusted_list: list[Plan] | None


ORDER: Final = Decoder(Order)
OPEN_ORDERS: Final[Decoder[OpenOrders | None]] = Decoder(OpenOrders | None)
FILLS: Final[Decoder[Fills | None]] = Decoder(Fills | None)
BILLS: Final[Decoder[Bills | None]] = Decoder(Bills | None)
ACCOUNT: Final = Decoder(Account)
POSITIONS: Final[Decoder[list[Position] | None]] = Decoder(list[Position] | None)
PRICES: Final[Decoder[list[Price] | None]] = Decoder(list[Price] | None)
KEY: Final = Decoder(Key)
FEES: Final = Decoder(FeeRate)
FUNDING: Final[Decoder[list[Funding] | None]] = Decoder(list[Funding] | None)
CONTRACTS: Final[Decoder[list[Contract] | None]] = Decoder(list[Contract] | None)
PLANS: Final[Decoder[Plans | None]] = Decoder(Plans | None)
