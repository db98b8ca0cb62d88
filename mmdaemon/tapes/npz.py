"""hftbacktest's `.npz` (its version 2), read and written. Needs numpy, of the extra `mmdaemon[tapes]`.

A file holds one array, `data`, a row a level or a print. A row is flagged for the exchange, for the local side, or for
both; what was overtaken on its way is there twice, each in its place, as hftbacktest's `correct_event_order` puts it.
Records are read from the rows for the exchange, in their order. Rows of one kind and of equal times make one record:

  DEPTH_EVENT                     DELTA; where the sides alternate further, several, all but the last `more`
  DEPTH_CLEAR, DEPTH_SNAPSHOT     SNAPSHOT, the clear of each side before its levels and at the price of the worst
  DEPTH_BBO_EVENT                 TOUCH, always two rows; an empty side is price 0, size 0
  TRADE_EVENT                     Trade. No side flag: the aggressor is not known

Exact both ways. `ival`, which hftbacktest leaves to its users, carries what rows alone do not say: the trade id where
it is a whole number, and on the first row of a record 1 (not to be joined to the one before) or 2 (the one before is
`more`). In a file of hftbacktest's own converters it is 0, and such a file is written again bit for bit; where one
would not be, provenance says why. Ticker records have no form here and are counted. Times are written corrected,
because hftbacktest has no corrections of its own (`local_ts` + clock shift, `exch_ts` of books less the lag); facts and
corrections stand beside the rows in a second array, `mmdaemon_facts`, and reading undoes them.

What hftbacktest makes of it (2.4.4): its backtest ignores DEPTH_BBO_EVENT; a print without side fills nobody; a clear
of one side takes away what is not deeper than its price, so that levels deeper than a snapshot stay in its book.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt

from mmdaemon.core.types import Side
from mmdaemon.tapes.npz_rows import (
    BBO,
    BUY,
    CLEAR,
    DEPTH,
    EVENT,
    EXACT,
    EXCH,
    GOES_ON,
    KINDS,
    L3,
    LOCAL,
    SELL,
    SLICE,
    SNAPSHOT,
    TRADE,
    Bools,
    Floats,
    Ints,
    Rows,
    as_steps,
    in_order,
    load,
)
from mmdaemon.tapes.npz_write import Written, write
from mmdaemon.tapes.records import Depth, Facts, Record, Trade
from mmdaemon.tapes.rows import KEPT_PER_REASON, LATEST_NS, Refusals, TapeError
from mmdaemon.tapes.steps import Steps, known, refuse_off_inferred

__all__ = ["NpzTape", "Written", "write"]


class NpzTape:
    """A `Recording`. Opening reads and checks the whole file; `refusals` count all of it, with rows from 0 as in numpy.

    Raises:
        TapeError: it is no such file, or empty; it has rows of single orders (level 3); times fall; a side is cleared
            without a snapshot; tick or lot are neither given, nor there, nor to be inferred; a row is off an inferred
            one.
    """

    def __init__(self, path: Path, steps: Steps | None = None) -> None:
        self._path, self.refusals = path, Refusals()
        data, facts = load(path)
        kept = np.flatnonzero(self._usable(data))
        rows = data[kept]
        rows["ev"] &= 0xFF | BUY | SELL
        is_ours = facts is not None
        facts, inferred = _facts(path, steps or Steps(), facts, rows[(rows["ev"] & 0xFF) != CLEAR])
        ticks, on_tick, nearest_px = as_steps(rows["px"], facts.instrument.tick_e10)
        lots, on_lot, nearest_qty = as_steps(rows["qty"], facts.instrument.lot_e10)
        is_clear = (rows["ev"] & 0xFF) == CLEAR  # its price is that of a level, or says nothing
        self._refuse(data, kept[~is_clear & ~on_tick], "off_tick", "px")
        self._refuse(data, kept[~is_clear & on_tick & ~on_lot], "off_lot", "qty")
        refuse_off_inferred(inferred, self.refusals)
        good = is_clear | (on_tick & on_lot)
        self._ticks, self._lots = ticks[good], lots[good]
        differs = {"prices or sizes not the nearest float": int((~(nearest_px & nearest_qty))[good].sum())}
        rows, kept = rows[good], kept[good]
        differs |= self._group(rows, kept, is_ours) if rows.size else {}
        if not rows.size or not self._starts.size:
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in self.refusals.counts.items())
            raise TapeError(f"{path}: none of its {len(data):,} rows can be used: {dropped}; convert it anew")
        differs |= self._others(data, rows)
        text = ", ".join(f"{count:,} {what}" for what, count in differs.items() if count)
        told = {
            "rows": f"{len(data):,} in {len(self._starts):,} records",
            "written as .npz again": f"not the same: {text}" if text else "the same rows, bit for bit",
        }
        self._facts = msgspec.structs.replace(facts, provenance=facts.provenance | told)
        self._rows = rows

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def start_ts_ns(self) -> int:
        return int(self._rows["exch_ts"][self._starts[0]])

    @property
    def end_ts_ns(self) -> int | None:
        return int(self._rows["exch_ts"][self._starts[-1]])

    def records(self) -> Iterator[Record]:
        facts, rows = self._facts, self._rows
        for begin in range(0, len(self._starts), SLICE // 16):
            part = slice(begin, begin + SLICE // 16)
            starts, middles, ends = self._starts[part], self._middles[part], self._ends[part]
            first, heads = int(starts[0]), rows[starts]
            through = slice(first, int(ends[-1]))
            ticks: list[int] = self._ticks[through].tolist()
            lots: list[int] = self._lots[through].tolist()
            levels = list(zip(ticks, lots, strict=True))
            told = [column[part].astype(np.int64) for column in (self._kinds, self._more, self._unsorted)]
            told += [heads[name].astype(np.int64) for name in ("ev", "exch_ts", "local_ts", "ival")]
            told += [edge - first for edge in (starts, middles, ends)]
            table = cast("list[list[int]]", np.stack(told, 1).tolist())
            for kind, more, is_unsorted, ev, at, local, ival, start, middle, end in table:
                local -= facts.clock_shift_ns  # noqa: PLW2901
                if kind == TRADE:
                    aggressor = Side.BUY if ev & BUY else Side.SELL if ev & SELL else None
                    px_ticks, qty_lots = levels[start]
                    yield Trade(at, local, px_ticks, qty_lots, aggressor, str(ival) if ival > 0 else "")
                    continue
                skipped = kind == CLEAR  # the clear before its levels
                one, other = tuple(levels[start + skipped : middle]), tuple(levels[middle + skipped : end])
                if kind == BBO:
                    one, other = one if one[0][1] else (), other if other[0][1] else ()
                bids, asks = (other, one) if ev & SELL else (one, other)
                if is_unsorted:
                    bids, asks = tuple(sorted(dict(bids).items(), reverse=True)), tuple(sorted(dict(asks).items()))
                asks_first = bool(ev & SELL) and middle < end
                yield Depth(at + facts.book_lag_ns, local, KINDS[kind], bids, asks, asks_first, bool(more))

    # --- opening ------------------------------------------------------------------------------------------------------

    def _usable(self, data: Rows) -> Bools:
        """The rows for the exchange that can be used. Counts the others."""
        path, ev = self._path, data["ev"]
        kind, side = ev & 0xFF, ev & (BUY | SELL)
        exch, local = (ev & EXCH) != 0, (ev & LOCAL) != 0
        for of, time, flag in ((exch, "exch_ts", "EXCH"), (local, "local_ts", "LOCAL")):
            places = np.flatnonzero(of)
            falls = np.flatnonzero(np.diff(data[time][places]) < 0)
            if falls.size:
                raise TapeError(
                    f"{path} row {places[falls[0] + 1]}: {time} falls from one {flag}_EVENT to the next; order the "
                    "file with correct_event_order of hftbacktest.data"
                )
        orders = np.flatnonzero(np.isin(kind, L3))
        if orders.size:
            raise TapeError(
                f"{path} row {orders[0]}: event {int(kind[orders[0]])} is of a single order (level 3), which is not "
                "read; convert the level 2 feed instead"
            )
        px, qty = data["px"], data["qty"]
        is_level = (kind == DEPTH) | (kind == SNAPSHOT)
        positive = (px > 0) & np.isfinite(px) & (qty >= 0) & np.isfinite(qty) & ((kind != TRADE) | (qty > 0))
        empty_touch = (kind == BBO) & (px == 0) & (qty == 0)
        usable = np.ones(len(data), np.bool_)
        for reason, column, bad in (
            ("no_side_of_time", "ev", ~exch & ~local),
            ("unknown_event", "ev", (kind < DEPTH) | (kind > BBO)),
            ("bad_time", "exch_ts", ~_is_moment(data["exch_ts"])),
            ("bad_time", "local_ts", ~_is_moment(data["local_ts"])),
            ("bad_side", "ev", (side == BUY | SELL) | ((side == 0) & (is_level | (kind == BBO)))),
            ("bad_number", "px", ~positive & ~empty_touch & (kind != CLEAR)),
            ("empty_level", "px", (kind == SNAPSHOT) & (qty == 0)),
            ("without_counterpart", "exch_ts", _lone(data, exch, local)),
        ):
            self._refuse(data, np.flatnonzero(usable & bad), reason, column)
            usable &= ~bad
        return usable & exch

    def _refuse(self, data: Rows, places: Ints, reason: str, column: str) -> None:
        for place in places[:KEPT_PER_REASON].tolist():
            self.refusals.add(self._path, place, reason, f"{column} {data[column][place]}")
        if len(places) > KEPT_PER_REASON:
            self.refusals.counts[reason] += len(places) - KEPT_PER_REASON

    def _group(self, rows: Rows, kept: Ints, is_ours: bool) -> dict[str, int]:
        """Find where records begin. Returns what is told otherwise than it stands in the file.

        A head is a row at which a record or its other side begins. Counted from where nothing joins two records, every
        second head begins one.
        """
        n, place = len(rows), np.arange(len(rows))
        kind, side, ival = (
            (rows["ev"] & 0xFF).astype(np.int64),
            (rows["ev"] & (BUY | SELL)).astype(np.int64),
            rows["ival"],
        )
        breaks = _changes(rows["exch_ts"]) | _changes(rows["local_ts"])
        turns = _changes(side)
        cleared = np.maximum.accumulate(np.where(kind == CLEAR, place, -1))
        broken = np.maximum.accumulate(np.where((kind != SNAPSHOT) | turns | breaks, place, -1))
        is_snapshot = (kind == SNAPSHOT) & (cleared == broken)  # of the side cleared just before
        lone = np.flatnonzero((kind == CLEAR) & (side != 0) & ~np.append(is_snapshot[1:], [False]))
        if lone.size:
            raise TapeError(
                f"{self._path} row {kept[lone[0]]}: one side is cleared and no snapshot of it follows, so the "
                "book after it is not known; convert the file anew"
            )
        group = np.where(is_snapshot, CLEAR, np.where(kind == SNAPSHOT, DEPTH, kind))
        marks = np.where((group != TRADE) & is_ours, ival, 0)
        fresh = breaks | _changes(group) | (group == TRADE) | (marks != 0)
        heads = np.flatnonzero(fresh | ((group == DEPTH) & turns) | (kind == CLEAR) | (kind == BBO))
        is_fresh, head_side = fresh[heads], side[heads]
        again = (head_side[1:] == head_side[:-1]) | (head_side[1:] == 0) | (head_side[:-1] == 0)
        is_fresh[1:] |= again & (group[heads[1:]] != DEPTH)
        number = np.arange(len(heads))
        is_start = (number - np.maximum.accumulate(np.where(is_fresh, number, 0))) % 2 == 0
        starts = heads[is_start]
        ends = np.append(starts[1:], n)
        after = np.append(heads[1:], n)[is_start]  # the next head: the record's second side, or another record
        kinds = group[starts]
        goes_on = (marks[starts] == GOES_ON) | ((kinds == DEPTH) & ~is_fresh[is_start])
        more = np.append(goes_on[1:], [False]) & (kinds != TRADE)
        falls = np.append([False], np.where(side[1:] == BUY, np.diff(self._ticks) >= 0, np.diff(self._ticks) <= 0))
        disordered = np.flatnonzero(falls & is_snapshot & np.append([False], is_snapshot[:-1]))
        unsorted = np.zeros(len(starts), np.bool_)
        unsorted[np.searchsorted(starts, disordered, "right") - 1] = True
        whole = (kinds != BBO) | (ends - starts == 2)
        for start in starts[~whole].tolist():
            self.refusals.add(self._path, int(kept[start]), "lone_touch", "one side without the other")
        self._starts, self._middles, self._ends = starts[whole], np.minimum(after, ends)[whole], ends[whole]
        self._kinds, self._more, self._unsorted = kinds[whole], more[whole], unsorted[whole]
        clears, others = np.flatnonzero(kind == CLEAR), np.append(np.flatnonzero(~is_snapshot), n)
        worst = others[np.searchsorted(others, clears, "right")] - 1
        worst_px = np.where(side[clears] == 0, 0, rows["px"][worst])
        odd_clear = (rows["px"][clears] != worst_px) | (rows["qty"][clears] != 0)
        odd = np.where(group == TRADE, ival < 0, ival != marks)
        return {
            "snapshot rows without a clear before them": int(((kind == SNAPSHOT) & ~is_snapshot).sum()),
            "clears at another price than that of the worst level": int(odd_clear.sum()),
            "snapshots not best first": int(unsorted.sum()),
            "rows with an order_id, an fval or an ival of another program": int(
                (odd | (rows["order_id"] != 0) | (rows["fval"] != 0)).sum()
            ),
        }

    def _others(self, data: Rows, rows: Rows) -> dict[str, int]:
        dropped = sum(self.refusals.counts.values())
        if dropped:
            return {"rows dropped": dropped}
        places, flags = in_order(rows)
        same = len(places) == len(data)
        for begin in range(0, len(places) if same else 0, SLICE):
            part = slice(begin, begin + SLICE)
            again = rows[places[part]]
            again["ev"] |= flags[part]
            same = same and again.tobytes() == data[part].tobytes()
        return {"order of rows of equal local time, or unknown flags": not same}


def _facts(path: Path, given: Steps, said: Facts | None, levels: Rows) -> tuple[Facts, frozenset[str]]:
    """And as `Known.inferred`."""
    if said is not None and given == Steps():
        return said, frozenset()
    stated = Steps()
    if said is not None:
        names = set(Steps.__struct_fields__) & set(said.instrument.__struct_fields__)
        stated = Steps(**{name: getattr(said.instrument, name) for name in names})
    found = known(str(path), given, stated, _texts(levels["px"]), _texts(levels["qty"]))
    if said is None:
        said = Facts(
            instrument=found.instrument,
            steps_from=found.steps_from,
            minimum_from=found.minimum_from,
            clock_from="as in the file; its converter may have moved local times to come after the exchange's",
            provenance={"funding, mark": "none: the format has neither"},
        )
    facts = msgspec.structs.replace(
        said, instrument=found.instrument, steps_from=found.steps_from, minimum_from=found.minimum_from
    )
    return facts, found.inferred


def _texts(values: Floats) -> Iterator[str]:
    """Decimals to infer a step from. Products left unrounded by a converter are rounded here."""
    unique: list[float] = np.unique(values[values < EXACT]).tolist()
    for value in unique:
        yield repr(round(value, 10))


def _is_moment(values: npt.NDArray[np.int64]) -> Bools:
    return (values > 0) & (values < LATEST_NS)


def _changes(values: npt.NDArray[np.int64]) -> Bools:
    """True where a value is not that before it, and for the first."""
    return np.append([True], values[1:] != values[:-1])


def _lone(data: Rows, exch: Bools, local: Bools) -> Bools:
    """Rows for one side of time only, without the like of them for the other."""
    lone = np.zeros(len(data), np.bool_)
    places = np.flatnonzero(exch ^ local)
    rows = data[places]
    rows["ev"] &= ~np.uint64(EXCH | LOCAL)
    _, key = np.unique(rows.view(np.dtype((np.void, EVENT.itemsize))), return_inverse=True)
    key = key.ravel()
    balance = np.zeros(key.max() + 1 if key.size else 0, np.int64)
    np.add.at(balance, key, np.where(exch[places], 1, -1))
    lone[places] = (balance[key] != 0) & (np.sign(balance[key]) == np.where(exch[places], 1, -1))
    return lone
