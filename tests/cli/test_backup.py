"""`mmdaemon backup` and `restore`, with real processes: a copy beside a trading daemon, a disk that fails, and back."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from mmdaemon.cli import ExitCode
from mmdaemon.cli.left import remember
from mmdaemon.cli.main import main
from mmdaemon.cli.status import render
from mmdaemon.core.types import NS
from mmdaemon.journal.backup import proof_path
from mmdaemon.journal.backup_kept import kept_in
from mmdaemon.journal.backup_restore import examine
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.settings import Settings
from tests.bench import crashes
from tests.bench.crashes import Site, wait_for
from tests.ops.samples import picture


def verb(*words: str | Path) -> int:
    return main([str(word) for word in words])


# --- the verbs --------------------------------------------------------------------------------------------------------


def test_a_backup_is_made_listed_checked_and_put_back(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("backup", "--state-dir", copied) == 0
    said = capsys.readouterr().out
    (made,) = kept_in(copied / "backups")
    assert str(made.path) in said
    assert f"account of run 1: {made.proof.sums.accounts[0].fills} fills" in said
    assert verb("backup", "--list", "--state-dir", copied) == 0
    assert f"{made.proof.moment}  asked" in capsys.readouterr().out
    assert verb("restore", made.path, "--check", "--state-dir", copied) == 0
    assert "it is whole; nothing was changed" in capsys.readouterr().out
    assert not list(copied.glob("journal.replaced-*"))
    assert verb("restore", "--latest", "--reason", "a drill", "--state-dir", copied) == 0
    said = capsys.readouterr().out
    (replaced,) = copied.glob("journal.replaced-*.sqlite")
    assert str(replaced) in said
    assert "The kill latch is closed" in said
    assert (copied / "KILLED").read_text().startswith("restored from a backup")
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db:
        who, reason = db.execute("SELECT who, reason FROM operator_actions ORDER BY rowid DESC").fetchone()
    assert reason == "a drill"
    assert "uid" in who


def test_the_newest_is_looked_for_where_the_last_run_put_it(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "other disk"
    remember(StateDir(copied, None), Settings.model_validate({"backup": {"dir": str(elsewhere)}}))
    assert verb("restore", "--latest", "--check", "--state-dir", copied) == ExitCode.USAGE
    assert f"{elsewhere}, is not there: mount it" in capsys.readouterr().err
    assert verb("backup", "--state-dir", copied) == 0
    (made,) = kept_in(elsewhere)
    assert not (copied / "backups").exists()
    assert verb("restore", "--latest", "--check", "--state-dir", copied) == 0
    assert str(made.path) in capsys.readouterr().out
    (copied / "venue.json").unlink()
    assert verb("restore", "--latest", "--check", "--state-dir", copied) == ExitCode.USAGE
    assert verb("restore", "--latest", "--from", elsewhere, "--check", "--state-dir", copied) == 0
    # Another bot's in the same folder is newer, and not ours.
    other = made.path.with_name("journal-zzzz-29990101T000000Z.sqlite")
    other.write_bytes(made.path.read_bytes())
    sums = msgspec.structs.replace(made.proof.sums, bot_tag="zzzz")
    proof = msgspec.structs.replace(made.proof, file=other.name, sums=sums, moment_ts_ns=made.proof.moment_ts_ns + NS)
    proof_path(other).write_bytes(msgspec.json.encode(proof))
    capsys.readouterr()
    assert verb("restore", "--latest", "--from", elsewhere, "--check", "--state-dir", copied) == 0
    assert str(made.path) in capsys.readouterr().out
    (copied / "journal.sqlite").write_bytes(b"lost")
    assert verb("restore", "--latest", "--from", elsewhere, "--check", "--state-dir", copied) == ExitCode.USAGE
    assert "does not say whose it is: name the copy" in capsys.readouterr().err


def test_daily_prints_the_proof_and_takes_old_ones_away(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert verb("backup", "--daily", "--keep-daily", "1", "--json", "--state-dir", copied) == 0
    proofs = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [proof["why"] for proof in proofs] == ["daily", "daily"]
    (left,) = kept_in(copied / "backups")
    assert left.proof.file == proofs[1]["file"]


def test_without_a_journal_there_is_no_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("backup", "--state-dir", tmp_path) == 1
    assert "there is no journal at" in capsys.readouterr().err
    assert verb("backup", "--list", "--state-dir", tmp_path) == 1
    assert "no backup in" in capsys.readouterr().out
    assert verb("restore", "--latest", "--reason", "x", "--state-dir", tmp_path) == ExitCode.USAGE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["restore", "--reason", "x"], "name the backup, or say --latest"),
        (["restore", "x.sqlite", "--latest", "--reason", "x"], "name the backup, or say --latest"),
        (["restore", "x.sqlite"], "restore needs a reason"),
        (["restore", "x.sqlite", "--reason", "  "], "restore needs a reason"),
        (["backup", "--keep-daily", "0"], "--keep-daily is 1 at least"),
    ],
)
def test_what_makes_no_sense_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb(*words) == ExitCode.USAGE
    assert said in capsys.readouterr().err


def test_a_directory_in_use_and_a_spoilt_copy_are_refused(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verb("backup", "--state-dir", copied) == 0
    (made,) = kept_in(copied / "backups")
    before = (copied / "journal.sqlite").read_bytes()
    held = StateDir(copied, None).lock()
    try:
        assert verb("restore", made.path, "--reason", "x", "--state-dir", copied) == ExitCode.RETRY
    finally:
        held.release()
    assert "is in use by process" in capsys.readouterr().err
    made.path.write_bytes(made.path.read_bytes()[:-1])
    assert verb("restore", made.path, "--reason", "x", "--state-dir", copied) == 1
    assert "bytes instead of" in capsys.readouterr().err
    assert (copied / "journal.sqlite").read_bytes() == before
    assert not (copied / "KILLED").exists()


def test_as_another_user_neither_leaves_files_that_the_daemon_cannot_use(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert verb("backup", "--state-dir", copied) == 0
    (made,) = kept_in(copied / "backups")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    before = {each.name for each in copied.rglob("*")}
    for words in (("backup",), ("restore", made.path, "--reason", "x")):
        assert verb(*words, "--state-dir", copied) == ExitCode.USAGE
        assert "`sudo -u " in capsys.readouterr().err
    assert {each.name for each in copied.rglob("*")} == before
    assert verb("backup", "--state-dir", copied, "--to", tmp_path / "elsewhere") == 0, "root's own folder is root's"


def test_status_says_that_one_failed_and_how_old_the_last_is() -> None:
    whole = picture()
    health = whole.health
    assert health is not None

    def shown(**changes: object) -> str:
        console = Console(width=160)
        with console.capture() as said:
            console.print(render(picture(health=msgspec.structs.replace(health, **changes)), 160))
        return said.get()

    assert "backup" not in shown()
    failed = shown(backup_error="no space left", backup_ts_ns=whole.at_ts_ns - 30 * 3_600 * NS)
    assert "backup" in failed
    assert "FAILED, the last is 30 h" in failed
    assert "no space left" in failed
    assert "FAILED, there is none: no space left" in shown(backup_error="no space left", backup_ts_ns=None)


# --- with a daemon ----------------------------------------------------------------------------------------------------


def command(site: Site, *words: str | Path, code: int = 0) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "mmdaemon", *(str(word) for word in words), "--state-dir", str(site.state)],
        env=site.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=crashes.PATIENCE_S,
    )
    assert ran.returncode == code, ran.stderr
    return ran.stdout + ran.stderr


def filled(site: Site, least: int) -> Callable[[], bool]:
    return lambda: site.count("fills") >= least


@pytest.mark.timeout(300)
def test_from_a_copy_taken_in_trading_a_daemon_trades_on_at_the_same_venue(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue() as venue:
        with site.daemon() as daemon:
            site.quoting(daemon)
            wait_for("some fills", filled(site, 3), daemon)
            command(site, "backup")
            (made,) = kept_in(site.state / "backups")
            # Of its moment: what the venue had by then, but for what was on its way.
            with closing(sqlite3.connect(site.record)) as record:
                then = crashes.one(
                    record, "SELECT count(*) FROM fills WHERE venue_ts_ns < ?", made.proof.moment_ts_ns - NS
                )
            assert then <= made.proof.sums.accounts[0].fills <= site.count("fills")
            wait_for("more fills", filled(site, site.count("fills") + 2), daemon)
            refused = command(site, "restore", made.path, "--reason", "too early", code=ExitCode.RETRY)
            assert "is in use by process" in refused
            site.quoting(daemon)
            daemon.send_signal(signal.SIGKILL)
            daemon.wait()
        with closing(sqlite3.connect(site.record)) as record:
            sent = {each for (each,) in record.execute("SELECT client_id FROM requests WHERE kind = 'place'")}
        site.journal.write_bytes(site.journal.read_bytes()[:50_000])
        with site.daemon() as daemon:
            assert daemon.wait(timeout=crashes.PATIENCE_S) == ExitCode.CONFIG, "a damaged journal is no start"
        command(site, "restore", made.path, "--reason", "the disk failed")
        with site.daemon() as daemon:
            wait_for("a status", lambda: site.status() is not None, daemon)
            status = site.status()
            assert status is not None
            assert status.guard == "hard_stop"
            epoch, _ = site.quoting(daemon)  # which resumes it, once it is proven empty
            assert epoch > 1_700_000_000
            wait_for("fills after it", filled(site, site.count("fills") + 1), daemon)
            assert site.ask("pause", "the end")
            wait_for("no orders", lambda: (seen := site.status()) is not None and not seen.open_orders, daemon)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=crashes.PATIENCE_S) == 0
        venue.send_signal(signal.SIGTERM)
        assert venue.wait(timeout=crashes.PATIENCE_S) == 0
    found = crashes.Findings()
    with closing(sqlite3.connect(site.record)) as record, closing(sqlite3.connect(site.journal)) as journal:
        crashes._fills(record, journal, found)
        crashes._account(site, record, found)
        placed = [each for (each,) in record.execute("SELECT client_id FROM requests WHERE kind = 'place'")]
        assert crashes.one(journal, "SELECT count(*) FROM breaks WHERE closed_ts_ns IS NULL") == 0
    assert {name: what for name, what in found.defects.items() if what} == {}
    assert len(placed) == len(set(placed)), "no id was ever used twice"
    assert len(set(placed) - sent) > 5, "it traded on"


@pytest.mark.timeout(300)
def test_a_daemon_takes_the_missed_one_by_itself_at_its_start(tmp_path: Path) -> None:
    """By a process of its own, and goes on trading. The account is made to be days old."""
    site = Site(tmp_path, seed=11)
    with site.venue():
        with site.daemon() as daemon:
            site.quoting(daemon)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=crashes.PATIENCE_S) == 0
        assert kept_in(site.state / "backups") == []
        old_ns = 3 * 86_400 * NS
        with closing(sqlite3.connect(site.journal)) as db, db:
            db.execute("DELETE FROM checkpoints WHERE slice = 'opened'")
            db.execute("UPDATE runs SET started_ts_ns = started_ts_ns - ?", (old_ns,))
        with site.daemon() as daemon:
            wait_for("a backup", lambda: bool(kept_in(site.state / "backups")), daemon)

            def shown() -> bool:
                seen = site.status()
                return seen is not None and seen.health is not None and seen.health.backup_ts_ns is not None

            wait_for("its being shown", shown, daemon)
            site.quoting(daemon)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(timeout=crashes.PATIENCE_S) == 0
    (made,) = kept_in(site.state / "backups")
    assert made.proof.why == "daily"
    assert examine(made.path).sums == made.proof.sums
    assert "backup_taken" in (tmp_path / "run.log").read_text()
