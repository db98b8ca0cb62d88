"""The generic adapter's parts: what exceptions prove, numbers, pages, and that a book is a copy."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.clock import RealClock
from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.events import RATE_LIMITED, Event, OrderUpdate
from mmdaemon.core.types import Link, OrderStatus, Purpose, Side
from mmdaemon.secret import Credentials, Secret
from mmdaemon.settings import ConfigError, load
from mmdaemon.venues.base import PositionStop, VenueUnavailable
from mmdaemon.venues.bitget.api import Answer, Meaning, Refused, Request, Unanswered, Unsent
from mmdaemon.venues.ccxt_client import exchange_class
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.ccxt_pro import CcxtVenue
from mmdaemon.venues.codec import Malformed
from mmdaemon.venues.differences import VENUES, Sandbox
from mmdaemon.venues.exchanges import exchange
from mmdaemon.venues.generic import GenericVenue
from mmdaemon.venues.generic_calls import GenericCalls, GenericRequests, Names, proves
from mmdaemon.venues.generic_pumps import Pumps
from mmdaemon.venues.generic_reads import PAGE, Told, Units, every, instrument_of, text, wallet_e10
from mmdaemon.venues.outbox import Outbox

NOW = (1, 2)
MARKET: dict[str, Any] = {
    "id": "BTC-USDT-SWAP",
    "quote": "USDT",
    "contractSize": 0.01,
    "precision": {"amount": 0.1, "price": 0.1},
    "limits": {"amount": {"min": 0.1, "max": 1000.0}, "cost": {"min": None}},
}
"""As okx states it: amounts are contracts of 0.01 BTC, a tenth of one at least."""


def units(exchange: str = "okx", account: str = "unified") -> Units:
    instrument, contract = instrument_of(MARKET, exchange)
    return Units(VENUES[exchange], account, instrument, contract, Names())


def raised(name: str, said: str = "") -> BaseException:
    exchange_class("bitget")
    return getattr(sys.modules["ccxt.base.errors"], name)(said)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("RateLimitExceeded", Meaning.RATE_LIMIT),
        ("DDoSProtection", Meaning.RATE_LIMIT),
        ("InsufficientFunds", Meaning.MARGIN),
        ("InvalidOrder", Meaning.REFUSED),
        ("OrderImmediatelyFillable", Meaning.REFUSED),
        ("OrderNotFound", Meaning.NOT_FOUND),
        ("DuplicateOrderId", Meaning.UNKNOWN),
        ("BadRequest", Meaning.REFUSED),
        ("BadSymbol", Meaning.REFUSED),
        ("PermissionDenied", Meaning.AUTH),
        ("AuthenticationError", Meaning.UNKNOWN),
        ("ExchangeError", Meaning.UNKNOWN),
        ("OperationFailed", None),
        ("NetworkError", None),
        ("RequestTimeout", None),
        ("ExchangeNotAvailable", None),
        ("OnMaintenance", None),
        ("InvalidNonce", None),
        ("BaseError", None),
    ],
)
def test_what_ccxt_raises_proves_no_more_than_this(name: str, meaning: Meaning | None) -> None:
    """Every NetworkError but "too many", and every ExchangeError that ccxt does not know, is of unknown fate."""
    outcome = proves(raised(name), VENUES["bybit"])
    if meaning is None:
        assert isinstance(outcome, Unanswered)
    else:
        assert isinstance(outcome, Refused)
        assert outcome.meaning is meaning


def test_no_network_error_but_too_many_is_a_certain_refusal() -> None:
    exchange_class("bitget")
    errors = sys.modules["ccxt.base.errors"]
    seen = 0
    kinds: list[type[Exception]] = [each for name in errors.__all__ if isinstance(each := getattr(errors, name), type)]
    for kind in kinds:
        if issubclass(kind, errors.NetworkError) and not issubclass(
            kind, errors.RateLimitExceeded | errors.DDoSProtection
        ):
            seen += 1
            assert isinstance(proves(kind("x"), VENUES["gate"]), Unanswered), kind
    assert seen >= 5


def test_a_code_that_ccxt_does_not_know_is_read_by_the_table() -> None:
    said = 'bitget {"code":"25204","msg":"Order does not exist"}'
    outcome = proves(raised("ExchangeError", said), VENUES["bitget"])
    assert isinstance(outcome, Refused)
    assert (outcome.meaning, outcome.code) == (Meaning.NOT_FOUND, "25204")
    assert "exist" not in str(outcome), "nothing of what the exchange wrote"


def test_amounts_are_contracts() -> None:
    told = units()
    instrument = told.instrument
    assert (instrument.tick_e10, instrument.lot_e10) == (1_000_000_000, 10_000_000)
    assert (instrument.min_qty_lots, instrument.max_qty_lots) == (1, 10_000)
    assert told.lots(0.3) == 3
    assert told.px(64_000.1) == 640_001
    requests = GenericRequests(VENUES["okx"], "BTC/USDT:USDT", told.scale, told.contract, told.names, 20.0)
    assert requests.amount(3) == 0.3
    place = Place("mmab-1-2", Side.SELL, 640_001, 3, Purpose.QUOTE, 0, post_only=True, reduce_only=True)
    params: Any = requests.place(place).params
    assert params["arguments"] == ("BTC/USDT:USDT", "limit", "sell", 0.3, 64_000.1)
    assert params["params"] == {"clientOrderId": "mmabx1x2", "postOnly": True, "reduceOnly": True}


@given(st.integers(1, 10_000), st.integers(1, 2_000_000))
def test_what_goes_out_comes_back(lots: int, ticks: int) -> None:
    told = units()
    requests = GenericRequests(VENUES["okx"], "X", told.scale, told.contract, told.names, 20.0)
    assert told.lots(requests.amount(lots)) == lots
    assert told.px(float(told.scale.px_text(ticks))) == ticks


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), True, "x", [], {}])
def test_what_is_no_number_is_none(value: Any) -> None:
    with pytest.raises(Malformed):
        text(value)


@pytest.mark.parametrize("key", ["contractSize", "precision", "limits", "quote", "id"])
def test_a_contract_without_a_rule_is_refused(key: str) -> None:
    with pytest.raises(VenueUnavailable):
        instrument_of({name: rule for name, rule in MARKET.items() if name != key}, "okx")


@pytest.mark.parametrize(
    ("exchange", "by_id", "params"),
    [
        ("bybit", None, {"orderLinkId": "mmab-1-2"}),
        ("okx", None, {"clientOrderId": "mmabx1x2"}),
        ("gate", "t-mmab-1-2", {}),
        ("binanceusdm", None, {"clientOrderId": "mmab-1-2"}),
    ],
)
def test_an_order_is_named_as_each_exchange_wants_it(exchange: str, by_id: str | None, params: dict[str, str]) -> None:
    told = units(exchange)
    requests = GenericRequests(VENUES[exchange], "X", told.scale, told.contract, told.names, 20.0)
    assert requests.named("mmab-1-2") == (by_id, params)
    told.names.learn("mmab-1-2", "77", Side.BUY)
    assert requests.named("mmab-1-2") == ("77", {})
    assert requests.named("venue:99") == ("99", {})
    amend: Any = requests.amend(Amend("mmab-1-2", 1, 10, 5)).params
    assert amend["arguments"] == ("77", "X", "limit", "buy", 0.5, 1.0)


def order(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"id": "77", "clientOrderId": "mmabx1x2", "side": "buy", "status": "open", "price": 1.0}
    return given | {"amount": 0.5, "filled": 0.1, "remaining": 0.2, "reduceOnly": False} | changed


def test_what_filled_of_an_order_is_what_does_not_remain() -> None:
    """ccxt's `filled` is the last fill alone on Bitget's stream."""
    report = units().report(order())
    assert (report.client_id, report.qty_lots, report.cum_filled_lots) == ("mmab-1-2", 5, 3)
    assert report.status is OrderStatus.PARTIAL


@pytest.mark.parametrize(
    "changed",
    [{"side": None}, {"status": "weird"}, {"remaining": None}, {"remaining": 0.9}, {"amount": 0}, {"amount": 0.55}],
)
def test_an_order_that_cannot_be_read_is_never_guessed(changed: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        units().report(order(**changed))


def test_an_order_of_somebody_else_has_the_exchanges_id() -> None:
    assert units().report(order(clientOrderId=None)).client_id == "venue:77"


def test_a_book_is_a_copy_and_crossed_is_none() -> None:
    told: dict[str, Any] = {"bids": [[1.0, 0.5], [0.9, 0.1]], "asks": [[1.1, 0.2]], "timestamp": 1_700_000_000_000}
    book = units().book(NOW, told, 10)
    assert book.bids == ((10, 5), (9, 1))
    told["bids"][0][1] = 9.9
    assert book.bids == ((10, 5), (9, 1))
    for spoilt in ({"bids": [[1.2, 0.1]]}, {"asks": []}, {"bids": [[float("nan"), 0.1]]}, {"bids": [[0.95001, 0.1]]}):
        with pytest.raises(Malformed):
            units().book(NOW, {**told, **spoilt}, 10)


def fill(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"id": "t1", "order": "77", "side": "sell", "price": 1.0, "amount": 0.5}
    fee = {"currency": "USDT", "cost": 0.25}
    return given | {"takerOrMaker": "maker", "timestamp": 1_700_000_000_000, "fee": fee} | changed


def test_a_fee_has_the_sign_that_the_table_knows() -> None:
    for account, charged in (("classic", 2_500_000_000), ("unified", -2_500_000_000)):
        assert units("bitget", account).fill(NOW, fill(), "x").fee_e10 == charged


@pytest.mark.parametrize(
    "changed",
    [
        {"fee": None},
        {"fee": {"currency": "BGB", "cost": 1.0}},
        {"fee": {"currency": "USDT", "cost": None}},
        {"takerOrMaker": None},
        {"side": None},
        {"id": "a b"},
        {"amount": 0.0},
        {"timestamp": None},
    ],
)
def test_a_fill_that_cannot_be_read_stops_the_reading(changed: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        units().fill(NOW, fill(**changed), "x")


def test_the_wallet_is_without_what_is_unrealised() -> None:
    bitget, total = VENUES["bitget"], {"USDT": {"total": 12.5}}
    classic = {**total, "info": [{"marginCoin": "USDT", "unrealizedPL": "2.5"}]}
    unified = {**total, "info": {"data": {"assets": [{"coin": "USDT", "balance": "9.5", "debt": "0.5"}]}}}
    assert wallet_e10(bitget, classic, "USDT") == 100_000_000_000
    assert wallet_e10(bitget, unified, "USDT") == 90_000_000_000
    assert wallet_e10(VENUES["bybit"], {**total, "info": {}}, "USDT") == 125_000_000_000
    with pytest.raises(LookupError):
        wallet_e10(bitget, {"info": {}}, "USDT")


@pytest.mark.parametrize("newest_first", [True, False])
async def test_every_row_comes_once_whichever_end_an_exchange_begins_at(*, newest_first: bool) -> None:
    rows = [{"id": str(number), "timestamp": 1_000 + number * 7} for number in range(1_000)]
    asked = 0

    async def page(first: int, last: int) -> Sequence[Told]:
        nonlocal asked
        asked += 1
        within = [row for row in rows if first <= int(row["timestamp"]) <= last]
        return within[-PAGE:] if newest_first else within[:PAGE]

    found = await every(page, 0, 20_000)
    assert set(found) == {row["id"] for row in rows}
    assert asked < 60


async def test_rows_that_cannot_be_told_apart_are_no_history() -> None:
    async def crowded(_first: int, _last: int) -> Sequence[Told]:
        return [{"id": str(number)} for number in range(PAGE)]

    async def nameless(_first: int, _last: int) -> Sequence[Told]:
        return [{"id": None}]

    for page in (crowded, nameless):
        with pytest.raises(VenueUnavailable):
            await every(page, 0, 1_000)


class Socket:
    """A client of ccxt's with nothing behind it: `watch` gives what is put, or raises it."""

    network_errors = (ConnectionError,)

    def __init__(self) -> None:
        self.frames: asyncio.Queue[object] = asyncio.Queue()
        self.dropped: list[tuple[bool, str]] = []

    def hear(self, **_taps: object) -> None: ...

    def silent_ns(self, *, private: bool) -> int:
        return int(private)

    def drop(self, *, private: bool, why: str) -> None:
        self.dropped.append((private, why))
        self.frames.put_nowait(ConnectionError(why))

    async def watch(self) -> object:
        frame = await self.frames.get()
        if isinstance(frame, Exception):
            raise frame
        return frame


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.002)


async def test_after_an_error_a_book_is_forgotten_before_it_is_watched_again() -> None:
    """ccxt would put the next snapshot into the old one."""
    socket, happened = Socket(), list[str]()
    links: list[tuple[Link, bool]] = []
    clock = RealClock(asyncio.get_running_loop())
    pumps = Pumps(cast("Any", socket), clock, lambda link, up: links.append((link, up)))

    def told(frame: object) -> None:
        if frame == "unreadable":
            raise KeyError("bids")
        happened.append(f"told {frame}")
        pumps.good(Link.PUBLIC)

    pumps.add(Link.PUBLIC, socket.watch, told, lambda: happened.append("forgotten"))
    pumps.start(())
    try:
        socket.frames.put_nowait(1)
        await until(lambda: happened == ["told 1"])
        for number, broken in enumerate((ConnectionError("gone"), "unreadable")):
            socket.frames.put_nowait(broken)
            socket.frames.put_nowait(2 + number)
            await until(lambda number=number: f"told {2 + number}" in happened)
        pumps.lost(Link.PUBLIC, "crossed")
        await until(lambda: len(happened) == 6)
    finally:
        await pumps.close()
    assert happened == ["told 1", "forgotten", "told 2", "forgotten", "told 3", "forgotten"]
    assert links == [(Link.PUBLIC, up) for up in (True, False, True, False, True, False)]
    assert socket.dropped == [(False, "crossed")]


async def test_a_private_link_is_up_once_its_loops_have_waited_in_peace() -> None:
    socket, links = Socket(), list[tuple[Link, bool]]()
    clock = RealClock(asyncio.get_running_loop())
    pumps = Pumps(cast("Any", socket), clock, lambda link, up: links.append((link, up)))
    pumps.add(Link.PRIVATE, socket.watch, lambda _frame: None)
    pumps.start(())
    try:
        await until(lambda: links == [(Link.PRIVATE, True)])
        socket.frames.put_nowait(ConnectionError("gone"))
        await until(lambda: links[1:] == [(Link.PRIVATE, False)])
        await until(lambda: links[2:] == [(Link.PRIVATE, True)])
    finally:
        await pumps.close()


@pytest.mark.parametrize("name", VENUES)
async def test_each_exchange_has_its_adapter_its_key_and_its_sandbox(name: str) -> None:
    """Nothing is asked of anybody: it is made, and looked at."""
    key = Credentials(Secret("a-key"), Secret("a-secret"), Secret("a-passphrase"))
    config = CcxtConfig(exchange=name, environment="demo", credentials=key)
    clock = RealClock(asyncio.get_running_loop())
    venue = exchange(config, clock)
    try:
        assert isinstance(venue, CcxtVenue if name == "bitget" else GenericVenue)
        assert venue.name == name
        made = venue._client.exchange
        row = VENUES[name]
        given = [getattr(made, part) for part in row.secrets]
        assert given == ["a-key", "a-secret", "a-passphrase"][: len(given)]
        plain = exchange_class(name)()
        if row.sandbox is not Sandbox.DEMO_HEADER:
            assert made.urls["api"] != plain.urls["api"]
    finally:
        await venue.close()


async def test_no_other_exchange_is_spoken_to_where_an_emulator_is_set() -> None:
    """ccxt's addresses of another exchange are none that the emulator's would replace."""
    url = "http://127.0.0.1:81"
    with pytest.raises(ValueError, match="Bitget that is emulated"):
        GenericVenue(CcxtConfig(exchange="okx", emulator_url=url), RealClock(asyncio.get_running_loop()))
    with pytest.raises(ConfigError) as refused:
        load(None, {"run.mode": "paper", "venue.exchange": "okx", "venue.emulator": url}, {})
    assert "venue.exchange" in str(refused.value)


async def test_what_the_generic_adapter_cannot_do_it_says() -> None:
    clock = RealClock(asyncio.get_running_loop())
    venue = GenericVenue(CcxtConfig(exchange="bybit"), clock)
    try:
        with pytest.raises(VenueUnavailable, match="stop_bps = 0"):
            await venue.protect(PositionStop(1_000))
        await venue.protect(None)
        with pytest.raises(VenueUnavailable, match="left to run out"):
            await venue.dead_man(0)
        with pytest.raises(VenueUnavailable, match="not open"):
            await venue.send(Place("mmab-1-2", Side.BUY, 1, 1, Purpose.QUOTE, 0, post_only=True, reduce_only=False))
        with pytest.raises(VenueUnavailable):
            await venue.open_orders()
    finally:
        await venue.close()
        await venue.close()


@pytest.mark.parametrize(
    ("raises", "proven"),
    [
        ("PermissionDenied", True),
        ("NotSupported", True),
        ("BadRequest", True),
        ("ExchangeError", False),
        ("AuthenticationError", False),
        ("RateLimitExceeded", False),
        ("OnMaintenance", False),
        ("RequestTimeout", False),
        ("TypeError", False),
    ],
)
async def test_a_countdown_is_not_granted_only_where_that_is_certain(raises: str, *, proven: bool) -> None:
    """ "Not granted" is never asked again: a service error must not be taken for it."""
    key = Credentials(Secret("a-key"), Secret("a-secret"), Secret(""))
    venue = GenericVenue(CcxtConfig(exchange="bybit", credentials=key), RealClock(asyncio.get_running_loop()))

    async def refuses(*_: object, **__: object) -> None:
        raise TypeError("within ccxt") if raises == "TypeError" else raised(raises)

    venue._client.exchange.cancel_all_orders_after = refuses
    try:
        if proven:
            assert not await venue.dead_man(30)
        else:
            with pytest.raises(VenueUnavailable, match="dead_man"):
                await venue.dead_man(30)
    finally:
        await venue.close()


async def test_of_several_orders_one_that_never_left_is_not_a_refusal_of_the_exchanges() -> None:
    """It would count as too many requests, and stop the quoting for what is our own budget."""
    clock, told = RealClock(asyncio.get_running_loop()), list[Event]()
    venue = GenericVenue(CcxtConfig(exchange="bybit"), clock)
    calls, made = Calls(venue._client, VENUES["bybit"], clock, Names(), 1.0), units("bybit")
    requests = GenericRequests(VENUES["bybit"], "X", made.scale, made.contract, made.names, 20.0)
    outbox = Outbox(cast("Any", requests), calls, clock, told.append)
    try:
        for number in (1, 2, 3, 4):
            name = f"mmab-1-{number}"
            outbox.send(Place(name, Side.BUY, 1, 1, Purpose.QUOTE, 0, post_only=True, reduce_only=False))
        await until(lambda: len(told) == 4)
    finally:
        await outbox.close()
        await calls.close()
        await venue.close()
    assert outbox.batches == 1
    became = {each.client_id: (each.status, each.reason) for each in told if isinstance(each, OrderUpdate)}
    assert became == {
        "mmab-1-1": (OrderStatus.LIVE, ""),
        "mmab-1-2": (OrderStatus.REJECTED, "unsent:budget"),
        "mmab-1-3": (OrderStatus.REJECTED, RATE_LIMITED),
        "mmab-1-4": (OrderStatus.UNKNOWN, "unnamed"),
    }


class Calls(GenericCalls):
    """Each of several orders meets with another fate."""

    async def ask(self, request: Request) -> Answer:
        params = cast("Any", request.params)
        if isinstance(params, Sequence):
            return await super().ask(request)
        match params["client_id"][-1]:
            case "2":
                raise Unsent("budget")
            case "3":
                raise Refused(Meaning.RATE_LIMIT, "429")
            case "4":
                raise Unanswered("timeout")
            case _:
                return Answer(msgspec.Raw(b"null"), 0)


def test_contracts_are_exact() -> None:
    assert instrument_of(MARKET, "okx")[1] == Decimal("0.01")
