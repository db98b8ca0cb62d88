"""The matching engine, rule by rule. Market: bids 99 98 97, asks 101 102 103, ten lots each, unless said otherwise."""

from collections.abc import Sequence
from typing import Any

import pytest

from mmdaemon.core.types import Liquidity, OrderStatus, Side
from mmdaemon.venues.simulated.matching import FillModel, Levels, Matching, PostOnly
from mmdaemon.venues.simulated.queueing import QueueModel, QueueRule
from mmdaemon.venues.simulated.records import Changed, Executed, Happening, Refused, VenueOrder

BUY, SELL = Side.BUY, Side.SELL
THROUGH, QUEUE, TOUCH = FillModel.THROUGH, FillModel.QUEUE, FillModel.TOUCH
BIDS: Levels = ((99, 10), (98, 10), (97, 10))
ASKS: Levels = ((101, 10), (102, 10), (103, 10))


def market(
    model: FillModel = QUEUE,
    *,
    bids: Levels = BIDS,
    asks: Levels = ASKS,
    queue: QueueModel | None = None,
    post_only: PostOnly = PostOnly.CANCEL_LATER,
) -> Matching:
    matching = Matching(model, queue, post_only)
    matching.on_book(bids, asks)
    return matching


def rest(matching: Matching, side: Side, px: int, qty: int = 5, name: str = "a", **flags: Any) -> VenueOrder:
    order = VenueOrder(name, side, px, qty, **flags)
    matching.place(order)
    return order


def executed(happenings: Sequence[Happening]) -> list[tuple[str, int, int]]:
    return [(h.order.client_id, h.px_ticks, h.qty_lots) for h in happenings if isinstance(h, Executed)]


# --- the table of fills -----------------------------------------------------------------------------------------------

FILLS = [
    # (side, print, aggressor, filled lots by THROUGH, QUEUE, TOUCH); our order: 5 at the touch behind 10
    (BUY, (98, 1), SELL, 5, 5, 5),
    (BUY, (98, 1), BUY, 5, 5, 5),
    (BUY, (98, 1), None, 5, 5, 5),
    (BUY, (99, 10), SELL, 0, 0, 5),
    (BUY, (99, 13), SELL, 0, 3, 5),
    (BUY, (99, 100), SELL, 0, 5, 5),
    (BUY, (99, 100), None, 0, 0, 0),
    (BUY, (99, 100), BUY, 0, 0, 0),
    (BUY, (100, 100), SELL, 0, 0, 0),
    (SELL, (102, 1), BUY, 5, 5, 5),
    (SELL, (102, 1), SELL, 5, 5, 5),
    (SELL, (101, 10), BUY, 0, 0, 5),
    (SELL, (101, 13), BUY, 0, 3, 5),
    (SELL, (101, 13), None, 0, 0, 0),
    (SELL, (101, 13), SELL, 0, 0, 0),
    (SELL, (100, 100), BUY, 0, 0, 0),
]


@pytest.mark.parametrize(("side", "printed", "aggressor", "through", "queue", "touch"), FILLS)
def test_what_a_print_fills(
    side: Side, printed: tuple[int, int], aggressor: Side | None, through: int, queue: int, touch: int
) -> None:
    for model, expected in ((THROUGH, through), (QUEUE, queue), (TOUCH, touch)):
        matching = market(model)
        order = rest(matching, side, 99 if side is BUY else 101)
        happenings = matching.on_trade(*printed, aggressor)
        assert order.filled_lots == expected, model
        assert all(px == order.px_ticks for _, px, _ in executed(happenings)), "a maker fills at its own price"
        assert matching.position_lots == side * expected


BOOKS = [
    # best bid and ask of the next book; what it fills of a buy at 99 in QUEUE and TOUCH
    ((97, 98), 5),
    ((98, 99), 5),
    ((99, 99), 0),
    ((98, 98), 0),
]


@pytest.mark.parametrize(("touch", "expected"), BOOKS)
def test_the_opposite_best_at_or_through_us_fills_but_never_a_locked_book(
    touch: tuple[int, int], expected: int
) -> None:
    for model in (THROUGH, QUEUE, TOUCH):
        matching = market(model)
        order = rest(matching, BUY, 99)
        matching.on_book(((touch[0], 10),), ((touch[1], 10),))
        assert order.filled_lots == (0 if model is THROUGH else expected)
        mirrored = market(model)
        order = rest(mirrored, SELL, 101)
        mirrored.on_book(((200 - touch[1], 10),), ((200 - touch[0], 10),))
        assert order.filled_lots == (0 if model is THROUGH else expected)


@pytest.mark.parametrize("book", [(((97, 1),), ()), ((), ((98, 1),)), (((99, 1),), ((98, 1),))])
def test_a_one_sided_or_crossed_book_is_neither_matched_nor_remembered(book: tuple[Levels, Levels]) -> None:
    matching = market()
    order = rest(matching, BUY, 100)
    assert matching.on_book(*book) == ()
    assert order.filled_lots == 0
    assert matching.books_ignored == 1
    assert matching.bids == BIDS


# --- queue ------------------------------------------------------------------------------------------------------------


def test_the_queue_ahead_is_eaten_first_and_then_us_in_parts() -> None:
    matching = market()
    order = rest(matching, BUY, 99)
    matching.on_trade(99, 4, SELL)
    assert order.ahead_lots == 6
    assert executed(matching.on_trade(99, 8, SELL)) == [("a", 99, 2)]
    assert order.status is OrderStatus.PARTIAL
    assert executed(matching.on_trade(99, 8, SELL)) == [("a", 99, 3)]
    assert order.status is OrderStatus.FILLED
    assert matching.live == []


def test_prints_and_the_book_that_shows_them_are_counted_once() -> None:
    for rule in QueueRule:
        matching = market(queue=QueueModel(rule, 1))
        order = rest(matching, BUY, 99)
        matching.on_trade(99, 4, SELL)
        matching.on_book(((99, 6), *BIDS[1:]), ASKS)
        assert order.ahead_lots == 6, rule
        matching.on_book(((99, 6), *BIDS[1:]), ASKS)
        assert order.ahead_lots == 6, rule


def test_prints_of_one_book_do_not_explain_the_fall_to_the_next() -> None:
    matching = market(queue=QueueModel(QueueRule.PROB, 1))
    order = rest(matching, BUY, 99)
    matching.on_book(((99, 30), *BIDS[1:]), ASKS)  # twenty joined behind us
    matching.on_trade(99, 4, SELL)
    matching.on_book(((99, 26), *BIDS[1:]), ASKS)
    assert order.ahead_lots == 6
    matching.on_book(((99, 13), *BIDS[1:]), ASKS)  # thirteen of twenty-six cancel: three of the six ahead
    assert order.ahead_lots == 3


def test_prints_before_we_came_leave_the_displayed_size_ahead_until_the_next_book() -> None:
    """The careful answer: some of what is displayed has gone, but the book does not say so yet."""
    for rule in QueueRule:
        matching = market(queue=QueueModel(rule, 1))
        matching.on_trade(99, 4, SELL)
        order = rest(matching, BUY, 99)
        assert order.ahead_lots == 10
        matching.on_book(((99, 6), *BIDS[1:]), ASKS)
        assert order.ahead_lots == 6


def test_cancellations_ahead_by_each_rule() -> None:
    for rule, expected in ((QueueRule.RISK_AVERSE, 10), (QueueRule.PROB, 8)):
        matching = market(queue=QueueModel(rule, 1))
        order = rest(matching, BUY, 99)
        matching.on_book(((99, 30), *BIDS[1:]), ASKS)  # twenty joined behind us
        matching.on_book(((99, 24), *BIDS[1:]), ASKS)  # and six of thirty cancelled
        assert order.ahead_lots == expected, rule


def test_an_order_that_improves_the_touch_or_fills_a_gap_is_first() -> None:
    gapped = market(bids=((99, 10), (97, 10)))
    for px in (100, 98):
        assert rest(gapped, BUY, px, name=str(px)).ahead_lots == 0


def test_deeper_than_displayed_is_unknown_until_the_level_comes_into_view() -> None:
    matching = market()
    order = rest(matching, BUY, 90)
    assert order.ahead_lots == -1
    matching.on_trade(90, 1_000, SELL)
    assert order.filled_lots == 0, "an unknown queue is not an empty one"
    matching.on_book(((95, 10), (90, 7)), ((100, 1),))
    assert order.ahead_lots == 7
    matching.on_trade(90, 8, SELL)
    assert order.filled_lots == 1


def test_what_is_learnt_of_a_near_level_is_not_taken_for_a_deep_one() -> None:
    matching = market()
    near, deep = rest(matching, BUY, 99, name="near"), rest(matching, BUY, 90, name="deep")
    matching.on_book(((99, 4), (98, 10)), ASKS)
    assert (near.ahead_lots, deep.ahead_lots) == (4, -1)
    matching.on_book(((99, 4), (90, 8)), ASKS)
    matching.on_book(((99, 4), (98, 10)), ASKS)
    assert deep.ahead_lots == 8, "out of view again, and nothing was learnt"


def test_a_level_that_comes_into_view_empty_has_nobody_ahead() -> None:
    matching = market()
    order = rest(matching, BUY, 90)
    matching.on_book(((95, 10), (89, 7)), ((100, 1),))
    assert order.ahead_lots == 0


def test_own_orders_at_one_price_share_a_print_in_time_priority() -> None:
    matching = market()
    first = rest(matching, BUY, 99, 5, "first")
    matching.on_book(((99, 14), *BIDS[1:]), ASKS)
    second = rest(matching, BUY, 99, 5, "second")
    # ten of the market, five of ours, four of the market, five of ours
    assert executed(matching.on_trade(99, 17, SELL)) == [("first", 99, 5)]
    assert second.ahead_lots == 2
    assert executed(matching.on_trade(99, 4, SELL)) == [("second", 99, 2)]
    assert (first.filled_lots, second.filled_lots) == (5, 2)


def test_better_priced_orders_of_ours_fill_first() -> None:
    matching = market()
    rest(matching, BUY, 98, 5, "far")
    rest(matching, BUY, 99, 5, "near")
    assert executed(matching.on_trade(90, 1, SELL)) == [("near", 99, 5), ("far", 98, 5)]


# --- taking -----------------------------------------------------------------------------------------------------------


def test_a_crossing_limit_takes_level_by_level_up_to_its_limit_and_rests_the_rest() -> None:
    matching = market()
    order = VenueOrder("a", BUY, 102, 25)
    happenings = matching.place(order)
    assert executed(happenings) == [("a", 101, 10), ("a", 102, 10)]
    assert all(h.liquidity is Liquidity.TAKER for h in happenings if isinstance(h, Executed))
    assert (order.status, order.remaining_lots, order.ahead_lots) == (OrderStatus.PARTIAL, 5, 0)
    assert matching.live == [order]
    assert (matching.open_buy_lots, matching.position_lots) == (5, 20)


def test_ioc_cancels_what_it_cannot_take() -> None:
    matching = market()
    order = VenueOrder("a", SELL, 99, 15, ioc=True)
    happenings = matching.place(order)
    assert executed(happenings) == [("a", 99, 10)]
    assert (order.status, order.reason, order.cancelled_lots) == (OrderStatus.CANCELLED, "ioc", 5)
    assert matching.live == []
    assert matching.open_sell_lots == 0


def test_depth_is_not_taken_twice_before_the_next_book() -> None:
    matching = market()
    assert executed(matching.place(VenueOrder("a", BUY, 101, 7, ioc=True))) == [("a", 101, 7)]
    assert executed(matching.place(VenueOrder("b", BUY, 102, 7, ioc=True))) == [("b", 101, 3), ("b", 102, 4)]
    matching.on_book(BIDS, ASKS)
    assert executed(matching.place(VenueOrder("c", BUY, 101, 7, ioc=True))) == [("c", 101, 7)]


def test_a_market_order_takes_whatever_is_displayed() -> None:
    matching = market()
    order = VenueOrder("venue:1", SELL, 0, 35)
    assert executed(matching.take(order)) == [("venue:1", 99, 10), ("venue:1", 98, 10), ("venue:1", 97, 10)]
    assert (order.status, order.cancelled_lots) == (OrderStatus.CANCELLED, 5)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_post_only_that_would_take_is_refused_at_once_or_accepted_and_cancelled() -> None:
    order = VenueOrder("a", BUY, 101, 5, post_only=True)
    (answer,) = market(post_only=PostOnly.REJECT).place(order)
    assert isinstance(answer, Changed)
    assert (answer.status, answer.reason) == (OrderStatus.REJECTED, "post_only")

    order = VenueOrder("a", BUY, 101, 5, post_only=True)
    answer, then = market(post_only=PostOnly.CANCEL_LATER).place(order)
    assert isinstance(answer, Changed)
    assert isinstance(then, Changed)
    assert (answer.status, answer.reason) == (OrderStatus.LIVE, "")
    assert (then.status, then.reason) == (OrderStatus.CANCELLED, "post_only")
    assert (order.filled_lots, order.cancelled_lots) == (0, 5)


def test_an_order_that_would_meet_our_own_is_refused() -> None:
    matching = market()
    rest(matching, BUY, 100)
    for px in (100, 99):
        refused = rest(matching, SELL, px, name="b")
        assert (refused.status, refused.reason) == (OrderStatus.REJECTED, "self_cross")
    assert rest(matching, SELL, 101, name="c").status is OrderStatus.LIVE


# --- reduce-only ------------------------------------------------------------------------------------------------------


def long(lots: int, **kwargs: Any) -> Matching:
    matching = market(bids=((99, 10), (98, 10)), asks=((101, lots), (102, 50)), **kwargs)
    matching.place(VenueOrder("open", BUY, 101, lots, ioc=True))
    assert matching.position_lots == lots
    return matching


def test_reduce_only_is_refused_where_it_would_not_reduce() -> None:
    assert rest(market(), SELL, 105, reduce_only=True).reason == "reduce_only"
    assert rest(long(10), BUY, 95, reduce_only=True).status is OrderStatus.REJECTED


def test_reduce_only_is_clipped_to_what_other_reduce_only_orders_leave() -> None:
    matching = long(10)
    first = rest(matching, SELL, 105, 7, "first", reduce_only=True)
    second = rest(matching, SELL, 106, 7, "second", reduce_only=True)
    third = rest(matching, SELL, 107, 7, "third", reduce_only=True)
    assert (first.qty_lots, second.qty_lots, second.cancelled_lots) == (7, 3, 4)
    assert third.reason == "reduce_only"
    assert matching.open_sell_lots == 10


def test_when_the_position_falls_the_youngest_reduce_only_orders_are_cut() -> None:
    matching = long(10)
    first = rest(matching, SELL, 105, 6, "first", reduce_only=True)
    second = rest(matching, SELL, 106, 4, "second", reduce_only=True)
    happenings = matching.place(VenueOrder("out", SELL, 98, 5, ioc=True))
    assert executed(happenings) == [("out", 99, 5)]
    assert (second.status, second.reason) == (OrderStatus.CANCELLED, "reduce_only")
    assert (first.remaining_lots, first.reason) == (5, "reduce_only")
    assert [h.order.client_id for h in happenings[1:] if isinstance(h, Changed)] == ["second", "first"]
    matching.place(VenueOrder("flip", SELL, 98, 12, ioc=True))
    assert first.status is OrderStatus.CANCELLED
    assert matching.open_sell_lots == 0


def test_a_sweep_fills_a_reduce_only_order_only_as_far_as_the_orders_before_it_left_a_position() -> None:
    matching = long(10)
    rest(matching, SELL, 105, 10, "reduce", reduce_only=True)
    rest(matching, SELL, 104, 8, "plain")
    assert executed(matching.on_trade(110, 1, BUY)) == [("plain", 104, 8), ("reduce", 105, 2)]
    assert matching.position_lots == 0


def test_a_reduce_only_order_that_a_sweep_leaves_nothing_to_close_is_cancelled_and_not_filled() -> None:
    matching = long(10)
    order = rest(matching, SELL, 105, 10, "reduce", reduce_only=True)
    rest(matching, SELL, 104, 10, "plain")
    assert executed(matching.on_trade(110, 1, BUY)) == [("plain", 104, 10)]
    assert (order.status, order.filled_lots) == (OrderStatus.CANCELLED, 0)


# --- amend and cancel -------------------------------------------------------------------------------------------------


def test_a_smaller_size_at_the_same_price_keeps_its_place() -> None:
    matching = market()
    order = rest(matching, BUY, 99, 5)
    matching.on_trade(99, 4, SELL)
    (answer,) = matching.amend(order, 1, 99, 3)
    assert isinstance(answer, Changed)
    assert (answer.qty_lots, answer.revision, order.ahead_lots) == (3, 1, 6)
    assert matching.open_buy_lots == 3


@pytest.mark.parametrize(("px", "qty"), [(99, 6), (98, 5), (98, 4)])
def test_any_other_amend_goes_to_the_back(px: int, qty: int) -> None:
    matching = market()
    order = rest(matching, BUY, 99, 5)
    matching.on_trade(99, 4, SELL)
    matching.amend(order, 1, px, qty)
    assert (order.px_ticks, order.qty_lots, order.ahead_lots) == (px, qty, 10)
    assert matching.open_buy_lots == qty


def test_own_orders_change_places_when_the_first_is_amended_up() -> None:
    matching = market(bids=((98, 10),))
    first, second = rest(matching, BUY, 99, 5, "first"), rest(matching, BUY, 99, 5, "second")
    matching.amend(first, 1, 99, 6)
    assert matching.live == [second, first]
    assert executed(matching.on_trade(99, 6, SELL)) == [("second", 99, 5), ("first", 99, 1)]


def test_an_amend_counts_what_is_filled_already() -> None:
    matching = market(bids=((98, 10),))
    order = rest(matching, BUY, 99, 5)
    matching.on_trade(99, 2, SELL)
    for qty in (1, 2):
        (answer,) = matching.amend(order, 1, 99, qty)
        assert isinstance(answer, Refused)
        assert answer.reason == "below_filled"
    matching.amend(order, 1, 99, 4)
    assert (order.remaining_lots, order.status, matching.open_buy_lots) == (2, OrderStatus.PARTIAL, 2)


def test_an_amend_that_crosses_takes_or_is_refused_if_post_only() -> None:
    matching = market()
    order = rest(matching, BUY, 99, 5)
    assert executed(matching.amend(order, 1, 101, 5)) == [("a", 101, 5)]

    matching = market(post_only=PostOnly.REJECT)
    order = rest(matching, BUY, 99, 5, post_only=True)
    (answer,) = matching.amend(order, 1, 101, 5)
    assert isinstance(answer, Refused)
    assert (answer.reason, order.px_ticks, order.status) == ("post_only", 99, OrderStatus.LIVE)

    matching = market(post_only=PostOnly.CANCEL_LATER)
    order = rest(matching, BUY, 99, 5, post_only=True)
    _, then = matching.amend(order, 1, 101, 5)
    assert isinstance(then, Changed)
    assert (then.status, then.reason, matching.open_buy_lots) == (OrderStatus.CANCELLED, "post_only", 0)


def test_an_amend_into_our_own_order_is_refused() -> None:
    matching = market()
    order = rest(matching, BUY, 99)
    rest(matching, SELL, 101, name="b")
    (answer,) = matching.amend(order, 1, 101, 5)
    assert isinstance(answer, Refused)
    assert answer.reason == "self_cross"


def test_a_reduce_only_amend_is_clipped() -> None:
    matching = long(10)
    order = rest(matching, SELL, 105, 5, reduce_only=True)
    matching.amend(order, 1, 105, 50)
    assert (order.qty_lots, order.asked_lots, order.cancelled_lots) == (10, 50, 40)
    matching.amend(order, 2, 105, 8)
    assert (order.qty_lots, order.asked_lots, order.cancelled_lots) == (8, 8, 0)


def test_a_reduce_only_amend_counts_what_is_filled_already() -> None:
    matching = long(10)
    order = rest(matching, SELL, 102, 10, reduce_only=True)
    matching.on_trade(102, 54, BUY)
    assert (order.filled_lots, matching.position_lots) == (4, 6)
    matching.amend(order, 1, 103, 20)
    assert (order.qty_lots, order.remaining_lots, matching.open_sell_lots) == (10, 6, 6)


def test_cancel_frees_the_rest() -> None:
    matching = market(bids=((98, 10),))
    order = rest(matching, BUY, 99, 5)
    matching.on_trade(99, 2, SELL)
    matching.cancel(order, "cancelled")
    assert (order.filled_lots, order.cancelled_lots, order.remaining_lots) == (2, 3, 0)
    assert matching.open_buy_lots == 0
    assert matching.on_trade(90, 100, SELL) == ()


def test_cancel_all() -> None:
    matching = market()
    rest(matching, BUY, 99)
    rest(matching, SELL, 101, name="b")
    assert [h.order.client_id for h in matching.cancel_all("cancelled")] == ["a", "b"]
    assert matching.live == []
