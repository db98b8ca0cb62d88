"""The daemon as a process in real time, with live orders and a position: kill, restart, resume, stop."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from mmdaemon.cli import service
from mmdaemon.core.types import KillState
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops.control import Answer
from mmdaemon.ops.control_client import NoDaemon, call
from mmdaemon.ops.status import Status
from mmdaemon.ops.token import read_token
from mmdaemon.secret import Credentials, Secret
from mmdaemon.settings import load

# Quotes at the touch that are filled when touched: a position within seconds, in real time.
CONFIG = """
[run]
crash_loop_starts = 0
[venue]
in_flight_max_s = 1.0
[simulated]
fills = "touch"
maker_fee_bps = -1.0
taker_fee_bps = 1.0
[cost]
min_edge_bps = 0.0
taker_probability = 0.0
[quotes]
band_gain = 0.0
resume_s = 0.0
[regimes.neutral_high_vol]
spread_min_bps = 0.1
levels_max = 3
skew_gain = 0.0
[metrics]
port = 0
"""
PATIENCE_S = 60


class Bot:
    """One daemon process and its door."""

    def __init__(self, process: subprocess.Popen[bytes], state: Path) -> None:
        self.process = process
        self.socket = state / "control.sock"

    def ask(self, verb: str, **args: str | bool) -> Answer:
        return asyncio.run(call(self.socket, verb, args))

    def status(self) -> Status:
        status = self.ask("status").status
        assert status is not None
        return status

    def wait_for(self, what: str, holds: Callable[[Status], bool]) -> Status:
        """Patience, not a measurement: no test here fails for being slow."""
        deadline = time.monotonic() + PATIENCE_S
        seen: Status | None = None
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}"
            try:
                seen = self.status()
            except NoDaemon:
                time.sleep(0.1)
                continue
            if holds(seen):
                return seen
            time.sleep(0.1)
        pytest.fail(f"never {what}: {seen}")

    def trading(self) -> Status:
        return self.wait_for(
            "quoting with a position",
            # More than two orders of it, so that it is still one when it is looked at again.
            lambda s: s.guard == "running" and s.open_orders > 0 and abs(float(s.position)) > 0.003,
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_S)


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MMDAEMON_")}


@contextmanager
def bot(folder: Path) -> Generator[Bot, None, None]:
    config, state = folder / "bot.toml", folder / "state"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "mmdaemon", "run", "--config", str(config), "--state-dir", str(state)]
    log = (folder / "log").open("ab")
    with log, subprocess.Popen(command, stderr=log, env=environment()) as process:
        try:
            yield Bot(process, state)
        finally:
            if process.poll() is None:
                process.kill()


def mmdaemon(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmdaemon", *words, "--state-dir", str(folder / "state")]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False)


def exits_with(folder: Path, code: int) -> None:
    """`status` says so, in time: under load the guard may pause for a moment, and that is an answer too."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := mmdaemon(folder, "status")).returncode != code:
        assert time.monotonic() < deadline, answer.stdout + answer.stderr
        time.sleep(0.2)


@pytest.mark.timeout(300)
def test_killed_is_quiet_stays_killed_over_a_restart_and_ends_by_a_resume_with_a_reason(tmp_path: Path) -> None:
    with bot(tmp_path) as first:
        before = first.trading()
        exits_with(tmp_path, 0)
        killed = mmdaemon(tmp_path, "kill")
        assert killed.returncode == 0, killed.stdout + killed.stderr
        after = first.status()
        assert before.open_orders > 0
        assert (after.open_orders, after.guard) == (0, "hard_stop")
        assert after.kill in {state.value for state in KillState} - {"armed", "killing"}
        assert after.position not in ("0", "-0")  # a kill does not flatten unless asked to
        exits_with(tmp_path, 3)
        assert (tmp_path / "state" / "KILLED").exists()
        assert first.stop() == 0
    assert mmdaemon(tmp_path, "status").returncode == 4

    with bot(tmp_path) as second:
        second.wait_for("killed again", lambda s: s.guard == "hard_stop" and s.kill == "killed")
        assert mmdaemon(tmp_path, "resume", "--reason", "").returncode != 0
        assert second.status().kill == "killed"
        resumed = mmdaemon(tmp_path, "resume", "--reason", "looked at it")
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        second.trading()
        assert not (tmp_path / "state" / "KILLED").exists()
        assert second.stop() == 0

    with JournalReader(tmp_path / "state" / "journal.sqlite") as journal:
        one, two = journal.runs()
        # The first run was told to stop while killed, with nothing resting: a clean stop of a killed daemon.
        assert (one.clean_stop, two.clean_stop) == (True, True)
        placed_while_killed = journal.db.execute(
            "SELECT count(*) FROM intents WHERE epoch = 2 AND revision = 0 AND ts_ns < "
            "(SELECT min(ts_ns) FROM operator_actions WHERE epoch = 2 AND outcome = 'taken')"
        ).fetchone()
        assert placed_while_killed == (0,)
        assert [action.reason for action in journal.operator_actions(2) if action.outcome == "taken"] == [
            "looked at it"
        ]


@pytest.mark.timeout(300)
def test_five_kills_in_a_row_leave_nothing_resting_each_time(tmp_path: Path) -> None:
    with bot(tmp_path) as running:
        for i in range(5):
            running.trading()
            assert running.ask("kill", reason=f"round {i}").exit_code == 0
            assert running.status().open_orders == 0
            running.wait_for("killed", lambda s: s.kill == "killed")
            assert running.ask("resume", reason=f"round {i} was quiet").ok
        assert running.stop() == 0


@pytest.mark.timeout(300)
def test_a_kill_that_flattens_leaves_no_position_and_a_kill_file_is_a_kill(tmp_path: Path) -> None:
    with bot(tmp_path) as running:
        running.trading()
        assert running.ask("kill", reason="flat", flatten=True).exit_code == 0
        flat = running.status()
        assert (flat.open_orders, flat.position, flat.kill) == (0, "0", "killed")
        assert running.ask("resume", reason="again").ok
        running.trading()
        (tmp_path / "state" / "KILLED").write_text("a person wrote this\n")
        running.wait_for("killed by file", lambda s: s.kill == "killed" and s.open_orders == 0)
        assert running.stop() == 0


@pytest.mark.timeout(300)
def test_metrics_are_served_a_second_daemon_is_refused_and_a_stop_is_clean(tmp_path: Path) -> None:
    with bot(tmp_path) as running:
        status = running.trading()
        with urlopen(f"http://127.0.0.1:{status.metrics_port}/metrics", timeout=10) as page:
            text = page.read().decode()
        assert 'mmdaemon_guard_state{state="running"} 1.0' in text
        assert "mmdaemon_fills_total" in text
        second = mmdaemon(tmp_path, "run")
        assert second.returncode == 75
        assert "in use" in second.stderr
        assert running.stop() == 0
    with JournalReader(tmp_path / "state" / "journal.sqlite") as journal:
        run = journal.run()
        assert run is not None
        assert (run.clean_stop, run.end_reason) == (True, "SIGTERM")


def test_what_a_run_trades_with_is_blotted_out_of_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every part that can be told from other text; and no core file, in which the keys would be."""
    given: list[object] = []

    class Enough(Exception):
        pass

    def setup(level: str, *, secrets: list[str]) -> None:
        given.extend((level, *secrets))
        raise Enough

    monkeypatch.setattr(service.logging, "setup", setup)
    key = Credentials(Secret("canary-key"), Secret("canary-secret"), Secret("short"))
    with pytest.raises(Enough):
        service.serve(load(None, {"log.level": "DEBUG"}, {}).settings, StateDir(tmp_path, None), key)
    token = read_token(tmp_path).secret.reveal()
    assert given == ["DEBUG", "canary-key", "canary-secret", token]
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
