"""What stands around a daemon: a venue that outlives its clients, a line and a disk that can be cut."""

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import pytest

from mmdaemon.clock import Timer, VirtualClock, run_virtual
from mmdaemon.core.commands import Place
from mmdaemon.core.events import BookUpdate, Event, Fill, LinkChanged, OrderUpdate
from mmdaemon.core.types import NS, Purpose, Side
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.journal.connection import JournalFailed
from mmdaemon.research.simulation.edges import Disk, Line
from mmdaemon.venues.simulated.faults import FaultKind, FaultPlan, FaultRates
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.venue import SimulatedVenue

START_NS = 1_767_225_600 * NS + 3_600 * NS


def far_buy(client_id: str = "mmx-1-1") -> Place:
    return Place(client_id, Side.BUY, 590_000, 100, Purpose.QUOTE, 0, post_only=True, reduce_only=False)


def play(script: Callable[[SimulatedVenue, VirtualClock], Awaitable[None]]) -> None:
    async def main(clock: VirtualClock) -> None:
        venue = SimulatedVenue(SyntheticMarket(7, START_NS), clock)
        await script(venue, clock)
        await venue.close()

    run_virtual(main, start_wall_ns=START_NS)


def test_a_client_that_ends_un_sends_nothing_and_the_next_hears_none_of_its_answers() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        first: list[Event] = []
        second: list[Event] = []
        line = Line(venue, lambda _command: None)
        await line.open(first.append)
        await sleep_ns(clock, NS)
        await line.send(far_buy())
        line.cut()
        heard = len(first)
        assert venue.truth().received == []
        await venue.open(second.append)
        await sleep_ns(clock, 10 * NS)
        assert [command for _, command in venue.truth().received] == [far_buy()]
        assert [order.client_id for order in venue.exchange.matching.live] == ["mmx-1-1"]
        assert len(first) == heard
        assert not any(isinstance(event, OrderUpdate) for event in second)
        assert [e.link for e in second if isinstance(e, LinkChanged) and e.up] == ["private", "public"]

    play(script)


def test_the_time_out_of_a_client_that_ended_is_nobodys() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        second: list[Event] = []
        await venue.open(lambda _event: None)
        venue.inject(FaultKind.REQUEST_LOST)
        await venue.send(far_buy())
        venue.hang_up()
        await venue.open(second.append)
        await sleep_ns(clock, 30 * NS)
        assert not any(isinstance(event, OrderUpdate) for event in second)

    play(script)


def test_a_cancel_all_whose_sender_ends_still_arrives() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        await venue.open(lambda _event: None)
        await venue.send(far_buy())
        await sleep_ns(clock, NS)
        asking = asyncio.create_task(venue.cancel_all())
        await sleep_ns(clock, NS // 100)
        asking.cancel()
        await sleep_ns(clock, NS)
        assert asking.cancelled()
        assert list(venue.exchange.matching.live) == []

    play(script)


def test_a_cut_line_sends_nothing() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        sent: list[object] = []
        line = Line(venue, sent.append)
        await line.open(lambda _event: None)
        line.cut()
        for call in (line.send(far_buy()), line.cancel_all(), line.open_orders()):
            with pytest.raises(asyncio.CancelledError):
                await call
        await sleep_ns(clock, NS)
        assert (sent, venue.truth().received) == ([], [])

    play(script)


@pytest.mark.parametrize(
    ("kind", "seconds", "times"),
    [(FaultKind.STREAM_LOST, 0.0, 0), (FaultKind.STREAM_AGAIN, 5.0, 2), (FaultKind.STREAM_LATE, 5.0, 1)],
)
def test_messages_of_the_private_stream(kind: FaultKind, seconds: float, times: int) -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        seen: list[Event] = []
        await venue.open(seen.append)
        await sleep_ns(clock, NS)
        for _ in range(3):  # a trade is three messages: the order, the fill, and what it did to the order
            venue.inject(kind, seconds)
        venue.manual_trade(Side.BUY, 5)
        begun = clock.mono_ns()
        await sleep_ns(clock, 20 * NS)
        fills = [event for event in seen if isinstance(event, Fill)]
        assert len(fills) == times
        if times:
            assert (fills[-1].mono_ns - begun > 4 * NS) is (seconds > 0)

    play(script)


@pytest.mark.parametrize("kind", [FaultKind.BOOK_CROSSED, FaultKind.BOOK_ONE_SIDED, FaultKind.BOOK_ABSURD])
def test_books_that_are_wrong_for_a_while(kind: FaultKind) -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        books: list[BookUpdate] = []
        await venue.open(lambda event: books.append(event) if isinstance(event, BookUpdate) else None)
        await sleep_ns(clock, 5 * NS)
        venue.inject(kind, 5.0)
        begun = clock.mono_ns()
        await sleep_ns(clock, 10 * NS)

        def is_wrong(book: BookUpdate) -> bool:
            return not book.asks or book.bids[0][0] > book.asks[0][0] or book.bids[0][0] > 800_000

        wrong = [begun < book.mono_ns <= begun + 5 * NS for book in books]
        assert [is_wrong(book) for book in books] == wrong
        assert True in wrong
        assert wrong[-1] is False

    play(script)


def test_a_disk_that_fails_is_written_again_afterwards(tmp_path: Path) -> None:
    async def script(_venue: SimulatedVenue, clock: VirtualClock) -> None:
        failures: list[bool] = []
        (tmp_path / "journal.sqlite").touch()
        disk = Disk(tmp_path / "journal.sqlite", clock, 7, lambda: None)
        disk.on_failure = lambda: failures.append(True)
        await disk.open()
        disk.fails_until_ns = clock.mono_ns() + NS
        with pytest.raises(JournalFailed, match="disk full"):
            await disk.commit([])
        await sleep_ns(clock, NS)
        disk.slow(NS)
        begun = clock.mono_ns()
        await disk.commit([])
        assert NS // 2 <= clock.mono_ns() - begun < 3 * NS // 2
        assert failures == [True]
        disk.crash()

    play(script)


def test_what_is_cancelled_before_its_callback_does_not_run() -> None:
    """Seed 109: a crash between two callbacks cancels the timer whose turn it was."""
    ran: list[str] = []
    waiting: list[tuple[VirtualClock, Timer]] = []

    def on_step(_ordinal: int) -> None:
        for clock, timer in waiting:
            if clock.mono_ns() >= 2 * NS:
                timer.cancel()

    async def main(clock: VirtualClock) -> None:
        waiting.append((clock, clock.call_at(2 * NS, ran.append, "late")))
        await sleep_ns(clock, 3 * NS)

    run_virtual(main, start_wall_ns=START_NS, on_step=on_step)
    assert ran == []


def test_two_clients_of_one_account_see_each_others_fills_and_only_their_own_answers() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        first: list[Event] = []
        second: list[Event] = []
        await venue.open(first.append)
        other = venue.another_client(FaultPlan(7, FaultRates()))
        await other.open(second.append)
        await sleep_ns(clock, NS)
        await other.send(far_buy())
        venue.manual_trade(Side.BUY, 5)
        await sleep_ns(clock, NS)
        fills = [[event.trade_id for event in heard if isinstance(event, Fill)] for heard in (first, second)]
        assert fills[0] == fills[1] == ["st1"]
        own = [
            [e for e in heard if isinstance(e, OrderUpdate) and e.client_id == "mmx-1-1"] for heard in (first, second)
        ]
        assert [len(each) for each in own] == [0, 1]
        assert [len(await each.open_orders()) for each in (venue, other)] == [1, 1]
        assert sum(isinstance(event, BookUpdate) for event in second) > 3
        other.hang_up()
        venue.forget(other)
        told = len(second)
        venue.inject(FaultKind.REST_DOWN, 60.0)
        await sleep_ns(clock, 5 * NS)
        assert len(second) == told

    play(script)


@pytest.mark.parametrize(("taker", "charged"), [("0", 0), ("0.0006", 1)])
def test_another_fee_tier_holds_from_the_next_fill_on_and_is_told_to_who_asks(taker: str, charged: int) -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        await venue.open(lambda _event: None)
        await sleep_ns(clock, NS)
        venue.change_fees(Decimal("0.0001"), Decimal(taker))
        venue.manual_trade(Side.BUY, 5)
        (fill,) = venue.truth().fills
        assert (fill.fee_e10 > 0) is (charged > 0)
        assert (await venue.fees()).taker_rate == float(taker)

    play(script)


def test_what_is_refused_at_the_door_may_change_and_change_back() -> None:
    async def script(venue: SimulatedVenue, clock: VirtualClock) -> None:
        heard: list[Event] = []
        await venue.open(heard.append)
        await sleep_ns(clock, NS)
        usual = venue.exchange.refusal
        venue.exchange.refusal = lambda *_order: "suspended"
        await venue.send(far_buy("mmx-1-1"))
        await sleep_ns(clock, NS)
        venue.exchange.refusal = usual
        await venue.send(far_buy("mmx-1-2"))
        await sleep_ns(clock, NS)
        told = {event.client_id: event.reason for event in heard if isinstance(event, OrderUpdate)}
        assert told == {"mmx-1-1": "suspended", "mmx-1-2": ""}
        venue.delist()
        assert list(venue.exchange.matching.live) == []

    play(script)
