"""`mmdaemon check-config`: every error of a configuration at once, or what it amounts to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.core.types import E10
from mmdaemon.settings import (
    ConfigError,
    Loaded,
    assignments,
    least_equity,
    load,
)
from mmdaemon.settings.documents import toml_value


def check_config(
    config: Path | None = None,
    *,
    set_: Annotated[Sequence[str], Parameter(name="--set", negative=())] = (),
    show_origin: Annotated[bool, Parameter(negative=())] = False,
    price: float = 60_000.0,
) -> int:
    """Check a configuration and show every error at once, or what it amounts to.

    Exits with 0 where it can be used and 78 where not.

    Parameters
    ----------
    config
        The TOML file; without one the defaults and the environment are checked.
    set_
        One setting over all others, as table.key=value; may be given again.
    show_origin
        Show every setting with where its value came from, not only those that differ from their defaults.
    price
        Price at which the least equity is computed.
    """
    if not 0 < price < float("inf"):
        raise Refused(f"--price must be positive, got {price:g}", ExitCode.USAGE)
    try:
        loaded = load(config, assignments(set_))
    except ConfigError as error:
        print_problems(error)
        return ExitCode.CONFIG
    _print_values(loaded, every=show_origin)
    _print_least_equity(loaded, price)
    mode = loaded.settings.run.mode
    if mode != "simulated":
        print(f'mode = "{mode}" runs with its flag only: `mmdaemon run --{mode}`')
    print(f"config hash {loaded.settings.config_hash}")
    print(f"{config or 'the defaults'}: usable")
    return ExitCode.OK


def print_problems(error: ConfigError) -> None:
    """One line a problem on stderr: where, what, why, and what was probably meant."""
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in error.problems:
        line = Text(problem.path, style="bold red")
        if problem.value:
            line.append(f" = {problem.value}", style="default not bold")
        line.append(f" ({problem.origin})", style="dim not bold")
        line.append(f": {problem.reason}", style="default not bold")
        if problem.nearest:
            line.append(f"; {problem.nearest}", style="green not bold")
        err.print(line)
    count = len(error.problems)
    err.print(f"mmdaemon: {count} configuration error{'' if count == 1 else 's'}; nothing was started")


def _print_values(loaded: Loaded, *, every: bool) -> None:
    flat = loaded.settings.flat()
    shown = [path for path in flat if every or not loaded.origins[path].startswith(("default", "preset "))]
    width = max((len(f"{path} = {toml_value(flat[path])}") for path in shown), default=0)
    for path in shown:
        print(f"{path} = {toml_value(flat[path])}".ljust(width), f" {loaded.origins[path]}")
    if len(shown) < len(flat):
        rest = f"{len(flat) - len(shown)} more settings are those of preset {loaded.settings.preset}"
        print(f"{rest}; --show-origin shows them all")


def _print_least_equity(loaded: Loaded, price: float) -> None:
    from mmdaemon.venues.simulated.market import SyntheticMarket

    settings = loaded.settings
    instrument = SyntheticMarket(seed=settings.run.seed).instrument
    px_ticks = max(1, round(price * E10 / instrument.tick_e10))
    rows = least_equity(settings, instrument, px_ticks)
    print(
        f"\nleast equity for a valid order, {instrument.symbol} at {price:,.10g} {instrument.quote} "
        f"(smallest order {rows[0].smallest_order_quote:,.2f}):"
    )
    for row in rows:
        if row.equity_quote is None:
            text = f"none: the smallest order exceeds limits.max_order_quote = {settings.limits.max_order_quote:g}"
        else:
            text = f"{row.equity_quote:>14,.2f} {instrument.quote}"
            if settings.run.mode in {"simulated", "paper"} and row.equity_quote > settings.simulated.equity_quote:
                text += "  more than simulated.equity_quote: no quotes in this regime"
        print(f"  {row.regime:<18} {text}")
    print()
