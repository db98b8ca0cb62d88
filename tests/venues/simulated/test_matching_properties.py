"""What must hold of the matching engine whatever the market and we do."""

from collections.abc import Iterator
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core.types import OrderStatus, Side
from mmdaemon.venues.simulated.matching import FillModel, Levels, Matching, PostOnly
from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule
from mmdaemon.venues.simulated.records import Executed, VenueOrder

sides = st.sampled_from(list(Side))
prices = st.integers(90, 110)
sizes = st.integers(1, 30)


@st.composite
def books(draw: st.DrawFn) -> tuple[str, Levels, Levels]:
    """Any book but for its order: gaps, thin sides, and now and then locked or crossed."""
    best_bid = draw(st.integers(92, 107))
    best_ask = best_bid + draw(st.sampled_from([1, 1, 1, 2, 3, 0, -1]))
    steps = st.lists(st.integers(1, 3), max_size=3)
    bids, asks = [best_bid], [best_ask]
    for step in draw(steps):
        bids.append(bids[-1] - step)
    for step in draw(steps):
        asks.append(asks[-1] + step)
    return "book", tuple((px, draw(sizes)) for px in bids), tuple((px, draw(sizes)) for px in asks)


trades = st.tuples(st.just("trade"), prices, sizes, st.sampled_from([Side.BUY, Side.SELL, None]))
places = st.tuples(st.just("place"), sides, prices, sizes, st.booleans(), st.booleans(), st.booleans())
cancels = st.tuples(st.just("cancel"), st.integers(0, 15))
amends = st.tuples(st.just("amend"), st.integers(0, 15), prices, sizes)
queues = st.sampled_from([QueueModel(), QueueModel(QueueRule.PROB, 1), QueueModel(QueueRule.PROB, 3)])


class Play:
    """Plays one list of steps against one engine; keeps every order that was sent."""

    def __init__(self, model: FillModel, queue: QueueModel, post_only: PostOnly = PostOnly.CANCEL_LATER) -> None:
        self.matching = Matching(model, queue, post_only)
        self.sent: list[VenueOrder] = []
        self.fills: list[Executed] = []

    def steps(self, steps: list[tuple], *, reduce_only: bool) -> Iterator[tuple[tuple, list[Executed]]]:
        numbers = count()
        for step in steps:
            match step:
                case ("book", bids, asks):
                    happenings = self.matching.on_book(bids, asks)
                case ("trade", px, qty, aggressor):
                    happenings = self.matching.on_trade(px, qty, aggressor)
                case ("place", side, px, qty, post_only, reducing, ioc):
                    flags = post_only and not ioc, reducing and reduce_only, ioc
                    order = VenueOrder(f"o{next(numbers)}", side, px, qty, *flags)
                    self.sent.append(order)
                    happenings = self.matching.place(order)
                case ("cancel", at):
                    live = at < len(self.sent) and self.sent[at].remaining_lots
                    happenings = self.matching.cancel(self.sent[at], "cancelled") if live else ()
                case ("amend", at, px, qty):
                    live = at < len(self.sent) and self.sent[at].remaining_lots
                    happenings = self.matching.amend(self.sent[at], 1, px, qty) if live else ()
                case _:
                    raise AssertionError(step)
            fills = [happening for happening in happenings if isinstance(happening, Executed)]
            self.fills += fills
            yield step, fills

    def run(self, steps: list[tuple], *, reduce_only: bool = True) -> "Play":
        for _ in self.steps(steps, reduce_only=reduce_only):
            pass
        return self


anything = st.lists(st.one_of(books(), books(), trades, trades, places, places, cancels, amends), max_size=40)


@settings(max_examples=200)
@given(anything, st.sampled_from(list(FillModel)), queues, st.sampled_from(list(PostOnly)))
def test_no_lot_is_lost_or_made(steps: list[tuple], model: FillModel, queue: QueueModel, mode: PostOnly) -> None:
    play = Play(model, queue, mode)
    matching = play.matching
    for _ in play.steps(steps, reduce_only=True):
        for order in play.sent:
            assert order.filled_lots + order.remaining_lots + order.cancelled_lots == order.asked_lots
            assert 0 <= order.filled_lots <= order.asked_lots
            assert (order.status is OrderStatus.FILLED) == (order.filled_lots == order.qty_lots)
        live = [order for order in play.sent if order.remaining_lots]
        assert sorted(live, key=lambda o: o.number) == matching.live
        assert matching.position_lots == sum(o.side * o.filled_lots for o in play.sent)
        assert matching.open_buy_lots == sum(o.remaining_lots for o in live if o.side is Side.BUY)
        assert matching.open_sell_lots == sum(o.remaining_lots for o in live if o.side is Side.SELL)
        buys = [o.px_ticks for o in live if o.side is Side.BUY]
        sells = [o.px_ticks for o in live if o.side is Side.SELL]
        assert not buys or not sells or max(buys) < min(sells), "no own bid at or above an own ask"
        for side in Side:
            reducing = sum(o.remaining_lots for o in live if o.reduce_only and o.side is side)
            assert reducing <= max(0, -side * matching.position_lots)
    assert matching.position_lots == sum(fill.order.side * fill.qty_lots for fill in play.fills)


@settings(max_examples=200)
@given(anything, st.sampled_from(list(FillModel)), queues)
def test_a_fill_is_never_worse_than_the_limit_and_a_reduce_only_one_never_opens(
    steps: list[tuple], model: FillModel, queue: QueueModel
) -> None:
    play = Play(model, queue)
    position = 0
    for _, fills in play.steps(steps, reduce_only=True):
        for fill in fills:
            order = fill.order
            assert (order.px_ticks - fill.px_ticks) * order.side >= 0
            after = position + order.side * fill.qty_lots
            assert not order.reduce_only or (abs(after) < abs(position) and after * position >= 0)
            position = after


@settings(max_examples=300)
@given(anything, queues)
def test_fills_at_our_price_from_one_print_never_exceed_it(steps: list[tuple], queue: QueueModel) -> None:
    for step, fills in Play(FillModel.QUEUE, queue).steps(steps, reduce_only=True):
        if step[0] == "trade":
            assert sum(fill.qty_lots for fill in fills if fill.px_ticks == step[1]) <= step[2]


@settings(max_examples=200)
@given(anything, queues)
def test_what_we_take_between_two_books_was_displayed(steps: list[tuple], queue: QueueModel) -> None:
    play = Play(FillModel.QUEUE, queue)
    taken: dict[int, int] = {}
    for step, fills in play.steps(steps, reduce_only=True):
        displayed = dict(play.matching.bids) | dict(play.matching.asks)
        if step[0] == "book":
            taken = {}
        elif step[0] in ("place", "amend"):
            for fill in fills:
                taken[fill.px_ticks] = taken.get(fill.px_ticks, 0) + fill.qty_lots
                if play.matching.bids[0][0] < play.matching.asks[0][0]:
                    assert taken[fill.px_ticks] <= displayed[fill.px_ticks]


@settings(max_examples=200)
@given(anything, queues)
def test_our_place_in_the_queue_never_falls_back_without_an_amend(steps: list[tuple], queue: QueueModel) -> None:
    play = Play(FillModel.QUEUE, queue)
    before: dict[str, int] = {}
    for step, _ in play.steps(steps, reduce_only=True):
        ahead = {order.client_id: order.ahead_lots for order in play.matching.live}
        for name, lots in ahead.items():
            known = before.get(name, -1)
            if known >= 0 and not (step[0] == "amend" and name == f"o{step[1]}"):
                assert 0 <= lots <= known
        before = ahead


def without_own_crosses(steps: list[tuple]) -> list[tuple]:
    """Drop orders that could meet an earlier one of ours: who rests then depends on who was filled."""
    kept: list[tuple] = []
    highest_buy, lowest_sell = 0, 1 << 30
    for step in steps:
        if step[0] == "place":
            side, px = step[1], step[2]
            if (side is Side.BUY and px >= lowest_sell) or (side is Side.SELL and px <= highest_buy):
                continue
            if side is Side.BUY:
                highest_buy = max(highest_buy, px)
            else:
                lowest_sell = min(lowest_sell, px)
        kept.append(step)
    return kept


fixed_list = st.lists(st.one_of(books(), trades, trades, places, cancels), max_size=60).map(without_own_crosses)


@settings(max_examples=400)
@given(fixed_list, queues)
def test_filled_quantity_orders_through_queue_touch(steps: list[tuple], queue: QueueModel) -> None:
    """One fixed list of orders, order by order and after each step."""
    plays = [Play(model, queue) for model in (FillModel.THROUGH, FillModel.QUEUE, FillModel.TOUCH)]
    for _ in zip(*(play.steps(steps, reduce_only=False) for play in plays), strict=True):
        for through, queued, touch in zip(*(play.sent for play in plays), strict=True):
            assert through.filled_lots <= queued.filled_lots <= touch.filled_lots


def test_the_three_assumptions_do_differ() -> None:
    """The property above is not true for want of fills."""
    steps: list[tuple] = [
        ("book", ((99, 10),), ((101, 10),)),
        ("place", Side.BUY, 99, 5, True, False, False),
        ("trade", 99, 12, Side.SELL),
    ]
    models = FillModel.THROUGH, FillModel.QUEUE, FillModel.TOUCH
    assert [Play(model, QueueModel()).run(steps).sent[0].filled_lots for model in models] == [0, 2, 5]
