"""Records as Tardis CSV files, named as Tardis names them: `{exchange}_{data type}_{day}_{symbol}.csv.gz`.

A file a data type and UTC day of `local_timestamp`, rows in the order of the records. Books are written as
`incremental_book_L2`; as `book_snapshot_N` where the recording was read from such (`Facts.provenance`, `BOOKS_FROM`).
A file begins with a snapshot only where the recording has one there: Tardis adds one at midnight, this does not, so
later days are to be read together with the first.

What the format cannot say is counted and returned: nanoseconds below a microsecond are cut off; a book without any
level has no row; a snapshot at the very times of the one before it would be read as one with it, and is stamped a
microsecond later. A change of the touch alone has no form, and a recording with one is refused.
"""

import gzip
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from mmdaemon.core.types import Side
from mmdaemon.tapes.records import Depth, DepthKind, Levels, Recording, Ticker, Trade
from mmdaemon.tapes.rows import REMEMBERED, TapeError
from mmdaemon.tapes.tardis_csv import BOOK, KINDS, SNAPSHOTS, TICKER, TRADES, snapshot_columns

BOOKS_FROM = "books from"
"""Key of `Facts.provenance`: the data type that a book was read from."""
SIDES = {Side.BUY: "buy", Side.SELL: "sell", None: "unknown"}
DAY_US = 86_400_000_000
TOLD_EVERY = 100_000
"""Records between two calls of `progress`."""
AT_ONCE = 5_000
"""Records that are compressed together."""


Progress = Callable[[int], object]


def write(recording: Recording, out: Path, progress: Progress | None = None) -> dict[str, int]:
    """Write into the folder `out`, made if missing. `progress` is told how many records were written so far.

    Files have their names only once all are whole. Returned is what could not be written exactly, by reason.

    Raises:
        TapeError: a change of the touch; a book deeper than the `book_snapshot_N` it is to be written as; a file of
            that name exists; or what `recording` raises.
    """
    return _Writer(recording, out).write(progress or (lambda _: None))


class _Rows:
    """The files of one data type, a day after the other."""

    def __init__(self, kind: str, columns: str, named: Callable[[str, str], Path]) -> None:
        self.paths: list[Path] = []
        self._kind = kind
        self._columns = columns
        self._named = named
        self._day = -1
        self._file: gzip.GzipFile | None = None
        self._pending: list[str] = []

    def write(self, local_us: int, rows: str) -> None:
        day = local_us // DAY_US
        if day > self._day:  # local time may fall a little at midnight: the row stays behind the one before it
            self.close()
            self._day = day
            path = self._named(self._kind, datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%d"))
            if path.exists():
                raise TapeError(f"{path}: exists already; move it away, or write into another folder")
            self.paths.append(path)
            self._file = gzip.GzipFile(_part(path), "wb", compresslevel=6, mtime=0)
            self._pending.append(f"{self._columns}\n")
        self._pending.append(rows)
        if len(self._pending) >= AT_ONCE:
            self._flush()

    def close(self) -> None:
        if self._file is not None:
            self._flush()
            self._file.close()
            self._file = None

    def _flush(self) -> None:
        if self._file is not None:
            self._file.write("".join(self._pending).encode())
        self._pending.clear()


class _Texts(dict[int, str]):
    """Whole steps as the shortest decimal, as JavaScript prints a number: 7900, 0.001, 1e-7."""

    def __init__(self, step_e10: int) -> None:
        super().__init__()
        self._step_e10 = step_e10

    def __missing__(self, count: int) -> str:
        value = Decimal(count * self._step_e10).scaleb(-10).normalize()
        text = f"{value:f}"
        if value and value < Decimal("1e-6"):
            digits = "".join(map(str, value.as_tuple().digits))
            text = f"{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{value.adjusted()}"
        if len(self) >= REMEMBERED:
            self.clear()
        self[count] = text
        return text


class _Writer:
    def __init__(self, recording: Recording, out: Path) -> None:
        instrument = recording.facts.instrument
        self._recording = recording
        self._out = out
        self._market = f"{instrument.venue},{instrument.symbol}"
        self._px = _Texts(instrument.tick_e10)
        self._qty = _Texts(instrument.lot_e10)
        books = recording.facts.provenance.get(BOOKS_FROM, "")
        self._levels = int(books.removeprefix(SNAPSHOTS)) if books.startswith(SNAPSHOTS) else 0
        self._inexact: dict[str, int] = {}
        self._snapshot_at: tuple[int, int] | None = None
        """Times in the file of the snapshot that was just written, for the rest of it and the next."""
        self._goes_on = False

    def write(self, progress: Progress) -> dict[str, int]:
        books = (f"{SNAPSHOTS}{self._levels}", snapshot_columns(self._levels)) if self._levels else (KINDS[BOOK], BOOK)
        files = [_Rows(*books, self._named), _Rows(KINDS[TRADES], TRADES, self._named)]
        files.append(_Rows(KINDS[TICKER], TICKER, self._named))
        self._out.mkdir(parents=True, exist_ok=True)
        count = 0
        try:
            for count, record in enumerate(self._recording.records(), 1):
                match record:
                    case Depth():
                        local_us, rows = self._snapshot(record) if self._levels else self._message(record)
                        if rows:
                            files[0].write(local_us, rows)
                        else:
                            self._count("empty_book")
                    case Trade():
                        files[1].write(*self._trade(record))
                    case Ticker():
                        files[2].write(*self._ticker(record))
                if count % TOLD_EVERY == 0:
                    progress(count)
            for rows in files:
                rows.close()
            for path in (path for rows in files for path in rows.paths):
                _part(path).replace(path)
        finally:
            for rows in files:
                rows.close()
                for path in rows.paths:
                    _part(path).unlink(missing_ok=True)  # none is left where all went well
        progress(count)
        return self._inexact

    def _message(self, depth: Depth) -> tuple[int, str]:
        venue_us, local_us = self._times(depth)
        match depth.kind:
            case DepthKind.TOUCH:
                raise TapeError(
                    f"a change of the touch at {depth.venue_ts_ns} ns: Tardis files of the book have no form for one; "
                    "write this recording in another format"
                )
            case DepthKind.SNAPSHOT:
                if self._snapshot_at == (venue_us, local_us):
                    local_us += 1
                    self._count("same_times")
                self._snapshot_at = venue_us, local_us
            case DepthKind.DELTA:
                if self._goes_on and self._snapshot_at is not None:
                    local_us = max(local_us, self._snapshot_at[1])
                    self._snapshot_at = venue_us, local_us
                else:
                    self._snapshot_at = None
        self._goes_on = depth.more
        told = "false" if self._snapshot_at is None else "true"
        head = f"{self._market},{venue_us},{local_us},{told},"
        sides = [("bid", depth.bids), ("ask", depth.asks)]
        if depth.asks_first:
            sides.reverse()
        px, qty = self._px, self._qty
        return local_us, "".join(
            f"{head}{side},{px[ticks]},{qty[lots]}\n" for side, levels in sides for ticks, lots in levels
        )

    def _snapshot(self, depth: Depth) -> tuple[int, str]:
        venue_us, local_us = self._times(depth)
        if depth.kind is not DepthKind.SNAPSHOT or depth.more or max(len(depth.bids), len(depth.asks)) > self._levels:
            raise TapeError(
                f"the book at {depth.venue_ts_ns} ns is no snapshot of at most {self._levels} levels a side, though "
                f"the recording says it is from {SNAPSHOTS}{self._levels}"
            )
        cells = [*self._side(depth.asks), *self._side(depth.bids)]
        half = 2 * self._levels
        rows = (cells[i] for level in range(0, half, 2) for i in (level, level + 1, half + level, half + level + 1))
        return local_us, f"{self._market},{venue_us},{local_us},{','.join(rows)}\n"

    def _side(self, levels: Levels) -> Iterator[str]:
        for ticks, lots in levels:
            yield self._px[ticks]
            yield self._qty[lots]
        for _ in range(2 * (self._levels - len(levels))):
            yield ""

    def _trade(self, trade: Trade) -> tuple[int, str]:
        venue_us, local_us = self._times(trade)
        cells = f"{trade.trade_id},{SIDES[trade.aggressor]},{self._px[trade.px_ticks]},{self._qty[trade.qty_lots]}"
        return local_us, f"{self._market},{venue_us},{local_us},{cells}\n"

    def _ticker(self, told: Ticker) -> tuple[int, str]:
        venue_us, local_us = self._times(told)
        funding = "" if told.funding_ts_ns is None else str(self._us(told.funding_ts_ns))
        values = (told.funding_rate, told.predicted_rate, told.open_interest, told.last_px, told.index_px, told.mark_px)
        return local_us, f"{self._market},{venue_us},{local_us},{funding},{','.join(values)}\n"

    def _times(self, record: Depth | Trade | Ticker) -> tuple[int, int]:
        return self._us(record.venue_ts_ns), self._us(record.local_ts_ns)

    def _us(self, ts_ns: int) -> int:
        us, rest = divmod(ts_ns, 1000)
        if rest:
            self._count("below_1_us")
        return us

    def _count(self, reason: str) -> None:
        self._inexact[reason] = self._inexact.get(reason, 0) + 1

    def _named(self, kind: str, day: str) -> Path:
        venue, _, symbol = self._market.partition(",")
        return self._out / f"{venue}_{kind}_{day}_{symbol.replace('/', '-').replace(':', '-')}.csv.gz"


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")
