"""The least equity at which each regime's order is valid at a venue.

Sizes below the venue's minimum are refused, never rounded up; so an account may be too small for a regime, and it is
better to learn it from `check-config` than from a ladder that stays empty.
"""

from math import ceil
from typing import NamedTuple

from mmdaemon.core.types import E10, Instrument, Regime
from mmdaemon.settings.model import Settings


class LeastEquity(NamedTuple):
    """`equity_quote` is None where no equity helps: the smallest valid order exceeds `limits.max_order_quote`."""

    regime: Regime
    smallest_order_quote: float
    equity_quote: float | None
    resume_equity_quote: float | None
    """The same for the reduced size after a resume; below it size is not cut so far."""


def least_equity(settings: Settings, instrument: Instrument, px_ticks: int) -> list[LeastEquity]:
    """One row a regime, at this price. `px_ticks` must be positive."""
    lot_e10 = instrument.notional_e10(px_ticks, 1)
    lots = max(instrument.min_qty_lots, -(-instrument.min_notional_e10 // lot_e10))
    smallest_e10 = lots * lot_e10
    limits = settings.limits.to_params()
    rows: list[LeastEquity] = []
    for regime in Regime:
        row = getattr(settings.regimes, regime.value).to_params()
        possible = smallest_e10 <= limits.max_order_e10 and lots <= instrument.max_qty_lots
        full = ceil(smallest_e10 / row.order_size) / E10
        rows.append(
            LeastEquity(
                regime=regime,
                smallest_order_quote=smallest_e10 / E10,
                equity_quote=full if possible else None,
                resume_equity_quote=full / settings.quotes.resume_size_fraction if possible else None,
            )
        )
    return rows
