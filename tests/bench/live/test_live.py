"""The benchmark itself: both sides see every frame, every order arrives, and times are matched as it is said."""

import asyncio
from pathlib import Path

import pytest

from mmdaemon.clock import RealClock
from tests.bench.live.__main__ import Sizes, interval, latencies, measured
from tests.bench.live.venue import packed, unmasked


async def test_one_small_round_of_everything(tmp_path: Path) -> None:
    sizes = Sizes(frames=40, checked=40, flood=200, ticks=10, orders=10)
    bench = await measured(RealClock(asyncio.get_running_loop()), 1, tmp_path, sizes)
    assert {side for what, side in bench.measures if what == "frame -> order, p50"} == {"ccxt.pro", "ours", "whole"}
    assert {side for what, side in bench.measures if what == "CPU an order"} == {"ccxt.pro", "ours"}
    assert bench.unseen == {}
    assert all(len(measure.rounds) == 1 and measure.median > 0 for measure in bench.measures.values())


def test_a_frame_counts_until_something_that_has_it() -> None:
    """The second frame was seen with the third, the last by nobody."""
    sent = {1: 1_000, 2: 2_000, 3: 3_000, 9: 9_000}
    assert latencies(sent, [(1, 5_000), (3, 6_000)]) == [4.0, 4.0, 3.0]


def test_a_ratio_s_interval_is_of_pairs() -> None:
    """A round that was slow for both says nothing."""
    lo, hi = interval([2.0, 20.0, 2.0, 20.0, 2.0], [1.0, 10.0, 1.0, 10.0, 1.0])
    assert lo == hi == 2.0
    lo, hi = interval([2.0, 3.0, 4.0, 2.0, 3.0], [1.0] * 5)
    assert lo < 3.0 < hi


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_frames_have_the_length_they_say(length: int) -> None:
    made = packed("x" * length)
    head = 2 if length < 126 else 4 if length < 65_536 else 10
    assert len(made) == head + length
    assert made[0] == 0x81


def test_a_masked_frame_is_read_once_it_is_there() -> None:
    mask, text = bytes((1, 2, 3, 4)), b'{"op":"subscribe"}'
    frame = bytes((0x81, 0x80 | len(text))) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text))
    assert unmasked(frame[:-1]) is None
    assert unmasked(frame + b"more") == (1, text, b"more")
