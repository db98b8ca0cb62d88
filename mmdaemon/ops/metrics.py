"""Prometheus metrics on 127.0.0.1, read from `Status` when they are scraped: nothing is added to the hot path.

    python -m mmdaemon.ops.metrics      writes docs/METRICS.md anew (a test compares)

`METRICS` is the whole of it, one row a metric: collector and documentation are made from it. Base units, `_total` on
counters. Counters and states begin at 0; a gauge of something unknown is absent, since 0 would be a claim. Labels hold
this program's own words: no order id, and no text of a venue's messages.
"""

import errno
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import msgspec
from aiohttp import web
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import NS, GuardState, KillState, Regime
from mmdaemon.ops.control import OUTCOMES
from mmdaemon.ops.status import Status

HOST: Final = "127.0.0.1"
PREFIX: Final = "mmdaemon_"
CHECKOUT: Final = Path(__file__).resolve().parents[2]
_BPS: Final = 1e-4
_LABEL = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SIDES: Final = ("buy", "sell")


class MetricsError(Exception):
    """The metrics cannot be served. The message says what to do."""


class Reading(msgspec.Struct, frozen=True):
    """What one scrape reads."""

    status: Status
    control: Mapping[str, int]
    """Outcomes of the control socket, `ControlServer.counts`."""
    logs_dropped: int


Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values, in the order of the metric's labels, and the value."""


class Metric(msgspec.Struct, frozen=True):
    """A row of METRICS."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...]
    read: Callable[[Reading], Samples]


def _one(read: Callable[[Status], float | str | None]) -> Callable[[Reading], Samples]:
    """One value; absent where it is None."""

    def samples(reading: Reading) -> Samples:
        value = read(reading.status)
        return () if value is None else (((), float(value)),)

    return samples


def _is(states: type[StrEnum], read: Callable[[Status], str]) -> Callable[[Reading], Samples]:
    """1 for the state it is in, 0 for the others."""
    return lambda reading: [((state.value,), float(read(reading.status) == state)) for state in states]


def _pnl(part: str) -> Callable[[Reading], Samples]:
    return _one(lambda s: s.pnl.get(part))


def _count(name: str) -> Callable[[Reading], Samples]:
    return _one(lambda s: s.counts.get(name, 0))


def _by_label(known: Iterable[str], counts: Mapping[str, int]) -> Samples:
    """Counts by our own words, 0 for each known one. What is not a word of ours is counted as "other"."""
    sums = Counter(dict.fromkeys(known, 0))
    for name, count in counts.items():
        sums[name if _LABEL.fullmatch(name) else "other"] += count
    return [((name,), float(count)) for name, count in sums.items()]


def _prices(reading: Reading) -> Samples:
    s = reading.status
    prices = {"fair": s.fair, "bid": s.bid, "ask": s.ask, "mark": s.mark, "average": s.average_px}
    return [((name,), float(px)) for name, px in prices.items() if px is not None]


def _working(reading: Reading) -> Samples:
    return [((side,), float(sum(q.working and q.side == side for q in reading.status.quotes))) for side in _SIDES]


def _distances(reading: Reading) -> Samples:
    nearest = {q.side: q.distance_bps for q in sorted(reading.status.quotes, key=lambda q: -q.level)}
    return [((side,), abs(bps) * _BPS) for side, bps in nearest.items()]


def _edges(reading: Reading) -> Samples:
    edges = reading.status.edge_bps
    return [((side, addend), bps * _BPS) for side, parts in edges.items() for addend, bps in parts.items()]


def _guard_seconds(reading: Reading) -> Samples:
    return [((state.value,), reading.status.guard_seconds.get(state, 0.0)) for state in GuardState]


def _other_counts(reading: Reading) -> Samples:
    return _by_label((), {name: n for name, n in reading.status.counts.items() if name not in _OWN_ROW})


def _build(reading: Reading) -> Samples:
    s = reading.status
    return (((s.program_version, s.config_hash, s.mode, s.venue, s.symbol), 1.0),)


def _reasons(reading: Reading) -> Samples:
    return [((reason.value,), float(reason in reading.status.reasons)) for reason in Reason]


def _fills(reading: Reading) -> Samples:
    return [((side,), float(reading.status.counts.get(f"fills_{side}", 0))) for side in _SIDES]


def _market_refused(reading: Reading) -> Samples:
    return _by_label(_MARKET_REFUSALS, reading.status.market_refused)


def _links(reading: Reading) -> Samples:
    return [((link,), float(reading.status.links.get(link, False))) for link in ("public", "private")]


def _open_breaks(reading: Reading) -> Samples:
    return [((weight,), float(reading.status.open_breaks.get(weight, 0))) for weight in ("hard", "soft")]


def _control(reading: Reading) -> Samples:
    return _by_label(OUTCOMES, reading.control)


def _gauge(name: str, text: str, read: Callable[[Reading], Samples], *labels: str) -> Metric:
    return Metric(PREFIX + name, "gauge", text, labels, read)


def _counter(name: str, text: str, read: Callable[[Reading], Samples], *labels: str) -> Metric:
    return Metric(f"{PREFIX}{name}_total", "counter", text, labels, read)


_MARKET_REFUSALS: Final = (
    "one_sided",
    "out_of_order",
    "future",
    "bad_level",
    "unsorted",
    "crossed",
    "absurd",
    "bad_trade",
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
}
"""Name in `Status.counts` -> name of the counter, and its help."""
_OWN_ROW: Final = frozenset({*_COUNTS, "fills_buy", "fills_sell"})

METRICS: Final[tuple[Metric, ...]] = (
    _gauge(
        "build_info", "1, with what runs where as labels.", _build, "version", "config_hash", "mode", "venue", "symbol"
    ),
    _gauge("run_epoch", "Number of this run in its state directory.", _one(lambda s: s.run_epoch)),
    _gauge("start_timestamp_seconds", "When the run began (UTC).", _one(lambda s: s.at_ts_ns / NS - s.uptime_s)),
    _gauge("guard_state", "1 for the guard's state, 0 for others.", _is(GuardState, lambda s: s.guard), "state"),
    _counter("guard_seconds", "Time that the guard spent in each state.", _guard_seconds, "state"),
    _gauge("guard_reason", "1 for each reason that keeps the guard from running, 0 for others.", _reasons, "reason"),
    _gauge(
        "kill_state",
        "1 for the kill switch's state, 0 for others; anything but armed is latched.",
        _is(KillState, lambda s: s.kill),
        "state",
    ),
    _gauge("gate_closed", "1 while the gate is closed.", _one(lambda s: bool(s.gate_closed))),
    _gauge("regime", "1 for the market's regime, 0 for others.", _is(Regime, lambda s: s.regime), "regime"),
    _gauge("quotes_working", "Quotes for which an order stands at the venue.", _working, "side"),
    _gauge(
        "quote_absent",
        "1 for each side that is not quoted, by why. Absent while it is.",
        lambda r: [((side, why), 1.0) for side, why in r.status.absent.items() if _LABEL.fullmatch(why)],
        *("side", "why"),
    ),
    _gauge(
        "quote_distance_ratio",
        "Distance of the nearest target quote from fair value, as a share of it. Absent without a quote.",
        _distances,
        "side",
    ),
    _gauge(
        "required_edge_ratio",
        "What a quote must earn, by addend, as a share of price; the addends sum to the whole.",
        _edges,
        "side",
        "addend",
    ),
    _gauge(
        "price_quote",
        "Fair value, best bid and ask, mark, and average of the position. Absent if unknown.",
        _prices,
        "of",
    ),
    _gauge("position_base", "Position in base currency, negative if short.", _one(lambda s: s.position)),
    _gauge("position_limit_base", "Largest position that quotes may lead to.", _one(lambda s: s.max_position)),
    _gauge("equity_quote", "Equity in quote currency, as the loss limits see it.", _one(lambda s: s.equity)),
    _gauge("pnl_quote", "Profit and loss, the whole; absent without a mark.", _pnl("total")),
    _gauge("pnl_day_quote", "Profit and loss of the trading day; absent without a mark.", _pnl("day")),
    _gauge("pnl_realised_quote", "Realised part of the whole, before fees and funding.", _pnl("realised")),
    _gauge("pnl_unrealised_quote", "Unrealised part of the whole, at mark.", _pnl("unrealised")),
    _gauge("pnl_fees_quote", "Fees' part of the whole; negative is paid.", _pnl("fees")),
    _gauge("pnl_funding_quote", "Funding's part of the whole; negative is paid.", _pnl("funding")),
    _gauge("open_orders", "Orders that are open, in flight or unknown.", _one(lambda s: s.open_orders)),
    _gauge("unknown_orders", "Orders whose fate the venue has not said.", _one(lambda s: s.unknown_orders)),
    _gauge("open_breaks", "Open disagreements with the venue; a hard one keeps quoting off.", _open_breaks, "weight"),
    _counter("fills", "Fills, by our side.", _fills, "side"),
    *(_counter(name, text, _count(key)) for key, (name, text) in _COUNTS.items()),
    _counter("other", "What else the daemon counts, by name.", _other_counts, "of"),
    _counter("market_refused", "Market data that was dropped, by reason.", _market_refused, "reason"),
    _gauge("link_up", "1 while the venue's public or private stream is up.", _links, "link"),
    _gauge(
        "book_timestamp_seconds",
        "When the last healthy book came in (UTC). Absent before the first.",
        _one(lambda s: None if s.book_age_s is None else s.at_ts_ns / NS - s.book_age_s),
    ),
    _gauge("loop_lag_seconds", "How late the event loop last was. Absent if unknown.", _one(lambda s: s.loop_lag_s)),
    _gauge(
        "journal_lag_seconds",
        "Age of the oldest row that is not on disk. Absent if unknown.",
        _one(lambda s: s.journal_age_s),
    ),
    _counter("control_requests", "Control socket: what became of each connection.", _control, "outcome"),
    _counter(
        "logs_dropped", "Log lines dropped because stderr was not read in time.", lambda r: (((), r.logs_dropped),)
    ),
)


class StatusCollector(Collector):
    """Turns a reading into metric families at each scrape."""

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """Nothing: else the registry would take a reading when the collector is registered."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        reading = self._read()
        for metric in METRICS:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.help, labels=metric.labels)
            for labels, value in metric.read(reading):
                family.add_metric(labels, value)
            yield family


def _no_counts() -> Mapping[str, int]:
    return {}


def _none_dropped() -> int:
    return 0


class MetricsServer:
    """`/metrics` and `/healthz` on 127.0.0.1. `port` is the one it got, once started; 0 before.

    `control` gives `ControlServer.counts`, `logs_dropped` the log's. `/healthz` answers 200 with guard and kill state
    while the loop turns and a status can be made: whether it quotes is a matter for `mmdaemon status` and alerts.
    """

    def __init__(
        self,
        status: Callable[[], Status],
        port: int,
        *,
        control: Callable[[], Mapping[str, int]] = _no_counts,
        logs_dropped: Callable[[], int] = _none_dropped,
    ) -> None:
        self.port = 0
        self._asked_port = port
        self._status = status
        self._registry = CollectorRegistry()
        self._registry.register(StatusCollector(lambda: Reading(status(), control(), logs_dropped())))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            MetricsError: the port is taken, or not ours to take.
        """
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._asked_port).start()
        except OSError as error:
            await runner.cleanup()
            raise MetricsError(_refusal(self._asked_port, error)) from None
        self._runner = runner
        self.port = int(runner.addresses[0][1])

    async def close(self) -> None:
        runner, self._runner, self.port = self._runner, None, 0
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _healthz(self, _request: web.Request) -> web.Response:
        status = self._status()
        return web.json_response({"guard": status.guard, "kill": status.kill, "uptime_s": status.uptime_s})


def _refusal(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"metrics port {port} on {HOST} is in use, perhaps by another mmdaemon: set metrics.port to a free one, or "
            "to 0 for any (shown by `mmdaemon status`)"
        )
    return f"metrics port {port} on {HOST}: {error.strerror or error}; set metrics.port to another, or to 0 for any"


def metrics_markdown() -> str:
    """docs/METRICS.md."""
    rows = "\n".join(f"| `{m.name}` | {m.kind} | {', '.join(m.labels)} | {m.help} |" for m in METRICS)
    return f"""# Metrics

Generated from `mmdaemon/ops/metrics.py` by `python -m mmdaemon.ops.metrics`; a test compares.

Served at `http://{HOST}:9877/metrics` (`metrics.port`; 0 takes a free one, `mmdaemon status` shows it). Everything is
read when it is scraped. Counters and states begin at 0; a gauge of something unknown is absent, not 0. A restart may
begin counters anew, as Prometheus expects. `/healthz` answers 200 with the guard's and the kill switch's state while
the event loop turns.

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
