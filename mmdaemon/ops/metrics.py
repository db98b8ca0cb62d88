"""Prometheus metrics on 127.0.0.1, read from `Status` when they are scraped: nothing is added to the hot path.

    python -m mmdaemon.ops.metrics      writes docs/METRICS.md anew (a test compares)

`METRICS` is the whole of it, one row a metric: collector and documentation are made from it. Base units, `_total` on
counters. Counters and states begin at 0; a gauge of something unknown is absent, since 0 would be a claim. Labels hold
this program's own words: no order id, and no text of a venue's messages.
"""

import sys
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import NS, GuardState, KillState, Regime
from mmdaemon.ops.control import OUTCOMES
from mmdaemon.ops.metric import BPS, LABEL, Metric, Reading, Samples, by_label, counter, gauge, is_state, one
from mmdaemon.ops.metrics_health import DISTRIBUTIONS, HEALTH
from mmdaemon.ops.metrics_strategy import STRATEGY
from mmdaemon.ops.notify import OUTCOMES as TOLD
from mmdaemon.ops.status import HistogramView

HOST: Final = "127.0.0.1"
CHECKOUT: Final = Path(__file__).resolve().parents[2]
_SIDES: Final = ("buy", "sell")


def _pnl(part: str) -> Callable[[Reading], Samples]:
    return one(lambda s: s.pnl.get(part))


def _count(name: str) -> Callable[[Reading], Samples]:
    return one(lambda s: s.counts.get(name, 0))


def _prices(reading: Reading) -> Samples:
    s = reading.status
    prices = {"fair": s.fair, "bid": s.bid, "ask": s.ask, "mark": s.mark, "average": s.average_px}
    return [((name,), float(px)) for name, px in prices.items() if px is not None]


def _working(reading: Reading) -> Samples:
    return [((side,), float(sum(q.working and q.side == side for q in reading.status.quotes))) for side in _SIDES]


def _distances(reading: Reading) -> Samples:
    nearest = {q.side: q.distance_bps for q in sorted(reading.status.quotes, key=lambda q: -q.level)}
    return [((side,), abs(bps) * BPS) for side, bps in nearest.items()]


def _guard_seconds(reading: Reading) -> Samples:
    return [((state.value,), reading.status.guard_seconds.get(state, 0.0)) for state in GuardState]


def _other_counts(reading: Reading) -> Samples:
    return by_label((), {name: n for name, n in reading.status.counts.items() if name not in _OWN_ROW})


def _build(reading: Reading) -> Samples:
    s = reading.status
    return (((s.program_version, s.config_hash, s.mode, s.venue, s.symbol), 1.0),)


def _reasons(reading: Reading) -> Samples:
    return [((reason.value,), float(reason in reading.status.reasons)) for reason in Reason]


def _fills(reading: Reading) -> Samples:
    return [((side,), float(reading.status.counts.get(f"fills_{side}", 0))) for side in _SIDES]


def _market_refused(reading: Reading) -> Samples:
    return by_label(_MARKET_REFUSALS, reading.status.market_refused)


def _bars_source(reading: Reading) -> Samples:
    return [((source,), float(reading.status.bars_source == source)) for source in ("venue", "mids")]


def _links(reading: Reading) -> Samples:
    return [((link,), float(reading.status.links.get(link, False))) for link in ("public", "private")]


def _open_breaks(reading: Reading) -> Samples:
    return [((weight,), float(reading.status.open_breaks.get(weight, 0))) for weight in ("hard", "soft")]


def _told(reading: Reading) -> Samples:
    return by_label(TOLD, reading.notify)


def _control(reading: Reading) -> Samples:
    return by_label(OUTCOMES, reading.control)


_MARKET_REFUSALS: Final = (
    "one_sided",
    "out_of_order",
    "future",
    "bad_level",
    "unsorted",
    "crossed",
    "absurd",
    "bad_trade",
    "bad_time",
    "link_down",
)
_COUNTS: Final = {
    "events": ("events", "Events that the core took in."),
    "decisions": ("decisions", "Decisions that changed something, each of them a row of the journal."),
    "commands": ("commands", "Commands that the core let out: orders, amends, cancels."),
    "sent": ("commands_sent", "Commands that went over the wire to the venue."),
    "refusals": ("refusals", "Commands that a pre-trade check refused."),
    "gate_refused": ("gate_refusals", "Commands that met a closed gate."),
    "conflated": ("books_conflated", "Books that a newer one replaced before the core saw them."),
    "duplicate_fills": ("duplicate_fills", "Fills that the venue delivered again; each is booked once."),
    "order_anomalies": ("order_anomalies", "Messages on an order that do not fit its life so far."),
    "charged_otherwise": ("charged_otherwise", "Fills whose fee was not what the schedule says."),
}
"""Name in `Status.counts` -> name of the counter, and its help."""
_OWN_ROW: Final = frozenset({*_COUNTS, "fills_buy", "fills_sell"})

METRICS: Final[tuple[Metric, ...]] = (
    gauge(
        "build_info", "1, with what runs where as labels.", _build, "version", "config_hash", "mode", "venue", "symbol"
    ),
    gauge("run_epoch", "Number of this run in its state directory.", one(lambda s: s.run_epoch)),
    gauge("start_timestamp_seconds", "When the run began (UTC).", one(lambda s: s.at_ts_ns / NS - s.uptime_s)),
    gauge("guard_state", "1 for the guard's state, 0 for others.", is_state(GuardState, lambda s: s.guard), "state"),
    counter("guard_seconds", "Time that the guard spent in each state.", _guard_seconds, "state"),
    gauge("guard_reason", "1 for each reason that keeps the guard from running, 0 for others.", _reasons, "reason"),
    gauge(
        "kill_state",
        "1 for the kill switch's state, 0 for others; anything but armed is latched.",
        is_state(KillState, lambda s: s.kill),
        "state",
    ),
    gauge("gate_closed", "1 while the gate is closed.", one(lambda s: bool(s.gate_closed))),
    gauge("regime", "1 for the market's regime, 0 for others.", is_state(Regime, lambda s: s.regime), "regime"),
    gauge("bars_source", "1 for where the minute bars in use come from, 0 for the other.", _bars_source, "source"),
    *STRATEGY,
    gauge("quotes_working", "Quotes for which an order stands at the venue.", _working, "side"),
    gauge(
        "quote_absent",
        "1 for each side that is not quoted, by why. Absent while it is.",
        lambda r: [((side, why), 1.0) for side, why in r.status.absent.items() if LABEL.fullmatch(why)],
        *("side", "why"),
    ),
    gauge(
        "quote_distance_ratio",
        "Distance of the nearest target quote from fair value, as a share of it. Absent without a quote.",
        _distances,
        "side",
    ),
    gauge(
        "price_quote",
        "Fair value, best bid and ask, mark, and average of the position. Absent if unknown.",
        _prices,
        "of",
    ),
    gauge("position_base", "Position in base currency, negative if short.", one(lambda s: s.position)),
    gauge("position_limit_base", "Largest position that quotes may lead to.", one(lambda s: s.max_position)),
    gauge("equity_quote", "Equity in quote currency, as the loss limits see it.", one(lambda s: s.equity)),
    gauge("pnl_quote", "Profit and loss, the whole; absent without a mark.", _pnl("total")),
    gauge("pnl_day_quote", "Profit and loss of the trading day; absent without a mark.", _pnl("day")),
    gauge("pnl_realised_quote", "Realised part of the whole, before fees and funding.", _pnl("realised")),
    gauge("pnl_unrealised_quote", "Unrealised part of the whole, at mark.", _pnl("unrealised")),
    gauge("pnl_fees_quote", "Fees' part of the whole; negative is paid.", _pnl("fees")),
    gauge("pnl_funding_quote", "Funding's part of the whole; negative is paid.", _pnl("funding")),
    gauge("open_orders", "Orders that are open, in flight or unknown.", one(lambda s: s.open_orders)),
    gauge("unknown_orders", "Orders whose fate the venue has not said.", one(lambda s: s.unknown_orders)),
    gauge("open_breaks", "Open disagreements with the venue; a hard one keeps quoting off.", _open_breaks, "weight"),
    counter("fills", "Fills, by our side.", _fills, "side"),
    *(counter(name, text, _count(key)) for key, (name, text) in _COUNTS.items()),
    counter("other", "What else the daemon counts, by name.", _other_counts, "of"),
    counter("market_refused", "Market data that was dropped, by reason.", _market_refused, "reason"),
    gauge("link_up", "1 while the venue's public or private stream is up.", _links, "link"),
    gauge("book_healthy", "1 while the book is healthy: the guard's own judgement.", one(lambda s: s.book_healthy)),
    gauge("book_locked", "1 while best bid and ask are one price.", one(lambda s: s.book_locked)),
    counter("book_locks", "Updates of the book that were locked.", one(lambda s: s.book_locks)),
    gauge(
        "book_timestamp_seconds",
        "When the last healthy book came in (UTC). Absent before the first.",
        one(lambda s: None if s.book_age_s is None else s.at_ts_ns / NS - s.book_age_s),
    ),
    gauge("loop_lag_seconds", "How late the event loop last was. Absent if unknown.", one(lambda s: s.loop_lag_s)),
    gauge(
        "journal_lag_seconds",
        "Age of the oldest row that is not on disk. Absent if unknown.",
        one(lambda s: s.journal_age_s),
    ),
    *HEALTH,
    counter("control_requests", "Control socket: what became of each connection.", _control, "outcome"),
    counter("notify_messages", "Messages to the addresses of `notify_urls`, by what became of them.", _told, "outcome"),
    counter(
        "logs_dropped", "Log lines dropped because stderr was not read in time.", lambda r: (((), r.logs_dropped),)
    ),
)


_Family = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


def _buckets(view: HistogramView) -> list[tuple[str, float]]:
    """What was counted up to each bound, as the format wants it; what is beyond the last too."""
    bounds = [*(f"{bound:g}" for bound in view.bounds_s), "+Inf"]
    return list(zip(bounds, map(float, accumulate(view.counts)), strict=True))


class StatusCollector(Collector):
    """Turns a reading into metric families at each scrape."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterable[_Family]:
        """Nothing: else the registry would take a reading when the collector is registered."""
        return ()

    def collect(self) -> Iterable[_Family]:
        reading = self._read()
        for metric in METRICS:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.read(reading):
                family.add_metric(labels, value)
            yield family
        for distribution in DISTRIBUTIONS:
            spread = HistogramMetricFamily(distribution.name, distribution.help, labels=distribution.labels)
            for labels, view in distribution.read(reading):
                spread.add_metric(labels, _buckets(view), view.sum_s)
            yield spread


def metrics_markdown() -> str:
    """docs/METRICS.md."""
    table = [(m.name, m.kind, m.labels, m.help) for m in METRICS]
    table += [(d.name, "histogram", d.labels, d.help) for d in DISTRIBUTIONS]
    rows = "\n".join(f"| `{name}` | {kind} | {', '.join(labels)} | {text} |" for name, kind, labels, text in table)
    return f"""# Metrics

Generated from `mmdaemon/ops/metrics.py` and its `metrics_*.py` by `python -m mmdaemon.ops.metrics`; a test compares.

Served at `http://{HOST}:9877/metrics` (`metrics.port`; 0 takes a free one, `mmdaemon status` shows it). Everything is
read when it is scraped. Counters and states begin at 0; a gauge of something unknown is absent, not 0. A restart may
begin counters anew, as Prometheus expects. `/healthz` answers 200 with the guard's and the kill switch's state while
the event loop turns. What watches them: [MONITORING.md](MONITORING.md).

| metric | type | labels | meaning |
| --- | --- | --- | --- |
{rows}

Beside them stand prometheus-client's own `process_*` (CPU, memory, descriptors, start), `python_info` and
`python_gc_*`. Under systemd, `ProcSubset=pid` silently empties `process_*`.
"""


def main() -> None:
    """Write docs/METRICS.md of this checkout."""
    path = CHECKOUT / "docs" / "METRICS.md"
    path.write_text(metrics_markdown(), encoding="utf-8")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
