"""Paper: a live market, pushed, and the simulated venue's matching. In virtual time, with a public client by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
import pytest

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.commands import Cancel, Place
from mmdaemon.core.events import (
    BarClosed,
    Bill,
    BookUpdate,
    Event,
    Fill,
    FundingRate,
    LinkChanged,
    MarketDataRefused,
    MarkPrice,
    OrderUpdate,
    TradePrint,
)
from mmdaemon.core.types import E10, NS, Instrument, Link, OrderStatus, Purpose, Side
from mmdaemon.venues.base import Cursor, Deliver, PositionStop, Venue, VenueUnavailable
from mmdaemon.venues.paper import PaperVenue, Public
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.latency import Delay

T = TypeVar("T")
BUY, SELL = Side.BUY, Side.SELL
START_NS = 1_767_225_600 * NS
MS = 1_000_000
BEHIND_NS = 700 * MS
"""How far the exchange's clock, in what it says, is behind ours: it must not matter."""
INSTRUMENT = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
CONFIG = SimulatedConfig(request=Delay(0.05), response=Delay(0.04), stream=Delay(0.06), has_dead_man=True)


class Live:
    """The public half of an exchange: what a test has it say, it says now."""

    name = "bitget"

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.provenance = {"venue": "by hand", "order lanes": "many"}
        self.stated = INSTRUMENT
        self.deliver: Deliver | None = None
        self.is_up = True
        self.closed = 0
        self.mark_ticks = 1_000
        self.told: tuple[float, int, int] = (0.0001, START_NS + 8 * 3_600 * NS, 8 * 3_600)

    def now(self) -> tuple[int, int, int]:
        return self.clock.mono_ns(), self.clock.wall_ns(), self.clock.wall_ns() - BEHIND_NS

    def _there(self) -> None:
        if not self.is_up:
            raise VenueUnavailable("the test says so")

    async def instrument(self) -> Instrument:
        self._there()
        return self.stated

    async def open(self, deliver: Deliver) -> None:
        self._there()
        self.deliver = deliver

    async def candles(self, n: int) -> list[BarClosed]:
        self._there()
        return [
            BarClosed(*self.now(), START_NS - minute * 60 * NS, 9, 9, 9, 9, 1, "venue") for minute in range(n, 0, -1)
        ]

    async def funding(self) -> FundingRate:
        self._there()
        return FundingRate(*self.now(), *self.told)

    async def mark(self) -> MarkPrice:
        self._there()
        return MarkPrice(*self.now(), self.mark_ticks)

    async def close(self) -> None:
        self.closed += 1

    def say(self, event: Event) -> None:
        assert self.deliver is not None
        self.deliver(event)

    def book(self, mid: int = 1_000) -> BookUpdate:
        bids = tuple((mid - step, 10) for step in (1, 2, 3))
        event = BookUpdate(*self.now(), bids, tuple((mid + step, 10) for step in (1, 2, 3)))
        self.say(event)
        return event

    def trade(self, px_ticks: int, qty_lots: int, aggressor: Side | None) -> TradePrint:
        event = TradePrint(*self.now(), px_ticks, qty_lots, aggressor)
        self.say(event)
        return event


class World:
    """An open paper venue, and all that was told of it."""

    def __init__(self, clock: VirtualClock, live: Live, venue: PaperVenue, heard: list[Event]) -> None:
        self.clock, self.live, self.venue, self.heard = clock, live, venue, heard

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.heard if isinstance(event, kind)]


def play(script: Callable[[World], Awaitable[None]], config: SimulatedConfig = CONFIG) -> World:
    async def main(clock: VirtualClock) -> World:
        live = Live(clock)
        venue = await PaperVenue.at(live, clock, config, 7)
        world = World(clock, live, venue, [])
        await venue.open(world.heard.append)
        try:
            await script(world)
        finally:
            await venue.close()
        return world

    return run_virtual(main, start_wall_ns=START_NS)


def place(client_id: str, side: Side, px: int, qty: int = 5, **more: Any) -> Place:
    return Place(client_id, side, px, qty, Purpose.QUOTE, 0, **{"post_only": True, "reduce_only": False, **more})


def test_it_is_a_venue() -> None:
    def needs(_venue: type[Venue], _public: type[Public]) -> None: ...

    needs(PaperVenue, Live)


def test_a_market_event_is_told_at_once_and_as_it_was() -> None:
    async def script(world: World) -> None:
        said = [world.live.book(), world.live.trade(999, 1, SELL)]
        assert world.heard[-2:] == said
        assert all(mine is theirs for mine, theirs in zip(world.heard[-2:], said, strict=True))

    play(script)


def test_links_are_the_exchange_s_own_and_ours() -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(0.1)
        assert [(each.link, each.up) for each in world.of(LinkChanged)] == [(Link.PRIVATE, True)]
        for link, up in ((Link.PUBLIC, True), (Link.PRIVATE, False), (Link.PUBLIC, False)):
            world.live.say(LinkChanged(*world.live.now(), link, up))
        world.live.say(MarketDataRefused(*world.live.now(), "gap"))
        told = [(each.link, each.up) for each in world.of(LinkChanged)]
        assert told == [(Link.PRIVATE, True), (Link.PUBLIC, True), (Link.PUBLIC, False)]
        assert [each.reason for each in world.of(MarketDataRefused)] == ["gap"]

    play(script)


def test_what_is_no_market_is_not_told() -> None:
    """An account's facts can only be of somebody else's account."""

    async def script(world: World) -> None:
        before = len(world.heard)
        now = world.live.now()
        world.live.say(OrderUpdate(*now, "x", OrderStatus.FILLED, 1, None, None, None, ""))
        world.live.say(BarClosed(*now, 0, 1, 1, 1, 1, 1, "venue"))
        assert len(world.heard) == before

    play(script)


def test_an_order_arrives_after_the_request_s_latency_and_fills_from_the_live_market() -> None:
    async def script(world: World) -> None:
        live = world.live
        live.book()
        await world.venue.send(place("a", BUY, 998, 5))
        live.trade(998, 100, SELL)  # before it arrives
        await asyncio.sleep(0.049)
        live.trade(990, 100, SELL)
        await asyncio.sleep(0.2)
        assert world.of(Fill) == []
        live.trade(998, 10, SELL)  # what was ahead of us
        await asyncio.sleep(0.2)
        assert world.of(Fill) == []
        at = world.clock.wall_ns()
        live.trade(998, 2, SELL)
        await asyncio.sleep(0.059)
        assert world.of(Fill) == [], "the private stream takes its time"
        await asyncio.sleep(0.002)
        (fill,) = world.of(Fill)
        assert (fill.client_id, fill.px_ticks, fill.qty_lots, fill.venue_ts_ns) == ("a", 998, 2, at)
        assert fill.fee_e10 == 998 * 2 * INSTRUMENT.unit_e10 * 2 // 10_000
        assert [(each.client_id, each.cum_filled_lots) for each in await world.venue.open_orders()] == [("a", 2)]
        assert [each.trade_id for each in await world.venue.fills(Cursor(at))] == [fill.trade_id]
        assert (await world.venue.snapshot()).position_lots == 2
        await world.venue.send(Cancel("a", risk=False))
        await asyncio.sleep(0.2)
        assert await world.venue.open_orders() == []

    play(script)


def test_a_book_through_our_price_fills_at_its_receipt() -> None:
    async def script(world: World) -> None:
        world.live.book()
        await world.venue.send(place("a", BUY, 998))
        await asyncio.sleep(0.1)
        at = world.clock.wall_ns()
        world.live.book(990)
        await asyncio.sleep(0.1)
        (fill,) = world.of(Fill)
        assert (fill.qty_lots, fill.venue_ts_ns) == (5, at)

    play(script)


@pytest.mark.parametrize(
    "sides",
    [(((), ((1_001, 5),))), (((999, 5),), ()), ((), ()), (((1_002, 5),), ((990, 5),))],
)
def test_a_broken_book_is_told_and_not_matched(sides: tuple[Any, Any]) -> None:
    async def script(world: World) -> None:
        world.live.book()
        await world.venue.send(place("a", BUY, 998))
        await world.venue.send(place("b", SELL, 1_000, post_only=True))
        await asyncio.sleep(0.1)
        broken = BookUpdate(*world.live.now(), *sides)
        world.live.say(broken)
        await asyncio.sleep(0.2)
        assert world.of(BookUpdate)[-1] is broken
        assert world.of(Fill) == []
        assert len(await world.venue.open_orders()) == 2

    play(script)


def test_what_happens_in_a_gap_fills_nobody_and_what_it_led_to_does() -> None:
    async def script(world: World) -> None:
        live = world.live
        live.book()
        await world.venue.send(place("a", BUY, 998))
        await asyncio.sleep(0.1)
        live.say(LinkChanged(*live.now(), Link.PUBLIC, False))
        await asyncio.sleep(30)
        assert world.of(Fill) == []
        live.say(LinkChanged(*live.now(), Link.PUBLIC, True))
        live.book(990)
        await asyncio.sleep(0.1)
        assert len(world.of(Fill)) == 1

    play(script)


# --- funding and mark -------------------------------------------------------------------------------------------------


async def _long(world: World) -> None:
    world.live.book()
    await world.venue.send(place("a", BUY, 1_001, 10, post_only=False))
    await asyncio.sleep(0.2)
    assert (await world.venue.snapshot()).position_lots == 10


def test_funding_is_settled_at_its_time_by_the_mark_and_rate_told_last() -> None:
    async def script(world: World) -> None:
        live = world.live
        settles = START_NS + 600 * NS
        live.say(FundingRate(*live.now(), 0.0003, settles, 3_600))
        await _long(world)
        live.say(MarkPrice(*live.now(), 1_100))
        await asyncio.sleep(600)
        (bill,) = world.of(Bill)
        assert bill.venue_ts_ns == settles
        assert bill.amount_e10 == -round(1_100 * 10 * INSTRUMENT.unit_e10 * 0.0003)
        assert (await world.venue.bills(Cursor(settles)))[0].bill_id == bill.bill_id

    play(script)


def test_settlements_come_by_themselves_while_nothing_is_told() -> None:
    async def script(world: World) -> None:
        live = world.live
        live.say(FundingRate(*live.now(), 0.0003, START_NS + 600 * NS, 3_600))
        await _long(world)
        await asyncio.sleep(600 + 2 * 3_600)
        assert [bill.venue_ts_ns for bill in world.of(Bill)] == [
            START_NS + (600 + hour * 3_600) * NS for hour in range(3)
        ]

    play(script)


@pytest.mark.parametrize("ahead_s", [-20, 0, 20])
def test_a_settlement_is_booked_once_whoever_s_clock_is_ahead(ahead_s: int) -> None:
    """The exchange's clock is ahead: it tells of the next settlement before ours has come to this one."""

    async def script(world: World) -> None:
        live = world.live
        settles = START_NS + 600 * NS
        live.say(FundingRate(*live.now(), 0.0003, settles, 3_600))
        await _long(world)
        live.say(MarkPrice(*live.now(), 1_000))
        await asyncio.sleep(600 - 0.2 - ahead_s)
        live.say(FundingRate(*live.now(), 0.0001, settles + 3_600 * NS, 3_600))
        await asyncio.sleep(120)
        assert [bill.amount_e10 for bill in world.of(Bill)] == [-round(10_000 * INSTRUMENT.unit_e10 * 0.0003)]
        await asyncio.sleep(3_600)
        assert [bill.amount_e10 for bill in world.of(Bill)][1:] == [-round(10_000 * INSTRUMENT.unit_e10 * 0.0001)]

    play(script)


def test_a_settlement_that_is_put_off_is_not_booked_before() -> None:
    async def script(world: World) -> None:
        live = world.live
        live.say(FundingRate(*live.now(), 0.0003, START_NS + 600 * NS, 3_600))
        await _long(world)
        live.say(FundingRate(*live.now(), 0.0003, START_NS + 4_200 * NS, 3_600))
        await asyncio.sleep(700)
        assert world.of(Bill) == []

    play(script)


def test_mark_and_funding_are_the_exchange_s_from_the_opening_on() -> None:
    async def script(world: World) -> None:
        assert [each.px_ticks for each in world.of(MarkPrice)] == [1_000]
        assert [each.rate for each in world.of(FundingRate)] == [0.0001]
        await _long(world)
        world.live.mark_ticks = 1_200
        assert (await world.venue.mark()).px_ticks == 1_200
        assert (await world.venue.snapshot()).mark_px_ticks == 1_200
        world.live.told = (0.0005, START_NS + 3_600 * NS, 3_600)
        assert (await world.venue.funding()).rate == 0.0005
        await asyncio.sleep(3_700)
        assert [bill.amount_e10 for bill in world.of(Bill)] == [-round(12_000 * INSTRUMENT.unit_e10 * 0.0005)]

    play(script)


def test_a_stop_is_kept_by_the_live_mark_and_the_dead_man_by_the_clock() -> None:
    async def script(world: World) -> None:
        await _long(world)
        await world.venue.protect(PositionStop(950))
        assert await world.venue.dead_man(10)
        await world.venue.send(place("b", BUY, 997))
        await asyncio.sleep(1)
        assert len(await world.venue.open_orders()) == 1
        await asyncio.sleep(10)
        assert await world.venue.open_orders() == []
        world.live.say(MarkPrice(*world.live.now(), 949))
        assert (await world.venue.snapshot()).position_lots == 0

    play(script)


# --- reads, beginning and end -----------------------------------------------------------------------------------------


def test_candles_are_the_exchange_s() -> None:
    async def script(world: World) -> None:
        assert [bar.open_ts_ns for bar in await world.venue.candles(2)] == [START_NS - 120 * NS, START_NS - 60 * NS]

    play(script)


@pytest.mark.parametrize("read", ["mark", "funding", "instrument"])
def test_a_read_that_fails_is_unavailable_and_never_an_older_answer(read: str) -> None:
    async def script(world: World) -> None:
        world.live.book()
        world.live.is_up = False
        with pytest.raises(VenueUnavailable):
            await getattr(world.venue, read)()
        with pytest.raises(VenueUnavailable):
            await world.venue.candles(5)
        assert (await world.venue.facts()).account == CONFIG.account, "the account is here"

    play(script)


def test_an_instrument_that_changes_is_seen() -> None:
    async def script(world: World) -> None:
        world.live.stated = msgspec.structs.replace(INSTRUMENT, min_qty_lots=7)
        assert (await world.venue.instrument()).min_qty_lots == 7
        assert world.venue.exchange.instrument.min_qty_lots == 1, "it is fixed for a run"

    play(script)


def test_a_journal_of_paper_is_none_of_the_exchange_s() -> None:
    """Else a run with money would begin with what was held on paper."""

    async def script(world: World) -> None:
        assert (await world.venue.instrument()).venue == "bitget-paper"
        assert world.venue.exchange.instrument == await world.venue.instrument()

    play(script)


@pytest.mark.parametrize("reached", [False, True])
def test_an_exchange_that_is_not_there_is_closed_and_said_so(reached: bool) -> None:
    async def main(clock: VirtualClock) -> None:
        live = Live(clock)
        live.is_up = reached

        async def begin() -> None:
            venue = await PaperVenue.at(live, clock, CONFIG, 7)
            live.is_up = False
            await venue.open(lambda _event: None)

        with pytest.raises(VenueUnavailable):
            await begin()
        assert live.closed == 1

    run_virtual(main, start_wall_ns=START_NS)


def test_after_the_end_nothing_is_told_and_nothing_asked() -> None:
    world = play(_long)
    heard = len(world.heard)
    assert world.live.closed == 1
    world.live.book(900)
    assert len(world.heard) == heard


def test_a_step_of_our_clock_is_seen_as_one() -> None:
    async def script(world: World) -> None:
        before = (await world.venue.facts()).clock_offset_s
        world.clock.wall_offset_ns += 5 * NS
        assert (await world.venue.facts()).clock_offset_s == pytest.approx(before - 5, abs=1e-6)

    play(script)


def test_provenance_says_what_it_is() -> None:
    async def script(world: World) -> None:
        told = world.venue.provenance
        assert told["venue"] == "by hand"
        assert "bitget, live" in told["paper"]
        assert "queue" in told["fill assumption"]
        assert {"gaps"} <= told.keys()
        assert told["order lanes"].startswith("none")
        assert not {"time", "mark", "funding"} & told.keys(), "nothing of a recording's"
        assert world.venue.name == "paper"

    play(script)


def test_nothing_is_injected_into_a_live_market() -> None:
    async def script(world: World) -> None:
        for kind in (FaultKind.PUBLIC_DOWN, FaultKind.BOOK_FROZEN, FaultKind.BOOK_CROSSED):
            with pytest.raises(NotImplementedError):
                world.venue.inject(kind, 1)
        world.live.book()

    play(script)
