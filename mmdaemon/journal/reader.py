"""Reading the journal, for the command line and the report. Opens the file read-only, beside a running writer.

Records are in `records.py`. Sums of money are exact: SQLite adds halves of 32 bits, which no journal can overflow, and
Python puts them together.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from mmdaemon.core.types import Side
from mmdaemon.journal.records import (
    BillRow,
    Break,
    CancelRow,
    DecisionRow,
    FillRow,
    Intent,
    KillRow,
    MarkoutRow,
    OperatorRow,
    Order,
    OrderEvent,
    OrderHistory,
    Pruning,
    Run,
    SideTotal,
    SignalRow,
    Transition,
)
from mmdaemon.journal.recovery import NEWEST, JournalUnreadable, newer_schema
from mmdaemon.journal.rows import Minute

T = TypeVar("T", bound=msgspec.Struct)


_TABLES: dict[type[msgspec.Struct], str] = {
    Run: "runs",
    DecisionRow: "decisions",
    Intent: "intents",
    Order: "orders",
    OrderEvent: "order_events",
    CancelRow: "cancels",
    FillRow: "fills",
    MarkoutRow: "markouts",
    BillRow: "bills",
    Transition: "transitions",
    KillRow: "kill",
    OperatorRow: "operator_actions",
    Break: "breaks",
    Minute: "minutes",
    Pruning: "prunings",
    SignalRow: "signals",
}


# A journal that only an older mmdaemon wrote is read as it is: what is not in it is absent.
_AS_VERSION_2 = (
    "CREATE TEMP VIEW fills AS SELECT rowid, *, NULL AS fair0_ticks, NULL AS regime FROM main.fills; "  # noqa: S608 - our own names
    "CREATE TEMP VIEW minutes AS SELECT *, NULL AS book_healthy, NULL AS book_healthy_ns, NULL AS fee_source, "
    "NULL AS funding_rate, NULL AS funding_due_ts_ns FROM main.minutes; "
    f"CREATE TEMP TABLE markouts ({', '.join(MarkoutRow.__struct_fields__)})"
)
_BEFORE_VERSION_4 = f"CREATE TEMP TABLE prunings ({', '.join(Pruning.__struct_fields__)})"
_BEFORE_VERSION_5 = f"CREATE TEMP TABLE signals ({', '.join(SignalRow.__struct_fields__)})"


def exact_sum(column: str) -> str:
    """SQL for two columns whose `together` is the exact sum; `sum` alone fails beyond 64 bits."""
    return f"coalesce(sum({column} >> 32), 0), coalesce(sum({column} & 4294967295), 0)"


def together(high: int, low: int) -> int:
    return (high << 32) + low


class JournalReader:
    """A journal open for reading. One query sees one state of it; two may not."""

    def __init__(self, path: Path) -> None:
        """Raises JournalUnreadable: no such journal, not one, or one of a later mmdaemon."""
        if not path.is_file():
            raise JournalUnreadable(f"there is no journal at {path}; has the daemon run with this state directory?")
        try:
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise JournalUnreadable(f"journal {path} cannot be read: {error}") from error
        try:
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise JournalUnreadable(f"journal {path} cannot be read: {error}") from error
        if version < 1:
            self._db.close()
            raise JournalUnreadable(f"{path} is not a journal of mmdaemon")
        if version > NEWEST:
            self._db.close()
            raise JournalUnreadable(newer_schema(path, version))
        if version < 2:
            self._db.executescript(_AS_VERSION_2)
        if version < 4:
            self._db.executescript(_BEFORE_VERSION_4)
        if version < 5:
            self._db.executescript(_BEFORE_VERSION_5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    @property
    def db(self) -> sqlite3.Connection:
        """For queries of one's own."""
        return self._db

    def _rows(self, record: type[T], rest: str, *args: int | str) -> Iterator[T]:
        fields = record.__struct_fields__
        query = f"SELECT {', '.join(fields)} FROM {_TABLES[record]} {rest}"  # noqa: S608 - our own field names
        for columns in self._db.execute(query, args):
            yield msgspec.convert(dict(zip(fields, columns, strict=True)), record, strict=False)

    def _one(self, record: type[T], rest: str, *args: int | str) -> T | None:
        return next(self._rows(record, f"{rest} LIMIT 1", *args), None)

    # -- runs

    def runs(self) -> list[Run]:
        return list(self._rows(Run, "ORDER BY epoch"))

    def run(self, epoch: int | None = None) -> Run | None:
        """That run, or the last one."""
        if epoch is None:
            return self._one(Run, "ORDER BY epoch DESC")
        return self._one(Run, "WHERE epoch = ?", epoch)

    def params(self, epoch: int) -> bytes | None:
        found = self._db.execute("SELECT params FROM parameters WHERE epoch = ?", (epoch,)).fetchone()
        return None if found is None else found[0]

    def pruning(self, table: str, epoch: int) -> Pruning | None:
        """What of a run's rows left that table when they were old; None where all are there."""
        return self._one(Pruning, "WHERE pruned_table = ? AND epoch = ?", table, epoch)

    # -- decisions

    def decisions(self, epoch: int, from_seq: int = 0, to_seq: int | None = None) -> Iterator[DecisionRow]:
        """Both ends included; in order."""
        if to_seq is None:
            return self._rows(DecisionRow, "WHERE epoch = ? AND seq >= ? ORDER BY seq", epoch, from_seq)
        return self._rows(DecisionRow, "WHERE epoch = ? AND seq BETWEEN ? AND ? ORDER BY seq", epoch, from_seq, to_seq)

    def decision_at(self, epoch: int, seq: int) -> DecisionRow | None:
        """The decision in force at that event: the last changed one, the event's own included."""
        return self._one(DecisionRow, "WHERE epoch = ? AND seq <= ? ORDER BY seq DESC", epoch, seq)

    def decision_at_time(self, ts_ns: int) -> DecisionRow | None:
        """The last decision up to a moment (UTC), of whatever run."""
        return self._one(DecisionRow, "WHERE ts_ns <= ? ORDER BY ts_ns DESC, rowid DESC", ts_ns)

    def decision_of(self, client_id: str, revision: int = 0) -> DecisionRow | None:
        """The decision that an order, or an amend of it, came from. None without such an intent or decision."""
        intent = self._one(Intent, "WHERE client_id = ? AND revision = ?", client_id, revision)
        return None if intent is None else self.decision_at(intent.epoch, intent.seq)

    # -- orders and fills

    def order(self, client_id: str) -> OrderHistory | None:
        order = self._one(Order, "WHERE client_id = ?", client_id)
        if order is None:
            return None
        return OrderHistory(
            order,
            tuple(self._rows(Intent, "WHERE client_id = ? ORDER BY revision", client_id)),
            tuple(self._rows(CancelRow, "WHERE client_id = ? ORDER BY rowid", client_id)),
            tuple(self._rows(OrderEvent, "WHERE client_id = ? ORDER BY rowid", client_id)),
            tuple(self._rows(FillRow, "WHERE client_id = ? ORDER BY rowid", client_id)),
        )

    def unsettled(self) -> list[Order]:
        """Orders whose quantity may not be freed yet."""
        return list(self._rows(Order, "WHERE settled = 0 ORDER BY epoch, client_id"))

    def fills(self, epoch: int) -> Iterator[FillRow]:
        return self._rows(FillRow, "WHERE epoch = ? ORDER BY seq, rowid", epoch)

    def fill(self, trade_id: str) -> FillRow | None:
        """The newest fill of that trade id."""
        return self._one(FillRow, "WHERE trade_id = ? ORDER BY account_epoch DESC", trade_id)

    def last_fill(self) -> FillRow | None:
        return self._one(FillRow, "ORDER BY rowid DESC")

    def markouts(self, epoch: int) -> Iterator[MarkoutRow]:
        """Horizons that this run closed, also of fills of the run before; in the order of closing."""
        return self._rows(MarkoutRow, "WHERE epoch = ? ORDER BY seq, rowid", epoch)

    def bills(self, epoch: int) -> Iterator[BillRow]:
        return self._rows(BillRow, "WHERE epoch = ? ORDER BY seq, rowid", epoch)

    def side_totals(self, epoch: int) -> list[SideTotal]:
        """Fills of one run per side, buys first; a side without fills is left out."""
        totals = self._db.execute(
            f"SELECT side, count(*), {exact_sum('qty_lots')}, {exact_sum('notional_e10')}, {exact_sum('fee_e10')} "  # noqa: S608
            "FROM fills WHERE epoch = ? GROUP BY side ORDER BY side DESC",
            (epoch,),
        )
        return [
            SideTotal(Side(side), fills, together(*sums[0:2]), together(*sums[2:4]), together(*sums[4:6]))
            for side, fills, *sums in totals
        ]

    # -- guard, kill switch, operator, breaks, minutes

    def transitions(self, epoch: int) -> list[Transition]:
        return list(self._rows(Transition, "WHERE epoch = ? ORDER BY seq, rowid", epoch))

    def kills(self) -> list[KillRow]:
        return list(self._rows(KillRow, "ORDER BY rowid"))

    def operator_actions(self, epoch: int) -> list[OperatorRow]:
        return list(self._rows(OperatorRow, "WHERE epoch = ? ORDER BY rowid", epoch))

    def breaks(self, *, only_open: bool = False) -> list[Break]:
        return list(self._rows(Break, "WHERE closed_ts_ns IS NULL ORDER BY rowid" if only_open else "ORDER BY rowid"))

    def signals(self, epoch: int) -> Iterator[SignalRow]:
        """What sources outside said, in order of arrival, and what became of it."""
        return self._rows(SignalRow, "WHERE epoch = ? ORDER BY seq, rowid", epoch)

    def minutes(self, epoch: int) -> Iterator[Minute]:
        return self._rows(Minute, "WHERE epoch = ? ORDER BY ts_ns", epoch)
