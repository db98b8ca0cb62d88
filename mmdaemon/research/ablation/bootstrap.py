"""Intervals of e5 and of paired differences between rows, by block bootstrap.

Fills that are near in time share what the market did, so whole blocks of time are drawn and not single fills (Kuensch,
1989); and two rows are drawn with the same blocks, so that what the market did to both cancels out of the difference. A
row's e5 is a ratio of sums, sum of value * edge over sum of value, and is computed anew from the sums of each draw. A
block without fills is drawn like any other. The draws are seeded: equal sums, equal intervals.
"""

import msgspec
import numpy as np
import numpy.typing as npt

DRAWS = 2_000
SEED = 20_260_106
LEAST_BLOCKS = 8
"""With fewer an interval would be too narrow and look like knowledge."""


class Sums(msgspec.Struct, frozen=True):
    """By block of time, over fills with a known e5: `value` in quote currency, `earned` value * e5 in bps of it."""

    value: tuple[float, ...]
    earned: tuple[float, ...]


class Interval(msgspec.Struct, frozen=True):
    low: float
    high: float


def e5_of(sums: Sums) -> float | None:
    """bps; None where there is no fill."""
    value = sum(sums.value)
    return sum(sums.earned) / value if value else None


def interval(sums: Sums) -> Interval | None:
    """95 % of e5. None: too few blocks, or too few draws with a fill."""
    if len(sums.value) < LEAST_BLOCKS:
        return None
    return _quantiles(_drawn(sums, _times(len(sums.value))))


def difference(one: Sums, other: Sums) -> Interval | None:
    """95 % of `one`'s e5 less `other`'s, paired.

    Raises:
        ValueError: they are not of the same blocks.
    """
    if len(one.value) != len(other.value):
        raise ValueError(f"{len(one.value)} blocks and {len(other.value)}: not of one stretch of time")
    if len(one.value) < LEAST_BLOCKS:
        return None
    times = _times(len(one.value))
    return _quantiles(_drawn(one, times) - _drawn(other, times))


def _times(blocks: int) -> npt.NDArray[np.float64]:
    """(draws, blocks): how often each block is drawn."""
    return np.random.default_rng(SEED).multinomial(blocks, np.full(blocks, 1.0 / blocks), size=DRAWS).astype(np.float64)


def _drawn(sums: Sums, times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return (times @ np.array(sums.earned)) / (times @ np.array(sums.value))


def _quantiles(made: npt.NDArray[np.float64]) -> Interval | None:
    known = made[np.isfinite(made)]
    if len(known) < DRAWS * 9 // 10:
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return Interval(float(low), float(high))
