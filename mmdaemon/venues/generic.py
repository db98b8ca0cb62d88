"""An exchange through ccxt.pro's unified API, for those without an adapter of their own. Nothing of them is proven.

    commands ──► outbox ──► requests ──► calls (budgets) ──► ccxt     create, edit and cancel by our ids
    events   ◄── pumps ◄── ccxt's watch_...                           conflated: what was missed is read
    reads    ──► ccxt's fetch_...

What it cannot do, and `ccxt_pro.py` can, is in docs/VENUES.md ("Other exchanges"). In short: frames are conflated by
ccxt and timed as they are handled, a lost update of a book shows only where ccxt looks for it, there is no position
stop, and permissions of the key are not read.

Orders are told as the stream shows them. Fills come by REST alone, each by its id, whenever the stream says that there
was one, and again a second later: so none is lost to conflation, and their fees have one sign.
"""

import asyncio
from collections import OrderedDict
from typing import Any, Final, cast

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Command, Place
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
    OrderUpdate,
)
from mmdaemon.core.types import Instrument, Link, OrderStatus
from mmdaemon.venues.arrival import received
from mmdaemon.venues.base import (
    Absent,
    AccountFacts,
    Cursor,
    Deliver,
    OrderReport,
    PositionStop,
    VenueUnavailable,
)
from mmdaemon.venues.bitget.api import NOT_GRANTED, Api, Meaning, Refused, Unanswered, Unsent
from mmdaemon.venues.ccxt_client import UNREADABLE, CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.codec import Malformed
from mmdaemon.venues.differences import VENUES, Sandbox
from mmdaemon.venues.generic_account import GenericAccount
from mmdaemon.venues.generic_calls import GenericCalls, GenericRequests, Names, proves
from mmdaemon.venues.generic_pumps import Pumps
from mmdaemon.venues.generic_reads import update_of
from mmdaemon.venues.outbox import Outbox

_OVERLAP_MS: Final = 10_000
_AGAIN_S: Final = 1.0
_MARK_EVERY_S: Final = 2.0
_REMEMBERED: Final = 8_192


class GenericVenue:
    """See `venues.base.Venue`. Made within the loop that uses it. `kills`: it cancels and reads, without streams."""

    def __init__(self, config: CcxtConfig, clock: Clock, *, kills: bool = False) -> None:
        self.config = config
        self._clock, self._kills = clock, kills
        self._row = VENUES[config.exchange]
        self._client = CcxtClient(config, clock)
        self._ccxt: Any = self._client.exchange
        _prepare(self._ccxt, config)
        self._names = Names()
        self._calls = GenericCalls(self._client, self._row, clock, self._names, config.request_timeout_s)
        self._per_s = min(40.0, 1_000 / float(self._ccxt.rateLimit or 100))
        self._account = GenericAccount(self._client, config, clock, self._calls, self._names, self._per_s / 2)
        self._deliver: Deliver | None = None
        self._outbox: Outbox | None = None
        self._requests: GenericRequests | None = None
        self._pumps: Pumps | None = None
        self._told: OrderedDict[str, None] = OrderedDict()
        self._read_from_ms = 0
        self._closed = False
        self._fills_moved = asyncio.Event()

    @property
    def name(self) -> str:
        return self.config.exchange

    @property
    def can_amend(self) -> bool:
        return self.config.exchange != "bitget" or self.config.account == "unified"

    @property
    def in_flight_floor_s(self) -> float:
        return self.config.in_flight_floor_s

    @property
    def provenance(self) -> dict[str, str]:
        at = f", emulated at {self.config.emulator_url}" if self.config.emulator_url else ""
        return {
            "venue": f"{self.config.exchange}, {self.config.environment}{at}, by the generic adapter",
            "order lanes": "ccxt's unified API",
            "streams": "ccxt.pro's unified API, conflated",
        }

    @property
    def links(self) -> Pumps:
        assert self._pumps is not None
        return self._pumps

    # --- life ---------------------------------------------------------------------------------------------------------

    async def instrument(self) -> Instrument:
        return await self._account.instrument()

    async def open(self, deliver: Deliver) -> None:
        """Raises VenueUnavailable: the exchange cannot be reached, or refuses the key."""
        if self._deliver is not None or self._closed:
            raise RuntimeError("a venue is opened once; make a new one")
        if not self._account.is_ready:
            await self.instrument()
        units, symbol = self._account.units, self._account.symbol
        if self.config.credentials is not None and not self._kills:
            await self.facts()
        self._requests = self._account.requests = GenericRequests(
            self._row, symbol, units.scale, units.contract, self._names, self._per_s
        )
        # The outbox asks for what changes something, and for nothing else of an Api.
        self._outbox = Outbox(cast("Api", cast("object", self._requests)), self._calls, self._clock, self.tell)
        self._deliver = deliver
        self._read_from_ms = self._clock.wall_ns() // 1_000_000 - _OVERLAP_MS
        if self._kills:
            return
        self._pumps = Pumps(self._client, self._clock, self._link_changed)
        ex, limit = self._ccxt, self._row.book_limit
        self._pumps.add(Link.PUBLIC, lambda: ex.watch_order_book(symbol, limit), self._on_book, self._forget_book)
        self._pumps.add(Link.PUBLIC, lambda: ex.watch_trades(symbol), self._on_trades)
        if self.config.credentials is not None:
            self._pumps.add(Link.PRIVATE, lambda: ex.watch_orders(symbol), self._on_orders)
            self._pumps.add(Link.PRIVATE, lambda: ex.watch_my_trades(symbol), lambda _rows: self._fills_moved.set())
        self._pumps.start((self._read_fills, self._read_marks, self._watch_pushes))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pumps is not None:
            await self._pumps.close()
        if self._outbox is not None:
            await self._outbox.close()
        await self._calls.close()
        await self._client.close()

    # --- streams ------------------------------------------------------------------------------------------------------

    def _on_book(self, told: Any) -> None:
        """A copy at once: what ccxt hands out goes on to change."""
        assert self._pumps is not None
        try:
            book = self._account.units.book(self.now(), told, self.config.book_depth)
        except (Malformed, *UNREADABLE) as error:
            self.tell(
                MarketDataRefused(*self.now(), None, str(error) if isinstance(error, Malformed) else "unreadable")
            )
            self._pumps.lost(Link.PUBLIC, "book")
            return
        self._pumps.good(Link.PUBLIC)
        self.tell(book)

    def _forget_book(self) -> None:
        """ccxt would put the next snapshot into the old book."""
        self._ccxt.orderbooks.pop(self._account.symbol, None)

    def _on_trades(self, told: Any) -> None:
        for row in list(told):
            try:
                trade = self._account.units.trade(self.now(), row)
            except (Malformed, *UNREADABLE):
                self.tell(MarketDataRefused(*self.now(), None, "bad_trade"))
                continue
            self.tell(trade)

    def _on_orders(self, told: Any) -> None:
        assert self._pumps is not None
        assert self._outbox is not None
        for row in list(told):
            try:
                push = update_of(self._account.units.report(row), self.now(), None)
            except (Malformed, *UNREADABLE):
                self._pumps.lost(Link.PRIVATE, "an order that cannot be read")
                continue
            self.tell(self._outbox.on_push(cast("Any", push)))
        self._fills_moved.set()

    def _link_changed(self, link: Link, up: bool) -> None:
        if link is Link.PRIVATE and not up and self._outbox is not None:
            self._outbox.link_lost()
        self.tell(LinkChanged(*self.now(), None, link, up))
        if link is Link.PRIVATE and up:
            self._fills_moved.set()

    def tell(self, event: Event) -> None:
        if self._deliver is not None and not self._closed:
            self._deliver(event)

    def now(self) -> tuple[int, int]:
        return self._clock.mono_ns(), self._clock.wall_ns()

    async def _read_fills(self) -> None:
        """Each fill once, by reading, when there may be one; and again, for what history shows late."""
        while True:
            await self._fills_moved.wait()
            self._fills_moved.clear()
            began_ms = self._clock.wall_ns() // 1_000_000
            try:
                found = await self.fills(Cursor(self._read_from_ms * 1_000_000))
            except VenueUnavailable:
                await asyncio.sleep(_AGAIN_S)
                self._fills_moved.set()
                continue
            fresh = [fill for fill in found if fill.trade_id not in self._told]
            for fill in fresh:
                self._told[fill.trade_id] = None
                if len(self._told) > _REMEMBERED:
                    self._told.popitem(last=False)
                self.tell(received(self._clock, fill))
            self._read_from_ms = began_ms - _OVERLAP_MS
            if fresh:
                asyncio.get_running_loop().call_later(_AGAIN_S, self._fills_moved.set)

    async def _read_marks(self) -> None:
        while True:
            try:
                self.tell(await self.mark())
                self.tell(await self.funding())
            except VenueUnavailable:
                self.tell(MarketDataRefused(*self.now(), None, "no_mark"))
            await asyncio.sleep(_MARK_EVERY_S)

    async def _watch_pushes(self) -> None:
        assert self._outbox is not None
        assert self._pumps is not None
        while True:
            await asyncio.sleep(0.5)
            if self._outbox.is_push_overdue():
                self._pumps.lost(Link.PRIVATE, "silent about an order")

    # --- commands -----------------------------------------------------------------------------------------------------

    async def send(self, command: Command) -> None:
        if self._outbox is None or self._closed:
            raise VenueUnavailable("the venue was closed" if self._closed else "the venue is not open yet")
        if isinstance(command, Place):
            try:
                self._row.to_wire(command.client_id)
            except ValueError:
                refused = (command.client_id, OrderStatus.REJECTED, 0, None, None, None, "unsent:client_id")
                self.tell(OrderUpdate(*self.now(), None, *refused))
                return
        self._outbox.send(command)

    async def cancel_all(self) -> None:
        if self._outbox is None or self._requests is None:
            raise VenueUnavailable("the venue is not open yet")
        self._outbox.withdraw_all()
        try:
            if "cancelAllOrders" not in self._row.lacks:
                await self._calls.ask(self._requests.cancel_all())
                return
            for order in await self.open_orders():
                await self._calls.ask(self._requests.cancel(order.client_id))
        except Refused as refused:
            if refused.meaning not in (Meaning.NOTHING_TO_CANCEL, Meaning.NOT_FOUND):
                raise VenueUnavailable(f"cancel_all: {refused}") from None
        except (Unanswered, Unsent) as error:
            raise VenueUnavailable(f"cancel_all: {error}") from None

    async def protect(self, stop: PositionStop | None) -> None:
        """There is none here: `venue.stop_bps` must be 0. Raises VenueUnavailable where one is wanted."""
        if stop is not None:
            raise VenueUnavailable("the generic adapter keeps no stop at the exchange: set venue.stop_bps = 0")

    async def dead_man(self, seconds: int) -> bool:
        row, config = self._row, self.config
        if row.dead_man is None or not config.tries_dead_man:
            return False
        if config.exchange == "bitget" and config.account == "classic":
            return False
        if seconds == 0 and row.dead_man.off is None:
            raise VenueUnavailable(f"{row.exchange}'s countdown cannot be ended: it is left to run out")
        try:
            await row.dead_man.call(self._ccxt, seconds)
        except self._client.network_errors as error:
            proved = proves(error, row)
            if isinstance(proved, Refused) and proved.meaning in NOT_GRANTED:
                return False
            raise VenueUnavailable(f"dead_man: {proved}") from None
        except UNREADABLE as error:
            raise VenueUnavailable(f"dead_man: {type(error).__name__}") from None
        return True

    # --- reads --------------------------------------------------------------------------------------------------------

    @property
    def why(self) -> str:
        """What the last read failed of; empty since one did not."""
        return self._account.why

    async def order(self, client_id: str) -> OrderReport | Absent:
        return await self._account.order(client_id)

    async def open_orders(self) -> list[OrderReport]:
        return await self._account.open_orders()

    async def fills(self, since: Cursor) -> list[Fill]:
        return [received(self._clock, fill) for fill in await self._account.fills(since)]

    async def bills(self, since: Cursor) -> list[Bill]:
        return [received(self._clock, bill) for bill in await self._account.bills(since)]

    async def snapshot(self) -> AccountSnapshot:
        return received(self._clock, await self._account.snapshot())

    async def facts(self) -> AccountFacts:
        return await self._account.facts()

    async def fees(self) -> FeeSchedule:
        return received(self._clock, await self._account.fees())

    async def candles(self, n: int) -> list[BarClosed]:
        return [received(self._clock, bar) for bar in await self._account.candles(n)]

    async def funding(self) -> FundingRate:
        return received(self._clock, await self._account.funding())

    async def mark(self) -> MarkPrice:
        return received(self._clock, await self._account.mark())


def _prepare(exchange: Any, config: CcxtConfig) -> None:
    """What the client set for Bitget is undone, and what the table says is set."""
    row = VENUES[config.exchange]
    if config.exchange == "bitget":
        return
    for option in ("uta", "sandboxMode"):
        exchange.options.pop(option, None)
    if config.credentials is not None:
        key = config.credentials
        parts = (key.api_key, key.api_secret, key.api_passphrase)
        for name, part in zip(row.secrets, parts, strict=False):
            setattr(exchange, name, part.reveal())
    if config.environment == "demo":
        getattr(exchange, Sandbox(row.sandbox).method)(True)
