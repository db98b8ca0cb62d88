"""Which backups there are, which of them stay, and when the next is due. Nothing here reads a journal.

Due is a question of the files alone, so it survives every restart: a backup is due where the set hour has passed since
the newest one. A daemon that did not run at that hour takes it when it starts.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mmdaemon.core.types import NS
from mmdaemon.journal.backup import BackupFailed, Kept, clear_left, proof_path, read_proof

_DAY_NS: Final = 86_400 * NS
_HOUR_NS: Final = 3_600 * NS


def kept_in(folder: Path) -> list[Kept]:
    """Finished backups, oldest first. One whose proof is missing, or cannot be read, is none and is left alone."""
    found: list[Kept] = []
    for path in sorted(folder.glob("journal-*.sqlite")):
        with suppress(BackupFailed):
            if (proof := read_proof(path)) is not None and proof.file == path.name:
                found.append(Kept(path, proof))
    return sorted(found, key=lambda each: (each.proof.moment_ts_ns, each.path.name))


def last_slot_ns(ts_ns: int, hour_utc: int) -> int:
    """The last moment up to `ts_ns` at which that hour began, UTC."""
    return ts_ns - (ts_ns - hour_utc * _HOUR_NS) % _DAY_NS


def is_due(ts_ns: int, newest_ts_ns: int, hour_utc: int) -> bool:
    """Whether the hour has passed since the newest one. One that is stamped a day ahead of the clock was made by
    another clock, and counts for nothing."""
    return newest_ts_ns < last_slot_ns(ts_ns, hour_utc) or newest_ts_ns > ts_ns + _DAY_NS


def stays(kept: Sequence[Kept], daily: int, monthly: int) -> set[Path]:
    """The newest of each of the last `daily` days that have one, and of each of the last `monthly` months. Of what was
    asked for by a person, or made before a migration, all."""
    ours = [each for each in kept if each.proof.why == "daily"]
    by_day = {_text(each, "%Y-%m-%d"): each.path for each in ours}
    by_month = {_text(each, "%Y-%m"): each.path for each in ours}
    return {
        *(each.path for each in kept if each.proof.why != "daily"),
        *_last(by_day, daily),
        *_last(by_month, monthly),
        *(each.path for each in ours[-1:]),
    }


def _last(by_name: dict[str, Path], count: int) -> Iterable[Path]:
    return [by_name[name] for name in sorted(by_name, reverse=True)[:count]]


def _text(each: Kept, form: str) -> str:
    return datetime.fromtimestamp(each.proof.moment_ts_ns // NS, UTC).strftime(form)


def prune(folder: Path, bot_tag: str, daily: int, monthly: int) -> list[Path]:
    """Take away what need not stay, of this bot alone, and what a backup that was cut short has left; what was taken.

    Raises OSError.
    """
    kept = [each for each in kept_in(folder) if each.proof.sums.bot_tag == bot_tag]
    staying = stays(kept, daily, monthly)
    gone = [each.path for each in kept if each.path not in staying]
    for path in gone:
        path.unlink(missing_ok=True)  # the copy before its proof: without a copy a proof misleads nobody
        proof_path(path).unlink(missing_ok=True)
    clear_left(folder, bot_tag)
    return gone
