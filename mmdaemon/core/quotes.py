"""Reservation price, half-spread, skew, ladder: from what was seen to where to quote. Pure; journaled; replayable.

    u    = position / max_position                                      g(u) = u * (1 + u^2) / 2
    skew = clip(k * g(u) * max(half, band), +-cap)                      [bps]
    r    = F * (1 - skew - carry)                                       reservation price
    half = (max(spread_min / 2, touch / 2 + 1 tick) + band_gain * band) * drift_multiplier
    bid_i = min(r * (1 - half_i), F * (1 - floor_i(buy))),   ask_i = max(r * (1 + half_i), F * (1 + floor_i(sell)))
    half_i = half * (1 + level_step * i),   floor_i = floor + level_step * i * half

after Avellaneda & Stoikov (2008) for the reservation price, with the desk's regime table in place of their spread.
The floor of the side that increases the position is the required edge (`cost.py`), that of the reducing side shrinks
with |u| down to the maker fee. Prices are held one tick outside the opposite touch, rounded away from F, and each
rung stands at least one tick beyond the one before.

Invariants: no quote inside its floor; no quote from an unhealthy book; addends sum to the quoted tick; at |u| >= 1
nothing increases the position; a size the venue would refuse is not quoted, never rounded up.
"""

from math import ceil, floor

from mmdaemon.core.cost import required_edge
from mmdaemon.core.decision import Decision, DecisionInputs, EdgeBreakdown, Quote, QuoteAddends
from mmdaemon.core.params import Params, QuoteParams, RegimeParams
from mmdaemon.core.types import BPS, GuardState, Instrument, Side

_QUOTING = (GuardState.RUNNING, GuardState.REDUCING)


def decide(inputs: DecisionInputs, params: Params) -> Decision:
    """Target quotes for what was seen. Never raises on any inputs `engine.observe` can make."""
    row = params.regimes[inputs.regime]
    buy_edge = required_edge(Side.BUY, inputs, params.cost)
    sell_edge = required_edge(Side.SELL, inputs, params.cost)
    fair = inputs.fair_ticks
    if fair is None or inputs.guard not in _QUOTING:
        why = "guard" if inputs.guard not in _QUOTING else "no_book"
        return Decision((), why, why, 0.0, 0.0, row.refresh_ns, 0, 0.0, 0.0, buy_edge, sell_edge)

    limit_lots = max_position_lots(inputs.equity_e10, fair, params.quotes, params.instrument)
    u = inputs.position_lots / limit_lots if limit_lots > 0 else 0.0
    half = half_spread_bps(inputs, row, params.quotes)
    lean = skew_bps(u, half, inputs.band_bps, row.skew_gain, params.quotes.skew_cap_bps)
    reservation = fair * (1.0 - (lean + inputs.carry_bps) * BPS)
    tolerance = max(params.quotes.tolerance_min_bps, params.quotes.tolerance_share * half) * BPS * fair

    levels = ladder_levels(inputs.turnover_bps, row, params.cost.turnover_penalty_bps)
    size = order_size_lots(inputs, row, fair, params)
    quotes: list[Quote] = []
    reasons: list[str] = []
    for side, edge in ((Side.BUY, buy_edge), (Side.SELL, sell_edge)):
        reducing = side * inputs.position_lots < 0
        why = _why_not(side, edge, inputs, row, limit_lots, size, reducing=reducing)
        if not why:
            floor_bps = floor_distance_bps(edge, u, reducing=reducing)
            room = limit_lots - side * inputs.position_lots
            if inputs.guard is GuardState.REDUCING:
                room = min(room, abs(inputs.position_lots))
            before = len(quotes)
            _add_side(quotes, side, inputs, params, fair, half, lean, floor_bps, tolerance, levels, size, room)
            if len(quotes) == before:
                why = "inventory" if room < size else "size"
        reasons.append(why)
    return Decision(
        quotes=tuple(quotes),
        no_bid=reasons[0],
        no_ask=reasons[1],
        band_lo_ticks=fair - tolerance,
        band_hi_ticks=fair + tolerance,
        refresh_ns=row.refresh_ns,
        max_position_lots=limit_lots,
        reservation_ticks=reservation,
        half_bps=half,
        buy_edge=buy_edge,
        sell_edge=sell_edge,
    )


def _why_not(
    side: Side,
    edge: EdgeBreakdown,
    inputs: DecisionInputs,
    row: RegimeParams,
    limit_lots: int,
    size_lots: int,
    *,
    reducing: bool,
) -> str:
    if inputs.guard is GuardState.REDUCING and not reducing:
        return "guard"
    if size_lots <= 0:
        return "size"
    if side * inputs.position_lots >= limit_lots:
        return "inventory"
    if not reducing and edge.total_bps > row.spread_max_bps / 2:
        # The market-feasible spread cannot pay for the fill: better not to quote than to quote inside the floor.
        return "edge"
    return ""


def _add_side(
    quotes: list[Quote],
    side: Side,
    inputs: DecisionInputs,
    params: Params,
    fair: float,
    half_bps: float,
    lean_bps: float,
    floor_bps: float,
    tolerance_ticks: float,
    levels: int,
    size_lots: int,
    room_lots: int,
) -> None:
    """Append the rungs of one side, best first, until the ladder or the room for inventory ends."""
    instrument, step = params.instrument, params.quotes.level_step
    fair_bps = fair * BPS
    # Adding 0.0 turns a negative zero into zero: it would compare equal and encode differently.
    skew = -lean_bps * fair_bps + 0.0
    carry = -inputs.carry_bps * fair_bps + 0.0
    reservation = fair + skew + carry
    half = -side * half_bps * BPS * reservation
    # The best price that does not take: one tick outside the opposite touch.
    outer = inputs.ask_px_ticks - 1 if side is Side.BUY else inputs.bid_px_ticks + 1
    last: int | None = None
    for i in range(levels):
        level = half * step * i + 0.0
        wanted = reservation + half + level
        floored = fair * (1.0 - side * (floor_bps + step * i * half_bps) * BPS)
        if side is Side.BUY:
            after_floor = min(wanted, floored)
            bound = outer if last is None else min(outer, last - 1)
            clamped = min(after_floor, bound)
            px = floor(clamped)
            lo, hi = ceil(px - tolerance_ticks), min(floor(px + tolerance_ticks), floor(floored), outer)
        else:
            after_floor = max(wanted, floored)
            bound = outer if last is None else max(outer, last + 1)
            clamped = max(after_floor, bound)
            px = ceil(clamped)
            lo, hi = max(ceil(px - tolerance_ticks), ceil(floored), outer), floor(px + tolerance_ticks)
        if px <= 0:
            return
        # Away from fair value the same lots are worth more: the largest order is a value at its own price.
        qty = min(size_lots, room_lots, params.quotes.max_order_e10 // instrument.notional_e10(px, 1))
        if not instrument.is_valid_size(px, qty):
            return
        quotes.append(
            Quote(
                side,
                i,
                px,
                qty,
                lo,
                hi,
                QuoteAddends(
                    fair,
                    skew,
                    carry,
                    half,
                    level,
                    after_floor - wanted,
                    clamped - after_floor,
                    px - clamped,
                ),
            )
        )
        room_lots -= qty
        last = px


def half_spread_bps(inputs: DecisionInputs, row: RegimeParams, params: QuoteParams) -> float:
    """Half-spread in bps: at most spread_max / 2 before the drift multiplier and spread_max with it."""
    assert inputs.fair_ticks is not None
    touch_bps = (inputs.ask_px_ticks - inputs.bid_px_ticks) / inputs.fair_ticks / BPS
    tick_bps = 1.0 / inputs.fair_ticks / BPS
    base = max(row.spread_min_bps / 2, touch_bps / 2 + tick_bps) + params.band_gain * inputs.band_bps
    return min(min(base, row.spread_max_bps / 2) * inputs.drift_multiplier, row.spread_max_bps)


def skew_bps(u: float, half_bps: float, band_bps: float, gain: float, cap_bps: float) -> float:
    """How far inventory moves the reservation price down (long) or up (short), in bps."""
    lean = gain * u * (1.0 + u * u) / 2.0 * max(half_bps, band_bps)
    return max(-cap_bps, min(cap_bps, lean)) + 0.0


def floor_distance_bps(edge: EdgeBreakdown, u: float, *, reducing: bool) -> float:
    """Least distance from fair value. Reducing, it shrinks with |u| to the maker fee and carries no funding addend."""
    if not reducing:
        return edge.total_bps
    return max(edge.maker_fee_bps, (edge.total_bps - edge.carry_bps) * (1.0 - min(1.0, abs(u))))


def ladder_levels(turnover: float, row: RegimeParams, penalty_bps: float) -> int:
    """Rungs a side: from the most, at no turnover, linearly to the least at the turnover cap."""
    used = min(1.0, turnover / penalty_bps) if penalty_bps > 0 else 0.0
    return row.levels_max - round((row.levels_max - row.levels_min) * used)


def max_position_lots(equity_e10: int, fair_ticks: float, params: QuoteParams, instrument: Instrument) -> int:
    """Largest position in lots: the base band of equity, never beyond the notional cap."""
    value_e10 = min(int(params.max_position * equity_e10), params.max_position_e10)
    return max(0, floor(value_e10 / (fair_ticks * instrument.unit_e10)))


def order_size_lots(inputs: DecisionInputs, row: RegimeParams, fair_ticks: float, params: Params) -> int:
    """Size of one rung in lots; 0 where the venue would not take it.

    A cut after a resume (`size_share`) stops at the smallest order that the venue accepts where the full size is
    valid: a smaller cut, not a rounding up.
    """
    instrument = params.instrument
    unit = fair_ticks * instrument.unit_e10
    full = floor(min(row.order_size * inputs.equity_e10, params.quotes.max_order_e10) / unit)
    if full <= 0 or not instrument.is_valid_size(floor(fair_ticks), full):
        return 0
    # One per cent above the venue's minimum, because rungs stand away from fair value.
    least = max(instrument.min_qty_lots, ceil(instrument.min_notional_e10 * 1.01 / unit))
    return min(full, max(floor(full * inputs.size_share), least))
