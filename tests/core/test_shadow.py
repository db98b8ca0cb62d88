"""The second look: never differs from the incremental result, whatever happens, and sees it when it does."""

import pytest
from hypothesis import given

from mmdaemon.core import apply, engine, guard, orders, reasons, shadow
from mmdaemon.core.shadow import ShadowMismatch
from mmdaemon.core.state import Dirty
from mmdaemon.core.types import GuardState
from tests.core.build import MID, Desk, What, hostile, modest, params, play, realistic, running

PARAMS = params()
assert PARAMS.shadow


@given(realistic(60))
@modest(150)
def test_never_differs_in_a_market(history: list[What]) -> None:
    desk = running(PARAMS)
    for what in history:
        play(desk, what)


@given(hostile(60))
@modest(150)
def test_never_differs_under_anything(history: list[What]) -> None:
    desk = Desk(PARAMS)
    for what in history:
        play(desk, what)


@given(hostile(40))
@modest(60)
def test_never_differs_when_a_running_day_goes_wrong(history: list[What]) -> None:
    desk = running(params("desk", venue={"amend": False}))
    for what in history:
        play(desk, what)


@pytest.mark.parametrize("reason", [reasons.Reason.BOOK, reasons.Reason.MARK])
def test_a_missed_cure_of_stale_data_is_seen(reason: reasons.Reason, monkeypatch: pytest.MonkeyPatch) -> None:
    """The defect that once hid two thirds of a prototype's orders: the guard sleeps through the event that cures."""
    desk = running(PARAMS)
    desk.wait(11).all_of(desk.health(), desk.timer())
    assert desk.guard is GuardState.SOFT_PAUSE
    monkeypatch.setattr(apply, f"_{reason.name}_BIT", 0)  # what it looks at to know that a book or a mark cures
    with pytest.raises(ShadowMismatch, match="guard at event"):
        desk.wait(0.5).feed(desk.book() if reason is reasons.Reason.BOOK else desk.mark())


def test_a_deadline_slept_through_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = running(PARAMS)
    desk.healthy_second()
    monkeypatch.setattr(guard, "evaluate", lambda state, now, p: None)
    desk.state.guard.dirty = False
    with pytest.raises(ShadowMismatch, match=r"no_facts|book"):
        desk.wait(5).feed(desk.trade(desk.bid))


def test_a_fact_that_forgets_to_mark_the_guard_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = running(PARAMS)
    monkeypatch.setattr(apply, "_on_reconciled", lambda state, event: setattr(state.facts, "breaks", event.breaks))
    with pytest.raises(ShadowMismatch, match="position"):
        desk.feed(desk.reconciled("position: off"))


def test_a_reservation_that_drifts_is_seen() -> None:
    desk = running(PARAMS)
    desk.state.orders.reserved_buy_lots += 1
    with pytest.raises(ShadowMismatch, match="reservations"):
        desk.feed(desk.trade(desk.bid))


def test_an_order_changed_behind_the_sums_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = running(PARAMS)
    monkeypatch.setattr(orders, "_settle", lambda o, order, before: False)
    order = desk.live[0]
    with pytest.raises(ShadowMismatch, match="reservations"):
        desk.feed(desk.fill(order.side, 3, order.px_ticks, order.client_id))


def test_a_requote_gate_that_sleeps_through_a_move_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = running(PARAMS)
    monkeypatch.setattr(engine, "due", lambda state, event, p: False)
    with pytest.raises(ShadowMismatch, match=r"requote gate .* fair value"):
        desk.feed(desk.book(MID + 100, MID + 110))


def test_a_slow_factor_that_moves_unmarked_is_seen() -> None:
    desk = running(PARAMS)
    desk.state.sampled.carry_bps = 1.0
    with pytest.raises(ShadowMismatch, match=r"requote gate .* slept: decided on"):
        desk.feed(desk.trade(desk.bid))


def test_what_is_marked_for_the_next_event_is_no_difference() -> None:
    desk = running(PARAMS)
    desk.state.sampled.carry_bps = 1.0
    desk.state.dirty |= Dirty.COSTS
    shadow.check(desk.state, engine.observe(desk.state, PARAMS), PARAMS)


def test_costs_nothing_where_it_is_off() -> None:
    desk = running(PARAMS)
    desk.params = params(shadow=False)
    desk.state.orders.reserved_buy_lots += 1
    desk.feed(desk.trade(desk.bid))
