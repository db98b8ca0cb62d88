"""What `mmdaemon status` answers, and what metrics are read from: one typed picture of a running daemon.

`daemon.status` fills it from `State`; nothing here computes. `--json` prints it as it is, so a field that is renamed
or removed is a new `version`. Prices are in quote currency and sizes in base, as decimal strings; money is a decimal
string of quote currency.
"""

import msgspec

VERSION = 1


class QuoteView(msgspec.Struct, frozen=True):
    side: str
    level: int
    px: str
    qty: str
    working: bool
    """Whether an order stands for it at the venue now."""
    distance_bps: float
    addends_bps: dict[str, float]
    """What moved it from fair value, addend by addend; they sum to `distance_bps`, signed with the price."""


class BreakView(msgspec.Struct, frozen=True):
    """Where venue and books do not agree, or where the account does what nobody asked for."""

    name: str
    owner: str
    """Who closes it: "reconcile" or "operator"."""
    hard: bool
    """Quoting is off while it is open."""
    detail: str
    opened_ts_ns: int


class Status(msgspec.Struct, frozen=True):
    """A running daemon at one moment."""

    version: int
    at_ts_ns: int
    run_epoch: int
    mode: str
    venue: str
    symbol: str
    config_hash: str
    program_version: str
    metrics_port: int
    """0 where no metrics are served."""
    guard: str
    reasons: list[str]
    """Names of the active reasons, strongest last in the table's order."""
    why_not_quoting: list[str]
    """One line a reason, with what cures it; empty while both sides are quoted."""
    kill: str
    gate_closed: str
    """Empty, or why the gate is closed."""
    regime: str
    fair: str | None
    bid: str | None
    ask: str | None
    mark: str | None
    book_age_s: float | None
    quotes: list[QuoteView]
    edge_bps: dict[str, dict[str, float]]
    """Required edge of "buy" and "sell" as addends."""
    open_orders: int
    unknown_orders: int
    position: str
    max_position: str
    average_px: str | None
    equity: str
    pnl: dict[str, str]
    """realised, unrealised, fees, funding, total, day."""
    counts: dict[str, int]
    """events, decisions, commands, fills_buy, fills_sell, refusals, conflated, duplicates, ..."""
    market_refused: dict[str, int]
    """Market data that was dropped, by reason."""
    links: dict[str, bool]
    guard_seconds: dict[str, float]
    loop_lag_s: float | None
    journal_age_s: float | None
    uptime_s: float
    open_breaks: dict[str, int] = {}
    """How many are "hard" and "soft"."""
    breaks: list[BreakView] = []
    """The oldest of them."""
    absent: dict[str, str] = {}
    """Of "buy" and "sell" those of which nothing rests, with the word for why (`core/absence.py`)."""
