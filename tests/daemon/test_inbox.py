"""The inbox: arrival is the order of truth, books alone are conflated, and whoever waits is woken."""

import asyncio
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core.events import BookUpdate, Event, MarkPrice, TimerFired, TradePrint
from mmdaemon.core.types import NS, GuardState, Side
from mmdaemon.daemon.inbox import Inbox
from tests.daemon.build import World, run_world


def book(number: int) -> BookUpdate:
    return BookUpdate(number, 0, None, ((100, 1),), ((101, 1),))


def trade(number: int) -> TradePrint:
    return TradePrint(number, 0, None, 100, 1, Side.BUY)


def mark(number: int) -> MarkPrice:
    return MarkPrice(number, 0, None, 100)


def drain(inbox: Inbox) -> list[Event]:
    taken: list[Event] = []
    while (event := inbox.take()) is not None:
        taken.append(event)
    return taken


def test_order_of_arrival() -> None:
    inbox = Inbox()
    events = [trade(1), mark(2), trade(3)]
    for event in events:
        inbox.post(event)
    assert len(inbox) == 3
    assert drain(inbox) == events
    assert inbox.take() is None


def test_only_neighbouring_books_are_conflated_to_the_last() -> None:
    inbox = Inbox()
    for event in (book(1), book(2), trade(3), book(4), book(5), book(6), mark(7)):
        inbox.post(event)
    assert drain(inbox) == [book(2), trade(3), book(6), mark(7)]
    assert inbox.conflated == 3


@given(st.lists(st.tuples(st.sampled_from((book, trade, mark)), st.booleans()), max_size=40))
def test_nothing_but_a_stale_book_is_ever_lost(steps) -> None:
    """Whatever is posted and taken in whatever turn: all else arrives, in order; of books in a row the last one does,
    and the counter says how many did not."""
    inbox = Inbox()
    posted: list[Event] = []
    taken: list[Event] = []
    for number, (make, takes) in enumerate(steps):
        posted.append(make(number))
        inbox.post(posted[-1])
        if takes and (event := inbox.take()) is not None:
            taken.append(event)
    taken += drain(inbox)
    lost = [event for event in posted if event not in taken]
    assert [event for event in posted if event in taken] == taken
    assert len(lost) == inbox.conflated
    for event in lost:
        after = posted[posted.index(event) + 1]
        assert isinstance(event, BookUpdate)
        assert isinstance(after, BookUpdate)


async def test_wait_returns_when_there_is_an_event() -> None:
    inbox = Inbox()
    waiting = inbox.arrival()
    await asyncio.sleep(0)
    assert not waiting.done()
    inbox.post(trade(1))
    inbox.post(trade(2))  # the reader was woken already
    await waiting
    await inbox.arrival()  # and there is something left, so it does not wait again
    assert len(inbox) == 2


async def test_a_reader_that_was_cancelled_leaves_nothing_behind() -> None:
    inbox = Inbox()
    waiting = inbox.arrival()
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    inbox.post(trade(1))
    await inbox.arrival()
    assert drain(inbox) == [trade(1)]


async def test_settled_returns_once_all_was_dealt_with() -> None:
    inbox = Inbox()
    dealt: list[Event] = []

    async def read() -> None:
        while True:
            await inbox.arrival()
            while (event := inbox.take()) is not None:
                dealt.append(event)  # before anything is awaited, as the quoting controller does
            await asyncio.sleep(0)

    reader = asyncio.create_task(read())
    await inbox.settled()  # empty: at once
    for number in range(5):
        inbox.post(trade(number))
    settled = [asyncio.create_task(inbox.settled()) for _ in range(3)]
    await asyncio.gather(*settled)
    assert len(dealt) == 5
    reader.cancel()
    await asyncio.gather(reader, return_exceptions=True)


def test_how_far_behind_the_reader_is() -> None:
    inbox = Inbox()
    assert inbox.behind_ns(100) == 0
    inbox.post(TimerFired(40, 40, None, "a"))
    inbox.post(TimerFired(90, 90, None, "b"))
    assert inbox.behind_ns(100) == 60
    inbox.take()
    assert inbox.behind_ns(100) == 10


def test_a_core_that_is_behind_pauses_though_the_loop_is_on_time(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        world.daemon.inbox.behind_ns = lambda now_ns: NS
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE, 5)
        assert "loop_lag" in world.parts.status().reasons

    run_world(script, path)
