"""The desk's columns that follow from the journal, counted again by hand; the book as stale as the guard found it."""

import csv
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from mmdaemon.core.guard import is_book_healthy
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import NS
from mmdaemon.journal.reader import JournalReader
from mmdaemon.research.export import export
from mmdaemon.research.export_tables import named
from mmdaemon.venues.simulated.faults import FaultKind
from tests.cli.conftest import Played
from tests.daemon.build import World, busy, run_world

DAY_NS = 86_400 * NS


def exported(journal: Path, out: Path, table: str) -> list[dict[str, str]]:
    export(journal, out, named((table,)))
    with (out / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_minutes_have_the_bot_the_cancels_and_the_reasons_of_the_guard(played: Played, tmp_path: Path) -> None:
    rows = exported(played.path / "journal.sqlite", tmp_path, "minutes")
    with JournalReader(played.path / "journal.sqlite") as journal:
        cancels = [ts_ns for (ts_ns,) in journal.db.execute("SELECT ts_ns FROM cancels")]
        transitions = journal.transitions(1)
    seen = 0
    for row in rows:
        now_ns, run, seq = int(row["ts_ns"]), int(row["epoch"]), int(row["seq"])
        assert row["bot_variant"] == "test"
        assert row["accounting_source"] == "journal"
        sent = sum(now_ns - 60 * NS < ts_ns <= now_ns for ts_ns in cancels)
        assert int(row["cancel_per_min"]) == sent
        seen += sent
        if run == 1:
            held = [each.reasons for each in transitions if each.seq <= seq][-1]
            assert row["risk_reasons"] == held
            assert row["soft_pause_edge"] == ("true" if "edge" in held.split() else "false")
    assert seen > 20
    assert len({row["risk_reasons"] for row in rows}) > 1


def test_today_is_what_came_since_utc_midnight(copied: Path, tmp_path: Path) -> None:
    """The run is moved so that midnight falls into it; its second account begins anew."""
    path = copied / "journal.sqlite"
    with JournalReader(path) as journal:
        stamps = [minute.ts_ns for minute in journal.minutes(1)]
    by_ns = stamps[len(stamps) // 2] // DAY_NS * DAY_NS + DAY_NS - stamps[len(stamps) // 2]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE minutes SET ts_ns = ts_ns + ?", (by_ns,))
    export(path, tmp_path, named(("minutes",)), epoch=None)
    with (tmp_path / "minutes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    first = [row for row in rows if row["epoch"] == "1"]
    before = [row for row in first if int(row["ts_ns"]) // DAY_NS == int(first[0]["ts_ns"]) // DAY_NS]
    after = first[len(before) :]
    assert len(before) > 3
    assert len(after) > 3
    zero = {"fills_count": "0", "fees_quote": "0", "funding_quote": "0", "turnover_quote": "0"}
    for begin, those in ((zero, before), (before[-1], after)):
        for row in those:
            assert int(row["fills_count_today"]) == int(row["fills_count"]) - int(begin["fills_count"])
            for today, total, sign in (
                ("fees_paid_today_quote", "fees_quote", 1),
                ("funding_cost_today_quote", "funding_quote", -1),
            ):
                assert Decimal(row[today]) == sign * (Decimal(row[total]) - Decimal(begin[total]))
            turned = Decimal(row["turnover_quote"]) - Decimal(begin["turnover_quote"])
            assert float(row["turnover_today_x"]) == pytest.approx(float(turned / Decimal(row["equity_quote"])))
    assert int(after[-1]["fills_count_today"]) < int(after[-1]["fills_count"])
    second = [row for row in rows if row["epoch"] == "2"]
    assert [row["fills_count_today"] for row in second] == [row["fills_count"] for row in second]


def test_the_exported_book_is_as_stale_as_the_one_the_guard_used(tmp_path: Path) -> None:
    """The feed freezes over a minute's sample. What is exported is the guard's own judgement of that very step."""

    async def script(world: World) -> list[tuple[int, bool]]:
        judged: dict[int, bool] = {}
        on_step = world.parts.controller._on_step

        def watched(event: object, step: object) -> None:
            state = world.state
            assert is_book_healthy(state) is (not state.guard.raw & BIT[Reason.BOOK])
            judged[state.seq] = not is_book_healthy(state)
            on_step(event, step)  # type: ignore[arg-type]

        world.parts.controller._on_step = watched
        await world.trade(60)
        world.venue.inject(FaultKind.BOOK_FROZEN, 130.0)
        await world.sleep(300)
        await world.stop()
        return sorted(judged.items())

    path = tmp_path / "state"
    judged = dict(run_world(script, path, busy()))
    rows = exported(path / "journal.sqlite", tmp_path / "out", "minutes")
    stale = {int(row["seq"]): row["order_book_stale"] == "true" for row in rows}
    assert {seq: judged[seq] for seq in stale if seq in judged} == {seq: stale[seq] for seq in stale if seq in judged}
    assert len(stale.keys() & judged.keys()) > 4
    assert 2 <= sum(stale.values()) < len(stale) - 1
