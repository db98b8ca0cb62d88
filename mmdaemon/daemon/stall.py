"""The loop-stall thread: where the event loop makes no progress, nothing on it can kill; this ends the process.

It asks the loop for a sign and counts how often it waited in vain. After `limit_s` without one it closes the gate,
writes the kill files, leaves a traceback of every thread, and ends the process at once. It never talks to the venue:
what rests is for the sweep after the exit (`mmdaemon kill --direct --if-dirty`).

It counts its own waits and not the clock: a process that was stopped (SIGSTOP, a suspended machine) finds the clock far
on and one wait gone, and its loop gets the whole limit anew. What holds the interpreter's lock holds this thread too;
that is for a watch from outside.

Real time only: in virtual time a loop that computes has not stalled.
"""

import asyncio
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Protocol, Self

_TICKS: Final = 10
_WRITE_S: Final = 1.0
"""Longest that a disk is waited for, by a process that is about to end."""
EXIT_STALLED: Final = 70


class _Gate(Protocol):
    def close(self, because: str) -> None: ...


def end_process() -> None:
    """Without clean-up, which would wait for the loop, and without a core file, in which the keys would be."""
    os._exit(EXIT_STALLED)


class StallWatch:
    """A context, to be entered on the loop that it is to watch, and left before that ends."""

    def __init__(
        self,
        gate: _Gate,
        write_latch: Callable[[str], object],
        limit_s: float,
        end: Callable[[], None] = end_process,
    ) -> None:
        self._gate = gate
        self._write_latch = write_latch
        self._limit_s = limit_s
        self._end = end
        self._sign = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, args=(loop,), name="stall", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stopped.set()
        self._sign.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        tick_s = self._limit_s / _TICKS
        while not self._stopped.is_set():
            self._sign.clear()
            try:
                loop.call_soon_threadsafe(self._sign.set)
            except RuntimeError:  # the loop is closed
                return
            missed = 0
            while not self._sign.wait(tick_s):
                missed += 1
                if missed >= _TICKS:
                    self._stalled()
                    return
            self._stopped.wait(tick_s)

    def _stalled(self) -> None:
        why = f"the event loop made no progress for {self._limit_s:g} s"
        self._gate.close(f"kill: {why}")
        at = datetime.now(UTC).isoformat(timespec="seconds")
        # A disk may be why the loop stands; then the files are not written, and the process ends all the same.
        writing = threading.Thread(target=self._write_latch, args=(f"{at} stalled: {why}",), daemon=True)
        writing.start()
        writing.join(_WRITE_S)
        with suppress(OSError, ValueError):
            sys.stderr.write(f"mmdaemon: {why}; the process ends. Where it stood:\n")
            sys.stderr.flush()
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
        self._end()
