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
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mmdaemon.cli import locate_dir
from mmdaemon.cli.console import Console
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.ops.control import ControlError
from mmdaemon.ops.control_client import NoDaemon, call
from mmdaemon.ops.status import Status

QUOTING: Final = 0
NOT_QUOTING: Final = 3
NO_DAEMON: Final = 4
WATCH_S: Final = 1.0
_MAY_QUOTE = (GuardState.RUNNING, GuardState.REDUCING)
_ADDENDS_FROM = 110
"""Columns from which on a rung's addends stand beside it, where they fit on its line."""
_MEASURED = 1_000
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
    """0 while at least one side is quoted, 3 while none is, 4 without an answer.

    An order of ours that is being moved still stands, so what is asked is not whether it is at its target price. Of an
    order of unknown fate nobody can say that it stands.
    """
    if isinstance(seen, ControlError):
        return NO_DAEMON
    stands = seen.open_orders > seen.unknown_orders
    return QUOTING if seen.guard in _MAY_QUOTE and seen.quotes and stands else NOT_QUOTING


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
        console = Console(highlight=False)
        console.print(render(seen, console.width))
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
            if isinstance(seen, ControlError):
                live.update(Text(plain(explain(seen)), style="red"), refresh=True)
            else:
                live.update(render(seen, console.width), refresh=True)
            await asyncio.sleep(WATCH_S)
    return exit_code(seen)


def render(s: Status, width: int) -> RenderableType:
    """The whole picture for so many columns: guard and reasons, what is held and made, the ladder, then the rest."""
    ladder = _quotes(s, addends=width >= _ADDENDS_FROM)
    if Console(width=_MEASURED).measure(ladder).maximum > width:
        ladder = _quotes(s, addends=False)
    return Group(_headline(s), *_why_not(s), Text(), _figures(s), Text(), ladder, *_edges(s), Text(), _workings(s))


def _headline(s: Status) -> Text:
    missing = {"buy": ("no bid", "starting"), "sell": ("no ask", "starting")}
    sides = [
        side
        for side, said in missing.items()
        if any(q.side == side for q in s.quotes) and not any(why.startswith(said) for why in s.why_not_quoting)
    ]
    quoting = exit_code(s) == QUOTING
    style = "green" if quoting and s.guard == GuardState.RUNNING else "yellow"
    if s.guard == GuardState.HARD_STOP or s.kill != KillState.ARMED:
        style = "red"
    line = Text(f"{s.guard.upper()}", style=f"bold {style}")
    line.append(f"  {'quoting ' + (' and '.join(sides) or 'soon') if quoting else 'not quoting'}", style="default")
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


def _quotes(s: Status, *, addends: bool) -> RenderableType:
    if not s.quotes:
        return Text("no target quotes")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("quote", "level", "price", "size", "bps from fair"):
        table.add_column(name, justify="left" if name == "quote" else "right", no_wrap=True)
    table.add_column("at the venue", no_wrap=True)
    if addends:
        table.add_column("of which", no_wrap=True)
    for q in s.quotes:
        at_venue = Text("yes", style="green") if q.working else Text("moving", style="yellow")
        cells = [Text(each) for each in (q.side, str(q.level), q.px, q.qty, f"{q.distance_bps:+.2f}")]
        table.add_row(*cells, at_venue, *([Text(_addends(q.addends_bps))] if addends else []))
    return table


def _edges(s: Status) -> list[Text]:
    return [
        Text(f"required edge {side:<4} {sum(addends.values()):.2f} bps: {_addends(addends) or 'nothing'}", style="dim")
        for side, addends in s.edge_bps.items()
    ]


def _addends(addends: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {bps:+.2f}" for name, bps in addends.items() if abs(bps) >= _SHOWN_BPS)


def _figures(s: Status) -> Table:
    """What is held, made and seen: what an operator looks for first."""
    average = f" at {_near(s.average_px)} average" if s.average_px else ""
    # A decision that quotes nothing has no largest position: nobody is bounded by 0.
    most = f" of at most {s.max_position}" if s.guard in _MAY_QUOTE else ""
    unknown = f", {s.unknown_orders} of unknown fate" if s.unknown_orders else ""
    links = "  ".join(f"{name} {'up' if up else 'DOWN'}" for name, up in s.links.items())
    return _table(
        ("position", f"{s.position}{most}{average}"),
        ("equity", s.equity),
        ("PnL", "  ".join(f"{part} {amount}" for part, amount in s.pnl.items()) or "unknown: no mark yet"),
        ("open orders", f"{s.open_orders}{unknown}"),
        *_breaks(s),
        *_backup(s),
        *_journal(s),
        ("feeds", f"{links}  {_book(s)}"),
        ("prices", f"fair {_near(s.fair)}  bid {_or(s.bid)}  ask {_or(s.ask)}  mark {_or(s.mark)}"),
        ("regime", _regime(s)),
        *_strategy(s),
    )


def _book(s: Status) -> str:
    locked = f"  {'LOCKED, ' if s.book_locked else 'locked '}{s.book_locks:,} times" if s.book_locks else ""
    return f"book {'healthy' if s.book_healthy else 'NOT HEALTHY'}, {_age(s.book_age_s)} old{locked}"


def _regime(s: Status) -> str:
    """The regime and what it is told by."""
    by = f" by {s.shock_by}" if s.shock_by else ""
    band = "unknown" if s.band_bps is None else f"{s.band_bps:.2f} bps"
    drift = "unknown" if s.drift_bps is None else f"{s.drift_bps:+.2f} bps"
    bars = f"{s.bars:,} bars from {s.bars_source}" if s.bars_source else "no bars yet"
    waits = f"  {s.regime_seen} is seen, believed in {_span(s.regime_leaves_in_s)}" if s.regime_leaves_in_s else ""
    return f"{s.regime}{by}  band {band}  drift {drift}  {bars}{waits}"


def _strategy(s: Status) -> list[tuple[str, str]]:
    """What quotes are made of, and what the judges of the strategy say: each with its figures."""
    rows = [
        f"{row.regime} {row.figure} {'unknown' if row.value_bps is None else f'{row.value_bps:.2f}'} of "
        f"{row.enters_at_bps:.2f} bps"
        for row in s.regime_rows
    ]
    sigma = "unknown" if s.sigma_bps is None else f"{s.sigma_bps:.2f} bps/sqrt(s)"
    features = "  ".join(f"{name} {bps:+.2f}" for name, bps in s.signal_features.items())
    lines = [
        ("entered at", "  ".join(rows)),
        ("volatility", f"{sigma}  spread x {s.drift_multiplier:g} for drift, x {s.tracker_multiplier:g} for fills"),
        ("signal", f"{s.signal_bps:+.2f} bps; its features, before weights: {features}" if features else ""),
        ("signals", _signals(s)),
        ("fees", _fees(s)),
        ("funding", _funding(s)),
        *((f"{side}s", _side(side, s)) for side in s.sides),
        ("derisk", _derisk(s)),
    ]
    return [(name, text) for name, text in lines if text]


def _signals(s: Status) -> str:
    """What sources outside said and stands, and how many were refused; nothing where nobody said anything."""
    stands = [
        f"{plain(one.source)} {one.kind} {one.value} x {one.weight:.2f} for {_span(one.ends_in_s)}"
        f"{' (shadow)' if one.shadow else ''}"
        for one in s.signals
    ]
    taken = ("applied", "shadow")
    refused = sum(n for counts in s.signal_counts.values() for what, n in counts.items() if what not in taken)
    heard = any(any(counts.values()) for counts in s.signal_counts.values())
    said = "; ".join(stands) or ("none stands" if heard else "")
    return f"{said}{f'  {refused:,} refused' if refused else ''}"


def _fees(s: Status) -> str:
    if s.fees is None:
        return "unknown"
    return f"maker {s.fees.maker_bps:g} bps, taker {s.fees.taker_bps:g} bps, from {s.fees.source}"


def _funding(s: Status) -> str:
    if s.funding is None:
        return "unknown"
    due = _span(max(0.0, (s.funding.next_ts_ns - s.at_ts_ns) / NS))
    every = _span(s.funding.interval_s)
    return f"{s.funding.rate * 100:+.4f} % due in {due}, every {every}: a long costs {s.carry_bps:+.2f} bps"


def _side(side: str, s: Status) -> str:
    seen = s.sides[side]
    required = "unknown" if seen.required_bps is None else f"{seen.required_bps:.2f}"
    gate = f" for {_span(seen.gate_for_s)}" if seen.gate_for_s else ""
    said = f"must earn {required} of at most {seen.most_bps:.2f} bps, gate {seen.gate}{gate}"
    said += f"; impact {s.adverse_bps.get(side, 0.0):.2f} bps"
    if seen.net_bps is not None and seen.net_upper_bps is not None:
        said += f", net {seen.net_bps:+.2f} (at most {seen.net_upper_bps:+.2f}) over {seen.net_fills} fills"
    if seen.pull != "quoted":
        said += f"; {seen.pull}, {_span(seen.pull_left_s)} left"
    return said + (f"; at {seen.size_share:.0%} of the size" if seen.size_share < 1 else "")


def _derisk(s: Status) -> str:
    if s.derisk is None:
        return ""
    day = f"day ends in {_span(s.derisk.day_ends_in_s)}{', and it must be flat' if s.derisk.is_day_ending else ''}"
    if s.derisk.stage == "none":
        return f"none; {day}"
    coming = f", {s.derisk.next_stage} in {_span(s.derisk.next_in_s)}" if s.derisk.next_stage else ""
    return f"{s.derisk.stage.upper()}, worked down for {_span(s.derisk.for_s)}{coming}; {day}"


def _backup(s: Status) -> list[tuple[str, str]]:
    """Only where the last try to make one came to nothing."""
    if s.health is None or not s.health.backup_error:
        return []
    newest = s.health.backup_ts_ns
    last = "there is none" if newest is None else f"the last is {_span(max(0.0, (s.at_ts_ns - newest) / NS))} old"
    return [("backup", f"FAILED, {last}: {plain(s.health.backup_error)}")]


def _journal(s: Status) -> list[tuple[str, str]]:
    """How large it is, and how far back its decisions reach."""
    if s.health is None or s.health.journal_bytes is None:
        return []
    since, kept = s.health.journal_since_ts_ns, s.health.journal_keep_days
    reaches = "" if since is None else f", decisions of the last {_span(max(0.0, (s.at_ts_ns - since) / NS))}"
    stays = f", {kept} days stay" if kept else ", nothing is pruned"
    failed = f"; NOT PRUNED: {plain(s.health.prune_error)}" if s.health.prune_error else ""
    return [("journal", f"{s.health.journal_bytes / 1e6:,.1f} MB{reaches}{stays}{failed}")]


def _breaks(s: Status) -> list[tuple[str, str]]:
    """What is open between venue and books, a line each, oldest first."""
    lines = [
        f"{each.name} ({each.owner}, {'hard' if each.hard else 'soft'}, "
        f"open {_span(max(0.0, (s.at_ts_ns - each.opened_ts_ns) / NS))}): {each.detail}"
        for each in s.breaks
    ]
    more = sum(s.open_breaks.values()) - len(lines)
    lines += [f"and {more} more: `mmdaemon reconcile` shows them"] if more > 0 else []
    return [("breaks" if line is lines[0] else "", line) for line in lines]


def _workings(s: Status) -> Table:
    """How the daemon itself fares."""
    dropped = "  ".join(f"{reason} {count:,}" for reason, count in s.market_refused.items())
    at = datetime.fromtimestamp(s.at_ts_ns // NS, UTC).strftime("%Y-%m-%d %H:%M:%S")
    metrics = f"http://127.0.0.1:{s.metrics_port}/metrics" if s.metrics_port else "not served"
    page = f", page http://127.0.0.1:{s.page_port}/" if s.page_port else ""
    return _table(
        ("run", f"{s.run_epoch}: {s.mode} {s.venue} {s.symbol}, up {_span(s.uptime_s)}, seen {at} UTC"),
        ("program", f"{s.program_version}, config {s.config_hash}, metrics {metrics}{page}"),
        ("delays", f"event loop {_age(s.loop_lag_s)}  journal {_age(s.journal_age_s)}"),
        *([("data dropped", dropped)] if dropped else []),
        ("counts", "  ".join(f"{name} {count:,}" for name, count in s.counts.items())),
        ("guard's time", "  ".join(f"{state} {_span(spent)}" for state, spent in s.guard_seconds.items())),
    )


def _table(*lines: tuple[str, str]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, text in lines:
        table.add_row(Text(name), Text(plain(text)))
    return table


def _or(text: str | None) -> str:
    return text or "unknown"


def _near(px: str | None) -> str:
    """A price that lies between ticks, to nine digits: what it is held in is exact, and longer than anyone reads."""
    return "unknown" if px is None else f"{float(px):.9g}"


def _age(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.3f} s"


def _span(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
