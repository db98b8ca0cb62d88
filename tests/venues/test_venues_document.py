"""docs/VENUES.md: each pitfall has tests, and they are there; the lines of the preflight are those that it shows."""

import re
from pathlib import Path

from mmdaemon.settings.credentials import file_names
from mmdaemon.venues import probe
from mmdaemon.venues.differences import VENUES, Sandbox

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "VENUES.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[list[str]]:
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    assert len(lines) > 2, heading
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_every_pitfall_has_tests_that_are_there() -> None:
    table = rows("Pitfalls")
    assert len(table) >= 55
    for pitfall, done, tests in table:
        assert pitfall
        assert done
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        assert named, pitfall
        for path, name in named:
            source = (ROOT / "tests" / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{path}::{name}"


def test_no_test_of_a_pitfall_is_left_out() -> None:
    source = (ROOT / "tests" / "emulated" / "test_pitfalls.py").read_text(encoding="utf-8")
    for name in re.findall(r"^(?:async )?def (test_\w+)\(", source, re.MULTILINE):
        assert f"`emulated/test_pitfalls.py::{name}`" in TEXT


def test_the_lines_of_the_preflight_are_shown() -> None:
    shown = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in rows("To be verified on demo trading"))))
    source = Path(probe.__file__).read_text(encoding="utf-8")
    checks = set(re.findall(r'^ +\("(\w+)", ', source, re.MULTILINE))
    assert len(checks) > 8
    assert shown == checks | {"contract_BTCUSDT", "contract_ETHUSDT", "left_behind"}


def test_the_other_exchanges_are_those_of_the_table() -> None:
    table = {row[0]: row for row in rows("Other exchanges")}
    assert list(table) == list(VENUES)
    for name, (_, sandbox, countdown, passphrase) in table.items():
        row = VENUES[name]
        assert ("header" in sandbox) == (row.sandbox is Sandbox.DEMO_HEADER)
        assert ("enable_demo_trading" in sandbox) == (row.sandbox is Sandbox.DEMO)
        assert row.dead_man is not None
        assert ("implicit" in countdown or name == "bitget") == bool(row.dead_man.argument)
        assert (passphrase == "yes") == (len(file_names(name)) == 3)
