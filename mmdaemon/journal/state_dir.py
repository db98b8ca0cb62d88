"""The state directory of one instance: its lock, its journal, its control socket, and the kill latch as files.

The latch is `KILLED` in the state directory and in `$RUNTIME_DIRECTORY` (tmpfs, for a full or read-only disk). A file
closes it by being there: its text only says why. What cannot be looked at counts as there.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Self

KILLED = "KILLED"
_WHY_MAX = 200
"""Bytes of a kill file that are shown: anybody may have put it there."""


class StateDirRefused(Exception):
    """The state directory cannot be used; the message says what to do."""


class InUse(StateDirRefused):
    """Another process holds the lock."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"{path} is in use by {holder}; stop it, or give this one a directory of its own (--state-dir, or "
            "another instance name)"
        )


def locate(state_dir: Path | None, instance: str, environ: Mapping[str, str]) -> Path:
    """`--state-dir`, else systemd's $STATE_DIRECTORY (the first), else the user's XDG state folder per instance."""
    if state_dir is not None:
        return state_dir
    if given := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(given)
    xdg = environ.get("XDG_STATE_HOME", "")
    base = Path(xdg) if xdg.startswith("/") else Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return base / "mmdaemon" / instance


class StateDir:
    """Made by `open_dir`. `lock` before anything is written; `release` last."""

    def __init__(self, path: Path, runtime_dir: Path | None) -> None:
        self.path = path
        self.runtime_dir = runtime_dir
        folders = (path,) if runtime_dir is None else (path, runtime_dir)
        self.kill_files = tuple(folder / KILLED for folder in folders)
        self._lock_fd: int | None = None

    @property
    def journal_path(self) -> Path:
        return self.path / "journal.sqlite"

    @property
    def socket_path(self) -> Path:
        return self.path / "control.sock"

    def lock(self) -> Self:
        """Hold the directory until `release` or the end of the process.

        Raises InUse where another process (or another StateDir of this one) holds it, StateDirRefused where it cannot
        be written.
        """
        path = self.path / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateDirRefused(_unusable(self.path, error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        except BlockingIOError:
            text = os.pread(fd, 32, 0).strip()
            os.close(fd)
            raise InUse(self.path, int(text) if text.isdigit() else None) from None
        except OSError as error:
            os.close(fd)
            raise StateDirRefused(_unusable(self.path, error)) from error
        self._lock_fd = fd
        return self

    def release(self) -> None:
        """The file stays: removing it would let a third process lock a file that a second one waits for."""
        fd, self._lock_fd = self._lock_fd, None
        if fd is not None:
            os.close(fd)

    def latched(self) -> tuple[Path, ...]:
        """The kill files that are there, or of which it cannot be told that they are not."""
        return tuple(path for path in self.kill_files if not _absent(path))

    def latched_why(self) -> tuple[str, ...]:
        """Each kill file that is there, with the first line of it: who closed the latch, and why. Never raises."""
        return tuple(f"{path}{_first_line(path)}" for path in self.latched())

    def write_latch(self, text: str) -> tuple[str, ...]:
        """Close the latch in every place there is. Best effort: returns what went wrong, empty when nothing did.

        May wait for the disk; the kill switch calls it beside its cancels, not before them.
        """
        failures: list[str] = []
        for path in self.kill_files:
            try:
                _write_synced(path, text)
            except OSError as error:
                failures.append(f"{path}: {error.strerror or error}")
        return tuple(failures)

    def clear_latch(self) -> None:
        """Open it again: the operator's `resume` alone, after a clean reconcile.

        Raises StateDirRefused where a file cannot be taken away; the latch is closed then.
        """
        for path in self.kill_files:
            try:
                path.unlink(missing_ok=True)
                if path.parent.is_dir():
                    _sync_folder(path.parent)
            except OSError as error:
                raise StateDirRefused(
                    f"{path} cannot be removed ({error.strerror or error}); the kill latch stays closed"
                ) from error


def open_dir(path: Path, environ: Mapping[str, str]) -> StateDir:
    """Make the directory with mode 0700 where it is not there, and see that it can be used.

    Raises StateDirRefused: not a directory, not ours to read and write, or writable by anybody.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise StateDirRefused(_unusable(path, error)) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise StateDirRefused(_unusable(path, OSError(errno.EROFS, os.strerror(errno.EROFS))))
        raise StateDirRefused(f"state directory {path}: no permission to read and write; chown it, or name another")
    if mode & stat.S_IWOTH:
        raise StateDirRefused(f"state directory {path}: anybody may write to it; chmod 700 {path}")
    runtime = environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    return StateDir(path, Path(runtime) if runtime else None)


def _absent(path: Path) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _first_line(path: Path) -> str:
    """Behind a colon; nothing where it cannot be read, which closes the latch no less."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            begins = os.read(fd, _WHY_MAX).decode("utf-8", "replace")
        finally:
            os.close(fd)
    except OSError:
        return ""
    line = begins.partition("\n")[0].strip()
    return f": {line}" if line.isprintable() and line else ""


def _write_synced(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, text.rstrip("\n").encode("utf-8", "backslashreplace") + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some file systems sync no folders
            os.fsync(fd)
    finally:
        os.close(fd)


def _unusable(path: Path, error: OSError) -> str:
    return f"state directory {path} cannot be used: {error.strerror or error}; name another by --state-dir, or mend it"
