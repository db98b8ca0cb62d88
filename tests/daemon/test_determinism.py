"""Same seed and settings, same run: the digest of what was decided, and the journal to the last byte."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mmdaemon.settings import Settings, load
from mmdaemon.venues.simulated.faults import FaultRates
from tests.daemon.build import BUSY, World, busy, run_world, say_nothing

GOLDEN = "ef8b0fa1817fca128aeb874f11fb1056"
"""Digest of twenty minutes of the synthetic market with the default settings. It changes with every rule of core, venue
or market, and must not change with anything else: look at what you changed before you change this."""


def dump(path: Path) -> list[str]:
    """The journal's content, row by row, nothing left out."""
    with closing(sqlite3.connect(path / "journal.sqlite")) as db:
        return list(db.iterdump())


async def twenty_minutes(world: World) -> str:
    await world.sleep(1_200)
    await world.stop()
    return world.parts.controller.digest.hex()


async def a_life(world: World) -> str:
    """Everything at once: faults, a pause, a kill, a crash and a restart."""
    await world.trade(30)
    await world.parts.operator.pause("x", "test")
    await world.sleep(5)
    await world.parts.operator.resume("x", "test")
    await world.sleep(20)
    await world.parts.operator.kill("x", "test", say_nothing, flatten=True)
    await world.parts.operator.resume("x", "test")
    await world.sleep(20)
    first = world.parts.controller.digest.hex()
    await world.crash()
    await world.restart(3.0)
    await world.sleep(60)
    await world.stop()
    return first + world.parts.controller.digest.hex()


def plain(**changed: bool | int | float | str) -> Settings:
    given = {"run.speed": "max", "run.shadow": True} | {k.replace("__", "."): v for k, v in changed.items()}
    return load(None, given, {}).settings


RATES = FaultRates(request_lost=0.01, ack_lost=0.01, late=0.01, read_fails=0.02, private_down=0.3, book_silent=0.2)


def test_the_same_life_twice(tmp_path: Path) -> None:
    played = [
        (run_world(a_life, tmp_path / name, config={"faults": RATES}), dump(tmp_path / name)) for name in ("one", "two")
    ]
    assert played[0][0] == played[1][0]
    assert played[0][1] == played[1][1]
    assert len(played[0][1]) > 500


def test_another_seed_is_another_life(tmp_path: Path) -> None:
    digests = {run_world(a_life, tmp_path / str(seed), busy(run__seed=seed)) for seed in (7, 8)}
    assert len(digests) == 2


def test_shadow_changes_nothing(tmp_path: Path) -> None:
    digests = {
        run_world(a_life, tmp_path / str(shadow), busy(run__shadow=shadow), config={"faults": RATES})
        for shadow in (True, False)
    }
    assert BUSY["run.shadow"] is True
    assert len(digests) == 1


def test_golden_digest(tmp_path: Path) -> None:
    assert run_world(twenty_minutes, tmp_path / "state", plain(), schedule=()) == GOLDEN
