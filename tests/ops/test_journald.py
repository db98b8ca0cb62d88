"""The native protocol: against a socket of ours, and against a real journald where one can be begun."""

import array
import io
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from mmdaemon.ops import journald, logging

SECRET = "canary-of-the-journal"


def decoded(entry: bytes) -> dict[str, str]:
    """By the protocol's words, without our code."""
    fields: dict[str, str] = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(entry[:8], "little")
            value, entry = entry[8 : 8 + size], entry[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(10)
        yield listening


@pytest.fixture
def written(journal: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.LogWriter]:
    """Logging as systemd begins it: stderr is what `JOURNAL_STREAM` names."""
    with (tmp_path / "stderr").open("w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        writer = logging.setup("INFO", stream, secrets=(SECRET,), threaded=False, journal=tmp_path / "socket")
        yield writer
        logger.remove()
        writer.close()


def received(journal: socket.socket) -> dict[str, str]:
    """The next entry, from the datagram or from the memory file it brought."""
    data, ancillary, _, _ = journal.recvmsg(1 << 20, socket.CMSG_SPACE(4))
    if data:
        return decoded(data)
    ((_, _, passed),) = ancillary
    (fd,) = array.array("i", passed)
    with os.fdopen(fd, "rb") as file:
        file.seek(0)
        return decoded(file.read())


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text(max_size=50), max_size=8))
def test_what_is_encoded_is_what_is_read(fields: dict[str, str]) -> None:
    expected = {name: text.encode("utf-8", "backslashreplace").decode() for name, text in fields.items()}
    assert decoded(journald.encoded(fields)) == expected


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("reason", "MMDAEMON_REASON"),
        ("_PID", "MMDAEMON_PID"),
        ("a-b c", "MMDAEMON_A_B_C"),
        ("ä", "MMDAEMON_FIELD"),
        ("x" * 100, "MMDAEMON_" + "X" * 55),
    ],
)
def test_a_name_is_one_that_journald_takes(name: str, field: str) -> None:
    assert journald.field_name(name) == field
    assert len(field) <= journald.NAME_MAX_CHARS


def test_an_event_has_its_fields_its_id_and_the_stamp(journal: socket.socket, written: logging.LogWriter) -> None:
    written.stamp = lambda: {"symbol": "BTCUSDT", "run": 7, "guard": "running"}
    logger.bind(order="mmab-1-2", px="60000.5", reasons="book clock").info("fill")
    assert received(journal) == {
        "MESSAGE": 'fill order=mmab-1-2 px=60000.5 reasons="book clock"',
        "MESSAGE_ID": journald.message_id("fill"),
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "mmdaemon",
        "MMDAEMON_EVENT": "fill",
        "MMDAEMON_SYMBOL": "BTCUSDT",
        "MMDAEMON_RUN": "7",
        "MMDAEMON_GUARD": "running",
        "MMDAEMON_ORDER": "mmab-1-2",
        "MMDAEMON_PX": "60000.5",
        "MMDAEMON_REASON": "book clock",
    }


def test_message_ids_are_for_ever() -> None:
    """Rules of others name them: an id that changes is a rule that sees nothing."""
    assert journald.message_id("fill") == "910df086ec75509d8fa2d7fdeae9b838"
    assert journald.message_id("kill_switch") != journald.message_id("guard")


def test_a_traceback_is_one_entry(journal: socket.socket, written: logging.LogWriter) -> None:
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("failed")
    entry = received(journal)
    assert entry["PRIORITY"] == "3"
    assert entry["MESSAGE"].startswith("failed\nTraceback")
    assert entry["MESSAGE"].endswith("ValueError: no")


def test_words_of_others_are_no_event(journal: socket.socket, written: logging.LogWriter) -> None:
    logger.warning("Task was destroyed but it is pending!", logger="asyncio")
    entry = received(journal)
    assert "MMDAEMON_EVENT" not in entry
    assert "MESSAGE_ID" not in entry
    assert entry["MMDAEMON_LOGGER"] == "asyncio"


def test_a_secret_is_in_no_field(journal: socket.socket, written: logging.LogWriter) -> None:
    written.stamp = lambda: {"symbol": f"x{SECRET}"}
    logger.info("signed", key=SECRET, header=[SECRET], url=f"https://x/?k={SECRET}")
    entry = received(journal)
    assert not any(SECRET in text for text in entry.values())
    assert entry["MMDAEMON_KEY"] == logging.BLOT


def test_a_hostile_word_adds_no_field(journal: socket.socket, written: logging.LogWriter) -> None:
    logger.info("refused", word="x\nPRIORITY=0\nMMDAEMON_EVENT=fill")
    entry = received(journal)
    assert (entry["PRIORITY"], entry["MMDAEMON_EVENT"]) == ("6", "refused")
    assert entry["MMDAEMON_WORD"] == "x\\nPRIORITY=0\\nMMDAEMON_EVENT=fill"


def test_what_fits_into_no_datagram_goes_by_a_memory_file(
    journal: socket.socket, written: logging.LogWriter, tmp_path: Path
) -> None:
    many = {f"field_{number}": "x" * journald.VALUE_MAX_CHARS for number in range(8)}
    logger.bind(**many).info("large")
    entry = received(journal)
    assert all(entry[journald.field_name(name)] == text for name, text in many.items())
    assert (written.detoured, written.dropped) == (0, 0)


def test_a_value_beyond_all_measure_is_cut(journal: socket.socket, written: logging.LogWriter) -> None:
    logger.info("large", word="x" * (3 * journald.VALUE_MAX_CHARS))
    assert len(received(journal)["MMDAEMON_WORD"]) == journald.VALUE_MAX_CHARS


def test_while_journald_is_away_stderr_has_it_and_then_journald_again(
    journal: socket.socket, written: logging.LogWriter, tmp_path: Path
) -> None:
    journal.close()
    (tmp_path / "socket").unlink()
    logger.info("meanwhile", n=1)
    assert (tmp_path / "stderr").read_text() == "<6>meanwhile n=1\n"
    assert (written.detoured, written.dropped) == (1, 0)
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as back:
        back.bind(str(tmp_path / "socket"))
        back.settimeout(10)
        logger.info("again")
        assert received(back)["MESSAGE"] == "again"


def test_a_journald_that_stands_still_holds_nobody_up(
    journal: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "stderr").open("w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        writer = logging.setup("INFO", stream, journal=tmp_path / "socket")
        for number in range(logging.QUEUE_LINES + 5_000):  # a call that waited would hang here
            logger.info("line", n=number)
        assert writer.dropped > 0
        logger.remove()
        journal.close()  # and who waits for it goes on
        writer.close()


def test_without_journald_it_is_text_for_people() -> None:
    stream = io.StringIO()
    writer = logging.setup("INFO", stream, threaded=False)
    logger.info("guard", before="running")
    assert stream.getvalue().endswith("INFO     guard before=running\n")
    logger.remove()
    writer.close()


@pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/lib/systemd/systemd-journald").exists() or shutil.which("unshare") is None,
    reason="no journald can be begun here: it takes root, unshare and Debian's package systemd",
)
def test_journalctl_finds_an_event_by_its_field(tmp_path: Path) -> None:
    """A journald of the test's own: its socket, its files and its machine are in a mount namespace, on a tmpfs."""
    script = f"""
    set -e
    mount -t tmpfs -o mode=755 tmpfs /run
    mount -t tmpfs -o mode=755 tmpfs /var/log
    mount -o remount,bind,ro /
    mkdir -p /run/systemd/journal
    /lib/systemd/systemd-journald mmtest & pid=$!
    while ! test -S /run/systemd/journal.mmtest/socket; do sleep 0.05; done
    {sys.executable} - <<'PROGRAM'
import os, sys
from loguru import logger
from mmdaemon.ops import journald, logging
from pathlib import Path
found = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{{found.st_dev}}:{{found.st_ino}}"
writer = logging.setup(journal=Path("/run/systemd/journal.mmtest/socket"))
writer.stamp = lambda: {{"symbol": "BTCUSDT"}}
logger.info("guard", before="running")
logger.bind(order="mmab-1-2", word="two\\nlines").info("fill")
logger.bind(word="x" * 60_000, **{{f"f{{n}}": "y" * 60_000 for n in range(8)}}).info("large")
writer.close()
assert (writer.detoured, writer.dropped) == (0, 0)
PROGRAM
    journalctl --namespace=mmtest --sync
    journalctl --namespace=mmtest --no-pager -o cat MMDAEMON_EVENT=fill MMDAEMON_SYMBOL=BTCUSDT
    echo ---
    journalctl --namespace=mmtest --no-pager -o cat MESSAGE_ID={journald.message_id("large")} | wc -c
    kill $pid
    """
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "-p",
            "-f",
            "--mount-proc",
            "--kill-child=KILL",
            "--propagation",
            "private",
            "bash",
            "-c",
            script,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    fill, large = done.stdout.split("---\n")
    assert fill == 'fill order=mmab-1-2 word="two\\nlines"\n'
    assert int(large) > 60_000
