"""config/*.toml and docs/SETTINGS.md, generated from the model so that they cannot drift.

    python -m mmdaemon.settings.documents      writes them anew beside the package (a test compares)

A key whose value is the default stands there commented out, so that a preset or a later default still reaches it.
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Final, NamedTuple

from pydantic.fields import FieldInfo

from mmdaemon.settings.model import bounds_of, catalogue, default_of, extra_of, is_hashed, tables
from mmdaemon.settings.presets import PRESETS, Value
from mmdaemon.settings.problems import unit_of

CHECKOUT: Final = Path(__file__).resolve().parents[2]
WIDTH: Final = 118


class ConfigFile(NamedTuple):
    """A shipped file: what it opens with, and the values that it sets."""

    opening: str
    sets: Mapping[str, Value]


FLAGGED: Final = "`mmdaemon run --{mode} --config FILE` runs it, and no other flag does. "
KEYS: Final = (
    "The key is no setting: it is three files that systemd hands over (LoadCredential=bitget_api_key, "
    "bitget_api_secret, bitget_api_passphrase; without systemd, a folder of them named by CREDENTIALS_DIRECTORY). "
)
CONFIG_FILES: Final[Mapping[str, ConfigFile]] = {
    "demo": ConfigFile(
        "The demo: a fixed script at the simulated venue in virtual time. Same seed, same figures: `mmdaemon demo`. It "
        "stays nearer to the market in rough hours than `tight` does, so that they show in its fills.",
        {
            "run.speed": "max",
            "run.duration_s": 30_600.0,
            "run.seed": 7,
            "run.state_dir": "./.mmdaemon/demo",
            "regimes.high_vol_shock.spread_min_bps": 8.0,
            "quotes.band_gain": 0.1,
        },
    ),
    "paper": ConfigFile(
        "Paper: live market data, simulated fills. "
        + FLAGGED.format(mode="paper")
        + "It needs no key. A deeper book than elsewhere, because a place in its queue is looked for in it.",
        {"run.mode": "paper", "venue.book_depth": 50},
    ),
    "testnet": ConfigFile(
        "Testnet: an exchange's demo trading, with a demo key. " + FLAGGED.format(mode="testnet") + KEYS,
        {"run.mode": "testnet", "preset": "desk", "venue.in_flight_max_s": 31.0, "journal.durability": "power"},
    ),
    "live": ConfigFile(
        "Live: real money. "
        + FLAGGED.format(mode="live")
        + 'It is refused unless a file (not a variable, not --set) says mode = "live" and a passed preflight of this '
        "very configuration, account and version lies in the state directory. " + KEYS,
        {"run.mode": "live", "preset": "desk", "venue.in_flight_max_s": 31.0, "journal.durability": "power"},
    ),
}


def toml_value(value: Value) -> str:
    """As TOML writes it."""
    if isinstance(value, str | bool):
        return json.dumps(value)
    return repr(value)


def unit_text(path: str, field: FieldInfo) -> str:
    return str(extra_of(field).get("unit", "")) or unit_of(path.rpartition(".")[2])


def range_text(field: FieldInfo) -> str:
    low, high = bounds_of(field)
    if low is not None and high is not None:
        return f"{_plain(low)} to {_plain(high)}"
    choices = getattr(field.annotation, "__args__", ())
    if choices:
        return " | ".join(choices)
    return "true | false" if field.annotation is bool else "text"


def settings_toml(name: str) -> str:
    """The text of config/NAME.toml."""
    opening, sets = CONFIG_FILES[name]
    lines = [
        *_comment(opening),
        *_comment("Generated from the model; every setting is here. Commented out are those at their default."),
        *_comment("Over this file go MMDAEMON_<TABLE>__<KEY> and --set table.key=value. Keys are never put here."),
    ]
    preset = str(sets.get("preset", default_of("preset")))
    for path, table in tables().items():
        inside = [key for key in catalogue() if key.rpartition(".")[0] == path]
        if path == "run":
            lines += _entries(["preset"], sets, preset)
        lines += ["", f"[{path}]"] if inside else [""]
        lines += _comment(_one_line(table.__doc__)) if not path.startswith("regimes.") else []
        lines += _entries(inside, sets, preset)
    return "\n".join(lines) + "\n"


def _entries(paths: Iterable[str], sets: Mapping[str, Value], preset: str) -> list[str]:
    lines: list[str] = []
    for path in paths:
        field = catalogue()[path]
        unit = unit_text(path, field)
        default = default_of(path, preset)
        about = f"{_one_line(field.description)} [{unit + '; ' if unit else ''}{range_text(field)}"
        if not path.startswith("regimes."):
            about += f"; default {toml_value(default)}"
        value = sets.get(path, default)
        key = path.rpartition(".")[2]
        lines += ["", *_comment(f"{about}]"), f"{'' if path in sets else '#'}{key} = {toml_value(value)}"]
    return lines


def settings_markdown() -> str:
    """The text of docs/SETTINGS.md."""
    lines = [
        "# Settings",
        "",
        "Generated by `python -m mmdaemon.settings.documents`. Ranges are inclusive and compiled in.",
        "",
        "Command line (`--set limits.collar_bps=150`) goes over environment (`MMDAEMON_LIMITS__COLLAR_BPS=150`, two",
        "underscores for the dot), over the TOML file, over the preset, over the defaults. Unknown keys, wrong types,",
        "wrong units and contradictions are refused, all at once, by `mmdaemon check-config` and by every start (exit",
        "code 78). Keys and credentials are not settings: one found among them is an error.",
        "",
        "`config_hash` covers every effective value except paths and ports, marked ¹.",
        "",
        *_markdown_rows(["preset"]),
    ]
    for path, table in tables().items():
        if path.startswith("regimes."):
            continue
        lines += ["", f"## {path}", "", _one_line(table.__doc__), ""]
        if path == "regimes":
            lines += _markdown_ladder()
        else:
            lines += _markdown_rows([key for key in catalogue() if key.rpartition(".")[0] == path])
    return "\n".join(lines) + "\n"


def _markdown_rows(paths: Iterable[str]) -> list[str]:
    lines = ["| setting | default | `desk` | unit | range | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for path in paths:
        field = catalogue()[path]
        desk = toml_value(default_of(path, "desk"))
        desk = "" if desk == toml_value(default_of(path)) else desk
        mark = "" if is_hashed(field) else "¹"
        cells = (
            f"`{path}`{mark}", f"`{toml_value(default_of(path))}`", desk, unit_text(path, field),
            range_text(field).replace("|", "or"), _one_line(field.description),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _markdown_ladder() -> list[str]:
    rows = [path.rpartition(".")[2] for path in tables() if path.startswith("regimes.")]
    columns = [path for path in catalogue() if path.startswith(f"regimes.{rows[0]}.")]
    lines = [
        "Tables `[regimes.NAME]`; each key stands for one cell: `[regimes.up] spread_min_bps = 9`.",
        "",
        "| key | unit | range | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for path in columns:
        field = catalogue()[path]
        key = path.rpartition(".")[2]
        lines.append(f"| `{key}` | {unit_text(path, field)} | {range_text(field)} | {_one_line(field.description)} |")
    for name, preset in PRESETS.items():
        lines += ["", f"| `{name}` | {' | '.join(rows)} |", "| --- |" + " --- |" * len(rows)]
        for path in columns:
            key = path.rpartition(".")[2]
            cells = [toml_value(preset[f"regimes.{row}.{key}"]) for row in rows]
            lines.append(f"| `{key}` | {' | '.join(cells)} |")
    return lines


def _comment(text: str) -> list[str]:
    return wrap(
        text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _plain(number: float) -> str:
    return f"{number:,.10g}".replace(",", "_") if abs(number) < 1e15 else str(number)


def documents(root: Path) -> dict[Path, str]:
    """Every generated file below `root`, with its text."""
    texts = {root / "config" / f"{name}.toml": settings_toml(name) for name in CONFIG_FILES}
    return texts | {root / "docs" / "SETTINGS.md": settings_markdown()}


def main() -> int:
    """Write them anew."""
    for path, text in documents(CHECKOUT).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
