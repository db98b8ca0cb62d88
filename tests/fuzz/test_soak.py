"""Some hours of a daemon's life: no container grows that has no bound. The week is `python -m tests.bench.soak`."""

from collections import deque
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import msgspec

from mmdaemon.core.state import new_state
from mmdaemon.daemon.inbox import Inbox
from tests.core.build import DEFAULT, EQUITY_E10
from tests.fuzz.soaking import Sample, filling, grown, sizes, soak, start_again


def test_nothing_grows_without_a_bound(tmp_path: Path) -> None:
    # In a process of its own: what other tests left behind comes and goes, and is no memory of this daemon.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        samples = alone.submit(soak, tmp_path, 2.0, every_h=1.0).result()
    begun, warm, end = samples[0], samples[1], samples[-1]
    assert end.fills > 20
    assert end.commands - warm.commands > 5_000
    assert grown(warm, end) == {}
    assert filling(warm, end)
    assert start_again(tmp_path) > 0.0  # and its journal is one that a daemon begins on
    # A minute's bar, its band and two drifts are kept for a day: some 600 blocks an hour, and nothing else.
    assert end.blocks - warm.blocks < 2_500
    reached = {path for path in end.sizes if path.startswith("state.")}
    assert {"state.orders.live", "state.orders.closed", "state.bars.bars", "state.budgets.messages_ns"} <= reached
    assert any(path.endswith("journal._pending") for path in end.sizes)
    assert any("exchange.received" in path for path in end.sizes)
    assert begun.events < warm.events < end.events


def test_growth_is_seen() -> None:
    """The walk finds a list in a slot of a part of a part, and growth of it is told by its path."""

    def sample(n: int) -> Sample:
        return Sample(1.0, 1, 1, 1, 1.0, 1.0, 1, 1, {"state.orders.live": n, "state.bars.bars": n})

    assert grown(sample(10), sample(200)) == {"state.orders.live": (10, 200)}
    assert grown(sample(10), sample(2_000)) == {"state.orders.live": (10, 2_000), "state.bars.bars": (10, 2_000)}
    assert grown(sample(10), sample(20)) == {}


def test_the_walk_looks_into_structs_slots_and_bound_methods() -> None:
    inbox = Inbox()
    state = new_state(DEFAULT, EQUITY_E10)

    class Part(msgspec.Struct):
        post: object
        state: object

    Part.__module__ = "mmdaemon.made"
    found = sizes(Part(inbox.post, state))
    assert found["post.self._events"] == 0
    assert found["state.orders.closed"] == 0
    assert isinstance(state.budgets.buys_ns, deque)
    assert "state.budgets.buys_ns" in found
