"""What holds while things go wrong on the wire: the invariants of the simulation, at the emulated venue's own truth.

`Watch` fills the simulation's `Seen` from the emulator and the daemon and evaluates its checks at their moments
(`mmdaemon/research/simulation/invariants.py`); what only a wire has is checked here:

    request     no order or amendment is sent twice, whatever became of the first; what is said to be unsent never came
    arrival     as it was decided, of an intent that the journal's file has by then; the book that it was decided from
                was no worse than its age allows (no bid above every ask of the true book of that time)
    step        nothing increases between a lost book and the next good one; nothing of ours rests for `UNKNOWN_MAX_S`
                that the daemon does not know; what is told of an order's fills is what they came to at some time; what
                the journal's file has of fills is the venue's, each once
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, Final

import msgspec
from aiohttp import web

from mmdaemon.core import position
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.engine import Step
from mmdaemon.core.events import BookUpdate, Event, KillChanged, LinkChanged, OrderUpdate, TimerFired
from mmdaemon.core.types import NS, KillState, OrderStatus, Side
from mmdaemon.daemon import assertions
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.records import FillRow
from mmdaemon.research.simulation.invariants import INVARIANTS
from mmdaemon.research.simulation.invariants_account import booked
from mmdaemon.research.simulation.seen import Invariant, Seen, When, key_of
from mmdaemon.venues.base import Cursor
from mmdaemon.venues.emulator.faults import Faults
from mmdaemon.venues.emulator.record import OWN
from mmdaemon.venues.emulator.wrong import FAULTS, Wrong
from tests.emulated.build import IN_FLIGHT_S, Site

UNKNOWN_MAX_S: Final = 10.0
"""How long an order of ours may rest and not be known: open orders are read every two seconds here."""
_PLACES: Final = ("order/place-order", "batch-place-order", "trade/place-order", "trade/place-batch")
_TRAVEL_NS: Final = NS // 2
_STAMPED_NS: Final = NS // 20
"""What happens is stamped where it is seen, and may be told in another order within this; in virtual time it is not."""
_BOOKS_NS: Final = 10 * NS
_SLACK_BPS: Final = 2
"""A quote that is put back stands where it was decided, within the tolerance of that (0.5 bps here)."""
_CERTAIN: Final = frozenset(kind for kind, fault in FAULTS.items() if fault.must.startswith("certain"))
"""Kinds of refusal that leave no doubt, so that an order may be given up at once."""


class WatchedDaemon(Daemon):
    """Tells of each step after it did."""

    heard: Callable[[Event, Step], None]

    def _on_step(self, event: Event, step: Step) -> None:
        super()._on_step(event, step)
        self.heard(event, step)


class WatchedFaults(Faults):
    """Tells of each request before it is worked on, and once it is certain that no more will come of it."""

    asked: Callable[[str, str], None]
    settled: Callable[[str, str], None]

    async def on_request(self, request: web.Request, path: str) -> web.StreamResponse | None:
        body = (await request.read()).decode(errors="replace")
        self.asked(path, body)
        before = self.seen.copy()
        response = await super().on_request(request, path)
        if response is not None and any(self.seen[kind] > before[kind] for kind in _CERTAIN):
            self.settled(path, body)
        return response

    async def on_answer(self, request: web.Request, path: str, response: web.Response) -> web.StreamResponse:
        self.settled(path, (await request.read()).decode(errors="replace"))
        return await super().on_answer(request, path, response)


class Watch:
    """One of a site. What is broken is kept in `broken`, the first of each check."""

    def __init__(self, site: Site, faults: WatchedFaults) -> None:
        self.site, self._faults = site, faults
        self.broken: dict[str, str] = {}
        self.told: list[Event] = []
        """Every event but the market's."""
        self.books_lost = 0
        self.placed = 0
        """Orders that arrived."""
        self._wire: dict[str, int] = {}
        self._said_unsent: set[str] = set()
        self._book_lost_ns = 0
        """When the book was lost that has not come back; 0: it is there."""
        self._books: deque[tuple[int, int, int]] = deque()
        self._unknown_since: dict[str, int] = {}
        self._journal: sqlite3.Connection | None = None
        self._checks: dict[When, list[Invariant]] = {when: [] for when in When}
        for invariant in INVARIANTS:
            self._checks[invariant.when].append(invariant)
        exchange = site.emulator.account.exchange
        self.seen = Seen(exchange.instrument, "mm", site.path / "journal.sqlite", round(IN_FLIGHT_S * NS))
        faults.asked, faults.settled = self._asked, self._settled
        exchange.on_request, exchange.on_change = self._on_request, self._on_change

    def began(self, daemon: WatchedDaemon) -> None:
        """A daemon is up, and has done nothing yet."""
        daemon.heard = self._on_step
        venue = self.site.venue
        send, fills, book_lost = venue.send, venue.fills, venue.links.book_lost

        async def watched_send(command: Command) -> None:
            self._sending(command)
            await send(command)

        async def watched_fills(since: Cursor) -> Any:
            with self._reading():
                return await fills(since)

        def watched_book_lost(why: str) -> None:
            self._book_lost_ns = self._book_lost_ns or self.site.clock.mono_ns()
            self.books_lost += 1
            book_lost(why)

        vars(venue).update(send=watched_send, fills=watched_fills)
        vars(venue.links).update(book_lost=watched_book_lost)
        self._now()
        self.seen.prefix = f"mm{daemon.params.bot_tag}-"
        guard = daemon.params.guard
        guard = msgspec.structs.replace(guard, soft_clear_ns=guard.soft_clear_ns - _STAMPED_NS)
        self.seen.started(daemon.state, msgspec.structs.replace(daemon.params, guard=guard))
        if daemon.parts.kill_switch.kill_state is not KillState.ARMED:
            self.seen.tripped()

    def ended(self) -> None:
        """The daemon has ended in order."""
        self._now()
        self.seen.died()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def faults_begin(self) -> None:
        self.seen.faults_ended_ns = 0

    def faults_end(self) -> None:
        self.seen.faults_ended_ns = self._now()

    # --- moments ------------------------------------------------------------------------------------------------------

    def check(self, when: When) -> None:
        self._now()
        for invariant in self._checks[when]:
            if what := invariant.check(self.seen):
                self.violate(f"{invariant.number} {invariant.name}", what)

    def violate(self, name: str, what: str) -> None:
        self.broken.setdefault(name, what)

    def _now(self) -> int:
        """The venue's, brought up to date with the venue's truth."""
        account = self.site.emulator.account
        self.seen.now_ns = account.now_ms() * 1_000_000
        self.seen.truth = account.exchange.truth()
        self.seen.venue_resting = account.exchange.matching.live
        return self.seen.now_ns

    def _on_change(self, _at_ns: int) -> None:
        self.check(When.VENUE)

    def _on_request(self, _at_ns: int, command: Command) -> None:
        """The venue works on it, as it reads it off the wire."""
        if command.client_id.startswith(OWN) or isinstance(command, Cancel):
            return
        own = self._as_sent(command)
        if own is None:
            return
        key = key_of(own)
        assert key is not None
        if key in self.seen.arrived and isinstance(own, Place):
            self.violate("5 one_meaning", f"{key} arrived twice")
        if self._is_durable(*key):
            self.seen.durable_intents.add(key)
        self.placed += isinstance(own, Place)
        self.seen.command = own
        self.check(When.ARRIVAL)
        self.seen.arrived.add(key)

    def _as_sent(self, command: Command) -> Place | Amend | None:
        """What was decided of which this is what arrived."""
        sent = self.seen.sent
        if isinstance(command, Place):
            own = sent.get((command.client_id, 0))
            if not isinstance(own, Place):
                self.violate("4 durable_intent", f"{command.client_id} came, and nobody sent it")
                return None
            for name in ("side", "px_ticks", "qty_lots", "post_only", "reduce_only", "ioc"):
                if getattr(own, name) != getattr(command, name):
                    self.violate("5 one_meaning", f"{own} was decided, and {command} came")
            return own
        revision = 1
        while isinstance(amend := sent.get((command.client_id, revision)), Amend):
            same = isinstance(command, Amend) and (amend.px_ticks, amend.qty_lots) == (
                command.px_ticks,
                command.qty_lots,
            )
            if same and (command.client_id, revision) not in self.seen.arrived:
                return amend
            revision += 1
        self.violate("5 one_meaning", f"{command} came; no amendment like it was decided, or it came before")
        return None

    def _is_durable(self, client_id: str, revision: int) -> bool:
        """Committed, as another connection to the file sees it."""
        if self._journal is None:
            uri = f"{self.seen.journal.absolute().as_uri()}?mode=ro"
            self._journal = sqlite3.connect(uri, uri=True, isolation_level=None)
        found = self._journal.execute(
            "SELECT 1 FROM intents WHERE client_id = ? AND revision = ?", (client_id, revision)
        ).fetchone()
        return found is not None

    # --- requests -----------------------------------------------------------------------------------------------------

    def _asked(self, path: str, body: str) -> None:
        if path.endswith(_PLACES):
            for client_id in client_ids(body):
                self._wire[client_id] = self._wire.get(client_id, 0) + 1
                if self._wire[client_id] > 1:
                    self.violate("wire: sent again", f"{client_id} was sent {self._wire[client_id]} times")
                if client_id in self._said_unsent:
                    self.violate("wire: unsent", f"{client_id} was said not to be sent, and came")

    def _settled(self, path: str, body: str) -> None:
        """What the venue did not do by now will not land any more, whatever the client is told of it or not told."""
        if path.endswith(_PLACES):
            for client_id in client_ids(body):
                self.seen.arrived.add((client_id, 0))

    def _sending(self, command: Command) -> None:
        self._now()
        self.seen.sending(command)
        if isinstance(command, Place) and command.post_only:
            self._look_at_price(command)

    def _look_at_price(self, command: Place) -> None:
        self._note_book()
        oldest = self.site.clock.mono_ns() - self.seen.params.guard.book_age_max_ns - _TRAVEL_NS
        books = [book for book in self._books if book[0] >= oldest] or [self._books[-1]]
        slack_ticks = command.px_ticks * _SLACK_BPS // 10_000
        if command.side is Side.BUY:
            if command.px_ticks > (most := max(ask for _, _, ask in books)) + slack_ticks:
                self.violate("15 good_book", f"{command}, and no true ask was above {most}")
        elif command.px_ticks < (least := min(bid for _, bid, _ in books)) - slack_ticks:
            self.violate("15 good_book", f"{command}, and no true bid was below {least}")

    def _note_book(self) -> None:
        matching, now = self.site.emulator.account.exchange.matching, self.site.clock.mono_ns()
        if matching.bids and matching.asks:
            self._books.append((now, matching.bids[0][0], matching.asks[0][0]))
        while self._books and self._books[0][0] < now - _BOOKS_NS:
            self._books.popleft()

    @contextmanager
    def _reading(self) -> Generator[None]:
        """The daemon reads the history of fills; a replica may stand still."""
        asked_ns = self._now() - NS // 10
        yield
        if not self._faults.seen[Wrong.STALE_READS]:
            self.seen.history_ns = asked_ns

    # --- steps --------------------------------------------------------------------------------------------------------

    def _on_step(self, event: Event, step: Step) -> None:
        seen = self.seen
        seen.event, seen.step = event, step
        self._note_book()
        if not isinstance(event, BookUpdate | TimerFired):
            self.told.append(event)
        match event:
            case LinkChanged():
                up = self.site.daemon.state.venue.public_up and self.site.daemon.state.venue.private_up
                seen.links_up_since_ns = self._now() if up else 0
            case KillChanged():
                self._now()
                seen.killed(event.state)
            case OrderUpdate(client_id=name, cum_filled_lots=int() as lots) if name.startswith(
                seen.prefix
            ) and lots not in self._cumulative(name):
                self.violate("8 order_life", f"{event}; it had filled {self._cumulative(name)} in turn")
            case OrderUpdate() if event.reason.startswith("unsent:") or event.reason == "never_sent":
                self._unsent(event.client_id)
            case _:
                pass
        self._good_book(event, step)
        self.check(When.STEP)
        if type(event) is TimerFired:
            self._each_second()

    def _cumulative(self, client_id: str) -> list[int]:
        """What the venue counted as filled of an order, after each of its fills."""
        lots = [fill.qty_lots for fill in self.site.emulator.account.exchange.fills if fill.client_id == client_id]
        return list(accumulate(lots, initial=0))

    def _unsent(self, client_id: str) -> None:
        if client_id in self._wire:
            self.violate("wire: unsent", f"{client_id} came, and is said not to have been sent")
        self._said_unsent.add(client_id)
        self.seen.arrived.add((client_id, 0))

    def _good_book(self, event: Event, step: Step) -> None:
        if not self._book_lost_ns or event.mono_ns <= self._book_lost_ns:
            return
        if type(event) is BookUpdate:
            self._book_lost_ns = 0
            return
        more = assertions.increasing(self.site.daemon.state, assertions.orders_of(step)) if step.commands else []
        if more:
            self.violate("15 good_book", f"{more[0]}, and there is no book")

    def _each_second(self) -> None:
        state, now = self.site.daemon.state, self.site.clock.mono_ns()
        resting = {order.client_id for order in self.seen.own_resting()}
        unknown = resting - state.orders.live.keys()
        self._unknown_since = {each: self._unknown_since.get(each, now) for each in unknown}
        for client_id, since_ns in self._unknown_since.items():
            if now - since_ns > UNKNOWN_MAX_S * NS:
                self.violate("6 known_or_gone", f"{client_id} rests and is not known since {(now - since_ns) / NS} s")
        self.fills_are_the_venues()

    def fills_are_the_venues(self) -> None:
        """Nothing is in the journal's file that the venue did not fill, or that is there already."""
        journal = booked(self.seen)
        if journal.twice:
            self.violate("1 exactly_once", f"fill {journal.twice[0]} is in the journal twice")
        there = self._venue_fills()
        for trade_id, figures in journal.fills.items():
            if there.get(trade_id) != figures:
                self.violate("1 exactly_once", f"fill {trade_id} is journaled as {figures}, is {there.get(trade_id)}")

    def _venue_fills(self) -> Mapping[str, tuple[int, int, int, int]]:
        fills = self.site.emulator.account.exchange.fills
        return {fill.trade_id: (int(fill.side), fill.px_ticks, fill.qty_lots, fill.fee_e10) for fill in fills}

    def own_resting(self) -> list[str]:
        return [order.client_id for order in self.seen.own_resting()]

    # --- the end ------------------------------------------------------------------------------------------------------

    def is_equal(self) -> bool:
        """Position and money of our books are the venue's own to the last digit, and every fill is booked."""
        ours, exchange = self.site.daemon.state.position, self.site.emulator.account.exchange
        if any(fill.trade_id not in ours.trade_ids for fill in exchange.fills):
            return False
        mark, wallet = exchange.mark_ticks or exchange.mid_ticks, exchange.wallet
        there_e10 = wallet.balance_e10 + wallet.unrealised_e10(mark)
        return ours.position_lots == wallet.position_lots and position.equity_basis_e10(ours, mark) == there_e10

    def journal_is_the_venues(self, journaled: list[FillRow]) -> None:
        """After the end: the same set, each with its own figures."""
        ours = [(row.trade_id, (int(row.side), row.px_ticks, row.qty_lots, row.fee_e10)) for row in journaled]
        there = self._venue_fills()
        if len(ours) != len(there) or dict(ours) != there:
            missing, more = there.keys() - dict(ours).keys(), dict(ours).keys() - there.keys()
            what = f"{len(ours)} journaled, {len(there)} at the venue; missing {missing}, invented {more}"
            self.violate("1 exactly_once", what)
        self.check(When.END)

    def unknowns(self, since: int) -> dict[str, list[str]]:
        """What was said of each order that became UNKNOWN, of the events from the `since`-th on."""
        told: dict[str, list[str]] = {}
        for event in self.told[since:]:
            if isinstance(event, OrderUpdate) and (event.word is OrderStatus.UNKNOWN or event.client_id in told):
                told.setdefault(event.client_id, []).append(f"{event.word.value}:{event.reason}".rstrip(":"))
        return told


def client_ids(body: str) -> list[str]:
    """Of the orders that a request asks for."""
    try:
        asked: Any = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError:
        return []
    rows = asked if isinstance(asked, list) else asked.get("orderList", [asked])
    return [row["clientOid"] for row in rows if "clientOid" in row]
