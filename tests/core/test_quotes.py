"""From what was seen to where to quote: geometry as properties over any inputs, and hand-made cases of each rule."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmdaemon.core import limits, quotes
from mmdaemon.core.commands import Place
from mmdaemon.core.cost import required_edge
from mmdaemon.core.decision import Decision, DecisionInputs, DeriskStage, EdgeBreakdown, Quote
from mmdaemon.core.fair_value import with_signal
from mmdaemon.core.limits import Budgets, Reference
from mmdaemon.core.orders import Orders
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import decide
from mmdaemon.core.types import BPS, E10, GuardState, Instrument, Purpose, Regime, Side
from tests.core.build import EQUITY_E10, MID, QUOTING, inputs, modest, params

BUY, SELL = Side.BUY, Side.SELL
TIGHT = params()
DESK = params("desk")
COARSE = params(
    instrument=Instrument.of(
        venue="simulated", symbol="COARSE", tick_e10=E10, lot_e10=E10 // 100, min_qty_lots=2, min_notional_e10=E10
    ),
    quotes={"level_step_fraction": 0.0},  # levels would stack but for the least step of a tick
)
GLFT = params(quotes={"model": "glft"}, glft={"fit_r2": 0.9})
ALL = {"tight": TIGHT, "desk": DESK, "coarse": COARSE, "glft": GLFT}
LIMIT_LOTS = 769  # 5,000 quote at MID


def side_of(decision: Decision, side: Side) -> list[Quote]:
    return [quote for quote in decision.quotes if quote.side is side]


def best(decision: Decision, side: Side) -> int:
    return side_of(decision, side)[0].px_ticks


def why_no(decision: Decision, side: Side) -> str:
    return decision.no_bid if side is BUY else decision.no_ask


@st.composite
def seen(draw: st.DrawFn, **fixed: Any) -> DecisionInputs:
    """Any inputs that `engine.observe` can make: fair value within the touch, the rest within what it is clamped
    to."""
    bid = draw(st.integers(400, 2_000_000))
    width = draw(st.integers(0, 3) | st.integers(0, bid // 50))
    share = draw(st.floats(0, 1))
    guard = draw(st.sampled_from([*QUOTING, *QUOTING, GuardState.RUNNING, GuardState.SOFT_PAUSE]))
    unit = BTC_UNIT
    cap_lots = EQUITY_E10 // 20 // (bid * unit)
    values: dict[str, Any] = {
        "bid_px_ticks": bid,
        "ask_px_ticks": bid + width,
        "fair_ticks": bid + width * share,
        "guard": guard,
        "regime": draw(st.sampled_from(Regime)),
        "band_bps": draw(st.sampled_from([0.0, 2.5, 11.0, 90.0])),
        "drift_multiplier": draw(st.sampled_from([1.0, 1.05, 1.8])),
        "position_lots": draw(st.just(0) | st.integers(-30, 30) | st.integers(-2 * cap_lots - 1, 2 * cap_lots + 1)),
        "equity_e10": draw(st.sampled_from([EQUITY_E10] * 3 + [100 * EQUITY_E10, EQUITY_E10 // 900, 0, -5])),
        "maker_bps": draw(st.sampled_from([-2.0, -0.5, 0.0, 2.0, 8.0])),
        "taker_bps": draw(st.sampled_from([0.0, 6.0])),
        "carry_bps": draw(st.sampled_from([0.0, 0.8, -0.8, 3.0, -3.0])),
        "adverse_buy_bps": draw(st.sampled_from([0.0, 1.2, 10.0])),
        "adverse_sell_bps": draw(st.sampled_from([0.0, 0.6, 10.0])),
        "turnover_bps": draw(st.sampled_from([0.0, 2.5, 5.0])),
        "signal_bps": draw(st.sampled_from([0.0, 0.4, -3.0, 10.0])),
        "sigma_bps": draw(st.sampled_from([0.0, 0.3, 4.0])),
        "tracker_multiplier": draw(st.sampled_from([1.0, 1.5])),
        "size_buy_share": draw(st.sampled_from([1.0, 0.1])),
        "size_sell_share": draw(st.sampled_from([1.0, 0.1])),
        "no_buy": draw(st.sampled_from(["", "", "edge", "pulled"])),
        "no_sell": draw(st.sampled_from(["", "", "edge", "pulled"])),
        "derisk": draw(st.sampled_from([DeriskStage.NONE, DeriskStage.PASSIVE, DeriskStage.TOUCH])),
    }
    return inputs(**{**values, **fixed})


BTC_UNIT = TIGHT.instrument.unit_e10
any_params = st.sampled_from(list(ALL.values()))


def floats_in(value: object) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from floats_in(item)


# --- properties -------------------------------------------------------------------------------------------------------


@given(seen(), any_params)
@modest(300)
@example(inputs(), TIGHT)
def test_addends_sum_to_the_quoted_tick(now: DecisionInputs, p: Params) -> None:
    for quote in decide(now, p).quotes:
        assert quote.addends.total == quote.px_ticks
        assert quote.addends.fair == now.fair_ticks


@given(seen(), any_params)
@modest(300)
def test_no_quote_stands_inside_its_floor(now: DecisionInputs, p: Params) -> None:
    decision = decide(now, p)
    assert now.fair_ticks is not None
    fair = with_signal(now.fair_ticks, now.signal_bps)
    for quote in decision.quotes:
        if quote.purpose is Purpose.DERISK:
            continue
        increasing = quote.side * now.position_lots >= 0
        edge = required_edge(quote.side, now, p.cost)
        least_bps = edge.total_bps if increasing else edge.maker_fee_bps
        distance_bps = quote.side * (fair - quote.px_ticks) / fair / BPS
        assert distance_bps >= least_bps - 1e-6
        # Nor may an order that is left alone where it rests.
        nearest = quote.hi_px_ticks if quote.side is BUY else quote.lo_px_ticks
        assert quote.side * (fair - nearest) / fair / BPS >= least_bps - 1e-6


@given(seen(), any_params)
@modest(300)
@example(inputs(bid_px_ticks=MID, ask_px_ticks=MID), TIGHT)
@example(inputs(bid_px_ticks=MID, ask_px_ticks=MID, maker_bps=-5.0, position_lots=-700), TIGHT)
def test_quotes_stand_a_tick_outside_the_opposite_touch_locked_or_not(now: DecisionInputs, p: Params) -> None:
    for quote in decide(now, p).quotes:
        if quote.side is BUY:
            assert quote.px_ticks <= now.ask_px_ticks - 1
            assert quote.hi_px_ticks <= now.ask_px_ticks - 1
        else:
            assert quote.px_ticks >= now.bid_px_ticks + 1
            assert quote.lo_px_ticks >= now.bid_px_ticks + 1
        assert quote.lo_px_ticks <= quote.px_ticks <= quote.hi_px_ticks


@given(seen(), any_params)
@modest(300)
def test_levels_go_outwards_by_a_tick_at_least_bids_before_asks_best_first(now: DecisionInputs, p: Params) -> None:
    decision = decide(now, p)
    assert [quote.side for quote in decision.quotes] == [BUY] * len(side_of(decision, BUY)) + [SELL] * len(
        side_of(decision, SELL)
    )
    for side in Side:
        rungs = side_of(decision, side)
        assert [quote.level for quote in rungs] == list(range(len(rungs)))
        for near, far in pairwise(rungs):
            assert side * (near.px_ticks - far.px_ticks) >= 1
        assert len(rungs) <= p.regimes[now.regime].levels_max


@given(seen(), any_params)
@modest(300)
def test_what_is_quoted_keeps_position_and_order_within_their_caps(now: DecisionInputs, p: Params) -> None:
    decision = decide(now, p)
    for side in Side:
        lots = sum(quote.qty_lots for quote in side_of(decision, side))
        if lots:
            assert side * now.position_lots + lots <= decision.max_position_lots
            if now.guard is GuardState.REDUCING:
                assert side * now.position_lots + lots <= 0
    for quote in decision.quotes:
        assert p.instrument.is_valid_size(quote.px_ticks, quote.qty_lots)
        assert p.instrument.notional_e10(quote.px_ticks, quote.qty_lots) <= p.limits.max_order_e10


@given(seen(), any_params)
@modest(300)
def test_a_side_is_quoted_or_said_why_not(now: DecisionInputs, p: Params) -> None:
    decision = decide(now, p)
    for side in Side:
        assert bool(side_of(decision, side)) != bool(why_no(decision, side))
        assert why_no(decision, side) in ("", "guard", "no_book", "inventory", "edge", "pulled", "size")


@given(seen(), any_params)
@modest(300)
@example(inputs(), TIGHT)
@example(inputs(carry_bps=-0.0, maker_bps=-0.0), params(cost={"taker_probability": 0.0, "slippage_bps": 0.0}))
@example(inputs(position_lots=-5), params(quotes={"skew_cap_bps": 0.0}))
def test_no_negative_zero_and_nothing_but_numbers(now: DecisionInputs, p: Params) -> None:
    written = msgspec.msgpack.decode(msgspec.msgpack.encode(decide(now, p)))
    for value in floats_in(written):
        assert math.isfinite(value)
        assert value != 0.0 or math.copysign(1.0, value) == 1.0


_decode_inputs = msgspec.msgpack.Decoder(DecisionInputs).decode
_decode_params = msgspec.msgpack.Decoder(Params).decode


@given(seen(), any_params)
@modest(300)
def test_the_same_whether_computed_now_or_from_the_journal(now: DecisionInputs, p: Params) -> None:
    first = msgspec.msgpack.encode(decide(now, p))
    assert msgspec.msgpack.encode(decide(now, p)) == first
    read = _decode_inputs(msgspec.msgpack.encode(now))
    told = _decode_params(msgspec.msgpack.encode(p))
    assert read == now
    assert told == p
    assert msgspec.msgpack.encode(decide(read, told)) == first
    assert msgspec.msgpack.Decoder(Decision).decode(first) == decide(now, p)


@given(seen(guard=GuardState.RUNNING), st.sampled_from([TIGHT, DESK]))
@modest(150)
def test_long_and_short_mirror_each_other(now: DecisionInputs, p: Params) -> None:
    """The skew has one sign: a long position moves both quotes down (or leaves them), a short one up."""
    flat, held = (decide(msgspec.structs.replace(now, position_lots=lots), p) for lots in (0, abs(now.position_lots)))
    short = decide(msgspec.structs.replace(now, position_lots=-abs(now.position_lots)), p)
    assert held.reservation_ticks <= flat.reservation_ticks <= short.reservation_ticks
    if now.position_lots and held.max_position_lots and p.regimes[now.regime].skew_gain:
        assert held.reservation_ticks < short.reservation_ticks


@given(seen(guard=GuardState.RUNNING))
@modest(150)
def test_what_is_decided_is_admitted(now: DecisionInputs) -> None:
    """On a quiet book with mark and slow mid near, no target is one that admission would refuse."""
    decision = decide(now, TIGHT)
    fair = now.fair_ticks
    assert fair is not None
    facts = Reference(now.guard, now.position_lots, decision.max_position_lots, round(fair), fair, now.mono_ns)
    wide = msgspec.structs.replace(TIGHT, limits=msgspec.structs.replace(TIGHT.limits, collar_bps=5_000.0))
    for quote in decision.quotes:
        place = Place("new", quote.side, quote.px_ticks, quote.qty_lots, Purpose.QUOTE, 0, True, False)
        assert limits.admit(place, Orders(), Budgets(), facts, wide) is None


# --- size in the journal ----------------------------------------------------------------------------------------------


def test_the_largest_decision_with_its_inputs_fits_in_four_kilobytes() -> None:
    p = params(
        instrument=Instrument.of(venue="simulated", symbol="FINE", tick_e10=E10 // 100_000, lot_e10=E10 // 100_000),
        regimes={"neutral_low_vol": {"levels_min": 10, "levels_max": 10}},
        limits={"max_open_orders": 20},
    )
    now = inputs(
        bid_px_ticks=2**40,
        ask_px_ticks=2**40 + 7,
        fair_ticks=2**40 + 3.3,
        equity_e10=2**62,
        position_lots=-150_000,
    )
    big = msgspec.structs.replace(
        p, quotes=msgspec.structs.replace(p.quotes, max_position_e10=2**62, max_order_e10=2**62)
    )
    decision = decide(now, big)
    assert len(decision.quotes) == 20
    assert len(msgspec.msgpack.encode(now)) + len(msgspec.msgpack.encode(decision)) <= 4096


# --- no quotes at all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [s for s in GuardState if s not in QUOTING])
def test_the_guard_comes_first(state: GuardState) -> None:
    decision = decide(inputs(guard=state, fair_ticks=None), TIGHT)
    assert (decision.quotes, decision.no_bid, decision.no_ask) == ((), "guard", "guard")
    assert decision.refresh_ns == TIGHT.regimes[Regime.NEUTRAL_LOW_VOL].refresh_ns


def test_no_book_no_quotes() -> None:
    decision = decide(inputs(bid_px_ticks=0, ask_px_ticks=0, fair_ticks=None), TIGHT)
    assert (decision.quotes, decision.no_bid, decision.no_ask) == ((), "no_book", "no_book")
    assert decision.buy_edge.total_bps > 0  # the costs are told all the same


# --- half-spread and clamps -------------------------------------------------------------------------------------------


def row(**over: Any) -> Any:
    return msgspec.structs.replace(DESK.regimes[Regime.NEUTRAL_LOW_VOL], **over)  # 25 / 45 bps, full width


@pytest.mark.parametrize(
    ("band_bps", "multiplier", "touch_ticks", "half_bps"),
    [
        (0.0, 1.0, 10, 12.5),  # spread_min / 2
        (4.0, 1.0, 10, 14.5),  # plus half of the band
        (4.0, 1.8, 10, 26.1),  # times the drift multiplier
        (90.0, 1.0, 10, 22.5),  # at most spread_max / 2 before the multiplier
        (90.0, 1.8, 10, 40.5),
        (90.0, 5.0, 10, 45.0),  # and at most spread_max with it
        (0.0, 1.0, 2_000, 1_001 / MID / BPS),  # touch / 2 + 1 tick, where that is wider
    ],
)
def test_half_spread(band_bps: float, multiplier: float, touch_ticks: int, half_bps: float) -> None:
    now = inputs(
        band_bps=band_bps,
        drift_multiplier=multiplier,
        bid_px_ticks=MID - touch_ticks // 2,
        ask_px_ticks=MID + touch_ticks // 2,
    )
    assert quotes.half_spread_bps(now, row(), DESK.quotes) == pytest.approx(half_bps)


@given(st.floats(-3, 3), st.floats(0, 200), st.floats(0, 200), st.floats(0, 3), st.floats(0, 500))
@modest(100)
def test_skew_is_clipped_and_odd_in_the_position(
    u: float, half_bps: float, band_bps: float, gain: float, cap_bps: float
) -> None:
    lean = quotes.skew_bps(u, half_bps, band_bps, gain, cap_bps)
    assert abs(lean) <= cap_bps
    assert lean == -quotes.skew_bps(-u, half_bps, band_bps, gain, cap_bps)
    assert lean * u >= 0
    assert quotes.skew_bps(0.0, half_bps, band_bps, gain, cap_bps) == 0.0


def test_skew_by_hand() -> None:
    # u (1 + u^2) / 2 at one half is 0.3125; the larger of half-spread and band counts.
    assert quotes.skew_bps(0.5, 10.0, 4.0, 0.8, 30.0) == pytest.approx(2.5)
    assert quotes.skew_bps(0.5, 4.0, 10.0, 0.8, 30.0) == pytest.approx(2.5)
    assert quotes.skew_bps(-1.0, 10.0, 4.0, 0.8, 30.0) == pytest.approx(-8.0)
    assert quotes.skew_bps(3.0, 10.0, 4.0, 0.8, 30.0) == 30.0
    assert quotes.skew_bps(-3.0, 10.0, 4.0, 0.8, 30.0) == -30.0


WIDE = {"regime": Regime.HIGH_VOL_SHOCK, "maker_bps": 0.0}
"""Half-spread 10 bps and more: the floor decides nothing."""


def test_long_moves_both_quotes_down_and_short_both_up() -> None:
    long, flat, short = (decide(inputs(position_lots=lots, **WIDE), TIGHT) for lots in (500, 0, -500))
    for side in Side:
        assert best(long, side) < best(flat, side) < best(short, side)
    assert flat.reservation_ticks == MID


def test_skew_grows_with_the_position() -> None:
    asks = [best(decide(inputs(position_lots=lots, **WIDE), TIGHT), SELL) for lots in (0, 200, 400, 600, 760)]
    assert asks == sorted(asks, reverse=True)
    assert len(set(asks)) == 5


# --- funding ----------------------------------------------------------------------------------------------------------


def test_a_positive_rate_lowers_the_reservation_price_and_a_negative_one_raises_it() -> None:
    paying, none, paid = (decide(inputs(carry_bps=bps, **WIDE), TIGHT) for bps in (2.0, 0.0, -2.0))
    assert paying.reservation_ticks == pytest.approx(MID - 2 * BPS * MID)
    assert paid.reservation_ticks == pytest.approx(MID + 2 * BPS * MID)
    for side in Side:
        assert best(paying, side) < best(none, side) < best(paid, side)
    assert [quote.addends.carry for quote in side_of(paying, BUY)] == pytest.approx([-130.0] * 2)


@pytest.mark.parametrize("side", list(Side))
def test_carry_raises_the_floor_of_the_side_that_would_pay_and_discounts_the_other_never(side: Side) -> None:
    cost = TIGHT.cost
    plain = required_edge(side, inputs(), cost).total_bps
    assert required_edge(side, inputs(carry_bps=side * 2.0), cost).total_bps == pytest.approx(plain + 2.0)
    assert required_edge(side, inputs(carry_bps=-side * 2.0), cost).total_bps == plain


def test_carry_is_paid_once() -> None:
    """Where the floor binds, the shift and the addend are not added up: the bid stands at F less the required
    edge."""
    decision = decide(inputs(carry_bps=2.0, band_bps=0.0), TIGHT)
    edge_bps = 2.0 + 0.05 * (6.0 - 2.0 + 5.0) + 1.0 + 2.0
    assert best(decision, BUY) == math.floor(MID * (1 - edge_bps * BPS))


# --- floors -----------------------------------------------------------------------------------------------------------

EDGE = EdgeBreakdown(2.0, 0.5, 1.5, 3.0, 0.0, 1.0)  # 8 bps, 3 of them carry


@pytest.mark.parametrize(
    ("u", "reducing", "floor_bps"),
    [
        (0.0, False, 8.0),
        (0.9, False, 8.0),
        (0.0, True, 5.0),
        (0.5, True, 2.5),
        (0.7, True, 2.0),
        (1.0, True, 2.0),
        (3, True, 2.0),
    ],
)
def test_floor_shrinks_with_inventory_on_the_reducing_side_down_to_the_fee(
    u: float, reducing: bool, floor_bps: float
) -> None:
    assert quotes.floor_distance_bps(EDGE, u, reducing=reducing) == pytest.approx(floor_bps)
    assert quotes.floor_distance_bps(EDGE, -u, reducing=reducing) == pytest.approx(floor_bps)


def test_each_rung_has_a_floor_of_its_own() -> None:
    decision = decide(inputs(band_bps=0.0), TIGHT)  # half-spread 2.5 bps, floor 3.45: it binds on every rung
    for side in Side:
        distances = [side * (MID - quote.px_ticks) / MID / BPS for quote in side_of(decision, side)]
        assert distances == pytest.approx([3.45, 4.45, 5.45], abs=0.016)


def test_flat_both_sides_have_the_whole_floor() -> None:
    decision = decide(inputs(carry_bps=0.0), TIGHT)
    for side in Side:
        assert side * (MID - best(decision, side)) / MID / BPS >= 3.45


# --- inventory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_at_the_cap_the_increasing_side_is_pulled(side: Side) -> None:
    below = decide(inputs(position_lots=side * (LIMIT_LOTS - 1)), TIGHT)
    at = decide(inputs(position_lots=side * LIMIT_LOTS), TIGHT)
    beyond = decide(inputs(position_lots=side * 2 * LIMIT_LOTS), TIGHT)
    assert below.max_position_lots == LIMIT_LOTS
    assert [quote.qty_lots for quote in side_of(below, side)] == [1]  # what room there is
    for decision in (at, beyond):
        assert side_of(decision, side) == []
        assert why_no(decision, side) == "inventory"
        assert side_of(decision, side.opposite)


def test_room_that_is_no_valid_order_is_said_to_be_inventory() -> None:
    p = params(instrument=msgspec.structs.replace(TIGHT.instrument, min_qty_lots=5))
    decision = decide(inputs(position_lots=LIMIT_LOTS - 3), p)
    assert (side_of(decision, BUY), decision.no_bid) == ([], "inventory")
    assert side_of(decision, SELL)


def test_a_remnant_too_small_to_reduce_is_said_so() -> None:
    p = params(instrument=msgspec.structs.replace(TIGHT.instrument, min_qty_lots=5))
    decision = decide(inputs(position_lots=3, guard=GuardState.REDUCING), p)
    assert (decision.quotes, decision.no_bid, decision.no_ask) == ((), "guard", "size")


@pytest.mark.parametrize("equity_e10", [0, -EQUITY_E10])
def test_no_equity_no_quotes(equity_e10: int) -> None:
    decision = decide(inputs(equity_e10=equity_e10), TIGHT)
    assert (decision.quotes, decision.no_bid, decision.no_ask) == ((), "size", "size")
    assert decision.max_position_lots == 0


def test_the_cap_is_a_share_of_equity_and_never_more_than_its_value() -> None:
    q, instrument = TIGHT.quotes, TIGHT.instrument
    assert quotes.max_position_lots(EQUITY_E10, float(MID), q, instrument) == LIMIT_LOTS
    assert quotes.max_position_lots(2 * EQUITY_E10, float(MID), q, instrument) == 1_538
    assert quotes.max_position_lots(10**6 * EQUITY_E10, float(MID), q, instrument) == 15_384  # 100,000 quote
    assert quotes.max_position_lots(-1, float(MID), q, instrument) == 0


# --- reducing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
def test_reducing_leaves_the_ladder_and_works_the_position_down(side: Side) -> None:
    now = inputs(position_lots=side * 20, guard=GuardState.REDUCING, derisk=DeriskStage.PASSIVE)
    decision = decide(now, TIGHT)
    assert why_no(decision, side) == "guard"
    assert why_no(decision, side.opposite) == ""
    assert [(q.side, q.qty_lots, q.purpose) for q in decision.quotes] == [(side.opposite, 20, Purpose.DERISK)]


# --- edge gate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("why", ["edge", "pulled"])
def test_a_blocked_side_is_not_quoted_but_out_of_a_position(side: Side, why: str) -> None:
    key = "no_buy" if side is BUY else "no_sell"
    blocked = decide(inputs(**{key: why}), TIGHT)
    assert (side_of(blocked, side), why_no(blocked, side)) == ([], why)
    assert len(side_of(blocked, side.opposite)) == 3
    held = decide(inputs(**{key: why}, position_lots=side * 20), TIGHT)
    assert (side_of(held, side), why_no(held, side)) == ([], why)
    # What reduces goes on, and not through to the other side.
    reducing = decide(inputs(**{key: why}, position_lots=-side * 20), TIGHT)
    assert [quote.qty_lots for quote in side_of(reducing, side)] == [15, 5]


@pytest.mark.parametrize("side", list(Side))
def test_until_the_gate_closes_a_dear_side_stands_at_its_floor(side: Side) -> None:
    """Half of 30 bps in the calm row of `tight`; fee, exit and edge are 3.45 without adverse selection."""
    key = "adverse_buy_bps" if side is BUY else "adverse_sell_bps"
    dear = decide(inputs(**{key: 11.6}), TIGHT)
    assert side * (MID - best(dear, side)) / MID / BPS == pytest.approx(15.05, abs=0.02)


# --- signal and models ------------------------------------------------------------------------------------------------


def test_the_signal_moves_both_sides_and_their_floors() -> None:
    still, rising = decide(inputs(), TIGHT), decide(inputs(signal_bps=2.0), TIGHT)
    for side in Side:
        assert best(rising, side) - best(still, side) == pytest.approx(2.0 * BPS * MID, abs=1.1)
    assert rising.quotes[0].addends.signal == pytest.approx(2.0 * BPS * MID)
    # An offset of the fair value: the band that a decision holds for moves along.
    assert rising.band_lo_ticks - still.band_lo_ticks == pytest.approx(2.0 * BPS * MID, abs=0.1)


def test_a_bid_never_follows_the_signal_through_the_touch() -> None:
    decision = decide(inputs(signal_bps=10.0, maker_bps=-5.0, taker_bps=0.0), params(cost={"min_edge_bps": 0.0}))
    assert best(decision, BUY) == MID + 4
    assert decision.quotes[0].addends.clamp < 0


def test_skew_rests_on_how_far_the_mid_moves_while_inventory_is_held() -> None:
    """sigma 0.3 bps over the square root of 1,731 s is 12.5 bps: k * g(1/2) * that."""
    held = inputs(position_lots=LIMIT_LOTS // 2, sigma_bps=0.3, regime=Regime.NEUTRAL_LOW_VOL)
    u = held.position_lots / LIMIT_LOTS
    assert decide(held, TIGHT).skew_bps == pytest.approx(
        0.5 * u * (1 + u * u) / 2 * 0.3 * math.sqrt(1_731.234), rel=1e-4
    )
    unknown = decide(msgspec.structs.replace(held, sigma_bps=0.0), TIGHT)
    assert unknown.skew_bps == pytest.approx(0.5 * u * (1 + u * u) / 2 * unknown.half_bps)


def test_the_tracker_widens_once() -> None:
    one, more = (
        quotes.half_spread_bps(inputs(tracker_multiplier=x), TIGHT.regimes[Regime.UP], TIGHT.quotes) for x in (1.0, 1.5)
    )
    assert more == pytest.approx(1.5 * one)
    assert (
        quotes.half_spread_bps(
            inputs(tracker_multiplier=5.0, drift_multiplier=5.0), TIGHT.regimes[Regime.UP], TIGHT.quotes
        )
        == 35.0
    )


def test_glft_stands_where_its_closed_form_says() -> None:
    """In price units, by hand: gamma 0.001 a quote, A 0.5/s, k 0.5/bp at 65,000, sigma 0.3 bps, orders of 15 lots."""
    held = inputs(position_lots=100, sigma_bps=0.3, maker_bps=0.0, taker_bps=0.0)
    free = params(quotes={"model": "glft"}, glft={"fit_r2": 0.9}, cost={"min_edge_bps": 0.0, "taker_probability": 0.0})
    decision = decide(held, free)
    price, size = MID / 10, 15e-4
    k, sigma = 0.5 / (price * BPS), 0.3 * price * BPS
    ratio = 0.001 * size / k
    c1 = math.log(1 + ratio) / (0.001 * size)
    c2 = math.sqrt(0.001 / (2 * 0.5 * size * k) * (1 + ratio) ** (1 / ratio + 1))
    assert decision.half_bps == pytest.approx((c1 + size / 2 * sigma * c2) / price / BPS, rel=1e-6)
    assert decision.skew_bps == pytest.approx(sigma * c2 * 100e-4 / price / BPS, rel=1e-6)
    # Without a volatility the model has nothing to say: as wide as the regime goes.
    assert decide(msgspec.structs.replace(held, sigma_bps=0.0), free).half_bps == 15.0


# --- sizes and levels -------------------------------------------------------------------------------------------------


def test_sizes_below_the_least_are_not_rounded_up() -> None:
    p = params(instrument=msgspec.structs.replace(TIGHT.instrument, min_qty_lots=16))
    decision = decide(inputs(), p)  # 100 quote are 15 lots
    assert (decision.quotes, decision.no_bid, decision.no_ask) == ((), "size", "size")
    p = params(instrument=msgspec.structs.replace(TIGHT.instrument, min_notional_e10=98 * E10))
    assert decide(inputs(), p).no_bid == "size"


@pytest.mark.parametrize(
    ("min_qty_lots", "min_notional", "share", "lots"),
    [
        (1, 0, 1.0, 15),
        (1, 0, 0.1, 1),
        (4, 0, 0.1, 4),  # never cut below the smallest valid order
        (1, 30, 0.1, 5),  # 30 quote and one per cent are 4.66 lots
        (1, 30, 0.5, 7),
        (16, 0, 0.1, 0),  # where the full size is none, the cut one is none either
    ],
)
def test_size_after_a_resume(min_qty_lots: int, min_notional: int, share: float, lots: int) -> None:
    instrument = msgspec.structs.replace(
        TIGHT.instrument, min_qty_lots=min_qty_lots, min_notional_e10=min_notional * E10
    )
    p = params(instrument=instrument)
    calm = p.regimes[Regime.NEUTRAL_LOW_VOL]
    full = quotes.order_size_lots(inputs(), calm, float(MID), p)
    assert quotes.cut_lots(full, share, float(MID), p) == lots


def test_every_rung_of_a_cut_ladder_is_valid_too() -> None:
    """Bids stand below fair value: the least order at fair value would be too small there."""
    fine = Instrument.of(
        venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 10_000_000, min_notional_e10=30 * E10
    )
    assert len(decide(inputs(size_share=0.1), params(instrument=fine)).quotes) == 6


def test_the_largest_order_is_a_value_at_the_quoted_price() -> None:
    """Asks stand above fair value: a size that is the most at fair value would be refused there."""
    fine = Instrument.of(venue="simulated", symbol="BTCUSDT", tick_e10=E10 // 10, lot_e10=E10 // 1_000_000)
    decision = decide(inputs(equity_e10=50 * EQUITY_E10), params(instrument=fine))
    assert len(side_of(decision, BUY)) == len(side_of(decision, SELL)) == 3
    for quote in decision.quotes:
        value_e10 = fine.notional_e10(quote.px_ticks, quote.qty_lots)
        assert TIGHT.limits.max_order_e10 * 0.998 < value_e10 <= TIGHT.limits.max_order_e10


@pytest.mark.parametrize(("turnover_bps", "levels"), [(0.0, 4), (1.2, 4), (2.5, 3), (5.0, 2)])
def test_levels_fall_from_most_to_least_as_turnover_goes_to_its_cap(turnover_bps: float, levels: int) -> None:
    assert quotes.ladder_levels(turnover_bps, row(), 5.0) == levels


@given(st.floats(0, 50), st.floats(0, 50), st.integers(1, 10), st.integers(0, 9))
@modest(100)
def test_levels_stay_between_least_and_most(turnover: float, penalty: float, least: int, more: int) -> None:
    levels = quotes.ladder_levels(turnover, row(levels_min=least, levels_max=least + more), penalty)
    assert least <= levels <= least + more


def test_levels_stand_apart_by_a_share_of_the_half_spread() -> None:
    decision = decide(inputs(**WIDE), TIGHT)  # 10 bps and 1.25 for the band
    first, second = side_of(decision, BUY)
    step_ticks = 0.4 * decision.half_bps * BPS * MID
    assert first.px_ticks - second.px_ticks == pytest.approx(step_ticks, abs=1.0)
    assert second.addends.level == pytest.approx(-step_ticks)
    assert first.addends.level == 0.0


# --- the band ---------------------------------------------------------------------------------------------------------


def test_the_band_is_the_tolerance_around_fair_value() -> None:
    narrow = decide(inputs(), TIGHT)  # a tenth of 3.75 bps is less than half a bp
    assert (narrow.band_lo_ticks, narrow.band_hi_ticks) == pytest.approx((MID - 32.5, MID + 32.5))
    wide = decide(inputs(**WIDE), TIGHT)
    assert wide.band_hi_ticks - MID == pytest.approx(0.1 * wide.half_bps * BPS * MID)


def test_a_resting_order_is_left_alone_within_the_tolerance_and_outside_its_floor() -> None:
    for quote in decide(inputs(**WIDE), TIGHT).quotes:
        assert quote.px_ticks - quote.lo_px_ticks <= 74
        assert quote.hi_px_ticks - quote.px_ticks <= 74
        assert quote.hi_px_ticks - quote.lo_px_ticks > 100
