"""The sweep read by read, at a venue that answers what it is told to: when it looks again, what it cancels, and what
it takes for proof. With whole daemons it is in test_kill_switch.py, with a real process's venue in test_direct.py."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.commands import Cancel, Command
from mmdaemon.core.types import NS, KillState, OrderStatus, Side
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.sweep import Progress, read_open_orders, sweep
from mmdaemon.venues.base import OrderReport, VenueUnavailable

S = KillState
MS = NS // 1_000

Answer = Sequence[str] | None
"""Ids that rest; None: the read fails."""


class Scripted:
    """The three verbs that the sweep needs, answered at once: reads from a list, and the last of it ever after."""

    def __init__(self, clock: VirtualClock, answers: Sequence[Answer], cancel_all_fails: bool = False) -> None:
        self.clock = clock
        self.answers = list(answers)
        self.cancel_all_fails = cancel_all_fails
        self.began_ns = clock.mono_ns()
        self.reads_ms: list[float] = []
        self.cancel_alls_ms: list[float] = []
        self.cancelled: list[str] = []

    def _now_ms(self) -> float:
        return (self.clock.mono_ns() - self.began_ns) / MS

    async def cancel_all(self) -> None:
        self.cancel_alls_ms.append(self._now_ms())
        if self.cancel_all_fails:
            raise VenueUnavailable("the test says so")

    async def send(self, command: Command) -> None:
        assert isinstance(command, Cancel)
        assert command.risk
        self.cancelled.append(command.client_id)

    async def open_orders(self) -> list[OrderReport]:
        self.reads_ms.append(self._now_ms())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise VenueUnavailable("the test says so")
        return [OrderReport(name, Side.BUY, 100, 1, 0, OrderStatus.LIVE, False) for name in answer]


class Swept:
    """A sweep from its beginning to VERIFIED."""

    def __init__(
        self, answers: Sequence[Answer], in_flight_ms: int = 250, known: Sequence[str] = (), **trouble: bool
    ) -> None:
        self.progress = Progress()
        self.reached: list[tuple[float, KillState]] = []

        async def main(clock: VirtualClock) -> Scripted:
            scripted = Scripted(clock, answers, **trouble)
            venue: Any = scripted
            steps = sweep(venue, clock, in_flight_ms * MS, lambda: known, self.progress)
            async for state in steps:
                self.reached.append((scripted._now_ms(), state))
            return scripted

        self.venue = run_virtual(main, start_wall_ns=1_767_225_600 * NS)


def test_before_anything_was_read_nothing_is_known() -> None:
    nothing = Progress()
    assert (nothing.tripped_ns, nothing.quiet_ns, nothing.orders_left, nothing.position_lots) == (0, 0, -1, None)
    assert (nothing.cancels, nothing.reads, nothing.failed_reads, nothing.late, nothing.slices) == (0, 0, 0, 0, 0)


def test_empty_twice_is_quiet_and_empty_for_the_whole_window_is_verified() -> None:
    swept = Swept([[]])
    assert swept.venue.reads_ms == [0, 50, 100, 150, 200, 250]
    assert swept.reached == [(50, S.QUIET), (250, S.VERIFIED)]
    assert swept.venue.cancel_alls_ms == [0]
    assert swept.progress.quiet_ns == swept.venue.began_ns + 50 * MS
    assert (swept.progress.reads, swept.progress.orders_left, swept.progress.cancels) == (6, 0, 0)
    assert (swept.progress.late, swept.progress.failed_reads) == (0, 0)


def test_looks_five_times_a_window_and_at_least_each_second() -> None:
    assert Swept([[]], 2_000).venue.reads_ms == [0, 50, 450, 850, 1_250, 1_650, 2_050]
    assert Swept([[]], 15_000).venue.reads_ms[:4] == [0, 50, 1_050, 2_050]


def test_one_read_verifies_nothing_however_short_the_window() -> None:
    swept = Swept([[]], 0)
    assert swept.reached == [(50, S.QUIET), (50, S.VERIFIED)]
    assert swept.progress.reads == 2


def test_cancels_all_by_symbol_and_each_id_once_until_nothing_rests() -> None:
    swept = Swept([["a", "b"], ["b"], []], known=("k", "a"))
    # First what is known; after a read that found something, 50 ms for the cancels to arrive, and that too.
    assert swept.venue.cancelled == ["k", "a", *("k", "a", "b"), *("k", "a", "b")]
    assert swept.venue.cancel_alls_ms == [0, 0, 50]
    assert swept.venue.reads_ms[:4] == [0, 50, 100, 150]
    assert swept.reached[0] == (150, S.QUIET)
    assert (swept.progress.cancels, swept.progress.late) == (8, 0)


def test_a_failed_cancel_of_the_symbol_holds_up_no_cancel_by_id() -> None:
    swept = Swept([["a"], []], known=("k",), cancel_all_fails=True)
    assert swept.venue.cancelled == ["k", "k", "a"]
    assert swept.progress.failed_reads == 2
    assert swept.reached[-1][1] is S.VERIFIED


def test_a_read_that_fails_is_repeated_ever_more_slowly_and_cancels_go_out_each_time() -> None:
    swept = Swept([*[None] * 9, []], known=("k",))
    begun = [0, 50, 150, 350, 750, 1_550, 3_150, 5_150, 7_150, 9_150]
    assert swept.venue.reads_ms[:10] == begun
    assert swept.venue.cancel_alls_ms == begun
    assert swept.venue.cancelled == ["k"] * 10
    assert (swept.progress.failed_reads, swept.progress.reads) == (9, len(swept.venue.reads_ms))
    # Never read while it failed: that is not the same as nothing.
    assert swept.reached[0] == (9_200, S.QUIET)


def test_a_read_that_was_answered_makes_the_next_failure_a_short_one() -> None:
    assert Swept([None, None, None, ["a"], None, []]).venue.reads_ms[:6] == [0, 50, 150, 350, 400, 450]


def test_a_failed_read_after_quiet_begins_the_window_anew_and_leaves_it_quiet() -> None:
    swept = Swept([[], [], None, []])
    assert swept.venue.reads_ms[:4] == [0, 50, 100, 150]
    # Nothing was seen that rests, so it is not KILLING again; but the whole window is counted from the next read.
    assert swept.reached == [(50, S.QUIET), (400, S.VERIFIED)]
    assert swept.venue.cancel_alls_ms == [0, 150]


def test_what_lands_after_quiet_begins_all_anew() -> None:
    swept = Swept([[], [], [], ["late", "later"], []])
    assert swept.reached == [(50, S.QUIET), (150, S.KILLING), (250, S.QUIET), (450, S.VERIFIED)]
    assert swept.progress.late == 2
    assert swept.venue.cancelled == ["late", "later"]
    assert swept.venue.cancel_alls_ms == [0, 150]
    assert swept.progress.quiet_ns == swept.venue.began_ns + 250 * MS


@pytest.mark.parametrize(("answer", "left"), [([], 0), (["a", "b"], 2), (None, -1)], ids=str)
def test_what_was_read_is_told_and_a_failure_is_not_nothing(answer: Answer, left: int) -> None:
    progress = Progress()

    async def main(clock: VirtualClock) -> list[OrderReport] | None:
        venue: Any = Scripted(clock, [answer])
        return await read_open_orders(venue, progress)

    rested = run_virtual(main, start_wall_ns=1_767_225_600 * NS)
    assert rested is None if answer is None else [report.client_id for report in rested or []] == answer
    assert (progress.reads, progress.failed_reads, progress.orders_left) == (1, int(answer is None), left)


class Silent(Scripted):
    """Of whose answers some come never, or late: `cancel_all` never, reads after so many milliseconds."""

    def __init__(self, clock: VirtualClock, answers: Sequence[Answer], took_ms: Sequence[int]) -> None:
        super().__init__(clock, answers)
        self.took_ms = list(took_ms)
        self.cancelled_ms: list[float] = []

    async def cancel_all(self) -> None:
        await super().cancel_all()
        await asyncio.Event().wait()

    async def send(self, command: Command) -> None:
        await super().send(command)
        self.cancelled_ms.append(self._now_ms())

    async def open_orders(self) -> list[OrderReport]:
        reports = await super().open_orders()
        await sleep_ns(self.clock, (self.took_ms.pop(0) if self.took_ms else 0) * MS)
        return reports


class Reached(list[tuple[float, KillState]]):
    """The states, with their ms."""


def silent(
    answers: Sequence[Answer], took_ms: Sequence[int], in_flight_ms: int = 250
) -> tuple[Silent, Progress, Reached]:
    progress, reached = Progress(), Reached()

    async def main(clock: VirtualClock) -> Silent:
        venue = Silent(clock, answers, took_ms)
        any_venue: Any = venue
        async for state in sweep(any_venue, clock, in_flight_ms * MS, lambda: ("k",), progress):
            reached.append((venue._now_ms(), state))
        assert {task.get_name() for task in asyncio.all_tasks()} & {"sweep.cancel_all"} == set()
        return venue

    return run_virtual(main, start_wall_ns=1_767_225_600 * NS), progress, reached


def test_a_cancel_of_the_symbol_that_is_never_answered_holds_up_nothing_for_long() -> None:
    venue, _, reached = silent([["a"], []], ())
    # At once, and again with what the first read found.
    assert venue.cancelled == ["k", "k", "a"]
    assert venue.cancelled_ms == [0, 100, 100]
    assert venue.cancel_alls_ms == [0, 100]
    assert venue.reads_ms[:2] == [100, 250]
    assert reached[0] == (300, S.QUIET)


def test_a_read_that_is_not_answered_is_asked_again_each_time_with_twice_the_patience() -> None:
    venue, progress, reached = silent([["a"], ["a"], ["a"], []], (9_999, 9_999, 900))
    # Given up after 250 and 500 ms; 900 ms is within the third one's second. Cancels go out in between.
    assert venue.reads_ms[:4] == [100, 500, 1_200, 2_250]
    assert venue.cancelled_ms[:3] == [0, 400, 1_100]
    assert progress.failed_reads == 2
    assert reached[0][1] is S.QUIET


def test_how_long_an_answer_took_is_no_part_of_how_long_nothing_rested() -> None:
    """The last read is of the moment that it was asked, and the first one of that when it was answered."""
    venue, _, reached = silent([[]], (0, 0, 240))
    assert venue.reads_ms == [100, 150, 200, 490]
    assert reached == [(150, S.QUIET), (490, S.VERIFIED)]
