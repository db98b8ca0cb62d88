"""Why an order fared differently: what the market did at the time at which one side filled it and the other did not.

A cause is only given where the recording shows it: the book or the print is looked up, and where the queue decided, the
order's place is worked out again by the arithmetic of either side, and each must come to what that side said.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable

from mmdaemon.core.events import BookUpdate, TradePrint
from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule
from tests.bench.hft.setup import Sent, Setup

PASSED = "a print beyond our price whose taker was of our side: ours fills, theirs does not look"
ROUNDED = "the share of a cancellation that was ahead is cut to whole lots with us, a fraction with them"
BEHIND = "lots that printed are still counted as behind with them until the book shows it, and not with us"
UNEXPLAINED = "UNEXPLAINED"

Ahead = Callable[[float, float, float, float], float]
"""(ahead, displayed before, printed since, displayed now) -> ahead now."""


class Market:
    """What happened, to be looked up by the exchange's time."""

    def __init__(self, told: list[BookUpdate | TradePrint]) -> None:
        self._told = told
        self._times = [event.venue_ts_ns or 0 for event in told]

    def cause(self, ours: Sent, theirs: Sent, setup: Setup) -> str:
        """Empty where both fared alike."""
        if (ours.px_ticks, ours.filled_ns) == (theirs.px_ticks, theirs.filled_ns):
            return ""
        side, px = 1 - 2 * (ours.order % 2), ours.px_ticks
        if px != theirs.px_ticks:
            return UNEXPLAINED
        if _is_before(ours, theirs):
            prints = [event for event in self._at(ours.filled_ns) if isinstance(event, TradePrint)]
            if any((px - event.px_ticks) * side > 0 and event.aggressor == side for event in prints):
                return PASSED
        return self._queue_cause(ours, theirs, setup) if setup.exponent else UNEXPLAINED

    def _queue_cause(self, ours: Sent, theirs: Sent, setup: Setup) -> str:
        with_us, with_them, exact = (
            self._filled_ns(ours, max(ours.filled_ns, theirs.filled_ns), setup, ahead)
            for ahead in (_ours, _theirs, _exact)
        )
        if (with_us, with_them) != (ours.filled_ns, theirs.filled_ns):
            return UNEXPLAINED
        return ROUNDED if exact == with_them else BEHIND if exact == with_us else UNEXPLAINED

    def _filled_ns(self, order: Sent, until_ns: int, setup: Setup, rule: Callable[[int], Ahead]) -> int:
        """When an order would be filled by this arithmetic; 0 if not by `until_ns`."""
        side, px, ahead_after = 1 - 2 * (order.order % 2), order.px_ticks, rule(setup.exponent)
        arrives = setup.first_ns + order.order // 2 * setup.every_ns + setup.request_ns
        begin = bisect_right(self._times, arrives)
        before = next(event for event in reversed(self._told[:begin]) if isinstance(event, BookUpdate))
        seen = dict(before.bids if side > 0 else before.asks).get(px, 0)
        ahead, printed = float(seen), 0
        for event in self._told[begin : bisect_right(self._times, until_ns)]:
            at = event.venue_ts_ns or 0
            if isinstance(event, BookUpdate):
                if (px - (event.asks if side > 0 else event.bids)[0][0]) * side >= 0:
                    return at
                shown = dict(event.bids if side > 0 else event.asks).get(px, 0)
                if shown != seen or rule is not _theirs:  # they hear of a level only when it changes
                    ahead, seen, printed = ahead_after(ahead, seen, printed, shown), shown, 0
            elif event.aggressor == -side and (px - event.px_ticks) * side >= 0:
                ahead, printed = ahead - event.qty_lots, printed + event.qty_lots
                if px != event.px_ticks or ahead < -0.5:
                    return at
        return 0

    def _at(self, ns: int) -> list[BookUpdate | TradePrint]:
        return self._told[bisect_left(self._times, ns) : bisect_right(self._times, ns)]


def _is_before(one: Sent, other: Sent) -> bool:
    return bool(one.filled_ns) and not 0 < other.filled_ns <= one.filled_ns


def _ours(exponent: int) -> Ahead:
    model = QueueModel(QueueRule.PROB, exponent)
    return lambda ahead, seen, printed, shown: model.ahead_after(
        max(int(ahead), 0), int(seen), int(printed), int(shown)
    )


def _exact(exponent: int) -> Ahead:
    """Ours without the rounding."""

    def ahead_after(ahead: float, seen: float, printed: float, shown: float) -> float:
        level, ahead = max(seen - printed, 0), max(ahead, 0.0)
        cancelled = level - shown
        if cancelled > 0 and ahead > 0:
            front, back = ahead**exponent, max(level - ahead, 0.0) ** exponent
            ahead -= min(cancelled * front / (front + back), ahead)
        return min(ahead, shown)

    return ahead_after


def _theirs(exponent: int) -> Ahead:
    """hftbacktest's `ProbQueueModel.depth` with `PowerProbQueueFunc`."""

    def ahead_after(ahead: float, seen: float, printed: float, shown: float) -> float:
        cancelled = seen - shown - printed
        if cancelled < 0:
            return min(ahead, shown)
        behind = seen - ahead
        front, back = ahead**exponent, behind**exponent
        share = back / (back + front) if back + front else 1.0
        return min(ahead - (1 - share) * cancelled + min(behind - share * cancelled, 0.0), shown)

    return ahead_after
