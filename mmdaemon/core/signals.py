"""Signals from outside: what may be said, when it is believed, what it does to a quote, and when it ends.

A signal is a `SignalReceived` of a named source. It is judged once, on arrival, by the row of its source and that of
its kind; what is refused is counted by source and reason and moves nothing. What is taken stands until it expires or
its source says something newer of the same kind, and loses weight on the way:

    weight = confidence * min(1, 2 * (1 - age / life))          full for half of its life, then linearly to nothing

in steps of a tenth, rounded up, so that a decay is ten decisions and not one at every event. Standing signals of
several sources make one `Effect`, by kind:

    kind               value              arbitration and effect
    target_inventory   -1 ... 1           T = sum(w * v) / max(1, sum(w)), clipped to +-target_max; a share of the
                                          largest position. Inventory leans on u - T instead of u: at T nothing leans
    direction_hint     -1 ... 1           the same mean times direction_cap_bps: moves the reservation price
    size_multiplier    0 ... 1            the least of 1 - w * (1 - v), never below size_min: of quotes that increase
    spread_multiplier  1 ... 10           the most of 1 + w * (v - 1), at most spread_max: on the half-spread
    regime_hint        a regime, none     the most protective of the hints and of the detector; no weight
    pause              increase, all,     the strongest; no weight. Guard reasons `signal_pause`, `external_pause`
                       none

with w the weight. "none" takes back what the same source said before. Nothing here raises a limit, moves fair
value or brings a quote inside its floor: a signal can lean, widen, shrink and stop, and the worst that a lying one can
do is that.

A source's sequence grows with everything it says, whatever the kind, and over its own restarts: the time is a good
one. A refused signal changes nothing but counts. One that was restored after a restart is not judged anew by age and
order; whatever else does not hold any more is.
"""

from enum import StrEnum
from math import isfinite

import msgspec

from mmdaemon.core import figures
from mmdaemon.core.events import SignalReceived, SignalRefused, SourceChanged
from mmdaemon.core.params import SignalsParams, SourceParams
from mmdaemon.core.regime import more_protective
from mmdaemon.core.types import NEVER_NS, NS, Regime

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


NONE = "none"
"""Of a regime hint or a pause: takes back the one before."""
PAUSES = ("increase", "all")
"""Weakest first."""
RANGES: dict[Kind, tuple[float, float]] = {
    Kind.TARGET_INVENTORY: (-1.0, 1.0),
    Kind.DIRECTION_HINT: (-1.0, 1.0),
    Kind.SIZE_MULTIPLIER: (0.0, 1.0),
    Kind.SPREAD_MULTIPLIER: (1.0, 10.0),
}
"""What may be said in numbers. What it does is clamped beyond that, by the settings."""
WORDS: dict[Kind, tuple[str, ...]] = {
    Kind.REGIME_HINT: (*(regime.value for regime in Regime), NONE),
    Kind.PAUSE: (*PAUSES, NONE),
}
OPINIONS = (Kind.TARGET_INVENTORY, Kind.DIRECTION_HINT)
"""Worth nothing once their source is known to be wrong. The others make the daemon careful, and run out."""
REFUSALS: dict[str, str] = {
    "malformed": "it cannot be read",
    "flooding": "more came in a second than the source may say",
    "version": "its schema is of another version",
    "unknown_source": "the settings name no such source",
    "off": "the source is switched off",
    "unknown_kind": "there is no such kind",
    "not_allowed": "the source may not say this kind",
    "value": "the value is no number or word of the kind, or out of its range",
    "confidence": "the confidence is no number from 0 to 1",
    "low_confidence": "the source was less sure than it has to be",
    "ttl": "the time it holds is not above 0, or longer than the source may ask for",
    "future": "it was said later than now",
    "stale": "it was said too long ago",
    "expired": "it had run out when it came",
    "replayed": "its sequence is that of the last one",
    "out_of_order": "its sequence is before that of the last one",
}
"""Why a signal is refused, in the order in which it is asked. The first two are the door's, `daemon/signals.py`."""
_STEPS = 10
"""Of the weight, from full to nothing, over the second half of a life."""


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


def receive(signals: Signals, event: SignalReceived, seq: int, params: SignalsParams) -> bool:
    """Judge what a source said, and take it or refuse it. True where the effect changed."""
    row = params.sources.get(event.source)
    why = why_refused(signals, event, params)
    if why:
        _refuse(signals, seq, event.source if row else "", why, _outcome(event, "refused", reason=why))
        return False
    assert row is not None
    kind = Kind(event.kind)
    age_ns = max(0, event.ts_ns - event.said_ts_ns)
    from_ns = event.mono_ns - age_ns
    new = Standing(
        source=event.source,
        kind=kind,
        value=event.value,
        confidence=event.confidence,
        sequence=event.sequence,
        from_ns=from_ns,
        until_ns=from_ns + int(event.ttl_s * NS),
        seq=seq,
        shadow=row.shadow,
    )
    what = "shadow" if row.shadow else "applied"
    old = signals.standing.get((new.source, new.kind))
    if old is not None:
        _tell(signals, seq, _ended(old, "replaced"))
    signals.standing[new.source, new.kind] = new
    signals.last[new.source] = max(new.sequence, signals.last.get(new.source, -1))
    _count(signals, new.source, what)
    _tell(signals, seq, _outcome(event, what))
    return _follow(signals, event.mono_ns, params)


def refused(signals: Signals, event: SignalRefused, seq: int, params: SignalsParams) -> None:
    """The door let these not in."""
    source = event.source if event.source in params.sources else ""
    outcome = Outcome(event.source, "", 0, "refused", event.reason, event.count)
    _refuse(signals, seq, source, event.reason, outcome)


def changed(signals: Signals, event: SourceChanged, seq: int, params: SignalsParams) -> bool:
    """A source was switched off or on. Its opinions end at once, and what it did for caution runs out. True where the
    effect changed."""
    if event.on:
        signals.off.pop(event.source, None)
    else:
        signals.off[event.source] = event.why
        for kind in OPINIONS:
            old = signals.standing.pop((event.source, kind), None)
            if old is not None:
                _tell(signals, seq, _ended(old, "off"))
    _tell(signals, seq, Outcome(event.source, "", 0, "on" if event.on else "off", event.why))
    return _follow(signals, event.mono_ns, params)


def on_time(signals: Signals, mono_ns: int, seq: int, params: SignalsParams) -> bool:
    """`due_ns` has come: weights fall, and what ran out ends. True where the effect changed."""
    for key in [key for key, one in signals.standing.items() if one.until_ns <= mono_ns]:
        _tell(signals, seq, _ended(signals.standing.pop(key), "expired"))
    return _follow(signals, mono_ns, params)


def why_refused(signals: Signals, event: SignalReceived, params: SignalsParams) -> str:
    """The first reason of `REFUSALS` not to take it; empty where there is none."""
    if type(event.version) is not int or event.version != VERSION:
        return "version"
    row = params.sources.get(event.source)
    if row is None:
        return "unknown_source"
    if event.source in signals.off:
        return "off"
    return _why_not_said(event, row) or _why_not_now(signals, event, row, params)


def _why_not_said(event: SignalReceived, row: SourceParams) -> str:
    if event.kind not in tuple(Kind):
        return "unknown_kind"
    kind = Kind(event.kind)
    if kind not in row.kinds:
        return "not_allowed"
    if not (event.value in WORDS[kind] if kind in WORDS else _is_within(event.value, *RANGES[kind])):
        return "value"
    if not _is_within(event.confidence, 0.0, 1.0):
        return "confidence"
    return "low_confidence" if event.confidence < row.min_confidence else ""


def _why_not_now(signals: Signals, event: SignalReceived, row: SourceParams, params: SignalsParams) -> str:
    if not _is_within(event.ttl_s, 0.0, row.ttl_max_ns / NS) or int(event.ttl_s * NS) <= 0:
        return "ttl"
    if not figures.is_time(event.said_ts_ns):
        return "stale" if event.said_ts_ns < event.ts_ns else "future"
    age_ns = event.ts_ns - event.said_ts_ns
    if age_ns < -params.future_max_ns:
        return "future"
    if age_ns > row.max_age_ns and not event.restored:
        return "stale"
    if age_ns >= int(event.ttl_s * NS):
        return "expired"
    last = signals.last.get(event.source)
    if last is None or event.sequence > last or event.restored:
        return ""
    return "replayed" if event.sequence == last else "out_of_order"


def _is_within(x: object, least: float, most: float) -> bool:
    # Asked as what is fine, so that NaN is not; and a bool is no number.
    return type(x) in (int, float) and isinstance(x, int | float) and isfinite(x) and least <= x <= most


def weight(one: Standing, mono_ns: int) -> float:
    """Confidence times what is left of it, 0 to 1."""
    return one.confidence * _steps_left(one, mono_ns) / _STEPS


def _steps_left(one: Standing, mono_ns: int) -> int:
    life_ns = one.until_ns - one.from_ns
    return max(0, min(_STEPS, -(-2 * _STEPS * (one.until_ns - mono_ns) // life_ns)))


def _next_step_ns(one: Standing, mono_ns: int) -> int:
    """When it next loses weight; of what has none, when it ends."""
    if one.kind in WORDS:
        return one.until_ns
    life_ns = one.until_ns - one.from_ns
    return one.until_ns - (_steps_left(one, mono_ns) - 1) * life_ns // (2 * _STEPS)


def full_effect(signals: Signals, mono_ns: int, params: SignalsParams) -> Effect:
    """What all that stands does at this moment: the same in whichever order it came."""
    said: dict[Kind, list[Standing]] = {}
    for _, one in sorted(signals.standing.items()):
        if not one.shadow and mono_ns < one.until_ns:
            said.setdefault(one.kind, []).append(one)
    if not said:
        return NO_EFFECT
    target = _mean(said.get(Kind.TARGET_INVENTORY, []), mono_ns)
    return Effect(
        target=max(-params.target_max, min(params.target_max, target)) + 0.0,
        direction_bps=_mean(said.get(Kind.DIRECTION_HINT, []), mono_ns) * params.direction_cap_bps + 0.0,
        size=max(params.size_min, min([1.0, *_towards(said.get(Kind.SIZE_MULTIPLIER, []), mono_ns)])),
        spread=min(params.spread_max, max([1.0, *_towards(said.get(Kind.SPREAD_MULTIPLIER, []), mono_ns)])),
        regime=_hint(said.get(Kind.REGIME_HINT, [])),
        pause=max((str(one.value) for one in said.get(Kind.PAUSE, [])), key=_strength, default="").replace(NONE, ""),
    )


def _mean(said: list[Standing], mono_ns: int) -> float:
    """One source that is sure is heard in full; several share one voice."""
    total = votes = 0.0
    for one in said:
        vote = weight(one, mono_ns)
        total += vote * float(one.value)
        votes += vote
    return total / max(1.0, votes)


def _towards(said: list[Standing], mono_ns: int) -> list[float]:
    """Each one's multiplier, as far away from 1 as its weight goes."""
    return [1.0 + weight(one, mono_ns) * (float(one.value) - 1.0) for one in said]


def _hint(said: list[Standing]) -> Regime | None:
    hint: Regime | None = None
    for one in said:
        if one.value != NONE:
            hint = more_protective(Regime(str(one.value)), hint)
    return hint


def _strength(pause: str) -> int:
    return PAUSES.index(pause) if pause in PAUSES else -1


def who_pauses(signals: Signals, mono_ns: int) -> str:
    """Sources whose pause is in force, and how long each will last."""
    said = [one for one in signals.standing.values() if one.kind is Kind.PAUSE and not one.shadow]
    return ", ".join(
        f"{one.source}, for {max(0, one.until_ns - mono_ns) / NS:.0f} s more"
        for one in said
        if one.value == signals.effect.pause
    )


def _follow(signals: Signals, mono_ns: int, params: SignalsParams) -> bool:
    signals.due_ns = min((_next_step_ns(one, mono_ns) for one in signals.standing.values()), default=NEVER_NS)
    before, signals.effect = signals.effect, full_effect(signals, mono_ns, params)
    return before != signals.effect


def _refuse(signals: Signals, seq: int, counted: str, why: str, outcome: Outcome) -> None:
    _count(signals, counted, why, outcome.count)
    _tell(signals, seq, outcome)


def _count(signals: Signals, source: str, what: str, count: int = 1) -> None:
    signals.counts[source, what] = signals.counts.get((source, what), 0) + count


def _outcome(event: SignalReceived, what: str, reason: str = "") -> Outcome:
    return Outcome(
        source=event.source,
        kind=event.kind,
        sequence=event.sequence,
        what=what,
        reason=reason,
        value=str(event.value),
        confidence=event.confidence,
        said_ts_ns=event.said_ts_ns,
        ttl_s=event.ttl_s,
    )


def _ended(one: Standing, what: str) -> Outcome:
    return Outcome(one.source, one.kind, one.sequence, what, value=str(one.value), confidence=one.confidence)


def _tell(signals: Signals, seq: int, outcome: Outcome) -> None:
    signals.outcomes = (*signals.outcomes, outcome) if signals.outcomes_seq == seq else (outcome,)
    signals.outcomes_seq = seq
