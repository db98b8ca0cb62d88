"""Pushes of a venue, honest and damaged, from a seeded generator: by structure, and from the venue's own samples."""

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.fuzz.numbers import EDGES, WORDS
from tests.fuzz.plain_frames import crc
from tests.venues.bitget.heard import TS_MS, ApiName, fill, order, push

Json = dict[str, Any]
Sent = str | bytes
BAD_TEXTS: Final = (
    *(
        "",
        "0",
        "-1",
        "NaN",
        "Infinity",
        "1e5",
        "1E400",
        "0x1",
        "1_0",
        " 1",
        "+1",
        "64000.001",
        "0.00001",
        "١",
        "9" * 39,
    ),
    *("9" * 400, "null", "64000,1", "\x00", "\ud800".encode(errors="surrogatepass").decode("latin1"), "64000."),
)
ODD: Final[tuple[Any, ...]] = (
    *(None, True, False, [], {}, [[]], [None], {"a": 1}, 0, -1, 1.5, 64000.01, 1e300, 2**53, 2**63, 2**64, -(2**63)),
    *(edge for edge in EDGES if isinstance(edge, int) and abs(edge) < 10**30),
    *BAD_TEXTS,
    *(word for word in WORDS if len(word) < 100),
)
"""No NaN nor infinity as numbers: JSON has none, and `BAD_TEXTS` spells them."""


class Book:
    """The venue's own."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.sides: tuple[dict[int, tuple[int, str]], dict[int, tuple[int, str]]] = {}, {}
        self.seq = rng.randint(1, 10**18)
        self.fair = 6_400_000

    def moved(self, changes: int) -> list[list[list[str]]]:
        """Apply so many changes, and say them: levels a side."""
        rng, said = self.rng, []
        self.fair += rng.choice((0, 0, 0, -2, 2, 5, -7))
        for side, sign in zip(self.sides, (-1, 1), strict=True):
            levels: dict[int, str] = {}
            for px in [px for px in side if (px - self.fair) * sign <= 0]:
                levels[px] = "0"
            for _ in range(rng.randint(0, changes)):
                px = self.fair + sign * rng.randint(1, 60)
                levels[px] = "0" if rng.random() < 0.3 else f"{rng.randint(1, 99_999) / 10_000:.4f}"
            for px, qty in levels.items():
                text = f"{px / 100:.2f}"
                side[px] = (round(float(qty) * 10_000), f"{text}:{qty}")
                if qty == "0":
                    del side[px]
            said.append([[f"{px / 100:.2f}", qty] for px, qty in levels.items()])
        return said

    def all(self) -> list[list[list[str]]]:
        sides: list[list[list[str]]] = []
        for side in self.sides:
            sides.append([text.split(":") for _, text in side.values()])
            self.rng.shuffle(sides[-1])
        return sides


class Venue:
    """One connection's worth of pushes. `next` gives a frame, its kind, and whether it is honest and complete."""

    def __init__(self, rng: Random, api: ApiName, samples: list[Any], *, checksums: bool) -> None:
        self.rng, self.api, self.samples, self.checksums = rng, api, samples, checksums
        self.book = Book(rng)
        self.ts_ms = TS_MS
        self.count = 0
        self.last_trades: list[Json] = []
        self.sent: deque[str] = deque(maxlen=40)
        self.has_book = False
        """A snapshot went out, and no difference was withheld since."""

    def next(self) -> tuple[Sent, str, bool]:
        rng = self.rng
        self.count += 1
        self.ts_ms += rng.randint(1, 50)
        if not self.has_book and rng.random() < 0.3:
            return self._said(self._snapshot()), "snapshot", True
        if rng.random() < 0.45:
            kind = rng.choices(list(HONEST), (8, 1, 1, 1, 1, 1))[0]
            return self._said(HONEST[kind](self)), kind, kind != "change" or self.has_book
        kind = rng.choices(list(DAMAGE), DAMAGE_WEIGHTS)[0]
        return DAMAGE[kind](self), kind, False

    def _said(self, push: Json) -> str:
        text = json.dumps(push, separators=self.rng.choice(((",", ":"), (", ", ": "))))
        self.sent.append(text)
        return text

    # --- honest -------------------------------------------------------------------------------------------------------

    def _books(self, sides: list[list[list[str]]], *, pseq: int, action: str) -> Json:
        row: Json = {"bids": sides[0], "asks": sides[1], "seq": self.book.seq, "pseq": pseq, "ts": str(self.ts_ms)}
        if self.rng.random() < 0.3:
            row |= {"seq": str(self.book.seq), "pseq": str(pseq)}
        if self.checksums:
            row["checksum"] = crc(*self.book.sides)
        return push(self.api, "books", [row], action=action, ts=self.ts_ms)

    def _snapshot(self) -> Json:
        self.book.moved(30)
        self.book.seq += self.rng.randint(1, 9)
        self.has_book = True
        return self._books(self.book.all(), pseq=0, action="snapshot")

    def change(self) -> Json:
        pseq = self.book.seq
        self.book.seq += self.rng.randint(1, 9)
        return self._books(self.book.moved(8), pseq=pseq, action="update")

    def trades(self) -> Json:
        rows = [
            {
                "tradeId": f"{self.count}{i}",
                "price": f"{self.book.fair / 100:.2f}",
                "size": "0.0150",
                "side": self.rng.choice(("buy", "sell")),
                "ts": str(self.ts_ms - i),
            }
            for i in range(self.rng.randint(1, 3))
        ]
        return push(self.api, "trade", rows, action="update", ts=self.ts_ms)

    def ticker(self) -> Json:
        mark, rate = f"{self.book.fair / 100 + 0.003:.4f}", f"{self.rng.randint(-99, 99) / 1e6:.6f}"
        row = {"markPrice": mark, "fundingRate": rate, "nextFundingTime": str(self.ts_ms + 3_600_000)}
        return push(self.api, "ticker", [row], ts=self.ts_ms)

    def orders(self) -> Json:
        status = self.rng.choice(("live", "new", "partially_filled", "filled", "cancelled"))
        done = {"partially_filled": "0.01", "filled": "0.0150"}.get(status, "0")
        more = {"orderId": f"o{self.count}", "clientOid": f"mmabcd-1-{self.count}", "cancelReason": "normal_cancel"}
        return push(self.api, "orders", [order(status=status, accBaseVolume=done, **more)], ts=self.ts_ms)

    def fills(self) -> Json:
        rows = [fill(self.api, f"{self.rng.randint(-99, 999) / 1e4}", tradeId=f"{self.count}") for _ in range(2)]
        return push(self.api, "fill", rows, ts=self.ts_ms)

    def acknowledged(self) -> Json:
        return {"event": "subscribe", "arg": push(self.api, "books", [])["arg"]}

    # --- damaged ------------------------------------------------------------------------------------------------------

    def _any(self) -> Json:
        """One that is honest but for what is done to it; what the book lost by it is not said again."""
        kind = self.rng.choices(list(HONEST), (6, 1, 1, 2, 2, 0))[0]
        made = self._snapshot() if self.rng.random() < 0.1 else HONEST[kind](self)
        if made["arg"].get("channel", made["arg"].get("topic")) == "books":
            self.has_book = False
        return made

    def truncated(self) -> Sent:
        text = json.dumps(self._any())
        return text[: self.rng.randrange(len(text))]

    def bytes_changed(self) -> Sent:
        data = bytearray(json.dumps(self._any()).encode())
        for _ in range(self.rng.randint(1, 4)):
            at = self.rng.randrange(len(data))
            match self.rng.randrange(3):
                case 0:
                    data[at] = self.rng.randrange(256)
                case 1:
                    del data[at]
                case _:
                    data[at:at] = bytes([self.rng.choice(b'0123456789."-,:[]{}e\\ ')])
        return bytes(data)

    def mistyped(self) -> Sent:
        """Any node of it becomes something else, is doubled, or goes."""
        made = self._any()
        for _ in range(self.rng.choice((1, 1, 1, 2, 5))):
            spoil(made, self.rng)
        return dumped(made)

    def bad_number(self) -> Sent:
        made = self._any()
        spoil(made, self.rng, lambda rng: rng.choice(BAD_TEXTS), only_text=True)
        return dumped(made)

    def sample(self) -> Sent:
        """One of the venue's own, or what is left of it."""
        made = json.loads(self.rng.choice(self.samples)) if self.samples else self._any()
        if isinstance(made, dict) and isinstance(made.get("arg"), dict) and self.rng.random() < 0.7:
            mine = push(self.api, self.rng.choice(("books", "trade", "orders", "fill")), [])["arg"]
            names = [key for key in made["arg"] if key not in ("channel", "topic")]
            made["arg"] |= {key: mine[key] for key in names if key in mine} | {"instType": mine["instType"]}
        if self.rng.random() < 0.6:
            spoil(made, self.rng)
        return dumped(made)

    def deep(self) -> Sent:
        opening, closing = self.rng.choice((("[", "]"), ('{"data":', "}"), ('{"arg":', "}"), ('{"event":', "}")))
        n = self.rng.choice((3, 40, 900, 1_100, 20_000))
        inner = opening * n + (closing * n if self.rng.random() < 0.5 else "")
        frame = json.dumps(push(self.api, "books", ["here"]))
        return self.rng.choice((inner, '{"data":' + inner + "}", frame.replace('"here"', inner or "0")))

    def huge(self) -> Sent:
        many = self.rng.choice((5_001, 20_000, 70_000)) if self.rng.random() < 0.2 else 300
        made = self._any()
        made["data"] = (made.get("data") or [0]) * (many // 100)
        if self.rng.random() < 0.3:
            made["more"] = "x" * (1 << self.rng.choice((10, 19, 20)))
        return json.dumps(made)

    def flood(self) -> Sent:
        made = self._books([[], []], pseq=self.book.seq, action=self.rng.choice(("snapshot", "update")))
        self.has_book = False
        levels = [[f"{i}.00", "1"] for i in range(1, self.rng.choice((300, 5_001)))]
        key = self.rng.choice([name for name in made["data"][0] if name in ("bids", "asks", "a", "b")])
        made["data"][0][key] = levels
        return json.dumps(made)

    def gap(self) -> Sent:
        self.change()
        self.has_book = False
        return json.dumps(self.change())

    def again(self) -> Sent:
        """Something that was sent before: doubled, late, or of an earlier connection."""
        text = self.rng.choice(self.sent) if self.sent else "{}"
        if '"books"' in text:
            self.has_book = False
        return text

    def crossed(self) -> Sent:
        made = self.change()
        self.has_book = False
        wrong = self.book.fair + self.rng.choice((-80, 80))
        for name in ("bids", "asks", "a", "b"):
            if name in made["data"][0]:
                made["data"][0][name].append([f"{wrong / 100:.2f}", "1"])
        return json.dumps(made)

    def checksum(self) -> Sent:
        made = self.change()
        self.has_book = False
        made["data"][0]["checksum"] = self.rng.choice((1, -1, 2**31, 7, made["data"][0].get("checksum", 0) ^ 1))
        return json.dumps(made)

    def another(self) -> Sent:
        made = self._any()
        wrong = self.rng.choice(
            ({"instType": "SPOT"}, {"instId": "ETHUSDT", "symbol": "ETHUSDT"}, {"channel": "books5"})
        )
        made["arg"] |= wrong
        return json.dumps(made)

    def times(self) -> Sent:
        made = self._any()
        wrong = self.rng.choice(
            (0, -1, self.ts_ms - 10**6, self.ts_ms + 10**6, 10**14, "", "now", 1.5, str(self.ts_ms))
        )
        made["ts"] = wrong
        for row in made.get("data") or []:
            row |= {
                key: wrong for key in ("ts", "T", "uTime", "updatedTime", "execTime", "nextFundingTime") if key in row
            }
        return json.dumps(made)

    def noise(self) -> Sent:
        return self.rng.choice((b"", b"pong", b"[", b"null", b"0", self.rng.randbytes(self.rng.randrange(80))))


HONEST: Final[dict[str, Callable[[Venue], Json]]] = {
    "change": Venue.change,
    "trades": Venue.trades,
    "ticker": Venue.ticker,
    "orders": Venue.orders,
    "fills": Venue.fills,
    "acknowledged": Venue.acknowledged,
}
DAMAGE: Final[dict[str, Callable[[Venue], Sent]]] = {
    "truncated": Venue.truncated,
    "bytes": Venue.bytes_changed,
    "mistyped": Venue.mistyped,
    "bad_number": Venue.bad_number,
    "sample": Venue.sample,
    "deep": Venue.deep,
    "huge": Venue.huge,
    "flood": Venue.flood,
    "gap": Venue.gap,
    "again": Venue.again,
    "crossed": Venue.crossed,
    "checksum": Venue.checksum,
    "another": Venue.another,
    "times": Venue.times,
    "noise": Venue.noise,
}
DAMAGE_WEIGHTS: Final = (10, 14, 20, 12, 12, 2, 1, 1, 4, 6, 4, 4, 4, 5, 3)


def spoil(
    root: Any, rng: Random, instead: Callable[[Random], Any] = lambda rng: rng.choice(ODD), *, only_text: bool = False
) -> None:
    """Change one node, anywhere in it."""
    nodes: list[tuple[Any, Any]] = []
    open_: list[Any] = [root]
    while open_ and len(nodes) < 2_000:
        node = open_.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            if not only_text or isinstance(value, str):
                nodes.append((node, key))
            if isinstance(value, dict | list):
                open_.append(value)
    if not nodes:
        return
    node, key = rng.choice(nodes)
    how = rng.random()
    if how < 0.1 and not only_text:
        del node[key]
    elif how < 0.15 and isinstance(node, list):
        node.append(node[key])
    else:
        node[key] = instead(rng)


def dumped(made: Any) -> Sent:
    try:
        return json.dumps(made, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "{"


def samples_of(folder: Path | None) -> list[str]:
    """The venue's samples and recordings, each as JSON; none where there is no folder."""
    if folder is None:
        return []
    found: list[str] = []
    for name in ("ws_examples.json", "rest_examples.json"):
        for entries in json.loads((folder / name).read_text()).values():
            found += [json.dumps(entry["example"]) for entry in entries]
    for line in (folder / "recorded_mix_v1.txt").read_text().splitlines():
        _, _, text = line.partition(": ")
        if text.startswith("{") and len(text) < 5_000:
            found.append(text)
    return found
