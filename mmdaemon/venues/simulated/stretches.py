"""What a synthetic market is doing for a while: five kinds of stretch, what each does, and their order.

A schedule is a tuple of `(kind, seconds)`. Where it ends, or where none was given, a seeded Markov chain goes on for
ever; its mixture is what `market.py` calibrates to. Quantities here are per update of 250 ms, at a volatility level
of 1.
"""

import math
from collections.abc import Iterator
from enum import StrEnum
from random import Random

import msgspec

from mmdaemon.core.types import NS


class Stretch(StrEnum):
    """Kinds of market. The value is how a schedule in a settings file names it."""

    CALM = "calm"
    UP = "up"
    DOWN = "down"
    BURSTING = "bursting"
    TOXIC = "toxic"


Schedule = tuple[tuple[Stretch, float], ...]


class Behaviour(msgspec.Struct, frozen=True):
    """One kind of stretch in numbers. Probabilities are out of 1,024; price is in thousandths of a tick."""

    move_p: int
    """That the touch moves in an update."""
    sd_millis: int
    """Standard deviation of one move."""
    drift_millis: int
    """Steady drift an update: the trend."""
    informed_millis: int
    """Size of the hidden drift that trades anticipate; its sign flips at `informed_flip_p`. 0: nobody knows."""
    informed_flip_p: int
    trade_p: int
    """That somebody trades at the touch in an update in which it does not move."""
    size_factor: int
    """Trades are this many times their usual size."""
    wide_p: int
    """That a move leaves the touch wider than one tick."""
    sweep_ppm: int
    """That somebody sweeps the book in an update: out of a million, being rare."""


BEHAVIOUR: dict[Stretch, Behaviour] = {
    Stretch.CALM: Behaviour(
        move_p=300, sd_millis=6_200, drift_millis=0, informed_millis=0, informed_flip_p=0, trade_p=300, size_factor=1,
        wide_p=40, sweep_ppm=1_900,
    ),
    Stretch.UP: Behaviour(
        move_p=420, sd_millis=5_500, drift_millis=1_300, informed_millis=0, informed_flip_p=0, trade_p=400,
        size_factor=1, wide_p=60, sweep_ppm=20_000,
    ),
    Stretch.DOWN: Behaviour(
        move_p=420, sd_millis=5_500, drift_millis=-1_300, informed_millis=0, informed_flip_p=0, trade_p=400,
        size_factor=1, wide_p=60, sweep_ppm=20_000,
    ),
    Stretch.BURSTING: Behaviour(
        move_p=800, sd_millis=32_000, drift_millis=0, informed_millis=0, informed_flip_p=0, trade_p=700,
        size_factor=4, wide_p=400, sweep_ppm=80_000,
    ),
    Stretch.TOXIC: Behaviour(
        move_p=500, sd_millis=5_500, drift_millis=0, informed_millis=3_000, informed_flip_p=36, trade_p=500,
        size_factor=1, wide_p=80, sweep_ppm=14_000,
    ),
}  # fmt: skip

MEAN_SECONDS: dict[Stretch, int] = {
    Stretch.CALM: 720,
    Stretch.UP: 200,
    Stretch.DOWN: 200,
    Stretch.BURSTING: 50,
    Stretch.TOXIC: 150,
}

# Where each kind leads, in hundredths. A trend may break into a burst; after a burst the flow is often informed.
NEXT: dict[Stretch, tuple[tuple[Stretch, int], ...]] = {
    Stretch.CALM: ((Stretch.UP, 27), (Stretch.DOWN, 27), (Stretch.TOXIC, 26), (Stretch.BURSTING, 20)),
    Stretch.UP: ((Stretch.CALM, 60), (Stretch.BURSTING, 15), (Stretch.TOXIC, 15), (Stretch.DOWN, 10)),
    Stretch.DOWN: ((Stretch.CALM, 60), (Stretch.BURSTING, 15), (Stretch.TOXIC, 15), (Stretch.UP, 10)),
    Stretch.BURSTING: ((Stretch.CALM, 40), (Stretch.TOXIC, 30), (Stretch.UP, 15), (Stretch.DOWN, 15)),
    Stretch.TOXIC: ((Stretch.CALM, 70), (Stretch.BURSTING, 10), (Stretch.UP, 10), (Stretch.DOWN, 10)),
}


def check(schedule: Schedule) -> None:
    """Raises ValueError naming the first entry that is no stretch of positive, finite length."""
    for index, (kind, seconds) in enumerate(schedule):
        if kind not in BEHAVIOUR:
            raise ValueError(f"stretch {index}: {kind!r} is none of {', '.join(BEHAVIOUR)}")
        if not 0 < seconds < math.inf:
            raise ValueError(f"stretch {index} ({kind}): must last longer than 0 s and end, got {seconds}")


def playing(schedule: Schedule, seed: int) -> Iterator[tuple[Stretch, int]]:
    """The schedule, then the mixture, without end: `(kind, duration_ns)`."""
    for kind, seconds in schedule:
        yield Stretch(kind), round(seconds * NS)
    random = Random(seed).random
    kind = Stretch.CALM
    while True:
        # Exponential, between a tenth and three times the mean; milliseconds, so that no platform's log can show.
        share = min(3.0, max(0.1, -math.log(1.0 - random())))
        yield kind, round(MEAN_SECONDS[kind] * share * 1_000) * 1_000_000
        at = int(random() * 100)
        for following, weight in NEXT[kind]:
            kind = following
            at -= weight
            if at < 0:
                break
