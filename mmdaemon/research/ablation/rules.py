"""The rules that others ship, as strategies for the same engine: `strategy.md` section 9.

    join_touch          at the best bid and ask
    fixed               a fixed distance from the mid
    avellaneda_stoikov  Avellaneda & Stoikov (2008) in the form of Hummingbot's script, with time left 1 and inventory q
                        in units of the cap:
                        r = mid - q * gamma * sigma^2,   spread = gamma * sigma^2 + 2 / gamma * ln(1 + gamma / kappa)
    glft                the closed form of `core/glft.py` about the mid
    micro_price         fee plus the average adverse move from the micro-price F

Each looks at the market at moments that are a fixed time apart, and sets one order a side; between them nothing moves.
What is filled waits for the next look, what is partly filled rests on as it is. At the look each order is amended to
its new price and full size (at the same price it keeps its queue, which Hummingbot's rules, that cancel and place anew,
lose). While the guard lets nothing be quoted nothing is, and a rule looks again at once when it does.
All hold to what the engine's own quotes hold to (`core/quotes.py`): size, cap, and one tick outside the opposite touch,
rounded away from the mid. An order that the venue does not take, because the market has moved, is sent again.

A rule carries its last look, so one object is for one run.
"""

from collections.abc import Callable
from math import ceil, floor, log
from typing import NamedTuple

import msgspec

from mmdaemon.core import derisk, quotes
from mmdaemon.core.cost import required_edge
from mmdaemon.core.decision import Decision, DecisionInputs, Quote
from mmdaemon.core.glft import half_and_skew
from mmdaemon.core.params import Params
from mmdaemon.core.types import BPS, E10, NS, GuardState, Side


class Wanted(NamedTuple):
    """Where a rule would quote, in ticks, before rounding."""

    bid: float
    ask: float


Pricing = Callable[[DecisionInputs, Params], Wanted]
"""Pure. Asked only while there is a healthy book."""


def join_touch(inputs: DecisionInputs, _params: Params) -> Wanted:
    return Wanted(float(inputs.bid_px_ticks), float(inputs.ask_px_ticks))


def fixed(half_bps: float) -> Pricing:
    def price(inputs: DecisionInputs, _params: Params) -> Wanted:
        return _about(_mid(inputs), half_bps * BPS * _mid(inputs))

    return price


def avellaneda_stoikov(gamma: float, kappa_per_px: float) -> Pricing:
    """`gamma` is Hummingbot's risk factor [1/price], `kappa_per_px` [1/price] in quote currency, not in ticks."""

    def price(inputs: DecisionInputs, params: Params) -> Wanted:
        mid, tick = _mid(inputs), params.instrument.tick_e10 / E10
        sigma_px = inputs.sigma_bps * BPS * mid * tick
        risk_px = gamma * sigma_px * sigma_px
        half_px = (risk_px + 2.0 / gamma * log(1.0 + gamma / kappa_per_px)) / 2.0
        return _about(mid - held_share(inputs, params) * risk_px / tick, half_px / tick)

    return price


def glft(gamma_per_order: float, intensity_per_s: float, decay_per_px: float) -> Pricing:
    """`gamma_per_order` [1 / (price x order)]: risk aversion with one order for the unit of size, as the closed form is
    used where orders have one size. `decay_per_px` [1/price] in quote currency."""

    def price(inputs: DecisionInputs, params: Params) -> Wanted:
        mid, tick = _mid(inputs), params.instrument.tick_e10 / E10
        order_lots = max(1, order_lots_of(inputs, params))
        half_px, skew_px = half_and_skew(
            gamma_per_order,
            intensity_per_s,
            decay_per_px,
            inputs.sigma_bps * BPS * mid * tick,
            1.0,
            inputs.position_lots / order_lots,
        )
        return _about(mid - skew_px / tick, half_px / tick)

    return price


def micro_price(half_bps: float) -> Pricing:
    """`half_bps`: fee plus the average adverse move."""

    def price(inputs: DecisionInputs, _params: Params) -> Wanted:
        assert inputs.fair_ticks is not None
        return _about(inputs.fair_ticks, half_bps * BPS * inputs.fair_ticks)

    return price


def order_lots_of(inputs: DecisionInputs, params: Params) -> int:
    """Size of an order in lots, as the engine's own; 0 where the venue would not take it."""
    assert inputs.fair_ticks is not None
    return quotes.order_size_lots(inputs, params.regimes[inputs.regime], inputs.fair_ticks, params)


def limit_lots_of(inputs: DecisionInputs, params: Params) -> int:
    assert inputs.fair_ticks is not None
    return quotes.max_position_lots(inputs.equity_e10, inputs.fair_ticks, params.quotes, params.instrument)


def held_share(inputs: DecisionInputs, params: Params) -> float:
    """Position in units of the cap."""
    limit = limit_lots_of(inputs, params)
    return inputs.position_lots / limit if limit else 0.0


def _mid(inputs: DecisionInputs) -> float:
    return (inputs.bid_px_ticks + inputs.ask_px_ticks) / 2


def _about(centre: float, half: float) -> Wanted:
    return Wanted(centre - half, centre + half)


class Clocked:
    """A strategy that looks every `period_ns` and quotes what `pricing` wants. For one run."""

    def __init__(self, period_ns: int, pricing: Pricing) -> None:
        self._period_ns = period_ns
        self._pricing = pricing
        self._due_ns = 0
        """When to look next; 0 is at once."""
        self._resting: dict[Side, Quote] = {}
        """By side what is still wanted of the last look."""
        self._position_lots = 0

    def __call__(self, inputs: DecisionInputs, params: Params) -> Decision:
        fair = inputs.fair_ticks
        if fair is None or inputs.guard is not GuardState.RUNNING:
            self._due_ns, self._resting = 0, {}
            reduce = None
            if fair is not None and inputs.guard is GuardState.REDUCING:
                reduce = derisk.quote(inputs, fair, params)
            return decision_of(
                [] if reduce is None else [reduce], inputs, params, "no_book" if fair is None else "guard"
            )
        if inputs.mono_ns >= self._due_ns:
            self._resting = look(self._pricing(inputs, params), inputs, params)
            # Moments a period apart, whenever an event comes: else each look would put the next one off.
            late_ns = inputs.mono_ns - self._due_ns
            self._due_ns = inputs.mono_ns + self._period_ns - (late_ns % self._period_ns if self._due_ns else 0)
        else:
            self._on_position(inputs.position_lots)
        self._position_lots = inputs.position_lots
        return decision_of([self._resting[side] for side in Side if side in self._resting], inputs, params, "waits")

    def _on_position(self, position_lots: int) -> None:
        """Take what was filled off what is wanted, so that nothing is placed anew before the next look. Each fill is an
        event and each event a decision, so a change is of one side."""
        change = position_lots - self._position_lots
        side = Side.BUY if change > 0 else Side.SELL
        quote = self._resting.get(side)
        if not change or quote is None:
            return
        left = quote.qty_lots - abs(change)
        if left > 0:
            self._resting[side] = msgspec.structs.replace(quote, qty_lots=left)
        else:
            del self._resting[side]


def look(wanted: Wanted, inputs: DecisionInputs, params: Params) -> dict[Side, Quote]:
    """One quote a side, as far as size and cap allow it."""
    fair = inputs.fair_ticks
    assert fair is not None
    limit, size = limit_lots_of(inputs, params), order_lots_of(inputs, params)
    found: dict[Side, Quote] = {}
    for side in Side:
        asked = wanted.bid if side is Side.BUY else wanted.ask
        if side is Side.BUY:
            clamped = min(asked, inputs.ask_px_ticks - 1)
            px = floor(clamped)
        else:
            clamped = max(asked, inputs.bid_px_ticks + 1)
            px = ceil(clamped)
        if px <= 0:
            continue
        most = params.quotes.max_order_e10 // params.instrument.notional_e10(px, 1)
        qty = min(size, limit - side * inputs.position_lots, most)
        if not params.instrument.is_valid_size(px, qty):
            continue
        addends = quotes.addends_to(px, fair, 0.0, 0.0, 0.0, asked - fair, 0.0, 0.0, clamped - asked)
        found[side] = Quote(side, 0, px, qty, px, px, addends)
    return found


def decision_of(targets: list[Quote], inputs: DecisionInputs, params: Params, why_not: str) -> Decision:
    """A decision that is asked for again as soon as fair value moves. Only the exact price and size are left alone."""
    fair = inputs.fair_ticks or 0.0
    there = {quote.side for quote in targets}
    return Decision(
        quotes=tuple(targets),
        no_bid="" if Side.BUY in there else why_not,
        no_ask="" if Side.SELL in there else why_not,
        band_lo_ticks=fair,
        band_hi_ticks=fair,
        refresh_ns=0,
        max_position_lots=limit_lots_of(inputs, params) if fair else 0,
        reservation_ticks=fair,
        half_bps=0.0,
        skew_bps=0.0,
        buy_edge=required_edge(Side.BUY, inputs, params.cost),
        sell_edge=required_edge(Side.SELL, inputs, params.cost),
    )


def seconds(period_s: float) -> int:
    return round(period_s * NS)
