"""Kills over the wire, one after the other, while things go wrong: how long anything rests, by the venue's own record.

A daemon trades at the emulator (real ccxt.pro, loopback TCP). Each round waits for quotes on both sides and a position,
lets one or two things go wrong at the venue or on the way to it, trips the kill switch, and reads the emulator's own
record of every order: when the last one that rested was gone, and whether anything landed after VERIFIED. Then an
operator resumes it, by the daemon's own door.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import msgspec

from mmdaemon.core.types import NS, KillState
from mmdaemon.research.simulation.setting import Value
from mmdaemon.venues.emulator.wrong import Wrong
from tests.emulated.build import Kind, Site, site

IN_FLIGHT_S: Final = 1.0
"""Settings of a site and its daemon that make a round short; the venue takes a request for half of it."""

_MS: Final = 1_000_000
_SWEPT: Final = (KillState.VERIFIED, KillState.KILLED)
LATE_S: Final = 0.35
"""What is delivered late comes so late: after QUIET, and within the in-flight window."""


class Trouble(NamedTuple):
    """One thing that goes wrong, as `Faults.inject` takes it."""

    kind: Wrong
    seconds: tuple[float, float] = (0.0, 0.0)
    times: int = 1
    where: str = ""


_POSTS: Final = "POST "
_CANCELS: Final = "cancel"
"""In the paths of both APIs' cancels, of one order and of all."""
TROUBLES: Final = (
    Trouble(Wrong.ANSWER_SLOW, (0.1, 1.5), 6),
    Trouble(Wrong.ANSWER_SLOW, (0.1, 1.5), 4, _CANCELS),
    Trouble(Wrong.ANSWER_SLOW, (0.1, 1.5), 2, "GET "),
    Trouble(Wrong.ANSWER_LOST, times=1, where=_CANCELS),
    Trouble(Wrong.ANSWER_LOST, times=4, where=_CANCELS),
    Trouble(Wrong.ANSWER_RESET, times=3, where=_CANCELS),
    Trouble(Wrong.RATE_LIMIT, times=1, where=_CANCELS),
    Trouble(Wrong.RATE_LIMIT, times=3),
    Trouble(Wrong.RATE_LIMIT_TEXT, times=1, where=_CANCELS),
    Trouble(Wrong.CONNECTION_RESET, times=2, where=_CANCELS),
    Trouble(Wrong.REQUEST_LOST, times=1, where=_CANCELS),
    Trouble(Wrong.SOCKET_RESET),
    Trouble(Wrong.FORCED_CLOSE),
    Trouble(Wrong.BAD_GATEWAY_HTML, times=3, where=_POSTS),
    Trouble(Wrong.BAD_GATEWAY_HTML, times=2, where="GET "),
    Trouble(Wrong.UNAVAILABLE_503, times=1, where=_CANCELS),
    Trouble(Wrong.SERVICE_ERROR, times=3, where=_POSTS),
    Trouble(Wrong.READS_FAIL, times=2),
    Trouble(Wrong.PRIVATE_SILENT, (0.5, 2.0)),
)
LATE: Final = Trouble(Wrong.DELIVERED_LATE, (LATE_S, LATE_S), 1, "place-")
"""An order lands after everything was read empty."""


@asynccontextmanager
async def trading(path: Path, kind: Kind, seed: int, **changed: Value) -> AsyncGenerator[Site]:
    """A daemon at the emulator, at full size at once after a resume. `changed` are its settings, `a__b` for `a.b`."""
    async with site(path, kind, seed=seed, window_s=IN_FLIGHT_S / 2) as here:
        await here.begin(venue__in_flight_max_s=IN_FLIGHT_S, quotes__resume_s=0.0, **changed)
        yield here


class Killed(msgspec.Struct):
    """One round. Times in ms from the trip; those of the venue are its record's, to 1 ms."""

    troubles: tuple[str, ...]
    rested: int
    """Orders that rested at the trip."""
    position_lots: int
    gone_ms: float
    """Until nothing that had landed by QUIET rested any more."""
    quiet_ms: float
    """Until the daemon had read it empty twice."""
    late_ms: list[float]
    """Of each order that landed later: how long it rested."""
    after_verified: list[str]
    """Orders that landed after VERIFIED."""
    resting: list[str]
    """What rested at VERIFIED."""


async def kill_once(here: Site, number: int, random: Random, *, late: bool = False) -> Killed:
    """One round on a daemon that trades. It is KILLED afterwards."""
    account, faults = here.emulator.account, here.emulator.faults
    await here.until(lambda: here.is_quoting() and account.exchange.matching.position_lots, 60)
    chosen = [LATE] if late else random.sample(TROUBLES, random.choice((0, 1, 1, 2)))
    await asyncio.sleep(random.random() * 0.3)
    for each in chosen:
        faults.inject(each.kind, seconds=random.uniform(*each.seconds), count=each.times, where=each.where)
    if random.random() < 0.5:
        await asyncio.sleep(random.random() * 0.2)  # what is under way meets it, and the kill finds what it left
    if late:
        before, end_ns = faults.seen[LATE.kind], here.clock.mono_ns() + 10 * NS
        # In a quiet market none is placed.
        while faults.seen[LATE.kind] == before and here.clock.mono_ns() < end_ns:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.005)
    rested, lots = len(here.resting()), account.exchange.matching.position_lots
    killing = here.daemon.parts.kill_switch
    tripped_ms = account.now_ms()
    killing.trip(f"round {number}")
    seen = await killing.wait_for(KillState.QUIET, *_SWEPT)
    quiet_ms = account.now_ms()
    quiet_in_ms = (seen.quiet_ns - seen.tripped_ns) / _MS
    await killing.wait_for(*_SWEPT)
    verified_ms, resting = account.now_ms(), here.resting()
    await killing.wait_for(KillState.KILLED)
    faults.clear()
    await asyncio.sleep(LATE_S)
    # What holds the position is not cancelled with the orders; it follows the position's last fill a little later.
    await here.until(lambda: account.exchange.matching.position_lots == 0 or account.stop_px_ticks() is not None)
    gone_ms, late_ms, after = 0.0, list[float](), list[str]()
    for row in account.all_orders():
        ended_ms = row.updated_ms if row.status.is_terminal else account.now_ms()
        if row.created_ms > verified_ms:
            after.append(row.client_id)
        elif row.created_ms > quiet_ms:
            if row.reason != "post_only":  # which never rested
                late_ms.append(float(ended_ms - row.created_ms))
        elif ended_ms > tripped_ms:
            gone_ms = max(gone_ms, float(ended_ms - tripped_ms))
    names = tuple(f"{each.kind}{f' of {each.where}' if each.where else ''} x{each.times}" for each in chosen)
    return Killed(names, rested, lots, gone_ms, quiet_in_ms, late_ms, after, resting)


async def resume(here: Site, reason: str) -> None:
    """Refused until the venue was read and agrees."""
    said: list[str] = []

    async def resumed() -> bool:
        outcome = await here.daemon.parts.operator.resume(reason, "a person")
        said.append(outcome.message)
        return outcome.ok

    end_ns = here.clock.mono_ns() + 60 * NS
    while not await resumed():
        assert here.clock.mono_ns() < end_ns, f"not resumed: {said[-1]}: {here.picture()}"
        await asyncio.sleep(0.1)


async def kills(
    here: Site, n: int, seed: int, tell: Callable[[int, Killed], None] = lambda _n, _k: None
) -> list[Killed]:
    """So many rounds, each tenth with an order that lands late. Resumed after each."""
    random = Random(seed)
    rounds: list[Killed] = []
    for number in range(n):
        rounds.append(await kill_once(here, number, random, late=number % 10 == 9))
        tell(number, rounds[-1])
        await resume(here, f"round {number} was verified")
    return rounds


def percentile(values: list[float], share: float) -> float:
    """The least that so many are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * share // 1) - 1))]
