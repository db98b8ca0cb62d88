"""Metrics of what the daemon stands on: journal, disk, account, requests; and what happened between two scrapes."""

from collections.abc import Callable, Iterable
from typing import Final

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import NS, GuardState
from mmdaemon.ops.metric import PREFIX, Distribution, Metric, Reading, Samples, by_label, counter, gauge
from mmdaemon.ops.status import HealthView, HistogramView

BREAK_KINDS: Final = (
    "position",
    "equity",
    "second_instance",
    "forced_trade",
    "orphan",
    "overdue_order",
    "foreign_order",
    "manual_trade",
)
"""As `daemon/breaks.py` has them; a test compares."""
_FAILURES: Final = ("rejected", "unknown", "amend", "cancel")
_LINKS: Final = ("public", "private")


def _one(read: Callable[[HealthView], float | str | None]) -> Callable[[Reading], Samples]:
    """One value; absent where it is None."""

    def samples(reading: Reading) -> Samples:
        health = reading.status.health
        value = None if health is None else read(health)
        return () if value is None else (((), float(value)),)

    return samples


def _counted(read: Callable[[HealthView], int]) -> Callable[[Reading], Samples]:
    def samples(reading: Reading) -> Samples:
        health = reading.status.health
        return (((), 0.0 if health is None else float(read(health))),)

    return samples


def _counts(known: Iterable[str], read: Callable[[HealthView], dict[str, int]]) -> Callable[[Reading], Samples]:
    """0 for each known one that was not counted."""
    names = tuple(known)

    def samples(reading: Reading) -> Samples:
        health = reading.status.health
        return by_label(names, {} if health is None else read(health))

    return samples


def _limits(reading: Reading) -> Samples:
    health = reading.status.health
    return () if health is None else [((name,), share) for name, share in health.limits.items()]


def _seconds(ts_ns: int | None) -> float | None:
    return None if ts_ns is None else ts_ns / NS


HEALTH: Final[tuple[Metric, ...]] = (
    counter(
        "guard_entries",
        "How often each state of the guard was entered.",
        _counts(GuardState, lambda h: h.guard_entries),
        "state",
    ),
    counter(
        "guard_reason_raised",
        "How often each reason came up: one that lasted a second is counted too.",
        _counts(Reason, lambda h: h.reasons_raised),
        "reason",
    ),
    counter(
        "fills_after_pause",
        "Fills of our orders while nothing was to rest: those that met their cancel within 5 s, and later ones.",
        _counts(("in_flight", "later"), lambda h: h.fills_after_pause),
        "when",
    ),
    counter(
        "order_failures",
        "Requests that came to nothing: orders rejected or of unknown fate, amends and cancels refused.",
        _counts(_FAILURES, lambda h: h.order_failures),
        "what",
    ),
    gauge("order_reject_streak", "Orders refused since the venue last took one.", _one(lambda h: h.reject_streak)),
    counter(
        "link_losses", "How often a stream of the venue went down.", _counts(_LINKS, lambda h: h.link_losses), "link"
    ),
    gauge(
        "open_breaks_of_kind",
        "Open disagreements with the venue, by kind.",
        _counts(BREAK_KINDS, lambda h: h.breaks_open),
        "kind",
    ),
    gauge(
        "heartbeat_timestamp_seconds",
        "When the quoting controller last took an event in (UTC); a timer's comes each second.",
        _one(lambda h: h.heartbeat_ts_ns / NS if h.heartbeat_ts_ns else None),
    ),
    gauge("journal_failed", "1 once the journal cannot be written any more.", _one(lambda h: h.journal_failed)),
    counter("journal_commits", "Commits of the journal.", _counted(lambda h: h.journal_commits)),
    counter("journal_rows", "Rows committed to the journal.", _counted(lambda h: h.journal_rows)),
    gauge(
        "state_dir_free_bytes",
        "Free on the state directory's file system. Absent if unknown.",
        _one(lambda h: h.disk_free_bytes),
    ),
    gauge(
        "state_dir_size_bytes",
        "Size of the state directory's file system. Absent if unknown.",
        _one(lambda h: h.disk_size_bytes),
    ),
    gauge(
        "journal_size_bytes", "Size of the journal with its log. Absent if unknown.", _one(lambda h: h.journal_bytes)
    ),
    gauge(
        "journal_oldest_decision_timestamp_seconds",
        "When the oldest decision was made that the journal still has (UTC). Absent if unknown.",
        _one(lambda h: _seconds(h.journal_since_ts_ns)),
    ),
    counter(
        "journal_pruned_rows", "Rows that left the journal because they were old.", _counted(lambda h: h.pruned_rows)
    ),
    gauge(
        "backup_dir_free_bytes",
        "Free on the file system of the daily copies. Absent if unknown, or where none are made.",
        _one(lambda h: h.backup_free_bytes),
    ),
    gauge(
        "backup_dir_size_bytes",
        "Size of the file system of the daily copies. Absent if unknown, or where none are made.",
        _one(lambda h: h.backup_size_bytes),
    ),
    gauge(
        "backup_timestamp_seconds",
        "When the newest verified backup was made (UTC). Absent where there is none.",
        _one(lambda h: _seconds(h.backup_ts_ns)),
    ),
    gauge("backup_failures", "Backups in a row that came to nothing.", _one(lambda h: h.backup_failures)),
    gauge(
        "clock_offset_seconds",
        "Our clock less the venue's. Absent if unknown.",
        _one(lambda h: h.clock_offset_s),
    ),
    gauge(
        "unprotected_seconds",
        "How long the venue has kept no stop, or no countdown, for us. Absent if unknown.",
        _one(lambda h: h.unprotected_s),
    ),
    gauge(
        "account_ok",
        "1 while the account is as configured: mode, leverage, what the key may do. Absent until read.",
        _one(lambda h: h.account_ok),
    ),
    gauge(
        "margin_available_ratio",
        "Available margin as a share of equity. Absent if unknown.",
        _one(lambda h: h.margin_available),
    ),
    gauge(
        "equity_day_open_quote",
        "Equity as the trading day opened. Absent if unknown.",
        _one(lambda h: h.day_open_equity),
    ),
    gauge("equity_peak_quote", "Highest equity, as the drawdown limit counts it.", _one(lambda h: h.peak_equity)),
    gauge("limit_ratio", "The guard's limits as configured, as shares of equity.", _limits, "of"),
    gauge(
        "fees_known",
        "1 while the fee rates in force were read from the venue.",
        lambda reading: (((), float(reading.status.fees is not None)),),
    ),
)


def _spread(name: str, text: str, view: str) -> Distribution:
    def read(reading: Reading) -> Iterable[tuple[tuple[str, ...], HistogramView]]:
        health = reading.status.health
        return () if health is None else (((), health.histograms[view]),)

    return Distribution(PREFIX + name, text, (), read)


def _answers(reading: Reading) -> Iterable[tuple[tuple[str, ...], HistogramView]]:
    health = reading.status.health
    if health is None:
        return ()
    return [((request,), health.histograms[f"{request}_to_answer"]) for request in ("place", "amend", "cancel")]


DISTRIBUTIONS: Final[tuple[Distribution, ...]] = (
    _spread(
        "event_to_send_seconds",
        "From an event's arrival to the request that it led to, durable intent included.",
        "event_to_send",
    ),
    Distribution(
        PREFIX + "send_to_answer_seconds", "From a request to the venue's first word on it.", ("request",), _answers
    ),
    _spread("loop_lag_spread_seconds", "How late the event loop was, each time it was measured.", "loop_lag"),
    _spread("journal_commit_seconds", "How long a commit of the journal took.", "journal_commit"),
)
"""Histograms of this run."""
