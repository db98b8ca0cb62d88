"""The loop-stall thread: on a loop in this process, and on the real daemon, whose loop is blocked."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.stall import EXIT_STALLED, StallWatch
from tests.bench import crashes
from tests.bench.crashes import Site, wait_for
from tests.cli.test_kill_direct import LIVE, kill, latch, rows

BLOCKED = """
import sys, threading, time
from pathlib import Path
from mmdaemon.cli import main, service
until_the_end = service._until_the_end
async def _until_blocked(daemon, *given, **named):
    import asyncio
    async def block():
        while not Path(sys.argv[-1], "block").exists():
            await asyncio.sleep(0.02)
        time.sleep(1_000)
    task = asyncio.create_task(block())
    await until_the_end(daemon, *given, **named)
service._until_the_end = _until_blocked
sys.exit(main.main(sys.argv[1:]))
"""
"""The daemon as it is, with a coroutine that blocks its loop once a file is there."""


class Stage:
    """What a watch does, put down. `end` does not end."""

    def __init__(self, write: Callable[[str], object] | None = None) -> None:
        self.gate = Gate()
        self.written: list[str] = []
        self.ended = threading.Event()
        self.watch = StallWatch(self.gate, write or self.written.append, 0.5, self.ended.set)


async def test_a_loop_that_stands_closes_the_gate_writes_the_file_and_ends(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    with stage.watch:
        await asyncio.sleep(0.1)
        assert not stage.gate.closed_because
        assert stage.ended.wait(crashes.PATIENCE_S)  # which is what blocks it
    assert "no progress for 0.5 s" in stage.gate.closed_because
    assert len(stage.written) == 1
    assert "stalled" in stage.written[0]
    assert "test_a_loop_that_stands" in capfd.readouterr().err  # where it stood


async def test_a_loop_that_is_slow_or_idle_is_left_alone() -> None:
    stage = Stage()
    with stage.watch:
        for _ in range(4):
            time.sleep(0.2)  # noqa: ASYNC251 - that is the point
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.8)
    assert (stage.gate.closed_because, stage.written, stage.ended.is_set()) == ("", [], False)


async def test_a_disk_that_hangs_does_not_keep_it_from_ending() -> None:
    never = threading.Event()
    stage = Stage(lambda _text: never.wait())
    with stage.watch:
        assert stage.ended.wait(crashes.PATIENCE_S)
    never.set()
    assert stage.gate.closed_because


def test_the_end_of_the_loop_is_no_stall() -> None:
    stage = Stage()

    async def leave_it_behind() -> None:
        stage.watch.__enter__()

    asyncio.run(leave_it_behind())
    assert not stage.ended.wait(1.0)


@pytest.mark.timeout(300)
def test_a_blocked_daemon_ends_with_70_latched_and_the_sweep_empties_the_venue(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    script = tmp_path / "blocked.py"
    script.write_text(BLOCKED)
    words = ("run", "--set", "run.stall_s=2", "--config", str(site.config), "--state-dir", str(site.state))
    with site.venue(), (tmp_path / "run.log").open("ab") as log:
        daemon = subprocess.Popen([sys.executable, str(script), *words], stderr=log, env=site.environment)
        try:
            site.quoting(daemon)
            (site.state / "block").touch()
            assert daemon.wait(crashes.PATIENCE_S) == EXIT_STALLED
        finally:
            daemon.kill()
            daemon.wait()
        assert "no progress for 2 s" in latch(site)
        assert rows(site.record, LIVE)  # it spoke to no venue
        swept = kill(site, "--if-dirty", "--wait")
        assert swept.returncode == 0, swept.stderr
        assert rows(site.record, LIVE) == []
        with site.daemon() as after:
            wait_for("it to begin killed", lambda: (s := site.status()) is not None and s.kill == "killed", after)
    assert "time.sleep" in (log_text := (tmp_path / "run.log").read_text()) or "in block" in log_text


@pytest.mark.timeout(300)
def test_a_process_that_was_stopped_for_longer_than_the_limit_has_not_stalled(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    script = tmp_path / "blocked.py"
    script.write_text(BLOCKED)
    words = ("run", "--set", "run.stall_s=2", "--config", str(site.config), "--state-dir", str(site.state))
    with site.venue(), (tmp_path / "run.log").open("ab") as log:
        daemon = subprocess.Popen([sys.executable, str(script), *words], stderr=log, env=site.environment)
        try:
            site.quoting(daemon)
            daemon.send_signal(signal.SIGSTOP)
            time.sleep(4.0)
            daemon.send_signal(signal.SIGCONT)
            site.quoting(daemon)
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(crashes.PATIENCE_S) == 0
        finally:
            daemon.kill()
            daemon.wait()
    assert latch(site) == ""
