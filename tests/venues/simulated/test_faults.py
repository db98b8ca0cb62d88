"""The fault plan: what is decided, and that nothing else decides it."""

import pytest

from mmdaemon.core.events import Fill, OrderUpdate
from mmdaemon.core.types import NS, ExecKind, Liquidity, OrderStatus, Side
from mmdaemon.venues.simulated.faults import (
    FINE,
    STREAM_FINE,
    WINDOWS,
    Fate,
    FaultKind,
    FaultPlan,
    FaultRates,
    StreamFate,
)
from mmdaemon.venues.simulated.rules import Bucket

BAD_DAY = FaultRates(request_lost=0.2, ack_lost=0.2, late=0.2, read_fails=0.2, private_down=0.3, book_frozen=0.3)


def test_a_good_day_has_no_faults() -> None:
    plan = FaultPlan(7, FaultRates())
    assert all(plan.request(n) == FINE and not plan.read_fails(n) for n in range(1_000))
    assert not any(plan.seen.values())
    assert not FaultRates().has_windows


def test_a_fate_is_the_same_whatever_was_asked_before() -> None:
    in_order, backwards = FaultPlan(7, BAD_DAY), FaultPlan(7, BAD_DAY)
    fates = [in_order.request(n) for n in range(200)]
    assert fates == [backwards.request(n) for n in reversed(range(200))][::-1]
    assert [FaultPlan(8, BAD_DAY).request(n) for n in range(200)] != fates


def test_taking_one_kind_away_moves_no_other() -> None:
    without_late = FaultRates(request_lost=0.2, ack_lost=0.2, read_fails=0.2)
    full, less = FaultPlan(7, BAD_DAY), FaultPlan(7, without_late)
    for n in range(200):
        one, other = full.request(n), less.request(n)
        assert (one.arrives, one.answered) == (other.arrives, other.answered)
        assert full.read_fails(n) == less.read_fails(n)


def test_rates_are_kept() -> None:
    plan = FaultPlan(7, BAD_DAY)
    fates = [plan.request(n) for n in range(2_000)]
    assert sum(not fate.arrives for fate in fates) == pytest.approx(400, abs=60)
    assert sum(not fate.answered for fate in fates) == pytest.approx(400, abs=60)
    assert sum(fate.late_ns > 0 for fate in fates) == pytest.approx(400, abs=60)
    assert max(fate.late_ns for fate in fates) <= 2 * NS
    assert plan.seen[FaultKind.REQUEST_LOST] == sum(not fate.arrives for fate in fates)


def test_windows_fall_in_their_minute_and_keep_their_length() -> None:
    plan = FaultPlan(7, BAD_DAY)
    windows = [window for minute in range(500) for window in plan.windows(minute)]
    assert {kind for _, kind, _ in windows} == {FaultKind.PRIVATE_DOWN, FaultKind.BOOK_FROZEN}
    assert len(windows) == pytest.approx(300, abs=60)
    assert all(0 <= offset < 60 * NS and 0 < length <= 20 * NS for offset, _, length in windows)
    assert list(plan.windows(3)) == list(FaultPlan(7, BAD_DAY).windows(3))


def test_a_forced_fate_is_had_once_by_the_next_of_its_sort() -> None:
    plan = FaultPlan(7, FaultRates())
    plan.force(FaultKind.READ_FAILS)
    plan.force(FaultKind.LATE, 5)
    assert plan.request(1).late_ns == 5
    assert plan.request(2) == FINE
    assert plan.read_fails(1)
    assert not plan.read_fails(2)
    assert plan.seen[FaultKind.LATE] == plan.seen[FaultKind.READ_FAILS] == 1


def test_a_rate_that_is_no_probability_is_named() -> None:
    with pytest.raises(ValueError, match="fault rate ack_lost must be between 0 and 1, got 5"):
        FaultRates(ack_lost=5)


def test_every_window_has_a_rate() -> None:
    assert {kind.value for kind in WINDOWS} <= set(FaultRates.__struct_fields__)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(2, 3)
    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(NS // 2 - 1)
    assert [bucket.take(NS // 2) for _ in range(2)] == [True, False]
    assert [bucket.take(100 * NS) for _ in range(4)] == [True, True, True, False]
    with pytest.raises(ValueError, match="rate above 0"):
        Bucket(0, 1)


def fill() -> Fill:
    return Fill(0, 0, 1, "t", "c", Side.BUY, 1, 1, 0, Liquidity.MAKER, ExecKind.TRADE)


def told() -> OrderUpdate:
    return OrderUpdate(0, 0, 1, "c", OrderStatus.LIVE, 0, 1, 1, 0, "")


def test_of_the_stream_only_fills_come_minutes_late_and_only_orders_are_vague() -> None:
    plan = FaultPlan(7, FaultRates(stream_vague=1.0, fill_late=1.0))
    late, vague = plan.stream(1, fill()), plan.stream(1, told())
    assert (late.vague, late.comes, late.late_ns > 2 * NS) == (False, True, True)
    assert late.late_ns <= 300 * NS
    assert (vague.vague, vague.late_ns) == (True, 0)
    plan = FaultPlan(7, FaultRates())
    plan.force(FaultKind.FILL_LATE, 5)
    plan.force(FaultKind.STREAM_VAGUE)
    assert plan.stream(1, told()) == StreamFate(vague=True)
    assert plan.stream(2, told()) == STREAM_FINE
    assert plan.stream(3, fill()) == StreamFate(late_ns=5)


def test_a_request_that_comes_twice_or_is_refused_has_its_fate_alone() -> None:
    plan = FaultPlan(7, FaultRates(request_twice=0.2, refused=0.2))
    fates = [plan.request(n) for n in range(2_000)]
    assert sum(fate.twice for fate in fates) == pytest.approx(400, abs=60)
    assert sum(fate.refused for fate in fates) == pytest.approx(400, abs=60)
    assert all(fate.twice == (fate.first_ns > 0) and fate.first_ns <= 2 * NS for fate in fates)
    plan.force(FaultKind.REQUEST_TWICE)
    assert plan.request(2_001) == Fate(twice=True)


def test_every_fate_has_a_rate() -> None:
    assert {kind.value for kind in FaultKind} <= set(FaultRates.__struct_fields__)
