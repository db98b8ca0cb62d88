"""Paper, testnet and live as processes at the emulator, over real ccxt.pro and loopback TCP: which environment they
speak to, that they trade and leave nothing behind, and that no key is in anything that is written."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.request import Request, urlopen

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.journal.reader import JournalReader
from mmdaemon.ops.control_client import NoDaemon, call
from mmdaemon.ops.status import Status
from mmdaemon.secret import Credentials, Secret
from mmdaemon.settings import load
from mmdaemon.settings.credentials import FOLDER, file_names
from tests.cli.receipts import give

PATIENCE_S = 60
PROGRAM = (sys.executable, "-m", "mmdaemon")
PUBLIC = (("frame_mistyped",), ("frame_not_json",), ("frame_deep",), ("forced_close",))
ALL = (
    *(("html_200",), ("truncated_json",), ("mistyped_answer",), ("key_wrong",), ("clock_refused",)),
    *PUBLIC[:-1],
    ("login_refused", "forced_close"),
)
"""Whatever makes somebody say what went wrong, and with what: those of a row at once, row by row. The login that is
refused is the one after the close."""


class Emulated:
    """An emulator process."""

    def __init__(self, url: str, key: Path) -> None:
        self.url, self.key = url, key

    def get(self, what: str) -> Any:
        with urlopen(f"{self.url}/emulator/{what}", timeout=30) as answer:
            return json.load(answer)

    def spoil(self, *kinds: str) -> None:
        """Each once, and wait until all were seen."""
        for kind in kinds:
            body = json.dumps({"kind": kind}).encode()
            headers = {"Content-Type": "application/json"}
            with urlopen(Request(f"{self.url}/emulator/faults", body, headers), timeout=30) as answer:
                assert answer.status == 200
        deadline = time.monotonic() + PATIENCE_S
        while missing := set(kinds) - {kind for kind, count in self.get("faults")["seen"].items() if count}:
            assert time.monotonic() < deadline, f"never seen: {missing}"
            time.sleep(0.05)

    def secrets(self) -> list[str]:
        return [(self.key / name).read_text().strip() for name in file_names("bitget")]


@contextmanager
def emulator(folder: Path, *arguments: str) -> Generator[Emulated]:
    key = folder / "key"
    asked = [*PROGRAM, "emulator", "--json", "--key-dir", str(key), *arguments]
    with (
        (folder / "emulator.log").open("wb") as log,
        subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=log, text=True, env=environment()) as process,
    ):
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield Emulated(ready["url"], key)
            process.send_signal(signal.SIGTERM)
            out, _ = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, out
        finally:
            if process.poll() is None:
                process.kill()


def environment(**more: str) -> dict[str, str]:
    ours = ("MMDAEMON_", FOLDER)
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def configuration(path: Path, mode: str, account: str, url: str) -> Path:
    """Quotes at the touch that are filled when touched."""
    path.write_text(f"""
[run]
mode = "{mode}"
crash_loop_starts = 0
[venue]
account = "{account}"
emulator = "{url}"
in_flight_max_s = 2.0
reconcile_orders_s = 1.0
[journal]
durability = "{"process" if mode == "paper" else "power"}"
[simulated]
maker_fee_bps = -1.0
[metrics]
port = 0
""")
    return path


def give_receipt(state: Path, config: Path, emulated: Emulated) -> None:
    key, secret, passphrase = map(Secret, emulated.secrets())
    give(state, load(config, None, {}).settings, Credentials(key, secret, passphrase))


@contextmanager
def daemon(
    folder: Path, flag: str, config: Path, log: IO[bytes], key: Path | None
) -> Generator[subprocess.Popen[bytes]]:
    asked = [*PROGRAM, "run", flag, "--config", str(config), "--state-dir", str(folder / "state")]
    known = environment(**({FOLDER: str(key)} if key else {}))
    with subprocess.Popen(asked, stdout=log, stderr=log, env=known) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def status(folder: Path) -> Status | None:
    try:
        return asyncio.run(call(folder / "state" / "control.sock", "status", {})).status
    except NoDaemon:
        return None


def wait_for(folder: Path, process: subprocess.Popen[bytes], holds: Callable[[Status], bool]) -> Status:
    """Patience, not a measurement."""
    deadline = time.monotonic() + PATIENCE_S
    seen = None
    while time.monotonic() < deadline:
        assert process.poll() is None, (folder / "daemon.log").read_text()
        if (seen := status(folder)) is not None and holds(seen):
            return seen
        time.sleep(0.1)
    pytest.fail(f"never: {seen and (seen.guard, seen.why_not_quoting)} {(folder / 'daemon.log').read_text()}")


def is_quoting(seen: Status) -> bool:
    return seen.guard == "running" and seen.open_orders >= 2


@pytest.mark.parametrize(
    ("flag", "account"),
    [("--testnet", "unified"), ("--testnet", "classic"), ("--live", "unified"), ("--paper", "classic")],
)
@pytest.mark.timeout(180)
def test_a_rehearsal_speaks_to_its_environment_and_writes_no_key(flag: str, account: str, tmp_path: Path) -> None:
    served = "demo" if flag == "--testnet" else "live"
    with emulator(tmp_path, "--account", account, "--environment", served) as emulated:
        config = configuration(tmp_path / "c.toml", flag[2:], account, emulated.url)
        if flag == "--live":
            give_receipt(tmp_path / "state", config, emulated)
        key = None if flag == "--paper" else emulated.key
        shown = ""
        with (tmp_path / "daemon.log").open("ab") as log, daemon(tmp_path, flag, config, log, key) as process:

            def rests_where_it_says(seen: Status) -> bool:
                return emulated.get("status")["open_orders"] == (0 if flag == "--paper" else seen.open_orders)

            quoting = wait_for(tmp_path, process, lambda seen: is_quoting(seen) and rests_where_it_says(seen))
            assert quoting.mode == flag[2:]
            for kinds in PUBLIC if flag == "--paper" else ALL:
                emulated.spoil(*kinds)
            answer = asyncio.run(call(tmp_path / "state" / "control.sock", "status", {}))
            shown += repr(answer)
            with urlopen(f"http://127.0.0.1:{quoting.metrics_port}/metrics", timeout=30) as page:
                shown += page.read().decode()
            wait_for(tmp_path, process, lambda seen: all(seen.links.values()))
            requests, connections = emulated.get("requests"), emulated.get("connections")
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=PATIENCE_S)
        told = (tmp_path / "daemon.log").read_text()
        assert code == ExitCode.OK, told
        left = emulated.get("status")
        assert (left["open_orders"], left["defects"]) == (0, [])

    _speaks_to(served, requests, connections, signs=flag != "--paper")
    with JournalReader(tmp_path / "state" / "journal.sqlite") as journal:
        run = journal.run()
        assert run is not None
        assert (run.mode, run.clean_stop) == (flag[2:], True)
    written = {path: path.read_bytes() for path in (tmp_path / "state").rglob("*") if path.is_file()}
    assert any(path.name == "journal.sqlite" for path in written)
    for secret in emulated.secrets():
        assert secret not in shown
        assert secret not in told
        assert [path for path, data in written.items() if secret.encode() in data] == []


def _speaks_to(served: str, requests: list[dict[str, Any]], connections: list[dict[str, Any]], *, signs: bool) -> None:
    """As the venue saw it: the header of demo trading on whatever was signed, and the sockets of its environment."""
    headers = [{name.upper(): value for name, value in each["headers"].items()} for each in requests]
    signed = [each for each in headers if "ACCESS-TIMESTAMP" in each]
    assert bool(signed) == signs
    assert {each.get("PAPTRADING") for each in signed} <= ({"1"} if served == "demo" else {None})
    if served == "live":
        assert not any("PAPTRADING" in each for each in headers)
    paths = {each["path"] for each in connections}
    assert paths
    assert all(path.startswith("/demo/") == (served == "demo") for path in paths), paths
    assert any(path.endswith("private") for path in paths) == signs


@pytest.mark.parametrize(
    ("wrong", "code", "said"),
    [
        ("key", ExitCode.CREDENTIALS, "does not take this key"),
        ("account", ExitCode.CONFIG, "venue.account = 'classic'"),
    ],
)
@pytest.mark.timeout(120)
def test_what_no_second_try_will_mend_ends_with_its_own_code(
    wrong: str, code: ExitCode, said: str, tmp_path: Path
) -> None:
    account = "classic" if wrong == "account" else "unified"
    with emulator(tmp_path, "--account", account) as emulated:
        secrets = emulated.secrets()
        if wrong == "key":
            (emulated.key / "bitget_api_secret").chmod(0o600)
            (emulated.key / "bitget_api_secret").write_text("another")
        config = configuration(tmp_path / "c.toml", "testnet", "unified", emulated.url)
        with (
            (tmp_path / "daemon.log").open("ab") as log,
            daemon(tmp_path, "--testnet", config, log, emulated.key) as run,
        ):
            assert run.wait(timeout=PATIENCE_S) == code
    told = (tmp_path / "daemon.log").read_text()
    assert said in told
    assert (str(emulated.key / "bitget_api_secret") in told) == (wrong == "key")
    assert "Traceback" not in told
    assert "Unclosed" not in told
    assert not any(secret in told for secret in secrets)


@pytest.mark.timeout(120)
def test_a_state_directory_of_a_rehearsal_is_refused_to_every_other_place(tmp_path: Path) -> None:
    """Else a run with money would begin with the account of the rehearsal."""
    with emulator(tmp_path) as emulated:
        config = configuration(tmp_path / "c.toml", "testnet", "unified", emulated.url)
        with (tmp_path / "daemon.log").open("ab") as log:
            with daemon(tmp_path, "--testnet", config, log, emulated.key) as process:
                wait_for(tmp_path, process, is_quoting)
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=PATIENCE_S) == ExitCode.OK
            configuration(config, "paper", "unified", emulated.url)
            with daemon(tmp_path, "--paper", config, log, None) as process:
                assert process.wait(timeout=PATIENCE_S) == ExitCode.CONFIG
    told = (tmp_path / "daemon.log").read_text()
    assert "belongs to BTCUSDT at bitget-emulator-demo, and this run is for BTCUSDT at bitget-emulator-paper" in told
