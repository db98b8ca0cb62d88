"""`mmdaemon export`: the journal as CSV or Parquet files."""

import errno
import sqlite3
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.console import Console
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.research.export import LIST, Format, Written
from mmdaemon.research.export import export as export_journal
from mmdaemon.research.export_desk import ABSENT, DESK
from mmdaemon.research.export_rows import ExportRefused, Table
from mmdaemon.research.export_tables import TABLES, named

NO_JOURNAL = NO_RUN = 1


def export(
    *tables: str,
    run: int | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative=())] = False,
    format_: Annotated[Format, Parameter(name="--format")] = Format.CSV,
    out: Path = Path("export"),
    force: Annotated[bool, Parameter(negative=())] = False,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    state_dir: Path | None = None,
) -> int:
    """Write the journal as CSV or Parquet, each table to a file of its own, exact to the last digit.

    All tables are of one moment. Only reads the journal, also beside a running daemon. Exits with 1 where there is no
    such journal or run, or it cannot be read to the end; then no file is left behind. docs/EXPORT.md has the columns.

    Parameters
    ----------
    tables
        Which tables; all without a name (--list shows them).
    run
        Number of the run; without one the last.
    all_
        All runs of the journal.
    format_
        `parquet` needs pyarrow, which comes with mmdaemon[tapes].
    out
        Folder for the files; made where it is not there.
    force
        Write over files that are there.
    list_
        Show tables and columns, and which of the desk's columns are not there; write nothing.
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own.
    """
    if run is not None and all_:
        raise Refused("--run names one run and --all means all of them; give one", ExitCode.USAGE)
    terminal = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        chosen = named(tables)
        if list_:
            _print_list(terminal, chosen)
            return ExitCode.OK
        path = locate_dir(state_dir).journal_path
        if not path.is_file():
            terminal.print(
                f"no journal at {path}; has the daemon run with this state directory? --state-dir names another"
            )
            return NO_JOURNAL
        epoch = None if all_ else _run(path, run)
        begun = time.perf_counter()
        written = _export(path, out, chosen, epoch, format_, force=force)
    except ExportRefused as refused:
        raise Refused(str(refused), ExitCode.USAGE) from refused
    except (JournalUnreadable, sqlite3.Error) as error:
        terminal.print(f"NOT EXPORTED: {error}")
        return NO_RUN
    except OSError as error:
        code = ExitCode.RETRY if error.errno in {errno.ENOSPC, errno.EDQUOT} else ExitCode.USAGE
        raise Refused(
            f"{out}: cannot be written ({error.strerror or error}); nothing was exported, name another folder (--out)",
            code,
        ) from error
    for each in written:
        terminal.print(f"{each.rows:>12,}  {each.path}")
    what = "all runs" if epoch is None else f"run {epoch}"
    absent = sum(len(ABSENT.get(table.name, {})) for table in chosen)
    terminal.print(f"{what} in {time.perf_counter() - begun:.1f} s; {out / LIST} lists the files")
    if absent:
        terminal.print(f"{absent} columns of the desk's are not there: `mmdaemon export --list` says which, and why")
    return ExitCode.OK


def _run(path: Path, run: int | None) -> int:
    """That run, or the last. Raises JournalUnreadable where there is none."""
    from mmdaemon.journal.reader import JournalReader

    with JournalReader(path) as journal:
        found = journal.run(run)
        if found is not None:
            return found.epoch
        runs = [each.epoch for each in journal.runs()]
    if not runs:
        raise JournalUnreadable(f"journal {path} has no run at all")
    there = f"runs are {runs[0]}-{runs[-1]}" if len(runs) > 1 else f"the only one is {runs[0]}"
    raise JournalUnreadable(f"there is no run {run}; {there}")


def _export(
    path: Path, out: Path, tables: tuple[Table, ...], epoch: int | None, form: Format, *, force: bool
) -> list[Written]:
    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    terminal = Console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bars:
        bar = bars.add_task("reading", total=None)

        def progress(table: str, done: int, of: int) -> None:
            bars.update(bar, description=table, completed=done, total=of)

        return export_journal(path, out, tables, epoch=epoch, form=form, force=force, progress=progress)


def _print_list(terminal: Console, tables: tuple[Table, ...]) -> None:
    for table in tables:
        terminal.print(f"{table.name}: {table.about}")
        terminal.print(f"  {', '.join(column.name for column in table.columns)}")
    for name, absent in ABSENT.items():
        if name not in {table.name for table in tables}:
            continue
        terminal.print(f"\nof the desk's {len(DESK[name])} columns of {name}, {len(absent)} are not there:")
        width = max(map(len, absent))
        for column, why in absent.items():
            terminal.print(f"  {column:<{width}}  {why}")
    if len(tables) == len(TABLES):
        terminal.print("\nnot exported: parameters, checkpoints (this program's own state in its own encoding)")
