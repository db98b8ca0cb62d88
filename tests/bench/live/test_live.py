"""The benchmark itself: both sides see every frame, every order arrives, and times are matched as it is said."""

import asyncio
from pathlib import Path

import pytest

from mmdaemon.clock import RealClock
from tests.bench.live.__main__ import Sizes, interval, latencies, measured
from tests.bench.live.received import Received, unpacked
from tests.bench.live.venue import packed, unmasked


async def test_one_small_round_of_everything(tmp_path: Path) -> None:
    sizes = Sizes(frames=40, checked=40, flood=200, ticks=10, orders=10)
    bench = await measured(RealClock(asyncio.get_running_loop()), 1, tmp_path, sizes)
    assert {side for what, side in bench.measures if what == "frame -> order, p50"} == {"ccxt.pro", "ours", "whole"}
    assert {side for what, side in bench.measures if what == "CPU an order"} == {"ccxt.pro", "ours"}
    for what in ("received -> decision", "received -> decision, checksum"):
        for side in ("ccxt.pro", "ours"):
            within, whole = bench.measures[f"{what}, p50", side], bench.measures[f"frame{what[8:]}, p50", side]
            assert within.median < whole.median
    assert bench.unseen == {}
    assert all(len(measure.rounds) == 1 for measure in bench.measures.values())
    # A difference of two of so few frames can be below zero on a busy machine.
    assert all(measure.median > 0 for (what, _), measure in bench.measures.items() if "less the floor" not in what)


def test_a_frame_counts_until_something_that_has_it() -> None:
    """The second frame was seen with the third, the last by nobody."""
    sent = {1: 1_000, 2: 2_000, 3: 3_000, 9: 9_000}
    assert latencies(sent, [(1, 5_000), (3, 6_000)]) == [4.0, 4.0, 3.0]


def test_a_frame_is_received_with_its_last_byte() -> None:
    """Two in one call, one in three calls, another connection's in between, and a pong and an answer that are none."""
    frames = [packed(f'{{"arg":{{"channel":"books"}},"data":[{{"ts":"{ts}"}}],"ts":{ts}}}') for ts in (1, 2, 3)]
    ours, other = object(), object()
    received = Received()
    received.chunks += [
        (ours, 10, frames[0] + packed("pong") + frames[1] + frames[2][:1]),
        (other, 20, b"HTTP/1.1 200 OK\r\n\r\n{}"),
        (ours, 30, frames[2][1:40]),
        (other, 40, frames[0]),
        (ours, 50, frames[2][40:]),
    ]
    assert received.frames() == {1: 10, 2: 10, 3: 50}
    received.clear()
    assert received.frames() == {}


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_a_frame_is_unpacked_once_it_is_there(length: int) -> None:
    made = packed("x" * length)
    assert unpacked(made + b"more") == (b"x" * length, b"more")
    assert unpacked(made[:-1]) is None


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
