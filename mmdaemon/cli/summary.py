"""A run's figures on a terminal: what it traded, what it came to addend by addend, where its time went, and what was
assumed."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from mmdaemon.core.types import E10, NS, Instrument
from mmdaemon.research.summary import RunSummary

_NONE = "the source has none"
"""How the simulated venue says that it made something up."""


def money(amount_e10: int | None, quote: str) -> str:
    """Exact to the last digit that is not zero; "unknown" where it is."""
    if amount_e10 is None:
        return "unknown"
    sign = "-" if amount_e10 < 0 else "+"
    whole, part = divmod(abs(amount_e10), E10)
    return f"{sign}{whole}.{part:010d}".rstrip("0").rstrip(".") + f" {quote}"


def base_of(instrument: Instrument) -> str:
    """The base currency as the symbol has it (BTC of BTCUSDT), else in words."""
    base = instrument.symbol.removesuffix(instrument.quote).rstrip("-/_")
    return base if base and base != instrument.symbol else "in base currency"


def show(
    console: Console, run: RunSummary, instrument: Instrument, wall_s: float | None, provenance: Mapping[str, str]
) -> None:
    """Print the summary; assumptions first, because the figures mean nothing without them.

    `provenance` is the daemon's own at the end: what the venue had to make up is known once it is open.
    """
    console.print(f"[bold]run {run.epoch}[/] on {instrument.symbol}, journal durability {run.durability}")
    for name, text in provenance.items():
        console.print(f"  [dim]{name}: {text}[/]", highlight=False)
    figures = Table(show_header=False, box=None, padding=(0, 2))
    quote = instrument.quote

    def line(name: str, text: str) -> None:
        figures.add_row(name, text)

    if run.events is not None:
        rate = f", {run.events / wall_s:,.0f} a second of {wall_s:.1f} s" if wall_s else ""
        line("events", f"{run.events:,}{rate}")
    line("decisions", f"{run.decisions:,} changed")
    line("orders", f"{run.orders:,} placed, {run.amends:,} amended, {run.cancels:,} cancelled")
    line("fills", f"{run.fills_buy} buys, {run.fills_sell} sells ({run.taker_fills} as taker)")
    line("fill ratio", f"{run.fill_ratio:.1%} of orders")
    line("largest position", f"{run.max_position_lots * instrument.lot_e10 / E10:g} {base_of(instrument)}")
    line("PnL", money(run.pnl_e10, quote))
    line("  spread captured", money(run.spread_e10, quote))
    line("  impact within 5 s", money(run.impact_e10, quote))
    line("  inventory", money(run.inventory_e10, quote))
    line("  fees", money(-run.fees_e10, quote))
    funding = "not modelled (assumed 0)" if _NONE in provenance.get("funding", "") else money(run.funding_e10, quote)
    line("  funding", funding)
    for state, ns in run.guard_ns.items():
        line(f"time {state}", f"{ns / NS:,.1f} s")
    line("RUNNING", f"{run.running_share:.1%} of healthy time")
    if run.digest:
        line("digest", run.digest)
    console.print(figures, highlight=False)
