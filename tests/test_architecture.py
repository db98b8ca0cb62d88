"""Rules of the tree that no linter knows; the directions of imports are import-linter's (pyproject.toml).

Each rule is a function from source to the lines that break it, and each is first shown a breach, so that a rule that
sees nothing cannot pass.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mmdaemon"
CORE = PACKAGE / "core"

# The standard library's pure parts. A value says which core modules alone may import the key.
CORE_MAY_IMPORT: dict[str, frozenset[str] | None] = {
    "__future__": None,
    "bisect": None,
    "collections": None,
    "collections.abc": None,
    "dataclasses": None,
    "decimal": frozenset({"types.py"}),
    "enum": None,
    "functools": None,
    "hashlib": frozenset({"digest.py"}),
    "itertools": None,
    "math": None,
    "msgspec": None,
    "typing": None,
}
# `id` and `hash` differ from run to run, so no order may come from them; the others reach outside.
CORE_MUST_NOT_CALL = frozenset({"__import__", "breakpoint", "eval", "exec", "hash", "id", "input", "open", "print"})

NAMES_THAT_SAY_NOTHING = frozenset({"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"})
MAX_LINES = 400

# The supervisor boundaries: where any failure of the code below must be counted and turned into a health fact or an
# exit code. Adding one is a decision about safety: name the module here ("daemon/wire.py") and silence ruff's BLE001 on
# the line itself.
SUPERVISOR_BOUNDARIES: frozenset[str] = frozenset({"cli/main.py", "venues/ccxt_client.py", "venues/links.py"})

Rule = Callable[[str, str], list[str]]


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def tree(source: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(source))


def impure_imports(source: str, name: str) -> list[str]:
    """Imports outside the allow-list, wherever they stand: in functions and under TYPE_CHECKING too."""
    breaches: list[str] = []
    for node in tree(source):
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                imported = [module]
            case ast.ImportFrom():
                imported = ["a relative import"]
            case _:
                continue
        for module in imported:
            if module == "mmdaemon.core" or module.startswith("mmdaemon.core."):
                continue
            only = CORE_MAY_IMPORT.get(module, frozenset())
            if only is not None and name not in only:
                breaches.append(f"line {node.lineno}: imports {module}")
    return breaches


def suspensions(source: str, name: str) -> list[str]:
    """Anything that could suspend `step`."""
    kinds = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    found = [f"line {node.lineno}: {type(node).__name__}" for node in tree(source) if isinstance(node, kinds)]
    return found + [
        f"line {node.target.lineno}: async comprehension"
        for node in tree(source)
        if isinstance(node, ast.comprehension) and node.is_async
    ]


def impure_calls(source: str, name: str) -> list[str]:
    return [
        f"line {node.lineno}: calls {node.func.id}()"
        for node in tree(source)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CORE_MUST_NOT_CALL
    ]


def blind_handlers(source: str, name: str) -> list[str]:
    """`except:`, `except Exception` and `except BaseException`, alone or in a tuple."""
    found: list[str] = []
    for node in tree(source):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        if any(each is None or ast.unparse(each).split(".")[-1] in {"Exception", "BaseException"} for each in caught):
            found.append(f"line {node.lineno}: {'except ' + ast.unparse(node.type) if node.type else 'bare except'}")
    return found


@pytest.mark.parametrize(
    ("rule", "breach"),
    [
        (impure_imports, "import time"),
        (impure_imports, "import mmdaemon.venues"),
        (impure_imports, "import mmdaemon.corefoo"),
        (impure_imports, "from . import types"),
        (impure_imports, "def f():\n    from os import urandom"),
        (impure_imports, "from decimal import Decimal"),
        (impure_imports, "import hashlib"),
        (suspensions, "async def f(): pass"),
        (suspensions, "async def f():\n    await g()"),
        (suspensions, "f = [x async for x in y]"),
        (impure_calls, "key = id(order)"),
        (impure_calls, "print(1)"),
        (blind_handlers, "try: f()\nexcept: pass"),
        (blind_handlers, "try: f()\nexcept Exception as error: pass"),
        (blind_handlers, "try: f()\nexcept (ValueError, builtins.BaseException): pass"),
    ],
)
def test_each_rule_sees_a_breach(rule: Rule, breach: str) -> None:
    assert rule(breach, "book.py")


def test_rules_pass_what_is_allowed() -> None:
    source = "from mmdaemon.core.types import Side\nimport msgspec\ntry: f()\nexcept (ValueError, KeyError): raise"
    for rule in (impure_imports, suspensions, impure_calls, blind_handlers):
        assert rule(source, "book.py") == []
    assert impure_imports("from decimal import Decimal", "types.py") == []
    assert impure_imports("import hashlib", "digest.py") == []


def test_the_tree_is_there() -> None:
    assert PACKAGE / "__init__.py" in modules(PACKAGE)
    assert CORE / "__init__.py" in modules(CORE)


@pytest.mark.parametrize("rule", [impure_imports, suspensions, impure_calls])
def test_the_core_is_pure(rule: Rule) -> None:
    breaches = {
        str(path.relative_to(PACKAGE)): found
        for path in modules(CORE)
        if (found := rule(path.read_text(encoding="utf-8"), path.name))
    }
    assert breaches == {}


def test_blind_handlers_stand_at_supervisor_boundaries_only() -> None:
    catching = {
        path.relative_to(PACKAGE).as_posix(): found
        for path in modules(PACKAGE)
        if (found := blind_handlers(path.read_text(encoding="utf-8"), path.name))
    }
    outside = {path: found for path, found in catching.items() if path not in SUPERVISOR_BOUNDARIES}
    assert outside == {}, "catch what you expect by name, or make it a supervisor boundary"
    assert set(catching) == SUPERVISOR_BOUNDARIES, "these boundaries catch nothing; take them off the list"


def test_names_say_what_is_inside() -> None:
    words = {
        path: set("_".join(path.relative_to(PACKAGE).with_suffix("").parts).split("_")) for path in modules(PACKAGE)
    }
    empty = [path.relative_to(PACKAGE).as_posix() for path in words if words[path] & NAMES_THAT_SAY_NOTHING]
    assert empty == [], "name it after what it holds"


def test_modules_are_short() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(PACKAGE)}
    long = {path.relative_to(PACKAGE).as_posix(): lines for path, lines in lengths.items() if lines > MAX_LINES}
    assert long == {}, f"more than {MAX_LINES} lines: split by noun"
