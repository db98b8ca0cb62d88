"""A recording written as hftbacktest's `.npz`. See `npz.py`, which reads it and says what becomes what."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from mmdaemon.core.types import Side
from mmdaemon.tapes.npz_rows import (
    BBO,
    BUY,
    CLEAR,
    DEPTH,
    EVENT,
    GOES_ON,
    NEW,
    SELL,
    SLICE,
    SNAPSHOT,
    TRADE,
    Rows,
    floats,
    in_order,
)
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Recording, Ticker, Trade
from mmdaemon.tapes.rows import TapeError


class Written(msgspec.Struct, frozen=True):
    """What became of a recording: rows in the file, and what has no form in it, by reason."""

    rows: int
    records: int
    left_out: dict[str, int]


def write(recording: Recording, out: Path, progress: Callable[[int], object] | None = None) -> Written:
    """Write a recording. `progress` is told the number of records so far. 64 bytes a row are held in memory.

    Raises:
        TapeError: the recording breaks off, its corrected venue time falls, or a price or size is too large for a
            float to hold exactly. Nothing is written then.
        OSError: the file cannot be written.
    """
    writer = _Writer(recording.facts)
    number = 0
    for number, record in enumerate(recording.records(), 1):
        writer.put(number, record)
        if number % SLICE == 0 and progress is not None:
            progress(number)
    rows = writer.rows()
    places, flags = in_order(rows)
    data = rows[places]
    del rows, places
    data["ev"] |= flags
    facts = np.frombuffer(msgspec.json.encode(recording.facts), np.uint8)
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:  # given a name without an ending, numpy would add one
            np.savez_compressed(file, data=data, mmdaemon_facts=facts)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return Written(len(data), number, writer.left_out)


class _Writer:
    """Records as rows in the exchange's order, kept as numpy slices. `_joined` follows what a reader would join."""

    def __init__(self, facts: Facts) -> None:
        self.left_out: dict[str, int] = {}
        self._facts = facts
        self._slices: list[Rows] = []
        self._columns: tuple[list[int], ...] = ([], [], [], [], [], [])
        self._latest = 0
        self._group: tuple[int, int, int] | None = None  # kind and times of the record before
        self._last_side = self._heads = 0
        self._more = False

    def put(self, number: int, record: Record) -> None:
        facts = self._facts
        at, local = record.venue_ts_ns, record.local_ts_ns + facts.clock_shift_ns
        if isinstance(record, Depth):
            at -= facts.book_lag_ns
        if at < self._latest:
            raise TapeError(
                f"record {number:,}: corrected venue time {at} ns is before that of an earlier one; sort it"
            )
        self._latest = at
        if isinstance(record, Ticker):
            self._leave_out("ticker records")
        elif isinstance(record, Trade):
            self._trade(record, at, local)
        else:
            self._depth(record, at, local)
        if len(self._columns[0]) >= SLICE:
            self._flush()

    def _trade(self, trade: Trade, at: int, local: int) -> None:
        flag = 0 if trade.aggressor is None else BUY if trade.aggressor is Side.BUY else SELL
        number = _id_number(trade.trade_id)
        if trade.trade_id and not number:
            self._leave_out("trade ids that are no whole number")
        self._row(TRADE | flag, at, local, trade.px_ticks, trade.qty_lots, number)
        self._end_message()
        self._group = None

    def _depth(self, depth: Depth, at: int, local: int) -> None:
        kind = {DepthKind.DELTA: DEPTH, DepthKind.SNAPSHOT: CLEAR, DepthKind.TOUCH: BBO}[depth.kind]
        sides: list[tuple[int, Levels]] = [(BUY, depth.bids), (SELL, depth.asks)]
        if kind == BBO:
            sides = [(side, levels or ((0, 0),)) for side, levels in sides]
        if depth.asks_first:
            sides.reverse()
        sides = [(side, levels) for side, levels in sides if levels]
        if not sides:
            if kind != CLEAR:
                self._leave_out("updates without a level")
                return
            sides = [(0, ())]
        ival = self._joined(kind, at, local, sides[0][0], len(sides), sides[-1][0])
        for side, levels in sides:
            level_kind = kind
            if kind == CLEAR:
                self._row(CLEAR | side, at, local, levels[-1][0] if levels else 0, 0, ival)
                ival, level_kind = 0, SNAPSHOT
            for px_ticks, qty_lots in levels:
                self._row(level_kind | side, at, local, px_ticks, qty_lots, ival)
                ival = 0
        self._more = depth.more

    def _joined(self, kind: int, at: int, local: int, first: int, heads: int, last: int) -> int:
        """The `ival` of the first row: 0 where a reader finds by itself that a record begins here, and how."""
        group, more = (kind, at, local), self._more
        if group != self._group:
            ival, heads_before = GOES_ON if more else 0, 0
        elif kind == DEPTH:
            found = first != self._last_side and self._heads % 2 == 0
            ival, heads_before = (0, self._heads) if found and more else (GOES_ON if more else NEW, 0)
        else:
            is_fresh = first == self._last_side or not first or not self._last_side
            found = is_fresh or self._heads % 2 == 0
            ival = GOES_ON if more else 0 if found else NEW
            heads_before = 0 if is_fresh or ival else self._heads
        self._group, self._last_side, self._heads = group, last, heads_before + heads
        return ival

    def _end_message(self) -> None:
        if self._more:
            self._leave_out("messages that a print breaks in two")
            self._more = False

    def _leave_out(self, what: str) -> None:
        self.left_out[what] = self.left_out.get(what, 0) + 1

    def _row(self, *cells: int) -> None:
        for column, cell in zip(self._columns, cells, strict=True):
            column.append(cell)

    def _flush(self) -> None:
        ev, exch_ts, local_ts, ticks, lots, ival = self._columns
        instrument = self._facts.instrument
        rows = np.zeros(len(ev), EVENT)
        rows["ev"], rows["exch_ts"], rows["local_ts"], rows["ival"] = ev, exch_ts, local_ts, ival
        rows["px"] = floats(np.array(ticks, np.int64), instrument.tick_e10)
        rows["qty"] = floats(np.array(lots, np.int64), instrument.lot_e10)
        self._slices.append(rows)
        for column in self._columns:
            column.clear()

    def rows(self) -> Rows:
        self._flush()
        slices, self._slices = self._slices, []
        return np.concatenate(slices)


def _id_number(trade_id: str) -> int:
    """A trade id as a number from which the same text comes back; 0 where there is none."""
    if trade_id.isascii() and trade_id.isdigit() and trade_id[0] != "0" and int(trade_id) < 1 << 63:
        return int(trade_id)
    return 0
