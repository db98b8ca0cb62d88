"""The table of `rows.py`, played: what a daemon does while its venue and its network go wrong. See `faults.py`.

`python -m tests.emulated.test_faults` plays all and writes docs/VENUES_FAULTS.md with what was seen; with ids of rows
after it, it plays those.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mmdaemon.venues.emulator.wrong import FAULTS, Wrong
from tests.emulated import rows
from tests.emulated.build import Kind
from tests.emulated.faults import Outcome, Row, play_all
from tests.test_faults import rows as catalogue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "VENUES_FAULTS.md"
SECTIONS: Mapping[str, Sequence[Row]] = {
    "Requests that do not arrive, or are refused": rows.REQUESTS,
    "Answers that are lost, late, false or no answers": rows.ANSWERS,
    "Frames of the market": rows.MARKET,
    "Frames of the account": rows.ACCOUNT,
    "Sockets": rows.SOCKETS,
    "What somebody else does": rows.OTHERS,
}
UNPLAYED: Mapping[Wrong, str] = {}
"""Kinds that no row injects, and why."""


def hurried(patch: pytest.MonkeyPatch) -> None:
    """What is read each minute or each hour, read every three seconds."""
    patch.setattr("mmdaemon.daemon.guard._FACTS_EVERY_NS", 3_000_000_000)
    patch.setattr("mmdaemon.daemon.cost._FEES_EVERY_NS", 3_000_000_000)


@pytest.mark.timeout(600)
def test_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried(monkeypatch)
    outcomes = play_all(rows.ROWS, tmp_path)
    failed = [f"{name} {kind}: {what}" for (name, kind), what in outcomes.items() if isinstance(what, str)]
    assert not failed, "\n\n".join(failed)


# --- the table --------------------------------------------------------------------------------------------------------


def test_each_kind_of_fault_has_a_row() -> None:
    injected = {each.kind for row in rows.ROWS for each in row.inject}
    assert set(FAULTS) - injected == set(UNPLAYED)


def test_the_table_is_whole() -> None:
    ids = [row.id for row in rows.ROWS]
    assert len(ids) == len(set(ids)) >= 45
    assert sum(len(row.kinds) == 2 for row in rows.ROWS) >= 10
    assert [row for table in SECTIONS.values() for row in table] == [*rows.ROWS]
    test = f"`emulated/{Path(__file__).name}::{test_every_row.__name__}`"
    told = {cells[0] for _, cells in catalogue() if test in cells[4].split("<br>")}
    assert {name for row in rows.ROWS for name in row.catalogue.split()} == told


def test_the_page_is_made_from_the_table() -> None:
    there = [line.split(" | ")[:5] for line in PAGE.read_text(encoding="utf-8").splitlines() if _is_row(line)]
    assert there == [_cells(row) for table in SECTIONS.values() for row in table]


def _is_row(line: str) -> bool:
    return line.startswith("| ") and not line.startswith(("| id ", "| --- "))


def _cells(row: Row) -> list[str]:
    return [f"| {row.id}", row.catalogue, "; ".join(map(str, row.inject)), " ".join(row.kinds), row.must]


def markdown(outcomes: Mapping[tuple[str, Kind], Outcome | str]) -> str:
    """The text of the page."""
    lines = [
        "# Faults on the wire",
        "",
        "The real ccxt.pro client over loopback TCP at the emulator of Bitget's protocol (`mmdaemon emulator`), which",
        "does each of these wrong while the daemon makes a market with a position. Nothing here was seen at the",
        "exchange itself. Made by `python -m tests.emulated.test_faults`, which plays the table",
        "(`tests/emulated/rows.py`); `emulated/test_faults.py::test_every_row` plays it in CI and names each row that",
        "fails. Kinds of faults: `mmdaemon/venues/emulator/wrong.py`; the second column has the ids of",
        "[FAULTS.md](FAULTS.md).",
        "",
        "Of each row it is asserted that the daemon traded before, that the fault happened, what the row says, that",
        "it trades again within 40 s (quotes on both sides, both links up, a new order and a new fill), or has stopped",
        "for good with nothing resting where that is right, and that a clean stop leaves nothing on the venue and a",
        "journal that is the venue's own record, fill by fill, wallet and position to the last digit. All the while",
        "the invariants of the simulation ([INVARIANTS.md](INVARIANTS.md)) are evaluated at the venue's own truth, and",
        "those of the wire (`tests/emulated/invariants.py`): none was broken.",
        "",
        "What was seen, of the last run that wrote this page: states that the guard went through and its reasons,",
        "links that went down, connections made anew, orders that became UNKNOWN and what they ended as (*open*: found",
        "and still open), fills before and from the fault on, and how long after the fault's end it was over.",
    ]
    for title, table in SECTIONS.items():
        lines += ["", f"## {title}", ""]
        lines += ["| id | catalogue | injected | account | must | seen |", "| --- | --- | --- | --- | --- | --- |"]
        for row in table:
            seen = "<br>".join(f"{kind}: {_seen(outcomes[row.id, kind])}" for kind in row.kinds)
            lines.append(f"{' | '.join(_cells(row))} | {seen} |")
    return "\n".join(lines) + "\n"


def _seen(outcome: Outcome | str) -> str:
    if isinstance(outcome, str):
        return "**FAILED**"
    words = ["→".join(outcome.states) + (f" ({' '.join(outcome.reasons)})" if outcome.reasons else "")] * bool(
        outcome.states
    )
    words += [f"{' and '.join(outcome.links)} down"] * bool(outcome.links)
    words += [f"{outcome.connections} connections"] * bool(outcome.connections)
    became = ", ".join(f"{count} {status}" for status, count in sorted(outcome.became.items()))
    words += [f"{outcome.unknown} UNKNOWN: {became}"] * bool(outcome.unknown)
    words.append(f"fills {outcome.fills[0]} + {outcome.fills[1]}")
    words.append(f"{outcome.recovered_s:.1f} s")
    return "; ".join(words)


def main(wanted: Sequence[str]) -> int:
    table = [row for row in rows.ROWS if not wanted or row.id in wanted]
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        hurried(patch)
        outcomes = play_all(table, Path(folder))
    for (name, kind), outcome in outcomes.items():
        sys.stdout.write(f"{name} {kind}: {outcome if isinstance(outcome, str) else _seen(outcome)}\n")
    if not wanted:
        PAGE.write_text(markdown(outcomes), encoding="utf-8")
    return int(any(isinstance(outcome, str) for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
