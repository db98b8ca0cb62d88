"""A side without a quote says what stands between it and the venue; and nothing stays where nobody wants it."""

from itertools import pairwise

import msgspec

from mmdaemon.core import guard
from mmdaemon.core.absence import absences
from mmdaemon.core.commands import Amend, Cancel, Place
from mmdaemon.core.events import RATE_LIMITED, RequestFailed
from mmdaemon.core.fading import FadingMean
from mmdaemon.core.fill_quality import Bound, Phase
from mmdaemon.core.types import NS, GuardState, OrderStatus, Side
from tests.core.build import BTC, MID, Desk, IdealVenue, params, running


def why(desk: Desk) -> dict[str, str]:
    return {each.side.name: each.why for each in absences(desk.state)}


def taken_out(desk: Desk) -> None:
    """The venue confirms each cancel that is out."""
    for order in desk.live:
        if order.cancel_sent_ns:
            desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, order.filled_lots))


def test_while_both_sides_rest_nothing_is_absent() -> None:
    assert absences(running().state) == ()


def test_before_anything_was_decided_it_says_so() -> None:
    assert why(Desk()) == {"BUY": "starting", "SELL": "starting"}


def test_a_price_beyond_the_collar_is_named_side_by_side_until_it_is_let_out() -> None:
    """With a position and no order out: the market jumps, the mark does not follow, and no price may go out."""
    desk = running().hold(20)
    for order in desk.live:
        desk.feed(desk.update(order.client_id, OrderStatus.UNKNOWN, reason="timeout"))
        desk.feed(desk.mark(MID * 95 // 100))
        desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
    desk.feed(desk.mark(MID * 95 // 100))
    for _ in range(5):
        desk.wait(1).all_of(desk.health(), desk.book(MID + 300, MID + 310), desk.timer())
        taken_out(desk)
    assert desk.guard is GuardState.RUNNING
    assert desk.live == []
    assert why(desk) == {"BUY": "collar", "SELL": "collar"}
    lines = guard.describe(desk.state)
    assert [line.split(":")[0] for line in lines] == ["no bid rests", "no ask rests"]
    assert all("collar" in line and "mark" in line for line in lines)

    desk.feed(desk.mark(MID + 305))
    desk.wait(1).feed(desk.timer())
    assert why(desk) == {"BUY": "in_flight", "SELL": "in_flight"}
    desk.acknowledge()
    assert absences(desk.state) == ()


def test_one_side_beyond_the_collar_says_nothing_of_the_other() -> None:
    """What holds back an ask is no reason for a bid."""
    p = params()
    desk = running(msgspec.structs.replace(p, limits=msgspec.structs.replace(p.limits, collar_bps=10.0)))
    desk.feed(desk.mark(MID - 160))  # where the market goes to, bids lie within 10 bps of it and asks do not
    for _ in range(3):
        desk.wait(1).all_of(desk.health(), desk.book(MID + 400, MID + 410), desk.timer())
        taken_out(desk)
        desk.acknowledge()
    assert why(desk) == {"SELL": "collar"}


def test_a_side_that_the_decision_does_not_want_says_its_word() -> None:
    desk = running()
    assert desk.state.decision is not None
    desk.hold(desk.state.decision.max_position_lots + 10)
    desk.seconds(2)
    taken_out(desk)
    assert why(desk)["BUY"] == "inventory"
    assert "no bid: inventory" in guard.describe(desk.state)


def test_while_reducing_the_side_that_may_quote_says_why_it_does_not() -> None:
    """REDUCING explains the side that increases. The other one has a reason of its own, which no row of the guard
    names: here what is left to reduce is less than the venue takes."""
    coarse = msgspec.structs.replace(BTC, min_qty_lots=10)
    desk = running(params(instrument=coarse)).hold(3)
    desk.feed(desk.funding(rate=2.0))  # no rate at all: REDUCING
    desk.seconds(2)
    taken_out(desk)
    assert desk.guard is GuardState.REDUCING
    assert why(desk)["BUY"] == "guard"
    assert not any(line.startswith("no bid") for line in guard.describe(desk.state))
    assert why(desk)["SELL"] == "size"
    assert "no ask: size: what would be quoted is less than the venue takes" in guard.describe(desk.state)


def test_paused_both_sides_are_the_guards() -> None:
    desk = running()
    desk.feed(desk.operator("pause"))
    taken_out(desk)
    assert why(desk) == {"BUY": "guard", "SELL": "guard"}


def test_an_order_of_unknown_fate_that_holds_the_place_is_named() -> None:
    desk = running()
    for order in desk.live:
        if order.side is Side.BUY:
            desk.feed(desk.update(order.client_id, OrderStatus.UNKNOWN, reason="timeout"))
    assert absences(desk.state) == ()  # as far as anybody knows they rest
    desk = Desk().start()
    for order in desk.live:
        desk.feed(desk.update(order.client_id, OrderStatus.UNKNOWN, reason="timeout"))
    assert why(desk) == {"BUY": "unknown", "SELL": "unknown"}


def test_an_order_of_ours_in_the_way_is_named() -> None:
    """A bid of unknown fate stands where the asks must go: they wait, and say for what."""
    desk = running()
    for order in desk.live:
        if order.side is Side.BUY:
            desk.feed(desk.update(order.client_id, OrderStatus.UNKNOWN, reason="timeout"))
    low = MID - 2_000
    desk.wait(1).all_of(desk.health(), desk.mark(low), desk.book(low - 5, low + 5), desk.timer())
    for order in desk.live:
        if order.side is Side.SELL:
            desk.feed(desk.update(order.client_id, OrderStatus.CANCELLED, 0))
    assert why(desk)["SELL"] == "self_cross"


# --- what may not be moved does not stay ------------------------------------------------------------------------------


def test_an_order_that_may_not_go_where_it_is_wanted_is_taken_out() -> None:
    """Asks left at the old price under a market that jumped are given away. They cannot follow, so they go."""
    desk = running().hold(20)
    desk.feed(desk.mark(MID * 95 // 100))
    step = desk.wait(1).feed(desk.book(MID + 300, MID + 310))
    assert {refusal.check for refusal in step.refusals} == {"collar"}
    asks = {order.client_id for order in desk.live if order.side is Side.SELL}
    assert list(step.commands) == [Cancel(client_id, risk=True) for client_id in sorted(asks)]
    assert len(step.refusals) == 6  # bids may not follow either, and harm nobody where they are
    assert desk.state.budgets.cancel_breaches == 0
    assert not desk.state.budgets.cancels_ns


def test_an_order_within_its_range_stays_though_it_may_not_be_refreshed() -> None:
    desk = running()
    desk.feed(desk.book(MID - 10, MID))  # within the tolerance: asks could be a few ticks nearer and bids further
    desk.seconds(50)
    before = {order.client_id for order in desk.live if order.side is Side.SELL}
    for _ in range(20):
        desk.wait(1).all_of(desk.mark(MID * 95 // 100), desk.health(), desk.book(), desk.timer())
        taken_out(desk)
    assert {refusal.check for refusal in desk.state.withheld} == {"collar"}
    assert before <= {order.client_id for order in desk.live}
    assert "SELL" not in why(desk)


def test_a_part_filled_order_of_the_largest_value_is_replaced_when_it_must_move() -> None:
    """With what has filled its new total would be worth more than an order may be."""
    size = params().regimes[running().state.detector.regime].order_size
    desk = Desk(params(limits={"max_order_quote": 100_000.0 * size * 1.01})).start()
    venue = IdealVenue(desk)
    venue.answer(list(desk.commands))
    bid = next(order for order in desk.live if order.side is Side.BUY)
    desk.feed(desk.fill(Side.BUY, bid.qty_lots // 2, bid.px_ticks, bid.client_id))
    sent = desk.wait(1).all_of(desk.book(MID - 310, MID - 300), desk.mark(MID - 305), desk.timer())
    assert Cancel(bid.client_id, True) in sent
    taken_out(desk)
    new = next(order for order in desk.live if order.side is Side.BUY and order.level == bid.level)
    assert new.px_ticks < bid.px_ticks


# --- a venue that refuses for rate ------------------------------------------------------------------------------------


class Storm:
    """A venue that refuses every request for its rate. Counts what it was asked."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.orders = self.cancels = 0

    def refuse(self, commands: list[Place | Amend | Cancel]) -> None:
        waiting = list(commands)
        while waiting:
            command = waiting.pop(0)
            desk = self.desk
            if isinstance(command, Cancel):
                self.cancels += 1
                event = RequestFailed(*desk.now, command.client_id, "cancel", RATE_LIMITED)
            elif isinstance(command, Amend):
                self.orders += 1
                event = RequestFailed(*desk.now, command.client_id, "amend", RATE_LIMITED, command.revision)
            else:
                self.orders += 1
                event = desk.update(command.client_id, OrderStatus.REJECTED, 0, RATE_LIMITED)
            waiting += desk.feed(event).commands


def test_in_a_rate_storm_it_backs_off_and_never_latches() -> None:
    """With a position and live orders, for a minute: orders wait for a growing time, and it is no rejection."""
    desk = running().hold(20)
    storm = Storm(desk)
    asked: list[int] = []
    px = MID
    for second in range(60):
        px += 40 if second % 2 else -40  # something to move in each second
        before = storm.orders
        storm.refuse(desk.wait(1).all_of(desk.health(), desk.account(), desk.reconciled()))
        storm.refuse(desk.all_of(desk.mark(px), desk.book(px - 5, px + 5), desk.timer()))
        if storm.orders > before:
            asked.append(second)
    assert desk.guard is GuardState.RUNNING
    assert desk.state.orders.reject_streak == 0
    gaps = [b - a for a, b in pairwise(asked)]
    assert 3 <= len(asked) <= 7
    assert gaps == sorted(gaps)
    assert gaps[-1] >= 8
    assert storm.cancels > len(asked)  # they are never held back


def test_after_a_rate_storm_it_quotes_again_and_begins_the_next_with_the_shortest_pause() -> None:
    desk = Desk().start()
    storm = Storm(desk)
    storm.refuse(list(desk.commands))
    assert desk.live == []
    assert why(desk) == {"BUY": "venue_rate", "SELL": "venue_rate"}
    assert storm.orders == 6
    first_ns = desk.state.budgets.venue_pause_until_ns - desk.now_ns
    sent = desk.seconds(2)
    assert len([command for command in sent if isinstance(command, Place)]) == 6
    storm.refuse(sent)
    assert desk.state.budgets.venue_pause_until_ns - desk.now_ns == 2 * first_ns
    desk.seconds(3)
    desk.acknowledge()
    assert absences(desk.state) == ()
    desk.seconds(70)
    order = desk.live[0]
    desk.feed(RequestFailed(*desk.now, order.client_id, "cancel", RATE_LIMITED))
    assert desk.state.budgets.venue_pause_until_ns - desk.now_ns == first_ns


def test_a_venue_that_refuses_for_more_than_a_minute_has_banned_us() -> None:
    """A hard stop: quotes that can neither be moved nor taken out are the kill switch's, which asks at its own pace."""
    desk = running().hold(20)
    storm = Storm(desk)
    begun_ns, px = desk.now_ns, MID
    while desk.guard is GuardState.RUNNING:
        px += 40 if storm.orders % 2 else -40
        storm.refuse(desk.wait(1).all_of(desk.health(), desk.account(), desk.reconciled()))
        storm.refuse(desk.all_of(desk.mark(px), desk.book(px - 5, px + 5), desk.timer()))
        assert desk.state.budgets.venue_pause_until_ns - desk.now_ns <= 30 * NS
    assert desk.guard is GuardState.HARD_STOP
    assert desk.reasons == {"reject_streak"}
    assert 60 * NS < desk.now_ns - begun_ns < 80 * NS

    desk.feed(desk.operator("resume"))
    desk.seconds(3)
    assert desk.guard is GuardState.RUNNING
    assert desk.state.budgets.venue_pauses == 0


def test_while_a_position_is_worked_down_the_order_that_does_it_stands_for_the_quote() -> None:
    desk = running().hold(20)
    desk.feed(desk.funding(rate=2.0))  # no rate at all: REDUCING
    assert why(desk) == {"BUY": "guard", "SELL": "leaving"}  # the quotes that may fill are more than is held
    assert "is on its way out" in next(line for line in guard.describe(desk.state) if line.startswith("no ask"))
    taken_out(desk)
    assert why(desk)["SELL"] == "in_flight"
    desk.acknowledge()
    assert why(desk) == {"BUY": "guard"}


def test_between_two_slices_that_take_it_says_what_is_waited_for() -> None:
    desk = running(params(derisk={"touch_after_s": 1.0, "taker_after_s": 2.0}, limits={"max_order_quote": 65.0})).hold(
        40
    )
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    venue.answer(desk.feed(desk.funding(rate=2.0)).commands)
    for _ in range(3):
        venue.answer(desk.seconds(1))
    assert 0 < desk.state.position.position_lots < 40
    assert why(desk) == {"BUY": "guard", "SELL": "derisk_rate"}
    assert any("no ask rests: derisk_rate: the last one went out" in line for line in guard.describe(desk.state))


# --- what the strategy's judges go by ---------------------------------------------------------------------------------


def seconds(desk: Desk, venue: IdealVenue, n: int) -> None:
    for _ in range(n):
        venue.answer(desk.seconds(1))


def test_a_blocked_side_says_what_it_must_earn_against_what_and_for_how_long() -> None:
    desk = Desk(params(cost={"adverse_cap_bps": 20.0})).start()
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    for _ in range(40):
        desk.state.markouts.impacts[desk.state.detector.regime, Side.SELL] = FadingMean(-60.0, 400.0, desk.now_ns)
        seconds(desk, venue, 1)
    gate = desk.state.gate.sell
    assert why(desk) == {"SELL": "edge"}
    (line,) = guard.describe(desk.state)
    held_s = (desk.now_ns - gate.since_ns) // NS
    assert held_s >= 30
    assert gate.edge_bps > gate.most_bps == desk.params.regimes[desk.state.detector.regime].spread_max_bps / 2
    assert line == f"no ask: edge: it must earn {gate.edge_bps:.2f} bps of at most {gate.most_bps:.2f}, for {held_s} s"


def test_both_sides_blocked_is_told_with_the_figures_of_both() -> None:
    desk = Desk().start()
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    venue.answer(desk.feed(desk.fees(0.0014, 0.0014)).commands)
    seconds(desk, venue, 40)
    assert desk.guard is GuardState.REDUCING
    (line,) = guard.describe(desk.state)
    assert line.startswith("edge: the market pays for neither side (buys edge: it must earn ")
    assert "; sells edge: it must earn " in line


def test_a_pulled_side_says_by_what_and_for_how_long_still() -> None:
    desk = Desk().start()
    venue = IdealVenue(desk)
    venue.answer(desk.commands)
    judged = desk.state.quality.buy
    judged.phase, judged.until_ns = Phase.PULLED, desk.now_ns + 700 * NS
    desk.feed(desk.fees())
    seconds(desk, venue, 100)
    assert guard.describe(desk.state) == ["no bid: pulled: for 600 s more"]
    judged.bound = Bound(-0.81, -0.12, 34, 9)
    assert guard.describe(desk.state) == ["no bid: pulled: net -0.81 bps, at most -0.12, over 34 fills; for 600 s more"]


def test_a_position_that_is_worked_down_says_how_urgently_and_for_how_long() -> None:
    desk = running().hold(20)
    desk.feed(desk.funding(float("nan")))  # no rate: only what reduces may be quoted
    for _ in range(70):
        desk.seconds(1)
        desk.acknowledge()
    assert desk.guard is GuardState.REDUCING
    worked_s = (desk.now_ns - desk.state.derisk.since_ns) // NS
    assert worked_s > 60
    assert f"derisk: touch, the position has been worked down for {worked_s} s" in guard.describe(desk.state)
