"""What goes wrong, when. Decided by (seed, kind, ordinal) alone, so that taking one fault away moves no other.

Two sorts. A request, a read or a message of the private stream has a fate of its own: lost on the way, answered in
vain, delivered late or twice. Links, reads, rate limits and books are bad for a window of time; windows are drawn
minute by minute, or scripted.
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
    # the next message of the private stream
    STREAM_LOST = "stream_lost"
    """It never comes, and the stream says nothing of it."""
    STREAM_AGAIN = "stream_again"
    """It comes, and once more up to forty minutes later."""
    STREAM_LATE = "stream_late"
    """It comes later than those that were sent after it."""
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
    BOOK_CROSSED = "book_crossed"
    BOOK_ONE_SIDED = "book_one_sided"
    BOOK_ABSURD = "book_absurd"
    """Half as high again as the market, all of it."""


WINDOWS = (
    FaultKind.PRIVATE_DOWN,
    FaultKind.PUBLIC_DOWN,
    FaultKind.REST_DOWN,
    FaultKind.READS_FAIL,
    FaultKind.RATE_STORM,
    FaultKind.BOOK_SILENT,
    FaultKind.BOOK_FROZEN,
    FaultKind.BOOK_CROSSED,
    FaultKind.BOOK_ONE_SIDED,
    FaultKind.BOOK_ABSURD,
)
SPOILED = (FaultKind.BOOK_CROSSED, FaultKind.BOOK_ONE_SIDED, FaultKind.BOOK_ABSURD)
Levels = tuple[tuple[int, int], ...]


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
    stream_lost: float = 0.0
    stream_again: float = 0.0
    stream_again_max_s: float = 2_400.0
    stream_late: float = 0.0
    stream_late_max_s: float = 2.0
    private_down: float = 0.0
    public_down: float = 0.0
    rest_down: float = 0.0
    reads_fail: float = 0.0
    rate_storm: float = 0.0
    book_silent: float = 0.0
    book_frozen: float = 0.0
    book_crossed: float = 0.0
    book_one_sided: float = 0.0
    book_absurd: float = 0.0
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


def spoil(kind: FaultKind, bids: Levels, asks: Levels) -> tuple[Levels, Levels]:
    """A book as a fault makes it arrive."""
    if kind is FaultKind.BOOK_ONE_SIDED:
        return bids, ()
    if kind is FaultKind.BOOK_CROSSED:
        gap = asks[0][0] - bids[0][0] + 5 if bids and asks else 0
        return tuple((px + gap, qty) for px, qty in bids), asks
    return tuple((px * 3 // 2, qty) for px, qty in bids), tuple((px * 3 // 2, qty) for px, qty in asks)


class StreamFate(msgspec.Struct, frozen=True):
    """What becomes of one message of the private stream."""

    comes: bool = True
    late_ns: int = 0
    again_ns: int = 0
    """After how long it comes once more; 0: it does not."""


STREAM_FINE = StreamFate()


class FaultPlan:
    """Seeded rates, with fates that a script may force on whatever comes next."""

    def __init__(
        self, seed: int, rates: FaultRates, only: frozenset[tuple[str, int]] | None = None, *, calm: bool = False
    ) -> None:
        """`only`: nothing but these fates, as (kind, ordinal of the request or read), whatever the rates say."""
        self._rates = rates
        self._only = only
        self.calm = calm
        """While it is, requests and reads have no fate but a forced one."""
        self.drawn: list[tuple[FaultKind, int]] = []
        """The fates of requests and reads so far, forced ones left out: what `only` takes."""
        self._draws = {kind: Draws(seed, f"fault/{kind}") for kind in FaultKind}
        self._lengths = {kind: Draws(seed, f"fault/{kind}/length") for kind in FaultKind}
        self._next: list[tuple[FaultKind, int]] = []
        self._stream_good = not (rates.stream_lost or rates.stream_again or rates.stream_late)
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
        if self.calm:
            return False
        if self._only is not None:
            happens = (kind.value, ordinal) in self._only
        else:
            happens = self._draws[kind].happens(ordinal, probability)
        if happens:
            self.seen[kind] += 1
            self.drawn.append((kind, ordinal))
        return happens

    def request(self, ordinal: int) -> Fate:
        if self._good and not self._next:
            return FINE
        forced = self._forced((FaultKind.REQUEST_LOST, FaultKind.ACK_LOST, FaultKind.LATE))
        if forced is not None:
            kind, late_ns = forced
            return Fate(kind is not FaultKind.REQUEST_LOST, kind is not FaultKind.ACK_LOST, late_ns)
        rates = self._rates
        late_ns = self._length(FaultKind.LATE, ordinal, rates.late, rates.late_max_s)
        lost = self._happens(FaultKind.REQUEST_LOST, ordinal, rates.request_lost)
        return Fate(not lost, not self._happens(FaultKind.ACK_LOST, ordinal, rates.ack_lost), late_ns)

    def stream(self, ordinal: int) -> StreamFate:
        if self._stream_good and not self._next:
            return STREAM_FINE
        forced = self._forced((FaultKind.STREAM_LOST, FaultKind.STREAM_AGAIN, FaultKind.STREAM_LATE))
        if forced is not None:
            kind, ns = forced
            late_ns = ns if kind is FaultKind.STREAM_LATE else 0
            return StreamFate(kind is not FaultKind.STREAM_LOST, late_ns, ns if kind is FaultKind.STREAM_AGAIN else 0)
        rates = self._rates
        lost = self._happens(FaultKind.STREAM_LOST, ordinal, rates.stream_lost)
        late_ns = self._length(FaultKind.STREAM_LATE, ordinal, rates.stream_late, rates.stream_late_max_s)
        return StreamFate(
            not lost,
            late_ns,
            self._length(FaultKind.STREAM_AGAIN, ordinal, rates.stream_again, rates.stream_again_max_s),
        )

    def _length(self, kind: FaultKind, ordinal: int, probability: float, most_s: float) -> int:
        """How long, where it happens; else 0."""
        if not self._happens(kind, ordinal, probability):
            return 0
        return 1 + self._lengths[kind].below(ordinal, max(1, round(most_s * NS)))

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
