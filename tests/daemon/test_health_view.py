"""What the daemon stands on, as a running daemon tells it: of its state, its journal, its venue's own record."""

from decimal import Decimal
from pathlib import Path

from mmdaemon.core.types import GuardState
from mmdaemon.ops.status import HealthView
from tests.daemon.build import World, busy, run_world


def health(world: World) -> HealthView:
    seen = world.parts.status().health
    assert seen is not None
    return seen


def test_figures_are_those_of_state_journal_and_venue(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(30)
        seen, state, journal = health(world), world.state, world.parts.journal
        assert seen.heartbeat_ts_ns == state.ts_ns
        assert (seen.journal_commits, seen.journal_rows) == (journal.commits, journal.rows_committed)
        assert seen.journal_commits > 10
        assert not seen.journal_failed
        assert seen.disk_free_bytes is not None
        assert seen.disk_size_bytes is not None
        assert 0 < seen.disk_free_bytes <= seen.disk_size_bytes
        assert seen.day_open_equity is not None
        assert Decimal(seen.day_open_equity).scaleb(10) == state.risk.day_open_e10
        assert Decimal(seen.peak_equity).scaleb(10) == state.risk.peak_e10
        assert seen.limits["daily_loss"] == world.daemon.params.guard.daily_loss
        assert seen.account_ok is True
        assert seen.margin_available is not None
        assert 0 < seen.margin_available <= 1
        assert seen.guard_entries["running"] == 1
        assert seen.breaks_open == {}
        sent = world.parts.sender.sent
        assert sum(seen.histograms["event_to_send"].counts) == sent == len(world.venue.sent)
        assert 0 < sum(seen.histograms["place_to_answer"].counts) <= sent
        assert sum(seen.histograms["journal_commit"].counts) == seen.journal_commits
        # No answer is there before the request has been to the venue and back.
        assert not any(seen.histograms["place_to_answer"].counts[:1])

    run_world(script, path, busy())


def test_a_kill_that_is_over_is_still_counted(path: Path) -> None:
    """What an alert rests on, where the stop itself lasted for less than a scrape."""

    async def script(world: World) -> None:
        await world.trade()
        world.parts.kill_switch.trip("rehearsal")
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 5)
        await world.until(lambda: not world.venue.resting(), 10)
        seen = health(world)
        assert seen.guard_entries["hard_stop"] == 1
        assert seen.reasons_raised["kill"] == 1
        assert seen.fills_after_pause.get("later", 0) == 0

    run_world(script, path)


def test_a_journal_that_failed_says_so(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        world.connection.fails = True
        await world.until(lambda: world.guard is GuardState.HARD_STOP, 10)
        assert health(world).journal_failed
        await world.until(lambda: health(world).reasons_raised.get("journal_failed") == 1, 5)

    run_world(script, path)
