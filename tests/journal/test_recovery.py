"""Start and crash recovery: the latch first, then what the journal knows; and what it refuses."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Amend
from mmdaemon.core.events import BillKind, Fill, Reconciled
from mmdaemon.core.types import NS, GuardState, KillState, OrderStatus, Regime, Side
from mmdaemon.journal import recovery, rows
from mmdaemon.journal.known import Learned, WatchedFill
from mmdaemon.journal.recovery import (
    NEWEST,
    JournalUnreadable,
    Latch,
    NewerSchema,
    OtherInstrument,
    read_latch,
    recover,
)
from mmdaemon.journal.state_dir import StateDir
from tests.journal.samples import (
    INSTRUMENT,
    WALL_NS,
    StillClock,
    begin,
    bill,
    dump,
    fill,
    place,
    query,
    run_start,
    state_dir,
    update,
    write,
)


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    return state_dir(tmp_path)


# --- the run ----------------------------------------------------------------------------------------------------------


def test_the_first_start_knows_nothing(state: StateDir) -> None:
    found = begin(state)
    assert (found.epoch, found.account_epoch, found.bot_tag) == (1, 1, "abcd")
    assert found.latch == Latch(KillState.ARMED, ())
    assert not found.latch.closed
    assert (found.orders, found.facts, found.checkpoint) == ((), (), None)
    assert (found.start_e10, found.read_until_ts_ns) == (None, WALL_NS)
    assert (found.clean_start, found.unclean_starts) == (True, 0)
    assert query(state.journal_path, "PRAGMA user_version") == [(NEWEST,)]
    assert query(state.journal_path, "PRAGMA journal_mode") == [("wal",)]
    kept = query(state.journal_path, "SELECT epoch, mode, durability, provenance, started_ts_ns, clean_stop FROM runs")
    assert kept == [(1, "simulated", "process", '{"market":"made by hand"}', WALL_NS, None)]


def test_each_run_has_the_next_epoch_and_the_tag_stays(state: StateDir) -> None:
    tags = {recover(state, run_start(), StillClock()).bot_tag for _ in range(3)}
    assert [epoch for (epoch,) in query(state.journal_path, "SELECT epoch FROM runs")] == [1, 2, 3]
    (tag,) = tags
    assert len(tag) == 4
    assert set(tag) <= set(recovery.BASE32)


def test_a_clean_stop_is_known_and_anything_else_is_not_clean(state: StateDir) -> None:
    begin(state)
    assert not begin(state).clean_start
    write(state.journal_path, [rows.run_ended_row(2, 5, WALL_NS + 5, True, "SIGTERM")])
    assert begin(state).clean_start
    write(state.journal_path, [rows.run_ended_row(3, 5, WALL_NS + 5, False, "orders remain")])
    assert not begin(state).clean_start


def test_unclean_starts_are_counted_within_the_window(state: StateDir) -> None:
    clock = StillClock()
    counts: list[int] = []
    for _ in range(4):
        counts.append(begin(state, clock).unclean_starts)
        clock.now_ns += 250 * NS
    assert counts == [0, 1, 2, 3]
    clock.now_ns += 150 * NS  # the first two of them, at 250 and 500 s, are now older than 600 s
    assert begin(state, clock).unclean_starts == 2
    write(state.journal_path, [rows.run_ended_row(5, 1, 1, True, "")])
    assert begin(state, clock).unclean_starts == 2


def test_another_instrument_needs_another_journal(state: StateDir) -> None:
    begin(state)
    before = dump(state.journal_path)
    with pytest.raises(OtherInstrument, match="belongs to BTCUSDT at sim, and this run is for ETHUSDT"):
        recover(state, run_start(symbol="ETHUSDT"), StillClock())
    assert dump(state.journal_path) == before


# --- the latch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kill", [each for each in KillState if each is not KillState.ARMED])
def test_any_journaled_kill_state_but_armed_is_the_latch(state: StateDir, kill: KillState) -> None:
    begin(state)
    write(state.journal_path, [rows.kill_row(1, 1, 1, kill, "operator", {})])
    assert begin(state).latch == Latch(kill, (f"journal: {kill}",))
    write(state.journal_path, [rows.kill_row(2, 1, 1, KillState.ARMED, "resume", {})])
    assert not begin(state).latch.closed


def test_a_kill_file_alone_is_the_latch(state: StateDir) -> None:
    assert begin(state).latch.closed is False
    state.write_latch("loop stalled")
    found = begin(state)
    assert found.latch == Latch(KillState.ARMED, (f"{state.path / 'KILLED'}: loop stalled",))
    assert found.latch.closed


def test_a_kill_state_nobody_knows_is_the_latch(state: StateDir) -> None:
    begin(state)
    query(state.journal_path, "INSERT INTO kill VALUES (1, 1, 1, 'resting', '', '{}')")
    assert read_latch(state).closed
    assert read_latch(state).state is KillState.KILLED


def test_the_latch_is_read_before_there_is_a_journal_and_makes_none(state: StateDir) -> None:
    assert read_latch(state) == Latch(KillState.ARMED, ())
    assert not state.journal_path.exists()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_journal_that_is_no_database_means_killed(state: StateDir) -> None:
    state.journal_path.write_bytes(b"not a database at all, and long enough to be taken for one" * 100)
    assert read_latch(state).state is KillState.KILLED
    with pytest.raises(JournalUnreadable, match="counts as killed"):
        begin(state)


def test_an_empty_file_is_no_first_start(state: StateDir) -> None:
    state.journal_path.touch()
    assert read_latch(state).state is KillState.KILLED
    with pytest.raises(JournalUnreadable, match=r"there and empty\. The daemon counts as killed.* backup copy"):
        begin(state)
    assert state.journal_path.stat().st_size == 0


def test_a_damaged_page_means_killed_wherever_it_is(state: StateDir) -> None:
    begin(state)
    move = rows.transition_row(1, 1, 1, 1, GuardState.RUNNING, GuardState.REDUCING, ["drift"])
    write(state.journal_path, [move] * 300)
    query(state.journal_path, "PRAGMA wal_checkpoint(TRUNCATE)")
    (root,) = query(state.journal_path, "SELECT rootpage FROM sqlite_schema WHERE name = 'transitions'")[0]
    with state.journal_path.open("r+b") as file:  # in a table that nothing at start reads
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 2000)
    with pytest.raises(JournalUnreadable, match=r"is damaged: .*Page \d+.* counts as killed"):
        begin(state)


def test_a_torn_tail_loses_what_was_not_whole_and_nothing_else(state: StateDir) -> None:
    begin(state)
    with closing(sqlite3.connect(state.journal_path)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        for n in range(3):
            with db:
                for statement, values in rows.intent_rows(1, n, place(f"o{n}"), WALL_NS):
                    db.execute(recovery.STATEMENTS[statement], values)
        wal = state.journal_path.with_name("journal.sqlite-wal").read_bytes()
        main = state.journal_path.read_bytes()
    for name in ("journal.sqlite-wal", "journal.sqlite-shm"):
        state.journal_path.with_name(name).unlink(missing_ok=True)
    state.journal_path.write_bytes(main)
    state.journal_path.with_name("journal.sqlite-wal").write_bytes(wal[:-1000])
    assert [order.client_id for order in begin(state).orders] == ["o0", "o1"]


def test_a_newer_schema_is_refused_and_left_as_it_is(state: StateDir) -> None:
    begin(state)
    query(state.journal_path, f"PRAGMA user_version = {NEWEST + 1}")
    before = dump(state.journal_path)
    with pytest.raises(NewerSchema, match=f"has schema version {NEWEST + 1}, and this mmdaemon knows {NEWEST}"):
        begin(state)
    assert dump(state.journal_path) == before


def test_somebody_elses_database_is_refused(state: StateDir) -> None:
    query(state.journal_path, "CREATE TABLE theirs (x)")
    with pytest.raises(JournalUnreadable, match="not a journal of mmdaemon"):
        begin(state)


def test_a_lost_table_means_killed(state: StateDir) -> None:
    begin(state)
    query(state.journal_path, "DROP TABLE fills")
    with pytest.raises(JournalUnreadable, match="no such table: fills"):
        begin(state)
    assert query(state.journal_path, "SELECT count(*) FROM runs") == [(1,)], "no run begins on a broken journal"


# --- migration --------------------------------------------------------------------------------------------------------


def test_a_migration_runs_after_a_backup(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(state)
    before = dump(state.journal_path)
    script = f"ALTER TABLE runs ADD COLUMN mood TEXT; PRAGMA user_version = {NEWEST + 1};"
    monkeypatch.setattr(recovery, "MIGRATIONS", {**recovery.MIGRATIONS, NEWEST: script})
    assert begin(state).epoch == 2
    assert query(state.journal_path, "PRAGMA user_version") == [(NEWEST + 1,)]
    assert query(state.journal_path, "SELECT epoch, mood FROM runs") == [(1, None), (2, None)]
    assert dump(state.path / f"journal.sqlite.v{NEWEST}.backup") == before


def test_a_migration_without_room_for_the_copy_is_refused_and_is_no_kill(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_version_1(state)
    before = dump(state.journal_path)
    usage = shutil.disk_usage(state.path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000))
    with pytest.raises(recovery.NoRoomToMigrate, match="Nothing was changed: make room beside the journal") as refused:
        begin(state)
    assert not isinstance(refused.value, JournalUnreadable), "which would close the latch"
    assert dump(state.journal_path) == before
    assert not list(state.path.glob("*.backup*"))


def test_nothing_that_grows_is_read_whole_at_a_start(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query of a real start is planned anew: into the tables that grow each goes by an index, or from an end."""
    begin(state)
    write(state.journal_path, rows.checkpoint_rows(1, 5, WALL_NS, {"read_until": msgspec.msgpack.encode(WALL_NS)}))
    asked: list[str] = []

    def watched(path: Path) -> sqlite3.Connection:
        db = open_as_it_is(path)
        db.set_trace_callback(asked.append)
        return db

    open_as_it_is = recovery._open
    monkeypatch.setattr(recovery, "_open", watched)
    begin(state)
    selects = [sql for sql in asked if sql.startswith("SELECT")]
    assert len(selects) > 15
    assert not [sql for sql in selects if "FROM reconciliations" in sql], "only where no slice says it"
    grows = (
        "decisions",
        "intents",
        "orders",
        "order_events",
        "cancels",
        "fills",
        "bills",
        "minutes",
        "markouts",
        "signals",
    )
    for sql in selects:
        for *_, step in query(state.journal_path, f"EXPLAIN QUERY PLAN {sql}"):
            whole = step.startswith("SCAN") and step.split()[1] in grows
            assert not whole or "LIMIT" in sql, (sql, step)


def test_a_migration_that_fails_changes_nothing(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(state)
    before = dump(state.journal_path)
    broken = {**recovery.MIGRATIONS, NEWEST: "ALTER TABLE runs ADD COLUMN mood TEXT; DROP TABLE none;"}
    monkeypatch.setattr(recovery, "MIGRATIONS", broken)
    with pytest.raises(JournalUnreadable, match="no such table: none"):
        begin(state)
    assert dump(state.journal_path) == before


def test_a_migration_that_leads_nowhere_is_refused(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(state)
    monkeypatch.setattr(recovery, "MIGRATIONS", {**recovery.MIGRATIONS, NEWEST: "CREATE TABLE more (x);"})
    with pytest.raises(JournalUnreadable, match=f"the migration from version {NEWEST} leads to {NEWEST}"):
        begin(state)


OLD_FILL = (
    "INSERT INTO fills VALUES ('sim', 'BTCUSDT', 1, 'old', 1, 1, 3, 5, 6, NULL, 'mmabcd-1-1', 1, 1000, 5, 5000, 7, "
    "'0.0000000007', 'maker', 'trade', NULL, 0)"
)


def of_version_1(state: StateDir) -> None:
    """A journal as the first version of it was made, with a run, an order and a fill in it."""
    state.path.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(state.journal_path)) as db, db:
        db.executescript((Path(__file__).parent / "schema_1.sql").read_text(encoding="utf-8"))
        db.execute("INSERT INTO meta VALUES (1, 'abcd', 'sim', 'BTCUSDT', 1)")
        db.execute(
            "INSERT INTO runs VALUES (1, 1, 1, '0.1.0', 'cafe', 'simulated', 'process', '{}', 1, 2, 9, NULL, NULL, "
            "NULL, NULL)"
        )
        db.execute(OLD_FILL)


def test_a_journal_of_version_1_is_taken_over_with_all_that_is_in_it(state: StateDir) -> None:
    of_version_1(state)
    before = dump(state.journal_path)
    found = begin(state)
    assert (found.epoch, found.account_epoch, found.start_e10) == (2, 1, 9)
    assert [fact.event.venue_ts_ns for fact in found.facts] == [None]
    assert found.learned == Learned(None, ())  # nobody kept what that fill saw
    assert dump(state.path / "journal.sqlite.v1.backup") == before
    kept = query(state.journal_path, "SELECT trade_id, qty_lots, fair0_ticks, regime FROM fills")
    assert kept == [("old", 5, None, None)]
    # The trigger that settles orders is still there, and a fill of today goes in beside the old one.
    write(state.journal_path, [*rows.intent_rows(2, 1, place("mmabcd-2-1", qty_lots=5), WALL_NS)])
    new = fill("new", "mmabcd-2-1")
    write(state.journal_path, [rows.fill_row(2, 4, new, INSTRUMENT, None, fair0_ticks=1000.5, regime=Regime.UP)])
    assert query(state.journal_path, "SELECT filled_lots FROM orders WHERE client_id = 'mmabcd-2-1'") == [(5,)]
    assert begin(state).learned.since == (WatchedFill(new, 1000.5, Regime.UP),)


def test_a_journal_of_version_1_becomes_what_a_new_one_is(state: StateDir, tmp_path: Path) -> None:
    of_version_1(state)
    begin(state)
    new = state_dir(tmp_path / "new")
    begin(new)
    for sql in (
        "SELECT type, name, tbl_name FROM sqlite_schema ORDER BY type, name",
        'SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk FROM sqlite_schema m, '
        "pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid",
        "SELECT m.name, c.seqno, c.name FROM sqlite_schema m, pragma_index_info(m.name) c WHERE m.type = 'index' "
        "ORDER BY m.name, c.seqno",
    ):
        assert query(state.journal_path, sql) == query(new.journal_path, sql)


# --- orders -----------------------------------------------------------------------------------------------------------


def test_what_has_not_ended_comes_back_unknown_with_its_whole_quantity(state: StateDir) -> None:
    begin(state)
    for identity, status, cum in [
        ("new", None, None),
        ("sent", OrderStatus.SENT, None),
        ("live", OrderStatus.LIVE, 0),
        ("unknown", OrderStatus.UNKNOWN, None),
        ("awaits-fills", OrderStatus.CANCELLED, 2),
        ("cancelled-who-knows", OrderStatus.CANCELLED, None),
        ("done", OrderStatus.CANCELLED, 0),
        ("rejected", OrderStatus.REJECTED, None),
    ]:
        write(state.journal_path, rows.intent_rows(1, 1, place(identity, Side.SELL, 1010, 5), WALL_NS))
        if status is not None:
            write(state.journal_path, rows.order_rows(1, 2, update(identity, status, cum=cum)))
    write(state.journal_path, [rows.fill_row(1, 3, fill("t", "live", Side.SELL, qty_lots=2), INSTRUMENT, None)])

    clock = StillClock()
    clock.now_ns += 17
    found = {order.client_id: order for order in begin(state, clock).orders}
    assert sorted(found) == ["awaits-fills", "cancelled-who-knows", "live", "new", "sent", "unknown"]
    assert {order.status for order in found.values()} == {OrderStatus.UNKNOWN}
    assert {(order.side, order.px_ticks, order.qty_lots) for order in found.values()} == {(Side.SELL, 1010, 5)}
    assert {identity: order.cum_filled_lots for identity, order in found.items() if order.cum_filled_lots} == {
        "live": 2
    }
    assert {(order.mono_ns, order.ts_ns) for order in found.values()} == {(NS + 17, WALL_NS + 17)}


@pytest.mark.parametrize(("side", "worst_px_ticks"), [(Side.BUY, 1005), (Side.SELL, 990)])
def test_an_amend_in_flight_counts_at_its_worst(state: StateDir, side: Side, worst_px_ticks: int) -> None:
    begin(state)
    write(state.journal_path, rows.intent_rows(1, 1, place("o", side, 1000, 5), WALL_NS))
    write(state.journal_path, rows.intent_rows(1, 2, Amend("o", 1, 990, 9), WALL_NS))
    write(state.journal_path, rows.intent_rows(1, 3, Amend("o", 2, 1005, 4), WALL_NS))
    (order,) = begin(state).orders
    assert (order.px_ticks, order.qty_lots) == (worst_px_ticks, 9)


def test_an_amend_that_the_venue_confirmed_is_what_counts(state: StateDir) -> None:
    begin(state)
    write(state.journal_path, rows.intent_rows(1, 1, place("o", Side.BUY, 1000, 9), WALL_NS))
    write(state.journal_path, rows.intent_rows(1, 2, Amend("o", 1, 990, 4), WALL_NS))
    write(state.journal_path, rows.order_rows(1, 3, update("o", px_ticks=990, qty_lots=4, revision=1)))
    (order,) = begin(state).orders
    assert (order.px_ticks, order.qty_lots) == (990, 4)


# --- money ------------------------------------------------------------------------------------------------------------


def test_facts_come_back_as_they_were_and_in_order(state: StateDir) -> None:
    begin(state)
    first, second, third = fill("t1", venue_ts_ns=50), bill("b1", BillKind.TRANSFER, 10), fill("t2", venue_ts_ns=40)
    write(
        state.journal_path,
        [
            rows.bill_row(1, 7, second, "sim"),
            rows.fill_row(1, 9, third, INSTRUMENT, 1003),
            rows.fill_row(1, 3, first, INSTRUMENT, None),
        ],
    )
    found = begin(state)
    assert [(fact.seq, fact.event) for fact in found.facts] == [(3, first), (7, second), (9, third)]
    assert [(fact.instrument_version, fact.mark_px_ticks) for fact in found.facts] == [
        (1, None),
        (None, None),
        (1, 1003),
    ]


def test_history_is_read_from_the_last_agreement_with_the_venue_on(state: StateDir) -> None:
    """Not from the last fill: what happened before that may never have been journaled."""
    begin(state)
    assert begin(state, StillClock(WALL_NS + 9)).read_until_ts_ns == WALL_NS
    agreed = {"read_until": msgspec.msgpack.encode(WALL_NS + 5)}
    write(state.journal_path, rows.checkpoint_rows(1, 1, 0, agreed))
    write(state.journal_path, [rows.reconciliation_row(1, 3, Reconciled(1, WALL_NS + 7, None, "gap", ("off",), 0))])
    write(state.journal_path, [rows.fill_row(1, 4, fill("t1", venue_ts_ns=WALL_NS + 8), INSTRUMENT, None)])
    assert begin(state).read_until_ts_ns == WALL_NS + 5
    assert begin(state, StillClock(WALL_NS + 99), fresh_account=True).read_until_ts_ns == WALL_NS + 99


def test_a_journal_of_before_that_slice_is_gone_on_with_from_its_last_clean_round(state: StateDir) -> None:
    """Read from the account's beginning, what is older than the remembered trade ids would be booked a second time."""
    begin(state)
    for seq, (at_ns, breaks) in enumerate([(5, ()), (7, ("off",)), (9 * NS, ())]):  # the last by a clock that ran ahead
        told = Reconciled(1, WALL_NS + at_ns, None, "periodic", breaks, 0)
        write(state.journal_path, [rows.reconciliation_row(1, seq, told)])
    assert begin(state, StillClock(WALL_NS + 20)).read_until_ts_ns == WALL_NS + 5
    write(state.journal_path, rows.checkpoint_rows(1, 1, 0, {"read_until": msgspec.msgpack.encode(WALL_NS + 3)}))
    assert begin(state, StillClock(WALL_NS + 20)).read_until_ts_ns == WALL_NS + 3


def test_an_account_is_counted_from_when_it_was_first_read_and_not_from_when_its_run_began(state: StateDir) -> None:
    assert begin(state).opened_ts_ns == WALL_NS
    write(state.journal_path, rows.checkpoint_rows(1, 0, 0, {"opened": msgspec.msgpack.encode(WALL_NS + 30)}))
    found = begin(state, StillClock(WALL_NS + 99))
    assert (found.opened_ts_ns, found.read_until_ts_ns) == (WALL_NS + 30, WALL_NS + 30)
    assert begin(state, StillClock(WALL_NS + 99), fresh_account=True).opened_ts_ns == WALL_NS + 99


def test_only_what_is_after_the_checkpoint_is_folded_again(state: StateDir) -> None:
    begin(state)
    for seq in range(1, 7):
        write(state.journal_path, [rows.fill_row(1, seq, fill(f"t{seq}"), INSTRUMENT, None)])
        write(state.journal_path, [rows.bill_row(1, seq, bill(f"b{seq}"), "sim")])
        if seq in {2, 4}:
            write(state.journal_path, rows.checkpoint_rows(1, seq, 0, {"position": b"p%d" % seq, "bars": b"b"}))
    found = begin(state)
    assert found.checkpoint == recovery.Checkpoint(1, 4, {"position": b"p4", "bars": b"b"})
    assert [fact.event.trade_id for fact in found.facts if isinstance(fact.event, Fill)] == ["t5", "t6"]
    assert len(found.facts) == 4


def test_facts_of_several_runs_of_one_account_add_up(state: StateDir) -> None:
    begin(state)
    write(state.journal_path, [rows.account_opened_row(1, 500), rows.fill_row(1, 90, fill("t1"), INSTRUMENT, None)])
    begin(state)
    write(state.journal_path, [rows.fill_row(2, 3, fill("t2"), INSTRUMENT, None), rows.instrument_row(INSTRUMENT, 1)])
    found = begin(state)
    assert [(fact.epoch, fact.seq) for fact in found.facts] == [(1, 90), (2, 3)]
    assert (found.epoch, found.account_epoch, found.start_e10) == (3, 1, 500)
    assert found.instruments == (INSTRUMENT,)


def test_nothing_of_an_older_account_comes_back(state: StateDir) -> None:
    begin(state, fresh_account=True)
    write(state.journal_path, rows.intent_rows(1, 1, place("o"), WALL_NS))
    write(state.journal_path, [rows.fill_row(1, 2, fill(), INSTRUMENT, None), rows.account_opened_row(1, 500)])
    write(state.journal_path, rows.checkpoint_rows(1, 2, 0, {"position": b"p"}))
    write(state.journal_path, [rows.kill_row(1, 1, 1, KillState.KILLED, "", {})])
    found = begin(state, fresh_account=True)
    assert (found.orders, found.facts, found.checkpoint, found.start_e10) == ((), (), None, None)
    assert (found.account_epoch, found.read_until_ts_ns) == (2, WALL_NS)
    assert found.latch.closed, "a kill outlives the account"


def test_open_breaks_come_back(state: StateDir) -> None:
    begin(state)
    write(
        state.journal_path,
        [
            rows.break_seen_row(1, 1, 1, "position", "reconcile", True, ""),
            rows.break_seen_row(1, 1, 1, "balance", "reconcile", True, ""),
            rows.break_closed_row(2, "position", "late fill"),
        ],
    )
    assert begin(state).open_breaks == ("balance",)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM orders WHERE settled = 0 AND epoch >= 3 ORDER BY epoch, client_id",
        "SELECT * FROM fills WHERE (epoch, seq) > (3, 5) ORDER BY epoch, seq, rowid",
        "SELECT max(venue_ts_ns) FROM fills WHERE account_epoch = 3",
        "SELECT trade_id FROM fills WHERE epoch >= 2 AND (epoch, seq) <= (3, 5) "
        "ORDER BY epoch DESC, seq DESC, rowid DESC LIMIT 9",
        "SELECT * FROM fills WHERE trade_id = 'x' ORDER BY account_epoch DESC LIMIT 1",
        "SELECT * FROM markouts WHERE (epoch, seq) > (3, 5) ORDER BY epoch, seq, rowid",
        "SELECT * FROM markouts WHERE trade_id = 'x'",
        "SELECT * FROM checkpoints WHERE slice = 'learned' AND epoch >= 3 ORDER BY epoch DESC, seq DESC LIMIT 1",
        "SELECT * FROM decisions WHERE epoch = 3 AND seq <= 9 ORDER BY seq DESC LIMIT 1",
        "SELECT * FROM decisions WHERE ts_ns <= 9 ORDER BY ts_ns DESC, rowid DESC LIMIT 1",
        "SELECT * FROM order_events WHERE client_id = 'x' ORDER BY rowid",
    ],
)
def test_queries_stay_flat_as_the_journal_grows(state: StateDir, sql: str) -> None:
    begin(state)
    plan = [line[-1] for line in query(state.journal_path, f"EXPLAIN QUERY PLAN {sql}")]
    assert all(step.startswith(("SEARCH", "USE TEMP B-TREE FOR LAST")) for step in plan), plan
