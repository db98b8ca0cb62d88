"""The table of exchanges against ccxt as it is installed, and against what the settings can name."""

import sys
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.settings.credentials import file_names
from mmdaemon.settings.rules import PROVEN
from mmdaemon.settings.running import VenueSection
from mmdaemon.venues.ccxt_client import exchange_class
from mmdaemon.venues.differences import VENUES, Amend, ClientId, Row, Sandbox

WANTED = (
    "cancelAllOrders", "cancelAllOrdersAfter", "createOrderWs", "editOrder", "editOrderWs", "watchOrderBook",
    "watchTrades", "watchOrders", "watchMyTrades", "watchBidsAsks", "watchMarkPrice", "watchFundingRate",
    "fetchOrder", "fetchOpenOrders", "fetchMyTrades", "fetchPositions", "fetchBalance", "fetchTime",
    "fetchFundingRate", "fetchLedger", "fetchFundingHistory", "fetchTradingFee", "fetchTradingFees", "fetchLeverage",
    "setLeverage", "setMarginMode", "setPositionMode", "fetchOHLCV",
)  # fmt: skip
"""What a market maker wants of ccxt's unified API."""
PRIVATE = {"bitget": ["private", "mix"], "okx": ["private"]}
HEADERS = {"bitget": {"PAPTRADING": "1"}, "okx": {"x-simulated-trading": "1"}}
ROWS = pytest.mark.parametrize("row", VENUES.values(), ids=list(VENUES))


def made(row: Row) -> Any:
    return exchange_class(row.exchange)({"enableRateLimit": False})


def test_every_exchange_that_can_be_named_has_a_row() -> None:
    assert set(VENUES) == set(get_args(VenueSection.model_fields["exchange"].annotation))
    assert all(name == row.exchange for name, row in VENUES.items())


def test_proof_is_said_in_one_place() -> None:
    assert {row.exchange for row in VENUES.values() if row.is_proven} == PROVEN == {"bitget"}


@ROWS
def test_what_it_lacks_is_what_ccxt_says_it_lacks(row: Row) -> None:
    has = made(row).has
    assert set(row.lacks) == {name for name in WANTED if not has.get(name)}


@ROWS
def test_the_key_is_what_ccxt_requires_and_what_our_files_are(row: Row) -> None:
    required = {part for part, is_wanted in made(row).requiredCredentials.items() if is_wanted}
    assert set(row.secrets) == required
    assert len(file_names(row.exchange)) == len(row.secrets)
    assert row.wants_passphrase == ("password" in required)


@ROWS
def test_the_countdown_is_there_under_its_name(row: Row) -> None:
    exchange = made(row)
    assert row.dead_man is not None
    assert callable(getattr(exchange, row.dead_man.method))
    assert bool(exchange.has.get("cancelAllOrdersAfter")) == (row.dead_man.argument == "")


async def test_each_countdown_is_asked_for_in_its_own_units() -> None:
    asked: list[tuple[str, object]] = []

    class Exchange:
        def __getattr__(self, name: str) -> Any:
            return lambda given: asked.append((name, given))

    for row in VENUES.values():
        assert row.dead_man is not None
        row.dead_man.call(Exchange(), 30)
    assert asked == [
        ("privateUtaPostV3TradeCountdownCancelAll", {"countdown": "30"}),
        ("cancel_all_orders_after", 30_000),
        ("cancel_all_orders_after", 30_000),
        ("fapiPrivatePostCountdownCancelAll", {"countdownTime": "30000"}),
        ("cancel_all_orders_after", 30_000),
        ("privateFuturesPostSettleCountdownCancelAll", {"timeout": "30", "settle": "usdt"}),
    ]
    bybit = VENUES["bybit"].dead_man
    assert bybit is not None
    with pytest.raises(ValueError, match="cannot be ended"):
        bybit.call(Exchange(), 0)


@ROWS
def test_where_one_trades_without_money(row: Row) -> None:
    exchange = made(row)
    exchange.apiKey = exchange.secret = exchange.password = "x"
    live = repr(exchange.urls["api"])
    getattr(exchange, row.sandbox.method)(True)
    if row.sandbox is Sandbox.DEMO_HEADER:
        signed = exchange.sign("x", PRIVATE[row.exchange], "GET", {})["headers"]
        assert HEADERS[row.exchange].items() <= {**(exchange.headers or {}), **signed}.items()
        assert (repr(exchange.urls["api"]) == live) or row.exchange == "okx"
    else:
        assert repr(exchange.urls["api"]) != live


def test_binance_refuses_its_old_sandbox_with_the_first_signed_request() -> None:
    """bitget.md section 2: the switch is taken in silence, and then nothing works."""
    exchange = made(VENUES["binanceusdm"])
    exchange.apiKey = exchange.secret = "x"
    exchange.set_sandbox_mode(True)
    with pytest.raises(sys.modules["ccxt"].NotSupported, match="demo trading"):
        exchange.sign("account", ["fapiPrivateV2"], "GET", {})


@ROWS
def test_all_can_amend_as_far_as_ccxt_goes(row: Row) -> None:
    assert made(row).has["editOrder"] is True
    assert row.amend in Amend


@ROWS
@given(
    bot=st.text("abxXZ09", min_size=1, max_size=4), epoch=st.integers(0, 999), number=st.integers(0, 99_999)
)  # 2 + 4 + 1 + 3 + 1 + 5 = 16
def test_an_id_of_ours_comes_back_as_it_went(row: Row, bot: str, epoch: int, number: int) -> None:
    client_id = f"mm{bot}-{epoch}-{number}"
    wire = row.to_wire(client_id)
    assert row.from_wire(wire) == client_id
    match row.client_id:
        case ClientId.AS_IS:
            assert wire == client_id
        case ClientId.ALPHANUMERIC:
            assert wire.isascii()
            assert wire.isalnum()
        case ClientId.PREFIXED:
            assert wire.startswith("t-")
            assert len(wire) <= 30
        case ClientId.HEX_128:
            assert len(wire) == 34
            assert int(wire, 16)


@ROWS
def test_an_id_that_is_too_long_is_refused_and_a_foreign_one_is_left_alone(row: Row) -> None:
    with pytest.raises(ValueError, match=row.exchange):
        row.to_wire("m" * (row.id_max + 1))
    assert row.from_wire("web_12") == "web_12"
    assert row.from_wire("") == ""
