"""No request, however wrong, does more to the emulated venue than be refused."""

import contextlib
import string
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

import pytest

from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.emulator.dialect import Dialect
from mmdaemon.venues.emulator.rows import No
from tests.venues.emulator.asking import CLASSIC, CONTRACT, FUTURE, ORDER, UNIFIED, UNIFIED_ORDER, ask
from tests.venues.emulator.build import BUY, emulated

WRONG: tuple[Any, ...] = (
    None, True, False, 0, -1, 10**30, 1.5, float("nan"), "", " ", "0", "-1", "1e400", "1e25", "NaN", "Infinity",
    "٣", "0x1", "null", "BTCUSDT", "x" * 5_000, [], [None], [[]], ["x"], [{}], {}, {"a": {"b": []}}, "9" * 25, "1_0",
)  # fmt: skip
WHOLE: Mapping[str, Any] = {
    **CONTRACT,
    **ORDER,
    **UNIFIED_ORDER,
    "orderId": "1",
    "newClientOid": "n",
    "newPrice": "98",
    "newSize": "0.0006",
    "limit": "5",
    "idLessThan": "9",
    "cursor": "9",
    "startTime": "1",
    "endTime": "2",
    "planType": "pos_loss",
    "triggerType": "mark_price",
    "triggerPrice": "90",
    "holdSide": "buy",
    "posSide": "long",
    "stopLoss": "90",
    "slTriggerBy": "mark",
    "slOrderType": "market",
    "businessType": "mix",
    "leverage": "5",
    "posMode": "one_way_mode",
    "holdMode": "one_way_mode",
    "granularity": "1m",
    "interval": "1m",
    "type": "",
    "countdown": "0",
    "autoCancel": "no",
    "orderList": [ORDER],
    "orderIdList": [{"orderId": "1"}],
}


def spoilt(random: Random, count: int) -> Iterator[Any]:
    """Wholes, with a few fields wrong, missing or more; and what is no object at all."""
    yield from WRONG
    yield WHOLE
    for name in WHOLE:
        yield {key: value for key, value in WHOLE.items() if key != name}
        for wrong in WRONG:
            yield {**WHOLE, name: wrong}
    for _ in range(count):
        some = {name: random.choice(WRONG) for name in random.sample(sorted(WHOLE), 3)}
        more = {"".join(random.choices(string.ascii_letters, k=5)): random.choice(WRONG)}
        made: Any = {**WHOLE, **some, **more}
        yield random.choice([made, [made], [made, WHOLE]])


@pytest.mark.parametrize("dialect", [CLASSIC, UNIFIED], ids=lambda dialect: dialect.name)
async def test_a_request_is_answered_or_refused_and_nothing_else(dialect: Dialect) -> None:
    async with emulated(account=dialect.name) as bench:
        for number, route in enumerate(dialect.routes()):
            bench.place(f"r{number}", BUY, 990, 1)
            for params in spoilt(Random(7), 100):
                answered(bench.account, route.path, params)
                if len(bench.account.open_orders()) > 30:
                    bench.account.cancel_all()
        instrument, taken = bench.account.instrument, bench.account.truth().orders.values()
        assert len(taken) > len(dialect.routes())
        assert all(instrument.is_valid_size(order.px_ticks, order.qty_lots) for order in taken)


def answered(account: Account, path: str, params: Any) -> None:
    with contextlib.suppress(No):
        ask(account, path, params)


@pytest.mark.parametrize("dialect", [CLASSIC, UNIFIED], ids=lambda dialect: dialect.name)
def test_a_channel_is_found_or_refused_and_nothing_else(dialect: Dialect) -> None:
    known = {"instType": "USDT-FUTURES", "channel": "books", "topic": "books", "instId": "BTCUSDT", **FUTURE}
    for name in (*known, "coin", "interval"):
        for wrong in WRONG:
            with contextlib.suppress(No):
                dialect.channel({**known, name: wrong})
