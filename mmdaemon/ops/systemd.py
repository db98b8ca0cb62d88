"""sd_notify(3): what the service manager is told, and the watchdog, which is fed by progress and never by time alone.

  READY=1                 once it serves its purpose; which one `STATUS=` says
  STATUS=...              one line, whenever it changes
  WATCHDOG=1              only where the core took in an event since the last time it was sent
  RELOADING=1, READY=1    around a SIGHUP
  EXTEND_TIMEOUT_USEC=    while the check of a large journal reads on
  STOPPING=1              a stop has begun, with `EXTEND_TIMEOUT_USEC=` for as long as it may take

A message is one datagram to `$NOTIFY_SOCKET`, a path or (with `@`) an abstract name. Without that variable nothing here
does anything. The variables are taken out of the environment, so that no child process speaks in our name.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

STATUS_MAX_CHARS: Final = 400
LOOK_S: Final = 1.0
"""Between two looks at the daemon, where the watchdog does not ask for more."""
ASK_S: Final = 5.0
"""Between two requests for more time, where the start reads a large journal; each asks for twelve times as much."""
_IS_READING_BYTES: Final = 1 << 20
"""Since the last look. Less is no progress."""
FEEDS_A_PERIOD: Final = 4
"""systemd asks for two; one that is late on a loaded machine must not be fatal."""


class Notifier:
    """One way to the service manager. Never waits, never raises: `failed` counts what could not be sent."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        name = environ.pop("NOTIFY_SOCKET", "")
        watchdog_usec, watchdog_pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self._address = f"\0{name[1:]}" if name.startswith("@") else name if name.startswith("/") else ""
        self.failed = 0
        is_ours = watchdog_pid in ("", str(os.getpid()))
        is_count = watchdog_usec.isascii() and watchdog_usec.isdigit()
        self.watchdog_s = int(watchdog_usec) / 1e6 if self._address and is_ours and is_count else 0.0
        """The service manager ends a process that was not heard of for so long; 0: it does not look."""

    def __bool__(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def tell(self, **variables: str | int) -> None:
        """`tell(READY=1, STATUS="quoting")`: one datagram. A text is made one line."""
        if not self._address:
            return
        lines = (f"{name}={_one_line(str(value))}" for name, value in variables.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto("\n".join(lines).encode("utf-8", "replace"), self._address)
        except OSError:
            self.failed += 1


@contextmanager
def reading(
    notifier: Notifier, what: str, size_bytes: int, *, read_bytes: Callable[[], int] | None = None
) -> Generator[None]:
    """Around the check of a large file, which takes as long as it takes: more time is asked for while it is read, and
    only then, with what was read so far. From a thread, because the check holds the loop."""
    if not notifier:
        yield
        return
    done = threading.Event()
    asks = threading.Thread(target=_ask_for_time, args=(notifier, what, size_bytes, done, read_bytes or _bytes_read))
    asks.start()
    try:
        yield
    finally:
        done.set()
        asks.join()


def _ask_for_time(
    notifier: Notifier, what: str, size_bytes: int, done: threading.Event, read_bytes: Callable[[], int]
) -> None:
    begun = at = read_bytes()
    while not done.wait(ASK_S):
        before, at = at, read_bytes()
        if at - before >= _IS_READING_BYTES:
            status = f"{what}: {(at - begun) / 1e9:.1f} of {size_bytes / 1e9:.1f} GB"
            notifier.tell(STATUS=status, EXTEND_TIMEOUT_USEC=round(12 * ASK_S * 1e6))


def _bytes_read() -> int:
    """By this process, from wherever; 0 where it is not told, and then no time is asked for."""
    try:
        words = Path("/proc/self/io").read_text(encoding="ascii").split()
        return int(words[words.index("rchar:") + 1])
    except (OSError, ValueError, IndexError):
        return 0


class Standing(NamedTuple):
    """How the daemon stands, for the service manager."""

    ready: str
    """Why it counts as started ("trading", "latched", "waits for the venue"); empty: not yet."""
    status: str
    """One line: what it does, or why it does not quote."""
    stopping_s: float = 0.0
    """Above 0: it is on its way out, and may take so long."""


class ServiceWatch:
    """Looks at the daemon again and again, and tells the service manager. `beat` is one look.

    `progress` is a count that only the core moves. Where it stands still nothing is fed, whatever else may work: a
    controller that stalls, an inbox whose reader never wakes, a loop that is blocked. So is nothing once this has
    ended by an error of its own, which is why nobody restarts it.
    """

    def __init__(self, notifier: Notifier, progress: Callable[[], int], standing: Callable[[], Standing]) -> None:
        self._notifier = notifier
        self._progress = progress
        self._standing = standing
        self._fed_at = progress()
        self._status = ""
        self._is_ready = self._is_stopping = False
        self.pause_s = min(LOOK_S, notifier.watchdog_s / FEEDS_A_PERIOD) if notifier.watchdog_s else LOOK_S

    @property
    def is_ready(self) -> bool:
        """It was said to be started."""
        return self._is_ready

    async def run(self) -> None:
        """Until cancelled. Ends at once where nobody listens."""
        while self._notifier:
            self.beat()
            await asyncio.sleep(self.pause_s)

    def beat(self) -> None:
        """One look. Raises whatever the daemon's own picture of itself raises."""
        now = self._progress()
        if now != self._fed_at:
            self._fed_at = now
            self._notifier.tell(WATCHDOG=1)
        stands = self._standing()
        if stands.stopping_s:
            self.stopping(stands.status, stands.stopping_s)
            return
        if stands.ready and not self._is_ready:
            self._is_ready = True
            self._notifier.tell(READY=1, STATUS=stands.status)
        elif stands.status != self._status:
            self._notifier.tell(STATUS=stands.status)
        self._status = stands.status

    def stopping(self, why: str, at_most_s: float) -> None:
        """Once: from here on the service manager looks at its stop time-out and no longer at the watchdog."""
        if not self._is_stopping:
            self._is_stopping = True
            self._notifier.tell(STOPPING=1, STATUS=why, EXTEND_TIMEOUT_USEC=round(at_most_s * 1e6))

    def reloading(self) -> None:
        """Around a reload, with `reloaded`. systemd 253 and later want the time of the first."""
        if self._is_stopping:
            return
        now_usec = time.monotonic_ns() // 1_000
        self._notifier.tell(RELOADING=1, MONOTONIC_USEC=now_usec, STATUS="reading the configuration")

    def reloaded(self) -> None:
        """It goes on; the line before the reload is true again."""
        if self._is_ready and not self._is_stopping:
            self._notifier.tell(READY=1, STATUS=self._status)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= STATUS_MAX_CHARS else f"{line[: STATUS_MAX_CHARS - 3]}..."
