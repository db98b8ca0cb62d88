"""`python -m tests.bench.live`: ours and plain ccxt.pro at the same venue, in one run, round by round in turn.

    frame -> decision     a `books` frame handed to the kernel by the venue, until the first line of the code that would
                          decide on a book which has it: `step` here, the line after `await watch_order_book` there
    received -> decision  the same, from the moment at which the client's process had the last byte of the frame: what
                          kernel, loopback and a processor's waking take is not in it. Both sides are stamped alike,
                          in `data_received` of aiohttp's protocol, which takes 0.2 µs
    frame -> order        the same frame, until the order that it led to was at the venue, whole
    order                 an order after the other: asked for, answered, known to be so
    CPU                   of the client's process, all its threads: of a flood of frames, and of orders one by one. Less
                          the floor's: without what a bare socket of the same loop takes of the same frames at that pace

What each has in its way:

    ccxt.pro   ccxt's connection, json, order book, future; `watch_order_book` in a loop, `create_order` awaited in it
    ours       ccxt's connection, tap, streams, own book, inbox, quoting controller up to `step`; from there on sender,
               outbox, lanes, our own HTTP, signed by ccxt. No step, no journal: the duty of the other side
    floor      a socket, and a look at the time: what loopback, kernel and a processor's waking take from all of them
    whole      ours with all that is done for an order in the daemon: step with a decision and its assertions at every
               book, rows of intent, the commit (fdatasync) that they wait for

The venue is a process of its own, on a core of its own. Nothing here passes or fails.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.quotes import decide
from tests.bench.live.received import Received, noted
from tests.bench.live.ways import Behind, Way, bare, plain_ccxt, wired

CLIENT_CPU: Final = 0
VENUE_CPU: Final = 1
FRAMES_PER_S: Final = 1_000.0
AT_PACE: Final = f"CPU a frame at {FRAMES_PER_S:,.0f} a second"
TICKS_PER_S: Final = 250.0
RESAMPLES: Final = 2_000


class Sizes(msgspec.Struct, frozen=True):
    """Of a round of each kind."""

    frames: int = 1_500
    checked: int = 700
    flood: int = 4_000
    ticks: int = 400
    orders: int = 500


SIDES: Final = {"ccxt.pro": "ccxt", "ours": "ours", "whole": "ours", "floor": "floor"}
"""Whose sockets each uses."""


class Venue:
    """The other process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"

    async def _told(self, what: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(what) + b"\n")
        return msgspec.json.decode(await self._process.stdout.readline())

    async def play(self, side: str, frames: str, n: int, per_s: float) -> dict[str, Any]:
        return await self._told({"play": {"side": side, "frames": frames, "n": n, "per_s": per_s}})

    async def sockets(self) -> list[str]:
        return await self._told({"sockets": True})

    async def arrived(self) -> dict[str, int]:
        return await self._told({"arrived": True})


@contextlib.asynccontextmanager
async def venue_process(*pinned: int) -> AsyncGenerator[Venue]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.live.venue", *map(str, pinned),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Venue(process, msgspec.json.decode(await process.stdout.readline())["port"])
    finally:
        process.stdin.close()
        await process.wait()


class Measure(msgspec.Struct):
    """One quantity of one side, a figure a round."""

    what: str
    side: str
    unit: str
    rounds: list[float] = msgspec.field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


class Bench:
    def __init__(self, venue: Venue, ways: dict[str, Way], received: Received) -> None:
        self._venue, self._ways, self._received = venue, ways, received
        self.measures: dict[tuple[str, str], Measure] = {}
        self.unseen: Counter[str] = Counter()
        """Frames that no decision knew of, and that no order followed, by side."""

    def note(self, what: str, side: str, unit: str, figure: float) -> None:
        self.measures.setdefault((what, side), Measure(what, side, unit)).rounds.append(figure)

    async def connected(self) -> None:
        """Until the venue has every socket that it is to send to."""
        async with asyncio.timeout(30):
            while not {f"{side}/public" for side in SIDES.values()} <= set(await self._venue.sockets()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _played(self, name: str, frames: str, n: int, per_s: float, *, orders: bool) -> tuple[Way, Any, int]:
        """The way, what the venue says of the round, CPU ns of it."""
        way = self._ways[name]
        self._received.clear()
        gc.collect()
        way.fresh()
        way.orders = orders
        told = await self._venue.play(SIDES[name], frames, n, per_s)
        await asyncio.sleep(0.05)
        way.orders = False
        way.living()
        at = [cpu for ts_ms, _, cpu in way.seen if ts_ms < told["base_ms"]]
        end = [cpu for ts_ms, _, cpu in way.seen if ts_ms >= told["tail_ms"]]
        assert at, f"{name} did not see the snapshot"
        assert end, f"{name} did not see the end"
        return way, told, end[0] - at[-1]

    def _missed(self, name: str, count: int) -> None:
        if count:
            self.unseen[name] += count

    async def frames(self, name: str, frames: str, n: int) -> None:
        way, told, cpu_ns = await self._played(name, frames, n, FRAMES_PER_S, orders=False)
        sent = {int(ts): ns for ts, ns in told["sent"].items()}
        there = [(ts, at) for ts, at, _ in way.seen]
        checked = ", checksum" if frames == "checked" else ""
        self._missed(name, n - self._latency(f"frame -> decision{checked}", name, sent, there))
        came = {ts: ns for ts, ns in self._received.frames().items() if ts in sent}
        if name != "floor":
            self._missed(name, n - self._latency(f"received -> decision{checked}", name, came, there))
        self.note(f"{AT_PACE}{checked}", name, "µs", cpu_ns / n / 1e3)

    def _latency(self, what: str, name: str, since: dict[int, int], there: Sequence[tuple[int, int]]) -> int:
        """How many of them there were."""
        took = latencies(since, there)
        self.note(f"{what}, p50", name, "µs", quantile(took, 0.5))
        self.note(f"{what}, p99", name, "µs", quantile(took, 0.99))
        return len(took)

    def less_floor(self) -> None:
        """Of the round just played."""
        floor = self.measures[AT_PACE, "floor"].rounds[-1]
        for name in ("ccxt.pro", "ours"):
            self.note(f"{AT_PACE}, less the floor's", name, "µs", self.measures[AT_PACE, name].rounds[-1] - floor)

    async def flood(self, name: str, frames: str, n: int) -> None:
        _, _, cpu_ns = await self._played(name, frames, n, 0, orders=False)
        what = "CPU a frame in a flood" + (", checksum" if frames == "checked" else "")
        self.note(what, name, "µs", cpu_ns / n / 1e3)

    async def orders(self, name: str, n: int) -> None:
        _, told, cpu_ns = await self._played(name, "plain", n, TICKS_PER_S, orders=True)
        await asyncio.sleep(0.1)
        arrived = await self._venue.arrived()
        sent = {int(ts): ns for ts, ns in told["sent"].items()}
        there = sorted((int(client_id[1:]), ns) for client_id, ns in arrived.items())
        took = latencies(sent, there)
        self._missed(name, n - len(took))
        self.note("frame -> order, p50", name, "µs", quantile(took, 0.5))
        self.note("frame -> order, p99", name, "µs", quantile(took, 0.99))
        self.note("CPU a frame and its order", name, "µs", cpu_ns / max(1, len(there)) / 1e3)

    async def one_by_one(self, name: str, n: int) -> None:
        way = self._ways[name]
        way.fresh()
        tag = time.time_ns()
        took: list[float] = []
        gc.collect()
        cpu_ns = time.process_time_ns()
        for i in range(n):
            begun = time.monotonic_ns()
            await way.place(f"o{tag}{i}")
            took.append((time.monotonic_ns() - begun) / 1e3)
        cpu_ns = time.process_time_ns() - cpu_ns
        await self._venue.arrived()
        self.note("order, asked to answered, p50", name, "µs", quantile(took, 0.5))
        self.note("order, asked to answered, p99", name, "µs", quantile(took, 0.99))
        self.note("CPU an order", name, "µs", cpu_ns / n / 1e3)


def latencies(sent: dict[int, int], there: Sequence[tuple[int, int]]) -> list[float]:
    """µs from each frame to the first thing that knew of it: a decision on a later book knows of the ones before."""
    took: list[float] = []
    i = 0
    for ts_ms in sorted(sent):
        while i < len(there) and there[i][0] < ts_ms:
            i += 1
        if i == len(there):
            break
        took.append((there[i][1] - sent[ts_ms]) / 1e3)
    return took


def quantile(sample: list[float], q: float) -> float:
    ordered = sorted(sample)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def interval(theirs: list[float], ours: list[float]) -> tuple[float, float]:
    """95 %, of the ratio of medians: rounds drawn in pairs, because what disturbs one disturbs its neighbour."""
    rng = Random(7)
    pairs = list(zip(theirs, ours, strict=True))
    ratios: list[float] = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(pairs, k=len(pairs))
        ratios.append(statistics.median(a for a, _ in drawn) / statistics.median(b for _, b in drawn))
    return quantile(ratios, 0.025), quantile(ratios, 0.975)


async def measured(clock: RealClock, rounds: int, folder: Path, sizes: Sizes, *pinned: int) -> Bench:
    """`pinned`: the venue's processor."""
    async with (
        noted() as received,
        venue_process(*pinned) as venue,
        wired(f"{venue.url}/ours", clock, folder) as (lean, whole),
        plain_ccxt(f"{venue.url}/ccxt", clock) as plain,
        bare(venue.url) as floor,
    ):
        bench = Bench(venue, {"ccxt.pro": plain, "ours": lean, "whole": whole, "floor": floor}, received)
        await bench.connected()
        gc.collect()
        gc.freeze()
        try:
            for warm in (True, *(False for _ in range(rounds))):
                for name in ("ccxt.pro", "ours", "floor"):
                    await bench.frames(name, "plain", sizes.frames)
                bench.less_floor()
                for name in ("ccxt.pro", "ours"):
                    await bench.frames(name, "checked", sizes.checked)
                    await bench.flood(name, "plain", sizes.flood)
                    await bench.flood(name, "checked", sizes.flood)
                for name in ("ccxt.pro", "ours", "whole"):
                    await bench.orders(name, sizes.ticks)
                for name in ("ccxt.pro", "ours"):
                    await bench.one_by_one(name, sizes.orders)
                if warm:
                    bench.measures.clear()
        finally:
            gc.unfreeze()
        note_decide(bench, whole, rounds)
        return bench


def note_decide(bench: Bench, whole: Behind, rounds: int) -> None:
    """What a decision costs by itself, on the last book of the run."""
    state, params = whole.desk.state, whole.desk.params
    inputs = state.inputs
    assert inputs is not None
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        for _ in range(1_000):
            decide(inputs, params)
        bench.note("decide, by itself", "ours", "µs", (time.perf_counter_ns() - begun) / 1e6)


def show(console: Console, bench: Bench) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    whats = list(dict.fromkeys(what for what, _ in bench.measures))
    table = Table(title="µs, medians of rounds; in brackets the ratio of medians' 95 % interval over paired rounds")
    for column in ("what", "floor", "ccxt.pro", "ours", "ccxt.pro / ours", "whole", "ccxt.pro / whole"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what in whats:
        found = {side: bench.measures[what, side] for side in SIDES if (what, side) in bench.measures}
        row: dict[str, object] = {"what": what, **{side: measure.rounds for side, measure in found.items()}}
        cells = [what]
        for side in ("floor", "ccxt.pro", "ours", "whole"):
            cells.append(f"{found[side].median:,.1f}" if side in found else "")
            if side in ("ours", "whole"):
                ratio = ""
                if side in found and "ccxt.pro" in found:
                    theirs, mine = found["ccxt.pro"].rounds, found[side].rounds
                    lo, hi = interval(theirs, mine)
                    times = found["ccxt.pro"].median / found[side].median
                    row[f"ccxt.pro / {side}"] = (times, lo, hi)
                    ratio = f"{times:.2f} ({lo:.2f} to {hi:.2f})"
                cells.append(ratio)
        table.add_row(*cells)
        rows.append(row)
    console.print(table)
    if bench.unseen:
        console.print(f"frames that nothing followed: {dict(bench.unseen)}")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description="ours beside plain ccxt.pro")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="where every round's figures are written")
    args = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CPU})
    scheduled = "ordinary"
    with contextlib.suppress(PermissionError):  # so that what else runs on the machine is not measured; its child too
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        scheduled = "first in, first out"
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = run_real(lambda clock: measured(clock, args.rounds, Path(folder), Sizes(), VENUE_CPU))
    console = Console(width=150)
    made = f"Python {platform.python_version()}, ccxt {version('ccxt')}, aiohttp {version('aiohttp')}, uvloop"
    console.print(
        f"{made}; {args.rounds} interleaved rounds; "
        f"load average {load:.1f} on {os.cpu_count()} cores, scheduling {scheduled}"
    )
    rows = show(console, bench)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode({"made": made, "load": load, "rows": rows})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
