"""The daemon in real time: uvloop, control socket, metrics, signals, and what systemd is told. What `run` does without
`--speed max`."""

import asyncio
import faulthandler
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import NamedTuple

from loguru import logger

from mmdaemon.cli import ExitCode, Refused, left
from mmdaemon.cli.notify import usable_addresses
from mmdaemon.cli.reload import Reload
from mmdaemon.clock import RealClock, run_real
from mmdaemon.core import guard
from mmdaemon.core.engine import Step
from mmdaemon.core.events import Event, Fill
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon import stall, wire
from mmdaemon.daemon.notices import UNCLEAN, Notices
from mmdaemon.daemon.page_view import base_of, row_of
from mmdaemon.daemon.status import decimal_text
from mmdaemon.daemon.supervisor import FAILURES, Daemon, Log
from mmdaemon.daemon.verbs import handler_of
from mmdaemon.journal.recovery import Recovered
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops import logging
from mmdaemon.ops.control import ControlError, ControlServer
from mmdaemon.ops.metrics_server import MetricsError, MetricsServer
from mmdaemon.ops.notify import Notify, texts_of
from mmdaemon.ops.page import About, History, PageError, PageServer
from mmdaemon.ops.systemd import Notifier, ServiceWatch, Standing, reading
from mmdaemon.ops.token import NAME, Token, TokenMissing, keep_token, unknown
from mmdaemon.research.summary import BROKE_OFF, INTERRUPTED
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings
from mmdaemon.settings.rules import REAL_MODES
from mmdaemon.tapes.rows import TapeError

_GC_THRESHOLDS = (50_000, 20, 100)
"""After a freeze almost nothing is left to collect; a full collection on a warm heap cost 13 to 37 ms."""
_DYING_S = 60.0
"""How long a run whose recording broke off may take to read the venue empty."""
_PATIENCE_S = 15.0
"""So long the start may wait for a fresh book and a clean reconciliation before it says that it waits for the venue."""
_STOP_MARGIN_S = 15.0
"""A stop takes the in-flight window and at most this: `TimeoutStopSec` of docs/CONTRACTS.md."""
_RECONCILED = (GuardState.RUNNING, GuardState.REDUCING, GuardState.SOFT_PAUSE)
_NOT_CLEAN = BIT[Reason.POSITION] | BIT[Reason.BREAK]


class _Desk(NamedTuple):
    """What a run is given, and whom it speaks to."""

    settings: Settings
    directory: StateDir
    credentials: Credentials | None
    written: logging.LogWriter
    notifier: Notifier
    reload: Reload
    token: Token
    notify: Notify


class SaidDaemon(Daemon):
    """A daemon that says each fill aloud, once."""

    _said = 0
    """How many fills were booked when the last one was said."""

    async def start(self) -> None:
        await super().start()
        self._said = self.state.position.buys + self.state.position.sells

    def _build(self, recovered: Recovered, latched: str) -> None:
        super()._build(recovered, latched)
        if not recovered.clean_start:
            self._log(UNCLEAN, {"starts": recovered.unclean_starts})

    def _on_step(self, event: Event, step: Step) -> None:
        super()._on_step(event, step)
        if type(event) is Fill:
            self._say_fill(event)

    def _say_fill(self, fill: Fill) -> None:
        held, instrument = self.state.position, self.params.instrument
        booked = held.buys + held.sells
        if booked == self._said:
            return  # it was told before
        self._said = booked
        self._log(
            "fill",
            {
                "order": fill.client_id,
                "trade": fill.trade_id,
                "side": fill.side.name.lower(),
                "px": decimal_text(fill.px_ticks * instrument.tick_e10),
                "qty": decimal_text(fill.qty_lots * instrument.lot_e10),
                "fee": decimal_text(fill.fee_e10),
                "liquidity": fill.liquidity.value,
                "position": decimal_text(held.position_lots * instrument.lot_e10),
            },
        )


def serve(
    settings: Settings,
    directory: StateDir,
    credentials: Credentials | None = None,
    again: Callable[[], Settings] | None = None,
) -> int:
    """Run until stopped: by a signal, the control socket, the end of a tape, or `run.duration_s`. The exit code.
    `credentials` are what testnet and live trade with; `again` reads the configuration anew, for SIGHUP.

    Raises:
        TapeError: the recording breaks off; what rested is cancelled and the venue was read empty.
    """
    notifier = Notifier(os.environ)
    _leave_no_core()
    if not faulthandler.is_enabled():
        with suppress(OSError, ValueError):  # stderr is no file
            faulthandler.enable()  # where it stood, when the watchdog ends it by SIGABRT
    token = _token_of(directory)
    addresses = usable_addresses(is_live=settings.run.mode == "live")
    hidden = [*logging.texts_of(credentials), token.secret.reveal(), *texts_of(addresses)]
    written = logging.setup(settings.log.level, secrets=hidden)
    notify = Notify(addresses, redact=written.redact)
    reload = Reload(settings, again, written)
    desk = _Desk(settings, directory, credentials, written, notifier, reload, token, notify)
    try:
        return run_real(lambda clock: _serve(desk, clock))
    except (ControlError, MetricsError, PageError) as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    finally:
        notify.close()
        written.close()


async def _serve(desk: _Desk, clock: RealClock) -> int:
    settings, directory, credentials, written, notifier, _, _, notify = desk
    notifier.tell(STATUS="starting: the journal is checked, the venue is opened")
    connect = wire.connection_of(settings, clock)
    venue = await wire.venue_for(settings, clock, f"{time.time_ns() // NS:x}-", credentials)
    # An exchange's account, and a venue process's, was there before this run and outlives it.
    is_fresh = settings.run.mode not in REAL_MODES and not settings.venue.remote
    history = History(settings.page.history_s, clock.wall_ns, written.redact) if settings.page.enabled else None
    notices = Notices(notify.say, asyncio.get_running_loop().call_later, settings.venue.in_flight_max_s)
    log = _said_to(notices.hear, *(() if history is None else (history.note,)))
    daemon = SaidDaemon(settings, clock, venue, directory, connect, fresh_account=is_fresh, log=log)
    try:
        left.remember(directory, settings)
    except OSError as error:
        logger.bind(error=str(error)).error("address_not_kept: `mmdaemon kill --direct` would need --venue")
    # Not below: what is told before the bot has a symbol is told of its instance.
    notify.who = f"{settings.run.instance} ({settings.run.mode})"
    async with AsyncExitStack() as undo:
        undo.push_async_callback(venue.close)  # it may have a session already, and a daemon that did not start has none
        with reading(notifier, "starting: the journal is checked", _size(directory.journal_path)):
            await daemon.start()
        undo.pop_all()
    symbol, run_epoch = daemon.params.instrument.symbol, daemon.params.run_epoch
    notify.who = f"{settings.run.instance} ({settings.run.mode}) {symbol}"
    if not notify.is_on:
        logger.bind(what="no file notify_urls among the credentials: it sends no message by itself").info("notify_off")
    written.stamp = lambda: {"symbol": symbol, "run": run_epoch, "guard": daemon.state.guard.state.value}
    # Not earlier: the check of a large journal, before anything can be sent, takes as long as it takes.
    code = int(ExitCode.BUG)
    try:
        with stall.StallWatch(daemon.gate, directory.write_latch, settings.run.stall_s):
            code = await _run(daemon, desk, history)
    finally:
        notices.ended(code, "see its log" if daemon.failure is None else repr(daemon.failure))
    return code


async def _run(daemon: Daemon, desk: _Desk, history: History | None) -> int:
    """The daemon and its doors, to its end. With a `history` the operator page is one of them."""
    settings, directory, _, written, notifier, reload, token, notify = desk
    control = ControlServer(directory.socket_path, handler_of(daemon, token))
    metrics = MetricsServer(
        daemon.parts.status,
        settings.metrics.port,
        control=lambda: control.counts,
        logs_dropped=lambda: written.dropped,
        notify=lambda: notify.counts,
    )
    page = None if history is None else _page_of(daemon, settings, directory, token, history)
    # The daemon runs first: whatever happens to its doors, there is somebody to cancel what rests.
    running = asyncio.create_task(daemon.run())
    begun_ns, stop_s = daemon.clock.mono_ns(), settings.venue.in_flight_max_s + _STOP_MARGIN_S
    watch = ServiceWatch(notifier, lambda: daemon.state.seq, lambda: standing(daemon, begun_ns, stop_s))
    told: asyncio.Task[None] | None = None
    try:
        if settings.control.enabled:
            await control.start()
        if settings.metrics.enabled:
            await metrics.start()
            daemon.metrics_port = metrics.port
        if page is not None:
            await page.start()
            daemon.page_port = page.port
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            name = signal.Signals(number).name
            loop.add_signal_handler(number, daemon.stop, f"{INTERRUPTED} by {name}" if settings.run.tape else name)
        loop.add_signal_handler(signal.SIGHUP, reload.ask, watch)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        logger.bind(state_dir=str(directory.path), metrics_port=daemon.metrics_port, page_port=daemon.page_port).info(
            "started"
        )
        # Whoever asks is answered from here on. Should this end by an error nothing feeds the watchdog, rightly.
        told = asyncio.create_task(watch.run(), name="service_watch")
        told.add_done_callback(_watch_ended)
        await _until_the_end(daemon, settings.run.duration_s, is_tape=bool(settings.run.tape))
    finally:
        daemon.stop("its doors could not be opened")
        watch.stopping("stopping: quotes are cancelled and read as gone", stop_s)
        code = await running
        if told is not None:
            told.cancel()
            await asyncio.wait({told})
        await reload.close()
        await control.close()
        await metrics.close()
        if page is not None:
            await page.close()
    logger.bind(exit_code=code).info("stopped")
    if isinstance(daemon.failure, TapeError):
        raise daemon.failure
    return code


def _page_of(daemon: Daemon, settings: Settings, directory: StateDir, token: Token, history: History) -> PageServer:
    clock, params = daemon.clock, daemon.params
    return PageServer(
        history,
        lambda: row_of(daemon.state, params, clock.mono_ns(), clock.wall_ns()),
        daemon.parts.status,
        handler_of(daemon, token),
        token,
        About(base_of(params.instrument), params.instrument.quote, str(directory.path / NAME)),
        settings.page.port,
        _log,
    )


def _watch_ended(task: asyncio.Task[None]) -> None:
    """From here on nothing feeds the watchdog. Whoever finds the process ended by it is to find why."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.bind(error=repr(error)).error("service_watch_died")


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


def standing(daemon: Daemon, begun_ns: int, stop_s: float) -> Standing:
    """How it stands, for systemd. `begun_ns`: since when its socket answers; `stop_s`: longest that a stop takes.

    Started is who has a fresh book and a clean reconciliation, who stands latched, and who waits for the venue.
    """
    state, kill = daemon.state, daemon.parts.kill_switch.kill_state
    now_ns, guard_state = daemon.clock.mono_ns(), state.guard.state
    why = "; ".join(guard.describe(state))
    latched = f", kill switch {kill.value}" if kill is not KillState.ARMED else ""
    status = f"{guard_state.value}{latched}: {why or 'both sides are quoted'}"
    if daemon.tasks["quoting"].done():  # it reads the venue empty, then ends by itself
        return Standing("", f"ending: the quoting controller died; {status}", stop_s)
    if daemon.has_ended:
        return Standing("", status, stop_s)
    if latched or guard_state is GuardState.HARD_STOP:
        return Standing("latched", status)
    if guard_state in _RECONCILED and guard.is_book_healthy(state) and not state.guard.raw & _NOT_CLEAN:
        return Standing("trading", status)
    if not (state.venue.public_up and state.venue.private_up):
        status = f"waits for the venue: {status}"
    if now_ns - begun_ns >= _PATIENCE_S * NS:
        return Standing("waits for the venue", status)
    return Standing("", status)


def _token_of(directory: StateDir) -> Token:
    """Where it cannot be written nobody can show it: what needs it is refused, and trading is not held up."""
    try:
        return keep_token(directory.path)
    except TokenMissing as missing:
        print(f"mmdaemon: warning: {missing}; nobody can resume this daemon until it is restarted", file=sys.stderr)
        return unknown()


def _size(journal: Path) -> int:
    """0 where there is none yet."""
    try:
        return journal.stat().st_size
    except OSError:
        return 0


def _leave_no_core() -> None:
    """The keys would be in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _said_to(*others: Log) -> Log:
    def log(name: str, fields: Mapping[str, object]) -> None:
        _log(name, fields)
        for say in others:
            say(name, fields)

    return log


def _log(name: str, fields: Mapping[str, object]) -> None:
    """Guard moves, deaths, failures: seldom, so a line each is cheap."""
    stopped = fields.get("after") == "hard_stop" or name in {"kill_switch", "account_wrong"} or name in FAILURES
    level = "ERROR" if stopped else "INFO"
    logger.bind(**fields).log(level, name)
