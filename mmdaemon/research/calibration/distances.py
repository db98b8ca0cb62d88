"""How far prints reach: quantiles beyond touch and mid, and how often an order that is left somewhere would be reached.

Both are of prints with a known aggressor. Quantiles hold a print against the book just before it. The shares of windows
hold it against the mid at the window's *beginning*: that is the order that is put out and left, and the market may come
to it. (A and k in `intensity.py` are of the order that follows the mid.)
"""

import numpy as np

from mmdaemon.core.types import NS
from mmdaemon.research.calibration.intensity import SIDES
from mmdaemon.research.calibration.observing import Bools, Floats, Ints, Observed
from mmdaemon.research.calibration.records import Makers, NotMade, Reach, WindowReach

SHARES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
WINDOWS_S = (1.0, 5.0, 30.0)
DISTANCES_BPS = (0.5, 1.0, 2.5, 5.0, 12.5)
LEAST_PRINTS = 100
LEAST_WINDOWS = 30


def reach(observed: Observed, makers: Makers) -> Reach | NotMade:
    """Quantiles of the prints that took from these makers."""
    prints = observed.prints
    of = np.isin(prints.maker, SIDES[makers])
    count = int(of.sum())
    if count < LEAST_PRINTS:
        return NotMade(f"{count:,} prints with a known taker and a fresh book, and {LEAST_PRINTS} are needed")
    mid_x2, reach_x2 = prints.mid_x2[of], prints.reach_x2[of]
    beyond_mid = reach_x2 / mid_x2 * 1e4
    beyond_touch = (reach_x2 - prints.spread[of]) / mid_x2 * 1e4  # the spread is twice its half
    value = (prints.px[of] * prints.qty[of]).astype(np.float64)
    return Reach(
        makers=makers,
        prints=count,
        shares=SHARES,
        beyond_touch_bps=_quantiles(beyond_touch, np.ones(count)),
        beyond_mid_bps=_quantiles(beyond_mid, np.ones(count)),
        by_value_bps=_quantiles(beyond_mid, value),
    )


def window_reach(observed: Observed) -> tuple[tuple[WindowReach, ...], dict[str, str]]:
    """For each length and distance, and the lengths for which there are too few windows, with the reason."""
    found: list[WindowReach] = []
    missing: dict[str, str] = {}
    books, prints = observed.books, observed.prints
    for window_s in WINDOWS_S:
        length_ns = round(window_s * NS)
        begins = observed.windows(length_ns)
        at = books.before(begins)
        fresh = books.fresh(at, begins, observed.book_age_max_ns)
        begins, at = begins[fresh], at[fresh]
        if len(begins) < LEAST_WINDOWS:
            missing[f"{window_s:g} s"] = f"{len(begins)} were observed whole, and {LEAST_WINDOWS} are needed"
            continue
        window = np.searchsorted(begins, prints.t_ns, side="right") - 1
        inside = (window >= 0) & (prints.t_ns - begins[np.maximum(window, 0)] < length_ns)
        window, maker = window[inside], prints.maker[inside]
        mid_x2 = books.mid_x2[at][window]
        beyond = maker * (mid_x2 - 2 * prints.px[inside]) / mid_x2 * 1e4
        for distance_bps in DISTANCES_BPS:
            reached = [_reached(window, beyond, maker == side, distance_bps, len(begins)) for side in (1, -1)]
            found.append(
                WindowReach(
                    window_s,
                    distance_bps,
                    len(begins),
                    float(reached[0].mean()),
                    float(reached[1].mean()),
                    float((reached[0] | reached[1]).mean()),
                )
            )
    return tuple(found), missing


def _reached(window: Ints, beyond_bps: Floats, of: Bools, distance_bps: float, windows: int) -> Bools:
    reached = np.zeros(windows, dtype=np.bool_)
    reached[window[of & (beyond_bps >= distance_bps)]] = True
    return reached


def _quantiles(values: Floats, weights: Floats) -> tuple[float, ...]:
    """The least value up to which the values make up that share of all weight: always one that was seen."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order])
    at: Ints = np.searchsorted(below, np.array(SHARES) * float(below[-1]), side="left")
    return tuple(float(value) for value in values[order][np.minimum(at, len(values) - 1)])
