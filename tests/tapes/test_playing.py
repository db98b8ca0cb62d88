"""A recording as a market: the book against a model of it, times and their corrections, and what is not told."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given

from mmdaemon.core.events import BookUpdate, FundingRate, MarketEvent, MarkPrice, SourceEnded, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.tapes.playing import SHOWN, Tape, crossed_warning, nearest_ticks, share_of
from mmdaemon.tapes.records import Depth, DepthKind, Levels, Record, Ticker
from mmdaemon.tapes.rows import TapeError
from mmdaemon.venues.base import MarketSource
from tests.tapes.made import MS, T0, Made, any_records, delta, snapshot, touch, trade


def play(*records: Record, **facts: Any) -> list[MarketEvent]:
    return list(Tape(Made(records, **facts)).events())


def books(*records: Record) -> list[tuple[Levels, Levels]]:
    return [(event.bids, event.asks) for event in play(*records) if isinstance(event, BookUpdate)]


def ticker(ms: int, settles_ms: int | None = 1_000, rate: str = "0.0001", mark: str = "") -> Ticker:
    at = None if settles_ms is None else T0 + settles_ms * MS
    return Ticker(T0 + ms * MS, T0 + (ms + 5) * MS, at, rate, mark_px=mark)


# --- the book ---------------------------------------------------------------------------------------------------------


def test_a_tape_is_a_market_source() -> None:
    source: MarketSource = Tape(Made([snapshot(0), trade(1)]))
    assert [type(event) for event in source.events()] == [BookUpdate, TradePrint, SourceEnded]
    assert source.start_ts_ns == T0


def test_a_snapshot_replaces_the_book() -> None:
    assert books(snapshot(0), snapshot(1, ((90, 1),), ((91, 2),)))[1] == (((90, 1),), ((91, 2),))


def test_a_delta_changes_what_it_names_and_nothing_else() -> None:
    told = books(
        snapshot(0),
        delta(1, ((99, 1), (98, 2)), ((101, 0),)),
        delta(2, ((100, 0), (97, 0)), ((100, 3),)),
        delta(3),
    )
    assert told[1] == (((100, 5), (99, 1), (98, 2)), ((102, 8),))
    assert told[2] == (((99, 1), (98, 2)), ((100, 3), (102, 8)))
    assert told[3] == told[2]  # it says that the book is still so


def test_a_stream_without_a_snapshot_is_told_once_both_sides_are_there() -> None:
    tape = Tape(Made([delta(0, ((100, 5),)), delta(1, ((99, 5),)), trade(1), delta(2, (), ((101, 1),)), trade(3)]))
    events = list(tape.events())
    assert [type(event) for event in events] == [BookUpdate, TradePrint, SourceEnded]
    assert isinstance(events[0], BookUpdate)
    assert (events[0].bids, events[0].asks) == (((100, 5), (99, 5)), ((101, 1),))
    assert tape.refused == {"before_first_book": 2, "history": 1}
    assert tape.defects[0] == "record 1: before_first_book: the book lacks a side, so it is not told"
    assert tape.start_ts_ns == T0 + 2 * MS


def test_a_book_that_loses_a_side_is_counted_and_not_told() -> None:
    tape = Tape(Made([snapshot(0), delta(1, (), ((101, 0), (102, 0))), delta(2, (), ((101, 1),))]))
    told = [event for event in tape.events() if isinstance(event, BookUpdate)]
    assert [event.venue_ts_ns for event in told] == [T0, T0 + 2 * MS]
    assert tape.refused == {"one_sided": 1}


def test_a_touch_takes_what_is_better_and_keeps_what_is_deeper() -> None:
    whole = snapshot(0, ((100, 5), (99, 6), (98, 7)), ((101, 5), (102, 6), (103, 7)))
    told = books(
        whole,
        touch(1, ((99, 1),), ((102, 2),)),
        touch(2, ((102, 3),), ((104, 4),)),
        touch(3, ((97, 3),), ((98, 4),)),
    )
    assert told[1] == (((99, 1), (98, 7)), ((102, 2), (103, 7)))
    assert told[2] == (((102, 3), (99, 1), (98, 7)), ((104, 4),))
    assert told[3] == (((97, 3),), ((98, 4), (104, 4)))


def test_a_touch_grows_no_side_beyond_the_snapshot_unless_deltas_did() -> None:
    assert books(snapshot(0), touch(1, ((101, 1),), ((102, 1),)))[1] == (((101, 1), (100, 5)), ((102, 1),))
    told = books(snapshot(0), delta(1, ((98, 1),)), touch(2, ((101, 1),), ((102, 1),)))
    assert told[2] == (((101, 1), (100, 5), (99, 6), (98, 1)), ((102, 1),))


def test_a_touch_that_says_nothing_new_is_not_told_and_one_of_one_side_empties_the_other() -> None:
    tape = Tape(Made([snapshot(0), touch(1, ((100, 5),), ((101, 7),)), touch(2, ((100, 5),)), trade(3)]))
    assert [type(event) for event in tape.events()] == [BookUpdate, TradePrint, SourceEnded]
    assert tape.refused == {"one_sided": 1}


def test_touches_alone_make_a_book_of_one_level() -> None:
    assert books(touch(0, ((100, 1),), ((101, 1),)), touch(1, ((100, 2),), ((101, 1),)))[1] == (
        ((100, 2),),
        ((101, 1),),
    )


def test_a_message_in_parts_is_told_once_it_is_whole() -> None:
    parts = [
        snapshot(0),
        snapshot(1, ((90, 1),), (), more=True),
        delta(1, (), ((91, 2),), more=True),
        delta(1, ((89, 3),), late_ms=9),
    ]
    events = play(*parts)
    assert [type(event) for event in events] == [BookUpdate, BookUpdate, SourceEnded]
    assert isinstance(events[1], BookUpdate)
    assert (events[1].bids, events[1].asks) == (((90, 1), (89, 3)), ((91, 2),))
    assert events[1].ts_ns == T0 + 10 * MS


def test_no_more_than_the_best_levels_are_told() -> None:
    bids, asks = tuple((1_000 - n, 1) for n in range(80)), tuple((1_001 + n, 1) for n in range(80))
    told = books(snapshot(0, bids, asks), delta(1, ((1_000, 0),)))
    assert told[0] == (bids[:SHOWN], asks[:SHOWN])
    assert told[1] == (bids[1 : SHOWN + 1], asks[:SHOWN])


def model(records: list[Record]) -> list[tuple[Levels, Levels]]:
    """Every book told, by two dictionaries and nothing clever; without the cap on depth."""
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    told: list[tuple[Levels, Levels]] = []
    for record in records:
        if not isinstance(record, Depth):
            continue
        if record.kind is DepthKind.SNAPSHOT:
            bids, asks = dict(record.bids), dict(record.asks)
        elif record.kind is DepthKind.DELTA:
            bids.update(record.bids)
            asks.update(record.asks)
        else:
            best_bid, best_ask = (side[0][0] if side else None for side in (record.bids, record.asks))
            if (
                record.bids == tuple(sorted(bids.items(), reverse=True)[:1])
                and record.asks == tuple(sorted(asks.items())[:1])
            ):  # fmt: skip
                continue
            bids = {px: lots for px, lots in bids.items() if best_bid is not None and px < best_bid}
            asks = {px: lots for px, lots in asks.items() if best_ask is not None and px > best_ask}
            bids.update(record.bids)
            asks.update(record.asks)
        bids = {px: lots for px, lots in bids.items() if lots}
        asks = {px: lots for px, lots in asks.items() if lots}
        if not record.more and bids and asks:
            told.append((tuple(sorted(bids.items(), reverse=True)), tuple(sorted(asks.items()))))
    return told


@given(any_records())
def test_the_book_is_that_of_the_model(records: list[Record]) -> None:
    # A delta before everything else lifts the cap that snapshots put on touches.
    opening = [delta(0, ((1, 1),), ((2**40, 1),))]
    told: list[Record] = []
    for record in records:
        told.append(record)
        if isinstance(record, Depth) and record.kind is DepthKind.SNAPSHOT:
            told.append(Depth(record.venue_ts_ns, record.local_ts_ns, DepthKind.DELTA, (), (), more=True))
    assert books(*opening, *told) == model([*opening, *told])


@given(any_records())
def test_times_never_fall(records: list[Record]) -> None:
    events = play(snapshot(0), *records)
    for earlier, later in pairwise(events):
        assert earlier.ts_ns <= later.ts_ns
        assert (earlier.venue_ts_ns or 0) <= (later.venue_ts_ns or 0)
    assert isinstance(events[-1], SourceEnded)


# --- times ------------------------------------------------------------------------------------------------------------


def test_clock_and_lag_are_corrected() -> None:
    tape = Tape(
        Made(
            [snapshot(300), trade(200), snapshot(700)],
            clock_shift_ns=1_200 * MS,
            clock_from="measured",
            book_lag_ns=250 * MS,
            lag_from="measured too",
        )
    )
    events = list(tape.events())
    assert [event.venue_ts_ns for event in events] == [T0 + ms * MS for ms in (50, 200, 450, 450)]
    assert [event.ts_ns - T0 for event in events] == [ms * MS for ms in (1_505, 1_505, 1_905, 1_905)]
    assert tape.provenance["local clock"] == "+1,200.000 ms: measured"
    assert tape.provenance["lag of the book"] == "250.000 ms: measured too"
    assert tape.provenance["local times raised"] == "1"


def test_local_time_is_raised_and_counted() -> None:
    tape = Tape(Made([snapshot(0, late_ms=50), trade(1, late_ms=10), trade(2, late_ms=60), trade(3, late_ms=59)]))
    assert [event.ts_ns - T0 for event in tape.events()] == [50 * MS, 50 * MS, 62 * MS, 62 * MS, 62 * MS]
    assert tape.provenance["local times raised"] == "1"


@pytest.mark.parametrize(
    ("px_ticks", "step_ticks", "side"),
    [
        (99, 1, Side.SELL),
        (100, 1, Side.SELL),
        (103, 1, None),
        (110, 1, Side.BUY),
        (107, 10, Side.SELL),  # a bid of 107 was written down as 100
        (109, 5, None),
        (119, 10, Side.BUY),
    ],
)
def test_the_aggressor_is_inferred_where_it_was_not_recorded(px_ticks: int, step_ticks: int, side: Side | None) -> None:
    book = snapshot(1, ((100, 5),), ((110, 7),))
    tape = Tape(Made([book, trade(2, px_ticks, 3, None), trade(3, px_ticks, 3, Side.BUY)], book_step_ticks=step_ticks))
    _, inferred, recorded, _ = tape.events()
    assert isinstance(inferred, TradePrint)
    assert isinstance(recorded, TradePrint)
    assert (inferred.aggressor, recorded.aggressor) == (side, Side.BUY)
    assert f"inferred by the quote rule for {int(side is not None)} of 1 prints" in tape.provenance["aggressor"]


def test_in_a_locked_book_nobody_can_tell_who_took() -> None:
    events = play(snapshot(1, ((100, 5),), ((100, 7),)), trade(2, 100, 3, None))
    assert isinstance(events[1], TradePrint)
    assert events[1].aggressor is None


def test_venue_time_that_falls_is_refused_with_the_record() -> None:
    tape = Tape(Made([snapshot(5), trade(6), snapshot(4)]))
    events = tape.events()
    assert isinstance(next(events), BookUpdate)
    assert isinstance(next(events), TradePrint)
    with pytest.raises(
        TapeError, match=r"made, BTCUSDT perpetual: record 3 \(snapshot\) .* 2\.000 ms before an earlier"
    ):
        next(events)


def test_the_correction_itself_can_make_time_fall() -> None:
    with pytest.raises(TapeError, match=r"record 2 \(snapshot\)"):
        Tape(Made([trade(0), snapshot(1)], book_lag_ns=2 * MS))


# --- trades, funding and mark -----------------------------------------------------------------------------------------


def test_trades_before_the_first_book_are_history() -> None:
    tape = Tape(Made([trade(0), snapshot(1), trade(2, 100, 3, Side.BUY)]).drop("duplicate", 2))
    events = list(tape.events())
    assert [type(event) for event in events] == [BookUpdate, TradePrint, SourceEnded]
    assert isinstance(events[1], TradePrint)
    assert (events[1].px_ticks, events[1].qty_lots, events[1].aggressor) == (100, 3, Side.BUY)
    assert tape.refused == {"duplicate": 2, "history": 1}
    assert tape.defects == [
        "made.csv row 0: duplicate: in a test",
        "made.csv row 1: duplicate: in a test",
        "record 1: history: a trade older than the first book",
    ]
    assert tape.provenance["dropped"] == "2 duplicate, 1 history"
    assert [type(event) for event in tape.events()] == [BookUpdate, TradePrint, SourceEnded]
    assert tape.refused == {"duplicate": 2, "history": 1}


@pytest.mark.parametrize(
    ("px", "step", "side"),
    [
        (99, 1, Side.SELL),
        (100, 1, Side.SELL),
        (101, 1, None),
        (102, 1, None),
        (103, 1, Side.BUY),
        (104, 1, Side.BUY),
        (101, 5, Side.SELL),  # 100 where books are written in fives
        (104, 5, Side.SELL),
        (105, 5, Side.BUY),
    ],
)
def test_an_aggressor_that_is_not_known_is_inferred_from_the_book(px: int, step: int, side: Side | None) -> None:
    book = snapshot(0, ((100, 1),), ((103 if step == 1 else 105, 1),))
    tape = Tape(Made([book, trade(1, px, side=None), trade(2, px, side=Side.BUY)], book_step_ticks=step))
    told = [event.aggressor for event in tape.events() if isinstance(event, TradePrint)]
    assert told == [side, Side.BUY]  # what was recorded stands, whatever the book says
    assert tape.provenance["aggressor"] == (
        f"not told of every print; inferred by the quote rule for {int(side is not None)} of 1 prints"
    )


def test_no_aggressor_is_inferred_from_a_locked_book_and_the_last_one_told_counts() -> None:
    locked = snapshot(0, ((100, 1),), ((100, 1),))
    events = play(
        locked, trade(1, 100, side=None), snapshot(2), trade(3, 100, side=None), delta(4), trade(5, 101, side=None)
    )
    told = [event.aggressor for event in events if isinstance(event, TradePrint)]
    assert told == [None, Side.SELL, Side.BUY]


def test_funding_needs_a_rate_and_a_settlement_to_come() -> None:
    told = play(
        snapshot(0),
        ticker(1),
        ticker(2, settles_ms=None),
        ticker(3, rate=""),
        ticker(1_000),  # it settles now: what comes next is not said
        ticker(1_001, settles_ms=2_000, rate="0"),
        funding_interval_s=3_600,
    )
    rates = [event for event in told if isinstance(event, FundingRate)]
    assert [(rate.rate, rate.next_ts_ns - T0, rate.interval_s) for rate in rates] == [
        (0.0001, NS, 3_600),
        (0.0, 2 * NS, 3_600),
    ]


def test_marks_are_rounded_half_to_even_and_never_made_up() -> None:
    told = play(snapshot(0), ticker(1, mark="10.25"), ticker(2, mark="10.35"), ticker(3), ticker(4, mark="10.351"))
    assert [event.px_ticks for event in told if isinstance(event, MarkPrice)] == [102, 104, 104]


@pytest.mark.parametrize(
    "text", ["", "nan", "inf", "-5", "0", "0.05", "0.04", "x", "1e99999999", "9" * 5_000, "281474976710656"]
)
def test_what_is_no_mark(text: str) -> None:
    assert nearest_ticks(text, 10**9) is None


def test_numbers_that_are_none_are_counted() -> None:
    tape = Tape(Made([snapshot(0), ticker(1, rate="nan"), ticker(2, rate="x", mark="-1")]))
    assert not [event for event in tape.events() if isinstance(event, FundingRate | MarkPrice)]
    assert tape.refused == {"bad_number": 3}
    assert tape.provenance["funding, mark"] == "none"


# --- what is said of it -----------------------------------------------------------------------------------------------


def test_provenance() -> None:
    tape = Tape(Made([snapshot(0), ticker(1, mark="10"), trade(90_000)]))
    list(tape.events())
    assert tape.provenance == {
        "market": "recorded at made, BTCUSDT perpetual",
        "from": "2026-01-01 00:00:00 UTC",
        "to": "2026-01-01 00:01:30 UTC",
        "tick, lot": "0.1, 0.001: given",
        "minimum": "0.001, 5 USDT: given",
        "local clock": "as recorded, not corrected",
        "lag of the book": "none corrected",
        "made": "in a test",
        "funding, mark": "1 funding rate and 1 mark",
        "dropped": "nothing",
        "local times raised": "0",
    }
    assert tape.span_ns == 90 * 10**9
    unknown = Tape(Made([snapshot(0), trade(90_000, side=None)], end_known=False))
    assert unknown.span_ns is None
    assert unknown.provenance["to"] == "not known before the end is reached"
    assert [unknown.provenance[name] for name in ("dropped", "local times raised", "funding, mark")] == [
        "nothing so far",
        "0 so far",
        "none so far",
    ]
    events = unknown.events()
    for _ in range(2):
        next(events)
    assert unknown.provenance["aggressor"].endswith("of 1 prints so far")
    list(events)
    assert unknown.provenance["aggressor"].endswith("of 1 prints")
    assert unknown.provenance["to"] == "2026-01-01 00:01:30 UTC"
    said = Tape(Made([snapshot(0)], provenance={"market": "a market", "funding, mark": "not recorded"})).provenance
    assert (said["market"], said["funding, mark"]) == ("a market", "not recorded")


def test_a_crossed_book_is_told_and_counted() -> None:
    tape = Tape(Made([snapshot(0), delta(1, ((101, 1),)), delta(2, ((102, 1),))]))
    assert [e.bids[0][0] for e in tape.events() if isinstance(e, BookUpdate)] == [100, 101, 102]
    # locked is not crossed
    assert tape.provenance["crossed books"].startswith("1 of 3 (33.3%), told as they are")
    assert (tape.crossed, tape.books) == (1, 3)


def test_more_than_a_hundredth_of_crossed_books_is_warned_of() -> None:
    assert crossed_warning(0, 0) == crossed_warning(1, 100) == ""
    assert crossed_warning(2, 100).startswith("warning: 2.0% of the books are crossed (2 of 100)")
    assert share_of(1, 10**6) == "under 0.1%"


def test_no_book_is_no_market() -> None:
    with pytest.raises(TapeError, match=r"no book with both sides in the whole recording.*there is nothing in it"):
        Tape(Made([], end_known=False))
    with pytest.raises(TapeError, match=r"no book with both sides.*dropped: 1 before_first_book, 1 history"):
        Tape(Made([delta(0, ((100, 1),)), trade(1, side=Side.SELL)]))
