"""`mmdaemon tape`: what it prints, what it writes, and its exit codes."""

import gzip
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mmdaemon.cli.main import main
from mmdaemon.cli.tape import Stated
from mmdaemon.tapes.parquet import ParquetTape, write
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.records import Record, Recording
from mmdaemon.tapes.survey import Survey
from mmdaemon.tapes.tardis_writer import Progress
from tests.tapes.made import MS, T0, Made, delta, snapshot, touch, trade

OLD = "made_trades_2020-01-01_BTCUSDT.csv.gz"
STREAM_TIME_MS = 1_723_161_256_298


def tape(path: Path, *, touches: bool = False) -> Path:
    records = [snapshot(0), trade(100), delta(4_000, ((98, 1),)), trade(5_000, 100, side=None)]
    write(Made([*records, touch(6_000, ((99, 1),), ((101, 1),))] if touches else records).drop("repeat", 7), path)
    return path


def tardis(folder: Path, price: str = "100.1") -> list[Path]:
    """A book and a trade in the CSV of Tardis, which says neither tick nor lot."""
    head = "exchange,symbol,timestamp,local_timestamp,"
    at = T0 // 1000
    books = "".join(
        f"binance-futures,BTCUSDT,{at},{at + 500},true,{side},{px},{lots}\n"
        for side, px, lots in (("bid", price, "0.5"), ("bid", "99", "1"), ("ask", "100.5", "0.25"))
    )
    files = {
        "books.csv.gz": f"{head}is_snapshot,side,price,amount\n{books}",
        "trades.csv.gz": f"{head}id,side,price,amount\nbinance-futures,BTCUSDT,{at + 9},{at + 99},7,buy,100.5,0.1\n",
    }
    for name, text in files.items():
        (folder / name).write_bytes(gzip.compress(text.encode()))
    return [folder / name for name in files]


# --- info -------------------------------------------------------------------------------------------------------------


def test_info_shows_facts_figures_and_what_was_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "info", str(tape(tmp_path / "a.parquet"))]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for piece in (
        "symbol BTCUSDT",
        "tick, lot 0.1, 0.001: given",
        "dropped at conversion 7 repeat",
        "from, to 2026-01-01 00:00:00 UTC, 2026-01-01 00:00:05 UTC: 5.0 s",
        "records 1 snapshot, 1 delta, 2 trade",
        "told 2 books, 2 trades, 0 funding rates, 0 marks",
        "of books locked, none crossed",
        "gaps 1 over 3 s without a book, 4.0 s in all (80.0%)",
        "of the longest 2026-01-01 00:00:00 UTC: 4.0 s, 1 trade meanwhile",
        "aggressor known 50.0% of trades",
        "first prints of 2: 100.0% at the touch",
        "dropped nothing",
    ):
        assert piece in out


def test_info_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "info", "--json", str(tape(tmp_path / "a.parquet"))]) == 0
    found = msgspec.json.decode(capsys.readouterr().out, type=Survey)
    assert (found.books, found.trades, found.gaps.count) == (2, 2, 1)


def test_info_of_a_recording_that_does_not_say_its_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in tardis(tmp_path)]
    assert main(["tape", "info", "--json", *files]) == 0
    assert (
        "inferred from 3 distinct prices"
        in msgspec.json.decode(capsys.readouterr().out, type=Survey).facts["tick, lot"]
    )
    stated = ["--tick", "0.01", "--lot", "0.001", "--min-qty", "0.005", "--min-notional", "100"]
    assert main(["tape", "info", "--json", *files, *stated]) == 0
    facts = msgspec.json.decode(capsys.readouterr().out, type=Survey).facts
    assert facts["tick, lot"].startswith("0.01, 0.001: ")
    assert facts["minimum"].startswith("0.005, 100 USDT: ")


def test_a_bad_tape_is_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tape(tmp_path / "a.parquet")
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["tape", "info", str(path)]) == 78
    assert main(["tape", "info", str(tmp_path / "nowhere")]) == 78
    err = capsys.readouterr().err
    assert "a.parquet: not a whole Parquet file" in err
    assert "nowhere: there is no such file or folder; read are" in err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["info"], "name a recording to look at"),
        (["convert", "a.parquet"], "name a recording and, last, the file to write"),
        (["convert", "a.parquet", "b.doc"], "its suffix says no format; give --to parquet, npz, tardis"),
        (["info", "a.parquet", "--tick", "0"], "--tick 0 is not a positive multiple of 1e-10"),
        (["info", "a.parquet", "--tick", "1e-11"], "--tick 1E-11 is not a positive multiple"),
        (["info", "a.parquet", "--lot", "nan"], "--lot"),
        (["info", "a.parquet", "--lot", "inf"], "--lot"),
        (["info", "a.parquet", "--min-qty", "1"], "--min-qty 1 must be a multiple of --lot, given with it"),
        (["info", "a.parquet", "--min-qty", "1", "--lot", "2"], "--min-qty 1 must be a multiple of --lot"),
        (["nonsense"], ""),
    ],
)
def test_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    why: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tape", *arguments]) == 64
    assert why in capsys.readouterr().err


def test_steps_that_a_tape_says_itself_cannot_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tape", "info", str(tape(tmp_path / "a.parquet")), "--symbol", "X"]) == 78
    assert "says what it is of, so symbol cannot be given" in capsys.readouterr().err
    assert Stated() == Stated(tick=None)


# --- convert ----------------------------------------------------------------------------------------------------------


def test_there_and_back_through_each_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tape(tmp_path / "a.parquet")
    events = list(open_tape([source]).events())
    for out in ("b.npz", "c"):
        back = tmp_path / f"{out}.parquet"
        assert main(["tape", "convert", str(source), str(tmp_path / out)]) == 0, capsys.readouterr().err
        steps = ["--tick", "0.1", "--lot", "0.001"] if out == "c" else []
        assert main(["tape", "convert", str(tmp_path / out), *steps, str(back)]) == 0, capsys.readouterr().err
        assert list(open_tape([back]).events()) == events
    assert "b.npz: written (npz); dropped nothing" in capsys.readouterr().out


def test_a_tardis_download_becomes_a_tape(tmp_path: Path) -> None:
    out = tmp_path / "tape.parquet"
    arguments = [str(path) for path in tardis(tmp_path)]
    assert main(["tape", "convert", *arguments, str(out), "--tick", "0.1", "--lot", "0.001"]) == 0
    meta = ParquetTape(out).meta
    assert meta.counts["trade"] == 1
    assert meta.facts.instrument.tick_e10 == 10**9
    assert (meta.first_ts_ns, meta.last_ts_ns) == (T0, T0 + 9_000)


def test_nothing_is_overwritten_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(tape(tmp_path / "a.parquet"))
    for name in ("b.parquet", "b.npz"):
        out = tmp_path / name
        out.write_text("mine")
        assert main(["tape", "convert", source, str(out)]) == 64
        assert f"{name}: exists already; --force writes over it" in capsys.readouterr().err
        assert out.read_text() == "mine"
        assert main(["tape", "convert", source, str(out), "--force"]) == 0
        assert len(list(open_tape([out]).events())) == 5
    folder = tmp_path / "csv"
    folder.mkdir()
    old = folder / OLD
    old.write_text("mine")
    assert main(["tape", "convert", source, str(folder)]) == 64
    assert "the folder is not empty; --force replaces all of it" in capsys.readouterr().err
    (folder / "thesis.txt").write_text("mine")
    assert main(["tape", "convert", source, str(folder), "--force"]) == 64
    assert "holds thesis.txt, which is no file of Tardis" in capsys.readouterr().err
    assert old.exists()
    (folder / "thesis.txt").unlink()
    assert main(["tape", "convert", source, str(folder), "--force"]) == 0
    assert not old.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.npz", "b.parquet", "csv"]


def test_a_source_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tape(tmp_path / "a.parquet")
    was = source.read_bytes()
    assert main(["tape", "convert", str(source), str(source), "--force"]) == 64
    assert main(["tape", "convert", str(tmp_path), str(tmp_path / "b.parquet")]) == 64
    assert capsys.readouterr().err.count("is, or is in, what is to be read") == 2
    assert main(["tape", "convert", str(source), str(tmp_path / "no" / "b.parquet")]) == 64
    assert "there is no folder" in capsys.readouterr().err
    assert source.read_bytes() == was


@pytest.mark.parametrize("out", ["b.parquet", "b.npz", "b"])
@pytest.mark.parametrize("before", [False, True])
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str, before: bool
) -> None:
    """A stream whose end is missing: its first half would convert."""
    source, target = tmp_path / "in.gz", tmp_path / out
    lines = ""
    for at in range(STREAM_TIME_MS, STREAM_TIME_MS + 3_000):
        quote = {"e": "bookTicker", "u": at, "s": "BTCUSDT", "b": "10.1", "B": str(at % 99 + 1), "a": "10.2", "A": "1"}
        data = quote | {"T": at, "E": at}
        lines += f"{at * MS} {msgspec.json.encode({'stream': 'btcusdt@bookTicker', 'data': data}).decode()}\n"
    whole = gzip.compress(lines.encode())
    source.write_bytes(whole[: len(whole) // 2])
    if before:
        if target.suffix:
            target.write_text("mine")
        else:
            target.mkdir()
            (target / OLD).write_text("mine")
    assert main(["tape", "convert", str(source), str(target), "--force"]) == 78
    assert "in.gz: broken off" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.gz", *([out] if before else [])])
    if before:
        assert (target if target.suffix else target / OLD).read_text() == "mine"


def test_a_format_that_cannot_hold_it_says_so_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tape(tmp_path / "a.parquet", touches=True)
    assert main(["tape", "convert", str(source), str(tmp_path / "csv")]) == 78
    assert "a change of the touch" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_what_tardis_cannot_say_is_said_to_be_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Books in coarser steps than prints are read otherwise from the new files, where nothing says so."""
    source = tmp_path / "a.parquet"
    write(Made([snapshot(0), trade(100)], book_step_ticks=10, clock_shift_ns=2 * MS, clock_from="made"), source)
    assert main(["tape", "convert", str(source), str(tmp_path / "csv")]) == 0
    said = capsys.readouterr().out
    assert "lost: that books are in steps of 10 ticks" in said
    assert "lost: the clock's correction, +2.000 ms" in said
    assert "lost: tick, lot, minimum (0.001 and 5 USDT)" in said
    assert main(["tape", "convert", str(source), str(tmp_path / "b.npz")]) == 0
    assert "lost: " not in capsys.readouterr().out


def test_a_conversion_that_is_killed_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until all is written the folder has its old files under its own name: nothing is moved aside before."""
    from mmdaemon.tapes import tardis

    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / OLD).write_text("mine")
    whole = tardis.write

    def looked_at(recording: Recording, out: Path, progress: Progress | None = None) -> dict[str, int]:
        left_out = whole(recording, out, progress)
        assert [path.name for path in folder.iterdir()] == [OLD]
        return left_out

    monkeypatch.setattr(tardis, "write", looked_at)
    assert main(["tape", "convert", str(tape(tmp_path / "a.parquet")), str(folder), "--force"]) == 0
    assert OLD not in [path.name for path in folder.iterdir()]


class Stopped(Made):
    """Half way through, this process is told to end."""

    def records(self) -> Iterator[Record]:
        for number, record in enumerate(self.made):
            if number == len(self.made) // 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record


@pytest.mark.parametrize("out", ["b.parquet", "b.npz", "b"])
def test_a_conversion_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stopped = Stopped([snapshot(i) for i in range(10_000)])
    monkeypatch.setattr("mmdaemon.cli.tape.open_recording", lambda *_: stopped)
    assert main(["tape", "convert", str(tmp_path / "a"), str(tmp_path / out)]) == 128 + signal.SIGTERM
    assert "stopped by SIGTERM before it was done" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_log_hears_of_a_long_conversion_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmdaemon.cli.telling.EVERY_S", 0.001)
    write(Made([snapshot(i) for i in range(50_000)]), tmp_path / "a.parquet")
    assert main(["tape", "convert", str(tmp_path / "a.parquet"), str(tmp_path / "b.npz")]) == 0
    line = r"^mmdaemon: (opening the recording|[\d,]+ records so far|read \d+%)$"
    assert set(re.sub(line, "", capsys.readouterr().err, flags=re.MULTILINE)) == {"\n"}
    assert main(["tape", "info", str(tmp_path / "b.npz")]) == 0
    assert set(re.sub(line, "", capsys.readouterr().err, flags=re.MULTILINE)) == {"\n"}
    assert main(["tape", "info", "--json", str(tmp_path / "b.npz")]) == 0
    assert capsys.readouterr().err == ""
