"""What is measured of a recording: on made ones, where every figure is known, and on those we have."""

from pathlib import Path

import pytest

from mmdaemon.core.types import Side
from mmdaemon.tapes.reading import open_recording
from mmdaemon.tapes.records import Ticker
from mmdaemon.tapes.rows import TapeError
from mmdaemon.tapes.steps import Steps
from mmdaemon.tapes.survey import Gap, Places, Quantiles, Survey, survey
from tests.tapes.made import MS, T0, Made, delta, snapshot, trade

LOCKED = ((101, 5), (100, 5))


def test_every_figure_of_a_made_recording() -> None:
    recording = Made(
        [
            snapshot(0, late_ms=10),
            trade(100, 101, late_ms=20),
            snapshot(1_000, LOCKED, late_ms=30),
            delta(2_000, ((101, 0),), late_ms=40),
            trade(3_000, 100, side=None, late_ms=40),
            Ticker(T0 + 4_000 * MS, T0 + 4_001 * MS, T0 + 9_000 * MS, "0.0001", mark_px="10.1"),
            snapshot(7_000, late_ms=50),
            snapshot(20_000, late_ms=60),
        ],
        clock_shift_ns=5 * MS,
        provenance={"made": "in a test", "gaps": "as its reader counts them"},
    ).drop("repeat", 7)
    passed: list[int] = []
    found = survey(recording, passed.append)
    assert (found.first, found.last) == ("2026-01-01 00:00:00 UTC", "2026-01-01 00:00:20 UTC")
    assert found.span_s == 20
    assert found.records == {"snapshot": 4, "delta": 1, "trade": 2, "ticker": 1}
    assert (found.books, found.trades, found.funding_rates, found.marks) == (5, 2, 1, 1)
    assert (found.gaps.count, found.gaps.total_s, found.gaps.share) == (2, 18, 0.9)
    assert found.gaps.longest == (
        Gap(from_="2026-01-01 00:00:07 UTC", length_s=13, trades=0),
        Gap(from_="2026-01-01 00:00:02 UTC", length_s=5, trades=1),
    )
    assert found.book_latency is not None
    assert found.book_latency.recorded_ms == Quantiles(10, 10, 40, 60, 60, 60)
    assert found.book_latency.corrected_ms == Quantiles(15, 15, 45, 65, 65, 65)
    assert found.trade_latency is not None
    assert found.trade_latency.recorded_ms.median == 20
    assert found.cadence_ms is not None
    assert (found.cadence_ms.least, found.cadence_ms.median, found.cadence_ms.most) == (1_000, 1_000, 13_000)
    assert (found.locked_share, found.crossed) == (0.2, 0)
    assert "gaps" not in found.facts
    assert found.aggressor_known_share == 0.5
    assert found.places == Places(measured=2, at=2, inside=0, through=0, other_side=0)
    assert found.dropped == {"repeat": 7}
    assert found.described[0] == "made.csv row 0: repeat: in a test"
    assert found.facts["local clock"] == "+5.000 ms: as recorded, not corrected"
    assert found.facts["made"] == "in a test"
    assert passed[0] == 0


def test_the_lag_of_the_book_is_corrected_in_all_of_it() -> None:
    found = survey(Made([snapshot(250), trade(10), snapshot(1_250)], book_lag_ns=250 * MS))
    assert found.span_s == 1
    assert found.book_latency is not None
    assert (found.book_latency.recorded_ms.median, found.book_latency.corrected_ms.median) == (5, 255)


@pytest.mark.parametrize(
    ("px", "side", "place"),
    [
        (105, Side.BUY, "at"),
        (103, Side.BUY, "inside"),
        (106, Side.BUY, "through"),
        (100, Side.BUY, "other_side"),
        (99, Side.BUY, "other_side"),
        (100, Side.SELL, "at"),
        (99, Side.SELL, "through"),
        (101, Side.SELL, "inside"),
        (105, Side.SELL, "other_side"),
        (100, None, "at"),
        (105, None, "at"),
        (104, None, "inside"),
        (106, None, "through"),
        (99, None, "through"),
    ],
)
def test_places(px: int, side: Side | None, place: str) -> None:
    found = survey(Made([snapshot(0, ((100, 1),), ((105, 1),)), trade(1, px, side=side)])).places
    assert found is not None
    assert found.measured == 1
    assert [name for name in ("at", "inside", "through", "other_side") if getattr(found, name)] == [place]


def test_places_are_measured_in_the_steps_of_the_book() -> None:
    records = [snapshot(0, ((100, 1),), ((110, 1),)), trade(1, 104, side=None), trade(2, 119, side=None), trade(3, 99)]
    found = survey(Made(records, book_step_ticks=10)).places
    assert found == Places(measured=3, at=2, inside=0, through=0, other_side=1)


def test_only_the_first_print_of_a_sweep_is_placed() -> None:
    sweep = [
        trade(1, px, side=side) for px, side in ((101, Side.BUY), (102, Side.BUY), (100, Side.SELL), (103, Side.BUY))
    ]
    found = survey(Made([snapshot(0), *sweep, trade(2, 103)])).places
    assert found == Places(measured=3, at=2, inside=0, through=1, other_side=0)


def test_what_is_not_there_is_not_measured() -> None:
    found = survey(Made([snapshot(0)]))
    assert (found.gaps.share, found.trade_latency, found.cadence_ms) == (None, None, None)
    assert (found.aggressor_known_share, found.places) == (None, None)


def test_parts_of_a_message_are_no_cadence() -> None:
    found = survey(
        Made([snapshot(0, more=True), delta(0, more=True), delta(0), snapshot(5_000, more=True), delta(5_000)])
    )
    assert found.cadence_ms == Quantiles(*[5_000] * 6)
    assert found.gaps.count == 1
    assert found.books == 2


def test_a_recording_without_a_book_is_refused() -> None:
    with pytest.raises(TapeError, match="no book with both sides"):
        survey(Made([trade(0), trade(1)]))


# --- the recordings we have -------------------------------------------------------------------------------------------


def of(path: Path) -> Survey:
    return survey(open_recording([path], Steps()))


def test_binance(shared_data: Path) -> None:
    found = of(shared_data / "binance_usdm_btcusdt")
    assert found.trades == 21_313
    assert found.book_latency is not None
    assert found.book_latency.recorded_ms.most < 0  # the clock was 1.2 s behind
    assert 0 < found.book_latency.corrected_ms.least < 5
    assert found.places is not None
    assert found.places.at / found.places.measured > 0.97
    assert found.aggressor_known_share == 1


def test_hyperliquid(shared_data: Path) -> None:
    found = of(shared_data / "hyperliquid_btc")
    assert (found.books, found.trades) == (15_434, 6_645)
    assert (found.gaps.count, round(found.gaps.longest[0].length_s, 1)) == (1, 17.5)
    assert found.places is not None
    # 95.9 % of first prints of each block and side, as the reader's own measurement has it.
    assert found.places.at / found.places.measured == pytest.approx(0.959, abs=0.001)
    assert found.span_s == 2_088.412
