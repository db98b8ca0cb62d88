"""`mmdaemon preflight --testnet`: what only demo trading can tell of the venue, measured and written down."""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from mmdaemon import __version__
from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.modes import admitted, loaded_for, where_it_is
from mmdaemon.cli.run import locked
from mmdaemon.clock import RealClock, run_real
from mmdaemon.daemon import wire
from mmdaemon.journal.state_dir import locate
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings, assignments
from mmdaemon.settings.rules import PROVEN
from mmdaemon.venues.base import KeyRefused, OtherAccount
from mmdaemon.venues.probe import Probe
from mmdaemon.venues.probed import Line, NotEmpty, ProbedVenue

FAILED: Final = 1
FILE: Final = "preflight-testnet.json"
"""In the state directory. It is no receipt: `run --live` does not look at it."""


class Report(msgspec.Struct, frozen=True):
    version: str
    venue: str
    account: str
    emulated: bool
    at: datetime
    lines: list[Line]


def preflight(
    *,
    testnet: Annotated[bool, Parameter(negative=())] = False,
    fill: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    config: Path | None = None,
    set_: Annotated[Sequence[str], Parameter(name="--set", negative=())] = (),
    state_dir: Path | None = None,
) -> int:
    """Measure in demo trading what is open about the venue: signature window, amendments, words, fees, round trips.

    Places orders of the least size far from the market, and one post-only order that would cross; takes all of them
    out and reads the venue until none rests. Refuses an account in which there are orders or a position. Exits with 0
    where nothing failed, 1 where something did.

    Parameters
    ----------
    testnet
        Demo trading, with a demo key. There is no other kind yet.
    fill
        Also have the least size filled at the touch, and close it at once, to see the sign of a maker's fee.
    json
        Print what is written to the state directory.
    config
        The daemon's TOML file; without it the shipped one.
    set_
        One setting over the file and the environment, as table.key=value; may be given again.
    state_dir
        Where the lines are written (preflight-testnet.json). No daemon may be running there.
    """
    if not testnet:
        raise Refused("preflight is for demo trading: give --testnet", ExitCode.USAGE)
    settings = loaded_for("testnet", config, assignments(set_)).settings
    if settings.venue.exchange not in PROVEN:
        raise Refused(
            f"venue.exchange = {settings.venue.exchange!r}: what is measured here is Bitget's alone", ExitCode.CONFIG
        )
    given = state_dir or (Path(settings.run.state_dir) if settings.run.state_dir else None)
    path = locate(given, settings.run.instance, os.environ)
    credentials = admitted(settings, path)
    assert credentials is not None
    directory = locked(path, os.environ)
    try:
        lines = run_real(lambda clock: _probe(settings, credentials, clock, fill=fill))
        report = Report(
            __version__,
            settings.venue.exchange,
            settings.venue.account,
            bool(settings.venue.emulator),
            datetime.now(UTC),
            lines,
        )
        text = msgspec.json.format(msgspec.json.encode(report), indent=2)
        fresh = path / f"{FILE}.new"
        fresh.write_bytes(text + b"\n")
        fresh.replace(path / FILE)
    except NotEmpty as there:
        raise Refused(f"{there}: cancel and close them, or use another account", ExitCode.CONFIG) from there
    except OtherAccount as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    except KeyRefused as error:
        raise Refused(f"{error}; {where_it_is(settings)}", ExitCode.CREDENTIALS) from error
    finally:
        directory.release()
    if json:
        print(text.decode())
    else:
        _show(lines)
        print(f"written to {path / FILE}")
    return FAILED if any(line.outcome == "failed" for line in lines) else ExitCode.OK


async def _probe(settings: Settings, credentials: Credentials, clock: RealClock, *, fill: bool) -> list[Line]:
    config = wire.exchange_config(settings, credentials)
    if config.environment != "demo":
        raise Refused("preflight places orders: it is for demo trading alone", ExitCode.CONFIG)
    venue = ProbedVenue(config, clock)
    probe = Probe(venue, clock, settings.venue.in_flight_max_s, settings.venue.leverage)
    try:
        return await probe.run(trades=fill)
    finally:
        await venue.close()


def _show(lines: Sequence[Line]) -> None:
    width = max(len(line.name) for line in lines)
    for line in lines:
        print(f"{line.outcome.replace('_', ' '):<11}  {line.name:<{width}}  {line.said}")
        for name, figure in line.figures.items():
            print(f"{'':<13}{'':<{width}}  {name} = {figure}")
    sys.stdout.flush()
