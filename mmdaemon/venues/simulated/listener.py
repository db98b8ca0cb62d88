"""A unix socket to listen at, for its owner alone."""

import socket
import stat
from pathlib import Path
from typing import Final

SUN_PATH_MAX: Final = 103
"""What the name of a socket may have on every system, in bytes."""


class ListenRefused(Exception):
    """The socket cannot be opened; the message says what to do."""


def listener_at(path: Path) -> socket.socket:
    """A socket at `path`, mode 0600, not listening yet. One that a process left behind is replaced.

    Raises ListenRefused: the path is too long, taken by something else, answered by somebody, or cannot be written.
    """
    if len(str(path).encode()) > SUN_PATH_MAX:
        raise ListenRefused(f"{path}: longer than {SUN_PATH_MAX} bytes, the most a socket's name may have; use another")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ListenRefused(f"{path}: {error.strerror or error}; is the folder there, and yours?") from None
    except ListenRefused:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenRefused(f"{path}: something else has that name; move it away, or listen elsewhere")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # left behind by a venue that is gone
            return
        except BlockingIOError:
            pass
    raise ListenRefused(f"{path}: another process answers there; stop it, or listen elsewhere")
