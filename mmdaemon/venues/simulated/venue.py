"""The simulated venue as the daemon sees it: `Venue` over an exchange in the process, and hooks for scripts and tests.

    source ──► feed ──────────────────────► daemon        market, at its arrival time
                 └──► exchange ──► wire ──► daemon        private stream, answers
                         ▲           │
                         └───────────┘ ◄─── daemon        requests, reads

`cancel_all`, `protect` and `dead_man` are requests whose answer is awaited; like reads, they raise `VenueUnavailable`
when it does not come, and may have worked all the same.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Command
from mmdaemon.core.events import (
    AccountSnapshot,
    BarClosed,
    Bill,
    Event,
    FeeSchedule,
    Fill,
    FundingRate,
    MarkPrice,
)
from mmdaemon.core.types import NS, Instrument, Side
from mmdaemon.venues.base import (
    Absent,
    AccountFacts,
    Cursor,
    Deliver,
    MarketSource,
    OrderReport,
    PositionStop,
    VenueUnavailable,
)
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.exchange import Exchange
from mmdaemon.venues.simulated.faults import FaultKind, FaultPlan
from mmdaemon.venues.simulated.feed import Feed
from mmdaemon.venues.simulated.records import Truth
from mmdaemon.venues.simulated.wire import Market, Wire

Dated = TypeVar("Dated", Fill, Bill)
Fact = TypeVar("Fact", Fill, Bill, BarClosed)
LINKS = {"private": FaultKind.PRIVATE_DOWN, "public": FaultKind.PUBLIC_DOWN, "rest": FaultKind.REST_DOWN}
"""What can be disconnected. `rest` carries requests, their answers and reads, and has no `LinkChanged`."""


class SimulatedVenue:
    """See `venues.base.Venue`. Its account begins when it is first opened; after `hang_up` it may be opened again, for
    the next client of the same account, until it is closed. One event loop uses it.

    `faults.seen` counts what was injected; `truth()` is the venue's own record.
    """

    def __init__(
        self,
        source: MarketSource,
        clock: Clock,
        config: SimulatedConfig | None = None,
        seed: int = 7,
        faults: FaultPlan | None = None,
    ) -> None:
        self.config = config or SimulatedConfig()
        self.seed = seed
        self.faults = faults or FaultPlan(seed, self.config.faults)
        self._source, self._clock = source, clock
        self.exchange = Exchange(source.instrument, self.config, seed, self._to_stream)
        """For those who watch: the daemon never asks it."""
        self._exchange = self.exchange
        self._lines: tuple[Market, Wire] | None = None
        self._client: Deliver | None = None
        self._others: list[SimulatedVenue] = []
        self.changed_facts: dict[str, object] = {}
        """What somebody changed of the account, by the names of `AccountFacts`."""
        self._closed = False

    @property
    def name(self) -> str:
        return "simulated"

    @property
    def can_amend(self) -> bool:
        return self.config.can_amend

    @property
    def in_flight_floor_s(self) -> float:
        return 1.0

    @property
    def provenance(self) -> dict[str, str]:
        """The source's own, and what this venue assumes or adds. What depends on the source is known once open."""
        config = self.config
        told = dict(self._source.provenance)
        told["fill assumption"] = f"{config.fills}, queue {config.queue.rule}"
        feed = self._lines[0] if self._lines is not None else None
        if isinstance(feed, Feed):
            if feed.makes_marks:
                told["mark"] = f"mid of the book, at most every {config.mark_interval_s:g} s (the source has none)"
            if feed.makes_funding:
                told["funding"] = "rate 0 (the source has none)"
            if feed.shift_ns:
                told["time"] = f"moved by {feed.shift_ns / NS:.3f} s, so that the source starts when the venue opens"
        return told

    # --- life ---------------------------------------------------------------------------------------------------------

    async def instrument(self) -> Instrument:
        return self._source.instrument

    async def open(self, deliver: Deliver) -> None:
        if self._client is not None or self._closed:
            raise RuntimeError(
                "a simulated venue has one client at a time, until it is closed; `hang_up`, or a new one"
            )
        self._client = deliver
        clock, config = self._clock, self.config
        now = clock.mono_ns()
        clock.call_at(now, self._say_up, deliver)
        if self._lines is not None:
            return
        feed = self._make_feed()
        wire = Wire(self._exchange, feed, clock, config, self.seed, self.faults, self._tell)
        self._lines = feed, wire
        for fault in config.script:
            clock.call_at(now + round(fault.after_s * NS), wire.inject, fault.kind, round(fault.seconds * NS))
        if config.faults.has_windows:
            wire.draw_windows()

    def _make_feed(self) -> Market:
        return Feed(self._source, self._exchange, self._clock, self.config, self.seed, self._tell_all)

    def _say_up(self, client: Deliver) -> None:
        if self._client is client and not self._closed:
            self._wire.say_up()

    def _tell(self, event: Event) -> None:
        if self._client is not None:
            self._client(event)

    def _tell_all(self, event: Event) -> None:
        """The market is one for all."""
        self._tell(event)
        for other in self._others:
            other._tell(event)

    def another_client(self, faults: FaultPlan) -> "SimulatedVenue":
        """The same account and market for one more client, with requests, reads and a private stream of its own. The
        two see each other's orders and fills; what is injected here does not befall it, but for the market's faults.
        Once it hung up, `forget` it."""
        other = SimulatedVenue(self._source, self._clock, self.config, self.seed + 1, faults)
        other.exchange = other._exchange = self._exchange
        wire = Wire(self._exchange, self._feed, self._clock, self.config, other.seed, faults, other._tell)
        other._lines = self._feed, wire
        self._others.append(other)
        return other

    def forget(self, other: "SimulatedVenue") -> None:
        """A client that hung up is told nothing any more. What it sent goes on to arrive."""
        self._others.remove(other)

    def hang_up(self) -> None:
        """The client is gone, as when its process ends: it hears nothing more, and what it sent goes on to arrive."""
        self._client = None
        if self._lines is not None:
            self._lines[1].hang_up()

    async def close(self) -> None:
        """Nothing is delivered any more, and nothing can be asked. What rests stays the venue's affair."""
        self._closed = True
        if self._lines is not None:
            feed, wire = self._lines
            feed.close()
            wire.close()

    def _line(self) -> tuple[Market, Wire]:
        if self._lines is None or self._closed:
            raise VenueUnavailable("the venue was closed" if self._closed else "the venue is not open yet")
        return self._lines

    @property
    def _feed(self) -> Market:
        return self._line()[0]

    @property
    def _wire(self) -> Wire:
        return self._line()[1]

    def _to_stream(self, event: Event) -> None:
        self._wire.stream(event)
        for other in self._others:
            other._to_stream(event)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def send(self, command: Command) -> None:
        """Send and return at once. The outcome comes as an event, unless the venue is closed before it does.

        Raises:
            VenueUnavailable: the venue is not open, so nothing was sent.
        """
        self._wire.send(command)

    async def cancel_all(self) -> None:
        await self._wire.ask("cancel_all", lambda at: (self._exchange.cancel_all(at), True), changes=True)

    async def protect(self, stop: PositionStop | None) -> None:
        await self._wire.ask("protect", lambda at: (self._exchange.protect(stop), True), changes=True)

    async def dead_man(self, seconds: int) -> bool:
        if not self.config.has_dead_man:
            return False
        await self._wire.ask("dead_man", lambda at: (self._exchange.dead_man(at, seconds), True), changes=True)
        return True

    # --- reads --------------------------------------------------------------------------------------------------------

    async def order(self, client_id: str) -> OrderReport | Absent:
        return await self._wire.ask("order", lambda _: self._exchange.order(client_id))

    async def open_orders(self) -> list[OrderReport]:
        return await self._wire.ask("open_orders", lambda _: self._exchange.open_orders())

    async def fills(self, since: Cursor) -> list[Fill]:
        return self._all(await self._wire.ask("fills", lambda _: _from(self._exchange.fills, since)))

    async def bills(self, since: Cursor) -> list[Bill]:
        return self._all(await self._wire.ask("bills", lambda _: _from(self._exchange.bills, since)))

    async def snapshot(self) -> AccountSnapshot:
        return self._wire.received(await self._wire.ask("snapshot", self._exchange.snapshot))

    async def facts(self) -> AccountFacts:
        config = self.config
        venue_ts_ns = await self._wire.ask("facts", lambda at: at)
        offset_s = (venue_ts_ns + round(config.response.base_s * NS) - self._clock.wall_ns()) / NS
        facts = AccountFacts(config.account, "one_way", "crossed", float(config.leverage), True, False, offset_s)
        return msgspec.structs.replace(facts, **self.changed_facts)

    async def fees(self) -> FeeSchedule:
        config = self.config
        rates = float(config.maker_rate), float(config.taker_rate)
        read = await self._wire.ask("fees", lambda at: FeeSchedule(0, 0, at, *rates, self.name))
        return self._wire.received(read)

    async def candles(self, n: int) -> list[BarClosed]:
        """The last `n` closed minutes, oldest first: fewer where the market has not run as long."""
        return self._all(await self._wire.ask("candles", lambda at: self._exchange.bars(at, n)))

    async def funding(self) -> FundingRate:
        return self._wire.received(await self._wire.ask("funding", self._exchange.funding))

    async def mark(self) -> MarkPrice:
        return self._wire.received(await self._wire.ask("mark", self._exchange.mark))

    def _all(self, facts: Iterable[Fact]) -> list[Fact]:
        return [self._wire.received(fact) for fact in facts]

    # --- hooks for scripts and tests ----------------------------------------------------------------------------------

    def truth(self) -> Truth:
        """The venue's own record up to now."""
        if self._lines is not None and not self._closed:
            self._feed.advance()
        return self._exchange.truth()

    def disconnect(self, seconds: float, links: Sequence[str] = ("private", "public")) -> None:
        """Take links down now, for so long."""
        for link in links:
            if link not in LINKS:
                raise ValueError(f"there is no link {link!r}; links are {', '.join(LINKS)}")
            self.inject(LINKS[link], seconds)

    def lose_next_ack(self) -> None:
        self.inject(FaultKind.ACK_LOST)

    def inject(self, kind: FaultKind, seconds: float = 0.0) -> None:
        """Any fault, now: a window of `seconds`, or the fate of the next request or read."""
        self._wire.inject(kind, round(seconds * NS))

    def foreign_order(self, side: Side, px_ticks: int, qty_lots: int, client_id: str = "") -> str:
        """An order in our account that we did not send, resting from now on. Returns its id."""
        return self._exchange.foreign_order(self._feed.advance(), side, px_ticks, qty_lots, client_id)

    def withdraw(self, client_id: str) -> None:
        """A foreign order is cancelled by its owner, now."""
        self._exchange.withdraw(self._feed.advance(), client_id)

    def manual_trade(self, side: Side, qty_lots: int) -> None:
        """Somebody trades in our account at market, now."""
        self._exchange.manual_trade(self._feed.advance(), side, qty_lots)

    def transfer(self, amount_e10: int) -> None:
        """Money comes in (or leaves, negative), now."""
        self._exchange.transfer(self._feed.advance(), amount_e10)

    def delist(self) -> None:
        """Every order of the account is cancelled by the venue, now."""
        self._exchange.cancel_all(self._feed.advance(), "delisted")

    def dead_man_fires(self) -> bool:
        """The countdown runs out now, refreshed or not. False where there is none."""
        if self.config.has_dead_man:
            self._exchange.cancel_all(self._feed.advance(), "dead_man")
        return self.config.has_dead_man

    def change_fees(self, maker_rate: Decimal, taker_rate: Decimal) -> None:
        """Another fee tier, now."""
        self._feed.advance()
        self.config = msgspec.structs.replace(self.config, maker_rate=maker_rate, taker_rate=taker_rate)
        self._exchange.wallet.charge_at(maker_rate, taker_rate)


def _from(facts: Sequence[Dated], since: Cursor) -> Sequence[Dated]:
    return facts[bisect_left(facts, since.venue_ts_ns, key=_happened) :]


def _happened(fact: Fill | Bill) -> int:
    return fact.venue_ts_ns or 0
