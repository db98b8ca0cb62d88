"""What may leave the journal when it is old, and the next small part of that.

Decisions with their inputs, the venue's words and amends are nine tenths of a journal, and grow for as long as
there is trading. They explain; nothing else follows from them. What money, identity, recovery and audit rest on stays
for ever: `RULES` says it of every table, and a test compares it with the schema.

A part is the beginning of a table as it lies there, of one run, of at most `PART_ROWS` rows. The daemon's own writer
deletes it, in a commit of its own, so nobody else ever holds the journal's lock. Before that each row of it was found
in a copy that had just been verified. What left is put down in `prunings` in the same commit, for decisions with the
link of their chain, so that the chain of those that stay can still be checked and nobody takes pruned for never made.
"""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon.journal.backup import BackupFailed, opened_still
from mmdaemon.journal.statements import Row, Statement, row

PART_ROWS: Final = 64
"""Rows of one part, which is one commit."""


class Rule(msgspec.Struct, frozen=True):
    """What becomes of a table's rows once they are older than `journal.keep_days`."""

    is_pruned: bool
    why: str


def _stays(why: str) -> Rule:
    return Rule(False, why)


def _goes(why: str) -> Rule:
    return Rule(True, why)


RULES: Final[Mapping[str, Rule]] = {
    "meta": _stays("whose journal it is"),
    "runs": _stays("numbers of runs keep ids of orders apart"),
    "parameters": _stays("what a run's rows are worth and rest on; a row a run"),
    "instruments": _stays("what ticks and lots are worth"),
    "intents": _goes("amends of orders that have settled; the order as it was first sent stays"),
    "cancels": _goes("requests; the order's end stays with the order"),
    "orders": _stays("ids are never used again, and fills belong to them"),
    "order_events": _goes("the venue's words; the last of them stays with the order"),
    "fills": _stays("money, position, duplicates"),
    "markouts": _stays("what fills taught is judged over all of them"),
    "bills": _stays("money, duplicates"),
    "decisions": _goes("why each quote was there, with all inputs"),
    "transitions": _stays("history of the guard"),
    "kill": _stays("history of the kill switch; the last row is the latch"),
    "operator_actions": _stays("who did what; the last pause is in force"),
    "reconciliations": _stays("when venue and books agreed"),
    "breaks": _stays("open ones have an owner, closed ones a resolution"),
    "minutes": _stays("equity over time: reports, statements, the desk's exports"),
    "checkpoints": _stays("two of each slice, which the writer sees to itself"),
    "digests": _stays("what a run came to"),
    "preflights": _stays("what a receipt stands on"),
    "signals": _goes("advice that has ended; a day is the most that one holds"),
    "prunings": _stays("what left, and which copy has it"),
}

PRUNED: Final = tuple(table for table, rule in RULES.items() if rule.is_pruned)
_BY_ROWID: Final = {
    "decisions": Statement.DECISIONS_PRUNED,
    "order_events": Statement.ORDER_EVENTS_PRUNED,
    "cancels": Statement.CANCELS_PRUNED,
    "signals": Statement.SIGNALS_PRUNED,
}
_AMENDS: Final = (
    "FROM intents WHERE epoch = ? AND seq > ? AND seq <= ? AND revision > 0 "
    "AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.client_id = intents.client_id AND settled = 0)"
)


class NotPruned(Exception):
    """Something of a part is not in the copy, or that cannot be told. Nothing was deleted; the message says what."""


class Part(msgspec.Struct, frozen=True):
    """Rows that may go, and the statements that make them go."""

    table: str
    count: int
    to_ts_ns: int
    """When the last of them was written."""
    rows: tuple[Row, ...]


def next_part(journal: Path, copy: Path, table: str, before_ts_ns: int, now_ts_ns: int) -> Part | None:
    """The next part of a table whose rows were written before a moment; None where there is none.

    Blocking, for a few milliseconds however large the journal is; reads alone. A row whose own time lies in the future
    holds up those behind it: rather too much stays. So does the newest row of a table, however old it is.

    Raises:
        NotPruned: the copy does not have each of them, or cannot be read.
        sqlite3.Error: the journal cannot be read.
    """
    with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as db:
        db.execute("BEGIN")  # one state of the journal
        found = _amends(db, before_ts_ns) if table == "intents" else _first_rows(db, table, before_ts_ns)
        if found is None:
            return None
        try:
            with opened_still(copy) as kept:
                held, has = _weigh(db, table, found), _weigh(kept, table, found)
        except (BackupFailed, sqlite3.Error) as error:
            raise NotPruned(f"{table} stays: the copy {copy.name} cannot be read: {error}") from error
    if held != has:
        raise NotPruned(f"{table} of run {found.epoch} to seq {found.seq} stays: {copy.name} does not have all of it")
    note = row(
        Statement.PRUNING, table, found.epoch, found.count, found.seq, found.ts_ns, found.chain, now_ts_ns, copy.name
    )
    if table == "intents":
        gone = row(Statement.AMENDS_PRUNED, found.epoch, found.first, found.seq)
    else:
        gone = row(_BY_ROWID[table], found.first, found.last)
    return Part(table, found.count, found.ts_ns, (gone, note))


def oldest_decision_ts_ns(journal: Path) -> int | None:
    """When the oldest decision that is kept was made; None where there is none. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT ts_ns FROM decisions ORDER BY rowid LIMIT 1").fetchone()
    return None if found is None else found[0]


class _Found(msgspec.Struct, frozen=True):
    epoch: int
    first: int
    """Of rowids; of `intents` the seq after which it begins."""
    last: int
    count: int
    seq: int
    ts_ns: int
    chain: bytes | None = None


def _first_rows(db: sqlite3.Connection, table: str, before_ts_ns: int) -> _Found | None:
    chain = "chain" if table == "decisions" else "NULL"
    rows = db.execute(
        f"SELECT rowid, epoch, seq, ts_ns, {chain} FROM {table} ORDER BY rowid LIMIT ?",  # noqa: S608 - our own names
        (PART_ROWS + 1,),
    ).fetchall()[:-1]
    count = next((i for i, each in enumerate(rows) if each[1] != rows[0][1] or each[3] >= before_ts_ns), len(rows))
    if not count:
        return None
    rowid, epoch, seq, ts_ns, link = rows[count - 1]
    return _Found(epoch, rows[0][0], rowid, count, seq, ts_ns, link)


def _amends(db: sqlite3.Connection, before_ts_ns: int) -> _Found | None:
    """They lie between orders that stay, so what was looked at is remembered, and not only what went."""
    since = db.execute(
        "SELECT epoch, through_seq FROM prunings WHERE pruned_table = 'intents' ORDER BY epoch DESC LIMIT 1"
    ).fetchone() or (0, -1)
    rows = db.execute(
        "SELECT epoch, seq, ts_ns FROM intents WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq LIMIT ?",
        (*since, PART_ROWS + 1),
    ).fetchall()
    epoch = rows[0][0] if rows else 0
    old = [each for each in rows if each[0] == epoch and each[2] < before_ts_ns]
    if len(old) > PART_ROWS:  # what one event sent stays together
        old = [each for each in old if each[1] < old[-1][1]] or old
    if not old or len(rows) < 2:
        return None
    _, seq, ts_ns = old[-1]
    first = since[1] if since[0] == epoch else -1
    (count,) = db.execute(f"SELECT count(*) {_AMENDS}", (epoch, first, seq)).fetchone()
    return _Found(epoch, first, seq, count, seq, ts_ns)


def _weigh(db: sqlite3.Connection, table: str, found: _Found) -> tuple[object, ...]:
    """What makes the rows of a part the same in two journals."""
    if table == "intents":
        place, values = "epoch = ? AND seq > ? AND seq <= ? AND revision > 0", (found.epoch, found.first, found.seq)
        what = "count(*), sum(ts_ns & 1048575), sum(px_ticks)"
    else:
        place, values = "rowid BETWEEN ? AND ?", (found.first, found.last)
        what = "count(*), min(epoch), max(epoch), sum(seq), sum(ts_ns & 1048575)"
    counted = db.execute(f"SELECT {what} FROM {table} WHERE {place}", values).fetchone()  # noqa: S608 - our own names
    if found.chain is None:
        return tuple(counted)
    (chain,) = db.execute("SELECT chain FROM decisions WHERE rowid = ?", (found.last,)).fetchone() or (None,)
    return *counted, chain
