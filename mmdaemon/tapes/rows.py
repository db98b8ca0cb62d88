"""Lines and CSV rows of a recording, and exact numbers out of their text. Nothing here rounds or guesses.

A file that cannot be used at all raises `TapeError`; a row that cannot be used raises `BadRow` with a reason to be
counted.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import BufferedIOBase
from pathlib import Path

from mmdaemon.core.figures import LARGEST
from mmdaemon.core.types import E10, NS

KEPT_PER_REASON = 5
"""Defects described in full, by reason; the rest are only counted."""
REMEMBERED = 200_000
GZIP_MAGIC = b"\x1f\x8b"
LATEST_NS = 7_258_118_400 * NS
"""2200-01-01 UTC. What is later is damage; what is earlier stays within 64 bits, with any correction added."""

DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?", re.ASCII)
"""Of no more digits than a number of a market has: an exponent without bound would be taken apart for hours."""
_LOCAL_S = re.compile(r"([0-9]{9,10})(?:\.([0-9]{1,9}))?", re.ASCII)
_EXCHANGE_MS = re.compile(r"[0-9]{12,13}", re.ASCII)


class TapeError(Exception):
    """A recording that cannot be used. The message names the file, the row where there is one, and what to do."""


class BadRow(Exception):
    """A row that is dropped. `reason` is what is counted, `detail` what is shown."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Refusals:
    """What was dropped: a count by reason, and the first few of each with file and row."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.described: list[str] = []

    def add(self, path: Path, row: int, reason: str, detail: str) -> None:
        count = self.counts[reason] = self.counts.get(reason, 0) + 1
        if count <= KEPT_PER_REASON:
            self.described.append(f"{path.name} row {row}: {reason}: {detail}")


def counted(count: int, one: str, many: str = "") -> str:
    """ "1 file", "2 files", "1,000 entries" (where `many` is not `one` and an s)."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def moment(ts_ns: int, text: str) -> int:
    """That time. Raises BadRow("bad_time"): it is not between 1970 and 2200."""
    if not 0 < ts_ns < LATEST_NS:
        raise BadRow("bad_time", f"{text[:40]!r} is no time between 1970 and 2200")
    return ts_ns


def header(path: Path) -> str:
    """The first line of a gzipped file, without its end.

    Raises:
        TapeError: it cannot be read, is not gzip, or is empty.
    """
    for _, line in lines(path):
        return line.rstrip("\r\n")
    raise TapeError(f"{path}: the file is empty; record it anew, or remove it")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """`(row, line)`, the header being row 1, each line with its end as found.

    Raises:
        TapeError: when reached: the file cannot be opened, is not gzip, or breaks off.
    """
    for row, line in _lines(path, _gunzipped):
        yield row, line.decode("ascii", "replace")


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """`(row, line)` from row 1, each with its end as found, of a file that is gzipped or plain.

    Raises:
        TapeError: when reached: the file cannot be opened, or breaks off.
    """
    return _lines(path, _gunzipped_or_plain)


def _gunzipped(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb")


def _gunzipped_or_plain(path: Path) -> BufferedIOBase:
    with path.open("rb") as file:
        is_gzip = file.read(2) == GZIP_MAGIC
    return _gunzipped(path) if is_gzip else path.open("rb")


def _lines(path: Path, opened: Callable[[Path], BufferedIOBase]) -> Iterator[tuple[int, bytes]]:
    row = 0
    try:
        with opened(path) as file:
            for line in file:
                row += 1
                yield row, line
    except (EOFError, zlib.error) as error:
        raise TapeError(
            f"{path}: broken off or damaged after row {row} ({error}); copy it again from the recorder, "
            "or recover what is whole (`gzip -dc FILE | head -n ROWS | gzip`) and read that"
        ) from error
    except gzip.BadGzipFile as error:
        raise TapeError(
            f"{path}: not a whole gzip file after row {row} ({error}); copy it again from the recorder, "
            "or compress it with gzip"
        ) from error
    except OSError as error:
        raise TapeError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error


def table(path: Path, columns: str, refusals: Refusals) -> Iterator[tuple[int, list[str]]]:
    """`(row, cells)` below a header that must be `columns`. A row of another width, or without its end, is refused.

    Raises:
        TapeError: as `lines`; or the header is another.
    """
    width = columns.count(",") + 1
    for row, line in lines(path):
        text = line.rstrip("\r\n")
        if row == 1:
            if text != columns:
                raise TapeError(
                    f"{path} row 1: columns are {text[:120]!r}, expected {columns[:120]!r}; record it anew with these, "
                    "or leave it out"
                )
        elif not line.endswith("\n"):
            refusals.add(path, row, "cut_off", "the last row has no end, so its last number may lack digits")
        elif (cells := text.split(",")) and len(cells) == width:
            yield row, cells
        else:
            refusals.add(path, row, "wrong_columns", f"{len(cells)} instead of {width}")


def local_ns(text: str) -> int:
    """Seconds of UTC with up to nine decimals, exact. Raises BadRow("bad_time")."""
    match = _LOCAL_S.fullmatch(text)
    if match is None:
        raise BadRow("bad_time", f"{text!r} is not seconds of UTC with at most nine decimals")
    return moment(int(match[1]) * NS + int((match[2] or "0").ljust(9, "0")), text)


def exchange_ns(text: str) -> int:
    """Whole milliseconds of UTC. Raises BadRow("bad_time")."""
    if _EXCHANGE_MS.fullmatch(text) is None:
        raise BadRow("bad_time", f"{text!r} is not whole milliseconds of UTC")
    return moment(int(text) * 1_000_000, text)


def whole_steps(text: str, step_e10: int, off: str) -> int:
    """A decimal as a number of steps.

    Raises BadRow: "bad_number" for what is no decimal of zero or more, or more than any price or size, and `off` for
    what is between two steps.
    """
    if DECIMAL.fullmatch(text) is None:
        raise BadRow("bad_number", f"{text[:40]!r} is not a decimal of zero or more")
    numerator, denominator = Decimal(text).as_integer_ratio()
    count, rest = divmod(numerator * E10, denominator * step_e10)
    if rest:
        raise BadRow(off, f"{text} is not a multiple of {Decimal(step_e10).scaleb(-10).normalize():f}")
    if count > LARGEST:
        raise BadRow("bad_number", f"{text} is larger than any price or size")
    return count


def counting(step_e10: int, off: str, *, zero: bool = False) -> Callable[[str], int]:
    """A reader of a positive decimal as a whole number of steps: ticks of a price, lots of a size.

    `zero` lets 0 pass: the size of a level that is gone. It raises BadRow as `whole_steps`, and for zero.
    """
    known: dict[str, int] = {}

    def steps(text: str) -> int:
        count = known.get(text)
        if count is not None:
            return count
        count = whole_steps(text, step_e10, off)
        if not count and not zero:
            raise BadRow("bad_number", f"{text!r} is zero")
        if len(known) >= REMEMBERED:
            known.clear()
        known[text] = count
        return count

    return steps
