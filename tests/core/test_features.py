"""Features of the market: each by hand, windows that are full before they are believed, and nothing from the future."""

import struct
from hashlib import blake2b
from math import sqrt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import book as book_rules
from mmdaemon.core import features as rules
from mmdaemon.core.book import Book
from mmdaemon.core.events import BookUpdate, FundingRate, TradePrint
from mmdaemon.core.features import CELL_NS, CELLS, DEFINITION, NAMES, UNITS, WINDOW_NS, Features, vector
from mmdaemon.core.types import NS, Side
from tests.core.build import Desk, modest, params

T0_NS = 1_000 * NS
FUNDING = FundingRate(0, 0, None, 0.0001, 8 * 3_600 * NS, 28_800)


class Feed:
    """A book and its features, fed at moments after T0."""

    def __init__(self) -> None:
        self.book = Book()
        self.features = Features()
        self.now_ns = T0_NS

    def at(self, second: float) -> "Feed":
        self.now_ns = T0_NS + round(second * NS)
        return self

    def quotes(self, bid: int, ask: int, bid_qty: int = 10, ask_qty: int = 10) -> "Feed":
        bids = tuple((bid - i, bid_qty) for i in range(5))
        asks = tuple((ask + i, ask_qty) for i in range(5))
        book_rules.on_book(self.book, BookUpdate(self.now_ns, self.now_ns, None, bids, asks))
        rules.on_book(self.features, self.book, self.now_ns)
        return self

    def print(self, px: int, lots: int, side: Side | None) -> "Feed":
        rules.on_trade(self.features, TradePrint(self.now_ns, self.now_ns, None, px, lots, side))
        return self

    def seen(self, share: float | None = 0.25) -> dict[str, float]:
        values = vector(self.features, self.book, self.now_ns, self.now_ns, FUNDING, share)
        assert values is not None
        return dict(zip(NAMES, values, strict=True))


def calm(seconds: int = 61) -> Feed:
    """A book each second, and one print at the start."""
    feed = Feed()
    for second in range(seconds):
        feed.at(second).quotes(9_999, 10_001)
        if not second:
            feed.print(10_000, 1, None)
    return feed


def test_a_calm_market() -> None:
    seen = calm().at(60.5).seen()
    zeros = {name for name, value in seen.items() if value == 0.0}
    assert zeros == {
        "imbalance_1", "imbalance_5", "ofi_1s", "ofi_5s", "micro_offset_bps", "flow_1s", "flow_5s", "flow_30s",
        "trades_5s", "trades_30s", "print_offset_bps", "vol_10s_bps", "vol_60s_bps", "drift_1s_bps", "drift_5s_bps",
        "drift_30s_bps",
    }  # fmt: skip
    assert (seen["spread_bps"], seen["spread_ratio"]) == (2.0, 1.0)
    assert (seen["print_age_s"], seen["book_age_s"]) == (60.5, 0.5)
    assert seen["funding_bps"] == 1.0
    assert seen["funding_due_s"] == 8 * 3_600 - 1_060.5
    assert seen["position_share"] == 0.25


def test_the_book_of_now() -> None:
    seen = calm().at(61).quotes(9_999, 10_002, 30, 10).seen()
    assert seen["imbalance_1"] == seen["imbalance_5"] == 0.5
    # micro = (30 * 10002 + 10 * 9999) / 40 = 10001.25, mid 10000.5
    assert seen["micro_offset_bps"] == pytest.approx(0.75 / 10_000.5 * 1e4)
    assert seen["spread_bps"] == pytest.approx(3 / 10_000.5 * 1e4)
    assert seen["spread_ratio"] == pytest.approx(3 / ((29 * 2 + 3) / 30), abs=0.02)


def test_order_flow_imbalance_of_each_change() -> None:
    depth = 10.0
    for (bid, ask, bid_qty, ask_qty), lots in {
        (9_999, 10_001, 14, 10): 4,
        (9_999, 10_001, 10, 7): 3,
        (10_000, 10_001, 5, 10): 5,
        (9_998, 10_001, 5, 10): -10,
        (9_999, 10_000, 10, 6): -6,
        (9_999, 10_002, 10, 6): 10,
    }.items():
        seen = calm().at(61).quotes(bid, ask, bid_qty, ask_qty).seen()
        assert seen["ofi_1s"] == seen["ofi_5s"] == pytest.approx(lots / depth, rel=0.02), (bid, ask, bid_qty, ask_qty)


def test_trades_are_signed_counted_and_leave_their_window() -> None:
    feed = calm().at(61).quotes(9_999, 10_001).print(10_001, 20, Side.BUY).print(9_999, 5, Side.SELL)
    feed.print(10_000, 100, None)
    seen = feed.seen()
    assert seen["flow_1s"] == seen["flow_5s"] == seen["flow_30s"] == 1.5
    assert (seen["trades_5s"], seen["trades_30s"]) == (3 / 5, 3 / 30)
    assert seen["print_offset_bps"] == 0.0
    for second in range(62, 67):
        feed.at(second).quotes(9_999, 10_001)
    seen = feed.at(66.3).seen()
    assert (seen["flow_1s"], seen["flow_5s"], seen["flow_30s"]) == (0.0, 0.0, 1.5)
    assert (seen["trades_5s"], seen["print_age_s"]) == (0.0, 5.3)


def test_drift_and_volatility() -> None:
    feed = calm()
    for second in range(61, 66):
        feed.at(second).quotes(9_999 + 2 * (second - 60), 10_001 + 2 * (second - 60))
    seen = feed.seen()
    assert seen["drift_1s_bps"] == pytest.approx((10_010 / 10_008 - 1) * 1e4)
    assert seen["drift_5s_bps"] == seen["drift_30s_bps"] == pytest.approx(10.0)
    squares = sum(((10_000 + 2 * (i + 1)) / (10_000 + 2 * i) - 1) ** 2 for i in range(5))
    assert seen["vol_10s_bps"] == pytest.approx(sqrt(squares / 10) * 1e4)
    assert seen["vol_60s_bps"] == pytest.approx(sqrt(squares / 60) * 1e4)


def test_what_is_not_known_is_no_vector() -> None:
    feed = calm()
    ask = (feed.features, feed.book, T0_NS + WINDOW_NS, T0_NS + WINDOW_NS)
    assert vector(*ask, FUNDING, 0.0) is not None
    assert vector(*ask, None, 0.0) is None
    assert vector(*ask, FUNDING, None) is None
    assert vector(feed.features, feed.book, T0_NS + WINDOW_NS - 1, 0, FUNDING, 0.0) is None
    without_print = Feed().quotes(9_999, 10_001)
    assert vector(without_print.features, without_print.book, T0_NS + 2 * WINDOW_NS, 0, FUNDING, 0.0) is None
    assert vector(Features(), Book(), T0_NS, 0, FUNDING, 0.0) is None
    assert vector(feed.features, feed.book, T0_NS + 200 * NS, 0, FUNDING, 0.0) is None, "no book for half a minute"
    rules.forget(feed.features)
    assert vector(*ask, FUNDING, 0.0) is None
    feed.at(70).quotes(9_999, 10_001).print(10_000, 1, None)
    assert vector(feed.features, feed.book, T0_NS + 100 * NS, 0, FUNDING, 0.0) is None, "windows begin anew"


_EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.1, 0.3, 1.0, 7.0, 90.0]),
        st.sampled_from(["book", "book", "print"]),
        st.integers(-3, 3),
        st.integers(1, 50),
    ),
    min_size=1,
    max_size=60,
)


def played(events: list[tuple[float, str, int, int]], asked: list[int]) -> list[bytes]:
    """Vectors after those of the events whose places are asked for, as bytes."""
    feed, at_s, found = calm(), 61.0, []
    for place, (wait_s, kind, off, lots) in enumerate(events):
        at_s += wait_s
        feed.at(at_s)
        if kind == "book":
            feed.quotes(9_999 + off, 10_001 + off, lots, 51 - lots)
        else:
            feed.print(10_000 + off, lots, Side.BUY if off > 0 else Side.SELL if off < 0 else None)
        if place in asked:
            values = vector(feed.features, feed.book, feed.now_ns, feed.now_ns, FUNDING, 0.0)
            found.append(b"" if values is None else struct.pack(f"<{len(values)}d", *values))
    return found


@given(events=_EVENTS, at=st.integers(0, 59))
@modest(60)
def test_a_vector_does_not_change_by_what_comes_after_nor_by_being_asked_for(
    events: list[tuple[float, str, int, int]], at: int
) -> None:
    at = min(at, len(events) - 1)
    alone = played(events[: at + 1], [at])
    assert played(events, list(range(len(events))))[at] == alone[0]


@given(events=_EVENTS)
@modest(40)
def test_windows_are_those_of_all_that_happened(events: list[tuple[float, str, int, int]]) -> None:
    """Against a count over the events themselves, cell by cell."""
    feed, at_s = calm(), 61.0
    prints: list[tuple[int, int]] = []
    for wait_s, kind, off, lots in events:
        at_s += wait_s
        feed.at(at_s)
        if kind == "book":
            feed.quotes(9_999 + off, 10_001 + off, lots, 51 - lots)
        else:
            side = Side.BUY if off >= 0 else Side.SELL
            feed.print(10_000 + off, lots, side)
            prints.append((feed.now_ns // CELL_NS, side * lots))
    values = vector(feed.features, feed.book, feed.now_ns, feed.now_ns, FUNDING, 0.0)
    if values is None:
        return
    seen, at = dict(zip(NAMES, values, strict=True)), feed.now_ns // CELL_NS
    for seconds, name in ((5, "trades_5s"), (30, "trades_30s")):
        assert seen[name] == sum(cell > at - 4 * seconds for cell, _ in prints) / seconds
    flows = [sum(lots for cell, lots in prints if cell > at - 4 * seconds) for seconds in (1, 5, 30)]
    if seen["flow_30s"]:
        depth = flows[2] / seen["flow_30s"]
        assert [seen["flow_1s"] * depth, seen["flow_5s"] * depth] == pytest.approx(flows[:2])


def test_memory_is_bounded_whatever_the_gap() -> None:
    feed = calm()
    for second in (62.0, 1e3, 1e6, 3e6):
        feed.at(second).quotes(9_999, 10_001)
    assert len(feed.features.cells) == CELLS + 1
    assert sum(cell.books for cell in feed.features.cells) == 1


def test_the_state_keeps_them_where_a_model_asks() -> None:
    without, asking = params(), msgspec.structs.replace(params(), features=True)
    for p in (without, asking):
        desk = Desk(p).start()
        desk.feed(desk.trade(desk.bid))
        assert bool(desk.state.features.since_ns) is p.features
        assert bool(desk.state.features.print_ns) is p.features
        desk.feed(desk.link("public", False))
        assert not desk.state.features.since_ns


def test_the_definition_has_a_name() -> None:
    """It changed? Then models that were trained on the old one may not be asked: give it a new `VERSION`, and this."""
    assert blake2b(DEFINITION.encode(), digest_size=16).hexdigest() == "e7dba857d00ccb050455c1b3ec4590d2"
    assert len(set(NAMES)) == len(NAMES) == len(UNITS) == 23
