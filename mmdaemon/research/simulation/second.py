"""A second daemon on the account, for a while: a state directory, a disk and links of its own, on the same machine.

It has a tag of its own, as every new state directory draws one. It is to refuse and the first is to stop, whichever of
them has orders; what is looked at here is that they never both have some for long. What the second trades is to the
invariants a trade of others.
"""

import asyncio
from collections.abc import Mapping
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final

from mmdaemon.core.commands import Command
from mmdaemon.core.types import NS
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.connection import Connection, JournalFailed
from mmdaemon.journal.recovery import RecoveryRefused
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.research.simulation.edges import Disk, Line
from mmdaemon.research.simulation.plan import Fault
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.simulated.faults import FaultPlan, FaultRates

if TYPE_CHECKING:
    from mmdaemon.research.simulation.world import World

TAG: Final = "twin"
BOTH_MAX_NS: Final = 60 * NS
"""Longest that both may have orders at the venue."""
_is_second: ContextVar[bool] = ContextVar("is_second", default=False)


class Second:
    """At most one at a time."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.line: Line | None = None
        self._daemon: Daemon | None = None
        self._disk: Disk | None = None
        self._state_dir: StateDir | None = None
        self._venue = world.venue
        self._tasks: set[asyncio.Task[Any]] = set()
        self._both_since_ns = 0
        self.sent = 0
        """Commands of it that reached the venue."""

    @property
    def is_up(self) -> bool:
        return self.line is not None

    def is_its(self, task: "asyncio.Task[Any]") -> bool:
        """A task of the second daemon, or of one before it."""
        return task in self._tasks

    def made(self, task: "asyncio.Task[Any]") -> None:
        """The loop made a task."""
        if _is_second.get():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def begin(self, fault: Fault) -> bool:
        world = self._world
        if self.is_up:
            return False
        state_dir = self._state_dir = open_dir(world.path.with_name(f"second-{fault.ordinal}"), {}).lock()
        calm = FaultPlan(world.plan.seed, FaultRates(), calm=True)
        self._venue = venue = world.venue.another_client(calm)
        line = self.line = Line(venue, self._on_send, world.machine)
        disk = self._disk = Disk(state_dir.journal_path, world.clock, world.plan.seed, _nothing)

        def connect(_state_dir: StateDir) -> Connection:
            return disk

        self._daemon = Daemon(
            world.settings,
            world.clock,
            line,
            state_dir,
            connect,
            fresh_account=True,
            log=self._on_log,
            bot_tag=TAG,
        )
        context = copy_context()
        context.run(_is_second.set, True)
        context.run(lambda: asyncio.get_running_loop().create_task(self._live(), name="second"))
        return True

    async def _live(self) -> None:
        daemon = self._daemon
        assert daemon is not None
        try:
            await daemon.start()
        except (RecoveryRefused, VenueUnavailable, JournalFailed) as refused:
            self._world.say(f"the second did not start: {refused}")
            return
        self._world.watch.seen.count("second daemon up")
        await daemon.run()

    def end(self) -> None:
        """Its process ends, as by a SIGKILL."""
        line, daemon, disk, state_dir = self.line, self._daemon, self._disk, self._state_dir
        if line is None or daemon is None or disk is None or state_dir is None:
            return
        self._world.say("the second ends")
        self.line = self._daemon = None
        daemon._ending = True  # pyright: ignore[reportPrivateUsage] - nobody is to hear of its tasks any more
        line.cut()
        self._world.venue.forget(self._venue)
        self._world.second_ended()
        disk.crash()
        state_dir.release()
        for task in sorted(self._tasks, key=hash):
            task.add_done_callback(_is_seen)
            task.cancel()
        self._both_since_ns = 0

    def look(self) -> str:
        """Every two seconds: what is violated, or nothing."""
        world = self._world
        if not (self.is_up and world.is_up) or world.machine.is_held:
            self._both_since_ns = 0
            return ""
        ours = {order.client_id.split("-")[0] for order in world.venue.exchange.matching.live}
        now_ns = world.clock.mono_ns()
        if not {f"mm{TAG}", world.watch.seen.prefix[:-1]} <= ours:
            self._both_since_ns = now_ns
            return ""
        world.watch.seen.count("orders of both daemons")
        both_ns = now_ns - (self._both_since_ns or now_ns)
        return f"orders of two daemons rest for {both_ns / NS:.0f} s" if both_ns > BOTH_MAX_NS else ""

    def _on_send(self, _command: Command) -> None:
        self.sent += 1
        self._world.watch.seen.count("sent by the second daemon")

    def _on_log(self, name: str, fields: Mapping[str, object]) -> None:
        if not self.is_up:
            return
        self._world.say(f"second: {name} " + " ".join(f"{key}={value}" for key, value in fields.items()))
        if name == "task_died":
            self._world.watch.unexpected(f"of the second daemon, {fields.get('task')}: {fields.get('error')}")
        if name == "guard" and fields.get("after") == "hard_stop":
            self._world.watch.seen.count("second daemon stopped")


def _nothing() -> None:
    """Its commits are looked at by nobody."""


def _is_seen(task: "asyncio.Task[Any]") -> None:
    """What a task of a process that is over raises is nobody's any more."""
    if not task.cancelled():
        task.exception()
