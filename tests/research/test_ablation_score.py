"""Scores of a journal made row by row: each figure is one that a reader can compute by hand."""

from itertools import count
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mmdaemon.core.decision import Decision, EdgeBreakdown
from mmdaemon.core.events import OrderUpdate
from mmdaemon.core.types import E10, NS, GuardState, OrderStatus, Side
from mmdaemon.journal import rows
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.statements import Row
from mmdaemon.research.ablation.columns import Columns, load, read, save
from mmdaemon.research.ablation.score import Bounds, Score, Scorer, Window, by_block, weighted
from mmdaemon.research.ablation.spans import both, length, union
from mmdaemon.tapes.playing import Tape
from tests.core.build import inputs as seen
from tests.journal.samples import INSTRUMENT, WALL_NS, begin, fill, place, state_dir, write
from tests.research.report_journals import minute
from tests.tapes.made import Made, snapshot, trade

UNIT = INSTRUMENT.unit_e10 / E10
EDGE = EdgeBreakdown(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
BOUNDS = Bounds(cap_e10=round(1_000 * 50 * UNIT * E10), order_e10=round(1_000 * 5 * UNIT * E10))
"""Ten orders of 5 lots at a price of 1,000."""


def at(seconds: float) -> int:
    return WALL_NS + round(seconds * NS)


def columns(*books: tuple[float, float, float, float], end_s: float = 600.0) -> Columns:
    """(received, venue's time, micro-price, mid), times in seconds since the run began."""
    received, venue, micro, mid = zip(*books, strict=True) if books else ((), (), (), ())
    return Columns(
        received_ns=np.array([at(each) for each in received], dtype=np.int64),
        venue_ns=np.array([at(each) for each in venue], dtype=np.int64),
        micro=np.array(micro, dtype=np.float64),
        mid=np.array(mid, dtype=np.float64),
        print_ns=np.array([at(1), at(300)], dtype=np.int64),
        print_lots=np.array([10, 90], dtype=np.int64),
        print_ticks=np.array([1_000, 1_000], dtype=np.int64),
        start_ns=WALL_NS,
        end_ns=at(end_s),
    )


def window(from_s: float = 0.0, to_s: float = 600.0, block_s: float = 60.0) -> Window:
    return Window(at(from_s), at(to_s), round(block_s * NS))


class Story:
    """Run 1, told row by row, in seconds since it began."""

    def __init__(self, path: Path) -> None:
        state = state_dir(path)
        begin(state)
        self.path = state.journal_path
        self._seq = count(1)
        self._chain = DecisionChain(1, b"")
        self.write(rows.instrument_row(INSTRUMENT, WALL_NS), rows.account_opened_row(1, 100 * E10))
        self.guard(0.0, GuardState.RUNNING)

    def write(self, *made: Row) -> None:
        write(self.path, made)

    def guard(self, seconds: float, to: GuardState, *reasons: str) -> None:
        moved = rows.transition_row(1, next(self._seq), NS + round(seconds * NS), at(seconds), to, to, reasons)
        self.write(moved)

    def end(self, seconds: float) -> None:
        self.write(rows.run_ended_row(1, NS + round(seconds * NS), at(seconds), True, "over"))

    def filled(self, seconds: float, side: Side, px: int, lots: int, order: str = "mmabcd-1-1") -> None:
        seq = next(self._seq)
        event = fill(f"t{seq}", order, side=side, px_ticks=px, qty_lots=lots, fee_e10=0, venue_ts_ns=at(seconds))
        self.write(rows.fill_row(1, seq, event, INSTRUMENT, px))

    def order(self, name: str, side: Side, sent_s: float, *told: tuple[float, OrderStatus]) -> None:
        self.write(*rows.intent_rows(1, next(self._seq), place(name, side), at(sent_s)))
        for seconds, status in told:
            event = OrderUpdate(NS, at(seconds), None, name, status, None, None, None, None, "")
            self.write(*rows.order_rows(1, next(self._seq), event))

    def decided(self, seconds: float, no_bid: str, no_ask: str, cap_lots: int = 50) -> None:
        seq, inputs = next(self._seq), seen()
        decision = Decision((), no_bid, no_ask, 0.0, 0.0, NS, cap_lots, 1_000.0, 1.0, 0.0, EDGE, EDGE)
        encode = msgspec.msgpack.encode
        mono_ns = NS + round(seconds * NS)
        written = self._chain.row(
            seq, mono_ns, at(seconds), inputs.guard, inputs.regime, encode(inputs), encode(decision)
        )
        self.write(written)

    def minute(self, seconds: float, equity: float, spread: float = 0.0, inventory: float = 0.0) -> None:
        addends = {"spread_e10": round(spread * E10), "inventory_e10": round(inventory * E10)}
        self.write(minute(seconds, next(self._seq), equity_e10=round(equity * E10), **addends))

    def score(self, tape: Columns, scored: Window | None = None) -> Score:
        with JournalReader(self.path) as journal:
            run = journal.run(1)
            assert run is not None
            return Scorer(journal, run, INSTRUMENT, tape).score(scored or window(), BOUNDS)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    return Story(tmp_path)


# --- edges ------------------------------------------------------------------------------------------------------------


def test_an_edge_is_the_price_received_later_less_the_fills_over_the_price_before(story: Story) -> None:
    """A purchase at 999 with 1,000 before it, and 1,002 five seconds later: 30 bps."""
    story.filled(10.0, Side.BUY, 999, 5)
    story.end(600)
    tape = columns((9, 8.9, 1_000.0, 1_000.5), (14.5, 14.4, 1_002.0, 1_001.0), (15.5, 14.9, 1_005.0, 1_005.0))
    score = story.score(tape)
    assert score.e5 == pytest.approx((1_002 - 999) / 1_000 * 1e4)
    assert score.e5_mid == pytest.approx((1_001 - 999) / 1_000 * 1e4)
    assert score.e5_venue == pytest.approx((1_005 - 999) / 1_000 * 1e4)
    assert score.effective == pytest.approx(1 / 1_000 * 1e4)
    assert score.edges["1"] == pytest.approx((1_000 - 999) / 1_000 * 1e4)
    assert score.edges["30"] is None


def test_a_sale_counts_the_other_way(story: Story) -> None:
    story.filled(10.0, Side.SELL, 1_001, 5)
    story.end(600)
    score = story.score(columns((9, 9, 1_000.0, 1_000.0), (14.5, 14.4, 1_002.0, 1_002.0)))
    assert score.e5 == pytest.approx(-10.0)
    assert score.effective == pytest.approx(10.0)


def test_an_edge_is_weighted_by_value(story: Story) -> None:
    story.filled(10.0, Side.BUY, 999, 1)
    story.filled(100.0, Side.BUY, 1_000, 3)
    story.end(600)
    books = [(9.0, 1_000.0), (14.0, 1_000.0), (99.0, 1_000.0), (104.0, 999.0)]
    score = story.score(columns(*((t, t, px, px) for t, px in books)))
    assert score.e5 == pytest.approx((999 * 10.0 + 3_000 * -10.0) / 3_999)
    assert score.value == pytest.approx(3_999 * UNIT)
    assert score.value_an_hour == pytest.approx(3_999 * UNIT * 6)
    assert score.tape_share == pytest.approx(3_999 / 100_000)


def test_a_price_that_is_older_than_5_s_is_none_and_counted(story: Story) -> None:
    """The book of 9 s says something of 14 s, and nothing of the moment after."""
    story.filled(9.0, Side.BUY, 1_000, 1)
    story.filled(9.1, Side.BUY, 1_000, 1)
    story.end(600)
    score = story.score(columns((9, 9, 1_001.0, 1_001.0)))
    assert (score.fills, score.unavailable) == (2, 1)
    assert score.e5 == pytest.approx(1 / 1_001 * 1e4)
    assert sum(score.sums.value) == pytest.approx(1_000 * UNIT)


def test_only_the_window_is_scored_and_in_its_blocks(story: Story) -> None:
    for seconds in (50.0, 100.0, 119.9, 120.0, 599.0):
        story.filled(seconds, Side.BUY, 1_000, 1)
    story.end(700)
    tape = columns(*((float(t), float(t), 1_001.0, 1_001.0) for t in range(700)), end_s=700)
    score = story.score(tape, window(60.0, 240.0))
    assert score.fills == 3
    assert score.sums.value == pytest.approx((2_000 * UNIT, 1_000 * UNIT, 0.0))
    assert score.hours == pytest.approx(0.05)


def test_the_last_block_is_of_what_is_left() -> None:
    times = np.array([at(0), at(61), at(89)], dtype=np.int64)
    sums = by_block(times, np.ones(3), np.array([1.0, np.nan, 3.0]), window(0.0, 90.0))
    assert (sums.value, sums.earned) == ((1.0, 1.0), (1.0, 3.0))


def test_nothing_weighs_nothing() -> None:
    assert weighted(np.array([np.nan]), np.array([5.0])) is None
    assert weighted(np.array([]), np.array([])) is None


# --- quoting ----------------------------------------------------------------------------------------------------------


def test_two_sided_is_from_the_venues_word_to_the_end(story: Story) -> None:
    """A bid rests from 10 to 110 s, an ask from 60 to 160 s, of 600 s that were healthy."""
    story.order("b", Side.BUY, 5.0, (10.0, OrderStatus.LIVE), (110.0, OrderStatus.CANCELLED))
    story.order(
        "a", Side.SELL, 50.0, (55.0, OrderStatus.SENT), (60.0, OrderStatus.PARTIAL), (160.0, OrderStatus.FILLED)
    )
    story.end(600)
    score = story.score(columns((0, 0, 1.0, 1.0)))
    assert score.two_sided == pytest.approx(50 / 600)
    assert score.healthy_h == pytest.approx(1 / 6)
    assert (score.orders, score.amends, score.cancels) == (2, 0, 0)


def test_one_order_for_another_is_no_gap_and_an_order_without_end_rests_to_the_end(story: Story) -> None:
    story.order("b1", Side.BUY, 0.0, (0.0, OrderStatus.LIVE), (300.0, OrderStatus.CANCELLED))
    story.order("b2", Side.BUY, 200.0, (250.0, OrderStatus.LIVE))
    story.order("a", Side.SELL, 0.0, (0.0, OrderStatus.LIVE))
    story.order("x", Side.SELL, 0.0, (0.0, OrderStatus.REJECTED))
    story.end(600)
    assert story.score(columns((0, 0, 1.0, 1.0))).two_sided == pytest.approx(1.0)


def test_time_without_a_book_is_not_healthy_and_a_pause_for_another_reason_is(story: Story) -> None:
    story.order("b", Side.BUY, 0.0, (0.0, OrderStatus.LIVE))
    story.order("a", Side.SELL, 0.0, (0.0, OrderStatus.LIVE), (300.0, OrderStatus.CANCELLED))
    story.guard(300.0, GuardState.SOFT_PAUSE, "book")
    story.guard(400.0, GuardState.SOFT_PAUSE, "drift")
    story.guard(500.0, GuardState.RUNNING)
    story.end(600)
    score = story.score(columns((0, 0, 1.0, 1.0)))
    assert score.healthy_h == pytest.approx(500 / 3600)
    assert score.two_sided == pytest.approx(300 / 500)
    expected = {"running": 400 / 600, "soft_pause: book": 100 / 600, "soft_pause: drift": 100 / 600}
    assert score.guard == pytest.approx(expected)


def test_two_sided_of_the_tape_is_of_the_time_with_a_book_of_2_s(story: Story) -> None:
    story.order("b", Side.BUY, 0.0, (0.0, OrderStatus.LIVE), (11.0, OrderStatus.CANCELLED))
    story.order("a", Side.SELL, 0.0, (0.0, OrderStatus.LIVE))
    story.end(600)
    score = story.score(columns((10, 10, 1.0, 1.0), (20, 20, 1.0, 1.0), (21, 21, 1.0, 1.0)))
    assert score.two_sided_tape == pytest.approx(1 / (2 + 3))


def test_a_side_without_a_quote_has_its_reason(story: Story) -> None:
    """The bid is missing for 60 s for the edge and for 30 s for the cap; half of 600 s is one side's."""
    story.decided(0.0, "", "")
    story.decided(60.0, "edge", "")
    story.decided(120.0, "inventory", "")
    story.decided(150.0, "", "")
    story.end(600)
    assert story.score(columns((0, 0, 1.0, 1.0))).absent == pytest.approx({"edge": 0.05, "inventory": 0.025})


# --- position and money -----------------------------------------------------------------------------------------------


def test_time_at_the_cap_is_from_one_order_below_it(story: Story) -> None:
    """40 lots are two orders below the cap of 50, 45 are one."""
    story.filled(100.0, Side.SELL, 1_000, 40)
    story.filled(200.0, Side.SELL, 1_000, 5)
    story.filled(500.0, Side.BUY, 1_000, 5)
    story.end(600)
    score = story.score(columns((0, 0, 1.0, 1.0)))
    assert score.at_cap == pytest.approx(300 / 600)
    assert score.max_share == pytest.approx(0.9)
    assert score.max_position == pytest.approx(45_000 * UNIT)
    later = story.score(columns((0, 0, 1.0, 1.0)), window(400.0, 600.0))
    assert (later.at_cap, later.max_share) == (pytest.approx(0.5), 0.0)


def test_a_dearer_price_alone_is_no_larger_position(story: Story) -> None:
    """What was bought within the cap is worth more than the cap where a part of it is sold again."""
    story.filled(100.0, Side.BUY, 1_000, 50)
    story.filled(200.0, Side.SELL, 1_100, 1)
    story.end(600)
    assert story.score(columns((0, 0, 1.0, 1.0))).max_share == pytest.approx(1.0)


def test_a_position_is_over_the_cap_by_lots_of_the_cap_that_its_order_was_held_to(story: Story) -> None:
    """The cap was 50 lots when the order was sent and is 40 when it is filled: within. One sent under 40 is not."""
    story.decided(0.0, "", "", cap_lots=50)
    story.order("mmabcd-1-1", Side.BUY, 5.0, (6.0, OrderStatus.LIVE))
    story.decided(10.0, "", "", cap_lots=40)
    story.filled(20.0, Side.BUY, 1_000, 50)
    story.end(600)
    assert story.score(columns((0, 0, 1.0, 1.0))).over_cap_lots == 0
    story.order("later", Side.BUY, 30.0, (31.0, OrderStatus.LIVE))
    story.filled(40.0, Side.BUY, 1_000, 2, "later")
    assert story.score(columns((0, 0, 1.0, 1.0))).over_cap_lots == 12


def test_money_is_between_the_minutes_of_the_window(story: Story) -> None:
    for seconds, equity, spread in ((60, 101.0, 1.5), (120, 99.0, 2.0), (180, 103.0, 2.5), (240, 100.5, 4.0)):
        story.minute(seconds, equity, spread, inventory=equity - 100 - spread)
    story.end(600)
    score = story.score(columns((0, 0, 1.0, 1.0)), window(100.0, 600.0))
    assert score.pnl == pytest.approx(-0.5)
    assert score.drawdown == pytest.approx(2.5)
    assert score.attribution is not None
    assert score.attribution["spread"] == pytest.approx(2.5)
    assert sum(score.attribution.values()) == pytest.approx(score.pnl)
    whole = story.score(columns((0, 0, 1.0, 1.0)))
    assert whole.pnl == pytest.approx(0.5)


# --- columns and spans ------------------------------------------------------------------------------------------------


def test_columns_are_of_what_is_received_and_of_its_touch(tmp_path: Path) -> None:
    """Times received never fall, a locked book is its price, a crossed one is none."""
    recording = Made(
        [
            snapshot(0, bids=((100, 3), (99, 9)), asks=((102, 1), (103, 9)), late_ms=50),
            trade(5, px=102, lots=4, late_ms=1),
            snapshot(10, bids=((101, 3),), asks=((101, 1),), late_ms=1),
            snapshot(20, bids=((103, 3),), asks=((101, 1),), late_ms=1),
            snapshot(30, bids=((100, 1),), asks=((102, 1),), late_ms=-20),
        ]
    )
    made = read(Tape(recording))
    start = made.start_ns
    assert [int(t - start) // 1_000_000 for t in made.received_ns] == [50, 50, 50]
    assert [int(t - start) // 1_000_000 for t in made.venue_ns] == [0, 10, 30]
    assert made.micro.tolist() == [100 + 2 * 3 / 4, 101.0, 101.0]
    assert made.mid.tolist() == [101.0, 101.0, 101.0]
    assert made.printed_e10(start, start + NS, recording.facts.instrument) == 408 * recording.facts.instrument.unit_e10
    save(made, tmp_path / "columns.npz")
    again = load(tmp_path / "columns.npz")
    assert all(np.array_equal(getattr(again, name), getattr(made, name)) for name in Columns.__struct_fields__)
    assert len(read(Tape(recording), hours=15 / 3_600_000).received_ns) == 2


def test_nothing_is_received_before_the_venues_own_time() -> None:
    """A recorder whose clock is behind: what it got at 80 ms by its own clock happened at 100 ms."""
    made = read(Tape(Made([snapshot(0), snapshot(100, bids=((99, 1),), late_ms=-20)])))
    assert [int(t - made.start_ns) // 1_000_000 for t in made.received_ns] == [5, 100]


def test_spans() -> None:
    assert union([(5, 7), (1, 3), (2, 4), (4, 5), (9, 9)]) == [(1, 7)]
    assert both([(1, 4), (6, 9)], [(0, 2), (3, 7)]) == [(1, 2), (3, 4), (6, 7)]
    assert length([(1, 4), (6, 9)]) == 6
    assert both([], [(1, 2)]) == []


def test_a_fill_without_a_venues_time_is_at_its_receipt() -> None:
    assert "venue_ts_ns" in FillRow.__struct_fields__
