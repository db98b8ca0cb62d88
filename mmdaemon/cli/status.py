"""`mmdaemon status`: what a running daemon is doing, and first of all why it is not quoting."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmdaemon.cli import locate_dir
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.ops.control import ControlError
from mmdaemon.ops.control_client import NoDaemon, call
from mmdaemon.ops.status import Status

QUOTING: Final = 0
NOT_QUOTING: Final = 3
NO_DAEMON: Final = 4
WATCH_S: Final = 1.0
_MAY_QUOTE = (GuardState.RUNNING, GuardState.REDUCING)
_SHOWN_BPS = 0.005
"""An addend below half of the last digit shown is left out."""


def status(
    *,
    watch: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    state_dir: Path | None = None,
) -> int:
    """Show what the daemon is doing, and first of all why it is not quoting.

    Exits with 0 while a side is quoted, 3 while none is, 4 where no daemon answers.

    Parameters
    ----------
    watch
        Show it anew each second, until Ctrl-C.
    json
        Print it as JSON, one object a line.
    state_dir
        The daemon's state directory.
    """
    path = locate_dir(state_dir).socket_path
    if not watch:
        return _show_once(asyncio.run(ask(path)), as_json=json)
    if json:
        return asyncio.run(_watch_json(path))
    return asyncio.run(_watch_screen(path, Console(highlight=False)))


async def ask(path: Path) -> Status | ControlError:
    """The daemon's status, or why there is none."""
    try:
        answer = await call(path, "status")
    except ControlError as error:
        return error
    if answer.status is None:
        return ControlError("; ".join(answer.lines) or "the daemon answered without a status")
    return answer.status


def exit_code(seen: Status | ControlError) -> int:
    """0 while at least one side is quoted, 3 while none is, 4 without an answer."""
    if isinstance(seen, ControlError):
        return NO_DAEMON
    return QUOTING if seen.guard in _MAY_QUOTE and any(q.working for q in seen.quotes) else NOT_QUOTING


def explain(error: ControlError) -> str:
    """What went wrong, and what to do next."""
    if isinstance(error, NoDaemon):
        return f"{error}; start one (`mmdaemon run`), or name its --state-dir"
    return str(error)


def plain(text: str) -> str:
    """Without control characters: what a venue said must not steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _show_once(seen: Status | ControlError, *, as_json: bool) -> int:
    if isinstance(seen, ControlError):
        print(f"mmdaemon: {plain(explain(seen))}", file=sys.stderr)
    elif as_json:
        print(msgspec.json.encode(seen).decode())
    else:
        Console(highlight=False).print(render(seen))
    return exit_code(seen)


async def _watch_json(path: Path) -> int:
    code = NO_DAEMON
    with suppress(asyncio.CancelledError):  # Ctrl-C is how it ends
        while True:
            code = _show_once(await ask(path), as_json=True)
            sys.stdout.flush()
            await asyncio.sleep(WATCH_S)
    return code


async def _watch_screen(path: Path, console: Console) -> int:
    seen: Status | ControlError = NoDaemon(f"no daemon answers at {path}")
    with suppress(asyncio.CancelledError), Live(console=console, auto_refresh=False) as live:
        while True:
            seen = await ask(path)
            shown = Text(plain(explain(seen)), style="red") if isinstance(seen, ControlError) else render(seen)
            live.update(shown, refresh=True)
            await asyncio.sleep(WATCH_S)
    return exit_code(seen)


def render(s: Status) -> RenderableType:
    """The whole picture, the guard and its reasons first."""
    return Group(_headline(s), *_why_not(s), Text(), _quotes(s), *_edges(s), Text(), _figures(s))


def _headline(s: Status) -> Text:
    sides = [side for side in ("buy", "sell") if any(q.working and q.side == side for q in s.quotes)]
    quoting = exit_code(s) == QUOTING
    style = "green" if quoting and s.guard == GuardState.RUNNING else "yellow"
    if s.guard == GuardState.HARD_STOP or s.kill != KillState.ARMED:
        style = "red"
    line = Text(f"{s.guard.upper()}", style=f"bold {style}")
    line.append(f"  {'quoting ' + ' and '.join(sides) if quoting else 'not quoting'}", style="default")
    line.append(f"  kill switch {s.kill}", style="bold red" if s.kill != KillState.ARMED else "default not bold")
    if s.gate_closed:
        line.append(f"  gate closed: {plain(s.gate_closed)}", style="bold red")
    return line


def _why_not(s: Status) -> list[Text]:
    if not s.why_not_quoting and exit_code(s) == NOT_QUOTING:
        return [Text("  WHY NOT QUOTING: no reason is active, and no quote stands at the venue yet", style="yellow")]
    lines = [Text("  WHY NOT QUOTING" if exit_code(s) else "  WHY NOT FULLY", style="bold yellow")]
    lines += [Text(f"    {plain(why)}") for why in s.why_not_quoting]
    return lines if s.why_not_quoting else []


def _quotes(s: Status) -> RenderableType:
    if not s.quotes:
        return Text("no target quotes")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("quote", "level", "price", "size", "bps from fair"):
        table.add_column(name, justify="left" if name == "quote" else "right", no_wrap=True)
    table.add_column("of which")
    table.add_column("at the venue", no_wrap=True)
    for q in s.quotes:
        at_venue = Text("yes", style="green") if q.working else Text("not yet", style="yellow")
        distance, addends = Text(f"{q.distance_bps:+.2f}"), Text(_addends(q.addends_bps))
        table.add_row(Text(q.side), Text(str(q.level)), Text(q.px), Text(q.qty), distance, addends, at_venue)
    return table


def _edges(s: Status) -> list[Text]:
    return [
        Text(f"required edge {side:<4} {sum(addends.values()):.2f} bps: {_addends(addends)}", style="dim")
        for side, addends in s.edge_bps.items()
    ]


def _addends(addends: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {bps:+.2f}" for name, bps in addends.items() if abs(bps) >= _SHOWN_BPS)


def _figures(s: Status) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))

    def line(name: str, text: str) -> None:
        table.add_row(Text(name), Text(plain(text)))

    average = f" at {s.average_px} average" if s.average_px else ""
    line("position", f"{s.position} of at most {s.max_position}{average}")
    unknown = f", {s.unknown_orders} of unknown fate" if s.unknown_orders else ""
    line("open orders", f"{s.open_orders}{unknown}")
    line("equity", s.equity)
    line("PnL", "  ".join(f"{part} {amount}" for part, amount in s.pnl.items()) or "unknown: no mark yet")
    line("prices", f"fair {_or(s.fair)}  bid {_or(s.bid)}  ask {_or(s.ask)}  mark {_or(s.mark)}")
    links = "  ".join(f"{name} {'up' if up else 'DOWN'}" for name, up in s.links.items())
    line("feeds", f"{links}  book {_age(s.book_age_s)} old")
    line("regime", s.regime)
    line("guard's time", "  ".join(f"{state} {_span(spent)}" for state, spent in s.guard_seconds.items()))
    line("counts", "  ".join(f"{name} {count:,}" for name, count in s.counts.items()))
    if s.market_refused:
        line("data dropped", "  ".join(f"{reason} {count:,}" for reason, count in s.market_refused.items()))
    line("delays", f"event loop {_age(s.loop_lag_s)}  journal {_age(s.journal_age_s)}")
    at = datetime.fromtimestamp(s.at_ts_ns // NS, UTC).strftime("%Y-%m-%d %H:%M:%S")
    line("run", f"{s.run_epoch}: {s.mode} {s.venue} {s.symbol}, up {_span(s.uptime_s)}, seen {at} UTC")
    metrics = f"http://127.0.0.1:{s.metrics_port}/metrics" if s.metrics_port else "not served"
    line("program", f"{s.program_version}, config {s.config_hash}, metrics {metrics}")
    return table


def _or(text: str | None) -> str:
    return text or "unknown"


def _age(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.3f} s"


def _span(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
