"""Working a position down: reduce-only by -sign(position), beside any reason that blocks increases, more urgent by the
clock, never through zero; and flat before the day turns."""

from itertools import combinations

import msgspec
import pytest
from hypothesis import event as noted
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import derisk, orders, reasons, risk
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.decision import DeriskStage
from mmdaemon.core.events import OrderAdopted
from mmdaemon.core.orders import WorkingOrder
from mmdaemon.core.reasons import RULES, Blocks, Reason
from mmdaemon.core.types import BPS, E10, NS, GuardState, OrderStatus, Purpose, Side
from tests.core.build import (
    DEFAULT,
    EQUITY_E10,
    MID,
    Desk,
    IdealVenue,
    What,
    hostile,
    inputs,
    modest,
    params,
    play,
    running,
)
from tests.core.build import realistic as realistic_day
from tests.core.test_reasons import RAISED, before_rollover

BUY, SELL = Side.BUY, Side.SELL
NONE, PASSIVE, TOUCH, TAKER = DeriskStage
PARAMS = params(guard={"soft_clear_s": 1.0})
LARGEST_LOTS = 76
"""500 quote at MID."""
SLICE = params(guard={"soft_clear_s": 1.0}, limits={"max_order_quote": 65.0})
"""Largest order 10 lots at MID, and the quotes no smaller than they are: 65 quote are 9 at a price above it."""
INCREASE = [rule.reason for rule in RULES if rule.blocks is Blocks.INCREASE]
S = OrderStatus


def reduce(desk: Desk) -> None:
    """Increases are blocked until a funding rate is known again."""
    desk.feed(desk.funding(float("nan")))
    assert desk.guard is GuardState.REDUCING


def let_run(desk: Desk) -> None:
    desk.feed(desk.funding())
    desk.seconds(2)
    assert desk.guard is GuardState.RUNNING, desk.reasons


def of(desk: Desk, purpose: Purpose = Purpose.DERISK) -> list[WorkingOrder]:
    return [order for order in desk.live if order.purpose is purpose]


def quotes_are_gone(desk: Desk) -> None:
    """The venue has cancelled whatever it was asked to."""
    for order in desk.live:
        if order.cancel_sent_ns:
            desk.feed(desk.update(order.client_id, S.CANCELLED, 0))


def worked(p=PARAMS, lots: int = 20) -> tuple[Desk, WorkingOrder]:
    """Reducing, nothing of ours at the venue but the one order that works the position down."""
    desk = running(p).hold(lots)
    desk.acknowledge()
    reduce(desk)
    quotes_are_gone(desk)
    desk.seconds(2)
    desk.acknowledge()
    quotes_are_gone(desk)
    [order] = desk.live
    assert (order.purpose, order.side) == (Purpose.DERISK, SELL if lots > 0 else BUY)
    return desk, order


# --- the price and the size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "lots", "px", "lo", "hi", "takes"),
    [
        # 3 bps of 650,000 ticks are 195; the tolerance of half a bp is 32.5, and does not reach where it would take.
        (PASSIVE, 20, MID + 195, MID + 163, MID + 227, False),
        (PASSIVE, -20, MID - 195, MID - 227, MID - 163, False),
        (NONE, -20, MID - 195, MID - 227, MID - 163, False),
        (TOUCH, 20, MID + 5, MID + 5, MID + 5, False),
        (TOUCH, -20, MID - 5, MID - 5, MID - 5, False),
        # 20 bps are 1,300 ticks.
        (TAKER, 20, MID - 1_300, MID - 1_300, MID - 1_300, True),
        (TAKER, -20, MID + 1_300, MID + 1_300, MID + 1_300, True),
    ],
)
def test_price_by_stage(stage: DeriskStage, lots: int, px: int, lo: int, hi: int, takes: bool) -> None:
    p = params(quotes={"tolerance_min_bps": 0.5})
    quote = derisk.quote(inputs(position_lots=lots, derisk=stage, guard=GuardState.REDUCING), float(MID), p)
    assert quote is not None
    assert (quote.px_ticks, quote.lo_px_ticks, quote.hi_px_ticks, quote.takes) == (px, lo, hi, takes)
    assert (quote.side, quote.qty_lots, quote.purpose) == (SELL if lots > 0 else BUY, 20, Purpose.DERISK)


def test_flat_nothing_is_worked_down() -> None:
    assert derisk.quote(inputs(derisk=TAKER), float(MID), DEFAULT) is None


def test_no_more_than_the_largest_order() -> None:
    quote = derisk.quote(inputs(position_lots=1_000, derisk=TOUCH), float(MID), DEFAULT)
    assert quote is not None
    assert quote.qty_lots == LARGEST_LOTS


def test_what_the_venue_would_refuse_is_not_asked_for() -> None:
    coarse = params(limits={"max_order_quote": 5.0})  # less than a lot is worth
    assert derisk.quote(inputs(position_lots=20), float(MID), coarse) is None


def test_a_taking_slice_stays_within_the_collar_of_admission() -> None:
    near = msgspec.structs.replace(DEFAULT, limits=msgspec.structs.replace(DEFAULT.limits, collar_bps=12.0))
    for lots, px in ((20, MID - 780), (-20, MID + 780)):
        quote = derisk.quote(inputs(position_lots=lots, derisk=TAKER), float(MID), near)
        assert quote is not None
        assert quote.px_ticks == px


@given(
    st.integers(-5_000, 5_000).filter(bool),
    st.sampled_from(DeriskStage),
    st.floats(-30.0, 30.0),
    st.integers(1, 400),
    st.floats(0.0, 1.0),
)
@modest(200)
def test_never_against_the_position_never_taking_unasked_and_its_addends_are_its_price(
    lots: int, stage: DeriskStage, signal_bps: float, width: int, where: float
) -> None:
    bid, ask = MID, MID + width
    micro = bid + where * width
    fair = micro * (1.0 + signal_bps * BPS)
    seen = inputs(
        position_lots=lots, derisk=stage, bid_px_ticks=bid, ask_px_ticks=ask, fair_ticks=micro, signal_bps=signal_bps
    )
    quote = derisk.quote(seen, fair, DEFAULT)
    assert quote is not None
    assert quote.side * lots < 0
    assert 0 < quote.qty_lots <= abs(lots)
    assert quote.addends.total == quote.px_ticks
    assert quote.lo_px_ticks <= quote.px_ticks <= quote.hi_px_ticks
    if quote.takes:
        assert stage is TAKER
        assert abs(quote.px_ticks - fair) <= DEFAULT.derisk.taking_bps * BPS * fair
    elif quote.side is BUY:
        assert quote.hi_px_ticks < ask
    else:
        assert quote.lo_px_ticks > bid


# --- the rows of the original -----------------------------------------------------------------------------------------


def test_a_short_position_is_bought_back() -> None:
    """The original sold a short: its orders were always sells, and the position grew."""
    desk = running(PARAMS).hold(-20)
    desk.acknowledge()
    assert any(order.side is BUY for order in of(desk, Purpose.QUOTE))
    assert any(order.side is SELL for order in of(desk, Purpose.QUOTE))
    reduce(desk)
    quotes_are_gone(desk)
    desk.acknowledge()
    desk.seconds(1)
    [order] = of(desk)
    assert (order.side, order.reduce_only, order.post_only) == (BUY, True, True)
    assert order.pending_qty_lots == 20  # all of it, once nothing else may fill


_FIRST = [Reason.MESSAGE_BUDGET, Reason.CANCEL_BUDGET, Reason.EDGE, Reason.DRIFT]
_ORDER = [*_FIRST, *(reason for reason in INCREASE if reason not in (*_FIRST, Reason.DAY_ENDING)), Reason.DAY_ENDING]
"""So that none is over before the next one holds."""
ALONE_AND_IN_PAIRS = [(each,) for each in INCREASE] + list(combinations(INCREASE, 2))


@pytest.mark.parametrize("beside", ALONE_AND_IN_PAIRS, ids="+".join)
@pytest.mark.parametrize("lots", [400, -400])
def test_worked_down_beside_every_reason_that_blocks_increases(beside: tuple[Reason, ...], lots: int) -> None:
    """The original worked a position down only where one reason stood alone; any other beside it, and nothing did.

    With live quotes on both sides, and no matter which reason came first."""
    desk = running(PARAMS).hold(lots)
    desk.acknowledge()
    assert {order.side for order in of(desk, Purpose.QUOTE)} >= {SELL if lots > 0 else BUY}
    for reason in sorted(beside, key=_ORDER.index):
        RAISED[reason](desk)
        if reason is Reason.MESSAGE_BUDGET:
            desk.seconds(61)  # it lasts 120 s, and for the first 60 of them admission lets out nothing but cancels
        desk.hold(lots)
    desk.feed(desk.timer())
    assert set(beside) <= desk.reasons
    assert desk.guard is GuardState.REDUCING
    quotes_are_gone(desk)
    desk.wait(1.0).all_of(desk.health(), desk.book(), desk.timer())
    assert desk.guard is GuardState.REDUCING
    side = SELL if lots > 0 else BUY
    placed = [order for order in of(desk) if order.side is side]
    assert len(placed) == 1
    assert placed[0].reduce_only
    assert placed[0].qty_lots <= 400
    assert not [order for order in of(desk) if order.side is not side]


# --- the clock --------------------------------------------------------------------------------------------------------


def stages(desk: Desk, seconds: int) -> dict[DeriskStage, int]:
    """When each stage was first seen, in seconds from now."""
    first: dict[DeriskStage, int] = {}
    for n in range(1, seconds + 1):
        desk.seconds(1)
        first.setdefault(desk.state.derisk.urgency, n)
    return first


def test_passive_then_at_the_touch_then_taking() -> None:
    desk = running(PARAMS).hold(20)
    assert desk.state.derisk.urgency is NONE
    reduce(desk)
    assert stages(desk, 310) == {PASSIVE: 1, TOUCH: 61, TAKER: 301}
    let_run(desk)
    assert (desk.state.derisk.urgency, desk.state.derisk.since_ns) == (NONE, 0)


@pytest.mark.parametrize("is_day_ending", [False, True])
def test_what_comes_next_is_told_with_its_time_and_comes_then(is_day_ending: bool) -> None:
    desk = running(PARAMS).hold(400)
    assert derisk.rises(desk.state, PARAMS) is None
    if is_day_ending:
        before_rollover(desk, 300 * NS)
    reduce(desk)
    rose: list[DeriskStage] = []
    for _ in range(310):
        told, before = derisk.rises(desk.state, PARAMS), desk.state.derisk.urgency
        desk.seconds(1)
        urgency = desk.state.derisk.urgency
        if before is NONE or urgency is NONE:
            continue
        assert (told is None) is (before is TAKER)
        if told is not None:
            assert (urgency is told[0]) is (told[1] <= NS), (told, urgency)
            rose += [urgency] if urgency is not before else []
    assert rose == [TOUCH, TAKER]


def test_a_new_price_may_be_due_at_each_stage_and_each_second_while_it_follows_the_market() -> None:
    desk = running(params(shadow=False)).hold(20)  # the clock is asked beside the engine
    reduce(desk)
    due: list[tuple[DeriskStage, bool]] = []
    for _ in range(62):
        desk.wait(1.0).all_of(desk.health(), desk.account(), desk.reconciled(), desk.book())
        desk.state.mono_ns, desk.state.ts_ns = desk.now[:2]
        is_due = derisk.on_timer(desk.state, desk.params, blocked=True)
        due.append((desk.state.derisk.urgency, is_due))
    assert due == [(PASSIVE, True)] + [(PASSIVE, False)] * 59 + [(TOUCH, True)] * 2


def test_it_starts_with_the_position_and_stops_when_flat() -> None:
    desk = running(PARAMS)
    reduce(desk)
    assert stages(desk, 70) == {NONE: 1}
    desk.hold(20)
    assert stages(desk, 70) == {PASSIVE: 1, TOUCH: 61}
    desk.hold(0)
    assert stages(desk, 2) == {NONE: 1}
    desk.hold(-5)
    assert stages(desk, 70) == {PASSIVE: 1, TOUCH: 61}


def test_a_pause_between_and_a_partial_fill_do_not_set_it_back() -> None:
    desk = running(PARAMS).hold(20)
    reduce(desk)
    desk.seconds(40)
    desk.feed(desk.operator("pause"))
    assert desk.guard is GuardState.SOFT_PAUSE
    desk.seconds(10)
    assert of(desk) == [] or all(order.cancel_sent_ns for order in of(desk))
    desk.feed(desk.operator("resume"))
    desk.hold(15)
    assert stages(desk, 15) == {PASSIVE: 1, TOUCH: 11}


def test_a_reason_that_ended_during_a_pause_leaves_no_clock_to_the_next() -> None:
    """Reducing for a minute, then a pause in which the reason ends: what blocks increases after it begins anew, and
    does not take at once for what was over."""
    desk = running(PARAMS).hold(400)
    desk.feed(desk.funding(float("nan")))
    desk.seconds(70)
    assert desk.state.derisk.urgency is TOUCH
    desk.feed(desk.operator("pause"))
    desk.feed(desk.funding())
    desk.seconds(5)
    assert desk.guard is GuardState.SOFT_PAUSE
    assert (desk.state.derisk.since_ns, desk.state.derisk.urgency) == (0, NONE)
    desk.feed(desk.funding(float("nan")))
    desk.feed(desk.operator("resume"))
    desk.seconds(5)
    assert desk.guard is GuardState.REDUCING
    assert desk.state.derisk.urgency is PASSIVE


def test_a_hard_stop_ends_it() -> None:
    """What an operator resumes hours later is not at once a taker's."""
    desk = running(PARAMS).hold(20)
    reduce(desk)
    desk.seconds(350)
    assert desk.state.derisk.urgency is TAKER
    desk.feed(desk.operator("kill"))
    desk.seconds(1)
    assert desk.guard is GuardState.HARD_STOP
    desk.feed(desk.operator("resume"))
    desk.feed(desk.reconciled())
    reduce(desk)
    assert stages(desk, 2) == {PASSIVE: 1}


def test_each_stage_goes_out_as_it_should_and_the_position_is_gone() -> None:
    desk = running(PARAMS).hold(20)
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    sent = len(desk.commands)
    venue.answer(desk.feed(desk.funding(float("nan"))).commands)
    for _ in range(310):
        venue.answer(desk.seconds(1))
    ours = [c for c in desk.commands[sent:] if not isinstance(c, Cancel)]
    first, last = ours[0], ours[-1]
    assert isinstance(first, Place)
    assert (first.purpose, first.side, first.post_only, first.px_ticks) == (Purpose.DERISK, SELL, True, MID + 195)
    moved = [c for c in ours if isinstance(c, Amend)]
    assert [c.px_ticks for c in moved if c.px_ticks < first.px_ticks] == [MID + 5]
    assert isinstance(last, Place)
    assert (last.ioc, last.post_only, last.reduce_only, last.qty_lots) == (True, False, True, 20)
    assert desk.state.position.position_lots == 0
    assert desk.guard is GuardState.REDUCING
    assert of(desk) == []


# --- beside other orders ----------------------------------------------------------------------------------------------


def test_quotes_that_may_still_fill_are_left_their_share() -> None:
    """Sells of the ladder come to more than is held: until the venue has said that they are gone, nothing is added."""
    desk = running(PARAMS).hold(20)
    desk.acknowledge()
    assert desk.state.orders.reserved_sell_lots > 20
    reduce(desk)
    desk.seconds(3)
    assert of(desk) == []
    first, *rest = [order for order in of(desk, Purpose.QUOTE) if order.side is SELL]
    for order in rest:
        desk.feed(desk.update(order.client_id, S.CANCELLED, 0))
    desk.wait(1.0).healthy_second()
    [order] = of(desk)
    assert order.qty_lots == 20 - first.reserved_lots > 0  # clipped to the room, and not refused for ever
    desk.feed(desk.update(order.client_id, S.LIVE, 0))
    desk.feed(desk.update(first.client_id, S.CANCELLED, 0))
    desk.wait(1.0).healthy_second()
    assert order.pending_qty_lots == 20  # topped up with what became free


def test_an_order_of_unknown_fate_keeps_its_share() -> None:
    desk = running(PARAMS).hold(60)
    desk.acknowledge()
    lost = next(order for order in of(desk, Purpose.QUOTE) if order.side is SELL)
    desk.feed(desk.update(lost.client_id, S.UNKNOWN, None))
    reduce(desk)
    for order in of(desk, Purpose.QUOTE):
        if order is not lost:
            desk.feed(desk.update(order.client_id, S.CANCELLED, 0))
    desk.acknowledge()
    desk.wait(1.0).healthy_second()
    [order] = of(desk)
    assert order.pending_qty_lots == 60 - lost.reserved_lots > 0


def test_a_position_that_shrank_elsewhere_takes_the_order_out() -> None:
    """A trade by hand: what rests would turn the position round, but for the venue's flag."""
    desk, order = worked()
    step = desk.feed(desk.fill(SELL, 15))
    assert step.commands == (Cancel(order.client_id, risk=True),)
    desk.feed(desk.update(order.client_id, S.CANCELLED, 0))
    desk.wait(1.0).healthy_second()
    [again] = of(desk)
    assert again.qty_lots == 5


def test_a_position_that_turned_round_is_worked_from_the_other_side() -> None:
    desk, order = worked()
    desk.feed(desk.fill(SELL, 30))
    assert order.cancel_sent_ns
    quotes_are_gone(desk)
    desk.wait(1.0).healthy_second()
    [again] = of(desk)
    assert (again.side, again.qty_lots) == (BUY, 10)


def test_running_again_it_leaves_before_a_quote_takes_its_place() -> None:
    desk, order = worked()
    assert desk.feed(desk.funding()).commands == ()  # cured, but not for long enough
    sent = desk.seconds(2)
    assert desk.guard is GuardState.RUNNING
    assert sent[0] == Cancel(order.client_id, risk=True)
    asks = [c for c in sent if isinstance(c, Place) and c.side is SELL]
    assert desk.state.decision is not None
    wanted = [quote for quote in desk.state.decision.quotes if quote.side is SELL]
    assert 0 not in {c.level for c in asks}
    assert len(asks) == len(wanted) - 1
    desk.feed(desk.update(order.client_id, S.CANCELLED, 0))
    desk.seconds(1)
    assert len([o for o in of(desk, Purpose.QUOTE) if o.side is SELL]) == len(wanted)


def test_a_pause_takes_it_out() -> None:
    desk, order = worked()
    step = desk.feed(desk.operator("pause"))
    assert step.commands == (Cancel(order.client_id, risk=True),)


def taking_soon() -> tuple[Desk, WorkingOrder]:
    """One second before the first slice, one order resting at the touch."""
    desk = running(SLICE).hold(40)
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    reduce(desk)
    venue.answer(desk.log[-1][1].commands)
    for _ in range(300):
        venue.answer(desk.seconds(1))
    [resting] = desk.live
    assert (resting.px_ticks, desk.state.derisk.urgency) == (MID + 5, TOUCH)
    return desk, resting


def test_one_that_takes_is_alone_and_none_follows_within_a_second() -> None:
    desk, resting = taking_soon()
    mark, sent = len(desk.commands), 0
    for _ in range(16):
        desk.wait(0.5).healthy_second()
        while mark < len(desk.commands):
            command = desk.commands[mark]
            mark += 1
            if isinstance(command, Cancel):
                assert (command.client_id, sent) == (resting.client_id, 0)
                desk.feed(desk.update(resting.client_id, S.CANCELLED, 0))
                continue
            assert isinstance(command, Place)
            assert command.ioc
            assert resting.client_id not in desk.state.orders.live
            assert command.qty_lots in (9, 10)
            sent += 1
            desk.feed(desk.fill(SELL, 2, MID - 5, command.client_id))
            desk.feed(desk.update(command.client_id, S.CANCELLED, 2, "ioc"))
            assert len(desk.commands) == mark  # and not at once again
    assert sent == 8


def test_one_that_takes_and_is_not_heard_of_again_is_asked_out() -> None:
    desk, resting = taking_soon()
    desk.seconds(1)
    desk.feed(desk.update(resting.client_id, S.CANCELLED, 0))
    [slice_] = of(desk)
    assert not slice_.post_only
    desk.wait(0.9).healthy_second()
    assert not slice_.cancel_sent_ns
    desk.wait(0.1).healthy_second()
    assert slice_.cancel_sent_ns
    desk.feed(desk.update(slice_.client_id, S.UNKNOWN, None))
    desk.seconds(30)
    assert of(desk) == [slice_]  # and no other while that may still trade


def test_one_of_an_earlier_run_is_taken_out_and_replaced() -> None:
    desk = running(PARAMS).hold(20)
    quotes = of(desk, Purpose.QUOTE)
    reduce(desk)
    for order in quotes:
        desk.feed(desk.update(order.client_id, S.CANCELLED, 0))
    for order in of(desk):
        desk.feed(desk.update(order.client_id, S.CANCELLED, 0))
    adopted = OrderAdopted(*desk.now, "mmabcd-0-7", SELL, MID + 900, 20, 0, Purpose.DERISK, True, S.LIVE)
    desk.feed(adopted)
    desk.seconds(1)
    assert desk.state.orders.live["mmabcd-0-7"].cancel_sent_ns
    assert len(of(desk)) == 1
    desk.feed(desk.update("mmabcd-0-7", S.CANCELLED, 0))
    desk.seconds(1)
    [order] = of(desk)
    assert order.client_id != "mmabcd-0-7"


# --- in any state -----------------------------------------------------------------------------------------------------

IMPATIENT = params(guard={"soft_clear_s": 1.0}, derisk={"touch_after_s": 2.0, "taker_after_s": 4.0})
_OFTEN = ("second", "second", "second", "ack", "cancelled", "ack and cancelled")
_RARELY = ("unknown", "part", "part", "over", "by hand", "late fill", "toggle")
_TURN = st.tuples(st.sampled_from((*_OFTEN, *_OFTEN, *_RARELY)), st.integers(0, 7), st.integers(1, 60))
_MOVES = st.lists(st.one_of(*[_TURN] * 9, realistic_day(2)), min_size=20, max_size=60)


def venue_does(desk: Desk, what: str, i: int, lots: int) -> None:
    live = desk.live
    order = live[i % len(live)] if live else None
    match what:
        case "ack":
            desk.acknowledge()
        case "cancelled":
            quotes_are_gone(desk)
        case "ack and cancelled":
            desk.acknowledge()
            quotes_are_gone(desk)
        case "second":
            desk.seconds(1)
        case "toggle":
            is_known = desk.state.venue.funding is not None
            desk.feed(desk.funding(float("nan")) if is_known else desk.funding())
        case "by hand":
            desk.feed(desk.fill(SELL if i % 2 else BUY, lots))
        case "unknown" if order is not None:
            desk.feed(desk.update(order.client_id, S.UNKNOWN, None))
        case "part" if order is not None:
            desk.feed(
                desk.fill(order.side, max(1, order.reserved_lots * (1 + i) // 9), order.px_ticks, order.client_id)
            )
        case "over" if order is not None:
            desk.feed(desk.fill(order.side, order.reserved_lots + lots, order.px_ticks, order.client_id))
        case "late fill" if order is not None:  # the order's end is told first, and its fill after it
            filled = min(order.qty_lots, order.known_filled_lots + lots)
            desk.feed(desk.update(order.client_id, S.CANCELLED, filled))
            desk.seconds(1)
            if filled > order.filled_lots:
                desk.feed(desk.fill(order.side, filled - order.filled_lots, order.px_ticks, order.client_id))
        case _:
            pass


@given(_MOVES, st.integers(-900, 900), st.integers(0, 6))
@modest(120)
def test_no_derisk_order_increases_a_position_while_it_works(
    moves: list[tuple[str, int, int] | list[What]], lots: int, calm_s: int
) -> None:
    """`build.check_commands` holds every order of it, as it goes out, against all that may still fill on its side."""
    desk = running(IMPATIENT).hold(lots)
    reduce(desk)
    for _ in range(calm_s):
        venue_does(desk, "ack and cancelled", 0, 0)
        desk.seconds(1)
    for move in moves:
        if isinstance(move, tuple):
            venue_does(desk, *move)
        else:
            for what in move:
                play(desk, what)
    sent = [c for c in desk.commands if isinstance(c, Place) and c.purpose is Purpose.DERISK]
    noted(f"derisk orders: {min(len(sent), 3)}")
    noted(f"taking: {any(c.ioc for c in sent)}")
    noted(f"moved: {any(isinstance(c, Amend) and c.client_id in {x.client_id for x in sent} for c in desk.commands)}")


@given(hostile(40, without=("stop", "source_ended", "task_died")), st.integers(-900, 900))
@modest(120)
def test_no_derisk_order_increases_a_position_whatever_comes(history: list[What], lots: int) -> None:
    p = params(guard={"soft_clear_s": 0.0}, derisk={"touch_after_s": 1.0, "taker_after_s": 2.0})
    desk = running(p)
    for order in desk.live:
        desk.feed(desk.update(order.client_id, S.CANCELLED, 0))
    desk.hold(lots)
    reduce(desk)
    for what in history:
        play(desk, what)
    noted(f"derisk orders: {min(3, sum(isinstance(c, Place) and c.purpose is Purpose.DERISK for c in desk.commands))}")


# --- the end of the day -----------------------------------------------------------------------------------------------


def test_flat_before_the_day_turns_and_quoting_after_it() -> None:
    desk = running(PARAMS).hold(400)
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    day = desk.state.risk.day
    before_rollover(desk, 320 * NS)
    seen: dict[DeriskStage, int] = {}
    held: dict[int, int] = {}
    for left in range(319, -10, -1):
        venue.answer(desk.seconds(1))
        held[left] = desk.state.position.position_lots
        if "day_ending" in desk.reasons:
            seen.setdefault(desk.state.derisk.urgency, left)
    assert seen[PASSIVE] == 299
    assert seen[TOUCH] == 150
    assert seen[TAKER] == 60
    assert held[61] == 400
    assert held[54] == 0  # six slices of 76 lots or less
    assert desk.state.risk.day == day + 1
    assert desk.guard is GuardState.RUNNING
    assert {order.side for order in of(desk, Purpose.QUOTE)} == {BUY, SELL}


def test_once_it_has_begun_it_holds_until_the_day_has_turned() -> None:
    desk = running(PARAMS).hold(400)
    before_rollover(desk, 200 * NS)
    assert "day_ending" in desk.reasons
    desk.hold(10)  # far below the threshold
    desk.seconds(20)
    assert "day_ending" in desk.reasons
    desk.hold(0)
    desk.seconds(20)
    assert "day_ending" in desk.reasons
    desk.seconds(158)
    assert "day_ending" in desk.reasons
    desk.seconds(4)
    assert desk.reasons == set()


def test_below_the_threshold_a_position_is_carried() -> None:
    desk = running(PARAMS).hold(150)
    before_rollover(desk, 20 * NS)
    desk.seconds(40)
    assert not [t for t in desk.transitions if "day_ending" in t.reasons]
    assert desk.state.position.position_lots == 150


def test_with_a_share_of_one_everything_is_carried() -> None:
    """Even what a falling equity has left beyond the largest position."""
    desk = running(params(guard={"soft_clear_s": 1.0}, derisk={"day_end_position_fraction": 1.0})).hold(900)
    before_rollover(desk, 20 * NS)
    desk.seconds(40)
    assert not [t for t in desk.transitions if "day_ending" in t.reasons]


@pytest.mark.parametrize("lots", [10_000, -10_000])
def test_a_loss_that_is_carried_over_is_charged_to_the_new_day(lots: int) -> None:
    p = params(
        quotes={"max_position_fraction": 3.0, "max_position_quote": 1e6},
        guard={"soft_clear_s": 1.0},
        derisk={"day_end_position_fraction": 1.0},
    )
    desk = running(p).hold(lots)
    mark = MID - lots * 2  # 2,000 quote against it
    desk.all_of(desk.mark(mark), desk.timer())
    lost_e10 = EQUITY_E10 - desk.state.risk.equity_e10
    assert lost_e10 == 2_000 * E10
    before_rollover(desk, 2 * NS)
    day = desk.state.risk.day
    desk.wait(3.0).all_of(desk.health(), desk.mark(), desk.timer())
    assert desk.state.risk.day == day + 1
    assert desk.state.risk.day_open_e10 - desk.state.risk.equity_e10 == lost_e10
    desk.feed(desk.mark(MID - lots * 3 - (1 if lots > 0 else -1)))
    desk.feed(desk.timer())
    assert "daily_loss" in desk.reasons


def test_a_rollover_while_reducing_for_another_reason_too() -> None:
    """The clock of that goes on: the turn of the day is no new beginning."""
    desk = running(PARAMS).hold(400)
    reduce(desk)
    before_rollover(desk, 100 * NS)
    desk.seconds(45)
    assert desk.state.derisk.urgency is TAKER  # 55 s before the end, whatever the other clock says
    since_ns = desk.state.derisk.since_ns
    desk.seconds(60)
    assert "day_ending" not in desk.reasons
    assert desk.guard is GuardState.REDUCING
    assert (desk.state.derisk.since_ns, desk.state.derisk.urgency) == (since_ns, TAKER)
    desk.hold(0)
    let_run(desk)
    assert desk.state.derisk.urgency is NONE


def test_what_is_taking_already_does_not_step_back_for_the_end_of_the_day() -> None:
    desk = running(PARAMS).hold(400)
    reduce(desk)
    desk.seconds(301)
    before_rollover(desk, 290 * NS)
    desk.seconds(2)
    assert "day_ending" in desk.reasons
    assert desk.state.derisk.urgency is TAKER


@pytest.mark.parametrize("offset_s", [None, 1.5, -1.5])
def test_a_wrong_clock_ends_no_day(offset_s: float | None) -> None:
    """It could flatten at noon. The guard pauses meanwhile, so nothing is worked down either."""
    desk = running(PARAMS).hold(400)
    desk.wall_ns += risk.to_rollover_ns(desk.now[1], 0) - 100 * NS
    desk.all_of(desk.health(offset_s=offset_s), desk.timer())
    assert "day_ending" not in desk.reasons
    assert desk.guard is GuardState.SOFT_PAUSE


def test_a_clock_that_steps_ends_no_day_and_once_true_it_ends_it_or_does_not() -> None:
    desk = running(PARAMS).hold(400)
    step_ns = risk.to_rollover_ns(desk.now[1], 0) - 100 * NS
    desk.wall_ns += step_ns
    desk.feed(desk.timer())  # no measurement since
    assert "day_ending" not in desk.reasons
    desk.all_of(desk.health(), desk.timer())  # the clock was read, and it is so
    assert "day_ending" in desk.reasons
    desk.wall_ns -= step_ns
    desk.feed(desk.timer())
    assert "day_ending" in desk.reasons  # nobody knows yet
    desk.all_of(desk.health(), desk.timer())
    desk.seconds(2)
    assert "day_ending" not in desk.reasons


def test_a_clock_that_steps_while_a_day_ends_takes_nothing() -> None:
    """Four minutes and a half before the end a step of four: what was to stand passive for two more sold to the bid."""
    desk = running(PARAMS).hold(400)
    before_rollover(desk, 280 * NS)
    desk.seconds(2)
    assert desk.state.derisk.urgency is PASSIVE
    desk.wall_ns += 240 * NS
    desk.wait(1.0)
    sent = desk.all_of(desk.book(), desk.timer())  # before the clock is read again
    assert desk.state.derisk.urgency is PASSIVE
    assert not [c for c in sent if isinstance(c, Place) and c.ioc]
    desk.wall_ns -= 240 * NS
    desk.seconds(2)
    assert desk.state.derisk.urgency is PASSIVE
    desk.seconds(125)
    assert desk.state.derisk.urgency is TOUCH
    desk.seconds(91)
    assert desk.state.derisk.urgency is TAKER


def test_a_day_that_cannot_turn_for_a_wrong_clock_goes_on_ending() -> None:
    desk = running(PARAMS).hold(400)
    before_rollover(desk, 5 * NS)
    day = desk.state.risk.day
    desk.wait(6.0).all_of(desk.health(offset_s=2.0), desk.timer())
    assert desk.state.risk.day == day
    assert {"day_ending", "clock"} <= desk.reasons
    desk.all_of(desk.health(), desk.timer())
    assert desk.state.risk.day == day + 1
    desk.seconds(2)
    assert "day_ending" not in desk.reasons


def test_no_day_ends_before_a_mark_is_known() -> None:
    desk = Desk(PARAMS).hold(400)
    desk.wall_ns += risk.to_rollover_ns(desk.now[1], 0) - 100 * NS
    desk.all_of(desk.health(), desk.timer())
    assert desk.state.risk.day == -1
    assert not derisk.is_day_ending(desk.state)
    desk.all_of(desk.mark(), desk.timer())
    assert derisk.is_day_ending(desk.state)


@given(realistic_day(30), st.integers(-700, 700), st.integers(1, 400), st.booleans())
@modest(60)
def test_a_rollover_in_any_state_hides_no_loss(history: list[What], lots: int, left_s: int, carried: bool) -> None:
    """Whenever a day opens, what it may lose is measured from equity plus the loss then open: not one unit above."""
    p = params(guard={"soft_clear_s": 1.0}, derisk={"day_end_position_fraction": 1.0 if carried else 0.25})
    desk = running(p).hold(lots)
    before_rollover(desk, left_s * NS)
    for what in history:
        day, opened_e10 = desk.state.risk.day, desk.state.risk.day_open_e10
        transfers_e10 = desk.state.risk.transfers_seen_e10
        for _, _step in play(desk, what):
            state = desk.state
            if state.risk.day != day:
                mark = state.venue.mark_px_ticks
                held = state.position.position_lots
                open_e10 = held * mark * state.position.unit_e10 - state.position.cost_e10
                assert state.risk.day_open_e10 == state.risk.equity_e10 + max(0, -open_e10)
                noted("a day opened" + (" with a loss" if open_e10 < 0 else ""))
                day, opened_e10 = state.risk.day, state.risk.day_open_e10
                transfers_e10 = state.risk.transfers_seen_e10
            else:
                assert state.risk.day_open_e10 - opened_e10 == state.risk.transfers_seen_e10 - transfers_e10


def test_the_reasons_are_soft_and_block_increases() -> None:
    for reason in (Reason.EDGE, Reason.DAY_ENDING):
        assert reasons.BIT[reason] & reasons.INCREASE_MASK


def test_worst_case_counts_what_works_a_position_down() -> None:
    desk, order = worked()
    assert orders.worst_case_lots(desk.state.orders, desk.state.position.position_lots, order.side) == 0
