"""What goes wrong, when. Decided by (seed, kind, ordinal) alone, so that taking one fault away moves no other.

Two sorts. A request, a read or a message of the private stream has a fate of its own: lost on the way, answered in
vain, delivered late or twice. Links, reads, rate limits and books are bad for a window of time; windows are drawn
minute by minute, or scripted.
"""

from collections.abc import Iterator
from enum import StrEnum

import msgspec

from mmdaemon.core.events import Event, Fill, OrderUpdate
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
    REQUEST_TWICE = "request_twice"
    """The network delivers it twice. The answer to the second copy comes, that to the first so long after it, or never
    (0)."""
    REFUSED = "refused"
    """The venue takes no order and no amend of it, and does not say why: one of several sent together, say."""
    READ_FAILS = "read_fails"
    # the next message of the private stream
    STREAM_LOST = "stream_lost"
    """It never comes, and the stream says nothing of it."""
    STREAM_AGAIN = "stream_again"
    """It comes, and once more up to forty minutes later."""
    STREAM_LATE = "stream_late"
    """It comes later than those that were sent after it."""
    STREAM_VAGUE = "stream_vague"
    """An order's: it does not say how much has filled."""
    FILL_LATE = "fill_late"
    """A fill's: it comes minutes later than that of its order."""
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


_OF_REQUESTS = (
    FaultKind.REQUEST_LOST,
    FaultKind.ACK_LOST,
    FaultKind.LATE,
    FaultKind.REQUEST_TWICE,
    FaultKind.REFUSED,
)
_OF_MESSAGES = (
    FaultKind.STREAM_LOST,
    FaultKind.STREAM_AGAIN,
    FaultKind.STREAM_LATE,
    FaultKind.STREAM_VAGUE,
    FaultKind.FILL_LATE,
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
    request_twice: float = 0.0
    twice_max_s: float = 2.0
    refused: float = 0.0
    read_fails: float = 0.0
    stream_lost: float = 0.0
    stream_again: float = 0.0
    stream_again_max_s: float = 2_400.0
    stream_late: float = 0.0
    stream_late_max_s: float = 2.0
    stream_vague: float = 0.0
    fill_late: float = 0.0
    fill_late_max_s: float = 300.0
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
    twice: bool = False
    first_ns: int = 0
    """Of one that comes twice: how long after the second answer the first is told; 0: never."""
    refused: bool = False


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
    vague: bool = False


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
        self._stream_good = not any(getattr(rates, kind) for kind in _OF_MESSAGES)
        self._good = not any(getattr(rates, kind) for kind in (*_OF_REQUESTS, FaultKind.READ_FAILS))
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
        forced = self._forced(_OF_REQUESTS)
        if forced is not None:
            kind, ns = forced
            return Fate(
                arrives=kind is not FaultKind.REQUEST_LOST,
                answered=kind is not FaultKind.ACK_LOST,
                late_ns=ns if kind is FaultKind.LATE else 0,
                twice=kind is FaultKind.REQUEST_TWICE,
                first_ns=ns if kind is FaultKind.REQUEST_TWICE else 0,
                refused=kind is FaultKind.REFUSED,
            )
        rates = self._rates
        late_ns = self._length(FaultKind.LATE, ordinal, rates.late, rates.late_max_s)
        lost = self._happens(FaultKind.REQUEST_LOST, ordinal, rates.request_lost)
        first_ns = self._length(FaultKind.REQUEST_TWICE, ordinal, rates.request_twice, rates.twice_max_s)
        return Fate(
            arrives=not lost,
            answered=not self._happens(FaultKind.ACK_LOST, ordinal, rates.ack_lost),
            late_ns=late_ns,
            twice=first_ns > 0,
            first_ns=first_ns,
            refused=self._happens(FaultKind.REFUSED, ordinal, rates.refused),
        )

    def stream(self, ordinal: int, event: Event) -> StreamFate:
        if self._stream_good and not self._next:
            return STREAM_FINE
        of_any = (FaultKind.STREAM_LOST, FaultKind.STREAM_AGAIN, FaultKind.STREAM_LATE)
        is_fill, is_order = type(event) is Fill, type(event) is OrderUpdate
        own = (FaultKind.FILL_LATE,) if is_fill else (FaultKind.STREAM_VAGUE,) if is_order else ()
        forced = self._forced((*of_any, *own))
        if forced is not None:
            kind, ns = forced
            late_ns = ns if kind in (FaultKind.STREAM_LATE, FaultKind.FILL_LATE) else 0
            again_ns = ns if kind is FaultKind.STREAM_AGAIN else 0
            return StreamFate(kind is not FaultKind.STREAM_LOST, late_ns, again_ns, kind is FaultKind.STREAM_VAGUE)
        rates = self._rates
        lost = self._happens(FaultKind.STREAM_LOST, ordinal, rates.stream_lost)
        late_ns = self._length(FaultKind.STREAM_LATE, ordinal, rates.stream_late, rates.stream_late_max_s)
        if is_fill:
            late_ns += self._length(FaultKind.FILL_LATE, ordinal, rates.fill_late, rates.fill_late_max_s)
        return StreamFate(
            not lost,
            late_ns,
            self._length(FaultKind.STREAM_AGAIN, ordinal, rates.stream_again, rates.stream_again_max_s),
            is_order and self._happens(FaultKind.STREAM_VAGUE, ordinal, rates.stream_vague),
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
