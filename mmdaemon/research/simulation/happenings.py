"""How each planned fault is brought about: in the venue, at the disk, by the clock, by a person, to the process."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from mmdaemon.core.types import E10, NS, Side
from mmdaemon.daemon.operator import Operator
from mmdaemon.journal.connection import CrashPoint
from mmdaemon.research.simulation.changes import Changes
from mmdaemon.research.simulation.operator import WHO
from mmdaemon.research.simulation.plan import CRASHES, LATE_MAX_S, SLEEP_S, Fault, Kind
from mmdaemon.research.simulation.sources import speak
from mmdaemon.research.simulation.starts import Starts
from mmdaemon.venues.simulated.faults import WINDOWS, FaultKind

if TYPE_CHECKING:
    from mmdaemon.research.simulation.world import World

TAG: Final = "sim"
"""Of the bot that is played."""
_STRANGER: Final = 10**9
"""Numbers of a stranger's orders, which no run of ours reaches."""
STEPS_MAX: Final = 500
"""A crash comes within so many callbacks of its moment."""
_WINDOWS: Final = {kind.value: kind for kind in WINDOWS}
_MAINTENANCE: Final = (
    FaultKind.PRIVATE_DOWN,
    FaultKind.PUBLIC_DOWN,
    FaultKind.READS_FAIL,
    FaultKind.RATE_STORM,
)
_STEPS_MS: Final = (50, 300, 900, 2_000, 5_000, 30_000)
_CHANGES: Final = (("position_mode", "hedge"), ("leverage", 20.0), ("can_trade", False), ("can_withdraw", True))
_OF_A_PROCESS: Final = (
    *CRASHES,
    Kind.DISK_SLOW,
    Kind.DISK_FAILS,
    Kind.STALL,
    Kind.STALL_ALONE,
    Kind.MACHINE_SLEEP,
    Kind.CRASH_LOOP,
    Kind.CRASH_IN_START,
    Kind.DISK_IN_START,
    Kind.SECOND_DAEMON,
    Kind.SIGNAL_FLOOD,
    Kind.LYING_SOURCE,
)


class Happenings:
    """The faults of one seed as they come. `ended_ns` is when the last one ended by the venue's time; 0 while any is
    on, and while fates may befall requests."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._open = 0
        self._last_ns = 0
        self._changes = Changes(world)
        self.starts = Starts(world)
        self.closed = False

    @property
    def ended_ns(self) -> int:
        return 0 if self._open or not self._world.faults.calm else max(1, self._last_ns)

    def fault_ended(self) -> None:
        """A stretch of fates began or ended."""
        self._troubled()

    def _troubled(self) -> None:
        self._last_ns = self._world.watch.venue_ns
        self._world.watch.seen.links_up_since_ns = 0

    def _end(self) -> None:
        self._open -= 1
        self._last_ns = self._world.watch.venue_ns

    def _for(self, seconds: float) -> None:
        """It goes on for so long."""
        self._open += 1
        clock = self._world.clock
        clock.call_at(clock.mono_ns() + round(seconds * NS), self._end)

    def begin(self, fault: Fault) -> None:
        """One planned fault, at its moment."""
        if self.closed:
            return
        world = self._world
        kind = _WINDOWS.get(fault.kind)
        if world.machine.is_held:
            world.not_counted()
            return
        if kind is not None:
            world.watch.count(kind.value, fault.ordinal)
            world.venue.inject(kind, fault.seconds)
            self._for(fault.seconds)
        elif self._is_done(fault):
            world.watch.count(str(fault.kind), fault.ordinal)
        else:
            world.not_counted()
            return
        world.say(f"fault {fault.kind} {fault.ordinal}: {fault.seconds:.3f} s")
        self._troubled()

    def _is_done(self, fault: Fault) -> bool:
        """Whether it could be done: a process that is not up cannot crash."""
        world = self._world
        kind = Kind(fault.kind)
        if kind in _OF_A_PROCESS and not world.is_up:
            return False
        disk, ends_ns = world.disk, world.clock.mono_ns() + round(fault.seconds * NS)
        match kind:
            case Kind.CRASH_STEP:
                world.crash_in(1 + fault.number % STEPS_MAX)
            case Kind.CRASH_BEFORE_COMMIT:
                disk.crash_at = CrashPoint.BEFORE_COMMIT
            case Kind.CRASH_AFTER_COMMIT:
                disk.crash_at = CrashPoint.AFTER_COMMIT
            case Kind.DISK_SLOW:
                disk.slow(NS // 50 + fault.number % (2 * NS))
                world.clock.call_at(ends_ns, disk.slow, 0)
                self._for(fault.seconds)
            case Kind.DISK_FAILS:
                disk.fail_for(round(fault.seconds * NS))
                self._for(fault.seconds)
            case Kind.WALL_STEP:
                self._step_the_clock(fault)
            case Kind.STALL:
                world.machine.stall(round(fault.seconds * NS))
            case Kind.STALL_ALONE:
                world.machine.hold(round(fault.seconds * NS))
                self._for(fault.seconds)
            case Kind.MACHINE_SLEEP:
                self._sleep(fault)
            case Kind.CRASH_LOOP | Kind.CRASH_IN_START | Kind.DISK_IN_START:
                self.starts.doom(fault)
                world.crash_in(1 + fault.number % STEPS_MAX)
            case Kind.REPLICA_BEHIND | Kind.RULES_CHANGED | Kind.TRADING_SUSPENDED | Kind.FEES_CHANGED | Kind.BAN:
                self._for(self._changes.begin(fault))
            case Kind.ACCOUNT_CHANGED:
                self._change_the_account(fault)
            case Kind.DEAD_MAN_FIRES:
                return world.venue.dead_man_fires()
            case Kind.MAINTENANCE:
                for each in _MAINTENANCE:
                    world.venue.inject(each, fault.seconds)
                self._for(fault.seconds)
            case Kind.SECOND_DAEMON:
                return self._second(fault)
            case Kind.FOREIGN_ORDER | Kind.MANUAL_TRADE | Kind.STRANGER:
                return self._somebody_trades(fault)
            case Kind.TRANSFER:
                world.venue.transfer((fault.number % 2_000 - 1_000) * E10)
            case Kind.SIGNAL_FLOOD | Kind.LYING_SOURCE:
                lies = kind is Kind.LYING_SOURCE
                world.keep(asyncio.create_task(speak(world, fault.seconds, lies=lies), name=fault.kind))
                self._for(fault.seconds)
            case Kind.STOP | Kind.OPERATOR_PAUSE | Kind.OPERATOR_KILL | Kind.OPERATOR_FLATTEN:
                return self._operates(fault)
            case Kind.SKEW:
                pass
        return True

    def _step_the_clock(self, fault: Fault) -> None:
        clock = self._world.clock
        by_ns = _STEPS_MS[fault.number % len(_STEPS_MS)] * 1_000_000 * (1 if fault.number & 64 else -1)
        clock.wall_offset_ns += by_ns

        def back() -> None:
            clock.wall_offset_ns -= by_ns

        clock.call_at(clock.mono_ns() + round(fault.seconds * NS), back)
        self._for(fault.seconds)

    def _change_the_account(self, fault: Fault) -> None:
        world = self._world
        name, value = _CHANGES[fault.number % len(_CHANGES)]
        world.venue.changed_facts = {name: value}
        world.watch.seen.facts_wrong_since_ns = world.watch.venue_ns

        def back() -> None:
            world.venue.changed_facts = {}
            world.watch.seen.facts_wrong_since_ns = 0

        world.clock.call_at(world.clock.mono_ns() + round(fault.seconds * NS), back)
        self._for(fault.seconds)

    def _sleep(self, fault: Fault) -> None:
        """The links are broken when it wakes, and come back one after the other."""
        world = self._world
        least_s, most_s = SLEEP_S
        seconds = least_s * (most_s / least_s) ** (fault.number % 1_000 / 1_000)
        world.sleep(round(seconds * NS))
        for each in (FaultKind.PRIVATE_DOWN, FaultKind.PUBLIC_DOWN):
            after_s = fault.seconds * (1 if (each is FaultKind.PUBLIC_DOWN) is (fault.number & 1024 > 0) else 0.2)
            world.venue.inject(each, seconds + after_s)
        self._for(seconds + fault.seconds)

    def _second(self, fault: Fault) -> bool:
        world = self._world
        if not world.second.begin(fault):
            return False
        seconds = 20.0 + fault.seconds
        world.clock.call_at(world.clock.mono_ns() + round(seconds * NS), world.second.end)
        self._for(seconds)
        return True

    def _somebody_trades(self, fault: Fault) -> bool:
        """In our account: an order far from the market that stays for a while, or a trade at market. A stranger's
        order stays until somebody cancels it."""
        venue = self._world.venue
        mid = venue.exchange.mid_ticks
        if not mid:
            return False
        side = Side.BUY if fault.number & 1 else Side.SELL
        lots = 1 + fault.number // 2 % 200
        if fault.kind == Kind.MANUAL_TRADE:
            venue.manual_trade(side, lots)
            return True
        away = mid * (20 + fault.number // 512 % 200) // 10_000
        if fault.kind == Kind.STRANGER:
            client_id = self._name_of_a_stranger(fault)
            self._world.watch.seen.strangers.add(client_id)
            venue.foreign_order(side, mid - side * away, max(lots, 50), client_id)
            return True
        client_id = venue.foreign_order(side, mid - side * away, max(lots, 50))

        clock = self._world.clock
        clock.call_at(clock.mono_ns() + round(fault.seconds * 5 * NS), venue.withdraw, client_id)
        return True

    def _name_of_a_stranger(self, fault: Fault) -> str:
        """Another bot's; or our tag and an epoch to come, or a number to come of this one, as a copy of our journal
        would send it; or an old epoch, as an older copy did."""
        epoch, number = self._world.epoch, fault.number >> 20
        match fault.number >> 17 & 3:
            case 0:
                return f"mmother-{epoch}-{fault.ordinal}x{number}"
            case 1:
                return f"mm{TAG}-{epoch + 1 + number}-{_STRANGER + fault.ordinal}"
            case 2:
                return f"mm{TAG}-{max(0, epoch - 1 - number % 3)}-{_STRANGER + fault.ordinal}"
            case _:
                return f"mm{TAG}-{epoch}-{_STRANGER + fault.ordinal}"

    def _operates(self, fault: Fault) -> bool:
        world = self._world
        daemon = world.daemon
        if daemon is None or not world.is_up or daemon.has_ended:
            return False
        if fault.kind == Kind.STOP:
            daemon.stop("SIGTERM (simulated)")
        else:
            world.keep(asyncio.create_task(_operate(world, daemon.parts.operator, fault), name=fault.kind))
        return True


async def _operate(world: "World", operator: Operator, fault: Fault) -> None:
    match fault.kind:
        case Kind.OPERATOR_PAUSE:
            await operator.pause("planned", WHO)
        case Kind.OPERATOR_KILL:
            if fault.number & 2:
                await _an_order_is_late(world)
            await operator.kill("planned", WHO, _hears, flatten=bool(fault.number & 1))
        case _:
            await operator.flatten("planned", WHO, _hears)


async def _an_order_is_late(world: "World") -> None:
    """Until an order has just left that takes as long as any, or a minute is over: the worst moment for a kill."""
    left = asyncio.Event()

    def leaves() -> None:
        world.venue.inject(FaultKind.LATE, LATE_MAX_S)
        world.watch.on_place = None
        left.set()

    world.watch.on_place = leaves
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                await left.wait()
    finally:
        world.watch.on_place = None


async def _hears(_line: str) -> None:
    """What the verb says while it works."""
