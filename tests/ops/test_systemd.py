"""What systemd is told: over a real datagram socket, by a path and by an abstract name."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from mmdaemon.ops import systemd
from mmdaemon.ops.systemd import STATUS_MAX_CHARS, Notifier, ServiceWatch, Standing


class Listener:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}

    def heard(self) -> list[dict[str, str]]:
        """Each datagram since the last look, by variable."""
        found: list[dict[str, str]] = []
        while True:
            try:
                text = self.socket.recv(65_536).decode()
            except BlockingIOError:
                return found
            found.append(dict(line.split("=", 1) for line in text.split("\n")))


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    address = f"@mmdaemon-test-{uuid4().hex}" if request.param == "abstract" else str(tmp_path / "notify")
    it = Listener(address)
    with closing(it.socket):
        yield it


class Daemon:
    """What a watch looks at."""

    def __init__(self, listener: Listener) -> None:
        self.seq = 0
        self.stands = Standing("", "starting")
        self.notifier = Notifier(listener.environ)
        self.watch = ServiceWatch(self.notifier, lambda: self.seq, lambda: self.stands)

    def beat(self, *, progress: int = 0) -> None:
        self.seq += progress
        self.watch.beat()


def test_without_a_socket_there_is_nobody_to_tell() -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"WATCHDOG_USEC": "1000"}):
        notifier = Notifier(dict(environ))
        notifier.tell(READY=1)
        assert (bool(notifier), notifier.watchdog_s, notifier.failed) == (False, 0.0, 0)
        asyncio.run(ServiceWatch(notifier, lambda: 0, lambda: pytest.fail("nobody asked")).run())


def test_the_variables_are_taken_out_of_the_environment(listener: Listener) -> None:
    environ = {**listener.environ, "HOME": "/"}
    assert Notifier(environ)
    assert environ == {"HOME": "/"}


def test_the_watchdog_is_for_the_process_that_is_named(listener: Listener) -> None:
    assert Notifier(dict(listener.environ)).watchdog_s == 20
    assert Notifier({**listener.environ, "WATCHDOG_PID": "1"}).watchdog_s == 0
    assert Notifier({**listener.environ, "WATCHDOG_PID": ""}).watchdog_s == 20
    for odd in ("", "soon", "-5", "1.5", "\u0663"):
        assert Notifier({**listener.environ, "WATCHDOG_USEC": odd}).watchdog_s == 0


def test_a_text_is_one_line_and_short(listener: Listener) -> None:
    Notifier(listener.environ).tell(STATUS="a venue's\nword\r\nREADY=1 " + "x" * 1_000)
    (heard,) = listener.heard()
    assert heard.keys() == {"STATUS"}
    assert heard["STATUS"].startswith("a venue's word READY=1 x")
    assert len(heard["STATUS"]) == STATUS_MAX_CHARS


def test_a_manager_that_is_away_or_does_not_read_harms_nobody(listener: Listener) -> None:
    notifier = Notifier(listener.environ)
    for _ in range(2_000):  # a call that waited would hang here
        notifier.tell(WATCHDOG=1)
    listener.socket.close()
    before = notifier.failed
    notifier.tell(READY=1)
    assert notifier.failed == before + 1 > 1


def test_ready_once_and_status_whenever_it_changes(listener: Listener) -> None:
    daemon = Daemon(listener)
    daemon.beat()
    daemon.beat()
    assert listener.heard() == [{"STATUS": "starting"}]
    daemon.stands = Standing("trading", "running: both sides are quoted")
    daemon.beat()
    daemon.beat()
    daemon.stands = Standing("", "soft_pause: book")
    daemon.beat()
    daemon.stands = Standing("latched", "hard_stop")
    daemon.beat()
    assert listener.heard() == [
        {"READY": "1", "STATUS": "running: both sides are quoted"},
        {"STATUS": "soft_pause: book"},
        {"STATUS": "hard_stop"},
    ]
    assert daemon.watch.is_ready


def test_the_watchdog_is_fed_by_progress_and_by_nothing_else(listener: Listener) -> None:
    daemon = Daemon(listener)
    daemon.beat()
    listener.heard()
    daemon.beat(progress=1)
    daemon.beat(progress=1_000)
    assert listener.heard() == [{"WATCHDOG": "1"}] * 2
    for number in range(50):
        daemon.stands = Standing("trading", f"it looks well {number}")
        daemon.beat()
    assert all("WATCHDOG" not in heard for heard in listener.heard())
    daemon.beat(progress=1)
    assert listener.heard() == [{"WATCHDOG": "1"}]


def test_before_the_first_event_there_is_no_progress(listener: Listener) -> None:
    """What a journal brought back is no sign of life."""
    daemon = Daemon(listener)
    assert [heard for heard in (daemon.beat(), listener.heard())[1] if "WATCHDOG" in heard] == []


def test_it_looks_often_enough_for_the_watchdog(listener: Listener) -> None:
    for usec, pause_s in (("20000000", 1.0), ("2000000", 0.5), ("", 1.0)):
        notifier = Notifier({**listener.environ, "WATCHDOG_USEC": usec})
        assert ServiceWatch(notifier, lambda: 0, lambda: Standing("", "")).pause_s == pause_s


async def test_a_picture_that_cannot_be_drawn_ends_the_watch(listener: Listener) -> None:
    """And so the watchdog: nothing goes on feeding it."""

    def broken() -> Standing:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ServiceWatch(Notifier(listener.environ), lambda: 0, broken).run()


def test_a_stop_is_said_once_with_the_time_it_may_take(listener: Listener) -> None:
    daemon = Daemon(listener)
    daemon.stands = Standing("", "ending: the quoting controller died", 45.0)
    daemon.beat()
    daemon.beat()
    daemon.watch.stopping("stopping", 45.0)
    assert listener.heard() == [
        {"STOPPING": "1", "STATUS": "ending: the quoting controller died", "EXTEND_TIMEOUT_USEC": "45000000"}
    ]


def test_a_reload_ends_with_the_line_from_before(listener: Listener) -> None:
    daemon = Daemon(listener)
    daemon.stands = Standing("trading", "running")
    daemon.beat()
    listener.heard()
    daemon.watch.reloading()
    daemon.watch.reloaded()
    begun, done = listener.heard()
    assert begun["RELOADING"] == "1"
    assert begun["MONOTONIC_USEC"].isdigit()
    assert done == {"READY": "1", "STATUS": "running"}


def test_a_reload_before_it_is_ready_does_not_make_it_so(listener: Listener) -> None:
    daemon = Daemon(listener)
    daemon.watch.reloading()
    daemon.watch.reloaded()
    assert all("READY" not in heard for heard in listener.heard())


def test_a_reload_during_a_stop_does_not_make_it_ready_again(listener: Listener) -> None:
    daemon = Daemon(listener)
    daemon.stands = Standing("trading", "running")
    daemon.beat()
    daemon.watch.stopping("stopping", 16.0)
    listener.heard()
    daemon.watch.reloading()
    daemon.watch.reloaded()
    assert listener.heard() == []


def test_more_time_is_asked_for_while_a_large_journal_is_read_and_only_then(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(systemd, "ASK_S", 0.02)
    looks: list[int] = []
    stands = threading.Event()

    def read_bytes() -> int:
        looks.append(min(4, len(looks)))
        if len(looks) > 12:
            stands.set()
        return looks[-1] * 500_000_000  # five looks on it reads no more, as one that hangs

    with systemd.reading(Notifier(listener.environ), "starting: checked", 2_200_000_000, read_bytes=read_bytes):
        assert stands.wait(30)
    assert listener.heard() == [
        {"STATUS": f"starting: checked: {at} of 2.2 GB", "EXTEND_TIMEOUT_USEC": "240000"}
        for at in ("0.5", "1.0", "1.5", "2.0")
    ]
    assert systemd._bytes_read() > 0
