"""What `export` writes, on journals made by hand: complete, exact to the last digit, and absent where it is absent."""

import csv
import math
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from mmdaemon.core.commands import Amend
from mmdaemon.core.decision import Decision, DecisionInputs, EdgeBreakdown, Quote, QuoteAddends
from mmdaemon.core.events import OperatorAction
from mmdaemon.core.markout import Markout, Watched
from mmdaemon.core.types import E10, GuardState, Instrument, Regime, Side
from mmdaemon.journal import rows
from mmdaemon.journal.recovery import JournalUnreadable
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.statements import Row
from mmdaemon.research.export import Format, export, export_markdown, utc_text
from mmdaemon.research.export_desk import ABSENT, DESK
from mmdaemon.research.export_rows import BATCH_ROWS, ExportRefused
from mmdaemon.research.export_tables import FILLS, TABLES, named
from tests.core.build import inputs
from tests.journal.samples import INSTRUMENT, NS, WALL_NS, begin, bill, fill, place, state_dir, write

ROOT = Path(__file__).resolve().parents[2]
COARSE = Instrument.of(venue="sim", symbol="BTCUSDT", version=2, tick_e10=E10, lot_e10=E10 // 10)
"""Version 2: tick 1, lot 0.1."""
EDGE = EdgeBreakdown(2.0, 0.25, 0.0, 0.0, 0.0, 1.0)
SEEN = inputs(
    bid_px_ticks=9990,
    ask_px_ticks=10010,
    fair_ticks=10000.25,
    regime=Regime.UP,
    band_bps=12.5,
    position_lots=-3,
    equity_e10=5 * E10,
    carry_bps=0.125,
    no_sell="pulled",
)
MADE = Decision(
    (Quote(Side.BUY, 0, 9980, 7, 9970, 9985, QuoteAddends(10000.25, 0.0, -1.0, 0.0, -19.0, 0.0, 0.0, 0.0, -0.25)),),
    *("", "inventory", 9999.0, 10001.0, NS, 40, 9999.25, 10.0, 1.0, EDGE, EDGE),
)
BLIND = msgspec.structs.replace(
    SEEN, bid_px_ticks=0, ask_px_ticks=0, fair_ticks=None, band_bps=0.0, guard=GuardState.SOFT_PAUSE
)
NOTHING = Decision((), "guard", "guard", 0.0, 0.0, NS, 0, 0.0, 0.0, 0.0, EDGE, EDGE)

Cells = list[dict[str, str]]


def parameters(instrument: Instrument = INSTRUMENT) -> bytes:
    """What an export reads of them."""
    return msgspec.msgpack.encode({"instrument": instrument, "of_a_later_version": 1})


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Run 1 has begun, with its parameters and both versions of the instrument."""
    state = state_dir(tmp_path)
    begin(state)
    first = [rows.instrument_row(INSTRUMENT, WALL_NS), rows.instrument_row(COARSE, WALL_NS + 1)]
    write(state.journal_path, [rows.parameters_row(1, parameters()), *first])
    return state.journal_path


def decided(*decisions: tuple[DecisionInputs, Decision]) -> list[Row]:
    chain = DecisionChain(1, parameters())
    encode = msgspec.msgpack.encode
    return [
        chain.row(seq, NS, WALL_NS + seq, seen.guard, seen.regime, encode(seen), encode(made))
        for seq, (seen, made) in enumerate(decisions, 1)
    ]


def exported(journal: Path, out: Path, *tables: str, epoch: int | None = None) -> dict[str, Cells]:
    written = export(journal, out, named(tables), epoch=epoch)
    found: dict[str, Cells] = {}
    for each in written:
        with each.path.open(encoding="utf-8", newline="") as file:
            found[each.table] = list(csv.DictReader(file, strict=True))
        assert len(found[each.table]) == each.rows
    return found


# --- nothing is left out without a word -------------------------------------------------------------------------------


def test_the_page_is_as_generated() -> None:
    page = (ROOT / "docs" / "EXPORT.md").read_text(encoding="utf-8")
    assert page == export_markdown(), "run: python -m mmdaemon.research.export"
    for table in TABLES:
        section = page.split(f"\n## {table.name}\n")[1].split("\n## ")[0]
        for column in table.columns:
            assert f"\n| `{column.name}` | {column.kind} | {column.about} |\n" in section + "\n"


def test_every_column_of_the_journal_is_exported(journal: Path) -> None:
    """A column added to the schema must be added here too."""
    left_out = {"parameters", "checkpoints", "preflights", "prunings", "sqlite_sequence"}
    said = " ".join(column.source for table in TABLES for column in table.columns)
    everywhere = " ".join(f"{table.source} {table.instrument} {table.order}" for table in TABLES)
    with closing(sqlite3.connect(journal)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")} - left_out
        for name in tables - {"decisions", "meta", "digests"}:
            table = next(table for table in TABLES if table.source.split()[0] == name)
            there = " ".join(column.source for column in table.columns).translate(str.maketrans("(),", "   ")).split()
            for column in db.execute(f"SELECT name FROM pragma_table_xinfo('{name}')"):
                assert column[0] in there, f"{name}.{column[0]} is not exported"
    assert "digests" in everywhere
    for column in ("digest", "events", "decisions", "chain", "bot_tag", "venue", "symbol"):
        assert column in said


def test_every_field_of_a_decision_is_exported() -> None:
    paths = {column.source for table in TABLES if table.unfold for column in table.columns}
    ends = {path.split(".")[-1] for path in paths}
    for record in (DecisionInputs, Decision, Quote, EdgeBreakdown, QuoteAddends):
        for name in record.__struct_fields__:
            assert name in ends | {"quotes", "buy_edge", "sell_edge", "addends"}, f"{record.__name__}.{name}"
    assert {f"made.{side}_edge.{name}" for side in ("buy", "sell") for name in EdgeBreakdown.__struct_fields__} <= paths


@pytest.mark.parametrize("name", DESK)
def test_each_column_of_the_desk_is_there_or_said_to_be_absent(name: str) -> None:
    (table,) = named((name,))
    ours = {column.name for column in table.columns}
    assert set(DESK[name]) - ours == set(ABSENT[name])
    assert all(ABSENT[name].values())
    assert [column.name for column in table.columns] == list(dict.fromkeys(column.name for column in table.columns))


def test_names_of_tables() -> None:
    assert named(()) == TABLES
    assert [table.name for table in named(("bills", "fills"))] == ["fills", "bills"]
    with pytest.raises(ExportRefused, match=r"no table minute; there are fills, markouts, minutes"):
        named(("minute",))


# --- exact ------------------------------------------------------------------------------------------------------------


def test_a_fill_in_the_terms_of_its_own_version(journal: Path, tmp_path: Path) -> None:
    coarse = rows.fill_row(1, 9, fill("t2", "o2", Side.SELL, px_ticks=101, qty_lots=3, fee_e10=-9), COARSE, None)
    write(journal, [rows.fill_row(1, 8, fill(venue_ts_ns=WALL_NS - 1), INSTRUMENT, 1001), coarse])
    first, second = exported(journal, tmp_path / "out", "fills")["fills"]
    shown = ("epoch", "seq", "side", "price", "amount_base", "notional_quote", "fee_quote", "mark_price")
    assert [first[name] for name in shown] == ["1", "8", "buy", "100", "0.005", "0.5", "0.0000000007", "100.1"]
    assert [second[name] for name in shown] == ["1", "9", "sell", "101", "0.3", "30.3", "-0.0000000009", ""]
    assert (first["ts_ns"], first["ts"]) == (str(WALL_NS), utc_text(WALL_NS))
    assert (first["venue_ts_ns"], second["venue_ts_ns"], second["venue_ts"]) == (str(WALL_NS - 1), "", "")
    assert (first["order_id"], first["is_maker"], first["state"]) == ("mmabcd-1-1", "true", "starting")


def test_times_keep_their_last_nanosecond() -> None:
    assert utc_text(1_767_225_600 * NS + 1) == "2026-01-01T00:00:00.000000001Z"
    assert utc_text(1_767_225_600 * NS - 1) == "2025-12-31T23:59:59.999999999Z"


def test_money_is_exact_where_a_double_is_not(journal: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    big = 2**62 + 1
    write(journal, [rows.bill_row(1, 3, bill("b1", amount_e10=big), "sim"), rows.bill_row(1, 4, bill("b2"), "sim")])
    amounts = [row["amount_quote"] for row in exported(journal, tmp_path / "csv", "bills")["bills"]]
    assert amounts == ["461168601.8427387905", "-0.0000000003"]
    (written,) = export(journal, tmp_path / "parquet", named(("bills",)), form=Format.PARQUET)
    assert [str(row["amount_quote"]) for row in pq.read_table(written.path).to_pylist()] == [
        "461168601.8427387905",
        "-3E-10",
    ]


def test_a_price_of_more_digits_than_the_default_context_has(journal: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    far = 2**62 - 1
    odd = Instrument.of(venue="sim", symbol="BTCUSDT", version=3, tick_e10=E10 - 1, lot_e10=E10)
    write(journal, [rows.instrument_row(odd, WALL_NS), rows.fill_row(1, 3, fill(), odd, far)])
    (row,) = exported(journal, tmp_path / "csv", "fills")["fills"]
    whole, part = divmod(far * (E10 - 1), E10)
    assert row["mark_price"] == f"{whole}.{part}"
    (written,) = export(journal, tmp_path / "parquet", (FILLS,), form=Format.PARQUET)
    assert pq.read_table(written.path).column("mark_price").to_pylist() == [Decimal(f"{whole}.{part}")]


def test_state_of_a_fill_is_the_one_it_found(journal: Path, tmp_path: Path) -> None:
    """The move that a fill causes has its number, and is after it."""
    pause, run = GuardState.SOFT_PAUSE, GuardState.RUNNING
    write(
        journal,
        [
            rows.transition_row(1, 5, NS, WALL_NS, GuardState.RECONCILING, run, []),
            rows.fill_row(1, 8, fill("t1"), INSTRUMENT, None),
            rows.transition_row(1, 8, NS, WALL_NS, run, pause, ["fills"]),
            rows.fill_row(1, 9, fill("t2"), INSTRUMENT, None),
        ],
    )
    assert [row["state"] for row in exported(journal, tmp_path / "out", "fills")["fills"]] == ["running", "soft_pause"]


def test_markouts_are_shown_to_a_millionth_of_a_bp(journal: Path, tmp_path: Path) -> None:
    seen = Watched("t1", Side.SELL, Regime.DOWN, 7, 1000.25, 1001, 5, 2.0, True)
    closed = [Markout(seen, 1, 999.123456789), Markout(seen, 5, None)]
    write(journal, [rows.markout_row(1, 9, WALL_NS, each) for each in closed])
    first, second = exported(journal, tmp_path / "out", "markouts")["markouts"]
    names = ("trade_id", "horizon_s", "regime", "side", "fair0_ticks", "fair_ticks", "effective_bps", "impact_bps")
    assert [first[name] for name in names] == [
        *("t1", "1", "down", "sell", "1000.25", "999.123456789", "7.498125", "11.262616"),
    ]
    assert [second[name] for name in names] == ["t1", "5", "down", "sell", "1000.25", "", "7.498125", ""]


# --- absent -----------------------------------------------------------------------------------------------------------


def test_absent_is_empty_and_empty_text_is_quoted(journal: Path, tmp_path: Path) -> None:
    awkward = 'he said "stop",\nand left'
    action = OperatorAction(NS, WALL_NS, None, "pause", awkward, "")
    write(journal, [rows.operator_row(1, None, action, "refused"), *rows.intent_rows(1, 7, place("o1"), WALL_NS)])
    write(journal, rows.intent_rows(1, 8, Amend("o1", 1, 999, 5), WALL_NS))
    out = tmp_path / "out"
    found = exported(journal, out, "operator_actions", "intents")
    (said,) = found["operator_actions"]
    assert (said["reason"], said["seq"], said["who"]) == (awkward, "", "")
    assert (out / "operator_actions.csv").read_text(encoding="utf-8").splitlines()[-1].endswith(',"",refused')
    placed, amended = found["intents"]
    assert (placed["side"], placed["post_only"], placed["ioc"], placed["level"]) == ("buy", "true", "false", "0")
    assert [amended[name] for name in ("side", "purpose", "level", "post_only", "reduce_only", "ioc")] == [""] * 6
    assert (amended["revision"], amended["price"], amended["amount_base"]) == ("1", "99.9", "0.005")


def test_a_decision_without_book_or_quotes_has_no_figures_for_them(journal: Path, tmp_path: Path) -> None:
    write(journal, decided((SEEN, MADE), (BLIND, NOTHING)))
    found = exported(journal, tmp_path / "out", "decisions", "quotes")
    quoting, blind = found["decisions"]
    unknown = (
        *("best_bid_price", "best_ask_price", "fair_ticks", "band_bps", "reservation_ticks", "half_bps"),
        *("holds_from_ticks", "holds_to_ticks", "max_position_base"),
    )
    expected = ["999", "1001", "10000.25", "12.5", "9999.25", "10.0", "9999.0", "10001.0", "0.04"]
    assert [quoting[name] for name in unknown] == expected
    assert [blind[name] for name in unknown] == [""] * len(unknown)
    assert (quoting["bids"], quoting["asks"], quoting["no_ask"], blind["no_bid"]) == ("1", "0", "inventory", "guard")
    assert (quoting["position_base"], quoting["equity_quote"], quoting["carry_bps"]) == ("-0.003", "5", "0.125")
    assert (quoting["buy_maker_fee_bps"], quoting["sell_exit_bps"]) == ("2.0", "0.25")
    (quote,) = found["quotes"]
    assert (quote["seq"], quote["side"], quote["price"], quote["amount_base"]) == ("1", "buy", "998", "0.007")
    assert sum(float(quote[f"{name}_ticks"]) for name in QuoteAddends.__struct_fields__) == int(quote["px_ticks"])


def test_what_is_not_a_number_is_absent(journal: Path, tmp_path: Path) -> None:
    write(journal, decided((msgspec.structs.replace(SEEN, carry_bps=math.nan), MADE)))
    (row,) = exported(journal, tmp_path / "out", "decisions")["decisions"]
    assert row["carry_bps"] == ""
    assert "nan" not in (tmp_path / "out" / "decisions.csv").read_text(encoding="utf-8").lower()


def test_a_run_without_a_row_gives_tables_with_headers(journal: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for form in Format:
        for written in export(journal, tmp_path / form, form=form):
            (table,) = named((written.table,))
            names = [column.name for column in table.columns]
            if form is Format.CSV:
                assert written.path.read_text(encoding="utf-8").splitlines()[0].split(",") == names
            else:
                read = pq.read_table(written.path)
                assert (read.column_names, read.num_rows) == (names, written.rows)
            assert written.rows == {"runs": 1, "instruments": 2}.get(written.table, 0)


# --- one moment, much of it, and refusals -----------------------------------------------------------------------------


def test_all_tables_are_of_one_moment(journal: Path, tmp_path: Path) -> None:
    write(journal, [rows.fill_row(1, 8, fill("t1"), INSTRUMENT, None), rows.bill_row(1, 9, bill("b1"), "sim")])
    wrote: list[str] = []

    def meanwhile(table: str, _done: int, _of: int) -> None:
        if not wrote and table == "fills":
            wrote.append(table)
            write(journal, [rows.fill_row(1, 10, fill("t2"), INSTRUMENT, None), rows.bill_row(1, 9, bill("b2"), "sim")])

    written = export(journal, tmp_path / "out", named(("fills", "bills")), progress=meanwhile)
    assert wrote == ["fills"]
    assert [each.rows for each in written] == [1, 1]
    assert [each.rows for each in export(journal, tmp_path / "later", named(("fills", "bills")))] == [2, 2]


def test_more_rows_than_a_batch(journal: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    many = 2 * BATCH_ROWS + 3
    write(journal, (rows.fill_row(1, i, fill(f"t{i}", fee_e10=i), INSTRUMENT, None) for i in range(many)))
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    export(journal, out, (FILLS,), form=Format.PARQUET, progress=lambda _table, done, of: seen.append((done, of)))
    assert seen == [(0, many), (BATCH_ROWS, many), (2 * BATCH_ROWS, many), (many, many)]
    table = pq.read_table(out / "fills.parquet")
    assert table.column("seq").to_pylist() == list(range(many))
    assert sum(table.column("fee_quote").to_pylist()) * E10 == many * (many - 1) // 2


@pytest.mark.parametrize("form", Format)
def test_two_exports_of_one_journal_are_the_same_bytes(journal: Path, tmp_path: Path, form: Format) -> None:
    write(journal, [rows.fill_row(1, 8, fill(), INSTRUMENT, None), *decided((SEEN, MADE))])
    for name in ("a", "b"):
        export(journal, tmp_path / name, form=form)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted([*(f"{table.name}.{form}" for table in TABLES), "export.json"])
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def only(journal: Path, sql: str) -> None:
    with closing(sqlite3.connect(journal)) as db, db:
        assert db.execute(sql).rowcount


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        ("DELETE FROM parameters", ExportRefused, "run 1 has no parameters"),
        ("UPDATE parameters SET params = x'c1'", JournalUnreadable, "cannot be read to the end"),
        ("DELETE FROM instruments WHERE version = 2", ExportRefused, "instrument version 2 is missing"),
        ("UPDATE decisions SET inputs = x'90'", ExportRefused, r"decision \(run 1, seq 1\) was written by another"),
        ("UPDATE fills SET side = 5", JournalUnreadable, "5 is not a valid Side"),
        ("DELETE FROM runs", JournalUnreadable, "has no run"),
    ],
)
def test_what_cannot_be_told_exactly_is_refused_and_leaves_nothing(
    journal: Path, tmp_path: Path, spoil: str, error: type[Exception], says: str
) -> None:
    write(journal, [rows.fill_row(1, 8, fill(), COARSE, None), *decided((SEEN, MADE))])
    only(journal, spoil)
    out = tmp_path / "out"
    for form in Format:
        with pytest.raises(error, match=says):
            export(journal, out, form=form)
        assert not out.exists()


def test_what_needs_no_price_is_exported_without_parameters(journal: Path, tmp_path: Path) -> None:
    only(journal, "DELETE FROM parameters")
    write(journal, [rows.transition_row(1, 5, NS, WALL_NS, GuardState.STARTING, GuardState.RUNNING, ["a", "b"])])
    (row,) = exported(journal, tmp_path / "out", "transitions")["transitions"]
    assert (row["from_state"], row["state"], row["reasons"]) == ("starting", "running", "a b")


def test_files_that_are_there_are_kept(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    mine = out / "fills.csv"
    mine.write_text("mine")
    with pytest.raises(ExportRefused, match=r"fills\.csv in .* would be overwritten"):
        export(journal, out)
    assert [path.name for path in out.iterdir()] == ["fills.csv"]
    assert mine.read_text() == "mine"
    export(journal, out, force=True)
    assert mine.read_text().startswith("epoch,seq,ts,")
    (out / "bills.parquet").mkdir()
    with pytest.raises(ExportRefused, match="is no file"):
        export(journal, out, form=Format.PARQUET, force=True)


def test_a_failed_export_keeps_the_one_before(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(journal, [rows.fill_row(1, 8, fill(), INSTRUMENT, None)])
    export(journal, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    only(journal, "UPDATE fills SET side = 5")
    with pytest.raises(JournalUnreadable):
        export(journal, out, force=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_without_pyarrow_csv_works_and_parquet_says_what_to_install(
    journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    assert export(journal, tmp_path / "csv")
    with pytest.raises(ExportRefused, match=r"pip install 'mmdaemon\[tapes\]'"):
        export(journal, tmp_path / "parquet", form=Format.PARQUET)
    assert not (tmp_path / "parquet").exists()


def test_a_parquet_file_says_what_it_is(journal: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    (written,) = export(journal, tmp_path / "out", (FILLS,), form=Format.PARQUET)
    schema = pq.read_schema(written.path)
    said = msgspec.json.decode(schema.metadata[b"mmdaemon"])
    assert (said["schema"], said["table"], said["runs"], said["bot_tag"]) == (1, "fills", [1], "abcd")
    assert said["desk_columns_absent"] == ABSENT["fills"]
    types = {field.name: str(field.type) for field in schema}
    assert (types["ts"], types["price"], types["is_maker"]) == ("timestamp[ns, tz=UTC]", "decimal128(38, 10)", "bool")
    listed = msgspec.json.decode((tmp_path / "out" / "export.json").read_bytes())
    assert listed["tables"] == {"fills": {"file": "fills.parquet", "rows": 0}}
    assert listed["desk_columns_absent"] == {"fills": ABSENT["fills"]}
