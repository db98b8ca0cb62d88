"""A script of faults: what goes wrong when, and at which rate. A TOML file, or a file of JSON lines:

    [[fault]]                          {"after_s": 30, "kind": "rate_limit", "seconds": 5, "where": "place-order"}
    after_s = 30
    kind = "rate_limit"
    seconds = 5
    where = "place-order"

    [[rate]]                           {"kind": "frame_lost", "probability": 0.001, "where": "public"}
    kind = "frame_lost"
    probability = 0.001
    where = "public"

`every_s` repeats a fault; a rate may have an `after_s` too, before which it is 0. For the kinds, and for the meaning of
`seconds`, `count` and `where`: `wrong.py`, and `mmdaemon emulator --list-faults`.
"""

import asyncio
import heapq
import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeGuard

import msgspec

from mmdaemon.venues.emulator.faults import SECONDS_MAX, Faults, Rate, problem_of
from mmdaemon.venues.emulator.rows import No
from mmdaemon.venues.emulator.wrong import Wrong

EVERY_LEAST_S: Final = 0.01
_FAULT_KEYS: Final = ("after_s", "kind", "seconds", "count", "where", "every_s")
_RATE_KEYS: Final = ("kind", "probability", "after_s", "seconds", "where")


class Step(msgspec.Struct, frozen=True):
    """One fault, `after_s` from the start of the script; again each `every_s`, if that is above 0."""

    after_s: float
    kind: Wrong
    seconds: float = 0.0
    count: int = 1
    where: str = ""
    every_s: float = 0.0


class Drawn(msgspec.Struct, frozen=True):
    """A rate, from `after_s` on."""

    after_s: float
    rate: Rate


class Script(msgspec.Struct, frozen=True):
    steps: tuple[Step, ...] = ()
    rates: tuple[Drawn, ...] = ()


class ScriptRefused(Exception):
    """It cannot be played; `problems` names each reason and its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read_script(path: Path) -> Script:
    """A script from its file: TOML, or JSON lines where the name ends in .jsonl.

    Raises:
        ScriptRefused: it cannot be read, or not be played; every problem is named.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptRefused([f"{path}: cannot be read: {error}"]) from error
    named = list(_json_lines(text) if path.suffix == ".jsonl" else _toml(text))
    try:
        return script_of(named)
    except ScriptRefused as refused:
        raise ScriptRefused([f"{path}: {problem}" for problem in refused.problems]) from refused


def script_of(named: Sequence[tuple[str, object]]) -> Script:
    """A script from (place, row) pairs, where a row with a `probability` is a rate. A row that is a text is a problem
    itself.

    Raises:
        ScriptRefused: every problem is named, with its place.
    """
    problems: list[str] = []
    steps: list[Step] = []
    rates: list[Drawn] = []
    for place, row in named:
        found = _checked(row)
        match found:
            case Step():
                steps.append(found)
            case Drawn():
                rates.append(found)
            case _:
                problems += [f"{place}: {problem}" for problem in found]
    found_twice = Counter((drawn.rate.kind, drawn.rate.where) for drawn in rates)
    problems += [
        f"{times} rates of {kind} at {where or 'everywhere'!r}: give one"
        for (kind, where), times in found_twice.items()
        if times > 1
    ]
    if not named:
        problems.append("no fault and no rate in it: begin with [[fault]] or [[rate]]")
    if problems:
        raise ScriptRefused(problems)
    return Script(tuple(sorted(steps, key=lambda step: step.after_s)), tuple(rates))


async def play(script: Script, faults: Faults, refused: Callable[[Step, str], None]) -> None:
    """Set each rate and inject each step when it is due; returns after the last one, if none is repeated. `refused`:
    the server could not do it then (no position to liquidate, ...), and why."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    due = [(each.after_s, ordinal, each) for ordinal, each in enumerate((*script.rates, *script.steps))]
    heapq.heapify(due)
    while due:
        after_s, ordinal, each = heapq.heappop(due)
        if after_s:
            await asyncio.sleep(max(0.0, begun + after_s - loop.time()))
        if isinstance(each, Drawn):
            faults.set_rates([drawn.rate for drawn in script.rates if drawn.after_s <= after_s])
            continue
        try:
            faults.inject(each.kind, seconds=each.seconds, count=each.count, where=each.where)
        except (ValueError, No) as error:
            refused(each, str(error))
        if each.every_s:
            heapq.heappush(due, (after_s + each.every_s, ordinal, each))


# --- reading ----------------------------------------------------------------------------------------------------------


def _toml(text: str) -> Iterator[tuple[str, object]]:
    try:
        tables: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        yield "TOML", str(error)
        return
    for name, rows in tables.items():
        if name not in {"fault", "rate"} or not _is_list(rows):
            yield name, "there are [[fault]] and [[rate]] tables here, and nothing else"
            continue
        for number, row in enumerate(rows, 1):
            place = f"{name} {number}"
            if _is_table(row) and (name == "rate") != ("probability" in row):
                yield place, "a [[rate]] has a probability, and a [[fault]] has none"
            else:
                yield place, row


def _is_list(rows: object) -> TypeGuard[list[object]]:
    return isinstance(rows, list)


def _is_table(row: object) -> TypeGuard[dict[str, object]]:
    return isinstance(row, dict)


def _json_lines(text: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"line {number}", f"no JSON: {error}"


def _checked(row: object) -> Step | Drawn | list[str]:
    """A row as what it is, or everything that is wrong with it."""
    if isinstance(row, str):
        return [row]
    if not _is_table(row):
        return ["a table of names and values is wanted"]
    given, is_rate = row, "probability" in row
    known = _RATE_KEYS if is_rate else _FAULT_KEYS
    problems = [f"{name!r} is not known; there are {', '.join(known)}" for name in given if name not in known]
    kind = _kind(given, problems)
    seconds = _number(given, "seconds", 0.0, SECONDS_MAX, 0.0, problems)
    after_s = _number(given, "after_s", 0.0, math.inf, 0.0, problems)
    where = given.get("where", "")
    if not isinstance(where, str):
        problems.append(f"where: a text is wanted, got {where!r}")
        where = ""
    if is_rate:
        probability = _number(given, "probability", 0.0, 1.0, 0.0, problems)
        if kind is not None and not problems and (problem := problem_of(kind, seconds, 1, where)):
            problems.append(problem)
        return problems or Drawn(after_s, Rate(kind or Wrong.LATENCY, probability, seconds, where))
    every_s = _number(given, "every_s", 0.0, math.inf, 0.0, problems)
    if 0 < every_s < EVERY_LEAST_S:
        problems.append(f"every_s must be {EVERY_LEAST_S:g} at least, got {every_s:g}")
    count = given.get("count", 1)
    if type(count) is not int:
        problems.append(f"count: a whole number is wanted, got {count!r}")
        count = 1
    if "after_s" not in given:
        problems.append("after_s is missing: seconds from the start")
    if kind is not None and not problems and (problem := problem_of(kind, seconds, count, where)):
        problems.append(problem)
    return problems or Step(after_s, kind or Wrong.LATENCY, seconds, count, where, every_s)


def _kind(given: Mapping[str, object], problems: list[str]) -> Wrong | None:
    name = given.get("kind")
    if name is None:
        problems.append("kind is missing; `mmdaemon emulator --list-faults` shows them")
        return None
    try:
        return Wrong(name)
    except ValueError:
        close = get_close_matches(str(name), [each.value for each in Wrong], n=1)
        hint = f"; did you mean {close[0]}?" if close else "; `mmdaemon emulator --list-faults` shows them"
        problems.append(f"kind {name!r} is not known{hint}")
        return None


def _number(
    given: Mapping[str, object], name: str, least: float, most: float, default: float, problems: list[str]
) -> float:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        problems.append(f"{name}: a number is wanted, got {value!r}")
        return default
    if not least <= value <= most:
        bounds = f"{least:g} or more" if math.isinf(most) else f"{least:g} to {most:g}"
        problems.append(f"{name} must be {bounds}, got {value:g}")
        return default
    return float(value)
