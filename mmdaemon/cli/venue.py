"""`mmdaemon venue`: the simulated venue as a process of its own, which daemons come to and go from."""

import asyncio
import signal
import socket
import sqlite3
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from loguru import logger

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.run import joined
from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.types import NS
from mmdaemon.daemon import wire
from mmdaemon.ops import logging
from mmdaemon.settings import Settings, assignments, load
from mmdaemon.tapes.rows import TapeError
from mmdaemon.unix_socket import SocketRefused, listener_at
from mmdaemon.venues.simulated.ledger import Ledger, LedgerRefused
from mmdaemon.venues.simulated.server import VenueServer


def venue(
    *,
    listen: Path,
    seed: int | None = None,
    config: Path | None = None,
    set_: Annotated[Sequence[str], Parameter(name="--set", negative=())] = (),
    record: Path | None = None,
    tape: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
) -> int:
    """Run the simulated venue until stopped: for daemons started with `run --venue SOCKET`.

    The account is as old as this process: it trades on while no daemon is connected, and the next `mmdaemon venue`
    begins a new one. A daemon's state directory belongs to one account.

    Parameters
    ----------
    listen
        The unix socket to be made; only this user can connect, and one daemon at a time.
    seed
        Seed of the synthetic market and the venue.
    config
        A TOML file like the daemon's: `[simulated]` and `[run] seed` count, and leverage and time-out of `[venue]`.
    set_
        One setting over the file and the environment, as table.key=value; may be given again.
    record
        SQLite file for the venue's own record of requests, orders, fills and the account; by default beside the socket.
    tape
        Play this recording, from now on, instead of the synthetic market: a file, the folder of one, or several files
        in order.
    """
    # Where the daemon's own file is given, it names the socket that this process is about to make.
    tapes = joined(tape) if tape else None
    chosen = {"venue.remote": "", "run.speed": "real", "run.seed": seed, "run.tape": tapes}
    flags = {path: value for path, value in chosen.items() if value is not None}
    settings = load(config, {**assignments(set_), **flags}).settings
    written = logging.setup()
    try:
        return run_real(lambda clock: _serve(settings, listen, record or listen.with_suffix(".sqlite"), clock))
    except (SocketRefused, LedgerRefused, TapeError) as refused:
        raise Refused(str(refused), ExitCode.CONFIG) from refused
    finally:
        written.close()


async def _serve(settings: Settings, listen: Path, record: Path, clock: RealClock) -> int:
    # The socket first: where another venue listens, its record is not touched.
    with listener_at(listen) as listener:
        try:
            account = f"{time.time_ns() // (NS // 1_000):x}"
            source = wire.market_of(settings, clock.wall_ns())
            simulated = wire.venue_of(settings, source, clock, f"{account}-")
            ledger = Ledger(record, account, source.instrument, simulated.config.start_e10, clock.wall_ns())
            server = VenueServer(simulated, ledger, account, clock, _log)
            fields = {"socket": str(listen), "record": str(record), "account": account}
            return await _until_stopped(server, listener, fields)
        finally:
            listen.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at the end


async def _until_stopped(server: VenueServer, listener: socket.socket, fields: Mapping[str, str]) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    code = ExitCode.OK

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A venue that is half broken, or whose record is, is no venue."""
        nonlocal code
        code = ExitCode.BUG
        logger.bind(message=context.get("message")).opt(exception=context.get("exception")).error("venue_failed")
        stopped.set()

    loop.set_exception_handler(fail)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await server.start(listener)
        logger.bind(**fields).info("venue_listens")
        await stopped.wait()
    finally:
        try:
            await server.close()
        except sqlite3.Error as error:
            code = ExitCode.BUG
            logger.bind(error=str(error), **fields).error("record_not_closed")
    logger.info("venue_stopped")
    return code


def _log(name: str, fields: Mapping[str, object]) -> None:
    logger.bind(**fields).info(name)
