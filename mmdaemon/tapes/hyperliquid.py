"""A recording of a Hyperliquid perpetual: `orderbooks_SYM`, `trades_SYM` and `prices_SYM`, each `.csv.gz`.

Columns are those in `BOOKS`, `TRADES` and `PRICES`: local time in seconds, exchange time in milliseconds, 20 levels a
side; `prices` holds the changes of best bid and ask, a row each, and may be absent.

Order. By exchange time; at equal time trades, then the snapshot, then the change of the touch. The exchange stamps
blocks, and the books of a block are what its trades left behind. Local time is raised to the highest seen, and how
often is told: the three feeds arrive apart, so a reader that waits for one sees the others late.

The touch. Snapshots come every 540 ms, changes of the touch every 120 ms. Measured on the BTC recording, over the
first trade of each block and side (2,361): it prints at the touch of the last book strictly before it in 86.9 % where
only snapshots are read, and in 95.9 % with the changes. So both are told, and whoever plays them merges them
(`mmdaemon/tapes/playing.py`): what stays of the last snapshot is staler than the touch, by 270 ms in the mean. A change
that says what is known already is not told again; one that contradicts the snapshot of its own time is dropped.

Lag. The lag of 500-750 ms reported for this recording is that of snapshots alone, which is their cadence. With the
changes, and trades first, agreement is highest with no shift at all: 93 % when the book is taken 100 ms earlier, 80 %
when 100 ms later. So nothing is shifted, and there is no setting for it. For fills it means: queue and trade-through
at the touch may be believed; what stands deeper may have been cancelled up to half a second before.

Holes. What was printed while books were missing (a reconnect) is kept at its exchange time; trades older than the first
book are history that the venue sends on subscription, and are dropped: they would overlap a recording that ended just
before. There is neither funding nor mark price.
"""

import heapq
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median

from mmdaemon.core.types import E10, NS, Instrument, Side
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Trade
from mmdaemon.tapes.rows import BadRow, Refusals, TapeError, counting, exchange_ns, header, local_ns, table

LEVELS = 20
BOOKS = "timestamp,sequence,exchange_timestamp," + ",".join(
    f"bid_price_{i},bid_size_{i},ask_price_{i},ask_size_{i}" for i in range(LEVELS)
)
TRADES = "timestamp,price,size,side,trade_id,exchange_timestamp"
PRICES = "timestamp,price,size,side,exchange_timestamp"
KINDS = {BOOKS: "orderbooks", TRADES: "trades", PRICES: "prices"}
"""What a file holds, by its header; its name must begin with the same word."""
SUFFIX = ".csv.gz"
EXCHANGE_COLUMN = {BOOKS: 2, TRADES: 5, PRICES: 4}
STEPS_E10 = {"BTC": (E10, E10 // 100_000)}
"""Tick and lot by symbol: the venue's rules of the day, and what every price and size recorded is a multiple of."""
MIN_NOTIONAL_QUOTE = 10
HOLE_NS = 5 * NS
SIDES = {"buy": Side.BUY, "sell": Side.SELL}

Told = tuple[int, int, int, Record]
"""(exchange_ns, rank of the file, row, what it says): the first three order the tape and never tie."""


class HyperliquidTape:
    """A `Recording`. Opening reads every file through once, so a broken one is refused before anything trades on it.

    Raises:
        TapeError: a file is missing, empty, broken off or of other columns; the symbol's steps are not known.
    """

    def __init__(self, folder: Path, symbol: str) -> None:
        if symbol not in STEPS_E10:
            raise TapeError(
                f"{folder}: the recording is of {symbol}, whose tick and lot are not known here; "
                f"known are {', '.join(STEPS_E10)}: add it to STEPS_E10 of mmdaemon/tapes/hyperliquid.py"
            )
        tick_e10, lot_e10 = STEPS_E10[symbol]
        self._paths = {columns: folder / f"{kind}_{symbol}{SUFFIX}" for columns, kind in KINDS.items()}
        if not self._paths[PRICES].exists():
            del self._paths[PRICES]
        self._instrument = Instrument.of(
            venue="hyperliquid",
            symbol=symbol,
            quote="USDC",
            tick_e10=tick_e10,
            lot_e10=lot_e10,
            min_notional_e10=MIN_NOTIONAL_QUOTE * E10,
        )
        self._ticks = counting(tick_e10, "off_tick")
        self._lots = counting(lot_e10, "off_lot")
        self._refusals = Refusals()
        self._survey()

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def start_ts_ns(self) -> int:
        return self._start_ts_ns

    @property
    def end_ts_ns(self) -> int:
        return self._end_ts_ns

    @property
    def refusals(self) -> Refusals:
        return self._refusals

    def records(self) -> Iterator[Record]:
        """Lazy; each call plays from the start. Raises TapeError where a file has changed since it was opened."""
        refusals = self._refusals = Refusals()
        streams = [self._trades(refusals), self._books(refusals)]
        if PRICES in self._paths:
            streams.append(self._touches(refusals))
        touch: tuple[Levels, Levels] | None = None
        snapshot_ns = 0
        for at, _, row, record in heapq.merge(*streams):
            if isinstance(record, Depth):
                said = record.bids[:1], record.asks[:1]
                if record.kind is DepthKind.SNAPSHOT:
                    snapshot_ns = at
                elif touch is None:
                    refusals.add(self._paths[PRICES], row, "before_first_book", "nothing to put the touch on")
                    continue
                elif said == touch:
                    continue  # the snapshot said so already
                elif at == snapshot_ns:
                    refusals.add(self._paths[PRICES], row, "disagrees", "with the snapshot of the same time")
                    continue
                touch = said
            elif touch is None:
                refusals.add(self._paths[TRADES], row, "history", "a trade older than the first book")
                continue
            yield record

    def _trades(self, refusals: Refusals) -> Iterator[Told]:
        path = self._paths[TRADES]
        seen: set[str] = set()
        latest = 0
        for row, cells in table(path, TRADES, refusals):
            local_s, price, size, side_text, trade_id, exchange_ms = cells
            try:
                at, local = exchange_ns(exchange_ms), local_ns(local_s)
                if at < latest:
                    raise BadRow("out_of_order", f"exchange time {exchange_ms} is before that of an earlier row")
                if trade_id in seen:
                    raise BadRow("duplicate", f"trade id {trade_id} was there before")
                side = SIDES.get(side_text)
                if side is None:
                    raise BadRow("bad_side", f"{side_text!r} is neither buy nor sell")
                trade = Trade(at, local, self._ticks(price), self._lots(size), side, trade_id)
            except BadRow as bad:
                refusals.add(path, row, bad.reason, bad.detail)
                continue
            latest = at
            seen.add(trade_id)
            yield at, 0, row, trade

    def _books(self, refusals: Refusals) -> Iterator[Told]:
        path = self._paths[BOOKS]
        latest = sequence = 0
        for row, cells in table(path, BOOKS, refusals):
            try:
                at, local = exchange_ns(cells[2]), local_ns(cells[0])
                if not (cells[1].isascii() and cells[1].isdigit()):
                    raise BadRow("bad_number", f"sequence {cells[1]!r} is not a whole number")
                if int(cells[1]) == sequence:
                    raise BadRow("duplicate", f"sequence {sequence} was there before")
                if int(cells[1]) < sequence or at < latest:
                    raise BadRow("out_of_order", f"sequence {cells[1]} at {cells[2]} is before an earlier row")
                bids, asks = self._levels(cells)
            except BadRow as bad:
                refusals.add(path, row, bad.reason, bad.detail)
                continue
            latest, sequence = at, int(cells[1])
            yield at, 1, row, Depth(at, local, DepthKind.SNAPSHOT, bids, asks)

    def _levels(self, cells: list[str]) -> tuple[Levels, Levels]:
        ticks, lots = self._ticks, self._lots
        bids = tuple([(ticks(px), lots(size)) for px, size in zip(cells[3::4], cells[4::4], strict=True)])
        asks = tuple([(ticks(px), lots(size)) for px, size in zip(cells[5::4], cells[6::4], strict=True)])
        if bids[0][0] > asks[0][0]:
            raise BadRow("crossed", f"best bid {cells[3]} is above best ask {cells[5]}")
        if any(above[0] <= below[0] for above, below in pairwise(bids)):
            raise BadRow("unsorted", "bids do not fall")
        if any(below[0] >= above[0] for below, above in pairwise(asks)):
            raise BadRow("unsorted", "asks do not rise")
        return bids, asks

    def _touches(self, refusals: Refusals) -> Iterator[Told]:
        """The recorder writes a change as two rows of the same times, bid then ask."""
        path = self._paths[PRICES]
        latest = 0
        bid_row: tuple[int, list[str]] | None = None
        for row, cells in table(path, PRICES, refusals):
            if cells[3] == "bid":
                if bid_row is not None:
                    refusals.add(path, bid_row[0], "unpaired", "a bid without the ask of its change")
                bid_row = (row, cells)
                continue
            if bid_row is None or cells[3] != "ask" or cells[0] != bid_row[1][0] or cells[4] != bid_row[1][4]:
                refusals.add(path, row, "unpaired", f"side {cells[3]!r} does not follow the bid of the same times")
                continue
            (_, bid_cells), bid_row = bid_row, None
            try:
                at, local = exchange_ns(cells[4]), local_ns(cells[0])
                if at < latest:
                    raise BadRow("out_of_order", f"exchange time {cells[4]} is before that of an earlier row")
                bid = (self._ticks(bid_cells[1]), self._lots(bid_cells[2]))
                ask = (self._ticks(cells[1]), self._lots(cells[2]))
                if bid[0] > ask[0]:
                    raise BadRow("crossed", f"best bid {bid_cells[1]} is above best ask {cells[1]}")
            except BadRow as bad:
                refusals.add(path, row, bad.reason, bad.detail)
                continue
            latest = at
            yield at, 2, row, Depth(at, local, DepthKind.TOUCH, (bid,), (ask,))
        if bid_row is not None:
            refusals.add(path, bid_row[0], "unpaired", "a bid without the ask of its change")

    def _survey(self) -> None:
        """Read every file to its end: that it is whole, how long it is, and how late it came."""
        rows: dict[str, int] = {}
        offsets: list[int] = []
        book_times: list[int] = []
        last_ns = 0
        unused = Refusals()
        for columns, path in self._paths.items():
            kind = KINDS[columns]
            rows[kind] = 0
            for _, cells in table(path, columns, unused):
                rows[kind] += 1
                try:
                    at = exchange_ns(cells[EXCHANGE_COLUMN[columns]])
                    late = local_ns(cells[0]) - at
                except BadRow:
                    continue
                last_ns = max(last_ns, at)
                if columns == BOOKS:
                    book_times.append(at)
                if columns != TRADES:  # trades come in batches and, after a subscription, as history
                    offsets.append(late)
            if not rows[kind]:
                header(path)  # raises where there is not even that
                raise TapeError(f"{path}: no rows below the header; record it anew, or remove it")
        if not book_times:
            raise TapeError(f"{self._paths[BOOKS]}: no row has a readable local and exchange time; record it anew")
        self._start_ts_ns, self._end_ts_ns = min(book_times), last_ns
        holes = [(later - earlier) for earlier, later in pairwise(book_times) if later - earlier > HOLE_NS]
        without = "" if PRICES in self._paths else "; no file of touch changes, so the book is that of the snapshots"
        self._facts = Facts(
            instrument=self._instrument,
            steps_from="assumed, and every row is held to them",
            minimum_from="the venue's rule, not in the recording",
            lag_from="none corrected; at equal exchange time trades come before books",
            provenance={
                "rows": ", ".join(f"{count:,} {kind}" for kind, count in rows.items()) + without,
                "holes in the book": f"{len(holes)} over 5 s, the longest {max(holes, default=0) / NS:.1f} s",
                "local minus exchange clock": f"{min(offsets) / 1e6:.0f} ms least, {median(offsets) / 1e6:.0f} ms "
                "median, of books and touch changes; feed latency and clock offset together, not corrected",
                "funding, mark": "not recorded",
            },
        )
