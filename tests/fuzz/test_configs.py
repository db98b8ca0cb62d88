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


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[limits]\ncollar_bps = 50\ncollar_bps = 60\n", r"line 3.*; collar_bps stands there already: leave it once"),
        (b"[limits]\n[run]\n[limits]\n", r"line 3.*; \[limits\] stands there already: leave it once"),
        (b"limits.collar_bps = 50\n[limits]\n", r"\[limits\] stands there already"),
        (b"\xef\xbb\xbf[limits]\n", "save it without a byte order mark"),
        ("[limits]\n".encode("utf-16"), r"is not UTF-8 text: byte 1; save it as UTF-8"),
        (b"# caf\xe9\n", r"is not UTF-8 text: byte 6; save it as UTF-8"),
        (b'{"limits": {}}', r"line 1.*; a line is `key = value`"),
        (b"[limits]\ncollar_bps = 150 bps\n", r"line 2.*; look at collar_bps: .* a number without its unit"),
        (b"[limits]\ncollar_bps = 1,5\n", r"line 2.*; look at collar_bps"),
        (b"limits = 5\n", r"limits = 5 .*is a table of settings, not a value; write \[limits\]"),
        (b"[limits]\nmax_open_orders = 5.0\n", r"limits.max_open_orders = 5.0 .*must be a whole number; write 5"),
        (b'[metrics]\nenabled = "true"\n', r'metrics.enabled = "true" .*must be true or false; take away the quotes'),
        (b"[cost]\nmin_edge_bps = 0.0002\n", r"cost.min_edge_bps = 0.0002 .*looks like a fraction .* is 2 bps"),
        (b"[simulated]\nmaker_fee_bps = -0.0002\n", r"maker_fee_bps = -0.0002 .* is -2 bps"),
        (b"[venue]\nreconcile_ledger_s = 5\n", r"it looks like minutes: this setting is in seconds, write 300"),
        (b"x" * ((1 << 20) + 1), "is larger than 1,048,576 bytes"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=said) as refused:
        load(path, {}, {})
    assert all(str(path) in str(problem) for problem in refused.value.problems)


def test_a_value_is_not_repeated_where_the_file_is_no_toml(tmp_path: Path) -> None:
    for text in ('[venue]\napi_key = "hunter2"\napi_key = "hunter2"\n', "hunter2\n", "a = hunter2\n"):
        (tmp_path / "c.toml").write_text(text)
        with pytest.raises(ConfigError) as refused:
            load(tmp_path / "c.toml", {}, {})
        assert "hunter2" not in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, tmp_path / "none.toml", loop, Path("x" * 5_000)):
        with pytest.raises(ConfigError) as refused:
            load(path, {}, {})
        (problem,) = refused.value.problems
        assert problem.path == str(path)
        assert problem.nearest


def test_a_variable_in_small_letters_is_not_passed_over() -> None:
    with pytest.raises(ConfigError, match=r"mmdaemon_limits__collar_bps.*is not a setting"):
        load(None, {}, {"mmdaemon_limits__collar_bps": "5"})
