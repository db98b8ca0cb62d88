"""What the venue is to do for us should nobody here be able to: a countdown that cancels every order (the dead man's
switch), and a stop for the whole position.

  * The countdown is refreshed by the health of the quoting loop and never by time alone: only if the core took in an
    event since the last refresh, what waits for it is not old, and the daemon is neither stopped for good nor
    stopping. Whoever hangs, dies or is killed lets it run out, and then it cancels, which is right. A venue that has
    none (or does not grant it) says so once, and is not asked again in this run.
  * The stop is there whenever a position is, a distance from mark on the losing side. It follows a mark that moves for
    us by a quarter of the distance, is never loosened while the position lives, and is set anew when the position may
    have been flat in between (a venue's stop ends with its position), or once a minute. A kill and a stop of the daemon
    leave it there; flat, it is taken away.

How long the venue has lacked either is a measurement of the guard (`HealthFacts.unprotected_s`).
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from mmdaemon.clock import Clock
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import BPS, NS, GuardState
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.venues.base import PositionStop, Venue, VenueUnavailable

_LOOK_NS: Final = NS
_BEHIND_MAX_NS: Final = NS
"""A core that is later than this with what has come is not in charge of what it quotes."""
_RETRY_NS: Final = NS
_RETRY_MAX_NS: Final = 8 * NS
_AGAIN_NS: Final = 60 * NS
"""A stop that somebody took away by hand is back after so long at most."""
_FLAT_NS: Final = 5 * NS
"""So long it stays when the position is gone: it ends by itself with it, and the next one is seldom far."""
_FOLLOWS: Final = 0.25
"""Share of the distance by which mark must have moved for us before the stop follows."""
_LET_GO_S: Final = 5.0
_OVER: Final = (GuardState.HARD_STOP, GuardState.STOPPING)

Log = Callable[[str, Mapping[str, object]], None]


class Protector:
    """Two coroutines in one task; `let_go` ends the countdown once a stop has read the venue empty."""

    def __init__(  # what it watches, and whom it tells
        self,
        state: State,
        params: Params,
        venue: Venue,
        inbox: Inbox,
        clock: Clock,
        dead_man_s: int,
        stop_bps: float,
        on_lapse: Callable[[], None],
        log: Log,
    ) -> None:
        """`dead_man_s`, `stop_bps`: 0 is off. `on_lapse`: the venue has cancelled everything by itself, so look."""
        self._state = state
        self._params = params
        self._venue = venue
        self._inbox = inbox
        self._clock = clock
        self._dead_man_s = dead_man_s
        self._countdown_ns = dead_man_s * NS
        self._stop_bps = stop_bps
        self._on_lapse = on_lapse
        self._log = log
        self.has_dead_man = dead_man_s > 0
        """Until the venue says that it has none."""
        self._may_count = False
        """A countdown was asked for, and may be on."""
        self._refreshed_ns = 0
        """When the last refresh that was answered was sent: the venue did not begin to count before."""
        self._runs_out_ns = clock.mono_ns() + self._countdown_ns
        self._has_lapsed = self._has_let_go = False
        self._asking = asyncio.Lock()
        self.stop: PositionStop | None = None
        """What the venue keeps for us, by its last answer."""
        self._is_confirmed = False
        """Not before the first answer, and not after a request without one: it may have worked."""
        self._stop_side = 0
        self._has_ended = False
        """The position that the stop was set for is gone, and the stop with it."""
        self._set_ns = self._held_ns = 0
        self._bare_ns = 0
        """Since when there is a position without a stop; 0: there is none."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as both:
            both.create_task(self._keep_countdown(), name="protect.countdown")
            both.create_task(self._keep_stop(), name="protect.stop")

    def unprotected_s(self, now_ns: int) -> float:
        """How long there has been a position without a stop, or a countdown that has run out; 0 while all is well, and
        where neither is asked for."""
        bare_ns = now_ns - self._bare_ns if self._bare_ns else 0
        over_ns = now_ns - self._runs_out_ns if self.has_dead_man else 0
        return max(0, bare_ns, over_ns) / NS

    # --- the countdown ------------------------------------------------------------------------------------------------

    async def _keep_countdown(self) -> None:
        look_ns, back_off_ns, due_ns = min(_LOOK_NS, self._countdown_ns // 12), _RETRY_NS, 0
        while self.has_dead_man and not self._has_let_go:
            now = self._clock.mono_ns()
            if self._state.guard.state in _OVER:
                self._runs_out_ns = now + self._countdown_ns  # it may run out now: what counts is what comes after
            self._look_for_lapse(now)
            if now >= due_ns and self._is_in_charge(now):
                if await self._is_refreshed(now):
                    due_ns, back_off_ns = now + self._countdown_ns // 3, _RETRY_NS
                else:
                    due_ns, back_off_ns = self._clock.mono_ns() + back_off_ns, min(2 * back_off_ns, _RETRY_MAX_NS)
            await sleep_ns(self._clock, look_ns)

    def _is_in_charge(self, now_ns: int) -> bool:
        """Whether the quoting loop has shown since the last refresh that it works."""
        state = self._state
        worked = state.mono_ns > self._refreshed_ns and self._inbox.behind_ns(now_ns) <= _BEHIND_MAX_NS
        return worked and state.guard.state not in _OVER

    async def _is_refreshed(self, now_ns: int) -> bool:
        """False: no answer came, so it is asked again."""
        async with self._asking:
            if self._has_let_go:
                return True
            self._may_count = True
            try:
                is_granted = await self._venue.dead_man(self._dead_man_s)
            except VenueUnavailable:
                return False
        if not is_granted:
            if self._refreshed_ns:
                return False  # it was granted, and counts: whatever this refusal is of, it runs out
            self.has_dead_man = self._may_count = False
            self._log("no_dead_man", {"what": "the venue has none, or does not grant it: it cancels nothing by itself"})
            return True
        self._refreshed_ns, self._runs_out_ns = now_ns, now_ns + self._countdown_ns
        if self._has_lapsed:
            self._has_lapsed = False
            self._log("dead_man_on", {"s": self._dead_man_s})
        return True

    def _look_for_lapse(self, now_ns: int) -> None:
        """Run out while quotes may rest: whatever rested is cancelled, and reads say so where the stream does not."""
        if self._has_lapsed or now_ns < self._runs_out_ns + _LOOK_NS:  # the refresh was on its way for a while
            return
        self._has_lapsed = True
        what = "the countdown was not refreshed in time: the venue has cancelled all orders"
        self._log("dead_man_lapsed", {"s": self._dead_man_s, "what": what})
        self._on_lapse()

    async def let_go(self) -> None:
        """The end of a stop that read the venue empty: end the countdown, which would cancel the orders of others too.
        Without an answer it is left to run out, and that is said."""
        self._has_let_go = True
        try:
            async with asyncio.timeout(_LET_GO_S):
                async with self._asking:
                    while self._may_count:
                        with suppress(VenueUnavailable):
                            # False: refused. It was granted before, so it counts on.
                            self._may_count = not await self._venue.dead_man(0)
                        if self._may_count:
                            await sleep_ns(self._clock, _RETRY_NS)
        except TimeoutError:
            self._log("dead_man_runs_out", {"what": "it could not be switched off: it cancels all orders once more"})

    # --- the stop -----------------------------------------------------------------------------------------------------

    def on_fill(self) -> None:
        """A fill was booked. The position may have ended with it, however soon there is another."""
        if self._side_of(self._state.position.position_lots) != self._stop_side:
            self._has_ended = True

    async def _keep_stop(self) -> None:
        back_off_ns = _RETRY_NS
        while True:
            wait_ns = _LOOK_NS
            if self._stop_bps > 0:
                try:
                    await self._look_at_stop()
                    back_off_ns = _RETRY_NS
                except VenueUnavailable:
                    wait_ns, back_off_ns = back_off_ns, min(2 * back_off_ns, _RETRY_MAX_NS)
            await sleep_ns(self._clock, wait_ns)

    async def _look_at_stop(self) -> None:
        """Set, move or take away the stop, where that is due.

        Raises:
            VenueUnavailable: no mark could be read, or the stop was not confirmed.
        """
        now, lots = self._clock.mono_ns(), self._held_lots()
        if lots is None:
            return
        stands = self._is_confirmed and not self._has_ended
        if not lots:
            self._bare_ns = 0
            if (stands and self.stop is None) or now - self._held_ns < _FLAT_NS:
                return
            await self._ask_for(None, 0, now)
            return
        self._held_ns = now
        side = self._side_of(lots)
        stands = stands and self.stop is not None and side == self._stop_side
        self._bare_ns = 0 if stands else self._bare_ns or now
        wanted = await self._wanted(side, now)
        if not stands or wanted != self.stop or now - self._set_ns >= _AGAIN_NS:
            await self._ask_for(wanted, side, now)
            self._bare_ns = 0

    def _held_lots(self) -> int | None:
        """Our books' position once they agreed with the venue; until then the venue's word; None: nobody knows, and
        what the venue keeps is left as it is."""
        facts, account = self._state.facts, self._state.venue.account
        if facts.reconciled_ns and not facts.breaks:
            return self._state.position.position_lots
        return None if account is None else account.position_lots

    async def _wanted(self, side: int, now_ns: int) -> PositionStop:
        """From the present mark, or where it is: while its position lives it moves one way only."""
        alive = self.stop if side == self._stop_side and not self._has_ended else None
        venue = self._state.venue
        mark = venue.mark_px_ticks
        if not mark or now_ns - venue.mark_ns > self._params.guard.mark_age_max_ns:
            if alive is not None:
                return alive
            mark = (await self._venue.mark()).px_ticks
        away = mark * self._stop_bps * BPS
        trigger = max(1, math.floor(mark - away) if side > 0 else math.ceil(mark + away))
        if alive is not None and (trigger - alive.trigger_px_ticks) * side < away * _FOLLOWS:
            return alive
        return PositionStop(trigger)

    async def _ask_for(self, stop: PositionStop | None, side: int, now_ns: int) -> None:
        if side != self._stop_side or self._has_ended:
            self.stop = None
        # Fills meanwhile are judged by the side that is asked for.
        self._stop_side = side
        self._is_confirmed = self._has_ended = False
        await self._venue.protect(stop)
        self.stop, self._is_confirmed, self._set_ns = stop, True, now_ns

    @staticmethod
    def _side_of(lots: int) -> int:
        return (lots > 0) - (lots < 0)
