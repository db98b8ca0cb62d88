"""Random configurations: what they found, each by itself, and a small run."""

from pathlib import Path

import pytest

from mmdaemon.settings import load
from mmdaemon.settings.problems import ConfigError
from tests.fuzz.configs import fuzz


def test_a_small_run(tmp_path: Path) -> None:
    tally = fuzz(tmp_path, 1, 800)
    assert tally.trees == 800
    assert tally.valid > 30
    assert tally.problems > tally.refused > 500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"limits.collar_bps = {10**400}", "above"),
        (f"limits.collar_bps = -{10**400}", "below"),
        ("limits.max_open_orders = 0x" + "f" * 9_000, "above"),
        ("limits.collar = 0x" + "f" * 9_000, "is not a setting"),
        ("limits.collar_bps = " + "9" * 5_000, "is not TOML"),
        ("limits.collar_bps = " + "[" * 3_000, "nested too deeply"),
        ("limits.collar_bps = " + "[" * 300 + "]" * 300, "must be a number"),
        ("a" + ".b" * 3_000 + " = 1", "nested too deeply"),
        ("preset.name = 1", "preset"),
        ("preset = []", "must be one of"),
        ("preset = 1979-05-27", "must be one of"),
    ],
)
def test_a_configuration_that_was_a_traceback_is_a_problem(tmp_path: Path, text: str, said: str) -> None:
    """Each of these ended in an exception that the command line shows as a bug of ours."""
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as refused:
        load(path, {}, {})
    assert all(len(str(problem)) < 1_500 for problem in refused.value.problems)


def test_variables_that_were_a_traceback_are_problems() -> None:
    for text in ("9" * 5_000, "[" * 3_000, "1" + "0" * 400):
        with pytest.raises(ConfigError, match="collar_bps"):
            load(None, {}, {"MMDAEMON_LIMITS__COLLAR_BPS": text})
