"""The documents speak of what is there: links, files, functions, `make` targets, verbs with their flags, tables.

Documents written by hand are held to all of it. Generated ones, and `docs/CONTRACTS.md`, which also speaks of what is
agreed but not built and says *(later)* beside it, are held to links, targets, verbs and machine paths.
"""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest
from cyclopts import CycloptsError

from mmdaemon.cli.main import VERBS, build
from mmdaemon.core.state import State

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mmdaemon"
BY_HAND = ("README.md", "docs/ARCHITECTURE.md", "docs/DETERMINISM.md", "docs/VENUES.md")
DOCUMENTS = tuple(
    sorted({*BY_HAND, "CHANGELOG.md", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))})
)

_LATER = re.compile(r"\([^()]*\blater\b[^()]*\)|`[^`]*` \*later\*")
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_FUNCTION = re.compile(r"([\w/]+\.py):([\w.]+)")
_PATH = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|md|toml|sql)|(?:[\w.-]+/)+")
_VERB = re.compile(r"(?:^|[\s/=])mmdaemon ([a-z][a-z-]*)(?=[\s,;:]|$)")
_MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|root|home|Users|tmp|opt|mnt)/")


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def code_of(text: str) -> list[str]:
    """Code spans, and the lines of code blocks without their comments. What is said to come later is left out."""
    blocks = [line for _, block in _FENCED.findall(text) for line in block.splitlines()]
    spans = _SPAN.findall(_LATER.sub("", _FENCED.sub("", text)))
    return [*spans, *(re.sub(r"(^|\s)#.*", "", line).strip() for line in blocks)]


def anchors_of(text: str) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", _FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(document: str, text: str) -> list[str]:
    broken: list[str] = []
    for target in _LINK.findall(_FENCED.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (ROOT / document).parent / path if path else ROOT / document
        known = there.resolve().is_relative_to(ROOT) and there.exists()
        if known and anchor:
            known = anchor in anchors_of(there.read_text(encoding="utf-8") if path else text)
        if not known:
            broken.append(target)
    return broken


def missing_targets(text: str) -> list[str]:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = [name for code in code_of(text) for name in re.findall(r"(?:^|\s)make ([a-z][a-z-]*)", code)]
    return [name for name in named if name not in targets]


def missing_verbs(text: str) -> list[str]:
    return [verb for code in code_of(text) for verb in _VERB.findall(code) if verb not in VERBS]


def refused_commands(text: str) -> list[str]:
    """Command lines that `mmdaemon` would not take: a verb, a flag or a value that is not there."""
    app = build()
    refused: list[str] = []
    for code in code_of(text):
        if not (_VERB.search(code) and (code.startswith("mmdaemon ") or ".venv/bin/mmdaemon " in code)):
            continue
        arguments = shlex.split(code.partition("mmdaemon ")[2].partition("|")[0])
        try:
            app.parse_args(arguments, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            refused.append(f"{code}: {error}")
    return refused


def missing_paths(text: str) -> list[str]:
    """Code spans that name a file or folder which is neither in the repository nor in the package."""
    missing: list[str] = []
    for span in _SPAN.findall(_FENCED.sub("", text)):
        named = _FUNCTION.sub(r"\1", span)
        if _PATH.fullmatch(named) and not (ROOT / named).exists() and not (PACKAGE / named).exists():
            missing.append(span)
    return missing


def missing_functions(text: str) -> list[str]:
    """`path:function` or `path:Class.method` that is not defined in that module."""
    missing: list[str] = []
    for path, name in _FUNCTION.findall(text):
        module = PACKAGE / path
        if not module.is_file() or name not in defined_in(module):
            missing.append(f"{path}:{name}")
    return missing


def defined_in(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(module.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
            names |= {f"{node.name}.{method.name}" for method in methods}
    return names


def table_under(heading: str, text: str) -> Iterator[list[str]]:
    """Rows of the first table below a heading, without its head."""
    section = re.split(r"^#", text.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    for row in rows[2:]:
        yield [cell.strip().strip("`") for cell in row.strip("|").split("|")]


def test_each_check_sees_a_fault() -> None:
    assert broken_links("docs/VENUES.md", "[x](NONE.md) [y](../README.md#nowhere) [z](VENUES.md#venues)") == [
        "NONE.md",
        "../README.md#nowhere",
    ]
    assert missing_targets("`make it` and\n```sh\nmake demo  # make nothing\n```\n") == ["it"]
    assert missing_verbs("`mmdaemon fly --high`, `.venv/bin/mmdaemon run` *(later: `mmdaemon swim`)*") == ["fly"]
    assert len(refused_commands("`mmdaemon run --sped max` `mmdaemon run --fills always` `mmdaemon run --seed 3`")) == 2
    assert missing_paths("`core/engine.py` `core/engin.py:step` `docs/` `dox/`") == ["core/engin.py:step", "dox/"]
    assert missing_functions("`core/engine.py:step`, `core/engine.py:stop`, `daemon/gate.py:Gate.passes`") == [
        "core/engine.py:stop"
    ]
    assert _MACHINE_PATH.search("see /home/somebody/x")
    assert not _MACHINE_PATH.search("https://example.org/home/x and ./work/x")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_targets_and_verbs_are_there(document: str) -> None:
    text = text_of(document)
    assert broken_links(document, text) == []
    assert missing_targets(text) == []
    assert missing_verbs(text) == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_document_knows_this_machine(document: str) -> None:
    found = [line for line in text_of(document).splitlines() if _MACHINE_PATH.search(line)]
    assert found == []


@pytest.mark.parametrize("document", BY_HAND)
def test_commands_files_and_functions_are_there(document: str) -> None:
    text = text_of(document)
    assert refused_commands(text) == []
    assert missing_paths(text) == []
    assert missing_functions(text) == []


def test_the_walks_through_the_code_name_functions() -> None:
    """The count guards the test above: a pattern that sees nothing would pass."""
    assert len(_FUNCTION.findall(text_of("docs/ARCHITECTURE.md"))) > 30


def test_the_actors_are_those_that_the_supervisor_runs() -> None:
    wiring = ast.parse((PACKAGE / "daemon" / "wire.py").read_text(encoding="utf-8"))
    (coroutines,) = [
        node.value
        for node in ast.walk(wiring)
        if isinstance(node, ast.AnnAssign)
        and ast.unparse(node.target) == "self.coroutines"
        and isinstance(node.value, ast.Dict)
    ]
    run = [key.value for key in coroutines.keys if isinstance(key, ast.Constant)]
    shown = list(table_under("## Actors", text_of("docs/ARCHITECTURE.md")))
    assert sorted(row[0] for row in shown) == sorted(map(str, run))
    assert [row[1] for row in shown if not (PACKAGE / row[1]).is_file()] == []


def test_the_slices_are_those_of_the_state() -> None:
    hints = get_type_hints(State)
    slices = [name for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    shown = list(table_under("## State", text_of("docs/ARCHITECTURE.md")))
    assert [row[0] for row in shown] == slices
    for name, owner, _ in shown:
        assert (PACKAGE / owner).is_file(), f"owner of {name}"


def test_the_import_rule_is_the_linters() -> None:
    contracts = tomllib.loads(text_of("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    siblings = [re.findall(r"\w+", layer) for layer in layers]
    rule = " > ".join(names[0] if len(names) == 1 else f"({' | '.join(names)})" for names in siblings)
    assert f"`{rule}`" in text_of("docs/ARCHITECTURE.md")


def test_the_readme_shows_where_everything_is() -> None:
    """The layout table names every package, so that none is left to be found by chance."""
    shown = text_of("README.md")
    packages = [path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    assert [path.name for path in packages if f"`mmdaemon/{path.name}/" not in shown] == []


def test_nothing_waits_by_wait_for() -> None:
    """It takes other steps on Python 3.11 than on later ones: see docs/DETERMINISM.md."""
    waiting = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == "asyncio.wait_for")
        or (
            isinstance(node, ast.ImportFrom) and node.module == "asyncio" and "wait_for" in [n.name for n in node.names]
        )
    ]
    assert waiting == []


def test_the_package_shows_the_readme() -> None:
    assert tomllib.loads(text_of("pyproject.toml"))["project"]["readme"] == "README.md"
