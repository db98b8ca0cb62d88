"""What a recording is made of, whatever file it came from. Every reader yields these, every writer takes them.

Times are as recorded: `venue_ts_ns` is the exchange's UTC, `local_ts_ns` the recording machine's. Corrections are facts
of the recording (`Facts`) and are applied when it is played, so that converting a file loses nothing.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Protocol

import msgspec

from mmdaemon.core.types import Instrument, Side
from mmdaemon.tapes.rows import Refusals

Levels = tuple[tuple[int, int], ...]
"""`(px_ticks, qty_lots)` in the order of the file. In a SNAPSHOT best first, and no level is empty."""


class DepthKind(StrEnum):
    """What a message about the book says of the levels that it does not name."""

    SNAPSHOT = "snapshot"
    """There are none: the book is these levels."""
    DELTA = "delta"
    """They are as before. A level of 0 lots is gone."""
    TOUCH = "touch"
    """One level a side, the best: nothing is better. Deeper ones are as before. A side that is not told is empty."""


class Depth(msgspec.Struct, frozen=True, gc=False):
    """One message about the book, one row of the tape."""

    venue_ts_ns: int
    local_ts_ns: int
    kind: DepthKind
    bids: Levels
    asks: Levels
    asks_first: bool = False
    """In the file the asks came first. Says nothing of the book; kept so that a file can be written again as it was."""
    more: bool = False
    """The message goes on in the next record, and only then is the book whole."""


class Trade(msgspec.Struct, frozen=True, gc=False):
    """A print. `aggressor` is None where the recording does not say, or says what cannot be true."""

    venue_ts_ns: int
    local_ts_ns: int
    px_ticks: int
    qty_lots: int
    aggressor: Side | None
    trade_id: str = ""


class Ticker(msgspec.Struct, frozen=True, gc=False):
    """Funding and mark. Decimals are text as written, because they are not multiples of anything; empty is not said."""

    venue_ts_ns: int
    local_ts_ns: int
    funding_ts_ns: int | None = None
    """When the next settlement is."""
    funding_rate: str = ""
    predicted_rate: str = ""
    open_interest: str = ""
    last_px: str = ""
    index_px: str = ""
    mark_px: str = ""


Record = Depth | Trade | Ticker


_CORRECTION = msgspec.Meta(gt=-(10**18), lt=10**18)
"""Some 31 years: what is more is damage, and would carry a time out of 64 bits."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of a recording to trade on it, and where each of it comes from."""

    instrument: Instrument
    steps_from: str
    """Where tick and lot come from: "stated by the venue", "inferred: ...", "given"."""
    minimum_from: str
    """Where the smallest order comes from."""
    clock_shift_ns: Annotated[int, _CORRECTION] = 0
    """Added to every `local_ts_ns`: what the recorder's clock was behind the exchange's."""
    clock_from: str = "as recorded, not corrected"
    book_lag_ns: Annotated[int, _CORRECTION] = 0
    """Taken from the `venue_ts_ns` of every `Depth`: by how much books are stamped later than the trades they show."""
    lag_from: str = "none corrected"
    book_step_ticks: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Prices of a book are written rounded down to multiples of this; prints are not. 1: they are as they were."""
    funding_interval_s: Annotated[int, msgspec.Meta(ge=1)] = 28_800
    provenance: dict[str, str] = {}
    """What else a report prints first, in order."""


class Recording(Protocol):
    """A recording that was opened. Opening refuses what cannot be used at all (TapeError, with file and row).

    `records()` plays from the start at each call, lazily, in the order of corrected venue time (`venue_ts_ns`, of a
    `Depth` less `book_lag_ns`), which never falls. It raises TapeError where the file breaks off: half a recording is
    no result. Rows that cannot be used are dropped and counted in `refusals` (of the latest playing so far).
    """

    @property
    def facts(self) -> Facts: ...
    @property
    def start_ts_ns(self) -> int:
        """Corrected venue time of the first record."""
        ...

    @property
    def end_ts_ns(self) -> int | None:
        """That of the last one, None where it is not known before the end is reached."""
        ...

    @property
    def refusals(self) -> Refusals: ...
    def records(self) -> Iterator[Record]: ...
