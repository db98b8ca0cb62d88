"""Requests of both APIs, field for field against what the installed ccxt sends for the same order, at its transport.

The differences there are, and why:
  * an order that neither takes at once nor is post-only says so ("GTC", "gtc"), as ccxt does where it is told to;
  * prices and sizes come from whole ticks and lots: never from a float, and never rounded.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.types import NS, Instrument, Purpose, Side
from mmdaemon.venues.base import Cursor, PositionStop
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import BATCH_MAX, Answer, Api, Meaning, Refused, Request, Unsent
from mmdaemon.venues.bitget.classic import Classic
from mmdaemon.venues.bitget.unified import Unified
from mmdaemon.venues.ccxt_client import exchange_class

SYMBOL = "BTC/USDT:USDT"
BTC = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=1_000_000_000, lot_e10=1_000_000)
"""Tick 0.1, lot 0.0001."""
SMALL = Instrument.of(venue="bitget", symbol="PEPEUSDT", tick_e10=1, lot_e10=1_000 * 10**10)
"""Tick 1e-10, lot 1000: the figures that floats and exponents would spoil."""

CONTRACT = {
    "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "buyLimitPriceRatio": "0.05",
    "sellLimitPriceRatio": "0.05", "feeRateUpRatio": "0.005", "makerFeeRate": "0.0002", "takerFeeRate": "0.0006",
    "openCostUpRatio": "0.01", "supportMarginCoins": ["USDT"], "minTradeNum": "0.0001", "priceEndStep": "1",
    "volumePlace": "4", "pricePlace": "1", "sizeMultiplier": "0.0001", "symbolType": "perpetual",
    "minTradeUSDT": "5", "maxSymbolOrderNum": "200", "maxProductOrderNum": "400", "maxPositionNum": "150",
    "symbolStatus": "normal", "offTime": "-1", "limitOpenTime": "-1", "deliveryTime": "", "launchTime": "",
    "deliveryStartTime": "", "fundInterval": "8", "minLever": "1", "maxLever": "125", "posLimit": "0.05",
    "maintainTime": "",
}  # fmt: skip
INSTRUMENT = {
    "symbol": "BTCUSDT", "category": "USDT-FUTURES", "baseCoin": "BTC", "quoteCoin": "USDT",
    "buyLimitPriceRatio": "0.05", "sellLimitPriceRatio": "0.05", "feeRateUpRatio": "0.005",
    "openCostUpRatio": "0.01", "minOrderQty": "0.0001", "maxOrderQty": "", "pricePrecision": "1",
    "quantityPrecision": "4", "priceMultiplier": "0.1", "quantityMultiplier": "0.0001", "type": "perpetual",
    "minOrderAmount": "5", "maxSymbolOrderNum": "400", "maxProductOrderNum": "400", "maxPositionNum": "150",
    "status": "online", "offTime": "-1", "limitOpenTime": "-1", "makerFeeRate": "0.0002", "takerFeeRate": "0.0006",
    "maxLeverage": "125", "fundInterval": "8", "maintainTime": "", "deliveryTime": "", "launchTime": "",
}  # fmt: skip


class Ccxt:
    """The installed ccxt with a transport that keeps what it is given."""

    def __init__(self, *, unified: bool) -> None:
        sent: list[tuple[str, str, Any]] = []
        kind: type[Any] = exchange_class("bitget")

        class Kept(kind):
            async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
                path = url.split("bitget.com")[1].split("?", maxsplit=1)[0]
                data: Any = {"orderId": "1", "clientOid": "a"}
                if path == "/api/v2/mix/market/contracts":
                    data = [CONTRACT] if "productType=USDT-FUTURES" in url else []
                elif path == "/api/v3/market/instruments":
                    data = [INSTRUMENT] if "category=USDT-FUTURES" in url else []
                else:
                    sent.append((method, path, json.loads(body)))
                    if path.endswith(("place-batch", "cancel-batch")):
                        data = []
                    elif path.endswith(("batch-place-order", "batch-cancel-orders")):
                        data = {"successList": [], "failureList": []}
                    elif path.endswith("cancel-symbol-order"):
                        data = {"list": []}
                return {"code": "00000", "msg": "success", "requestTime": 1790000000000, "data": data}

        options = {"defaultType": "swap", "uta": unified, "fetchMarkets": {"types": ["swap"]}}
        keys = {"apiKey": "k", "secret": "s", "password": "p"}
        self.exchange: Any = Kept({**keys, "has": {"fetchCurrencies": False}, "options": options})
        self._sent = sent

    async def does(self, method: str, *args: Any) -> tuple[str, str, Any]:
        self._sent.clear()
        try:
            await getattr(self.exchange, method)(*args)
        finally:
            await self.exchange.close()
        (sent,) = self._sent
        return sent


def order(
    *,
    side: Side = Side.BUY,
    px: int = 639_807,
    qty: int = 123,
    post_only: bool = False,
    reduce_only: bool = False,
    ioc: bool = False,
    client_id: str = "mmab12-7-42",
) -> Place:
    return Place(client_id, side, px, qty, Purpose.QUOTE, 0, post_only, reduce_only, ioc)


def params(command: Place) -> dict[str, Any]:
    """What a user of ccxt would ask for."""
    asked: dict[str, Any] = {"clientOrderId": command.client_id}
    if command.post_only:
        asked["postOnly"] = True
    else:
        asked["timeInForce"] = "IOC" if command.ioc else "GTC"
    if command.reduce_only:
        asked["reduceOnly"] = True
    return asked


def asked(command: Place) -> tuple[str, str, str, float, float, dict[str, Any]]:
    side = "buy" if command.side is Side.BUY else "sell"
    return SYMBOL, "limit", side, command.qty_lots / 10_000, command.px_ticks / 10, params(command)


def api(*, unified: bool, instrument: Instrument = BTC) -> Api:
    return Unified(instrument) if unified else Classic(instrument)


def as_sent(request: Request) -> tuple[str, str, Any]:
    return request.endpoint.method, request.endpoint.path, json.loads(json.dumps(request.params))


ORDERS = {
    "a quote": order(post_only=True),
    "an ask": order(side=Side.SELL, px=640_000, qty=10_000, post_only=True),
    "the smallest": order(px=1, qty=1, post_only=True),
    "resting": order(),
    "taking": order(ioc=True),
    "reducing": order(side=Side.SELL, reduce_only=True, post_only=True),
    "taking to reduce": order(side=Side.SELL, reduce_only=True, ioc=True),
}
both = pytest.mark.parametrize("unified", [False, True], ids=["classic", "unified"])


@both
@pytest.mark.parametrize("command", ORDERS.values(), ids=ORDERS.keys())
async def test_an_order_is_what_ccxt_sends(unified: bool, command: Place) -> None:
    theirs = await Ccxt(unified=unified).does("create_order", *asked(command))
    assert as_sent(api(unified=unified).place(command)) == theirs


@both
async def test_a_batch_is_what_ccxt_sends(unified: bool) -> None:
    commands = [order(client_id=f"a-{i}", px=639_000 + i, qty=1 + i, post_only=True) for i in range(4)]
    rows = [
        dict(zip(("symbol", "type", "side", "amount", "price", "params"), asked(one), strict=True)) for one in commands
    ]
    theirs = await Ccxt(unified=unified).does("create_orders", rows)
    assert as_sent(api(unified=unified).place_batch(commands)) == theirs


@both
@pytest.mark.parametrize(("client_id", "theirs"), [("a-1", ("", {"clientOrderId": "a-1"})), ("venue:77", ("77", {}))])
async def test_a_cancel_is_what_ccxt_sends(unified: bool, client_id: str, theirs: tuple[str, dict[str, str]]) -> None:
    sent = await Ccxt(unified=unified).does("cancel_order", theirs[0], SYMBOL, theirs[1])
    assert as_sent(api(unified=unified).cancel(client_id)) == sent


@both
async def test_cancelling_all_is_what_ccxt_sends(unified: bool) -> None:
    sent = await Ccxt(unified=unified).does("cancel_all_orders", SYMBOL)
    assert as_sent(api(unified=unified).cancel_all()) == sent


@pytest.mark.parametrize(("client_id", "theirs"), [("a-1", ("", {"clientOid": "a-1"})), ("venue:77", ("77", {}))])
async def test_an_amendment_is_what_ccxt_sends(client_id: str, theirs: tuple[str, dict[str, str]]) -> None:
    sent = await Ccxt(unified=True).does("edit_order", theirs[0], SYMBOL, "limit", "buy", 0.0125, 63_980.7, theirs[1])
    assert as_sent(api(unified=True).amend(Amend(client_id, 3, 639_807, 125))) == sent


async def test_the_countdown_is_what_ccxt_sends() -> None:
    sent = await Ccxt(unified=True).does("privateUtaPostV3TradeCountdownCancelAll", {"countdown": "40"})
    assert as_sent(api(unified=True).dead_man(40)) == sent


@pytest.mark.parametrize("seconds", [0, 5, 60])
def test_a_countdown_that_the_venue_has(seconds: int) -> None:
    assert api(unified=True).dead_man(seconds).params == {"countdown": str(seconds)}


@pytest.mark.parametrize("seconds", [-1, 1, 4, 61])
def test_a_countdown_that_the_venue_has_not(seconds: int) -> None:
    with pytest.raises(ValueError, match=f"not {seconds}"):
        api(unified=True).dead_man(seconds)


def test_a_classic_account_neither_amends_nor_counts_down() -> None:
    classic = api(unified=False)
    assert (classic.name, classic.can_amend, classic.has_dead_man) == ("classic", False, False)
    with pytest.raises(RuntimeError, match="can_amend"):
        classic.amend(Amend("a", 1, 1, 1))
    with pytest.raises(RuntimeError, match="has_dead_man"):
        classic.dead_man(10)
    unified = api(unified=True)
    assert (unified.name, unified.can_amend, unified.has_dead_man) == ("unified", True, True)


@both
def test_the_finest_steps_are_written_out_and_exact(unified: bool) -> None:
    sent = api(unified=unified, instrument=SMALL).place(order(px=94_321, qty=7_000_001, post_only=True)).params
    assert isinstance(sent, dict)
    assert sent["price"] == "0.0000094321"
    assert sent["qty" if unified else "size"] == "7000001000"


@both
def test_post_only_outranks_taking(unified: bool) -> None:
    sent = api(unified=unified).place(order(post_only=True, ioc=True)).params
    assert isinstance(sent, dict)
    assert sent["timeInForce" if unified else "force"] == "post_only"


@both
@pytest.mark.parametrize("n", [0, BATCH_MAX + 1])
def test_a_batch_of_none_or_too_many_is_not_made(unified: bool, n: int) -> None:
    with pytest.raises(ValueError, match=f"not {n}"):
        api(unified=unified).place_batch([order(client_id=f"a-{i}") for i in range(n)])


def test_a_unified_batch_takes_nothing_reduce_only() -> None:
    """The venue's page on batches: "currently, reduce-only orders are not supported"."""
    batch = [order(), order(client_id="b", reduce_only=True)]
    with pytest.raises(ValueError, match="b is reduce-only"):
        api(unified=True).place_batch(batch)
    api(unified=False).place_batch(batch)


@both
def test_each_request_is_of_its_lane_and_account(unified: bool) -> None:
    one = api(unified=unified)
    version = "/api/v3/" if unified else "/api/v2/"
    for request, lane in [
        (one.place(order()), "order"),
        (one.place_batch([order()]), "order"),
        (one.cancel("a"), "cancel"),
        (one.cancel_all(), "cancel"),
    ]:
        assert request.endpoint.path.startswith(version)
        assert (request.endpoint.lane, request.endpoint.signed, request.endpoint.method) == (lane, True, "POST")
    assert not unified or one.amend(Amend("a", 1, 1, 1)).endpoint.lane == "order"


# --- the rows of a batch's answer -------------------------------------------------------------------------------------

IDS = ["a", "b", "c"]
Fate = tuple[Meaning, str] | None


def told(*, unified: bool, data: object) -> dict[str, Fate]:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    fates = api(unified=unified).batch_refusals(Answer(msgspec.Raw(raw), 1), IDS)
    assert not any(isinstance(fate, Unsent) for fate in fates.values()), "they were answered for"
    return {key: (fate.meaning, fate.code) if isinstance(fate, Refused) else None for key, fate in fates.items()}


def rows(*, unified: bool, taken: Sequence[object] = (), failed: Mapping[object, object] | None = None) -> object:
    good = [{"orderId": "1", "clientOid": one} for one in taken]
    bad = list((failed or {}).items())
    if unified:
        return good + [{"orderId": "", "clientOid": one, "code": code, "msg": "no"} for one, code in bad]
    return {
        "successList": good,
        "failureList": [{"orderId": "", "clientOid": one, "errorMsg": "no", "errorCode": code} for one, code in bad],
    }


@both
def test_each_order_of_a_batch_has_its_own_fate(unified: bool) -> None:
    data = rows(unified=unified, taken=["a"], failed={"b": "45110", "c": "40725"})
    assert told(unified=unified, data=data) == {
        "a": None,
        "b": (Meaning.REFUSED, "45110"),
        "c": (Meaning.UNKNOWN, "40725"),
    }


@both
def test_what_no_row_names_is_of_unknown_fate(unified: bool) -> None:
    assert told(unified=unified, data=rows(unified=unified, taken=["a"])) == {"a": None}


@both
def test_a_row_of_somebody_else_or_of_nobody_tells_nothing(unified: bool) -> None:
    data = rows(unified=unified, taken=["x", None, ""], failed={"y": "45110", "c": "43012"})
    assert told(unified=unified, data=data) == {"c": (Meaning.MARGIN, "43012")}


@both
def test_what_two_rows_name_is_of_unknown_fate(unified: bool) -> None:
    assert told(unified=unified, data=rows(unified=unified, taken=["a", "a", "b"])) == {"b": None}
    data = rows(unified=unified, taken=["a", "c"], failed={"a": "45110", "b": "45110"})
    assert told(unified=unified, data=data) == {"b": (Meaning.REFUSED, "45110"), "c": None}


@both
def test_a_row_without_an_order_id_is_taken_all_the_same(unified: bool) -> None:
    """A reduce-only order may be answered so."""
    row = {"orderId": None, "clientOid": "a"}
    assert told(unified=unified, data=[row] if unified else {"successList": [row], "failureList": None}) == {"a": None}


def test_a_refusal_without_a_code_proves_nothing() -> None:
    assert told(unified=False, data={"successList": None, "failureList": [{"clientOid": "a"}]}) == {
        "a": (Meaning.UNKNOWN, "")
    }


@pytest.mark.parametrize("code", ["", None, "0", "00000", 0])
def test_a_unified_row_with_a_code_of_success_is_taken(code: object) -> None:
    assert told(unified=True, data=rows(unified=True, failed={"a": code})) == {"a": None}


@both
@pytest.mark.parametrize(
    "data",
    [
        None, [], {}, 7, "text", True, [None], [[]], {"successList": 7}, {"successList": [7]},
        {"successList": [{"clientOid": 7}]}, [{"clientOid": 7}], [{"clientOid": "a", "code": []}],
        {"failureList": [{"clientOid": "a", "errorCode": {}}]}, b"", b"[", b"[" * 100_000, b'{"successList":[{"',
    ],
    ids=repr,
)  # fmt: skip
def test_of_an_answer_that_cannot_be_read_no_order_is_named(unified: bool, data: object) -> None:
    assert told(unified=unified, data=data) == {}


# --- reads are handed on ----------------------------------------------------------------------------------------------


class Asked(Exception):
    pass


class Recorder:
    """Whatever is asked first is what a read is known by; but for the time, which both APIs tell at one address."""

    async def ask(self, request: Request) -> Answer:
        if request.endpoint is endpoints.TIME:
            return Answer(msgspec.Raw(b'{"serverTime":"1790000000000"}'), 1_790_000_000 * NS)
        raise Asked(request.endpoint.path)


@both
async def test_reads_are_those_of_the_same_api(unified: bool) -> None:
    one = api(unified=unified)
    version = "/api/v3/" if unified else "/api/v2/"
    since = Cursor(1_790_000_000 * NS)
    sends = Recorder()
    reads: list[Callable[[], Awaitable[object]]] = [
        lambda: one.order(sends, "a"),
        lambda: one.open_orders(sends),
        lambda: one.fills(sends, since),
        lambda: one.bills(sends, since),
        lambda: one.snapshot(sends),
        lambda: one.facts(sends, 0.0),
        lambda: one.fees(sends),
        lambda: one.candles(sends, 5),
        lambda: one.funding(sends),
        lambda: one.mark(sends),
        lambda: one.instrument(sends),
        lambda: one.protect(sends, PositionStop(600_000)),
    ]
    for read in reads:
        with pytest.raises(Asked, match=f"^{version}"):
            await read()
