"""`mmdaemon emulator` as a process: where it listens, how a daemon is told to trade there, what it refuses, its end."""

import json
import os
import shlex
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from mmdaemon.settings import assignments, load, shipped_config
from mmdaemon.settings.credentials import file_names, read_credentials
from mmdaemon.venues.emulator.wrong import FAULTS
from tests.cli.test_service import environment

PATIENCE_S = 60


def words(*given: object) -> list[str]:
    return [sys.executable, "-m", "mmdaemon", "emulator", *map(str, given)]


def ended(*given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words(*given), capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False
    )


class Running:
    def __init__(self, process: subprocess.Popen[str], first: str) -> None:
        self.process, self.first = process, first

    def field(self, name: str) -> str:
        return dict(word.split("=", 1) for word in self.first.split()[1:])[name]

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Exit code, and the rest of stdout."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out


@contextmanager
def running(folder: Path, *given: object) -> Generator[Running]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(words(*given), stdout=subprocess.PIPE, stderr=log, text=True, env=environment())
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, (folder / "log").read_text()
        yield Running(process, first)
    finally:
        process.kill()
        process.communicate()


def ask(url: str, body: object = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=PATIENCE_S) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_the_first_line_says_where_it_is_and_ctrl_c_ends_it_with_what_there_was(tmp_path: Path) -> None:
    with running(tmp_path, "--account", "classic", "--seed", "3") as emulator:
        assert emulator.first.startswith("ready url=http://127.0.0.1:")
        url = emulator.field("url")
        assert (emulator.field("account"), emulator.field("environment")) == ("classic", "demo")
        assert url.endswith(":" + emulator.field("port"))
        assert ask(url + "/api/v2/public/time")[1]["code"] == "00000"
        assert ask(url + "/emulator/faults", {"kind": "rate_limit"}) == (200, {"done": True})
        assert ask(url + "/api/v2/public/time")[0] == 429
        code, out = emulator.stop()
    assert code == 0
    assert "balance 100000, position 0 lots" in out
    assert "rate_limit" in out


def test_as_json_it_says_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path, "--json") as emulator:
        ready = json.loads(emulator.first)
        assert ready["event"] == "ready"
        assert ready["account"] == "unified"
        assert ask(ready["url"] + "/api/v2/public/time")[0] == 200
        code, out = emulator.stop(signal.SIGTERM)
    assert code == 0
    (summary,) = [json.loads(line) for line in out.splitlines()]
    assert summary["event"] == "summary"
    assert (summary["balance"], summary["orders"], summary["defects"]) == ("100000", 0, [])


@pytest.mark.parametrize("given", [(), ("--account", "classic", "--window-s", "1.5"), ("--set", "venue.leverage=3")])
def test_the_printed_commands_are_settings_and_a_key_that_a_daemon_takes(
    tmp_path: Path, given: tuple[str, ...]
) -> None:
    keys = tmp_path / "my keys"
    with running(tmp_path, "--json", "--key-dir", keys, *given) as emulator:
        ready = json.loads(emulator.first)
        (first, second) = ready["commands"]
    exported, assigned = shlex.split(first)
    assert exported == "export"
    name, _, folder = assigned.partition("=")
    for file in file_names("bitget"):
        assert stat.S_IMODE((keys / file).stat().st_mode) == 0o600
    found = read_credentials("bitget", {name: folder}, is_live=True)  # nothing lies open
    assert found.warnings == ()
    typed = shlex.split(second)
    assert typed[:3] == ["mmdaemon", "run", "--testnet"]
    chosen = assignments(typed[4::2])
    assert set(typed[3::2]) == {"--set"}
    settings = load(shipped_config("testnet"), chosen, {}).settings
    assert settings.venue.emulator == ready["url"]
    assert settings.venue.account == ready["account"]
    assert settings.venue.leverage == (3 if "venue.leverage=3" in given else 1)
    assert settings.venue.in_flight_max_s == (2 if "1.5" in given else 30)


@pytest.mark.parametrize("account", ["classic", "unified"])
def test_a_daemon_trades_with_what_was_printed_and_leaves_nothing_behind(tmp_path: Path, account: str) -> None:
    given = ("--account", account, "--window-s", "1", "--key-dir", tmp_path / "keys", "--json")
    with running(tmp_path, *given) as emulator:
        ready = json.loads(emulator.first)
        first, second = ready["commands"]
        name, _, folder = shlex.split(first)[1].partition("=")
        run = [sys.executable, "-m", *shlex.split(second), "--state-dir", str(tmp_path / "state")]
        run += ["--set", "metrics.enabled=false"]  # its port is another test's too
        with (tmp_path / "daemon").open("wb") as log:
            daemon = subprocess.Popen(run, stdout=log, stderr=log, env={**environment(), name: folder})
        try:
            deadline = time.monotonic() + PATIENCE_S
            while ask(ready["url"] + "/emulator/status")[1]["open_orders"] < 2:
                assert daemon.poll() is None, (tmp_path / "daemon").read_text()
                assert time.monotonic() < deadline, (tmp_path / "daemon").read_text()
                time.sleep(0.1)
            assert ask(ready["url"] + "/emulator/faults", {"kind": "service_error", "where": "POST"})[0] == 200
            daemon.terminate()
            assert daemon.wait(PATIENCE_S) == 0, (tmp_path / "daemon").read_text()
        finally:
            daemon.kill()
            daemon.wait()
        assert ask(ready["url"] + "/emulator/status")[1]["open_orders"] == 0
        code, out = emulator.stop()
    summary = json.loads(out)
    assert (code, summary["defects"]) == (0, [])
    assert summary["orders"] >= 2
    assert summary["faults"] == {"service_error": 1}


def test_without_files_the_key_is_exported(tmp_path: Path) -> None:
    with running(tmp_path, "--json") as emulator:
        first = json.loads(emulator.first)["commands"][0]
    environ = dict(word.split("=", 1) for word in shlex.split(first)[1:])
    assert len(environ) == 3
    found = read_credentials("bitget", environ, is_live=False)
    assert found.credentials.api_key.reveal().startswith("emulated-")


def test_a_key_is_of_its_seed_and_environment_and_no_other_is_written_over(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    with running(tmp_path, "--key-dir", keys):
        key = (keys / "bitget_api_key").read_text()
    with running(tmp_path, "--key-dir", keys):  # the same again
        assert (keys / "bitget_api_key").read_text() == key
    for given in (("--seed", 8), ("--environment", "live")):
        refused = ended("--key-dir", keys, *given)
        assert refused.returncode == 78
        assert "another key is there already" in refused.stderr
        assert (keys / "bitget_api_key").read_text() == key
    for file in file_names("bitget"):
        (keys / file).unlink()
    (keys / "bitget_api_secret").write_text("somebody's own\n")
    assert ended("--key-dir", keys).returncode == 78
    assert os.listdir(keys) == ["bitget_api_secret"]


def test_a_script_is_played(tmp_path: Path) -> None:
    script = tmp_path / "faults.jsonl"
    script.write_text('{"after_s": 0, "kind": "maintenance_code", "seconds": 600, "where": "public/time"}\n')
    with running(tmp_path, "--faults", script, "--json") as emulator:
        url = json.loads(emulator.first)["url"] + "/api/v2/public/time"
        deadline = time.monotonic() + PATIENCE_S
        while (told := ask(url)[1]["code"]) == "00000":
            assert time.monotonic() < deadline
        assert told == "40200"
        code, out = emulator.stop()
    assert code == 0
    assert json.loads(out)["faults"]["maintenance_code"] >= 1


def test_the_record_is_of_one_account_for_each_life(tmp_path: Path) -> None:
    for _ in range(2):
        with running(tmp_path, "--record", tmp_path / "r.sqlite", "--set", "simulated.equity_quote=5000") as emulator:
            assert emulator.stop()[0] == 0
    with closing(sqlite3.connect(tmp_path / "r.sqlite")) as record:
        rows = record.execute("SELECT start_e10, balance_e10, position_lots, ended_ts_ns > 0 FROM accounts").fetchall()
    assert rows == [(str(5_000 * 10**10), str(5_000 * 10**10), 0, 1)] * 2


def test_the_daemon_s_own_file_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[run]\nmode = "testnet"\nseed = 3\n[journal]\ndurability = "power"\n'
        '[venue]\naccount = "classic"\nemulator = "http://127.0.0.1:4000"\n[simulated]\nequity_quote = 7000.0\n'
    )
    with running(tmp_path, "--config", tmp_path / "c.toml") as emulator:
        assert emulator.field("account") == "classic"
        assert "balance 7000," in emulator.stop()[1]


def test_the_faults_are_listed_one_a_line() -> None:
    listed = ended("--list-faults")
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == [kind.value for kind in FAULTS]
    assert all(len(line.split("\t")) == 5 for line in lines)
    as_json = ended("--list-faults", "--json")
    assert [json.loads(line)["kind"] for line in as_json.stdout.splitlines()] == [kind.value for kind in FAULTS]


def test_a_port_that_is_taken_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as emulator:
        refused = ended("--port", emulator.field("port"))
    assert refused.returncode == 78
    assert "give another --port" in refused.stderr


@pytest.mark.parametrize(
    ("given", "code", "why"),
    [
        (("--port", "70000"), 64, "0 to 65535"),
        (("--window-s", "0"), 64, "must be 0.1 to 300"),
        (("--account", "margin"), 64, "account"),
        (("--faults", "{folder}/none.toml"), 78, "cannot be read"),
        (("--faults", "{folder}/bad.jsonl"), 78, "did you mean rate_limit?"),
        (("--tape", "{folder}/none"), 78, "none"),
        (("--record", "{folder}"), 78, "cannot be written"),
        (("--key-dir", "{folder}/bad.jsonl"), 78, "the key cannot be written"),
        (("--set", "venue.leverage=x"), 78, "venue.leverage"),
    ],
)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, given: tuple[str, ...], code: int, why: str) -> None:
    (tmp_path / "bad.jsonl").write_text('{"after_s": 1, "kind": "rate_limti"}\n{"kind": "latency"}\n')
    refused = ended(*(word.format(folder=tmp_path) for word in given))
    assert refused.returncode == code, refused.stderr
    assert why in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    if "bad.jsonl" in given[-1] and given[0] == "--faults":
        assert "line 2" in refused.stderr
