"""Lists that come in pages, newest first. Nothing of them may be lost and nothing told twice.

ccxt's own pager looks for its cursor in the rows, where it is not, and stops after the first page; so this is ours.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from mmdaemon.core.events import Bill, Fill
from mmdaemon.core.types import NS
from mmdaemon.venues.base import Cursor, VenueUnavailable
from mmdaemon.venues.bitget import endpoints
from mmdaemon.venues.bitget.api import Endpoint, Request, Sends
from mmdaemon.venues.bitget.reading import unreadable

LIMIT: Final = 100
"""Rows of a page: the most that either API gives."""
PAGES_MAX: Final = 200
_DIGITS_MAX: Final = 40
WINDOW_MS: Final = 7 * 24 * 3_600 * 1_000
"""The longest time that one request may cover."""
KEPT_MS: Final = 90 * 24 * 3_600 * 1_000
"""How far back the venue answers."""

R = TypeVar("R")
F = TypeVar("F", Fill, Bill)
Page = Callable[[str], Awaitable[tuple[Sequence[R], str]]]
"""Rows after a cursor ("" = from the newest) and the cursor of the rest ("" = there is none)."""


async def every(endpoint: Endpoint, page: Page[R], id_of: Callable[[R], str]) -> list[R]:
    """All rows of all pages, each id once, as it was told last. The end is a page that is not full and has no cursor,
    or an empty one that leads nowhere new: a short page with a cursor, be it empty, may be a truncated one.

    Raises:
        VenueUnavailable: a cursor or a whole page comes again, a full page has no cursor, or there is no end.
    """
    found: dict[str, R] = {}
    cursors = {""}
    cursor = ""
    for _ in range(PAGES_MAX):
        rows, cursor = await page(cursor)
        if not rows:
            if not cursor or cursor in cursors:
                return list(found.values())
            cursors.add(cursor)
            continue
        known = len(found)
        found.update((id_of(row), row) for row in rows)
        if len(found) == known:
            raise unreadable(endpoint, "page", "comes again")
        if not cursor:
            if len(rows) >= LIMIT:
                raise unreadable(endpoint, "page", "is full and has no cursor")
            return list(found.values())
        if cursor in cursors:
            raise unreadable(endpoint, "cursor", "comes again")
        cursors.add(cursor)
    raise unreadable(endpoint, "page", "has no end")


def oldest(endpoint: Endpoint, ids: Sequence[str]) -> str:
    """The cursor of pages that are asked for by "ids less than": the smallest id. "" where there are no rows. It is
    taken from the rows, as `endId` is of other ids in some calls.

    Raises:
        VenueUnavailable: an id is no number.
    """
    if not all(len(each) <= _DIGITS_MAX and each.isascii() and each.isdecimal() for each in ids):
        raise unreadable(endpoint, "id", "not_a_number")
    return min(ids, key=int, default="")


async def venue_now_ns(sends: Sends) -> int:
    """The end of a history: the venue's clock, not ours.

    Raises:
        VenueUnavailable: it told none. Refused, Unanswered, Unsent as they are.
    """
    answer = await sends.ask(Request(endpoints.TIME, {}))
    if answer.venue_ts_ns <= 0:
        raise unreadable(endpoints.TIME, "requestTime", "is missing")
    return answer.venue_ts_ns


async def history(
    endpoint: Endpoint,
    since: Cursor,
    until_ns: int,
    page: Callable[[dict[str, str], str], Awaitable[tuple[Sequence[R], str]]],
    id_of: Callable[[R], str],
) -> list[R]:
    """All rows of a time, each id once. `page` takes a span of it as parameters, and a cursor.

    Raises:
        VenueUnavailable: as `every` and `windows`.
    """
    found: dict[str, R] = {}
    for begin_ms, end_ms in windows(endpoint, since.venue_ts_ns, until_ns):
        span = {"startTime": str(begin_ms), "endTime": str(end_ms), "limit": str(LIMIT)}
        for row in await every(endpoint, partial(page, span), id_of):
            found[id_of(row)] = row
    return list(found.values())


def in_order(facts: Iterable[F], since: Cursor, id_of: Callable[[F], str]) -> list[F]:
    """Those since `since`, each once, oldest first."""
    unique = {id_of(fact): fact for fact in facts if (fact.venue_ts_ns or 0) >= since.venue_ts_ns}
    return sorted(unique.values(), key=lambda fact: (fact.venue_ts_ns or 0, len(id_of(fact)), id_of(fact)))


def windows(endpoint: Endpoint, since_ns: int, until_ns: int) -> Iterator[tuple[int, int]]:
    """Spans (begin, end) in ms, both included, oldest first, which cover all from `since_ns` to `until_ns`.

    Raises:
        VenueUnavailable: the venue does not answer that far back.
    """
    ms = NS // 1_000
    until_ms = -(-until_ns // ms)
    begin_ms = min(since_ns // ms, until_ms)
    if begin_ms < until_ms - KEPT_MS:
        days = (until_ms - begin_ms) / (24 * 3_600 * 1_000)
        raise VenueUnavailable(f"{endpoint.path}: {days:.0f} days back were asked for, the venue answers for 90")
    while True:
        end_ms = min(begin_ms + WINDOW_MS, until_ms)
        yield begin_ms, end_ms
        if end_ms >= until_ms:
            return
        begin_ms = end_ms
