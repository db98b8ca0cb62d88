"""What both APIs can be asked, each through its own module of reads."""

from typing import Protocol

import msgspec

from mmdaemon.core.events import AccountSnapshot, BarClosed, Bill, FeeSchedule, Fill, FundingRate, MarkPrice
from mmdaemon.core.types import Instrument
from mmdaemon.venues.base import Absent, AccountFacts, Cursor, OrderReport, PositionStop
from mmdaemon.venues.bitget.api import Sends
from mmdaemon.venues.bitget.names import Names
from mmdaemon.venues.codec import Scale


class Reads(Protocol):
    """A module: `classic_reads` or `unified_reads`. All raise VenueUnavailable; `Refused` and its like as they are."""

    async def order(self, scale: Scale, sends: Sends, client_id: str) -> OrderReport | Absent: ...
    async def open_orders(self, scale: Scale, sends: Sends) -> list[OrderReport]: ...
    async def fills(
        self, scale: Scale, sends: Sends, since: Cursor, names: Names | None = None, fees_in: set[str] | None = None
    ) -> list[Fill]: ...
    async def bills(self, scale: Scale, sends: Sends, since: Cursor) -> list[Bill]: ...
    async def snapshot(self, scale: Scale, sends: Sends) -> AccountSnapshot: ...
    async def facts(self, scale: Scale, sends: Sends, clock_offset_s: float) -> AccountFacts: ...
    async def fees(self, scale: Scale, sends: Sends) -> FeeSchedule: ...
    async def candles(self, scale: Scale, sends: Sends, n: int) -> list[BarClosed]: ...
    async def funding(self, scale: Scale, sends: Sends) -> FundingRate: ...
    async def mark(self, scale: Scale, sends: Sends) -> MarkPrice: ...
    async def read_instrument(self, sends: Sends, symbol: str) -> Instrument: ...
    async def protect(self, scale: Scale, sends: Sends, stop: PositionStop | None) -> None: ...


class Account:
    """The half of `api.Api` that reads, of one contract. The other half is made by whoever is this."""

    def __init__(self, contract: Instrument | Scale, reads: Reads) -> None:
        self._reads = reads
        self._scale = contract if isinstance(contract, Scale) else Scale(contract)
        self._symbol = self._scale.instrument.symbol
        self._names = Names()
        self.fees_in = set[str]()
        """What fees were paid in beside the quote currency, as far as anybody saw."""

    async def order(self, sends: Sends, client_id: str) -> OrderReport | Absent:
        return await self._reads.order(self._scale, sends, client_id)

    async def open_orders(self, sends: Sends) -> list[OrderReport]:
        return await self._reads.open_orders(self._scale, sends)

    async def fills(self, sends: Sends, since: Cursor) -> list[Fill]:
        return await self._reads.fills(self._scale, sends, since, self._names, self.fees_in)

    async def bills(self, sends: Sends, since: Cursor) -> list[Bill]:
        return await self._reads.bills(self._scale, sends, since)

    async def snapshot(self, sends: Sends) -> AccountSnapshot:
        return await self._reads.snapshot(self._scale, sends)

    async def facts(self, sends: Sends, clock_offset_s: float) -> AccountFacts:
        told = await self._reads.facts(self._scale, sends, clock_offset_s)
        return msgspec.structs.replace(told, fees_in=tuple(sorted(self.fees_in)))

    async def fees(self, sends: Sends) -> FeeSchedule:
        return await self._reads.fees(self._scale, sends)

    async def candles(self, sends: Sends, n: int) -> list[BarClosed]:
        return await self._reads.candles(self._scale, sends, n)

    async def funding(self, sends: Sends) -> FundingRate:
        return await self._reads.funding(self._scale, sends)

    async def mark(self, sends: Sends) -> MarkPrice:
        return await self._reads.mark(self._scale, sends)

    async def instrument(self, sends: Sends) -> Instrument:
        return await self._reads.read_instrument(sends, self._symbol)

    async def protect(self, sends: Sends, stop: PositionStop | None) -> None:
        await self._reads.protect(self._scale, sends, stop)
