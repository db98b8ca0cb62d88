"""What the run's fills were worth a while later: the markouts that the daemon itself journaled, by side and horizon.

Intervals are 95 %, by block bootstrap (`research/calibration/blocks.py`): fills that are near in time share most of the
move that they are valued by, and are not so many pieces of evidence.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from mmdaemon.core.markout import HORIZONS_S
from mmdaemon.core.types import BPS, NS, Instrument, Side
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow
from mmdaemon.research.calibration.blocks import block_ns, interval, ratio, sums_by_block
from mmdaemon.research.report.records import UNKNOWN, Markout, MarkoutCurve


class Valued(msgspec.Struct, frozen=True):
    """One horizon of one fill, in bps of fair value at the fill."""

    effective_bps: float
    impact_bps: float
    fee_bps: float

    @property
    def markout_bps(self) -> float:
        return self.effective_bps + self.impact_bps

    @property
    def net_bps(self) -> float:
        return self.markout_bps - self.fee_bps


Worth = dict[tuple[str, int], Valued]
"""By trade id and horizon in s. What is not in it is not known: it has not come, or no healthy book could value it."""


def worth_of(journal: JournalReader, fills: Sequence[FillRow], instrument: Instrument) -> Worth:
    """All that is known of these fills, by whichever run it was found."""
    fee_bps = {
        fill.trade_id: fill.fee_e10 / instrument.notional_e10(fill.px_ticks, fill.qty_lots) / BPS for fill in fills
    }
    epochs = {fill.epoch for fill in fills}
    found: Worth = {}
    for epoch in epochs:
        for trade_id, horizon_s, effective, impact in journal.db.execute(
            "SELECT m.trade_id, m.horizon_s, m.effective_bps, m.impact_bps FROM markouts m JOIN fills f "
            "ON f.trade_id = m.trade_id AND f.account_epoch = m.account_epoch WHERE f.epoch = ?",
            (epoch,),
        ):
            if impact is not None:
                found[trade_id, horizon_s] = Valued(effective, impact, fee_bps[trade_id])
    return found


def markouts(fills: Sequence[FillRow], worth: Worth) -> list[Markout]:
    """A row for each side and horizon; nothing without a fill."""
    return [_row(fills, worth, side, horizon_s) for side in Side for horizon_s in HORIZONS_S] if fills else []


def curve(fills: Sequence[FillRow], worth: Worth) -> MarkoutCurve:
    """Means and their intervals over the horizons, by side."""
    made = MarkoutCurve(horizon_s=[float(h) for h in HORIZONS_S] if worth else [], mean={}, low={}, high={})
    for side in Side:
        means: list[float | None] = []
        lows: list[float | None] = []
        highs: list[float | None] = []
        for horizon_s in HORIZONS_S:
            _, values, t_ns = _of(fills, worth, side, horizon_s)
            between = _interval(t_ns, [each.markout_bps for each in values], horizon_s)
            means.append(_rounded(np.mean([each.markout_bps for each in values])) if values else None)
            lows.append(None if between is None else _rounded(between[0]))
            highs.append(None if between is None else _rounded(between[1]))
        name = side.name.lower()
        made.mean[name], made.low[name], made.high[name] = means, lows, highs
    return made


def _rounded(bps: float | np.floating) -> float:
    return round(float(bps), 4)


def _of(fills: Sequence[FillRow], worth: Worth, side: Side, horizon_s: int) -> tuple[int, list[Valued], list[int]]:
    """(fills of the side, what is known of them, and when those were)"""
    ours = [fill for fill in fills if fill.side is side]
    known = [(worth[key], fill.mono_ns) for fill in ours if (key := (fill.trade_id, horizon_s)) in worth]
    return len(ours), [each for each, _ in known], [mono_ns for _, mono_ns in known]


def _row(fills: Sequence[FillRow], worth: Worth, side: Side, horizon_s: int) -> Markout:
    count, values, t_ns = _of(fills, worth, side, horizon_s)
    between = _interval(t_ns, [each.markout_bps for each in values], horizon_s)
    return Markout(
        side=side.name.lower(),
        horizon=f"{horizon_s} s",
        fills=f"{len(values):,}",
        effective=_mean([each.effective_bps for each in values]),
        impact=_mean([each.impact_bps for each in values]),
        markout=_mean([each.markout_bps for each in values]),
        interval=UNKNOWN if between is None else f"{between[0]:+.2f} to {between[1]:+.2f}",
        net=_mean([each.net_bps for each in values]),
        unavailable=f"{count - len(values):,}",
    )


def _interval(t_ns: Sequence[int], bps: Sequence[float], horizon_s: int) -> tuple[float, float] | None:
    """None where the fills lie in too few blocks of time to say."""
    if not t_ns:
        return None
    length_ns = block_ns(max(t_ns) - min(t_ns) + NS, horizon_s)
    sums = sums_by_block(np.array(t_ns, np.int64), [np.array(bps, np.float64), np.ones(len(bps))], length_ns)
    found = interval(sums, ratio)
    return None if found is None else (found.low, found.high)


def _mean(bps: Sequence[float]) -> str:
    return f"{np.mean(bps):+.2f}" if bps else UNKNOWN
