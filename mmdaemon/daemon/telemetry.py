"""What happened between two looks at a state: counts and latencies of this run, for metrics alone.

A state that lasts a second is gone before anybody scrapes it, so what an alert rests on is counted here when it begins.
Fed by the recorder (after each step), the sender and the journal's writer. Nothing here is read by a decision.
"""

from bisect import bisect_left
from collections import Counter
from typing import Final

from mmdaemon.core import cost
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.engine import Step
from mmdaemon.core.events import NOT_SENT, Event, Fill, HealthFacts, LinkChanged, OrderUpdate, RequestFailed
from mmdaemon.core.guard import QUOTING
from mmdaemon.core.reasons import reasons_of
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, TERMINAL, OrderStatus
from mmdaemon.ops.status import HistogramView

IN_FLIGHT_NS: Final = 5 * NS
"""After the quotes were called back, a fill within this long met its cancel on the way. A later one is of an order that
rests although nothing should."""
_WAITING_MAX = 4_096
"""Requests whose answer is awaited. Where more are lost than this, the oldest are forgotten."""
_OURS = (OrderStatus.SENT, OrderStatus.UNKNOWN)
"""Words of ours, and no answer."""


class Histogram:
    """Counts by upper bound, as Prometheus wants them, less the summing up."""

    def __init__(self, *bounds_s: float) -> None:
        self._bounds_s = list(bounds_s)
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, value_s: float) -> None:
        self._counts[bisect_left(self._bounds_s, value_s)] += 1
        self._sum_s += value_s

    def view(self) -> HistogramView:
        return HistogramView(list(self._bounds_s), list(self._counts), self._sum_s)


class Telemetry:
    """Counters that begin at 0 with the process."""

    def __init__(self, bot_tag: str) -> None:
        self._bot_tag = bot_tag
        self.guard_entries: Counter[str] = Counter()
        self.reasons_raised: Counter[str] = Counter()
        self.order_failures: Counter[str] = Counter()
        self.link_losses: Counter[str] = Counter()
        self.fills_after_pause: Counter[str] = Counter()
        self._active = 0
        self._duplicates: int | None = None
        self._stopped_quoting_ts_ns = 0
        """When it last stopped; 0 before it first did."""
        self._sent_ns: dict[tuple[str, str], int] = {}
        self._event_to_send = Histogram(0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
        answered = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
        self._answers = {request: Histogram(*answered) for request in ("place", "amend", "cancel")}
        self._loop_lag = Histogram(0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
        self._commit = Histogram(0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

    def sent(self, command: Command, seen_ns: int, now_ns: int) -> None:
        """A request went to the venue. `seen_ns`: when the event came that led to it (mono)."""
        self._event_to_send.observe((now_ns - seen_ns) / NS)
        self._sent_ns[_request(command), command.client_id] = now_ns
        if len(self._sent_ns) > _WAITING_MAX:
            del self._sent_ns[next(iter(self._sent_ns))]

    def committed(self, took_ns: int) -> None:
        """The journal's writer made a batch durable."""
        self._commit.observe(took_ns / NS)

    def on_step(self, state: State, event: Event, step: Step) -> None:
        """Everything but market data that led to nothing."""
        if state.guard.active != self._active:
            for reason in reasons_of(state.guard.active & ~self._active):
                self.reasons_raised[reason.value] += 1
            self._active = state.guard.active
        match event:
            case Fill():
                self._on_fill(state, event)
            case OrderUpdate():
                self._on_update(event)
            case RequestFailed():
                self._answered(event.request, event.client_id, event.mono_ns)
                if not event.reason.startswith(NOT_SENT):
                    self.order_failures[event.request] += 1
            case HealthFacts(loop_lag_s=float(lag_s)):
                self._loop_lag.observe(lag_s)
            case LinkChanged(up=False):
                self.link_losses[event.link.value] += 1
            case _:
                pass
        moved = step.transition
        if moved is not None:
            self.guard_entries[moved.after.value] += 1
            if moved.before in QUOTING and moved.after not in QUOTING:
                self._stopped_quoting_ts_ns = event.ts_ns

    def histograms(self) -> dict[str, HistogramView]:
        return {
            "event_to_send": self._event_to_send.view(),
            **{f"{request}_to_answer": answered.view() for request, answered in self._answers.items()},
            "loop_lag": self._loop_lag.view(),
            "journal_commit": self._commit.view(),
        }

    def _on_fill(self, state: State, fill: Fill) -> None:
        """By the venue's clock: what a gap of the stream hid may be read long after it traded. The kill switch's own
        orders are to fill, and trades of no order of ours are a break."""
        before, self._duplicates = self._duplicates, state.position.duplicate_fills
        if before not in (None, state.position.duplicate_fills):
            return  # booked long ago
        if not cost.is_own(fill, self._bot_tag) or fill.client_id.rpartition("-")[2].startswith("k"):
            return
        if state.guard.state in QUOTING or not self._stopped_quoting_ts_ns:
            return
        after_ns = (fill.venue_ts_ns or fill.ts_ns) - self._stopped_quoting_ts_ns
        if after_ns > 0:
            self.fills_after_pause["later" if after_ns > IN_FLIGHT_NS else "in_flight"] += 1

    def _on_update(self, update: OrderUpdate) -> None:
        word = update.word
        if update.reason.startswith(NOT_SENT) or update.reason == "never_sent":
            return
        if word is OrderStatus.UNKNOWN:
            self.order_failures["unknown"] += 1
        elif word is OrderStatus.REJECTED:
            self.order_failures["rejected"] += 1
        if word in _OURS:
            return
        self._answered("place", update.client_id, update.mono_ns)
        if update.revision:
            self._answered("amend", update.client_id, update.mono_ns)
        if word in TERMINAL:
            self._answered("cancel", update.client_id, update.mono_ns)
            self._sent_ns.pop(("amend", update.client_id), None)

    def _answered(self, request: str, client_id: str, mono_ns: int) -> None:
        sent_ns = self._sent_ns.pop((request, client_id), None)
        if sent_ns is not None:
            self._answers[request].observe(max(0, mono_ns - sent_ns) / NS)


def _request(command: Command) -> str:
    match command:
        case Place():
            return "place"
        case Amend():
            return "amend"
        case Cancel():
            return "cancel"
