"""What is looked at of the judge of fills: what goes out on a pulled side, how long it is out, and what is counted."""

from pathlib import Path

import pytest

from mmdaemon.core.commands import Amend
from mmdaemon.core.engine import Step
from mmdaemon.core.fill_quality import Phase, Tracker, side_of
from mmdaemon.core.types import NEVER_NS, NS, Regime, Side
from mmdaemon.research.simulation.invariants_quality import pull_ends, pulled_side_only_reduces
from tests.core.build import DEFAULT
from tests.research.simulation.scene import Scene

PULL_S, RETURN_S = DEFAULT.quality.pull_ns / NS, DEFAULT.quality.return_ns / NS
SIDES = (Side.BUY, Side.SELL)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def put(scene: Scene, side: Side, phase: Phase) -> str:
    """The side is in this phase at the next timer, and stays there."""
    judged = side_of(scene.desk.state.quality, side)
    judged.phase, judged.until_ns = phase, NEVER_NS
    scene.seen.event = scene.desk.timer()
    return pull_ends(scene.seen)


def judgements(scene: Scene) -> dict[str, int]:
    return {what: times for what, times in scene.seen.counted.items() if what.startswith(("side ", "regime "))}


@pytest.mark.parametrize("side", SIDES)
def test_a_pulled_side_may_reduce_and_the_other_increase(side: Side, scene: Scene) -> None:
    state, seen = scene.desk.state, scene.seen
    state.position.position_lots = -side * 5
    other = scene.place("78", Side(-side), lots=99)
    seen.step = Step(commands=(scene.place("77", side, lots=6), other))
    assert pulled_side_only_reduces(seen) == ""
    side_of(state.quality, side).phase = Phase.PULLED
    assert "pulled with 5 lots held against it" in pulled_side_only_reduces(seen)
    seen.step = Step(commands=(scene.place("77", side, lots=5), other))
    assert pulled_side_only_reduces(seen) == ""
    state.position.position_lots = side * 5
    assert "pulled with 0 lots held against it" in pulled_side_only_reduces(seen)
    side_of(state.quality, side).phase = Phase.RETURNING
    assert pulled_side_only_reduces(seen) == ""


@pytest.mark.parametrize(("qty_lots", "is_wrong"), [(9, False), (10, True)])
def test_an_amend_counts_with_what_is_not_filled_of_it(qty_lots: int, is_wrong: bool, scene: Scene) -> None:
    bid = scene.desk.state.orders.live[scene.bid().client_id]
    bid.filled_lots, scene.desk.state.position.position_lots = 4, -5
    scene.desk.state.quality.buy.phase = Phase.PULLED
    scene.seen.step = Step(commands=(Amend(bid.client_id, 1, bid.px_ticks, qty_lots),))
    assert bool(pulled_side_only_reduces(scene.seen)) is is_wrong


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("phase", "length_s"), [(Phase.PULLED, PULL_S), (Phase.RETURNING, RETURN_S)])
def test_a_phase_that_outlasts_its_length_is_seen(side: Side, phase: Phase, length_s: float, scene: Scene) -> None:
    assert put(scene, side, phase) == ""
    scene.desk.wait(length_s)
    assert put(scene, side, phase) == ""
    scene.desk.wait(0.001)
    assert put(scene, side, phase).startswith(f"{side.name} is {phase} for ")


def test_a_side_may_stay_quoted_and_each_phase_has_its_own_time(scene: Scene) -> None:
    for phase, after_s in ((Phase.QUOTED, 1e6), (Phase.PULLED, PULL_S), (Phase.RETURNING, RETURN_S), (Phase.QUOTED, 1)):
        assert put(scene, Side.BUY, phase) == ""
        scene.desk.wait(after_s)
    assert judgements(scene) == {
        "side quoted -> pulled": 1,
        "side pulled -> returning": 1,
        "side returning -> quoted": 1,
    }


def test_a_regime_that_widens_and_narrows_is_counted_once_each(scene: Scene) -> None:
    trackers = scene.desk.state.quality.trackers
    for is_wide in (False, True, True, False):
        trackers[Regime.UP] = Tracker(is_wide=is_wide)
        assert put(scene, Side.BUY, Phase.QUOTED) == ""
    assert judgements(scene) == {"regime widened": 1, "regime narrowed": 1}


def test_what_a_restart_finds_again_is_no_change(scene: Scene) -> None:
    """And a side that was pulled before it has its whole time again, at most."""
    assert put(scene, Side.BUY, Phase.QUOTED) == ""
    scene.seen.died()
    scene.desk.wait(5)
    scene.seen.started(scene.desk.state, DEFAULT)
    scene.desk.state.quality.trackers[Regime.UP] = Tracker(is_wide=True)
    assert put(scene, Side.BUY, Phase.PULLED) == ""
    scene.desk.wait(PULL_S)
    assert put(scene, Side.BUY, Phase.PULLED) == ""
    assert judgements(scene) == {}
