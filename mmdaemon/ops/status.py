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


class RegimeView(msgspec.Struct, frozen=True):
    """A line of the detector's table: `regime` holds while `figure` is at least what it is entered at, in bps."""

    regime: str
    figure: str
    value_bps: float | None
    """None while it is unknown."""
    enters_at_bps: float


class FeesView(msgspec.Struct, frozen=True):
    maker_bps: float
    taker_bps: float
    source: str
    """Where the account's rates were read."""


class FundingView(msgspec.Struct, frozen=True):
    rate: float
    """Predicted for the next settlement: a fraction of notional, positive = longs pay shorts."""
    next_ts_ns: int
    interval_s: int


class SideView(msgspec.Struct, frozen=True):
    """What the strategy's own judges say of a side."""

    required_bps: float | None
    """What a quote must earn, as last decided; None before the first decision."""
    most_bps: float
    """Half of the regime's widest spread: what the edge gate holds it against."""
    gate: str
    """"open", "beyond" (the edge is, and not yet for long enough), "blocked"."""
    gate_for_s: float
    """How long the edge has been beyond; 0 while it is not."""
    pull: str
    """"quoted", "pulled", "returning" (at reduced size)."""
    pull_left_s: float
    """What is left of that; 0 while it is quoted."""
    net_bps: float | None
    """Mean net markout of its fills as last judged, its upper 95 % bound, and of how many; None where it was not."""
    net_upper_bps: float | None
    net_fills: int
    size_share: float
    """Of the normal size: less after a resume, or after it was pulled."""


class SignalView(msgspec.Struct, frozen=True):
    """What a source outside said, as long as it stands."""

    source: str
    kind: str
    value: float | str
    weight: float
    """What is left of its confidence; of a regime or a pause, which have none, 1."""
    ends_in_s: float
    shadow: bool
    """Recorded alone: it does nothing."""


class DeriskView(msgspec.Struct, frozen=True):
    """How a position is worked down, and when the trading day ends."""

    stage: str
    """"none", "passive", "touch", "taker"."""
    for_s: float
    """How long it has been worked down; 0 while it is not."""
    next_stage: str
    """What it becomes by the clock; empty where nothing."""
    next_in_s: float
    day_ends_in_s: float
    is_day_ending: bool
    """The position must be flat before the day ends."""


class MarkoutView(msgspec.Struct, frozen=True):
    """What fills of this run were worth a while later, summed."""

    side: str
    horizon_s: int
    count: int
    sum_bps: float
    unavailable: int


class HistogramView(msgspec.Struct, frozen=True):
    """How long something took, in this run."""

    bounds_s: list[float]
    counts: list[int]
    """One for each bound (up to and with it, above the one before), and one for what is beyond the last."""
    sum_s: float


class HealthView(msgspec.Struct, frozen=True):
    """What the daemon stands on: its journal, its disk, its account, and what happened between two looks."""

    heartbeat_ts_ns: int
    """When the quoting controller last took an event in; a timer's comes each second."""
    journal_failed: bool
    journal_commits: int
    journal_rows: int
    disk_free_bytes: int | None
    """Of the file system that the state directory is on, to an unprivileged user; None where it cannot be asked."""
    disk_size_bytes: int | None
    backup_ts_ns: int | None
    """When the newest verified backup of the day was made; None where there is none."""
    backup_failures: int
    """Tries in a row that came to nothing."""
    backup_error: str
    """Why the last try to make one came to nothing; empty where it did not."""
    clock_offset_s: float | None
    unprotected_s: float | None
    account_ok: bool | None
    """The account is as configured; None while it was never read."""
    margin_available: float | None
    """Available margin over equity; None while unknown."""
    day_open_equity: str | None
    peak_equity: str
    reject_streak: int
    limits: dict[str, float]
    """The guard's own limits: "daily_loss", "drawdown", "margin_soft", "margin_hard" as shares, by their names."""
    guard_entries: dict[str, int]
    """How often each of the guard's states was entered, in this run."""
    reasons_raised: dict[str, int]
    order_failures: dict[str, int]
    """Requests that came to nothing: "rejected", "unknown", "amend", "cancel"."""
    link_losses: dict[str, int]
    fills_after_pause: dict[str, int]
    """"in_flight": met its cancel on the way; "later": of an order that rested although nothing should."""
    breaks_open: dict[str, int]
    """By kind."""
    histograms: dict[str, HistogramView]
    journal_bytes: int | None = None
    """Size of the journal with its log; None where it cannot be asked."""
    journal_since_ts_ns: int | None = None
    """When the oldest decision was made that is still in it; None while there is none, or it was not read."""
    journal_keep_days: int = 0
    """How long decisions stay; 0 is for ever."""
    pruned_rows: int = 0
    """Rows that left the journal in this run because they were old."""
    prune_error: str = ""
    """Why they did not, the last time; empty where they did."""
    backup_free_bytes: int | None = None
    """Of the file system that the copies are on; None where it cannot be asked, or no copies are made."""
    backup_size_bytes: int | None = None


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
    bars_source: str = ""
    """Where the minute bars in use come from: "venue", "mids" while the venue's do not come, empty without any."""
    bars: int = 0
    """How many are kept."""
    band_bps: float | None = None
    """What regimes are told by: ATR(14) of the bars over price, and the signed change of the mid over 30 s."""
    drift_bps: float | None = None
    shock_by: str = ""
    """In a shock, which of the two holds it: "band" or "drift"."""
    regime_rows: list[RegimeView] = []
    """The detector's table, strongest first; neutral_low_vol is where none of it holds."""
    regime_seen: str = ""
    """What the figures say now; a less protective regime than the one in force is not believed at once."""
    regime_leaves_in_s: float | None = None
    """What is left of the dwell until it is; None where they agree."""
    sigma_bps: float | None = None
    """Volatility of the mid, bps per square root of a second; None until it is known."""
    signal_bps: float = 0.0
    """The short-horizon signal, and its features, in bps."""
    signal_features: dict[str, float] = {}
    signals: list[SignalView] = []
    """What sources outside said and still stands."""
    signal_effect: dict[str, float] = {}
    """What that does: "target" (share of the largest position), "direction_bps", "size", "spread" (multipliers)."""
    signal_counts: dict[str, dict[str, int]] = {}
    """By source, "unknown" where it is none of the settings': how many were applied, shadow, or refused, by why."""
    fees: FeesView | None = None
    funding: FundingView | None = None
    carry_bps: float = 0.0
    """Expected funding cost of being long."""
    adverse_bps: dict[str, float] = {}
    """Of "buy" and "sell": the measured impact in the regime in force, as an addend."""
    drift_multiplier: float = 1.0
    tracker_multiplier: float = 1.0
    sides: dict[str, SideView] = {}
    """Of "buy" and "sell"."""
    derisk: DeriskView | None = None
    markouts: list[MarkoutView] = []
    book_healthy: bool = False
    """The guard's own judgement of the book, as of the last event."""
    book_locked: bool = False
    book_locks: int = 0
    """How many updates were locked."""
    health: HealthView | None = None
    page_port: int = 0
    """Of the operator page; 0 where it is not served."""
