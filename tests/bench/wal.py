"""`python -m tests.bench.wal --n 1000`: the end of the journal's log torn off at so many places, recovered, compared.

The commits are those of a whole daemon that trades for two minutes of virtual time. The real writer puts them into a
real file, each acknowledged before the next, and the files are copied while it is open: the moment of a power cut. Then
the `-wal` file is cut at a place, or has zeros or garbage from there on, and `recover` opens what is left. It must find
what a second journal has that took the same commits one by one, without any log, up to the last one whose bytes are all
there: the same tables to the last row, and the same orders, facts and checkpoint handed back.

Two journals: one whose log was never copied back, and one long enough that SQLite began the log anew over old frames.
"""

import argparse
import asyncio
import hashlib
import shutil
import sqlite3
import struct
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import track

from mmdaemon.clock import RealClock
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.journal.connection import CrashPoint, Durability, ThreadConnection, grouped
from mmdaemon.journal.recovery import Recovered
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.statements import STATEMENTS, Row
from mmdaemon.journal.writer import JournalWriter
from tests.daemon.build import World, busy, run_world
from tests.journal.samples import begin, state_dir

HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
BACKFILLED_AT: Final = 96
"""Where the wal-index has the number of frames that were copied back (sqlite.org/walformat.html, 2.1)."""


class Tear(StrEnum):
    CUT = "cut"
    ZEROS = "zeros"
    GARBAGE = "garbage"


class Written(msgspec.Struct, frozen=True):
    """A journal at the moment of a power cut, everything in it acknowledged."""

    first: bytes
    """The file before the first commit."""
    file: bytes
    log: bytes
    ends: tuple[int, ...]
    """Offset behind each commit that is in the log."""
    commits_before: int
    """Commits in the file alone."""
    least: int
    """Offset up to which the log was copied back: synced before that, so no power cut can tear it off."""
    acknowledged_and_there: int
    """Looks at the file right after an acknowledgement that found that commit in it."""


def commits_of_a_daemon(folder: Path, seconds: float) -> list[list[Row]]:
    """The rows of each commit of a daemon that trades, in order."""
    commits: list[list[Row]] = []

    async def script(world: World) -> None:
        def keep(point: CrashPoint, rows: Sequence[Row]) -> None:
            if point is CrashPoint.AFTER_COMMIT:
                commits.append(list(rows))

        world.connection.on_point = keep
        await sleep_ns(world.clock, round(seconds * NS))

    run_world(script, folder / "daemon", busy())
    return commits


# --- writing ----------------------------------------------------------------------------------------------------------


def write(folder: Path, commits: Sequence[Sequence[Row]]) -> Written:
    """The commits by the real writer, on a disk that keeps what was synced."""
    state = state_dir(folder)
    begin(state)
    first = state.journal_path.read_bytes()
    return asyncio.run(_write(state.journal_path, first, commits))


async def _write(path: Path, first: bytes, commits: Sequence[Sequence[Row]]) -> Written:
    connection = ThreadConnection(path, Durability.POWER)
    await connection.open()
    writer = JournalWriter(connection, RealClock(asyncio.get_running_loop()))
    writing = asyncio.create_task(writer.run())
    looked = 0
    log = path.with_name(path.name + "-wal")
    before, salts = 0, b""
    for number, rows in enumerate(commits, start=1):
        await writer.durable(writer.put(rows))
        now = log.read_bytes()
        if now[16:24] != salts:  # begun anew, by this commit: what it had is in the file
            salts, before = now[16:24], number - 1
        there = before + len(commit_ends(now))
        if there != number:
            raise AssertionError(f"{number} commits were acknowledged, {there} are there")
        looked += 1
    index = path.with_name(path.name + "-shm").read_bytes()
    (backfilled,) = struct.unpack_from("=I", index, BACKFILLED_AT)
    file, torn = path.read_bytes(), log.read_bytes()
    await writer.close()
    await writing
    ends = commit_ends(torn)
    least = HEADER_BYTES + backfilled * (FRAME_HEADER_BYTES + page_size(torn))
    return Written(first, file, torn, ends, len(commits) - len(ends), least, looked)


def page_size(log: bytes) -> int:
    (size,) = struct.unpack_from(">I", log, 8)
    return size


def commit_ends(log: bytes) -> tuple[int, ...]:
    """Offset behind each commit frame of the log as it now stands (sqlite.org/fileformat.html, 4.1)."""
    frame = FRAME_HEADER_BYTES + page_size(log)
    ends: list[int] = []
    for at in range(HEADER_BYTES, len(log) - frame + 1, frame):
        _page, size_after, *salts = struct.unpack_from(">4I", log, at)
        if salts != list(struct.unpack_from(">2I", log, 16)):
            break
        if size_after:
            ends.append(at + frame)
    return tuple(ends)


# --- tearing ----------------------------------------------------------------------------------------------------------


def places(written: Written, n: int, random: Random) -> list[tuple[int, Tear]]:
    """Half anywhere, half where it matters: around the end of a commit and within the header after it."""
    found: list[tuple[int, Tear]] = []
    end = written.ends[-1]
    near = [each for each in written.ends if each >= written.least]
    for number in range(n):
        if number % 2:
            at = random.randint(written.least, end)
        else:
            at = random.choice(near) + random.choice((-FRAME_HEADER_BYTES, -1, 0, 1, 8, FRAME_HEADER_BYTES))
        found.append((min(max(at, written.least), end), random.choice(list(Tear))))
    return found


def torn(written: Written, at: int, tear: Tear, random: Random) -> bytes:
    kept, rest = written.log[:at], len(written.log) - at
    match tear:
        case Tear.CUT:
            return kept
        case Tear.ZEROS:
            return kept + bytes(rest)
        case Tear.GARBAGE:
            return kept + random.randbytes(rest)


def commits_left(written: Written, log: bytes) -> int:
    """How many commits have every byte: all that come before the first one that differs."""
    whole = len(log)
    if log != written.log[:whole]:
        whole = next(at for at, (a, b) in enumerate(zip(log, written.log, strict=False)) if a != b)
    return written.commits_before + sum(end <= whole for end in written.ends)


# --- comparing --------------------------------------------------------------------------------------------------------


class Content(msgspec.Struct, frozen=True):
    digest: str
    recovered: Recovered


def recovered(state: StateDir) -> Content:
    """What `recover` makes of a journal: all tables, and what it hands back."""
    found = begin(state)
    digest = hashlib.sha256()
    with closing(sqlite3.connect(state.journal_path)) as db:
        for line in db.iterdump():
            digest.update(line.encode())
    return Content(digest.hexdigest(), found)


class Reference:
    """The same commits, one by one, in a journal without a log."""

    def __init__(self, folder: Path, written: Written, commits: Sequence[Sequence[Row]]) -> None:
        self._folder = folder
        self._commits = commits
        self._path = folder / "reference.sqlite"
        self._path.write_bytes(written.first)
        self._db = sqlite3.connect(self._path)
        self._db.execute("PRAGMA journal_mode = MEMORY").fetchall()
        self._done = 0
        self._contents: dict[int, Content] = {}

    def after(self, commits: int) -> Content:
        """Ask in rising order."""
        if commits not in self._contents:
            for rows in self._commits[self._done : commits]:
                with self._db:
                    for statement, values in grouped(rows):
                        self._db.executemany(STATEMENTS[statement], values)
            self._done = commits
            self._contents[commits] = self._recovered()
        return self._contents[commits]

    def _recovered(self) -> Content:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            state = state_dir(Path(folder))
            with closing(sqlite3.connect(state.journal_path)) as copy:
                self._db.backup(copy)
            return recovered(state)

    def close(self) -> None:
        self._db.close()


class Findings(msgspec.Struct):
    tears: int = 0
    prefixes: set[int] = set()
    lost: int = 0
    """Most commits that one tear took."""
    wrong: list[str] = []


def tear_again_and_again(
    folder: Path, written: Written, commits: Sequence[Sequence[Row]], chosen: Iterable[tuple[int, Tear]], seed: int
) -> Findings:
    found = Findings()
    reference = Reference(folder, written, commits)
    logs = [(at, tear, torn(written, at, tear, Random(seed + at))) for at, tear in chosen]
    left = sorted(((commits_left(written, log), at, tear, log) for at, tear, log in logs), key=lambda each: each[:2])
    for whole, at, tear, log in left:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            state = state_dir(Path(place))
            state.journal_path.write_bytes(written.file)
            state.journal_path.with_name("journal.sqlite-wal").write_bytes(log)
            content = recovered(state)
        if content != reference.after(whole):
            found.wrong.append(f"{tear} at {at} of {len(written.log)}: not the state after commit {whole}")
        found.tears += 1
        found.prefixes.add(whole)
        found.lost = max(found.lost, len(commits) - whole)
    reference.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    console = Console()
    code = 0
    with tempfile.TemporaryDirectory() as top:
        commits = commits_of_a_daemon(Path(top), 120.0)
        for name, some in (("log never copied back", commits[: len(commits) // 4]), ("log begun anew", commits)):
            folder = Path(top) / name.replace(" ", "_")
            folder.mkdir()
            written = write(folder, some)
            shutil.rmtree(folder / "state")
            random = Random(chosen.seed)
            at = places(written, chosen.n // 2, random)
            found = tear_again_and_again(folder, written, some, track(at, name, console=console), chosen.seed)
            console.print(
                f"{name}: {len(some)} commits ({written.commits_before} in the file, {len(written.ends)} in a log of "
                f"{len(written.log):,} bytes); {found.tears} tears, {len(found.prefixes)} different prefixes, most "
                f"{found.lost} commits torn off; {written.acknowledged_and_there} acknowledgements looked up at once; "
                f"[{'red' if found.wrong else 'green'}]{len(found.wrong)} wrong",
                highlight=False,
            )
            for line in found.wrong[:10]:
                console.print(line, highlight=False, markup=False)
            code = code or int(bool(found.wrong))
    return code


if __name__ == "__main__":
    sys.exit(main())
