"""Times that are none, in each format: beyond 64 bits, negative, no number, out of order.

What comes of them is a market without that row, counted, or a refusal with file, row and what to do; and it converts.
"""

import gzip
import re
from pathlib import Path

import pytest

from mmdaemon.tapes import parquet
from mmdaemon.tapes.npz_write import write as write_npz
from mmdaemon.tapes.reading import open_recording, open_tape
from mmdaemon.tapes.rows import LATEST_NS, TapeError
from mmdaemon.tapes.steps import Steps
from mmdaemon.tapes.survey import survey
from tests.fuzz.tapes import FORMATS, STEPS, Files, judge, npz, npz_rows

Cell = tuple[str, int, int]
"""What the file's name has in it, row (0 the header) and column."""
TARDIS = [
    *(("incremental_book_L2", row, column) for row in (1, 4, -1) for column in (2, 3)),
    *(("trades", row, column) for row in (1, 4, -1) for column in (2, 3)),
    *(("derivative_ticker", row, column) for row in (1, 3, -1) for column in (2, 3, 4)),
]
HYPERLIQUID = [
    *(("orderbooks", row, column) for row in (1, 4, -1) for column in (0, 2)),
    *(("trades", row, column) for row in (1, 4, -1) for column in (0, 5)),
    *(("prices", row, column) for row in (1, -1) for column in (0, 4)),
]
NO_MICROSECONDS = [
    *("9223372036854775", "9223372036854776", "9999999999999999", "9" * 17, "9" * 5_000, "0" * 16, "-1598918400000000"),
    *("1e15", "NaN", "abc", "1598918400.5", "\u0661" * 16, f"{LATEST_NS // 1000}"),
]
NO_SECONDS_OR_MS = [
    *("9999999999.999999999", "9223372036.9", "9" * 13, "9223372036855", "0" * 13, "0" * 10, "-1757015211", "1e9"),
    *("inf", "abc", f"{LATEST_NS // 1_000_000}", f"{LATEST_NS // 1_000_000_000}"),
]


def written(files: Files, cell: Cell, text: str) -> Files:
    name, row, column = cell
    (path,) = [path for path in files if name in path]
    lines = gzip.decompress(files[path]).decode().splitlines()
    cells = lines[row].split(",")
    cells[column] = text
    lines[row] = ",".join(cells)
    return files | {path: gzip.compress("\n".join([*lines, ""]).encode())}


def held(folder: Path, files: Files, steps: Steps) -> dict[str, int]:
    """Played, looked at and converted: each to its end, or refused. What was dropped of it while it was played."""
    recorded = folder / "in"
    recorded.mkdir(exist_ok=True)
    for name, data in files.items():
        (recorded / name).write_bytes(data)
    source = open_tape(recorded, steps)
    last = [0, 0]
    for event in source.events():
        judge(str(folder), event, last)
    survey(open_recording([recorded], steps), lambda _: None)
    parquet.write(open_recording([recorded], steps), folder / "out.parquet")
    write_npz(open_recording([recorded], steps), folder / "out.npz")
    return source.refused


@pytest.mark.parametrize("cell", TARDIS, ids=str)
def test_tardis(tmp_path: Path, cell: Cell) -> None:
    for text in NO_MICROSECONDS:
        dropped = held(tmp_path, written(FORMATS["tardis"](), cell, text), STEPS)
        assert dropped.get("bad_time") == 1, text


def test_a_tardis_row_that_does_not_say_its_settlement_is_none_the_worse(tmp_path: Path) -> None:
    assert "bad_time" not in held(tmp_path, written(FORMATS["tardis"](), ("derivative_ticker", 2, 4), ""), STEPS)


@pytest.mark.parametrize("name", ["incremental_book_L2", "trades", "derivative_ticker"])
def test_tardis_rows_in_the_wrong_order_are_named(tmp_path: Path, name: str) -> None:
    """One that is stamped long before, and one that is stamped so late that the next is before it."""
    for text, row in (("1598918300000000", 4), (f"{LATEST_NS // 1000 - 1}", 5)):
        with pytest.raises(TapeError, match=rf"{name}.* row {row}: local_timestamp is .* take out the row"):
            held(tmp_path, written(FORMATS["tardis"](), (name, 3, 3), text), STEPS)


def test_exchange_time_of_tardis_in_the_wrong_order_is_raised_and_counted(tmp_path: Path) -> None:
    files = written(FORMATS["tardis"](), ("incremental_book_L2", 5, 2), "1598918300000000")
    assert "bad_time" not in held(tmp_path, files, STEPS)


@pytest.mark.parametrize("cell", HYPERLIQUID, ids=str)
def test_hyperliquid(tmp_path: Path, cell: Cell) -> None:
    for text in NO_SECONDS_OR_MS:
        dropped = held(tmp_path, written(FORMATS["hyperliquid"](), cell, text), Steps())
        assert dropped.get("bad_time", 0) + dropped.get("unpaired", 0) >= 1, text


@pytest.mark.parametrize("row", [0, 1, 2, 3, 4, -1])
@pytest.mark.parametrize(
    ("was", "texts"),
    [
        (r"^\d+", ["9223372036854775808", "9" * 19, "0" * 19, "9" * 18, f"{LATEST_NS}"]),
        (r'"E": \d+', ['"E": 9999999999999', '"E": 9223372036855', '"E": -1', '"E": 1.5', '"E": null']),
        (r'"T": \d+', ['"T": 9999999999999', '"T": 9223372036855', '"T": -1', f'"T": {10**30}', '"T": "x"']),
    ],
)
def test_binance(tmp_path: Path, row: int, was: str, texts: list[str]) -> None:
    good = FORMATS["binance"]()["btcusdt.gz"]
    lines = gzip.decompress(good).decode().splitlines()
    for text in texts:
        damaged = [*lines]
        damaged[row] = re.sub(was, text, lines[row])
        assert damaged != lines
        files = {"btcusdt.gz": gzip.compress("\n".join([*damaged, ""]).encode())}
        dropped = held(tmp_path, files, STEPS)
        assert dropped.get("bad_time", 0) + dropped.get("bad_shape", 0) == 1, text


@pytest.mark.parametrize("column", [1, 2])
@pytest.mark.parametrize("time_ns", [2**63 - 1, LATEST_NS, 0, -1, -(2**63)])
def test_npz(tmp_path: Path, column: int, time_ns: int) -> None:
    rows = [list(row) for row in npz_rows()]
    rows[-1][column] = time_ns
    files = npz([tuple(row) for row in rows])
    if time_ns in (0, -1):
        with pytest.raises(TapeError, match=rf"b.npz row {len(rows) - 1}: .* falls .*; order the file"):
            held(tmp_path, files, STEPS)
    else:
        assert held(tmp_path, files, STEPS).get("bad_time") == 1


def test_every_format_is_here() -> None:
    """StandX holds its rows to the hour of the file's name; a tape of ours refuses the row (test_parquet)."""
    assert set(FORMATS) == {"tardis", "hyperliquid", "binance", "npz", "standx", "tape"}
