"""The mutator of the bench: each kind of defect once, nothing that is no other program, and nothing in place."""

import ast
from pathlib import Path

import pytest

from tests.bench.mutants import MIRRORS, ROOT, write
from tests.bench.mutating import mutants_of

LIMITS = "mmdaemon/core/limits.py"

SOURCE = '''
"""Text."""
from mmdaemon.core.types import Side

MOST = 3
A, B = Side.BUY, Side.SELL


def rule(held: int, wanted: int = 0) -> bool:
    """Text."""
    if not held and wanted:
        return False
    if held < MOST:
        raise ValueError(f"{held + 1} is too much")
    return min(held, abs(wanted)) == 2 or wanted is None


class Book:
    total: int = 0

    def add(self, side: Side, n: int) -> None:
        self.total += side * n if side is Side.BUY else 0.5
        self.last = [side]
        self.add(A, n)
'''


def whats() -> list[str]:
    return [mutant.what for mutant in mutants_of(LIMITS, SOURCE)]


@pytest.mark.parametrize(
    "what",
    [
        "module: constant: `3` -> `4`",
        "module: constant: `3` -> `(2)`",
        "rule: constant: `0` -> `1`",
        "rule: negated: `not held and wanted` -> `(not (not held and wanted))`",
        "rule: and/or: `not held and wanted` -> `(not held or wanted)`",
        "rule: condition left out: `not held and wanted` -> `(wanted)`",
        "rule: operator left out: `not held` -> `(held)`",
        "rule: constant: `False` -> `True`",
        "rule: comparison: `held < MOST` -> `(held <= MOST)`",
        "rule: comparison: `held < MOST` -> `(held >= MOST)`",
        'rule: left out: `raise ValueError(f"{held + 1} is too much")` -> `pass`',
        "rule: negated: `min(held, abs(wanted)) == 2 or wanted is None` "
        "-> `(not (min(held, abs(wanted)) == 2 or wanted is None))`",
        "rule: min/max: `min(held, abs(wanted))` -> `(max(held, abs(wanted)))`",
        "rule: limit left out: `min(held, abs(wanted))` -> `(held)`",
        "rule: abs left out: `abs(wanted)` -> `(wanted)`",
        "rule: comparison: `wanted is None` -> `(wanted is not None)`",
        "Book: constant: `0` -> `(-1)`",
        "Book.add: left out: `self.total += side * n if side is Side.BUY else 0.5` -> `pass`",
        "Book.add: not added: `self.total += side * n if side is Side.BUY else 0.5` "
        "-> `self.total = side * n if side is Side.BUY else 0.5`",
        "Book.add: arithmetic: `side * n` -> `(side // n)`",
        "Book.add: member: `Side.BUY` -> `Side.SELL`",
        "Book.add: constant: `0.5` -> `1.0`",
        "Book.add: left out: `self.last = [side]` -> `pass`",
        "Book.add: left out: `self.add(A, n)` -> `pass`",
    ],
)
def test_makes_each_kind(what: str) -> None:
    assert whats().count(what) == 1


def test_leaves_text_annotations_and_what_is_said_in_an_error_alone() -> None:
    assert not [what for what in whats() if "Text" in what or "held + 1 -" in what or "`Side`" in what]


def test_a_name_that_the_module_gave_a_member_becomes_another_of_its_names() -> None:
    source = (ROOT / "mmdaemon/core/orders.py").read_text(encoding="utf-8")
    made = [mutant.what for mutant in mutants_of("mmdaemon/core/orders.py", source, {"_live_on"})]
    assert "_live_on: member: `UNKNOWN` -> `FILLED`" in made
    assert all(what.startswith("_live_on: ") for what in made)


@pytest.mark.parametrize("module", MIRRORS)
def test_every_mutant_of_the_safety_code_is_another_program_with_an_id_of_its_own(module: str) -> None:
    source = (ROOT / module).read_text(encoding="utf-8")
    mutants = mutants_of(module, source)
    forms = {ast.dump(ast.parse(mutant.source)) for mutant in mutants}
    assert len(forms) == len(mutants) > 50
    assert ast.dump(ast.parse(source)) not in forms
    assert len({mutant.id for mutant in mutants}) == len(mutants)


def test_an_id_outlasts_a_change_elsewhere() -> None:
    moved = SOURCE.replace("MOST = 3", "OTHER = 8\nMOST = 3")
    ids = {mutant.id for mutant in mutants_of(LIMITS, moved)}
    assert ids >= {mutant.id for mutant in mutants_of(LIMITS, SOURCE)}


def test_a_compiled_file_of_the_mutant_before_is_not_taken_for_the_next(tmp_path: Path) -> None:
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    for name in ("rule.cpython-311.pyc", "rule.cpython-311-pytest.pyc", "rules.cpython-311.pyc"):
        (cache / name).touch()
    write(tmp_path / "rule.py", "x = 1\n")
    assert [path.name for path in cache.iterdir()] == ["rules.cpython-311.pyc"]
    assert (tmp_path / "rule.py").read_text() == "x = 1\n"
