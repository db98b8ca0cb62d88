"""docs/FAULTS.md against the fault catalogue, against itself, and against the tests that it names."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "FAULTS.md"
CATALOGUE = {
    "Orders and venue": (
        "submit time-out; acknowledgement lost; request delivered seconds late; duplicate client id; "
        "duplicate fill; out-of-order updates; late fill after cancel; fill before acknowledgement; fills "
        "during a disconnect; partial fill racing a cancel; cancel rejected because filled; cancel of unknown "
        "id; cancel acknowledgement lost; orphans of a previous run; foreign orders; post-only rejected at "
        "REST or cancelled on the stream; insufficient margin; self-cross; reduce-only rejected; batch partly "
        "succeeded or failures dropped from the answer; liquidation or ADL fill; delisting; tick, lot or "
        "minimum changed; maintenance; 429 storm; ban; hedge mode; leverage changed outside; manual trade; "
        "funding at the boundary during a restart; fee tier changed; transfer in or out; HTML or empty 200; "
        "truncated pages; stale replica"
    ),
    "Market data": (
        "crossed or locked book; snapshot merged after reconnect; checksum or sequence gap; frozen book on a "
        "live socket; private stream silent while pings answer; NaN, infinite, zero, negative or absurd "
        "price; jump beyond collar; one side empty; wrong symbol; malformed, deep or huge message"
    ),
    "Clock": "skew beyond the signing window; step; UTC rollover; suspend; timestamps from the future",
    "Process": (
        "SIGTERM; SIGKILL or out of memory at any await; crash loop; loop stall; garbage-collector pause; "
        "memory growth; a task that dies silently; swallowed cancellation; descriptor leak; two daemons; "
        "version mismatch"
    ),
    "Disk": "busy; full or read-only; killed in mid-commit; torn tail; corrupt page; slow sync",
    "Operator, configuration, secrets": (
        "typo or wrong unit; limits above the ceiling; resume with breaks open; hostile local client; secret "
        "leak; key revoked or widened"
    ),
    "Strategy": "runaway requoting or inventory loop",
}
"""Section 6 of the safety design, word for word."""
LEVELS = ("L0", "L1", "L2", "L3")
ON_THE_WIRE = "`emulated/"


def rows() -> list[tuple[str, list[str]]]:
    """(section, cells) of every row of the page."""
    section, found = "", []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| id ", "| --- ")):
            found.append((section, [cell.strip() for cell in line.strip("|").split("|")]))
    return found


@cache
def functions(path: Path) -> frozenset[str]:
    """Names of the tests of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_fault_of_the_catalogue_has_its_row_in_order() -> None:
    expected = [(section, fault) for section, text in CATALOGUE.items() for fault in text.split("; ")]
    assert [(section, cells[1]) for section, cells in rows()] == expected


def test_ids_are_unique_and_count_up_by_section() -> None:
    ids = [cells[0] for _, cells in rows()]
    assert len(set(ids)) == len(ids) == 74
    letters = dict(zip(CATALOGUE, "VMCPDOS", strict=True))
    for section, letter in letters.items():
        of_section = [cells[0] for where, cells in rows() if where == section]
        assert of_section == [f"{letter}{i:02}" for i in range(1, len(of_section) + 1)]


@pytest.mark.parametrize(("section", "cells"), rows(), ids=lambda value: value[0] if isinstance(value, list) else "")
def test_a_row_is_whole_and_its_tests_exist(section: str, cells: list[str]) -> None:
    assert len(cells) == 5, section
    name, _, levels, must, tests = cells
    assert levels.split(), name
    assert all(level in LEVELS for level in levels.split()), name
    assert len(must) > 10, name
    named = tests.split("<br>")
    for test in named:
        assert re.fullmatch(r"`[\w/]+\.py::test_\w+`", test), f"{name}: {test}"
        path, _, function = test.strip("`").partition("::")
        file = ROOT / "tests" / path
        assert file.is_file(), f"{name}: no such file: tests/{path}"
        assert function in functions(file), f"{name}: no such test: {test}"
    assert ("L2" in levels.split()) == any(test.startswith(ON_THE_WIRE) for test in named), f"{name}: L2 and its test"
    assert len(set(named)) == len(named), name
