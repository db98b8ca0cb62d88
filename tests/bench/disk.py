"""`python -m tests.bench.disk [KIND]...`: the real daemon on a disk that is full, unwritable or read-only.

The state directory is on a tmpfs of 8 MiB in a mount namespace of its own (`unshare -rm`); log, record and the runtime
directory (`$RUNTIME_DIRECTORY`, where the second kill file is) are not.

    full        it quotes, and the disk is filled to the last byte: no commit succeeds any more
    unwritable  it quotes, and every write to any file fails, its own log's too (RLIMIT_FSIZE 0; a mount with files open
                for writing cannot be made read-only, and what the kernel does to them on an error looks like this)
    read_only   it was killed with orders resting, and the disk is read-only when it starts again

In the first two the daemon must empty the venue, stay stopped, say so when stopped, and begin killed once there is
room; in the third it must refuse to start, and `kill --direct` must empty the venue all the same. After a resume it
trades on, and in the end its journal must be the venue's own record, as in `tests.bench.crashes`.
"""

import argparse
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console

from tests.bench import crashes
from tests.bench.crashes import Killed, Site, Stuck, wait_for

KINDS: Final = ("full", "unwritable", "read_only")
SIZE: Final = "8m"
LIVE: Final = "SELECT count(*) FROM orders WHERE status NOT IN ('filled', 'cancelled', 'rejected')"
EXPECTED: Final = frozenset({"hard stops", f"not quoting within {crashes.QUOTING_WITHIN_S:g} s"})
"""Of what `hold_against` calls a defect: what is wanted here."""
EMPTY_WITHIN_S: Final = 15.0


class Outcome(msgspec.Struct):
    kind: str
    wrong: list[str] = []
    figures: dict[str, str] = {}


def why_not() -> str:
    """Why there can be no mount namespace here; empty if there can."""
    if shutil.which("unshare") is None:
        return "no unshare"
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, text=True, check=False
    )
    return tried.stderr.strip() if tried.returncode else ""


def play(kind: str, folder: Path, seed: int = 11) -> Outcome:
    """In a namespace of its own."""
    command = [sys.executable, "-m", "tests.bench.disk", "--inside", str(folder), "--seed", str(seed), kind]
    done = subprocess.run(["unshare", "-rm", *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Stuck(done.stderr)
    return msgspec.json.decode(done.stdout, type=Outcome)


# --- inside -----------------------------------------------------------------------------------------------------------


class Disk:
    """The tmpfs at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(mode=0o700)
        self._mount("-t", "tmpfs", "-o", f"size={SIZE},mode=700", "none")

    def _mount(self, *words: str) -> None:
        subprocess.run(["mount", *words, str(self._path)], check=True)

    def fill(self) -> None:
        """To the last byte."""
        with (self._path / "filling").open("wb", buffering=0) as file:
            for size in (65_536, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue

    def make_room(self) -> None:
        (self._path / "filling").unlink()

    def read_only(self, on: bool) -> None:
        self._mount("-o", f"remount,{'ro' if on else 'rw'}")


class Play:
    def __init__(self, kind: str, folder: Path, seed: int) -> None:
        self.site = Site(folder, seed)
        self.disk = Disk(self.site.state)
        runtime = folder / "runtime"
        runtime.mkdir()
        self.site.environment["RUNTIME_DIRECTORY"] = str(runtime)
        self.latch = runtime / "KILLED"
        self.outcome = Outcome(kind)

    def must(self, holds: object, what: str) -> None:
        if not holds:
            self.outcome.wrong.append(what)

    def live(self) -> int:
        with closing(sqlite3.connect(self.site.record)) as record:
            return crashes.one(record, LIVE)

    def sent_since(self, ts_ns: int) -> int:
        with closing(sqlite3.connect(self.site.record)) as record:
            query = "SELECT count(*) FROM requests WHERE kind IN ('place', 'amend') AND ts_ns >= ?"
            return crashes.one(record, query, ts_ns)

    def failing(self, begin: Callable[[subprocess.Popen[bytes]], None], end: Callable[[], None]) -> None:
        """It quotes, then the disk fails beneath it, until it was stopped."""
        with self.site.daemon() as daemon:
            self.site.quoting(daemon)
            time.sleep(2.0)
            began = time.monotonic()
            begin(daemon)
            wait_for("the venue to be empty", lambda: self.live() == 0 and self._is_killed(), daemon)
            took_s = time.monotonic() - began
            self.outcome.figures["disk fails to venue empty and killed, seen from outside"] = f"{took_s:.2f} s"
            self.must(took_s < EMPTY_WITHIN_S, f"the venue was empty only after {took_s:.1f} s")
            quiet_ns = time.time_ns()
            time.sleep(3.0)
            self.must(self.live() == 0, "orders came back")
            self.must(not self.sent_since(quiet_ns), "orders were sent after the kill")
            status = self.site.status()
            self.must(status is not None and status.guard == "hard_stop", f"not HARD_STOP: {status}")
            self.must(self.latch.exists(), "no kill file in the runtime directory")
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait(timeout=crashes.PATIENCE_S)
            self.outcome.figures["exit code of the stop"] = str(code)
            self.must(code == 70, f"a stop without a journal exits with {code}")
        end()

    def _is_killed(self) -> bool:
        status = self.site.status()
        return status is not None and status.kill in ("quiet", "verified", "killed")

    def refused(self) -> None:
        """It died with orders resting, and the disk is read-only now."""
        with self.site.daemon() as daemon:
            self.site.quoting(daemon)
            daemon.kill()
            daemon.wait()
        self.must(self.live() > 0, "nothing rested, so nothing is shown")
        self.disk.read_only(True)
        with self.site.daemon() as daemon:
            code = daemon.wait(timeout=crashes.PATIENCE_S)
        self.outcome.figures["exit code of a start on a read-only disk"] = str(code)
        self.must(code == 78, f"a start on a read-only disk exits with {code}")
        said = (self.site.folder / "run.log").read_text()
        self.must("Read-only file system" in said, f"it does not say why: {said[-500:]}")
        command = [sys.executable, "-m", "mmdaemon", "kill", "--direct", "--if-dirty", "--wait"]
        killed = subprocess.run(
            [*command, "--state-dir", str(self.site.state)],
            capture_output=True,
            text=True,
            env=self.site.environment,
            check=False,
        )
        self.must(killed.returncode == 0, f"kill --direct exits with {killed.returncode}: {killed.stderr}")
        self.must("not put down" in killed.stderr, f"it does not say what it could not write: {killed.stderr}")
        self.must(self.live() == 0, "orders rest after kill --direct")
        self.must(self.latch.exists(), "no kill file in the runtime directory")
        self.disk.read_only(False)

    def trade_on(self, venue: subprocess.Popen[bytes]) -> None:
        """Killed at first; after a resume as ever; and the books are the venue's."""
        done = Killed()
        with self.site.daemon() as daemon:
            killed = lambda: (seen := self.site.status()) is not None and seen.kill == "killed"  # noqa: E731
            wait_for("it to begin killed", killed, daemon)
            self.must(self.live() == 0, "orders rest while it is killed")
            resumed = lambda: self.site.ask("resume", "the disk is well again")  # noqa: E731
            wait_for("a resume", resumed, daemon)
            done.seen_quoting.append(self.site.quoting(daemon))
            time.sleep(2.0)
            self.site.ask("pause", "the end")
            empty = lambda: (seen := self.site.status()) is not None and not seen.open_orders  # noqa: E731
            wait_for("the orders to be gone", empty, daemon)
            time.sleep(1.0)
            daemon.send_signal(signal.SIGTERM)
            done.exit_code = daemon.wait(timeout=crashes.PATIENCE_S)
        venue.send_signal(signal.SIGTERM)
        venue.wait(timeout=crashes.PATIENCE_S)
        found = crashes.hold_against(self.site, done)
        self.outcome.figures["fills"] = found.figures["fills"]
        for name, items in found.defects.items():
            self.must(not items or name in EXPECTED, f"{name}: {items[:3]}")

    def run(self) -> Outcome:
        with self.site.venue() as venue:
            if self.outcome.kind == "full":
                self.failing(lambda _daemon: self.disk.fill(), self.disk.make_room)
            elif self.outcome.kind == "unwritable":
                self.failing(_no_writes, lambda: None)
            else:
                self.refused()
            self.trade_on(venue)
        return self.outcome


def _no_writes(daemon: subprocess.Popen[bytes]) -> None:
    _soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, hard))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--inside", type=Path, help="used by itself, in the namespace")
    parser.add_argument("--seed", type=int, default=11)
    chosen = parser.parse_args()
    if chosen.inside:
        outcome = Play(chosen.kinds[0], chosen.inside, chosen.seed).run()
        os.write(1, msgspec.json.encode(outcome))
        return 0
    console = Console()
    if why := why_not():
        console.print(f"no mount namespace here: {why}")
        return 1
    code = 0
    for kind in chosen.kinds or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            outcome = play(kind, Path(folder), chosen.seed)
        figures = "; ".join(f"{name}: {figure}" for name, figure in outcome.figures.items())
        console.print(f"{kind}: {figures}; [{'red' if outcome.wrong else 'green'}]{len(outcome.wrong)} wrong")
        for line in outcome.wrong:
            console.print(f"  {line}", highlight=False, markup=False)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
