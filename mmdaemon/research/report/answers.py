"""How long the venue took to answer, and what part of the orders was filled.

Latency counts from the moment of the event that a command followed from (which is what its row has), until the first
word of the venue that covers it, however it came: acknowledgement, refusal, or the order's end. A time-out of our own
is no word. What was never answered is counted apart.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

import msgspec

from mmdaemon.core.types import NS, OrderStatus
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow
from mmdaemon.research.report.records import UNKNOWN, Curve, Latency, Lines
from mmdaemon.research.report.words import milliseconds

_NO_WORD = frozenset({None, OrderStatus.NEW.value, OrderStatus.SENT.value, OrderStatus.UNKNOWN.value})
_ENDED = frozenset({OrderStatus.FILLED.value, OrderStatus.CANCELLED.value, OrderStatus.REJECTED.value})
_GIVEN_UP = "unanswered"
"""What the sender journals when it no longer waits for an answer."""
_CURVE_POINTS = 160
_BUCKETS = 48
_NICE_S = (60, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)


class Answers(msgspec.Struct):
    """Times in ns, and how many of their kind had no answer."""

    orders: list[int] = []
    amends: list[int] = []
    cancels: list[int] = []
    unanswered: dict[str, int] = {}


def answers(journal: JournalReader, epoch: int) -> Answers:
    """Time to the venue's word for each order, amend and cancel of a run."""
    found = Answers(unanswered={"orders": 0, "amends": 0, "cancels": 0})
    sent: dict[str, list[tuple[int, int]]] = {}
    for client_id, revision, ts_ns in journal.db.execute(
        "SELECT client_id, revision, ts_ns FROM intents WHERE epoch = ? ORDER BY client_id, revision", (epoch,)
    ):
        sent.setdefault(client_id, []).append((revision, ts_ns))
    for waiting in sent.values():
        waiting.reverse()  # the oldest last, to be popped
    cancelled: dict[str, list[int]] = {}
    for client_id, ts_ns in journal.db.execute(
        "SELECT client_id, ts_ns FROM cancels WHERE epoch = ? ORDER BY rowid DESC", (epoch,)
    ):
        cancelled.setdefault(client_id, []).append(ts_ns)
    given_up: list[int] = []
    for client_id, kind, status, revision, reason, ts_ns in journal.db.execute(
        "SELECT client_id, kind, status, revision, reason, ts_ns FROM order_events WHERE epoch = ? ORDER BY rowid",
        (epoch,),
    ):
        if kind == "cancel_failed":
            if reason == _GIVEN_UP:
                _answer(cancelled.get(client_id), ts_ns, given_up)
            else:
                _answer(cancelled.get(client_id), ts_ns, found.cancels)
            continue
        if kind == "amend_failed" and reason == _GIVEN_UP:
            continue
        if kind == "update" and status in _NO_WORD:
            continue
        ended = status in _ENDED
        waiting = sent.get(client_id, [])
        while waiting and waiting[-1][1] <= ts_ns and (ended or waiting[-1][0] <= (revision or 0)):
            rank, since_ns = waiting.pop()
            (found.amends if rank else found.orders).append(ts_ns - since_ns)
        if ended:
            _answer(cancelled.get(client_id), ts_ns, found.cancels)
    for waiting in sent.values():
        for rank, _ in waiting:
            found.unanswered["amends" if rank else "orders"] += 1
    found.unanswered["cancels"] = len(given_up) + sum(len(each) for each in cancelled.values())
    return found


def _answer(waiting: list[int] | None, ts_ns: int, into: list[int]) -> None:
    """All cancels of the order that were sent by then."""
    while waiting and waiting[-1] <= ts_ns:
        into.append(ts_ns - waiting.pop())


def fill_delays(fills: Sequence[FillRow]) -> list[int]:
    return [fill.ts_ns - fill.venue_ts_ns for fill in fills if fill.venue_ts_ns is not None]


def latencies(found: Answers, delays: Sequence[int], fills: int) -> list[Latency]:
    table = (
        ("order", "decided until acknowledged", found.orders, found.unanswered["orders"]),
        ("amend", "decided until acknowledged", found.amends, found.unanswered["amends"]),
        ("cancel", "decided until the order had ended", found.cancels, found.unanswered["cancels"]),
        ("fill", "venue's stamp until received; clocks' offset included", delays, fills - len(delays)),
    )
    return [
        Latency(
            name=name,
            what=what,
            count=f"{len(times):,}",
            p50=_quantile(times, 0.5),
            p90=_quantile(times, 0.9),
            p99=_quantile(times, 0.99),
            most=_quantile(times, 1.0),
            unanswered=f"{missing:,}",
        )
        for name, what, times, missing in table
    ]


def _quantile(times: Sequence[int], q: float) -> str:
    """The smallest time within which at least the share q came."""
    if not times:
        return UNKNOWN
    return milliseconds(sorted(times)[max(0, math.ceil(q * len(times)) - 1)])


def curve(found: Answers, delays: Sequence[int]) -> Curve:
    """Cumulative shares on a logarithmic grid of time."""
    kinds = {"order": found.orders, "amend": found.amends, "cancel": found.cancels, "fill": delays}
    positive = [ns / 1e6 for times in kinds.values() for ns in times if ns > 0]
    if not positive:
        return Curve(within_ms=[], share={})
    low, high = math.log10(min(positive) / 1.25), math.log10(max(positive) * 1.25)
    grid = [10 ** (low + (high - low) * i / (_CURVE_POINTS - 1)) for i in range(_CURVE_POINTS)]
    share: dict[str, list[float | None]] = {}
    for name, times in kinds.items():
        if times:
            ordered = sorted(ns / 1e6 for ns in times)
            share[name] = [round(bisect_right(ordered, at) / len(ordered), 5) for at in grid]
    return Curve(within_ms=[round(at, 4) for at in grid], share=share)


# --- fill ratio -------------------------------------------------------------------------------------------------------


def fill_ratio(journal: JournalReader, epoch: int, from_ts_ns: int, to_ts_ns: int) -> tuple[Lines, int]:
    """(per stretch of time and cumulative, stretch in s). An order counts when it was placed,
    as filled if anything of it was by the end."""
    orders = journal.db.execute(
        "SELECT i.ts_ns, coalesce(o.filled_lots, 0) > 0 FROM intents i LEFT JOIN orders o USING (client_id) "
        "WHERE i.epoch = ? AND i.revision = 0 ORDER BY i.ts_ns",
        (epoch,),
    ).fetchall()
    span_s = max(1, (to_ts_ns - from_ts_ns) // NS)
    width_s = next((nice for nice in _NICE_S if span_s / nice <= _BUCKETS), _NICE_S[-1])
    buckets = range(from_ts_ns // (width_s * NS), to_ts_ns // (width_s * NS) + 1)
    placed, filled = dict.fromkeys(buckets, 0), dict.fromkeys(buckets, 0)
    for ts_ns, got in orders:
        bucket = min(max(ts_ns // (width_s * NS), buckets[0]), buckets[-1])
        placed[bucket] += 1
        filled[bucket] += got
    t: list[float] = []
    ratio: list[float | None] = []
    overall: list[float | None] = []
    count: list[float | None] = []
    so_far = of_them = 0
    for bucket in buckets:
        so_far, of_them = so_far + placed[bucket], of_them + filled[bucket]
        t.append(max(0.0, (bucket * width_s * NS - from_ts_ns) / 1e6))
        ratio.append(round(100 * filled[bucket] / placed[bucket], 2) if placed[bucket] else None)
        overall.append(round(100 * of_them / so_far, 2) if so_far else None)
        count.append(float(placed[bucket]))
    # The last stretch has an end too.
    t.append((to_ts_ns - from_ts_ns) / 1e6)
    for column in (ratio, overall, count):
        column.append(column[-1])
    columns = {"ratio": ratio, "overall": overall, "orders": count}
    return Lines(t_ms=t, columns=columns, rows=len(t)), width_s
