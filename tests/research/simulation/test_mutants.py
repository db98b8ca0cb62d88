"""The named mutants that the safety design asks for, each at the few seeds where it was caught. All of them, from the
first seed on: `python -m tests.bench.mutants_named`."""

import pytest

from mmdaemon.research.simulation.plan import Plan
from mmdaemon.research.simulation.runner import run
from tests.research.simulation.mutants import HOURS, MUTANTS, Mutant, number_of

SEEDS = 4
"""The first of them catches it today; another one may once a fault more is drawn."""
DESIGN = [mutant for mutant in MUTANTS.values() if mutant.is_of_the_design]


@pytest.mark.parametrize("mutant", DESIGN, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.put_in(monkeypatch)
    seeds = range(mutant.seed, mutant.seed + SEEDS)
    caught = next((found for seed in seeds if (found := run(Plan(seed, HOURS)).violation)), None)
    assert caught is not None, f"{mutant.name} survives {seeds}"
    assert number_of(caught) in mutant.numbers, caught


def test_the_design_s_ten_are_there_and_each_mutant_says_what_it_is() -> None:
    assert len(DESIGN) == 10
    assert all(mutant.says for mutant in MUTANTS.values())
    assert len({mutant.says for mutant in MUTANTS.values()}) == len(MUTANTS) >= 30
