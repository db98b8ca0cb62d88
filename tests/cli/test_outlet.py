"""What a verb cannot say changes neither what it does nor its exit code: full disk, closed descriptor, nobody reads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdaemon.cli.main import VERBS

if not Path("/dev/full").exists():
    pytest.skip("there is no /dev/full here", allow_module_level=True)

# One process for all of them: each verb in a child of its own, whose descriptors are put in the manner of the test
# before Python's streams are made of them as at a start; and flushed, as at an end.
DRIVER = """
import io, json, os, sys
from mmdaemon.cli import main
from mmdaemon.cli.main import VERBS
from importlib import import_module
for verb in VERBS.values():
    import_module(verb.target.partition(":")[0])

def stream(number):
    try:
        os.fstat(number)
    except OSError:
        return None
    return io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", line_buffering=True) if number == 2 \\
        else io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), "utf-8")

def spoil(number, how):
    if how == "closed":
        os.close(number)
    elif how == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)
    elif how == "unread":
        reads, writes = os.pipe()
        os.dup2(writes, number)
        os.close(reads)
        os.close(writes)
    elif how == "fine":
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)

manner, cases = json.loads(sys.argv[1])
codes = {}
for name, tokens in cases.items():
    child = os.fork()
    if not child:
        code = 119
        try:
            for number, how in zip((1, 2), manner):
                spoil(number, how)
            sys.stdout = sys.__stdout__ = stream(1)
            sys.stderr = sys.__stderr__ = stream(2)
            code = main.main(tokens)
            try:
                for each in (sys.stdout, sys.stderr):
                    if each is not None:
                        each.flush()
            except OSError:
                code = 120
        finally:
            os._exit(code)
    codes[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(codes))
"""


def cases(folder: Path) -> dict[str, tuple[list[str], int]]:
    """A call of each verb that ends soon, with its code where all that it says can be heard."""
    none = str(folder / "none")
    at = ["--state-dir", none]
    killed = folder / "killed"
    killed.mkdir()
    (killed / "KILLED").write_text("by a test")
    (folder / "bad.toml").write_text("nothing = 1\n")
    (folder / "page.csv").write_text("<html>\n")
    (folder / "mmdaemon.toml").write_text("")
    return {
        "demo": (["demo", "--state-dir", str(killed)], 78),
        "run": (["run", "--config", str(folder / "bad.toml")], 78),
        "init": (["init", "--to", str(folder)], 64),
        "init, done": (["init", "--to", str(folder / "new"), "--force"], 0),
        "tape info": (["tape", "info", str(folder / "page.csv")], 78),
        "tape convert": (["tape", "convert", str(folder / "page.csv"), str(folder / "x.parquet")], 78),
        "calibrate": (["calibrate", str(folder / "page.csv")], 78),
        "compare": (["compare"], 64),
        "report": (["report", *at], 1),
        "export": (["export", *at], 1),
        "export, listed": (["export", "--list"], 0),
        "backup": (["backup", *at], 1),
        "restore": (["restore", "--latest", "--reason", "x", *at], 64),
        "venue": (["venue", "--listen", str(folder / "s"), "--config", str(folder / "bad.toml")], 78),
        "emulator": (["emulator", "--faults", str(folder / "bad.toml")], 78),
        "preflight": (["preflight", "--testnet", *at], 77),
        "preflight, of what": (["preflight", *at], 64),
        "status": (["status", *at], 4),
        "pause": (["pause", *at], 1),
        "resume": (["resume", "--reason", "x", *at], 1),
        "kill": (["kill", *at], 1),
        "kill, direct": (["kill", "--direct", *at], 64),
        "flatten": (["flatten", *at], 1),
        "reconcile": (["reconcile", *at], 1),
        "signal": (["signal", "pause", "increase", *at], 1),
        "notify": (["notify"], 78),
        "check-config": (["check-config", str(folder / "bad.toml")], 78),
        "explain": (["explain", "--last-fill", *at], 1),
        "simulate": (["simulate", "--seeds", "0"], 64),
        "replay": (["replay", "--verify", *at], 1),
        "usage": (["run", "--no-such-flag"], 64),
        "help": (["--help"], 0),
    }


MANNERS = {
    "as it should be": ("fine", "fine"),
    "full disk": ("full", "full"),
    "closed": ("closed", "closed"),
    "unread": ("unread", "unread"),
    "stderr full": ("fine", "full"),
    "stderr closed": ("fine", "closed"),
    "stderr unread": ("fine", "unread"),
    "stdout full": ("full", "fine"),
    "stdout closed": ("closed", "fine"),
    "stdout unread": ("unread", "fine"),
}


@pytest.mark.parametrize("manner", MANNERS)
def test_the_code_is_the_verbs_own(tmp_path: Path, manner: str) -> None:
    told = cases(tmp_path)
    assert {name.partition(",")[0].partition(" ")[0] for name in told} >= set(VERBS)
    asked = json.dumps([MANNERS[manner], {name: tokens for name, (tokens, _) in told.items()}])
    done = subprocess.run([sys.executable, "-c", DRIVER, asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {name: code for name, (_, code) in told.items()}


def mmdaemon(*arguments: str, shell: str = "") -> "subprocess.CompletedProcess[str]":
    """As a shell runs it, to the last flush of the interpreter."""
    command = f'"$0" -m mmdaemon "$@" {shell}'
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("shell", ["2>&-", ">&- 2>&-", "0<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>/dev/full"])
def test_a_whole_process_keeps_its_code(tmp_path: Path, shell: str) -> None:
    assert mmdaemon("status", "--state-dir", str(tmp_path), shell=shell).returncode == 4
    assert mmdaemon("kill", "--state-dir", str(tmp_path), shell=shell).returncode == 1
    assert (tmp_path / "KILLED").is_file(), "and it has done what it is for"


def test_what_only_shows_and_could_not_be_written_has_failed() -> None:
    """A JSON file cut off by a full disk, with 0, would be taken for the whole."""
    done = mmdaemon("check-config", shell=">/dev/full")
    assert done.returncode == 75
    assert done.stderr == "mmdaemon: not all that it said could be written to stdout: No space left on device\n"


def test_what_was_done_is_done(tmp_path: Path) -> None:
    done = mmdaemon("init", "--to", str(tmp_path), shell=">/dev/full")
    assert done.returncode == 0
    assert "could be written to stdout" in done.stderr
    assert (tmp_path / "mmdaemon.toml").is_file()


def test_a_closed_stderr_is_not_given_to_a_file(tmp_path: Path) -> None:
    """The first thing opened would get its number, and Python's own last words would be written into it."""
    code = "import os, sys; from mmdaemon.cli.outlet import outlets\nwith outlets(): sys.exit(os.open('f', 66, 0o600))"
    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "{code}" 2>&-', sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode > 2


def test_text_that_the_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    """The name of a file can be any bytes, and the terminal any encoding."""
    name = os.fsdecode(b"st\xffange\xe9.csv")
    done = mmdaemon("tape", "info", str(tmp_path / name), shell="2>&1")
    assert done.returncode == 78
    assert "there is no such file" in done.stdout
