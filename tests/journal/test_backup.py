"""Copies of the journal: of one moment, proven, refused where a byte of them is wrong, kept for as long as was said."""

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.events import BillKind
from mmdaemon.core.types import NS, KillState, Side
from mmdaemon.journal import backup, rows
from mmdaemon.journal.backup import BackupFailed, Kept, Proof, Why, back_up, proof_path
from mmdaemon.journal.backup_kept import is_due, kept_in, last_slot_ns, prune, stays
from mmdaemon.journal.backup_restore import Restored, RestoreRefused, examine, restore
from mmdaemon.journal.recovery import NEWEST, read_latch
from mmdaemon.journal.state_dir import InUse, StateDir
from tests.journal.samples import (
    INSTRUMENT,
    WALL_NS,
    StillClock,
    begin,
    bill,
    dump,
    fill,
    place,
    query,
    state_dir,
    write,
)
from tests.journal.test_recovery import of_version_1

LATER_NS = WALL_NS + 3_600 * NS


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A directory with a journal: two fills, a payment, an order, a mark."""
    made = state_dir(tmp_path)
    begin(made)
    filled = [fill("t1", qty_lots=5), fill("t2", side=Side.SELL, px_ticks=1200, qty_lots=3)]
    write(
        made.journal_path,
        [
            rows.account_opened_row(1, 10**14),
            rows.instrument_row(INSTRUMENT, WALL_NS),
            *rows.intent_rows(1, 1, place(), WALL_NS),
            *(rows.fill_row(1, seq, each, INSTRUMENT, 1100) for seq, each in enumerate(filled, 2)),
            rows.bill_row(1, 9, bill(amount_e10=-3), INSTRUMENT.venue),
            rows.bill_row(1, 9, bill("b2", BillKind.TRANSFER, 500), INSTRUMENT.venue),
        ],
    )
    with closing(sqlite3.connect(made.journal_path)) as db, db:
        db.execute(
            "INSERT INTO minutes (epoch, ts_ns, mono_ns, seq, guard, regime, position_lots, mark_px_ticks, spread_e10, "
            "inventory_e10, impact_e10, fees_e10, funding_e10, transfers_e10, turnover_e10, fills) "
            "VALUES (1, 5, 5, 5, 'running', 'up', 2, 1100, 0, 0, 0, 14, -3, 500, 0, 2)"
        )
    return made


@pytest.fixture
def made(state: StateDir, tmp_path: Path) -> Kept:
    return back_up(state.journal_path, tmp_path / "backups", "asked", WALL_NS)


def put_back(state: StateDir, path: Path, *, ts_ns: int = LATER_NS, without_proof: bool = False) -> Restored:
    state.lock()
    try:
        return restore(state, path, reason="a drill", who="pytest", mono_ns=1, ts_ns=ts_ns, without_proof=without_proof)
    finally:
        state.release()


# --- a copy -----------------------------------------------------------------------------------------------------------


def test_a_copy_is_the_journal_and_its_proof_says_what_it_comes_to(state: StateDir, made: Kept) -> None:
    assert dump(made.path) == dump(state.journal_path)
    sums = made.proof.sums
    assert sums.whose == ("abcd", "sim", "BTCUSDT")
    assert sums.rows["fills"] == 2
    (account,) = sums.accounts
    unit = INSTRUMENT.unit_e10
    assert (account.fills, account.position_lots) == (2, 2)
    assert (account.bought_e10, account.sold_e10) == (5 * 1000 * unit, 3 * 1200 * unit)
    assert (account.fees_e10, account.funding_e10, account.transfers_e10) == (14, -3, 500)
    assert account.pnl_e10 == (3600 - 5000 + 2 * 1100) * unit - 14 - 3
    assert examine(made.path).proof == made.proof


def test_a_copy_is_one_file_of_this_user_alone(made: Kept) -> None:
    folder = made.path.parent
    assert {each.name for each in folder.iterdir()} == {made.path.name, proof_path(made.path).name}
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    # Read like any other database it leaves nothing beside it, and needs no log.
    assert query(made.path, "PRAGMA journal_mode") == [("delete",)]


def test_two_of_one_second_are_two(state: StateDir, tmp_path: Path) -> None:
    paths = [back_up(state.journal_path, tmp_path / "backups", "asked", WALL_NS).path for _ in range(2)]
    assert len(set(paths)) == 2
    assert [each.path for each in kept_in(tmp_path / "backups")] == sorted(paths)


def test_all_of_it_is_of_one_moment_however_much_is_written_meanwhile(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer commits between any two steps of the copy. Without a transaction that holds still each of its commits
    would begin the copy anew, and it would be of no moment that ever was."""
    monkeypatch.setattr(backup, "_PAGES", 1)
    monkeypatch.setattr(backup, "_REST_S", 0.0)
    before = query(state.journal_path, "SELECT count(*) FROM cancels")[0][0]
    steps = 0
    with closing(sqlite3.connect(state.journal_path)) as writer:

        def commit(_seconds: float) -> None:
            nonlocal steps
            steps += 1
            assert steps < 10_000, "the copy begins anew without end"
            with writer:  # never made to wait: the time-out is at its default and nothing here sleeps
                writer.execute("INSERT INTO cancels VALUES (1, ?, 1, 'mmabcd-1-1', 0)", (steps,))

        monkeypatch.setattr(backup.time, "sleep", commit)
        kept = back_up(state.journal_path, tmp_path / "backups", "asked", WALL_NS)
    assert steps > 20
    assert query(state.journal_path, "SELECT count(*) FROM cancels") == [(before + steps,)]
    assert query(kept.path, "SELECT count(*) FROM cancels") == [(before,)]


def test_a_copy_that_differs_is_none(state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = backup._copy

    def lossy(source: sqlite3.Connection, partial: Path) -> None:
        copy(source, partial)
        query(partial, "UPDATE fills SET fee_e10 = fee_e10 + 1 WHERE trade_id = 't2'")

    monkeypatch.setattr(backup, "_copy", lossy)
    with pytest.raises(BackupFailed, match=r"does not come to what it was copied from: account .*fees_e10=14"):
        back_up(state.journal_path, tmp_path / "backups", "asked", WALL_NS)
    assert list((tmp_path / "backups").iterdir()) == []


@pytest.mark.parametrize("broken", [b"", b"no database at all, but long enough to be looked at" * 40])
def test_what_is_no_journal_is_not_copied(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    with pytest.raises(BackupFailed, match="there is no journal"):
        back_up(path, tmp_path / "backups", "asked", WALL_NS)
    path.write_bytes(broken)
    with pytest.raises(BackupFailed, match=r"journal\.sqlite"):
        back_up(path, tmp_path / "backups", "asked", WALL_NS)
    assert not list(tmp_path.glob("backups/*"))


def test_a_copy_never_takes_the_room_that_the_journal_needs(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = state.journal_path.stat().st_size
    for free, is_made in ((size + (256 << 20) - 1, False), (size + (256 << 20) + size, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free: shutil._ntuple_diskusage(1 << 40, 0, free))
        if is_made:
            back_up(state.journal_path, tmp_path / "backups", "asked", WALL_NS)
        else:
            with pytest.raises(BackupFailed, match="no room for a backup in"):
                back_up(state.journal_path, tmp_path / "backups", "asked", WALL_NS)
            assert list((tmp_path / "backups").iterdir()) == []


def test_the_copy_before_a_migration_is_one_that_restore_takes(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmdaemon.journal import recovery

    script = f"ALTER TABLE runs ADD COLUMN mood TEXT; PRAGMA user_version = {NEWEST + 1};"
    with monkeypatch.context() as newer:
        newer.setattr(recovery, "MIGRATIONS", {**recovery.MIGRATIONS, NEWEST: script})
        begin(state)
    copy = state.path / f"journal.sqlite.v{NEWEST}.backup"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    found = examine(copy)
    assert found.proof is not None
    assert (found.proof.why, found.sums.schema, found.sums.last_epoch) == ("migration", NEWEST, 1)
    put_back(state, copy)
    assert begin(state).epoch == LATER_NS // NS + 2


def test_one_of_version_1_is_put_back_and_migrated_again(tmp_path: Path) -> None:
    old = state_dir(tmp_path)
    of_version_1(old)
    begin(old, StillClock(WALL_NS))
    copy = old.path / "journal.sqlite.v1.backup"
    done = put_back(old, copy)
    assert done.examined.sums.schema == 1
    assert done.examined.sums.accounts[0].fees_e10 == 7
    assert query(old.journal_path, "PRAGMA user_version") == [(1,)]
    found = begin(old, StillClock(LATER_NS + NS))
    assert (found.epoch, found.account_epoch, found.start_e10) == (done.epoch + 1, 1, 9)
    assert found.latch.closed
    assert query(old.journal_path, "PRAGMA user_version") == [(NEWEST,)]


# --- what is refused --------------------------------------------------------------------------------------------------


def flipped(place: float) -> Callable[[Path], None]:
    """One bit of the byte at that part of the file."""

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[min(len(content) - 1, int(place * len(content)))] ^= 0x10
        path.write_bytes(content)

    return flip


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def no_database(path: Path) -> None:
    path.write_bytes(b"-- a dump\n" * 1000)


def with_a_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").write_bytes(b"\x37\x7f\x06\x82" + bytes(5000))


def edited(path: Path) -> None:
    query(path, "UPDATE fills SET qty_lots = 6 WHERE trade_id = 't1'")


def without_a_proof(path: Path) -> None:
    proof_path(path).unlink()


def with_a_broken_proof(path: Path) -> None:
    proof_path(path).write_text("{")


def with_the_proof_of_another(path: Path) -> None:
    text = proof_path(path).read_text()
    proof_path(path).write_text(text.replace(path.name, "journal-abcd-19990101T000000Z.sqlite"))


def gone(path: Path) -> None:
    path.unlink()


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"a bit at {place:.0%}": (flipped(place), "no SQLite|damaged") for place in (0, 0.02, 0.2, 0.4, 0.6, 0.8, 1)},
    "cut": (cut, "bytes instead of"),
    "empty": (emptied, "is empty"),
    "no database": (no_database, "is no SQLite database"),
    "a log beside it": (with_a_log, "-wal lies beside it"),
    "edited": (edited, "at least one byte of it is wrong"),
    "no proof": (without_a_proof, "has no proof beside it"),
    "a broken proof": (with_a_broken_proof, "the proof of .* cannot be read"),
    "another's proof": (with_the_proof_of_another, "is the proof of journal-abcd-1999"),
    "gone": (gone, "there is no backup at"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_backup_is_refused_by_name_and_nothing_is_changed(state: StateDir, made: Kept, name: str) -> None:
    spoil, said = SPOILT[name]
    spoil(made.path)
    before = dump(state.journal_path)
    files = {each.name for each in state.path.iterdir()}
    with pytest.raises(RestoreRefused, match=said) as refused:
        put_back(state, made.path)
    assert made.path.name in str(refused.value) or proof_path(made.path).name in str(refused.value)
    assert dump(state.journal_path) == before
    assert {each.name for each in state.path.iterdir()} <= files | {"lock", "journal.sqlite-wal", "journal.sqlite-shm"}
    assert not read_latch(state).closed


def test_without_its_proof_a_backup_is_checked_by_sqlite_alone(state: StateDir, made: Kept) -> None:
    proof_path(made.path).unlink()
    assert examine(made.path, without_proof=True).proof is None
    assert put_back(state, made.path, without_proof=True).examined.proof is None
    made.path.write_bytes(made.path.read_bytes()[: made.path.stat().st_size // 2])
    with pytest.raises(RestoreRefused, match=r"damaged|malformed"):
        examine(made.path, without_proof=True)


def test_a_newer_schema_is_refused(state: StateDir, tmp_path: Path) -> None:
    query(state.journal_path, f"PRAGMA user_version = {NEWEST + 1}")
    kept = back_up(state.journal_path, tmp_path / "backups", "asked", WALL_NS)
    with pytest.raises(RestoreRefused, match=f"schema version {NEWEST + 1}, and this mmdaemon knows {NEWEST}"):
        put_back(state, kept.path)


def test_a_database_of_something_else_is_refused(state: StateDir, tmp_path: Path) -> None:
    other = tmp_path / "journal-other.sqlite"
    query(other, "CREATE TABLE guests (name TEXT)")
    with pytest.raises(RestoreRefused, match="is no journal of a bot"):
        put_back(state, other, without_proof=True)


def test_the_backup_of_another_bot_is_refused(state: StateDir, made: Kept) -> None:
    query(state.journal_path, "UPDATE meta SET bot_tag = 'wxyz'")
    with pytest.raises(RestoreRefused, match=r"is of bot abcd, .* is of bot wxyz"):
        put_back(state, made.path)
    # Also where the rest of that journal cannot be read any more.
    query(state.journal_path, "DROP TABLE runs")
    with pytest.raises(RestoreRefused, match=r"is of bot abcd"):
        put_back(state, made.path)


def test_a_directory_in_use_is_refused(state: StateDir, made: Kept) -> None:
    other = StateDir(state.path, None).lock()
    try:
        with pytest.raises(InUse, match="is in use by process"):
            put_back(state, made.path)
    finally:
        other.release()


def test_a_clock_that_is_behind_is_refused(state: StateDir, made: Kept) -> None:
    """The second of the restore keeps ids apart."""
    with pytest.raises(RestoreRefused, match=r"before .* was made .*: set the clock first"):
        put_back(state, made.path, ts_ns=WALL_NS - 1)


# --- put back ---------------------------------------------------------------------------------------------------------


def test_put_back_it_is_the_backup_killed_and_with_numbers_nobody_has_had(state: StateDir, made: Kept) -> None:
    for _ in range(3):  # runs that the backup knows nothing of
        begin(state, StillClock(WALL_NS + 60 * NS))
    write(state.journal_path, [rows.fill_row(4, 3, fill("t3"), INSTRUMENT, None)])
    lost = dump(state.journal_path)
    done = put_back(state, made.path)
    assert done.epoch == LATER_NS // NS + 1
    assert done.replaced is not None
    assert dump(done.replaced) == lost
    assert query(state.journal_path, "SELECT trade_id FROM fills ORDER BY 1") == [("t1",), ("t2",)]
    latch = read_latch(state)
    assert latch.state is KillState.KILLED
    assert any(str(file) in source for source in latch.sources for file in state.kill_files)
    assert stat.S_IMODE(state.journal_path.stat().st_mode) == 0o600
    said = "SELECT action, reason, who FROM operator_actions ORDER BY rowid DESC LIMIT 1"
    assert query(state.journal_path, said) == [("restore", "a drill", "pytest")]
    recovered = begin(state, StillClock(LATER_NS + NS))
    assert recovered.epoch == done.epoch + 1
    assert recovered.account_epoch == 1
    assert recovered.latch.closed
    assert not recovered.clean_start
    assert [order.client_id for order in recovered.orders] == ["mmabcd-1-1"]


def test_numbers_grow_also_over_a_restore_of_the_same_backup(state: StateDir, made: Kept) -> None:
    """The journal that is there has a number from a clock that ran ahead: what can be read of it counts."""
    put_back(state, made.path, ts_ns=LATER_NS + 10_000 * NS)
    begin(state, StillClock(LATER_NS + 10_001 * NS))
    before = query(state.journal_path, "SELECT max(epoch) FROM runs")[0][0]
    assert put_back(state, made.path).epoch > before


def test_the_old_log_never_meets_the_new_journal(state: StateDir, made: Kept) -> None:
    """Of a process that was killed the log stays behind, and SQLite would replay it into whatever lies there."""
    crashed = state.path / "elsewhere.sqlite"
    with closing(sqlite3.connect(state.journal_path)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        with db:
            db.execute("INSERT INTO cancels VALUES (1, 77, 1, 'mmabcd-1-1', 0)")
        for suffix in ("", "-wal"):
            shutil.copy(f"{state.journal_path}{suffix}", f"{crashed}{suffix}")
    for suffix in ("", "-wal"):
        os.replace(f"{crashed}{suffix}", f"{state.journal_path}{suffix}")
    done = put_back(state, made.path)
    assert query(state.journal_path, "SELECT count(*) FROM cancels WHERE seq = 77") == [(0,)]
    assert done.replaced is not None
    assert query(done.replaced, "SELECT count(*) FROM cancels WHERE seq = 77") == [(1,)], "and is kept with its own"


def test_over_a_journal_that_cannot_be_read_or_is_not_there(state: StateDir, made: Kept) -> None:
    state.journal_path.write_bytes(b"\x00" * 9000)
    done = put_back(state, made.path)
    assert done.replaced is not None
    assert done.replaced.read_bytes() == b"\x00" * 9000
    state.journal_path.unlink()
    again = put_back(state, made.path, ts_ns=LATER_NS + 60 * NS)
    assert again.replaced is None
    assert begin(state).epoch == again.epoch + 1


@pytest.mark.parametrize("step", ["link", "replace"])
def test_cut_short_a_restore_leaves_a_journal_and_the_latch(
    state: StateDir, made: Kept, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = dump(state.journal_path)

    def fails(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as broken:
        if step == "link":
            broken.setattr(os, "link", fails)
        else:
            broken.setattr(Path, "replace", fails)
        with pytest.raises(RestoreRefused, match="was not put in place: the disk is gone"):
            put_back(state, made.path)
    assert dump(state.journal_path) == before
    assert read_latch(state).closed
    put_back(state, made.path)


# --- which stay, and when the next is due -----------------------------------------------------------------------------

DAY_NS = 86_400 * NS
NOON_NS = 1_790_000_000 * NS - 1_790_000_000 * NS % DAY_NS + DAY_NS // 2


def test_due_is_the_hour_that_has_passed_since_the_newest() -> None:
    assert last_slot_ns(NOON_NS, 12) == NOON_NS
    assert last_slot_ns(NOON_NS, 13) == NOON_NS - 23 * 3_600 * NS
    assert not is_due(NOON_NS, NOON_NS - NS, 0)
    assert is_due(NOON_NS, NOON_NS - DAY_NS, 0), "it was missed at midnight"
    assert is_due(NOON_NS, NOON_NS - NS, 12), "the hour has come"
    assert not is_due(NOON_NS + NS, NOON_NS, 12), "it was taken"
    assert not is_due(NOON_NS - NS, NOON_NS, 12), "the clock was set back a little"
    assert is_due(NOON_NS, NOON_NS + 3 * DAY_NS, 12), "one of a clock that ran days ahead counts for nothing"


def pretended(folder: Path, sums: Proof, day: datetime, why: Why = "daily") -> Path:
    """A finished backup, as far as files tell."""
    path = folder / f"journal-abcd-{day:%Y%m%dT%H%M%SZ}.sqlite"
    path.touch()
    proof = msgspec.structs.replace(sums, file=path.name, moment_ts_ns=int(day.timestamp()) * NS, why=why)
    proof_path(path).write_bytes(msgspec.json.encode(proof))
    return path


def test_fourteen_days_and_twelve_months_stay(made: Kept, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    end = datetime(2026, 11, 23, 0, 0, 30, tzinfo=UTC)
    paths = [pretended(folder, made.proof, end - timedelta(days=days)) for days in range(500)]
    asked = pretended(folder, made.proof, end - timedelta(days=400, hours=1), "asked")
    today = pretended(folder, made.proof, end + timedelta(hours=5), "asked")
    pretended(folder, made.proof, end - timedelta(hours=2))  # of a day that has a newer one: yesterday, 22 h
    other = folder / "journal-wxyz-20200101T000000Z.sqlite"
    other.touch()
    gone = prune(folder, "abcd", 14, 12)
    left = {each.path for each in kept_in(folder)}
    newest_of_days = {paths[0], folder / "journal-abcd-20261122T220030Z.sqlite", *paths[2:14]}
    months = {f"{end.year - (month > end.month)}-{month:02}" for month in range(1, 13)}
    newest_of_months = {max(p for p in paths if f"{p.name[13:17]}-{p.name[17:19]}" == month) for month in months}
    assert left == newest_of_days | newest_of_months | {asked, today}
    assert len(gone) == 503 - len(left)
    assert not {proof_path(path) for path in gone} & set(folder.iterdir())
    assert other.exists(), "what it does not know it leaves alone"
    assert prune(folder, "abcd", 14, 12) == []


def test_the_newest_always_stays(made: Kept, tmp_path: Path) -> None:
    only = Kept(made.path, msgspec.structs.replace(made.proof, why="daily"))
    assert stays([only], 1, 0) == {made.path}


def test_what_was_cut_short_goes_and_what_is_at_work_stays(state: StateDir, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    left = folder / "journal-abcd-20260101T000000Z.sqlite.partial"
    left.write_bytes(b"half")
    seen: list[bool] = []
    copy = backup._copy

    def watched(source: sqlite3.Connection, partial: Path) -> None:
        copy(source, partial)
        other = threading.Thread(target=prune, args=(folder, "abcd", 14, 12))
        other.start()
        other.join()
        seen.append(partial.exists())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "_copy", watched)
        back_up(state.journal_path, folder, "daily", WALL_NS)
    assert seen == [True]
    assert not left.exists()


def test_what_was_cut_short_does_not_take_the_room_of_the_next(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy that is ended in its middle (its daemon stops, it hangs) leaves a file as large as the journal. Counted as
    taken, a few of them would refuse every copy to come, and hold the journal's own room."""
    folder = tmp_path / "backups"
    folder.mkdir()
    size = state.journal_path.stat().st_size
    left = [folder / f"journal-abcd-2026010{day}T000000Z.sqlite.partial" for day in range(1, 4)]
    for path in left:
        path.write_bytes(b"half" * (size // 4))
    others = folder / "journal-efgh-20260101T000000Z.sqlite.partial"
    others.write_bytes(b"of another bot")
    room = size + (256 << 20) + size

    def free(_path: Path) -> object:
        taken = sum(path.stat().st_size for path in left if path.exists())
        return shutil._ntuple_diskusage(1 << 40, 0, room - taken)

    monkeypatch.setattr(shutil, "disk_usage", free)
    back_up(state.journal_path, folder, "daily", WALL_NS)
    assert not any(path.exists() for path in left)
    assert others.exists()
