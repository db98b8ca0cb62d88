"""The one mutable object, in typed slices. Everybody may read it; only `engine.step` writes it.

Each slice belongs to the module that is named beside it, and only that module's functions change it. `new_state` is
how every run begins; what the journal knows is then fed in as events, so that a restart is no second way to build a
state.
"""

from enum import IntFlag

import msgspec

from mmdaemon.core import position, signal
from mmdaemon.core.bars import Bars
from mmdaemon.core.book import Book
from mmdaemon.core.cost import Charged, Taken
from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.derisk import Derisk
from mmdaemon.core.edge_gate import EdgeGate
from mmdaemon.core.events import AccountSnapshot, FeeSchedule, FundingRate, HealthFacts
from mmdaemon.core.features import Features
from mmdaemon.core.fill_quality import Quality
from mmdaemon.core.guard import Guard
from mmdaemon.core.limits import Budgets, Refusal
from mmdaemon.core.markout import Markouts
from mmdaemon.core.orders import Orders
from mmdaemon.core.params import Params
from mmdaemon.core.position import Position
from mmdaemon.core.regime import Detector
from mmdaemon.core.risk import Risk
from mmdaemon.core.sampled import Sampled
from mmdaemon.core.signal import Signal
from mmdaemon.core.signals import Signals
from mmdaemon.core.types import KillState


class Dirty(IntFlag):
    """What changed since the last decision that a decision depends on."""

    NOTHING = 0
    POSITION = 1
    ORDERS = 2
    GUARD = 4
    REGIME = 8
    COSTS = 16
    REFRESH = 32
    RISK = 64
    SIGNALS = 128


class Venue(msgspec.Struct):
    """What the venue last said of itself and of the account. None is "never said"."""

    mark_px_ticks: int = 0
    mark_ns: int = 0
    """When the mark above came, streamed or with an account snapshot, by our monotonic clock; 0 = never."""
    funding: FundingRate | None = None
    fees: FeeSchedule | None = None
    charged: Charged = msgspec.field(default_factory=Charged)
    """What our fills were charged, held against `fees`. Changed only by `cost.py`."""
    taken: Taken = msgspec.field(default_factory=Taken)
    """How much of our volume took. Changed only by `cost.py`."""
    account: AccountSnapshot | None = None
    public_up: bool = False
    private_up: bool = False
    private_down_ns: int = 0
    """When the private stream went down; 0 while it is up."""


class Facts(msgspec.Struct):
    """What actors and operators reported, and what of it is still in force."""

    started: bool = False
    health: HealthFacts | None = None
    dead_tasks: tuple[str, ...] = ()
    pause_reason: str = ""
    kill: KillState = KillState.ARMED
    kill_reason: str = ""
    stop_reason: str = ""
    breaks: tuple[str, ...] = ()
    bad_reconciles: int = 0
    reconciled_ns: int = 0
    source_ended: bool = False


class State(msgspec.Struct):
    """See the module's docstring. `seq` counts events; `mono_ns` and `ts_ns` are the times of the last one."""

    book: Book
    bars: Bars
    detector: Detector
    position: Position
    orders: Orders
    guard: Guard
    budgets: Budgets
    markouts: Markouts
    venue: Venue
    sampled: Sampled
    signal: Signal
    signals: Signals
    features: Features
    gate: EdgeGate
    quality: Quality
    derisk: Derisk
    risk: Risk
    facts: Facts
    seq: int = 0
    mono_ns: int = 0
    ts_ns: int = 0
    dirty: Dirty = Dirty.NOTHING
    inputs: DecisionInputs | None = None
    decision: Decision | None = None
    decision_seq: int = -1
    withheld: tuple[Refusal, ...] = ()
    """What the standing decision wanted at the last look and admission held back: why a side may be missing."""


def new_state(params: Params, start_equity_e10: int) -> State:
    """A state that knows nothing but its instrument and the equity that PnL is counted from."""
    return State(
        book=Book(depth=max(params.quotes.depth_levels, signal.levels(params.signal))),
        bars=Bars(),
        detector=Detector(),
        position=position.begin(params.instrument, start_equity_e10),
        orders=Orders(),
        guard=Guard(),
        budgets=Budgets(),
        markouts=Markouts(),
        venue=Venue(),
        sampled=Sampled(equity_e10=start_equity_e10),
        signal=Signal(),
        signals=Signals(),
        features=Features(),
        gate=EdgeGate(),
        quality=Quality(),
        derisk=Derisk(),
        risk=Risk(equity_e10=start_equity_e10, peak_e10=start_equity_e10),
        facts=Facts(),
    )
