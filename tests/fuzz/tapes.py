"""Damaged recordings of every format that is read: bytes lost, changed, doubled; cells that hold what no cell holds.

What may come of one is `TapeError`, at opening or where it breaks off, or a market with its dropped rows counted. Never
another exception, and never an event that could not have been.
"""

import gzip
import io
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmdaemon.core.events import BookUpdate, FundingRate, MarketEvent, MarkPrice, TradePrint
from mmdaemon.core.types import E10
from mmdaemon.tapes import parquet
from mmdaemon.tapes.npz_rows import BBO, BUY, DEPTH, EVENT, EXCH, LOCAL, SELL, SNAPSHOT, TRADE
from mmdaemon.tapes.reading import open_tape
from mmdaemon.tapes.records import Ticker
from mmdaemon.tapes.rows import TapeError
from mmdaemon.tapes.steps import Steps
from tests.fuzz.numbers import any_float, any_number, any_word
from tests.tapes import made, test_binance, test_hyperliquid, test_standx, test_tardis

STEPS: Final = Steps(venue="v", symbol="BTCUSDT", tick_e10=E10 // 100, lot_e10=E10 // 1_000)
EVENTS_MAX: Final = 50_000
Files = dict[str, bytes]


class Violation(AssertionError):
    """What must hold does not. `Damage(seed)` plays it again."""


class Tally(msgspec.Struct):
    """What a run was made of."""

    files: int = 0
    refused: int = 0
    broke_off: int = 0
    played: int = 0
    events: int = 0
    drops: int = 0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)


# --- small good ones --------------------------------------------------------------------------------------------------


def _zipped(lines: list[str], end: str = "\n") -> bytes:
    return gzip.compress((end.join(lines) + end).encode(), mtime=0)


def binance() -> Files:
    t = test_binance
    lines = [t.snapshot(0, 10)]
    for i in range(12):
        at = 10 + i * 10
        lines.append(t.update(at, 11 + i, 10 + i, bids=f"99.{i % 9}:1", asks="100.3:2"))
        lines.append(t.touch(at + 1, 11 + i, "100.0:1", "100.1:3"))
        lines.append(t.trade(at + 2, i + 1))
        told = {"e": "markPriceUpdate", "E": t.T0_MS + at + 3, "s": "BTCUSDT", "p": "100.05", "r": "0.0001"}
        lines.append(t.line(told | {"T": t.T0_MS + 28_800_000}, at + 3))
    return {"btcusdt.gz": _zipped(lines)}


def hyperliquid() -> Files:
    t = test_hyperliquid
    books = [t.BOOKS, *(t.book_row(500 * i, 100 + i % 3, 101 + i % 3) for i in range(8))]
    trades = [t.TRADES, *(t.trade_row(500 * i + 100, str(i)) for i in range(8))]
    touches = [t.PRICES]
    for i in range(6):
        touches += t.touch_rows(500 * i + 200, "100", "101")
    named = {"orderbooks_BTC": books, "trades_BTC": trades, "prices_BTC": touches}
    return {f"{name}.csv.gz": _zipped(lines, "\r\n") for name, lines in named.items()}


def tardis() -> Files:
    t = test_tardis
    rows = [*t.opening()]
    for i in range(12):
        rows += t.book(1_000 * i + 10, f"bid,99.{i % 9},2", "ask,100.05,1")
    files = {t.NAME.format("incremental_book_L2"): _zipped([t.BOOK, *rows])}
    files[t.NAME.format("trades")] = _zipped([t.TRADES, *(t.trade(1_000 * i + 5, str(i)) for i in range(10))])
    said = f"{t.US + 28_800_000_000},0.0001,,120.5,100.0,100.0,100.02"
    files[t.NAME.format("derivative_ticker")] = _zipped([t.TICKER, *(f"{t.at(900 * i)},{said}" for i in range(6))])
    return files


def tape() -> Files:
    records: list[Any] = []
    for n in range(20):
        records.append(made.snapshot(n * 10, ((100 + n % 3, n + 1), (99, 6)), ((105, 2), (106, 3))))
        records.append(made.trade(n * 10 + 1))
        records.append(made.delta(n * 10 + 2, ((98, n),), ()))
        records.append(Ticker(made.T0 + (n * 10 + 3) * made.MS, made.T0, made.T0 + 10**13, "0.0001", mark_px="10.2"))
    return {"tape.parquet": _written(records)}


def _written(records: list[Any]) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tape.parquet"
        parquet.write(made.Made(records), path)
        return path.read_bytes()


STANDX_BOOKS: Final = tuple(test_standx.book(250 * i, size=0.5 + i) for i in range(8))
STANDX_TRADES: Final = tuple(test_standx.trade(250 * i) for i in range(8))


def standx(books: Any = STANDX_BOOKS, trades: Any = STANDX_TRADES) -> Files:
    t = test_standx
    both = ((t.BOOKS, books, t.BOOK_SCHEMA), (t.TRADES, trades, t.TRADE_SCHEMA))
    files: Files = {}
    for kind, rows, schema in both:
        out = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(list(rows), schema), out)
        files[f"{kind}_BTC-USD_2026-01-06_10.parquet"] = out.getvalue()
    return files


def npz_rows() -> list[tuple[Any, ...]]:
    from tests.tapes.test_npz import row

    rows = [row(SNAPSHOT | side, 0, 1, px, 1.0) for side, px in ((BUY, 100.0), (BUY, 99.9), (SELL, 100.1))]
    for i in range(20):
        rows.append(row(DEPTH | BUY, 10 * i + 10, 10 * i + 11, 99.5 + i / 100, 0.5))
        rows.append(row(TRADE | SELL, 10 * i + 12, 10 * i + 13, 100.0, 0.002))
        rows.append(row(BBO | SELL, 10 * i + 14, 10 * i + 15, 100.1, 0.3))
    return rows


def npz(rows: Any = None) -> Files:
    out = io.BytesIO()
    np.savez_compressed(out, data=np.array(npz_rows() if rows is None else rows, EVENT))
    return {"b.npz": out.getvalue()}


FORMATS: Final[dict[str, Callable[[], Files]]] = {
    "binance": cache(binance),
    "hyperliquid": cache(hyperliquid),
    "tardis": cache(tardis),
    "tape": cache(tape),
    "standx": cache(standx),
    "npz": cache(npz),
}
assert EXCH
assert LOCAL


# --- damage -----------------------------------------------------------------------------------------------------------


def torn(data: bytes, rng: Random) -> bytes:
    """Bytes changed, lost, doubled, moved or cut off."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 30))):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0:
                del out[at:]
            case 1:
                del out[at : at + rng.randint(1, 20)]
            case 2:
                out[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                out[at:at] = out[at : at + rng.randint(1, 60)]
            case _ if out:
                out[at % len(out)] ^= 1 << rng.randrange(8)
            case _:
                pass
    return bytes(out)


TIMES: Final = (
    *("9223372036854775807", "9223372036854775808", "9" * 19, "9223372036854775", "9223372036854776", "9" * 16),
    *("9223372036854", "9223372036855", "9" * 13, "9223372036.854775808", "9999999999.999999999", "0" * 16, "0" * 19),
    *("7258118400000000", "7258118399999999", "1757015211000000", "-1598918400000000"),
)
"""In ns, us, ms and s: the edges of 64 bits, of the digits that a format has, and of what is a time at all."""


def any_cell(rng: Random) -> str:
    if rng.random() < 0.5:
        return repr(any_number(rng))
    texts = (
        "",
        "NaN",
        "-inf",
        "1e309",
        "1e-400",
        "0x10",
        "1_0",
        "\u0661",
        "true",
        "-0",
        "+1",
        " 1",
        "9" * 5_000,
        rng.choice(TIMES),
        any_word(rng),
    )
    return rng.choice(texts)


def scrawled(text: str, rng: Random) -> str:
    """Cells of some lines replaced by what no cell holds, lines lost, doubled and out of order."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, lines[rng.randrange(len(lines))])
            case 2:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case _:
                lines[at] = _scrawl(lines[at], rng)
        lines = lines or [""]
    return "\n".join(lines)


def _scrawl(line: str, rng: Random) -> str:
    if "{" in line and rng.random() < 0.8:
        starts = [i for i, c in enumerate(line) if c in ':[,"']
        if starts:
            at = rng.choice(starts) + 1
            end = next((i for i in range(at, len(line)) if line[i] in ',]}"'), len(line))
            value = (
                any_cell(rng) if rng.random() < 0.8 else rng.choice(("null", "[]", "{}", "[" * 5_000, '"', "\\u0000"))
            )
            return line[:at] + value + line[end:]
    cells = line.split(",")
    cells[rng.randrange(len(cells))] = any_cell(rng)
    return ",".join(cells)


def any_scalar(rng: Random, was: object) -> object:
    """In the place of a value in a typed column."""
    if isinstance(was, bool):
        return rng.choice((None, not was))
    if isinstance(was, float):
        return rng.choice((None, any_float(rng), any_float(rng)))
    if isinstance(was, list):
        mangled = list(was)
        kind = rng.randrange(5)
        if kind == 0:
            return None
        if kind == 1:
            return mangled[: rng.randrange(len(mangled) + 1)]
        for _ in range(rng.randint(1, 3)):
            mangled[rng.randrange(len(mangled))] = rng.choice((None, any_float(rng)))
        return mangled
    if isinstance(was, str):
        return rng.choice((None, "", "BUY", "".join(c for c in any_word(rng) if not 0xD800 <= ord(c) < 0xE000)))
    return rng.choice((None, was))


def of_bad_rows(rng: Random) -> tuple[str, Files]:
    """Whole files of a typed format, whose rows hold what no row holds."""
    if rng.random() < 0.5:
        rows: list[Any] = [list(row) for row in npz_rows()]
        for _ in range(rng.choice((1, 2, 9))):
            row = rng.choice(rows)
            at = rng.randrange(8)
            row[at] = any_float(rng) if at in (3, 4, 7) else rng.choice((0, -1, 2**62, -(2**62), rng.getrandbits(40)))
            if at in (0, 5):
                row[at] = abs(row[at])
        return "npz", npz([tuple(row) for row in rows])
    books, trades = [dict(row) for row in STANDX_BOOKS], [dict(row) for row in STANDX_TRADES]
    for _ in range(rng.choice((1, 2, 9))):
        row = rng.choice((*books, *trades))
        name = rng.choice(list(row))
        row[name] = any_scalar(rng, row[name])
    return "standx", standx(books, trades)


# --- playing ----------------------------------------------------------------------------------------------------------


def damage(seed: int) -> tuple[str, Files]:
    """The format and the files of a seed."""
    rng = Random(seed)
    if rng.random() < 0.25:
        return of_bad_rows(rng)
    kind = rng.choice(list(FORMATS))
    files = dict(FORMATS[kind]())
    name = rng.choice(list(files))
    data = files[name]
    if name.endswith(".gz") and rng.random() < 0.75:
        text = gzip.decompress(data)
        if rng.random() < 0.75:
            text = scrawled(text.decode(), rng).encode("utf-8", errors="surrogatepass")
        else:
            text = torn(text, rng)
        files[name] = gzip.compress(text, mtime=0)
    elif rng.random() < 0.03:
        del files[name]
    else:
        files[name] = torn(data, rng)
    return kind, files


def try_one(folder: Path, seed: int, tally: Tally) -> None:
    """Damage a recording and play it. Raises Violation."""
    kind, files = damage(seed)
    tally.files += 1
    tally.kinds[kind] += 1
    for old in folder.iterdir():
        old.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    where = f"seed {seed}, {kind}"
    try:
        steps = STEPS if kind in ("npz", "tardis", "binance") and seed % 2 else Steps()
        source = open_tape(folder, steps)
    except TapeError as error:
        _judge_error(where, error)
        tally.refused += 1
        return
    except Exception as error:  # whatever it is, it is not what is promised
        raise Violation(f"{where}: opening: {error!r:.500}") from error
    last = [0, 0]
    try:
        for n, event in enumerate(source.events()):
            tally.events += 1
            judge(where, event, last)
            if n > EVENTS_MAX:
                raise Violation(f"{where}: it never ends")
        tally.played += 1
    except TapeError as error:
        _judge_error(where, error)
        tally.broke_off += 1
    except Violation:
        raise
    except Exception as error:
        raise Violation(f"{where}: playing: {error!r:.500}") from error
    tally.drops += sum(source.refused.values())


def _judge_error(where: str, error: TapeError) -> None:
    if len(str(error)) < 10:
        raise Violation(f"{where}: refused without a reason: {error!r}")


def _whole(x: object, least: int = 1) -> bool:
    return type(x) is int and least <= x < 1 << 63


def judge(where: str, event: MarketEvent, last: list[int]) -> None:
    """Whether there could be such an event at that place. `last` holds both times of the one before."""
    problem = ""
    match event:
        case BookUpdate():
            for side, sign in ((event.bids, -1), (event.asks, 1)):
                if not all(_whole(px) and _whole(lots) for px, lots in side):
                    problem = "a level that is no whole price and size"
                elif [px for px, _ in side] != sorted({px for px, _ in side}, key=lambda px, sign=sign: sign * px):
                    problem = "levels out of order"
            if not event.bids or not event.asks:
                problem = "a side is missing"
        case TradePrint():
            if not (_whole(event.px_ticks) and _whole(event.qty_lots)):
                problem = "a print that is no whole price and size"
        case MarkPrice():
            if not _whole(event.px_ticks):
                problem = "a mark that is no price"
        case FundingRate():
            if not math.isfinite(event.rate) or not _whole(event.next_ts_ns, 0) or not _whole(event.interval_s):
                problem = "a rate that is none"
        case _:
            pass
    venue = event.venue_ts_ns
    if not _whole(event.ts_ns, 0) or (venue is not None and not _whole(venue, 0)):
        problem = problem or "a time that is none"
    elif venue is not None and venue < last[0]:
        problem = problem or f"venue time fell from {last[0]}"
    elif event.ts_ns < last[1]:
        problem = problem or f"local time fell from {last[1]}"
    last[:] = [last[0] if venue is None else venue, event.ts_ns]
    if problem:
        raise Violation(f"{where}: {problem}: {event!r:.600}")


def fuzz(folder: Path, seed: int, files: int, said: Callable[[Tally], None] | None = None) -> Tally:
    """So many damaged recordings. Raises Violation."""
    tally = Tally()
    for i in range(files):
        try_one(folder, seed * 10_000_000 + i, tally)
        if said is not None and i % 50 == 0:
            said(tally)
    return tally
