"""The daemon in real time: uvloop, control socket, metrics, signals. What `run` does without `--speed max`."""

import asyncio
import gc
import signal
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

from loguru import logger

from mmdaemon.cli import ExitCode, Refused, direct
from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.types import NS, KillState
from mmdaemon.daemon import stall, wire
from mmdaemon.daemon.supervisor import FAILURES, Daemon
from mmdaemon.daemon.verbs import handler_of
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops import logging
from mmdaemon.ops.control import ControlError, ControlServer
from mmdaemon.ops.metrics_server import MetricsError, MetricsServer
from mmdaemon.research.summary import BROKE_OFF, INTERRUPTED
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings
from mmdaemon.settings.rules import REAL_MODES
from mmdaemon.tapes.rows import TapeError

_GC_THRESHOLDS = (50_000, 20, 100)
"""After a freeze almost nothing is left to collect; a full collection on a warm heap cost 13 to 37 ms."""
_DYING_S = 60.0
"""How long a run whose recording broke off may take to read the venue empty."""


def serve(settings: Settings, directory: StateDir, credentials: Credentials | None = None) -> int:
    """Run until stopped: by a signal, the control socket, the end of a tape, or `run.duration_s`. The exit code.
    `credentials` are what testnet and live trade with.

    Raises:
        TapeError: the recording breaks off; what rested is cancelled and the venue was read empty.
    """
    written = logging.setup()
    try:
        return run_real(lambda clock: _serve(settings, directory, clock, written, credentials))
    except (ControlError, MetricsError) as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    finally:
        written.close()


async def _serve(
    settings: Settings,
    directory: StateDir,
    clock: RealClock,
    written: logging.LogWriter,
    credentials: Credentials | None,
) -> int:
    connect = wire.connection_of(settings, clock)
    venue = await wire.venue_for(settings, clock, f"{time.time_ns() // NS:x}-", credentials)
    # An exchange's account, and a venue process's, was there before this run and outlives it.
    is_fresh = settings.run.mode not in REAL_MODES and not settings.venue.remote
    daemon = Daemon(settings, clock, venue, directory, connect, fresh_account=is_fresh, log=_log)
    try:
        direct.remember(directory, settings)
    except OSError as error:
        logger.bind(error=str(error)).error("address_not_kept: `mmdaemon kill --direct` would need --venue")
    async with AsyncExitStack() as undo:
        undo.push_async_callback(venue.close)  # it may have a session already, and a daemon that did not start has none
        await daemon.start()
        undo.pop_all()
    # Not earlier: the check of a large journal, before anything can be sent, takes as long as it takes.
    with stall.StallWatch(daemon.gate, directory.write_latch, settings.run.stall_s):
        return await _run(daemon, settings, directory, written)


async def _run(daemon: Daemon, settings: Settings, directory: StateDir, written: logging.LogWriter) -> int:
    """The daemon and its doors, to its end."""
    control = ControlServer(directory.socket_path, handler_of(daemon))
    metrics = MetricsServer(
        daemon.parts.status,
        settings.metrics.port,
        control=lambda: control.counts,
        logs_dropped=lambda: written.dropped,
    )
    # The daemon runs first: whatever happens to its doors, there is somebody to cancel what rests.
    running = asyncio.create_task(daemon.run())
    try:
        if settings.control.enabled:
            await control.start()
        if settings.metrics.enabled:
            await metrics.start()
            daemon.metrics_port = metrics.port
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            name = signal.Signals(number).name
            loop.add_signal_handler(number, daemon.stop, f"{INTERRUPTED} by {name}" if settings.run.tape else name)
        loop.add_signal_handler(signal.SIGHUP, logger.warning, "nothing is reloaded yet: stop and start instead")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        logger.bind(state_dir=str(directory.path), metrics_port=daemon.metrics_port).info("started")
        await _until_the_end(daemon, settings.run.duration_s, is_tape=bool(settings.run.tape))
    finally:
        daemon.stop("its doors could not be opened")
        code = await running
        await control.close()
        await metrics.close()
    logger.bind(exit_code=code).info("stopped")
    if isinstance(daemon.failure, TapeError):
        raise daemon.failure
    return code


async def _until_the_end(daemon: Daemon, duration_s: float, *, is_tape: bool) -> None:
    """Stop at the end of a tape, or once the duration is over. Where a part broke a market at a venue goes on and an
    operator may look; a recording has nothing to come any more, so its run ends once the venue was read empty."""
    begun = time.monotonic()
    broken = 0.0
    while not daemon.has_ended:
        await asyncio.sleep(0.2)
        now = time.monotonic()
        if is_tape and daemon.failure is not None:
            broken = broken or now
            is_quiet = daemon.parts.kill_switch.kill_state in (KillState.VERIFIED, KillState.KILLED)
            if is_quiet or now - broken >= _DYING_S:
                daemon.stop(f"{BROKE_OFF}: {daemon.failure}")
        elif daemon.state.facts.source_ended:
            daemon.stop("the recording is over")
        elif duration_s and now - begun >= duration_s:
            daemon.stop("the duration is over")


def _log(name: str, fields: Mapping[str, object]) -> None:
    """Guard moves, deaths, failures: seldom, so a line each is cheap."""
    stopped = fields.get("after") == "hard_stop" or name in {"kill_switch", "account_wrong"} or name in FAILURES
    level = "ERROR" if stopped else "INFO"
    logger.bind(**fields).log(level, name)
