"""Signals on the running daemon: through the door into the quotes and the journal, and back after a crash.

Each world trades first: there are live orders and a position.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Place
from mmdaemon.core.decision import Decision
from mmdaemon.core.reasons import reasons_of
from mmdaemon.core.types import GuardState
from mmdaemon.journal.records import SignalRow
from mmdaemon.settings import ConfigError
from tests.daemon.build import World, busy, run_world

_decision = msgspec.msgpack.Decoder(Decision).decode


def line(world: World, kind: object = "target_inventory", value: object = 0.5, **over: object) -> str:
    now_ns = world.clock.wall_ns()
    said: Mapping[str, object] = {
        "version": 1,
        "source": "operator",
        "kind": kind,
        "value": value,
        "confidence": 1.0,
        "ts_ns": now_ns,
        "ttl_s": 20.0,
        "sequence": now_ns,
        **over,
    }
    return msgspec.json.encode(said).decode()


def told(world: World) -> list[SignalRow]:
    with world.journal() as journal:
        return list(journal.signals(world.daemon.params.run_epoch))


def test_a_target_moves_the_quotes_is_in_the_journal_decays_and_ends(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        assert world.state.inputs is not None
        before = world.state.decision_seq

        outcome = await world.parts.signals.say(line(world))

        assert outcome.ok, outcome.message
        assert world.state.inputs.target == 0.5, "in the decision of its own event"
        assert world.state.decision_seq > before
        decision_seq = world.state.decision_seq
        await world.sleep(15)
        assert 0.0 < world.state.signals.effect.target < 0.5
        await world.sleep(6)
        assert world.state.signals.effect.target == 0.0
        assert world.state.inputs.target == 0.0
        await world.sleep(2)
        assert [(row.what, row.kind, row.value) for row in told(world)] == [
            ("applied", "target_inventory", "0.5"),
            ("expired", "target_inventory", "0.5"),
        ]
        with world.journal() as journal:
            row = journal.decision_at(1, decision_seq)
            assert row is not None
            quotes = _decision(row.decision).quotes
        assert quotes
        assert all(quote.addends.target > 0.0 for quote in quotes)
        assert all(quote.addends.total == quote.px_ticks for quote in quotes)

    run_world(script, path)


@pytest.mark.parametrize(
    ("why", "over"),
    [
        ("version", {"version": 2}),
        ("unknown_source", {"source": "stranger"}),
        ("unknown_kind", {"kind": "gap"}),
        ("value", {"value": 1.5}),
        ("value", {"value": "up"}),
        ("confidence", {"confidence": 1.5}),
        ("low_confidence", {"confidence": 0.1}),
        ("ttl", {"ttl_s": 0.0}),
        ("ttl", {"ttl_s": 1e9}),
        ("future", {"ts_ns": 1 << 62}),
        ("stale", {"ts_ns": 1}),
        ("not_allowed", {"source": "careful"}),
        ("replayed", {"sequence": 5}),
        ("out_of_order", {"sequence": 4}),
    ],
)
def test_each_bad_signal_is_refused_with_its_reason_and_no_quote_moves(
    why: str, over: dict[str, object], path: Path
) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        first = await world.parts.signals.say(line(world, value=0.0, sequence=5))
        assert first.ok, first.message
        decided = world.state.decision_seq

        outcome = await world.parts.signals.say(line(world, **over))

        assert not outcome.ok
        assert outcome.message.startswith(f"refused, {why}: ")
        assert outcome.exit_code == 1
        assert world.state.decision_seq == decided
        assert world.state.signals.effect.target == 0.0
        source = over.get("source", "operator")
        assert world.state.signals.counts["" if why == "unknown_source" else str(source), why] == 1
        await world.sleep(2)
        assert [(row.what, row.reason) for row in told(world)][1:2] == [("refused", why)]

    run_world(script, path, busy(signals__sources="operator careful", signals__careful_sources="careful"))


@pytest.mark.parametrize(
    "said", ["", "{", "[]", "null", '{"kind":"pause"}', "\udc00", "x" * 5_000, '{"kind":NaN}', "[" * 2_000]
)
def test_what_cannot_be_read_is_counted_and_said(said: str, path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(2)
        outcome = await world.parts.signals.say(said)
        assert not outcome.ok
        assert outcome.message.startswith("refused, malformed: ")
        assert len(outcome.message) < 300
        await world.sleep(0.5)
        assert world.state.signals.counts == {("", "malformed"): 1}

    run_world(script, path)


def test_a_flood_costs_four_events_a_second_and_no_quote(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        door, sent = world.parts.signals, 0
        for _ in range(20):
            for name in ("operator", "stranger", "another"):
                for _ in range(300):
                    message = door.read(line(world, "spread_multiplier", 1.0, source=name).encode())
                    assert not isinstance(message, str)
                    door.offer(message)
                    sent += 1
            await world.sleep(0.1)
            assert world.guard is GuardState.RUNNING
        await world.sleep(2)
        counts = world.state.signals.counts
        assert sum(counts.values()) == sent, "each is accounted for"
        assert counts["operator", "flooding"] > 5_000
        assert counts["", "flooding"] > 10_000
        taken = counts["operator", "applied"] + sum(
            n for (_, what), n in counts.items() if what not in ("applied", "flooding")
        )
        assert taken <= 2 * 100 + 2 * 25, "a sixth of a minute's at once, and what two seconds add, twice"
        assert len(told(world)) < 2 * taken + 2 * 4 * 6
        assert world.is_two_sided_with_position() or world.working()

    run_world(script, path)


def test_a_pause_outlives_a_crash(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        assert (await world.parts.signals.say(line(world, "pause", "increase", ttl_s=60.0))).ok
        await world.until(lambda: world.guard is GuardState.REDUCING)
        assert world.state.position.position_lots != 0
        await world.sleep(0.5)
        await world.crash()
        crashed_ns = world.now_ns

        await world.restart(2.0)

        assert world.state.signals.effect.pause == "increase"
        await world.sleep(20)
        assert "signal_pause" in {str(reason) for reason in reasons_of(world.state.guard.active)}
        placed = [each.command for each in world.venue.increasing_since(crashed_ns) if isinstance(each.command, Place)]
        assert placed == [], "amends are of the order that works the position down"
        await world.sleep(40)
        await world.until(lambda: world.guard is GuardState.RUNNING)
        assert [row.what for row in told(world)] == ["expired"]

    run_world(script, path)


def test_its_own_source_takes_a_pause_back(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        assert (await world.parts.signals.say(line(world, "pause", "all"))).ok
        await world.until(lambda: world.guard is GuardState.SOFT_PAUSE)
        await world.until(lambda: world.venue.resting() == [])
        assert (await world.parts.signals.say(line(world, "pause", "none"))).ok
        await world.until(lambda: world.guard is GuardState.RUNNING and bool(world.venue.resting()))

    run_world(script, path)


def test_a_shadow_says_that_it_does_nothing(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(5)
        outcome = await world.parts.signals.say(line(world))
        assert outcome.ok
        assert "does nothing" in outcome.message
        assert world.state.inputs is not None
        assert world.state.inputs.target == 0.0

    run_world(script, path, busy(signals__shadow_sources="operator"))


def test_sources_that_are_set_apart_must_be_sources() -> None:
    with pytest.raises(
        ConfigError, match=r"signals.shadow_sources .* must be of signals.sources, which does not name x"
    ):
        busy(signals__shadow_sources="operator x")
