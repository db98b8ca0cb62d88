"""The whole venue in virtual time, with latency, over small hand-made markets.

Requests take 50 ms, answers 40, the private stream 60; the market reaches the daemon 20 ms after it happened.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from mmdaemon.clock import RealClock, VirtualClock, run_real, run_virtual
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import (
    AccountSnapshot,
    Bill,
    BillKind,
    BookUpdate,
    Event,
    Fill,
    FundingRate,
    LinkChanged,
    MarketEvent,
    MarkPrice,
    OrderUpdate,
    RequestFailed,
    SourceEnded,
    TradePrint,
)
from mmdaemon.core.types import E10, NS, ExecKind, Instrument, OrderStatus, Purpose, Side
from mmdaemon.venues.base import Absent, Cursor, MarketSource, OrderReport, PositionStop, Venue, VenueUnavailable
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.faults import FaultKind, FaultRates, ScriptedFault
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.venue import SimulatedVenue

T = TypeVar("T")
BUY, SELL = Side.BUY, Side.SELL
START_NS = 1_767_225_600 * NS
MS = 1_000_000
FEED_NS = 20 * MS
INSTRUMENT = Instrument.of(venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)


class Market:
    """A source by hand: `(seconds, what)`; prices around 1,000 ticks, ten lots a level."""

    instrument = INSTRUMENT
    refused: dict[str, int] = {}  # noqa: RUF012 - a source's count, never written here
    provenance: dict[str, str] = {"market": "by hand"}  # noqa: RUF012

    def __init__(self, *events: MarketEvent, start_ts_ns: int = START_NS) -> None:
        self.made = events
        self.start_ts_ns = start_ts_ns

    def events(self) -> Iterator[MarketEvent]:
        return iter(self.made)


def times(seconds: float, start_ts_ns: int = START_NS) -> tuple[int, int, int]:
    happened = start_ts_ns + round(seconds * 1_000) * MS
    return 0, happened + FEED_NS, happened


def book(seconds: float, mid: int = 1_000, start: int = START_NS) -> BookUpdate:
    bids = tuple((mid - step, 10) for step in (1, 2, 3))
    asks = tuple((mid + step, 10) for step in (1, 2, 3))
    return BookUpdate(*times(seconds, start), bids, asks)


def trade(seconds: float, px: int, qty: int, aggressor: Side | None) -> TradePrint:
    return TradePrint(*times(seconds), px, qty, aggressor)


def ended(seconds: float) -> SourceEnded:
    return SourceEnded(*times(seconds))


class Daemon:
    """What a daemon sees: every event with its delivery time."""

    def __init__(self, venue: SimulatedVenue, clock: VirtualClock) -> None:
        self.venue, self.clock = venue, clock
        self.seen: list[Event] = []

    async def at(self, seconds: float) -> None:
        """Wait until so many seconds after the start, to the nanosecond."""
        there = asyncio.get_running_loop().create_future()
        due_ns = START_NS + round(seconds * 1_000) * MS - self.clock.wall_ns() + self.clock.mono_ns()
        self.clock.call_at(due_ns, there.set_result, None)
        await there

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.seen if isinstance(event, kind)]

    def told(self, client_id: str) -> list[tuple[str, int]]:
        """(status or request, milliseconds since the start) of each word on one order."""
        words = [e for e in self.seen if isinstance(e, OrderUpdate | RequestFailed) and e.client_id == client_id]
        return [
            (e.status.value if isinstance(e, OrderUpdate) else f"{e.request}:{e.reason}", (e.ts_ns - START_NS) // MS)
            for e in words
        ]


def place(client_id: str, side: Side = BUY, px: int = 999, qty: int = 5, **flags: bool) -> Place:
    flags = {"post_only": True, "reduce_only": False} | flags
    return Place(client_id, side, px, qty, Purpose.QUOTE, 0, **flags)


def cancel(client_id: str) -> Cancel:
    return Cancel(client_id, risk=False)


def play(
    does: Callable[[Daemon], Awaitable[T]],
    market: MarketSource,
    *,
    seed: int = 7,
    wall_ns: int = START_NS,
    **settings: Any,
) -> T:
    latency: dict[str, Any] = {"request": Delay(0.05), "response": Delay(0.04), "stream": Delay(0.06)}
    config = SimulatedConfig(**latency | settings)

    async def main(clock: VirtualClock) -> T:
        venue = SimulatedVenue(market, clock, config, seed)
        daemon = Daemon(venue, clock)
        await venue.open(daemon.seen.append)
        try:
            return await does(daemon)
        finally:
            await venue.close()

    return run_virtual(main, start_wall_ns=wall_ns)


QUIET = Market(book(0), ended(3_600))


# --- market -----------------------------------------------------------------------------------------------------------


def test_market_events_come_at_their_arrival_with_local_times() -> None:
    async def script(daemon: Daemon) -> list[Event]:
        await daemon.at(10)
        return daemon.seen

    mark = MarkPrice(*times(1), 1_000)
    rate = FundingRate(*times(1), 0.0001, START_NS + 28_800 * NS, 28_800)
    seen = play(script, Market(book(0), mark, rate, trade(2, 999, 3, SELL), book(2, 1_001), ended(3)))
    links, market = seen[:2], seen[2:]
    assert [(event.link, event.up) for event in links if isinstance(event, LinkChanged)] == [
        ("private", True),
        ("public", True),
    ]
    assert [type(event) for event in market] == [
        BookUpdate,
        MarkPrice,
        FundingRate,
        TradePrint,
        BookUpdate,
        SourceEnded,
    ]
    for event, seconds in zip(market, (0, 1, 1, 2, 2, 3), strict=True):
        assert event.venue_ts_ns == START_NS + seconds * NS
        assert event.ts_ns == START_NS + seconds * NS + FEED_NS
        assert event.mono_ns - market[0].mono_ns == seconds * NS


def test_events_whose_flights_overlap_keep_their_own_arrivals() -> None:
    async def script(daemon: Daemon) -> list[int]:
        await daemon.at(3)
        return [(event.ts_ns - START_NS) // MS for event in daemon.seen if isinstance(event, BookUpdate | TradePrint)]

    arrivals = [TradePrint(0, START_NS + at * MS, START_NS + at * MS // 10, 999, 1, SELL) for at in (100, 110, 150)]
    assert play(script, Market(book(0), *arrivals, ended(2))) == [20, 100, 110, 150]


def test_a_source_without_marks_or_funding_gets_them_and_the_provenance_says_so() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.at(5)
        return daemon

    books = [book(tenths / 10, 1_000 + tenths) for tenths in range(30)]
    daemon = play(script, Market(*books, ended(4)))
    assert [(event.px_ticks, (event.ts_ns - START_NS) // MS) for event in daemon.of(MarkPrice)] == [
        (1_000, 20),
        (1_010, 1_020),
        (1_020, 2_020),
    ]
    (rate,) = daemon.of(FundingRate)
    assert (rate.rate, rate.next_ts_ns, rate.interval_s) == (0.0, START_NS + 28_800 * NS, 28_800)
    assert "mid" in daemon.venue.provenance["mark"]
    assert "rate 0" in daemon.venue.provenance["funding"]
    assert daemon.venue.provenance["market"] == "by hand"


def test_made_funding_is_told_again_after_each_settlement() -> None:
    async def script(daemon: Daemon) -> list[FundingRate]:
        await daemon.at(28_801)
        return daemon.of(FundingRate)

    market = Market(book(0), ended(99_999))
    assert [rate.next_ts_ns - START_NS for rate in play(script, market)] == [28_800 * NS, 57_600 * NS]


def test_a_recording_is_moved_to_now_with_its_funding_times() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.at(1)
        daemon.venue.manual_trade(BUY, 8)
        await daemon.at(20)
        return daemon

    old = START_NS - (400 * 86_400 + 3_600) * NS
    rate = FundingRate(*times(0, old), 0.0001, old + 10 * NS, 28_800)
    daemon = play(script, Market(book(0, start=old), rate, book(15, start=old), start_ts_ns=old))
    assert [event.venue_ts_ns for event in daemon.of(BookUpdate)] == [START_NS, START_NS + 15 * NS]
    assert daemon.of(FundingRate)[0].next_ts_ns == START_NS + 10 * NS
    assert [bill.venue_ts_ns for bill in daemon.of(Bill)] == [START_NS + 10 * NS]
    assert "moved" in daemon.venue.provenance["time"]


def test_a_source_that_started_a_moment_ago_is_not_moved() -> None:
    async def script(daemon: Daemon) -> list[BookUpdate]:
        await daemon.at(5)
        return daemon.of(BookUpdate)

    late = play(script, Market(book(0), book(4)), wall_ns=START_NS + 3 * NS)
    assert [event.ts_ns - START_NS for event in late] == [3 * NS, 4 * NS + FEED_NS]


# --- orders -----------------------------------------------------------------------------------------------------------


def test_an_order_is_acknowledged_after_the_round_trip_and_rests_from_its_arrival() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.at(1)
        await daemon.venue.send(place("a"))
        await daemon.at(2)
        return daemon

    daemon = play(script, QUIET)
    assert daemon.told("a") == [("live", 1_090)]
    (update,) = daemon.of(OrderUpdate)
    assert (update.px_ticks, update.qty_lots, update.cum_filled_lots) == (999, 5, 0)
    assert update.venue_ts_ns == START_NS + 1_050 * MS
    assert daemon.venue.truth().received == [(START_NS + 1_050 * MS, place("a"))]


def test_a_print_between_sending_and_arrival_does_not_fill() -> None:
    async def script(daemon: Daemon) -> list[Fill]:
        await daemon.at(1)
        await daemon.venue.send(place("a"))
        await daemon.at(3)
        return daemon.of(Fill)

    assert play(script, Market(book(0), trade(1.04, 990, 50, SELL), ended(9))) == []
    (fill,) = play(script, Market(book(0), trade(1.05, 990, 50, SELL), trade(1.06, 990, 50, SELL), ended(9)))
    assert fill.venue_ts_ns == START_NS + 1_060 * MS, "at equal times the market is first"


def test_a_fill_is_seen_after_the_stream_latency_though_matching_is_put_off() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.at(0.1)
        await daemon.venue.send(place("a"))
        await daemon.at(9)
        return daemon

    slow = TradePrint(
        0, START_NS + 5 * NS, START_NS + 2 * NS, 990, 1, SELL
    )  # the feed lags by 3 s, the stream does not
    daemon = play(script, Market(book(0), slow, SourceEnded(0, START_NS + 5 * NS, START_NS + 5 * NS)))
    (fill,) = daemon.of(Fill)
    assert (fill.venue_ts_ns, fill.ts_ns) == (START_NS + 2 * NS, START_NS + 2 * NS + 60 * MS)
    assert daemon.told("a") == [("live", 190), ("filled", 2_060)]


def test_a_fill_may_come_before_the_acknowledgement() -> None:
    async def script(daemon: Daemon) -> list[tuple[str, int]]:
        await daemon.at(1)
        await daemon.venue.send(place("a"))
        await daemon.at(3)
        return daemon.told("a")

    market = Market(book(0), trade(1.06, 990, 50, SELL), ended(9))
    assert play(script, market, stream=Delay(0.01)) == [("filled", 1_070), ("live", 1_090)]


def test_a_partial_fill_racing_a_cancel() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.venue.send(place("a"))
        await daemon.at(0.99)
        await daemon.venue.send(cancel("a"))  # arrives at 1.040, when 2 have been filled
        await daemon.at(3)
        return daemon

    daemon = play(script, Market(book(0), trade(1, 999, 12, SELL), trade(1.05, 990, 50, SELL), ended(9)))
    assert daemon.told("a") == [("live", 90), ("partial", 1_060), ("cancelled", 1_080)]
    assert daemon.of(OrderUpdate)[-1].cum_filled_lots == 2
    assert [fill.qty_lots for fill in daemon.of(Fill)] == [2]
    order = daemon.venue.truth().orders["a"]
    assert (order.filled_lots, order.cancelled_lots) == (2, 3)


def test_a_cancel_that_comes_after_the_fill_is_refused() -> None:
    async def script(daemon: Daemon) -> list[tuple[str, int]]:
        await daemon.venue.send(place("a"))
        await daemon.at(0.99)
        await daemon.venue.send(cancel("a"))
        await daemon.at(3)
        return daemon.told("a")

    words = play(script, Market(book(0), trade(1, 990, 12, SELL), ended(9)))
    assert words == [("live", 90), ("filled", 1_060), ("cancel:filled", 1_080)]


@pytest.mark.parametrize(
    ("lots", "expected"),
    [
        (12, [("live", 90), ("partial", 1_060), ("partial", 1_080)]),
        (50, [("live", 90), ("filled", 1_060), ("amend:filled", 1_080)]),
    ],
)
def test_an_amend_racing_a_fill(lots: int, expected: list[tuple[str, int]]) -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.venue.send(place("a"))
        await daemon.at(0.99)
        await daemon.venue.send(Amend("a", 1, 998, 6))
        await daemon.at(3)
        return daemon

    daemon = play(script, Market(book(0), trade(1, 999, lots, SELL), ended(9)))
    assert daemon.told("a") == expected
    if lots == 12:
        update = daemon.of(OrderUpdate)[-1]
        assert (update.px_ticks, update.qty_lots, update.cum_filled_lots, update.revision) == (998, 6, 2, 1)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(PostOnly.REJECT, [("rejected", 1_090)]), (PostOnly.CANCEL_LATER, [("live", 1_090), ("cancelled", 1_110)])],
)
def test_post_only_both_ways(mode: PostOnly, expected: list[tuple[str, int]]) -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.at(1)
        await daemon.venue.send(place("a", px=1_001))
        await daemon.at(3)
        return daemon

    daemon = play(script, QUIET, post_only=mode)
    assert daemon.told("a") == expected
    assert daemon.of(OrderUpdate)[-1].reason == "post_only"
    assert daemon.of(Fill) == []


def test_requests_keep_their_order_though_latency_jitters() -> None:
    async def script(daemon: Daemon) -> Daemon:
        for number in range(20):
            await daemon.venue.send(place(f"o{number}", px=900 + number))
            await daemon.venue.send(cancel(f"o{number}"))
            await daemon.at(number / 100)
        await daemon.at(5)
        return daemon

    jitter: dict[str, Any] = {name: Delay(0.01, 0.2) for name in ("request", "response", "stream")}
    daemon = play(script, QUIET, orders_per_s=1_000.0, cancels_per_s=1_000.0, **jitter)
    arrivals = daemon.venue.truth().received
    assert [command.client_id for _, command in arrivals] == [f"o{n}" for n in range(20) for _ in range(2)]
    assert arrivals == sorted(arrivals, key=lambda arrival: arrival[0])
    assert all([word for word, _ in daemon.told(f"o{number}")] == ["live", "cancelled"] for number in range(20))


def test_over_the_rate_limit_is_a_definite_refusal() -> None:
    async def script(daemon: Daemon) -> list[str]:
        for number in range(5):
            await daemon.venue.send(place(f"o{number}"))
        for _ in range(3):
            await daemon.venue.send(cancel("o0"))
        await daemon.at(1)
        await daemon.venue.send(place("later"))
        await daemon.at(2)
        names = [f"o{number}" for number in range(5)] + ["later"]
        return [word for name in names for word, _ in daemon.told(name)]

    words = play(script, QUIET, orders_per_s=2.0, cancels_per_s=2.0, burst=2)
    assert words == ["live", "cancelled", "cancel:cancelled", "cancel:rate_limit", "live", *["rejected"] * 3, "live"]


# --- faults of requests -----------------------------------------------------------------------------------------------


def test_a_lost_acknowledgement_is_unknown_and_then_the_order_is_found() -> None:
    async def script(daemon: Daemon) -> tuple[list[tuple[str, int]], OrderReport | Absent]:
        daemon.venue.lose_next_ack()
        await daemon.venue.send(place("a"))
        await daemon.at(6)
        return daemon.told("a"), await daemon.venue.order("a")

    words, report = play(script, QUIET)
    assert words == [("unknown", 5_000)]
    assert report == OrderReport("a", BUY, 999, 5, 0, OrderStatus.LIVE, reduce_only=False)


def test_a_lost_request_is_unknown_and_then_absent() -> None:
    async def script(daemon: Daemon) -> tuple[list[tuple[str, int]], OrderReport | Absent]:
        daemon.venue.inject(FaultKind.REQUEST_LOST)
        await daemon.venue.send(place("a"))
        await daemon.at(6)
        return daemon.told("a"), await daemon.venue.order("a")

    assert play(script, QUIET) == ([("unknown", 5_000)], Absent("a"))


def test_a_late_request_lands_though_its_sender_has_given_up() -> None:
    async def script(daemon: Daemon) -> Daemon:
        daemon.venue.inject(FaultKind.LATE, 8)
        await daemon.venue.send(place("a"))
        await daemon.venue.send(place("b", px=998))
        await daemon.at(6)
        assert await daemon.venue.order("a") == Absent("a")
        await daemon.at(9)
        return daemon

    daemon = play(script, QUIET)
    assert daemon.told("a") == [("unknown", 5_000)]
    assert daemon.told("b") == [("live", 90)], "the others do not wait for it"
    assert [order.client_id for order in daemon.venue.truth().orders.values() if order.remaining_lots] == ["b", "a"]


def test_an_answer_that_meets_a_dead_line_is_unknown() -> None:
    async def script(daemon: Daemon) -> tuple[list[tuple[str, int]], OrderReport | Absent]:
        await daemon.at(1)
        await daemon.venue.send(place("a"))
        await daemon.at(1.07)
        daemon.venue.disconnect(1, ["rest"])
        await daemon.at(7)
        return daemon.told("a"), await daemon.venue.order("a")

    words, report = play(script, QUIET)
    assert words == [("unknown", 6_000)]
    assert isinstance(report, OrderReport)


def test_an_answer_slower_than_the_time_out_is_not_told() -> None:
    async def script(daemon: Daemon) -> list[tuple[str, int]]:
        await daemon.venue.send(place("a"))
        await daemon.at(10)
        return daemon.told("a")

    assert play(script, QUIET, response=Delay(6)) == [("unknown", 5_000)]


def test_every_send_has_an_outcome_under_seeded_faults_and_the_same_seed_plays_the_same() -> None:
    async def script(daemon: Daemon) -> tuple[list[Event], dict[FaultKind, int]]:
        for number in range(100):
            await daemon.venue.send(place(f"o{number}", px=900 + number))
            await daemon.at(number / 10)
        await daemon.at(30)
        return daemon.seen, daemon.venue.faults.seen

    rates = FaultRates(request_lost=0.1, ack_lost=0.1, late=0.1, late_max_s=8)
    seen, faults = play(script, QUIET, faults=rates, seed=3)
    spoken_of = {event.client_id for event in seen if isinstance(event, OrderUpdate)}
    assert spoken_of == {f"o{number}" for number in range(100)}
    assert all(faults[kind] for kind in (FaultKind.REQUEST_LOST, FaultKind.ACK_LOST, FaultKind.LATE))
    assert play(script, QUIET, faults=rates, seed=3) == (seen, faults)
    assert play(script, QUIET, faults=rates, seed=4) != (seen, faults)


# --- gaps -------------------------------------------------------------------------------------------------------------


def test_what_happens_in_a_private_gap_is_only_to_be_had_by_asking() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.venue.send(place("a"))
        await daemon.venue.send(place("b", px=998))
        await daemon.at(1)
        daemon.venue.disconnect(2, ["private"])
        await daemon.at(4)
        assert daemon.of(Fill) == []
        assert [fill.client_id for fill in await daemon.venue.fills(Cursor(START_NS))] == ["a"]
        assert [order.client_id for order in await daemon.venue.open_orders()] == ["b"]
        await daemon.at(9)
        return daemon

    at_the_end_of_the_gap = trade(2.99, 998, 1, SELL)
    daemon = play(script, Market(book(0), at_the_end_of_the_gap, trade(5, 997, 1, SELL), ended(9)))
    gap = [(event.link, event.up, (event.ts_ns - START_NS) // MS) for event in daemon.of(LinkChanged)[2:]]
    assert gap == [("private", False, 1_000), ("private", True, 3_000)]
    assert [fill.client_id for fill in daemon.of(Fill)] == ["b"]
    assert daemon.told("a") == [("live", 90)]


def test_a_fill_on_its_way_is_lost_with_the_connection() -> None:
    async def script(daemon: Daemon) -> list[Fill]:
        await daemon.venue.send(place("a"))
        await daemon.at(2.03)  # filled at 2.000, to be seen at 2.060
        daemon.venue.disconnect(0.01, ["private"])
        await daemon.at(9)
        return daemon.of(Fill)

    assert play(script, Market(book(0), trade(2, 998, 1, SELL), ended(9))) == []


def test_a_public_gap_hides_the_market_which_goes_on() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.venue.send(place("a"))
        await daemon.at(1)
        daemon.venue.disconnect(2, ["public"])
        await daemon.at(9)
        return daemon

    market = Market(book(0), book(0.99), trade(2, 998, 1, SELL), book(4, 1_010), ended(5))
    daemon = play(script, market)
    assert [event.venue_ts_ns for event in daemon.of(BookUpdate)] == [START_NS, START_NS + 4 * NS]
    assert daemon.of(TradePrint) == []
    assert len(daemon.of(Fill)) == 1
    assert len(daemon.of(SourceEnded)) == 1


def test_overlapping_windows_are_one_gap() -> None:
    async def script(daemon: Daemon) -> list[tuple[bool, int]]:
        daemon.venue.disconnect(3, ["private"])
        await daemon.at(1)
        daemon.venue.disconnect(1, ["private"])
        await daemon.at(2.5)
        daemon.venue.disconnect(3, ["private"])
        await daemon.at(9)
        return [
            (event.up, (event.ts_ns - START_NS) // MS) for event in daemon.of(LinkChanged) if event.link == "private"
        ]

    assert play(script, QUIET) == [(False, 0), (True, 5_500)]


def test_without_rest_nothing_is_sent_and_no_read_is_answered() -> None:
    async def script(daemon: Daemon) -> Daemon:
        daemon.venue.disconnect(20, ["rest"])
        await daemon.venue.send(place("a"))
        with pytest.raises(VenueUnavailable, match="no answer within 5 s"):
            await daemon.venue.snapshot()
        assert daemon.clock.wall_ns() == START_NS + 5 * NS
        with pytest.raises(VenueUnavailable):
            await daemon.venue.cancel_all()
        await daemon.at(25)
        await daemon.venue.snapshot()
        return daemon

    daemon = play(script, QUIET)
    assert daemon.told("a") == [("unknown", 5_000)]
    assert daemon.venue.truth().received == []


def test_a_link_that_does_not_exist_is_named() -> None:
    async def script(daemon: Daemon) -> None:
        daemon.venue.disconnect(1, ["privat"])

    with pytest.raises(ValueError, match="no link 'privat'; links are private, public, rest"):
        play(script, QUIET)


# --- other windows ----------------------------------------------------------------------------------------------------


def test_failing_reads_raise_and_requests_pass() -> None:
    async def script(daemon: Daemon) -> list[tuple[str, int]]:
        for read in (daemon.venue.open_orders, daemon.venue.snapshot, daemon.venue.mark, daemon.venue.funding):
            with pytest.raises(VenueUnavailable, match="error"):
                await read()
        await daemon.venue.cancel_all()
        await daemon.venue.send(place("a"))
        await daemon.at(12)
        await daemon.venue.snapshot()
        return daemon.told("a")

    assert len(play(script, QUIET, script=(ScriptedFault(0, FaultKind.READS_FAIL, 10),))) == 1


def test_one_failed_read() -> None:
    async def script(daemon: Daemon) -> None:
        daemon.venue.inject(FaultKind.READ_FAILS)
        with pytest.raises(VenueUnavailable):
            await daemon.venue.fees()
        await daemon.venue.fees()

    play(script, QUIET)


def test_a_rate_limit_storm_refuses_everything() -> None:
    async def script(daemon: Daemon) -> list[str]:
        await daemon.venue.send(place("a"))
        await daemon.at(1)
        daemon.venue.inject(FaultKind.RATE_STORM, 5)
        await daemon.venue.send(place("b"))
        await daemon.venue.send(cancel("a"))
        await daemon.venue.send(Amend("a", 1, 998, 5))
        with pytest.raises(VenueUnavailable, match="rate limit"):
            await daemon.venue.open_orders()
        await daemon.at(7)
        return [word for name in "ab" for word, _ in daemon.told(name)]

    assert play(script, QUIET) == ["live", "cancel:rate_limit", "amend:rate_limit", "rejected"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(FaultKind.BOOK_SILENT, [1_000, 1_040]), (FaultKind.BOOK_FROZEN, [1_000, 1_000, 1_000, 1_040])],
)
def test_a_silent_or_frozen_book_on_a_live_socket(kind: FaultKind, expected: list[int]) -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.at(9)
        return daemon

    books = [book(0), book(2, 1_020), book(3, 1_030), book(6, 1_040)]
    market = Market(*books[:2], trade(2.5, 1_019, 1, SELL), *books[2:], ended(7))
    daemon = play(script, market, script=(ScriptedFault(1, kind, 4),))
    assert [event.bids[0][0] + 1 for event in daemon.of(BookUpdate)] == expected
    assert len(daemon.of(TradePrint)) == 1
    assert len(daemon.of(LinkChanged)) == 2


def test_windows_are_drawn_by_the_minute() -> None:
    async def script(daemon: Daemon) -> int:
        await daemon.at(1_800)
        return daemon.venue.faults.seen[FaultKind.PRIVATE_DOWN]

    assert 5 <= play(script, QUIET, faults=FaultRates(private_down=0.5)) <= 25


# --- reads and awaited requests ---------------------------------------------------------------------------------------


def test_reads_answer_from_the_venues_truth_after_a_round_trip() -> None:
    async def script(daemon: Daemon) -> None:
        venue = daemon.venue
        await venue.send(place("a", px=1_001, qty=4, post_only=False, ioc=True))
        await venue.send(place("b", px=998))
        await daemon.at(1)
        snapshot = await venue.snapshot()
        assert daemon.clock.wall_ns() == START_NS + 1_090 * MS
        assert (snapshot.ts_ns, snapshot.venue_ts_ns) == (START_NS + 1_090 * MS, START_NS + 1_050 * MS)
        assert (snapshot.position_lots, snapshot.mark_px_ticks) == (4, 1_000)
        assert snapshot.equity_e10 == venue.truth().wallet.equity_e10(1_000)
        (fill,) = await venue.fills(Cursor(0))
        assert (fill.client_id, fill.qty_lots, fill.px_ticks) == ("a", 4, 1_001)
        assert await venue.fills(Cursor((fill.venue_ts_ns or 0) + 1)) == []
        assert len(await venue.fills(Cursor(fill.venue_ts_ns or 0))) == 1
        assert [order.client_id for order in await venue.open_orders()] == ["b"]
        venue.transfer(-3)
        assert [(bill.kind, bill.amount_e10) for bill in await venue.bills(Cursor(0))] == [(BillKind.TRANSFER, -3)]
        fees = await venue.fees()
        assert (fees.maker_rate, fees.taker_rate, fees.source) == (0.0002, 0.0006, "simulated")
        facts = await venue.facts()
        assert (facts.position_mode, facts.can_trade, facts.can_withdraw) == ("one_way", True, False)
        assert facts.clock_offset_s == 0
        assert (await venue.mark()).px_ticks == 1_000
        assert (await venue.funding()).rate == 0
        assert await venue.instrument() == INSTRUMENT
        await daemon.at(125)
        assert [bar.close_ticks for bar in await venue.candles(10)] == [1_000, 1_000]

    play(script, QUIET)


def test_a_step_of_the_wall_clock_shows_as_an_offset() -> None:
    async def script(daemon: Daemon) -> float:
        daemon.clock.wall_offset_ns += 3 * NS
        return (await daemon.venue.facts()).clock_offset_s

    assert play(script, QUIET) == -3


def test_cancel_all_takes_everything_and_tells_it_on_the_stream() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.venue.send(place("a"))
        await daemon.at(1)
        foreign = daemon.venue.foreign_order(SELL, 1_005, 3)
        await daemon.venue.cancel_all()
        assert await daemon.venue.open_orders() == []
        await daemon.venue.cancel_all()  # nothing to cancel is success
        assert [word for word, _ in daemon.told(foreign)] == ["live", "cancelled"]
        return daemon

    assert [word for word, _ in play(script, QUIET).told("a")] == ["live", "cancelled"]


def test_a_stop_at_the_venue_closes_the_position() -> None:
    async def script(daemon: Daemon) -> int:
        daemon.venue.manual_trade(BUY, 8)
        await daemon.venue.protect(PositionStop(980))
        await daemon.at(3)
        return daemon.venue.truth().position_lots

    assert play(script, Market(book(0), book(1, 985), ended(9))) == 8
    assert play(script, Market(book(0), book(1, 980), ended(9))) == 0


def test_the_dead_man_by_configuration() -> None:
    async def script(daemon: Daemon) -> tuple[bool, list[tuple[str, int]]]:
        kept = await daemon.venue.dead_man(2)
        await daemon.venue.send(place("a"))
        await daemon.at(5)
        return kept, daemon.told("a")

    assert play(script, QUIET) == (False, [("live", 90)])
    assert play(script, QUIET, has_dead_man=True) == (True, [("live", 180), ("cancelled", 2_110)])


@pytest.mark.parametrize(("side", "rate"), [(BUY, 1e-3), (BUY, -1e-3), (SELL, 1e-3), (SELL, -1e-3)])
def test_funding_settles_at_its_time_from_the_sources_rate(side: Side, rate: float) -> None:
    async def script(daemon: Daemon) -> list[Bill]:
        daemon.venue.manual_trade(side, 8)
        await daemon.at(30)
        return daemon.of(Bill)

    funding = FundingRate(*times(0), rate, START_NS + 10 * NS, 28_800)
    mark = MarkPrice(*times(0), 1_000)
    (bill,) = play(script, Market(book(0), mark, funding, ended(40)))
    assert (bill.venue_ts_ns, bill.ts_ns) == (START_NS + 10 * NS, START_NS + 10 * NS + 60 * MS)
    assert bill.amount_e10 == -side * round(rate * 1_000) * 8 * 1_000 * INSTRUMENT.unit_e10 // 1_000


def test_funding_is_settled_at_the_mark_of_its_moment() -> None:
    async def script(daemon: Daemon) -> list[Bill]:
        daemon.venue.manual_trade(BUY, 8)
        await daemon.at(30)
        return daemon.of(Bill)

    rate = FundingRate(*times(0), 1e-3, START_NS + 10 * NS, 28_800)
    marks = MarkPrice(*times(0), 1_000), MarkPrice(*times(10.005), 2_000)  # both known when matching is caught up
    (bill,) = play(script, Market(book(0), marks[0], rate, marks[1], ended(40)))
    assert bill.amount_e10 == -8 * INSTRUMENT.unit_e10


def test_liquidation_reaches_the_daemon() -> None:
    async def script(daemon: Daemon) -> Daemon:
        await daemon.venue.send(place("a", px=990))
        await daemon.at(0.5)
        daemon.venue.manual_trade(BUY, 30)
        await daemon.at(5)
        snapshot = await daemon.venue.snapshot()
        assert (snapshot.position_lots, snapshot.equity_e10) == (0, 0)
        return daemon

    market = Market(book(0), book(2, 600), ended(9))
    equity_e10 = 12_000 * INSTRUMENT.unit_e10
    daemon = play(script, market, start_e10=equity_e10, leverage=5, fills=FillModel.THROUGH)
    last = daemon.of(Fill)[-1]
    assert (last.exec_kind, last.side, last.px_ticks, last.qty_lots) == (ExecKind.LIQUIDATION, SELL, 600, 30)
    assert [event.reason for event in daemon.of(OrderUpdate) if event.client_id == "a"] == ["", "liquidation"]
    (bill,) = daemon.of(Bill)
    assert bill.kind is BillKind.FEE
    assert bill.amount_e10 > 0, "the venue covers what is missing"


# --- a made market ---------------------------------------------------------------------------------------------------


def quote_a_made_market(seed: int, minutes: int = 10) -> tuple[list[Event], AccountSnapshot]:
    """A quoter that joins the touch every two seconds, with faults and jitter."""

    async def script(daemon: Daemon) -> tuple[list[Event], AccountSnapshot]:
        await daemon.at(1)
        for turn in range(minutes * 30):
            touch = daemon.of(BookUpdate)[-1]
            for side, px in ((BUY, touch.bids[0][0]), (SELL, touch.asks[0][0])):
                await daemon.venue.send(place(f"{side.name}{turn}", side, px, 50))
                await daemon.venue.send(cancel(f"{side.name}{turn - 1}"))
            await asyncio.sleep(2)
        await daemon.at(minutes * 60 + 60)
        await daemon.venue.cancel_all()
        await daemon.at(minutes * 60 + 70)
        return daemon.seen, await daemon.venue.snapshot()

    faults = FaultRates(request_lost=0.02, ack_lost=0.02, late=0.02)
    jitter: dict[str, Any] = {name: Delay(0.02, 0.06) for name in ("request", "response", "stream")}
    source = SyntheticMarket(seed=seed, start_ts_ns=START_NS, duration_s=minutes * 60.0 + 120)
    return play(script, source, seed=seed, faults=faults, **jitter)


def test_a_made_market_foots_from_the_daemons_side() -> None:
    """What the daemon was told, summed by itself, is what the venue answers."""
    seen, snapshot = quote_a_made_market(seed=11)
    unit = SyntheticMarket(seed=11).instrument.unit_e10
    fills = [event for event in seen if isinstance(event, Fill)]
    assert len(fills) > 50
    cash = SimulatedConfig().start_e10
    cash -= sum(fill.side * fill.px_ticks * fill.qty_lots * unit + fill.fee_e10 for fill in fills)
    cash += sum(event.amount_e10 for event in seen if isinstance(event, Bill))
    assert snapshot.position_lots == sum(fill.side * fill.qty_lots for fill in fills)
    assert snapshot.equity_e10 == cash + snapshot.position_lots * snapshot.mark_px_ticks * unit


def test_the_same_seeds_play_the_same_events() -> None:
    first = quote_a_made_market(seed=12, minutes=2)
    assert quote_a_made_market(seed=12, minutes=2) == first
    assert quote_a_made_market(seed=13, minutes=2) != first


def test_it_runs_in_real_time_too() -> None:
    async def main(clock: RealClock) -> list[Event]:
        start = clock.wall_ns()
        events = [BookUpdate(0, start + at * MS, start + at * MS, ((999, 5),), ((1_001, 5),)) for at in range(20)]
        fast: dict[str, Any] = {name: Delay(0.001) for name in ("request", "response", "stream")}
        source = Market(*events, SourceEnded(0, start + 40 * MS, start + 40 * MS), start_ts_ns=start)
        venue = SimulatedVenue(source, clock, SimulatedConfig(**fast))
        seen: list[Event] = []
        ended = asyncio.Event()

        def deliver(event: Event) -> None:
            seen.append(event)
            if isinstance(event, SourceEnded):
                ended.set()

        await venue.open(deliver)
        await venue.send(place("a"))
        await ended.wait()
        await venue.close()
        return seen

    seen = run_real(main)
    assert sum(isinstance(event, BookUpdate) for event in seen) == 20
    assert [event.status for event in seen if isinstance(event, OrderUpdate)] == [OrderStatus.LIVE]
    assert all(earlier.mono_ns <= later.mono_ns for earlier, later in pairwise(seen))


# --- life -------------------------------------------------------------------------------------------------------------


def test_after_close_nothing_is_delivered_and_nothing_can_be_asked() -> None:
    async def script(daemon: Daemon) -> None:
        await daemon.venue.send(place("a"))
        read = asyncio.ensure_future(daemon.venue.snapshot())
        await asyncio.sleep(0.01)
        await daemon.venue.close()
        before = len(daemon.seen)
        with pytest.raises(VenueUnavailable, match="closed"):
            await read
        with pytest.raises(VenueUnavailable, match="closed"):
            await daemon.venue.open_orders()
        await daemon.at(10)
        assert len(daemon.seen) == before

    play(script, Market(book(0), book(1), book(2), ended(9)))


def test_a_venue_is_opened_once() -> None:
    async def script(daemon: Daemon) -> None:
        protocol: Venue = daemon.venue  # checked by the type checker
        assert (protocol.name, protocol.can_amend, protocol.in_flight_floor_s) == ("simulated", True, 1.0)
        with pytest.raises(RuntimeError, match="one client at a time"):
            await daemon.venue.open(daemon.seen.append)

    play(script, QUIET)
