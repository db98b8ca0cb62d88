"""Each feature by hand, when a print counts, what a gap forgets, and that a decision follows the signal."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mmdaemon.core import signal
from mmdaemon.core.book import Book, on_book
from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.params import SignalParams
from mmdaemon.core.signal import Signal, features
from mmdaemon.core.types import NS, Side
from tests.core.build import MID, modest, params, running

WEIGHTS = SignalParams(weights=(1.0, 10.0, 100.0, 1000.0), depth_levels=20, cap_bps=1e9)
PRINT, MOMENTUM, GAP, LEAN = range(4)
Level = tuple[int, int]


class Feed:
    def __init__(self, params: SignalParams = WEIGHTS) -> None:
        self.book = Book(depth=20)
        self.signal = Signal()
        self.params = params

    def books(
        self, at_s: float, bids: list[Level], asks: list[Level], venue_s: float | None = None
    ) -> tuple[float, ...]:
        venue_ns = None if venue_s is None else round(venue_s * NS)
        event = BookUpdate(round(at_s * NS), 2**60, venue_ns, tuple(bids), tuple(asks))
        assert on_book(self.book, event) == ""
        signal.on_book(self.signal, self.book, event.mono_ns, self.params)
        return features(self.signal)

    def prints(self, at_s: float, px: int, venue_s: float | None = None) -> tuple[float, ...]:
        venue_ns = None if venue_s is None else round(venue_s * NS)
        signal.on_trade(
            self.signal, TradePrint(round(at_s * NS), 2**60, venue_ns, px, 1, Side.BUY), self.book, self.params
        )
        return features(self.signal)


def test_gap_and_lean_by_hand() -> None:
    """Bids of 10 and 30 lots stand 1 and 3 ticks below 10,000, asks of 20 and 20 lots 1 and 5 above: 2.5 and 3 ticks on
    average. A tick is 1 bp."""
    seen = Feed().books(1, [(9_999, 10), (9_997, 30)], [(10_001, 20), (10_005, 20)])
    assert seen[GAP] == pytest.approx((3.0 - 2.5) / 2)
    assert seen[LEAN] == pytest.approx(0.0)  # 40 lots on each side
    heavy = Feed().books(1, [(9_999, 30)], [(10_001, 10)])
    assert heavy[LEAN] == pytest.approx(20 / 40 * 1.0)
    assert heavy[GAP] == pytest.approx(0.0)


def test_momentum_is_the_distance_from_the_mean_of_five_seconds() -> None:
    feed = Feed()
    assert feed.books(1, [(9_999, 1)], [(10_001, 1)])[MOMENTUM] == 0.0
    # The mid that stood until now is what the mean saw.
    assert feed.books(3, [(10_009, 1)], [(10_011, 1)])[MOMENTUM] == pytest.approx(10 / 10_010 * 1e4)
    later = feed.books(8, [(10_009, 1)], [(10_011, 1)])
    assert later[MOMENTUM] == pytest.approx(10 * exp(-1) / 10_010 * 1e4)


def test_a_print_counts_until_a_book_as_late_has_come() -> None:
    feed = Feed()
    feed.books(1, [(9_999, 1)], [(10_001, 1)], venue_s=100.0)
    assert feed.prints(1.1, 10_005, venue_s=99.0)[PRINT] == 0.0  # the book has seen it
    assert feed.prints(1.2, 10_005, venue_s=100.1)[PRINT] == pytest.approx(5.0)
    assert feed.prints(1.3, 9_996, venue_s=100.2)[PRINT] == pytest.approx(-4.0)
    # An older book leaves it standing, against its own mid.
    assert feed.books(1.4, [(9_998, 1)], [(10_000, 1)], venue_s=100.15)[PRINT] == pytest.approx(-3 / 9_999 * 1e4)
    assert feed.books(1.5, [(9_998, 1)], [(10_000, 1)], venue_s=100.2)[PRINT] == 0.0


def test_a_print_that_is_stamped_wrong_does_not_stand_until_a_book_is_as_late() -> None:
    """Stamped 50 s ahead of the market it held fair value there for as long: ten bps of it, at any weight."""
    feed = Feed()
    feed.books(1, [(9_999, 1)], [(10_001, 1)], venue_s=100.0)
    assert feed.prints(1.1, 10_009, venue_s=150.0)[PRINT] == pytest.approx(9.0)
    assert feed.books(3.1, [(9_999, 1)], [(10_001, 1)], venue_s=102.0)[PRINT] == pytest.approx(9.0)
    assert feed.books(3.2, [(9_999, 1)], [(10_001, 1)], venue_s=102.1)[PRINT] == 0.0
    assert feed.prints(3.3, 10_002, venue_s=102.2)[PRINT] == pytest.approx(2.0)


def test_a_feed_without_the_venues_time_has_no_print() -> None:
    feed = Feed()
    feed.books(1, [(9_999, 1)], [(10_001, 1)])
    assert feed.prints(1.1, 10_005)[PRINT] == 0.0
    assert feed.prints(1.2, 10_005, venue_s=100.0)[PRINT] == 0.0  # against which book?


def test_the_prediction_is_the_weighted_sum_and_capped() -> None:
    feed = Feed()
    feed.books(1, [(9_999, 30)], [(10_001, 10)], venue_s=100.0)
    feed.prints(1.2, 10_005, venue_s=100.1)
    expected = sum(w * x for w, x in zip(WEIGHTS.weights, features(feed.signal), strict=True))
    assert feed.signal.bps == pytest.approx(expected)
    capped = Feed(SignalParams(weights=(1.0, 0.0, 0.0, 0.0), depth_levels=20, cap_bps=2.0))
    capped.books(1, [(9_999, 30)], [(10_001, 10)], venue_s=100.0)
    capped.prints(1.2, 9_995, venue_s=100.1)
    assert capped.signal.bps == -2.0


level = st.tuples(st.integers(1, 60), st.integers(1, 10**9))


@given(st.lists(st.tuples(st.floats(0.001, 20), level, level, st.integers(-2_000, 2_000)), min_size=1, max_size=30))
@modest(100)
def test_every_feature_is_finite_and_bounded_and_mirrors(moves: list[tuple[float, Level, Level, int]]) -> None:
    """A market turned upside down has each feature with the other sign, as nearly as prices are symmetric."""
    feed, mirror = Feed(), Feed()
    now = 1.0
    for dt, (below, bid_qty), (above, ask_qty), moved in moves:
        now += dt
        mid = 10**9 + moved
        seen = feed.books(now, [(mid - below, bid_qty)], [(mid + above, ask_qty)], venue_s=now)
        other = 2 * 10**9 - mid
        turned = mirror.books(now, [(other - above, ask_qty)], [(other + below, bid_qty)], venue_s=now)
        for a, b in zip(seen, turned, strict=True):
            assert abs(a) <= 10.0
            assert a == pytest.approx(-b, abs=1e-4)


def test_a_gap_of_the_feed_forgets() -> None:
    desk = running(params(signal={"lean_weight": 5.0}))
    desk.feed(desk.book(bid_qty=9_000))
    assert desk.state.signal.bps > 0
    desk.feed(desk.link("public", up=False))
    assert desk.state.signal.bps == 0.0
    assert features(desk.state.signal) == (0.0,) * 4


def test_quotes_follow_the_signal_at_a_print_without_waiting_for_a_book() -> None:
    desk = running(params(signal={"print_weight": 1.0}))
    at_ns = desk.now[1]
    desk.feed(replace(desk.book(), venue_ts_ns=at_ns - NS))
    before = desk.state.decision
    desk.feed(replace(desk.trade(MID + 200), venue_ts_ns=at_ns))
    after = desk.state.decision
    assert after is not None
    assert after is not before
    assert after.quotes[0].addends.signal == pytest.approx(200, rel=1e-3)


def test_without_weights_nothing_is_predicted_and_no_level_is_read_for_it() -> None:
    assert signal.levels(SignalParams((0.0, 0.0, 0.0, 0.0), 20, 10.0)) == 0
    assert signal.levels(SignalParams((0.0, 0.1, 0.0, 0.0), 20, 0.0)) == 0
