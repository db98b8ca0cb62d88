"""`python -m tests.emulated.soak --minutes 60`: an hour of bursty traffic on the wire, with a cut each minute.

The venue is a process of its own (`firehose.py`); here is the real `CcxtVenue` with ccxt.pro and aiohttp as installed,
over loopback TCP. Fails, and says of what, where

    a book     told is not the venue's own of that number, level by level; is crossed; is not the next; is told after
               the link went and before a new connection's snapshot
    a link     goes without having been cut, or does not come back after it was
    frames     sent were not told seconds later, or are missing in the end
    the queue  of aiohttp believes in bytes that are not there, which pauses the connection for ever (aiohttp 3.14.4)
    memory     grew by 10 MiB or more after the warm-up; tasks and sockets grew at all

`--wrong` builds one defect in, to prove that it is found.
"""

import argparse
import asyncio
import ctypes
import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import msgspec
from aiohttp._websocket import reader_py

from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.events import Event
from mmdaemon.core.types import NS, Link
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.ccxt_pro import CcxtVenue
from tests.emulated.build import KINDS, Kind, credentials
from tests.emulated.built_in import WRONG
from tests.emulated.firehose import CUT_BOTH, CUT_BY_SILENCE, CUTS, NUMBERS, Tape
from tests.emulated.told import Told

MIB: Final = 1 << 20
GROWTH_MAX: Final = 10 * MIB
_LOOK_S: Final = 1.0
_LOOK_EVERY: Final = 97
_LAG_S: Final = 0.05
_TOLD_WITHIN_S: Final = 10.0
_DOWN_WITHIN_S: Final = 20.0
_SILENCE_WITHIN_S: Final = 60.0
"""Of a connection that is there and says nothing."""
_UP_WITHIN_S: Final = 30.0
_OVERHEAD: Final = getattr(reader_py, "MSG_SIZE_OVERHEAD", 0)
"""What a queued message counts beyond its bytes, from aiohttp 3.14.4 on."""


class Sample(msgspec.Struct, frozen=True):
    at_s: float
    rss: int
    cpu_s: float
    tasks: int
    files: int


class VenueProcess:
    """`firehose.py`, asked line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._lock = asyncio.Lock()

    @classmethod
    async def begin(cls, account: Kind, rate: float, seed: int) -> "tuple[VenueProcess, str]":
        given = ("--account", account, "--rate", str(rate), "--seed", str(seed))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.emulated.firehose", *given,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
        )  # fmt: skip
        assert process.stdout is not None
        return cls(process), json.loads(await process.stdout.readline())["url"]

    async def ask(self, do: str) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._lock:
            stdin.write(json.dumps({"do": do}).encode() + b"\n")
            line = await stdout.readline()
        if not line:
            raise RuntimeError("the venue's process ended")
        return json.loads(line)

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


# --- aiohttp's queue --------------------------------------------------------------------------------------------------


def queue_size(queue: Any) -> int:
    """The bytes that the queue believes in. The compiled class shows them to nobody, so they are read from where it
    keeps them: after the head of the object and its table of methods. The field behind them proves the place."""
    if hasattr(queue, "_size"):
        return queue._size
    at = id(queue) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    behind = ctypes.c_void_p.from_address(at + ctypes.sizeof(ctypes.c_void_p)).value
    if behind != id(queue._protocol):
        raise RuntimeError("aiohttp keeps the size of its queue elsewhere now: this soak has to be looked at")
    return ctypes.c_uint.from_address(at).value


class Queues:
    """Looks at each connection's queue: what it believes in, and what is in it."""

    def __init__(self, venue: CcxtVenue, told: Told) -> None:
        self._exchange: Any = getattr(venue, "_client").exchange  # noqa: B009
        self._told = told
        self.looks = self.pauses = 0
        self.bytes_max = 0

    def look(self) -> None:
        for url, client in self._exchange.clients.items():
            response = getattr(client.connection, "_conn", None)
            protocol: Any = getattr(response, "protocol", None)
            queue = getattr(protocol, "_payload", None)
            if queue is None:
                continue
            believed, there = queue_size(queue), sum(message[1] + _OVERHEAD for message in queue._buffer)
            self.looks += 1
            self.bytes_max = max(self.bytes_max, believed)
            paused = bool(protocol._reading_paused)
            self.pauses += paused
            if believed != there:
                self._told.say("the queue believes in bytes that are not there", (url[-10:], believed, there, paused))
            if paused and not queue._buffer:
                self._told.say("the connection is paused with nothing in its queue", (url[-10:], believed))


# --- the run ----------------------------------------------------------------------------------------------------------


class Soak:
    def __init__(self, venue: CcxtVenue, firehose: VenueProcess, told: Told, clock: RealClock) -> None:
        self.venue, self.firehose, self.told = venue, firehose, told
        self._clock = clock
        self._begun_ns = clock.mono_ns()
        self.queues = Queues(venue, told)
        self.samples: list[Sample] = []
        self.lags_s: list[float] = []
        self.cuts: list[tuple[str, float, float]] = []
        """(how, seconds until the link went, and from there until it was back)."""
        self.forced = Counter[Link]()
        self._delivered = 0

    def deliver(self, event: Event) -> None:
        self.told.deliver(event)
        self._delivered += 1
        if not self._delivered % _LOOK_EVERY:
            self.queues.look()  # within a burst: between bursts the queue is empty

    def elapsed_s(self) -> float:
        return (self._clock.mono_ns() - self._begun_ns) / NS

    async def until(self, what: Callable[[], object], within_s: float) -> bool:
        end_s = self.elapsed_s() + within_s
        while not what():
            if self.elapsed_s() > end_s:
                return False
            await asyncio.sleep(0.01)
        return True

    async def watch(self) -> None:
        """For ever: lag of the loop, queues, memory."""
        looked_s = 0.0
        while True:
            before_s = self.elapsed_s()
            await asyncio.sleep(_LAG_S)
            now_s = self.elapsed_s()
            self.lags_s.append(now_s - before_s - _LAG_S)
            self.queues.look()
            if now_s - looked_s >= _LOOK_S:
                looked_s = now_s
                self.samples.append(sample(now_s))

    async def follow(self) -> None:
        """For ever: what was sent while the link is up is told within seconds."""
        while True:
            number, downs = (await self.firehose.ask("report"))["number"], self.told.downs[Link.PUBLIC]
            in_time = await self.until(lambda said=number: self.told.number >= said, _TOLD_WITHIN_S)
            if not in_time and downs == self.told.downs[Link.PUBLIC] and self.told.is_up[Link.PUBLIC]:
                self.told.say("frames were sent and not told", (number, self.told.number))
            await asyncio.sleep(_LOOK_S)

    async def cut(self, how: str) -> None:
        told = self.told
        downs, connection = told.downs[Link.PUBLIC], told.connection
        begun_s = self.elapsed_s()
        self.forced.update({Link.PUBLIC: 1, Link.PRIVATE: int(how in CUT_BOTH)})
        await self.firehose.ask(how)
        within_s = _SILENCE_WITHIN_S if how in CUT_BY_SILENCE else _DOWN_WITHIN_S
        await self.until(lambda: told.downs[Link.PUBLIC] > downs, within_s)
        if told.downs[Link.PUBLIC] == downs:
            told.say("a link was cut and did not go", how)
            return
        down_s = self.elapsed_s()
        back = await self.until(lambda: all(told.is_up.values()) and told.connection > connection, _UP_WITHIN_S)
        if not back:
            told.say("a link did not come back", (how, dict(told.is_up), dict(self.venue.links.why)))
        self.cuts.append((how, down_s - begun_s, self.elapsed_s() - down_s))

    async def run(self, seconds: float, cuts: int, kinds: Sequence[str]) -> dict[str, Any]:
        """Opened, played, cut so often, ended. What the venue said in the end."""
        told = self.told
        await self.venue.open(self.deliver)
        if not await self.until(lambda: all(told.is_up.values()) and told.books, _UP_WITHIN_S):
            told.say("the links did not come up", dict(self.venue.links.why))
        tasks = [asyncio.create_task(self.watch()), asyncio.create_task(self.follow())]
        begun_s = self.elapsed_s()
        for at in range(cuts):
            await asyncio.sleep(max(0.0, begun_s + seconds * (at + 0.5) / cuts - self.elapsed_s()))
            await self.cut(kinds[at % len(kinds)])
        await asyncio.sleep(max(0.0, begun_s + seconds - self.elapsed_s()))
        tasks[1].cancel()
        said = await self.firehose.ask("stop")
        told_all = await self.until(lambda: told.number == said["number"], _TOLD_WITHIN_S)
        if not told_all or not (told.may_miss_trades or told.trade == said["trades"] % NUMBERS):
            told.say("the end is missing", (told.number, said["number"], told.trade, said["trades"]))
        await asyncio.sleep(_LOOK_S)
        tasks[0].cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        return said

    def judge(self, said: Mapping[str, Any], warm_up_s: float) -> dict[str, Any]:
        """What is wrong over all, and the figures."""
        told = self.told
        if told.downs != self.forced:
            told.say("links went otherwise than they were cut", (dict(told.downs), dict(self.forced)))
        gaps = sum(how == "gap" for how, *_ in self.cuts)
        if told.refused["gap"] != gaps or (not gaps and told.refused) or told.refused.keys() - {"gap", "no_book"}:
            told.say("frames were refused", dict(told.refused))
        for connection, (first, last) in told.spans.items():
            begun, ended = said["spans"].get(str(connection), (None, -1))
            if first != begun or last > ended:
                told.say("a connection was not told from its snapshot on", (connection, first, last, begun, ended))
        for defect in said["defects"]:
            told.say("the venue is broken", defect)
        warm = [each for each in self.samples if each.at_s >= warm_up_s]
        first, last = warm[: max(1, len(warm) // 10)], warm[-max(1, len(warm) // 10) :]
        growth = statistics.median(each.rss for each in last) - statistics.median(each.rss for each in first)
        if growth >= GROWTH_MAX:
            told.say("memory grew", f"{growth / MIB:.1f} MiB after the warm-up")
        for what in ("tasks", "files"):
            least, now = (min(getattr(each, what) for each in part) for part in (first, last))
            if now > least + 2:
                told.say(f"open {what} grew", (least, now))
        lags = statistics.quantiles(self.lags_s, n=1_000)
        cpu_s = self.samples[-1].cpu_s - self.samples[0].cpu_s
        span_s = self.samples[-1].at_s - self.samples[0].at_s
        messages = told.books + told.trades + told.others
        return {
            "on": {name: version(name) for name in ("aiohttp", "ccxt", "uvloop")},
            "minutes": round(span_s / 60, 2),
            "said": said["said"],
            "a second": round(said["said"] / span_s),
            "told": {"books": told.books, "trades": told.trades, "others": told.others},
            "cuts": len(self.cuts),
            "links": {link.value: (told.ups[link], told.downs[link]) for link in Link},
            "until down, s": _by_kind(self.cuts, 1),
            "until up again, s": _by_kind(self.cuts, 2),
            "refused": dict(told.refused),
            "queue": {"looks": self.queues.looks, "paused": self.queues.pauses, "bytes, max": self.queues.bytes_max},
            "resident, MiB": [round(each.rss / MIB, 1) for each in (self.samples[0], warm[0], warm[-1])],
            "growth after warm-up, MiB": round(growth / MIB, 2),
            "slope, MiB an hour": _slope([(each.at_s / 3600, each.rss / MIB) for each in warm]),
            "tasks, files": [(each.tasks, each.files) for each in (warm[0], warm[-1])],
            "lag, ms (p50, p99, p99.9, max)": [
                round(lag * 1e3, 1) for lag in (lags[499], lags[989], lags[998], max(self.lags_s))
            ],
            "CPU us a message": round(cpu_s / messages * 1e6, 1),
            "wrong": dict(told.wrong),
            "examples": told.examples,
        }


def _by_kind(cuts: list[tuple[str, float, float]], at: int) -> dict[str, float]:
    """The slowest of each kind."""
    slowest: dict[str, float] = {}
    for cut in cuts:
        slowest[cut[0]] = max(slowest.get(cut[0], 0.0), round(float(cut[at]), 2))
    return slowest


def _slope(points: list[tuple[float, float]]) -> float:
    return round(statistics.linear_regression(*zip(*points, strict=True)).slope, 2) if len(points) > 2 else 0.0


def sample(at_s: float) -> Sample:
    with open("/proc/self/statm", encoding="ascii") as file:
        rss = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    times = os.times()
    return Sample(at_s, rss, times.user + times.system, len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")))


async def soak(
    account: Kind,
    seconds: float,
    cuts: int,
    kinds: Sequence[str],
    rate: float,
    seed: int,
    warm_up_s: float,
    clock: RealClock,
) -> dict[str, Any]:
    firehose, url = await VenueProcess.begin(account, rate, seed)
    try:
        config = CcxtConfig(account=account, credentials=credentials(), emulator_url=url)
        venue = CcxtVenue(config, clock)
        told = Told(Tape(seed))
        soaking = Soak(venue, firehose, told, clock)
        try:
            said = await soaking.run(seconds, cuts, kinds)
        finally:
            await venue.close()
        return soaking.judge(said, warm_up_s)
    finally:
        await firehose.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--cuts", type=int, help="one a minute where it is not said")
    parser.add_argument("--how", nargs="+", choices=CUTS, default=list(CUTS), help="in turn")
    parser.add_argument("--account", choices=KINDS, default="unified")
    parser.add_argument("--rate", type=float, default=2_000.0, help="messages a second, in the mean")
    parser.add_argument("--warm-up", type=float, help="seconds; a fifth, ten minutes at most, where it is not said")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--wrong", choices=WRONG)
    chosen = parser.parse_args()
    if chosen.wrong:
        WRONG[chosen.wrong]()
    seconds = chosen.minutes * 60
    cuts = round(chosen.minutes) if chosen.cuts is None else chosen.cuts
    warm_up_s = min(seconds / 5, 600.0) if chosen.warm_up is None else chosen.warm_up
    run: Callable[[RealClock], Coroutine[Any, Any, dict[str, Any]]] = partial(
        soak, chosen.account, seconds, cuts, chosen.how, chosen.rate, chosen.seed, warm_up_s
    )
    report = run_real(run)
    print(json.dumps(report, indent=1))
    return int(bool(report["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
