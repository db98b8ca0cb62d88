"""Where the figures of a decision come from, in words: each addend of the required edge, the model, a side's absence.

From the journal alone. What it does not keep (the signal's features, the venue's funding rate between minutes) is said
to be unknown and is not made up.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from mmdaemon.cli.judged import bound_at
from mmdaemon.cli.shown import Seen, size, utc
from mmdaemon.core import glft
from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.fair_value import with_signal
from mmdaemon.core.fill_quality import Bound
from mmdaemon.core.params import Params
from mmdaemon.core.quotes import glft_figures, move_bps, order_size_lots
from mmdaemon.core.types import BPS, NS, GuardState, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import DecisionRow

_QUOTING = (GuardState.RUNNING, GuardState.REDUCING)
_inputs_of = msgspec.msgpack.Decoder(DecisionInputs).decode


def edge_sources(seen: DecisionInputs, params: Params, facts: Mapping[str, str]) -> dict[str, str]:
    """Addend of the required edge -> where it comes from. `facts` has what a minute's sample says of fees ("fees") and
    funding ("funding")."""
    cost = params.cost
    impact = "no fill has shown one" if not (seen.adverse_buy_bps or seen.adverse_sell_bps) else "measured"
    pays = "buys pay it" if seen.carry_bps > 0 else "sells pay it" if seen.carry_bps < 0 else "nobody pays"
    return {
        "maker_fee": f"the account's own rate{_of(facts, 'fees')}",
        "exit": (
            f"p_taker {seen.taker_share:g}, as measured, x (taker {seen.taker_bps:g} - maker {seen.maker_bps:g} "
            f"+ slippage {cost.slippage_bps:g})"
        ),
        "adverse": f"markouts 5 s after our fills of the side in {seen.regime.value}: {impact}, at most "
        f"{cost.adverse_cap_bps:g}",
        "carry": f"funding costs a long {seen.carry_bps:g}: {pays}, at most {cost.carry_cap_bps:g}"
        f"{_of(facts, 'funding')}",
        "turnover": f"the day's, from {cost.turnover_soft:g} to {cost.turnover_cap:g} x equity, at most "
        f"{cost.turnover_penalty_bps:g}",
        "min_edge": "the setting cost.min_edge_bps",
    }


def _of(facts: Mapping[str, str], name: str) -> str:
    return f" ({facts[name]})" if facts.get(name) else ""


def signal_words(seen: DecisionInputs, params: Params) -> str:
    """What the signal did, and what of it cannot be told."""
    if not (params.signal.cap_bps and any(params.signal.weights)):
        return "no signal: its weights are 0"
    return (
        f"signal {seen.signal_bps:+.4f} bps of at most {params.signal.cap_bps:g}; its features are not journaled "
        "(`mmdaemon status` shows those of now)"
    )


def model_figures(seen: DecisionInputs, made: Decision, params: Params) -> Iterator[Seen]:
    """What the half-spread and the skew were made of; nothing where nothing could be quoted."""
    if seen.fair_ticks is None or seen.guard is not GuardState.RUNNING:
        return
    row, quoting = params.regimes[seen.regime], params.quotes
    by = f"{seen.drift_multiplier:g} x {seen.tracker_multiplier:g} x {seen.signal_spread:g}"
    if quoting.model == "glft":
        yield from _glft_figures(seen, seen.fair_ticks, params)
    else:
        touch_bps = (seen.ask_px_ticks - seen.bid_px_ticks) / seen.fair_ticks / BPS
        yield Seen("spread_min", "half of the least spread", f"{row.spread_min_bps / 2:g}", "bps")
        yield Seen("touch", "half of the touch and a tick", f"{touch_bps / 2 + 1 / seen.fair_ticks / BPS:.4f}", "bps")
        yield Seen("band", "band gain x band", f"{quoting.band_gain:g} x {seen.band_bps:g}", "bps")
        yield Seen("skew_gain", "skew gain k", f"{row.skew_gain:g}", "")
        yield Seen("move", "sigma x sqrt(tau)", f"{move_bps(seen, params.cost):.4f}", "bps")
    yield Seen("multipliers", "drift x tracker x signals", by, "times")
    yield Seen("half_max", "half of the widest spread", f"{row.spread_max_bps / 2:g}", "bps")
    yield Seen("half", "half-spread", f"{made.half_bps:.4f}", "bps")
    yield Seen("skew", "skew, down if positive", f"{made.skew_bps:.4f}", "bps")


def _glft_figures(seen: DecisionInputs, micro_ticks: float, params: Params) -> Iterator[Seen]:
    fair, instrument = with_signal(micro_ticks, seen.signal_bps), params.instrument
    order_lots = order_size_lots(seen, params.regimes[seen.regime], fair, params)
    gamma, intensity_per_s, decay, sigma, order = glft_figures(seen, order_lots, fair, params)
    px_of_bp = fair * BPS
    yield Seen("gamma", "risk aversion gamma = xi", f"{params.glft.gamma:g}", f"1/{instrument.quote}")
    yield Seen("A", "arrivals at the mid, A", f"{intensity_per_s:g}", "1/s")
    yield Seen("k", "decay of arrivals, k", f"{params.glft.decay_per_bp:g}", "1/bp")
    yield Seen("delta", "order size, Delta", str(size(int(order), instrument)), "base")
    c1, c2 = glft.coefficients(gamma, intensity_per_s, decay, order)
    yield Seen("c1", "c1", f"{c1 / px_of_bp:.4f}", "bps")
    if not sigma:
        yield Seen("c2", "c2", "unused: sigma is not known yet, so as wide as it may be", "")
        return
    yield Seen("c2", "c2", f"{c2 / (instrument.lot_e10 / 1e10):.6g}", "sqrt(s)/base")
    yield Seen("c2_half", "Delta / 2 x sigma x c2", f"{order / 2 * sigma * c2 / px_of_bp:.4f}", "bps")
    yield Seen("c2_skew", "sigma x c2 x position", f"{sigma * c2 * seen.position_lots / px_of_bp:.4f}", "bps")


# --- why a side is missing --------------------------------------------------------------------------------------------


def why_missing(
    side: Side, seen: DecisionInputs, made: Decision, params: Params, reasons: str, held: "Held | None" = None
) -> str:
    """Why a side has no quote, in words and figures; empty where it has one. `held` is since when its gate or its pull
    holds it."""
    instrument = params.instrument
    if any(quote.side is side for quote in made.quotes):
        return ""
    because = f" ({reasons})" if reasons else ""
    match made.no_bid if side is Side.BUY else made.no_ask:
        case "guard" if seen.guard in _QUOTING:
            return f"guard: {seen.guard.value}{because} lets only the side quote that reduces the position"
        case "guard":
            return f"guard: {seen.guard.value}{because} quotes nothing"
        case "no_book":
            return "no_book: there is no healthy book, so there is no fair value"
        case "inventory":
            position, most = size(seen.position_lots, instrument), size(made.max_position_lots, instrument)
            return f"inventory: position {position} has reached its largest, {most}"
        case "edge":
            return _edge(side, seen, made, params, held)
        case "pulled":
            return _pulled(params, held)
        case "size":
            share = seen.size_buy_share if side is Side.BUY else seen.size_sell_share
            part = params.regimes[seen.regime].order_size * share
            return f"size: {part:.3%} of equity is less than the smallest order the venue takes"
        case _:
            return "size: what there is room for is less than the smallest order the venue takes"


def _edge(side: Side, seen: DecisionInputs, made: Decision, params: Params, held: "Held | None") -> str:
    edge = made.buy_edge if side is Side.BUY else made.sell_edge
    most_bps = params.regimes[seen.regime].spread_max_bps / 2
    since = "" if held is None else f"; blocked since {utc(held.ts_ns)} UTC"
    return (
        f"edge: a fill must earn {edge.total_bps:.4f} bps, and half of the widest spread in {seen.regime.value} is "
        f"{most_bps:g} bps{since}; it returns below {params.gate.return_share * most_bps:g} bps"
    )


def _pulled(params: Params, held: "Held | None") -> str:
    quality = params.quality
    said = f"pulled: net markouts {quality.pull_horizon_s} s after its fills were below 0 with 95 % confidence"
    if held is None:
        return f"{said}; it is taken out for {quality.pull_ns / NS:g} s"
    if held.bound is not None:
        mean, upper = f"{held.bound.mean_bps:+.4f} bps", f"{held.bound.upper_bps:+.4f}"
        said += f" (mean {mean}, at most {upper}, over {held.bound.fills} fills)"
    return f"{said}; taken out at {utc(held.ts_ns)}, until {utc(held.ts_ns + quality.pull_ns)} UTC"


class Held(NamedTuple):
    """Since when the gate or the pull has held a side as it does, by the decisions that were kept: at the latest,
    because one that changed nothing is not kept."""

    mono_ns: int
    ts_ns: int
    bound: Bound | None = None
    """What the pull went by, where it was that."""


def held(journal: JournalReader, row: DecisionRow, side: Side, params: Params) -> Held | None:
    """None where neither holds it."""
    field = "no_buy" if side is Side.BUY else "no_sell"
    word = getattr(_inputs_of(row.inputs), field)
    if not word:
        return None
    first, last_ns = (row.mono_ns, row.ts_ns), 0
    is_over = False
    for mono_ns, ts_ns, blob in journal.db.execute(
        "SELECT mono_ns, ts_ns, inputs FROM decisions WHERE epoch = ? AND seq < ? ORDER BY seq DESC",
        (row.epoch, row.seq),
    ):
        said = getattr(_inputs_of(blob), field)
        if is_over and said == "pulled":
            last_ns = mono_ns  # fills of before it returned from there are not judged by again
            break
        is_over = is_over or said != word
        if not is_over:
            first = (mono_ns, ts_ns)
        elif word != "pulled":
            break
    bound = bound_at(journal, row.epoch, side, last_ns, first[0], params) if word == "pulled" else None
    return Held(*first, bound)
