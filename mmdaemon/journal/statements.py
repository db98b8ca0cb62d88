"""The writer's statements by name, and the one way to make a row for them.

A row is `(statement, values)`; both connections run the same SQL. Every value passes `row`, which refuses what SQLite
would not keep: an integer beyond 64 bits, and a float that is not finite (NaN would turn into NULL without a word).
"""

import math
from enum import StrEnum, auto

import msgspec

Value = int | float | str | bytes | None
_INT64 = 1 << 63


class Statement(StrEnum):
    """The statements of the writer, by name."""

    RUN_STARTED = auto()
    RUN_PROVENANCE = auto()
    RUN_ENDED = auto()
    ACCOUNT_OPENED = auto()
    PARAMETERS = auto()
    INSTRUMENT = auto()
    INTENT = auto()
    CANCEL = auto()
    ORDER_NEW = auto()
    ORDER_ADOPTED = auto()
    ORDER_UPDATED = auto()
    ORDER_EVENT = auto()
    FILL = auto()
    MARKOUT = auto()
    BILL = auto()
    DECISION = auto()
    TRANSITION = auto()
    KILL = auto()
    OPERATOR_ACTION = auto()
    RECONCILIATION = auto()
    BREAK_SEEN = auto()
    BREAK_CLOSED = auto()
    BREAKS_OF_OLD_ACCOUNTS = auto()
    MINUTE = auto()
    CHECKPOINT = auto()
    CHECKPOINTS_PRUNED = auto()
    DIGEST = auto()
    DECISIONS_PRUNED = auto()
    ORDER_EVENTS_PRUNED = auto()
    CANCELS_PRUNED = auto()
    AMENDS_PRUNED = auto()
    PRUNING = auto()
    SIGNAL = auto()
    SIGNALS_PRUNED = auto()


Row = tuple[Statement, tuple[Value, ...]]


class ValueRefused(ValueError):
    """A value that the journal cannot hold as it is. The row was not made."""


class _Sql(msgspec.Struct, frozen=True):
    table: str
    text: str
    columns: tuple[str, ...]
    """What each placeholder is, in order: for messages."""


def _insert(table: str, columns: str, conflict: str = "", **computed: str) -> _Sql:
    names = tuple(columns.split())
    values = ", ".join(computed.get(name, "?") for name in names)
    text = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values}) {conflict}".rstrip()  # noqa: S608 - constants
    return _Sql(table, text, names)


def _pruned(table: str) -> _Sql:
    text = f"DELETE FROM {table} WHERE rowid BETWEEN ? AND ?"  # noqa: S608 - constants
    return _Sql(table, text, ("rowid", "rowid"))


_ACCOUNT = "(SELECT account_epoch FROM runs WHERE epoch = ?)"
_KEEP_TERMINAL = "CASE WHEN status IN ('filled', 'cancelled', 'rejected') THEN status ELSE {new} END"
_CUM_GROWS = "nullif(max(coalesce(cum_filled_lots, -1), coalesce({new}, -1)), -1)"
_REDELIVERED = "ON CONFLICT DO UPDATE SET redeliveries = redeliveries + 1"
_ORDER = (
    "client_id epoch side px_ticks qty_lots purpose level reduce_only revision status cum_filled_lots filled_lots "
    "reason updated_seq updated_ts_ns"
)
_FILLED = "(SELECT coalesce(sum(qty_lots), 0) FROM fills WHERE client_id = ?)"

_SQL: dict[Statement, _Sql] = {
    Statement.RUN_STARTED: _insert(
        "runs",
        "epoch account_epoch after_clean version config_hash mode durability provenance started_mono_ns started_ts_ns",
    ),
    Statement.RUN_PROVENANCE: _Sql("runs", "UPDATE runs SET provenance = ? WHERE epoch = ?", ("provenance", "epoch")),
    Statement.RUN_ENDED: _Sql(
        "runs",
        "UPDATE runs SET ended_mono_ns = ?, ended_ts_ns = ?, clean_stop = ?, end_reason = ? WHERE epoch = ?",
        ("ended_mono_ns", "ended_ts_ns", "clean_stop", "end_reason", "epoch"),
    ),
    Statement.ACCOUNT_OPENED: _Sql(
        "runs",
        f"UPDATE runs SET start_e10 = ? WHERE epoch = {_ACCOUNT} AND start_e10 IS NULL",  # noqa: S608 - constants
        ("start_e10", "epoch"),
    ),
    Statement.PARAMETERS: _insert("parameters", "epoch params"),
    Statement.INSTRUMENT: _insert(
        "instruments",
        "venue symbol version quote tick_e10 lot_e10 unit_e10 min_qty_lots max_qty_lots min_notional_e10 first_ts_ns",
        "ON CONFLICT DO NOTHING",
    ),
    Statement.INTENT: _insert(
        "intents",
        "client_id revision epoch seq ts_ns side px_ticks qty_lots purpose level post_only reduce_only ioc",
    ),
    Statement.CANCEL: _insert("cancels", "epoch seq ts_ns client_id risk"),
    Statement.ORDER_NEW: _insert("orders", _ORDER, filled_lots=_FILLED),
    Statement.ORDER_ADOPTED: _insert(
        "orders",
        _ORDER,
        "ON CONFLICT DO UPDATE SET "
        f"status = {_KEEP_TERMINAL.format(new='excluded.status')}, "
        f"cum_filled_lots = {_CUM_GROWS.format(new='excluded.cum_filled_lots')}, "
        "reason = excluded.reason, updated_seq = excluded.updated_seq, updated_ts_ns = excluded.updated_ts_ns",
        filled_lots=_FILLED,
    ),
    Statement.ORDER_UPDATED: _Sql(
        "orders",
        f"UPDATE orders SET status = {_KEEP_TERMINAL.format(new='?')}, "  # noqa: S608 - constants
        f"cum_filled_lots = {_CUM_GROWS.format(new='?')}, "
        "px_ticks = coalesce(?, px_ticks), qty_lots = coalesce(?, qty_lots), revision = max(revision, coalesce(?, 0)), "
        "reason = ?, updated_seq = ?, updated_ts_ns = ? WHERE client_id = ?",
        (
            *("status", "cum_filled_lots", "px_ticks", "qty_lots", "revision", "reason"),
            *("updated_seq", "updated_ts_ns", "client_id"),
        ),
    ),
    Statement.ORDER_EVENT: _insert(
        "order_events",
        "epoch seq mono_ns ts_ns venue_ts_ns client_id kind status cum_filled_lots px_ticks qty_lots revision reason",
    ),
    Statement.FILL: _insert(
        "fills",
        "venue symbol account_epoch trade_id instrument_version epoch seq mono_ns ts_ns venue_ts_ns client_id side "
        "px_ticks qty_lots notional_e10 fee_e10 fee_text liquidity exec_kind mark_px_ticks fair0_ticks regime",
        _REDELIVERED,
        account_epoch=_ACCOUNT,
    ),
    Statement.MARKOUT: _insert(
        "markouts",
        "epoch seq ts_ns account_epoch trade_id horizon_s regime side fair0_ticks fair_ticks effective_bps impact_bps",
        account_epoch=_ACCOUNT,
    ),
    Statement.BILL: _insert(
        "bills",
        "venue account_epoch bill_id kind epoch seq mono_ns ts_ns venue_ts_ns amount_e10 amount_text",
        _REDELIVERED,
        account_epoch=_ACCOUNT,
    ),
    Statement.DECISION: _insert("decisions", "epoch seq mono_ns ts_ns guard regime inputs decision chain"),
    Statement.TRANSITION: _insert("transitions", "epoch seq mono_ns ts_ns from_state to_state reasons"),
    Statement.KILL: _insert("kill", "epoch mono_ns ts_ns state reason evidence"),
    Statement.OPERATOR_ACTION: _insert("operator_actions", "epoch seq mono_ns ts_ns action reason who outcome"),
    Statement.RECONCILIATION: _insert("reconciliations", "epoch seq mono_ns ts_ns scope position_lots breaks"),
    Statement.BREAK_SEEN: _insert(
        "breaks",
        "name owner hard detail epoch seq opened_ts_ns last_seen_ts_ns",
        "ON CONFLICT (name) WHERE closed_ts_ns IS NULL "
        "DO UPDATE SET hard = max(hard, excluded.hard), detail = excluded.detail, "
        "last_seen_ts_ns = excluded.last_seen_ts_ns",
    ),
    Statement.BREAK_CLOSED: _Sql(
        "breaks",
        "UPDATE breaks SET closed_ts_ns = ?, resolution = ? WHERE name = ? AND closed_ts_ns IS NULL",
        ("closed_ts_ns", "resolution", "name"),
    ),
    Statement.BREAKS_OF_OLD_ACCOUNTS: _Sql(
        "breaks",
        "UPDATE breaks SET closed_ts_ns = ?, resolution = ? WHERE epoch < ? AND closed_ts_ns IS NULL",
        ("closed_ts_ns", "resolution", "epoch"),
    ),
    Statement.MINUTE: _insert(
        "minutes",
        "epoch ts_ns mono_ns seq guard regime position_lots mark_px_ticks bid_px_ticks ask_px_ticks equity_e10 "
        "spread_e10 inventory_e10 impact_e10 fees_e10 funding_e10 transfers_e10 turnover_e10 fills "
        "book_healthy book_healthy_ns fee_source funding_rate funding_due_ts_ns",
        "ON CONFLICT DO NOTHING",
    ),
    # A stop writes what the last timer may have written already: of one event there is one state.
    Statement.CHECKPOINT: _insert("checkpoints", "slice epoch seq ts_ns blob digest", "ON CONFLICT DO NOTHING"),
    Statement.CHECKPOINTS_PRUNED: _Sql(
        "checkpoints",
        "DELETE FROM checkpoints WHERE slice = ? AND (epoch, seq) < "
        "(SELECT epoch, seq FROM checkpoints WHERE slice = ? ORDER BY epoch DESC, seq DESC LIMIT 1 OFFSET 1)",
        ("slice", "slice"),
    ),
    Statement.DIGEST: _insert("digests", "epoch digest events decisions chain"),
    Statement.DECISIONS_PRUNED: _pruned("decisions"),
    Statement.ORDER_EVENTS_PRUNED: _pruned("order_events"),
    Statement.CANCELS_PRUNED: _pruned("cancels"),
    Statement.AMENDS_PRUNED: _Sql(
        "intents",
        "DELETE FROM intents WHERE epoch = ? AND seq > ? AND seq <= ? AND revision > 0 "
        "AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.client_id = intents.client_id AND settled = 0)",
        ("epoch", "seq", "seq"),
    ),
    Statement.SIGNAL: _insert(
        "signals",
        "epoch seq mono_ns ts_ns source kind sequence what reason count value confidence said_ts_ns ttl_s",
    ),
    Statement.SIGNALS_PRUNED: _pruned("signals"),
    Statement.PRUNING: _insert(
        "prunings",
        "pruned_table epoch rows through_seq through_ts_ns chain ts_ns copy",
        "ON CONFLICT DO UPDATE SET rows = rows + excluded.rows, through_seq = excluded.through_seq, "
        "through_ts_ns = excluded.through_ts_ns, chain = excluded.chain, ts_ns = excluded.ts_ns, copy = excluded.copy",
    ),
}

STATEMENTS: dict[Statement, str] = {name: sql.text for name, sql in _SQL.items()}
TABLE_OF: dict[Statement, str] = {name: sql.table for name, sql in _SQL.items()}


def row(statement: Statement, *values: Value) -> Row:
    """A row whose every value SQLite keeps as it is. Text that is not valid UTF-8 (lone surrogates) is escaped.

    Raises:
        ValueRefused: an integer outside 64 bits or a float that is not finite; names table and column.
    """
    ascii_only = True
    for place, value in enumerate(values):
        if isinstance(value, int):
            if not -_INT64 <= value < _INT64:
                raise ValueRefused(f"{_name(statement, place)} = {value} does not fit 64 bits; it cannot be journaled")
        elif isinstance(value, str):
            ascii_only &= value.isascii()
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueRefused(f"{_name(statement, place)} = {value} is not a number; absent is None")
    if ascii_only:
        return statement, values
    return statement, tuple(_utf8(value) if isinstance(value, str) else value for value in values)


def _name(statement: Statement, place: int) -> str:
    return f"{TABLE_OF[statement]}.{_SQL[statement].columns[place]}"


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
