"""A backup put back in the place of a journal, so that what was lost since can do no harm.

A backup knows nothing of what came after it: orders that were sent, fills, runs, a kill. Three things make up for it.

  * Client ids are never used again. The restored journal gets a row of a run that never began, whose number is the
    UTC second of the restore (or what any run known here had, plus one, if that is more). Runs are counted from one
    and a run lasts longer than a second, so no run that was forgotten had that number, or will have.
  * What the forgotten runs left at the venue has our tag and a lower number: the daemon takes it for an orphan,
    reserves it and cancels it. What they filled comes from the venue's history, from the last moment at which this
    journal and the venue had agreed.
  * The kill latch is closed, in the journal and as a file, whatever the backup says: it may be of before a kill, and
    another daemon may be trading this account. The daemon starts, cancels everything, proves it, and waits for a
    person's `resume`.

The journal that was there is kept beside the new one, with its log.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon import __version__
from mmdaemon.core.events import OperatorAction
from mmdaemon.core.types import NS, KillState
from mmdaemon.journal.backup import (
    BackupFailed,
    Proof,
    checked,
    differences,
    hashed,
    opened_still,
    proof_path,
    read_proof,
    sync_folder,
    synced,
    utc,
)
from mmdaemon.journal.backup_sums import NotAJournal, Sums
from mmdaemon.journal.connection import writable_uri
from mmdaemon.journal.recovery import NEWEST
from mmdaemon.journal.rows import NOT_STARTED, RunStart, kill_row, operator_row, run_ended_row, run_started_row
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.statements import STATEMENTS

_MAGIC: Final = b"SQLite format 3\x00"
_BESIDE: Final = ("-wal", "-journal")
RESTORED: Final = "restored from a backup"


class RestoreRefused(Exception):
    """The backup was not put in place, and nothing was changed. The message says why, and what to do."""


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that was read from its first byte to its last, and is whole."""

    path: Path
    sums: Sums
    proof: Proof | None
    """None: there was none beside it, and that was allowed."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What was done."""

    examined: Examined
    epoch: int
    """Number of the run that never began. Those to come have higher ones."""
    replaced: Path | None
    """Where the journal is that was there."""
    latch_failures: tuple[str, ...]
    """Kill files that could not be written. The journal's own latch is closed all the same."""


def examine(path: Path, *, without_proof: bool = False) -> Examined:
    """Read a backup, change nothing.

    Raises RestoreRefused: it is damaged, no backup, or of a newer mmdaemon.
    """
    try:
        _refuse_by_look(path)
        proof = read_proof(path)
        if proof is None and not without_proof:
            raise RestoreRefused(
                f"{path} has no proof beside it ({proof_path(path).name}), so nobody can tell whether each byte of it "
                "is what was written: bring that file too, or say --without-proof"
            )
        if proof is not None:
            _refuse_by_hash(path, proof)
        with opened_still(path) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > NEWEST:
            raise RestoreRefused(
                f"{path} has schema version {version}, and this mmdaemon knows {NEWEST}: restore it by the newer one"
            )
        sums = checked(path, None if proof is None else proof.sums)
    except BackupFailed as error:
        raise RestoreRefused(f"{error}; take another backup") from error
    except OSError as error:
        raise RestoreRefused(f"{path} cannot be read: {error.strerror or error}") from error
    except sqlite3.Error as error:
        raise RestoreRefused(f"{path} is damaged: {error}; take another backup") from error
    return Examined(path=path, sums=sums, proof=proof)


def _refuse_by_look(path: Path) -> None:
    if not path.is_file():
        raise RestoreRefused(f"there is no backup at {path}; `mmdaemon backup --list` shows those there are")
    with path.open("rb") as file:
        begins = file.read(len(_MAGIC))
    if not begins:
        raise RestoreRefused(f"{path} is empty; take another backup")
    if begins != _MAGIC:
        raise RestoreRefused(f"{path} is no SQLite database, so it is no backup of a journal")
    for suffix in _BESIDE:
        beside = path.with_name(path.name + suffix)
        if beside.exists() and beside.stat().st_size:
            raise RestoreRefused(
                f"{beside} lies beside it: {path.name} was written to after it was made, or is a plain copy of a "
                "journal in use, whose last rows are in there. A backup is one file; take another"
            )


def _refuse_by_hash(path: Path, proof: Proof) -> None:
    digest, size = hashed(path)
    if proof.file != path.name:
        raise RestoreRefused(f"{proof_path(path)} is the proof of {proof.file}, and not of {path.name}")
    if size != proof.bytes:
        raise RestoreRefused(f"{path} is damaged: it has {size} bytes instead of {proof.bytes}; take another backup")
    if digest != proof.blake2b:
        raise RestoreRefused(
            f"{path} is damaged: its hash is not the one it was written with, so at least one byte of it is wrong; "
            "take another backup"
        )


def restore(
    state: StateDir, path: Path, *, reason: str, who: str, mono_ns: int, ts_ns: int, without_proof: bool = False
) -> Restored:
    """Put a backup in the place of the journal of a directory that the caller has locked.

    Raises RestoreRefused: the journal is the one that was there.
    """
    examined = examine(path, without_proof=without_proof)
    there = _read_there(state.journal_path)
    _refuse_foreign(examined, there.whose, state)
    _refuse_clock(examined, ts_ns)
    fresh = state.journal_path.with_name("journal.restoring.sqlite")
    try:
        for left in _with_log(fresh):
            left.unlink(missing_ok=True)
        epoch = 1 + max(ts_ns // NS, examined.sums.last_epoch, there.last_epoch)
        _copy_in(examined, fresh)
        _mark(fresh, examined, epoch, reason, who, mono_ns, ts_ns)
        _verify_after(fresh, examined.sums)
    except (BackupFailed, sqlite3.Error, OSError, NotAJournal) as error:
        for left in _with_log(fresh):
            with suppress(OSError):
                left.unlink(missing_ok=True)
        raise RestoreRefused(f"{path} was not put in place, and the journal is as it was: {error}") from error
    # From here on no daemon may quote on whatever lies there, however far this gets.
    failures = state.write_latch(f"{RESTORED} of {_moment(examined)}: {reason}")
    try:
        replaced = _put_in_place(state.journal_path, fresh, ts_ns)
    except OSError as error:
        raise RestoreRefused(
            f"{path} was not put in place: {error}. The kill latch is closed. Mend that, and restore again"
        ) from error
    return Restored(examined=examined, epoch=epoch, replaced=replaced, latch_failures=failures)


def _moment(examined: Examined) -> str:
    return "an unknown moment" if examined.proof is None else examined.proof.moment


class _There(msgspec.Struct, frozen=True):
    """What can be read of the journal in place, which may be damaged (why else restore)."""

    whose: tuple[str, str, str] | None
    last_epoch: int


def _read_there(journal: Path) -> _There:
    whose: tuple[str, str, str] | None = None
    last_epoch = 0
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as db:
        # A query each: one of the two tables may be readable where the other is not.
        with suppress(sqlite3.Error):
            whose = db.execute("SELECT bot_tag, venue, symbol FROM meta").fetchone()
        with suppress(sqlite3.Error):
            (last_epoch,) = db.execute("SELECT coalesce(max(epoch), 0) FROM runs").fetchone()
    return _There(whose, last_epoch)


def _refuse_foreign(examined: Examined, whose: tuple[str, str, str] | None, state: StateDir) -> None:
    if whose is not None and whose != examined.sums.whose:
        told = [f"bot {tag}, {symbol} at {venue}" for tag, venue, symbol in (examined.sums.whose, whose)]
        raise RestoreRefused(
            f"{examined.path} is of {told[0]}, and the journal in {state.path} is of {told[1]}: name the state "
            "directory it belongs to (--state-dir)"
        )


def _refuse_clock(examined: Examined, ts_ns: int) -> None:
    """The second of the restore is what keeps client ids apart."""
    if examined.proof is not None and ts_ns < examined.proof.moment_ts_ns:
        raise RestoreRefused(
            f"by this machine's clock it is {utc(ts_ns)}, before {examined.path.name} was made "
            f"({examined.proof.moment}): set the clock first, ids of orders depend on it"
        )


def _with_log(path: Path) -> Iterable[Path]:
    return (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm", "-journal")))


def _copy_in(examined: Examined, fresh: Path) -> None:
    fd = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as to, examined.path.open("rb") as source:
        shutil.copyfileobj(source, to, 1 << 20)
    if examined.proof is not None and hashed(fresh) != (examined.proof.blake2b, examined.proof.bytes):
        raise BackupFailed(f"{fresh} is not what was copied to it: is the disk failing?")


def _mark(fresh: Path, examined: Examined, epoch: int, reason: str, who: str, mono_ns: int, ts_ns: int) -> None:
    """The run that never began, the latch, and who did it: in the journal's own tables, by its own statements."""
    note = f"{RESTORED} of {_moment(examined)} ({examined.path.name})"
    with closing(sqlite3.connect(writable_uri(fresh), uri=True)) as db, db:
        last = db.execute(
            "SELECT account_epoch, config_hash, mode, durability FROM runs ORDER BY epoch DESC LIMIT 1"
        ).fetchone()
        account, config_hash, mode, durability = last or (epoch, "", "simulated", "power")
        start = RunStart(
            venue=examined.sums.venue,
            symbol=examined.sums.symbol,
            version=__version__,
            config_hash=config_hash,
            mode=mode,
            durability=durability,
            fresh_account=False,
            provenance={"restored": note},
        )
        action = OperatorAction(mono_ns, ts_ns, None, "restore", reason, who)
        for statement, values in (
            run_started_row(epoch, account, after_clean=False, start=start, mono_ns=mono_ns, ts_ns=ts_ns),
            run_ended_row(epoch, mono_ns, ts_ns, clean=False, reason=f"{NOT_STARTED}{note}"),
            kill_row(epoch, mono_ns, ts_ns, KillState.KILLED, note, {"restored": True}),
            operator_row(epoch, None, action, f"taken: {note}"),
        ):
            db.execute(STATEMENTS[statement], values)


_ADDED: Final = {"runs": 1, "kill": 1, "operator_actions": 1}


def _verify_after(fresh: Path, before: Sums) -> None:
    """Whole, and what it was but for the three rows."""
    after = checked(fresh, None)
    rows = {name: count + _ADDED.get(name, 0) for name, count in before.rows.items()}
    expected = msgspec.structs.replace(before, rows=rows, last_epoch=after.last_epoch)
    if not before.accounts:
        expected = msgspec.structs.replace(expected, accounts=after.accounts)
    if after != expected:
        raise BackupFailed(f"{fresh} does not come to what it should: {'; '.join(differences(expected, after))}")
    synced(fresh)


def _put_in_place(journal: Path, fresh: Path, ts_ns: int) -> Path | None:
    """One after the other, so that at each moment a journal lies there, and never with the log of another.

    Between the second step and the third the old journal lacks what only its log had. The latch is closed by then, and
    the whole of it lies under its new name.
    """
    replaced: Path | None = None
    if journal.exists():
        stamp = utc(ts_ns).removesuffix(" UTC").replace(" ", "T").replace(":", "").replace("-", "")
        replaced = _free(journal.with_name(f"journal.replaced-{stamp}Z.sqlite"))
        os.link(journal, replaced)
    for suffix in ("-wal", "-journal"):
        beside = journal.with_name(journal.name + suffix)
        if beside.exists():
            beside.replace(
                (replaced or journal).with_name((replaced.name if replaced else "journal.orphaned") + suffix)
            )
    journal.with_name(f"{journal.name}-shm").unlink(missing_ok=True)
    sync_folder(journal.parent)
    fresh.replace(journal)
    sync_folder(journal.parent)
    return replaced


def _free(path: Path) -> Path:
    for number in range(1, 1_000):
        free = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not free.exists():
            return free
    raise OSError(f"a thousand journals lie beside {path}")
