"""The reader of StandX recordings: the real day to the last row, and each defect on small files made by hand."""

import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdaemon.core.types import NS, Side
from mmdaemon.tapes.records import Depth, DepthKind, Record, Recording, Trade
from mmdaemon.tapes.rows import KEPT_PER_REASON, TapeError
from mmdaemon.tapes.standx import StandxTape
from mmdaemon.tapes.standx_hours import BOOKS, TRADES, kind_of

T0 = datetime(2026, 1, 6, 10, tzinfo=UTC)
T0_MS = 1_767_693_600_000
STAMP = pa.timestamp("ns", "UTC")
PRICES = pa.list_(pa.float64())
BOOK_SCHEMA = pa.schema(
    [
        *[("timestamp", STAMP), ("received_at", STAMP), ("symbol", pa.string())],
        *[(name, PRICES) for name in ("bid_prices", "bid_quantities", "ask_prices", "ask_quantities")],
        *[(name, pa.float64()) for name in ("best_bid", "best_ask", "spread", "mid_price")],
        ("is_valid", pa.bool_()),
    ]
)
TRADE_SCHEMA = pa.schema(
    [
        *[("timestamp", STAMP), ("received_at", STAMP), ("symbol", pa.string()), ("price", pa.float64())],
        *[("quantity", pa.float64()), ("quote_quantity", pa.null()), ("side", pa.string())],
        ("is_buyer_taker", pa.bool_()),
    ]
)

Row = dict[str, Any]


def after(ms: int) -> datetime:
    return T0 + timedelta(milliseconds=ms)


def book(ms: int, bid: float = 90_000.1, ask: float = 90_000.2, size: float = 0.0123, **other: Any) -> Row:
    """A snapshot `ms` after 10:00, received 300 ms later. `other` replaces whole columns."""
    row: Row = {"timestamp": after(ms), "received_at": after(ms + 300), "symbol": "BTC-USD", "is_valid": True}
    row |= {"bid_prices": [round(bid - i / 10, 1) for i in range(20)], "bid_quantities": [size] * 20}
    row |= {"ask_prices": [round(ask + i / 10, 1) for i in range(20)], "ask_quantities": [1.5] * 20}
    return row | {"best_bid": bid, "best_ask": ask, "spread": ask - bid, "mid_price": (bid + ask) / 2} | other


def trade(ms: int, price: float | None = 90_000.17, size: float = 0.0001, **other: Any) -> Row:
    row: Row = {"timestamp": after(ms), "received_at": after(ms + 200), "symbol": "BTC-USD"}
    return row | {"price": price, "quantity": size, "side": "SELL", "is_buyer_taker": False} | other


def write(folder: Path, kind: str, rows: list[Row], hour: str = "2026-01-06_10", symbol: str = "BTC-USD") -> Path:
    path = folder / f"{kind}_{symbol}_{hour}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, BOOK_SCHEMA if kind == BOOKS else TRADE_SCHEMA), path)
    return path


def tape_of(folder: Path, books: list[Row] | None = None, trades: list[Row] | None = None) -> StandxTape:
    write(folder, BOOKS, books or [book(0), book(250, size=0.5)])
    write(folder, TRADES, trades or [trade(250)])
    return StandxTape([folder])


def told(tape: StandxTape) -> list[tuple[str, int]]:
    """Kind and time of each record, in ms after 10:00."""
    return [(type(r).__name__, r.venue_ts_ns // 1_000_000 - T0_MS) for r in tape.records()]


def depths(tape: StandxTape) -> list[int]:
    return [ms for kind, ms in told(tape) if kind == "Depth"]


def hour_of_real(shared_data: Path, *hours: int) -> list[Path]:
    folder = shared_data / "standx_btc_perp"
    return [folder / f"{kind}_BTC-USD_2026-01-06_{hour:02}.parquet" for hour in hours for kind in (BOOKS, TRADES)]


# --- the real one -----------------------------------------------------------------------------------------------------


def test_the_day_is_read_to_the_last_row(shared_data: Path) -> None:
    tape = StandxTape([shared_data / "standx_btc_perp"])
    recording: Recording = tape
    assert recording.facts.instrument.symbol == "BTC-USD"
    first: Depth | None = None
    kinds: Counter[str] = Counter()
    locked = last_ns = lots = ticks = 0
    for record in tape.records():
        assert record.venue_ts_ns >= last_ns
        last_ns = record.venue_ts_ns
        kinds[type(record).__name__] += 1
        if isinstance(record, Depth):
            first = first or record
            locked += record.bids[0][0] == record.asks[0][0]
            assert record.bids[0][0] <= record.asks[0][0]
        elif isinstance(record, Trade):
            assert record.aggressor is None
            lots, ticks = lots + record.qty_lots, ticks + record.px_ticks
    assert kinds == {"Depth": 246_896, "Trade": 165_660}
    assert tape.refusals.counts == {"repeat": 261_470, "unchanged": 14_574}
    assert tape.refusals.described[0].startswith("orderbook_BTC-USD_2026-01-06_00.parquet row 2: repeat: ")
    assert len(tape.refusals.described) == 2 * KEPT_PER_REASON
    assert (tape.start_ts_ns, tape.end_ts_ns) == (1_767_657_600_940_000_000, last_ns)
    assert last_ns == 1_767_743_999_986_000_000
    assert round(locked / 246_896, 4) == 0.4614
    assert first is not None
    assert (first.local_ts_ns, first.kind) == (1_767_657_601_343_051_000, DepthKind.SNAPSHOT)
    assert (first.bids[0], first.bids[19]) == ((9_386_950, 2), (9_385_230, 113))
    assert (first.asks[0], first.asks[19]) == ((9_386_980, 1), (9_390_540, 500))
    # Against the file's own numbers, summed by another way.
    total = pa.concat_tables([pq.read_table(p) for p in sorted((shared_data / "standx_btc_perp").glob("trades*"))])
    assert sum(round((x or 0) * 10_000) for x in total["quantity"].to_pylist()) == lots
    assert sum(round((x or 0) * 100) for x in total["price"].to_pylist()) == ticks

    assert (tape.facts.clock_shift_ns, tape.facts.book_lag_ns) == (0, 0)
    assert tape.facts.clock_from.startswith("local minus exchange clock 146 ms least, 345 ms median")
    said = tape.facts.provenance
    assert said["rows"] == "522,940 snapshots of 20 levels, 165,660 trades, of 24 hours"
    assert said["gaps"] == "2,380 over 3 s without a book, 19.0% of the time, the longest 108.0 s"
    assert said["repeats"].startswith("261,470 snapshots")
    assert said["locked books"].startswith("46.9% ")
    assert said["aggressor"] == "not told: every trade says SELL, so it is to be inferred"
    assert said["hours missing in between"] == "none"


def at_touch(records: list[Record], earlier_ms: int, up_ticks: int = 0) -> float:
    """Of the first trades of each time, how many print, rounded down, at a touch of the book before, taken earlier."""
    books = [r for r in records if isinstance(r, Depth)]
    seen = hits = i = 0
    last_ns = 0
    for trade in (r for r in records if isinstance(r, Trade)):
        if trade.venue_ts_ns == last_ns:
            continue
        last_ns = trade.venue_ts_ns
        while i + 1 < len(books) and books[i + 1].venue_ts_ns - earlier_ms * 1_000_000 < last_ns:
            i += 1
        rounded = (trade.px_ticks + up_ticks) // 10 * 10
        seen += 1
        hits += rounded in (books[i].bids[0][0], books[i].asks[0][0])
    return hits / seen


def test_the_book_does_not_lag_the_trades_and_is_rounded_down(shared_data: Path) -> None:
    records = list(StandxTape(hour_of_real(shared_data, 15)).records())
    as_stamped = at_touch(records, 0)
    assert as_stamped > at_touch(records, -500) + 0.01
    assert as_stamped > at_touch(records, 20) + 0.03
    assert as_stamped > at_touch(records, 250) + 0.03
    assert as_stamped > at_touch(records, 0, up_ticks=5) + 0.1  # books are rounded down, not to the nearest


def test_some_hours_of_the_day_and_one_missing(shared_data: Path) -> None:
    tape = StandxTape(hour_of_real(shared_data, 5, 2))
    stamps = [record.venue_ts_ns for record in tape.records()]
    assert stamps == sorted(stamps)
    assert {ns // (3600 * NS) % 24 for ns in stamps} == {2, 5}
    assert tape.facts.provenance["hours missing in between"] == "2026-01-06 03:00:00 UTC, 2026-01-06 04:00:00 UTC"
    assert tape.facts.provenance["gaps"].endswith("the longest 7,200.2 s")
    again = [record.venue_ts_ns for record in tape.records()]
    assert again == stamps


# --- order, repeats, values -------------------------------------------------------------------------------------------


def test_a_trade_comes_before_the_book_of_its_time(tmp_path: Path) -> None:
    trades = [trade(100), trade(250, 90_000.11), trade(250, 90_000.12), trade(251)]
    tape = tape_of(tmp_path, [book(0), book(250, size=0.5)], trades)
    assert told(tape) == [("Depth", 0), ("Trade", 100), ("Trade", 250), ("Trade", 250), ("Depth", 250), ("Trade", 251)]
    prints = [record.px_ticks for record in tape.records() if isinstance(record, Trade)]
    assert prints == [9_000_017, 9_000_011, 9_000_012, 9_000_017]
    assert (tape.start_ts_ns, tape.end_ts_ns) == (T0_MS * 1_000_000, (T0_MS + 251) * 1_000_000)


def test_ticks_and_lots_are_exact(tmp_path: Path) -> None:
    depth = next(tape_of(tmp_path, [book(0, bid=0.2 * 20 + 86_000.1, ask=99_999.9)]).records())
    assert isinstance(depth, Depth)
    assert depth.bids[:2] == ((8_600_410, 123), (8_600_400, 123))
    assert depth.asks[:2] == ((9_999_990, 15_000), (10_000_000, 15_000))
    assert len(depth.bids) == len(depth.asks) == 20
    assert depth.local_ts_ns - depth.venue_ts_ns == 300_000_000
    assert type(depth.bids[0][0]) is int


def test_repeats_and_unchanged_books_are_dropped_and_counted(tmp_path: Path) -> None:
    books = [book(0), book(0), book(250), book(500, size=0.5), book(750), book(4_000), book(4_250)]
    tape = tape_of(tmp_path, books)
    # 750 has the levels of 0, but not of the one before it; at 4,000 nothing was heard for over 3 s.
    assert depths(tape) == [0, 500, 750, 4_000]
    assert tape.refusals.counts == {"repeat": 1, "unchanged": 2}
    assert [line.split(":")[0] for line in tape.refusals.described] == [
        "orderbook_BTC-USD_2026-01-06_10.parquet row 2",
        "orderbook_BTC-USD_2026-01-06_10.parquet row 3",
        "orderbook_BTC-USD_2026-01-06_10.parquet row 7",
    ]


def test_one_size_deep_in_the_book_makes_it_another(tmp_path: Path) -> None:
    assert depths(tape_of(tmp_path, [book(0), book(250, ask_quantities=[1.5] * 19 + [1.4999])])) == [0, 250]


def test_repeated_trades_are_dropped_and_equal_prints_are_not(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, None, [trade(100), trade(100), trade(100, received_at=after(301)), trade(100, size=0.2)])
    assert [ms for kind, ms in told(tape) if kind == "Trade"] == [100, 100, 100]
    assert tape.refusals.counts == {"repeat": 1}


def test_an_unchanged_book_across_the_edge_of_two_hours(tmp_path: Path) -> None:
    hour_ms = 3_600_000
    write(tmp_path, BOOKS, [book(0), book(hour_ms - 100, size=0.5)])
    write(tmp_path, TRADES, [trade(0), trade(hour_ms - 1)])
    later = [book(hour_ms - 100, size=0.5), book(hour_ms + 150, size=0.5), book(hour_ms + 400)]
    write(tmp_path, BOOKS, later, "2026-01-06_11")
    write(tmp_path, TRADES, [trade(hour_ms), trade(hour_ms + 400)], "2026-01-06_11")
    tape = StandxTape([tmp_path])
    assert told(tape)[-5:] == [
        ("Depth", hour_ms - 100),
        ("Trade", hour_ms - 1),
        ("Trade", hour_ms),
        ("Trade", hour_ms + 400),
        ("Depth", hour_ms + 400),
    ]
    # The repeat of a row in the next file is not of that file's hour.
    assert tape.refusals.counts == {"other_hour": 1, "unchanged": 1}
    assert tape.end_ts_ns == (T0_MS + hour_ms + 400) * 1_000_000


def test_locked_books_pass(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, [book(0, 90_000.1, 90_000.1), book(250)])
    assert depths(tape) == [0, 250]
    assert tape.refusals.counts == {}
    assert tape.facts.provenance["locked books"].startswith("50.0% ")


def test_refusals_are_of_the_latest_playing(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, [book(0), book(0)])
    assert tape.refusals.counts == {}
    for _ in range(2):
        list(tape.records())
        assert tape.refusals.counts == {"repeat": 1}


def test_many_of_one_reason_are_counted_and_five_described(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, [book(0), *[book(0) for _ in range(40)]])
    list(tape.records())
    assert tape.refusals.counts == {"repeat": 40}
    assert len(tape.refusals.described) == KEPT_PER_REASON


# --- rows that cannot be used -----------------------------------------------------------------------------------------

LEVELS_UP = [round(90_000.1 + i / 10, 1) for i in range(20)]


@pytest.mark.parametrize(
    ("bad", "reason", "shown"),
    [
        (book(500, is_valid=False), "invalid", "is_valid"),
        (book(500, is_valid=None), "invalid", "is_valid"),
        (book(500, bid_prices=[90_000.1]), "wrong_levels", "1 of bid_prices"),
        (book(500, ask_quantities=None), "wrong_levels", "0 of ask_quantities"),
        (book(500, size=nan), "bad_number", "nan"),
        (book(500, size=inf), "bad_number", "inf"),
        (book(500, size=0.0), "bad_number", "0.0"),
        (book(500, size=-0.5), "bad_number", "-0.5"),
        (book(500, ask_quantities=[1.5] * 19 + [None]), "bad_number", "nan"),
        (book(500, size=1e300), "bad_number", "1e+300"),
        (book(500, bid_prices=[90_000.105] + [80_000.0 - i for i in range(19)]), "off_tick", "90000.105"),
        (book(500, size=0.00015), "off_lot", "0.00015 is not a multiple of 0.0001"),
        (book(500, 90_000.3, 90_000.2), "crossed", "90000.3 is above best ask 90000.2"),
        (book(500, ask=95_000.0, bid_prices=LEVELS_UP), "unsorted", "bids do not fall"),
        (book(500, ask_prices=[90_000.2] * 20), "unsorted", "asks do not rise"),
        (book(100), "out_of_order", "before"),
        (book(-5), "other_hour", "2026-01-06 09:59:59 UTC"),
        (book(3_600_000), "other_hour", "2026-01-06 11:00:00 UTC"),
        (book(500, timestamp=None), "bad_time", "exchange 0 ns"),
        (book(500, received_at=None), "bad_time", "local 0 ns"),
        (book(500, received_at=after(3_700_000)), "bad_time", "an hour apart"),
    ],
)
def test_a_bad_book_is_dropped_and_named(tmp_path: Path, bad: Row, reason: str, shown: str) -> None:
    tape = tape_of(tmp_path, [book(0), book(250, size=0.5), bad, book(750)])
    assert depths(tape) == [0, 250, 750]
    assert tape.refusals.counts == {reason: 1}
    (line,) = tape.refusals.described
    assert line.startswith(f"orderbook_BTC-USD_2026-01-06_10.parquet row 3: {reason}: ")
    assert shown in line


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (trade(150, 90_000.123), "off_tick"),
        (trade(150, size=0.00005), "off_lot"),
        (trade(150, nan), "bad_number"),
        (trade(150, size=-1.0), "bad_number"),
        (trade(150, price=None), "bad_number"),
        (trade(50), "out_of_order"),
        (trade(-1), "other_hour"),
        (trade(150, timestamp=None), "bad_time"),
    ],
)
def test_a_bad_trade_is_dropped_and_named(tmp_path: Path, bad: Row, reason: str) -> None:
    tape = tape_of(tmp_path, None, [trade(100), bad, trade(200)])
    assert [ms for kind, ms in told(tape) if kind == "Trade"] == [100, 200]
    assert tape.refusals.counts == {reason: 1}
    assert tape.refusals.described[0].startswith(f"trades_BTC-USD_2026-01-06_10.parquet row 2: {reason}: ")


def test_a_damaged_row_does_not_hide_that_a_book_is_unchanged(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, [book(0), book(250, size=nan), book(500)])
    assert depths(tape) == [0]
    assert tape.refusals.counts == {"bad_number": 1, "unchanged": 1}


def test_no_usable_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"no row can be used; .* row 1: invalid"):
        tape_of(tmp_path, [book(0, is_valid=False)], [trade(0, size=-1.0)])


# --- sides, clock -----------------------------------------------------------------------------------------------------


def test_sides_are_taken_where_they_differ(tmp_path: Path) -> None:
    rows = [
        trade(1, side="BUY", is_buyer_taker=True),
        trade(2),
        trade(3, is_buyer_taker=True),
        trade(4, side="BUY"),
        trade(5, side="?"),
        trade(6, side=None),
    ]
    tape = tape_of(tmp_path, None, rows)
    sides = [record.aggressor for record in tape.records() if isinstance(record, Trade)]
    assert sides == [Side.BUY, Side.SELL, None, None]
    assert tape.refusals.counts == {"bad_side": 2}
    assert tape.facts.provenance["aggressor"] == "as told"


def test_a_clock_behind_the_exchange_is_raised(tmp_path: Path) -> None:
    books = [book(ms, size=(ms + 1) / 10_000, received_at=after(ms - 1_200 + ms)) for ms in (0, 100, 200)]
    tape = tape_of(tmp_path, books, [trade(10, received_at=after(10 - 900))])
    assert tape.facts.clock_shift_ns == 1_200_000_000
    assert "raised until the least is 0" in tape.facts.clock_from
    first = next(tape.records())
    assert first.local_ts_ns - first.venue_ts_ns == -1_200_000_000  # as recorded; the correction is a fact


# --- files that cannot be used ----------------------------------------------------------------------------------------


def test_a_file_without_its_pair_is_named(tmp_path: Path) -> None:
    tape_of(tmp_path)
    write(tmp_path, TRADES, [trade(3_600_000)], "2026-01-06_11")
    with pytest.raises(TapeError, match=r"missing: .*/orderbook_BTC-USD_2026-01-06_11\.parquet;"):
        StandxTape([tmp_path])
    with pytest.raises(TapeError, match=r"missing: .*/trades_BTC-USD_2026-01-06_10\.parquet;"):
        StandxTape([tmp_path / "orderbook_BTC-USD_2026-01-06_10.parquet"])


def test_two_symbols_are_refused(tmp_path: Path) -> None:
    tape_of(tmp_path)
    write(tmp_path, BOOKS, [book(0)], symbol="ETH-USD")
    write(tmp_path, TRADES, [trade(0)], symbol="ETH-USD")
    with pytest.raises(TapeError, match="recordings of BTC-USD, ETH-USD together"):
        StandxTape([tmp_path])
    only = [tmp_path / f"{kind}_ETH-USD_2026-01-06_10.parquet" for kind in (BOOKS, TRADES)]
    with pytest.raises(TapeError, match=r"orderbook_ETH.*: rows of BTC-USD in a file of ETH-USD"):
        StandxTape(only)


@pytest.mark.parametrize("kind", [BOOKS, TRADES])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, kind: str, kept: float) -> None:
    tape_of(tmp_path)
    path = tmp_path / f"{kind}_BTC-USD_2026-01-06_10.parquet"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept if kept > 1 else kept * len(data))])
    with pytest.raises(TapeError, match=rf"{path.name}: not a whole Parquet file"):
        StandxTape([tmp_path])


def test_a_file_damaged_inside_raises_when_it_is_reached(tmp_path: Path) -> None:
    """Hour 11 is between the first and the last, so opening reads only its times."""
    for hour in (10, 11, 12):
        start = (hour - 10) * 3_600_000
        rows = [book(start + 250 * i, size=(i + 1) / 1_000) for i in range(200)]
        write(tmp_path, BOOKS, rows, f"2026-01-06_{hour}")
        write(tmp_path, TRADES, [trade(start)], f"2026-01-06_{hour}")
    path = tmp_path / "orderbook_BTC-USD_2026-01-06_11.parquet"
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(3)
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    records = StandxTape([tmp_path]).records()
    assert len([next(records) for _ in range(201)]) == 201  # hour 10 is whole
    with pytest.raises(TapeError, match=r"_11\.parquet: not a whole Parquet file"):
        next(records)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    tape_of(tmp_path)
    write(tmp_path, TRADES, [])
    with pytest.raises(TapeError, match=r"trades_.*: no rows"):
        StandxTape([tmp_path])


def test_other_columns_are_named(tmp_path: Path) -> None:
    tape_of(tmp_path)
    path = tmp_path / "trades_BTC-USD_2026-01-06_10.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["price"]), path)
    with pytest.raises(TapeError, match="price is missing, not double"):
        StandxTape([tmp_path])
    pq.write_table(table.set_column(4, "quantity", pa.array(["0.1"])), path)
    with pytest.raises(TapeError, match="quantity is string, not double"):
        StandxTape([tmp_path])
    pq.write_table(table.append_column("more", pa.array([1])), path)
    assert len(told(StandxTape([tmp_path]))) == 3


def test_paths_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="nothing_here: there is no such file or folder"):
        StandxTape([tmp_path / "nothing_here"])
    with pytest.raises(TapeError, match=r"not a folder of"):
        StandxTape([tmp_path])
    with pytest.raises(TapeError, match="no file"):
        StandxTape([])
    tape_of(tmp_path)
    write(tmp_path, BOOKS, [book(0)], "2026-01-06_24")
    with pytest.raises(TapeError, match="2026-01-06_24 in its name is no hour of a day"):
        StandxTape([tmp_path])


def test_an_hour_given_twice_is_refused(tmp_path: Path) -> None:
    tape_of(tmp_path)
    shutil.copytree(tmp_path, tmp_path / "copy")
    with pytest.raises(TapeError, match="that hour was given before"):
        StandxTape([tmp_path, tmp_path / "copy"])


def test_a_file_is_known_by_its_columns(tmp_path: Path) -> None:
    tape_of(tmp_path)
    books, trades = sorted(tmp_path.iterdir())
    assert (kind_of(books.rename(tmp_path / "a")), kind_of(trades.rename(tmp_path / "b"))) == (BOOKS, TRADES)
    (tmp_path / "c").write_text("timestamp,price")
    assert kind_of(tmp_path / "c") is None
    pq.write_table(pa.table({"price": [1.0]}), tmp_path / "d")
    assert kind_of(tmp_path / "d") is None


def test_the_order_never_falls_whatever_the_rows(tmp_path: Path) -> None:
    books = [book(ms, size=(i + 1) / 1_000) for i, ms in enumerate((500, 100, 300, 900, 899, 901, 900, 2_000))]
    tape = tape_of(tmp_path, books, [trade(ms) for ms in (800, 700, 900, 900, 1_999, 0)])
    stamps = [record.venue_ts_ns for record in tape.records()]
    assert all(earlier <= later for earlier, later in pairwise(stamps))
    assert len(stamps) == 4 + 3
    assert tape.refusals.counts == {"out_of_order": 4 + 2, "repeat": 1}
