"""From `State` to what a decision may look at. The one place where the slices meet the strategy."""

from typing import TYPE_CHECKING

from mmdaemon.core import cost, derisk, fair_value, fill_quality
from mmdaemon.core.decision import DecisionInputs
from mmdaemon.core.params import Params
from mmdaemon.core.types import Side

if TYPE_CHECKING:
    from mmdaemon.core.state import State


def observe(state: "State", params: Params) -> DecisionInputs:
    """Everything a decision may look at, frozen. What is unknown blocks quoting by the guard before it can matter
    here."""
    book, sampled, fees, quality = state.book, state.sampled, state.venue.fees, state.quality
    regime, resumed = state.detector.regime, sampled.size_share
    returning = params.quotes.resume_size
    return DecisionInputs(
        mono_ns=state.mono_ns,
        ts_ns=state.ts_ns,
        bid_px_ticks=book.bid_px,
        ask_px_ticks=book.ask_px,
        fair_ticks=fair_value.fair_value_ticks(book, params.quotes.depth_levels),
        signal_bps=state.signal.bps,
        guard=state.guard.state,
        regime=regime,
        band_bps=state.detector.band_bps,
        sigma_bps=sampled.sigma_bps,
        drift_multiplier=sampled.drift_multiplier,
        tracker_multiplier=fill_quality.multiplier(quality, regime, params.quality),
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
    )


def blocked_why(state: "State", side: Side) -> str:
    """Why the strategy itself lets no quote of `side` increase the position; empty where it does."""
    gate = state.gate.buy if side is Side.BUY else state.gate.sell
    if gate.blocked:
        return "edge"
    return "pulled" if fill_quality.is_pulled(state.quality, side) else ""
