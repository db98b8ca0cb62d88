"""Rows of docs/FAULTS.md about the market's data, put upon the whole daemon while it quotes and holds a position."""

from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.events import BookUpdate, Event, TradePrint
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import NS, GuardState
from mmdaemon.venues.simulated.faults import FaultKind
from tests.daemon.build import World, run_world
from tests.faults.build import agrees


def prices_since(world: World, mono_ns: int) -> list[int]:
    """Prices of what was sent from that moment on."""
    sent = [each.command for each in world.venue.sent if each.mono_ns >= mono_ns]
    return [command.px_ticks for command in sent if isinstance(command, Place | Amend)]


@pytest.mark.parametrize("kind", [FaultKind.BOOK_CROSSED, FaultKind.BOOK_ONE_SIDED])
def test_books_that_cannot_be_pause_the_quotes_and_none_is_made_from_them(path: Path, kind: FaultKind) -> None:
    """All that comes for forty seconds is crossed, or has one side alone."""

    async def script(world: World) -> None:
        await world.trade(5)
        mid = (world.state.book.bid_px + world.state.book.ask_px) / 2
        world.venue.inject(kind, 40)
        begun_ns = world.now_ns
        refused = sum(world.state.book.refused.values())
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, within_s=15)
        assert world.state.guard.active & BIT[Reason.BOOK]
        paused_ns = world.now_ns
        await world.until(lambda: not world.venue.resting(), within_s=2)
        while world.now_ns < begun_ns + 39 * NS:
            await world.sleep(1)
            assert world.guard is GuardState.SOFT_PAUSE
        assert sum(world.state.book.refused.values()) > refused + 10
        assert world.venue.increasing_since(paused_ns + 1) == []
        assert all(abs(px / mid - 1) < 0.05 for px in prices_since(world, begun_ns))
        await agrees(world)

    run_world(script, path)


def test_a_book_half_as_high_again_is_not_quoted_from_however_long_it_lasts(path: Path) -> None:
    """At first it is refused. Should it last, it is a book that agrees with itself, and the collar about mark refuses
    each order that comes of it; what rested before is gone within a few seconds."""

    async def script(world: World) -> None:
        await world.trade(5)
        mid = (world.state.book.bid_px + world.state.book.ask_px) / 2
        held = world.state.risk.equity_e10
        refused = sum(world.state.book.refused.values())
        begun_ns = world.now_ns
        world.venue.inject(FaultKind.BOOK_ABSURD, 180)
        await world.until(lambda: not world.venue.resting(), within_s=8)
        assert sum(world.state.book.refused.values()) > refused
        while world.now_ns < begun_ns + 179 * NS:
            await world.sleep(1)
            assert not world.venue.resting()
        assert all(abs(px / mid - 1) < 0.05 for px in prices_since(world, begun_ns))
        assert abs(world.state.risk.equity_e10 / held - 1) < 0.01  # it is valued at mark
        assert world.guard is not GuardState.HARD_STOP
        await agrees(world)

    run_world(script, path)


@pytest.mark.parametrize("ahead_s", [3_600.0, 86_400.0 * 400])
def test_market_data_from_the_future_is_refused_and_does_not_make_the_rest_old(path: Path, ahead_s: float) -> None:
    """Every twentieth book and print carries a time that has not come: it quotes on from the others."""

    async def script(world: World) -> None:
        await world.trade(5)
        deliver = world.venue._deliver
        assert deliver is not None
        count = spoilt = 0

        def ahead(event: Event) -> None:
            nonlocal count, spoilt
            if isinstance(event, BookUpdate | TradePrint) and event.venue_ts_ns is not None:
                count += 1
                if not count % 20:
                    spoilt += 1
                    event = msgspec.structs.replace(event, venue_ts_ns=event.venue_ts_ns + round(ahead_s * NS))
            deliver(event)

        refused = sum(world.state.book.refused.values())
        world.venue._deliver = ahead
        begun_ns = world.now_ns
        await world.sleep(60)
        assert spoilt > 10
        assert sum(world.state.book.refused.values()) >= refused + spoilt // 2
        transitions = [moved for at_ns, moved in world.daemon.transitions if at_ns > begun_ns]
        assert not [moved for moved in transitions if Reason.BOOK in moved.reasons]
        assert world.venue.increasing_since(begun_ns + 30 * NS)
        world.venue._deliver = deliver
        await agrees(world)

    run_world(script, path)


def test_all_of_the_market_from_the_future_is_no_market(path: Path) -> None:
    """The feed's clock is an hour ahead: nothing of it can be told from what is old, so nothing is quoted."""

    async def script(world: World) -> None:
        await world.trade(5)
        deliver = world.venue._deliver
        assert deliver is not None

        def ahead(event: Event) -> None:
            if isinstance(event, BookUpdate | TradePrint) and event.venue_ts_ns is not None:
                event = msgspec.structs.replace(event, venue_ts_ns=event.venue_ts_ns + 3_600 * NS)
            deliver(event)

        world.venue._deliver = ahead
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, within_s=15)
        paused_ns = world.now_ns
        await world.until(lambda: not world.venue.resting(), within_s=2)
        await world.sleep(30)
        assert world.guard is GuardState.SOFT_PAUSE
        assert world.venue.increasing_since(paused_ns + 1) == []
        world.venue._deliver = deliver
        await agrees(world)

    run_world(script, path)


def test_after_a_public_gap_nothing_is_quoted_before_a_whole_new_book(path: Path) -> None:
    """What was seen before it is no book, neither during the gap nor at the moment in which the link comes back."""

    async def script(world: World) -> None:
        await world.trade(5)
        world.venue.disconnect(6.0, ("public",))
        gone_ns = world.now_ns
        first: list[int] = []

        def look(event: Event) -> None:
            if isinstance(event, BookUpdate) and not first and world.now_ns > gone_ns + NS:
                first.append(world.now_ns)

        world.venue.on_deliver = look
        await world.until(lambda: first, within_s=30, every_s=0.001)
        assert first[0] - gone_ns >= 6 * NS
        assert not world.venue.resting()
        away = [each for each in world.venue.increasing_since(gone_ns + NS // 10) if each.mono_ns < first[0]]
        assert away == []
        await agrees(world)

    run_world(script, path)
