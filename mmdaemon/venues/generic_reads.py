"""What ccxt's unified structures say, as facts. A number that is not there, or is no whole tick or lot, is no number:
the read fails and names the field.

ccxt gives floats. Each is taken as the shortest decimal that it stands for, which is what the exchange wrote as long as
that had fifteen digits.
"""

import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, cast

from mmdaemon.core.events import BarClosed, BookUpdate, Fill, OrderUpdate, TradePrint
from mmdaemon.core.types import E10, NS, ExecKind, Instrument, Liquidity, OrderStatus, Side
from mmdaemon.venues.base import OrderReport, VenueUnavailable
from mmdaemon.venues.bitget.reading import Position
from mmdaemon.venues.bitget.words import ID
from mmdaemon.venues.codec import Malformed, Scale, milliseconds_ns, money_e10, number
from mmdaemon.venues.differences import Row
from mmdaemon.venues.generic_calls import BY_VENUE, Names

PAGE: Final = 100
_SPAN_MS: Final = 6 * 86_400_000
"""Less than any exchange's longest window (Bitget's is a week)."""
_SIDES: Final[Mapping[str, Side]] = {"buy": Side.BUY, "sell": Side.SELL}
_STATUSES: Final[Mapping[str, OrderStatus]] = {
    "open": OrderStatus.LIVE,
    "closed": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELLED,
    "expired": OrderStatus.CANCELLED,
    "rejected": OrderStatus.REJECTED,
}
Told = Mapping[str, Any]


def text(value: object) -> str:
    """A number of ccxt's as plain digits. Raises Malformed: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Malformed("not_a_number")
    if isinstance(value, float) and not math.isfinite(value):
        raise Malformed("not_a_number")
    try:
        return format(Decimal(repr(value) if isinstance(value, float) else value), "f")
    except ArithmeticError:
        raise Malformed("not_a_number") from None


def instrument_of(market: Told, place: str) -> tuple[Instrument, Decimal]:
    """The contract in our units, and how much base one contract is. Raises VenueUnavailable."""
    try:
        contract = number(text(market["contractSize"]))
        steps, limits = market["precision"], market["limits"]
        lot = number(text(steps["amount"])) * contract
        least, most = limits["amount"].get("min"), limits["amount"].get("max")
        cost = limits["cost"].get("min")
        return (
            Instrument.of(
                venue=place,
                symbol=market["id"],
                quote=market["quote"],
                tick_e10=int(number(text(steps["price"])) * E10),
                lot_e10=int(lot * E10),
                min_qty_lots=max(1, math.ceil(number(text(least)) * contract / lot)) if least else 1,
                **({"max_qty_lots": int(number(text(most)) * contract / lot)} if most else {}),
                min_notional_e10=money_e10(text(cost)) if cost else 0,
            ),
            contract,
        )
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise VenueUnavailable(f"the contract's rules cannot be read: {type(error).__name__}: {error}") from None


class Units:
    """ccxt's prices and amounts (in contracts) to ticks and lots, of one contract. All raise Malformed."""

    def __init__(self, row: Row, account: str, instrument: Instrument, contract: Decimal, names: Names) -> None:
        self.row, self.instrument, self.scale, self.names = row, instrument, Scale(instrument), names
        self.contract = contract
        self._fee_sign = -1 if account in row.inverted_fees else 1

    def lots(self, amount: object) -> int:
        return self.scale.qty_lots(format(number(text(amount)) * self.contract, "f"))

    def px(self, price: object) -> int:
        return self.scale.px_ticks(text(price))

    def near_px(self, price: object) -> int:
        return self.scale.near_px_ticks(text(price))

    def at_ns(self, told: Told) -> int:
        return milliseconds_ns(told.get("timestamp"))

    def book(self, now: tuple[int, int], told: Told, depth: int) -> BookUpdate:
        """Raises Malformed: it is empty, crossed, or has no time."""

        def side(levels: Sequence[Sequence[object]]) -> tuple[tuple[int, int], ...]:
            both = ((self.px(level[0]), self.lots(level[1])) for level in levels[:depth])
            return tuple(level for level in both if level[1])

        bids, asks = side(told["bids"]), side(told["asks"])
        if not bids or not asks:
            raise Malformed("one_sided")
        if bids[0][0] > asks[0][0]:
            raise Malformed("crossed")
        at = told.get("timestamp")
        return BookUpdate(*now, milliseconds_ns(at) if at else None, bids, asks)

    def trade(self, now: tuple[int, int], told: Told) -> TradePrint:
        lots = self.lots(told["amount"])
        if not lots:
            raise Malformed("no_size")
        return TradePrint(*now, self.at_ns(told), self.px(told["price"]), lots, _SIDES.get(str(told.get("side"))))

    # --- ours ---------------------------------------------------------------------------------------------------------

    def named(self, told: Told) -> str:
        """The order by our id, else by the exchange's."""
        wire, order_id = told.get("clientOrderId"), str(told["id"])
        client_id = self.row.from_wire(str(wire)) if wire else self.names.ours(order_id)
        if client_id and ID.fullmatch(client_id):
            return client_id
        if ID.fullmatch(order_id) is None:
            raise Malformed("bad_id")
        return BY_VENUE + order_id

    def report(self, told: Told) -> OrderReport:
        side, status = _SIDES.get(str(told.get("side"))), _STATUSES.get(str(told.get("status")))
        if side is None or status is None:
            raise Malformed("unknown_word")
        # `filled` is the last fill alone on Bitget's stream; what remains is right on all.
        qty_lots = self.lots(told["amount"])
        filled_lots = qty_lots - self.lots(told["remaining"])
        if not qty_lots or not 0 <= filled_lots <= qty_lots:
            raise Malformed("overfilled")
        if not status.is_terminal and filled_lots:
            status = OrderStatus.PARTIAL
        if status is OrderStatus.FILLED and filled_lots < qty_lots:
            status = OrderStatus.CANCELLED
        client_id = self.named(told)
        self.names.learn(client_id, str(told["id"]), side)
        price = told.get("price")
        px_ticks = self.px(price) if price else 1
        return OrderReport(client_id, side, px_ticks, qty_lots, filled_lots, status, bool(told.get("reduceOnly")))

    def fill(self, now: tuple[int, int], told: Told, client_id: str) -> Fill:
        """The side of the account; liquidations are not told apart by ccxt."""
        side, maker = _SIDES.get(str(told.get("side"))), str(told.get("takerOrMaker"))
        trade_id, lots = str(told.get("id")), self.lots(told["amount"])
        if side is None or maker not in {"maker", "taker"} or ID.fullmatch(trade_id) is None or not lots:
            raise Malformed("bad_fill")
        fees = cast("Sequence[Told]", told.get("fees") or ([told["fee"]] if told.get("fee") else []))
        if not fees:
            raise Malformed("no_fee")
        charged_e10 = 0
        for fee in fees:
            if fee.get("currency") != self.instrument.quote:
                raise Malformed("fee_coin")
            charged_e10 += self._fee_sign * money_e10(text(fee.get("cost")))
        px_ticks = self.px(told["price"])
        liquidity, at_ns = Liquidity(maker), self.at_ns(told)
        return Fill(*now, at_ns, trade_id, client_id, side, px_ticks, lots, charged_e10, liquidity, ExecKind.TRADE)

    def position(self, told: Told) -> Position | None:
        lots = self.lots(told["contracts"])
        if not lots:
            return None
        held = {"long": 1, "short": -1}.get(str(told.get("side")))
        if held is None:
            raise Malformed("bad_side")
        return Position(held * lots, number(text(told["entryPrice"])))

    def bar(self, row: Sequence[Any]) -> BarClosed:
        open_ns = milliseconds_ns(int(row[0]))
        prices = [self.px(each) for each in row[1:5]]
        lots = int(number(text(row[5])) * self.contract / self.scale.lot)
        return BarClosed(0, 0, open_ns + 60 * NS, open_ns, prices[0], prices[1], prices[2], prices[3], lots, "venue")


def wallet_e10(row: Row, balance: Told, coin: str) -> int:
    """The balance with everything realised in it. Raises Malformed, LookupError: it is not there."""
    total = number(text(balance[coin]["total"]))
    realised, unrealised = row.wallet
    nothing: Told = {}
    beside = next(_beside(balance["info"], coin), nothing) if realised else nothing
    if realised in beside:
        total = number(text(beside[realised])) - abs(number(text(beside.get("debt") or "0")))
    elif unrealised in beside:
        total -= number(text(beside[unrealised]))
    return money_e10(format(total, "f"))


def _beside(info: object, coin: str, depth: int = 4) -> Iterator[Told]:
    """The exchange's own row of a coin, wherever it stands."""
    if isinstance(info, dict):
        one = cast("dict[str, Any]", info)
        if coin in (one.get("marginCoin"), one.get("coin")):
            yield one
        info = list(one.values())
    if isinstance(info, list) and depth:
        for each in cast("list[object]", info):
            yield from _beside(each, coin, depth - 1)


async def every(page: Callable[[int, int], Awaitable[Sequence[Told]]], since_ms: int, until_ms: int) -> dict[str, Told]:
    """All rows of a span by id. A full page is halved, whichever end the exchange begins at.

    Raises:
        VenueUnavailable: a full page cannot be halved any more, or a row has no id.
    """
    found: dict[str, Told] = {}
    spans = [
        (first, min(first + _SPAN_MS, until_ms)) for first in range(since_ms, max(until_ms, since_ms + 1), _SPAN_MS)
    ]
    while spans:
        first, last = spans.pop()
        rows = await page(first, last)
        if len(rows) < PAGE:
            for told in rows:
                if not told.get("id"):
                    raise VenueUnavailable("a row of the history has no id")
                found[str(told["id"])] = told
        elif last - first <= 1:
            raise VenueUnavailable(f"more than {PAGE} rows within a millisecond: they cannot be paged")
        else:
            middle = (first + last) // 2
            spans += [(first, middle), (middle, last)]
    return found


def update_of(report: OrderReport, now: tuple[int, int], at: object) -> OrderUpdate:
    """What a stream's row amounts to; its revision is for the outbox to say."""
    at_ns = milliseconds_ns(at) if at else None
    reason = "cancelled" if report.status is OrderStatus.CANCELLED else ""
    told = (report.client_id, report.status, report.cum_filled_lots, report.px_ticks, report.qty_lots)
    return OrderUpdate(*now, at_ns, *told, None, reason)
