"""`mmdaemon demo`: what it says, and above all what it leaves alone."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli import demo as verb
from mmdaemon.cli.console import Console
from mmdaemon.cli.main import main
from mmdaemon.journal.state_dir import open_dir


def contents(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir()}


def demo(path: Path) -> int:
    return main(["demo", "--state-dir", str(path)])


def test_a_daemons_journal_is_refused_and_left_alone(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(copied)["journal.sqlite"]
    assert demo(copied) == ExitCode.CONFIG
    assert "--state-dir" in capsys.readouterr().err
    assert contents(copied)["journal.sqlite"] == before


def test_a_killed_directory_is_refused_and_stays_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "KILLED").write_text("operator\n")
    assert demo(tmp_path) == ExitCode.CONFIG
    assert "is killed" in capsys.readouterr().err
    assert (tmp_path / "KILLED").read_text() == "operator\n"


@pytest.mark.parametrize("content", [b"", b"no database at all"])
def test_a_journal_nobody_can_read_is_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    assert demo(tmp_path) == ExitCode.CONFIG
    assert (tmp_path / "journal.sqlite").read_bytes() == content


def test_a_directory_in_use_is_refused_before_anything_is_touched(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = open_dir(copied, {}).lock()
    before = contents(copied)
    try:
        assert demo(copied) == ExitCode.RETRY
    finally:
        held.release()
    assert "in use" in capsys.readouterr().err
    assert contents(copied) == before


def test_a_directory_that_anybody_writes_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert demo(tmp_path) == ExitCode.CONFIG


def test_an_earlier_demos_journal_is_replaced_and_the_lock_and_the_rest_stay(copied: Path) -> None:
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db, db:
        db.execute("UPDATE meta SET bot_tag = 'demo'")
    (copied / "journal.sqlite-wal").write_bytes(b"")
    (copied / "notes.txt").write_text("mine")
    directory = open_dir(copied, {}).lock()
    inode = (copied / "lock").stat().st_ino
    try:
        verb._clear(directory)  # the demo itself takes a minute
    finally:
        directory.release()
    assert sorted(path.name for path in copied.iterdir()) == ["lock", "notes.txt"]
    assert (copied / "lock").stat().st_ino == inode


@pytest.mark.parametrize(
    ("typed", "program"),
    [(".venv/bin/mmdaemon", ".venv/bin/mmdaemon"), ("/usr/bin/mmdaemon", "mmdaemon"), ("-m", "mmdaemon")],
)
def test_where_to_look_next_can_be_pasted_from_80_columns(
    monkeypatch: pytest.MonkeyPatch, typed: str, program: str
) -> None:
    monkeypatch.setattr(sys, "argv", [typed])
    folder = Path("some") / "a-rather-long-name-of-a-folder" / "below-another-one" / "state"
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        verb._look_next(console, folder)
    lines = capture.get().splitlines()
    assert f"  {program} explain --last-fill --state-dir {folder}" in lines
    assert f"  {program} replay --verify --state-dir {folder}" in lines
    assert all(line.startswith(("  #", f"  {program} ")) for line in lines[1:])
