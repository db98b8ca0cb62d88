"""The life of a daemon: recover, open, run its coroutines, notice when one ends, stop with nothing resting.

A coroutine that ends is a fact for the guard and a reason to throw the kill switch; this is the one place that
catches whatever killed it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from mmdaemon import __version__
from mmdaemon.clock import Clock
from mmdaemon.core.book import condition
from mmdaemon.core.engine import Step, Strategy
from mmdaemon.core.events import (
    Event,
    KillChanged,
    LinkChanged,
    OperatorAction,
    Reconciled,
    Started,
    StopRequested,
    TaskDied,
)
from mmdaemon.core.guard import Transition, is_book_healthy
from mmdaemon.core.quotes import decide
from mmdaemon.core.reasons import reasons_of
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon.ending import confirm_nothing_rests
from mmdaemon.daemon.evidence import at_venue
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.instrument import refuse_other_steps
from mmdaemon.daemon.opening import Door, attempted, first_gate, first_state
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.record import checkpoint_of, minute_of, opened_of
from mmdaemon.daemon.wire import Parts
from mmdaemon.journal import rows
from mmdaemon.journal.connection import Connection, JournalFailed
from mmdaemon.journal.recovery import Recovered, recover
from mmdaemon.journal.rows import RunStart
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.ops.control import CONTAINED
from mmdaemon.settings import Settings
from mmdaemon.venues.base import Venue, VenueUnavailable

_encode = msgspec.msgpack.Encoder().encode
_RETRY_NS = NS // 5
_TRANSITIONS_KEPT = 1_000
EXIT_OK = 0
EXIT_BUG = 70
EXIT_RETRY = 75
_CLOSE_S = 10.0
"""Longest a stop waits for the disk."""

Log = Callable[[str, Mapping[str, object]], None]
"""(event name, fields): where transitions and deaths are said aloud. Never on the hot path."""

_DEATHS = {"task_died", "journal_failed", "latch_file_failed", "request_failed", "not_ended"}
FAILURES = frozenset({*_DEATHS, "orders_may_rest", "backup_failed"})
"""Words of the log that nobody may miss, however the daemon is run."""


def say_nothing(_name: str, _fields: Mapping[str, object]) -> None:
    """For runs that print their own account."""


class Daemon:
    """A wired daemon. `start` it, `run` it until it is asked to stop, and read what it is from its attributes."""

    def __init__(  # what differs between real time, virtual time and the venues
        self,
        settings: Settings,
        clock: Clock,
        venue: Venue,
        state_dir: StateDir,
        connect: Callable[[StateDir], Connection],
        *,
        fresh_account: bool,
        log: Log = say_nothing,
        bot_tag: str | None = None,
        counts_starts: bool = True,
        strategy: Strategy = decide,
    ) -> None:
        """Without `counts_starts` no crash loop is seen: in virtual time runs of one recording begin at one moment."""
        self.settings = settings
        self.clock = clock
        self.venue = venue
        self.state_dir = state_dir
        self._connect = connect
        self._fresh_account = fresh_account
        self._log = log
        self._bot_tag = bot_tag
        self._counts_starts = counts_starts
        self._strategy = strategy
        self.inbox = Inbox()
        self.gate = first_gate(state_dir)
        self.metrics_port = 0
        self.page_port = 0
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.transitions: deque[tuple[int, Transition]] = deque(maxlen=_TRANSITIONS_KEPT)
        self._stop = asyncio.Event()
        self._stop_reason = ""
        self._exit_code = EXIT_OK
        self._runs = False
        self._ending = False
        self._door = Door(self.inbox.post)
        self._since_ns = 0
        self._unseen: list[tuple[str, str]] = []
        """What broke before there was anything to stop."""
        self._open_breaks: list[str] = []
        self._book_turned_ns = 0
        self.failure: BaseException | None = None
        """What ended a part first, where it was an error."""

    # --- begin --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Recover, open the venue, build every part. Nothing can be sent before this has returned and `run` began.

        Raises:
            RecoveryRefused, VenueUnavailable, JournalFailed: it cannot start; the message says what to do.
        """
        settings = self.settings
        instrument = await self.venue.instrument()
        begun = RunStart(
            venue=instrument.venue,
            symbol=instrument.symbol,
            version=__version__,
            config_hash=settings.config_hash,
            mode=settings.run.mode,
            durability=settings.journal.durability,
            fresh_account=self._fresh_account,
            provenance=self.venue.provenance,
        )
        # The latch is read before the venue is opened: a killed daemon sends nothing, not even by accident.
        recovered = recover(
            self.state_dir,
            begun,
            self.clock,
            crash_loop_window_s=settings.run.crash_loop_window_s,
            bot_tag=self._bot_tag,
        )
        latched = self._latch_of(recovered)
        self.params = settings.to_params(instrument, recovered.bot_tag, recovered.epoch, can_amend=self.venue.can_amend)
        connection = self._connect(self.state_dir)
        await connection.open()
        self.journal = JournalWriter(connection, self.clock)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(connection.close)  # a thread left running: the process would never end
            # From here on callbacks of the venue run, and each may raise.
            asyncio.get_running_loop().set_exception_handler(self._on_loop_error)
            async with attempted(recovered, connection, self.clock):
                refuse_other_steps(recovered.instruments, instrument)
                await self.venue.open(self._door.deliver)
            self.state = await self._first_state(recovered)
            self._build(recovered, latched)
            undo.pop_all()

    def _latch_of(self, recovered: Recovered) -> str:
        """Why this run begins killed; empty where it does not."""
        if recovered.latch.closed:
            return "; ".join(recovered.latch.sources)
        most = self.settings.run.crash_loop_starts
        if self._counts_starts and most and recovered.unclean_starts >= most:
            return (
                f"crash loop: {recovered.unclean_starts} unclean starts in {self.settings.run.crash_loop_window_s:g} s"
            )
        return ""

    async def _first_state(self, recovered: Recovered) -> State:
        """The state as the journal has it: equity at the start, the last checkpoint, and what was booked after it."""
        start_e10, opened_ns = recovered.start_e10, recovered.opened_ts_ns
        self._since_ns = recovered.read_until_ts_ns
        if start_e10 is None:
            start_e10, opened_ns = await self._read_account()
            self._since_ns = opened_ns
        self._door.opened_ns = opened_ns
        state = first_state(recovered, self.params, start_e10, self.clock.mono_ns(), self.clock.wall_ns())
        self.journal.put(
            [
                rows.instrument_row(self.params.instrument, self.clock.wall_ns()),
                rows.parameters_row(self.params.run_epoch, _encode(self.params)),
                rows.account_opened_row(self.params.run_epoch, start_e10),
                *(opened_of(self.params, state.ts_ns, opened_ns) if recovered.start_e10 is None else ()),
                rows.provenance_row(self.params.run_epoch, self.venue.provenance),
            ]
        )
        return state

    async def _read_account(self) -> tuple[int, int]:
        while True:
            try:
                opening = await self.venue.snapshot()
                return opening.equity_e10, at_venue(opening.mono_ns, opening)
            except VenueUnavailable:
                await sleep_ns(self.clock, _RETRY_NS)

    def _build(self, recovered: Recovered, latched: str) -> None:
        if latched:
            self.gate.close(f"kill: {latched}")
        self.parts = Parts(
            self.settings,
            self.params,
            self.state,
            self.inbox,
            self.gate,
            self.venue,
            self.journal,
            self.state_dir,
            self.clock,
            since_ns=self._since_ns,
            opened_ns=self._door.opened_ns,
            latched=latched,
            breaks=recovered.breaks,
            on_step=self._on_step,
            on_latch_failure=lambda failure: self._log("latch_file_failed", {"failure": failure}),
            log=self._log,
            metrics_port=lambda: self.metrics_port,
            page_port=lambda: self.page_port,
            strategy=self._strategy,
        )
        # A hard one keeps quoting off until a whole round of this run does not find it any more.
        self.state.facts.breaks = self.parts.ledger.hard
        now = (self.clock.mono_ns(), self.clock.wall_ns(), None)
        self.inbox.post(Started(*now, self.params.run_epoch, bool(latched)))
        if recovered.paused:
            self.inbox.post(OperatorAction(*now, "pause", recovered.paused, "journal"))
        self._door.let_in()

    # --- run ----------------------------------------------------------------------------------------------------------

    async def run(self) -> int:
        """Until `stop`. Returns the exit code."""
        for name, begin in self.parts.coroutines.items():
            self._begin(name, begin())
        self._runs = True
        for name, text in self._unseen:
            self._answer(name, text)
        await self._stop.wait()
        await self._end()
        return self._exit_code

    @property
    def has_ended(self) -> bool:
        """It was asked to stop, by whomever, and perhaps is done."""
        return bool(self._stop_reason)

    def stop(self, reason: str) -> None:
        """Ask it to end: quotes are cancelled and read as gone, everything is journaled, then `run` returns."""
        if not self._stop_reason:
            self._stop_reason = reason
            self._stop.set()

    def _begin(self, name: str, part: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(part, name=name)
        self.tasks[name] = task
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A part ended that never should."""
        if self._ending:
            return
        error = None if task.cancelled() else task.exception()
        self._broke(task.get_name(), error)

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback raised: the venue's feed, a timer. It belongs to no task, and is no smaller for that."""
        if CONTAINED in context:
            error = repr(context.get("exception"))
            self._log("request_failed", {"at": context[CONTAINED], "message": context.get("message"), "error": error})
        elif not self._ending:
            error = context.get("exception")
            self._broke("a callback", error if isinstance(error, BaseException) else None, str(context.get("message")))

    def _broke(self, name: str, error: BaseException | None, message: str = "cancelled") -> None:
        """The supervisor's one answer, whatever it was: stop trading, and read the venue empty."""
        self.failure = self.failure or error
        text = repr(error) if error is not None else message
        self._log("task_died", {"task": name, "error": text})
        self.gate.close(f"{name} died")
        if self._runs:
            self._answer(name, text)
        else:
            self._unseen.append((name, text))

    def _answer(self, name: str, text: str) -> None:
        self.inbox.post(TaskDied(self.clock.mono_ns(), self.clock.wall_ns(), None, name, text))
        if name.startswith("kill_switch"):
            # It must act whatever happened to it and however often, so it is begun again and thrown.
            again_after_ns = _RETRY_NS if name != "kill_switch" else 0
            self._begin("kill_switch_again", self._kill_switch_again(again_after_ns))
        self.parts.kill_switch.trip(f"{name} died: {text}")
        self._exit_code = EXIT_BUG
        if name == "quoting":
            # Without it nobody can resume. Cancel everything, then end: the latch makes the next start a killed one.
            self._begin("last_will", self._stop_when_quiet())

    async def _kill_switch_again(self, after_ns: int) -> None:
        if after_ns:
            await sleep_ns(self.clock, after_ns)
        await self.parts.kill_switch.run()

    async def _stop_when_quiet(self) -> None:
        await self.parts.kill_switch.wait_for(KillState.VERIFIED, KillState.KILLED)
        self._ending = True
        self.stop("the quoting controller died")

    def _on_step(self, event: Event, step: Step) -> None:
        """After each step: what other actors must know at once."""
        moved = step.transition
        if moved is not None:
            self.transitions.append((event.mono_ns, moved))
            self._log(
                "guard",
                {"before": moved.before.value, "after": moved.after.value, "reasons": " ".join(moved.reasons)},
            )
            if moved.after is GuardState.HARD_STOP:
                self.parts.kill_switch.trip(" ".join(moved.reasons) or "latched")
            elif moved.after is GuardState.RECONCILING:
                self.parts.reconciler.wake()
        if self.state.guard.book_turned_ns != self._book_turned_ns:
            self._book_turned_ns = self.state.guard.book_turned_ns
            said = condition(self.state.book, event.mono_ns)
            self._log("book", {"healthy": is_book_healthy(self.state), "condition": said})
        if type(event) is Reconciled and (names := [each.name for each in event.found]) != self._open_breaks:
            self._open_breaks = names
            self._log("breaks", {"open": "; ".join(names) or "none"})
        if type(event) is KillChanged:
            self._log("kill_switch", {"state": event.state.value, "reason": event.reason})
        elif type(event) is OperatorAction:
            self._log("operator", {"action": event.action, "reason": event.reason, "who": event.who})
        if type(event) is LinkChanged:
            self.parts.reconciler.link_changed(event.link)
        elif type(event) is OperatorAction and self.state.guard.state is GuardState.HARD_STOP:
            # A resume into a reason that came meanwhile moves nothing, so no transition says that it must stop again.
            self.parts.kill_switch.trip("still stopped: " + " ".join(reasons_of(self.state.guard.active)))

    # --- end ----------------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        self.gate.close(f"stopping: {self._stop_reason}")
        self.inbox.post(StopRequested(self.clock.mono_ns(), self.clock.wall_ns(), None, self._stop_reason))
        quiet = await confirm_nothing_rests(self.venue, self.state, self.params, self.clock)
        if quiet:
            await self.parts.protector.let_go()
        else:
            # Said aloud and by the exit code: whoever stopped it must not believe that nothing is out there.
            self._log(
                "orders_may_rest", {"in": self.params.instrument.symbol, "what": "look at the venue's open orders"}
            )
            self._exit_code = self._exit_code or EXIT_RETRY
        self._ending = True
        was_whole = not self.tasks["quoting"].done()
        # In a gap of the private stream something may have filled that is not in the books.
        clean = quiet and was_whole and not self.state.venue.private_down_ns
        await self._cancel_parts(keep="journal")
        try:
            try:
                self._last_rows(clean=clean, checkpoint=was_whole)
            finally:
                async with asyncio.timeout(_CLOSE_S):
                    await self.journal.close()
        except (JournalFailed, TimeoutError) as failure:
            self._log("journal_failed", {"error": str(failure) or f"not closed within {_CLOSE_S:g} s"})
            self._exit_code = EXIT_BUG
        await self._cancel_parts(keep="")
        await self.venue.close()

    def _last_rows(self, *, clean: bool, checkpoint: bool) -> None:
        """A state whose controller died may be half of one event: nothing is to begin from it."""
        epoch, digest = self.params.run_epoch, self.parts.controller.digest
        now = (self.clock.mono_ns(), self.clock.wall_ns())
        last_minute = [rows.minute_row(minute_of(self.state, self.params))] if self.state.venue.mark_px_ticks else []
        self.journal.put(
            [
                *last_minute,
                *(checkpoint_of(self.state, self.params) if checkpoint else ()),
                rows.provenance_row(epoch, self.venue.provenance),
                rows.digest_row(epoch, bytes.fromhex(digest.hex()), self.state.seq, self.parts.chain),
                rows.run_ended_row(epoch, *now, clean, self._stop_reason),
            ]
        )

    async def _cancel_parts(self, keep: str) -> None:
        ending = [task for name, task in self.tasks.items() if name != keep and not task.done()]
        for task in ending:
            task.cancel()
        if not ending:
            return
        # One that swallows its cancellation must not hold the rest of the stop up.
        _, left = await asyncio.wait(ending, timeout=_CLOSE_S)
        if left:
            self._log("not_ended", {"parts": ", ".join(sorted(task.get_name() for task in left))})
            self._exit_code = EXIT_BUG
