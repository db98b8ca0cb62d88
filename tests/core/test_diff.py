"""Diff: the fewest commands, queue priority kept, never an own bid at or above an own ask."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import hypothesis.strategies as st
import pytest
from hypothesis import event, given, settings

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.decision import Quote, QuoteAddends
from mmdaemon.core.diff import ANSWER_WAIT_NS, CANCEL_WAIT_NS, diff
from mmdaemon.core.events import OrderAdopted, OrderUpdate, RequestFailed
from mmdaemon.core.orders import Orders, next_id, on_adopted, on_request_failed, on_update, submit
from mmdaemon.core.params import DiffParams
from mmdaemon.core.types import NS, OrderStatus, Purpose, Side

BUY, SELL = Side.BUY, Side.SELL
S = OrderStatus
LIFE_NS = 500
REFRESH_NS = 90_000
OLD_NS = 10_000
"""Beyond the least life, before a refresh is due."""
AMEND = DiffParams(can_amend=True, min_quote_life_ns=LIFE_NS)
REPLACE = DiffParams(can_amend=False, min_quote_life_ns=LIFE_NS)


NO_ADDENDS = QuoteAddends(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def target(side: Side, px: int, qty: int = 10, level: int = 0, tolerance: int = 2) -> Quote:
    return Quote(side, level, px, qty, px - tolerance, px + tolerance, NO_ADDENDS)


def report(
    client_id: str, status: OrderStatus, cum: int | None = 0, *, revision: int = 0, mono_ns: int = 1
) -> OrderUpdate:
    return OrderUpdate(mono_ns, mono_ns, None, client_id, status, cum, None, None, revision, "")


def rest(
    orders: Orders,
    client_id: str,
    side: Side,
    px: int,
    qty: int = 10,
    level: int = 0,
    *,
    status: OrderStatus | None = S.LIVE,
    cum: int = 0,
    purpose: Purpose = Purpose.QUOTE,
) -> None:
    """An order emitted at 1 ns, and what the venue said of it (None: nothing yet)."""
    submit(orders, Place(client_id, side, px, qty, purpose, level, post_only=True, reduce_only=False), 1)
    if status is not None:
        on_update(orders, report(client_id, status, cum))


def commands(
    orders: Orders,
    *targets: Quote,
    params: DiffParams = AMEND,
    now_ns: int = OLD_NS,
    risk: bool = False,
    min_qty: int = 1,
) -> list[Command]:
    ids = iter(f"n{i}" for i in range(99))
    return diff(targets, orders, params, now_ns, REFRESH_NS, lambda: next(ids), risk, min_qty)


def places(*quotes: Quote) -> list[Command]:
    return [
        Place(f"n{i}", t.side, t.px_ticks, t.qty_lots, Purpose.QUOTE, t.level, post_only=True, reduce_only=False)
        for i, t in enumerate(quotes)
    ]


# --- left alone, moved, taken out -------------------------------------------------------------------------------------


def test_an_empty_book_of_ours_is_filled_and_then_left_alone() -> None:
    orders = Orders()
    ladder = (target(BUY, 100), target(BUY, 95, level=1), target(SELL, 110), target(SELL, 115, level=1))
    emitted = commands(orders, *ladder)
    assert emitted == places(*ladder)
    for command in emitted:
        submit(orders, command, 1)
    assert commands(orders, *ladder) == []  # unacknowledged
    for command in emitted:
        on_update(orders, report(command.client_id, S.LIVE))
    assert commands(orders, *ladder) == []


@pytest.mark.parametrize(("px", "stays"), [(97, False), (98, True), (100, True), (102, True), (103, False)])
def test_the_range_decides_and_its_bounds_belong_to_it(px: int, stays: bool) -> None:
    orders = Orders()
    rest(orders, "a", BUY, px)
    assert commands(orders, target(BUY, 100)) == ([] if stays else [Amend("a", 1, 100, 10)])


@pytest.mark.parametrize(("qty", "stays"), [(7, False), (8, True), (12, True), (13, False)])
def test_a_fifth_of_the_size_is_near_enough(qty: int, stays: bool) -> None:
    orders = Orders()
    rest(orders, "a", BUY, 100, qty)
    assert (commands(orders, target(BUY, 100)) == []) is stays


def test_a_smaller_size_keeps_price_and_queue_and_a_larger_one_goes_to_the_target() -> None:
    orders = Orders()
    rest(orders, "a", BUY, 101, 30)
    assert commands(orders, target(BUY, 100)) == [Amend("a", 1, 101, 10)]
    assert commands(orders, target(BUY, 100, 60)) == [Amend("a", 1, 100, 60)]
    assert commands(orders, target(BUY, 100), params=REPLACE) == [Cancel("a", risk=False)]


@pytest.mark.parametrize(("min_qty", "stays"), [(1, True), (3, True), (4, False)])
def test_what_a_partial_fill_left_is_left_alone_above_the_minimum(min_qty: int, stays: bool) -> None:
    orders = Orders()
    rest(orders, "a", BUY, 100, 10, status=S.PARTIAL, cum=7)
    emitted = commands(orders, target(BUY, 100), min_qty=min_qty)
    assert emitted == ([] if stays else [Amend("a", 1, 100, 17)])  # an amend states the total, filled part included


def test_the_larger_of_fills_and_reports_is_what_remains() -> None:
    orders = Orders()
    rest(orders, "a", BUY, 100, 40, status=S.PARTIAL, cum=7)
    orders.live["a"].filled_lots = 9
    assert commands(orders, target(BUY, 100)) == [Amend("a", 1, 100, 19)]


def test_at_the_age_of_refresh_only_the_exact_price_and_size_stay() -> None:
    exact, near, off, partial = Orders(), Orders(), Orders(), Orders()
    rest(exact, "a", BUY, 100)
    rest(near, "a", BUY, 101)
    rest(off, "a", BUY, 101, 11)
    rest(partial, "a", BUY, 100, 10, status=S.PARTIAL, cum=7)
    due_ns = REFRESH_NS + 1
    for orders in (exact, near, off, partial):
        assert commands(orders, target(BUY, 100), now_ns=due_ns - 1) == []
    assert commands(exact, target(BUY, 100), now_ns=due_ns) == []
    assert commands(near, target(BUY, 100), now_ns=due_ns) == [Amend("a", 1, 100, 10)]
    assert commands(off, target(BUY, 100), now_ns=due_ns) == [Amend("a", 1, 100, 10)]
    assert commands(partial, target(BUY, 100), now_ns=due_ns) == [Amend("a", 1, 100, 17)]
    assert commands(partial, target(BUY, 100, 3), now_ns=due_ns) == []


def test_no_quote_is_moved_before_its_least_life_except_for_risk() -> None:
    for params, moved in (AMEND, Amend("a", 1, 100, 10)), (REPLACE, Cancel("a", risk=False)):
        orders = Orders()
        rest(orders, "a", BUY, 90)
        assert commands(orders, target(BUY, 100), params=params, now_ns=LIFE_NS) == []
        assert commands(orders, target(BUY, 100), params=params, now_ns=LIFE_NS + 1) == [moved]
        assert len(commands(orders, target(BUY, 100), params=params, now_ns=2, risk=True)) == 1


@pytest.mark.parametrize("risk", [False, True])
def test_what_no_target_wants_is_cancelled_at_any_age(risk: bool) -> None:
    orders = Orders()
    rest(orders, "a", BUY, 100)
    rest(orders, "b", SELL, 110)
    assert commands(orders, target(BUY, 100), now_ns=2, risk=risk) == [Cancel("b", risk)]
    assert commands(orders, now_ns=2, risk=risk) == [Cancel("a", risk), Cancel("b", risk)]


def test_matching_goes_by_price_and_only_then_by_level() -> None:
    orders = Orders()
    rest(orders, "deep", BUY, 100, level=1)
    rest(orders, "far", BUY, 80, level=0)
    ladder = (target(BUY, 105), target(BUY, 100, level=1))
    assert commands(orders, *ladder) == [Amend("far", 1, 105, 10)]
    orders = Orders()
    rest(orders, "inner", BUY, 50, level=0)
    rest(orders, "outer", BUY, 40, level=1)
    assert commands(orders, *reversed(ladder)) == [Amend("inner", 1, 105, 10), Amend("outer", 1, 100, 10)]


def test_an_order_moves_to_another_level_before_one_is_cancelled_and_another_placed() -> None:
    orders = Orders()
    rest(orders, "a", BUY, 50, level=2)
    assert commands(orders, target(BUY, 100)) == [Amend("a", 1, 100, 10)]


def test_a_good_price_of_the_wrong_size_keeps_its_queue_though_another_has_the_level() -> None:
    orders = Orders()
    rest(orders, "far", BUY, 80, level=0)
    rest(orders, "good", BUY, 100, 30, level=1)
    assert commands(orders, target(BUY, 100, level=0)) == [Cancel("far", risk=False), Amend("good", 1, 100, 10)]


def test_as_many_as_possible_are_left_alone() -> None:
    """The wide target must give way: it can have either order, the narrow one only the first."""
    orders = Orders()
    rest(orders, "a", BUY, 100)
    rest(orders, "b", BUY, 95)
    assert commands(orders, target(BUY, 98, tolerance=5), target(BUY, 100, level=1, tolerance=1)) == []


def test_only_quotes_are_touched() -> None:
    orders = Orders()
    rest(orders, "exit", SELL, 120, purpose=Purpose.FLATTEN)
    assert commands(orders, risk=True) == []
    assert commands(orders, target(SELL, 120)) == places(target(SELL, 120))


def test_an_adopted_order_is_replaced_and_never_amended() -> None:
    orders = Orders()
    on_adopted(orders, OrderAdopted(1, 1, None, "a", BUY, 90, 10, 0, Purpose.QUOTE, False, S.LIVE))
    assert commands(orders, target(BUY, 100)) == [Cancel("a", risk=False)]
    assert commands(orders, target(BUY, 90)) == []


# --- what cannot be touched -------------------------------------------------------------------------------------------


def in_flux(how: str) -> Orders:
    """A bid at 90 that wants to go to 100 and cannot yet."""
    orders = Orders()
    rest(orders, "a", BUY, 90, status=None if how == "new" else S.LIVE)
    match how:
        case "sent":
            orders.live["a"].status = S.SENT
        case "unknown":
            on_update(orders, report("a", S.UNKNOWN, None))
        case "amend":
            submit(orders, Amend("a", 1, 91, 10), 2)
        case "cancel":
            submit(orders, Cancel("a", risk=False), 2)
        case "awaiting fills":
            on_update(orders, report("a", S.CANCELLED, 3))
        case "filled whole":
            on_update(orders, report("a", S.PARTIAL, 10))
        case _:
            pass
    return orders


FLUX = ("new", "sent", "unknown", "amend", "cancel", "awaiting fills", "filled whole")


@pytest.mark.parametrize("params", [AMEND, REPLACE])
@pytest.mark.parametrize("how", FLUX)
def test_what_is_in_flux_is_not_touched_and_keeps_its_place(how: str, params: DiffParams) -> None:
    orders = in_flux(how)
    assert commands(orders, target(BUY, 100), params=params) == []
    assert commands(orders, params=params) == []
    # Two targets, one occupied: the one of its level.
    assert commands(orders, target(BUY, 100), target(BUY, 96, level=1), params=params) == places(
        target(BUY, 96, level=1)
    )


@pytest.mark.parametrize(("level", "free"), [(0, 1), (1, 0), (7, 1)])
def test_what_is_in_flux_occupies_its_own_level_or_else_any(level: int, free: int) -> None:
    orders = Orders()
    rest(orders, "a", BUY, 90, level=level, status=S.UNKNOWN)
    ladder = (target(BUY, 100), target(BUY, 96, level=1))
    assert commands(orders, *ladder) == places(ladder[free])


@pytest.mark.parametrize("how", FLUX)
def test_for_risk_whatever_may_still_rest_is_cancelled_unacknowledged_or_not(how: str) -> None:
    may_rest = how in ("new", "sent", "unknown", "amend")
    wanted = [Cancel("a", risk=True)] if may_rest else []
    assert commands(in_flux(how), risk=True) == wanted
    assert commands(in_flux(how), target(BUY, 100), risk=True) == wanted


@pytest.mark.parametrize("how", ["new", "sent", "unknown"])
def test_what_is_in_flux_where_it_should_be_is_waited_for(how: str) -> None:
    assert commands(in_flux(how), target(BUY, 90), risk=True) == []


def test_an_amend_in_flight_counts_where_it_goes() -> None:
    orders = Orders()
    rest(orders, "a", BUY, 80)
    submit(orders, Amend("a", 1, 100, 20), 2)
    assert commands(orders, target(BUY, 100, 20), risk=True) == []
    assert commands(orders, target(BUY, 80, 10), risk=True) == [Cancel("a", risk=True)]


def test_an_order_that_can_stay_is_kept_rather_than_one_that_cannot_be_touched() -> None:
    orders = Orders()
    rest(orders, "unsure", BUY, 100)
    rest(orders, "sure", BUY, 101)
    on_update(orders, report("unsure", S.UNKNOWN, None))
    assert commands(orders, target(BUY, 100)) == []
    assert commands(orders, target(BUY, 100), risk=True) == [Cancel("unsure", risk=True)]


@pytest.mark.parametrize("risk", [False, True])
def test_a_refused_request_is_not_repeated_at_once(risk: bool) -> None:
    orders = Orders()
    rest(orders, "a", BUY, 90)
    submit(orders, Cancel("a", risk), OLD_NS)
    on_request_failed(orders, RequestFailed(OLD_NS, OLD_NS, None, "a", "cancel", "no"))
    for wanted, wait_ns, after in (
        ((), CANCEL_WAIT_NS, [Cancel("a", risk)]),
        ((target(BUY, 100),), LIFE_NS, [Amend("a", 1, 100, 10)]),
    ):
        assert commands(orders, *wanted, now_ns=OLD_NS + wait_ns - 1, risk=risk) == []
        assert commands(orders, *wanted, now_ns=OLD_NS + wait_ns, risk=risk) == after


@pytest.mark.parametrize("risk", [False, True])
def test_a_refused_amend_waits_and_holds_no_cancel_back(risk: bool) -> None:
    """A pause takes out what rests in its own step, also the order whose amend was refused a moment ago."""
    orders = Orders()
    rest(orders, "a", BUY, 90)
    submit(orders, Amend("a", 1, 100, 10), OLD_NS)
    on_request_failed(orders, RequestFailed(OLD_NS, OLD_NS, None, "a", "amend", "no"))
    assert commands(orders, target(BUY, 100), now_ns=OLD_NS + LIFE_NS - 1, risk=risk) == []
    assert commands(orders, target(BUY, 100), now_ns=OLD_NS + LIFE_NS, risk=risk) == [Amend("a", 2, 100, 10)]
    assert commands(orders, now_ns=OLD_NS + 1, risk=risk) == [Cancel("a", risk)]


# --- order of commands, own orders of the other side ------------------------------------------------------------------


def test_cancels_then_retreats_then_advances_then_places() -> None:
    orders = Orders()
    rest(orders, "advance", BUY, 90, level=0)
    rest(orders, "retreat", SELL, 110, level=0)
    rest(orders, "surplus", SELL, 130, level=1)
    emitted = commands(orders, target(BUY, 100), target(BUY, 95, level=1), target(SELL, 120))
    assert emitted == [
        Cancel("surplus", risk=False),
        Amend("retreat", 1, 120, 10),
        Amend("advance", 1, 100, 10),
        *places(target(BUY, 95, level=1)),
    ]


@pytest.mark.parametrize("how", ["live", "new", "unknown", "cancel", "flatten", "pending", "pending away"])
@pytest.mark.parametrize("mirror", [1, -1])
def test_nothing_goes_where_an_own_order_of_the_other_side_may_rest(how: str, mirror: int) -> None:
    """Seen from the bid; the ask is its mirror image around 1000."""
    bid, ask = Side(mirror), Side(-mirror)

    def px(ticks: int) -> int:
        return 1000 + mirror * (ticks - 1000)

    orders = Orders()
    rest(orders, "a", ask, px(1000), status=None if how == "new" else S.LIVE,
         purpose=Purpose.FLATTEN if how == "flatten" else Purpose.QUOTE)  # fmt: skip
    match how:
        case "unknown":
            on_update(orders, report("a", S.UNKNOWN, None))
        case "cancel":
            submit(orders, Cancel("a", risk=False), 2)
        case "pending":
            orders.live["a"].px_ticks = px(1010)
            submit(orders, Amend("a", 1, px(1000), 10), 2)
        case "pending away":
            submit(orders, Amend("a", 1, px(1010), 10), 2)
        case _:
            pass
    own = () if how == "flatten" else (target(ask, px(1000)),)
    assert commands(orders, *own, target(bid, px(1000))) == []
    assert commands(orders, *own, target(bid, px(999))) == places(target(bid, px(999)))
    rest(orders, "b", bid, px(990))
    assert commands(orders, *own, target(bid, px(1000))) == []
    assert commands(orders, *own, target(bid, px(999))) == [Amend("b", 1, px(999), 10)]


def test_an_order_that_has_ended_is_in_nobodys_way() -> None:
    orders = Orders()
    rest(orders, "a", SELL, 100)
    on_update(orders, report("a", S.CANCELLED, None))
    assert commands(orders, target(BUY, 100)) == places(target(BUY, 100))


def test_both_sides_move_past_each_other_in_two_steps() -> None:
    orders = Orders()
    rest(orders, "b", BUY, 100)
    rest(orders, "s", SELL, 102)
    up = (target(BUY, 103), target(SELL, 105))
    retreat = Amend("s", 1, 105, 10)
    assert commands(orders, *up) == [retreat]
    submit(orders, retreat, OLD_NS)
    assert commands(orders, *up) == []
    on_update(orders, report("s", S.LIVE, 0, revision=1))
    assert commands(orders, *up) == [Amend("b", 1, 103, 10)]


@pytest.mark.parametrize("sides", [(BUY, SELL), (SELL, BUY)])
def test_crossed_targets_do_not_both_go_out(sides: tuple[Side, Side]) -> None:
    both = [target(side, 100) for side in sides]
    assert len(commands(Orders(), *both)) == 1
    orders = Orders()
    rest(orders, "b", BUY, 90)
    rest(orders, "s", SELL, 110)
    assert len(commands(orders, *both)) == 1


def test_what_this_diff_emits_counts_for_the_rest_of_it() -> None:
    for own, other in ((SELL, BUY), (BUY, SELL)):
        orders = Orders()
        rest(orders, "a", own, 100 - own * 10)
        assert commands(orders, target(own, 100), target(other, 100)) == [Amend("a", 1, 100, 10)]


@pytest.mark.parametrize("mirror", [1, -1])
def test_an_order_does_not_stay_where_it_keeps_the_other_side_out(mirror: int) -> None:
    """A wide range and a narrow spread: the bid may stay by its range, but then the ask could never be placed."""
    bid, ask = Side(mirror), Side(-mirror)
    orders = Orders()
    rest(orders, "b", bid, 1000 + mirror)
    rest(orders, "outer", bid, 1000 - 20 * mirror, level=1)
    rest(orders, "far", ask, 1000 + 20 * mirror, level=1)
    outer = (target(ask, 1000 + 20 * mirror, level=1), target(bid, 1000 - 20 * mirror, level=1))
    quotes = (target(bid, 1000 - mirror), target(ask, 1000 + mirror), *outer)
    retreat = Amend("b", 1, 1000 - mirror, 10)
    assert commands(orders, *quotes) == [retreat]
    submit(orders, retreat, OLD_NS)
    on_update(orders, report("b", S.LIVE, 0, revision=1))
    assert commands(orders, *quotes) == places(quotes[1])


@pytest.mark.parametrize("mirror", [1, -1])
def test_an_order_in_its_range_stays_where_it_keeps_nothing_out(mirror: int) -> None:
    bid, ask = Side(mirror), Side(-mirror)
    orders = Orders()
    rest(orders, "b", bid, 1000 + mirror)
    rest(orders, "a", ask, 1000 + 2 * mirror)
    missing = target(ask, 1000 + 9 * mirror, level=1)
    assert commands(orders, target(bid, 1000 - mirror), target(ask, 1000 + mirror), missing) == places(missing)


def test_targets_that_meet_end_in_silence() -> None:
    orders = Orders()
    rest(orders, "b", BUY, 100)
    assert commands(orders, target(BUY, 100), target(SELL, 100)) == []


def test_a_retreat_that_is_blocked_is_a_cancel() -> None:
    orders = Orders()
    rest(orders, "exit", SELL, 95, purpose=Purpose.FLATTEN, status=None)
    rest(orders, "b", BUY, 100)
    assert commands(orders, target(BUY, 97)) == [Cancel("b", risk=False)]
    assert commands(orders, target(BUY, 94)) == [Amend("b", 1, 94, 10)]


# --- properties -------------------------------------------------------------------------------------------------------


@st.composite
def ladders(draw: st.DrawFn, most: int = 3, mid_low: int = 100, mid_high: int = 130) -> tuple[Quote, ...]:
    """A ladder around a mid: both sides apart from it, levels apart from each other, ranges of any width."""
    mid = draw(st.integers(mid_low, mid_high))
    rungs: list[Quote] = []
    for side in (BUY, SELL):
        px = mid
        for level in range(draw(st.integers(0, most))):
            px -= side * draw(st.integers(1, 6))
            lo, hi = px - draw(st.integers(0, 5)), px + draw(st.integers(0, 5))
            rungs.append(Quote(side, level, px, draw(st.sampled_from([5, 10, 11, 20])), lo, hi, NO_ADDENDS))
    return tuple(rungs)


def acknowledge(orders: Orders, command: Command, now_ns: int) -> None:
    """A venue that does at once what it is told."""
    match command:
        case Place():
            on_update(orders, report(command.client_id, S.LIVE, mono_ns=now_ns))
        case Amend():
            order = orders.live[command.client_id]
            cum = order.cum_filled_lots
            on_update(orders, report(command.client_id, order.status, cum, revision=command.revision, mono_ns=now_ns))
        case Cancel():
            cum = orders.live[command.client_id].cum_filled_lots
            on_update(orders, report(command.client_id, S.CANCELLED, cum, mono_ns=now_ns))


@st.composite
def resting(draw: st.DrawFn, side: Side | None = None) -> Orders:
    """A few own orders, live or partly filled, that do not meet."""
    orders = Orders()
    mid = draw(st.integers(95, 135))
    for i in range(draw(st.integers(0, 4))):
        own = side or draw(st.sampled_from(Side))
        px = mid - own * draw(st.integers(1, 15))
        rest(orders, f"w{i}", own, px, draw(st.sampled_from([5, 10, 20])), draw(st.integers(0, 3)))
        if draw(st.booleans()):
            orders.live[f"w{i}"].filled_lots = orders.live[f"w{i}"].cum_filled_lots = 2
            orders.live[f"w{i}"].status = S.PARTIAL
    return orders


def may_stay(px: int, remaining: int, filled: int, wanted: Quote) -> bool:
    """The rule of the docs, said again."""
    near = 0.8 * wanted.qty_lots <= remaining <= 1.2 * wanted.qty_lots
    return wanted.lo_px_ticks <= px <= wanted.hi_px_ticks and (near or (filled > 0 and remaining < wanted.qty_lots))


def settle(orders: Orders, wanted: tuple[Quote, ...], params: DiffParams) -> tuple[int, int]:
    """Rounds and commands until nothing more is emitted. Time passes, but no refresh comes due."""
    sent = 0
    for rounds in range(8):
        now_ns = (rounds + 2) * (LIFE_NS + 1)
        emitted = diff(wanted, orders, params, now_ns, REFRESH_NS, lambda: next_id(orders, "test", 1))
        if not emitted:
            return rounds, sent
        sent += len(emitted)
        for command in emitted:
            submit(orders, command, now_ns)
        for command in emitted:
            acknowledge(orders, command, now_ns)
        assert not is_crossed([(o.side, o.px_ticks) for o in orders.live.values()])
    raise AssertionError(f"no rest after {sent} commands: {orders.live}")


def is_crossed(open_quotes: Sequence[tuple[Side, int]]) -> bool:
    bids = [px for side, px in open_quotes if side is BUY]
    asks = [px for side, px in open_quotes if side is SELL]
    return bool(bids and asks) and max(bids) >= min(asks)


def fewest(orders: Orders, wanted: Sequence[Quote], params: DiffParams) -> int:
    """By trying every assignment of orders to targets: an order kept costs 0, moved 1 (2 by replacement), other 1."""
    seats: list[Quote | None] = [*wanted, *[None] * len(orders.live)]
    move = 1 if params.can_amend else 2

    def cost(given_to: Sequence[Quote | None]) -> int:
        total = sum(t is not None for t in seats) - sum(t is not None for t in given_to)  # targets left: place each
        for order, seat in zip(orders.live.values(), given_to, strict=True):
            if seat is None:
                total += 1
            elif not may_stay(order.px_ticks, order.qty_lots - order.filled_lots, order.filled_lots, seat):
                total += move
        return total

    return min(cost(seating) for seating in permutations(seats, len(orders.live)))


@settings(max_examples=200, deadline=None)
@given(orders=resting(), wanted=ladders(), params=st.sampled_from([AMEND, REPLACE]))
def test_it_converges_in_a_few_rounds_and_then_is_silent(
    orders: Orders, wanted: tuple[Quote, ...], params: DiffParams
) -> None:
    rounds, _ = settle(orders, wanted, params)
    event(f"rounds {rounds}")
    assert rounds <= 4
    assert len(orders.live) == len(wanted)
    for side in Side:  # one target each: some assignment has every order where it may stay
        own = [o for o in orders.live.values() if o.side is side]
        rungs = [t for t in wanted if t.side is side]
        assert any(
            all(may_stay(o.px_ticks, o.remaining_lots, o.filled_lots, t) for o, t in zip(own, seating, strict=True))
            for seating in permutations(rungs)
        )


@settings(max_examples=200, deadline=None)
@given(
    orders=resting(side=BUY),
    wanted=ladders().map(lambda rungs: tuple(t for t in rungs if t.side is BUY)),
    params=st.sampled_from([AMEND, REPLACE]),
)
def test_no_shorter_list_of_commands_would_do(orders: Orders, wanted: tuple[Quote, ...], params: DiffParams) -> None:
    least = fewest(orders, wanted, params)
    _, sent = settle(orders, wanted, params)
    event(f"commands {least}")
    assert sent == least


@dataclass
class AtVenue:
    side: Side
    px: int
    revision: int
    open: bool


class Exchange:
    """Requests and answers under way, taken in any order; a request may be lost or its answer time out."""

    def __init__(self) -> None:
        self.book: dict[str, AtVenue] = {}
        self.requests: list[Command] = []
        self.answers: list[OrderUpdate | RequestFailed] = []

    def open_quotes(self) -> list[tuple[Side, int]]:
        return [(q.side, q.px) for q in self.book.values() if q.open]

    def take(self, command: Command, fate: str) -> None:
        client_id = command.client_id
        if fate != "well":
            self.answers.append(report(client_id, S.UNKNOWN, None))
        if fate == "lost":
            return
        quote = self.book.get(client_id)
        match command:
            case Place():
                self.book[client_id] = AtVenue(command.side, command.px_ticks, 0, open=True)
                answer: OrderUpdate | RequestFailed = report(client_id, S.LIVE)
            case Amend() if quote and quote.open:
                quote.px, quote.revision = command.px_ticks, command.revision
                answer = report(client_id, S.LIVE, revision=command.revision)
            case Cancel() if quote and quote.open:
                quote.open = False
                answer = report(client_id, S.CANCELLED)
            case _:
                answer = RequestFailed(
                    1, 1, None, client_id, "cancel" if isinstance(command, Cancel) else "amend", "gone"
                )
        if fate == "well":
            self.answers.append(answer)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), params=st.sampled_from([AMEND, REPLACE]))
def test_own_orders_never_meet_whatever_arrives_when(data: st.DataObject, params: DiffParams) -> None:
    orders, exchange = Orders(), Exchange()
    now_ns, crossed_in_flight = 1, 0
    wanted: tuple[Quote, ...] = ()
    for _ in range(data.draw(st.integers(5, 25), label="steps")):
        now_ns += data.draw(st.integers(1, 2 * LIFE_NS), label="passes")
        what = data.draw(
            st.sampled_from(["decide", "decide", "arrive", "arrive", "hear", "hear", "resolve"]), label="what"
        )
        if what == "decide":
            wanted = data.draw(ladders(2, 100, 112), label="targets")
            risk = data.draw(st.booleans(), label="risk")
            for command in diff(wanted, orders, params, now_ns, 5 * LIFE_NS, lambda: next_id(orders, "test", 1), risk):
                submit(orders, command, now_ns)
                exchange.requests.append(command)
        elif what == "arrive" and exchange.requests:
            i = data.draw(st.integers(0, len(exchange.requests) - 1), label="request")
            fate = data.draw(st.sampled_from(["well", "well", "well", "no answer", "lost"]), label="fate")
            exchange.take(exchange.requests.pop(i), fate)
            assert not is_crossed(exchange.open_quotes())
        elif what == "hear" and exchange.answers:
            answer = exchange.answers.pop(data.draw(st.integers(0, len(exchange.answers) - 1), label="answer"))
            if isinstance(answer, OrderUpdate):
                on_update(orders, answer)
            else:
                on_request_failed(orders, answer)
        elif what == "resolve":
            resolve(orders, exchange, now_ns)
        crossed_in_flight += is_crossed([(t.side, t.px_ticks) for t in wanted] + exchange.open_quotes())
    event(f"targets met resting orders: {crossed_in_flight > 0}")


def resolve(orders: Orders, exchange: Exchange, now_ns: int) -> None:
    """The reconciler: the truth about each order of which nothing is under way."""
    busy = {each.client_id for each in [*exchange.requests, *exchange.answers]}
    for client_id, order in list(orders.live.items()):
        if client_id in busy:
            continue
        quote = exchange.book.get(client_id)
        if quote is None:
            on_update(orders, report(client_id, S.REJECTED, 0, mono_ns=now_ns))
            continue
        if order.pending_ns and quote.revision < order.revision:
            on_request_failed(orders, RequestFailed(now_ns, now_ns, None, client_id, "amend", "unanswered"))
        if order.cancel_sent_ns and quote.open:
            on_request_failed(orders, RequestFailed(now_ns, now_ns, None, client_id, "cancel", "unanswered"))
        status = S.LIVE if quote.open else S.CANCELLED
        on_update(orders, report(client_id, status, 0, revision=quote.revision, mono_ns=now_ns))


# --- what works a position down ---------------------------------------------------------------------------------------

NOW_NS = 5 * NS


def reducing(
    side: Side, px: int, qty: int = 10, tolerance: int = 2, *, takes: bool = False, purpose: Purpose = Purpose.DERISK
) -> Quote:
    return Quote(side, 0, px, qty, px - tolerance, px + tolerance, NO_ADDENDS, purpose, takes)


def worked(
    orders: Orders, *targets: Quote, held: int, params: DiffParams = AMEND, now_ns: int = NOW_NS
) -> list[Command]:
    ids = iter(f"n{i}" for i in range(99))
    refresh_ns = 90 * NS
    return diff(targets, orders, params, now_ns, refresh_ns, lambda: next(ids), risk=True, position_lots=held)


def derisk_place(side: Side, px: int, qty: int, *, takes: bool = False) -> Place:
    return Place("n0", side, px, qty, Purpose.DERISK, 0, post_only=not takes, reduce_only=True, ioc=takes)


def rest_derisk(
    orders: Orders, client_id: str, side: Side, px: int, qty: int, *, takes: bool = False, at_ns: int = 1
) -> None:
    terms = (client_id, side, px, qty, Purpose.DERISK, 0)
    submit(orders, Place(*terms, post_only=not takes, reduce_only=True, ioc=takes), at_ns)


@pytest.mark.parametrize("takes", [False, True])
def test_it_goes_out_reduce_only_and_post_only_or_taking(takes: bool) -> None:
    for side, held in ((SELL, 10), (BUY, -10)):
        assert worked(Orders(), reducing(side, 100, takes=takes), held=held) == [
            derisk_place(side, 100, 10, takes=takes)
        ]


def test_it_is_clipped_to_what_nothing_else_may_fill() -> None:
    orders = Orders()
    rest(orders, "leaving", SELL, 110, 4)
    submit(orders, Cancel("leaving", risk=True), 2)
    rest(orders, "lost", SELL, 111, 3)
    on_update(orders, report("lost", S.UNKNOWN, None))
    submit(orders, Cancel("lost", risk=True), 2)
    rest(orders, "kill switch", SELL, 120, 1, purpose=Purpose.FLATTEN)
    assert worked(orders, reducing(SELL, 100), held=10) == [derisk_place(SELL, 100, 2)]
    assert worked(orders, reducing(SELL, 100), held=8) == []
    assert worked(orders, reducing(SELL, 100), held=5) == []


def test_a_quote_never_stands_for_it_nor_it_for_a_quote() -> None:
    """Where the order of the other purpose rests at that very price and size."""
    orders = Orders()
    rest(orders, "quote", SELL, 100)
    assert worked(orders, reducing(SELL, 100), held=10) == [Cancel("quote", risk=True)]
    orders = Orders()
    rest_derisk(orders, "derisk", SELL, 100, 10)
    on_update(orders, report("derisk", S.LIVE))
    assert worked(orders, target(SELL, 100), held=10) == [Cancel("derisk", risk=True)]
    assert commands(orders, target(SELL, 100)) == [Cancel("derisk", risk=True)]  # a risk cancel, RUNNING too
    assert commands(orders, target(SELL, 100), target(SELL, 110, level=1))[1:] == [
        Place("n0", SELL, 110, 10, Purpose.QUOTE, 1, post_only=True, reduce_only=False)
    ]
    assert commands(orders, target(BUY, 90))[1:] == places(target(BUY, 90))  # the other side has nothing to wait for


@pytest.mark.parametrize("params", [AMEND, REPLACE])
def test_it_is_moved_like_a_quote(params: DiffParams) -> None:
    orders = Orders()
    rest_derisk(orders, "d", SELL, 100, 10)
    on_update(orders, report("d", S.LIVE))
    assert worked(orders, reducing(SELL, 101), held=10, params=params) == []  # within its range
    moved = worked(orders, reducing(SELL, 105), held=10, params=params)
    assert moved == ([Amend("d", 1, 105, 10)] if params.can_amend else [Cancel("d", risk=True)])


def test_it_is_topped_up_to_what_has_become_free_and_no_further() -> None:
    orders = Orders()
    rest_derisk(orders, "d", SELL, 100, 4)
    on_update(orders, report("d", S.LIVE))
    rest(orders, "leaving", SELL, 110, 3)
    submit(orders, Cancel("leaving", risk=True), 2)
    assert worked(orders, reducing(SELL, 100), held=10) == [Amend("d", 1, 100, 7)]
    assert worked(orders, reducing(SELL, 100, 5), held=10) == []  # 4 of 5 are near enough
    assert worked(orders, reducing(SELL, 100), held=7) == []


def test_what_would_pass_zero_is_taken_out_whatever_rests_beside_it() -> None:
    orders = Orders()
    rest_derisk(orders, "d", SELL, 100, 10)
    on_update(orders, report("d", S.LIVE))
    assert worked(orders, reducing(SELL, 100, 9), held=9) == [Cancel("d", risk=True)]
    on_update(orders, report("d", S.UNKNOWN, None))
    assert worked(orders, reducing(SELL, 100, 9), held=9) == [Cancel("d", risk=True)]


@pytest.mark.parametrize("status", [None, S.LIVE, S.UNKNOWN])
def test_nothing_wanted_or_wanted_on_the_other_side_it_goes(status: OrderStatus | None) -> None:
    orders = Orders()
    rest_derisk(orders, "d", SELL, 100, 10, at_ns=NOW_NS)
    if status is not None:
        on_update(orders, report("d", status, None))
    assert worked(orders, held=0) == [Cancel("d", risk=True)]
    [gone, placed] = worked(orders, reducing(BUY, 90), held=-10)
    assert (gone, placed) == (Cancel("d", risk=True), derisk_place(BUY, 90, 10))


def test_one_that_takes_is_alone() -> None:
    orders = Orders()
    rest_derisk(orders, "passive", SELL, 100, 4)
    on_update(orders, report("passive", S.LIVE))
    take = reducing(SELL, 80, 10, 0, takes=True)
    assert worked(orders, take, held=10) == [Cancel("passive", risk=True)]
    submit(orders, Cancel("passive", risk=True), 2)
    assert worked(orders, take, held=10) == []
    on_update(orders, report("passive", S.CANCELLED, 0))
    assert worked(orders, take, held=10) == [derisk_place(SELL, 80, 10, takes=True)]


def test_one_that_takes_is_left_to_end_by_itself_and_never_moved() -> None:
    orders = Orders()
    rest_derisk(orders, "ioc", SELL, 80, 5, takes=True, at_ns=NOW_NS)
    for wanted in (reducing(SELL, 78, 10, 0, takes=True), reducing(SELL, 100)):
        assert worked(orders, wanted, held=10, now_ns=NOW_NS + ANSWER_WAIT_NS - 1) == []
        assert worked(orders, wanted, held=10, now_ns=NOW_NS + ANSWER_WAIT_NS) == [Cancel("ioc", risk=True)]
    on_update(orders, report("ioc", S.LIVE))
    assert worked(orders, reducing(SELL, 100), held=10, now_ns=NOW_NS + 10) == []
    assert worked(orders, held=10, now_ns=NOW_NS + 10) == [Cancel("ioc", risk=True)]


def test_what_is_not_answered_is_waited_for_and_then_taken_out() -> None:
    orders = Orders()
    rest_derisk(orders, "d", SELL, 100, 10, at_ns=NOW_NS)
    wanted = reducing(SELL, 110)
    assert worked(orders, wanted, held=10, now_ns=NOW_NS + ANSWER_WAIT_NS - 1) == []
    assert worked(orders, wanted, held=10, now_ns=NOW_NS + ANSWER_WAIT_NS) == [Cancel("d", risk=True)]
    assert worked(orders, reducing(SELL, 101), held=10, now_ns=NOW_NS + ANSWER_WAIT_NS) == []  # where it may stay


def test_an_amend_that_is_not_answered_is_waited_for_and_then_it_is_taken_out() -> None:
    orders = Orders()
    rest_derisk(orders, "d", SELL, 100, 10)
    on_update(orders, report("d", S.LIVE))
    submit(orders, Amend("d", 1, 105, 10), NOW_NS)
    wanted = reducing(SELL, 115)
    assert worked(orders, wanted, held=10, now_ns=NOW_NS + ANSWER_WAIT_NS - 1) == []
    assert worked(orders, wanted, held=10, now_ns=NOW_NS + ANSWER_WAIT_NS) == [Cancel("d", risk=True)]


def test_of_two_the_older_serves() -> None:
    orders = Orders()
    for client_id in ("older", "newer"):
        rest_derisk(orders, client_id, SELL, 100, 5)
        on_update(orders, report(client_id, S.LIVE))
    assert worked(orders, reducing(SELL, 100, 5), held=10) == [Cancel("newer", risk=True)]


def test_it_never_meets_our_own_order_of_the_other_side() -> None:
    orders = Orders()
    rest(orders, "bid", BUY, 90)
    submit(orders, Cancel("bid", risk=True), 2)
    assert worked(orders, reducing(SELL, 90), held=10) == []
    assert worked(orders, reducing(SELL, 91), held=10) == [derisk_place(SELL, 91, 10)]
    # What takes goes as far as it can without.
    [place] = worked(orders, reducing(SELL, 80, 10, 0, takes=True), held=10)
    assert isinstance(place, Place)
    assert (place.side, place.px_ticks, place.ioc) == (SELL, 91, True)
    short = Orders()
    rest(short, "ask", SELL, 110)
    *_, place = worked(short, reducing(BUY, 120, 10, 0, takes=True), held=-10)
    assert isinstance(place, Place)
    assert (place.side, place.px_ticks, place.ioc) == (BUY, 109, True)
