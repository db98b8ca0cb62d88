"""A run's figures on a terminal: what it traded, what it came to addend by addend, where its time went, and what was
assumed."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmdaemon.core.types import NS
from mmdaemon.research.report.words import Units
from mmdaemon.research.report.words import share as figure
from mmdaemon.research.summary import RunSummary


def share(part: int, whole: int) -> str:
    return figure("", part, whole).shown


def show(console: Console, run: RunSummary, wall_s: float | None = None) -> None:
    """Print the summary; assumptions first, because the figures mean nothing without them."""
    units = Units(run.instrument)
    console.print(f"[bold]run {run.epoch}[/] on {run.instrument.symbol}, journal durability {run.durability}")
    for name, text in run.provenance.items():
        console.print(f"  [dim]{escape(name)}: {escape(text)}[/]", highlight=False)
    if run.no_result:
        console.print(f"  [bold]no result: {escape(run.no_result)}[/]", highlight=False)
    figures = Table(show_header=False, box=None, padding=(0, 2))

    def line(name: str, text: str) -> None:
        figures.add_row(name, text)

    if run.events is not None:
        rate = f", {run.events / wall_s:,.0f} a second of {wall_s:.1f} s" if wall_s else ""
        line("events", f"{run.events:,}{rate}")
    line("decisions", f"{run.decisions:,} changed")
    line("orders", f"{run.orders:,} placed, {run.amends:,} amended, {run.cancels:,} cancelled")
    line("fills", f"{run.fills_buy} buys, {run.fills_sell} sells ({run.taker_fills} as taker)")
    line("fill ratio", f"{share(run.orders_filled, run.orders)} of orders")
    line("largest position", f"{units.size(run.max_position_lots)} {units.base}")
    line("PnL", units.signed(run.pnl_e10))
    parts = run.attributed
    for name, amount in (
        ("spread captured", None if parts is None else parts.spread_e10),
        ("impact within 5 s", None if parts is None else parts.impact_e10),
        ("inventory", None if parts is None else parts.inventory_e10),
        ("fees", None if parts is None else parts.fees_e10),
    ):
        line(f"  {name}", units.signed(amount))
    funding = units.signed(None if parts is None else parts.funding_e10)
    line("  funding", "not modelled (assumed 0)" if run.is_funding_made_up else funding)
    if run.later_e10:
        line("  after the last minute", units.signed(run.later_e10))
    for state, ns in run.guard_ns.items():
        line(f"time {state}", f"{ns / NS:,.1f} s")
    line("RUNNING", f"{share(run.running_ns, run.healthy_ns)} of healthy time")
    if run.digest:
        line("digest", run.digest)
    console.print(figures, highlight=False)
