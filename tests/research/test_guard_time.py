"""Time in each state of the guard, and the share of it that counts."""

import msgspec
import pytest

from mmdaemon.core.types import GuardState
from mmdaemon.journal.records import Run, Transition
from mmdaemon.journal.rows import Minute
from mmdaemon.research.guard_time import by_state, guard_spans, healthy_ns

RUN = Run(
    epoch=1,
    account_epoch=1,
    after_clean=True,
    version="",
    config_hash="",
    mode="",
    durability="",
    provenance="{}",
    started_mono_ns=1_000,
    started_ts_ns=5_000,
    start_e10=0,
    ended_mono_ns=None,
    ended_ts_ns=None,
    clean_stop=None,
    end_reason=None,
)
MOVES = [
    Transition(epoch=1, seq=at, mono_ns=1_000 + at, ts_ns=5_000 + at, from_state=before, to_state=after, reasons=why)
    for at, before, after, why in (
        (10, GuardState.STARTING, GuardState.RECONCILING, "position"),
        (30, GuardState.RECONCILING, GuardState.RUNNING, ""),
        (100, GuardState.RUNNING, GuardState.SOFT_PAUSE, "clock book"),
        (140, GuardState.SOFT_PAUSE, GuardState.RUNNING, ""),
    )
]


def test_each_state_has_the_time_from_its_beginning_to_the_next() -> None:
    spans = guard_spans(RUN, MOVES, 1_200, 5_200)
    assert by_state(spans) == {"starting": 10, "reconciling": 20, "running": 130, "soft_pause": 40}
    assert (spans[-1].from_ts_ns, spans[-1].to_ts_ns) == (5_140, 5_200)


def test_time_without_a_book_is_no_ones_fault_and_any_other_is() -> None:
    assert healthy_ns(guard_spans(RUN, MOVES, 1_200, 5_200), None) == (150, 130)


@pytest.mark.parametrize(("is_healthy", "expected"), [(True, 120 + 60), (False, 120)])
def test_what_the_guard_summed_counts_and_then_the_rest_as_it_was_last(is_healthy: bool, expected: int) -> None:
    """The wait after a gap is no gap: 10 ns more than the reasons of the moves say."""
    sampled = dict.fromkeys(Minute.__struct_fields__) | {"mono_ns": 1_140, "book_healthy": is_healthy}
    last = Minute(**(sampled | {"book_healthy_ns": 120}))  # pyright: ignore[reportArgumentType]
    assert healthy_ns(guard_spans(RUN, MOVES, 1_200, 5_200), last) == (expected, 130)
    unknown = msgspec.structs.replace(last, book_healthy=None)
    assert healthy_ns(guard_spans(RUN, MOVES, 1_200, 5_200), unknown) == (150, 130)


def test_an_end_before_the_last_move_takes_nothing_away() -> None:
    assert by_state(guard_spans(RUN, MOVES, 1_120, 5_120))["running"] == 70
