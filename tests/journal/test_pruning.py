"""Old rows leave the journal in small parts, only out of a copy that has them, and what leaves is put down."""

from pathlib import Path

import pytest

from mmdaemon.core.commands import Amend
from mmdaemon.core.types import NS, GuardState, OrderStatus, Regime
from mmdaemon.journal import rows
from mmdaemon.journal.backup import Kept, back_up
from mmdaemon.journal.backup_sums import sums_of
from mmdaemon.journal.pruning import PART_ROWS, PRUNED, RULES, NotPruned, Part, next_part, oldest_decision_ts_ns
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.replay import verify
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.state_dir import StateDir
from tests.journal.samples import INSTRUMENT, WALL_NS, begin, fill, place, query, state_dir, update, write

DAY_NS = 86_400 * NS
DECISIONS = 3 * PART_ROWS + 7
SETTLED, LIVE = "mmabcd-1-1", "mmabcd-1-2"


def decide(inputs: bytes, _params: bytes) -> bytes:
    return inputs[::-1]


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    """A run of a decision a day, with a settled order, a live one with an amend each day, and a position."""
    state = state_dir(tmp_path)
    begin(state)
    path = state.journal_path
    write(path, [rows.parameters_row(1, b"params")])
    chain = DecisionChain(1, b"params")
    write(path, [*rows.intent_rows(1, 1, place(SETTLED), WALL_NS), *rows.intent_rows(1, 1, place(LIVE), WALL_NS)])
    write(path, [rows.fill_row(1, 2, fill("t1", SETTLED, qty_lots=5), INSTRUMENT, None)])
    for i in range(DECISIONS):
        seq, ts_ns = 10 + i, WALL_NS + i * DAY_NS
        said = b"inputs %d" % i
        write(path, [chain.row(seq, seq, ts_ns, GuardState.RUNNING, Regime.UP, said, said[::-1])])
        for order in (SETTLED, LIVE):
            write(path, rows.intent_rows(1, seq, Amend(order, i + 1, 1000 + i, 5), ts_ns))
        write(path, rows.order_rows(1, seq, update(LIVE, OrderStatus.LIVE, revision=i)))
    write(path, rows.order_rows(1, 10 + DECISIONS, update(SETTLED, OrderStatus.FILLED, cum=5)))
    query(path, "UPDATE order_events SET ts_ns = ? + (rowid - 1) * ?", WALL_NS, DAY_NS)
    return state


@pytest.fixture
def copy(state: StateDir, tmp_path: Path) -> Kept:
    return back_up(state.journal_path, tmp_path / "copies", "daily", WALL_NS + 9_999 * DAY_NS)


def pruned(state: StateDir, copy: Kept, table: str, before_ts_ns: int) -> list[Part]:
    parts: list[Part] = []
    while part := next_part(state.journal_path, copy.path, table, before_ts_ns, WALL_NS):
        write(state.journal_path, part.rows)
        parts.append(part)
    return parts


def test_every_table_has_a_rule(state: StateDir) -> None:
    """A table added to the schema must be decided about."""
    tables = query(
        state.journal_path, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    )
    assert set(RULES) == {name for (name,) in tables}
    never = {"orders", "fills", "bills", "reconciliations", "breaks", "transitions", "kill", "runs", "markouts"}
    assert never.isdisjoint(PRUNED)


def test_what_is_old_goes_in_small_parts_and_the_rest_still_proves_itself(state: StateDir, copy: Kept) -> None:
    old = 2 * PART_ROWS + 5
    parts = pruned(state, copy, "decisions", WALL_NS + old * DAY_NS)
    assert [part.count for part in parts] == [PART_ROWS, PART_ROWS, 5]
    assert oldest_decision_ts_ns(state.journal_path) == WALL_NS + old * DAY_NS
    verdict = verify(state.journal_path, decide)
    assert (verdict.checked, verdict.mismatched, verdict.pruned) == (DECISIONS - old, 0, old)
    assert verdict.ok
    with JournalReader(state.journal_path) as journal:
        gone = journal.pruning("decisions", 1)
        assert gone is not None
        assert (gone.rows, gone.through_seq, gone.copy) == (old, 9 + old, copy.path.name)
        assert journal.pruning("decisions", 2) is None


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM decisions WHERE rowid = (SELECT min(rowid) FROM decisions)",
        "UPDATE prunings SET rows = rows - 1",
        "UPDATE prunings SET chain = zeroblob(16)",
        "DELETE FROM prunings",
    ],
)
def test_rows_that_were_taken_otherwise_still_show(state: StateDir, copy: Kept, sql: str) -> None:
    chain = query(state.journal_path, "SELECT chain FROM decisions ORDER BY seq DESC LIMIT 1")[0][0]
    query(state.journal_path, "INSERT INTO digests VALUES (1, x'00', 9, ?, ?)", DECISIONS, chain)
    pruned(state, copy, "decisions", WALL_NS + 5 * DAY_NS)
    assert verify(state.journal_path, decide).ok
    query(state.journal_path, sql)
    assert not verify(state.journal_path, decide).ok


def test_what_the_copy_does_not_have_stays(state: StateDir, copy: Kept, tmp_path: Path) -> None:
    everything_ns = WALL_NS + 9_999 * DAY_NS
    query(copy.path, "DELETE FROM decisions WHERE rowid = 3")
    with pytest.raises(NotPruned, match="does not have all of it"):
        next_part(state.journal_path, copy.path, "decisions", everything_ns, WALL_NS)
    query(copy.path, "DELETE FROM intents WHERE seq = 12")
    with pytest.raises(NotPruned, match="does not have all of it"):
        next_part(state.journal_path, copy.path, "intents", everything_ns, WALL_NS)
    with pytest.raises(NotPruned, match="cannot be read"):
        next_part(state.journal_path, tmp_path / "gone", "order_events", everything_ns, WALL_NS)


def test_amends_of_what_may_rest_and_all_that_money_and_identity_need_stay(state: StateDir, copy: Kept) -> None:
    def kept() -> list[object]:
        return [
            query(state.journal_path, f"SELECT * FROM {name}") for name, rule in RULES.items() if not rule.is_pruned
        ]

    path = state.journal_path
    before, money = [each for each in kept() if each], sums_of_accounts(path)
    begun = begin(state).orders
    before = kept()
    for table in PRUNED:
        pruned(state, copy, table, WALL_NS + 9_999 * DAY_NS)
    after = kept()
    assert after[:-1] == before[:-1], "only `prunings`, the last of them, grew"
    assert sums_of_accounts(path) == money
    amends = "SELECT client_id, count(*) FROM intents WHERE revision > 0 GROUP BY client_id"
    (live, settled) = dict(query(path, amends)).get(LIVE), dict(query(path, amends)).get(SETTLED, 0)
    assert live == DECISIONS
    assert settled <= 1  # the newest rows stay, whatever they are
    assert query(path, "SELECT count(*) FROM intents WHERE revision = 0") == [(2,)]
    again = begin(state).orders
    assert [(o.client_id, o.px_ticks, o.qty_lots) for o in again] == [
        (o.client_id, o.px_ticks, o.qty_lots) for o in begun
    ]
    assert len(again) == 1


def sums_of_accounts(path: Path) -> object:
    with JournalReader(path) as journal:
        return sums_of(journal.db).accounts, sums_of(journal.db).last_chain


def test_a_row_from_the_future_holds_up_what_is_behind_it(state: StateDir, copy: Kept) -> None:
    query(state.journal_path, "UPDATE decisions SET ts_ns = ts_ns * 2 WHERE rowid = 4")
    query(copy.path, "UPDATE decisions SET ts_ns = ts_ns * 2 WHERE rowid = 4")
    assert [part.count for part in pruned(state, copy, "decisions", WALL_NS + 9 * DAY_NS)] == [3]


def test_room_is_used_again(state: StateDir, copy: Kept) -> None:
    """No `vacuum`: it would hold the writer. What was freed is what the next rows are written to."""
    for table in PRUNED:
        pruned(state, copy, table, WALL_NS + 9_999 * DAY_NS)
    path = state.journal_path
    (pages,), (free,) = query(path, "PRAGMA page_count")[0], query(path, "PRAGMA freelist_count")[0]
    assert free > 3
    chain = DecisionChain(2, b"")
    many = [chain.row(i, i, WALL_NS, GuardState.RUNNING, Regime.UP, bytes(900), b"") for i in range(3 * free)]
    write(path, many)
    assert query(path, "PRAGMA page_count")[0][0] <= pages + 4


def test_the_next_part_is_found_without_reading_the_table(state: StateDir) -> None:
    for sql in (
        "SELECT rowid, epoch, seq, ts_ns FROM order_events ORDER BY rowid LIMIT 65",
        "SELECT epoch, seq, ts_ns FROM intents WHERE (epoch, seq) > (1, 2) ORDER BY epoch, seq LIMIT 65",
        "SELECT count(*) FROM decisions WHERE rowid BETWEEN 1 AND 64",
    ):
        plan = [line[-1] for line in query(state.journal_path, f"EXPLAIN QUERY PLAN {sql}")]
        assert not any("TEMP B-TREE" in step for step in plan), plan
        assert all(step.startswith("SEARCH") or step == "SCAN order_events" for step in plan), plan
