"""`mmdaemon venue` as a process: where it listens, what it refuses, how it ends; and `run` against it, or nobody."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cli.test_service import environment

PATIENCE_S = 60


def words(*given: object) -> list[str]:
    return [sys.executable, "-m", "mmdaemon", *map(str, given)]


def mmdaemon(*given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*given), capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False
    )


@contextmanager
def listening(folder: Path, *given: object) -> Generator[subprocess.Popen[bytes], None, None]:
    log = folder / "log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            words("venue", "--listen", folder / "venue.sock", *given), stderr=out, env=environment()
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "venue_listens" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def test_it_listens_keeps_its_record_and_leaves_nothing_behind_but_that(tmp_path: Path) -> None:
    with listening(tmp_path) as venue:
        taken = mmdaemon("venue", "--listen", tmp_path / "venue.sock", "--record", tmp_path / "other.sqlite")
        assert taken.returncode == 78
        assert "another process answers there" in taken.stderr
        assert not (tmp_path / "other.sqlite").exists()
        venue.send_signal(signal.SIGTERM)
        assert venue.wait(PATIENCE_S) == 0
    assert not (tmp_path / "venue.sock").exists()
    with closing(sqlite3.connect(tmp_path / "venue.sqlite")) as record:
        ((position, start, ended),) = record.execute("SELECT position_lots, start_e10, ended_ts_ns FROM accounts")
    assert (position, int(start)) == (0, 100_000 * 10**10)
    assert ended


def test_what_it_is_made_of_comes_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        f'[venue]\nremote = "{tmp_path}/venue.sock"\n[simulated]\nequity_quote = 5000.0\n[run]\nspeed = "max"\n'
    )
    wrong = mmdaemon("run", "--config", tmp_path / "c.toml", "--state-dir", tmp_path / "state")
    assert wrong.returncode == 78
    assert "venue.remote is set" in wrong.stdout + wrong.stderr
    (tmp_path / "c.toml").write_text(
        f'[venue]\nremote = "{tmp_path}/venue.sock"\n[simulated]\nequity_quote = 5000.0\n[run]\nduration_s = 1.5\n'
        "[metrics]\nenabled = false\n"
    )
    with listening(tmp_path, "--config", tmp_path / "c.toml", "--record", tmp_path / "r.sqlite", "--seed", 3):
        for _ in range(2):
            ran = mmdaemon("run", "--config", tmp_path / "c.toml", "--state-dir", tmp_path / "state")
            assert ran.returncode == 0, ran.stderr
        with closing(sqlite3.connect(tmp_path / "r.sqlite")) as record:
            assert record.execute("SELECT start_e10 FROM accounts").fetchall() == [(str(5_000 * 10**10),)]
            assert record.execute("SELECT count(*) FROM connections").fetchone() == (2,)
    with closing(sqlite3.connect(tmp_path / "state" / "journal.sqlite")) as journal:
        runs = journal.execute("SELECT account_epoch, clean_stop, start_e10, provenance FROM runs").fetchall()
    # The account of the first run is the second's: it was not begun anew.
    assert [run[:3] for run in runs] == [(1, 1, 5_000 * 10**10), (1, 1, None)]
    assert all("a process of its own" in run[3] and '"3"' in run[3] for run in runs)


def test_a_daemon_without_its_venue_says_so_and_is_to_be_tried_again(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f'[venue]\nremote = "{tmp_path}/venue.sock"\nrequest_timeout_s = 0.5\n')
    ran = mmdaemon("run", "--config", tmp_path / "c.toml", "--state-dir", tmp_path / "state")
    assert ran.returncode == 75
    assert "nobody listens at" in ran.stderr
    assert f"mmdaemon venue --listen {tmp_path}/venue.sock" in ran.stderr
    assert not (tmp_path / "state" / "KILLED").exists()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--listen", "/nowhere/at/all"), "is the folder there"),
        (("--listen", "{folder}/" + "x" * 120), "longer than 107 bytes"),
        (("--listen", "{folder}/s", "--record", "{folder}"), "cannot be written"),
        (("--listen", "{folder}/s", "--tape", "{folder}/none"), "none"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, given: tuple[str, ...], why: str) -> None:
    refused = mmdaemon("venue", *(word.format(folder=tmp_path) for word in given))
    assert refused.returncode == 78, refused.stderr
    assert why in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "s").exists()
