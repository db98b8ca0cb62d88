"""What goes wrong, when. Decided by (seed, kind, ordinal) alone, so that taking one fault away moves no other.

Two sorts. A request has a fate of its own: lost on the way, answered in vain, delivered late; a read fails. Links,
reads, rate limits and books are bad for a window of time; windows are drawn minute by minute, or scripted.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from mmdaemon.core.types import NS
from mmdaemon.venues.simulated.latency import Draws


class FaultKind(StrEnum):
    # the next request or read
    REQUEST_LOST = "request_lost"
    """It never arrives. The client sees a time-out."""
    ACK_LOST = "ack_lost"
    """It arrives and is worked on; the answer does not come. The client sees the same time-out."""
    LATE = "late"
    """It arrives after the time of the window, whatever the client believes by then, and out of order."""
    READ_FAILS = "read_fails"
    # for a time
    PRIVATE_DOWN = "private_down"
    PUBLIC_DOWN = "public_down"
    REST_DOWN = "rest_down"
    """No request, no read and no answer gets through."""
    READS_FAIL = "reads_fail"
    """The venue answers reads with an error. Requests pass."""
    RATE_STORM = "rate_storm"
    """Every request and read is over the limit."""
    BOOK_SILENT = "book_silent"
    """No book comes; trades do, and the link is up."""
    BOOK_FROZEN = "book_frozen"
    """Books come with fresh times and old content."""


WINDOWS = (
    FaultKind.PRIVATE_DOWN,
    FaultKind.PUBLIC_DOWN,
    FaultKind.REST_DOWN,
    FaultKind.READS_FAIL,
    FaultKind.RATE_STORM,
    FaultKind.BOOK_SILENT,
    FaultKind.BOOK_FROZEN,
)


class ScriptedFault(msgspec.Struct, frozen=True):
    """A window of `seconds` from `after_s` on; of a request's fates, the next request after `after_s` has it."""

    after_s: float
    kind: FaultKind
    seconds: float = 0.0


class FaultRates(msgspec.Struct, frozen=True, kw_only=True):
    """Probabilities for each request or read, and for each minute that a window opens in it. All zero: a good day."""

    request_lost: float = 0.0
    ack_lost: float = 0.0
    late: float = 0.0
    late_max_s: float = 2.0
    read_fails: float = 0.0
    private_down: float = 0.0
    public_down: float = 0.0
    rest_down: float = 0.0
    reads_fail: float = 0.0
    rate_storm: float = 0.0
    book_silent: float = 0.0
    book_frozen: float = 0.0
    window_max_s: float = 20.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            most = 3_600 if name.endswith("_max_s") else 1
            if not 0 <= value <= most:
                raise ValueError(f"fault rate {name} must be between 0 and {most}, got {value}")

    @property
    def has_windows(self) -> bool:
        return any(getattr(self, kind.value) > 0 for kind in WINDOWS)


class Fate(msgspec.Struct, frozen=True):
    """What becomes of one request."""

    arrives: bool = True
    answered: bool = True
    late_ns: int = 0


FINE = Fate()


class FaultPlan:
    """Seeded rates, with fates that a script may force on whatever comes next."""

    def __init__(self, seed: int, rates: FaultRates) -> None:
        self._rates = rates
        self._draws = {kind: Draws(seed, f"fault/{kind}") for kind in FaultKind}
        self._lengths = {kind: Draws(seed, f"fault/{kind}/length") for kind in FaultKind}
        self._next: list[tuple[FaultKind, int]] = []
        self._good = not (rates.request_lost or rates.ack_lost or rates.late or rates.read_fails)
        self.seen: dict[FaultKind, int] = dict.fromkeys(FaultKind, 0)
        """How often each fault was injected."""

    def force(self, kind: FaultKind, late_ns: int = 0) -> None:
        """The next request (for READ_FAILS: the next read) has this fate."""
        self._next.append((kind, late_ns))

    def _forced(self, kinds: tuple[FaultKind, ...]) -> tuple[FaultKind, int] | None:
        for at, (kind, late_ns) in enumerate(self._next):
            if kind in kinds:
                del self._next[at]
                self.seen[kind] += 1
                return kind, late_ns
        return None

    def _happens(self, kind: FaultKind, ordinal: int, probability: float) -> bool:
        happens = self._draws[kind].happens(ordinal, probability)
        self.seen[kind] += happens
        return happens

    def request(self, ordinal: int) -> Fate:
        if self._good and not self._next:
            return FINE
        forced = self._forced((FaultKind.REQUEST_LOST, FaultKind.ACK_LOST, FaultKind.LATE))
        if forced is not None:
            kind, late_ns = forced
            return Fate(kind is not FaultKind.REQUEST_LOST, kind is not FaultKind.ACK_LOST, late_ns)
        rates = self._rates
        late_ns = 0
        if self._happens(FaultKind.LATE, ordinal, rates.late):
            late_ns = 1 + self._lengths[FaultKind.LATE].below(ordinal, max(1, round(rates.late_max_s * NS)))
        lost = self._happens(FaultKind.REQUEST_LOST, ordinal, rates.request_lost)
        return Fate(not lost, not self._happens(FaultKind.ACK_LOST, ordinal, rates.ack_lost), late_ns)

    def read_fails(self, ordinal: int) -> bool:
        if self._good and not self._next:
            return False
        if self._forced((FaultKind.READ_FAILS,)) is not None:
            return True
        return self._happens(FaultKind.READ_FAILS, ordinal, self._rates.read_fails)

    def windows(self, minute: int) -> Iterator[tuple[int, FaultKind, int]]:
        """Windows that open in this minute of the run: (offset_ns, kind, length_ns)."""
        for kind in WINDOWS:
            if self._draws[kind].happens(minute, getattr(self._rates, kind.value)):
                offset_ns = self._lengths[kind].below(2 * minute, 60 * NS)
                length_ns = 1 + self._lengths[kind].below(2 * minute + 1, max(1, round(self._rates.window_max_s * NS)))
                yield offset_ns, kind, length_ns
