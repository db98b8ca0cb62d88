"""Minute bars, what is computed from them at their close, and the drift of the mid between them.

Bars come from the venue (`on_bar`), or are folded from mids (`on_mid`) where the venue's own has not come; for the same
minute the venue's wins. A minute that is lacking is filled by the venue's bar whenever it comes: a warm-up that was
late, or what could not be read when it closed. Only closed bars are ever counted. A minute folded from mids counts only
if there were mids in the minute before it too, so that it is not a part of a minute.

    true range   TR_i = max(high_i, close_i−1) − min(low_i, close_i−1)                          Wilder, 1978
    ATR(14)      simple mean of the last 14 true ranges; the *band* is ATR / last close, in bps
    EMA(50)      e ← e + 2/51·(close − e) over the last 500 closes, seeded by the mean of the first 50 of them
    quantiles    of the bands at the last 1,440 bars, linear between order statistics (Hyndman & Fan's type 7)
    drift        10⁴·(mid / mid 30 s ago − 1), from a ring sampled once a second; quantiles of its absolute value over
                 the last 2,880 half-minutes

Unavailable, not wrong: a figure is None until there are enough bars, and where no sample lies within 2 s of "30 s ago".
A hole of over five minutes ends what came before it: nothing is computed across it, and what was computed is withdrawn.

Invariants: bars are strictly ordered by opening time; `bands` has one entry a bar.
"""

from bisect import bisect_left, insort
from math import floor

import msgspec

from mmdaemon.core.events import BarClosed
from mmdaemon.core.figures import LARGEST
from mmdaemon.core.types import NS

MINUTE_NS = 60 * NS
BARS_KEPT = 1_500
BANDS_USED = 1_440
ATR_BARS = 14
EMA_BARS = 50
EMA_CLOSES = 500
"""So many that the seed's weight is gone, (49/51)^450 = 1.5e-8, and how long we have run does not show."""
HOLE_NS = 5 * MINUTE_NS
FUTURE_NS = 5 * NS
"""A bar may close this far ahead of our clock: venues close bars by theirs."""

DRIFT_NS = 30 * NS
DRIFT_SLACK_NS = 2 * NS
DRIFTS_KEPT = 2_880
RING_NS = DRIFT_NS + 2 * DRIFT_SLACK_NS


class Bar(msgspec.Struct, frozen=True, gc=False):
    """A closed minute. `qty_lots` is 0 where the source is "mids": mids have no volume."""

    open_ts_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    qty_lots: int
    source: str


class Bars(msgspec.Struct, kw_only=True):
    """The slice. Changed only by `on_bar`, `on_mid` and `sample_mid`."""

    bars: list[Bar] = []
    bands: list[float | None] = []
    """ATR / close at each bar, bps."""
    sorted_bands: list[float] = []
    """Those available of the last 1,440, ascending."""
    atr14_bps: float | None = None
    """The band at the newest bar."""
    ema50_ticks: float | None = None
    source: str = ""
    """What is in use: "venue", "mids", or empty while there is no bar. The venue's bar of a minute comes seconds after
    the one from mids, so it is "mids" once neither of the newest two is the venue's."""
    replaced: int = 0
    """Bars from mids that the venue's own took the place of."""
    ignored: dict[str, int] = {}
    """Bars not taken, by reason: repeat, future, bad_bar, older (than all that are kept, or from mids); and taken back,
    because their minute had not come: unborn."""

    forming_ts_ns: int = 0
    """Opening time of the minute that mids are folded into; 0 = none. The next five are of it."""
    forming_whole: bool = False
    """There were mids in the minute before, so this one is seen from its beginning."""
    first_x2: int = 0
    high_x2: int = 0
    low_x2: int = 0
    last_x2: int = 0
    folded: int = 0

    sample_mono_ns: list[int] = []
    """The ring: when, and twice the mid in ticks."""
    sample_x2: list[int] = []
    drifts: list[float] = []
    """Absolute drifts, oldest first."""
    sorted_drifts: list[float] = []
    drift_mono_ns: int = 0
    """When the last of them was taken."""


def on_bar(bars: Bars, e: BarClosed) -> str:
    """Take a closed bar. Returns "" or the reason it was ignored and counted under."""
    if not (
        all(type(x) is int for x in (e.open_ts_ns, e.open_ticks, e.high_ticks, e.low_ticks, e.close_ticks, e.qty_lots))
        and 0 < e.low_ticks <= min(e.open_ticks, e.close_ticks)
        and max(e.open_ticks, e.close_ticks) <= e.high_ticks <= LARGEST
        and e.qty_lots >= 0
        and e.open_ts_ns % MINUTE_NS == 0
    ):
        return _ignore(bars, "bad_bar")
    if e.open_ts_ns + MINUTE_NS > e.ts_ns + FUTURE_NS:
        return _ignore(bars, "future")
    return _take(
        bars,
        Bar(e.open_ts_ns, e.open_ticks, e.high_ticks, e.low_ticks, e.close_ticks, e.qty_lots, e.source),
    )


def on_mid(bars: Bars, mid_x2: int, ts_ns: int) -> Bar | None:
    """Fold best bid + best ask of a healthy book into the forming minute. Integers only, until the minute turns.

    Returns the bar that this closed, already taken; None where none closed, where it was only a part of a minute, or
    where the venue's own came first. A mid of 0 is none. Half ticks are rounded down. `ts_ns` is one clock throughout,
    best the venue's.
    """
    if not mid_x2 > 0:
        return None
    if bars.forming_ts_ns <= ts_ns < bars.forming_ts_ns + MINUTE_NS:
        if mid_x2 > bars.high_x2:
            bars.high_x2 = mid_x2
        elif mid_x2 < bars.low_x2:
            bars.low_x2 = mid_x2
        bars.last_x2 = mid_x2
        bars.folded += 1
        return None

    _forget_unborn(bars, ts_ns)
    closed: Bar | None = None
    before_ts_ns = bars.forming_ts_ns
    minute_ts_ns = ts_ns - ts_ns % MINUTE_NS
    if bars.forming_whole and minute_ts_ns > before_ts_ns:
        closed = Bar(
            before_ts_ns, bars.first_x2 // 2, bars.high_x2 // 2, bars.low_x2 // 2, bars.last_x2 // 2, 0, "mids"
        )
        if _take(bars, closed):
            closed = None
    bars.forming_ts_ns = minute_ts_ns
    bars.forming_whole = minute_ts_ns == before_ts_ns + MINUTE_NS
    bars.first_x2 = bars.high_x2 = bars.low_x2 = bars.last_x2 = mid_x2
    bars.folded = 1
    _withdraw_after_a_hole(bars)
    return closed


def _forget_unborn(bars: Bars, ts_ns: int) -> None:
    """A clock that ran ahead and stepped back leaves bars of minutes that have not come: every true bar would be older
    than those until it caught up. The venue's own bars carry its time and stay."""
    known = bars.bars
    while known and known[-1].source == "mids" and known[-1].open_ts_ns > ts_ns:
        del known[-1], bars.bands[-1]
        bars.ignored["unborn"] = bars.ignored.get("unborn", 0) + 1
        bars.atr14_bps = bars.ema50_ticks = None


def _take(bars: Bars, bar: Bar) -> str:
    known = bars.bars
    at = len(known)
    while at and known[at - 1].open_ts_ns >= bar.open_ts_ns:
        at -= 1
    if at < len(known) and known[at].open_ts_ns == bar.open_ts_ns:
        if known[at].source != "mids" or bar.source == "mids":
            return _ignore(bars, "repeat")
        known[at] = bar
        bars.replaced += 1
    else:
        if at < len(known) and (bar.source == "mids" or (at == 0 and len(known) >= BARS_KEPT)):
            return _ignore(bars, "older")
        known.insert(at, bar)
        bars.bands.insert(at, None)

    # A bar is part of the true ranges of those after it.
    for i in range(at, min(len(known), at + ATR_BARS + 1)):
        bars.bands[i] = _band_bps(known, i)
    if len(known) > BARS_KEPT:
        del known[0], bars.bands[0]
    bars.sorted_bands = sorted(band for band in bars.bands[-BANDS_USED:] if band is not None)
    bars.atr14_bps = bars.bands[-1]
    bars.ema50_ticks = _ema_ticks(known)
    bars.source = "mids" if all(one.source == "mids" for one in known[-2:]) else "venue"
    _withdraw_after_a_hole(bars)
    return ""


def _withdraw_after_a_hole(bars: Bars) -> None:
    if bars.bars and bars.forming_ts_ns - bars.bars[-1].open_ts_ns > HOLE_NS:
        bars.atr14_bps = bars.ema50_ticks = None


def _band_bps(known: list[Bar], at: int) -> float | None:
    """ATR(14) / close at one bar; it needs the close before the first of the 14."""
    if at < ATR_BARS:
        return None
    before = known[at - ATR_BARS]
    ranges_ticks = 0
    for bar in known[at - ATR_BARS + 1 : at + 1]:
        if bar.open_ts_ns - before.open_ts_ns > HOLE_NS:
            return None
        ranges_ticks += max(bar.high_ticks, before.close_ticks) - min(bar.low_ticks, before.close_ticks)
        before = bar
    return ranges_ticks / (ATR_BARS * before.close_ticks) * 1e4


def _ema_ticks(known: list[Bar]) -> float | None:
    closes: list[int] = []
    after_ts_ns = known[-1].open_ts_ns
    for bar in reversed(known[-EMA_CLOSES:]):
        if after_ts_ns - bar.open_ts_ns > HOLE_NS:
            break
        closes.append(bar.close_ticks)
        after_ts_ns = bar.open_ts_ns
    if len(closes) < EMA_BARS:
        return None
    closes.reverse()
    ema = sum(closes[:EMA_BARS]) / EMA_BARS
    for close_ticks in closes[EMA_BARS:]:
        ema += 2 / (EMA_BARS + 1) * (close_ticks - ema)
    return ema


def band_quantile_bps(bars: Bars, q: float) -> float | None:
    """Quantile of the bands of the last 1,440 bars; None while there is none. How many there are: `band_count`."""
    return _quantile(bars.sorted_bands, q)


def band_count(bars: Bars) -> int:
    return len(bars.sorted_bands)


def sample_mid(bars: Bars, mid_x2: int, mono_ns: int) -> None:
    """Put best bid + best ask of a healthy book into the ring: once a second, from a timer. No book, no call.

    Time that does not move on, and a mid of 0, are not taken.
    """
    when = bars.sample_mono_ns
    if not mid_x2 > 0 or (when and mono_ns <= when[-1]):
        return
    when.append(mono_ns)
    bars.sample_x2.append(mid_x2)
    expired = bisect_left(when, mono_ns - RING_NS)
    if expired:
        del when[:expired], bars.sample_x2[:expired]

    if mono_ns - bars.drift_mono_ns < DRIFT_NS and bars.drift_mono_ns:
        return
    drift_bps = drift30_bps(bars, mono_ns)
    if drift_bps is None:
        return
    bars.drift_mono_ns = mono_ns
    bars.drifts.append(abs(drift_bps))
    insort(bars.sorted_drifts, abs(drift_bps))
    if len(bars.drifts) > DRIFTS_KEPT:
        oldest = bars.drifts.pop(0)
        del bars.sorted_drifts[bisect_left(bars.sorted_drifts, oldest)]


def drift30_bps(bars: Bars, mono_ns: int) -> float | None:
    """Signed change of the mid over the 30 s up to `mono_ns`.

    None where no sample lies within 2 s of 30 s ago, or the newest is over 2 s old. Of two equally near, the older.
    """
    when = bars.sample_mono_ns
    if not when or mono_ns - when[-1] > DRIFT_SLACK_NS:
        return None
    target_ns = mono_ns - DRIFT_NS
    at = bisect_left(when, target_ns)  # within the list: the newest is far later
    if at and target_ns - when[at - 1] <= when[at] - target_ns:
        at -= 1
    if abs(when[at] - target_ns) > DRIFT_SLACK_NS:
        return None
    then_x2 = bars.sample_x2[at]
    return (bars.sample_x2[-1] - then_x2) / then_x2 * 1e4


def drift_quantile_bps(bars: Bars, q: float) -> float | None:
    """Quantile of the absolute drift over the last day of samples; None while there is none."""
    return _quantile(bars.sorted_drifts, q)


def drift_count(bars: Bars) -> int:
    return len(bars.sorted_drifts)


def _quantile(ascending: list[float], q: float) -> float | None:
    """Linear between order statistics.

    Raises:
        ValueError: q outside 0..1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies in 0..1, got {q}")
    if not ascending:
        return None
    place = q * (len(ascending) - 1)
    below = floor(place)
    if below + 1 == len(ascending):
        return ascending[below]
    return ascending[below] + (place - below) * (ascending[below + 1] - ascending[below])


def _ignore(bars: Bars, reason: str) -> str:
    bars.ignored[reason] = bars.ignored.get(reason, 0) + 1
    return reason
