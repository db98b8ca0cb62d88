"""Less to draw, and no extreme lost: which rows of a long table a picture needs."""

from collections.abc import Sequence
from itertools import pairwise

from mmdaemon.core.types import GuardState
from mmdaemon.research.report.records import Lines, Span

GRAVITY = {
    state: weight
    for weight, state in enumerate(
        (
            GuardState.RUNNING,
            GuardState.STOPPING,
            GuardState.STARTING,
            GuardState.RECONCILING,
            GuardState.REDUCING,
            GuardState.SOFT_PAUSE,
            GuardState.HARD_STOP,
        )
    )
}
"""Of several states together, the last in this order is the gravest."""
_WHY_SHOWN = 6


def kept_rows(t: Sequence[float], columns: Sequence[Sequence[float | None]], most: int) -> list[int]:
    """Indices of rows to draw, in order: all where there are at most `most`; else, of each of equal stretches of time,
    the first and last row and those at which a column is least or greatest, and where a column begins or ends to be
    known."""
    if len(t) <= most:
        return list(range(len(t)))
    stretches = max(1, most // (2 * len(columns) + 2))
    begin, length = t[0], (t[-1] - t[0]) / stretches or 1.0
    stretch = [int((at - begin) / length) for at in t]
    edges = [0, *(i for i in range(1, len(t)) if stretch[i] != stretch[i - 1])]
    keep: set[int] = set()
    for lo, hi in pairwise([*edges, len(t)]):
        keep |= {lo, hi - 1}
        for column in columns:
            known = [i for i in range(lo, hi) if column[i] is not None]
            if known:
                keep.add(min(known, key=lambda i: column[i] or 0.0))
                keep.add(max(known, key=lambda i: column[i] or 0.0))
            if 0 < len(known) < hi - lo:
                keep |= {known[0], known[-1]}
                # A hole of any length shows as one.
                keep.add(next(i for i in range(lo, hi) if column[i] is None))
    return sorted(keep)


def lines(
    t: Sequence[float], columns: dict[str, list[float | None]], most: int, by: Sequence[str] | None = None
) -> Lines:
    """The table, thinned to about `most` rows by the columns named in `by`, or by all."""
    watched = [columns[name] for name in (by or columns)]
    rows = kept_rows(t, watched, most)
    picked = {name: [column[i] for i in rows] for name, column in columns.items()}
    return Lines(t_ms=[t[i] for i in rows], columns=picked, rows=len(t))


def spans(whole: Sequence[Span], most: int) -> list[Span]:
    """At most about twice `most` stretches: of such as are too short to see, several become one, with their shares."""
    if len(whole) <= most:
        return list(whole)
    least = (whole[-1].to_ms - whole[0].from_ms) / most
    done: list[Span] = []
    group: list[Span] = []

    def close() -> None:
        if group:
            done.append(_merged(group))
            group.clear()

    for each in whole:
        if each.to_ms - each.from_ms >= least:
            close()
            done.append(each)
            continue
        group.append(each)
        if group[-1].to_ms - group[0].from_ms >= least:
            close()
    close()
    return done


def _merged(group: Sequence[Span]) -> Span:
    if len(group) == 1:
        return group[0]
    gravest = max(group, key=lambda span: _gravity(span.state))
    why = list(dict.fromkeys(word for span in group for word in span.why.split(", ") if word))
    shown = ", ".join(why[:_WHY_SHOWN]) + (", ..." if len(why) > _WHY_SHOWN else "")
    length = group[-1].to_ms - group[0].from_ms
    times: dict[str, float] = {}
    for span in group:
        times[span.state] = times.get(span.state, 0.0) + span.to_ms - span.from_ms
    shares = {state: round(time / length, 4) for state, time in times.items()}
    return Span(group[0].from_ms, group[-1].to_ms, gravest.state, shown, len(group), shares)


def _gravity(state: str) -> int:
    return GRAVITY[GuardState(state)] if state in set(GuardState) else 0
