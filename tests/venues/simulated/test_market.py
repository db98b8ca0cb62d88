"""The synthetic market: what a matching engine may lean on, what it is calibrated to, and that a seed says it all."""

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice, pairwise

import msgspec
import pytest

from mmdaemon.core.events import BookUpdate, FundingRate, MarketEvent, MarkPrice, SourceEnded, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.venues.base import MarketSource
from mmdaemon.venues.simulated.market import FundingPath, MarketConfig, SyntheticMarket, next_settlement_ns
from mmdaemon.venues.simulated.stretches import Stretch

DAY_S = 86_400
GOLDEN = "49a479e85091108eb14b2c2b00f5427dd9fb4d4e4887a005e9cc89eafaf9233b"


def of_one_kind(kind: Stretch, seconds: float, seed: int = 7) -> SyntheticMarket:
    return SyntheticMarket(seed, duration_s=seconds, schedule=((kind, seconds),))


def digest(events: list[MarketEvent]) -> str:
    encode = msgspec.msgpack.Encoder().encode
    total = hashlib.sha256()
    for event in events:
        total.update(encode(event))
    return total.hexdigest()


def test_a_seed_says_it_all() -> None:
    """The golden value holds on every platform and Python; a change of it is a change of every simulated result."""
    first = list(islice(SyntheticMarket(7).events(), 20_000))
    assert digest(first) == GOLDEN
    market = SyntheticMarket(7)
    assert list(islice(market.events(), 500)) == list(islice(market.events(), 500)) == first[:500]
    assert list(islice(SyntheticMarket(8).events(), 500)) != first[:500]


@pytest.mark.parametrize(("kind", "volatility"), [*((kind, 1.0) for kind in Stretch), (Stretch.BURSTING, 0.1)])
def test_what_a_matching_engine_leans_on(kind: Stretch, volatility: float) -> None:
    """The quiet bursting one has sweeps that end within the displayed book, and settle where the touch was."""
    config = MarketConfig(volatility=volatility)
    market = SyntheticMarket(7, duration_s=1_500, schedule=((kind, 1_500),), config=config)
    book: BookUpdate | None = None
    prints: list[TradePrint] = []
    worn = moved = 0
    events = list(market.events())
    for event in events:
        if isinstance(event, TradePrint):
            assert book is not None
            assert event.aggressor is not None
            taken = book.asks if event.aggressor is Side.BUY else book.bids
            levels = dict(taken)
            beyond = (event.px_ticks - taken[-1][0]) * event.aggressor > 0
            assert event.px_ticks in levels or beyond
            assert 0 < event.qty_lots <= levels.get(event.px_ticks, event.qty_lots)
            prints.append(event)
        elif isinstance(event, BookUpdate):
            bids, asks = event.bids, event.asks
            assert len(bids) == len(asks) == 10
            assert bids[0][0] < asks[0][0]
            assert all(above[0] > below[0] for above, below in pairwise(bids))
            assert all(below[0] < above[0] for below, above in pairwise(asks))
            assert all(lots > 0 for _, lots in bids + asks)
            if book is not None:
                for side, old, new in ((Side.BUY, book.asks, asks), (Side.SELL, book.bids, bids)):
                    traded = sum(t.qty_lots for t in prints if t.aggressor is side)
                    if old[0][0] == new[0][0] and traded:
                        assert new[0][1] == old[0][1] - traded
                        worn += 1
                    opposite = (bids if side is Side.BUY else asks)[0][0]
                    if (opposite - old[0][0]) * side >= 0:  # the other side now stands where this one stood
                        printed = {t.px_ticks for t in prints if t.aggressor is side}
                        passed = [px for px, _ in old if (opposite - px) * side >= 0]
                        assert old[0][0] in printed
                        if len(passed) < len(old):
                            assert passed[-1] in printed
                        else:  # the displayed book was left: printed at the new touch or beyond it
                            assert max(px * side for px in printed) >= opposite * side
                        moved += 1
            book, prints = event, []
    assert worn > 100
    assert moved > 100
    assert isinstance(events[-1], SourceEnded)
    assert events[-1].venue_ts_ns == market.start_ts_ns + 1_500 * NS
    for earlier, later in pairwise(events):
        assert earlier.venue_ts_ns is not None
        assert later.venue_ts_ns is not None
        assert earlier.venue_ts_ns <= later.venue_ts_ns
        assert earlier.ts_ns <= later.ts_ns
    assert all(event.venue_ts_ns is not None and event.ts_ns >= event.venue_ts_ns for event in events)
    counts = Counter(type(event) for event in events)
    assert counts[BookUpdate] == pytest.approx(6_000, rel=0.02)
    assert counts[MarkPrice] == pytest.approx(1_500, rel=0.02)


def test_a_level_keeps_its_size_while_the_touch_moves_around_it() -> None:
    kept = seen = 0
    books = [event for event in of_one_kind(Stretch.CALM, 600).events() if isinstance(event, BookUpdate)]
    for earlier, later in pairwise(books):
        before = dict(earlier.bids[1:])
        for px, lots in later.bids[1:]:
            if px in before:
                seen += 1
                kept += before[px] == lots
    assert seen > 10_000
    assert 0.9 < kept / seen < 1


class Reach(msgspec.Struct):
    """The prints of one side in one update."""

    side: Side
    bps: float
    """How far beyond the mid before them they printed."""
    prices: int
    at_ns: int
    mids_later: list[float]
    """What the mid was 1 s and 5 s later, as a share of the reach: 1 stayed at the far end, 0 came back whole."""


def reaches(events: Iterator[MarketEvent], least_bps: float) -> list[Reach]:
    mid = 0.0
    prints: dict[Side, list[int]] = {}
    found: list[Reach] = []
    waiting: deque[tuple[int, Reach, float]] = deque()
    for event in events:
        if isinstance(event, TradePrint) and event.aggressor is not None:
            prints.setdefault(event.aggressor, []).append(event.px_ticks)
        elif isinstance(event, BookUpdate):
            at_ns = event.venue_ts_ns or 0
            for side, px_ticks in prints.items():
                bps = (max(px * side for px in px_ticks) - mid * side) / mid * 1e4
                if bps >= least_bps:
                    found.append(Reach(side, bps, len(set(px_ticks)), at_ns, []))
                    waiting.append((at_ns + NS, found[-1], mid))
            prints = {}
            mid = (event.bids[0][0] + event.asks[0][0]) / 2
            for _ in range(len(waiting)):
                due_ns, reach, before = waiting.popleft()
                if due_ns > at_ns:
                    waiting.append((due_ns, reach, before))
                    continue
                reach.mids_later.append((mid / before - 1) * 1e4 * reach.side / reach.bps)
                if len(reach.mids_later) == 1:
                    waiting.append((due_ns + 4 * NS, reach, before))
    return found


def reverted(found: list[Reach], later: int) -> float:
    """The share of the reaches that was given back 1 s (0) or 5 s (1) later, the longer ones counting more."""
    known = [reach for reach in found if len(reach.mids_later) == 2]
    return 1 - sum(reach.bps * reach.mids_later[later] for reach in known) / sum(reach.bps for reach in known)


def test_sweeps_are_rare_in_calm_and_most_common_in_bursts() -> None:
    far = {kind: len(reaches(of_one_kind(kind, 3_600).events(), 3)) for kind in Stretch}
    assert 0 < 3 * far[Stretch.CALM] < min(far[Stretch.UP], far[Stretch.DOWN], far[Stretch.TOXIC])
    assert 2 * max(far[Stretch.UP], far[Stretch.DOWN], far[Stretch.TOXIC]) < far[Stretch.BURSTING]


def test_a_sweep_reverts_in_part_but_not_where_it_was_informed() -> None:
    trend = [reach for kind in (Stretch.UP, Stretch.DOWN) for reach in reaches(of_one_kind(kind, 5_400).events(), 2)]
    toxic = reaches(of_one_kind(Stretch.TOXIC, 5_400).events(), 2)
    assert min(len(trend), len(toxic)) > 80
    assert 0.25 < reverted(trend, 0) < 0.5
    assert 0.25 < reverted(trend, 1) < 0.5
    assert reverted(toxic, 0) < 0.1
    assert reverted(toxic, 1) < 0.0


def test_a_sweep_prints_through_the_book_and_on_to_its_far_end() -> None:
    """All at one moment; beyond the last displayed level it leaves prices to be passed, but not all of the way."""
    book: BookUpdate | None = None
    prints: list[TradePrint] = []
    beyond: Counter[int] = Counter()
    for event in of_one_kind(Stretch.UP, 3_600).events():
        if isinstance(event, TradePrint):
            prints.append(event)
        elif isinstance(event, BookUpdate):
            if book is not None and len({trade.px_ticks for trade in prints}) > 2:
                side = prints[0].aggressor
                assert side is not None
                taken, other = (book.asks, book.bids) if side is Side.BUY else (book.bids, book.asks)
                displayed = [px for px, _ in taken]
                px_ticks = [trade.px_ticks for trade in prints]
                assert {(trade.aggressor, trade.venue_ts_ns) for trade in prints} == {(side, prints[0].venue_ts_ns)}
                assert px_ticks[: len(displayed)] == displayed
                assert all((further - px) * side > 0 for px, further in pairwise(px_ticks))
                assert (px_ticks[-1] - other[0][0]) * side > 55  # nearly 1 bps
                beyond[len(px_ticks) - len(displayed)] += 1
            book, prints = event, []
    assert set(beyond) == set(range(1, 9))
    assert beyond.total() > 150


def mean_markout_5s_bps(kind: Stretch) -> float:
    """What the makers at the touch had made of their trades 5 s later, in the mean."""
    book: BookUpdate | None = None
    waiting: list[tuple[int, int, int]] = []
    done: list[float] = []
    for event in of_one_kind(kind, 7_200).events():
        if isinstance(event, BookUpdate):
            book, mid = event, (event.bids[0][0] + event.asks[0][0]) / 2
            at = event.venue_ts_ns or 0
            while len(done) < len(waiting) and waiting[len(done)][0] <= at:
                _, px, aggressor = waiting[len(done)]
                done.append(-aggressor * (mid - px) / mid * 1e4)
        elif isinstance(event, TradePrint) and book is not None and event.aggressor is not None:
            touch = (book.asks if event.aggressor is Side.BUY else book.bids)[0][0]
            if event.px_ticks == touch:
                waiting.append(((event.venue_ts_ns or 0) + 5 * NS, touch, event.aggressor))
    return sum(done) / len(done)


def test_toxic_flow_knows_where_the_price_goes() -> None:
    calm, toxic = mean_markout_5s_bps(Stretch.CALM), mean_markout_5s_bps(Stretch.TOXIC)
    assert -0.2 < calm < 0.05
    assert toxic < calm - 0.25


def test_trends_go_where_they_are_named() -> None:
    for kind, sign in ((Stretch.UP, 1), (Stretch.DOWN, -1)):
        marks = [event.px_ticks for event in of_one_kind(kind, 1_800).events() if isinstance(event, MarkPrice)]
        assert (marks[-1] / marks[0] - 1) * 1e4 * sign > 50


class Day(msgspec.Struct):
    atr_bps: list[float]
    drift_bps: list[float]
    touch_lots: list[int]
    trade_lots: list[int]
    one_tick: float
    reaches: list[Reach]


@pytest.fixture(scope="module")
def day() -> Day:
    """The default market's first day, as the figures it is calibrated to are computed."""
    by_second: list[float] = []
    bars: list[list[float]] = []
    touch: list[int] = []
    trades: list[int] = []
    widths: Counter[int] = Counter()
    market = SyntheticMarket(duration_s=DAY_S)
    for event in market.events():
        if isinstance(event, BookUpdate):
            (bid, lots), (ask, _) = event.bids[0], event.asks[0]
            mid = (bid + ask) / 2
            touch.append(lots)
            widths[ask - bid] += 1
            age_ns = (event.venue_ts_ns or 0) - market.start_ts_ns
            while age_ns >= len(by_second) * NS:
                by_second.append(mid)
            if age_ns >= len(bars) * 60 * NS:
                bars.append([mid, mid, mid])
            bar = bars[-1]
            bar[0], bar[1], bar[2] = max(bar[0], mid), min(bar[1], mid), mid
        elif isinstance(event, TradePrint):
            trades.append(event.qty_lots)
    ranges = [max(high, last[2]) - min(low, last[2]) for last, (high, low, _) in pairwise(bars)]
    atr = [sum(ranges[i - 14 : i]) / 14 / bars[i][2] * 1e4 for i in range(14, len(ranges) + 1)]
    drift = [abs(later / earlier - 1) * 1e4 for earlier, later in zip(by_second, by_second[30:], strict=False)]
    far = reaches(market.events(), 1)
    return Day(sorted(atr), sorted(drift), sorted(touch), sorted(trades), widths[1] / widths.total(), far)


def quantile(ordered: list[float] | list[int], share: float) -> float:
    return ordered[int(share * (len(ordered) - 1))]


def test_a_day_is_calibrated(day: Day) -> None:
    """Within 30 % of the figures computed from recordings.

    The band of the 30 s drift begins at what the Bitget minutes imply by the square root of time (p95 4.6, p99 6.8;
    median 1.1, of which 0.55) and ends at the figures handed down (1.9, 9.7, 16.2), which come from a wilder market
    than the ATR: see `market.py`.
    """
    assert quantile(day.atr_bps, 0.5) == pytest.approx(2.6, rel=0.3)
    assert quantile(day.atr_bps, 0.99) == pytest.approx(9.5, rel=0.3)
    assert day.atr_bps[-1] == pytest.approx(12.4, rel=0.3)
    assert 0.55 * 1.1 < quantile(day.drift_bps, 0.5) < 1.9
    assert 4.6 < quantile(day.drift_bps, 0.95) < 9.7
    assert 6.8 < quantile(day.drift_bps, 0.99) < 16.2
    assert 0.9 < day.one_tick < 1
    assert quantile(day.touch_lots, 0.5) == pytest.approx(27_000, rel=0.3)
    assert quantile(day.trade_lots, 0.5) == pytest.approx(7, rel=0.3)
    assert quantile(day.trade_lots, 0.9) == pytest.approx(750, rel=0.3)


def test_the_reach_of_a_day_is_calibrated(day: Day) -> None:
    """To the bursts an hour on the StandX day, 178, 56, 24 and 5.8: the median of what was recorded."""
    an_hour = {least: sum(reach.bps >= least for reach in day.reaches) / 24 for least in (1, 2, 3, 5)}
    assert 100 < an_hour[1] < 200
    assert an_hour[2] == pytest.approx(56, rel=0.3)
    assert an_hour[3] == pytest.approx(24, rel=0.3)
    assert an_hour[5] == pytest.approx(5.8, rel=0.3)
    far = [reach for reach in day.reaches if reach.bps >= 3]
    assert 0.4 < sum(reach.side is Side.BUY for reach in far) / len(far) < 0.6
    assert 0.2 < reverted(far, 0) < 0.45
    assert 0.2 < reverted(far, 1) < 0.45


def test_funding_is_calibrated() -> None:
    path = FundingPath(7)
    rates_bps: list[float] = []
    for minute in range(2_000 * 480):
        path.step()
        if minute % 480 == 479:
            rates_bps.append(path.rate_e9 / 1e5)
    assert sum(rates_bps) / len(rates_bps) == pytest.approx(0.009, abs=0.08)
    assert sum(map(abs, rates_bps)) / len(rates_bps) == pytest.approx(0.53, rel=0.3)
    assert -1.5 <= min(rates_bps) < -1
    assert 1 < max(rates_bps) <= 1.5


def test_funding_settles_at_eight_hours_utc() -> None:
    eight = 1_767_225_600 * NS + 8 * 3600 * NS
    market = SyntheticMarket(7, start_ts_ns=eight - 90 * NS, duration_s=180)
    rates = [event for event in market.events() if isinstance(event, FundingRate)]
    assert len(rates) == 4
    assert [rate.next_ts_ns for rate in rates] == [eight, eight, eight + 8 * 3600 * NS, eight + 8 * 3600 * NS]
    assert {rate.interval_s for rate in rates} == {8 * 3600}
    assert rates[2].venue_ts_ns is not None
    assert eight <= rates[2].venue_ts_ns < eight + NS
    assert next_settlement_ns(eight) == eight + 8 * 3600 * NS
    assert next_settlement_ns(eight - 1) == eight


def test_a_schedule_is_played_and_then_the_mixture() -> None:
    schedule = ((Stretch.BURSTING, 30.0), (Stretch.TOXIC, 12.5))
    market = SyntheticMarket(7, schedule=schedule, duration_s=7_200)
    for _ in market.events():
        pass
    start = market.start_ts_ns
    assert market.played[:2] == [(start, Stretch.BURSTING), (start + 30 * NS, Stretch.TOXIC)]
    assert market.played[2] == (start + 42_500_000_000, Stretch.CALM)
    assert len(market.played) > 5
    assert "bursting 30 s, toxic 12.5 s" in market.provenance["stretches"]


def test_it_is_a_market_source() -> None:
    source: MarketSource = SyntheticMarket(7)
    instrument = source.instrument
    assert (instrument.tick_e10, instrument.lot_e10, instrument.min_notional_e10) == (10**9, 10**6, 5 * 10**10)
    assert source.refused == {}
    assert source.provenance["seed"] == "7"
    opening = list(islice(source.events(), 3))
    assert [type(event) for event in opening] == [BookUpdate, MarkPrice, FundingRate]
    assert {event.venue_ts_ns for event in opening} == {source.start_ts_ns}
    assert {event.mono_ns for event in opening} == {0}


def test_configuration_is_obeyed() -> None:
    config = MarketConfig(start_px_ticks=300_000, levels=5, updates_per_s=10, volatility=0, feed_latency_ms=0)
    events = list(SyntheticMarket(7, duration_s=600, schedule=((Stretch.CALM, 600),), config=config).events())
    books = [event for event in events if isinstance(event, BookUpdate)]
    assert len(books) == pytest.approx(6_000, rel=0.02)
    assert {book.bids[0][0] for book in books} == {300_000}
    assert all(len(book.bids) == len(book.asks) == 5 for book in books)
    assert all(event.ts_ns == event.venue_ts_ns for event in events)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"duration_s": 0.0}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"seed": -1}, "seed"),
        ({"schedule": ((Stretch.CALM, 10.0), (Stretch.UP, 0.0))}, "stretch 1"),
        ({"schedule": (("sideways", 10.0),)}, "sideways"),
        ({"config": MarketConfig(levels=1)}, "levels"),
        ({"config": MarketConfig(start_px_ticks=0)}, "start_px_ticks"),
        ({"config": MarketConfig(volatility=float("nan"))}, "volatility"),
        ({"config": MarketConfig(updates_per_s=0)}, "updates_per_s"),
        ({"config": MarketConfig(feed_latency_ms=-1)}, "feed_latency_ms"),
    ],
)
def test_what_makes_no_market_is_refused_by_name(wrong: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        SyntheticMarket(**wrong)
