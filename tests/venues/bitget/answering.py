"""A venue of canned answers: what is asked is kept, what is answered is a function of the request."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from mmdaemon.core.types import Instrument
from mmdaemon.venues.bitget.api import Answer, Request
from mmdaemon.venues.codec import Scale

MS = 1_000_000
NOW_MS = 1_760_000_000_000
"""2025-10-09 08:53:20 UTC: 20 s into a minute."""
BTC = Instrument.of(
    venue="bitget",
    symbol="BTCUSDT",
    tick_e10=1_000_000_000,
    lot_e10=1_000_000,
    min_qty_lots=1,
    max_qty_lots=12_000_000,
    min_notional_e10=50_000_000_000,
)
SCALE = Scale(BTC)

Reply = Callable[[Mapping[str, Any]], Any]


class Venue:
    """`replies[path]` makes the data of an answer from the request's parameters; an exception that it returns is
    raised. A path that is not there fails the test."""

    def __init__(self, replies: Mapping[str, Reply] | None = None) -> None:
        self.replies: dict[str, Reply] = dict(replies or {})
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.now_ms = NOW_MS

    async def ask(self, request: Request) -> Answer:
        params = request.params
        assert isinstance(params, Mapping)
        self.asked.append((request.endpoint.path, dict(params)))
        if request.endpoint.path == "/api/v2/public/time" and request.endpoint.path not in self.replies:
            return Answer(msgspec.Raw(b"{}"), self.now_ms * MS)
        data = self.replies[request.endpoint.path](params)
        if isinstance(data, BaseException):
            raise data
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        return Answer(msgspec.Raw(raw), self.now_ms * MS)

    def asked_of(self, path: str) -> list[dict[str, Any]]:
        return [params for asked, params in self.asked if asked == path]

    @property
    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = defaultdict(int)
        for path, _ in self.asked:
            counts[path] += 1
        return dict(counts)


def always(data: Any) -> Reply:
    return lambda _: data


def in_turn(*data: Any) -> Reply:
    """One after the other; the last for good."""
    left = list(data)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def by_id(rows: Sequence[Mapping[str, Any]], field: str, name: str, time: str = "") -> Reply:
    """A list of a classic account: newest id first, older than `idLessThan`, within the span; `null` when empty."""

    def page(params: Mapping[str, Any]) -> Any:
        below = int(params.get("idLessThan", 1 << 62))
        first, last = int(params.get("startTime", 0)), int(params.get("endTime", 1 << 62))
        fits = [row for row in rows if int(row[field]) < below and (not time or first <= int(row[time]) <= last)]
        found = sorted(fits, key=lambda row: int(row[field]), reverse=True)[: int(params.get("limit", 100))]
        return {name: found or None, "endId": found[-1][field] if found else None}

    return page
