"""Weights of the short-horizon signal: ridge regression with blocked cross-validation.

    y(t) = mid(t + h) / F(t) - 1,    fitted(t) = sum of weight * feature(t)                                     [bps]

h is a setting, 5 s. Features are those of `core/signal.py`, read from its own slice at moments at which something had
arrived; no constant, because the core adds none. The mid is measured from F because the signal is added to F. Each
feature is scaled by its root mean square, so one penalty is alike to all; weights are told in the feature's own unit.

Samples near each other say the same, so blocks of time are left out and not samples; what lies within h of a block's
ends teaches nothing. The penalty for a block is chosen by the others alone (nested), so nothing that was chosen has
seen what `r2_out` is of.
"""

import msgspec
import numpy as np

from mmdaemon.core import signal
from mmdaemon.core.types import NS
from mmdaemon.research.calibration.observing import Floats, Observed
from mmdaemon.research.calibration.records import Block, NotMade, SignalFit, SignalPoor, Tried

HORIZON_S = 15.0
"""Longer than the 5 s after which a fill is judged: a quote rests a while before it is filled (docs/STRATEGY.md)."""
OTHERS_S = (1.0, 5.0, 15.0, 30.0)
"""Horizons that are told of beside the one that is asked for."""
FOLDS = 6
LEAST_SAMPLES = 600
PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Times the number of samples; a feature scaled to 1 is halved by 1."""
LEAST_R2 = 0.001
LEAST_FOLDS_POSITIVE = 4
"""Blocks that the others must predict better than nothing does."""


def signal_fit(observed: Observed, horizon_s: float = HORIZON_S) -> SignalFit | SignalPoor | NotMade:
    """The weights, or why there are none."""
    if not signal.FEATURES:
        return NotMade("core/signal.py has no features")
    books, samples = observed.books, observed.samples
    then_ns = samples.t_ns + round(horizon_s * NS)
    at = books.before(then_ns)
    known = books.fresh(at, then_ns, observed.book_age_max_ns) & (then_ns <= observed.last_ns)
    known &= np.isfinite(samples.features).all(axis=1)
    count = int(known.sum())
    if count < LEAST_SAMPLES:
        return NotMade(
            f"{count:,} samples with a fresh book then and {horizon_s:g} s later; {LEAST_SAMPLES} are needed"
        )
    y = (books.mid_x2[at[known]] / (2.0 * samples.fair[known]) - 1.0) * 1e4
    return fitted(samples.t_ns[known] / NS, samples.features[known], y, horizon_s, signal.FEATURES)


def signal_fits(observed: Observed, horizon_s: float = HORIZON_S) -> tuple[SignalFit | SignalPoor, ...]:
    """By that horizon and the usual ones, those that could be made."""
    made = (signal_fit(observed, each) for each in sorted({horizon_s, *OTHERS_S}))
    return tuple(each for each in made if not isinstance(each, NotMade))


class _Moments(msgspec.Struct, frozen=True):
    """All that a ridge needs to know of some samples: sums of products of features and of what they predict."""

    xx: Floats
    xy: Floats
    yy: float
    count: int

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "_Moments":
        return cls(x.T @ x, x.T @ y, float(y @ y), len(y))

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy, self.count + other.count)

    def weights(self, penalty: float) -> Floats:
        scaled = self.xx + penalty * self.count * np.eye(len(self.xy))
        return np.asarray(np.linalg.solve(scaled, self.xy), dtype=np.float64)

    def error(self, weights: Floats) -> float:
        """Sum of squares that these weights leave."""
        return float(self.yy - 2.0 * weights @ self.xy + weights @ self.xx @ weights)

    def r2(self, weights: Floats) -> float:
        return 1.0 - self.error(weights) / self.yy if self.yy else 0.0


def fitted(
    t_s: Floats, x: Floats, y: Floats, horizon_s: float, names: tuple[str, ...]
) -> SignalFit | SignalPoor | NotMade:
    """The same of any samples: times in order [s], (samples, features), and what is to be predicted [bps]."""
    spreads = np.sqrt((x * x).mean(axis=0))
    if not (y * y).sum() > 0.0:
        return NotMade("the mid never moved: there is nothing to predict")
    used = spreads > 0.0
    if not used.any():
        return NotMade("every feature is always 0: there is nothing to predict with")
    scaled = x[:, used] / spreads[used]

    whole: list[_Moments] = []
    learnt: list[_Moments] = []
    parts = np.array_split(np.arange(len(y)), FOLDS)
    for part in parts:
        whole.append(_Moments.of(scaled[part], y[part]))
        apart = part[(t_s[part] >= t_s[part[0]] + horizon_s) & (t_s[part] <= t_s[part[-1]] - horizon_s)]
        learnt.append(_Moments.of(scaled[apart], y[apart]))
    least = min(each.count for each in learnt)
    if least < LEAST_SAMPLES // FOLDS // 2:
        return NotMade(f"a sixth of the recording has {least} samples that do not overlap the next: record longer")

    def in_its_unit(weights: Floats) -> tuple[float, ...]:
        told = np.zeros(len(names))
        told[used] = weights / spreads[used]
        return tuple(float(weight) for weight in told)

    blocks: list[Block] = []
    left = 0.0
    for fold, part in enumerate(parts):
        others = [other for other in range(FOLDS) if other != fold]
        best, _ = _chosen(whole, learnt, others)
        guess = _sum([learnt[other] for other in others]).weights(best)
        left += whole[fold].error(guess)
        blocks.append(Block(float(t_s[part[0]]), in_its_unit(guess), best, whole[fold].r2(guess)))
    penalty, tried = _chosen(whole, learnt, list(range(FOLDS)))
    everything = _sum(whole)
    weights = everything.weights(penalty)
    r2_out = 1.0 - left / everything.yy
    found = SignalFit(
        horizon_s=horizon_s,
        features=names,
        weights=in_its_unit(weights),
        spreads=tuple(float(spread) for spread in spreads),
        penalty=penalty,
        samples=len(y),
        r2_in=everything.r2(weights),
        r2_out=r2_out,
        blocks=tuple(blocks),
        tried=tuple(tried),
    )
    positive = sum(block.r2 > 0 for block in blocks)
    if r2_out < LEAST_R2:
        return SignalPoor(found, f"out of sample it explains {r2_out:.2%}, and {LEAST_R2:.1%} is needed")
    if positive < LEAST_FOLDS_POSITIVE:
        return SignalPoor(found, f"it helps in {positive} of {FOLDS} blocks, and {LEAST_FOLDS_POSITIVE} are needed")
    return found


def _chosen(whole: list[_Moments], learnt: list[_Moments], folds: list[int]) -> tuple[float, list[Tried]]:
    """The penalty with the least error over these folds, each predicted by the others of them; and what each came
    to."""
    total = sum(whole[fold].yy for fold in folds)
    tried: list[Tried] = []
    for penalty in PENALTIES:
        left = 0.0
        for fold in folds:
            rest = _sum([learnt[other] for other in folds if other != fold])
            left += whole[fold].error(rest.weights(penalty))
        tried.append(Tried(penalty, 1.0 - left / total if total else 0.0))
    return max(tried, key=lambda each: each.r2).penalty, tried


def _sum(parts: list[_Moments]) -> _Moments:
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total
