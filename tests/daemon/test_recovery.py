"""The process ends at the worst moments and a new one begins on the same directory and the same account: nothing is
lost, nothing is booked twice, nothing is left alone at the venue, and it quotes again."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mmdaemon.cli.direct import left_by
from mmdaemon.core import position
from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import Event, Fill
from mmdaemon.core.state import Risk
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus
from mmdaemon.journal.connection import CrashPoint
from mmdaemon.journal.recovery import JournalUnreadable, NewerSchema, OtherInstrument
from mmdaemon.journal.replay import pnl_identity
from mmdaemon.journal.state_dir import InUse, StateDir, open_dir
from mmdaemon.journal.statements import Row, Statement
from mmdaemon.venues.base import Deliver, VenueUnavailable
from mmdaemon.venues.simulated.faults import FaultKind
from tests.daemon.build import World, busy, next_place, run_world

Hook = Callable[[World, Callable[[], None]], None]
"""Arms a world; calls back when the moment of the crash has come."""


def soon(world: World, delay_ns: int, crash: Callable[[], None]) -> None:
    if delay_ns:
        world.clock.call_at(world.now_ns + delay_ns, crash)
    else:
        crash()


def at_commit(point: CrashPoint, wanted: Callable[[Sequence[Row]], bool], number: int) -> Hook:
    """At the so-manieth commit of such rows, on that side of it."""

    def arm(world: World, crash: Callable[[], None]) -> None:
        left = [number]

        def look(at: CrashPoint, rows: Sequence[Row]) -> None:
            if at is point and wanted(rows):
                left[0] -= 1
                if not left[0]:
                    soon(world, 0, crash)

        world.connection.on_point = look

    return arm


def at_send(kind: type[Command], number: int, delay_ns: int = 0) -> Hook:
    """So long after the so-manieth command of a kind was handed to the venue."""

    def arm(world: World, crash: Callable[[], None]) -> None:
        left = [number]

        def look(command: Command) -> None:
            if isinstance(command, kind):
                left[0] -= 1
                if not left[0]:
                    soon(world, delay_ns, crash)

        world.venue.on_send = look

    return arm


def at_pause_and_send(kind: type[Command], number: int, delay_ns: int) -> Hook:
    """The same, with an operator's pause after a while: what else would cancel."""

    def arm(world: World, crash: Callable[[], None]) -> None:
        at_send(kind, number, delay_ns)(world, crash)
        world.clock.call_at(
            world.now_ns + 12 * NS, lambda: world.daemon.inbox.post(world.parts.operator._action("pause", "x", "test"))
        )

    return arm


def at_fill(number: int, delay_ns: int) -> Hook:
    """So long after the so-manieth fill came in."""

    def arm(world: World, crash: Callable[[], None]) -> None:
        left = [number]

        def look(event: Event) -> None:
            if isinstance(event, Fill):
                left[0] -= 1
                if not left[0]:
                    soon(world, delay_ns, crash)

        world.venue.on_deliver = look

    return arm


def at_time(seconds: float) -> Hook:
    def arm(world: World, crash: Callable[[], None]) -> None:
        soon(world, round(seconds * NS), crash)

    return arm


def has(statement: Statement, revision: bool | None = None) -> Callable[[Sequence[Row]], bool]:
    def wanted(rows: Sequence[Row]) -> bool:
        return any(kind is statement and revision in (None, bool(values[1])) for kind, values in rows)

    return wanted


BEFORE, AFTER = CrashPoint.BEFORE_COMMIT, CrashPoint.AFTER_COMMIT
MOMENTS: dict[str, Hook] = {
    "before the intent": at_commit(BEFORE, has(Statement.INTENT, False), 9),
    "intent committed, not sent": at_commit(AFTER, has(Statement.INTENT, False), 9),
    "amend committed, not sent": at_commit(AFTER, has(Statement.INTENT, True), 5),
    "sent, on its way": at_send(Place, 9, 1_000_000),
    "sent, arrived, not acknowledged": at_send(Place, 9, 60_000_000),
    "amend arrived, not acknowledged": at_send(Amend, 5, 60_000_000),
    "cancel on its way": at_pause_and_send(Cancel, 1, 1_000_000),
    "cancel arrived, not acknowledged": at_pause_and_send(Cancel, 2, 60_000_000),
    "first fill came, not committed": at_fill(1, 10_000),
    "fill came, not committed": at_fill(12, 10_000),
    "fill on this side of its commit": at_commit(BEFORE, has(Statement.FILL), 8),
    "fill on the other side": at_commit(AFTER, has(Statement.FILL), 8),
    "while it starts": at_time(0.05),
    "while it reconciles": at_time(1.2),
    "somewhere": at_time(17.3),
    "elsewhere": at_time(31.4159),
}


async def crash_at(world: World, arm: Hook) -> None:
    came = asyncio.Event()

    def crash() -> None:
        world.die()
        came.set()

    arm(world, crash)
    async with asyncio.timeout(120):
        await came.wait()
    await world.crash()


def check_books(world: World, path: Path) -> None:
    """Journal, memory and venue say the same, to the last digit; every order is accounted for."""
    truth = world.venue.truth()
    with closing(sqlite3.connect(path / "journal.sqlite")) as db:
        booked = db.execute("SELECT trade_id, side * qty_lots FROM fills").fetchall()
        ids = [client_id for (client_id,) in db.execute("SELECT client_id FROM intents WHERE revision = 0")]
        unsettled = db.execute("SELECT client_id FROM orders WHERE settled = 0").fetchall()
    assert sorted(trade_id for trade_id, _ in booked) == sorted(fill.trade_id for fill in truth.fills)
    assert sum(lots for _, lots in booked) == truth.position_lots == world.state.position.position_lots
    sent = [each.command.client_id for each in world.venue.sent if isinstance(each.command, Place)]
    assert len(sent) == len(set(sent))
    assert set(sent) <= set(ids)
    assert len(ids) == len(set(ids))
    assert unsettled == []

    mark = world.state.venue.mark_px_ticks
    identity = pnl_identity(path / "journal.sqlite", mark)
    wallet_e10 = truth.wallet.balance_e10 + truth.wallet.unrealised_e10(mark)
    assert identity.equity_e10 == wallet_e10
    assert position.equity_basis_e10(world.state.position, mark) == wallet_e10


async def trade_and_end(world: World) -> None:
    """Quoting again; nothing of ours unknown to us; then a clean end with the books in order."""
    begun_ns = world.now_ns
    await world.sleep(1)
    if world.state.facts.pause_reason:  # a pause outlives a crash, like a kill
        assert (await world.parts.operator.resume("restarted", "test")).ok
    await world.until(world.is_two_sided_with_position, 60)
    await world.sleep(max(0.0, 30 - (world.now_ns - begun_ns) / NS))
    known = set(world.state.orders.live)
    assert set(world.venue.resting()) <= known
    await world.until(world.is_two_sided_with_position, 60)
    await world.parts.operator.pause("the end", "test")
    await world.until(lambda: not world.state.orders.live, 20)
    await world.sleep(2)
    assert await world.stop() == 0


@pytest.mark.parametrize("after_s", [0.1, 100.0])
@pytest.mark.parametrize("moment", MOMENTS)
def test_crash_and_restart(moment: str, after_s: float, path: Path) -> None:
    async def script(world: World) -> None:
        await crash_at(world, MOMENTS[moment])
        lost = [fill.trade_id for fill in world.venue.truth().fills if not is_journaled(path, fill.trade_id)]
        if moment in ("first fill came, not committed", "fill came, not committed", "fill on this side of its commit"):
            assert lost
        await world.restart(after_s)
        assert world.daemon.params.run_epoch == 2
        await trade_and_end(world)
        check_books(world, path)
        assert world.venue.resting() == []

    run_world(script, path)


def is_journaled(path: Path, trade_id: str) -> bool:
    with closing(sqlite3.connect(path / "journal.sqlite")) as db:
        return db.execute("SELECT 1 FROM fills WHERE trade_id = ?", (trade_id,)).fetchone() is not None


def test_crash_upon_crash(path: Path) -> None:
    """Five in a row, each in the middle of what the one before left."""

    async def script(world: World) -> None:
        for number, name in enumerate(
            (
                "fill came, not committed",
                "intent committed, not sent",
                "while it reconciles",
                "sent, on its way",
                "fill on the other side",
            )
        ):
            await crash_at(world, MOMENTS[name])
            await world.restart(0.3 * number)
        assert world.daemon.params.run_epoch == 6
        await trade_and_end(world)
        check_books(world, path)

    run_world(script, path)


def test_crash_with_answers_lost_and_requests_late(path: Path) -> None:
    """What was in flight when the process ended lands after the next one began."""

    async def script(world: World) -> None:
        await world.trade()
        world.venue.fates = [(Place, FaultKind.LATE, 1.0), (Place, FaultKind.ACK_LOST, 0.0)]
        await world.until(lambda: not world.venue.fates, 60, every_s=0.001)
        await world.crash()
        await world.restart(0.1)
        await trade_and_end(world)
        check_books(world, path)

    run_world(script, path)


def test_fills_and_funding_while_nobody_ran_are_booked(path: Path) -> None:
    """The process is gone for a while with orders resting; they fill, and money is moved in."""

    async def script(world: World) -> None:
        await world.trade()
        await world.crash()
        filled = len(world.venue.truth().fills)
        await world.sleep(30)
        world.venue.transfer(250 * 10**10)
        await world.sleep(300)
        assert len(world.venue.truth().fills) > filled
        await world.restart()
        await trade_and_end(world)
        check_books(world, path)
        assert world.state.position.transfers_e10 == 250 * 10**10

    run_world(script, path)


def test_a_pause_outlives_a_crash(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.parts.operator.pause("lunch", "test")
        await world.sleep(1)
        await world.crash()
        begun_ns = world.now_ns
        await world.restart()
        await world.sleep(30)
        assert world.guard is GuardState.SOFT_PAUSE
        assert world.venue.increasing_since(begun_ns) == []
        await trade_and_end(world)

    run_world(script, path)


def test_the_day_and_its_loss_survive_a_restart(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(60)
        await world.stop()
        day, opened = world.state.risk.day, world.state.risk.day_open_e10
        await world.restart()
        await world.trade(5)
        assert (world.state.risk.day, world.state.risk.day_open_e10) == (day, opened)

    run_world(script, path)


# --- what a restart must not take over --------------------------------------------------------------------------------


def test_reduced_size_ends_though_the_machine_was_started_anew(path: Path) -> None:
    """When it resumed is a monotonic time of a boot that is over; it must not count as in the future for ever."""

    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        with closing(sqlite3.connect(path / "journal.sqlite")) as db, db:
            rows = db.execute("SELECT rowid, blob FROM checkpoints WHERE slice = 'risk'").fetchall()
            for rowid, blob in rows:
                risk = msgspec.msgpack.decode(blob, type=Risk)
                risk.resumed_ns = world.now_ns + 10**15
                db.execute(
                    "UPDATE checkpoints SET blob = ?, digest = NULL WHERE rowid = ?",
                    (msgspec.msgpack.encode(risk), rowid),
                )
        await world.restart()
        await world.sleep(5)
        assert world.state.sampled.size_share < 1.0
        await world.sleep(12)
        assert world.state.sampled.size_share == 1.0

    run_world(script, path, busy(quotes__resume_s=10.0))


def test_fills_of_another_boot_are_no_repeated_execution(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade(60)
        await world.crash()
        with closing(sqlite3.connect(path / "journal.sqlite")) as db, db:
            db.execute("UPDATE fills SET mono_ns = mono_ns + 1000000000000000")
        await world.restart()
        await world.until(lambda: world.state.position.sells > 120, 600)
        assert world.guard is GuardState.RUNNING, world.picture()

    run_world(script, path, busy(guard__fills_per_side_per_minute=100))


def test_a_controller_that_died_leaves_no_checkpoint_and_no_clean_stop(path: Path) -> None:
    """It died between booking a fill and journaling it: the next run must not begin from such a state."""

    async def script(world: World) -> None:
        await world.trade()

        def broken(*_args: object) -> int:
            raise KeyError("a defect of ours")

        recorder = world.parts.recorder
        record = recorder.record

        def record_until_a_fill(state, event, step) -> int:
            return broken() if isinstance(event, Fill) else record(state, event, step)

        recorder.record = record_until_a_fill
        assert world.running is not None
        assert await world.running == 70
        world.running = None
        world.state_dir.release()
        with closing(sqlite3.connect(path / "journal.sqlite")) as db:
            assert db.execute("SELECT count(*) FROM checkpoints WHERE slice = 'position'").fetchone() == (0,)
            assert db.execute("SELECT clean_stop FROM runs").fetchone() == (0,)
        assert isinstance(world.daemon.failure, KeyError)

        await world.restart()
        await world.until(lambda: world.kill is KillState.KILLED, 20)
        assert (await world.parts.operator.resume("mended", "test")).ok
        await trade_and_end(world)
        check_books(world, path)

    run_world(script, path)


# --- refused ----------------------------------------------------------------------------------------------------------


async def refused(world: World, error: type[Exception], match: str) -> None:
    """The restart is refused with words; the venue was not touched, and the directory is free again."""
    sent, asked = len(world.venue.sent), len(world.venue.asked)
    with pytest.raises(error, match=match):
        await world.restart()
    assert (len(world.venue.sent), len(world.venue.asked)) == (sent, asked)
    open_dir(world.path, {}).lock().release()


def doctored(sql: str) -> Callable[[World], Awaitable[None]]:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        with closing(sqlite3.connect(world.path / "journal.sqlite")) as db, db:
            db.execute(sql)

    return script


@pytest.mark.parametrize(
    ("sql", "error", "match"),
    [
        ("PRAGMA user_version = 99", NewerSchema, "schema version 99.*run the newer one"),
        ("UPDATE meta SET symbol = 'ETHUSDT'", OtherInstrument, "belongs to ETHUSDT.*--state-dir"),
        ("UPDATE meta SET venue = 'bitget'", OtherInstrument, "at bitget"),
    ],
)
def test_a_journal_of_another_kind_is_refused(sql: str, error: type[Exception], match: str, path: Path) -> None:
    async def script(world: World) -> None:
        await doctored(sql)(world)
        await refused(world, error, match)

    run_world(script, path)


def test_a_damaged_journal_is_refused(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        whole = (path / "journal.sqlite").read_bytes()
        (path / "journal.sqlite").write_bytes(whole[:100] + b"\xff" * 4_000 + whole[4_100:])
        await refused(world, JournalUnreadable, "counts as killed")

    run_world(script, path)


@pytest.mark.parametrize("name", ["position", "risk", "cancel_breaches", "read_until"])
def test_a_damaged_slice_is_refused_as_a_damaged_journal_is(path: Path, name: str) -> None:
    async def script(world: World) -> None:
        await world.trade()
        await world.stop()
        with closing(sqlite3.connect(path / "journal.sqlite")) as db, db:
            cut = "UPDATE checkpoints SET blob = substr(blob, 1, length(blob) - 1) WHERE slice = ?"
            assert db.execute(cut, (name,)).rowcount > 0
        await refused(world, JournalUnreadable, "counts as killed")

    run_world(script, path)


def test_a_directory_in_use_is_refused(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        with pytest.raises(InUse, match=r"in use by process.*--state-dir"):
            open_dir(path, {}).lock()
        assert world.guard is GuardState.RUNNING

    run_world(script, path)


def test_a_crash_loop_starts_killed(path: Path) -> None:
    async def script(world: World) -> None:
        for _ in range(3):
            await world.until(lambda: world.guard is GuardState.RUNNING, 20)
            await world.sleep(1)
            await world.crash()
            await world.restart()
        begun_ns = world.now_ns
        await world.until(lambda: world.guard is not GuardState.STARTING, 2)
        assert world.guard is GuardState.HARD_STOP
        assert "crash loop: 3 unclean starts" in world.daemon.gate.closed_because
        await world.until(lambda: world.kill is KillState.KILLED, 20)
        assert world.venue.resting() == []
        assert world.venue.increasing_since(begun_ns) == []
        assert (await world.parts.operator.resume("looked into it", "test")).ok
        await world.until(lambda: world.guard is GuardState.RUNNING, 20)

    run_world(script, path, busy(run__crash_loop_starts=3))


@pytest.mark.parametrize("clean", [False, True])
def test_a_start_that_never_reached_the_venue_is_no_crash_and_no_clean_stop(path: Path, clean: bool) -> None:
    """A wrong key tried three times must not latch; and after a crash, with orders resting, it must not pass for the
    clean stop that `kill --direct --if-dirty` and the next start look for."""

    async def script(world: World) -> None:
        await world.trade()
        await (world.stop() if clean else world.crash())
        opens = world.venue.open

        async def refuses(deliver: Deliver) -> None:
            raise VenueUnavailable("the venue does not take this key")

        world.venue.open = refuses
        for _ in range(4):
            with pytest.raises(VenueUnavailable, match="this key"):
                await world.begin(fresh_account=False)
            assert ("did not stop cleanly" in left_by(StateDir(path, None)).dirty) is not clean
        world.venue.open = opens
        await world.begin(fresh_account=False)
        assert world.daemon.gate.closed_because == ""
        await world.until(world.is_two_sided_with_position, 60)

    run_world(script, path, busy(run__crash_loop_starts=3))


def test_quoting_begins_with_nothing_of_unknown_fate(path: Path) -> None:
    """An order that never arrived: only time can tell, so the start waits for as long as it could still land."""

    async def script(world: World) -> None:
        await world.trade()
        lost = await next_place(world, FaultKind.REQUEST_LOST)
        await world.crash()
        await world.restart(0.1)
        await world.until(lambda: world.guard is GuardState.RUNNING, 30)
        assert lost not in world.state.orders.live
        assert not [o for o in world.state.orders.live.values() if o.status is OrderStatus.UNKNOWN]
        await world.until(world.is_two_sided_with_position, 60)

    run_world(script, path)
