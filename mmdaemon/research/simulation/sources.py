"""Sources of signals that mean no good: one that says anything at all, thousands of times a second, and one that lies.

They speak through the daemon's own door. What a liar says is valid, and the worst that it may say: everything to one
side and then to the other, pauses, extremes. Only what it costs is bounded, and that is what the invariants see to.
"""

from collections.abc import Iterator
from math import inf, nan
from typing import TYPE_CHECKING, Final, TypeVar

from mmdaemon.core.signals import RANGES, VERSION, WORDS, Kind
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.signals import Message
from mmdaemon.venues.simulated.latency import Draws

if TYPE_CHECKING:
    from mmdaemon.research.simulation.world import World

T = TypeVar("T")

_TICK_NS: Final = NS // 10
_A_TICK: Final = 300
"""What a flood says in a tenth of a second."""
_SOURCES: Final = ("operator", "operator", "stranger", "")
_KINDS: Final = (*Kind, "gap", "")
_VALUES: Final[tuple[float | str, ...]] = (nan, inf, -1e300, -1.0, 0.0, 0.5, 1.0, 2.0, "all", "none", "up", "")
_CONFIDENCES: Final = (nan, -1.0, 0.0, 0.1, 0.5, 1.0, 1.0, 2.0)
_AGES_NS: Final = (0, 0, 0, NS, 20 * NS, -60 * NS, 1 << 62)
_TTLS_S: Final = (nan, -1.0, 0.0, 0.5, 5.0, 30.0, 1e12)


def anything(seed: int, number: int, ts_ns: int) -> Message:
    """The `number`-th thing that a source without sense says."""

    def one_of(what: tuple[T, ...], place: int) -> T:
        return what[draws.below(8 * number + place, len(what))]

    draws = Draws(seed, "signals/flood")
    return Message(
        source=one_of(_SOURCES, 0),
        kind=str(one_of(_KINDS, 1)),
        value=one_of(_VALUES, 2),
        confidence=one_of(_CONFIDENCES, 3),
        ts_ns=ts_ns - one_of(_AGES_NS, 4),
        ttl_s=one_of(_TTLS_S, 5),
        sequence=one_of((0, -1, ts_ns, ts_ns, ts_ns + number), 6),
        version=one_of((VERSION, VERSION, VERSION, 2), 7),
    )


def lie(seed: int, number: int, ts_ns: int) -> Message:
    """The `number`-th thing that a liar says: allowed, and as far as it goes."""
    draws = Draws(seed, "signals/lies")
    kind = tuple(Kind)[draws.below(3 * number, len(Kind))]
    value = (
        RANGES[kind][draws.below(3 * number + 1, 2)]
        if kind in RANGES
        else WORDS[kind][draws.below(3 * number + 1, len(WORDS[kind]))]
    )
    ttl_s = (0.5, 3.0, 20.0, 60.0)[draws.below(3 * number + 2, 4)]
    return Message("operator", kind, value, 1.0, ts_ns, ttl_s, ts_ns)


def _said(seed: int, *, lies: bool, number: int, ts_ns: int) -> Iterator[Message]:
    if lies:
        yield lie(seed, number, ts_ns)
        return
    for i in range(_A_TICK):
        yield anything(seed, number * _A_TICK + i, ts_ns)


async def speak(world: "World", seconds: float, *, lies: bool) -> None:
    """For so long, or until the daemon that hears it is gone."""
    daemon, clock = world.daemon, world.clock
    for number in range(round(seconds * NS) // _TICK_NS + 1):
        if daemon is None or world.daemon is not daemon or not world.is_up or daemon.has_ended:
            return
        for message in _said(world.plan.seed, lies=lies, number=number, ts_ns=clock.wall_ns()):
            daemon.parts.signals.offer(message)
        await sleep_ns(clock, _TICK_NS)
