"""The cost model's eyes: fees are read anew once our fills are charged otherwise, the rate once it is of a settlement
that is over, the ledger with an overlap. What cannot be read is asked for again."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.cost import FILLS_COMPARED, Charged
from mmdaemon.core.events import Bill, BillKind, Event, FeeSchedule, FundingRate
from mmdaemon.core.types import NS, GuardState
from mmdaemon.daemon import cost
from mmdaemon.venues.base import Cursor, VenueUnavailable
from tests.daemon.build import World, run_world

SETTLES_NS = 1_767_254_400 * NS
"""08:00 UTC."""
HOUR_NS = 3_600 * NS
HOURS_8 = 8 * HOUR_NS


class Asked:
    """A venue that answers the cost model's three questions, and remembers when it was asked."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, float]] = []
        """What, and how many seconds after the settlement."""
        self.cursors: list[float] = []
        self.is_down = False
        self.takes_s = 0.0
        """So long the answer about fees is on its way."""
        self.lags_s = 0.0
        """For so long after a settlement the answer is still about it."""
        self.ledger: list[Bill] = []

    def _ask(self, what: str) -> None:
        self.asked.append((what, (self.clock.wall_ns() - SETTLES_NS) / NS))
        if self.is_down:
            raise VenueUnavailable("the test says so")

    def times(self, what: str) -> list[float]:
        return [at_s for name, at_s in self.asked if name == what]

    async def fees(self) -> FeeSchedule:
        self._ask("fees")
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        return FeeSchedule(0, 0, None, 0.0002, 0.0006, "test")

    async def funding(self) -> FundingRate:
        self._ask("funding")
        wall_ns = self.clock.wall_ns() - round(self.lags_s * NS)
        next_ts_ns = SETTLES_NS + (wall_ns - SETTLES_NS) // HOURS_8 * HOURS_8 + HOURS_8
        return FundingRate(0, 0, wall_ns, 0.0001, next_ts_ns, 28_800)

    async def bills(self, since: Cursor) -> list[Bill]:
        self._ask("bills")
        self.cursors.append((since.venue_ts_ns - SETTLES_NS) / NS)
        return self.ledger


def watch(
    begin_s: float,
    for_s: float,
    meanwhile: Callable[[Asked, Charged, float], None] = lambda *_: None,
    lags_s: float = 0.0,
) -> tuple[Asked, list[Event]]:
    """Run the cost model from so long after (before: negative) the settlement. `meanwhile` is called each second with
    the seconds that it ran."""
    posted: list[Event] = []

    async def main(clock: VirtualClock) -> Asked:
        venue, charged = Asked(clock), Charged()
        venue.lags_s = lags_s
        opened_ns = clock.wall_ns() - HOUR_NS
        running = asyncio.ensure_future(
            cost.run(cast(Any, venue), clock, posted.append, 300 * NS, opened_ns, clock.wall_ns(), charged)
        )
        for second in range(round(for_s)):
            meanwhile(venue, charged, second)
            await asyncio.sleep(1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return venue

    return run_virtual(main, start_wall_ns=SETTLES_NS + round(begin_s * NS)), posted


# --- fees -------------------------------------------------------------------------------------------------------------


def test_fees_are_read_once_an_hour_while_they_are_charged_as_told() -> None:
    venue, posted = watch(0, 7_300)
    assert venue.times("fees") == pytest.approx([0, 3_600, 7_200])
    assert sum(isinstance(event, FeeSchedule) for event in posted) == 3


def test_fees_are_read_anew_within_a_second_or_two_of_being_contradicted() -> None:
    def contradict(_venue: Asked, charged: Charged, second: float) -> None:
        charged.otherwise += second in (100, 500)

    venue, _ = watch(0, 4_300, contradict)
    first, second, third, hourly = venue.times("fees")
    assert first == 0
    assert 100 <= second <= 102
    assert 500 <= third <= 502
    assert hourly == pytest.approx(third + 3_600, abs=1.5)


def test_an_answer_that_was_on_its_way_when_it_was_contradicted_is_not_the_last_word() -> None:
    def contradict(venue: Asked, charged: Charged, second: float) -> None:
        venue.takes_s = 10.0
        charged.otherwise += second == 5

    venue, _ = watch(0, 300, contradict)
    assert venue.times("fees") == pytest.approx([0, 10], abs=1.5)


def test_fees_that_cannot_be_read_are_asked_for_again_and_the_contradiction_is_not_forgotten() -> None:
    def break_down(venue: Asked, charged: Charged, second: float) -> None:
        venue.is_down = 100 <= second < 118
        charged.otherwise += second == 101

    venue, posted = watch(0, 300, break_down)
    assert sum(100 <= at_s < 118 for at_s in venue.times("fees")) == 4
    assert sum(isinstance(event, FeeSchedule) for event in posted) == 2


def test_a_tier_that_changes_is_in_force_after_twenty_fills_and_not_after_an_hour(tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        charged = world.state.venue.charged
        assert charged.otherwise == 0
        world.venue.change_fees(Decimal("0.00021"), Decimal("0.0006"))
        begun = world.state.position.buys + world.state.position.sells
        await world.until(lambda: charged.otherwise, within_s=1_200, every_s=0.1)
        assert world.state.position.buys + world.state.position.sells - begun <= FILLS_COMPARED
        await world.sleep(2)
        fees = world.state.venue.fees
        assert fees is not None
        assert fees.maker_rate == 0.00021
        await world.sleep(300)
        assert charged.otherwise == 1
        assert charged.rate is None

    run_world(script, tmp_path / "state")


def test_a_schedule_that_goes_on_being_contradicted_is_not_believed(tmp_path: Path) -> None:
    """The venue charges 2.5 bps and goes on saying what it said: quoting goes on, at what is charged, and it is counted
    for all to see."""

    async def script(world: World) -> None:
        await world.trade()
        charged, told = world.state.venue.charged, world.venue.config.maker_rate
        world.venue._exchange.wallet.charge_at(Decimal("0.00025"), Decimal("0.0006"))
        await world.until(lambda: charged.otherwise >= 3, within_s=3_600, every_s=0.1)
        await world.sleep(2)
        fees, seen = world.state.venue.fees, world.state.inputs
        assert fees is not None
        assert seen is not None
        assert (fees.maker_rate, seen.maker_bps) == (float(told), pytest.approx(2.5))
        assert world.guard is GuardState.RUNNING
        assert world.parts.status().counts["charged_otherwise"] == charged.otherwise

    run_world(script, tmp_path / "state")


# --- funding ----------------------------------------------------------------------------------------------------------


def test_the_rate_is_read_every_five_minutes_and_right_after_each_settlement() -> None:
    venue, posted = watch(-700, 1_100)
    assert venue.times("funding") == pytest.approx([-700, -400, -100, 6, 306])
    told = [event.next_ts_ns for event in posted if isinstance(event, FundingRate)]
    assert told == [SETTLES_NS] * 3 + [SETTLES_NS + HOURS_8] * 2


def test_a_rate_of_a_settlement_that_is_over_is_asked_for_again_soon_and_no_faster() -> None:
    """A replica that lags by twenty seconds: every five seconds until it knows."""
    venue, posted = watch(-10, 100, lags_s=20.0)
    assert venue.times("funding") == pytest.approx([-10, 6, 11, 16, 21])
    assert isinstance(posted[-1], FundingRate)
    assert posted[-1].next_ts_ns == SETTLES_NS + HOURS_8


def test_a_rate_that_cannot_be_read_is_asked_for_every_five_seconds() -> None:
    def break_down(venue: Asked, _charged: Charged, second: float) -> None:
        venue.is_down = second < 18

    venue, posted = watch(100, 60, break_down)
    assert venue.times("funding") == pytest.approx([100, 105, 110, 115, 120])
    assert sum(isinstance(event, FundingRate) for event in posted) == 1


# --- ledger -----------------------------------------------------------------------------------------------------------


def test_the_ledger_is_read_from_the_last_line_on_with_an_overlap_by_the_venues_time() -> None:
    def settle(venue: Asked, _charged: Charged, second: float) -> None:
        if second == 400:
            venue.ledger = [Bill(0, 0, SETTLES_NS, "b1", BillKind.FUNDING, -7)]

    venue, posted = watch(-390, 1_000, settle)
    assert venue.times("bills") == pytest.approx([-390, -90, 210, 510])
    # From when the daemon began, a minute of overlap; then from the settlement on.
    assert venue.cursors == pytest.approx([-450, -450, -450, -60])
    assert [event.bill_id for event in posted if isinstance(event, Bill)] == ["b1", "b1"]
