"""What cannot be in a tape of ours, looked for a batch of rows at a time, and the digest of the rows looked at.

Written and read files go through the same `Checks`. None of it depends on how rows are batched.
"""

from typing import NamedTuple, NoReturn
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mmdaemon.tapes.rows import LATEST_NS

KINDS = ("snapshot", "delta", "touch", "trade", "ticker")
SNAPSHOT, DELTA, TOUCH, TRADE, TICKER = range(len(KINDS))
Ints = NDArray[np.int64]
_Mask = NDArray[np.bool_]


class Columns(NamedTuple):
    """A batch of n records by column. `*_ends` are n + 1 offsets into the levels of a side; absent integers are 0."""

    kind: Ints
    venue_ts_ns: Ints
    local_ts_ns: Ints
    bid_ends: Ints
    bid_px: Ints
    bid_qty: Ints
    ask_ends: Ints
    ask_px: Ints
    ask_qty: Ints
    flags: Ints
    """1 for `asks_first`, 2 for `more`."""
    px: Ints
    qty: Ints
    aggressor: Ints
    """A `Side`, or 0."""
    trade_ids: list[str]
    """Of the trades, in their order; what follows, of the tickers."""
    funding_ts_ns: list[int | None]
    texts: list[list[str]]


class Impossible(Exception):
    """A row (0 is the first of the tape) that cannot be."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(f"row {row}: {why}")
        self.row = row
        self.why = why


class Checks:
    """Over all batches of one tape, in order. `add` raises Impossible for the first reason found in a batch."""

    def __init__(self, book_lag_ns: int) -> None:
        self._lag_ns = book_lag_ns
        self._rows = self._latest_ns = 0
        self._sums: dict[str, int] = {}

    @property
    def latest_ns(self) -> int:
        """Corrected venue time of the last row so far."""
        return self._latest_ns

    def add(self, columns: Columns) -> None:
        kind = columns.kind
        if not len(kind):
            return
        self._refuse((kind < SNAPSHOT) | (kind > TICKER), f"its kind is none of {', '.join(KINDS)}")
        for of in (columns.venue_ts_ns, columns.local_ts_ns):
            self._refuse((of <= 0) | (of >= LATEST_NS), "a time is not between 1970 and 2200")
        for ticker, funding_ns in zip(np.flatnonzero(kind == TICKER), columns.funding_ts_ns, strict=True):
            if funding_ns is not None and not 0 < funding_ns < LATEST_NS:
                self.refuse(int(ticker), "the next settlement is not between 1970 and 2200")
        at = columns.venue_ts_ns - np.where(kind <= TOUCH, self._lag_ns, 0)
        before = np.concatenate(([self._latest_ns], at[:-1]))
        self._refuse(at < before, "its corrected venue time is before that of the row above")
        bids, bid_bad = self._side(columns, columns.bid_ends, columns.bid_px, columns.bid_qty, falling=True)
        asks, ask_bad = self._side(columns, columns.ask_ends, columns.ask_px, columns.ask_qty, falling=False)
        for name, of_bids in bid_bad.items():
            self._refuse(of_bids | ask_bad[name], name)
        count_bids, count_asks = np.diff(columns.bid_ends), np.diff(columns.ask_ends)
        self._refuse((kind == TOUCH) & ((count_bids > 1) | (count_asks > 1)), "a touch has more than one level a side")
        is_told = (kind == SNAPSHOT) | (kind == TOUCH)
        self._refuse(
            is_told & (bids > asks) & (count_bids > 0) & (count_asks > 0), "the best bid is above the best ask"
        )
        self._refuse((kind > TOUCH) & (count_bids + count_asks > 0), "a trade or ticker has no levels")
        trade = kind == TRADE
        self._refuse(trade & ((columns.px <= 0) | (columns.qty <= 0)), "a trade's price and size must be positive")
        self._refuse(trade & (np.abs(columns.aggressor) > 1), "an aggressor is buy, sell or not said")
        self._sum(columns, count_bids, count_asks)
        self._latest_ns = int(at[-1])
        self._rows += len(kind)

    def digest(self) -> str:
        """CRC-32 of each column's values, and of those sums."""
        return f"{crc32(repr(sorted(self._sums.items())).encode()):08x}-{self._rows}"

    def refuse(self, row: int, why: str) -> NoReturn:
        """Raise for a row of the batch that comes next."""
        raise Impossible(self._rows + row, why)

    def _side(
        self, columns: Columns, ends: Ints, px: Ints, qty: Ints, *, falling: bool
    ) -> tuple[Ints, dict[str, _Mask]]:
        """Best price of each row (0: none), and what is wrong with its levels."""
        rows = len(columns.kind)
        row_of = np.repeat(np.arange(rows), np.diff(ends))
        kind_of = columns.kind[row_of]
        best = np.zeros(rows, dtype=np.int64)
        has = np.diff(ends) > 0
        best[has] = px[ends[:-1][has]]

        def rows_with(bad: _Mask) -> _Mask:
            found = np.zeros(rows, dtype=np.bool_)
            found[row_of[bad]] = True
            return found

        steps = np.diff(px)
        wrong = np.zeros(len(px), dtype=np.bool_)
        wrong[1:] = ((steps >= 0) if falling else (steps <= 0)) & (row_of[1:] == row_of[:-1])
        return best, {
            "a price is not positive": rows_with(px <= 0),
            "a size is negative": rows_with(qty < 0),
            "a level of a snapshot or touch is empty": rows_with((qty == 0) & (kind_of != DELTA)),
            "the levels of a snapshot are not in order, best first": rows_with(wrong & (kind_of == SNAPSHOT)),
        }

    def _refuse(self, bad: _Mask, why: str) -> None:
        if bad.any():
            self.refuse(int(bad.argmax()), why)

    def _sum(self, columns: Columns, count_bids: Ints, count_asks: Ints) -> None:
        counted = {"bid_ends": count_bids, "ask_ends": count_asks}  # offsets depend on the batch
        for name in Columns._fields[: Columns._fields.index("trade_ids")]:
            values: Ints = counted[name] if name in counted else getattr(columns, name)
            self._add(name, values.tobytes())
        self._add_texts("trade_ids", columns.trade_ids)
        self._add_texts("funding_ts_ns", [str(value) for value in columns.funding_ts_ns])
        for number, texts in enumerate(columns.texts):
            self._add_texts(f"text {number}", texts)

    def _add_texts(self, name: str, texts: list[str]) -> None:
        self._add(name, "".join(f"{len(text)}:{text}" for text in texts).encode())

    def _add(self, name: str, data: bytes) -> None:
        self._sums[name] = crc32(data, self._sums.get(name, 0))
