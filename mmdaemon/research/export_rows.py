"""How a row of the journal becomes a row that `export` writes. Which rows and columns there are: `export_tables.py`.

Ticks and lots become decimals by the instrument of the row's own version (a fill) or run (all else), as integers in
1e-10, so that nothing is rounded. What the journal does not know is None.
"""

import sqlite3
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from mmdaemon.core.decision import Decision, DecisionInputs, Quote
from mmdaemon.core.types import Instrument, Side

Value = int | float | str | bool | None
BATCH_ROWS: Final = 8192


class ExportRefused(Exception):
    """Nothing was exported. The message says what is wrong and what to do."""


class Kind(StrEnum):
    """What a column holds."""

    INTEGER = "integer"
    TEXT = "text"
    FLAG = "true/false"
    TIME = "time"
    PRICE = "price"
    SIZE = "size"
    MONEY = "money"
    SIDE = "side"
    FLOAT = "float"

    @property
    def is_decimal(self) -> bool:
        """The value is an integer in 1e-10."""
        return self in _DECIMALS


_DECIMALS: Final = frozenset({Kind.PRICE, Kind.SIZE, Kind.MONEY})


class Column(NamedTuple):
    """`source` is an SQL expression, or the path of an attribute where a table unfolds its rows."""

    name: str
    kind: Kind
    source: str
    about: str


class Table(NamedTuple):
    name: str
    about: str
    source: str
    """Table of the journal, or a join."""
    order: str
    columns: tuple[Column, ...]
    runs: str = "epoch"
    """SQL: the run of a row; empty where rows belong to no run."""
    instrument: str = "epoch"
    """SQL: the run, or else the version, whose instrument tells what ticks and lots are worth."""
    unfold: Callable[[tuple[Any, ...]], Iterator[object]] | None = None

    def where(self, epoch: int | None) -> str:
        return f" WHERE {self.runs} = {epoch:d}" if self.runs and epoch is not None else ""

    def count_rows(self, db: sqlite3.Connection, epoch: int | None) -> int:
        """Rows of the journal, which are not more than will be written, unless the table unfolds them."""
        return int(db.execute(f"SELECT count(*) FROM {self.source}{self.where(epoch)}").fetchone()[0])  # noqa: S608


class Instruments:
    """What a tick and a lot were worth, by run or by version. Looked up where a row needs it, and then remembered."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[tuple[bool, int], Instrument] = {}

    def of(self, table: Table, key: int) -> Instrument:
        """Raises ExportRefused: it is not in the journal, so no price and no size can be told."""
        by_run = table.instrument == "epoch"
        if (found := self._known.get((by_run, key))) is not None:
            return found
        found = self._of_run(key) if by_run else self._of_version(key)
        if found is None:
            what = f"run {key} has no parameters" if by_run else f"instrument version {key} is missing"
            raise ExportRefused(
                f"{table.name}: {what}, so nobody knows what a tick and a lot are worth there; export other runs "
                "(--run), or restore the journal from a backup"
            )
        self._known[by_run, key] = found
        return found

    def _of_run(self, epoch: int) -> Instrument | None:
        found = self._db.execute("SELECT params FROM parameters WHERE epoch = ?", (epoch,)).fetchone()
        return None if found is None else _held_of(found[0]).instrument

    def _of_version(self, version: int) -> Instrument | None:
        columns = Instrument.__struct_fields__
        query = f"SELECT {', '.join(columns)} FROM instruments WHERE version = ?"  # noqa: S608 - our own field names
        found = self._db.execute(query, (version,)).fetchone()
        return None if found is None else Instrument(**dict(zip(columns, found, strict=True)))


class _Held(msgspec.Struct):
    """Of a run's parameters, the one thing needed here: readable whatever else a version of them has."""

    instrument: Instrument


_held_of = msgspec.msgpack.Decoder(_Held).decode


def rows_of(
    table: Table, db: sqlite3.Connection, epoch: int | None, instruments: Instruments
) -> Iterator[tuple[int, list[list[Value]]]]:
    """Batches of exported rows, each with the number of journal rows it was made of. Memory does not grow.

    Raises ExportRefused, and sqlite3.Error where the file is damaged.
    """
    needs_instrument = any(column.kind in {Kind.PRICE, Kind.SIZE} for column in table.columns)
    names = _DECISION_COLUMNS if table.unfold else tuple(column.source for column in table.columns)
    query = (
        f"SELECT {table.instrument if needs_instrument else '0'}, {', '.join(names)} "  # noqa: S608 - our own names
        f"FROM {table.source}{table.where(epoch)} ORDER BY {table.order}"
    )
    paths = [column.source.split(".") for column in table.columns] if table.unfold else []
    kinds = [column.kind for column in table.columns]
    cursor = db.execute(query)
    while batch := cursor.fetchmany(BATCH_ROWS):
        made: list[list[Value]] = []
        for found in batch:
            unit = instruments.of(table, found[0]) if needs_instrument else _NOTHING
            tick, lot = unit.tick_e10, unit.lot_e10
            if table.unfold is None:
                made.append([_value(kind, raw, tick, lot) for kind, raw in zip(kinds, found[1:], strict=True)])
                continue
            for thing in table.unfold(found[1:]):
                raws = (_attribute(thing, path) for path in paths)
                made.append([_value(kind, raw, tick, lot) for kind, raw in zip(kinds, raws, strict=True)])
        yield len(batch), made


_NOTHING: Final = Instrument(
    venue="", symbol="", quote="", version=0, tick_e10=0, lot_e10=0, unit_e10=0, min_qty_lots=0, max_qty_lots=0,
    min_notional_e10=0,
)  # fmt: skip


def _value(kind: Kind, raw: Any, tick_e10: int, lot_e10: int) -> Value:
    if raw is None:
        return None
    match kind:
        case Kind.PRICE:
            return int(raw) * tick_e10
        case Kind.SIZE:
            return int(raw) * lot_e10
        case Kind.SIDE:
            return Side(raw).name.lower()
        case Kind.FLAG:
            return bool(raw)
        case Kind.FLOAT:
            number = float(raw)
            return number if number == number else None  # noqa: PLR0124 - not a number is not known
        case Kind.TEXT:
            return str(raw)
        case _:
            return int(raw)


def _attribute(thing: object, path: list[str]) -> object:
    """What is at the end of the path; None as soon as a part of it is."""
    for name in path:
        if thing is None:
            return None
        thing = getattr(thing, name)
    return thing


# --- decisions --------------------------------------------------------------------------------------------------------

_DECISION_COLUMNS: Final = ("epoch", "seq", "mono_ns", "ts_ns", "guard", "regime", "inputs", "decision", "chain")
_inputs_of = msgspec.msgpack.Decoder(DecisionInputs).decode
_decision_of = msgspec.msgpack.Decoder(Decision).decode


class _Made(NamedTuple):
    """One decision, taken apart. A part that says nothing is None, so that its zeros are not taken for figures."""

    epoch: int
    seq: int
    mono_ns: int
    ts_ns: int
    guard: str
    regime: str
    chain: str
    seen: DecisionInputs
    book: DecisionInputs | None
    """None where there was no healthy book."""
    band: DecisionInputs | None
    """None until volatility is known."""
    made: Decision
    ladder: Decision | None
    """None where nothing could be quoted: then there is no reservation price and no band."""
    bids: int
    asks: int
    quote: Quote | None = None


def _decision(found: tuple[Any, ...]) -> _Made:
    epoch, seq, mono_ns, ts_ns, guard, regime, inputs, decision, chain = found
    try:
        seen, made = _inputs_of(inputs), _decision_of(decision)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ExportRefused(
            f"decision (run {epoch}, seq {seq}) was written by another version of mmdaemon and cannot be taken apart "
            f"by this one ({error}); name the tables you want, without `decisions` and `quotes`"
        ) from error
    return _Made(
        *(epoch, seq, mono_ns, ts_ns, guard, regime, chain.hex(), seen),
        book=seen if seen.fair_ticks is not None else None,
        band=seen if seen.band_bps else None,
        made=made,
        ladder=made if made.reservation_ticks else None,
        bids=sum(quote.side is Side.BUY for quote in made.quotes),
        asks=sum(quote.side is Side.SELL for quote in made.quotes),
    )


def one(found: tuple[Any, ...]) -> Iterator[_Made]:
    """The decision itself."""
    yield _decision(found)


def each_quote(found: tuple[Any, ...]) -> Iterator[_Made]:
    """The decision once a quote, best first, bids before asks."""
    made = _decision(found)
    for quote in made.made.quotes:
        yield made._replace(quote=quote)
