"""The reader of Hyperliquid recordings: the real one to the last row, and each defect on a small one made by hand."""

import gzip
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from mmdaemon.core.events import BookUpdate, MarketEvent, SourceEnded, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.tapes.hyperliquid import BOOKS, PRICES, TRADES, HyperliquidTape
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.records import Depth, DepthKind, Record, Trade
from mmdaemon.tapes.rows import TapeError
from mmdaemon.venues.base import MarketSource

T0_MS = 1_757_015_216_000


def book_row(
    after_ms: int, bid: int = 100, ask: int = 101, local: str | None = None, cells: dict[str, str] | None = None
) -> str:
    """A snapshot `after_ms` the start, received 300 ms later. `cells` replaces those of their columns."""
    at = T0_MS + after_ms
    row = {"timestamp": local or f"{(at + 300) / 1000:.3f}", "sequence": str(at), "exchange_timestamp": str(at)}
    for i in range(20):
        row |= {f"bid_price_{i}": f"{bid - i}.0", f"bid_size_{i}": "1.5"}
        row |= {f"ask_price_{i}": f"{ask + i}.0", f"ask_size_{i}": "2.0"}
    row |= cells or {}
    return ",".join(row[column] for column in BOOKS.split(","))


def trade_row(after_ms: int, trade_id: str, price: str = "101.0", size: str = "0.5", side: str = "buy") -> str:
    at = T0_MS + after_ms
    return f"{(at + 300) / 1000:.3f},{price},{size},{side},{trade_id},{at}"


def touch_rows(after_ms: int, bid: str, ask: str, bid_size: str = "0.7", ask_size: str = "0.8") -> list[str]:
    at = T0_MS + after_ms
    local = f"{(at + 300) / 1000:.3f}"
    return [f"{local},{bid},{bid_size},bid,{at}", f"{local},{ask},{ask_size},ask,{at}"]


def write(folder: Path, name: str, columns: str, rows: list[str], end: str = "\r\n") -> Path:
    path = folder / f"{name}.csv.gz"
    path.write_bytes(gzip.compress(("\r\n".join([columns, *rows]) + end).encode()))
    return path


def tape_of(
    folder: Path,
    books: list[str] | None = None,
    trades: list[str] | None = None,
    touches: list[str] | None = None,
) -> Tape:
    write(folder, "orderbooks_BTC", BOOKS, books or [book_row(0), book_row(500)])
    write(folder, "trades_BTC", TRADES, trades or [trade_row(100, "1")])
    if touches is not None:
        write(folder, "prices_BTC", PRICES, touches)
    return open_tape(folder)


def play(tape: Tape) -> list[MarketEvent]:
    return list(tape.events())


def kinds(events: list[MarketEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


# --- the real one -----------------------------------------------------------------------------------------------------


def test_the_recording_is_read_to_the_last_row(shared_data: Path) -> None:
    tape = open_tape(shared_data / "hyperliquid_btc")
    source: MarketSource = tape
    assert source.start_ts_ns == 1_757_015_216_253_000_000
    assert (source.instrument.tick_e10, source.instrument.lot_e10) == (10**10, 10**5)
    events = play(tape)
    # 6,675 trades less 30 of history; 3,785 snapshots less 3 repeats, and the touch changes that they had not told.
    assert Counter(kinds(events)) == {"BookUpdate": 15_434, "TradePrint": 6_645, "SourceEnded": 1}
    assert tape.refused == {"history": 30, "duplicate": 3}
    assert "orderbooks_BTC.csv.gz row 1405: duplicate: sequence 1757016001526 was there before" in tape.defects
    first, last = events[0], events[-1]
    assert isinstance(first, BookUpdate)
    assert first.ts_ns == 1_757_015_216_673_878_000
    assert first.bids[0] == (109_755, 324_457)
    assert first.asks[0] == (109_756, 1_517_236)
    assert first.bids[19] == (109_734, 205_469)
    assert (last.ts_ns, last.venue_ts_ns) == (1_757_017_305_077_605_500, 1_757_017_304_665_000_000)
    for earlier, later in pairwise(events):
        assert earlier.ts_ns <= later.ts_ns
        assert (earlier.venue_ts_ns or 0) <= (later.venue_ts_ns or 0)
    for event in events:
        if isinstance(event, BookUpdate):
            assert event.bids[0][0] < event.asks[0][0]
            assert all(above[0] > below[0] for above, below in pairwise(event.bids))
            assert all(below[0] < above[0] for below, above in pairwise(event.asks))
    assert tape.provenance["rows"] == "3,785 orderbooks, 6,675 trades, 27,792 prices"
    assert tape.provenance["local minus exchange clock"].startswith("179 ms least, 362 ms median")
    assert tape.provenance["dropped"] == "3 duplicate, 30 history"
    assert tape.provenance["holes in the book"] == "1 over 5 s, the longest 18.0 s"
    assert tape.provenance["local times raised"] == "1,728"
    assert kinds(events[:200]) == kinds(play(tape)[:200])
    assert tape.refused == {"history": 30, "duplicate": 3}


def share_at_touch(events: list[MarketEvent]) -> float:
    """Of the first trades of each block and side, how many print at the touch of the book before them."""
    book: BookUpdate | None = None
    seen: set[tuple[int | None, Side | None]] = set()
    hits = 0
    for event in events:
        if isinstance(event, BookUpdate):
            book = event
        elif isinstance(event, TradePrint) and (event.venue_ts_ns, event.aggressor) not in seen:
            assert book is not None
            seen.add((event.venue_ts_ns, event.aggressor))
            hits += event.px_ticks == (book.asks if event.aggressor is Side.BUY else book.bids)[0][0]
    return hits / len(seen)


def test_touch_changes_make_the_book_agree_with_the_trades(shared_data: Path, tmp_path: Path) -> None:
    """The measurement behind the merge: 95.9 % with, 86.9 % without."""
    for name in ("orderbooks_BTC.csv.gz", "trades_BTC.csv.gz"):
        (tmp_path / name).symlink_to(shared_data / "hyperliquid_btc" / name)
    without = open_tape(tmp_path)
    assert "no file of touch changes" in without.provenance["rows"]
    assert share_at_touch(play(without)) == pytest.approx(0.869, abs=0.001)
    assert share_at_touch(play(open_tape(shared_data / "hyperliquid_btc"))) == pytest.approx(0.959, abs=0.001)


def test_records_are_as_recorded_and_in_order(tmp_path: Path) -> None:
    """Not merged, not corrected: that is left to whoever plays them."""
    trades = [trade_row(-1, "1"), trade_row(500, "2", "100.0", "0.5", "sell")]
    touches = touch_rows(-50, "99.0", "100.0") + touch_rows(0, "100.0", "101.0", "1.5", "2.0")
    touches += touch_rows(200, "102.0", "104.0") + touch_rows(300, "102.0", "104.0") + touch_rows(500, "99.0", "101.0")
    tape_of(tmp_path, books=[book_row(0), book_row(500, local="1757015216.1")], trades=trades, touches=touches)
    recording = HyperliquidTape(tmp_path, "BTC")
    assert recording.refusals.counts == {}
    first, touch, trade, last = list(recording.records())
    assert [at(record) for record in (first, touch, trade, last)] == [(0, 300), (200, 500), (500, 800), (500, 100)]
    assert isinstance(first, Depth)
    assert (first.kind, len(first.bids), len(first.asks)) == (DepthKind.SNAPSHOT, 20, 20)
    assert isinstance(touch, Depth)
    assert (touch.kind, touch.bids, touch.asks) == (DepthKind.TOUCH, ((102, 70_000),), ((104, 80_000),))
    assert isinstance(trade, Trade)
    assert (trade.px_ticks, trade.qty_lots, trade.aggressor, trade.trade_id) == (100, 50_000, Side.SELL, "2")
    assert isinstance(last, Depth)
    assert last.kind is DepthKind.SNAPSHOT
    assert recording.refusals.counts == {"before_first_book": 1, "history": 1, "disagrees": 1}
    assert (recording.start_ts_ns, recording.end_ts_ns) == (T0_MS * 1_000_000, (T0_MS + 500) * 1_000_000)
    assert (recording.facts.clock_shift_ns, recording.facts.book_lag_ns) == (0, 0)


def at(record: Record) -> tuple[int, int]:
    """Venue and local time, in ms since the start."""
    return record.venue_ts_ns // 1_000_000 - T0_MS, record.local_ts_ns // 1_000_000 - T0_MS


# --- order and the touch ----------------------------------------------------------------------------------------------


def test_trades_come_before_books_of_their_time_and_history_is_dropped(tmp_path: Path) -> None:
    trades = [trade_row(-1, "1"), trade_row(0, "2"), trade_row(500, "3"), trade_row(600, "4", "100.0", "1e-05", "sell")]
    tape = tape_of(tmp_path, trades=trades, books=[book_row(0), book_row(500), book_row(900)])
    events = play(tape)
    assert kinds(events) == ["BookUpdate", "TradePrint", "BookUpdate", "TradePrint", "BookUpdate", "SourceEnded"]
    assert tape.refused == {"history": 2}  # the trade at the time of the first book precedes it
    last = events[3]
    assert isinstance(last, TradePrint)
    assert (last.px_ticks, last.qty_lots, last.aggressor) == (100, 1, Side.SELL)
    assert last.ts_ns == (T0_MS + 900) * 1_000_000


def test_a_touch_change_replaces_the_touch_and_keeps_what_does_not_contradict_it(tmp_path: Path) -> None:
    touches = touch_rows(0, "100.0", "101.0", "1.5", "2.0")  # what the snapshot says already
    touches += touch_rows(100, "102.0", "104.0") + touch_rows(200, "97.0", "98.0")
    tape = tape_of(tmp_path, books=[book_row(0), book_row(500)], touches=touches)
    books = [event for event in play(tape) if isinstance(event, BookUpdate)]
    assert len(books) == 4
    assert books[1].bids[:3] == ((102, 70_000), (100, 150_000), (99, 150_000))
    assert books[1].asks[:2] == ((104, 80_000), (105, 200_000))
    assert len(books[1].bids) == 20
    assert books[2].bids[:2] == ((97, 70_000), (96, 150_000))
    assert books[2].asks[:2] == ((98, 80_000), (104, 80_000))
    assert books[3].bids == books[0].bids
    assert tape.refused == {}


def test_local_time_never_falls_and_is_exact(tmp_path: Path) -> None:
    books = [
        book_row(0, local="1757015216.1234567"),
        book_row(500, local="1757015220.9"),
        book_row(900, local="1757015219"),
    ]
    tape = tape_of(tmp_path, books=books)
    assert [e.ts_ns - 1_757_015_216 * NS for e in play(tape) if isinstance(e, BookUpdate)] == [
        123_456_700,
        4_900_000_000,
        4_900_000_000,
    ]
    assert tape.provenance["local times raised"] == "1"


# --- rows that are dropped --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"bid_price_3": "NaN"}, "bad_number"),
        ({"bid_price_3": "inf"}, "bad_number"),
        ({"ask_size_0": "0.0"}, "bad_number"),
        ({"ask_size_0": "-1.0"}, "bad_number"),
        ({"ask_size_19": ""}, "bad_number"),
        ({"ask_size_0": "1_0"}, "bad_number"),
        ({"sequence": "x"}, "bad_number"),
        ({"ask_price_0": "101.5"}, "off_tick"),
        ({"bid_size_0": "1.000001"}, "off_lot"),
        ({"bid_price_0": "102.0"}, "crossed"),
        ({"bid_price_2": "99.0"}, "unsorted"),
        ({"ask_price_1": "101.0"}, "unsorted"),
        ({"sequence": str(T0_MS)}, "duplicate"),
        ({"sequence": str(T0_MS - 1)}, "out_of_order"),
        ({"exchange_timestamp": str(T0_MS - 1)}, "out_of_order"),
        ({"exchange_timestamp": "1757015216.1"}, "bad_time"),
        ({"timestamp": "1757015216.1234567890"}, "bad_time"),
        ({"timestamp": "nan"}, "bad_time"),
    ],
)
def test_a_bad_snapshot_is_dropped_counted_and_named(tmp_path: Path, cells: dict[str, str], reason: str) -> None:
    tape = tape_of(tmp_path, books=[book_row(0), book_row(500, cells=cells), book_row(900)])
    events = play(tape)
    assert [e.venue_ts_ns for e in events if isinstance(e, BookUpdate)] == [
        T0_MS * 1_000_000,
        (T0_MS + 900) * 1_000_000,
    ]
    assert tape.refused == {reason: 1}
    assert tape.defects[0].startswith(f"orderbooks_BTC.csv.gz row 3: {reason}: ")
    assert tape.provenance["dropped"] == f"1 {reason}"


def test_a_locked_book_is_kept(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, books=[book_row(0, bid=100, ask=100)])
    assert kinds(play(tape)) == ["BookUpdate", "TradePrint", "SourceEnded"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (trade_row(200, "1"), "duplicate"),
        (trade_row(200, "2", price="nan"), "bad_number"),
        (trade_row(200, "2", price="101.1"), "off_tick"),
        (trade_row(200, "2", size="0"), "bad_number"),
        (trade_row(200, "2", size="0.000001"), "off_lot"),
        (trade_row(200, "2", side="both"), "bad_side"),
        (trade_row(50, "2"), "out_of_order"),
        (trade_row(200, "2") + ",extra", "wrong_columns"),
        ("", "wrong_columns"),
    ],
)
def test_a_bad_trade_is_dropped_counted_and_named(tmp_path: Path, row: str, reason: str) -> None:
    tape = tape_of(tmp_path, trades=[trade_row(100, "1"), row, trade_row(300, "3")])
    assert [e.venue_ts_ns for e in play(tape) if isinstance(e, TradePrint)] == [
        (T0_MS + 100) * 1_000_000,
        (T0_MS + 300) * 1_000_000,
    ]
    assert tape.refused == {reason: 1}
    assert tape.defects[0].startswith(f"trades_BTC.csv.gz row 3: {reason}: ")


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (touch_rows(-100, "99.0", "100.0"), "before_first_book"),
        (touch_rows(100, "102.0", "101.0"), "crossed"),
        (touch_rows(100, "99.5", "101.0"), "off_tick"),
        (touch_rows(100, "99.0", "101.0")[:1], "unpaired"),
        (touch_rows(100, "99.0", "101.0")[1:], "unpaired"),
        ([touch_rows(100, "99.0", "101.0")[0], touch_rows(101, "99.0", "101.0")[1]], "unpaired"),
        (touch_rows(500, "99.0", "101.0"), "disagrees"),
    ],
)
def test_a_bad_touch_change_is_dropped_counted_and_named(tmp_path: Path, rows: list[str], reason: str) -> None:
    tape = tape_of(tmp_path, touches=rows)
    assert kinds(play(tape)) == ["BookUpdate", "TradePrint", "BookUpdate", "SourceEnded"]
    assert set(tape.refused) == {reason}
    assert tape.defects[0].startswith("prices_BTC.csv.gz row ")


def test_a_last_row_without_its_end_is_not_believed(tmp_path: Path) -> None:
    tape_of(tmp_path)
    write(tmp_path, "trades_BTC", TRADES, [trade_row(100, "1"), trade_row(200, "2")], end="")
    tape = open_tape(tmp_path)
    assert kinds(play(tape)).count("TradePrint") == 1
    assert tape.refused == {"cut_off": 1}


# --- files that cannot be used ----------------------------------------------------------------------------------------


def test_a_file_that_breaks_off_is_refused_at_opening(tmp_path: Path) -> None:
    tape_of(tmp_path, books=[book_row(i) for i in range(0, 100_000, 500)])
    path = tmp_path / "orderbooks_BTC.csv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TapeError, match=r"orderbooks_BTC\.csv\.gz: broken off or damaged after row \d+ .*copy it"):
        open_tape(tmp_path)


def test_a_file_that_breaks_off_later_raises_before_the_end(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, books=[book_row(i) for i in range(0, 100_000, 500)])
    path = tmp_path / "orderbooks_BTC.csv.gz"
    path.write_bytes(path.read_bytes()[:-6])  # all rows are there, their checksum is not
    seen: list[MarketEvent] = []

    def note() -> None:
        for event in tape.events():
            seen.append(event)  # noqa: PERF402 - what came before the break is wanted

    with pytest.raises(TapeError, match="broken off"):
        note()
    assert seen
    assert not any(isinstance(event, SourceEnded) for event in seen)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    tape_of(tmp_path, books=[book_row(i) for i in range(0, 100_000, 500)])
    path = tmp_path / "orderbooks_BTC.csv.gz"
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 0xFF  # within the checksum
    path.write_bytes(damaged)
    with pytest.raises(TapeError, match="not a whole gzip file after row 201"):
        open_tape(tmp_path)


def test_other_columns_below_a_known_name_are_refused(tmp_path: Path) -> None:
    tape_of(tmp_path)
    write(tmp_path, "trades_BTC", TRADES.replace("side", "maker"), [trade_row(100, "1")])
    with pytest.raises(TapeError, match=r"trades_BTC\.csv\.gz row 1: columns are .*maker.*expected"):
        open_tape(tmp_path)


def test_no_rows_and_no_bytes_are_refused(tmp_path: Path) -> None:
    tape_of(tmp_path)
    write(tmp_path, "trades_BTC", TRADES, [])
    with pytest.raises(TapeError, match=r"trades_BTC\.csv\.gz: no rows below the header"):
        open_tape(tmp_path)
    (tmp_path / "trades_BTC.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(TapeError, match=r"trades_BTC\.csv\.gz: the file is empty"):
        open_tape(tmp_path)
