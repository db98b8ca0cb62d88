"""`mmdaemon run` over markets at full speed, and what it refuses."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli.main import main
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import read_latch
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.research.report import read_report
from mmdaemon.research.summary import RunSummary, summarise
from mmdaemon.tapes import parquet
from mmdaemon.tapes.reading import open_recording
from mmdaemon.tapes.steps import Steps
from tests.tapes.made import MS, T0, Made, delta, snapshot

HYPERLIQUID_QUEUE_DIGEST = "e26e5d68a7efff97b9125a37fe783007"
"""Golden: the recording under the queue model with the default settings. It changes when a decision does; say why."""

PROGRAM = [sys.executable, "-m", "mmdaemon"]


def run_tape(shared_data: Path, state_dir: Path, fills: str) -> RunSummary:
    tape = str(shared_data / "hyperliquid_btc")
    assert main(["run", "--tape", tape, "--speed", "max", "--fills", fills, "--state-dir", str(state_dir)]) == 0
    return summarise(state_dir / "journal.sqlite")


@pytest.mark.parametrize("fills", ["through", "queue", "touch"])
def test_the_recording_is_traded_under_each_fill_assumption(shared_data: Path, tmp_path: Path, fills: str) -> None:
    run = run_tape(shared_data, tmp_path, fills)
    assert run.running_share >= 0.8
    assert run.healthy_ns >= 0.9 * run.duration_ns
    assert run.fills_buy >= 1
    assert run.fills_sell >= 1
    assert run.decisions > 100
    assert run.provenance["fill assumption"].startswith(fills)
    assert run.attributed is not None
    assert run.attributed.pnl_e10 + (run.later_e10 or 0) == run.pnl_e10


def test_funding_that_a_recording_has_not_is_said_to_be_assumed(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_tape(shared_data, tmp_path / "tape", "queue")
    said = capsys.readouterr().out
    assert re.search(r"^ +funding +not modelled \(assumed 0\) *$", said, re.MULTILINE)
    assert re.search(r"^ +largest position +\S+ BTC *$", said, re.MULTILINE)
    assert main(["run", "--speed", "max", "--duration", "30", "--state-dir", str(tmp_path / "made")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^ +funding +\S+ USDT *$", said, re.MULTILINE)
    assert re.search(r"^ +largest position +\S+ BTC *$", said, re.MULTILINE)


def test_two_runs_are_the_same_run(shared_data: Path, tmp_path: Path) -> None:
    first = run_tape(shared_data, tmp_path / "a", "queue")
    second = run_tape(shared_data, tmp_path / "b", "queue")
    assert first.digest == second.digest == HYPERLIQUID_QUEUE_DIGEST
    assert first.events == second.events


def test_a_recording_in_two_files_is_the_run_of_one(shared_data: Path, tmp_path: Path) -> None:
    """The cut lies in the middle of trading: an order that rests over it keeps its place in the queue."""
    whole = open_recording([shared_data / "hyperliquid_btc"], Steps())
    records = list(whole.records())
    at = len(records) // 2
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, part in zip(paths, (records[:at], records[at:]), strict=True):
        made = Made(part)
        made.facts = whole.facts
        parquet.write(made, path, lambda _count: None)
    state = tmp_path / "state"
    assert main(["run", "--tape", *map(str, paths), "--speed", "max", "--state-dir", str(state)]) == 0
    assert summarise(state / "journal.sqlite").digest == HYPERLIQUID_QUEUE_DIGEST


def test_one_setting_goes_over_the_rest(tmp_path: Path) -> None:
    asked = ["run", "--speed", "max", "--duration", "60", "--set", "simulated.equity_quote=5000"]
    assert main([*asked, "--state-dir", str(tmp_path)]) == 0
    with JournalReader(tmp_path / "journal.sqlite") as journal:
        assert journal.db.execute("SELECT start_e10 FROM runs").fetchone() == (5_000 * 10**10,)


def test_a_setting_that_is_none_is_refused(tmp_path: Path) -> None:
    asked = ["run", "--speed", "max", "--duration", "60", "--set", "simulated.equty_quote=5000"]
    assert main([*asked, "--state-dir", str(tmp_path)]) == ExitCode.CONFIG


def test_a_second_run_in_the_same_directory_is_a_run_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        assert main(["run", "--speed", "max", "--duration", "120", "--state-dir", str(tmp_path)]) == 0
    with JournalReader(tmp_path / "journal.sqlite") as journal:
        runs = journal.runs()
        assert [run.epoch for run in runs] == [1, 2]
        assert all(run.clean_stop for run in runs)
        ids = journal.db.execute("SELECT count(*), count(DISTINCT client_id) FROM orders").fetchone()
    assert ids[0] == ids[1] > 0


def test_without_an_end_full_speed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--speed", "max", "--state-dir", str(tmp_path)]) == ExitCode.USAGE
    assert "--duration" in capsys.readouterr().err


def test_a_recording_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = tmp_path / "strange.csv"
    strange.write_text("a,b\n1,2\n")
    code = main(["run", "--tape", str(strange), "--speed", "max", "--state-dir", str(tmp_path / "state")])
    assert code == ExitCode.CONFIG
    assert "strange.csv" in capsys.readouterr().err


def test_a_directory_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = open_dir(tmp_path, {}).lock()
    try:
        code = main(["run", "--speed", "max", "--duration", "60", "--state-dir", str(tmp_path)])
    finally:
        held.release()
    assert code == ExitCode.RETRY
    assert "in use" in capsys.readouterr().err


def test_a_journal_of_a_newer_schema_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--speed", "max", "--duration", "30", "--state-dir", str(tmp_path)]) == 0
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db:
        db.execute("PRAGMA user_version = 999")
    before = (tmp_path / "journal.sqlite").read_bytes()
    code = main(["run", "--speed", "max", "--duration", "30", "--state-dir", str(tmp_path)])
    assert code == ExitCode.CONFIG
    assert "newer" in capsys.readouterr().err
    assert (tmp_path / "journal.sqlite").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"no database at all, but longer than a header" * 100])
@pytest.mark.parametrize("speed", [["--speed", "max"], []])
def test_a_journal_that_cannot_be_read_closes_the_latch_for_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, speed: list[str]
) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    assert main(["run", *speed, "--duration", "5", "--state-dir", str(tmp_path)]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert "counts as killed" in said
    assert "mmdaemon restore" in said
    assert (tmp_path / "KILLED").read_text().startswith("journal unreadable: ")
    assert (tmp_path / "journal.sqlite").read_bytes() == content
    (tmp_path / "journal.sqlite").unlink()
    assert read_latch(open_dir(tmp_path, {})).closed, "the file is gone, and the daemon is killed all the same"


def test_a_recording_that_breaks_off_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error from the market in the middle of a run ends it as a failure, with nothing resting, and is said."""
    from mmdaemon.core.events import MarketEvent
    from mmdaemon.tapes.rows import TapeError
    from mmdaemon.venues.simulated.market import SyntheticMarket

    whole = SyntheticMarket.events

    def broken(self: SyntheticMarket) -> Iterator[MarketEvent]:
        for number, event in enumerate(whole(self)):
            if number == 5_000:
                raise TapeError("row 5000 of strange.csv is cut off")
            yield event

    monkeypatch.setattr(SyntheticMarket, "events", broken)
    code = main(["run", "--speed", "max", "--duration", "3600", "--state-dir", str(tmp_path)])
    assert code == ExitCode.CONFIG
    with JournalReader(tmp_path / "journal.sqlite") as journal:
        run = journal.run()
        assert run is not None
        assert journal.kills()
        assert not [order for order in journal.unsettled() if order.epoch == run.epoch]


def broken(path: Path, books: int) -> Path:
    """A tape of ours, half a second a book, whose last row is not what was written."""
    parquet.write(Made([snapshot(i * 500) for i in range(books)]), path)
    table = pq.read_table(path).replace_schema_metadata(pq.read_metadata(path).metadata)
    at = table.schema.get_field_index("local_ts_ns")
    times = [*table.column(at).to_pylist()[:-1], T0 + books * 500 * MS]
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(times)), path)
    return path


def test_a_recording_that_breaks_off_ends_the_run_where_nothing_else_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a duration only the market's end ends a run, and a broken market has none. What it leaves is killed, and
    nobody can resume at full speed: the next run there would pass a whole market without one order."""
    source = broken(tmp_path / "edited.parquet", 12_000)
    state = tmp_path / "state"
    asked = ["run", "--tape", str(source), "--speed", "max", "--state-dir", str(state)]
    assert main(asked) == ExitCode.CONFIG
    said = read_report(state / "journal.sqlite")
    assert said.run.end_reason.startswith("broke off: ")
    assert [each.name for each in said.assumptions][:2] == ["simulated", "no result"]
    assert said.run.duration.startswith("1 h 40 min")
    capsys.readouterr()
    assert main(asked) == ExitCode.CONFIG
    assert "nobody can resume" in capsys.readouterr().err


@pytest.mark.timeout(120)
def test_a_recording_that_breaks_off_ends_the_run_in_real_time_too(tmp_path: Path) -> None:
    """Days that overlap: a row comes that is older than what was played. Not in the ten seconds that the simulated
    venue reads ahead: there it would be found before anything runs."""
    at = T0 // 1_000
    rows = [
        f"binance-futures,BTCUSDT,{at + us},{at + us},{'true' if us == 0 else 'false'},{side},{px},1\n"
        for us in (*range(0, 11_500_000, 500_000), 0)
        for side, px in (("bid", "100.0"), ("ask", "100.1"))
    ]
    source = tmp_path / "books.csv"
    source.write_text("exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n" + "".join(rows))
    state = tmp_path / "state"
    done = in_real_time(source, state)
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert re.search(r"^mmdaemon: .*books\.csv row 48: local_timestamp is 11 s before", done.stderr, re.MULTILINE)
    with JournalReader(state / "journal.sqlite") as journal:
        run = journal.run()
        assert run is not None
        assert (run.end_reason or "").startswith("broke off: ")
        assert journal.unsettled() == []
        kills = [row.state for row in journal.kills()]
    assert "verified" in kills or "killed" in kills


@pytest.mark.timeout(120)
def test_a_recording_that_breaks_off_at_once_ends_the_process_too(tmp_path: Path) -> None:
    done = in_real_time(broken(tmp_path / "edited.parquet", 4), tmp_path / "state")
    assert done.returncode == ExitCode.CONFIG, done.stderr
    assert re.search(r"^mmdaemon: .*edited\.parquet", done.stderr, re.MULTILINE)


def in_real_time(tape: Path, state: Path) -> subprocess.CompletedProcess[str]:
    asked = ["run", "--tape", str(tape), "--set", "metrics.enabled=false", "--state-dir", str(state)]
    return subprocess.run([*PROGRAM, *asked], capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.timeout(120)
def test_a_recording_in_real_time_that_is_stopped_ends_with_its_figures_and_is_no_result(
    tmp_path: Path, number: signal.Signals
) -> None:
    parquet.write(Made([snapshot(n * 100, ((100_000 - n % 3, n + 1),), ((100_005, 2),)) for n in range(6_000)]),
                  tmp_path / "t.parquet")  # fmt: skip
    asked = ["run", "--tape", str(tmp_path / "t.parquet"), "--set", "metrics.enabled=false", "--state-dir"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*PROGRAM, *asked, str(tmp_path / "s")], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        while " started " not in (line := process.stderr.readline()):
            assert line
        process.send_signal(number)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert f"no result: The run was interrupted by {number.name}. Figures are of the part before." in out
    assert re.search(r"^ +PnL +\+0 USDT", out, re.MULTILINE)
    assert re.search(r"^ +digest +[0-9a-f]{32}", out, re.MULTILINE)
    made = read_report(tmp_path / "s" / "journal.sqlite")
    assert made.run.end_reason == f"interrupted by {number.name}"
    assert made.assumptions[1].name == "no result"
    with JournalReader(tmp_path / "s" / "journal.sqlite") as journal:
        assert journal.unsettled() == []


@pytest.mark.parametrize(
    ("number", "is_ignored"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, False)]
)
@pytest.mark.timeout(120)
def test_a_run_that_is_stopped_ends_in_order_and_is_no_result(
    tmp_path: Path, number: signal.Signals, is_ignored: bool
) -> None:
    """`is_ignored`: a shell's script has Ctrl-C ignored in what it runs in the background."""

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN if is_ignored else signal.default_int_handler)

    asked = ["run", "--speed", "max", "--duration", "1e7", "--state-dir", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen([*PROGRAM, *asked], stdout=pipe, stderr=pipe, text=True, preexec_fn=ignore) as process:  # noqa: PLW1509 - one thread
        assert process.stderr is not None
        said = ""
        while "fill assumption" not in said:  # what it rests on is there before it begins
            said += (line := process.stderr.readline())
            assert line, said
        process.send_signal(number)
        out, err = process.communicate(timeout=100)
    assert process.returncode == 128 + number, err
    assert f"mmdaemon: stopped by {number.name} before it was done" in err
    assert "Traceback" not in err
    assert out == ""
    made = read_report(tmp_path / "journal.sqlite")
    assert made.run.end_reason == f"interrupted by {number.name}"
    assert [each.name for each in made.assumptions][:2] == ["simulated", "no result"]
    assert made.assumptions[1].text.startswith("The run was interrupted by SIG")
    with JournalReader(tmp_path / "journal.sqlite") as journal:
        assert journal.unsettled() == []


def test_a_log_hears_of_a_long_run_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmdaemon.cli.telling.EVERY_S", 0.01)
    assert main(["run", "--speed", "max", "--duration", "3600", "--state-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert re.search(r"^mmdaemon: \d\.\d\d h of 1\.00 h  running  \d+ fills?$", said.err, re.MULTILINE)
    assert "h of 1.00 h" not in said.out


def test_runs_of_one_recording_that_were_killed_are_no_crash_loop(tmp_path: Path) -> None:
    """In virtual time all of them begin at the same moment, so however long ago they were no window would end."""
    for _ in range(6):
        assert main(["run", "--speed", "max", "--duration", "30", "--state-dir", str(tmp_path)]) == 0
        with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db, db:
            db.execute("UPDATE runs SET clean_stop = NULL, ended_ts_ns = NULL, ended_mono_ns = NULL")
    with JournalReader(tmp_path / "journal.sqlite") as journal:
        assert [run.after_clean for run in journal.runs()] == [True, *[False] * 5]
        assert not journal.kills()


@pytest.mark.parametrize(("crossed", "is_warned"), [(1, False), (9, True)])
def test_a_market_of_crossed_books_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], crossed: int, is_warned: bool
) -> None:
    books = [snapshot(i * 500) for i in range(300)]
    for i in range(10, 10 + 2 * crossed, 2):
        books[i] = delta(i * 500, ((103, 1),))
    source = tmp_path / "a.parquet"
    parquet.write(Made(books), source)
    assert main(["run", "--tape", str(source), "--speed", "max", "--state-dir", str(tmp_path / "state")]) == 0
    said = capsys.readouterr().out
    assert ("warning: 3.0% of the books are crossed (9 of 300)" in said) is is_warned
    assert ("crossed books: 1 of 300 (0.3%), told as they are" in said) is not is_warned
    assert "span_s" not in said
    assert main(["tape", "info", str(source)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ("3.0% crossed (9)" in said) is is_warned
    assert ("warning: 3.0% of the books are crossed" in said) is is_warned


def test_a_state_directory_that_is_a_file_is_said_to_be_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "f").write_text("mine")
    assert main(["run", "--speed", "max", "--duration", "9", "--state-dir", str(tmp_path / "f")]) == ExitCode.CONFIG
    assert "f is a file, not a directory; name another by --state-dir" in capsys.readouterr().err


def test_a_run_without_an_order_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["run", "--speed", "max", "--duration", "60", "--state-dir", str(tmp_path)]
    assert main([*asked, "--set", "simulated.equity_quote=100"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no order was placed: " in said
    least = re.search(r"less than the smallest order, worth [0-9.]+ USDT; with simulated\.equity_quote=(\d+)", said)
    assert least
    assert main([*asked, "--set", f"simulated.equity_quote={least[1]}"]) == 0
    assert "no order was placed" not in capsys.readouterr().out


def test_a_journal_that_cannot_be_written_is_no_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, made by a limit on the size of the database."""
    whole = sqlite3.connect

    def small(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db = whole(*args, **kwargs)
        db.execute("PRAGMA max_page_count = 60")
        return db

    monkeypatch.setattr(sqlite3, "connect", small)
    code = main(["run", "--speed", "max", "--duration", "3600", "--state-dir", str(tmp_path)])
    assert code == ExitCode.RETRY
    said = capsys.readouterr().err
    assert "the journal cannot be written, and what ran so far is no result: " in said
    assert "Traceback" not in said
