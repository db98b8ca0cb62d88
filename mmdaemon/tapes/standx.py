"""A recording of a StandX perpetual: `orderbook_SYM_DATE_HH.parquet` and `trades_SYM_DATE_HH.parquet`, a pair an hour.

Columns are those in `COLUMNS` of `standx_hours.py`: exchange time `timestamp`, local time `received_at`, 20 levels a
side. The figures here are of the day recorded on 2026-01-06, BTC-USD: 522,940 snapshots, 165,660 trades.

Distinct. Every snapshot is written twice: 261,470 rows have the times and levels of the row before ("repeat"). Of the
rest, 14,574 have the 20 levels of the book before them at a later time ("unchanged"). What is left are 246,896 books:
a book is distinct if any price or size differs from the book before it, hour edges included. After more than 3 s
without a book, an equal one is news and stays (that day there is none). No trade is written twice.

Locked. Books are grouped by 0.1, prints are in 0.01, and both sides are rounded down: an ask of 93869.8 stands for
asks of 93869.80 to 93869.89, and a bid likewise. On sweeps (trades of one time that walk one way through several
prices): prints rounded down and summed take exactly the size of the touch before them in 44 %, rounded to the nearest
in 23 %, rounded up in 11 %. So bid = ask in 46 % of books, which are passed on as they are: true prices of either side
are up to 0.09 above what the book says. Bid above ask does not occur, and would be dropped ("crossed").

Lag. None is corrected, because in exchange time there is none. The venue publishes every 251 ms, and stamps the trades
of a cycle at its end: 44 % of them with the very time of a book, 46 % less than 6 ms before one. The 250 ms that were
reported for this recording are that cycle: the book before a trade is a cycle old. Measured on the 13,882 sweeps, by
how much the books are taken earlier:

    taken earlier by, ms           -500  -250     0    +1    +2    +5   +10  +250  +500
    starts at the touch, %         60.5  72.0  72.1  46.8  26.9  17.7  16.0  16.0  18.2
    takes the touch's size, %      27.6  43.6  43.9  28.3  13.7   6.9   5.6   5.6   1.7

and on the first trade of each time (69,622), prints rounded down, where either touch counts:

    prints at a touch, %           82.6  91.3  91.5  89.8  86.4  84.6  84.2  84.2  76.9
    mean distance to the mid       1.14  0.90  0.90  0.94  1.04  1.09  1.11  1.11  1.29

alike in each third of the day. The book of the same time is what its trades left: any earlier, it would show trades
before they are told. So nothing is shifted, and at equal time trades come before books. By local time the book arrives
131 ms after the trades of its cycle (median; 95 % within 280 ms), and local times are left as they are. For fills it
means: of what happened within a cycle, the order is not known.

Aggressor. Every trade says SELL, and is_buyer_taker false, so none is told. Where both sides occur they are taken,
unless the two columns contradict each other. What is not told is inferred when the tape is played, against prints
rounded down as the book is: a print of 93869.53 at a bid of 93869.5 was sold.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from mmdaemon.core.types import E10, NS, Instrument, Side
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Trade
from mmdaemon.tapes.rows import Refusals, TapeError, counted
from mmdaemon.tapes.standx_hours import (
    BOOKS,
    GAP_NS,
    HOUR_NS,
    LEVELS,
    LOTS_PER_ONE,
    TICKS_PER_ONE,
    TRADES,
    Books,
    Hour,
    Ints,
    Survey,
    Trades,
    books_of,
    in_order,
    trades_of,
    utc,
)

CHUNK = 256
"""Books made into Python objects at once: more is slower (memory), fewer too (calls)."""

_NAME = re.compile(rf"({BOOKS}|{TRADES})_(.+)_([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})_([0-9]{{2}})\.parquet", re.ASCII)
_AGGRESSORS = (None, Side.BUY, Side.SELL)
"""By `Trades.aggressor`."""


class StandxTape:
    """A `Recording`. Opening reads the times, symbols and sides of every file, and the first and last hour whole.

    `paths` are files, or folders of them: any hours of one symbol, as long as books and trades come in pairs.

    Raises:
        TapeError: nothing there, a file without its pair, of another name, symbol or columns, empty, broken off, or
            no row that can be used.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        symbol, self._hours = _paired(paths)
        self._refusals = Refusals()
        survey = Survey(symbol, self._hours)
        self._sided = survey.sided
        self._facts = _facts(survey, self._hours)
        self._start_ts_ns = min(self._times(self._hours))
        self._end_ts_ns = max(self._times(self._hours[::-1]))

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def start_ts_ns(self) -> int:
        return self._start_ts_ns

    @property
    def end_ts_ns(self) -> int | None:
        return self._end_ts_ns

    @property
    def refusals(self) -> Refusals:
        return self._refusals

    def records(self) -> Iterator[Record]:
        """As `Recording.records`. Holds an hour in memory at a time (and the one before), as arrays."""
        refusals = self._refusals = Refusals()
        before: Books | None = None
        for hour in self._hours:
            books, trades = books_of(hour, refusals, before), trades_of(hour, refusals, self._sided)
            before = books if len(books.venue_ns) else before
            next_book, next_trade = _depths(books).__next__, _prints(trades).__next__
            for is_book in in_order(books, trades):
                yield next_book() if is_book else next_trade()

    def _times(self, hours: list[Hour]) -> list[int]:
        """First and last times of books and of trades, in the first of `hours` that has any to tell."""
        refusals = Refusals()
        for hour in hours:
            kinds = books_of(hour, refusals, None).venue_ns, trades_of(hour, refusals, self._sided).venue_ns
            if times := [int(kind[i]) for kind in kinds if len(kind) for i in (0, -1)]:
                return times
        raise TapeError(f"{hours[0].books.parent}: no row can be used; {'; '.join(refusals.described)}; record it anew")


def _paired(paths: Sequence[Path]) -> tuple[str, list[Hour]]:
    """The symbol and the hours of these files, in order."""
    found: dict[tuple[str, int], dict[str, Path]] = {}
    for path in paths:
        if not path.exists():
            raise TapeError(f"{path}: there is no such file or folder; check the path")
        named = [(each, _NAME.fullmatch(each.name)) for each in (sorted(path.iterdir()) if path.is_dir() else [path])]
        for each, match in named:
            if match is None:
                continue
            kind, symbol, date, hour = match.groups()
            try:
                start = datetime.strptime(f"{date} {hour} +0000", "%Y-%m-%d %H %z")
            except ValueError as error:
                raise TapeError(f"{each}: {date}_{hour} in its name is no hour of a day; rename it") from error
            pair = found.setdefault((symbol, int(start.timestamp()) * NS), {})
            if kind in pair:
                raise TapeError(f"{each}: that hour was given before, as {pair[kind]}; leave one out")
            pair[kind] = each
        if all(match is None for _, match in named):
            raise TapeError(
                f"{path}: not, and not a folder of, orderbook_SYM_YYYY-MM-DD_HH.parquet and its trades_...; "
                "name what is"
            )
    if not found:
        raise TapeError("no file of a StandX recording was given; name its files, or their folder")
    if len(symbols := sorted({symbol for symbol, _ in found})) > 1:
        raise TapeError(f"recordings of {', '.join(symbols)} together; name the files of one symbol")
    missing = [
        (each.parent / each.name.replace(have, lack, 1)).as_posix()
        for _, pair in sorted(found.items())
        for have, lack in ((BOOKS, TRADES), (TRADES, BOOKS))
        if lack not in pair
        for each in [pair[have]]
    ]
    if missing:
        raise TapeError(f"missing: {', '.join(missing)}; an hour needs both books and trades, or leave both out")
    return symbols[0], [Hour(start, pair[BOOKS], pair[TRADES]) for (_, start), pair in sorted(found.items())]


def _facts(survey: Survey, hours: list[Hour]) -> Facts:
    starts = {hour.start_ns for hour in hours}
    without = [ns for ns in range(min(starts), max(starts), HOUR_NS) if ns not in starts]
    shift_ns = max(-survey.least_ns, 0)
    return Facts(
        instrument=Instrument.of(
            venue="standx",
            symbol=survey.symbol,
            quote="DUSD",
            tick_e10=E10 // TICKS_PER_ONE,
            lot_e10=E10 // LOTS_PER_ONE,
        ),
        steps_from="inferred: prints are in 0.01 (books in 0.1), sizes in 0.0001; every row is held to them",
        minimum_from="assumed: one lot, as the smallest trades and levels, and no least value; not in the recording",
        clock_shift_ns=shift_ns,
        clock_from=f"local minus exchange clock {survey.least_ns / 1e6:.0f} ms least, {survey.median_ns / 1e6:.0f} ms "
        + ("median: raised until the least is 0" if shift_ns else "median: feed latency, not corrected"),
        lag_from="none corrected: measured on 2026-01-06, books show the trades stamped up to their own time (the "
        "250 ms reported are the cycle of publication); at equal time trades come before books",
        book_step_ticks=TICKS_PER_ONE // 10,
        provenance={
            "market": f"recorded at standx, {survey.symbol} perpetual",
            "from": utc(survey.start_ns),
            "to": utc(survey.end_ns),
            "rows": f"{counted(survey.books, 'snapshot')} of {LEVELS} levels, {counted(survey.trades, 'trade')}, "
            f"of {counted(len(hours), 'hour')}",
            "hours missing in between": ", ".join(utc(ns) for ns in without) or "none",
            "gaps": f"{survey.gaps:,} over {GAP_NS // NS} s without a book, {survey.gap_share:.1%} of the time, the "
            f"longest {survey.gap_longest_ns / NS:,.1f} s",
            "repeats": f"{counted(survey.repeats, 'snapshot')} stamped as the row before; dropped where all else is "
            "equal too, as are books equal to the one before them",
            "locked books": f"{survey.locked:.1%} have bid = ask, both being rounded down to 0.1; passed on as is",
            "aggressor": "as told"
            if survey.sided
            else f"not told: every trade says {', '.join(survey.sides)}, so it is to be inferred",
            "quote": "DUSD, known of the venue, not in the recording",
            "funding, mark": "not recorded; an interval of 8 h is assumed",
        },
    )


# --- records ----------------------------------------------------------------------------------------------------------


def _depths(books: Books) -> Iterator[Depth]:
    snapshot = DepthKind.SNAPSHOT
    for start in range(0, len(books.venue_ns), CHUNK):
        part = slice(start, start + CHUNK)
        bids, bid_lots, asks, ask_lots = (side[part] for side in books.sides)
        venue, local = books.venue_ns[part].tolist(), books.local_ns[part].tolist()
        for at, heard, bid_side, ask_side in zip(
            venue, local, _levels(bids, bid_lots), _levels(asks, ask_lots), strict=True
        ):
            yield Depth(at, heard, snapshot, bid_side, ask_side)


def _levels(ticks: Ints, lots: Ints) -> Iterator[Levels]:
    """A tuple of 20 pairs for each row. The quickest of five ways measured: one run of pairs, taken by twenties."""
    pairs = zip(ticks.ravel().tolist(), lots.ravel().tolist(), strict=True)
    return zip(*[pairs] * LEVELS, strict=True)


def _prints(trades: Trades) -> Iterator[Trade]:
    venue, local = trades.venue_ns.tolist(), trades.local_ns.tolist()
    sides: list[int] = trades.aggressor.tolist()
    for at, heard, ticks, lots, side in zip(
        venue, local, trades.px_ticks.tolist(), trades.qty_lots.tolist(), sides, strict=True
    ):
        yield Trade(at, heard, ticks, lots, _AGGRESSORS[side])
