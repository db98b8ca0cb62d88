"""The operator's token: what a request that widens must show, besides coming through a door.

    STATE_DIR/token        43 characters, mode 0600: who may read it is the daemon's user, or root

The control socket asks it for `resume` and for a reconcile that repairs, so that a process which was handed the socket
alone (a mount into a container, a confused tool) can narrow what the bot does, and never widen it. The operator page
asks it for its kill button, because any user of the machine reaches a port on loopback. `kill` over the socket never
needs it. One that is there is kept over a restart; to have a new one, remove the file and restart.
"""

import hmac
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from mmdaemon.secret import Secret

NAME: Final = "token"
_BYTES: Final = 32
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_MAY: Final = stat.S_IRUSR | stat.S_IWUSR


class TokenMissing(Exception):
    """There is no token that can be used at this path; the message says why."""


class Token:
    """Shows nothing of itself. `secret` is for those who must blot it out of what they write."""

    __slots__ = ("secret",)

    def __init__(self, text: str) -> None:
        self.secret = Secret(text)

    def matches(self, shown: str) -> bool:
        """In a time that says nothing of how much of it was right."""
        return hmac.compare_digest(shown.encode("utf-8", "surrogatepass"), self.secret.reveal().encode())

    def __repr__(self) -> str:
        return "Token(<secret>)"


def unknown() -> Token:
    """One that nobody can show, for a daemon that cannot write its own: what needs a token is refused then."""
    return Token(secrets.token_urlsafe(_BYTES))


def read_token(folder: Path) -> Token:
    """The token of the daemon whose state directory this is.

    Raises:
        TokenMissing: there is none, or it may not be read, or it lies open to others.
    """
    path = folder / NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TokenMissing(f"{path} cannot be read: {error.strerror or error}; ask as the daemon's user") from None
    try:
        there = os.fstat(descriptor)
        text = os.read(descriptor, 256).decode("ascii", "replace").strip()
    except OSError as error:
        raise TokenMissing(f"{path} cannot be read: {error.strerror or error}") from None
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(there.st_mode) or there.st_mode & 0o777 & ~_MAY:
        raise TokenMissing(f"{path} is no file of its owner alone; remove it, and restart the daemon to have a new one")
    if not _FORM.fullmatch(text):
        raise TokenMissing(f"{path} holds no token; remove it, and restart the daemon to have a new one")
    return Token(text)


def keep_token(folder: Path) -> Token:
    """The token of this state directory, for the daemon that holds its lock: the one that is there, where it is whole
    and its owner's alone and the owner is who asks; else a new one in its place.

    Raises:
        TokenMissing: it cannot be written.
    """
    path = folder / NAME
    with suppress(TokenMissing, OSError):
        if path.lstat().st_uid == os.geteuid():
            return read_token(folder)
    token = unknown()
    partial = path.with_name(f".{NAME}.partial")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token.secret.reveal() + "\n")
        partial.replace(path)
    except OSError as error:
        raise TokenMissing(f"{path} cannot be written: {error.strerror or error}") from error
    return token
