"""Many seeds over processes, the sums of what they saw, and a failing one cut down to the few faults that matter."""

import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon import __version__
from mmdaemon.research.simulation.plan import Kind, Named, Plan
from mmdaemon.research.simulation.played import Played, Violation
from mmdaemon.research.simulation.setting import CANARY_VARIABLE, canary_of
from mmdaemon.research.simulation.world import play
from mmdaemon.venues.simulated.faults import FaultKind

FORMAT: Final = 1
MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - a private folder is made in it


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A seed that failed, as a file: `mmdaemon simulate --file` plays it again, and it is a regression test."""

    format: int = FORMAT
    plan: Plan
    violation: Violation
    digest: str
    found_with: dict[str, str]
    """Versions."""
    note: str = ""
    """What it was, once somebody knows."""


def versions() -> dict[str, str]:
    return {"mmdaemon": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}


@contextmanager
def folder() -> Generator[Path]:
    """An empty state directory, in memory where there is such a place, and gone afterwards."""
    place = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    made = Path(tempfile.mkdtemp(prefix="mmdaemon-simulate-", dir=place))
    try:
        yield made / "state"
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def environment(plan: Plan) -> Generator[None]:
    """The process's own, with the canary in it."""
    os.environ[CANARY_VARIABLE] = canary_of(plan)
    try:
        yield
    finally:
        del os.environ[CANARY_VARIABLE]


def run(plan: Plan, log: Callable[[str], None] | None = None) -> Played:
    """Play one seed in a folder of its own."""
    begun = time.process_time()
    with folder() as path, environment(plan):
        played = play(plan, path) if log is None else play(plan, path, log)
    played.cpu_s = time.process_time() - begun
    return played


def run_many(seeds: Sequence[int], hours: float, jobs: int, most_failures: int = 3) -> Iterator[Played]:
    """Play seeds over processes, each as it is done. Ends early after so many failures."""
    if jobs <= 1:
        failures = 0
        for seed in seeds:
            played = run(Plan(seed, hours))
            yield played
            failures += played.violation is not None
            if failures >= most_failures:
                return
        return
    left = iter(seeds)
    failures = 0
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        at_work = {pool.submit(run, Plan(seed, hours)) for seed in islice(left, 2 * jobs)}
        while at_work:
            done, at_work = wait(at_work, return_when=FIRST_COMPLETED)
            for each in done:
                played = each.result()
                failures += played.violation is not None
                yield played
                seed = next(left, None) if failures < most_failures else None
                if seed is not None:
                    at_work.add(pool.submit(run, Plan(seed, hours)))


def shrink(
    played: Played, hours: float, budget_s: float, tried: Callable[[int, int], None] = lambda _left, _tries: None
) -> Failure:
    """Leave faults out, by halves and then one by one, while what is left still violates the same invariant, for at
    most so long. `tried` hears how many are left and how often it was tried."""
    violation = played.violation
    if violation is None:
        raise ValueError(f"seed {played.seed} did not fail")
    ends = time.monotonic() + budget_s
    best = Plan(played.seed, hours), played
    kept: list[Named] = list(dict.fromkeys(played.happened))
    parts, tries = 1, 0
    while kept and time.monotonic() < ends:
        size = max(1, -(-len(kept) // parts))
        found = False
        for at in range(0, len(kept), size):
            if time.monotonic() >= ends:
                break
            fewer = [*kept[:at], *kept[at + size :]]
            plan = Plan(played.seed, hours, tuple(fewer))
            again = run(plan)
            tries += 1
            if again.violation is not None and again.violation.number == violation.number:
                # What came after the violation, or had nothing to befall, is not among what happened.
                happened = set(again.happened)
                kept = [name for name in fewer if name in happened]
                best = Plan(played.seed, hours, tuple(kept)), again
                parts = max(1, parts - 1)
                found = True
                tried(len(kept), tries)
                break
        if not found:
            if size == 1:
                break
            parts = min(len(kept), 2 * parts)
    plan, again = best
    assert again.violation is not None
    return Failure(plan=plan, violation=again.violation, digest=again.digest, found_with=versions())


def save(failure: Failure, into: Path) -> Path:
    """Write it as JSON; returns where."""
    into.mkdir(parents=True, exist_ok=True)
    name = f"seed-{failure.plan.seed}-invariant-{failure.violation.number}.json"
    path = into / name
    path.write_bytes(msgspec.json.format(msgspec.json.encode(failure)) + b"\n")
    return path


def read(path: Path) -> Failure:
    """Raises OSError, msgspec.ValidationError or msgspec.DecodeError: no such file, or not one of these."""
    failure = msgspec.json.decode(path.read_bytes(), type=Failure)
    if failure.format != FORMAT:
        raise msgspec.ValidationError(f"format {failure.format}, but this version reads {FORMAT}")
    # Played without what made it fail it would prove nothing, and say that nothing is violated.
    known = {kind.value for kind in (*FaultKind, *Kind)}
    if unknown := sorted({kind for kind, _ in failure.plan.only or ()} - known):
        raise msgspec.ValidationError(f"this version has no fault {', '.join(unknown)}")
    return failure
