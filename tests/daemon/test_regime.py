"""What the regime detector's coroutine asks the venue for, and what of it the core makes."""

import asyncio
from typing import Any, cast

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core import bars as bar_rules
from mmdaemon.core.bars import BARS_KEPT, MINUTE_NS, Bars
from mmdaemon.core.events import BarClosed, Event
from mmdaemon.core.types import NS
from mmdaemon.daemon import regime
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.venues.base import Venue, VenueUnavailable

START_NS = 1_790_000_000 // 60 * MINUTE_NS + 10 * NS
HISTORY = 2_000
"""Minutes that the venue knows of before the start."""


class Candles:
    """A venue that knows a bar of each minute, down during `down_s` of our time and empty until `empty_s`."""

    def __init__(self, clock: VirtualClock, down_s: tuple[float, float], empty_s: float) -> None:
        self.clock = clock
        self.down_s = down_s
        self.empty_s = empty_s
        self.asked: list[tuple[int, int]] = []
        """(when, in s after the start; how many)"""

    async def candles(self, n: int) -> list[BarClosed]:
        wall_ns = self.clock.wall_ns()
        at_s = (wall_ns - START_NS) // NS
        self.asked.append((at_s, n))
        if self.down_s[0] <= at_s < self.down_s[1]:
            raise VenueUnavailable("down")
        if at_s < self.empty_s:
            return []
        newest_ns = wall_ns // MINUTE_NS * MINUTE_NS - MINUTE_NS
        opens = [newest_ns - i * MINUTE_NS for i in range(min(n, HISTORY))]
        return [
            BarClosed(self.clock.mono_ns(), wall_ns, None, at, 1_000, 1_001, 999, 1_000, 1, "venue")
            for at in reversed(opens)
        ]


def followed(minutes: float, *, down_s: tuple[float, float] = (0, 0), empty_s: float = 0) -> tuple[Candles, Bars]:
    """The coroutine run for so long from ten seconds past a minute, with mids four times a minute beside it."""
    bars = Bars()

    def post(event: Event) -> None:
        assert isinstance(event, BarClosed)
        bar_rules.on_bar(bars, event)

    async def main(clock: VirtualClock) -> Candles:
        venue = Candles(clock, down_s, empty_s)
        task = asyncio.create_task(regime.run(cast(Venue, cast(Any, venue)), clock, post))
        for _ in range(round(4 * minutes)):
            bar_rules.on_mid(bars, 2_000, clock.wall_ns())
            await sleep_ns(clock, 15 * NS)
        task.cancel()
        return venue

    return run_virtual(main, start_wall_ns=START_NS), bars


def sources(bars: Bars, last: int) -> list[str]:
    return [bar.source for bar in bars.bars[-last:]]


def test_warms_up_and_then_asks_for_the_newest_two_seconds_after_each_close() -> None:
    venue, bars = followed(3.5)
    assert venue.asked == [(0, BARS_KEPT), (52, 3), (112, 3), (172, 3)]
    assert (len(bars.bars), bars.source) == (BARS_KEPT, "venue")
    assert bars.atr14_bps is not None


def test_a_warm_up_that_was_late_is_a_warm_up_all_the_same() -> None:
    venue, bars = followed(8, down_s=(0, 301))
    assert [n for at_s, n in venue.asked if at_s <= 305] == [BARS_KEPT] * 62  # every five seconds
    assert len(bars.bars) == BARS_KEPT
    assert set(sources(bars, BARS_KEPT - 1)) == {"venue"}


def test_while_the_venue_does_not_answer_the_bars_are_from_mids_and_afterwards_all_are_its_own() -> None:
    _, during = followed(25, down_s=(600, 3_600))
    assert during.source == "mids"
    assert sources(during, 10) == ["mids"] * 10
    venue, after = followed(33, down_s=(600, 1_800))
    assert max(n for at_s, n in venue.asked if at_s >= 1_800) == 22
    assert after.source == "venue"
    assert set(sources(after, BARS_KEPT - 1)) == {"venue"}


def test_an_empty_answer_is_no_warm_up() -> None:
    venue, bars = followed(8, empty_s=200)
    assert [n for at_s, n in venue.asked if at_s < 240] == [BARS_KEPT] * 5
    assert len(bars.bars) == BARS_KEPT
