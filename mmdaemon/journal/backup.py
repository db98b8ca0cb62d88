"""Verified copies of the journal: taken while it is written to, proven, named, kept for a while.

The moment of a copy is one read transaction. It is opened before the first page is copied and held to the last, so
SQLite's backup API sees one state however much is committed meanwhile (without it each commit of the daemon's would
begin the copy anew, and under load it would never end), and the sums are read in the same transaction. In WAL a reader
holds no writer up; the log grows until the copy is done, and is folded back after it.

A copy appears under its name only once it was compared with those sums, hashed and synced. Beside it lies its proof,
`NAME.json`: what it came to, how long it is, and its hash. SQLite's own check does not see a byte that is wrong inside
of a value; the hash does.
"""

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

import msgspec

from mmdaemon import __version__
from mmdaemon.core.types import NS
from mmdaemon.journal.backup_sums import NotAJournal, Sums, sums_of

Why = Literal["daily", "asked", "migration"]
FORMAT: Final = 1
PROOF: Final = ".json"
PARTIAL: Final = ".partial"
_PAGES: Final = 1024
"""Copied at a time: 4 MiB at SQLite's page of 4 KiB."""
_REST_S: Final = 0.004
"""After each of them. A disk that is kept busy without end makes the daemon's own commits wait."""
_CHUNK_BYTES: Final = 1 << 20
_ROOM_BYTES: Final = 256 << 20
"""What must stay free beside a copy."""


class BackupFailed(Exception):
    """There is no copy, or it is not one. The message says what is wrong; nothing was left under a finished name."""


class NoRoom(BackupFailed):
    """A copy would take the room that the journal needs."""


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a copy: the file beside it."""

    format: int
    file: str
    why: Why
    moment_ts_ns: int
    """UTC at which the read transaction began: everything committed before is in, nothing later is."""
    took_s: float
    version: str
    """Of the mmdaemon that made it."""
    bytes: int
    blake2b: str
    sums: Sums

    @property
    def moment(self) -> str:
        return utc(self.moment_ts_ns)


class Kept(msgspec.Struct, frozen=True):
    """A finished copy in a folder."""

    path: Path
    proof: Proof


def utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def back_up(journal: Path, folder: Path, why: Why, moment_ts_ns: int) -> Kept:
    """Copy a journal, also one that is being written to, into a folder that is made where it is not there.

    Blocking, and as long as the journal is large: never on the loop of a daemon.

    Raises:
        BackupFailed: nothing was made.
    """
    if not journal.is_file():
        raise BackupFailed(f"there is no journal at {journal}; has the daemon run with this state directory?")
    stamp = datetime.fromtimestamp(moment_ts_ns // NS, UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as source:
            source.isolation_level = None
            source.execute("BEGIN")
            try:
                (tag,) = source.execute("SELECT bot_tag FROM meta").fetchone() or ("none",)  # the moment is now fixed
            except sqlite3.DatabaseError as error:
                raise NotAJournal(str(error)) from error
            clear_left(folder, tag)  # first: what copies that were cut short take up is room for this one
            refuse_without_room(journal, folder)
            return copied(source, free_name(folder, f"journal-{tag}-{stamp}"), why, moment_ts_ns)
    except NotAJournal as error:
        raise BackupFailed(f"{journal} is no journal of a bot: {error}") from error
    except (sqlite3.Error, OSError) as error:
        raise BackupFailed(f"no backup of {journal} in {folder}: {error}") from error


def clear_left(folder: Path, bot_tag: str) -> None:
    """Take away what copies of this bot that were cut short have left, and nothing that somebody is at work on.

    Raises OSError.
    """
    for left in folder.glob(f"journal-{bot_tag}-*.sqlite{PARTIAL}"):
        if _is_left(left):
            left.unlink(missing_ok=True)
            left.with_name(f"{left.name}-journal").unlink(missing_ok=True)


def _is_left(path: Path) -> bool:
    """Nobody is at work on it."""
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
    return True


def refuse_without_room(journal: Path, folder: Path) -> None:
    """A copy that took the disk's last room would take it from the journal, and that is a hard stop. Raises NoRoom."""
    log = journal.with_name(f"{journal.name}-wal")
    size = journal.stat().st_size + (log.stat().st_size if log.exists() else 0)
    needed, free = size + max(_ROOM_BYTES, size // 10), shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"no room for a backup in {folder}: {free:,} bytes are free and {needed:,} are needed, of which the copy "
            f"takes {size:,}; make room, or name another disk (backup.dir, --to)"
        )


def free_name(folder: Path, stem: str) -> Path:
    """A name that is not taken; two copies of one second are two."""
    for number in range(1, 1_000):
        path = folder / f"{stem}{f'-{number}' if number > 1 else ''}.sqlite"
        if not path.exists() and not proof_path(path).exists():
            return path
    raise BackupFailed(f"{folder} has a thousand backups of {stem}")


def copied(source: sqlite3.Connection, path: Path, why: Why, moment_ts_ns: int) -> Kept:
    """The copy itself, from a connection whose transaction holds still.

    Raises BackupFailed, sqlite3.Error, OSError and NotAJournal; then there is no file of that name.
    """
    begun = time.monotonic()
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    held = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until it is finished: what nobody holds was cut short
        _copy(source, partial)
        sums = sums_of(source)
        checked(partial, sums)
        digest, size = hashed(partial)
        took_s = round(time.monotonic() - begun, 3)
        proof = Proof(
            format=FORMAT,
            file=path.name,
            why=why,
            moment_ts_ns=moment_ts_ns,
            took_s=took_s,
            version=__version__,
            bytes=size,
            blake2b=digest,
            sums=sums,
        )
        synced(partial)
        # The proof first: a copy without one does not count as finished, a proof without a copy is in nobody's way.
        write_whole(proof_path(path), msgspec.json.format(msgspec.json.encode(proof), indent=2) + b"\n")
        partial.replace(path)
        sync_folder(path.parent)
        return Kept(path, proof)
    finally:
        with suppress(OSError):  # nothing, once it has its name
            partial.unlink(missing_ok=True)
        os.close(held)


def _copy(source: sqlite3.Connection, partial: Path) -> None:
    def rest(_status: int, remaining: int, _total: int) -> None:
        if remaining:
            os.fdatasync(fd)  # so that no flood of dirty pages stands before a commit of the daemon's
            time.sleep(_REST_S)

    fd = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with closing(sqlite3.connect(f"{partial.absolute().as_uri()}?mode=rw", uri=True)) as target:
            target.execute("PRAGMA synchronous = OFF")  # it is synced whole, at the end
            source.backup(target, pages=_PAGES, progress=rest)
            # Out of the log's mode: a finished copy is one file, with nothing beside it that could be replayed into it.
            (mode,) = target.execute("PRAGMA journal_mode = DELETE").fetchone()
            if mode != "delete":
                raise BackupFailed(f"{partial}: the copy stays in journal mode {mode}")
    finally:
        os.close(fd)


def checked(path: Path, expected: Sums | None) -> Sums:
    """The database at `path`, which nobody writes to: whole, and with those sums.

    Raises BackupFailed: damaged, or its sums differ.
    """
    with opened_still(path) as db:
        found = [" ".join(str(line).split()) for (line,) in db.execute("PRAGMA integrity_check(3)")]
        if found != ["ok"]:
            raise BackupFailed(f"{path} is damaged: {'; '.join(found)}")
        if foreign := db.execute("PRAGMA foreign_key_check").fetchone():
            raise BackupFailed(f"{path} is damaged: a row of {foreign[0]} points to none of {foreign[2]}")
        try:
            sums = sums_of(db)
        except NotAJournal as error:
            raise BackupFailed(f"{path} is no journal of a bot: {error}") from error
    if expected is not None and sums != expected:
        raise BackupFailed(f"{path} does not come to what it was copied from: {'; '.join(differences(expected, sums))}")
    return sums


@contextmanager
def opened_still(path: Path) -> Generator[sqlite3.Connection]:
    """A database that nobody writes to: read as it lies there, with nothing made beside it and nothing replayed.

    Raises BackupFailed: it is none, or cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            db.execute("PRAGMA schema_version").fetchone()
            yield db
    except sqlite3.Error as error:
        raise BackupFailed(f"{path} cannot be read as a database: {error}") from error


def differences(expected: Sums, found: Sums) -> list[str]:
    """Which figures differ, at most five of them, in words."""
    told: list[str] = []
    for name in Sums.__struct_fields__:
        before, after = getattr(expected, name), getattr(found, name)
        if before == after:
            continue
        if name == "rows":
            told += [
                f"{table} has {found.rows.get(table, 0)} rows instead of {expected.rows.get(table, 0)}"
                for table in sorted({*expected.rows, *found.rows})
                if expected.rows.get(table) != found.rows.get(table)
            ]
        elif name == "accounts":
            told += [f"account {was} became {is_}" for was, is_ in zip(before, after, strict=False) if was != is_]
        else:
            told.append(f"{name} is {after} instead of {before}")
    return told[:5]


# --- files --------------------------------------------------------------------------------------------------------


def proof_path(path: Path) -> Path:
    return path.with_suffix(PROOF)


def read_proof(path: Path) -> Proof | None:
    """What lies beside a copy; None where nothing does. Raises BackupFailed: it cannot be read."""
    try:
        return msgspec.json.decode(proof_path(path).read_bytes(), type=Proof)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BackupFailed(f"{proof_path(path)}, the proof of {path.name}, cannot be read: {error}") from error


def hashed(path: Path) -> tuple[str, int]:
    """BLAKE2b (16 bytes, as hexadecimal digits) and length."""
    digest, size = blake2b(digest_size=16), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def write_whole(path: Path, text: bytes) -> None:
    """All of it or nothing, 0600, on the disk when this returns."""
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    fd = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def synced(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems sync no folders
        synced(folder)
