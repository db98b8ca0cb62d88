"""A run's summary: the same figures as its report, from one place, also where they are hard to tell."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mmdaemon.cli import summary as shown
from mmdaemon.core.types import NS, Side
from mmdaemon.journal import rows
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import money_text
from mmdaemon.research.report import read_report
from mmdaemon.research.summary import RunSummary, no_result, summarise
from tests.journal.samples import INSTRUMENT, fill, write
from tests.research.report_journals import bare_journal, change, decision_rows, made, minute, second_run, seen


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return bare_journal(tmp_path)


def held_against(path: Path, epoch: int) -> RunSummary:
    """The summary of a run, of which each figure is the report's."""
    said, report = summarise(path, epoch), read_report(path, epoch)
    figures = {name: figure.value for name, figure in report.figures.items()}
    assert figures["largest_position"] == f"{said.max_position_lots * INSTRUMENT.lot_e10 / 1e10:.3f}"
    assert figures["pnl"] == (None if said.pnl_e10 is None else money_text(said.pnl_e10))
    assert {name: value for name, value in figures.items() if name.startswith("time_")} == {
        f"time_{state}": f"{ns / NS:.1f}" for state, ns in said.guard_ns.items()
    }
    text = StringIO()
    shown.show(Console(file=text, width=120), said)
    lines = {line[:24].strip(): line[24:].strip() for line in text.getvalue().splitlines() if line.startswith("  ")}
    assert lines["RUNNING"] == f"{report.figures['running_share'].shown} of healthy time"
    assert lines["fill ratio"] == f"{report.figures['fill_ratio'].shown} of orders"
    assert lines["PnL"] == report.figures["pnl"].shown
    assert lines["largest position"] == report.figures["largest_position"].shown
    return said


def test_a_position_from_before_the_run_counts(journal: Path) -> None:
    """A venue that outlives the daemon: the largest position was said to be what the run itself had traded."""
    write(journal, [rows.fill_row(1, 3, fill("t1", side=Side.BUY, qty_lots=7), INSTRUMENT, 1000)])
    second_run(journal)
    write(journal, [rows.fill_row(2, 3, fill("t2", side=Side.SELL, qty_lots=2), INSTRUMENT, 1000)])
    assert held_against(journal, 1).max_position_lots == 7
    assert held_against(journal, 2).max_position_lots == 7


def test_what_came_after_a_run_is_not_in_it(journal: Path) -> None:
    write(journal, [rows.fill_row(1, 3, fill("t1", side=Side.BUY, qty_lots=1, fee_e10=5), INSTRUMENT, 1000)])
    before = held_against(journal, 1).pnl_e10
    second_run(journal)
    write(journal, [rows.fill_row(2, 3, fill("t2", side=Side.BUY, qty_lots=1, fee_e10=7), INSTRUMENT, 5000)])
    assert held_against(journal, 1).pnl_e10 == before


def test_a_run_without_an_end_lasts_until_the_last_that_was_journaled(journal: Path) -> None:
    write(journal, [minute(60, 5), *decision_rows((9, seen(90), made(999, 1001)))])
    assert held_against(journal, 1).duration_ns == 90 * NS


def test_what_was_booked_after_the_last_minute_is_an_addend(journal: Path) -> None:
    write(journal, [minute(60, 5), rows.fill_row(1, 9, fill("t1", fee_e10=500), INSTRUMENT, 1000)])
    said = held_against(journal, 1)
    assert said.attributed is not None
    assert said.later_e10
    assert said.attributed.pnl_e10 + said.later_e10 == said.pnl_e10


def test_of_nothing_there_is_no_share(journal: Path) -> None:
    said = held_against(journal, 1)
    assert (said.orders, said.healthy_ns, said.attributed) == (0, 0, None)
    assert read_report(journal).figures["fill_ratio"].shown == "unknown"


def test_what_matters_most_is_said_first(journal: Path) -> None:
    change(journal, """UPDATE runs SET provenance = '{"a": "1", "funding": "2", "market": "3"}'""")
    assert list(summarise(journal).provenance) == ["market", "funding", "a"]


def test_how_a_run_ended() -> None:
    assert no_result("the recording is over") == no_result("SIGTERM") == no_result("") == ""
    assert no_result("broke off: x") == "The run broke off: x. Figures are of the part before."
    assert no_result("interrupted by SIGTERM") == (
        "The run was interrupted by SIGTERM. Figures are of the part before."
    )


def test_there_is_none(journal: Path) -> None:
    with pytest.raises(JournalUnreadable, match="has no run 2"):
        summarise(journal, 2)
