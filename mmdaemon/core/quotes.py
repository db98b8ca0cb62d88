"""Reservation price, half-spread, skew, ladder: from what was seen to where to quote. Pure; journaled; replayable.

    F'   = F * (1 + signal)                             fair value: micro-price, and where it is heading (`signal.py`)
    u    = position / max_position                      g(u) = u * (1 + u^2) / 2
    skew = clip(k * g(u) * max(half, sigma * sqrt(tau)), +-cap)           [bps]; tau = how long inventory is held
    r    = F' * (1 - skew - carry + target + direction) reservation price; target = skew(u) - skew(u - T): `signals.py`
    half = (max(spread_min / 2, touch / 2 + 1 tick) + band_gain * band) * drift * tracker * signal_spread (multipliers)
    bid_i = min(r * (1 - half_i), F' * (1 - floor_i(buy))),   ask_i = max(r * (1 + half_i), F' * (1 + floor_i(sell)))
    half_i = half * (1 + level_step * i),   floor_i = floor + level_step * i * half

after Avellaneda & Stoikov (2008) for the reservation price, with the desk's regime table in place of their spread.
`quotes.model = "glft"` takes half and skew from `glft.py` instead; all else is the same.
The floor of the side that increases the position is the required edge (`cost.py`), that of the reducing side shrinks
with |u| down to the maker fee. Prices are held one tick outside the opposite touch, rounded away from F', and each
rung stands at least one tick beyond the one before. While only reducing is allowed, the ladder is gone, and one order
works the position down (`derisk.py`).

Invariants: no quote inside its floor; no quote from an unhealthy book; addends sum to the quoted tick, exactly; at
|u| >= 1 nothing increases the position; a size the venue would refuse is not quoted, never rounded up.
"""

from math import ceil, floor, sqrt

from mmdaemon.core import derisk, glft
from mmdaemon.core.cost import required_edge
from mmdaemon.core.decision import Decision, DecisionInputs, EdgeBreakdown, Quote, addends_to
from mmdaemon.core.fair_value import with_signal
from mmdaemon.core.params import CostParams, Params, QuoteParams, RegimeParams
from mmdaemon.core.risk import max_position_lots
from mmdaemon.core.types import BPS, E10, NS, GuardState, Side

_QUOTING = (GuardState.RUNNING, GuardState.REDUCING)


def decide(inputs: DecisionInputs, params: Params) -> Decision:
    """Target quotes for what was seen. Never raises on any inputs `observe` can make."""
    row = params.regimes[inputs.regime]
    buy_edge = required_edge(Side.BUY, inputs, params.cost)
    sell_edge = required_edge(Side.SELL, inputs, params.cost)
    micro = inputs.fair_ticks
    if micro is None or inputs.guard not in _QUOTING:
        why = "guard" if inputs.guard not in _QUOTING else "no_book"
        return Decision((), why, why, 0.0, 0.0, row.refresh_ns, 0, 0.0, 0.0, 0.0, buy_edge, sell_edge)

    fair = with_signal(micro, inputs.signal_bps)
    limit_lots = max_position_lots(inputs.equity_e10, fair, params.quotes, params.instrument)
    size = order_size_lots(inputs, row, fair, params)
    half, lean = half_and_skew_bps(inputs, row, limit_lots, size, fair, params)
    pull = 0.0  # of what signals draw inventory to
    if inputs.target:
        pull = lean - half_and_skew_bps(inputs, row, limit_lots, size, fair, params, inputs.target)[1]
    tolerance = max(params.quotes.tolerance_min_bps, params.quotes.tolerance_share * half) * BPS * fair

    quotes: list[Quote] = []
    reasons: list[str] = []
    if inputs.guard is GuardState.REDUCING:
        reduce = derisk.quote(inputs, fair, params)
        if reduce is not None:
            quotes.append(reduce)
        out = "size" if reduce is None else ""
        reasons = [out if side * inputs.position_lots < 0 else "guard" for side in (Side.BUY, Side.SELL)]
    else:
        ladder = _Ladder(inputs, params, fair, half, lean, pull, tolerance, limit_lots)
        levels = ladder_levels(inputs.turnover_bps, row, params.cost.turnover_penalty_bps)
        for side, edge in ((Side.BUY, buy_edge), (Side.SELL, sell_edge)):
            share = inputs.size_buy_share if side is Side.BUY else inputs.size_sell_share
            lots = cut_lots(size, share, fair, params)
            if inputs.signal_size < 1.0:
                lots = _signalled_lots(lots, side * inputs.position_lots, inputs.signal_size, fair, params)
            reasons.append(ladder.add(quotes, side, edge, levels, lots))
    return Decision(
        quotes=tuple(quotes),
        no_bid=reasons[0],
        no_ask=reasons[1],
        band_lo_ticks=fair - tolerance,
        band_hi_ticks=fair + tolerance,
        refresh_ns=row.refresh_ns,
        max_position_lots=limit_lots,
        reservation_ticks=fair * (1.0 - (lean - pull - inputs.direction_bps + inputs.carry_bps) * BPS),
        half_bps=half,
        skew_bps=lean,
        buy_edge=buy_edge,
        sell_edge=sell_edge,
    )


class _Ladder:
    """The figures that both sides of one ladder rest on."""

    __slots__ = ("fair", "half_bps", "inputs", "lean_bps", "limit_lots", "params", "pull_bps", "tolerance_ticks")

    def __init__(
        self,
        inputs: DecisionInputs,
        params: Params,
        fair: float,
        half_bps: float,
        lean_bps: float,
        pull_bps: float,
        tolerance_ticks: float,
        limit_lots: int,
    ) -> None:
        self.inputs = inputs
        self.params = params
        self.fair = fair
        self.half_bps = half_bps
        self.lean_bps = lean_bps
        self.pull_bps = pull_bps
        self.tolerance_ticks = tolerance_ticks
        self.limit_lots = limit_lots

    def add(self, quotes: list[Quote], side: Side, edge: EdgeBreakdown, levels: int, size_lots: int) -> str:
        """Append the rungs of one side, best first. Returns why there is none, or nothing."""
        held = side * self.inputs.position_lots
        if size_lots <= 0:
            return "size"
        if held >= self.limit_lots:
            return "inventory"
        blocked = self.inputs.no_buy if side is Side.BUY else self.inputs.no_sell
        if blocked and held >= 0:
            return blocked
        u = self.inputs.position_lots / self.limit_lots if self.limit_lots else 0.0
        floor_bps = floor_distance_bps(edge, u, reducing=held < 0)
        room = self.limit_lots - held
        if blocked:
            room = min(room, -held)  # out of the position, and not through it to the other side
        before = len(quotes)
        self._rungs(quotes, side, floor_bps, levels, size_lots, room)
        if len(quotes) > before:
            return ""
        return "inventory" if room < size_lots else "size"

    def _rungs(
        self, quotes: list[Quote], side: Side, floor_bps: float, levels: int, size_lots: int, room_lots: int
    ) -> None:
        inputs, instrument, quoting = self.inputs, self.params.instrument, self.params.quotes
        fair, half_bps, tolerance = self.fair, self.half_bps, self.tolerance_ticks
        micro = inputs.fair_ticks
        assert micro is not None
        step, unit_e10 = quoting.level_step, instrument.unit_e10
        # Seen from its own side a better price is a greater one; for sells all is mirrored.
        sign = 1 if side is Side.BUY else -1
        # Adding 0.0 turns a negative zero into zero: it would compare equal and encode differently.
        signal = fair - micro + 0.0
        skew = -self.lean_bps * fair * BPS + 0.0
        carry = -inputs.carry_bps * fair * BPS + 0.0
        target = self.pull_bps * fair * BPS + 0.0
        direction = inputs.direction_bps * fair * BPS + 0.0
        reservation = fair + skew + carry + target + direction
        half = -sign * half_bps * BPS * reservation + 0.0
        # The best price that does not take: one tick outside the opposite touch.
        outer = best = inputs.ask_px_ticks - 1 if side is Side.BUY else -(inputs.bid_px_ticks + 1)
        for i in range(levels):
            level = half * step * i + 0.0
            wanted = sign * (reservation + half + level)
            floored = sign * fair - fair * (floor_bps + step * i * half_bps) * BPS
            after_floor = wanted if wanted < floored else floored  # noqa: FURB136 - `min` takes twice as long
            clamped = after_floor if after_floor < outer else outer  # noqa: FURB136
            seen = floor(clamped)
            px = sign * seen
            if px <= 0:
                return
            # Away from fair value the same lots are worth more: the largest order is a value at its own price.
            qty = min(size_lots, room_lots, quoting.max_order_e10 // (px * unit_e10))
            if not instrument.is_valid_size(px, qty):
                return
            near, far = floor(min(seen + tolerance, floored, best)), ceil(seen - tolerance)
            lo, hi = (far, near) if sign > 0 else (-near, -far)
            to_floor, to_clamp = sign * (after_floor - wanted) + 0.0, sign * (clamped - after_floor) + 0.0
            addends = addends_to(px, micro, signal, skew, carry, half, level, to_floor, to_clamp, target, direction)
            quotes.append(Quote(side, i, px, qty, lo, hi, addends))
            room_lots -= qty
            outer = seen - 1


def half_and_skew_bps(
    inputs: DecisionInputs,
    row: RegimeParams,
    limit_lots: int,
    order_lots: int,
    fair_ticks: float,
    params: Params,
    target: float = 0.0,
) -> tuple[float, float]:
    """Half-spread and how far inventory moves the reservation price down, by the model of the settings, both in bps.
    Inventory is what is held beyond `target`, a share of the limit.

    The half-spread is at most spread_max / 2 before the multipliers, and spread_max with them.
    """
    if params.quotes.model == "glft":
        return _glft_bps(inputs, row, order_lots, inputs.position_lots - target * limit_lots, fair_ticks, params)
    half = half_spread_bps(inputs, row, params.quotes)
    u = inputs.position_lots / limit_lots if limit_lots > 0 else 0.0
    return half, skew_bps(u - target, half, move_bps(inputs, params.cost), row.skew_gain, params.quotes.skew_cap_bps)


def _glft_bps(
    inputs: DecisionInputs, row: RegimeParams, order_lots: int, held_lots: float, fair_ticks: float, params: Params
) -> tuple[float, float]:
    if not inputs.sigma_bps:  # not known yet, and this model is made of it: as wide as it may be
        return _multiplied(row.spread_max_bps / 2, inputs, row), 0.0
    px_of_bp = fair_ticks * BPS
    figures = glft_figures(inputs, order_lots, fair_ticks, params)
    half_px, skew_px = glft.half_and_skew(*figures, held_lots)
    cap = params.quotes.skew_cap_bps
    half = _multiplied(half_px / px_of_bp, inputs, row)
    return half, max(-cap, min(cap, skew_px / px_of_bp)) + 0.0


def glft_figures(
    inputs: DecisionInputs, order_lots: int, fair_ticks: float, params: Params
) -> tuple[float, float, float, float, float]:
    """(gamma, A, k, sigma, size of an order), as if the tick were the unit of price and the lot that of size."""
    fitted, px_of_bp = params.glft, fair_ticks * BPS
    return (
        fitted.gamma * (params.instrument.unit_e10 / E10),
        fitted.intensity_per_s,
        fitted.decay_per_bp / px_of_bp,
        inputs.sigma_bps * px_of_bp,
        float(max(1, order_lots)),
    )


def half_spread_bps(inputs: DecisionInputs, row: RegimeParams, params: QuoteParams) -> float:
    """Half-spread of the ladder's model, in bps."""
    assert inputs.fair_ticks is not None
    touch_bps = (inputs.ask_px_ticks - inputs.bid_px_ticks) / inputs.fair_ticks / BPS
    tick_bps = 1.0 / inputs.fair_ticks / BPS
    base = max(row.spread_min_bps / 2, touch_bps / 2 + tick_bps) + params.band_gain * inputs.band_bps
    return _multiplied(base, inputs, row)


def _multiplied(base_bps: float, inputs: DecisionInputs, row: RegimeParams) -> float:
    multiplier = inputs.drift_multiplier * inputs.tracker_multiplier * inputs.signal_spread
    return min(min(base_bps, row.spread_max_bps / 2) * multiplier, row.spread_max_bps)


def move_bps(inputs: DecisionInputs, params: CostParams) -> float:
    """How far the mid moves while inventory is held: sigma * sqrt(tau), in bps; 0 until sigma is known."""
    return inputs.sigma_bps * sqrt(params.inventory_tau_ns / NS)


def skew_bps(u: float, half_bps: float, move_bps: float, gain: float, cap_bps: float) -> float:
    """How far inventory moves the reservation price down (long) or up (short), in bps."""
    lean = gain * u * (1.0 + u * u) / 2.0 * max(half_bps, move_bps)
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


def order_size_lots(inputs: DecisionInputs, row: RegimeParams, fair_ticks: float, params: Params) -> int:
    """Size of one rung in lots, before it is cut; 0 where the venue would not take it."""
    unit = fair_ticks * params.instrument.unit_e10
    full = floor(min(row.order_size * inputs.equity_e10, params.quotes.max_order_e10) / unit)
    return full if full > 0 and params.instrument.is_valid_size(floor(fair_ticks), full) else 0


def _signalled_lots(lots: int, held_lots: int, share: float, fair_ticks: float, params: Params) -> int:
    """What signals leave of `lots`. Out of a position the size stays whole, as far as it goes; through it, it does
    not."""
    return max(cut_lots(lots, share, fair_ticks, params), min(lots, -held_lots))


def cut_lots(full_lots: int, share: float, fair_ticks: float, params: Params) -> int:
    """A share of the full size, after a resume or a pull. It stops at the smallest order that the venue accepts where
    the full size is valid: a smaller cut, not a rounding up."""
    if share >= 1.0 or not full_lots:
        return full_lots
    instrument = params.instrument
    # One per cent above the venue's minimum, because rungs stand away from fair value.
    least = max(instrument.min_qty_lots, ceil(instrument.min_notional_e10 * 1.01 / (fair_ticks * instrument.unit_e10)))
    return min(full_lots, max(floor(full_lots * share), least))
