"""What the generic adapter reads of an exchange, through ccxt's unified API. A read that fails of anything raises."""

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.events import (
    AccountSnapshot,
    BarClosed,
    Bill,
    BillKind,
    FeeSchedule,
    Fill,
    FundingRate,
    MarkPrice,
)
from mmdaemon.core.types import NS, Instrument
from mmdaemon.venues.base import Absent, AccountFacts, Cursor, OrderReport, VenueUnavailable
from mmdaemon.venues.bitget import snapshots
from mmdaemon.venues.bitget.api import Endpoint, Meaning, Refused, Unsent
from mmdaemon.venues.ccxt_client import UNREADABLE, CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.codec import Malformed, milliseconds_ns, money_e10, number
from mmdaemon.venues.differences import VENUES
from mmdaemon.venues.generic_calls import BY_VENUE, GenericCalls, GenericRequests, Names, proves
from mmdaemon.venues.generic_reads import PAGE, Units, every, instrument_of, text, wallet_e10

R = TypeVar("R")


class GenericAccount:
    """The reads of `venues.base.Venue`, each within the budget of reads; facts are stamped by whoever asked."""

    requests: GenericRequests

    def __init__(
        self,
        client: CcxtClient,
        config: CcxtConfig,
        clock: Clock,
        calls: GenericCalls,
        names: Names,
        per_s: float,
    ) -> None:
        self._client, self._config, self._clock, self._calls, self._names = client, config, clock, calls, names
        self._row = VENUES[config.exchange]
        self._ccxt: Any = client.exchange
        self._budget = Endpoint("GET", "read", per_s, max(1, round(per_s)))
        self.symbol = ""
        """ccxt's name of the contract."""
        self._units: Units | None = None
        self.why = ""
        """What the last read failed of; empty since one did not."""

    @property
    def is_ready(self) -> bool:
        return self._units is not None

    @property
    def units(self) -> Units:
        if self._units is None:
            raise VenueUnavailable("the contract is not known yet")
        return self._units

    async def instrument(self) -> Instrument:
        """As the exchange states it now. Raises VenueUnavailable."""
        config = self._config
        await self._read("markets", lambda: self._ccxt.load_markets(True))
        for market in self._ccxt.markets.values():
            if market["id"] == config.symbol and market["swap"] and market["linear"]:
                self.symbol = market["symbol"]
                now, contract = instrument_of(market, config.place)
                self._units = Units(self._row, config.account, now, contract, self._names)
                return now
        raise VenueUnavailable(f"{config.exchange} has no linear perpetual {config.symbol}")

    async def order(self, client_id: str) -> OrderReport | Absent:
        order_id, params = self.requests.named(client_id)
        try:
            await self._calls.turn(self._budget)
            told = await self._ccxt.fetch_order(order_id, self.symbol, params)
            report = self.units.report(told)
        except self._client.network_errors as error:
            proved = proves(error, self._row)
            if isinstance(proved, Refused) and proved.meaning is Meaning.NOT_FOUND:
                return Absent(client_id)
            raise VenueUnavailable(f"order: {proved}") from None
        except (Unsent, Malformed, *UNREADABLE) as error:
            raise VenueUnavailable(f"order: {_why(error)}") from None
        if client_id not in (report.client_id, f"{BY_VENUE}{told['id']}"):
            raise VenueUnavailable("order: the answer is of another one")
        return msgspec.structs.replace(report, client_id=client_id)

    async def open_orders(self) -> list[OrderReport]:
        rows = await self._read("open_orders", lambda: self._ccxt.fetch_open_orders(self.symbol, None, PAGE))
        if len(rows) >= PAGE:
            raise VenueUnavailable(f"open_orders: {PAGE} or more, which is a page: there may be others")
        return self._made("open_orders", lambda: [self.units.report(row) for row in rows])

    async def fills(self, since: Cursor) -> list[Fill]:
        async def page(first: int, last: int) -> Any:
            ask = lambda: self._ccxt.fetch_my_trades(self.symbol, first, PAGE, {"until": last})  # noqa: E731
            return await self._read("fills", ask)

        since_ms, until_ms = since.venue_ts_ns // 1_000_000, self._clock.wall_ns() // 1_000_000 + 60_000
        rows = await every(page, since_ms, until_ms)
        found: list[Fill] = []
        for row in rows.values():
            client_id = await self._whose(str(row.get("order")))
            found.append(self._made("fills", lambda row=row, name=client_id: self.units.fill((0, 0), row, name)))
        found = [fill for fill in found if (fill.venue_ts_ns or 0) >= since.venue_ts_ns]
        return sorted(found, key=lambda fill: (fill.venue_ts_ns or 0, fill.trade_id))

    async def _whose(self, order_id: str) -> str:
        known = self._names.ours(order_id)
        if known is not None:
            return known
        found = await self.order(BY_VENUE + order_id)
        return (self._names.ours(order_id) or found.client_id) if isinstance(found, OrderReport) else found.client_id

    async def bills(self, since: Cursor) -> list[Bill]:
        """Funding, and transfers where the ledger names them so."""
        since_ms, until_ms = since.venue_ts_ns // 1_000_000, self._clock.wall_ns() // 1_000_000 + 60_000
        coin = self.units.instrument.quote

        def funding(first: int, last: int) -> Awaitable[Any]:
            ask = lambda: self._ccxt.fetch_funding_history(self.symbol, first, PAGE, {"until": last})  # noqa: E731
            return self._read("bills", ask)

        def ledger(first: int, last: int) -> Awaitable[Any]:
            params = {"until": last, "type": "swap"}
            return self._read("bills", lambda: self._ccxt.fetch_ledger(coin, first, PAGE, params))

        paid = await every(funding, since_ms, until_ms)
        moved = await every(ledger, since_ms, until_ms) if self._ccxt.has.get("fetchLedger") else {}
        transfers = {key: row for key, row in moved.items() if row.get("type") == "transfer"}

        def made() -> list[Bill]:
            found = [_bill(key, row, BillKind.FUNDING) for key, row in paid.items()]
            found += [_bill(key, row, BillKind.TRANSFER) for key, row in transfers.items() if key not in paid]
            return sorted(found, key=lambda bill: (bill.venue_ts_ns or 0, bill.bill_id))

        return [bill for bill in self._made("bills", made) if (bill.venue_ts_ns or 0) >= since.venue_ts_ns]

    async def snapshot(self) -> AccountSnapshot:
        units, coin = self.units, self.units.instrument.quote

        async def wallet() -> snapshots.Wallet:
            told = await self._read("balance", lambda: self._ccxt.fetch_balance({"type": "swap"}))
            free = lambda: money_e10(text(told[coin]["free"]))  # noqa: E731
            return self._made("balance", lambda: snapshots.Wallet(wallet_e10(self._row, told, coin), free()))

        async def held() -> snapshots.Held:
            at = await self._read("time", self._ccxt.fetch_time)
            rows = await self._read("positions", lambda: self._ccxt.fetch_positions([self.symbol]))
            mark = (await self.mark()).px_ticks
            ours = [row for row in rows if row.get("symbol") == self.symbol]

            def made() -> snapshots.Held:
                positions = tuple(each for row in ours if (each := units.position(row)) is not None)
                return snapshots.Held(positions, mark, milliseconds_ns(at))

            return self._made("positions", made)

        return await snapshots.picture(units.scale, wallet, held)

    async def facts(self) -> AccountFacts:
        """Permissions of the key are not among what ccxt tells: that it may trade shows when it does."""
        begun_ns, wall_ns = self._clock.mono_ns(), self._clock.wall_ns()
        at = await self._read("time", self._ccxt.fetch_time)
        offset_ns = self._made("time", lambda: milliseconds_ns(at)) - wall_ns - (self._clock.mono_ns() - begun_ns) // 2
        mode, margin, leverage = await self._read("facts", lambda: _modes(self._ccxt, self._config, self.symbol))
        key = self._config.credentials.api_key.reveal() if self._config.credentials else ""
        account = blake2b(f"{self._config.place}:{key}".encode(), digest_size=8).hexdigest()
        return AccountFacts(account, mode, margin, leverage, True, False, offset_ns / NS)

    async def fees(self) -> FeeSchedule:
        told = await self._read("fees", lambda: self._ccxt.fetch_trading_fee(self.symbol))
        maker, taker = self._made(
            "fees", lambda: (float(number(text(told["maker"]))), float(number(text(told["taker"]))))
        )
        return FeeSchedule(0, 0, None, maker, taker, f"ccxt fetchTradingFee of {self._config.exchange}")

    async def candles(self, n: int) -> list[BarClosed]:
        rows = await self._read("candles", lambda: self._ccxt.fetch_ohlcv(self.symbol, "1m", None, min(n + 1, 1_000)))
        bars = self._made("candles", lambda: [self.units.bar(row) for row in rows])
        closed = sorted((bar for bar in bars if bar.open_ts_ns + 60 * NS <= self._clock.wall_ns()), key=_opened)
        return closed[-n:] if n > 0 else []

    async def funding(self) -> FundingRate:
        told = await self._read("funding", lambda: self._ccxt.fetch_funding_rate(self.symbol))

        def made() -> FundingRate:
            at = told.get("nextFundingTimestamp") or told.get("fundingTimestamp")
            hours = int(str(told.get("interval") or "8h").removesuffix("h"))
            rate = float(number(text(told["fundingRate"])))
            return FundingRate(0, 0, None, rate, milliseconds_ns(at), hours * 3_600)

        return self._made("funding", made)

    async def mark(self) -> MarkPrice:
        told = await self._read("mark", lambda: self._ccxt.fetch_ticker(self.symbol))
        px_ticks = self._made("mark", lambda: self.units.near_px(told["markPrice"]))
        return MarkPrice(0, 0, None, px_ticks)

    async def _read(self, what: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Raises VenueUnavailable, whatever it fails of: never empty, never partly."""
        try:
            await self._calls.turn(self._budget)
            came = await call()
        except self._client.network_errors as error:
            self.why = f"{what}: {proves(error, self._row)}"
        except (Unsent, Malformed, *UNREADABLE) as error:
            self.why = f"{what}: {_why(error)}"
        else:
            self.why = ""
            return came
        raise VenueUnavailable(self.why)

    def _made(self, what: str, make: Callable[[], R]) -> R:
        try:
            return make()
        except (Malformed, *UNREADABLE) as error:
            raise VenueUnavailable(f"{what}: {_why(error)}") from None


def _why(error: BaseException) -> str:
    """Nothing of what the exchange wrote."""
    return str(error) if isinstance(error, Malformed | Unsent) else type(error).__name__


def _opened(bar: BarClosed) -> int:
    return bar.open_ts_ns


def _bill(key: str, row: Any, kind: BillKind) -> Bill:
    amount_e10 = money_e10(text(row["amount"]))
    if kind is BillKind.TRANSFER:
        amount_e10 = abs(amount_e10) if row.get("direction") == "in" else -abs(amount_e10)
    return Bill(0, 0, milliseconds_ns(row.get("timestamp")), key, kind, amount_e10)


async def _modes(exchange: Any, config: CcxtConfig, symbol: str) -> tuple[str, str, float]:
    """Position mode, margin mode and leverage; "unknown" where the exchange does not say it through ccxt."""
    if config.exchange == "bitget" and config.account == "unified":
        # ccxt's fetchLeverage asks the other API.
        told = (await exchange.privateUtaGetV3AccountSettings())["data"]
        ours = [row for row in told["symbolConfigList"] if row["symbol"] == config.symbol]
        modes = {"one_way_mode": "one_way", "hedge_mode": "hedge"}
        return modes.get(told["holdMode"], "unknown"), ours[0]["marginMode"], float(ours[0]["leverage"])
    read = await exchange.fetch_leverage(symbol)
    margin = {"cross": "crossed", "crossed": "crossed", "isolated": "isolated"}.get(str(read["marginMode"]), "unknown")
    leverage = float(max(read["longLeverage"], read["shortLeverage"]))
    if exchange.has.get("fetchPositionMode"):
        hedged = (await exchange.fetch_position_mode(symbol))["hedged"]
        return ("hedge" if hedged else "one_way"), margin, leverage
    modes = {"one_way_mode": "one_way", "hedge_mode": "hedge"}
    return modes.get(str(read["info"].get("posMode")), "unknown"), margin, leverage
