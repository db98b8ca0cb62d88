"""What our fills taught, over a restart: windows that are open, adverse selection, tracker and pull, share of takers.

A slice of the journal's checkpoints holds it as it stood, once a minute and with every verdict of `fill_quality.py`;
rows of `fills` and `markouts` after it are taken in again, by the functions that took them in first. A horizon of which
there is no row is still open: if its moment has passed, nobody looked, and the next event closes it as unavailable.
Times in the slice are of the monotonic clock of the process that wrote it, and are moved here to that of this one, by
UTC.
"""

import msgspec

from mmdaemon.core import cost, fill_quality, markout
from mmdaemon.core.cost import Taken
from mmdaemon.core.fill_quality import Quality
from mmdaemon.core.markout import Markouts
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.journal.known import ClosedHorizon, Learned, WatchedFill


class Kept(msgspec.Struct):
    """The slice "learned"."""

    mono_ns: int
    ts_ns: int
    markouts: Markouts
    quality: Quality
    taken: Taken | None = None
    """None in slices of before it was kept: the prior counts then, and what was filled after the last checkpoint."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Kept).decode


def kept_of(state: State) -> bytes:
    """As it stands after the last event."""
    markouts = msgspec.structs.replace(state.markouts, matured=(), matured_seq=-1)
    return _encode(Kept(state.mono_ns, state.ts_ns, markouts, state.quality, state.venue.taken))


def restore(state: State, learned: Learned, params: Params) -> None:
    """Into a state whose clock is set. Raises msgspec.DecodeError: the slice is damaged."""
    offset_ns, unit_e10 = state.mono_ns - state.ts_ns, params.instrument.unit_e10
    kept = _decode(learned.kept) if learned.kept is not None else Kept(0, 0, Markouts(), Quality())
    markouts, quality, taken = kept.markouts, kept.quality, kept.taken
    by_ns = offset_ns - (kept.mono_ns - kept.ts_ns)
    markout.rebase(markouts, by_ns, state.mono_ns)
    fill_quality.rebase(quality, by_ns, state.mono_ns, params.quality)
    if taken is not None:
        cost.rebase(taken, by_ns, state.mono_ns)
        state.venue.taken = taken  # the fills after it are below
    for row in learned.since:
        match row:
            case WatchedFill():
                mono_ns = min(row.fill.ts_ns + offset_ns, state.mono_ns)
                fill = msgspec.structs.replace(row.fill, mono_ns=mono_ns)
                markout.watch(markouts, fill, row.fair0_ticks, row.regime, params.instrument)
                if taken is not None and cost.is_own(fill, params.bot_tag):
                    cost.on_traded(taken, fill, unit_e10)
            case ClosedHorizon():
                closed = markout.close_again(markouts, row.trade_id, row.horizon_s, row.fair_ticks)
                if closed is not None:
                    markout.learn(markouts, closed, unit_e10, params.cost)
                    fill_quality.learn(quality, closed, params.quality)
    state.markouts, state.quality = markouts, quality
