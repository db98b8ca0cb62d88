"""The whole pipeline: when it decides, what it lets out, and what it says of a step that changes nothing."""

import math
from collections.abc import Callable

import msgspec
import pytest

from mmdaemon.core import engine, guard, orders
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.decision import DecisionInputs
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import Event, LinkChanged, MarketDataRefused
from mmdaemon.core.quotes import decide
from mmdaemon.core.types import NS, GuardState, Link, OrderStatus, Side
from tests.core.build import DEFAULT, MID, Desk, IdealVenue, params, running


def decided(desk: Desk) -> object:
    assert desk.state.decision is not None
    return desk.state.decision


def with_fair(desk: Desk, fair_ticks: float) -> Event:
    """A book of a touch ten ticks wide whose fair value is that, to a thousandth of a tick."""
    bid = math.floor(fair_ticks) - 5
    share = round((fair_ticks - bid) / 10 * 10_000)
    return desk.book(bid, bid + 10, bid_qty=share, ask_qty=10_000 - share)


# --- when -------------------------------------------------------------------------------------------------------------


def test_books_within_the_band_make_no_decision() -> None:
    desk = running()
    desk.feed(desk.book())
    before = decided(desk)
    for i in range(400):
        desk.wait(0.002)
        step = desk.feed(desk.book(MID - 5 - i % 20, MID + 5 + i % 17, bid_qty=1 + i, ask_qty=401 - i))
        assert step is NOTHING
    assert decided(desk) is before


def test_a_book_beyond_the_band_makes_one() -> None:
    desk = running()
    desk.wait(1).healthy_second()
    decision = desk.state.decision
    assert decision is not None
    for edge, inside, outside in (
        (decision.band_hi_ticks, -0.002, 0.002),
        (decision.band_lo_ticks, 0.002, -0.002),
    ):
        desk = running()
        desk.feed(with_fair(desk, edge + inside))
        assert decided(desk) == decision
        step = desk.feed(with_fair(desk, edge + outside))
        assert decided(desk) != decision
        assert step.decision is decided(desk)
        assert step.inputs is not None
        assert step.inputs.fair_ticks == pytest.approx(edge + outside, abs=0.002)


QUIET: dict[str, Callable[[Desk], Event]] = {
    "trade": lambda d: d.trade(d.bid),
    "mark": lambda d: d.mark(MID + 3),
    "refused": lambda d: MarketDataRefused(*d.now, "malformed"),
    "crossed book": lambda d: d.book(MID + 50, MID - 50),
    "account": lambda d: d.account(),
    "health": lambda d: d.health(),
    "reconciled": lambda d: d.reconciled(),
    "funding as before": lambda d: d.funding(),
    "timer": lambda d: d.timer(),
    "update that says nothing new": lambda d: d.update(d.live[0].client_id, OrderStatus.LIVE, 0),
    "update of an order that is not ours": lambda d: d.update("mmabcd-1-999", OrderStatus.LIVE, 0),
    "private link up again": lambda d: d.link("private", True),
    "resume of nothing": lambda d: d.operator("resume"),
}


@pytest.mark.parametrize("what", QUIET)
def test_what_changes_nothing_is_nothing_itself(what: str) -> None:
    """One object, so that the driver may ask `is`; and no decision is made for it."""
    desk = running()
    desk.seconds(2)
    before = decided(desk)
    assert desk.feed(QUIET[what](desk)) is NOTHING
    assert decided(desk) is before


LOUD: dict[str, Callable[[Desk], Event]] = {
    "fill": lambda d: d.fill(Side.BUY, 5),
    "fees": lambda d: d.fees(0.0003),
    "funding": lambda d: d.funding(0.0002, due_s=60.0),
    "pause": lambda d: d.operator("pause"),
    "public link": lambda d: d.link("public", False),
}


@pytest.mark.parametrize("what", LOUD)
def test_what_a_decision_rests_on_makes_a_new_one(what: str) -> None:
    desk = running()
    desk.seconds(2)
    before = decided(desk)
    desk.feed(LOUD[what](desk))
    assert decided(desk) is not before


def test_what_became_of_an_order_is_acted_on_by_the_decision_there_is() -> None:
    """It changes what there is and not what is wanted: the place that fell free is filled as before, at once."""
    desk = running()
    desk.seconds(2)
    before, gone = decided(desk), desk.live[0]
    (again,) = desk.feed(desk.update(gone.client_id, OrderStatus.CANCELLED, 0)).commands
    assert isinstance(again, Place)
    assert (again.side, again.px_ticks, again.qty_lots) == (gone.side, gone.px_ticks, gone.qty_lots)
    assert again.client_id != gone.client_id
    assert decided(desk) is before


def test_an_order_of_unknown_fate_keeps_its_place() -> None:
    desk = running()
    desk.seconds(2)
    before = decided(desk)
    assert desk.feed(desk.update(desk.live[0].client_id, OrderStatus.UNKNOWN)).commands == ()
    assert decided(desk) is before


def test_a_bad_state_does_not_decide_on_books() -> None:
    desk = running()
    desk.feed(desk.operator("pause"))
    before = decided(desk)
    for i in range(20):
        assert desk.feed(desk.book(MID + 100 * i, MID + 100 * i + 10)) is NOTHING
    assert decided(desk) is before


def test_a_decision_is_told_only_where_it_changed() -> None:
    """A fill elsewhere of a size that moves no target is decided anew and not told."""
    desk = running(params("desk", quotes={"skew_cap_bps": 0.0}))
    seq = desk.state.decision_seq
    before = decided(desk)
    step = desk.feed(desk.fill(Side.BUY, 1))
    assert decided(desk) is not before
    assert step is NOTHING
    assert desk.state.decision_seq == seq
    step = desk.feed(desk.fill(Side.BUY, 160))  # at the cap of 1,000 quote the bids go
    assert step.decision is decided(desk)
    assert step.inputs is desk.state.inputs
    assert desk.state.decision_seq == desk.state.seq


def test_a_change_of_guard_is_a_changed_decision_with_a_transition() -> None:
    desk = running()
    step = desk.feed(desk.operator("pause"))
    assert step.transition is not None
    assert (step.transition.before, step.transition.after) == (GuardState.RUNNING, GuardState.SOFT_PAUSE)
    assert step.transition.reasons == ("operator_pause",)
    assert step.decision is not None
    assert step.decision.quotes == ()


# --- what goes out ----------------------------------------------------------------------------------------------------


def test_the_first_ladder_is_placed_reserved_and_counted_at_once() -> None:
    desk = Desk().start()
    places = [command for command in desk.commands if isinstance(command, Place)]
    decision = desk.state.decision
    assert decision is not None
    assert [(p.side, p.level, p.px_ticks, p.qty_lots) for p in places] == [
        (q.side, q.level, q.px_ticks, q.qty_lots) for q in decision.quotes
    ]
    assert all(place.post_only and not place.reduce_only and not place.ioc for place in places)
    assert [place.client_id for place in places] == [f"mmabcd-1-{i}" for i in range(1, 7)]
    assert set(desk.state.orders.live) == {place.client_id for place in places}
    assert {order.status for order in desk.live} == {OrderStatus.NEW}
    assert (desk.state.orders.reserved_buy_lots, desk.state.orders.reserved_sell_lots) == (45, 45)
    assert len(desk.state.budgets.messages_ns) == 6


def test_a_refused_command_leaves_no_trace_and_is_tried_again() -> None:
    """Mark far away: every price is outside the collar. Asks that the market left behind go, and come again."""
    desk = running()
    desk.feed(desk.mark(MID * 97 // 100))
    counted = len(desk.state.budgets.messages_ns)
    live = {order.client_id: order.px_ticks for order in desk.live}
    asks = [order.client_id for order in desk.live if order.side is Side.SELL]
    step = desk.wait(1).feed(desk.book(MID + 300, MID + 310))
    assert {command.client_id for command in step.commands if isinstance(command, Cancel)} == set(asks)
    assert len(step.commands) == len(asks) == 3
    assert {refusal.check for refusal in step.refusals} == {"collar"}
    assert len(step.refusals) == 6
    assert {order.client_id: order.px_ticks for order in desk.live} == live
    assert not any(order.pending_ns for order in desk.live)
    assert len(desk.state.budgets.messages_ns) == counted + 3
    for client_id in asks:
        step = desk.feed(desk.update(client_id, OrderStatus.CANCELLED, 0))
        assert step.commands == ()
    assert desk.state.orders.counter > len(live)  # the ids of what was refused are spent

    desk.feed(desk.mark(MID))
    step = desk.wait(1).feed(desk.timer())
    assert [type(command) for command in step.commands] == [Amend] * 3 + [Place] * 3


def test_without_a_mark_nothing_is_placed() -> None:
    desk = Desk()
    desk.mark_px = 0
    desk.learn().seconds(20)
    assert desk.reasons == {"mark"}
    assert desk.commands == []
    desk.feed(desk.mark(MID))
    desk.seconds(2)
    assert len(desk.live) == 6


def test_what_is_refused_once_is_placed_when_the_next_second_allows_it() -> None:
    """The rate lets four commands out; the rest of the ladder follows when the minute is over."""
    p = params(
        limits={"messages_per_minute": 10, "cancels_per_minute": 10, "reserve_for_cancels_fraction": 0.6},
    )
    desk = Desk(p).start()
    desk.acknowledge()
    assert len(desk.live) == 4
    assert {refusal.check for _, step in desk.log for refusal in step.refusals} == {"message_rate"}
    desk.seconds(62)
    assert len(desk.live) == 6


def test_own_orders_beyond_the_cap_are_never_made_by_acknowledgements_that_tarry() -> None:
    """Nothing is acknowledged and everything moves: what is in flight holds its place, and nothing is stacked on it."""
    desk = Desk().start()
    for i in range(60):
        desk.wait(0.5).all_of(desk.book(MID + 15 * i, MID + 15 * i + 10), desk.mark(), desk.health(), desk.timer())
    assert len(desk.live) == 6
    assert len(desk.commands) == 6


def test_an_unknown_order_keeps_its_place_and_its_reservation() -> None:
    desk = running()
    order = desk.live[0]
    step = desk.feed(desk.update(order.client_id, OrderStatus.UNKNOWN, reason="timeout"))
    assert step.commands == ()
    desk.wait(1).feed(desk.book(MID + 200, MID + 210))
    desk.seconds(3)
    assert order.client_id in desk.state.orders.live
    assert not any(isinstance(c, Place) and c.side is order.side and c.level == order.level for c in desk.commands[6:])
    assert desk.state.orders.reserved_buy_lots == 45


def test_at_refresh_age_quotes_move_to_their_target_however_near() -> None:
    desk = running()
    desk.feed(desk.book(MID + 20, MID + 30))  # within the tolerance of half a bp
    sent = desk.seconds(50)
    assert sent == []
    sent = desk.seconds(15)
    assert [type(command) for command in sent] == [Amend] * 6
    decision = desk.state.decision
    assert decision is not None
    assert decision.band_lo_ticks < MID + 25 < decision.band_hi_ticks
    assert {command.px_ticks for command in sent if isinstance(command, Amend)} == {
        quote.px_ticks for quote in decision.quotes
    }


def test_cancels_beyond_their_budget_lead_to_reducing_and_the_third_time_to_a_stop() -> None:
    p = params(
        venue={"amend": False},
        limits={"cancels_per_minute": 20},
        guard={"cancel_breach_pause_s": 10.0, "cancel_breaches_hard": 3, "soft_clear_s": 1.0},
    )
    desk = running(p)
    venue = IdealVenue(desk)
    for order in desk.live:
        venue.resting[order.client_id] = [order.side, order.px_ticks, order.qty_lots, 0]
    for i in range(400):
        px = MID + 120 * (i % 2)
        venue.answer(desk.wait(0.4).all_of(desk.health(), desk.account(), desk.reconciled()))
        venue.move(px - 5, px + 5)
        venue.answer(desk.feed(desk.timer()).commands)
        if desk.guard is GuardState.HARD_STOP:
            break
    after = [moved.after for moved in desk.transitions]
    assert after[-1] is GuardState.HARD_STOP
    assert "cancel_breaches" in desk.transitions[-1].reasons
    assert after.count(GuardState.REDUCING) >= 2
    assert venue.resting == {}


def test_inputs_have_no_negative_zero() -> None:
    desk = running()
    desk.all_of(desk.fees(-0.0, -0.0), desk.funding(-0.0))
    inputs = desk.state.inputs
    assert inputs is not None
    for value in msgspec.structs.astuple(inputs):
        assert value != 0.0 or math.copysign(1.0, value) == 1.0


def test_seq_counts_every_event_and_time_is_the_events() -> None:
    desk = running()
    before = desk.state.seq
    desk.wait(0.25).feed(desk.trade(desk.bid))
    assert desk.state.seq == before + 1
    assert (desk.state.mono_ns, desk.state.ts_ns) == desk.now[:2]


# --- a day in miniature -----------------------------------------------------------------------------------------------


def day() -> tuple[Desk, IdealVenue]:
    """A few hundred events of everything that is normal, at an ideal venue: a market that wanders, fills, funding,
    bars, a stale book, a private gap, a pause, and an order without an answer."""
    desk = Desk(params(guard={"soft_clear_s": 1.0}))
    venue = IdealVenue(desk)
    desk.start()
    venue.answer(c for c in desk.commands)
    px, walk = MID, 12_345
    for second in range(340):
        walk = (walk * 1_103_515_245 + 12_345) % (1 << 31)
        # A lurch now and then reaches resting orders; the pull back to where it began keeps drift within bounds.
        px += (walk >> 16) % 181 - 90 if second % 3 else ((walk >> 16) % 2 * 2 - 1) * 360
        px -= (px - MID) // 8
        desk.wait(0.5)
        venue.move(px - 5, px + 5, bid_qty=1 + (walk >> 8) % 900, ask_qty=1 + (walk >> 4) % 900)
        desk.wait(0.5)
        for event in (desk.trade(desk.bid, 1 + walk % 9), desk.mark(px), desk.health(), desk.account()):
            venue.answer(desk.feed(event).commands)
        if second % 10 == 0:
            venue.answer(desk.feed(desk.reconciled()).commands)
        happens: dict[int, Callable[[], Event]] = {
            20: lambda: desk.funding(0.0001, due_s=900.0),
            50: lambda: desk.link("private", False),
            58: lambda: desk.link("private", True),
            90: lambda: desk.operator("pause"),
            95: lambda: desk.operator("resume"),
            120: lambda: desk.fees(0.0001, 0.0005),
            150: lambda: desk.health(offset_s=None),
            180: lambda: desk.link("public", False),
            182: lambda: desk.link("public", True),
        }
        if second in happens:
            venue.answer(desk.feed(happens[second]()).commands)
        venue.answer(desk.feed(desk.timer()).commands)
    return desk, venue


@pytest.fixture(scope="module")
def a_day() -> tuple[Desk, IdealVenue]:
    return day()


def test_a_day_trades_and_comes_through(a_day: tuple[Desk, IdealVenue]) -> None:
    desk, venue = a_day
    assert desk.guard is GuardState.RUNNING
    assert len(desk.log) > 1_000
    assert venue.fills > 20
    assert desk.state.position.buys > 5
    assert desk.state.position.sells > 5
    assert {type(command) for command in desk.commands} == {Place, Amend, Cancel}
    assert {moved.after for moved in desk.transitions} >= {
        GuardState.RECONCILING,
        GuardState.SOFT_PAUSE,
        GuardState.RUNNING,
    }
    assert not [refusal for _, step in desk.log for refusal in step.refusals]
    assert desk.state.orders.anomalies == {}


def test_after_a_day_the_core_and_the_venue_know_the_same_orders(a_day: tuple[Desk, IdealVenue]) -> None:
    desk, venue = a_day
    assert {(o.client_id, o.px_ticks, o.qty_lots) for o in desk.live} == {
        (client_id, px, lots) for client_id, (_, px, lots, _) in venue.resting.items()
    }
    assert orders.reserved_full(desk.state.orders) == (
        desk.state.orders.reserved_buy_lots,
        desk.state.orders.reserved_sell_lots,
    )


def test_every_decision_of_a_day_can_be_recomputed_from_its_inputs(a_day: tuple[Desk, IdealVenue]) -> None:
    desk, _ = a_day
    told = [step for _, step in desk.log if step.decision is not None]
    assert len(told) > 100
    decode = msgspec.msgpack.Decoder(DecisionInputs).decode
    for step in told:
        assert step.inputs is not None
        assert decide(decode(msgspec.msgpack.encode(step.inputs)), desk.params) == step.decision


def test_ids_are_never_used_twice(a_day: tuple[Desk, IdealVenue]) -> None:
    desk, _ = a_day
    ids = [command.client_id for command in desk.commands if isinstance(command, Place)]
    assert len(ids) == len(set(ids))


def test_the_shadow_changes_nothing(a_day: tuple[Desk, IdealVenue]) -> None:
    desk, _ = a_day
    again = Desk(msgspec.structs.replace(desk.params, shadow=False))
    assert [step for _, step in desk.log] == [engine.step(again.state, e, again.params) for e, _ in desk.log]


def test_most_of_a_day_is_nothing(a_day: tuple[Desk, IdealVenue]) -> None:
    desk, _ = a_day
    assert sum(step is NOTHING for _, step in desk.log) > len(desk.log) / 3
    assert all(step is NOTHING or step != Step() for _, step in desk.log)
    assert DEFAULT.shadow
    assert desk.now_ns > 200 * NS


# --- what the venue says of itself while up ---------------------------------------------------------------------------


def test_a_link_is_one_of_two_and_nothing_else() -> None:
    """A name that is neither must not pass for the private stream: its loss begins a reconcile."""
    assert {str(link) for link in Link} == {"public", "private"}
    with pytest.raises(msgspec.ValidationError, match="private2"):
        msgspec.json.decode(
            b'{"type":"LinkChanged","mono_ns":1,"ts_ns":1,"venue_ts_ns":null,"link":"private2","up":true}',
            type=LinkChanged,
        )
    with pytest.raises(AssertionError):
        Desk().feed(LinkChanged(1, 1, None, "privat", True))  # pyright: ignore[reportArgumentType]


def test_fees_that_change_while_up_reach_the_edge_of_the_same_step_and_live_orders_inside_it_move() -> None:
    """One copy, `state.venue.fees`: with a position and live orders, the next decision and all that rests have them."""
    desk = running().hold(20)
    desk.acknowledge()
    before = desk.state.decision
    step = desk.wait(1).feed(desk.fees(maker_rate=0.0010))
    assert before is not None
    assert step.decision is not None
    assert step.decision.buy_edge.maker_fee_bps == 10.0
    assert before.buy_edge.maker_fee_bps == 2.0
    assert step.commands
    fair = (desk.bid + desk.ask) / 2
    for order in desk.live:
        px = order.pending_px_ticks or order.px_ticks
        if order.side is Side.BUY and not order.cancel_sent_ns:
            assert (fair - px) / fair * 1e4 > 10.0


def test_fees_that_are_taken_back_pause_and_take_all_quotes_out() -> None:
    desk = running().hold(20)
    step = desk.wait(1).feed(desk.fees(maker_rate=float("nan")))
    assert desk.guard is GuardState.SOFT_PAUSE
    assert {command.client_id for command in step.commands if isinstance(command, Cancel)} == set(
        desk.state.orders.live
    )


def test_an_account_that_is_not_as_configured_says_what_is_not() -> None:
    desk = running().hold(20)
    event = msgspec.structs.replace(desk.health(facts_ok=False), account_detail="tick_e10 of BTCUSDT is 5 and was 10")
    step = desk.feed(event)
    assert desk.guard is GuardState.HARD_STOP
    assert all(isinstance(command, Cancel) for command in step.commands)
    said = "account_facts: the account is not as configured (tick_e10 of BTCUSDT is 5 and was 10)"
    assert said in guard.describe(desk.state)
