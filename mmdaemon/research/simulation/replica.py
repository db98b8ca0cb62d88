"""A copy of the venue's records that is behind: what reads are answered from, now and then.

While it is behind it keeps what there was to be read after each change. Of four reads one is answered as it is, the
others as of half to all of the lag before their answer came: behind one address there are several copies.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from mmdaemon.clock import VirtualClock
from mmdaemon.core.events import AccountSnapshot, Bill, Fill
from mmdaemon.core.types import NS
from mmdaemon.venues.base import Absent, OrderReport, VenueUnavailable
from mmdaemon.venues.simulated.latency import Draws
from mmdaemon.venues.simulated.venue import SimulatedVenue

Dated = TypeVar("Dated", Fill, Bill)
_KEPT_NS: Final = 10 * NS


class _Was(msgspec.Struct, frozen=True):
    """What was so from `at_ns` (venue time) on."""

    at_ns: int
    orders: dict[str, OrderReport]
    """Open ones."""
    account: AccountSnapshot | None


class Replica:
    """One per seed. `fall_behind` and `catch_up` begin and end it; `changed` is told of each change at the venue."""

    def __init__(self, venue: SimulatedVenue, clock: VirtualClock, seed: int, count: Callable[[str], None]) -> None:
        """`count` hears of each answer that is not what a fresh one would have been."""
        self._venue, self._clock = venue, clock
        self._venue_less_mono_ns = clock.wall_offset_ns
        self._draws = Draws(seed, "replica")
        self._count = count
        self._reads = self._behind = 0
        self._was: deque[_Was] = deque()
        self.lag_ns = 0
        """Longest that it is behind; 0: it is not."""
        self.orders_lag_ns = 0
        """The same of answers about orders, which the daemon's in-flight window has to cover."""

    def fall_behind(self, lag_ns: int, orders_lag_ns: int) -> None:
        """For good, until `catch_up` is called as often."""
        self._behind += 1
        self.lag_ns, self.orders_lag_ns = max(lag_ns, self.lag_ns), max(orders_lag_ns, self.orders_lag_ns)
        if self._behind == 1:
            self.changed(self._now_ns)

    def catch_up(self) -> None:
        self._behind -= 1
        if not self._behind:
            self.lag_ns = self.orders_lag_ns = 0
            self._was.clear()

    @property
    def _now_ns(self) -> int:
        return self._clock.mono_ns() + self._venue_less_mono_ns

    def changed(self, at_ns: int) -> None:
        if not self.lag_ns:
            return
        exchange, was = self._venue.exchange, self._was
        try:
            account = exchange.snapshot(at_ns)
        except VenueUnavailable:
            account = None
        was.append(_Was(at_ns, {each.client_id: each for each in exchange.open_orders()}, account))
        while len(was) > 1 and was[1].at_ns < at_ns - _KEPT_NS:
            was.popleft()

    def _as_of(self, lag_ns: int) -> tuple[int, _Was] | None:
        """Of which moment this read is answered, and what was so then; None: of now, or nothing has changed since."""
        if not lag_ns or not self._was:
            return None
        self._reads += 1
        if not self._draws.bits(2 * self._reads) & 3:
            return None
        at_ns = self._now_ns - lag_ns + self._draws.below(2 * self._reads + 1, lag_ns // 2 + 1)
        then = self._was[0]
        for each in self._was:
            if each.at_ns > at_ns:
                break
            then = each
        return None if then is self._was[-1] else (max(at_ns, then.at_ns), then)

    def _counted(self, fresh: object, stale: object) -> None:
        if fresh != stale:
            self._count("stale answer")

    def order(self, fresh: OrderReport | Absent) -> OrderReport | Absent:
        """An order that had ended by then is as it is; one that was not there yet is absent."""
        if (found := self._as_of(self.orders_lag_ns)) is None:
            return fresh
        at_ns, then = found
        stale: OrderReport | Absent = fresh
        if (known := then.orders.get(fresh.client_id)) is not None:
            stale = known
        else:
            order = self._venue.exchange.orders.get(fresh.client_id)
            if order is not None and order.arrived_ns > at_ns:
                stale = Absent(fresh.client_id)
        self._counted(fresh, stale)
        return stale

    def open_orders(self, fresh: list[OrderReport]) -> list[OrderReport]:
        if (found := self._as_of(self.orders_lag_ns)) is None:
            return fresh
        stale = list(found[1].orders.values())
        self._counted(fresh, stale)
        return stale

    def history(self, fresh: Sequence[Dated]) -> list[Dated]:
        """Fills or bills."""
        if (found := self._as_of(self.lag_ns)) is None:
            return list(fresh)
        stale = [each for each in fresh if (each.venue_ts_ns or 0) <= found[0]]
        self._counted(len(fresh), len(stale))
        return stale

    def snapshot(self, fresh: AccountSnapshot) -> AccountSnapshot:
        if (found := self._as_of(self.lag_ns)) is None or found[1].account is None:
            return fresh
        stale = msgspec.structs.replace(found[1].account, mono_ns=fresh.mono_ns, ts_ns=fresh.ts_ns)
        self._counted(fresh.position_lots, stale.position_lots)
        return stale
