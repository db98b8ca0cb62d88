"""`mmdaemon calibrate`: what a recording says of volatility, intensity, markouts and the signal; a preset from it."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.console import Console
from mmdaemon.cli.tape import Stated, progress, refusing, steps_of
from mmdaemon.settings import assignments, load
from mmdaemon.tapes.reading import open_tape, with_extra

NOTHING_FITTED = 1
LONGEST_HORIZON_S = 300.0
MOST_HOURS = 100_000

if TYPE_CHECKING:
    from mmdaemon.research.calibration.records import Calibration


def calibrate(
    *paths: Path,
    config: Path | None = None,
    set_: Annotated[Sequence[str], Parameter(name="--set", negative=())] = (),
    hours: float | None = None,
    until: float | None = None,
    horizon: float | None = None,
    out: Path = Path("calibration"),
    stated: Stated | None = None,
) -> int:
    """Fit the strategy's numbers on a recording, as its books and prints arrived, and suggest a preset.

    Writes calibration.json, calibration.html and calibration.toml. Exits with 1 where nothing could be fitted, 78 where
    the recording or the configuration cannot be used. docs/CALIBRATION.md says what each figure is.

    Parameters
    ----------
    paths
        Files, or a folder of them; several follow each other, in order.
    config
        The TOML file of the daemon that is to quote: its regimes, order sizes, gamma and limits.
    set_
        One setting over all others, as table.key=value; may be given again.
    hours
        Use the first so many hours alone, and leave the rest to be tried on.
    until
        The same as a fraction of the recording, from 0 to 1.
    horizon
        Seconds over which the signal predicts; 15 without it.
    out
        Folder for the files; made where it is not there. What it wrote there before is replaced.
    """
    _check(paths, hours, until, horizon)
    settings = load(config, assignments(set_)).settings
    with refusing(out), progress(quiet=False) as bar:
        tape = open_tape(list(paths), steps_of(stated))
        with_extra(paths[0], lambda: import_module("numpy"))
        from mmdaemon.research.calibration.fitting import calibrate as fit
        from mmdaemon.research.calibration.fitting import until_of
        from mmdaemon.research.calibration.page import write
        from mmdaemon.research.calibration.ridge import HORIZON_S

        until_ns = until_of(tape, hours, until)
        told = bar(tape.span_ns if until_ns is None else until_ns, "read {share}")
        looks_s = HORIZON_S if horizon is None else horizon
        made = fit(tape, settings, until_ns=until_ns, horizon_s=looks_s, progress=told)
        written = write(made, out)
    console = Console(highlight=False)
    show(console, made)
    for path in written:
        console.print(f"written  {path}", markup=False, soft_wrap=True)
    return ExitCode.OK if made.is_anything_fitted else NOTHING_FITTED


def _check(paths: Sequence[Path], hours: float | None, until: float | None, horizon: float | None) -> None:
    if not paths:
        raise Refused("name a recording to calibrate on", ExitCode.USAGE)
    if hours is not None and until is not None:
        raise Refused("--hours and --until both say how much to use; give one", ExitCode.USAGE)
    if hours is not None and not 0 < hours <= MOST_HOURS:
        raise Refused(f"--hours {hours:g} must be above 0, and at most {MOST_HOURS:,}", ExitCode.USAGE)
    if until is not None and not 0 < until <= 1:
        raise Refused(f"--until {until:g} is a fraction of the recording: above 0, and at most 1", ExitCode.USAGE)
    if horizon is not None and not 0.1 <= horizon <= LONGEST_HORIZON_S:
        raise Refused(
            f"--horizon {horizon:g} must be 0.1 s at least, and at most {LONGEST_HORIZON_S:g}", ExitCode.USAGE
        )


def show(console: Console, made: "Calibration") -> None:
    """What it rests on, every fit with how good it is, and every one that was not made."""
    from mmdaemon.research.calibration.tables import source_lines, tables

    facts = Table(show_header=False, box=None, padding=(0, 2))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in source_lines(made):
        facts.add_row(Text(name), Text(text))
    console.print(facts)
    for each in tables(made, every=False):
        console.print(f"\n{each.title}", markup=False, style="bold")
        if each.rows:
            shown = Table(box=None, padding=(0, 2), pad_edge=False, header_style="dim")
            for place, column in enumerate(each.columns):
                shown.add_column(Text(column), justify="right" if place else "left")
            for row in each.rows:
                shown.add_row(*(Text(cell) for cell in row))
            console.print(shown)
        for note in each.notes:
            console.print(f"  {note}", markup=False, style="dim")
    missing = made.missing()
    said = f"not made, or refused: {len(missing)}" if missing else "every fit was made"
    console.print(f"\n{said}", style="bold")
    for line in missing:
        console.print(f"  {line}", markup=False)
