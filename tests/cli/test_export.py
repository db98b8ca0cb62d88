"""`mmdaemon export` on a real journal: what is in the files is what is in the journal, and the books foot from them."""

import csv
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cyclopts import App

from mmdaemon.cli import ExitCode, Refused
from mmdaemon.cli.main import main
from mmdaemon.core.decision import Decision
from mmdaemon.core.types import E10, GuardState
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.replay import pnl_identity
from mmdaemon.research.export import CsvSink
from mmdaemon.research.export_desk import ABSENT
from mmdaemon.research.export_rows import Kind
from mmdaemon.research.export_tables import TABLES, named
from tests.cli.conftest import Played

Cells = list[dict[str, str]]
UNIT = Decimal(E10)


def run(*arguments: str | Path) -> int:
    """As the command line calls it."""
    app = App()
    app.command("mmdaemon.cli.export:export", name="export")
    code = app(["export", *map(str, arguments)], exit_on_error=False, result_action="return_value")
    assert isinstance(code, int)
    return code


@pytest.fixture(scope="module")
def folder(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both runs, as CSV and as Parquet."""
    out = tmp_path_factory.mktemp("export")
    for form in ("csv", "parquet"):
        assert run("--all", "--format", form, "--out", out / form, "--state-dir", played.path) == 0
    return out


@pytest.fixture
def journal(played: Played) -> Iterator[JournalReader]:
    with JournalReader(played.path / "journal.sqlite") as reader:
        yield reader


def cells(folder: Path, table: str) -> Cells:
    with (folder / "csv" / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def parquet(folder: Path, table: str) -> Any:
    return pytest.importorskip("pyarrow.parquet").read_table(folder / "parquet" / f"{table}.parquet")


def e10(amount: Decimal) -> int:
    assert amount * UNIT == int(amount * UNIT)
    return int(amount * UNIT)


def sign(row: dict[str, str]) -> int:
    return {"buy": 1, "sell": -1}[row["side"]]


# --- the books --------------------------------------------------------------------------------------------------------


def test_the_pnl_identity_from_the_files_alone(folder: Path, played: Played, journal: JournalReader) -> None:
    for epoch in ("1", "2"):
        (account,) = [row for row in cells(folder, "runs") if row["epoch"] == epoch]
        fills = [row for row in cells(folder, "fills") if row["account_epoch"] == epoch]
        bills = [row for row in cells(folder, "bills") if row["account_epoch"] == epoch]
        marks = [(int(row["ts_ns"]), row["mark_price"]) for row in (*cells(folder, "minutes"), *fills)
                 if row["epoch"] == epoch and row["mark_price"]]  # fmt: skip
        cash = -sum((sign(row) * Decimal(row["notional_quote"]) for row in fills), Decimal(0))
        fees = sum((Decimal(row["fee_quote"]) for row in fills), Decimal(0))
        ledger = sum((Decimal(row["amount_quote"]) for row in bills), Decimal(0))
        position = sum((sign(row) * Decimal(row["amount_base"]) for row in fills), Decimal(0))
        value = position * Decimal(max(marks)[1])
        there = pnl_identity(played.path / "journal.sqlite", account_epoch=int(epoch))
        assert len(fills) == there.fills
        assert len(bills) == there.bills
        assert e10(cash) == there.cash_flow_e10
        assert e10(fees) == there.fees_e10
        assert e10(ledger) == there.funding_e10 + there.fee_bills_e10 + there.transfers_e10
        assert e10(value) == there.value_e10
        assert e10(Decimal(account["start_quote"]) + cash - fees + ledger + value) == there.equity_e10
        (last,) = [row for row in cells(folder, "minutes") if row["epoch"] == epoch][-1:]
        assert Decimal(last["fills_count"]) <= len(fills)
    assert len(cells(folder, "fills")) > 50


def test_sums_of_parquet_columns_are_the_journals(folder: Path, journal: JournalReader) -> None:
    compute = pytest.importorskip("pyarrow.compute")
    fills = parquet(folder, "fills")
    totals = [*journal.side_totals(1), *journal.side_totals(2)]
    for name, exact in (
        ("fee_quote", sum(total.fee_e10 for total in totals)),
        ("notional_quote", sum(total.notional_e10 for total in totals)),
    ):
        assert e10(compute.sum(fills.column(name)).as_py()) == exact


def test_minutes_foot(folder: Path) -> None:
    """The addends of equity, as docs/CONTRACTS.md has them."""
    starts = {row["epoch"]: Decimal(row["start_quote"]) for row in cells(folder, "runs")}
    rows = cells(folder, "minutes")
    for row in rows:
        plus = ("spread_quote", "inventory_quote", "impact_quote", "funding_quote", "transfers_quote")
        total = sum(Decimal(row[name]) for name in plus) - Decimal(row["fees_quote"])
        assert Decimal(row["equity_quote"]) - starts[row["epoch"]] == total
    assert {row["own_bid_price"] != "" for row in rows} == {True, False}


# --- whole ------------------------------------------------------------------------------------------------------------


def test_every_row_of_the_journal_is_there(folder: Path, journal: JournalReader) -> None:
    for table in TABLES:
        rows = cells(folder, table.name)
        name = table.source.split()[0]
        (count,) = journal.db.execute(f"SELECT count(*) FROM {name}").fetchone()
        if table.name == "quotes":
            decoded = (
                msgspec.msgpack.decode(row.decision, type=Decision) for e in (1, 2) for row in journal.decisions(e)
            )
            count = sum(len(made.quotes) for made in decoded)
        assert len(rows) == count == parquet(folder, table.name).num_rows
        assert all(None not in row.values() and None not in row for row in rows)
        assert count or table.name == "breaks"
    said = msgspec.json.decode((folder / "csv" / "export.json").read_bytes())
    assert said["runs"] == [1, 2]
    assert {name: each["rows"] for name, each in said["tables"].items()} == {
        table.name: len(cells(folder, table.name)) for table in TABLES
    }


@pytest.mark.parametrize("name", [table.name for table in TABLES])
def test_csv_and_parquet_say_the_same(folder: Path, name: str) -> None:
    (table,) = named((name,))
    told = parquet(folder, name)
    for column in table.columns:
        texts = [row[column.name] for row in cells(folder, name)]
        if column.kind is Kind.TIME:
            continue  # `*_ns` beside it is the same integer; checked below
        for text, value in zip(texts, told.column(column.name).to_pylist(), strict=True):
            if value is None:
                assert text == ""
            elif column.kind.is_decimal:
                assert Decimal(text) == value
            elif column.kind is Kind.FLOAT:
                assert float(text) == value
            else:
                assert text == (str(value).lower() if isinstance(value, bool) else str(value))
    for column in (column.name for column in table.columns if column.kind is Kind.TIME):
        assert told.column(column).cast("int64").to_pylist() == told.column(f"{column}_ns").to_pylist()


def test_decisions_are_those_that_were_journaled(folder: Path, journal: JournalReader) -> None:
    quotes: dict[tuple[str, str], Cells] = {}
    for row in cells(folder, "quotes"):
        quotes.setdefault((row["epoch"], row["seq"]), []).append(row)
        addends = [float(row[name]) for name in row if name.endswith("_ticks") and name != "px_ticks"]
        assert abs(sum(addends) - int(row["px_ticks"])) < 1e-6
    tick = Decimal(cells(folder, "instruments")[0]["tick"])
    rows = [row for row in cells(folder, "decisions") if row["epoch"] == "1"]
    for row, there in zip(rows, journal.decisions(1), strict=True):
        made = msgspec.msgpack.decode(there.decision, type=Decision)
        assert (int(row["seq"]), row["chain"], row["state"]) == (there.seq, there.chain.hex(), there.guard)
        assert (row["no_bid"], row["no_ask"]) == (made.no_bid, made.no_ask)
        shown = [Decimal(quote["price"]) for quote in quotes.get((row["epoch"], row["seq"]), [])]
        assert shown == [quote.px_ticks * tick for quote in made.quotes]
        quoting = row["state"] in {"running", "reducing"}
        assert (
            (row["half_bps"] != "") == quoting == (row["reservation_ticks"] != "") == (row["max_position_base"] != "")
        )


def test_fills_have_the_guard_they_met(folder: Path, journal: JournalReader) -> None:
    moves = journal.transitions(1)
    for row in (row for row in cells(folder, "fills") if row["epoch"] == "1"):
        before = [move.to_state for move in moves if move.seq < int(row["seq"])]
        assert row["state"] == (before[-1] if before else GuardState.STARTING)


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_one_run_and_the_last_one(played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, epochs in (((), {"2"}), (("--run", "1"), {"1"}), (("--all",), {"1", "2"})):
        out = tmp_path / f"out{len(epochs)}{min(epochs)}"
        assert run("minutes", "runs", *arguments, "--out", out, "--state-dir", played.path) == 0
        for name in ("minutes", "runs"):
            with (out / f"{name}.csv").open(encoding="utf-8", newline="") as file:
                assert {row["epoch"] for row in csv.DictReader(file)} == epochs
        assert sorted(path.name for path in out.iterdir()) == ["export.json", "minutes.csv", "runs.csv"]
    said = capsys.readouterr().out
    assert "run 2 in" in said
    assert "all runs in" in said
    assert f"{len(ABSENT['minutes'])} columns of the desk's are not there" in said


def test_what_is_not_there(played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run("--run", "7", "--out", out, "--state-dir", played.path) == 1
    assert "there is no run 7; runs are 1-2" in capsys.readouterr().out
    assert run("--out", out, "--state-dir", tmp_path / "elsewhere") == 1
    assert "no journal at" in capsys.readouterr().out
    with pytest.raises(Refused, match="there is no table trades; there are fills, ") as refused:
        run("trades", "--out", out, "--state-dir", played.path)
    assert refused.value.code is ExitCode.USAGE
    with pytest.raises(Refused, match="give one"):
        run("--run", "1", "--all", "--out", out, "--state-dir", played.path)
    assert not out.exists()


def test_files_are_written_over_only_when_told(played: Played, tmp_path: Path) -> None:
    arguments = ("fills", "--out", tmp_path, "--state-dir", played.path)
    assert run(*arguments) == 0
    with pytest.raises(Refused, match=r"fills\.csv, export\.json in .* would be overwritten.*--force"):
        run(*arguments)
    assert run(*arguments, "--force") == 0


def test_a_folder_that_cannot_be_made(played: Played, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="cannot be written") as refused:
        run("--out", tmp_path / "file" / "below", "--state-dir", played.path)
    assert refused.value.code is ExitCode.USAGE


def test_a_damaged_journal_leaves_nothing(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "journal.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'minutes'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    out = tmp_path / "not" / "there" / "yet"
    assert run("--out", out, "--state-dir", copied) == 1
    assert "NOT EXPORTED: journal" in capsys.readouterr().out
    assert not (tmp_path / "not").exists()
    assert run("fills", "--out", out, "--state-dir", copied) == 0


def test_an_export_that_is_stopped_leaves_nothing(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CsvSink, "close", lambda _self: signal.raise_signal(signal.SIGTERM))
    assert main(["export", "--out", str(tmp_path / "out"), "--state-dir", str(played.path)]) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_the_list_needs_no_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--list", "--state-dir", tmp_path / "none") == 0
    said = capsys.readouterr().out
    for table in TABLES:
        assert f"{table.name}: {table.about}\n  {', '.join(column.name for column in table.columns)}\n" in said
    for name, absent in ABSENT.items():
        assert f"columns of {name}, {len(absent)} are not there" in said
        assert all(f"  {column}" in said and why in said for column, why in absent.items())
    assert "order_book_stale" in said


def test_the_verb_starts_without_pyarrow() -> None:
    code = "import sys, mmdaemon.cli.export; sys.exit('pyarrow' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
