"""From `State` to what a decision may look at. The one place where the slices meet the strategy."""

from typing import TYPE_CHECKING

from mmdaemon.core import cost, derisk, fair_value, fill_quality, regime
from mmdaemon.core.decision import DecisionInputs
from mmdaemon.core.params import Params
from mmdaemon.core.types import Regime, Side

if TYPE_CHECKING:
    from mmdaemon.core.state import State


def observe(state: "State", params: Params) -> DecisionInputs:
    """Everything a decision may look at, frozen. What is unknown blocks quoting by the guard before it can matter
    here."""
    book, sampled, fees, quality = state.book, state.sampled, state.venue.fees, state.quality
    row, resumed, effect = regime_in_force(state), sampled.size_share, state.signals.effect
    returning = params.quotes.resume_size
    return DecisionInputs(
        mono_ns=state.mono_ns,
        ts_ns=state.ts_ns,
        bid_px_ticks=book.bid_px,
        ask_px_ticks=book.ask_px,
        fair_ticks=fair_value.fair_value_ticks(book, params.quotes.depth_levels),
        signal_bps=state.signal.bps,
        guard=state.guard.state,
        regime=row,
        band_bps=state.detector.band_bps,
        sigma_bps=sampled.sigma_bps,
        drift_multiplier=sampled.drift_multiplier,
        tracker_multiplier=fill_quality.multiplier(quality, row, params.quality),
        position_lots=state.position.position_lots,
        equity_e10=sampled.equity_e10,
        maker_bps=cost.maker_rate(fees, state.venue.charged) * 1e4 + 0.0 if fees else 0.0,
        taker_bps=fees.taker_rate * 1e4 + 0.0 if fees else 0.0,
        carry_bps=sampled.carry_bps,
        adverse_buy_bps=sampled.adverse_buy_bps,
        adverse_sell_bps=sampled.adverse_sell_bps,
        turnover_bps=sampled.turnover_bps,
        taker_share=sampled.taker_share,
        size_buy_share=min(resumed, returning) if fill_quality.is_returning(quality, Side.BUY) else resumed,
        size_sell_share=min(resumed, returning) if fill_quality.is_returning(quality, Side.SELL) else resumed,
        no_buy=blocked_why(state, Side.BUY),
        no_sell=blocked_why(state, Side.SELL),
        derisk=derisk.stage(state.derisk),
        target=effect.target,
        direction_bps=effect.direction_bps,
        signal_size=effect.size,
        signal_spread=effect.spread,
    )


def regime_in_force(state: "State") -> Regime:
    """The detector's regime, or the one that somebody outside hinted at, if that protects more."""
    return regime.more_protective(state.detector.regime, state.signals.effect.regime)


def blocked_why(state: "State", side: Side) -> str:
    """Why the strategy itself lets no quote of `side` increase the position; empty where it does."""
    gate = state.gate.buy if side is Side.BUY else state.gate.sell
    if gate.blocked:
        return "edge"
    return "pulled" if fill_quality.is_pulled(state.quality, side) else ""
