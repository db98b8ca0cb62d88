"""Presets: named sets of values that lie under the TOML, the environment and the command line.

`tight` is the default, for a perpetual with a narrow touch. It is built on what was measured (docs/STRATEGY.md): a
half-spread of one basis point around fair value and signal, moved as soon as the target moves by a tenth of one, each
quote living a quarter of a second at least; a skew that keeps both sides quoted; one order a side. Of the signal it has
only the weight that held its sign on every recording: the others belong to a venue, and `mmdaemon calibrate` fits them.
At a maker fee of 2 bps its quotes stand at what they must earn, which is further out.

`desk` holds the figures of the desk that this project replaces (its spreads are full widths, its order sizes the mean
of its least and largest). A preset always has a whole ladder table; what else it sets differs from the defaults in
`trading.py` and `strategy.py`. Every number can be set over it: `[regimes.up] spread_min_bps = 9`.
"""

from collections.abc import Mapping
from typing import Final

Value = bool | int | float | str
"""What one setting can be. Anything else that TOML can say is a wrong type."""

DEFAULT_PRESET: Final = "tight"

COLUMNS: Final = (
    "spread_min_bps",
    "spread_max_bps",
    "levels_min",
    "levels_max",
    "refresh_s",
    "order_size_fraction",
    "skew_gain",
)
Row = tuple[float, float, int, int, float, float, float]

TIGHT: Final[Mapping[str, Row]] = {
    #                    spread, bps  levels  refresh   size    skew
    "neutral_low_vol": (2.0, 12.0, 1, 1, 30.0, 0.0010, 0.11),
    "neutral_high_vol": (2.0, 16.0, 1, 1, 30.0, 0.0010, 0.11),
    "up": (2.0, 16.0, 1, 1, 30.0, 0.0010, 0.11),
    "down": (2.0, 16.0, 1, 1, 30.0, 0.0010, 0.11),
    "high_vol_shock": (3.0, 40.0, 1, 1, 30.0, 0.0010, 0.11),
}
DESK: Final[Mapping[str, Row]] = {
    "neutral_low_vol": (25.0, 45.0, 2, 4, 90.0, 0.0010, 0.5),
    "neutral_high_vol": (40.0, 80.0, 1, 3, 100.0, 0.00065, 0.5),
    "up": (30.0, 55.0, 2, 3, 70.0, 0.0008, 0.8),
    "down": (35.0, 80.0, 2, 3, 60.0, 0.00065, 0.8),
    "high_vol_shock": (80.0, 200.0, 1, 2, 120.0, 0.0004, 0.5),
}


def _table(rows: Mapping[str, Row]) -> dict[str, Value]:
    return {
        f"regimes.{regime}.{column}": value
        for regime, row in rows.items()
        for column, value in zip(COLUMNS, row, strict=True)
    }


PRESETS: Final[Mapping[str, Mapping[str, Value]]] = {
    "tight": {
        **_table(TIGHT),
        "signal.print_weight": 0.6,
        "quotes.band_gain": 0.0,
        "quotes.tolerance_min_bps": 0.1,
        "cost.min_edge_bps": 0.5,
        "cost.inventory_half_life_s": 540.0,
        "limits.cancels_per_minute": 280,
    },
    "desk": {
        **_table(DESK),
        "quotes.max_position_fraction": 0.60,
        "quotes.max_position_quote": 1_000.0,
        "quotes.min_quote_life_s": 0.5,
        "limits.max_order_quote": 250.0,
        "limits.cancels_per_minute": 50,
    },
}
