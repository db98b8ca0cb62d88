"""The matching engine: our orders in somebody else's market. Synchronous, without a clock, integers only.

The market does not know us: what we take stays displayed until the next book (and is not taken twice before it), and
nobody reacts to us. Our own orders are never part of the displayed book. What fills a resting buy at price P (a sell
mirrors it), for each fill assumption, everything at P:

  event                                           THROUGH     QUEUE                           TOUCH
  a print below P, whoever took                   remainder   remainder                       remainder
  the best ask at or below P, in a book not locked –          remainder                       remainder
  a print at P, a seller took                     –           what it leaves behind the queue remainder
  a locked book (bid = ask), a print above P      –           –                               –

  * "Remainder" is the whole of it, even where the print was smaller: an assumption. Prints beyond our price say that
    the price went through us, not how much of it would have been ours.
  * An ask shown at P stands where our buy was: with ours there, whoever sent it would have sold to us, unless it was
    post-only. Such fills lose money (docs/HFTBACKTEST.md), so that leaving them out would flatter.
  * A print without an aggressor fills nobody at its own price. Who took is for the market's source to say, which knows
    how its prints and books were written down (`tapes.playing.by_quote_rule`); where it cannot tell, nor can we.
  * For one fixed list of orders the quantities filled order THROUGH <= QUEUE <= TOUCH.
  * A crossed or one-sided book is not matched against and not remembered.

Queue, on arrival: the displayed size at P; none where P improves the best or falls between displayed levels; unknown
where P is deeper than what is displayed. Unknown means that prints at P do not fill us until the level comes into
view, and then that all of it is ahead. `queueing.py` says how later books move us. Own orders at one price share a
print in time priority, so that their fills at their price never exceed the print (QUEUE).
"""

from bisect import insort
from collections.abc import Sequence
from enum import StrEnum

from mmdaemon.core.types import Liquidity, OrderStatus, Side
from mmdaemon.venues.simulated import rules
from mmdaemon.venues.simulated.queueing import QueueModel
from mmdaemon.venues.simulated.records import Changed, Executed, Happening, Refused, VenueOrder, changed

Levels = tuple[tuple[int, int], ...]
UNKNOWN_AHEAD = -1
NO_ASK = 1 << 62


class FillModel(StrEnum):
    THROUGH = "through"
    QUEUE = "queue"
    TOUCH = "touch"


class PostOnly(StrEnum):
    """What becomes of a post-only order that would take."""

    REJECT = "reject"
    CANCEL_LATER = "cancel_later"
    """Accepted, then cancelled on the stream, as Bitget does."""


_NOTHING: tuple[Happening, ...] = ()


def _priority(order: VenueOrder) -> tuple[int, int]:
    return -order.side * order.px_ticks, order.number


class Matching:
    """`on_book` and `on_trade` are the market; `place`, `amend` and `cancel` are orders that arrive now.

    Each returns what happened, in order; for a request the first happening is its answer. `position_lots` is the sum
    of our signed fills.
    """

    def __init__(
        self,
        model: FillModel = FillModel.QUEUE,
        queue: QueueModel | None = None,
        post_only: PostOnly = PostOnly.CANCEL_LATER,
    ) -> None:
        self.position_lots = 0
        self.open_buy_lots = 0
        self.open_sell_lots = 0
        self.bids: Levels = ()
        self.asks: Levels = ()
        self.books_ignored = 0
        self._model = model
        self._queue = queue or QueueModel()
        self._post_only = post_only
        self._buys: list[VenueOrder] = []
        self._sells: list[VenueOrder] = []
        self._top_buy = 0
        self._top_sell = NO_ASK
        self._taken: dict[int, int] = {}
        """Displayed lots that we took since the last book, by price."""
        self._numbers = 0
        self._reduce_only_orders = 0

    @property
    def live(self) -> list[VenueOrder]:
        """Resting orders in time priority."""
        return sorted(self._buys + self._sells, key=lambda order: order.number)

    # --- the market ---------------------------------------------------------------------------------------------------

    def on_book(self, bids: Levels, asks: Levels) -> Sequence[Happening]:
        if not bids or not asks or bids[0][0] > asks[0][0]:
            self.books_ignored += 1
            return _NOTHING
        self.bids, self.asks = bids, asks
        if self._taken:
            self._taken = {}
        if not self._buys and not self._sells:
            return _NOTHING
        out: Sequence[Happening] = _NOTHING
        best_bid, best_ask = bids[0][0], asks[0][0]
        if best_bid < best_ask and self._model is not FillModel.THROUGH:
            if best_ask <= self._top_buy:
                out = self._fill_beyond(self._buys, best_ask - 1)
            elif best_bid >= self._top_sell:
                out = self._fill_beyond(self._sells, best_bid + 1)
        if self._model is FillModel.QUEUE:
            if self._top_buy >= bids[-1][0]:
                self._move_up(self._buys, bids)
            if self._top_sell <= asks[-1][0]:
                self._move_up(self._sells, asks)
        return out

    def on_trade(self, px_ticks: int, qty_lots: int, aggressor: Side | None) -> Sequence[Happening]:
        if px_ticks <= self._top_buy:
            orders, taker = self._buys, Side.SELL
        elif px_ticks >= self._top_sell:
            orders, taker = self._sells, Side.BUY
        else:
            return _NOTHING
        out = self._fill_beyond(orders, px_ticks)
        if self._model is not FillModel.THROUGH and aggressor is taker:
            self._fill_at(orders, px_ticks, qty_lots, out)
        return out

    def _fill_beyond(self, orders: list[VenueOrder], px_ticks: int) -> list[Happening]:
        """The market is at `px_ticks`: whatever of ours is priced better than that was passed through."""
        out: list[Happening] = []
        for order in tuple(orders):
            if (order.px_ticks - px_ticks) * order.side <= 0:
                break
            if order.remaining_lots:  # not cut by a fill before it
                self._execute(order, order.px_ticks, order.remaining_lots, Liquidity.MAKER, out)
        return out

    def _fill_at(self, orders: list[VenueOrder], px_ticks: int, print_lots: int, out: list[Happening]) -> None:
        """A print at our price, taken from our side of the book."""
        ours = 0  # lots of this print that went to our own orders further ahead
        for order in tuple(orders):
            if (order.px_ticks - px_ticks) * order.side < 0:
                break
            remaining = order.remaining_lots
            if order.px_ticks != px_ticks or not remaining:
                continue
            if self._model is FillModel.TOUCH:
                self._execute(order, px_ticks, remaining, Liquidity.MAKER, out)
                continue
            order.traded_lots += print_lots
            if order.ahead_lots == UNKNOWN_AHEAD:
                continue
            reaches = print_lots - ours
            fill = min(max(reaches - order.ahead_lots, 0), remaining)
            order.ahead_lots = max(order.ahead_lots - reaches, 0)
            if fill:
                ours += fill
                self._execute(order, px_ticks, fill, Liquidity.MAKER, out)

    def _move_up(self, orders: list[VenueOrder], levels: Levels) -> None:
        displayed = dict(levels)
        worst = levels[-1][0]
        for order in orders:
            if (order.px_ticks - worst) * order.side < 0:
                break  # deeper than displayed: nothing is learnt of it
            lots = displayed.get(order.px_ticks, 0)
            if order.ahead_lots == UNKNOWN_AHEAD:
                order.ahead_lots = lots
            elif order.ahead_lots:
                order.ahead_lots = self._queue.ahead_after(order.ahead_lots, order.seen_lots, order.traded_lots, lots)
            order.seen_lots, order.traded_lots = lots, 0

    # --- orders -------------------------------------------------------------------------------------------------------

    def place(self, order: VenueOrder) -> list[Happening]:
        """A new order. Its first happening is LIVE or REJECTED; the order is kept only while it rests."""
        order.asked_lots = order.qty_lots
        refused = self._refusal(order, order.px_ticks)
        if not refused and order.reduce_only:
            room = self._room_to_reduce(order)
            if room <= 0:
                refused = rules.REDUCE_ONLY
            else:
                self._clip(order, room)
        if refused:
            return [self._end(order, OrderStatus.REJECTED, refused)]
        order.status = OrderStatus.LIVE
        out: list[Happening] = [changed(order)]
        self._enter(order, out)
        return out

    def amend(self, order: VenueOrder, revision: int, px_ticks: int, qty_lots: int) -> list[Happening]:
        """New price or total size of a resting order. A smaller size at the same price keeps its place."""
        if qty_lots <= order.filled_lots:
            return [Refused(order, rules.BELOW_FILLED)]
        same = px_ticks == order.px_ticks
        refused = "" if same else self._refusal(order, px_ticks)
        room = self._room_to_reduce(order) if order.reduce_only else qty_lots
        if refused or room <= 0:
            return [Refused(order, refused or rules.REDUCE_ONLY)]
        keeps_place = same and qty_lots <= order.qty_lots
        if not keeps_place:
            self._leave(order)
        else:
            self._count_open(order, order.filled_lots - order.qty_lots)
        order.revision, order.px_ticks = revision, px_ticks
        order.qty_lots = order.asked_lots = qty_lots
        order.cancelled_lots, order.reason = 0, ""
        if order.reduce_only:
            self._clip(order, room)
        out: list[Happening] = [changed(order)]
        if keeps_place:
            self._count_open(order, order.remaining_lots)
        else:
            self._enter(order, out)
        return out

    def cancel(self, order: VenueOrder, reason: str) -> list[Happening]:
        """Take a resting order out."""
        self._leave(order)
        return [self._end(order, OrderStatus.CANCELLED, reason)]

    def cancel_all(self, reason: str) -> list[Happening]:
        return [happening for order in self.live for happening in self.cancel(order, reason)]

    def take(self, order: VenueOrder) -> list[Happening]:
        """A market order of the venue's own, or by hand: takes what is displayed, whatever the price."""
        order.asked_lots = order.qty_lots
        order.status, order.ioc = OrderStatus.LIVE, True
        out: list[Happening] = [changed(order)]
        self._take(order, None, out)
        if order.remaining_lots:
            out.append(self._end(order, OrderStatus.CANCELLED, "ioc"))
        return out

    def settle(self, order: VenueOrder, px_ticks: int) -> list[Happening]:
        """Execute the whole of a market order of the venue's own at one price, book or no book (liquidation)."""
        order.asked_lots = order.qty_lots
        order.status = OrderStatus.LIVE
        out: list[Happening] = [changed(order)]
        self._execute(order, px_ticks, order.remaining_lots, Liquidity.TAKER, out)
        return out

    # --- the parts of the above ---------------------------------------------------------------------------------------

    def _refusal(self, order: VenueOrder, px_ticks: int) -> str:
        if (order.side is Side.BUY and px_ticks >= self._top_sell) or (
            order.side is Side.SELL and px_ticks <= self._top_buy
        ):
            return rules.SELF_CROSS
        if order.post_only and self._post_only is PostOnly.REJECT and self._would_take(order.side, px_ticks):
            return rules.POST_ONLY
        return ""

    def _would_take(self, side: Side, px_ticks: int) -> bool:
        levels = self.asks if side is Side.BUY else self.bids
        return bool(levels) and (px_ticks - levels[0][0]) * side >= 0

    def _room_to_reduce(self, order: VenueOrder) -> int:
        """Lots of the position that no other reduce-only order is there to close already."""
        others = self._sells if order.side is Side.SELL else self._buys
        claimed = sum(other.remaining_lots for other in others if other.reduce_only and other is not order)
        return -order.side * self.position_lots - claimed

    def _clip(self, order: VenueOrder, room: int) -> None:
        excess = order.qty_lots - order.filled_lots - room
        if excess > 0:
            order.qty_lots -= excess
            order.cancelled_lots += excess
            order.reason = rules.REDUCE_ONLY

    def _enter(self, order: VenueOrder, out: list[Happening]) -> None:
        """An accepted order meets the book: takes, then rests."""
        if order.post_only and self._would_take(order.side, order.px_ticks):
            out.append(self._end(order, OrderStatus.CANCELLED, rules.POST_ONLY))
            return
        if self._would_take(order.side, order.px_ticks):
            self._take(order, order.px_ticks, out)
        if not order.remaining_lots:
            return
        if order.ioc:
            out.append(self._end(order, OrderStatus.CANCELLED, "ioc"))
            return
        self._numbers += 1
        order.number = self._numbers
        self._join_queue(order)
        insort(self._buys if order.side is Side.BUY else self._sells, order, key=_priority)
        self._reduce_only_orders += order.reduce_only
        self._count_open(order, order.remaining_lots)
        self._find_tops()

    def _join_queue(self, order: VenueOrder) -> None:
        levels = self.bids if order.side is Side.BUY else self.asks
        order.seen_lots, order.traded_lots, order.ahead_lots = 0, 0, UNKNOWN_AHEAD
        for px_ticks, qty_lots in levels:
            beyond = (order.px_ticks - px_ticks) * order.side
            if beyond >= 0:
                order.seen_lots = order.ahead_lots = 0 if beyond else qty_lots
                break

    def _take(self, order: VenueOrder, limit_ticks: int | None, out: list[Happening]) -> None:
        for px_ticks, qty_lots in self.asks if order.side is Side.BUY else self.bids:
            if limit_ticks is not None and (limit_ticks - px_ticks) * order.side < 0:
                return
            fill = min(qty_lots - self._taken.get(px_ticks, 0), order.remaining_lots)
            if fill > 0:
                self._taken[px_ticks] = self._taken.get(px_ticks, 0) + fill
                self._execute(order, px_ticks, fill, Liquidity.TAKER, out)
            if not order.remaining_lots:
                return

    def _execute(
        self, order: VenueOrder, px_ticks: int, qty_lots: int, liquidity: Liquidity, out: list[Happening]
    ) -> None:
        order.filled_lots += qty_lots
        self.position_lots += order.side * qty_lots
        done = order.filled_lots == order.qty_lots
        if order.number:
            self._count_open(order, -qty_lots)
            if done:
                self._leave(order)
        order.status = OrderStatus.FILLED if done else OrderStatus.PARTIAL
        out.append(Executed(order, px_ticks, qty_lots, liquidity, order.filled_lots, order.qty_lots, done))
        if self._reduce_only_orders:
            self._cut_reduce_only(self._buys, -self.position_lots, out)
            self._cut_reduce_only(self._sells, self.position_lots, out)

    def _cut_reduce_only(self, orders: list[VenueOrder], room: int, out: list[Happening]) -> None:
        """The position changed: what reduce-only orders hold beyond it is cut, the youngest first."""
        reducing = sorted((order for order in orders if order.reduce_only), key=lambda order: -order.number)
        excess = sum(order.remaining_lots for order in reducing) - max(room, 0)
        for order in reducing:
            if excess <= 0:
                return
            cut = min(excess, order.remaining_lots)
            excess -= cut
            if cut == order.remaining_lots:
                out.extend(self.cancel(order, rules.REDUCE_ONLY))
            else:
                self._count_open(order, -cut)
                self._clip(order, order.remaining_lots - cut)
                out.append(changed(order))

    def _end(self, order: VenueOrder, status: OrderStatus, reason: str) -> Changed:
        order.cancelled_lots += order.qty_lots - order.filled_lots
        order.status, order.reason = status, reason
        return changed(order)

    def _leave(self, order: VenueOrder) -> None:
        (self._buys if order.side is Side.BUY else self._sells).remove(order)
        self._reduce_only_orders -= order.reduce_only
        self._count_open(order, order.filled_lots - order.qty_lots)
        order.number = 0
        self._find_tops()

    def _count_open(self, order: VenueOrder, lots: int) -> None:
        if order.side is Side.BUY:
            self.open_buy_lots += lots
        else:
            self.open_sell_lots += lots

    def _find_tops(self) -> None:
        self._top_buy = self._buys[0].px_ticks if self._buys else 0
        self._top_sell = self._sells[0].px_ticks if self._sells else NO_ASK
