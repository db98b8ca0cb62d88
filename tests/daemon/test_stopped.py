"""The real daemon on a disk that fails, and stopped by SIGSTOP for longer than its limits: `tests.bench.disk` in full,
and what goes out and comes in once it goes on."""

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from mmdaemon.core.types import NS
from tests.bench import crashes, disk
from tests.bench.crashes import Killed, Site, wait_for


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", disk.KINDS)
def test_a_disk_that_fails_stops_it_with_an_empty_venue_and_nothing_is_lost(tmp_path: Path, kind: str) -> None:
    if why := disk.why_not():
        pytest.skip(f"no mount namespace here: {why}")
    assert disk.play(kind, tmp_path).wrong == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "seconds",
    [
        3.0,  # longer than a loop's lag and the in-flight window; its connection lives
        12.0,  # longer than the stall limit and the venue's patience; its connection is gone
    ],
)
def test_stopped_and_continued_nothing_stale_goes_out_and_it_trades_on_with_whole_books(
    tmp_path: Path, seconds: float
) -> None:
    site = Site(tmp_path, seed=11)
    done = Killed()
    with site.venue() as venue, site.daemon() as daemon:
        done.seen_quoting.append(site.quoting(daemon))
        for _ in range(2 if seconds < 10 else 1):
            time.sleep(1.0)
            stopped_ns = time.time_ns()
            daemon.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            went_on_ns = time.time_ns()
            daemon.send_signal(signal.SIGCONT)
            paused = lambda: paused_since(site, went_on_ns)  # noqa: B023, E731 - called here alone
            wait_for("the guard to have paused", paused, daemon)
            site.quoting(daemon)
            assert stale(site, stopped_ns, went_on_ns) == []
            assert decided_before_the_guard(site, went_on_ns) == []
        assert not (site.state / "KILLED").exists()
        site.ask("pause", "the end")
        empty = lambda: (seen := site.status()) is not None and not seen.open_orders  # noqa: E731
        wait_for("the orders to be gone", empty, daemon)
        time.sleep(1.0)
        daemon.send_signal(signal.SIGTERM)
        done.exit_code = daemon.wait(timeout=crashes.PATIENCE_S)
        venue.send_signal(signal.SIGTERM)
        assert venue.wait(timeout=crashes.PATIENCE_S) == 0
    found = crashes.hold_against(site, done)
    assert {name: items for name, items in found.defects.items() if items} == {}
    assert site.count("fills") > 0


def paused_since(site: Site, ts_ns: int) -> bool:
    return bool(transitions(site, ts_ns))


def transitions(site: Site, ts_ns: int) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(site.journal)) as journal:
        query = "SELECT ts_ns, reasons FROM transitions WHERE ts_ns >= ? AND from_state = 'running' ORDER BY ts_ns"
        return journal.execute(query, (ts_ns,)).fetchall()


def stale(site: Site, stopped_ns: int, went_on_ns: int) -> list[tuple[str, int]]:
    """Orders that the venue took, after it went on, and that were sent before it was stopped."""
    with closing(sqlite3.connect(site.record)) as record:
        query = (
            "SELECT client_id, sent_ts_ns FROM requests WHERE kind IN ('place', 'amend') AND refused = '' "
            "AND ts_ns >= ? AND sent_ts_ns <= ?"
        )
        # What was in the socket when it was stopped came in then, and not now.
        return record.execute(query, (went_on_ns, stopped_ns + NS // 100)).fetchall()


def decided_before_the_guard(site: Site, went_on_ns: int) -> list[tuple[str, int]]:
    """Orders sent between going on and the guard's pause: on a market that is as old as the stop was long."""
    (paused_ns, _reasons), *_ = transitions(site, went_on_ns)
    with closing(sqlite3.connect(site.record)) as record:
        query = (
            "SELECT client_id, sent_ts_ns FROM requests WHERE kind IN ('place', 'amend') AND sent_ts_ns BETWEEN ? AND ?"
        )
        return record.execute(query, (went_on_ns, paused_ns - 1)).fetchall()
