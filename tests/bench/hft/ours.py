"""Our side: the rule on the simulated venue, in virtual time."""

import time
from asyncio import get_running_loop
from collections import defaultdict

import msgspec

from mmdaemon.clock import Clock, VirtualClock, run_virtual
from mmdaemon.core.commands import Cancel, Command, Place
from mmdaemon.core.events import BookUpdate, Event, Fill, OrderUpdate, RequestFailed, TradePrint
from mmdaemon.core.types import E10, NS, OrderStatus, Purpose, Side
from mmdaemon.venues.simulated.config import SimulatedConfig
from mmdaemon.venues.simulated.latency import Delay
from mmdaemon.venues.simulated.matching import FillModel, PostOnly
from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.bench.hft import rule
from tests.bench.hft.setup import Seen, Sent, Setup, Told
from tests.bench.hft.stream import Stream

SIDES = (Side.BUY, Side.SELL)


class Trader:
    """What a strategy knows: it hears of books, fills and answers, and acts when told to decide."""

    def __init__(self, setup: Setup) -> None:
        self.seen: list[Seen] = []
        self.sent: list[tuple[int, int]] = []
        self.position_lots = 0
        self._setup = setup
        self._bid = self._ask = 0
        self._orders = [-1, -1]
        self._prices = [0, 0]
        self._asked = [False, False]

    def hear(self, event: Event) -> None:
        if isinstance(event, BookUpdate):
            self._bid, self._ask = event.bids[0][0], event.asks[0][0]
        elif isinstance(event, Fill):
            self.position_lots += event.side * event.qty_lots
        elif isinstance(event, OrderUpdate | RequestFailed) and int(event.client_id) in self._orders:
            i = self._orders.index(int(event.client_id))
            if isinstance(event, RequestFailed) or event.status is OrderStatus.LIVE:
                self._asked[i] = False
            elif event.status.is_terminal:
                self._orders[i], self._prices[i], self._asked[i] = -1, 0, False

    def decide(self, k: int) -> list[Command]:
        setup = self._setup
        self.seen.append(Seen(self.position_lots, self._bid, self._ask, *self._orders))
        cancels: list[Command] = []
        places: list[Command] = []
        for i, side in enumerate(SIDES):
            px = rule.wanted(side, self._bid, self._ask, self.position_lots, setup.most_lots, setup.away_ticks)
            todo = rule.action(px, self._prices[i], self._asked[i])
            if todo == rule.CANCEL:
                self._asked[i] = True
                cancels.append(Cancel(str(self._orders[i]), risk=False))
            elif todo == rule.PLACE:
                self._asked[i] = True
                self._orders[i], self._prices[i] = 2 * k + i, px
                self.sent.append((2 * k + i, px))
                places.append(
                    Place(
                        str(2 * k + i), side, px, setup.order_lots, Purpose.QUOTE, 0, post_only=True, reduce_only=False
                    )
                )
        return cancels + places


def config(setup: Setup) -> SimulatedConfig:
    response = Delay(setup.response_ns / NS)
    rule = QueueRule.PROB if setup.exponent else QueueRule.RISK_AVERSE
    return SimulatedConfig(
        start_e10=1_000_000_000 * E10,
        fills=FillModel.QUEUE,
        queue=QueueModel(rule, setup.exponent or 3),
        post_only=PostOnly.REJECT,
        request=Delay(setup.request_ns / NS),
        response=response,
        stream=response,
        orders_per_s=1e6,
        cancels_per_s=1e6,
    )


def play(stream: Stream, setup: Setup, *, quoting: bool = True) -> tuple[Trader, SimulatedVenue, float]:
    """One run, and its CPU seconds."""

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

    begun = time.process_time()
    trader, venue = run_virtual(main, start_wall_ns=stream.start_ts_ns)
    return trader, venue, time.process_time() - begun


async def _until(clock: Clock, mono_ns: int) -> None:
    waiter = get_running_loop().create_future()
    clock.call_at(mono_ns, waiter.set_result, None)
    await waiter


def tell(stream: Stream, setup: Setup) -> Told:
    """One run, and one of the market alone for its seconds."""
    trader, venue, seconds = play(stream, setup)
    filled = {int(fill.client_id): fill.venue_ts_ns or 0 for fill in venue.truth().fills}
    sent = [Sent(order, px, filled.get(order, 0)) for order, px in trader.sent]
    alone = play(stream, setup, quoting=False)[2]
    return Told(trader.seen, sent, {"ours, venue and rule": seconds, "ours, venue alone": alone})


# --- partial fills, which theirs cannot be asked about ----------------------------------------------------------------


class Footed(msgspec.Struct, frozen=True):
    """A run with orders larger than most prints. Whatever does not foot raises instead."""

    orders: int
    fills: int
    partly_filled: int
    """Orders with more than one fill, or cancelled after one."""
    balance_e10: int


def foot(stream: Stream, setup: Setup) -> Footed:
    """Hold the venue's wallet and orders against a second account, kept here from the fills alone.

    Raises:
        AssertionError: an order is filled beyond its size, its parts do not add up, more was filled at a price than
            printed there, the strategy's position is not the venue's, or cash, balance and equity are not those of
            the fills to the last 1e-10.
    """
    trader, venue, _ = play(stream, setup)
    truth, instrument = venue.truth(), stream.instrument
    by_order: dict[str, list[Fill]] = defaultdict(list)
    for fill in truth.fills:
        by_order[fill.client_id].append(fill)
    for client_id, order in truth.orders.items():
        filled = sum(fill.qty_lots for fill in by_order[client_id])
        assert filled == order.filled_lots <= order.asked_lots, client_id
        assert order.asked_lots == filled + order.remaining_lots + order.cancelled_lots, client_id
    printed: dict[tuple[int, int], int] = defaultdict(int)
    for event in stream.told:
        if isinstance(event, TradePrint):
            printed[event.venue_ts_ns or 0, event.px_ticks] += event.qty_lots
    parts = [fill for fills in by_order.values() for fill in fills[:-1]]
    for fill in parts:  # what is filled whole may have been passed through
        assert fill.qty_lots <= printed[fill.venue_ts_ns or 0, fill.px_ticks], fill
    position = sum(fill.side * fill.qty_lots for fill in truth.fills)
    paid_e10 = sum(fill.side * instrument.notional_e10(fill.px_ticks, fill.qty_lots) for fill in truth.fills)
    fees_e10 = sum(fill.fee_e10 for fill in truth.fills)
    wallet, mark = truth.wallet, stream.last_mid_ticks
    cash_e10 = venue.config.start_e10 - paid_e10 - fees_e10
    assert position == truth.position_lots == wallet.position_lots
    assert trader.position_lots == position, "the last fills were more than a response before the end"
    assert cash_e10 == wallet.cash_e10
    assert cash_e10 + position * mark * instrument.unit_e10 == wallet.equity_e10(mark)
    assert wallet.equity_e10(mark) == wallet.balance_e10 + wallet.unrealised_e10(mark)
    in_parts = [
        fills for name, fills in by_order.items() if len(fills) > 1 or (fills and truth.orders[name].cancelled_lots)
    ]
    return Footed(len(truth.orders), len(truth.fills), len(in_parts), wallet.balance_e10)
