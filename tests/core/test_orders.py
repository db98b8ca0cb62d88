"""Order truth: the table, what is reserved and when it is freed, and a venue that delivers everything in any order."""

from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mmdaemon.core import orders as module
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import Fill, OrderAdopted, OrderUpdate, RequestFailed
from mmdaemon.core.orders import (
    CLOSED_KEPT,
    LIFE,
    Orders,
    WorkingOrder,
    next_id,
    on_adopted,
    on_fill,
    on_request_failed,
    on_update,
    overdue,
    reserved_full,
    submit,
    worst_case_lots,
)
from mmdaemon.core.types import TERMINAL, ExecKind, Liquidity, OrderStatus, Purpose, Side

S = OrderStatus
BUY, SELL = Side.BUY, Side.SELL


def place(client_id: str = "a", side: Side = BUY, px_ticks: int = 100, qty_lots: int = 10) -> Place:
    return Place(client_id, side, px_ticks, qty_lots, Purpose.QUOTE, 0, post_only=True, reduce_only=False)


def update(
    status: OrderStatus,
    cum: int | None = None,
    *,
    client_id: str = "a",
    px: int | None = None,
    qty: int | None = None,
    revision: int | None = None,
    mono_ns: int = 10,
    reason: str = "",
) -> OrderUpdate:
    return OrderUpdate(mono_ns, mono_ns, None, client_id, status, cum, px, qty, revision, reason)


def fill(
    qty: int,
    *,
    client_id: str = "a",
    side: Side = BUY,
    mono_ns: int = 10,
    trade_id: str = "t",
    kind: ExecKind = ExecKind.TRADE,
) -> Fill:
    return Fill(mono_ns, mono_ns, None, trade_id, client_id, side, 100, qty, 0, Liquidity.MAKER, kind)


def failed(request: str, *, client_id: str = "a", mono_ns: int = 10) -> RequestFailed:
    return RequestFailed(mono_ns, mono_ns, None, client_id, request, "no")


def adopted(status: OrderStatus, cum: int = 0, *, client_id: str = "a") -> OrderAdopted:
    return OrderAdopted(10, 10, None, client_id, BUY, 100, 10, cum, Purpose.QUOTE, False, status)


def with_order(*updates: OrderUpdate) -> tuple[Orders, WorkingOrder]:
    orders = Orders()
    submit(orders, place(), 1)
    order = orders.live["a"]
    for each in updates:
        on_update(orders, each)
    return orders, order


def test_a_refusal_as_a_duplicate_says_nothing_of_the_order_and_keeps_all_of_it_reserved() -> None:
    """The network doubled the request: the copy that came first may rest, and its answer may never come."""
    refused = update(S.REJECTED, 0, reason="duplicate")
    orders, order = with_order(refused)
    assert (order.status, order.reserved_lots, orders.reject_streak) == (S.UNKNOWN, 10, 0)
    assert on_update(orders, update(S.LIVE, 0))
    assert order.status is S.LIVE
    on_update(orders, refused)  # late: an order that rests is not ended by it either
    assert (order.status, orders.reserved_buy_lots) == (S.UNKNOWN, 10)
    on_update(orders, update(S.CANCELLED, 0))
    assert not orders.live


def reserved(orders: Orders) -> tuple[int, int]:
    sums = (orders.reserved_buy_lots, orders.reserved_sell_lots)
    assert sums == reserved_full(orders)
    return sums


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_docstring_shows_the_table() -> None:
    paragraph = next(part for part in (module.__doc__ or "").split("\n\n") if part.split()[:2] == ["sent", "live"])
    lines = [line.split() for line in paragraph.splitlines()]
    header = [S(word) for word in lines[0]]
    shown: dict[tuple[OrderStatus, OrderStatus], OrderStatus] = {}
    for current, *cells in lines[1:]:
        assert len(cells) == len(header)
        shown |= {(S(current), r): S(cell) for r, cell in zip(header, cells, strict=True) if cell != "."}
    assert [line[0] for line in lines[1:]] == list(S)
    assert shown == LIFE


def test_an_end_is_an_end_and_only_a_report_of_the_venue_leaves_unknown() -> None:
    for current in TERMINAL:
        assert {r for c, r in LIFE if c is current} == {current}
    assert (S.UNKNOWN, S.SENT) not in LIFE
    assert not any(reported is S.NEW for _, reported in LIFE)


@pytest.mark.parametrize("reported", list(S))
@pytest.mark.parametrize("current", list(S))
def test_what_the_table_does_not_have_is_counted_and_changes_no_status(current: S, reported: S) -> None:
    orders, order = with_order()
    order.status = current
    on_update(orders, update(reported, None if reported in TERMINAL else 3))
    if (current, reported) in LIFE:
        assert order.status is LIFE[current, reported] or (reported is S.LIVE and order.status is S.PARTIAL)
    else:
        assert order.status is current
        assert orders.anomalies[f"life:{current}->{reported}"] == 1
    assert reserved(orders)[0] in (0, 10)


# --- reserving and freeing --------------------------------------------------------------------------------------------


def test_everything_is_reserved_the_moment_the_command_is_emitted() -> None:
    orders = Orders()
    submit(orders, place("b", BUY, 100, 10), 1)
    submit(orders, place("s", SELL, 110, 7), 1)
    assert reserved(orders) == (10, 7)
    assert worst_case_lots(orders, 5, BUY) == 15
    assert worst_case_lots(orders, 5, SELL) == 2
    assert worst_case_lots(orders, -5, SELL) == 12


def test_a_new_order_has_no_history() -> None:
    """Whole: a moment, a figure or a revision that nobody stated would be believed later."""
    orders, order = with_order()
    assert order == WorkingOrder(
        *("a", BUY, 100, 10, Purpose.QUOTE, 0, True, False, S.NEW),
        *(1, 1),
        filled_lots=0,
        cum_filled_lots=0,
        cum_final=False,
        acked_ns=0,
        ended_ns=0,
        unknown_since_ns=0,
        cancel_sent_ns=0,
        cancel_refused_ns=0,
        amend_refused_ns=0,
        revision=0,
        revision_in_force=0,
        pending_px_ticks=0,
        pending_qty_lots=0,
        pending_ns=0,
        adopted=False,
    )
    assert orders == Orders({"a": order}, {}, 10, 0, 0, 0, 0, {})


def test_an_acknowledgement_of_the_cancel_frees_nothing_before_the_fills_are_in() -> None:
    orders, order = with_order(update(S.LIVE, 0), update(S.CANCELLED, 4))
    assert order.status is S.CANCELLED
    assert reserved(orders) == (10, 0)
    on_fill(orders, fill(3))
    assert reserved(orders) == (7, 0)
    assert on_fill(orders, fill(1))
    assert reserved(orders) == (0, 0)
    assert orders.live == {}
    assert orders.closed == {"a": 4}


def test_a_cancel_that_does_not_say_how_much_was_filled_frees_nothing() -> None:
    orders, order = with_order(update(S.PARTIAL, 4))
    on_fill(orders, fill(4))
    on_update(orders, update(S.CANCELLED, None))
    assert order.status is S.CANCELLED
    assert reserved(orders) == (6, 0)
    on_update(orders, update(S.PARTIAL, 4))  # a late copy of an older report is no last word either
    assert reserved(orders) == (6, 0)
    on_update(orders, update(S.CANCELLED, 4))
    assert orders.live == {}
    assert reserved(orders) == (0, 0)


def test_filled_means_the_size_in_force() -> None:
    orders, _ = with_order(update(S.FILLED, None))
    assert reserved(orders) == (10, 0)
    on_fill(orders, fill(9))
    assert "a" in orders.live
    on_fill(orders, fill(1))
    assert orders.closed == {"a": 10}


@pytest.mark.parametrize("qty", [None, 20])
def test_filled_with_an_amend_in_flight_says_nothing_without_a_figure(qty: int | None) -> None:
    orders, order = with_order(update(S.LIVE, 0))
    if qty is None:
        submit(orders, Amend("a", 1, 100, 20), 2)
    on_update(orders, update(S.FILLED, None, qty=qty))
    on_fill(orders, fill(10))
    assert order.status is S.FILLED
    assert reserved(orders) == (10 if qty is None else 0, 0)
    assert "a" in orders.live
    on_update(orders, update(S.FILLED, 10))
    assert orders.closed == {"a": 10}


def test_a_refused_order_is_freed_at_once() -> None:
    orders, _ = with_order(update(S.SENT))
    assert on_update(orders, update(S.REJECTED, reason="margin"))
    assert reserved(orders) == (0, 0)
    assert orders.closed == {"a": 0}
    assert orders.reject_streak == 1


@pytest.mark.parametrize("proof", [update(S.LIVE, 0), update(S.PARTIAL, 2), fill(2)])
def test_a_refusal_of_an_order_that_was_accepted_needs_a_figure(proof: OrderUpdate | Fill) -> None:
    orders, order = with_order()
    if isinstance(proof, Fill):
        on_fill(orders, proof)
    else:
        on_update(orders, proof)
    on_update(orders, update(S.REJECTED))
    assert order.status is S.REJECTED
    assert order.client_id in orders.live
    assert reserved(orders)[0] == 10 - order.filled_lots


def test_a_refusal_of_an_adopted_order_that_had_fills_needs_a_figure_too() -> None:
    orders = Orders()
    on_adopted(orders, adopted(S.UNKNOWN, 4))
    assert orders.live["a"].acked_ns == 0  # nothing but its fills shows that it was accepted
    on_update(orders, update(S.REJECTED))
    assert reserved(orders) == (6, 0)
    assert orders.anomalies == {}


def test_unknown_keeps_everything_until_the_venue_speaks() -> None:
    orders, order = with_order(update(S.SENT), update(S.UNKNOWN, reason="timeout", mono_ns=20))
    assert reserved(orders) == (10, 0)
    on_update(orders, update(S.UNKNOWN, reason="timeout", mono_ns=30))
    on_update(orders, update(S.SENT, mono_ns=31))
    on_request_failed(orders, failed("cancel"))
    assert order.status is S.UNKNOWN
    assert order.unknown_since_ns == 20
    on_fill(orders, fill(4))
    assert order.status is S.UNKNOWN
    assert reserved(orders) == (6, 0)
    on_update(orders, update(S.LIVE, 0))
    assert order.status is S.PARTIAL
    assert order.unknown_since_ns == 0
    assert orders.anomalies["life:unknown->sent"] == 1


def test_our_own_words_are_no_evidence() -> None:
    orders, order = with_order(update(S.LIVE, 0), update(S.UNKNOWN, 7, px=1, qty=1, revision=9))
    assert (order.px_ticks, order.qty_lots, order.cum_filled_lots, order.revision) == (100, 10, 0, 0)
    assert reserved(orders) == (10, 0)


def test_an_unknown_request_of_a_live_order_keeps_both_sizes() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 99, 4), 2)
    on_update(orders, update(S.UNKNOWN))
    assert reserved(orders) == (10, 0)
    on_update(orders, update(S.LIVE, 0, px=100, qty=10, revision=0))
    assert order.pending_ns == 2
    assert reserved(orders) == (10, 0)
    on_update(orders, update(S.LIVE, 0, px=99, qty=4, revision=1))
    assert order.pending_ns == 0
    assert (order.px_ticks, reserved(orders)) == (99, (4, 0))


def test_fills_before_the_acknowledgement() -> None:
    orders, order = with_order(update(S.SENT))
    assert on_fill(orders, fill(4, mono_ns=7))
    assert order.status is S.PARTIAL
    assert order.acked_ns == 7
    on_update(orders, update(S.LIVE, 0))
    assert order.status is S.PARTIAL
    assert orders.anomalies == {"life:partial->live": 1}
    assert (order.remaining_lots, reserved(orders)) == (6, (6, 0))


def test_reports_ahead_of_fills_and_fills_ahead_of_reports() -> None:
    orders, order = with_order(update(S.PARTIAL, 4))
    assert (order.remaining_lots, order.reserved_lots) == (6, 10)
    on_fill(orders, fill(4))
    on_fill(orders, fill(2))
    assert (order.remaining_lots, order.reserved_lots) == (4, 4)


def test_late_double_and_falling_reports_change_nothing() -> None:
    orders, order = with_order(update(S.LIVE, 0), update(S.PARTIAL, 6))
    for stale in (update(S.SENT), update(S.LIVE, 0), update(S.PARTIAL, 3), update(S.PARTIAL, 6)):
        assert not on_update(orders, stale)
    assert (order.status, order.cum_filled_lots) == (S.PARTIAL, 6)
    assert orders.anomalies == {"life:partial->sent": 1, "life:partial->live": 1, "cum_fell": 2}


def test_a_last_word_below_what_was_said_before_is_not_the_last_word() -> None:
    orders, _ = with_order(update(S.PARTIAL, 6))
    on_fill(orders, fill(6))
    on_update(orders, update(S.CANCELLED, 2))
    assert reserved(orders) == (4, 0)
    on_update(orders, update(S.CANCELLED, 6))
    assert orders.closed == {"a": 6}


def test_a_last_word_below_our_fills_frees_nothing() -> None:
    orders, _ = with_order(update(S.LIVE, 0))
    on_fill(orders, fill(6))
    on_update(orders, update(S.CANCELLED, 2))
    assert reserved(orders) == (4, 0)


def test_a_late_report_raises_what_is_awaited() -> None:
    orders, order = with_order(update(S.CANCELLED, 4), update(S.PARTIAL, 6))
    assert order.status is S.CANCELLED
    on_fill(orders, fill(4))
    assert reserved(orders) == (6, 0)
    on_fill(orders, fill(2))
    assert orders.closed == {"a": 6}


def test_overfill_is_counted_and_never_reserves_less_than_nothing() -> None:
    orders, _ = with_order(update(S.LIVE, 0))
    submit(orders, place("b", qty_lots=5), 1)
    on_fill(orders, fill(14))
    assert orders.anomalies == {"overfill": 1}
    assert reserved(orders) == (5, 0)
    on_update(orders, update(S.FILLED, 14))
    assert orders.closed == {"a": 14}
    assert orders.anomalies["cum_over_quantity"] == 1
    assert reserved(orders) == (5, 0)


def test_what_is_not_an_order_of_this_side_is_not_booked() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    assert not on_fill(orders, fill(4, side=SELL))
    assert order.filled_lots == 0
    assert orders.anomalies == {"fill_of_other_side": 1}


def test_late_news_of_closed_and_unknown_orders_is_recognised() -> None:
    orders, _ = with_order(update(S.LIVE, 0), update(S.CANCELLED, 0))
    assert not on_fill(orders, fill(1))
    assert not on_fill(orders, fill(1, client_id="x"))
    assert not on_fill(orders, fill(1, client_id="x"))
    assert not on_fill(orders, fill(1, client_id="", kind=ExecKind.LIQUIDATION))
    assert not on_update(orders, update(S.LIVE, 0))
    assert not on_update(orders, update(S.CANCELLED, 0))  # told again, and as expected: nothing to count
    assert not on_update(orders, update(S.CANCELLED, 0))
    assert not on_update(orders, update(S.CANCELLED, 1))
    assert not on_update(orders, update(S.LIVE, 0, client_id="x"))
    assert not on_request_failed(orders, failed("cancel"))
    assert not on_request_failed(orders, failed("cancel", client_id="x"))
    assert orders.anomalies == {
        "fill_after_close": 1,
        "fill_of_unknown_order": 2,
        "report_after_close": 1,
        "cum_grew_after_close": 1,
        "report_of_unknown_order": 1,
        "refusal_after_close": 1,
        "refusal_of_unknown_order": 1,
    }
    assert reserved(orders) == (0, 0)


@pytest.mark.parametrize("figure", [{"cum": -1}, {"px": 0}, {"qty": 0}, {"revision": -1}], ids=str)
def test_a_report_with_a_figure_that_cannot_be_is_counted_and_changes_nothing(figure: dict[str, Any]) -> None:
    orders, order = with_order(update(S.LIVE, 0))
    before = msgspec.structs.replace(order)
    assert not on_update(orders, update(S.CANCELLED, **figure))
    assert order == before
    assert orders.anomalies == {"bad_report": 1}


def test_the_memory_of_closed_orders_is_bounded_and_forgets_the_oldest() -> None:
    orders = Orders()
    for i in range(CLOSED_KEPT + 3):
        submit(orders, place(str(i)), 1)
        on_update(orders, update(S.REJECTED, client_id=str(i)))
    assert len(orders.closed) == CLOSED_KEPT
    assert next(iter(orders.closed)) == "3"


# --- amends and cancels -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("new_qty", "in_flight", "after"), [(20, 20, 20), (4, 10, 4)])
def test_an_amend_reserves_the_larger_size_until_it_is_in_force(new_qty: int, in_flight: int, after: int) -> None:
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 103, new_qty), 2)
    assert reserved(orders) == (in_flight, 0)
    assert order.worst_px_ticks == 103
    assert not on_update(orders, update(S.LIVE, 0, px=103, qty=new_qty))  # no revision: it may be about another amend
    assert reserved(orders) == (in_flight, 0)
    assert on_update(orders, update(S.LIVE, 0, revision=1, mono_ns=50))
    assert (order.px_ticks, order.qty_lots, order.pending_ns, order.priced_ns) == (103, new_qty, 0, 50)
    assert reserved(orders) == (after, 0)


def test_a_refused_amend_leaves_the_order_as_it_was() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 103, 20), 2)
    assert on_request_failed(orders, failed("amend", mono_ns=30))
    assert (order.px_ticks, order.worst_px_ticks, order.amend_refused_ns, order.status) == (100, 100, 30, S.LIVE)
    assert order.cancel_refused_ns == 0
    assert reserved(orders) == (10, 0)
    assert not on_request_failed(orders, failed("amend"))
    assert orders.anomalies == {"refusal_of_nothing": 1}
    submit(orders, Amend("a", 2, 104, 12), 40)
    assert order.revision == 2


def test_a_refused_cancel_does_not_end_an_amend_in_flight() -> None:
    """Nobody asked for a cancel (it was one of the kill switch): the larger size may come into force all the same."""
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 103, 20), 2)
    assert not on_request_failed(orders, failed("cancel"))
    assert (order.pending_ns, order.worst_px_ticks, order.cancel_refused_ns) == (2, 103, 0)
    assert reserved(orders) == (20, 0)
    assert orders.anomalies == {"refusal_of_nothing": 1}


def test_reports_of_older_revisions_are_late() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 103, 20), 2)
    on_update(orders, update(S.LIVE, 0, px=103, qty=20, revision=1))
    on_update(orders, update(S.LIVE, 0, px=100, qty=10, revision=0))
    assert (order.px_ticks, order.qty_lots) == (103, 20)
    assert orders.anomalies == {"stale_revision": 1}


def test_a_revision_that_landed_after_all_does_not_answer_for_the_next() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 103, 20), 2)
    on_request_failed(orders, failed("amend"))
    submit(orders, Amend("a", 2, 104, 30), 20)
    on_update(orders, update(S.LIVE, 0, px=103, qty=20, revision=1))
    assert (order.px_ticks, order.qty_lots, order.revision) == (103, 20, 2)
    assert (order.pending_px_ticks, reserved(orders)) == (104, (30, 0))


def test_an_amend_that_came_into_force_otherwise_than_asked_is_as_the_venue_says() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 103, 20), 2)
    on_update(orders, update(S.LIVE, 0, px=102, qty=15, revision=1))
    assert (order.px_ticks, order.qty_lots, order.pending_ns) == (102, 15, 0)
    assert (order.worst_px_ticks, reserved(orders)) == (102, (15, 0))


def test_a_report_without_revision_says_nothing_of_an_adopted_order_that_was_amended() -> None:
    orders = Orders()
    on_adopted(orders, adopted(S.LIVE))
    order = orders.live["a"]
    on_update(orders, update(S.LIVE, 0, px=103, qty=12, revision=3))
    assert not on_update(orders, update(S.LIVE, 0, px=100, qty=10))
    assert (order.revision, order.revision_in_force, order.px_ticks, order.qty_lots) == (3, 3, 103, 12)
    assert orders.anomalies == {}


def test_the_worst_price_of_a_sell_is_the_lower_one() -> None:
    orders = Orders()
    submit(orders, place(side=SELL), 1)
    on_update(orders, update(S.LIVE, 0))
    submit(orders, Amend("a", 1, 98, 10), 2)
    assert orders.live["a"].worst_px_ticks == 98
    on_update(orders, update(S.LIVE, 0, revision=1))
    submit(orders, Amend("a", 2, 105, 10), 2)
    assert orders.live["a"].worst_px_ticks == 98


def test_without_an_amend_a_size_cannot_change_but_a_price_can() -> None:
    orders, order = with_order(update(S.LIVE, 0, px=99, qty=3, mono_ns=33))
    assert (order.px_ticks, order.qty_lots, order.priced_ns) == (99, 10, 33)
    assert reserved(orders) == (10, 0)
    assert orders.anomalies == {"resized_by_venue": 1, "moved_by_venue": 1}


def test_a_failed_cancel_may_be_retried() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    submit(orders, Cancel("a", risk=False), 5)
    assert order.cancel_sent_ns == 5
    assert on_request_failed(orders, failed("cancel", mono_ns=9))
    assert (order.cancel_sent_ns, order.cancel_refused_ns, reserved(orders)) == (0, 9, (10, 0))
    assert order.amend_refused_ns == 0
    submit(orders, Cancel("a", risk=True), 11)
    assert order.cancel_sent_ns == 11
    on_update(orders, update(S.CANCELLED))
    assert order.cancel_sent_ns == 0
    submit(orders, Cancel("orphan", risk=True), 11)
    assert list(orders.live) == ["a"]


def test_bugs_of_the_caller_are_refused() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    with pytest.raises(ValueError, match="never used twice"):
        submit(orders, place(), 2)
    with pytest.raises(ValueError, match="no order"):
        submit(orders, Amend("x", 1, 100, 10), 2)
    with pytest.raises(ValueError, match="no order"):
        submit(orders, Amend("a", 0, 100, 10), 2)
    submit(orders, Amend("a", 1, 100, 10), 2)
    with pytest.raises(ValueError, match="no order"):
        submit(orders, Amend("a", 2, 100, 10), 2)
    assert order.revision == 1
    on_update(orders, update(S.CANCELLED, 0))
    with pytest.raises(ValueError, match="never used twice"):
        submit(orders, place(), 2)


# --- what changed, who is overdue, ids, adoption ----------------------------------------------------------------------


def test_each_report_says_whether_a_decision_may_change() -> None:
    orders, _ = with_order()
    assert not on_update(orders, update(S.SENT))
    assert on_update(orders, update(S.LIVE, 0))
    assert not on_update(orders, update(S.LIVE, 0))
    assert on_update(orders, update(S.PARTIAL, 2))
    assert not on_update(orders, update(S.PARTIAL, 2))
    assert on_update(orders, update(S.PARTIAL, 3))
    assert on_update(orders, update(S.UNKNOWN))
    assert not on_update(orders, update(S.UNKNOWN))


@pytest.mark.parametrize("at", [1, 100])
def test_overdue_lists_whatever_waits_too_long(at: int) -> None:
    orders = Orders()
    for client_id in ("quiet", "unacked", "unknown", "cancel", "amend", "awaiting", "full"):
        submit(orders, place(client_id), at)
    for client_id in ("quiet", "unknown", "cancel", "amend", "awaiting", "full"):
        on_update(orders, update(S.LIVE, 0, client_id=client_id, mono_ns=at))
    on_update(orders, update(S.UNKNOWN, client_id="unknown", mono_ns=at))
    submit(orders, Cancel("cancel", risk=False), at)
    submit(orders, Amend("amend", 1, 101, 10), at)
    on_update(orders, update(S.CANCELLED, 3, client_id="awaiting", mono_ns=at))
    on_fill(orders, fill(10, client_id="full", mono_ns=at))
    assert overdue(orders, at + 5, 5) == []
    assert overdue(orders, at + 6, 5) == ["unacked", "unknown", "cancel", "amend", "awaiting", "full"]


def test_ids_count_up_and_fit_the_venue() -> None:
    orders = Orders(counter=41)
    assert [next_id(orders, "ab2c", 7) for _ in range(2)] == ["mmab2c-7-42", "mmab2c-7-43"]
    assert orders.counter == 43
    assert next_id(Orders(), "ab2c", 0) == "mmab2c-0-1"
    for tag, epoch in (("a c", 7), ("", 7), ("äb2c", 7), ("ab2c", -1), ("ab2c", 10**20)):
        with pytest.raises(ValueError, match="client id"):
            next_id(Orders(counter=10**9), tag, epoch)


def test_reject_streak_counts_the_venues_refusals_in_a_row() -> None:
    orders = Orders()
    for i, reason in enumerate(("margin", "post_only", "gate:closed", "rate_limit", "unsent:budget")):
        submit(orders, place(f"r{i}"), 1)
        on_update(orders, update(S.REJECTED, client_id=f"r{i}", reason=reason))
    assert orders.reject_streak == 1
    submit(orders, place("ok"), 1)
    on_update(orders, update(S.LIVE, 0, client_id="ok"))
    assert orders.reject_streak == 0
    submit(orders, place("r9"), 1)
    on_update(orders, update(S.REJECTED, client_id="r9", reason="margin"))
    on_update(orders, update(S.PARTIAL, 1, client_id="ok"))  # news of an order taken long ago is no new acceptance
    on_update(orders, update(S.CANCELLED, 1, client_id="ok"))
    assert orders.reject_streak == 1


def test_every_refusal_on_end_makes_the_streak_longer() -> None:
    orders = Orders()
    for n in range(1, 5):
        submit(orders, place(f"r{n}"), 1)
        on_update(orders, update(S.REJECTED, client_id=f"r{n}", reason="margin"))
        assert orders.reject_streak == n


@pytest.mark.parametrize("status", [S.LIVE, S.PARTIAL, S.UNKNOWN, S.NEW])
def test_an_adopted_order_holds_what_is_not_yet_booked(status: OrderStatus) -> None:
    orders = Orders()
    assert on_adopted(orders, adopted(status, 4))
    order = orders.live["a"]
    assert reserved(orders) == (6, 0)
    assert order.adopted
    assert order.status is (S.PARTIAL if status is S.LIVE else status)
    on_fill(orders, fill(1))
    on_update(orders, update(S.CANCELLED, 5))
    assert orders.closed == {"a": 5}
    assert reserved(orders) == (0, 0)


@pytest.mark.parametrize("status", list(S))
def test_an_adopted_order_is_believed_no_further_than_its_status_goes(status: OrderStatus) -> None:
    orders = Orders()
    assert on_adopted(orders, adopted(status))
    assert orders.live["a"] == WorkingOrder(
        *("a", BUY, 100, 10, Purpose.QUOTE, 0, False, False, status),
        *(10, 10),
        acked_ns=0 if status in (S.NEW, S.SENT, S.UNKNOWN) else 10,
        ended_ns=10 if status in TERMINAL else 0,
        unknown_since_ns=10 if status is S.UNKNOWN else 0,
        adopted=True,
    )
    assert reserved(orders) == (10, 0)


def test_adoption_of_a_known_order_changes_nothing_but_a_closed_one_that_is_open_comes_back() -> None:
    orders, order = with_order(update(S.LIVE, 0))
    assert not on_adopted(orders, adopted(S.LIVE, 4))
    assert order.filled_lots == 0
    on_update(orders, update(S.CANCELLED, 0))
    assert not on_adopted(orders, adopted(S.CANCELLED))
    assert on_adopted(orders, adopted(S.LIVE))
    assert reserved(orders) == (10, 0)
    assert orders.closed == {}
    assert orders.anomalies == {"adopted_twice": 2, "open_after_close": 1}


def test_an_adopted_end_waits_for_a_figure_of_the_venue() -> None:
    orders = Orders()
    on_adopted(orders, adopted(S.CANCELLED, 4))
    assert reserved(orders) == (6, 0)
    assert overdue(orders, 100, 5) == ["a"]
    on_update(orders, update(S.CANCELLED, 4))
    assert orders.live == {}


# --- a venue that answers late, doubly, in any order, or not at all ---------------------------------------------------


@dataclass
class Resting:
    """The truth about one order. `open_lots` is what it can still trade, requests on their way included."""

    side: Side
    px_ticks: int
    qty_lots: int
    cum_lots: int = 0
    revision: int = 0
    status: OrderStatus = S.NEW
    requests: list[Place | Amend | Cancel] = field(default_factory=list)

    @property
    def can_trade(self) -> bool:
        return self.status in (S.LIVE, S.PARTIAL)

    @property
    def open_lots(self) -> int:
        if self.status in TERMINAL:
            return 0
        if self.status is S.NEW and not any(isinstance(request, Place) for request in self.requests):
            return 0
        sizes = [self.qty_lots, *(r.qty_lots for r in self.requests if isinstance(r, Amend))]
        return max(sizes) - self.cum_lots


class OrderLife(RuleBasedStateMachine):
    """Requests and reports travel separately, are delivered in any order, may be lost (not fills) or doubled."""

    @initialize()
    def start(self) -> None:
        self.orders = Orders()
        self.venue: dict[str, Resting] = {}
        self.wire: list[OrderUpdate | RequestFailed | Fill] = []
        self.booked: dict[str, int] = {}
        self.seen_cum: dict[str, int] = {}
        self.trades = 0
        self.now_ns = 1

    def report(self, client_id: str, status: OrderStatus, data: st.DataObject) -> None:
        truth = self.venue[client_id]
        tells_cum = data.draw(st.booleans(), label="tells cum")
        tells_revision = data.draw(st.booleans(), label="tells revision")
        self.wire.append(
            update(
                status,
                truth.cum_lots if tells_cum else None,
                client_id=client_id,
                px=truth.px_ticks,
                qty=truth.qty_lots,
                revision=truth.revision if tells_revision else None,
            )
        )

    def pick(self, data: st.DataObject, ids: list[str]) -> str:
        return data.draw(st.sampled_from(ids), label="order")

    # what we do

    @rule(side=st.sampled_from(Side), qty=st.integers(1, 9))
    def place(self, side: Side, qty: int) -> None:
        command = place(next_id(self.orders, "test", 1), side, 100, qty)
        submit(self.orders, command, self.now_ns)
        self.venue[command.client_id] = Resting(side, 100, qty, requests=[command])

    @precondition(lambda self: any(not o.pending_ns and not o.status.is_terminal for o in self.orders.live.values()))
    @rule(data=st.data(), px=st.integers(90, 110), more=st.integers(1, 9))
    def amend(self, data: st.DataObject, px: int, more: int) -> None:
        ready = [o for o in self.orders.live.values() if not o.pending_ns and not o.status.is_terminal]
        order = self.orders.live[self.pick(data, [o.client_id for o in ready])]
        command = Amend(order.client_id, order.revision + 1, px, order.known_filled_lots + more)
        submit(self.orders, command, self.now_ns)
        self.venue[order.client_id].requests.append(command)

    @precondition(lambda self: self.orders.live)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        command = Cancel(self.pick(data, list(self.orders.live)), risk=False)
        submit(self.orders, command, self.now_ns)
        self.venue[command.client_id].requests.append(command)

    # what happens to it

    def waiting(self) -> list[str]:
        return [client_id for client_id, truth in self.venue.items() if truth.requests]

    @precondition(lambda self: self.waiting())
    @rule(data=st.data(), lost=st.booleans(), timed_out=st.booleans(), refused=st.booleans())
    def arrive(self, data: st.DataObject, lost: bool, timed_out: bool, refused: bool) -> None:
        """A request arrives, or is lost on the way; its answer comes, or a time-out in its place."""
        client_id = self.pick(data, self.waiting())
        truth = self.venue[client_id]
        request = truth.requests.pop(data.draw(st.integers(0, len(truth.requests) - 1)))
        if lost or timed_out:
            self.wire.append(update(S.UNKNOWN, client_id=client_id, reason="timeout"))
        if lost:
            return
        match request:
            case Place() if refused:
                truth.status = S.REJECTED
                self.report(client_id, S.REJECTED, data)
            case Place():
                truth.status = S.LIVE
                self.report(client_id, S.LIVE, data)
            case Amend() if truth.can_trade and request.qty_lots > truth.cum_lots and not refused:
                truth.px_ticks, truth.qty_lots, truth.revision = request.px_ticks, request.qty_lots, request.revision
                self.report(client_id, truth.status, data)
            case Cancel() if truth.can_trade and not refused:
                truth.status = S.CANCELLED
                self.report(client_id, S.CANCELLED, data)
            case Amend():
                if not timed_out:
                    self.wire.append(failed("amend", client_id=client_id))
            case Cancel():
                if not timed_out:
                    self.wire.append(failed("cancel", client_id=client_id))

    @precondition(lambda self: any(truth.can_trade for truth in self.venue.values()))
    @rule(data=st.data(), share=st.integers(1, 9))
    def trade(self, data: st.DataObject, share: int) -> None:
        client_id = self.pick(data, [i for i, truth in self.venue.items() if truth.can_trade])
        truth = self.venue[client_id]
        qty = min(share, truth.qty_lots - truth.cum_lots)
        truth.cum_lots += qty
        truth.status = S.FILLED if truth.cum_lots == truth.qty_lots else S.PARTIAL
        self.trades += 1
        self.wire.append(fill(qty, client_id=client_id, side=truth.side, trade_id=str(self.trades)))
        self.report(client_id, truth.status, data)

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), doubled=st.booleans(), lost=st.booleans())
    def deliver(self, data: st.DataObject, doubled: bool, lost: bool) -> None:
        e = self.wire.pop(data.draw(st.integers(0, len(self.wire) - 1)))
        if isinstance(e, OrderUpdate):
            if doubled:
                self.wire.append(e)
            if lost:
                return
        self.hear(e)

    def hear(self, e: OrderUpdate | RequestFailed | Fill) -> None:
        self.now_ns += 1
        match e:
            case OrderUpdate():
                on_update(self.orders, e)
            case RequestFailed():
                on_request_failed(self.orders, e)
            case Fill():
                on_fill(self.orders, e)
                self.booked[e.client_id] = self.booked.get(e.client_id, 0) + e.qty_lots

    @rule()
    def reconcile(self) -> None:
        """Ask the venue about every order of which nothing is on its way any more."""
        on_the_wire = {e.client_id for e in self.wire}
        for client_id in list(self.orders.live):
            truth = self.venue[client_id]
            order = self.orders.live[client_id]
            if truth.requests or client_id in on_the_wire:
                continue
            if order.pending_ns and truth.revision < order.revision:
                self.hear(failed("amend", client_id=client_id))
            if order.cancel_sent_ns and truth.status not in TERMINAL:
                self.hear(failed("cancel", client_id=client_id))
            if truth.status is S.NEW:  # never arrived
                self.hear(update(S.REJECTED, 0, client_id=client_id, reason="absent"))
            else:
                self.hear(update(truth.status, truth.cum_lots, client_id=client_id, revision=truth.revision,
                                 px=truth.px_ticks, qty=truth.qty_lots))  # fmt: skip

    # what must hold

    @invariant()
    def sums_are_sums(self) -> None:
        reserved(self.orders)
        assert all(order.reserved_lots >= 0 for order in self.orders.live.values())

    @invariant()
    def nothing_that_may_trade_is_unreserved(self) -> None:
        """Order by order: what we booked and hold reserved covers what the venue filled and may still fill."""
        for client_id, truth in self.venue.items():
            order = self.orders.live.get(client_id)
            held = self.booked.get(client_id, 0) + (order.reserved_lots if order else 0)
            assert held >= truth.cum_lots + truth.open_lots, (client_id, truth, order)

    @invariant()
    def nothing_is_freed_early(self) -> None:
        for client_id, truth in self.venue.items():
            if client_id not in self.orders.live:
                assert not truth.open_lots
                assert self.orders.closed[client_id] == truth.cum_lots == self.booked.get(client_id, 0)

    @invariant()
    def unknown_is_never_freed_and_ends_are_ends(self) -> None:
        for client_id, order in self.orders.live.items():
            if order.status in TERMINAL:
                assert self.venue[client_id].status is order.status or order.status is S.REJECTED
            assert order.cum_filled_lots >= self.seen_cum.get(client_id, 0)
            assert order.cum_filled_lots <= self.venue[client_id].cum_lots
            assert order.filled_lots == self.booked.get(client_id, 0)
            self.seen_cum[client_id] = order.cum_filled_lots

    @invariant()
    def nothing_impossible_was_counted(self) -> None:
        lies = {"overfill", "cum_over_quantity", "fill_after_close", "fill_of_unknown_order", "cum_grew_after_close"}
        assert not lies & self.orders.anomalies.keys()

    def teardown(self) -> None:
        """Once everything has arrived, every truth is known, and cancelling what rests frees all there is."""
        if not hasattr(self, "orders"):
            return
        for truth in self.venue.values():
            truth.requests.clear()
            if truth.can_trade:
                truth.status = S.CANCELLED
        for e in self.wire:
            self.hear(e)
        self.wire.clear()
        self.reconcile()
        self.nothing_is_freed_early()
        assert self.orders.live == {}
        assert reserved(self.orders) == (0, 0)


OrderLife.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestOrderLife = OrderLife.TestCase


def test_a_late_refusal_of_an_earlier_amend_leaves_the_one_in_flight_reserved() -> None:
    orders = Orders()
    submit(orders, Place("mmtest-1-1", Side.BUY, 100, 10, Purpose.QUOTE, 0, post_only=True, reduce_only=False), 1)
    on_update(orders, OrderUpdate(2, 2, None, "mmtest-1-1", OrderStatus.LIVE, 0, 100, 10, 0, ""))
    submit(orders, Amend("mmtest-1-1", 1, 101, 20), 3)
    on_request_failed(orders, RequestFailed(4, 4, None, "mmtest-1-1", "amend", "busy", 1))
    submit(orders, Amend("mmtest-1-1", 2, 102, 30), 5)
    assert not on_request_failed(orders, RequestFailed(6, 6, None, "mmtest-1-1", "amend", "busy", 1))
    assert orders.live["mmtest-1-1"].reserved_lots == 30
    assert on_request_failed(orders, RequestFailed(7, 7, None, "mmtest-1-1", "amend", "busy", 2))
    assert orders.live["mmtest-1-1"].reserved_lots == 10
