"""`python -m tests.emulated.firehose`: a venue in a process of its own that speaks Bitget fast.

It is the emulator, with its REST, logins, sockets and faults; but its public channels say 2,000 messages a second in
the mean and far more in a burst, of a book that whoever listens can check to the last level: the books are a closed
loop that is made from a seed (`Tape`), and each frame carries what it is within the book:

    size of the best bid    the frame's number in lots, less one, modulo `NUMBERS`
    size of the best ask    the number of the connection in lots

Asked by lines of JSON on stdin, `{"do": ...}`; answers each by a line on stdout. The first line says where it is.
"""

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, cast
from unittest import mock

import msgspec

from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.events import BookUpdate, Event
from mmdaemon.core.types import Side
from mmdaemon.venues.emulator import server
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.connection import Connection
from mmdaemon.venues.emulator.dialect import Channel, TradeRow
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.emulator.streams import Streams, difference
from mmdaemon.venues.emulator.wrong import Wrong
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.stretches import Stretch
from tests.emulated.build import KEY, KINDS, PASSPHRASE, SECRET, Kind

NUMBERS: Final = 1_000_000
TOLD_LEVELS: Final = 10
_LEVELS: Final = 50
_MID_TICKS: Final = 640_000
_TICK_S: Final = 0.01
_TRICKLE: Final = 0.25
"""Share of the messages that come evenly; the rest comes in bursts."""
_BURSTS: Final = ((100, 10), (1_000, 10), (20_000, 1))
"""Messages at once, and how often of 21 bursts."""
_FIRST_SEQ: Final = 1_000_000
_OTHERS: Final = {3: "trades", 11: "ticker"}
"""Of every 16 messages; the rest are books."""

Sides = tuple[dict[int, int], dict[int, int]]
Rows = tuple[tuple[int, int], ...]


class Frame(msgspec.Struct, frozen=True):
    """One step of the tape. Rows are without the touch, whose sizes are the numbers."""

    bid_px_ticks: int
    ask_px_ticks: int
    changed: tuple[Rows, Rows]
    top: tuple[Rows, Rows]
    """What stands after it, bids and asks, best first; the sizes of the touch mean nothing."""


class Tape:
    """Books in a closed loop: `frames[n % length]` leads from the book before to that one, and the first from the
    last."""

    def __init__(self, seed: int = 7, length: int = 4_096) -> None:
        self._draw = random.Random(seed)
        books = [self._next(None)]
        while len(books) < length:
            books.append(self._next(books[-1]))
        self.frames = [self._frame(books[at - 1], book) for at, book in enumerate(books)]
        self.books = books

    def _next(self, before: Sides | None) -> Sides:
        draw = self._draw
        bid, ask = _MID_TICKS - 1, _MID_TICKS + 1
        if before is not None:
            bid, ask = max(before[0]), min(before[1])
            if draw.random() < 0.3:
                bid += draw.choice((-3, -2, -1, 1, 2, 3)) - (bid > _MID_TICKS + 500) + (bid < _MID_TICKS - 500)
                ask = bid + draw.choice((1, 1, 1, 2, 5))
        sides: Sides = {}, {}
        for at, (best, step) in enumerate(((bid, -1), (ask, 1))):
            old = before[at] if before is not None else {}
            for away in range(_LEVELS):
                px = best + step * away
                if not away or (px in old and draw.random() > 0.01) or draw.random() < 0.9:
                    changes = px not in old or draw.random() < 0.02
                    sides[at][px] = draw.randrange(1, 50_000) if changes else old[px]
        return sides

    def _frame(self, before: Sides, now: Sides) -> Frame:
        bid, ask = max(now[0]), min(now[1])
        bids = _changed(before[0], now[0], max(before[0]), bid)
        asks = _changed(before[1], now[1], min(before[1]), ask)
        return Frame(bid, ask, (bids, asks), (_top(now[0], reverse=True), _top(now[1], reverse=False)))


def _changed(before: Mapping[int, int], now: Mapping[int, int], was_best: int, best: int) -> Rows:
    rows = dict(difference(before, now))
    if was_best in now:
        rows[was_best] = now[was_best]  # its size was a number
    rows.pop(best, None)
    return tuple(rows.items())


def _top(side: Mapping[int, int], *, reverse: bool) -> Rows:
    return tuple(sorted(side.items(), reverse=reverse)[:TOLD_LEVELS])


class Firehose(Streams):
    """`number` of the last frame of the book; `spans` has (first, last) that each connection was told."""

    def __init__(self, tape: Tape, rate: float, *given: Any) -> None:
        super().__init__(*given)
        self.tape, self.rate = tape, rate
        self.number = 0
        self.trades = 0
        self.said = 0
        self.spans: dict[int, tuple[int, int]] = {}
        self.is_playing = True
        self._args: dict[int, str] = {}
        self._draw = random.Random(rate)
        self._texts: list[tuple[str, str, str, str]] = []
        self._seq = _FIRST_SEQ
        self._at = 0
        self._skips = False

    def restart(self) -> None:
        self._seq = 1

    def on_market(self, event: Event) -> None:
        """For the account alone."""
        if isinstance(event, BookUpdate):
            self._latest = event

    def skip(self) -> None:
        """A frame of the book is lost on the way: the next one without which the one after it still makes a book. One
        that moved the touch would leave a crossed book, which is refused whoever looks at numbers."""
        self._skips = True

    def begin(self, connection: Connection, channel: Channel) -> None:
        if channel.kind != "books":
            super().begin(connection, channel)
            return
        self._args[connection.number] = msgspec.json.encode(channel.arg).decode()
        frame = self.tape.frames[self.number % len(self.tape.frames)]
        bids, asks = (dict(side) for side in self.tape.books[self.number % len(self.tape.books)])
        del bids[frame.bid_px_ticks], asks[frame.ask_px_ticks]
        self.spans[connection.number] = self.number, self.number
        rows = self._rows(tuple(bids.items())), self._rows(tuple(asks.items()))
        self._say_book(connection, "snapshot", 0, self._touch(frame), rows)

    async def play(self) -> None:
        """For ever: `rate` messages a second in the mean."""
        time = asyncio.get_running_loop().time
        credit, due, burst, before_s = 0.0, 0.0, 1_000, time()
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time()
            elapsed_s, before_s = min(now_s - before_s, 1.0), now_s
            if not self.is_playing:
                continue
            due += _TRICKLE * self.rate * elapsed_s
            credit += (1 - _TRICKLE) * self.rate * elapsed_s
            self._say(int(due))
            due -= int(due)
            if credit >= burst:
                self._cork(on=True)
                self._say(burst)
                credit -= burst
                burst = self._burst()
            elif not any(each._waiting for each in self._connections):
                self._cork(on=False)

    def _cork(self, *, on: bool) -> None:
        """A burst comes as a network delivers one: many frames at a time, which wait in the client's queue together."""
        for connection in self._connections:
            wire = socket_of(connection)
            if wire is not None and not connection.private:
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)

    def _burst(self) -> int:
        (size,) = self._draw.choices([size for size, _ in _BURSTS], [often for _, often in _BURSTS])
        return round(size * self.rate / 2_000)

    def _say(self, messages: int) -> None:
        for _ in range(messages):
            self._at += 1
            match _OTHERS.get(self._at % 16):
                case "trades":
                    self.trades += 1
                    at_ms = self._account().now_ms()
                    row = TradeRow(str(self.trades), _MID_TICKS, self.trades % NUMBERS + 1, Side.BUY, at_ms)
                    make = partial(self._trade, row)
                case "ticker":
                    ticker = self._ticker_row()
                    if ticker is None:
                        continue
                    make = partial(self._ticker, ticker)
                case _:
                    self._publish()
                    continue
            self._to_all(_OTHERS[self._at % 16], make)
            self.said += sum(_OTHERS[self._at % 16] in each.channels for each in self._connections)

    def _trade(self, row: TradeRow, dialect: Any, channel: Channel) -> Any:
        return dialect.trades(self._account(), channel, [row], snapshot=False)

    def _ticker(self, row: Any, dialect: Any, channel: Channel) -> Any:
        return dialect.ticker(self._account(), channel, row)

    def _step(self) -> tuple[int, int]:
        self.number += 1
        before, self._seq = self._seq, self._seq + 1 + self.number % 3
        return before, self.number % len(self.tape.frames)

    def _is_still(self, at: int) -> bool:
        """Neither that frame nor the one after it moves the touch."""
        frames = self.tape.frames
        around = (frames[at - 1], frames[at], frames[(at + 1) % len(frames)])
        return len({(frame.bid_px_ticks, frame.ask_px_ticks) for frame in around}) == 1

    def _publish(self) -> None:
        pseq, at = self._step()
        if self._skips and self._is_still(at):
            self._skips = False
            pseq, at = self._step()
        if not self._texts:
            self._texts = [self._text(each) for each in self.tape.frames]
        bid, ask, *rows = self._texts[at]
        for connection in self._connections:
            if "books" in connection.channels:
                first, _ = self.spans[connection.number]
                self.spans[connection.number] = first, self.number
                self._say_book(connection, "update", pseq, (bid, ask), (rows[0], rows[1]))

    def _text(self, frame: Frame) -> tuple[str, str, str, str]:
        return *self._touch(frame), self._rows(frame.changed[0]), self._rows(frame.changed[1])

    def _touch(self, frame: Frame) -> tuple[str, str]:
        px = self._account().scale.px_text
        return px(frame.bid_px_ticks), px(frame.ask_px_ticks)

    def _rows(self, rows: Rows) -> str:
        scale = self._account().scale
        return "".join(f',["{scale.px_text(px)}","{scale.qty_text(lots)}"]' for px, lots in rows)

    def _say_book(
        self, connection: Connection, action: str, pseq: int, touch: tuple[str, str], rows: tuple[str, str]
    ) -> None:
        qty, now_ms = self._account().scale.qty_text, self._account().now_ms()
        bids, asks = ("bids", "asks") if connection.dialect.name == "classic" else ("b", "a")
        self.said += 1
        connection.say_text(
            "books",
            f'{{"action":"{action}","arg":{self._args[connection.number]},"data":[{{'
            f'"{asks}":[["{touch[1]}","{qty(connection.number)}"]{rows[1]}],'
            f'"{bids}":[["{touch[0]}","{qty(self.number % NUMBERS + 1)}"]{rows[0]}],'
            f'"seq":{self._seq},"pseq":{pseq},"ts":"{now_ms}"}}],"ts":{now_ms}}}',
        )


# --- what it does when asked ------------------------------------------------------------------------------------------


def socket_of(connection: Connection) -> Any:
    """None where it ended."""
    transport = connection._transport
    return None if transport is None or transport.is_closing() else transport.get_extra_info("socket")


def _rst(venue: Emulator) -> None:
    for connection in venue.sockets_of("public"):
        wire = socket_of(connection)
        if wire is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.cut("reset")


CUTS: Final[Mapping[str, Callable[[Emulator], object]]] = {
    "close frame": lambda venue: venue.outside.close_sockets("public"),
    "reset": _rst,
    "half-open": lambda venue: venue.faults.inject(Wrong.HALF_OPEN, seconds=8.0, where="public"),
    "restart": lambda venue: venue.restart(),
    "muted pong": lambda venue: venue.faults.inject(Wrong.PONG_MUTED, seconds=40.0, where="public"),
    "end of file": lambda venue: venue.outside.reset_sockets("public"),
    "gap": lambda venue: cast(Firehose, venue.streams).skip(),
    "refused": lambda venue: venue.refuse_connections(2.0),
}
"""How a public connection ends: each has the client dial again. The first five are the ones of five minutes."""
CUT_BOTH: Final = frozenset({"restart", "refused"})
"""Those that end the private connection too."""
CUT_BY_SILENCE: Final = frozenset({"half-open", "muted pong"})


async def serve(account: Kind, rate: float, seed: int, clock: RealClock) -> None:
    """Until stdin ends."""
    config = EmulatorConfig(
        account=account, api_key=KEY, secret=SECRET, passphrase=PASSPHRASE, waiting_max_bytes=64 << 20
    )
    market = SyntheticMarket(seed=seed, start_ts_ns=clock.wall_ns(), schedule=((Stretch.CALM, 1e6),))
    with mock.patch.object(server, "Streams", partial(Firehose, Tape(seed), rate)):
        venue = Emulator(market, clock, config)
    firehose = cast(Firehose, cast(object, venue.streams))
    loop = asyncio.get_running_loop()
    asked = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    await venue.start()
    playing = loop.create_task(firehose.play())
    print(json.dumps({"url": venue.url}), flush=True)
    try:
        while line := await asked.readline():
            do = json.loads(line)["do"]
            if do in CUTS:
                CUTS[do](venue)
            elif do == "stop":
                firehose.is_playing = False
            print(json.dumps(_report(venue, firehose, playing)), flush=True)
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await venue.close()


def _report(venue: Emulator, firehose: Firehose, playing: "asyncio.Task[None]") -> dict[str, Any]:
    return {
        "number": firehose.number,
        "said": firehose.said,
        "trades": firehose.trades,
        "spans": firehose.spans,
        "defects": [repr(error) for error in venue.defects] + ["it does not play"] * playing.done(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--account", choices=KINDS, default="unified")
    parser.add_argument("--rate", type=float, default=2_000.0)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    run_real(partial(serve, chosen.account, chosen.rate, chosen.seed))
