"""What a venue is to the daemon. The same protocol for the simulated venue, paper and a real exchange.

Rules that every venue keeps
  * the outcome of `send` arrives as an event, always: a time-out is `OrderUpdate(status=UNKNOWN)`, never an exception;
  * a failed read raises `VenueUnavailable`; it never returns empty;
  * an `AccountSnapshot` is built from the venue's answer and from nothing else.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from mmdaemon.core.commands import Command
from mmdaemon.core.events import (
    AccountSnapshot,
    BarClosed,
    Bill,
    Event,
    FeeSchedule,
    Fill,
    FundingRate,
    MarketEvent,
    MarkPrice,
)
from mmdaemon.core.types import Instrument, OrderStatus, Side

Deliver = Callable[[Event], None]
"""Where a venue puts what happened. It must not block and must not be re-entered from within `send`."""


class VenueUnavailable(Exception):
    """A read failed: time-out, network, maintenance. It says nothing about what would have been read."""


class KeyRefused(VenueUnavailable):
    """It answers, and does not take our key. To try again is of no use: a person must look."""


class OtherAccount(VenueUnavailable):
    """It answers, and the key's account is of another kind than the configuration says."""


class OrderReport(msgspec.Struct, frozen=True):
    """One order as the venue answers for it. An order without our client id has the venue's own id prefixed by
    `venue:`."""

    client_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    cum_filled_lots: int
    status: OrderStatus
    reduce_only: bool


class Absent(msgspec.Struct, frozen=True):
    """The venue answered and does not know the order. Evidence only once nothing can be in flight any more."""

    client_id: str


class Cursor(msgspec.Struct, frozen=True):
    """Where a paged read begins: inclusive venue time. Readers overlap by 60 s and de-duplicate by id."""

    venue_ts_ns: int


class AccountFacts(msgspec.Struct, frozen=True):
    """What must be true of the account before and while the daemon trades."""

    account: str
    position_mode: str
    """"one_way" is the only one supported."""
    margin_mode: str
    leverage: float
    can_trade: bool
    can_withdraw: bool
    clock_offset_s: float
    """Venue clock minus ours."""
    fees_in: tuple[str, ...] = ()
    """What fees of our fills were paid in, beside the quote currency, as far as this process saw."""


class PositionStop(msgspec.Struct, frozen=True):
    """A stop that the venue keeps for us: the whole position, reduce-only, at market once mark passes the trigger."""

    trigger_px_ticks: int


class Venue(Protocol):
    """See `docs/CONTRACTS.md`. `deliver` is called for private and public events once `open` has returned."""

    @property
    def name(self) -> str: ...
    @property
    def can_amend(self) -> bool: ...
    @property
    def in_flight_floor_s(self) -> float:
        """The least `in_flight_max_s` that may be believed at this venue."""
        ...

    @property
    def provenance(self) -> dict[str, str]:
        """Where the market comes from and what is assumed of it. Complete once open."""
        ...

    async def instrument(self) -> Instrument:
        """Tick, lot and minimum as the venue states them now. May be asked before `open`."""
        ...

    async def open(self, deliver: Deliver) -> None: ...
    async def send(self, command: Command) -> None: ...
    async def cancel_all(self) -> None: ...
    async def order(self, client_id: str) -> OrderReport | Absent: ...
    async def open_orders(self) -> list[OrderReport]: ...
    async def fills(self, since: Cursor) -> list[Fill]: ...
    async def bills(self, since: Cursor) -> list[Bill]: ...
    async def snapshot(self) -> AccountSnapshot: ...
    async def facts(self) -> AccountFacts: ...
    async def fees(self) -> FeeSchedule: ...
    async def candles(self, n: int) -> list[BarClosed]: ...
    async def funding(self) -> FundingRate: ...
    async def mark(self) -> MarkPrice: ...
    async def protect(self, stop: PositionStop | None) -> None: ...
    async def dead_man(self, seconds: int) -> bool: ...
    async def close(self) -> None: ...


class MarketSource(Protocol):
    """A made or recorded market: synthetic, tape. Not a venue: nothing trades in it, and it has no clock of its own.

    `events` yields market events ordered by `venue_ts_ns` (when it happened at the exchange); `ts_ns` is when the
    recording machine got it (or would have, for a made one) and never falls below any earlier one; `mono_ns` is 0,
    to be stamped by whoever delivers it. The last one is `SourceEnded` where the source is finite. `refused` counts
    what was dropped, by reason.
    """

    @property
    def instrument(self) -> Instrument: ...
    @property
    def start_ts_ns(self) -> int: ...
    @property
    def provenance(self) -> dict[str, str]:
        """What a report prints first: where the market comes from and what is assumed of it."""
        ...

    @property
    def refused(self) -> dict[str, int]: ...
    def events(self) -> Iterator[MarketEvent]: ...
