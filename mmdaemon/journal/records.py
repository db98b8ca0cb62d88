"""What the journal's tables hold, as typed records. Fields are columns, in the same units; see schema.sql."""

import msgspec

from mmdaemon.core.events import BillKind
from mmdaemon.core.types import ExecKind, GuardState, KillState, Liquidity, OrderStatus, Purpose, Regime, Side


class Run(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    account_epoch: int
    after_clean: bool
    version: str
    config_hash: str
    mode: str
    durability: str
    provenance: str
    """JSON."""
    started_mono_ns: int
    started_ts_ns: int
    start_e10: int | None
    ended_mono_ns: int | None
    ended_ts_ns: int | None
    clean_stop: bool | None
    """None while it runs, or where it ended without a word."""
    end_reason: str | None


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    seq: int
    mono_ns: int
    ts_ns: int
    guard: GuardState
    regime: Regime
    inputs: bytes
    decision: bytes
    chain: bytes


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    client_id: str
    revision: int
    epoch: int
    seq: int
    ts_ns: int
    side: Side | None
    px_ticks: int
    qty_lots: int
    purpose: Purpose | None
    level: int | None
    post_only: bool | None
    reduce_only: bool | None
    ioc: bool | None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    client_id: str
    epoch: int
    side: Side
    px_ticks: int
    qty_lots: int
    purpose: Purpose
    level: int
    reduce_only: bool
    revision: int
    status: OrderStatus
    cum_filled_lots: int | None
    filled_lots: int
    reason: str
    updated_seq: int
    updated_ts_ns: int
    settled: bool


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    seq: int
    mono_ns: int
    ts_ns: int
    venue_ts_ns: int | None
    client_id: str
    kind: str
    """"update", "adopted", "cancel_failed" or "amend_failed"."""
    status: OrderStatus | None
    cum_filled_lots: int | None
    px_ticks: int | None
    qty_lots: int | None
    revision: int | None
    reason: str


class CancelRow(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    seq: int
    ts_ns: int
    client_id: str
    risk: bool


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    venue: str
    symbol: str
    account_epoch: int
    trade_id: str
    instrument_version: int
    epoch: int
    seq: int
    mono_ns: int
    ts_ns: int
    venue_ts_ns: int | None
    client_id: str
    side: Side
    px_ticks: int
    qty_lots: int
    notional_e10: int
    fee_e10: int
    fee_text: str
    liquidity: Liquidity
    exec_kind: ExecKind
    mark_px_ticks: int | None
    redeliveries: int
    fair0_ticks: float | None
    regime: Regime | None


class MarkoutRow(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    seq: int
    ts_ns: int
    account_epoch: int
    trade_id: str
    horizon_s: int
    regime: Regime
    side: Side
    fair0_ticks: float
    fair_ticks: float | None
    """None where it was unavailable."""
    effective_bps: float
    impact_bps: float | None


class BillRow(msgspec.Struct, frozen=True, kw_only=True):
    bill_id: str
    kind: BillKind
    epoch: int
    seq: int
    ts_ns: int
    venue_ts_ns: int | None
    amount_e10: int
    amount_text: str
    redeliveries: int


class Transition(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    seq: int
    mono_ns: int
    ts_ns: int
    from_state: GuardState
    to_state: GuardState
    reasons: str


class KillRow(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    mono_ns: int
    ts_ns: int
    state: KillState
    reason: str
    evidence: str
    """JSON."""


class OperatorRow(msgspec.Struct, frozen=True, kw_only=True):
    epoch: int
    seq: int | None
    mono_ns: int
    ts_ns: int
    action: str
    reason: str
    who: str
    outcome: str


class Break(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    owner: str
    hard: bool
    detail: str
    epoch: int
    seq: int
    opened_ts_ns: int
    last_seen_ts_ns: int
    closed_ts_ns: int | None
    resolution: str | None


class PreflightRow(msgspec.Struct, frozen=True, kw_only=True):
    """One item of a preflight, as it was measured."""

    ts_ns: int
    mode: str
    item: str
    outcome: str
    """"passed", "failed", "not_checked", or "progress" of an item that takes days."""
    version: str
    config_hash: str
    account: str
    figures: str
    """JSON object."""
    evidence: str
    seal: str = ""

    def said(self) -> bytes:
        """All but the seal, in one spelling: what is sealed."""
        return msgspec.json.encode(msgspec.structs.astuple(self)[:-1])


class SignalRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a source outside said, and what became of it."""

    epoch: int
    seq: int
    mono_ns: int
    ts_ns: int
    source: str
    kind: str
    sequence: int | None
    what: str
    """"applied", "shadow", "refused", "replaced", "expired", "off" or "on"."""
    reason: str
    count: int
    value: str
    confidence: float | None
    said_ts_ns: int | None
    ttl_s: float | None


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """What left a table of the journal when it was old: of one run, all up to an event."""

    pruned_table: str
    epoch: int
    rows: int
    through_seq: int
    through_ts_ns: int
    chain: bytes | None
    """Of the last decision that left."""
    ts_ns: int
    copy: str
    """Name of the verified copy that has the last of it."""


class OrderHistory(msgspec.Struct, frozen=True):
    """One order from intent to end."""

    order: Order
    intents: tuple[Intent, ...]
    cancels: tuple[CancelRow, ...]
    events: tuple[OrderEvent, ...]
    fills: tuple[FillRow, ...]


class SideTotal(msgspec.Struct, frozen=True):
    side: Side
    fills: int
    qty_lots: int
    notional_e10: int
    fee_e10: int
