"""Volatility, intensity and the closed form: what was put into a tape comes out again, in its units, or is refused."""

from collections.abc import Sequence
from math import sqrt

import numpy as np
import pytest

from mmdaemon.core import glft
from mmdaemon.core.types import Side
from mmdaemon.research.calibration.closed_form import closed_form
from mmdaemon.research.calibration.fitting import calibrate, until_of
from mmdaemon.research.calibration.intensity import intensity
from mmdaemon.research.calibration.observing import Observed, observe
from mmdaemon.research.calibration.records import (
    ClosedForm,
    Intensity,
    Makers,
    NotMade,
    Poor,
    Sigma,
    SigmaMissing,
)
from mmdaemon.research.calibration.volatility import volatility
from mmdaemon.tapes.records import Record
from mmdaemon.tapes.rows import TapeError
from tests.research.calibration_tapes import PX, book, drawn, settings, tape, trade

R2 = 0.8


def seen(records: Sequence[Record], tick: float = 0.1, until_ns: int | None = None) -> Observed:
    played = tape(records, tick)
    return observe(played, settings().to_params(played.instrument, "cal0", 0), until_ns)


def fit(records: list[Record], makers: Makers = Makers.BOTH, tick: float = 0.1) -> Intensity:
    found = intensity(seen(records, tick), makers, R2)
    assert isinstance(found, Intensity), found
    return found


# --- sigma ------------------------------------------------------------------------------------------------------------


def test_sigma_of_a_random_walk_is_found_at_every_step() -> None:
    made = volatility(seen(drawn(seconds=3_600, sigma_bps=1.5, a_per_s=0.1)))
    assert [each.step_s for each in made] == [1.0, 5.0, 30.0, 60.0]
    for each in made:
        assert isinstance(each, Sigma)
        assert each.interval_bps is not None
        assert each.interval_bps.low < 1.5 < each.interval_bps.high
        assert each.px == pytest.approx(each.bps * 1e-4 * PX, rel=0.02)
    first = made[0]
    assert isinstance(first, Sigma)
    assert first.bps == pytest.approx(1.5, rel=0.05)
    assert first.changes == 3_599


def test_sigma_of_bouncing_quotes_falls_with_the_step() -> None:
    """The mid goes up and down by one tick each second: variance does not grow with time."""
    made = volatility(seen([book(second * 1_000 + 1, 600_000 + second % 2) for second in range(600)]))
    sigmas = {each.step_s: each for each in made if isinstance(each, Sigma)}
    assert sigmas[1.0].bps == pytest.approx(0.1 / PX * 1e4, rel=1e-3)
    assert sigmas[5.0].bps == pytest.approx(sigmas[1.0].bps / sqrt(5), rel=1e-3)


def test_a_short_or_a_still_tape_has_no_sigma() -> None:
    made = volatility(seen(drawn(seconds=100, sigma_bps=1.0)))
    assert isinstance(made[0], Sigma)
    for each in made[1:]:
        assert isinstance(each, SigmaMissing)
        assert "30 are needed" in each.why
    still = volatility(seen(drawn(seconds=600)))[0]
    assert isinstance(still, SigmaMissing)
    assert "never moved" in still.why


def test_ends_of_a_step_need_a_fresh_book() -> None:
    """Eight seconds with books, eight without: in ten of sixteen seconds the last book is at most 2 s old."""
    blinks = [book(1_000 * second + 1, 600_000 + second % 7) for second in range(2_000) if second // 8 % 2]
    for each in volatility(seen(blinks), (1.0, 5.0, 8.0)):
        assert isinstance(each, Sigma)
        begins = range(1_991 - int(each.step_s) + 1)
        assert each.changes == sum(at % 16 < 10 and (at + each.step_s) % 16 < 10 for at in begins)


# --- intensity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_and_k_are_found_within_their_intervals(seed: int) -> None:
    found = fit(drawn(seconds=3_600, a_per_s=1.0, k_per_bp=1.2, seed=seed))
    assert found.a_per_s == pytest.approx(1.0, rel=0.12)
    assert found.k_per_bp == pytest.approx(1.2, rel=0.08)
    assert found.k_per_px == pytest.approx(found.k_per_bp / (PX * 1e-4), rel=1e-3)
    assert found.r2 > 0.99
    assert found.a_interval is not None
    assert found.k_per_bp_interval is not None
    assert found.a_interval.low < 1.0 < found.a_interval.high
    assert found.k_per_bp_interval.low < 1.2 < found.k_per_bp_interval.high
    assert found.furthest_off < 1.6


@pytest.mark.parametrize("tick", [0.1, 6.0, 12.0])
def test_the_tick_does_not_show_in_a_and_k(tick: float) -> None:
    """A tick of 12 is 2 bps: the mid lies half a tick from the first price, and taken for a whole one k would be twice
    as large, or half."""
    found = fit(drawn(seconds=7_200, tick=tick, a_per_s=1.0, k_per_bp=0.4), tick=tick)
    assert found.a_per_s == pytest.approx(1.0, rel=0.15)
    assert found.k_per_bp == pytest.approx(0.4, rel=0.08)


def test_each_side_has_its_own() -> None:
    """Bids are filled by sellers."""
    records = [each for each in drawn(seconds=1_800) if getattr(each, "aggressor", Side.SELL) is Side.SELL]
    assert fit(records, Makers.BIDS).prints > 1_000
    none = intensity(seen(records), Makers.ASKS, R2)
    assert isinstance(none, NotMade)
    assert none.why.startswith("0 prints with a known taker")
    one, two, both = (fit(drawn(seconds=1_800), makers) for makers in (Makers.BIDS, Makers.ASKS, Makers.BOTH))
    assert one.prints + two.prints == both.prints
    assert both.a_per_s == pytest.approx((one.a_per_s + two.a_per_s) / 2, rel=0.05)  # of one order, not of two


def test_further_prints_of_a_sweep_are_no_arrivals() -> None:
    once = drawn(seconds=1_800)
    thrice = [each for record in once for each in ([record] * 3 if hasattr(record, "aggressor") else [record])]
    assert fit(thrice).a_per_s == fit(once).a_per_s
    assert fit(thrice).prints == 3 * fit(once).prints


def test_poor_fits_are_refused_by_name() -> None:
    far = intensity(seen(drawn(least_bps=2.0, k_per_bp=5.0, a_per_s=0.5)), Makers.BOTH, R2)
    assert isinstance(far, Poor)
    assert far.found.r2 < R2
    assert "is needed: arrivals do not fall exponentially" in far.why
    few = intensity(seen(drawn(seconds=60, a_per_s=0.2)), Makers.BOTH, R2)
    assert isinstance(few, NotMade)
    assert "200 are needed" in few.why
    near = [book(ms, 600_000) for ms in range(0, 400_000, 250)]
    near += [trade(ms + 1, 600_000, Side.SELL) for ms in range(0, 400_000, 500)]
    near.sort(key=lambda each: each.venue_ts_ns)
    at_touch = intensity(seen(near), Makers.BOTH, R2)
    assert isinstance(at_touch, NotMade)
    assert "prints reach 0 distances" in at_touch.why


def test_time_without_books_is_not_waited_in() -> None:
    """Nobody knows what was printed in a gap: half of the tape away is half of the arrivals and half of the time."""
    whole = drawn(seconds=3_600, a_per_s=1.0)
    start = whole[0].venue_ts_ns
    halves = [each for each in whole if (each.venue_ts_ns - start) // 20_000_000_000 % 2]
    found = fit(halves)
    assert found.a_per_s == pytest.approx(fit(whole).a_per_s, rel=0.15)
    assert found.points[0].waited_s == pytest.approx(fit(whole).points[0].waited_s / 2, rel=0.1)


# --- the closed form --------------------------------------------------------------------------------------------------


def test_the_closed_form_is_the_cores_at_the_fitted_figures() -> None:
    made = calibrate(tape(drawn(sigma_bps=1.0)), settings(glft__gamma=0.01))
    form, found, sigma = made.closed_form, made.intensity["both"], made.sigma[0]
    assert isinstance(form, ClosedForm)
    assert isinstance(found, Intensity)
    assert isinstance(sigma, Sigma)
    size = form.order_base
    chosen = settings()
    value = chosen.simulated.equity_quote * chosen.regimes.neutral_low_vol.order_size_fraction
    assert size * made.source.mean_mid == pytest.approx(min(value, chosen.limits.max_order_quote))
    half, skew = glft.half_and_skew(0.01, found.a_per_s, found.k_per_px, sigma.px, size, size)
    px_of_bp = made.source.mean_mid * 1e-4
    assert form.half_bps == pytest.approx(half / px_of_bp)
    assert form.skew_bps_per_order == pytest.approx(skew / px_of_bp)
    assert form.gamma_per_quote == 0.01
    assert not form.clamped
    assert (form.half_clamped_bps, form.skew_clamped_bps) == (form.half_bps, form.skew_bps_per_order)


def test_at_the_matched_gamma_the_largest_position_leans_by_one_half_spread() -> None:
    chosen = settings()
    made = calibrate(tape(drawn(sigma_bps=1.0)), chosen)
    form, found = made.closed_form, made.intensity["both"]
    assert isinstance(form, ClosedForm)
    assert isinstance(found, Intensity)
    assert form.matched_gamma_per_quote is not None
    value = min(chosen.simulated.equity_quote * chosen.quotes.max_position_fraction, chosen.quotes.max_position_quote)
    most = value / made.source.mean_mid
    half, skew = glft.half_and_skew(
        form.matched_gamma_per_quote, found.a_per_s, found.k_per_px, form.sigma_px, form.order_base, most
    )
    assert skew == pytest.approx(half)


def test_the_closed_form_is_clamped_and_says_so() -> None:
    row = {"regimes__neutral_low_vol__spread_min_bps": 1.0, "regimes__neutral_low_vol__spread_max_bps": 5.0}
    made = calibrate(tape(drawn(sigma_bps=1.0)), settings(glft__gamma=1_000.0, quotes__skew_cap_bps=3.0, **row))
    form = made.closed_form
    assert isinstance(form, ClosedForm)
    assert (form.half_clamped_bps, form.skew_clamped_bps) == (2.5, 3.0)
    assert form.half_bps > 2.5
    assert form.skew_bps_per_order > 3.0
    assert form.clamped == (
        "half-spread to 2.5 bps, half of regimes.neutral_low_vol.spread_max_bps; skew to 3 bps, quotes.skew_cap_bps"
    )


def test_no_closed_form_rests_on_a_fit_that_is_none() -> None:
    observed, params = seen(drawn()), settings().to_params(tape(drawn()).instrument, "cal0", 0)
    sigma = Sigma(1.0, 1.0, 6.0, 100, None)
    good = intensity(observed, Makers.BOTH, R2)
    assert isinstance(good, Intensity)
    poor = closed_form(observed, Poor(good, "R2 is 0.1"), (sigma,), params, 10**15)
    assert isinstance(poor, NotMade)
    assert "R2 is 0.1" in poor.why
    still = closed_form(observed, good, (SigmaMissing(1.0, "too short"),), params, 10**15)
    assert isinstance(still, NotMade)
    assert "too short" in still.why


# --- the whole --------------------------------------------------------------------------------------------------------


def test_the_same_tape_says_the_same() -> None:
    records = drawn(seconds=900, sigma_bps=1.0)
    assert calibrate(tape(records), settings()) == calibrate(tape(records), settings())


def test_what_came_later_changes_nothing_of_what_was_seen_before() -> None:
    records = drawn(seconds=120, sigma_bps=1.0)
    whole, cut = seen(records), seen(records[: len(records) // 2])
    books, prints, samples = len(cut.books.t_ns), len(cut.prints.t_ns), len(cut.samples.t_ns)
    assert books > 100 < prints
    assert samples > 100
    for name in ("t_ns", "mid_x2", "spread", "fair"):
        np.testing.assert_array_equal(getattr(whole.books, name)[:books], getattr(cut.books, name))
    for name in ("t_ns", "px", "maker", "regime", "fair", "features", "reach_x2", "effective_bps"):
        np.testing.assert_array_equal(getattr(whole.prints, name)[:prints], getattr(cut.prints, name))
    np.testing.assert_array_equal(whole.samples.features[:samples], cut.samples.features)


def test_books_and_prints_count_when_they_arrive() -> None:
    """A print of 1,010 ms that comes at 1,360 ms is held against the book of 1,000 ms that came at 1,300 ms; one second
    after it is 2,360 ms, when the book of 2,000 ms had not come."""
    records = [
        book(0, 600_000, late_ms=1),
        book(1_000, 600_100, late_ms=300),
        trade(1_010, 600_101, Side.BUY, late_ms=350),
        book(2_000, 600_000, late_ms=500),
        trade(2_100, 600_101, Side.BUY, late_ms=500),
    ]
    observed = seen(records)
    assert (observed.books.t_ns // 1_000_000).tolist() == [1_000, 2_299, 3_499]
    assert (observed.prints.t_ns // 1_000_000).tolist() == [2_359, 3_599]
    assert observed.prints.mid_x2.tolist() == [2 * 600_100 + 1, 2 * 600_000 + 1]
    assert observed.prints.reach_x2.tolist() == [1, 201]


def test_only_so_much_is_used() -> None:
    records = drawn(seconds=600, sigma_bps=1.0)
    played = tape(records)
    assert until_of(played, 0.05, None) == 180 * 10**9
    assert until_of(played, None, 1.0) is None
    half_ns = until_of(played, None, 0.5)
    assert half_ns == pytest.approx(300e9, rel=0.01)
    made = calibrate(played, settings(), until_ns=half_ns)
    assert made.source.seconds == pytest.approx(300, abs=1)
    assert made.source.used.startswith("the first 0.083")
    assert made.source.prints == len(seen(records, until_ns=half_ns).prints.t_ns)


def test_what_is_in_no_figure_is_counted() -> None:
    records: list[Record] = [
        book(0, 600_000),
        trade(100, 600_001, None, lots=2),
        trade(200, 600_000, Side.SELL),
        trade(2_150, 600_001, Side.BUY),
        book(9_000, 600_000),
    ]
    records[1] = trade(100, 600_000, None)  # the quote rule says a seller
    observed = seen(records)
    assert (observed.unsided, observed.stale, len(observed.prints.t_ns)) == (0, 1, 2)
    assert observed.gaps == ((1_000_000_000, 10_000_000_000),)
    locked: list[Record] = [book(0, 600_000, spread=0), trade(100, 600_000, None)]
    assert seen(locked).unsided == 1


def test_a_tape_without_one_healthy_book_is_refused() -> None:
    with pytest.raises(TapeError, match="not one healthy book"):
        calibrate(tape([book(0, 600_000, spread=-5), book(1_000, 600_000, spread=-5)]), settings())


def test_a_tape_of_seconds_says_why_of_everything_and_is_no_zero() -> None:
    made = calibrate(tape(drawn(seconds=5)), settings())
    assert not made.is_anything_fitted
    told = made.missing()
    for name in (
        "sigma over 1 s",
        "intensity, both",
        "closed form",
        "reach, asks",
        "windows of 1 s",
        "markouts",
        "signal",
    ):
        assert any(line.startswith(name) and len(line) > len(name) + 20 for line in told), name
    assert isinstance(made.closed_form, NotMade)
    assert isinstance(made.signal, NotMade)
    assert not made.beyond
