"""A script of faults: read whole or refused with every problem, and played in its order and at its times."""

import asyncio
from pathlib import Path

import pytest

from mmdaemon.clock import Clock, run_virtual
from mmdaemon.venues.emulator.faults import Faults, Rate
from mmdaemon.venues.emulator.script import Drawn, Script, ScriptRefused, Step, play, read_script, script_of
from mmdaemon.venues.emulator.wrong import Wrong

TOML = """
[[fault]]
after_s = 30
kind = "rate_limit"
seconds = 5.0
where = "place-order"

[[fault]]
after_s = 2.5
kind = "frame_lost"
count = 3

[[fault]]
after_s = 60
kind = "forced_close"
every_s = 60

[[rate]]
kind = "frame_twice"
probability = 0.001
after_s = 20
seconds = 2
where = "private"
"""
LINES = """
{"after_s": 30, "kind": "rate_limit", "seconds": 5.0, "where": "place-order"}
{"after_s": 2.5, "kind": "frame_lost", "count": 3}

{"after_s": 60, "kind": "forced_close", "every_s": 60}
{"kind": "frame_twice", "probability": 0.001, "after_s": 20, "seconds": 2, "where": "private"}
"""
READ = Script(
    (
        Step(2.5, Wrong.FRAME_LOST, count=3),
        Step(30, Wrong.RATE_LIMIT, 5.0, where="place-order"),
        Step(60, Wrong.FORCED_CLOSE, every_s=60),
    ),
    (Drawn(20, Rate(Wrong.FRAME_TWICE, 0.001, 2.0, "private")),),
)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(("name", "text"), [("s.toml", TOML), ("s.jsonl", LINES)])
def test_both_forms_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert read_script(written(tmp_path, name, text)) == READ


def refusal(path: Path) -> str:
    with pytest.raises(ScriptRefused) as refused:
        read_script(path)
    assert all(str(path) in problem for problem in refused.value.problems)
    return str(refused.value)


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    text = """
    {"after_s": 1, "kind": "rate_limti"}
    {"after_s": "soon", "kind": "latency", "seconds": 1, "colour": "red"}
    {"kind": "latency", "seconds": 1}
    {"after_s": 1, "kind": "half_open"}
    {"after_s": 1, "kind": "frame_lost", "count": 1.5}
    {"after_s": 1, "kind": "frame_lost", "seconds": -1}
    {"after_s": 1, "kind": "frame_lost", "every_s": 0.001}
    {"kind": "frame_lost", "probability": 2}
    {"kind": "frame_twice", "probability": 0.1}
    {"probability": 0.1}
    {"kind": "frame_lost", "probability": 0.1, "count": 3, "where": 7}
    {"after_s": 1, "kind": "frame_lost", "count": true}
    [1]
    nonsense
    """
    told = refusal(written(tmp_path, "s.jsonl", text)).splitlines()
    expected = [
        ("line 2", "did you mean rate_limit?"),
        ("line 3", "'colour' is not known"),
        ("line 3", "after_s: a number is wanted, got 'soon'"),
        ("line 4", "after_s is missing"),
        ("line 5", "needs seconds above 0 (how long)"),
        ("line 6", "count: a whole number is wanted"),
        ("line 7", "seconds must be 0 to"),
        ("line 8", "every_s must be 0.01 at least"),
        ("line 9", "probability must be 0 to 1"),
        ("line 10", "needs seconds above 0 (how late)"),
        ("line 11", "kind is missing"),
        ("line 12", "'count' is not known"),
        ("line 12", "where: a text is wanted"),
        ("line 13", "count: a whole number is wanted, got True"),
        ("line 14", "a table of names and values is wanted"),
        ("line 15", "no JSON"),
    ]
    assert len(told) == len(expected)
    for line, (place, why) in zip(told, expected, strict=True):
        assert f": {place}: " in line
        assert why in line


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[fault]\n", "TOML"),
        ("", "no fault and no rate in it"),
        ("[fault]\nkind = 1\n", "there are [[fault]] and [[rate]] tables here"),
        ("[[faults]]\nkind = 1\n", "faults: there are [[fault]]"),
        ('[[rate]]\nkind = "latency"\nafter_s = 1\n', "rate 1: a [[rate]] has a probability"),
        ('[[fault]]\nkind = "frame_lost"\nprobability = 0.5\n', "fault 1: a [[rate]] has a probability"),
        ("[[fault]]\nafter_s = nan\nkind = 'frame_lost'\n", "after_s: a number is wanted, got nan"),
        ("[[rate]]\nkind = 'frame_lost'\nprobability = 0.5\n" * 2, "2 rates of frame_lost at 'everywhere'"),
    ],
)
def test_what_is_no_script_is_refused(tmp_path: Path, text: str, why: str) -> None:
    assert why in refusal(written(tmp_path, "s.toml", text))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in refusal(tmp_path / "b.toml")


def test_rows_may_come_from_anywhere() -> None:
    assert script_of([("body", {"after_s": 0, "kind": "transfer"})]) == Script((Step(0, Wrong.TRANSFER),))


def played(script: Script, for_s: float) -> tuple[list[tuple[float, str]], list[str]]:
    """What was injected when, and what the server refused: in virtual time."""
    done: list[tuple[float, str]] = []
    refused: list[str] = []

    async def run(clock: Clock) -> None:
        faults = Faults(clock, seed=1)
        begun = clock.mono_ns()

        def act(kind: Wrong, _seconds: float, _where: str) -> None:
            if kind is Wrong.LIQUIDATION:
                raise ValueError("there is no position")
            done.append((round((clock.mono_ns() - begun) / 1e9, 3), kind.value))

        faults.act = act
        task = asyncio.create_task(play(script, faults, lambda step, why: refused.append(f"{step.kind}: {why}")))
        await asyncio.sleep(for_s)
        assert task.done() == all(not step.every_s for step in script.steps)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_virtual(run, start_wall_ns=0)
    return done, refused


def test_steps_come_at_their_times_and_again() -> None:
    script = Script((Step(1, Wrong.TRANSFER), Step(2, Wrong.FORCED_CLOSE, every_s=3), Step(2, Wrong.RESTART)))
    done, refused = played(script, 10)
    assert done == [
        (1, "transfer"),
        (2, "forced_close"),
        (2, "restart"),
        (5, "forced_close"),
        (8, "forced_close"),
    ]
    assert not refused


def test_what_the_server_cannot_do_is_told_and_the_rest_goes_on() -> None:
    done, refused = played(Script((Step(1, Wrong.LIQUIDATION), Step(2, Wrong.TRANSFER))), 10)
    assert done == [(2, "transfer")]
    assert refused == ["liquidation: there is no position"]


def test_a_rate_is_drawn_from_its_time_on() -> None:
    lost: list[int] = []
    script = Script(rates=(Drawn(0, Rate(Wrong.FRAME_TWICE, 1e-12, 1.0)), Drawn(5, Rate(Wrong.FRAME_LOST, 0.5))))

    async def run(clock: Clock) -> None:
        faults = Faults(clock, seed=1)
        task = asyncio.create_task(play(script, faults, lambda _step, _why: None))
        for _ in range(10):
            await asyncio.sleep(0.9)
            lost.append(sum(not faults.on_frame(True, "orders", "x") for _ in range(100)))
        await task

    run_virtual(run, start_wall_ns=0)
    assert lost[:5] == [0] * 5
    assert all(20 < each < 80 for each in lost[5:])
