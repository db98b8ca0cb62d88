"""`mmdaemon kill --direct`: real processes, each with a daemon that cannot help."""

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli.left import left_by, remember
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.settings import load
from tests.bench import crashes
from tests.bench.crashes import Site, wait_for

LIVE = "SELECT client_id FROM orders WHERE status NOT IN ('filled', 'cancelled', 'rejected')"
FILLS = "SELECT count(*) FROM fills"


def kill(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmdaemon", "kill", "--direct", "--state-dir", str(site.state), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=crashes.PATIENCE_S, env=site.environment, check=False
    )


def rows(path: Path, query: str, *values: object) -> list[tuple[int | str, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(query, values).fetchall()


def states(site: Site) -> list[str]:
    return [str(state) for (state,) in rows(site.journal, "SELECT state FROM kill ORDER BY rowid")]


def latch(site: Site) -> str:
    path = site.state / "KILLED"
    return path.read_text() if path.exists() else ""


def is_quoting(site: Site) -> bool:
    """By itself: nobody resumes it here."""
    seen = site.status()
    return seen is not None and (seen.guard, seen.kill) == ("running", "armed") and any(q.working for q in seen.quotes)


@pytest.mark.timeout(300)
def test_it_gets_through_beside_a_daemon_that_is_stopped_and_what_wakes_up_stays_killed(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue(), site.daemon() as daemon:
        site.quoting(daemon)
        daemon.send_signal(signal.SIGSTOP)
        # What was on its way is in, or expired.
        time.sleep(1.5)
        assert rows(site.record, LIVE)
        killed = kill(site, "--wait", "--reason", "it hangs")
        assert killed.returncode == 0, killed.stderr
        assert "verified: 0 orders rest" in killed.stderr
        assert rows(site.record, LIVE) == []
        assert "it hangs" in latch(site)
        assert "verified: 0 orders rest" in latch(site)
        assert states(site) == []  # the journal has one writer, and it holds the lock
        received = "SELECT count(*) FROM requests WHERE kind IN ('place', 'amend') AND refused <> 'expired'"
        before = rows(site.record, received)
        daemon.send_signal(signal.SIGCONT)
        wait_for("it to find itself killed", lambda: states(site)[-1:] == ["killed"], daemon)
        assert rows(site.record, received) == before
        assert rows(site.record, LIVE) == []
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(crashes.PATIENCE_S) == 0


@pytest.mark.timeout(300)
def test_if_dirty_sweeps_after_a_sigkill_without_a_latch_and_does_nothing_after_a_clean_stop_or_beside_a_daemon(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue():
        with site.daemon() as daemon:
            site.quoting(daemon)
            beside = kill(site, "--if-dirty")
            assert (beside.returncode, latch(site)) == (0, ""), beside.stderr
            assert "looks after its orders" in beside.stderr
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(crashes.PATIENCE_S) == 0
        after = kill(site, "--if-dirty")
        assert (after.returncode, latch(site)) == (0, ""), after.stderr
        assert "stopped cleanly" in after.stderr
        with site.daemon() as daemon:
            site.quoting(daemon)
            wait_for("a fill", lambda: rows(site.record, FILLS) != [(0,)] and bool(rows(site.record, LIVE)), daemon)
            daemon.kill()
            daemon.wait()
        assert rows(site.record, LIVE)
        swept = kill(site, "--if-dirty")
        assert swept.returncode == 0, swept.stderr
        assert "quiet: 0 orders rest" in swept.stderr
        # What was under way at the engine when it was read empty is what --wait waits for.
        assert kill(site, "--if-dirty", "--wait").returncode == 0
        assert rows(site.record, LIVE) == []
        # Swept after a crash, it leaves no latch: the restart reconciles and goes on by itself.
        assert (latch(site), states(site)) == ("", [])
        with site.daemon() as daemon:
            wait_for("it to quote by itself", lambda: is_quoting(site), daemon)
            assert states(site) == []


@pytest.mark.timeout(300)
def test_if_dirty_beside_a_process_that_hangs_sweeps_and_latches_for_what_wakes_up_must_not_go_on(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue(), site.daemon() as daemon:
        site.quoting(daemon)
        daemon.send_signal(signal.SIGSTOP)
        time.sleep(1.5)  # what was on its way is in, or expired
        assert rows(site.record, LIVE)
        swept = kill(site, "--if-dirty", "--wait")
        assert swept.returncode == 0, swept.stderr
        assert "it hangs" in swept.stderr
        assert rows(site.record, LIVE) == []
        assert "kill --direct" in latch(site)
        daemon.send_signal(signal.SIGCONT)
        wait_for("it to find itself killed", lambda: states(site)[-1:] == ["killed"], daemon)


@pytest.mark.timeout(300)
def test_if_dirty_leaves_a_daemon_alone_that_has_the_directory_and_does_not_listen_yet(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue():
        with site.daemon() as daemon:
            site.quoting(daemon)
            daemon.kill()
            daemon.wait()
        held = StateDir(site.state, None).lock()
        try:
            beside = kill(site, "--if-dirty")
        finally:
            held.release()
        assert (beside.returncode, latch(site)) == (0, ""), beside.stderr
        assert "starts or stops" in beside.stderr
        assert rows(site.record, LIVE)


@pytest.mark.timeout(300)
def test_a_journal_that_cannot_be_read_is_dirty_and_holds_up_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue():
        with site.daemon() as daemon:
            site.quoting(daemon)
            daemon.kill()
            daemon.wait()
        for end in ("-wal", "-shm"):
            site.journal.with_name(site.journal.name + end).unlink(missing_ok=True)
        site.journal.write_bytes(b"no journal" * 1_000)
        killed = kill(site, "--if-dirty", "--wait")
        assert killed.returncode == 0, killed.stderr
        assert rows(site.record, LIVE) == []
        assert "verified: 0 orders rest" in latch(site)
        # One that vanished is no first start.
        site.journal.unlink()
        assert kill(site, "--if-dirty").returncode == 0
        assert "quiet: 0 orders rest" in latch(site)


@pytest.mark.timeout(120)
def test_a_venue_that_is_not_there_is_no_success_and_latches_all_the_same(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    site.state.mkdir()
    killed = kill(site, "--venue", str(site.socket), "--for", "1")
    assert killed.returncode == 1
    assert "nobody listens" in killed.stderr
    assert "given up after 1 s" in killed.stderr
    assert "kill --direct" in latch(site)
    unknown = kill(site)
    assert unknown.returncode == 64
    assert "--venue" in unknown.stderr


@pytest.mark.timeout(120)
def test_nothing_outlives_a_venue_within_the_daemon_and_what_hangs_is_out_of_reach(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    site.config.write_text("[venue]\nin_flight_max_s = 1.0\n[metrics]\nenabled = false\n[run]\ncrash_loop_starts = 0\n")
    with site.daemon() as daemon:
        wait_for("its door", lambda: site.status() is not None, daemon)
        daemon.send_signal(signal.SIGSTOP)
        hung = kill(site)
        assert (hung.returncode, "cannot be reached from here" in hung.stderr) == (1, True), hung.stderr
        daemon.kill()
        daemon.wait()
    gone = kill(site)
    assert (gone.returncode, "which is gone" in gone.stderr) == (0, True), gone.stderr
    assert latch(site).count("kill --direct") == 2


@pytest.mark.timeout(120)
def test_a_file_that_names_no_venue_does_not_outdo_what_the_run_put_down(tmp_path: Path) -> None:
    """`run --testnet --config FILE`: the flag says the mode and the file need not. Orders rest at the exchange."""
    site = Site(tmp_path, seed=11)
    site.state.mkdir()
    site.config.write_text("[venue]\nleverage = 3\n")
    chosen = {"run.mode": "testnet", "venue.in_flight_max_s": 31.0, "journal.durability": "power"}
    remember(StateDir(site.state, None), load(None, chosen, {}).settings)
    killed = kill(site, "--config", str(site.config))
    assert killed.returncode == ExitCode.CREDENTIALS, killed.stderr
    assert "Nothing was cancelled" in killed.stderr
    assert "which is gone" not in killed.stderr


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"remote":"\xff\xfe","in_flight_max_s":1}', b'{"remote":1}', b"\xff"])
def test_an_address_that_is_damaged_is_none_and_no_failure(tmp_path: Path, damaged: bytes) -> None:
    """msgspec has another exception for text that is no UTF-8; `--venue` is asked for instead."""
    (tmp_path / "venue.json").write_bytes(damaged)
    assert left_by(StateDir(tmp_path, None)).address is None
