"""The closed form of Gueant, Lehalle and Fernandez-Tapia ("Dealing with the inventory risk", 2013), with xi = gamma.

    c1   = 1 / (xi D) * ln(1 + xi D / k)
    c2   = sqrt( gamma / (2 A D k) * (1 + xi D / k)^(k / (xi D) + 1) )
    half = c1 + D / 2 * sigma * c2,      skew = sigma * c2 * q

gamma = xi [1/(price x base)], A [1/s], D size of an order [base], k [1/price], sigma [price / sqrt(s)], q inventory
[base]. Fills come as A * exp(-k * distance from the mid). The reservation price is the mid less the skew. (The tutorial
that most copy measures the distance from the touch in half ticks and k in ticks, and counts a rebate as edge: neither
is here.)
"""

from math import exp, inf, isfinite, log, sqrt


def coefficients(gamma: float, intensity_per_s: float, decay_per_px: float, order_base: float) -> tuple[float, float]:
    """(c1 [price], c2 [sqrt(s) / base]).

    Raises:
        ValueError: a figure is not positive and finite. A model without a fit has nothing to say.
    """
    figures = (gamma, intensity_per_s, decay_per_px, order_base)
    if not all(isfinite(x) and x > 0 for x in figures):
        raise ValueError(f"gamma, A, k and the order's size must be positive and finite, got {figures}")
    risk = gamma * order_base
    ratio = risk / decay_per_px
    c1 = log(1.0 + ratio) / risk
    # By logarithms: for a small ratio the power is (1 + x)^(1/x), for a large one it is beyond any float.
    power = (1.0 / ratio + 1.0) * log(1.0 + ratio)
    c2 = inf if power > 700 else sqrt(gamma / (2.0 * intensity_per_s * order_base * decay_per_px) * exp(power))
    return c1, c2


def half_and_skew(
    gamma: float, intensity_per_s: float, decay_per_px: float, sigma_px: float, order_base: float, held_base: float
) -> tuple[float, float]:
    """(half-spread, how far the reservation price stands below the mid), both in price.

    Raises:
        ValueError: as `coefficients`.
    """
    c1, c2 = coefficients(gamma, intensity_per_s, decay_per_px, order_base)
    return c1 + order_base / 2 * sigma_px * c2 if sigma_px else c1, sigma_px * c2 * held_base if held_base else 0.0
