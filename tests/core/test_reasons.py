"""Every row of the guard's table: raised by its condition, at its bound, cured by its own event and by no other."""

from collections.abc import Callable

import pytest
from hypothesis import given

from mmdaemon.core import limits, risk
from mmdaemon.core.commands import Cancel
from mmdaemon.core.events import BillKind, KillChanged, OrderAdopted, SourceEnded, TaskDied
from mmdaemon.core.reasons import (
    ALL_MASK,
    BIT,
    HARD_MASK,
    INCREASE_MASK,
    RULES,
    Blocks,
    Reason,
    full,
    reasons_of,
)
from mmdaemon.core.state import new_state
from mmdaemon.core.types import E10, NEVER_NS, NS, GuardState, KillState, OrderStatus, Purpose, Side
from tests.core.build import DAY_NS, EQUITY_E10, MID, Desk, What, modest, params, play, realistic, running

NAN = float("nan")
CLEAR_NS = NS
PARAMS = params(guard={"soft_clear_s": 1.0})
R = Reason


def raw(desk: Desk) -> set[Reason]:
    """What holds at this moment, evaluated afresh."""
    return set(reasons_of(full(desk.state, desk.now_ns, desk.params)[0]))


def cancels(desk: Desk, n: int, *, risk: bool) -> None:
    for _ in range(n):
        limits.on_command(desk.state.budgets, Cancel("x", risk), desk.now_ns, desk.params.limits, desk.params.guard)
    desk.state.guard.dirty = True  # as the engine does for whatever it lets out
    desk.feed(desk.timer())


def drift(desk: Desk) -> None:
    for _ in range(31):
        desk.seconds(1)
    desk.book(MID + 2_300, MID + 2_310)
    desk.seconds(1)


def breach(desk: Desk, times: int) -> None:
    for _ in range(times):
        cancels(desk, desk.params.limits.cancels_per_minute + 1, risk=False)


def trade_both_ways(desk: Desk, lots: int) -> None:
    desk.all_of(desk.fill(Side.BUY, lots), desk.fill(Side.SELL, lots))


def reject(desk: Desk, times: int) -> None:
    """Refuse one order after another; the core goes on placing what is missing."""
    for _ in range(times):
        order = desk.live[-1]
        assert order.status is OrderStatus.NEW
        desk.feed(desk.update(order.client_id, OrderStatus.REJECTED, 0, "margin"))


def lose_over_two_days(desk: Desk) -> None:
    for _ in range(2):
        desk.feed(desk.bill(BillKind.FUNDING, -2_900 * E10))
        desk.date_passes(DAY_NS)
        desk.feed(desk.timer())


def leave_unanswered(desk: Desk, n: int) -> None:
    for i in range(n):
        order = f"mmabcd-0-{i}", Side.BUY, MID - 1_000 - i, 3, 0, Purpose.QUOTE, False
        desk.feed(OrderAdopted(*desk.now, *order, OrderStatus.LIVE))
        desk.feed(desk.update(f"mmabcd-0-{i}", OrderStatus.UNKNOWN, reason="timeout"))


def nobody_pays(desk: Desk) -> None:
    """The fee alone is more than half of the widest spread."""
    desk.feed(desk.fees(maker_rate=0.0016))
    desk.seconds(32)


def before_rollover(desk: Desk, left_ns: int) -> None:
    """Let the date pass until so long is left of the trading day."""
    desk.date_passes(risk.to_rollover_ns(desk.now[1], desk.params.rollover_hour_utc) - left_ns)
    desk.feed(desk.timer())


def day_ends(desk: Desk) -> None:
    desk.hold(400)
    before_rollover(desk, 100 * NS)


def fills(desk: Desk, n: int) -> None:
    for _ in range(n):
        desk.wait(0.9)
        desk.all_of(desk.fill(Side.BUY, 1), desk.health(), desk.book())


Do = Callable[[Desk], object]

RAISED: dict[Reason, Do] = {
    R.DRIFT: drift,
    R.TURNOVER: lambda d: trade_both_ways(d, 25_000),
    R.CANCEL_BUDGET: lambda d: breach(d, 1),
    R.MESSAGE_BUDGET: lambda d: cancels(d, d.params.limits.messages_per_minute + 1, risk=True),
    R.MARGIN_SOFT: lambda d: d.feed(d.account(EQUITY_E10, EQUITY_E10 // 6)),
    R.FUNDING_UNKNOWN: lambda d: d.feed(d.funding(NAN)),
    R.EDGE: nobody_pays,
    R.DAY_ENDING: day_ends,
    R.UNPROTECTED: lambda d: d.feed(d.health(bare_s=30.5)),
    R.SIGNAL_PAUSE: lambda d: d.feed(d.signal("pause", "increase")),
    R.BOOK: lambda d: d.wait(2.1).all_of(d.health(), d.timer()),
    R.MARK: lambda d: d.wait(10.1).all_of(d.health(), d.book(), d.timer()),
    R.FEES: lambda d: d.feed(d.fees(NAN)),
    R.POSITION: lambda d: d.feed(d.reconciled("position: the venue says 3 lots")),
    R.CLOCK: lambda d: d.feed(d.health(offset_s=-1.5)),
    R.LOOP_LAG: lambda d: d.feed(d.health(lag_s=0.6)),
    R.JOURNAL_SLOW: lambda d: d.feed(d.health(journal_s=3.5)),
    R.NO_FACTS: lambda d: d.wait(3.1).all_of(d.book(), d.timer()),
    R.UNANSWERED: lambda d: leave_unanswered(d, 7),
    R.OPERATOR_PAUSE: lambda d: d.feed(d.operator("pause")),
    R.EXTERNAL_PAUSE: lambda d: d.feed(d.signal("pause", "all")),
    R.SOURCE_ENDED: lambda d: d.feed(SourceEnded(*d.now)),
    R.DAILY_LOSS: lambda d: d.feed(d.bill(BillKind.FUNDING, -3_001 * E10)),
    R.DRAWDOWN: lose_over_two_days,
    R.MARGIN_HARD: lambda d: d.feed(d.account(EQUITY_E10, EQUITY_E10 // 11)),
    R.CANCEL_BREACHES: lambda d: breach(d, 3),
    R.REPEATED_EXECUTION: lambda d: fills(d, 61),
    R.REJECT_STREAK: lambda d: reject(d, 10),
    R.BREAK: lambda d: [d.feed(d.reconciled("fills: one is missing")) for _ in range(3)],
    R.ACCOUNT_FACTS: lambda d: d.feed(d.health(facts_ok=False)),
    R.JOURNAL_FAILED: lambda d: d.feed(d.health(failed=True)),
    R.TASK_DIED: lambda d: d.feed(TaskDied(*d.now, "cost", "boom")),
    R.SECOND_INSTANCE: lambda d: d.feed(d.reconciled("second_instance: order mmzzzz-1-1")),
    R.KILL: lambda d: d.feed(KillChanged(*d.now, KillState.KILLING, "file")),
}


def quiet_half_minute(desk: Desk) -> None:
    while R.DRIFT in raw(desk):
        desk.seconds(1)


def wait_for_deadline(desk: Desk, until_ns: int) -> None:
    while desk.now_ns + NS < until_ns:
        desk.seconds(1)
    desk.now_ns = until_ns
    desk.healthy_second()


def next_day(desk: Desk) -> None:
    desk.date_passes(DAY_NS)
    desk.feed(desk.timer())


def the_day_turns(desk: Desk) -> None:
    desk.date_passes(101 * NS)
    desk.feed(desk.timer())


CURED: dict[Reason, Do] = {
    R.DRIFT: quiet_half_minute,
    R.TURNOVER: next_day,
    R.CANCEL_BUDGET: lambda d: wait_for_deadline(d, d.state.budgets.cancel_pause_until_ns),
    R.MESSAGE_BUDGET: lambda d: wait_for_deadline(d, d.state.budgets.message_pause_until_ns),
    R.MARGIN_SOFT: lambda d: d.feed(d.account()),
    R.FUNDING_UNKNOWN: lambda d: d.feed(d.funding()),
    R.EDGE: lambda d: d.all_of(d.fees(), d.timer()),
    R.DAY_ENDING: the_day_turns,
    R.UNPROTECTED: lambda d: d.feed(d.health(bare_s=30.0)),
    R.SIGNAL_PAUSE: lambda d: wait_for_deadline(d, d.state.signals.due_ns),
    R.BOOK: lambda d: d.feed(d.book()),
    R.MARK: lambda d: d.feed(d.mark()),
    R.FEES: lambda d: d.feed(d.fees()),
    R.POSITION: lambda d: d.feed(d.reconciled()),
    R.CLOCK: lambda d: d.feed(d.health()),
    R.LOOP_LAG: lambda d: d.feed(d.health()),
    R.JOURNAL_SLOW: lambda d: d.feed(d.health()),
    R.NO_FACTS: lambda d: d.feed(d.health()),
    R.UNANSWERED: lambda d: d.feed(d.update("mmabcd-0-6", OrderStatus.CANCELLED, 0)),
    R.OPERATOR_PAUSE: lambda d: d.feed(d.operator("resume")),
    R.EXTERNAL_PAUSE: lambda d: wait_for_deadline(d, d.state.signals.due_ns),
}
SOFT = [rule.reason for rule in RULES if rule.blocks is not Blocks.HARD]
HARD = [rule.reason for rule in RULES if rule.blocks is Blocks.HARD]
STATE_OF = {
    Blocks.INCREASE: GuardState.REDUCING,
    Blocks.ALL: GuardState.SOFT_PAUSE,
    Blocks.HARD: GuardState.HARD_STOP,
}


def raised(reason: Reason) -> Desk:
    desk = Desk(PARAMS).start()
    if reason is not R.REJECT_STREAK:
        desk.acknowledge()
    RAISED[reason](desk)
    return desk


def test_every_reason_has_a_row_a_bit_and_a_test() -> None:
    assert [rule.reason for rule in RULES] == list(Reason)
    assert set(RAISED) == set(Reason)
    assert set(CURED) == set(SOFT) - {R.SOURCE_ENDED}
    assert sum(BIT.values()) == HARD_MASK + ALL_MASK + INCREASE_MASK == (1 << len(RULES)) - 1
    assert all(rule.owner and rule.cure and rule.because for rule in RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason)
def test_is_raised_by_its_condition_and_leads_where_it_blocks(rule) -> None:
    desk = raised(rule.reason)
    assert rule.reason in raw(desk)
    assert rule.reason in desk.reasons
    assert desk.guard is STATE_OF[rule.blocks]


@pytest.mark.parametrize("reason", SOFT)
def test_no_other_event_clears_it(reason: Reason) -> None:
    """Its own cure left out, everything else that is good news comes in for a while."""
    desk = raised(reason)
    cure = next(rule.cure for rule in RULES if rule.reason is reason)
    for _ in range(3):
        desk.wait(0.7)
        good_news = [
            *([] if cure == "HealthFacts" else [desk.health()]),
            *([] if cure == "BookUpdate" else [desk.book()]),
            *([] if cure == "FeeSchedule" or reason is R.EDGE else [desk.fees()]),  # which make a quote pay again
            *([] if cure == "FundingRate" else [desk.funding()]),
            *([] if cure == "MarkPrice" else [desk.mark()]),
            *([] if cure in ("AccountSnapshot", "MarkPrice") else [desk.account()]),  # which brings a mark too
            *([] if cure == "Reconciled" else [desk.reconciled()]),
            *([] if cure == "OperatorAction" else [desk.operator("resume")]),
            desk.timer(),
            desk.trade(desk.bid),
        ]
        desk.all_of(*good_news)
        assert reason in desk.reasons


@pytest.mark.parametrize("reason", list(CURED))
def test_counts_until_cured_for_the_clear_time_to_the_nanosecond(reason: Reason) -> None:
    desk = raised(reason)
    CURED[reason](desk)
    assert reason not in raw(desk)
    cured_ns = desk.now_ns
    assert reason in desk.reasons
    assert desk.state.guard.deadline_ns <= cured_ns + CLEAR_NS  # the guard's actor is told when to look again

    desk.now_ns = cured_ns + CLEAR_NS // 2
    desk.all_of(desk.health(), desk.book())  # nothing else may go stale meanwhile
    desk.now_ns = cured_ns + CLEAR_NS - 1
    desk.feed(desk.trade(desk.bid))
    assert reason in desk.reasons
    assert desk.state.guard.deadline_ns == cured_ns + CLEAR_NS
    desk.now_ns += 1
    desk.feed(desk.trade(desk.bid))  # concerns no reason: the deadline alone has it evaluated
    assert reason not in desk.reasons
    assert desk.guard is GuardState.RUNNING


def test_raised_again_while_it_clears_begins_anew() -> None:
    desk = raised(R.LOOP_LAG)
    desk.feed(desk.health())
    desk.wait(0.9).feed(desk.health(lag_s=0.7))
    desk.wait(0.2).feed(desk.health())
    desk.wait(0.9).feed(desk.health())
    assert "loop_lag" in desk.reasons
    desk.wait(0.1).all_of(desk.health(), desk.book())
    assert "loop_lag" not in desk.reasons


def test_a_source_that_ended_is_never_cured() -> None:
    desk = raised(R.SOURCE_ENDED)
    desk.seconds(20)
    assert desk.reasons == {"source_ended"}


@pytest.mark.parametrize("reason", HARD)
def test_a_hard_reason_latches_whatever_comes(reason: Reason) -> None:
    desk = raised(reason)
    desk.date_passes(DAY_NS)
    desk.feed(KillChanged(*desk.now, KillState.ARMED, "nobody asked"))
    desk.seconds(5)
    assert desk.guard is GuardState.HARD_STOP


# --- nothing known ----------------------------------------------------------------------------------------------------


def test_what_was_never_said_counts_as_bad() -> None:
    desk = Desk(PARAMS, now_ns=NS)  # a clock that has only just begun
    assert raw(desk) == {
        R.FUNDING_UNKNOWN,
        R.BOOK,
        R.MARK,
        R.FEES,
        R.POSITION,
        R.CLOCK,
        R.LOOP_LAG,
        R.JOURNAL_SLOW,
        R.NO_FACTS,
    }


@pytest.mark.parametrize(
    ("unmeasured", "reason"),
    [
        ({"lag_s": None}, R.LOOP_LAG),
        ({"lag_s": NAN}, R.LOOP_LAG),
        ({"offset_s": None}, R.CLOCK),
        ({"offset_s": NAN}, R.CLOCK),
        ({"journal_s": None}, R.JOURNAL_SLOW),
        ({"journal_s": NAN}, R.JOURNAL_SLOW),
        ({"facts_ok": None}, R.NO_FACTS),
    ],
    ids=str,
)
def test_not_measured_is_not_fine(unmeasured, reason: Reason) -> None:
    desk = running(PARAMS)
    desk.feed(desk.health(**unmeasured))
    assert raw(desk) == {reason}
    assert desk.guard is GuardState.SOFT_PAUSE


def test_a_position_never_reconciled_is_unknown_from_the_first_moment() -> None:
    desk = Desk(PARAMS, now_ns=NS)
    desk.feed(desk.account())
    assert R.POSITION in raw(desk)
    desk.all_of(desk.link("private", True), desk.reconciled())
    assert R.POSITION not in raw(desk)


# --- bounds -----------------------------------------------------------------------------------------------------------


def block(desk: Desk, *sides: Side) -> None:
    for side in sides:
        gate = desk.state.gate.buy if side is Side.BUY else desk.state.gate.sell
        gate.blocked = True


def end_with(desk: Desk, position_lots: int, left_ns: int = 300 * NS) -> None:
    desk.hold(position_lots)
    before_rollover(desk, left_ns)


BOUNDS: list[tuple[Reason, str, Do, Do]] = [
    (R.CLOCK, "ahead", lambda d: d.feed(d.health(offset_s=1.0)), lambda d: d.feed(d.health(offset_s=1.000_001))),
    (R.CLOCK, "behind", lambda d: d.feed(d.health(offset_s=-1.0)), lambda d: d.feed(d.health(offset_s=-1.000_001))),
    (R.LOOP_LAG, "", lambda d: d.feed(d.health(lag_s=0.5)), lambda d: d.feed(d.health(lag_s=0.500_001))),
    (R.JOURNAL_SLOW, "", lambda d: d.feed(d.health(journal_s=3.0)), lambda d: d.feed(d.health(journal_s=3.000_001))),
    (
        R.MARGIN_SOFT,
        "",
        lambda d: d.feed(d.account(EQUITY_E10, EQUITY_E10 // 5)),
        lambda d: d.feed(d.account(EQUITY_E10, EQUITY_E10 // 5 - 1)),
    ),
    (
        R.MARGIN_HARD,
        "",
        lambda d: d.feed(d.account(EQUITY_E10, EQUITY_E10 // 10)),
        lambda d: d.feed(d.account(EQUITY_E10, EQUITY_E10 // 10 - 1)),
    ),
    (R.MARGIN_HARD, "equity", lambda d: d.feed(d.account(1, 1)), lambda d: d.feed(d.account(0, 1))),
    (
        R.DAILY_LOSS,
        "",
        lambda d: d.feed(d.bill(BillKind.FUNDING, -3_000 * E10)),
        lambda d: d.feed(d.bill(BillKind.FUNDING, -3_000 * E10 - 1)),
    ),
    (
        R.DRAWDOWN,
        "",
        lambda d: d.feed(d.bill(BillKind.FUNDING, -5_000 * E10)),
        lambda d: d.feed(d.bill(BillKind.FUNDING, -5_000 * E10 - 1)),
    ),
    (R.REPEATED_EXECUTION, "", lambda d: fills(d, 60), lambda d: fills(d, 61)),
    (R.REJECT_STREAK, "", lambda d: reject(d, 9), lambda d: reject(d, 10)),
    (R.CANCEL_BREACHES, "", lambda d: breach(d, 2), lambda d: breach(d, 3)),
    (R.CANCEL_BUDGET, "", lambda d: cancels(d, 300, risk=False), lambda d: cancels(d, 301, risk=False)),
    (R.CANCEL_BUDGET, "risk", lambda d: cancels(d, 500, risk=True), lambda d: cancels(d, 301, risk=False)),
    # The six orders of the first ladder went out within this minute too.
    (R.MESSAGE_BUDGET, "", lambda d: cancels(d, 594, risk=True), lambda d: cancels(d, 595, risk=True)),
    (
        R.BREAK,
        "",
        lambda d: [d.feed(d.reconciled("x")) for _ in range(2)],
        lambda d: [d.feed(d.reconciled("x")) for _ in range(3)],
    ),
    (
        R.BREAK,
        "one clean between",
        lambda d: [d.feed(d.reconciled(*b)) for b in (["x"], ["x"], [], ["x"])],
        lambda d: [d.feed(d.reconciled(*b)) for b in (["x"], ["x"], [], ["x"], ["x"], ["x"])],
    ),
    (R.KILL, "", lambda d: d.feed(KillChanged(*d.now, KillState.ARMED, "")), RAISED[R.KILL]),
    (R.EDGE, "bid", lambda d: block(d, Side.BUY), lambda d: block(d, *Side)),
    (R.EDGE, "ask", lambda d: block(d, Side.SELL), lambda d: block(d, *Side)),
    # A quarter of the 769 lots that may be held.
    (R.DAY_ENDING, "long", lambda d: end_with(d, 192), lambda d: end_with(d, 193)),
    (R.DAY_ENDING, "short", lambda d: end_with(d, -192), lambda d: end_with(d, -193)),
    (R.DAY_ENDING, "time", lambda d: end_with(d, 193, 300 * NS + 1), lambda d: end_with(d, 193, 300 * NS)),
]


@pytest.mark.parametrize(
    ("reason", "which", "at", "beyond"), BOUNDS, ids=lambda x: str(x) if isinstance(x, str) else ""
)
def test_holds_beyond_its_bound_and_not_at_it(reason: Reason, which: str, at: Do, beyond: Do) -> None:
    for do, holds in ((at, False), (beyond, True)):
        desk = Desk(PARAMS).start()
        do(desk)
        assert (reason in raw(desk)) is holds


def test_turnover_is_measured_in_equities_of_the_day() -> None:
    desk = running(PARAMS)
    equity_lots = EQUITY_E10 * 3 // (MID * PARAMS.instrument.unit_e10)  # three equities, rounded down
    trade_both_ways(desk, equity_lots // 2)
    assert R.TURNOVER not in raw(desk)
    trade_both_ways(desk, 1)
    assert R.TURNOVER in raw(desk)


def test_drift_counts_in_both_directions() -> None:
    for sign in (1, -1):
        desk = running(PARAMS)
        desk.seconds(31)
        desk.book(MID + sign * 1_940, MID + sign * 1_940 + 2)  # 29.8 bps
        desk.seconds(1)
        assert R.DRIFT not in raw(desk)
        desk.book(MID + sign * 1_965, MID + sign * 1_965 + 2)  # 30.2 bps
        desk.seconds(1)
        assert R.DRIFT in raw(desk)


def test_post_only_and_gate_refusals_are_no_reject_streak() -> None:
    desk = Desk(PARAMS).start()
    for why in ("post_only", "gate:closed") * 10:
        order = desk.live[-1]
        desk.feed(desk.update(order.client_id, OrderStatus.REJECTED, 0, why))
    assert R.REJECT_STREAK not in raw(desk)


def test_a_frozen_book_is_as_old_as_the_print_that_went_through_it() -> None:
    desk = running(PARAMS)
    desk.feed(desk.trade(desk.bid - 3))
    for _ in range(3):
        desk.wait(1.0).all_of(desk.health(), desk.book(), desk.timer())  # messages arrive, the touch stands still
    assert raw(desk) == {R.BOOK}


# --- the mark ---------------------------------------------------------------------------------------------------------


def test_a_mark_that_is_no_price_is_no_mark() -> None:
    desk = raised(R.MARK)
    desk.mark_px = 0
    desk.all_of(desk.mark(), desk.account())
    assert R.MARK in raw(desk)


def test_the_mark_of_an_account_snapshot_is_as_good_as_a_streamed_one() -> None:
    desk = raised(R.MARK)
    desk.feed(desk.account())
    assert R.MARK not in raw(desk)
    desk.seconds(20)  # with an account in each, and no mark streamed
    assert desk.guard is GuardState.RUNNING


def test_loss_limits_see_the_mark_of_an_account_snapshot() -> None:
    desk = running(PARAMS).hold(10_000)
    for fell_ticks, holds in ((30_000, False), (30_001, True)):  # 3,000 quote of 100,000, and a tick more
        desk.mark_px = MID - fell_ticks
        desk.wait(1.0).all_of(desk.account(), desk.timer())
        assert (R.DAILY_LOSS in raw(desk)) is holds
    assert desk.guard is GuardState.HARD_STOP


def test_a_snapshot_no_newer_than_the_mark_leaves_it() -> None:
    desk = running(PARAMS)
    desk.wait(0.5)
    late = desk.account()
    desk.feed(desk.mark(MID + 30))
    desk.feed(late)
    assert desk.state.venue.mark_px_ticks == desk.state.position.last_mark_ticks == MID + 30


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "after_ns"),
    [
        (R.BOOK, PARAMS.guard.book_age_max_ns + 1),
        (R.MARK, PARAMS.guard.mark_age_max_ns + 1),
        (R.NO_FACTS, PARAMS.guard.facts_age_max_ns),
        (R.POSITION, PARAMS.guard.unknown_position_ns),
    ],
)
def test_the_published_deadline_is_when_it_begins_to_hold(reason: Reason, after_ns: int) -> None:
    desk = running(PARAMS)
    desk.healthy_second()
    condition = next(rule.condition for rule in RULES if rule.reason is reason)
    began_ns = desk.now_ns
    assert condition(desk.state, began_ns, PARAMS) == (False, began_ns + after_ns)
    assert condition(desk.state, began_ns + after_ns - 1, PARAMS) == (False, began_ns + after_ns)
    assert condition(desk.state, began_ns + after_ns, PARAMS) == (True, NEVER_NS)


@given(realistic(25))
@modest(40)
def test_no_condition_flips_before_the_moment_it_names(history: list[What]) -> None:
    """At any state: each condition is what it says until its moment, the other at that moment, and for ever the same
    where it names none."""
    desk = running(PARAMS)
    for what in history:
        play(desk, what)
    state, now = desk.state, desk.now_ns
    for rule in RULES:
        holds, flips_ns = rule.condition(state, now, PARAMS)
        if flips_ns < NEVER_NS:
            assert flips_ns > now
            assert rule.condition(state, flips_ns - 1, PARAMS)[0] is holds, rule.reason
            assert rule.condition(state, flips_ns, PARAMS)[0] is not holds, rule.reason
        else:
            assert rule.condition(state, now + 365 * DAY_NS, PARAMS)[0] is holds, rule.reason


def test_reasons_of_is_in_the_order_of_the_table() -> None:
    assert reasons_of((1 << len(RULES)) - 1) == tuple(Reason)
    assert reasons_of(0) == ()
    state = new_state(PARAMS, EQUITY_E10)
    bits, _ = full(state, NS, PARAMS)
    assert sum(BIT[reason] for reason in reasons_of(bits)) == bits


def test_a_funding_rate_is_forgotten_ten_minutes_after_its_settlement() -> None:
    desk = running()
    desk.feed(desk.funding(0.0001, due_s=60.0))
    desk.wait(60.0 + 599.0).all_of(desk.health(), desk.book(), desk.timer())
    assert R.FUNDING_UNKNOWN not in raw(desk)
    desk.wait(2.0).all_of(desk.health(), desk.book(), desk.timer())
    assert R.FUNDING_UNKNOWN in raw(desk)
    assert desk.state.sampled.carry_bps == 0.0
    desk.feed(desk.funding())
    assert R.FUNDING_UNKNOWN not in raw(desk)
