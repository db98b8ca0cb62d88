"""The control socket, over a real one: answers, permissions, hostile clients, and a kill that waits for nobody."""

import asyncio
import os
import socket
import stat
import struct
from asyncio.trsock import TransportSocket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdaemon.ops import control, control_client
from mmdaemon.ops.control import Answer, ControlError, ControlServer, Request, Say
from mmdaemon.ops.control_client import NoDaemon, call
from tests.ops.samples import picture

Start = Callable[[control.Handler], Awaitable[ControlServer]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    servers: list[ControlServer] = []

    async def begin(handle: control.Handler) -> ControlServer:
        server = ControlServer(tmp_path / "control.sock", handle)
        await server.start()
        servers.append(server)
        return server

    yield begin
    for server in servers:
        await server.close(grace_s=0.0)


async def echo(request: Request, say: Say) -> Answer:
    await say(f"working at {request.verb}")
    return Answer(True, 0, [f"{request.verb} {request.args}", request.who], picture())


async def raw(path: Path, data: bytes, *, end: bool = True) -> bytes:
    """What the server says to these bytes, to the end of the connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    if end:
        writer.write_eof()
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@asynccontextmanager
async def idle(path: Path, count: int) -> AsyncGenerator[list[asyncio.StreamReader]]:
    """Connections that say nothing."""
    pairs = [await asyncio.open_unix_connection(path) for _ in range(count)]
    try:
        yield [reader for reader, _ in pairs]
    finally:
        for _, writer in pairs:
            writer.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for are the server's own figures
            await asyncio.sleep(0.005)


async def test_a_request_its_progress_and_its_answer(start: Start) -> None:
    server = await start(echo)
    lines: list[str] = []
    answer = await call(server.path, "resume", {"reason": "böse \n Zeile", "wait": True}, lines.append)
    assert answer.ok
    assert lines == ["working at resume"]
    assert answer.lines == ["resume {'reason': 'böse \\n Zeile', 'wait': True}", f"uid {os.getuid()} pid {os.getpid()}"]
    assert answer.status == picture()
    assert server.counts["answered"] == 1


def test_it_is_the_same_on_uvloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "READING_MAX", 32)

    async def main() -> None:
        server = ControlServer(tmp_path / "s", echo)
        await server.start()
        async with idle(server.path, 40):
            answer = await call(server.path, "kill")
        assert answer.lines[1] == f"uid {os.getuid()} pid {os.getpid()}"
        assert server.counts["evicted"] == 9
        await server.close()
        assert not server.path.exists()

    uvloop.run(main())


async def test_the_client_cannot_say_who_it_is(start: Start) -> None:
    server = await start(echo)
    said = await raw(server.path, b'{"version":1,"verb":"kill","who":"uid 0"}\n')
    assert b"refused: not a request" in said
    assert server.counts["malformed"] == 1


async def test_mode_0600_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        server = ControlServer(tmp_path / "s", echo)
        await server.start()
        assert stat.S_IMODE(server.path.stat().st_mode) == 0o600
        await server.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize(("uid", "may"), [(0, True), (os.geteuid(), True), (os.geteuid() + 1, False)])
async def test_the_peer_must_be_the_daemon_s_user_or_root(
    start: Start, monkeypatch: pytest.MonkeyPatch, uid: int, may: bool
) -> None:
    server = await start(echo)
    # One process cannot be two users: what the kernel would say is put in its place.
    monkeypatch.setattr(TransportSocket, "getsockopt", lambda *_: struct.pack("3i", 7, uid, uid))
    answer = await call(server.path, "status")
    assert answer.ok is may
    assert server.counts["refused_peer"] == (not may)
    if not may:
        assert "ask as the daemon's user" in answer.lines[0]


async def test_a_peer_whom_the_kernel_does_not_name_is_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(92, "Protocol not available")

    server = await start(echo)
    monkeypatch.setattr(TransportSocket, "getsockopt", fail)
    assert not (await call(server.path, "kill")).ok
    assert server.counts["refused_peer"] == 1


HOSTILE = {
    "nothing": (b"", "closed_early"),
    "half a line": (b'{"version":1,"verb":"ki', "closed_early"),
    "a valid request without its newline": (b'{"version":1,"verb":"kill"}', "closed_early"),
    "an empty line": (b"\n", "malformed"),
    "not JSON": (b"kill\n", "malformed"),
    "binary": (bytes(range(11, 256)) + b"\n", "malformed"),
    "deep": (b"[" * 4000 + b"\n", "malformed"),
    "deep in a field": (b'{"version":1,"verb":"kill","args":' + b'{"a":' * 700 + b"\n", "malformed"),
    "bad UTF-8": (b'{"version":1,"verb":"\xff"}\n', "malformed"),
    "a lone surrogate": (b'{"version":1,"verb":"\\ud800"}\n', "malformed"),
    "a number as an argument": (b'{"version":1,"verb":"kill","args":{"wait":1}}\n', "malformed"),
    "a list": (b"[1]\n", "malformed"),
    "no verb": (b'{"version":1}\n', "malformed"),
    "another version": (b'{"version":2,"verb":"kill"}\n', "malformed"),
    "an endless version": (b'{"version":' + b"9" * 4000 + b',"verb":"kill"}\n', "malformed"),
    "too long": (b'{"version":1,"verb":"' + b"k" * 5000 + b'"}\n', "oversized"),
    "far too long": (b"x" * 3_000_000, "oversized"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_input_is_counted_and_harms_nobody(start: Start, name: str) -> None:
    data, outcome = HOSTILE[name]
    asked: list[Request] = []

    async def remember(request: Request, say: Say) -> Answer:
        asked.append(request)
        return await echo(request, say)

    server = await start(remember)
    await raw(server.path, data)
    await until(lambda: server.counts[outcome] == 1)
    assert asked == []
    assert (await call(server.path, "status")).ok
    assert sum(server.counts.values()) == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=300) | st.from_regex(rb'\{"version":1,"verb":"[a-z]*","args":\{.{0,60}\}\}', fullmatch=True)
)
def test_no_bytes_get_past_the_decoder(data: bytes) -> None:
    reader = _Bytes(data.replace(b"\n", b"") + b"\n")
    outcome = "asked"
    try:
        asyncio.run(control._read_request(reader, _Nobody()))  # pyright: ignore[reportArgumentType]
    except control._Refused as refused:
        outcome = refused.outcome
    assert outcome in {"asked", "malformed"}


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def readuntil(self, _end: bytes) -> bytes:
        return self._data


class _Nobody:
    def get_extra_info(self, _name: str) -> "_Nobody":
        return self

    def getsockopt(self, *_: int) -> bytes:
        return struct.pack("3i", 1, os.geteuid(), 0)


async def test_a_line_of_4096_bytes_is_taken_and_one_more_is_not(start: Start) -> None:
    server = await start(echo)
    frame = b'{"version":1,"verb":""}'
    for extra, outcome in ((0, "answered"), (1, "oversized")):
        await raw(server.path, frame.replace(b'""', b'"' + b"v" * (4096 - len(frame) + extra) + b'"') + b"\n")
        await until(lambda outcome=outcome: server.counts[outcome] == 1)


async def test_the_client_refuses_what_the_server_would(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="shorten the reason"):
        await call(tmp_path / "s", "resume", {"reason": "x" * 5000})


async def test_a_slow_client_is_let_go(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "READ_S", 0.05)
    server = await start(echo)
    said = await raw(server.path, b'{"version":1,', end=False)
    assert b"no request within" in said
    assert server.counts["timed_out"] == 1


async def test_idle_connections_cannot_keep_a_newcomer_out(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "READING_MAX", 32)
    server = await start(echo)
    async with idle(server.path, 96) as readers:
        assert (await call(server.path, "kill")).ok
        assert server.counts["evicted"] == 65
        assert await readers[0].read() == b""


async def test_a_burst_of_honest_clients_pushes_nobody_out(start: Start) -> None:
    server = await start(echo)
    answers = await asyncio.gather(*(call(server.path, "kill") for _ in range(160)))
    assert server.counts["evicted"] == 0
    assert len(answers) == 160


async def test_a_kill_waits_for_no_other_verb(start: Start) -> None:
    release = asyncio.Event()

    async def handle(request: Request, _say: Say) -> Answer:
        if request.verb != "kill":
            await release.wait()
        return Answer(True, 0, [request.verb])

    server = await start(handle)
    others = [asyncio.create_task(call(server.path, "reconcile")) for _ in range(control.HANDLING_MAX)]
    await until(lambda: len(server._handling) == control.HANDLING_MAX)
    refused = await call(server.path, "status")
    assert not refused.ok
    assert "at work already" in refused.lines[0]
    assert (await call(server.path, "kill")).ok
    assert not any(task.done() for task in others)
    release.set()
    assert all(answer.ok for answer in await asyncio.gather(*others))
    assert server.counts["busy"] == 1


async def test_kills_are_bounded_too(start: Start) -> None:
    release = asyncio.Event()

    async def handle(request: Request, _say: Say) -> Answer:
        if request.verb == "kill":
            await release.wait()
        return Answer(True, 0)

    server = await start(handle)
    kills = [asyncio.create_task(call(server.path, "kill")) for _ in range(control.KILLS_MAX)]
    await until(lambda: len(server._handling) == control.KILLS_MAX)
    assert "kills are at work already" in (await call(server.path, "kill")).lines[0]
    assert (await call(server.path, "status")).ok
    release.set()
    assert all(answer.ok for answer in await asyncio.gather(*kills))


async def test_a_handler_that_fails_takes_nothing_with_it(start: Start) -> None:
    async def handle(_request: Request, _say: Say) -> Answer:
        raise ZeroDivisionError("a bug")

    server = await start(handle)
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    answer = await call(server.path, "status")
    assert (answer.ok, answer.exit_code) == (False, 70)
    assert "its log says more" in answer.lines[0]
    assert "a bug" not in answer.lines[0]
    assert server.counts["failed"] == 1
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


async def test_a_handler_runs_to_its_end_when_its_client_is_gone(start: Start) -> None:
    release, ended = asyncio.Event(), asyncio.Event()

    async def handle(_request: Request, say: Say) -> Answer:
        await release.wait()
        await say("to nobody")
        ended.set()
        return Answer(True, 0)

    server = await start(handle)
    _reader, writer = await asyncio.open_unix_connection(server.path)
    writer.write(b'{"version":1,"verb":"kill"}\n')
    await until(lambda: bool(server._handling))
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.02)
    release.set()
    async with asyncio.timeout(5):
        await ended.wait()
    await until(lambda: not server._serving)


async def test_a_client_that_does_not_read_holds_up_no_handler(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "WRITE_S", 0.05)
    ended = asyncio.Event()

    async def handle(_request: Request, say: Say) -> Answer:
        for _ in range(2_000):
            await say("x" * 1_000)
        ended.set()
        return Answer(True, 0)

    server = await start(handle)
    async with idle(server.path, 1):
        reader, writer = await asyncio.open_unix_connection(server.path)
        writer.transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
        writer.write(b'{"version":1,"verb":"kill"}\n')
        async with asyncio.timeout(5):
            await ended.wait()
        assert server.counts["lines_dropped"] > 0
        await until(lambda: len(server._serving) == 1)  # the idle one: the other was given up
        writer.transport.resume_reading()  # pyright: ignore[reportAttributeAccessIssue]
        assert b'"answer"' not in await reader.read()
        writer.close()


async def test_beats_keep_a_long_verb_apart_from_a_hung_daemon(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "BEAT_S", 0.02)

    async def handle(request: Request, _say: Say) -> Answer:
        await asyncio.sleep(1.0)
        return Answer(True, 0, [request.verb])

    server = await start(handle)
    assert (await call(server.path, "kill", silence_s=0.7)).ok


async def test_a_hung_daemon_is_told_from_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "s"))
        hung.listen(0)
        with pytest.raises(ControlError, match=r"silent for 0\.05 s") as raised:
            await call(tmp_path / "s", "kill", silence_s=0.05)
        assert not isinstance(raised.value, NoDaemon)


async def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match="no daemon answers at"):
        await call(tmp_path / "s", "status")
    with pytest.raises(NoDaemon):
        await call(tmp_path / "absent" / "s", "status")
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "s"))
    with pytest.raises(NoDaemon):
        await call(tmp_path / "s", "status")


@pytest.mark.parametrize(
    ("said", "message"),
    [(b"", "without an answer"), (b"what?\n", "cannot read"), (b'{"type":"new"}\n', "cannot read")],
)
async def test_an_answer_that_makes_no_sense(tmp_path: Path, said: bytes, message: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(said)
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "s")
    with pytest.raises(ControlError, match=message):
        await call(tmp_path / "s", "status")
    server.close()


async def test_a_status_larger_than_a_request_gets_through(start: Start) -> None:
    long = picture(why_not_quoting=["x" * 300_000])

    async def handle(_request: Request, _say: Say) -> Answer:
        return Answer(True, 0, [], long)

    server = await start(handle)
    assert (await call(server.path, "status")).status == long
    assert len(msgspec.json.encode(long)) < control_client.ANSWER_MAX_BYTES


async def test_a_socket_left_behind_is_taken_over_and_a_living_one_is_not(start: Start, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "control.sock"))
    server = await start(echo)
    with pytest.raises(ControlError, match="another process answers there"):
        await ControlServer(server.path, echo).start()
    assert (await call(server.path, "status")).ok


async def test_a_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ControlError, match="move it away"):
        await ControlServer(path, echo).start()
    assert path.read_text(encoding="utf-8") == "mine"


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="No such file or directory"):
        await ControlServer(tmp_path / "absent" / "s", echo).start()


async def test_a_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["a-rather-long-name-of-a-folder"] * 6)
    folder.mkdir(parents=True)
    server = ControlServer(folder / "control.sock", echo)
    await server.start()
    assert (folder / "control.sock").is_socket()
    assert (await call(server.path, "status")).ok
    with pytest.raises(ControlError, match="another process answers"):
        await ControlServer(server.path, echo).start()
    await server.close()
    assert not server.path.exists()
    with pytest.raises(NoDaemon):
        await call(server.path, "status")


async def test_close_ends_what_is_at_work_and_removes_the_socket(start: Start) -> None:
    async def handle(_request: Request, _say: Say) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    server = await start(handle)
    asked = asyncio.create_task(call(server.path, "flatten"))
    await until(lambda: bool(server._handling))
    async with idle(server.path, 1) as (reader,):
        await until(lambda: bool(server._reading))
        await server.close(grace_s=0.0)
        assert await reader.read() == b""
    answer = await asked
    assert not answer.ok
    assert "stopping" in answer.lines[0]
    assert not server.path.exists()
    await server.close()  # twice is as good as once


async def test_close_lets_an_answer_out_within_its_grace(start: Start) -> None:
    async def handle(_request: Request, _say: Say) -> Answer:
        await asyncio.sleep(0.05)
        return Answer(True, 0)

    server = await start(handle)
    asked = asyncio.create_task(call(server.path, "pause"))
    await until(lambda: bool(server._handling))
    await server.close(grace_s=5.0)
    assert (await asked).ok
