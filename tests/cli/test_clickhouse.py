"""docs/CLICKHOUSE.md: its SQL on an embedded ClickHouse, with the exports of two bots, against their journals.

chdb is no dependency of ours: `pip install chdb` to run what is skipped without it.
"""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from mmdaemon.journal.backup_sums import Sums, sums_of
from mmdaemon.research.export import Format, export
from mmdaemon.research.export_tables import named
from tests.cli.conftest import Played

PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "CLICKHOUSE.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
UNIT: Final = 10**10


def statements(block: str) -> list[str]:
    return [each.strip() for each in block.split(";\n") if each.strip()]


def test_the_page_loads_tables_that_there_are_by_keys_that_they_have() -> None:
    made = re.findall(r"CREATE TABLE IF NOT EXISTS desk\.(\w+) .*?ORDER BY \((.*?)\)", BLOCKS[0], flags=re.DOTALL)
    assert len(made) == 5
    for name, key in made:
        (table,) = named((name,))
        assert set(key.split(", ")) <= {"bot"} | {column.name for column in table.columns}
        assert f"INSERT INTO desk.{name} SELECT" in BLOCKS[1]
        assert PAGE.count(f"file('exports/*/{name}.parquet', Parquet)") == 2


def one_fill_less(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    with closing(sqlite3.connect(target / "journal.sqlite")) as db, db:
        db.execute("DELETE FROM fills WHERE rowid = (SELECT max(rowid) FROM fills)")
    return target


def come_to(state: Path) -> Sums:
    with closing(sqlite3.connect(state / "journal.sqlite")) as db:
        return sums_of(db)


@pytest.mark.timeout(300)
def test_two_bots_loaded_twice_come_to_their_journals(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = pytest.importorskip("chdb.session", reason="chdb is not installed")
    bots = {"anna": played.path, "bert": one_fill_less(played.path, tmp_path / "bert")}
    for bot, state in bots.items():
        export(state / "journal.sqlite", tmp_path / "exports" / bot, form=Format.PARQUET)
    monkeypatch.chdir(tmp_path)
    session = sessions.Session(str(tmp_path / "clickhouse"))
    try:

        def ask(sql: str) -> list[dict[str, Any]]:
            text = str(session.query(sql, "JSONEachRow"))
            return [json.loads(line, parse_float=Decimal) for line in text.splitlines()]

        for sql in (*statements(BLOCKS[0]), *2 * statements(BLOCKS[1]), *statements(BLOCKS[2])):
            session.query(sql)
        found = {(row["bot"], int(row["account_epoch"])): row for row in ask("SELECT * FROM desk.pnl")}
        for bot, state in bots.items():
            for account in come_to(state).accounts:
                row = found.pop((bot, account.account_epoch))
                assert int(row["fills"]) == account.fills
                assert Decimal(row["fees"]) * UNIT == account.fees_e10
                assert Decimal(row["funding"]) * UNIT == account.funding_e10
                assert Decimal(row["transfers"]) * UNIT == account.transfers_e10
                assert account.pnl_e10 is not None
                assert Decimal(row["pnl"]) * UNIT == account.pnl_e10, "to the last digit"
        assert found == {}
        (markouts, minutes) = (ask(statements(block)[0]) for block in BLOCKS[3:])
        with closing(sqlite3.connect(played.path / "journal.sqlite")) as db:
            known = "SELECT count(*) FROM markouts WHERE horizon_s = 5 AND impact_bps IS NOT NULL"
            (of_five,) = db.execute(known).fetchone()
            (samples,) = db.execute("SELECT count(*) FROM minutes").fetchone()
        assert sum(int(row["fills"]) for row in markouts if row["bot"] == "anna") == of_five > 10
        assert sum(int(row["minutes"]) for row in minutes if row["bot"] == "bert") == samples > 10
    finally:
        session.close()
