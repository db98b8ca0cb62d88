"""Times during which something held, as sorted lists of (from, to) that do not touch one another."""

from collections.abc import Iterable, Sequence

Spans = list[tuple[int, int]]


def union(spans: Iterable[tuple[int, int]]) -> Spans:
    """Where at least one of them holds. They may overlap and come in any order; empty ones vanish."""
    made: Spans = []
    for begin, end in sorted(spans):
        if end <= begin:
            continue
        if made and begin <= made[-1][1]:
            made[-1] = made[-1][0], max(made[-1][1], end)
        else:
            made.append((begin, end))
    return made


def both(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> Spans:
    """Where both hold. Each is a union already."""
    made: Spans = []
    i = j = 0
    while i < len(one) and j < len(other):
        begin, end = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if begin < end:
            made.append((begin, end))
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return made


def length(spans: Sequence[tuple[int, int]]) -> int:
    return sum(end - begin for begin, end in spans)
