"""`mmdaemon compare`: the strategy, with each part switched off, beside the rules of others, on recordings."""

from importlib import import_module
from pathlib import Path

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.tapes.reading import with_extra
from mmdaemon.tapes.rows import TapeError


def compare(
    *tape: Path,
    rows: str = "",
    fills: str = "queue,through,touch",
    hours: float = 0.0,
    jobs: int | None = None,
    out: Path = Path(".mmdaemon") / "compare",
    docs: Path | None = None,
    any_code: bool = False,
    show: bool = False,
) -> int:
    """Play every row of the comparison on recordings, score them, and write tables and plots.

    Each row is a whole daemon in virtual time. Its result is a file in --out: what is there and follows from the same
    code, settings and recording is not played again, so that a run that was stopped goes on. Exits with 1 where a row
    could not be played.

    Parameters
    ----------
    tape
        Recordings, each a file or a folder.
    rows
        Names of rows with commas between; without it all: `full,no_skew,join`.
    fills
        Assumptions of fills, with commas between.
    hours
        Play only so many hours of each recording; 0 is all.
    jobs
        Processes; without it one for each processor.
    out
        Folder of the result files, and of compare.html and compare.md.
    docs
        Write the Markdown there too, with its figures beside it.
    any_code
        Take results in --out that were played with other code; the tables say which.
    show
        Play nothing: tables and plots of what is in --out, whatever code it is of.
    """
    if not tape:
        raise Refused("name a recording at least", ExitCode.USAGE)
    try:
        with_extra(tape[0], lambda: import_module("numpy"))
    except TapeError as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    from mmdaemon.cli.comparing import Asked, run

    return run(Asked(tape, rows, fills, hours, jobs, out, docs, any_code, show))
