"""The imbalance-weighted mid, and the shortcut that proves it within the band."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core.book import Book, invalidate
from mmdaemon.core.fair_value import fair_value_ticks, stays_within
from tests.core.build import modest

Levels = tuple[tuple[int, int], ...]


def book(bids: Levels, asks: Levels) -> Book:
    """As `core.book` leaves a healthy one."""
    return Book(bids=bids, asks=asks, bid_px=bids[0][0], bid_qty=bids[0][1], ask_px=asks[0][0], ask_qty=asks[0][1])


@st.composite
def books(draw: st.DrawFn) -> Book:
    bid = draw(st.integers(50, 1 << 40))
    ask = bid + draw(st.integers(0, 40))
    sizes = st.lists(st.integers(1, 1 << 40), min_size=1, max_size=5)
    bids = tuple((bid - i, qty) for i, qty in enumerate(draw(sizes)))
    asks = tuple((ask + i, qty) for i, qty in enumerate(draw(sizes)))
    return book(bids, asks)


@pytest.mark.parametrize(
    ("bid_qty", "ask_qty", "fair"), [(10, 10, 101.0), (30, 10, 101.5), (10, 30, 100.5), (10**9, 1, 102.0)]
)
def test_the_heavier_side_pushes(bid_qty: int, ask_qty: int, fair: float) -> None:
    assert fair_value_ticks(book(((100, bid_qty),), ((102, ask_qty),)), 1) == pytest.approx(fair)


def test_sizes_are_summed_over_the_levels_that_both_sides_have() -> None:
    bids, asks = ((100, 10), (99, 20), (98, 40)), ((102, 10), (103, 10))
    assert fair_value_ticks(book(bids, asks), 1) == 101.0
    assert fair_value_ticks(book(bids, asks), 2) == pytest.approx(100 + 2 * 30 / 50)
    assert fair_value_ticks(book(bids, asks), 3) == pytest.approx(100 + 2 * 30 / 50)  # the third has no other side


def test_locked_it_is_the_locked_price() -> None:
    assert fair_value_ticks(book(((100, 7),), ((100, 3),)), 5) == 100.0


def test_no_book_no_value() -> None:
    seen = book(((100, 1),), ((102, 1),))
    invalidate(seen)
    assert fair_value_ticks(seen, 5) is None
    assert not stays_within(seen, 90.0, 110.0, 5, 0.0)


@given(books(), st.integers(1, 6))
@modest(200)
def test_lies_within_the_touch(seen: Book, depth: int) -> None:
    fair = fair_value_ticks(seen, depth)
    assert fair is not None
    assert seen.bid_px <= fair <= seen.ask_px


@given(books(), st.integers(1, 6), st.floats(-60, 60), st.floats(0, 60))
@modest(300)
def test_the_shortcut_agrees_with_the_full_computation(seen: Book, depth: int, off: float, width: float) -> None:
    lo = seen.bid_px + off
    hi = lo + width
    fair = fair_value_ticks(seen, depth)
    assert fair is not None
    assert stays_within(seen, lo, hi, depth, 0.0) is (lo <= fair <= hi)


@given(books(), st.integers(1, 6))
@modest(50)
def test_a_band_ends_where_it_says(seen: Book, depth: int) -> None:
    fair = fair_value_ticks(seen, depth)
    assert fair is not None
    assert stays_within(seen, fair, fair, depth, 0.0)
    assert not stays_within(seen, fair + 1e-3, fair + 1, depth, 0.0)
    assert not stays_within(seen, fair - 1, fair - 1e-3, depth, 0.0)
