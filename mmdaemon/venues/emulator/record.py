"""What the simulated exchange says, as rows: orders, fills and bills as they stand, and what goes to private channels.

The exchange says each thing once, as an event or as the answer to a request. Here both become pushes, in the order of
what happened: an order's acceptance before its fills; of a fill and the order's own word on it, either may come first.

Orders are held by their client id; one that has none is known to the exchange as `venue:<order id>`. Ids are numbers:
orders even, trades and bills odd, in the order of time; the ledger's line of a trade follows it by one.
"""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from mmdaemon.core.events import Bill, BillKind, Event, Fill, OrderUpdate
from mmdaemon.core.types import Instrument, OrderStatus
from mmdaemon.venues.codec import Scale
from mmdaemon.venues.emulator.history import History
from mmdaemon.venues.emulator.rows import BillRow, FillRow, No, OrderRow, Why
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.exchange import Exchange
from mmdaemon.venues.simulated.wallet import to_e10

OWN: Final = "venue:"
_BILLS: Final = {BillKind.FUNDING: "funding", BillKind.FEE: "fee"}


class OrderPushed(NamedTuple):
    row: OrderRow
    fill: FillRow | None


class FillPushed(NamedTuple):
    row: FillRow


class AccountChanged(NamedTuple):
    position: bool
    """Whether the position may have changed too, and not the margin alone."""


Pushed = OrderPushed | FillPushed | AccountChanged


class _Emitted(NamedTuple):
    event: Event
    realised_e10: int
    balance_e10: int


class Record:
    """See the module. `tell` is called from within the exchange and must ask nothing of it. `ms` makes the venue's
    milliseconds of its nanoseconds."""

    def __init__(
        self,
        instrument: Instrument,
        config: SimulatedConfig,
        seed: int,
        ms: Callable[[int], int],
        tell: Callable[[Pushed], None],
    ) -> None:
        self.exchange = Exchange(instrument, config, seed, self._emit)
        self.orders: dict[str, OrderRow] = {}
        """Those that the exchange took in, by what they are held by; the oldest ended ones are forgotten."""
        self.fills: History[FillRow] = History(config.keep)
        self.bills: History[BillRow] = History(config.keep)
        self.moved_ms = 0
        """When the position last changed."""
        self._ids_from, self._keep = config.number_ids_from, config.keep
        self._tick = Scale(instrument).tick
        self._ms, self._tell = ms, tell
        self._values: dict[str, int] = {}
        """Sum of price times size of an order's fills."""
        self._keys: dict[str, str] = {}
        """From order id to what the order is held by."""
        self._emitted: deque[_Emitted] = deque()
        self._asking = False
        self._realised_e10 = self._numbered = 0

    def next_id(self) -> str:
        self._numbered += 1
        return str(self._ids_from + 2 * self._numbered)

    def key(self, key: str) -> str:
        """What an order is held by, from its order id or client id. Raises No(NOT_FOUND)."""
        key = self._keys.get(key, key)
        if key not in self.orders:
            raise No(Why.NOT_FOUND)
        return key

    @contextmanager
    def asking(self) -> Generator[None]:
        """What the exchange emits within comes to be known after it: behind the answer to what is asked."""
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    def _emit(self, event: Event) -> None:
        wallet = self.exchange.wallet
        self._emitted.append(_Emitted(event, to_e10(wallet.realised), wallet.balance_e10))
        if not self._asking:
            self.digest()

    def digest(self, *, changed: bool = False) -> None:
        """Turn what the exchange emitted into rows and pushes. A fill and its order's word are taken together.
        `changed`: an answer changed the account already."""
        emitted, moved = self._emitted, False
        while emitted:
            first = emitted[0].event
            if isinstance(first, Bill):
                self._bill(emitted.popleft())
                moved = True
            elif isinstance(first, Fill) or (isinstance(first, OrderUpdate) and self._is_of_a_fill(first)):
                if len(emitted) == 1:
                    return  # the other half is emitted next
                self._filled(emitted.popleft(), emitted.popleft())
                moved = True
            else:
                emitted.popleft()
                if isinstance(first, OrderUpdate) and self.take_in(first.client_id):
                    self.change(first.client_id, first)
            changed = True
        if changed:
            self._tell(AccountChanged(moved))

    def _is_of_a_fill(self, update: OrderUpdate) -> bool:
        row = self.orders.get(update.client_id)
        return row is not None and (update.cum_filled_lots or 0) > row.filled_lots

    def take_in(self, key: str, order_id: str = "") -> bool:
        """Make the row of an order that the exchange took in. False: it did not."""
        if key in self.orders:
            return True
        order = self.exchange.orders.get(key)
        if order is None:
            return False
        order_id = order_id or (key.removeprefix(OWN) if key.startswith(OWN) else self.next_id())
        self.orders[key] = OrderRow(
            order_id=order_id,
            client_id="" if key.startswith(OWN) else key,
            side=order.side,
            px_ticks=order.px_ticks,
            qty_lots=order.asked_lots,
            filled_lots=0,
            average_px="",
            fee_e10=0,
            status=OrderStatus.NEW,
            reason="",
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            ioc=order.ioc,
            created_ms=self._ms(order.arrived_ns),
            updated_ms=self._ms(order.arrived_ns),
        )
        self._keys[order_id] = key
        self._values[key] = 0
        if len(self.orders) > 2 * self._keep:
            self._forget()
        return True

    def _forget(self) -> None:
        ended = [key for key, row in self.orders.items() if row.status.is_terminal]
        for key in ended[: -self._keep]:
            del self._keys[self.orders.pop(key).order_id], self._values[key]

    def change(self, key: str, update: OrderUpdate, fill: FillRow | None = None) -> None:
        """An order's row after what the exchange said of it, told on."""
        row = self.orders[key]
        self.orders[key] = row = msgspec.structs.replace(
            row,
            px_ticks=row.px_ticks if update.px_ticks is None else update.px_ticks,
            qty_lots=row.qty_lots if update.qty_lots is None else update.qty_lots,
            status=update.status,
            reason=update.reason,
            updated_ms=self._ms(update.venue_ts_ns or 0),
        )
        self._tell(OrderPushed(row, fill))

    def _filled(self, first: _Emitted, second: _Emitted) -> None:
        fill, update = (first.event, second.event) if isinstance(first.event, Fill) else (second.event, first.event)
        assert isinstance(fill, Fill), fill
        assert isinstance(update, OrderUpdate), update
        key, at_ms = fill.client_id, self._ms(fill.venue_ts_ns or 0)
        self.take_in(key)
        row = self.orders[key]
        filled = FillRow(
            trade_id=fill.trade_id,
            order_id=row.order_id,
            client_id=row.client_id,
            side=fill.side,
            px_ticks=fill.px_ticks,
            qty_lots=fill.qty_lots,
            fee_e10=fill.fee_e10,
            liquidity=fill.liquidity,
            kind=fill.exec_kind,
            pnl_e10=first.realised_e10 - self._realised_e10,
            at_ms=at_ms,
        )
        self._realised_e10, self.moved_ms = first.realised_e10, at_ms
        self._values[key] += fill.px_ticks * fill.qty_lots
        filled_lots = row.filled_lots + fill.qty_lots
        self.orders[key] = msgspec.structs.replace(
            row,
            filled_lots=filled_lots,
            average_px=decimal_text(self._tick * self._values[key] / filled_lots),
            fee_e10=row.fee_e10 + fill.fee_e10,
        )
        self.fills.add(int(fill.trade_id), at_ms, filled)
        line = BillRow(
            bill_id=str(int(fill.trade_id) + 1),
            kind="trade",
            amount_e10=filled.pnl_e10,
            fee_e10=fill.fee_e10,
            balance_e10=first.balance_e10,
            at_ms=at_ms,
        )
        self.bills.add(int(line.bill_id), at_ms, line)
        if isinstance(first.event, Fill):
            self._tell(FillPushed(filled))
            self.change(key, update, filled)
        else:
            self.change(key, update, filled)
            self._tell(FillPushed(filled))

    def _bill(self, emitted: _Emitted) -> None:
        bill = emitted.event
        assert isinstance(bill, Bill), bill
        kind = _BILLS.get(bill.kind) or ("transfer_in" if bill.amount_e10 >= 0 else "transfer_out")
        at_ms = self._ms(bill.venue_ts_ns or 0)
        row = BillRow(
            bill_id=bill.bill_id,
            kind=kind,
            amount_e10=bill.amount_e10,
            fee_e10=0,
            balance_e10=emitted.balance_e10,
            at_ms=at_ms,
        )
        self.bills.add(int(bill.bill_id), at_ms, row)


def decimal_text(value: Decimal) -> str:
    """To ten digits behind the point."""
    return format(value.quantize(Decimal("1e-10")).normalize(), "f")
