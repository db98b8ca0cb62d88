"""A mean over the latest fills that forgets with a time constant, and fades to nothing where no fill comes.

After a fill of value x, a time dt after the one before it:

    f = exp(-dt / tau),   w = 1 - exp(-min(dt, tau / 4) / tau),   mean' = min(f, 1 - w) * mean + w * x

A fill stands for the time before it, a quarter of tau at most; what the cap leaves over goes to 0, as the whole mean
does in the meantime (`value_at`). So nothing that was forgotten comes back with the next fill, and a fill of 0 never
moves the mean away from 0. `count` is how many fills are remembered: n' = f * n + 1. An `averaged` mean gives no fill
less than an equal share of those remembered, w = max(w, 1 / n'), so that it is a plain average while it begins, and
fills in one moment all count.
"""

from math import exp

import msgspec


class FadingMean(msgspec.Struct):
    """As it was at `at_ns` (monotonic), the moment of the last fill; 0 = there was none."""

    mean: float = 0.0
    count: float = 0.0
    at_ns: int = 0


def learn(fading: FadingMean, x: float, at_ns: int, tau_ns: int, *, averaged: bool) -> None:
    """Take in one fill. One that is told late counts as of the last one's moment."""
    passed_ns = max(0, at_ns - fading.at_ns)
    kept = exp(-passed_ns / tau_ns) if fading.at_ns else 0.0
    weight = 1.0 - exp(-min(passed_ns, tau_ns / 4) / tau_ns) if fading.at_ns else 1.0 - exp(-0.25)
    fading.count = fading.count * kept + 1.0
    if averaged:
        weight = max(weight, 1.0 / fading.count)
    fading.mean = min(kept, 1.0 - weight) * fading.mean + weight * x
    fading.at_ns = max(at_ns, fading.at_ns)


def value_at(fading: FadingMean, now_ns: int, tau_ns: int) -> float:
    """The mean, faded for the time without a fill."""
    return fading.mean * exp(-max(0, now_ns - fading.at_ns) / tau_ns)


def rebase(fading: FadingMean, by_ns: int, now_ns: int) -> None:
    """Onto the monotonic clock of another process. Nothing was learned after `now_ns`."""
    if fading.at_ns:
        fading.at_ns = min(fading.at_ns + by_ns, now_ns)
