"""Open a recording by what is in it, whatever it is called. Anything else is refused with what would be read.

A format is told by the first bytes: the metadata or columns of a Parquet file, the header of a CSV, the first line of
a stream. Where a folder is given its files are taken; what has no name of data is passed over, folders in it are not
entered. What has such a name and cannot be read is refused, and so are files of two formats: nothing chooses for the
user. Readers are imported when they are needed, because some need the extra
`mmdaemon[tapes]` and none is needed by a daemon that plays no recording.
"""
# ruff: noqa: PLC0415

import gzip
import re
import zlib
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from mmdaemon.tapes.chain import Chain
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.records import Recording
from mmdaemon.tapes.rows import TapeError, counted
from mmdaemon.tapes.steps import Steps

SUPPORTED = (
    "read are: tapes of mmdaemon (.parquet), CSV of Tardis.dev (incremental_book_L2 or book_snapshot_N, trades, "
    "derivative_ticker), hftbacktest .npz, raw Binance USD-M streams (`<ns> <json>` lines, gzip), Hyperliquid "
    "(orderbooks_SYM, trades_SYM and, if there, prices_SYM, .csv.gz), StandX (orderbook_... and trades_..., .parquet)"
)
EXTRA = ("numpy", "pyarrow")
FIRST_LINE = 1 << 16
"""Bytes in which a first line must end, where it decides."""
TARDIS = "exchange,symbol,timestamp,local_timestamp,"
Made = TypeVar("Made")
_SUFFIXES = {".csv", ".gz", ".parquet", ".npz"}
_STREAM = re.compile(r"[0-9]{18,20} +[{\[]", re.ASCII)


class Format(StrEnum):
    PARQUET = "tape of mmdaemon"
    STANDX = "StandX recording"
    HYPERLIQUID = "Hyperliquid recording"
    BINANCE = "Binance stream"
    TARDIS = "Tardis CSV"
    NPZ = "hftbacktest .npz"


STATES_ITS_STEPS = {Format.PARQUET, Format.STANDX, Format.HYPERLIQUID}


def open_tape(paths: Sequence[Path] | Path, steps: Steps | None = None) -> Tape:
    """The market recorded in these files or folders, as a `MarketSource`.

    Raises:
        TapeError: as `open_recording`; or there is no book in it.
    """
    return Tape(open_recording([paths] if isinstance(paths, Path) else paths, steps or Steps()))


def open_recording(paths: Sequence[Path], steps: Steps) -> Recording:
    """What is recorded in these files or folders. Several follow each other: as given, a folder's by time.

    `steps` are what the user states of the instrument, for formats that do not say it.

    Raises:
        TapeError: there is nothing, or nothing that can be read, or of two formats; or the reader refuses it.
    """
    if not paths:
        raise TapeError(f"no recording was named; {SUPPORTED}")
    found: dict[Format, list[Path]] = {}
    for path in paths:
        for file, kind in _recognised(path):
            files = found.setdefault(kind, [])
            if file in files:
                raise TapeError(f"{file}: named twice; leave one out")
            files.append(file)
    if len(found) > 1:
        raise TapeError(
            "; ".join(f"{files[0]} is a {kind.value}" for kind, files in found.items())
            + ": they cannot be played as one; name the files of one format, or convert them"
        )
    ((kind, files),) = found.items()
    if kind in STATES_ITS_STEPS and steps != Steps():
        given = ", ".join(name for name, value in msgspec.structs.asdict(steps).items() if value is not None)
        raise TapeError(f"{files[0]}: a {kind.value} says what it is of, so {given} cannot be given; leave it out")
    return with_extra(files[0], lambda: _opened(kind, files, steps, in_order=all(path.is_file() for path in paths)))


def with_extra(path: Path, make: Callable[[], Made]) -> Made:
    """What `make` returns, for which the extra may be needed. Raises TapeError that names it where it is missing."""
    try:
        return make()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise TapeError(
            f"{path}: needs {error.name}, which is not installed; install the extra: pip install 'mmdaemon[tapes]'"
        ) from error


def format_of(path: Path) -> Format | None:
    """What a file is, by its content; None where it is nothing that is read here.

    Raises:
        TapeError: it cannot be read, is broken off within its first line, or the extra is missing.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
            if start == b"PAR1":
                return with_extra(path, lambda: _of_parquet(path))
            if start == b"PK\x03\x04":
                return Format.NPZ if path.suffix == ".npz" else None
            file.seek(0)
            first = (gzip.GzipFile(fileobj=file) if start[:2] == b"\x1f\x8b" else file).readline(FIRST_LINE)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TapeError(f"{path}: not a whole gzip file after row 0 ({error}); copy it again") from error
    except OSError as error:
        raise TapeError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions") from error
    line = first.decode("ascii", errors="replace").rstrip("\r\n")
    if line.startswith(TARDIS):
        return Format.TARDIS
    if _STREAM.match(line):
        return Format.BINANCE
    return Format.HYPERLIQUID if _hyperliquid_symbol(path, line) else None


def _recognised(path: Path) -> list[tuple[Path, Format]]:
    if not path.exists():
        raise TapeError(f"{path}: there is no such file or folder; {SUPPORTED}")
    if path.is_dir():
        files = sorted(
            file
            for file in path.iterdir()
            if file.is_file() and not file.name.startswith(".") and file.suffix != ".part"  # of a write that was killed
        )
        for file in files:
            # Passed over, the hour or the trades that it should hold would be missing without a word.
            if file.suffix in _SUFFIXES and _is_empty(file):
                raise TapeError(f"{file}: the file is empty; download it again, or take it out of the folder")
        kinds = [(file, format_of(file)) for file in files]
        known = [(file, kind) for file, kind in kinds if kind]
        if not known:
            raise TapeError(f"{path}: {_none_known(path, files)}; {SUPPORTED}")
        # Of these its reader looks for the other files by name, and says what is wrong with their columns.
        looked_for = {_hyperliquid_symbol(file, None) for file, kind in known if kind is Format.HYPERLIQUID}
        for file, kind in kinds:
            is_looked_for = bool(looked_for) and _hyperliquid_symbol(file, None) in looked_for
            if kind is None and file.suffix in _SUFFIXES and not is_looked_for:
                raise TapeError(
                    f"{file}: its name says data, and it is no recording that is known (an error page of a failed "
                    f"download?); download it again, or take it out of the folder; {SUPPORTED}"
                )
        return known
    kind = format_of(path)
    if kind is None:
        raise TapeError(f"{path}: no recording that is known; {SUPPORTED}")
    return [(path, kind)]


def _none_known(path: Path, files: Sequence[Path]) -> str:
    folders = sorted(each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    said = f"none of its {counted(len(files), 'file')} is a recording that is known"
    if len(files) == 1:
        said = f"its one file, {files[0].name}, is no recording that is known"
    elif not files:
        said = "there is no file in it"
    if not folders:
        return said
    names = ", ".join(folders[:3]) + (", ..." if len(folders) > 3 else "")
    return f"{said}; folders in it are not entered, name what to read: {names}"


def _is_empty(path: Path) -> bool:
    try:
        if path.suffix == ".gz" and path.stat().st_size:
            with gzip.open(path) as file:
                return not file.read(1)
        return not path.stat().st_size
    except (OSError, EOFError, zlib.error):
        return False  # `format_of` says what is wrong with it


def _of_parquet(path: Path) -> Format | None:
    from mmdaemon.tapes.parquet import is_tape
    from mmdaemon.tapes.standx_hours import kind_of

    if is_tape(path):
        return Format.PARQUET
    return Format.STANDX if kind_of(path) else None


def _opened(kind: Format, files: list[Path], steps: Steps, *, in_order: bool) -> Recording:
    match kind:
        case Format.STANDX:
            from mmdaemon.tapes.standx import StandxTape

            return StandxTape(files)
        case Format.TARDIS:
            from mmdaemon.tapes.tardis import TardisTape

            return TardisTape(files, steps)
        case Format.HYPERLIQUID:
            return _hyperliquid(files)
        case Format.PARQUET:
            from mmdaemon.tapes.parquet import ParquetTape

            return _one_after_another(files, ParquetTape, in_order=in_order)
        case Format.NPZ:
            from mmdaemon.tapes.npz import NpzTape

            return _one_after_another(files, lambda path: NpzTape(path, steps), in_order=in_order)
        case Format.BINANCE:
            from mmdaemon.tapes.binance import BinanceTape

            return BinanceTape(files, steps)  # one clock and one book over all of them


def _one_after_another(files: list[Path], reader: Callable[[Path], Recording], *, in_order: bool) -> Recording:
    parts = [(path, reader(path)) for path in files]
    if len(parts) == 1:
        return parts[0][1]
    if not in_order:
        parts.sort(key=lambda part: part[1].start_ts_ns)
    return Chain([recording for _, recording in parts], [str(path) for path, _ in parts])


def _hyperliquid(files: list[Path]) -> Recording:
    from mmdaemon.tapes.hyperliquid import SUFFIX, HyperliquidTape

    found = dict.fromkeys((path.parent, _hyperliquid_symbol(path, None)) for path in files)
    symbols = sorted({symbol for _, symbol in found if symbol})
    if len(symbols) > 1:
        raise TapeError(
            f"{files[0].parent}: recordings of {', '.join(symbols)} in one folder; name one of its files to choose"
        )
    (symbol,) = symbols
    for folder, _ in found:
        for kind in ("orderbooks", "trades"):
            needed = folder / f"{kind}_{symbol}{SUFFIX}"
            if not needed.exists():
                raise TapeError(f"{needed}: missing, and a tape needs both books and trades; {SUPPORTED}")
    parts = [(str(folder), HyperliquidTape(folder, symbol)) for folder, _ in found]
    return parts[0][1] if len(parts) == 1 else Chain([part for _, part in parts], [name for name, _ in parts])


def _hyperliquid_symbol(path: Path, header: str | None) -> str | None:
    """What a file of such a recording is of, by its name and, where given, its header; None for any other file."""
    from mmdaemon.tapes.hyperliquid import KINDS, SUFFIX

    word, _, symbol = path.name.removesuffix(SUFFIX).partition("_")
    if not path.name.endswith(SUFFIX) or word not in KINDS.values():
        return None
    return symbol if header is None or KINDS.get(header) == word else None
