"""Log lines: one an event, never on the hot path, never waited for. To journald with fields, else to stderr.

    2026-01-05T00:00:00.123Z INFO     guard_moved before=running after=soft_pause reasons="book, clock"

`logger.info("guard_moved", before=..., after=...)` anywhere in the program: the first argument is an event's name, the
rest are its fields. Under systemd (`JOURNAL_STREAM` names stderr) it goes to journald by its native protocol
(`journald.py`), with a MESSAGE_ID and each field by name: MMDAEMON_EVENT, _ORDER, _REASON and what else it has, and
from the writer's `stamp` MMDAEMON_SYMBOL, _RUN and _GUARD. While journald does not take it, it goes to stderr with the
`<n>` prefix of sd-daemon(3), in which journald sees at least the level.

A line is handed to a thread over a bounded queue. When nobody reads (a stopped pager, a full pipe, a journald that is
stopped) lines are dropped and counted, and the count is logged once somebody reads again: a log that stalls must not
stall a cancel. Values of credentials are blotted out of the finished line and of each field, whatever part of it they
came in by.
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
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO
from urllib.parse import quote, quote_plus

from loguru import logger

from mmdaemon.ops import journald
from mmdaemon.secret import Credentials

if TYPE_CHECKING:
    from loguru import Message, Record

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
QUEUE_LINES: Final = 10_000
CLOSE_S: Final = 2.0
"""Longest that the end of the process waits for lines to be written."""
SECRET_MIN_CHARS: Final = 6
BLOT: Final = "***"
IDENTIFIER: Final = "mmdaemon"
_BARE = re.compile(r"[^\s\"=\\]+")
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,47}")
_ALSO: Final[Mapping[str, str]] = {"client_id": "order", "reasons": "reason"}
"""Fields of our lines that are found in journald by another name."""


class Line(NamedTuple):
    """An event as it is written: as text, and as fields where journald takes it."""

    text: str
    fields: Mapping[str, str] | None = None


def setup(
    level: str = "INFO",
    stream: TextIO | None = None,
    *,
    secrets: Iterable[str] = (),
    threaded: bool = True,
    journal: Path = journald.SOCKET,
) -> "LogWriter":
    """Log to `stream` (stderr) from `level` on, or to journald where `stream` leads there; what was set up before is
    undone. Standard `logging` goes there too.

    Args:
        level: one of LEVELS.
        stream: where lines go; stderr by default.
        secrets: values that must never be seen, of at least 6 characters.
        threaded: False writes in line, for tools that nothing waits for and for virtual time.
        journal: where journald listens.

    Raises:
        ValueError: no such level, or a secret too short to be told from other text.
    """
    out = sys.stderr if stream is None else stream
    writer = LogWriter(out, redactor(secrets), journal if is_journal(out) else None, threaded=threaded)
    try:
        writer.set_level(level)
    except ValueError:
        writer.close()
        raise
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


def texts_of(credentials: Credentials | None) -> list[str]:
    """What must never be seen in a log; a text too short to be told from others is not a key of any exchange."""
    if credentials is None:
        return []
    texts = (each.reveal() for each in (credentials.api_key, credentials.api_secret, credentials.api_passphrase))
    return [text for text in texts if len(text) >= SECRET_MIN_CHARS]


def _escaped(text: str) -> tuple[str, ...]:
    return (
        json.dumps(text)[1:-1],
        json.dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        repr(text + "'\"")[1:-4],  # as `repr` writes it in a text that has both kinds of quotes
        _plain(text),
    )


class LogWriter:
    """Writes lines from a thread of its own. `dropped` counts the lines that were lost, `detoured` those that journald
    did not take and stderr did."""

    def __init__(
        self,
        stream: TextIO,
        redact: Callable[[str], str],
        journal: Path | None = None,
        *,
        threaded: bool = True,
        queue_lines: int = QUEUE_LINES,
    ) -> None:
        self.dropped = self.detoured = 0
        self.stamp: Callable[[], Mapping[str, object]] = dict
        """Fields that journald is given with every line; called where the line was said."""
        self.level = ""
        self._said_dropped = 0
        self._stream = stream
        self._journal = None if journal is None else journald.JournalSocket(journal)
        self.redact = redact
        self._queue: queue.Queue[Line | None] = queue.Queue(queue_lines)
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._run, name="log", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def set_level(self, level: str) -> None:
        """From here on. Raises ValueError: there is no such level."""
        if level.upper() not in LEVELS:
            raise ValueError(f"log level {level!r}: there are {', '.join(LEVELS)}")
        self.level = level.upper()
        logger.remove()
        # Tracebacks without values of variables (diagnose): a variable may be a key.
        logger.add(self.write, level=self.level, format=_exception, backtrace=False, diagnose=False, catch=True)

    def write(self, message: "Message") -> None:
        """loguru's sink. Never waits, but for the way out itself where there is no thread."""
        record, exception = message.record, str(message).rstrip("\n")
        if self._journal is None:
            line = Line(_for_people(record, exception))
        else:
            line = Line(_for_journald(record, exception), _fields(record, exception, self.stamp()))
        if self._thread is None:
            self._write_out(line)
            return
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, for at most 2 s."""
        atexit.unregister(self.close)
        thread, self._thread = self._thread, None
        if thread is None:
            self._close_journal()
            return
        try:
            self._queue.put(None, timeout=CLOSE_S)
        except queue.Full:
            return
        thread.join(CLOSE_S)

    def _run(self) -> None:
        while (line := self._queue.get()) is not None:
            self._write_out(line)
            if self.dropped > self._said_dropped and self._queue.empty():
                self._said_dropped = self.dropped
                logger.warning("log_lines_dropped", total=self.dropped)
        self._close_journal()

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _write_out(self, line: Line) -> None:
        if self._journal is not None and line.fields is not None:
            try:
                self._journal.send({name: self.redact(text) for name, text in line.fields.items()})
            except OSError:
                self.detoured += 1
            else:
                return
        try:
            self._stream.write(self.redact(line.text) + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the other end is gone, or the stream was closed
            self.dropped += 1


def _for_people(record: "Record", exception: str) -> str:
    at = record["time"].astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    return "\n".join((f"{at}Z {record['level'].name:<8} {_event(record)}", *_lines(exception)))


def _for_journald(record: "Record", exception: str) -> str:
    prefix = f"<{_priority(record['level'].no)}>"
    return "\n".join(prefix + line for line in (_event(record), *_lines(exception)))


def _fields(record: "Record", exception: str, stamp: Mapping[str, object]) -> dict[str, str]:
    """What journald keeps by name. A line that is no event of ours (of asyncio, aiohttp) has neither name nor id."""
    fields = {journald.field_name(name): _plain(str(value)) for name, value in stamp.items()}
    for key, value in record["extra"].items():
        name = str(key)
        fields[journald.field_name(_ALSO.get(name, name))] = _plain(str(value))
    fields["MESSAGE"] = "\n".join((_event(record), *_lines(exception)))
    fields["PRIORITY"] = str(_priority(record["level"].no))
    fields["SYSLOG_IDENTIFIER"] = IDENTIFIER
    if _EVENT.fullmatch(record["message"]):
        fields[journald.field_name("event")] = record["message"]
        fields["MESSAGE_ID"] = journald.message_id(record["message"])
    return fields


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
