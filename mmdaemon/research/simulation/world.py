"""One seed, played: a venue that outlives the daemons, and daemons that crash, stop and start again on one state
directory and one account.

Everything of a daemon is the daemon's own: wiring, actors, gate, journal on a real SQLite file. What differs is the
loop (virtual time), the journal's connection (in line) and the venue. The end of a process is the end of everything it
could do: its line and its disk are cut between two callbacks of the loop, and only then are its tasks thrown away.
"""

# A daemon that is cut must not see its tasks end, and its steps are watched where it watches them itself.
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from traceback import format_exception
from typing import Any, cast

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.commands import Command
from mmdaemon.core.engine import Step
from mmdaemon.core.events import Event
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon.supervisor import EXIT_BUG, Daemon
from mmdaemon.journal.connection import Connection, JournalFailed
from mmdaemon.journal.recovery import Recovered, RecoveryRefused
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.research.simulation.beats import Beats
from mmdaemon.research.simulation.edges import Disk, Line, to_nobody
from mmdaemon.research.simulation.happenings import TAG, Happenings
from mmdaemon.research.simulation.machine import Machine
from mmdaemon.research.simulation.operator import Person
from mmdaemon.research.simulation.plan import Kind, Plan
from mmdaemon.research.simulation.played import Played
from mmdaemon.research.simulation.replica import Replica
from mmdaemon.research.simulation.second import Second
from mmdaemon.research.simulation.seen import When
from mmdaemon.research.simulation.setting import market_of, settings_of, venue_config_of
from mmdaemon.research.simulation.starts import RESTART_MAX_S
from mmdaemon.research.simulation.watch import Watch
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.simulated.faults import FaultPlan
from mmdaemon.venues.simulated.venue import SimulatedVenue
from mmdaemon.virtual_loop import Stuck, VirtualLoop

QUIET_NS = 180 * NS
"""How long a seed goes on without faults at its end."""
LIMIT_FACTOR = 40
"""A seed whose daemons are not up long enough within so many times its hours is stuck, and that is a violation."""


class _Over(Exception):
    """No error, but how a run that saw a violation leaves the loop: raised between two callbacks."""


class _Watched(Daemon):
    """The daemon, with somebody who hears of each step after it did."""

    watch: Callable[[Event, Step], None]
    count: Callable[[str], None]

    def _on_step(self, event: Event, step: Step) -> None:
        super()._on_step(event, step)
        self.watch(event, step)

    def _latch_of(self, recovered: Recovered) -> str:
        latched = super()._latch_of(recovered)
        if latched.startswith("crash loop"):
            self.count("killed start of a crash loop")
        return latched


class World:
    """See the module. `play` runs it."""

    def __init__(self, plan: Plan, path: Path, clock: VirtualClock, log: Callable[[str], None]) -> None:
        self.plan, self.clock, self._log = plan, clock, log
        self.settings = settings_of(plan)
        self.path = path
        self._started_ns = clock.mono_ns()
        source = market_of(plan)
        config = venue_config_of(plan, self.settings)
        self.faults = FaultPlan(plan.seed, config.faults, plan.kept)
        self.venue = SimulatedVenue(source, clock, config, plan.seed, self.faults)
        self._loop = cast("VirtualLoop", asyncio.get_running_loop())
        self.machine = Machine(clock, self._loop)
        self.person = Person(plan, clock)
        self.second = Second(self)
        self.happenings = Happenings(self)
        self.watch = Watch(self.venue, clock, plan, f"mm{TAG}-", path / "journal.sqlite", self.say)
        self.replica = Replica(self.venue, clock, plan.seed, self.watch.seen.count)
        self.daemon: _Watched | None = None
        self.disk: Disk
        """Of the daemon that is up, or was last."""
        self._line: Line | None = None
        self._state_dir: StateDir | None = None
        self._life_ns = 0
        self._ended = asyncio.Event()
        self._crash_in_steps = 0
        self._main: asyncio.Task[None] | None = None
        self._hash = blake2b(digest_size=16)
        self._kept: set[asyncio.Task[None]] = set()
        self.epoch = 0
        """Of the run that is up, or was last."""
        self.fresh = True
        self.over = False

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the beginning of the seed."""
        return self.clock.mono_ns() - self._started_ns

    @property
    def is_up(self) -> bool:
        return self.watch.is_up

    @property
    def up_ns(self) -> int:
        """How long daemons were up so far, all lives together."""
        return round(self.watch.played.up_s * NS) + (self.clock.mono_ns() - self._life_ns if self.is_up else 0)

    def say(self, text: str) -> None:
        self.watch.seen.hear(text, "the log")
        self._log(f"{self.now_ns / NS:10.3f}  {text}")

    # --- a seed -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the daemons have been up for the hours of the plan, and once more in quiet."""
        self._main = asyncio.current_task()
        self._loop.on_task = self.second.made
        self._loop.set_exception_handler(self._on_loop_error)
        await self.venue.open(to_nobody)
        self.venue.hang_up()
        self.venue.exchange.on_request = self._on_request
        self.venue.exchange.on_limited = self.watch.arrived
        self.venue.exchange.on_change = self._on_change
        self.clock.wall_offset_ns += self.plan.skew_ns
        Beats(self).begin()
        ends = asyncio.create_task(self._until_over(), name="end of the seed")
        while not self.over:
            await self._live()
            if self.over:
                break
            after_s = self.plan.restart_after_s(self.watch.played.lives)
            await asyncio.sleep(min(after_s, RESTART_MAX_S) if self.happenings.starts.are_doomed else after_s)
        await ends

    async def _until_over(self) -> None:
        while self.up_ns < self.plan.hours * 3_600 * NS:
            await asyncio.sleep(1.0)
            if self.now_ns > (LIMIT_FACTOR * self.plan.hours * 3_600 + 40 * 3_600) * NS:
                self.watch.violate(0, "stuck", f"up {self.up_ns / NS:.0f} s in {self.now_ns / NS:.0f} s")
        self.happenings.closed = True
        self.happenings.starts.forget()
        self.second.end()
        self.faults.calm = True
        self.person.hurried = True
        self.say("no more faults")
        quiet_since = self.clock.mono_ns()
        while self.clock.mono_ns() < quiet_since + QUIET_NS:
            await asyncio.sleep(1.0)
            if not self.is_up:
                quiet_since = max(quiet_since, self.clock.mono_ns() - QUIET_NS // 2)
        self.watch.look()
        self.watch.check(When.SETTLED)
        self.watch.check(When.END)
        self.over = True
        if self.daemon is not None and not self.daemon.has_ended:
            self.daemon.stop("the seed is over")
        else:
            self._ended.set()

    async def _live(self) -> None:
        """One daemon, from its start to its end."""
        self._ended.clear()
        self._life_ns = self.clock.mono_ns()
        life = asyncio.create_task(self._begin_and_run(), name="life")
        life.add_done_callback(self._life_ended)
        await self._ended.wait()
        left = [task for task in self._tasks() if task is not life]
        if self.daemon is not None:
            self._hash.update(f"{self.now_ns} {self._digest_of(self.daemon)}".encode())
        self.daemon = None
        _, pending = await asyncio.wait([life, *left], timeout=5.0)
        if pending:
            self.watch.violate(19, "task_death", f"cancelled, but did not end: {[task.get_name() for task in pending]}")

    def _life_ended(self, life: "asyncio.Task[None]") -> None:
        if not life.cancelled() and (error := life.exception()) is not None:
            at = "".join(format_exception(error)[-3:])
            self.watch.violate(19, "task_death", f"the daemon raised {error!r}\n{at}")
        self._ended.set()

    async def _begin_and_run(self) -> None:
        self.watch.played.lives += 1
        state_dir = self._state_dir = open_dir(self.path, {}).lock()
        line = self._line = Line(self.venue, self.watch.on_send, self.machine, self.replica, reading=self.watch.reading)
        self.watch.is_up = True
        if self.plan.skew_ns and self.watch.played.lives == 1:
            self.watch.count(Kind.SKEW.value, 0)
        disk = self.disk = Disk(state_dir.journal_path, self.clock, self.settings.run.seed, self.watch.on_commit)
        disk.intents = self.watch.seen.durable_intents
        disk.on_crash = self.die
        disk.on_failure = self.watch.on_disk_failure

        def connect(_state_dir: StateDir) -> Connection:
            return disk

        daemon = _Watched(
            self.settings,
            self.clock,
            line,
            state_dir,
            connect,
            fresh_account=self.fresh,
            log=self._on_log,
            bot_tag=TAG,
        )
        daemon.watch, daemon.count = self.watch.on_step, self.watch.seen.count
        self.say(f"life {self.watch.played.lives} begins")
        self.happenings.starts.begin(disk)
        try:
            await daemon.start()
        except (RecoveryRefused, VenueUnavailable, JournalFailed) as refused:
            self.say(f"did not start: {refused}")
            self.watch.seen.count("start refused")
            self.die(crashed=False)
            return
        self.fresh = False
        self.daemon, self.epoch = daemon, daemon.params.run_epoch
        self.watch.seen.now_ns = self.watch.venue_ns
        self.watch.seen.started(daemon.state, daemon.params)
        self.watch.status = daemon.parts.status
        if daemon.parts.kill_switch.kill_state is not KillState.ARMED:
            self.watch.seen.tripped()
        # Not a task of the daemon's; whoever attends it goes home when it ends.
        self.keep(asyncio.create_task(self.person.attend(daemon), name="operator"))
        code = await daemon.run()
        self.say(f"ended in order, {code}")
        if code == EXIT_BUG:
            self.say(f"failure: {daemon.failure!r}")
        self.die(crashed=False)

    def _tasks(self) -> list[asyncio.Task[Any]]:
        """Of the daemon and of whoever attends it."""
        left = [task for task in self._loop.tasks() if task is not self._main and not self.second.is_its(task)]
        return [task for task in left if task.get_name() != "end of the seed"]

    def die(self, *, crashed: bool = True) -> None:
        """The end of the process, now: nothing more is written, sent or heard."""
        line, state_dir = self._line, self._state_dir
        if line is None or state_dir is None:
            return
        now = self.clock.mono_ns()
        self.watch.played.up_s += (now - self._life_ns) / NS
        self.watch.played.crashes += crashed
        self._line = None
        self.machine.held_until_ns = 0
        self.watch.is_up = False
        line.cut()
        self.disk.crash()
        state_dir.release()
        daemon = self.daemon
        if daemon is not None:
            daemon._ending = True
            self.watch.played.running_s += _running_ns(daemon, now) / NS
            self.watch.played.steps += daemon.state.seq
        self.watch.seen.now_ns = self.watch.venue_ns
        self.watch.seen.died()
        self._crash_in_steps = 0
        self._loop.set_exception_handler(self._on_loop_error)
        if crashed:
            self.say("CRASH")
        for task in self._tasks():
            if crashed or task.get_name() != "life":
                task.add_done_callback(_is_seen)
                task.cancel()
        self._ended.set()

    def keep(self, task: "asyncio.Task[None]") -> None:
        """A task beside the daemon's own, which ends with its process."""
        self._kept.add(task)
        task.add_done_callback(self._kept_ended)

    def _kept_ended(self, task: "asyncio.Task[None]") -> None:
        self._kept.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and self.is_up:
            self.watch.violate(19, "task_death", f"{task.get_name()}: {error!r}")

    def crash_in(self, steps: int) -> None:
        """The process ends before the n-th callback of the loop from now on."""
        if not self._crash_in_steps:
            self._crash_in_steps = max(1, steps)

    def sleep(self, duration_ns: int) -> None:
        """The daemon's machine sleeps. The daemon is not up for that time."""
        self.machine.sleep(duration_ns)
        self._life_ns += duration_ns
        if self.daemon is not None and self.daemon.state.guard.state is GuardState.RUNNING:
            self.watch.played.running_s -= duration_ns / NS

    def second_ended(self) -> None:
        """The loop's errors are this daemon's again."""
        handler = self.daemon._on_loop_error if self.daemon is not None and self.is_up else self._on_loop_error
        self._loop.set_exception_handler(handler)

    def _on_request(self, at_ns: int, command: Command) -> None:
        if command.client_id.startswith(self.watch.seen.prefix):
            self.watch.on_request(at_ns, command)

    def _on_change(self, at_ns: int) -> None:
        self.replica.changed(at_ns)
        self.watch.on_change(at_ns)

    def not_counted(self) -> None:
        """This callback is none of the run's: a fault that came to nothing, which a list of faults does not have."""
        if self._crash_in_steps:
            self._crash_in_steps += 1

    def on_step(self, _ordinal: int) -> None:
        """Before each callback of the loop."""
        if self.watch.played.violation is not None:
            self.die(crashed=False)
            raise _Over
        if self._crash_in_steps:
            self._crash_in_steps -= 1
            if not self._crash_in_steps:
                self.die()

    # --- what is said -----------------------------------------------------------------------------------------------

    def _on_log(self, name: str, fields: Mapping[str, object]) -> None:
        if not self.is_up:
            return
        self.say(f"{name} " + " ".join(f"{key}={value}" for key, value in fields.items()))
        if name == "task_died" and fields.get("task") not in self.watch.seen.expected_deaths:
            self.watch.unexpected(f"{fields.get('task')}: {fields.get('error')}")

    def _on_loop_error(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.watch.violate(0, "harness", f"{context.get('message')}: {context.get('exception')!r}")

    # --- the end ----------------------------------------------------------------------------------------------------

    def _digest_of(self, daemon: Daemon) -> str:
        return f"{daemon.parts.controller.digest.hex()} {daemon.state.seq}"

    def result(self) -> Played:
        played = self.watch.played
        truth = self.venue.exchange.truth()
        for kind, _ in self.faults.drawn:
            played.faults[kind.value] = played.faults.get(kind.value, 0) + 1
        played.happened.extend((kind.value, ordinal) for kind, ordinal in self.faults.drawn)
        played.fills = len(truth.fills)
        played.counted = dict(self.watch.seen.counted)
        played.venue_s = self.now_ns / NS
        wallet = truth.wallet
        self._hash.update(
            f"{played.lives} {len(truth.received)} {len(truth.fills)} {truth.position_lots} "
            f"{wallet.balance_e10} {sorted(played.faults.items())}".encode()
        )
        played.digest = self._hash.hexdigest()
        return played


def _is_seen(task: "asyncio.Task[Any]") -> None:
    """What a task of a process that is over raises is nobody's any more."""
    if not task.cancelled():
        task.exception()


def _running_ns(daemon: Daemon, now_ns: int) -> int:
    guard = daemon.state.guard
    spent = guard.spent_ns.get(GuardState.RUNNING, 0)
    return spent + (now_ns - guard.entered_ns if guard.state is GuardState.RUNNING else 0)


def play(plan: Plan, path: Path, log: Callable[[str], None] = lambda _text: None) -> Played:
    """Play one seed in an empty folder. The same plan gives the same digest, on every machine."""
    worlds: list[World] = []

    def on_step(ordinal: int) -> None:
        if worlds:
            worlds[0].on_step(ordinal)

    async def main(clock: VirtualClock) -> None:
        world = World(plan, path, clock, log)
        worlds.append(world)
        await world.run()

    try:
        run_virtual(main, start_wall_ns=plan.start_ts_ns, on_step=on_step)
    except _Over:
        pass
    except Stuck as error:
        worlds[0].watch.violate(0, "stuck", str(error))
    return worlds[0].result()
