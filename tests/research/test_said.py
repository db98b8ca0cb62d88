"""Signals along a recording: the same run twice, what a file must be, and what it does to the quotes."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from mmdaemon.cli.main import main
from mmdaemon.cli.run import SYNTHETIC_START_TS_NS as START
from mmdaemon.core.types import NS
from mmdaemon.research.said import SignalsRefused, read_signals
from mmdaemon.research.summary import summarise


def line(at_s: float, **over: object) -> dict[str, object]:
    ts_ns = START + round(at_s * NS)
    said = {"source": "operator", "kind": "target_inventory", "value": 0.5, "confidence": 1.0, "ttl_s": 30.0}
    return {**said, "ts_ns": ts_ns, "sequence": ts_ns, **over}


def written(path: Path, *lines: dict[str, object]) -> Path:
    path.write_bytes(b"\n".join(msgspec.json.encode(each) for each in lines) + b"\n")
    return path


def played(path: Path, signals: Path | None) -> str:
    said = [] if signals is None else ["--signals", str(signals)]
    assert main(["run", "--speed", "max", "--duration", "180", "--state-dir", str(path), *said]) == 0
    return summarise(path / "journal.sqlite").digest


def test_the_same_signals_are_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(
        tmp_path / "signals.jsonl",
        line(-100),
        line(60),
        line(70, kind="spread_multiplier", value=2.0),
        line(80, value=7.0),
        line(100, kind="pause", value="all", ttl_s=20.0),
    )
    first, second = played(tmp_path / "a", file), played(tmp_path / "b", file)
    assert first == second != played(tmp_path / "c", None)
    assert main(["replay", "--verify", "--state-dir", str(tmp_path / "a")]) == 0
    with closing(sqlite3.connect(tmp_path / "a" / "journal.sqlite")) as db:
        rows = db.execute("SELECT ts_ns, what, kind, reason FROM signals ORDER BY rowid").fetchall()
        moved = db.execute("SELECT ts_ns, to_state, reasons FROM transitions").fetchall()
    assert [(what, kind, why) for _, what, kind, why in rows] == [
        ("refused", "target_inventory", "stale"),
        ("applied", "target_inventory", ""),
        ("applied", "spread_multiplier", ""),
        ("refused", "target_inventory", "value"),
        ("expired", "target_inventory", ""),
        ("expired", "spread_multiplier", ""),
        ("applied", "pause", ""),
        ("expired", "pause", ""),
    ]
    assert [round((ts_ns - START) / NS) for ts_ns, *_ in rows[1:]] == [60, 70, 80, 90, 100, 100, 120]
    pauses = [round((ts_ns - START) / NS) for ts_ns, to, why in moved if why == "external_pause" and to == "soft_pause"]
    assert pauses == [100]
    capsys.readouterr()
    assert main(["explain", "2026-01-05T00:01:02Z", "--state-dir", str(tmp_path / "a")]) == 0
    told = capsys.readouterr().out
    assert any(row.split()[:1] == ["target"] and "0.0000" not in row for row in told.splitlines()), told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{", "line 1: "),
        (b"\n\xff\n", "line 2: "),
        (b"x" * 3_000, "line 1: 3000 bytes"),
        (msgspec.json.encode(line(5)) + b"\n" + msgspec.json.encode(line(4)), "line 2: said before the line above it"),
    ],
)
def test_a_file_that_is_none_is_refused_whole(text: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "signals.jsonl"
    file.write_bytes(text)
    with pytest.raises(SignalsRefused, match=says):
        read_signals(file)
    state = tmp_path / "state"
    assert main(["run", "--speed", "max", "--duration", "5", "--state-dir", str(state), "--signals", str(file)]) == 78
    assert main(["run", "--duration", "5", "--state-dir", str(state), "--signals", str(file)]) == 64
    assert main(["run", "--speed", "max", "--state-dir", str(state), "--signals", str(tmp_path / "no")]) == 78
