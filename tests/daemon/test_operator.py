"""What a person may do: each action works at once, is journaled with who and why, and says what came of it."""

import asyncio
from pathlib import Path

import pytest

from mmdaemon.core.types import GuardState, KillState, OrderStatus
from mmdaemon.journal.reader import JournalReader
from mmdaemon.venues.simulated.faults import FaultKind
from tests.daemon.build import World, run_world, say_nothing


def actions(path: Path) -> list[tuple[str, str, str, str]]:
    with JournalReader(path / "journal.sqlite") as journal:
        return [(row.action, row.reason, row.who, row.outcome) for row in journal.operator_actions(1)]


def test_pause_cancels_all_quotes_and_stays(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        assert world.venue.resting()
        outcome = await world.parts.operator.pause("lunch", "anna")
        assert (outcome.ok, outcome.exit_code) == (True, 0)
        paused_ns = world.now_ns
        assert world.guard is GuardState.SOFT_PAUSE  # in the same step
        await world.until(lambda: not world.venue.resting(), 0.2)
        await world.sleep(300)
        assert world.guard is GuardState.SOFT_PAUSE
        assert world.venue.resting() == []
        assert world.venue.increasing_since(paused_ns) == []
        assert world.daemon.gate.closed_because == ""
        assert world.kill is KillState.ARMED

    run_world(script, path)
    assert actions(path) == [("pause", "lunch", "anna", "taken")]


def test_pause_outlasts_a_gap_and_a_reconcile(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.parts.operator.pause("", "anna")
        world.venue.disconnect(8.0)
        await world.sleep(40)
        assert world.guard is GuardState.SOFT_PAUSE
        assert world.venue.resting() == []

    run_world(script, path)
    assert actions(path)[0][:2] == ("pause", "operator")


def test_resume_of_what_runs_says_that_nothing_was_ended(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        outcome = await world.parts.operator.resume("to be sure", "anna")
        assert outcome.ok
        assert "nothing to end" in outcome.message
        await world.parts.operator.pause("lunch", "anna")
        assert "pause is over" in (await world.parts.operator.resume("back", "anna")).message
        assert world.kill is KillState.ARMED

    run_world(script, path)


def test_resume_ends_a_pause_at_full_size(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.parts.operator.pause("lunch", "anna")
        await world.sleep(5)
        assert (await world.parts.operator.resume("back", "bert")).ok
        await world.until(world.is_two_sided_with_position, 20)
        assert world.state.sampled.size_share == 1.0

    run_world(script, path)
    assert actions(path) == [("pause", "lunch", "anna", "taken"), ("resume", "back", "bert", "taken")]


def test_a_refused_resume_is_journaled_with_why(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.parts.operator.pause("lunch", "anna")
        outcome = await world.parts.operator.resume(" ", "bert")
        assert not outcome.ok
        assert outcome.exit_code != 0
        assert "reason" in outcome.message
        assert world.guard is GuardState.SOFT_PAUSE

    run_world(script, path)
    assert actions(path)[1][:3] == ("resume", "", "bert")
    assert actions(path)[1][3].startswith("refused: a reason is needed")


def test_kill_returns_at_quiet_and_with_wait_at_verified(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        heard: list[str] = []

        async def say(line: str) -> None:
            heard.append(line)

        outcome = await world.parts.operator.kill("enough", "anna", say)
        assert (outcome.ok, outcome.exit_code) == (True, 0)
        assert "nothing rests" in outcome.message
        assert world.kill is KillState.QUIET
        assert world.venue.resting() == []
        assert heard
        waited = await world.parts.operator.kill("enough", "anna", say, wait=True)
        assert waited.ok
        assert world.kill in (KillState.VERIFIED, KillState.KILLED)

    run_world(script, path)
    assert [row[:3] for row in actions(path)] == [("kill", "enough", "anna")] * 2


def test_kill_does_not_return_while_orders_may_rest(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.inject(FaultKind.READS_FAIL, 5.0)
        killing = asyncio.create_task(world.parts.operator.kill("enough", "anna", say_nothing))
        await world.sleep(4.9)
        assert not killing.done()
        assert (await killing).ok

    run_world(script, path)


def test_ten_actions_at_once_are_all_journaled(path: Path) -> None:
    """Whatever their order, none is lost and the narrowest stands."""

    async def script(world: World) -> None:
        await world.trade()
        operator = world.parts.operator
        await asyncio.gather(
            *(operator.pause(f"p{n}", f"who{n}") for n in range(4)),
            *(operator.resume(f"r{n}", f"who{n}") for n in range(4)),
            *(operator.kill(f"k{n}", f"who{n}", say_nothing) for n in range(2)),
        )
        assert world.guard is GuardState.HARD_STOP
        assert world.venue.resting() == []
        await world.until(lambda: world.kill is KillState.KILLED, 20)

    run_world(script, path)
    done = actions(path)
    assert sorted((action, reason) for action, reason, _, _ in done) == sorted(
        [("pause", f"p{n}") for n in range(4)]
        + [("resume", f"r{n}") for n in range(4)]
        + [("kill", "k0"), ("kill", "k1")]
    )
    assert all(who == f"who{reason[1:]}" for _, reason, who, _ in done)


def test_resume_is_refused_while_stopping(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.venue.inject(FaultKind.READS_FAIL, 1.0)
        world.daemon.stop("evening")
        await world.sleep(0.5)
        outcome = await world.parts.operator.resume("not yet", "anna")
        assert not outcome.ok
        assert "stopping" in outcome.message
        assert world.guard is GuardState.STOPPING

    run_world(script, path)


@pytest.mark.parametrize("who", ["uid 1000 pid 7", "", "O'Brien; DROP TABLE fills;--", "\ud800", "é☃" * 200])
def test_whoever_it_is_is_kept_as_text(who: str, path: Path) -> None:
    async def script(world: World) -> None:
        await world.parts.operator.pause("x", who)
        await world.sleep(0.1)

    run_world(script, path)
    assert actions(path)[0][2] == who.encode("utf-8", "backslashreplace").decode()


def test_an_amend_in_flight_does_not_outlive_a_pause(path: Path) -> None:
    """Paused while an amend is on its way: the order it moved is cancelled too."""

    async def script(world: World) -> None:
        await world.trade()
        pending = [False]

        def is_pending() -> bool:
            pending[0] = any(o.pending_ns for o in world.state.orders.live.values())
            return pending[0]

        await world.until(is_pending, 60, every_s=0.001)
        await world.parts.operator.pause("now", "anna")
        await world.until(lambda: not world.venue.resting(), 3)
        await world.until(lambda: not world.state.orders.live, 5)
        ends = {o.status for o in world.venue.truth().orders.values()}
        assert ends <= {OrderStatus.CANCELLED, OrderStatus.FILLED, OrderStatus.REJECTED}

    run_world(script, path)
