"""Random configurations: trees of any shape and type, as a file, as variables and on the command line.

What may come of one is valid settings, whose every value lies within its bounds and whose parameters and hash can be
made, or a `ConfigError` with problems that each name what they are about. Nothing else.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import msgspec

from mmdaemon.core.types import E10, Instrument
from mmdaemon.settings import load
from mmdaemon.settings.loading import COMMAND_LINE, assignments
from mmdaemon.settings.model import bounds_of, catalogue, default_of, tables
from mmdaemon.settings.problems import ConfigError, Problem
from tests.fuzz.numbers import any_number, any_word

INSTRUMENT: Final = Instrument.of(venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000)
PATHS: Final = tuple(catalogue())
TABLES: Final = tuple(tables())
SAYS_WHAT_TO_DO: Final = (
    *(
        "must be",
        "should match pattern",
        "is above",
        "is below",
        "is not a finite number",
        "exceed",
        "outside",
        "it looks like",
    ),
    *("is not a setting", "is for the venue", "the venue process's"),
)
"""Reasons that say by themselves what would do: less, more, one of a list, none of it."""


class Violation(AssertionError):
    """What must hold does not; the configuration is in the message."""


class Tally(msgspec.Struct):
    """What a run was made of."""

    trees: int = 0
    valid: int = 0
    refused: int = 0
    problems: int = 0


def any_value(rng: Random, depth: int = 0) -> str:
    """A value as TOML text; now and then none that TOML has."""
    kind = rng.random()
    if kind < 0.45:
        number = any_number(rng)
        if isinstance(number, float) and not math.isfinite(number):
            return "nan" if math.isnan(number) else f"{'-' if number < 0 else ''}inf"
        return repr(number)
    if kind < 0.65:
        return json.dumps(any_word(rng))
    if kind < 0.75:
        return rng.choice(("true", "false"))
    if kind < 0.82:
        return rng.choice(("1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", "0x7f", "0b1", "1_000", "1e400", "-0.0"))
    if kind < 0.9 and depth < 4:
        return f"[{', '.join(any_value(rng, depth + 1) for _ in range(rng.randrange(3)))}]"
    if kind < 0.97 and depth < 4:
        inside = ", ".join(f"{any_key(rng)} = {any_value(rng, depth + 1)}" for _ in range(rng.randrange(3)))
        return f"{{{inside}}}"
    return rng.choice(("", "=", "[[", "nul", "'", '"""', "9" * 5_000, "[" * 500, "1" + "0" * 400 + ".5"))


def near_value(rng: Random, path: str) -> str:
    """A value of the right type: the default, a bound, or just beyond one."""
    field, default = catalogue()[path], default_of(path)
    low, high = bounds_of(field)
    if isinstance(default, bool | str):
        return json.dumps(default)
    choices: list[float] = [default]
    choices += [x for x in (low, high) if x is not None]
    if low is not None and high is not None:
        choices += [low - 1, high + 1, low + (high - low) * rng.random(), math.nextafter(high, math.inf)]
    value = rng.choice(choices)
    return repr(
        int(value) if isinstance(default, int) and math.isfinite(value) and rng.random() < 0.9 else float(value)
    )


def any_key(rng: Random) -> str:
    if rng.random() < 0.7:
        return rng.choice((*PATHS, *TABLES, "api_key", "limits.collar", "run", "venue.secret")).rpartition(".")[2]
    return json.dumps(any_word(rng))


def any_toml(rng: Random) -> str:
    """A file: mostly settings that exist, with values that may do, in tables that exist."""
    if rng.random() < 0.05:
        return any_word(rng) * rng.randint(1, 50)
    strange = rng.choice((0.0, 0.05, 0.3, 1.0))
    lines: list[str] = []
    for path in rng.sample(PATHS, rng.randint(0, 12)):
        table, _, key = path.rpartition(".")
        value = any_value(rng) if rng.random() < strange else near_value(rng, path)
        if rng.random() < 0.05:
            value = in_another_unit(rng, path)
        if rng.random() < strange / 2:
            key = any_key(rng)
        if rng.random() < strange / 4:
            table = rng.choice((*TABLES, *PATHS, json.dumps(any_word(rng)), "a" + ".b" * rng.choice((1, 60, 400))))
        lines.append(f"{table}.{key} = {value}" if table else f"{key} = {value}")
    if rng.random() < 0.1:
        lines.insert(rng.randint(0, len(lines)), f"[{any_key(rng)}]")
    return "\n".join(lines)


def in_another_unit(rng: Random, path: str) -> str:
    """The default as a fraction, percent, bps, milliseconds or minutes would have it."""
    default = default_of(path)
    if isinstance(default, bool | str):
        return json.dumps(default)
    return repr(float(default) * rng.choice((1e-4, 1e-2, 1e2, 1e4, 1e3, 1e9, 1 / 60, 60)))


def as_bytes(rng: Random, text: str) -> bytes:
    """As an editor might save it, or a disk give it back: in another encoding, with lines twice, torn."""
    lines = text.split("\n")
    match rng.choice(("", "", "", "", "", "twice", "mark", "encoding", "ends", "torn", "cut", "nul")):
        case "twice":
            lines.insert(rng.randint(0, len(lines)), rng.choice(lines))
            return "\n".join(lines).encode("utf-8", errors="surrogatepass")
        case "mark":
            return b"\xef\xbb\xbf" + text.encode("utf-8", errors="surrogatepass")
        case "encoding":
            return text.encode(rng.choice(("utf-16", "utf-32", "latin-1")), errors="replace")
        case "ends":
            return text.replace("\n", rng.choice(("\r\n", "\r"))).encode("utf-8", errors="surrogatepass")
        case manner:
            data = text.encode("utf-8", errors="surrogatepass")
    if manner == "torn":
        return data[: rng.randrange(len(data) + 1)] + rng.randbytes(3) + data[rng.randrange(len(data) + 1) :]
    if manner == "cut":
        return data[: rng.randrange(len(data) + 1)]
    return data + b"\0" * 9 if manner == "nul" else data


def judge(problem: Problem, path: Path) -> str:
    """What a problem lacks: where it came from, the value if there is one, the reason, what to do. A name may be empty,
    if that is what was written."""
    is_of_the_file = problem.path == str(path)
    if not problem.reason or not str(problem):
        return "no reason"
    if not (
        problem.origin in ("file", "default", COMMAND_LINE, str(path)) or problem.origin.startswith(("$", "preset "))
    ):
        return "no origin"
    if not problem.value and not is_of_the_file and problem.reason != "has no value":
        return "no value"
    if not problem.nearest and not any(words in problem.reason for words in SAYS_WHAT_TO_DO):
        return "nothing of what to do"
    return ""


def try_one(folder: Path, rng: Random, tally: Tally) -> None:
    """Load one configuration. Raises Violation."""
    path = folder / "c.toml"
    if path.is_dir():
        path.rmdir()
    data = as_bytes(rng, any_toml(rng))
    path.write_bytes(data)
    if rng.random() < 0.02:
        path.unlink()
        if rng.random() < 0.5:
            path.mkdir()
    environ = {"HOME": "/"}
    for _ in range(rng.choice((0, 0, 1, 3))):
        name = rng.choice(PATHS).upper().replace(".", rng.choice(("__", "__", "_", "___")))
        environ[f"MMDAEMON_{name}" if rng.random() < 0.8 else f"MMDAEMON_{any_word(rng)}"] = any_value(rng)
    texts = [
        f"{rng.choice((*PATHS, any_word(rng)))}{rng.choice(('=', '=', ''))}{any_value(rng)}"
        for _ in range(rng.choice((0, 0, 1)))
    ]
    tally.trees += 1
    try:
        loaded = load(path if rng.random() < 0.9 else None, assignments(texts), environ)
        settings = loaded.settings
        flat = settings.flat()
        params = settings.to_params(INSTRUMENT, "abcd", 1)
    except ConfigError as error:
        lacking = [f"{what}: {problem}" for problem in error.problems if (what := judge(problem, path))]
        if not error.problems or lacking:
            raise Violation(f"{lacking or 'refused for nothing'}: {data!r:.2000}, {environ}, {texts}") from error
        tally.refused += 1
        tally.problems += len(error.problems)
        return
    except Exception as error:  # whatever it is, it is not what is promised
        raise Violation(f"{error!r:.300} from {data!r:.2000}, {environ!r:.1000}, {texts!r:.1000}") from error
    for at, value in flat.items():
        low, high = bounds_of(catalogue()[at])
        if isinstance(value, float | int) and not (
            math.isfinite(value) and (low is None or value >= low) and (high is None or value <= high)
        ):
            raise Violation(f"{at} = {value!r} was taken from {data!r}, {environ}, {texts}")
    if (
        len(settings.config_hash) != 32
        or set(loaded.origins) != set(PATHS)
        or params.config_hash != settings.config_hash
    ):
        raise Violation(f"no whole settings from {data!r}, {environ}, {texts}")
    tally.valid += 1


def fuzz(folder: Path, seed: int, trees: int, said: Callable[[Tally], None] | None = None) -> Tally:
    """So many configurations. Raises Violation, with the configuration."""
    tally = Tally()
    for i in range(trees):
        try_one(folder, Random(seed * 10_000_000 + i), tally)
        if said is not None and i % 50 == 0:
            said(tally)
    return tally
