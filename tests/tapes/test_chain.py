"""Several recordings as one: nothing is told at the seam, and what does not fit together is refused by name."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.types import E10
from mmdaemon.tapes.chain import Chain
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.records import Record
from mmdaemon.tapes.rows import TapeError
from tests.tapes.made import FACTS, INSTRUMENT, MS, T0, Made, any_records, delta, snapshot, trade


def chained(*parts: Made) -> Chain:
    return Chain(parts, [f"{letter}.parquet" for letter in "abcdef"[: len(parts)]])


@given(any_records(), st.data())
def test_a_recording_that_was_cut_plays_like_the_whole(records: list[Record], data: st.DataObject) -> None:
    whole = [snapshot(0), *records]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole)), max_size=3)) | {len(whole)})
    parts = [Made(whole[a:b]) for a, b in zip([0, *cuts], cuts, strict=False)]
    chain = chained(*parts)
    assert list(chain.records()) == whole
    assert list(Tape(chain).events()) == list(Tape(Made(whole)).events())


def test_the_book_is_kept_over_the_seam() -> None:
    chain = chained(Made([snapshot(0)]), Made([trade(1), delta(2, ((98, 1),))]))
    events = list(Tape(chain).events())
    assert isinstance(events[1], TradePrint)  # no history: the book of the file before stands
    assert isinstance(events[2], BookUpdate)
    assert events[2].bids == ((100, 5), (99, 6), (98, 1))
    assert len(events) == 4
    assert (chain.start_ts_ns, chain.end_ts_ns) == (T0, T0 + 2 * MS)


@pytest.mark.parametrize(
    ("differs", "why"),
    [
        (
            {"instrument": msgspec.structs.replace(INSTRUMENT, tick_e10=E10), "steps_from": "inferred"},
            r"b.parquet: tick_e10 is 10000000000, and 1000000000 in a.parquet \(given and inferred\)",
        ),
        (
            {"instrument": msgspec.structs.replace(INSTRUMENT, symbol="ETHUSDT")},
            "b.parquet: symbol is ETHUSDT, and BTCUSDT in a.parquet",
        ),
        (
            {"instrument": msgspec.structs.replace(INSTRUMENT, min_notional_e10=0)},
            "b.parquet: min_notional_e10 is 0",
        ),
        ({"clock_shift_ns": 5}, "b.parquet: clock_shift_ns is 5, and 0 in a.parquet; convert each"),
        ({"book_lag_ns": 5}, "b.parquet: book_lag_ns is 5"),
        ({"book_step_ticks": 10}, "b.parquet: book_step_ticks is 10"),
        ({"funding_interval_s": 3_600}, "b.parquet: funding_interval_s is 3600"),
    ],
)
def test_what_differs_is_refused_by_name(differs: dict[str, Any], why: str) -> None:
    with pytest.raises(TapeError, match=why):
        chained(Made([snapshot(0)]), Made([snapshot(9)], **differs))


def test_overlap_is_refused_by_name() -> None:
    with pytest.raises(TapeError, match=r"b\.parquet: begins 2026-01-01 00:00:00 UTC, 0\.001 s before a\.parquet ends"):
        chained(Made([snapshot(0), snapshot(7)]), Made([snapshot(6)]))
    chained(Made([snapshot(0), snapshot(7)]), Made([snapshot(7)]))


def test_overlap_that_shows_only_in_playing_is_refused_then() -> None:
    chain = chained(Made([snapshot(0), snapshot(7)], end_known=False), Made([snapshot(6)], end_known=False))
    assert chain.end_ts_ns is None
    events = Tape(chain).events()
    assert [type(next(events)) for _ in range(2)] == [BookUpdate, BookUpdate]
    with pytest.raises(TapeError, match=r"b\.parquet: begins .* before a\.parquet ends"):
        next(events)


def test_refusals_are_those_of_all_parts() -> None:
    chain = chained(Made([snapshot(0)]).drop("duplicate", 6), Made([snapshot(1)]).drop("duplicate", 1).drop("gap", 1))
    assert chain.refusals.counts == {"duplicate": 7, "gap": 1}
    assert len(chain.refusals.described) == 7
    assert Tape(chain).refused == {"duplicate": 7, "gap": 1}


def test_what_the_parts_say_is_put_together() -> None:
    parts = [
        Made([snapshot(n)], steps_from=f"inferred from {min(n, 3)}", provenance={"rows": str(n), "made": "here"})
        for n in range(6)
    ]
    facts = chained(*parts).facts
    assert facts.steps_from == "inferred from 0; inferred from 1; inferred from 2; and 1 more"
    assert facts.provenance == {
        "rows": "0; 1; 2; and 3 more",
        "made": "here",
        "files": "6 in order: a.parquet; b.parquet; c.parquet; and 3 more",
    }
    assert chained(Made([snapshot(0)])).facts == FACTS


def test_nothing_to_chain() -> None:
    with pytest.raises(TapeError, match="name at least one"):
        Chain([], [])
