"""Single kinds of faults in whole seeds: each leaves the mark it is there to leave, and nothing is violated."""

from collections import Counter
from collections.abc import Iterable

import pytest

from mmdaemon.core import signals
from mmdaemon.daemon.signals import Message, Signals
from mmdaemon.research.simulation import runner, second
from mmdaemon.research.simulation.plan import Fault, Kind, Plan
from mmdaemon.research.simulation.played import Played
from mmdaemon.research.simulation.world import World

HOURS = 0.12
SEED = 8


def begin(monkeypatch: pytest.MonkeyPatch, *faults: Fault, seed: int = SEED) -> tuple[Played, list[str]]:
    """A seed with these faults and no others, and what it said."""

    def minute(_plan: Plan, minute: int) -> Iterable[Fault]:
        return [fault for fault in faults if fault.ordinal == minute]

    monkeypatch.setattr(Plan, "minute", minute)
    said: list[str] = []
    only = tuple((fault.kind, fault.ordinal) for fault in faults)
    return runner.run(Plan(seed, HOURS, only), said.append), said


def play(monkeypatch: pytest.MonkeyPatch, *faults: Fault, seed: int = SEED) -> tuple[Played, list[str]]:
    """The same, where nothing is violated and each of them happened."""
    played, said = begin(monkeypatch, *faults, seed=seed)
    assert played.violation is None
    assert played.faults == {fault.kind: 1 for fault in faults}
    return played, said


def reasons(said: list[str], after: str) -> str:
    """Why the guard went there."""
    return " ".join(line for line in said if f"after={after} " in line)


def test_a_daemon_that_does_not_run_for_seconds_pauses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    played, said = play(monkeypatch, Fault(Kind.STALL_ALONE, 1, 60.0, 4.0))
    assert "loop_lag" in reasons(said, "soft_pause")
    assert (played.lives, played.crashes) == (1, 0)
    assert played.two_sided_s > 0.9 * played.up_s


@pytest.mark.parametrize("number", [700, 700 + 1024])  # the private stream, or the market, is there first
def test_a_machine_that_slept_reads_the_venue_before_it_quotes_and_the_sleep_is_no_time_up(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    played, said = play(monkeypatch, Fault(Kind.MACHINE_SLEEP, 1, 60.0, 4.0, number))
    slept_s = played.venue_s - played.up_s
    assert slept_s > 600
    woke = [line for line in said if "after=soft_pause" in line and "position" in line][-1]
    assert 60 + slept_s < float(woke.split()[0]) < 61 + slept_s  # at once: what it knew is as old as it is
    assert "no_facts" in woke
    assert 0.9 * played.up_s < played.running_s <= played.up_s
    assert played.two_sided_s > 0.9 * played.up_s


@pytest.mark.parametrize(("seed", "killed"), [(5, True), (8, False)])
def test_a_crash_loop_begins_killed_where_it_counts_as_one(
    monkeypatch: pytest.MonkeyPatch, seed: int, killed: bool
) -> None:
    assert (Plan(seed, HOURS).draw("crash_loop_starts", 0, 3) == 0) is killed
    played, _ = play(monkeypatch, Fault(Kind.CRASH_LOOP, 1, 60.0, number=5), seed=seed)
    assert played.crashes == 6
    assert ("killed start of a crash loop" in played.counted) is killed
    assert played.running_s > 0


def test_a_process_that_ends_in_its_start_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = {number: play(monkeypatch, Fault(Kind.CRASH_IN_START, 1, 60.0, 0.0, number))[0] for number in (1, 7, 10)}
    assert {number: (each.lives, each.crashes) for number, each in lives.items()} == {1: (4, 3), 7: (4, 3), 10: (3, 2)}


def test_a_disk_that_is_full_at_the_start_is_refused_until_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = [play(monkeypatch, Fault(Kind.DISK_IN_START, 1, 60.0, 3.0, number)) for number in range(4)]
    assert any("did not start: disk full" in " ".join(said) for _, said in starts)
    assert any("journal_slow" in reasons(said, "soft_pause") for _, said in starts)
    assert all(played.running_s > 0.5 * played.up_s for played, _ in starts)


def test_answers_of_a_replica_that_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    played, _ = play(monkeypatch, Fault(Kind.REPLICA_BEHIND, 1, 60.0, 300.0, number=899))
    assert played.counted["stale answer"] > 3


@pytest.mark.parametrize("kind", [Kind.RULES_CHANGED, Kind.TRADING_SUSPENDED])
def test_orders_that_are_refused_one_after_another_stop_it_until_a_person_looked(
    monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    played, said = play(monkeypatch, Fault(kind, 1, 60.0, 90.0, number=3 + 8))
    assert "reject_streak" in reasons(said, "hard_stop")
    assert played.counted["resume after kill"] >= 1
    assert played.two_sided_s > 0.3 * played.up_s


def test_a_ban_pauses_it_until_it_can_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    played, said = play(monkeypatch, Fault(Kind.BAN, 1, 60.0, 90.0))
    assert "position" in reasons(said, "soft_pause")
    assert played.two_sided_s > 0.3 * played.up_s


def test_another_fee_tier_is_booked_to_the_last_digit(monkeypatch: pytest.MonkeyPatch) -> None:
    played, _ = play(monkeypatch, Fault(Kind.FEES_CHANGED, 1, 60.0, 200.0, number=3))
    assert played.fills > 5


@pytest.mark.parametrize(("which", "stops"), [(0, True), (1, True), (2, False), (3, True)])
def test_an_order_that_is_to_come_or_of_another_bot_stops_it_and_one_of_an_old_epoch_is_cancelled(
    monkeypatch: pytest.MonkeyPatch, which: int, stops: bool
) -> None:
    _, said = play(monkeypatch, Fault(Kind.STRANGER, 1, 60.0, 0.0, number=which << 17))
    assert ("second_instance" in reasons(said, "hard_stop")) is stops
    assert ("orphan" in " ".join(said)) is not stops


def test_an_orphan_that_is_left_alone_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leaves_it(*_args: object) -> None:
        return None

    monkeypatch.setattr("mmdaemon.daemon.reconcile.Reconciler._adopt_orphan", leaves_it)
    played, _ = begin(monkeypatch, Fault(Kind.STRANGER, 1, 60.0, 0.0, number=2 << 17))
    assert played.violation is not None
    assert played.violation.number in (6, 22)


# --- two daemons ------------------------------------------------------------------------------------------------------

FLAT = Fault(Kind.OPERATOR_FLATTEN, 1, 60.0)
"""Flat and paused, the first shows nothing by which the second could tell that it is there."""
LATER = Fault(Kind.SECOND_DAEMON, 1, 75.0, 100.0)


def test_the_second_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    played, said = play(monkeypatch, Fault(Kind.SECOND_DAEMON, 1, 75.0, 60.0))
    second_said = [line for line in said if "second: " in line]
    assert "second_instance" in reasons(second_said, "hard_stop")
    assert "after=running" not in " ".join(second_said)
    assert played.two_sided_s > 0.7 * played.up_s


def test_the_first_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    _, said = play(monkeypatch, FLAT, LATER)
    second_said = [line for line in said if "second: " in line]
    assert "after=running" in " ".join(second_said)
    assert "second_instance" in reasons([line for line in said if line not in second_said], "hard_stop")


def test_two_that_both_trade_on_are_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second, "BOTH_MAX_NS", 0)
    monkeypatch.setattr("mmdaemon.daemon.breaks.Ledger.judge", lambda *_args: ((), False))
    monkeypatch.setattr("mmdaemon.daemon.reconcile.difference", lambda *_args: None)

    played, _ = begin(monkeypatch, FLAT, LATER)
    assert played.violation is not None
    assert played.violation.name == "two_daemons"


def test_the_second_leaves_no_task_and_no_place_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    worlds: list[World] = []
    begun = World.run

    async def run(self: World) -> None:
        worlds.append(self)
        await begun(self)

    monkeypatch.setattr(World, "run", run)
    play(monkeypatch, Fault(Kind.SECOND_DAEMON, 1, 75.0, 60.0), Fault(Kind.CRASH_STEP, 1, 90.0, 0.0, 5))
    (world,) = worlds
    assert not world.second.is_up
    assert world.machine.lines == []


@pytest.mark.parametrize("kind", [Kind.SIGNAL_FLOOD, Kind.LYING_SOURCE])
def test_sources_that_mean_no_good_are_heard_and_bounded(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """Nothing is violated (`play`), and it was no empty threat: floods reach the door, lies reach the quotes."""
    offered: Counter[str] = Counter()
    effects: set[signals.Effect] = set()
    through = Signals.offer

    def heard(door: Signals, message: Message) -> str:
        effects.add(door._state.signals.effect)
        said = through(door, message)
        offered[said] += 1
        return said

    monkeypatch.setattr(Signals, "offer", heard)
    play(monkeypatch, Fault(kind, 1, 60.0, 30.0))
    if kind is Kind.SIGNAL_FLOOD:
        assert offered["flooding"] > 80_000
        assert offered[""] < 1_000
    else:
        assert offered[""] > 200
        assert {effect.pause for effect in effects} == {"", "increase", "all"}
        assert min(effect.target for effect in effects) == -0.5
        assert max(effect.target for effect in effects) == 0.5
        assert max(effect.spread for effect in effects) == 3.0
