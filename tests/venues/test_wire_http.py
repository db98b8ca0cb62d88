"""The client against each answer, cut, and silence that a server can give it. See `wire_peer`."""

import asyncio
import gzip
import socket
import ssl
from contextlib import suppress
from random import Random

import pytest

from mmdaemon.core.types import NS
from mmdaemon.venues.wire_answer import BODY_MAX, HEAD_MAX, Lost, Reply
from mmdaemon.venues.wire_http import IDLE_S, HttpClient, _Connection, _Site
from tests.venues.test_lanes import HandClock, settle
from tests.venues.wire_peer import (
    FORMS,
    SURPLUS,
    Line,
    Peer,
    a_peer,
    chunked,
    closed_at_each_step,
    given_up_at_each_step,
    on_each_loop,
    once,
    polite,
    sized,
)

# --- what goes out ----------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_request_goes_out_as_it_was_signed() -> None:
    async with a_peer(polite) as peer:
        host = peer.url.removeprefix("http://")
        told: list[Reply | Lost] = []
        headers = {"ACCESS-SIGN": "a+b/c=", "Content-Type": "application/json"}
        peer.client.send("POST", f"{peer.url}/api/x?a=1%2C2&b=c", headers, b'{"a":1}', 9.0, told.append)
        peer.client.send("GET", f"{peer.url}/api/y", {}, None, 9.0, told.append)
        peer.client.send("POST", f"{peer.url}/api/z", {}, None, 9.0, told.append)
        while len(told) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        always = f"Host: {host}\r\nUser-Agent: mmdaemon/0.1.0\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
        assert sorted(peer.requests) == [
            (f"GET /api/y HTTP/1.1\r\n{always}\r\n", b""),
            (
                f"POST /api/x?a=1%2C2&b=c HTTP/1.1\r\n{always}ACCESS-SIGN: a+b/c=\r\nContent-Type: application/json\r\n"
                "Content-Length: 7\r\n\r\n",
                b'{"a":1}',
            ),
            (f"POST /api/z HTTP/1.1\r\n{always}Content-Length: 0\r\n\r\n", b""),
        ]


NO_REQUESTS: list[tuple[str, dict[str, str]]] = [
    ("/a", {"X": "a\r\nY: b"}),
    ("/a", {"X": "a\nb"}),
    ("/a", {"X": "a\x00b"}),
    ("/a", {"X\r\nY": "a"}),
    ("/a b", {}),
    ("/a\r\nX: y", {}),
    ("/ä", {}),
    ("", {}),
]


@pytest.mark.parametrize(("target", "headers"), NO_REQUESTS)
@on_each_loop
async def test_what_is_no_request_is_not_sent(target: str, headers: dict[str, str]) -> None:
    async with a_peer(polite) as peer:
        with pytest.raises(ValueError, match="none"):
            peer.client.send("GET", f"{peer.url}{target}", headers, None, 9.0, lambda _came: None)
        await settle()
        assert not peer.lines


@pytest.mark.parametrize("origin", ["ftp://127.0.0.1", "127.0.0.1:80", "http://a@127.0.0.1", "http://127.0.0.1:x", "x"])
@on_each_loop
async def test_what_is_no_address_is_not_sent_to(origin: str) -> None:
    client = HttpClient(ssl.create_default_context, HandClock())
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        client.send("GET", f"{origin}/api", {}, None, 9.0, lambda _came: None)
    await client.close()


@on_each_loop
async def test_a_host_is_reached_at_whichever_of_its_addresses_answers() -> None:
    async with a_peer(polite) as peer:
        peer.url = peer.url.replace("127.0.0.1", "localhost")  # ::1 too, where nobody listens
        await peer.good()


# --- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["whole", "byte by byte"])
@pytest.mark.parametrize("name", FORMS)
@on_each_loop
async def test_an_answer_in_each_of_its_forms(name: str, how: str) -> None:
    answer, reply, kept = FORMS[name]

    async def behave(peer: Peer, line: Line) -> None:
        await peer.heard(line)
        await line.say(*([answer] if how == "whole" else [answer[i : i + 1] for i in range(len(answer))]))
        await polite(peer, line)

    async with a_peer(behave) as peer:
        assert await peer.asked() == reply
        assert peer.idle() == kept
        await peer.good()
        assert len(peer.lines) == (1 if kept else 2)


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("name", ["sized", "chunked, trailers", "early hints", "says it closes"])
@on_each_loop
async def test_an_answer_that_is_cut_anywhere_is_none(name: str, then: str) -> None:
    """And not one of them is taken for an answer, or keeps its connection."""
    answer, _, _ = FORMS[name]
    body_at = answer.index(b"\r\n\r\n", answer.index(b" 200 ")) + 4
    async with a_peer(polite) as peer:
        for cut in range(len(answer)):
            peer.behave = once(answer[:cut], then=then)
            came = await peer.asked("POST", b"{}")
            if then == "close":
                assert came is (Lost.DISCONNECTED if cut < body_at else Lost.TRUNCATED), cut
            else:  # a reset may overtake what was said before it
                assert came in (Lost.DISCONNECTED, Lost.TRUNCATED), cut
            assert not peer.idle()
        assert len(peer.requests) == len(peer.lines) == len(answer)  # each was sent once
        await peer.good()


@on_each_loop
async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    async with a_peer(once(b"HTTP/1.1 200 OK\r\n\r\n", b"012", b"345", then="close")) as peer:
        assert await peer.asked() == Reply(200, "", b"012345")
        assert not peer.idle()
        peer.behave = once(b"HTTP/1.1 200 OK\r\n\r\n", b"012", then="reset")
        assert await peer.asked() in (Lost.TRUNCATED, Lost.DISCONNECTED)
        await peer.good()


LENGTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
NO_ANSWERS: dict[str, bytes] = {
    "TLS": b"\x16\x03\x01\x02\x00",
    "a page": b"<html>\r\n\r\n",
    "zeros": bytes(500),
    "another protocol": b"SSH-2.0-x\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "a status of letters": b"HTTP/1.1 abc\r\n\r\n",
    "a version to come": b"HTTP/9.9 200 OK\r\n\r\n",
    "a header without a name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "a control character": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\n\r\n",
    "a length of letters": b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    "a length below zero": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "a length beyond counting": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "two lengths": LENGTHY + b"Content-Length: 8\r\n\r\n012345678",
    "a length and chunks": LENGTHY + b"Transfer-Encoding: chunked\r\n\r\n1\r\n0\r\n0\r\n\r\n",
    "chunks and a length": CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "a chunk of letters": CHUNKED + b"\r\nxyz\r\n",
    "a chunk longer than it said": CHUNKED + b"\r\n1\r\n01\r\n0\r\n\r\n",
    "packed": sized(gzip.compress(b"01"), "Content-Encoding: gzip"),
    "said to be packed": sized(b"01", "content-encoding:  br"),
    "packed in transfer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "another transfer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n01",
    "protocols switched": b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + sized(b"0"),
    "protocols switched, unsaid": b"HTTP/1.1 101 Switching\r\n\r\n" + sized(b"0"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
@on_each_loop
async def test_what_is_no_answer_is_unreadable_at_once(name: str) -> None:
    async with a_peer(once(NO_ANSWERS[name], then="wait")) as peer:
        assert await peer.asked() is Lost.UNREADABLE
        await peer.until_all_gone()
        await peer.good()


ENDLESS = 1 << 30
FLOODS: dict[str, tuple[bytes, bytes, int]] = {
    "a body of 100 MB": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", bytes(1 << 18), 100_000_000),
    "a body without end": (b"HTTP/1.1 200 OK\r\n\r\n", bytes(1 << 18), ENDLESS),
    "chunks without end": (CHUNKED + b"\r\n", b"40000\r\n" + bytes(1 << 18) + b"\r\n", ENDLESS),
    "a status without end": (b"HTTP/1.1 200 ", b"O" * 4_096, ENDLESS),
    "a header without end": (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 4_096, ENDLESS),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 500, ENDLESS),
    "trailers without end": (CHUNKED + b"\r\n0\r\n", b"X: y\r\n" * 500, ENDLESS),
    "hints without end": (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, ENDLESS),
    "headers at once": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", b"", 0),
}


@pytest.mark.parametrize("name", FLOODS)
@on_each_loop
async def test_what_does_not_end_is_too_large(name: str) -> None:
    begin, part, size = FLOODS[name]
    said = 0

    async def behave(peer: Peer, line: Line) -> None:
        nonlocal said
        await peer.heard(line)
        await line.say(begin)
        while said < size:
            await line.say(part)
            said += len(part)
        await line.until_gone()

    async with a_peer(behave) as peer:
        assert await peer.asked() is Lost.TOO_LARGE
        assert said < BODY_MAX + HEAD_MAX + (8 << 20)  # with what the sockets hold
        await peer.until_all_gone()
        await peer.good()


@on_each_loop
async def test_the_largest_body_is_an_answer() -> None:
    body = bytes(BODY_MAX)
    async with a_peer(once(sized(body), then="wait")) as peer:
        assert await peer.asked() == Reply(200, "", body)
        await peer.client.close()


# --- connections ------------------------------------------------------------------------------------------------------


@on_each_loop
async def test_a_connection_is_kept_and_has_one_request_at_a_time() -> None:
    async with a_peer(polite) as peer:
        for _ in range(5):
            await peer.good()
        assert len(peer.lines) == 1
        asked = [peer.ask() for _ in range(6)]
        for _, number, answered in asked:
            assert await answered == Reply(200, "", number.encode())
        assert len(peer.lines) == 6
        assert peer.idle() == 6
        for _ in range(5):
            await peer.good()
        assert len(peer.lines) == 6


@on_each_loop
async def test_answers_that_overtake_each_other_are_each_ones_own() -> None:
    rng, go_on = Random(7), asyncio.Event()

    async def shuffled(peer: Peer, line: Line) -> None:
        while True:
            number = await peer.heard(line)
            await go_on.wait()
            for _ in range(rng.randrange(20)):
                await asyncio.sleep(0)
            await line.say(sized(number.encode()))

    async with a_peer(shuffled) as peer:
        for turn in range(5):
            go_on.clear()
            asked = [peer.ask("POST", bytes(100)) for _ in range(40)]
            await peer.until_asked(40 * (turn + 1))
            go_on.set()
            for _, number, answered in asked:
                assert await answered == Reply(200, "", number.encode())
        assert len(peer.lines) == 40


@on_each_loop
async def test_the_one_that_was_used_last_is_used_first() -> None:
    async with a_peer(polite) as peer:
        await asyncio.gather(*(peer.ask()[2] for _ in range(3)))
        last = peer.client._sites[peer.url].idle[-1]
        call, _, answered = peer.ask()
        assert call.by is last
        await answered
        assert peer.client._sites[peer.url].idle[-1] is last


@pytest.mark.parametrize("name", SURPLUS)
@on_each_loop
async def test_a_connection_that_says_more_than_its_answer_is_not_used_again(name: str) -> None:
    async def behave(peer: Peer, line: Line) -> None:
        number = await peer.heard(line)
        await line.say(sized(number.encode()) + SURPLUS[name])
        await line.until_gone()

    async with a_peer(behave) as peer:
        _, number, answered = peer.ask()
        assert await answered == Reply(200, "", number.encode())
        assert not peer.idle()
        await peer.good()
        assert len(peer.lines) == 2


@pytest.mark.parametrize("name", SURPLUS)
@on_each_loop
async def test_one_that_speaks_while_nobody_asks_is_dropped_at_once(name: str) -> None:
    async with a_peer(polite) as peer:
        await peer.good()
        await peer.lines[0].say(SURPLUS[name])
        await peer.until_all_gone()
        assert not peer.idle()
        await peer.good()
        assert len(peer.lines) == 2


@pytest.mark.parametrize("how", ["close", "reset"])
@on_each_loop
async def test_one_that_ends_while_nobody_asks_is_dropped_at_once(how: str) -> None:
    async with a_peer(polite) as peer:
        await peer.good()
        if how == "close":
            peer.lines[0].hang_up()
        else:
            peer.lines[0].reset()
        await peer.until_all_gone()
        assert not peer.idle()
        await peer.good()


@pytest.mark.parametrize("how", ["an answer", "its end"])
@on_each_loop
async def test_one_of_which_the_loop_has_not_heard_yet_is_not_used(how: str) -> None:
    """The peer's bytes are in our kernel, and what asks next comes before the loop that would read them."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    loop, peer = asyncio.get_running_loop(), Peer()
    peer.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

    async def answer_next() -> socket.socket:
        line, _ = await loop.sock_accept(listening)
        line.setblocking(False)
        target = (await loop.sock_recv(line, 4_096)).split(b" ")[1]
        await loop.sock_sendall(line, sized(target.rpartition(b"/")[2]))
        return line

    try:
        _, _, answered = peer.ask()
        first = await answer_next()
        await answered
        assert peer.idle() == 1
        if how == "an answer":
            first.send(sized(b"stolen"))
        else:
            first.shutdown(socket.SHUT_RDWR)
        _, number, answered = peer.ask("POST", b"{}")
        second = await answer_next()
        assert await answered == Reply(200, "", number.encode())
        assert peer.client.connections_made == 2
        with suppress(BlockingIOError, ConnectionError):
            assert not first.recv(4_096)
        first.close()
        second.close()
    finally:
        await peer.client.close()
        listening.close()


@on_each_loop
async def test_a_request_that_met_a_closing_connection_is_disconnected_and_not_sent_again() -> None:
    async def behave(peer: Peer, line: Line) -> None:
        number = await peer.heard(line)
        await line.say(sized(number.encode()))
        await peer.heard(line)
        line.hang_up()

    async with a_peer(behave) as peer:
        for method in ("POST", "GET"):
            await peer.asked()
            assert await peer.asked(method) is Lost.DISCONNECTED
        assert len(peer.requests) == 4


@on_each_loop
async def test_one_that_was_idle_for_long_is_closed_and_not_used() -> None:
    async with a_peer(polite) as peer:
        await asyncio.gather(peer.ask()[2], peer.ask()[2])
        await peer.clock.pass_s(IDLE_S / 2)
        await peer.good()
        await peer.clock.pass_s(IDLE_S / 2)
        await settle()
        assert peer.idle() == 1  # the one that was used
        await peer.clock.pass_s(IDLE_S)
        assert not peer.idle()
        await peer.until_all_gone()
        await peer.good()
        assert len(peer.lines) == 3
        peer.clock.now_ns += round(IDLE_S * NS)  # the machine slept, and no timer ran
        await peer.good()
        assert len(peer.lines) == 4


@on_each_loop
async def test_an_answer_before_the_request_is_whole_ends_the_connection() -> None:
    """What is left of the request must not run into the next one."""
    go_on = asyncio.Event()

    async def behave(_peer: Peer, line: Line) -> None:
        head = await line.reader.readuntil(b"\r\n\r\n")
        await line.say(sized(head.split(b" ")[1].rpartition(b"/")[2], status="413 Content Too Large"))
        await go_on.wait()

    async with a_peer(behave) as peer:
        _, number, answered = peer.ask("POST", bytes(32 << 20))
        assert await answered == Reply(413, "", number.encode())
        assert not peer.idle()
        go_on.set()
        await peer.good()


# --- what is given up -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", sized(b"0123456789")[:-4]])
@on_each_loop
async def test_a_time_out_ends_the_connection_and_its_answer_is_nobodys(answer: bytes) -> None:
    gone = asyncio.Event()

    async def late(peer: Peer, line: Line) -> None:
        await peer.heard(line)
        await line.say(answer)
        await line.until_gone()
        gone.set()

    async with a_peer(late) as peer:
        assert await peer.asked(timeout_s=0.05) is Lost.TIMEOUT
        await peer.good()
        await gone.wait()


@on_each_loop
async def test_an_answer_that_drips_is_timed_as_a_whole() -> None:
    async def drips(peer: Peer, line: Line) -> None:
        await peer.heard(line)
        await line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            await line.say(b" ")
            await asyncio.sleep(0.005)

    async with a_peer(drips) as peer:
        assert await peer.asked(timeout_s=0.1) is Lost.TIMEOUT
        await peer.good()


@on_each_loop
async def test_a_call_that_is_given_up_takes_its_connection_with_it() -> None:
    async with a_peer(once(then="wait")) as peer:
        call, _, answered = peer.ask()
        await peer.until_asked(1)
        call.give_up(Lost.CLOSED)
        assert await answered is Lost.CLOSED
        call.give_up(Lost.CLOSED)  # it has ended
        await peer.until_all_gone()
        await peer.good()


@on_each_loop
async def test_what_the_system_still_held_of_one_that_is_given_up_is_not_sent() -> None:
    """All of it was handed over, and none was taken: who is behind a dead line takes it once that lives again."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listens:
        listens.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        listens.bind(("127.0.0.1", 0))
        listens.listen()
        listens.setblocking(False)
        client, told = HttpClient(ssl.create_default_context, HandClock()), asyncio.Event()
        url = f"http://127.0.0.1:{listens.getsockname()[1]}/a"
        call = client.send("POST", url, {}, b"x" * 60_000, 9.0, lambda _came: told.set())
        taken, _ = await loop.sock_accept(listens)
        with taken:
            while not isinstance(call.by, asyncio.Protocol):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            call.give_up(Lost.TIMEOUT)
            await told.wait()
            while client._connections:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            arrived = 0
            with suppress(ConnectionError):
                while part := await loop.sock_recv(taken, 65_536):
                    arrived += len(part)
        await client.close()
    assert arrived < 60_000


@on_each_loop
async def test_one_that_waits_for_its_connection_is_given_up_and_sends_nothing() -> None:
    """Nobody shakes hands there."""

    async def silent(_peer: Peer, line: Line) -> None:
        await line.until_gone()

    async with a_peer(silent) as peer:
        plain, peer.url = peer.url, peer.url.replace("http://", "https://")
        assert await peer.asked(timeout_s=0.05) is Lost.TIMEOUT
        call, _, answered = peer.ask()
        await asyncio.sleep(0.02)
        call.give_up(Lost.CLOSED)
        assert await answered is Lost.CLOSED
        call, _, answered = peer.ask()
        call.give_up(Lost.CLOSED)  # before anything was begun
        assert await answered is Lost.CLOSED
        while peer.client._dialling:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        peer.url = plain
        await peer.good()


@on_each_loop
async def test_close_tells_whatever_is_under_way() -> None:
    async with a_peer(once(then="wait")) as peer:
        left = peer.ask()[2]
        await peer.until_asked(1)
        plain, peer.url = peer.url, peer.url.replace("http://", "https://")
        dials = peer.ask()[2]
        await asyncio.sleep(0.02)
        peer.url = plain
        begins = peer.ask()[2]
        await peer.client.close()
        assert [await left, await dials, await begins] == [Lost.CLOSED] * 3
        assert peer.client.closed


@on_each_loop
async def test_nobody_there_is_not_connected() -> None:
    async with a_peer(polite) as peer:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        for url in (f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}", f"http://a..b:{port}"):
            peer.url = url
            assert await peer.asked("POST", b"{}") is Lost.NOT_CONNECTED


@on_each_loop
async def test_one_that_hangs_up_or_speaks_before_it_was_asked_anything() -> None:
    async def leaves(_peer: Peer, line: Line) -> None:
        line.hang_up()

    async def speaks(_peer: Peer, line: Line) -> None:
        await line.say(b"\r\n")
        await line.until_gone()

    async with a_peer(leaves) as peer:
        for _ in range(20):
            assert await peer.asked("POST", b"{}") in (Lost.DISCONNECTED, Lost.NOT_CONNECTED)
        peer.behave = speaks
        for _ in range(5):
            assert await peer.asked("POST", b"{}", timeout_s=0.02) in (Lost.NOT_CONNECTED, Lost.TIMEOUT)
        await peer.good()


@on_each_loop
async def test_one_that_is_given_up_at_any_step_of_its_dial_closes_no_number_of_others() -> None:
    """uvloop, given a socket of ours and cancelled, closes its number, and our object closes that again."""
    async with a_peer(polite) as peer:
        await given_up_at_each_step(peer)
        await peer.good()


@on_each_loop
async def test_close_ends_at_whatever_step_a_dial_is() -> None:
    """uvloop, cancelled after `connection_made`, never tells of `connection_lost`."""
    async with a_peer(polite) as peer:
        await closed_at_each_step(peer)


@on_each_loop
async def test_a_connection_that_comes_after_it_was_given_up_is_closed_at_once() -> None:
    async with a_peer(polite) as peer:
        connection = _Connection(peer.client, _Site(peer.url))
        connection.abort()
        port = int(peer.url.rpartition(":")[2])
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
        assert transport.is_closing()
        assert not connection.is_open


@on_each_loop
async def test_close_ends_where_connections_do_not_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    async with a_peer(polite) as peer:
        await peer.good()
        monkeypatch.setattr("mmdaemon.venues.wire_http.CLOSE_S", 0.01)
        monkeypatch.setattr(_Connection, "abort", lambda _connection: None)
        loop = asyncio.get_running_loop()
        handler = loop.get_exception_handler()
        loop.set_exception_handler(lambda _loop, context: said.append(context["message"]))
        await peer.client.close()
        loop.set_exception_handler(handler)
        monkeypatch.undo()
        for connection in list(peer.client._connections):
            connection.abort()
        await peer.until_all_gone()
    assert len(said) == 1
    assert "0 dials and 1 connections" in said[0]


@on_each_loop
async def test_of_addresses_that_answer_late_one_carries_the_request_and_no_other_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A first address that never answers, two that do."""
    async with a_peer(polite) as peer:

        async def found(_site: _Site) -> list[str]:
            return ["192.0.2.1", "127.0.0.1", "127.0.0.1"]

        async def attempt(site: _Site, host: str) -> _Connection:
            if host == "192.0.2.1":
                await asyncio.Event().wait()
            return await plainly(site, host)

        plainly = peer.client._attempt
        monkeypatch.setattr(peer.client, "_attempt", attempt)
        monkeypatch.setattr(peer.client, "_found", found)
        await peer.good()
        while peer.client._dialling:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert len(peer.requests) == 1
        assert len(peer.client._connections) == 1


async def _no_name(*_: object, **__: object) -> None:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


async def _slow_name(*_: object, **__: object) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("fails", [_no_name, _slow_name])
async def test_a_name_server_that_fails_keeps_no_cancel_from_an_address_that_is_known(
    monkeypatch: pytest.MonkeyPatch, fails: object
) -> None:
    async with a_peer(polite) as peer:
        await peer.good()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
        for connection in [*peer.client._connections]:
            connection.abort()
        await peer.good()
        assert len(peer.requests) == 2


# --- mutations --------------------------------------------------------------------------------------------------------


def mutated(rng: Random, answer: bytes, surplus: bytes) -> bytes:
    text = bytearray(answer)
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 5))):
        at = rng.randrange(len(text))
        match rng.randrange(5):
            case 0:
                text[at] = rng.randrange(256)
            case 1:
                del text[at : at + rng.randrange(1, 9)]
            case 2:
                text[at:at] = bytes(rng.choices(b"\r\n :;0123456789abcHTP/", k=rng.randrange(1, 9)))
            case 3:
                text[at:at] = text[at : at + rng.randrange(1, 40)]
            case _:
                text[at:at] = rng.choice((b"\r\n", b"\r\n\r\n", b"Content-Length: 3\r\n", b"0\r\n\r\n"))
    if rng.random() < 0.2:
        del text[rng.randrange(len(text) + 1) :]
    if rng.random() < 0.2:
        text += surplus
    return bytes(text)


@pytest.mark.parametrize("seed", range(5))
@on_each_loop
async def test_no_answer_however_it_is_cut_and_mutated_is_given_to_another_request(seed: int) -> None:
    rng = Random(seed)
    on: dict[str, Line] = {}
    marks: dict[str, bytes] = {}
    """What is in nothing but the answer to one request, and in what follows that one."""

    async def behave(peer: Peer, line: Line) -> None:
        while True:
            number = await peer.heard(line)
            marks[number] = mark = b"%016x" % rng.getrandbits(64)
            forms = (
                sized(mark),
                sized(mark, "Connection: close"),
                chunked(mark[:9], mark[9:]),
                b"HTTP/1.1 100 Continue\r\n\r\n" + sized(mark),
                b"HTTP/1.1 200 OK\r\n\r\n" + mark,
            )
            on[number] = line
            said = mutated(rng, rng.choice(forms), sized(mark))
            cut = rng.randrange(len(said) + 1)
            await line.say(said[:cut])
            if number in dict(peer.told):  # nobody could tell what follows from an answer to what is asked next
                return
            await line.say(said[cut:])
            match rng.randrange(6):
                case 0:
                    line.hang_up()
                    return
                case 1:
                    line.reset()
                    return
                case 2:
                    await line.until_gone()
                    return
                case _:
                    pass

    async with a_peer(behave) as peer:
        came: dict[str, Reply | Lost] = {}
        for _ in range(400):
            asked = [peer.ask("POST", b"{}", timeout_s=0.02) for _ in range(rng.choice((1, 1, 3)))]
            for _, number, answered in asked:
                came[number] = await answered
        replies = {number: reply for number, reply in came.items() if isinstance(reply, Reply)}
        for number, reply in replies.items():
            others = [other for other, mark in marks.items() if other != number and mark in reply.body]
            assert not others, (number, others, [on[other] is on.get(number) for other in others])
        assert len(peer.requests) <= len(came)
        whole = [number for number, reply in replies.items() if reply.body == marks[number]]
        assert len(whole) > len(came) // 4
        lost = {reply for reply in came.values() if isinstance(reply, Lost)}
        assert lost >= {Lost.TIMEOUT, Lost.DISCONNECTED, Lost.TRUNCATED, Lost.UNREADABLE}
        assert len(peer.lines) < len(came)  # some were kept
