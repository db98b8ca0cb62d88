"""`mmdaemon preflight`: the go-live checklist, measured at the venue: fourteen lines, their rows, a receipt."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter

from mmdaemon import __version__
from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.modes import account_of, admitted, flag_of, loaded_for, sized, where_it_is
from mmdaemon.cli.run import locked
from mmdaemon.clock import RealClock, run_real
from mmdaemon.daemon.preflight import soak
from mmdaemon.daemon.preflight.items import ITEMS, Result
from mmdaemon.daemon.preflight.record import SOAK, TESTNET, TRADING, Record, Whose, lines
from mmdaemon.daemon.preflight.running import LEFT, as_live, measured
from mmdaemon.daemon.preflight.site import Site
from mmdaemon.daemon.wire import exchange_config
from mmdaemon.journal import preflights
from mmdaemon.journal.recovery import RecoveryRefused
from mmdaemon.journal.state_dir import StateDir, locate, open_dir
from mmdaemon.ops import receipt
from mmdaemon.ops.receipt import ReceiptRefused, Stage
from mmdaemon.secret import Credentials
from mmdaemon.settings import Settings, assignments, load, shipped_config
from mmdaemon.settings.credentials import FOLDER, CredentialsMissing, read_credentials
from mmdaemon.settings.rules import PROVEN
from mmdaemon.venues.base import KeyRefused, OtherAccount, VenueUnavailable
from mmdaemon.venues.probed import NotEmpty

NOT_PASSED: Final = 1
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AT_LIVE: Final = tuple(name for name, item in ITEMS.items() if item.at_live)


class Report(msgspec.Struct, frozen=True):
    """What `--json` prints. `stage` is that of the receipt, or empty: then `why` says why there is none."""

    version: str
    mode: str
    config_hash: str
    items: list[Result]
    stage: str
    why: str


def preflight(
    what: Literal["soak"] | None = None,
    /,
    *,
    testnet: Annotated[bool, Parameter(negative=())] = False,
    live: Annotated[bool, Parameter(negative=())] = False,
    probe: Annotated[bool, Parameter(negative=())] = False,
    fill: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    testnet_key: Path | None = None,
    config: Path | None = None,
    set_: Annotated[Sequence[str], Parameter(name="--set", negative=())] = (),
    state_dir: Path | None = None,
) -> int:
    """Measure the go-live checklist: fourteen lines, each passed, failed or not checked, with what was measured.

    Trades at the venue, with orders of the least size and with a daemon as it would run; at the end nothing rests and
    nothing is held. Refuses an account in which there are orders or a position. Where all fourteen passed it writes the
    receipt that the next step needs. Exits with 0 then, else with 1. See docs/PREFLIGHT.md.

    Parameters
    ----------
    what
        `soak`: the items that need hours (demo trading: an hour on paper beside it, and two days). Interrupted, it goes
        on where it was.
    testnet
        In demo trading, with a demo key. Takes the very file that is to trade live.
    live
        With real money, at the least size: what is safe there; the rest is taken over from demo trading.
    probe
        With --testnet: measure the open points of docs/VENUES.md instead.
    fill
        With --probe: also have the least size filled at the touch, and close it at once.
    json
        Print the lines as JSON.
    testnet_key
        With --live: folder with the demo key, by which the rows of demo trading are known to be true.
    config
        The daemon's TOML file; for --testnet the shipped one without it.
    set_
        One setting over the file and the environment, as table.key=value; may be given again.
    state_dir
        The daemon's. Demo trading has a folder of its own in it, preflight-testnet.
    """
    flag = flag_of(paper=False, testnet=testnet, live=live)
    if not flag:
        raise Refused("say where: --testnet (demo trading) or --live (real money, the least size)", ExitCode.USAGE)
    if (live and (what or probe)) or (probe and what) or (fill and not probe):
        raise Refused("soak and --probe go with --testnet, one at a time, and --fill with --probe", ExitCode.USAGE)
    overrides = assignments(set_)
    if testnet:
        # The file that is to trade live is what is measured, with the one word changed that must be.
        settings = load(config or shipped_config("testnet"), {**overrides, "run.mode": "testnet"}).settings
    else:
        settings = loaded_for("live", config, overrides).settings
    if settings.venue.exchange not in PROVEN:
        raise Refused(
            f"venue.exchange = {settings.venue.exchange!r}: what is measured here is Bitget's alone", ExitCode.CONFIG
        )
    given = state_dir or (Path(settings.run.state_dir) if settings.run.state_dir else None)
    path = locate(given, settings.run.instance, os.environ)
    credentials = admitted(settings, path, preflight=True).credentials
    assert credentials is not None
    try:
        if probe:
            from mmdaemon.cli import probing

            return probing.probe(settings, path, credentials, fill=fill, json=json)
        demo_key = _demo_key(testnet_key, settings) if live else None
        open_dir(path, {})
        # Demo trading has its own folder: a daemon may go on trading live beside it.
        directory = locked(path / TESTNET, {}) if testnet else locked(path, os.environ)
        try:
            return _measure(settings, credentials, demo_key, directory, soaks=what == "soak", json=json)
        finally:
            directory.release()
    except NotEmpty as there:
        raise Refused(f"{there}: cancel and close them, or use another account", ExitCode.CONFIG) from there
    except (OtherAccount, RecoveryRefused) as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    except KeyRefused as error:
        raise Refused(f"{error}; {where_it_is(settings)}", ExitCode.CREDENTIALS) from error
    except VenueUnavailable as error:
        raise Refused(f"the venue cannot be read, and nothing was placed: {error}", ExitCode.RETRY) from error


def _measure(
    settings: Settings,
    credentials: Credentials,
    demo_key: Credentials | None,
    directory: StateDir,
    *,
    soaks: bool,
    json: bool,
) -> int:
    mode = settings.run.mode
    whose = Whose(mode, as_live(settings), account_of(settings, credentials))
    at = exchange_config(settings, credentials).place, settings.venue.symbol
    record = Record(directory, whose, credentials.api_secret, at)
    hours = directory.path / "-".join((SOAK, whose.config_hash[:8], whose.account[:8], __version__))
    stage: Stage = "testnet"
    taken = ""
    of_hours: list[Result] = []
    if demo_key is not None:
        taken = _take_over(record, settings, demo_key, directory.path / TESTNET)
        results = run_real(
            lambda clock: _told(_once(settings, credentials, clock, directory.path / "preflight-live", _AT_LIVE))
        )
        results.append(soak.at_reduced_size(directory.journal_path, sized(settings, "reduced").config_hash))
        stage = "full" if results[-1].outcome == "passed" else "reduced"
    elif soaks:
        is_first = not hours.exists()
        results = []
        of_hours = run_real(lambda clock: _told(_soak(settings, credentials, clock, hours, record, is_first=is_first)))
    else:
        results = run_real(lambda clock: _told(_once(settings, credentials, clock, directory.path / TRADING)))
        of_hours = soak.judged(hours, record)
    record.write(results, time.time_ns())
    record.write(of_hours, soak.last_ns(hours) or time.time_ns())
    results += of_hours
    left = next((each.said for each in results if each.item == LEFT and each.outcome != "passed"), "")
    why = record.issue(stage, refused="; ".join(filter(None, (left, taken))))
    shown = Report(__version__, mode, whose.config_hash, lines(results, record.last()), "" if why else stage, why)
    if json:
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
    else:
        _show(shown, record.path)
    return NOT_PASSED if why else ExitCode.OK


async def _told(measuring: Coroutine[Any, Any, list[Result]]) -> list[Result]:
    """Ctrl-C, SIGTERM and a terminal that goes away end it alike: nothing is left at the venue. A second one does not
    cut that short; it takes half a minute and the in-flight window at most."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in _ENDING:
        loop.add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    try:
        return await measuring
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number in _ENDING:
            loop.remove_signal_handler(number)


async def _once(
    settings: Settings, credentials: Credentials, clock: RealClock, folder: Path, only: Sequence[str] = ()
) -> list[Result]:
    """What can be measured at once."""
    shutil.rmtree(folder, ignore_errors=True)
    open_dir(folder, {})
    site = Site(settings, credentials, clock, folder)
    try:
        await site.open()
        return await measured(site, only, begins=lambda item: print(f"mmdaemon: {item} ...", file=sys.stderr))
    finally:
        if site.left:  # also where this ends by a Ctrl-C, and prints no line
            print(f"mmdaemon: {site.left}", file=sys.stderr)
        await site.close()


async def _soak(
    settings: Settings, credentials: Credentials, clock: RealClock, folder: Path, record: Record, *, is_first: bool
) -> list[Result]:
    """The items that need hours, from where they were."""
    if is_first:
        site = Site(settings, credentials, clock, folder)
        try:
            await site.open()  # refuses what is there already
        finally:
            await site.close()
    return await soak.run(settings, credentials, clock, folder, record)


def _demo_key(folder: Path | None, settings: Settings) -> Credentials:
    """Raises Refused (64) without the folder, (77) without a key in it."""
    if folder is None:
        raise Refused(
            "--live takes rows of demo trading over: name the demo key's folder by --testnet-key", ExitCode.USAGE
        )
    try:
        return read_credentials(settings.venue.exchange, {FOLDER: str(folder)}, is_live=False).credentials
    except CredentialsMissing as missing:
        raise Refused(str(missing), ExitCode.CREDENTIALS) from None


def _take_over(record: Record, settings: Settings, demo_key: Credentials, folder: Path) -> str:
    """The rows of the passed preflight of demo trading, of this very configuration and version, become rows here. Why
    they do not; empty: they did."""
    demo = settings.model_copy(update={"run": settings.run.model_copy(update={"mode": "testnet"})})
    rows = preflights.read(folder / "journal.sqlite")
    try:
        passed = receipt.check(
            folder / receipt.NAME,
            version=__version__,
            config_hash=settings.config_hash,
            mode="testnet",
            account=account_of(demo, demo_key),
            secret=demo_key.api_secret,
            rows=rows,
            now=datetime.now(UTC),
        )
    except ReceiptRefused as refused:
        return f"nothing was taken over from demo trading: {refused}"
    seals = {seal for item, seal in passed.rows.items() if item not in _AT_LIVE}
    record.take_over([row for row in rows if row.seal in seals])
    return ""


def _show(report: Report, path: Path) -> None:
    width = max(map(len, ITEMS))
    for number, each in enumerate(report.items, 1):
        figures = ", ".join(f"{name} {figure}" for name, figure in each.figures.items())
        print(f"{number:>2} {each.outcome.replace('_', ' '):<11} {each.item:<{width}}  {figures or each.said}")
    if unmet := [each for each in report.items if each.outcome != "passed"]:
        print()
    for each in unmet:
        print(f"{each.item}: {each.said}\n{'':<4}to do: {ITEMS[each.item].remedy}")
    print(f"\n{report.why}" if report.why else f"\nall fourteen passed: {path} (stage {report.stage})")
    sys.stdout.flush()
