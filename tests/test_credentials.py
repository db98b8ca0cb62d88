"""Keys: where they may come from, what is refused, that nothing shows them; and the receipt of a live one."""

import copy
import json
import logging
import os
import pickle
import re
import struct
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loguru import logger
from pydantic import TypeAdapter
from rich.console import Console
from rich.traceback import Traceback

from mmdaemon.journal.records import PreflightRow
from mmdaemon.ops import receipt
from mmdaemon.ops.receipt import ITEMS, MAX_AGE, ReceiptRefused, check, seal_of
from mmdaemon.secret import Credentials, Secret
from mmdaemon.settings.credentials import (
    FOLDER,
    VARIABLES,
    CredentialsMissing,
    Found,
    file_names,
    fingerprint,
    read_credentials,
)
from mmdaemon.venues.ccxt_config import CcxtConfig

CANARY = "canary-7d1f0b6e92"
TEXTS = {name: f"{CANARY}-{name[11:]}" for name in file_names("bitget")}


def folder(path: Path, **changed: str | None) -> Path:
    """Three files as systemd makes them; None leaves one out."""
    path.mkdir(exist_ok=True)
    for name, text in {**TEXTS, **changed}.items():
        if text is not None:
            (path / name).write_text(text)
            (path / name).chmod(0o400)
    return path


def read(path: Path, *, is_live: bool = True) -> Found:
    return read_credentials("bitget", {FOLDER: str(path)}, is_live=is_live)


def refused(path: Path, *, is_live: bool = True) -> CredentialsMissing:
    with pytest.raises(CredentialsMissing) as caught:
        read(path, is_live=is_live)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value.__context__)
    return caught.value


def parts(found: Found) -> list[str]:
    key = found.credentials
    return [key.api_key.reveal(), key.api_secret.reveal(), key.api_passphrase.reveal()]


# --- files ------------------------------------------------------------------------------------------------------------


def test_three_files_are_a_key(tmp_path: Path) -> None:
    found = read(folder(tmp_path, bitget_api_secret=f"  {CANARY} with a space\n\n"))
    assert parts(found) == [f"{CANARY}-key", f"{CANARY} with a space", f"{CANARY}-passphrase"]
    assert found.warnings == ()


def test_an_exchange_without_a_passphrase_has_two(tmp_path: Path) -> None:
    for name in ("bybit_api_key", "bybit_api_secret"):
        (tmp_path / name).write_text(CANARY)
        (tmp_path / name).chmod(0o400)
    found = read_credentials("bybit", {FOLDER: str(tmp_path)}, is_live=True)
    assert parts(found) == [CANARY, CANARY, ""]
    assert "passphrase" not in str(refused(tmp_path).problems) or "bitget_api_key" in str(refused(tmp_path))


@pytest.mark.parametrize("name", TEXTS)
def test_each_missing_file_is_named_with_what_to_do(tmp_path: Path, name: str) -> None:
    missing = refused(folder(tmp_path, **{name: None}), is_live=False)
    assert missing.problems == (f"{tmp_path / name} is missing",)
    assert "LoadCredential=" in str(missing)
    assert FOLDER in str(missing)


def test_all_of_them_are_named_at_once(tmp_path: Path) -> None:
    assert len(refused(tmp_path / "nowhere").problems) == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        (f"{CANARY}\nX-Header: y", "is not one line of printable ASCII"),
        (f"{CANARY}é", "is not one line of printable ASCII"),
        (f"{CANARY}\0", "is not one line of printable ASCII"),
        (CANARY * 300, "is larger than 4,096 bytes"),
    ],
)
def test_what_cannot_be_a_key_is_refused_and_not_repeated(tmp_path: Path, text: str, why: str) -> None:
    assert why in refused(folder(tmp_path, bitget_api_secret=text)).problems[0]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    folder(tmp_path, bitget_api_key=None, bitget_api_secret=None)
    os.mkfifo(tmp_path / "bitget_api_key")
    (tmp_path / "bitget_api_secret").mkdir()
    assert [problem.rpartition("/")[2] for problem in refused(tmp_path).problems] == [
        "bitget_api_key is not a file",
        "bitget_api_secret is not a file",
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    folder(tmp_path)
    (tmp_path / "bitget_api_key").chmod(0)
    assert "bitget_api_key cannot be read: Permission denied" in refused(tmp_path).problems[0]


@pytest.mark.parametrize(("mode", "who"), [(0o440, "its group"), (0o404, "all users"), (0o420, "its group")])
def test_files_that_others_may_read_or_change(tmp_path: Path, mode: int, who: str) -> None:
    (folder(tmp_path) / "bitget_api_secret").chmod(mode)
    assert f"bitget_api_secret is open to {who}" in refused(tmp_path).problems[0]
    found = read(tmp_path, is_live=False)
    assert [f"open to {who}" in warning for warning in found.warnings] == [True]
    assert parts(found)[1] == f"{CANARY}-secret"


def acl(*named: tuple[int, int], group: int = 0, mask: int = 4) -> bytes:
    """An access list: (tag, rights, id) each, sorted by tag as the kernel wants it."""
    none = 0xFFFFFFFF
    entries = [
        (0x01, 4, none),
        *((0x02, rights, who) for who, rights in named),
        (0x04, group, none),
        (0x10, mask, none),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in [*entries, (0x20, 0, none)])


@pytest.mark.parametrize(
    ("listed", "is_open"),
    [
        (acl((os.geteuid(), 4)), False),
        (acl((54_321, 4)), True),
        (acl((54_321, 4), mask=0), False),
        (acl((os.geteuid(), 4), group=4), True),
    ],
)
def test_an_access_list_is_read_as_systemd_writes_it(tmp_path: Path, listed: bytes, is_open: bool) -> None:
    """With `User=` systemd lets that user in by an access list, and the mode then shows its mask as the group's: 0440
    of a file that no group may read."""
    file = folder(tmp_path) / "bitget_api_key"
    try:
        os.setxattr(file, "system.posix_acl_access", listed)
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    if is_open:
        assert "by its access list" in refused(tmp_path).problems[0]
    else:
        assert read(tmp_path).warnings == ()


# --- variables --------------------------------------------------------------------------------------------------------


def test_variables_are_for_development() -> None:
    environ = {name: f" {CANARY}-{name} " for name in VARIABLES}
    found = read_credentials("bitget", environ, is_live=False)
    assert parts(found) == [f"{CANARY}-{name}" for name in VARIABLES]
    assert ["for development only" in warning for warning in found.warnings] == [True]
    assert environ == {}, "no child process inherits them"


def test_variables_are_refused_where_real_money_trades() -> None:
    environ = dict.fromkeys(VARIABLES, CANARY)
    with pytest.raises(CredentialsMissing, match="for development") as caught:
        read_credentials("bitget", environ, is_live=True)
    assert CANARY not in str(caught.value)
    assert environ == {}


@pytest.mark.parametrize("text", ["k\u00e9", "k\nX: y", "k\x7f"])
def test_variables_that_cannot_be_a_key_are_none(text: str) -> None:
    with pytest.raises(CredentialsMissing, match="is not one line of printable ASCII") as caught:
        read_credentials("bitget", dict.fromkeys(VARIABLES, text), is_live=False)
    assert len(caught.value.problems) == 3
    assert text not in str(caught.value)


def test_variables_that_lack_one_are_no_key() -> None:
    with pytest.raises(CredentialsMissing, match=r"\$MMDAEMON_API_SECRET is empty"):
        read_credentials("bitget", {VARIABLES[0]: "k", VARIABLES[2]: "p"}, is_live=False)


def test_files_count_where_there_are_both(tmp_path: Path) -> None:
    environ = {FOLDER: str(folder(tmp_path)), **dict.fromkeys(VARIABLES, "other")}
    found = read_credentials("bitget", environ, is_live=True)
    assert parts(found)[0] == f"{CANARY}-key"
    assert ["not read" in warning for warning in found.warnings] == [True]
    assert environ == {FOLDER: str(tmp_path)}
    (tmp_path / "bitget_api_key").unlink()
    with pytest.raises(CredentialsMissing, match="bitget_api_key is missing"):
        read_credentials("bitget", {**environ, **dict.fromkeys(VARIABLES, "other")}, is_live=False)


def test_nothing_at_all_names_the_files() -> None:
    with pytest.raises(CredentialsMissing, match="bitget_api_key, bitget_api_secret, bitget_api_passphrase"):
        read_credentials("bitget", {}, is_live=False)


# --- nothing shows them -----------------------------------------------------------------------------------------------


def held() -> Credentials:
    return Credentials(Secret(f"{CANARY}-key"), Secret(f"{CANARY}-secret"), Secret(f"{CANARY}-pass"))


def config() -> CcxtConfig:
    return CcxtConfig(credentials=held())


def refusing(show: Callable[[Any], object]) -> Callable[[Any], str]:
    """What it shows, or the error that it raises."""

    def shown(value: Any) -> str:
        try:
            return str(show(value))
        except (TypeError, ValueError, AttributeError, msgspec.MsgspecError) as error:
            return "".join(traceback.format_exception(error))

    return shown


@pytest.mark.parametrize("held_by", [lambda: Secret(CANARY), held, config, lambda: [config()], lambda: {"a": held()}])
@pytest.mark.parametrize(
    "show",
    [
        repr, str, ascii, "{}".format, "{!r:>40}".format, "%s".__mod__, lambda value: f"{value}",
        json.dumps, lambda value: json.dumps(value, default=repr), lambda value: json.dumps(value, default=vars),
        msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins,
        lambda value: TypeAdapter(Any).dump_json(value), lambda value: TypeAdapter(Any).dump_python(value, mode="json"),
        pickle.dumps, lambda value: pickle.dumps(value, protocol=0), copy.copy, copy.deepcopy, vars, list,
    ],
)  # fmt: skip
def test_nothing_shows_a_secret(held_by: Callable[[], Any], show: Callable[[Any], object]) -> None:
    assert CANARY not in refusing(show)(held_by())


def test_tracebacks_and_logs_do_not_show_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    written: list[str] = []
    sink = logger.add(written.append, level=0, backtrace=True, diagnose=True, serialize=False)
    also = logger.add(written.append, level=0, backtrace=True, diagnose=True, serialize=True)

    def fails(at: CcxtConfig, key: Credentials) -> None:
        secret = key.api_secret
        logger.bind(at=at, key=key, secret=secret).info("trading with {} {}", key, secret)
        logging.getLogger("x").warning("with %s %r", key, secret)
        raise ValueError(f"{at} {key} {secret}")

    try:
        fails(config(), held())
    except ValueError as error:
        logger.opt(exception=True).error("failed")
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        console = Console(record=True, width=400, file=open(os.devnull, "w"))  # noqa: SIM115 - closed below
        console.print(Traceback.from_exception(type(error), error, error.__traceback__, show_locals=True))
        written += [text, console.export_text()]
        console.file.close()
    finally:
        logger.remove(sink)
        logger.remove(also)
    shown = "".join(map(str, written)) + caplog.text
    assert shown.count("<secret>") > 5
    assert CANARY not in shown


def test_a_fingerprint_says_nothing_of_the_key_and_tells_accounts_apart() -> None:
    def of(key: str = "k", *rest: str, emulated: bool = False) -> str:
        exchange, account, environment = (*rest, *("bitget", "unified", "live")[len(rest) :])
        credentials = Credentials(Secret(key), Secret("s"), Secret("p"))
        return fingerprint(credentials, exchange, account, environment, emulated=emulated)

    different = {
        of(), of("l"), of("k", "okx"), of("k", "bitget", "classic"), of("k", "bitget", "unified", "demo"),
        of(emulated=True),
    }  # fmt: skip
    assert len(different) == 6
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in different)
    assert of() == of()


# --- the receipt ------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECRET = Secret("the account's secret")


def row(item: str, **changed: Any) -> PreflightRow:
    """A passed one of yesterday, sealed after `changed`."""
    said: dict[str, Any] = {
        "ts_ns": round((NOW - timedelta(days=1)).timestamp() * 1e9),
        "mode": "live",
        "item": item,
        "outcome": "passed",
        "version": "1.2",
        "config_hash": "c0",
        "account": "a0",
        "figures": "{}",
        "evidence": "looked at",
        **changed,
    }
    made = PreflightRow(**said)
    return msgspec.structs.replace(made, seal=seal_of(made.said(), SECRET))


ROWS = [row(item) for item in ITEMS]
GOOD: dict[str, Any] = {
    "version": "1.2",
    "config_hash": "c0",
    "mode": "live",
    "account": "a0",
    "issued_at": NOW - timedelta(days=1),
    "stage": "reduced",
    "rows": {each.item: each.seal for each in ROWS},
}


def looked_at(file: Path, rows: Sequence[PreflightRow] = ROWS) -> receipt.Receipt:
    return check(file, version="1.2", config_hash="c0", mode="live", account="a0", secret=SECRET, rows=rows, now=NOW)


def checked(path: Path, *, journal: Sequence[PreflightRow] = ROWS, **changed: Any) -> receipt.Receipt:
    """Against a receipt that was made with these otherwise."""
    file = path / receipt.NAME
    if not file.exists():
        file.write_bytes(receipt.text_of(receipt.Receipt(**{**GOOD, **changed}), SECRET))
        file.chmod(0o600)
    return looked_at(file, journal)


def edited(path: Path, **changed: Any) -> receipt.Receipt:
    """Against a good one whose file was edited; `...` takes a field out."""
    file = path / receipt.NAME
    said = json.loads(receipt.text_of(receipt.Receipt(**GOOD), SECRET)) | changed
    file.write_text(json.dumps({name: value for name, value in said.items() if value is not ...}))
    file.chmod(0o600)
    return looked_at(file)


def refusal(made: Callable[[], object]) -> str:
    with pytest.raises(ReceiptRefused) as caught:
        made()
    return str(caught.value)


def test_a_good_receipt_passes(tmp_path: Path) -> None:
    assert checked(tmp_path).stage == "reduced"
    assert len(ITEMS) == 14 == len(set(ITEMS))


def test_a_receipt_is_good_for_thirty_days_to_the_moment(tmp_path: Path) -> None:
    assert checked(tmp_path, issued_at=NOW - MAX_AGE).stage == "reduced"
    assert timedelta(days=30) == MAX_AGE


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"version": "1.3"}, "is of another version"),
        ({"config_hash": "c1"}, "is of another configuration"),
        ({"mode": "testnet"}, "is of another mode"),
        ({"account": "a1"}, "is of another account or key"),
        ({"mode": "testnet", "account": "a1"}, "mode and another account"),
        ({"issued_at": NOW - MAX_AGE - timedelta(seconds=1)}, "is older than 30 days"),
        ({"issued_at": NOW + timedelta(seconds=1)}, "is from the future"),
        ({"issued_at": datetime(2026, 11, 22, 12)}, "time zone"),  # noqa: DTZ001 - that is the point
        ({"stage": "testnet"}, "is none of live"),
        ({"stage": "full"}, "did not pass (reduced_run)"),
        ({"rows": {}}, f"did not pass ({', '.join(ITEMS)})"),
        ({"rows": {ITEMS[0]: ROWS[0].seal}}, f"did not pass ({', '.join(ITEMS[1:])})"),
        ({"rows": {**GOOD["rows"], "luck": ROWS[0].seal}}, "items that there are not: luck"),
        ({"rows": {**GOOD["rows"], "fees": "0" * 64}}, "fees: its row is not there"),
        ({"rows": {**GOOD["rows"], "fees": ROWS[1].seal}}, "fees: its row is of something else"),
    ],
)
def test_a_receipt_of_anything_else_is_refused(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    assert why in refusal(lambda: checked(tmp_path, **changed))


@pytest.mark.parametrize("item", ITEMS)
def test_a_receipt_without_one_of_the_fourteen_is_refused(tmp_path: Path, item: str) -> None:
    rows = {name: seal for name, seal in GOOD["rows"].items() if name != item}
    file = tmp_path / receipt.NAME
    made: dict[str, Any] = {**GOOD, "rows": rows}
    file.write_bytes(receipt.text_of(receipt.Receipt(**made), SECRET))
    file.chmod(0o600)
    assert f"did not pass ({item})" in refusal(lambda: looked_at(file))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"outcome": "failed"}, "its row says failed"),
        ({"outcome": "not_checked"}, "its row says not_checked"),
        ({"outcome": "progress"}, "its row says progress"),
        ({"version": "1.1"}, "of something else"),
        ({"config_hash": "c9"}, "of something else"),
        ({"account": "a9"}, "of something else"),
        ({"mode": "testnet"}, "of something else"),
        ({"item": "fees"}, "of something else"),
        ({"ts_ns": 0}, "more than 30 days ago"),
    ],
)
def test_each_item_stands_on_a_passed_row_of_just_this(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    other = row(**{"item": "pnl", **changed})
    rows = [each for each in ROWS if each.item != "pnl"] + [other]
    file = tmp_path / receipt.NAME
    made: dict[str, Any] = {**GOOD, "rows": {**GOOD["rows"], "pnl": other.seal}}
    file.write_bytes(receipt.text_of(receipt.Receipt(**made), SECRET))
    file.chmod(0o600)
    said = refusal(lambda: looked_at(file, rows))
    assert "pnl: " in said
    assert why in said


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"issued_at": NOW.isoformat()}, "was edited"),
        ({"issued_at": "2026-11-22T12:00:00"}, "was edited"),
        ({"issued_at": 1_700_000_000}, "is no receipt"),
        ({"stage": "full"}, "was edited"),
        ({"stage": "larger"}, "is no receipt"),
        ({"version": "1.1"}, "is of another version"),
        ({"config_hash": "c2"}, "is of another configuration"),
        ({"mode": "testnet"}, "is of another mode"),
        ({"account": "a2"}, "is of another account"),
        ({"rows": {**GOOD["rows"], "fees": "0" * 64}}, "was edited"),
        ({"rows": []}, "is no receipt"),
        ({"seal": ""}, "was edited"),
        ({"seal": "0" * 64}, "was edited"),
        ({"seal": "ä"}, "was edited"),
        ({"signed_by": "me"}, "is no receipt"),
        *(({name: ...}, "was edited" if name == "seal" else "is no receipt") for name in (*GOOD, "seal")),
    ],
)
def test_an_edited_receipt_is_refused(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    assert why in refusal(lambda: edited(tmp_path, **changed))


def test_another_secret_is_another_seal(tmp_path: Path) -> None:
    file = tmp_path / receipt.NAME
    file.write_bytes(receipt.text_of(receipt.Receipt(**GOOD), Secret("somebody else's")))
    file.chmod(0o600)
    assert "another secret" in refusal(lambda: looked_at(file))


@pytest.mark.parametrize("field", [name for name in PreflightRow.__struct_fields__ if name != "seal"])
def test_an_edited_row_is_refused(tmp_path: Path, field: str) -> None:
    before = getattr(ROWS[9], field)
    other = msgspec.structs.replace(ROWS[9], **{field: before + 1 if isinstance(before, int) else before + "x"})
    assert "pnl: its row was edited" in refusal(lambda: checked(tmp_path, journal=[*ROWS[:9], other, *ROWS[10:]]))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"[]", b"{}" * 40_000])
def test_what_is_no_receipt_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / receipt.NAME).write_bytes(content)
    (tmp_path / receipt.NAME).chmod(0o600)
    with pytest.raises(ReceiptRefused, match="is no receipt"):
        checked(tmp_path)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_receipt_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    checked(tmp_path)
    (tmp_path / receipt.NAME).chmod(mode)
    with pytest.raises(ReceiptRefused, match="can be written by others"):
        checked(tmp_path)


def test_a_receipt_in_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    checked(tmp_path)
    tmp_path.chmod(0o770)
    try:
        with pytest.raises(ReceiptRefused, match="can be written by others"):
            checked(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_receipt_that_is_no_file_of_its_own_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(receipt.text_of(receipt.Receipt(**GOOD), SECRET))
    (tmp_path / receipt.NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReceiptRefused, match="cannot be read"):
        checked(tmp_path)
    (tmp_path / receipt.NAME).unlink()
    os.mkfifo(tmp_path / receipt.NAME, 0o600)
    with pytest.raises(ReceiptRefused, match="is no receipt"):
        checked(tmp_path)


def test_no_receipt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReceiptRefused, match="there is no "):
        looked_at(tmp_path / "x" / receipt.NAME)
