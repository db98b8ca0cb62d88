"""What the private stream says of the account, against our books: a reason to read it now, and never more than that.

A trade by hand, a liquidation, a transfer is found by each round of reading, and rounds are half a minute apart; the
venue's stream tells of it at once, if not by the fill (which may be lost) then by the position and the wallet that it
left. Where these do not agree with the books, and still do not when what is on its way had time to come, a whole round
is read: the same one, with the same verdict. Nothing is booked from a hint, and while all agrees it costs no request.

Of the wallet only the movement counts: where its zero lies is each API's own affair, and each reading compares it.
"""

import asyncio
from collections.abc import Callable

from mmdaemon.clock import Clock
from mmdaemon.core import position
from mmdaemon.core.events import AccountHint, Bill, Event, Fill
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import NS
from mmdaemon.daemon.breaks import EQUITY_TOLERANCE_E10
from mmdaemon.daemon.pace import sleep_until
from mmdaemon.daemon.reconcile import Reconciler
from mmdaemon.venues.base import VenueUnavailable

PATIENCE_NS = NS // 2
"""Fills and hints are on different channels: so long one may be behind the other."""
_PAUSE_MAX_NS = 30 * NS
"""Between two readings that agree with the books while the stream does not: one of the two errs, and the periodic round
reads as often."""
_READINGS = 3
"""That agree with the books: then it is not believed any more, until it says something else."""


class Hints:
    """One coroutine. `on_event` is told of each event once the core has dealt with it."""

    def __init__(
        self,
        state: State,
        params: Params,
        reconciler: Reconciler,
        clock: Clock,
        facts_hinted: Callable[[AccountHint], None],
    ) -> None:
        """`facts_hinted` gets each hint too: leverage and modes are the guard's."""
        self._state, self._params, self._reconciler, self._clock = state, params, reconciler, clock
        self._facts_hinted = facts_hinted
        self._lots: int | None = None
        """The position as last said."""
        self._wallet_e10: int | None = None
        self._zero_e10: int | None = None
        """The wallet as last said less that of the books, when they agreed."""
        self._since_ns = 0
        """From when on they have not; 0: they do."""
        self._doubted = asyncio.Event()
        self._readings = 0
        self._pause_ns = PATIENCE_NS
        self._next_ns = 0

    def on_event(self, event: Event) -> None:
        if type(event) is AccountHint:
            if event.position_lots is not None:
                self._lots = event.position_lots
            if event.wallet_e10 is not None:
                self._wallet_e10 = event.wallet_e10
            self._facts_hinted(event)
            self._compare(event.mono_ns)
        elif self._since_ns and (type(event) is Fill or type(event) is Bill):
            self._compare(event.mono_ns)

    def _compare(self, now_ns: int) -> None:
        if not self._differs():
            self._agree()
            self._readings, self._pause_ns = 0, PATIENCE_NS
        elif not self._since_ns:
            self._since_ns = now_ns
            self._doubted.set()

    def _differs(self) -> bool:
        lots, booked_lots = self._lots, self._state.position.position_lots
        if lots is not None and abs(lots - booked_lots) > self._params.guard.position_tolerance_lots:
            return True
        zero_e10 = self._zero_now_e10()
        if zero_e10 is None or self._zero_e10 is None:
            return False
        return abs(zero_e10 - self._zero_e10) > EQUITY_TOLERANCE_E10

    def _zero_now_e10(self) -> int | None:
        return None if self._wallet_e10 is None else self._wallet_e10 - position.wallet_e10(self._state.position)

    def _agree(self) -> None:
        self._since_ns, self._zero_e10 = 0, self._zero_now_e10()
        self._doubted.clear()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._doubted.wait()
            now = self._clock.mono_ns()
            due_ns = max(self._since_ns + PATIENCE_NS, self._next_ns)
            if not self._since_ns:
                continue  # it was woken, and by the time it ran all agreed again
            if now < due_ns:
                await sleep_until(self._clock, due_ns)
            elif self._is_read_anyway():
                await sleep_until(self._clock, now + PATIENCE_NS)
            else:
                await self._read()

    def _is_read_anyway(self) -> bool:
        """Before the first round, in a gap and while something is open the reconciler reads as fast as it may, and its
        verdict is no other's to give."""
        state = self._state
        return not (state.facts.reconciled_ns and state.venue.private_up) or self._reconciler.is_in_doubt()

    async def _read(self) -> None:
        try:
            await self._reconciler.reconcile("hint")
        except VenueUnavailable:
            pass  # no verdict
        else:
            self._readings += bool(self._since_ns)  # what it found has been compared as it was booked
        self._next_ns = self._clock.mono_ns() + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, _PAUSE_MAX_NS)
        if self._readings >= _READINGS:
            self._lots, self._readings = None, 0
            self._agree()
