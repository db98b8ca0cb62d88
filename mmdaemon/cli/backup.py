"""`mmdaemon backup` and `mmdaemon restore`: verified copies of the journal, and one put back in its place."""

import os
import pwd
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.console import Console
from mmdaemon.cli.left import address_left
from mmdaemon.cli.operate import REASON_MAX_CHARS
from mmdaemon.cli.run import locked
from mmdaemon.cli.status import plain
from mmdaemon.clock import since_boot_ns
from mmdaemon.core.types import NS
from mmdaemon.daemon.backup import Plan, take
from mmdaemon.journal.backup import BackupFailed, Kept, back_up
from mmdaemon.journal.backup_kept import kept_in
from mmdaemon.journal.backup_restore import Examined, RestoreRefused, examine
from mmdaemon.journal.backup_restore import restore as put_back
from mmdaemon.journal.backup_sums import lines
from mmdaemon.journal.state_dir import StateDir, locate

NO_BACKUP: Final = 1
_NICE: Final = 10


def backup(
    *,
    to: Path | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    daily: Annotated[bool, Parameter(negative=())] = False,
    keep_daily: int = 14,
    keep_monthly: int = 12,
    json: Annotated[bool, Parameter(negative=())] = False,
    state_dir: Path | None = None,
) -> int:
    """Copy the journal, also of a running daemon, and prove the copy: SQLite's check, its sums, its hash.

    The copy is of one moment and holds nobody up. Beside NAME.sqlite lies its proof, NAME.json: a copy goes with it
    wherever it is taken. Exits with 1 where no copy could be made; then none is there. docs/BACKUP.md has the rest.

    Parameters
    ----------
    to
        Folder of the copies; without one that of the last run (`backup.dir`), else `backups` in the state directory.
    list_
        Show those there are, and take no other.
    daily
        As the daemon does it once a day: then away those that need not stay. Others stay until you remove them.
    keep_daily
        With --daily: of so many days the newest stays.
    keep_monthly
        With --daily: of so many months the newest stays.
    json
        Print the proof as JSON.
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own.
    """
    directory = locate_dir(state_dir)
    folder = _folder(directory) if to is None else to
    if list_:
        return _list(folder)
    if keep_daily < 1 or keep_monthly < 0:
        raise Refused("--keep-daily is 1 at least, --keep-monthly 0 at least", ExitCode.USAGE)
    if to is None:
        _refuse_other_user(directory.path, "backup")
    with suppress(OSError):  # a sandbox may forbid it
        os.nice(_NICE)  # whoever asks for it, the daemon comes first
    try:
        if daily:
            made = take(Plan(directory.journal_path, folder, keep_daily, keep_monthly), time.time_ns())
        else:
            made = back_up(directory.journal_path, folder, "asked", time.time_ns())
    except (BackupFailed, OSError) as failed:
        print(f"mmdaemon: {failed}", file=sys.stderr)
        return NO_BACKUP
    if json:
        print(msgspec.json.encode(made.proof).decode())
    else:
        _show(made)
    return ExitCode.OK


def _show(made: Kept) -> None:
    terminal = Console(highlight=False, soft_wrap=True, markup=False)
    proof = made.proof
    terminal.print(f"{made.path}")
    terminal.print(f"  of {proof.moment}, {proof.bytes:,} bytes, verified, in {proof.took_s:.1f} s")
    for line in lines(proof.sums):
        terminal.print(f"  {plain(line)}")
    terminal.print("  copy it to another machine with its .json beside it; `mmdaemon restore` puts one back")


def _list(folder: Path) -> int:
    terminal = Console(highlight=False, soft_wrap=True, markup=False)
    found = kept_in(folder)
    for each in reversed(found):
        proof = each.proof
        terminal.print(
            f"{proof.moment}  {proof.why:<9}  {proof.bytes:>15,} bytes  run {proof.sums.last_epoch}  {each.path}"
        )
    if not found:
        terminal.print(f"no backup in {folder}; `mmdaemon backup` makes one, --to names another folder")
        return NO_BACKUP
    return ExitCode.OK


def restore(
    backup: Path | None = None,
    /,
    *,
    reason: str = "",
    latest: Annotated[bool, Parameter(negative=())] = False,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    check: Annotated[bool, Parameter(negative=())] = False,
    without_proof: Annotated[bool, Parameter(negative=())] = False,
    state_dir: Path | None = None,
) -> int:
    """Put a backup in the place of the journal of a stopped daemon. The journal that was there is kept beside it.

    The backup is verified before and after. The kill latch is closed: the daemon then starts, cancels everything, reads
    from the venue what was filled since, and waits for `mmdaemon resume --reason`. Exits with 1 where the backup is
    refused, and with 75 while a daemon uses the directory; then nothing was changed. docs/BACKUP.md has the rest.

    Parameters
    ----------
    backup
        The copy, with its .json beside it.
    reason
        Why, for the journal.
    latest
        The newest of this bot in the folder of the last run (`backup.dir`), else in `backups` of the state directory.
    from_
        With --latest: look into this folder instead.
    check
        Verify it and show what it holds; change nothing.
    without_proof
        Take one without its .json: checked by SQLite alone, which does not see a byte that is wrong inside of a value.
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own.
    """
    if (backup is None) is not latest:
        raise Refused("name the backup, or say --latest; `mmdaemon backup --list` shows them", ExitCode.USAGE)
    if not check and not reason.strip():
        raise Refused('restore needs a reason: `mmdaemon restore FILE --reason "..."`', ExitCode.USAGE)
    if from_ is not None and not latest:
        raise Refused("--from is a folder for --latest to look into", ExitCode.USAGE)
    path = backup if backup is not None else _latest(locate_dir(state_dir), from_)
    terminal = Console(highlight=False, soft_wrap=True, markup=False)
    try:
        if check:
            _tell(terminal, examine(path, without_proof=without_proof))
            terminal.print("  it is whole; nothing was changed")
            return ExitCode.OK
        return _restore(terminal, path, plain(reason.strip())[:REASON_MAX_CHARS], without_proof, state_dir)
    except RestoreRefused as refused:
        print(f"mmdaemon: {refused}", file=sys.stderr)
        return NO_BACKUP


def _folder(directory: StateDir) -> Path:
    """Where the last run put its copies. Kept beside the journal, so that it is known when that cannot be read."""
    address = address_left(directory)
    return Path(address.backup_dir) if address and address.backup_dir else directory.path / "backups"


def _latest(directory: StateDir, from_: Path | None) -> Path:
    """Several bots may share a folder."""
    folder = from_ or _folder(directory)
    if not folder.is_dir():
        raise Refused(
            f"the folder of the copies, {folder}, is not there: mount it, or name another by --from", ExitCode.USAGE
        )
    found = kept_in(folder)
    tags = {each.proof.sums.bot_tag for each in found}
    if len(tags) > 1:
        tag = _tag_of(directory.journal_path)
        if tag is None:
            raise Refused(
                f"{folder} has copies of bots {', '.join(sorted(tags))}, and the journal in {directory.path} does not "
                "say whose it is: name the copy; `mmdaemon backup --list --to FOLDER` shows them",
                ExitCode.USAGE,
            )
        found = [each for each in found if each.proof.sums.bot_tag == tag]
    if not found:
        raise Refused(f"there is no backup of this bot in {folder}; name one", ExitCode.USAGE)
    return found[-1].path


def _tag_of(journal: Path) -> str | None:
    """None where it cannot be read."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True)) as db:
        return (db.execute("SELECT bot_tag FROM meta").fetchone() or (None,))[0]
    return None


def _tell(terminal: Console, found: Examined) -> None:
    of = found.proof.moment if found.proof else "an unknown moment, without proof"
    terminal.print(f"{found.path}\n  of {of}")
    for line in lines(found.sums):
        terminal.print(f"  {plain(line)}")


def _restore(terminal: Console, path: Path, reason: str, without_proof: bool, state_dir: Path | None) -> int:
    environ: Mapping[str, str] = os.environ
    place = locate(state_dir, "default", environ)
    _refuse_other_user(place, "restore")
    directory = locked(place, environ)
    try:
        mono_ns, ts_ns = since_boot_ns(), time.time_ns()
        done = put_back(
            directory, path, reason=reason, who=_who(), mono_ns=mono_ns, ts_ns=ts_ns, without_proof=without_proof
        )
    finally:
        directory.release()
    _tell(terminal, done.examined)
    if done.examined.proof is not None:
        lost_min = (ts_ns - done.examined.proof.moment_ts_ns) / NS / 60
        ago = f"{lost_min / 60:,.1f} h" if lost_min >= 60 else f"{lost_min:.0f} min"
        terminal.print(f"  {ago} ago: what was traded since is read from the venue's history")
    terminal.print(f"restored to {directory.journal_path}; the next run has a number above {done.epoch}")
    if done.replaced is not None:
        terminal.print(f"the journal that was there: {done.replaced}")
    for failure in done.latch_failures:
        terminal.print(f"a kill file could not be written, the journal's own latch is closed: {failure}")
    terminal.print(
        "The kill latch is closed. Start the daemon: it cancels everything. See `mmdaemon status` and `mmdaemon "
        "reconcile`, and no other daemon on this account; then `mmdaemon resume --reason ...`"
    )
    return ExitCode.OK


def _refuse_other_user(directory: Path, verb: str) -> None:
    """What root leaves in there the daemon can neither read nor write."""
    owner = directory.stat().st_uid if directory.is_dir() else os.geteuid()
    if owner != os.geteuid():
        raise Refused(
            f"{directory} belongs to user {_name(owner)}, and files of another would keep the daemon from working: "
            f"`sudo -u {_name(owner)} mmdaemon {verb} ...`",
            ExitCode.USAGE,
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _who() -> str:
    return f"{_name(os.getuid())} (uid {os.getuid()})"
