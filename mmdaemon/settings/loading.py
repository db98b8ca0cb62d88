"""`load`: command line over environment over TOML over preset over defaults, and every error at once.

A layer is what one source says, by path. Names are checked before values, so that a misspelt key cannot hide behind its
default; values that fail are left out of the rules between settings, so that one mistake is reported once.

  TOML          [limits] collar_bps = 150
  environment   MMDAEMON_LIMITS__COLLAR_BPS=150     (two underscores stand for a dot; values as in TOML, text bare)
  command line  --set limits.collar_bps=150
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from mmdaemon.settings.credentials import VARIABLES
from mmdaemon.settings.model import Settings, bounds_of, catalogue, default_of, overlaid, tables
from mmdaemon.settings.presets import DEFAULT_PRESET, PRESETS, Value
from mmdaemon.settings.problems import (
    CREDENTIALS,
    ConfigError,
    Problem,
    is_secret,
    looks_secret,
    nearest_key,
    unit_hint,
    unit_of,
)
from mmdaemon.settings.rules import contradictions

PREFIX: Final = "MMDAEMON_"
NOT_SETTINGS: Final = frozenset(
    {"MMDAEMON_SHARED", "MMDAEMON_NEED_CHROMIUM", "MMDAEMON_NEED_PROMETHEUS", "MMDAEMON_NEED_SYSTEMD", *VARIABLES}
)
"""Variables of the prefix that are no settings: where the tests find recordings, that they need a browser, Prometheus
or systemd, and what `credentials` reads."""
PACKAGE: Final = Path(__file__).resolve().parents[1]
COMMAND_LINE: Final = "command line"
FLAG: Final = "flag"
HIDDEN: Final = "(not shown)"
LARGEST_BYTES: Final = 1 << 20
LONGEST: Final = 200
"""Characters of a value that a problem repeats."""


class Loaded(NamedTuple):
    """Settings, and where each value came from: "default", "preset NAME", the file, "$VARIABLE" or "command line"."""

    settings: Settings
    origins: dict[str, str]


class Layer(PydanticBaseSettingsSource):
    """What one source says: pydantic-settings merges the layers, the first that has a value wins."""

    def __init__(self, values: dict[str, Any], origins: dict[str, str]) -> None:
        super().__init__(Settings)
        self.values = values
        self.origins = origins

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return overlaid({}, self.values)


def load(
    config: Path | None = None,
    overrides: Mapping[str, Value] | None = None,
    environ: Mapping[str, str] | None = None,
    unless_said: Mapping[str, Value] | None = None,
) -> Loaded:
    """Read, merge and check. `overrides` are of the command line, by path; `environ` is the process's own if None.
    `unless_said` holds, above the preset, where no source says anything: what a flag of a mode stands for.

    Raises:
        ConfigError: with every problem of every source.
    """
    problems: list[Problem] = []
    toml_layer = _layer(_read(config, problems), lambda _: str(config), problems)
    named = _variables(os.environ if environ is None else environ)
    env_layer = _layer(
        ((path, _parsed(path, text)) for path, (_, text) in named.items()),
        lambda path: f"${named[path][0]}" if path in named else PREFIX,
        problems,
    )
    cli_layer = _layer(overrides.items() if overrides else (), lambda _: COMMAND_LINE, problems)
    flag_layer = _layer(unless_said.items() if unless_said else (), lambda _: FLAG, problems)
    layers = (cli_layer, env_layer, toml_layer, flag_layer)

    said = {path: value for layer in reversed(layers) for path, value in layer.values.items()}
    preset = _preset(said)
    origins = {path: f"preset {preset}" if path in PRESETS[preset] else "default" for path in catalogue()}
    for layer in reversed(layers):
        origins |= layer.origins

    settings = None
    valid = {path: default_of(path, preset) for path in catalogue()} | said
    try:
        settings = Settings(_build_sources=(layers, {}))  # pyright: ignore[reportCallIssue] - documented, but not in the signature
    except ValidationError as error:
        for path, problem in _invalid(error, said, origins):
            problems.append(problem)
            valid.pop(path, None)
    for path, reason in contradictions(valid):
        problems.append(Problem(path, origins[path], _shown(valid[path]), reason))
    if problems or settings is None:
        raise ConfigError(sorted(set(problems)))
    return Loaded(settings, origins)


def assignments(texts: Iterable[str]) -> dict[str, Value]:
    """Overrides from `--set path=value` texts.

    Raises:
        ConfigError: a text without "=".
    """
    problems: list[Problem] = []
    found: dict[str, Value] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if equals:
            found[path.strip()] = _parsed(path.strip(), value.strip())
        else:
            problems.append(Problem(path, COMMAND_LINE, "", "has no value", f"write --set {path}=VALUE"))
    if problems:
        raise ConfigError(problems)
    return found


def config_folder() -> Path:
    """Where the shipped files are: in the wheel `mmdaemon/_config`, in a checkout `config/` beside the package.

    Raises:
        FileNotFoundError: neither is there; the installation is incomplete.
    """
    for folder in (PACKAGE / "_config", PACKAGE.parent / "config"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no shipped configuration beside {PACKAGE}; install mmdaemon again")


def shipped_config(name: str) -> Path:
    """The shipped file of that name ("demo", "paper", "testnet", "live")."""
    return config_folder() / f"{name}.toml"


# --- sources ----------------------------------------------------------------------------------------------------------


def _read(config: Path | None, problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    if config is None:
        return
    reason, nearest = "", ""
    text = ""
    try:
        with config.open("rb") as file:
            data = file.read(LARGEST_BYTES + 1)
        if len(data) > LARGEST_BYTES:
            reason, nearest = f"is larger than {LARGEST_BYTES:,} bytes", "name the configuration"
        else:
            text = data.decode()
            yield from _flattened(tomllib.loads(text), "")
    except FileNotFoundError:
        reason, nearest = "there is no such file", "`mmdaemon check-config` without a file checks the defaults"
    except OSError as error:
        reason, nearest = f"cannot be read: {error.strerror}", "name a file that this user can read"
    except UnicodeDecodeError as error:
        reason, nearest = f"is not UTF-8 text: byte {error.start + 1:,}", "save it as UTF-8"
    except RecursionError:
        reason, nearest = "is nested too deeply", "no setting is in a table of a table of more than two"
    except ValueError as error:  # TOMLDecodeError, and Python's own for a number of too many digits
        reason, nearest = f"is not TOML: {error}"[:LONGEST], _amiss(text, str(error))
    if reason:
        problems.append(Problem(str(config), "file", "", reason, nearest))


def _amiss(text: str, error: str) -> str:
    """Which key of a file that is no TOML it is about, and what to do. Never the value: it may be a secret."""
    if text.startswith("\N{ZERO WIDTH NO-BREAK SPACE}"):
        return "save it without a byte order mark"
    at = re.search(r"line (\d+), column", error)
    line = dict(enumerate(text.split("\n"), 1)).get(int(at[1]) if at else 0, "")
    key = re.match(r"\s*(\[{1,2}[\w.-]+\]{1,2}|[\w.-]+(?=\s*[=:]))", line)
    name = key[1][:LONGEST] if key else ""
    if error.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate")):
        return f"{name or 'it'} stands there already: leave it once"
    return (
        f"look at {name}: a line is `key = value`, text in quotes, a number without its unit"
        if name
        else ("a line is `key = value`, below the `[table]` that it belongs to")
    )


def _flattened(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Values by path. Descends through tables, known and unknown, so that a key hidden deep is seen."""
    for key, value in tree.items():
        path = prefix + key
        if isinstance(value, dict) and path not in catalogue() and value:
            yield from _flattened(cast("dict[str, Any]", value), f"{path}.")
        elif value != {} or path not in tables():
            yield path, value


def _variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Name and text of each of our variables, by the path that it sets."""
    named = {name: text for name, text in environ.items() if name.upper().startswith(PREFIX)}
    ours = {name: text for name, text in named.items() if name not in NOT_SETTINGS}
    # Upper case only, else unknown: of two spellings of one setting neither could rightly win.
    return {
        (name.removeprefix(PREFIX).lower() if name.isupper() else name).replace("__", "."): (name, text)
        for name, text in ours.items()
    }


def _parsed(path: str, text: str) -> Value:
    """Text of a variable or the command line as TOML would read it; text settings need no quotes."""
    field = catalogue().get(path)
    if field is None or not (is_number(field) or field.annotation is bool):
        return text
    try:
        return cast("Value", tomllib.loads(f"value = {text}")["value"])
    except (ValueError, RecursionError):
        return text


def _layer(values: Iterable[tuple[str, Any]], origin: Callable[[str], str], problems: list[Problem]) -> Layer:
    """Keep the settings; what is none becomes a problem."""
    known = catalogue()
    kept: dict[str, Any] = {}
    for path, value in values:
        if path in known and is_secret(value):
            problems.append(
                Problem(path, origin(path), HIDDEN, "looks like a key, which is never a setting", CREDENTIALS)
            )
        elif path in known:
            kept[path] = value
        elif path in tables():
            problems.append(
                Problem(
                    path, origin(path), _shown(value), "is a table of settings, not a value", f"write [{path}], once"
                )
            )
        else:
            problems.append(_unknown(path, value, origin(path)))
    return Layer(kept, {path: origin(path) for path in kept})


def _unknown(path: str, value: object, origin: str) -> Problem:
    if looks_secret(path):
        return Problem(path, origin, HIDDEN, "looks like a key or credential, which is never a setting", CREDENTIALS)
    # Text under a misspelt name may be anything, a passphrase too; numbers may not.
    shown = HIDDEN if isinstance(value, str | list | dict) else _shown(value)
    nearest = nearest_key(path, catalogue())
    if origin.startswith(f"${PREFIX}") and not nearest:
        nearest = nearest_key(_with_dots(path), catalogue())
    return Problem(path, origin, shown, "is not a setting", nearest)


def _with_dots(path: str) -> str:
    """MMDAEMON_LIMITS_COLLAR_BPS has one underscore too few: read the name of a table off its front."""
    table = max((name for name in tables() if path.startswith(f"{name.replace('.', '_')}_")), key=len, default="")
    return f"{table}.{path[len(table) + 1 :]}" if table else path


# --- values -----------------------------------------------------------------------------------------------------------


def is_number(field: FieldInfo) -> bool:
    return field.annotation is int or field.annotation is float


def _preset(said: Mapping[str, object]) -> str:
    name = said.get("preset")
    return name if isinstance(name, str) and name in PRESETS else DEFAULT_PRESET


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    try:
        text = f'"{value}"' if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):
        return "(too large to show)"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _invalid(
    error: ValidationError, said: Mapping[str, object], origins: Mapping[str, str]
) -> Iterator[tuple[str, Problem]]:
    for item in error.errors(include_url=False):
        path = ".".join(str(part) for part in item["loc"])
        if not path:
            continue  # contradictions between settings: reported by `load`, with the origin of each
        value = said.get(path)
        reason, nearest = _reason(path, value, item["msg"])
        yield path, Problem(path, origins.get(path, "default"), _shown(value), reason, nearest)


def _reason(path: str, value: object, otherwise: str) -> tuple[str, str]:
    """Why a value is refused and what to do, in the words of settings instead of those of pydantic."""
    field = catalogue()[path]
    kind = field.annotation
    if is_number(field):
        return _number_reason(path, value, field)
    if kind is bool:
        return "must be true or false", "take away the quotes" if value in ("true", "false") else ""
    choices = cast("tuple[str, ...]", getattr(kind, "__args__", ()))
    if choices:
        return "must be one of " + ", ".join(f'"{choice}"' for choice in choices), ""
    if not isinstance(value, str):
        return "must be text", f'write "{value}"' if isinstance(value, int | float) else ""
    return otherwise, ""


def _number_reason(path: str, value: object, field: FieldInfo) -> tuple[str, str]:
    key = path.rpartition(".")[2]
    unit = unit_of(key)
    kind = "a whole number" if field.annotation is int else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        quoted = isinstance(value, str) and value.replace(".", "", 1).replace("-", "", 1).isdigit()
        return f"must be {kind}" + (f", in {unit}" if unit else ""), "take away the quotes" if quoted else ""
    low, high = bounds_of(field)
    low, high = float("-inf") if low is None else low, float("inf") if high is None else high
    if low <= value <= high:
        return f"must be {kind}", f"write {value:.0f}" if value == int(value) else ""
    hint = unit_hint(key, float(value), low, high) if abs(value) < 1e300 else ""  # an integer may exceed any float
    if value > high:
        return f"is above {high:g}, the ceiling that is compiled in", hint
    return f"is below {low:g}, the least allowed" if value < low else "is not a finite number", hint
