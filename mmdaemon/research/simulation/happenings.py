"""How each planned fault is brought about: in the venue, at the disk, by the clock, by a person, to the process."""

import asyncio
from typing import TYPE_CHECKING, Final

from mmdaemon.core.types import E10, NS, Side
from mmdaemon.daemon.operator import Operator
from mmdaemon.journal.connection import CrashPoint
from mmdaemon.research.simulation.operator import WHO
from mmdaemon.research.simulation.plan import CRASHES, Fault, Kind
from mmdaemon.venues.simulated.faults import WINDOWS, FaultKind

if TYPE_CHECKING:
    from mmdaemon.research.simulation.world import World

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
_OF_A_PROCESS: Final = (*CRASHES, Kind.DISK_SLOW, Kind.DISK_FAILS, Kind.STALL)


class Happenings:
    """The faults of one seed as they come. `ended_ns` is when the last one ended by the venue's time; 0 while any is
    on, and while fates may befall requests."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._open = 0
        self._last_ns = 0
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
                disk.fails_until_ns = ends_ns
                self._for(fault.seconds)
            case Kind.WALL_STEP:
                self._step_the_clock(fault)
            case Kind.STALL:
                world.stall(round(fault.seconds * NS))
            case Kind.ACCOUNT_CHANGED:
                self._change_the_account(fault)
            case Kind.MAINTENANCE:
                for each in _MAINTENANCE:
                    world.venue.inject(each, fault.seconds)
                self._for(fault.seconds)
            case Kind.FOREIGN_ORDER | Kind.MANUAL_TRADE:
                return self._somebody_trades(fault)
            case Kind.TRANSFER:
                world.venue.transfer((fault.number % 2_000 - 1_000) * E10)
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

    def _somebody_trades(self, fault: Fault) -> bool:
        """In our account: an order far from the market that stays for a while, or a trade at market."""
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
        client_id = venue.foreign_order(side, mid - side * away, max(lots, 50))

        clock = self._world.clock
        clock.call_at(clock.mono_ns() + round(fault.seconds * 5 * NS), venue.withdraw, client_id)
        return True

    def _operates(self, fault: Fault) -> bool:
        world = self._world
        daemon = world.daemon
        if daemon is None or not world.is_up or daemon.has_ended:
            return False
        if fault.kind == Kind.STOP:
            daemon.stop("SIGTERM (simulated)")
        else:
            world.keep(asyncio.create_task(_operate(daemon.parts.operator, fault), name=fault.kind))
        return True


async def _operate(operator: Operator, fault: Fault) -> None:
    match fault.kind:
        case Kind.OPERATOR_PAUSE:
            await operator.pause("planned", WHO)
        case Kind.OPERATOR_KILL:
            await operator.kill("planned", WHO, _hears, flatten=bool(fault.number & 1))
        case _:
            await operator.flatten("planned", WHO, _hears)


async def _hears(_line: str) -> None:
    """What the verb says while it works."""
