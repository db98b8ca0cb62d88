"""What a quote must earn: the required edge as addends, and the funding carry among them.

    edge_required(s) = maker_fee + exit + adverse(s) + carry(s) + turnover + min_edge        [bps from fair value]
    exit    = p_taker * (taker_fee - maker_fee + slippage)
    carry   = sum over coming settlements k of  rate_k * exp(-(T_k - t) / tau)               [cost of being long]
    turnover: linear from 0 at the soft multiple of equity to its penalty at the cap, never more

A positive rate means longs pay shorts. `carry` shifts the reservation price (`quotes.py`) and is an addend here on
the side that would increase exposure, never as a discount; edge_required is a floor on the distance from F and not
an amount on top of that shift, so the cost is paid once. PnL books the venue's ledger, never this forecast.
"""

from math import exp

from mmdaemon.core.decision import DecisionInputs, EdgeBreakdown
from mmdaemon.core.params import CostParams
from mmdaemon.core.types import Side

_SETTLEMENTS = 3
"""How many coming settlements are weighed; with holding times in minutes and intervals in hours the rest is nothing."""


def carry_bps(rate: float, due_ns: int, interval_ns: int, params: CostParams) -> float:
    """Expected funding cost of one more unit long, in bps of notional; negative where longs are paid.

    `rate` is the predicted rate of the next settlement, `due_ns` the time until it (UTC difference, both from the
    venue's schedule), `interval_ns` the time between settlements. Each later rate is taken half-way to a long-run
    mean of zero.
    """
    tau_ns = params.inventory_tau_ns
    total = 0.0
    for k in range(_SETTLEMENTS):
        total += rate * 0.5**k * exp(-max(0, due_ns + k * interval_ns) / tau_ns)
    bps = total * 1e4
    return max(-params.carry_cap_bps, min(params.carry_cap_bps, bps))


def turnover_bps(turnover_e10: int, equity_e10: int, params: CostParams) -> float:
    """Soft penalty for the day's turnover, in bps. Past the cap the guard blocks increases instead."""
    if equity_e10 <= 0:
        return params.turnover_penalty_bps
    used = turnover_e10 / equity_e10
    span = params.turnover_cap - params.turnover_soft
    share = (used - params.turnover_soft) / span if span > 0 else float(used >= params.turnover_cap)
    return params.turnover_penalty_bps * max(0.0, min(1.0, share))


def required_edge(side: Side, inputs: DecisionInputs, params: CostParams) -> EdgeBreakdown:
    """The floor on the distance from fair value for a quote of `side`, addend by addend, in bps."""
    return EdgeBreakdown(
        maker_fee_bps=inputs.maker_bps + 0.0,  # a negative zero would encode differently
        exit_bps=params.taker_probability * (inputs.taker_bps - inputs.maker_bps + params.slippage_bps) + 0.0,
        adverse_bps=inputs.adverse_buy_bps if side is Side.BUY else inputs.adverse_sell_bps,
        carry_bps=max(0.0, side * inputs.carry_bps),
        turnover_bps=inputs.turnover_bps,
        min_edge_bps=params.min_edge_bps,
    )


def due_ns(next_ts_ns: int, ts_ns: int, params: CostParams) -> int:
    """Time to the settlement, held at `carry_freeze_ns` once it is nearer, so that the clock's last seconds move no
    quote."""
    return max(params.carry_freeze_ns, next_ts_ns - ts_ns)
