"""The gate by itself, and as the last line before the wire in a daemon that trades."""

from itertools import product
from pathlib import Path

import pytest

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus, Purpose, Side
from mmdaemon.daemon.gate import Gate
from tests.daemon.build import LATENCY_NS, World, run_world


def place(*, reduce_only: bool) -> Place:
    return Place("mmdemo-1-1", Side.BUY, 600_000, 10, Purpose.QUOTE, 0, post_only=True, reduce_only=reduce_only)


PASSES: dict[str, tuple[Command, bool]] = {
    "place": (place(reduce_only=False), False),
    "reduce_only": (place(reduce_only=True), True),
    "amend": (Amend("mmdemo-1-1", 1, 600_000, 5), False),
    "cancel": (Cancel("mmdemo-1-1", risk=False), True),
    "risk_cancel": (Cancel("mmdemo-1-1", risk=True), True),
}


@pytest.mark.parametrize(("command", "passes_closed"), PASSES.values(), ids=PASSES)
def test_what_passes(command: Command, *, passes_closed: bool) -> None:
    gate = Gate()
    assert gate.passes(command)
    gate.close("test")
    assert gate.passes(command) is passes_closed
    gate.open()
    assert gate.passes(command)


def test_the_first_reason_stays_until_it_is_opened() -> None:
    gate = Gate()
    assert gate.closed_because == ""
    for reason in ("one", "two"):
        gate.close(reason)
        assert gate.closed_because == "one"
    gate.open()
    gate.close("")
    assert gate.closed_because  # a reason that says nothing closes it too
    assert Gate("latched").closed_because == "latched"


def test_a_closed_gate_refuses_by_events_and_frees_what_was_reserved(path: Path) -> None:
    """Closed under a core that knows nothing of it and goes on quoting: each order comes back rejected."""

    async def script(world: World) -> None:
        await world.trade()
        world.daemon.gate.close("test")
        closed_ns = world.now_ns
        refused = world.parts.sender.refused
        await world.sleep(30)
        assert world.guard is GuardState.RUNNING
        assert world.parts.sender.refused - refused > 5
        assert world.venue.increasing_since(closed_ns) == []
        assert world.venue.arrivals_since(closed_ns + LATENCY_NS + 1) == []
        orders = world.state.orders
        assert orders.reject_streak == 0  # no venue rejected anything
        assert all(o.acked_ns or world.now_ns - o.created_ns < NS // 10 for o in orders.live.values())
        open_lots = sum(o.reserved_lots for o in orders.live.values())
        assert orders.reserved_buy_lots + orders.reserved_sell_lots == open_lots
        with world.journal() as journal:
            rows = journal.db.execute(
                "SELECT kind, status, cum_filled_lots FROM order_events WHERE reason = 'gate:test'"
            ).fetchall()
        kinds = {kind for kind, *_ in rows}
        assert kinds == {"update", "amend_failed"}
        assert all(status == OrderStatus.REJECTED and cum == 0 for kind, status, cum in rows if kind == "update")

    run_world(script, path)


def test_cancels_pass_a_closed_gate(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        assert world.venue.resting()
        world.daemon.gate.close("test")
        closed_ns = world.now_ns
        await world.parts.operator.pause("test", "test")
        await world.until(lambda: not world.venue.resting(), 1)
        cancels = [each for each in world.venue.sent if each.mono_ns >= closed_ns]
        assert cancels
        assert all(isinstance(each.command, Cancel) for each in cancels)
        assert world.kill is KillState.ARMED
        assert not world.venue.cancel_alls

    run_world(script, path)


def test_every_soft_state_leaves_the_gate_alone(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        for link, seconds in product(("public", "private"), (3.0, 8.0)):
            world.venue.disconnect(seconds, (link,))
            if link == "public" or seconds > 5:
                await world.until(lambda: world.guard is not GuardState.RUNNING, 10)
            assert world.daemon.gate.closed_because == ""
            await world.sleep(seconds)
            await world.until(lambda: world.guard is GuardState.RUNNING, 20)

    run_world(script, path)
