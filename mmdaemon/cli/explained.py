"""How an explanation looks on a terminal: tables as wide as it is, each of whose columns adds up."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from mmdaemon.cli.console import Console
from mmdaemon.cli.explanation import DecisionStory, Explanation, Moment, OrderStory, Rung
from mmdaemon.cli.order_life import FILL
from mmdaemon.cli.shown import Seen
from mmdaemon.core.types import Purpose

_WIDE = 100
"""Columns from which on ticks and bps fit side by side. Below, what can be told from the rest is left out."""
_WIDE_RUNGS = 3
_NARROW_RUNGS = 5
_FIRST, _LAST = 4, 20
_LINES = 2 * (_FIRST + _LAST)
"""Lines of an order's life that are shown in full; of longer ones the first and the last."""


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
    console.print(_figures_table(made.inputs, wide=wide))
    console.print(_edges_table(made, wide=wide))
    if not wide:
        for addend in made.edges[0].addends:
            console.print(f"  {addend.name.replace('_', ' ')}: {addend.source}", markup=False)
    console.print(made.signal, markup=False)
    if made.figures:
        console.print(f"model [bold]{made.model}[/]:")
        console.print(_figures_table(made.figures, wide=wide))
    if made.derisk != "none":
        console.print(f"the position is worked down: {made.derisk}")
    if made.rungs:
        console.print(
            f"reservation price {made.reservation}, half-spread {made.half_bps} bps, skew {made.skew_bps} bps, largest "
            f"position {made.max_position}; no new decision while fair value stays within {made.holds_from} to "
            f"{made.holds_to}; a quote is moved to its target after {made.refresh_s:g} s"
        )
        for side in ("buy", "sell"):
            if rungs := [(i, rung) for i, rung in enumerate(made.rungs) if rung.side == side]:
                if wide:
                    for first in range(0, len(rungs), _WIDE_RUNGS):
                        console.print(rungs_table(rungs[first : first + _WIDE_RUNGS], chosen, quote))
                    continue
                for first in range(0, len(rungs), _NARROW_RUNGS):
                    console.print(_narrow_rungs(rungs[first : first + _NARROW_RUNGS], chosen, quote))
        exact = sum(rung.sum_ticks == rung.px_ticks for rung in made.rungs)
        console.print(f"addends as journaled come to the quoted tick exactly: {exact} of {len(made.rungs)} quotes")
    for name, why in (("bid", made.no_bid), ("ask", made.no_ask)):
        if why:
            console.print(f"no {name}: {why}", markup=False)


def _figures_table(figures: tuple[Seen, ...], *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 2 if wide else 1), show_header=False)
    for seen in figures:
        table.add_row(seen.meaning, seen.value, seen.unit, *([f"[dim]{seen.field}[/]"] if wide else []))
    return table


def _edges_table(made: DecisionStory, *, wide: bool) -> Table:
    """A column a side: the addends, and below them what they come to. Where there is room, with their sources."""
    table = Table("required edge, bps", box=None, padding=(0, 2))
    for edge in made.edges:
        table.add_column(edge.side, justify="right", no_wrap=True)
    if wide:
        table.add_column("from", overflow="fold")
    for addends in zip(*(edge.addends for edge in made.edges), strict=True):
        source = [escape(addends[0].source)] if wide else []
        table.add_row(addends[0].name.replace("_", " "), *(str(each.bps) for each in addends), *source)
    table.add_row("= required", *(str(edge.required_bps) for edge in made.edges), style="bold")
    for edge in made.edges:
        if edge.reducing_u is not None:
            cells = (str(each.floor_bps) if each is edge else "" for each in made.edges)
            table.add_row(f"floor here (reducing, u {edge.reducing_u})", *cells, style="bold")
    table.add_row("half of the widest spread", *(str(edge.most_bps) for edge in made.edges))
    return table


def _name_of(rung: Rung) -> str:
    name = "bid" if rung.side == "buy" else "ask"
    if rung.purpose == Purpose.DERISK:
        return f"{name}, derisk{' (takes)' if rung.takes else ''}"
    return f"{name} {rung.level}"


def rungs_table(rungs: list[tuple[int, Rung]], chosen: int | None, quote: str) -> Table:
    """Three columns a rung, in ticks, in bps of fair value and in money: the addends, and below them what they come
    to."""
    name = "bid" if rungs[0][1].side == "buy" else "ask"
    table = Table(f"{name}s", box=None, padding=(0, 1))
    for i, rung in rungs:
        style = "bold" if i == chosen else ""
        mark = " <" if i == chosen else ""
        table.add_column(f"{_name_of(rung)}{mark}, ticks", justify="right", no_wrap=True, style=style)
        table.add_column("bps", justify="right", no_wrap=True, style=style)
        table.add_column(quote, justify="right", no_wrap=True, style=style)
    for addends in zip(*(rung.addends for _, rung in rungs), strict=True):
        cells = ((str(each.ticks), "" if each.name == "fair" else str(each.bps), str(each.price)) for each in addends)
        table.add_row(addends[0].name, *(cell for three in cells for cell in three))

    def line(title: str, *cells: tuple[str, str, str]) -> None:
        table.add_row(title, *(cell for three in cells for cell in three))

    line("= quoted", *((str(rung.px_ticks), f"{rung.from_fair_bps:+}", str(rung.price)) for _, rung in rungs))
    line("size", *(("", "", str(rung.qty)) for _, rung in rungs))
    line("may stay from", *(("", "", str(rung.left_alone_from)) for _, rung in rungs))
    line("to", *(("", "", str(rung.left_alone_to)) for _, rung in rungs))
    return table


def _narrow_rungs(rungs: list[tuple[int, Rung]], chosen: int | None, quote: str) -> Table:
    """A column a rung, in bps of fair value alone: the addends, and below them what they come to."""
    name = "bid" if rungs[0][1].side == "buy" else "ask"
    table = Table(f"{name}s, bps", box=None, padding=(0, 1))
    for i, rung in rungs:
        mark = " <" if i == chosen else ""
        table.add_column(f"{_name_of(rung)}{mark}", justify="right", no_wrap=True, style="bold" if mark else "")
    for addends in zip(*(rung.addends for _, rung in rungs), strict=True):
        if addends[0].name != "fair":
            table.add_row(addends[0].name, *(str(each.bps) for each in addends))
    table.add_row("= from fair", *(f"{rung.from_fair_bps:+}" for _, rung in rungs))
    table.add_row("= quoted, ticks", *(str(rung.px_ticks) for _, rung in rungs))
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
