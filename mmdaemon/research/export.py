"""A journal as CSV or Parquet: every table whole, exact, and of one moment, in memory that does not grow.

All is read in one transaction, so that tables agree with each other while a daemon goes on writing. Files are written
beside their names and take them at the end, the list of them (`export.json`) last: a folder with that list is complete.

    python -m mmdaemon.research.export      writes docs/EXPORT.md anew (a test compares)
"""

import os
import sqlite3
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from decimal import Context, Decimal
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from mmdaemon import __version__
from mmdaemon.core.types import NS
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import money_text
from mmdaemon.research.export_desk import ABSENT, DESK
from mmdaemon.research.export_rows import Column, ExportRefused, Instruments, Kind, Table, Value, rows_of
from mmdaemon.research.export_tables import TABLES

if TYPE_CHECKING:
    pass

SCHEMA: Final = 1
"""Version of what is written; it grows when a column changes its meaning or goes away."""
LIST: Final = "export.json"
ROW_GROUP: Final = 65_536
"""Rows of a Parquet row group, about."""
CHECKOUT: Final = Path(__file__).resolve().parents[2]

Progress = Callable[[str, int, int], None]
"""(table, journal rows done, of how many)."""


class Format(StrEnum):
    CSV = "csv"
    PARQUET = "parquet"


class Written(NamedTuple):
    table: str
    path: Path
    rows: int


class Sink(Protocol):
    """A file being written, batch by batch."""

    def write(self, rows: Sequence[Sequence[Value]]) -> None: ...
    def close(self) -> None: ...


def export(
    journal: Path,
    out: Path,
    tables: Sequence[Table] = TABLES,
    *,
    epoch: int | None = None,
    form: Format = Format.CSV,
    force: bool = False,
    progress: Progress = lambda _table, _done, _of: None,
) -> list[Written]:
    """Write tables of one run, or of all, into a folder, which is made.

    Raises:
        JournalUnreadable: no such journal or run, or it is damaged.
        ExportRefused: files are there already, a library is missing, or a row cannot be told exactly. In either case
            nothing is left behind.
        OSError: the folder cannot be written; likewise.
    """
    sink_of = _sink(form)
    targets = {table.name: out / f"{table.name}.{form}" for table in tables}
    there = [path for path in (*targets.values(), out / LIST) if os.path.lexists(path)]
    if there and not force:
        raise ExportRefused(
            f"{', '.join(path.name for path in there[:3])}{' and more' if len(there) > 3 else ''} in {out} would be "
            "overwritten; name another folder (--out), or write over them (--force)"
        )
    if blocked := [path for path in there if not path.is_file()]:
        raise ExportRefused(f"{blocked[0]} is there and is no file; name another folder (--out)")
    parts: dict[Path, Path] = {}
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        with JournalReader(journal) as reader:
            reader.db.execute("BEGIN")
            runs = [run.epoch for run in reader.runs() if epoch in {None, run.epoch}]
            if not runs:
                raise JournalUnreadable(f"journal {journal} has no run {'at all' if epoch is None else epoch}")
            out.mkdir(parents=True, exist_ok=True)
            about = _about(reader.db, runs, form)
            instruments = Instruments(reader.db)
            written: list[Written] = []
            for table in tables:
                target = targets[table.name]
                parts[target] = out / f".{target.name}.{os.getpid()}.part"
                said = {**about, "table": table.name, "desk_columns_absent": ABSENT.get(table.name, {})}
                count = _write(table, reader.db, epoch, instruments, parts[target], sink_of, said, progress)
                written.append(Written(table.name, target, count))
    except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
        raise JournalUnreadable(f"journal {journal} cannot be read to the end: {error}") from error
    else:
        (out / LIST).unlink(missing_ok=True)
        for target, part in parts.items():
            part.replace(target)
        _write_list(out, about, written)
        return written
    finally:
        for part in parts.values():
            with suppress(OSError):
                part.unlink(missing_ok=True)
        for folder in made:
            with suppress(OSError):  # something was written into it
                folder.rmdir()


def _about(db: sqlite3.Connection, runs: list[int], form: Format) -> dict[str, object]:
    """What holds for all files of an export. Nothing of when or where: one journal gives the same bytes again."""
    query = (
        "SELECT venue AS exchange, symbol AS trading_pair, bot_tag, created_ts_ns AS journal_created_ts_ns FROM meta"
    )
    cursor = db.execute(query)
    meta = zip((name for name, *_ in cursor.description), cursor.fetchone(), strict=True)
    return {"schema": SCHEMA, "version": __version__, "format": str(form), **dict(meta), "runs": runs}


def _write(
    table: Table,
    db: sqlite3.Connection,
    epoch: int | None,
    instruments: Instruments,
    path: Path,
    sink_of: Callable[[IO[bytes], Sequence[Column], Mapping[str, object]], Sink],
    said: Mapping[str, object],
    progress: Progress,
) -> int:
    done = count = 0
    of = table.count_rows(db, epoch)
    progress(table.name, 0, of)
    with path.open("wb") as file:
        # Closed before its file whatever happens: a Parquet writer left open writes its end to a closed one.
        with closing(sink_of(file, table.columns, said)) as sink:
            for taken, rows in rows_of(table, db, epoch, instruments):
                sink.write(rows)
                count += len(rows)
                done += taken
                progress(table.name, done, of)
        file.flush()
        os.fsync(file.fileno())
    return count


def _write_list(out: Path, about: Mapping[str, object], written: Iterable[Written]) -> None:
    tables = {each.table: {"file": each.path.name, "rows": each.rows} for each in written}
    absent = {name: ABSENT[name] for name in tables if name in ABSENT}
    said = msgspec.json.encode({**about, "tables": tables, "desk_columns_absent": absent})
    part = out / f".{LIST}.{os.getpid()}.part"
    part.write_bytes(msgspec.json.format(said, indent=2) + b"\n")
    part.replace(out / LIST)


# --- CSV --------------------------------------------------------------------------------------------------------------


def utc_text(ts_ns: int) -> str:
    """ISO 8601 with all nine decimals: "2026-01-01T07:40:00.000000001Z"."""
    seconds, rest = divmod(ts_ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{rest:09d}Z"


def _quoted(text: str) -> str:
    """As RFC 4180. Text that is there and empty is quoted, so that it is not taken for absent."""
    if text and not any(sign in text for sign in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


_CELLS: Final[Mapping[Kind, Callable[[Any], str]]] = {
    Kind.INTEGER: str,
    Kind.TEXT: _quoted,
    Kind.SIDE: _quoted,
    Kind.FLAG: lambda value: "true" if value else "false",
    Kind.FLOAT: repr,
    Kind.TIME: utc_text,
    **dict.fromkeys((Kind.PRICE, Kind.SIZE, Kind.MONEY), money_text),
}


class CsvSink:
    """UTF-8, a header, commas, lines that end in \\n; absent is an empty cell."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column], _said: Mapping[str, object]) -> None:
        self._file = file
        self._cells = [_CELLS[column.kind] for column in columns]
        self._file.write((",".join(column.name for column in columns) + "\n").encode())

    def write(self, rows: Sequence[Sequence[Value]]) -> None:
        cells = self._cells
        lines = [
            ",".join(["" if value is None else cell(value) for cell, value in zip(cells, row, strict=True)])
            for row in rows
        ]
        if lines:
            self._file.write(("\n".join(lines) + "\n").encode())

    def close(self) -> None:
        """Nothing is held back."""


# --- Parquet ----------------------------------------------------------------------------------------------------------

_EXACT: Final = Context(prec=60)
"""The default context would round a large amount to 28 digits."""


def _decimal(value: Value) -> Decimal | None:
    return None if value is None else Decimal(int(value)).scaleb(-10, _EXACT)


class ParquetSink:
    """zstd; what the CSV cannot say of itself is in the file's metadata, under `mmdaemon`."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column], said: Mapping[str, object]) -> None:
        import pyarrow as pa  # noqa: PLC0415 - an optional extra
        import pyarrow.parquet as pq  # noqa: PLC0415

        types: dict[Kind, pa.DataType] = {
            Kind.INTEGER: pa.int64(),
            Kind.TEXT: pa.string(),
            Kind.SIDE: pa.string(),
            Kind.FLAG: pa.bool_(),
            Kind.FLOAT: pa.float64(),
            Kind.TIME: pa.timestamp("ns", tz="UTC"),
            **dict.fromkeys((Kind.PRICE, Kind.SIZE, Kind.MONEY), pa.decimal128(38, 10)),
        }
        self._columns = [(column.kind, types[column.kind]) for column in columns]
        fields = [pa.field(each.name, types[each.kind], metadata={"about": each.about}) for each in columns]
        self._schema = pa.schema(fields, metadata={"mmdaemon": msgspec.json.encode(said)})
        self._writer = pq.ParquetWriter(file, self._schema, compression="zstd")
        self._held: list[pa.Table] = []

    def write(self, rows: Sequence[Sequence[Value]]) -> None:
        import pyarrow as pa  # noqa: PLC0415

        if not rows:
            return
        arrays: list[Any] = []
        for (kind, type_), values in zip(self._columns, zip(*rows, strict=True), strict=True):
            arrays.append(pa.array([_decimal(value) for value in values] if kind.is_decimal else values, type=type_))
        self._held.append(pa.Table.from_arrays(arrays, schema=self._schema))
        if sum(held.num_rows for held in self._held) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415

        if self._held:
            self._writer.write_table(pa.concat_tables(self._held))
            self._held.clear()

    def close(self) -> None:
        self._flush()
        self._writer.close()


def _sink(form: Format) -> Callable[[IO[bytes], Sequence[Column], Mapping[str, object]], Sink]:
    if form is Format.CSV:
        return CsvSink
    try:
        import_module("pyarrow.parquet")
    except ImportError as error:
        raise ExportRefused(
            f"Parquet needs pyarrow, which cannot be imported ({error}): `pip install 'mmdaemon[tapes]'`; CSV needs "
            "nothing (--format csv)"
        ) from error
    return ParquetSink


# --- docs/EXPORT.md ---------------------------------------------------------------------------------------------------

_KINDS: Final = (
    ("integer", "digits", "int64"),
    ("text", "UTF-8; quoted where it is there and empty", "string"),
    ("true/false", "true, false", "bool"),
    ("time", "2026-01-01T07:40:00.000000001Z", "timestamp[ns, UTC]"),
    ("price, size, money", "exact decimal, no trailing zeros", "decimal128(38, 10)"),
    ("side", "buy, sell", "string"),
    ("float", "shortest text of the same double", "double"),
)
_OPENING: Final = """# Export

Generated by `python -m mmdaemon.research.export`; a test compares.

`mmdaemon export` writes the journal as CSV, or with `--format parquet` as Parquet (needs pyarrow:
`pip install 'mmdaemon[tapes]'`): each table to a file of its name in the folder that `--out` names. Without names all
tables are written; of the last run, of another by `--run`, of all by `--all`. Only reads, also beside a running daemon.

- All tables are of one moment: they are read in one transaction.
- Numbers are exact. Prices and sizes are ticks and lots times the steps of the instrument in force, money is kept in
  1e-10 of quote currency. Sums of the exported decimals are the journal's, to the last digit; a float is only what is a
  float in the model too, in `decisions` and `quotes`.
- Absent is NULL in Parquet and an empty cell in CSV, never 0 and never NaN; `decisions.maker_fee_bps` and
  `taker_fee_bps` are the exception, because the journal has 0 there too. Text that is there and empty is quoted in CSV;
  some readers take it for absent all the same.
- `order_id` is our client order id; rows of one order have it in all tables. `epoch` and `seq` say from which event of
  which run a row follows; a row that follows from no event has no `seq`.
- Equity of an account is its start + Σ amount_quote of `bills` − Σ fee_quote − Σ ±notional_quote of `fills` (plus for
  buys) + position × mark, over all its runs (`account_epoch`): export with `--all` where it has more than one.
- `export.json` is written last: files, rows, and which of the desk's columns are absent. Parquet files say the same of
  themselves in their metadata, under `mmdaemon`. Files there already are refused without `--force`.
- Not exported: `parameters` and `checkpoints`, which are this program's own state in its own encoding; `preflights` and
  `prunings`, which are about the journal and no trading.

| kind | in CSV | in Parquet |
| --- | --- | --- |
"""
_DESK: Final = """
## The desk's columns

Of the desk that this project replaces, fills.csv had {fills} columns and minute.csv {minutes}, by the field lists of
its writer (one version of it). Those here under the same name: {there}.

Those that are not here, and why. Nothing is made up in their place.
"""


def export_markdown() -> str:
    """docs/EXPORT.md."""
    lines = [_OPENING.rstrip("\n"), *(f"| {' | '.join(kind)} |" for kind in _KINDS)]
    for table in TABLES:
        lines += ["", f"## {table.name}", "", table.about, "", "| column | kind | meaning |", "| --- | --- | --- |"]
        lines += [f"| `{column.name}` | {column.kind} | {column.about} |" for column in table.columns]
    there = (
        f"of {name}, {', '.join(f'`{column}`' for column in columns if column not in ABSENT[name])}"
        for name, columns in DESK.items()
    )
    counts = {name: len(columns) for name, columns in DESK.items()}
    lines += [_DESK.format(there="; ".join(there), **counts).rstrip("\n")]
    for name, columns in ABSENT.items():
        lines += ["", f"| {name}: column of the desk | why it is not here |", "| --- | --- |"]
        lines += [f"| `{column}` | {why} |" for column, why in columns.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write docs/EXPORT.md of this checkout."""
    path = CHECKOUT / "docs" / "EXPORT.md"
    path.write_text(export_markdown(), encoding="utf-8")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
