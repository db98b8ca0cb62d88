"""Tables of the synthetic market: what rests at each price, how large orders are, how late the feed is.

Everything is an integer drawn once from a seed, so that an update costs look-ups and no arithmetic. What rests at a
price depends on the price alone (its residue) and on a slowly turning `variant`, so a level keeps its size while the
touch moves around it, and one turn changes about one level in seven.
"""

import math
from random import Random
from statistics import NormalDist

DRAWS = 4096
"""Entries of a table of draws: twelve bits of a random number choose one."""
RESIDUES = 256
VARIANTS = 16
REDRAWN = 0.14
"""Share of levels that change between two variants."""
OCCUPIED = 0.6
"""Share of prices behind the touch at which something rests."""

Rungs = tuple[tuple[int, int], ...]
"""Levels behind the touch: `(ticks away, lots)`, nearest first."""

NORMAL: tuple[int, ...] = tuple(round(NormalDist().inv_cdf((i + 0.5) / DRAWS) * 1_000) for i in range(DRAWS))
"""Standard normal by quantile, in thousandths."""
EXPONENTIAL: tuple[int, ...] = tuple(round(-math.log(1 - (i + 0.5) / DRAWS) * 1_000_000) for i in range(DRAWS))
"""Exponential of mean 1 by quantile, in millionths."""


def lognormal(median: float, sigma: float, least: int, most: int) -> tuple[int, ...]:
    """Quantiles of a lognormal, whole numbers within `[least, most]`."""
    return tuple(min(most, max(least, round(median * math.exp(sigma * z / 1_000)))) for z in NORMAL)


def ladders(seed: int, levels: int) -> tuple[tuple[list[Rungs], list[Rungs]], ...]:
    """By variant: what is behind a best bid, and behind a best ask, by residue of its price modulo `RESIDUES`."""
    random = Random(seed).random
    sizes = lognormal(median=3_000, sigma=1.3, least=1, most=200_000)
    occupied = [random() < OCCUPIED for _ in range(RESIDUES)]
    resting = [sizes[int(random() * DRAWS)] for _ in range(RESIDUES)]
    found: list[tuple[list[Rungs], list[Rungs]]] = []
    for _ in range(VARIANTS):
        bids = [_behind(touch, -1, occupied, resting, levels - 1) for touch in range(RESIDUES)]
        asks = [_behind(touch, +1, occupied, resting, levels - 1) for touch in range(RESIDUES)]
        found.append((bids, asks))
        resting = [sizes[int(random() * DRAWS)] if random() < REDRAWN else size for size in resting]
    return tuple(found)


def _behind(touch: int, step: int, occupied: list[bool], resting: list[int], count: int) -> Rungs:
    rungs: list[tuple[int, int]] = []
    away = 0
    while len(rungs) < count:
        away += 1
        residue = (touch + step * away) % RESIDUES
        if occupied[residue]:
            rungs.append((away, resting[residue]))
    return tuple(rungs)
