"""What the adapter asks of one of Bitget's two APIs, and the words they share.

A *request* is an endpoint with its parameters; nothing is sent by making one. `lanes.Lanes` sends it and either
returns the venue's `Answer` or raises one of three, which must never be taken for each other:

    Unsent       it never left this process (no budget, closed): nothing happened at the venue
    Refused      the venue answered, and said no. `meaning` says what that proves
    Unanswered   anything else (time-out, reset, 5xx, HTML, unreadable): it may have happened
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, Literal, Protocol

import msgspec

from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.events import AccountSnapshot, BarClosed, Bill, FeeSchedule, Fill, FundingRate, MarkPrice
from mmdaemon.core.types import Instrument
from mmdaemon.venues.base import Absent, AccountFacts, Cursor, OrderReport, PositionStop


class Meaning(StrEnum):
    """What a refusal proves."""

    RATE_LIMIT = "rate_limit"
    """Too many requests: not worked on."""
    NOT_FOUND = "not_found"
    """No such order (open), now."""
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    """Of a cancel-all: success."""
    MARGIN = "margin"
    REFUSED = "refused"
    """A rule of the venue's (size, price, scale, reduce-only, post-only): certain, the order is not."""
    AUTH = "auth"
    """Key, passphrase, signature, address or environment: certain, nothing was done."""
    CLOCK = "clock"
    """Our time lies outside the venue's window: certain, nothing was done."""
    WRONG_API = "wrong_api"
    """The account has the other API."""
    MAINTENANCE = "maintenance"
    UNKNOWN = "unknown"
    """Ambiguous ("service error"), a duplicate id, or a code that nobody knows: it may have happened."""


NOT_GRANTED: Final = frozenset({Meaning.AUTH, Meaning.REFUSED})
"""Of the countdown: this account has none, and is not asked again. Anything else proves no such thing."""


class Unsent(Exception):
    """It never left this process; says why."""


class Unanswered(Exception):
    """Sent, and no answer that says what became of it; says why ("timeout", "disconnected", "http_502", ...)."""


class Refused(Exception):
    """The venue said no."""

    def __init__(self, meaning: Meaning, code: str) -> None:
        super().__init__(f"{meaning}:{code}")
        self.meaning, self.code = meaning, code


class Endpoint(msgspec.Struct, frozen=True):
    """One path of the venue's REST API, and how often it may be asked."""

    method: Literal["GET", "POST"]
    path: str
    """From "/api/" on."""
    per_s: float
    burst: int
    signed: bool = True
    lane: Literal["order", "cancel", "other"] = "other"
    """What may be done about a budget that is spent: an order that would wait is not sent, a cancel waits."""


class Request(msgspec.Struct, frozen=True):
    """`params` is the query of a GET, or the JSON body of a POST (the unified API's batches are bare lists)."""

    endpoint: Endpoint
    params: Mapping[str, str] | Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Answer(msgspec.Struct, frozen=True):
    """The envelope of a success. `data` is as the venue sent it, `null` included."""

    data: msgspec.Raw
    venue_ts_ns: int
    """`requestTime` of the envelope: the venue's clock."""


class Sends(Protocol):
    """What sends requests: `lanes.Lanes`, or a test."""

    async def ask(self, request: Request) -> Answer:
        """Send and wait for the answer.

        Raises:
            Unsent, Refused, Unanswered: see above.
        """
        ...


class Api(Protocol):
    """One of the two. Requests are made; reads are sent through `Sends` and raise `VenueUnavailable` when any part of
    what was asked did not come, or cannot be read."""

    name: Literal["classic", "unified"]
    can_amend: bool
    has_dead_man: bool
    fees_in: set[str]
    """What fees were paid in beside the quote currency: whoever sees one adds it, and the facts say so."""

    # --- requests that change something -------------------------------------------------------------------------------
    def place(self, command: Place) -> Request: ...
    def place_batch(self, commands: Sequence[Place]) -> Request:
        """At most `BATCH_MAX`."""
        ...

    def batch_refusals(self, answer: Answer, client_ids: Sequence[str]) -> Mapping[str, Refused | Unsent | None]:
        """What became of each order of a batch: None is taken. An id that the answer does not name is missing here, and
        so of unknown fate."""
        ...

    def amend(self, command: Amend) -> Request: ...
    def cancel(self, client_id: str) -> Request:
        """By our id; an id `venue:...` is the venue's own."""
        ...

    def cancel_all(self) -> Request: ...
    def dead_man(self, seconds: int) -> Request: ...

    # --- reads --------------------------------------------------------------------------------------------------------
    async def order(self, sends: Sends, client_id: str) -> OrderReport | Absent: ...
    async def open_orders(self, sends: Sends) -> list[OrderReport]: ...
    async def fills(self, sends: Sends, since: Cursor) -> list[Fill]: ...
    async def bills(self, sends: Sends, since: Cursor) -> list[Bill]: ...
    async def snapshot(self, sends: Sends) -> AccountSnapshot: ...
    async def facts(self, sends: Sends, clock_offset_s: float) -> AccountFacts: ...
    async def fees(self, sends: Sends) -> FeeSchedule: ...
    async def candles(self, sends: Sends, n: int) -> list[BarClosed]: ...
    async def funding(self, sends: Sends) -> FundingRate: ...
    async def mark(self, sends: Sends) -> MarkPrice: ...
    async def instrument(self, sends: Sends) -> Instrument: ...
    async def protect(self, sends: Sends, stop: PositionStop | None) -> None:
        """The venue keeps this stop for the whole position, and no other of ours."""
        ...


BATCH_MAX: Final = 20
