"""`mmdaemon init --systemd`: the units, the user and a bot's files on a machine with systemd; or what would be done.

Done twice it changes nothing the second time: what is ours (units, sysusers, tmpfiles) is written where it differs,
what is the operator's (a bot's configuration and its flag) is written once and then kept.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.settings.credentials import file_names

PACKAGE: Final = Path(__file__).resolve().parents[1]
SHIPPED_AS: Final = "/usr/bin/mmdaemon"
OURS: Final = {
    "mmdaemon@.service": "etc/systemd/system/mmdaemon@.service",
    "mmdaemon-reaper@.service": "etc/systemd/system/mmdaemon-reaper@.service",
    "mmdaemon-reaper@.timer": "etc/systemd/system/mmdaemon-reaper@.timer",
    "mmdaemon.sysusers": "etc/sysusers.d/mmdaemon.conf",
    "mmdaemon.tmpfiles": "etc/tmpfiles.d/mmdaemon.conf",
}
"""Shipped file, and where it goes."""
HIDDEN: Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - named to be refused
"""What the sandbox hides (ProtectHome, PrivateTmp)."""
COMMANDS: Final = (
    ("systemd-sysusers", "/etc/sysusers.d/mmdaemon.conf"),
    ("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/mmdaemon.conf"),
    ("systemctl", "daemon-reload"),
)


class Wanted(NamedTuple):
    """A file to be there. One that is kept is written once and then the operator's."""

    path: Path
    text: str
    is_kept: bool

    def standing(self) -> str:
        """ "missing", "as it should be", "differs", "kept as it is". Raises OSError."""
        if not os.path.lexists(self.path):
            return "missing"
        if self.is_kept:
            return "kept as it is"
        return "as it should be" if self.path.read_text(encoding="utf-8") == self.text else "differs"


def shipped_unit(name: str) -> Path:
    """The shipped file: in the wheel `mmdaemon/_systemd`, in a checkout `systemd/` beside the package.

    Raises FileNotFoundError: neither is there.
    """
    for folder in (PACKAGE / "_systemd", PACKAGE.parent / "systemd"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no shipped {name} beside {PACKAGE}; install mmdaemon again")


def wanted(root: Path, program: str, instance: str, config: str, flag: str) -> list[Wanted]:
    """Every file, below `root`. `flag` is what the bot is run with ("--paper"), empty at the simulated venue."""
    files = [
        Wanted(root / where, shipped_unit(name).read_text(encoding="utf-8").replace(SHIPPED_AS, program), False)
        for name, where in OURS.items()
    ]
    bot = root / "etc/mmdaemon" / instance
    said = (
        f"# The flag that mmdaemon@{instance} is run with: it agrees with run.mode of {instance}.toml.\nMODE={flag}\n"
    )
    return [
        *files,
        Wanted(bot.with_name(f"{instance}.toml"), config, True),
        Wanted(bot.with_name(f"{instance}.env"), said, True),
    ]


def install(files: list[Wanted], root: Path) -> None:
    """Write what is missing or differs, say each, then run the commands (on the machine itself, `root` is "/").

    Raises Refused: not root, a file cannot be written, or a command fails.
    """
    if root == Path("/") and os.geteuid() != 0:
        raise Refused(
            "--install writes below /etc: run it as root (sudo), or leave it out to see what it does", ExitCode.USAGE
        )
    for file in files:
        try:
            stands = file.standing()
            if stands in ("missing", "differs"):
                _write(file)
        except OSError as error:
            raise Refused(f"{file.path} cannot be written: {error.strerror or error}", ExitCode.USAGE) from error
        print({"missing": "written  ", "differs": "replaced "}.get(stands, "unchanged"), file.path)
    if root != Path("/"):
        return
    for command in COMMANDS:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Refused(
                f"{command[0]} cannot be run: {error.strerror}; is this machine under systemd?", ExitCode.USAGE
            ) from error
        if done.returncode:
            raise Refused(
                f"{' '.join(command)}: {done.stderr.strip() or done.returncode}; mend it, run this again",
                ExitCode.RETRY,
            )
        print("ran      ", " ".join(command))


def show(files: list[Wanted], again: str) -> None:
    """What `--install` would do, and how."""
    print("Nothing was changed. As root, this does the steps below:\n")
    print(f"  {again}\n")
    for file in files:
        try:
            stands = file.standing()
        except OSError as error:
            stands = error.strerror or "cannot be read"
        does = {"missing": "write", "differs": "write anew"}.get(stands, f"leave ({stands})")
        print(f"  {does:<24} {file.path}")
    for command in COMMANDS:
        print(f"  {'run':<24} {' '.join(command)}")
    print()


def next_steps(instance: str, *, exchange: str, needs_key: bool, needs_preflight: bool) -> Iterator[str]:
    """What is left to the operator, as commands."""
    config = f"/etc/mmdaemon/{instance}.toml"
    yield "# edit it; a second bot on this machine needs a metrics.port (and page.port, where enabled) of its own"
    yield f"mmdaemon check-config {config}"
    if needs_key:
        yield "# the key, each part from a file that is removed afterwards, readable by root alone"
        for name in file_names(exchange):
            yield f"install -m 0400 {name} /etc/credstore/mmdaemon.{instance}.{name}"
    if needs_preflight:
        yield "# --live is refused until a preflight of this very configuration has passed: docs/PREFLIGHT.md"
    yield f"systemctl enable --now mmdaemon@{instance}"
    yield f"systemctl status mmdaemon@{instance}"
    yield f"journalctl -u mmdaemon@{instance} -f"
    yield f"mmdaemon status --state-dir /var/lib/mmdaemon/{instance}"


def program() -> str:
    """The command that the units run. Raises Refused (64): there is none."""
    beside = Path(sys.executable).with_name("mmdaemon")
    named = Path(sys.argv[0])
    found = next(
        (str(path.absolute()) for path in (named, beside) if path.name == "mmdaemon" and path.is_file()),
        shutil.which("mmdaemon"),
    )
    if found is None:
        raise Refused("the command `mmdaemon` is not on the path: install the package", ExitCode.USAGE)
    return found


def out_of_reach(program: str) -> str:
    """What of this installation a service could not read, and what to do; empty: nothing."""
    for path in (Path(program), Path(sys.executable).resolve(), Path(sys.prefix), PACKAGE):
        if why := unreachable(path):
            return (
                f"{path} is out of a service's reach: {why}. Install mmdaemon where every user may read it, in "
                "/usr/local/lib/mmdaemon: the commands are in docs/SERVICE.md"
            )
    return ""


def unreachable(path: Path) -> str:
    """Why the user of the bots, in the sandbox, could not get there; empty: it can."""
    for hidden in HIDDEN:
        if path.is_relative_to(hidden):
            return f"the sandbox hides {hidden}"
    for folder in (path, *path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return f"{folder} is closed to other users"
    return ""


def _write(file: Wanted) -> None:
    """Whole or not at all, and readable by all: there is no secret in any."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    part = file.path.with_name(f".{file.path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as out:
            os.fchmod(out.fileno(), 0o644)
            out.write(file.text)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file.path)
    finally:
        part.unlink(missing_ok=True)
