"""The few messages that go out by themselves, Prometheus or not: to each address of the file `notify_urls`, by apprise.

    notify.say(Notice("stopped", what="...", why="...", do="..."))      never waits, never raises

An address has a lane: a short queue and a thread, which has a process of its own (`notify_send.py`) send one message
and end, 20 s at most, five tries. So one that hangs delays neither another nor anybody else: the loop only puts into a
queue. The same words are said once in ten minutes, and no kind more than three times: a guard that flaps sends three
messages and not five hundred, and what was held back is counted in the next one of its kind.
"""

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
from loguru import logger

from mmdaemon.ops.notify_send import Delivered, Errand, scheme_of
from mmdaemon.secret import Secret

OUTCOMES: Final[Mapping[str, str]] = {
    "sent": "messages that an address took",
    "failed": "messages given up after five tries",
    "dropped": "messages that found the lane of an address full",
    "held": "messages that were said before, or of a kind that was said often enough",
}
QUEUE_MESSAGES: Final = 16
TRY_S: Final = 20.0
"""Longest that one try may take; its process is ended then."""
PAUSES_S: Final = (0.0, 2.0, 8.0, 30.0, 120.0)
"""Before each try."""
REPEAT_S: Final = 600.0
KIND_MOST: Final = 3
"""Messages of one kind within REPEAT_S."""
FLUSH_S: Final = 8.0
"""Longest that the end of the process waits for the last words."""
WHY_MAX_CHARS: Final = 400
_PASSED_ON: Final = (
    *("HOME", "LANG", "LC_ALL", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV"),
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"),
    *("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""Of the environment: what a way out needs, and no credentials."""
_KEY_MIN_CHARS: Final = 16
_SAFE: Final = frozenset(" .,:;()+-=/%#'\"!?_$`\n")
_CLOSED: Final = Errand([])
"""Ends a lane."""

Send = Callable[[Errand], list[Delivered]]


class Notice(msgspec.Struct, frozen=True):
    """What happened, why, and what a person should do. `why` may hold what a venue said."""

    kind: str
    what: str
    why: str
    do: str


class NotifyFailed(Exception):
    """The process that sends did not answer. The message has no address in it."""


def plain(text: str) -> str:
    """A line that neither mentions nor links anybody, and formats nothing, wherever it is shown."""
    line = "".join(c if c.isalnum() or c in _SAFE else "?" for c in text.replace("://", ": //").replace("\n", " "))
    return line if len(line) <= WHY_MAX_CHARS else line[: WHY_MAX_CHARS - 3] + "..."


class Notify:
    """Lanes to the addresses; without any it is off, and no thread is begun."""

    def __init__(
        self,
        urls: Sequence[Secret],
        *,
        redact: Callable[[str], str] = str,
        pauses_s: Sequence[float] = PAUSES_S,
        try_s: float = TRY_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.who = ""
        """Which bot: stands before each title."""
        self.held = 0
        self._redact = redact
        self._now_s = now_s
        self._said_s: dict[tuple[str, str, str], float] = {}
        self._kinds: dict[str, deque[float]] = {}
        self._held: Counter[str] = Counter()
        self._lanes = [_Lane(f"{n} ({scheme_of(u.reveal())})", u, pauses_s, try_s) for n, u in enumerate(urls, 1)]

    @property
    def is_on(self) -> bool:
        return bool(self._lanes)

    @property
    def counts(self) -> dict[str, int]:
        """One of each of OUTCOMES, from 0; a message counts once an address."""
        return {
            "sent": sum(lane.sent for lane in self._lanes),
            "failed": sum(lane.failed for lane in self._lanes),
            "dropped": sum(lane.dropped for lane in self._lanes),
            "held": self.held,
        }

    def say(self, notice: Notice) -> None:
        """Have it sent. Never waits, never raises; called on the loop."""
        if not self._lanes:
            return
        if not self._is_new(notice):
            self.held += 1
            self._held[notice.kind] += 1
            return
        lines = [notice.what, f"Why: {plain(self._redact(notice.why)) or 'not known'}", f"Do: {notice.do}"]
        if more := self._held.pop(notice.kind, 0):
            lines.append(f"Before this, {more} more of this kind were held back.")
        title = f"mmdaemon {self.who}: {notice.kind.replace('_', ' ')}"
        errand = self._redact(title), self._redact("\n".join(lines))
        for lane in self._lanes:
            lane.put(*errand)

    def close(self, limit_s: float = FLUSH_S) -> None:
        """Wait for what is under way, `limit_s` at most; then end it. Blocking: for the end of the process."""
        for lane in self._lanes:
            lane.finish()
        deadline = self._now_s() + limit_s
        for lane in self._lanes:
            lane.join(max(0.0, deadline - self._now_s()))
        for lane in self._lanes:
            lane.end()

    def _is_new(self, notice: Notice) -> bool:
        now_s = self._now_s()
        key = (notice.kind, notice.what, notice.why)
        self._said_s = {each: at_s for each, at_s in self._said_s.items() if now_s - at_s < REPEAT_S}
        kind = self._kinds.setdefault(notice.kind, deque(maxlen=KIND_MOST))
        is_often = len(kind) == KIND_MOST and now_s - kind[0] < REPEAT_S
        if key in self._said_s or is_often:
            return False
        self._said_s[key] = now_s
        kind.append(now_s)
        return True


class _Lane(threading.Thread):
    """One address. Counters have one writer each: the thread `sent` and `failed`, the loop `dropped`."""

    def __init__(self, name: str, url: Secret, pauses_s: Sequence[float], try_s: float) -> None:
        super().__init__(name=f"notify {name}", daemon=True)
        self.sent = self.failed = self.dropped = 0
        self._target = name
        self._url = url
        self._pauses_s = pauses_s
        self._sender = Sender(try_s)
        self._queue: queue.Queue[Errand] = queue.Queue(QUEUE_MESSAGES)
        self._hurry = threading.Event()
        self._ended = False
        self.start()

    def put(self, title: str, body: str) -> None:
        try:
            self._queue.put_nowait(Errand([self._url.reveal()], title, body))
        except queue.Full:
            self.dropped += 1
            logger.bind(target=self._target, waiting=QUEUE_MESSAGES).error("notify_dropped")

    def finish(self) -> None:
        """No pauses from here on; what waits is sent, then the thread ends."""
        self._hurry.set()
        try:
            self._queue.put_nowait(_CLOSED)
        except queue.Full:
            return  # it ends once it took the last of them

    def end(self) -> None:
        self._ended = True
        self._sender.end()

    def run(self) -> None:
        while (errand := self._queue.get()) is not _CLOSED and not self._ended:
            self._deliver(errand)
            if self._hurry.is_set() and self._queue.empty():
                return

    def _deliver(self, errand: Errand) -> None:
        why = ""
        for number, pause_s in enumerate(self._pauses_s, 1):
            self._hurry.wait(pause_s)
            if self._ended:
                break
            try:
                (found,) = self._sender.send(errand)
            except (NotifyFailed, ValueError) as error:
                why = str(error)
            else:
                if found.ok:
                    self.sent += 1
                    logger.bind(target=self._target, title=errand.title, tries=number).info("notified")
                    return
                why = found.why
        self.failed += 1
        logger.bind(target=self._target, title=errand.title, error=why or "the process ended").error("notify_failed")


class Sender:
    """Has a process send. One at a time; another thread may end it."""

    def __init__(self, try_s: float = TRY_S, environ: Mapping[str, str] = os.environ) -> None:
        self._try_s = try_s
        self._environ = {name: environ[name] for name in _PASSED_ON if name in environ}
        self._process: subprocess.Popen[bytes] | None = None

    def send(self, errand: Errand) -> list[Delivered]:
        """Blocking, `try_s` at most.

        Raises:
            NotifyFailed: it took longer, or its process did not answer.
        """
        command = [sys.executable, "-m", "mmdaemon.ops.notify_send"]
        try:
            # In a session of its own: a Ctrl-C is meant for the daemon, and not for its last words.
            with subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environ,
                start_new_session=True,
            ) as process:
                self._process = process
                try:
                    told, _ = process.communicate(msgspec.json.encode(errand), timeout=self._try_s)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise NotifyFailed(f"not done after {self._try_s:g} s, and was ended") from None
        except OSError as error:
            raise NotifyFailed(f"its process cannot be begun: {error.strerror or error}") from None
        if process.returncode:
            raise NotifyFailed(f"its process ended with {process.returncode}")
        try:
            return msgspec.json.decode(told, type=list[Delivered])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise NotifyFailed("its process said what nobody understands") from None

    def end(self) -> None:
        """End the try that is under way."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


def texts_of(urls: Sequence[Secret]) -> list[str]:
    """What must never be seen: each address, and of it what is long enough to be a key."""
    whole = [url.reveal() for url in urls]
    parts = {part for url in whole for part in re.split(r"[^A-Za-z0-9_-]+", url.partition("://")[2])}
    return [*whole, *sorted(part for part in parts if len(part) >= _KEY_MIN_CHARS)]


def unusable(urls: Sequence[Secret], sender: Sender) -> list[str]:
    """What is wrong with each address that cannot be used, by its number in the file, and without it. Blocking.

    Raises:
        NotifyFailed: they could not be looked at.
    """
    found = sender.send(Errand([url.reveal() for url in urls]))
    return [f"address {n} ({each.scheme}) is {each.why}" for n, each in enumerate(found, 1) if not each.ok]
