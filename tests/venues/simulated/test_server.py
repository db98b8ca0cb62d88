"""The venue process: one account and one client at a time, a record that is ahead of whatever is told, and no patience
with who does not keep the protocol."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mmdaemon.core.commands import Amend
from mmdaemon.core.events import Fill, LinkChanged, OrderUpdate, RequestFailed
from mmdaemon.core.types import NS, Link
from mmdaemon.unix_socket import SocketRefused, listener_at
from mmdaemon.venues import messages
from mmdaemon.venues.base import Cursor, VenueUnavailable
from mmdaemon.venues.messages import (
    Answered,
    Ask,
    Beat,
    Failed,
    FromClient,
    Hello,
    Refused,
    Send,
    Subscribe,
    Told,
    Welcome,
    What,
)
from mmdaemon.venues.remote import RemoteVenue
from mmdaemon.venues.simulated import server
from mmdaemon.venues.simulated.ledger import Ledger, LedgerRefused
from tests.venues.served import GREETING, PID, Raw, Site, cancel, connected, framed, place, raw, served, until
from tests.venues.simulated.test_venue import INSTRUMENT

EVERYTHING = Cursor(0)


def send(site: Site, *commands: Any, age_s: float = 0.0) -> list[FromClient]:
    sent_ns = site.clock.wall_ns() - round(age_s * NS)
    return [Send(sent_ns, command) for command in commands]


async def hear(client: Raw, kind: type[Any]) -> Any:
    """The next event of a kind that is told."""
    while not isinstance((told := await client.hear(Told)).event, kind):
        pass
    return told.event


# --- the record -------------------------------------------------------------------------------------------------------


async def test_whatever_is_told_is_in_the_record_by_then(tmp_path: Path) -> None:
    """Looked up with another connection at the very moment of each word: what it sees is committed."""
    seen: dict[str, int] = {"OrderUpdate": 0, "Fill": 0, "Bill": 0}
    async with served(tmp_path, burst=1_000) as site, raw(site.path, *GREETING) as client:
        for number in range(30):
            client.say(*send(site, place(f"r{number}"), place(f"f{number}", px=996), cancel(f"r{number}")))
            site.venue.transfer(1)
            await asyncio.sleep(0.01)
        while min(seen.values()) < 20:
            event = (await client.hear(Told)).event
            if (name := type(event).__name__) in seen:
                seen[name] += 1
            if isinstance(event, Fill):
                found = site.rows("SELECT client_id, qty_lots FROM fills WHERE trade_id = ?", event.trade_id)
                assert found == [(event.client_id, event.qty_lots)]
            elif isinstance(event, OrderUpdate) and event.status.value not in ("rejected", "unknown"):
                ((filled, status),) = site.rows(
                    "SELECT filled_lots, status FROM orders WHERE client_id = ?", event.client_id
                )
                assert filled >= (event.cum_filled_lots or 0)
                assert status == event.status or event.status.value == "live"  # it may have gone on since
            elif isinstance(event, OrderUpdate | RequestFailed):
                assert site.rows("SELECT 1 FROM requests WHERE client_id = ?", event.client_id)


async def test_the_record_is_the_account_to_the_last_digit(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as client:
        for number, px in enumerate((996, 997, 990, 991)):
            await client.venue.send(place(f"o{number}", px=px))
        await client.until_filled("o0")
        await client.until_filled("o1")
        await client.until_told("o3", "live")
        await client.venue.send(Amend("o3", 1, 992, 7))
        await client.venue.send(cancel("o2"))
        await client.until_told("o2", "cancelled")
        site.venue.transfer(123)
        await client.venue.cancel_all()
        await site.server.close()
        truth = site.venue.truth()
    assert {row[0]: row[1:] for row in site.rows("SELECT client_id, status, filled_lots, revision FROM orders")} == {
        order.client_id: (order.status.value, order.filled_lots, order.revision) for order in truth.orders.values()
    }
    assert site.rows("SELECT trade_id, fee_e10, venue_ts_ns FROM fills ORDER BY venue_ts_ns") == [
        (fill.trade_id, fill.fee_e10, fill.venue_ts_ns) for fill in truth.fills
    ]
    assert site.rows("SELECT kind, amount_e10 FROM bills") == [("transfer", 123)]
    ((balance, cash, position, ended),) = site.rows(
        "SELECT balance_e10, cash_e10, position_lots, ended_ts_ns FROM accounts"
    )
    assert (int(balance), int(cash), position) == (truth.wallet.balance_e10, truth.wallet.cash_e10, 10)
    assert ended is not None
    assert [row[0] for row in site.rows("SELECT kind FROM requests ORDER BY number")] == [
        *("place",) * 4,
        "amend",
        "cancel",
        "cancel_all",
    ]
    assert site.rows("SELECT pid, why FROM connections") == [(os.getpid(), "the venue ends")]


async def test_it_forgets_and_the_record_does_not(tmp_path: Path) -> None:
    """The exchange keeps the last few; each fill is in the record once all the same."""
    async with served(tmp_path, keep=10, burst=200) as site, connected(site.path) as client:
        for number in range(60):
            await client.venue.send(place(f"o{number}", px=996))
            if number % 5 == 4:
                await client.until_filled(f"o{number}")
        await until(lambda: len(client.of(Fill)) == 60)
        assert len(site.venue.truth().fills) < 30
        assert site.rows("SELECT count(*), count(DISTINCT client_id) FROM fills") == [(60, 60)]
        assert site.rows("SELECT count(*) FROM orders WHERE status = 'filled'") == [(60,)]


async def test_a_record_that_cannot_be_written_ends_what_is_told(tmp_path: Path) -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context))
    async with served(tmp_path) as site, connected(site.path) as client:
        await client.venue.send(place("before"))
        await client.until_told("before", "live")
        with closing(sqlite3.connect(site.record)) as db:
            db.execute("DROP TABLE orders")
        await client.venue.send(place("after"))
        await until(lambda: failures)
        assert isinstance(failures[0]["exception"], sqlite3.Error)
        await asyncio.sleep(0.1)
        assert client.told("after") == []
        site.server._ledger._lines.clear()


async def test_the_next_process_begins_another_account_in_the_same_file(tmp_path: Path) -> None:
    async with served(tmp_path) as site, connected(site.path) as client:
        await client.venue.send(place("fills", px=996))
        await client.until_filled("fills")
    other = Site(tmp_path, tag="other-")
    await other.start("a2")
    async with connected(other.path) as client:
        assert (await client.venue.snapshot()).position_lots == 0
        assert "a2" in client.venue.provenance["venue"]
        await client.venue.send(place("fills", px=996))
        await client.until_filled("fills")
    await other.server.close()
    assert other.rows("SELECT name, position_lots FROM accounts") == [("a1", 5), ("a2", 5)]
    assert other.rows("SELECT account, count(*) FROM fills GROUP BY account") == [(1, 1), (2, 1)]


def test_a_record_that_cannot_be_kept_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, and long enough to be seen as none" * 20)
    for path in (tmp_path, tmp_path / "nowhere" / "x", tmp_path / "text"):
        with pytest.raises(LedgerRefused, match=f"{path.name} cannot be written.*--record"):
            Ledger(path, "a", INSTRUMENT, 0, 0)


# --- the account lives on ---------------------------------------------------------------------------------------------


async def test_orders_fill_while_nobody_is_there_and_are_known_to_who_comes_next(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        async with raw(site.path, *GREETING) as client:
            client.say(*send(site, place("fills", px=996), place("rests")))
            # It is gone before any answer: what lay in the socket arrives all the same.
        await until(lambda: site.rows("SELECT 1 FROM fills"))
        assert site.server._client is None
        async with connected(site.path) as later:
            (fill,) = await later.venue.fills(EVERYTHING)
            assert fill.client_id == "fills"
            assert [report.client_id for report in await later.venue.open_orders()] == ["rests"]
            assert (await later.venue.snapshot()).position_lots == 5
            await asyncio.sleep(0.05)
            assert later.of(Fill) == []


async def test_the_dead_mans_hand_lets_go_though_nobody_is_there(tmp_path: Path) -> None:
    async with served(tmp_path, has_dead_man=True) as site:
        async with connected(site.path) as client:
            await client.venue.send(place("rests"))
            await client.until_told("rests", "live")
            assert await client.venue.dead_man(1)
            assert site.rows("SELECT status FROM orders") == [("live",)]
        await until(lambda: site.rows("SELECT status, reason FROM orders") == [("cancelled", "dead_man")])


async def test_what_lay_too_long_on_its_way_is_refused_and_recorded(tmp_path: Path) -> None:
    """A request that was sent before the window cannot land any more: that is what `in_flight_floor_s` promises."""
    async with served(tmp_path) as site, raw(site.path, *GREETING) as client:
        assert 0.9 < site.server.window_ns / NS < RemoteVenue.in_flight_floor_s
        late = site.server.window_ns / NS + 0.05
        client.say(*send(site, place("a"), Amend("b", 3, 990, 1), cancel("c"), age_s=late))
        rejected = await hear(client, OrderUpdate)
        assert (rejected.client_id, rejected.status, rejected.cum_filled_lots) == ("a", "rejected", 0)
        amend, refused = await hear(client, RequestFailed), await hear(client, RequestFailed)
        assert (amend.client_id, amend.request, amend.reason, amend.revision) == ("b", "amend", "expired", 3)
        assert (refused.client_id, refused.request, refused.reason) == ("c", "cancel", "expired")
        client.say(*send(site, place("d"), age_s=0.2))
        assert (await hear(client, OrderUpdate)).client_id == "d"
        assert site.rows("SELECT client_id, refused FROM requests") == [
            *((name, "expired") for name in "abc"),
            ("d", ""),
        ]
        assert [client_id for (client_id,) in site.rows("SELECT client_id FROM orders")] == ["d"]


# --- one client at a time ---------------------------------------------------------------------------------------------


async def test_a_second_client_is_refused_by_name_and_the_first_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_PLACE_S", 0.1)
    async with served(tmp_path) as site, connected(site.path) as first:
        async with raw(site.path, Hello(messages.VERSION, PID)) as second:
            why = (await second.hear(Refused)).why
            assert f"process {os.getpid()} is connected" in why
            assert await second.is_cut_off()
        await first.venue.send(place("a"))
        await first.until_told("a", "live")
        assert ("private", False) not in first.links()
        assert site.rows("SELECT pid FROM connections") == [(os.getpid(),)]


async def test_a_newcomer_waits_for_the_one_before_it_to_be_gone(tmp_path: Path) -> None:
    """As after a kill: the two sockets may be seen in either order."""
    async with served(tmp_path) as site, raw(site.path, *GREETING) as first:
        await first.hear(Welcome)
        async with raw(site.path, *GREETING) as second:
            await asyncio.sleep(0.05)
            first.writer.transport.abort()
            await second.hear(Welcome)
        assert site.rows("SELECT why FROM connections WHERE connection = 1") == [("it went away",)]


async def test_one_that_is_silent_loses_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, or hung: its socket stays, and the account must not be held by it for ever."""
    monkeypatch.setattr(server, "SILENCE_S", 0.3)
    async with served(tmp_path) as site, raw(site.path, *GREETING) as first:
        await first.hear(Welcome)
        first.say(Beat())
        async with connected(site.path) as second:
            assert "silent for 0.3 s" in site.said("disconnected")
            assert await second.venue.open_orders() == []
        assert await first.is_cut_off()


async def test_one_that_does_not_read_is_cut_off_and_costs_no_more_than_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "BUFFER_MAX_BYTES", 10_000)
    async with served(tmp_path, reads_per_s=1e6, burst=100_000) as site, raw(site.path, *GREETING) as client:
        client.reader._transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
        most = 0
        for number in range(200_000):
            if client.writer.is_closing() or site.said("disconnected"):
                break
            client.say(Ask(number, What.FACTS))
            if number % 20 == 0:
                await asyncio.sleep(0)
            if site.server._client is not None:
                most = max(most, site.server._client.writer.transport.get_write_buffer_size())
        await until(lambda: site.said("disconnected"))
        assert any("does not read" in str(why) for why in site.said("disconnected"))
        assert most < 200_000


async def test_who_keeps_quiet_at_the_door_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_HELLO_S", 0.1)
    async with served(tmp_path) as site, raw(site.path) as client:
        assert await client.is_cut_off()
        assert site.said("turned_away") == ["no greeting within 0.1 s"]


NONSENSE = {
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "too long": b"\x00\x01\x00\x01",
    "empty": b"\x00\x00\x00\x00",
    "no message": b"\x00\x00\x00\x03\xc1\xc1\xc1",
    "unknown message": messages.frame(Welcome(1, "", "", INSTRUMENT, True, {})),
    "unknown field": framed({"type": "Subscribe", "x": 1}),
    "greeted twice": messages.frame(Hello(messages.VERSION, PID)),
    "wrong argument": messages.frame(Ask(1, What.ORDER, 5)),
    "no argument": messages.frame(Ask(1, What.FILLS)),
    "argument too many": messages.frame(Ask(1, What.MARK, "x")),
}


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_what_is_no_request_ends_the_connection_with_a_word_in_the_log(tmp_path: Path, nonsense: str) -> None:
    async with served(tmp_path) as site:
        async with raw(site.path, *GREETING) as client:
            client.say(*send(site, place("a")))
            assert (await hear(client, OrderUpdate)).client_id == "a"
            client.writer.write(NONSENSE[nonsense])
            assert await client.is_cut_off()
            await until(lambda: site.said("disconnected"))
            (why,) = site.said("disconnected")
            assert str(why).startswith("malformed: ")
        async with connected(site.path) as other:
            assert [report.client_id for report in await other.venue.open_orders()] == ["a"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (Hello(99, PID), "you speak version 99, this venue 1"),
        (Subscribe(), "malformed: a Subscribe before any greeting"),
        (Send(0, place("a")), "malformed: a Send before any greeting"),
    ],
)
async def test_who_does_not_greet_as_agreed_is_not_let_in(tmp_path: Path, said: FromClient, why: str) -> None:
    async with served(tmp_path) as site, raw(site.path, said) as client:
        assert await client.is_cut_off()
        assert why in [*site.said("turned_away"), *site.said("refused")]
        assert site.rows("SELECT 1 FROM requests") == []


async def test_nothing_is_told_before_it_was_asked_for_and_links_as_they_are(tmp_path: Path) -> None:
    async with served(tmp_path) as site, raw(site.path, Hello(messages.VERSION, PID)) as client:
        await client.hear(Welcome)
        site.venue.disconnect(5.0, ("private",))
        await until(lambda: not site.server._links[Link.PRIVATE])
        await asyncio.sleep(0.1)
        client.say(Subscribe())
        first = (await client.hear(Told)).event
        assert (type(first), first) == (LinkChanged, LinkChanged(0, 0, None, Link.PUBLIC, True))
        assert not any(isinstance(each, LinkChanged) for each in await told_within(client, 20))


async def told_within(client: Raw, count: int) -> list[object]:
    return [(await client.hear(Told)).event for _ in range(count)]


async def test_too_many_questions_at_once_are_refused_one_by_one(tmp_path: Path) -> None:
    async with served(tmp_path, burst=1_000) as site, raw(site.path, *GREETING) as client:
        client.say(*(Ask(number, What.FACTS) for number in range(server.ASKED_MAX + 3)))
        answers = [await client.hear((Answered, Failed)) for _ in range(server.ASKED_MAX + 3)]  # pyright: ignore[reportArgumentType]
        refused = [each.number for each in answers if isinstance(each, Failed)]
        assert refused == list(range(server.ASKED_MAX, server.ASKED_MAX + 3))


async def test_an_answer_that_no_frame_takes_is_a_failed_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "ANSWER_MAX_BYTES", 500)
    async with served(tmp_path) as site, connected(site.path) as client:
        for number in range(10):
            site.venue.transfer(number + 1)
        with pytest.raises(VenueUnavailable, match="more than a frame takes"):
            await client.venue.bills(EVERYTHING)


# --- where it listens -------------------------------------------------------------------------------------------------


async def test_the_socket_is_its_owners_and_taken_by_one(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        assert site.path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(SocketRefused, match="another process answers there"):
            listener_at(site.path)
        async with connected(site.path) as client:
            assert await client.venue.open_orders() == []


def test_a_socket_left_behind_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    with listener_at(tmp_path / "s"):
        pass
    with listener_at(tmp_path / "s"):
        pass
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SocketRefused, match="something else has that name"):
        listener_at(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(SocketRefused, match="is the folder there"):
        listener_at(tmp_path / "nowhere" / "s")
    with pytest.raises(SocketRefused, match="longer than 107 bytes"):
        listener_at(tmp_path / ("x" * 120))
