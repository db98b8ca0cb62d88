"""Rows of preflights: written between runs, by whoever holds the state directory, and read where one must be shown."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from mmdaemon.journal.records import PreflightRow
from mmdaemon.journal.recovery import JournalUnreadable, opened
from mmdaemon.journal.state_dir import StateDir

_COLUMNS: Final = PreflightRow.__struct_fields__
_INSERT: Final = f"INSERT INTO preflights ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - our own field names
_SELECT: Final = f"SELECT {', '.join(_COLUMNS)} FROM preflights ORDER BY rowid"  # noqa: S608 - our own field names
_FIRST_WITH_THEM: Final = 3


def append(state: StateDir, venue: str, symbol: str, rows: Sequence[PreflightRow]) -> None:
    """Write them down; durable on return. `state` is locked by the caller, so that no daemon runs there.

    Raises:
        RecoveryRefused: the journal cannot be written, or is of another venue or symbol.
    """
    with opened(state, venue, symbol, rows[-1].ts_ns) as db:
        db.executemany(_INSERT, [tuple(getattr(row, name) for name in _COLUMNS) for row in rows])


def read(path: Path) -> list[PreflightRow]:
    """All of a journal, oldest first; none where there is no journal, or one of before there were any.

    Raises:
        JournalUnreadable: it is there and cannot be read.
    """
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version < _FIRST_WITH_THEM:
                return []
            return [PreflightRow(**dict(zip(_COLUMNS, each, strict=True))) for each in db.execute(_SELECT)]
    except sqlite3.Error as error:
        raise JournalUnreadable(f"journal {path} cannot be read: {error}") from error
