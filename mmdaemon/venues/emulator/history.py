"""A list of what happened, oldest first, read in pages from the newest on, as the venue serves it."""

from bisect import bisect_left, bisect_right
from typing import Generic, TypeVar

Row = TypeVar("Row")


class History(Generic[Row]):
    """Rows by rising number and rising time. The last `keep` are kept at least, twice as many at most."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._numbers: list[int] = []
        self._times_ms: list[int] = []
        self._rows: list[Row] = []

    def add(self, number: int, at_ms: int, row: Row) -> None:
        self._numbers.append(number)
        self._times_ms.append(at_ms)
        self._rows.append(row)
        if len(self._rows) > 2 * self._keep:
            for column in (self._numbers, self._times_ms, self._rows):
                del column[: -self._keep]

    def page(self, *, since_ms: int, until_ms: int, before_id: str, limit: int) -> list[Row]:
        """At most `limit` rows of [since, until], newest first; with `before_id`, only those numbered below it."""
        end = bisect_right(self._times_ms, until_ms)
        if before_id.isdecimal():
            end = min(end, bisect_left(self._numbers, int(before_id)))
        begin = max(bisect_left(self._times_ms, since_ms), end - limit)
        return self._rows[begin:end][::-1]
