"""A real journal for the verbs that read one: two runs of the whole daemon in virtual time, seed fixed, shadow on.

The first run (25 minutes, mostly of a bursting market, from 07:40) quotes tightly so that it fills often, is paused and
resumed, holds a position over the settlement of 08:00, is killed, flattened and resumed. The second is a calm minute,
an hour later.
"""

import shutil
from pathlib import Path

import msgspec
import pytest

from mmdaemon.clock import Clock
from mmdaemon.core.types import NS, GuardState, Regime
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.signals import Message
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.research.session import Script, play, until_the_end
from mmdaemon.settings import load
from mmdaemon.venues.simulated.market import SyntheticMarket
from mmdaemon.venues.simulated.stretches import Schedule, Stretch
from mmdaemon.venues.simulated.venue import SimulatedVenue

START_TS_NS = 1_767_225_600 * NS + (7 * 60 + 40) * 60 * NS
"""2026-01-01 07:40 UTC."""
BUSY: Schedule = ((Stretch.BURSTING, 600), (Stretch.CALM, 200), (Stretch.BURSTING, 900))
EAGER = {
    "run.speed": "max",
    "run.shadow": True,
    "run.seed": 7,
    "cost.min_edge_bps": 0.2,
    "simulated.maker_fee_bps": 0.5,
    "simulated.taker_fee_bps": 2.0,
    **{
        f"regimes.{regime}.{column}": value
        for regime in Regime
        for column, value in {
            "spread_min_bps": 5.0,
            "spread_max_bps": 40.0,
            "levels_min": 1,
            "levels_max": 3,
            "refresh_s": 45.0,
            "order_size_fraction": 0.0008,
            "skew_gain": 0.1,
        }.items()
    },
    "quotes.band_gain": 0.1,
    "quotes.tolerance_min_bps": 0.5,
    "quotes.min_quote_life_s": 0.5,
    "signal.print_weight": 0.05,
    "guard.fills_per_side_per_minute": 600,
}
"""Narrow quotes at low costs: many fills in a short time. The ladder is pinned, so that a calibration of the preset is
no change of these tests."""


class Played(msgspec.Struct, frozen=True):
    """A state directory after both runs, and what the venue itself had of the first."""

    path: Path
    fills: int
    wallet_position_lots: int


async def _busy(daemon: Daemon, _venue: SimulatedVenue, clock: Clock) -> str:
    async def quietly(_line: str) -> None:
        return

    operator = daemon.parts.operator
    await sleep_ns(clock, 390 * NS)
    said_ns = clock.wall_ns()  # it changes no quote; so that there are rows of it
    daemon.parts.signals.offer(Message("operator", "spread_multiplier", 1.0, 1.0, said_ns, 5.0, said_ns))
    await sleep_ns(clock, 10 * NS)
    await operator.pause("lunch", "pytest")
    await sleep_ns(clock, 20 * NS)
    await operator.resume("back", "pytest")
    await sleep_ns(clock, 1_060 * NS)
    while not daemon.state.position.position_lots or daemon.state.guard.state is not GuardState.RUNNING:
        await sleep_ns(clock, NS)
    await operator.kill("fire drill", "pytest", quietly, flatten=True)
    assert (await operator.resume("drill over", "pytest")).ok
    await sleep_ns(clock, 30 * NS)
    return "the script is over"


def play_busy(path: Path, schedule: Schedule, script: Script, start_ts_ns: int = START_TS_NS) -> Played:
    """One run of the daemon at `EAGER` settings; it must end well."""
    settings = load(None, EAGER, {}).settings
    market = SyntheticMarket(seed=settings.run.seed, start_ts_ns=start_ts_ns, schedule=schedule)
    state_dir = open_dir(path, {}).lock()
    try:
        session = play(settings, state_dir, market, script, bot_tag="test")
    finally:
        state_dir.release()
    assert session.exit_code == 0
    return Played(path, len(session.truth.fills), session.truth.position_lots)


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Made once. Only to be read: what changes it asks for `copied`."""
    path = tmp_path_factory.mktemp("played") / "state"
    first = play_busy(path, BUSY, _busy)
    play_busy(path, ((Stretch.CALM, 600),), until_the_end(60), START_TS_NS + 3_600 * NS)
    with JournalReader(path / "journal.sqlite") as journal:
        assert sum(1 for _ in journal.decisions(1)) > 500
        sides = {total.side: total.fills for total in journal.side_totals(1)}
        assert min(sides.values()) > 5
        assert [bill.kind for bill in journal.bills(1)] == ["funding"]
    return first


@pytest.fixture
def copied(played: Played, tmp_path: Path) -> Path:
    """A state directory of one's own, to be broken."""
    path = tmp_path / "state"
    shutil.copytree(played.path, path)
    return path
