"""By what a side was pulled: its fills' net markouts judged again from the journal, by the rule of the core."""

from mmdaemon.core import fill_quality
from mmdaemon.core.fill_quality import Bound, Quality
from mmdaemon.core.markout import Markout, Watched
from mmdaemon.core.params import Params
from mmdaemon.core.types import BPS, NS, ExecKind, Liquidity, Regime, Side
from mmdaemon.journal.reader import JournalReader


def bound_at(
    journal: JournalReader, epoch: int, side: Side, since_ns: int, mono_ns: int, params: Params
) -> Bound | None:
    """Mean and bound as judged at a moment, over the run's fills from `since_ns` on (both monotonic); None where they
    do not say. What an earlier run had learned is not in it."""
    quality, horizon_s = Quality(), params.quality.pull_horizon_s
    found = journal.db.execute(
        "SELECT f.trade_id, f.mono_ns, f.px_ticks, f.qty_lots, f.fee_e10, f.liquidity, f.exec_kind, m.regime, "
        "m.fair0_ticks, m.fair_ticks FROM fills f JOIN markouts m USING (trade_id, account_epoch) WHERE f.epoch = ? "
        "AND f.side = ? AND m.horizon_s = ? AND f.mono_ns >= ? AND f.mono_ns <= ? ORDER BY f.mono_ns, f.rowid",
        (epoch, int(side), horizon_s, since_ns, mono_ns - horizon_s * NS),
    )
    for trade_id, at_ns, px, lots, fee_e10, liquidity, kind, regime, fair0, fair in found:
        fee_bps = fee_e10 / params.instrument.notional_e10(px, lots) / BPS
        is_maker = liquidity == Liquidity.MAKER and kind == ExecKind.TRADE
        watched = Watched(trade_id, side, Regime(regime), at_ns, fair0, px, lots, fee_bps, is_maker)
        fill_quality.learn(quality, Markout(watched, horizon_s, fair), params.quality)
    fill_quality.on_timer(quality, mono_ns, None, params.cost.min_edge_bps, params.quality)
    return fill_quality.side_of(quality, side).bound
