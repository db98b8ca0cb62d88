"""Invariant 24: a whole run must have seen everything, and what it need not have seen has a reason."""

import pytest

from mmdaemon.core.guard import TRANSITIONS
from mmdaemon.research.simulation.plan import Kind
from mmdaemon.research.simulation.sometimes import EXPECTED, NOT_HERE, never_seen
from mmdaemon.venues.simulated.faults import FaultKind

FAULTS = {str(kind): 1 for kind in (*FaultKind, *Kind)}
COUNTED = dict.fromkeys((name for name in EXPECTED if not name.startswith("fault ")), 1)


def test_a_run_that_saw_everything_lacks_nothing() -> None:
    assert never_seen(FAULTS, COUNTED) == []
    assert len(FAULTS) + len(COUNTED) == len(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_whatever_is_missing_is_named(name: str) -> None:
    faults = {kind: 1 for kind in FAULTS if f"fault {kind}" != name}
    counted = {each: 1 for each in COUNTED if each != name}
    assert never_seen(faults, counted) == [name]


def test_every_move_of_the_guard_is_expected_or_excused() -> None:
    for before, after in TRANSITIONS:
        assert (f"guard {before.value} -> {after.value}" in EXPECTED) is not (
            f"guard {before.value} -> {after.value}" in NOT_HERE
        )
    assert all(NOT_HERE.values())
    assert not NOT_HERE.keys() & EXPECTED
