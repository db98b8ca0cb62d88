"""The reader of Binance streams: the real recording held to its own figures, each rule on a small one made by hand."""

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.types import E10, Side
from mmdaemon.tapes.binance import BinanceTape
from mmdaemon.tapes.binance_messages import BookTicker, DepthUpdate, Snapshot, parse
from mmdaemon.tapes.playing import Book, Tape
from mmdaemon.tapes.records import Depth, DepthKind, Record, Ticker, Trade
from mmdaemon.tapes.rows import TapeError, raw_lines
from mmdaemon.tapes.steps import Steps

T0_MS = 1_723_161_256_000
SAMPLE = Path("binance_usdm_btcusdt") / "btcusdt_20240808.gz"


def line(message: Mapping[str, object], after_ms: int, late_ns: int = 5_000_000) -> str:
    return f"{(T0_MS + after_ms) * 1_000_000 + late_ns} {json.dumps(message)}"


def update(after_ms: int, u: int, pu: int, *, bids: str = "", asks: str = "", u_first: int | None = None) -> str:
    """A depth update: levels as `px:size` between blanks."""
    at = T0_MS + after_ms
    first = pu + 1 if u_first is None else u_first
    told = {"e": "depthUpdate", "E": at, "T": at, "s": "BTCUSDT", "U": first, "u": u, "pu": pu}
    return line({"stream": "btcusdt@depth", "data": told | {"b": levels(bids), "a": levels(asks)}}, after_ms)


def touch(after_ms: int, u: int, bid: str, ask: str, symbol: str = "BTCUSDT") -> str:
    (b, bid_size), (a, ask_size) = levels(bid)[0], levels(ask)[0]
    at = T0_MS + after_ms
    sides = {"b": b, "B": bid_size, "a": a, "A": ask_size}
    return line({"e": "bookTicker", "u": u, "s": symbol, **sides, "T": at, "E": at}, after_ms)


def trade(after_ms: int, trade_id: int, px: str = "100.1", size: str = "0.5", **more: object) -> str:
    at = T0_MS + after_ms
    told = {"e": "trade", "E": at, "T": at, "s": "BTCUSDT", "t": trade_id, "p": px, "q": size, "X": "MARKET"}
    return line(told | {"m": False} | more, after_ms)


def aggregate(after_ms: int, trade_id: int) -> str:
    at = T0_MS + after_ms
    told = {"e": "aggTrade", "E": at, "T": at, "s": "BTCUSDT", "a": trade_id, "p": "100.1", "q": "0.5"}
    return line(told | {"f": trade_id, "l": trade_id, "m": True}, after_ms)


def snapshot(after_ms: int, u: int, bids: str = "100.0:1 99.9:2", asks: str = "100.1:3 100.2:4") -> str:
    at = T0_MS + after_ms
    return line({"lastUpdateId": u, "E": at, "T": at, "bids": levels(bids), "asks": levels(asks)}, after_ms)


def levels(text: str) -> list[list[str]]:
    return [level.split(":") for level in text.split()]


def write(folder: Path, lines: list[str], end: str = "\n") -> Path:
    path = folder / "btcusdt.gz"
    path.write_bytes(gzip.compress(("\n".join(lines) + end).encode()))
    return path


def tape_of(folder: Path, *lines: str) -> BinanceTape:
    return BinanceTape(write(folder, list(lines)))


def said(records: list[Record]) -> list[str]:
    """Each record as a word: the kind of a message about the book with its best bid in ticks, or the type."""
    words: list[str] = []
    for record in records:
        if isinstance(record, Depth):
            words.append(f"{record.kind} {record.bids[0][0] if record.bids else '-'}")
        else:
            words.append(type(record).__name__)
    return words


# --- the real one -----------------------------------------------------------------------------------------------------


def test_the_recording_is_read_to_the_last_line(shared_data: Path) -> None:
    tape = BinanceTape(shared_data / SAMPLE)
    assert tape.refusals.counts == {}
    facts, instrument = tape.facts, tape.facts.instrument
    assert (instrument.venue, instrument.symbol, instrument.quote) == ("binance_usdm", "BTCUSDT", "USDT")
    assert (instrument.tick_e10, instrument.lot_e10, instrument.min_qty_lots) == (E10 // 10, E10 // 1000, 1)
    assert instrument.min_notional_e10 == 100 * E10
    assert facts.steps_from == facts.minimum_from == "the venue's rule of 2024, not in the recording"
    # The least of local - E is -1,272.548721 ms, and 1 ms is assumed for the fastest message.
    assert facts.clock_shift_ns == 1_273_548_721
    assert facts.clock_from.startswith("local time less the time of sending (E) is -1,272.549 ms at least")
    assert "-1,271.093 ms in its first minute, -1,272.549 ms in its last (5 minutes later)" in facts.clock_from
    assert facts.provenance["lines"] == "6,551 DepthUpdate, 66,089 BookTicker, 21,313 TradeMessage, 1 Snapshot"
    assert facts.provenance["trade ids missing"] == "0"

    records = list(tape.records())
    kinds = Counter(record.kind if isinstance(record, Depth) else type(record).__name__ for record in records)
    # 34 snapshots: the one recorded, and the 33 touches before it, each a book of one level.
    assert kinds == {"touch": 66_056, "Trade": 21_313, "delta": 6_547, "snapshot": 34}
    assert tape.refusals.counts == {"before_snapshot": 4}
    assert (tape.start_ts_ns, tape.end_ts_ns) == (records[0].venue_ts_ns, records[-1].venue_ts_ns)
    assert all(earlier.venue_ts_ns <= later.venue_ts_ns for earlier, later in pairwise(records))
    assert min(record.local_ts_ns + facts.clock_shift_ns - record.venue_ts_ns for record in records) >= 1_000_000


def test_the_merged_book_is_that_of_the_updates_alone_after_each_of_them(shared_data: Path) -> None:
    merged, alone = Book(), Book()
    compared = 0
    for record in BinanceTape(shared_data / SAMPLE).records():
        if not isinstance(record, Depth):
            continue
        if record.kind is DepthKind.TOUCH:
            merged.touch(record.bids, record.asks)
        elif record.kind is DepthKind.SNAPSHOT:
            merged.snapshot(record.bids, record.asks)
            alone.snapshot(record.bids, record.asks)
        else:
            merged.delta(record.bids, record.asks)
            alone.delta(record.bids, record.asks)
            compared += 1
            assert merged.shown() == alone.shown()
    assert compared == 6_547


def test_the_updates_and_the_touch_agree_at_each_update_id(shared_data: Path) -> None:
    """After the update of u, best prices and sizes are those of the last bookTicker with no higher u; and venue time
    never falls where u rises, over both feeds. What the order of the tape rests on."""
    messages = [parse(text)[1] for _, text in raw_lines(shared_data / SAMPLE)]
    books = sorted(
        (message for message in messages if isinstance(message, DepthUpdate | BookTicker)),
        key=lambda message: (message.u, isinstance(message, DepthUpdate)),
    )
    assert all(earlier.at_ms <= later.at_ms for earlier, later in pairwise(books))
    (opening,) = (message for message in messages if isinstance(message, Snapshot))
    bids = {float(px): float(size) for px, size in opening.bids}
    asks = {float(px): float(size) for px, size in opening.asks}
    last: BookTicker | None = None
    agreed = compared = 0
    for message in books:
        if isinstance(message, BookTicker):
            last = message
        elif message.u >= opening.u:
            for side, changes in ((bids, message.bids), (asks, message.asks)):
                for px, size in changes:
                    if float(size):
                        side[float(px)] = float(size)
                    else:
                        side.pop(float(px), None)
            assert last is not None
            best = max(bids), bids[max(bids)], min(asks), asks[min(asks)]
            agreed += best == (float(last.bid), float(last.bid_size), float(last.ask), float(last.ask_size))
            compared += 1
    assert (agreed, compared) == (6_547, 6_547)


def test_trades_come_before_books_of_their_millisecond(shared_data: Path) -> None:
    """The measurement behind the tie: 98.2 % of the first trades of a millisecond and side print at the touch."""
    book: BookUpdate | None = None
    seen: set[tuple[int | None, Side | None]] = set()
    hits = 0
    for event in Tape(BinanceTape(shared_data / SAMPLE)).events():
        if isinstance(event, BookUpdate):
            book = event
            assert book.bids[0][0] < book.asks[0][0]
        elif isinstance(event, TradePrint) and (event.venue_ts_ns, event.aggressor) not in seen:
            assert book is not None
            seen.add((event.venue_ts_ns, event.aggressor))
            hits += event.px_ticks == (book.asks if event.aggressor is Side.BUY else book.bids)[0][0]
    assert hits / len(seen) == pytest.approx(0.982, abs=0.001)


# --- the book ---------------------------------------------------------------------------------------------------------


def test_lines_are_put_in_order_of_venue_time_trades_first_and_then_by_update_id(tmp_path: Path) -> None:
    tape = tape_of(
        tmp_path,
        touch(30, 130, "100.0:5", "100.1:3"),
        update(20, 110, 104, bids="100.0:2"),
        update(30, 120, 110, bids="99.9:7"),
        trade(30, 1),
        snapshot(10, 105),  # comes last, and is of before
    )
    records = list(tape.records())
    assert said(records) == ["snapshot 1000", "delta 1000", "Trade", "delta 999", "touch 1000"]
    assert records[1] == Depth(
        (T0_MS + 20) * 1_000_000, (T0_MS + 20) * 1_000_000 + 5_000_000, DepthKind.DELTA, ((1000, 2000),), ()
    )
    assert tape.start_ts_ns == (T0_MS + 10) * 1_000_000
    assert tape.end_ts_ns == (T0_MS + 30) * 1_000_000
    assert tape.facts.provenance["order"].endswith("comes up to 20 ms after one that is of a later time")
    assert said(list(tape.records())) == said(records)


def test_updates_older_than_the_snapshot_are_dropped_and_the_one_across_it_is_taken(tmp_path: Path) -> None:
    tape = tape_of(
        tmp_path,
        update(0, 99, 90, bids="1.0:1"),
        snapshot(10, 105),
        update(11, 104, 99, bids="1.0:1"),
        update(12, 108, 104, bids="99.9:0", asks="100.2:9"),
    )
    records = list(tape.records())
    assert said(records) == ["snapshot 1000", "delta 999"]
    last = records[-1]
    assert isinstance(last, Depth)
    assert (last.bids, last.asks) == (((999, 0),), ((1002, 9000),))
    assert tape.refusals.counts == {"before_snapshot": 2}


def test_an_update_that_begins_right_after_the_snapshot_continues_it(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 105), update(1, 120, 105, u_first=115, bids="99.0:1"))
    assert said(list(tape.records())) == ["snapshot 1000", "delta 990"]
    assert tape.refusals.counts == {}


def test_in_a_gap_the_touch_alone_is_the_book_until_the_next_snapshot(tmp_path: Path) -> None:
    tape = tape_of(
        tmp_path,
        snapshot(0, 100),
        update(1, 110, 100, bids="99.0:1"),
        touch(2, 111, "100.0:6", "100.1:3"),
        update(3, 130, 120, bids="98.0:1"),  # 111 to 120 are missing
        update(4, 140, 130, bids="97.0:1"),
        touch(5, 141, "99.5:1", "100.1:3"),
        snapshot(6, 150, bids="99.5:1 99.4:1"),
        update(7, 160, 149, bids="99.4:8"),
    )
    records = list(tape.records())
    assert said(records) == [
        "snapshot 1000",
        "delta 990",
        "touch 1000",
        "snapshot 1000",
        "snapshot 995",
        "snapshot 995",
        "delta 994",
    ]
    alone = records[3]
    assert isinstance(alone, Depth)
    assert (alone.bids, alone.asks) == (((1000, 6000),), ((1001, 3000),))
    assert alone.venue_ts_ns == (T0_MS + 3) * 1_000_000
    assert tape.refusals.counts == {"gap": 1, "after_gap": 1}
    assert tape.refusals.described[0] == (
        "btcusdt.gz row 4: gap: update 130 follows 120, and 110 was the last: some are missing"
    )
    books = [event for event in Tape(tape).events() if isinstance(event, BookUpdate)]
    assert [len(book.bids) for book in books] == [2, 3, 3, 1, 1, 2, 2]


def test_a_gap_right_after_the_snapshot_is_one(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 100), update(1, 120, 110, bids="99.0:1"))
    assert said(list(tape.records())) == ["snapshot 1000"]
    assert tape.refusals.counts == {"gap": 1}


def test_an_update_that_overlaps_the_one_before_breaks_the_sequence(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 100), update(1, 110, 99), update(2, 120, 105, bids="99.0:1"))
    assert said(list(tape.records())) == ["snapshot 1000", "delta -"]
    assert tape.refusals.counts == {"gap": 1}


def test_an_update_that_cannot_be_told_leaves_a_gap(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 100), update(1, 110, 100, bids="99.05:1"), update(2, 120, 110, bids="99.0:1"))
    assert said(list(tape.records())) == ["snapshot 1000"]
    assert tape.refusals.counts == {"off_tick": 1, "after_gap": 1}


def test_a_touch_older_than_the_depth_is_stale(tmp_path: Path) -> None:
    tape = tape_of(
        tmp_path,
        snapshot(0, 100),
        update(5, 110, 100, bids="100.0:4"),
        touch(6, 105, "99.0:1", "100.1:3"),
        touch(7, 120, "100.0:5", "100.1:3"),
        update(7, 120, 110, bids="100.0:5"),
    )
    assert said(list(tape.records())) == ["snapshot 1000", "delta 1000", "delta 1000", "touch 1000"]
    assert tape.refusals.counts == {"stale_touch": 1}


def test_depth_older_than_the_touch_does_not_undo_it(tmp_path: Path) -> None:
    tape = tape_of(
        tmp_path,
        snapshot(0, 100),
        touch(5, 120, "99.8:1", "100.1:3"),
        update(6, 110, 100, bids="100.0:4 99.7:1"),
    )
    assert said(list(tape.records())) == ["snapshot 1000", "touch 998", "delta 1000", "touch 998"]
    last = [event for event in Tape(tape).events() if isinstance(event, BookUpdate)][-1]
    assert last.bids == ((998, 1000), (997, 1000))


def test_a_touch_of_one_side_leaves_the_other_empty(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 100), touch(5, 101, "100.0:1", "0.0:0.000"))
    last = list(tape.records())[-1]
    assert isinstance(last, Depth)
    assert (last.bids, last.asks) == (((1000, 1000),), ())


def test_a_recording_without_snapshot_is_its_touch(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, touch(0, 1, "100.0:1", "100.1:1"), update(1, 5, 3, bids="99.0:1"), trade(2, 1))
    assert said(list(tape.records())) == ["snapshot 1000", "Trade"]
    assert tape.refusals.counts == {"before_snapshot": 1}
    assert tape.facts.provenance["book"].startswith("no depth snapshot, so updates have nothing to change")


def test_a_recording_without_touch_is_its_depth(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 100), update(50, 110, 99, bids="100.0:4"))
    assert said(list(tape.records())) == ["snapshot 1000", "delta 1000"]
    assert tape.facts.provenance["book"] == (
        "1 depth snapshot, an update every 50 ms; no bookTicker, so the touch is that of the depth"
    )


# --- trades, mark and clock -------------------------------------------------------------------------------------------


def test_a_trade_says_who_took_and_what_is_no_print_is_dropped(tmp_path: Path) -> None:
    tape = tape_of(
        tmp_path,
        snapshot(0, 100),
        trade(1, 7, "100.00", "0.012", m=True),
        trade(2, 8, X="INSURANCE_FUND"),
        trade(3, 9, "0", "0", X="NA"),
        trade(4, 12),
    )
    trades = [record for record in tape.records() if isinstance(record, Trade)]
    assert [(t.px_ticks, t.qty_lots, t.aggressor, t.trade_id) for t in trades] == [
        (1000, 12, Side.SELL, "7"),
        (1001, 500, Side.BUY, "12"),
    ]
    assert tape.refusals.counts == {"not_market": 2}
    assert tape.facts.provenance["trade ids missing"] == "2"


def test_aggregates_are_read_only_where_there_are_no_trades(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 100), aggregate(1, 70), trade(1, 7), aggregate(2, 71))
    assert [t.trade_id for t in tape.records() if isinstance(t, Trade)] == ["7"]
    assert tape.refusals.counts == {"kind_aggTrade": 2}
    tape = tape_of(tmp_path, snapshot(0, 100), aggregate(1, 70), aggregate(2, 71), aggregate(3, 75))
    assert [(t.trade_id, t.aggressor) for t in tape.records() if isinstance(t, Trade)] == [
        ("70", Side.SELL),
        ("71", Side.SELL),
        ("75", Side.SELL),
    ]
    assert tape.facts.provenance["trade ids missing"] == "3"


def test_mark_and_funding_are_told_as_written(tmp_path: Path) -> None:
    mark = {"e": "markPriceUpdate", "E": T0_MS + 3, "s": "BTCUSDT", "p": "100.05123", "i": "100.04", "P": "100.1"}
    mark |= {"r": "0.00010000", "T": T0_MS + 60_000}
    tape = tape_of(tmp_path, snapshot(0, 100), line(mark, 3))
    assert list(tape.records())[-1] == Ticker(
        (T0_MS + 3) * 1_000_000,
        (T0_MS + 3) * 1_000_000 + 5_000_000,
        funding_ts_ns=(T0_MS + 60_000) * 1_000_000,
        funding_rate="0.00010000",
        index_px="100.04",
        mark_px="100.05123",
    )


def test_a_clock_that_was_behind_is_put_right_and_one_that_was_not_is_left(tmp_path: Path) -> None:
    late = tape_of(tmp_path, touch(0, 1, "100.0:1", "100.1:1"))
    assert late.facts.clock_shift_ns == 0
    assert late.facts.clock_from.startswith("as recorded, not corrected: local time less the time of sending is 5.000")
    lines = [line({"e": "bookTicker", "u": 1, "s": "BTCUSDT", "E": T0_MS, "T": T0_MS} | TOUCH, 0, -2_000_000_000)]
    behind = tape_of(tmp_path, *lines, touch(1, 2, "100.0:1", "100.1:1"))
    assert behind.facts.clock_shift_ns == 2_001_000_000


TOUCH = {"b": "100.0", "B": "1", "a": "100.1", "A": "1"}

# --- steps ------------------------------------------------------------------------------------------------------------


def test_steps_of_a_symbol_that_is_not_known_are_inferred_and_given_ones_go_first(tmp_path: Path) -> None:
    path = write(tmp_path, [touch(i, i, f"{10 + i / 100:.2f}:{i}", f"{11 + i / 100:.2f}:3", "XYZUSDT") for i in (1, 2)])
    instrument = BinanceTape(path).facts.instrument
    assert (instrument.symbol, instrument.quote, instrument.tick_e10, instrument.lot_e10) == (
        "XYZUSDT",
        "USDT",
        E10 // 100,
        E10,
    )
    assert BinanceTape(path).facts.steps_from.startswith("tick inferred from 4 distinct prices (few")
    assert "minute later" not in BinanceTape(path).facts.clock_from
    given = BinanceTape(path, Steps(tick_e10=E10 // 1000, lot_e10=E10 // 10))
    assert (given.facts.instrument.tick_e10, given.facts.steps_from) == (E10 // 1000, "given")
    first = next(given.records())
    assert isinstance(first, Depth)
    assert first.bids == ((10_010, 10),)


def test_one_damaged_price_makes_no_tick_and_is_named(tmp_path: Path) -> None:
    quotes = [touch(i, i + 1, f"{2_000 + i / 10:.1f}:1", f"{3_000 + i / 10:.1f}:1", "ETHUSDT") for i in range(1_200)]
    path = write(tmp_path, [*quotes, touch(1_200, 1_201, "2000.123:1", "3000.2:1", "ETHUSDT")])
    tape = BinanceTape(path)
    assert tape.facts.instrument.tick_e10 == E10 // 10
    assert "tick inferred from 2,401 distinct prices, but for 1 off it" in tape.facts.steps_from
    with pytest.raises(TapeError, match=r"btcusdt\.gz row 1201: off_tick: 2000\.123 .*give the tick of the venue"):
        list(tape.records())
    given = BinanceTape(path, Steps(tick_e10=E10 // 10))
    assert len(list(given.records())) == 1_200
    assert given.refusals.counts == {"off_tick": 1}


# --- lines that are dropped -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("garbage", "bad_time"),
        ("", "bad_time"),
        ('1723161256 {"e":"trade"}', "bad_time"),
        (line({}, 0)[:20] + "{not json", "bad_json"),
        (line({}, 0)[:20] + '{"e":"\udcff"}', "bad_json"),
        (line({}, 0)[:20] + "[" * 5000, "bad_shape"),
        (line({}, 0)[:20] + '{"data":' + "[" * 5000, "bad_json"),
        (line({"e": "trade", "T": "x"}, 5), "bad_shape"),
        (line({"e": "depthUpdate", "E": T0_MS, "T": T0_MS, "s": "BTCUSDT", "U": 1, "u": 2}, 5), "bad_shape"),
        (line({"lastUpdateId": 101, "bids": [], "asks": []}, 5), "bad_shape"),
        (line({"result": None, "id": 1}, 5), "kind_unnamed"),
        (line({"stream": "x", "data": {"e": "forceOrder", "E": T0_MS}}, 5), "kind_forceOrder"),
        (line({"e": "no kind, but text"}, 5), "kind_unnamed"),
        (trade(5, 1), "duplicate"),
        (trade(5, 0), "out_of_order"),
        (trade(-5, 2), "out_of_order"),
        (trade(5, 2, "100.05"), "off_tick"),
        (trade(5, 2, "nan"), "bad_number"),
        (trade(5, 2, "100.1", "-1"), "bad_number"),
        (trade(5, 2, "100.1", "0.0001"), "off_lot"),
        (trade(5, 2, E=T0_MS + 61_000), "bad_time"),
        (trade(-61_000, 2).replace(str(T0_MS - 60_995), str(T0_MS)), "bad_time"),
        (touch(5, 101, "100.2:1", "100.1:1"), "crossed"),
        (touch(5, 101, "0:1", "100.1:1"), "bad_number"),
        (snapshot(5, 99), "out_of_order"),
        (snapshot(5, 101, bids="100.0:1 100.0:1"), "unsorted"),
        (snapshot(5, 101, asks="100.2:1 100.1:1"), "unsorted"),
        (snapshot(5, 101, asks="99.0:1"), "crossed"),
        (snapshot(5, 101, asks="101.0:0"), "bad_number"),
    ],
)
def test_a_bad_line_is_dropped_counted_and_named(tmp_path: Path, bad: str, reason: str) -> None:
    path = tmp_path / "btcusdt.txt"
    path.write_text(
        "\n".join([snapshot(0, 100), trade(2, 1), bad, trade(9, 3)]) + "\n", encoding="utf-8", errors="surrogateescape"
    )
    tape = BinanceTape(path)
    assert said(list(tape.records())) == ["snapshot 1000", "Trade", "Trade"]
    assert tape.refusals.counts == {reason: 1}
    assert tape.refusals.described[0].startswith(f"btcusdt.txt row 3: {reason}: ")
    assert len(tape.refusals.described[0]) < 300


def test_a_stale_snapshot_does_not_undo_the_depth(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, snapshot(0, 100), update(1, 120, 100, bids="99.0:1"), snapshot(2, 110, bids="98.0:1"))
    assert said(list(tape.records())) == ["snapshot 1000", "delta 990"]
    assert tape.refusals.counts == {"stale_snapshot": 1}


def test_local_time_that_falls_is_kept_as_recorded(tmp_path: Path) -> None:
    lines = [snapshot(0, 100), trade(1, 1), trade(2, 2).replace(str(T0_MS + 7), str(T0_MS - 35))]
    tape = tape_of(tmp_path, *lines)
    assert [record.local_ts_ns // 1_000_000 - T0_MS for record in tape.records()] == [5, 6, -35]


def test_files_that_go_on_where_another_ended_are_read_as_one_whatever_their_order(tmp_path: Path) -> None:
    first = write(tmp_path, [snapshot(0, 100), update(1, 110, 100, bids="99.0:1"), trade(2, 1)])
    second = tmp_path / "a.txt"
    second.write_text("\n".join([update(11, 120, 110, bids="98.0:1"), trade(12, 2), "bad"]) + "\n", encoding="ascii")
    tape = BinanceTape([second, first])
    assert said(list(tape.records())) == ["snapshot 1000", "delta 990", "Trade", "delta 980", "Trade"]
    assert tape.refusals.described[0].startswith("a.txt row 3: bad_time")
    assert tape.end_ts_ns == (T0_MS + 12) * 1_000_000


def test_a_last_line_that_is_cut_off_is_dropped_and_a_whole_one_without_end_is_not(tmp_path: Path) -> None:
    lines = [snapshot(0, 100), trade(1, 1), trade(2, 2)]
    whole = BinanceTape(write(tmp_path, lines, end=""))
    assert said(list(whole.records())) == ["snapshot 1000", "Trade", "Trade"]
    cut = BinanceTape(write(tmp_path, [*lines[:2], lines[2][:-9]], end=""))
    assert said(list(cut.records())) == ["snapshot 1000", "Trade"]
    assert cut.refusals.counts == {"cut_off": 1}


# --- files that cannot be used ----------------------------------------------------------------------------------------


def test_a_file_of_several_symbols_must_be_told_which(tmp_path: Path) -> None:
    path = write(
        tmp_path, [touch(0, 1, "100.0:1", "100.1:1"), touch(1, 2, "9.0:1", "9.1:1", "XYZUSDT"), snapshot(2, 100)]
    )
    with pytest.raises(TapeError, match=r"of several symbols \(BTCUSDT, XYZUSDT\); give --symbol"):
        BinanceTape(path)
    tape = BinanceTape(path, Steps(symbol="BTCUSDT"))
    assert said(list(tape.records())) == ["snapshot 1000"]
    assert tape.refusals.counts == {"other_symbol": 1, "no_symbol": 1}
    with pytest.raises(TapeError, match=r"no message of ETHUSDT that can be used .*other_symbol: 'BTCUSDT'"):
        BinanceTape(write(tmp_path, [touch(0, 1, "100.0:1", "100.1:1")]), Steps(symbol="ETHUSDT"))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], r"no message( of BTCUSDT)? that can be used .*row 1: bad_time"),
        (["timestamp,price,size"], r"row 1: bad_time: a line begins with local time in ns .*recorded"),
        ([line({"e": "kline", "E": T0_MS}, 0)], r"kind_kline"),
        ([trade(0, 1), update(1, 2, 1, bids="1.0:1")], r"neither a depth snapshot nor a bookTicker.*record bookTicker"),
        ([snapshot(0, 1)], r"no message( of BTCUSDT)? that can be used"),
        ([touch(0, 1, "100.2:1", "100.1:1")], r"no message( of BTCUSDT)? that can be used .*row 1: crossed"),
    ],
)
def test_a_file_without_a_book_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(TapeError, match=rf"btcusdt\.gz: .*{message}"):
        BinanceTape(write(tmp_path, lines))


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "btcusdt.gz"
    with pytest.raises(TapeError, match=r"btcusdt\.gz: cannot be read \(No such file"):
        BinanceTape(path)
    path.write_bytes(b"")
    with pytest.raises(TapeError, match="empty, or no line says its symbol"):
        BinanceTape(path)


def test_a_file_that_breaks_off_is_refused_at_opening_and_later_while_playing(tmp_path: Path) -> None:
    path = write(tmp_path, [touch(i, i, f"100.0:{1 + i % 7}", "100.1:1") for i in range(1, 3000)])
    tape = BinanceTape(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TapeError, match=r"btcusdt\.gz: broken off or damaged after row \d+ .*copy it"):
        BinanceTape(path)
    with pytest.raises(TapeError, match="broken off"):
        list(tape.records())
