"""The receipt of a passed preflight: what `run --live` asks for, and what it checks before a socket is opened.

`mmdaemon preflight` writes it; nothing else does. It is of one configuration (by its hash), one mode, one account (by
its key's fingerprint, an emulator's being another) and one version of this program, and it ages.
"""

import os
import stat
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import msgspec

NAME: Final = "preflight.json"
"""In the state directory."""
MAX_AGE: Final = timedelta(days=30)
LARGEST_BYTES: Final = 1 << 16

Outcome = Literal["passed", "failed", "not_checked"]


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`issued_at` has its offset from UTC. No data is a failure: a check that was not made is no passed one."""

    version: str
    config_hash: str
    mode: str
    account: str
    issued_at: datetime
    passed: bool
    checks: Mapping[str, Outcome]


class ReceiptRefused(Exception):
    """There is no receipt, or not one for this; the message says why."""


def text_of(receipt: Receipt) -> bytes:
    """As the file has it."""
    return msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n"


def check(path: Path, *, version: str, config_hash: str, mode: str, account: str, now: datetime) -> Receipt:
    """The receipt, where it is one for exactly this.

    Raises:
        ReceiptRefused: it is absent, cannot be read, could have been written by others, is of something else, is too
            old or from the future, or did not pass.
    """
    receipt = _read(path)
    differing = [
        name
        for name, said, is_now in (
            ("version", receipt.version, version),
            ("configuration", receipt.config_hash, config_hash),
            ("mode", receipt.mode, mode),
            ("account or key", receipt.account, account),
        )
        if said != is_now
    ]
    if differing:
        raise ReceiptRefused(f"{path} is of another {' and another '.join(differing)}")
    if receipt.issued_at.tzinfo is None:
        raise ReceiptRefused(f"{path} does not say in which time zone it was issued")
    if receipt.issued_at > now:
        raise ReceiptRefused(f"{path} is from the future ({receipt.issued_at}): look at the clock of this machine")
    if now - receipt.issued_at > MAX_AGE:
        raise ReceiptRefused(f"{path} is older than {MAX_AGE.days} days ({receipt.issued_at})")
    unmet = [name for name, outcome in receipt.checks.items() if outcome != "passed"]
    if receipt.passed is not True or unmet or not receipt.checks:
        raise ReceiptRefused(f"{path} is of a preflight that did not pass ({', '.join(unmet) or 'no checks'})")
    return receipt


def _read(path: Path) -> Receipt:
    try:
        if path.parent.stat().st_mode & 0o022:
            raise ReceiptRefused(f"{path.parent} can be written by others: chmod 0700")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            there = os.fstat(descriptor)
            data = os.read(descriptor, LARGEST_BYTES + 1) if stat.S_ISREG(there.st_mode) else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ReceiptRefused(f"there is no {path}") from None
    except OSError as error:
        raise ReceiptRefused(f"{path} cannot be read: {error.strerror}") from None
    if there.st_uid not in (0, os.geteuid()) or there.st_mode & 0o022:
        raise ReceiptRefused(f"{path} can be written by others: what it says is not known to be true")
    try:
        return msgspec.json.decode(data, type=Receipt)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ReceiptRefused(f"{path} is no receipt: {error}") from None
