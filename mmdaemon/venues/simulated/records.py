"""What the exchange keeps and says of orders: the order itself, what happened to it, and the record of it all."""

from dataclasses import dataclass

import msgspec

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import Bill, Fill, OrderUpdate, RequestFailed
from mmdaemon.core.types import Liquidity, OrderStatus, Side
from mmdaemon.venues.base import OrderReport
from mmdaemon.venues.simulated.wallet import Wallet


class VenueOrder(msgspec.Struct, eq=False):
    """One order as the venue keeps it. `asked_lots` = filled + remaining + cancelled, always."""

    client_id: str
    side: Side
    px_ticks: int
    """0 for a market order of the venue's own."""
    qty_lots: int
    """Total size now in force."""
    post_only: bool = False
    reduce_only: bool = False
    ioc: bool = False
    arrived_ns: int = 0
    asked_lots: int = 0
    """Total size as last asked for by us."""
    filled_lots: int = 0
    cancelled_lots: int = 0
    status: OrderStatus = OrderStatus.NEW
    reason: str = ""
    revision: int = 0
    number: int = 0
    """Time priority."""
    ahead_lots: int = 0
    seen_lots: int = 0
    traded_lots: int = 0
    """Printed at our price since `seen_lots` was displayed there."""

    @property
    def remaining_lots(self) -> int:
        return 0 if self.status.is_terminal else self.qty_lots - self.filled_lots


class Executed(msgspec.Struct, frozen=True):
    order: VenueOrder
    px_ticks: int
    qty_lots: int
    liquidity: Liquidity
    cum_filled_lots: int
    order_qty_lots: int
    done: bool


class Changed(msgspec.Struct, frozen=True):
    """An order was accepted, amended, cut, cancelled or refused; the numbers are those then in force."""

    order: VenueOrder
    status: OrderStatus
    px_ticks: int
    qty_lots: int
    cum_filled_lots: int
    revision: int
    reason: str


class Refused(msgspec.Struct, frozen=True):
    """An amend that did not take. The order lives on as it was."""

    order: VenueOrder
    reason: str


Happening = Executed | Changed | Refused


@dataclass(slots=True)
class Truth:
    """The venue's own record, for tests and reports. Live objects: read, do not write."""

    received: list[tuple[int, Command]]
    """Every request that came past the rate limit, by venue time; those refused afterwards too."""
    orders: dict[str, VenueOrder]
    """Every order it took in, ended ones included; an order refused at the door is not one."""
    fills: list[Fill]
    bills: list[Bill]
    wallet: Wallet
    position_lots: int


def changed(order: VenueOrder) -> Changed:
    return Changed(order, order.status, order.px_ticks, order.qty_lots, order.filled_lots, order.revision, order.reason)


def update(at_ns: int, what: Changed) -> OrderUpdate:
    """What the account is told of it, to be stamped on receipt."""
    numbers = what.cum_filled_lots, what.px_ticks or None, what.qty_lots, what.revision
    return OrderUpdate(0, 0, at_ns, what.order.client_id, what.status, *numbers, what.reason)


def refused(at_ns: int, command: Command, reason: str) -> OrderUpdate | RequestFailed:
    """The answer to a request of which nothing was done, to be stamped on receipt."""
    match command:
        case Place():
            return OrderUpdate(0, 0, at_ns, command.client_id, OrderStatus.REJECTED, 0, None, None, None, reason)
        case Amend():
            return RequestFailed(0, 0, at_ns, command.client_id, "amend", reason, command.revision)
        case Cancel():
            return RequestFailed(0, 0, at_ns, command.client_id, "cancel", reason)


def report(order: VenueOrder) -> OrderReport:
    """The answer to a question about it."""
    numbers = order.px_ticks, order.qty_lots, order.filled_lots
    return OrderReport(order.client_id, order.side, *numbers, order.status, order.reduce_only)
