from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.venues.base import Cursor, VenueUnavailable
from mmdaemon.venues.bitget import endpoints, paging
from tests.venues.bitget.answering import MS, NOW_MS

ENDPOINT = endpoints.CLASSIC_FILLS
DAY_MS = 86_400_000

rows_of = st.lists(st.integers(1, 500), unique=True, max_size=60)


def pages_by_id(ids: Sequence[int], size: int) -> paging.Page[str]:
    """As the classic API pages: newest first, below an id."""

    async def page(cursor: str) -> tuple[Sequence[str], str]:
        below = int(cursor) if cursor else 1 << 62
        rows = [str(each) for each in sorted(ids, reverse=True) if each < below][:size]
        return rows, paging.oldest(ENDPOINT, rows)

    return page


@given(rows_of, st.integers(1, 12))
async def test_every_row_comes_once_whatever_the_size_of_a_page(ids: list[int], size: int) -> None:
    """A page shorter than asked for is no end: the venue may cut one short."""
    found = await paging.every(ENDPOINT, pages_by_id(ids, size), lambda row: row)
    assert sorted(map(int, found)) == sorted(ids)


@given(rows_of, st.integers(1, 12), st.integers(0, 11))
async def test_pages_that_overlap_double_nothing(ids: list[int], size: int, overlap: int) -> None:
    """An opaque cursor whose pages begin again with the last rows of the page before."""
    rows = [str(each) for each in sorted(ids, reverse=True)]
    step = max(1, size - overlap)

    async def page(cursor: str) -> tuple[Sequence[str], str]:
        begin = int(cursor or 0)
        here = rows[begin : begin + size]
        return here, str(begin + step) if begin + size < len(rows) else ""

    assert await paging.every(ENDPOINT, page, lambda row: row) == rows


async def test_a_row_told_twice_is_as_it_was_told_last() -> None:
    told = iter([([("1", "old")], "a"), ([("1", "new"), ("2", "x")], ""), ([], "")])

    async def page(_: str) -> tuple[Sequence[tuple[str, str]], str]:
        return next(told)

    assert await paging.every(ENDPOINT, page, lambda row: row[0]) == [("1", "new"), ("2", "x")]


@pytest.mark.parametrize("last", ["", "b"])
async def test_an_empty_page_that_leads_on_is_no_end(last: str) -> None:
    """Of which all rows were another contract's, or that was cut: what rests may be on the next one."""
    told = iter([([], "a"), ([], "b"), (["1"], "c"), ([], last)])

    async def page(_: str) -> tuple[Sequence[str], str]:
        return next(told)

    assert await paging.every(ENDPOINT, page, lambda row: row) == ["1"]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([(["1"], "a"), (["2"], "a")], "cursor: comes again"),
        ([(["1"], "a"), (["1"], "b")], "page: comes again"),
        ([([str(n) for n in range(100)], "")], "is full and has no cursor"),
    ],
)
async def test_pages_that_lead_nowhere_are_refused(told: list[tuple[list[str], str]], why: str) -> None:
    pages = iter(told)

    async def page(_: str) -> tuple[Sequence[str], str]:
        return next(pages)

    with pytest.raises(VenueUnavailable, match=why):
        await paging.every(ENDPOINT, page, lambda row: row)


async def test_pages_without_end_are_refused() -> None:
    count = iter(range(10_000))

    async def page(_: str) -> tuple[Sequence[str], str]:
        n = next(count)
        return [str(n)], f"c{n}"

    with pytest.raises(VenueUnavailable, match="no end"):
        await paging.every(ENDPOINT, page, lambda row: row)
    assert next(count) <= paging.PAGES_MAX


async def test_a_venue_that_ignores_the_cursor_is_refused() -> None:
    async def page(_: str) -> tuple[Sequence[str], str]:
        rows = ["7", "6"]
        return rows, paging.oldest(ENDPOINT, rows)

    with pytest.raises(VenueUnavailable, match="comes again"):
        await paging.every(ENDPOINT, page, lambda row: row)


@given(st.integers(0, 89 * DAY_MS), st.integers(0, 999_999))
def test_windows_cover_all_and_none_is_too_long(back_ms: int, odd_ns: int) -> None:
    since_ns, until_ns = (NOW_MS - back_ms) * MS + odd_ns, NOW_MS * MS
    spans = list(paging.windows(ENDPOINT, since_ns, until_ns))
    assert spans[0][0] * MS <= since_ns
    assert spans[-1][1] * MS >= until_ns
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert all(0 <= end - begin <= paging.WINDOW_MS for begin, end in spans)
    assert len(spans) <= 14


def test_a_cursor_in_the_future_is_one_empty_window() -> None:
    assert list(paging.windows(ENDPOINT, (NOW_MS + 5_000) * MS, NOW_MS * MS)) == [(NOW_MS, NOW_MS)]


def test_further_back_than_the_venue_answers_is_refused() -> None:
    with pytest.raises(VenueUnavailable, match="91 days back were asked for, the venue answers for 90"):
        list(paging.windows(ENDPOINT, (NOW_MS - 91 * DAY_MS) * MS, NOW_MS * MS))


history_of = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=50)


@given(history_of, st.integers(1, 7), st.integers(0, 40))
async def test_a_history_of_many_windows_has_each_row_once(
    made: list[tuple[int, int]], size: int, since_day: int
) -> None:
    """Rows of equal times, rows on the border of two windows, any size of page."""
    rows: list[dict[str, Any]] = [
        {"id": str(n + 1), "t": NOW_MS - (40 - day) * DAY_MS + ms} for n, (day, ms) in enumerate(sorted(made))
    ]
    rows = [row for row in rows if row["t"] <= NOW_MS]

    async def page(span: dict[str, str], cursor: str) -> tuple[Sequence[dict[str, Any]], str]:
        first, last, below = int(span["startTime"]), int(span["endTime"]), int(cursor or 1 << 62)
        fits = [row for row in rows if first <= row["t"] <= last and int(row["id"]) < below]
        here = sorted(fits, key=lambda row: -int(row["id"]))[:size]
        return here, paging.oldest(ENDPOINT, [row["id"] for row in here])

    since = Cursor((NOW_MS - (40 - since_day) * DAY_MS) * MS)
    found = await paging.history(ENDPOINT, since, NOW_MS * MS, page, lambda row: row["id"])
    wanted = [row["id"] for row in rows if row["t"] * MS >= since.venue_ts_ns]
    assert sorted(int(row["id"]) for row in found) == [int(each) for each in wanted]
    assert len(found) == len({row["id"] for row in found})
