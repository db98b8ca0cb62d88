"""Rows: what may be journaled at all, and what each statement does to its table."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.events import OperatorAction, OrderAdopted, OrderUpdate, Reconciled, RequestFailed
from mmdaemon.core.types import GuardState, KillState, OrderStatus, Purpose, Regime, Side
from mmdaemon.journal import rows
from mmdaemon.journal.recovery import schema
from mmdaemon.journal.statements import STATEMENTS, TABLE_OF, Row, Statement, ValueRefused, row
from tests.journal.samples import INSTRUMENT, NS, WALL_NS, begin, bill, fill, place, query, state_dir, update, write


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    state = state_dir(tmp_path)
    begin(state)
    return state.journal_path


@pytest.mark.parametrize("statement", Statement)
def test_every_statement_fits_the_schema(statement: Statement) -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema())
        placeholders = STATEMENTS[statement].count("?")
        db.execute(f"EXPLAIN {STATEMENTS[statement]}", (None,) * placeholders)
        columns = {name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (TABLE_OF[statement],))}
        with pytest.raises(ValueRefused, match=rf"^{TABLE_OF[statement]}\.(\w+) = ") as refused:
            row(statement, *(None,) * (placeholders - 1), 1 << 63)
        assert str(refused.value).split(".")[1].split(" ")[0] in {*columns, "rowid"}


@pytest.mark.parametrize("table", ["runs", "intents", "orders", "fills", "bills", "decisions", "kill", "minutes"])
def test_every_table_is_strict(journal: Path, table: str) -> None:
    assert query(journal, "SELECT strict FROM pragma_table_list WHERE name = ?", table) == [(1,)]


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (lambda: rows.fill_row(1, 1, fill(fee_e10=1 << 63), INSTRUMENT, None), "fills.fee_e10"),
        (lambda: rows.fill_row(1, 1, fill(fee_e10=-(1 << 63) - 1), INSTRUMENT, None), "fills.fee_e10"),
        (lambda: rows.fill_row(1, 1, fill(px_ticks=1 << 40, qty_lots=1 << 40), INSTRUMENT, None), "fills.notional_e10"),
        (lambda: rows.bill_row(1, 1, bill(amount_e10=1 << 70), "sim"), "bills.amount_e10"),
        (lambda: rows.intent_rows(1, 1, place(qty_lots=1 << 63), 0), "intents.qty_lots"),
        (lambda: rows.account_opened_row(1, 1 << 63), "runs.start_e10"),
        (lambda: rows.order_rows(1, 1, update(cum=1 << 63)), "order_events.cum_filled_lots"),
        (lambda: row(Statement.KILL, 1, 1, 1, "é", 1 << 63, "{}"), "kill.reason"),
    ],
)
def test_what_does_not_fit_64_bits_is_refused_by_name(build: Any, name: str) -> None:
    with pytest.raises(ValueRefused, match=rf"{name} = -?\d+ does not fit 64 bits"):
        build()


def test_the_largest_that_fits_is_kept(journal: Path) -> None:
    write(journal, [rows.fill_row(1, 1, fill("a", fee_e10=(1 << 63) - 1), INSTRUMENT, None)])
    write(journal, [rows.fill_row(1, 2, fill("b", fee_e10=-(1 << 63)), INSTRUMENT, None)])
    kept = query(journal, "SELECT fee_e10, fee_text, typeof(fee_e10) FROM fills")
    assert kept == [
        ((1 << 63) - 1, "922337203.6854775807", "integer"),
        (-(1 << 63), "-922337203.6854775808", "integer"),
    ]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValueRefused, match=r"minutes\.mark_px_ticks"):
        row(Statement.MINUTE, 1, 1, 1, 1, "running", "up", 0, number)


def test_text_that_is_not_utf8_cannot_fail_a_commit(journal: Path) -> None:
    event = OrderUpdate(NS, WALL_NS, None, "mmabcd-1-1", OrderStatus.REJECTED, 0, None, None, None, "größer \udcff")
    write(journal, rows.order_rows(1, 1, event))
    assert query(journal, "SELECT reason FROM order_events") == [("größer \\udcff",)]


@given(st.integers(min_value=-(1 << 63), max_value=(1 << 63) - 1))
def test_money_text_is_exact_and_plain(amount_e10: int) -> None:
    text = rows.money_text(amount_e10)
    assert Decimal(text).scaleb(10) == amount_e10
    assert "E" not in text
    assert not ("." in text and text.endswith("0"))


def test_amounts_as_the_venue_wrote_them_stay(journal: Path) -> None:
    write(journal, [rows.fill_row(1, 1, fill(), INSTRUMENT, None, fee_text="0.00000000070")])
    assert query(journal, "SELECT fee_e10, fee_text FROM fills") == [(7, "0.00000000070")]


# --- fills and bills, once --------------------------------------------------------------------------------------------


def test_a_fill_is_booked_once_and_its_redeliveries_counted(journal: Path) -> None:
    write(journal, rows.intent_rows(1, 1, place(), WALL_NS))
    first = rows.fill_row(1, 2, fill(), INSTRUMENT, 1001)
    write(journal, [first, first])
    write(journal, [rows.fill_row(1, 9, fill(qty_lots=4), INSTRUMENT, None)])
    assert query(journal, "SELECT seq, qty_lots, mark_px_ticks, redeliveries FROM fills") == [(2, 5, 1001, 2)]
    assert query(journal, "SELECT filled_lots FROM orders") == [(5,)]


def test_a_redelivery_to_the_next_run_is_no_new_fill(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)
    write(state.journal_path, [rows.fill_row(1, 1, fill(), INSTRUMENT, None), rows.bill_row(1, 2, bill(), "sim")])
    begin(state)
    write(state.journal_path, [rows.fill_row(2, 1, fill(), INSTRUMENT, None), rows.bill_row(2, 2, bill(), "sim")])
    assert query(state.journal_path, "SELECT epoch, redeliveries FROM fills") == [(1, 1)]
    assert query(state.journal_path, "SELECT epoch, redeliveries FROM bills") == [(1, 1)]


def test_the_trade_ids_of_a_fresh_account_are_its_own(tmp_path: Path) -> None:
    """A simulated venue in process counts its trades from one again; they are no re-deliveries."""
    state = state_dir(tmp_path)
    begin(state, fresh_account=True)
    write(state.journal_path, [rows.fill_row(1, 1, fill(), INSTRUMENT, None)])
    begin(state, fresh_account=True)
    write(state.journal_path, [rows.fill_row(2, 1, fill(), INSTRUMENT, None)])
    assert query(state.journal_path, "SELECT epoch, account_epoch, redeliveries FROM fills") == [(1, 1, 0), (2, 2, 0)]


def test_a_fill_of_a_run_that_was_never_begun_is_refused(journal: Path) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="account_epoch"):
        write(journal, [rows.fill_row(9, 1, fill(), INSTRUMENT, None)])


# --- orders -----------------------------------------------------------------------------------------------------------


def order_after(journal: Path, *written: list[Row]) -> dict[str, Any]:
    for each in written:
        write(journal, each)
    with closing(sqlite3.connect(journal)) as db:
        db.row_factory = sqlite3.Row
        return dict(db.execute("SELECT * FROM orders").fetchone())


def test_a_client_id_is_never_journaled_twice(journal: Path) -> None:
    write(journal, rows.intent_rows(1, 1, place(), WALL_NS))
    with pytest.raises(sqlite3.IntegrityError):
        write(journal, rows.intent_rows(1, 2, place(px_ticks=7), WALL_NS))
    amend = Amend("mmabcd-1-1", 1, 1001, 5)
    write(journal, rows.intent_rows(1, 3, amend, WALL_NS))
    with pytest.raises(sqlite3.IntegrityError):
        write(journal, rows.intent_rows(1, 4, amend, WALL_NS))


@pytest.mark.parametrize(
    ("status", "cum", "filled", "settled"),
    [
        (OrderStatus.NEW, None, 0, 0),
        (OrderStatus.SENT, None, 0, 0),
        (OrderStatus.LIVE, 0, 0, 0),
        (OrderStatus.PARTIAL, 2, 2, 0),
        (OrderStatus.UNKNOWN, None, 0, 0),
        (OrderStatus.FILLED, 5, 5, 1),
        (OrderStatus.FILLED, 5, 3, 0),
        (OrderStatus.FILLED, None, 5, 1),
        (OrderStatus.FILLED, None, 4, 0),
        (OrderStatus.CANCELLED, 0, 0, 1),
        (OrderStatus.CANCELLED, 2, 2, 1),
        (OrderStatus.CANCELLED, 2, 0, 0),
        (OrderStatus.CANCELLED, None, 0, 0),
        (OrderStatus.REJECTED, None, 0, 1),
        (OrderStatus.REJECTED, None, 1, 0),
    ],
)
def test_an_order_is_settled_only_when_every_lot_is_accounted_for(
    journal: Path, status: OrderStatus, cum: int | None, filled: int, settled: int
) -> None:
    fills = [rows.fill_row(1, 2, fill(qty_lots=filled), INSTRUMENT, None)] if filled else []
    order = order_after(
        journal, rows.intent_rows(1, 1, place(), WALL_NS), fills, rows.order_rows(1, 3, update(status=status, cum=cum))
    )
    assert (order["status"], order["filled_lots"], order["settled"]) == (status, filled, settled)


def test_a_terminal_status_stays_and_the_cumulative_never_falls(journal: Path) -> None:
    order = order_after(
        journal,
        rows.intent_rows(1, 1, place(), WALL_NS),
        rows.order_rows(1, 2, update(status=OrderStatus.CANCELLED, cum=3)),
        rows.order_rows(1, 3, update(status=OrderStatus.LIVE, cum=1)),
        rows.order_rows(1, 4, update(status=OrderStatus.SENT)),
    )
    assert (order["status"], order["cum_filled_lots"], order["settled"]) == ("cancelled", 3, 0)
    assert query(journal, "SELECT status FROM order_events ORDER BY rowid") == [("cancelled",), ("live",), ("sent",)]


def test_what_an_update_does_not_say_stays(journal: Path) -> None:
    order = order_after(
        journal,
        rows.intent_rows(1, 1, place(), WALL_NS),
        rows.order_rows(1, 2, update(px_ticks=990, qty_lots=4, revision=2)),
        rows.order_rows(1, 3, update()),
    )
    assert (order["px_ticks"], order["qty_lots"], order["revision"], order["cum_filled_lots"]) == (990, 4, 2, None)


def test_fills_known_before_the_order_is_adopted_count(journal: Path) -> None:
    adopted = OrderAdopted(NS, WALL_NS, None, "x", Side.SELL, 1000, 5, 2, Purpose.QUOTE, False, OrderStatus.UNKNOWN)
    order = order_after(
        journal,
        [rows.fill_row(1, 1, fill(client_id="x", qty_lots=2), INSTRUMENT, None)],
        rows.order_rows(1, 2, adopted),
        rows.order_rows(1, 3, adopted),
    )
    assert (order["filled_lots"], order["cum_filled_lots"], order["status"]) == (2, 2, "unknown")


def test_an_event_of_an_unknown_order_is_evidence_and_no_order(journal: Path) -> None:
    write(journal, rows.order_rows(1, 1, update("venue:17")))
    write(journal, rows.order_rows(1, 2, RequestFailed(NS, WALL_NS, None, "venue:17", "cancel", "filled")))
    assert query(journal, "SELECT count(*) FROM orders") == [(0,)]
    assert query(journal, "SELECT kind, status, reason FROM order_events") == [
        ("update", "live", ""),
        ("cancel_failed", None, "filled"),
    ]


@pytest.mark.parametrize(
    ("command", "tables"),
    [
        (place(), {"intents": 1, "orders": 1, "cancels": 0}),
        (Amend("mmabcd-1-1", 1, 1, 1), {"intents": 1, "orders": 0, "cancels": 0}),
        (Cancel("mmabcd-1-1", True), {"intents": 0, "orders": 0, "cancels": 1}),
    ],
)
def test_each_command_leaves_its_rows(journal: Path, command: Command, tables: dict[str, int]) -> None:
    write(journal, rows.intent_rows(1, 1, command, WALL_NS))
    assert {table: query(journal, f"SELECT count(*) FROM {table}")[0][0] for table in tables} == tables


def test_the_flags_of_an_intent_are_kept(journal: Path) -> None:
    sent = Place("mmabcd-1-1", Side.SELL, 1000, 5, Purpose.FLATTEN, 2, False, True, True)
    write(journal, rows.intent_rows(1, 8, sent, WALL_NS))
    kept = query(journal, "SELECT side, purpose, level, post_only, reduce_only, ioc, epoch, seq FROM intents")
    assert kept == [(-1, "flatten", 2, 0, 1, 1, 1, 8)]


# --- decisions, breaks, checkpoints -----------------------------------------------------------------------------------


def test_a_decision_beyond_four_kilobytes_is_refused_and_the_chain_goes_on() -> None:
    chain = rows.DecisionChain(1, b"params")
    before = chain.link
    with pytest.raises(ValueRefused, match=r"decision \(1, 4\) has 4097 bytes"):
        chain.row(4, 0, 0, GuardState.RUNNING, Regime.UP, b"i" * 4000, b"d" * 97)
    assert (chain.link, chain.decisions) == (before, 0)
    chain.row(4, 0, 0, GuardState.RUNNING, Regime.UP, b"i" * 4000, b"d" * 96)
    assert chain.decisions == 1


def test_the_chain_tells_where_inputs_end_and_the_decision_begins() -> None:
    one, other = rows.DecisionChain(1, b""), rows.DecisionChain(1, b"")
    one.row(1, 0, 0, GuardState.RUNNING, Regime.UP, b"ab", b"c")
    other.row(1, 0, 0, GuardState.RUNNING, Regime.UP, b"a", b"bc")
    assert one.link != other.link


def test_one_break_of_a_name_is_open_at_a_time(journal: Path) -> None:
    write(
        journal,
        [
            rows.break_seen_row(1, 1, 10, "position", "reconcile", True, "5 against 4"),
            rows.break_seen_row(1, 2, 20, "position", "reconcile", True, "5 against 3"),
            rows.break_closed_row(30, "position", "late fill"),
            rows.break_seen_row(1, 4, 40, "position", "reconcile", True, "again"),
        ],
    )
    kept = query(journal, "SELECT opened_ts_ns, last_seen_ts_ns, closed_ts_ns, detail, resolution FROM breaks")
    assert kept == [(10, 20, 30, "5 against 3", "late fill"), (40, 40, None, "again", None)]


def test_the_two_newest_checkpoints_of_a_slice_are_kept(journal: Path) -> None:
    for epoch, seq in [(1, 50), (1, 900), (2, 3), (2, 7)]:
        write(journal, rows.checkpoint_rows(epoch, seq, 0, {"position": b"p", "bars": b"b"}))
    kept = query(journal, "SELECT slice, epoch, seq FROM checkpoints ORDER BY slice, epoch, seq")
    assert kept == [("bars", 2, 3), ("bars", 2, 7), ("position", 2, 3), ("position", 2, 7)]


def test_the_start_of_an_account_is_kept_from_the_first_time(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    begin(state)
    begin(state)
    write(state.journal_path, [rows.account_opened_row(2, 100), rows.account_opened_row(2, 999)])
    assert query(state.journal_path, "SELECT epoch, start_e10 FROM runs") == [(1, 100), (2, None)]


def test_the_other_rows_are_what_they_were_given(journal: Path) -> None:
    action = OperatorAction(3, 4, None, "resume", "checked by hand", "uid 0")
    write(
        journal,
        [
            rows.transition_row(1, 2, 3, 4, GuardState.RUNNING, GuardState.SOFT_PAUSE, ["book", "clock"]),
            rows.kill_row(1, 3, 4, KillState.KILLING, "operator", {"open": 2, "ids": ["b", "a"]}),
            rows.operator_row(1, None, action, "refused: breaks are open"),
            rows.reconciliation_row(1, 5, Reconciled(3, 4, None, "start", ("position",), -7)),
            rows.run_ended_row(1, 3, 4, True, "SIGTERM"),
            rows.parameters_row(1, b"params"),
            rows.instrument_row(INSTRUMENT, 4),
            rows.instrument_row(INSTRUMENT, 5),
        ],
    )
    assert query(journal, "SELECT * FROM transitions") == [(1, 2, 3, 4, "running", "soft_pause", "book clock")]
    assert query(journal, "SELECT * FROM kill") == [(1, 3, 4, "killing", "operator", '{"ids":["b","a"],"open":2}')]
    assert query(journal, "SELECT * FROM operator_actions") == [
        (1, None, 3, 4, "resume", "checked by hand", "uid 0", "refused: breaks are open")
    ]
    assert query(journal, "SELECT * FROM reconciliations") == [(1, 5, 3, 4, "start", -7, '["position"]')]
    assert query(journal, "SELECT ended_mono_ns, ended_ts_ns, clean_stop, end_reason FROM runs") == [
        (3, 4, 1, "SIGTERM")
    ]
    assert query(journal, "SELECT * FROM parameters") == [(1, b"params")]
    (kept,) = query(journal, "SELECT * FROM instruments")
    assert kept == ("sim", "BTCUSDT", 1, "USDT", 10**9, 10**7, 10**6, 1, 10**9, 0, 4)
