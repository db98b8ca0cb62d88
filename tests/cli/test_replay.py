"""`replay --verify` on a real journal, whole and then broken in one place at a time: each breach must be found."""

import contextlib
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mmdaemon.cli.books import books_of
from mmdaemon.cli.main import main
from mmdaemon.clock import Clock
from mmdaemon.core import position
from mmdaemon.core.decision import Decision, DecisionInputs
from mmdaemon.core.events import Fill
from mmdaemon.core.params import Params
from mmdaemon.core.types import NS
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.rows import DecisionChain
from mmdaemon.journal.state_dir import open_dir
from mmdaemon.venues.simulated.venue import SimulatedVenue
from tests.cli.conftest import BUSY, START_TS_NS, Played, play_busy

_encode = msgspec.msgpack.encode


def inputs_of(blob: bytes) -> DecisionInputs:
    return msgspec.msgpack.decode(blob, type=DecisionInputs)


def decision_of(blob: bytes) -> Decision:
    return msgspec.msgpack.decode(blob, type=Decision)


@contextlib.contextmanager
def edited(path: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path / "journal.sqlite")) as db:
        yield db
        assert db.total_changes, "nothing was edited"
        db.commit()


def verify(path: Path, *arguments: str) -> int:
    return main(["replay", *arguments, "--verify", "--state-dir", str(path)])


def quoted(path: Path, epoch: int = 1) -> tuple[int, bytes, bytes]:
    """A decision with quotes from the middle of a run: (seq, inputs, decision)."""
    with JournalReader(path / "journal.sqlite") as journal:
        rows = [row for row in journal.decisions(epoch) if len(decision_of(row.decision).quotes) >= 2]
    row = rows[len(rows) // 2]
    return row.seq, row.inputs, row.decision


# --- a journal that is whole ------------------------------------------------------------------------------------------


def test_everything_agrees(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(played.path, "1") == 0
    said = capsys.readouterr().out
    with JournalReader(played.path / "journal.sqlite") as journal:
        decisions = sum(1 for _ in journal.decisions(1))
    assert decisions > 500
    assert f"decisions      {decisions:,} recomputed, 0 differences\n" in said
    assert f"books          {played.fills:,} fills and 1 bills" in said
    assert "verified: everything agrees" in said
    assert "DIFFERS" not in said


def test_both_sides_are_printed_and_equal(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    verify(played.path, "1")
    lines = capsys.readouterr().out.splitlines()
    left, right = (next(line for line in lines if line.startswith(name)) for name in ("cash flows", "cost basis"))
    assert left.split(" = ")[0].split()[-1] == right.split(" = ")[0].split()[-1] != "unknown"
    with JournalReader(played.path / "journal.sqlite") as journal:
        run = journal.run(1)
    assert run is not None
    books = books_of(played.path / "journal.sqlite", run)
    assert books.left_e10 == books.right_e10
    assert books.left.fills == played.fills
    assert books.right.position_lots == played.wallet_position_lots
    assert books.minutes > 20
    assert books.right.funding_e10 != 0


def test_the_last_run_is_the_default(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(played.path) == 0
    assert capsys.readouterr().out.startswith("run 2, 2026-01-01 08:40:00.000 to 2026-01-01 08:41:")


# --- decisions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", DecisionInputs.__struct_fields__)
def test_one_changed_input_shows(copied: Path, field: str) -> None:
    """Whichever it is, and in a run of few decisions as well."""
    seq, blob, _ = quoted(copied, 2)
    forged = msgspec.msgpack.decode(blob)
    place = DecisionInputs.__struct_fields__.index(field)
    other = {"running": "stopping", "neutral_high_vol": "up", "": "pulled", "none": "touch"}
    forged[place] = other.get(forged[place]) or forged[place] + 1
    with edited(copied) as db:
        db.execute("UPDATE decisions SET inputs = ? WHERE epoch = 2 AND seq = ?", (_encode(forged), seq))
    assert verify(copied) == 2


def test_the_field_that_differs_is_named_with_its_time(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seq, blob, _ = quoted(copied)
    seen = inputs_of(blob)
    forged = msgspec.structs.replace(seen, maker_bps=seen.maker_bps + 1.0)
    with edited(copied) as db:
        db.execute("UPDATE decisions SET inputs = ? WHERE epoch = 1 AND seq = ?", (_encode(forged), seq))
        (ts_ns,) = db.execute("SELECT ts_ns FROM decisions WHERE epoch = 1 AND seq = ?", (seq,)).fetchone()
    assert verify(copied, "1") == 2
    said = capsys.readouterr().out
    minutes, seconds = divmod(ts_ns // NS - START_TS_NS // NS + 40 * 60, 60)
    assert f"2026-01-01 {7 + minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}." in said
    assert f", seq {seq}: chain broken" in said
    assert "buy_edge.maker_fee_bps: journaled 0.5, recomputed 1.5" in said
    assert "verified" not in said


def with_price(blob: bytes) -> tuple[bytes, int]:
    """The decision with its first quote one tick off, and the price it had."""
    made = decision_of(blob)
    first = msgspec.structs.replace(made.quotes[0], px_ticks=made.quotes[0].px_ticks + 1)
    return _encode(msgspec.structs.replace(made, quotes=(first, *made.quotes[1:]))), made.quotes[0].px_ticks


def test_one_changed_price_shows(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seq, _, blob = quoted(copied)
    forged, px_ticks = with_price(blob)
    with edited(copied) as db:
        db.execute("UPDATE decisions SET decision = ? WHERE epoch = 1 AND seq = ?", (forged, seq))
    assert verify(copied, "1") == 2
    assert f"quotes[0].px_ticks: journaled {px_ticks + 1}, recomputed {px_ticks}" in capsys.readouterr().out


def test_a_forged_chain_does_not_hide_a_changed_price(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever can edit the journal can hash it too: recomputing must find it without the chain."""
    seq, _, blob = quoted(copied)
    forged, px_ticks = with_price(blob)
    with edited(copied) as db:
        db.execute("UPDATE decisions SET decision = ? WHERE epoch = 1 AND seq = ?", (forged, seq))
        (params,) = db.execute("SELECT params FROM parameters WHERE epoch = 1").fetchone()
        chain = DecisionChain(1, params)
        rows = db.execute(
            "SELECT seq, mono_ns, ts_ns, guard, regime, inputs, decision FROM decisions WHERE epoch = 1 ORDER BY seq"
        ).fetchall()
        for row in rows:
            chain.row(*row)
            db.execute("UPDATE decisions SET chain = ? WHERE epoch = 1 AND seq = ?", (chain.link, row[0]))
        db.execute("UPDATE digests SET chain = ? WHERE epoch = 1", (chain.link,))
    assert verify(copied, "1") == 2
    said = capsys.readouterr().out
    assert "chain broken" not in said
    assert f"seq {seq}: another decision than journaled" in said
    assert f"quotes[0].px_ticks: journaled {px_ticks + 1}, recomputed {px_ticks}" in said


@pytest.mark.parametrize(
    "which",
    [
        "= (SELECT min(seq) FROM decisions WHERE epoch = 1)",
        "= (SELECT seq FROM decisions WHERE epoch = 1 ORDER BY seq LIMIT 1 OFFSET 200)",
        "= (SELECT max(seq) FROM decisions WHERE epoch = 1)",
    ],
    ids=["first", "middle", "last"],
)
def test_a_deleted_row_shows(copied: Path, which: str) -> None:
    with edited(copied) as db:
        assert db.execute(f"DELETE FROM decisions WHERE epoch = 1 AND seq {which}").rowcount == 1
    assert verify(copied, "1") == 2


def test_changed_parameters_show(copied: Path) -> None:
    with edited(copied) as db:
        (blob,) = db.execute("SELECT params FROM parameters WHERE epoch = 1").fetchone()
        params = msgspec.msgpack.decode(blob, type=Params)
        cost = msgspec.structs.replace(params.cost, min_edge_bps=params.cost.min_edge_bps + 0.1)
        forged = msgspec.structs.replace(params, cost=cost)
        db.execute("UPDATE parameters SET params = ? WHERE epoch = 1", (_encode(forged),))
    assert verify(copied, "1") == 2


def as_of_an_older_version(path: Path) -> int:
    """Run 1 as a version would have left it that knew one parameter and the last of the inputs not yet."""
    with edited(path) as db:
        (blob,) = db.execute("SELECT params FROM parameters WHERE epoch = 1").fetchone()
        fewer = msgspec.msgpack.decode(blob)
        del fewer["detector"]["mode"]
        db.execute("UPDATE parameters SET params = ? WHERE epoch = 1", (_encode(fewer),))
        chain = DecisionChain(1, _encode(fewer))
        rows = db.execute(
            "SELECT seq, mono_ns, ts_ns, guard, regime, inputs, decision FROM decisions WHERE epoch = 1 ORDER BY seq"
        ).fetchall()
        for seq, mono_ns, ts_ns, guard, regime, inputs, decision in rows:
            seen = _encode(msgspec.msgpack.decode(inputs)[:-1])
            chain.row(seq, mono_ns, ts_ns, guard, regime, seen, decision)
            db.execute(
                "UPDATE decisions SET inputs = ?, chain = ? WHERE epoch = 1 AND seq = ?", (seen, chain.link, seq)
            )
        db.execute("UPDATE digests SET chain = ? WHERE epoch = 1", (chain.link,))
        return len(rows)


def test_a_run_of_an_older_version_is_said_to_be_one_and_not_to_differ(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After an upgrade "differs, do not rely on it" of every run of before would teach to ignore it."""
    rows = as_of_an_older_version(copied)
    assert verify(copied, "1") == 2
    said = capsys.readouterr().out
    assert "decisions      0 recomputed, 0 differences\n" in said
    assert f"{rows:,} more were made by another version of mmdaemon" in said
    assert "books " in said
    assert "NOT CHECKED: what another version decided; everything else agrees\n" in said
    assert "DIFFERS" not in said
    assert verify(copied, "2") == 0


def test_an_edited_row_of_an_older_version_shows(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_of_an_older_version(copied)
    seq, _, blob = quoted(copied)
    with edited(copied) as db:
        db.execute("UPDATE decisions SET decision = ? WHERE epoch = 1 AND seq = ?", (with_price(blob)[0], seq))
    assert verify(copied, "1") == 2
    said = capsys.readouterr().out
    assert f", seq {seq}: chain broken" in said
    assert "DIFFERS: do not rely on this journal" in said


def test_a_long_list_is_cut_and_counted(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with edited(copied) as db:
        db.execute("UPDATE decisions SET decision = x'c0' WHERE epoch = 1")
        (rows,) = db.execute("SELECT count(*) FROM decisions WHERE epoch = 1").fetchone()
    assert verify(copied, "1") == 2
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("DIFFERS: 2026") for line in lines) == 10
    assert f"DIFFERS: and {2 * rows - 10:,} more" in lines  # each row breaks the chain and differs


# --- books ------------------------------------------------------------------------------------------------------------

FIRST = "rowid = (SELECT min(rowid) FROM fills WHERE epoch = 1)"
MIDDLE = "rowid = (SELECT rowid FROM fills WHERE epoch = 1 ORDER BY rowid LIMIT 1 OFFSET 20)"
LAST = "rowid = (SELECT max(rowid) FROM fills WHERE epoch = 1)"
BREACHES: dict[str, str] = {
    "side of the first fill": f"UPDATE fills SET side = -side WHERE {FIRST}",
    "side": f"UPDATE fills SET side = -side WHERE {MIDDLE}",
    "side of the last fill": f"UPDATE fills SET side = -side WHERE {LAST}",
    "fee": f"UPDATE fills SET fee_e10 = -fee_e10 WHERE {MIDDLE}",
    "fee by the last digit": f"UPDATE fills SET fee_e10 = fee_e10 + 1 WHERE {LAST}",
    "price": f"UPDATE fills SET px_ticks = px_ticks + 1 WHERE {MIDDLE}",
    "size": f"UPDATE fills SET qty_lots = qty_lots + 1 WHERE {MIDDLE}",
    "value": f"UPDATE fills SET notional_e10 = notional_e10 + 1 WHERE {MIDDLE}",
    "price and value": f"UPDATE fills SET px_ticks = px_ticks + 1, "
    f"notional_e10 = notional_e10 / px_ticks * (px_ticks + 1) WHERE {MIDDLE}",
    "no price": f"UPDATE fills SET px_ticks = 0 WHERE {MIDDLE}",
    "a fill is missing": f"DELETE FROM fills WHERE {MIDDLE}",
    "funding": "UPDATE bills SET amount_e10 = -amount_e10 WHERE epoch = 1",
    "a bill is missing": "DELETE FROM bills WHERE epoch = 1",
    "a bill of another kind": "UPDATE bills SET kind = 'transfer' WHERE epoch = 1",
    "equity at the start": "UPDATE runs SET start_e10 = start_e10 + 1 WHERE epoch = 1",
    "equity at the start unknown": "UPDATE runs SET start_e10 = NULL WHERE epoch = 1",
    "a minute's equity": "UPDATE minutes SET equity_e10 = equity_e10 + 1 WHERE epoch = 1 AND "
    "ts_ns = (SELECT max(ts_ns) FROM minutes WHERE epoch = 1)",
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_breach_of_the_books_shows(copied: Path, breach: str, capsys: pytest.CaptureFixture[str]) -> None:
    with edited(copied) as db:
        assert db.execute(BREACHES[breach]).rowcount == 1
    assert verify(copied, "1") == 2
    said = capsys.readouterr().out
    assert ", 0 differences\n" in said, "decisions are as they were"
    assert "DIFFERS" in said


@pytest.mark.parametrize("name", ["side", "fee", "funding", "side of the last fill"])
def test_a_flipped_sign_breaks_the_identity_itself(copied: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By the checkpoint alone, whatever the minutes say."""
    with edited(copied) as db:
        db.execute(BREACHES[name])
        db.execute("DELETE FROM minutes")
    assert verify(copied, "1") == 2
    assert "the PnL identity does not hold: cash flows less cost basis = " in capsys.readouterr().out


@pytest.mark.parametrize(
    "field",
    ["cost_e10", "realised_e10", "fees_e10", "funding_e10", "position_lots", "turnover_e10", "cash_flow_e10", "sells"],
)
def test_a_changed_checkpoint_shows(copied: Path, field: str) -> None:
    with edited(copied) as db:
        where = "slice = 'position' AND epoch = 1"
        (blob,) = db.execute(f"SELECT blob FROM checkpoints WHERE {where} ORDER BY seq DESC").fetchone()
        held = msgspec.msgpack.decode(blob, type=position.Position)
        setattr(held, field, getattr(held, field) + 1)
        db.execute(f"UPDATE checkpoints SET blob = ? WHERE {where}", (_encode(held),))
    assert verify(copied, "1") == 2


# --- runs without an end ----------------------------------------------------------------------------------------------


def cut_off(db: sqlite3.Connection) -> None:
    """Run 1 alone, as a daemon that was killed leaves it: no end, no digest, no last checkpoint."""
    for table in ("runs", "decisions", "parameters", "fills", "bills", "minutes", "checkpoints", "digests"):
        db.execute(f"DELETE FROM {table} WHERE epoch = 2")
    db.execute("UPDATE runs SET ended_ts_ns = NULL, ended_mono_ns = NULL, clean_stop = NULL, end_reason = NULL")
    db.execute("DELETE FROM digests")
    db.execute("DELETE FROM checkpoints")


def checkpoint_in_the_middle(db: sqlite3.Connection, path: Path) -> None:
    """What the daemon would have kept of its position after half of its fills."""
    with JournalReader(path / "journal.sqlite") as journal:
        blob = journal.params(1)
        run = journal.run(1)
        fills = list(journal.fills(1))
    assert blob is not None
    assert run is not None
    assert run.start_e10 is not None
    instrument = msgspec.msgpack.decode(blob, type=Params).instrument
    held = position.begin(instrument, run.start_e10)
    (seq,) = db.execute("SELECT seq FROM bills WHERE epoch = 1").fetchone()
    for fill in fills:
        if fill.seq < seq:
            times = (fill.mono_ns, fill.ts_ns, fill.venue_ts_ns, fill.trade_id, fill.client_id)
            terms = (fill.side, fill.px_ticks, fill.qty_lots, fill.fee_e10, fill.liquidity, fill.exec_kind)
            position.on_fill(held, Fill(*times, *terms), instrument)
    assert 10 < len(held.trade_ids) < len(fills) - 10
    db.execute("INSERT INTO checkpoints VALUES ('position', 1, ?, 0, ?, NULL)", (seq - 1, _encode(held)))


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_run_that_was_cut_off_is_checked_as_far_as_it_goes(
    copied: Path, checkpointed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with edited(copied) as db:
        cut_off(db)
        if checkpointed:
            checkpoint_in_the_middle(db, copied)
    assert verify(copied) == 0
    said = capsys.readouterr().out
    assert "still running, or cut off" in said
    assert "the run has no end" in said
    assert ("no checkpoint yet" in said) is not checkpointed


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("breach", ["side of the first fill", "side", "fee", "funding", "a fill is missing"])
def test_minutes_witness_where_there_is_no_last_checkpoint(copied: Path, breach: str, checkpointed: bool) -> None:
    with edited(copied) as db:
        cut_off(db)
        if checkpointed:
            checkpoint_in_the_middle(db, copied)
        assert db.execute(BREACHES[breach]).rowcount == 1
    assert verify(copied) == 2


def test_beside_a_daemon_that_writes(copied: Path) -> None:
    """With the lock held, the journal open, and a transaction under way: nothing waits, and nothing changes."""
    held = open_dir(copied, {}).lock()
    try:
        with closing(sqlite3.connect(copied / "journal.sqlite", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE fills SET side = -side WHERE epoch = 1")
            assert verify(copied, "1") == 0
            db.execute("ROLLBACK")
    finally:
        held.release()


def test_beside_a_daemon_in_the_middle_of_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []

    async def look(daemon: Daemon, _venue: SimulatedVenue, clock: Clock) -> str:
        for _ in range(3):
            await sleep_ns(clock, 80 * NS)
            codes.append(verify(daemon.state_dir.path))
            codes.append(main(["explain", "--last-fill", "--state-dir", str(daemon.state_dir.path)]))
        return "seen"

    play_busy(tmp_path / "state", BUSY, look)
    said = capsys.readouterr().out
    assert codes[0::2] == [0, 0, 0]
    assert codes[1::2] == [0, 0, 0]
    assert said.count("still running, or cut off") == 3
    assert said.count("verified: everything agrees") == 3


# --- nothing to check -------------------------------------------------------------------------------------------------


def test_no_journal_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tmp_path / "nowhere") == 1
    assert "no journal at" in capsys.readouterr().out
    assert not (tmp_path / "nowhere").exists()


def no_decisions(path: Path) -> None:
    with edited(path) as db:
        db.execute("DELETE FROM decisions WHERE epoch = 2")
        db.execute("DELETE FROM digests WHERE epoch = 2")


def no_runs(path: Path) -> None:
    with edited(path) as db:
        db.execute("DELETE FROM runs")


def not_a_database(path: Path) -> None:
    (path / "journal.sqlite").write_bytes(b"no database at all, but more than a header's worth of bytes" * 20)


def not_a_journal(path: Path) -> None:
    (path / "journal.sqlite").unlink()
    with closing(sqlite3.connect(path / "journal.sqlite")) as db:
        db.execute("CREATE TABLE t (a)")


def damaged_row(path: Path) -> None:
    with edited(path) as db:
        db.execute("UPDATE decisions SET guard = 'asleep' WHERE epoch = 2")


def damaged_text(path: Path) -> None:
    with edited(path) as db:
        (params,) = db.execute("SELECT params FROM parameters WHERE epoch = 2").fetchone()
        assert b"BTCUSDT" in params
        db.execute("DELETE FROM decisions WHERE epoch = 2")
        db.execute("DELETE FROM digests WHERE epoch = 2")
        db.execute("UPDATE parameters SET params = ? WHERE epoch = 2", (params.replace(b"BTCUSDT", b"BTC\xffSDT"),))


@pytest.mark.parametrize("spoil", [no_decisions, no_runs, not_a_database, not_a_journal, damaged_row, damaged_text])
def test_nothing_that_could_be_checked_is_2(
    copied: Path, spoil: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(copied)
    assert verify(copied) == 2
    said = capsys.readouterr().out
    assert "NOT CHECKED" in said
    assert "DIFFERS" not in said
    assert "verified" not in said


def test_no_such_run_is_1(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(played.path, "99") == 1
    assert capsys.readouterr().out == "there is no run 99; runs are 1-2\n"


def test_a_journal_of_a_later_program_is_not_checked(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(copied / "journal.sqlite")) as db:
        db.execute("PRAGMA user_version = 999")
    assert verify(copied) == 2
    assert "NOT CHECKED" in (said := capsys.readouterr().out)
    assert "has schema version 999" in said


def test_it_says_what_to_do_with_a_run(played: Played, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "1", "--state-dir", str(played.path)]) == 64
    assert "--verify" in capsys.readouterr().err


def test_the_state_directory_of_systemd(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(played.path))
    assert main(["replay", "--verify"]) == 0
    monkeypatch.delenv("STATE_DIRECTORY")
    monkeypatch.setenv("XDG_STATE_HOME", str(played.path.parent / "elsewhere"))
    assert main(["replay", "--verify"]) == 1
