"""A recording in the downloadable CSV files of Tardis.dev: one market, one or more days, a file a day and data type.

Files are recognised by their header, whatever they are called: `incremental_book_L2` or `book_snapshot_N` (one is
needed), `trades` and `derivative_ticker`. Where both kinds of book are there the updates are read, of several N the
largest, and what was left aside is told.

Messages. Rows that stand together with the same times and `is_snapshot` are one message. A snapshot replaces the book,
also behind another snapshot, as in Tardis's own client: feeds that send nothing else (Hyperliquid) are so recorded.
(Their FAQ resets at the first row of a snapshot only; that differs where one is split into messages, and of those only
one side behind the other is put together.) Updates before the first snapshot are dropped.

Order. Files are in the order of `local_timestamp`; a row more than 5 s behind the latest is refused, and the file with
it. Records are in that of exchange time, which falls now and then: such a record is given the latest seen in its data
type, since an update must not be lost or change places. One stamped over a minute after its receipt gets its time of
receipt, and a trade over 5 s behind is history and dropped. How often times were changed is in `restamped`: those are
the only values that do not come back from a round trip. At equal time trades come first, because the book shows what
they left.

Times are as Tardis has them. For Binance futures that is when a message was sent, not when the match was, says the
converter of hftbacktest; so feed latency is a little more than the files show.

Amounts are taken as base currency, which linear perpetuals on most exchanges have; where they are contracts or quote
the market is refused by name. Prices and amounts are numbers as JavaScript prints them: no trailing zeros.

Steps that were not given are inferred from the first rows. A price between two inferred ticks ends the tape with that
row: it is damaged, or every decision so far was made on a wrong tick. Between two given ones the row is dropped.
"""

import heapq
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec

from mmdaemon.core.types import NS
from mmdaemon.tapes.records import Facts, Record, Trade
from mmdaemon.tapes.rows import DECIMAL, BadRow, Refusals, TapeError, counted
from mmdaemon.tapes.steps import Known, Steps, known, refuse_off_inferred
from mmdaemon.tapes.tardis_csv import (
    KINDS,
    SNAPSHOTS,
    Counted,
    IncrementalBook,
    Market,
    blocks,
    header,
    kind_of,
    moment_ns,
    snapshots,
    tickers,
    trades,
)
from mmdaemon.tapes.tardis_writer import BOOKS_FROM, write

__all__ = ["TardisTape", "write"]

INCREMENTAL, TRADES, TICKER = KINDS.values()
SURVEYED = 500_000
"""Rows of the first file of each data type that are looked at before anything is played."""
GLANCED = 20_000
"""The same, of each later file."""
FUTURE_NS = 60 * NS
LATE_NS = 5 * NS
DAY_NS = 86_400 * NS
FUNDING_INTERVAL_S = 28_800

NOT_BASE = {
    "binance-delivery": ("", "contracts of 10 or 100 USD"),
    "bitmex": ("", "contracts"),
    "bybit": (r"USD(\D\d\d)?$", "quote currency"),
    "crypto-facilities": (r"^(PI|FI|pi|fi)_", "quote currency"),
    "delta": ("", "contracts"),
    "deribit": (r"^(BTC|ETH)-", "quote currency"),
    "gate-io-futures": ("", "contracts"),
    "huobi-dm": ("", "contracts"),
    "huobi-dm-swap": ("", "contracts"),
    "huobi-dm-linear-swap": ("", "contracts"),
    "kucoin-futures": ("", "contracts"),
    "mexc-futures": ("", "contracts"),
    "okex-futures": ("", "contracts"),
    "okex-swap": ("", "contracts"),
    "phemex": (r"^[A-Z]+USD$", "contracts"),
}
"""By exchange: which symbols (a pattern) have amounts that are not base currency, and what they are."""
QUOTED_IN = {"hyperliquid": "USDC"}
"""Exchanges whose symbols do not name the quote currency."""


class Glance(msgspec.Struct):
    """What the first rows of a file say."""

    path: Path
    exchange: str = ""
    symbol: str = ""
    first_local_ns: int = 0
    rows: int = 0
    late_ns: int | None = None
    """The least of local less exchange time, of rows that are not stamped in the future."""
    falls: int = 0
    furthest_ns: int = 0
    """How far exchange time fell at most."""
    prices: set[str] = set()
    sizes: set[str] = set()
    fundings: set[int] = set()


class TardisTape:
    """A `Recording`. Opening reads the first rows of each file, to the first record.

    Raises:
        TapeError: a file is missing, empty, broken off or of other columns; there is no book; files are of different
            markets, or twice the same; amounts are not in base currency; steps are neither given nor to be inferred.
    """

    def __init__(self, paths: Sequence[Path], steps: Steps) -> None:
        kinds = _by_kind(paths)
        self._books, aside = _choose_book(kinds)
        glances = {kind: _glances(kind, files) for kind, files in kinds.items()}
        _refuse_mixture(glances, self._books, aside)
        first = glances[self._books][0]
        self._exchange, self._symbol = first.exchange, first.symbol
        self._files = {kind: [glance.path for glance in told] for kind, told in glances.items()}
        what = _steps(glances, steps)
        self._inferred = what.inferred
        self._facts = _learn(glances, self._books, aside, what)
        self._refusals = Refusals()
        self.restamped: dict[str, int] = {}
        """Of the latest playing so far: `raised` to the latest exchange time, `future` set to the time of receipt."""
        with closing(self.records()) as records:
            record = next(records, None)
        if record is None:
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in self._refusals.counts.items())
            raise TapeError(
                f"{self._files[self._books][0]}: no record in any file; dropped: {dropped or 'nothing'}; "
                "download it again"
            )
        self._start_ts_ns = record.venue_ts_ns

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def start_ts_ns(self) -> int:
        return self._start_ts_ns

    @property
    def end_ts_ns(self) -> int | None:
        """Not known: it stands at the end of compressed files."""
        return None

    @property
    def refusals(self) -> Refusals:
        return self._refusals

    def records(self) -> Generator[Record]:
        """As `Recording`. Raises TapeError also where rows are not in order, or an inferred step proves wrong."""
        refusals = self._refusals = Refusals()
        self.restamped = {}
        instrument = self._facts.instrument
        market = Market(
            self._exchange,
            self._symbol,
            Counted(instrument.tick_e10, "off_tick"),
            Counted(instrument.lot_e10, "off_lot"),
        )
        readers: dict[str, Read] = {
            TRADES: partial(trades, market=market, refusals=refusals),
            INCREMENTAL: IncrementalBook(market, refusals).read,
            TICKER: partial(tickers, market=market, refusals=refusals),
        }
        readers[self._books] = readers.get(self._books) or partial(snapshots, market=market, refusals=refusals)
        ranks = (TRADES, self._books, TICKER)
        streams = [self._stream(rank, kind, readers[kind]) for rank, kind in enumerate(ranks) if kind in self._files]
        for _, _, _, record in heapq.merge(*streams):
            yield record
        refuse_off_inferred(self._inferred, refusals)

    def _stream(self, rank: int, kind: str, read: "Read") -> Iterator[tuple[int, int, int, Record]]:
        """The records of a data type by exchange time: `(venue_ts_ns, rank, number, record)`, which never tie."""
        latest = latest_local = number = 0
        for path in self._files[kind]:
            for row, record in read(path):
                if self._refusals.counts:
                    refuse_off_inferred(self._inferred, self._refusals)
                local_ns = record.local_ts_ns
                if local_ns < latest_local - LATE_NS:
                    raise TapeError(
                        f"{path} row {row}: local_timestamp is {(latest_local - local_ns) / NS:.0f} s before that of "
                        f"an earlier row; Tardis orders {kind} by it, so rows are out of order or days overlap: "
                        "take out the row that is wrong, or the file whose day is in another, and play it again"
                    )
                latest_local = max(latest_local, local_ns)
                at = record.venue_ts_ns
                if at > local_ns + FUTURE_NS:
                    at = self._count("future", local_ns)
                if at < latest:
                    if isinstance(record, Trade) and latest - at > LATE_NS:
                        self._refusals.add(path, row, "late", f"a trade {(latest - at) / NS:.1f} s behind the latest")
                        continue
                    at = self._count("raised", latest)
                latest = at
                number += 1
                same = at == record.venue_ts_ns
                yield at, rank, number, record if same else msgspec.structs.replace(record, venue_ts_ns=at)

    def _count(self, what: str, at: int) -> int:
        self.restamped[what] = self.restamped.get(what, 0) + 1
        return at


Read = Callable[[Path], Iterator[tuple[int, Record]]]


def _by_kind(paths: Sequence[Path]) -> dict[str, list[Path]]:
    kinds: dict[str, list[Path]] = {}
    for path in paths:
        columns = header(path)
        kind = kind_of(columns)
        if not columns:
            raise TapeError(f"{path}: the file is empty; download it again, or leave it out")
        if kind is None:
            raise TapeError(
                f"{path} row 1: columns are {columns[:120]!r}; of Tardis, read here are {', '.join(KINDS.values())} "
                f"and {SNAPSHOTS}N: leave it out"
            )
        kinds.setdefault(kind, []).append(path)
    return kinds


def _choose_book(kinds: dict[str, list[Path]]) -> tuple[str, list[Glance]]:
    """The data type that the book is read from, and the files of others, which are taken out of `kinds`."""
    depths = {kind: int(kind.removeprefix(SNAPSHOTS)) for kind in kinds if kind.startswith(SNAPSHOTS)}
    if INCREMENTAL in kinds:
        books = INCREMENTAL
    elif depths:
        books = max(depths, key=depths.__getitem__)
    else:
        files = [path for paths in kinds.values() for path in paths]
        raise TapeError(
            f"{files[0] if files else 'no file'}: no book, and a tape needs one; add files of {INCREMENTAL} or "
            f"{SNAPSHOTS}N of the same market"
        )
    return books, [glance for kind in depths if kind != books for glance in _glances(kind, kinds.pop(kind), 1)]


def _refuse_mixture(glances: dict[str, list[Glance]], books: str, aside: list[Glance]) -> None:
    everything = [*(glance for told in glances.values() for glance in told), *aside]
    first = everything[0]
    for other in everything:
        if (other.exchange, other.symbol) != (first.exchange, first.symbol):
            raise TapeError(
                f"{first.path} is of {first.exchange} {first.symbol}, {other.path} of {other.exchange} {other.symbol}; "
                "a tape holds one market: give the files of one"
            )
    for kind, told in glances.items():
        for one, other in pairwise(told):
            if one.first_local_ns == other.first_local_ns:
                raise TapeError(f"{one.path} and {other.path}: the same {kind} twice; leave one out")
    days = {glance.first_local_ns // DAY_NS for glance in glances[books]}
    for glance in aside:
        if glance.first_local_ns // DAY_NS not in days:
            raise TapeError(f"{glance.path}: of a day without {books}, of which there are files; give one kind of book")
    symbols, what = NOT_BASE.get(first.exchange, (None, ""))
    if symbols is not None and re.search(symbols, first.symbol):
        raise TapeError(
            f"{first.path}: amounts of {first.symbol} at {first.exchange} are {what}, not base currency; "
            "only linear markets with amounts in base currency are read"
        )


def _steps(glances: dict[str, list[Glance]], given: Steps) -> Known:
    everything = [glance for told in glances.values() for glance in told]
    first = everything[0]
    prices = {text for glance in everything for text in glance.prices}
    sizes = {text for glance in everything for text in glance.sizes}
    said = Steps(venue=first.exchange, symbol=first.symbol, quote=QUOTED_IN.get(first.exchange))
    return known(str(first.path), given, said, filter(_is_decimal, prices), filter(_is_decimal, sizes))


def _learn(glances: dict[str, list[Glance]], books: str, aside: list[Glance], what: Known) -> Facts:
    everything = [glance for told in glances.values() for glance in told]
    first = everything[0]
    late_ns = min((glance.late_ns for glance in everything if glance.late_ns is not None), default=None)
    if late_ns is None:
        raise TapeError(
            f"{first.path}: no row has a readable timestamp within {FUTURE_NS // NS} s of its local_timestamp; "
            "download it again"
        )
    rows = f"{sum(glance.rows for glance in everything):,} rows"
    falls, furthest_ns = sum(g.falls for g in everything), max(g.furthest_ns for g in everything)
    fundings = sorted({ns for glance in everything for ns in glance.fundings})
    intervals = [(later - earlier) // NS for earlier, later in pairwise(fundings)]
    return Facts(
        instrument=what.instrument,
        steps_from=what.steps_from,
        minimum_from=what.minimum_from,
        clock_shift_ns=max(0, -late_ns),
        clock_from=f"local clock {-late_ns / 1e6:.1f} ms behind at most, in the first {rows}"
        if late_ns < 0
        else "as recorded, not corrected",
        funding_interval_s=min(intervals, default=FUNDING_INTERVAL_S) or FUNDING_INTERVAL_S,
        provenance={
            "files": ", ".join(glance.path.name for glance in everything),
            BOOKS_FROM: books,
            "local minus exchange clock": f"{late_ns / 1e6:.1f} ms least, in the first {rows}",
            "exchange time": f"fell {counted(falls, 'time')} in the first {rows}, by {furthest_ns / 1e6:,.1f} ms at "
            "most: raised"
            if falls
            else f"never fell in the first {rows}",
            "amounts": "taken as base currency",
        }
        | ({} if TRADES in glances else {"trades": "not given; only the book can fill an order"})
        | ({"left aside": ", ".join(glance.path.name for glance in aside)} if aside else {}),
    )


def _is_decimal(text: str) -> bool:
    return DECIMAL.fullmatch(text) is not None


def _glances(kind: str, files: list[Path], rows: int | None = None) -> list[Glance]:
    """What the first rows of each file say, in the order of local time. Raises TapeError where there are none."""
    if rows is None:
        rows = SURVEYED // 20 if kind.startswith(SNAPSHOTS) else SURVEYED  # a row of those is a whole book
    told = [_glance(kind, path, rows if number == 0 else min(rows, GLANCED)) for number, path in enumerate(files)]
    return sorted(told, key=lambda glance: glance.first_local_ns)


def _glance(kind: str, path: Path, rows: int) -> Glance:
    told = Glance(path)
    latest = ("", "")
    latest_ns = 0
    with closing(blocks(path, Refusals())) as blocks_:
        for first, lines in blocks_:
            for line in lines[first == 1 :][: rows - told.rows]:
                told.rows += 1
                cells = line.split(",")
                try:
                    at_ns, local_ns = moment_ns(cells[2]), moment_ns(cells[3])
                except (BadRow, IndexError):
                    continue
                if len(cells) < 8:
                    continue
                if not told.exchange:
                    told.exchange, told.symbol, told.first_local_ns = cells[0], cells[1], local_ns
                if kind == TICKER:
                    with suppress(BadRow):
                        told.fundings.add(moment_ns(cells[4]))
                elif kind.startswith(SNAPSHOTS):
                    told.prices.update(cells[4::2])
                    told.sizes.update(cells[5::2])
                else:
                    told.prices.add(cells[6])
                    told.sizes.add(cells[7])
                if (cells[2], cells[3]) != latest:
                    latest = cells[2], cells[3]
                    late_ns = local_ns - at_ns
                    if late_ns >= -FUTURE_NS:
                        told.late_ns = late_ns if told.late_ns is None else min(told.late_ns, late_ns)
                        told.falls += at_ns < latest_ns
                        told.furthest_ns = max(told.furthest_ns, latest_ns - at_ns)
                        latest_ns = max(latest_ns, at_ns)
            if told.rows >= rows:
                break
    if not told.exchange:
        raise TapeError(f"{path}: no row with times below the header; download it again, or leave it out")
    return told
