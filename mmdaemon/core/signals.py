"""Signals from outside: what may be said, when it is believed, what it does to a quote, and when it ends.

A signal is a `SignalReceived` of a named source. It is judged once, on arrival, by the row of its source and that of
its kind; what is refused is counted by source and reason and moves nothing. What is taken stands until it expires or
its source says something newer of the same kind, and loses weight on the way:

    weight = confidence * min(1, 2 * (1 - age / life))          full for half of its life, then linearly to nothing

quantised to `_WEIGHT_STEP`, so that a decay is a few decisions and not one at every event. Standing signals of several
sources make one `Effect`, by kind:

    kind               value              arbitration and effect
    target_inventory   -1 ... 1           T = sum(k*w*v) / max(1, sum(k*w)), clipped to +-target_max; a share of the
                                          largest position. Inventory leans on u - T instead of u: at T nothing leans
    direction_hint     -1 ... 1           the same mean times direction_cap_bps: moves the reservation price
    size_multiplier    0 ... 1            the least of 1 - w * (1 - v), never below size_min: of quotes that increase
    spread_multiplier  1 ... spread_max   the most of 1 + w * (v - 1): on the half-spread
    regime_hint        name of a regime   the most protective of the hints and of the detector; no weight
    pause              increase | all     the strongest; no weight. Guard reasons `signal_pause`, `external_pause`

with k the source's weight. Nothing here raises a limit, moves fair value or brings a quote inside its floor: a signal
can lean, widen, shrink and stop, and the worst that a lying one can do is that.
"""

from enum import StrEnum

import msgspec

from mmdaemon.core.types import NEVER_NS, Regime

VERSION = 1
"""Of the schema. Another's signals are refused."""


class Kind(StrEnum):
    """What a signal may say."""

    TARGET_INVENTORY = "target_inventory"
    DIRECTION_HINT = "direction_hint"
    SIZE_MULTIPLIER = "size_multiplier"
    SPREAD_MULTIPLIER = "spread_multiplier"
    REGIME_HINT = "regime_hint"
    PAUSE = "pause"


class Effect(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What all standing signals together do now."""

    target: float = 0.0
    """Share of the largest position that inventory is drawn to."""
    direction_bps: float = 0.0
    """Of the reservation price; positive is up."""
    size: float = 1.0
    spread: float = 1.0
    regime: Regime | None = None
    pause: str = ""
    """"increase", "all" or empty."""


NO_EFFECT = Effect()


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A signal that was taken. Times are ours, monotonic."""

    source: str
    kind: Kind
    value: float | str
    confidence: float
    sequence: int
    from_ns: int
    """When its source said it, on our clock: weight is lost from here on."""
    until_ns: int
    seq: int
    """The event with which it came."""
    shadow: bool
    """Recorded alone: of no effect."""


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of signals, for the journal. `what` is "applied", "shadow", "refused", "replaced", "expired", "off",
    "on"; of a refusal `reason` says why and `count` how many were alike."""

    source: str
    kind: str
    sequence: int
    what: str
    reason: str = ""
    count: int = 1
    value: str = ""
    confidence: float = 0.0
    said_ts_ns: int = 0
    ttl_s: float = 0.0


class Signals(msgspec.Struct):
    """The slice. Changed only by the functions below."""

    standing: dict[tuple[str, str], Standing] = msgspec.field(default_factory=dict)
    """By source and kind."""
    last: dict[str, int] = msgspec.field(default_factory=dict)
    """Source -> sequence of the newest that was taken."""
    off: dict[str, str] = msgspec.field(default_factory=dict)
    """Source -> why it is switched off."""
    effect: Effect = NO_EFFECT
    due_ns: int = NEVER_NS
    """The next moment at which the effect may change with no event."""
    counts: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    """(source, "applied", "shadow" or the reason of a refusal) -> how many."""
    outcomes: tuple[Outcome, ...] = ()
    """Of the event `outcomes_seq`."""
    outcomes_seq: int = -1
