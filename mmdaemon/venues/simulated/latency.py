"""How long messages take, and in which order they come out.

A draw is a pure function of (seed, kind, ordinal), so that removing one does not shift the others: a failing seed
can be cut down to the few draws that matter. The ordinal is mixed by SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014), whose state is keyed by BLAKE2b of seed and kind.
"""

from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Generic, TypeVar

import msgspec

from mmdaemon.clock import Clock, Timer
from mmdaemon.core.types import NS

T = TypeVar("T")

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


class Draws:
    """Numbers for one kind of decision. `draws.bits(n)` is the same for ever, whatever else was drawn."""

    __slots__ = ("_key",)

    def __init__(self, seed: int, kind: str) -> None:
        self._key = int.from_bytes(blake2b(f"{seed}/{kind}".encode(), digest_size=8).digest(), "little")

    def bits(self, ordinal: int) -> int:
        """64 bits."""
        z = (self._key + (ordinal + 1) * _GOLDEN) & _MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return z ^ (z >> 31)

    def below(self, ordinal: int, bound: int) -> int:
        """An integer in [0, bound); `bound` far below 2**64, so that the scaling is even."""
        return (self.bits(ordinal) * bound) >> 64

    def happens(self, ordinal: int, probability: float) -> bool:
        return probability > 0.0 and self.bits(ordinal) < probability * 18446744073709551616.0


class Delay(msgspec.Struct, frozen=True):
    """`base_s`, and up to `jitter_s` more, evenly spread."""

    base_s: float
    jitter_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.base_s < 3_600 and 0 <= self.jitter_s < 3_600):
            raise ValueError(f"a delay is 0 to 3,600 s, got base_s={self.base_s}, jitter_s={self.jitter_s}")

    @property
    def least_ns(self) -> int:
        return round(self.base_s * NS)


class DelayDraws:
    """The delays of one stream, one after the other."""

    __slots__ = ("_base_ns", "_draws", "_jitter_ns", "_ordinal")

    def __init__(self, delay: Delay, seed: int, kind: str) -> None:
        self._base_ns, self._jitter_ns = delay.least_ns, round(delay.jitter_s * NS)
        self._draws = Draws(seed, f"latency/{kind}")
        self._ordinal = 0

    def next_ns(self) -> int:
        if not self._jitter_ns:
            return self._base_ns
        self._ordinal += 1
        return self._base_ns + self._draws.below(self._ordinal, self._jitter_ns)


class Lane(Generic[T]):
    """One stream of messages: first in, first out, each when due or behind the one before it. One timer in all."""

    __slots__ = ("_act", "_armed", "_clock", "_due")

    def __init__(self, clock: Clock, act: Callable[[T], None]) -> None:
        self._clock, self._act = clock, act
        self._due: deque[tuple[int, T]] = deque()
        self._armed: Timer | None = None

    def put(self, due_mono_ns: int, item: T) -> None:
        """Queue a message, to come out at `due_mono_ns` or when those before it have."""
        self._due.append((due_mono_ns, item))
        if self._armed is None:
            self._armed = self._clock.call_at(due_mono_ns, self._fire)

    def clear(self) -> None:
        """What was on its way is lost."""
        self._due.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _fire(self) -> None:
        self._armed = None
        now = self._clock.mono_ns()
        due = self._due
        while due and due[0][0] <= now:
            self._act(due.popleft()[1])
        if due and self._armed is None:
            self._armed = self._clock.call_at(due[0][0], self._fire)
