"""Reconciliation: what the venue says against what we believe, at the start, after every private gap, and all the time.

Order of work: fills and ledger first (they explain the rest), then open orders, then each order that is overdue,
then the position. Everything found goes into the inbox as events; the verdict is `Reconciled`, and only a clean one
lets the guard run. A read that fails is no answer: the round is begun anew, and nothing is concluded from half of it.
What does not agree is a break; kinds, owners and limits are the table in `breaks.py`.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core import orders as order_rules
from mmdaemon.core import position
from mmdaemon.core.commands import Cancel
from mmdaemon.core.events import (
    AccountSnapshot,
    Bill,
    Event,
    Fill,
    Found,
    OrderAdopted,
    OrderUpdate,
    Reconciled,
)
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, GuardState, OrderStatus, Purpose
from mmdaemon.daemon.breaks import Kind, Ledger, Round, difference, found, overdue, text
from mmdaemon.daemon.ending import cancels_unanswered
from mmdaemon.daemon.evidence import NotFound, at_venue, evidence
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.venues.base import Absent, Cursor, OrderReport, Venue, VenueUnavailable

_CHECK_NS = 2 * NS
_OVERLAP_NS = 60 * NS
_MENDING_OVERLAP_NS = 3600 * NS
"""How far back is read while something does not agree: a fill may come late to a history that was read before."""
_QUIET_NS = 2 * NS
"""Longest a position is compared again before a difference counts: fills of the last moments are on their way."""
_TRIES = 5
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
        ledger: Ledger,
        since_ns: int,
        opened_ns: int,
    ) -> None:
        self._state = state
        self._params = params
        self._venue = venue
        self._inbox = inbox
        self._clock = clock
        self._cadences = cadences
        self.ledger = ledger
        self._since_ns = since_ns
        """Fills and bills before this time, the venue's own, are booked: all agreed then."""
        self._own = f"mm{params.bot_tag}-"
        self._opened_ns = opened_ns
        """When the account was first met: what is older is in its opening equity, and must not be booked on top."""
        self._not_found = NotFound(params)
        self._orphans: set[str] = set()
        """Orders of ours that nobody knew, until they are gone."""
        self._news: list[Found] = []
        self._read: dict[str, int] = {}
        """What history this round read, by the names that `Round` has for it."""
        self._wake = asyncio.Event()
        self._link_changes = 0
        self._one_at_a_time = asyncio.Lock()
        self.orders: tuple[OrderReport, ...] = ()
        """What was open at the venue when it was last asked."""
        self.foreign_orders = self.orphans = 0
        self._orders_at = 0

    def wake(self) -> None:
        """Look now: the guard went to RECONCILING, or the venue cancelled by itself."""
        self._orders_at = 0
        self._wake.set()

    def link_changed(self, link: str) -> None:
        """A stream went or came back: look now, and let no round that is under way speak for the gap."""
        self._link_changes += link == "private"
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        self._orders_at = whole_at = self._clock.mono_ns()
        while True:
            now = self._clock.mono_ns()
            try:
                if self.is_in_doubt():
                    await self.reconcile("start" if not self._state.facts.reconciled_ns else "gap")
                    whole_at, self._orders_at = self._next()
                elif now >= whole_at or (now >= self._orders_at and self.ledger.is_mending):
                    await self.reconcile("periodic")
                    whole_at, self._orders_at = self._next()
                elif now >= self._orders_at:
                    async with self._one_at_a_time:
                        seen = await self._check_orders()
                    _, self._orders_at = self._next()
                    self._news = [each for each in seen if each.name not in self.ledger.open]
                    if self._news:
                        # A verdict now: another daemon's order is nothing to leave for the next round.
                        whole_at = now
                        continue
                # On every pass, whatever else was due: nothing else asks about an order that was never acknowledged.
                await self._check_overdue()
            except VenueUnavailable:
                await self._cancel_again()
                await self._rest(_BACK_OFF_NS)  # less where a link comes back meanwhile
                continue
            if not self.is_in_doubt():
                await self._rest(_CHECK_NS)
            elif self._state.facts.breaks or not self._state.venue.private_up:
                # Stopped for good it waits for a person, who has a round of his own.
                is_stopped = self._state.guard.state is GuardState.HARD_STOP
                await self._rest(self._cadences.orders_ns if is_stopped else _BACK_OFF_NS)

    async def _rest(self, duration_ns: int) -> None:
        """Until woken, by `wake` or by the clock."""
        self._wake.clear()
        timer = self._clock.call_at(self._clock.mono_ns() + duration_ns, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _next(self) -> tuple[int, int]:
        """When the next whole round and the next look at the orders are due."""
        now = self._clock.mono_ns()
        return now + self._cadences.position_ns, now + self._cadences.orders_ns

    def is_in_doubt(self) -> bool:
        state = self._state
        if state.guard.state is GuardState.RECONCILING or state.facts.breaks or self.ledger.hard:
            return state.venue.private_up or not state.facts.reconciled_ns
        return bool(state.venue.private_down_ns) and state.venue.private_up

    # --- a round ----------------------------------------------------------------------------------------------------

    async def reconcile(self, scope: str) -> tuple[str, ...]:
        """As `examine`; returns the hard breaks that are open. Empty is clean."""
        return (await self.examine(scope)).breaks

    async def examine(self, scope: str, cancel: Sequence[str] = ()) -> Round:
        """One whole round, with all that was compared. `cancel`: orders to take out first, which a person named.

        Raises:
            VenueUnavailable: a read failed, so there is no verdict.
        """
        async with self._one_at_a_time:
            for client_id in cancel:
                await self._venue.send(Cancel(client_id, risk=True))
            while True:
                changes = self._link_changes
                made, verdict = await self._round(scope)
                await self._inbox.settled()
                if made.breaks or changes == self._link_changes:
                    break
                # The stream was gone meanwhile: what was read before that does not make up for what it lost.
            if not made.breaks:
                # Only a round that got this far and agreed has booked everything up to its beginning.
                self._since_ns = verdict.venue_ts_ns or self._since_ns
            self._post(verdict)
            self._news = []
            await self._inbox.settled()
            return made

    async def _round(self, scope: str) -> tuple[Round, Reconciled]:
        begun_ns = self._clock.mono_ns()
        self._read.clear()
        await self._book_history()
        if scope == "gap" and self._state.guard.reconciled and not self._state.facts.breaks:
            await self._look_first()
        seen = await self._check_orders()
        seen += [each for each in self._news if each not in seen]  # told even if it is gone again
        if scope == "start":
            await self._account_for_all()
        snapshot = await self._check_position(seen)
        now = self._clock.mono_ns()
        verdict, mending = self.ledger.judge(seen + overdue(self._state, self._params, now), now)
        reports, ours = self.orders, self._state.position
        made = Round(
            scope=scope,
            orders=len(reports),
            ours=sum(report.client_id.startswith(self._own) for report in reports),
            **self._read,
            position_lots=snapshot.position_lots,
            booked_lots=ours.position_lots,
            equity_e10=snapshot.equity_e10,
            booked_equity_e10=position.equity_cash_e10(ours, snapshot.mark_px_ticks),
            found=verdict,
        )
        return made, self._verdict(scope, snapshot, verdict, mending, at_venue(begun_ns, snapshot))

    def _verdict(
        self, scope: str, snapshot: AccountSnapshot, seen: tuple[Found, ...], mending: bool, begun_ns: int | None
    ) -> Reconciled:
        """`begun_ns` is the venue's time."""
        hard = tuple(text(each) for each in seen if each.hard)
        now = (self._clock.mono_ns(), self._clock.wall_ns(), begun_ns)
        return Reconciled(*now, scope, hard, snapshot.position_lots, seen, mending)

    async def _look_first(self) -> None:
        """After a gap, before the long way round: a venue that says something else altogether (begun anew, restored,
        another account) must not go on being quoted at while each order is asked for."""
        snapshot = await self._venue.snapshot()
        if differs := difference(self._state, self._params, snapshot):
            verdict, _ = self.ledger.judge([differs], self._clock.mono_ns())
            self._post(self._verdict("doubt", snapshot, verdict, mending=True, begun_ns=None))

    async def _book_history(self) -> None:
        """Fills and bills since all agreed last, and a good deal longer while something does not."""
        overlap_ns = _MENDING_OVERLAP_NS if self._state.facts.breaks else _OVERLAP_NS
        since = Cursor(max(self._opened_ns, self._since_ns - overlap_ns))
        booked = self._state.position
        fills = await self._venue.fills(since)
        self._book("fills", fills, sum(fill.trade_id not in booked.trade_ids for fill in fills))
        bills = await self._venue.bills(since)
        self._book("bills", bills, sum(bill.bill_id not in booked.bill_ids for bill in bills))
        await self._inbox.settled()

    def _book(self, name: str, facts: Sequence[Fill | Bill], new: int) -> None:
        self._read[name], news = len(facts), f"{name}_new"
        self._read[news] = self._read.get(news, 0) + new
        for fact in facts:
            self._post(fact)

    async def _check_orders(self) -> list[Found]:
        """Open orders at the venue against those we know."""
        seen: list[Found] = []
        asked_ns = self._clock.mono_ns()
        reports = await self._venue.open_orders()
        self.orders = tuple(reports)
        foreign = 0
        for report in reports:
            self._not_found.forget(report.client_id)
            known = self._state.orders.live.get(report.client_id)
            if known is not None:
                self._report(report, known)
            elif not report.client_id.startswith(self._own):
                foreign += 1
                what = f"{report.side.name.lower()} {report.qty_lots} lots at {report.px_ticks} ticks"
                if report.client_id.startswith("mm"):
                    seen.append(found(Kind.SECOND_INSTANCE, f"{what} is another daemon's", report.client_id))
                else:
                    seen.append(found(Kind.FOREIGN_ORDER, what, report.client_id))
            else:
                await self._adopt_orphan(report, seen)
        self.foreign_orders = foreign
        open_ids = {report.client_id for report in reports}
        for order in list(self._state.orders.live.values()):
            # Sent after we asked, or ended already: its absence from the answer says nothing.
            if order.client_id in open_ids or order.ended_ns or not order.acked_ns or order.acked_ns >= asked_ns:
                continue
            await self._ask(order)
        await self._inbox.settled()
        self._orphans &= open_ids | self._state.orders.live.keys()
        seen += [found(Kind.ORPHAN, "reserved; its cancel is out", client_id) for client_id in sorted(self._orphans)]
        return seen

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

    async def _adopt_orphan(self, report: OrderReport, seen: list[Found]) -> None:
        """An order of ours that we do not know: reserve it, then take it out."""
        if self._is_to_come(report.client_id):
            seen.append(found(Kind.SECOND_INSTANCE, "it has our tag and a number we never gave", report.client_id))
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
        self._orphans.add(report.client_id)
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

    def _is_to_come(self, client_id: str) -> bool:
        """No run of this journal can have sent it yet: another daemon did, on a copy of it or with a tag like ours."""
        _, _, counted = client_id.partition("-")
        epoch, _, number = counted.partition("-")
        if not (epoch.isdecimal() and number.removeprefix("k").isdecimal()):
            return True
        last = (self._params.run_epoch, self._state.orders.counter)
        # The kill switch counts its slices ("k") by itself.
        return int(epoch) > last[0] if number.startswith("k") else (int(epoch), int(number)) > last

    async def _check_position(self, seen: list[Found]) -> AccountSnapshot:
        """The venue's position and equity against our books', given a moment for what is on its way."""
        snapshot = await self._venue.snapshot()
        for _ in range(_TRIES):
            self._post(snapshot)
            await self._inbox.settled()
            if difference(self._state, self._params, snapshot) is None:
                return snapshot
            await sleep_ns(self._clock, _QUIET_NS // _TRIES)
            await self._book_history()
            snapshot = await self._venue.snapshot()
        self._post(snapshot)
        await self._inbox.settled()
        if differs := difference(self._state, self._params, snapshot):
            seen.append(differs)
        return snapshot

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

    async def _cancel_again(self) -> None:
        """What cannot be read may still hear a cancel."""
        for client_id in cancels_unanswered(self._state, self._params, self._clock.mono_ns()):
            await self._venue.send(Cancel(client_id, risk=True))

    async def _ask(self, order: WorkingOrder) -> None:
        """Query by client id."""
        answer = await self._venue.order(order.client_id)
        if isinstance(answer, OrderReport):
            self._not_found.forget(order.client_id)
            await self._book_history_for(answer, order)
            self._report(answer, order)
        elif self._not_found.prove_gone(order, self._clock.mono_ns()):
            # What filled of it, if anything, is in the fills that were read.
            await self._book_history()
            gone = (OrderStatus.CANCELLED, order.filled_lots, None, None, None, "absent")
            self._post(OrderUpdate(*self._now(), order.client_id, *gone))

    async def _book_history_for(self, report: OrderReport, order: WorkingOrder) -> None:
        if report.cum_filled_lots > order.filled_lots:
            await self._book_history()

    def _report(self, report: OrderReport, known: WorkingOrder) -> None:
        for event in evidence(report, known, self._params, self._clock.mono_ns(), self._clock.wall_ns()):
            self._post(event)

    def _post(self, event: Event) -> None:
        self._inbox.post(event)

    def _now(self) -> tuple[int, int, None]:
        return self._clock.mono_ns(), self._clock.wall_ns(), None
