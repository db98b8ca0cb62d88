"""What happens in a seed is a pure function of it, fault by fault."""

import pytest

from mmdaemon.core.risk import to_rollover_ns
from mmdaemon.core.types import NS
from mmdaemon.daemon.sender import LATEST_NS
from mmdaemon.research.simulation.plan import (
    A_MINUTE,
    BAD_MINUTES,
    BEHIND_MAX_S,
    CYCLE_MINUTES,
    LATE_MAX_S,
    SETTLEMENT_NS,
    STALL_MAX_S,
    Fault,
    Plan,
    is_calm,
)
from mmdaemon.research.simulation.setting import IN_FLIGHT_MAX_S, REQUEST_TIMEOUT_S

MINUTES = range(120)


def faults(plan: Plan) -> list[Fault]:
    return [fault for minute in MINUTES for fault in plan.minute(minute)]


def test_a_seed_is_the_same_for_ever() -> None:
    assert faults(Plan(7, 1.0)) == faults(Plan(7, 1.0))
    assert faults(Plan(7, 1.0)) != faults(Plan(8, 1.0))


def test_taking_one_fault_away_moves_no_other() -> None:
    everything = faults(Plan(7, 1.0))
    assert len(everything) > 50
    for gone in everything[::10]:
        kept = tuple((fault.kind, fault.ordinal) for fault in everything if fault is not gone)
        assert faults(Plan(7, 1.0, kept)) == [fault for fault in everything if fault is not gone]


def test_calm_minutes_have_no_faults() -> None:
    assert {fault.ordinal for fault in faults(Plan(3, 1.0)) if is_calm(fault.ordinal)} == set()
    assert [is_calm(minute) for minute in range(CYCLE_MINUTES)].count(True) == CYCLE_MINUTES - BAD_MINUTES


def test_every_kind_comes_in_some_seed_and_none_but_crashes_in_all() -> None:
    seen = [{fault.kind for fault in faults(Plan(seed, 1.0))} for seed in range(60)]
    assert set.union(*seen) == {str(kind) for kind in A_MINUTE}
    assert all(any(kind.startswith("crash") for kind in kinds) for kinds in seen)
    assert any("rest_down" not in kinds for kinds in seen)


def test_half_of_the_seeds_begin_shortly_before_a_settlement() -> None:
    left_s = [(-Plan(seed, 0.5).start_ts_ns % SETTLEMENT_NS) / NS for seed in range(200)]
    assert sum(60 <= each <= 60 + 900 for each in left_s) >= 100
    assert sum((Plan(seed, 0.5).start_ts_ns + 961 * NS) % (86_400 * NS) < 961 * NS for seed in range(200)) >= 20


def test_in_a_third_of_the_seeds_the_day_turns_within_the_seed() -> None:
    """So that what is due before it is seen, with half an hour of daemons up."""
    plans = [Plan(seed, 0.5) for seed in range(200)]
    assert {plan.rollover_hour_utc for plan in plans} == {0, 8, 16}
    left_s = [to_rollover_ns(plan.start_ts_ns, plan.rollover_hour_utc) / NS for plan in plans]
    assert sum(each <= 1_800 for each in left_s) >= 60


def test_a_process_stays_down_for_a_tenth_of_a_second_to_hours() -> None:
    after_s = sorted(Plan(seed, 0.5).restart_after_s(life) for seed in range(200) for life in range(10))
    assert after_s[0] < 0.2
    assert after_s[-1] > 4 * 3_600
    assert all(0.1 <= each <= 9 * 3_600 for each in after_s)
    assert after_s[len(after_s) // 2] < 10


def test_lateness_stays_below_the_in_flight_window() -> None:
    request_s, sender_waits_s = 0.08, 1.0
    assert LATE_MAX_S + request_s + sender_waits_s + STALL_MAX_S < IN_FLIGHT_MAX_S
    # A daemon believes an absence so long after it sent; by then the copy that it reads must know of the order.
    believed_s = LATEST_NS / NS + IN_FLIGHT_MAX_S
    assert sender_waits_s + request_s + LATE_MAX_S + STALL_MAX_S + BEHIND_MAX_S < believed_s
    assert REQUEST_TIMEOUT_S < LATE_MAX_S  # or no late request would be UNKNOWN first


@pytest.mark.parametrize("seed", range(20))
def test_the_skew_of_a_seed(seed: int) -> None:
    plan = Plan(seed, 0.5)
    assert abs(plan.skew_ns) <= 0.4 * NS
    assert Plan(seed, 0.5, ()).skew_ns == 0
