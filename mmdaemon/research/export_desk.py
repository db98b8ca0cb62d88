"""The columns of the desk that this project replaces, and what became of each.

Its two tables, by the field lists of its own CSV writer. A column is either a column of the export under the same name,
or it stands here with the reason: nothing is left out without a word, and nothing is made up to fill it. Later work
completes them from what the journal will then keep.
"""

from collections.abc import Mapping
from typing import Final

_COST: Final = "not kept beside a fill or a minute; `decisions` has it for each changed decision"
_DAY: Final = "the journal counts since the account was first met; a day is the difference of two rows of"
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

_BOT: Final = "a letter told its bots apart; here a journal is one bot, named by `runs.bot_tag`"

ABSENT: Final[Mapping[str, Mapping[str, str]]] = {
    "fills": {
        "bot_variant": _BOT,
        "mid_ref": "fair value is kept (`fair0_ticks`) and the mark (`mark_price`), the mid is not",
        "expected_spread_pct": _COST,
        "adverse_drift_30s": "drift is not journaled; what it did to quotes is `decisions.drift_multiplier`",
        "fee_source": "the fee is what the venue charged, in its words in `fee_text`",
        "realized_pnl_quote": "the journal keeps fills, and not what each realised",
    },
    "minutes": {
        "bot_variant": _BOT,
        "accounting_source": "there is only one, the journal",
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
        "soft_pause_edge": "the reason `edge` in `transitions.reasons`; `decisions.no_buy` and `no_sell` for one side",
        "base_balance": "a perpetual has a position and margin, and no balance of base currency",
        "quote_balance": "a perpetual has a position and margin; `equity_quote` is their value",
        "market_spread_pct": "a minute keeps no book; `decisions` has best bid and ask where a decision changed",
        "market_spread_bps": "a minute keeps no book; `decisions` has best bid and ask where a decision changed",
        "best_bid_price": "a minute keeps no book; `decisions` has it where a decision changed",
        "best_ask_price": "a minute keeps no book; `decisions` has it where a decision changed",
        "best_bid_size": "sizes of the book are not journaled",
        "best_ask_size": "sizes of the book are not journaled",
        "turnover_today_x": f"{_DAY} `turnover_quote`, over equity",
        "cancel_per_min": "rows of `cancels` within the minute",
        "orders_active": "not sampled; it follows from `intents` and `order_events`",
        "fills_count_today": f"{_DAY} `fills_count`",
        "fees_paid_today_quote": f"{_DAY} `fees_quote`",
        "daily_loss_pct": _LIMIT,
        "drawdown_pct": _LIMIT,
        "risk_reasons": "kept where the guard moved: `transitions.reasons`",
        "maker_fee_pct": "for each changed decision: `decisions.maker_fee_bps`",
        "taker_fee_pct": "for each changed decision: `decisions.taker_fee_bps`",
        "realized_pnl_today_quote": "the journal keeps fills, and not what each realised",
        "avg_entry_price": "not sampled; it follows from `fills`",
        "funding_cost_today_quote": f"{_DAY} `funding_quote` (received, so of other sign)",
        "margin_ratio": _LIMIT,
        "position_drift_pct": "not sampled; `reconciliations` has the venue's position, `breaks` the differences",
        "ws_reconnect_count": "not journaled",
        "_tick_duration_ms": _TICK,
        "_indicator_duration_ms": _TICK,
        "_connector_io_duration_ms": _TICK,
    },
}
