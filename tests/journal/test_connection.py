"""The seam: two connections, one content; all rows of a commit or none."""

import asyncio
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from mmdaemon.clock import VirtualClock, run_virtual
from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.events import OrderAdopted
from mmdaemon.core.types import GuardState, KillState, OrderStatus, Purpose, Regime, Side
from mmdaemon.journal import rows
from mmdaemon.journal.connection import (
    Connection,
    CrashPoint,
    Durability,
    InlineConnection,
    JournalFailed,
    ThreadConnection,
    completion_delay_ns,
    grouped,
)
from mmdaemon.journal.statements import TABLE_OF, Row
from tests.journal.samples import (
    INSTRUMENT,
    NS,
    WALL_NS,
    StillClock,
    begin,
    bill,
    dump,
    fill,
    place,
    query,
    state_dir,
    update,
)


def journal_at(folder: Path) -> Path:
    state = state_dir(folder)
    begin(state)
    return state.journal_path


def commit_inline(path: Path, batches: Sequence[Sequence[Row]], durability: Durability = Durability.PROCESS) -> None:
    async def main(clock: VirtualClock) -> None:
        await commit_all(InlineConnection(path, durability, clock, seed=1), batches)

    run_virtual(main, start_wall_ns=WALL_NS)


def commit_in_thread(path: Path, batches: Sequence[Sequence[Row]], durability: Durability = Durability.PROCESS) -> None:
    asyncio.run(commit_all(ThreadConnection(path, durability), batches))


async def commit_all(connection: Connection, batches: Sequence[Sequence[Row]]) -> None:
    await connection.open()
    try:
        for batch in batches:
            await connection.commit(batch)
    finally:
        await connection.close()


BOTH = pytest.mark.parametrize("commit", [commit_inline, commit_in_thread])


def a_run_of_rows(seed: int) -> list[Row]:
    """Some life of a few orders, with every kind of row that meets another in its table."""
    dice = random.Random(seed)
    made: list[Row] = [rows.parameters_row(1, b"p"), rows.instrument_row(INSTRUMENT, WALL_NS)]
    chain = rows.DecisionChain(1, b"p")
    for seq in range(60):
        identity = f"mmabcd-1-{dice.randrange(6)}"
        first = not any(values[0] == identity for _, values in made)
        match dice.randrange(8):
            case 0 | 1 if first:
                made += rows.intent_rows(1, seq, place(identity, dice.choice(list(Side))), WALL_NS)
            case 2:
                made += rows.intent_rows(1, seq, Amend(identity, seq + 1, seq + 1, 5), WALL_NS)
            case 3:
                made += rows.order_rows(1, seq, update(identity, dice.choice(list(OrderStatus)), cum=dice.randrange(6)))
            case 4:
                made.append(rows.fill_row(1, seq, fill(f"t{dice.randrange(9)}", identity), INSTRUMENT, None))
            case 5:
                made.append(rows.bill_row(1, seq, bill(f"b{dice.randrange(5)}"), "sim"))
                made.append(chain.row(seq, 1, 2, GuardState.RUNNING, Regime.UP, b"i%d" % seq, b"d"))
            case 6:
                made.append(rows.break_seen_row(1, seq, seq, "position", "reconcile", True, str(seq)))
                made += rows.checkpoint_rows(1, seq, seq, {"bars": b"%d" % seq})
            case _:
                made.append(rows.break_closed_row(seq, "position", "gone"))
                made += rows.intent_rows(1, seq, Cancel(identity, False), WALL_NS)
                made.append(rows.kill_row(1, seq, seq, KillState.ARMED, "", {}))
    return made


@pytest.mark.parametrize("seed", range(8))
def test_both_connections_leave_the_same_content(tmp_path: Path, seed: int) -> None:
    made = a_run_of_rows(seed)
    dice = random.Random(seed)
    cuts = sorted(dice.sample(range(len(made)), 5))
    batches = [made[a:b] for a, b in zip([0, *cuts], [*cuts, len(made)], strict=True)]
    inline, threaded, one_by_one = (journal_at(tmp_path / name) for name in ("inline", "threaded", "one_by_one"))
    commit_inline(inline, batches)
    commit_in_thread(threaded, batches)
    commit_inline(one_by_one, [[each] for each in made])
    assert dump(inline) == dump(threaded)
    assert dump(inline) == dump(one_by_one), "grouping by table changed what a commit means"
    assert 'INSERT INTO "fills"' in dump(inline)


def test_rows_are_grouped_by_table_and_keep_their_order_within_it() -> None:
    opened = rows.break_seen_row(1, 1, 1, "a", "x", True, "")
    closed = rows.break_closed_row(2, "a", "")
    one, two = (rows.intent_rows(1, 1, place(name), WALL_NS) for name in "ab")
    runs = grouped([opened, *one, closed, *two, opened])
    assert [(TABLE_OF[statement], len(values)) for statement, values in runs] == [
        ("breaks", 1),
        ("breaks", 1),
        ("breaks", 1),
        ("intents", 2),
        ("orders", 2),
    ]
    assert [statement for statement, _ in runs[:3]] == [opened[0], closed[0], opened[0]]


@BOTH
def test_a_commit_is_all_or_nothing(tmp_path: Path, commit: type) -> None:
    path = journal_at(tmp_path)
    commit(path, [rows.intent_rows(1, 1, place("taken"), WALL_NS)])
    before = dump(path)
    batch = [rows.fill_row(1, 2, fill(), INSTRUMENT, None), *rows.intent_rows(1, 2, place("taken"), WALL_NS)]
    with pytest.raises(JournalFailed, match="UNIQUE constraint failed: intents"):
        commit(path, [batch])
    assert dump(path) == before


@BOTH
def test_what_sqlite_cannot_bind_fails_the_commit_and_leaves_nothing(tmp_path: Path, commit: type) -> None:
    path = journal_at(tmp_path)
    before = dump(path)
    statement, values = rows.fill_row(1, 2, fill(), INSTRUMENT, None)
    with pytest.raises(JournalFailed, match="too large"):
        commit(path, [[rows.parameters_row(1, b""), (statement, (*values[:-1], 1 << 64))]])
    assert dump(path) == before


@BOTH
def test_a_journal_that_is_not_there_is_not_made(tmp_path: Path, commit: type) -> None:
    with pytest.raises(JournalFailed, match=r"none\.sqlite"):
        commit(tmp_path / "none.sqlite", [])
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, commit: type) -> None:
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one" * 100)
    with pytest.raises(JournalFailed, match="not a database"):
        commit(tmp_path / "text", [])


@BOTH
@pytest.mark.parametrize(("durability", "synchronous"), [(Durability.POWER, 2), (Durability.PROCESS, 1)])
def test_durability_is_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit: type, durability: Durability, synchronous: int
) -> None:
    path = journal_at(tmp_path)
    asked: list[tuple[object, object]] = []

    class Watched(sqlite3.Connection):
        def close(self) -> None:
            asked.append(
                (self.execute("PRAGMA journal_mode").fetchone()[0], self.execute("PRAGMA synchronous").fetchone()[0])
            )
            super().close()

    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **kw: real(*a, **kw, factory=Watched))
    commit(path, [], durability)
    assert asked == [("wal", synchronous)]


# --- virtual time -----------------------------------------------------------------------------------------------------


def test_completion_takes_its_delay_on_the_virtual_clock(tmp_path: Path) -> None:
    path = journal_at(tmp_path)

    async def main(clock: VirtualClock) -> list[int]:
        connection = InlineConnection(path, Durability.PROCESS, clock, seed=7)
        await connection.open()
        took: list[int] = []
        for seq in range(5):
            before = clock.mono_ns()
            await connection.commit([rows.transition_row(1, seq, 0, 0, GuardState.RUNNING, GuardState.REDUCING, [])])
            took.append(clock.mono_ns() - before)
        await connection.close()
        return took

    took = run_virtual(main, start_wall_ns=WALL_NS)
    assert took == [completion_delay_ns(7, ordinal, 300_000) for ordinal in range(1, 6)]
    assert len(set(took)) == 5


def test_the_delay_is_a_pure_function_with_the_mean_it_was_given() -> None:
    delays = [completion_delay_ns(3, ordinal, 300_000) for ordinal in range(1, 4001)]
    assert delays == [completion_delay_ns(3, ordinal, 300_000) for ordinal in range(1, 4001)]
    assert delays != [completion_delay_ns(4, ordinal, 300_000) for ordinal in range(1, 4001)]
    assert min(delays) >= 150_000
    assert max(delays) < 450_000
    assert sum(delays) / len(delays) == pytest.approx(300_000, rel=0.02)
    assert completion_delay_ns(3, 1, 0) == 0


class Crash(BaseException):
    """The end of the simulated process."""


@pytest.mark.parametrize(("point", "kept"), [(CrashPoint.BEFORE_COMMIT, 1), (CrashPoint.AFTER_COMMIT, 2)])
def test_a_crash_point_ends_either_before_or_after_the_commit(tmp_path: Path, point: CrashPoint, kept: int) -> None:
    path = journal_at(tmp_path)

    def on_commit(at: CrashPoint, ordinal: int) -> None:
        if (at, ordinal) == (point, 2):
            raise Crash

    async def main(clock: VirtualClock) -> None:
        connection = InlineConnection(path, Durability.PROCESS, clock, seed=1, on_commit=on_commit)
        await connection.open()
        try:
            for identity in ("a", "b", "c"):
                await connection.commit(rows.intent_rows(1, 1, place(identity), WALL_NS))
        finally:
            connection.crash()

    with pytest.raises(Crash):
        run_virtual(main, start_wall_ns=WALL_NS)
    assert query(path, "SELECT count(*) FROM intents") == [(kept,)]


def test_a_closed_connection_commits_nothing(tmp_path: Path) -> None:
    connection = InlineConnection(journal_at(tmp_path), Durability.PROCESS, StillClock(), seed=1, delay_ns=0)

    async def main() -> None:
        await connection.open()
        await connection.close()
        await connection.commit([rows.parameters_row(1, b"")])

    with pytest.raises(JournalFailed, match="not open"):
        asyncio.run(main())


def test_an_adopted_order_keeps_the_terms_of_its_intent(tmp_path: Path) -> None:
    path = journal_at(tmp_path)
    adopted = OrderAdopted(NS, WALL_NS, None, "a", Side.BUY, 1, 9, 0, Purpose.QUOTE, True, OrderStatus.UNKNOWN)
    commit_inline(path, [rows.intent_rows(1, 1, place("a"), WALL_NS), rows.order_rows(1, 2, adopted)])
    assert query(path, "SELECT px_ticks, qty_lots, reduce_only, status FROM orders") == [(1000, 5, 0, "unknown")]
