"""Keys of an exchange: three files that systemd hands over, or three variables for development. Never settings.

  $CREDENTIALS_DIRECTORY/bitget_api_key, bitget_api_secret, bitget_api_passphrase     (LoadCredential=, or any folder)
  MMDAEMON_API_KEY, MMDAEMON_API_SECRET, MMDAEMON_API_PASSPHRASE                      (never where real money trades)
  $CREDENTIALS_DIRECTORY/notify_urls                                  (whom to tell; in any mode, and may be left out)

They are read once. What is read goes into a `Secret`, the variables are taken out of the environment, and no message
here repeats a value. Where `$CREDENTIALS_DIRECTORY` is set the files count and nothing else does.
"""

import os
import stat
import struct
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

from mmdaemon.secret import Credentials, Secret

FOLDER: Final = "CREDENTIALS_DIRECTORY"
PARTS: Final = ("key", "secret", "passphrase")
VARIABLES: Final = tuple(f"MMDAEMON_API_{part.upper()}" for part in PARTS)
WITH_PASSPHRASE: Final = frozenset({"bitget", "okx"})
NOTIFY_URLS: Final = "notify_urls"
NOTIFY_URLS_MAX: Final = 8
LARGEST_BYTES: Final = 4_096

_SHORTEST_CHARS: Final = 6
"""Of an address; less could not be blotted out of a log."""
_ACL: Final = "system.posix_acl_access"
_ACL_ENTRY: Final = struct.Struct("<HHI")
_USER, _GROUP_OBJ, _GROUP, _MASK = 0x02, 0x04, 0x08, 0x10


class Found(NamedTuple):
    """What was read, and what a person should be told of it."""

    credentials: Credentials
    warnings: tuple[str, ...]


class CredentialsMissing(Exception):
    """There is no key to trade with; each line says which file, and why. The command line exits with 77."""

    def __init__(self, exchange: str, problems: list[str]) -> None:
        self.problems = tuple(problems)
        names = ", ".join(file_names(exchange))
        how = f"give {names} by LoadCredential=, or in a folder that ${FOLDER} names, each readable by its owner alone"
        super().__init__("no credentials: " + "; ".join(problems) + f". {how}")


class Addresses(NamedTuple):
    """Whom to tell of the worst; empty where nobody asked for it."""

    urls: tuple[Secret, ...]
    warnings: tuple[str, ...]


class AddressesRefused(Exception):
    """The file of addresses cannot be used; the message says why, and shows none. The command line exits with 78."""


def file_names(exchange: str) -> tuple[str, ...]:
    """The files that an exchange's key is made of."""
    parts = PARTS if exchange in WITH_PASSPHRASE else PARTS[:2]
    return tuple(f"{exchange}_api_{part}" for part in parts)


def read_credentials(exchange: str, environ: MutableMapping[str, str], *, is_live: bool) -> Found:
    """The key of an exchange. Takes the variables out of `environ` whether or not they are used.

    `is_live`: real money: what is only a warning otherwise (files that others may read, variables) is refused.

    Raises:
        CredentialsMissing: a part is missing or cannot be used, or lies open where real money trades.
    """
    named = {name: environ.pop(name, "") for name in VARIABLES}
    is_set = any(named.values())
    problems: list[str] = []
    warnings: list[str] = []
    names = file_names(exchange)
    texts: list[str] = []
    if folder := environ.get(FOLDER, ""):
        if is_set:
            warnings.append(f"{', '.join(VARIABLES)} are not read: ${FOLDER} is set")
        for name in names:
            path = Path(folder) / name
            text, problem, openness = _read(path)
            if problem:
                problems.append(f"{path} {problem}")
            for why in openness:
                (problems if is_live else warnings).append(f"{path} {why}")
            texts.append(text)
    elif is_set and is_live:
        problems.append(f"{', '.join(VARIABLES)} are for development; where real money trades a key is files")
    elif is_set:
        warnings.append("the key is read from the environment, which is for development only")
        for name, variable in zip(names, VARIABLES, strict=False):
            text, problem = _checked(named[variable])
            if problem:
                problems.append(f"{name}: ${variable} {problem}")
            texts.append(text)
    else:
        problems.append(f"neither ${FOLDER} (with the files {', '.join(names)}) nor {VARIABLES[0]} is set")
    if problems:
        raise CredentialsMissing(exchange, problems)
    key, secret, passphrase = (*texts, "")[:3]
    return Found(Credentials(Secret(key), Secret(secret), Secret(passphrase)), tuple(warnings))


def read_notify_urls(environ: Mapping[str, str], *, is_live: bool) -> Addresses:
    """The addresses in the file `notify_urls`, one a line; blank lines and those that begin with # are left out.

    Raises:
        AddressesRefused: the file is there and cannot be used, or lies open where real money trades.
    """
    path = Path(environ.get(FOLDER, "")) / NOTIFY_URLS
    if not environ.get(FOLDER, "") or not path.exists():
        return Addresses((), ())
    text, problem, openness = _read(path, _checked_lines)
    warnings = tuple(f"{path} {why}" for why in openness)
    lines = text.splitlines()
    if len(lines) > NOTIFY_URLS_MAX:
        problem = f"has {len(lines)} addresses, {NOTIFY_URLS_MAX} at most"
    elif short := [number for number, line in enumerate(lines, 1) if len(line) < _SHORTEST_CHARS]:
        problem = f"has no address as number {short[0]}"
    if problem or (is_live and warnings):
        why = f"{path} {problem}" if problem else "; ".join(warnings)
        raise AddressesRefused(f"{why}; it must hold one address a line, as docs/NOTIFY.md shows, or not be there")
    return Addresses(tuple(Secret(line) for line in lines), warnings)


def fingerprint(credentials: Credentials, exchange: str, account: str, environment: str, *, emulated: bool) -> str:
    """Which account a key is of, in 32 hexadecimal digits that say nothing of the key. An emulator's is another one, so
    that nothing proven of it passes for the exchange."""
    of = (exchange, account, environment, "emulator" if emulated else "exchange", credentials.api_key.reveal())
    return blake2b("\0".join(of).encode(), digest_size=16, person=b"mmdaemon account").hexdigest()


def _read(path: Path, check: Callable[[str], tuple[str, str]] | None = None) -> tuple[str, str, tuple[str, ...]]:
    """(text, what is wrong, who else may read or change it)."""
    try:
        # Not to wait for whoever would write into a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return "", "is missing", ()
    except OSError as error:
        return "", f"cannot be read: {error.strerror}", ()
    try:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            return "", "is not a file", ()
        data = os.read(descriptor, LARGEST_BYTES + 1)
        openness = tuple(_openness(descriptor, there))
    except OSError as error:
        return "", f"cannot be read: {error.strerror}", ()
    finally:
        os.close(descriptor)
    if len(data) > LARGEST_BYTES:
        return "", f"is larger than {LARGEST_BYTES:,} bytes", openness
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        return "", "is not one line of printable ASCII", openness
    return *(check or _checked)(text), openness


def _checked(text: str) -> tuple[str, str]:
    """(text without the white space around it, what is wrong)."""
    text = text.strip()
    if not text:
        return "", "is empty"
    if not (text.isascii() and text.isprintable()):
        return "", "is not one line of printable ASCII"
    return text, ""


def _checked_lines(text: str) -> tuple[str, str]:
    """As `_checked`, of the lines that say something."""
    lines = [line for each in text.splitlines() if (line := each.strip()) and not line.startswith("#")]
    if not lines:
        return "", "is empty"
    if not all(line.isascii() and line.isprintable() and " " not in line for line in lines):
        return "", "is not printable ASCII without blanks within a line"
    return "\n".join(lines), ""


def _openness(descriptor: int, there: os.stat_result) -> Iterator[str]:
    """Who else may read or change the file. systemd lets a service's user in by an access list, whose mask then stands
    where the mode has the group: the list itself is read."""
    if there.st_uid not in (0, os.geteuid()):
        yield f"belongs to user {there.st_uid}, who is neither root nor this one"
    if there.st_mode & 0o007:
        yield "is open to all users of the machine: chmod 0400"
    try:
        listed = os.getxattr(descriptor, _ACL)
    except OSError:
        listed = b""  # none, or the file system has no such thing: the mode says it all
    if not listed:
        if there.st_mode & 0o070:
            yield "is open to its group: chmod 0400"
        return
    entries = list(_ACL_ENTRY.iter_unpack(listed[4:]))
    mask = next((rights for tag, rights, _ in entries if tag == _MASK), 7)
    for tag, rights, who in entries:
        allowed = rights & mask
        if tag == _USER and allowed and who not in (0, os.geteuid()):
            yield f"is open to user {who} by its access list"
        elif tag in (_GROUP_OBJ, _GROUP) and allowed:
            yield "is open to a group by its access list"
