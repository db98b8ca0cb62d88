"""`mmdaemon emulator`: Bitget on loopback, to rehearse a whole installation at, faults included."""

import asyncio
import os
import signal
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from cyclopts import Parameter
from loguru import logger

from mmdaemon.cli import ExitCode, Refused, rehearsal
from mmdaemon.cli.console import Console
from mmdaemon.cli.run import joined
from mmdaemon.clock import RealClock, run_real
from mmdaemon.core.types import NS
from mmdaemon.daemon import wire
from mmdaemon.ops import logging
from mmdaemon.settings import Settings, assignments, load
from mmdaemon.settings.credentials import file_names
from mmdaemon.tapes.rows import TapeError
from mmdaemon.venues.emulator.config import EmulatorConfig
from mmdaemon.venues.emulator.script import Script, ScriptRefused, Step, play, read_script
from mmdaemon.venues.emulator.server import Emulator
from mmdaemon.venues.simulated.ledger import Ledger, LedgerRefused

WINDOW_S: Final = 30.0
"""Bitget's, as reported."""
_TELL_S: Final = 1.0


class Options(msgspec.Struct, frozen=True):
    environment: Literal["demo", "live"]
    port: int
    window_s: float
    key_dir: Path | None
    record: Path | None
    json: bool


def emulator(
    *,
    account: Literal["unified", "classic"] | None = None,
    port: int = 0,
    tape: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    seed: int | None = None,
    faults: Path | None = None,
    environment: Literal["demo", "live"] = "demo",
    key_dir: Path | None = None,
    record: Path | None = None,
    window_s: float = WINDOW_S,
    config: Path | None = None,
    set_: Annotated[Sequence[str], Parameter(name="--set", negative=())] = (),
    json: Annotated[bool, Parameter(negative=())] = False,
    list_faults: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run Bitget's own protocol on 127.0.0.1 until stopped: one account, with its matching, limits, errors and faults.

    Says on stdout where it is, then how a daemon trades there; at the end, what there was.

    Parameters
    ----------
    account
        Which of the venue's two APIs the account has; without it, what `venue.account` says.
    port
        Where to listen on 127.0.0.1; 0 takes a free one.
    tape
        Play this recording, from now on, instead of the synthetic market: a file, the folder of one, or several files
        in order.
    seed
        Seed of the synthetic market, of the venue, of its made-up key and of what a script draws.
    faults
        A script of faults: TOML, or JSON lines in a file named .jsonl. More can be asked for while it runs
        (POST /emulator/faults).
    environment
        Which environment the key is of. A daemon started with --testnet trades `demo`, one with --live `live`.
    key_dir
        Folder for the three files of the key, each readable by this user alone. It is made if it is not there.
    record
        SQLite file for the venue's own record of requests, orders, fills and bills.
    window_s
        How old a signed request may be; a daemon's venue.in_flight_max_s must not be less.
    config
        A TOML file like the daemon's: `[simulated]`, `[run] seed` and `[venue] account, symbol, leverage` count.
    set_
        One setting over the file and the environment, as table.key=value; may be given again.
    json
        Say everything on stdout as JSON, one object a line.
    list_faults
        Show every kind of fault, what it does and what an honest client does about it, and end.
    """
    if list_faults:
        rehearsal.show_faults(json=json)
        return ExitCode.OK
    if not 0 <= port <= 65_535:
        raise Refused(f"--port {port} is none: 0 to 65535", ExitCode.USAGE)
    if not 0.1 <= window_s <= 300:
        raise Refused(f"--window-s {window_s:g} must be 0.1 to 300", ExitCode.USAGE)
    # Where the daemon's own file is given, it names this very process as its venue.
    chosen = {
        "run.mode": "simulated",
        "run.speed": "real",
        "run.seed": seed,
        "run.tape": joined(tape) if tape else None,
        "venue.emulator": "",
        "venue.remote": "",
        "venue.account": account,
    }
    flags = {path: value for path, value in chosen.items() if value is not None}
    settings = load(config, {**assignments(set_), **flags}).settings
    options = Options(environment, port, window_s, key_dir, record, json)
    written = logging.setup()
    try:
        script = read_script(faults) if faults is not None else Script()
        return run_real(lambda clock: _serve(settings, options, script, clock))
    except ScriptRefused as refused:
        problems = "\n  ".join(refused.problems)
        raise Refused(f"the script of faults cannot be played:\n  {problems}", ExitCode.CONFIG) from refused
    except (LedgerRefused, TapeError) as refused:
        raise Refused(str(refused), ExitCode.CONFIG) from refused
    finally:
        written.close()


async def _serve(settings: Settings, options: Options, script: Script, clock: RealClock) -> int:
    emulated = config_of(settings, options)
    if options.key_dir is not None:
        write_keys(options.key_dir, emulated)
    source = wire.market_of(settings, clock.wall_ns())
    ledger = None
    if options.record is not None:
        name = f"{clock.wall_ns() // (NS // 1_000):x}"
        ledger = Ledger(options.record, name, source.instrument, emulated.start_e10, clock.wall_ns())
    venue = Emulator(source, clock, emulated, settings.run.seed, ledger)
    try:
        return await _until_stopped(venue, options, script)
    finally:
        await venue.close()


async def _until_stopped(venue: Emulator, options: Options, script: Script) -> int:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    refused: list[str] = []
    broken: list[str] = []

    def fail(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        broken.append(str(context.get("exception") or context.get("message")))
        logger.bind(message=context.get("message")).opt(exception=context.get("exception")).error("emulator_failed")
        stopped.set()

    def could_not(step: Step, why: str) -> None:
        refused.append(f"{step.kind} at {step.after_s:g} s: {why}")
        logger.bind(kind=step.kind.value, why=why).warning("fault_not_done")

    loop.set_exception_handler(fail)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    try:
        await venue.start(options.port)
    except OSError as error:
        why = error.strerror or str(error)
        where = f"127.0.0.1:{options.port}"
        raise Refused(f"cannot listen at {where}: {why}; give another --port", ExitCode.CONFIG) from None
    rehearsal.announce(venue, options.key_dir, json=options.json)
    playing = loop.create_task(play(script, venue.faults, could_not), name="emulator.script")
    telling = loop.create_task(_tell(venue, options), name="emulator.telling")
    for task in (playing, telling):
        task.add_done_callback(_ended)
    try:
        await stopped.wait()
    finally:
        for task in (playing, telling):
            task.cancel()
        await asyncio.gather(playing, telling, return_exceptions=True)
    summary = rehearsal.summary_of(venue, refused, broken)
    rehearsal.show(summary, json=options.json)
    return ExitCode.BUG if summary.defects else ExitCode.OK


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        told = {"message": f"{task.get_name()} failed", "exception": error}
        asyncio.get_running_loop().call_exception_handler(told)


async def _tell(venue: Emulator, options: Options) -> None:
    """On a terminal, what there is so far, each second."""
    console = Console(stderr=True, highlight=False)
    if options.json or not console.is_terminal:
        return
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with console.status("", refresh_per_second=2) as line:
        while True:
            truth = venue.account.truth()
            open_now = len(venue.sockets_of(""))
            line.update(
                f"{loop.time() - begun:,.0f} s  {open_now} sockets  {len(truth.received):,} requests  "
                f"{len(truth.orders):,} orders  {len(truth.fills):,} fills  position {truth.position_lots:,} lots  "
                f"{sum(venue.faults.seen.values()):,} faults"
            )
            await asyncio.sleep(_TELL_S)


# --- the key ----------------------------------------------------------------------------------------------------------


def config_of(settings: Settings, options: Options) -> EmulatorConfig:
    """What the settings say of the simulated venue, for the emulated account; and a key made up from the seed."""
    simulated = wire.simulated_config(settings, "")
    parts = [_made_up(settings.run.seed, options.environment, part) for part in ("key", "secret", "passphrase")]
    return EmulatorConfig(
        account=settings.venue.account,
        api_key=parts[0],
        secret=parts[1],
        passphrase=parts[2],
        environment=options.environment,
        symbol=settings.venue.symbol,
        start_e10=simulated.start_e10,
        maker_rate=simulated.maker_rate,
        taker_rate=simulated.taker_rate,
        leverage=simulated.leverage,
        fills=simulated.fills,
        queue=simulated.queue,
        post_only=simulated.post_only,
        dead_man_granted=simulated.has_dead_man,
        window_s=options.window_s,
    )


def _made_up(seed: int, environment: str, part: str) -> str:
    return "emulated-" + blake2b(f"{seed}/{environment}/{part}".encode(), digest_size=8).hexdigest()


def write_keys(folder: Path, emulated: EmulatorConfig) -> None:
    """The three files of the key, 0600. Files that are there already are left alone: they must be the same, since
    others may be somebody's real key.

    Raises:
        Refused: they are not the same, or cannot be written.
    """
    texts = dict(zip(file_names("bitget"), (emulated.api_key, emulated.secret, emulated.passphrase), strict=True))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        others = [name for name, text in texts.items() if (folder / name).exists() and _said(folder / name) != text]
        if others:
            raise Refused(
                f"{', '.join(others)} in {folder}: another key is there already, and is not written over; name "
                "another --key-dir",
                ExitCode.CONFIG,
            )
        for name, text in texts.items():
            if not (folder / name).exists():
                descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w", encoding="ascii") as file:
                    file.write(text + "\n")
    except OSError as error:
        raise Refused(f"the key cannot be written to {folder}: {error.strerror or error}", ExitCode.CONFIG) from error


def _said(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").strip()
