"""The Parquet files of a StandX recording as arrays of exact steps, an hour at a time: what is usable and distinct.

Rows are counted from 1. What is dropped is counted by reason in `Refusals`; see `standx.py` for what the format is.
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from mmdaemon.core.types import NS
from mmdaemon.tapes.rows import KEPT_PER_REASON, Refusals, TapeError

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    raise TapeError(
        f"a StandX recording is Parquet, and {error.name} is not installed: pip install 'mmdaemon[tapes]'"
    ) from error

LEVELS = 20
BOOKS, TRADES = "orderbook", "trades"
TIME = "timestamp[ns, tz=UTC]"
SIDES = ("bid_prices", "bid_quantities", "ask_prices", "ask_quantities")
COLUMNS = {
    BOOKS: {"timestamp": TIME, "received_at": TIME, "symbol": "string"}
    | dict.fromkeys(SIDES, "list<double>")
    | {"best_bid": "double", "best_ask": "double", "is_valid": "bool"},
    TRADES: {"timestamp": TIME, "received_at": TIME, "symbol": "string"}
    | {"price": "double", "quantity": "double", "side": "string", "is_buyer_taker": "bool"},
}
"""What is read of each kind of file, with its type. Others may be there."""
TICKS_PER_ONE, LOTS_PER_ONE = 100, 10_000
GAP_NS = 3 * NS
HOUR_NS = 3600 * NS
LATE_MAX_NS = HOUR_NS
"""A local time further than this from the exchange's is a damaged one, not a slow feed."""
COUNT_MAX = 2.0**53
"""Above it not every whole number is a double, and a count of steps could not be proven exact."""

_ELEMENT = re.compile("<[a-z]+: ")
"""The name of the elements of a list, which says nothing."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Hour(msgspec.Struct, frozen=True):
    start_ns: int
    books: Path
    trades: Path


class Books(msgspec.Struct, frozen=True):
    """What is left of a file: a row each, `sides` being prices and sizes of bids, then of asks, 20 to a row."""

    venue_ns: Ints
    local_ns: Ints
    sides: tuple[Ints, Ints, Ints, Ints]


class Trades(msgspec.Struct, frozen=True):
    venue_ns: Ints
    local_ns: Ints
    px_ticks: Ints
    qty_lots: Ints
    aggressor: Ints
    """0 not told, 1 bought, 2 sold."""


# --- files ------------------------------------------------------------------------------------------------------------


def kind_of(path: Path) -> str | None:
    """`BOOKS` or `TRADES` by the columns of the file; None where they are others, or it is not Parquet."""
    try:
        schema = pq.read_schema(path)  # pyright: ignore[reportUnknownMemberType]
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return None
    return next((kind for kind in COLUMNS if not _lacking(schema, kind)), None)


def _lacking(schema: pa.Schema, kind: str) -> list[str]:
    """The columns of `COLUMNS[kind]` that are not there or of another type, each with what is there instead."""
    types = {name: _ELEMENT.sub("<", str(of)) for name, of in zip(schema.names, schema.types, strict=True)}
    return [
        f"{name} is {types.get(name, 'missing')}, not {expected}"
        for name, expected in COLUMNS[kind].items()
        if types.get(name) != expected
    ]


def read(path: Path, kind: str, columns: list[str]) -> pa.Table:
    """Raises TapeError: it cannot be read, is not Parquet, is broken off, of other columns or without rows."""
    try:
        with pq.ParquetFile(path) as file:
            lacking = _lacking(file.schema_arrow, kind)
            table = None if lacking else file.read(columns=columns)  # pyright: ignore[reportUnknownMemberType]
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise TapeError(f"{path}: not a whole Parquet file ({error}); copy it again from the recorder") from error
    if table is None:
        raise TapeError(f"{path}: not a file of {kind} of a StandX recording: {'; '.join(lacking)}; leave it out")
    if not table.num_rows:
        raise TapeError(f"{path}: no rows; record it anew, or leave out this hour, books and trades")
    return table


def values(table: pa.Table, column: str, missing: Any) -> NDArray[Any]:
    of = table[column]
    whole = of.cast(pa.int64()) if pa.types.is_timestamp(of.type) else of
    return (whole.fill_null(missing) if whole.null_count else whole).to_numpy()


class Survey:
    """What is said of a recording before it is played, out of the columns that are quick to read."""

    def __init__(self, symbol: str, hours: list[Hour]) -> None:
        self.symbol = symbol
        sides: set[str | None] = set()
        at: list[Ints] = []
        locked: list[Mask] = []
        late: list[Ints] = []
        self.trades = 0
        for hour in hours:
            table = read(hour.books, BOOKS, ["timestamp", "received_at", "symbol", "best_bid", "best_ask"])
            self._same_symbol(hour.books, table)
            at.append(values(table, "timestamp", 0))
            late.append(values(table, "received_at", 0) - at[-1])
            locked.append(values(table, "best_bid", 0.0) == values(table, "best_ask", 0.0))
            table = read(hour.trades, TRADES, ["timestamp", "received_at", "symbol", "side"])
            self._same_symbol(hour.trades, table)
            sides.update(table["side"].unique().to_pylist())
            late.append(values(table, "received_at", 0) - values(table, "timestamp", 0))
            self.trades += table.num_rows
        self.sides = sorted(str(side) for side in sides)
        self.sided = {"BUY", "SELL"} <= sides
        stamps = np.concatenate(at)
        self.books = len(stamps)
        new = np.append(np.True_, stamps[1:] != stamps[:-1])
        self.repeats = int((~new).sum())
        self.locked = float(np.concatenate(locked)[new].mean())
        stamps = np.unique(stamps[(stamps >= hours[0].start_ns) & (stamps < hours[-1].start_ns + HOUR_NS)])
        if not len(stamps):
            raise TapeError(f"{hours[0].books}: no snapshot has an exchange time in its hour; record it anew")
        self.start_ns, self.end_ns = int(stamps[0]), int(stamps[-1])
        spacing = np.diff(stamps)
        gaps = spacing[spacing > GAP_NS]
        self.gaps = len(gaps)
        self.gap_share = int(gaps.sum()) / max(self.end_ns - self.start_ns, 1)
        self.gap_longest_ns = int(gaps.max(initial=0))
        sane = np.concatenate(late)
        sane = sane[np.abs(sane) <= LATE_MAX_NS]
        self.least_ns, self.median_ns = (int(sane.min()), int(np.median(sane))) if len(sane) else (0, 0)

    def _same_symbol(self, path: Path, table: pa.Table) -> None:
        if (symbols := table["symbol"].unique().to_pylist()) != [self.symbol]:
            raise TapeError(
                f"{path}: rows of {', '.join(map(str, symbols))} in a file of {self.symbol}, by its name; split it"
            )


# --- rows -------------------------------------------------------------------------------------------------------------


class _Sieve:
    """Which rows of a file are still in. `drop` marks and counts, `rest` takes what was marked out of arrays."""

    def __init__(self, path: Path, rows: int, refusals: Refusals) -> None:
        self._path, self._refusals = path, refusals
        self._rows = np.arange(1, rows + 1)
        self.alive: Mask = np.ones(rows, np.bool_)

    def drop(self, bad: Mask | np.bool_, reason: str, detail: Callable[[int], str]) -> None:
        hit: list[int] = np.flatnonzero(bad & self.alive).tolist()
        for i in hit[:KEPT_PER_REASON]:
            self._refusals.add(self._path, int(self._rows[i]), reason, detail(i))
        if more := len(hit[KEPT_PER_REASON:]):
            self._refusals.counts[reason] += more
        self.alive[hit] = False

    def rest(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        alive = self.alive
        self._rows = self._rows[alive]
        self.alive = np.ones(len(self._rows), np.bool_)
        return arrays if alive.all() else tuple(array[alive] for array in arrays)


def _times(sieve: _Sieve, hour: Hour, venue: Ints, local: Ints) -> None:
    bad = (venue <= 0) | (local <= 0) | (np.abs(local - venue) > LATE_MAX_NS)
    sieve.drop(bad, "bad_time", lambda i: f"exchange {venue[i]} ns, local {local[i]} ns: missing or an hour apart")
    bad = (venue < hour.start_ns) | (venue >= hour.start_ns + HOUR_NS)
    sieve.drop(bad, "other_hour", lambda i: f"{utc(int(venue[i]))} is not in the hour of the file's name")


def _in_order(sieve: _Sieve, venue: Ints) -> None:
    sieve.drop(
        venue < np.maximum.accumulate(venue),
        "out_of_order",
        lambda i: f"{venue[i]} ns is before the exchange time of an earlier row",
    )


def _steps(sieve: _Sieve, values: Floats, per_one: int, off: str) -> Ints:
    """Values as whole steps, exact: the quotient of two whole numbers is the double next to it, as is the decimal."""
    with np.errstate(over="ignore", invalid="ignore"):
        counts = np.rint(values * per_one)
        impossible = ~((values > 0) & (counts < COUNT_MAX))
        between = ~impossible & (counts / per_one != values)
    for bad, reason, why in (
        (impossible, "bad_number", "is not a positive number"),
        (between, off, f"is not a multiple of {1 / per_one}"),
    ):
        wide = bad if bad.ndim > 1 else bad[:, np.newaxis]
        sieve.drop(
            wide.any(axis=1),
            reason,
            lambda i, wide=wide, why=why: f"{float(values.reshape(wide.shape)[i][wide[i]][0])!r} {why}",
        )
    return np.where(impossible, 0, counts).astype(np.int64)


def _equal(sides: Sequence[NDArray[Any]]) -> Mask:
    """Whether each row has the levels of the row before it; the first has not."""
    same = np.ones(max(len(sides[0]) - 1, 0), np.bool_)
    for side in sides:
        same &= (side[1:] == side[:-1]).all(axis=1)
    return np.append(np.False_, same)[: len(sides[0])]


def books_of(hour: Hour, refusals: Refusals, before: Books | None) -> Books:
    """The distinct books of an hour; `before` are those of the hour before it."""
    path = hour.books
    table = read(path, BOOKS, ["timestamp", "received_at", "is_valid", *SIDES])
    sieve = _Sieve(path, table.num_rows, refusals)
    venue, local = values(table, "timestamp", 0), values(table, "received_at", 0)
    _times(sieve, hour, venue, local)
    valid = values(table, "is_valid", False)
    sieve.drop(~valid, "invalid", lambda i: "the recorder wrote is_valid = false")
    for name in SIDES:
        widths = pc.list_value_length(table[name]).fill_null(0).to_numpy()
        sieve.drop(widths != LEVELS, "wrong_levels", lambda i, n=name, w=widths: f"{w[i]} of {n}, not {LEVELS}")
    if not sieve.alive.all():
        table = table.filter(pa.array(sieve.alive))
    venue, local = sieve.rest(venue, local)
    raw = [pc.list_flatten(table[name]).to_numpy().reshape(-1, LEVELS) for name in SIDES]
    repeats = _equal([*[side.view(np.int64) for side in raw], np.stack([venue, local], axis=1)])
    sieve.drop(repeats, "repeat", lambda i: "the times and levels of the row before")
    venue, local, *raw = sieve.rest(venue, local, *raw)

    bids, bid_lots, asks, ask_lots = (
        _steps(sieve, side, *((TICKS_PER_ONE, "off_tick") if name.endswith("prices") else (LOTS_PER_ONE, "off_lot")))
        for name, side in zip(SIDES, raw, strict=True)
    )
    unsorted = (bids[:, 1:] >= bids[:, :-1]).any(axis=1) | (asks[:, 1:] <= asks[:, :-1]).any(axis=1)
    sieve.drop(unsorted, "unsorted", lambda i: "bids do not fall, or asks do not rise")
    crossed = bids[:, 0] > asks[:, 0]
    sieve.drop(crossed, "crossed", lambda i: f"best bid {raw[0][i][0]} is above best ask {raw[2][i][0]}")
    venue, local, bids, bid_lots, asks, ask_lots = sieve.rest(venue, local, bids, bid_lots, asks, ask_lots)
    _in_order(sieve, venue)
    venue, local, bids, bid_lots, asks, ask_lots = sieve.rest(venue, local, bids, bid_lots, asks, ask_lots)

    sides = (bids, bid_lots, asks, ask_lots)
    same = _equal(sides) & (np.diff(venue, prepend=venue[:1]) <= GAP_NS)
    if before is not None and len(venue) and venue[0] - before.venue_ns[-1] <= GAP_NS:
        same[0] = all((side[0] == last[-1]).all() for side, last in zip(sides, before.sides, strict=True))
    sieve.drop(same, "unchanged", lambda i: "the levels of the book before, at a later time")
    venue, local, bids, bid_lots, asks, ask_lots = sieve.rest(venue, local, *sides)
    return Books(venue, local, (bids, bid_lots, asks, ask_lots))


def trades_of(hour: Hour, refusals: Refusals, sided: bool) -> Trades:
    path = hour.trades
    table = read(path, TRADES, ["timestamp", "received_at", "price", "quantity", "side", "is_buyer_taker"])
    sieve = _Sieve(path, table.num_rows, refusals)
    venue, local = values(table, "timestamp", 0), values(table, "received_at", 0)
    _times(sieve, hour, venue, local)
    ticks = _steps(sieve, values(table, "price", np.nan), TICKS_PER_ONE, "off_tick")
    lots = _steps(sieve, values(table, "quantity", np.nan), LOTS_PER_ONE, "off_lot")
    side = np.zeros(table.num_rows, np.int64)
    if sided:
        told, buyer = values(table, "side", ""), values(table, "is_buyer_taker", False)
        bad = (told != "BUY") & (told != "SELL")
        sieve.drop(bad, "bad_side", lambda i: f"{told[i]!r} is neither BUY nor SELL")
        side = np.where((told == "BUY") & buyer, 1, np.where((told == "SELL") & ~buyer, 2, 0))
    venue, local, ticks, lots, side = sieve.rest(venue, local, ticks, lots, side)
    repeats = _equal([np.stack([venue, local, ticks, lots, side], axis=1)])
    sieve.drop(repeats, "repeat", lambda i: "the times, price, size and side of the row before")
    venue, local, ticks, lots, side = sieve.rest(venue, local, ticks, lots, side)
    _in_order(sieve, venue)
    return Trades(*sieve.rest(venue, local, ticks, lots, side))


def in_order(books: Books, trades: Trades) -> list[bool]:
    """For each record of an hour, by time, whether it is a book. Both are in order; trades come first at equal time."""
    order = np.argsort(np.concatenate([trades.venue_ns, books.venue_ns]), kind="stable")
    return (order >= len(trades.venue_ns)).tolist()


def utc(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NS, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
