"""Buckets of the emulated venue: each endpoint's own, refilled by time."""

import pytest

from mmdaemon.core.types import NS
from mmdaemon.venues.emulator.limits import Bucket, Limits

PLACE, CANCEL = "/api/v2/mix/order/place-order", "/api/v2/mix/order/cancel-order"


def allowed(limits: Limits, path: str, now_ns: int, times: int = 100, key: str = "") -> int:
    return sum(limits.allows(path, now_ns, key) for _ in range(times))


def test_a_second_s_worth_at_once_then_as_it_refills() -> None:
    limits = Limits({PLACE: 10.0})
    assert allowed(limits, PLACE, 0) == 10
    assert allowed(limits, PLACE, NS // 20) == 0
    assert allowed(limits, PLACE, NS // 10) == 1
    assert allowed(limits, PLACE, NS // 10 + NS) == 10
    assert allowed(limits, PLACE, 3_600 * NS) == 10


def test_each_endpoint_and_each_key_has_its_own() -> None:
    limits = Limits({PLACE: 10.0, CANCEL: 5.0})
    assert allowed(limits, PLACE, 0, key="a") == 10
    assert allowed(limits, CANCEL, 0, key="a") == 5
    assert allowed(limits, PLACE, 0, key="b") == 10


def test_what_has_no_limit_is_allowed() -> None:
    assert allowed(Limits({PLACE: 1.0}), "/api/v2/public/time", 0) == 100


def test_less_than_one_a_second_still_allows_one() -> None:
    limits = Limits({PLACE: 0.5})
    assert allowed(limits, PLACE, 0) == 1
    assert allowed(limits, PLACE, NS) == 0
    assert allowed(limits, PLACE, 2 * NS) == 1


def test_refusals_cost_nothing_and_a_clock_that_stands_gives_nothing() -> None:
    limits = Limits({PLACE: 10.0})
    assert allowed(limits, PLACE, 5 * NS, times=1_000) == 10
    assert not limits.allows(PLACE, 4 * NS)
    assert allowed(limits, PLACE, 5 * NS + NS // 2) == 5


@pytest.mark.parametrize("per_s", [1.0, 3.0, 7.0, 10.0, 20.0])
def test_over_a_minute_the_rate_is_the_rate(per_s: float) -> None:
    limits = Limits({PLACE: per_s})
    taken = sum(limits.allows(PLACE, step * NS // 97) for step in range(60 * 97))
    assert abs(taken - 61 * per_s) <= 2


def test_a_bucket_may_hold_more_than_a_second_s_worth() -> None:
    bucket = Bucket(1.0, 0, size=240.0)
    assert sum(bucket.takes(0) for _ in range(300)) == 240
