"""Real processes: the daemon killed with SIGKILL again and again while the venue lives on (`tests.bench.crashes` in the
size of CI), and the venue stopped and killed under the daemon."""

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mmdaemon.ops.status import Status
from tests.bench import crashes
from tests.bench.crashes import Findings, Site, wait_for

BREACHES = {
    "fills lost": "DELETE FROM fills WHERE rowid = (SELECT max(rowid) FROM fills)",
    "fills doubled, or of nobody": (
        "INSERT INTO fills (venue, symbol, account_epoch, trade_id, instrument_version, epoch, seq, mono_ns, ts_ns, "
        "client_id, side, px_ticks, qty_lots, notional_e10, fee_e10, fee_text, liquidity, exec_kind) SELECT venue, "
        "symbol, 2, trade_id, instrument_version, epoch, seq, mono_ns, ts_ns, client_id, side, px_ticks, qty_lots, "
        "notional_e10, fee_e10, fee_text, liquidity, exec_kind FROM fills LIMIT 1"
    ),
    "sent without an intent in the journal": (
        "DELETE FROM intents WHERE client_id = (SELECT min(client_id) FROM orders WHERE status = 'filled')"
    ),
    "taken by the venue, unknown or other in the journal": (
        "DELETE FROM orders WHERE client_id = (SELECT min(client_id) FROM orders WHERE status = 'filled')"
    ),
    "not settled in the journal": (
        "UPDATE orders SET status = 'live' WHERE client_id = (SELECT min(client_id) FROM orders)"
    ),
    "positions that differ": "UPDATE fills SET qty_lots = qty_lots + 1 WHERE rowid = 1",
    "equity that differs": "UPDATE fills SET fee_e10 = fee_e10 + 1 WHERE rowid = 1",
    "breaks open in the end": "INSERT INTO breaks VALUES ('position', 'reconcile', 1, '', 1, 1, 1, 1, NULL, NULL)",
    "last reconciliation not clean": "UPDATE reconciliations SET breaks = '[\"position\"]'",
    "no clean stop in the end": "UPDATE runs SET clean_stop = 0",
    "hard stops": "INSERT INTO transitions VALUES (1, 1, 1, 1, 'running', 'hard_stop', 'daily_loss')",
    "sent while killed": "INSERT INTO kill VALUES (1, 1, 1, 'killing', 'x', '{}')",
    "not quoting within 11 s": "UPDATE runs SET started_ts_ns = started_ts_ns - 12000000000",
}
"""What must be seen -> what a defect of that kind would have left in the journal."""


def wrong(found: Findings) -> set[str]:
    return {name for name, items in found.defects.items() if items}


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled_over_ten_kills_and_it_quotes_again(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=12)  # a draw in which each kind of moment comes, and a start is cut short after a kill
    done = crashes.kill_again_and_again(site, range(10))
    found = crashes.hold_against(site, done)
    assert {name: found.defects[name] for name in wrong(found)} == {}
    # Else it proves nothing.
    assert sum(done.moments.values()) == 10
    assert done.moments.keys() == set(crashes.MOMENTS)
    assert len(done.seen_quoting) >= 5
    assert site.count("fills") >= 3

    untouched = site.journal.read_bytes()
    for name, breach in BREACHES.items():
        with closing(sqlite3.connect(site.journal)) as journal, journal:
            assert journal.execute(breach).rowcount > 0, name
        assert name in wrong(crashes.hold_against(site, done)), f"{name} would not be seen"
        site.journal.write_bytes(untouched)
    assert wrong(crashes.hold_against(site, done)) == set()


def seen(site: Site, holds: Callable[[Status], bool]) -> Callable[[], bool]:
    return lambda: (status := site.status()) is not None and holds(status)


@pytest.mark.timeout(300)
def test_a_venue_that_was_stopped_for_a_while_pauses_the_daemon_and_no_more(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue() as venue, site.daemon() as daemon:
        site.quoting(daemon)
        venue.send_signal(signal.SIGSTOP)
        wait_for("a pause", seen(site, lambda status: status.guard != "running"), daemon)
        venue.send_signal(signal.SIGCONT)
        site.quoting(daemon)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(crashes.PATIENCE_S) == 0
    with closing(sqlite3.connect(site.journal)) as journal:
        assert crashes.one(journal, "SELECT count(*) FROM transitions WHERE to_state = 'hard_stop'") == 0
        assert crashes.one(journal, "SELECT count(*) FROM orders WHERE settled = 0") == 0


@pytest.mark.timeout(300)
def test_a_venue_that_was_begun_anew_has_another_account_and_that_is_a_break(tmp_path: Path) -> None:
    """Its account is gone and with it what we believe to hold. Nobody quotes on that."""
    site = Site(tmp_path, seed=11)
    with site.venue() as venue, site.daemon() as daemon:
        wait_for("a position", seen(site, lambda status: status.position not in ("0", "-0")), daemon)
        venue.kill()
        venue.wait()
        wait_for("the links to be down", seen(site, lambda status: not any(status.links.values())), daemon)
        with site.venue():
            wait_for("a break", lambda: broken(site), daemon)
            wait_for("no more quotes", seen(site, lambda status: status.guard in ("reconciling", "hard_stop")), daemon)


def broken(site: Site) -> bool:
    with closing(sqlite3.connect(site.journal)) as journal:
        return bool(crashes.one(journal, "SELECT count(*) FROM reconciliations WHERE breaks LIKE '%our books%'"))
