"""The writer: numbers, group commits, telemetry, and what a failure does to everybody."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from mmdaemon.clock import RealClock, VirtualClock, run_real, run_virtual
from mmdaemon.core.types import NS, GuardState
from mmdaemon.journal import rows
from mmdaemon.journal.connection import Connection, Durability, InlineConnection, JournalFailed, ThreadConnection
from mmdaemon.journal.statements import Row
from mmdaemon.journal.writer import BATCH_ROWS, TELEMETRY_NS, JournalWriter
from tests.journal.samples import INSTRUMENT, WALL_NS, begin, fill, place, query, state_dir


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    state = state_dir(tmp_path)
    begin(state)
    return state.journal_path


def transition(seq: int) -> Row:
    return rows.transition_row(1, seq, 0, 0, GuardState.RUNNING, GuardState.REDUCING, [])


class Recording:
    """The seam, watched: what was in each commit and when it was complete; fails from a given commit on."""

    def __init__(self, inner: Connection, clock: VirtualClock, fails_at: int = 0) -> None:
        self._inner = inner
        self._clock = clock
        self._fails_at = fails_at
        self.batches: list[int] = []
        self.done_ns: list[int] = []

    async def open(self) -> None:
        await self._inner.open()

    async def commit(self, rows: Sequence[Row]) -> None:
        self.batches.append(len(rows))
        if len(self.batches) == self._fails_at:
            raise JournalFailed("disk full")
        await self._inner.commit(rows)
        self.done_ns.append(self._clock.mono_ns())

    async def close(self) -> None:
        await self._inner.close()


Scenario = Callable[[JournalWriter, Recording, VirtualClock], Awaitable[None]]


def in_virtual_time(journal: Path, scenario: Scenario, *, fails_at: int = 0) -> Recording:
    async def main(clock: VirtualClock) -> Recording:
        inner = InlineConnection(journal, Durability.PROCESS, clock, seed=1)
        connection = Recording(inner, clock, fails_at)
        await connection.open()
        writer = JournalWriter(connection, clock)
        task = asyncio.create_task(writer.run())
        try:
            await scenario(writer, connection, clock)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await connection.close()
        return connection

    return run_virtual(main, start_wall_ns=WALL_NS)


def test_durable_means_committed(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        for seq in range(5):
            number = writer.put(rows.intent_rows(1, seq, place(f"o{seq}"), WALL_NS))
            assert number == seq + 1
            assert query(journal, "SELECT count(*) FROM intents") == [(seq,)]
            assert writer.committed == seq
            await writer.durable(number)
            assert writer.committed == number
            assert query(journal, "SELECT count(*) FROM intents") == [(seq + 1,)]

    in_virtual_time(journal, scenario)


def test_everything_pending_goes_into_one_commit(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        first = writer.put([transition(1)])
        await asyncio.sleep(50e-6)  # the first commit is under way
        late = [writer.put([transition(seq), transition(seq + 100)]) for seq in range(2, 12)]
        await writer.durable(first)
        assert writer.committed == first
        await writer.durable(late[0])
        assert writer.committed == late[-1]
        assert (writer.commits, writer.rows_committed) == (2, 21)

    assert in_virtual_time(journal, scenario).batches == [1, 20]


def test_waiters_are_released_in_order_and_not_before_their_rows(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        released: list[tuple[int, int]] = []

        async def wait(number: int) -> None:
            await writer.durable(number)
            released.append((number, len(query(journal, "SELECT 1 FROM transitions"))))

        numbers = [writer.put([transition(seq)] * 300) for seq in range(4)]
        await asyncio.gather(*(wait(number) for number in reversed(numbers)))
        assert sorted(released) == released
        assert all(found >= 300 * number for number, found in released)

    in_virtual_time(journal, scenario)


def test_batches_are_capped_and_a_put_is_never_split(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        for size in (200, 200, 200, 1200, 1):
            writer.put([transition(size)] * size)
        await writer.durable(5)

    assert in_virtual_time(journal, scenario).batches == [400, 200, 1200, 1]


def test_telemetry_waits_for_company_but_no_longer_than_a_second(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        began = clock.mono_ns()
        writer.put([transition(1)], urgent=False)
        await asyncio.sleep(0.4)
        assert connection.batches == []
        await writer.durable(writer.put([transition(2)]))
        assert connection.batches == [2]

        await asyncio.sleep(0.3)
        handed = clock.mono_ns() - began
        number = writer.put([transition(3)], urgent=False)
        writer.put([transition(4)], urgent=False)
        await writer.durable(number)
        waited = connection.done_ns[-1] - began - handed
        assert TELEMETRY_NS <= waited < TELEMETRY_NS + NS // 1000
        assert connection.batches == [2, 2]

    in_virtual_time(journal, scenario)


def test_a_flood_of_telemetry_does_not_wait(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        for seq in range(BATCH_ROWS + 100):
            writer.put([transition(seq)], urgent=False)
        await asyncio.sleep(0.01)
        assert connection.batches == [BATCH_ROWS]
        await asyncio.sleep(1)
        assert connection.batches == [BATCH_ROWS, 100]

    in_virtual_time(journal, scenario)


def test_the_age_of_what_waits(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        began = clock.mono_ns()
        assert writer.oldest_pending_ns(began + NS) == 0
        writer.put([transition(1)], urgent=False)
        assert writer.oldest_pending_ns(began + TELEMETRY_NS) == 0, "telemetry has a second of patience"
        assert writer.oldest_pending_ns(began + TELEMETRY_NS + 5) == 5
        writer.put([transition(2)])
        assert writer.oldest_pending_ns(began + 5) == 5
        await asyncio.sleep(50e-6)
        assert connection.batches == [2]
        assert writer.oldest_pending_ns(clock.mono_ns()) == 50_000, "what is being committed is not durable yet"
        await writer.durable(2)
        assert writer.oldest_pending_ns(clock.mono_ns() + NS) == 0

    in_virtual_time(journal, scenario)


def test_a_failed_commit_fails_everything_that_waits_and_all_that_follows(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        safe = writer.put([transition(1)])
        await writer.durable(safe)
        waiting = [asyncio.create_task(writer.durable(writer.put([transition(seq)] * 400))) for seq in (2, 3)]
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [JournalFailed, JournalFailed]
        assert writer.failed
        assert writer.error == "disk full"
        with pytest.raises(JournalFailed, match="disk full"):
            writer.put([transition(4)])
        with pytest.raises(JournalFailed, match="disk full"):
            await writer.durable(3)
        await writer.durable(safe)
        assert writer.oldest_pending_ns(clock.mono_ns() + NS) >= NS, "a failed journal is never up to date"
        with pytest.raises(JournalFailed, match="disk full"):
            await writer.close()

    assert in_virtual_time(journal, scenario, fails_at=2).batches == [1, 400]
    assert query(journal, "SELECT seq FROM transitions") == [(1,)]


def test_the_end_of_the_writer_task_fails_the_journal(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        task = next(task for task in asyncio.all_tasks() if "JournalWriter.run" in repr(task.get_coro()))
        waiting = asyncio.create_task(writer.durable(writer.put([transition(1)])))
        await asyncio.sleep(50e-6)
        task.cancel()
        with pytest.raises(JournalFailed, match="ended before it was closed"):
            await waiting
        assert writer.failed

    in_virtual_time(journal, scenario)


def test_a_number_that_was_never_given_is_a_mistake(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        with pytest.raises(ValueError, match="under number 1; the last is 0"):
            await writer.durable(1)

    in_virtual_time(journal, scenario)


def test_a_waiter_that_goes_away_disturbs_nobody(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        number = writer.put([transition(1)])
        leaving = asyncio.create_task(writer.durable(number))
        await asyncio.sleep(50e-6)
        leaving.cancel()
        await writer.durable(number)
        assert leaving.cancelled()
        assert not writer.failed

    in_virtual_time(journal, scenario)


def test_close_commits_what_is_pending_telemetry_too(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        for seq in range(3):
            writer.put([transition(seq)] * 300, urgent=False)
        await writer.close()
        assert not writer.failed
        assert writer.committed == writer.handed == 3
        with pytest.raises(JournalFailed, match="closing"):
            writer.put([transition(9)])

    assert in_virtual_time(journal, scenario).batches == [300, 300, 300]


def test_close_commits_what_was_handed_over_before_the_writer_ran(journal: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        connection = InlineConnection(journal, Durability.PROCESS, clock, seed=1)
        await connection.open()
        writer = JournalWriter(connection, clock)
        writer.put([transition(1)], urgent=False)
        await writer.close()

    run_virtual(main, start_wall_ns=WALL_NS)
    assert query(journal, "SELECT seq FROM transitions") == [(1,)]


def test_no_intent_no_order(journal: Path) -> None:
    """A crash between intent and commit: what was never told durable is not there, and was never sent."""
    sent: list[str] = []

    async def main(clock: VirtualClock) -> None:
        connection = InlineConnection(journal, Durability.PROCESS, clock, seed=1)
        await connection.open()
        writer = JournalWriter(connection, clock)
        asyncio.create_task(writer.run())  # noqa: RUF006 - ended with the loop
        try:
            for identity in ("a", "b"):
                number = writer.put(rows.intent_rows(1, 1, place(identity), WALL_NS))
                await writer.durable(number)
                sent.append(identity)
            writer.put(rows.intent_rows(1, 1, place("c"), WALL_NS))
        finally:
            connection.crash()

    run_virtual(main, start_wall_ns=WALL_NS)
    assert sent == ["a", "b"]
    assert query(journal, "SELECT client_id FROM intents") == [("a",), ("b",)]


@pytest.mark.parametrize("step", range(1, 40))
def test_a_crash_at_any_step_leaves_every_sent_order_journaled(tmp_path: Path, step: int) -> None:
    state = state_dir(tmp_path)
    begin(state)
    sent: list[str] = []
    connections: list[InlineConnection] = []

    class Crash(Exception):
        pass

    def on_step(ordinal: int) -> None:
        if ordinal == step:
            for connection in connections:
                connection.crash()
            raise Crash

    async def main(clock: VirtualClock) -> None:
        connection = InlineConnection(state.journal_path, Durability.PROCESS, clock, seed=1)
        connections.append(connection)
        await connection.open()
        writer = JournalWriter(connection, clock)
        task = asyncio.create_task(writer.run())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the crash ends it somehow
        for seq in range(100):
            ladder = [row for rung in "ab" for row in rows.intent_rows(1, seq, place(f"{rung}{seq}"), WALL_NS)]
            number = writer.put(ladder)
            await writer.durable(number)
            sent.append(f"a{seq}")
            await asyncio.sleep(0)

    with pytest.raises(Crash):
        run_virtual(main, start_wall_ns=WALL_NS, on_step=on_step)
    for connection in connections:  # one that was opened in the very step
        connection.crash()
    journaled = [identity for (identity,) in query(state.journal_path, "SELECT client_id FROM intents")]
    assert set(sent) <= set(journaled)
    assert sum(i.startswith("a") for i in journaled) * 2 == len(journaled), "a ladder is one transaction"
    assert len(journaled) // 2 - len(sent) <= 1
    recovered = begin(state)
    assert sorted(order.client_id for order in recovered.orders) == sorted(journaled)


def test_in_real_time_the_same_writer_runs_on_a_thread(journal: Path) -> None:
    async def main(clock: RealClock) -> None:
        connection = ThreadConnection(journal, Durability.POWER)
        await connection.open()
        writer = JournalWriter(connection, clock)
        task = asyncio.create_task(writer.run())
        for seq in range(20):
            writer.put([rows.fill_row(1, seq, fill(f"t{seq}"), INSTRUMENT, None)])
            writer.put([transition(seq)], urgent=False)
        await writer.durable(writer.handed)
        assert query(journal, "SELECT count(*) FROM fills") == [(20,)]
        writer.put([transition(99)], urgent=False)
        await writer.close()
        await task

    run_real(main)
    assert query(journal, "SELECT count(*) FROM transitions") == [(21,)]


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("PRAGMA query_only = 1", "attempt to write a readonly database"),
        ("PRAGMA max_page_count = 1", "database or disk is full"),
        ("DROP TABLE transitions", "no such table: transitions"),
    ],
)
def test_a_disk_that_fails_fails_the_journal_and_says_why(journal: Path, trouble: str, message: str) -> None:
    async def main(clock: RealClock) -> None:
        connection = ThreadConnection(journal, Durability.POWER)
        await connection.open()
        assert connection._db is not None
        await connection._db.execute_fetchall(trouble)
        writer = JournalWriter(connection, clock)
        task = asyncio.create_task(writer.run())
        blob = bytes(1 << 20)
        kept, lost = writer.put([rows.parameters_row(1, blob)]), writer.put([transition(1)])
        for number in (lost, kept):
            with pytest.raises(JournalFailed, match=message):
                await writer.durable(number)
        with pytest.raises(JournalFailed, match=message):
            await task
        with pytest.raises(JournalFailed, match=message):
            await writer.close()

    run_real(main)
    assert query(journal, "SELECT count(*) FROM parameters") == [(0,)]


def test_a_journal_that_somebody_locks_fails_and_does_not_wait_for_ever(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        with closing(sqlite3.connect(journal)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(JournalFailed, match="database is locked"):
                await writer.durable(writer.put([transition(1)]))

    in_virtual_time(journal, scenario)


def test_a_reader_and_a_backup_do_not_hold_the_writer_up(journal: Path) -> None:
    async def scenario(writer: JournalWriter, connection: Recording, clock: VirtualClock) -> None:
        with closing(sqlite3.connect(journal)) as reading, closing(sqlite3.connect(":memory:")) as copy:
            reading.execute("BEGIN")
            assert reading.execute("SELECT count(*) FROM transitions").fetchone() == (0,)
            reading.backup(copy)
            await writer.durable(writer.put([transition(1)]))
            assert reading.execute("SELECT count(*) FROM transitions").fetchone() == (0,)

    in_virtual_time(journal, scenario)
