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
from contextlib import aclosing, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.types import NS, KillState
from mmdaemon.daemon.sweep import Progress, sweep
from mmdaemon.journal.connection import writable_uri
from mmdaemon.journal.recovery import read_latch
from mmdaemon.journal.rows import kill_row
from mmdaemon.journal.state_dir import StateDir, StateDirRefused
from mmdaemon.journal.statements import STATEMENTS
from mmdaemon.ops.control import ControlError
from mmdaemon.ops.control_client import call
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings, load
from mmdaemon.settings.credentials import CredentialsMissing, read_credentials
from mmdaemon.settings.rules import REAL_MODES
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
_BUSY_S: Final = 0.2
_SAY_EVERY_S: Final = 2.0
_REQUEST_S: Final = 1.0
_EXCHANGE_REQUEST_S: Final = 3.0


class AtExchange(msgspec.Struct, frozen=True):
    """An exchange as a run traded there. Its key is not here: it is read anew."""

    exchange: str
    account: Literal["classic", "unified"]
    symbol: str
    environment: Literal["demo", "live"]
    emulator: str
    """Address of an emulator in its place; empty is the exchange itself."""


class Address(msgspec.Struct, frozen=True):
    """How the venue of a state directory is reached. Kept beside the journal and not in it, so that it can be read when
    the journal cannot."""

    remote: str
    """Socket of the venue process; empty: the venue is an exchange, or in the daemon's own process."""
    in_flight_max_s: float
    at: AtExchange | None = None

    @property
    def is_known(self) -> bool:
        """Whether it is anywhere but in the daemon's own process."""
        return bool(self.remote) or self.at is not None


class Left(msgspec.Struct, frozen=True):
    """What the last process left in its state directory."""

    address: Address | None = None
    dirty: str = "what it left could not be read in time"
    """Why something may rest at the venue; empty after a clean stop, and where nothing ever ran."""


def remember(directory: StateDir, settings: Settings) -> None:
    """Put down how the venue is reached, before anything is sent to it. Raises OSError."""
    path = _address_path(directory)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(_of(settings)))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


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
    left = _within(_LOOK_S, disk.do(lambda: left_by(directory)), Left())
    if if_dirty and not left.dirty:
        _say("the last run stopped cleanly: nothing to do")
        return DONE
    if if_dirty and asyncio.run(_is_tended(directory)):
        _say(f"a daemon answers at {directory.socket_path} and looks after its orders: nothing to do")
        return DONE
    address = _address(left, venue, config)
    latch = _Latch(directory, reason)
    latching = disk.do(latch.close)
    if not address.is_known:
        return _nothing_outlives(latch, latching)
    try:
        key = _key(address.at)
    except CredentialsMissing as missing:
        # The latch is closed all the same; what rests at the exchange is not touched, and it is said so.
        _within(_EVIDENCE_S, latching, ())
        raise Refused(f"{missing}. Nothing was cancelled", ExitCode.CREDENTIALS) from None
    # Beside the cancels, and not before them.
    progress = Progress(tripped_ns=time.monotonic_ns())
    reached, code = run_real(lambda clock: _cancel(clock, address, key, progress, wait=wait, for_s=for_s))
    failures = _within(_EVIDENCE_S, disk.do(lambda: latch.add(reached, progress)), ("the disk takes too long",))
    for failure in failures:
        _say(f"not put down: {failure}")
    return code


# --- what was left ----------------------------------------------------------------------------------------------------


def left_by(directory: StateDir) -> Left:
    """Read it, without lock and without writing. Never raises."""
    path = _address_path(directory)
    address: Address | None = None
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        address = msgspec.json.decode(path.read_bytes(), type=Address)
    return Left(address, _why_dirty(directory, address is not None))


def _why_dirty(directory: StateDir, began: bool) -> str:
    """Unknown is dirty."""
    journal = directory.journal_path
    try:
        if not journal.exists():
            return "a daemon ran here, and its journal is gone" if began else ""
        with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as db:
            last = db.execute("SELECT epoch, clean_stop FROM runs ORDER BY epoch DESC LIMIT 1").fetchone()
    except (sqlite3.Error, OSError, ValueError) as error:
        latch = read_latch(directory)
        return f"the journal cannot be read ({error}; {'; '.join(latch.sources)})"
    if last is None or last[1] == 1:
        return ""
    return f"run {last[0]} did not stop cleanly"


async def _is_tended(directory: StateDir) -> bool:
    try:
        async with asyncio.timeout(1.0):
            await call(directory.socket_path, "status")
    except (ControlError, TimeoutError):
        return False
    return True


def _address(left: Left, venue: Path | None, config: Path | None) -> Address:
    if venue is None and config is None and left.address is not None:
        return left.address
    settings = load(config, {"venue.remote": str(venue)} if venue else {}).settings
    named = _of(settings)
    if not named.is_known and left.address is None:
        raise Refused(
            "where the venue is is not known: name its socket (--venue), the daemon's file (--config), or its "
            "--state-dir. Nothing was cancelled",
            ExitCode.USAGE,
        )
    if left.address is None or config:
        return named
    return msgspec.structs.replace(named, in_flight_max_s=left.address.in_flight_max_s)


def _of(settings: Settings) -> Address:
    """Where a run with these settings trades."""
    venue, at = settings.venue, None
    remote = str(Path(venue.remote).absolute()) if venue.remote else ""
    if settings.run.mode in REAL_MODES:
        environment = "demo" if settings.run.mode == "testnet" else "live"
        at = AtExchange(venue.exchange, venue.account, venue.symbol, environment, venue.emulator)
    return Address(remote, venue.in_flight_max_s, at)


def _key(at: AtExchange | None) -> Credentials | None:
    """Raises CredentialsMissing. Whatever is only a warning to who begins to trade is none to who ends it."""
    if at is None:
        return None
    return read_credentials(at.exchange, os.environ, is_live=False).credentials


def _address_path(directory: StateDir) -> Path:
    return directory.path / "venue.json"


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
    """The kill files always; rows in the journal only where no daemon holds it: it has one writer."""

    def __init__(self, directory: StateDir, reason: str) -> None:
        self._directory = directory
        self._reason = f"kill --direct: {reason or 'operator'}"
        self.is_locked = False
        self.holder = "who has the directory is not known"

    def close(self) -> tuple[str, ...]:
        """What went wrong. The directory stays locked to the end of this process where nobody has it: nothing is to
        start while it works."""
        if not self._directory.path.is_dir():
            return (f"there is no state directory {self._directory.path}, so nothing keeps the next start stopped",)
        failures = self._directory.write_latch(f"{_now()} {self._reason}")
        try:
            self._directory.lock()
            self.is_locked = True
        except StateDirRefused as refused:
            self.holder = str(refused)
        return (*failures, *self._journal(KillState.KILLING, Progress()))

    def add(self, reached: KillState, progress: Progress) -> tuple[str, ...]:
        """What it came to, as evidence."""
        if not self._directory.path.is_dir():
            return (f"there is no state directory {self._directory.path}, so nothing keeps the next start stopped",)
        failures = self._directory.write_latch(f"{_now()} {self._reason}: {_standing(reached, progress)}")
        return (*failures, *self._journal(reached, progress))

    def _journal(self, state: KillState, progress: Progress) -> tuple[str, ...]:
        path = self._directory.journal_path
        if not self.is_locked or not path.exists():
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


def _say(line: str) -> None:
    print(f"mmdaemon: {line}", file=sys.stderr, flush=True)
