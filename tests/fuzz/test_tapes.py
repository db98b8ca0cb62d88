"""Damaged recordings: what they found, and a small run over every format."""

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mmdaemon.tapes import parquet
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.rows import TapeError
from mmdaemon.tapes.steps import Steps
from tests.fuzz.tapes import FORMATS, STEPS, Files, fuzz, judge
from tests.tapes import made


def saved(folder: Path, files: Files) -> Path:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_damaged_is_good_before(tmp_path: Path, kind: str) -> None:
    """Else every refusal would be of something else than the damage."""
    steps = STEPS if kind in ("npz", "tardis", "binance") else Steps()
    last = [0, 0]
    events = list(open_tape(saved(tmp_path, FORMATS[kind]()), steps).events())
    for event in events:
        judge(kind, event, last)
    assert len(events) > 15
    assert {type(event).__name__ for event in events} >= {"BookUpdate", "TradePrint", "SourceEnded"}


def test_a_small_run(tmp_path: Path) -> None:
    tally = fuzz(tmp_path, 1, 1_200)
    assert set(tally.kinds) == set(FORMATS)
    assert tally.refused > 300
    assert tally.played > 200
    assert tally.broke_off > 3
    assert tally.drops > 500


# --- what it found ----------------------------------------------------------------------------------------------------


def test_an_npz_whose_array_header_is_no_python(tmp_path: Path) -> None:
    """numpy reads it with Python's tokenizer, which has an exception of its own."""
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        header = b"{'descr': '<i8', 'fortran_order': False, 'shape': (3,\n"
        file.writestr("data.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(TapeError, match=r"not an \.npz"):
        open_tape(tmp_path)


def test_an_npz_of_a_zip_version_that_is_none(tmp_path: Path) -> None:
    data = bytearray(FORMATS["npz"]()["b.npz"])
    at = data.index(b"PK\x01\x02")
    data[at + 6] = 0xAD
    with pytest.raises(TapeError, match=r"not an \.npz"):
        open_tape(saved(tmp_path, {"b.npz": bytes(data)}))


@pytest.mark.parametrize(("kind", "name"), [("tape", b"px_ticks"), ("standx", b"quantity"), ("standx", b"bid_prices")])
def test_a_parquet_file_whose_names_are_no_text(tmp_path: Path, kind: str, name: bytes) -> None:
    files = {
        file: data.replace(name, name[:-1] + b"\xf1") if name in data else data
        for file, data in FORMATS[kind]().items()
    }
    with pytest.raises(TapeError):
        open_tape(saved(tmp_path, files))


def test_a_tape_whose_metadata_is_no_text(tmp_path: Path) -> None:
    """msgspec has another exception for that than for JSON that is none."""
    files = {name: data.replace(b'"touch":', b'"t\xefuch":') for name, data in FORMATS["tape"]().items()}
    assert files != FORMATS["tape"]()
    with pytest.raises(TapeError, match="cannot be understood"):
        open_tape(saved(tmp_path, files))


@pytest.mark.parametrize(
    ("field", "value"),
    [("funding_interval_s", 0), ("book_step_ticks", 0), ("clock_shift_ns", 2**62)],
)
def test_facts_that_cannot_be(tmp_path: Path, field: str, value: int) -> None:
    recording = made.Made([made.snapshot(0, ((100, 1),), ((105, 2),)), made.trade(1)])
    recording.facts = msgspec.structs.replace(recording.facts, **{field: value})
    parquet.write(recording, tmp_path / "t.parquet")
    with pytest.raises(TapeError, match=field):
        open_tape(tmp_path)


def scrawl(kind: str, file: str, was: str, becomes: str) -> Files:
    """A good recording with one text of one of its files replaced, once."""
    files = dict(FORMATS[kind]())
    (name,) = [name for name in files if file in name]
    text = gzip.decompress(files[name]).decode()
    assert was in text
    at = text.index(was, len(text) // 2)
    files[name] = gzip.compress((text[:at] + becomes + text[at + len(was) :]).encode(), mtime=0)
    return files


@pytest.mark.parametrize(
    ("files", "steps"),
    [
        (lambda: scrawl("tardis", "incremental", ",2\n", ",92233720368547758\n"), STEPS),
        (lambda: scrawl("tardis", "trades", ",0.2\n", ",92233720368547758\n"), STEPS),
        (lambda: scrawl("hyperliquid", "orderbooks", "1.5", "1e18"), Steps()),
        (lambda: scrawl("hyperliquid", "trades", "0.5", "281474976710655"), Steps()),
        (lambda: scrawl("binance", "btcusdt", '"0.5"', '"1e18"'), STEPS),
    ],
)
def test_a_size_that_no_column_holds_is_dropped_and_counted(
    tmp_path: Path, files: Callable[[], Files], steps: Steps
) -> None:
    """It was told as it is, and is more than the journal, a tape or the core can hold."""
    source = open_tape(saved(tmp_path, files()), steps)
    last = [0, 0]
    for event in source.events():
        judge("", event, last)
    assert source.refused.get("bad_number") == 1
