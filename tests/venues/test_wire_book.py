"""Our own book: against a plain one, and against everything that must end it."""

import json
import zlib
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from mmdaemon.core.types import E10, Instrument
from mmdaemon.venues.codec import Scale
from mmdaemon.venues.wire_book import FRAME_LEVELS_MAX, SIDE_LEVELS_MAX, WireBook, WireLevel

BTC = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
BIDS: list[WireLevel] = [("99.9", "1"), ("99.8", "2"), ("99.7", "3")]
ASKS: list[WireLevel] = [("100.1", "1.5"), ("100.2", "2.5")]


def crc(bids: list[WireLevel], asks: list[WireLevel]) -> int:
    """The venue's rule, as its documentation has it: taking turns while a side lasts."""
    parts: list[str] = []
    for i in range(25):
        for side in (bids, asks):
            if i < len(side):
                parts += side[i]
    value = zlib.crc32(":".join(parts).encode())
    return value - 2**32 if value >= 2**31 else value


def book(*, seq: int | None = 10, checksum: bool = True) -> WireBook:
    made = WireBook(Scale(BTC), checksum=checksum)
    assert made.on_snapshot(BIDS, ASKS, seq=seq, checksum=None, ts_ns=1_000) == ""
    return made


def change(
    of: WireBook,
    bids: list[WireLevel] | None = None,
    asks: list[WireLevel] | None = None,
    *,
    pseq: int | None = 10,
    seq: int | None = 11,
    checksum: int | None = None,
    ts_ns: int = 2_000,
) -> str:
    return of.on_change(bids or [], asks or [], pseq=pseq, seq=seq, checksum=checksum, ts_ns=ts_ns)


def test_changes_are_applied() -> None:
    b = book()
    assert change(b, [("99.9", "0"), ("99.85", "7"), ("50", "0")][:1], [("100.0", "4"), ("100.2", "0.1")]) == ""
    assert b.top(10) == (((998, 20_000), (997, 30_000)), ((1_000, 40_000), (1_001, 15_000), (1_002, 1_000)))
    assert change(b, [("12.3", "0")], pseq=11, seq=15) == ""  # taking out what is not there is nothing
    assert b.top(1) == (((998, 20_000),), ((1_000, 40_000),))
    assert b.seq == 15


@pytest.mark.parametrize(
    ("pseq", "seq"), [(9, 11), (11, 12), (0, 11), (10, 10), (12, 11), (5, 9), (0, 1), (2**62, 2**62 + 1)]
)
def test_a_gap_ends_it_until_a_snapshot(pseq: int, seq: int) -> None:
    """Not the next in line, a restart (0), a number that does not rise, and a change older than the snapshot."""
    b = book()
    assert change(b) == ""  # 11
    b.seq, b._is_fresh = 10, False
    assert change(b, [("99.9", "5")], pseq=pseq, seq=seq) == "gap"
    assert not b.is_good
    assert b.top(5) == ((), ())
    assert change(b, pseq=10, seq=11) == "no_book"  # what came late does not heal it
    assert change(b, pseq=seq, seq=seq + 1) == "no_book"
    assert b.on_snapshot(BIDS, ASKS, seq=3, checksum=None, ts_ns=2_000) == ""
    assert b.is_good
    assert change(b, pseq=3, seq=4) == ""


def test_the_first_change_may_reach_back_over_the_snapshot_and_only_the_first() -> None:
    """The venue's rule: the snapshot's number lies within [pseq, seq] of the first change after it."""
    b = book()
    assert change(b, [("99.9", "9")], pseq=7, seq=12) == ""
    assert b.top(1)[0] == ((999, 90_000),)
    assert change(b, pseq=11, seq=13) == "gap"
    b = book()
    assert change(b, pseq=7, seq=10) == ""  # no further than the snapshot
    assert change(b, pseq=10, seq=11) == ""
    for pseq, seq in ((7, 9), (0, 12), (10, 10), (11, 12)):
        assert change(book(), pseq=pseq, seq=seq) == "gap"


def test_a_change_without_a_snapshot_makes_no_book() -> None:
    b = WireBook(Scale(BTC))
    assert change(b, BIDS, ASKS, pseq=0, seq=1) == "no_book"
    assert not b.is_good


def test_a_change_without_numbers_proves_nothing() -> None:
    for pseq, seq in ((None, 11), (10, None), (None, None)):
        b = book()
        assert change(b, pseq=pseq, seq=seq) == "no_sequence"
        assert not b.is_good
    b = WireBook(Scale(BTC))
    assert b.on_snapshot(BIDS, ASKS, seq=None, checksum=None, ts_ns=1) == "no_sequence"
    assert b.on_snapshot(BIDS, ASKS, seq=None, checksum=0, ts_ns=1) == "no_sequence"


def test_the_legacy_book_has_a_checksum_alone() -> None:
    b = WireBook(Scale(BTC))
    assert b.on_snapshot(BIDS, ASKS, seq=None, checksum=crc(BIDS, ASKS), ts_ns=1) == ""
    after = [("99.9", "1.50"), *BIDS[1:]]
    assert change(b, [("99.9", "1.50")], pseq=None, seq=None, checksum=crc(after, ASKS)) == ""
    assert change(b, [("99.9", "1.51")], pseq=None, seq=None, checksum=crc(after, ASKS)) == "checksum"
    assert not b.is_good
    for pseq, seq, checksum in ((None, None, None), (10, 11, crc(BIDS, ASKS))):  # neither nothing nor a new kind
        b = WireBook(Scale(BTC))
        assert b.on_snapshot(BIDS, ASKS, seq=None, checksum=crc(BIDS, ASKS), ts_ns=1) == ""
        assert change(b, pseq=pseq, seq=seq, checksum=checksum) == "no_sequence"
    blind = WireBook(Scale(BTC), checksum=False)
    assert blind.on_snapshot(BIDS, ASKS, seq=None, checksum=crc(BIDS, ASKS), ts_ns=1) == "no_sequence"


def test_a_checksum_that_is_sent_is_verified_beside_the_sequence() -> None:
    """Levels from before the first checksum count with the digits they came in; 0 is none."""
    after = [("99.90", "1.000"), *BIDS[1:]]
    b = book()
    assert change(b, checksum=0) == ""
    assert change(b, [("99.90", "1.000")], pseq=11, seq=12, checksum=crc(after, ASKS)) == ""
    assert change(b, pseq=12, seq=13, checksum=crc(BIDS, ASKS)) == "checksum"
    assert not b.is_good
    assert change(book(checksum=False), checksum=12345) == ""
    assert WireBook(Scale(BTC)).on_snapshot(BIDS, ASKS, seq=1, checksum=7, ts_ns=1) == "checksum"


def test_the_checksum_takes_turns_while_a_side_lasts() -> None:
    for n_bids, n_asks in ((40, 40), (40, 3), (2, 40), (25, 25), (1, 0), (0, 1)):
        bids = [(f"{100 - i / 10:.1f}", f"{i}.10") for i in range(1, n_bids + 1)]
        asks = [(f"{100 + i / 10:.1f}", f"{i}.20") for i in range(1, n_asks + 1)]
        b = WireBook(Scale(BTC))
        assert b.on_snapshot(bids[::-1], asks[::-1], seq=None, checksum=crc(bids, asks), ts_ns=1) == ""


def test_crossed_is_no_book_and_locked_is_one() -> None:
    assert change(book(), [("100.2", "1")]) == "crossed"
    assert change(book(), None, [("99.8", "1")]) == "crossed"
    locked = book()
    assert change(locked, [("100.1", "1")]) == ""
    assert locked.top(1) == (((1_001, 10_000),), ((1_001, 15_000),))
    assert change(book(), [("100.2", "1")], [("100.1", "0"), ("100.2", "0"), ("100.3", "1")]) == ""
    assert WireBook(Scale(BTC)).on_snapshot(ASKS, BIDS, seq=1, checksum=None, ts_ns=1) == "crossed"


@pytest.mark.parametrize(
    ("level", "why"),
    [
        *((("x", "1"), "not_a_number"), (("99.95", "1"), "off_tick"), (("-1", "1"), "not_positive")),
        *((("0", "0"), "not_positive"), (("99.9", "-1"), "negative"), (("99.9", "0.00001"), "off_lot")),
        *((("NaN", "1"), "not_a_number"), (("99.9", "inf"), "not_a_number"), (("1e17", "1"), "absurd")),
    ],
)
def test_one_bad_level_ends_it(level: WireLevel, why: str) -> None:
    b = book()
    assert change(b, [("99.9", "5"), level]) == why
    assert not b.is_good
    assert WireBook(Scale(BTC)).on_snapshot([*BIDS, level], ASKS, seq=1, checksum=None, ts_ns=1) == why


def test_a_snapshot_has_each_price_once_and_nothing_of_no_size() -> None:
    twice = [*BIDS, ("99.90", "4")]
    assert WireBook(Scale(BTC)).on_snapshot(twice, ASKS, seq=1, checksum=None, ts_ns=1) == "duplicate_level"
    b = WireBook(Scale(BTC))
    assert b.on_snapshot([*BIDS, ("99.6", "0.000")], ASKS[::-1], seq=1, checksum=None, ts_ns=1) == ""
    assert b.top(9) == (((999, 10_000), (998, 20_000), (997, 30_000)), ((1_001, 15_000), (1_002, 25_000)))


def test_a_snapshot_replaces_all_of_it_and_an_old_one_nothing() -> None:
    """After a reconnect ccxt merges the new snapshot into the stale book."""
    b = book()
    assert change(b, ts_ns=5_000) == ""
    assert b.on_snapshot([("1", "1")], [], seq=10, checksum=None, ts_ns=4_999) == "stale"
    assert b.is_good
    assert b.top(1)[0] == ((999, 10_000),)
    b.lose()
    assert b.on_snapshot(BIDS, ASKS, seq=10, checksum=None, ts_ns=4_999) == "stale"
    assert not b.is_good
    assert b.on_snapshot([("90", "1")], [("91", "1")], seq=2, checksum=None, ts_ns=5_000) == ""
    assert b.top(9) == (((900, 10_000),), ((910, 10_000),))


def test_a_flood_is_no_book() -> None:
    many = [(f"{i + 1}.0", "1") for i in range(FRAME_LEVELS_MAX + 1)]
    assert WireBook(Scale(BTC)).on_snapshot(many, [], seq=1, checksum=None, ts_ns=1) == "flood"
    b = WireBook(Scale(BTC))
    assert b.on_snapshot(many[:-1], [], seq=1, checksum=None, ts_ns=1) == ""
    assert FRAME_LEVELS_MAX == SIDE_LEVELS_MAX
    assert change(book(), [("99.9", "1")] * (FRAME_LEVELS_MAX + 1)) == "flood"
    assert change(b, [("0.1", "1")], pseq=1, seq=2) == "flood"


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_plain_book(seed: int) -> None:
    """A dictionary a side, sorted when looked at."""
    rng = Random(seed)
    b = WireBook(Scale(BTC))
    plain: tuple[dict[int, int], dict[int, int]] = {}, {}
    for seq in range(600):
        fair = 1_000 + rng.randint(-2, 2)
        sides: list[list[WireLevel]] = []
        is_snapshot = seq == 0 or rng.random() < 0.02
        if is_snapshot:
            plain = ({}, {})
        for side, sign in zip(plain, (-1, 1), strict=True):
            levels: dict[int, int] = {}
            for px in [px for px in side if (px - fair) * sign <= 0]:
                levels[px] = 0
            for _ in range(rng.randint(0, 12)):
                levels[fair + sign * rng.randint(1, 40)] = rng.choice((0, 0, rng.randint(1, 10**6)))
            for px, lots in levels.items():
                side[px] = lots
                if not lots:
                    del side[px]
            shuffled = list(levels.items())
            rng.shuffle(shuffled)
            sides.append([(f"{px / 10:.1f}", f"{lots / 10_000:.4f}") for px, lots in shuffled])
        bids, asks = sides
        if is_snapshot:
            assert b.on_snapshot(bids, asks, seq=seq + 1, checksum=None, ts_ns=seq) == ""
        else:
            assert change(b, bids, asks, pseq=seq, seq=seq + 1, ts_ns=seq) == ""
        depth = rng.choice((1, 5, 10, 1_000))
        ours, theirs = sorted(plain[0].items(), reverse=True)[:depth], sorted(plain[1].items())[:depth]
        assert b.top(depth) == (tuple(ours), tuple(theirs))


def test_every_recorded_checksum_verifies(shared_data: Path) -> None:
    """194 frames of two real contracts, recorded in 2022: each that is applied is one whose checksum is ours."""
    fine = msgspec.structs.replace(BTC, tick_e10=1, lot_e10=1_000_000)  # of both; no money is counted in it
    verified, books = 0, dict[str, WireBook]()
    for line in (shared_data / "bitget_messages" / "recorded_mix_v1.txt").read_text().splitlines():
        _, _, text = line.partition(": ")
        push: dict[str, Any] = json.loads(text) if text.startswith('{"action"') else {}
        if not push or push["arg"]["channel"] != "books":
            continue
        row = push["data"][0]
        b = books.setdefault(push["arg"]["instId"], WireBook(Scale(fine)))
        given = {"checksum": row["checksum"], "ts_ns": int(row["ts"]), "seq": None}
        levels = [[(px, qty) for px, qty in row[side]] for side in ("bids", "asks")]
        is_snapshot = push["action"] == "snapshot"
        why = b.on_snapshot(*levels, **given) if is_snapshot else b.on_change(*levels, pseq=None, **given)
        assert why == "", (verified, push["arg"])
        verified += 1
    assert verified == 194
