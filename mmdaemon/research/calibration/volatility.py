"""Sigma of the mid by the length of the step: a signature plot (Andersen, Bollerslev, Diebold & Labys, 2000).

    sigma(step) = sqrt( mean (mid(t + step) / mid(t) - 1)^2 / step )                                    [bps / sqrt(s)]

Steps begin once a second and overlap; both of their ends need a fresh book, what is between may be a gap. Where sigma
falls as the step grows, short steps measure the bouncing of the quotes as well; where it grows, the mid lags the market
or trends. `core/sampled.py` samples once a second, so its sigma is that of the 1 s step.
"""

import numpy as np

from mmdaemon.core.types import NS
from mmdaemon.research.calibration.blocks import block_ns, interval, ratio, sums_by_block
from mmdaemon.research.calibration.observing import Observed
from mmdaemon.research.calibration.records import Sigma, SigmaMissing

STEPS_S = (1.0, 5.0, 30.0, 60.0)
LEAST_APART = 30
"""So many steps that do not overlap before there is a sigma."""


def volatility(observed: Observed, steps_s: tuple[float, ...] = STEPS_S) -> tuple[Sigma | SigmaMissing, ...]:
    """One for each step, in order."""
    return tuple(_sigma(observed, step_s) for step_s in steps_s)


def _sigma(observed: Observed, step_s: float) -> Sigma | SigmaMissing:
    books, step_ns, most_ns = observed.books, round(step_s * NS), observed.book_age_max_ns
    begins = np.arange(observed.first_ns, observed.last_ns - step_ns + 1, NS, dtype=np.int64)
    ends = begins + step_ns
    at, then = books.before(begins), books.before(ends)
    kept = books.fresh(at, begins, most_ns) & books.fresh(then, ends, most_ns)
    apart = int(kept.sum() / max(1.0, step_s))
    if apart < LEAST_APART:
        return SigmaMissing(step_s, f"{apart} steps that do not overlap, and {LEAST_APART} are needed: record longer")
    mid = books.mid_x2[at[kept]]
    changes_bps = (books.mid_x2[then[kept]] - mid) / mid * 1e4
    squares = changes_bps * changes_bps
    variance = float(squares.mean())
    if variance == 0.0:
        return SigmaMissing(step_s, "the mid never moved: nothing can be said of how much it does")
    length_ns = block_ns(observed.last_ns - observed.first_ns, step_s)
    sums = sums_by_block(begins[kept], [squares, np.ones(len(squares))], length_ns)
    bps = (variance / step_s) ** 0.5
    return Sigma(
        step_s=step_s,
        bps=bps,
        px=bps * 1e-4 * observed.mean_mid,
        changes=len(squares),
        interval_bps=interval(sums, lambda drawn: np.sqrt(ratio(drawn) / step_s)),
    )
