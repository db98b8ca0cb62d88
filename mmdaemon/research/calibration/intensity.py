"""A and k: how often prints come that far beyond the mid.

    lambda(delta) = A * exp(-k * delta)                                                                      [1/s]

For an order kept at `delta` from the mid: time is cut into windows of 1 s, the order waits in each for the first
print that reaches it, and lambda is first arrivals over the time waited: the maximum likelihood of an exponential
waiting time that is broken off at the window's end (Laruelle, Lehalle & Pages 2013; Fernandez-Tapia 2015). Further
prints of the same sweep, in the same window, are no further arrivals. A straight line is then laid through ln lambda
by least squares, over distances that are evenly spaced, from just beyond the usual touch to where `LEAST_ARRIVALS`
are left. The touch itself is left out: most prints end there, and whom of those who wait there they fill is a matter
of the queue.

Units. Twice the distance is twice the price less twice the mid, in whole ticks: half ticks are exact, and are turned
into price before anything is fitted, so k is per price and not per half tick. An order cannot stand between two
ticks: where the mid lies so that no price is at that distance, it stands at the next one further out, and the mean of
where it stood is what is regressed on.
"""

import numpy as np

from mmdaemon.core.types import NS
from mmdaemon.research.calibration.blocks import block_ns, intervals
from mmdaemon.research.calibration.observing import Floats, Ints, Observed
from mmdaemon.research.calibration.records import Intensity, Makers, NotMade, Point, Poor

WINDOW_NS = NS
LEAST_ARRIVALS = 30
"""At the furthest distance that is used."""
LEAST_PRINTS = 200
LEAST_POINTS = 5
MOST_POINTS = 40
SIDES = {Makers.BIDS: (1,), Makers.ASKS: (-1,), Makers.BOTH: (1, -1)}


def intensity(observed: Observed, makers: Makers, least_r2: float) -> Intensity | Poor | NotMade:
    """The fit for orders of these makers; of BOTH, one order on each side, each counted by itself.

    A poorer fit than `least_r2` is refused (the setting `glft.fit_r2_min`, by which the daemon refuses it too).
    """
    begins = observed.windows(WINDOW_NS)
    prints, reach_x2 = observed.prints, observed.prints.reach_x2
    # The last window that began before the print, if the print lies in it.
    window = np.searchsorted(begins, prints.t_ns, side="right") - 1
    inside = (window >= 0) & (prints.t_ns - begins[np.maximum(window, 0)] < WINDOW_NS) if len(begins) else window >= 0
    inside &= np.isin(prints.maker, SIDES[makers])
    count = int(inside.sum())
    if count < LEAST_PRINTS:
        return NotMade(f"{count:,} prints with a known taker and a fresh book, and {LEAST_PRINTS} are needed")
    window, reach_x2, maker = window[inside], reach_x2[inside], prints.maker[inside]
    waited_ns = prints.t_ns[inside] - begins[window]
    order = _Order(observed, begins, window, maker, reach_x2, waited_ns, len(SIDES[makers]))
    edges = _edges(order, int(np.median(observed.books.spread)))
    if len(edges) < LEAST_POINTS:
        return NotMade(
            f"prints reach {len(edges)} distances often enough ({LEAST_ARRIVALS} times), and {LEAST_POINTS} are needed"
        )
    arrivals, waited_s = order.sums(edges)
    return _judged(_fitted(observed, makers, count, edges, arrivals, waited_s), least_r2)


class _Order:
    """What happens to orders at given distances, by block of time."""

    def __init__(
        self,
        observed: Observed,
        begins: Ints,
        window: Ints,
        maker: Ints,
        reach_x2: Ints,
        waited_ns: Ints,
        sides: int,
    ) -> None:
        length_ns = block_ns(observed.last_ns - observed.first_ns)
        self._window, self._reach_x2, self._waited_ns = window * 2 + (maker > 0), reach_x2, waited_ns
        self._block_of, self.blocks = _numbered(begins // length_ns)
        self._whole_s = np.bincount(self._block_of, minlength=self.blocks) * (WINDOW_NS / NS) * sides

    def sums(self, edges: Ints) -> tuple[Floats, Floats]:
        """(blocks, edges): first arrivals, and seconds waited."""
        arrivals, waited = np.zeros((self.blocks, len(edges))), np.zeros((self.blocks, len(edges)))
        for column, edge in enumerate(edges):
            reached = np.flatnonzero(self._reach_x2 >= edge)
            key, first = np.unique(self._window[reached], return_index=True)  # the first of each: they are in order
            block = self._block_of[key // 2]
            spared_s = (WINDOW_NS - self._waited_ns[reached[first]]) / NS
            arrivals[:, column] = np.bincount(block, minlength=self.blocks)
            waited[:, column] = self._whole_s - np.bincount(block, weights=spared_s, minlength=self.blocks)
        return arrivals, waited

    def arrivals(self, edge: int) -> int:
        return len(np.unique(self._window[self._reach_x2 >= edge]))


def _numbered(labels: Ints) -> tuple[Ints, int]:
    known, at = np.unique(labels, return_inverse=True)
    return at, len(known)


def _edges(order: _Order, usual_spread: int) -> Ints:
    """Distances in half ticks, evenly spaced. The spread in ticks is the half-spread in half ticks."""
    least = usual_spread + 1
    if order.arrivals(least) < LEAST_ARRIVALS:
        return np.empty(0, dtype=np.int64)
    low, high = least, least + 1
    while order.arrivals(high) >= LEAST_ARRIVALS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if order.arrivals(middle) >= LEAST_ARRIVALS:
            low = middle
        else:
            high = middle
    step = max(1, -(-(low - least) // (MOST_POINTS - 1)))
    return np.arange(least, low + 1, step, dtype=np.int64)


def _fitted(
    observed: Observed, makers: Makers, count: int, edges: Ints, arrivals: Floats, waited_s: Floats
) -> Intensity:
    distance_px = _stood_at_px(observed, edges)
    per_bp = observed.mean_mid * 1e-4
    per_s = arrivals.sum(axis=0) / waited_s.sum(axis=0)
    (k,), (a,) = _line(distance_px, per_s[None, :])
    logs = np.log(per_s)
    left = logs - (np.log(a) - k * distance_px)
    spread = float(((logs - logs.mean()) ** 2).sum())
    r2 = 1.0 - float((left * left).sum()) / spread if spread else 0.0

    def both(drawn: Floats) -> Floats:
        hits, seconds = drawn[:, : len(edges)], drawn[:, len(edges) :]
        decay, at_mid = _line(distance_px, hits / seconds)
        return np.stack([at_mid, decay * per_bp], axis=1)

    known = intervals(np.concatenate([arrivals, waited_s], axis=1), both)
    return Intensity(
        makers=makers,
        a_per_s=float(a),
        k_per_px=float(k),
        k_per_bp=float(k * per_bp),
        r2=r2,
        furthest_off=float(np.exp(np.abs(left).max())),
        prints=count,
        from_bps=float(distance_px[0] / per_bp),
        to_bps=float(distance_px[-1] / per_bp),
        a_interval=known[0] if known else None,
        k_per_bp_interval=known[1] if known else None,
        points=tuple(
            Point(float(px), float(px / per_bp), int(hits), float(seconds), float(rate))
            for px, hits, seconds, rate in zip(
                distance_px, arrivals.sum(axis=0), waited_s.sum(axis=0), per_s, strict=True
            )
        ),
    )


def _judged(found: Intensity, least_r2: float) -> Intensity | Poor:
    if found.k_per_px <= 0:
        return Poor(found, "k is not positive: prints do not become rarer with distance")
    if found.r2 < least_r2:
        return Poor(found, f"R2 is {found.r2:.3f}, and {least_r2:g} is needed: arrivals do not fall exponentially")
    return found


def _line(distance_px: Floats, per_s: Floats) -> tuple[Floats, Floats]:
    """(k, A) of the least-squares line through ln lambda, for each row of `per_s`. No arrivals is no number."""
    logs = np.log(np.where(per_s > 0, per_s, np.nan))
    x = distance_px - distance_px.mean()
    slope = (logs - logs.mean(axis=1, keepdims=True)) @ x / (x @ x)
    return -slope, np.exp(logs.mean(axis=1) - slope * distance_px.mean())


def _stood_at_px(observed: Observed, edges: Ints) -> Floats:
    """Mean distance at which an order for each edge stands: the edge, where a price is that far from the mid, else half
    a tick further. Twice the mid is odd or even; twice a price is even."""
    odd = float((observed.books.mid_x2 % 2).mean())
    further = np.where(edges % 2 == 0, odd, 1.0 - odd)
    return np.asarray((edges + further) * (observed.tick / 2), dtype=np.float64)
