"""Bitget's pushes, of either API, to facts: the order book, trades, mark and funding; our orders and fills.

`Streams.on_frame` is called with each frame as it comes off a socket, before ccxt sees it, and is synchronous: nothing
is conflated and no wake-up is lost. What is ours stops here; the rest (acknowledgements, logins, pongs, errors, other
channels) goes on to ccxt. Nothing that a venue can send makes it raise.

What cannot be read is told as refused, by a reason of ours, and never guessed at:
    a book frame    there is no book from then on (`book_lost`), until a snapshot
    other market    `MarketDataRefused`
    a private one   `refused`: it may have been a fill, so what it said has to be read
A frame of another symbol or product changes nothing. Rows of other symbols on a private channel are not ours to judge.
"""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from mmdaemon.core import events
from mmdaemon.core.book import FUTURE_NS
from mmdaemon.core.events import BookUpdate, Event, FundingRate, MarketDataRefused, MarkPrice, TradePrint
from mmdaemon.core.figures import is_interval_s, is_rate
from mmdaemon.core.types import NS, ExecKind, OrderStatus, Side
from mmdaemon.venues.bitget.charges import Line, charged_e10
from mmdaemon.venues.bitget.frames import (
    PRIVATE,
    SHAPES,
    UNREADABLE,
    ApiName,
    Arg,
    Book,
    Fill,
    Frame,
    Number,
    Order,
    book_place,
    frame,
)
from mmdaemon.venues.bitget.holdings import Holdings
from mmdaemon.venues.bitget.words import ID, LIQUIDITIES, SIDES, STATUSES, cancel_reason, exec_kind, known_as
from mmdaemon.venues.codec import Malformed, Scale, milliseconds_ns, number
from mmdaemon.venues.wire_book import WireBook

FRAME_MAX: Final = 1 << 20
"""Characters. A whole book of 1,000 levels a side has some 60,000."""
FUNDING_EVERY_NS: Final = 10 * NS
"""A rate that did not change is told again this often."""
_REMEMBERED: Final = 4_096


class OrderPush(msgspec.Struct, frozen=True, gc=False):
    """What the private stream says of one of our symbol's orders. Which revision is in force it does not say."""

    mono_ns: int
    ts_ns: int
    venue_ts_ns: int | None
    client_id: str
    """Ours, or another's; `venue:` and the venue's own where there is none."""
    order_id: str
    side: Side
    status: OrderStatus
    cum_filled_lots: int
    px_ticks: int | None
    """None of a market order."""
    qty_lots: int
    reason: str


class Hear(Protocol):
    """Who is told. Called within `on_frame`; must not raise."""

    def event(self, fact: Event) -> None: ...
    def order(self, push: OrderPush) -> None: ...
    def book_lost(self, why: str) -> None:
        """Nothing is told of the book until `book_back`; a new snapshot must be asked for."""
        ...

    def book_back(self) -> None:
        """Its first update follows."""
        ...

    def refused(self, kind: str, reason: str) -> None:
        """A private push ("orders", "fills", "positions", "account", or "" where even that is unknown) could not be
        read."""
        ...


class Streams:
    """The public and the private stream of one symbol."""

    def __init__(
        self,
        api: ApiName,
        symbol: str,
        scale: Scale,
        now: Callable[[], tuple[int, int]],
        hear: Hear,
        depth: int = 10,
        checksum: bool = True,
        fees_in: set[str] | None = None,
    ) -> None:
        """`now` gives (mono_ns, ts_ns); `depth` levels a side are told; `checksum`: verify those that are sent;
        `fees_in` takes the names of what fees were paid in beside the quote currency."""
        quote = scale.instrument.quote
        self._shapes = SHAPES[api]
        self._symbol, self._scale, self._now, self._hear, self._depth = symbol, scale, now, hear, depth
        self._products = frozenset({f"{quote}-FUTURES", f"{quote}-futures".lower()})
        self._fees_in = set[str]() if fees_in is None else fees_in
        self._book = WireBook(scale, checksum=checksum)
        self._interval_s = self._funding_told_ns = self._ticker_ts_ns = 0
        self._funding: tuple[float, int] | None = None
        self._is_first_trades = True
        self._trades: dict[str, None] = {}
        """Ids of the last prints that were told, oldest first."""
        self._holdings = Holdings(self._shapes, scale)
        self._client_ids: dict[str, str] = {}
        """By the venue's own: the classic fill channel has not always said ours."""
        self._takes: dict[str, Callable[[Frame, int, int], None]] = {
            "books": self._on_books,
            "trades": self._on_trades,
            "ticker": self._on_ticker,
            "orders": self._on_orders,
            "fills": self._on_fills,
            "positions": self._on_holdings,
            "account": self._on_holdings,
        }

    def set_interval_s(self, interval_s: int) -> None:
        """Time between two settlements of funding, which the stream does not say; until then no rate is told."""
        if not is_interval_s(interval_s):
            raise ValueError(f"a funding interval of {interval_s!r} s")
        self._interval_s = interval_s

    def learn(self, order_id: str, client_id: str) -> None:
        """Which of our orders the venue's id is, from the answer to placing it."""
        self._client_ids[order_id] = client_id
        if len(self._client_ids) > _REMEMBERED:
            del self._client_ids[next(iter(self._client_ids))]

    def reset_public(self) -> None:
        """A new connection: the book is gone until a snapshot of it, and its first trades are history."""
        self._book.lose()
        self._is_first_trades = True

    def reset_private(self) -> None:
        """A new connection. Nothing is kept but what stays true: which order has which id."""
        self._holdings.forget()

    def on_frame(self, data: str | bytes, private: bool | None = None) -> bool:
        """Whether it was ours and is done with. `private`: which stream it came from; None puts both in doubt."""
        if len(data) > FRAME_MAX:
            return self._unreadable("huge", private)
        if not private and self._is_book(data):
            return True
        try:
            push = frame(data)
        except UNREADABLE:
            if data in ("pong", "ping", b"pong", b"ping"):
                return False
            return self._unreadable("malformed", private)
        arg = push.arg
        if arg is None or push.event is not None:
            return False
        kind = self._shapes.kinds.get(arg.channel or arg.topic)
        if kind is None:
            return False
        mono_ns, ts_ns = self._now()
        if why := self._of_another(kind, arg):
            self._hear.event(MarketDataRefused(mono_ns, ts_ns, None, why))
        else:
            self._takes[kind](push, mono_ns, ts_ns)
        return True

    def _is_book(self, data: str | bytes) -> bool:
        """What most frames are: one change of our book, read in one pass. All that is not just so goes the long way."""
        try:
            push = self._shapes.book_frame(data)
        except UNREADABLE:
            return False
        arg, is_snapshot = push.arg, push.action == "snapshot"
        is_ours = arg.inst_type in self._products and (arg.inst_id or arg.symbol) == self._symbol
        if not is_ours or len(push.data) != 1 or not (is_snapshot or push.action == "update"):
            return False
        self._on_book(push.data[0], *self._now(), is_snapshot=is_snapshot)
        return True

    def _of_another(self, kind: str, arg: Arg) -> str:
        if kind in PRIVATE:
            of_us = self._shapes.private_type or self._products
            return "" if arg.inst_type in of_us else "wrong_product"
        if arg.inst_type not in self._products:
            return "wrong_product"
        return "" if (arg.inst_id or arg.symbol) == self._symbol else "wrong_symbol"

    def _unreadable(self, why: str, private: bool | None) -> bool:
        """It may have been anything, the frame of a book or a fill."""
        if not private:
            self._lose_book(why, *self._now())
        if private is not False:
            self._hear.refused("", why)
        return True

    # --- market -------------------------------------------------------------------------------------------------------

    def _on_books(self, push: Frame, mono_ns: int, ts_ns: int) -> None:
        rows, bad = self._shapes.books.read(push.data)
        is_snapshot = push.action == "snapshot"
        if bad or len(rows) != 1 or not (is_snapshot or push.action == "update"):
            self._lose_book("malformed", mono_ns, ts_ns, is_snapshot=is_snapshot)
        else:
            self._on_book(rows[0], mono_ns, ts_ns, is_snapshot=is_snapshot)

    def _on_book(self, row: Book, mono_ns: int, ts_ns: int, *, is_snapshot: bool) -> None:
        book = self._book
        try:
            at_ns, seq, pseq = book_place(row, ts_ns + FUTURE_NS)
        except Malformed as error:
            self._lose_book(str(error), mono_ns, ts_ns, is_snapshot=is_snapshot)
            return
        was_good = book.is_good
        if is_snapshot:
            why = book.on_snapshot(row.bids, row.asks, seq=seq, checksum=row.checksum, ts_ns=at_ns)
        else:
            why = book.on_change(row.bids, row.asks, pseq=pseq, seq=seq, checksum=row.checksum, ts_ns=at_ns)
        if not why:
            if not was_good:
                self._hear.book_back()
            self._hear.event(BookUpdate(mono_ns, ts_ns, at_ns, *book.top(self._depth)))
        elif book.is_good or not (was_good or is_snapshot):
            self._hear.event(MarketDataRefused(mono_ns, ts_ns, at_ns, why))
        else:
            self._hear.book_lost(why)

    def _lose_book(self, why: str, mono_ns: int, ts_ns: int, *, is_snapshot: bool = False) -> None:
        """`is_snapshot`: the one that was waited for will not come, so that another must be asked for."""
        was_good = self._book.is_good
        self._book.lose()
        if was_good or is_snapshot:
            self._hear.book_lost(why)
        else:
            self._hear.event(MarketDataRefused(mono_ns, ts_ns, None, why))

    def _on_trades(self, push: Frame, mono_ns: int, ts_ns: int) -> None:
        rows, bad = self._shapes.trades.read(push.data)
        reasons = {"malformed"} if bad else set[str]()
        is_history, self._is_first_trades = self._is_first_trades and push.action == "snapshot", False
        told = self._trades
        prints: list[TradePrint] = []
        for row in reversed(rows):  # newest first on the wire
            if row.trade_id in told:
                continue
            try:
                at_ns = milliseconds_ns(row.ts)
                px_ticks, qty_lots = self._scale.px_ticks(row.price), self._scale.qty_lots(row.size)
                side = SIDES.get(row.side.lower())
                if side is None or not qty_lots or ID.fullmatch(row.trade_id) is None:
                    raise Malformed("bad_trade")
            except Malformed as error:
                reasons.add(str(error))
                continue
            told[row.trade_id] = None
            if len(told) > _REMEMBERED:
                del told[next(iter(told))]
            prints.append(TradePrint(mono_ns, ts_ns, at_ns, px_ticks, qty_lots, side))
        if not is_history:
            prints.sort(key=lambda each: each.venue_ts_ns or 0)
            for each in prints:
                self._hear.event(each)
        for reason in sorted(reasons):
            self._hear.event(MarketDataRefused(mono_ns, ts_ns, None, reason))

    def _on_ticker(self, push: Frame, mono_ns: int, ts_ns: int) -> None:
        rows, bad = self._shapes.tickers.read(push.data)
        try:
            if bad or len(rows) != 1:
                raise Malformed("malformed")
            row = rows[0]
            if row.inst_id not in ("", self._symbol):
                raise Malformed("wrong_symbol")
            at_ns = milliseconds_ns(push.ts if row.ts is None else row.ts)
            if at_ns > ts_ns + FUTURE_NS:
                raise Malformed("future")
            if at_ns < self._ticker_ts_ns:
                raise Malformed("stale")
            self._ticker_ts_ns = at_ns
            mark = MarkPrice(mono_ns, ts_ns, at_ns, self._scale.near_px_ticks(row.mark_price))
        except Malformed as error:
            self._hear.event(MarketDataRefused(mono_ns, ts_ns, None, str(error)))
            return
        self._hear.event(mark)
        if not self._interval_s:
            return
        try:
            rate, next_ns = float(number(row.funding_rate)), milliseconds_ns(row.next_funding)
            if not is_rate(rate):
                raise Malformed("bad_rate")
        except Malformed as error:
            self._hear.event(MarketDataRefused(mono_ns, ts_ns, at_ns, str(error)))
            return
        if (rate, next_ns) != self._funding or mono_ns - self._funding_told_ns >= FUNDING_EVERY_NS:
            self._funding, self._funding_told_ns = (rate, next_ns), mono_ns
            self._hear.event(FundingRate(mono_ns, ts_ns, at_ns, rate, next_ns, self._interval_s))

    # --- ours ---------------------------------------------------------------------------------------------------------

    def _on_holdings(self, push: Frame, mono_ns: int, ts_ns: int) -> None:
        arg = push.arg
        assert arg is not None
        kind = self._shapes.kinds[arg.channel or arg.topic]
        try:
            hint = self._holdings.hint(kind, push, mono_ns, ts_ns)
        except Malformed as error:
            self._hear.refused(kind, str(error))
        else:
            if hint is not None:
                self._hear.event(hint)

    def _is_ours(self, row: Order | Fill) -> bool:
        return row.symbol == self._symbol and (not self._shapes.private_type or row.category in self._products)

    def _on_orders(self, push: Frame, mono_ns: int, ts_ns: int) -> None:
        rows, bad = self._shapes.orders.read(push.data)
        reasons = {"malformed"} if bad else set[str]()
        for row in rows:
            if not self._is_ours(row):
                continue
            try:
                order = self._order(row, push.ts, mono_ns, ts_ns)
            except Malformed as error:
                reasons.add(str(error))
            else:
                self._hear.order(order)
        for reason in sorted(reasons):
            self._hear.refused("orders", reason)

    def _order(self, row: Order, frame_ts: Number | None, mono_ns: int, ts_ns: int) -> OrderPush:
        client_id = known_as(row.client_id, row.order_id)
        status, side = STATUSES.get(row.status), SIDES.get(row.side)
        if status is None or side is None:
            raise Malformed("bad_side" if status else "unknown_status")
        qty_lots, filled_lots = self._scale.qty_lots(row.size), self._scale.qty_lots(row.filled)
        if not qty_lots or filled_lots > qty_lots:
            raise Malformed("overfilled" if qty_lots else "no_size")
        if not status.is_terminal:
            status = OrderStatus.PARTIAL if filled_lots else OrderStatus.LIVE
        is_priced = row.price and row.price.strip("0.")
        px_ticks = self._scale.px_ticks(row.price) if is_priced else None
        at = frame_ts if row.updated is None else row.updated
        reason = cancel_reason(row.cancel_reason) if status is OrderStatus.CANCELLED else ""
        at_ns = None if at is None else milliseconds_ns(at)
        self.learn(row.order_id, client_id)
        return OrderPush(
            mono_ns, ts_ns, at_ns, client_id, row.order_id, side, status, filled_lots, px_ticks, qty_lots, reason
        )

    def _on_fills(self, push: Frame, mono_ns: int, ts_ns: int) -> None:
        rows, bad = self._shapes.fills.read(push.data)
        reasons = {"malformed"} if bad else set[str]()
        for row in rows:
            if not self._is_ours(row):
                continue
            try:
                fill = self._fill(row, mono_ns, ts_ns)
            except Malformed as error:
                reasons.add(str(error))
            else:
                self._hear.event(fill)
        for reason in sorted(reasons):
            self._hear.refused("fills", reason)

    def _fill(self, row: Fill, mono_ns: int, ts_ns: int) -> events.Fill:
        if ID.fullmatch(row.trade_id) is None:
            raise Malformed("bad_id")
        side, liquidity = SIDES.get(row.side), LIQUIDITIES.get(row.scope)
        if side is None or liquidity is None:
            raise Malformed("bad_side" if liquidity else "bad_scope")
        kind = exec_kind(row.trade_side, row.exec_type)
        px_ticks, qty_lots = self._scale.px_ticks(row.price), self._scale.qty_lots(row.size)
        if not qty_lots:
            raise Malformed("no_size")
        client_id = row.client_id or self._client_ids.get(row.order_id)
        if not client_id and kind is ExecKind.TRADE:
            raise Malformed("unknown_order")
        return events.Fill(
            mono_ns,
            ts_ns,
            milliseconds_ns(row.created if row.at is None else row.at),
            row.trade_id,
            known_as(client_id, row.order_id),
            side,
            px_ticks,
            qty_lots,
            charged_e10(self._scale, px_ticks, self._lines(row), self._fees_in),
            liquidity,
            kind,
        )

    def _lines(self, row: Fill) -> list[Line]:
        sign = self._shapes.fee_sign
        return [(fee.coin, sign * number(fee.fee), fee.deduction) for fee in row.fees]
