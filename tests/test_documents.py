"""docs/GUARDS.md and docs/CLI.md say what the code says: as generated, and complete."""

import re
from pathlib import Path

import pytest

from mmdaemon.cli.documents import cli_markdown, documents, guards_markdown
from mmdaemon.cli.main import VERBS
from mmdaemon.core import guard
from mmdaemon.core.orders import LIFE
from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import OrderStatus
from mmdaemon.daemon import kill_switch

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("path", documents(ROOT), ids=lambda path: path.name)
def test_documents_are_as_generated(path: Path) -> None:
    text = documents(ROOT)[path]
    assert path.read_text(encoding="utf-8") == text, "run `python -m mmdaemon.cli.documents`"


def section(title: str) -> str:
    return guards_markdown().split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_reason_has_a_row() -> None:
    rows = [line.split("`")[1] for line in section("Reasons").splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize(
    ("title", "moves"),
    [
        ("Guard", guard.TRANSITIONS),
        ("Kill switch", kill_switch.TRANSITIONS),
        ("Orders", {pair for pair in LIFE if pair[0] is not pair[1]}),
    ],
)
def test_diagram_and_table_have_each_move_and_no_other(title: str, moves: frozenset[tuple[str, str]]) -> None:
    text = section(title)
    drawn = re.findall(r"^    (\w+) --> (\w+)$", text, re.MULTILINE)
    assert sorted(drawn) == sorted((str(a), str(b)) for a, b in moves)
    head, _, *rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    crossed = {(row[0], to) for row in rows for to, cell in zip(head[1:], row[1:], strict=True) if cell == "x"}
    assert {(a, b) for a, b in crossed if a != b} == set(drawn)


def test_what_ends_is_drawn_to_end() -> None:
    ends = set(re.findall(r"^    (\w+) --> \[\*\]$", section("Orders"), re.MULTILINE))
    assert ends == {status.value for status in OrderStatus if status.is_terminal}
    assert "stopping --> [*]" in section("Guard")


def test_every_verb_is_there_with_its_flags() -> None:
    text = cli_markdown()
    for name, verb in VERBS.items():
        assert f"\n## {name}\n" in text
        assert verb.summary in text
    assert "--last-fill" in text
    assert "Exits with 0 where decisions were checked and everything agrees" in text
    assert str(ROOT.parent) not in text
