"""The kill switch: from "stop" to nothing resting, read from the venue, and latched until an operator resumes.

    ARMED -> KILLING -> QUIET -> VERIFIED -> KILLED -> (resume) -> ARMED

    KILLING   gate closed, latch written, cancels going out by symbol and by id, again and again
    QUIET     open orders read empty twice
    VERIFIED  empty throughout the longest time a request can be in flight; what lands late is cancelled and the wait
              begins anew
    KILLED    and, where asked, the position is flat, read twice

It acts on the venue itself, through its own lane: it needs neither the core nor the sender, and the latch is written
beside the cancels, so that disk trouble never holds them up. A read that fails proves nothing and is repeated without
end; partial success is never success.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import Event, KillChanged, OrderAdopted
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import BPS, NS, KillState, OrderStatus, Purpose, Side
from mmdaemon.daemon.ending import may_rest
from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.sweep import Progress, read_open_orders, sweep
from mmdaemon.journal import rows
from mmdaemon.journal.connection import JournalFailed
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.venues.base import Venue, VenueUnavailable

_S = KillState
TRANSITIONS: frozenset[tuple[KillState, KillState]] = frozenset(
    {
        (_S.ARMED, _S.KILLING),
        (_S.KILLING, _S.QUIET),
        (_S.QUIET, _S.KILLING),
        (_S.QUIET, _S.VERIFIED),
        (_S.VERIFIED, _S.KILLING),
        (_S.VERIFIED, _S.KILLED),
        (_S.KILLED, _S.KILLING),
        (_S.KILLED, _S.ARMED),
    }
)
_LATCH_WAIT_S = 0.1
_MARK_AGE_MAX_NS = 5 * NS
_SLICE_WAIT_NS = NS // 2


class KillSwitch:
    """One coroutine; `trip` may be called from anywhere on the loop, at any time, however often."""

    def __init__(  # it reaches past everything else, so it is given everything
        self,
        state: State,
        params: Params,
        venue: Venue,
        gate: Gate,
        journal: JournalWriter,
        clock: Clock,
        post: Callable[[Event], None],
        write_latch: Callable[[str], Awaitable[None]],
        latched: str,
    ) -> None:
        self._state = state
        self._params = params
        self._venue = venue
        self._gate = gate
        self._journal = journal
        self._clock = clock
        self._post = post
        self._write_latch = write_latch
        self._flatten = False
        self._tripped = asyncio.Event()
        self._moved = asyncio.Event()
        self._slice = 0
        self.trips = 0
        """How often it was thrown, at work already or not."""
        # Latched at the start: whatever was going on is finished before anything else may happen.
        self.kill_state = KillState.KILLING if latched else KillState.ARMED
        self.reason = latched
        self.progress = Progress()

    def trip(self, reason: str, *, flatten: bool = False) -> None:
        """Close the gate now, be KILLING from now on, and have the coroutine do the rest. At work already, it only
        learns that it must flatten too; KILLED, it looks at the venue again: what it read then says nothing of now."""
        self.trips += 1
        self._gate.close(f"kill: {reason}")
        self._flatten = self._flatten or flatten
        self.reason = self.reason or reason
        if self.kill_state in (KillState.ARMED, KillState.KILLED):
            self.progress = Progress(tripped_ns=self._clock.mono_ns())
            self._move(KillState.KILLING, self.reason)
            self._tripped.set()

    async def wait_for(self, *states: KillState) -> Progress:
        """Until it is in one of the states."""
        while self.kill_state not in states:
            self._moved.clear()
            await self._moved.wait()
        return self.progress

    def rearm(self) -> None:
        """The operator resumed, after a clean reconcile.

        Raises:
            RuntimeError: it has not finished.
        """
        if self.kill_state is not KillState.KILLED:
            raise RuntimeError(f"the kill switch is {self.kill_state.value}; it can be rearmed once it is killed")
        self._flatten = False
        self.reason = ""
        self._tripped.clear()
        self._move(KillState.ARMED, "resumed")

    async def watch_file(self, latched: Callable[[], Sequence[Path]]) -> None:
        """Trip when somebody puts a kill file there: the way that needs no socket. Not read: a disk that hangs must not
        delay the cancels. Until cancelled."""
        while True:
            if self.kill_state is KillState.ARMED and (found := latched()):
                self.trip(f"kill file {found[0]}")
            await sleep_ns(self._clock, NS)

    async def run(self) -> None:
        """Wait to be tripped, then work until KILLED. Until cancelled."""
        if self.kill_state not in (KillState.ARMED, KillState.KILLED):
            # Found latched at the start, or left behind by one that died: whatever was begun is finished first.
            self._tripped.set()
        while True:
            await self._tripped.wait()
            self._tripped.clear()
            self._gate.close(f"kill: {self.reason}")
            if self.kill_state is not KillState.KILLING:
                self._move(KillState.KILLING, "begun again")
            latching = asyncio.create_task(self._latch(), name="kill_switch.latch")
            await self._cancel_until_verified()
            await latching
            if self._flatten:
                await self._flatten_until_flat(KillState.VERIFIED)
            self._move(KillState.KILLED, self.reason)

    # --- steps ------------------------------------------------------------------------------------------------------

    async def _latch(self) -> None:
        """The journal's row and the files, waited for as long as is bearable. What the disk takes longer for may still
        come; any one of them is the latch."""
        row = self._row(KillState.KILLING, self.reason)
        with suppress(JournalFailed, TimeoutError):
            async with asyncio.timeout(_LATCH_WAIT_S):
                await self._write_latch(self.reason)
                if row is not None:
                    await self._journal.durable(row)

    async def _cancel_until_verified(self) -> None:
        """See `sweep`. A foreign order is cancelled too: the symbol is to be empty."""
        window_ns, known = self._params.in_flight_max_ns, partial(may_rest, self._state)
        async for reached in sweep(self._venue, self._clock, window_ns, known, self.progress):
            self._move(reached, self.reason if reached is not KillState.KILLING else "an order landed late")

    async def _flatten_until_flat(self, while_it_is: KillState) -> None:
        """Reduce-only slices within the collar until the venue says flat twice."""
        flat_reads = 0
        while flat_reads < 2 and self.kill_state is while_it_is:
            await sleep_ns(self._clock, _SLICE_WAIT_NS)
            rested = await read_open_orders(self._venue, self.progress)
            if rested is None or rested:
                # A position is not flat while something rests that could open it again.
                flat_reads = 0
                for report in rested or ():
                    await self._venue.send(Cancel(report.client_id, risk=True))
                continue
            try:
                snapshot = await self._venue.snapshot()
                mark = await self._venue.mark()
            except VenueUnavailable:
                self.progress.failed_reads += 1
                flat_reads = 0
                continue
            self.progress.position_lots = snapshot.position_lots
            if snapshot.position_lots == 0:
                flat_reads += 1
                continue
            flat_reads = 0
            if self._clock.mono_ns() - mark.mono_ns <= _MARK_AGE_MAX_NS:
                await self._send_slice(snapshot.position_lots, mark.px_ticks)

    async def _send_slice(self, position_lots: int, mark_px_ticks: int) -> None:
        """One immediate-or-cancel order against the position: reduce-only, no worse than the collar from mark."""
        instrument, limits = self._params.instrument, self._params.limits
        side = Side.SELL if position_lots > 0 else Side.BUY
        px_ticks = max(1, round(mark_px_ticks * (1.0 + side * limits.collar_bps * BPS)))
        most = max(instrument.min_qty_lots, limits.max_order_e10 // max(1, instrument.notional_e10(px_ticks, 1)))
        qty_lots = min(abs(position_lots), most, instrument.max_qty_lots)
        self._slice += 1
        self.progress.slices += 1
        client_id = f"mm{self._params.bot_tag}-{self._params.run_epoch}-k{self._slice}"
        place = Place(
            client_id, side, px_ticks, qty_lots, Purpose.FLATTEN, 0, post_only=False, reduce_only=True, ioc=True
        )
        now = (self._clock.mono_ns(), self._clock.wall_ns(), None)
        with suppress(JournalFailed, TimeoutError):
            number = self._journal.put(rows.intent_rows(self._params.run_epoch, self._state.seq, place, now[1]))
            async with asyncio.timeout(_LATCH_WAIT_S):
                await self._journal.durable(number)
        self._post(OrderAdopted(*now, client_id, side, px_ticks, qty_lots, 0, Purpose.FLATTEN, True, OrderStatus.SENT))
        await self._venue.send(place)

    async def flatten(self, reason: str = "flatten") -> Progress:
        """Close the position, for the `flatten` verb, after quotes were paused: without a kill, and where there is one,
        or one comes meanwhile, as its last step. Two hands at one position would each send a slice."""
        if self.kill_state is KillState.ARMED:
            self.progress = Progress(tripped_ns=self._clock.mono_ns())
            await self._flatten_until_flat(KillState.ARMED)
        if self.kill_state is not KillState.ARMED:
            self.trip(reason, flatten=True)
            await self.wait_for(KillState.KILLED)
        return self.progress

    # --- saying so --------------------------------------------------------------------------------------------------

    def _move(self, after: KillState, reason: str) -> None:
        if (self.kill_state, after) not in TRANSITIONS:
            raise RuntimeError(f"the kill switch cannot go from {self.kill_state.value} to {after.value}")
        self.kill_state = after
        if after is not KillState.KILLING:
            self._row(after, reason)
        self._post(KillChanged(self._clock.mono_ns(), self._clock.wall_ns(), None, after, reason))
        self._moved.set()

    def _row(self, state: KillState, reason: str) -> int | None:
        evidence: Mapping[str, object] = msgspec.to_builtins(self.progress)
        now = (self._clock.mono_ns(), self._clock.wall_ns())
        try:
            return self._journal.put([rows.kill_row(self._params.run_epoch, *now, state, reason, evidence)])
        except JournalFailed:
            # The latch files hold without it; the guard has its own reason for a journal that failed.
            return None
