"""A journal that a power cut or a bad disk left: a prefix of its commits, or KILLED, and never something else."""

import asyncio
import sqlite3
from pathlib import Path
from random import Random

import msgspec
import pytest

from mmdaemon.core.types import KillState
from mmdaemon.journal.connection import Durability, ThreadConnection
from mmdaemon.journal.recovery import JournalUnreadable, read_latch
from mmdaemon.journal.statements import Row
from tests.bench import wal
from tests.bench.wal import Tear, Written
from tests.journal.samples import begin, dump, state_dir

SEED = 7


class Torn(msgspec.Struct, frozen=True):
    commits: list[list[Row]]
    written: Written


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Torn:
    """Made once; nobody changes it. Its log was begun anew over old frames."""
    folder = tmp_path_factory.mktemp("torn")
    commits = wal.commits_of_a_daemon(folder, 150.0)
    return Torn(commits, wal.write(folder, commits))


def test_a_hundred_torn_logs_are_a_prefix_each_and_nothing_acknowledged_was_missing(
    whole: Torn, tmp_path: Path
) -> None:
    commits, written = whole.commits, whole.written
    assert written.commits_before > 50  # the log was begun anew
    assert len(written.ends) > 20
    assert written.acknowledged_and_there == len(commits)
    chosen = wal.places(written, 100, Random(SEED))
    found = wal.tear_again_and_again(tmp_path, written, commits, chosen, SEED)
    assert found.wrong == []
    assert found.tears == 100
    assert len(found.prefixes) > 15
    assert found.lost > 10


def test_a_log_that_was_never_copied_back_may_be_gone_altogether(whole: Torn, tmp_path: Path) -> None:
    some = whole.commits[:30]
    written = wal.write(tmp_path, some)
    assert written.commits_before == 0
    (tmp_path / "torn").mkdir()
    chosen = [(0, Tear.CUT), (wal.HEADER_BYTES, Tear.ZEROS), (written.ends[-1], Tear.CUT)]
    found = wal.tear_again_and_again(tmp_path / "torn", written, some, chosen, SEED)
    assert (found.wrong, found.prefixes) == ([], {0, 30})


def test_a_commit_more_or_less_would_be_seen(whole: Torn, tmp_path: Path) -> None:
    """Else the two above prove nothing."""
    reference = wal.Reference(tmp_path, whole.written, whole.commits)
    contents = [reference.after(number) for number in (100, 101, 102)]
    reference.close()
    assert len({content.digest for content in contents}) == 3
    # A log that lost a commit in the middle, which no tear can do, is not the state that its length promises.
    missing = [*whole.commits[:50], *whole.commits[51:100]]
    (tmp_path / "missing").mkdir()
    other = wal.Reference(tmp_path / "missing", whole.written, missing)
    assert other.after(99) != contents[0]
    other.close()


def test_with_durability_power_each_commit_is_synced(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)

    async def synchronous(durability: Durability) -> int:
        connection = ThreadConnection(state.journal_path, durability)
        await connection.open()
        assert connection._db is not None
        ((found,),) = await connection._db.execute_fetchall("PRAGMA synchronous")
        await connection.close()
        return found

    assert asyncio.run(synchronous(Durability.POWER)) == 2  # FULL
    assert asyncio.run(synchronous(Durability.PROCESS)) == 1  # NORMAL


@pytest.mark.parametrize("bad", ["zeros", "garbage", "another page"])
def test_a_corrupt_page_is_killed_with_a_message_wherever_it_is(whole: Torn, tmp_path: Path, bad: str) -> None:
    """SQLite has no checksums of pages: what is damaged within a row and keeps its shape is not seen."""
    state = state_dir(tmp_path)
    path = state.journal_path
    path.write_bytes(whole.written.file)
    path.with_name("journal.sqlite-wal").write_bytes(whole.written.log)
    begin(state)
    good = path.read_bytes()
    content = dump(path)
    random = Random(SEED)
    pages = len(good) // 4096
    unseen: list[int] = []
    for page in random.sample(range(pages), min(pages, 60)):
        other = random.choice([each for each in range(pages) if each != page]) * 4096
        with_bad = {"zeros": bytes(4096), "garbage": random.randbytes(4096), "another page": good[other : other + 4096]}
        path.write_bytes(good[: page * 4096] + with_bad[bad] + good[(page + 1) * 4096 :])
        try:
            begin(state)
        except JournalUnreadable as error:
            assert "KILLED" in str(error) or "counts as killed" in str(error)  # noqa: PT017 - each page is asked
        else:
            path.write_bytes(good[: page * 4096] + with_bad[bad] + good[(page + 1) * 4096 :])
            if not _is_unused(path, content):
                unseen.append(page)
    assert unseen == []
    path.write_bytes(b"")
    assert read_latch(state).state is KillState.KILLED


def _is_unused(path: Path, content: str) -> bool:
    """Whether what it says is what it said: the page was on the free list."""
    try:
        return dump(path) == content
    except sqlite3.Error:
        return False
