"""`mmdaemon signal`: tell a running daemon something of the market, or of what to do, for a while."""

import time
from pathlib import Path

import msgspec

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.operate import operate
from mmdaemon.core.signals import Kind
from mmdaemon.daemon.signals import Message, number_or_word


def signal(
    kind: str,
    value: str,
    *,
    ttl: float = 60.0,
    confidence: float = 1.0,
    source: str = "operator",
    sequence: int | None = None,
    state_dir: Path | None = None,
) -> int:
    """Say something of the market to a running daemon, for a while. It can lean, widen, shrink and stop its quotes, and
    never raise a limit; `docs/SIGNALS.md` has the kinds.

    Exits with 0 where it was taken, 1 where it was refused (and says why) or no daemon answers.

    Parameters
    ----------
    kind
        target_inventory, direction_hint, size_multiplier, spread_multiplier, regime_hint or pause.
    value
        A number, or a word for regime_hint and pause ("none" takes back the one before).
    ttl
        How long it holds, in seconds. The first half in full, then less and less; a pause and a regime to the end.
    confidence
        How sure you are, 0 to 1.
    source
        Who says it: a name of `signals.sources`.
    sequence
        The source's own count, which must grow; the time unless set.
    state_dir
        The daemon's state directory.
    """
    if kind not in tuple(Kind):
        raise Refused(f"there is no kind {kind!r}; there are {', '.join(Kind)}", ExitCode.USAGE)
    now_ns = time.time_ns()
    number = now_ns if sequence is None else sequence
    message = Message(source, kind, number_or_word(value), confidence, now_ns, ttl, number)
    return operate(locate_dir(state_dir), "signal", {"message": msgspec.json.encode(message).decode()})
