"""What `mmdaemon compare` does once its extra is there: play what is not known, and say what came of it."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from rich.markup import escape
from rich.table import Table

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.console import Console
from mmdaemon.cli.telling import telling
from mmdaemon.core.types import NS
from mmdaemon.research.ablation.page import FIGURE, markdown, page, verdicts
from mmdaemon.research.ablation.plot import svg
from mmdaemon.research.ablation.results import Prepared, Result, prepared_path, read_prepared, read_result, result_path
from mmdaemon.research.ablation.rows import BY_NAME, FILLS, ROWS
from mmdaemon.research.ablation.run import Failed, Job, jobs_of, known, play_rows, prepare
from mmdaemon.research.ablation.table import edges, settings_of
from mmdaemon.tapes.rows import TapeError

EXIT_FAILED: Final = 1
_SHOWN: Final = 9
"""Columns of the comparison that the terminal shows."""
_WIDTH: Final = 190
"""Where nobody says how wide it is, as in a log."""


class Asked(NamedTuple):
    """What `mmdaemon compare` was given; see there."""

    tapes: tuple[Path, ...]
    rows: str
    fills: str
    hours: float
    jobs: int | None
    out: Path
    docs: Path | None
    any_code: bool
    show: bool


def run(asked: Asked) -> int:
    """Play, or show, what was asked for. Returns the exit code."""
    hours, out = asked.hours, asked.out
    console = Console(highlight=False)
    wanted = _chosen(asked.rows, tuple(BY_NAME), "--rows") if asked.rows else [row.name for row in ROWS]
    assumptions = _chosen(asked.fills, FILLS, "--fills")
    if not 0 <= hours <= 1_000 or (asked.jobs is not None and asked.jobs < 1):
        raise Refused(f"--hours {hours:g} must be 0 at least, and at most 1,000; --jobs 1 at least", ExitCode.USAGE)
    named = _named(asked.tapes)
    flags = [
        (asked.rows, f"--rows {','.join(wanted)}"),
        (set(assumptions) != set(FILLS), f"--fills {','.join(assumptions)}"),
        (hours, f"--hours {hours:g}"),
    ]
    command = " ".join(["mmdaemon compare", *named, *(flag for given, flag in flags if given)])
    try:
        tapes = _kept(named, out) if asked.show else _prepared(console, named, asked)
    except TapeError as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    todo = jobs_of(list(tapes), assumptions, wanted)
    if asked.show:
        files = [result_path(out, job.tape, job.fills, job.row) for job in todo]
        results = [result for result in map(read_result, files) if result is not None]
        failed = 0
    else:
        results, failed = _play(console, todo, tapes, asked)
    _say(console, list(tapes.values()), results)
    _write(console, list(tapes.values()), results, out, asked.docs, command)
    return EXIT_FAILED if failed else ExitCode.OK


def _chosen(text: str, all_of: Sequence[str], flag: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(all_of)):
        raise Refused(f"{flag}: no such name: {', '.join(unknown)}; there are {', '.join(all_of)}", ExitCode.USAGE)
    return list(dict.fromkeys(names))


def _named(tapes: Sequence[Path]) -> dict[str, Path]:
    """By the name that results have: the file's or the folder's."""
    named: dict[str, Path] = {}
    for path in tapes:
        if not path.exists():
            raise Refused(f"{path}: there is no such recording", ExitCode.USAGE)
        name = path.resolve().name.split(".")[0]
        if name in named:
            raise Refused(
                f"{path} and {named[name]}: results go by the last part of the path; rename one", ExitCode.USAGE
            )
        named[name] = path
    return named


def _kept(named: dict[str, Path], out: Path) -> dict[str, Prepared]:
    found = {name: read_prepared(prepared_path(out, name)) for name in named}
    if missing := [name for name, tape in found.items() if tape is None]:
        raise Refused(f"{out} has no results of {', '.join(missing)}; leave --show out", ExitCode.USAGE)
    return {name: tape for name, tape in found.items() if tape is not None}


def _prepared(console: Console, named: dict[str, Path], asked: Asked) -> dict[str, Prepared]:
    made: dict[str, Prepared] = {}
    for name, path in named.items():
        with telling(lambda name=name: f"reading {name}"):
            tape = made[name] = prepare([path], name, asked.out, asked.hours, any_code=asked.any_code)
        console.print(f"{name}: {tape.whole.hours:.2f} h, scored from {tape.fitted.until_s / 3600:.2f} h on")
    return made


def _play(console: Console, todo: Sequence[Job], tapes: dict[str, Prepared], asked: Asked) -> tuple[list[Result], int]:
    processes = asked.jobs or os.cpu_count() or 1
    results, left = known(todo, tapes, asked.out, any_code=asked.any_code)
    if results:
        console.print(f"{len(results)} rows are known; {len(left)} to play")
    begun, failed, at = time.perf_counter(), 0, dict[Job, int]()
    done = 0

    def text() -> str:
        going = ", ".join(f"{job.name} {passed_ns / NS / 3600:.1f} h" for job, passed_ns in at.items())
        return f"{done} of {len(left)} rows after {time.perf_counter() - begun:,.0f} s; {going or 'starting'}"

    def told(job: Job, passed_ns: int) -> None:
        at[job] = passed_ns

    with telling(text):
        for each in play_rows(left, tapes, asked.out, processes, told):
            done += 1
            if isinstance(each, Failed):
                failed += 1
                at.pop(each.job, None)
                console.print(f"[bold]{each.job.name} failed[/]: {escape(repr(each.error))}", soft_wrap=True)
                continue
            at.pop(Job(each.tape, each.fills, each.row), None)
            results.append(each)
            score = each.scored
            said = each.refused or (f"e5 {score.e5:+.3f}" if score is not None and score.e5 is not None else "no e5")
            figures = f", {score.fills:,} fills" if score is not None else ""
            stopped = f", stopped: {each.stopped}" if each.stopped else ""
            line = (
                f"{done}/{len(left)} {each.tape} {each.fills} {each.row}: {said}{figures}{stopped}, {each.cpu_s:.0f} s"
            )
            console.print(line, markup=False, soft_wrap=True)
    return results, failed


def _say(console: Console, tapes: list[Prepared], results: list[Result]) -> None:
    wide = Console(highlight=False, width=_WIDTH)
    for setting in settings_of(tapes, results):
        made = edges(setting)
        drawn = Table(title=f"{setting.tape.name}, fills by {setting.fills}", title_justify="left", box=None)
        for place, column in enumerate(made.columns[:_SHOWN]):
            drawn.add_column(column, justify="right" if place else "left", no_wrap=bool(place))
        for row in made.rows:
            drawn.add_row(*(escape(cell) for cell in row[:_SHOWN]))
        if made.rows:
            (console if console.is_terminal else wide).print(drawn)
        for note in (*made.notes, *verdicts(setting)):
            console.print(note, markup=False, soft_wrap=True)


def _write(
    console: Console, tapes: list[Prepared], results: list[Result], out: Path, docs: Path | None, command: str
) -> None:
    text = markdown(tapes, results, command)
    (out / "compare.html").write_text(page(tapes, results, command), encoding="utf-8")
    for folder, name in ((out, "compare.md"), *([(docs.parent, docs.name)] if docs is not None else [])):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
        for setting in settings_of(tapes, results):
            if setting.fills == "queue" and (drawn := svg(setting)):
                figure = folder / FIGURE.format(tape=setting.tape.name)
                figure.write_text(drawn + "\n", encoding="utf-8")
        console.print(f"table  {folder / name}", markup=False, soft_wrap=True)
    console.print(f"page   {out / 'compare.html'}", markup=False, soft_wrap=True)
