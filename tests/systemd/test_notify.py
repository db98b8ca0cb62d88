"""The real process before a supervisor that speaks systemd's protocol: what it says from its start to its end. Runs
everywhere; the same with systemd itself is `test_service.py`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mmdaemon.cli import ExitCode
from mmdaemon.cli.left import Tended, tended
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops.status import Status
from tests.bench.crashes import Site
from tests.cli.test_kill_direct import LIVE, kill, latch, rows
from tests.systemd.broken import INJECTED

PATIENCE_S = 60.0
WATCHDOG_S = 3.0


class Service:
    """One start of the daemon, and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], heard: socket.socket) -> None:
        self.process = process
        self._socket = heard
        self.said: list[dict[str, str]] = []

    def listen(self, for_s: float) -> dict[str, str] | None:
        """The next message, None if none comes for so long."""
        self._socket.settimeout(for_s)
        try:
            text = self._socket.recv(65_536).decode()
        except TimeoutError:
            return None
        self.said.append(dict(line.split("=", 1) for line in text.split("\n")))
        return self.said[-1]

    def until(self, name: str) -> dict[str, str]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = self.listen(1.0)
            if message is not None and name in message:
                return message
            assert self.process.poll() is None or message is not None, f"it ended without {name}: {self.said}"
        pytest.fail(f"never {name}: {self.said}")

    def misses_the_watchdog(self) -> None:
        """As systemd sees it: nothing feeds it for its whole period."""
        deadline = time.monotonic() + PATIENCE_S
        fed = time.monotonic()
        while time.monotonic() < deadline:
            message = self.listen(0.2)
            if message is not None and "WATCHDOG" in message:
                fed = time.monotonic()
            if time.monotonic() - fed > WATCHDOG_S:
                return
        pytest.fail("it was fed all the time")

    def sweep_after(self, site: Site) -> None:
        """What `WatchdogSignal` and `ExecStopPost` do."""
        self.process.send_signal(signal.SIGABRT)
        assert self.process.wait(PATIENCE_S) == -signal.SIGABRT
        assert rows(site.record, LIVE)
        swept = kill(site, "--if-dirty", "--wait")
        assert swept.returncode == 0, swept.stderr
        assert rows(site.record, LIVE) == []


@contextmanager
def started(site: Site) -> Generator[Service, None, None]:
    inject = site.folder / "inject"
    inject.mkdir(exist_ok=True)
    (inject / "sitecustomize.py").write_text(INJECTED)
    path = site.folder / "notify"
    path.unlink(missing_ok=True)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as heard:
        heard.bind(str(path))
        environment = site.environment | {
            "NOTIFY_SOCKET": str(path),
            "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6)),
            "STATE_DIRECTORY": str(site.state),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(inject), os.environ.get("PYTHONPATH", "")))),
        }
        words = ("run", "--config", str(site.config), "--set", "run.stall_s=60")
        with (site.folder / "run.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "mmdaemon", *words], stderr=log, env=environment)
        try:
            yield Service(process, heard)
        finally:
            process.kill()
            process.wait()


@pytest.mark.timeout(300)
def test_from_its_start_to_its_end(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue(), started(site) as service:
        ready = service.until("READY")
        assert service.said[0]["STATUS"].startswith("starting")
        assert "\n" not in ready["STATUS"]
        seen = site.status()
        assert seen is not None
        assert seen.book_healthy
        assert seen.guard != "reconciling"
        for _ in range(3):
            service.until("WATCHDOG")
        service.process.send_signal(signal.SIGHUP)
        assert service.until("RELOADING")["MONOTONIC_USEC"].isdigit()
        assert "READY" in service.until("READY")
        service.process.send_signal(signal.SIGTERM)
        stopping = service.until("STOPPING")
        assert int(stopping["EXTEND_TIMEOUT_USEC"]) == 16_000_000  # in_flight_max_s and 15 s
        assert service.process.wait(PATIENCE_S) == ExitCode.OK
        assert "stopped cleanly" in kill(site, "--if-dirty").stderr
        said = [line for line in (site.folder / "run.log").read_text().splitlines() if " fill order=" in line]
        booked = rows(site.journal, "SELECT client_id FROM fills ORDER BY ts_ns, seq")
        assert [line.partition(" fill order=")[2].split()[0] for line in said] == [order for (order,) in booked]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["controller", "inbox", "loop"])
async def test_without_progress_the_watchdog_is_missed_and_after_the_sweep_it_goes_on_by_itself(
    tmp_path: Path, kind: str
) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue():
        with started(site) as service:
            service.until("READY")
            wait_until_it_quotes(site, service)
            (site.state / f"break-{kind}").touch()
            service.misses_the_watchdog()
            if kind != "loop":  # the loop turns, and whoever asks is answered: nothing else would have noticed
                assert await tended(StateDir(site.state, None), 10.0) is Tended.ANSWERS
            service.sweep_after(site)
            assert latch(site) == ""
        with started(site) as after:
            after.until("READY")
            wait_until_it_quotes(site, after)


@pytest.mark.timeout(300)
def test_latched_is_ready_too_and_without_a_venue_it_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path, seed=11)
    with site.venue():
        with started(site) as service:
            service.until("READY")
            assert site.ask("kill", "drill")
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(PATIENCE_S) == ExitCode.OK
        with started(site) as service:
            assert ", kill switch kill" in service.until("READY")["STATUS"]
    with started(site) as service:  # nobody listens where it trades
        assert service.process.wait(PATIENCE_S) == ExitCode.RETRY
        assert all("READY" not in message for message in service.said)


def asked(site: Site) -> Status | None:
    """On a thread: it runs a loop of its own, and a test may have one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(site.status).result()


def wait_until_it_quotes(site: Site, service: Service) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        service.listen(0.1)
        seen = asked(site)
        if seen is not None and seen.guard == "running" and any(quote.working for quote in seen.quotes):
            assert seen.kill == "armed"
            return
        assert service.process.poll() is None
    pytest.fail("it never quoted")
