"""The strategy's part of the picture: what regimes are told by, and what each of its judges says of a side. No rule is
here."""

from mmdaemon.core import fill_quality, regime, risk, signal, signals
from mmdaemon.core.derisk import is_day_ending, rises
from mmdaemon.core.observe import observe, regime_in_force
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, Side
from mmdaemon.ops.status import DeriskView, FeesView, FundingView, RegimeView, SideView, SignalView


def regime_rows(state: State, params: Params) -> list[RegimeView]:
    """The detector's table with the figures of now."""
    bars, drift_bps = state.bars, state.detector.drift_bps
    return [
        RegimeView(
            row.regime.value, row.figure, row.value_bps(bars, drift_bps), row.enters_at_bps(bars, params.detector)
        )
        for row in regime.ROWS
    ]


def regime_leaves_in_s(state: State, params: Params, now_ns: int) -> float | None:
    """What is left of the dwell; None where the figures say the regime that is in force."""
    since_ns = state.detector.seen_ns
    return None if not since_ns else max(0, since_ns + params.detector.dwell_ns - now_ns) / NS


def signal_features(state: State) -> dict[str, float]:
    return dict(zip(signal.FEATURES, signal.features(state.signal), strict=True))


def signals_standing(state: State) -> list[SignalView]:
    """What sources outside said and has not ended."""
    now_ns = state.mono_ns
    return [
        SignalView(
            source=one.source,
            kind=one.kind.value,
            value=one.value,
            weight=1.0 if one.kind in signals.WORDS else signals.weight(one, now_ns),
            ends_in_s=max(0, one.until_ns - now_ns) / NS,
            shadow=one.shadow,
        )
        for _, one in sorted(state.signals.standing.items())
    ]


def signal_effect(state: State) -> dict[str, float]:
    effect = state.signals.effect
    return {
        "target": effect.target,
        "direction_bps": effect.direction_bps,
        "size": effect.size,
        "spread": effect.spread,
    }


def signal_counts(state: State, params: Params) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {source: {"applied": 0} for source in params.signals.sources}
    for (source, what), count in sorted(state.signals.counts.items()):
        counts.setdefault(source or "unknown", {})[what] = count
    return counts


def fees(state: State) -> FeesView | None:
    known = state.venue.fees
    return None if known is None else FeesView(known.maker_rate * 1e4, known.taker_rate * 1e4, known.source)


def funding(state: State) -> FundingView | None:
    known = state.venue.funding
    return None if known is None else FundingView(known.rate, known.next_ts_ns, known.interval_s)


def tracker_multiplier(state: State, params: Params) -> float:
    return fill_quality.multiplier(state.quality, regime_in_force(state), params.quality)


def sides(state: State, params: Params, now_ns: int) -> dict[str, SideView]:
    return {side.name.lower(): _side(state, params, side, now_ns) for side in Side}


def _side(state: State, params: Params, side: Side, now_ns: int) -> SideView:
    gate = state.gate.buy if side is Side.BUY else state.gate.sell
    judged = fill_quality.side_of(state.quality, side)
    decision, seen, bound = state.decision, observe(state, params), judged.bound
    edge = None if decision is None else decision.buy_edge if side is Side.BUY else decision.sell_edge
    return SideView(
        required_bps=None if edge is None else edge.total_bps,
        most_bps=params.regimes[seen.regime].spread_max_bps / 2,
        gate="blocked" if gate.blocked else "beyond" if gate.since_ns else "open",
        gate_for_s=(now_ns - gate.since_ns) / NS if gate.since_ns else 0.0,
        pull=judged.phase.value,
        pull_left_s=max(0, judged.until_ns - now_ns) / NS if judged.until_ns else 0.0,
        net_bps=None if bound is None else bound.mean_bps,
        net_upper_bps=None if bound is None else bound.upper_bps,
        net_fills=0 if bound is None else bound.fills,
        size_share=seen.size_buy_share if side is Side.BUY else seen.size_sell_share,
    )


def derisk(state: State, params: Params, now_ns: int) -> DeriskView:
    worked = state.derisk
    coming = rises(state, params)
    return DeriskView(
        stage=worked.urgency.value,
        for_s=(now_ns - worked.since_ns) / NS if worked.since_ns else 0.0,
        next_stage="" if coming is None else coming[0].value,
        next_in_s=0.0 if coming is None else max(0.0, coming[1] / NS),
        day_ends_in_s=risk.to_rollover_ns(state.ts_ns, params.rollover_hour_utc) / NS if state.ts_ns else 0.0,
        is_day_ending=is_day_ending(state),
    )
