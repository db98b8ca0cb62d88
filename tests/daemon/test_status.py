"""The picture of a running daemon: its addends sum, and when a side is missing it says why."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.fill_quality import Bound, Phase
from mmdaemon.core.guard import is_book_healthy
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import NS, GuardState, KillState, Side
from mmdaemon.daemon.status import decimal_text
from mmdaemon.ops.metric import Reading
from mmdaemon.ops.metrics import METRICS
from mmdaemon.ops.status import Status
from mmdaemon.venues.simulated.faults import FaultKind
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from tests.daemon.build import World, busy, run_world

BURSTING: Schedule = ((Stretch.BURSTING, 1e6),)


@pytest.mark.parametrize(
    ("amount_e10", "text"),
    [
        (0, "0"),
        (1, "0.0000000001"),
        (-1, "-0.0000000001"),
        (10**10, "1"),
        (-25 * 10**8, "-0.25"),
        (123_456_789 * 10**10 + 5 * 10**9, "123456789.5"),
    ],
)
def test_money_as_exact_text(amount_e10: int, text: str) -> None:
    assert decimal_text(amount_e10) == text
    assert Decimal(text).scaleb(10) == amount_e10


def test_money_is_cut_never_to_a_negative_zero() -> None:
    assert decimal_text(-1, 2) == "0"
    assert decimal_text(19 * 10**8, 1) == "0.1"


def check(status: Status, world: World) -> None:
    """What must hold of any picture at any time."""
    for quote in status.quotes:
        assert sum(quote.addends_bps.values()) == pytest.approx(quote.distance_bps, abs=1e-6)
        # Not inside its floor, which with a rebate is beyond fair value: the one with the signal in it.
        led_bps = quote.distance_bps - quote.addends_bps["signal"]
        edge = status.edge_bps[quote.side]
        floor_bps = min(edge["maker_fee"], sum(edge.values()))
        assert (-led_bps if quote.side == "buy" else led_bps) >= floor_bps - 1e-9, quote
    for addends in status.edge_bps.values():
        assert set(addends) == {"maker_fee", "exit", "adverse", "carry", "turnover", "min_edge"}
    pnl = {name: Decimal(text) for name, text in status.pnl.items()}
    if pnl:
        assert pnl["total"] == pnl["realised"] + pnl["unrealised"] + pnl["fees"] + pnl["funding"]
    resting = {o.side for o in world.state.orders.live.values() if o.acked_ns and not o.ended_ns}
    wanted = {quote.side for quote in status.quotes}
    if len(resting) < 2 or wanted != {"buy", "sell"}:
        assert status.why_not_quoting, f"a side is missing and nobody says why: {world.picture()}"
    assert sum(status.guard_seconds.values()) == pytest.approx(status.uptime_s, abs=1e-6)
    assert status.open_orders == sum(not o.ended_ns for o in world.state.orders.live.values())
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status


def test_every_second_of_a_wild_market(path: Path) -> None:
    """Bursts until the message budget refuses, so that quotes are wanted and none goes out."""

    async def script(world: World) -> set[str]:
        said: set[str] = set()
        for _ in range(130):
            status = world.parts.status()
            check(status, world)
            said.update(line.split(":")[0] for line in status.why_not_quoting)
            await world.sleep(1.037)
        assert world.parts.controller.refusals.get("message_rate", 0) > 0
        return said

    # Below what the venue takes, so that it is our own budget that ends first.
    said = run_world(script, path, busy(limits__messages_per_minute=300), schedule=BURSTING)
    assert said & {"no bid rests", "no ask rests"}


def test_every_second_of_a_troubled_life(path: Path) -> None:
    async def script(world: World) -> set[str]:
        guards: set[str] = set()

        async def look(seconds: int) -> None:
            for _ in range(seconds * 3):
                status = world.parts.status()
                guards.add(status.guard)
                check(status, world)
                await world.sleep(1 / 3)

        await look(20)
        world.venue.transfer(-300 * 10**10)
        await look(2)
        before = Decimal(world.parts.status().pnl["total"])
        assert abs(before) < 50  # money that was moved is neither won nor lost
        world.venue.disconnect(8.0)
        await look(20)
        await world.parts.operator.pause("x", "test")
        await look(5)
        await world.parts.operator.resume("x", "test")
        await look(10)
        world.parts.kill_switch.trip("x")
        await look(10)
        assert world.parts.status().kill == KillState.KILLED
        assert "latched" in " ".join(world.parts.status().why_not_quoting)
        return guards

    guards = run_world(script, path)
    assert guards >= {GuardState.RUNNING, GuardState.RECONCILING, GuardState.SOFT_PAUSE, GuardState.HARD_STOP}


def test_a_side_without_room_says_inventory(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.manual_trade(Side.BUY, 2_000)  # more than may be held
        await world.sleep(2)
        status = world.parts.status()
        assert "no bid: inventory" in status.why_not_quoting
        assert {quote.side for quote in status.quotes} == {"sell"}
        check(status, world)

    run_world(script, path)


def test_figures_are_those_of_the_state(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(30)
        status, state = world.parts.status(), world.state
        instrument = world.daemon.params.instrument
        assert Decimal(status.position) == Decimal(state.position.position_lots * instrument.lot_e10).scaleb(-10)
        assert status.counts["fills_buy"] + status.counts["fills_sell"] == len(world.venue.truth().fills)
        assert status.counts["sent"] == len(world.venue.sent)
        assert status.links == {"public": True, "private": True}
        assert Decimal(str(status.mark)) == Decimal(state.venue.mark_px_ticks) / 10
        assert [quote.side for quote in status.quotes] == ["buy", "buy", "sell", "sell"]
        assert status.market_refused == {}

    run_world(script, path, busy())


def test_what_the_regime_is_told_by_is_shown_with_its_source(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(10)
        status = world.parts.status()
        assert (status.bars_source, status.bars, status.band_bps, status.drift_bps) == ("", 0, None, None)
        await world.sleep(130)
        status = world.parts.status()
        assert (status.bars_source, status.bars, status.band_bps) == ("venue", 2, None)
        assert status.drift_bps is not None
        assert status.drift_bps == world.state.detector.drift_bps

    run_world(script, path)


def test_the_strategy_s_part_is_that_of_the_state(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(30)
        status, state, params = world.parts.status(), world.state, world.daemon.params
        assert state.decision is not None
        assert (status.book_healthy, status.book_locked) == (True, False)
        assert [(row.regime, row.figure) for row in status.regime_rows] == [
            ("high_vol_shock", "drift"),
            ("high_vol_shock", "band"),
            ("up", "trend"),
            ("down", "trend"),
            ("neutral_high_vol", "band"),
        ]
        assert status.regime_rows[0].enters_at_bps == params.detector.shock_drift_bps
        assert status.regime_rows[1].value_bps is None
        assert set(status.signal_features) == {"print", "momentum", "gap", "lean"}
        assert status.signal_bps == state.signal.bps
        assert status.fees is not None
        assert (status.fees.maker_bps, status.fees.source) == (pytest.approx(-1.0), "simulated")
        assert status.funding is not None
        assert status.funding.next_ts_ns > status.at_ts_ns
        assert set(status.sides) == {"buy", "sell"}
        for side, edge in (("buy", state.decision.buy_edge), ("sell", state.decision.sell_edge)):
            seen = status.sides[side]
            assert seen.required_bps == edge.total_bps
            assert seen.most_bps == params.regimes[state.detector.regime].spread_max_bps / 2
            assert (seen.gate, seen.gate_for_s, seen.pull, seen.size_share) == ("open", 0.0, "quoted", 1.0)
        assert status.derisk is not None
        assert (status.derisk.stage, status.derisk.next_stage, status.derisk.is_day_ending) == ("none", "", False)
        assert status.derisk.day_ends_in_s == pytest.approx(23 * 3600 - 30, abs=60)

    run_world(script, path, busy())


def test_markouts_are_summed_by_side_and_horizon_as_they_are_journaled(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(60)
        world.venue.disconnect(8.0)  # some horizons end without a book
        await world.sleep(90)
        await world.until(lambda: world.guard is GuardState.RUNNING, 60)
        status = world.parts.status()
        views = {(view.side, view.horizon_s): view for view in status.markouts}
        assert set(views) == {(side, horizon_s) for side in ("buy", "sell") for horizon_s in (1, 5, 30, 60)}
        await world.sleep(1)
        with world.journal() as journal:
            for (side, horizon_s), view in views.items():
                rows = (m for m in journal.markouts(1) if m.ts_ns <= status.at_ts_ns)
                kept = [m for m in rows if (m.side.name.lower(), m.horizon_s) == (side, horizon_s)]
                known = [m.effective_bps + m.impact_bps for m in kept if m.impact_bps is not None]
                assert (view.count, view.unavailable) == (len(known), len(kept) - len(known))
                assert view.sum_bps == pytest.approx(sum(known), abs=1e-4)
        assert views["buy", 5].count > 3
        assert sum(view.unavailable for view in views.values()) > 0

    run_world(script, path, busy())


def test_a_minute_keeps_the_book_s_health_as_the_guard_had_it(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(10)
        world.venue.inject(FaultKind.BOOK_SILENT, 150.0)
        await world.sleep(320)
        await world.sleep(1)
        with world.journal() as journal:
            minutes = list(journal.minutes(1))
            moves = journal.transitions(1)
        assert {minute.book_healthy for minute in minutes} == {True, False}
        for minute in minutes:
            reasons = next((m.reasons for m in reversed(moves) if m.seq <= minute.seq), "").split()
            assert minute.book_healthy or "book" in reasons  # which is held a little longer
            assert minute.fee_source == "simulated"
            assert minute.funding_rate is not None
            assert (minute.funding_due_ts_ns or 0) > minute.ts_ns
        sums = [minute.book_healthy_ns or 0 for minute in minutes]
        assert sums == sorted(sums)
        lost_ns = (minutes[-1].mono_ns - minutes[0].mono_ns) - (sums[-1] - sums[0])
        assert 140 * NS < lost_ns < 151 * NS

    run_world(script, path, busy())


def test_a_blocked_side_and_a_pulled_one_say_so_with_their_figures(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(10)
        state, now_ns = world.state, world.clock.mono_ns()
        state.gate.sell.blocked, state.gate.sell.since_ns = True, now_ns - 95 * NS
        state.quality.buy.phase, state.quality.buy.until_ns = Phase.PULLED, now_ns + 720 * NS
        state.quality.buy.bound = Bound(-0.8, -0.1, 34, 9)
        seen = world.parts.status().sides
        assert (seen["sell"].gate, seen["sell"].gate_for_s) == ("blocked", 95.0)
        assert (seen["buy"].pull, seen["buy"].pull_left_s) == ("pulled", 720.0)
        assert (seen["buy"].net_bps, seen["buy"].net_upper_bps, seen["buy"].net_fills) == (-0.8, -0.1, 34)

    run_world(script, path, busy())


def test_the_book_s_health_is_one_fact_for_guard_log_status_and_metric(path: Path) -> None:
    """Through a frozen feed and a reconnect."""

    async def script(world: World) -> list[bool]:
        turns: list[bool] = []

        async def look(seconds: float) -> None:
            for _ in range(round(seconds * 10)):
                await world.sleep(0.1)
                status, state = world.parts.status(), world.state
                assert status.book_healthy is is_book_healthy(state)
                assert status.book_healthy is (not state.guard.raw & BIT[Reason.BOOK])
                if not status.book_healthy:
                    assert "book" in status.reasons
                metric = next(row for row in METRICS if row.name == "mmdaemon_book_healthy")
                assert list(metric.read(Reading(status, {}, 0))) == [((), float(status.book_healthy))]
                if not turns or turns[-1] is not status.book_healthy:
                    turns.append(status.book_healthy)

        await world.trade(10)
        await look(3)
        world.venue.disconnect(4.0)
        await look(12)
        world.venue.inject(FaultKind.BOOK_FROZEN, 20.0)
        await look(40)
        said = [fields["healthy"] for name, fields in world.said if name == "book"]
        assert said[-len(turns) :] == turns
        return turns

    assert run_world(script, path, busy()) == [True, False, True, False, True]


def test_a_stop_is_a_reason(path: Path) -> None:
    """The venue cannot be read, so it takes a while, and whoever looks meanwhile is told."""

    async def script(world: World) -> None:
        await world.trade(30)
        world.venue.inject(FaultKind.READS_FAIL, 5.0)
        world.daemon.stop("SIGTERM")
        await world.until(lambda: world.guard is GuardState.STOPPING, 2)
        status = world.parts.status()
        assert status.why_not_quoting[0] == "stopping: SIGTERM"
        assert status.quotes == []
        check(status, world)

    run_world(script, path, busy())
