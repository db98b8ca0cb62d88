"""What the guard's eyes see, and how soon they say it."""

from pathlib import Path

import msgspec
import pytest

from mmdaemon.clock import Clock
from mmdaemon.core.events import HealthFacts
from mmdaemon.core.reasons import Reason, reasons_of
from mmdaemon.core.types import NS, GuardState
from mmdaemon.daemon import guard
from mmdaemon.venues.base import AccountFacts, VenueUnavailable
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.daemon.build import World, busy, run_world


def test_the_account_is_known_to_the_guard_as_soon_as_it_was_read(tmp_path: Path) -> None:
    """The quoting waits for it: a second look at everything else is not waited for."""

    async def script(world: World) -> None:
        read_ns: list[int] = []

        async def facts() -> AccountFacts:
            if not read_ns and world.now_ns < begun_ns + 7 * NS:
                raise VenueUnavailable("the test says so")
            told = await SimulatedVenue.facts(world.venue)
            read_ns.append(world.now_ns)
            return told

        await world.crash()
        begun_ns = world.now_ns
        world.venue.facts = facts
        await world.restart()
        await world.until(lambda: Reason.NO_FACTS in reasons_of(world.state.guard.active), 1.0)
        await world.until(lambda: read_ns, 20.0)
        await world.sleep(0.1)
        health = world.state.facts.health
        assert health is not None
        assert health.account_facts_ok is True
        assert health.clock_offset_s is not None
        assert 0 <= health.mono_ns - read_ns[0] <= NS // 10

    run_world(script, tmp_path / "state", busy())


def test_what_is_said_early_has_the_lag_that_was_measured_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is late is late for who learns of the account as well."""
    on_time = guard.sleep_until

    async def late(clock: Clock, at_ns: int) -> None:
        await on_time(clock, at_ns + 7 * NS // 10)

    async def script(world: World) -> None:
        told: list[HealthFacts] = []

        async def facts() -> AccountFacts:
            if world.now_ns < begun_ns + 12 * NS:
                raise VenueUnavailable("the test says so")
            return await SimulatedVenue.facts(world.venue)

        await world.crash()
        begun_ns = world.now_ns
        world.venue.facts = facts
        monkeypatch.setattr(guard, "sleep_until", late)
        await world.restart()

        def knows() -> bool:
            health = world.state.facts.health
            if health is not None and (not told or told[-1] is not health):
                told.append(health)
            return bool(told) and told[-1].account_facts_ok is True

        await world.until(knows, 30.0)
        assert len(told) > 3
        assert [health.loop_lag_s for health in told[1:]] == [0.7] * len(told[1:])

    run_world(script, tmp_path / "state", busy())


def test_fees_in_another_coin_stop_it_and_are_said_once(tmp_path: Path) -> None:
    """Its result and its edge are counted in quote currency: to go on would be one break after another."""

    async def script(world: World) -> None:
        await world.trade(5)
        real = world.venue.facts

        async def facts() -> AccountFacts:
            return msgspec.structs.replace(await real(), fees_in=("BGB",))

        world.venue.facts = facts
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 70.0)
        await world.until(lambda: not world.venue.resting(), 5.0)
        assert world.state.position.position_lots, "left to a person"
        assert Reason.ACCOUNT_FACTS in reasons_of(world.state.guard.active)
        await world.sleep(130)
        (told,) = [fields["what"] for name, fields in world.said if name == "account_wrong"]
        assert "fees are paid in BGB" in str(told)

    run_world(script, tmp_path / "state", busy())
