"""journald's native protocol: an entry of named fields in one datagram (systemd.io, JOURNAL_NATIVE_PROTOCOL).

    PRIORITY=6\\n
    MESSAGE\\n<length, 8 bytes, little endian>text of\\nmore than one line\\n

A value without a line break is `NAME=value`; one with a break carries its length. What does not fit into a datagram
goes by a sealed memory file whose descriptor is passed instead. `journalctl MMDAEMON_EVENT=fill` finds by any field.
"""

import array
import errno
import fcntl
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

SOCKET: Final = Path("/run/systemd/journal/socket")
NAME_MAX_CHARS: Final = 64
VALUE_MAX_CHARS: Final = 65_536
"""What is longer is cut: it came from outside, and one line is no place for it."""
_NAMESPACE: Final = UUID("d7c6a1b2-7f3e-5a40-9d0c-6d6d6461656d")
_ODD: Final = re.compile(r"[^A-Z0-9]+")
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def message_id(event: str) -> str:
    """The MESSAGE_ID of an event's name, the same for ever: 32 hexadecimal digits."""
    return uuid5(_NAMESPACE, event).hex


def field_name(name: str) -> str:
    """`name` as journald takes it: capitals, digits and underscores, 64 at most; MMDAEMON_ before it.

    An underscore at the front is journald's own mark, and a name it does not take loses the field.
    """
    return f"MMDAEMON_{_ODD.sub('_', name.upper()).strip('_') or 'FIELD'}"[:NAME_MAX_CHARS]


def encoded(fields: Mapping[str, str]) -> bytes:
    """One entry. Names are taken as they are: `field_name` makes one."""
    entry = bytearray()
    for name, text in fields.items():
        value = text[:VALUE_MAX_CHARS].encode("utf-8", "backslashreplace")
        if b"\n" in value:
            entry += name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
        else:
            entry += name.encode() + b"=" + value + b"\n"
    return bytes(entry)


class JournalSocket:
    """The way to journald. It may wait for a journald that is behind, so it belongs on a thread of its own."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def send(self, fields: Mapping[str, str]) -> None:
        """Raises OSError: journald is not there (it is found again once it is), or takes no memory file."""
        entry = encoded(fields)
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(entry)

    def close(self) -> None:
        self._socket.close()

    def _send_file(self, entry: bytes) -> None:
        fd = os.memfd_create("mmdaemon-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(entry)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            passed = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            self._socket.sendmsg([], passed, 0, self._path)
        finally:
            os.close(fd)
