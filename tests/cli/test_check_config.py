"""The command as the shell sees it: exit codes, what goes to which stream, and what a failure turns into."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdaemon import __version__
from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.main import VERBS, build, exit_code, main
from mmdaemon.settings import ConfigError, Problem, Settings, shipped_config
from mmdaemon.venues.base import VenueUnavailable


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MMDAEMON_")}
    return subprocess.run(
        [sys.executable, "-m", "mmdaemon", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
        env=clean | env,
    )


def test_defaults_are_usable() -> None:
    done = run("check-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"config hash {Settings().config_hash}" in done.stdout
    assert "least equity" in done.stdout
    assert "neutral_low_vol          6,000.00 USDT" in done.stdout


def test_origins(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('preset = "desk"\n[limits]\ncollar_bps = 150\n', encoding="utf-8")
    done = run("check-config", str(file), "--show-origin", "--set", "run.seed=8", MMDAEMON_METRICS__PORT="0")
    assert done.returncode == 0
    lines = {" ".join(line.split()) for line in done.stdout.splitlines()}
    assert f"limits.collar_bps = 150.0 {file}" in lines
    assert "run.seed = 8 command line" in lines
    assert "metrics.port = 0 $MMDAEMON_METRICS__PORT" in lines
    assert "regimes.up.spread_min_bps = 30.0 preset desk" in lines
    assert "guard.book_age_max_s = 2.0 default" in lines
    short = run("check-config", str(file)).stdout
    assert "limits.collar_bps = 150.0" in short
    assert "guard.book_age_max_s" not in short


def test_every_error_at_once_and_78(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[limits]\ncollar_bps = 900\ncolar_bps = 1\n[guard]\nbook_age_max_s = 2000\n", encoding="utf-8")
    done = run("check-config", str(file), "--set", "metrics.port=-1")
    assert (done.returncode, done.stdout) == (78, "")
    assert "\x1b[" not in done.stderr
    for piece in (
        f"limits.collar_bps = 900 ({file}): is above 500",
        "limits.colar_bps = 1",
        "did you mean limits.collar_bps?",
        "it looks like milliseconds: this setting is in seconds, write 2",
        "metrics.port = -1 (command line)",
        "4 configuration errors; nothing was started",
    ):
        assert piece in done.stderr


def test_a_missing_file_and_an_assignment_without_value_are_78(tmp_path: Path) -> None:
    assert "there is no such file" in run("check-config", str(tmp_path / "no.toml")).stderr
    assert run("check-config", str(tmp_path / "no.toml")).returncode == 78
    assert run("check-config", "--set", "limits.collar_bps").returncode == 78


@pytest.mark.parametrize("name", ["demo", "paper", "testnet", "live"])
def test_shipped_files(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", str(shipped_config(name))]) == 0
    assert (f"runs with its flag only: `mmdaemon run --{name}`" in capsys.readouterr().out) == (name != "demo")


def test_small_accounts_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--set", "simulated.equity_quote=500"]) == 0
    assert capsys.readouterr().out.count("more than simulated.equity_quote") == 5
    assert main(["check-config", "--set", "limits.max_order_quote=5"]) == 0
    assert "none: the smallest order exceeds limits.max_order_quote = 5" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["chek-config"], ["check-config", "--no-such-flag"], ["check-config", "a", "b"]])
def test_usage_is_64(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr


def test_a_price_that_is_none_is_64() -> None:
    done = run("check-config", "--price", "0")
    assert done.returncode == 64
    assert "--price must be positive" in done.stderr


def test_help_and_version_import_no_verb() -> None:
    assert run("--version").stdout.strip() == __version__
    code = (
        "import sys; from mmdaemon.cli.main import main; main(['--help']); "
        "sys.exit(any(name.startswith(('pydantic', 'mmdaemon.settings', 'mmdaemon.venues')) for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in VERBS:
        assert name in done.stdout


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_can_be_imported_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb = build()[name]
    parts = [part for part in verb if not part.startswith("-")]
    assert all(callable(each.default_command) for each in ([verb[part] for part in parts] or [verb]))
    assert main([name, "--help"]) == 0
    assert f"mmdaemon {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Refused("no key file; put it there", ExitCode.CREDENTIALS), 77, "no key file; put it there"),
        (ConfigError([Problem("a.b", "file", "1", "is not a setting")]), 78, "a.b = 1 (file): is not a setting"),
        (VenueUnavailable("time-out"), 75, "the venue does not answer: time-out"),
        (ZeroDivisionError("x"), 70, "this is a bug"),
    ],
)
def test_failures_become_exit_codes(error: Exception, code: int, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(error) == code
    assert text in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_bug() -> None:
    command = [sys.executable, "-m", "mmdaemon", "check-config", "--show-origin"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
