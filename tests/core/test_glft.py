"""The closed form against figures computed by hand, its limits, and what it refuses."""

from decimal import Decimal
from math import exp, inf, log, nan, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import glft
from tests.core.build import modest


def test_by_hand() -> None:
    """gamma 0.05, A 0.9/s, k 0.3, D 1, sigma 2: with 50 digits."""
    gamma, a, k, size, sigma = map(Decimal, ("0.05", "0.9", "0.3", "1", "2"))
    ratio = gamma * size / k
    c1 = (1 + ratio).ln() / (gamma * size)
    c2 = (gamma / (2 * a * size * k) * ((1 / ratio + 1) * (1 + ratio).ln()).exp()).sqrt()
    half, skew = glft.half_and_skew(0.05, 0.9, 0.3, 2.0, 1.0, -3.0)
    assert half == pytest.approx(float(c1 + size / 2 * sigma * c2), rel=1e-12)
    assert skew == pytest.approx(float(sigma * c2 * -3), rel=1e-12)


def test_without_risk_aversion_only_the_intensity_counts() -> None:
    """gamma -> 0: c1 -> 1/k, c2 -> sqrt(gamma e / (2 A D k))."""
    c1, c2 = glft.coefficients(1e-9, 0.9, 0.3, 1.0)
    assert c1 == pytest.approx(1 / 0.3, rel=1e-6)
    assert c2 == pytest.approx(sqrt(1e-9 * exp(1) / (2 * 0.9 * 0.3)), rel=1e-6)


positive = st.floats(1e-6, 1e6)


@given(positive, positive, positive, positive, positive, st.floats(-1e4, 1e4))
@modest(200)
def test_nothing_depends_on_the_units(gamma: float, a: float, k: float, size: float, sigma: float, held: float) -> None:
    """Prices in ticks of 0.1 and sizes in lots of 0.001: the same market, so the same quote."""
    half, skew = glft.half_and_skew(gamma, a, k, sigma, size, held)
    ticks, lots = glft.half_and_skew(gamma * 1e-4, a, k / 10, sigma * 10, size * 1000, held * 1000)
    assert ticks == pytest.approx(half * 10, rel=1e-6)
    assert lots == pytest.approx(skew * 10, rel=1e-6)
    assert half > 0
    assert skew * held >= 0


def test_a_quiet_market_and_an_empty_book_make_no_nan() -> None:
    assert glft.half_and_skew(1e6, 1.0, 1e-6, 0.0, 1e6, 0.0) == (pytest.approx(log(1 + 1e18) / 1e12), 0.0)
    half, skew = glft.half_and_skew(1e-6, 1.0, 1e6, 1.0, 1e-6, 1.0)
    assert 0 < half < inf
    assert skew > 0


@pytest.mark.parametrize("bad", [0.0, -1.0, nan, inf])
@pytest.mark.parametrize("place", range(4))
def test_no_fit_no_quote(place: int, bad: float) -> None:
    figures = [0.01, 0.9, 0.3, 1.0]
    figures[place] = bad
    with pytest.raises(ValueError, match="must be positive and finite"):
        glft.coefficients(*figures)
