"""The channels: the market as differences and snapshots, and what happens to the account.

book       one state for all who listen, published at most once an interval: the first frame of a connection is a
           snapshot of what was published last, each further one the difference to it, linked by `pseq`
trades     a snapshot of recent ones first; newest first in each frame
ticker     at most once an interval
private    as it happens, after `push_delay_s`; never again for a connection that comes later
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from zlib import crc32

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.events import BookUpdate, Event, FundingRate, MarkPrice, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.venues.codec import Scale
from mmdaemon.venues.emulator.account import Account
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.connection import Connection
from mmdaemon.venues.emulator.dialect import BookFrame, Channel, Dialect, Json, TickerRow, TradeRow
from mmdaemon.venues.emulator.record import AccountChanged, FillPushed, OrderPushed, Pushed
from mmdaemon.venues.emulator.rows import No

Levels = Sequence[tuple[int, int]]
CHECKSUM_LEVELS: Final = 25
_DEPTHS: Final = {"books1": 1, "books5": 5, "books15": 15, "books50": 50}
_FIRST_SEQ: Final = 1_000_000
_RECENT: Final = 100
_MS: Final = 1_000_000


def checksum(bids: Levels, asks: Levels, scale: Scale) -> int:
    """Signed CRC-32 of `bid1 px:bid1 size:ask1 px:ask1 size:bid2 px:...`: 25 levels, each side as long as it lasts."""
    parts: list[str] = []
    for at in range(CHECKSUM_LEVELS):
        for side in (bids, asks):
            if at < len(side):
                px_ticks, qty_lots = side[at]
                parts += scale.px_text(px_ticks), scale.qty_text(qty_lots)
    unsigned = crc32(":".join(parts).encode())
    return unsigned - (1 << 32) if unsigned >> 31 else unsigned


def difference(before: Mapping[int, int], now: Mapping[int, int]) -> list[tuple[int, int]]:
    """Levels that changed, with their new size; 0 is gone."""
    changed = [(px, lots) for px, lots in now.items() if before.get(px) != lots]
    changed += [(px, 0) for px in before if px not in now]
    return changed


class Streams:
    """Makes frames for each connection that listens."""

    def __init__(
        self, account: Callable[[], Account], clock: Clock, config: EmulatorConfig, connections: Iterable[Connection]
    ) -> None:
        self._account, self._clock, self._config, self._connections = account, clock, config, connections
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        """The book as last published, best first."""
        self._latest: BookUpdate | None = None
        self._seq = 0
        self._first_seq = _FIRST_SEQ
        self._book_timer: Timer | None = None
        self._book_next_ns = 0
        self._ticker_timer: Timer | None = None
        self._ticker_next_ns = 0
        self._prints: deque[TradeRow] = deque(maxlen=_RECENT)
        self._new_prints: list[TradeRow] = []
        self._printed = clock.wall_ns() // _MS * 1_000_000

    def restart(self) -> None:
        """The sequence begins anew. Whoever listens must be cut off."""
        self._seq, self._first_seq = 0, 1

    def close(self) -> None:
        for timer in (self._book_timer, self._ticker_timer):
            if timer is not None:
                timer.cancel()

    # --- the market ---------------------------------------------------------------------------------------------------

    def on_market(self, event: Event) -> None:
        now = self._clock.mono_ns()
        if isinstance(event, BookUpdate):
            self._latest = event
            if now >= self._book_next_ns and self._book_timer is None:
                self._publish_book()
            elif self._book_timer is None:
                self._book_timer = self._clock.call_at(self._book_next_ns, self._publish_book)
            self._ticker_due(now)
        elif isinstance(event, TradePrint):
            self._print(event)
        elif isinstance(event, MarkPrice | FundingRate):
            self._ticker_due(now)

    def _publish_book(self) -> None:
        self._book_timer = None
        book = self._latest
        if book is None:
            return
        self._book_next_ns = self._clock.mono_ns() + round(self._config.book_interval_s * NS)
        bids, asks = dict(book.bids), dict(book.asks)
        changed_bids, changed_asks = difference(self._bids, bids), difference(self._asks, asks)
        if not (changed_bids or changed_asks) and self._seq:
            return
        pseq = self._seq
        self._seq = self._seq + 1 + (len(changed_bids) + len(changed_asks)) % 3 if pseq else self._first_seq
        self._bids, self._asks = bids, asks
        if pseq:
            changed_bids.sort(reverse=True)
            changed_asks.sort()
            self._to_all("books", self._book_frame(changed_bids, changed_asks, pseq))
        else:
            self._to_all("books", self._book_frame(book.bids, book.asks, 0))
        for kind, depth in _DEPTHS.items():
            if any(kind in connection.channels for connection in self._connections):
                self._to_all(kind, self._book_frame(book.bids[:depth], book.asks[:depth], 0))

    def _book_frame(self, bids: Levels, asks: Levels, pseq: int) -> Callable[[Dialect, Channel], Json]:
        account, book = self._account(), self._latest
        assert book is not None
        sum_of = None
        if self._config.checksum:
            sum_of = checksum([*self._bids.items()], [*self._asks.items()], account.scale)
        at_ms = (book.venue_ts_ns or book.ts_ns) // _MS + account.skew_ms
        frame = BookFrame(not pseq, bids, asks, self._seq, pseq, sum_of, at_ms)
        return lambda dialect, channel: dialect.book(account, channel, frame)

    def _print(self, event: TradePrint) -> None:
        side = event.aggressor
        if side is None:  # the feed must say one: by the quote rule
            bid, ask = next(iter(self._bids), 0), next(iter(self._asks), 0)
            side = Side.BUY if 2 * event.px_ticks >= bid + ask else Side.SELL
        self._printed += 1
        at_ms = (event.venue_ts_ns or event.ts_ns) // _MS + self._account().skew_ms
        if not self._new_prints:
            self._clock.call_at(self._clock.mono_ns(), self._publish_prints)
        self._new_prints.append(TradeRow(str(self._printed), event.px_ticks, event.qty_lots, side, at_ms))

    def _publish_prints(self) -> None:
        rows, self._new_prints = self._new_prints, []
        self._prints.extend(rows)
        account = self._account()
        rows.reverse()
        self._to_all("trades", lambda dialect, channel: dialect.trades(account, channel, rows, snapshot=False))

    def _ticker_due(self, now_ns: int) -> None:
        if self._ticker_timer is None:
            self._ticker_timer = self._clock.call_at(max(now_ns, self._ticker_next_ns), self._publish_ticker)

    def _publish_ticker(self) -> None:
        self._ticker_timer = None
        self._ticker_next_ns = self._clock.mono_ns() + round(self._config.ticker_interval_s * NS)
        if any("ticker" in connection.channels for connection in self._connections):
            row = self._ticker_row()
            if row is not None:
                account = self._account()
                self._to_all("ticker", lambda dialect, channel: dialect.ticker(account, channel, row))

    def _ticker_row(self) -> TickerRow | None:
        """None before there is a market."""
        try:
            return self._account().ticker()
        except No:
            return None

    # --- the account --------------------------------------------------------------------------------------------------

    def push(self, pushed: Pushed) -> None:
        """To whoever is logged in and listens now."""
        account = self._account()
        match pushed:
            case OrderPushed(row, fill):
                self._to_all("orders", lambda dialect, channel: dialect.order(account, channel, row, fill))
            case FillPushed(row):
                self._to_all("fills", lambda dialect, channel: dialect.fill(account, channel, row))
            case AccountChanged(position):
                if position:
                    rows = [] if (held := account.held()) is None else [held]
                    self._to_all("positions", lambda dialect, channel: dialect.positions(account, channel, rows))
                self._to_all("account", self._balance)

    def _positions(self, dialect: Dialect, channel: Channel) -> Json:
        row = self._account().position()
        return dialect.positions(self._account(), channel, [] if row is None else [row])

    def _balance(self, dialect: Dialect, channel: Channel) -> Json:
        return dialect.account(self._account(), channel, self._account().balance())

    # --- to whom ------------------------------------------------------------------------------------------------------

    def begin(self, connection: Connection, channel: Channel) -> None:
        """What a subscription opens with, after its acknowledgement."""
        account, dialect = self._account(), connection.dialect
        match channel.kind:
            case "books" | "books1" | "books5" | "books15" | "books50":
                if self._seq:
                    depth = _DEPTHS.get(channel.kind, len(self._bids) + len(self._asks))
                    bids, asks = [*self._bids.items()][:depth], [*self._asks.items()][:depth]
                    connection.say(channel.kind, self._book_frame(bids, asks, 0)(dialect, channel))
            case "trades":
                rows = [*reversed(self._prints)]
                connection.say("trades", dialect.trades(account, channel, rows, snapshot=True))
            case "ticker":
                row = self._ticker_row()
                if row is not None:
                    connection.say("ticker", dialect.ticker(account, channel, row))
            case "positions":
                connection.say("positions", self._positions(dialect, channel))
            case "account":
                connection.say("account", self._balance(dialect, channel))
            case "orders" | "fills" | "candles":
                pass  # nothing of what is past

    def _to_all(self, kind: str, make: Callable[[Dialect, Channel], Json]) -> None:
        for connection in self._connections:
            for channel in connection.channels.get(kind, ()):
                connection.say(kind, make(connection.dialect, channel))
