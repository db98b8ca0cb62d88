"""Open a recording by what it is, whatever it is called. Anything else is refused with what would be read."""

from pathlib import Path

from mmdaemon.tapes.hyperliquid import KINDS, SUFFIX, HyperliquidTape
from mmdaemon.tapes.rows import TapeError, header

SUPPORTED = (
    "supported now: a recording of a Hyperliquid perpetual, which is a folder with orderbooks_BTC.csv.gz, "
    "trades_BTC.csv.gz and, if there, prices_BTC.csv.gz, or one of these files"
)


def open_tape(path: Path) -> HyperliquidTape:
    """The market recorded at `path`, a folder or a file of one, as a `MarketSource`.

    Raises:
        TapeError: there is nothing, or nothing that can be read; the message names it and says what can.
    """
    if not path.exists():
        raise TapeError(f"{path}: there is no such file or folder; {SUPPORTED}")
    folder = path if path.is_dir() else path.parent
    candidates = sorted(path.iterdir()) if path.is_dir() else [path]
    symbols = sorted({symbol for candidate in candidates if (symbol := _symbol(candidate))})
    if not symbols:
        raise TapeError(f"{path}: no recording that is known, by name and header; {SUPPORTED}")
    if len(symbols) > 1:
        raise TapeError(f"{path}: recordings of {', '.join(symbols)} in one folder; name one of its files to choose")
    (symbol,) = symbols
    for kind in ("orderbooks", "trades"):
        needed = folder / f"{kind}_{symbol}{SUFFIX}"
        if not needed.exists():
            raise TapeError(f"{needed}: missing, and a tape needs both books and trades; {SUPPORTED}")
    return HyperliquidTape(folder, symbol)


def _symbol(path: Path) -> str | None:
    """What a file of a recording is of; None for any other file. Raises TapeError where one so named cannot be read."""
    word, _, symbol = path.name.removesuffix(SUFFIX).partition("_")
    if not path.name.endswith(SUFFIX) or word not in KINDS.values() or KINDS.get(header(path)) != word:
        return None
    return symbol
