"""The venue changes tick, lot or minimum: nothing is sent by the old rules once that is known, and nothing is counted
in two of them."""

from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Amend, Place
from mmdaemon.core.types import GuardState, Instrument
from mmdaemon.daemon.instrument import changed, refuse_other_steps
from mmdaemon.journal.recovery import RecoveryRefused
from tests.core.build import BTC
from tests.daemon.build import World, run_world


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


def restate(world: World, **rules: int) -> None:
    """From now on the venue states other rules."""
    held = world.daemon.params.instrument
    if "tick_e10" in rules or "lot_e10" in rules:
        said = Instrument.of(
            venue=held.venue,
            symbol=held.symbol,
            tick_e10=rules.get("tick_e10", held.tick_e10),
            lot_e10=rules.get("lot_e10", held.lot_e10),
        )
    else:
        said = msgspec.structs.replace(held, **rules)

    async def instrument() -> Instrument:
        return said

    world.venue.instrument = instrument


@pytest.mark.parametrize("rule", ["tick_e10", "lot_e10", "min_qty_lots", "max_qty_lots", "min_notional_e10"])
def test_a_rule_that_changes_while_up_stops_with_its_name_and_nothing_resting(path: Path, rule: str) -> None:
    """With a position and live orders."""

    async def script(world: World) -> None:
        await world.trade()
        assert world.state.position.position_lots
        assert world.venue.resting()
        was = getattr(world.daemon.params.instrument, rule)
        restate(world, **{rule: 10 * was if was else 7})
        await world.until(lambda: world.guard is GuardState.HARD_STOP, within_s=61)
        stopped_ns = world.now_ns
        await world.sleep(5)
        assert world.venue.resting() == []
        assert any(rule in line and "restart" in line for line in world.parts.status().why_not_quoting)
        await world.sleep(30)
        assert not (await world.parts.operator.resume("go on", "test")).ok
        await world.sleep(30)
        late = [s for s in world.venue.sent if s.mono_ns > stopped_ns and isinstance(s.command, Place | Amend)]
        assert late == []

    run_world(script, path)


def test_the_next_start_takes_a_new_minimum(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        held = world.daemon.params.instrument
        restate(world, min_qty_lots=held.min_qty_lots + 1)
        await world.crash()
        await world.restart()
        assert world.daemon.params.instrument.min_qty_lots == held.min_qty_lots + 1

    run_world(script, path)


@pytest.mark.parametrize("rule", ["tick_e10", "lot_e10"])
def test_a_start_on_books_of_another_tick_or_lot_is_refused(path: Path, rule: str) -> None:
    async def script(world: World) -> None:
        await world.trade()
        restate(world, **{rule: 10 * getattr(world.daemon.params.instrument, rule)})
        sent = len(world.venue.sent)
        await world.crash()
        with pytest.raises(RecoveryRefused, match=f"{rule} .* and now "):
            await world.restart()
        assert len(world.venue.sent) == sent

    run_world(script, path)


def test_another_version_may_have_other_steps() -> None:
    newer = msgspec.structs.replace(BTC, version=2, tick_e10=BTC.tick_e10 // 2)
    refuse_other_steps([BTC], newer)
    refuse_other_steps([BTC, newer], newer)
    assert changed(BTC, BTC) == []
