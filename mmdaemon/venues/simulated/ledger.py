"""The record that a venue process keeps of itself, in its own SQLite file: what the daemon's journal is held against.

It shares no code with the journal. Whatever happened is committed here before anything is told to a client, so that
nobody can know of an order or a fill that this file does not. A file may hold several accounts, one for each life of a
venue process; ids of the venue's are unique across them.

Units are those of the core: ticks, lots, 1e-10 of quote; `side` is 1 for buy and -1 for sell.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.types import Instrument
from mmdaemon.venues.simulated.records import Truth, VenueOrder

_BUSY_S = 2.0

T = TypeVar("T")
Line = tuple[str, tuple[str | int | None, ...]]
OrderRow = tuple[str, int, int, int, int, int, int, str, str, int]

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    account         INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL,
    venue           TEXT    NOT NULL,
    symbol          TEXT    NOT NULL,
    unit_e10        INTEGER NOT NULL,          -- value of one tick on one lot
    began_ts_ns     INTEGER NOT NULL,
    ended_ts_ns     INTEGER,                   -- NULL while it runs, and of a process that was killed
    start_e10       TEXT    NOT NULL,          -- money of the wallet as text: it may exceed 64 bits
    balance_e10     TEXT    NOT NULL,
    cash_e10        TEXT    NOT NULL,          -- balance had everything been bought for money: equity = cash + value
    position_lots   INTEGER NOT NULL
) STRICT;
-- Each command that arrived, before the venue looked at it. `refused` says why it went no further.
CREATE TABLE IF NOT EXISTS requests (
    number     INTEGER PRIMARY KEY,
    account    INTEGER NOT NULL,
    connection INTEGER NOT NULL,
    ts_ns      INTEGER NOT NULL,
    sent_ts_ns INTEGER,                        -- as the sender says; NULL of what is no command
    kind       TEXT    NOT NULL,               -- place, amend, cancel; cancel_all, protect, dead_man
    client_id  TEXT,
    revision   INTEGER,
    side       INTEGER,
    px_ticks   INTEGER,
    qty_lots   INTEGER,
    refused    TEXT    NOT NULL
) STRICT;
-- Orders that it took in, as they stand.
CREATE TABLE IF NOT EXISTS orders (
    account     INTEGER NOT NULL,
    client_id   TEXT    NOT NULL,
    side        INTEGER NOT NULL,
    px_ticks    INTEGER NOT NULL,
    qty_lots    INTEGER NOT NULL,
    filled_lots INTEGER NOT NULL,
    reduce_only INTEGER NOT NULL,
    arrived_ns  INTEGER NOT NULL,
    status      TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    PRIMARY KEY (account, client_id)
) STRICT;
CREATE TABLE IF NOT EXISTS fills (
    trade_id     TEXT    PRIMARY KEY,
    account      INTEGER NOT NULL,
    venue_ts_ns  INTEGER NOT NULL,
    client_id    TEXT    NOT NULL,
    side         INTEGER NOT NULL,
    px_ticks     INTEGER NOT NULL,
    qty_lots     INTEGER NOT NULL,
    fee_e10      INTEGER NOT NULL,
    liquidity    TEXT    NOT NULL,
    exec_kind    TEXT    NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS bills (
    bill_id     TEXT    PRIMARY KEY,
    account     INTEGER NOT NULL,
    venue_ts_ns INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    amount_e10  INTEGER NOT NULL
) STRICT;
-- Who was there, and why not any more.
CREATE TABLE IF NOT EXISTS connections (
    connection  INTEGER PRIMARY KEY,
    account     INTEGER NOT NULL,
    pid         INTEGER NOT NULL,
    began_ts_ns INTEGER NOT NULL,
    ended_ts_ns INTEGER,
    why         TEXT
) STRICT;
"""
_REQUEST = (
    "INSERT INTO requests (account, connection, ts_ns, sent_ts_ns, kind, client_id, revision, side, px_ticks, "
    "qty_lots, refused) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ORDER = "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_FILL = "INSERT INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_BILL = "INSERT INTO bills VALUES (?, ?, ?, ?, ?)"
_ACCOUNT = "UPDATE accounts SET balance_e10 = ?, cash_e10 = ?, position_lots = ? WHERE account = ?"


class LedgerRefused(Exception):
    """The record cannot be kept in that file; the message says what to do."""


class Ledger:
    """One account's record, open for writing. Rows wait until `commit`."""

    def __init__(self, path: Path, name: str, instrument: Instrument, start_e10: int, ts_ns: int) -> None:
        """Begin a new account in the file at `path`, which is made if there is none.

        Raises:
            LedgerRefused: the file cannot be used.
        """
        self.path = path
        self._lines: list[Line] = []
        self._rows: dict[str, OrderRow] = {}
        """What was last written of each order that has not ended."""
        self._seen: dict[str, object] = {}
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
            try:
                for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
                    self._db.execute(f"PRAGMA {pragma}").fetchall()
                self._db.executescript(SCHEMA)
                begun = self._db.execute(
                    "INSERT INTO accounts (name, venue, symbol, unit_e10, began_ts_ns, start_e10, balance_e10, "
                    "cash_e10, position_lots) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                    (name, instrument.venue, instrument.symbol, instrument.unit_e10, ts_ns, *(str(start_e10),) * 3),
                )
            except sqlite3.Error:
                self._db.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise LedgerRefused(
                f"the venue's record {path} cannot be written: {error}; name another file (--record)"
            ) from error
        self.account = begun.lastrowid or 0

    # --- what happens -------------------------------------------------------------------------------------------------

    def connected(self, pid: int, ts_ns: int) -> int:
        """A client came. Returns the number of its connection. Committed at once."""
        made = self._db.execute(
            "INSERT INTO connections (account, pid, began_ts_ns) VALUES (?, ?, ?)", (self.account, pid, ts_ns)
        )
        return made.lastrowid or 0

    def disconnected(self, connection: int, ts_ns: int, why: str) -> None:
        self._put("UPDATE connections SET ended_ts_ns = ?, why = ? WHERE connection = ?", ts_ns, why, connection)

    def received(self, connection: int, ts_ns: int, sent_ts_ns: int, command: Command, refused: str) -> None:
        """A command arrived; `refused` is empty where it goes on to the exchange."""
        times = self.account, connection, ts_ns, sent_ts_ns
        match command:
            case Place(client_id=client_id, side=side, px_ticks=px, qty_lots=qty):
                self._put(_REQUEST, *times, "place", client_id, 0, int(side), px, qty, refused)
            case Amend(client_id=client_id, revision=revision, px_ticks=px, qty_lots=qty):
                self._put(_REQUEST, *times, "amend", client_id, revision, None, px, qty, refused)
            case Cancel(client_id=client_id):
                self._put(_REQUEST, *times, "cancel", client_id, None, None, None, None, refused)

    def received_other(self, connection: int, ts_ns: int, kind: str) -> None:
        """A request that is about no single order: cancel_all, protect, dead_man."""
        self._put(_REQUEST, self.account, connection, ts_ns, None, kind, *(None,) * 5, "")

    def keep(self, truth: Truth) -> None:
        """Take over what changed since the last time: fills, bills, orders, the account."""
        fills, bills = self._new("fills", truth.fills), self._new("bills", truth.bills)
        looked_at = self._rows.keys() | {command.client_id for _, command in self._new("received", truth.received)}
        looked_at |= {fill.client_id for fill in fills}
        for fill in fills:
            values = int(fill.side), fill.px_ticks, fill.qty_lots, fill.fee_e10, fill.liquidity, fill.exec_kind
            self._put(_FILL, fill.trade_id, self.account, fill.venue_ts_ns, fill.client_id, *values)
        for bill in bills:
            self._put(_BILL, bill.bill_id, self.account, bill.venue_ts_ns, bill.kind, bill.amount_e10)
        for client_id in looked_at:
            order = truth.orders.get(client_id)
            if order is None:
                continue  # refused at the door
            row = _row(order)
            if self._rows.get(client_id) != row:
                self._put(_ORDER, self.account, *row)
            if order.status.is_terminal:
                self._rows.pop(client_id, None)
            else:
                self._rows[client_id] = row
        if fills or bills:
            wallet = truth.wallet
            money = str(wallet.balance_e10), str(wallet.cash_e10)
            self._put(_ACCOUNT, *money, truth.position_lots, self.account)

    def _new(self, name: str, items: Sequence[T]) -> list[T]:
        """What stands behind the last item that was taken over. The exchange forgets from the front."""
        last = self._seen.get(name)
        new: list[T] = []
        for item in reversed(items):
            if item is last:
                break
            new.append(item)
        if new:
            self._seen[name] = new[0]
        return new[::-1]

    # --- to the disk --------------------------------------------------------------------------------------------------

    def _put(self, sql: str, *values: str | int | None) -> None:
        self._lines.append((sql, values))

    def commit(self) -> None:
        """Everything that waits, in one transaction.

        Raises:
            sqlite3.Error: none of it was written, and nothing of it may be told.
        """
        if not self._lines:
            return
        self._db.execute("BEGIN")
        try:
            for sql, values in self._lines:
                self._db.execute(sql, values)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._lines.clear()

    def close(self, ts_ns: int) -> None:
        """The venue process ends, and the account with it."""
        self._put("UPDATE accounts SET ended_ts_ns = ? WHERE account = ?", ts_ns, self.account)
        self.commit()
        self._db.close()


def _row(order: VenueOrder) -> OrderRow:
    return (
        order.client_id,
        int(order.side),
        order.px_ticks,
        order.qty_lots,
        order.filled_lots,
        int(order.reduce_only),
        order.arrived_ns,
        order.status.value,
        order.reason,
        order.revision,
    )
