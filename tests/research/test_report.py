"""A report's figures: those of the journal, exact, unknown where they are, and checked against one another."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdaemon.core import markout as core_markout
from mmdaemon.core.commands import Amend, Cancel
from mmdaemon.core.events import BillKind, OrderUpdate, RequestFailed
from mmdaemon.core.markout import Watched
from mmdaemon.core.types import E10, NS, GuardState, OrderStatus, Regime, Side
from mmdaemon.journal import rows
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import money_text
from mmdaemon.research.report import Report, read_report, tables
from mmdaemon.research.report.page import json_of
from mmdaemon.research.report.records import UNKNOWN, Span
from mmdaemon.research.report.tables import MARKS_MOST, fill_marks
from mmdaemon.research.report.thinning import kept_rows, lines, spans
from mmdaemon.research.report.words import Units, lasting, share
from mmdaemon.research.summary import summarise
from tests.journal.samples import INSTRUMENT, WALL_NS, bill, fill, place, write
from tests.research.report_journals import (
    START_E10,
    UNIT_E10,
    at_s,
    bare_journal,
    change,
    decision_rows,
    made,
    minute,
    play_both,
    second_run,
    seen,
)

ROW = {
    "spread_min_bps": 2.0,
    "levels_min": 1,
    "levels_max": 1,
    "refresh_ns": NS,
    "order_size": 0.001,
    "skew_gain": 0.5,
}
"""Of a ladder table, but for its widest spread."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only to be read."""
    return play_both(tmp_path_factory.mktemp("played") / "state")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return bare_journal(tmp_path)


def shown(report: Report, key: str) -> str:
    return report.figures[key].shown


def verdicts(report: Report) -> dict[str, bool | None]:
    return {check.name: check.ok for check in report.checks}


# --- a run of the whole daemon ----------------------------------------------------------------------------------------


def test_figures_are_those_of_the_summary(played: Path) -> None:
    report, summary = read_report(played, 1), summarise(played, 1)
    counts = {
        "fills_buy": summary.fills_buy,
        "fills_sell": summary.fills_sell,
        "fills_taker": summary.taker_fills,
        "orders": summary.orders,
        "amends": summary.amends,
        "cancels": summary.cancels,
        "decisions": summary.decisions,
        "events": summary.events,
    }
    assert {key: report.figures[key].value for key in counts} == {key: str(n) for key, n in counts.items()}
    assert shown(report, "digest") == summary.digest
    assert report.figures["pnl"].value == money_text(summary.pnl_e10 or 0)
    parts = {part.name: part.value for part in report.attribution}
    assert summary.attributed is not None
    assert parts["spread"] == money_text(summary.attributed.spread_e10)
    assert parts["fees"] == money_text(summary.attributed.fees_e10)
    assert parts["funding"] == money_text(summary.attributed.funding_e10)
    assert parts["funding"] != "0"
    times = {key.removeprefix("time_"): f.value for key, f in report.figures.items() if key.startswith("time_")}
    assert times == {state: f"{ns / NS:.1f}" for state, ns in summary.guard_ns.items()}
    assert float(report.figures["running_share"].value or 0) == pytest.approx(100 * summary.running_share, abs=0.1)
    assert float(report.figures["fill_ratio"].value or 0) == pytest.approx(100 * summary.fill_ratio, abs=0.1)
    most = Decimal(report.figures["largest_position"].value or 0)
    assert most == Decimal(summary.max_position_lots) * report_lot(played)


def report_lot(path: Path) -> Decimal:
    with JournalReader(path) as journal:
        (lot_e10,) = journal.db.execute("SELECT lot_e10 FROM instruments").fetchone()
    return Decimal(lot_e10) / E10


def test_addends_come_to_the_pnl_to_the_last_digit(played: Path) -> None:
    report = read_report(played, 1)
    addends = sum((Decimal(part.value or "nan") for part in report.attribution), Decimal())
    assert addends == Decimal(report.figures["pnl"].value or "nan") != 0
    assert verdicts(report) == {
        "PnL identity": True,
        "attribution, each minute": True,
        "attribution, in total": True,
    }
    for i, total in enumerate(report.drawn.pnl.columns["total"]):
        drawn = [column[i] or 0.0 for name, column in report.drawn.pnl.columns.items() if name != "total"]
        assert sum(drawn) == pytest.approx(total, abs=1e-9)


def test_each_run_is_reported_by_its_number_and_the_last_without_one(played: Path) -> None:
    assert read_report(played, 1).run.epoch == "1"
    last = read_report(played)
    assert (last.run.epoch, last.run.end_reason) == ("2", "the duration is over")
    with pytest.raises(JournalUnreadable, match="no run 3"):
        read_report(played, 3)


def test_what_people_and_the_kill_switch_did_is_listed(played: Path) -> None:
    report = read_report(played, 1)
    assert [(line.action, line.reason, line.who) for line in report.actions][:2] == [
        ("pause", "lunch", "pytest"),
        ("resume", "back", "pytest"),
    ]
    assert (report.kills[0].state, report.kills[0].reason) == ("killing", "fire drill")
    assert {line.scope for line in report.reconciliations} >= {"start", "periodic"}
    whys = "; ".join(stop.codes for stop in report.stops)
    assert "operator_pause" in whys
    assert "kill" in whys
    lengths = [stop.to_ms - stop.from_ms for stop in report.stops]
    assert lengths == sorted(lengths, reverse=True)


def test_ribbons_cover_the_run_without_a_hole(played: Path) -> None:
    report = read_report(played, 1)
    whole_ms = (report.run.last_ts_ns - report.run.started_ts_ns) / 1e6
    guard = report.drawn.guard
    assert (guard[0].from_ms, guard[-1].to_ms) == (0.0, pytest.approx(whole_ms))
    assert all(a.to_ms == b.from_ms for a, b in pairwise(guard))
    assert {"soft_pause", "hard_stop", "running"} <= {span.state for span in guard}
    assert all(a.to_ms == b.from_ms for a, b in pairwise(report.drawn.regime))


def test_assumptions_come_first_and_say_that_it_is_simulated(played: Path) -> None:
    report = read_report(played, 1)
    names = [said.name for said in report.assumptions]
    assert names[0] == "simulated"
    assert "No evidence of profit" in report.assumptions[0].text
    assert {"market", "fill assumption", "fees", "journal durability", "mode", "version", "configuration"} <= {*names}
    assert next(said.text for said in report.assumptions if said.name == "fees").startswith("maker 0.5 bps, taker 2")


def test_the_json_is_the_report_and_ends_no_element(played: Path) -> None:
    report = read_report(played, 1)
    data = json_of(report)
    assert b"<" not in data
    assert msgspec.json.decode(data, type=Report) == report


def test_the_latest_fills_are_listed_first_and_their_number_said(played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = read_report(played, 1)
    assert report.fills_listed == f"all {len(report.fills)}"
    times = [line.time for line in report.fills]
    assert times == sorted(times, reverse=True)
    monkeypatch.setattr(tables, "FILLS_SHOWN", 3)
    few = read_report(played, 1)
    assert few.fills == report.fills[:3]
    assert few.fills_listed == f"the latest 3 of {len(report.fills)}"


def test_two_readings_are_equal(played: Path) -> None:
    assert json_of(read_report(played, 1)) == json_of(read_report(played, 1))


# --- what is not known, or not right ----------------------------------------------------------------------------------


def test_a_run_of_which_nothing_is_known_says_so_and_shows_no_zero(journal: Path) -> None:
    report = read_report(journal)
    for key in (
        "equity_start",
        "equity_end",
        "mark",
        "fill_ratio",
        "running_share",
        "digest",
        "events",
        "decisions_a_day",
    ):
        assert (shown(report, key), report.figures[key].value) == (UNKNOWN, None), key
    assert [part.value for part in report.attribution] == [None] * 5
    assert set(verdicts(report).values()) == {None}
    assert {check.verdict for check in report.checks} == {"not checked"}
    assert report.run.ended.startswith("not ended; last journaled")
    assert report.notes[0].name == "no end"
    assert [latency.p50 for latency in report.latencies] == [UNKNOWN] * 4
    assert report.drawn.pnl.t_ms == []
    assert report.fills == report.markouts == []


def test_a_position_without_any_mark_has_no_pnl(journal: Path) -> None:
    write(journal, [rows.fill_row(1, 5, fill(), INSTRUMENT, None)])
    report = read_report(journal)
    assert shown(report, "pnl") == UNKNOWN
    assert shown(report, "position_end") == "0.005 BTC"


def test_a_cut_off_run_is_reported_as_far_as_it_was_written(journal: Path) -> None:
    write(journal, [rows.account_opened_row(1, START_E10), minute(60, 3), minute(120, 9)])
    report = read_report(journal)
    assert report.run.duration == "2 min"
    assert report.run.end_reason == "still running, or cut off"
    assert [said.name for said in report.assumptions][:2] == ["simulated", "not ended"]
    assert verdicts(report)["PnL identity"] is True


def test_money_is_checked_at_each_minute(journal: Path) -> None:
    """Five lots bought at 1000, marked at 1010 at the minute: 50 ticks on lots, less the fee of 7e-10."""
    gain = 50 * UNIT_E10
    good = {"position_lots": 5, "equity_e10": START_E10 + gain - 7, "fees_e10": 7, "inventory_e10": gain, "fills": 1}
    write(
        journal,
        [
            rows.account_opened_row(1, START_E10),
            rows.fill_row(1, 5, fill(), INSTRUMENT, 1000),
            minute(60, 9, mark=1010, **good),
        ],
    )
    report = read_report(journal)
    assert set(verdicts(report).values()) == {True}
    assert report.figures["pnl"].value == money_text(gain - 7)
    change(journal, "UPDATE fills SET notional_e10 = notional_e10 + 1")
    broken = read_report(journal)
    assert verdicts(broken) == {
        "PnL identity": False,
        "attribution, each minute": True,
        "attribution, in total": False,
    }
    assert broken.checks[0].verdict == "DOES NOT HOLD"
    change(journal, "UPDATE minutes SET spread_e10 = spread_e10 + 1")
    assert verdicts(read_report(journal))["attribution, each minute"] is False


def test_what_came_after_the_last_minute_is_an_addend_of_its_own(journal: Path) -> None:
    opened = [rows.account_opened_row(1, START_E10), minute(60, 4)]
    write(journal, [*opened, rows.fill_row(1, 5, fill(fee_e10=30), INSTRUMENT, 1002)])
    report = read_report(journal)
    assert report.attribution[-1].name == "later"
    assert report.attribution[-1].value == report.figures["pnl"].value == money_text(5 * 2 * UNIT_E10 - 30)
    assert verdicts(report)["attribution, in total"] is True


def test_an_account_goes_on_from_run_to_run(journal: Path) -> None:
    write(
        journal,
        [
            rows.account_opened_row(1, START_E10),
            rows.fill_row(1, 5, fill(fee_e10=0), INSTRUMENT, 1000),
            minute(60, 9, position_lots=5, fills=1),
        ],
    )
    second_run(journal)
    gain = 50 * UNIT_E10
    later = minute(90, 6, epoch=2, mark=1010, position_lots=5, equity_e10=START_E10 + gain, inventory_e10=gain)
    funded = rows.bill_row(2, 7, bill(amount_e10=-3), "sim")
    write(journal, [later, funded, rows.bill_row(2, 8, bill("b2", BillKind.TRANSFER, 500), "sim")])
    change(journal, "UPDATE bills SET account_epoch = 1")
    first, second = read_report(journal, 1), read_report(journal, 2)
    assert first.figures["pnl"].value == "0"
    assert "pnl_of_run" not in first.figures
    assert second.figures["pnl"].value == money_text(gain - 3)
    assert second.figures["pnl_of_run"].value == money_text(gain)
    assert second.figures["transfers"].value == money_text(500)
    assert second.figures["equity_end"].value == money_text(START_E10 + gain - 3 + 500)
    assert shown(second, "position_end") == "0.005 BTC"
    assert second.drawn.position.columns["position"][0] == 0.005
    assert second.notes[1].name == "account"
    assert set(verdicts(second).values()) == {True}


def test_a_run_without_an_instrument_is_refused(journal: Path) -> None:
    change(journal, "DELETE FROM instruments")
    with pytest.raises(JournalUnreadable, match="before its instrument was known"):
        read_report(journal)


def test_a_row_that_nobody_wrote_is_refused(journal: Path) -> None:
    write(journal, decision_rows((4, seen(1), made(990, 1010))))
    (inputs,) = sqlite3.connect(journal).execute("SELECT inputs FROM decisions").fetchone()
    for blob in (b"\x93", inputs.replace(b"running", b"runn\xffng")):  # msgspec has another exception for bad UTF-8
        change(journal, "UPDATE decisions SET inputs = ?", blob)
        with pytest.raises(JournalUnreadable, match="did not write"):
            read_report(journal)
    change(journal, "UPDATE decisions SET inputs = x'93'")
    with pytest.raises(JournalUnreadable, match="did not write"):
        read_report(journal)


def test_a_run_of_another_version_is_said_to_be_one(journal: Path) -> None:
    write(journal, decision_rows((4, seen(1), made(990, 1010))))
    with closing(sqlite3.connect(journal)) as db:
        (inputs,) = db.execute("SELECT inputs FROM decisions").fetchone()
    change(journal, "UPDATE decisions SET inputs = ?", msgspec.msgpack.encode(msgspec.msgpack.decode(inputs)[:-5]))
    with pytest.raises(JournalUnreadable, match="this version of mmdaemon did not write: another one did"):
        read_report(journal)


def test_fills_of_two_instruments_do_not_add(journal: Path) -> None:
    other = msgspec.structs.replace(INSTRUMENT, version=2)
    write(journal, [rows.fill_row(1, 5, fill(), INSTRUMENT, None), rows.fill_row(1, 6, fill("t2"), other, None)])
    with pytest.raises(JournalUnreadable, match=r"versions \[1, 2\]"):
        read_report(journal)


def test_it_reads_beside_a_writer_and_sees_what_is_committed(journal: Path) -> None:
    write(journal, [rows.fill_row(1, 5, fill(), INSTRUMENT, 1000)])
    with closing(sqlite3.connect(journal)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE fills SET qty_lots = 99")
        assert shown(read_report(journal), "position_end") == "0.005 BTC"
        writer.rollback()


# --- quoting ----------------------------------------------------------------------------------------------------------


def test_time_without_a_quote_is_found_with_its_reasons(journal: Path) -> None:
    soft = GuardState.SOFT_PAUSE
    write(
        journal,
        [
            rows.transition_row(1, 3, *at_s(1), GuardState.STARTING, GuardState.RUNNING, ()),
            rows.transition_row(1, 6, *at_s(10), GuardState.RUNNING, soft, ("book",)),
            rows.transition_row(1, 7, *at_s(40), soft, GuardState.RUNNING, ()),
            *decision_rows(
                (4, seen(2), made(990, 1010)),
                (6, seen(10, None, soft), made(None, None, "guard", "guard")),
                (8, seen(41), made(990, None, "", "inventory")),
                (9, seen(50), made(None, None, "edge", "inventory")),
            ),
            minute(60, 12),
        ],
    )
    report = read_report(journal)
    assert [(stop.lasted, stop.why) for stop in report.stops] == [
        ("31.0 s", "soft pause (no healthy book within its age limit)"),
        ("10.0 s", "the required edge is wider than the widest spread; inventory at its largest"),
        ("2.0 s", "starting"),
    ]
    assert [report.figures[key].value for key in ("both_sides", "one_side", "no_side")] == ["13.3", "15.0", "71.7"]
    # 60 s less the second of STARTING and the 30 s without a book, all of it RUNNING.
    assert report.figures["running_share"].value == "100.0"
    assert [stop.codes for stop in report.stops] == ["book", "", ""]
    assert [span.why for span in report.drawn.guard if span.state == "soft_pause"] == [
        "no healthy book within its age limit (book)"
    ]
    price = report.drawn.price.columns
    assert price["fair"] == [100.0, None, 100.0, 100.0]
    assert price["bid"] == [99.0, None, 99.0, None]
    assert price["ask"] == [101.0, None, None, None]
    assert report.drawn.limits.columns == {"long": [0.04, 0.04], "short": [-0.04, -0.04]}


def test_the_line_of_fair_value_is_not_drawn_where_nobody_followed_it(journal: Path) -> None:
    """Straight lines between sparse decisions looked like a market."""
    pause = GuardState.SOFT_PAUSE
    write(
        journal,
        [
            *decision_rows(
                (4, seen(4), made(990, 1010)),
                (5, seen(5), made(None, None, "guard", "guard")),  # the line ends here
                (15, seen(15, 1_100, pause), made(None, None, "guard", "guard")),
                (25, seen(25, 1_200, pause), made(None, None, "guard", "guard")),
                (35, seen(35), made(990, 1010)),
                (40, seen(40), made(None, None, "edge", "edge")),  # and here
                (50, seen(50), made(990, 1010)),
                (120, seen(120), made(991, 1010)),  # quoted all the while, and no decision for over a minute
                (121, seen(121), made(992, 1010)),
            ),
        ],
    )
    price = read_report(journal).drawn.price
    assert [t / 1_000 for t in price.t_ms] == [4, 5, 15, 25, 35, 40, 40.001, 50, 50.001, 120, 121]
    assert price.columns["fair"] == [100, 100, None, None, 100, 100, None, 100, None, 100, 100]
    assert price.columns["bid"] == [99, None, None, None, 99, None, None, 99, 99, 99.1, 99.2]


def test_of_many_reasons_the_first_are_told_in_words_and_all_by_name(journal: Path) -> None:
    reasons = ("funding_unknown", "book", "mark", "fees", "position", "clock")
    write(
        journal,
        [
            rows.transition_row(1, 3, *at_s(1), GuardState.STARTING, GuardState.RECONCILING, reasons),
            *decision_rows((4, seen(4), made(None, None, "guard", "guard")), (9, seen(9), made(990, 1010))),
        ],
    )
    (stop,) = read_report(journal).stops
    assert stop.why.endswith("no mark price within its age limit; the account's fee rates are unknown; and 2 more)")
    assert stop.codes == ", ".join(reasons)


def test_what_was_before_is_said_of_the_run_that_it_was(played: Path) -> None:
    def said(epoch: int) -> str:
        return next(each.text for each in read_report(played, epoch).assumptions if each.name == "before this run")

    assert said(1) == "none: it is the first of this journal"
    assert said(2) == "run 1 stopped cleanly"


def test_edges_begin_with_the_first_quote(journal: Path) -> None:
    """Before it fees may be unknown, and unknown is not zero."""
    blind = made(None, None, "guard", "guard")
    first = msgspec.structs.replace(seen(1, None, GuardState.RECONCILING), maker_bps=0.0)
    write(journal, decision_rows((3, first, blind), (4, seen(2), made(990, 1010)), (5, seen(3), blind)))
    edge = read_report(journal).drawn.buy_edge
    assert edge.columns["total"] == [None, 3.75, 3.75]
    assert edge.columns["maker_fee"] == [None, 2.0, 2.0]


def valued(trade_id: str, side: Side, horizon_s: int, px_ticks: int, fair: float | None, at: float = 0.0) -> rows.Row:
    """A horizon as the daemon closes it, of a fill at fair value 1000."""
    watched = Watched(trade_id, side, Regime.UP, at_s(at)[0], 1000.0, px_ticks, 5, 2.0, True)
    return rows.markout_row(1, 9, at_s(at + horizon_s)[1], core_markout.Markout(watched, horizon_s, fair))


def test_markouts_are_those_that_were_journaled(journal: Path) -> None:
    """Bought at 995 and sold at 1003 with fair value 1000; 5 s later it is 998; then the book is gone."""
    write(
        journal,
        [
            rows.fill_row(1, 5, fill(px_ticks=995, fee_e10=0), INSTRUMENT, 1000),
            rows.fill_row(1, 5, fill("t2", side=Side.SELL, px_ticks=1003, fee_e10=0), INSTRUMENT, 1000),
            *(valued("t1", Side.BUY, 1, 995, 1000.0), valued("t2", Side.SELL, 1, 1003, 1000.0)),
            *(valued("t1", Side.BUY, 5, 995, 998.0), valued("t2", Side.SELL, 5, 1003, 998.0)),
            valued("t1", Side.BUY, 30, 995, None),
            minute(50, 12),
        ],
    )
    report = read_report(journal)
    buys = {line.horizon: line for line in report.markouts if line.side == "buy"}
    assert (buys["1 s"].effective, buys["1 s"].impact, buys["1 s"].markout) == ("+50.00", "+0.00", "+50.00")
    assert (buys["5 s"].effective, buys["5 s"].impact, buys["5 s"].markout) == ("+50.00", "-20.00", "+30.00")
    assert (buys["30 s"].markout, buys["30 s"].unavailable) == (UNKNOWN, "1")
    assert (buys["60 s"].markout, buys["60 s"].unavailable) == (UNKNOWN, "1")
    assert {line.interval for line in report.markouts} == {UNKNOWN}
    sells = {line.horizon: line for line in report.markouts if line.side == "sell"}
    assert (sells["5 s"].effective, sells["5 s"].impact, sells["5 s"].markout) == ("+30.00", "+20.00", "+50.00")
    assert [line.markout_5s for line in report.fills] == ["+50.00 bps", "+30.00 bps"]
    drawn = report.drawn.markouts
    assert drawn.horizon_s == [1.0, 5.0, 30.0, 60.0]
    assert drawn.mean == {"buy": [50.0, 30.0, None, None], "sell": [30.0, 50.0, None, None]}
    assert drawn.low["buy"] == [None] * 4


def test_intervals_of_markouts_are_of_blocks_and_the_fee_is_taken_off(journal: Path) -> None:
    """Twenty fills, two at a time: as many blocks as pairs, and no interval where there are too few."""
    fee_e10 = 1_000 * 5 * UNIT_E10 // 1_000  # 10 bps
    made_rows: list[rows.Row] = []
    for i in range(20):
        at = 60.0 * (i // 2)
        one = fill(f"t{i}", px_ticks=1000, fee_e10=fee_e10, qty_lots=5)
        made_rows.append(rows.fill_row(1, 5 + i, msgspec.structs.replace(one, mono_ns=at_s(at)[0]), INSTRUMENT, 1000))
        made_rows.append(valued(f"t{i}", Side.BUY, 1, 1000, 1001.0 if i // 2 % 2 else 999.0, at))
        made_rows += [valued(f"t{i}", Side.BUY, 5, 1000, 1001.0, at)] if i < 8 else []
    write(journal, [*made_rows, minute(700, 90)])
    report = read_report(journal)
    lines_of = {line.horizon: line for line in report.markouts if line.side == "buy"}
    first = lines_of["1 s"]
    assert (first.fills, first.markout, first.net) == ("20", "+0.00", "-10.00")
    low, high = (float(text) for text in first.interval.split(" to "))
    assert -8.0 < low < -3.0 < 3.0 < high < 8.0  # ten blocks of +-10: 2 * 10 / sqrt(10) is 6.3
    assert (lines_of["5 s"].fills, lines_of["5 s"].interval) == ("8", UNKNOWN)
    assert report.drawn.markouts.low["buy"][0] == pytest.approx(low, abs=0.01)


def test_what_moves_both_quotes_is_drawn_and_the_signal_s_share_told(journal: Path) -> None:
    table = {regime: {"spread_max_bps": 16.0} for regime in Regime}
    blob = msgspec.msgpack.encode({"regimes": {k: {**ROW, **v} for k, v in table.items()}})
    write(
        journal,
        [
            rows.parameters_row(1, blob),
            *decision_rows(
                (4, seen(10, signal_bps=0.4), made(990, 1010, skew_bps=0.5)),
                (5, seen(20, signal_bps=-0.1, carry_bps=-0.25), made(990, 1010, skew_bps=-1.0)),
                (6, seen(30, None), made(None, None, "no_book", "no_book", half_bps=0.0, skew_bps=0.0)),
            ),
            minute(60, 12),
        ],
    )
    report = read_report(journal)
    assert report.drawn.leans.columns == {
        "signal": [0.4, -0.1, None],
        "skew": [-0.5, 1.0, None],
        "carry": [-0.125, 0.25, None],
    }
    assert report.figures["signal"].shown == "0.250 bps"
    assert report.figures["signal_share"].shown == "2.5 %"
    assert report.drawn.buy_edge.columns["most"][0] == 8.0
    assert report.drawn.buy_edge.columns["total"][0] == 3.75


# --- latency and fill ratio -------------------------------------------------------------------------------------------


def said(
    seconds: float, client_id: str, status: OrderStatus, revision: int | None = None, reason: str = ""
) -> OrderUpdate:
    return OrderUpdate(*at_s(seconds), None, client_id, status, None, None, None, revision, reason)


def test_latency_counts_until_the_venue_s_word_and_no_time_out_is_one(journal: Path) -> None:
    a, b, c = "mmabcd-1-1", "mmabcd-1-2", "mmabcd-1-3"
    live, end = OrderStatus.LIVE, OrderStatus.CANCELLED

    def sent(seconds: float, command: Amend | Cancel | object) -> list[rows.Row]:
        return rows.intent_rows(1, round(seconds * 10), command, at_s(seconds)[1])  # pyright: ignore[reportArgumentType]

    def told(event: OrderUpdate | RequestFailed, seq: int) -> list[rows.Row]:
        return rows.order_rows(1, seq, event)

    write(
        journal,
        [
            *(*sent(1, place(a)), *told(said(1.1, a, live, 0), 11)),
            *(*sent(2, Amend(a, 1, 1001, 5)), *sent(2.5, Amend(a, 2, 1002, 5)), *told(said(3, a, live, 2), 30)),
            *(*sent(4, Cancel(a, False)), *told(said(4.4, a, end), 44)),
            *(*sent(5, place(b)), *told(said(15, b, OrderStatus.UNKNOWN, None, "timeout"), 150)),
            *told(said(16, b, live, 0, "reconciled"), 160),
            *sent(17, Cancel(b, True)),
            *told(RequestFailed(*at_s(18), None, b, "cancel", "unanswered"), 180),
            *sent(19, place(c)),
            minute(20, 200),
        ],
    )
    report = read_report(journal)
    table = {line.name: line for line in report.latencies}
    order, amend, cancel = table["order"], table["amend"], table["cancel"]
    assert (order.count, order.p50, order.most, order.unanswered) == ("2", "100.0 ms", "11.0 s", "1")
    assert (amend.count, amend.p50, amend.most, amend.unanswered) == ("2", "500.0 ms", "1000.0 ms", "0")
    assert (cancel.count, cancel.most, cancel.unanswered) == ("1", "400.0 ms", "1")
    assert table["fill"].count == "0"
    shares = report.drawn.latency.share
    assert set(shares) == {"order", "amend", "cancel"}
    for column in shares.values():
        assert column == sorted(column, key=lambda x: x or 0.0)
        assert column[-1] == 1.0


def test_fill_ratio_over_time_ends_at_the_fill_ratio(played: Path) -> None:
    report = read_report(played, 1)
    assert report.drawn.fill_ratio.columns["overall"][-1] == pytest.approx(
        float(report.figures["fill_ratio"].value or 0), abs=0.05
    )
    placed = report.drawn.fill_ratio.columns["orders"]
    assert sum(n or 0 for n in placed[:-1]) == int(report.figures["orders"].value or 0)


# --- thinning ---------------------------------------------------------------------------------------------------------

Columns = list[tuple[float | None, float | None]]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.none() | st.floats(-5, 5), st.none() | st.floats(-5, 5)), min_size=1, max_size=300),
    st.integers(8, 60),
)
def test_thinning_keeps_ends_extremes_and_holes(table: Columns, most: int) -> None:
    t = [float(i) for i in range(len(table))]
    columns = [[row[0] for row in table], [row[1] for row in table]]
    kept = kept_rows(t, columns, most)
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, len(t) - 1)
    for column in columns:
        known = [x for x in column if x is not None]
        there = [x for i in kept if (x := column[i]) is not None]
        assert (min(known, default=0), max(known, default=0)) == (min(there, default=0), max(there, default=0))
        assert (None in column) == (None in [column[i] for i in kept])


def test_thinning_keeps_about_as_many_as_asked() -> None:
    n = 50_000
    wave = [float((i * 7919) % 1000) for i in range(n)]
    thinned = lines([float(i) for i in range(n)], {"a": list(wave), "b": [-x for x in wave]}, 2_000)
    assert 300 < thinned.kept <= 2_200
    assert thinned.rows == n


def test_short_states_together_keep_their_time() -> None:
    states = ("running", "soft_pause", "running", "hard_stop")
    whole = [Span(float(i), float(i + 1), states[i % 4], "book" if i % 4 == 1 else "") for i in range(4_000)]
    few = spans([*whole, Span(4_000.0, 9_000.0, "running")], 100)
    assert len(few) <= 202
    assert (few[0].from_ms, few[-1].to_ms) == (0.0, 9_000.0)
    assert few[-1] == Span(4_000.0, 9_000.0, "running")
    assert all(a.to_ms == b.from_ms for a, b in pairwise(few))
    merged = [span for span in few if span.moves > 1]
    assert sum(span.moves for span in merged) == 4_000
    assert {span.state for span in merged} == {"hard_stop"}
    assert all(sum(span.shares.values()) == pytest.approx(1.0, abs=1e-3) for span in merged)
    stopped = sum(span.shares["hard_stop"] * (span.to_ms - span.from_ms) for span in merged)
    assert stopped == pytest.approx(1_000, rel=0.01)


def test_of_too_many_fills_the_dearest_and_cheapest_are_drawn(journal: Path) -> None:
    write(journal, [rows.fill_row(1, 5, fill(), INSTRUMENT, 1000)])
    with JournalReader(journal) as reader:
        (one,) = reader.fills(1)
    many = [
        msgspec.structs.replace(
            one, trade_id=f"t{i}", ts_ns=WALL_NS + i, px_ticks=1000 + (i * 7919) % 997, side=Side(1 - 2 * (i % 2))
        )
        for i in range(MARKS_MOST + 2_000)
    ]
    marks = fill_marks(many, {}, Units(INSTRUMENT), WALL_NS)
    assert (marks.rows, len(marks.t_ms)) == (len(many), len(marks.price))
    assert len(marks.t_ms) < MARKS_MOST
    for side in (1, -1):
        drawn = [price for price, its in zip(marks.price, marks.side, strict=True) if its == side]
        there = [each.px_ticks / 10 for each in many if each.side == side]
        assert (min(drawn), max(drawn)) == (min(there), max(there))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0.0 s"),
        (59_960_000_000, "59.9 s"),
        (60 * NS, "1 min"),
        (61 * NS, "1 min 1 s"),
        (3_600 * NS, "1 h"),
        (30_600 * NS, "8 h 30 min"),
        (90_000 * NS, "1 d 1 h"),
        (30 * 86_400 * NS, "30 d"),
    ],
)
def test_lengths_of_time_as_people_say_them(ns: int, text: str) -> None:
    assert lasting(ns) == text


def test_a_share_is_100_only_where_it_is_all() -> None:
    assert share("x", 9_999_999, 10_000_000).shown == "99.9 %"
    assert share("x", 10_000_000, 10_000_000).shown == "100.0 %"
    assert share("x", 0, 0).shown == UNKNOWN


@pytest.mark.parametrize(
    ("symbol", "quote", "base"),
    [("BTCUSDT", "USDT", "BTC"), ("BTC-USD", "DUSD", "BTC"), ("BTC", "USDC", "BTC"), ("ETH-USDC", "USDC", "ETH")],
)
def test_the_base_currency(symbol: str, quote: str, base: str) -> None:
    assert Units(msgspec.structs.replace(INSTRUMENT, symbol=symbol, quote=quote)).base == base
