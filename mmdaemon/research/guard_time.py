"""Where a run's time went: state by state of the guard, to its end or to the last that it journaled.

Healthy time is time with a healthy book as the guard judged it, summed by the guard and kept with each minute: what it
waits after a gap is its own doing. A share of RUNNING is of healthy time, so that a feed's gap is not held against the
daemon, and a daemon that stands paused for a reason of its own is. Journals of before have no such sum: there it is all
of the run but the spans in which the guard's reasons named the book, or the recording was over.
"""

import msgspec

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import GuardState
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import Run as RunRow
from mmdaemon.journal.records import Transition
from mmdaemon.journal.rows import Minute

_UNHEALTHY = frozenset({Reason.BOOK.value, Reason.SOURCE_ENDED.value})


class GuardSpan(msgspec.Struct, frozen=True, kw_only=True):
    state: GuardState
    reasons: tuple[str, ...]
    from_mono_ns: int
    to_mono_ns: int
    from_ts_ns: int
    to_ts_ns: int

    @property
    def lasted_ns(self) -> int:
        return self.to_mono_ns - self.from_mono_ns

    @property
    def is_healthy(self) -> bool:
        """Whether there was a healthy book."""
        return self.state is not GuardState.STOPPING and _UNHEALTHY.isdisjoint(self.reasons)


def last_moment(journal: JournalReader, run: RunRow) -> tuple[int, int]:
    """(mono, UTC) of the run's end, else of the last that it journaled."""
    if run.ended_mono_ns is not None and run.ended_ts_ns is not None:
        return run.ended_mono_ns, run.ended_ts_ns
    last = (run.started_mono_ns, run.started_ts_ns)
    for table in ("minutes", "decisions", "transitions", "order_events", "fills", "reconciliations"):
        found = journal.db.execute(
            f"SELECT mono_ns, ts_ns FROM {table} WHERE epoch = ? ORDER BY mono_ns DESC LIMIT 1",  # noqa: S608 - our own
            (run.epoch,),
        ).fetchone()
        last = max(last, found or last)
    return last


def guard_spans(run: RunRow, moves: list[Transition], end_mono_ns: int, end_ts_ns: int) -> list[GuardSpan]:
    """The run's time, state by state. What it began with is the book's absence."""
    done: list[GuardSpan] = []
    state, reasons = GuardState.STARTING, (Reason.BOOK.value,)
    since = (run.started_mono_ns, run.started_ts_ns)

    def close(mono_ns: int, ts_ns: int) -> None:
        done.append(
            GuardSpan(
                state=state,
                reasons=tuple(reasons),
                from_mono_ns=since[0],
                to_mono_ns=max(since[0], mono_ns),
                from_ts_ns=since[1],
                to_ts_ns=max(since[1], ts_ns),
            )
        )

    for move in moves:
        close(move.mono_ns, move.ts_ns)
        state, reasons, since = move.to_state, tuple(move.reasons.split()), (move.mono_ns, move.ts_ns)
    close(end_mono_ns, end_ts_ns)
    return done


def healthy_ns(spans: list[GuardSpan], last: Minute | None) -> tuple[int, int]:
    """(time with a healthy book, of it in RUNNING). `last` is the run's last minute."""
    if last is not None and last.book_healthy is not None and last.book_healthy_ns is not None:
        later = [span for span in spans if span.to_mono_ns > last.mono_ns and span.state is not GuardState.STOPPING]
        rest_ns = sum(span.to_mono_ns - max(span.from_mono_ns, last.mono_ns) for span in later)
        running = sum(span.lasted_ns for span in spans if span.state is GuardState.RUNNING)
        return last.book_healthy_ns + (rest_ns if last.book_healthy else 0), running
    healthy = running = 0
    for span in spans:
        if not span.is_healthy:
            continue
        healthy += span.lasted_ns
        if span.state is GuardState.RUNNING:
            running += span.lasted_ns
    return healthy, running


def by_state(spans: list[GuardSpan]) -> dict[str, int]:
    """Time in each state, in ns, in the order in which they were first entered."""
    times: dict[str, int] = {}
    for span in spans:
        times[span.state.value] = times.get(span.state.value, 0) + span.lasted_ns
    return times
