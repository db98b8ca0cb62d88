"""Log lines as they come out: their form, what is blotted out, and that nobody waits for them."""

import base64
import io
import json
import logging as standard
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loguru import logger

from mmdaemon.ops import logging

SECRET = 's3cr"t/k+y\\z'


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    root = standard.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logger.remove()


def logged(*, level: str = "INFO", secrets: tuple[str, ...] = ()) -> tuple[io.StringIO, logging.LogWriter]:
    stream = io.StringIO()
    return stream, logging.setup(level, stream, secrets=secrets, threaded=False)


def test_a_line_for_people() -> None:
    stream, _ = logged()
    logger.info("guard", before="running", reasons="book, clock", none=None, empty="", px=1.5)
    line = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO     (.*)\n", stream.getvalue())
    assert line is not None
    assert line[1] == 'guard before=running reasons="book, clock" none=None empty="" px=1.5'


def test_levels() -> None:
    stream, _ = logged(level="warning")
    logger.info("unseen")
    logger.warning("seen")
    assert "unseen" not in stream.getvalue()
    assert "WARNING  seen\n" in stream.getvalue()
    with pytest.raises(ValueError, match="'LOUD': there are TRACE, DEBUG"):
        logging.setup("LOUD")


@pytest.mark.parametrize(
    "hostile", ["a\nFAKE line", "\x1b[2Jgone", "\x9b31m", "back\rover", "sep\u2028arated", 'q"uo=te']
)
def test_an_event_is_one_line_whatever_a_venue_says(hostile: str) -> None:
    stream, _ = logged()
    logger.warning(hostile.replace("{", ""), reason=hostile)
    text = stream.getvalue()
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert json.loads(text[:-1].rpartition(" reason=")[2]) == hostile


def test_a_traceback_shows_no_values_and_no_control_characters() -> None:
    stream, _ = logged()
    try:
        key = "value-of-a-variable"
        raise ValueError("\x1b[31mred", len(key))
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    assert "Traceback" in text
    assert "ValueError" in text
    assert "value-of-a-variable" not in text.replace('key = "value-of-a-variable"', "")
    assert "\x1b" not in text


def test_while_journald_is_away_systemd_s_prefixes_stand_before_every_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stderr"
    with path.open("w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        writer = logging.setup("TRACE", stream, threaded=False, journal=tmp_path / "nobody")
        for level in logging.LEVELS:
            logger.log(level, "event", order=7)
        try:
            raise ValueError("x")
        except ValueError:
            logger.exception("failed")
        writer.close()
    assert (writer.detoured, writer.dropped) == (8, 0)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:7] == [f"<{n}>event order=7" for n in (7, 7, 6, 5, 4, 3, 2)]
    assert lines[7] == "<3>failed"
    assert len(lines) > 9
    assert all(line.startswith("<3>") for line in lines[7:])


def test_journal_stream_must_name_this_very_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "a").open("w") as one, (tmp_path / "b").open("w") as other:
        found = os.fstat(other.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert logging.is_journal(other)
        assert not logging.is_journal(one)
        assert not logging.is_journal(io.StringIO())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not logging.is_journal(other)


def test_a_secret_is_blotted_out_however_it_comes_in() -> None:
    stream, _ = logged(secrets=(SECRET, "other-secret"))
    logger.info("signed", key=SECRET, url=f"https://x/?k={quote(SECRET, safe='')}", header=[SECRET], json={"k": SECRET})
    logger.info("basic", auth=base64.b64encode(SECRET.encode()).decode())
    logger.info(f"text {SECRET} and other-secret".replace("{", ""))
    standard.getLogger("aiohttp").error("GET /?k=%s", SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    assert text.count(logging.BLOT) == 9
    for shown in (text, unescaped(text), unescaped(unescaped(text))):
        for form in (SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode(), "other-secret"):
            assert form not in shown


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


@settings(max_examples=100, deadline=None)
@given(secrets=st.lists(st.text(min_size=6, max_size=20), min_size=1, max_size=4), around=st.text(max_size=5))
def test_no_secret_survives(secrets: list[str], around: str) -> None:
    redact = logging.redactor(secrets)
    cleaned = redact(around + "|".join(secrets) + repr(secrets) + json.dumps(repr(secrets)) + around)
    # A secret made of blots and what stands between them cannot be told from them.
    assert all(secret not in cleaned for secret in secrets if not set(secret) <= set(logging.BLOT + "|" + around))


def test_a_secret_that_begins_another_leaves_no_rest() -> None:
    assert logging.redactor(["abcdef", "abcdefghij"])("k=abcdefghij") == "k=***"


def test_a_secret_too_short_to_be_told_apart_is_refused_without_saying_it() -> None:
    with pytest.raises(ValueError, match="5 characters") as raised:
        logging.redactor(["short"])
    assert "short" not in str(raised.value)


def test_standard_logging_comes_out_here_from_warning_on() -> None:
    stream, _ = logged()
    standard.getLogger("asyncio").warning("took %s {braces}", "long")
    standard.getLogger("asyncio").info("unseen")
    assert stream.getvalue().endswith("WARNING  took long {braces} logger=asyncio\n")
    assert "unseen" not in stream.getvalue()


class Stalled(io.StringIO):
    """A stream that nobody reads until `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.stuck = threading.Event()

    def write(self, text: str) -> int:
        self.stuck.set()
        self.go.wait(10)
        return super().write(text)


def test_a_stalled_stream_holds_nobody_up_and_losses_are_counted_and_said() -> None:
    stream = Stalled()
    writer = logging.setup("INFO", stream)
    logger.info("first")
    assert stream.stuck.wait(10)
    for number in range(logging.QUEUE_LINES + 25):  # one call that waited would hang here
        logger.info("line", number=number)
    assert writer.dropped == 25
    stream.go.set()
    while "log_lines_dropped" not in stream.getvalue():
        time.sleep(0.005)
    writer.close()
    assert stream.getvalue().count(" line number=") == logging.QUEUE_LINES
    assert "log_lines_dropped total=25" in stream.getvalue()


def test_close_writes_what_waits() -> None:
    stream = io.StringIO()
    writer = logging.setup("INFO", stream)
    for number in range(1_000):
        logger.info("line", number=number)
    writer.close()
    writer.close()
    assert stream.getvalue().count("\n") == 1_000


def test_a_stream_that_is_gone_is_counted_and_harms_nobody() -> None:
    stream, writer = logged()
    stream.close()
    logger.info("lost")
    assert writer.dropped == 1


def test_lines_reach_stderr_when_the_process_ends() -> None:
    code = "from mmdaemon.ops import logging\nfrom loguru import logger\nlogging.setup()\nlogger.info('last', n=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("INFO     last n=1\n")
