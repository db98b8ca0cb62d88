"""The receipt of a passed preflight: what `run --live` asks for, and what it checks before a socket is opened.

`mmdaemon preflight` writes it; nothing else does. It is of one configuration (by its hash), one mode, one account (by
its key's fingerprint, an emulator's being another) and one version of this program, and it ages. It names a row of the
journal for each of the fourteen items, and both are sealed with the account's secret: an edited field, an edited row
and a row that is missing are seen. Who has the secret can make one; who has the secret can trade without any.

    stage     is written by           lets
    testnet   preflight --testnet     a preflight --live take its rows over
    reduced   preflight --live        run --live, with the sizes below at most
    full      the same, once a daemon ran for long enough at reduced size     run --live
"""

import hmac
import os
import stat
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from mmdaemon.secret import Secret

NAME: Final = "preflight.json"
"""In the state directory."""
MAX_AGE: Final = timedelta(days=30)
"""Of the receipt, and of each row that it stands on."""
LARGEST_BYTES: Final = 1 << 16
ITEMS: Final = (
    "fees",
    "instrument",
    "kill_switch",
    "strangers",
    "reconciliation",
    "feeds",
    "order_life",
    "budgets",
    "guards",
    "pnl",
    "paper",
    "crash",
    "soak",
    "account",
)
"""The checklist, in its order. A receipt stands on these and on no others, each passed."""
REDUCED_RUN: Final = "reduced_run"
"""What a receipt of stage "full" stands on besides: a daemon that ran for long enough at reduced size, live."""
REDUCED_ORDER_QUOTE: Final = 50.0
REDUCED_POSITION_QUOTE: Final = 250.0
"""The most that one order and the position may be worth while the stage is "reduced"."""

Outcome = Literal["passed", "failed", "not_checked"]
Stage = Literal["testnet", "reduced", "full"]


def needed(stage: Stage) -> tuple[str, ...]:
    """What a receipt of this stage stands on, exactly."""
    return (*ITEMS, REDUCED_RUN) if stage == "full" else ITEMS


class Row(Protocol):
    """A row of the journal's table `preflights`."""

    @property
    def ts_ns(self) -> int: ...
    @property
    def item(self) -> str: ...
    @property
    def outcome(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def config_hash(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def seal(self) -> str: ...
    def said(self) -> bytes: ...


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`issued_at` has its offset from UTC. `rows` has the seal of each item's row."""

    version: str
    config_hash: str
    mode: str
    account: str
    issued_at: datetime
    stage: Stage
    rows: Mapping[str, str]
    seal: str = ""

    def said(self) -> bytes:
        """All but the seal, in one spelling."""
        return msgspec.json.encode(msgspec.structs.astuple(self)[:-1])


class ReceiptRefused(Exception):
    """There is no receipt, or not one for this; the message says why."""


def seal_of(said: bytes, secret: Secret) -> str:
    """HMAC-SHA256, in hexadecimal digits, by the account's API secret."""
    return hmac.digest(secret.reveal().encode(), b"mmdaemon preflight\0" + said, "sha256").hex()


def is_sealed(each: Row | Receipt, secret: Secret) -> bool:
    return hmac.compare_digest(seal_of(each.said(), secret).encode(), each.seal.encode())


def text_of(receipt: Receipt, secret: Secret) -> bytes:
    """As the file has it, sealed."""
    sealed = msgspec.structs.replace(receipt, seal=seal_of(receipt.said(), secret))
    return msgspec.json.format(msgspec.json.encode(sealed), indent=2) + b"\n"


def check(
    path: Path,
    *,
    version: str,
    config_hash: str,
    mode: str,
    account: str,
    secret: Secret,
    rows: Iterable[Row],
    now: datetime,
) -> Receipt:
    """The receipt, where it is one for exactly this. `rows` are those of the journal.

    Raises:
        ReceiptRefused: it is absent, cannot be read, could have been written by others, is of something else, is too
            old or from the future, was edited, or does not stand on a passed row of each item.
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
    if not is_sealed(receipt, secret):
        raise ReceiptRefused(f"{path} was edited, or sealed with another secret: make a new one")
    if (receipt.stage == "testnet") != (mode == "testnet"):
        raise ReceiptRefused(f"{path} is of stage {receipt.stage!r}, which is none of {mode}")
    if receipt.issued_at.tzinfo is None:
        raise ReceiptRefused(f"{path} does not say in which time zone it was issued")
    if receipt.issued_at > now:
        raise ReceiptRefused(f"{path} is from the future ({receipt.issued_at}): look at the clock of this machine")
    if now - receipt.issued_at > MAX_AGE:
        raise ReceiptRefused(f"{path} is older than {MAX_AGE.days} days ({receipt.issued_at})")
    if unmet := [item for item in needed(receipt.stage) if item not in receipt.rows]:
        raise ReceiptRefused(f"{path} is of a preflight that did not pass ({', '.join(unmet)})")
    if unknown := sorted(set(receipt.rows) - set(needed(receipt.stage))):
        raise ReceiptRefused(f"{path} names items that there are not: {', '.join(unknown)}")
    by_seal = {row.seal: row for row in rows}
    if wrong := [
        f"{item}: {why}"
        for item, seal in receipt.rows.items()
        if (why := _wrong(by_seal.get(seal), item, receipt, secret, now))
    ]:
        raise ReceiptRefused(f"{path} does not stand on the journal ({'; '.join(wrong)}): run the preflight again")
    return receipt


def _wrong(row: Row | None, item: str, receipt: Receipt, secret: Secret, now: datetime) -> str:
    """What is wrong with the row that an item stands on; empty: nothing."""
    if row is None:
        return "its row is not there"
    if not is_sealed(row, secret):
        return "its row was edited"
    whose = (row.item, row.version, row.config_hash, row.account, row.mode)
    if whose != (item, receipt.version, receipt.config_hash, receipt.account, receipt.mode):
        return "its row is of something else"
    if row.outcome != "passed":
        return f"its row says {row.outcome}"
    if now - datetime.fromtimestamp(row.ts_ns / 1e9, UTC) > MAX_AGE:
        return f"it was measured more than {MAX_AGE.days} days ago"
    return ""


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
