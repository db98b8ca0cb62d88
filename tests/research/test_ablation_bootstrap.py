"""Intervals: paired, of ratios of sums, by blocks, and the same for the same sums."""

import numpy as np
import pytest

from mmdaemon.research.ablation.bootstrap import Sums, difference, e5_of, interval
from mmdaemon.research.calibration.blocks import LEAST_BLOCKS

BLOCKS = 96


def of(
    value: "np.ndarray[tuple[int], np.dtype[np.float64]]", edge: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> Sums:
    return Sums(tuple(value.tolist()), tuple((value * edge).tolist()))


@pytest.fixture
def market() -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """What each block did to everybody, far larger than what rows differ by."""
    return np.random.default_rng(1).normal(0.0, 2.0, BLOCKS)


def test_what_the_market_did_to_both_cancels_out(market: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    value = np.full(BLOCKS, 1_000.0)
    one, other = of(value, market + 0.1), of(2 * value, market)
    found, alone = difference(one, other), interval(one)
    assert found is not None
    assert alone is not None
    assert (found.low, found.high) == pytest.approx((0.1, 0.1))
    assert alone.high - alone.low > 0.5


def test_a_row_is_no_better_than_itself(market: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    one = of(np.full(BLOCKS, 5.0), market)
    found = difference(one, one)
    assert found is not None
    assert (found.low, found.high) == (0.0, 0.0)


def test_the_mean_is_of_sums_and_not_of_blocks() -> None:
    """A block of 1 that earned 100 bps beside one of 99 that earned none is 1 bp and not 50."""
    assert e5_of(Sums((1.0, 99.0), (100.0, 0.0))) == pytest.approx(1.0)
    assert e5_of(Sums((0.0,), (0.0,))) is None


def test_draws_are_of_sums_too() -> None:
    """Small blocks earn 10 bps and large ones nothing: by value that is 1 bp, by blocks it would be 5."""
    rich = np.arange(BLOCKS) % 2 == 0
    value = np.where(rich, 100.0, 900.0)
    found = interval(of(value, np.where(rich, 10.0, 0.0)))
    assert found is not None
    assert 0.5 < found.low < 1.0 < found.high < 2.0


def test_the_width_is_that_of_the_means_error() -> None:
    """Of blocks alike in value the interval is the mean's 95 %, within a tenth."""
    edge = np.random.default_rng(2).normal(0.3, 1.0, 400)
    found = interval(of(np.full(400, 10.0), edge))
    assert found is not None
    error = float(edge.std()) / 20
    assert (found.low + found.high) / 2 == pytest.approx(float(edge.mean()), abs=0.2 * error)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_same_sums_have_the_same_interval(market: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    one = of(np.full(BLOCKS, 5.0), market)
    assert interval(one) == interval(of(np.full(BLOCKS, 5.0), market.copy()))


def test_few_blocks_or_few_fills_have_none() -> None:
    few = Sums((1.0,) * (LEAST_BLOCKS - 1), (1.0,) * (LEAST_BLOCKS - 1))
    assert interval(few) is None
    assert difference(few, few) is None
    bare = Sums((1.0, *(0.0,) * 20), (1.0, *(0.0,) * 20))
    assert interval(bare) is None


def test_rows_of_different_stretches_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not of one stretch"):
        difference(Sums((1.0,) * 10, (1.0,) * 10), Sums((1.0,) * 11, (1.0,) * 11))
