"""Paper: the market of a real exchange, live, and the simulated venue's matching in this process, in real time.

    exchange's public streams ──► live feed ──────────────────► daemon      at once, as they were received
                                     └──► exchange ──► wire ──► daemon      fills and answers, after the set latencies
                                              ▲          └──◄── daemon      requests

The same matching engine, wallet and wire as the simulated venue; what differs is where the market comes from. It is
matched against at the moment of its receipt here: the exchange's own latency to us lies in that already, and the set
request latency comes on top. What happens while the public stream is down fills nobody.

Candles, mark and funding by request are the exchange's own. Settlements are at its times and at the rate that it told
last before.
"""

from collections.abc import Iterator
from typing import Final, NoReturn, Protocol

import msgspec

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.events import (
    BarClosed,
    BookUpdate,
    Event,
    FundingRate,
    LinkChanged,
    MarketDataRefused,
    MarketEvent,
    MarkPrice,
    TradePrint,
)
from mmdaemon.core.types import NEVER_NS, NS, Instrument, Link
from mmdaemon.venues.base import Deliver, VenueUnavailable
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.exchange import Exchange
from mmdaemon.venues.simulated.venue import SimulatedVenue
from mmdaemon.venues.simulated.wire import Market

SKEW_MAX_NS: Final = 60 * NS
"""By how much the exchange's clock may be ahead of ours at a settlement."""


class Public(Protocol):
    """The public half of `venues.base.Venue`: what an exchange tells anybody."""

    @property
    def name(self) -> str: ...
    @property
    def provenance(self) -> dict[str, str]: ...
    async def instrument(self) -> Instrument: ...
    async def open(self, deliver: Deliver) -> None: ...
    async def candles(self, n: int) -> list[BarClosed]: ...
    async def funding(self) -> FundingRate: ...
    async def mark(self) -> MarkPrice: ...
    async def close(self) -> None: ...


class LiveFeed:
    """Puts each event to the exchange as it comes, and then to the daemon. Its timer is for what falls due by itself:
    funding, the dead man's hand."""

    def __init__(self, exchange: Exchange, clock: Clock, deliver: Deliver) -> None:
        self._exchange, self._clock, self._deliver = exchange, clock, deliver
        # On the monotonic clock, so that a step of the wall clock is seen as what it is.
        self._venue_less_mono_ns = clock.wall_ns() - clock.mono_ns()
        self._settles_ns = NEVER_NS
        self._timer: Timer | None = None
        self._armed_ns = NEVER_NS
        self._closed = False

    def venue_now_ns(self) -> int:
        return self._clock.mono_ns() + self._venue_less_mono_ns

    def mono_of(self, venue_ns: int) -> int:
        return venue_ns - self._venue_less_mono_ns

    def advance(self) -> int:
        now = self.venue_now_ns()
        if self._exchange.next_due_ns <= now:
            self._exchange.run_due(now)
        return now

    def arm(self) -> None:
        due = self._exchange.next_due_ns
        if due == self._armed_ns or self._closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_ns = due
        self._timer = None if due >= NEVER_NS else self._clock.call_at(self.mono_of(due), self._wake)

    def _wake(self) -> None:
        self._timer, self._armed_ns = None, NEVER_NS
        self.advance()
        self.arm()

    def push(self, event: Event) -> None:
        """What the exchange's public stream says. Of anything else nothing is known here, and nothing is told."""
        if self._closed:
            return
        match event:
            case BookUpdate() | TradePrint() | MarkPrice() | FundingRate():
                self.match(event)
                self._deliver(event)
            case MarketDataRefused() | LinkChanged(link=Link.PUBLIC):
                self._deliver(event)
            case _:
                pass

    def match(self, event: BookUpdate | TradePrint | MarkPrice | FundingRate) -> None:
        """Put it to the exchange, now."""
        now, exchange = self.advance(), self._exchange
        match event:
            case BookUpdate():
                exchange.on_book(now, event.bids, event.asks)
            case TradePrint():
                exchange.on_trade(now, event.px_ticks, event.qty_lots, event.aggressor)
            case MarkPrice():
                exchange.on_mark(now, event.px_ticks)
            case FundingRate():
                # Told of the settlement after: by its clock the one before is over, at the rate that was told before.
                if event.next_ts_ns > self._settles_ns and self._settles_ns - now <= SKEW_MAX_NS:
                    exchange.run_due(max(now, self._settles_ns))
                self._settles_ns = event.next_ts_ns
                exchange.on_funding(now, event.rate, event.next_ts_ns, event.interval_s)
        self.arm()

    def close(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    # A live market is what it is.

    def disconnect(self) -> NoReturn:
        raise NotImplementedError("nothing is injected into a live market")

    def reconnect(self) -> NoReturn:
        self.disconnect()

    def freeze_books(self, repeat: bool | None) -> NoReturn:
        self.disconnect()

    def spoil_books(self, kind: object) -> NoReturn:
        self.disconnect()


class LiveSource:
    """A `MarketSource` that has nothing to play: what comes is pushed."""

    start_ts_ns = 0

    def __init__(self, instrument: Instrument, provenance: dict[str, str]) -> None:
        self.instrument, self.provenance = instrument, provenance
        self.refused: dict[str, int] = {}

    def events(self) -> Iterator[MarketEvent]:
        return iter(())


class PaperVenue(SimulatedVenue):
    """See `venues.base.Venue`. Made by `at`; opened once, and closes the public client with itself."""

    def __init__(
        self, public: Public, instrument: Instrument, clock: Clock, config: SimulatedConfig, seed: int
    ) -> None:
        super().__init__(LiveSource(instrument, public.provenance), clock, config, seed)
        self._public = public
        self._live = LiveFeed(self.exchange, clock, self._tell_all)

    @classmethod
    async def at(cls, public: Public, clock: Clock, config: SimulatedConfig, seed: int) -> "PaperVenue":
        """Paper at this exchange.

        Raises:
            VenueUnavailable: it does not say what the contract's steps are; `public` is closed then.
        """
        try:
            instrument = _on_paper(await public.instrument())
        except VenueUnavailable:
            await public.close()
            raise
        return cls(public, instrument, clock, config, seed)

    @property
    def name(self) -> str:
        return "paper"

    @property
    def provenance(self) -> dict[str, str]:
        told = super().provenance
        told["order lanes"] = "none: no order leaves this process"
        told["paper"] = f"market of {self._public.name}, live; our orders are matched here, and the market sees none"
        told["gaps"] = "what happens while the public stream is down fills nobody"
        return told

    async def instrument(self) -> Instrument:
        """As the exchange states it now, like every other venue: a change is seen."""
        return _on_paper(await self._public.instrument())

    async def open(self, deliver: Deliver) -> None:
        """Raises VenueUnavailable: the exchange cannot be reached."""
        await super().open(deliver)
        try:
            await self._public.open(self._live.push)
            self._live.push(await self._public.mark())
            self._live.push(await self._public.funding())
        except VenueUnavailable:
            await self.close()
            raise

    async def close(self) -> None:
        await super().close()
        self._live.close()
        await self._public.close()

    def _make_feed(self) -> Market:
        return self._live

    def _say_up(self, client: Deliver) -> None:
        """Of the public stream the exchange's client tells; the private one is here."""
        if not self._closed:
            self._wire.tell(LinkChanged(0, 0, None, Link.PRIVATE, True))

    async def candles(self, n: int) -> list[BarClosed]:
        return await self._public.candles(n)

    async def funding(self) -> FundingRate:
        told = await self._public.funding()
        self._live.match(told)
        return told

    async def mark(self) -> MarkPrice:
        told = await self._public.mark()
        self._live.match(told)
        return told


def _on_paper(instrument: Instrument) -> Instrument:
    """A journal belongs to one venue, and paper is none of those that have money: its state directory is its own."""
    return msgspec.structs.replace(instrument, venue=f"{instrument.venue}-paper")
