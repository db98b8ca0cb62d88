"""The picture of a running daemon for `status`, metrics and the page: `State` turned into `ops.status.Status`. No
rule is here."""

from collections.abc import Callable

from mmdaemon import __version__
from mmdaemon.clock import Clock
from mmdaemon.core import book, guard, position, reasons
from mmdaemon.core.absence import absences
from mmdaemon.core.decision import EdgeBreakdown, Quote
from mmdaemon.core.fair_value import fair_value_ticks
from mmdaemon.core.observe import regime_in_force
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import BPS, E10, NEVER_NS, NS, OrderStatus
from mmdaemon.daemon import health_view, strategy_view
from mmdaemon.daemon.backup import Backups
from mmdaemon.daemon.breaks import Ledger
from mmdaemon.daemon.gate import Gate
from mmdaemon.daemon.inbox import Inbox
from mmdaemon.daemon.kill_switch import KillSwitch
from mmdaemon.daemon.quoting import QuotingController
from mmdaemon.daemon.record import Recorder
from mmdaemon.daemon.sender import Sender
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.journal.writer import JournalWriter
from mmdaemon.ops.status import VERSION, BreakView, QuoteView, Status

_BREAKS_SHOWN = 20


def decimal_text(amount_e10: int, places: int = 10) -> str:
    """Money or a price in 1e-10 as exact decimal text, trailing zeros dropped."""
    whole, part = divmod(abs(amount_e10), E10)
    text = f"{whole}.{part:010d}"[: len(str(whole)) + 1 + places].rstrip("0").rstrip(".")
    return f"-{text}" if amount_e10 < 0 and text != "0" else text


class StatusView:
    """Makes a `Status` whenever asked. Reads everything, changes nothing."""

    def __init__(  # it shows everything
        self,
        state: State,
        params: Params,
        controller: QuotingController,
        sender: Sender,
        recorder: Recorder,
        inbox: Inbox,
        gate: Gate,
        kill_switch: KillSwitch,
        ledger: Ledger,
        journal: JournalWriter,
        state_dir: StateDir,
        backups: Backups,
        clock: Clock,
        mode: str,
        metrics_port: Callable[[], int],
        page_port: Callable[[], int],
    ) -> None:
        self._state = state
        self._params = params
        self._controller = controller
        self._sender = sender
        self._recorder = recorder
        self._inbox = inbox
        self._gate = gate
        self._kill_switch = kill_switch
        self._ledger = ledger
        self._journal = journal
        self._state_dir = state_dir
        self._backups = backups
        self._clock = clock
        self._mode = mode
        self._metrics_port = metrics_port
        self._page_port = page_port
        self._started_ns = clock.mono_ns()

    def __call__(self) -> Status:
        state, instrument = self._state, self._params.instrument
        now = self._clock.mono_ns()
        mark = state.venue.mark_px_ticks
        fair = fair_value_ticks(state.book, self._params.quotes.depth_levels)
        decision, health, held = state.decision, state.facts.health, state.position
        age_ns = book.age_ns(state.book, now)
        live = [o for o in state.orders.live.values() if not o.ended_ns]
        average = position.average_px_ticks(held)
        opened = sorted(self._ledger.open.values(), key=lambda each: each.opened_ts_ns)
        hard = sum(each.found.hard for each in opened)
        return Status(
            version=VERSION,
            at_ts_ns=self._clock.wall_ns(),
            run_epoch=self._params.run_epoch,
            mode=self._mode,
            venue=instrument.venue,
            symbol=instrument.symbol,
            config_hash=self._params.config_hash,
            program_version=__version__,
            metrics_port=self._metrics_port(),
            guard=state.guard.state.value,
            reasons=[r.value for r in reasons.reasons_of(state.guard.active)],
            why_not_quoting=guard.describe(state),
            kill=self._kill_switch.kill_state.value,
            gate_closed=self._gate.closed_because,
            regime=regime_in_force(state).value,
            fair=self._px(fair),
            bid=self._px(state.book.bid_px or None),
            ask=self._px(state.book.ask_px or None),
            mark=self._px(mark or None),
            book_age_s=None if age_ns >= NEVER_NS else age_ns / NS,
            quotes=[self._quote(q) for q in decision.quotes] if decision else [],
            edge_bps={"buy": _addends(decision.buy_edge), "sell": _addends(decision.sell_edge)} if decision else {},
            open_orders=len(live),
            unknown_orders=sum(o.status is OrderStatus.UNKNOWN for o in live),
            position=self._qty(held.position_lots),
            max_position=self._qty(decision.max_position_lots if decision else 0),
            average_px=self._px(average),
            equity=decimal_text(state.risk.equity_e10, 2),
            pnl=self._pnl(mark),
            counts=self._counts(),
            market_refused=dict(state.book.refused),
            links={"public": state.venue.public_up, "private": state.venue.private_up},
            guard_seconds=self._guard_seconds(now),
            loop_lag_s=health.loop_lag_s if health else None,
            journal_age_s=health.journal_age_s if health else None,
            uptime_s=(now - self._started_ns) / NS,
            open_breaks={"hard": hard, "soft": len(opened) - hard},
            breaks=[
                BreakView(each.found.name, each.found.owner, each.found.hard, each.found.detail, each.opened_ts_ns)
                for each in opened[:_BREAKS_SHOWN]
            ],
            absent={each.side.name.lower(): each.why for each in absences(state)},
            bars_source=state.bars.source,
            bars=len(state.bars.bars),
            band_bps=state.bars.atr14_bps,
            drift_bps=state.detector.drift_bps,
            shock_by=state.detector.shock_by,
            regime_rows=strategy_view.regime_rows(state, self._params),
            regime_seen=state.detector.seen.value,
            regime_leaves_in_s=strategy_view.regime_leaves_in_s(state, self._params, now),
            sigma_bps=state.sampled.sigma_bps or None,
            signal_bps=state.signal.bps,
            signal_features=strategy_view.signal_features(state),
            signals=strategy_view.signals_standing(state),
            signal_effect=strategy_view.signal_effect(state),
            signal_counts=strategy_view.signal_counts(state, self._params),
            fees=strategy_view.fees(state),
            funding=strategy_view.funding(state),
            carry_bps=state.sampled.carry_bps,
            adverse_bps={"buy": state.sampled.adverse_buy_bps, "sell": state.sampled.adverse_sell_bps},
            drift_multiplier=state.sampled.drift_multiplier,
            tracker_multiplier=strategy_view.tracker_multiplier(state, self._params),
            sides=strategy_view.sides(state, self._params, now),
            derisk=strategy_view.derisk(state, self._params, now),
            markouts=self._recorder.markouts.views(),
            book_healthy=guard.is_book_healthy(state),
            book_locked=state.book.locked,
            book_locks=state.book.locks,
            health=health_view.health(
                state,
                self._params,
                self._journal,
                self._ledger,
                self._recorder.telemetry,
                self._state_dir,
                self._backups,
            ),
            page_port=self._page_port(),
        )

    def _pnl(self, mark_px_ticks: int) -> dict[str, str]:
        held, risk = self._state.position, self._state.risk
        if not mark_px_ticks:
            return {}
        shown = {
            "realised": held.realised_e10,
            "unrealised": position.unrealised_e10(held, mark_px_ticks),
            "fees": -held.fees_e10,
            "funding": held.funding_e10,
            "total": position.equity_basis_e10(held, mark_px_ticks) - held.start_e10 - held.transfers_e10,
            "day": risk.equity_e10 - risk.day_open_e10 if risk.day >= 0 else 0,
        }
        return {name: decimal_text(amount) for name, amount in shown.items()}

    def _counts(self) -> dict[str, int]:
        state, held = self._state, self._state.position
        return {
            "events": state.seq,
            "decisions": self._recorder.decisions,
            "commands": self._controller.commands,
            "sent": self._sender.sent,
            "gate_refused": self._sender.refused,
            "refusals": sum(self._controller.refusals.values()),
            "fills_buy": held.buys,
            "fills_sell": held.sells,
            "fills_not_quoting": state.guard.fills_not_quoting,
            "duplicate_fills": held.duplicate_fills,
            "conflated": self._inbox.conflated,
            "order_anomalies": sum(state.orders.anomalies.values()),
            "charged_otherwise": state.venue.charged.otherwise,
        }

    def _guard_seconds(self, now_ns: int) -> dict[str, float]:
        guard_slice = self._state.guard
        spent = {name.value: ns / NS for name, ns in guard_slice.spent_ns.items()}
        since = (now_ns - guard_slice.entered_ns) / NS if guard_slice.entered_ns else 0.0
        spent[guard_slice.state.value] = spent.get(guard_slice.state.value, 0.0) + since
        return spent

    def _quote(self, quote: Quote) -> QuoteView:
        a = quote.addends
        scale = a.fair * BPS
        working = any(
            o.side is quote.side and o.purpose is quote.purpose and quote.lo_px_ticks <= o.px_ticks <= quote.hi_px_ticks
            for o in self._state.orders.live.values()
            if o.acked_ns and not o.ended_ns
        )
        return QuoteView(
            side=quote.side.name.lower(),
            level=quote.level,
            px=self._px(quote.px_ticks) or "",
            qty=self._qty(quote.qty_lots),
            working=working,
            distance_bps=(quote.px_ticks - a.fair) / scale,
            addends_bps={
                name: value / scale
                for name, value in (
                    ("signal", a.signal),
                    ("skew", a.skew),
                    ("carry", a.carry),
                    ("half", a.half),
                    ("level", a.level),
                    ("floor", a.floor),
                    ("clamp", a.clamp),
                    ("target", a.target),
                    ("direction", a.direction),
                    ("rounding", a.rounding),
                )
            },
        )

    def _px(self, ticks: float | None) -> str | None:
        return None if ticks is None else decimal_text(round(ticks * self._params.instrument.tick_e10))

    def _qty(self, lots: int) -> str:
        return decimal_text(lots * self._params.instrument.lot_e10)


def _addends(edge: EdgeBreakdown) -> dict[str, float]:
    return {
        "maker_fee": edge.maker_fee_bps,
        "exit": edge.exit_bps,
        "adverse": edge.adverse_bps,
        "carry": edge.carry_bps,
        "turnover": edge.turnover_bps,
        "min_edge": edge.min_edge_bps,
    }
