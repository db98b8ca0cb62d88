"""The named mutants of the safety code, each in a process of its own, until a seed catches it.

    python -m tests.bench.mutants_named                      # all of them
    python -m tests.bench.mutants_named no_overlap early_settle --seeds 24
    python -m tests.bench.mutants_named --write              # and the table of docs/SIMULATION.md anew

Exits with 1 where one survives, or is caught by another invariant than is said of it.
"""

import sys
import time
from argparse import ArgumentParser
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec
import pytest

from mmdaemon.research.simulation.plan import Plan
from mmdaemon.research.simulation.runner import run
from tests.research.simulation.mutants import HOURS, MUTANTS, number_of

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "SIMULATION.md"
BEGINS, ENDS = "<!-- mutants -->", "<!-- end of mutants -->"


class Caught(msgspec.Struct, frozen=True):
    """What became of one mutant. `seed` 0: it survived all of them."""

    name: str
    seed: int
    number: int
    what: str
    cpu_s: float


def hunt(name: str, seeds: int) -> Caught:
    """In a process that is its own, since what is patched stays so."""
    begun = time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        MUTANTS[name].put_in(patch)
        for seed in range(1, seeds + 1):
            found = run(Plan(seed, HOURS)).violation
            if found is not None:
                return Caught(name, seed, number_of(found), found.what, time.process_time() - begun)
    return Caught(name, 0, 0, "", time.process_time() - begun)


def _is_as_said(each: Caught) -> bool:
    said = MUTANTS[each.name]
    return each.number in said.numbers if each.seed else bool(said.survives)


def _row(each: Caught) -> str:
    said = MUTANTS[each.name]
    by = str(each.number) if each.seed else f"none: {said.survives}"
    own = "design" if said.is_of_the_design else ""
    return f"| {said.says.rstrip('.')} | {own} | {each.seed or '-'} | {by} | {each.cpu_s:.1f} |"


def written(page: str, caught: dict[str, Caught]) -> str:
    """The page with the rows of these, and those of the others as they were."""
    before, _, rest = page.partition(BEGINS)
    was, _, after = rest.partition(ENDS)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in was.splitlines() if line.startswith("| ")}
    rows |= {MUTANTS[name].says.rstrip("."): _row(each) for name, each in caught.items()}
    known = [rows[says] for mutant in MUTANTS.values() if (says := mutant.says.rstrip(".")) in rows]
    table = ["| mutant | | first seed | by invariant | CPU-s |", "| --- | --- | --- | --- | --- |", *known]
    return "\n".join([f"{before}{BEGINS}", *table, f"{ENDS}{after}"])


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="their rows in the table of docs/SIMULATION.md anew")
    asked = parser.parse_args()
    if unknown := set(asked.names) - MUTANTS.keys():
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    caught: dict[str, Caught] = {}
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for done in as_completed(pool.submit(hunt, name, asked.seeds) for name in asked.names or MUTANTS):
            each = done.result()
            caught[each.name] = each
            how = f"seed {each.seed}, invariant {each.number}" if each.seed else "survives"
            note = "" if _is_as_said(each) else f", said was {MUTANTS[each.name].numbers}"
            print(f"{each.name}: {how}{note}, {each.cpu_s:.1f} CPU-s  {each.what[:160]}", flush=True)
    if asked.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), caught), encoding="utf-8")
    return 0 if all(_is_as_said(each) for each in caught.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
