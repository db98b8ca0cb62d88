"""Signals in the journal: what became of each is a row, and what had not ended is handed back at the next start."""

from math import inf, nan
from pathlib import Path

import pytest

from mmdaemon.core.signals import Outcome
from mmdaemon.core.types import NS
from mmdaemon.journal import rows
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.state_dir import StateDir
from tests.journal.samples import WALL_NS, StillClock, begin, query, state_dir, write


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = state_dir(tmp_path)
    begin(made)
    return made


def outcome(what: str = "applied", sequence: int = 7, kind: str = "pause", value: str = "all") -> Outcome:
    return Outcome("desk", kind, sequence, what, value=value, confidence=0.5, said_ts_ns=WALL_NS, ttl_s=60.0)


def keep(state: StateDir, *told: Outcome, ts_ns: int = WALL_NS) -> None:
    write(state.journal_path, [rows.signal_row(1, 5, NS, ts_ns, each) for each in told])


def stands(state: StateDir, after_s: float = 1.0) -> list[tuple[str, int, float | str]]:
    found = begin(state, StillClock(WALL_NS + round(after_s * NS)))
    assert all(each.restored and each.source == "desk" and each.confidence == 0.5 for each in found.signals)
    return [(each.kind, each.sequence, each.value) for each in found.signals]


def test_what_had_not_ended_comes_back(state: StateDir) -> None:
    keep(state, outcome(), outcome(sequence=8, kind="target_inventory", value="-0.25"))
    assert stands(state) == [("pause", 7, "all"), ("target_inventory", 8, -0.25)]


@pytest.mark.parametrize("how", ["replaced", "expired", "off"])
def test_what_ended_does_not(state: StateDir, how: str) -> None:
    keep(state, outcome(), outcome(how), outcome(sequence=9, value="increase"))
    assert stands(state) == [("pause", 9, "increase")]


def test_neither_does_what_ran_out_while_nobody_ran(state: StateDir) -> None:
    keep(state, outcome())
    assert stands(state, after_s=59.9) == [("pause", 7, "all")]
    assert stands(state, after_s=60.1) == []


def test_nor_what_was_refused_or_is_of_another_account(state: StateDir) -> None:
    keep(state, outcome("refused"))
    assert stands(state) == []
    keep(state, outcome())
    assert begin(state, StillClock(WALL_NS + NS), fresh_account=True).signals == ()


def test_shadows_come_back_as_what_the_settings_make_of_them(state: StateDir) -> None:
    keep(state, outcome("shadow"))
    assert stands(state) == [("pause", 7, "all")]


def test_what_a_source_made_up_is_no_number_in_the_journal(state: StateDir) -> None:
    odd = Outcome("x", "gap", 1 << 70, "refused", "value", 3, "nan", nan, -(1 << 80), inf)
    keep(state, odd)
    with JournalReader(state.journal_path) as journal:
        (row,) = journal.signals(1)
    assert (row.sequence, row.confidence, row.said_ts_ns, row.ttl_s) == (None, None, None, None)
    assert (row.what, row.reason, row.count, row.value) == ("refused", "value", 3, "nan")


def test_a_journal_of_before_has_none(state: StateDir) -> None:
    query(state.journal_path, "DROP TABLE signals")
    query(state.journal_path, "PRAGMA user_version = 4")
    with JournalReader(state.journal_path) as journal:
        assert list(journal.signals(1)) == []
    assert begin(state).signals == ()
    assert query(state.journal_path, "PRAGMA user_version") == [(5,)]
