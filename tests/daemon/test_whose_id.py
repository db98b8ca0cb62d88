"""Ids of ours, and ids that no run of this journal can have given."""

from pathlib import Path

from mmdaemon.core.events import Fill
from mmdaemon.core.types import ExecKind, Liquidity, Side
from mmdaemon.daemon.opening import Door
from tests.daemon.build import TAG, World, run_world


def test_a_slice_of_an_earlier_kill_is_no_other_daemons(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.crash()
        await world.restart()
        is_to_come, epoch = world.parts.reconciler._is_to_come, world.daemon.params.run_epoch
        assert not is_to_come(f"mm{TAG}-{epoch - 1}-k1")
        assert not is_to_come(f"mm{TAG}-{epoch}-k1")
        assert is_to_come(f"mm{TAG}-{epoch + 1}-k1")
        assert is_to_come(f"mm{TAG}-{epoch}-x1")

    run_world(script, path)


def test_a_door_that_was_not_told_when_the_account_was_opened_does_not_turn_for_ever() -> None:
    got: list[object] = []
    door = Door(got.append)
    door.deliver(Fill(1, 1, 1, "t", "c", Side.BUY, 1, 1, 0, Liquidity.MAKER, ExecKind.TRADE))
    door.let_in()
    assert got == []
