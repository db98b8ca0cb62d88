"""The guard's state machine: precedence, the latch, gaps, and what each state lets out in the very step it is
entered."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given

from mmdaemon.core import guard
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import (
    BillKind,
    Event,
    HealthFacts,
    KillChanged,
    OperatorAction,
    OrderAdopted,
    Started,
    StopRequested,
    TaskDied,
)
from mmdaemon.core.guard import TRANSITIONS
from mmdaemon.core.types import E10, NS, GuardState, KillState, OrderStatus, Purpose, Side
from tests.core.build import (
    DAY_NS,
    EQUITY_E10,
    MID,
    QUOTING,
    T0_NS,
    Desk,
    What,
    hostile,
    modest,
    params,
    play,
    realistic,
    running,
)

PARAMS = params(guard={"soft_clear_s": 1.0, "private_gap_s": 5.0})
S = GuardState


def states(desk: Desk) -> list[GuardState]:
    return [moved.after for moved in desk.transitions]


def hard(desk: Desk) -> Desk:
    desk.feed(desk.health(facts_ok=False))
    assert desk.guard is S.HARD_STOP
    return desk


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_is_the_one_of_the_design() -> None:
    soft = {S.RUNNING, S.REDUCING, S.SOFT_PAUSE}
    assert {b for a, b in TRANSITIONS if a is S.STARTING} == {S.RECONCILING, S.HARD_STOP, S.STOPPING}
    assert {b for a, b in TRANSITIONS if a is S.RECONCILING} == {*soft, S.HARD_STOP, S.STOPPING}
    for a in soft:
        assert {b for x, b in TRANSITIONS if x is a} == {*soft - {a}, S.RECONCILING, S.HARD_STOP, S.STOPPING}
    assert {b for a, b in TRANSITIONS if a is S.HARD_STOP} == {S.RECONCILING, S.STOPPING}
    assert not [b for a, b in TRANSITIONS if a is S.STOPPING]


def check_machine(desk: Desk, history: list[What]) -> None:
    """Feed it; `Desk.feed` checks that every move is in the table. Here: precedence, the latch, and silence."""
    for what in history:
        for event, step in play(desk, what):
            slice_ = desk.state.guard
            if desk.state.facts.stop_reason:
                assert desk.guard is S.STOPPING
            elif slice_.latched:
                assert desk.guard is S.HARD_STOP
            elif not desk.state.facts.started and S.HARD_STOP not in states(desk):
                assert desk.guard is S.STARTING
            elif not slice_.reconciled:
                assert desk.guard is S.RECONCILING
            moved = step.transition
            if moved is not None and moved.before is S.HARD_STOP and moved.after is not S.STOPPING:
                assert moved.after is S.RECONCILING
                assert isinstance(event, OperatorAction)
                assert event.action == "resume"
            if moved is not None and moved.after in (S.RUNNING, S.REDUCING, S.SOFT_PAUSE):
                assert slice_.reconciled
            if desk.guard not in QUOTING:
                assert not any(isinstance(command, Place | Amend) for command in step.commands)
            if desk.guard is S.RUNNING:
                assert not slice_.active
            if slice_.raw & guard.ALL_MASK:
                assert desk.guard not in QUOTING


@given(hostile(40))
@modest(120)
def test_nothing_leaves_the_table_or_the_latch_from_the_first_event_on(history: list[What]) -> None:
    check_machine(Desk(PARAMS), history)


@given(realistic(40))
@modest(60)
def test_nothing_leaves_the_table_or_the_latch_while_it_works(history: list[What]) -> None:
    check_machine(running(PARAMS), history)


@given(hostile(25, without=("operator", "stop")))
@modest(60)
def test_a_hard_stop_survives_everything_but_an_operator(history: list[What]) -> None:
    desk = hard(running(PARAMS))
    for what in history:
        play(desk, what)
        assert desk.guard is S.HARD_STOP


def test_an_operator_action_that_is_none_is_a_defect() -> None:
    desk = running(PARAMS)
    with pytest.raises(ValueError, match="dance"):
        desk.feed(desk.operator("dance"))


# --- start ------------------------------------------------------------------------------------------------------------


def test_starts_by_way_of_reconciling_however_clean_the_world_looks() -> None:
    desk = Desk(PARAMS).start()
    assert states(desk)[0] is S.RECONCILING
    assert desk.transitions[0].before is S.STARTING
    assert states(desk)[-1] is S.RUNNING


def test_waits_for_the_journal_before_anything_else() -> None:
    desk = Desk(PARAMS)
    desk.all_of(desk.link("private", True), desk.reconciled(), desk.health(), desk.book())
    assert desk.guard is S.STARTING
    desk.feed(Started(*desk.now, 1, False))
    assert desk.guard is not S.STARTING


def test_is_not_reconciled_by_a_round_read_while_the_private_stream_was_down() -> None:
    desk = Desk(PARAMS)
    desk.all_of(Started(*desk.now, 1, False), desk.reconciled())
    assert desk.guard is S.RECONCILING
    desk.all_of(desk.link("private", True), desk.timer())
    assert desk.guard is S.RECONCILING
    desk.feed(desk.reconciled())
    assert desk.guard is not S.RECONCILING


def test_a_journaled_latch_starts_in_hard_stop() -> None:
    desk = Desk(PARAMS)
    desk.feed(Started(*desk.now, 2, True))
    assert states(desk) == [S.HARD_STOP]
    desk.all_of(desk.link("private", True), desk.reconciled(), desk.health())
    assert desk.guard is S.HARD_STOP


# --- precedence -------------------------------------------------------------------------------------------------------


def test_the_strongest_reason_decides_and_each_gives_way_to_the_next() -> None:
    desk = running(PARAMS)
    desk.feed(desk.account(EQUITY_E10, EQUITY_E10 // 6))
    assert desk.guard is S.REDUCING
    desk.feed(desk.health(lag_s=1.0))
    assert desk.guard is S.SOFT_PAUSE
    desk.feed(desk.link("private", False))
    desk.wait(5).all_of(desk.health(lag_s=1.0), desk.account(EQUITY_E10, EQUITY_E10 // 6), desk.book())
    assert desk.guard is S.RECONCILING
    desk.feed(TaskDied(*desk.now, "cost", "boom"))
    assert desk.guard is S.HARD_STOP
    desk.feed(StopRequested(*desk.now, "asked"))
    assert desk.guard is S.STOPPING
    desk.feed(desk.operator("resume"))
    assert desk.guard is S.STOPPING


def test_pause_outranks_reducing_and_reducing_comes_back_after_it() -> None:
    desk = running(PARAMS)
    desk.all_of(desk.account(EQUITY_E10, EQUITY_E10 // 6), desk.operator("pause"))
    assert desk.guard is S.SOFT_PAUSE
    desk.feed(desk.operator("resume"))
    desk.wait(1).all_of(desk.health(), desk.book())
    assert desk.guard is S.REDUCING
    assert desk.transitions[-1].reasons == ("margin_soft",)


# --- hard stop and resume ---------------------------------------------------------------------------------------------


def test_resume_leads_to_reconciling_and_only_a_clean_round_after_it_to_running() -> None:
    desk = hard(running(PARAMS))
    desk.all_of(desk.health(), desk.reconciled())  # clean, but before the resume: it counts for nothing
    desk.feed(desk.operator("resume"))
    assert desk.guard is S.RECONCILING
    desk.all_of(desk.book(), desk.timer())
    assert desk.guard is S.RECONCILING
    desk.feed(desk.reconciled("position: off by 3"))
    assert desk.guard is S.RECONCILING
    desk.feed(desk.reconciled())
    desk.seconds(2)
    assert desk.guard is S.RUNNING


def test_resume_while_the_reason_still_holds_changes_nothing() -> None:
    desk = hard(running(PARAMS))
    desk.feed(desk.operator("resume"))
    assert desk.guard is S.HARD_STOP
    assert desk.state.guard.latched


def test_a_daily_loss_outlasts_a_resume_until_the_next_day() -> None:
    desk = running(PARAMS)
    desk.feed(desk.bill(BillKind.FUNDING, -4_000 * E10))
    desk.feed(desk.operator("resume"))
    assert desk.guard is S.HARD_STOP
    desk.date_passes(DAY_NS)
    desk.all_of(desk.timer(), desk.operator("resume"))
    assert desk.guard is S.RECONCILING


@pytest.mark.parametrize("action", ["pause", "kill"])
def test_resume_is_the_only_verb_that_ends_a_hard_stop(action: str) -> None:
    desk = hard(running(PARAMS))
    desk.all_of(desk.health(), desk.operator(action))
    assert desk.guard is S.HARD_STOP


def test_resume_begins_to_count_anew_what_it_may() -> None:
    desk = running(PARAMS)
    for _ in range(3):
        desk.feed(desk.reconciled("x"))
    desk.feed(KillChanged(*desk.now, KillState.KILLED, "break"))
    desk.feed(desk.reconciled())
    desk.feed(desk.operator("resume"))
    facts = desk.state.facts
    assert (facts.kill, facts.kill_reason, facts.bad_reconciles) == (KillState.ARMED, "", 0)
    assert (desk.state.orders.reject_streak, desk.state.budgets.cancel_breaches, desk.state.budgets.fills_peak) == (
        0,
        0,
        0,
    )
    assert desk.guard is S.RECONCILING


def quoted_lots(desk: Desk) -> set[int]:
    assert desk.state.decision is not None
    return {quote.qty_lots for quote in desk.state.decision.quotes}


def resumed(desk: Desk) -> Desk:
    hard(desk).feed(desk.health())
    desk.feed(desk.operator("resume"))
    desk.feed(desk.reconciled())
    return desk


def test_the_first_quotes_after_a_resume_are_already_small() -> None:
    """Running again before any timer came: the reduced size must not wait for one."""
    desk = running(PARAMS)
    assert quoted_lots(desk) == {15}
    resumed(desk)
    assert desk.guard is S.RUNNING
    assert quoted_lots(desk) == {1}


def test_size_comes_back_ten_minutes_after_the_resume() -> None:
    desk = resumed(running(PARAMS))
    resumed_ns = desk.now_ns
    desk.seconds(1)
    desk.now_ns = resumed_ns + 599 * NS
    desk.healthy_second()
    assert desk.state.sampled.size_share == PARAMS.quotes.resume_size
    desk.now_ns = resumed_ns + 600 * NS - 1
    desk.healthy_second()
    assert desk.state.sampled.size_share == PARAMS.quotes.resume_size
    desk.now_ns += 1
    desk.healthy_second()
    assert desk.state.sampled.size_share == 1.0
    desk.seconds(2)
    assert quoted_lots(desk) == {15}


def test_the_end_of_a_pause_is_no_resume_of_a_latch() -> None:
    desk = running(PARAMS)
    desk.all_of(desk.operator("pause"), desk.operator("resume"))
    desk.seconds(2)
    assert desk.guard is S.RUNNING
    assert desk.state.risk.resumed_ns == 0
    assert quoted_lots(desk) == {15}


# --- the private gap --------------------------------------------------------------------------------------------------


def test_a_private_gap_leads_to_reconciling_and_takes_the_quotes_out() -> None:
    desk = running(PARAMS)
    ids = set(desk.state.orders.live)
    assert len(ids) == 6
    desk.feed(desk.link("private", False))
    began_ns = desk.now_ns
    for _ in range(4):
        desk.wait(1).all_of(desk.health(), desk.book())
    assert desk.guard is S.RUNNING
    assert desk.state.guard.deadline_ns <= began_ns + 5 * NS
    desk.now_ns = began_ns + 5 * NS - 1
    desk.all_of(desk.health(), desk.book())
    assert desk.guard is S.RUNNING
    assert desk.state.guard.deadline_ns == began_ns + 5 * NS
    desk.now_ns += 1
    step = desk.feed(desk.trade(desk.bid))
    assert desk.guard is S.RECONCILING
    assert {c.client_id for c in step.commands if isinstance(c, Cancel) and c.risk} == ids


def test_the_stream_coming_back_is_not_enough_a_clean_round_is() -> None:
    desk = running(PARAMS)
    desk.feed(desk.link("private", False))
    desk.wait(5).all_of(desk.health(), desk.book(), desk.timer())
    desk.feed(desk.reconciled())  # while it is down
    assert desk.guard is S.RECONCILING
    desk.all_of(desk.link("private", True), desk.health(), desk.book(), desk.timer())
    assert desk.guard is S.RECONCILING
    desk.feed(desk.reconciled())
    desk.seconds(2)
    assert desk.guard is S.RUNNING


def test_a_short_gap_that_was_reconciled_is_over() -> None:
    desk = running(PARAMS)
    desk.feed(desk.link("private", False))
    desk.wait(2).all_of(desk.link("private", True), desk.reconciled())
    desk.seconds(20)
    assert desk.guard is S.RUNNING
    assert states(desk).count(S.RECONCILING) == 1  # the one of the start


def test_while_the_stream_is_down_the_next_look_is_at_the_first_of_all_deadlines() -> None:
    """That of the gap hides no earlier one, and no later one hides it."""
    desk = running(PARAMS)
    desk.feed(desk.link("private", False))
    gap_ns = desk.now_ns + 5 * NS
    desk.feed(desk.book())  # stale before the gap is one
    seen: list[bool] = []
    for _ in range(5):
        desk.all_of(desk.timer())
        _, others_ns = guard.full(desk.state, desk.now_ns, PARAMS)
        assert desk.state.guard.deadline_ns == min(others_ns, gap_ns)
        seen.append(others_ns < gap_ns)
        desk.wait(0.9).all_of(desk.health(), desk.book())
    assert set(seen) == {True, False}


def test_a_short_gap_that_nobody_reconciled_is_a_gap() -> None:
    desk = running(PARAMS)
    desk.feed(desk.link("private", False))
    desk.wait(2).feed(desk.link("private", True))
    desk.wait(3).all_of(desk.health(), desk.book())
    assert desk.guard is S.RECONCILING


def test_going_down_again_does_not_begin_the_gap_anew() -> None:
    desk = running(PARAMS)
    desk.feed(desk.link("private", False))
    desk.wait(3).all_of(desk.link("private", False), desk.health(), desk.book())
    desk.wait(2).all_of(desk.health(), desk.book())
    assert desk.guard is S.RECONCILING


def test_what_was_seen_before_a_public_reconnect_is_not_a_book() -> None:
    desk = running(PARAMS)
    desk.all_of(desk.link("public", False), desk.link("public", True), desk.timer())
    assert desk.state.guard.raw == guard.BIT[guard.Reason.BOOK]
    desk.wait(0.5).all_of(desk.book(), desk.health())
    assert desk.state.guard.raw == 0


# --- what goes out ----------------------------------------------------------------------------------------------------

PAUSING: dict[str, Callable[[Desk], Event]] = {
    "operator": lambda d: d.operator("pause"),
    "clock": lambda d: d.health(offset_s=3.0),
    "break": lambda d: d.reconciled("position: off"),
    "public link": lambda d: d.link("public", False),
    "hard": lambda d: d.health(facts_ok=False),
    "kill": lambda d: d.operator("kill"),
    "stop": lambda d: StopRequested(*d.now, "SIGTERM"),
    "task": lambda d: TaskDied(*d.now, "timers", "boom"),
}


def whole_zoo(desk: Desk) -> Desk:
    """Quotes in every stage of life that may still rest: live, partly filled, unacknowledged, UNKNOWN, being
    amended."""
    live = desk.live
    desk.feed(desk.fill(live[0].side, 4, live[0].px_ticks, live[0].client_id))
    desk.feed(desk.update(live[1].client_id, OrderStatus.UNKNOWN, reason="timeout"))
    desk.wait(1).feed(desk.book(MID + 200, MID + 210))  # the rest is moved by amends
    desk.feed(OrderAdopted(*desk.now, "mmabcd-0-7", Side.BUY, MID - 900, 3, 0, Purpose.QUOTE, False, OrderStatus.LIVE))
    statuses = {order.status for order in desk.live}
    assert {OrderStatus.LIVE, OrderStatus.PARTIAL, OrderStatus.UNKNOWN} <= statuses
    assert any(order.pending_ns for order in desk.live)
    return desk


@pytest.mark.parametrize("why", PAUSING)
def test_a_pause_cancels_every_quote_in_the_same_step(why: str) -> None:
    desk = whole_zoo(running(PARAMS))
    # Whatever was asked for already is on its way and not asked for twice.
    expected = {order.client_id for order in desk.live if not order.cancel_sent_ns}
    assert len(expected) >= 6
    step = desk.feed(PAUSING[why](desk))
    assert desk.guard not in QUOTING
    assert {command.client_id for command in step.commands} == expected
    assert all(isinstance(command, Cancel) and command.risk for command in step.commands)
    assert not step.refusals


@pytest.mark.parametrize("why", PAUSING)
def test_nothing_is_placed_after_it(why: str) -> None:
    desk = running(PARAMS)
    desk.feed(PAUSING[why](desk))
    sent = desk.all_of(desk.book(MID + 400, MID + 410), desk.timer(), desk.fill(Side.BUY, 5), desk.fees(), desk.mark())
    for order in desk.live:
        sent += desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0)).commands
    assert sent == []
    assert desk.live == []


def test_a_derisk_order_is_left_alone_by_a_pause() -> None:
    desk = running(PARAMS)
    desk.feed(
        OrderAdopted(*desk.now, "mmabcd-1-k1", Side.SELL, MID + 900, 3, 0, Purpose.FLATTEN, True, OrderStatus.LIVE)
    )
    step = desk.feed(desk.operator("pause"))
    assert "mmabcd-1-k1" not in {command.client_id for command in step.commands}


def test_fills_after_a_pause_are_booked() -> None:
    desk = running(PARAMS)
    order = desk.live[0]
    desk.feed(desk.operator("pause"))
    desk.feed(desk.fill(order.side, order.qty_lots, order.px_ticks, order.client_id, fee_e10=77))
    position = desk.state.position
    assert position.position_lots == order.side * order.qty_lots
    assert position.fees_e10 == 77
    assert desk.state.orders.live[order.client_id].filled_lots == order.qty_lots
    desk.feed(desk.update(order.client_id, OrderStatus.FILLED, order.qty_lots))
    assert order.client_id not in desk.state.orders.live


def reduce(desk: Desk) -> None:
    desk.feed(desk.account(EQUITY_E10, EQUITY_E10 // 6))


@pytest.mark.parametrize("side", list(Side))
def test_reducing_quotes_only_what_reduces_and_never_more_than_is_held(side: Side) -> None:
    desk = running(PARAMS).hold(side * 20)
    step = desk.feed(desk.account(EQUITY_E10, EQUITY_E10 // 6))
    assert desk.guard is S.REDUCING
    gone = {c.client_id for c in step.commands if isinstance(c, Cancel)}
    assert {o.client_id for o in desk.live if o.side is side} <= gone
    decision = desk.state.decision
    assert decision is not None
    assert {quote.side for quote in decision.quotes} == {side.opposite}
    assert sum(quote.qty_lots for quote in decision.quotes) == 20
    assert (decision.no_bid if side is Side.BUY else decision.no_ask) == "guard"


@pytest.mark.parametrize("can_amend", [True, False])
def test_reducing_shrinks_quotes_that_would_turn_the_position_round(can_amend: bool) -> None:
    """Sells placed while RUNNING add up to more than is held. Making them smaller must be let through, or REDUCING
    leaves resting what it exists to forbid."""
    desk = running(params(guard={"soft_clear_s": 1.0}, venue={"amend": can_amend})).hold(20)
    desk.acknowledge()
    assert desk.state.orders.reserved_sell_lots == 45
    reduce(desk)
    for _ in range(4):  # the venue answers, the core goes on
        for order in desk.live:
            if order.cancel_sent_ns:
                desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
            elif order.pending_ns:
                desk.feed(
                    desk.update(
                        order.client_id,
                        OrderStatus.LIVE,
                        0,
                        px_ticks=order.pending_px_ticks,
                        qty_lots=order.pending_qty_lots,
                        revision=order.revision,
                    )
                )
        desk.acknowledge()
        desk.wait(1.0).all_of(desk.health(), desk.account(EQUITY_E10, EQUITY_E10 // 6), desk.book(), desk.timer())
    assert desk.guard is S.REDUCING
    assert desk.state.orders.reserved_buy_lots == 0
    assert desk.state.orders.reserved_sell_lots == 20


def test_reducing_while_flat_quotes_nothing() -> None:
    desk = running(PARAMS)
    reduce(desk)
    assert desk.state.decision is not None
    assert desk.state.decision.quotes == ()


# --- losses -----------------------------------------------------------------------------------------------------------


def test_drawdown_is_measured_from_the_peak_since_the_last_resume() -> None:
    desk = running(PARAMS)
    desk.feed(desk.bill(BillKind.FUNDING, 2_000 * E10))  # a profit raises the peak
    desk.date_passes(DAY_NS)
    desk.feed(desk.timer())
    desk.feed(desk.bill(BillKind.FUNDING, -2_500 * E10))
    desk.date_passes(DAY_NS)
    desk.feed(desk.timer())
    desk.feed(desk.bill(BillKind.FUNDING, -2_599 * E10))
    assert desk.guard is S.RUNNING  # 5,099 of 102,000 is below 5 %
    desk.feed(desk.bill(BillKind.FUNDING, -2 * E10))
    assert desk.guard is S.HARD_STOP
    assert desk.transitions[-1].reasons == ("drawdown",)
    desk.feed(desk.operator("resume"))
    assert desk.guard is S.RECONCILING
    assert desk.state.risk.peak_e10 == desk.state.risk.equity_e10


def test_transfers_are_neither_profit_nor_drawdown() -> None:
    desk = running(PARAMS)
    desk.feed(desk.bill(BillKind.TRANSFER, -60_000 * E10))
    desk.seconds(1)
    assert desk.guard is S.RUNNING
    assert desk.state.risk.equity_e10 == desk.state.risk.peak_e10 == desk.state.risk.day_open_e10 == 40_000 * E10
    desk.feed(desk.bill(BillKind.TRANSFER, 160_000 * E10))
    desk.feed(desk.bill(BillKind.FUNDING, -5_900 * E10))  # 2.95 % of what it has now
    desk.seconds(1)
    assert desk.guard is S.RUNNING
    desk.feed(desk.bill(BillKind.FUNDING, -101 * E10))
    assert desk.guard is S.HARD_STOP
    assert desk.transitions[-1].reasons == ("daily_loss",)


def test_an_open_loss_is_charged_to_the_new_day_too() -> None:
    """Held over midnight with 2,000 lost on it and not realised: the next day begins with those 2,000 gone."""
    p = params(quotes={"max_position_fraction": 3.0, "max_position_quote": 1e6}, guard={"soft_clear_s": 1.0})
    desk = running(p).hold(10_000)  # 65,000 quote
    mark = MID - 20_000  # 2,000 quote of it
    desk.all_of(desk.mark(mark), desk.timer())
    assert desk.state.risk.equity_e10 == EQUITY_E10 - 2_000 * E10
    desk.date_passes(DAY_NS)
    desk.feed(desk.timer())
    assert desk.state.risk.day_open_e10 == EQUITY_E10  # what is there, and the open loss on top
    assert desk.guard is S.RUNNING
    desk.feed(desk.bill(BillKind.FUNDING, -1_001 * E10))
    assert desk.guard is S.HARD_STOP
    assert desk.transitions[-1].reasons == ("daily_loss",)


def test_an_open_profit_is_no_credit_for_the_new_day() -> None:
    desk = running(PARAMS).hold(500)
    desk.all_of(desk.mark(MID + 20_000), desk.timer())
    desk.date_passes(DAY_NS)
    desk.feed(desk.timer())
    assert desk.state.risk.day_open_e10 == desk.state.risk.equity_e10 == EQUITY_E10 + 100 * E10


def test_a_new_day_forgets_the_loss_that_was_realised_and_the_turnover() -> None:
    desk = running(PARAMS)
    desk.feed(desk.bill(BillKind.FUNDING, -2_000 * E10))
    desk.all_of(desk.fill(Side.BUY, 40), desk.fill(Side.SELL, 40))
    desk.date_passes(DAY_NS)
    desk.feed(desk.timer())
    assert desk.state.risk.day_open_e10 == EQUITY_E10 - 2_000 * E10
    assert desk.state.risk.day_turnover_start_e10 == desk.state.position.turnover_e10 > 0


def test_the_day_turns_at_the_rollover_hour() -> None:
    for hour in (0, 8):
        desk = running(params(run={"rollover_hour_utc": hour}))
        day = desk.state.risk.day
        seconds = desk.now[1] // NS
        left_s = (hour * 3600 - seconds) % 86_400
        desk.date_passes((left_s - 1) * NS)
        desk.feed(desk.timer())
        assert desk.state.risk.day == day
        desk.date_passes(NS)
        desk.feed(desk.timer())
        assert desk.state.risk.day == day + 1


def test_a_clock_that_steps_back_over_midnight_gives_no_loss_back() -> None:
    desk = running(PARAMS)
    desk.date_passes(DAY_NS)
    desk.feed(desk.timer())
    desk.feed(desk.bill(BillKind.FUNDING, -2_000 * E10))
    desk.wall_ns -= DAY_NS
    desk.feed(desk.timer())
    assert desk.state.risk.day_open_e10 == EQUITY_E10
    desk.feed(desk.bill(BillKind.FUNDING, -2_000 * E10))
    assert desk.guard is S.HARD_STOP


def test_equity_is_not_judged_before_there_is_a_mark() -> None:
    desk = Desk(PARAMS)
    desk.all_of(Started(*desk.now, 1, False), desk.fill(Side.BUY, 100), desk.timer())
    assert desk.state.risk.day == -1
    assert desk.state.risk.equity_e10 == EQUITY_E10


# --- the slice --------------------------------------------------------------------------------------------------------


def test_time_is_accounted_to_the_state_it_was_spent_in() -> None:
    desk = running(PARAMS)
    before = dict(desk.state.guard.spent_ns)
    entered = desk.state.guard.entered_ns
    desk.seconds(7)
    desk.feed(desk.operator("pause"))
    spent = desk.state.guard.spent_ns
    assert spent[S.RUNNING] - before.get(S.RUNNING, 0) == desk.now_ns - entered
    assert sum(spent.values()) == desk.state.guard.entered_ns - T0_NS  # before the first event there was no daemon


def test_begins_with_nothing_that_counts_but_what_holds() -> None:
    new = guard.Guard()
    assert (new.state, new.raw, new.active, new.deadline_ns, new.entered_ns) == (S.STARTING, 0, 0, 0, 0)
    assert (new.cured_ns, new.spent_ns, new.latched, new.reconciled, new.dirty) == ({}, {}, False, False, True)
    desk = Desk(PARAMS)
    desk.feed(Started(*desk.now, 1, False))
    assert desk.state.guard.active == desk.state.guard.raw


def test_is_evaluated_only_when_something_changed_or_the_moment_came(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = running(PARAMS)
    desk.params = msgspec.structs.replace(PARAMS, shadow=False)
    desk.healthy_second()
    looked: list[int] = []
    full = guard.full
    monkeypatch.setattr(guard, "full", lambda state, now, p: looked.append(now) or full(state, now, p))
    for _ in range(50):
        desk.wait(0.001).all_of(desk.book(), desk.trade(desk.bid), desk.mark())
    assert looked == []
    desk.now_ns = desk.state.guard.deadline_ns
    desk.feed(desk.book())
    assert len(looked) == 1


def test_describe_says_why_and_what_cures_it() -> None:
    desk = running(PARAMS)
    assert guard.describe(desk.state) == []
    desk.feed(desk.operator("pause"))
    (line,) = guard.describe(desk.state)
    assert line.startswith(f"operator_pause: an operator paused it ({desk.state.facts.pause_reason})")
    assert line.endswith("; ends by `mmdaemon resume --reason ...`")
    hard(desk)
    lines = "\n".join(guard.describe(desk.state))
    assert "account_facts: the account is not as configured" in lines
    assert "mmdaemon resume" in lines
    desk.all_of(desk.health(), desk.operator("resume"))
    assert "reconciling: venue truth is being read" in guard.describe(desk.state)


def test_what_a_timer_ends_is_not_said_to_wait_for_one() -> None:
    desk = running(PARAMS)
    desk.state.guard.active |= guard.BIT[guard.Reason.DRIFT] | guard.BIT[guard.Reason.DAY_ENDING]
    assert [line.split("; ")[1:] for line in guard.describe(desk.state)] == [
        ["looked at anew each second, ends by itself"]
    ] * 2


def test_describe_says_what_is_known_of_each() -> None:
    desk = running(PARAMS)
    desk.feed(desk.reconciled("position: off by 3", "equity: off by 7"))
    (line,) = guard.describe(desk.state)
    assert "(position: off by 3; equity: off by 7); waits for Reconciled" in line
    desk.all_of(desk.reconciled("position: off by 3"), desk.reconciled("position: off by 3"))
    desk.all_of(TaskDied(*desk.now, "timers", "boom"), TaskDied(*desk.now, "cost", "boom"), desk.operator("kill", "no"))
    lines = {line.split(":")[0]: line for line in guard.describe(desk.state)}
    assert "(timers, cost); ends by a restart" in lines["task_died"]
    assert lines["break"].endswith("after repairs (position: off by 3)")
    assert lines["kill"].endswith("was thrown (no)")
    assert "latched" in lines
    assert "reconciling" not in lines
    desk.feed(desk.reconciled("second_instance/mmx-9-1: a number we never gave"))
    lines = {line.split(":")[0]: line for line in guard.describe(desk.state)}
    assert lines["second_instance"].endswith("our orders' tag (second_instance/mmx-9-1: a number we never gave)")
    starting = Desk(PARAMS)  # nothing was read yet, nor is it being read
    assert not [line for line in guard.describe(starting.state) if line.startswith("reconciling")]


def test_fills_that_come_while_nothing_may_be_quoted_are_counted() -> None:
    """After a pause with live orders: what trades before its cancel arrived, and whatever else should not have."""
    desk = running()
    bid = next(order for order in desk.live if order.side is Side.BUY)
    desk.feed(desk.fill(Side.BUY, 1, bid.px_ticks, bid.client_id))
    assert desk.state.guard.fills_not_quoting == 0
    desk.feed(desk.operator("pause"))
    desk.feed(desk.fill(Side.BUY, 1, bid.px_ticks, bid.client_id))
    desk.feed(desk.fill(Side.SELL, 2))
    assert desk.state.guard.fills_not_quoting == 2


def test_a_venue_that_answers_no_order_is_sent_no_more_of_them() -> None:
    desk = running(PARAMS)
    desk.hold(4)
    adopted = [f"mmabcd-0-{n}" for n in range(7)]
    for n, client_id in enumerate(adopted):
        px = MID - 1_000 - n
        desk.feed(OrderAdopted(*desk.now, client_id, Side.BUY, px, 3, 0, Purpose.QUOTE, False, OrderStatus.LIVE))
    for client_id in adopted[:6]:
        desk.feed(desk.update(client_id, OrderStatus.UNKNOWN, reason="timeout"))
    assert desk.guard is S.RUNNING
    desk.feed(desk.update(adopted[6], OrderStatus.UNKNOWN, reason="timeout"))
    assert desk.guard is S.SOFT_PAUSE
    assert desk.reasons == {"unanswered"}
    assert not any(isinstance(command, Place | Amend) for command in desk.seconds(30))
    desk.feed(desk.update(adopted[0], OrderStatus.CANCELLED, 0))
    desk.seconds(PARAMS.guard.soft_clear_ns / NS + 1)
    assert desk.guard is S.RUNNING


def test_no_measurement_can_be_left_out() -> None:
    """One with a default would be fine where nobody took it."""
    optional = {field.name for field in msgspec.structs.fields(HealthFacts) if not field.required}
    assert optional == {"account_detail"}
