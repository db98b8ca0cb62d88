"""`mmdaemon explain`: why an order was there, why a side was not, what became of it. From the journal alone."""

import re
import sqlite3
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter
from rich.table import Table

from mmdaemon.cli import ExitCode, Refused, locate_dir
from mmdaemon.cli.console import Console
from mmdaemon.cli.explanation import DecisionStory, Explanation, Moment, OrderStory, Rung, story_of, utc
from mmdaemon.cli.order_life import FILL, brief_of, intent_in_force, life_of, resting_at
from mmdaemon.core.params import Params
from mmdaemon.core.types import Purpose
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow, Intent, Run
from mmdaemon.journal.recovery import JournalUnreadable

NOT_FOUND = 1
_WIDE = 100
"""Columns from which on ticks and bps fit side by side. Below, what can be told from the rest is left out."""
_NARROW_RUNGS = 5
_FIRST, _LAST = 4, 20
_LINES = 2 * (_FIRST + _LAST)
"""Lines of an order's life that are shown in full; of longer ones the first and the last."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d{1,6})?)?Z?")


class _NotFoundError(Exception):
    """The message says what was looked for, and what can be."""


def explain(
    what: str | None = None,
    *,
    last_fill: Annotated[bool, Parameter(negative=())] = False,
    state_dir: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the decision behind an order, a fill or a moment, addend by addend, and the order's life.

    Exits with 0, or with 1 where there is no such order, fill, moment or journal. Only reads, also beside a running
    daemon.

    Parameters
    ----------
    what
        A client id, a trade id of a fill, or a time in UTC: 2026-01-01T07:12:03, or 07:12:03 of the last run.
    last_fill
        Explain the last fill.
    state_dir
        State directory; without one $STATE_DIRECTORY, else the user's own.
    json
        One JSON object instead of tables.
    """
    if last_fill == (what is not None):
        raise Refused("say what to explain: an order, a fill or a time, or else --last-fill", ExitCode.USAGE)
    path = locate_dir(state_dir).journal_path
    try:
        with JournalReader(path) as journal:
            journal.db.execute("BEGIN")  # one state of the journal for all that is read here
            found = _explained(journal, what)
    except (_NotFoundError, JournalUnreadable) as error:
        print(f"mmdaemon explain: {error}", file=sys.stderr)
        return NOT_FOUND
    except (sqlite3.Error, msgspec.MsgspecError, ValueError) as error:
        print(f"mmdaemon explain: {path} cannot be believed: {error}; see `mmdaemon replay --verify`", file=sys.stderr)
        return NOT_FOUND
    if json:
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return ExitCode.OK
    show(found, Console(highlight=False))
    return ExitCode.OK


# --- finding it -------------------------------------------------------------------------------------------------------


def _explained(journal: JournalReader, what: str | None) -> Explanation:
    if what is None:
        fill = journal.last_fill()
        if fill is None:
            raise _NotFoundError("there is no fill in this journal yet")
        return _of_order(journal, fill.client_id, fill)
    if journal.order(what) is not None:
        return _of_order(journal, what, None)
    if (fill := journal.fill(what)) is not None:
        return _of_order(journal, fill.client_id, fill)
    return _of_moment(journal, what)


def _params(journal: JournalReader, epoch: int) -> Params:
    blob = journal.params(epoch)
    if blob is None:
        raise ValueError(f"run {epoch} has no parameters")
    return msgspec.msgpack.decode(blob, type=Params)


def _of_order(journal: JournalReader, client_id: str, fill: FillRow | None) -> Explanation:
    history = journal.order(client_id)
    if history is None:
        assert fill is not None
        raise _NotFoundError(f"fill {fill.trade_id} names no order of ours ({client_id or fill.exec_kind.value})")
    intent = intent_in_force(history, fill)
    epoch = history.order.epoch if intent is None else intent.epoch
    params = _params(journal, epoch)
    subject = f"order {client_id}" if fill is None else f"fill {fill.trade_id} of order {client_id}"
    decision, no_decision, rung = _behind(journal, intent, history.order.purpose, params)
    return Explanation(
        subject=subject,
        run=epoch,
        symbol=params.instrument.symbol,
        quote=params.instrument.quote,
        decision=decision,
        no_decision=no_decision,
        rung=rung,
        order=life_of(journal, history, params),
    )


def _behind(
    journal: JournalReader, intent: Intent | None, purpose: Purpose, params: Params
) -> tuple[DecisionStory | None, str, int | None]:
    if intent is None:
        return None, "the order was adopted: no decision in this journal made it", None
    if purpose is not Purpose.QUOTE:
        return None, f"{purpose.value}: the kill switch closes the position through its own lane", None
    row = journal.decision_at(intent.epoch, intent.seq)
    if row is None:
        return None, "its decision is no longer in the journal", None
    story = story_of(journal, row, params)
    side = "buy" if journal_side(journal, intent) > 0 else "sell"
    rungs = [(i, rung) for i, rung in enumerate(story.rungs) if rung.side == side]
    at_price = [i for i, rung in rungs if rung.px_ticks == intent.px_ticks]
    nearest = sorted(rungs, key=lambda each: abs(each[1].px_ticks - intent.px_ticks))
    return story, "", (at_price or [i for i, _ in nearest] or [None])[0]


def journal_side(journal: JournalReader, intent: Intent) -> int:
    """An amend does not repeat its side."""
    (side,) = journal.db.execute("SELECT side FROM orders WHERE client_id = ?", (intent.client_id,)).fetchone()
    return side


def _of_moment(journal: JournalReader, text: str) -> Explanation:
    run, ts_ns = _moment(journal, text)
    params = _params(journal, run.epoch)
    (seq,) = journal.db.execute(
        "SELECT max(seq) FROM decisions WHERE epoch = ? AND ts_ns <= ?", (run.epoch, ts_ns)
    ).fetchone()
    row = None if seq is None else journal.decision_at(run.epoch, seq)
    return Explanation(
        subject=f"{utc(ts_ns)} UTC",
        run=run.epoch,
        symbol=params.instrument.symbol,
        quote=params.instrument.quote,
        decision=None if row is None else story_of(journal, row, params),
        no_decision="nothing was decided yet at that time" if row is None else "",
        resting=tuple(brief_of(order, params) for order in resting_at(journal, run.epoch, ts_ns)),
    )


def _moment(journal: JournalReader, text: str) -> tuple[Run, int]:
    """The run and the moment that a text names.

    Raises _NotFoundError: it is no time, or no run was on then.
    """
    runs = journal.runs()
    if not runs:
        raise _NotFoundError("there is no run in this journal yet")
    text = text.strip()
    try:
        if _TIME_OF_DAY.fullmatch(text):
            of_day = time.fromisoformat(text if text[1] != ":" else f"0{text}").replace(tzinfo=None)
            return runs[-1], _in_run(journal, runs[-1], of_day)
        named = datetime.fromisoformat(text)
    except ValueError:
        raise _NotFoundError(
            f"no order, fill or time {text!r}. An order is a client id (mm...-1-42), a fill its trade id, a time is "
            "UTC: 2026-01-01T07:12:03, or 07:12:03 of the last run. --last-fill needs none of them"
        ) from None
    ts_ns = _ns(named if named.tzinfo else named.replace(tzinfo=UTC))
    for run in reversed(runs):
        if run.started_ts_ns <= ts_ns <= _end(journal, run):
            return run, ts_ns
    spans = "; ".join(f"run {run.epoch} {utc(run.started_ts_ns)} to {utc(_end(journal, run))}" for run in runs[-3:])
    raise _NotFoundError(f"no run was on at {utc(ts_ns)} UTC. The last: {spans}")


def _in_run(journal: JournalReader, run: Run, of_day: time) -> int:
    """The last moment of a run with that time of day."""
    end_ns = _end(journal, run)
    last_day = (_EPOCH + timedelta(microseconds=end_ns // 1_000)).date()
    for back in range(2):
        ts_ns = _ns(datetime.combine(last_day - timedelta(days=back), of_day, UTC))
        if run.started_ts_ns <= ts_ns <= end_ns:
            return ts_ns
    raise _NotFoundError(f"run {run.epoch} was on from {utc(run.started_ts_ns)} to {utc(end_ns)} UTC, not at {of_day}")


def _end(journal: JournalReader, run: Run) -> int:
    """When a run ended, or the last that it wrote."""
    if run.ended_ts_ns is not None:
        return run.ended_ts_ns
    (last,) = journal.db.execute(
        "SELECT max(coalesce((SELECT max(ts_ns) FROM minutes WHERE epoch = ?), 0), "
        "coalesce((SELECT ts_ns FROM decisions WHERE epoch = ? ORDER BY seq DESC LIMIT 1), 0), ?)",
        (run.epoch, run.epoch, run.started_ts_ns),
    ).fetchone()
    return last


def _ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


# --- showing it -------------------------------------------------------------------------------------------------------


def show(found: Explanation, console: Console) -> None:
    """What was seen, what was required, what was quoted, and what became of it."""
    console.print(f"[bold]{found.subject}[/], run {found.run}, {found.symbol}")
    if found.decision is None:
        console.print(f"no decision: {found.no_decision}")
    else:
        _show_decision(found.decision, found.rung, found.quote, console)
    if found.order is not None:
        _show_order(found.order, console)
    if found.decision is not None and found.order is None:
        console.print(
            _orders_table(found.resting, wide=console.width >= _WIDE)
            if found.resting
            else "nothing of ours was out at that time"
        )


def _show_decision(made: DecisionStory, chosen: int | None, quote: str, console: Console) -> None:
    reasons = f" ({made.guard_reasons})" if made.guard_reasons else ""
    console.print(
        f"decision {made.seq} at {made.utc} UTC: guard [bold]{made.guard}[/]{reasons}, regime [bold]{made.regime}[/]"
    )
    wide = console.width >= _WIDE
    table = Table(box=None, padding=(0, 2 if wide else 1), show_header=False)
    for seen in made.inputs:
        table.add_row(seen.meaning, seen.value, seen.unit, *([f"[dim]{seen.field}[/]"] if wide else []))
    console.print(table)
    console.print(_edges_table(made))
    if made.rungs:
        console.print(
            f"reservation price {made.reservation}, half-spread {made.half_bps} bps, largest position "
            f"{made.max_position}; no new decision while fair value stays within {made.holds_from} to "
            f"{made.holds_to}; a quote is moved to its target after {made.refresh_s:g} s"
        )
        for side in ("buy", "sell"):
            if rungs := [(i, rung) for i, rung in enumerate(made.rungs) if rung.side == side]:
                if wide:
                    console.print(_rungs_table(rungs, chosen, quote))
                    continue
                for first in range(0, len(rungs), _NARROW_RUNGS):
                    console.print(_narrow_rungs(rungs[first : first + _NARROW_RUNGS], chosen, quote))
    for name, why in (("bid", made.no_bid), ("ask", made.no_ask)):
        if why:
            console.print(f"no {name}: {why}", markup=False)


def _edges_table(made: DecisionStory) -> Table:
    """A column a side: the addends, and below them what they come to."""
    table = Table("required edge, bps", box=None, padding=(0, 2))
    for edge in made.edges:
        table.add_column(edge.side, justify="right", no_wrap=True)
    for addends in zip(*(edge.addends for edge in made.edges), strict=True):
        table.add_row(addends[0].name.replace("_", " "), *(str(each.bps) for each in addends))
    table.add_row("= required", *(str(edge.required_bps) for edge in made.edges), style="bold")
    for edge in made.edges:
        if edge.reducing_u is not None:
            cells = (str(each.floor_bps) if each is edge else "" for each in made.edges)
            table.add_row(f"floor here (reducing, u {edge.reducing_u})", *cells, style="bold")
    table.add_row("quoted up to", *(str(edge.most_bps) for edge in made.edges))
    return table


def _rungs_table(rungs: list[tuple[int, Rung]], chosen: int | None, quote: str) -> Table:
    """A pair of columns a rung, in ticks and in bps of fair value: the addends, and below them the quoted price."""
    name = "bid" if rungs[0][1].side == "buy" else "ask"
    table = Table(f"{name}s", box=None, padding=(0, 1))
    for i, rung in rungs:
        style = "bold" if i == chosen else ""
        mark = " <" if i == chosen else ""
        table.add_column(f"{name} {rung.level}{mark}, ticks", justify="right", no_wrap=True, style=style)
        table.add_column("bps", justify="right", no_wrap=True, style=style)
    for addends in zip(*(rung.addends for _, rung in rungs), strict=True):
        cells = ((str(each.ticks), "" if each.name == "fair" else str(each.bps)) for each in addends)
        table.add_row(addends[0].name, *(cell for pair in cells for cell in pair))

    def line(title: str, *cells: tuple[str, str]) -> None:
        table.add_row(title, *(cell for pair in cells for cell in pair))

    line("= quoted", *((str(rung.px_ticks), f"{rung.from_fair_bps:+}") for _, rung in rungs))
    line(f"price, {quote}", *((str(rung.price), "") for _, rung in rungs))
    line("size", *((str(rung.qty), "") for _, rung in rungs))
    line("may stay from", *((str(rung.left_alone_from), "") for _, rung in rungs))
    line("to", *((str(rung.left_alone_to), "") for _, rung in rungs))
    return table


def _narrow_rungs(rungs: list[tuple[int, Rung]], chosen: int | None, quote: str) -> Table:
    """A column a rung, in bps of fair value alone: the addends, and below them what they come to."""
    name = "bid" if rungs[0][1].side == "buy" else "ask"
    table = Table(f"{name}s, bps", box=None, padding=(0, 1))
    for i, rung in rungs:
        mark = " <" if i == chosen else ""
        table.add_column(f"{name} {rung.level}{mark}", justify="right", no_wrap=True, style="bold" if mark else "")
    for addends in zip(*(rung.addends for _, rung in rungs), strict=True):
        if addends[0].name != "fair":
            table.add_row(addends[0].name, *(str(each.bps) for each in addends))
    table.add_row("= from fair", *(f"{rung.from_fair_bps:+}" for _, rung in rungs))
    table.add_row(f"price, {quote}", *(str(rung.price) for _, rung in rungs))
    table.add_row("size", *(str(rung.qty) for _, rung in rungs))
    table.add_row("may stay from", *(str(rung.left_alone_from) for _, rung in rungs))
    table.add_row("to", *(str(rung.left_alone_to) for _, rung in rungs))
    return table


def _orders_table(orders: tuple[OrderStory, ...], *, wide: bool) -> Table:
    names = ("our orders then", "side", "rung", "price", "size", "filled", "status")
    table = Table(*names, box=None, padding=(0, 2 if wide else 1))
    for order in orders:
        row = (order.client_id, order.side, str(order.level), order.price, order.qty, order.filled, order.status)
        table.add_row(*(str(each) for each in row))
    return table


def _show_order(order: OrderStory, console: Console) -> None:
    filled = f"{order.filled} of {order.qty} filled"
    console.print(f"[bold]{order.client_id}[/]: {order.purpose} to {order.side}, now {order.status}, {filled}")
    table = Table(box=None, padding=(0, 1))
    wide = console.width >= _WIDE
    for name in ("UTC", "age", "event", "what", "price", "size") if wide else ("UTC", "what", "price", "size"):
        table.add_column(name, no_wrap=True)
    table.add_column("why", overflow="fold")
    for line in order.life if len(order.life) <= _LINES else _shortened(order.life):
        if line is None:
            blank = [""] * (5 if wide else 3)
            table.add_row("...", *blank, f"{len(order.life)} lines in all; --json has every one")
            continue
        px, qty = ("" if each is None else str(each) for each in (line.price, line.qty))
        if wide:
            table.add_row(line.utc, f"{line.age_s:.3f} s", str(line.seq), line.what, px, qty, line.why)
        else:
            table.add_row(line.utc.split()[1], line.what, px, qty, line.why)
    console.print(table)


def _shortened(life: tuple[Moment, ...]) -> Iterator[Moment | None]:
    """The beginning, each fill, and the end, with None for what is left out."""
    gap = False
    for i, line in enumerate(life):
        if i < _FIRST or i >= len(life) - _LAST or line.what == FILL:
            yield line
            gap = False
        elif not gap:
            yield None
            gap = True
