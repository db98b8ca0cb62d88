"""Reconciliation: what the venue says against what we believe, at the start, after every private gap, and all the time.

Order of work: fills and ledger first (they explain the rest), then open orders, then each order that is overdue,
then the position. Everything found goes into the inbox as events; the verdict is `Reconciled`, and only a clean one
lets the guard run. A read that fails is no answer: the round is begun anew, and nothing is concluded from half of it.
"""

import asyncio

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core import orders as order_rules
from mmdaemon.core import position
from mmdaemon.core.commands import Cancel
from mmdaemon.core.events import AccountSnapshot, Event, OrderAdopted, OrderUpdate, Reconciled, RequestFailed
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import E10, NS, GuardState, OrderStatus, Purpose
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.sender import LATEST_NS
from mmdaemon.venues.base import Absent, Cursor, OrderReport, Venue, VenueUnavailable

_CHECK_NS = 2 * NS
_OVERLAP_NS = 60 * NS
_QUIET_NS = 2 * NS
"""Longest a position may be compared again before a difference counts: fills of the last moments are still on their
way."""
_TRIES = 5
_EQUITY_TOLERANCE_E10 = E10 // 10_000
"""What venues round away. Anything larger is money that somebody has not told us of."""
_BACK_OFF_NS = NS


class Cadences(msgspec.Struct, frozen=True):
    """How often each thing is read, in ns."""

    orders_ns: int
    position_ns: int


class Reconciler:
    """One coroutine. `wake` asks for a round now; `reconcile` runs one for a caller that waits (resume)."""

    def __init__(  # what it reads and where it says so
        self,
        state: State,
        params: Params,
        venue: Venue,
        inbox: Inbox,
        clock: Clock,
        cadences: Cadences,
        since_ns: int,
        opened_ns: int,
    ) -> None:
        self._state = state
        self._params = params
        self._venue = venue
        self._inbox = inbox
        self._clock = clock
        self._cadences = cadences
        self._since_ns = since_ns
        """Fills and bills before this venue time are known to be booked."""
        self._opened_ns = opened_ns
        """When the account was first met: what is older is in its opening equity, and must not be booked on top."""
        self._absent: dict[str, int] = {}
        """Ids the venue did not know when asked -> when it first said so."""
        self._wake = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self.foreign_orders = 0
        self.orphans = 0

    def wake(self) -> None:
        """Look now: the private stream came back, or the guard went to RECONCILING."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        next_orders = next_position = self._clock.mono_ns()
        while True:
            now = self._clock.mono_ns()
            try:
                if self._is_in_doubt():
                    await self.reconcile("start" if not self._state.facts.reconciled_ns else "gap")
                    next_orders = next_position = self._clock.mono_ns()
                elif now >= next_position + self._cadences.position_ns:
                    await self.reconcile("periodic")
                    next_orders = next_position = self._clock.mono_ns()
                elif now >= next_orders + self._cadences.orders_ns:
                    async with self._one_at_a_time:
                        await self._check_orders()
                    next_orders = self._clock.mono_ns()
                # On every pass, whatever else was due: nothing else asks about an order that was never acknowledged.
                await self._check_overdue()
            except VenueUnavailable:
                await sleep_ns(self._clock, _BACK_OFF_NS)
                continue
            if not self._is_in_doubt():
                await self._rest(_CHECK_NS)
            elif self._state.facts.breaks or not self._state.venue.private_up:
                await self._rest(_BACK_OFF_NS)

    async def _rest(self, duration_ns: int) -> None:
        """Until woken, by `wake` or by the clock."""
        self._wake.clear()
        timer = self._clock.call_at(self._clock.mono_ns() + duration_ns, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _is_in_doubt(self) -> bool:
        state = self._state
        if state.guard.state is GuardState.RECONCILING or state.facts.breaks:
            return state.venue.private_up or not state.facts.reconciled_ns
        return bool(state.venue.private_down_ns) and state.venue.private_up

    # --- a round ----------------------------------------------------------------------------------------------------

    async def reconcile(self, scope: str) -> tuple[str, ...]:
        """One whole round. Returns the breaks it found; empty is clean.

        Raises:
            VenueUnavailable: a read failed, so there is no verdict.
        """
        async with self._one_at_a_time:
            begun_ns = self._clock.wall_ns()
            await self._book_history()
            breaks = await self._check_orders()
            if scope == "start":
                await self._account_for_all()
            position_lots = await self._check_position(breaks)
            # Only a round that got this far has read everything up to its beginning.
            self._since_ns = begun_ns
            self._post(Reconciled(*self._now(), scope, tuple(breaks), position_lots))
            await self._inbox.settled()
            return tuple(breaks)

    async def _book_history(self) -> None:
        since = Cursor(max(self._opened_ns, self._since_ns - _OVERLAP_NS))
        for fill in await self._venue.fills(since):
            self._post(fill)
        for bill in await self._venue.bills(since):
            self._post(bill)
        await self._inbox.settled()

    async def _check_orders(self) -> list[str]:
        """Open orders at the venue against those we know. Returns what only a person can mend."""
        breaks: list[str] = []
        asked_ns = self._clock.mono_ns()
        reports = await self._venue.open_orders()
        own = f"mm{self._params.bot_tag}-"
        foreign = 0
        for report in reports:
            self._absent.pop(report.client_id, None)
            known = self._state.orders.live.get(report.client_id)
            if known is not None:
                self._report(report, known)
            elif not report.client_id.startswith(own):
                foreign += 1
                if report.client_id.startswith("mm"):
                    breaks.append(f"second_instance: order {report.client_id} is another daemon's")
            else:
                await self._adopt_orphan(report, breaks)
        self.foreign_orders = foreign
        open_ids = {report.client_id for report in reports}
        for order in list(self._state.orders.live.values()):
            # Sent after we asked, or ended already: its absence from the answer says nothing.
            if order.client_id in open_ids or order.ended_ns or not order.acked_ns or order.acked_ns >= asked_ns:
                continue
            await self._ask(order)
        await self._inbox.settled()
        return breaks

    async def _account_for_all(self) -> None:
        """Of an earlier run nothing may be of unknown fate when quoting begins: ask until it is found or is gone."""
        while True:
            live = self._state.orders.live.values()
            unknown = [order for order in live if order.adopted and order.status is OrderStatus.UNKNOWN]
            for order in unknown:
                await self._ask(order)
            await self._inbox.settled()
            if not any(order.status is OrderStatus.UNKNOWN for order in unknown):
                return
            await sleep_ns(self._clock, _BACK_OFF_NS)

    async def _adopt_orphan(self, report: OrderReport, breaks: list[str]) -> None:
        """An order of ours that we do not know: reserve it, then take it out."""
        epoch = report.client_id.split("-")[1] if report.client_id.count("-") == 2 else ""
        if not epoch.isdigit() or int(epoch) > self._params.run_epoch:
            breaks.append(f"second_instance: order {report.client_id} has our tag and an epoch that is not ours")
            return
        # What it filled must be booked before it is adopted: from then on each fill counts against its quantity. So its
        # state is read again around the history, until nothing happened in between.
        while True:
            before = await self._venue.order(report.client_id)
            await self._book_history()
            after = await self._venue.order(report.client_id)
            if isinstance(after, Absent) or after.status.is_terminal:
                return  # it ended meanwhile, and what it filled is booked
            if isinstance(before, OrderReport) and before.cum_filled_lots == after.cum_filled_lots:
                report = after
                break
        self.orphans += 1
        self._post(
            OrderAdopted(
                *self._now(),
                report.client_id,
                report.side,
                report.px_ticks,
                report.qty_lots,
                report.cum_filled_lots,
                Purpose.QUOTE,
                report.reduce_only,
                report.status,
            )
        )
        await self._venue.send(Cancel(report.client_id, risk=True))

    async def _check_position(self, breaks: list[str]) -> int:
        """The venue's position and equity against our books', given a moment for what is on its way."""
        snapshot = await self._venue.snapshot()
        for _ in range(_TRIES):
            self._post(snapshot)
            await self._inbox.settled()
            if not self._differs(snapshot):
                return snapshot.position_lots
            await sleep_ns(self._clock, _QUIET_NS // _TRIES)
            await self._book_history()
            snapshot = await self._venue.snapshot()
        self._post(snapshot)
        await self._inbox.settled()
        if found := self._differs(snapshot):
            breaks.append(found)
        return snapshot.position_lots

    def _differs(self, snapshot: AccountSnapshot) -> str:
        """What does not agree, both values in it; empty where all does. Both equities are at the venue's mark."""
        ours = self._state.position
        if abs(snapshot.position_lots - ours.position_lots) > self._params.guard.position_tolerance_lots:
            return f"position: the venue says {snapshot.position_lots} lots, our books {ours.position_lots}"
        equity_e10 = position.equity_cash_e10(ours, snapshot.mark_px_ticks)
        if abs(snapshot.equity_e10 - equity_e10) > _EQUITY_TOLERANCE_E10:
            return f"equity: the venue says {snapshot.equity_e10}, our books {equity_e10} (1e-10 of quote)"
        return ""

    # --- single orders ----------------------------------------------------------------------------------------------

    async def _check_overdue(self) -> None:
        """Ask about each order that should have been answered for."""
        late = order_rules.overdue(self._state.orders, self._clock.mono_ns(), self._params.ack_check_ns)
        if not late:
            return
        async with self._one_at_a_time:
            for client_id in late:
                order = self._state.orders.live.get(client_id)
                if order is not None:
                    await self._ask(order)
            await self._inbox.settled()

    async def _ask(self, order: WorkingOrder) -> None:
        """Query by client id. Absent counts only twice, and after everything we asked for must have arrived.

        An order that the venue once took does not vanish without a word, so there the two absent answers must also lie
        a whole in-flight window apart: one of them may come from a replica that is behind.
        """
        answer = await self._venue.order(order.client_id)
        now = self._clock.mono_ns()
        if isinstance(answer, OrderReport):
            self._absent.pop(order.client_id, None)
            await self._book_history_for(answer, order)
            self._report(answer, order)
            return
        first_ns = self._absent.setdefault(order.client_id, now)
        window_ns = self._params.in_flight_max_ns
        last_arrival_ns = max(order.created_ns, order.pending_ns) + LATEST_NS + window_ns
        apart_ns = window_ns if order.acked_ns else 1
        if now < last_arrival_ns or now - first_ns < apart_ns:
            return
        del self._absent[order.client_id]
        # It never arrived and cannot any more. What filled of it, if anything, is in the fills that were read.
        await self._book_history()
        self._post(
            OrderUpdate(
                *self._now(),
                order.client_id,
                OrderStatus.CANCELLED,
                order.filled_lots,
                None,
                None,
                None,
                "absent",
            )
        )

    async def _book_history_for(self, report: OrderReport, order: WorkingOrder) -> None:
        if report.cum_filled_lots > order.filled_lots:
            await self._book_history()

    def _report(self, report: OrderReport, known: WorkingOrder) -> None:
        """The venue's answer for an order as an event, where it says more than we know."""
        now = self._clock.mono_ns()
        pending = (known.pending_px_ticks, known.pending_qty_lots)
        # The price and size that an amend asked for prove that it took; anything else proves nothing until its time
        # is over.
        took = known.pending_ns > 0 and (report.px_ticks, report.qty_lots) == pending
        if not report.status.is_terminal:
            if known.cancel_sent_ns and now - known.cancel_sent_ns > self._params.ack_check_ns:
                self._post(RequestFailed(*self._now(), report.client_id, "cancel", "unanswered"))
            if known.pending_ns and not took and now - known.pending_ns > self._params.in_flight_max_ns:
                self._post(RequestFailed(*self._now(), report.client_id, "amend", "unanswered", known.revision))
            if known.acked_ns and known.status in (OrderStatus.LIVE, OrderStatus.PARTIAL) and not took:
                return
        self._post(
            OrderUpdate(
                *self._now(),
                report.client_id,
                report.status,
                report.cum_filled_lots,
                report.px_ticks,
                report.qty_lots,
                known.revision if took else known.revision_in_force,
                "reconciled",
            )
        )

    def _post(self, event: Event) -> None:
        self._inbox.post(event)

    def _now(self) -> tuple[int, int, None]:
        return self._clock.mono_ns(), self._clock.wall_ns(), None
