"""What a client tells of `firehose.py`, event by event, held against the tape that the venue plays."""

from collections import Counter
from typing import Final

from mmdaemon.core.events import BookUpdate, Event, LinkChanged, MarketDataRefused, TradePrint
from mmdaemon.core.types import Link
from tests.emulated.firehose import NUMBERS, TOLD_LEVELS, Tape

_SHOWN: Final = 20


class Told:
    """What the venue's client tells, held against the tape."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._tops = [
            (frame.bid_px_ticks, frame.ask_px_ticks, frame.top[0][1:], frame.top[1][1:]) for frame in tape.frames
        ]
        self.number = self.connection = self.trade = 0
        self.books = self.trades = self.others = self.snapshots = 0
        self.is_up = dict.fromkeys(Link, False)
        self.ups, self.downs = Counter[Link](), Counter[Link]()
        self.refused = Counter[str]()
        self.wrong = Counter[str]()
        self.spans: dict[int, tuple[int, int]] = {}
        self.examples: list[str] = []
        self.may_miss_trades = True
        """Once: those between the link's going and the next connection."""
        self._ended = 0
        """The last connection that the link went with."""

    def say(self, what: str, about: object) -> None:
        self.wrong[what] += 1
        if len(self.examples) < _SHOWN:
            self.examples.append(f"{what}: {about}")

    def deliver(self, event: Event) -> None:
        match event:
            case BookUpdate():
                self._book(event)
            case TradePrint():
                self.trades += 1
                expected = self.trade % NUMBERS + 1
                if event.qty_lots - 1 != expected % NUMBERS:
                    if not self.may_miss_trades:
                        self.say("a trade is not the next", (event.qty_lots - 1, expected))
                    self.may_miss_trades = False
                self.trade = event.qty_lots - 1
            case LinkChanged():
                self.is_up[event.link] = event.up
                (self.ups if event.up else self.downs)[event.link] += 1
                if event.link is Link.PUBLIC and not event.up:
                    self.may_miss_trades, self._ended = True, self.connection
            case MarketDataRefused():
                self.refused[event.reason] += 1
            case _:
                self.others += 1

    def _book(self, book: BookUpdate) -> None:
        self.books += 1
        if not book.bids or not book.asks:
            self.say("a book has one side", book)
            return
        (bid, numbered), (ask, connection) = book.bids[0], book.asks[0]
        if bid >= ask:
            self.say("a book is crossed", (bid, ask))
        if connection == self.connection:
            if connection == self._ended:
                self.say("a book was told after the cut", (connection, numbered))
            number = self.number + 1
        else:
            number = self.number + (numbered - 1 - self.number) % NUMBERS
            if connection < self.connection:
                self.say("a book was told of a connection that had ended", (connection, self.connection))
            self.connection = connection
            self.snapshots += 1
            self.spans[connection] = number, number
        if numbered - 1 != number % NUMBERS:
            self.say("a book is not the next", (connection, numbered - 1, number % NUMBERS))
            number = self.number + (numbered - 1 - self.number) % NUMBERS
        self.number = number
        self.spans[connection] = self.spans[connection][0], number
        told = bid, ask, book.bids[1:], book.asks[1:]
        if told != self._tops[number % len(self._tops)] or len(book.bids) != TOLD_LEVELS:
            self.say("a book is not the venue's", (connection, number, told))
