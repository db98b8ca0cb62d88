"""`mmdaemon preflight --testnet --probe`: what only demo trading can tell of the venue, measured and written down."""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon import __version__
from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.run import locked
from mmdaemon.clock import RealClock, run_real
from mmdaemon.daemon import wire
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings
from mmdaemon.venues.probe import Probe
from mmdaemon.venues.probed import Line, ProbedVenue

FAILED: Final = 1
FILE: Final = "probe.json"
"""In the state directory. It is no receipt: `run --live` does not look at it."""


class Report(msgspec.Struct, frozen=True):
    version: str
    venue: str
    account: str
    emulated: bool
    at: datetime
    lines: list[Line]


def probe(settings: Settings, path: Path, credentials: Credentials, *, fill: bool, json: bool) -> int:
    """Measure, write it down in the state directory, and print it. Returns the exit code.

    Raises:
        Refused: another process holds the directory, or the account has orders or a position.
    """
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
