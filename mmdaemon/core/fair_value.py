"""Fair value F: the imbalance-weighted mid, in ticks.

    I = Qb / (Qb + Qa),    F = I * Pa + (1 - I) * Pb

Pb, Pa are best bid and ask, Qb and Qa the sizes resting near them. The trade calls it micro-price (S. Stoikov, "The
micro-price", 2018, whose estimator may replace it). Sizes are summed over `depth_levels` levels, because the size at a
one-tick touch is cheap to fake. F lies within the touch; on a locked book it is the locked price. What the
short-horizon signal (`signal.py`) expects is added by `with_signal`.
"""

from mmdaemon.core.book import Book
from mmdaemon.core.types import BPS


def fair_value_ticks(book: Book, depth_levels: int) -> float | None:
    """Fair value of the last healthy book in ticks, or None where there has been none."""
    bids, asks = book.bids, book.asks
    if not bids or not asks:
        return None
    bid_qty = bids[0][1]
    ask_qty = asks[0][1]
    for i in range(1, min(depth_levels, len(bids), len(asks))):
        bid_qty += bids[i][1]
        ask_qty += asks[i][1]
    bid_px = bids[0][0]
    return bid_px + (asks[0][0] - bid_px) * (bid_qty / (bid_qty + ask_qty))


def with_signal(fair_ticks: float, signal_bps: float) -> float:
    """Fair value that quotes rest on: F * (1 + signal)."""
    return fair_ticks * (1.0 + signal_bps * BPS) if signal_bps else fair_ticks


def stays_within(book: Book, lo_ticks: float, hi_ticks: float, depth_levels: int, signal_bps: float) -> bool:
    """Whether fair value with the signal lies within [lo, hi], without computing it where the touch alone proves it."""
    if lo_ticks <= with_signal(book.bid_px, signal_bps) and with_signal(book.ask_px, signal_bps) <= hi_ticks:
        return True
    fair = fair_value_ticks(book, depth_levels)
    return fair is not None and lo_ticks <= with_signal(fair, signal_bps) <= hi_ticks
