"""Start and crash recovery, which are the same code: latch, integrity, migration, and then what the journal knows.

Nothing here asks the venue or decides anything. What was sent and not seen to its end comes back as `OrderAdopted` with
status UNKNOWN, at the largest size and the most aggressive price that an intent of it allows; what was filled or billed
after the last checkpoint comes back as the events they were. The wire feeds both to the core like any other event.
"""

import importlib.resources
import secrets
import sqlite3
from collections.abc import Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.events import Bill, Fill, OrderAdopted, SignalReceived
from mmdaemon.core.types import NS, Instrument, KillState, Purpose
from mmdaemon.journal import known
from mmdaemon.journal.backup import BackupFailed, NoRoom, copied, refuse_without_room
from mmdaemon.journal.backup_sums import NotAJournal
from mmdaemon.journal.connection import BUSY_S, Durability, pragmas, writable_uri
from mmdaemon.journal.known import Learned
from mmdaemon.journal.records import Break
from mmdaemon.journal.rows import NOT_STARTED, RunStart, old_breaks_closed_row, run_started_row
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.statements import STATEMENTS

KILLED_BY_JOURNAL = (
    "The daemon counts as killed. Keep the file aside, put a backup copy back in its place (`mmdaemon restore` "
    "does both), and look at the venue's open orders before resuming"
)
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


class RecoveryRefused(Exception):
    """The journal cannot be used to start from; the message says what to do."""


class JournalUnreadable(RecoveryRefused):
    """The journal is there and cannot be used, or is damaged. That means KILLED: nobody knows what it would say."""


class NewerSchema(RecoveryRefused):
    """A later mmdaemon wrote it."""


class NoRoomToMigrate(RecoveryRefused):
    """The copy before a migration has no room. The journal is whole and was not touched."""


class OtherInstrument(RecoveryRefused):
    """The journal belongs to another venue or symbol."""


class Latch(msgspec.Struct, frozen=True):
    """Whether the daemon is killed, and who says so. Any one source is enough."""

    state: KillState
    """The last that was journaled; KILLED where the journal cannot be read, ARMED where there is none."""
    sources: tuple[str, ...]

    @property
    def closed(self) -> bool:
        return bool(self.sources)


class Checkpoint(msgspec.Struct, frozen=True):
    """Slices of State as they stood after event `seq` of run `epoch`."""

    epoch: int
    seq: int
    slices: dict[str, bytes]


class BookedFact(msgspec.Struct, frozen=True):
    """A fill or bill as it was journaled, with the instrument version its ticks and lots count in (None for a bill)."""

    epoch: int
    seq: int
    event: Fill | Bill
    instrument_version: int | None
    mark_px_ticks: int | None
    purpose: Purpose | None
    """Of the order of a fill; None where no order of ours is known, and for a bill."""


class Recovered(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal knows at the start of a run. `facts` are those not yet in `checkpoint`, in order."""

    epoch: int
    """Of the run that begins; its row is durable."""
    account_epoch: int
    """The run in which this account was first met. Nothing below is older."""
    bot_tag: str
    latch: Latch
    start_e10: int | None
    """Equity when the account was first met; None where no run has got so far."""
    instruments: tuple[Instrument, ...]
    orders: tuple[OrderAdopted, ...]
    checkpoint: Checkpoint | None
    risk: bytes | None
    """The newest slice of the loss limits, kept more often than the rest."""
    facts: tuple[BookedFact, ...]
    learned: Learned
    opened_ts_ns: int
    """When this account was first read, in the venue's time; where no run got so far, when that run began."""
    paused: str
    """Why an operator has it paused; empty where no pause is in force."""
    read_until_ts_ns: int
    """When venue and journal last agreed, by the venue's clock, else `opened_ts_ns`: fills and bills are booked up to
    there. (Not the last fill: one before it may have been lost with the process, and the first has none before.)"""
    breaks: tuple[Break, ...]
    """Open ones of this account, oldest first."""
    signals: tuple[SignalReceived, ...]
    """Those of sources outside that were taken and have not ended, as they are to be taken in again."""
    cancel_breaches: int
    """Of the cancel budget, since the last resume."""
    messages_ts_ns: tuple[int, ...]
    """When orders, amends and cancels of the last minute were journaled, oldest first."""
    clean_start: bool
    """There was no run before, or it stopped cleanly."""
    unclean_starts: int
    """Starts after an unclean end within the crash-loop window, this one included."""

    @property
    def open_breaks(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(each.name for each in self.breaks)


def read_latch(state: StateDir) -> Latch:
    """The latch, without lock and without writing: for the start, and for `kill --direct --if-dirty`. Never raises."""
    sources = list(state.latched_why())
    kill = KillState.ARMED
    try:
        if state.journal_path.exists():
            _refuse_empty(state.journal_path)
            with closing(sqlite3.connect(f"{state.journal_path.absolute().as_uri()}?mode=ro", uri=True)) as db:
                kill = _journaled_kill_state(db)
    except (sqlite3.Error, OSError, ValueError, JournalUnreadable) as error:
        return Latch(KillState.KILLED, (*sources, f"journal unreadable: {error}"))
    if kill is not KillState.ARMED:
        sources.append(f"journal: {kill}")
    return Latch(kill, tuple(sources))


def recover(
    state: StateDir, start: RunStart, clock: Clock, *, crash_loop_window_s: float = 600.0, bot_tag: str | None = None
) -> Recovered:
    """Open the journal of a locked state directory, or make it, and begin a run. Blocking: call it before the loop.

    `bot_tag` is for a new journal (a fixed one makes a run repeatable); without it four characters are drawn.

    Raises:
        JournalUnreadable: treat as KILLED.
        NewerSchema, OtherInstrument: refuse to start.
    """
    latch = read_latch(state)
    path = state.journal_path
    try:
        with closing(_open(path)) as db:
            _migrate(db, path, MIGRATIONS, clock.wall_ns())
            _check(db, path)
            with db:
                return _begin(db, path, latch, start, clock, crash_loop_window_s, bot_tag)
    except (sqlite3.Error, OSError, msgspec.DecodeError, ValueError) as error:
        raise JournalUnreadable(f"journal {path} cannot be read or written: {error}. {KILLED_BY_JOURNAL}") from error


@contextmanager
def opened(state: StateDir, venue: str, symbol: str, ts_ns: int) -> Generator[sqlite3.Connection]:
    """The journal of a locked state directory, for rows that belong to no run: made, checked and migrated as at a start
    of one. Committed at the end of the block, unless that raised.

    Raises:
        JournalUnreadable, NewerSchema, OtherInstrument: as `recover`.
    """
    path = state.journal_path
    try:
        with closing(_open(path)) as db:
            _migrate(db, path, MIGRATIONS, ts_ns)
            _check(db, path)
            with db:
                _identity(db, path, venue, symbol, ts_ns)
                yield db
    except (sqlite3.Error, OSError) as error:
        raise JournalUnreadable(f"journal {path} cannot be read or written: {error}. {KILLED_BY_JOURNAL}") from error


def schema() -> str:
    return _script("schema")


def _script(name: str) -> str:
    return importlib.resources.files("mmdaemon.journal").joinpath(f"{name}.sql").read_text(encoding="utf-8")


MIGRATIONS: Mapping[int, str] = {
    0: _script("schema"),
    **{version: _script(f"from_{version}") for version in (1, 2, 3, 4)},
}
"""From version 0, an empty file, to the newest; from any other to the next. A script ends by setting `user_version`."""
NEWEST = max(MIGRATIONS) + 1
"""Schema version that this program reads and writes."""


def newer_schema(path: Path, version: int) -> str:
    """What is said of a journal whose schema version is above `NEWEST`."""
    return (
        f"journal {path} has schema version {version}, and this mmdaemon knows {NEWEST}; run the newer one, or name "
        "another state directory"
    )


def _open(path: Path) -> sqlite3.Connection:
    if path.exists():
        _refuse_empty(path)
    else:
        path.touch(mode=0o600)
    db = sqlite3.connect(writable_uri(path), uri=True, timeout=BUSY_S)
    try:
        for pragma in pragmas(Durability.POWER):  # the run's row and a migration are rare and always synced
            db.execute(pragma).fetchall()
    except sqlite3.Error:
        db.close()
        raise
    return db


def _refuse_empty(path: Path) -> None:
    """An empty file was a journal once, or is in the way of one: it is no first start."""
    if not path.stat().st_size:
        raise JournalUnreadable(f"journal {path} is there and empty. {KILLED_BY_JOURNAL}")


def _migrate(db: sqlite3.Connection, path: Path, migrations: Mapping[int, str], ts_ns: int) -> None:
    newest = max(migrations) + 1
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > newest:
        raise NewerSchema(newer_schema(path, version))
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone() != (0,):
        raise JournalUnreadable(f"{path} is a database, but not a journal of mmdaemon; name another state directory")
    if 0 < version < newest:
        _back_up(db, path, path.with_name(f"{path.name}.v{version}.backup"), ts_ns)
    while version < newest:
        db.executescript(f"BEGIN IMMEDIATE;\n{migrations[version]}\nCOMMIT;")
        before, (version,) = version, db.execute("PRAGMA user_version").fetchone()
        if version <= before:
            raise ValueError(f"the migration from version {before} leads to {version}")


def _back_up(db: sqlite3.Connection, path: Path, target: Path, ts_ns: int) -> None:
    """As `mmdaemon backup` makes one, so that `restore` takes it. A journal in which no run ever began has nothing."""
    if db.execute("SELECT 1 FROM meta").fetchone() is None:
        return
    try:
        refuse_without_room(path, target.parent)
    except NoRoom as error:
        raise NoRoomToMigrate(
            f"journal {path} is of an older mmdaemon and is copied before it is migrated: {error.args[0]}. Nothing was "
            "changed: make room beside the journal, or start the older mmdaemon again"
        ) from error
    db.execute("BEGIN")
    try:
        copied(db, target, "migration", ts_ns)
    except (BackupFailed, NotAJournal) as error:
        raise JournalUnreadable(f"no migration without a backup: {error}. {KILLED_BY_JOURNAL}") from error
    finally:
        db.rollback()


def _check(db: sqlite3.Connection, path: Path) -> None:
    found = [" ".join(problem.split()) for (problem,) in db.execute("PRAGMA quick_check(3)")]
    if found != ["ok"]:
        raise JournalUnreadable(f"journal {path} is damaged: {'; '.join(found)}. {KILLED_BY_JOURNAL}")


def _journaled_kill_state(db: sqlite3.Connection) -> KillState:
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'kill'").fetchone() is None:
        return KillState.ARMED
    last = db.execute("SELECT state FROM kill ORDER BY rowid DESC LIMIT 1").fetchone()
    return KillState.ARMED if last is None else KillState(last[0])


def _begin(
    db: sqlite3.Connection,
    path: Path,
    latch: Latch,
    start: RunStart,
    clock: Clock,
    crash_loop_window_s: float,
    bot_tag: str | None,
) -> Recovered:
    mono_ns, ts_ns = clock.mono_ns(), clock.wall_ns()
    tag = _identity(db, path, start.venue, start.symbol, ts_ns, bot_tag)
    before = db.execute("SELECT epoch, account_epoch, clean_stop FROM runs ORDER BY epoch DESC LIMIT 1").fetchone()
    last_epoch, last_account, last_clean = before or (0, 0, 1)
    epoch = last_epoch + 1
    account = epoch if start.fresh_account or not last_account else last_account
    clean = last_clean == 1
    statement, values = run_started_row(epoch, account, clean, start, mono_ns, ts_ns)
    db.execute(STATEMENTS[statement], values)
    (unclean_starts,) = db.execute(
        "SELECT count(*) FROM runs WHERE started_ts_ns > ? AND after_clean = 0 AND coalesce(end_reason, '') NOT LIKE ?",
        (ts_ns - round(crash_loop_window_s * NS), f"{NOT_STARTED}%"),
    ).fetchone()
    (start_e10,) = db.execute("SELECT start_e10 FROM runs WHERE epoch = ?", (account,)).fetchone()
    checkpoint = _checkpoint(db, account)
    since = (checkpoint.epoch, checkpoint.seq) if checkpoint else (account, -1)
    (began_ts_ns,) = db.execute("SELECT started_ts_ns FROM runs WHERE epoch = ?", (account,)).fetchone()
    opened_ts_ns = known.number(db, "opened", account, began_ts_ns)
    return Recovered(
        epoch=epoch,
        account_epoch=account,
        bot_tag=tag,
        latch=latch,
        start_e10=start_e10,
        instruments=known.instruments(db),
        orders=known.unsettled_orders(db, account, mono_ns, ts_ns),
        checkpoint=checkpoint,
        risk=known.newest_slice(db, "risk", account),
        facts=_facts_after(db, since),
        learned=known.learned(db, account),
        opened_ts_ns=opened_ts_ns,
        paused=known.pause(db),
        read_until_ts_ns=known.read_until(db, account, opened_ts_ns, ts_ns),
        breaks=_open_breaks(db, account, ts_ns),
        signals=known.signals(db, account, mono_ns, ts_ns),
        cancel_breaches=known.number(db, "cancel_breaches", account, 0),
        messages_ts_ns=known.messages(db, ts_ns),
        clean_start=clean,
        unclean_starts=unclean_starts,
    )


def _open_breaks(db: sqlite3.Connection, account: int, ts_ns: int) -> tuple[Break, ...]:
    statement, values = old_breaks_closed_row(ts_ns, account)
    db.execute(STATEMENTS[statement], values)
    fields = Break.__struct_fields__
    found = db.execute(f"SELECT {', '.join(fields)} FROM breaks WHERE closed_ts_ns IS NULL ORDER BY rowid")  # noqa: S608 - our own field names
    return tuple(msgspec.convert(dict(zip(fields, each, strict=True)), Break, strict=False) for each in found)


def _identity(
    db: sqlite3.Connection, path: Path, at: str, contract: str, ts_ns: int, bot_tag: str | None = None
) -> str:
    known = db.execute("SELECT bot_tag, venue, symbol FROM meta").fetchone()
    if known is None:
        tag = bot_tag or "".join(secrets.choice(BASE32) for _ in range(4))
        db.execute("INSERT INTO meta VALUES (1, ?, ?, ?, ?)", (tag, at, contract, ts_ns))
        return tag
    tag, venue, symbol = known
    if (venue, symbol) != (at, contract):
        raise OtherInstrument(
            f"journal {path} belongs to {symbol} at {venue}, and this run is for {contract} at {at}; "
            "give each instrument a state directory of its own (--state-dir, or another instance name)"
        )
    return tag


def _checkpoint(db: sqlite3.Connection, account: int) -> Checkpoint | None:
    """The newest position, and what was kept with it."""
    newest = db.execute(
        "SELECT epoch, seq FROM checkpoints WHERE slice = 'position' AND epoch >= ? "
        "ORDER BY epoch DESC, seq DESC LIMIT 1",
        (account,),
    ).fetchone()
    if newest is None:
        return None
    query = "SELECT slice, blob, digest FROM checkpoints WHERE epoch = ? AND seq = ? ORDER BY slice"
    slices = {name: known.whole(name, blob, digest) for name, blob, digest in db.execute(query, newest)}
    return Checkpoint(newest[0], newest[1], slices)


def _facts_after(db: sqlite3.Connection, since: tuple[int, int]) -> tuple[BookedFact, ...]:
    """Fills and bills in the order in which they were booked; one event is never both."""
    fill_fields, bill_fields = Fill.__struct_fields__, Bill.__struct_fields__
    facts: list[BookedFact] = []
    purpose_of = "(SELECT purpose FROM orders WHERE orders.client_id = fills.client_id)"
    for epoch, seq, version, mark_px_ticks, purpose, *columns in db.execute(
        f"SELECT epoch, seq, instrument_version, mark_px_ticks, {purpose_of}, {', '.join(fill_fields)} FROM fills "  # noqa: S608
        "WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq, rowid",
        since,
    ):
        event = msgspec.convert({"type": "Fill", **dict(zip(fill_fields, columns, strict=True))}, Fill)
        whose = None if purpose is None else Purpose(purpose)
        facts.append(BookedFact(epoch, seq, event, version, mark_px_ticks, whose))
    for epoch, seq, *columns in db.execute(
        f"SELECT epoch, seq, {', '.join(bill_fields)} FROM bills "  # noqa: S608 - our own field names
        "WHERE (epoch, seq) > (?, ?) ORDER BY epoch, seq, rowid",
        since,
    ):
        bill = msgspec.convert({"type": "Bill", **dict(zip(bill_fields, columns, strict=True))}, Bill)
        facts.append(BookedFact(epoch, seq, bill, None, None, None))
    facts.sort(key=lambda fact: (fact.epoch, fact.seq))
    return tuple(facts)
