"""The picture of a running daemon: its addends sum, and when a side is missing it says why."""

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.types import GuardState, KillState, Side
from mmdaemon.daemon.status import decimal_text
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
        assert (quote.distance_bps < 0) == (quote.side == "buy")
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

    said = run_world(script, path, schedule=BURSTING)
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
