"""What our fills are worth, as a judge: the tracker that widens a regime, and the pull that takes a side out.

Tracker, one a regime: the fading mean (`fading.py`, not averaged, tau = `tracker_tau_ns`) of the gross markout after
30 s of the fills made in that regime.

    T = max(0.1 bps, maker fee + least edge)
    mean < -T for `tracker_after_ns` without a break   the half-spread of that regime times `tracker_widen`
    mean > -tracker_return * T                         times 1 again: by better fills, or by none, since the mean fades

Pull, one a side, whatever the regime: the net markout (fee as charged) at `pull_horizon_s` of the fills of the last
`pull_memory_ns`. Fills within one horizon share most of the move that they are judged by: they are one piece of
evidence and not many. So the bound comes from blocks of time of six horizons, which overlap their neighbours by little,
and of a minute at least: below that, blocks of recorded markets still went together (docs/STRATEGY.md). With B blocks
of n_b fills that sum to S_b,

    m = sum(S_b) / sum(n_b)
    upper = m + t(B - 1) * sqrt(B / (B - 1) * sum((S_b - n_b * m)^2)) / sum(n_b)

the ratio estimator of cluster sampling (W. Cochran, Sampling Techniques, 3rd ed., 6.3), t Student's 95 % quantile.
Below 8 blocks there is no bound. A side with `pull_min_fills` fills or more and upper < 0 is pulled: for `pull_ns` no
quote of it increases the position. It returns for `return_ns` at the size of a resume, and is then judged anew, on
the fills since its return.

Fills are learned from as their horizons close, and judged at timers: between timers nothing here changes what a
decision sees.
"""

from bisect import bisect_right
from enum import StrEnum
from math import sqrt

import msgspec

from mmdaemon.core import fading
from mmdaemon.core.fading import FadingMean
from mmdaemon.core.markout import Markout
from mmdaemon.core.params import QualityParams
from mmdaemon.core.types import NS, Regime, Side

_TRACKER_HORIZON_S = 30
_TRACKER_LEAST_BPS = 0.1
"""A rebate may leave nothing to fall below; then it is this."""
_HORIZONS_A_BLOCK = 6
_BLOCK_LEAST_NS = 60 * NS
BLOCKS_LEAST = 8
_T95 = (
    *((7, 1.895), (8, 1.860), (9, 1.833), (10, 1.812), (11, 1.796), (12, 1.782), (14, 1.761), (16, 1.746)),
    *((20, 1.725), (25, 1.708), (30, 1.697), (40, 1.684), (60, 1.671), (120, 1.658)),
)
"""(degrees of freedom, 95 % quantile of Student's t). Between two rows the wider one counts."""


class Tracker(msgspec.Struct):
    """Of one regime. `below_ns`: since when the mean is below its threshold; 0 = it is not."""

    markout: FadingMean = msgspec.field(default_factory=FadingMean)
    below_ns: int = 0
    is_wide: bool = False


class Phase(StrEnum):
    """Of one side."""

    QUOTED = "quoted"
    PULLED = "pulled"
    RETURNING = "returning"


class Block(msgspec.Struct, gc=False):
    """Fills within one block of time, from the first of them on."""

    from_ns: int
    fills: int = 0
    sum_bps: float = 0.0


class Bound(msgspec.Struct, frozen=True, gc=False):
    """A mean net markout and its upper 95 % bound, in bps."""

    mean_bps: float
    upper_bps: float
    fills: int
    blocks: int


class SideQuality(msgspec.Struct):
    """Of one side."""

    phase: Phase = Phase.QUOTED
    until_ns: int = 0
    """End of the phase, where it is not QUOTED."""
    since_ns: int = 0
    """Fills of before are not judged by; 0 = all count."""
    blocks: list[Block] = []
    """Oldest first. The last one may still grow."""
    judged: int = 0
    """So many of `blocks` were over when the side was last judged."""
    bound: Bound | None = None
    """As last judged; None where there was too little to say."""


class Quality(msgspec.Struct):
    """The slice. Changed only by `learn`, `on_timer` and `rebase`."""

    trackers: dict[Regime, Tracker] = {}
    buy: SideQuality = msgspec.field(default_factory=SideQuality)
    sell: SideQuality = msgspec.field(default_factory=SideQuality)
    verdicts: int = 0
    """How often a judgement changed anything: the journal keeps the slice then."""


def multiplier(quality: Quality, regime: Regime, params: QualityParams) -> float:
    """Half-spread multiplier of a regime: 1, or `tracker_widen`."""
    tracker = quality.trackers.get(regime)
    return params.tracker_widen if tracker is not None and tracker.is_wide else 1.0


def is_pulled(quality: Quality, side: Side) -> bool:
    """Whether `side` is taken out for what its fills were worth."""
    return side_of(quality, side).phase is Phase.PULLED


def is_returning(quality: Quality, side: Side) -> bool:
    """Whether `side` was pulled and is back at reduced size."""
    return side_of(quality, side).phase is Phase.RETURNING


def side_of(quality: Quality, side: Side) -> SideQuality:
    return quality.buy if side is Side.BUY else quality.sell


def learn(quality: Quality, closed: Markout, params: QualityParams) -> None:
    """What one closed horizon says, as of its own moment: live, and again after a restart."""
    fill, markout, net = closed.fill, closed.markout_bps, closed.net_bps
    if markout is None or net is None or not fill.is_maker:
        return
    if closed.horizon_s == _TRACKER_HORIZON_S:
        tracker = quality.trackers.setdefault(fill.regime, Tracker())
        fading.learn(tracker.markout, markout, closed.due_ns, params.tracker_tau_ns, averaged=False)
    if closed.horizon_s == params.pull_horizon_s:
        _collect(side_of(quality, fill.side), fill.mono_ns, net, params)


def on_timer(
    quality: Quality, now_ns: int, maker_bps: float | None, min_edge_bps: float, params: QualityParams
) -> bool:
    """Once a second: judge. True where a multiplier or a side changed. Without known fees no regime is judged."""
    changed = _follow(quality, quality.buy, now_ns, params)
    changed = _follow(quality, quality.sell, now_ns, params) or changed
    if maker_bps is None:
        return changed
    least_bps = max(_TRACKER_LEAST_BPS, maker_bps + min_edge_bps)
    for tracker in quality.trackers.values():
        changed = _track(quality, tracker, now_ns, least_bps, params) or changed
    return changed


def rebase(quality: Quality, by_ns: int, now_ns: int, params: QualityParams) -> None:
    """Onto the monotonic clock of another process. Nothing was learned after `now_ns`, and no phase outlasts its own
    length from there."""
    for tracker in quality.trackers.values():
        fading.rebase(tracker.markout, by_ns, now_ns)
        if tracker.below_ns:
            tracker.below_ns = min(tracker.below_ns + by_ns, now_ns)
    for side in (quality.buy, quality.sell):
        if side.until_ns:
            length_ns = params.pull_ns if side.phase is Phase.PULLED else params.return_ns
            side.until_ns = min(side.until_ns + by_ns, now_ns + length_ns)
        if side.since_ns:
            side.since_ns = min(side.since_ns + by_ns, now_ns)
        for block in side.blocks:
            block.from_ns = min(block.from_ns + by_ns, now_ns)


# --- tracker ----------------------------------------------------------------------------------------------------------


def _track(quality: Quality, tracker: Tracker, now_ns: int, least_bps: float, params: QualityParams) -> bool:
    mean = fading.value_at(tracker.markout, now_ns, params.tracker_tau_ns)
    if tracker.is_wide:
        if mean <= -params.tracker_return * least_bps:
            return False
        tracker.is_wide, tracker.below_ns = False, 0
        quality.verdicts += 1
        return True
    if mean >= -least_bps:
        if tracker.below_ns:
            tracker.below_ns = 0
            quality.verdicts += 1
        return False
    if not tracker.below_ns:
        tracker.below_ns = now_ns
        quality.verdicts += 1
    if now_ns - tracker.below_ns < params.tracker_after_ns:
        return False
    tracker.is_wide = True
    quality.verdicts += 1
    return True


# --- pull -------------------------------------------------------------------------------------------------------------


def _collect(side: SideQuality, fill_ns: int, net_bps: float, params: QualityParams) -> None:
    """Into the block of its moment. What is filled while the side is out, or was before its return, is no evidence."""
    if not params.pull_enabled or side.phase is Phase.PULLED or fill_ns < side.since_ns:
        return
    if not side.blocks or fill_ns - side.blocks[-1].from_ns >= block_ns(params.pull_horizon_s):
        side.blocks.append(Block(fill_ns))
    block = side.blocks[-1]
    block.fills += 1
    block.sum_bps += net_bps


def _follow(quality: Quality, side: SideQuality, now_ns: int, params: QualityParams) -> bool:
    if not params.pull_enabled:
        return _enter(quality, side, Phase.QUOTED, now_ns, 0) if side.phase is not Phase.QUOTED else False
    if side.phase is Phase.PULLED:
        return now_ns >= side.until_ns and _enter(quality, side, Phase.RETURNING, now_ns, params.return_ns)
    if side.phase is Phase.RETURNING:
        if now_ns < side.until_ns:
            return False
        side.phase, side.until_ns = Phase.QUOTED, 0
        quality.verdicts += 1
        return True
    return _is_bad(side, now_ns, params) and _enter(quality, side, Phase.PULLED, now_ns, params.pull_ns)


def _enter(quality: Quality, side: SideQuality, phase: Phase, now_ns: int, length_ns: int) -> bool:
    """What came before is judged no more."""
    side.phase = phase
    side.until_ns = now_ns + length_ns if phase is not Phase.QUOTED else 0
    side.since_ns = now_ns
    side.blocks, side.judged = [], 0
    quality.verdicts += 1
    return True


def _is_bad(side: SideQuality, now_ns: int, params: QualityParams) -> bool:
    """Looked at whenever a block is over: all its horizons are closed by then."""
    blocks = side.blocks
    over_ns = now_ns - block_ns(params.pull_horizon_s) - params.pull_horizon_s * NS
    over = len(blocks) if blocks and blocks[-1].from_ns < over_ns else len(blocks) - 1
    if over <= side.judged:
        return False
    old = bisect_right(blocks, now_ns - params.pull_memory_ns, key=lambda block: block.from_ns)
    del blocks[:old]
    side.judged = max(0, over - old)
    side.bound = bound_of(blocks[: side.judged])
    return side.bound is not None and side.bound.fills >= params.pull_min_fills and side.bound.upper_bps < 0.0


def block_ns(horizon_s: int) -> int:
    """Length of a block of fills that are judged by this horizon."""
    return max(_HORIZONS_A_BLOCK * horizon_s * NS, _BLOCK_LEAST_NS)


def bound_of(blocks: list[Block]) -> Bound | None:
    """Mean and upper 95 % bound over whole blocks; None below `BLOCKS_LEAST`."""
    n = len(blocks)
    if n < BLOCKS_LEAST:
        return None
    fills = sum(block.fills for block in blocks)
    mean = sum(block.sum_bps for block in blocks) / fills
    spread = sum((block.sum_bps - block.fills * mean) ** 2 for block in blocks)
    row = bisect_right(_T95, n - 1, key=lambda each: each[0]) - 1
    return Bound(mean, mean + _T95[row][1] * sqrt(n / (n - 1) * spread) / fills, fills, n)
