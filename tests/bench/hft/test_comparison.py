"""The parts of the comparison that need no hftbacktest: the stream, our side, and that differences are not explained
away."""

from collections.abc import Sequence

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core.types import E10, Instrument, Side
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.records import Depth, DepthKind, Facts, Levels, Record, Trade
from mmdaemon.tapes.rows import Refusals
from tests.bench.hft.compare import compare
from tests.bench.hft.explain import BEHIND, PASSED, ROUNDED, UNEXPLAINED, Market
from tests.bench.hft.ours import foot, tell
from tests.bench.hft.setup import MS, Seen, Sent, Setup, Told
from tests.bench.hft.stream import Stream

START = 1_700_000_000_000_000_000
FACTS = Facts(
    instrument=Instrument.of(venue="v", symbol="BTCUSDT", tick_e10=E10, lot_e10=E10 // 1_000, min_qty_lots=5),
    steps_from="made",
    minimum_from="made",
)
SETUP = Setup(
    stream="",
    tick=1.0,
    lot=0.001,
    first_ns=START + 1_000 * MS + 7,
    every_ns=100 * MS,
    decisions=30,
    request_ns=20 * MS + 3,
    response_ns=20 * MS + 5,
    order_lots=1,
    most_lots=5,
    away_ticks=0,
    exponent=0,
)


class Recorded:
    facts, refusals = FACTS, Refusals()

    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self.start_ts_ns, self.end_ts_ns = records[0].venue_ts_ns, records[-1].venue_ts_ns

    def records(self) -> list[Record]:
        return self._records

    def tape(self) -> Tape:
        return Tape(self)  # pyright: ignore[reportArgumentType] - a list is iterated as well


def book(after_ms: int, bids: Levels, asks: Levels) -> Depth:
    at = START + after_ms * MS
    return Depth(at, at + 5 * MS, DepthKind.SNAPSHOT, bids, asks)


def trade(after_ms: int, px_ticks: int, qty_lots: int, side: Side) -> Trade:
    at = START + after_ms * MS
    return Trade(at, at + 5 * MS, px_ticks, qty_lots, side)


def stream_of(*records: Record) -> Stream:
    end = book(6_000, ((90, 1),), ((200, 1),))
    return Stream(Recorded([*records, end]).tape())


@st.composite
def books(draw: st.DrawFn) -> list[tuple[Levels, Levels]]:
    out: list[tuple[Levels, Levels]] = []
    for _ in range(draw(st.integers(1, 12))):
        mid = draw(st.integers(20, 60))
        away, lots = st.integers(0, 15), st.integers(1, 3)
        bids = draw(st.dictionaries(away, lots, min_size=1, max_size=5))
        asks = draw(st.dictionaries(away, lots, min_size=1, max_size=5))
        side = (
            tuple((mid - 1 - px, bids[px]) for px in sorted(bids)),
            tuple((mid + px, asks[px]) for px in sorted(asks)),
        )
        out.append(side)
    return out


@settings(max_examples=200)
@given(shown=books())
def test_the_rows_for_hftbacktest_rebuild_every_book_as_far_as_it_is_shown(shown: list[tuple[Levels, Levels]]) -> None:
    stream = Stream(Recorded([book(i, *sides) for i, sides in enumerate(shown)]).tape())
    by_time: dict[int, Depth] = {}
    for record in stream.records():
        assert isinstance(record, Depth)
        assert record.kind is DepthKind.DELTA
        by_time[record.venue_ts_ns] = record
    sides: tuple[dict[int, int], dict[int, int]] = {}, {}
    for i, levels in enumerate(shown):
        told_now = by_time.get(START + i * MS)
        for rebuilt, changed in zip(sides, (told_now.bids, told_now.asks) if told_now else (), strict=False):
            for px, lots in changed:
                rebuilt[px] = lots
                if not lots:
                    del rebuilt[px]
        for rebuilt, expected, sign in zip(sides, levels, (1, -1), strict=True):
            worst = expected[-1][0]
            assert {px: lots for px, lots in rebuilt.items() if (px - worst) * sign >= 0} == dict(expected)


MARKET = [
    book(0, ((100, 5),), ((102, 5),)),
    trade(1_200, 100, 5, Side.SELL),  # the queue ahead of our first buy, to the last lot
    book(1_250, ((100, 7),), ((102, 5),)),
    trade(1_300, 100, 1, Side.SELL),
    book(1_500, ((98, 5),), ((100, 5),)),
]


def test_our_side_quotes_queues_and_fills() -> None:
    run = tell(stream_of(*MARKET), SETUP)
    filled = [(order.order, order.px_ticks, order.filled_ns - START) for order in run.sent if order.filled_ns]
    assert filled == [(0, 100, 1_300 * MS), (8, 100, 1_500 * MS)]
    assert [(order.order, order.px_ticks) for order in run.sent[:3]] == [(0, 100), (1, 102), (8, 100)]
    assert run.seen[3] == Seen(0, 100, 102, 0, 1)
    assert run.seen[4] == Seen(1, 100, 102, -1, 1)


def test_a_fill_that_the_other_has_later_is_a_difference_and_the_decisions_between_an_episode() -> None:
    """A buyer's print below the second buy, which rests at 100: theirs does not look at it and waits for the ask."""
    market = stream_of(*MARKET[:-1], trade(1_450, 99, 1, Side.BUY), MARKET[-1])
    ours, theirs = tell(market, SETUP), tell(stream_of(*MARKET), SETUP)
    compared = compare(ours, theirs, SETUP, Market(market.told))
    assert [(one.order, one.ours_ns - START, one.theirs_ns - START, one.cause) for one in compared.differences] == [
        (8, 1_450 * MS, 1_500 * MS, PASSED)
    ]
    assert compared.unexplained == 0
    assert [(episode.first, episode.last, episode.order) for episode in compared.episodes] == [(5, 5, 8)]
    assert compared.same_position == 1 - 1 / SETUP.decisions
    assert compare(ours, ours, SETUP, Market([])).same_everything == 1
    late = tell(market, msgspec.structs.replace(SETUP, request_ns=120 * MS))
    assert compare(late, theirs, SETUP, Market(market.told)).unexplained > 0


def cause(records: Sequence[Record], ours_ms: int, theirs_ms: int, *, exponent: int = 0, side: Side = Side.BUY) -> str:
    setup = msgspec.structs.replace(SETUP, exponent=exponent)
    name = 0 if side is Side.BUY else 1
    a, b = (Sent(name, 100, START + ms * MS if ms else 0) for ms in (ours_ms, theirs_ms))
    return Market(stream_of(book(0, ((100, 5),), ((102, 5),)), *records).told).cause(a, b, setup)


def test_a_cause_is_given_only_where_the_recording_shows_it() -> None:
    met = book(1_500, ((98, 5),), ((100, 5),))
    passed = trade(1_500, 99, 1, Side.BUY)
    assert cause([passed], 1_500, 0) == PASSED
    for records, ours_ms, theirs_ms in (
        ([met], 1_500, 0),
        ([met], 0, 1_500),
        ([passed], 0, 1_500),
        ([trade(1_500, 99, 1, Side.SELL)], 1_500, 0),
        ([trade(1_500, 101, 1, Side.BUY)], 1_500, 0),
        ([], 0, 1_500),
    ):
        assert cause(records, ours_ms, theirs_ms) == UNEXPLAINED
    assert cause([met], 1_500, 1_500) == ""


def test_the_queue_is_a_cause_only_where_both_arithmetics_come_to_what_was_said() -> None:
    cut = [book(1_100, ((100, 4),), ((102, 5),)), *(trade(1_200 + i, 100, 1, Side.SELL) for i in range(6))]
    # 5 ahead, 1 cancelled: nobody is behind, so it was ahead; 4 prints are the queue, the fifth is ours
    assert cause(cut, 1_204, 1_204, exponent=3) == ""
    assert cause(cut, 1_203, 1_204, exponent=3) == UNEXPLAINED
    rounded = queue(displayed=10, printed=3, left=4)
    assert cause(rounded, 1_302, 1_301, exponent=1) == ROUNDED
    assert cause(rounded, 1_302, 1_303, exponent=1) == UNEXPLAINED
    behind = queue(displayed=8, printed=2, left=4)
    assert cause(behind, 1_302, 1_303, exponent=3) == BEHIND
    assert cause(behind, 1_302, 1_303, exponent=0) == UNEXPLAINED


def queue(*, displayed: int, printed: int, left: int) -> list[Record]:
    """5 lots are ahead of an order at 100; others join, some print, some are cancelled; then single lots print."""
    return [
        book(1_050, ((100, displayed),), ((102, 5),)),
        trade(1_100, 100, printed, Side.SELL),
        book(1_200, ((100, left),), ((102, 5),)),
        *(trade(1_300 + i, 100, 1, Side.SELL) for i in range(8)),
    ]


def test_an_order_that_one_side_alone_sent_is_unexplained_without_a_difference_before() -> None:
    seen = [Seen(0, 100, 102, -1, -1)] * SETUP.decisions
    ours = Told(seen, [Sent(0, 100, 0)], {})
    theirs = Told(seen, [Sent(0, 100, 0), Sent(2, 100, 0)], {})
    assert compare(ours, theirs, SETUP, Market([])).unexplained == 1
    other = Told([*seen[:-1], Seen(1, 100, 102, -1, -1)], [Sent(0, 100, 0)], {})
    assert compare(ours, other, SETUP, Market([])).unexplained == 1


def test_partial_fills_foot() -> None:
    setup = msgspec.structs.replace(SETUP, order_lots=10, most_lots=50)
    prints = [trade(1_300 + 40 * i, 100, 6, Side.SELL) for i in range(5)]
    footed = foot(stream_of(book(0, ((100, 5),), ((102, 5),)), *prints), setup)
    assert footed.partly_filled >= 1
    assert footed.fills >= 2
