"""Each field of each answer of both APIs, replaced by what no venue should send: the read fails as `VenueUnavailable`,
or does not care."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from mmdaemon.venues.base import PositionStop, VenueUnavailable
from mmdaemon.venues.bitget import classic_reads, unified_reads
from tests.venues.bitget import test_classic_reads as classic
from tests.venues.bitget import test_unified_reads as unified
from tests.venues.bitget.answering import NOW_MS, SCALE, Venue, always, in_turn

HOSTILE: tuple[Any, ...] = (
    *(
        None,
        "",
        " ",
        "0",
        "-1",
        "NaN",
        "Infinity",
        "-0",
        "1e400",
        "1e-400",
        "9" * 50,
        "9" * 5_000,
        "x" * 10_000,
        "\u0661\u0662",
    ),
    *("\x00", "'; DROP", "1_000", 1.5, 1e300, -1, 10**30, True, False, [], [[]], {}, {"a": 1}, "live", "USDT"),
)
FUNDING = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateInterval": "8", "nextUpdate": str(NOW_MS + 1)}

Read = Callable[[Venue], Awaitable[Any]]
Case = tuple[Read, str, Any, dict[str, Any]]
"""The read, the call of it that is spoilt, that call's good answer, and the answers of the others."""


def cases() -> Iterator[tuple[str, Case]]:
    c, r = classic, classic_reads
    calm: dict[str, Any] = {c.ACCOUNT: c.account(), c.POSITION: [c.position()], c.PRICE: c.price()}
    key = {"userId": "7", "authorities": ["coow", "cpow"]}
    detail = c.order(9, state="filled")
    fills, bills = {"fillList": [c.fill(1)], "endId": "1"}, {"bills": [c.bill(1, "contract_settle_fee", "1")]}
    plans = {"entrustedList": [c.plan(1, "60000")]}
    yield "classic order", (lambda v: r.order(SCALE, v, "mmabcd-1-9"), c.DETAIL, detail, {})
    yield (
        "classic open orders",
        (lambda v: r.open_orders(SCALE, v), c.PENDING, {"entrustedList": [c.order(1, status="live")]}, {}),
    )
    yield "classic fills", (lambda v: r.fills(SCALE, v, c.LONG_AGO), c.FILLS, fills, {c.DETAIL: detail})
    yield "classic fills' order", (lambda v: r.fills(SCALE, v, c.LONG_AGO), c.DETAIL, detail, {c.FILLS: fills})
    yield "classic bills", (lambda v: r.bills(SCALE, v, c.LONG_AGO), c.BILLS, bills, {})
    for path in (c.ACCOUNT, c.POSITION):
        yield f"classic snapshot {path}", (lambda v: r.snapshot(SCALE, v), path, calm[path], calm)
    yield "classic key", (lambda v: r.facts(SCALE, v, 0.0), c.KEY, key, calm)
    yield "classic facts", (lambda v: r.facts(SCALE, v, 0.0), c.ACCOUNT, c.account(), {c.KEY: key})
    yield "classic fees", (lambda v: r.fees(SCALE, v), c.FEES, {"makerFeeRate": "0.1", "takerFeeRate": "0.1"}, {})
    yield "classic candles", (lambda v: r.candles(SCALE, v, 5), c.CANDLES, [c.candle(2), c.candle(1)], {})
    yield "classic funding", (lambda v: r.funding(SCALE, v), c.FUNDING, [FUNDING], {})
    yield "classic mark", (lambda v: r.mark(SCALE, v), c.PRICE, c.price(), {})
    yield "classic rules", (lambda v: r.read_instrument(v, "BTCUSDT"), c.CONTRACTS, [c.contract()], {})
    yield (
        "classic stop",
        (
            lambda v: r.protect(SCALE, v, PositionStop(600_000)),
            c.PLANS,
            plans,
            {**calm, c.MOVE: {}, c.CANCEL: {}, c.PLACE: {}},
        ),
    )

    u, w = unified, unified_reads
    still: dict[str, Any] = {u.ASSETS: u.assets(), u.POSITION: u.holding(u.position()), u.TICKERS: u.ticker()}
    whose = u.the_key("uta_trade")
    done = u.order(9, orderStatus="filled", execType="normal")
    execs = {"list": [u.fill(1)], "cursor": "c1"}
    records = {"list": [u.record(1, "TRANSFER_IN", "1")], "cursor": "c1"}
    yield "unified order", (lambda v: w.order(SCALE, v, "mmabcd-1-9"), u.ORDER, done, {})
    yield "unified open orders", (lambda v: w.open_orders(SCALE, v), u.OPEN, {"list": [u.order(1)], "cursor": "c"}, {})
    yield "unified fills", (lambda v: w.fills(SCALE, v, u.LONG_AGO), u.FILLS, execs, {u.ORDER: done})
    yield "unified fills' order", (lambda v: w.fills(SCALE, v, u.LONG_AGO), u.ORDER, done, {u.FILLS: execs})
    yield "unified bills", (lambda v: w.bills(SCALE, v, u.LONG_AGO), u.BILLS, records, {})
    for path in (u.ASSETS, u.POSITION):
        yield f"unified snapshot {path}", (lambda v: w.snapshot(SCALE, v), path, still[path], still)
    yield "unified key", (lambda v: w.facts(SCALE, v, 0.0), u.KEY, whose, {u.SETTINGS: u.settings()})
    yield "unified facts", (lambda v: w.facts(SCALE, v, 0.0), u.SETTINGS, u.settings(), {u.KEY: whose})
    yield "unified fees", (lambda v: w.fees(SCALE, v), u.FEES, {"makerFeeRate": "0.1", "takerFeeRate": "0.1"}, {})
    yield "unified candles", (lambda v: w.candles(SCALE, v, 5), u.CANDLES, [u.candle(1), u.candle(2)], {})
    yield "unified funding", (lambda v: w.funding(SCALE, v), u.FUNDING, [FUNDING], {})
    yield "unified mark", (lambda v: w.mark(SCALE, v), u.TICKERS, u.ticker(), {})
    yield "unified rules", (lambda v: w.read_instrument(v, "BTCUSDT"), u.RULES, [u.rules()], {})
    yield (
        "unified stop",
        (
            lambda v: w.protect(SCALE, v, PositionStop(600_000)),
            u.PENDING,
            [u.strategy(1, "60000")],
            {**still, u.MOVE: {}, u.CANCEL: {}, u.PLACE: {}},
        ),
    )


CASES = dict(cases())


def spoilt(good: Any) -> Iterator[Any]:
    """The answer with one of its values replaced, taken out or told twice, at every depth; and itself."""
    yield from HOSTILE
    if isinstance(good, dict):
        for name in good:
            yield {key: value for key, value in good.items() if key != name}
            for worse in spoilt(good[name]):
                yield good | {name: worse}
    elif isinstance(good, list):
        yield good + good
        for at, item in enumerate(good):
            for worse in spoilt(item):
                yield [*good[:at], worse, *good[at + 1 :]]


@pytest.mark.parametrize("name", CASES)
async def test_a_spoilt_answer_is_unavailable_or_makes_no_difference(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(_: float) -> None: ...

    monkeypatch.setattr("asyncio.sleep", at_once)
    read, path, good, others = CASES[name]
    refused: list[str] = []
    for worse in spoilt(good):
        # Pages are told once: the second is the end of the list.
        end = [] if isinstance(good, list) else dict.fromkeys(good)
        first = in_turn(worse, end) if name.endswith(("orders", "fills", "bills")) else always(worse)
        venue = Venue({other: always(data) for other, data in others.items()} | {path: first})
        if name.endswith("order") and "fills" in name:
            listing = classic.FILLS if "classic" in name else unified.FILLS
            data = others[listing]
            venue.replies[listing] = in_turn(data, dict.fromkeys(data))
        try:
            await read(venue)
        except VenueUnavailable as error:
            refused.append(str(error))
    assert not [text for text in refused if "DROP" in text or "x" * 100 in text], "the venue's text is not repeated"
    assert len(refused) > len(HOSTILE) // 2
