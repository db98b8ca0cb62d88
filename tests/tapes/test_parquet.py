"""Our own format: what is written is read again, and a file that is not as it was written is refused by name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from mmdaemon.core.types import Side
from mmdaemon.tapes.arrow import columns_of, decoded, encoded, records_of
from mmdaemon.tapes.checks import Checks
from mmdaemon.tapes.parquet import BATCH, KEY, Gap, ParquetTape, write
from mmdaemon.tapes.records import Depth, DepthKind, Record, Ticker, Trade
from mmdaemon.tapes.rows import TapeError
from tests.tapes.made import FACTS, MS, T0, Made, any_records, delta, snapshot, touch, trade


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tape.parquet"


# --- there and back ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(any_records())
def test_records_come_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> None:
    path = tmp_path_factory.mktemp("p") / "tape.parquet"
    write(Made(records), path)
    tape = ParquetTape(path)
    assert list(tape.records()) == records
    assert list(tape.records()) == records
    assert tape.facts == FACTS
    assert (tape.start_ts_ns, tape.end_ts_ns) == (records[0].venue_ts_ns, records[-1].venue_ts_ns)


def test_more_than_a_batch_comes_back(path: Path) -> None:
    records: list[Record] = []
    for n in range(2 * BATCH + 7):
        records.append(snapshot(n, ((100 + n % 7, n + 1), (99, 6))) if n % 2 else trade(n, side=[None, *Side][n % 3]))
        if n % 5 == 0:
            records.append(Ticker(T0 + n * MS, T0, n or None, "0.1", mark_px=str(n)))
    records[1] = snapshot(1, ((200, 1),), ((201, 1),))
    for n in range(2, len(records)):
        if isinstance(record := records[n], Depth):
            records[n] = msgspec.structs.replace(record, asks=((201, n),))
    told: list[int] = []
    meta = write(Made(records), path, told.append)
    assert told == [BATCH, 2 * BATCH, len(records)]
    assert sum(meta.counts.values()) == meta.records == len(records)
    assert list(ParquetTape(path).records()) == records


def test_what_a_file_says_of_itself(path: Path) -> None:
    recording = Made(
        [
            snapshot(0),
            trade(100),
            delta(3_000, ((98, 1),)),
            Ticker(T0 + 4_000 * MS, T0),
            touch(6_001, ((100, 1),), ((101, 1),)),
            snapshot(10_000),
        ],
        book_lag_ns=0,
        clock_shift_ns=17,
    ).drop("duplicate", 7)
    written = write(recording, path)
    meta = ParquetTape(path).meta
    assert meta == written
    assert meta.counts == {"snapshot": 2, "delta": 1, "touch": 1, "trade": 1, "ticker": 1}
    assert (meta.first_ts_ns, meta.last_ts_ns) == (T0, T0 + 10_000 * MS)
    assert meta.gaps == (
        Gap(T0 + 3_000 * MS, T0 + 6_001 * MS, "book"),
        Gap(T0 + 6_001 * MS, T0 + 10_000 * MS, "everything"),
    )
    assert meta.dropped == {"duplicate": 7}
    assert len(meta.described) == 5
    assert meta.facts.clock_shift_ns == 17
    assert meta.facts.provenance["dropped at conversion"] == "7 duplicate"
    assert ParquetTape(path).refusals.counts == {}


def test_first_and_last_are_corrected_venue_time(path: Path) -> None:
    meta = write(Made([snapshot(250), trade(10), snapshot(270)], book_lag_ns=250 * MS), path)
    assert (meta.first_ts_ns, meta.last_ts_ns) == (T0, T0 + 20 * MS)
    assert len(list(ParquetTape(path).records())) == 3


def test_a_tape_of_a_tape_is_the_same(path: Path, tmp_path: Path) -> None:
    write(Made([snapshot(0), trade(1)]).drop("duplicate", 1), path)
    again = tmp_path / "again.parquet"
    assert write(ParquetTape(path), again).facts == ParquetTape(path).facts
    assert list(ParquetTape(again).records()) == list(ParquetTape(path).records())


# --- what is not written ----------------------------------------------------------------------------------------------


def level(px: int, lots: int) -> tuple[tuple[int, int], ...]:
    return ((px, lots),)


IMPOSSIBLE = [
    (snapshot(5, level(102, 1), level(101, 1)), "the best bid is above the best ask"),
    (touch(5, level(102, 1), level(101, 1)), "the best bid is above the best ask"),
    (snapshot(5, level(100, 0)), "a level of a snapshot or touch is empty"),
    (touch(5, level(100, 0), level(101, 1)), "a level of a snapshot or touch is empty"),
    (snapshot(5, ((99, 1), (100, 1))), "the levels of a snapshot are not in order"),
    (snapshot(5, level(100, 1), ((101, 1), (101, 1))), "the levels of a snapshot are not in order"),
    (touch(5, ((100, 1), (99, 1)), level(101, 1)), "a touch has more than one level a side"),
    (delta(5, level(0, 1)), "a price is not positive"),
    (delta(5, (), level(-3, 1)), "a price is not positive"),
    (delta(5, level(3, -1)), "a size is negative"),
    (trade(5, px=0), "a trade's price and size must be positive"),
    (trade(5, lots=-1), "a trade's price and size must be positive"),
    (trade(1), "its corrected venue time is before that of the row above"),
    (Ticker(-1, T0), "a time is not between 1970 and 2200"),
    (Trade(T0 + 5 * MS, 0, 1, 1, None), "a time is not between 1970 and 2200"),
]


@pytest.mark.parametrize(("record", "why"), IMPOSSIBLE)
def test_what_cannot_be_is_not_written(path: Path, record: Record, why: str) -> None:
    path.write_bytes(b"as it was")
    with pytest.raises(TapeError, match=rf"tape\.parquet: not written, because of record 3: {why}"):
        write(Made([snapshot(0), trade(4), record, trade(9)]), path)
    assert path.read_bytes() == b"as it was"
    assert [file.name for file in path.parent.iterdir()] == ["tape.parquet"]


def test_locked_books_empty_sides_and_crossing_deltas_are_possible(path: Path) -> None:
    records = [
        snapshot(0, level(100, 1), level(100, 1)),
        snapshot(1, (), level(9, 1)),
        delta(2, level(10, 1)),
        touch(3),
    ]
    write(Made(records), path)
    assert list(ParquetTape(path).records()) == records


def test_nothing_is_not_written(path: Path) -> None:
    with pytest.raises(TapeError, match="the recording has no records; dropped: 2 duplicate"):
        write(Made([], end_known=False).drop("duplicate", 2), path)
    assert not list(path.parent.iterdir())


class Breaks(Made):
    def records(self) -> Iterator[Record]:
        yield from self.made
        raise TapeError("made.csv: broken off after row 7")


def test_a_recording_that_breaks_off_leaves_nothing(path: Path) -> None:
    with pytest.raises(TapeError, match="broken off after row 7"):
        write(Breaks([snapshot(n) for n in range(BATCH + 5)]), path)
    assert not list(path.parent.iterdir())


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"nowhere/tape\.parquet: cannot be written"):
        write(Made([snapshot(0)]), tmp_path / "nowhere" / "tape.parquet")


# --- files that are refused -------------------------------------------------------------------------------------------


def long_tape(path: Path) -> list[Record]:
    records: list[Record] = [snapshot(n, level(100, n + 1)) if n % 2 else trade(n) for n in range(1, 6_000)]
    write(Made(records), path)
    return records


def test_a_truncated_file_is_refused(path: Path) -> None:
    long_tape(path)
    whole = path.read_bytes()
    for keep in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:keep])
        with pytest.raises(TapeError, match=r"tape\.parquet: not a whole Parquet file"):
            ParquetTape(path)


def test_a_file_that_was_damaged_is_refused_while_reading(path: Path) -> None:
    """Wherever a byte of the data is flipped: the page cannot be read, a row is impossible, or the digest differs."""
    long_tape(path)
    whole = bytearray(path.read_bytes())
    footer = int.from_bytes(whole[-8:-4], "little")
    data_bytes = len(whole) - 8 - footer
    for place in range(20, data_bytes, data_bytes // 23):
        damaged = bytearray(whole)
        damaged[place] ^= 0x41
        path.write_bytes(damaged)
        try:
            tape = ParquetTape(path)
            records = list(tape.records())
        except TapeError as error:
            assert str(path) in str(error)  # noqa: PT017 - some flips hit a byte that nothing depends on
        else:
            path.write_bytes(whole)
            assert records == list(ParquetTape(path).records())


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], **how: Any) -> None:
    """Edit the file with another tool: same columns and metadata, other rows."""
    table: Any = pq.read_table(path)
    footer = pq.read_metadata(path).metadata
    assert footer is not None
    pq.write_table(change(table.replace_schema_metadata({KEY: footer[KEY]})), path, **how)


def test_rows_left_out_or_turned_are_refused(path: Path) -> None:
    long_tape(path)
    rewrite(path, lambda table: table.slice(0, 5_000))
    with pytest.raises(TapeError, match=r"tape\.parquet: 5,000 rows, and 5,999 were written; it was edited"):
        ParquetTape(path)
    long_tape(path)
    order = np.arange(5_999)
    order[[4_500, 4_501]] = order[[4_501, 4_500]]
    rewrite(path, lambda table: table.take(order.tolist()))
    with pytest.raises(TapeError, match=r"tape\.parquet row 4,502: its corrected venue time is before"):
        list(ParquetTape(path).records())


def edited(name: str, row: int, value: object) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(name)
        field = table.schema.field(place)
        values: list[Any] = table.column(place).to_pylist()
        values[row] = value
        return table.set_column(place, field, pa.array(values, type=field.type))

    return change


@pytest.mark.parametrize(
    ("name", "row", "value", "why"),
    [
        ("qty_lots", 4_999, 2, r"its 5,999 rows are not those that were written \(digest .*edited"),
        ("aggressor", 4_999, "sell", "digest"),
        ("trade_id", 4_999, None, "digest"),
        ("local_ts_ns", 4_999, T0, "digest"),
        ("more", 4_998, True, "digest"),
        ("bid_qty_lots", 4_998, [7], "digest"),
        ("px_ticks", 4_999, None, "row 5,000: a trade's price and size must be positive"),
        ("bid_qty_lots", 4_998, [0], "row 4,999: a level of a snapshot or touch is empty"),
        ("bid_qty_lots", 4_998, [1, 2], "row 4,999: prices and sizes of a side are not of one number"),
        ("bid_px_ticks", 4_998, [200], "row 4,999: the best bid is above the best ask"),
        ("kind", 4_998, "photo", "row 4,999: its kind is none of snapshot, delta, touch, trade, ticker"),
        ("kind", 4_998, "trade", "row 4,999: a trade or ticker has no levels"),
        ("venue_ts_ns", 4_998, -1, "row 4,999: a time is not between 1970 and 2200"),
        ("aggressor", 4_999, "both", "row 5,000: an aggressor is buy, sell or not said"),
    ],
)
def test_an_edited_value_is_refused(path: Path, name: str, row: int, value: object, why: str) -> None:
    long_tape(path)
    rewrite(path, edited(name, row, value))
    tape = ParquetTape(path)
    with pytest.raises(TapeError, match=rf"tape\.parquet.*{why}"):
        list(tape.records())


def test_texts_that_only_moved_are_found(path: Path) -> None:
    write(Made([snapshot(0), Trade(T0, T0, 1, 1, None, "12"), Trade(T0, T0, 1, 1, None, "3")]), path)
    rewrite(path, edited("trade_id", 1, "1"))
    rewrite(path, edited("trade_id", 2, "23"))
    with pytest.raises(TapeError, match="digest"):
        list(ParquetTape(path).records())


def test_a_part_of_a_batch_is_read_like_a_whole() -> None:
    """Arrow may hand over a slice, whose levels do not begin at the first."""
    records = [snapshot(0), trade(1), delta(2, level(5, 0)), snapshot(3), Ticker(T0 + 4 * MS, T0), trade(5)]
    batch = encoded(columns_of(records)).slice(2, 3)
    assert list(records_of(decoded(batch, Checks(0)))) == records[2:5]


def test_writing_it_again_with_another_tool_changes_nothing(path: Path) -> None:
    records = long_tape(path)
    rewrite(path, lambda table: table, row_group_size=1_001)
    assert list(ParquetTape(path).records()) == records


def with_metadata(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    table: Any = pq.read_table(path)
    footer = pq.read_metadata(path).metadata
    assert footer is not None
    said = msgspec.json.decode(footer[KEY], type=dict[str, Any])
    change(said)
    pq.write_table(table.replace_schema_metadata({KEY: msgspec.json.encode(said)}), path)


def test_a_later_format_is_refused_whatever_else_it_says(path: Path) -> None:
    long_tape(path)

    def later(said: dict[str, Any]) -> None:
        said["format"] = 2
        said["facts"] = "quite different"

    with_metadata(path, later)
    with pytest.raises(TapeError, match=r"a tape of format 2, and this is mmdaemon .*, which reads format 1"):
        ParquetTape(path)


def test_metadata_that_cannot_be_understood_is_refused(path: Path) -> None:
    long_tape(path)
    with_metadata(path, lambda said: said.pop("digest"))
    with pytest.raises(TapeError, match=r"metadata 'mmdaemon\.tape' cannot be understood .*digest"):
        ParquetTape(path)


def test_other_parquet_is_refused(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(TapeError, match="a Parquet file, but not a tape"):
        ParquetTape(path)
    path.write_text("no Parquet at all")
    with pytest.raises(TapeError, match="not a whole Parquet file"):
        ParquetTape(path)
    with pytest.raises(TapeError, match="not a whole Parquet file"):
        ParquetTape(path.with_name("nowhere"))


def test_other_columns_are_refused(path: Path) -> None:
    long_tape(path)
    rewrite(path, lambda table: table.drop_columns(["trade_id"]))
    with pytest.raises(TapeError, match="its columns are not those of a tape of format 1"):
        ParquetTape(path)


def test_kinds_are_words_in_the_file(path: Path) -> None:
    """What other tools see, and docs/TAPES.md says."""
    write(Made([snapshot(0), trade(1, side=Side.SELL), Ticker(T0 + MS, T0, 7, "0.1")]), path)
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    assert [row["kind"] for row in rows] == [DepthKind.SNAPSHOT.value, "trade", "ticker"]
    assert (rows[0]["bid_px_ticks"], rows[0]["ask_qty_lots"], rows[0]["px_ticks"]) == ([100, 99], [7, 8], None)
    assert (rows[1]["aggressor"], rows[1]["trade_id"], rows[1]["bid_px_ticks"]) == ("sell", "t1", [])
    assert (rows[2]["funding_ts_ns"], rows[2]["funding_rate"], rows[2]["mark_px"]) == (7, "0.1", None)
