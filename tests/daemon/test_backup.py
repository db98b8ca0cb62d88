"""The daily copy beside trading, and what a restore does to a daemon: an hour's drill with orders and a position."""

import asyncio
from pathlib import Path

import pytest

from mmdaemon.cli.verdicts import Recompute
from mmdaemon.core.commands import Place
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon import prune as daemon_prune
from mmdaemon.daemon.backup import Apart, Backups, Plan, newest_ts_ns
from mmdaemon.journal.backup import BackupFailed, Kept, Proof, back_up
from mmdaemon.journal.backup_kept import kept_in
from mmdaemon.journal.backup_restore import Restored, RestoreRefused, restore
from mmdaemon.journal.backup_sums import Sums
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.replay import pnl_identity, verify
from mmdaemon.journal.state_dir import open_dir
from tests.daemon.build import CALM, START_NS, World, busy, run_world, say_nothing

HOUR_NS = 3_600 * NS
AT_TWO = {"run__speed": "real", "run__shadow": False, "backup__hour_utc": 2}
"""A world begins at one in the morning."""


def put_back(world: World, path: Path) -> Restored:
    state_dir = open_dir(world.path, {}).lock()
    try:
        mono_ns, ts_ns = world.clock.mono_ns(), world.clock.wall_ns()
        return restore(state_dir, path, reason="the disk failed", who="pytest", mono_ns=mono_ns, ts_ns=ts_ns)
    finally:
        state_dir.release()


def kept(world: World) -> list[Kept]:
    return kept_in(world.path / "backups")


def placed(world: World) -> list[str]:
    return [each.command.client_id for each in world.venue.sent if isinstance(each.command, Place)]


async def resumed(world: World) -> None:
    """From the latch to quoting, as a person does it."""
    await world.until(lambda: world.kill is KillState.KILLED, within_s=30)
    assert world.guard is GuardState.HARD_STOP
    assert world.venue.resting() == []
    answer = await world.parts.operator.resume("the venue was looked at", "pytest")
    assert answer.ok, answer


@pytest.mark.timeout(300)
def test_the_hours_drill(path: Path) -> None:
    """An hour of trading, the daily copy, ten minutes more, a crash with orders and a position; the disk fails; a
    spoilt copy is refused, the whole one put back; what was forgotten is read from the venue; it trades on."""

    async def script(world: World) -> None:
        await world.sleep(3_600)
        assert kept(world) == [], "a minute is left for the day's opening"
        await world.until(lambda: kept(world), within_s=121)
        (copy,) = kept(world)
        assert copy.proof.why == "daily"
        assert ("backup_taken", copy.proof.file) in [(name, told.get("file")) for name, told in world.said]
        health = world.parts.status().health
        assert health is not None
        assert (health.backup_ts_ns, health.backup_error) == (copy.proof.moment_ts_ns, "")
        await world.trade(600)
        assert world.is_two_sided_with_position()
        await world.crash()
        assert world.venue.resting(), "orders are left alone at the venue"
        before, ids_before = world.venue.truth(), placed(world)
        (sums,) = copy.proof.sums.accounts
        assert 0 < sums.fills < len(before.fills)
        # At its moment the copy came to what the venue has of that time.
        then = [fill for fill in before.fills if (fill.venue_ts_ns or 0) <= copy.proof.moment_ts_ns]
        assert sums.fills in range(len(then) - 3, len(then) + 1), "but for what was on its way"
        assert sums.fees_e10 == sum(fill.fee_e10 for fill in then[: sums.fills])
        assert sums.position_lots == sum(fill.side * fill.qty_lots for fill in then[: sums.fills])

        journal = world.path / "journal.sqlite"
        for beside in ("-wal", "-shm"):
            journal.with_name(journal.name + beside).unlink(missing_ok=True)
        journal.write_bytes(journal.read_bytes()[:40_000])
        with pytest.raises(JournalUnreadable, match="put a backup copy back in its place"):
            await world.begin(fresh_account=False)
        content = copy.path.read_bytes()
        copy.path.write_bytes(content[:70_000] + b"?" + content[70_001:])
        with pytest.raises(RestoreRefused, match="at least one byte of it is wrong"):
            put_back(world, copy.path)
        copy.path.write_bytes(content)
        done = put_back(world, copy.path)
        assert done.replaced is not None
        assert done.replaced.stat().st_size == 40_000

        left = set(world.venue.resting())
        sent = len(world.venue.sent)
        await world.restart(after_s=60)
        await resumed(world)
        assert not [each for each in world.venue.sent[sent:] if isinstance(each.command, Place)], "before the resume"
        assert not left & set(world.venue.resting())
        await world.trade(600)
        assert await world.stop() == 0
        # No number was used again, of the runs that the copy knows nothing of neither.
        ids_after = placed(world)[len(ids_before) :]
        assert len(ids_after) > 20
        assert not set(ids_before) & set(ids_after)
        assert len(set(ids_after)) == len(ids_after)
        # Exactly once: what the copy had, what was lost with the disk, and what came after.
        truth = world.venue.truth()
        with JournalReader(journal) as read:
            ours = sorted(trade_id for (trade_id,) in read.db.execute("SELECT trade_id FROM fills"))
            assert read.breaks(only_open=True) == []
        assert ours == sorted(fill.trade_id for fill in truth.fills)
        identity = pnl_identity(journal)
        assert identity.position_lots == truth.position_lots
        mark = identity.mark_px_ticks
        assert mark is not None
        unit = world.daemon.params.instrument.unit_e10
        assert identity.equity_e10 == truth.wallet.cash_e10 + truth.position_lots * mark * unit

    run_world(script, path, busy(**AT_TWO))


def test_an_old_backup_is_killed_whatever_it_says_itself_and_its_orders_are_gone(path: Path) -> None:
    """It is of before the kill, of before the last three runs, and knows none of the orders at the venue."""

    async def script(world: World) -> None:
        await world.trade(20)
        copy = world.path / "backups"
        old = back_up(world.state_dir.journal_path, copy, "asked", world.clock.wall_ns())
        await world.trade(20)
        await world.parts.operator.kill("a bad feeling", "pytest", say_nothing)
        await world.until(lambda: world.kill is KillState.KILLED, within_s=30)
        assert (await world.parts.operator.resume("it was nothing", "pytest")).ok
        await world.trade(10)
        for _ in range(3):
            await world.crash()
            await world.restart()
            await world.trade(10)
        await world.crash()
        left = world.venue.resting()
        assert left
        before = placed(world)
        for lost in world.path.glob("journal.sqlite*"):
            lost.unlink()  # so that nothing tells which numbers the forgotten runs had
        put_back(world, old.path)
        killed_ns = world.now_ns
        await world.restart()
        await world.sleep(30)
        assert world.guard is GuardState.HARD_STOP
        assert world.venue.resting() == []
        assert world.venue.increasing_since(killed_ns) == []
        assert "restored from a backup" in world.daemon.gate.closed_because
        await resumed(world)
        await world.trade(20)
        assert not set(before) & set(placed(world)[len(before) :])
        truth = world.venue.truth()
        assert world.state.position.position_lots == truth.position_lots
        assert await world.stop() == 0

    run_world(script, path, busy())


# --- once a day -------------------------------------------------------------------------------------------------------


def test_one_a_day_and_a_missed_one_at_the_next_start(path: Path) -> None:
    async def script(world: World) -> None:
        await world.sleep(30)
        assert kept(world) == [], "a new account has missed nothing"
        await world.sleep(3_600 + 120)
        assert len(kept(world)) == 1
        await world.sleep(300)
        await world.stop()
        await world.restart()
        await world.sleep(120)
        assert len(kept(world)) == 1, "not anew with each start"
        await world.stop()
        world.clock.wall_offset_ns += 30 * HOUR_NS  # it lay switched off
        await world.begin(fresh_account=False)
        await world.until(lambda: len(kept(world)) == 2, within_s=5)
        first, second = (each.proof.moment_ts_ns for each in kept(world))
        assert START_NS + HOUR_NS + 60 * NS <= first < START_NS + HOUR_NS + 121 * NS
        assert second > first + 30 * HOUR_NS

    run_world(script, path, busy(**AT_TWO), schedule=CALM)


def test_old_rows_leave_in_the_midst_of_trading_and_a_crash_then_forgets_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With orders and a position: money, orders and position are the venue's own, and what is left proves itself."""
    monkeypatch.setattr(daemon_prune, "_DAY_NS", 60 * NS)  # so 35 minutes stay

    async def script(world: World) -> None:
        await world.sleep(3_600)
        with world.journal() as journal:
            (before,) = journal.db.execute("SELECT count(*) FROM decisions").fetchone()
        assert world.parts.backups.pruner.rows == 0, "there is no copy yet"
        await world.until(lambda: "journal_pruned" in [name for name, _ in world.said], within_s=600)
        pruner = world.parts.backups.pruner
        health = world.parts.status().health
        assert health is not None
        assert (health.pruned_rows, health.journal_keep_days, health.prune_error) == (pruner.rows, 35, "")
        assert health.journal_since_ts_ns is not None
        assert health.journal_since_ts_ns >= START_NS + 1_500 * NS, "of the first 25 minutes nothing is left"
        with world.journal() as journal:
            gone = journal.pruning("decisions", 1)
            assert gone is not None
            assert 0 < gone.rows < before
        await world.until(world.is_two_sided_with_position, within_s=600)
        await world.crash()
        assert world.venue.resting()
        await world.restart()
        await world.trade(60)
        assert await world.stop() == 0
        journal = world.path / "journal.sqlite"
        truth, books = world.venue.truth(), pnl_identity(journal)
        assert (books.position_lots, books.fills) == (truth.position_lots, len(truth.fills))
        verdict = verify(journal, recomputed)
        assert (verdict.mismatched, verdict.pruned) == (0, gone.rows)
        assert verdict.checked > 0

    recomputed = Recompute()
    run_world(script, path, busy(**AT_TWO))


def test_bots_may_share_a_folder(path: Path, tmp_path: Path) -> None:
    async def script(world: World) -> None:
        await world.sleep(10)
        made = back_up(world.state_dir.journal_path, tmp_path / "shared", "daily", START_NS)
        assert newest_ts_ns(tmp_path / "shared", "demo") == START_NS
        assert newest_ts_ns(tmp_path / "shared", "othr") == 0, "another's copy is none of ours"
        back_up(world.state_dir.journal_path, tmp_path / "shared", "asked", START_NS + NS)
        assert newest_ts_ns(tmp_path / "shared", "demo") == made.proof.moment_ts_ns

    run_world(script, path)


class Broken:
    """A way of taking copies that fails as long as it is told to."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error
        self.tries = 0

    async def newest_ts_ns(self) -> int:
        return 0

    async def take(self) -> Proof:
        self.tries += 1
        if self.error is not None:
            raise self.error
        return PROOF


PROOF = Proof(
    format=1,
    file="journal-abcd-x.sqlite",
    why="daily",
    moment_ts_ns=START_NS + 600 * NS,
    took_s=1.0,
    version="0",
    bytes=5,
    blake2b="",
    sums=Sums(
        schema=2, bot_tag="abcd", venue="v", symbol="s", created_ts_ns=0, last_epoch=1, rows={}, last_chain="",
        accounts=(),
    ),
)  # fmt: skip


@pytest.mark.parametrize("error", [BackupFailed("disk full"), OSError(28, "no space left"), ZeroDivisionError("a bug")])
def test_what_fails_is_said_and_tried_again_and_trading_goes_on(path: Path, error: Exception) -> None:
    async def script(world: World) -> None:
        taker = Broken(error)
        opened_ns = START_NS - 48 * HOUR_NS
        backups = Backups(taker, 0, world.clock, opened_ns, world.daemon._log, world.daemon.parts.backups.pruner)
        world.parts.backups = backups
        world.parts.status._backups = backups
        running = asyncio.create_task(backups.run())
        await world.trade(200)
        assert taker.tries == 3, "at once, a minute later, two minutes after that"
        told = [fields for name, fields in world.said if name == "backup_failed"]
        assert [fields["again_in_s"] for fields in told] == [60.0, 120.0, 240.0]
        assert backups.failures == 3
        health = world.parts.status().health
        assert health is not None
        assert health.backup_ts_ns is None
        assert str(error) in health.backup_error
        assert world.guard is GuardState.RUNNING
        taker.error = None
        await world.until(lambda: backups.newest_ts_ns, within_s=240)
        assert (backups.error, backups.failures) == ("", 0)
        running.cancel()

    run_world(script, path, busy())


def test_one_that_is_cancelled_ends_its_work(path: Path) -> None:
    async def script(world: World) -> None:
        ended = asyncio.Event()

        class Slow(Broken):
            async def take(self) -> Proof:
                try:
                    await world.sleep(1_000)
                finally:
                    ended.set()
                raise AssertionError

        backups = Backups(Slow(None), 0, world.clock, 1, world.daemon._log, world.daemon.parts.backups.pruner)
        running = asyncio.create_task(backups.run())
        await world.sleep(5)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
        assert ended.is_set()

    run_world(script, path)


# --- in a process of its own ------------------------------------------------------------------------------------------


async def test_a_process_of_its_own_says_what_went_wrong(tmp_path: Path) -> None:
    plan = Plan(tmp_path / "state" / "journal.sqlite", tmp_path / "backups", 14, 12)
    taker = Apart(plan, "demo")
    assert await taker.newest_ts_ns() == 0
    with pytest.raises(BackupFailed, match="there is no journal at"):
        await taker.take()
    with pytest.raises(OSError, match="no-such-python"):
        await Apart(plan, "demo", program=str(tmp_path / "no-such-python")).take()
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o700)
    with pytest.raises(BackupFailed, match="ended with 3 and said nothing"):
        await Apart(plan, "demo", program=str(silent)).take()
    silent.write_text("#!/bin/sh\necho nonsense\n")
    with pytest.raises(BackupFailed, match="nobody understands"):
        await Apart(plan, "demo", program=str(silent)).take()
