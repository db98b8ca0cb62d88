"""A row's result as a file, and how it is known to be of today.

Its key is a digest of recording, part of it, settings and fit; a file with another one is of something else. Beside it
stands the code that it was played with, comments and docstrings left out. Where that is another, the row is played anew
unless the user takes it as it is, and then the tables say so.
"""

import ast
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon.core.types import Instrument
from mmdaemon.research.ablation.fitting import Fitted
from mmdaemon.research.ablation.score import Score, Window
from mmdaemon.settings.presets import Value

FORMAT: Final = 1
_CODE: Final = ("core", "daemon", "journal", "tapes", "venues", "settings", "research/ablation", "research/calibration")
"""Packages that a result follows from. How it is shown is in none of the files that count."""
_OTHERS: Final = frozenset({"table.py", "page.py", "plot.py", "presets.py", "documents.py"})
"""But for these: they only show, or are in the settings already."""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What all rows of one recording share."""

    key: str
    code: str
    name: str
    paths: tuple[str, ...]
    hours: float
    """How much of it is played; 0 is all."""
    instrument: Instrument
    provenance: dict[str, str]
    learned: Window
    """What the rules were fitted on, and their parameters chosen."""
    scored: Window
    """After what the rules were fitted on."""
    whole: Window
    fitted: Fitted


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One row under one assumption of fills."""

    key: str
    code: str
    tape: str
    row: str
    fills: str
    refused: str = ""
    """Why it was not played; then there is nothing below."""
    over: dict[str, Value] = {}
    """Settings on top of the preset."""
    config_hash: str = ""
    ended: str = ""
    """How the run ended."""
    stopped: str = ""
    """Why it was stopped for good before that: from then on it earned and lost nothing but what it held."""
    learned: Score | None = None
    scored: Score | None = None
    whole: Score | None = None
    digest: str = ""
    cpu_s: float = 0.0


@cache
def code_digest() -> str:
    """Of the modules that a result follows from."""
    root = resources.files("mmdaemon")
    made = hashlib.blake2b(digest_size=8)
    for package in _CODE:
        folder = Path(str(root.joinpath(package)))
        for path in sorted(folder.rglob("*.py")):
            if path.name not in _OTHERS:
                made.update(path.relative_to(folder).as_posix().encode() + b"\0" + meaning_of(path.read_text("utf-8")))
    return made.hexdigest()


def meaning_of(source: str) -> bytes:
    """A module without its comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [each for each in node.body if not _is_text(each)]
    return ast.dump(tree).encode()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def key_of(*parts: object) -> str:
    made = hashlib.blake2b(digest_size=12)
    for part in (FORMAT, *parts):
        made.update(repr(part).encode() + b"\0")
    return made.hexdigest()


def result_path(out: Path, tape: str, fills: str, row: str) -> Path:
    return out / f"{tape}-{fills}-{row}.json"


def prepared_path(out: Path, tape: str) -> Path:
    return out / f"{tape}-prepared.json"


def columns_path(out: Path, tape: str) -> Path:
    return out / f"{tape}-columns.npz"


def write(path: Path, record: msgspec.Struct) -> None:
    """Whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
    partial.replace(path)


def read_result(path: Path) -> Result | None:
    """None where there is none, or one of another format."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Result)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None


def read_prepared(path: Path) -> Prepared | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Prepared)
    except (FileNotFoundError, msgspec.DecodeError, msgspec.ValidationError):
        return None
