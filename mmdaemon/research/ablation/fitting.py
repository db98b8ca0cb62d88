"""What the rules of others need to know of a market, from the beginning of its recording: A and k of the arrivals (for
`glft` and `avellaneda_stoikov`), and the average adverse move (for `micro_price`).

A and k are those of `mmdaemon calibrate` (`research/calibration/intensity.py`). A rule is given also a fit that is too
poor to trade on, since its owners would trade on it, and the table says so. The average adverse move is what the mean
print was worth to its taker 5 s later, weighted by value: side of the taker * (F after 5 s - F before) / F before.
The engine's own rows get the weights of the signal from the same beginning; where that fit is refused, or could not be
made, they have those of their preset.
"""

import msgspec
import numpy as np

from mmdaemon.core.types import NS
from mmdaemon.research.calibration.intensity import intensity
from mmdaemon.research.calibration.observing import Observed, observe
from mmdaemon.research.calibration.records import Makers, NotMade, Poor, SignalFit
from mmdaemon.research.calibration.ridge import signal_fit
from mmdaemon.settings import Settings
from mmdaemon.tapes.playing import Tape

_HORIZON_NS = 5 * NS


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """Of one recording's beginning. None: could not be fitted, and `poor` says why."""

    until_s: float
    """How much of the recording was used."""
    mean_mid: float
    """Quote currency."""
    prints: int
    a_per_s: float | None
    k_per_px: float | None
    """1/price, in quote currency."""
    k_per_bp: float | None
    r2: float | None
    poor: str
    """Why the fit of A and k is not to be trusted; empty where it is."""
    adverse_bps: float | None
    """Average adverse move; not below 0."""
    signal: tuple[float, ...] | None = None
    """Weights of the short-horizon signal, for the engine's own rows."""
    signal_r2: float | None = None
    """Out of sample, block by block within this beginning."""
    signal_why: str = ""
    """Why there are none."""


def fit(tape: Tape, settings: Settings, until_ns: int) -> Fitted:
    """Play the tape's first `until_ns` and fit.

    Raises:
        TapeError: as `Tape.events`.
    """
    observed = observe(tape, settings.to_params(tape.instrument, "abcd", 1), until_ns)
    found = intensity(observed, Makers.BOTH, settings.glft.fit_r2_min)
    fitted, poor = (found.found, found.why) if isinstance(found, Poor) else (found, "")
    made = None if isinstance(fitted, NotMade) else fitted
    predicted = signal_fit(observed)
    return Fitted(
        until_s=until_ns / NS,
        mean_mid=observed.mean_mid,
        prints=len(observed.prints.t_ns),
        a_per_s=None if made is None else made.a_per_s,
        k_per_px=None if made is None else made.k_per_px,
        k_per_bp=None if made is None else made.k_per_bp,
        r2=None if made is None else made.r2,
        poor=fitted.why if isinstance(fitted, NotMade) else poor,
        adverse_bps=adverse_bps(observed),
        signal=predicted.weights if isinstance(predicted, SignalFit) else None,
        signal_r2=predicted.r2_out if isinstance(predicted, SignalFit) else None,
        signal_why="" if isinstance(predicted, SignalFit) else predicted.why,
    )


def adverse_bps(observed: Observed) -> float | None:
    """None where no print has a fresh book before it and one 5 s after."""
    books, prints = observed.books, observed.prints
    then_ns = prints.t_ns + _HORIZON_NS
    then = books.before(then_ns)
    known = books.fresh(then, then_ns, observed.book_age_max_ns) & (then_ns <= observed.last_ns)
    if not known.any():
        return None
    before, after = prints.fair[known], books.fair[then[known]]
    moved = -prints.maker[known] * (after - before) / before * 1e4
    value = (prints.px[known] * prints.qty[known]).astype(np.float64)
    return max(0.0, float((moved * value).sum() / value.sum()))
