"""An exchange, through ccxt.pro: the `Venue` that trades with money. Bitget's two APIs, proven against the emulator.

    commands ──► outbox ──► api (requests) ──► lanes (budgets) ──► wire_http           signed by ccxt
    events   ◄── streams (decoding, own book) ◄── tap ◄── ccxt's connections            kept by links
    reads    ──► api ──► lanes

Which of the two APIs an account has is configured and checked at the start by asking: `Refused(WRONG_API)` says so by
name, and anything else is an error, never a guess. What a venue's answer proves is `outbox.py` for commands and
`bitget/*_reads.py` for reads.
"""

from collections.abc import Coroutine
from typing import Any, Final, TypeVar

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
    LinkChanged,
    MarketDataRefused,
    MarkPrice,
)
from mmdaemon.core.types import NS, Instrument, Link
from mmdaemon.venues.arrival import received
from mmdaemon.venues.base import (
    Absent,
    AccountFacts,
    Cursor,
    Deliver,
    KeyRefused,
    OrderReport,
    OtherAccount,
    PositionStop,
    VenueUnavailable,
)
from mmdaemon.venues.bitget import classic_reads, unified_reads
from mmdaemon.venues.bitget.api import NOT_GRANTED, Answer, Api, Meaning, Refused, Request, Unanswered, Unsent
from mmdaemon.venues.bitget.classic import Classic
from mmdaemon.venues.bitget.frames import HINTS
from mmdaemon.venues.bitget.streams import OrderPush, Streams
from mmdaemon.venues.bitget.unified import Unified
from mmdaemon.venues.ccxt_client import UNREADABLE, CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.codec import Scale, Tally
from mmdaemon.venues.lanes import Lanes
from mmdaemon.venues.links import Links
from mmdaemon.venues.outbox import Outbox
from mmdaemon.venues.own_time import OwnTime, offset_ns
from mmdaemon.venues.wire_http import HttpClient

R = TypeVar("R")
_PRIVATE_CHANNELS: Final = {"classic": ("orders", "fill"), "unified": ("order", "fill")}
_HINTS: Final = {"classic": ("positions", "account"), "unified": ("position", "account")}
_PUBLIC_CHANNELS: Final = {"classic": ("books", "trade", "ticker"), "unified": ("books", "publicTrade", "ticker")}
_FOR_GOOD: Final = {Meaning.AUTH: KeyRefused, Meaning.WRONG_API: OtherAccount}
"""What no second try will mend."""


class CcxtVenue:
    """See `venues.base.Venue`. Made within the loop that uses it.

    `kills`: for `mmdaemon kill --direct`: it cancels and reads, and opens no stream.
    """

    def __init__(self, config: CcxtConfig, clock: Clock, *, kills: bool = False) -> None:
        self.config = config
        self._clock = clock
        self._kills = kills
        self._client = CcxtClient(config, clock)
        self._wire = HttpClient(self._client.ssl_context, clock)
        self.lanes = Lanes(self._client, self._wire, clock, config.request_timeout_s)
        self._sends = OwnTime(self.lanes, clock, self._set_ahead)
        self._api: Api | None = None
        self._instrument: Instrument | None = None
        self._deliver: Deliver | None = None
        self._outbox: Outbox | None = None
        self._streams: Streams | None = None
        self._links: Links | None = None
        self._closed = False
        self._why = {"read": "", "cancel": ""}

    @property
    def name(self) -> str:
        return self.config.exchange

    @property
    def why(self) -> str:
        """What the last read, and the last cancel of everything, failed of; empty since they did not."""
        return "; ".join(dict.fromkeys(filter(None, self._why.values())))

    @property
    def can_amend(self) -> bool:
        return self.config.account == "unified"

    @property
    def in_flight_floor_s(self) -> float:
        return self.config.in_flight_floor_s

    @property
    def provenance(self) -> dict[str, str]:
        at = f", emulated at {self.config.emulator_url}" if self.config.emulator_url else ""
        return {
            "venue": f"{self.config.exchange}, {self.config.account} account, {self.config.environment}{at}",
            "order lanes": "requests and connections of our own, signed by ccxt",
            "streams": "ccxt.pro's connections, decoded at the frame",
        }

    @property
    def links(self) -> Links:
        assert self._links is not None
        return self._links

    # --- life ---------------------------------------------------------------------------------------------------------

    async def instrument(self) -> Instrument:
        """As the venue states it now.

        Raises:
            VenueUnavailable: it does not say.
        """
        read = classic_reads if self.config.account == "classic" else unified_reads
        told = await self._reading("instrument", read.read_instrument(self._sends, self.config.symbol))
        self._instrument = now = msgspec.structs.replace(told, venue=self.config.place)
        return now

    async def open(self, deliver: Deliver) -> None:
        """Load the markets, check which API the account has, subscribe. To kill, nothing is asked: whatever could not
        be answered would keep the first cancel waiting.

        Raises:
            VenueUnavailable: the venue cannot be reached, or refuses the key; says why.
        """
        if self._deliver is not None or self._closed:
            raise RuntimeError("a venue is opened once; make a new one")
        scale = Tally(self.config.symbol) if self._kills else Scale(self._instrument or await self.instrument())
        instrument = scale.instrument
        self._api = api = Classic(scale) if self.config.account == "classic" else Unified(scale)
        if self.config.credentials is not None and not self._kills:
            await self.snapshot()  # a wrong key or API shows in any; the account's facts may be asked for once a second
        self._outbox = outbox = Outbox(api, self._sends, self._clock, self.tell, self.lanes.withdraw)
        self._deliver = deliver
        if self._kills:
            return
        symbol = await self._market_symbol()
        self._streams = streams = Streams(
            *(api.name, instrument.symbol, scale, self.now, _Heard(self, outbox)),
            depth=self.config.book_depth,
            fees_in=api.fees_in,
        )
        funding = await self.funding()
        streams.set_interval_s(funding.interval_s)
        ex = self._client.exchange
        books, trades, ticker = _PUBLIC_CHANNELS[api.name]
        pumps = {
            books: (Link.PUBLIC, lambda: ex.watch_order_book(symbol)),
            trades: (Link.PUBLIC, lambda: ex.watch_trades(symbol)),
            ticker: (Link.PUBLIC, lambda: ex.watch_ticker(symbol)),
        }
        if self.config.credentials is not None:
            orders, fills = _PRIVATE_CHANNELS[api.name]
            positions, account = _HINTS[api.name]
            pumps |= {
                orders: (Link.PRIVATE, lambda: ex.watch_orders(symbol)),
                fills: (Link.PRIVATE, lambda: ex.watch_my_trades(symbol)),
                positions: (Link.PRIVATE, lambda: ex.watch_positions([symbol])),
                account: (Link.PRIVATE, lambda: ex.watch_balance({"type": "swap"})),
            }
        overdue = outbox.is_push_overdue
        self._links = Links(self._client, self._clock, pumps, self._link_changed, overdue, _HINTS[api.name])
        self._client.hear(public=self._on_public, private=self._on_private, on_connection=self._on_connection)
        self._links.start()

    async def close(self) -> None:
        """Nothing is delivered any more, and nothing can be asked. What rests stays the venue's affair."""
        if self._closed:
            return
        self._closed = True
        if self._links is not None:
            await self._links.close()
        if self._outbox is not None:
            await self._outbox.close()
        await self.lanes.close()
        await self._wire.close()
        await self._client.close()

    async def _market_symbol(self) -> str:
        """ccxt's name of the contract."""
        ex = self._client.exchange
        try:
            await ex.load_markets()
        except (*self._client.network_errors, *UNREADABLE) as error:
            raise VenueUnavailable(f"the markets could not be read: {type(error).__name__}") from None
        for market in ex.markets.values():
            if market["id"] == self.config.symbol and market["swap"] and market["linear"]:
                return market["symbol"]
        raise VenueUnavailable(f"{self.config.exchange} has no linear perpetual {self.config.symbol}")

    # --- streams ------------------------------------------------------------------------------------------------------

    def _on_public(self, data: str | bytes) -> bool:
        return self._on_frame(Link.PUBLIC, data)

    def _on_private(self, data: str | bytes) -> bool:
        return self._on_frame(Link.PRIVATE, data)

    def _on_frame(self, link: Link, data: str | bytes) -> bool:
        assert self._streams is not None
        if self._streams.on_frame(data, link is Link.PRIVATE):
            return True
        refused = self.links.on_event(link, data)
        if refused:
            self.tell(MarketDataRefused(*self.now(), None, f"{refused}:subscription"))
        return bool(refused)

    def _on_connection(self, private: bool) -> None:
        assert self._streams is not None
        if private:
            self._streams.reset_private()
        else:
            self._streams.reset_public()
        self.links.connecting(Link.PRIVATE if private else Link.PUBLIC)

    def _link_changed(self, link: Link, up: bool) -> None:
        if link is Link.PRIVATE and not up and self._outbox is not None:
            self._outbox.link_lost()
        self.tell(LinkChanged(*self.now(), None, link, up))

    def tell(self, event: Event) -> None:
        if self._deliver is not None and not self._closed:
            self._deliver(event)

    def now(self) -> tuple[int, int]:
        return self._clock.mono_ns(), self._clock.wall_ns()

    # --- commands -----------------------------------------------------------------------------------------------------

    async def send(self, command: Command) -> None:
        """Hand over and return at once. The outcome comes as an event, unless this is closed before it does.

        Raises:
            VenueUnavailable: it is not open, so nothing was sent.
        """
        if self._outbox is None or self._closed:
            raise VenueUnavailable("the venue was closed" if self._closed else "the venue is not open yet")
        self._outbox.send(command)

    async def cancel_all(self) -> None:
        if self._outbox is not None:
            self._outbox.withdraw_all()
        why = ""
        try:
            await self._asked("cancel_all", self._the_api.cancel_all())
        except Refused as refused:
            if refused.meaning is not Meaning.NOTHING_TO_CANCEL:
                why = f"cancel_all: {refused}{_remedy(refused, self.config)}"
        except VenueUnavailable as error:
            why = str(error)
        self._why["cancel"] = why
        if why:
            raise VenueUnavailable(why)

    async def protect(self, stop: PositionStop | None) -> None:
        await self._reading("protect", self._the_api.protect(self._sends, stop))

    async def dead_man(self, seconds: int) -> bool:
        if not self._the_api.has_dead_man or not self.config.tries_dead_man:
            return False
        try:
            await self._asked("dead_man", self._the_api.dead_man(seconds))
        except Refused as refused:
            if refused.meaning in NOT_GRANTED:
                return False
            raise VenueUnavailable(f"dead_man: {refused}") from None
        return True

    # --- reads --------------------------------------------------------------------------------------------------------

    async def order(self, client_id: str) -> OrderReport | Absent:
        return await self._reading("order", self._the_api.order(self._sends, client_id))

    async def open_orders(self) -> list[OrderReport]:
        return await self._reading("open_orders", self._the_api.open_orders(self._sends))

    async def fills(self, since: Cursor) -> list[Fill]:
        found = await self._reading("fills", self._the_api.fills(self._sends, since))
        return [received(self._clock, fill) for fill in found]

    async def bills(self, since: Cursor) -> list[Bill]:
        found = await self._reading("bills", self._the_api.bills(self._sends, since))
        return [received(self._clock, bill) for bill in found]

    async def snapshot(self) -> AccountSnapshot:
        return received(self._clock, await self._reading("snapshot", self._the_api.snapshot(self._sends)))

    async def facts(self) -> AccountFacts:
        offset_s = await self._clock_offset_s()
        return await self._reading("facts", self._the_api.facts(self._sends, offset_s))

    async def fees(self) -> FeeSchedule:
        return received(self._clock, await self._reading("fees", self._the_api.fees(self._sends)))

    async def candles(self, n: int) -> list[BarClosed]:
        found = await self._reading("candles", self._the_api.candles(self._sends, n))
        return [received(self._clock, bar) for bar in found]

    async def funding(self) -> FundingRate:
        return received(self._clock, await self._reading("funding", self._the_api.funding(self._sends)))

    async def mark(self) -> MarkPrice:
        return received(self._clock, await self._reading("mark", self._the_api.mark(self._sends)))

    async def _clock_offset_s(self) -> float:
        """The venue's clock less ours."""
        return await self._reading("time", offset_ns(self.lanes, self._clock)) / NS

    def _set_ahead(self, venue_ahead_ns: int) -> None:
        self._client.venue_ahead_ns = venue_ahead_ns

    @property
    def _the_api(self) -> Api:
        if self._api is None or self._closed:
            raise VenueUnavailable("the venue was closed" if self._closed else "the venue is not open yet")
        return self._api

    async def _asked(self, what: str, request: Request) -> Answer:
        """Raises VenueUnavailable, or Refused as it is."""
        try:
            return await self._sends.ask(request)
        except (Unsent, Unanswered) as error:
            raise VenueUnavailable(f"{what}: {error}") from None

    async def _reading(self, what: str, read: Coroutine[Any, Any, R]) -> R:
        """Whatever a read fails of is `VenueUnavailable`, with what is to be done where a person must."""
        kind: type[VenueUnavailable] = VenueUnavailable
        try:
            came = await read
        except Refused as refused:
            self._why["read"] = f"{what}: {refused}{_remedy(refused, self.config)}"
            kind = _FOR_GOOD.get(refused.meaning, VenueUnavailable)
        except (Unsent, Unanswered, VenueUnavailable) as error:
            self._why["read"] = f"{what}: {error}"
        else:
            self._why["read"] = ""
            return came
        raise kind(self._why["read"])


class _Heard:
    """What the streams say, told on. See `bitget.streams.Hear`."""

    def __init__(self, venue: CcxtVenue, outbox: Outbox) -> None:
        self._venue, self._outbox = venue, outbox

    def event(self, fact: Event) -> None:
        self._venue.tell(fact)

    def order(self, push: OrderPush) -> None:
        self._venue.tell(self._outbox.on_push(push))

    def book_lost(self, why: str) -> None:
        self._venue.tell(MarketDataRefused(*self._venue.now(), None, why))
        self._venue.links.book_lost(why)

    def book_back(self) -> None:
        self._venue.links.book_back()

    def refused(self, kind: str, reason: str) -> None:
        """It may have been anything, a fill too: the stream is begun anew, and what it said is read. Not so for a hint,
        which would be as unreadable on each new connection."""
        self._venue.tell(MarketDataRefused(*self._venue.now(), None, f"{kind or 'private'}:{reason}"))
        if kind not in HINTS:
            self._venue.links.private_lost(reason)


def _remedy(refused: Refused, config: CcxtConfig) -> str:
    match refused.meaning:
        case Meaning.WRONG_API:
            other = "classic" if config.account == "unified" else "unified"
            return f" (this key's account has the other API: set venue.account = {other!r})"
        case Meaning.AUTH:
            return f" (the venue does not take this key; it must be one of the {config.environment} environment)"
        case Meaning.CLOCK:
            return " (our clock is outside the venue's window: look at the machine's time service)"
        case _:
            return ""
