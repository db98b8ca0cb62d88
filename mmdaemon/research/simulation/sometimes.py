"""Invariant 24: what a whole run of seeds must have seen. A fault, a move or an exit that never happens proves nothing
of what it is there to prove, so its absence is a failure of the run.

Everything is by the name under which it is counted: `fault ...`, `guard a -> b`, `reason ...` (of the guard),
`order unknown -> b`, `kill a -> b`, `derisk ...` (an order of that stage), `flat when the day turned`,
`side a -> b` (of a pull) and `regime widened` or `narrowed` (by the tracker).
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mmdaemon.core.decision import DeriskStage
from mmdaemon.core.fill_quality import Phase
from mmdaemon.core.guard import TRANSITIONS
from mmdaemon.core.orders import LIFE
from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import OrderStatus
from mmdaemon.daemon import kill_switch
from mmdaemon.research.simulation.plan import Kind
from mmdaemon.venues.simulated.faults import FaultKind

NOT_HERE: Final[Mapping[str, str]] = {
    "guard starting -> stopping": "a daemon's first event is `Started`, and a stop comes after it",
    "kill verified -> killing": "it is VERIFIED for no time unless it flattens, and then it goes on to KILLED; only a "
    "kill switch that died is begun again",
    "order unknown -> rejected": "the simulated venue keeps nothing of what it refused; whoever asks hears of no order",
    "order unknown -> unknown": "a second time-out: nothing is left by it",
    "reason turnover": "its cap is out of reach: at half a basis point a day's turnover would stop most seeds early",
    "reason margin_soft": "positions are small against the account, so that it is never short of margin",
    "reason margin_hard": "as margin_soft",
    "reason daily_loss": "half a basis point of equity is the most that a seed loses, and a fill costs little or earns",
    "reason drawdown": "as daily_loss",
    "reason source_ended": "the market is synthetic and does not end",
}
"""What the tables allow and this level does not bring about, with the reason. Each has a test of its own elsewhere."""


PHASES: Final = (
    (Phase.QUOTED, Phase.PULLED),
    (Phase.PULLED, Phase.RETURNING),
    (Phase.RETURNING, Phase.QUOTED),
)
"""Of a side: out, back at reduced size, and back."""


def _named() -> Iterable[str]:
    yield from (f"fault {kind}" for kind in (*FaultKind, *Kind))
    yield from (f"guard {before} -> {after}" for before, after in TRANSITIONS)
    yield from (f"reason {reason}" for reason in Reason)
    yield from (f"kill {before} -> {after}" for before, after in kill_switch.TRANSITIONS)
    yield from (f"derisk {stage}" for stage in DeriskStage if stage is not DeriskStage.NONE)
    yield "flat when the day turned"
    yield from (f"side {before} -> {after}" for before, after in PHASES)
    yield from ("regime widened", "regime narrowed")
    yield from (f"order {was} -> {now}" for was, now in LIFE if was is OrderStatus.UNKNOWN)


EXPECTED: Final = frozenset(_named()) - NOT_HERE.keys()


def never_seen(faults: Mapping[str, int], counted: Mapping[str, int]) -> list[str]:
    """24: what is missing of a run of seeds, sorted."""
    return sorted(EXPECTED - counted.keys() - {f"fault {kind}" for kind in faults})
