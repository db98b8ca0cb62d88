"""Nothing sick is applied, a frozen book ages although messages arrive, and a price that stays moved is believed."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core import book as book_module
from mmdaemon.core.book import Book, Levels, age_ns, invalidate, mid_x2, on_book, on_trade, stale_at_ns
from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.types import NEVER_NS, NS, Side

WALL_NS = 1_700_000_000 * NS
NAN, INF = float("nan"), float("inf")


def update(at_ms: int, bids: Levels, asks: Levels, venue_ms: int | None = None) -> BookUpdate:
    """Received at `at_ms`; made at the venue at `venue_ms`, or at that time too."""
    made_ms = at_ms if venue_ms is None else venue_ms
    return BookUpdate(at_ms * 10**6, WALL_NS + at_ms * 10**6, WALL_NS + made_ms * 10**6, bids, asks)


def touch(at_ms: int, bid: int, ask: int, bid_qty: int = 5, ask_qty: int = 6) -> BookUpdate:
    return update(at_ms, ((bid, bid_qty),), ((ask, ask_qty),))


def trade(
    at_ms: int, px: int, qty: int = 1, aggressor: Side | None = Side.BUY, venue_ms: int | None = None
) -> TradePrint:
    made_ms = at_ms if venue_ms is None else venue_ms
    return TradePrint(at_ms * 10**6, WALL_NS + at_ms * 10**6, WALL_NS + made_ms * 10**6, px, qty, aggressor)


def healthy(at_ms: int = 1_000) -> Book:
    book = Book()
    assert on_book(book, update(at_ms, ((1_000, 5), (999, 7)), ((1_001, 6), (1_003, 2)))) == ""
    return book


def without_counters(book: Book) -> Book:
    return msgspec.structs.replace(book, refused={}, absurd_mid_x2=0, absurd_venue_ts_ns=0)


def test_a_healthy_update_is_the_book() -> None:
    book = healthy()
    assert (book.bids, book.asks) == (((1_000, 5), (999, 7)), ((1_001, 6), (1_003, 2)))
    assert (book.bid_px, book.bid_qty, book.ask_px, book.ask_qty) == (1_000, 5, 1_001, 6)
    assert (mid_x2(book), book.updates, book.refused, book.locked) == (2_001, 1, {}, False)
    assert book.healthy_mono_ns == 10**9


OK_BIDS, OK_ASKS = ((1_000, 5), (999, 7)), ((1_001, 6), (1_003, 2))
BAD_NUMBERS = [0, -1, NAN, INF, -INF, 1_000.0, 998.5, "999", None, (1 << 48) + 1]


@pytest.mark.parametrize(
    ("bids", "asks", "reason"),
    [
        ((), OK_ASKS, "one_sided"),
        (OK_BIDS, (), "one_sided"),
        ((), (), "one_sided"),
        (((1_002, 5),), OK_ASKS, "crossed"),
        (((999, 5), (1_000, 7)), OK_ASKS, "unsorted"),
        (((1_000, 5), (1_000, 7)), OK_ASKS, "unsorted"),
        (OK_BIDS, ((1_003, 6), (1_001, 2)), "unsorted"),
        (OK_BIDS, ((1_001, 6), (1_001, 2)), "unsorted"),
        (OK_BIDS, ((1_001, 6, 3), (1_002, 2)), "bad_level"),
        (OK_BIDS, ((1_001,),), "bad_level"),
    ],
)
def test_a_sick_update_changes_only_its_counter(bids: Levels, asks: Levels, reason: str) -> None:
    book = healthy()
    before = msgspec.structs.replace(book, refused={reason: 1})
    assert on_book(book, update(2_000, bids, asks)) == reason
    assert book == before


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("side", [0, 1])
def test_a_level_that_is_no_count_is_refused_wherever_it_stands(bad: int, level: int, place: int, side: int) -> None:
    sides = [[[1_000, 5], [999, 7]], [[1_001, 6], [1_003, 2]]]
    sides[side][level][place] = bad
    bids, asks = (tuple((px, qty) for px, qty in levels) for levels in sides)
    book = healthy()
    before = msgspec.structs.replace(book, refused={"bad_level": 1})
    assert on_book(book, update(2_000, bids, asks)) == "bad_level"
    assert book == before


def test_what_is_beyond_the_depth_is_neither_read_nor_kept() -> None:
    book = Book(depth=2)
    deep = tuple((1_000 - k, 1) for k in range(900))
    assert on_book(book, update(1_000, (*deep[:2], (0, 0), *deep[2:]), OK_ASKS)) == ""
    assert book.bids == deep[:2]


def test_a_locked_book_is_healthy_flagged_and_counted() -> None:
    book = healthy()
    assert on_book(book, touch(2_000, 1_001, 1_001)) == ""
    assert on_book(book, touch(2_100, 1_001, 1_001)) == ""
    assert (book.locked, book.locks, mid_x2(book)) == (True, 2, 2_002)
    assert on_book(book, touch(2_200, 1_001, 1_002)) == ""
    assert (book.locked, book.locks) == (False, 2)


def test_older_than_the_last_by_either_clock_is_refused_and_equal_is_not() -> None:
    book = healthy()
    older_at_the_venue = update(2_000, OK_BIDS, OK_ASKS, venue_ms=999)
    older_here = msgspec.structs.replace(update(2_000, OK_BIDS, OK_ASKS), mono_ns=10**9 - 1)
    before = msgspec.structs.replace(book, refused={"out_of_order": 2})
    assert on_book(book, older_at_the_venue) == on_book(book, older_here) == "out_of_order"
    assert book == before
    assert on_book(book, update(2_000, OK_BIDS, OK_ASKS, venue_ms=1_000)) == ""
    assert on_book(book, msgspec.structs.replace(update(2_100, OK_BIDS, OK_ASKS), venue_ts_ns=None)) == ""
    assert on_book(book, update(2_200, OK_BIDS, OK_ASKS, venue_ms=999)) == "out_of_order"


def test_a_time_from_the_future_does_not_make_all_that_follows_old() -> None:
    book = healthy()
    assert on_book(book, update(2_000, OK_BIDS, OK_ASKS, venue_ms=62_001)) == "future"
    assert on_book(book, update(2_100, OK_BIDS, OK_ASKS)) == ""


def test_a_single_absurd_price_is_not_believed() -> None:
    book = healthy()
    before = without_counters(book)
    assert on_book(book, touch(2_000, 1_200, 1_201)) == "absurd"
    assert without_counters(book) == before
    assert on_book(book, touch(2_100, 1_001, 1_002)) == ""
    assert on_book(book, touch(2_200, 1_200, 1_201)) == "absurd", "the healthy one between them starts the count again"
    assert book.refused == {"absurd": 2}


def test_a_price_that_stays_moved_is_real() -> None:
    book = healthy()
    assert on_book(book, touch(2_000, 1_200, 1_201)) == "absurd"
    assert on_book(book, touch(2_100, 1_190, 1_191)) == ""
    assert (book.bid_px, book.known_mid_x2, book.healthy_mono_ns) == (1_190, 2_381, 2_100 * 10**6)
    assert on_book(book, touch(2_200, 1_000, 1_001)) == "absurd", "jumps are measured from the new price"


def test_absurd_prices_that_disagree_do_not_confirm_each_other() -> None:
    book = healthy()
    for at_ms, bid in ((2_000, 2_000), (2_100, 4_000), (2_200, 500), (2_300, 9)):
        assert on_book(book, touch(at_ms, bid, bid + 1)) == "absurd"
    assert book.bid_px == 1_000


def test_one_absurd_message_delivered_twice_does_not_confirm_itself() -> None:
    book = healthy()
    for at_ms in (2_000, 2_001, 2_002):
        assert on_book(book, update(at_ms, ((1_200, 1),), ((1_201, 1),), venue_ms=2_000)) == "absurd"


def test_the_limit_of_a_jump_is_exact() -> None:
    """The mid is 1000 and may move by 10 %: to 1100, and not half a tick further."""
    for bid, ask, outcome in ((1_099, 1_101, ""), (1_100, 1_101, "absurd"), (899, 901, ""), (899, 900, "absurd")):
        book = Book()
        on_book(book, touch(1_000, 999, 1_001))
        assert on_book(book, touch(1_100, bid, ask)) == outcome


def test_trades_are_folded_and_sick_ones_are_not() -> None:
    book = healthy()
    assert on_trade(book, trade(1_100, 1_001, 3, Side.BUY)) == ""
    assert on_trade(book, trade(1_200, 1_000, 2, Side.SELL)) == ""
    assert on_trade(book, trade(1_300, 1_001, 9, None)) == ""
    assert (book.last_trade_px, book.bought_lots, book.sold_lots, book.trades) == (1_001, 3, 2, 3)
    before = without_counters(book)
    for bad in BAD_NUMBERS:
        assert on_trade(book, trade(1_400, bad)) == "bad_trade"  # pyright: ignore[reportArgumentType]
        assert on_trade(book, trade(1_400, 1_000, bad)) == "bad_trade"  # pyright: ignore[reportArgumentType]
    assert without_counters(book) == before
    assert book.refused == {"bad_trade": 2 * len(BAD_NUMBERS)}


def test_an_absurd_print_is_not_folded_and_puts_the_book_in_doubt() -> None:
    book = healthy()
    assert on_trade(book, trade(1_100, 1_500)) == "absurd"
    assert (book.last_trade_px, book.trades, book.through_since_ns) == (0, 0, 1_100 * 10**6)


@pytest.mark.parametrize("px", [999, 1_002])
def test_a_frozen_book_ages_from_the_first_print_through_it_although_messages_arrive(px: int) -> None:
    book = healthy()
    on_trade(book, trade(1_500, px))
    on_trade(book, trade(1_800, px))
    for at_ms in range(1_600, 5_000, 100):
        assert on_book(book, update(at_ms, OK_BIDS, OK_ASKS)) == ""
    assert age_ns(book, 5_000 * 10**6) == 3_500 * 10**6
    assert stale_at_ns(book, 2 * NS) == 3_500 * 10**6 + 1


@pytest.mark.parametrize("px", [1_000, 1_001])
def test_prints_at_the_touch_do_not_make_a_book_old(px: int) -> None:
    book = healthy()
    on_trade(book, trade(1_500, px))
    assert (book.through_since_ns, age_ns(book, 2 * NS)) == (0, NS)


@pytest.mark.parametrize(
    "moved", [touch(1_900, 999, 1_001, 5, 6), touch(1_900, 1_000, 1_001, 4), touch(1_900, 1_000, 1_001, 5, 9)]
)
def test_any_change_of_the_touch_ends_the_doubt(moved: BookUpdate) -> None:
    book = healthy()
    on_trade(book, trade(1_500, 998))
    assert on_book(book, moved) == ""
    assert (book.through_since_ns, age_ns(book, 2 * NS)) == (0, 10**8)


def test_a_print_from_before_the_touch_is_no_evidence_against_it() -> None:
    book = healthy()
    on_book(book, touch(2_000, 1_005, 1_006))
    on_trade(book, trade(2_050, 1_001, venue_ms=1_990))
    on_trade(book, trade(2_051, 1_001, venue_ms=2_000))
    assert book.through_since_ns == 0
    on_book(book, touch(2_060, 1_005, 1_006))
    on_trade(book, trade(2_070, 1_001, venue_ms=2_001))
    assert book.through_since_ns == 2_070 * 10**6, "older than the last message, but not than the touch"


def test_a_book_that_gets_no_messages_ages_from_the_last_one_whatever_prints() -> None:
    book = healthy()
    on_trade(book, trade(1_500, 998))
    assert age_ns(book, 3 * NS) == 2 * NS
    assert stale_at_ns(book, NS) == 2 * NS + 1


def test_a_sick_update_does_not_make_the_book_young() -> None:
    book = healthy()
    on_book(book, touch(4_000, 1_002, 1_001))
    assert age_ns(book, 5 * NS) == 4 * NS


def test_no_book_is_older_than_any_limit() -> None:
    for book in (Book(), healthy()):
        invalidate(book)
        assert age_ns(book, 10 * NS) == NEVER_NS
        assert stale_at_ns(book, 10 * NS) == 0
        assert (mid_x2(book), book.bids, book.asks, book.locked) == (0, (), (), False)


def test_after_a_reconnect_the_venues_time_may_start_anew_but_a_jump_is_still_one() -> None:
    book = healthy()
    on_trade(book, trade(1_500, 998))
    invalidate(book)
    assert on_trade(book, trade(1_600, 1_001)) == ""
    assert book.through_since_ns == 0, "there is no touch to print through"
    assert on_book(book, touch(2_000, 2_000, 2_001)) == "absurd"
    assert on_book(book, update(2_100, OK_BIDS, OK_ASKS, venue_ms=500)) == ""
    assert age_ns(book, 2_100 * 10**6) == 0


events = st.one_of(
    st.builds(
        lambda step, bid, width, q, r: ("book", step, bid, width, q, r),
        st.integers(0, 900),
        st.integers(90, 130),
        st.integers(-1, 4),
        st.integers(0, 3),
        st.integers(1, 3),
    ),
    st.builds(lambda step, px: ("trade", step, px), st.integers(0, 900), st.integers(85, 140)),
    st.just(("invalidate",)),
)


@given(st.lists(events, max_size=40), st.integers(0, 3 * NS))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_the_book_is_uncrossed_and_its_deadline_is_the_moment_it_turns_old(
    script: list[tuple[object, ...]], max_age_ns: int
) -> None:
    book, now_ms, applied = Book(), 1, 0
    for event in script:
        match event:
            case ("book", int(step), int(bid), int(width), int(q), int(r)):
                now_ms += step
                if on_book(book, touch(now_ms, bid, bid + width, q, r)) == "":
                    applied += 1
                    assert width >= 0
                    assert q > 0
                    assert book.healthy_mono_ns == now_ms * 10**6
            case ("trade", int(step), int(px)):
                now_ms += step
                on_trade(book, trade(now_ms, px))
            case _:
                invalidate(book)
        assert book.bid_px <= book.ask_px
        assert bool(book.bids) == bool(book.asks) == (book.healthy_mono_ns > 0)
        deadline_ns = stale_at_ns(book, max_age_ns)
        assert age_ns(book, deadline_ns) > max_age_ns
        assert not deadline_ns or age_ns(book, deadline_ns - 1) <= max_age_ns
    assert book.updates == applied
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(book), type=Book) == book


def test_the_bound_of_a_level_is_the_one_documented() -> None:
    book = Book()
    largest = book_module.LARGEST
    assert largest == 1 << 48
    assert on_book(book, update(1_000, ((largest - 1, largest),), ((largest, 1),))) == ""
