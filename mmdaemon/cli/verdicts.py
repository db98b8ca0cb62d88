"""Recomputing journaled decisions, with progress: shared by `replay` and `demo`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec
from rich.console import Console
from rich.progress import Progress

from mmdaemon.core.decision import DecisionInputs
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.journal.replay import OtherProgram, Verdict, verify

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode
_inputs = msgspec.msgpack.Decoder(DecisionInputs).decode


def _read(decode: Callable[[bytes], T], blob: bytes) -> T:
    try:
        return decode(blob)
    except msgspec.ValidationError as error:  # it is MessagePack, and says other things
        raise OtherProgram(str(error)) from error


class Recompute:
    """Decide again, from bytes to bytes. Parameters of a run are decoded once."""

    def __init__(self) -> None:
        self._blob = b""
        self._params: Params | None = None

    def __call__(self, inputs: bytes, params: bytes) -> bytes:
        if self._params is None or params != self._blob:
            self._blob, self._params = params, _read(msgspec.msgpack.Decoder(Params).decode, params)
        return _encode(decide(_read(_inputs, inputs), self._params))


def recompute(console: Console, journal: Path, epoch: int | None, total: int | None) -> Verdict:
    """Verify with a progress bar."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("recomputing decisions", total=total)
        return verify(journal, Recompute(), epoch, lambda done: bars.update(bar, completed=done))


def verify_decisions(console: Console, journal: Path, epoch: int, *, at_least: int) -> tuple[str, bool]:
    """One line of a check list."""
    verdict = recompute(console, journal, epoch, None)
    name = f"replay --verify: {verdict.checked:,} decisions recomputed, {verdict.mismatched} differ"
    return name, verdict.ok and verdict.checked >= at_least
