"""Tardis files: read as records, written again to the same bytes, and every defect named. Files are made by hand."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdaemon.core.events import BookUpdate
from mmdaemon.core.types import E10, NS, Instrument, Side
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Recording, Ticker, Trade
from mmdaemon.tapes.rows import Refusals, TapeError
from mmdaemon.tapes.steps import Steps
from mmdaemon.tapes.tardis import TardisTape, write
from mmdaemon.tapes.tardis_csv import BOOK, TICKER, TRADES, kind_of, snapshot_columns

US = 1_598_918_400_000_000
"""2020-09-01 00:00 UTC."""
DAY_US = 86_400_000_000
STEPS = Steps(tick_e10=E10 // 100, lot_e10=E10 // 1000)
NAME = "binance-futures_{}_2020-09-01_BTCUSDT.csv.gz"


def at(after_us: int, late_us: int = 5_000) -> str:
    return f"binance-futures,BTCUSDT,{US + after_us},{US + after_us + late_us}"


def book(after_us: int, *levels: str, snapshot: bool = False, late_us: int = 5_000) -> list[str]:
    return [f"{at(after_us, late_us)},{'true' if snapshot else 'false'},{level}" for level in levels]


def opening(after_us: int = 0, late_us: int = 5_000) -> list[str]:
    levels = ("ask,100.02,2", "ask,100.05,0.5", "bid,100,1.5", "bid,99.99,3")
    return book(after_us, *levels, snapshot=True, late_us=late_us)


def trade(after_us: int, number: str = "1", price: str = "100.02", amount: str = "0.2", side: str = "buy") -> str:
    return f"{at(after_us)},{number},{side},{price},{amount}"


def save(folder: Path, name: str, columns: str, rows: list[str], end: str = "\n") -> Path:
    path = folder / name
    text = ("\n".join([columns, *rows]) + end).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def books_of(folder: Path, rows: list[str], name: str = "books.csv.gz") -> Path:
    return save(folder, name, BOOK, rows)


def tape_of(folder: Path, rows: list[str], trades: list[str] | None = None, steps: Steps = STEPS) -> TardisTape:
    paths = [books_of(folder, rows)]
    if trades is not None:
        paths.append(save(folder, "trades.csv.gz", TRADES, trades))
    return TardisTape(paths, steps)


def depths(tape: Recording) -> list[Depth]:
    return [record for record in tape.records() if isinstance(record, Depth)]


def text_of(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def after(us: int) -> int:
    return (US + us) * 1000


# --- what the rows mean -----------------------------------------------------------------------------------------------


def test_rows_of_the_same_times_are_one_message_in_the_order_of_the_file(tmp_path: Path) -> None:
    tape = tape_of(
        tmp_path,
        [
            *opening(),
            *book(1_000, "bid,100.01,0.4", "ask,100.02,0"),
            *book(2_000, "ask,100.03,1", "bid,100.01,0", "ask,100.04,2", "ask,100.06,7"),
        ],
    )
    local = after(5_000)
    assert depths(tape) == [
        Depth(after(0), local, DepthKind.SNAPSHOT, ((10000, 1500), (9999, 3000)), ((10002, 2000), (10005, 500)), True),
        Depth(after(1_000), local + 1_000_000, DepthKind.DELTA, ((10001, 400),), ((10002, 0),)),
        Depth(after(2_000), local + 2_000_000, DepthKind.DELTA, ((10001, 0),), ((10003, 1000),), True, more=True),
        Depth(after(2_000), local + 2_000_000, DepthKind.DELTA, (), ((10004, 2000), (10006, 7000))),
    ]
    assert tape.refusals.counts == {}
    assert tape.start_ts_ns == after(0)


def test_a_snapshot_that_is_not_best_first_is_whole_for_the_player_and_keeps_its_order(tmp_path: Path) -> None:
    rows = book(0, "bid,99.99,3", "bid,100,1.5", "ask,100.05,0.5", "ask,100.02,2", "bid,99.9,1", snapshot=True)
    tape = tape_of(tmp_path, [*rows, *book(1_000, "bid,99.98,1")])
    first = depths(tape)
    assert [depth.kind for depth in first[:3]] == [DepthKind.SNAPSHOT, DepthKind.DELTA, DepthKind.DELTA]
    assert [depth.more for depth in first] == [True, True, False, False]
    shown = next(event for event in Tape(tape).events() if isinstance(event, BookUpdate))
    assert shown.bids == ((10000, 1500), (9999, 3000), (9990, 1000))
    assert shown.asks == ((10002, 2000), (10005, 500))
    write(tape, tmp_path / "out")
    assert text_of(tmp_path / "out" / NAME.format("incremental_book_L2")) == text_of(tmp_path / "books.csv.gz")


def test_a_snapshot_in_the_middle_replaces_the_book(tmp_path: Path) -> None:
    reconnect = book(9_000, "ask,101,1", "bid,100.5,2", snapshot=True)
    tape = tape_of(tmp_path, [*opening(), *book(1_000, "bid,100.01,0.4"), *reconnect, *book(9_500, "bid,100.4,1")])
    last = [event for event in Tape(tape).events() if isinstance(event, BookUpdate)][-1]
    assert (last.bids, last.asks) == (((10050, 2000), (10040, 1000)), ((10100, 1000),))


def test_snapshots_behind_each_other_replace_each_other_but_two_sides_apart_are_one(tmp_path: Path) -> None:
    second = book(1_000, "ask,100.06,1", "bid,100.03,2", snapshot=True)
    asks, bids = book(2_000, "ask,100.09,1", snapshot=True), book(2_001, "bid,100.08,1", snapshot=True)
    tape = tape_of(tmp_path, [*opening(), *second, *asks, *bids, *book(3_000, "bid,100.07,1")])
    kinds = [(depth.kind, depth.more) for depth in depths(tape)]
    snapshot, delta = DepthKind.SNAPSHOT, DepthKind.DELTA
    assert kinds == [(snapshot, False), (snapshot, False), (snapshot, True), (delta, False), (delta, False)]
    shown = [(event.bids, event.asks) for event in Tape(tape).events() if isinstance(event, BookUpdate)]
    assert shown[1:] == [
        (((10003, 2000),), ((10006, 1000),)),
        (((10008, 1000),), ((10009, 1000),)),
        (((10008, 1000), (10007, 1000)), ((10009, 1000),)),
    ]
    write(tape, tmp_path / "out")
    assert text_of(tmp_path / "out" / NAME.format("incremental_book_L2")) == text_of(tmp_path / "books.csv.gz")


def test_a_snapshot_of_one_side_behind_which_a_whole_one_comes_is_a_book_of_one_side(tmp_path: Path) -> None:
    one_sided, whole = book(0, "bid,100,1", snapshot=True), opening(1_000)
    kinds = [(depth.kind, depth.more, len(depth.asks)) for depth in depths(tape_of(tmp_path, [*one_sided, *whole]))]
    assert kinds == [(DepthKind.SNAPSHOT, False, 0), (DepthKind.SNAPSHOT, False, 2)]


def test_of_a_price_told_twice_in_a_snapshot_the_last_counts(tmp_path: Path) -> None:
    asks, bids = ("ask,101,1", "ask,102,2", "ask,102,3"), ("bid,100,4", "bid,100,5")
    for levels in ((*asks, *bids), (*bids, *asks)):
        tape = tape_of(tmp_path, book(0, *levels, snapshot=True))
        shown = next(event for event in Tape(tape).events() if isinstance(event, BookUpdate))
        assert (shown.bids, shown.asks) == (((10000, 5000),), ((10100, 1000), (10200, 3000)))
        assert all(len({px for px, _ in side}) == len(side) for d in depths(tape)[:1] for side in (d.bids, d.asks))


def test_trades_come_before_books_of_the_same_time_and_tickers_behind(tmp_path: Path) -> None:
    ticker = save(tmp_path, "t.csv", TICKER, [f"{at(1_000)},,0.0001,,,100.02,,100.01"])
    books = books_of(tmp_path, [*opening(), *book(1_000, "bid,100.01,1", "ask,100.03,1", "bid,100,0")])
    trades = save(tmp_path, "x", TRADES, [trade(0), trade(1_000, "2", side="unknown"), trade(1_001, "3", side="sell")])
    records = list(TardisTape([ticker, books, trades], STEPS).records())
    assert [type(record).__name__ for record in records] == [
        "Trade",
        "Depth",
        "Trade",
        "Depth",
        "Depth",
        "Ticker",
        "Trade",
    ]
    assert [record.aggressor for record in records if isinstance(record, Trade)] == [Side.BUY, None, Side.SELL]
    assert records[0] == Trade(after(0), after(5_000), 10002, 200, Side.BUY, "1")
    assert records[5] == Ticker(after(1_000), after(6_000), None, "0.0001", "", "", "100.02", "", "100.01")


def test_book_snapshots_of_any_depth_with_levels_missing(tmp_path: Path) -> None:
    rows = [
        "1598918403696000,1598918403810979,11657.08,1.714,11657.07,10.896,11657.54,5.4,11656.97,0.2",
        "1598918403888000,1598918403894256,11657.08,1.476,11657.07,10.896,,,11656.97,0.2",
    ]
    path = save(tmp_path, "a.csv", snapshot_columns(2), [f"binance-futures,BTCUSDT,{row}" for row in rows])
    tape = TardisTape([path], STEPS)
    first, second = depths(tape)
    assert first.kind is DepthKind.SNAPSHOT
    assert (first.venue_ts_ns, first.local_ts_ns) == (1_598_918_403_696_000_000, 1_598_918_403_810_979_000)
    assert first.bids == ((1165707, 10896), (1165697, 200))
    assert first.asks == ((1165708, 1714), (1165754, 5400))
    assert second.asks == ((1165708, 1476),)
    assert tape.facts.provenance["trades"].startswith("not given")
    assert len([event for event in Tape(tape).events() if isinstance(event, BookUpdate)]) == 2


@pytest.mark.parametrize("levels", [1, 5, 25, 1000])
def test_the_depth_of_a_book_snapshot_is_read_off_its_header(levels: int) -> None:
    assert kind_of(snapshot_columns(levels)) == f"book_snapshot_{levels}"
    assert kind_of(snapshot_columns(levels) + ",asks[0].price") is None
    assert kind_of(snapshot_columns(levels).replace("bids", "buys")) is None


# --- time -------------------------------------------------------------------------------------------------------------


def test_exchange_time_that_falls_is_raised_and_nothing_is_lost(tmp_path: Path) -> None:
    rows = [*opening(), *book(9_000, "bid,100.01,1"), *book(8_000, "bid,100.01,2", late_us=7_000)]
    tape = tape_of(tmp_path, rows, [trade(9_500), trade(9_400, "2")])
    records = list(tape.records())
    assert [record.venue_ts_ns - after(0) for record in records] == [0, 9_000_000, 9_000_000, 9_500_000, 9_500_000]
    assert records[2].local_ts_ns == after(15_000)
    assert tape.restamped == {"raised": 2}
    assert tape.refusals.counts == {}
    assert tape.facts.provenance["exchange time"] == "fell 2 times in the first 8 rows, by 1.0 ms at most: raised"
    list(tape.records())
    assert tape.restamped == {"raised": 2}


def test_an_update_is_never_too_late(tmp_path: Path) -> None:
    rows = [*opening(), *book(9_000_000, "bid,100.01,1"), *book(1_000_000, "bid,100.01,2", late_us=9_000_000)]
    tape = tape_of(tmp_path, rows)
    assert [depth.venue_ts_ns for depth in depths(tape)] == [after(0), after(9_000_000), after(9_000_000)]
    assert tape.refusals.counts == {}


def test_a_stamp_in_the_future_drags_nothing_along_and_history_is_dropped(tmp_path: Path) -> None:
    ahead = book(3_600_000_000, "bid,100.01,1", late_us=-3_599_000_000)
    old = f"binance-futures,BTCUSDT,{US - 6_000_000},{US + 20_000},0,buy,100.02,1"
    tape = tape_of(tmp_path, [*opening(), *ahead, *book(1_500_000, "bid,100.01,2")], [trade(1_000), old, trade(2_000)])
    assert [record.venue_ts_ns - after(0) for record in tape.records()] == [0, 10**6, 2 * 10**6, 10**9, 1_500 * 10**6]
    assert tape.restamped == {"future": 1}
    assert tape.refusals.counts == {"late": 1}
    assert tape.refusals.described == ["trades.csv.gz row 3: late: a trade 6.0 s behind the latest"]
    assert tape.facts.clock_shift_ns == 0


def test_a_clock_behind_the_exchange_is_corrected_and_the_records_are_raw(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, [*opening(late_us=-1_200_000), *book(1_000, "bid,100.01,1", late_us=-1_150_000)])
    assert tape.facts.clock_shift_ns == 1_200_000_000
    assert tape.facts.clock_from == "local clock 1200.0 ms behind at most, in the first 5 rows"
    assert next(tape.records()).local_ts_ns == after(-1_200_000)


def test_days_are_played_in_order_whatever_the_order_of_the_files(tmp_path: Path) -> None:
    second = books_of(tmp_path, [*opening(DAY_US), *book(DAY_US + 500, "bid,100.01,1")], "a.csv")
    first = books_of(tmp_path, [*opening(), *book(DAY_US - 100, "bid,100.01,1", late_us=50)], "b.csv")
    tape = TardisTape([second, first], STEPS)
    assert [depth.venue_ts_ns for depth in depths(tape)] == [
        after(us) for us in (0, DAY_US - 100, DAY_US, DAY_US + 500)
    ]
    with pytest.raises(TapeError, match=r"c\.csv: the same incremental_book_L2 twice"):
        TardisTape([second, first, books_of(tmp_path, opening(), "c.csv")], STEPS)


def test_the_funding_interval_is_the_least_between_two_settlements(tmp_path: Path) -> None:
    books, hour = books_of(tmp_path, opening()), 3_600_000_000
    assert TardisTape([books], STEPS).facts.funding_interval_s == 28_800
    rows = [f"{at(i)},{US + settled},0.0001,,,,," for i, settled in enumerate((hour, hour, 2 * hour, 4 * hour))]
    tape = TardisTape([books, save(tmp_path, "t.csv", TICKER, rows)], STEPS)
    assert tape.facts.funding_interval_s == 3_600


# --- tick and lot -----------------------------------------------------------------------------------------------------


def test_steps_are_inferred_and_said_to_be(tmp_path: Path) -> None:
    tape = tape_of(tmp_path, [*opening(), *book(1_000, "bid,100.01,0.001")], [trade(1, price="100.03")], Steps())
    instrument = tape.facts.instrument
    assert (instrument.venue, instrument.symbol, instrument.quote) == ("binance-futures", "BTCUSDT", "USDT")
    assert (instrument.tick_e10, instrument.lot_e10) == (E10 // 100, E10 // 1000)
    assert "inferred from" in tape.facts.steps_from
    assert depths(tape)[1].bids == ((10001, 1),)


def test_one_damaged_price_makes_no_tick_and_is_named(tmp_path: Path) -> None:
    rows = [*opening(), *book(1_000, *(f"bid,{i / 100:.2f},0.001" for i in range(1, 1_200)))]
    rows += [*book(2_000, "bid,9.123,1"), *book(3_000, "bid,9,1")]
    tape = tape_of(tmp_path, rows, steps=Steps())
    assert tape.facts.instrument.tick_e10 == E10 // 100
    assert "but for 1 off it" in tape.facts.steps_from
    with pytest.raises(TapeError, match=r"books\.csv\.gz row 1205: off_tick: 9\.123 .*give the tick .*--tick"):
        list(tape.records())
    assert len(depths(tape_of(tmp_path, rows))) == 3


@pytest.mark.parametrize(
    ("level", "option", "reason"), [("bid,99.995,1", "--tick", "off_tick"), ("bid,99,0.0005", "--lot", "off_lot")]
)
def test_a_value_between_two_inferred_steps_ends_the_tape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, option: str, reason: str
) -> None:
    monkeypatch.setattr("mmdaemon.tapes.tardis.SURVEYED", 5)
    rows = [*opening(), *book(1_000, "bid,100.01,0.001"), *book(2_000, level), *book(3_000, "bid,99,1")]
    tape = tape_of(tmp_path, rows, steps=Steps())
    with pytest.raises(TapeError, match=rf"books\.csv\.gz row 7: {reason}: .*give the .*{option}"):
        list(tape.records())
    last = tape_of(tmp_path, rows[:6], steps=Steps())
    with pytest.raises(TapeError, match=rf"row 7: {reason}"):
        list(last.records())
    given = tape_of(tmp_path, rows)
    assert len(depths(given)) == 3
    assert given.refusals.counts == {reason: 1}


@pytest.mark.parametrize(
    ("exchange", "symbol", "what"),
    [
        ("deribit", "BTC-PERPETUAL", "quote currency"),
        ("bitmex", "XBTUSD", "contracts"),
        ("bybit", "BTCUSD", "quote currency"),
        ("okex-swap", "BTC-USDT-SWAP", "contracts"),
        ("binance-delivery", "BTCUSD_PERP", "contracts"),
    ],
)
def test_markets_whose_amounts_are_not_base_currency_are_refused(
    tmp_path: Path, exchange: str, symbol: str, what: str
) -> None:
    rows = [row.replace("binance-futures,BTCUSDT", f"{exchange},{symbol}") for row in opening()]
    with pytest.raises(TapeError, match=rf"amounts of {symbol} at {exchange} are .*{what}.*linear"):
        tape_of(tmp_path, rows)


@pytest.mark.parametrize(
    ("exchange", "symbol", "quote"),
    [("bybit", "BTCUSDT", "USDT"), ("hyperliquid", "BTC", "USDC"), ("deribit", "SOL_USDC-PERPETUAL", "USDC")],
)
def test_linear_markets_are_read_with_their_quote(tmp_path: Path, exchange: str, symbol: str, quote: str) -> None:
    rows = [row.replace("binance-futures,BTCUSDT", f"{exchange},{symbol}") for row in opening()]
    assert tape_of(tmp_path, rows).facts.instrument.quote == quote


# --- which files ------------------------------------------------------------------------------------------------------


def snapshot_file(folder: Path, levels: int, after_us: int = 0) -> Path:
    cells = ",".join(f"{100 + i},1,{99 - i},1" for i in range(levels))
    return save(folder, f"s{levels}_{after_us}.csv", snapshot_columns(levels), [f"{at(after_us)},{cells}"])


def test_of_several_kinds_of_book_one_is_read_and_the_rest_named(tmp_path: Path) -> None:
    five, ten = snapshot_file(tmp_path, 5), snapshot_file(tmp_path, 10)
    tape = TardisTape([five, ten], STEPS)
    assert tape.facts.provenance["left aside"] == "s5_0.csv"
    assert len(depths(tape)[0].bids) == 10
    tape = TardisTape([five, books_of(tmp_path, opening()), ten], STEPS)
    assert tape.facts.provenance["left aside"] == "s5_0.csv, s10_0.csv"
    assert len(depths(tape)[0].bids) == 2
    other_day = snapshot_file(tmp_path, 5, DAY_US)
    with pytest.raises(TapeError, match=rf"s5_{DAY_US}.csv: of a day without incremental_book_L2"):
        TardisTape([books_of(tmp_path, opening()), other_day], STEPS)


def test_files_that_make_no_tape_are_refused_by_name(tmp_path: Path) -> None:
    books = books_of(tmp_path, opening())
    with pytest.raises(TapeError, match=r"x\.csv: no book.*incremental_book_L2 or book_snapshot_N"):
        TardisTape([save(tmp_path, "x.csv", TRADES, [trade(0)])], STEPS)
    with pytest.raises(TapeError, match="no file: no book"):
        TardisTape([], STEPS)
    other = save(tmp_path, "eth.csv", TRADES, [trade(0).replace("BTC", "ETH")])
    with pytest.raises(TapeError, match=r"books.*BTCUSDT.*eth\.csv of binance-futures ETHUSDT; a tape holds one"):
        TardisTape([books, other], STEPS)
    quotes = save(tmp_path, "q.csv", "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price", [])
    with pytest.raises(TapeError, match=r"q\.csv row 1: columns are 'exchange,symbol.*read here are"):
        TardisTape([books, quotes], STEPS)
    (tmp_path / "empty.csv.gz").write_bytes(gzip.compress(b""))
    with pytest.raises(TapeError, match=r"empty\.csv\.gz: the file is empty"):
        TardisTape([books, tmp_path / "empty.csv.gz"], STEPS)
    nothing = save(tmp_path, "header.csv", TRADES, [])
    with pytest.raises(TapeError, match=r"header\.csv: no row with times below the header"):
        TardisTape([books, nothing], STEPS)
    with pytest.raises(TapeError, match=r"absent\.csv: cannot be read \(No such file"):
        TardisTape([tmp_path / "absent.csv"], STEPS)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "counts", "described"),
    [
        (book(1_000, "bid,100,-1"), {"bad_number": 1}, "row 6: bad_number: '-1' is not a decimal"),
        (book(1_000, "bid,NaN,1"), {"bad_number": 1}, "row 6: bad_number: 'NaN' is not a decimal"),
        (book(1_000, "bid,0,1"), {"bad_number": 1}, "row 6: bad_number: the price is zero"),
        (book(1_000, "bid,99.999,1"), {"off_tick": 1}, "row 6: off_tick: 99.999 is not a multiple of 0.01"),
        (book(1_000, "bid,99,1.0001"), {"off_lot": 1}, "row 6: off_lot: 1.0001 is not a multiple of 0.001"),
        (book(1_000, "buy,99,1"), {"bad_side": 1}, "row 6: bad_side: 'buy' is neither bid nor ask"),
        (book(1_000, "bid,99"), {"wrong_columns": 1}, "row 6: wrong_columns: 7 instead of 8"),
        (book(1_000, "bid,99,1,1"), {"wrong_columns": 1}, "row 6: wrong_columns: 9 instead of 8"),
        (["rubbish"], {"wrong_columns": 1}, "row 6: wrong_columns: 1 instead of 8"),
        (
            [row.replace("false", "no") for row in book(1_000, "bid,99,1")],
            {"bad_flag": 1},
            "row 6: bad_flag: is_snapshot is 'no', neither true nor false",
        ),
        (
            [f"binance-futures,BTCUSDT,{US // 1000},{US},false,bid,99,1"],
            {"bad_time": 1},
            f"row 6: bad_time: '{US // 1000}' is not microseconds of UTC",
        ),
        (
            [*book(1_000, "ask,99,1", "bid,99.5,1", snapshot=True), *book(1_500, "bid,98,1", "ask,99,1")],
            {"crossed": 1, "no_snapshot": 2},
            "row 6: crossed: a snapshot with its best bid above its best ask",
        ),
        (
            [*book(1_000, "ask,NaN,1", snapshot=True), *book(1_500, "bid,98,1")],
            {"bad_number": 1, "no_snapshot": 1},
            "row 6: bad_number: 'NaN' is not a decimal",
        ),
        (
            book(1_000, "ask,101,0", "ask,102,1", "bid,99.5,1", snapshot=True),
            {"empty_level": 1},
            "row 6: empty_level: a level of no size in a snapshot",
        ),
    ],
)
def test_a_row_that_cannot_be_is_dropped_counted_and_named(
    tmp_path: Path, rows: list[str], counts: dict[str, int], described: str
) -> None:
    tape = tape_of(tmp_path, [*opening(), *rows, *book(9_000, "bid,99.9,7", "ask,100.2,1", snapshot=True)])
    assert depths(tape)[-1].bids == ((9990, 7000),)
    assert tape.refusals.counts == counts
    assert tape.refusals.described[0].startswith(f"books.csv.gz {described}")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (trade(1_000, side="none"), "bad_side"),
        (trade(1_000, amount="0"), "bad_number"),
        (trade(1_000, price="inf"), "bad_number"),
        (trade(1_000) + ",1", "wrong_columns"),
    ],
)
def test_a_bad_trade_is_dropped(tmp_path: Path, row: str, reason: str) -> None:
    tape = tape_of(tmp_path, opening(), [trade(500), row, trade(2_000)])
    assert len(list(tape.records())) == 3
    assert tape.refusals.counts == {reason: 1}
    assert tape.refusals.described[0].startswith(f"trades.csv.gz row 3: {reason}")


@pytest.mark.parametrize(
    ("cells", "reason"),
    [("1,1,1,1", "crossed"), (",,,", "empty"), ("1,0,1,1", "bad_number"), ("1,1,1", "wrong_columns")],
)
def test_a_bad_book_snapshot_is_dropped(tmp_path: Path, cells: str, reason: str) -> None:
    cells = cells.replace("1,1,1,1", "1,1,2,1")
    rows = [f"{at(0)},2,1,1,1", f"{at(1_000)},{cells}", f"{at(2_000)},2,1,1,1"]
    tape = TardisTape([save(tmp_path, "s.csv", snapshot_columns(1), rows)], STEPS)
    assert len(depths(tape)) == 2
    assert tape.refusals.counts == {reason: 1}
    unsorted = [f"{at(0)},2,1,1,1,3,1,0.5,1", f"{at(1_000)},3,1,1,1,2,1,0.5,1"]
    tape = TardisTape([save(tmp_path, "u.csv", snapshot_columns(2), unsorted)], STEPS)
    assert len(depths(tape)) == 1
    assert tape.refusals.described == ["u.csv row 3: unsorted: levels are not told best first"]


@pytest.mark.parametrize(
    ("cell", "reason"), [("nan", "bad_number"), ("1e-5", ""), ("-0.00012", ""), ("soon", "bad_number")]
)
def test_ticker_values_are_kept_as_text_if_they_are_decimals(tmp_path: Path, cell: str, reason: str) -> None:
    ticker = save(tmp_path, "t.csv", TICKER, [f"{at(1_000)},{US},{cell},,,,,", f"{at(2_000)},x,,,,,,"])
    tape = TardisTape([books_of(tmp_path, opening()), ticker], STEPS)
    told = [record for record in tape.records() if isinstance(record, Ticker)]
    assert [record.funding_rate for record in told] == ([] if reason else [cell])
    assert tape.refusals.counts == {"bad_time": 1} | ({reason: 1} if reason else {})


def test_updates_before_the_first_snapshot_are_dropped_and_a_file_of_nothing_else_refused(tmp_path: Path) -> None:
    early = book(0, "bid,100,1", "ask,101,1")
    tape = tape_of(tmp_path, [*early, *opening(1_000), *book(2_000, "bid,100,0")])
    assert [depth.kind for depth in depths(tape)] == [DepthKind.SNAPSHOT, DepthKind.DELTA]
    assert tape.refusals.counts == {"no_snapshot": 2}
    with pytest.raises(TapeError, match=r"books\.csv\.gz: no record in any file; dropped: 2 no_snapshot"):
        tape_of(tmp_path, early)


def test_a_file_that_breaks_off_is_no_result(tmp_path: Path) -> None:
    rows = [
        *opening(),
        *[row for i in range(1, 60_000) for row in book(i * 100, f"bid,{i % 89 + 1},{i * 7919 % 9973}")],
    ]
    path = books_of(tmp_path, rows)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(TapeError, match=r"books\.csv\.gz: broken off or damaged after row \d+"):
        list(TardisTape([path], STEPS).records())
    plain = books_of(tmp_path, opening(), "cut.csv")
    plain.write_bytes(plain.read_bytes()[:-1])
    cut = TardisTape([plain], STEPS)
    assert len(depths(cut)[0].bids) == 1
    assert cut.refusals.described[0].startswith("cut.csv row 5: cut_off: the last row has no end")


def test_rows_out_of_order_and_rows_of_another_market_end_the_tape(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"row 7: local_timestamp is 10 s before .* out of order or days overlap"):
        list(tape_of(tmp_path, [*opening(), *book(20_000_000, "bid,99,1"), *book(10_000_000, "bid,99,1")]).records())
    other = [row.replace("BTC", "ETH") for row in book(1_000, "bid,99,1")]
    with pytest.raises(TapeError, match=r"row 6: it is of binance-futures ETHUSDT"):
        list(tape_of(tmp_path, [*opening(), *other]).records())


# --- written again ----------------------------------------------------------------------------------------------------

CANONICAL = {
    "incremental_book_L2": [
        BOOK,
        *opening(),
        *book(1_000, "bid,100.01,0.4", "ask,100.02,0", "bid,99.98,0", "bid,99.97,1.25", "ask,107,12"),
        *book(1_000, "ask,100.03,1", late_us=5_001),
        *book(2_000, "ask,100.04,7900", late_us=5_000),
        *book(7_000, "ask,101,1", "ask,100.9,2", "bid,100.5,2", "bid,100.6,2", "ask,102,0.001", snapshot=True),
        *book(7_000, "ask,101,3"),
        *book(7_100, "ask,101,3", "bid,100.01,1", snapshot=True),
        *book(7_200, "ask,101.5,3", "bid,100.02,1", snapshot=True),
        *book(8_000, "bid,100,0"),
    ],
    "trades": [
        TRADES,
        trade(0, "35530566"),
        trade(0, "", side="unknown"),
        trade(3_000, "ccc3-c1fa", "99", "1", "sell"),
    ],
    "derivative_ticker": [
        TICKER,
        f"{at(10)},{US + 28_800_000_000},0.0001,-1e-7,100.5,9364.51,9364.2,9360",
        f"{at(20)},,,,,9364.51,,",
    ],
}
SNAPSHOT_ROWS = [
    snapshot_columns(3),
    f"{at(0)},2,1,1,1,3,1,0.5,1,4,1,0.25,2",
    f"{at(5)},2,1,1,1,,,0.5,1,,,0.25,2",
    f"{at(5)},,,1,1,,,,,,,,",
]


def canonical(folder: Path, kinds: dict[str, list[str]]) -> list[Path]:
    return [save(folder, NAME.format(kind), rows[0], rows[1:]) for kind, rows in kinds.items()]


@pytest.mark.parametrize(
    "kinds", [CANONICAL, CANONICAL | {"book_snapshot_3": SNAPSHOT_ROWS}, {"book_snapshot_3": SNAPSHOT_ROWS}]
)
def test_canonical_files_come_back_to_the_byte(tmp_path: Path, kinds: dict[str, list[str]]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    files = canonical(folder, kinds)
    tape = TardisTape(files, STEPS)
    told: list[int] = []
    assert write(tape, tmp_path / "out", told.append) == {}
    assert tape.refusals.counts == {}
    assert told == [len(list(tape.records()))]
    expected = [path for path in files if not ("book_snapshot" in path.name and "incremental_book_L2" in kinds)]
    assert {path.name: text_of(path) for path in (tmp_path / "out").iterdir()} == {p.name: text_of(p) for p in expected}
    again = TardisTape(sorted((tmp_path / "out").iterdir()), STEPS)
    assert list(again.records()) == list(tape.records())


class Made:
    """A recording made of records, at a market of which all else is given."""

    def __init__(self, records: list[Record], tick_e10: int = E10 // 100, lot_e10: int = E10 // 1000) -> None:
        instrument = Instrument.of(venue="bybit", symbol="ETHUSDT", tick_e10=tick_e10, lot_e10=lot_e10)
        self.facts = Facts(instrument=instrument, steps_from="given", minimum_from="given")
        self.start_ts_ns = records[0].venue_ts_ns
        self.end_ts_ns: int | None = records[-1].venue_ts_ns
        self.refusals = Refusals()
        self._records = records

    def records(self) -> Iterator[Record]:
        return iter(self._records)

    def read_again(self, folder: Path) -> TardisTape:
        facts = self.facts.instrument
        return TardisTape(sorted(folder.iterdir()), Steps(tick_e10=facts.tick_e10, lot_e10=facts.lot_e10))


def snapshot(after_us: int, *, late_us: int = 0, below_us: int = 0) -> Depth:
    venue, local = after(after_us) + below_us, after(after_us + late_us) + below_us
    return Depth(venue, local, DepthKind.SNAPSHOT, ((10000, 1),), ((10001, 2),))


def test_what_the_format_cannot_say_is_counted(tmp_path: Path) -> None:
    empty = Depth(after(2), after(2), DepthKind.DELTA, (), ())
    made = Made([snapshot(0, below_us=123), snapshot(1), snapshot(1), empty])
    assert write(made, tmp_path) == {"below_1_us": 2, "same_times": 1, "empty_book": 1}
    times = [(depth.venue_ts_ns, depth.local_ts_ns) for depth in depths(made.read_again(tmp_path))]
    assert times == [(after(0), after(0)), (after(1), after(1)), (after(1), after(2))]


def test_a_change_of_the_touch_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    touch = Depth(after(1), after(1), DepthKind.TOUCH, ((10000, 1),), ((10001, 2),))
    with pytest.raises(TapeError, match=r"a change of the touch at .* no form"):
        write(Made([snapshot(0), touch]), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    made = Made([snapshot(0), Trade(after(1), after(1), 10000, 1, None)])
    write(made, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TapeError, match=r"bybit_incremental_book_L2_2020-09-01_ETHUSDT\.csv\.gz: exists already"):
        write(made, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert len(before) == 2


def test_a_day_is_a_file_by_local_time(tmp_path: Path) -> None:
    made = Made([snapshot(DAY_US - 10, late_us=5), snapshot(DAY_US - 5, late_us=7), snapshot(DAY_US - 4, late_us=2)])
    write(made, tmp_path)
    names = [f"bybit_incremental_book_L2_2020-09-0{day}_ETHUSDT.csv.gz" for day in (1, 2)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert [text_of(tmp_path / name).count("bid") for name in names] == [1, 2]
    assert list(made.read_again(tmp_path).records()) == list(made.records())


@pytest.mark.parametrize(
    ("tick_e10", "ticks", "text"),
    [
        (10**10, 7900, "7900"),
        (10**9, 79, "7.9"),
        (10**10, 10**12, "1000000000000"),
        (10**4, 1, "0.000001"),
        (10**3, 1, "1e-7"),
        (10**3, 15, "0.0000015"),
        (10**2, 15, "1.5e-7"),
        (5 * 10**5, 3, "0.00015"),
    ],
)
def test_numbers_are_written_as_javascript_prints_them(tmp_path: Path, tick_e10: int, ticks: int, text: str) -> None:
    made = Made([snapshot(0), Trade(after(1), after(1), ticks, 3, Side.SELL, "a")], tick_e10=tick_e10, lot_e10=E10)
    write(made, tmp_path)
    rows = text_of(tmp_path / "bybit_trades_2020-09-01_ETHUSDT.csv.gz").splitlines()
    assert rows[1] == f"bybit,ETHUSDT,{US + 1},{US + 1},a,sell,{text},3"
    assert list(made.read_again(tmp_path).records())[1:] == list(made.records())[1:]


def sorted_levels(draw: st.DrawFn, prices: st.SearchStrategy[int], *, least: int, rising: bool) -> Levels:
    chosen = sorted(draw(st.sets(prices, min_size=least, max_size=4)), reverse=not rising)
    return tuple((px, draw(st.integers(1, 10**7))) for px in chosen)


@st.composite
def recordings(draw: st.DrawFn) -> Made:
    """Records as a reader gives them: each message with times of its own, a snapshot first, at equal time by type."""
    records: list[Record] = []
    bids, asks, any_px = st.integers(1, 500), st.integers(500, 1000), st.integers(1, 10**9)
    decimals = st.sampled_from(["", "0", "0.0001", "-1e-7", "64000.5"])
    us = 0
    for number in range(draw(st.integers(1, 12))):
        us += draw(st.integers(1, 10**9))
        venue, local = after(us), after(us + draw(st.integers(0, 10**6)))
        kind = "snapshot" if not number else draw(st.sampled_from(["snapshot", "delta", "trade", "ticker"]))
        if records and local < max(record.local_ts_ns for record in records) - 5 * NS:
            local = max(record.local_ts_ns for record in records)
        if kind == "snapshot":
            below = sorted_levels(draw, bids, least=1, rising=False)
            above = sorted_levels(draw, asks, least=1, rising=True)
            records.append(Depth(venue, local, DepthKind.SNAPSHOT, below, above, draw(st.booleans())))
        elif kind == "trade":
            side = draw(st.sampled_from([Side.BUY, Side.SELL, None]))
            records.append(
                Trade(venue, local, draw(any_px), draw(any_px), side, draw(st.sampled_from(["", "7", "a-b"])))
            )
        elif kind == "ticker":
            funding = draw(st.none() | st.integers(US, US + DAY_US).map(lambda at_us: at_us * 1000))
            records.append(Ticker(venue, local, funding, *(draw(decimals) for _ in range(6))))
        else:
            level = st.tuples(any_px, st.integers(0, 10**7))
            runs = draw(st.lists(st.lists(level, min_size=1, max_size=3).map(tuple), min_size=1, max_size=5))
            first_is_ask = draw(st.booleans())
            while runs:
                two = len(runs) > 1
                one, other = runs.pop(0), (runs.pop(0) if two else ())
                below, above = (other, one) if first_is_ask else (one, other)
                delta = DepthKind.DELTA
                records.append(Depth(venue, local, delta, below, above, first_is_ask and two, more=bool(runs)))
    return Made(records)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=recordings())
def test_any_recording_comes_back_record_by_record(tmp_path_factory: pytest.TempPathFactory, made: Made) -> None:
    out = tmp_path_factory.mktemp("out")
    assert write(made, out) == {}
    again = made.read_again(out)
    assert list(again.records()) == list(made.records())
    assert again.refusals.counts == {}


@pytest.mark.parametrize("kinds", [CANONICAL, {"book_snapshot_3": SNAPSHOT_ROWS}])
def test_canonical_files_come_back_through_parquet(tmp_path: Path, kinds: dict[str, list[str]]) -> None:
    parquet = pytest.importorskip("mmdaemon.tapes.parquet")
    folder = tmp_path / "in"
    folder.mkdir()
    files = canonical(folder, kinds)
    parquet.write(TardisTape(files, STEPS), tmp_path / "tape.parquet")
    assert write(parquet.ParquetTape(tmp_path / "tape.parquet"), tmp_path / "out") == {}
    assert {path.name: text_of(path) for path in (tmp_path / "out").iterdir()} == {p.name: text_of(p) for p in files}
