"""Market pushes of both APIs, to facts; and what must never become one."""

from typing import Any

import pytest

from mmdaemon.core.book import FUTURE_NS
from mmdaemon.core.events import BookUpdate, FundingRate, MarkPrice, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.venues.bitget.streams import FRAME_MAX, FUNDING_EVERY_NS
from tests.venues.bitget.heard import MONO_NS, TS_MS, TS_NS, ApiName, Bench, Json, book, push

BIDS = [["64000.0", "1.5"], ["63999.9", "2"], ["63999.5", "0.25"]]
ASKS = [["64000.1", "1"], ["64000.3", "0.0001"]]
BOTH = pytest.mark.parametrize("api", ["classic", "unified"])


@pytest.fixture(params=["classic", "unified"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def with_book(api: ApiName, **kwargs: Any) -> Bench:
    bench = Bench(api, **kwargs)
    assert [name for name, _ in bench.play(book(api, BIDS, ASKS))] == ["back", "BookUpdate"]
    return bench


def test_a_book_is_told_from_its_snapshot_on(bench: Bench) -> None:
    at = (MONO_NS, TS_NS, TS_NS)
    told = bench.play(book(bench.api, BIDS, ASKS))
    bids = ((640_000, 15_000), (639_999, 20_000), (639_995, 2_500))
    assert told == [("back", None), ("BookUpdate", BookUpdate(*at, bids, ((640_001, 10_000), (640_003, 1))))]
    bench.now = (MONO_NS + 7, TS_NS + 9)
    changed = book(bench.api, [["63999.9", "0"]], [["64000.2", "3"]], pseq=1, seq=4, ts=TS_MS + 1)
    update = BookUpdate(
        MONO_NS + 7,
        TS_NS + 9,
        TS_NS + 1_000_000,
        (bids[0], bids[2]),
        ((640_001, 10_000), (640_002, 30_000), (640_003, 1)),
    )
    assert bench.facts(changed) == [update]


@pytest.mark.parametrize(("seq", "pseq"), [("1343064377779269632", 0), (1343064377779269632, "0")])
def test_sequence_numbers_are_digits_or_a_string_of_them(bench: Bench, seq: Any, pseq: Any) -> None:
    first = book(bench.api, BIDS, ASKS)
    first["data"][0] |= {"seq": seq, "pseq": pseq}
    bench.play(first)
    assert [type(fact) for fact in bench.facts(book(bench.api, [], [], pseq=str(seq), seq=int(seq) + 1))] == [
        BookUpdate
    ]


@BOTH
def test_only_so_many_levels_are_told(api: ApiName) -> None:
    bench = Bench(api, depth=2)
    _, update = bench.facts(book(api, BIDS, ASKS))
    assert (len(update.bids), len(update.asks)) == (2, 2)
    (update,) = bench.facts(book(api, [["64000.0", "0"]], [], pseq=1, seq=2))
    assert update.bids == ((639_999, 20_000), (639_995, 2_500))


def test_a_lost_update_is_seen_and_nothing_is_told_until_a_snapshot(bench: Bench) -> None:
    """ccxt ignores the sequence: with it a lost update is silently accepted."""
    api = bench.api
    bench.play(book(api, BIDS, ASKS))
    assert bench.play(book(api, [["63000", "1"]], [], pseq=2, seq=3)) == [("lost", "gap")]
    late = [book(api, [], [], pseq=1, seq=2), book(api, [], [], pseq=3, seq=4)]
    assert {name for name, _ in bench.play(*late)} == {"MarketDataRefused"}
    told = bench.play(book(api, BIDS[1:], ASKS, seq=9, ts=TS_MS + 5))
    assert [name for name, _ in told] == ["back", "BookUpdate"]
    assert told[1][1].bids[0] == (639_999, 20_000)  # the old best bid did not survive


def test_after_a_reconnect_the_snapshot_is_all_of_it(bench: Bench) -> None:
    """ccxt merges the new snapshot into the stale book, and returns it crossed."""
    bench.play(book(bench.api, BIDS, ASKS))
    bench.streams.reset_public()
    assert bench.heard.take() == []
    assert [name for name, _ in bench.play(book(bench.api, [["64000.0", "9"]], [], pseq=1, seq=2))] == [
        "MarketDataRefused"
    ]
    told = bench.play(book(bench.api, [["63990.0", "1"]], [["63990.1", "1"]], ts=TS_MS + 900))
    assert told[0] == ("back", None)
    assert (told[1][1].bids, told[1][1].asks) == (((639_900, 10_000),), ((639_901, 10_000),))


def test_an_old_snapshot_heals_nothing(bench: Bench) -> None:
    """One that was under way while the connection was lost."""
    api = bench.api
    bench.play(book(api, BIDS, ASKS, ts=TS_MS), book(api, [], [["64000.1", "7"]], pseq=1, seq=2, ts=TS_MS + 100))
    old = book(api, BIDS, ASKS, ts=TS_MS)
    assert bench.heard.names() == []
    assert [name for name, _ in bench.play(old)] == ["MarketDataRefused"]  # and the book goes on
    assert bench.facts(book(api, [], [], pseq=2, seq=3))[0].asks[0] == (640_001, 70_000)
    bench.streams.reset_public()
    assert bench.play(old) == [("lost", "stale")]  # so that another is asked for


def test_a_restart_of_the_venue_brings_a_snapshot_of_lower_numbers(bench: Bench) -> None:
    api = bench.api
    bench.play(book(api, BIDS, ASKS, seq=1_000))
    (update,) = bench.facts(book(api, [["63000.0", "1"]], [["63000.1", "1"]], seq=3, ts=TS_MS + 1))
    assert (update.bids, update.asks) == (((630_000, 10_000),), ((630_001, 10_000),))
    assert len(bench.facts(book(api, [], [], pseq=3, seq=4))) == 1
    zero = book(api, [], [], pseq=4, seq=5)
    zero["data"][0]["pseq"] = 0  # and a change that says so
    assert bench.play(zero) == [("lost", "gap")]


def test_a_wrong_checksum_ends_the_book(bench: Bench) -> None:
    api = bench.api
    bench.play(book(api, BIDS, ASKS))
    assert len(bench.facts(book(api, [], [], pseq=1, seq=2, checksum=0))) == 1
    assert bench.play(book(api, [], [], pseq=2, seq=3, checksum=-1_367_582_038)) == [("lost", "checksum")]
    blind = with_book(api, checksum=False)
    assert len(blind.facts(book(api, [], [], pseq=1, seq=2, checksum=-1_367_582_038))) == 1


def broken(api: str) -> dict[str, Json | str]:
    """Frames of the book that cannot be believed."""
    good = book(api, [], [["64000.2", "1"]], pseq=1, seq=2)
    (row,) = good["data"]
    asks = "a" if api == "unified" else "asks"
    return {
        "rows": good | {"data": [row, row]},
        "no rows": good | {"data": []},
        "null": good | {"data": None},
        "no list": good | {"data": row},
        "action": good | {"action": "replace"},
        "no action": {key: value for key, value in good.items() if key != "action"},
        "floats": good | {"data": [row | {asks: [[64000.2, 1.0]]}]},
        "three": good | {"data": [row | {asks: [["64000.2", "1", "2"]]}]},
        "one side": good | {"data": [{key: value for key, value in row.items() if key != asks}]},
        "time": good | {"data": [row | {"ts": "yesterday"}]},
        "no time": good | {"data": [{key: value for key, value in row.items() if key != "ts"}]},
        "future": good | {"data": [row | {"ts": str(TS_MS + FUTURE_NS // 1_000_000 + 1)}]},
        "sequence": good | {"data": [row | {"seq": "1e3"}]},
        "negative": good | {"data": [row | {"pseq": -1}]},
        "no sequence": good | {"data": [{key: value for key, value in row.items() if key not in ("seq", "pseq")}]},
        "price": good | {"data": [row | {asks: [["64000.25", "1"]]}]},
        "crossed": good | {"data": [row | {asks: [["63999.9", "1"]]}]},
        "flood": good | {"data": [row | {asks: [[f"{70_000 + i}", "1"] for i in range(5_001)]}]},
    }


@BOTH
@pytest.mark.parametrize("name", list(broken("classic")))
def test_a_book_frame_that_cannot_be_believed_ends_the_book(api: ApiName, name: str) -> None:
    bench = with_book(api)
    told = bench.play(broken(api)[name])
    assert [what for what, _ in told] == ["lost"]
    assert [what for what, _ in bench.play(book(api, [], [], pseq=2, seq=3))] == ["MarketDataRefused"]
    assert [what for what, _ in bench.play(broken(api)[name])] == ["MarketDataRefused"]  # lost is lost: told once
    assert [what for what, _ in bench.play(book(api, BIDS, ASKS))] == ["back", "BookUpdate"]


@BOTH
def test_a_snapshot_that_fails_is_told_each_time(api: ApiName) -> None:
    """It was waited for, and will not come again by itself."""
    bench = Bench(api)
    bad = book(api, BIDS, [["63000.0", "1"]])
    assert bench.play(bad, bad) == [("lost", "crossed")] * 2


def test_another_market_changes_nothing(bench: Bench) -> None:
    """Spot has the same symbol; another contract has the same channel."""
    api = bench.api
    bench.play(book(api, BIDS, ASKS))
    other = book(api, [["64000.0", "0"]], [], pseq=1, seq=2)
    for arg in ({"instType": "SPOT"}, {"instId": "ETHUSDT", "symbol": "ETHUSDT"}, {"instType": "COIN-FUTURES"}):
        told = bench.play(other | {"arg": other["arg"] | arg})
        assert [name for name, _ in told] == ["MarketDataRefused"]
        assert told[0][1].reason in ("wrong_symbol", "wrong_product")
    assert bench.facts(book(api, [], [], pseq=1, seq=2))[0].bids[0] == (640_000, 15_000)


# --- what is whose ----------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "pong",
        b"pong",
        '{"event":"login","code":0,"connId":"x"}',
        '{"event":"subscribe","arg":{"instType":"USDT-FUTURES","channel":"books","instId":"BTCUSDT"}}',
        '{"event":"subscribe","arg":{"instType":"usdt-futures","topic":"books","symbol":"BTCUSDT"}}',
        '{"event":"error","code":30001,"msg":"no","arg":{"instType":"USDT-FUTURES","channel":"orders"}}',
        '{"event":{"deep":[1]},"arg":{"instType":"USDT-FUTURES","channel":"books"},"data":[]}',
        '{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"candle1m","instId":"BTCUSDT"},"data":[]}',
        '{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"books5","instId":"BTCUSDT"},"data":[]}',
        '{"action":"snapshot","arg":{"instType":"USDT-FUTURES","channel":"orders-algo","instId":"default"},"data":[]}',
        '{"message":"pong"}',
        "{}",
    ],
)
def test_the_rest_is_ccxts(api: ApiName, text: str) -> None:
    bench = with_book(api)
    assert bench.streams.on_frame(text) is False
    assert bench.heard.take() == []
    assert len(bench.facts(book(api, [], [], pseq=1, seq=2))) == 1


GARBAGE = {
    "empty": "",
    "text": "hello",
    "cut off": '{"action":"update","arg":{"instType":"USDT-FUTURES","channel":"books","instId":"BTCUSDT"},"data":[{"as',
    "list": "[1,2]",
    "number": "17",
    "argument": '{"arg":7,"data":[]}',
    "bytes": b'{"arg":{"channel":"books\xff"}}',
    "surrogate": '{"arg":{"channel":"\ud800"}}',
    "deep": '{"data":' + "[" * 400_000,
    "deep and whole": '{"x":' + "[" * 400_000 + "]" * 400_000 + "}",
    "huge": '{"arg":{"channel":"books"},"data":[' + " " * FRAME_MAX + "]}",
    "number without end": '{"data":[' + "9" * 100_000 + '],"arg":{"channel":' + "9" * 100_000 + "}}",
}


@BOTH
@pytest.mark.parametrize("name", list(GARBAGE))
def test_what_cannot_be_read_was_anything(api: ApiName, name: str) -> None:
    """On the public stream it may have been of the book, on the private one a fill."""
    bench = with_book(api)
    assert bench.streams.on_frame(GARBAGE[name], private=True) is True
    why = "huge" if name == "huge" else "malformed"
    assert bench.heard.take() == [("refused", ("", why))]
    assert len(bench.facts(book(api, [], [], pseq=1, seq=2))) == 1
    assert bench.streams.on_frame(GARBAGE[name], private=False) is True
    assert bench.heard.take() == [("lost", why)]
    bench = with_book(api)
    assert bench.play(GARBAGE[name]) == [("lost", why), ("refused", ("", why))]


# --- trades -----------------------------------------------------------------------------------------------------------


def trade(trade_id: str, ts_ms: int, price: str = "64000.1", size: str = "0.0535", side: str = "buy") -> Json:
    return {"tradeId": trade_id, "price": price, "size": size, "side": side, "ts": str(ts_ms)}


def test_trades_are_told_oldest_first_and_once(bench: Bench) -> None:
    api = bench.api
    history = [trade("2", TS_MS - 1), trade("1", TS_MS - 60_000)]
    assert bench.facts(push(api, "trade", history)) == []  # what is there already on connecting is no news
    rows = [trade("4", TS_MS + 2, side="sell"), trade("3", TS_MS + 1), trade("2", TS_MS - 1)]
    assert bench.facts(push(api, "trade", rows, action="update")) == [
        TradePrint(MONO_NS, TS_NS, TS_NS + 1_000_000, 640_001, 535, Side.BUY),
        TradePrint(MONO_NS, TS_NS, TS_NS + 2_000_000, 640_001, 535, Side.SELL),
    ]
    assert bench.facts(push(api, "trade", rows, action="update")) == []
    bench.streams.reset_public()
    assert bench.facts(push(api, "trade", [trade("5", TS_MS + 3)])) == []
    assert len(bench.facts(push(api, "trade", [trade("6", TS_MS + 4), trade("5", TS_MS + 3)]))) == 1


def test_trades_of_one_moment_are_newest_first_and_others_by_their_time(bench: Bench) -> None:
    rows = [trade("2", TS_MS, price="2"), trade("1", TS_MS, price="1"), trade("3", TS_MS + 1, price="3")]
    assert [fact.px_ticks for fact in bench.facts(push(bench.api, "trade", rows, action="update"))] == [10, 20, 30]


def test_a_first_push_that_is_no_snapshot_is_news(bench: Bench) -> None:
    assert len(bench.facts(push(bench.api, "trade", [trade("1", TS_MS)], action="update"))) == 1


@BOTH
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        *(("price", "64000.15", "off_tick"), ("price", "0", "not_positive"), ("size", "0", "bad_trade")),
        *(("side", "both", "bad_trade"), ("ts", "0", "bad_time"), ("tradeId", "x" * 65, "bad_trade")),
        *(("price", 64000.1, "malformed"), ("size", None, "malformed"), ("size", "-1", "negative")),
    ],
)
def test_a_bad_trade_is_counted_and_costs_no_other(api: ApiName, field: str, value: Any, why: str) -> None:
    bench = Bench(api)
    rows = [trade("3", TS_MS + 1), trade("2", TS_MS) | {field: value}, trade("1", TS_MS)]
    told = bench.play(push(api, "trade", rows, action="update"))
    assert [name for name, _ in told] == ["TradePrint", "TradePrint", "MarketDataRefused"]
    assert told[2][1].reason == why


# --- mark and funding -------------------------------------------------------------------------------------------------


def ticker(**fields: Any) -> Json:
    row = {
        "lastPr": "64000",
        "markPrice": "64000.07",
        "fundingRate": "-0.000096",
        "nextFundingTime": str(TS_MS + 60_000),
    }
    return row | fields


def test_a_ticker_says_mark_and_funding(bench: Bench) -> None:
    first = push(bench.api, "ticker", [ticker()])
    at = (MONO_NS, TS_NS, TS_NS)
    mark = MarkPrice(*at, 640_001)
    assert bench.facts(first) == [mark]  # the interval is not known: half a fact is none
    bench.streams.set_interval_s(28_800)
    funding = FundingRate(*at, -0.000096, TS_NS + 60 * NS, 28_800)
    assert bench.facts(first, first) == [mark, funding, mark]
    bench.now = (MONO_NS + FUNDING_EVERY_NS, TS_NS)
    assert [type(fact) for fact in bench.facts(first)] == [MarkPrice, FundingRate]
    assert [type(fact) for fact in bench.facts(push(bench.api, "ticker", [ticker(fundingRate="0")]))][1] is FundingRate
    with pytest.raises(ValueError, match="interval"):
        bench.streams.set_interval_s(0)


def test_a_ticker_of_its_own_time_is_of_that_time(bench: Bench) -> None:
    """The classic one has it; the unified one has the frame's alone."""
    bench.play(push(bench.api, "ticker", [ticker(ts=str(TS_MS + 5))]))
    told = bench.play(push(bench.api, "ticker", [ticker(markPrice="1")], ts=TS_MS + 4))
    assert [(name, fact.reason) for name, fact in told] == [("MarketDataRefused", "stale")]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        *(({"markPrice": ""}, ["MarketDataRefused"]), ({"markPrice": "0"}, ["MarketDataRefused"])),
        *(({"markPrice": ...}, ["MarketDataRefused"]), ({"markPrice": 64_000.1}, ["MarketDataRefused"])),
        *(({"instId": "ETHUSDT"}, ["MarketDataRefused"]), ({"ts": "9" * 14}, ["MarketDataRefused"])),
        *(
            ({"fundingRate": "1.5"}, ["MarkPrice", "MarketDataRefused"]),
            ({"fundingRate": ...}, ["MarkPrice", "MarketDataRefused"]),
        ),
        ({"nextFundingTime": "0"}, ["MarkPrice", "MarketDataRefused"]),
        ({"ts": str(TS_MS + FUTURE_NS // 1_000_000 + 1)}, ["MarketDataRefused"]),
    ],
)
def test_a_ticker_that_does_not_say_it(bench: Bench, fields: Json, names: list[str]) -> None:
    bench.streams.set_interval_s(28_800)
    row = {key: value for key, value in ticker(**fields).items() if value is not ...}
    assert [name for name, _ in bench.play(push(bench.api, "ticker", [row]))] == names
