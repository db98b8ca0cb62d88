"""Intervals of e5 and of paired differences between rows, by the block bootstrap of `research/calibration/blocks.py`.

Two rows are drawn with the same blocks, so that what the market did to both cancels out of the difference. A row's e5
is a ratio of sums, sum of value * edge over sum of value, and is computed anew from the sums of each draw. A block
without fills is drawn like any other.
"""

import msgspec
import numpy as np

from mmdaemon.research.calibration import blocks
from mmdaemon.research.calibration.blocks import ratio
from mmdaemon.research.calibration.observing import Floats
from mmdaemon.research.calibration.records import Interval


class Sums(msgspec.Struct, frozen=True):
    """By block of time, over fills with a known e5: `value` in quote currency, `earned` value * e5 in bps of it."""

    value: tuple[float, ...]
    earned: tuple[float, ...]


def e5_of(sums: Sums) -> float | None:
    """bps; None where there is no fill."""
    value = sum(sums.value)
    return sum(sums.earned) / value if value else None


def interval(sums: Sums) -> Interval | None:
    """95 % of e5. None: too few blocks, or too few draws with a fill."""
    return blocks.interval(_columns(sums), ratio)


def difference(one: Sums, other: Sums) -> Interval | None:
    """95 % of `one`'s e5 less `other`'s, paired.

    Raises:
        ValueError: they are not of the same blocks.
    """
    if len(one.value) != len(other.value):
        raise ValueError(f"{len(one.value)} blocks and {len(other.value)}: not of one stretch of time")
    both = np.hstack([_columns(one), _columns(other)])
    return blocks.interval(both, lambda drawn: ratio(drawn[:, :2]) - ratio(drawn[:, 2:]))


def _columns(sums: Sums) -> Floats:
    return np.stack([np.array(sums.earned, np.float64), np.array(sums.value, np.float64)], axis=1)
