"""What the tests of the daemon are made of: settings that trade within seconds, a venue that can outlive a daemon, and
a world in virtual time in which a script lives through what is to be shown.

The market is the synthetic one in its toxic stretch, quoted so near and filled so kindly that after some ten seconds
there are orders, fills and a position. Shadow evaluation is on in every run.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.commands import Amend, Command, Place
from mmdaemon.core.events import AccountSnapshot, Bill, Event, Fill, LinkChanged
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, GuardState, KillState, Link, Regime
from mmdaemon.daemon import wire
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.daemon.wire import Parts
from mmdaemon.journal.connection import Connection, CrashPoint, Durability, InlineConnection, JournalFailed
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.journal.statements import Row, Statement
from mmdaemon.research.simulation.setting import QUIETLY_BUSY, Value
from mmdaemon.settings import Settings, load
from mmdaemon.venues.base import Absent, Cursor, Deliver, MarketSource, OrderReport, VenueUnavailable
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from mmdaemon.venues.simulated.venue import SimulatedVenue

T = TypeVar("T")

START_NS = 1_767_225_600 * NS + 3_600 * NS
"""One in the morning, UTC: far from a settlement and from midnight."""
TOXIC: Schedule = ((Stretch.TOXIC, 1e6),)
CALM: Schedule = ((Stretch.CALM, 1e6),)
LATENCY_NS = 50_000_000
"""One way, to the venue and back."""
TAG = "demo"

BUSY: Mapping[str, Value] = {
    **QUIETLY_BUSY,
    "run.shadow": True,
    "run.crash_loop_starts": 0,
    "venue.in_flight_max_s": 2.0,
    "venue.ack_check_s": 1.0,
    **{f"regimes.{regime}.spread_min_bps": 0.1 for regime in Regime},
    # Not the preset's, so that a calibration is no change of these tests.
    "quotes.tolerance_min_bps": 0.5,
}


def busy(**changed: Value) -> Settings:
    """Settings that trade at once. `a__b=1` sets `a.b`."""
    given = {**BUSY, **{path.replace("__", "."): value for path, value in changed.items()}}
    return load(None, given, {}).settings


# --- the venue --------------------------------------------------------------------------------------------------------


class Sent(msgspec.Struct, frozen=True):
    """One command at the moment it was handed to the venue."""

    mono_ns: int
    command: Command


class WatchedVenue(SimulatedVenue):
    """The simulated venue, kept open while daemons come and go, with a record of what it was handed.

    `open` after the first time only changes to whom things are delivered, and says that the links are up; `close` lets
    go of the daemon. `on_send` and `on_deliver` are hooks for what must happen at that very moment.
    """

    def __init__(self, source: MarketSource, clock: VirtualClock, config: SimulatedConfig, seed: int) -> None:
        super().__init__(source, clock, config, seed)
        self.clock = clock
        self.sent: list[Sent] = []
        self.delivered_fills: list[Fill] = []
        self.fates: list[tuple[type[Command], FaultKind, float]] = []
        """What becomes of the next commands of a kind: a fault and its seconds, one a command."""
        self.asked: list[tuple[int, str]] = []
        """Reads: when, and which (`order <id>` for one order)."""
        self.failing: set[str] = set()
        """Reads that fail, each by its first word."""
        self.on_send: Callable[[Command], None] | None = None
        self.on_deliver: Callable[[Event], None] | None = None
        self.cancel_alls: list[int] = []
        self.snapshot_off_lots = 0
        """Added to the position that `snapshot` answers: a venue that disagrees and has no fill to show for it."""
        self.snapshot_says: list[int] = []
        """Positions that the next snapshots claim instead of the true one: a replica that lags."""
        self.hidden_ts_ns: tuple[int, int] = (0, 0)
        """Reads of fills and positions come from a replica that has not heard of what happened in this span."""
        self._deliver: Deliver | None = None
        self._is_open = False

    async def open(self, deliver: Deliver) -> None:
        self._deliver = deliver
        if not self._is_open:
            self._is_open = True
            await super().open(self._relay)
            return
        for link in (Link.PUBLIC, Link.PRIVATE):
            self.clock.call_at(self.clock.mono_ns(), self._say, LinkChanged(0, 0, None, link, True))

    async def close(self) -> None:
        self._deliver = None

    def _say(self, event: LinkChanged) -> None:
        self._relay(msgspec.structs.replace(event, mono_ns=self.clock.mono_ns(), ts_ns=self.clock.wall_ns()))

    def _relay(self, event: Event) -> None:
        if self._deliver is None:
            return
        self._deliver(event)
        if isinstance(event, Fill):
            self.delivered_fills.append(event)
        if self.on_deliver is not None:
            self.on_deliver(event)

    async def send(self, command: Command) -> None:
        self.sent.append(Sent(self.clock.mono_ns(), command))
        if self.fates and isinstance(command, self.fates[0][0]):
            self.inject(*self.fates.pop(0)[1:])
        await super().send(command)
        if self.on_send is not None:
            self.on_send(command)

    async def cancel_all(self) -> None:
        self.cancel_alls.append(self.clock.mono_ns())
        await super().cancel_all()

    def _ask(self, what: str) -> None:
        self.asked.append((self.clock.mono_ns(), what))
        if what.split(maxsplit=1)[0] in self.failing:
            raise VenueUnavailable(f"{what}: the test says so")

    def _hidden(self) -> list[Fill]:
        begin, end = self.hidden_ts_ns
        return [fill for fill in self.truth().fills if begin <= (fill.venue_ts_ns or 0) < end] if end else []

    async def order(self, client_id: str) -> OrderReport | Absent:
        self._ask(f"order {client_id}")
        return await super().order(client_id)

    async def open_orders(self) -> list[OrderReport]:
        self._ask("open_orders")
        return await super().open_orders()

    async def fills(self, since: Cursor) -> list[Fill]:
        self._ask("fills")
        seen = await super().fills(since)
        hidden = {fill.trade_id for fill in self._hidden()}
        return [fill for fill in seen if fill.trade_id not in hidden]

    async def bills(self, since: Cursor) -> list[Bill]:
        self._ask("bills")
        return await super().bills(since)

    async def snapshot(self) -> AccountSnapshot:
        self._ask("snapshot")
        seen = await super().snapshot()
        unit_e10 = self._source.instrument.unit_e10
        for fill in self._hidden():
            gained = fill.side * fill.qty_lots * (seen.mark_px_ticks - fill.px_ticks) * unit_e10 - fill.fee_e10
            lots = seen.position_lots - fill.side * fill.qty_lots
            seen = msgspec.structs.replace(seen, position_lots=lots, wallet_e10=seen.wallet_e10 - gained)
        if self.snapshot_says:
            return msgspec.structs.replace(seen, position_lots=self.snapshot_says.pop(0))
        return msgspec.structs.replace(seen, position_lots=seen.position_lots + self.snapshot_off_lots)

    # --- what is true ---------------------------------------------------------------------------------------------

    def resting(self) -> list[str]:
        """Ids of what rests there now, by its own record."""
        return [o.client_id for o in self.truth().orders.values() if not o.status.is_terminal]

    def position_lots(self) -> int:
        return self.truth().position_lots

    def increasing_since(self, mono_ns: int) -> list[Sent]:
        """What was handed over from that moment on and may increase a position."""
        return [each for each in self.sent if each.mono_ns >= mono_ns and may_increase(each.command)]

    def arrivals_since(self, mono_ns: int) -> list[Command]:
        """Commands that arrived at the exchange from that moment on and may increase a position, by its own record."""
        wall_ns = mono_ns + self.clock.wall_offset_ns
        return [command for at_ns, command in self.truth().received if at_ns >= wall_ns and may_increase(command)]


def may_increase(command: Command) -> bool:
    return isinstance(command, Amend) or (isinstance(command, Place) and not command.reduce_only)


# --- the journal ------------------------------------------------------------------------------------------------------


class WatchedConnection(InlineConnection):
    """The journal's connection in line, with a record of what is committed, and a way to hang or to fail."""

    def __init__(self, path: Path, clock: VirtualClock, seed: int) -> None:
        super().__init__(path, Durability.PROCESS, clock, seed=seed, on_commit=self._committed)
        self.on_point: Callable[[CrashPoint, Sequence[Row]], None] | None = None
        self.intents: set[tuple[str, int]] = set()
        """(client id, revision) of every intent that is in the file."""
        self.hangs = False
        self.fails = False
        self.closed = False
        self._rows: Sequence[Row] = ()

    async def commit(self, rows: Sequence[Row]) -> None:
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.fails:
            raise JournalFailed("disk full")
        self._rows = rows
        await super().commit(rows)

    def _committed(self, point: CrashPoint, _ordinal: int) -> None:
        if point is CrashPoint.AFTER_COMMIT:
            for statement, values in self._rows:
                if statement is Statement.INTENT:
                    self.intents.add((str(values[0]), int(values[1] or 0)))
        if self.on_point is not None:
            self.on_point(point, self._rows)

    def slow(self, delay_ns: int) -> None:
        """Every commit from now on takes about so long."""
        self._delay_ns = delay_ns

    async def close(self) -> None:
        self.closed = True
        await super().close()


# --- the world --------------------------------------------------------------------------------------------------------


class World:
    """One daemon at one venue in virtual time. `restart` puts another daemon in its place."""

    def __init__(self, settings: Settings, clock: VirtualClock, venue: WatchedVenue, path: Path, runtime: str) -> None:
        self.settings = settings
        self.clock = clock
        self.venue = venue
        self.path = path
        self.said: list[tuple[str, dict[str, object]]] = []
        self.state_dir: StateDir
        self.connection: WatchedConnection
        self.daemon: Daemon
        self.running: asyncio.Task[int] | None = None
        self._environ = {"RUNTIME_DIRECTORY": runtime} if runtime else {}

    async def begin(self, *, fresh_account: bool = True) -> None:
        """Lock the directory, start and run a daemon."""
        self.state_dir = open_dir(self.path, self._environ).lock()
        self.connection = WatchedConnection(self.state_dir.journal_path, self.clock, self.settings.run.seed)

        def connect(_state_dir: StateDir) -> Connection:
            return self.connection

        self.daemon = Daemon(
            self.settings,
            self.clock,
            self.venue,
            self.state_dir,
            connect,
            fresh_account=fresh_account,
            log=lambda name, fields: self.said.append((name, dict(fields))),
            bot_tag=TAG,
        )
        try:
            await self.daemon.start()
        except BaseException:
            self.state_dir.release()
            raise
        self.running = asyncio.create_task(self.daemon.run(), name="daemon")

    async def stop(self, reason: str = "the script is over") -> int:
        """Ask it to end and wait until it did. Returns its exit code."""
        assert self.running is not None
        self.daemon.stop(reason)
        code = await self.running
        self.running = None
        self.state_dir.release()
        return code

    async def crash(self) -> None:
        """End it as the end of its process would: nothing more is written, sent or heard."""
        self.die()
        await self.venue.close()
        ending: list[asyncio.Task[Any]] = [*self.daemon.tasks.values(), *([self.running] if self.running else [])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        self.running = None
        self.state_dir.release()

    def die(self) -> None:
        """The very moment of a crash: from here on nothing is written, and nobody notices anything."""
        self.connection.crash()
        self.daemon._ending = True
        self.venue._deliver = None
        self.venue.on_send = self.venue.on_deliver = None

    async def restart(self, after_s: float = 0.1) -> None:
        """Another daemon, on the same directory and the same account."""
        await self.sleep(after_s)
        await self.begin(fresh_account=False)

    # --- waiting --------------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        await sleep_ns(self.clock, round(seconds * NS))

    async def until(self, what: Callable[[], object], within_s: float = 60.0, every_s: float = 0.01) -> None:
        """Until it holds. Fails with a picture of the daemon when it does not in time."""
        end_ns = self.clock.mono_ns() + round(within_s * NS)
        while not what():
            assert self.clock.mono_ns() < end_ns, f"not within {within_s} s: {self.picture()}"
            await self.sleep(every_s)

    async def trade(self, seconds: float = 10.0) -> None:
        """For so long, and until it is RUNNING with quotes on both sides, fills and a position."""
        await self.sleep(seconds)
        await self.until(self.is_two_sided_with_position, within_s=60.0)

    def is_two_sided_with_position(self) -> bool:
        sides = {o.side for o in self.working()}
        held = self.state.position
        return self.guard is GuardState.RUNNING and len(sides) == 2 and held.position_lots != 0 and held.buys > 0

    def working(self) -> list[WorkingOrder]:
        """Orders that the venue acknowledged and that have not ended."""
        return [o for o in self.state.orders.live.values() if o.acked_ns and not o.ended_ns]

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self.daemon.state

    @property
    def parts(self) -> Parts:
        return self.daemon.parts

    @property
    def guard(self) -> GuardState:
        return self.daemon.state.guard.state

    @property
    def kill(self) -> KillState:
        return self.daemon.parts.kill_switch.kill_state

    @property
    def now_ns(self) -> int:
        return self.clock.mono_ns()

    def picture(self) -> str:
        state = self.state
        live = [(o.client_id, o.status.value) for o in state.orders.live.values()]
        return (
            f"{self.guard.value} {self.kill.value} at {self.now_ns / NS:.3f} s, "
            f"position {state.position.position_lots}, live {live}, "
            f"resting {self.venue.resting()}, breaks {state.facts.breaks}, said {self.said[-5:]}"
        )

    def journal(self) -> JournalReader:
        return JournalReader(self.state_dir.journal_path)


async def next_place(world: World, fate: FaultKind | None = None, seconds: float = 0.0) -> str:
    """The id of the next order that goes out, with that fate; returns while it is on its way."""
    seen = len(world.venue.sent)
    world.venue.fates = [(Place, fate, seconds)] if fate else []
    places: list[str] = []

    def is_sent() -> bool:
        places.extend(e.command.client_id for e in world.venue.sent[seen:] if isinstance(e.command, Place))
        return bool(places)

    await world.until(is_sent, 60, every_s=0.001)
    return places[0]


async def say_nothing(_line: str) -> None:
    """For operator actions whose words nobody reads."""


def run_world(
    script: Callable[[World], Awaitable[T]],
    path: Path,
    settings: Settings | None = None,
    *,
    schedule: Schedule = TOXIC,
    runtime: str = "",
    config: Mapping[str, object] | None = None,
    source: MarketSource | None = None,
) -> T:
    """Play a script with a running daemon, then stop what runs. `config` changes the venue's own numbers."""
    settings = settings or busy()
    source = source or SyntheticMarket(seed=settings.run.seed, start_ts_ns=START_NS, schedule=schedule)

    async def main(clock: VirtualClock) -> T:
        plain = wire.venue_of(settings, source, clock, "s").config
        venue = WatchedVenue(source, clock, msgspec.structs.replace(plain, **dict(config or {})), settings.run.seed)
        world = World(settings, clock, venue, path, runtime)
        await world.begin()
        try:
            result = await script(world)
            if world.running is not None:
                await world.stop()
            return result
        finally:
            if world.running is not None:
                await world.crash()
            await SimulatedVenue.close(venue)

    return run_virtual(main, start_wall_ns=source.start_ts_ns)
