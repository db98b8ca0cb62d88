"""`python -m tests.bench.crashes --n 50`: the real daemon, killed with SIGKILL again and again, held against its venue.

Starts `mmdaemon venue` and `mmdaemon run`, processes in real time, with quotes so near that orders are always in
flight and fills come about once a second. The daemon is killed at seeded moments and started again at once:

    soon      0.2 to 2 s after its start: while it imports, recovers, reconciles, sends its first ladder
    recovery  up to 2 s after the first byte that it wrote to its journal: between its run's row and its first quote
    any       up to 1.5 s after it quotes
    request   up to 0.15 s after an order of it reached the venue: on its way to the engine, or its answer to us
    fill      up to 0.15 s after a fill happened at the venue: the stream takes 60 to 120 ms
    disk      up to 0.5 s after its journal was locked by another writer: nothing becomes durable any more, so that no
              order may be sent, and the fills that come are lost with the process
    kill      up to 2 s after its kill switch was thrown: while it writes the latch, cancels, reads, waits for what may
              still land. The next one must begin killed, finish that, and quote only once it was resumed

After the last one it trades on for a while, is paused and stopped, and the journal is held against the venue's own
record, which shares no code with it. Anything that is not the same is a defect and makes the exit code 1. How far each
run had got when it was killed is read from the journal afterwards.
"""

import argparse
import asyncio
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random

import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table

from mmdaemon.core.types import NS
from mmdaemon.journal.replay import pnl_identity
from mmdaemon.ops.control import ControlError
from mmdaemon.ops.control_client import call
from mmdaemon.ops.status import Status

IN_FLIGHT_MAX_S = 1.0
QUOTING_WITHIN_S = IN_FLIGHT_MAX_S + 10.0
"""The bar, on the daemon's own clock: from its start to quoting."""
PATIENCE_S = 90.0
"""Of this program with a loaded machine. It is no bar: longer than this something hangs."""

CONFIG = """
[venue]
remote = "{socket}"
in_flight_max_s = {in_flight_max_s}
request_timeout_s = 1.0
ack_check_s = 1.0
[run]
crash_loop_starts = 0
[simulated]
request_latency_s = 0.06
response_latency_s = 0.06
latency_jitter_fraction = 1.0
fills = "touch"
maker_fee_bps = -1.0
taker_fee_bps = 1.0
[cost]
min_edge_bps = 0.0
taker_probability = 0.0
adverse_cap_bps = 0.0
turnover_soft_multiple = 1000.0
turnover_cap_multiple = 1000.0
[quotes]
band_gain = 0.0
max_position_fraction = 0.5
tolerance_min_bps = 0.0
tolerance_fraction = 0.0
min_quote_life_s = 0.0
[guard]
drift_max_bps = 1000.0
soft_clear_s = 0.2
fills_per_side_per_minute = 600
daily_loss_fraction = 0.2
drawdown_fraction = 0.3
[limits]
cancels_per_minute = 600
messages_per_minute = 3000
[metrics]
enabled = false
""" + "".join(
    f"[regimes.{regime}]\nspread_min_bps = 0.1\nlevels_min = 3\nlevels_max = 3\nrefresh_s = 0.5\n"
    for regime in ("neutral_low_vol", "neutral_high_vol", "up", "down", "high_vol_shock")
)
EARLY = ("soon", "recovery")
LATER = ("any", "request", "fill", "disk", "kill")
MOMENTS = (*EARLY, *LATER)


class Stuck(Exception):
    """A process ended by itself, or nothing came of a long wait."""


class Site:
    """A folder with one venue process, and one daemon after the other."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.socket = folder / "venue.sock"
        self.record = folder / "venue.sqlite"
        self.state = folder / "state"
        self.journal = self.state / "journal.sqlite"
        self.config = folder / "crashes.toml"
        self.config.write_text(CONFIG.format(socket=self.socket, in_flight_max_s=IN_FLIGHT_MAX_S))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("MMDAEMON_")}
        self.seed = seed

    @contextmanager
    def process(self, *words: str) -> Generator[subprocess.Popen[bytes], None, None]:
        """`mmdaemon` with these words, its log in the folder; killed if it still runs at the end."""
        command = [sys.executable, "-m", "mmdaemon", *words]
        said = self.folder / f"{words[0]}.log"
        with said.open("ab") as log:
            process = subprocess.Popen(command, stderr=log, env=self.environment)
        try:
            yield process
        except Stuck as stuck:
            stuck.add_note(f"the end of {said.name}:\n" + "\n".join(said.read_text().splitlines()[-40:]))
            raise
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def venue(self) -> Generator[subprocess.Popen[bytes], None, None]:
        words = ("--listen", str(self.socket), "--record", str(self.record), "--seed", str(self.seed))
        with self.process("venue", *words, "--config", str(self.config)) as venue:
            wait_for("the venue to listen", self.socket.exists, venue)
            yield venue

    @contextmanager
    def daemon(self) -> Generator[subprocess.Popen[bytes], None, None]:
        with self.process("run", "--config", str(self.config), "--state-dir", str(self.state)) as daemon:
            yield daemon

    def status(self) -> Status | None:
        """None: no door yet."""
        try:
            return asyncio.run(call(self.state / "control.sock", "status")).status
        except ControlError:
            return None

    def ask(self, verb: str, reason: str) -> bool:
        return asyncio.run(call(self.state / "control.sock", verb, {"reason": reason})).ok

    def quoting(self, daemon: subprocess.Popen[bytes]) -> tuple[int, int]:
        """Wait until it quotes, resuming it where it began killed. The epoch of its run, and its UTC then."""
        seen: Status | None = None

        def quotes() -> bool:
            nonlocal seen
            seen = self.status()
            if seen is not None and seen.kill == "killed":
                self.ask("resume", "the kill was ours")  # refused until nothing can land any more
            return seen is not None and seen.guard == "running" and any(quote.working for quote in seen.quotes)

        wait_for("the daemon to quote", quotes, daemon, lambda: f"; last seen: {seen}")
        assert seen is not None
        return seen.run_epoch, seen.at_ts_ns

    def written(self) -> int:
        """When its journal was last written to, without opening it: whoever closes a log last copies it back."""
        log = self.journal.with_name(f"{self.journal.name}-wal")
        return log.stat().st_mtime_ns if log.exists() else 0

    def count(self, table: str) -> int:
        """Rows of the venue's record, while it writes."""
        with closing(sqlite3.connect(self.record)) as record:
            return one(record, f"SELECT count(*) FROM {table}")


def wait_for(
    what: str, holds: Callable[[], bool], process: subprocess.Popen[bytes], told: Callable[[], str] = str
) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if process.poll() is not None:
            raise Stuck(f"waited for {what}, and the process ended with {process.returncode}{told()}")
        if time.monotonic() > deadline:
            raise Stuck(f"waited {PATIENCE_S:g} s for {what}{told()}")
        time.sleep(0.02)


def one(db: sqlite3.Connection, query: str, *values: object) -> int:
    (found,) = db.execute(query, values).fetchone()
    return 0 if found is None else found


# --- the killing ------------------------------------------------------------------------------------------------------


class Killed(msgspec.Struct):
    """What was done."""

    moments: dict[str, int] = {}
    seen_quoting: list[tuple[int, int]] = []
    """Runs that were, by epoch, and when: UTC of the daemon."""
    back_s: list[float] = []
    """From a kill to quoting again, the start of the interpreter included, on this program's clock."""
    exit_code: int = -1


def kill_again_and_again(site: Site, rounds: Iterable[int]) -> Killed:
    """One kill for each of `rounds`, then a clean end. Raises Stuck."""
    done = Killed()
    random = Random(site.seed)
    killed_at: float | None = None

    def quoting(daemon: subprocess.Popen[bytes]) -> None:
        done.seen_quoting.append(site.quoting(daemon))
        if killed_at is not None:
            done.back_s.append(time.monotonic() - killed_at)

    with site.venue() as venue:
        for number in rounds:
            # Every second run at least is to get somewhere, so that there is always something to lose.
            moment = random.choice(EARLY) if number % 2 and random.random() < 0.6 else random.choice(LATER)
            done.moments[moment] = done.moments.get(moment, 0) + 1
            written_ns = site.written()
            with site.daemon() as daemon:
                if moment == "recovery":
                    wait_for("it to write to its journal", lambda ns=written_ns: site.written() not in (0, ns), daemon)
                elif moment != "soon":
                    quoting(daemon)
                with closing(sqlite3.connect(site.journal if moment == "disk" else ":memory:")) as lock:
                    until_moment(site, moment, random, lock)
                    if daemon.poll() is not None:
                        raise Stuck(f"round {number}: the daemon ended by itself with {daemon.returncode}")
                    daemon.send_signal(signal.SIGKILL)
                    daemon.wait()
                killed_at = time.monotonic()
            if venue.poll() is not None:
                raise Stuck(f"round {number}: the venue ended with {venue.returncode}")
        with site.daemon() as daemon:
            quoting(daemon)
            time.sleep(random.uniform(1.0, 3.0))
            if not site.ask("pause", "the end"):
                raise Stuck("the pause was refused")
            empty: Callable[[], bool] = lambda: (seen := site.status()) is not None and not seen.open_orders  # noqa: E731
            wait_for("the orders to be gone", empty, daemon)
            time.sleep(1.0)
            daemon.send_signal(signal.SIGTERM)
            done.exit_code = daemon.wait(timeout=PATIENCE_S)
        venue.send_signal(signal.SIGTERM)
        if venue.wait(timeout=PATIENCE_S) != 0:
            raise Stuck(f"the venue ended with {venue.returncode}")
    return done


def until_moment(site: Site, moment: str, random: Random, lock: sqlite3.Connection) -> None:
    """Let the daemon go on until it is to die."""
    if moment == "disk":
        lock.execute("PRAGMA busy_timeout = 5000")
        lock.execute("BEGIN IMMEDIATE")
        time.sleep(random.uniform(0.0, 0.5))
    elif moment == "soon":
        time.sleep(random.uniform(0.2, 2.0))
    elif moment == "recovery":
        time.sleep(random.uniform(0.0, 2.0))
    elif moment == "kill":
        threading.Thread(target=throw, args=(site,)).start()
        time.sleep(random.uniform(0.0, 2.0))
    elif moment == "any":
        time.sleep(random.uniform(0.0, 1.5))
    else:
        until_something_happens(site, "fills" if moment == "fill" else "requests")
        time.sleep(random.uniform(0.0, 0.15))


def throw(site: Site) -> None:
    """Throw the kill switch of a daemon that will not live to answer, perhaps."""
    with suppress(ControlError):
        site.ask("kill", "a round of this program")


def until_something_happens(site: Site, table: str) -> None:
    """A new row in the venue's record, or five seconds."""
    before, deadline = site.count(table), time.monotonic() + 5.0
    while site.count(table) == before and time.monotonic() < deadline:
        time.sleep(0.003)


# --- the journal against the venue's record ---------------------------------------------------------------------------


class Findings(msgspec.Struct):
    figures: dict[str, str] = {}
    defects: dict[str, list[str]] = {}
    """What must be empty, by name, with what was found."""

    @property
    def ok(self) -> bool:
        return not any(self.defects.values())


def hold_against(site: Site, done: Killed) -> Findings:
    with closing(sqlite3.connect(site.record)) as record, closing(sqlite3.connect(site.journal)) as journal:
        found = Findings()
        _orders(record, journal, found)
        _kills(record, journal, found)
        _fills(record, journal, found)
        _account(site, record, found)
        _runs(journal, done, found)
        return found


def _rows(db: sqlite3.Connection, query: str) -> list[tuple[int | str, ...]]:
    return db.execute(query).fetchall()


def _less(some: Iterable[tuple[int | str, ...]], others: Iterable[tuple[int | str, ...]]) -> list[str]:
    """What of the first is not in the second, told apart by how often it is there."""
    left = list(others)
    missing: list[str] = []
    for each in some:
        if each in left:
            left.remove(each)
        else:
            missing.append(str(each))
    return missing


def _orders(record: sqlite3.Connection, journal: sqlite3.Connection, found: Findings) -> None:
    what = "client_id, revision, px_ticks, qty_lots"
    received = _rows(record, f"SELECT {what} FROM requests WHERE kind IN ('place', 'amend')")
    intents = set(_rows(journal, f"SELECT {what} FROM intents"))
    ids = [each[:2] for each in received]
    taken = _rows(record, "SELECT client_id, side, status, filled_lots FROM orders")
    known = _rows(journal, "SELECT client_id, side, status, filled_lots FROM orders WHERE settled = 1")
    live = _rows(record, "SELECT client_id FROM orders WHERE status NOT IN ('filled', 'cancelled', 'rejected')")
    found.defects["sent without an intent in the journal"] = [str(each) for each in received if each not in intents]
    found.defects["sent twice"] = _less(ids, set(ids))
    found.defects["taken by the venue, unknown or other in the journal"] = _less(taken, known)
    found.defects["resting at the venue in the end"] = [str(each) for each in live]
    found.defects["not settled in the journal"] = [
        str(each) for each in _rows(journal, "SELECT client_id, status FROM orders WHERE settled = 0")
    ]
    later = "SELECT count(DISTINCT client_id) FROM order_events JOIN orders USING (client_id) WHERE order_events.epoch"
    left = one(journal, f"{later} > orders.epoch")
    orphans = one(journal, "SELECT count(*) FROM order_events WHERE kind = 'adopted'")
    absent = one(journal, "SELECT count(*) FROM orders WHERE reason = 'absent'")
    found.figures["requests received, orders taken"] = f"{len(received)}, {len(taken)}"
    found.figures["orders that a killed run left to a later one"] = f"{left}, of which {absent} had never arrived"
    found.figures["orphans found"] = str(orphans)


def _latched(journal: sqlite3.Connection) -> list[tuple[int, int]]:
    """From when to when it was killed, by the journal, over all runs. One that did not end ends late."""
    spans: list[tuple[int, int]] = []
    began_ns: int | None = None
    for state, ts_ns in [*journal.execute("SELECT state, ts_ns FROM kill ORDER BY rowid"), ("armed", 1 << 62)]:
        if state != "armed":
            began_ns = ts_ns if began_ns is None else began_ns
        elif began_ns is not None:
            spans.append((began_ns, ts_ns))
            began_ns = None
    return spans


def _kills(record: sqlite3.Connection, journal: sqlite3.Connection, found: Findings) -> None:
    """From a latch until the resume nothing arrives but what had left, whatever became of the process meanwhile."""
    spans = _latched(journal)
    landed = "SELECT client_id, ts_ns FROM requests WHERE kind IN ('place', 'amend') AND ts_ns BETWEEN ? AND ?"
    found.defects["sent while killed"] = [
        str(each)
        for began_ns, ended_ns in spans
        for each in record.execute(landed, (began_ns + round(IN_FLIGHT_MAX_S * NS), ended_ns))
    ]
    found.figures["kill switch latched"] = f"{len(spans)} times"


def _fills(record: sqlite3.Connection, journal: sqlite3.Connection, found: Findings) -> None:
    what = "trade_id, client_id, side, px_ticks, qty_lots, fee_e10, liquidity"
    theirs, ours = _rows(record, f"SELECT {what} FROM fills"), _rows(journal, f"SELECT {what} FROM fills")
    found.defects["fills lost"] = _less(theirs, ours)
    found.defects["fills doubled, or of nobody"] = _less(ours, theirs)
    bills = "SELECT bill_id, kind, amount_e10 FROM bills"
    found.defects["bills that differ"] = _less(_rows(record, bills), _rows(journal, bills))
    down = one(
        record,
        "SELECT count(*) FROM fills WHERE NOT EXISTS (SELECT 1 FROM connections WHERE venue_ts_ns "
        "BETWEEN began_ts_ns AND coalesce(ended_ts_ns, venue_ts_ns))",
    )
    found.figures["fills"] = str(len(theirs))
    found.figures["of these while no daemon was connected"] = str(down)
    late = one(journal, "SELECT count(*) FROM fills WHERE ts_ns - venue_ts_ns > 500000000")
    found.figures["of these read, not streamed (booked over 0.5 s late)"] = str(late)


def _account(site: Site, record: sqlite3.Connection, found: Findings) -> None:
    accounts = record.execute("SELECT cash_e10, position_lots, unit_e10 FROM accounts").fetchall()
    ((cash, position_lots, unit_e10),) = accounts
    summed = one(record, "SELECT sum(side * qty_lots) FROM fills")
    identity = pnl_identity(site.journal)
    mark = identity.mark_px_ticks or 0
    equity_e10 = int(cash) + position_lots * mark * unit_e10
    positions = {"wallet": position_lots, "venue's fills": summed, "journal": identity.position_lots}
    found.figures["position"] = f"{identity.position_lots} lots"
    found.defects["positions that differ"] = [str(positions)] if len(set(positions.values())) > 1 else []
    found.defects["equity that differs"] = (
        [f"the wallet has {equity_e10}, the journal {identity.equity_e10}"] if identity.equity_e10 != equity_e10 else []
    )


def _runs(journal: sqlite3.Connection, done: Killed, found: Findings) -> None:
    runs = one(journal, "SELECT count(*) FROM runs")
    to_quoting_s: list[float] = []
    # Those that began killed wait for a person, here for this program.
    resumed = "SELECT epoch FROM operator_actions WHERE action = 'resume' AND outcome NOT LIKE 'refused%'"
    began_killed = {epoch for (epoch,) in journal.execute(resumed)}
    for epoch, at_ts_ns in done.seen_quoting:
        if epoch in began_killed:
            continue
        to_quoting_s.append((at_ts_ns - one(journal, "SELECT started_ts_ns FROM runs WHERE epoch = ?", epoch)) / NS)
    slow = [f"{s:.1f} s" for s in to_quoting_s if s > QUOTING_WITHIN_S]
    # A kill that was asked for, and the starts that found themselves killed by it.
    ours = "(from_state = 'starting' AND epoch IN (SELECT epoch FROM kill)) OR reasons = 'kill'"
    stops = _rows(journal, f"SELECT epoch, reasons FROM transitions WHERE to_state = 'hard_stop' AND NOT ({ours})")
    if (latches := len(_latched(journal))) > done.moments.get("kill", 0):
        stops.append((latches, "latches, more than kills that were asked for"))
    last = _rows(journal, "SELECT epoch, scope, breaks FROM reconciliations ORDER BY rowid DESC LIMIT 1")
    found.defects[f"not quoting within {QUOTING_WITHIN_S:g} s"] = slow
    found.defects["hard stops"] = [str(each) for each in stops]
    found.defects["breaks open in the end"] = [
        str(each) for each in _rows(journal, "SELECT name, detail FROM breaks WHERE closed_ts_ns IS NULL")
    ]
    found.defects["last reconciliation not clean"] = [str(each) for each in last if each[2] != "[]"]
    found.defects["accounts beyond the one"] = [
        str(each) for each in _rows(journal, "SELECT DISTINCT account_epoch FROM runs WHERE account_epoch > 1")
    ]
    end = _rows(journal, "SELECT clean_stop FROM runs ORDER BY epoch DESC LIMIT 1")
    found.defects["no clean stop in the end"] = [] if (end, done.exit_code) == ([(1,)], 0) else [str(done.exit_code)]
    kills = ", ".join(f"{count} {moment}" for moment, count in sorted(done.moments.items()))
    total = sum(done.moments.values())
    found.figures["kills"] = f"{total} ({kills})"
    reached = Counter({"before the journal": total - (runs - 1), **Counter(phases(journal)[:-1])})
    found.figures["how far the killed runs had got"] = ", ".join(f"{n} {phase}" for phase, n in reached.most_common())
    dirty = one(journal, "SELECT count(*) FROM reconciliations WHERE breaks <> '[]'")
    found.figures["reconciliations, with breaks"] = f"{one(journal, 'SELECT count(*) FROM reconciliations')}, {dirty}"
    if to_quoting_s:
        found.figures["start of a run to quoting, on its own clock"] = _spread(to_quoting_s)
    if done.back_s:
        found.figures["kill to quoting again, interpreter and runs cut short included"] = _spread(done.back_s)


def phases(journal: sqlite3.Connection) -> list[str]:
    """How far each run got, in order, by what it left in the journal."""
    found: list[str] = []
    for (epoch,) in _rows(journal, "SELECT epoch FROM runs ORDER BY epoch"):
        kill = _rows(journal, f"SELECT state FROM kill WHERE epoch = {epoch} ORDER BY rowid")
        rounds = one(journal, "SELECT count(*) FROM reconciliations WHERE epoch = ?", epoch)
        sent = one(journal, "SELECT count(*) FROM intents WHERE epoch = ?", epoch)
        if kill and kill[-1] != ("armed",):
            found.append(f"in a kill ({kill[-1][0]})")
        elif not rounds:
            found.append("recovering, before the first reconciliation")
        else:
            found.append("quoting" if sent else "reconciled, before the first order")
    return found


def _spread(seconds: list[float]) -> str:
    return f"p50 {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="an empty folder for logs, journal and record")
    chosen = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        site = Site(chosen.keep or Path(folder), chosen.seed)
        done = kill_again_and_again(site, track(range(chosen.n), "kills", console=console))
        found = hold_against(site, done)
    table = Table("what", "figure")
    for name, figure in found.figures.items():
        table.add_row(name, figure)
    for name, items in found.defects.items():
        table.add_row(name, str(len(items)), style="" if not items else "red")
    console.print(table)
    for name, items in found.defects.items():
        for item in items[:10]:
            console.print(f"{name}: {item}", highlight=False, markup=False)
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
