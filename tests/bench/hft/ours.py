"""Our side: the rule on the simulated venue, in virtual time."""

import time

from mmdaemon.clock import Clock, VirtualClock, run_virtual
from mmdaemon.core.commands import Cancel, Command, Place
from mmdaemon.core.events import BookUpdate, Event, Fill, OrderUpdate, RequestFailed
from mmdaemon.core.types import E10, NS, Purpose, Side
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.bench.hft import rule
from tests.bench.hft.setup import Seen, Sent, Setup, Told
from tests.bench.hft.stream import Stream

ROUNDS = 3
SIDES = (Side.BUY, Side.SELL)


class Trader:
    """What a strategy knows: it hears of books, fills and answers, and acts when told to decide."""

    def __init__(self, setup: Setup) -> None:
        self.seen: list[Seen] = []
        self.sent: list[Sent] = []
        self._setup = setup
        self._position = self._bid = self._ask = 0
        self._orders = [-1, -1]
        self._prices = [0, 0]
        self._asked = [False, False]

    def hear(self, event: Event) -> None:
        if isinstance(event, BookUpdate):
            self._bid, self._ask = event.bids[0][0], event.asks[0][0]
        elif isinstance(event, Fill):
            self._position += event.side * event.qty_lots
            self._end(event.client_id)
        elif isinstance(event, OrderUpdate):
            if event.status.is_terminal:
                self._end(event.client_id)
            elif (i := self._side_of(event.client_id)) is not None:
                self._asked[i] = False
        elif isinstance(event, RequestFailed) and (i := self._side_of(event.client_id)) is not None:
            self._asked[i] = False

    def _side_of(self, client_id: str) -> int | None:
        return self._orders.index(int(client_id)) if int(client_id) in self._orders else None

    def _end(self, client_id: str) -> None:
        i = self._side_of(client_id)
        if i is not None:
            self._orders[i], self._prices[i], self._asked[i] = -1, 0, False

    def decide(self, k: int) -> list[Command]:
        setup = self._setup
        self.seen.append(Seen(self._position, self._bid, self._ask, *self._orders))
        cancels: list[Command] = []
        places: list[Command] = []
        for i, side in enumerate(SIDES):
            px = rule.wanted(side, self._bid, self._ask, self._position, setup.most, setup.away_ticks)
            todo = rule.action(px, self._prices[i], self._asked[i])
            if todo == rule.CANCEL:
                self._asked[i] = True
                cancels.append(Cancel(str(self._orders[i]), risk=False))
            elif todo == rule.PLACE:
                self._asked[i] = True
                self._orders[i], self._prices[i] = 2 * k + i, px
                self.sent.append(Sent(2 * k + i, px, 0))
                places.append(
                    Place(str(2 * k + i), side, px, 1, Purpose.QUOTE, 0, post_only=True, reduce_only=False)
                )
        return cancels + places


def config(setup: Setup) -> SimulatedConfig:
    response = Delay(setup.response_ns / NS)
    return SimulatedConfig(
        start_e10=1_000_000_000 * E10,
        fills=FillModel.QUEUE,
        queue=QueueModel(QueueRule.RISK_AVERSE),
        post_only=PostOnly.REJECT,
        request=Delay(setup.request_ns / NS),
        response=response,
        stream=response,
        orders_per_s=1e6,
        cancels_per_s=1e6,
    )


def play(stream: Stream, setup: Setup, *, quoting: bool = True) -> tuple[Trader, SimulatedVenue, float]:
    """One run, and its seconds."""

    async def main(clock: VirtualClock) -> tuple[Trader, SimulatedVenue]:
        venue, trader = SimulatedVenue(stream, clock, config(setup)), Trader(setup)
        await venue.open(trader.hear)
        offset_ns = clock.wall_ns() - clock.mono_ns()
        for k in range(setup.decisions):
            await _until(clock, setup.first_ns + k * setup.every_ns - offset_ns)
            if quoting:
                for command in trader.decide(k):
                    await venue.send(command)
        return trader, venue

    begun = time.perf_counter()
    trader, venue = run_virtual(main, start_wall_ns=stream.start_ts_ns)
    return trader, venue, time.perf_counter() - begun


async def _until(clock: Clock, mono_ns: int) -> None:
    from asyncio import get_running_loop

    waiter = get_running_loop().create_future()
    clock.call_at(mono_ns, waiter.set_result, None)
    await waiter


def run(stream: Stream, setup: Setup) -> Told:
    rounds = [play(stream, setup) for _ in range(ROUNDS)]
    idle = [play(stream, setup, quoting=False) for _ in range(ROUNDS)]
    trader, venue, _ = rounds[0]
    truth = venue.truth()
    filled = {int(fill.client_id): fill.venue_ts_ns or 0 for fill in truth.fills}
    sent = [Sent(order.order, order.px_ticks, filled.get(order.order, 0)) for order in trader.sent]
    seconds = {
        "ours, venue and rule": min(took for _, _, took in rounds),
        "ours, venue alone": min(took for _, _, took in idle),
    }
    return Told(trader.seen, sent, seconds)
