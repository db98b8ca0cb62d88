"""Admission: each check by its name, at its bound and beyond it, and the worst case as a property."""

from collections import deque
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core import limits, orders
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import Fill, OrderAdopted, OrderUpdate
from mmdaemon.core.limits import Budgets, Reference, Refusal
from mmdaemon.core.orders import Orders
from mmdaemon.core.params import Params
from mmdaemon.core.types import E10, NS, ExecKind, GuardState, Instrument, Liquidity, OrderStatus, Purpose, Side
from tests.core.build import MID, T0_NS, modest, params

BUY, SELL = Side.BUY, Side.SELL
INST = Instrument.of(
    venue="simulated",
    symbol="BTCUSDT",
    tick_e10=E10 // 10,
    lot_e10=E10 // 10_000,
    min_qty_lots=2,
    max_qty_lots=60,
    min_notional_e10=20 * E10,
)
P = params(
    instrument=INST,
    limits={
        "collar_bps": 100.0,
        "max_order_quote": 325.0,  # 50 lots at MID
        "max_open_orders": 6,
        "messages_per_minute": 20,
        "cancels_per_minute": 10,
        "reserve_for_cancels_fraction": 0.3,
    },
)


class Door:
    """Orders, budgets and the facts that a command is held against."""

    def __init__(self, p: Params = P, **facts: Any) -> None:
        self.p = p
        self.orders = Orders()
        self.budgets = Budgets()
        self.facts: dict[str, Any] = {
            "guard": GuardState.RUNNING,
            "position_lots": 0,
            "max_position_lots": 100,
            "mark_px_ticks": MID,
            "slow_mid_ticks": float(MID),
            "now_ns": T0_NS,
            **facts,
        }

    def __call__(self, command: Command, **facts: Any) -> str:
        """Name of the check that refuses, or empty."""
        refusal = limits.admit(command, self.orders, self.budgets, Reference(**{**self.facts, **facts}), self.p)
        if refusal is None:
            return ""
        assert isinstance(refusal, Refusal)
        assert refusal.client_id == command.client_id
        assert refusal.detail
        return refusal.check

    def rest(self, side: Side, px_ticks: int, qty_lots: int, filled_lots: int = 0, *, acked: bool = True) -> str:
        """An order of ours that rests (or is only sent), with a part of it filled."""
        client_id = orders.next_id(self.orders, "abcd", 1)
        orders.submit(self.orders, place(side, px_ticks, qty_lots, client_id), T0_NS)
        if acked:
            orders.on_update(
                self.orders,
                OrderUpdate(T0_NS, T0_NS, None, client_id, OrderStatus.LIVE, filled_lots, None, None, None, ""),
            )
            self.orders.live[client_id].filled_lots = filled_lots
            if side is BUY:
                self.orders.reserved_buy_lots -= filled_lots
            else:
                self.orders.reserved_sell_lots -= filled_lots
        assert orders.reserved_full(self.orders) == (self.orders.reserved_buy_lots, self.orders.reserved_sell_lots)
        return client_id


def place(
    side: Side = BUY, px_ticks: int = MID - 100, qty_lots: int = 10, client_id: str = "new", reduce_only: bool = False
) -> Place:
    return Place(client_id, side, px_ticks, qty_lots, Purpose.QUOTE, 0, post_only=True, reduce_only=reduce_only)


# --- each check -------------------------------------------------------------------------------------------------------


def test_an_ordinary_order_is_let_out() -> None:
    assert Door()(place()) == ""


@pytest.mark.parametrize(("px", "qty"), [(0, 10), (-5, 10), (MID, 0), (MID, -3), (1 << 48, 10), (10**30, 10)], ids=str)
def test_not_positive(px: int, qty: int) -> None:
    assert Door()(place(BUY, px, qty)) == "not_positive"


def test_an_amend_to_less_than_is_filled_is_not_positive() -> None:
    door = Door()
    client_id = door.rest(BUY, MID - 100, 10, filled_lots=6)
    assert door(Amend(client_id, 1, MID - 100, 7)) == ""
    assert door(Amend(client_id, 1, MID - 100, 6)) == "not_positive"


def test_unknown_order() -> None:
    assert Door()(Amend("nobody", 1, MID, 5)) == "unknown_order"


@pytest.mark.parametrize("state", [s for s in GuardState if s not in (GuardState.RUNNING, GuardState.REDUCING)])
def test_guard_shut(state: GuardState) -> None:
    door = Door()
    resting = door.rest(SELL, MID + 100, 10)
    assert door(place(), guard=state) == "guard"
    assert door(place(SELL, MID + 100), guard=state, position_lots=50) == "guard"
    assert door(Amend(resting, 1, MID + 120, 10), guard=state) == "guard"
    assert door(place(SELL, MID + 100, reduce_only=True), guard=state, position_lots=50) == ""


@pytest.mark.parametrize("side", [BUY, SELL])
def test_guard_reducing(side: Side) -> None:
    door = Door(guard=GuardState.REDUCING, position_lots=-side * 20)
    px = MID - side * 100
    assert door(place(side, px, 20)) == ""
    assert door(place(side, px, 21)) == "guard"  # it would pass zero
    assert door(place(side.opposite, MID + side * 100, 3)) == "guard"
    door.rest(side, px, 5, acked=False)  # what is on its way counts
    assert door(place(side, px, 15)) == ""
    assert door(place(side, px, 16)) == "guard"


def test_guard_reducing_while_flat_lets_nothing_in() -> None:
    door = Door(guard=GuardState.REDUCING)
    assert door(place(BUY, MID - 100, 4)) == "guard"
    assert door(place(SELL, MID + 100, 4)) == "guard"


def test_guard_reducing_lets_through_what_shrinks() -> None:
    door = Door(guard=GuardState.REDUCING, position_lots=10)
    too_much = door.rest(SELL, MID + 100, 20)
    increasing = door.rest(BUY, MID - 100, 20)
    assert door(Amend(too_much, 1, MID + 100, 15)) == ""
    assert door(Amend(too_much, 1, MID + 100, 21)) == "guard"
    assert door(Amend(increasing, 1, MID - 100, 15)) == "guard"


@pytest.mark.parametrize(
    ("px", "qty", "check"),
    [
        (MID - 100, 4, ""),  # 26 quote
        (MID - 100, 3, "size"),  # 19.5 quote, below the least value
        (MID - 100, 1, "size"),  # below the least quantity
        (MID - 100, 61, "size"),  # above the largest
    ],
)
def test_size(px: int, qty: int, check: str) -> None:
    assert Door(params(instrument=INST), max_position_lots=10_000)(place(BUY, px, qty)) == check


def test_order_value() -> None:
    assert Door()(place(BUY, MID, 50)) == ""
    assert Door()(place(BUY, MID + 1, 50)) == "order_value"
    assert Door()(place(BUY, MID, 51)) == "order_value"


@pytest.mark.parametrize(
    "missing",
    [{"mark_px_ticks": 0}, {"mark_px_ticks": -1}, {"slow_mid_ticks": 0.0}, {"slow_mid_ticks": float("nan")}],
    ids=str,
)
def test_no_reference(missing: dict[str, float]) -> None:
    """No data fails a check."""
    assert Door()(place(), **missing) == "no_reference"


@pytest.mark.parametrize("least", [{"mark_px_ticks": 1}, {"slow_mid_ticks": 0.5}], ids=str)
def test_the_least_reference_is_one(least: dict[str, float]) -> None:
    assert Door()(place(), **least) == "collar"


@pytest.mark.parametrize("anchor", ["mark_px_ticks", "slow_mid_ticks"])
@pytest.mark.parametrize("side", [BUY, SELL])
def test_collar(anchor: str, side: Side) -> None:
    door = Door()
    bound = MID * 99 // 100 if side is BUY else MID * 101 // 100
    assert door(place(side, bound)) == ""
    assert door(place(side, bound - side)) == "collar"
    # Each of the two anchors holds by itself.
    near = MID - side * 6_400
    assert door(place(side, near)) == ""
    assert door(place(side, near), **{anchor: MID + side * 200}) == "collar"


@pytest.mark.parametrize("side", [BUY, SELL])
def test_worst_case(side: Side) -> None:
    door = Door(position_lots=side * 60)
    px = MID - side * 100
    assert door(place(side, px, 40)) == ""
    assert door(place(side, px, 41)) == "worst_case"
    door.rest(side, px, 25, acked=False)
    assert door(place(side, px, 15)) == ""
    assert door(place(side, px, 16)) == "worst_case"
    assert door(place(side.opposite, MID + side * 100, 49)) == ""


def test_worst_case_counts_an_amend_by_what_it_adds() -> None:
    door = Door(position_lots=60)
    client_id = door.rest(BUY, MID - 100, 30, filled_lots=10)  # 60 held, 20 open
    assert door(Amend(client_id, 1, MID - 90, 50)) == ""
    assert door(Amend(client_id, 1, MID - 90, 51 - 1 + 1)) in ("worst_case", "order_value")
    assert door(Amend(client_id, 1, MID - 90, 48), position_lots=63) == "worst_case"
    assert door(Amend(client_id, 1, MID - 90, 47), position_lots=63) == ""


def test_worst_case_above_the_cap_may_not_grow_but_may_move() -> None:
    """The cap shrank, or the venue booked more than was asked: what is there may be moved and made smaller."""
    door = Door(position_lots=90)
    client_id = door.rest(BUY, MID - 100, 30)
    assert door(Amend(client_id, 1, MID - 90, 30)) == ""
    assert door(Amend(client_id, 1, MID - 90, 20)) == ""
    assert door(Amend(client_id, 1, MID - 90, 31)) == "worst_case"
    assert door(place(BUY, MID - 100, 4)) == "worst_case"


def test_worst_case_of_an_amend_in_flight_is_the_larger_of_both_sizes() -> None:
    door = Door(position_lots=60)
    client_id = door.rest(BUY, MID - 100, 30)
    orders.submit(door.orders, Amend(client_id, 1, MID - 100, 10), T0_NS)
    assert door(place(BUY, MID - 100, 10)) == ""
    assert door(place(BUY, MID - 100, 11)) == "worst_case"


def test_worst_case_counts_unknown_orders_in_full() -> None:
    door = Door(position_lots=60)
    client_id = door.rest(BUY, MID - 100, 30)
    unknown = OrderUpdate(T0_NS, T0_NS, None, client_id, OrderStatus.UNKNOWN, None, None, None, None, "timeout")
    orders.on_update(door.orders, unknown)
    assert door(place(BUY, MID - 100, 11)) == "worst_case"


def test_worst_case_knows_no_exception_for_reduce_only() -> None:
    """The venue applies that rule when it trades, against a position our other fills may have changed by then."""
    door = Door(position_lots=-20, max_position_lots=100)
    door.rest(BUY, MID - 100, 50)
    door.rest(BUY, MID - 100, 50)
    assert door(place(BUY, MID - 100, 20, reduce_only=True)) == ""
    assert door(place(BUY, MID - 100, 21, reduce_only=True)) == "worst_case"


def test_open_orders() -> None:
    door = Door()
    for i in range(5):
        door.rest(BUY, MID - 100 - i, 4)
    assert door(place()) == ""
    last = door.rest(SELL, MID + 100, 4)
    assert door(place()) == "open_orders"
    assert door(Amend(last, 1, MID + 101, 4)) == ""


@pytest.mark.parametrize("side", [BUY, SELL])
def test_self_cross(side: Side) -> None:
    door = Door()
    door.rest(side.opposite, MID, 4)
    assert door(place(side, MID - side, 4)) == ""
    assert door(place(side, MID, 4)) == "self_cross"
    own = door.rest(side, MID - side * 5, 4)
    assert door(Amend(own, 1, MID - side, 4)) == ""
    assert door(Amend(own, 1, MID, 4)) == "self_cross"


def test_self_cross_with_the_more_aggressive_price_of_an_amend_in_flight() -> None:
    door = Door()
    ask = door.rest(SELL, MID + 50, 4)
    orders.submit(door.orders, Amend(ask, 1, MID + 10, 4), T0_NS)
    assert door(place(BUY, MID + 9, 4)) == ""
    assert door(place(BUY, MID + 10, 4)) == "self_cross"


def test_message_rate_keeps_a_share_for_cancels() -> None:
    door = Door()
    for _ in range(13):
        limits.on_command(door.budgets, Cancel("x", True), T0_NS, P.limits, P.guard)
    assert door(place()) == ""
    limits.on_command(door.budgets, Cancel("x", True), T0_NS, P.limits, P.guard)  # 14 of 20: the rest is for cancels
    assert door(place()) == "message_rate"
    assert door(Cancel("x", False)) == ""
    assert door(place(), now_ns=T0_NS + 60 * NS - 1) == "message_rate"
    assert door(place(), now_ns=T0_NS + 60 * NS) == ""


def test_the_first_check_that_fails_is_the_one_that_is_named() -> None:
    """A command that fails everything, cured of one failure after another: what is wrong with it most is said first."""
    door = Door(
        guard=GuardState.SOFT_PAUSE, position_lots=90, mark_px_ticks=0, slow_mid_ticks=0.0, now_ns=T0_NS + 30 * NS
    )
    for i in range(5):
        door.rest(BUY, MID - 100 - i, 4)
    door.rest(SELL, MID - 7_000, 4)
    for _ in range(20):
        limits.on_command(door.budgets, Cancel("x", True), T0_NS, P.limits, P.guard)
    px = MID + 6_600  # beyond the collar, and our own ask
    assert door(place(BUY, px, 0)) == "not_positive"
    assert door(place(BUY, px, 70)) == "guard"
    door.facts["guard"] = GuardState.RUNNING
    assert door(place(BUY, px, 70)) == "size"
    assert door(place(BUY, px, 51)) == "order_value"
    assert door(place(BUY, px, 40)) == "no_reference"
    door.facts |= {"mark_px_ticks": MID, "slow_mid_ticks": float(MID)}
    assert door(place(BUY, px, 40)) == "collar"
    px = MID - 100
    assert door(place(BUY, px, 40)) == "worst_case"
    door.facts["position_lots"] = 0
    assert door(place(BUY, px, 40)) == "open_orders"
    del door.orders.live["mmabcd-1-1"]
    assert door(place(BUY, px, 40)) == "self_cross"
    del door.orders.live["mmabcd-1-6"]
    assert door(place(BUY, px, 40)) == "message_rate"
    assert door(place(BUY, px, 40), now_ns=T0_NS + 60 * NS) == ""


# --- cancels ----------------------------------------------------------------------------------------------------------


@given(st.booleans(), st.sampled_from(GuardState), st.text(max_size=5))
@modest(30)
def test_a_cancel_is_always_let_out(risk: bool, state: GuardState, client_id: str) -> None:
    door = Door(guard=state, mark_px_ticks=0, slow_mid_ticks=0.0, position_lots=10**9)
    for _ in range(100):
        limits.on_command(door.budgets, Cancel("x", False), T0_NS, P.limits, P.guard)
    assert door(Cancel(client_id, risk)) == ""


# --- invariant 2 ------------------------------------------------------------------------------------------------------

_ORDER = st.tuples(
    st.sampled_from(Side),
    st.integers(-400, 400),
    st.integers(1, 50),
    st.integers(0, 60),
    st.sampled_from([OrderStatus.LIVE, OrderStatus.UNKNOWN, OrderStatus.SENT, None]),
)


@given(
    st.integers(-150, 150),
    st.integers(0, 120),
    st.lists(_ORDER, max_size=4),
    st.sampled_from([GuardState.RUNNING, GuardState.REDUCING]),
    st.lists(
        st.tuples(st.sampled_from(Side), st.integers(-400, 400), st.integers(1, 60), st.integers(-1, 4), st.booleans()),
        min_size=1,
        max_size=6,
    ),
)
@modest(200)
def test_no_admitted_command_raises_the_worst_case_beyond_the_cap_or_what_it_was(
    position_lots: int, cap_lots: int, resting, state: GuardState, wanted
) -> None:
    door = Door(position_lots=position_lots, max_position_lots=cap_lots, guard=state)
    for side, off, qty, filled, status in resting:
        client_id = f"r{len(door.orders.live)}"
        if status is None:
            orders.submit(door.orders, place(side, MID + off, qty, client_id), T0_NS)
        else:
            orders.on_adopted(
                door.orders,
                OrderAdopted(
                    T0_NS,
                    T0_NS,
                    None,
                    client_id,
                    side,
                    MID + off,
                    qty,
                    min(filled, qty - 1),
                    Purpose.QUOTE,
                    False,
                    status,
                ),
            )
    for n, (of_place, off, qty, which, only) in enumerate(wanted):
        side, reduce_only = of_place, only
        live = list(door.orders.live.values())
        command: Command
        if 0 <= which < len(live) and not live[which].pending_ns:
            command = Amend(live[which].client_id, live[which].revision + 1, MID + off, qty)
            side, reduce_only = live[which].side, live[which].reduce_only
        else:
            command = place(side, MID + off, qty, f"n{n}", reduce_only)
        before = {s: orders.worst_case_lots(door.orders, position_lots, s) for s in Side}
        if door(command):
            continue
        orders.submit(door.orders, command, T0_NS)
        for s in Side:
            after = orders.worst_case_lots(door.orders, position_lots, s)
            assert after <= max(cap_lots, before[s])
            if state is GuardState.REDUCING and s is side and not reduce_only:
                assert after <= max(0, before[s])


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_the_budget_of_cancels_breaks_beyond_its_bound_and_begins_anew() -> None:
    budgets = Budgets()
    for _ in range(10):
        limits.on_command(budgets, Cancel("x", False), T0_NS, P.limits, P.guard)
    assert (budgets.cancel_breaches, budgets.cancel_pause_until_ns) == (0, 0)
    assert len(budgets.cancels_ns) == 10
    limits.on_command(budgets, Cancel("x", False), T0_NS + 1, P.limits, P.guard)
    assert budgets.cancel_breaches == 1
    assert budgets.cancel_pause_until_ns == T0_NS + 1 + P.guard.cancel_breach_pause_ns
    assert len(budgets.cancels_ns) == 0


def test_cancels_within_a_sliding_minute_count() -> None:
    budgets = Budgets()
    for second in range(0, 600, 7):  # nine a minute, for ten minutes
        limits.on_command(budgets, Cancel("x", False), T0_NS + second * NS, P.limits, P.guard)
    assert budgets.cancel_breaches == 0
    assert len(budgets.cancels_ns) == 9
    assert (budgets.message_pause_until_ns, len(budgets.messages_ns)) == (0, 9)


def test_risk_cancels_and_amends_count_as_messages_only() -> None:
    budgets = Budgets()
    for i in range(10):
        limits.on_command(budgets, Cancel("x", True), T0_NS, P.limits, P.guard)
        limits.on_command(budgets, Amend("x", i, MID, 4), T0_NS, P.limits, P.guard)
    assert not budgets.cancels_ns
    assert budgets.message_pause_until_ns == 0
    limits.on_command(budgets, place(), T0_NS, P.limits, P.guard)
    assert budgets.message_pause_until_ns == T0_NS + P.guard.cancel_breach_pause_ns
    assert budgets.cancel_breaches == 0


def test_a_resume_forgets_breaches_and_peaks_but_no_messages() -> None:
    budgets = Budgets(cancel_breaches=3, fills_peak=99)
    limits.on_command(budgets, place(), T0_NS, P.limits, P.guard)
    limits.on_resume(budgets)
    assert (budgets.cancel_breaches, budgets.fills_peak, len(budgets.messages_ns)) == (0, 0, 1)


def test_each_pause_for_the_venues_rate_on_end_is_twice_as_long_up_to_half_a_minute() -> None:
    budgets, now_ns, lengths_s = Budgets(), T0_NS, []
    for n in range(1, 9):
        limits.on_rate_refusal(budgets, 0, now_ns)
        lengths_s.append((budgets.venue_pause_until_ns - now_ns) / NS)
        limits.on_rate_refusal(budgets, 0, budgets.venue_pause_until_ns - 1)  # of the same burst
        assert budgets.venue_pauses == n
        now_ns = budgets.venue_pause_until_ns
    assert lengths_s == [1, 2, 4, 8, 16, 30, 30, 30]


def test_orders_wait_until_the_pause_is_over_and_are_told_how_long() -> None:
    door = Door()
    limits.on_rate_refusal(door.budgets, 0, T0_NS)
    refusal = limits.admit(place(), door.orders, door.budgets, Reference(**door.facts), P)
    assert refusal is not None
    assert refusal.check == "venue_rate"
    assert refusal.detail.endswith("wait 1.0 s more")
    assert door(Cancel("x", False)) == ""
    assert door(place(), now_ns=T0_NS + NS - 1) == "venue_rate"
    assert door(place(), now_ns=T0_NS + NS) == ""


@pytest.mark.parametrize(("after_ns", "pauses"), [(60 * NS - 1, 2), (60 * NS, 1)])
def test_pauses_a_minute_apart_are_not_on_end(after_ns: int, pauses: int) -> None:
    budgets = Budgets()
    limits.on_rate_refusal(budgets, 0, T0_NS)
    limits.on_rate_refusal(budgets, 0, budgets.venue_pause_until_ns + after_ns)
    assert budgets.venue_pauses == pauses


def test_what_never_left_for_our_own_pace_holds_the_next_for_a_second_and_lengthens_nothing() -> None:
    """A `Retry-After` of half a minute: orders are tried once a second, and none of it is the venue's refusal."""
    budgets, now_ns = Budgets(), T0_NS
    limits.on_rate_refusal(budgets, 0, now_ns)
    for _ in range(30):
        now_ns = budgets.venue_pause_until_ns
        limits.on_unsent(budgets, now_ns)
        assert budgets.venue_pause_until_ns == now_ns + NS
    assert (budgets.venue_pauses, budgets.fruitless_pauses) == (1, 1)
    limits.on_rate_refusal(budgets, 0, budgets.venue_pause_until_ns)
    longer_ns = budgets.venue_pause_until_ns
    limits.on_unsent(budgets, longer_ns - 2 * NS)
    assert budgets.venue_pause_until_ns == longer_ns


def test_budgets_begin_with_nothing_spent() -> None:
    assert {figure for figure in msgspec.structs.asdict(Budgets()).values() if not isinstance(figure, deque)} == {0}


def test_fills_of_either_side_count_apart() -> None:
    budgets = Budgets()
    for n, side in enumerate((BUY, BUY, SELL, BUY, SELL)):
        terms = ("c", side, 1, 1, 0, Liquidity.MAKER, ExecKind.TRADE)
        limits.on_fill(budgets, Fill(T0_NS + n, T0_NS + n, None, f"t{n}", *terms))
    assert (list(budgets.buys_ns), list(budgets.sells_ns)) == (
        [T0_NS, T0_NS + 1, T0_NS + 3],
        [T0_NS + 2, T0_NS + 4],
    )
    assert budgets.fills_peak == 3


def test_refusals_can_be_journaled() -> None:
    refusal = limits.admit(place(BUY, 0), Orders(), Budgets(), Reference(GuardState.RUNNING, 0, 1, 1, 1.0, 1), P)
    assert refusal is not None
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(refusal), type=Refusal) == refusal


def test_fills_of_a_gap_count_at_the_time_they_happened_not_when_they_were_read() -> None:
    read, happened = Budgets(), Budgets()
    for i in range(100):
        terms = ("c", Side.BUY, 1, 1, 0, Liquidity.MAKER, ExecKind.TRADE)
        limits.on_fill(read, Fill(10**15, 10**15, i * 2 * NS, f"a{i}", *terms))
        limits.on_fill(happened, Fill(10**15, 10**15, i * NS // 10, f"b{i}", *terms))
    assert read.fills_peak == 30  # one in two seconds
    assert happened.fills_peak == 100


def filled(at_venue_ns: int | None, ts_ns: int, side: Side = BUY) -> Fill:
    return Fill(T0_NS, ts_ns, at_venue_ns, "t", "c", side, 1, 1, 0, Liquidity.MAKER, ExecKind.TRADE)


NOW_NS = 1_790_000_000 * NS


@pytest.mark.parametrize(
    "stamp_ns",
    [NOW_NS + 61 * NS, NOW_NS + 86_400 * NS, (1 << 63) - 1, 0, 1, NOW_NS - 86_400 * NS],
    ids=["a minute ahead", "a day ahead", "the end of time", "never", "1970", "a day ago"],
)
def test_one_bad_stamp_changes_no_count_that_follows(stamp_ns: int) -> None:
    """It neither adds up all that comes after it (a false stop for good) nor hides it (no stop where one is due)."""
    budgets = Budgets()
    limits.on_fill(budgets, filled(stamp_ns, NOW_NS))
    for second in range(600):  # one in two seconds for twenty minutes
        at_ns = NOW_NS + (2 * second + 1) * NS
        limits.on_fill(budgets, filled(at_ns, at_ns))
    assert budgets.fills_peak in (30, 31)  # 31: the bad one counts at its receipt
    begun_ns = NOW_NS + 2_000 * NS
    for i in range(50):
        limits.on_fill(budgets, filled(begun_ns + i, begun_ns + i))
    assert budgets.fills_peak == 50
    assert len(budgets.buys_ns) <= 1_000


def test_fills_that_a_gap_held_back_do_not_add_to_those_of_now() -> None:
    budgets = Budgets()
    for i in range(40):
        limits.on_fill(budgets, filled(NOW_NS + i, NOW_NS + i))
    for i in range(30):
        limits.on_fill(budgets, filled(NOW_NS - 300 * NS + i, NOW_NS + NS))
    assert budgets.fills_peak == 40
    for i in range(30):
        limits.on_fill(budgets, filled(NOW_NS - 300 * NS + 100 + i, NOW_NS + NS))
    assert budgets.fills_peak == 60  # in a minute that is over


@pytest.mark.parametrize("ahead_ns", [0, 86_400 * NS])
def test_what_is_kept_of_fills_has_a_bound_whatever_their_stamps(ahead_ns: int) -> None:
    budgets = Budgets()
    for i in range(3_000):
        limits.on_fill(budgets, filled(NOW_NS, NOW_NS + ahead_ns + i))
    assert len(budgets.buys_ns) == 1_000
    assert budgets.fills_peak >= 1_000


@given(st.lists(st.integers(-400, 90), min_size=1, max_size=60))
@modest(100)
def test_the_peak_is_the_most_in_any_minute_whatever_the_order(seconds: list[int]) -> None:
    """Against the definition: as many as have happened within the minute up to one of them."""
    budgets = Budgets()
    now_ns = NOW_NS + 90 * NS
    for second in seconds:
        limits.on_fill(budgets, filled(NOW_NS + second * NS, now_ns))
    assert budgets.fills_peak == max(sum(end - 60 < at <= end for at in seconds) for end in seconds)


@pytest.mark.parametrize(
    ("px", "qty"),
    [(MID - 100.5, 10), (float(MID - 100), 10), (MID - 100, 10.0), (MID - 100, 9.5), (float("nan"), 10), (MID, True)],
    ids=str,
)
def test_a_figure_that_is_no_whole_number_is_off_step(px: Any, qty: Any) -> None:
    """Ticks and lots are integers by type: half a tick is a price that the venue has not."""
    assert Door()(place(BUY, px, qty)) == "off_step"
    door = Door()
    assert door(Amend(door.rest(BUY, MID - 100, 10), 1, px, qty)) == "off_step"


@pytest.mark.parametrize("state", [GuardState.RUNNING, GuardState.REDUCING])
@pytest.mark.parametrize("purpose", [Purpose.DERISK, Purpose.FLATTEN])
def test_only_a_quote_may_go_out_without_reduce_only(purpose: Purpose, state: GuardState) -> None:
    """Whatever it was meant for, with the flag the venue holds it to that."""
    door = Door(guard=state, position_lots=50)
    sale = msgspec.structs.replace(place(SELL, MID + 100, 10), purpose=purpose)
    assert door(sale) == "reduce_only"
    assert door(msgspec.structs.replace(sale, reduce_only=True)) == ""


# --- what works a position down ---------------------------------------------------------------------------------------


def derisk(side: Side, qty_lots: int = 10, client_id: str = "new", purpose: Purpose = Purpose.DERISK) -> Place:
    return Place(client_id, side, MID + 100 * -side, qty_lots, purpose, 0, post_only=True, reduce_only=True)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("purpose", [Purpose.DERISK, Purpose.FLATTEN])
@pytest.mark.parametrize("acked", [True, False])
def test_what_is_no_quote_may_not_pass_zero_whatever_fills(side: Side, purpose: Purpose, acked: bool) -> None:
    """Held 50, and 20 of a quote may still fill on the side that reduces, acknowledged or not."""
    door = Door(position_lots=-side * 50, guard=GuardState.REDUCING)
    door.rest(side, MID - side * 200, 20, acked=acked)
    assert door(derisk(side, 30, purpose=purpose)) == ""
    assert door(derisk(side, 31, purpose=purpose)) == "beyond_flat"
    assert door(derisk(side.opposite, 4, purpose=purpose)) == "beyond_flat"  # it would increase
    assert door(derisk(side, 4, purpose=purpose), position_lots=0) == "beyond_flat"
    assert door(derisk(side, 4, purpose=purpose), position_lots=side * 50) == "beyond_flat"


def test_what_is_unknown_counts_until_the_venue_has_spoken() -> None:
    door = Door(position_lots=50, guard=GuardState.REDUCING)
    client_id = door.rest(SELL, MID + 200, 20)
    orders.on_update(
        door.orders, OrderUpdate(T0_NS, T0_NS, None, client_id, OrderStatus.UNKNOWN, None, None, None, None, "")
    )
    assert door(derisk(SELL, 31)) == "beyond_flat"
    orders.on_update(
        door.orders, OrderUpdate(T0_NS, T0_NS, None, client_id, OrderStatus.CANCELLED, 0, None, None, None, "")
    )
    assert door(derisk(SELL, 31)) == ""


def test_an_amend_of_what_works_a_position_down_may_not_pass_zero_either() -> None:
    door = Door(position_lots=50, guard=GuardState.REDUCING)
    door.rest(SELL, MID + 200, 20)
    orders.submit(door.orders, derisk(SELL, 10, "d"), T0_NS)
    assert door(Amend("d", 1, MID + 100, 30)) == ""
    assert door(Amend("d", 1, MID + 100, 31)) == "beyond_flat"
    # Nor one that adds nothing while too much may fill already: such an order is taken out, and not moved about.
    assert door(Amend("d", 1, MID + 100, 10), position_lots=25) == "beyond_flat"


def test_one_order_a_second_works_a_position_down() -> None:
    door = Door(position_lots=50, guard=GuardState.REDUCING)
    limits.on_command(door.budgets, place(), T0_NS - 1, P.limits, P.guard)
    first = derisk(SELL, 10, "d")
    assert door(first) == ""  # a quote just before it is nothing to it
    limits.on_command(door.budgets, first, T0_NS, P.limits, P.guard)
    orders.submit(door.orders, first, T0_NS)
    assert door(derisk(SELL, 10), now_ns=T0_NS + NS - 1) == "derisk_rate"
    assert door(Amend("d", 1, MID + 50, 10), now_ns=T0_NS + NS - 1) == ""
    assert door(place(SELL, MID + 100, 10), now_ns=T0_NS + NS - 1) == ""
    assert door(derisk(SELL, 10), now_ns=T0_NS + NS) == ""


@given(
    st.integers(-80, 80),
    st.lists(st.tuples(st.sampled_from(Side), st.integers(2, 40), st.booleans()), max_size=5),
    st.sampled_from(Side),
    st.integers(4, 49),
    st.sampled_from([GuardState.RUNNING, GuardState.REDUCING, GuardState.SOFT_PAUSE]),
)
@modest(150)
def test_no_admitted_order_that_works_a_position_down_passes_zero(
    position_lots: int, resting: list[tuple[Side, int, bool]], side: Side, qty: int, state: GuardState
) -> None:
    door = Door(position_lots=position_lots, guard=state)
    for each, lots, acked in resting:
        door.rest(each, MID - each * 300, lots, acked=acked)
    is_admitted = door(derisk(side, qty)) == ""
    open_lots = sum(order.reserved_lots for order in door.orders.live.values() if order.side is side)
    passes_zero = side * position_lots + open_lots + qty > 0
    assert not (is_admitted and passes_zero)
    if not passes_zero:
        assert is_admitted
