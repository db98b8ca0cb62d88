"""Reading: typed records, exact sums, and never a write."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.events import OperatorAction
from mmdaemon.core.markout import Markout, Watched
from mmdaemon.core.types import NS, GuardState, Instrument, KillState, Liquidity, OrderStatus, Regime, Side
from mmdaemon.journal import reader as reader_module
from mmdaemon.journal import rows
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import SideTotal
from mmdaemon.journal.recovery import NEWEST, JournalUnreadable, NewerSchema
from mmdaemon.journal.rows import DecisionChain, Minute
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
    state_dir,
    update,
    write,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    state = state_dir(tmp_path)
    begin(state)
    chain = DecisionChain(1, b"p")
    write(
        state.journal_path,
        [
            rows.parameters_row(1, b"p"),
            *(
                chain.row(seq, seq, WALL_NS + seq, GuardState.RUNNING, Regime.UP, b"i%d" % seq, b"d")
                for seq in (3, 7, 20)
            ),
            *rows.intent_rows(1, 7, place("o1"), WALL_NS),
            *rows.order_rows(1, 8, update("o1", cum=0)),
            *rows.intent_rows(1, 20, Amend("o1", 1, 999, 5), WALL_NS),
            rows.fill_row(1, 21, fill("t1", "o1", qty_lots=2), INSTRUMENT, 1001),
            rows.fill_row(1, 21, fill("t1", "o1", qty_lots=2), INSTRUMENT, 1001),
            *rows.intent_rows(1, 22, Cancel("o1", True), WALL_NS),
            *rows.order_rows(1, 23, update("o1", OrderStatus.CANCELLED, cum=2)),
            rows.fill_row(1, 30, fill("t2", "gone", Side.SELL, qty_lots=1, fee_e10=-9), INSTRUMENT, None),
        ],
    )
    return state.journal_path


@pytest.fixture
def journal(path: Path) -> Iterator[JournalReader]:
    with JournalReader(path) as reader:
        yield reader


@pytest.mark.parametrize("record", reader_module._TABLES)
def test_every_record_is_its_table(journal: JournalReader, record: type[msgspec.Struct]) -> None:
    table = reader_module._TABLES[record]
    columns = [name for (name,) in journal.db.execute("SELECT name FROM pragma_table_xinfo(?)", (table,))]
    given = [name for name in columns if name in record.__struct_fields__]
    assert list(record.__struct_fields__) == given, "fields are columns, in their order"


def test_runs(journal: JournalReader, path: Path) -> None:
    run = journal.run()
    assert run is not None
    assert (run.epoch, run.mode, run.after_clean, run.clean_stop) == (1, "simulated", True, None)
    write(path, [rows.run_ended_row(1, 9, 10, False, "killed")])
    (ended,) = journal.runs()
    assert (ended.clean_stop, ended.end_reason) == (False, "killed")
    assert journal.run(2) is None
    assert journal.params(1) == b"p"
    assert journal.params(2) is None


def test_decisions(journal: JournalReader) -> None:
    assert [made.seq for made in journal.decisions(1)] == [3, 7, 20]
    assert [made.seq for made in journal.decisions(1, 4)] == [7, 20]
    assert [made.seq for made in journal.decisions(1, 3, 7)] == [3, 7]
    assert [made.seq for made in journal.decisions(2)] == []
    in_force = [getattr(journal.decision_at(1, seq), "seq", None) for seq in (2, 3, 6, 7, 99)]
    assert in_force == [None, 3, 3, 7, 20]
    by_time = [getattr(journal.decision_at_time(WALL_NS + ns), "seq", None) for ns in (2, 3, 19, 20, 99)]
    assert by_time == [None, 3, 7, 20, 20]
    made = journal.decision_at(1, 7)
    assert made is not None
    assert (made.guard, made.regime, made.inputs, made.decision) == (GuardState.RUNNING, Regime.UP, b"i7", b"d")


def test_the_decision_an_order_came_from(journal: JournalReader) -> None:
    placed, amended = journal.decision_of("o1"), journal.decision_of("o1", 1)
    assert placed is not None
    assert amended is not None
    assert (placed.seq, amended.seq) == (7, 20)
    assert journal.decision_of("nobody") is None
    assert journal.decision_of("o1", 2) is None


def test_an_order_from_intent_to_end(journal: JournalReader) -> None:
    history = journal.order("o1")
    assert history is not None
    assert (history.order.side, history.order.status, history.order.filled_lots) == (Side.BUY, OrderStatus.CANCELLED, 2)
    assert history.order.settled is True
    assert [(intent.revision, intent.side, intent.px_ticks) for intent in history.intents] == [
        (0, Side.BUY, 1000),
        (1, None, 999),
    ]
    assert [cancel.risk for cancel in history.cancels] == [True]
    assert [event.status for event in history.events] == [OrderStatus.LIVE, OrderStatus.CANCELLED]
    assert [(each.trade_id, each.redeliveries, each.liquidity) for each in history.fills] == [
        ("t1", 1, Liquidity.MAKER)
    ]
    assert journal.order("nobody") is None
    assert journal.unsettled() == []


def test_fills_and_bills(journal: JournalReader, path: Path) -> None:
    assert [each.trade_id for each in journal.fills(1)] == ["t1", "t2"]
    last, first = journal.last_fill(), journal.fill("t1")
    assert last is not None
    assert (last.trade_id, last.mark_px_ticks, last.fee_e10, last.fee_text) == ("t2", None, -9, "-0.0000000009")
    assert first is not None
    assert first.notional_e10 == 1000 * 2 * INSTRUMENT.unit_e10
    assert journal.fill("t9") is None
    write(path, [rows.bill_row(1, 1, bill(), "sim")])
    assert [each.amount_text for each in journal.bills(1)] == ["-0.0000000003"]


def test_side_totals(journal: JournalReader) -> None:
    unit = INSTRUMENT.unit_e10
    assert journal.side_totals(1) == [
        SideTotal(Side.BUY, 1, 2, 2000 * unit, 7),
        SideTotal(Side.SELL, 1, 1, 1000 * unit, -9),
    ]
    assert journal.side_totals(2) == []


def test_sums_are_exact_beyond_64_bits(journal: JournalReader, path: Path) -> None:
    dear = Instrument.of(venue="sim", symbol="BTCUSDT", tick_e10=10**10, lot_e10=10**10)
    largest = (1 << 63) - 1
    notional = (900_000 * 1000) * dear.unit_e10
    made = [
        fill(f"x{n}", "", Side.SELL, 900_000, 1000, fee) for n, fee in enumerate([largest, largest, -largest - 1, 1])
    ]
    write(path, [rows.fill_row(1, 40, each, dear, None) for each in made])
    total = journal.side_totals(1)[1]
    assert total.notional_e10 == 4 * notional + 1000 * INSTRUMENT.unit_e10
    assert total.notional_e10 > largest
    assert total.fee_e10 == 2 * largest + (-largest - 1) + 1 - 9
    with pytest.raises(sqlite3.OperationalError, match="integer overflow"):
        query(path, "SELECT sum(notional_e10) FROM fills")


def test_moves_of_the_guard_come_back_in_their_order(tmp_path: Path) -> None:
    state, clock = state_dir(tmp_path), StillClock()
    begin(state, clock)
    moves = [
        (10, GuardState.STARTING, GuardState.RECONCILING),
        (30, GuardState.RECONCILING, GuardState.RUNNING),
        (100, GuardState.RUNNING, GuardState.SOFT_PAUSE),
    ]
    write(
        state.journal_path,
        [rows.transition_row(1, at, at, at, before, after, ["book"]) for at, before, after in moves],
    )
    with JournalReader(state.journal_path) as journal:
        assert [(move.mono_ns, move.from_state, move.to_state, move.reasons) for move in journal.transitions(1)] == [
            (*move, "book") for move in moves
        ]
        assert journal.transitions(2) == []


def test_minutes_come_back_as_they_were_sampled(journal: JournalReader, path: Path) -> None:
    minute = Minute(
        epoch=1,
        ts_ns=60 * NS,
        mono_ns=1,
        seq=2,
        guard=GuardState.REDUCING,
        regime=Regime.HIGH_VOL_SHOCK,
        position_lots=-3,
        mark_px_ticks=1000,
        bid_px_ticks=None,
        ask_px_ticks=1001,
        equity_e10=10**15,
        spread_e10=1,
        inventory_e10=-2,
        impact_e10=3,
        fees_e10=4,
        funding_e10=-5,
        transfers_e10=6,
        turnover_e10=7,
        fills=8,
        book_healthy=False,
        book_healthy_ns=59 * NS,
        fee_source="the account",
        funding_rate=-0.0001,
        funding_due_ts_ns=None,
    )
    write(path, [rows.minute_row(minute), rows.minute_row(msgspec.structs.replace(minute, fills=9))])
    assert list(journal.minutes(1)) == [minute]


def test_kills_operators_and_breaks(journal: JournalReader, path: Path) -> None:
    write(
        path,
        [
            rows.kill_row(1, 1, 2, KillState.KILLING, "operator", {"open": 1}),
            rows.operator_row(1, 5, OperatorAction(1, 2, None, "kill", "drill", "uid 0"), "quiet"),
            rows.break_seen_row(1, 1, 1, "a", "reconcile", True, "x"),
            rows.break_seen_row(1, 1, 1, "b", "reconcile", False, "y"),
            rows.break_closed_row(2, "a", "z"),
        ],
    )
    assert [(kill.state, kill.evidence) for kill in journal.kills()] == [(KillState.KILLING, '{"open":1}')]
    assert [(done.action, done.outcome) for done in journal.operator_actions(1)] == [("kill", "quiet")]
    assert [each.name for each in journal.breaks()] == ["a", "b"]
    assert [(each.name, each.hard) for each in journal.breaks(only_open=True)] == [("b", False)]


def test_a_reader_cannot_write(journal: JournalReader) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        journal.db.execute("DELETE FROM fills")


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalUnreadable, match="there is no journal at"):
        JournalReader(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(JournalUnreadable, match="cannot be read"):
        JournalReader(tmp_path / "text")
    (tmp_path / "empty").touch()
    with pytest.raises(JournalUnreadable, match="not a journal"):
        JournalReader(tmp_path / "empty")


def test_a_journal_that_only_version_1_wrote_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript((Path(__file__).parent / "schema_1.sql").read_text(encoding="utf-8"))
        db.execute(
            "INSERT INTO fills VALUES ('sim', 'BTCUSDT', 1, 'old', 1, 1, 3, 5, 6, NULL, 'mmabcd-1-1', 1, 1000, 5, "
            "5000, 7, '0.0000000007', 'maker', 'trade', NULL, 0)"
        )
    before = dump(path)
    with JournalReader(path) as old:
        (only,) = old.fills(1)
        assert (only.trade_id, only.qty_lots, only.fair0_ticks, only.regime) == ("old", 5, None, None)
        assert old.last_fill() == old.fill("old") == only
        assert list(old.markouts(1)) == []
    assert dump(path) == before


def test_markouts_come_back_as_they_were(path: Path) -> None:
    seen = Watched("t1", Side.SELL, Regime.DOWN, 7, 1000.25, 1001, 5, 2.0, True)
    closed = [Markout(seen, 1, 999.75), Markout(seen, 5, None)]
    write(path, [rows.markout_row(1, 50 + i, WALL_NS, each) for i, each in enumerate(closed)])
    with JournalReader(path) as journal:
        first, second = journal.markouts(1)
    assert (first.trade_id, first.horizon_s, first.regime, first.side) == ("t1", 1, Regime.DOWN, Side.SELL)
    assert (first.account_epoch, first.fair0_ticks, first.fair_ticks) == (1, 1000.25, 999.75)
    assert (first.effective_bps, first.impact_bps) == (round(closed[0].effective_bps, 6), 4.99875)
    assert (second.horizon_s, second.fair_ticks, second.impact_bps) == (5, None, None)


def test_a_journal_of_a_later_program_is_refused_in_the_words_of_a_start(path: Path) -> None:
    query(path, f"PRAGMA user_version = {NEWEST + 1}")
    with pytest.raises(JournalUnreadable) as refused:
        JournalReader(path)
    with pytest.raises(NewerSchema) as at_start:
        begin(StateDir(path.parent, None))
    assert str(refused.value) == str(at_start.value)
    query(path, f"PRAGMA user_version = {NEWEST}")
    JournalReader(path).close()
