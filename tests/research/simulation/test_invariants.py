"""Each invariant: a right world passes, and a world that breaks it is caught under its number."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core import risk
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.engine import Step
from mmdaemon.core.events import KillChanged, Started
from mmdaemon.core.fill_quality import Phase
from mmdaemon.core.guard import Transition
from mmdaemon.core.state import new_state
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus, Purpose, Side
from mmdaemon.daemon.assertions import IN_PRODUCTION
from mmdaemon.research.simulation import invariants
from mmdaemon.research.simulation.invariants import INVARIANTS, LAWS, When, markdown
from mmdaemon.venues.simulated.records import VenueOrder
from tests.core.build import DEFAULT, EQUITY_E10, MID
from tests.research.simulation.scene import PREFIX, Scene

ROOT = Path(__file__).resolve().parents[3]
SETTLED_NS = 90 * NS


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    assert scene.found == []
    assert {order.side for order in scene.resting} == {Side.BUY, Side.SELL}
    return scene


def settle(scene: Scene, seconds: float = 100) -> None:
    """Time passes and nothing happens."""
    scene.desk.wait(seconds)


def traded(scene: Scene, *, journaled: bool = True) -> None:
    """Part of the bid is filled, told, and booked."""
    fill = scene.fill(scene.bid(), 1)
    scene.look(When.VENUE)
    if journaled:
        scene.journal(fill)
    scene.desk.feed(fill)
    order = scene.seen.truth.orders[fill.client_id]
    scene.desk.feed(scene.desk.update(fill.client_id, OrderStatus.PARTIAL, order.filled_lots))


# --- a right world ----------------------------------------------------------------------------------------------------


def test_a_right_world_breaks_nothing(scene: Scene) -> None:
    desk = scene.desk
    traded(scene)
    desk.seconds(70)
    desk.acknowledge()
    bid = scene.bid()
    scene.fill(bid, bid.qty_lots - bid.filled_lots)
    scene.look(When.VENUE)
    fill = scene.seen.truth.fills[-1]
    scene.journal(fill)
    desk.feed(desk.update(bid.client_id, OrderStatus.FILLED, bid.filled_lots))
    desk.feed(fill)
    desk.acknowledge()
    for seconds in (1, 30, 100):
        desk.seconds(seconds)
        desk.acknowledge()
        for when in When:
            if when is not When.STEP:
                scene.seen.command = None
                scene.look(when)
    assert scene.found == []


def test_a_kill_and_its_resume_break_nothing(scene: Scene) -> None:
    desk, seen = scene.desk, scene.seen
    rested = list(scene.resting)
    desk.feed(desk.operator("kill"))
    seen.tripped()
    assert scene.resting == []
    for order in rested:
        desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
    desk.seconds(10)
    scene.look(When.VENUE)
    seen.verified()
    desk.seconds(10)
    seen.resumed()
    desk.feed(desk.operator("resume"))
    desk.seconds(desk.params.guard.soft_clear_ns / NS + 3)
    assert desk.guard is GuardState.RUNNING
    assert len(scene.resting) >= 2
    assert scene.found == []


def test_a_restart_breaks_nothing(scene: Scene) -> None:
    scene.seen.died()
    scene.look(When.VENUE)
    scene.desk.wait(600)
    scene.look(When.VENUE)
    scene.seen.started(scene.desk.state, DEFAULT)
    scene.look(When.VENUE)
    assert scene.found == []
    assert scene.seen.restarts == 1


def test_a_foreign_trade_is_no_decision_of_ours(scene: Scene) -> None:
    """It moves the position beyond every cap; what is ours is judged without it, before and after we know of it."""
    other = VenueOrder("venue:x1", Side.BUY, MID, 100_000)
    scene.resting.append(other)
    fill = scene.fill(other, 100_000)
    assert scene.look(When.VENUE) == []
    scene.desk.seconds(2)
    scene.journal(fill)
    scene.desk.feed(fill)
    assert scene.look(When.VENUE) == []
    assert scene.found == []


def test_a_slice_that_flattens_is_no_decision_of_the_core(scene: Scene) -> None:
    """It reduces the position while asks still rest, so the worst case of that side grows, long after any decision."""
    traded(scene)
    scene.fill(scene.bid(), 1)
    settle(scene)
    scene.look(When.VENUE)
    slice_ = VenueOrder(f"{PREFIX}1-k1", Side.SELL, MID - 100, 2, reduce_only=True, ioc=True)
    scene.resting.append(slice_)
    scene.fill(slice_, 2)
    scene.look(When.VENUE)
    assert [number for number, _ in scene.found if number == 2] == []


# --- wrong ones -------------------------------------------------------------------------------------------------------

Spoil = Callable[[Scene], list[int] | None]
WRONG: list[tuple[int, str, Spoil]] = []


def wrong(number: int) -> Callable[[Spoil], Spoil]:
    def add(spoil: Spoil) -> Spoil:
        WRONG.append((number, spoil.__name__, spoil))
        return spoil

    return add


@wrong(1)
def fill_not_journaled(scene: Scene) -> list[int]:
    traded(scene, journaled=False)
    settle(scene)
    return scene.look(When.SETTLED)


@wrong(1)
def fill_journaled_twice(scene: Scene) -> list[int]:
    traded(scene)
    scene.journal(scene.seen.truth.fills[0], account=2)
    return scene.look(When.SETTLED)


@wrong(1)
def fill_journaled_wrong(scene: Scene) -> list[int]:
    traded(scene, journaled=False)
    scene.journal(msgspec.structs.replace(scene.seen.truth.fills[0], px_ticks=1))
    return scene.look(When.END)


@wrong(1)
def fill_of_nowhere(scene: Scene) -> list[int]:
    traded(scene)
    del scene.seen.truth.fills[0]
    return scene.look(When.SETTLED)


@wrong(2)
def decided_over_the_cap(scene: Scene) -> list[int]:
    assert scene.desk.state.decision is not None
    return scene.decided(scene.place(lots=scene.desk.state.decision.max_position_lots))


@wrong(2)
def decided_over_the_cap_with_one_in_flight(scene: Scene) -> list[int]:
    """Each is small; the first has not arrived, and the daemon forgot it."""
    assert scene.desk.state.decision is not None
    half = scene.desk.state.decision.max_position_lots // 2 + 1
    first = scene.place(lots=half)
    scene.seen.sending(first)
    scene.decided(first)
    scene.found.clear()
    return scene.decided(scene.place("78", lots=half))


@wrong(2)
def rests_and_nobody_decided(scene: Scene) -> None:
    scene.send(scene.place(lots=20_000))


@wrong(2)
def no_quote_and_may_increase(scene: Scene) -> None:
    place = scene.place("77", Side.SELL, MID + 300)
    scene.send(msgspec.structs.replace(place, purpose=Purpose.DERISK))


@wrong(2)
def works_down_what_is_not_held(scene: Scene) -> list[int]:
    """One lot is held, and two are decided to be sold."""
    fill = scene.fill(scene.bid(), 1)
    scene.desk.feed(fill)
    for order in list(scene.resting):
        scene.end(order)
    scene.found.clear()
    place = scene.place("77", Side.SELL, MID + 300, lots=2)
    return scene.decided(msgspec.structs.replace(place, purpose=Purpose.DERISK, reduce_only=True))


@wrong(2)
def quoted_though_pulled(scene: Scene) -> list[int]:
    scene.desk.state.quality.buy.phase = Phase.PULLED
    scene.send(scene.place())
    return scene.decided(scene.place())


@wrong(3)
def freed_while_open(scene: Scene) -> None:
    bid, ask = scene.bid(), scene.ask()
    del scene.desk.state.orders.live[bid.client_id]
    scene.desk.state.orders.reserved_buy_lots -= bid.qty_lots
    scene.desk.feed(scene.desk.update(ask.client_id, OrderStatus.LIVE, 0))


@wrong(3)
def freed_with_a_fill_missing(scene: Scene) -> None:
    bid = scene.bid()
    scene.fill(bid, 1)
    scene.end(bid)
    scene.desk.feed(scene.desk.update(bid.client_id, OrderStatus.CANCELLED, 0))


@wrong(3)
def holds_less_than_is_there(scene: Scene) -> None:
    scene.bid().qty_lots += 1
    scene.desk.feed(scene.desk.update(scene.ask().client_id, OrderStatus.LIVE, 0))


@wrong(3)
def restart_forgets_what_is_in_flight(scene: Scene) -> list[int]:
    scene.seen.sending(scene.place())
    scene.seen.died()
    scene.seen.started(new_state(DEFAULT, EQUITY_E10), DEFAULT)
    scene.seen.event = scene.desk.update("elsewhere", OrderStatus.LIVE, 0)
    return scene.look(When.STEP)


@wrong(4)
def sent_before_its_intent(scene: Scene) -> None:
    scene.send(scene.place(), durable=False)


@wrong(4)
def amended_before_its_intent(scene: Scene) -> None:
    bid = scene.bid()
    scene.send(Amend(bid.client_id, 9, bid.px_ticks - 1, bid.qty_lots), durable=False)


@wrong(5)
def one_id_for_two(scene: Scene) -> None:
    scene.send(scene.place(px=MID - 300))
    scene.send(scene.place(px=MID - 301))


@wrong(5)
def sent_twice(scene: Scene) -> None:
    scene.send(scene.place())
    scene.send(scene.place())


@wrong(5)
def time_out_taken_for_a_rejection(scene: Scene) -> None:
    """It rests at the venue."""
    bid = scene.bid()
    scene.desk.feed(scene.desk.update(bid.client_id, OrderStatus.UNKNOWN, reason="timeout"))
    scene.desk.feed(scene.desk.update(bid.client_id, OrderStatus.REJECTED, 0, "timeout"))


@wrong(5)
def not_found_too_soon(scene: Scene) -> None:
    """It has not arrived, and still may."""
    bid = scene.bid()
    scene.seen.arrived.discard((bid.client_id, 0))
    scene.seen.sent_ns[bid.client_id, 0] = scene.seen.now_ns
    del scene.seen.truth.orders[bid.client_id]
    scene.resting.remove(bid)
    scene.desk.feed(scene.desk.update(bid.client_id, OrderStatus.CANCELLED, 0, "absent"))


@wrong(6)
def orphan(scene: Scene) -> list[int]:
    order = VenueOrder(f"{PREFIX}0-5", Side.BUY, MID - 900, 1, status=OrderStatus.LIVE)
    order.arrived_ns = scene.seen.now_ns
    scene.resting.append(order)
    settle(scene, 31)
    return scene.look(When.SETTLED)


@wrong(6)
def cancels_what_is_not_ours(scene: Scene) -> list[int]:
    scene.seen.sending(Cancel("venue:x1", True))
    return scene.look(When.STEP)


@wrong(7)
def position_differs(scene: Scene) -> list[int]:
    traded(scene)
    scene.desk.state.position.position_lots += 1
    settle(scene)
    return scene.look(When.SETTLED)


@wrong(7)
def history_not_booked(scene: Scene) -> None:
    """A round is over that read what filled, and it is not in the books, though it is not what the venue says now."""
    desk = scene.desk
    scene.fill(scene.bid(), 1)
    desk.wait(1)
    scene.seen.history_ns = desk.now[1]
    desk.wait(1)
    desk.feed(desk.reconciled("position: one lot"))


@wrong(8)
def filled_falls(scene: Scene) -> None:
    traded(scene)
    order = scene.desk.state.orders.live[scene.bid().client_id]
    order.filled_lots = order.cum_filled_lots = 0
    scene.desk.state.orders.reserved_buy_lots += 1
    scene.desk.feed(scene.desk.update(scene.ask().client_id, OrderStatus.LIVE, 0))


@wrong(8)
def life_runs_backwards(scene: Scene) -> None:
    scene.desk.state.orders.live[scene.bid().client_id].status = OrderStatus.NEW
    scene.desk.feed(scene.desk.update(scene.ask().client_id, OrderStatus.LIVE, 0))


@wrong(8)
def filled_beyond_what_was_sent(scene: Scene) -> list[int]:
    scene.bid().filled_lots = scene.bid().qty_lots + 1
    return scene.look(When.VENUE)


@wrong(9)
def sent_after_a_kill(scene: Scene) -> None:
    scene.seen.tripped()
    scene.send(scene.place())


@wrong(9)
def landed_after_verified(scene: Scene) -> None:
    scene.seen.sending(scene.place())
    scene.seen.tripped()
    scene.seen.verified()
    scene.arrive(scene.place())


@wrong(9)
def rests_after_a_kill(scene: Scene) -> list[int]:
    scene.seen.tripped()
    settle(scene, 7.5)
    return scene.look(When.VENUE)


@wrong(9)
def verified_and_an_order_rests(scene: Scene) -> list[int]:
    scene.seen.event = KillChanged(*scene.desk.now, KillState.VERIFIED, "")
    return scene.look(When.STEP)


@wrong(9)
def landed_late_and_stays(scene: Scene) -> list[int]:
    for order in list(scene.resting):
        scene.end(order)
    scene.seen.tripped()
    scene.desk.wait(1)
    scene.arrive(scene.place())
    settle(scene, 4.5)
    return scene.look(When.SETTLED)


@wrong(10)
def own_bid_meets_own_ask(scene: Scene) -> list[int]:
    scene.bid().px_ticks = scene.ask().px_ticks
    return scene.look(When.VENUE)


@wrong(11)
def quotes_with_a_break(scene: Scene) -> list[int]:
    scene.desk.state.facts.breaks = ("position: one lot",)
    return scene.look(When.STEP)


@wrong(11)
def forgets_what_waits_for_a_person(scene: Scene) -> list[int]:
    scene.sql("INSERT INTO breaks VALUES ('manual_trade/t1', 'operator', 0, '', 1, 1, 1, 1, NULL, NULL)")
    scene.desk.feed(scene.desk.reconciled())
    return scene.look(When.SETTLED)


@wrong(12)
def runs_in_the_wrong_mode(scene: Scene) -> list[int]:
    scene.seen.facts_wrong_since_ns = scene.seen.now_ns
    settle(scene, 130)
    return scene.look(When.STEP)


@wrong(12)
def knows_and_runs(scene: Scene) -> list[int]:
    scene.desk.state.facts.health = scene.desk.health(facts_ok=False)
    return scene.look(When.STEP)


@wrong(13)
@wrong(4)
def price_of_nothing(scene: Scene) -> None:
    scene.send(scene.place(px=0), durable=False)


@wrong(13)
def size_below_the_least(scene: Scene) -> None:
    scene.send(scene.place(px=10))


@wrong(13)
def worth_too_much(scene: Scene) -> None:
    scene.send(scene.place(lots=10_000_000))


@wrong(13)
def beyond_the_collar(scene: Scene) -> list[int]:
    return scene.decided(scene.place(px=MID // 2))


@wrong(14)
def sign_of_a_fee(scene: Scene) -> None:
    traded(scene)
    scene.desk.state.position.cost_e10 += 1
    scene.desk.feed(scene.desk.timer())


@wrong(14)
def money_the_venue_does_not_have(scene: Scene) -> list[int]:
    scene.desk.state.position.transfers_e10 += 1
    return scene.look(When.SETTLED)


@wrong(15)
def book_of_before_the_reconnect(scene: Scene) -> list[int]:
    scene.desk.feed(scene.desk.link("public", False))
    scene.desk.feed(scene.desk.link("public", True))
    return scene.decided(scene.place())


@wrong(15)
def crossed_book(scene: Scene) -> list[int]:
    scene.desk.state.book.ask_px = scene.desk.state.book.bid_px - 1
    return scene.decided(scene.place())


@wrong(15)
def old_book(scene: Scene) -> list[int]:
    scene.desk.wait(30)
    scene.desk.feed(scene.desk.timer())
    return scene.decided(scene.place())


@wrong(16)
def in_a_gap(scene: Scene) -> list[int]:
    scene.desk.feed(scene.desk.link("private", False))
    scene.desk.wait(6)
    scene.desk.feed(scene.desk.book())
    return scene.decided(scene.place())


@wrong(16)
def after_a_gap_unread(scene: Scene) -> list[int]:
    scene.desk.feed(scene.desk.link("private", False))
    scene.desk.wait(6)
    scene.desk.feed(scene.desk.link("private", True))
    scene.desk.feed(scene.desk.book())
    return scene.decided(scene.place())


@wrong(16)
def loop_is_late(scene: Scene) -> list[int]:
    scene.desk.state.facts.health = scene.desk.health(lag_s=99.0)
    return scene.decided(scene.place())


@wrong(16)
def clock_is_not_measured(scene: Scene) -> list[int]:
    scene.desk.state.facts.health = scene.desk.health(offset_s=None)
    return scene.decided(scene.place())


@wrong(16)
def runs_on_an_old_book(scene: Scene) -> list[int]:
    scene.desk.wait(5)
    scene.seen.event = scene.desk.timer()
    return scene.look(When.STEP)


@wrong(16)
def while_paused(scene: Scene) -> list[int]:
    scene.desk.feed(scene.desk.operator("pause"))
    return scene.decided(scene.place())


@wrong(17)
def stop_ends_by_itself(scene: Scene) -> list[int]:
    desk = scene.desk
    desk.feed(desk.operator("kill"))
    desk.state.guard.state = GuardState.RECONCILING
    scene.seen.event = desk.timer()
    scene.seen.step = Step(transition=Transition(GuardState.HARD_STOP, GuardState.RECONCILING, ()))
    return scene.look(When.STEP)


@wrong(17)
def move_that_is_not_in_the_table(scene: Scene) -> list[int]:
    scene.desk.state.guard.state = GuardState.STARTING
    scene.seen.step = Step(transition=Transition(GuardState.RUNNING, GuardState.STARTING, ()))
    return scene.look(When.STEP)


@wrong(17)
def runs_at_once_when_a_reason_is_cured(scene: Scene) -> list[int]:
    desk = scene.desk
    desk.feed(desk.link("public", False))
    assert desk.guard is GuardState.SOFT_PAUSE
    desk.wait(0.5)
    desk.state.guard.state, desk.state.guard.raw = GuardState.RUNNING, 0
    scene.seen.event = desk.timer()
    scene.seen.step = Step(transition=Transition(GuardState.SOFT_PAUSE, GuardState.RUNNING, ()))
    return scene.look(When.STEP)


@wrong(17)
def latch_lost_by_a_restart(scene: Scene) -> list[int]:
    seen = scene.seen
    seen.tripped()
    seen.now_ns += 2 * NS
    seen.died()
    state = new_state(DEFAULT, EQUITY_E10)
    seen.started(state, DEFAULT)
    seen.event = Started(*scene.desk.now, 2, False)
    return scene.look(When.STEP)


@wrong(17)
def resume_not_journaled(scene: Scene) -> list[int]:
    scene.sql("INSERT INTO transitions VALUES (1, 5, 5, 5, 'hard_stop', 'reconciling', '')")
    return scene.look(When.END)


@wrong(17)
def armed_by_nobody(scene: Scene) -> list[int]:
    scene.sql("INSERT INTO kill VALUES (1, 5, 5, 'armed', '', '{}')")
    settle(scene)
    return scene.look(When.END)


@wrong(18)
def loss_forgiven(scene: Scene) -> None:
    scene.desk.feed(scene.desk.timer())
    scene.desk.state.risk.day_open_e10 -= 1
    scene.desk.feed(scene.desk.timer())


@wrong(18)
def breaches_forgiven(scene: Scene) -> None:
    scene.desk.state.budgets.cancel_breaches = 2
    scene.desk.feed(scene.desk.timer())
    scene.desk.wait(20)
    scene._now()
    scene.seen.died()
    scene.seen.started(scene.desk.state, DEFAULT)
    scene.desk.state.budgets.cancel_breaches = 0
    scene.desk.feed(scene.desk.timer())


@wrong(18)
def day_comes_again(scene: Scene) -> None:
    scene.desk.feed(scene.desk.timer())
    scene.seen.died()
    scene.seen.started(scene.desk.state, DEFAULT)
    scene.desk.state.risk.day -= 1
    scene.seen.memory["day"] = (scene.seen.memory["day"][0], 0, False)
    scene.desk.state.venue.mark_px_ticks = 0
    scene.desk.feed(scene.desk.timer())


def test_midnight_after_the_disk_has_failed_is_excused(scene: Scene) -> None:
    for disk_failed in (False, True):
        scene.desk.feed(scene.desk.timer())
        scene.seen.memory["day"] = (scene.seen.memory["day"][0], 0, disk_failed)
        scene.seen.died()
        scene.seen.started(scene.desk.state, DEFAULT)
        scene.desk.state.risk.day -= 1
        scene.desk.state.venue.mark_px_ticks = 0
        scene.found.clear()
        scene.desk.feed(scene.desk.timer())
        assert (18 in {number for number, _ in scene.found}) is not disk_failed


def test_an_order_that_a_break_names_as_anothers_is_not_ours_to_cancel(scene: Scene) -> None:
    client_id = scene.bid().client_id
    del scene.desk.state.orders.live[client_id]
    scene.seen.strangers.add(client_id)
    settle(scene, 31)
    scene.look(When.VENUE)
    assert [what for number, what in scene.found if number == 22 and client_id in what]
    scene.found.clear()
    scene.desk.state.facts.breaks = (f"second_instance/{client_id}: it has our tag and a number we never gave",)
    scene.look(When.VENUE)
    assert [what for number, what in scene.found if number == 22 and client_id in what] == []


@wrong(18)
def turnover_forgotten(scene: Scene) -> list[int]:
    traded(scene)
    scene.desk.state.position.turnover_e10 = 0
    return scene.look(When.SETTLED)


@wrong(19)
def something_raised(scene: Scene) -> list[int]:
    scene.seen.errors.append("KeyError('x')")
    return scene.look(When.END)


@wrong(19)
def task_died(scene: Scene) -> list[int]:
    scene.desk.state.facts.dead_tasks = ("timers",)
    return scene.look(When.STEP)


@wrong(20)
def too_many_messages(scene: Scene) -> None:
    for number in range(500):
        scene.seen.sending(scene.place(f"9{number}"))
    scene.send(scene.place("10000"))


@wrong(21)
def secret_is_said(scene: Scene) -> list[int]:
    scene.seen.keeps("hunter/2")
    scene.seen.hear("request_failed url=?key=hunter%2F2", "the log")
    return scene.look(When.END)


@wrong(21)
def secret_is_journaled(scene: Scene) -> list[int]:
    scene.seen.keeps("hunter/2")
    scene.sql("INSERT INTO kill VALUES (1, 1, 1, 'killed', 'hunter/2', '{}')")
    return scene.look(When.END)


@wrong(22)
def rests_when_it_may_not_quote(scene: Scene) -> list[int]:
    scene.desk.feed(scene.desk.timer())
    scene.desk.state.guard.state = GuardState.SOFT_PAUSE
    settle(scene, 31)
    return scene.look(When.VENUE)


@wrong(22)
def rests_and_the_daemon_thinks_it_gone(scene: Scene) -> list[int]:
    del scene.desk.state.orders.live[scene.bid().client_id]
    settle(scene, 31)
    return scene.look(When.VENUE)


@wrong(22)
def cancelled_and_not_asked_again(scene: Scene) -> list[int]:
    live = scene.desk.state.orders.live[scene.bid().client_id]
    live.cancel_sent_ns = scene.desk.now_ns
    settle(scene, 31)
    scene.desk.state.mono_ns = scene.desk.now_ns
    return scene.look(When.VENUE)


@wrong(22)
def rests_and_nobody_is_up(scene: Scene) -> list[int]:
    scene.seen.untended_max_ns = 60 * NS
    scene.seen.died()
    settle(scene, 61)
    return scene.look(When.VENUE)


@wrong(23)
def day_turns_with_too_much(scene: Scene) -> list[int]:
    """400 lots are held for the last hundred seconds of the day, and nobody minds."""
    desk = scene.desk
    desk.date_passes(risk.to_rollover_ns(desk.now[1], 0) - 100 * NS)
    scene.seen.up_ns = scene.seen.links_up_since_ns = scene.seen.now_ns
    desk.feed(desk.timer())
    desk.state.position.position_lots = 400
    settle(scene, 101)
    desk.state.risk.day += 1
    scene.seen.event = desk.timer()
    return scene.look(When.STEP)


@wrong(23)
def quotes_on_as_the_day_ends(scene: Scene) -> list[int]:
    desk = scene.desk
    desk.date_passes(risk.to_rollover_ns(desk.now[1], 0) - 100 * NS)
    desk.feed(desk.timer())
    desk.state.position.position_lots = 400
    settle(scene, 6)
    desk.feed(desk.health())
    desk.state.guard.state = GuardState.RUNNING
    scene.seen.event = desk.timer()
    return scene.look(When.STEP)


@wrong(23)
def pulled_for_good(scene: Scene) -> None:
    scene.desk.state.quality.buy.phase = Phase.PULLED
    for _ in range(2):
        scene.seen.event = scene.desk.timer()
        scene.look(When.STEP)
        settle(scene, DEFAULT.quality.pull_ns / NS + 1)


@wrong(23)
def one_sided(scene: Scene) -> list[int]:
    scene.desk.feed(scene.desk.timer())
    for order in [o for o in scene.resting if o.side is Side.BUY]:
        scene.end(order)
    settle(scene, 61)
    scene.seen.event = scene.desk.timer()
    return scene.look(When.STEP)


@pytest.mark.parametrize(("number", "spoil"), [pytest.param(n, s, id=f"{n}-{name}") for n, name, s in WRONG])
def test_a_wrong_world_is_caught(number: int, spoil: Spoil, scene: Scene) -> None:
    assert number in LAWS
    spoil(scene)
    assert number in {found for found, _ in scene.found}, scene.found


def test_every_invariant_has_a_wrong_world() -> None:
    """But 24, which is none of a moment: test_sometimes.py."""
    of_a_moment = set(range(1, 24))
    assert {number for number, _, _ in WRONG} == of_a_moment == {row.number for row in INVARIANTS} == set(LAWS) - {24}


# --- what must not be held against it ---------------------------------------------------------------------------------


def test_a_young_fill_may_be_on_its_way(scene: Scene) -> None:
    scene.fill(scene.bid(), 1)
    scene.desk.wait(2)
    assert scene.look(When.SETTLED) == []


def test_a_refusal_over_the_rate_limit_is_evidence(scene: Scene) -> None:
    """It never arrived, and it cannot: the venue said so."""
    bid = scene.bid()
    scene.seen.arrived.discard((bid.client_id, 0))
    scene.seen.sent_ns[bid.client_id, 0] = scene.seen.now_ns
    del scene.seen.truth.orders[bid.client_id]
    scene.resting.remove(bid)
    order = scene.desk.state.orders.live[bid.client_id]
    order.status, order.acked_ns = OrderStatus.SENT, 0
    scene.seen.memory["last orders"] = {o.client_id: (o, o.status) for o in scene.desk.state.orders.live.values()}
    scene.desk.feed(scene.desk.update(bid.client_id, OrderStatus.REJECTED, 0, "rate_limit"))
    assert scene.found == []


def test_the_kill_switch_reduces_without_an_intent(scene: Scene) -> None:
    scene.seen.tripped()
    scene.seen.verified()
    slice_ = Place(f"{PREFIX}1-k1", Side.SELL, MID - 100, 1, Purpose.FLATTEN, 0, False, True, True)
    scene.seen.sending(slice_)
    scene.seen.command = slice_
    assert scene.look(When.ARRIVAL) == []


def test_the_kill_switchs_slices_come_out_of_the_share_that_is_kept_for_it(scene: Scene) -> None:
    """Seed 310104: 17 orders of 17, and then a slice."""
    scene.seen.sends_ns.clear()
    scene.seen.sending(Place(f"{PREFIX}1-9", Side.SELL, MID, 1, Purpose.QUOTE, 0, True, False))
    scene.seen.sending(Place(f"{PREFIX}1-k2", Side.SELL, MID, 1, Purpose.FLATTEN, 0, False, True, True))
    assert len(scene.seen.sends_ns) == 1


def test_a_break_that_came_after_the_last_round_is_told_with_the_next(scene: Scene) -> None:
    """Seed 310028: the venue's stop was hit a moment ago."""
    scene.desk.feed(scene.desk.reconciled())
    later = (scene.seen.params.run_epoch, scene.desk.state.seq + 1)
    scene.sql(
        "INSERT INTO breaks VALUES ('manual_trade/t1', 'operator', 0, '', {}, {}, 1, 1, NULL, NULL)".format(*later)
    )
    assert scene.look(When.SETTLED) == []
    scene.desk.feed(scene.desk.timer())
    scene.desk.feed(scene.desk.reconciled())
    assert scene.look(When.SETTLED) == [11]


def test_a_latch_of_the_last_moment_or_of_a_failed_disk_is_excused(scene: Scene) -> None:
    for after_s, excused in ((0.5, False), (60.0, True)):
        seen = scene.seen
        seen.kills.clear()
        seen.tripped()
        seen.latch_excused = excused
        scene.desk.wait(after_s)
        scene._now()
        seen.died()
        seen.started(new_state(DEFAULT, EQUITY_E10), DEFAULT)
        seen.event = Started(*scene.desk.now, 2, False)
        assert scene.look(When.STEP) == []


@pytest.mark.parametrize("why", ["kill", "break", "pause", "edge", "pulled"])
def test_a_missing_side_may_have_a_reason(why: str, scene: Scene) -> None:
    state = scene.desk.state
    scene.desk.feed(scene.desk.timer())
    for order in list(scene.resting):
        scene.end(order)
    settle(scene, 61)
    scene.seen.memory["public"] = scene.desk.now_ns
    if why == "kill":
        scene.seen.tripped()
    elif why == "break":
        state.facts.breaks, state.guard.state = ("position",), GuardState.SOFT_PAUSE
        scene.seen.memory["last guard"] = state.guard.state
    elif why == "pause":
        state.facts.pause_reason = "lunch"
    else:
        assert state.decision is not None
        state.decision = msgspec.structs.replace(state.decision, no_bid=why, no_ask=why)
    scene.seen.event = scene.desk.timer()
    assert scene.look(When.STEP) == []


@pytest.mark.parametrize("missing", [(Side.BUY,), (Side.SELL,), (Side.BUY, Side.SELL)])
@pytest.mark.parametrize("why", ["edge", "inventory", "pulled", "size"])
def test_the_reason_of_one_side_excuses_no_other(why: str, missing: tuple[Side, ...], scene: Scene) -> None:
    state = scene.desk.state
    scene.desk.feed(scene.desk.timer())
    for order in [order for order in scene.resting if order.side in missing]:
        scene.end(order)
    settle(scene, 61)
    scene.seen.memory["public"] = scene.desk.now_ns
    assert state.decision is not None
    state.decision = msgspec.structs.replace(state.decision, no_bid=why)
    scene.seen.event = scene.desk.timer()
    assert scene.look(When.STEP) == ([23] if Side.SELL in missing else [])


def test_trouble_holds_the_clocks_back(scene: Scene) -> None:
    for order in list(scene.resting):
        scene.end(order)
    scene.seen.faults_ended_ns = 0
    settle(scene, 300)
    scene.seen.memory["public"] = scene.desk.now_ns
    scene.seen.event = scene.desk.timer()
    assert scene.look(When.STEP) == []
    assert scene.seen.calm_ns == 0


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_as_made() -> None:
    page = (ROOT / "docs" / "INVARIANTS.md").read_text(encoding="utf-8")
    assert page == markdown(), f"run `python -m {invariants.__name__}`"


def test_the_page_has_every_invariant_and_where_it_is() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(rows) == 24
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == str(number)
        assert (cells[5] == "in part") is (number in IN_PRODUCTION)
        for where in cells[4].split("<br>"):
            file, _, function = where.strip("`").partition(":")
            source = (ROOT / "mmdaemon" / "research" / "simulation" / file).read_text(encoding="utf-8")
            assert f"def {function}(" in source
