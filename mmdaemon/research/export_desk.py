"""The columns of the desk that this project replaces, and what became of each.

Its two tables, by the field lists of its own CSV writer. A column is either a column of the export under the same name,
or it stands here with the reason: nothing is left out without a word, and nothing is made up to fill it. `DERIVED` are
those that the journal does not keep as they are, and from which they follow exactly.
"""

from collections.abc import Mapping
from typing import Final

from mmdaemon.research.export_rows import Column, Kind

_COST: Final = "not kept beside a fill or a minute; `decisions` has it for each changed decision"
_LIMIT: Final = "what the guard measured for it is not journaled"
_TICK: Final = "there is no tick here; latencies are metrics"

DESK: Final[Mapping[str, tuple[str, ...]]] = {
    "fills": (
        "ts", "bot_variant", "exchange", "trading_pair", "side", "price", "amount_base", "notional_quote", "fee_quote",
        "order_id", "state", "mid_ref", "expected_spread_pct", "adverse_drift_30s", "fee_source", "is_maker",
        "realized_pnl_quote",
    ),
    "minutes": (
        "ts", "bot_variant", "bot_mode", "accounting_source", "exchange", "trading_pair", "state", "regime", "mid",
        "equity_quote", "base_pct", "target_base_pct", "net_base_pct", "target_net_base_pct", "spread_pct",
        "spread_floor_pct", "net_edge_pct", "net_edge_gate_pct", "net_edge_ewma_pct", "skew", "adverse_drift_30s",
        "adverse_drift_smooth_30s", "drift_spread_mult", "soft_pause_edge", "base_balance", "quote_balance",
        "market_spread_pct", "market_spread_bps", "best_bid_price", "best_ask_price", "best_bid_size", "best_ask_size",
        "turnover_today_x", "cancel_per_min", "orders_active", "fills_count_today", "fees_paid_today_quote",
        "daily_loss_pct", "drawdown_pct", "risk_reasons", "fee_source", "maker_fee_pct", "taker_fee_pct",
        "realized_pnl_today_quote", "position_base", "avg_entry_price", "funding_rate", "funding_cost_today_quote",
        "margin_ratio", "position_drift_pct", "ws_reconnect_count", "order_book_stale", "_tick_duration_ms",
        "_indicator_duration_ms", "_connector_io_duration_ms",
    ),
}  # fmt: skip
"""As its writer had them, in its order: fills.csv and minute.csv."""

_BEFORE_TODAY: Final = (
    "coalesce((SELECT d.{0} FROM minutes d WHERE d.epoch <= minutes.epoch AND d.epoch >= (SELECT r.account_epoch "
    "FROM runs r WHERE r.epoch = minutes.epoch) AND d.ts_ns < minutes.ts_ns - minutes.ts_ns % 86400000000000 "
    "ORDER BY d.epoch DESC, d.ts_ns DESC LIMIT 1), 0)"
)
"""The account's last sample before the UTC day began, 0 where it has none. Cumulative columns less this are a day's."""
_REASONS: Final = (
    "(SELECT t.reasons FROM transitions t WHERE t.epoch = minutes.epoch AND t.seq <= minutes.seq "
    "ORDER BY t.seq DESC, t.rowid DESC LIMIT 1)"
)
_CANCELS: Final = (
    "(SELECT count(*) FROM cancels c WHERE c.ts_ns > minutes.ts_ns - 60000000000 AND c.ts_ns <= minutes.ts_ns)"
)
_BOT: Final = Column("bot_variant", Kind.TEXT, "(SELECT bot_tag FROM meta)", "the bot: the prefix of its order ids")


def _today(column: str) -> str:
    return f"minutes.{column} - {_BEFORE_TODAY.format(column)}"


DERIVED: Final[Mapping[str, tuple[Column, ...]]] = {
    "desk_fills": (_BOT,),
    "desk_minutes": (
        _BOT,
        Column("accounting_source", Kind.TEXT, "'journal'", "there is no other"),
        Column("risk_reasons", Kind.TEXT, _REASONS, "reasons that held when the guard last moved, space between them"),
        Column("soft_pause_edge", Kind.FLAG, f"' ' || {_REASONS} || ' ' LIKE '% edge %'", "`edge` is one of them"),
        Column("cancel_per_min", Kind.INTEGER, _CANCELS, "cancels sent in the 60 s up to the sample"),
        Column("fills_count_today", Kind.INTEGER, _today("fills"), "since the UTC day began"),
        Column("fees_paid_today_quote", Kind.MONEY, _today("fees_e10"), "likewise"),
        Column("funding_cost_today_quote", Kind.MONEY, f"-({_today('funding_e10')})", "likewise; positive is paid"),
        Column(
            "turnover_today_x",
            Kind.FLOAT,
            f"CAST({_today('turnover_e10')} AS REAL) / nullif(minutes.equity_e10, 0)",
            "likewise, over equity",
        ),
    ),
}
"""By the mark that stands for them in `export_tables.py`."""

ABSENT: Final[Mapping[str, Mapping[str, str]]] = {
    "fills": {
        "mid_ref": "fair value is kept (`fair0_ticks`) and the mark (`mark_price`), the mid is not",
        "expected_spread_pct": _COST,
        "adverse_drift_30s": "drift is not journaled; what it did to quotes is `decisions.drift_multiplier`",
        "fee_source": "the fee is what the venue charged, in its words in `fee_text`",
        "realized_pnl_quote": "the journal keeps fills, and not what each realised",
    },
    "minutes": {
        "mid": "the mark is kept (`mark_price`), the mid is not",
        "base_pct": "position_base × mark_price / equity_quote of the same row",
        "target_base_pct": "quotes lean towards no position; there is no other target",
        "net_base_pct": "position_base × mark_price / equity_quote of the same row",
        "target_net_base_pct": "quotes lean towards no position; there is no other target",
        "spread_pct": _COST,
        "spread_floor_pct": _COST,
        "net_edge_pct": _COST,
        "net_edge_gate_pct": "half of `spread_max_bps`, a setting; `decisions.no_buy`, `no_sell` say what it blocked",
        "net_edge_ewma_pct": "there is no such average",
        "skew": "of each quote: `quotes.skew_ticks`",
        "adverse_drift_30s": "drift is not journaled; what it did to quotes is `decisions.drift_multiplier`",
        "adverse_drift_smooth_30s": "drift is not journaled; what it did to quotes is `decisions.drift_multiplier`",
        "drift_spread_mult": "for each changed decision: `decisions.drift_multiplier`",
        "base_balance": "a perpetual has a position and margin, and no balance of base currency",
        "quote_balance": "a perpetual has a position and margin; `equity_quote` is their value",
        "market_spread_pct": "a minute keeps no book; `decisions` has best bid and ask where a decision changed",
        "market_spread_bps": "a minute keeps no book; `decisions` has best bid and ask where a decision changed",
        "best_bid_price": "a minute keeps no book; `decisions` has it where a decision changed",
        "best_ask_price": "a minute keeps no book; `decisions` has it where a decision changed",
        "best_bid_size": "sizes of the book are not journaled",
        "best_ask_size": "sizes of the book are not journaled",
        "orders_active": "not sampled; it follows from `intents` and `order_events`",
        "daily_loss_pct": _LIMIT,
        "drawdown_pct": _LIMIT,
        "maker_fee_pct": "for each changed decision: `decisions.maker_fee_bps`",
        "taker_fee_pct": "for each changed decision: `decisions.taker_fee_bps`",
        "realized_pnl_today_quote": "the journal keeps fills, and not what each realised",
        "avg_entry_price": "not sampled; it follows from `fills`",
        "margin_ratio": _LIMIT,
        "position_drift_pct": "not sampled; `reconciliations` has the venue's position, `breaks` the differences",
        "ws_reconnect_count": "not journaled",
        "_tick_duration_ms": _TICK,
        "_indicator_duration_ms": _TICK,
        "_connector_io_duration_ms": _TICK,
    },
}
