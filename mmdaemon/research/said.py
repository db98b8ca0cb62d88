"""Signals along a recording: a file of them, each said again at its own moment of the run's time."""

from pathlib import Path

from mmdaemon.clock import Clock
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.signals import LINE_MAX_BYTES, Message, Signals, read_line

_LARGEST_BYTES = 256 << 20


class SignalsRefused(ValueError):
    """The file cannot be used; the message names the line and says what to do."""


def read_signals(path: Path) -> list[Message]:
    """A file of JSON objects, one a line, in the order of their `ts_ns`.

    Raises:
        SignalsRefused: it cannot be read, a line is no message, or one is earlier than the one before it.
    """
    found: list[Message] = []
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise SignalsRefused(f"{path}: larger than {_LARGEST_BYTES >> 20} MiB; name the file of signals")
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    message = read_line(line.rstrip())
                except ValueError as error:
                    raise SignalsRefused(
                        f"{path}, line {number}: {error}; a line is one JSON object of at most {LINE_MAX_BYTES} bytes "
                        "(docs/SIGNALS.md)"
                    ) from error
                if found and message.ts_ns < found[-1].ts_ns:
                    raise SignalsRefused(
                        f"{path}, line {number}: said before the line above it (ts_ns); sort the file by ts_ns"
                    )
                found.append(message)
    except OSError as error:
        raise SignalsRefused(f"{path}: cannot be read: {error.strerror}; name the file of signals") from error
    return found


async def say_along(messages: list[Message], door: Signals, clock: Clock) -> None:
    """Offer each when its time has come. What lies before the run's begin is offered at once, and refused as stale."""
    for message in messages:
        ahead_ns = message.ts_ns - clock.wall_ns()
        if ahead_ns > 0:
            await sleep_ns(clock, ahead_ns)
        door.offer(message)
