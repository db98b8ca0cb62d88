"""`mmdaemon simulate`: whole daemons under seeded faults and crashes in virtual time, checked at every venue event."""

import os
import time
from pathlib import Path

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.console import Console
from mmdaemon.research.simulation import runner
from mmdaemon.research.simulation.plan import Plan
from mmdaemon.research.simulation.played import Played, Totals
from mmdaemon.research.simulation.sometimes import EXPECTED, NOT_HERE, never_seen

EXIT_VIOLATED = 1
SHOWN_FAULTS = 40


def simulate(  # one flag each
    *,
    seeds: int = 20,
    first_seed: int = 1,
    hours: float = 0.5,
    jobs: int | None = None,
    seed: int | None = None,
    file: Path | None = None,
    out: Path = Path(".mmdaemon") / "simulate",
    shrink_s: float = 60.0,
    require_all: bool = False,
    json: Path | None = None,
) -> int:
    """Crash daemons, break venue, disk and clock, and check that nothing is lost track of.

    Exits with 1 where something was violated: the failing seed is cut down to the few faults that matter and saved.

    Parameters
    ----------
    seeds
        How many seeds.
    first_seed
        The first of them; they follow each other.
    hours
        Virtual hours a seed that a daemon is to be up.
    jobs
        Processes; without it one for each processor.
    seed
        Play this one alone, and print what happens.
    file
        Play a saved failure again, and print what happens.
    out
        Where failures are saved.
    shrink_s
        Seconds to spend on cutting a failing seed down.
    require_all
        Fail where a fault, a move of guard or kill switch, or an exit from UNKNOWN was in none of the seeds.
    json
        Write the figures there too.
    """
    console = Console(highlight=False)
    if not 0 < hours <= 10_000:
        raise Refused(f"--hours {hours:g} must be above 0, and at most 10,000", ExitCode.USAGE)
    if seeds < 1 or first_seed < 0 or (seed is not None and seed < 0) or (jobs is not None and jobs < 1):
        raise Refused("--seeds and --jobs must be 1 at least, a seed 0 at least", ExitCode.USAGE)
    if file is not None and (seed is not None or require_all or json is not None):
        raise Refused("--file plays what was saved: it takes no --seed, --require-all or --json", ExitCode.USAGE)
    if file is not None:
        return _again(console, file)
    if seed is not None:
        played = runner.run(Plan(seed, hours), lambda line: console.print(line, markup=False, soft_wrap=True))
        totals = Totals()
        totals.add(played)
    else:
        totals, failed = _play(console, range(first_seed, first_seed + seeds), hours, jobs or os.cpu_count() or 1)
        for each in failed:
            _explain(console, each, hours, shrink_s, out)
        played = None
    show(console, totals)
    if played is not None and played.violation is not None:
        _explain(console, played, hours, shrink_s, out)
    if json is not None:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(totals)) + b"\n")
    missing = never_seen(totals.faults, totals.counted) if require_all else []
    if missing:
        lacking = f"{len(missing)} of {len(EXPECTED)} were in none of {totals.seeds:,} seeds"
        console.print(
            f"invariant 24 (sometimes): {lacking}; the rarest take some hundreds of half an hour: {', '.join(missing)}",
            markup=False,
            soft_wrap=True,
        )
    elif require_all:
        console.print(f"each of {len(EXPECTED)} faults, moves and exits was seen; {len(NOT_HERE)} cannot be seen here")
    return EXIT_VIOLATED if totals.failed or missing else ExitCode.OK


def _play(console: Console, seeds: range, hours: float, jobs: int) -> tuple[Totals, list[Played]]:
    totals, failed = Totals(), list[Played]()
    begun = time.perf_counter()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        bar = bars.add_task("seeds", total=len(seeds))
        for played in runner.run_many(seeds, hours, jobs):
            totals.add(played)
            if played.violation is not None:
                failed.append(played)
                bars.console.print(f"seed {played.seed}: {played.violation.what}", markup=False)
            bars.update(bar, advance=1, description=f"{totals.hours:,.1f} h, {len(totals.failed)} failed")
    console.print(f"{time.perf_counter() - begun:,.0f} s on {jobs} processes")
    return totals, failed


def show(console: Console, totals: Totals) -> None:
    """The figures of a run."""
    table = Table(show_header=False, box=None, pad_edge=False)
    hours = totals.hours
    for name, text in (
        ("simulated while a daemon was up", f"{hours:,.2f} h ({hours / 24:,.2f} days) over {totals.seeds:,} seeds"),
        ("share of it RUNNING", f"{totals.share(totals.running_s):.1%}"),
        ("share with quotes on both sides", f"{totals.share(totals.two_sided_s):.1%}"),
        ("faults an hour", f"{totals.an_hour(totals.faults_in_all):,.0f}"),
        ("crashes an hour", f"{totals.crashes_an_hour:,.1f} ({totals.crashes:,}; {totals.lives:,} lives)"),
        ("fills an hour", f"{totals.an_hour(totals.fills):,.0f}"),
        ("UNKNOWNs an hour", f"{totals.an_hour(totals.unknowns):,.0f}"),
        ("commands an hour", f"{totals.an_hour(totals.sent):,.0f}"),
        ("looks at a settled daemon", f"{totals.settled:,}"),
        ("simulated hours a CPU-second", f"{hours / totals.cpu_s:.2f}" if totals.cpu_s else "not measured"),
        ("faults", _listed(totals.faults)),
        ("seen besides", _listed(totals.counted)),
        ("checks", _listed(totals.checks)),
    ):
        table.add_row(name, text)
    if len(totals.digests) == 1:
        table.add_row("digest", next(iter(totals.digests.values())))
    failed = ", ".join(str(seed) for seed in totals.failed)
    table.add_row("violations", f"seeds {failed}" if failed else "none")
    console.print(table)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())) or "none"


def _explain(console: Console, played: Played, hours: float, budget_s: float, out: Path) -> None:
    """Print what a failing seed violated, cut it down, and save it."""
    violation = played.violation
    assert violation is not None

    def say(line: str) -> None:
        console.print(line, markup=False, soft_wrap=True)

    say(f"seed {played.seed}: invariant {violation.number} ({violation.name}) at {violation.at_s:.3f} s")
    say(f"  {violation.what}")
    say(f"  mmdaemon simulate --seed {played.seed} --hours {hours:g}")
    with console.status("cutting it down") as status:
        failure = runner.shrink(
            played, hours, budget_s, lambda left, tries: status.update(f"{left} faults left after {tries} tries")
        )
    path = runner.save(failure, out)
    kept = failure.plan.only
    say(f"  versions: {', '.join(f'{name} {version}' for name, version in failure.found_with.items())}")
    if kept is None:
        say(f"  no shorter fault list was found; all {len(played.happened)} are kept")
    else:
        named = ", ".join(f"{kind} {ordinal}" for kind, ordinal in kept[:SHOWN_FAULTS])
        more = f", and {len(kept) - SHOWN_FAULTS} more" if len(kept) > SHOWN_FAULTS else ""
        say(f"  shortest fault list found ({len(kept)} of {len(played.happened)}): {named or 'none'}{more}")
    say(f"  saved: {path}; mmdaemon simulate --file {path}")


def _again(console: Console, path: Path) -> int:
    try:
        failure = runner.read(path)
    except (OSError, msgspec.MsgspecError, UnicodeError) as error:
        raise Refused(
            f"{path}: cannot be played again: {error}; name a file that simulate saved", ExitCode.CONFIG
        ) from None
    played = runner.run(failure.plan, lambda line: console.print(line, markup=False, soft_wrap=True))
    then, now = failure.violation, played.violation
    console.print(f"then: invariant {then.number} ({then.name}): {then.what}", markup=False, soft_wrap=True)
    found = f"invariant {now.number} ({now.name}): {now.what}" if now is not None else "nothing is violated"
    console.print(f"now:  {found}", markup=False, soft_wrap=True)
    console.print(f"digest {'the same' if played.digest == failure.digest else 'another: the code has changed'}")
    return ExitCode.OK if now is None else EXIT_VIOLATED
