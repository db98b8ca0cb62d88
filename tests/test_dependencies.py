"""What is installed, without asking anybody: pinned, hashed, wanted, licensed; and what an audit answers."""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.audit import NEED, told

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("requirements.lock", "requirements-dev.lock")
IMPORTED_AS = {"prometheus-client": "prometheus_client", "pydantic-settings": "pydantic_settings"}
PERMISSIVE = re.compile(
    r"\b(MIT|MIT-0|BSD|Apache|ISC|PSF|Python Software Foundation|Unlicense|0BSD|Zlib|CC0)\b", re.IGNORECASE
)
NOT_PERMISSIVE = re.compile(r"\bA?GPL|\bLGPL|\bMPL|Mozilla|proprietary", re.IGNORECASE)
EXCEPTIONS = {
    "orjson": "MPL 2.0 and (Apache 2.0 or MIT): a wheel, unchanged",
    "certifi": "MPL 2.0: a list of certificates, unchanged",
    "pathspec": "MPL 2.0: of the build backend alone, never imported by the daemon",
}
"""Package -> why its licence is accepted all the same."""
NOT_IMPORTED = {
    "apprise": "by importlib, in ops/notify_send.py, a process of its own",
    "ccxt": "by importlib, in venues/ccxt_client.py: it is hooked as it is loaded",
    "orjson": "ccxt takes it where it is there, and decodes some times faster",
}
"""Declared, and found in no import statement."""


def locked(name: str) -> dict[str, tuple[str, str]]:
    """Package -> (its line's requirement, its hashes)."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, _, hashes = line.partition("--hash=")
            found[canonicalize_name(Requirement(requirement.strip()).name)] = (requirement.strip(), hashes)
    return found


def declared() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"]
    return [Requirement(each) for each in [*PROJECT["project"]["dependencies"], *extras["tapes"]]]


@cache
def needed_by(name: str, extras: frozenset[str]) -> frozenset[str]:
    """What a package that is installed asks for, here or on any other machine."""
    try:
        asked = distribution(name).requires or []
    except PackageNotFoundError:
        return frozenset()  # for another system
    wanted = [Requirement(each) for each in asked]
    return frozenset(
        canonicalize_name(each.name)
        for each in wanted
        if each.marker is None
        or "extra" not in str(each.marker)
        or any(each.marker.evaluate({"extra": extra}) for extra in extras)
    )


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_is_pinned_and_hashed(name: str) -> None:
    rows = locked(name)
    assert len(rows) > 20
    assert [each for each, (requirement, hashes) in rows.items() if "==" not in requirement or not hashes] == []
    assert all(re.match(r"sha256:[0-9a-f]{64}\b", hashes) for _, hashes in rows.values())
    assert "://" not in "".join(requirement for requirement, _ in rows.values()), "an index or an address"


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_declared_is_locked_within_its_bounds(name: str) -> None:
    rows = locked(name)
    for wanted in declared():
        (version,) = (each.version for each in Requirement(rows[canonicalize_name(wanted.name)][0]).specifier)
        assert wanted.specifier.contains(version), f"{wanted} but {version} is locked"


def test_the_two_locks_agree() -> None:
    base, dev = (locked(name) for name in LOCKS)
    assert {each: row for each, row in base.items() if dev.get(each) != row} == {}


def test_aiohttp_is_held_below_what_breaks() -> None:
    (wanted,) = (each for each in declared() if each.name == "aiohttp")
    assert not wanted.specifier.contains("3.14.4")


def test_nothing_is_locked_that_nobody_needs() -> None:
    rows = locked("requirements.lock")
    build = [Requirement(each) for each in PROJECT["dependency-groups"]["build"]]
    waiting = [(canonicalize_name(each.name), frozenset(each.extras)) for each in [*declared(), *build]]
    needed: set[str] = set()
    while waiting:
        name, extras = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [(each, frozenset[str]()) for each in needed_by(name, extras)]
    assert set(rows) - needed == set()


def licence_of(name: str) -> str:
    data = distribution(name).metadata
    classifiers = [each for each in data.get_all("Classifier") or [] if each.startswith("License ::")]
    said = [*(data.get_all("License-Expression") or []), *(data.get_all("License") or [])]
    return " ".join([*(text[:200] for text in said[:1]), *classifiers])


def test_the_licences_of_what_is_delivered_are_permissive() -> None:
    wrong: dict[str, str] = {}
    exceptions: set[str] = set()
    for name in locked("requirements.lock"):
        try:
            licence = licence_of(name)
        except PackageNotFoundError:
            continue  # for another system
        if not PERMISSIVE.search(licence) or NOT_PERMISSIVE.search(licence):
            (exceptions.add(name) if name in EXCEPTIONS else wrong.__setitem__(name, licence))
    assert wrong == {}
    assert exceptions == set(EXCEPTIONS), "no longer an exception: take it off the list"


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def test_each_declared_dependency_is_imported() -> None:
    imported = {name for path in (ROOT / "mmdaemon").rglob("*.py") for name in imports(path)}
    unused = [each.name for each in declared() if IMPORTED_AS.get(each.name, each.name) not in imported]
    assert set(unused) <= set(NOT_IMPORTED)
    by_name = (ROOT / "mmdaemon" / "venues" / "ccxt_client.py").read_text(encoding="utf-8")
    assert '"ccxt' in by_name


# --- the audit --------------------------------------------------------------------------------------------------------

WELL = {"name": "aiohttp", "version": "3.14.3", "vulns": []}
ILL = {"name": "aiohttp", "version": "3.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.1"]}]}
UNKNOWN = {"name": "aiohttp", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("code", "text", "failing", "failing_if_needed", "says"),
    [
        (0, json.dumps({"dependencies": [WELL]}), 0, 0, "nothing is known against the 1 packages"),
        (1, json.dumps({"dependencies": [WELL, ILL]}), 1, 1, "PYSEC-1, mended in 3.1"),
        (0, json.dumps({"dependencies": [WELL, UNKNOWN]}), 0, 1, "NOT AUDITED"),
        (1, json.dumps({"dependencies": [ILL, UNKNOWN]}), 1, 1, "PYSEC-1"),
        (0, json.dumps({"dependencies": []}), 0, 1, "NOT AUDITED"),
        (1, "", 0, 1, "NOT AUDITED"),
        (0, "[]", 0, 1, "NOT AUDITED"),
    ],
)
def test_not_knowing_is_said_and_fails_where_it_must_be_known(
    code: int, text: str, failing: int, failing_if_needed: int, says: str
) -> None:
    for environ, expected in (({}, failing), ({NEED: "0"}, failing), ({NEED: "1"}, failing_if_needed)):
        answered, lines = told(code, text, "resolver: no such host", environ)
        assert answered == expected
        assert says in lines[0]
