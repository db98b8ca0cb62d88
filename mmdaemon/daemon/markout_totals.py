"""What this run's fills were worth a while later, summed by side and horizon: for metrics and status alone."""

import msgspec

from mmdaemon.core.markout import HORIZONS_S, Markout
from mmdaemon.core.types import Side
from mmdaemon.ops.status import MarkoutView


class _Total(msgspec.Struct):
    count: int = 0
    sum_bps: float = 0.0
    unavailable: int = 0


class MarkoutTotals:
    """Filled by the recorder, as it journals each horizon that closed."""

    def __init__(self) -> None:
        self._totals = {(side, horizon_s): _Total() for side in Side for horizon_s in HORIZONS_S}

    def add(self, closed: Markout) -> None:
        total, markout_bps = self._totals[closed.fill.side, closed.horizon_s], closed.markout_bps
        if markout_bps is None:
            total.unavailable += 1
            return
        total.count += 1
        total.sum_bps += markout_bps

    def views(self) -> list[MarkoutView]:
        """A row for each side and horizon, also where there is none yet."""
        return [
            MarkoutView(side.name.lower(), horizon_s, total.count, total.sum_bps, total.unavailable)
            for (side, horizon_s), total in self._totals.items()
        ]
