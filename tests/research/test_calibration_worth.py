"""How far prints reach, what they were worth later, and the weights of the signal: by hand, and as drawn."""

import msgspec
import numpy as np
import pytest

from mmdaemon.core import signal
from mmdaemon.core.book import Book, on_book
from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.core.types import NS, Side
from mmdaemon.research.calibration.blocks import LEAST_BLOCKS, interval, ratio, sums_by_block
from mmdaemon.research.calibration.distances import reach, window_reach
from mmdaemon.research.calibration.fitting import calibrate, signal_at_prints
from mmdaemon.research.calibration.markouts import beyond, markouts
from mmdaemon.research.calibration.observing import Observed, observe
from mmdaemon.research.calibration.records import Block, From, Makers, NotMade, Reach, SignalFit, SignalPoor
from mmdaemon.research.calibration.ridge import FOLDS, LEAST_SAMPLES, fitted
from mmdaemon.tapes.records import Depth, Record, Trade
from tests.research.calibration_tapes import PX, SIZE, book, drawn, settings, tape, trade

BP = 6
"""Whole ticks of 1 in a bp of 60,000."""


def seen(records: list[Record], tick: float = 1.0) -> Observed:
    played = tape(sorted(records, key=lambda each: each.venue_ts_ns), tick)
    return observe(played, settings().to_params(played.instrument, "cal0", 0))


def moves(count: int, later_ticks: int, px_below: int = 12) -> list[Record]:
    """Every 100 s a seller takes at `px_below` under the bid's 60,000, and 2 s later the book stands that much away; a
    second before the next it is back."""
    records: list[Record] = []
    for number in range(count):
        ms = 100_000 * number
        records += [book(ms + 500 * half, 60_000, 2) for half in range(4)]
        records.append(trade(ms + 1_900, 60_000 - px_below, Side.SELL, lots=1 + number % 2))
        records += [book(ms + 2_000 + 500 * half, 60_000 + later_ticks, 2) for half in range(190)]
    return records


# --- how far prints reach ---------------------------------------------------------------------------------------------


def test_reach_beyond_touch_and_mid_and_by_value() -> None:
    """The touch is 2 ticks wide: what ends at it is 1 beyond the mid. A tenth of the prints is far larger, and goes 12
    ticks beyond the touch."""
    records: list[Record] = [book(second * 1_000, 60_000, 2) for second in range(201)]
    for number in range(200):
        far = number % 10 == 9
        px = 60_000 - (12 if far else 0)
        records.append(trade(number * 1_000 + 500, px, Side.SELL, lots=81 if far else 1))
    found = reach(seen(records), Makers.BIDS)
    assert isinstance(found, Reach)
    quantile = dict(zip(found.shares, found.beyond_touch_bps, strict=True))
    assert quantile[0.9] == 0.0
    assert quantile[0.95] == pytest.approx(12 / 60_001 * 1e4)
    assert found.beyond_mid_bps[0] == pytest.approx(1 / 60_001 * 1e4)
    assert found.by_value_bps[1] == pytest.approx(
        13 / 60_001 * 1e4
    )  # a tenth of the prints is nine tenths of the value
    assert found.by_value_bps[0] == pytest.approx(1 / 60_001 * 1e4)
    assert found.prints == 200
    asks = reach(seen(records), Makers.ASKS)
    assert isinstance(asks, NotMade)
    assert asks.why.startswith("0 prints")


def test_windows_are_reached_from_the_mid_at_their_beginning() -> None:
    """In every tenth second the mid falls by 3 bps at its beginning, and a seller hits the bid a moment later: of the
    mid then that is nothing; of a window of 5 s that began before it is 3 bps."""
    records: list[Record] = []
    for second in range(1_000):
        low = second % 10 >= 4
        bid = 60_000 - (3 * BP if low else 0)
        records.append(book(second * 1_000, bid, 2))
        if second % 10 == 4:
            records.append(trade(second * 1_000 + 10, bid, Side.SELL))
    found, missing = window_reach(seen(records))
    at = {(row.window_s, row.distance_bps): row for row in found}
    assert not missing
    assert at[1.0, 0.5].bids == 0.0
    assert at[5.0, 2.5].bids == pytest.approx(0.5, abs=0.01)  # of two windows in ten seconds one begins before it
    assert at[5.0, 5.0].bids == 0.0
    assert at[5.0, 2.5].asks == 0.0
    assert at[5.0, 2.5].either == at[5.0, 2.5].bids
    assert at[1.0, 0.5].windows == 999


def test_too_few_windows_say_so() -> None:
    found, missing = window_reach(seen([book(second * 1_000, 60_000, 2) for second in range(100)]))
    assert {row.window_s for row in found} == {1.0}
    assert missing == {
        "5 s": "19 were observed whole, and 30 are needed",
        "30 s": "3 were observed whole, and 30 are needed",
    }


# --- what they were worth ---------------------------------------------------------------------------------------------


def test_markouts_by_hand() -> None:
    """A bid at 59,988 is hit while F is 60,001: 13 ticks at once. Two seconds later F is 60,007 or 59,995."""
    rows, missing = markouts(seen(moves(40, 6)))
    assert missing is None
    by = {(row.makers, row.from_bps, row.horizon_s): row for row in rows}
    of_f = 1e4 / 60_001
    all_ = by[Makers.BIDS, None, 5.0]
    assert all_.prints == 40
    assert all_.effective_bps == pytest.approx(13 * of_f)
    assert all_.mean_bps == pytest.approx(19 * of_f)
    assert by[Makers.BIDS, None, 60.0].mean_bps == pytest.approx(19 * of_f)
    assert by[Makers.BIDS, 1.0, 5.0].prints == 40  # 2.17 bps: in the bucket from 1 to 2.5
    assert (Makers.BIDS, 2.5, 5.0) not in by
    assert not [row for row in rows if row.makers is Makers.ASKS]
    falls, _ = markouts(seen(moves(40, -6)))
    at_5s = next(row for row in falls if (row.makers, row.horizon_s, row.from_bps) == (Makers.BOTH, 5.0, None))
    assert at_5s.mean_bps == pytest.approx(7 * of_f)
    assert at_5s.interval_bps is not None
    assert at_5s.interval_bps.low == pytest.approx(at_5s.interval_bps.high)  # every print is alike


def test_an_ask_earns_where_the_price_falls() -> None:
    """Buyers take at 60,014, which is 13 ticks above F; then F is 6 lower."""
    bids = moves(40, -6)
    asks = [trade_of(each, 60_014) for each in bids]
    rows, _ = markouts(seen(asks))
    row = next(each for each in rows if (each.makers, each.horizon_s, each.from_bps) == (Makers.ASKS, 5.0, None))
    assert row.effective_bps == pytest.approx(13 / 60_001 * 1e4)
    assert row.mean_bps == pytest.approx(19 / 60_001 * 1e4)
    assert not [each for each in rows if each.makers is Makers.BIDS]


def trade_of(record: Record, px: int) -> Record:
    """A buyer's print at that price in the place of a seller's."""
    return msgspec.structs.replace(record, px_ticks=px, aggressor=Side.BUY) if isinstance(record, Trade) else record


def test_value_weighs_where_it_is_said() -> None:
    """Every other print is of two lots, and those alone go 24 ticks further."""
    records = moves(40, 0)
    records = [
        trade(
            (each.venue_ts_ns - records[0].venue_ts_ns) / 1e6,
            each.px_ticks - 24 * (each.qty_lots - 1),
            Side.SELL,
            each.qty_lots,
        )
        if hasattr(each, "qty_lots")
        else each
        for each in records
    ]
    rows, _ = markouts(seen(records))
    row = next(each for each in rows if (each.makers, each.horizon_s, each.from_bps) == (Makers.BIDS, 5.0, None))
    assert row.mean_bps == pytest.approx((13 + 37) / 2 / 60_001 * 1e4)
    assert row.by_value_bps == pytest.approx((13 * 59_988 + 2 * 37 * 59_964) / (59_988 + 2 * 59_964) / 60_001 * 1e4)


def test_a_print_without_a_later_book_is_in_no_markout() -> None:
    """Books end 8 s after each print: there is no fair value 30 s later."""
    records = [each for each in moves(40, 6) if (each.venue_ts_ns - moves(1, 0)[0].venue_ts_ns) // NS % 100 < 10]
    rows, _ = markouts(seen(records))
    assert {row.horizon_s for row in rows} == {1.0, 5.0}


def test_what_comes_after_the_end_is_not_known_although_the_last_book_is_fresh() -> None:
    """The last books are 4 s after the prints: 5 s after them one is a second old, and the recording is over."""
    records: list[Record] = [book(500 * half, 60_000, 2) for half in range(20)]
    records += [trade(5_500 + number, 60_000, Side.SELL) for number in range(40)]
    rows, _ = markouts(seen(records))
    assert {row.horizon_s for row in rows} == {1.0}


def test_an_order_at_a_distance_is_worth_its_own_distance_and_not_the_prints() -> None:
    """Prints go 2.17 bps; a bid at 1 bp that they filled is worth 1 bp less what fair value fell by."""
    rows = {row.distance_bps: row for row in beyond(seen(moves(40, -3))) if row.regime == "all"}
    assert max(rows) == 2.0
    for distance_bps, row in rows.items():
        assert row.of is From.FAIR
        assert row.impact_bps == pytest.approx(-3 / 60_001 * 1e4)
        assert row.worth_bps == pytest.approx(distance_bps - 3 / 60_001 * 1e4)
        assert row.prints == 40


def test_a_signal_that_knows_moves_the_order_away() -> None:
    """Told of a fall by 3 bps, the bid at 1 bp stands 4 bps below: a print that goes 2.17 bps does not reach it."""
    observed = seen(moves(40, -3 * BP))
    blind = {row.distance_bps: row.worth_bps for row in beyond(observed) if row.regime == "all"}
    assert blind[1.0] == pytest.approx(-2.0, rel=1e-3)
    knows = beyond(observed, np.full(40, -3.0))
    assert knows == ()
    deep = seen(moves(40, -3 * BP, px_below=5 * BP))
    row = next(each for each in beyond(deep, np.full(40, -3.0)) if each.distance_bps == 1.0)
    assert (row.of, row.prints) == (From.SIGNAL, 40)
    assert row.impact_bps == pytest.approx(0.0, abs=0.01)  # what fell was known
    assert row.worth_bps == pytest.approx(1.0, abs=0.01)


# --- intervals --------------------------------------------------------------------------------------------------------


def test_a_block_counts_as_one_however_much_is_in_it() -> None:
    """Ten blocks of a thousand equal values are ten values: the interval is as wide as that of ten."""
    values = np.random.default_rng(3).normal(size=10)
    t_ns, many = np.repeat(np.arange(10) * NS, 1_000), np.repeat(values, 1_000)
    found = interval(sums_by_block(t_ns, [many, np.ones(10_000)], NS), ratio)
    few = interval(sums_by_block(np.arange(10) * NS, [values, np.ones(10)], NS), ratio)
    assert found is not None
    assert few is not None
    assert (found.low, found.high) == pytest.approx((few.low, few.high))
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 10**0.5, rel=0.1)


def test_too_few_blocks_have_no_interval() -> None:
    sums = np.ones((LEAST_BLOCKS - 1, 2))
    assert interval(sums, ratio) is None
    assert interval(np.ones((LEAST_BLOCKS, 2)), ratio) is not None


# --- the signal -------------------------------------------------------------------------------------------------------


def samples(count: int, noise: float, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two features, of which the first counts 0.5 and the second, ten times as large, 0.02."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2)) * np.array([1.0, 10.0])
    return np.arange(count, dtype=np.float64), x, x @ np.array([0.5, 0.02]) + noise * random.normal(size=count)


def test_weights_are_found_in_the_features_own_units() -> None:
    made = fitted(*samples(6_000, 0.5), 5.0, ("a", "b"))
    assert isinstance(made, SignalFit)
    assert made.weights == pytest.approx((0.5, 0.02), rel=0.1)
    assert made.spreads == pytest.approx((1.0, 10.0), rel=0.05)
    assert made.r2_out == pytest.approx(0.29 / 0.54, abs=0.03)
    assert made.r2_out < made.r2_in
    assert len(made.blocks) == FOLDS
    assert {each.penalty for each in made.tried} > {0.001, 1.0}
    assert max(made.tried, key=lambda each: each.r2).penalty == made.penalty


def test_noise_predicts_nothing_out_of_sample() -> None:
    t_s, x, _ = samples(3_000, 1.0)
    y = np.random.default_rng(9).normal(size=3_000)
    made = fitted(t_s, x, y, 5.0, ("a", "b"))
    assert isinstance(made, SignalPoor)
    assert made.found.r2_in > 0
    assert "is needed" in made.why


def test_what_holds_in_one_stretch_of_time_alone_is_refused() -> None:
    """The first half is ten times as loud, and the rest says the opposite: together it explains much."""
    t_s, x, y = samples(6_000, 0.5)
    x[:3_000] *= 10.0
    y[:3_000] *= 10.0
    y[3_000:] *= -1.0
    made = fitted(t_s, x, y, 5.0, ("a", "b"))
    assert isinstance(made, SignalPoor)
    assert made.found.r2_out > 0.3
    assert made.why == "it helps in 3 of 6 blocks, and 4 are needed"


def test_overlapping_samples_do_not_leak_into_the_block_left_out() -> None:
    """Each move is noise that holds for 8 s, and each has a feature of its own. Where such a stretch lies across the
    ends of two blocks, a fit that has seen its first half knows the second; one kept 10 s away knows nothing."""
    y = np.repeat(np.random.default_rng(1).normal(size=75), 80)
    own = (np.arange(6_000)[:, None] // 80 == np.arange(75)).astype(np.float64)
    t_s, names = np.linspace(0.0, 599.9, 6_000), tuple(str(place) for place in range(75))
    kept_away = fitted(t_s, own, y, 10.0, names)
    assert isinstance(kept_away, SignalPoor)
    assert kept_away.found.r2_in > 0.9
    assert kept_away.found.r2_out <= 0.0
    beside = fitted(t_s, own, y, 0.0, names)
    assert isinstance(beside, SignalFit)
    assert beside.r2_out > 0.02


def test_a_feature_that_is_always_nothing_gets_no_weight() -> None:
    t_s, x, y = samples(3_000, 1.0)
    made = fitted(t_s, np.column_stack([x, np.zeros(3_000)]), y, 5.0, ("a", "b", "c"))
    assert isinstance(made, SignalFit)
    assert made.weights[2] == 0.0


def test_what_cannot_be_fitted_says_why() -> None:
    t_s, x, y = samples(3_000, 1.0)
    still = fitted(t_s, x, 0.0 * y, 5.0, ("a", "b"))
    assert isinstance(still, NotMade)
    assert "never moved" in still.why
    empty = fitted(t_s, 0.0 * x, y, 5.0, ("a", "b"))
    assert isinstance(empty, NotMade)
    assert "always 0" in empty.why
    hasty = fitted(t_s / 1e4, x, y, 5.0, ("a", "b"))
    assert isinstance(hasty, NotMade)
    assert "record longer" in hasty.why
    short = calibrate(tape(drawn(seconds=60, sigma_bps=1.0, a_per_s=0.1)), settings()).signal
    assert isinstance(short, NotMade)
    assert f"{LEAST_SAMPLES} are needed" in short.why


def test_features_are_the_cores_own() -> None:
    """As they stood when each moment had been told, whatever weights the settings have."""
    records = [
        msgspec.structs.replace(each, bids=((each.bids[0][0], 3), (each.bids[1][0] - 5, 40)))
        if isinstance(each, Depth)
        else each
        for each in drawn(seconds=60, sigma_bps=2.0, a_per_s=2.0)
    ]
    played = tape(records)
    unweighted = settings(signal__print_weight=0.0, quotes__depth_levels=1)
    params = unweighted.to_params(played.instrument, "cal0", 0)
    observed = observe(played, params)
    depth = max(params.quotes.depth_levels, params.signal.depth_levels)
    own, slice_ = Book(depth=depth), signal.Signal()
    told: list[tuple[float, ...]] = []
    begin = records[0].venue_ts_ns - NS
    for event in tape(records).events():
        now = event.ts_ns - begin
        if isinstance(event, BookUpdate):
            on_book(own, BookUpdate(now, event.ts_ns, event.venue_ts_ns, event.bids, event.asks))
            signal.on_book(slice_, own, now, params.signal)
        elif isinstance(event, TradePrint):
            printed = (event.venue_ts_ns, event.px_ticks, event.qty_lots, event.aggressor)
            signal.on_trade(slice_, TradePrint(now, event.ts_ns, *printed), own, params.signal)
        told.append(signal.features(slice_))
    rows = observed.samples.features
    assert 200 < len(rows) <= len(told)
    assert (np.abs(rows).max(axis=0) > 0)[1:].all()  # books have seen every print here: the first is 0
    at = {tuple(row) for row in np.array(told).round(9).tolist()}
    assert all(tuple(row) in at for row in rows.round(9).tolist())


def test_a_signal_that_is_in_the_book_is_found_in_a_tape() -> None:
    """Whenever bids outweigh asks the price is 2 bps up 3 s later, and down where asks do."""
    random = np.random.default_rng(4)
    records: list[Record] = []
    bid, lean = 60_000, 0
    for step in range(4_000):
        if step % 24 == 0:
            lean = int(random.integers(0, 2)) * 2 - 1
        if step % 24 == 12:
            bid += 2 * BP * lean
        sizes = (SIZE * 9, SIZE) if lean > 0 else (SIZE, SIZE * 9)
        records.append(book(250 * step, bid, 2, *(sizes if step % 24 < 12 else (SIZE, SIZE))))
    made = calibrate(tape(records, 1.0), settings(), horizon_s=5.0)
    found = made.signal
    assert isinstance(found, SignalFit)
    assert found.features == signal.FEATURES
    assert found.r2_out > 0.3
    assert found.weights[signal.FEATURES.index("lean")] > 0


def test_each_print_is_held_against_weights_that_have_not_seen_it() -> None:
    observed = seen([*moves(40, 6)])
    count = len(signal.FEATURES)
    blocks = tuple(Block(from_s, (weight,) * count, 0.1, 0.0) for from_s, weight in ((0.0, 1.0), (2_000.0, -1.0)))
    fit = SignalFit(5.0, signal.FEATURES, (9.0,) * count, (1.0,) * count, 0.1, 9, 0.0, 0.0, blocks, ())
    sums = observed.prints.features.sum(axis=1)
    assert np.abs(sums).max() > 0
    first = observed.prints.t_ns < 2_000 * NS
    assert 10 < first.sum() < 30
    np.testing.assert_allclose(signal_at_prints(observed, fit, 0.0), np.where(first, sums, -sums))
    assert np.abs(signal_at_prints(observed, fit, 0.01)).max() == 0.01
    assert pytest.approx(60_000) == PX
