"""Facts into slices: what each kind of fact reaches in the very step in which it comes, and what reaches nothing."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from mmdaemon.core import apply as module
from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.events import (
    RATE_LIMITED,
    AccountSnapshot,
    BarClosed,
    BillKind,
    Event,
    KillChanged,
    MarketDataRefused,
    OrderAdopted,
    RequestFailed,
    Started,
)
from mmdaemon.core.types import E10, NS, GuardState, KillState, OrderStatus, Purpose, Side
from tests.core.build import EQUITY_E10, MID, Desk, params, running

PARAMS = params(guard={"soft_clear_s": 1.0})
MINUTE_NS = 60 * NS


def test_what_is_no_fact_is_a_defect() -> None:
    nothing: Any = object()
    with pytest.raises(AssertionError):
        module.apply(running(PARAMS).state, nothing, PARAMS)


# --- what the guard learns at once ------------------------------------------------------------------------------------


def refusals(desk: Desk) -> Event:
    """The last of so many refusals on end that it is a streak, of orders that went out together."""
    last = PARAMS.guard.rejects_in_a_row
    for n in range(1, last + 1):
        adopted = (Side.BUY, MID - 900, 3, 0, Purpose.QUOTE, False, OrderStatus.SENT)
        desk.feed(OrderAdopted(*desk.now, f"mmabcd-0-{n}", *adopted))
    for n in range(1, last):
        desk.feed(desk.update(f"mmabcd-0-{n}", OrderStatus.REJECTED, 0, "margin"))
    return desk.update(f"mmabcd-0-{last}", OrderStatus.REJECTED, 0, "margin")


HARD: dict[str, Callable[[Desk], Event]] = {
    "reject_streak": refusals,
    "journal_failed": lambda desk: desk.health(failed=True),
    "account_facts": lambda desk: desk.health(facts_ok=False),
    "kill": lambda desk: KillChanged(*desk.now, KillState.KILLING, "thrown"),
}


@pytest.mark.parametrize("reason", HARD)
def test_stops_hard_in_the_step_of_the_fact_and_waits_for_no_timer(reason: str) -> None:
    desk = running(PARAMS)
    event = HARD[reason](desk)
    assert desk.guard is GuardState.RUNNING
    desk.feed(event)
    assert desk.guard is GuardState.HARD_STOP
    assert reason in desk.reasons


@pytest.mark.parametrize("figure", ["lag_s", "offset_s", "journal_s"])
def test_pauses_in_the_step_in_which_one_measurement_went_bad(figure: str) -> None:
    desk = running(PARAMS)
    bad: dict[str, Any] = {figure: 60.0}
    desk.feed(desk.health(**bad))
    assert desk.guard is GuardState.SOFT_PAUSE


def test_what_the_kill_switch_says_is_what_it_is() -> None:
    desk = running(PARAMS)
    for kill in (KillState.KILLING, KillState.QUIET, KillState.VERIFIED, KillState.KILLED):
        desk.feed(KillChanged(*desk.now, kill, "thrown"))
        assert (desk.state.facts.kill, desk.state.facts.kill_reason) == (kill, "thrown")


def test_a_resume_counts_rounds_with_a_break_anew() -> None:
    desk = running(PARAMS)
    for _ in range(3):
        desk.feed(desk.reconciled("position: off by 3"))
    assert "break" in desk.reasons
    desk.feed(desk.operator("resume"))
    assert desk.guard is GuardState.RECONCILING
    desk.all_of(desk.reconciled("position: off by 3"), desk.reconciled("position: off by 3"))
    assert desk.guard is GuardState.RECONCILING
    desk.feed(desk.reconciled("position: off by 3"))
    assert desk.guard is GuardState.HARD_STOP


def test_a_clean_round_begins_the_count_of_rounds_with_a_break_anew() -> None:
    desk = running(PARAMS)
    two = (desk.reconciled("position: off by 3"), desk.reconciled("position: off by 3"))
    desk.all_of(*two, desk.reconciled(), *two)
    assert desk.guard is not GuardState.HARD_STOP
    desk.feed(two[0])
    assert desk.guard is GuardState.HARD_STOP


@pytest.mark.parametrize("of_order", [True, False])
@pytest.mark.parametrize("reason", [RATE_LIMITED, "unsent:budget"])
def test_a_request_refused_for_its_rate_pauses_orders_at_once(of_order: bool, reason: str) -> None:
    desk = running(PARAMS)
    order = desk.live[0]
    assert desk.state.budgets.venue_pause_until_ns == 0
    if of_order:
        adopted = (Side.BUY, MID - 900, 3, 0, Purpose.QUOTE, False, OrderStatus.SENT)
        desk.feed(OrderAdopted(*desk.now, "mmabcd-0-7", *adopted))
        desk.feed(desk.update("mmabcd-0-7", OrderStatus.REJECTED, 0, reason))
    else:
        desk.feed(RequestFailed(*desk.now, order.client_id, "cancel", reason))
    assert desk.state.budgets.venue_pause_until_ns == desk.now_ns + NS


# --- what is decided at once ------------------------------------------------------------------------------------------


def test_an_order_that_nobody_decided_is_taken_out_in_the_step_of_its_adoption() -> None:
    desk = running(PARAMS)
    adopted = (Side.BUY, MID - 900, 3, 0, Purpose.QUOTE, False, OrderStatus.LIVE)
    step = desk.feed(OrderAdopted(*desk.now, "mmabcd-0-7", *adopted))
    assert [command.client_id for command in step.commands if isinstance(command, Cancel)] == ["mmabcd-0-7"]


def test_a_refused_amend_is_acted_on_in_the_step_of_the_refusal() -> None:
    """It is sent anew, where nothing says to wait."""
    desk = running(params(guard={"soft_clear_s": 1.0}, quotes={"min_quote_life_s": 0.0}))
    desk.wait(1).feed(desk.book(MID + 200, MID + 210))
    asked = [command.client_id for command in desk.commands if isinstance(command, Amend)]
    assert len(asked) >= 2
    step = desk.wait(1).feed(RequestFailed(*desk.now, asked[0], "amend", "no"))
    assert [command.client_id for command in step.commands if isinstance(command, Amend)] == asked[:1]


@pytest.mark.parametrize("life_s", [0.0, 60.0])
def test_a_cancel_that_was_refused_in_a_pause_goes_out_again_whatever_the_life_of_a_quote(life_s: float) -> None:
    desk = running(params(guard={"soft_clear_s": 1.0}, quotes={"min_quote_life_s": life_s}))
    desk.wait(1).feed(desk.operator("pause"))
    asked = [command.client_id for command in desk.commands if isinstance(command, Cancel)]
    assert len(asked) >= 2
    assert desk.feed(RequestFailed(*desk.now, asked[0], "cancel", "no")).commands == ()
    step = desk.wait(1).feed(desk.timer())
    assert [command.client_id for command in step.commands] == asked[:1]


# --- the account and the mark -----------------------------------------------------------------------------------------


def test_the_mark_of_an_account_counts_only_where_it_is_the_later_one() -> None:
    desk = running(PARAMS)
    desk.mark_px = MID + 30
    desk.wait(1).feed(desk.account())
    assert (desk.state.venue.mark_px_ticks, desk.state.venue.mark_ns) == (MID + 30, desk.now_ns)
    late = desk.account()
    desk.wait(1).feed(desk.mark(MID + 40))
    marked_ns = desk.now_ns
    desk.feed(late)
    assert (desk.state.venue.mark_px_ticks, desk.state.venue.mark_ns) == (MID + 40, marked_ns)


@pytest.mark.parametrize("figure", ["position_lots", "wallet_e10", "unrealised_e10", "available_margin_e10"])
def test_an_account_with_a_figure_that_cannot_be_is_none_and_its_mark_neither(figure: str) -> None:
    desk = running(PARAMS)
    good = desk.wait(1).account()
    desk.mark_px = MID + 30
    nan: Any = {figure: float("nan"), "mark_px_ticks": MID + 30}
    bad: AccountSnapshot = msgspec.structs.replace(good, **nan)
    desk.feed(bad)
    assert desk.state.venue.account is None
    assert desk.state.venue.mark_px_ticks == MID
    assert "position" in desk.reasons


@pytest.mark.parametrize("stamp", [None, -1, 1.5])
def test_an_account_that_the_venue_did_not_date_is_none(stamp: Any) -> None:
    desk = running(PARAMS)
    desk.feed(msgspec.structs.replace(desk.wait(1).account(), venue_ts_ns=stamp))
    assert desk.state.venue.account is None
    assert "position" in desk.reasons


# --- fills, bars, what was refused ------------------------------------------------------------------------------------


def test_a_fill_begins_its_markout() -> None:
    desk = running(PARAMS)
    desk.feed(desk.fill(Side.BUY, 3))
    (pending,) = desk.state.markouts.pending
    assert (pending.fill.side, pending.fill.qty_lots) == (Side.BUY, 3)


def bar(desk: Desk, minutes_ago: int, high: int = MID + 500) -> BarClosed:
    open_ns = (desk.now[1] // MINUTE_NS - minutes_ago) * MINUTE_NS
    return BarClosed(*desk.now, open_ns, MID, high, MID - 500, MID, 7, "venue")


def test_a_closed_bar_reaches_the_detector_and_one_that_cannot_be_does_not() -> None:
    desk = running(PARAMS)
    for minutes_ago in range(40, 1, -1):
        desk.feed(bar(desk, minutes_ago))
    band = desk.state.detector.band_bps
    assert band > 0
    desk.feed(bar(desk, 1, high=MID - 1))
    assert desk.state.detector.band_bps == band
    desk.feed(bar(desk, 1, high=MID + 50_000))
    assert desk.state.detector.band_bps > band


def test_what_the_edge_refused_is_counted_by_its_reason() -> None:
    desk = running(PARAMS)
    desk.all_of(MarketDataRefused(*desk.now, "off_tick"), MarketDataRefused(*desk.now, "off_tick"))
    assert desk.state.book.refused["off_tick"] == 2


# --- the day ----------------------------------------------------------------------------------------------------------


def test_the_first_day_begins_with_the_first_mark_though_no_clock_was_measured() -> None:
    """Limits on losses must not wait for it; a later day is one only by a clock that is true."""
    desk = Desk(PARAMS)
    desk.all_of(Started(*desk.now, 1, False), desk.timer())
    assert desk.state.risk.day == -1
    desk.all_of(desk.mark(), desk.timer())
    day = desk.state.risk.day
    assert day > 0
    assert desk.state.risk.day_open_e10 == EQUITY_E10
    desk.wall_ns += 86_400 * NS
    desk.all_of(desk.mark(), desk.timer())
    assert desk.state.risk.day == day


@pytest.mark.parametrize("offset_s", [None, 30.0, -30.0])
def test_no_day_begins_by_a_clock_that_is_not_known_to_be_true(offset_s: float | None) -> None:
    desk = running(PARAMS)
    day = desk.state.risk.day
    desk.wall_ns += 86_400 * NS
    desk.all_of(desk.health(offset_s=offset_s), desk.timer())
    assert desk.state.risk.day == day
    desk.all_of(desk.health(offset_s=0.0), desk.timer())
    assert desk.state.risk.day == day + 1


def test_a_day_opens_with_the_equity_at_the_mark_of_that_moment() -> None:
    """Not with that of the last sample: a mark in between moves equity, and nothing else looked at it since."""
    desk = running(PARAMS).hold(500)
    desk.feed(desk.timer())
    desk.date_passes(86_400 * NS)
    desk.all_of(desk.mark(MID + 20_000), desk.timer())
    assert desk.state.risk.day_open_e10 == EQUITY_E10 + 100 * E10


@pytest.mark.parametrize("moved_e10", [-10_000 * E10, 10_000 * E10])
def test_a_transfer_neither_forgives_a_loss_nor_makes_one(moved_e10: int) -> None:
    desk = running(PARAMS)
    desk.feed(desk.bill(BillKind.FUNDING, -1_000 * E10))
    desk.feed(desk.bill(BillKind.TRANSFER, moved_e10))
    risk = desk.state.risk
    assert risk.equity_e10 == EQUITY_E10 - 1_000 * E10 + moved_e10
    assert (risk.peak_e10, risk.day_open_e10) == (EQUITY_E10 + moved_e10, EQUITY_E10 + moved_e10)
