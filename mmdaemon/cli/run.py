"""`mmdaemon run`: the daemon, in real time until stopped, or over a market in virtual time to its end.

What makes figures of a run is loaded when there are some to make: a daemon needs neither its time nor its memory.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.console import Console
from mmdaemon.cli.modes import Flag, admitted, flag_of, loaded_for, sized, where_it_is
from mmdaemon.cli.telling import telling
from mmdaemon.clock import Clock
from mmdaemon.core.types import NS
from mmdaemon.daemon.supervisor import FAILURES, Daemon
from mmdaemon.daemon.wire import market_of
from mmdaemon.journal.connection import JournalFailed
from mmdaemon.journal.recovery import JournalUnreadable, RecoveryRefused
from mmdaemon.journal.state_dir import InUse, StateDir, StateDirRefused, locate, open_dir
from mmdaemon.ops.receipt import Stage
from mmdaemon.settings import Settings, assignments
from mmdaemon.settings.equity import least_equity
from mmdaemon.settings.presets import Value
from mmdaemon.tapes.playing import Tape, crossed_warning
from mmdaemon.tapes.rows import TapeError
from mmdaemon.venues.base import KeyRefused, MarketSource, OtherAccount
from mmdaemon.venues.simulated.venue import SimulatedVenue

SYNTHETIC_START_TS_NS = 1_767_571_200 * NS
"""2026-01-05 00:00 UTC: in virtual time the same seed is the same run on any day."""


def run(
    *,
    paper: Annotated[bool, Parameter(negative=())] = False,
    testnet: Annotated[bool, Parameter(negative=())] = False,
    live: Annotated[bool, Parameter(negative=())] = False,
    tape: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    fills: Literal["through", "queue", "touch"] | None = None,
    speed: Literal["real", "max"] | None = None,
    duration: Annotated[float | None, Parameter(help="Stop after this many seconds of the run's own time.")] = None,
    seed: int | None = None,
    venue: Path | None = None,
    signals: Path | None = None,
    config: Path | None = None,
    set_: Annotated[Sequence[str], Parameter(name="--set", negative=())] = (),
    state_dir: Path | None = None,
) -> int:
    """Make a market. Without flags: the simulated venue and the synthetic market, in real time, until stopped.

    Parameters
    ----------
    paper
        Live market data of the exchange, and simulated fills. Needs no key.
    testnet
        Trade in the exchange's demo environment, with a demo key.
    live
        Trade real money: needs run.mode = "live" in the file, a live key and a passed preflight.
    tape
        Replay this recording instead of the synthetic market: a file, the folder of one, or several files in order.
    fills
        What is assumed of fills at the simulated venue: `queue` unless set.
    speed
        `max` runs in virtual time, without sockets, and prints the run's figures.
    seed
        Seed of the synthetic market and the simulated venue.
    venue
        Socket of a venue process (`mmdaemon venue --listen`), to trade there instead of at one in this process.
    signals
        With --speed max: a file of signals, one JSON object a line (docs/SIGNALS.md), each said at its own moment.
    config
        A TOML file; `mmdaemon check-config` tells what it amounts to.
    set_
        One setting over the file and the environment, as table.key=value; may be given again.
    state_dir
        Where journal, lock, latch and control socket are.
    """
    chosen = {
        "run.tape": joined(tape) if tape else None,
        "venue.remote": str(venue) if venue else None,
        "simulated.fills": fills,
        "run.speed": speed,
        "run.duration_s": duration,
        "run.seed": seed,
        "run.state_dir": str(state_dir) if state_dir else None,
    }
    flags = {path: value for path, value in chosen.items() if value is not None}
    mode = flag_of(paper=paper, testnet=testnet, live=live)
    settings = loaded_for(mode, config, {**assignments(set_), **flags}).settings
    given = Path(settings.run.state_dir) if settings.run.state_dir else None
    path = locate(given, settings.run.instance, os.environ)
    if signals is not None and settings.run.speed != "max":
        raise Refused(
            "--signals goes with --speed max; a daemon in real time is told by `mmdaemon signal`", ExitCode.USAGE
        )
    credentials, stage = admitted(settings, path)
    settings = sized(settings, stage)
    directory = locked(path, os.environ)
    try:
        if settings.run.speed == "max":
            return _to_the_end(settings, directory, signals)
        from mmdaemon.cli.service import serve

        again = partial(_again, mode, config, {**assignments(set_), **flags}, stage)
        code = serve(settings, directory, credentials, again)
        if settings.run.tape:
            _sum_up(directory.journal_path)
        return code
    except JournalUnreadable as unreadable:
        raise Refused(_latched(directory, unreadable), ExitCode.CONFIG) from unreadable
    except RecoveryRefused as refused:
        raise Refused(str(refused), ExitCode.CONFIG) from refused
    except JournalFailed as failed:
        raise Refused(
            f"the journal cannot be written, and what ran so far is no result: {failed}; make room, or name another "
            "state directory (--state-dir)",
            ExitCode.RETRY,
        ) from failed
    except (TapeError, OtherAccount) as error:
        raise Refused(str(error), ExitCode.CONFIG) from error
    except KeyRefused as error:
        raise Refused(f"{error}; {where_it_is(settings)}", ExitCode.CREDENTIALS) from error
    finally:
        directory.release()


def _again(mode: Flag, config: Path | None, overrides: Mapping[str, Value], stage: Stage | None) -> Settings:
    """The settings as they are said now. Raises ConfigError, Refused."""
    return sized(loaded_for(mode, config, overrides).settings, stage)


def joined(tape: Sequence[Path]) -> str:
    """Recordings as the setting `run.tape` has them. Raises Refused (64) where a path has the separator in it."""
    for path in tape:
        if os.pathsep in str(path):
            raise Refused(f"{path}: {os.pathsep!r} stands between recordings; rename the file", ExitCode.USAGE)
    return os.pathsep.join(str(path) for path in tape)


def locked(path: Path, environ: Mapping[str, str]) -> StateDir:
    """The state directory, made and locked.

    Raises Refused: another process holds it (75, try again), or it cannot be used (78).
    """
    if path.exists() and not path.is_dir():
        raise Refused(
            f"state directory {path} is a file, not a directory; name another by --state-dir", ExitCode.CONFIG
        )
    try:
        return open_dir(path, environ).lock()
    except InUse as held:
        raise Refused(str(held), ExitCode.RETRY) from held
    except StateDirRefused as refused:
        raise Refused(str(refused), ExitCode.CONFIG) from refused


def _latched(directory: StateDir, unreadable: JournalUnreadable) -> str:
    """Close the kill latch, which otherwise would be gone with the unreadable file; what to say."""
    failures = directory.write_latch(f"journal unreadable: {unreadable}")
    if failures:
        return f"{unreadable}. The kill latch could not be written: {'; '.join(failures)}"
    return f"{unreadable} (the kill latch is closed: {directory.kill_files[0]})"


def _to_the_end(settings: Settings, directory: StateDir, signals: Path | None) -> int:
    """Virtual time, to the end of the recording or the duration. On a terminal with a bar, else with a line on stderr
    now and then."""
    from mmdaemon.cli import summary
    from mmdaemon.research.said import SignalsRefused, read_signals, say_along
    from mmdaemon.research.session import play, until_the_end
    from mmdaemon.research.summary import summarise

    try:
        said = [] if signals is None else read_signals(signals)
    except SignalsRefused as refused:
        raise Refused(str(refused), ExitCode.CONFIG) from refused
    if not settings.run.tape and not settings.run.duration_s:
        raise Refused("the synthetic market has no end: give --duration (seconds) with --speed max", ExitCode.USAGE)
    console = Console()
    is_drawn = console.is_terminal
    text = "opening the recording" if settings.run.tape else "starting"
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with (
        telling(lambda: text, quiet=is_drawn),
        Progress(*columns, console=console, disable=not is_drawn) as bars,
    ):
        source = market_of(settings, SYNTHETIC_START_TS_NS)
        begun = time.perf_counter()
        total = _length_ns(settings, source)
        of = f" of {total / NS / 3600:,.2f} h" if total else ""
        bar = bars.add_task("starting", total=total)

        def progress(passed_ns: int, daemon: Daemon) -> None:
            nonlocal text
            held = daemon.state.position
            passed, guard, fills = passed_ns / NS / 3600, daemon.state.guard.state.value, held.buys + held.sells
            text = f"{passed:,.2f} h{'' if is_drawn else of}  {guard}  {fills:,} {'fill' if fills == 1 else 'fills'}"
            bars.update(bar, completed=passed_ns, description=text)

        def log(name: str, fields: Mapping[str, object]) -> None:
            if name in FAILURES:
                said = ", ".join(f"{key} {value}" for key, value in fields.items())
                bars.console.print(f"[red]{name}[/] {escape(said)}", highlight=False)

        to_the_end = until_the_end(settings.run.duration_s, progress)

        async def script(daemon: Daemon, venue: SimulatedVenue, clock: Clock) -> str:
            if why := daemon.parts.kill_switch.reason:
                raise Refused(
                    f"state directory {directory.path} is killed ({why}), and at full speed nobody can resume: not one "
                    "order would be placed. Give the run another state directory (--state-dir), or run in real time "
                    "with this one and `mmdaemon resume`",
                    ExitCode.CONFIG,
                )
            if not is_drawn:  # the end may be hours away, or never come
                told = [f"  {name}: {said}" for name, said in daemon.venue.provenance.items()]
                print("mmdaemon: what this run rests on", *told, sep="\n", file=sys.stderr, flush=True)
            saying = asyncio.create_task(say_along(said, daemon.parts.signals, clock), name="said")
            try:
                return await to_the_end(daemon, venue, clock)
            finally:
                saying.cancel()

        try:
            session = play(settings, directory, source, script, log=log)
        except KeyboardInterrupt:
            print(f"mmdaemon: the run in {directory.path} was cut short: no result", file=sys.stderr)
            raise
    wall_s = time.perf_counter() - begun
    daemon = session.daemon
    ran = summarise(directory.journal_path)
    summary.show(console, ran, wall_s)
    if not ran.orders:
        console.print(
            f"  [bold]no order was placed[/]: {escape(_why_none(settings, daemon, directory.journal_path))}",
            highlight=False,
        )
    if isinstance(source, Tape) and (warning := crossed_warning(source.crossed, source.books)):
        console.print(f"  [bold]{escape(warning)}[/]", highlight=False)
    return session.exit_code


def _sum_up(journal: Path) -> None:
    """The figures of a recording's run in real time, also of one that was stopped before it was over."""
    from mmdaemon.cli import summary
    from mmdaemon.research.summary import summarise

    try:
        ran = summarise(journal)
    except JournalUnreadable as error:  # it ended before there was anything to sum up
        print(f"mmdaemon: {error}", file=sys.stderr)
        return
    summary.show(Console(), ran)


def _why_none(settings: Settings, daemon: Daemon, journal: Path) -> str:
    """Why a run passed without an order: what the longest time without a quote is put down to."""
    from mmdaemon.research.report import read_report
    from mmdaemon.research.report.quoting import TOO_SMALL

    stops = read_report(journal).stops
    why = stops[0].why if stops else "`mmdaemon explain` may know"
    mark = daemon.state.venue.mark_px_ticks
    if TOO_SMALL in why and mark:
        rows = least_equity(settings, daemon.params.instrument, mark)
        needed = [row.equity_quote for row in rows if row.equity_quote is not None]
        why = f"each would be {TOO_SMALL}, worth {rows[0].smallest_order_quote:,.2f} {daemon.params.instrument.quote}"
        if needed:
            why += f"; with simulated.equity_quote={ceil(max(needed))} every regime can place one at this price"
    return why


def _length_ns(settings: Settings, source: MarketSource) -> int | None:
    if settings.run.duration_s:
        return round(settings.run.duration_s * NS)
    return source.span_ns if isinstance(source, Tape) else None
