"""`mmdaemon demo`: the daemon's main job on the embedded venue, scripted, ending in proofs read from the journal."""

import sqlite3
import sys
import time
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mmdaemon.cli import ExitCode, Refused, summary
from mmdaemon.cli.console import Console
from mmdaemon.cli.run import locked
from mmdaemon.cli.verdicts import verify_decisions
from mmdaemon.core import position
from mmdaemon.daemon.wire import market_of
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.replay import pnl_identity
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.research.demo import DURATION_NS, SCHEDULE, START_TS_NS, DemoScript, Seen
from mmdaemon.research.report import write_report
from mmdaemon.research.report.words import Units
from mmdaemon.research.session import Session, play
from mmdaemon.research.summary import RunSummary, summarise
from mmdaemon.settings import load, shipped_config

DECISIONS_AT_LEAST = 1_000
RUNNING_AT_LEAST = 0.5
_FOLDER = Path(".mmdaemon") / "demo"
_TAG = "demo"
"""Bot tag of a demo's journal: what is not tagged so is somebody's, and stays."""


def demo(*, state_dir: Path = _FOLDER) -> int:
    """Run the scripted demo, some eight virtual hours, and check what it left behind. Exit 0 when every check holds.

    Parameters
    ----------
    state_dir
        Where the demo's journal goes. An earlier demo's is replaced; any other journal is refused and left alone.
    """
    console = Console()
    settings = load(shipped_config("demo"), {"run.state_dir": str(state_dir)}, {}).settings
    directory = locked(state_dir, {})
    begun = time.perf_counter()
    try:
        _clear(directory)
        with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bars:
            bar = bars.add_task("12:00 UTC", total=DURATION_NS)

            def tell(seen: Seen) -> None:
                mark = "[green]ok[/]" if seen.ok else "[red]NOT AS IT MUST BE[/]"
                at = _clock(seen.at_ts_ns)
                bars.console.print(f"[bold]{at} {seen.name}[/] {mark}  {seen.text}", highlight=False)

            def progress(passed_ns: int) -> None:
                bars.update(bar, completed=passed_ns, description=f"{_clock(START_TS_NS + passed_ns)} UTC")

            script = DemoScript(tell, progress)
            source = market_of(settings, START_TS_NS, SCHEDULE)
            session = play(settings, directory, source, script, bot_tag=_TAG)
    finally:
        directory.release()
    wall_s = time.perf_counter() - begun
    run = summarise(directory.journal_path)
    page = state_dir / "report.html"
    console.print()
    summary.show(console, run, wall_s)
    console.print()
    checks = [
        *((f"scripted: {seen.name}", seen.ok) for seen in script.seen),
        ("the daemon ended as asked", session.exit_code == 0),
        *_identity(console, session, directory.journal_path),
        *_activity(run),
        verify_decisions(console, directory.journal_path, run.epoch, at_least=DECISIONS_AT_LEAST),
        ("the report's figures agree", all(check.ok for check in write_report(directory.journal_path, page).checks)),
    ]
    for name, ok in checks:
        console.print(f"  {'[green]ok[/]    ' if ok else '[red]FAILED[/]'} {name}", highlight=False)
    failed = sum(not ok for _, ok in checks)
    console.print()
    console.print(f"The report, to be opened in a browser: {page}", highlight=False, markup=False, soft_wrap=True)
    console.print()
    _look_next(console, state_dir)
    return 1 if failed else 0


def _clear(directory: StateDir) -> None:
    """Take an earlier demo's journal out of the locked directory. The lock stays, and whatever else is there.

    Raises Refused: the directory is killed, or its journal is not a demo's.
    """
    if latched := directory.latched():
        raise Refused(
            f"{directory.path} is killed ({latched[0]} is there), and the demo replaces no journal of a killed daemon; "
            "name another --state-dir, or remove the whole directory if all in it is an earlier demo's",
            ExitCode.CONFIG,
        )
    path = directory.journal_path
    if path.exists() and (tag := _tag_of(path)) != _TAG:
        raise Refused(
            f"{path} is not an earlier demo's ({tag}), and the demo replaces no other journal; name another "
            "--state-dir",
            ExitCode.CONFIG,
        )
    for suffix in ("-wal", "-shm", ""):  # the journal itself last: it alone says whose the others are
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _tag_of(path: Path) -> str:
    try:
        with JournalReader(path) as journal:
            found = journal.db.execute("SELECT bot_tag FROM meta").fetchone()
    except (JournalUnreadable, sqlite3.Error) as error:
        return str(error)
    return _TAG if found == (_TAG,) else "a daemon wrote it" if found else "nobody has begun a run in it"


def _look_next(console: Console, state_dir: Path) -> None:
    """Commands as they were typed, each under what it is for; a command is one line however narrow the terminal."""
    typed = sys.argv[0]
    program = typed if typed.endswith(".venv/bin/mmdaemon") else "mmdaemon"
    where = f"--state-dir {state_dir}"
    console.print("Where to look next:", style="bold")
    for what, command in (
        ("why that order was there, addend by addend", f"explain --last-fill {where}"),
        ("every quote recomputed from the journal", f"replay --verify {where}"),
        ("the daemon in real time", "run"),
        ("in another terminal: what it does, and why when it does not", "status --watch"),
    ):
        console.print(f"  # {what}", style="dim", highlight=False, markup=False)
        console.print(f"  {program} {command}", highlight=False, markup=False, soft_wrap=True)


def _identity(console: Console, session: Session, journal: Path) -> list[tuple[str, bool]]:
    """Three ledgers, kept apart, at one mark: cash flows in SQL, the position module, the venue's own wallet."""
    daemon, truth = session.daemon, session.truth
    mark = daemon.state.venue.mark_px_ticks
    units = Units(daemon.params.instrument)
    cash = pnl_identity(journal, mark).equity_e10
    basis = position.equity_basis_e10(daemon.state.position, mark)
    wallet = truth.wallet.equity_e10(mark)
    console.print("PnL identity, equity at one mark, to the last digit:", style="bold")
    for name, amount in (("cash flows (journal)", cash), ("cost basis (core)", basis), ("venue's wallet", wallet)):
        console.print(f"  {name:<22}{units.signed(amount)}", highlight=False)
    parts = position.attribution(daemon.state.position, mark, daemon.state.markouts.impact_5s_e10)
    footed = parts.total_e10 == basis - daemon.state.position.start_e10
    return [("PnL identity: three ledgers equal", cash == basis == wallet), ("attribution foots to the total", footed)]


def _activity(run: RunSummary) -> list[tuple[str, bool]]:
    return [
        (f"fills on both sides ({run.fills_buy} buys, {run.fills_sell} sells)", run.fills_buy > 0 < run.fills_sell),
        (f"RUNNING {run.running_share:.1%} of healthy time", run.running_share > RUNNING_AT_LEAST),
    ]


def _clock(ts_ns: int) -> str:
    return time.strftime("%H:%M", time.gmtime(ts_ns // 1_000_000_000))
