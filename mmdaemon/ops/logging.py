"""Log lines on stderr: one line an event, never on the hot path, never waited for.

    2026-01-05T00:00:00.123Z INFO     guard_moved before=running after=soft_pause reasons="book, clock"

`logger.info("guard_moved", before=..., after=...)` anywhere in the program: the first argument is an event's name, the
rest are its fields. Under systemd (`JOURNAL_STREAM` names stderr) time and level give way to the `<n>` prefix of
sd-daemon(3), and journald keeps both.

A line is handed to a thread over a bounded queue. When stderr is not read (a stopped pager, a full pipe) lines are
dropped and counted, and the count is logged once it is read again: a log that stalls must not stall a cancel. Values of
credentials are blotted out of the finished line, whatever part of it they came in by.
"""

import atexit
import base64
import json
import logging
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC
from typing import TYPE_CHECKING, Final, TextIO
from urllib.parse import quote, quote_plus

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
QUEUE_LINES: Final = 10_000
CLOSE_S: Final = 2.0
"""Longest that the end of the process waits for lines to be written."""
SECRET_MIN_CHARS: Final = 6
BLOT: Final = "***"
_BARE = re.compile(r"[^\s\"=\\]+")


def setup(
    level: str = "INFO", stream: TextIO | None = None, *, secrets: Iterable[str] = (), threaded: bool = True
) -> "LogWriter":
    """Log to `stream` (stderr) from `level` on; what was set up before is undone. Standard `logging` goes there too.

    Args:
        level: one of LEVELS.
        stream: where lines go; stderr by default.
        secrets: values that must never be seen, of at least 6 characters.
        threaded: False writes in line, for tools that nothing waits for and for virtual time.

    Raises:
        ValueError: no such level, or a secret too short to be told from other text.
    """
    if level.upper() not in LEVELS:
        raise ValueError(f"log level {level!r}: there are {', '.join(LEVELS)}")
    out = sys.stderr if stream is None else stream
    render = _for_journald if is_journal(out) else _for_people
    writer = LogWriter(out, render, redactor(secrets), threaded=threaded)
    logger.remove()
    # Tracebacks without values of variables (diagnose): a variable may be a key.
    logger.add(writer.write, level=level.upper(), format=_exception, backtrace=False, diagnose=False, catch=True)
    logging.basicConfig(handlers=[_Standard()], level=logging.WARNING, force=True)
    return writer


def is_journal(stream: TextIO) -> bool:
    """Whether systemd connected `stream` to journald: `JOURNAL_STREAM` holds its device and inode."""
    named = os.environ.get("JOURNAL_STREAM", "")
    if not named:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"


def redactor(secrets: Iterable[str]) -> Callable[[str], str]:
    """A function that blots out each secret: as it is, and as a URL, base64, JSON or `repr` would write it.

    Raises:
        ValueError: a secret of fewer than 6 characters.
    """
    forms: set[str] = set()
    for secret in secrets:
        if len(secret) < SECRET_MIN_CHARS:
            raise ValueError(f"a secret of {len(secret)} characters cannot be blotted out of logs; is it whole?")
        encoded = base64.b64encode(secret.encode()).decode()
        written = {secret, quote(secret, safe=""), quote_plus(secret), encoded, encoded.rstrip("=")}
        # Twice: a list in a field is first written by `repr`, then quoted.
        for _ in range(2):
            written |= {form for text in written for form in _escaped(text)}
        forms |= written
    if not forms:
        return str
    # Longest first: a secret that begins another one must not leave that one's rest.
    pattern = re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)))
    return lambda text: pattern.sub(BLOT, text)


def _escaped(text: str) -> tuple[str, ...]:
    return (
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        repr(text + "'\"")[1:-4],  # as `repr` writes it in a text that has both kinds of quotes
        _plain(text),
    )


class LogWriter:
    """Writes lines from a thread of its own. `dropped` counts the lines that were lost."""

    def __init__(
        self,
        stream: TextIO,
        render: "Callable[[Record, str], str]",
        redact: Callable[[str], str],
        *,
        threaded: bool = True,
        queue_lines: int = QUEUE_LINES,
    ) -> None:
        self.dropped = 0
        self._said_dropped = 0
        self._stream = stream
        self._render = render
        self._redact = redact
        self._queue: queue.Queue[str | None] = queue.Queue(queue_lines)
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def write(self, message: "Message") -> None:
        """loguru's sink. Never waits, but for the stream itself where there is no thread."""
        text = self._render(message.record, str(message).rstrip("\n"))
        if self._thread is None:
            self._write_out(text)
            return
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for at most 2 s."""
        atexit.unregister(self.close)
        thread, self._thread = self._thread, None
        if thread is None:
            return
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        thread.join(CLOSE_S)

    def _run(self) -> None:
        while (text := self._queue.get()) is not None:
            self._write_out(text)
            if self.dropped > self._said_dropped and self._queue.empty():
                self._said_dropped = self.dropped
                logger.warning("log_lines_dropped", total=self.dropped)

    def _write_out(self, text: str) -> None:
        try:
            self._stream.write(self._redact(text) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the other end is gone, or the stream was closed
            self.dropped += 1


def _for_people(record: "Record", exception: str) -> str:
    at = record["time"].astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return "\n".join((f"{at}Z {record['level'].name:<8} {_event(record)}", *_lines(exception)))


def _for_journald(record: "Record", exception: str) -> str:
    prefix = f"<{_priority(record['level'].no)}>"
    return "\n".join(prefix + line for line in (_event(record), *_lines(exception)))


def _priority(level_no: int) -> int:
    """syslog's priority: 7 debug, 6 info, 5 notice, 4 warning, 3 error, 2 critical."""
    for floor, priority in ((50, 2), (40, 3), (30, 4), (25, 5), (20, 6)):
        if level_no >= floor:
            return priority
    return 7


def _event(record: "Record") -> str:
    fields = (f"{name}={_value(value)}" for name, value in record["extra"].items())
    return " ".join((_plain(record["message"]), *fields))


def _value(value: object) -> str:
    text = str(value)
    if text.isprintable() and _BARE.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _lines(exception: str) -> list[str]:
    return [_plain(line) for line in exception.splitlines()]


def _plain(text: str) -> str:
    """One line without control characters, whatever a message from outside brought."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _exception(_record: "Record") -> str:
    """loguru's format: the traceback alone. The line before it is made from the record."""
    return "{exception}"


class _Standard(logging.Handler):
    """What asyncio, aiohttp and others say by standard `logging`."""

    def emit(self, record: logging.LogRecord) -> None:
        known = record.levelname in LEVELS
        logger.opt(exception=record.exc_info).log(
            record.levelname if known else record.levelno, "{}", record.getMessage(), logger=record.name
        )
