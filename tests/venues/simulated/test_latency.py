"""Draws, delays and lanes."""

import asyncio

import pytest

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.types import NS
from mmdaemon.venues.simulated.latency import Delay, DelayDraws, Draws, Lane

GOLDEN = [13573129394032539963, 10676827015093863918, 8473369833462187908]


def test_a_draw_depends_on_seed_kind_and_ordinal_alone() -> None:
    draws = Draws(7, "request")
    assert draws.bits(5) == Draws(7, "request").bits(5)
    others = [Draws(8, "request").bits(5), Draws(7, "response").bits(5), draws.bits(6)]
    assert len({draws.bits(5), *others}) == 4
    # fixed for ever: a failing seed of last year must fail today
    assert [draws.bits(n) for n in range(3)] == GOLDEN


def test_draws_are_spread_evenly() -> None:
    draws = Draws(7, "even")
    counts = [0] * 10
    for ordinal in range(10_000):
        counts[draws.below(ordinal, 10)] += 1
    assert all(900 < count < 1_100 for count in counts)
    assert sum(draws.happens(ordinal, 0.25) for ordinal in range(10_000)) == pytest.approx(2_500, abs=150)
    assert not any(draws.happens(ordinal, 0.0) for ordinal in range(1_000))
    assert all(draws.happens(ordinal, 1.0) for ordinal in range(1_000))


def test_a_delay_is_its_base_and_some_of_its_jitter() -> None:
    draws = DelayDraws(Delay(0.05, 0.02), 7, "request")
    delays = [draws.next_ns() for _ in range(1_000)]
    assert 50_000_000 <= min(delays) < 51_000_000
    assert 69_000_000 < max(delays) < 70_000_000
    assert DelayDraws(Delay(0.05), 7, "request").next_ns() == 50_000_000


@pytest.mark.parametrize("delay", [(-0.1, 0.0), (0.0, -1.0), (float("nan"), 0.0), (5_000.0, 0.0)])
def test_a_delay_that_is_none_is_refused(delay: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="a delay is 0 to"):
        Delay(*delay)


def test_a_lane_is_first_in_first_out_and_each_message_waits_for_those_before_it() -> None:
    out: list[tuple[int, str]] = []

    async def main(clock: VirtualClock) -> None:
        start = clock.mono_ns()
        lane: Lane[str] = Lane(clock, lambda item: out.append((clock.mono_ns() - start, item)))
        for due, item in ((5, "a"), (3, "b"), (9, "c")):
            lane.put(start + due, item)
        await wait(clock, start + 20)
        lane.put(start + 30, "lost")
        lane.clear()
        lane.put(start + 40, "d")
        await wait(clock, start + 50)

    run_virtual(main, start_wall_ns=NS)
    assert out == [(5, "a"), (5, "b"), (9, "c"), (40, "d")]


async def wait(clock: VirtualClock, mono_ns: int) -> None:
    there = asyncio.get_running_loop().create_future()
    clock.call_at(mono_ns, there.set_result, None)
    await there
