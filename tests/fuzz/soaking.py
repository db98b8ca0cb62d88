"""A long life of one daemon in virtual time, and what grows in it.

The market is the synthetic one, slowed down: moves are per update, so each is larger and there are fewer. The venue
keeps a short record, because a real one keeps its own elsewhere. What is measured once a virtual hour (or as asked):
blocks that Python has allocated, memory resident, events and CPU, and the size of every container that can be reached
from the daemon, by the path to it.
"""

import asyncio
import gc
import os
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.types import NS, GuardState, Regime
from mmdaemon.daemon import wire
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.settings import load
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.order_flow import MarketConfig
from mmdaemon.venues.simulated.venue import SimulatedVenue

HOUR_NS: Final = 3_600 * NS
START_NS: Final = 1_767_225_600 * NS
KEPT: Final = 500
"""What the venue keeps of its record."""

BOUNDED: Final[dict[str, int]] = {
    # Grows for a day or more, and then no further. By the end of the path.
    "state.bars.bars": 1_500,
    "state.bars.bands": 1_500,
    "state.bars.sorted_bands": 1_440,
    "state.bars.drifts": 2_880,
    "state.bars.sorted_drifts": 2_880,
    "state.orders.closed": 5_000,
    "state.position.trade_ids": 51_000,
    "state.position.bill_ids": 51_000,
    "exchange.orders": 2 * KEPT + 100,
    "exchange.received": 2 * KEPT + 100,
    "exchange.fills": 2 * KEPT + 100,
    "exchange.bills": 2 * KEPT + 100,
    "candles._bars": 1_500,
    "budgets.messages_ns": 2_000,  # of the last minute
    "budgets.cancels_ns": 2_000,
    "_rates._times_ns": 2_000,
    "source.played": 100_000,  # some ten stretches an hour, which the synthetic market lists
}
"""What may grow, and how far: a container that grows and is not here has nobody who empties it."""


class Sample(msgspec.Struct, frozen=True):
    """One moment of a soak. Counts are since the start."""

    hours: float
    events: int
    commands: int
    fills: int
    cpu_s: float
    """Of the process, for the soak alone: what measuring cost is taken out."""
    yardstick_s: float
    """CPU seconds of a fixed piece of work, at that moment: what a machine that is busy with other things makes of
    it."""
    blocks: int
    """Blocks that Python's allocator has given out, after a collection."""
    rss: int
    """Bytes resident; 0 where the system does not say."""
    sizes: dict[str, int]
    """Entries of each container, by path."""


def settings_of(seed: int) -> Any:
    """Trades all the time, with the shadow off: as it runs for real."""
    given: dict[str, Any] = {"run.speed": "max", "run.seed": seed, "run.shadow": False}
    given |= {f"regimes.{regime}.levels_max": 3 for regime in Regime}
    given |= {"cost.turnover_soft_multiple": 1_000.0, "cost.turnover_cap_multiple": 1_000.0}
    return load(None, given, {}).settings


def soak(
    folder: Path,
    hours: float,
    *,
    every_h: float = 1.0,
    updates_per_s: float = 0.5,
    seed: int = 7,
    said: Callable[[Sample], None] | None = None,
) -> list[Sample]:
    """Live so long; a sample at the start and then every `every_h`.

    Raises whatever ended the daemon early.
    """
    samples: list[Sample] = []

    async def main(clock: VirtualClock) -> list[Sample]:
        directory = open_dir(folder, {}).lock()
        daemon = _daemon(directory, clock, updates_per_s, seed, fresh_account=True)
        await daemon.start()
        running = asyncio.create_task(daemon.run())
        spent_s = 0.0
        begun_s = time.process_time()
        try:
            for i in range(round(hours / every_h) + 1):
                if i:
                    await sleep_ns(clock, round(every_h * HOUR_NS))
                if daemon.failure is not None:
                    raise daemon.failure
                now_s = time.process_time()
                samples.append(_sample(daemon, i * every_h, now_s - begun_s - spent_s))
                if said is not None:
                    said(samples[-1])
                spent_s += time.process_time() - now_s
            if daemon.state.guard.state is GuardState.HARD_STOP:
                raise AssertionError(f"it stopped for good: {daemon.state.guard}")
        finally:
            daemon.stop("the soak is over")
            await running
            directory.release()
        return samples

    return run_virtual(main, start_wall_ns=START_NS)


def start_again(folder: Path, seed: int = 7) -> float:
    """Seconds of real time that a daemon takes to begin on what a soak left behind: latch, integrity, books, orders."""

    async def main(clock: VirtualClock) -> float:
        directory = open_dir(folder, {}).lock()
        daemon = _daemon(directory, clock, 1.0, seed, fresh_account=False)
        begun_s = time.perf_counter()
        await daemon.start()
        took_s = time.perf_counter() - begun_s
        await daemon.venue.close()
        await daemon.journal.close()
        directory.release()
        return took_s

    return run_virtual(main, start_wall_ns=START_NS + 365 * 24 * HOUR_NS)


def _daemon(
    directory: StateDir, clock: VirtualClock, updates_per_s: float, seed: int, *, fresh_account: bool
) -> Daemon:
    settings = settings_of(seed)
    market = MarketConfig(updates_per_s=updates_per_s, volatility=min(10.0, (4.0 / updates_per_s) ** 0.5))
    source = SyntheticMarket(seed=seed, start_ts_ns=clock.wall_ns(), config=market)
    plain = wire.venue_of(settings, source, clock, "s").config
    venue = SimulatedVenue(source, clock, msgspec.structs.replace(plain, keep=KEPT), seed)
    connect = wire.connection_of(settings, clock)
    return Daemon(settings, clock, venue, directory, connect, fresh_account=fresh_account, bot_tag="soak")


def _sample(daemon: Daemon, hours: float, cpu_s: float) -> Sample:
    gc.collect()
    held = daemon.state.position
    return Sample(
        hours=hours,
        events=daemon.state.seq,
        commands=daemon.parts.controller.commands,
        fills=held.buys + held.sells,
        cpu_s=cpu_s,
        yardstick_s=min(_yardstick() for _ in range(5)),
        blocks=sys.getallocatedblocks(),
        rss=resident(),
        sizes=sizes(daemon),
    )


def _yardstick() -> float:
    begun_s = time.process_time()
    made = {str(n): (n, [n] * 8) for n in range(20_000)}
    assert sum(first for first, _ in made.values()) == 199_990_000
    return time.process_time() - begun_s


def resident() -> int:
    """Bytes of this process that are in memory."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


# --- what can be reached ----------------------------------------------------------------------------------------------

_LEAVES = (str, bytes, int, float, bool, type(None), Enum, Path, type, types.ModuleType, types.FunctionType)
_COUNTED = (list, dict, set, deque)


def sizes(root: object) -> dict[str, int]:
    """Entries of every list, dict, set and deque that can be reached from an object by attributes, by path."""
    found: dict[str, int] = {}
    seen: set[int] = set()
    waiting: deque[tuple[str, object]] = deque([("", root)])  # in width, so that each is found by its shortest path
    while waiting:
        path, each = waiting.popleft()
        if isinstance(each, _LEAVES) or id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, _COUNTED):
            found[path] = len(each)
        for name, inside in _inside(each):
            waiting.append((f"{path}.{name}" if path else name, inside))
    return found


def _inside(each: object) -> Iterator[tuple[str, object]]:
    """What to look into. Of a container only what is itself made to hold something: entries are counted, not walked."""
    if isinstance(each, Mapping):
        if len(each) <= 40:
            yield from (
                (str(name), value) for name, value in each.items() if isinstance(value, (list, dict, set, deque))
            )
    elif isinstance(each, (list, tuple, set, deque)):
        return
    elif isinstance(each, types.MethodType):
        yield "self", each.__self__
    elif type(each).__module__.partition(".")[0] == "mmdaemon":
        names = list(getattr(each, "__dict__", {}))
        for kind in type(each).__mro__:
            slots = kind.__dict__.get("__slots__", ())
            names += [slots] if isinstance(slots, str) else list(slots)
        names += list(getattr(each, "__struct_fields__", ()))
        for name in dict.fromkeys(names):
            value = getattr(each, name, None)
            if not isinstance(value, _LEAVES):
                yield name, value


def filling(before: Sample, after: Sample, slack: int = 40) -> dict[str, tuple[int, int]]:
    """Containers that have grown towards their bound: what memory went to that is not lost."""
    found = {path: (before.sizes.get(path, 0), now) for path, now in after.sizes.items()}
    return {path: (was, now) for path, (was, now) in found.items() if now > was + slack}


def grown(before: Sample, after: Sample, slack: int = 40) -> dict[str, tuple[int, int]]:
    """Containers that have grown by more than `slack` and have no bound, or have passed it: sizes before and after."""
    found: dict[str, tuple[int, int]] = {}
    for path, now in after.sizes.items():
        bound = next((most for end, most in BOUNDED.items() if path.endswith(end)), None)
        was = before.sizes.get(path, 0)
        if (bound is None and now > was + slack) or (bound is not None and now > bound):
            found[path] = (was, now)
    return found
