"""One run of the daemon in virtual time, from start to end, with its own venue in process.

The wiring is `daemon.wire`'s, as in real time. A new simulated account begins with every run, because the venue
lives and dies with the process; a state directory keeps the journal of all of them, and its latch.
"""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import msgspec

from mmdaemon.clock import Clock, VirtualClock, run_virtual
from mmdaemon.core.engine import Strategy
from mmdaemon.core.quotes import decide
from mmdaemon.core.types import NS, KillState
from mmdaemon.daemon import wire
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.supervisor import Daemon, Log, say_nothing
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.research.summary import BROKE_OFF, INTERRUPTED
from mmdaemon.settings import Settings
from mmdaemon.venues.base import MarketSource
from mmdaemon.venues.simulated.exchange import Truth
from mmdaemon.venues.simulated.venue import SimulatedVenue

Script = Callable[[Daemon, SimulatedVenue, Clock], Awaitable[str]]
"""What happens during the run; it returns why the run ends."""
Progress = Callable[[int, Daemon], None]
"""Called every 20 virtual seconds with the time since the start in ns."""
_TELL_NS = 20 * NS
_DYING_NS = 60 * NS
"""How long a broken run may take to read the venue empty. In virtual time nobody resumes, so it ends either way."""


class Session(msgspec.Struct, frozen=True):
    """A finished run: the daemon as it was left, and the venue's own record to hold against it."""

    daemon: Daemon
    truth: Truth
    exit_code: int
    tape_refused: dict[str, int]
    """What the recording's reader dropped, by reason."""


def play(
    settings: Settings,
    state_dir: StateDir,
    source: MarketSource,
    script: Script,
    *,
    log: Log = say_nothing,
    bot_tag: str | None = None,
    strategy: Strategy = decide,
) -> Session:
    """Run to the script's end in virtual time. The state directory is locked by the caller.

    `strategy` is what decides where to quote; anything but `quotes.decide` is a comparison.

    Starts are not counted for a crash loop: each run of one recording begins at the same moment of it.

    Raises:
        RecoveryRefused: the journal cannot be started from.
        KeyboardInterrupt: by Ctrl-C, or by SIGTERM, which is then its argument; after an orderly end, journaled as
            `INTERRUPTED`. A second signal does not wait for that.
        Whatever a defect raises: nothing half-run counts as a result.
    """
    tasks: list[asyncio.Task[Any]] = []

    async def main(clock: VirtualClock) -> Session:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        tag = f"{settings.run.seed}-"
        venue = wire.venue_of(settings, source, clock, tag)
        connect = wire.connection_of(settings, clock)
        daemon = Daemon(
            settings,
            clock,
            venue,
            state_dir,
            connect,
            fresh_account=True,
            log=log,
            bot_tag=bot_tag,
            counts_starts=False,
            strategy=strategy,
        )
        await daemon.start()
        running = asyncio.create_task(daemon.run())
        try:
            daemon.stop(await script(daemon, venue, clock))
        except asyncio.CancelledError:
            daemon.stop(f"{INTERRUPTED} by {(came or [signal.SIGINT])[0].name}")
            raise
        finally:
            daemon.stop("the script failed")
            code = await running
        if daemon.failure is not None:
            raise daemon.failure
        return Session(daemon, venue.truth(), code, dict(source.refused))

    with _terminable(tasks) as came:
        try:
            return run_virtual(main, start_wall_ns=source.start_ts_ns)
        except asyncio.CancelledError:
            if came:
                raise KeyboardInterrupt(*came) from None
            raise


@contextmanager
def _terminable(tasks: list[asyncio.Task[Any]]) -> Generator[list[signal.Signals]]:
    """SIGTERM cancels the first of `tasks`, as asyncio's runner has Ctrl-C do. Yields the signals that came.

    Not by way of the handler of Ctrl-C: a shell's script has that ignored in what it runs in the background.
    """
    came: list[signal.Signals] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if came or not tasks:
            raise KeyboardInterrupt(signal.Signals(number))
        came.append(signal.Signals(number))
        tasks[0].cancel()

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def until_the_end(duration_s: float, progress: Progress | None = None) -> Script:
    """A script that does nothing: until the recording is over, or `duration_s` has passed (0: never), or a part broke.

    A recording that breaks off never ends: without the last of these the run would go on without a market for good.
    """

    async def wait(daemon: Daemon, _venue: SimulatedVenue, clock: Clock) -> str:
        begun_ns = clock.mono_ns()
        told_ns = broken_ns = 0
        while True:
            await sleep_ns(clock, NS)
            passed_ns = clock.mono_ns() - begun_ns
            if daemon.failure is not None:
                broken_ns = broken_ns or passed_ns
                is_quiet = daemon.parts.kill_switch.kill_state in (KillState.VERIFIED, KillState.KILLED)
                if is_quiet or passed_ns - broken_ns >= _DYING_NS:
                    return f"{BROKE_OFF}: {daemon.failure}"
            if progress is not None and passed_ns >= told_ns:
                progress(passed_ns, daemon)
                told_ns = passed_ns + _TELL_NS
            if daemon.state.facts.source_ended:
                return "the recording is over"
            if duration_s and passed_ns >= duration_s * NS:
                return "the duration is over"
            if daemon.has_ended:
                return "the daemon ended"

    return wait
