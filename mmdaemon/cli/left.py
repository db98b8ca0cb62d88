"""What a daemon leaves in its state directory for whoever must clean up after it: where it traded, whether it stopped
cleanly, and whether somebody looks after its orders now."""

import asyncio
import os
import sqlite3
import time
from contextlib import closing, suppress
from enum import Enum
from pathlib import Path
from typing import Final, Literal

import msgspec

from mmdaemon.journal.recovery import read_latch
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.ops.control import ControlError
from mmdaemon.ops.control_client import NoDaemon, Silent, Unreadable, call
from mmdaemon.settings import Settings
from mmdaemon.settings.rules import REAL_MODES

_BUSY_S: Final = 0.2
_AGAIN_S: Final = 0.2
"""Before a daemon that closed the connection is asked again."""


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
    backup_dir: str = ""
    """Folder of the daily copies, where it is not `backups` in the state directory."""

    @property
    def is_known(self) -> bool:
        """Whether it is anywhere but in the daemon's own process."""
        return bool(self.remote) or self.at is not None


class Left(msgspec.Struct, frozen=True):
    """What the last process left in its state directory."""

    address: Address | None = None
    dirty: str = "what it left could not be read in time"
    """Why something may rest at the venue; empty after a clean stop, and where nothing ever ran."""
    is_journal_lost: bool = True
    """The journal is gone or cannot be read: nobody knows what the next start would begin from."""


class Tended(Enum):
    """Who looks after the orders of a state directory, as far as its control socket tells."""

    ANSWERS = "a daemon answers"
    HANGS = "somebody has the socket, and does not answer"
    NOBODY = "nobody listens"


def remember(directory: StateDir, settings: Settings) -> None:
    """Put down how the venue is reached, before anything is sent to it. Raises OSError."""
    path = _address_path(directory)
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(address_of(settings)))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def left_by(directory: StateDir) -> Left:
    """Read it, without lock and without writing. Never raises."""
    address = address_left(directory)
    dirty, is_lost = _why_dirty(directory, address is not None)
    return Left(address, dirty, is_lost)


def address_left(directory: StateDir) -> Address | None:
    """How the venue is reached, without a look at the journal. Never raises."""
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return msgspec.json.decode(_address_path(directory).read_bytes(), type=Address)
    return None


def _why_dirty(directory: StateDir, began: bool) -> tuple[str, bool]:
    """Unknown is dirty. And whether the journal is lost."""
    journal = directory.journal_path
    try:
        if not journal.exists():
            return ("a daemon ran here, and its journal is gone", True) if began else ("", False)
        with closing(sqlite3.connect(f"{journal.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)) as db:
            last = db.execute("SELECT epoch, clean_stop FROM runs ORDER BY epoch DESC LIMIT 1").fetchone()
    except (sqlite3.Error, OSError, ValueError) as error:
        latch = read_latch(directory)
        return f"the journal cannot be read ({error}; {'; '.join(latch.sources)})", True
    if last is None or last[1] == 1:
        return "", False
    return f"run {last[0]} did not stop cleanly", False


async def tended(directory: StateDir, patience_s: float) -> Tended:
    """Ask. `patience_s`: a daemon that has not answered in so long hangs. One that closes the connection is about to
    end, or has too many to serve, so it is asked again; what this version cannot read is an answer all the same."""
    until = time.monotonic() + patience_s
    while True:
        try:
            await call(directory.socket_path, "status", silence_s=patience_s)
        except NoDaemon:
            return Tended.NOBODY
        except Silent:
            return Tended.HANGS
        except Unreadable:
            return Tended.ANSWERS
        except ControlError:
            if time.monotonic() >= until:
                return Tended.HANGS
            await asyncio.sleep(_AGAIN_S)
        else:
            return Tended.ANSWERS


def address_of(settings: Settings) -> Address:
    """Where a run with these settings trades."""
    venue, at = settings.venue, None
    remote = str(Path(venue.remote).absolute()) if venue.remote else ""
    if settings.run.mode in REAL_MODES:
        environment = "demo" if settings.run.mode == "testnet" else "live"
        at = AtExchange(venue.exchange, venue.account, venue.symbol, environment, venue.emulator)
    backup_dir = str(Path(settings.backup.dir).absolute()) if settings.backup.dir else ""
    return Address(remote, venue.in_flight_max_s, at, backup_dir)


def _address_path(directory: StateDir) -> Path:
    return directory.path / "venue.json"
