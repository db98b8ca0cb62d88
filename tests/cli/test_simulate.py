"""`mmdaemon simulate`: a few seeds, one with its log, a failure saved and played again."""

from pathlib import Path

import msgspec
import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli.main import main
from mmdaemon.research.simulation import invariants, runner
from mmdaemon.research.simulation.plan import Plan
from mmdaemon.research.simulation.played import Totals, Violation
from mmdaemon.research.simulation.seen import Invariant, When


def test_a_few_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    code = main(
        ["simulate", "--seeds", "4", "--first-seed", "20", "--hours", "0.1", "--jobs", "1", "--json", str(figures)]
    )
    said = capsys.readouterr().out
    assert code == ExitCode.OK, said
    assert "violations" in said
    assert "none" in said
    totals = msgspec.json.decode(figures.read_bytes(), type=Totals)
    assert (totals.seeds, totals.failed, sorted(totals.digests)) == (4, [], [20, 21, 22, 23])
    assert totals.up_s >= 4 * 360
    assert totals.fills > 0
    assert totals.unknowns > 0


def test_one_seed_prints_what_happens(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seed", "3", "--hours", "0.1"]) == ExitCode.OK
    said = capsys.readouterr().out
    assert "life 2 begins" in said
    assert "CRASH" in said
    assert "digest" in said


def test_a_failure_is_explained_saved_and_played_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = Invariant(99, "planted", When.STEP, lambda seen: "a restart" if seen.restarts else "")
    monkeypatch.setattr(invariants, "INVARIANTS", (planted,))
    out = tmp_path / "failures"
    code = main(["simulate", "--seeds", "1", "--first-seed", "3", "--hours", "0.1", "--jobs", "1", "--out", str(out)])
    said = capsys.readouterr().out
    assert code == 1
    assert "seed 3: invariant 99 (planted)" in said
    assert "shortest fault list found (1 of" in said
    (saved,) = out.iterdir()
    assert main(["simulate", "--file", str(saved)]) == 1
    assert "digest the same" in capsys.readouterr().out
    monkeypatch.setattr(invariants, "INVARIANTS", ())
    assert main(["simulate", "--file", str(saved)]) == ExitCode.OK
    assert "nothing is violated" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--hours", "0"], ["--hours", "nan"], ["--seeds", "0"], ["--seed", "-1"]])
def test_what_makes_no_run_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *words]) == ExitCode.USAGE
    assert "must be" in capsys.readouterr().err


def test_a_file_that_is_none_of_ours_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    assert main(["simulate", "--file", str(other)]) == ExitCode.CONFIG
    assert "simulate saved" in capsys.readouterr().err


def test_a_fault_that_there_is_no_more_is_refused_and_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Left out, the file would be a regression test that can only pass."""
    plan = Plan(3, 0.1, (("crash_step", 1), ("crash_sideways", 2)))
    violation = Violation(2, "worst_case", 1.0, "once")
    saved = runner.save(runner.Failure(plan=plan, violation=violation, digest="", found_with={}), tmp_path)
    assert main(["simulate", "--file", str(saved)]) == ExitCode.CONFIG
    assert "no fault crash_sideways" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--seed", "3"], ["--require-all"], ["--json", "figures.json"]])
def test_what_a_saved_failure_has_no_use_for_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--file", "saved.json", *words]) == ExitCode.USAGE
    assert "--file plays what was saved" in capsys.readouterr().err
