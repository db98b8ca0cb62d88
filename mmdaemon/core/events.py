"""Everything that can come in. Each event is a fact with its times; the core learns of the world in no other way.

Every event opens with `mono_ns` (local monotonic receipt: ages, dwell, holds, decays), `ts_ns` (local wall clock, UTC:
days, comparison with the venue) and `venue_ts_ns` (the venue's own time, None where it gave none).
"""

from enum import StrEnum

import msgspec

from mmdaemon.core.types import (
    ExecKind,
    KillState,
    Link,
    Liquidity,
    OrderStatus,
    Purpose,
    Side,
)


class _Fact(msgspec.Struct, frozen=True, gc=False):
    mono_ns: int
    ts_ns: int
    venue_ts_ns: int | None


# --- market -----------------------------------------------------------------------------------------------------------


class BookUpdate(_Fact, frozen=True, tag=True, gc=False):
    """The top of the book as of now, best first. Not a difference: a book is conflated to its last state per step.

    Levels are `(px_ticks, qty_lots)`. It is not trusted: `core.book` checks it before anything is quoted from it.
    """

    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]


class TradePrint(_Fact, frozen=True, tag=True, gc=False):
    """Somebody traded. `aggressor` is the side that took, None where the feed does not say."""

    px_ticks: int
    qty_lots: int
    aggressor: Side | None


class FundingRate(_Fact, frozen=True, tag=True, gc=False):
    """Predicted rate for the settlement at `next_ts_ns` (UTC): a fraction of notional, positive = longs pay shorts."""

    rate: float
    next_ts_ns: int
    interval_s: int


class MarkPrice(_Fact, frozen=True, tag=True, gc=False):
    """The venue's mark, rounded by the codec to a tick, so that both sides of the PnL identity use one number."""

    px_ticks: int


class MarketDataRefused(_Fact, frozen=True, tag=True, gc=False):
    """The edge could not turn a message into a fact (not finite, off tick, wrong symbol, malformed): counted by
    reason."""

    reason: str


class BarClosed(_Fact, frozen=True, tag=True, gc=False):
    """A closed one-minute bar. `source` is "venue" or "mids"; the forming bar is never sent."""

    open_ts_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    qty_lots: int
    source: str


class SourceEnded(_Fact, frozen=True, tag=True, gc=False):
    """The tape is over. Nothing after it is a market."""


# --- private ----------------------------------------------------------------------------------------------------------


RATE_LIMITED = "rate_limit"
"""Why the venue refused a request that came too soon after others: it says nothing of the order, only of the pace."""
UNSENT = "unsent:"
"""Before why a request never left: our own pace, or a cancel of everything that went before it."""
NOT_SENT = ("gate:", UNSENT)
"""How reasons begin that say nothing of the order: nobody but us has seen it."""
DUPLICATE = "duplicate"
"""Why the venue refused an order whose client id it has seen: it says nothing of that order, which may be this one."""


class OrderUpdate(_Fact, frozen=True, tag=True, gc=False):
    """What the venue, or the lack of an answer from it, says of one order.

    `cum_filled_lots` is None where it does not say; `px_ticks`, `qty_lots` and `revision` are those now in force at the
    venue (None where it does not say). A time-out is `status=UNKNOWN`.
    """

    client_id: str
    status: OrderStatus
    cum_filled_lots: int | None
    px_ticks: int | None
    qty_lots: int | None
    revision: int | None
    reason: str
    """Empty, or why: "post_only", "timeout", "gate:closed", "margin", "cancelled", ... Each venue's own words for too
    many requests and for an id that it has seen are handed on as `RATE_LIMITED` and `DUPLICATE`."""

    @property
    def word(self) -> OrderStatus:
        """What it says of the order, to the books and to the journal alike. A refusal as a duplicate is UNKNOWN: no id
        is used twice here, so a copy of the same request came first (the network doubled it), and that may rest."""
        if self.status is OrderStatus.REJECTED and self.reason == DUPLICATE:
            return OrderStatus.UNKNOWN
        return self.status


class RequestFailed(_Fact, frozen=True, tag=True, gc=False):
    """A cancel or an amend did not take, and the venue said so. The order itself lives on as it was."""

    client_id: str
    request: str
    """"cancel" or "amend"."""
    reason: str
    revision: int | None = None
    """Of an amend: the one that was refused. A late refusal of an earlier one says nothing of the one in flight."""


class OrderAdopted(_Fact, frozen=True, tag=True, gc=False):
    """An order of ours that no decision made: found at start, or sent by the kill switch through its own lane."""

    client_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    cum_filled_lots: int
    purpose: Purpose
    reduce_only: bool
    status: OrderStatus


class Fill(_Fact, frozen=True, tag=True, gc=False):
    """A trade of ours, unique by `trade_id`. `fee_e10` is what was charged: negative is a rebate."""

    trade_id: str
    client_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    fee_e10: int
    liquidity: Liquidity
    exec_kind: ExecKind


class BillKind(StrEnum):
    FUNDING = "funding"
    TRANSFER = "transfer"
    FEE = "fee"


class Bill(_Fact, frozen=True, tag=True, gc=False):
    """A line of the venue's ledger, unique by `bill_id`. Positive is received.

    A FEE is one that no fill carries (the rest of a liquidation, say): the codec never hands over the fee of a fill as
    a bill, or it would be booked twice.
    """

    bill_id: str
    kind: BillKind
    amount_e10: int


class FeeSchedule(_Fact, frozen=True, tag=True, gc=False):
    """The account's own rates, a fraction of notional; a rebate is negative. `source` says where they were read."""

    maker_rate: float
    taker_rate: float
    source: str


class AccountSnapshot(_Fact, frozen=True, tag=True, gc=False):
    """The venue's own account of us. Built from a venue's answer only, never from our state.

    Here `venue_ts_ns` is mandatory: history is read from it on, and an account without it is refused."""

    position_lots: int
    wallet_e10: int
    """Balance with everything realised in it: fees, funding and transfers included."""
    unrealised_e10: int
    available_margin_e10: int
    mark_px_ticks: int

    @property
    def equity_e10(self) -> int:
        return self.wallet_e10 + self.unrealised_e10


class AccountHint(_Fact, frozen=True, tag=True, gc=False):
    """The private stream says that the account is so. Nothing is booked from it: what does not agree with the books, or
    with what was read, is a reason to read now (`daemon/hints.py`). None or empty: it does not say."""

    position_lots: int | None = None
    wallet_e10: int | None = None
    """As in `AccountSnapshot`, but for a constant: only how it moves is looked at."""
    leverage: float | None = None
    margin_mode: str = ""
    position_mode: str = ""
    """The three as in `venues.base.AccountFacts`."""


class LinkChanged(_Fact, frozen=True, tag=True, gc=False):
    """A stream came up or went down."""

    link: Link
    up: bool


# --- the daemon's own facts -------------------------------------------------------------------------------------------


class Started(_Fact, frozen=True, tag=True, gc=False):
    """The journal was read and the latch is known. The first event of every run."""

    run_epoch: int
    latched: bool


class Found(msgspec.Struct, frozen=True, gc=False):
    """One break, as found. The kinds, with owners and limits, are the table in `daemon/breaks.py`."""

    name: str
    owner: str
    hard: bool
    """Quoting is off while it is open."""
    detail: str


class Reconciled(_Fact, frozen=True, tag=True):
    """Venue truth was read and compared. `breaks` says what does not agree; empty is clean. `venue_ts_ns` is when the
    round began, by the venue's clock: if it is clean, what is older is booked."""

    scope: str
    """"start", "gap", "resume", "operator", "hint" (of the stream) or "periodic"; "doubt" is a first difference after a
    gap, no whole round."""
    breaks: tuple[str, ...]
    """Hard ones alone: "name: detail"."""
    position_lots: int
    """The position as the venue gave it, in the answer that was compared."""
    found: tuple[Found, ...] = ()
    """Every open break, soft ones too."""
    mending: bool = False
    """The daemon is still mending what it may: this does not count towards the halt yet."""


class TimerFired(_Fact, frozen=True, tag=True, gc=False):
    """A cadence. Whatever depends on time is sampled here and nowhere else."""

    name: str


class HealthFacts(_Fact, frozen=True, tag=True, gc=False):
    """What the guard actor measured. None is "not measured", which is not "fine"."""

    loop_lag_s: float | None
    clock_offset_s: float | None
    journal_age_s: float | None
    """Age of the oldest row handed to the journal that is not yet durable; 0 when none waits."""
    journal_failed: bool
    account_facts_ok: bool | None
    unprotected_s: float
    """How long the venue has lacked what it is to do should nobody be here: the stop of a position, the countdown."""
    account_detail: str = ""
    """What of the account is not as configured, or was not read; empty while all is well."""


class TaskDied(_Fact, frozen=True, tag=True, gc=False):
    """A coroutine of the daemon ended that never should."""

    task: str
    error: str


class OperatorAction(_Fact, frozen=True, tag=True, gc=False):
    """Pause, resume or kill, by a person. `resume` comes here only after a clean reconcile."""

    action: str
    reason: str
    who: str


class KillChanged(_Fact, frozen=True, tag=True, gc=False):
    """The kill switch moved."""

    state: KillState
    reason: str


class SignalReceived(_Fact, frozen=True, tag=True, gc=False):
    """Somebody outside says something of the market or of what to do. Not trusted: `core.signals` judges it."""

    source: str
    kind: str
    """One of `signals.Kind`, if it is."""
    value: float | str
    confidence: float
    """0 to 1."""
    said_ts_ns: int
    """When its source said it, UTC by the source's clock."""
    ttl_s: float
    """So long it holds, from then on."""
    sequence: int
    version: int
    restored: bool = False
    """It was taken before a restart, and holds on: how long ago it was said is no fault of it."""


class SignalRefused(_Fact, frozen=True, tag=True, gc=False):
    """What the door did not let in: it could not be read, or too many came. Counted."""

    source: str
    """Empty where it is not known."""
    reason: str
    count: int


class SourceChanged(_Fact, frozen=True, tag=True, gc=False):
    """A source of signals was switched off, or on again: a model that failed, say."""

    source: str
    on: bool
    why: str


class StopRequested(_Fact, frozen=True, tag=True, gc=False):
    """The process was asked to end (SIGTERM, the end of a script)."""

    reason: str


MarketEvent = BookUpdate | TradePrint | FundingRate | MarkPrice | MarketDataRefused | SourceEnded
Event = (
    BookUpdate
    | TradePrint
    | FundingRate
    | MarkPrice
    | MarketDataRefused
    | BarClosed
    | SourceEnded
    | OrderUpdate
    | RequestFailed
    | OrderAdopted
    | Fill
    | Bill
    | FeeSchedule
    | AccountSnapshot
    | AccountHint
    | LinkChanged
    | Started
    | Reconciled
    | TimerFired
    | HealthFacts
    | TaskDied
    | OperatorAction
    | KillChanged
    | SignalReceived
    | SignalRefused
    | SourceChanged
    | StopRequested
)
