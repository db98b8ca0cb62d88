"""The command line: one module a verb. A verb is a function that returns its exit code, or raises `Refused`."""

import os
from enum import IntEnum
from pathlib import Path

from mmdaemon.journal.state_dir import StateDir, locate


class ExitCode(IntEnum):
    """What the shell and systemd are told (`RestartPreventExitStatus=64 77 78`). Below 64 each verb has its own."""

    OK = 0
    USAGE = 64
    BUG = 70
    RETRY = 75
    CREDENTIALS = 77
    CONFIG = 78


class Refused(Exception):
    """A verb cannot do what was asked. The message says what is wrong, where, and what to do."""

    def __init__(self, message: str, code: ExitCode) -> None:
        self.code = code
        super().__init__(message)


def locate_dir(state_dir: Path | None) -> StateDir:
    """The state directory that a verb is about: named, else `$STATE_DIRECTORY`, else the user's. Nothing is made."""
    return StateDir(locate(state_dir, "default", os.environ), None)
