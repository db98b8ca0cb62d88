"""What the venue refuses at its door, and by which name."""

from mmdaemon.core import events
from mmdaemon.core.types import NS, Instrument

DUPLICATE = events.DUPLICATE
OFF_TICK = "off_tick"
OFF_LOT = "off_lot"
MIN_QTY = "min_qty"
MAX_QTY = "max_qty"
MIN_NOTIONAL = "min_notional"
MARGIN = "margin"
SELF_CROSS = "self_cross"
POST_ONLY = "post_only"
REDUCE_ONLY = "reduce_only"
RATE_LIMIT = events.RATE_LIMITED
NOT_FOUND = "not_found"
SUSPENDED = "suspended"
"""No order of this instrument is taken now, or ever again."""
REFUSED = "refused"
"""For a reason that the venue does not give."""
BELOW_FILLED = "below_filled"
"""An amend to a total size that is filled already."""


def refusal(px_ticks: object, qty_lots: object, instrument: Instrument) -> str:
    """Why this price and total size are not accepted; empty if they are. Whatever is not a positive int is off step."""
    if type(px_ticks) is not int or px_ticks < 1:
        return OFF_TICK
    if type(qty_lots) is not int or qty_lots < 1:
        return OFF_LOT
    if qty_lots < instrument.min_qty_lots:
        return MIN_QTY
    if qty_lots > instrument.max_qty_lots:
        return MAX_QTY
    if instrument.notional_e10(px_ticks, qty_lots) < instrument.min_notional_e10:
        return MIN_NOTIONAL
    return ""


class Bucket:
    """Token bucket of `per_s` a second that holds `burst`, as the generic cell rate algorithm: one integer of state."""

    __slots__ = ("_free_ns", "_interval_ns", "_slack_ns")

    def __init__(self, per_s: float, burst: int) -> None:
        if not (per_s > 0 and burst >= 1):
            raise ValueError(f"a rate limit needs a rate above 0 and a burst of 1 or more, got {per_s}/s, {burst}")
        self._interval_ns = round(NS / per_s)
        self._slack_ns = self._interval_ns * (burst - 1)
        self._free_ns = 0

    def take(self, now_ns: int) -> bool:
        free_ns = max(self._free_ns, now_ns)
        if free_ns - now_ns > self._slack_ns:
            return False
        self._free_ns = free_ns + self._interval_ns
        return True
