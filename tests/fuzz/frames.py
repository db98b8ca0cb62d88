"""Frames that nobody should send, through the real decoding, beside a plain reading of the same bytes.

No frame makes it raise. No book is told but the one that the plain reading has; no fact is told that a plain reading
does not find in the very frame; a book that is lost is told to be; and what is honest and complete is told.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec

from mmdaemon.core.events import AccountHint, BookUpdate, MarketDataRefused
from mmdaemon.core.figures import LARGEST, is_money
from mmdaemon.core.types import E10, Instrument
from tests.fuzz.plain_frames import INTERVAL_S, Bad, PlainFrames
from tests.fuzz.pushes import DAMAGE, Venue, samples_of
from tests.venues.bitget.heard import ApiName, Bench

EPISODE: Final = 400
BTC: Final = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=E10 // 100, lot_e10=E10 // 10_000)


class Violation(AssertionError):
    """What must hold does not; the seed, the number and the frame are in the message."""


class Tally(msgspec.Struct):
    """What a run was made of."""

    frames: int = 0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    facts: Counter[str] = msgspec.field(default_factory=Counter)
    lost: Counter[str] = msgspec.field(default_factory=Counter)
    refused: int = 0
    damaged: int = 0
    damaged_told: int = 0
    """Damaged frames that say something all the same: the damage was elsewhere."""


class Episode:
    """One connection of one API."""

    def __init__(self, rng: Random, tally: Tally, samples: list[str]) -> None:
        api: ApiName = rng.choice(("classic", "unified"))
        verifies = rng.random() < 0.8
        self.tally = tally
        self.bench = Bench(api, checksum=verifies, instrument=BTC)
        self.bench.streams.set_interval_s(INTERVAL_S)
        self.bench.streams._is_first_trades = False
        self.plain = PlainFrames(api, verifies=verifies)
        self.venue = Venue(rng, api, samples, checksums=rng.random() < 0.3)
        self.rng = rng

    def one(self) -> None:
        bench, tally = self.bench, self.tally
        data, kind, is_honest = self.venue.next()
        mono_ns, ts_ns = bench.now = (bench.now[0] + 1_000_000, self.venue.ts_ms * 1_000_000)
        if self.rng.random() < 0.002:
            bench.streams.reset_public()
            self.plain.lose()
            self.venue.has_book = False
            bench.streams._is_first_trades = is_honest = False
        was_good = bench.streams._book.is_good
        done = bench.streams.on_frame(data, self.rng.choice((None, False, True)))
        told = bench.heard.take()
        newest_ns = self.plain.newest_ns
        try:
            expected = self.plain.read(data, mono_ns, ts_ns)
        except Bad:
            expected = []
        if all(type(it) is not BookUpdate for _, it in told):
            self.plain.newest_ns = newest_ns  # what was not applied is not what a later frame may be too old for
        self._judge(done, told, expected, was_good=was_good, is_honest=is_honest, kind=kind)
        tally.frames += 1
        tally.kinds[kind] += 1
        if kind in DAMAGE:
            tally.damaged += 1
            tally.damaged_told += any(
                isinstance(it, msgspec.Struct) and type(it) is not MarketDataRefused for _, it in told
            )

    def _judge(
        self,
        done: object,
        told: list[tuple[str, Any]],
        expected: list[Any],
        *,
        was_good: bool,
        is_honest: bool,
        kind: str,
    ) -> None:
        is_good = self.bench.streams._book.is_good
        structs = [it for _, it in told if isinstance(it, msgspec.Struct)]
        facts = [it for it in structs if type(it) not in (MarketDataRefused, AccountHint)]
        for hint in structs:
            # It books nothing, and has the account read at most. What it says is judged in test_holdings.py.
            if type(hint) is AccountHint and not _is_possible(hint):
                raise Violation(f"told {hint}")
        names = [name for name, _ in told]
        is_said = bool(expected)
        if done is not True and (done is not False or told):
            raise Violation(f"on_frame gave {done!r} and told {names}")
        for fact in facts:
            if fact not in expected:
                raise Violation(f"told {fact}, of a frame that says {expected}")
            expected.remove(fact)
        if not is_good:
            self.plain.lose()
        elif not self.plain.is_good:
            raise Violation("there is a book, and a plain reading has none")
        if was_good and not is_good and "lost" not in names:
            raise Violation(f"the book was lost and nobody told: {names}")
        if is_good and not was_good and names[:2] != ["back", "BookUpdate"]:
            raise Violation(f"there is a book again, and {names} was told")
        if "back" in names and was_good:
            raise Violation("the book came back that never went")
        # A damaged frame may have brought a later time (within the minute that a clock may be off): then a snapshot is
        # stale, and the changes after it follow nothing.
        is_due = is_honest and is_said and (kind == "snapshot" or (kind == "change" and was_good))
        if is_due and [type(fact) for fact in facts] != [BookUpdate]:
            raise Violation(f"an honest {kind} was not told: {told}")
        if is_honest and kind not in ("snapshot", "change", "acknowledged", "ticker") and not facts:
            raise Violation(f"honest {kind} were not told: {told}")
        for name, it in told:
            if name == "lost":
                self.tally.lost[it] += 1
            self.tally.refused += name in ("refused", "MarketDataRefused")
        self.tally.facts.update(type(fact).__name__ for fact in facts)


def fuzz(folder: Path | None, seed: int, damaged: int, said: Callable[[Tally], None] | None = None) -> Tally:
    """So many damaged frames, and the honest ones between them; `folder` has the venue's samples.

    Raises:
        Violation: at the first thing that must not be.
    """
    samples = samples_of(folder)
    tally = Tally()
    number = 0
    while tally.damaged < damaged:
        rng = Random(f"{seed}/{number}")
        episode = Episode(rng, tally, samples)
        for step in range(EPISODE):
            try:
                episode.one()
            except Exception as error:
                raise Violation(
                    f"seed {seed}, episode {number}, frame {step}: {type(error).__name__}: {error}"
                ) from error
        number += 1
        if said is not None:
            said(tally)
    return tally


def _is_possible(hint: AccountHint) -> bool:
    lots, wallet_e10 = hint.position_lots, hint.wallet_e10
    is_size = lots is None or (type(lots) is int and abs(lots) <= LARGEST)
    return is_size and (wallet_e10 is None or is_money(wallet_e10))
