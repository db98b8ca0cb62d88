"""The emulated account: what may be asked of one account of the simulated exchange, in the words of `rows.py`."""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, Literal

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import BarClosed, Event, OrderUpdate, RequestFailed, TradePrint
from mmdaemon.core.types import OrderStatus, Purpose, Side
from mmdaemon.venues.base import MarketSource, PositionStop, VenueUnavailable
from mmdaemon.venues.codec import Scale
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.dialect import TickerRow
from mmdaemon.venues.emulator.record import OWN, AccountChanged, Pushed, Record, decimal_text
from mmdaemon.venues.emulator.rows import AccountRow, BillRow, FactsRow, FillRow, No, OrderRow, PositionRow, Why
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.feed import Feed
from mmdaemon.venues.simulated.ledger import Ledger
from mmdaemon.venues.simulated.margin import Margin
from mmdaemon.venues.simulated.records import Truth

_MS: Final = 1_000_000
_LEVERAGE_MAX: Final = 125
_WHY: Final = {
    rules.DUPLICATE: Why.DUPLICATE,
    rules.OFF_TICK: Why.PRICE_SCALE,
    rules.OFF_LOT: Why.SIZE_SCALE,
    rules.MIN_QTY: Why.TOO_SMALL,
    rules.MIN_NOTIONAL: Why.NOTIONAL,
    rules.MARGIN: Why.MARGIN,
    rules.REDUCE_ONLY: Why.REDUCE_ONLY,
    rules.SUSPENDED: Why.SYMBOL,
    rules.NOT_FOUND: Why.NOT_FOUND,
    OrderStatus.FILLED.value: Why.NOT_FOUND,
    OrderStatus.CANCELLED.value: Why.NOT_FOUND,
}
"""What else the engine refuses (too large, crossing an order of the same account, ...) is PARAMETER."""


class Account:
    """`tell` gets what goes to the private channels, `hear` the market. Both are called from within requests, reads and
    timers, and must not ask anything of the account.

    Money moves in the exchange alone; this reads it. Every call brings the exchange up to now first.
    """

    def __init__(
        self,
        source: MarketSource,
        clock: Clock,
        config: EmulatorConfig,
        seed: int,
        tell: Callable[[Pushed], None],
        hear: Callable[[Event], None],
        ledger: Ledger | None = None,
    ) -> None:
        self.kind: Literal["classic", "unified"] = config.account
        self.symbol, self.coin, self.config = config.symbol, config.coin, config
        self.instrument = msgspec.structs.replace(
            source.instrument, venue="bitget", symbol=config.symbol, quote=config.coin
        )
        self.scale = Scale(self.instrument)
        simulated = config.simulated(clock.wall_ns() // _MS * 1_000_000)
        self._record = Record(self.instrument, simulated, seed, self._ms, tell)
        self.exchange = self._record.exchange
        self.skew_ms = 0
        """The venue's clock less the machine's, for those who want to be refused for it."""
        self.asked_ns: int | None = None
        """When the request at work was made, as it says itself."""
        self._feed = Feed(source, self.exchange, clock, simulated, seed, self._heard)
        self._tell, self._hear, self._ledger = tell, hear, ledger
        self._maintenance_rate = simulated.maintenance_rate
        self._last_px_ticks = 0
        self._facts = FactsRow(
            position_mode="one_way",
            margin_mode="crossed",
            leverage=config.leverage,
            can_trade=True,
            can_withdraw=False,
            maker_rate=format(config.maker_rate, "f"),
            taker_rate=format(config.taker_rate, "f"),
        )

    def _heard(self, event: Event) -> None:
        if isinstance(event, TradePrint):
            self._last_px_ticks = event.px_ticks
        self._hear(event)

    # --- time, and the account's own terms ----------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self._ms(self._feed.venue_now_ns())

    def _ms(self, venue_ns: int) -> int:
        return venue_ns // _MS + self.skew_ms

    def advance(self) -> int:
        """Bring the exchange up to now. Returns the venue's now (ns)."""
        return self._feed.advance()

    @property
    def facts(self) -> FactsRow:
        return self._facts

    @facts.setter
    def facts(self, facts: FactsRow) -> None:
        """In force from now on; leverage and fees too."""
        self.advance()
        self._facts = facts
        exchange = self.exchange
        exchange.margin = Margin(self.instrument, exchange.matching, exchange.wallet, facts.leverage)
        exchange.wallet.charge_at(Decimal(facts.maker_rate), Decimal(facts.taker_rate))
        self._tell(AccountChanged(True))

    def set_leverage(self, leverage: int) -> None:
        if not 1 <= leverage <= _LEVERAGE_MAX:
            raise No(Why.PARAMETER)
        self.facts = msgspec.structs.replace(self._facts, leverage=leverage)

    def set_margin_mode(self, mode: str) -> None:
        self._refuse_while_exposed()
        self.facts = msgspec.structs.replace(self._facts, margin_mode=mode)

    def set_position_mode(self, mode: str) -> None:
        self._refuse_while_exposed()
        self.facts = msgspec.structs.replace(self._facts, position_mode=mode)

    def _refuse_while_exposed(self) -> None:
        self.advance()
        if self.exchange.matching.live or self.exchange.matching.position_lots:
            raise No(Why.POSITION_MODE)

    # --- requests -----------------------------------------------------------------------------------------------------

    def place(
        self,
        *,
        client_id: str,
        side: Side,
        px_ticks: int,
        qty_lots: int,
        post_only: bool,
        reduce_only: bool,
        ioc: bool,
    ) -> OrderRow:
        """Take an order in. Returns it as it stands after meeting the book. Raises No."""
        self._refuse_unless_tradable()
        record, order_id = self._record, self._record.next_id()
        key = client_id or OWN + order_id
        if key in record.orders and key not in self.exchange.orders:
            raise No(Why.DUPLICATE)  # the engine has a shorter memory
        command = Place(key, side, px_ticks, qty_lots, Purpose.QUOTE, 0, post_only, reduce_only, ioc)
        answer = self._ask(command)
        if not isinstance(answer, OrderUpdate) or answer.status is OrderStatus.REJECTED:
            raise No(_WHY.get(answer.reason, Why.PARAMETER))
        record.take_in(key, order_id)
        record.change(key, answer)
        record.digest(changed=True)
        return record.orders[key]

    def amend(self, key: str, px_ticks: int | None, qty_lots: int | None) -> OrderRow:
        """New price or total size of an open order, under the same ids. Raises No."""
        self._refuse_unless_tradable()
        row = self.order(key)
        key = self._record.key(key)
        px = row.px_ticks if px_ticks is None else px_ticks
        qty = row.qty_lots if qty_lots is None else qty_lots
        if row.status.is_terminal:
            raise No(Why.NOT_FOUND)
        if (px, qty) == (row.px_ticks, row.qty_lots):
            raise No(Why.AMEND_NOTHING)
        answer = self._ask(Amend(key, self.exchange.orders[key].revision + 1, px, qty))
        return self._answered(key, answer)

    def cancel(self, key: str) -> OrderRow:
        """Take an open order out. Raises No(NOT_FOUND) where there is none."""
        self.advance()
        key = self._record.key(key)
        return self._answered(key, self._ask(Cancel(key, risk=False)))

    def cancel_all(self) -> list[OrderRow]:
        """Take all out, whoever sent them. Raises No(NOTHING_TO_CANCEL)."""
        at = self.advance()
        keys = [order.client_id for order in self.exchange.matching.live]
        self._recorded_other("cancel_all", at)
        if not keys:
            raise No(Why.NOTHING_TO_CANCEL)
        self.exchange.cancel_all(at)
        return [self._record.orders[key] for key in keys]

    def protect(self, trigger_px_ticks: int | None) -> str:
        """Keep a stop for the whole position, or none. Returns its id, empty for none."""
        self._recorded_other("protect", self.advance())
        self.exchange.protect(None if trigger_px_ticks is None else PositionStop(trigger_px_ticks))
        return "" if trigger_px_ticks is None else self._record.next_id()

    def stop_px_ticks(self) -> int | None:
        self.advance()
        stop = self.exchange.stop_keeper.stop
        return None if stop is None else stop.trigger_px_ticks

    def dead_man(self, seconds: int) -> None:
        """Cancel everything after `seconds` unless told again; 0 ends it. Raises No(NOT_GRANTED)."""
        if not self.config.dead_man_granted:
            raise No(Why.NOT_GRANTED)
        at = self.advance()
        self._recorded_other("dead_man", at)
        self.exchange.dead_man(at, seconds)
        self._feed.arm()

    def _refuse_unless_tradable(self) -> None:
        if not self._facts.can_trade:
            raise No(Why.PERMISSION)
        if self._facts.position_mode != "one_way":
            raise No(Why.POSITION_MODE)

    def _ask(self, command: Command) -> OrderUpdate | RequestFailed:
        """The exchange's answer. What it emits meanwhile waits for `digest`."""
        at = self.advance()
        if self._ledger is not None:
            self._ledger.received(0, at, at if self.asked_ns is None else self.asked_ns, command, "")
        with self._record.asking():
            return self.exchange.request(at, command)

    def _answered(self, key: str, answer: OrderUpdate | RequestFailed) -> OrderRow:
        if isinstance(answer, OrderUpdate):
            self._record.change(key, answer)
        self._record.digest(changed=True)
        if isinstance(answer, RequestFailed):
            raise No(_WHY.get(answer.reason, Why.PARAMETER))
        return self._record.orders[key]

    def _recorded_other(self, kind: str, at_ns: int) -> None:
        if self._ledger is not None:
            self._ledger.received_other(0, at_ns, kind)

    # --- what somebody else does --------------------------------------------------------------------------------------

    def foreign_order(self, side: Side, px_ticks: int, qty_lots: int, client_id: str = "") -> OrderRow:
        """A person, or another program with this account's key, places an order. Raises No(PARAMETER): it would meet
        one of ours."""
        at, key = self.advance(), client_id or OWN + self._record.next_id()
        with self._record.asking():
            self.exchange.foreign_order(at, side, px_ticks, qty_lots, key)
        self._record.digest()
        if key not in self._record.orders:
            raise No(Why.PARAMETER)
        return self._record.orders[key]

    def manual_trade(self, side: Side, qty_lots: int) -> None:
        self.exchange.manual_trade(self.advance(), side, qty_lots)

    def transfer(self, amount_e10: int) -> None:
        """Money comes in, or leaves (negative)."""
        self.exchange.transfer(self.advance(), amount_e10)

    def liquidate(self) -> None:
        """The venue closes the account, as where equity no longer carries the position. Nothing without a position."""
        at = self.advance()
        if self.exchange.matching.position_lots:
            rest_e10 = self.exchange.wallet.equity_e10(self.mark_px_ticks())
            self.exchange.transfer(at, -rest_e10)
            self.exchange.on_mark(at, self.mark_px_ticks())

    # --- reads --------------------------------------------------------------------------------------------------------

    def order(self, key: str) -> OrderRow:
        """By order id or client id; ended ones too. Raises No(NOT_FOUND)."""
        self.advance()
        return self._record.orders[self._record.key(key)]

    def all_orders(self) -> list[OrderRow]:
        """Every order that the venue took in and has not forgotten, oldest first."""
        self.advance()
        return [*self._record.orders.values()]

    def open_orders(self) -> list[OrderRow]:
        """Oldest first."""
        self.advance()
        rows = [self._record.orders[order.client_id] for order in self.exchange.matching.live]
        return sorted(rows, key=lambda row: int(row.order_id))

    def fills(self, *, since_ms: int, until_ms: int, before_id: str, limit: int) -> list[FillRow]:
        self.advance()
        return self._record.fills.page(since_ms=since_ms, until_ms=until_ms, before_id=before_id, limit=limit)

    def bills(self, *, since_ms: int, until_ms: int, before_id: str, limit: int) -> list[BillRow]:
        self.advance()
        return self._record.bills.page(since_ms=since_ms, until_ms=until_ms, before_id=before_id, limit=limit)

    def position(self) -> PositionRow | None:
        """None while flat."""
        self.advance()
        wallet, lots = self.exchange.wallet, self.exchange.matching.position_lots
        average = wallet.average_entry
        if not lots or average is None:
            return None
        mark = self.mark_px_ticks()
        margin_e10 = -(-self.instrument.notional_e10(mark, abs(lots)) // self._facts.leverage)
        unrealised_e10 = wallet.unrealised_e10(mark)
        # Where equity = |position| * price * maintenance rate.
        slope = wallet.size - abs(wallet.size) * self._maintenance_rate
        at = (wallet.cost - Decimal(wallet.balance_e10).scaleb(-10)) / slope
        return PositionRow(
            lots=lots,
            average_px=decimal_text(average),
            unrealised_e10=unrealised_e10,
            margin_e10=margin_e10,
            mark_px_ticks=mark,
            liquidation_px=decimal_text(at) if at > 0 else "0",
            updated_ms=self._record.moved_ms,
        )

    def held(self) -> PositionRow | None:
        """As `position`; but once there was one, it is there with a size of 0."""
        if (row := self.position()) is not None or not self._record.moved_ms:
            return row
        return PositionRow(
            lots=0,
            average_px="0",
            unrealised_e10=0,
            margin_e10=0,
            mark_px_ticks=self.mark_px_ticks(),
            liquidation_px="",
            updated_ms=self._record.moved_ms,
        )

    def balance(self) -> AccountRow:
        at, wallet = self.advance(), self.exchange.wallet
        mark = self.exchange.mark_ticks or self.exchange.mid_ticks  # 0 before there is a market, and nothing then
        free_e10 = self.exchange.margin.available_e10(mark)
        unrealised_e10 = wallet.unrealised_e10(mark)
        return AccountRow(
            wallet_e10=wallet.balance_e10,
            unrealised_e10=unrealised_e10,
            available_e10=free_e10,
            margin_e10=max(0, wallet.balance_e10 + unrealised_e10 - free_e10),
            updated_ms=self._ms(at),
        )

    def candles(self, n: int) -> list[BarClosed]:
        return self.exchange.bars(self.advance(), n)

    def funding(self) -> tuple[str, int, int]:
        """Rate, the next settlement (ms), and the seconds between two."""
        try:
            rate = self.exchange.funding(self.advance())
        except VenueUnavailable:
            raise No(Why.SERVICE) from None
        return format(Decimal(repr(rate.rate)), "f"), self._ms(rate.next_ts_ns), rate.interval_s

    def mark_px_ticks(self) -> int:
        """Raises No(SERVICE) before there is a market."""
        mark = self.exchange.mark_ticks or self.exchange.mid_ticks
        if not mark:
            raise No(Why.SERVICE)
        return mark

    def ticker(self) -> TickerRow:
        """Raises No(SERVICE) before there is a market."""
        at, matching = self.advance(), self.exchange.matching
        mark = self.mark_px_ticks()
        rate, next_ms, _ = self.funding()
        bid, ask = matching.bids[0] if matching.bids else (mark, 0), matching.asks[0] if matching.asks else (mark, 0)
        last = self._last_px_ticks or self.exchange.mid_ticks
        return TickerRow(bid[0], ask[0], bid[1], ask[1], last, mark, rate, next_ms, self._ms(at))

    def truth(self) -> Truth:
        """The exchange's own record up to now."""
        self.advance()
        return self.exchange.truth()

    def keep(self) -> None:
        """Commit the record of whatever happened, if one is kept. Nothing may be told before."""
        if self._ledger is not None:
            self._ledger.keep(self.exchange.truth())
            self._ledger.commit()

    def close(self, ts_ns: int) -> None:
        """The market stands still, and the record ends."""
        self._feed.close()
        if self._ledger is not None:
            self.keep()
            self._ledger.close(ts_ns)
