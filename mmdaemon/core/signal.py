"""Where fair value is heading within seconds: a linear prediction from the book and the prints as they arrive.

    signal = clip( sum over features of weight * clip(feature, +-10), +-cap )                       [bps of fair value]

Features, all in bps of the mid, of the last healthy book:

    print      last print's price - mid, while the venue stamped it later than the book; else 0: a feed may tell of a
               trade before it tells of the book that the trade left
    momentum   mid - E, with E the mid's exponential mean over 5 s of arrival time
    gap        (da - db) / 2, with da, db how far the asks and bids of the best D levels lie from the mid on average,
               weighted by size: asks that stand further away than bids let the price rise
    lean       (Qb - Qa) / (Qb + Qa) * (da + db) / 2: imbalance over D levels, times how far they reach

The weights are fitted by `mmdaemon calibrate` (ridge of the mid's move over some seconds) and are settings; all zero
is no signal. They belong to a venue: momentum has one sign where the price follows another market's, and the other
where it leads (docs/STRATEGY.md has the figures).
"""

from math import exp

import msgspec

from mmdaemon.core.book import Book
from mmdaemon.core.events import TradePrint
from mmdaemon.core.params import SignalParams
from mmdaemon.core.types import NS

FEATURES: tuple[str, ...] = ("print", "momentum", "gap", "lean")
_PER_TAU = -1.0 / (5 * NS)
"""Of the mean's time constant, 5 s, per nanosecond."""
_PRINT_NS = 2 * NS
"""So long a print counts by our clock. Every book that is later has come by then; one that is stamped wrong, or a feed
whose books lose their stamps, must not move fair value until the next print that leads."""
_MOST_BPS = 10.0
"""Of one feature: what lies beyond was not in any fit."""


class Signal(msgspec.Struct):
    """The slice. Changed only by `on_book`, `on_trade` and `forget`."""

    bps: float = 0.0
    """The prediction, clipped; 0 without weights or without a book."""

    mid: float = 0.0
    """Of the last book, ticks; 0 = there was none."""
    mean: float = 0.0
    """E of the momentum, ticks, as of `mono_ns`."""
    mono_ns: int = 0
    print_px: int = 0
    """The last print, while no book was stamped as late as it; 0 = none."""
    print_venue_ts_ns: int = 0
    print_mono_ns: int = 0
    gap_bps: float = 0.0
    lean_bps: float = 0.0


def levels(params: SignalParams) -> int:
    """Levels of the book that the signal rests on; 0 where there is none."""
    return params.depth_levels if params.cap_bps and any(params.weights) else 0


def on_book(signal: Signal, book: Book, mono_ns: int, params: SignalParams) -> None:
    """A healthy book was applied."""
    mid = (book.bid_px + book.ask_px) / 2
    if signal.mid:
        _pass_time(signal, mono_ns)
    else:
        signal.mean, signal.mono_ns = mid, mono_ns
    signal.mid = mid
    bid_lots, ask_lots = book.bid_sum_lots, book.ask_sum_lots
    bids_below = mid - book.bid_sum_px_lots / bid_lots
    asks_above = book.ask_sum_px_lots / ask_lots - mid
    signal.gap_bps = (asks_above - bids_below) * 5e3 / mid
    signal.lean_bps = (bid_lots - ask_lots) / (bid_lots + ask_lots) * (asks_above + bids_below) * 5e3 / mid
    # A book with no time of the venue's is taken for one that has seen it.
    if signal.print_px and (
        not 0 < book.last_venue_ts_ns < signal.print_venue_ts_ns or mono_ns - signal.print_mono_ns > _PRINT_NS
    ):
        signal.print_px = 0
    _predict(signal, params)


def on_trade(signal: Signal, trade: TradePrint, book: Book, params: SignalParams) -> None:
    """A print was folded."""
    if not signal.mid:
        return
    _pass_time(signal, trade.mono_ns)
    venue_ts_ns = trade.venue_ts_ns or 0
    if venue_ts_ns > book.last_venue_ts_ns > 0:
        signal.print_px, signal.print_venue_ts_ns = trade.px_ticks, venue_ts_ns
        signal.print_mono_ns = trade.mono_ns
    _predict(signal, params)


def features(signal: Signal) -> tuple[float, float, float, float]:
    """In the order of `FEATURES`, in bps, each clipped; zeros while there is no book."""
    mid, gap, lean = signal.mid, signal.gap_bps, signal.lean_bps
    if not mid:
        return 0.0, 0.0, 0.0, 0.0
    printed = (signal.print_px - mid) / mid * 1e4 if signal.print_px else 0.0
    momentum = (mid - signal.mean) / mid * 1e4
    if -_MOST_BPS < printed < _MOST_BPS and -_MOST_BPS < momentum < _MOST_BPS and -_MOST_BPS < gap < _MOST_BPS:
        return printed, momentum, gap, lean if -_MOST_BPS < lean < _MOST_BPS else _clipped(lean)
    return _clipped(printed), _clipped(momentum), _clipped(gap), _clipped(lean)


def forget(signal: Signal) -> None:
    """The feed was interrupted: what was seen before says nothing of after."""
    signal.bps = signal.mid = signal.mean = signal.gap_bps = signal.lean_bps = 0.0
    signal.mono_ns = signal.print_px = signal.print_venue_ts_ns = signal.print_mono_ns = 0


def _pass_time(signal: Signal, mono_ns: int) -> None:
    """The mid has stood until now."""
    passed_ns = mono_ns - signal.mono_ns
    if passed_ns > 0:
        signal.mean += (1.0 - exp(passed_ns * _PER_TAU)) * (signal.mid - signal.mean)
        signal.mono_ns = mono_ns


def _predict(signal: Signal, params: SignalParams) -> None:
    cap = params.cap_bps
    on_print, on_momentum, on_gap, on_lean = params.weights
    printed, momentum, gap, lean = features(signal)
    bps = on_print * printed + on_momentum * momentum + on_gap * gap + on_lean * lean
    signal.bps = bps if -cap < bps < cap else max(-cap, min(cap, bps)) + 0.0


def _clipped(bps: float) -> float:
    return max(-_MOST_BPS, min(_MOST_BPS, bps))
