"""Intervals by block bootstrap: what is near in time is alike, so whole blocks of time are drawn and not single prints.

After Kuensch, "The jackknife and the bootstrap for general stationary observations" (1989), with blocks that do not
overlap: sums are kept by block, blocks are drawn with replacement, and a figure is computed anew from the sums of each
draw; the interval is the 2.5 % and 97.5 % quantile. The draws are seeded, so the same tape gives the same interval.
"""

from collections.abc import Callable

import numpy as np

from mmdaemon.core.types import NS
from mmdaemon.research.calibration.observing import Floats, Ints
from mmdaemon.research.calibration.records import Interval

DRAWS = 2_000
SEED = 20_260_106
LEAST_BLOCKS = 8
"""With fewer there is no interval: it would be too narrow, and look like knowledge."""
BLOCKS_AIMED = 60
LEAST_S, MOST_S = 30, 900


def block_ns(span_ns: int, horizon_s: float = 0.0) -> int:
    """Length of a block: a sixtieth of the recording, between half a minute and a quarter of an hour, and twice the
    horizon at least, so that what overlaps lies in one block or two."""
    return max(min(MOST_S * NS, max(LEAST_S * NS, span_ns // BLOCKS_AIMED)), round(2 * horizon_s * NS))


def sums_by_block(t_ns: Ints, columns: list[Floats], length_ns: int) -> Floats:
    """(blocks, columns): sums of each column over each block of time that holds anything."""
    blocks, at = np.unique(t_ns // length_ns, return_inverse=True)
    return np.stack(
        [np.bincount(at, weights=column, minlength=len(blocks)) for column in columns], axis=1, dtype=np.float64
    )


def interval(sums: Floats, figure: Callable[[Floats], Floats]) -> Interval | None:
    """Of what `figure` makes of sums: (draws, columns) -> (draws,). None where there are too few blocks."""
    found = intervals(sums, lambda drawn: figure(drawn)[:, None])
    return None if found is None else found[0]


def intervals(sums: Floats, figures: Callable[[Floats], Floats]) -> list[Interval] | None:
    """The same of several figures at once: (draws, columns) -> (draws, figures). Draws that come to no number, having
    drawn nothing of a kind, are left out; where they are over a tenth there is no interval."""
    blocks = len(sums)
    if blocks < LEAST_BLOCKS:
        return None
    # How often each block is drawn; the same for every figure of a tape, so that differences between them are paired.
    times = np.random.default_rng(SEED).multinomial(blocks, np.full(blocks, 1.0 / blocks), size=DRAWS)
    with np.errstate(divide="ignore", invalid="ignore"):
        made = figures(times @ sums)
    found: list[Interval] = []
    for column in made.T:
        known = column[np.isfinite(column)]
        if len(known) < DRAWS * 9 // 10:
            return None
        low, high = np.quantile(known, (0.025, 0.975))
        found.append(Interval(float(low), float(high), blocks))
    return found


def ratio(sums: Floats) -> Floats:
    """Mean: the first column over the second."""
    return sums[:, 0] / sums[:, 1]
