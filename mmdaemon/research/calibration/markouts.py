"""What the average print was worth to the maker it was taken from, and what one beyond a distance is worth.

For a print at p, taken from a maker of side s (+1 a bid), with F0 the last fair value before it and F_h that `h` later:

    effective = s * (F0 - p) / F0,   impact_h = s * (F_h - F0) / F0,   markout_h = effective + impact_h          [bps]
    worth_h(d) = d + mean impact_h of the prints with effective >= d

The second is of an order that stood at distance d and was filled by whatever came that far; the price is its own and
not the print's. It is told of F, and of F * (1 + signal) with weights fitted on the rest of the tape (without the
block of time that the print is in): quotes rest on the latter, and the two differ by what the signal knew. The signal
is the one before the moment at which the print arrived.

Before fees. A later fair value needs a book that is fresh then; a print without one is left out of that horizon.
These are averages over *all* prints: the ones that would have filled an order of ours, last in the queue or put there
a moment late, are worse.
"""

from itertools import pairwise

import msgspec
import numpy as np

from mmdaemon.core.types import NS
from mmdaemon.research.calibration.blocks import block_ns, interval, ratio, sums_by_block
from mmdaemon.research.calibration.intensity import SIDES
from mmdaemon.research.calibration.observing import REGIMES, Bools, Floats, Observed
from mmdaemon.research.calibration.records import Beyond, From, Makers, Markout, NotMade

HORIZONS_S = (1.0, 5.0, 30.0, 60.0)
BUCKETS_BPS = (0.0, 0.5, 1.0, 2.5, 5.0, 12.5)
"""Bounds of the distance at the print; below the first is inside fair value, and beyond the last is open."""
BEYOND_BPS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 12.5)
BEYOND_HORIZON_S = 5.0
LEAST_PRINTS = 30
ALL = "all"


class Valued(msgspec.Struct, frozen=True):
    """Prints with a fair value `horizon_s` later."""

    known: Bools
    """Of all prints, which these are."""
    impact_bps: Floats
    """Of those alone."""


def valued(observed: Observed, horizon_s: float) -> Valued:
    """Prints whose fair value so much later is known."""
    books, prints = observed.books, observed.prints
    then_ns = prints.t_ns + round(horizon_s * NS)
    at = books.before(then_ns)
    known = books.fresh(at, then_ns, observed.book_age_max_ns) & (then_ns <= observed.last_ns)
    fair = prints.fair[known]
    return Valued(known, prints.maker[known] * (books.fair[at[known]] - fair) / fair * 1e4)


def markouts(observed: Observed) -> tuple[tuple[Markout, ...], NotMade | None]:
    """By makers, horizon and distance; the reason where there is not one."""
    found: list[Markout] = []
    bounds = [None, *BUCKETS_BPS, None]
    spans = [(None, None), *pairwise(bounds)]
    for horizon_s in HORIZONS_S:
        seen = valued(observed, horizon_s)
        for makers in Makers:
            for low, high in spans:
                row = _markout(observed, seen, makers, low, high, horizon_s)
                found += [row] if row is not None else []
    if found:
        return tuple(found), None
    count = len(observed.prints.t_ns)
    return (), NotMade(
        f"{count:,} prints with a known taker and a fresh book, and at no distance {LEAST_PRINTS} with a book later"
    )


def beyond(observed: Observed, signal_bps: Floats | None = None) -> tuple[Beyond, ...]:
    """By regime and distance, where there are prints enough. "all" is over all regimes. `signal_bps`, one a print,
    moves the fair value from which distances are; without it there is none."""
    of = From.FAIR if signal_bps is None else From.SIGNAL
    lead_bps = np.zeros(len(observed.prints.t_ns)) if signal_bps is None else signal_bps
    seen = valued(observed, BEYOND_HORIZON_S)
    prints, lead_bps = observed.prints, lead_bps[seen.known]
    maker, t_ns, regime = prints.maker[seen.known], prints.t_ns[seen.known], prints.regime[seen.known]
    fair = prints.fair[seen.known] * (1.0 + lead_bps * 1e-4)
    effective = maker * (fair - prints.px[seen.known]) / fair * 1e4
    impact = seen.impact_bps - maker * lead_bps
    length_ns = block_ns(observed.last_ns - observed.first_ns, BEYOND_HORIZON_S)
    found: list[Beyond] = []
    everywhere = np.ones(len(regime), dtype=np.bool_)
    for name, within in [(ALL, everywhere), *((each.value, regime == place) for place, each in enumerate(REGIMES))]:
        for distance_bps in BEYOND_BPS:
            kept = within & (effective >= distance_bps)
            count = int(kept.sum())
            if count < LEAST_PRINTS:
                break  # further out there are no more
            mean = float(impact[kept].mean())
            sums = sums_by_block(t_ns[kept], [impact[kept] + distance_bps, np.ones(count)], length_ns)
            row = (distance_bps, BEYOND_HORIZON_S, count, mean, mean + distance_bps, interval(sums, ratio))
            found.append(Beyond(of, name, *row))
    return tuple(found)


def _markout(
    observed: Observed, seen: Valued, makers: Makers, low: float | None, high: float | None, horizon_s: float
) -> Markout | None:
    prints = observed.prints
    effective = prints.effective_bps[seen.known]
    kept = np.isin(prints.maker[seen.known], SIDES[makers])
    if low is not None:
        kept &= effective >= low
    if high is not None:
        kept &= effective < high
    count = int(kept.sum())
    if count < LEAST_PRINTS:
        return None
    value = (prints.px * prints.qty)[seen.known][kept].astype(np.float64)
    worth = (effective + seen.impact_bps)[kept]
    length_ns = block_ns(observed.last_ns - observed.first_ns, horizon_s)
    sums = sums_by_block(prints.t_ns[seen.known][kept], [worth, np.ones(count)], length_ns)
    return Markout(
        makers=makers,
        from_bps=low,
        to_bps=high,
        horizon_s=horizon_s,
        prints=count,
        mean_bps=float(worth.mean()),
        by_value_bps=float((worth * value).sum() / value.sum()),
        effective_bps=float(effective[kept].mean()),
        interval_bps=interval(sums, ratio),
    )
