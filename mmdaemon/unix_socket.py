"""Unix sockets for their owner alone: the control socket, and the venue as a process."""

import os
import socket
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_SUN_PATH_MAX: Final = 107 if sys.platform == "linux" else 103


class SocketRefused(Exception):
    """The socket cannot be opened; the message names it and says what to do."""


def listener_at(path: Path) -> socket.socket:
    """A socket at `path`, mode 0600, not listening yet: nobody can connect before the mode is set. One that a process
    left behind is replaced.

    Raises SocketRefused: the path is too long, taken by something else, answered by somebody, or cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        with address_of(path) as address:
            listener.bind(address)
        path.chmod(0o600)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise SocketRefused(f"{path}: {error.strerror or error}; is the folder there, and yours?") from None
    except SocketRefused:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketRefused(f"{path}: something else has that name; move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, address_of(path) as address:
        probe.setblocking(False)
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()  # left behind by a process that is gone
            return
        except BlockingIOError:
            pass  # somebody listens, and is busy
    raise SocketRefused(f"{path}: another process answers there; stop it, or use another path")


@contextmanager
def address_of(path: Path) -> Generator[str, None, None]:
    """A name of `path` that fits into a socket address (108 bytes): through its folder's descriptor if it must.

    Raises SocketRefused: even so it does not fit.
    """
    if len(os.fsencode(path)) <= _SUN_PATH_MAX:
        yield str(path)
        return
    if sys.platform != "linux" or len(os.fsencode(path.name)) > 64:
        raise SocketRefused(f"{path}: longer than {_SUN_PATH_MAX} bytes; use a shorter path")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
