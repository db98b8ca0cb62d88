"""Settings of the run itself: what is run, where, against which venue. The core sees only a few durations.

The bounds are compiled in: neither file nor environment nor command line passes them. Durations are seconds.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from mmdaemon.core.types import NS

NOT_HASHED: Final[dict[str, Any]] = {"hashed": False}
"""Mark of a path or a port: where things are does not change what is decided, so `config_hash` leaves it out."""


def to_ns(seconds: float) -> int:
    return round(seconds * NS)


class Section(BaseModel):
    """A table of the TOML. Nothing is coerced: "5" is not 5, 5.0 is not a count, and NaN is not a number."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class RunSection(Section):
    """What is run, for how long, and where its state lies."""

    mode: Literal["simulated", "paper", "testnet", "live"] = "simulated"
    """Who trades: the simulated venue, live data with simulated fills, or an exchange. All but the first need the flag
    of that name too (`mmdaemon run --testnet`)."""
    tape: str = Field(default="", json_schema_extra=NOT_HASHED)
    """Recording to replay at the simulated venue: a file, a folder, or files in order with `:` between; empty is the
    synthetic market."""
    speed: Literal["real", "max"] = "real"
    """`real` is wall time; `max` is virtual time without sockets: no control socket, no metrics."""
    duration_s: float = Field(default=0.0, ge=0, le=31_536_000)
    """Stop after this long, of the run's own time; 0 runs until stopped or until the tape ends."""
    seed: int = Field(default=7, ge=0, le=2**63 - 1, json_schema_extra={"unit": "any number"})
    """Seed of the synthetic market and of the simulated venue. Same seed, same settings: same run."""
    state_dir: str = Field(default="", json_schema_extra=NOT_HASHED)
    """State directory; empty is $STATE_DIRECTORY, else the user's XDG state folder with the instance's name."""
    instance: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", json_schema_extra=NOT_HASHED)
    """Name of this bot where several run on one machine: lower-case letters, digits, - and _; at most 32."""
    rollover_hour_utc: int = Field(default=0, ge=0, le=23)
    """Hour at which a trading day begins."""
    crash_loop_starts: int = Field(default=3, ge=0, le=100, json_schema_extra={"unit": "starts"})
    """This many unclean starts within the window start latched in HARD_STOP; 0 turns it off."""
    crash_loop_window_s: float = Field(default=600.0, ge=1, le=86_400)
    """Window in which unclean starts are counted."""
    stall_s: float = Field(default=5.0, ge=1, le=60)
    """An event loop without progress for this long is stalled: latched, and the process ends."""
    shadow: bool = False
    """Evaluate guard, requote gate and reservations in full at every event and fail on a difference (tests)."""


class VenueSection(Section):
    """Which venue, which account, and how it is spoken to."""

    exchange: Literal["bitget", "bybit", "okx", "binanceusdm", "hyperliquid", "gate"] = "bitget"
    """Exchange of paper, testnet and live, by ccxt's name. One without proof (docs/VENUES.md) is refused for live."""
    account: Literal["unified", "classic"] = "unified"
    """Which of Bitget's two APIs the account has. It is said here and never guessed from an error."""
    symbol: str = Field(default="BTCUSDT", pattern=r"^[A-Za-z0-9][A-Za-z0-9/:_.-]{0,31}$")
    """The contract at the exchange, by the exchange's own name."""
    emulator: str = Field(default="", json_schema_extra=NOT_HASHED)
    """`http://127.0.0.1:PORT` of `mmdaemon emulator`, in place of the exchange; empty is the exchange itself."""
    insist_unproven: bool = False
    """Trade live at an exchange that nothing has been proven of."""
    dead_man_s: int = Field(default=30, ge=0, le=60)
    """Countdown after which the venue cancels everything unless told again, where it has one: 5 to 60, 0 is off."""
    stop_bps: float = Field(default=500.0, ge=0, le=2_000)
    """Distance from mark of the stop that the exchange keeps while a position exists; 0 is off."""
    book_depth: int = Field(default=10, ge=5, le=200, json_schema_extra={"unit": "levels a side"})
    """How much of the exchange's book is used. Paper looks for our place in the queue in it."""
    remote: str = Field(default="", json_schema_extra=NOT_HASHED)
    """Socket of a venue process (`mmdaemon venue --listen`); empty is a simulated venue in the daemon's process."""
    request_timeout_s: float = Field(default=5.0, ge=0.1, le=30)
    """A request without answer for this long is UNKNOWN: not rejected, and never sent again under a new id."""
    in_flight_max_s: float = Field(default=15.0, ge=1, le=300)
    """Longest a request may still arrive. Least 1 at the simulated venue, in paper and at the emulator; 15 at an
    exchange and 30 at Bitget, and guard.clock_offset_max_s on top."""
    ack_check_s: float = Field(default=5.0, ge=0.5, le=30)
    """An order not acknowledged after this long is looked into."""
    amend: bool = True
    """Amend orders in place where the venue can; otherwise cancel and place."""
    leverage: int = Field(default=1, ge=1, le=5, json_schema_extra={"unit": "times equity"})
    """Leverage set at the venue. It decides margin; position limits are set apart from it."""
    reconcile_orders_s: float = Field(default=10.0, ge=1, le=20)
    """Open orders are read and compared this often."""
    reconcile_position_s: float = Field(default=30.0, ge=1, le=300)
    """Position and balance are read and compared this often."""
    reconcile_ledger_s: float = Field(default=300.0, ge=10, le=3_600)
    """The ledger (funding, transfers) is read this often."""


class SimulatedSection(Section):
    """The simulated venue: the account, its delays, and what is assumed of fills."""

    equity_quote: float = Field(default=100_000.0, ge=10, le=100_000_000)
    """Balance at the start: the simulated account lives and dies with the process that the venue is in."""
    maker_fee_bps: float = Field(default=2.0, ge=-5, le=50)
    """Fee of a resting fill; negative is a rebate."""
    taker_fee_bps: float = Field(default=6.0, ge=-5, le=100)
    """Fee of a taking fill."""
    request_latency_s: float = Field(default=0.05, ge=0, le=5)
    """From our sending a request to its arrival at the matching engine."""
    response_latency_s: float = Field(default=0.05, ge=0, le=5)
    """From the matching engine to us: answers and private stream."""
    feed_latency_s: float = Field(default=0.02, ge=0, le=5)
    """From the matching engine to us: public data of a made market. A recording has its own."""
    latency_jitter_fraction: float = Field(default=0.0, ge=0, le=1)
    """Seeded spread of each delay: up to this fraction of it is added, evenly."""
    fills: Literal["through", "queue", "touch"] = "queue"
    """When a resting order fills. `through`: a trade beyond its price (the floor). `queue`: after the queue ahead of
    it. `touch`: any trade at its price (flattering; shown only to say how much)."""
    queue_model: Literal["risk_averse", "prob"] = "risk_averse"
    """Whose cancellations shorten the queue: `risk_averse` only those behind us, `prob` both in proportion."""
    queue_exponent: int = Field(default=3, ge=1, le=16, json_schema_extra={"unit": "power"})
    """Power n of `prob`: a cancellation was behind us with probability back^n / (back^n + front^n)."""
    post_only: Literal["reject", "cancel_later"] = "cancel_later"
    """A post-only order that would take is refused at once, or accepted and then cancelled on the stream."""
    dead_man: bool = False
    """Whether the venue offers a dead-man countdown."""


class JournalSection(Section):
    """The journal: one SQLite file in the state directory."""

    durability: Literal["power", "process"] = "process"
    """What a committed row survives: `power` loss (needed where money trades), or the end of the `process`."""
    keep_days: int = Field(default=35, ge=0, le=3_660, json_schema_extra={"unit": "days"})
    """Decisions with their inputs, the venue's words and amends stay for so long and until a verified daily copy has
    them; 0 is for ever. Orders, fills, money, the history of guard and kill switch always stay (docs/BACKUP.md)."""


class BackupSection(Section):
    """Verified copies of the journal, taken by the daemon once a day (docs/BACKUP.md)."""

    enabled: bool = True
    """Take them. A run at full speed (`run.speed = "max"`) takes none."""
    hour_utc: int = Field(default=0, ge=0, le=23, json_schema_extra={"unit": "hour, UTC"})
    """Hour after which one is due, best that of `run.rollover_hour_utc`. A missed one is taken at the next start."""
    dir: str = Field(default="", json_schema_extra=NOT_HASHED)
    """Folder of the copies, better on another disk; empty is `backups` in the state directory."""
    keep_daily: int = Field(default=14, ge=1, le=366, json_schema_extra={"unit": "days"})
    """Of so many days the newest copy stays."""
    keep_monthly: int = Field(default=12, ge=0, le=120, json_schema_extra={"unit": "months"})
    """Of so many months the newest copy stays."""


class ControlSection(Section):
    """The operator's door."""

    enabled: bool = True
    """Open the control socket; without it only signals and the kill file reach the daemon."""


class MetricsSection(Section):
    """Prometheus metrics, on 127.0.0.1 only."""

    enabled: bool = True
    """Serve metrics."""
    port: int = Field(default=9877, ge=0, le=65_535, json_schema_extra={**NOT_HASHED, "unit": "TCP port"})
    """Port, one an instance; 0 takes a free one, shown by `mmdaemon status`."""


class PageSection(Section):
    """The operator page: the run in a browser, live (docs/PAGE.md). On 127.0.0.1 only."""

    enabled: bool = Field(default=False, json_schema_extra=NOT_HASHED)
    """Serve it. Whoever reaches the port reads what `mmdaemon status` says; the kill button asks for the token."""
    port: int = Field(default=9878, ge=0, le=65_535, json_schema_extra={**NOT_HASHED, "unit": "TCP port"})
    """Port, one an instance; 0 takes a free one, shown by `mmdaemon status`."""
    history_s: int = Field(default=1_800, ge=60, le=7_200, json_schema_extra=NOT_HASHED)
    """So much of the past is kept in memory, a sample a second, for whoever opens the page."""


class LogSection(Section):
    """What the daemon says, on stderr or in the journal of systemd."""

    level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", json_schema_extra=NOT_HASHED)
    """The least that is said. A SIGHUP applies it to a running daemon; fills and guard moves are INFO."""
