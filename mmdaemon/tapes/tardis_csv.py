"""Rows of Tardis CSV files as records. `tardis` has the tape made of them and the rules that hold across files.

A file is gzip or plain text, which its first bytes say. Times are whole microseconds of UTC. A row that cannot be used
is dropped and counted; what makes a whole file unusable raises `TapeError` with file and row.
"""

import gzip
import re
import zlib
from collections.abc import Generator, Iterator
from contextlib import closing
from io import BufferedReader
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from mmdaemon.core.types import Side
from mmdaemon.tapes.records import Depth, DepthKind, Levels, Ticker, Trade
from mmdaemon.tapes.rows import DECIMAL, REMEMBERED, BadRow, Refusals, TapeError, moment, whole_steps

BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
TICKER = (
    "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,predicted_funding_rate,"
    "open_interest,last_price,index_price,mark_price"
)
KINDS = {BOOK: "incremental_book_L2", TRADES: "trades", TICKER: "derivative_ticker"}
SNAPSHOTS = "book_snapshot_"
SIDES = ("bid", "ask")
CHUNK = 1 << 20
"""Bytes of text that are taken apart at once."""

_VALUE = re.compile(rf"(-?{DECIMAL.pattern})?", re.ASCII)
TIME_US = re.compile(r"[0-9]{15,16}", re.ASCII)
_AGGRESSORS = {"buy": Side.BUY, "sell": Side.SELL, "unknown": None}


def snapshot_columns(levels: int) -> str:
    """The header of `book_snapshot_<levels>`."""
    each = (f"asks[{i}].price,asks[{i}].amount,bids[{i}].price,bids[{i}].amount" for i in range(levels))
    return "exchange,symbol,timestamp,local_timestamp," + ",".join(each)


def kind_of(columns: str) -> str | None:
    """The data type that a header is of, None for that of no file read here."""
    if columns in KINDS:
        return KINDS[columns]
    levels, rest = divmod(columns.count(",") - 3, 4)
    return f"{SNAPSHOTS}{levels}" if levels > 0 and not rest and columns == snapshot_columns(levels) else None


def header(path: Path) -> str:
    """The first line of a file, gzipped or not, without its end; empty where there is none.

    Raises:
        TapeError: it cannot be read, or is broken off gzip.
    """
    with closing(blocks(path, Refusals())) as told:
        for _, lines in told:
            return lines[0]
    return ""


def blocks(path: Path, refusals: Refusals) -> Generator[tuple[int, list[str]]]:
    """`(row of the first, lines)` without their ends, the header being row 1. A last line without an end is refused.

    Raises:
        TapeError: when reached: the file cannot be opened, or breaks off.
    """
    row, tail = 1, ""
    try:
        with _opened(path) as file:
            while chunk := file.read(CHUNK):
                lines = (tail + chunk.decode("ascii", errors="replace")).split("\n")
                tail = lines.pop()
                if lines:
                    if lines[0].endswith("\r"):
                        lines = [line.removesuffix("\r") for line in lines]
                    yield row, lines
                    row += len(lines)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TapeError(
            f"{path}: broken off or damaged after row {row - 1} ({error}); download it again, "
            "or recover what is whole (`gzip -dc FILE | head -n ROWS | gzip`) and read that"
        ) from error
    except OSError as error:
        raise TapeError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if tail:
        refusals.add(path, row, "cut_off", "the last row has no end, so its last number may lack digits")


def _opened(path: Path) -> gzip.GzipFile | BufferedReader:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if zipped else path.open("rb")


class Counted(dict[str, int]):
    """Texts of a decimal to whole steps, looked up like a dictionary: exact, remembered. Zero is zero.

    A look-up raises BadRow as `whole_steps`.
    """

    def __init__(self, step_e10: int, off: str) -> None:
        super().__init__()
        self._step_e10 = step_e10
        self._off = off

    def __missing__(self, text: str) -> int:
        count = whole_steps(text, self._step_e10, self._off)
        if len(self) >= REMEMBERED:
            self.clear()
        self[text] = count
        return count


class Market(NamedTuple):
    """What every row of a tape is held to."""

    exchange: str
    symbol: str
    ticks: Counted
    lots: Counted


def times(path: Path, row: int, cells: list[str], market: Market) -> tuple[int, int]:
    """`(venue_ts_ns, local_ts_ns)` of a row that begins with `cells`.

    Raises:
        BadRow: "bad_time".
        TapeError: the row is of another exchange or symbol.
    """
    if cells[0] != market.exchange or cells[1] != market.symbol:
        raise TapeError(
            f"{path} row {row}: it is of {cells[0]} {cells[1]}, and the tape of {market.exchange} {market.symbol}; "
            "a tape holds one market: split the file by symbol"
        )
    return moment_ns(cells[2]), moment_ns(cells[3])


def moment_ns(text: str) -> int:
    """Whole microseconds of UTC as nanoseconds. Raises BadRow("bad_time")."""
    if TIME_US.fullmatch(text) is None:
        raise BadRow("bad_time", f"{text[:40]!r} is not microseconds of UTC")
    return moment(int(text) * 1000, text)


class Message(msgspec.Struct):
    """One message about the book as it is being read."""

    row: int
    venue_ts_ns: int
    local_ts_ns: int
    is_snapshot: bool
    runs: list[tuple[str, list[tuple[int, int]]]] = []
    """Sides in the order of the file, each with the levels that stand together."""


class IncrementalBook:
    """Reads `incremental_book_L2` files one after the other, and knows between them whether the book is known.

    A message is what stands together with the same times and `is_snapshot`. One whose sides take turns is several
    records, all but the last with `more`, so that the order of the file is kept. A snapshot that is not told best first
    begins with what is, and goes on in DELTA records.
    """

    def __init__(self, market: Market, refusals: Refusals) -> None:
        self._market = market
        self._refusals = refusals
        self._whole = False
        """The book is known: there was a snapshot, and the last one could be used."""
        self._held: list[tuple[int, Depth]] = []
        """The records of a snapshot of one side, until it is known whether the next one is its other side."""

    def read(self, path: Path) -> Iterator[tuple[int, Depth]]:
        """`(row, record)`: where the message begins. Raises TapeError as `blocks` and `times`."""
        refusals, ticks, lots = self._refusals, self._market.ticks, self._market.lots
        message: Message | None = None
        head = last = ""
        levels: list[tuple[int, int]] = []
        for first, lines in blocks(path, refusals):
            for row, line in enumerate(lines, first):
                if row == 1:
                    continue
                try:
                    told, side, price, amount = line.rsplit(",", 3)
                    if told != head:
                        following = self._begin(path, row, told)
                        if message is not None:
                            yield from self._finish(path, message, following, side)
                        message = following if following.is_snapshot or self._whole else None
                        head, last = told, ""
                    if message is None:
                        raise BadRow("no_snapshot", "an update of a book that no snapshot told")
                    level = (ticks[price], lots[amount])
                    if not level[0]:
                        raise BadRow("bad_number", "the price is zero")
                    if side != last:
                        if side not in SIDES:
                            raise BadRow("bad_side", f"{side[:40]!r} is neither bid nor ask")
                        levels, last = [], side
                        message.runs.append((side, levels))
                    levels.append(level)
                except BadRow as bad:
                    refusals.add(path, row, bad.reason, bad.detail)
                except ValueError:
                    refusals.add(path, row, "wrong_columns", f"{line.count(',') + 1} instead of 8")
        if message is not None:
            yield from self._finish(path, message, None, "")

    def _begin(self, path: Path, row: int, told: str) -> Message:
        cells = told.split(",")
        if len(cells) != 5:
            raise BadRow("wrong_columns", f"{len(cells) + 3} instead of 8")
        venue_ts_ns, local_ts_ns = times(path, row, cells, self._market)
        if cells[4] not in ("true", "false"):
            raise BadRow("bad_flag", f"is_snapshot is {cells[4][:40]!r}, neither true nor false")
        return Message(row, venue_ts_ns, local_ts_ns, cells[4] == "true")

    def _finish(
        self, path: Path, message: Message, following: Message | None, side: str
    ) -> Iterator[tuple[int, Depth]]:
        """The records of a message. `following` is the one behind it, which begins with `side`."""
        runs = message.runs
        one_sided = message.is_snapshot and len(runs) == 1
        goes_on = False
        if self._held:
            # One side in one message and the other in the next: Tardis resets at the first row of a snapshot only.
            goes_on = one_sided
            yield from ((row, msgspec.structs.replace(told, more=told.more or goes_on)) for row, told in self._held)
            self._held = []
        kind = DepthKind.SNAPSHOT if message.is_snapshot and not goes_on else DepthKind.DELTA
        parts = self._leading(path, message) if message.is_snapshot else runs
        records: list[tuple[int, Depth]] = []
        at = 0
        while at < len(parts):
            one, levels = parts[at]
            other: Levels = ()
            if at + 1 < len(parts) and parts[at + 1][0] != one:
                at += 1
                other = tuple(parts[at][1])
            at += 1
            bids, asks = (other, tuple(levels)) if one == "ask" else (tuple(levels), other)
            asks_first, more = one == "ask" and bool(other), at < len(parts)
            told = Depth(message.venue_ts_ns, message.local_ts_ns, kind, bids, asks, asks_first, more)
            records.append((message.row, told))
            kind = DepthKind.DELTA
        may_go_on = one_sided and not goes_on and following is not None and following.is_snapshot and side != runs[0][0]
        if may_go_on:
            self._held = records
        else:
            yield from records

    def _leading(self, path: Path, message: Message) -> list[tuple[str, list[tuple[int, int]]]]:
        """The runs of a snapshot, split behind what is best first; none where it is crossed."""
        runs = message.runs
        for _, levels in runs:
            if not all(lots for _, lots in levels):
                self._refusals.add(path, message.row, "empty_level", "a level of no size in a snapshot")
                levels[:] = [level for level in levels if level[1]]
        best_bid = max((px for side, levels in runs if side == "bid" for px, _ in levels), default=None)
        best_ask = min((px for side, levels in runs if side == "ask" for px, _ in levels), default=None)
        self._whole = bool(runs)
        if best_bid is not None and best_ask is not None and best_bid > best_ask:
            self._whole = False
            self._refusals.add(path, message.row, "crossed", "a snapshot with its best bid above its best ask")
            return []
        for number, (side, levels) in enumerate(runs[:2]):
            fit = best_first(levels, side == "bid")
            if fit < len(levels):
                return [*runs[:number], (side, levels[:fit]), (side, levels[fit:]), *runs[number + 1 :]]
        return runs


def best_first(levels: list[tuple[int, int]], bids: bool) -> int:
    """How many levels from the first on are best first, each price once."""
    for number, (earlier, later) in enumerate(pairwise(levels), 1):
        if (later[0] >= earlier[0]) if bids else (later[0] <= earlier[0]):
            return number
    return len(levels)


def snapshots(path: Path, market: Market, refusals: Refusals) -> Iterator[tuple[int, Depth]]:
    """`(row, record)` of a `book_snapshot_N` file. Cells are empty where the book has fewer levels."""
    width = 0
    ticks, lots = market.ticks, market.lots
    for first, lines in blocks(path, refusals):
        for row, line in enumerate(lines, first):
            cells = line.split(",")
            if row == 1:
                width = len(cells)
                continue
            try:
                if len(cells) != width:
                    raise BadRow("wrong_columns", f"{len(cells)} instead of {width}")
                venue_ts_ns, local_ts_ns = times(path, row, cells, market)
                asks = [(ticks[px], lots[size]) for px, size in zip(cells[4::4], cells[5::4], strict=True) if px]
                bids = [(ticks[px], lots[size]) for px, size in zip(cells[6::4], cells[7::4], strict=True) if px]
                if not all(px and size for side in (asks, bids) for px, size in side):
                    raise BadRow("bad_number", "a price or an amount of a level is zero")
                if not asks and not bids:
                    raise BadRow("empty", "no level on either side")
                if asks and bids and asks[0][0] < bids[0][0]:
                    raise BadRow("crossed", f"best bid {cells[6]} is above best ask {cells[4]}")
                if best_first(asks, False) < len(asks) or best_first(bids, True) < len(bids):
                    raise BadRow("unsorted", "levels are not told best first")
            except BadRow as bad:
                refusals.add(path, row, bad.reason, bad.detail)
                continue
            yield row, Depth(venue_ts_ns, local_ts_ns, DepthKind.SNAPSHOT, tuple(bids), tuple(asks))


def trades(path: Path, market: Market, refusals: Refusals) -> Iterator[tuple[int, Trade]]:
    """`(row, record)` of a `trades` file."""
    ticks, lots = market.ticks, market.lots
    for first, lines in blocks(path, refusals):
        for row, line in enumerate(lines, first):
            if row == 1:
                continue
            cells = line.split(",")
            try:
                if len(cells) != 8:
                    raise BadRow("wrong_columns", f"{len(cells)} instead of 8")
                venue_ts_ns, local_ts_ns = times(path, row, cells, market)
                if cells[5] not in _AGGRESSORS:
                    raise BadRow("bad_side", f"{cells[5][:40]!r} is none of {', '.join(_AGGRESSORS)}")
                px_ticks, qty_lots = ticks[cells[6]], lots[cells[7]]
                if not px_ticks or not qty_lots:
                    raise BadRow("bad_number", "the price or the amount is zero")
            except BadRow as bad:
                refusals.add(path, row, bad.reason, bad.detail)
                continue
            yield row, Trade(venue_ts_ns, local_ts_ns, px_ticks, qty_lots, _AGGRESSORS[cells[5]], cells[4])


def tickers(path: Path, market: Market, refusals: Refusals) -> Iterator[tuple[int, Ticker]]:
    """`(row, record)` of a `derivative_ticker` file. What is not said is an empty cell."""
    for first, lines in blocks(path, refusals):
        for row, line in enumerate(lines, first):
            if row == 1:
                continue
            cells = line.split(",")
            try:
                if len(cells) != 11:
                    raise BadRow("wrong_columns", f"{len(cells)} instead of 11")
                venue_ts_ns, local_ts_ns = times(path, row, cells, market)
                funding_ts_ns = moment_ns(cells[4]) if cells[4] else None
                for text in cells[5:]:
                    if _VALUE.fullmatch(text) is None:
                        raise BadRow("bad_number", f"{text[:40]!r} is not a decimal")
            except BadRow as bad:
                refusals.add(path, row, bad.reason, bad.detail)
                continue
            yield row, Ticker(venue_ts_ns, local_ts_ns, funding_ts_ns, *cells[5:])
