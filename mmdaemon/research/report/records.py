"""What a report says, as records: the JSON file is these, the page shows these, and neither computes anything.

What is read by people is text, ready to show, and exact: money and sizes are decimals in full, and what is not known is
"unknown". What is drawn is numbers: floats, good for a picture and for nothing else. Moments in what is drawn are
milliseconds since the run began (`Run.started_ts_ns`).
"""

import msgspec

UNKNOWN = "unknown"


class Run(msgspec.Struct, frozen=True, kw_only=True):
    epoch: str
    account_epoch: str
    symbol: str
    venue: str
    quote: str
    base: str
    mode: str
    version: str
    started: str
    """UTC."""
    ended: str
    """UTC, or that it has not ended as far as the journal knows."""
    end_reason: str
    duration: str
    started_ts_ns: int
    last_ts_ns: int
    """The end, else the last moment that anything was journaled."""
    simulated: bool


class Said(msgspec.Struct, frozen=True):
    """A line of what is assumed, or of what a reader must know."""

    name: str
    text: str


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """`shown` is what the page says; `value` is the same as an exact decimal without unit, None where it is unknown."""

    label: str
    shown: str
    value: str | None
    unit: str = ""
    note: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """An addend of the PnL. `share` is for a bar: of the largest addend's size, signed."""

    name: str
    label: str
    shown: str
    value: str | None
    meaning: str = ""
    share: float = 0.0


class Check(msgspec.Struct, frozen=True):
    """`ok` is None where nothing could be checked, which is no pass."""

    name: str
    ok: bool | None
    verdict: str
    text: str


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Columns over time. `kept` of `rows` are here: where fewer, those at which a column is least or greatest in its
    stretch of time, so that every extreme shows."""

    t_ms: list[float]
    columns: dict[str, list[float | None]]
    rows: int

    @property
    def kept(self) -> int:
        return len(self.t_ms)


class Span(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stretch of time in one state; or, with `moves` above 1, several short ones together: `state` is then the
    gravest of them, and `shares` has each one's part of the time."""

    from_ms: float
    to_ms: float
    state: str
    why: str = ""
    moves: int = 1
    shares: dict[str, float] = {}


class FillMarks(msgspec.Struct, frozen=True, kw_only=True):
    """Fills to draw: moment, price, side (1 or -1), and what the pointer is told."""

    t_ms: list[float]
    price: list[float]
    side: list[int]
    size: list[str]
    fee: list[str]
    markout_5s: list[str]
    rows: int


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Share of answers that came within a time, per kind."""

    within_ms: list[float]
    share: dict[str, list[float | None]]


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time without any quote."""

    started: str
    lasted: str
    why: str
    codes: str
    """The guard's reasons in `why`, by their names in docs/GUARDS.md."""
    from_ms: float
    to_ms: float


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    what: str
    count: str
    p50: str
    p90: str
    p99: str
    most: str
    unanswered: str


class Markout(msgspec.Struct, frozen=True, kw_only=True):
    """Mean over fills in bps of fair value at the fill."""

    side: str
    horizon: str
    fills: str
    effective: str
    impact: str
    markout: str
    interval: str
    """Of the markout: 95 %, by blocks of time."""
    net: str
    """Less the fee, as it was charged."""
    unavailable: str


class MarkoutCurve(msgspec.Struct, frozen=True, kw_only=True):
    """Mean markout in bps over the horizons, and its interval, for "buy" and "sell"; None where it is not known."""

    horizon_s: list[float]
    mean: dict[str, list[float | None]]
    low: dict[str, list[float | None]]
    high: dict[str, list[float | None]]


class FillLine(msgspec.Struct, frozen=True, kw_only=True):
    time: str
    side: str
    price: str
    size: str
    value: str
    fee: str
    liquidity: str
    kind: str
    markout_5s: str
    order: str
    trade: str


class ActionLine(msgspec.Struct, frozen=True, kw_only=True):
    time: str
    action: str
    reason: str
    who: str
    outcome: str


class KillLine(msgspec.Struct, frozen=True, kw_only=True):
    time: str
    state: str
    reason: str
    codes: str
    """As in `Stop`."""
    evidence: str


class BreakLine(msgspec.Struct, frozen=True, kw_only=True):
    opened: str
    name: str
    severity: str
    detail: str
    closed: str
    resolution: str


class ReconciliationLine(msgspec.Struct, frozen=True, kw_only=True):
    """Reads of venue truth of one scope: how many, how many found a break, and when the last was."""

    scope: str
    reads: str
    with_breaks: str
    last: str


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is plotted. A part without data has empty lists."""

    price: Lines
    """fair, bid, ask: fair value and our best target prices, at decisions."""
    minutes: Lines
    """mark, and what of ours rested at the whole minute: bid, ask."""
    fills: FillMarks
    position: Lines
    limits: Lines
    """Largest position, both ways, at decisions."""
    pnl: Lines
    """Addends, and their total, each minute; since the account was first met."""
    buy_edge: Lines
    """Addends and their total, and "most": what the edge gate holds it against."""
    sell_edge: Lines
    leans: Lines
    """What moves both quotes together, in bps of fair value, up if positive: signal, skew, carry."""
    guard: list[Span]
    regime: list[Span]
    fill_ratio: Lines
    latency: Curve
    markouts: MarkoutCurve


class Report(msgspec.Struct, frozen=True, kw_only=True):
    format: int = 1
    run: Run
    assumptions: list[Said]
    figures: dict[str, Figure]
    attribution: list[Part]
    checks: list[Check]
    notes: list[Said]
    stops: list[Stop]
    latencies: list[Latency]
    markouts: list[Markout]
    fills_listed: str
    """How many of how many."""
    fills: list[FillLine]
    """The latest first."""
    actions: list[ActionLine]
    kills: list[KillLine]
    breaks: list[BreakLine]
    reconciliations: list[ReconciliationLine]
    drawn: Drawn
