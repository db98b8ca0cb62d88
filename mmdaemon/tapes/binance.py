"""A raw stream recording of a Binance USD-M perpetual: one line a message, `<local receive ns> <json>`, gzip or plain.

Read are `depthUpdate`, `bookTicker`, `trade` (`aggTrade` where there is none), `markPriceUpdate` and the REST depth
snapshot, bare or in the envelope of a combined stream. Anything else is counted by kind. The figures below are those of
BTCUSDT, 2024-08-08 23:54 UTC, 93,954 lines.

Order. The feeds arrive apart, so lines are put in order of transaction time `T`; at equal time trades come first, then
messages about the book by update id. In that file `T` never falls where the update id rises, over both feeds of the
book. Over the first trade of each millisecond and side (5,374): it prints at the touch before it in 98.2 % with trades
first, in 85.7 % with books first, in 95.5 % by order of arrival within the millisecond, and in less wherever books are
shifted by a millisecond or more. So nothing is shifted. How long a line may have to wait for earlier ones is measured
when the file is opened. How the two feeds make one book is in `binance_book.py`.

Clock. No message arrives before it was sent (`E`). Where the least of local time minus `E` is below zero, the
recorder's clock was behind by at least that; it is corrected so that the fastest message took `LEAST_LATENCY_NS`, an
assumption that also covers that `E` is cut to whole milliseconds. A clock that was ahead looks like latency, and stays.
"""

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from statistics import median

import msgspec

from mmdaemon.core.types import E10, NS
from mmdaemon.tapes.binance_book import Merge, Where
from mmdaemon.tapes.binance_messages import (
    MS,
    AggTrade,
    BookTicker,
    DepthUpdate,
    MarkPrice,
    Message,
    Snapshot,
    TradeMessage,
    parse,
)
from mmdaemon.tapes.records import Facts, Record
from mmdaemon.tapes.rows import BadRow, Refusals, TapeError, counted, raw_lines
from mmdaemon.tapes.steps import Steps, known, refuse_off_inferred

VENUE = "binance_usdm"
STEPS = {
    "BTCUSDT": Steps(tick_e10=E10 // 10, lot_e10=E10 // 1000, min_qty_lots=1, min_notional_e10=100 * E10),
}
"""Rules of the venue by symbol, of 2024. A recording does not say them."""
RULE = "the venue's rule of 2024, not in the recording"
LEAST_LATENCY_NS = 1_000_000
ASTRAY_NS = 60 * NS
"""A line whose two times are further apart than usual by more than this has a wrong one."""
SAMPLE = 1_001
"""Lines at the start from which the usual distance of the two times is taken."""
KINDS = {kind.__name__: kind for kind in (DepthUpdate, BookTicker, TradeMessage, AggTrade, MarkPrice, Snapshot)}
RANKS: dict[type[Message], int] = {Snapshot: 0, DepthUpdate: 1, BookTicker: 2}
Key = tuple[int, int, int, int, Where]
"""(venue ms, 1 for the book, update id, rank within it, where): orders the tape and never ties."""


class BinanceTape:
    """A `Recording` of one file, or of several that go on where another ended: they are put in order of local time and
    read as one, so that book and clock are those of one recording. Opening reads all of it through once.

    Raises:
        TapeError: a file is missing, empty or broken off, or no line of it can be used; it is of several symbols and
            `steps` names none of them; nothing in it makes a book.
    """

    def __init__(self, path: Path | Sequence[Path], steps: Steps | None = None) -> None:
        self._paths = [path] if isinstance(path, Path) else list(path)
        self._refusals = Refusals()
        self._symbol = (steps.symbol if steps else None) or ""
        self._offset_ns: int | None = None
        self._shared = False
        self._paths = [file for _, file in sorted((self._begins(file), file) for file in self._paths)]
        unread = Refusals()
        sample = [local - message.sent_ms * MS for _, local, message in islice(self._messages(unread), SAMPLE)]
        if not sample:
            raise TapeError(self._nothing(unread))
        self._offset_ns = int(median(sample))
        self._survey(steps or Steps())
        first = next(self.records(), None)
        if first is None:
            raise TapeError(self._nothing(self._refusals))
        self._start_ts_ns = first.venue_ts_ns
        self._refusals = Refusals()

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def start_ts_ns(self) -> int:
        return self._start_ts_ns

    @property
    def end_ts_ns(self) -> int:
        return self._end_ms * MS

    @property
    def refusals(self) -> Refusals:
        return self._refusals

    def records(self) -> Iterator[Record]:
        """Lazy; each call plays from the start. Raises TapeError where the file has changed since it was opened, or
        something is off an inferred step."""
        refusals = self._refusals = Refusals()
        waiting: list[tuple[Key, int, Message]] = []
        merge = Merge(self._paths, refusals, self._facts.instrument.tick_e10, self._facts.instrument.lot_e10)
        newest = 0
        for key, local, message in self._keyed(refusals):
            heappush(waiting, (key, local, message))
            newest = max(newest, key[0])
            while waiting[0][0][0] < newest - self._wait_ms:
                earliest, came, told = heappop(waiting)
                yield from merge.told(earliest[-1], came, told)
                if self._inferred:
                    refuse_off_inferred(self._inferred, refusals)
        while waiting:
            earliest, came, told = heappop(waiting)
            yield from merge.told(earliest[-1], came, told)
            refuse_off_inferred(self._inferred, refusals)

    def _begins(self, path: Path) -> int:
        """Local time of its first line that can be read."""
        refusals = Refusals()
        for row, line in raw_lines(path):
            try:
                return parse(line)[0]
            except BadRow as bad:
                refusals.add(path, row, bad.reason, bad.detail)
        raise TapeError(self._nothing(refusals, path))

    def _messages(self, refusals: Refusals) -> Iterator[tuple[Where, int, Message]]:
        """`(where, local_ns, message)` in the order of the files, of our symbol."""
        for file, row, line in self._lines():
            try:
                local, message = parse(line)
                if message.symbol != self._symbol and self._symbol and not isinstance(message, Snapshot):
                    raise BadRow("other_symbol", f"{message.symbol!r}, not {self._symbol}")
                if self._shared and isinstance(message, Snapshot):
                    raise BadRow("no_symbol", "a snapshot does not say its symbol, and the file is of several")
                if self._offset_ns is not None:
                    for ms in (message.sent_ms, message.at_ms):
                        if abs(local - ms * MS - self._offset_ns) > ASTRAY_NS:
                            raise BadRow("bad_time", f"{ms} ms at the venue, {local} ns here: further apart than usual")
            except BadRow as bad:
                refusals.add(self._paths[file], row, bad.reason, bad.detail)
                continue
            yield (file, row), local, message

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        for file, path in enumerate(self._paths):
            for row, line in raw_lines(path):
                yield file, row, line

    def _keyed(self, refusals: Refusals) -> Iterator[tuple[Key, int, Message]]:
        """Each feed in its own order: what repeats or goes back is dropped."""
        latest: dict[type[Message], tuple[int, int]] = {}
        for where, local, message in self._messages(refusals):
            path, row = self._paths[where[0]], where[1]
            kind = type(message)
            match message:
                case AggTrade() if self._has_trades:
                    refusals.add(path, row, "kind_aggTrade", "the same trades are there one by one")
                    continue
                case TradeMessage(id=number) | AggTrade(id=number) | Snapshot(u=number):
                    pass
                case DepthUpdate(u=number) | BookTicker(u=number):
                    pass
                case MarkPrice():
                    number = 0
            earlier_ms, earlier = latest.get(kind, (0, -1))
            if number <= earlier and kind is not MarkPrice:
                reason = "duplicate" if number == earlier else "out_of_order"
                refusals.add(path, row, reason, f"{kind.__name__} {number} after {earlier}")
                continue
            if message.at_ms < earlier_ms:
                refusals.add(path, row, "out_of_order", f"time {message.at_ms} ms after {earlier_ms} ms")
                continue
            latest[kind] = message.at_ms, number
            rank = RANKS.get(kind)
            key = (message.at_ms, 0, 0, 0, where) if rank is None else (message.at_ms, 1, number, rank, where)
            yield key, local, message

    def _survey(self, given: Steps) -> None:
        counts = dict.fromkeys(KINDS, 0)
        symbols: set[str] = set()
        prices: set[str] = set()
        sizes: set[str] = set()
        ids = {TradeMessage: (0, 0), AggTrade: (0, 0)}  # the highest, and how many below it are missing
        minutes: dict[int, int] = {}  # the least of local minus sent, by minute of the recording
        newest = late = first_local = 0
        first_ms = 1 << 62
        refusals = Refusals()
        for _, local, message in self._messages(refusals):
            counts[type(message).__name__] += 1
            first_local = first_local or local
            minute = (local - first_local) // (60 * NS)
            minutes[minute] = min(minutes.get(minute, 1 << 62), local - message.sent_ms * MS)
            first_ms = min(first_ms, message.at_ms)
            newest = max(newest, message.at_ms)
            late = max(late, newest - message.at_ms)
            symbols.add(message.symbol)
            if isinstance(message, TradeMessage | AggTrade):
                ids[type(message)] = _numbered(*ids[type(message)], message.id)
            if message.symbol not in STEPS:
                for px, size in message.levels():
                    prices.add(px)
                    sizes.add(size)
        symbols.discard("")  # a snapshot does not say
        if self._symbol and counts["Snapshot"]:
            symbols.add(self._symbol)
        if len(symbols) > 1:
            raise TapeError(f"{self._name}: of several symbols ({', '.join(sorted(symbols))}); give --symbol")
        if not symbols:
            raise TapeError(self._nothing(refusals))
        if not counts["Snapshot"] + counts["BookTicker"]:
            raise TapeError(
                f"{self._name}: neither a depth snapshot nor a bookTicker, so updates have no book to change; "
                "record bookTicker too, or put the answer of GET /fapi/v1/depth among the lines"
            )
        (self._symbol,) = symbols
        self._shared = "other_symbol" in refusals.counts
        self._has_trades = bool(counts["TradeMessage"])
        self._end_ms, self._wait_ms = newest, late
        rules = STEPS.get(self._symbol, Steps())
        said = msgspec.structs.replace(rules, venue=VENUE, symbol=self._symbol)
        what = known(self._name, given, said, prices, sizes)
        self._inferred = what.inferred
        least = min(minutes.values())
        shift = LEAST_LATENCY_NS - least if least < 0 else 0
        self._facts = Facts(
            instrument=what.instrument,
            steps_from=what.steps_from.replace("stated by the recording", RULE),
            minimum_from=what.minimum_from.replace("stated by the recording", RULE),
            clock_shift_ns=shift,
            clock_from=_clock(least, minutes[0], minutes[max(minutes)], max(minutes)),
            lag_from="none corrected; at equal venue time (ms) trades come before books",
            provenance={
                "lines": ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count),
                "book": _book(counts, newest - first_ms),
                "trade ids missing": f"{ids[TradeMessage if self._has_trades else AggTrade][1]:,}",
                "order": f"by the venue's time; a line comes up to {late:,} ms after one that is of a later time",
            },
        )

    @property
    def _name(self) -> str:
        more = f" and {len(self._paths) - 1} more" if len(self._paths) > 1 else ""
        return f"{self._paths[0]}{more}"

    def _nothing(self, refusals: Refusals, path: Path | None = None) -> str:
        told = "; ".join(refusals.described[:2]) or "empty, or no line says its symbol: then give --symbol"
        wanted = f" of {self._symbol}" if self._symbol else ""
        return (
            f"{path or self._name}: no message{wanted} that can be used ({told}); a line is "
            "`<local receive ns> <json>`, as the streams of Binance USD-M futures are recorded"
        )


def _clock(least: int, first: int, last: int, minutes: int) -> str:
    drift = f"{first / 1e6:,.3f} ms in its first minute"
    if minutes:
        drift += f", {last / 1e6:,.3f} ms in its last ({counted(minutes, 'minute')} later)"
    if least >= 0:
        return f"as recorded, not corrected: local time less the time of sending is {drift} at least"
    return (
        f"local time less the time of sending (E) is {least / 1e6:,.3f} ms at least, so the recorder's clock was "
        f"behind; the fastest message is assumed to have taken {LEAST_LATENCY_NS / 1e6:.0f} ms. It is {drift}: drift "
        "is not corrected"
    )


def _book(counts: dict[str, int], span_ms: int) -> str:
    if not counts["Snapshot"]:
        return "no depth snapshot, so updates have nothing to change: the touch alone, one level a side"
    if not counts["DepthUpdate"]:
        return "no updates of the depth: behind the touch it is that of the snapshot"
    return (
        f"{counted(counts['Snapshot'], 'depth snapshot')}, an update every {span_ms / counts['DepthUpdate']:,.0f} ms"
        + ("" if counts["BookTicker"] else "; no bookTicker, so the touch is that of the depth")
    )


def _numbered(highest: int, missing: int, number: int) -> tuple[int, int]:
    if not highest:
        return number, 0
    return max(highest, number), missing + max(0, number - highest - 1)
