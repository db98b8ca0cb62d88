"""Rows: what the core knows, as tuples for a named statement. Nothing here touches a database.

Builders take core facts and return rows. All raise `ValueRefused`, naming table and column, for what cannot be kept.
"""

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum
from math import isfinite
from typing import Final

import msgspec

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import Bill, Fill, OperatorAction, OrderAdopted, OrderUpdate, Reconciled, RequestFailed
from mmdaemon.core.markout import Markout
from mmdaemon.core.signals import Outcome
from mmdaemon.core.types import E10, GuardState, Instrument, KillState, OrderStatus, Regime
from mmdaemon.journal.statements import Row, Statement, ValueRefused, row

DECISION_MAX_BYTES = 4096
"""Inputs and decision together. A decision that needs more carries something that is no input."""
CHAIN_BYTES = 16


def money_text(amount_e10: int) -> str:
    """Exact decimal text of money in 1e-10: "-0.25", "3". For venues that give no text of their own."""
    whole, rest = divmod(abs(amount_e10), E10)
    sign = "-" if amount_e10 < 0 else ""
    return f"{sign}{whole}.{rest:010d}".rstrip("0").rstrip(".")


def _json(what: object) -> str:
    return msgspec.json.encode(what, order="deterministic").decode()


# --- runs -------------------------------------------------------------------------------------------------------------


class RunStart(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run before it begins."""

    venue: str
    symbol: str
    version: str
    config_hash: str
    mode: str
    durability: str
    """"power" or "process"."""
    fresh_account: bool
    """The account is new with this run (a simulated venue in process), so nothing journaled before belongs to it."""
    provenance: Mapping[str, str] = {}


def run_started_row(
    epoch: int, account_epoch: int, after_clean: bool, start: RunStart, mono_ns: int, ts_ns: int
) -> Row:
    return row(
        Statement.RUN_STARTED,
        epoch,
        account_epoch,
        int(after_clean),
        start.version,
        start.config_hash,
        start.mode,
        start.durability,
        _json(dict(start.provenance)),
        mono_ns,
        ts_ns,
    )


def provenance_row(epoch: int, provenance: Mapping[str, str]) -> Row:
    """Where the market comes from, as the venue says: once it is open, and at the end, when all is known."""
    return row(Statement.RUN_PROVENANCE, _json(dict(provenance)), epoch)


NOT_STARTED: Final = "not started: "
"""Opens the end reason of a run that the venue did not let in: it sent nothing, and counts as no crash."""


def run_ended_row(epoch: int, mono_ns: int, ts_ns: int, clean: bool, reason: str) -> Row:
    """Clean means: nothing of ours rests at the venue, and everything is journaled."""
    return row(Statement.RUN_ENDED, mono_ns, ts_ns, int(clean), reason, epoch)


def account_opened_row(epoch: int, start_e10: int) -> Row:
    """Equity from which PnL is counted. Kept from the first time; later ones change nothing."""
    return row(Statement.ACCOUNT_OPENED, start_e10, epoch)


def parameters_row(epoch: int, params: bytes) -> Row:
    return row(Statement.PARAMETERS, epoch, params)


def digest_row(epoch: int, digest: bytes, events: int, chain: "DecisionChain") -> Row:
    return row(Statement.DIGEST, epoch, digest, events, chain.decisions, chain.link)


def instrument_row(instrument: Instrument, ts_ns: int) -> Row:
    return row(
        Statement.INSTRUMENT,
        instrument.venue,
        instrument.symbol,
        instrument.version,
        instrument.quote,
        instrument.tick_e10,
        instrument.lot_e10,
        instrument.unit_e10,
        instrument.min_qty_lots,
        instrument.max_qty_lots,
        instrument.min_notional_e10,
        ts_ns,
    )


# --- orders -----------------------------------------------------------------------------------------------------------


def intent_rows(epoch: int, seq: int, command: Command, ts_ns: int) -> list[Row]:
    """What must be durable before the command is sent. (A cancel need not be; its row is for the budgets.)"""
    match command:
        case Place():
            identity, side, purpose = command.client_id, int(command.side), str(command.purpose)
            terms = (command.px_ticks, command.qty_lots)
            post_only, reduce_only, ioc = int(command.post_only), int(command.reduce_only), int(command.ioc)
            return [
                row(
                    Statement.INTENT,
                    *(identity, 0, epoch, seq, ts_ns, side, *terms, purpose, command.level),
                    *(post_only, reduce_only, ioc),
                ),
                row(
                    Statement.ORDER_NEW,
                    *(identity, epoch, side, *terms, purpose, command.level, reduce_only),
                    *(0, str(OrderStatus.NEW), None, identity, "", seq, ts_ns),
                ),
            ]
        case Amend():
            terms = (command.client_id, command.revision, epoch, seq, ts_ns, None, command.px_ticks, command.qty_lots)
            return [row(Statement.INTENT, *terms, None, None, None, None, None)]
        case Cancel():
            return [row(Statement.CANCEL, epoch, seq, ts_ns, command.client_id, int(command.risk))]


def order_rows(epoch: int, seq: int, event: OrderUpdate | OrderAdopted | RequestFailed) -> list[Row]:
    """The event as it came, and the order as it stands after it.

    A status that is terminal stays, and a cumulative never falls. An update of an order without an intent changes no
    order: only its event is kept.
    """
    times = (epoch, seq, event.mono_ns, event.ts_ns, event.venue_ts_ns, event.client_id)
    match event:
        case OrderUpdate():
            said = (str(event.word), event.cum_filled_lots, event.px_ticks, event.qty_lots, event.revision)
            return [
                row(Statement.ORDER_EVENT, *times, "update", *said, event.reason),
                row(Statement.ORDER_UPDATED, *said, event.reason, seq, event.ts_ns, event.client_id),
            ]
        case OrderAdopted():
            identity, status, cum = event.client_id, str(event.status), event.cum_filled_lots
            terms = (event.px_ticks, event.qty_lots)
            return [
                row(Statement.ORDER_EVENT, *times, "adopted", status, cum, *terms, None, ""),
                row(
                    Statement.ORDER_ADOPTED,
                    *(identity, epoch, int(event.side), *terms, str(event.purpose), 0, int(event.reduce_only)),
                    *(0, status, cum, identity, "adopted", seq, event.ts_ns),
                ),
            ]
        case RequestFailed():
            kind = f"{event.request}_failed"
            return [row(Statement.ORDER_EVENT, *times, kind, None, None, None, None, event.revision, event.reason)]


# --- money ------------------------------------------------------------------------------------------------------------


def fill_row(
    epoch: int,
    seq: int,
    fill: Fill,
    instrument: Instrument,
    mark_px_ticks: int | None,
    fee_text: str | None = None,
    *,
    fair0_ticks: float | None = None,
    regime: Regime | None = None,
) -> Row:
    """A fill, once: a re-delivery of its trade id is counted on the row and changes nothing else. `fair0_ticks` and
    `regime` are what was seen when it came."""
    return row(
        Statement.FILL,
        instrument.venue,
        instrument.symbol,
        epoch,
        fill.trade_id,
        instrument.version,
        epoch,
        seq,
        fill.mono_ns,
        fill.ts_ns,
        fill.venue_ts_ns,
        fill.client_id,
        int(fill.side),
        fill.px_ticks,
        fill.qty_lots,
        instrument.notional_e10(fill.px_ticks, fill.qty_lots),
        fill.fee_e10,
        money_text(fill.fee_e10) if fee_text is None else fee_text,
        str(fill.liquidity),
        str(fill.exec_kind),
        mark_px_ticks,
        fair0_ticks,
        None if regime is None else str(regime),
    )


def markout_row(epoch: int, seq: int, ts_ns: int, closed: Markout) -> Row:
    """One closed horizon of a fill, also where its value is unavailable; in bps with six decimals."""
    fill, impact = closed.fill, closed.impact_bps
    return row(
        Statement.MARKOUT,
        *(epoch, seq, ts_ns, epoch, fill.trade_id, closed.horizon_s, str(fill.regime), int(fill.side)),
        *(fill.fair0_ticks, closed.fair_ticks, round(closed.effective_bps, 6)),
        None if impact is None else round(impact, 6),
    )


def bill_row(epoch: int, seq: int, bill: Bill, venue: str, amount_text: str | None = None) -> Row:
    """A line of the venue's ledger, once."""
    text = money_text(bill.amount_e10) if amount_text is None else amount_text
    times = (epoch, seq, bill.mono_ns, bill.ts_ns, bill.venue_ts_ns)
    return row(Statement.BILL, venue, epoch, bill.bill_id, str(bill.kind), *times, bill.amount_e10, text)


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """One sample a minute. Money from `spread_e10` on is cumulative since the account was first met; absent is None."""

    epoch: int
    ts_ns: int
    mono_ns: int
    seq: int
    guard: GuardState
    regime: Regime
    position_lots: int
    mark_px_ticks: int | None
    bid_px_ticks: int | None
    """Our own best bid, None where none rests."""
    ask_px_ticks: int | None
    equity_e10: int | None
    spread_e10: int
    inventory_e10: int
    impact_e10: int
    fees_e10: int
    funding_e10: int
    transfers_e10: int
    turnover_e10: int
    fills: int
    book_healthy: bool | None
    """The guard's own judgement; from here None in rows of version 1."""
    book_healthy_ns: int | None
    """Time with a healthy book since the run began."""
    fee_source: str | None
    """Where the account's rates were read; None while they are not known."""
    funding_rate: float | None
    """Predicted for the settlement at the next, UTC; None while it is not known."""
    funding_due_ts_ns: int | None


def minute_row(minute: Minute) -> Row:
    """Columns are the fields, in their order. A second sample of one moment is dropped."""
    return row(
        Statement.MINUTE,
        *(str(each) if isinstance(each, StrEnum) else each for each in msgspec.structs.astuple(minute)),
    )


# --- decisions --------------------------------------------------------------------------------------------------------


def link(
    previous: bytes,
    epoch: int,
    seq: int,
    mono_ns: int,
    ts_ns: int,
    guard: str,
    regime: str,
    inputs: bytes,
    decision: bytes,
) -> bytes:
    """The chain value of a decision: blake2b over the chain before it and the whole row."""
    head = f"{epoch} {seq} {mono_ns} {ts_ns} {guard} {regime} {len(inputs)} ".encode()
    return hashlib.blake2b(b"".join((previous, head, inputs, decision)), digest_size=CHAIN_BYTES).digest()


class DecisionChain:
    """Makes the decision rows of one run, each hashed onto the one before it, the first onto the run's parameters."""

    __slots__ = ("decisions", "epoch", "link")

    def __init__(self, epoch: int, params: bytes) -> None:
        self.epoch = epoch
        self.decisions = 0
        self.link = hashlib.blake2b(b"%d " % epoch + params, digest_size=CHAIN_BYTES).digest()

    def row(
        self, seq: int, mono_ns: int, ts_ns: int, guard: GuardState, regime: Regime, inputs: bytes, decision: bytes
    ) -> Row:
        """Raises ValueRefused beyond DECISION_MAX_BYTES; the chain has not moved then."""
        size = len(inputs) + len(decision)
        if size > DECISION_MAX_BYTES:
            raise ValueRefused(
                f"decision ({self.epoch}, {seq}) has {size} bytes with its inputs, more than {DECISION_MAX_BYTES}; "
                "journal what it depends on, not what it is derived from"
            )
        columns = (self.epoch, seq, mono_ns, ts_ns, str(guard), str(regime), inputs, decision)
        new = link(self.link, *columns)
        made = row(Statement.DECISION, *columns, new)
        self.link = new
        self.decisions += 1
        return made


# --- guard, kill switch, operator, reconciliation ---------------------------------------------------------------------


def transition_row(
    epoch: int, seq: int, mono_ns: int, ts_ns: int, before: GuardState, after: GuardState, reasons: Iterable[str]
) -> Row:
    return row(Statement.TRANSITION, epoch, seq, mono_ns, ts_ns, str(before), str(after), " ".join(reasons))


def kill_row(
    epoch: int, mono_ns: int, ts_ns: int, state: KillState, reason: str, evidence: Mapping[str, object]
) -> Row:
    return row(Statement.KILL, epoch, mono_ns, ts_ns, str(state), reason, _json(dict(evidence)))


def operator_row(epoch: int, seq: int | None, action: OperatorAction, outcome: str) -> Row:
    """`seq` is None where the action was refused before it became an event."""
    what = (action.action, action.reason, action.who, outcome)
    return row(Statement.OPERATOR_ACTION, epoch, seq, action.mono_ns, action.ts_ns, *what)


def signal_row(epoch: int, seq: int, mono_ns: int, ts_ns: int, outcome: Outcome) -> Row:
    """What became of a signal, or of many that were refused alike. What no column holds, a source made up: NULL."""
    numbers = (outcome.sequence, outcome.said_ts_ns)
    sequence, said_ts_ns = (x if type(x) is int and abs(x) < 1 << 63 else None for x in numbers)
    confidence, ttl_s = (float(x) if isfinite(x) else None for x in (outcome.confidence, outcome.ttl_s))
    what = (outcome.source, outcome.kind, sequence, outcome.what, outcome.reason, outcome.count, outcome.value)
    return row(Statement.SIGNAL, epoch, seq, mono_ns, ts_ns, *what, confidence, said_ts_ns, ttl_s)


def reconciliation_row(epoch: int, seq: int, event: Reconciled) -> Row:
    times = (epoch, seq, event.mono_ns, event.ts_ns)
    return row(Statement.RECONCILIATION, *times, event.scope, event.position_lots, _json(list(event.breaks)))


def break_seen_row(epoch: int, seq: int, ts_ns: int, name: str, owner: str, hard: bool, detail: str) -> Row:
    """Open a break, or see it again: one of a name is open at a time."""
    return row(Statement.BREAK_SEEN, name, owner, int(hard), detail, epoch, seq, ts_ns, ts_ns)


def break_closed_row(ts_ns: int, name: str, resolution: str) -> Row:
    return row(Statement.BREAK_CLOSED, ts_ns, resolution, name)


def old_breaks_closed_row(ts_ns: int, account_epoch: int) -> Row:
    """Of an account that is gone with its run nothing can be mended any more."""
    return row(Statement.BREAKS_OF_OLD_ACCOUNTS, ts_ns, "the account is a new one", account_epoch)


def digest_of(blob: bytes) -> bytes:
    """Of a slice: what a damaged page in the middle of a blob changes, unseen by SQLite."""
    return hashlib.blake2b(blob, digest_size=CHAIN_BYTES).digest()


def checkpoint_rows(epoch: int, seq: int, ts_ns: int, slices: Mapping[str, bytes]) -> list[Row]:
    """Slices of State as they stood after event `seq`. All slices of one checkpoint belong in one `put`."""
    written = [
        row(Statement.CHECKPOINT, name, epoch, seq, ts_ns, blob, digest_of(blob)) for name, blob in slices.items()
    ]
    return written + [row(Statement.CHECKPOINTS_PRUNED, name, name) for name in slices]
