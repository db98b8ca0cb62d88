"""The rows of hftbacktest's `.npz`: flags, columns, their order, and floats as exact steps. See `npz.py`."""

import tokenize
import zipfile
import zlib
from fractions import Fraction
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import numpy.typing as npt

from mmdaemon.core.types import E10
from mmdaemon.tapes.records import DepthKind, Facts
from mmdaemon.tapes.rows import TapeError

EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
DEPTH, TRADE, CLEAR, SNAPSHOT, BBO = 1, 2, 3, 4, 5
L3 = (10, 11, 12, 13)
NEW, GOES_ON = 1, 2
"""What `ival` says on the first row of a record, see above."""
EVENT = np.dtype(
    [
        ("ev", "u8"),
        ("exch_ts", "i8"),
        ("local_ts", "i8"),
        ("px", "f8"),
        ("qty", "f8"),
        ("order_id", "u8"),
        ("ival", "i8"),
        ("fval", "f8"),
    ],
    align=True,
)
FACTS = "mmdaemon_facts"
SLICE = 1 << 16
EXACT = 1 << 53
"""Whole numbers below this are exact as floats, so that their quotient is the float nearest to the decimal."""
KINDS = {DEPTH: DepthKind.DELTA, CLEAR: DepthKind.SNAPSHOT, BBO: DepthKind.TOUCH}

Rows = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Flags = npt.NDArray[np.uint64]


def in_order(rows: Rows) -> tuple[Ints, Flags]:
    """Where each row goes that is there in the exchange's order: `(row, flags)`, as `correct_event_order` has it.

    Up to a row that as many came locally as happened at the exchange, both orders hold the same rows; so only what lies
    between two such places must be merged.
    """
    n = len(rows)
    by_local = _by_local(rows)
    settled = np.flatnonzero(np.maximum.accumulate(by_local) == np.arange(n)) + 1
    begins = np.concatenate(([0], settled[:-1]))
    places: list[Ints] = []
    flags: list[Flags] = []
    done = 0
    overtaking = settled - begins > 1
    spans = np.stack((begins[overtaking], settled[overtaking]), axis=1)
    for begin, end in cast("list[tuple[int, int]]", spans.tolist()):
        places.append(np.arange(done, begin))
        flags.append(np.full(begin - done, EXCH | LOCAL, np.uint64))
        merged = _merge(rows["exch_ts"][begin:end].tolist(), rows["local_ts"][begin:end].tolist(), by_local, begin)
        places.append(np.array([place for place, _ in merged], np.int64))
        flags.append(np.array([flag for _, flag in merged], np.uint64))
        done = end
    places.append(np.arange(done, n))
    flags.append(np.full(n - done, EXCH | LOCAL, np.uint64))
    return np.concatenate(places), np.concatenate(flags)


def _by_local(rows: Rows) -> Ints:
    """The rows by local time. Of equal local times prints come first, unless some book of the very same times came
    before one: so a converter has it that is given Tardis's trades and then its books, as hftbacktest advises.
    """
    exch, local, is_trade = rows["exch_ts"], rows["local_ts"], (rows["ev"] & 0xFF) == TRADE
    plain = np.argsort(local, kind="stable")
    if not np.any((np.diff(local[plain]) == 0) & (np.diff(exch[plain]) != 0)):
        return plain
    sorted_ = np.lexsort((exch, local))
    same = (np.diff(local[sorted_]) == 0) & (np.diff(exch[sorted_]) == 0)
    after = same & is_trade[sorted_[1:]] & ~is_trade[sorted_[:-1]]
    comes_first = is_trade & ~np.isin(local, local[sorted_[1:]][after])
    return np.lexsort((~comes_first, local))


def _merge(exch: list[int], local: list[int], by_local: Ints, begin: int) -> list[tuple[int, int]]:
    times = list(zip(exch, local, strict=True))
    n = len(times)
    arrives = (by_local[begin : begin + n] - begin).tolist()
    out: list[tuple[int, int]] = []
    i = j = 0
    while i < n or j < n:
        if i < n and j < n and times[i] == times[arrives[j]]:
            out.append((begin + i, EXCH | LOCAL))
            i, j = i + 1, j + 1
        elif i < n and (j == n or times[i] < times[arrives[j]]):
            out.append((begin + i, EXCH))
            i += 1
        else:
            out.append((begin + arrives[j], LOCAL))
            j += 1
    return out


def floats(counts: Ints, step_e10: int) -> Floats:
    """Whole steps as the floats nearest to their decimals: a quotient of two exact floats is rounded once."""
    step = Fraction(step_e10, E10)
    if counts.size and int(np.abs(counts).max()) * step.numerator >= EXACT:
        raise TapeError(
            f"{int(np.abs(counts).max())} steps of {float(step):g} is too large for an exact float; "
            "write another format (--to)"
        )
    return (counts * step.numerator) / float(step.denominator)


def as_steps(values: Floats, step_e10: int) -> tuple[Ints, Bools, Bools]:
    """Floats as whole steps; which of them are such; and which are the float nearest to the decimal.

    The float product of steps and step is taken, too: so do hftbacktest's own converters make prices of deletions.
    """
    step = Fraction(step_e10, E10)
    most = EXACT // step.numerator
    with np.errstate(all="ignore"):
        counts = np.nan_to_num(np.rint(values * step.denominator / step.numerator), posinf=0, neginf=0)
        counts = np.where(np.abs(counts) < most, counts, 0).astype(np.int64)
    nearest = np.asarray(floats(counts, step_e10)) == values
    return counts, nearest | (counts * float(step) == values), nearest


DAMAGED = (
    *(ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, NotImplementedError),
    *(SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What numpy and zipfile raise for a file whose bytes were changed: the header of an array is Python text to numpy."""


def load(path: Path) -> tuple[Rows, Facts | None]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            data = file["data"]
            facts = msgspec.json.decode(file[FACTS].tobytes(), type=Facts) if FACTS in file else None
    except OSError as error:
        raise TapeError(f"{path}: cannot be read ({error.strerror or error}); is it an .npz file?") from error
    except DAMAGED as error:
        raise TapeError(
            f"{path}: not an .npz of hftbacktest, or broken off ({error}); it must hold an array `data`"
        ) from error
    if data.dtype != EVENT or data.ndim != 1:
        raise TapeError(
            f"{path}: its array is {data.ndim}-dimensional of {str(data.dtype)[:80]}, not the rows of hftbacktest 2; "
            "convert one of version 1 with hftbacktest.data.utils.migration2"
        )
    if not data.size:
        raise TapeError(f"{path}: it has no rows; convert it anew, or remove it")
    return data, facts
