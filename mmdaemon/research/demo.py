"""The demo: eight and a half virtual hours in which everything happens once, on the real wiring.

    12:00 calm    14:00 trend    16:00 settlement (calm)    17:15 burst
    18:30 disconnect with an order in flight, reconcile     18:45 toxic flow
    20:00 kill with live orders, resume                     20:30 stop

A fixed script in virtual time with a fixed seed: it does the same every time, and says what it saw. Each step checks
what it shows; a step that did not happen is said, and fails the demo.
"""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus
from mmdaemon.daemon.pace import sleep_ns, sleep_until
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from mmdaemon.venues.simulated.venue import SimulatedVenue

START_TS_NS = int(datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()) * NS
_MINUTE_S = 60
SCHEDULE: Schedule = (
    (Stretch.CALM, 120 * _MINUTE_S),
    (Stretch.UP, 60 * _MINUTE_S),
    (Stretch.CALM, 135 * _MINUTE_S),
    (Stretch.BURSTING, 60 * _MINUTE_S),
    (Stretch.CALM, 30 * _MINUTE_S),
    (Stretch.TOXIC, 60 * _MINUTE_S),
    (Stretch.CALM, 60 * _MINUTE_S),
)
DURATION_NS = 510 * _MINUTE_S * NS


class Seen(msgspec.Struct, frozen=True):
    """One scripted event as it went: what was looked at, in words with figures, and whether it was as it must be."""

    at_ts_ns: int
    name: str
    text: str
    ok: bool


Say = Callable[[Seen], None]


class DemoScript:
    """The script as `research.session` plays it. `seen` is what happened, in order."""

    def __init__(self, say: Say, progress: Callable[[int], None]) -> None:
        self._say = say
        self._progress = progress
        self.seen: list[Seen] = []

    async def __call__(self, daemon: Daemon, venue: SimulatedVenue, clock: Clock) -> str:
        self._daemon, self._venue, self._clock = daemon, venue, clock
        self._begun_ns = clock.mono_ns()
        await self._until(20)
        self._tell("calm", self._fills_text(), ok=daemon.state.guard.state is GuardState.RUNNING)
        await self._until(179)
        self._tell("trend", f"regime {daemon.state.detector.regime.value}; {self._fills_text()}", ok=True)
        await self._settlement()
        await self._until(374)
        self._tell("burst", f"regime {daemon.state.detector.regime.value}; {self._fills_text()}", ok=True)
        await self._until(390)
        await self._disconnect()
        await self._toxic()
        await self._until(480)
        await self._kill_and_resume()
        await self._until(510)
        return "the demo is over"

    async def _settlement(self) -> None:
        await self._until(239)
        before = self._daemon.state.position.funding_e10
        held = self._daemon.state.position.position_lots
        await self._until(247)  # past the ledger's next reading
        paid = self._daemon.state.position.funding_e10 - before
        rate = self._daemon.state.venue.funding
        text = f"position {self._lots(held)} at 16:00, ledger booked {paid / 1e10:+.6f} {self._quote}"
        # A position that was held over the settlement pays or is paid; a flat one is not.
        self._tell("settlement", text, ok=rate is not None and (paid != 0) == (held != 0))

    async def _disconnect(self) -> None:
        """Cut every link while an order or an amend is on its way, and let reconciliation find what became of it."""
        state, clock = self._daemon.state, self._clock
        until_ns = clock.mono_ns() + 900 * NS
        caught = ""
        while not caught and clock.mono_ns() < until_ns:
            await sleep_ns(clock, NS // 100)
            for order in state.orders.live.values():
                if not order.acked_ns and order.status in (OrderStatus.NEW, OrderStatus.SENT):
                    caught = order.client_id
                elif order.pending_ns:
                    caught = f"{order.client_id} (an amend)"
        self._venue.disconnect(12.0, ("private", "public", "rest"))
        await sleep_ns(clock, 8 * NS)
        unknown = [o.client_id for o in state.orders.live.values() if o.status is OrderStatus.UNKNOWN]
        self._tell(
            "disconnect",
            f"all links down with {caught or 'nothing'} in flight: guard {state.guard.state.value}, "
            f"{len(unknown)} orders UNKNOWN and still reserved",
            ok=bool(caught) and state.guard.state is GuardState.RECONCILING,
        )
        begun_ns = clock.mono_ns()
        while state.guard.state is not GuardState.RUNNING and clock.mono_ns() < begun_ns + 120 * NS:
            await sleep_ns(clock, NS // 10)
        left = sum(o.status is OrderStatus.UNKNOWN for o in state.orders.live.values())
        breaks = f"breaks: {', '.join(state.facts.breaks)}" if state.facts.breaks else "no breaks"
        self._tell(
            "reconcile",
            f"venue read, {left} orders UNKNOWN, {breaks}, running again "
            f"{(clock.mono_ns() - begun_ns) / NS:.1f} s later",
            ok=not left and not state.facts.breaks and state.guard.state is GuardState.RUNNING,
        )

    async def _toxic(self) -> None:
        """Informed flow: what our fills lost within 5 s, and what of it came to stand in the required edge."""
        await self._until(405)
        state = self._daemon.state
        fills, impact_e10, turnover_e10 = self._traded()
        widest = 0.0
        for minute in range(406, 466):
            await self._until(minute)
            widest = max(widest, state.sampled.adverse_buy_bps, state.sampled.adverse_sell_bps)
        more_fills, more_e10, more_turnover_e10 = self._traded()
        fills, impact_e10, turnover_e10 = more_fills - fills, more_e10 - impact_e10, more_turnover_e10 - turnover_e10
        bps = impact_e10 / turnover_e10 * 1e4 if turnover_e10 else 0.0
        self._tell(
            "toxic flow",
            f"{fills} fills were followed by {bps:+.2f} bps within 5 s; adverse selection grew to {widest:.2f} bps of "
            "the required edge",
            ok=fills > 0 and bps < 0,
        )

    def _traded(self) -> tuple[int, int, int]:
        held = self._daemon.state.position
        return held.buys + held.sells, self._daemon.state.markouts.impact_5s_e10, held.turnover_e10

    async def _kill_and_resume(self) -> None:
        daemon, state = self._daemon, self._daemon.state
        live = len(state.orders.live)
        begun_ns = self._clock.mono_ns()

        async def quietly(_line: str) -> None:
            return

        outcome = await daemon.parts.operator.kill("demo", "script", quietly)
        took_ms = (self._clock.mono_ns() - begun_ns) / 1e6
        resting = await self._venue.open_orders()
        self._tell(
            "kill",
            f"{live} orders live, position {self._lots(state.position.position_lots)}: nothing rests {took_ms:.0f} ms "
            f"later, read from the venue",
            ok=outcome.ok and not resting and live > 0,
        )
        await daemon.parts.kill_switch.wait_for(KillState.KILLED)
        without = await daemon.parts.operator.resume("", "script")
        resumed = await daemon.parts.operator.resume("the demo goes on", "script")
        while state.guard.state is not GuardState.RUNNING and self._clock.mono_ns() < begun_ns + 120 * NS:
            await sleep_ns(self._clock, NS // 10)
        await sleep_ns(self._clock, 5 * NS)
        self._tell(
            "resume",
            f"refused without a reason, granted with one after a clean reconcile; guard {state.guard.state.value} at "
            f"{state.sampled.size_share:.0%} size",
            ok=not without.ok
            and resumed.ok
            and state.guard.state is GuardState.RUNNING
            and state.sampled.size_share < 1,
        )

    async def _until(self, minutes: float) -> None:
        """Sleep to a minute of the script, a step at a time so that progress shows."""
        until_ns = self._begun_ns + round(minutes * 60) * NS
        while self._clock.mono_ns() < until_ns and not self._daemon.has_ended:
            await sleep_until(self._clock, min(until_ns, self._clock.mono_ns() + 30 * NS))
            self._progress(self._clock.mono_ns() - self._begun_ns)

    def _tell(self, name: str, text: str, *, ok: bool) -> None:
        seen = Seen(self._clock.wall_ns(), name, text, ok)
        self.seen.append(seen)
        self._say(seen)

    def _fills_text(self) -> str:
        held = self._daemon.state.position
        return f"{held.buys} buys, {held.sells} sells, position {self._lots(held.position_lots)}"

    @property
    def _quote(self) -> str:
        return self._daemon.params.instrument.quote

    def _lots(self, lots: int) -> str:
        return f"{lots * self._daemon.params.instrument.lot_e10 / 1e10:+.4f}"
