"""Between records, their columns, and Arrow: what the bytes of our Parquet file hold, and nothing of what they mean."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from mmdaemon.core.types import Side
from mmdaemon.tapes.checks import DELTA, KINDS, SNAPSHOT, TICKER, TOUCH, TRADE, Checks, Columns, Ints
from mmdaemon.tapes.records import Depth, DepthKind, Levels, Record, Ticker, Trade

TEXTS = ("funding_rate", "predicted_rate", "open_interest", "last_px", "index_px", "mark_px")
CODES = {DepthKind.SNAPSHOT: SNAPSHOT, DepthKind.DELTA: DELTA, DepthKind.TOUCH: TOUCH}
DEPTHS = {code: kind for kind, code in CODES.items()}
SIDES = {0: None, 1: Side.BUY, -1: Side.SELL}
_WORD = pa.dictionary(pa.int32(), pa.string())
_LEVELS = pa.list_(pa.field("element", pa.int64(), nullable=False))
SCHEMA = pa.schema(
    [
        pa.field("kind", _WORD, nullable=False),
        pa.field("venue_ts_ns", pa.int64(), nullable=False),
        pa.field("local_ts_ns", pa.int64(), nullable=False),
        *[
            pa.field(f"{side}_{of}", _LEVELS, nullable=False)
            for side in ("bid", "ask")
            for of in ("px_ticks", "qty_lots")
        ],
        pa.field("asks_first", pa.bool_(), nullable=False),
        pa.field("more", pa.bool_(), nullable=False),
        pa.field("px_ticks", pa.int64()),
        pa.field("qty_lots", pa.int64()),
        pa.field("aggressor", _WORD),
        pa.field("trade_id", pa.string()),
        pa.field("funding_ts_ns", pa.int64()),
        *[pa.field(name, pa.string()) for name in TEXTS],
    ]
)
_arrow: Any = pa
"""Its type stubs know neither masks nor typed lists."""


def decoded(batch: pa.RecordBatch, checks: Checks) -> Columns:
    read: Any = batch

    def ints(name: str) -> Ints:
        return read.column(name).fill_null(0).to_numpy(zero_copy_only=False)

    def flags(name: str) -> Ints:
        return read.column(name).to_numpy(zero_copy_only=False).astype(np.int64)

    def levels(name: str) -> tuple[Ints, Ints]:
        column = read.column(name)
        offsets = column.offsets.to_numpy().astype(np.int64)
        values = column.values.to_numpy(zero_copy_only=False)
        return offsets - offsets[0], values[offsets[0] : offsets[-1]]

    def texts(name: str, rows: Ints) -> list[str]:
        column = read.column(name)
        return [text or "" for text in column.take(pa.array(rows)).to_pylist()]

    def words(name: str, codes: dict[str, int]) -> Ints:
        column = read.column(name)
        known = np.array([codes.get(word, -9) for word in column.dictionary.to_pylist()] + [0], dtype=np.int64)
        return known[column.indices.fill_null(len(known) - 1).to_numpy(zero_copy_only=False)]

    kind = words("kind", {word: code for code, word in enumerate(KINDS)})
    trades, tickers = np.flatnonzero(kind == TRADE), np.flatnonzero(kind == TICKER)
    bid_ends, bid_px = levels("bid_px_ticks")
    ask_ends, ask_px = levels("ask_px_ticks")
    bid_qty_ends, bid_qty = levels("bid_qty_lots")
    ask_qty_ends, ask_qty = levels("ask_qty_lots")
    differ = (bid_ends != bid_qty_ends) | (ask_ends != ask_qty_ends)
    if differ.any():
        checks.refuse(int(differ.argmax()) - 1, "prices and sizes of a side are not of one number")
    return Columns(
        kind=kind,
        venue_ts_ns=ints("venue_ts_ns"),
        local_ts_ns=ints("local_ts_ns"),
        bid_ends=bid_ends,
        bid_px=bid_px,
        bid_qty=bid_qty,
        ask_ends=ask_ends,
        ask_px=ask_px,
        ask_qty=ask_qty,
        flags=flags("asks_first") + 2 * flags("more"),
        px=ints("px_ticks"),
        qty=ints("qty_lots"),
        aggressor=words("aggressor", {"buy": 1, "sell": -1}),
        trade_ids=texts("trade_id", trades),
        funding_ts_ns=read.column("funding_ts_ns").take(pa.array(tickers)).to_pylist(),
        texts=[texts(name, tickers) for name in TEXTS],
    )


def records_of(columns: Columns) -> Iterator[Record]:
    bids = list(zip(columns.bid_px.tolist(), columns.bid_qty.tolist(), strict=True))
    asks = list(zip(columns.ask_px.tolist(), columns.ask_qty.tolist(), strict=True))
    trade_ids, tickers = iter(columns.trade_ids), zip(columns.funding_ts_ns, *columns.texts, strict=True)
    bid_ends, ask_ends = columns.bid_ends.tolist(), columns.ask_ends.tolist()
    for kind, venue_ns, local_ns, bid, bid_end, ask, ask_end, flags, px, qty, aggressor in zip(
        columns.kind.tolist(),
        columns.venue_ts_ns.tolist(),
        columns.local_ts_ns.tolist(),
        bid_ends,
        bid_ends[1:],
        ask_ends,
        ask_ends[1:],
        columns.flags.tolist(),
        columns.px.tolist(),
        columns.qty.tolist(),
        columns.aggressor.tolist(),
        strict=False,  # the offsets are one more
    ):
        if kind <= TOUCH:
            levels = tuple(bids[bid:bid_end]), tuple(asks[ask:ask_end])
            yield Depth(venue_ns, local_ns, DEPTHS[kind], *levels, flags & 1 == 1, flags & 2 == 2)
        elif kind == TRADE:
            yield Trade(venue_ns, local_ns, px, qty, SIDES[aggressor], next(trade_ids))
        else:
            yield Ticker(venue_ns, local_ns, *next(tickers))


def columns_of(batch: list[Record]) -> Columns:
    depths = [record if isinstance(record, Depth) else None for record in batch]
    trades = [record if isinstance(record, Trade) else None for record in batch]
    tickers = [record for record in batch if isinstance(record, Ticker)]

    def of(values: list[int]) -> Ints:
        return np.array(values, dtype=np.int64)

    def side(levels: list[Levels]) -> tuple[Ints, Ints, Ints]:
        ends = np.zeros(len(levels) + 1, dtype=np.int64)
        np.cumsum([len(of_row) for of_row in levels], out=ends[1:])
        numbers = chain.from_iterable(chain.from_iterable(levels))
        flat = np.fromiter(numbers, dtype=np.int64, count=2 * int(ends[-1])).reshape(-1, 2)
        return ends, np.ascontiguousarray(flat[:, 0]), np.ascontiguousarray(flat[:, 1])

    return Columns(
        of(
            [
                CODES[depth.kind] if depth else TRADE if trade else TICKER
                for depth, trade in zip(depths, trades, strict=True)
            ]
        ),
        of([record.venue_ts_ns for record in batch]),
        of([record.local_ts_ns for record in batch]),
        *side([depth.bids if depth else () for depth in depths]),
        *side([depth.asks if depth else () for depth in depths]),
        flags=of([depth.asks_first + 2 * depth.more if depth else 0 for depth in depths]),
        px=of([trade.px_ticks if trade else 0 for trade in trades]),
        qty=of([trade.qty_lots if trade else 0 for trade in trades]),
        aggressor=of([trade.aggressor or 0 if trade else 0 for trade in trades]),
        trade_ids=[trade.trade_id for trade in trades if trade],
        funding_ts_ns=[ticker.funding_ts_ns for ticker in tickers],
        texts=[[getattr(ticker, name) for ticker in tickers] for name in TEXTS],
    )


def encoded(columns: Columns) -> pa.RecordBatch:
    kind = columns.kind
    is_trade, is_ticker = kind == TRADE, kind == TICKER

    def where(mask: Any, values: list[Any], type_: pa.DataType) -> Any:
        """One value a row: those of `values`, in order, where the mask is; an empty text is absent."""
        spread = np.full(len(kind), None, dtype=object)
        spread[mask] = [None if value == "" else value for value in values]
        return _arrow.array(spread, type=type_, from_pandas=False)

    def levels(ends: Ints, values: Ints) -> Any:
        return _arrow.ListArray.from_arrays(_arrow.array(ends.astype(np.int32)), _arrow.array(values), type=_LEVELS)

    def words(indices: Ints, texts: list[str], absent: Any) -> Any:
        return _arrow.DictionaryArray.from_arrays(
            _arrow.array(indices.astype(np.int32), mask=absent), _arrow.array(texts)
        )

    return _arrow.RecordBatch.from_arrays(
        [
            words(kind, list(KINDS), None),
            _arrow.array(columns.venue_ts_ns),
            _arrow.array(columns.local_ts_ns),
            levels(columns.bid_ends, columns.bid_px),
            levels(columns.bid_ends, columns.bid_qty),
            levels(columns.ask_ends, columns.ask_px),
            levels(columns.ask_ends, columns.ask_qty),
            _arrow.array(columns.flags % 2 == 1),
            _arrow.array(columns.flags >= 2),
            _arrow.array(columns.px, mask=~is_trade),
            _arrow.array(columns.qty, mask=~is_trade),
            words((columns.aggressor < 0).astype(np.int64), ["buy", "sell"], columns.aggressor == 0),
            where(is_trade, columns.trade_ids, pa.string()),
            where(is_ticker, columns.funding_ts_ns, pa.int64()),
            *[where(is_ticker, texts, pa.string()) for texts in columns.texts],
        ],
        schema=SCHEMA,
    )
