"""`python -m tests.bench.frames`: what a frame costs, from its text to what is told of it, in CPU µs.

Books of 200 levels a side that move, eight changes a frame, prices and sizes as the venue writes them; the frames are
made once and played to each way in turn, `ROUNDS` times, and the median round is shown. The same frames to decoders
alone: ours (typed, msgspec), msgspec without types, orjson, json.
"""

import gc
import json
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from mmdaemon.core.events import Event
from mmdaemon.core.types import E10, Instrument
from mmdaemon.venues.bitget.frames import SHAPES, frame
from mmdaemon.venues.bitget.streams import OrderPush, Streams
from mmdaemon.venues.codec import Scale

FRAMES = 5_000
CHANGES = 8
ROUNDS = 9
T0_MS = 1_750_000_000_000
INSTRUMENT = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)


class Deaf:
    """Hears and forgets."""

    told = 0

    def event(self, fact: Event) -> None:
        self.told += 1

    def order(self, push: OrderPush) -> None: ...
    def book_lost(self, why: str) -> None:
        raise AssertionError(why)

    def book_back(self) -> None: ...
    def channel(self, kind: str) -> None: ...
    def refused(self, kind: str, reason: str) -> None:
        raise AssertionError(reason)


def checksum(bids: dict[int, str], asks: dict[int, str]) -> int:
    parts: list[str] = []
    ours, theirs = sorted(bids, reverse=True)[:25], sorted(asks)[:25]
    for i in range(25):
        parts += [f"{px / 10:.1f}:{side[px]}" for side, top in ((bids, ours), (asks, theirs)) for px in top[i : i + 1]]
    crc = zlib.crc32(":".join(parts).encode())
    return crc - (1 << 32) if crc >> 31 else crc


def books(api: str, *, checksums: bool) -> list[str]:
    """A snapshot and its changes, as text."""
    rng = Random(7)
    names = ("b", "a") if api == "unified" else ("bids", "asks")
    topic = {"topic": "books", "symbol": "BTCUSDT"} if api == "unified" else {"channel": "books", "instId": "BTCUSDT"}
    arg = {"instType": "usdt-futures" if api == "unified" else "USDT-FUTURES", **topic}
    sides: list[dict[int, str]] = [{}, {}]
    fair = 650_000
    frames: list[str] = []
    for seq in range(1, FRAMES + 1):
        if seq % 20 == 0:
            fair += rng.randint(-3, 3)
        changes: list[dict[int, str]] = [{}, {}]
        for _ in range(400 if seq == 1 else CHANGES):
            which = rng.randrange(2)
            away = min(1 + int(rng.expovariate(1 / 40)), 300)
            px = fair - away if which == 0 else fair + away
            delete = seq > 1 and px in sides[which] and rng.random() < 0.4
            changes[which][px] = "0" if delete else f"{rng.randint(1, 99_999) / 10_000:.4f}"
        for which in (0, 1):  # what was passed by the price is gone
            for px in list(sides[which]):
                if (px >= fair) if which == 0 else (px <= fair):
                    changes[which][px] = "0"
            for px, qty in changes[which].items():
                if qty == "0":
                    sides[which].pop(px, None)
                else:
                    sides[which][px] = qty
        row: dict[str, Any] = {
            name: [[f"{px / 10:.1f}", qty] for px, qty in change.items()]
            for name, change in zip(names, changes, strict=True)
        }
        if checksums:
            row["checksum"] = checksum(*sides)
        row |= {"seq": seq * 3, "pseq": (seq - 1) * 3, "ts": str(T0_MS + seq * 50)}
        action = "snapshot" if seq == 1 else "update"
        push = {"action": action, "arg": arg, "data": [row], "ts": T0_MS + seq * 50 + 3}
        frames.append(json.dumps(push, separators=(",", ":")))
    return frames


def now() -> tuple[int, int]:
    return time.monotonic_ns(), (T0_MS + FRAMES * 100) * 1_000_000


def played(api: str, frames: list[str], *, verify: bool, depth: int = 10) -> Callable[[], int]:
    def play() -> int:
        deaf = Deaf()
        scale = Scale(INSTRUMENT)
        streams = Streams("unified" if api == "unified" else "classic", "BTCUSDT", scale, now, deaf, depth, verify)
        on_frame = streams.on_frame
        begun = time.process_time_ns()
        for text in frames:
            on_frame(text, False)
        took = time.process_time_ns() - begun
        assert deaf.told == len(frames)
        return took

    return play


def decoded(frames: list[str], decode: Callable[[str], object]) -> Callable[[], int]:
    def play() -> int:
        begun = time.process_time_ns()
        for text in frames:
            decode(text)
        return time.process_time_ns() - begun

    return play


def ours(text: str) -> object:
    return SHAPES["classic"].books.read(frame(text).data)


def main() -> int:
    plain, checked, unified = (
        books("classic", checksums=False),
        books("classic", checksums=True),
        books("unified", checksums=False),
    )
    ways: dict[str, Callable[[], int]] = {
        "classic, sequence": played("classic", plain, verify=True),
        "unified, sequence": played("unified", unified, verify=True),
        "classic, sequence and checksum": played("classic", checked, verify=True),
        "classic, checksum sent and not verified": played("classic", checked, verify=False),
        "classic, sequence, 1 level told": played("classic", plain, verify=True, depth=1),
        "decoding alone: ours": decoded(plain, ours),
        "decoding alone: msgspec, no types": decoded(plain, msgspec.json.decode),
        "decoding alone: orjson": decoded(plain, orjson.loads),
        "decoding alone: json": decoded(plain, json.loads),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    gc.collect()
    gc.freeze()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            took[name].append(way() / FRAMES / 1e3)
    length = statistics.mean(map(len, plain))
    table = Table(title=f"a book frame of {length:.0f} characters, {CHANGES} changes and more, {ROUNDS} rounds")
    for column in ("what", "CPU µs a frame, median", "least", "most"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for name, figures in took.items():
        table.add_row(name, *(f"{f:.1f}" for f in (statistics.median(figures), min(figures), max(figures))))
    Console().print(f"Python {sys.version.split()[0]}, msgspec {msgspec.__version__}", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
