"""`mmdaemon report`: where the files go, what is said first, and what it exits with."""

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.main import main
from mmdaemon.cli.report import DIFFERS, NO_REPORT, report
from tests.cli.conftest import Played


def test_it_writes_the_last_run_beside_the_journal(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report(state_dir=copied) == ExitCode.OK
    page = copied / "report-2.html"
    data = json.loads(page.with_suffix(".json").read_bytes())
    assert data["run"]["epoch"] == "2"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run 2 on BTCUSDT at simulated")
    assert "No evidence of profit" in lines[1]
    said = "\n".join(lines)
    assert said.index("fill assumption") < said.index("PnL")
    assert data["figures"]["pnl"]["shown"] in said
    assert lines[-2:] == [f"report   {page}", f"figures  {page.with_suffix('.json')}"]


def test_another_run_to_another_file(played: Played, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere.html"
    assert report(run=1, out=out, state_dir=played.path) == ExitCode.OK
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert json.loads(out.with_suffix(".json").read_bytes())["run"]["end_reason"] == "the script is over"


@pytest.mark.parametrize(("run", "why"), [(7, "has no run 7"), (None, "there is no journal at")])
def test_no_such_run_or_journal_is_1(
    played: Played, tmp_path: Path, run: int | None, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(run=run, out=tmp_path / "x.html", state_dir=played.path if run else tmp_path) == NO_REPORT
    assert why in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


def test_figures_that_do_not_agree_are_2_and_the_page_says_which(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        db.execute("UPDATE fills SET fee_e10 = fee_e10 + 1 WHERE rowid = (SELECT min(rowid) FROM fills)")
    assert report(run=1, state_dir=copied) == DIFFERS
    assert "DOES NOT HOLD" in capsys.readouterr().out
    assert "DOES NOT HOLD" in (copied / "report-1.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["report.json", "no/such/folder/report.html"])
def test_a_file_that_cannot_be_written_is_a_usage_error(played: Played, tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="--out names another file") as refused:
        report(out=tmp_path / name, state_dir=played.path)
    assert refused.value.code == ExitCode.USAGE
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_is_stopped_leaves_nothing(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_self: Path, _target: Path) -> Path:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError

    monkeypatch.setattr(Path, "replace", stop)
    out = tmp_path / "x.html"
    assert main(["report", "--out", str(out), "--state-dir", str(played.path)]) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []
