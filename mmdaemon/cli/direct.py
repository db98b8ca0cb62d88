"""`mmdaemon kill --direct`: the kill without a daemon, by a process of its own. For when the daemon hangs or is gone.

It needs the venue's address, at an exchange the key, and, to leave a latch behind, the state directory. All that
touches the disk runs on a thread that nothing waits for long: with a hung disk the cancels go out all the same, and the
process ends all the same.
"""

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import aclosing, closing
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Protocol, TypeVar

import msgspec

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.left import Address, AtExchange, Left, Tended, address_left, address_of, left_by, tended
from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.types import NS, KillState
from mmdaemon.daemon.sweep import Progress, sweep
from mmdaemon.journal.connection import writable_uri
from mmdaemon.journal.rows import kill_row
from mmdaemon.journal.state_dir import InUse, StateDir, StateDirRefused
from mmdaemon.journal.statements import STATEMENTS
from mmdaemon.ops.logging import redactor, texts_of
from mmdaemon.secret import Credentials
from mmdaemon.settings import load
from mmdaemon.settings.credentials import CredentialsMissing, read_credentials
from mmdaemon.venues.base import Venue, VenueUnavailable
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.remote import RemoteVenue

T = TypeVar("T")

DONE: Final = 0
NOT_REACHED: Final = 1
REMAIN: Final = 2
GIVE_UP_S: Final = 60.0
_LOOK_S: Final = 2.0
"""Longest that the journal may take to say whether the last run stopped cleanly."""
_EVIDENCE_S: Final = 2.0
_PATIENCE_S: Final = 10.0
"""A daemon that has not answered in so long hangs; its own stall thread and its watchdog have had their turn."""
_BUSY_S: Final = 0.2
_SAY_EVERY_S: Final = 2.0
_REQUEST_S: Final = 1.0
_EXCHANGE_REQUEST_S: Final = 3.0


def kill_direct(
    directory: StateDir,
    *,
    venue: Path | None,
    config: Path | None,
    if_dirty: bool,
    wait: bool,
    reason: str,
    for_s: float,
) -> int:
    """See `mmdaemon kill --help`. Exit codes: 0 nothing rests, 1 the venue was not reached, 2 orders remain."""
    disk = _Disk()
    # The journal on a thread of its own: where it takes too long, venue and lock are no less known.
    unread = Left(_within(_LOOK_S, disk.do(lambda: address_left(directory)), None))
    left = _within(_LOOK_S, _Disk().do(lambda: left_by(directory)), unread)
    if if_dirty and not left.dirty:
        _say("the last run stopped cleanly: nothing to do")
        return DONE
    # Once its process is gone a restart recovers by itself. Not from a journal that nobody can read.
    latch = _Latch(directory, reason, spares=if_dirty and not left.is_journal_lost)
    if if_dirty and (whose := _whose(directory, disk, latch)):
        _say(f"{whose}: nothing to do")
        return DONE
    address = _address(left, venue, config)
    latching = disk.do(latch.close)
    if not address.is_known:
        return _nothing_outlives(latch, latching)
    try:
        key = _key(address.at)
    except CredentialsMissing as missing:
        # The latch is closed all the same; what rests at the exchange is not touched, and it is said so.
        _within(_EVIDENCE_S, latching, ())
        raise Refused(f"{missing}. Nothing was cancelled", ExitCode.CREDENTIALS) from None
    _say.blot = redactor(texts_of(key))
    # Beside the cancels, and not before them.
    progress = Progress(tripped_ns=time.monotonic_ns())
    reached, code = run_real(lambda clock: _cancel(clock, address, key, progress, wait=wait, for_s=for_s))
    failures = _within(_EVIDENCE_S, disk.do(lambda: latch.add(reached, progress)), ("the disk takes too long",))
    for failure in failures:
        _say(f"not put down: {failure}")
    return code


def _whose(directory: StateDir, disk: "_Disk", latch: "_Latch") -> str:
    """Who looks after what was left; empty: nobody, or a daemon that hangs."""
    match asyncio.run(tended(directory, _PATIENCE_S)):
        case Tended.ANSWERS:
            return f"a daemon answers at {directory.socket_path} and looks after its orders"
        case Tended.HANGS:
            _say(f"a daemon listens at {directory.socket_path} and has not answered for {_PATIENCE_S:g} s: it hangs")
            return ""
        case Tended.NOBODY:
            # Before it listens it recovers, and behind that it reads the venue empty; systemd ends one that hangs then.
            is_used = _within(_LOOK_S, disk.do(latch.is_used), otherwise=False)
            return f"a daemon starts or stops ({latch.holder})" if is_used else ""


def _address(left: Left, venue: Path | None, config: Path | None) -> Address:
    if venue is None and config is None and left.address is not None:
        return left.address
    settings = load(config, {"venue.remote": str(venue)} if venue else {}).settings
    named = address_of(settings)
    if not named.is_known:
        # A file need not say what a flag said (`run --testnet --config FILE`): what the run put down does.
        if left.address is not None:
            return left.address
        raise Refused(
            "where the venue is is not known: name its socket (--venue), the daemon's file (--config), or its "
            "--state-dir. Nothing was cancelled",
            ExitCode.USAGE,
        )
    if left.address is None or config:
        return named
    return msgspec.structs.replace(named, in_flight_max_s=left.address.in_flight_max_s)


def _key(at: AtExchange | None) -> Credentials | None:
    """Raises CredentialsMissing. Whatever is only a warning to who begins to trade is none to who ends it."""
    if at is None:
        return None
    return read_credentials(at.exchange, os.environ, is_live=False).credentials


def _nothing_outlives(latch: "_Latch", latching: "Future[tuple[str, ...]]") -> int:
    """The simulated venue in the daemon's own process: gone with it, and out of reach while it is there."""
    for failure in _within(_EVIDENCE_S, latching, ("the disk takes too long",)):
        _say(f"not put down: {failure}")
    if not latch.is_locked:
        _say(f"the venue is within the daemon's process, and cannot be reached from here: {latch.holder}")
        return NOT_REACHED
    _say("the venue was within the daemon's process, which is gone, and everything that rested with it")
    return DONE


# --- the venue --------------------------------------------------------------------------------------------------------


class _Killed(Venue, Protocol):
    """A venue that says why it cannot be reached."""

    @property
    def why(self) -> str: ...


def _venue(clock: RealClock, address: Address, key: Credentials | None) -> _Killed:
    if address.at is None:
        return RemoteVenue(Path(address.remote), clock, _REQUEST_S, kills=True)
    from mmdaemon.venues.exchanges import exchange

    config = CcxtConfig(
        exchange=address.at.exchange,
        account=address.at.account,
        symbol=address.at.symbol,
        environment=address.at.environment,
        credentials=key,
        emulator_url=address.at.emulator,
        request_timeout_s=_EXCHANGE_REQUEST_S,
    )
    return exchange(config, clock, kills=True)


async def _cancel(
    clock: RealClock, address: Address, key: Credentials | None, progress: Progress, *, wait: bool, for_s: float
) -> tuple[KillState, int]:
    """Cancel and read until nothing rests (`wait`: until nothing can land any more), or for `for_s`; 0 is without end.
    What was reached, and the exit code."""
    reached = KillState.KILLING
    venue = _venue(clock, address, key)
    saying = asyncio.create_task(_say_how_it_goes(progress, venue))
    try:
        async with asyncio.timeout(for_s or None):
            await _open(venue)
            window_ns = round(address.in_flight_max_s * NS)
            async with aclosing(sweep(venue, clock, window_ns, lambda: (), progress)) as swept:
                async for state in swept:
                    reached = state
                    _say(_standing(state, progress))
                    if state is KillState.QUIET and not wait:
                        break
    except TimeoutError:
        _say(f"given up after {for_s:g} s{_because(venue)}: {_standing(reached, progress)}")
    finally:
        saying.cancel()
        await venue.close()
    is_done = reached is KillState.VERIFIED or (reached is KillState.QUIET and not wait)
    if is_done:
        return reached, DONE
    return reached, REMAIN if progress.orders_left >= 0 else NOT_REACHED


async def _open(venue: Venue) -> None:
    said = ""
    while True:
        try:
            await venue.open(lambda _event: None)
        except VenueUnavailable as error:
            if str(error) != said:
                said = str(error)
                _say(f"{said}; trying again")
            await asyncio.sleep(_REQUEST_S / 5)
        else:
            return


async def _say_how_it_goes(progress: Progress, venue: _Killed) -> None:
    while True:
        await asyncio.sleep(_SAY_EVERY_S)
        _say(f"{_standing(None, progress)}{_because(venue)}")


def _because(venue: _Killed) -> str:
    return f"; {venue.why}" if venue.why else ""


def _standing(state: KillState | None, seen: Progress) -> str:
    rest = "open orders not read yet" if seen.orders_left < 0 else f"{seen.orders_left} orders rest"
    failed = f", {seen.failed_reads} failed" if seen.failed_reads else ""
    return f"{state or 'at work'}: {rest} ({seen.cancels} cancels by id, {seen.reads} reads{failed})"


# --- the disk ---------------------------------------------------------------------------------------------------------


class _Disk:
    """Jobs one after the other, on a thread that the end of the process does not wait for."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._work, name="disk", daemon=True).start()

    def do(self, job: Callable[[], T]) -> "Future[T]":
        done: Future[T] = Future()

        def work() -> None:
            try:
                done.set_result(job())
            except (OSError, sqlite3.Error, ValueError) as error:
                done.set_exception(error)

        self._jobs.put(work)
        return done

    def _work(self) -> None:
        while True:
            self._jobs.get()()


def _within(most_s: float, job: "Future[T]", otherwise: T) -> T:
    try:
        return job.result(most_s)
    except (TimeoutError, OSError, sqlite3.Error, ValueError):
        return otherwise


class _Latch:
    """The kill files always; rows in the journal only where no daemon holds it: it has one writer. With `spares`
    neither where no process has the directory: what is gone cannot go on, and this one holds the lock while it works.
    """

    def __init__(self, directory: StateDir, reason: str, *, spares: bool) -> None:
        self._directory = directory
        self._spares = spares
        self._reason = f"kill --direct: {reason or 'operator'}"
        self.is_locked = False
        self.holder = "who has the directory is not known"

    def close(self) -> tuple[str, ...]:
        """What went wrong. The directory stays locked to the end of this process where nobody has it: nothing is to
        start while it works."""
        if not self._directory.path.is_dir():
            return (f"there is no state directory {self._directory.path}, so nothing keeps the next start stopped",)
        # Before the lock, but for who must know first whether anybody has it.
        failures = () if self._spares else self._directory.write_latch(f"{_now()} {self._reason}")
        self.is_used()
        if self._spares and not self.is_locked:
            failures = self._directory.write_latch(f"{_now()} {self._reason}")
        return (*failures, *self._journal(KillState.KILLING, Progress()))

    def is_used(self) -> bool:
        """Another process has the directory. Takes it where nobody has."""
        if self.is_locked:
            return False
        try:
            self._directory.lock()
            self.is_locked = True
        except InUse as used:
            self.holder = str(used)
            return True
        except StateDirRefused as refused:
            self.holder = str(refused)
        return False

    def add(self, reached: KillState, progress: Progress) -> tuple[str, ...]:
        """What it came to, as evidence."""
        if not self._directory.path.is_dir():
            return (f"there is no state directory {self._directory.path}, so nothing keeps the next start stopped",)
        if self._spares and self.is_locked:
            return ()
        failures = self._directory.write_latch(f"{_now()} {self._reason}: {_standing(reached, progress)}")
        return (*failures, *self._journal(reached, progress))

    def _journal(self, state: KillState, progress: Progress) -> tuple[str, ...]:
        path = self._directory.journal_path
        if self._spares or not self.is_locked or not path.exists():
            return ()
        try:
            with closing(sqlite3.connect(writable_uri(path), uri=True, timeout=_BUSY_S)) as db, db:
                db.execute("PRAGMA synchronous = FULL").fetchall()
                (epoch,) = db.execute("SELECT max(epoch) FROM runs").fetchone()
                evidence = msgspec.to_builtins(progress)
                row = kill_row(epoch or 0, time.monotonic_ns(), time.time_ns(), state, self._reason, evidence)
                db.execute(STATEMENTS[row[0]], row[1])
        except (sqlite3.Error, OSError) as error:
            return (f"{path}: {error}",)
        return ()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _Say:
    """A line on stderr, which under systemd is the log. A venue may say what it was sent, or steer a terminal."""

    def __init__(self) -> None:
        self.blot: Callable[[str], str] = str

    def __call__(self, line: str) -> None:
        shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in self.blot(line))
        print(f"mmdaemon: {shown}", file=sys.stderr, flush=True)


_say = _Say()
