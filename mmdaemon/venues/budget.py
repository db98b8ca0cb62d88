"""How often one endpoint may be asked: at most 80 % of what the venue allows, in any stretch of time.

A bucket of tokens would let twice its size pass in one stretch, after a quiet one. How the venue counts is not known,
and this is within its limit however it does. The other fifth is for the kill switch's own process, which has the same
key and must not find the budget spent.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.types import NS
from mmdaemon.venues.bitget.api import Endpoint

SHARE: Final = 0.8
"""Of the venue's budget, what this process takes."""
BACK_OFF_S: Final = 1.0
"""How long a budget is halved after the venue said that it was too much."""

_LATE: Final = "budget"


class _Waiting:
    """A request before its turn. `turn` is None when it comes, and why not when it does not."""

    __slots__ = ("of", "too_late", "turn")

    def __init__(self, turn: "asyncio.Future[str | None]", of: object) -> None:
        self.turn, self.of = turn, of
        self.too_late: Timer | None = None

    def refuse(self, why: str) -> None:
        if not self.turn.done():
            self.turn.set_result(why)


class Budget:
    """First come, first served; at most `_most` in any `_span_ns`."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self.endpoint = endpoint
        self._most = max(1, int(SHARE * endpoint.burst))
        self._span_ns = round(max(self._most / (SHARE * endpoint.per_s), endpoint.burst / endpoint.per_s) * NS)
        self._clock = clock
        self._left: deque[int] = deque(maxlen=self._most)
        """When the last ones left."""
        self._waiting: deque[_Waiting] = deque()
        self._halved_until_ns = 0
        self._closed_until_ns = 0
        self._timer: Timer | None = None

    async def turn(self, within_s: float | None, of: object = None) -> str | None:
        """Wait for this request's turn. None is: now. Anything else is why it will not come: "budget" (not within
        `within_s` seconds; said at once where it can be foreseen), or what `drop` was given. `of`: whose turn it is."""
        now_ns = self._clock.mono_ns()
        if not self._waiting and self._free_at_ns(0, now_ns) <= now_ns:
            self._left.append(now_ns)
            return None
        until_ns = None if within_s is None else now_ns + round(within_s * NS)
        if until_ns is not None and self._free_at_ns(len(self._waiting), now_ns) >= until_ns:
            return _LATE
        waiting = _Waiting(asyncio.get_running_loop().create_future(), of)
        if until_ns is not None:
            waiting.too_late = self._clock.call_at(until_ns, waiting.refuse, _LATE)
        self._waiting.append(waiting)
        self._wake_for_next()
        try:
            return await waiting.turn
        finally:
            if waiting.too_late is not None:
                waiting.too_late.cancel()
            with suppress(ValueError):  # it is there no more, where its turn came
                self._waiting.remove(waiting)

    def limited(self, retry_after_s: float) -> None:
        """The venue said that it was too much."""
        now_ns = self._clock.mono_ns()
        self._halved_until_ns = now_ns + round(BACK_OFF_S * NS)
        self._closed_until_ns = max(self._closed_until_ns, now_ns + round(retry_after_s * NS))
        self._wake_for_next()

    def drop(self, why: str, of: object = None) -> bool:
        """Nobody waits any more, or (`of`) nobody for the turn of that. Whether somebody did."""
        dropped = [waiting for waiting in self._waiting if of is None or waiting.of is of]
        for waiting in dropped:
            self._waiting.remove(waiting)
            waiting.refuse(why)
        self._wake_for_next()
        return bool(dropped)

    def _free_at_ns(self, ahead: int, now_ns: int) -> int:
        """When it is the turn of one that has `ahead` waiting before it."""
        at_ns = max(now_ns, self._closed_until_ns)
        most = max(1, self._most // 2) if at_ns < self._halved_until_ns else self._most
        spans, behind = divmod(ahead, most)
        # The one that this one must keep a span behind: the `most`-th last of those that left, counted on.
        if len(self._left) + behind >= most:
            at_ns = max(at_ns, self._left[len(self._left) + behind - most] + self._span_ns)
        return at_ns + spans * self._span_ns

    def _wake_for_next(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._timer = self._clock.call_at(self._free_at_ns(0, self._clock.mono_ns()), self._let_go)

    def _let_go(self) -> None:
        self._timer = None
        now_ns = self._clock.mono_ns()
        while self._waiting and self._free_at_ns(0, now_ns) <= now_ns:
            waiting = self._waiting.popleft()
            if not waiting.turn.done():  # else its caller is gone, or was told that it is too late
                self._left.append(now_ns)
                waiting.turn.set_result(None)
        self._wake_for_next()
