"""The hands of `probe.py`: a venue that tells what it heard and signed, and orders placed, waited for and taken out."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Cancel, Command, Place
from mmdaemon.core.events import BookUpdate, Event, Fill, OrderUpdate
from mmdaemon.core.types import NS, Instrument, OrderStatus, Purpose, Side
from mmdaemon.venues.base import VenueUnavailable
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Endpoint, Request
from mmdaemon.venues.bitget.reading import PRODUCT
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.ccxt_pro import CcxtVenue
from mmdaemon.venues.codec import Scale
from mmdaemon.venues.lanes import Lanes

Outcome = Literal["passed", "failed", "not_checked"]
Figures = dict[str, float | str | bool]
FAR: Final = 0.9
"""Of the best bid: where an order rests that nobody is to take."""
_WITHIN_S: Final = 10.0
_CANCEL_REASON: Final = re.compile(rb'"cancelReason"\s*:\s*"([^"]{1,64})"')


class Line(msgspec.Struct, frozen=True):
    """One open point. `figures` are numbers and words as measured."""

    name: str
    outcome: Outcome
    said: str
    figures: Figures = {}


class ProbedVenue(CcxtVenue):
    """The adapter as it is, and what it heard and sent beside it."""

    def __init__(self, config: CcxtConfig, clock: Clock) -> None:
        super().__init__(config, clock)
        self.reasons: set[str] = set()
        """`cancelReason`, as the private stream wrote it."""
        self.placed: set[str] = set()
        """What was handed over to be placed."""

    async def send(self, command: Command) -> None:
        if isinstance(command, Place):
            self.placed.add(command.client_id)
        await super().send(command)

    def _on_private(self, data: str | bytes) -> bool:
        text = data.encode() if isinstance(data, str) else data
        self.reasons.update(each.decode() for each in _CANCEL_REASON.findall(text))
        return super()._on_private(data)

    def signed(self, request: Request, shift_ms: int = 0) -> tuple[str, dict[str, str], bytes | None]:
        """As the adapter would sign it, `shift_ms` from now."""
        exchange = self._client.exchange
        tells = exchange.nonce
        exchange.milliseconds = exchange.nonce = lambda: tells() + shift_ms
        try:
            return self._client.sign(request)
        finally:
            exchange.milliseconds = exchange.nonce = tells

    def shifted(self, shift_ms: int, clock: Clock) -> Lanes:
        """Lanes whose requests are dated so far from now."""
        venue = self

        class Signer:
            def sign(self, request: Request) -> tuple[str, dict[str, str], bytes | None]:
                return venue.signed(request, shift_ms)

        return Lanes(Signer(), self._wire, clock, self.config.request_timeout_s)


class NotEmpty(Exception):
    """There are orders or a position already: whose they are is not known here, and they are left alone."""

    def __init__(self, orders: int, position_lots: int) -> None:
        super().__init__(f"{orders} orders rest and {position_lots} lots are held in this account")


class Hands:
    """What a probe does with orders. `deliver` takes the venue's events."""

    def __init__(self, venue: ProbedVenue, clock: Clock, instrument: Instrument) -> None:
        self._venue, self._clock = venue, clock
        self.instrument, self.scale = instrument, Scale(instrument)
        self._classic = venue.config.account == "classic"
        self._book: BookUpdate | None = None
        self._updates: list[OrderUpdate] = []
        self.fills: list[Fill] = []
        self._numbered = 0
        self._began_ms = clock.wall_ns() // 1_000_000

    def deliver(self, event: Event) -> None:
        match event:
            case BookUpdate():
                self._book = event
            case OrderUpdate():
                self._updates.append(event)
            case Fill():
                self.fills.append(event)
            case _:
                pass

    def new_id(self) -> str:
        self._numbered += 1
        return f"preflight-{self._began_ms}-{self._numbered}"

    def least_lots(self, px_ticks: int) -> int:
        instrument = self.instrument
        lots = instrument.min_qty_lots
        value_e10 = max(1, instrument.notional_e10(px_ticks, 1))
        return max(lots, -(-instrument.min_notional_e10 // value_e10))

    def place(self, client_id: str, side: Side, px_ticks: int, qty_lots: int) -> Place:
        return Place(client_id, side, px_ticks, qty_lots, Purpose.QUOTE, 0, post_only=True, reduce_only=False)

    async def some_book(self) -> BookUpdate:
        await self.until(lambda: self._book is not None and self._book.bids and self._book.asks)
        assert self._book is not None
        return self._book

    async def far(self) -> Place:
        px_ticks = int((await self.some_book()).bids[0][0] * FAR)
        return self.place("", Side.BUY, px_ticks, self.least_lots(px_ticks))

    async def rest(self, client_id: str, order: Place) -> tuple[float, float]:
        """Place it and wait until the venue and its stream say that it rests. Milliseconds to either."""
        begun_ns = self._clock.mono_ns()
        await self._venue.send(msgspec.structs.replace(order, client_id=client_id))

        def told(*, by_push: bool) -> bool:
            return any((each.cum_filled_lots is not None) == by_push for each in self.of(client_id))

        await self.until(lambda: told(by_push=False) or self.ended(client_id))
        answer_ms = (self._clock.mono_ns() - begun_ns) / 1e6
        await self.until(lambda: told(by_push=True) or self.ended(client_id))
        if self.ended(client_id):
            raise VenueUnavailable(f"an order far from the market ended: {self.of(client_id)[-1].reason}")
        return round(answer_ms, 3), round((self._clock.mono_ns() - begun_ns) / 1e6, 3)

    async def take_out(self, *client_ids: str) -> None:
        for client_id in client_ids:
            if not self.ended(client_id) and self.of(client_id):
                await self._venue.send(Cancel(client_id, risk=True))
        await self.until(lambda: all(self.ended(each) or not self.of(each) for each in client_ids))

    def of(self, client_id: str) -> list[OrderUpdate]:
        return [each for each in self._updates if each.client_id == client_id]

    def ended(self, client_id: str) -> bool:
        return any(each.status.is_terminal for each in self.of(client_id))

    def is_rejected(self, client_id: str) -> bool:
        return any(each.status is OrderStatus.REJECTED for each in self.of(client_id))

    def fate(self, client_id: str) -> str:
        """The last word of an order, for people."""
        told = self.of(client_id)
        return f"{told[-1].status.value} {told[-1].reason}".strip() if told else "nothing was heard of it"

    @property
    def has_unknown(self) -> bool:
        """Whether something was sent of which it is not known how it ended: its answer may be still to come, too."""
        return any(not self.ended(client_id) for client_id in self._venue.placed)

    async def raw_order(self, client_id: str) -> dict[str, Any]:
        endpoint = endpoints.CLASSIC_ORDER if self._classic else endpoints.UNIFIED_ORDER
        of_symbol = {"symbol": self._venue.config.symbol, "productType": PRODUCT} if self._classic else {}
        told: dict[str, Any] | None = await self.raw(endpoint, {**of_symbol, "clientOid": client_id})
        return told or {}

    async def raw(self, endpoint: Endpoint, params: dict[str, str]) -> Any:
        answer = await self._venue.lanes.ask(Request(endpoint, params))
        try:
            return msgspec.json.decode(answer.data)
        except (msgspec.DecodeError, RecursionError):
            return None

    async def until(self, holds: Callable[[], object], within_s: float = _WITHIN_S) -> None:
        """Raises TimeoutError."""
        end_ns = self._clock.mono_ns() + round(within_s * NS)
        while not holds():
            if self._clock.mono_ns() > end_ns:
                raise TimeoutError(f"not within {within_s:g} s")
            await asyncio.sleep(0.002)

    async def close_position(self) -> None:
        held = (await self._venue.snapshot()).position_lots
        if not held:
            return
        book = await self.some_book()
        side = Side.SELL if held > 0 else Side.BUY
        px_ticks = 100 * (book.bids[0][0] * 99 // 10_000 if held > 0 else book.asks[0][0] * 101 // 10_000)
        client_id = self.new_id()
        close = Place(
            client_id, side, px_ticks, abs(held), Purpose.FLATTEN, 0, post_only=False, reduce_only=True, ioc=True
        )
        await self._venue.send(close)
        await self.until(lambda: self.ended(client_id))
