"""The venue behind a socket is the venue: the same answers, the same outcomes; and what a lost connection means."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import BookUpdate, Event, Fill, LinkChanged, OrderUpdate, RequestFailed, TradePrint
from mmdaemon.core.types import Link, OrderStatus, Side
from mmdaemon.venues import messages, remote
from mmdaemon.venues.base import Absent, Cursor, OrderReport, PositionStop, Venue, VenueUnavailable
from mmdaemon.venues.messages import Answered, Ask, Beat, Failed, Hello, Refused, Send, Subscribe, Told, Welcome
from mmdaemon.venues.outcomes import is_outcome_of
from mmdaemon.venues.simulated.matching import FillModel
from tests.venues.served import Client, Site, acting, cancel, connected, framed, place, served, until
from tests.venues.simulated.test_venue import INSTRUMENT

WELCOME = Welcome(messages.VERSION, "simulated", "a1", INSTRUMENT, True, {"market": "none"})
UP = Told(LinkChanged(0, 0, None, Link.PRIVATE, True))
EVERYTHING = Cursor(0)


def unstamped(answer: Any) -> Any:
    """Without when it was received: that is the receiver's."""
    if isinstance(answer, list):
        return [unstamped(each) for each in answer]
    if not hasattr(answer, "mono_ns"):
        return answer
    return msgspec.structs.replace(answer, mono_ns=0, ts_ns=0)


# --- the same venue ---------------------------------------------------------------------------------------------------


async def test_every_read_says_what_the_venue_itself_says(tmp_path: Path) -> None:
    async with served(tmp_path, has_dead_man=True, burst=100) as site, connected(site.path) as client:
        far: Venue = client.venue
        near: Venue = site.venue
        await far.send(place("rests"))
        await far.send(place("fills", px=996))
        await client.until_filled("fills")
        site.venue.transfer(7)
        assert await far.instrument() == await near.instrument() == INSTRUMENT
        assert (far.name, far.can_amend, far.in_flight_floor_s) == (near.name, near.can_amend, near.in_flight_floor_s)
        assert far.provenance.items() >= {**near.provenance, "venue": "a process of its own, account a1"}.items()
        for read in (
            lambda venue: venue.order("rests"),
            lambda venue: venue.order("fills"),
            lambda venue: venue.order("nobody"),
            lambda venue: venue.open_orders(),
            lambda venue: venue.fills(EVERYTHING),
            lambda venue: venue.fills(Cursor(1 << 62)),
            lambda venue: venue.bills(EVERYTHING),
            lambda venue: venue.candles(5),
            lambda venue: venue.dead_man(60),
        ):
            assert unstamped(await read(far)) == unstamped(await read(near))
        for dated in (
            lambda venue: venue.snapshot(),
            lambda venue: venue.fees(),
            lambda venue: venue.funding(),
            lambda venue: venue.mark(),
        ):
            ours, theirs = await dated(far), await dated(near)
            assert unstamped(msgspec.structs.replace(ours, venue_ts_ns=theirs.venue_ts_ns)) == unstamped(theirs)
        facts, known = await far.facts(), await near.facts()
        assert msgspec.structs.replace(facts, clock_offset_s=0.0) == msgspec.structs.replace(known, clock_offset_s=0.0)
        assert await far.order("nobody") == Absent("nobody")
        assert len(await far.fills(EVERYTHING)) == len(await far.bills(EVERYTHING)) == 1


async def test_the_life_of_orders_is_told_once_a_word(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as client:
        venue = client.venue
        await venue.send(place("a"))
        await client.until_told("a", "live")
        await venue.send(Amend("a", 1, 991, 4))
        await until(lambda: len(client.told("a")) == 2)
        await venue.send(Amend("a", 2, 0, 4))
        await client.until_told("a", "amend:off_tick")
        await venue.send(cancel("a"))
        await client.until_told("a", "cancelled")
        await venue.send(cancel("a"))
        await client.until_told("a", "cancel:cancelled")
        await venue.send(place("a"))
        await client.until_told("a", "rejected")
        assert client.told("a") == ["live", "live", "amend:off_tick", "cancelled", "cancel:cancelled", "rejected"]
        amended = client.of(OrderUpdate)[1]
        assert (amended.px_ticks, amended.qty_lots, amended.revision) == (991, 4, 1)
        await asyncio.sleep(0.05)
        assert venue._sent == {}
        assert await venue.order("a") == await site.venue.order("a")


async def test_cancel_all_and_a_stop_reach_the_venue(tmp_path: Path) -> None:
    async with served(tmp_path, fills=FillModel.THROUGH) as site, connected(site.path) as client:
        venue = client.venue
        for name in ("a", "b"):
            await venue.send(place(name))
            await client.until_told(name, "live")
        await venue.cancel_all()
        assert await venue.open_orders() == []
        await client.until_told("b", "cancelled")
        site.venue.manual_trade(place("x").side, 3)
        await venue.protect(PositionStop(998))
        assert site.venue._exchange.stop_keeper.is_hit(997)
        await venue.protect(None)
        assert not site.venue._exchange.stop_keeper.is_hit(997)
        assert not await venue.dead_man(5)


async def test_events_are_stamped_on_receipt_and_keep_the_venues_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as site:
        client = Client(site.path, site.clock)
        ahead_ns = 10**15
        monkeypatch.setattr(
            client.venue, "_clock", Ahead(site.clock, ahead_ns)
        )  # another machine's clocks could be anywhere
        await client.venue.open(client.seen.append)
        await client.venue.send(place("fills", px=996))
        fill = await client.until_filled("fills")
        await until(lambda: client.of(TradePrint) and client.of(BookUpdate))
        for event in (fill, client.of(TradePrint)[-1], client.of(BookUpdate)[-1], (await client.venue.mark())):
            assert event.mono_ns > ahead_ns
            assert event.ts_ns > ahead_ns
            assert event.venue_ts_ns is not None
            assert abs(event.venue_ts_ns - site.clock.wall_ns()) < ahead_ns / 2
        (read,) = await client.venue.fills(EVERYTHING)
        assert read.mono_ns > fill.mono_ns
        assert read.venue_ts_ns == fill.venue_ts_ns
        await client.venue.close()


class Ahead:
    """Clocks that show another time, and timers that come when they should."""

    def __init__(self, clock: Any, by_ns: int) -> None:
        self._clock, self._by_ns = clock, by_ns

    def mono_ns(self) -> int:
        return self._clock.mono_ns() + self._by_ns

    def wall_ns(self) -> int:
        return self._clock.wall_ns() + self._by_ns

    def call_at(self, mono_ns: int, *rest: Any) -> Any:
        return self._clock.call_at(mono_ns - self._by_ns, *rest)


# --- connections ------------------------------------------------------------------------------------------------------


async def test_what_happens_in_a_gap_is_not_told_and_is_there_to_be_read(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as client:
        await client.venue.send(place("rests"))
        await client.until_told("rests", "live")
        assert site.server._client is not None
        site.server._client.cut("the test says so")
        await until(lambda: ("private", False) in client.links())
        site.venue.manual_trade(place("x").side, 3)
        await client.until_up(2)
        assert client.links()[-4:] == [("public", False), ("private", False), ("public", True), ("private", True)]
        await asyncio.sleep(0.1)
        assert client.of(Fill) == []
        (fill,) = await client.venue.fills(EVERYTHING)
        assert fill.qty_lots == 3
        assert [report.client_id for report in await client.venue.open_orders()] == ["rests"]


async def test_what_was_not_answered_when_the_connection_went_is_unknown_or_unavailable(tmp_path: Path) -> None:
    async with acting(tmp_path / "s", WELCOME, UP) as heard, connected(tmp_path / "s", 20.0) as client:
        for command in (place("a"), place("b"), cancel("c")):
            await client.venue.send(command)
        reading = asyncio.ensure_future(client.venue.open_orders())
        await until(lambda: any(isinstance(each, Ask) for each in heard))
        assert [each.command for each in heard if isinstance(each, Send)] == [place("a"), place("b"), cancel("c")]
        assert client.venue._writer is not None
        client.venue._writer.transport.abort()
        with pytest.raises(VenueUnavailable, match="closed the connection"):
            await reading
        for name in ("a", "b", "c"):
            await client.until_told(name, "unknown")
        assert {(e.status, e.reason, e.cum_filled_lots) for e in client.of(OrderUpdate)} == {
            (OrderStatus.UNKNOWN, "disconnected", None)
        }
        assert len(client.of(OrderUpdate)) == 3


async def test_a_command_without_a_connection_is_unknown_and_never_told_from_within_send(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as client:
        await site.server.close()
        await until(lambda: ("private", False) in client.links())
        before = len(client.seen)
        await client.venue.send(place("a"))
        assert len(client.seen) == before
        await client.until_told("a", "unknown")
        with pytest.raises(VenueUnavailable, match=r"mark: .*venue\.sock"):
            await client.venue.mark()


async def test_silence_is_unknown_after_the_time_out_and_a_late_answer_is_still_told(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with acting(path, WELCOME, UP) as heard, connected(path, 0.1) as client:
        await client.venue.send(place("a"))
        await client.until_told("a", "unknown")
        assert client.of(OrderUpdate)[0].reason == "timeout"
        with pytest.raises(VenueUnavailable, match=r"snapshot: no answer within 0\.1 s"):
            await client.venue.snapshot()
        assert [type(each) for each in heard if not isinstance(each, Beat)] == [Hello, Subscribe, Send, Ask]
        client.venue._told(OrderUpdate(0, 0, None, "a", OrderStatus.LIVE, 0, 990, 5, 0, ""))
        assert client.told("a") == ["unknown", "live"]
        assert ("private", False) not in client.links()


async def test_a_venue_that_cannot_answer_says_why(tmp_path: Path) -> None:
    path = tmp_path / "s"
    wrong = Answered(2, msgspec.Raw(messages.encode("no list")))
    report = messages.encode([OrderReport("mmabcd", Side.BUY, 1, 1, 0, OrderStatus.LIVE, False)])
    no_text = Answered(3, msgspec.Raw(report.replace(b"mmabcd", b"mm\xff\xfecd")))
    async with acting(path, WELCOME, UP) as _, connected(path) as client:
        asked = [asyncio.ensure_future(client.venue.open_orders()) for _ in range(3)]
        await asyncio.sleep(0)
        for answer in (Failed(1, "over the rate limit"), wrong, no_text, Failed(99, "nobody asked")):
            hear(client, answer)
        with pytest.raises(VenueUnavailable, match="over the rate limit"):
            await asked[0]
        for unread in asked[1:]:
            with pytest.raises(VenueUnavailable, match="cannot read"):
                await unread


def hear(client: Client, answer: Answered | Failed) -> None:
    """As `_listen` does."""
    waiting = client.venue._asked.get(answer.number)
    if waiting is not None and isinstance(answer, Answered):
        waiting.set_result(bytes(answer.result))
    elif waiting is not None and isinstance(answer, Failed):
        waiting.set_exception(VenueUnavailable(answer.why))


async def test_nobody_there_is_unavailable_with_words_until_somebody_is(tmp_path: Path) -> None:
    site = Site(tmp_path)
    client = Client(site.path, site.clock, 0.2)
    with pytest.raises(VenueUnavailable, match=r"nobody listens at .*mmdaemon venue --listen"):
        await client.venue.instrument()
    await site.start()
    try:
        await until(client.venue._is_up.is_set)
        assert await client.venue.instrument() == INSTRUMENT
    finally:
        await client.venue.close()
        await site.server.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Refused("process 7 is connected"), "refused: process 7 is connected"),
        (msgspec.structs.replace(WELCOME, version=99), "no venue of this version"),
        (UP, "no venue of this version"),
        (b"\x00\x00\x00\x05hello", "no venue of this version"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no venue of this version: a frame of 1,213,486,160 bytes"),
        (b"\x00\x00\x00\x00", "no venue of this version: a frame of 0 bytes"),
    ],
)
async def test_who_is_no_such_venue_is_not_traded_with(tmp_path: Path, answer: Any, why: str) -> None:
    path = tmp_path / "s"
    async with acting(path, answer):
        client = Client(path, Site(tmp_path).clock, 0.3)
        with pytest.raises(VenueUnavailable, match=why):
            await client.venue.open(client.seen.append)
        await client.venue.close()
        assert client.seen == []


@pytest.mark.parametrize(
    "nonsense",
    [
        messages.frame(WELCOME),
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x01\xc1",
        framed({"type": "Told", "event": {"type": "TaskDied", "task": "quoting", "error": ""}}),
    ],
)
async def test_nonsense_in_the_middle_ends_the_connection_and_it_is_made_anew(tmp_path: Path, nonsense: bytes) -> None:
    path = tmp_path / "s"
    async with acting(path, WELCOME, UP, nonsense) as heard, connected(path) as client:
        await client.until_up(3)
        assert client.links()[:2] == [("private", True), ("private", False)]
        assert sum(isinstance(each, Hello) for each in heard) >= 3


async def test_a_venue_that_fell_silent_is_a_lost_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENCE_S", 0.1)
    path = tmp_path / "s"
    async with acting(path, WELCOME, UP), connected(path) as client:
        await client.until_up(2)
        assert client.links()[:3] == [("private", True), ("private", False), ("private", True)]
        assert "silent" in client.venue._why


async def test_what_is_not_open_or_closed_sends_and_asks_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        client = Client(site.path, site.clock)
        with pytest.raises(VenueUnavailable, match="not open yet"):
            await client.venue.send(place("a"))
        await client.venue.instrument()
        with pytest.raises(VenueUnavailable, match="not open yet"):
            await client.venue.mark()
        await client.venue.open(client.seen.append)
        with pytest.raises(RuntimeError, match="once"):
            await client.venue.open(client.seen.append)
        await client.until_up()
        await client.venue.send(place("b"))
        await client.venue.close()
        seen = len(client.seen)
        for refused in (client.venue.send(place("c")), client.venue.mark(), client.venue.instrument()):
            with pytest.raises(VenueUnavailable, match="closed"):
                await refused
        await until(lambda: site.rows("SELECT 1 FROM orders WHERE client_id = 'b'"))
        assert len(client.seen) == seen
        assert site.rows("SELECT client_id FROM requests") == [("b",)]


async def test_a_defect_of_the_receiver_reaches_the_owner_of_the_loop(tmp_path: Path) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))

    def broken(_event: Event) -> None:
        raise KeyError("a defect of ours")

    async with served(tmp_path) as site:
        client = Client(site.path, site.clock)
        await client.venue.open(broken)
        await until(lambda: failures)
        assert isinstance(failures[0]["exception"], KeyError)
        await client.venue.close()


def update(status: OrderStatus, revision: int | None = None) -> OrderUpdate:
    return OrderUpdate(0, 0, None, "a", status, 0, None, None, revision, "")


def failed(request: str, revision: int | None = None) -> RequestFailed:
    return RequestFailed(0, 0, None, "a", request, "why", revision)


@pytest.mark.parametrize(
    ("command", "event", "answered"),
    [
        (place("a"), update(OrderStatus.LIVE, 0), True),
        (place("a"), update(OrderStatus.REJECTED), True),
        (place("a"), failed("cancel"), False),
        (Amend("a", 2, 1, 1), update(OrderStatus.PARTIAL, 1), False),
        (Amend("a", 2, 1, 1), update(OrderStatus.LIVE, 2), True),
        (Amend("a", 2, 1, 1), update(OrderStatus.LIVE), False),
        (Amend("a", 2, 1, 1), update(OrderStatus.FILLED, 1), True),
        (Amend("a", 2, 1, 1), failed("amend", 1), False),
        (Amend("a", 2, 1, 1), failed("amend", 2), True),
        (Amend("a", 2, 1, 1), failed("cancel"), False),
        (cancel("a"), update(OrderStatus.PARTIAL, 0), False),
        (cancel("a"), update(OrderStatus.CANCELLED, 0), True),
        (cancel("a"), failed("amend", 1), False),
        (cancel("a"), failed("cancel"), True),
        (cancel("a"), update(OrderStatus.UNKNOWN), True),
    ],
)
def test_what_answers_a_command(command: Place | Amend | Cancel, event: Any, answered: bool) -> None:
    assert is_outcome_of(command, event) is answered
