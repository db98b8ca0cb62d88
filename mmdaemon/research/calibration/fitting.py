"""`calibrate`: a tape is played once, everything is fitted on what was seen, and what could not be fitted says why."""

import msgspec
import numpy as np

from mmdaemon import __version__
from mmdaemon.core.types import NS
from mmdaemon.research.calibration.closed_form import closed_form
from mmdaemon.research.calibration.distances import reach, window_reach
from mmdaemon.research.calibration.intensity import intensity
from mmdaemon.research.calibration.markouts import beyond, markouts
from mmdaemon.research.calibration.observing import Floats, Observed, Progress, observe
from mmdaemon.research.calibration.preset import fragment
from mmdaemon.research.calibration.records import SCHEMA, Calibration, Makers, SignalFit, Source
from mmdaemon.research.calibration.ridge import HORIZON_S, signal_fit, signal_fits
from mmdaemon.research.calibration.volatility import volatility
from mmdaemon.settings import Settings
from mmdaemon.settings.trading import to_e10
from mmdaemon.tapes.playing import Tape
from mmdaemon.tapes.rows import TapeError


def calibrate(
    tape: Tape,
    settings: Settings,
    *,
    until_ns: int | None = None,
    horizon_s: float = HORIZON_S,
    progress: Progress | None = None,
) -> Calibration:
    """Fit all there is to fit on a tape, or on what arrived within `until_ns` of its first event.

    Raises:
        TapeError: as `Tape.events`; or the core refused every book in it.
    """
    params = settings.to_params(tape.instrument, bot_tag="cal0", run_epoch=0)
    observed = observe(tape, params, until_ns, progress)
    if not len(observed.books.t_ns):
        said = ", ".join(f"{count:,} {reason}" for reason, count in observed.refused.items()) or "there was none"
        raise TapeError(f"{tape.instrument.symbol}: not one healthy book ({said}); see what `mmdaemon tape info` says")
    sigma = volatility(observed)
    fits = {makers.value: intensity(observed, makers, settings.glft.fit_r2_min) for makers in Makers}
    equity_e10 = to_e10(settings.simulated.equity_quote)
    windows, windows_missing = window_reach(observed)
    valued, valued_missing = markouts(observed)
    predicted = signal_fit(observed, horizon_s)
    worth = beyond(observed)
    if isinstance(predicted, SignalFit):
        worth += beyond(observed, signal_at_prints(observed, predicted, settings.signal.cap_bps))
    made = Calibration(
        schema=SCHEMA,
        source=_source(tape, observed, settings, until_ns),
        sigma=sigma,
        intensity=fits,
        closed_form=closed_form(observed, fits[Makers.BOTH], sigma, params, equity_e10),
        reach={makers.value: reach(observed, makers) for makers in Makers},
        windows=windows,
        windows_missing=windows_missing,
        markouts=valued,
        markouts_missing=valued_missing,
        beyond=worth,
        signal=predicted,
        signals=signal_fits(observed, horizon_s),
        preset="",
    )
    return msgspec.structs.replace(made, preset=fragment(made))


def until_of(tape: Tape, hours: float | None, fraction: float | None) -> int | None:
    """How much of a tape that is, in ns; None is all of it. A fraction of a tape that does not say how long it is plays
    it once."""
    if hours is not None:
        return round(hours * 3_600 * NS)
    if fraction is None or fraction == 1.0:
        return None
    if tape.span_ns is None:
        for _ in tape.events():
            pass
    assert tape.span_ns is not None
    return round(tape.span_ns * fraction)


def signal_at_prints(observed: Observed, fit: SignalFit, cap_bps: float) -> Floats:
    """What the signal said before each print, with the weights that were fitted without the print's block of time;
    clipped as the core does, and unclipped where the settings have no cap."""
    prints = observed.prints
    begins_ns = np.array([block.from_s for block in fit.blocks[1:]]) * NS
    weights = np.array([block.weights for block in fit.blocks])
    said = (prints.features * weights[np.searchsorted(begins_ns, prints.t_ns, side="right")]).sum(axis=1)
    return np.clip(said, -cap_bps, cap_bps) if cap_bps else said


def _source(tape: Tape, observed: Observed, settings: Settings, until_ns: int | None) -> Source:
    books, instrument = observed.books, observed.instrument
    spread_bps = books.spread / books.mid_x2 * 2e4
    in_all = max(1, sum(observed.regime_s.values()))
    return Source(
        venue=instrument.venue,
        symbol=instrument.symbol,
        quote=instrument.quote,
        facts=tape.provenance,
        used="all of it" if until_ns is None else f"the first {until_ns / NS / 3_600:.4g} h of it",
        seconds=(observed.last_ns - observed.first_ns) / NS,
        observed_s=observed.observed_s,
        gaps=len(observed.gaps),
        books=len(books.t_ns),
        refused_books=observed.refused,
        prints=len(observed.prints.t_ns),
        unsided=observed.unsided,
        stale=observed.stale,
        mean_mid=observed.mean_mid,
        spread_bps=(
            float(np.quantile(spread_bps, 0.1)),
            float(np.quantile(spread_bps, 0.5)),
            float(np.quantile(spread_bps, 0.9)),
        ),
        regimes={regime: seconds / in_all for regime, seconds in observed.regime_s.items()},
        config_hash=settings.config_hash,
        version=__version__,
    )
