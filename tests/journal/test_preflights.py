"""Rows of preflights: written between runs, read back as they were, and absent where nobody wrote any."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mmdaemon.journal import preflights
from mmdaemon.journal.records import PreflightRow
from mmdaemon.journal.recovery import JournalUnreadable, OtherInstrument, recover
from tests.journal.samples import StillClock, run_start, state_dir

ROW = PreflightRow(
    ts_ns=5,
    mode="testnet",
    item="fees",
    outcome="passed",
    version="0.1",
    config_hash="cafe",
    account="a0",
    figures='{"taker_rate":0.0006}',
    evidence="two fills",
    seal="00",
)


def test_rows_are_read_as_they_were_written_and_a_run_goes_on_beside_them(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    preflights.append(state, "sim", "BTCUSDT", [ROW])
    found = recover(state, run_start(), StillClock())
    assert (found.epoch, found.clean_start, found.orders) == (1, True, ())
    preflights.append(state, "sim", "BTCUSDT", [ROW, ROW])
    assert preflights.read(state.journal_path) == [ROW] * 3
    assert recover(state, run_start(), StillClock()).epoch == 2


def test_rows_of_another_venue_do_not_go_into_this_journal(tmp_path: Path) -> None:
    state = state_dir(tmp_path)
    preflights.append(state, "sim", "BTCUSDT", [ROW])
    with pytest.raises(OtherInstrument):
        preflights.append(state, "elsewhere", "BTCUSDT", [ROW])
    assert preflights.read(state.journal_path) == [ROW]


def test_there_are_none_where_nobody_wrote_any(tmp_path: Path) -> None:
    assert preflights.read(tmp_path / "none.sqlite") == []
    assert not (tmp_path / "none.sqlite").exists()
    old = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(old)) as db, db:
        db.executescript((Path(__file__).parent / "schema_1.sql").read_text(encoding="utf-8"))
    assert preflights.read(old) == []
    (tmp_path / "text").write_text("x" * 5_000)
    with pytest.raises(JournalUnreadable, match="cannot be read"):
        preflights.read(tmp_path / "text")


def test_what_is_said_of_a_row_is_all_of_it_but_the_seal() -> None:
    assert ROW.said() == b'[5,"testnet","fees","passed","0.1","cafe","a0","{\\"taker_rate\\":0.0006}","two fills"]'
