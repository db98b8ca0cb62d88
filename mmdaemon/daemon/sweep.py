"""From "something may rest" to "nothing can land any more", by what the venue says: what the kill switch does within
the daemon, and `mmdaemon kill --direct` from without.

It needs the venue and nothing else: no core, no journal. A read that fails proves nothing and is repeated without end.
Nothing waits long for an answer that may never come: the next cancels and reads go out beside what was not answered.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Cancel
from mmdaemon.core.types import NS, KillState
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.venues.base import OrderReport, Venue, VenueUnavailable

READ_AGAIN_NS = NS // 20
BACK_OFF_MAX_NS = 2 * NS
LOOK_AGAIN_NS = NS
"""Longest between two reads while it waits for what may still land: such an order is to be gone within 2 s."""
CANCEL_PATIENCE_S = 0.1
"""How long the answer to a cancel of the symbol is waited for. Whether it came or not, what counts is what is read."""
READ_PATIENCE_S = 0.25
"""How long the first read may take. Twice as long each time one takes longer: in the end a slow venue is read too."""


class Progress(msgspec.Struct):
    """What is seen while it works; the evidence in the journal."""

    tripped_ns: int = 0
    quiet_ns: int = 0
    cancels: int = 0
    reads: int = 0
    failed_reads: int = 0
    late: int = 0
    """Orders that turned up after QUIET."""
    slices: int = 0
    orders_left: int = -1
    """-1: not read yet."""
    position_lots: int | None = None


async def sweep(
    venue: Venue, clock: Clock, in_flight_max_ns: int, known: Callable[[], Iterable[str]], progress: Progress
) -> AsyncGenerator[KillState, None]:
    """Cancel all by symbol and by id until nothing has rested throughout the in-flight window.

    Yields QUIET (read empty twice), KILLING (something landed after it, and all begins anew), and VERIFIED, the last.
    `known` are the ids that may rest there, besides what is read. Whoever leaves it early closes it (`aclosing`).
    """
    cancels = _Cancels(venue, progress)
    back_off_ns = READ_AGAIN_NS
    patience_s = READ_PATIENCE_S
    empty_reads = 0
    empty_since_ns = 0
    is_quiet = False
    quiet_pace_ns = min(LOOK_AGAIN_NS, in_flight_max_ns // 5)
    rested: list[OrderReport] | None = []
    try:
        while True:
            if not empty_reads:
                await cancels.everything(known(), rested or [])
                if rested:
                    await sleep_ns(clock, READ_AGAIN_NS)
            asked_ns = clock.mono_ns()
            try:
                async with asyncio.timeout(patience_s):
                    rested = await read_open_orders(venue, progress)
            except TimeoutError:
                progress.failed_reads += 1
                rested, patience_s = None, 2 * patience_s
            if rested is None:
                # A failed read proves nothing, not even that what was empty still is.
                empty_reads = 0
                await sleep_ns(clock, back_off_ns)
                back_off_ns = min(2 * back_off_ns, BACK_OFF_MAX_NS)
                continue
            back_off_ns = READ_AGAIN_NS
            if rested:
                if is_quiet:
                    is_quiet = False
                    progress.late += len(rested)
                    yield KillState.KILLING
                empty_reads = 0
                continue
            empty_reads += 1
            if empty_reads == 1:
                empty_since_ns = clock.mono_ns()
            elif not is_quiet:
                is_quiet = True
                progress.quiet_ns = clock.mono_ns()
                yield KillState.QUIET
            # From an answer to a question: however slow either was, the venue was empty in between.
            if asked_ns - empty_since_ns >= in_flight_max_ns and empty_reads > 1:
                yield KillState.VERIFIED
                return
            await sleep_ns(clock, READ_AGAIN_NS if empty_reads == 1 else quiet_pace_ns)
    finally:
        await cancels.close()


class _Cancels:
    """By symbol, and each id that is known or UNKNOWN, side by side: neither waits for what becomes of the other. A
    foreign order is cancelled too: the symbol is to be empty."""

    def __init__(self, venue: Venue, progress: Progress) -> None:
        self._venue, self._progress = venue, progress
        self._by_symbol: set[asyncio.Task[None]] = set()

    async def everything(self, known: Iterable[str], rested: list[OrderReport]) -> None:
        """All of it once, and then wait a little for the answer to the cancel of the symbol.

        Raises what the venue raised but `VenueUnavailable`: a defect, of which whoever sweeps must hear.
        """
        newest = asyncio.get_running_loop().create_task(self._cancel_all(), name="sweep.cancel_all")
        self._by_symbol.add(newest)
        await asyncio.sleep(0)  # the one that takes out all goes first
        for client_id in dict.fromkeys((*known, *(report.client_id for report in rested))):
            self._progress.cancels += 1
            await self._venue.send(Cancel(client_id, risk=True))
        await asyncio.wait((newest,), timeout=CANCEL_PATIENCE_S)
        answered = {task for task in self._by_symbol if task.done()}
        self._by_symbol -= answered
        for task in answered:
            task.result()

    async def _cancel_all(self) -> None:
        try:
            await self._venue.cancel_all()
        except VenueUnavailable:
            self._progress.failed_reads += 1

    async def close(self) -> None:
        """What was sent may still be worked on; its answer is of no interest."""
        for task in self._by_symbol:
            task.cancel()
        await asyncio.gather(*self._by_symbol, return_exceptions=True)


async def read_open_orders(venue: Venue, progress: Progress) -> list[OrderReport] | None:
    """None: the read failed, which says nothing of what rests."""
    progress.reads += 1
    try:
        rested = await venue.open_orders()
    except VenueUnavailable:
        progress.failed_reads += 1
        return None
    progress.orders_left = len(rested)
    return rested
