"""`mmdaemon init`: a commented configuration to edit, made from the files that are shipped."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from cyclopts import Parameter

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.settings import shipped_config
from mmdaemon.settings.documents import toml_value
from mmdaemon.settings.model import default_of

NAME: Final = "mmdaemon.toml"
MODE: Final = 0o644

Preset = Literal["tight", "desk", "demo", "paper", "testnet", "live"]


class Origin(NamedTuple):
    """The shipped file, what it opens with instead of its own words, and the settings taken out of it again."""

    shipped: str
    opening: str
    unset: tuple[str, ...]


ORIGINS: Final[Mapping[str, Origin]] = {
    "tight": Origin(
        "paper", "The simulated venue and its synthetic market, all at the defaults.", ("run.mode", "venue.book_depth")
    ),
    "desk": Origin(
        "testnet",
        "The simulated venue, with the desk's figures.",
        ("run.mode", "venue.in_flight_max_s", "journal.durability"),
    ),
    **{name: Origin(name, "", ()) for name in ("demo", "paper", "testnet", "live")},
}
GENERATED: Final = "# Generated from the model"
FLAGGED: Final = {
    "paper": "make a market with it: live data, simulated fills, no key",
    "testnet": "trade on the exchange's demo environment, with a demo key's files (see the file's top)",
    "live": "trade real money; refused until a preflight of this very configuration has passed",
}
"""What runs with a flag of its name, and what for."""


def init(
    *,
    to: Path = Path(),
    preset: Preset = "tight",
    force: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write mmdaemon.toml: every setting with its unit, range, default and meaning, to be edited.

    Settings at their default are commented out, so that the file as written changes nothing but what it says at its
    top. Nothing else is written, and nothing is started.

    Parameters
    ----------
    to
        Folder for the file; made where it is not there.
    preset
        Where to begin: `tight` (the defaults) or `desk` (the desk's figures) at the simulated venue, or the shipped
        configuration of that name.
    force
        Write over a file that is there.
    """
    path = to / NAME
    if os.path.lexists(path) and not (force and path.is_file()):
        how = "name another folder (--to), or write over it (--force)" if path.is_file() else "name another folder"
        raise Refused(f"{path} is there already; {how}", ExitCode.USAGE)
    try:
        text = text_of(preset)
    except OSError as error:
        raise Refused(
            f"the shipped configuration of {preset} cannot be read ({error}); install mmdaemon again",
            ExitCode.CONFIG,
        ) from error
    try:
        _write(path, text)
    except OSError as error:
        raise Refused(
            f"{path} cannot be written: {error.strerror or error}; name another folder (--to)", ExitCode.USAGE
        ) from error
    file = shlex.quote(str(path))
    print(f"{path} written, from preset {preset}. Next:")
    print("  # take the # away from a setting and change it; then see what the file amounts to")
    print(f"  mmdaemon check-config {file}")
    if preset in FLAGGED:
        print(f"  # {FLAGGED[preset]}")
        print(f"  mmdaemon run --{preset} --config {file}")
    else:
        print("  # make a market with it")
        print(f"  mmdaemon run --config {file}")
    return ExitCode.OK


def text_of(preset: str) -> str:
    """What is written for a preset. Raises OSError: the shipped file is not there."""
    origin = ORIGINS[preset]
    text = shipped_config(origin.shipped).read_text(encoding="utf-8")
    for setting in origin.unset:
        text = without(text, setting)
    if origin.opening:
        text = f"# {origin.opening}\n{text[text.index(GENERATED) :]}"
    return text


def without(text: str, setting: str) -> str:
    """The file with that setting commented out at its default, as it stands where no file sets it.

    Raises ValueError: the file does not set it.
    """
    table, _, key = setting.rpartition(".")
    lines = text.split("\n")
    here = ""
    for i, line in enumerate(lines):
        if line.startswith("["):
            here = line.strip("[]")
        elif here == table and line.startswith(f"{key} = "):
            lines[i] = f"#{key} = {toml_value(default_of(setting))}"
            return "\n".join(lines)
    raise ValueError(f"the file does not set {setting}")


def _write(path: Path, text: str) -> None:
    """Whole or not at all: beside the name first, synced, then under it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as file:
            os.fchmod(file.fileno(), MODE)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
