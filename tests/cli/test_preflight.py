"""`mmdaemon preflight` as a command: what it refuses, and that it measures an emulator and writes it down."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli.main import main
from mmdaemon.cli.preflight import FAILED, FILE
from mmdaemon.settings.credentials import FOLDER, VARIABLES
from tests.cli.test_rehearsed import PATIENCE_S, PROGRAM, emulator, environment


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (FOLDER, *VARIABLES):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("account", ["classic", "unified"])
def test_it_measures_an_emulator_and_writes_it_down(
    tmp_path: Path, account: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"
    with emulator(tmp_path, "--account", account, "--window-s", "2") as emulated:
        monkeypatch.setenv(FOLDER, str(emulated.key))
        chosen = [f"venue.emulator={emulated.url}", f"venue.account={account}", "venue.in_flight_max_s=3.0"]
        sets = [each for one in chosen for each in ("--set", one)]
        code = main(["preflight", "--testnet", "--json", *sets, "--state-dir", str(state)])
        secrets = emulated.secrets()
    said = capsys.readouterr().out
    written = (state / FILE).read_text()
    assert json.loads(said) == json.loads(written)
    assert not any(secret in said for secret in secrets)
    lines: list[dict[str, Any]] = json.loads(written)["lines"]
    assert [line for line in lines if line["outcome"] == "failed"] == []
    assert code == ExitCode.OK
    assert lines[-1]["name"] == "left_behind"
    assert not (state / "preflight.json").exists(), "it is no receipt for --live"


def test_a_line_that_failed_is_exit_code_1_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with emulator(tmp_path, "--window-s", "20") as emulated:
        monkeypatch.setenv(FOLDER, str(emulated.key))
        chosen = [f"venue.emulator={emulated.url}", "venue.in_flight_max_s=3.0"]
        sets = [each for one in chosen for each in ("--set", one)]
        code = main(["preflight", "--testnet", *sets, "--state-dir", str(tmp_path / "state")])
    assert code == FAILED
    out = capsys.readouterr().out
    assert "failed       signature_window" in out
    assert "refused_s = " in out


def test_only_demo_trading_only_with_a_key_and_only_a_demo_emulator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["--state-dir", str(tmp_path / "state")]
    assert main(["preflight", *state]) == ExitCode.USAGE
    assert main(["preflight", "--testnet", *state]) == ExitCode.CREDENTIALS
    assert "bitget_api_key" in capsys.readouterr().err
    assert main(["preflight", "--testnet", "--set", "venue.exchange=okx", *state]) == ExitCode.CONFIG
    with emulator(tmp_path, "--environment", "live") as emulated:
        monkeypatch.setenv(FOLDER, str(emulated.key))
        assert main(["preflight", "--testnet", "--set", f"venue.emulator={emulated.url}", *state]) == ExitCode.CONFIG
        assert emulated.get("status")
    assert "serves 'live'" in capsys.readouterr().err


def test_whoever_stops_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C while an order rests: it is taken out before the process ends."""
    with emulator(tmp_path, "--window-s", "2", "--record", str(tmp_path / "record.sqlite")) as emulated:
        chosen = [f"venue.emulator={emulated.url}", "venue.in_flight_max_s=3.0"]
        sets = [each for one in chosen for each in ("--set", one)]
        asked = [*PROGRAM, "preflight", "--testnet", "--fill", *sets, "--state-dir", str(tmp_path / "state")]
        # Its cancels are lost, so that an order surely rests when it is stopped.
        body = json.dumps({"kind": "request_lost", "seconds": 6, "where": "cancel-order"}).encode()
        headers = {"Content-Type": "application/json"}
        with urlopen(Request(f"{emulated.url}/emulator/faults", body, headers), timeout=30) as answer:
            assert answer.status == 200
        with subprocess.Popen(asked, env=environment(**{FOLDER: str(emulated.key)}), stdout=subprocess.DEVNULL) as it:
            deadline = time.monotonic() + PATIENCE_S
            while not emulated.get("status")["open_orders"]:
                assert time.monotonic() < deadline
                assert it.poll() is None
                time.sleep(0.02)
            it.send_signal(signal.SIGINT)
            assert it.wait(PATIENCE_S) == 128 + signal.SIGINT
        assert emulated.get("status")["open_orders"] == 0
    assert not (tmp_path / "state" / FILE).exists()
