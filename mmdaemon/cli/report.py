"""`mmdaemon report`: one HTML file of a run, with its plots, and the figures as JSON beside it."""

import sys
from pathlib import Path

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.console import Console
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.research.report import Report, write_report

NO_REPORT = 1
DIFFERS = 2
_TOLD = ("pnl", "running_share", "both_sides", "fill_ratio", "largest_position")


def report(*, run: int | None = None, out: Path | None = None, state_dir: Path | None = None) -> int:
    """Write the report of a run: a page that needs nothing but a browser, and the same figures as JSON.

    Exits with 0, with 1 where there is no such journal or run, and with 2 where the figures do not agree with one
    another: the page says which. Only reads the journal, also beside a running daemon.

    Parameters
    ----------
    run
        Number of the run; without one the last.
    out
        The page; the JSON goes beside it. Without one report-RUN.html in the state directory.
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own.
    """
    directory = locate_dir(state_dir)
    try:
        epoch = _epoch(directory.journal_path) if run is None else run
        page = directory.path / f"report-{epoch}.html" if out is None else out
        made = write_report(directory.journal_path, page, epoch)
    except JournalUnreadable as error:
        print(f"mmdaemon report: {error}", file=sys.stderr)
        return NO_REPORT
    except (OSError, ValueError) as error:
        raise Refused(f"the report cannot be written: {error}; --out names another file", ExitCode.USAGE) from error
    console = Console(highlight=False, soft_wrap=True, markup=False)
    show(made, page, console)
    return DIFFERS if any(check.ok is False for check in made.checks) else ExitCode.OK


def _epoch(path: Path) -> int:
    """Number of the last run."""
    with JournalReader(path) as journal:
        last = journal.run()
    if last is None:
        raise JournalUnreadable(f"journal {path} has no run at all")
    return last.epoch


def show(made: Report, page: Path, console: Console) -> None:
    """What was assumed first, then the headline, then where all of it is."""
    run = made.run
    to = "; " if run.ended.startswith("not ended") else " to "
    why = f"; {run.end_reason}" if run.end_reason else ""
    span = f"{run.started}{to}{run.ended} UTC, {run.duration}{why}"
    console.print(f"run {run.epoch} on {run.symbol} at {run.venue}, {span}")
    for each in made.assumptions:
        console.print(f"  {each.name}: {each.text}", style="dim")
    for key in _TOLD:
        figure = made.figures[key]
        note = f" ({figure.note})" if figure.note else ""
        console.print(f"  {figure.label:<18}{figure.shown}{note}")
    for check in made.checks:
        console.print(f"  {check.name:<26}{check.verdict}: {check.text}")
    console.print(f"report   {page}")
    console.print(f"figures  {page.with_suffix('.json')}")
