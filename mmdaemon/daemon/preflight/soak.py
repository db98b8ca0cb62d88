"""The items that need hours: a daemon in demo trading for two days, and one on paper beside it for the first hour.

Their journals are the progress: what a daemon ran for is what its runs say, however often it was interrupted. Each ten
minutes a row with the memory of the process goes into the record. Nothing that ran is run again.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from mmdaemon.clock import RealClock
from mmdaemon.core.events import BillKind
from mmdaemon.core.types import NS, GuardState
from mmdaemon.daemon import wire
from mmdaemon.daemon.preflight.items import ITEMS, PAPER_S, SOAK_S, Finding, Result
from mmdaemon.daemon.preflight.record import PROGRESS, Record
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import PreflightRow, Run
from mmdaemon.journal.rows import Minute
from mmdaemon.journal.state_dir import StateDir, open_dir
from mmdaemon.ops.receipt import REDUCED_RUN
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings

REDUCED_S: Final = 24 * 3_600
"""How long a daemon must have run live at reduced size before full size."""
GAP_S: Final = 90.0
"""Between two rows of minutes, and from either end of a run to its first and last."""
GROWTH_MIB_DAY: Final = 10.0
RUNNING_LEAST: Final = 0.5
ORDERS_LEAST: Final = 20
FILL_RATIO_TIMES: Final = 4.0
CAPTURE_BPS: Final = 5.0
REGIMES_OFF: Final = 0.25
"""How far paper and demo trading may be from each other: fill ratios by this factor, spread captured by so many bps,
shares of the regimes by half the sum of their differences."""
TESTNET: Final = "testnet"
PAPER: Final = "paper"
_EVERY_S: Final = 600.0
_LOOK_S: Final = 0.2
_FLATTEN_S: Final = 60.0
_SAMPLES_LEAST: Final = 6
_SETTLED_WITHIN_NS: Final = 600 * NS
_WHO: Final = "preflight"


class Needed(msgspec.Struct, frozen=True):
    """Seconds. Less than `ITEMS` has is for tests, and passes nothing."""

    paper_s: float = PAPER_S
    soak_s: float = SOAK_S


async def run(
    settings: Settings,
    credentials: Credentials,
    clock: RealClock,
    folder: Path,
    record: Record,
    needed: Needed | None = None,
    *,
    every_s: float = _EVERY_S,
) -> list[Result]:
    """Until both have run for long enough, or it is cancelled: then nothing rests, and the next call goes on. Returns
    both items as they stand at the end."""
    needed = needed or Needed()
    paper = settings.model_copy(update={"run": settings.run.model_copy(update={"mode": PAPER})})
    running: dict[str, tuple[Daemon, StateDir, asyncio.Task[int]]] = {}
    try:
        running[TESTNET] = await _begun(settings, credentials, clock, folder / TESTNET)
        if ran_s(folder / PAPER) < needed.paper_s:
            running[PAPER] = await _begun(paper, None, clock, folder / PAPER)
        begun_ns, told_ns = clock.mono_ns(), clock.mono_ns()
        before = {name: ran_s(folder / name) for name in (TESTNET, PAPER)}
        needs = {TESTNET: needed.soak_s, PAPER: needed.paper_s}
        while running:
            await asyncio.sleep(_LOOK_S)
            passed_s = (clock.mono_ns() - begun_ns) / NS
            if clock.mono_ns() - told_ns > every_s * NS:
                told_ns = clock.mono_ns()
                record.progress("soak", _sample(before[TESTNET] + passed_s), "a sample", clock.wall_ns())
            for name in [*running]:
                if running[name][2].done() or before[name] + passed_s >= needs[name]:
                    await _end(running.pop(name), flattens=name == TESTNET)
    finally:
        for name in [*running]:
            await _end(running.pop(name), flattens=name == TESTNET)
    return judged(folder, record, needed)


async def _begun(
    settings: Settings, credentials: Credentials | None, clock: RealClock, path: Path
) -> tuple[Daemon, StateDir, asyncio.Task[int]]:
    async with AsyncExitStack() as undo:
        directory = open_dir(path, {}).lock()
        undo.callback(directory.release)
        venue = await wire.venue_for(settings, clock, f"{clock.wall_ns() // NS:x}-", credentials)
        undo.push_async_callback(venue.close)
        connect = wire.connection_of(settings, clock)
        daemon = Daemon(settings, clock, venue, directory, connect, fresh_account=credentials is None)
        await daemon.start()
        undo.pop_all()
    task = asyncio.get_running_loop().create_task(daemon.run(), name=f"preflight.{path.name}")
    if daemon.state.facts.pause_reason or credentials is not None:
        await daemon.parts.operator.resume(_WHO, _WHO)  # the last one ended flat, and paused for that
    return daemon, directory, task


async def _end(began: tuple[Daemon, StateDir, asyncio.Task[int]], *, flattens: bool) -> None:
    """Flat, where it is the venue's position, and nothing resting."""
    daemon, directory, task = began
    try:
        if flattens and not task.done():
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLATTEN_S):
                    await daemon.parts.operator.flatten(_WHO, _WHO, _say_nothing)
        daemon.stop("the soak is interrupted, or over")
        await task
    finally:
        directory.release()


async def _say_nothing(_: str) -> None: ...


def _sample(ran: float) -> Mapping[str, float]:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    rss = pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
    return {"rss_mib": round(rss, 2), "pid": os.getpid(), "ran_s": round(ran, 1)}


# --- what there is ----------------------------------------------------------------------------------------------------


class Stretch(msgspec.Struct, frozen=True):
    """One run, with the minutes in it."""

    run: Run
    minutes: tuple[Minute, ...]

    @property
    def seconds(self) -> float:
        """A run that ended without a word counts up to its last minute."""
        last = self.minutes[-1].ts_ns if self.minutes else self.run.started_ts_ns
        return max(0, (self.run.ended_ts_ns or last) - self.run.started_ts_ns) / NS


def stretches(path: Path, config_hash: str = "") -> list[Stretch]:
    """The runs of a journal; with a hash those of that configuration alone. None where there is no journal."""
    if not path.exists():
        return []
    with JournalReader(path) as journal:
        return [
            Stretch(run, tuple(journal.minutes(run.epoch)))
            for run in journal.runs()
            if not config_hash or run.config_hash == config_hash
        ]


def ran_s(folder: Path) -> float:
    """How long daemons ran there, together."""
    return sum(each.seconds for each in stretches(folder / "journal.sqlite"))


def last_ns(folder: Path) -> int:
    """When the older of the two daemons ran last (UTC); 0: one never did. So old is what they showed."""
    ends: list[int] = []
    for name in (TESTNET, PAPER):
        runs = stretches(folder / name / "journal.sqlite")
        ends.append(max((each.run.ended_ts_ns or each.run.started_ts_ns for each in runs), default=0))
    return min(ends)


def judged(folder: Path, record: Record, needed: Needed | None = None) -> list[Result]:
    """Both items, as they stand."""
    needed = needed or Needed()
    samples = [row for row in record.rows() if row.item == "soak" and row.outcome == PROGRESS]
    return [
        _result("paper", min(ran_s(folder / PAPER), ran_s(folder / TESTNET)), needed.paper_s, beside(folder)),
        _result("soak", ran_s(folder / TESTNET), needed.soak_s, endured(folder / TESTNET, samples)),
    ]


def _result(item: str, ran: float, needed_s: float, found: Finding) -> Result:
    full_s = ITEMS[item].soak_s
    figures = {"ran_s": round(ran, 1), "needed_s": full_s, **found.figures}
    if ran < needed_s:
        said = f"{ran / 3_600:.2f} of {full_s / 3_600:g} hours"
        return Result(item, "not_checked", figures, "; ".join([said, *found.wrong]))
    if found.wrong:
        return Result(item, "failed", figures, "; ".join(found.wrong))
    if needed_s < full_s:
        return Result(item, "not_checked", figures, f"right for {needed_s:g} s, which is not enough: a test's duration")
    return Result(item, "passed", figures, found.evidence)


def beside(folder: Path) -> Finding:
    """Paper beside demo trading: the same configuration, the same hour, two venues."""
    both = {name: _traded(folder / name / "journal.sqlite") for name in (PAPER, TESTNET)}
    figures: dict[str, float | str | bool] = {}
    wrong: list[str] = []
    for name, each in both.items():
        figures |= {f"{name}_orders": each.orders, f"{name}_fills": each.fills}
        figures |= {f"{name}_fill_ratio": round(each.ratio, 5), f"{name}_capture_bps": round(each.capture_bps, 4)}
        wrong += [f"{name}: {each.orders} orders, at least {ORDERS_LEAST} are needed"] * (each.orders < ORDERS_LEAST)
        wrong += [f"{name}: no fill"] * (not each.fills)
        wrong += [f"{name}: no minute was kept"] * (not each.regimes)
    paper, testnet = both[PAPER], both[TESTNET]
    if not wrong:
        regimes = {*paper.regimes, *testnet.regimes}
        off = sum(abs(paper.share(each) - testnet.share(each)) for each in regimes) / 2
        times = max(paper.ratio, testnet.ratio) / min(paper.ratio, testnet.ratio)
        apart = abs(paper.capture_bps - testnet.capture_bps)
        figures |= {
            "fill_ratio_times": round(times, 3),
            "capture_apart_bps": round(apart, 4),
            "regimes_off": round(off, 4),
        }
        wrong += [f"one fills {times:.1f} times as often as the other"] * (times > FILL_RATIO_TIMES)
        wrong += [f"the spread captured differs by {apart:.1f} bps"] * (apart > CAPTURE_BPS)
        wrong += [f"the regimes' shares differ by {off:.2f}"] * (off > REGIMES_OFF)
    return Finding(figures, "orders, fills and minutes of both journals", tuple(wrong))


class _Traded(msgspec.Struct, frozen=True):
    orders: int
    fills: int
    capture_bps: float
    regimes: Counter[str]

    @property
    def ratio(self) -> float:
        return self.fills / self.orders if self.orders else 0.0

    def share(self, regime: str) -> float:
        return self.regimes[regime] / self.regimes.total()


def _traded(path: Path) -> _Traded:
    runs = stretches(path)
    if not runs:
        return _Traded(0, 0, 0.0, Counter())
    with JournalReader(path) as journal:
        ((orders,),) = journal.db.execute("SELECT count(*) FROM intents WHERE revision = 0")
        ((fills,),) = journal.db.execute("SELECT count(*) FROM fills")
    last = {each.run.account_epoch: each.minutes[-1] for each in runs if each.minutes}
    turnover = sum(minute.turnover_e10 for minute in last.values())
    spread = sum(minute.spread_e10 for minute in last.values())
    regimes = Counter(minute.regime.value for each in runs for minute in each.minutes)
    return _Traded(orders, fills, spread / turnover * 1e4 if turnover else 0.0, regimes)


def endured(folder: Path, samples: Sequence[PreflightRow]) -> Finding:
    """Minutes without a gap, memory that does not grow, funding settled while something was held."""
    runs = stretches(folder / "journal.sqlite")
    minutes = [minute for each in runs for minute in each.minutes]
    gaps = [gap for each in runs for gap in gaps_s(each)]
    share = sum(minute.guard is GuardState.RUNNING for minute in minutes) / len(minutes) if minutes else 0.0
    growth = growth_mib_day(samples)
    settled, due = _funding(folder / "journal.sqlite", runs)
    wrong = [f"{len(gaps)} gaps in the minutes, the longest {max(gaps):.0f} s"] if gaps else []
    wrong += ["no minute was kept"] * (not minutes)
    wrong += [f"running {share:.0%} of the time, at least {RUNNING_LEAST:.0%}"] * (share < RUNNING_LEAST)
    if growth is None:
        wrong.append("no process ran for long enough to know its memory")
    elif growth > GROWTH_MIB_DAY:
        wrong.append(f"memory grew by {growth:.1f} MiB a day, at most {GROWTH_MIB_DAY:g}")
    wrong += ["nothing was held at any settlement"] * (not due)
    wrong += [f"{settled} of {due} settlements with a position were booked"] * (settled < due)
    return Finding(
        {
            "runs": len(runs),
            "minutes": len(minutes),
            "gaps": len(gaps),
            "running_share": round(share, 4),
            "growth_mib_day": "unknown" if growth is None else round(growth, 2),
            "settlements": due,
            "settled": settled,
        },
        "the rows of minutes and bills of its journal, and samples of the process's memory",
        tuple(wrong),
    )


def gaps_s(each: Stretch) -> list[float]:
    """Each time of a run that no row of minutes covers (s)."""
    last = each.minutes[-1].ts_ns if each.minutes else each.run.started_ts_ns
    moments = [each.run.started_ts_ns, *(minute.ts_ns for minute in each.minutes), each.run.ended_ts_ns or last]
    between = ((later - earlier) / NS for earlier, later in pairwise(moments))
    return [gap for gap in between if gap > GAP_S]


def growth_mib_day(samples: Sequence[PreflightRow]) -> float | None:
    """From the middle of the first third to the middle of the last one, of the process with the most samples; None
    where that has too few."""
    by_pid: dict[float, list[tuple[int, float]]] = {}
    for row in samples:
        told = msgspec.json.decode(row.figures, type=dict[str, float])
        by_pid.setdefault(told["pid"], []).append((row.ts_ns, told["rss_mib"]))
    longest = max(by_pid.values(), key=len, default=list[tuple[int, float]]())
    third = len(longest) // 3
    if len(longest) < _SAMPLES_LEAST:
        return None
    first, last = longest[:third], longest[-third:]
    grown = median(rss for _, rss in last) - median(rss for _, rss in first)
    passed_ns = median(ts for ts, _ in last) - median(ts for ts, _ in first)
    return grown / (passed_ns / (86_400 * NS))


def _funding(path: Path, runs: Sequence[Stretch]) -> tuple[int, int]:
    """(settlements that were booked, those at which something was held)."""
    if not runs:
        return 0, 0
    with JournalReader(path) as journal:
        booked = [
            bill.venue_ts_ns or bill.ts_ns
            for each in runs
            for bill in journal.bills(each.run.epoch)
            if bill.kind is BillKind.FUNDING
        ]
    held = {
        before.funding_due_ts_ns
        for each in runs
        for before, after in pairwise(each.minutes)
        if before.funding_due_ts_ns is not None
        and before.ts_ns < before.funding_due_ts_ns <= after.ts_ns
        and before.position_lots
        and after.position_lots
        and before.funding_due_ts_ns + _SETTLED_WITHIN_NS <= each.minutes[-1].ts_ns  # else the run ended before it
    }
    return sum(any(abs(at - due) < _SETTLED_WITHIN_NS for at in booked) for due in held), len(held)


def at_reduced_size(path: Path, config_hash: str, needed_s: float = REDUCED_S) -> Result:
    """Whether a daemon ran live at reduced size for long enough: what full size stands on. Counted are the newest runs,
    back to the last one that ended without a word or stopped hard. `config_hash` is the reduced configuration's."""
    runs: list[Stretch] = []
    fills, breaks = 0, 0
    if known := stretches(path, config_hash):
        with JournalReader(path) as journal:
            for each in reversed(known):
                stopped = any(row.to_state is GuardState.HARD_STOP for row in journal.transitions(each.run.epoch))
                if stopped or not each.run.clean_stop:
                    break
                runs.append(each)
                fills += sum(1 for _ in journal.fills(each.run.epoch))
            breaks = len(journal.breaks(only_open=True))
    ran = sum(each.seconds for each in runs)
    gaps = [gap for each in runs for gap in gaps_s(each)]
    wrong = [f"it ran for {ran / 3_600:.2f} of {needed_s / 3_600:g} hours"] * (ran < needed_s)
    wrong += [f"{len(gaps)} gaps in the minutes"] * bool(gaps)
    wrong += ["no fill"] * (not fills)
    wrong += [f"{breaks} breaks are open"] * bool(breaks)
    figures: dict[str, float | str | bool] = {
        "ran_s": round(ran, 1),
        "needed_s": needed_s,
        "runs": len(runs),
        "runs_before": len(known) - len(runs),
        "fills": fills,
        "open_breaks": breaks,
    }
    said = "; ".join(wrong) or "runs, minutes, fills and breaks of the live journal at reduced size"
    return Result(REDUCED_RUN, "failed" if wrong else "passed", figures, said)
