"""Five minutes of what `python -m tests.emulated.soak` does for an hour; and that it finds what it looks for.

Each run is two processes of its own, so that memory is that of a venue's client and of nothing else.
"""

import asyncio
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.emulated.built_in import WRONG

LOCKS = sorted(Path(__file__).resolve().parents[2].glob("requirements*.lock"))


async def soak(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Its exit code and report. Killed where the test ends before it does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.emulated.soak", *arguments,
        cwd=Path(__file__).resolve().parents[2], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode in (0, 1), err.decode()
    assert not err, err.decode()
    return process.returncode, json.loads(out)


@pytest.mark.timeout(480)
@pytest.mark.parametrize(("account", "minutes", "cuts"), [("unified", 5.0, 5), ("classic", 1.5, 4)])
async def test_a_bursty_market_loses_nothing_leaks_nothing_and_never_stalls(
    account: str, minutes: float, cuts: int
) -> None:
    code, report = await soak("--account", account, "--minutes", str(minutes), "--cuts", str(cuts), "--warm-up", "60")
    assert (code, report["wrong"], report["examples"]) == (0, {}, [])
    assert report["cuts"] == cuts
    assert report["told"]["books"] > minutes * 60 * 1_000


FOUND = {
    ("accounting", ""): {
        "the queue believes in bytes that are not there",
        "the connection is paused with nothing in its queue",
    },
    ("book kept", "refused"): {"a book is not the venue's"},
    ("gap believed", "gap"): {"a book is not the next", "a link was cut and did not go"},
    ("frames kept", ""): {"memory grew"},
    ("frames lost", ""): {"a book is not the next"},
    ("old frames", "close frame"): {"a book was told after the cut"},
}
"""What is found, by the defect and how the link is cut: a book that is kept differs once the venue's has moved on, so
that link stays away for seconds."""
MINUTES = {"accounting": 0.4, "frames kept": 0.4}
"""Of what has to pile up; a fifth of a minute is enough for the others."""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("wrong", "how"), FOUND)
async def test_a_defect_that_is_built_in_is_found(wrong: str, how: str) -> None:
    asked = ("--wrong", wrong, "--minutes", str(MINUTES.get(wrong, 0.2)), "--warm-up", "2")
    code, report = await soak(*asked, *(("--cuts", "1", "--how", how) if how else ("--cuts", "0")))
    assert code == 1
    assert report["wrong"].keys() >= FOUND[wrong, how], report


def test_every_defect_that_can_be_built_in_is_tried() -> None:
    assert {wrong for wrong, _ in FOUND} == WRONG.keys()


def test_the_locks_pin_the_aiohttp_that_was_soaked() -> None:
    """From 3.14.4 on a queued message counts more than its bytes: who takes it out behind aiohttp's back must know."""
    assert {path.name for path in LOCKS} == {"requirements.lock", "requirements-dev.lock"}
    pinned = {found for path in LOCKS for found in re.findall(r"^aiohttp==([0-9.]+)", path.read_text(), re.MULTILINE)}
    assert pinned == {version("aiohttp")}, "what is installed, and so tested, is what is locked"
    assert tuple(map(int, version("aiohttp").split("."))) < (3, 14, 4)
