"""Minute bars as the venue would serve them: of its own trades, or of the last mid in a minute without any."""

from collections import deque

from mmdaemon.core.events import BarClosed
from mmdaemon.core.types import NS

MINUTE_NS = 60 * NS
KEPT = 1_500


class Candles:
    """Closed bars only. The minute in which the market began is not a whole one and is never served."""

    __slots__ = ("_bars", "_close", "_high", "_low", "_open", "_qty", "_started_ns", "_whole", "end_ns")

    def __init__(self) -> None:
        self._bars: deque[BarClosed] = deque(maxlen=KEPT)
        self._open = self._high = self._low = self._close = self._qty = 0
        self._whole = True
        self.end_ns = 0
        """When the forming minute ends; 0 before the first event."""

    def begin(self, at_ns: int) -> None:
        self.end_ns = (at_ns // MINUTE_NS + 1) * MINUTE_NS
        self._whole = at_ns % MINUTE_NS == 0

    def roll(self, at_ns: int, mid_ticks: int) -> None:
        """Close every minute that ended at or before `at_ns`. `mid_ticks` is the last mid before it, 0 if none."""
        while at_ns >= self.end_ns:
            if not self._qty:
                self._open = self._high = self._low = self._close = mid_ticks
            if self._close and self._whole:
                end_ns = self.end_ns
                bar = (end_ns - MINUTE_NS, self._open, self._high, self._low, self._close, self._qty, "venue")
                self._bars.append(BarClosed(0, 0, end_ns, *bar))
            self._open = self._high = self._low = self._close = self._qty = 0
            self._whole = True
            self.end_ns += MINUTE_NS

    def on_trade(self, px_ticks: int, qty_lots: int) -> None:
        if not self._qty:
            self._open = self._high = self._low = px_ticks
        elif px_ticks > self._high:
            self._high = px_ticks
        elif px_ticks < self._low:
            self._low = px_ticks
        self._close = px_ticks
        self._qty += qty_lots

    def last(self, n: int) -> list[BarClosed]:
        """The last `n` closed bars, oldest first; fewer where there were not as many."""
        return list(self._bars)[-n:] if n > 0 else []
