"""Half-spread and skew that the closed form of `core/glft.py` makes of the fits, in bps, and clamped as quotes are.

Sigma is that of the 1 s step, as `core/sampled.py` measures it while quoting. The order is that of the calm regime at
the equity of the configuration, at the mean mid. A closed form with a poor fit in it is refused.
"""

from math import inf

from mmdaemon.core import glft
from mmdaemon.core.params import Params
from mmdaemon.core.types import BPS, E10, Regime
from mmdaemon.research.calibration.observing import Observed
from mmdaemon.research.calibration.records import ClosedForm, Intensity, NotMade, Poor, Sigma, SigmaMissing

SIGMA_STEP_S = 1.0
_REGIME = Regime.NEUTRAL_LOW_VOL


def closed_form(
    observed: Observed,
    fit: Intensity | Poor | NotMade,
    sigmas: tuple[Sigma | SigmaMissing, ...],
    params: Params,
    equity_e10: int,
) -> ClosedForm | NotMade:
    """What the fits come to at these settings, or which of them is missing."""
    if not isinstance(fit, Intensity):
        return NotMade(f"without a usable fit of intensity there is none: {fit.why}")
    sigma = next((each for each in sigmas if each.step_s == SIGMA_STEP_S), None)
    if not isinstance(sigma, Sigma):
        why = "not asked for" if sigma is None else sigma.why
        return NotMade(f"without sigma over {SIGMA_STEP_S:g} s there is none: {why}")
    row, px_of_bp = params.regimes[_REGIME], observed.mean_mid * BPS
    order_base = min(row.order_size * equity_e10, params.quotes.max_order_e10) / E10 / observed.mean_mid
    most_base = min(params.quotes.max_position * equity_e10, params.quotes.max_position_e10) / E10 / observed.mean_mid
    gamma = params.glft.gamma
    half_bps, skew_bps = _in_bps(gamma, fit, sigma.px, order_base, order_base, px_of_bp)
    least_bps, widest_bps = fit.from_bps, row.spread_max_bps / 2
    cap_bps = params.quotes.skew_cap_bps
    half_clamped = min(max(half_bps, least_bps), widest_bps)
    skew_clamped = min(skew_bps, cap_bps)
    said: list[str] = []
    if half_bps < least_bps:
        said.append(f"half-spread to {least_bps:.3g} bps, the nearest distance that was fitted")
    if half_bps > widest_bps:
        said.append(f"half-spread to {widest_bps:g} bps, half of regimes.{_REGIME}.spread_max_bps")
    if skew_bps > cap_bps:
        said.append(f"skew to {cap_bps:g} bps, quotes.skew_cap_bps")
    return ClosedForm(
        gamma_per_quote=gamma,
        order_base=order_base,
        sigma_px=sigma.px,
        half_bps=half_bps,
        skew_bps_per_order=skew_bps,
        half_clamped_bps=half_clamped,
        skew_clamped_bps=skew_clamped,
        clamped="; ".join(said),
        matched_gamma_per_quote=_matched(fit, sigma.px, order_base, most_base, px_of_bp),
    )


def _in_bps(
    gamma: float, fit: Intensity, sigma_px: float, order_base: float, held_base: float, px_of_bp: float
) -> tuple[float, float]:
    half_px, skew_px = glft.half_and_skew(gamma, fit.a_per_s, fit.k_per_px, sigma_px, order_base, held_base)
    return half_px / px_of_bp, skew_px / px_of_bp


def _matched(fit: Intensity, sigma_px: float, order_base: float, most_base: float, px_of_bp: float) -> float | None:
    """The gamma whose skew at the largest position is its half-spread: skew over half grows with gamma, so halving the
    interval of its logarithm finds it. None where it lies outside 1e-9 .. 1e3."""

    def leans_too_much(gamma: float) -> bool:
        half, skew = _in_bps(gamma, fit, sigma_px, order_base, most_base, px_of_bp)
        return skew > half or skew == inf

    low, high = 1e-9, 1e3
    if leans_too_much(low) or not leans_too_much(high):
        return None
    for _ in range(60):
        middle = (low * high) ** 0.5
        if leans_too_much(middle):
            high = middle
        else:
            low = middle
    return low
