"""The exchange itself: what it knows of us, without a clock and without a wire.

It is told of the market and of our requests as they arrive there, each with the venue's time. A request's answer is
returned; what the account's private stream says goes to `emit`, in order. Everything is said once: an answer is not
repeated on the stream. Events have `mono_ns` and `ts_ns` 0, to be stamped by whoever delivers them.

What may be opened is `margin.py`. When equity falls below |position| * mark * maintenance rate, all orders
are cancelled, the position is closed at mark with the liquidation fee, and the rest of the balance is the venue's: the
insurance fund takes what is left and covers what is missing, as one FEE bill that ends the account at zero.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import assert_never

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import (
    AccountSnapshot,
    BarClosed,
    Bill,
    BillKind,
    Event,
    Fill,
    FundingRate,
    MarkPrice,
    OrderUpdate,
    RequestFailed,
)
from mmdaemon.core.types import NEVER_NS, NS, ExecKind, Instrument, OrderStatus, Side
from mmdaemon.venues.base import Absent, OrderReport, PositionStop, VenueUnavailable
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.candles import Candles
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Draws
from mmdaemon.venues.simulated.margin import Margin, StopKeeper
from mmdaemon.venues.simulated.matching import Levels, Matching
from mmdaemon.venues.simulated.records import Changed, Executed, Happening, Refused, Truth, VenueOrder, report, update
from mmdaemon.venues.simulated.wallet import Wallet

FUNDING_INTERVAL_S = 8 * 3_600


class Exchange:
    """One account in one instrument. `next_due_ns` is when it must be run next though nothing arrives."""

    def __init__(
        self, instrument: Instrument, config: SimulatedConfig, seed: int, emit: Callable[[Event], None]
    ) -> None:
        self.instrument = instrument
        self.matching = Matching(config.fills, config.queue, config.post_only)
        self.wallet = Wallet(instrument, config.start_e10, config.maker_rate, config.taker_rate)
        self.margin = Margin(instrument, self.matching, self.wallet, config.leverage)
        self.stop_keeper = StopKeeper()
        self.candles = Candles()
        self.received: list[tuple[int, Command]] = []
        self.orders: dict[str, VenueOrder] = {}
        self.fills: list[Fill] = []
        self.bills: list[Bill] = []
        self.mark_ticks = 0
        self.next_due_ns = NEVER_NS
        self.refusal: Callable[[object, object, Instrument], str] = rules.refusal
        """What is refused at the door, which a script may change."""
        self.on_request: Callable[[int, Command], None] | None = None
        """Called with each request before it is worked on, for those who watch."""
        self.on_limited: Callable[[Command], None] | None = None
        """Called with each request that was refused at the door, mostly for its rate, and got no further."""
        self.on_change: Callable[[int], None] | None = None
        """Called when anything of the account may have changed."""
        self._config = config
        self._emit = emit
        self._fill_first = Draws(seed, "exchange/fill_first")
        self._funding_rate = 0.0
        self._funding_interval_s = FUNDING_INTERVAL_S
        self._settles_ns = NEVER_NS
        self._dead_man_ns = NEVER_NS
        self._venue_ids = self._trades = self._billed = self._numbered = 0

    # --- the market ---------------------------------------------------------------------------------------------------

    def on_book(self, at_ns: int, bids: Levels, asks: Levels) -> None:
        if at_ns >= self.candles.end_ns:
            self._roll_candles(at_ns)
        happenings = self.matching.on_book(bids, asks)
        if happenings:
            self._tell(at_ns, happenings)

    def on_trade(self, at_ns: int, px_ticks: int, qty_lots: int, aggressor: Side | None) -> None:
        if at_ns >= self.candles.end_ns:
            self._roll_candles(at_ns)
        self.candles.on_trade(px_ticks, qty_lots)
        happenings = self.matching.on_trade(px_ticks, qty_lots, aggressor)
        if happenings:
            self._tell(at_ns, happenings)

    def on_mark(self, at_ns: int, px_ticks: int) -> None:
        self.mark_ticks = px_ticks
        if self.matching.position_lots:
            self._check_stop(at_ns)
            self._check_margin(at_ns)

    def on_funding(self, at_ns: int, rate: float, next_ts_ns: int, interval_s: int) -> None:
        """A predicted rate. A settlement that is over is not settled again, whatever the source says."""
        if not math.isfinite(rate) or interval_s <= 0:
            raise ValueError(f"funding rate {rate} every {interval_s} s is no rate; the market source is at fault")
        self._funding_rate, self._funding_interval_s = rate, interval_s
        if next_ts_ns > at_ns:
            self._settles_ns = next_ts_ns
        elif self._settles_ns == NEVER_NS:
            self._settles_ns = at_ns + interval_s * NS - (at_ns - next_ts_ns) % (interval_s * NS)
        self._find_due()

    def run_due(self, at_ns: int) -> None:
        """Settle funding and let the dead man's hand go, as far as they fall at or before `at_ns`, in order."""
        while self.next_due_ns <= at_ns:
            due_ns = self.next_due_ns
            if due_ns == self._settles_ns:
                self._settle_funding(due_ns)
                self._settles_ns += self._funding_interval_s * NS
            else:
                self._dead_man_ns = NEVER_NS
                self.cancel_all(due_ns, "dead_man")
            self._find_due()

    def _find_due(self) -> None:
        self.next_due_ns = min(self._settles_ns, self._dead_man_ns)

    @property
    def mid_ticks(self) -> int:
        """Middle of the touch, rounded half-even to a tick; 0 while there is no book."""
        bids, asks = self.matching.bids, self.matching.asks
        if not bids:
            return 0
        half, odd = divmod(bids[0][0] + asks[0][0], 2)
        return half + (half & 1 if odd else 0)

    def _roll_candles(self, at_ns: int) -> None:
        if not self.candles.end_ns:
            self.candles.begin(at_ns)
        self.candles.roll(at_ns, self.mid_ticks)

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(self, at_ns: int, command: Command) -> OrderUpdate | RequestFailed:
        """Work on a request that arrived. Returns its answer."""
        self.received.append((at_ns, command))
        if len(self.received) > 2 * self._config.keep:
            self._forget()
        if self.on_request is not None:
            self.on_request(at_ns, command)
        match command:
            case Place():
                answer = self._place(at_ns, command)
            case Amend():
                answer = self._amend(at_ns, command)
            case Cancel():
                answer = self._cancel(at_ns, command)
            case _:
                assert_never(command)
        if self.on_change is not None:
            self.on_change(at_ns)
        return answer

    def _place(self, at_ns: int, command: Place) -> OrderUpdate | RequestFailed:
        refused = self.refusal(command.px_ticks, command.qty_lots, self.instrument)
        if command.client_id in self.orders:
            refused = rules.DUPLICATE
        if not refused and not command.reduce_only:
            refused = self._margin_refusal(command.side, command.qty_lots, command.px_ticks)
        if refused:
            return OrderUpdate(0, 0, at_ns, command.client_id, OrderStatus.REJECTED, 0, None, None, None, refused)
        order = VenueOrder(
            command.client_id,
            command.side,
            command.px_ticks,
            command.qty_lots,
            command.post_only,
            command.reduce_only,
            command.ioc,
            at_ns,
        )
        happenings = self.matching.place(order)
        if order.status is not OrderStatus.REJECTED:
            self.orders[order.client_id] = order
        return self._answer(at_ns, happenings, "place")

    def _amend(self, at_ns: int, command: Amend) -> OrderUpdate | RequestFailed:
        order = self.orders.get(command.client_id)
        refused = self.refusal(command.px_ticks, command.qty_lots, self.instrument)
        if order is None:
            refused = rules.NOT_FOUND
        elif order.status.is_terminal:
            refused = order.status.value
        elif not refused and not order.reduce_only:
            refused = self._margin_refusal(order.side, command.qty_lots - order.qty_lots, command.px_ticks)
        if order is None or refused:
            return RequestFailed(0, 0, at_ns, command.client_id, "amend", refused, command.revision)
        happenings = self.matching.amend(order, command.revision, command.px_ticks, command.qty_lots)
        return self._answer(at_ns, happenings, "amend", command.revision)

    def _cancel(self, at_ns: int, command: Cancel) -> OrderUpdate | RequestFailed:
        order = self.orders.get(command.client_id)
        if order is None or order.status.is_terminal:
            reason = rules.NOT_FOUND if order is None else order.status.value
            return RequestFailed(0, 0, at_ns, command.client_id, "cancel", reason)
        return self._answer(at_ns, self.matching.cancel(order, "cancelled"), "cancel")

    def cancel_all(self, at_ns: int, reason: str = "cancelled") -> None:
        """Every order of the account, foreign ones too; each is told on the stream."""
        self._tell(at_ns, self.matching.cancel_all(reason))

    def _margin_refusal(self, side: Side, more_lots: int, px_ticks: int) -> str:
        return rules.MARGIN if self.margin.is_lacking(side, more_lots, self.mark_ticks or px_ticks) else ""

    # --- what else happens to an account ------------------------------------------------------------------------------

    def foreign_order(self, at_ns: int, side: Side, px_ticks: int, qty_lots: int, client_id: str = "") -> str:
        """An order that we did not send (a person, another program). Returns its id."""
        client_id = client_id or self._venue_id()
        order = VenueOrder(client_id, side, px_ticks, qty_lots, arrived_ns=at_ns)
        self._tell(at_ns, self.matching.place(order))
        if order.status is not OrderStatus.REJECTED:
            self.orders[client_id] = order
        return client_id

    def withdraw(self, at_ns: int, client_id: str) -> None:
        """Whoever placed it cancels it, if it is there still."""
        order = self.orders.get(client_id)
        if order is not None and not order.status.is_terminal:
            self._tell(at_ns, self.matching.cancel(order, "cancelled"))

    def manual_trade(self, at_ns: int, side: Side, qty_lots: int) -> None:
        """Somebody trades at market in our account."""
        self._take(at_ns, VenueOrder(self._venue_id(), side, 0, qty_lots, arrived_ns=at_ns))

    def transfer(self, at_ns: int, amount_e10: int) -> None:
        self.wallet.transfer(amount_e10)
        self._bill(at_ns, BillKind.TRANSFER, amount_e10)

    def protect(self, stop: PositionStop | None) -> None:
        """Keep a stop for the whole position, or none. See `margin.StopKeeper`."""
        self.stop_keeper.keep(stop, self.matching.position_lots)

    def dead_man(self, at_ns: int, seconds: int) -> None:
        """Cancel everything after `seconds` unless told again; 0 ends it."""
        self._dead_man_ns = at_ns + seconds * NS if seconds else NEVER_NS
        self._find_due()

    def _check_stop(self, at_ns: int) -> None:
        position = self.matching.position_lots
        if self.stop_keeper.is_hit(self.mark_ticks):
            side = Side.SELL if position > 0 else Side.BUY
            self._take(at_ns, VenueOrder(self._venue_id(), side, 0, abs(position), arrived_ns=at_ns))

    def _take(self, at_ns: int, order: VenueOrder) -> None:
        self.orders[order.client_id] = order
        self._tell(at_ns, self.matching.take(order))

    def _settle_funding(self, at_ns: int) -> None:
        if self.matching.position_lots:
            self.mark_ticks = self.mark_ticks or self.mid_ticks
            self._bill(at_ns, BillKind.FUNDING, self.wallet.settle_funding(self.mark_ticks, self._funding_rate))
            self._check_margin(at_ns)

    def _check_margin(self, at_ns: int) -> None:
        if not self.wallet.is_below_maintenance(self.mark_ticks, self._config.maintenance_rate):
            return
        self.cancel_all(at_ns, "liquidation")
        position = self.matching.position_lots
        side = Side.SELL if position > 0 else Side.BUY
        order = VenueOrder(self._venue_id(), side, self.mark_ticks, abs(position), arrived_ns=at_ns)
        self.orders[order.client_id] = order
        happenings = self.matching.settle(order, self.mark_ticks)
        self._tell(at_ns, happenings, ExecKind.LIQUIDATION, self._config.liquidation_rate)
        rest_e10 = -self.wallet.balance_e10
        if rest_e10:
            self.wallet.charge(rest_e10)
            self._bill(at_ns, BillKind.FEE, rest_e10)

    def _bill(self, at_ns: int, kind: BillKind, amount_e10: int) -> None:
        self._billed += 1
        bill = Bill(0, 0, at_ns, self._id("b", self._billed), kind, amount_e10)
        self.bills.append(bill)
        self._emit(bill)

    def _forget(self) -> None:
        """Keep the record bounded: of each list the last `keep`, and all orders that are not ended."""
        keep = self._config.keep
        del self.received[:-keep]
        del self.fills[:-keep]
        del self.bills[:-keep]
        ended = [client_id for client_id, order in self.orders.items() if order.status.is_terminal]
        for client_id in ended[:-keep]:
            del self.orders[client_id]

    def _venue_id(self) -> str:
        self._venue_ids += 1
        return f"venue:{self._id('', self._venue_ids)}"

    def _id(self, letter: str, count: int) -> str:
        """Tag, letter and count; or the next odd number, where the venue's ids are to be numbers."""
        if not self._config.number_ids_from:
            return f"{self._config.tag}{letter}{count}"
        self._numbered += 1
        return str(self._config.number_ids_from + 2 * self._numbered - 1)

    # --- telling ------------------------------------------------------------------------------------------------------

    def _answer(
        self, at_ns: int, happenings: Sequence[Happening], request: str, revision: int | None = None
    ) -> OrderUpdate | RequestFailed:
        first = happenings[0]
        if len(happenings) > 1:
            self._tell(at_ns, happenings[1:])
        match first:
            case Changed():
                return update(at_ns, first)
            case Refused():
                return RequestFailed(0, 0, at_ns, first.order.client_id, request, first.reason, revision)
            case Executed():
                raise AssertionError("a request is answered before it is executed")
            case _:
                assert_never(first)

    def _tell(
        self,
        at_ns: int,
        happenings: Sequence[Happening],
        kind: ExecKind = ExecKind.TRADE,
        rate: Decimal | None = None,
    ) -> None:
        for happening in happenings:
            match happening:
                case Executed():
                    self._executed(at_ns, happening, kind, rate)
                case Changed():
                    self._emit(update(at_ns, happening))
                case Refused():
                    raise AssertionError("only an amend is refused so, and that is its answer")
                case _:
                    assert_never(happening)
        self.stop_keeper.on_position(self.matching.position_lots)
        if happenings and self.on_change is not None:
            self.on_change(at_ns)

    def _executed(self, at_ns: int, executed: Executed, kind: ExecKind, rate: Decimal | None) -> None:
        order, px_ticks, qty_lots, liquidity = executed.order, executed.px_ticks, executed.qty_lots, executed.liquidity
        fee_e10 = self.wallet.fill(order.side, px_ticks, qty_lots, liquidity, rate)
        self._trades = number = self._trades + 1
        trade_id = self._id("t", number)
        fill = Fill(0, 0, at_ns, trade_id, order.client_id, order.side, px_ticks, qty_lots, fee_e10, liquidity, kind)
        self.fills.append(fill)
        status = OrderStatus.FILLED if executed.done else OrderStatus.PARTIAL
        cum, qty, px = executed.cum_filled_lots, executed.order_qty_lots, order.px_ticks or None
        told = OrderUpdate(0, 0, at_ns, order.client_id, status, cum, px, qty, order.revision, "")
        # Venues send the two on channels of their own; either may come first.
        for event in (fill, told) if self._fill_first.bits(number) & 1 else (told, fill):
            self._emit(event)

    # --- answers to reads ---------------------------------------------------------------------------------------------

    def snapshot(self, at_ns: int) -> AccountSnapshot:
        mark, wallet = self._mark(), self.wallet
        balance_e10, unrealised_e10 = wallet.balance_e10, wallet.unrealised_e10(mark)
        free_e10 = self.margin.available_e10(mark)
        return AccountSnapshot(0, 0, at_ns, wallet.position_lots, balance_e10, unrealised_e10, free_e10, mark)

    def mark(self, at_ns: int) -> MarkPrice:
        return MarkPrice(0, 0, at_ns, self._mark())

    def bars(self, at_ns: int, n: int) -> list[BarClosed]:
        self._roll_candles(at_ns)
        return self.candles.last(n)

    def _mark(self) -> int:
        if not self.mark_ticks:
            raise VenueUnavailable("no mark price yet: the market has not sent a book or a mark")
        return self.mark_ticks

    def funding(self, at_ns: int) -> FundingRate:
        if self._settles_ns == NEVER_NS:
            raise VenueUnavailable("no funding rate yet: the market has not sent one")
        return FundingRate(0, 0, at_ns, self._funding_rate, self._settles_ns, self._funding_interval_s)

    def order(self, client_id: str) -> OrderReport | Absent:
        order = self.orders.get(client_id)
        return Absent(client_id) if order is None else report(order)

    def open_orders(self) -> list[OrderReport]:
        return [report(order) for order in self.matching.live]

    def truth(self) -> Truth:
        return Truth(self.received, self.orders, self.fills, self.bills, self.wallet, self.matching.position_lots)
