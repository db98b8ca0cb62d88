"""What became of each command, by what the venue answered, did not answer, or said on the stream."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from mmdaemon.clock import RealClock
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import RATE_LIMITED, Event, OrderUpdate, RequestFailed
from mmdaemon.core.types import NS, Instrument, OrderStatus, Purpose, Side
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Answer, Meaning, Refused, Request, Unanswered, Unsent
from mmdaemon.venues.bitget.streams import OrderPush
from mmdaemon.venues.bitget.unified import Unified
from mmdaemon.venues.outbox import PUSH_WITHIN_NS, Outbox

INSTRUMENT = Instrument.of(venue="bitget", symbol="BTCUSDT", tick_e10=10**9, lot_e10=10**6)
OK = Answer(msgspec.Raw(b"{}"), 1)


class Wire:
    """Every request as it went out, answered when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Request, asyncio.Future[Answer]]] = []

    async def ask(self, request: Request) -> Answer:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.asked.append((request, answer))
        return await answer

    def answer(self, with_: Answer | Exception, number: int = -1) -> None:
        future = self.asked[number][1]
        if isinstance(with_, Answer):
            future.set_result(with_)
        else:
            future.set_exception(with_)


class Desk:
    def __init__(self) -> None:
        self.wire = Wire()
        self.told: list[Event] = []
        self.clock = ShiftedClock(asyncio.get_running_loop())
        self.outbox = Outbox(Unified(INSTRUMENT), self.wire, self.clock, self.told.append)

    async def settle(self) -> list[Event]:
        for _ in range(5):
            await asyncio.sleep(0)
        return self.told

    async def became(self, with_: Answer | Exception) -> OrderUpdate | RequestFailed | None:
        """The one outcome of what was sent last, or None."""
        await self.settle()
        self.wire.answer(with_)
        told = await self.settle()
        if not told:
            return None
        (first,) = told
        assert isinstance(first, OrderUpdate | RequestFailed)
        return first


class ShiftedClock(RealClock):
    later_ns = 0

    def mono_ns(self) -> int:
        return RealClock.mono_ns() + self.later_ns


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    yield made
    await made.outbox.close()


def place(number: int = 1, *, reduce_only: bool = False) -> Place:
    return Place(f"mmtest-1-{number}", Side.BUY, 600_000, 10, Purpose.QUOTE, 0, post_only=True, reduce_only=reduce_only)


def push(status: OrderStatus, px: int = 600_000, qty: int = 10, cum: int = 0, number: int = 1) -> OrderPush:
    return OrderPush(5, 6, 7, f"mmtest-1-{number}", "99", Side.BUY, status, cum, px, qty, "")


CERTAIN = (Meaning.REFUSED, Meaning.MARGIN, Meaning.AUTH, Meaning.CLOCK, Meaning.WRONG_API, Meaning.MAINTENANCE)
UNCERTAIN = (Meaning.UNKNOWN, Meaning.NOT_FOUND, Meaning.NOTHING_TO_CANCEL)


async def test_an_order_that_was_taken_is_live_and_its_fills_are_not_known(desk: Desk) -> None:
    desk.outbox.send(place())
    told = await desk.became(OK)
    assert isinstance(told, OrderUpdate)
    assert (told.status, told.cum_filled_lots, told.revision) == (OrderStatus.LIVE, None, 0)


@pytest.mark.parametrize("meaning", CERTAIN)
async def test_a_certain_refusal_rejects(desk: Desk, meaning: Meaning) -> None:
    desk.outbox.send(place())
    told = await desk.became(Refused(meaning, "40000"))
    assert isinstance(told, OrderUpdate)
    assert (told.status, told.cum_filled_lots) == (OrderStatus.REJECTED, 0)


@pytest.mark.parametrize(
    "error", [Unanswered("timeout"), Unanswered("http_502"), *(Refused(each, "40725") for each in UNCERTAIN)], ids=str
)
@pytest.mark.parametrize("what", ["place", "amend", "cancel"])
async def test_what_may_have_happened_is_unknown(desk: Desk, error: Exception, what: str) -> None:
    commands = {"place": place(), "amend": Amend("mmtest-1-1", 1, 600_001, 10), "cancel": Cancel("mmtest-1-1", False)}
    desk.outbox.send(commands[what])
    told = await desk.became(error)
    if isinstance(error, Refused) and error.meaning is not Meaning.UNKNOWN and what != "place":
        assert isinstance(told, RequestFailed)  # "no such order" is an answer to who asks for one
        return
    assert isinstance(told, OrderUpdate)
    assert (told.status, told.cum_filled_lots) == (OrderStatus.UNKNOWN, None)


async def test_too_many_requests_is_said_in_the_core_s_own_word(desk: Desk) -> None:
    desk.outbox.send(place())
    told = await desk.became(Refused(Meaning.RATE_LIMIT, "429"))
    assert isinstance(told, OrderUpdate)
    assert (told.status, told.reason) == (OrderStatus.REJECTED, RATE_LIMITED)


async def test_what_never_left_is_certain(desk: Desk) -> None:
    desk.outbox.send(place())
    told = await desk.became(Unsent("budget"))
    assert isinstance(told, OrderUpdate)
    assert (told.status, told.cum_filled_lots, told.reason) == (OrderStatus.REJECTED, 0, "unsent:budget")


@pytest.mark.parametrize("command", [Cancel("mmtest-1-1", risk=True), Amend("mmtest-1-1", 3, 600_001, 10)])
async def test_an_acknowledged_change_says_nothing_yet(desk: Desk, command: Cancel | Amend) -> None:
    desk.outbox.send(command)
    assert await desk.became(OK) is None


async def test_a_refused_amend_is_told_with_its_revision_and_is_forgotten(desk: Desk) -> None:
    desk.outbox.send(Amend("mmtest-1-1", 3, 600_001, 10))
    told = await desk.became(Refused(Meaning.REFUSED, "25236"))
    assert isinstance(told, RequestFailed)
    assert (told.request, told.revision) == ("amend", 3)
    assert desk.outbox.on_push(push(OrderStatus.LIVE, px=600_001)).revision is None


async def test_the_push_says_which_amend_took(desk: Desk) -> None:
    desk.outbox.send(Amend("mmtest-1-1", 1, 600_001, 10))
    desk.outbox.send(Amend("mmtest-1-1", 2, 600_002, 10))
    await desk.settle()
    assert desk.outbox.on_push(push(OrderStatus.LIVE)).revision is None, "the old price proves neither"
    assert desk.outbox.on_push(push(OrderStatus.LIVE, px=600_002)).revision == 2
    told = desk.outbox.on_push(push(OrderStatus.PARTIAL, px=600_001, cum=4))
    assert told.revision is None, "an older one that comes late is not in force any more"
    assert (told.cum_filled_lots, told.mono_ns, told.venue_ts_ns) == (4, 5, 7)


async def test_orders_of_one_turn_go_as_one_batch_and_each_has_its_own_outcome(desk: Desk) -> None:
    for number in (1, 2, 3):
        desk.outbox.send(place(number))
    desk.outbox.send(place(4, reduce_only=True))
    await desk.settle()
    paths = [request.endpoint for request, _ in desk.wire.asked]
    assert paths == [endpoints.UNIFIED_PLACE_BATCH, endpoints.UNIFIED_PLACE]
    rows = [
        {"orderId": "1", "clientOid": "mmtest-1-1", "code": "00000", "msg": "Success"},
        {"orderId": "", "clientOid": "mmtest-1-2", "code": "25202", "msg": "Insufficient balance"},
    ]
    desk.wire.answer(Answer(msgspec.Raw(msgspec.json.encode(rows)), 1), 0)
    told = {each.client_id: each for each in await desk.settle() if isinstance(each, OrderUpdate)}
    assert {name: each.status for name, each in told.items()} == {
        "mmtest-1-1": OrderStatus.LIVE,
        "mmtest-1-2": OrderStatus.REJECTED,
        "mmtest-1-3": OrderStatus.UNKNOWN,  # named nowhere: nobody knows what became of it
    }


async def test_a_cancel_before_it_left_takes_it_back(desk: Desk) -> None:
    desk.outbox.send(place())
    desk.outbox.send(Cancel("mmtest-1-1", risk=True))
    told = await desk.settle()
    assert desk.wire.asked == []
    assert [(each.status, each.cum_filled_lots) for each in told if isinstance(each, OrderUpdate)] == [
        (OrderStatus.CANCELLED, 0)
    ]


async def test_a_kill_goes_before_what_has_not_left(desk: Desk) -> None:
    desk.outbox.send(place(1))
    desk.outbox.send(place(2))
    desk.outbox.withdraw_all()
    told = await desk.settle()
    assert desk.wire.asked == []
    assert len(told) == 2


async def test_an_order_that_the_stream_is_silent_about_makes_the_stream_doubtful(desk: Desk) -> None:
    async def taken(number: int) -> None:
        desk.outbox.send(place(number))
        await desk.settle()
        desk.wire.answer(OK)
        await desk.settle()

    def later() -> bool:
        desk.clock.later_ns += PUSH_WITHIN_NS + NS
        return desk.outbox.is_push_overdue()

    silence: Callable[[], bool] = later
    await taken(1)
    assert not desk.outbox.is_push_overdue()
    assert silence()
    assert not silence(), "each is told once"
    await taken(2)
    desk.outbox.on_push(push(OrderStatus.LIVE, number=2))
    assert not silence()
    desk.outbox.on_push(push(OrderStatus.LIVE, number=3))
    await taken(3)
    assert not silence(), "the push may come before the answer"
    await taken(4)
    desk.outbox.link_lost()
    assert not silence(), "what a lost stream would have said is not waited for"
