"""`mmdaemon init`: a commented configuration to edit, made from the files that are shipped; and the service."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from cyclopts import Parameter

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli import install as service
from mmdaemon.settings import shipped_config
from mmdaemon.settings.documents import toml_value
from mmdaemon.settings.model import default_of
from mmdaemon.settings.rules import REAL_MODES

NAME: Final = "mmdaemon.toml"
MODE: Final = 0o644
INSTANCE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")

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
    to: Path | None = None,
    preset: Preset = "tight",
    force: Annotated[bool, Parameter(negative=())] = False,
    systemd: Annotated[bool, Parameter(negative=())] = False,
    install: Annotated[bool, Parameter(negative=())] = False,
    instance: str = "default",
    root: Path = Path("/"),
) -> int:
    """Write mmdaemon.toml: every setting with its unit, range, default and meaning, to be edited.

    Settings at their default are commented out, so that the file as written changes nothing but what it says at its
    top. Nothing else is written, and nothing is started. With --systemd it is the service that is prepared instead.

    Parameters
    ----------
    to
        Folder for the file, by default this one; made where it is not there.
    preset
        Where to begin: `tight` (the defaults) or `desk` (the desk's figures) at the simulated venue, or the shipped
        configuration of that name.
    force
        Write over a file that is there.
    systemd
        Show what it takes to run a bot under systemd: units, user, its configuration in /etc/mmdaemon, what is next.
    install
        With --systemd, as root: do it. Done again it changes nothing; a bot's own files are written once.
    instance
        With --systemd: name of the bot, as in mmdaemon@NAME.
    root
        With --systemd: where the machine's files are, for an image that is built; no command is run then.
    """
    if systemd:
        if to is not None or force:
            raise Refused("--to and --force are for a file by itself: leave them out with --systemd", ExitCode.USAGE)
        return _service(preset, instance, root, is_done=install)
    if install or instance != "default" or root != Path("/"):
        raise Refused("--install, --instance and --root belong to --systemd; add it", ExitCode.USAGE)
    path = (to or Path()) / NAME
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
        if preset == "live":
            print(f"  mmdaemon preflight --testnet --config {file}    # the first of the steps of docs/PREFLIGHT.md")
        print(f"  mmdaemon run --{preset} --config {file}")
    else:
        print("  # make a market with it")
        print(f"  mmdaemon run --config {file}")
    return ExitCode.OK


def _service(preset: Preset, instance: str, root: Path, *, is_done: bool) -> int:
    if not INSTANCE.fullmatch(instance):
        raise Refused(
            f"--instance {instance!r}: lower-case letters, digits, - and _, at most 32, like run.instance",
            ExitCode.USAGE,
        )
    flag = f"--{preset}" if preset in FLAGGED else ""
    program = service.program()
    why_not = service.out_of_reach(program) if root == Path("/") else ""
    if is_done and why_not:
        raise Refused(why_not, ExitCode.USAGE)
    try:
        files = service.wanted(root.absolute(), program, instance, text_of(preset), flag)
    except OSError as error:
        raise Refused(f"a shipped file cannot be read ({error}); install mmdaemon again", ExitCode.CONFIG) from error
    if is_done:
        service.install(files, root.absolute())
    else:
        where = f" --root {shlex.quote(str(root))}" if root != Path("/") else ""
        service.show(files, f"mmdaemon init --systemd --install --instance {instance} --preset {preset}{where}")
    if why_not:
        print(f"It would be refused as this is installed: {why_not}\n")
    print("Next:")
    steps = service.next_steps(
        instance, exchange="bitget", needs_key=preset in REAL_MODES, needs_preflight=preset == "live"
    )
    for step in steps:
        print(f"  {step}")
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
