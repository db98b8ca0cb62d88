"""Seeds played to their end: what a crash cuts, what is counted, and that the same seed is the same run."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.risk import to_rollover_ns
from mmdaemon.core.types import NS
from mmdaemon.research.simulation import invariants, runner, world
from mmdaemon.research.simulation.plan import CRASHES, Plan
from mmdaemon.research.simulation.played import Played
from mmdaemon.research.simulation.seen import Invariant, Seen, When
from mmdaemon.research.simulation.setting import narrow_of

HOURS = 0.2
SEED = 8
GOLDEN = "c54d9da7cdbcbf6dde3c6df8c7aa2be4"
"""Digest of seed 8 over 0.2 h. It changes with every rule of core, daemon or venue that this seed comes past, and with
the plan; look at what you changed before you change this."""
REGRESSIONS = sorted((Path(__file__).parent / "regressions").glob("*.json"))


def with_check(monkeypatch: pytest.MonkeyPatch, when: When, check: Callable[[Seen], str]) -> None:
    monkeypatch.setattr(invariants, "INVARIANTS", (Invariant(99, "planted", when, check),))


def day_turns(plan: Plan) -> bool:
    """Within the seed, before which a position would be worked down and nothing be quoted."""
    return to_rollover_ns(plan.start_ts_ns, plan.rollover_hour_utc) < 3 * HOURS * 3_600 * NS


def test_the_same_seed_twice() -> None:
    one, two = runner.run(Plan(SEED, HOURS)), runner.run(Plan(SEED, HOURS))
    one.cpu_s = two.cpu_s = 0.0
    assert msgspec.json.encode(one) == msgspec.json.encode(two)
    assert one.violation is None
    assert one.digest == GOLDEN


def test_another_seed_is_another_run() -> None:
    assert len({runner.run(Plan(seed, 0.02)).digest for seed in (1, 2)}) == 2


def test_a_seed_told_its_own_faults_is_the_same_run() -> None:
    """The list of what happened is whole: a shrunk list begins from the run that failed."""
    drawn = runner.run(Plan(SEED, HOURS))
    told = runner.run(Plan(SEED, HOURS, tuple(drawn.happened)))
    assert told.digest == drawn.digest
    assert told.happened == drawn.happened


def test_a_seed_without_faults_is_two_sided_nearly_always() -> None:
    plans = (Plan(seed, HOURS, ()) for seed in range(100))
    plan = next(plan for plan in plans if not narrow_of(plan) and not day_turns(plan))
    played = runner.run(plan)
    assert played.violation is None
    assert (played.lives, played.crashes, played.faults) == (1, 0, {})
    assert played.two_sided_s > 0.95 * played.up_s
    assert played.running_s > 0.97 * played.up_s


@pytest.mark.parametrize("kind", CRASHES)
def test_each_crash_ends_a_life_and_the_next_goes_on(kind: str) -> None:
    seed = next(s for s in range(100) if any(f.kind == kind for m in range(6) for f in Plan(s, HOURS).minute(m)))
    minute = next(m for m in range(6) if any(f.kind == kind for f in Plan(seed, HOURS).minute(m)))
    played = runner.run(Plan(seed, HOURS, ((kind, minute),)))
    assert played.violation is None
    assert (played.crashes, played.lives) == (1, 2)
    assert played.up_s < played.venue_s


def test_hours_count_only_while_a_daemon_is_up() -> None:
    played = runner.run(Plan(3, HOURS))
    assert played.lives > 1
    assert HOURS * 3_600 <= played.up_s <= HOURS * 3_600 + world.QUIET_NS / 1e9 + 30
    assert played.up_s < played.venue_s


def test_a_check_that_fails_ends_the_seed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with_check(monkeypatch, When.STEP, lambda seen: "planted" if seen.restarts else "")
    played = runner.run(Plan(3, HOURS))
    assert played.violation is not None
    assert (played.violation.number, played.violation.what, played.lives) == (99, "planted", 2)
    assert played.venue_s == played.violation.at_s


def test_a_daemon_that_raises_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(_self: object) -> float:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("mmdaemon.daemon.guard.GuardActor.wrong_facts", raises)
    played = runner.run(Plan(SEED, HOURS))
    assert played.violation is not None
    assert played.violation.number == 19
    assert "ZeroDivisionError" in played.violation.what


def test_a_failing_seed_is_cut_down_to_the_fault_that_matters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_check(monkeypatch, When.STEP, lambda seen: "planted" if seen.restarts else "")
    played = runner.run(Plan(3, HOURS))
    assert len(played.happened) > 3
    failure = runner.shrink(played, HOURS, budget_s=60)
    assert failure.plan.only is not None
    assert len(failure.plan.only) == 1
    assert failure.plan.only[0][0] in {*CRASHES, "stop", "disk_fails"}
    again = runner.read(runner.save(failure, tmp_path / "made"))
    assert again == failure
    assert runner.run(again.plan).digest == failure.digest


def test_seeds_over_processes_are_those_of_one() -> None:
    def played(jobs: int) -> dict[int, Played]:
        seen = {each.seed: each for each in runner.run_many(range(1, 6), 0.02, jobs)}
        for each in seen.values():
            each.cpu_s = 0.0
        return seen

    one, two = played(1), played(2)
    assert set(one) == {1, 2, 3, 4, 5}
    assert {seed: each.digest for seed, each in one.items()} == {seed: each.digest for seed, each in two.items()}


@pytest.mark.parametrize("path", REGRESSIONS, ids=lambda path: path.stem)
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    played = runner.run(runner.read(path).plan)
    assert played.violation is None
