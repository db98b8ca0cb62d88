"""`pause`, `resume`, `kill`, `flatten` against a served socket: what is asked, what is shown, and the exit codes."""

import asyncio
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from mmdaemon.cli import operate
from mmdaemon.cli.main import VERBS, main
from mmdaemon.journal.state_dir import KILLED, StateDir
from mmdaemon.ops import control_client
from mmdaemon.ops.control import Answer, Handler, Request, Say
from mmdaemon.ops.status import Status
from tests.ops.samples import picture, served

BEFORE = picture(guard="running", kill="armed", position="0.5", open_orders=6, unknown_orders=0)
AFTER = picture(guard="hard_stop", kill="quiet", position="0.5", open_orders=0, unknown_orders=0)


def daemon(asked: list[Request], answer: Answer, before: Status | None = BEFORE) -> Handler:
    """Answers `status` with `before`, and any verb with `answer`."""

    async def handle(request: Request, say: Say) -> Answer:
        if request.verb == "status":
            return Answer(True, 0, [], before)
        asked.append(request)
        await say("gate closed")
        return answer

    return handle


def run(tmp_path: Path, *arguments: str) -> int:
    return main([*arguments, "--state-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        (["pause"], {"reason": ""}),
        (["pause", "--reason", "lunch"], {"reason": "lunch"}),
        (["resume", "--reason", " all clear "], {"reason": "all clear"}),
        (["flatten"], {"reason": ""}),
        (["kill"], {"flatten": False, "wait": False, "reason": ""}),
        (["kill", "--flatten", "--wait", "--reason", "x"], {"flatten": True, "wait": True, "reason": "x"}),
    ],
)
def test_what_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], args: dict[str, str | bool]
) -> None:
    asked: list[Request] = []
    with served(tmp_path, daemon(asked, Answer(True, 0, ["done"], AFTER))):
        assert run(tmp_path, *arguments) == 0
    assert [(request.verb, request.args) for request in asked] == [(arguments[0], args)]
    assert capsys.readouterr().out.splitlines() == [
        "before: guard running, kill switch armed, position 0.5, 6 open orders",
        "  gate closed",
        "  done",
        "after:  guard hard_stop, kill switch quiet, position 0.5, 0 open orders",
    ]


@pytest.mark.parametrize("verb", ["pause", "resume", "kill", "flatten"])
@pytest.mark.parametrize("code", [0, 2])
def test_the_daemon_decides_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, code: int
) -> None:
    with served(tmp_path, daemon([], Answer(code == 0, code, ["killing: 2 orders still rest"], BEFORE))):
        assert run(tmp_path, verb, "--reason", "x") == code
    assert "  killing: 2 orders still rest\n" in capsys.readouterr().out
    assert not (tmp_path / KILLED).exists()


def test_unknown_orders_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path, daemon([], Answer(True, 0, [], picture()))):
        run(tmp_path, "pause")
    assert "position -0.0048, 2 open orders (1 of unknown fate)" in capsys.readouterr().out


def test_after_is_asked_for_where_the_answer_has_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path, daemon([], Answer(True, 0))):
        assert run(tmp_path, "pause") == 0
    assert capsys.readouterr().out.count("guard running, kill switch armed") == 2


@pytest.mark.parametrize("verb", ["pause", "resume", "kill", "flatten"])
def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert run(tmp_path, verb, "--reason", "x") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"no daemon answers at {tmp_path / 'control.sock'}" in err
    assert "mmdaemon run" in err


def test_a_kill_that_nobody_answers_latches_the_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "kill", "--reason", "fat finger") == 1
    assert StateDir(tmp_path, None).latched() == (tmp_path / KILLED,)
    assert "mmdaemon kill: fat finger; no daemon answered" in (tmp_path / KILLED).read_text(encoding="utf-8")
    err = capsys.readouterr().err
    assert "stays stopped until `mmdaemon resume --reason ...`" in err
    assert "orders may still rest at the venue" in err


@pytest.mark.parametrize("verb", ["pause", "resume", "flatten"])
def test_no_other_verb_latches(tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    run(tmp_path, verb, "--reason", "x")
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()


def test_a_kill_makes_no_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "absent", "kill") == 1
    assert not (tmp_path / "absent").exists()
    err = capsys.readouterr().err
    assert f"there is no state directory {tmp_path / 'absent'}; name the daemon's" in err
    assert "latched" not in err


def test_a_hung_daemon_is_latched_on_disk_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        operate,
        "call",
        lambda *args: control_client.call(*args, silence_s=0.05),  # not the 10 s of real life
    )
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(tmp_path / "control.sock"))
        hung.listen()
        assert run(tmp_path, "kill") == 1
    assert (tmp_path / KILLED).exists()
    err = capsys.readouterr().err
    assert "has been silent for 0.05 s" in err
    assert "whether it was done is not known" in err


def test_a_kill_does_not_wait_for_the_look_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "LOOK_S", 0.05)
    killed = asyncio.Event()

    async def handle(request: Request, say: Say) -> Answer:
        if request.verb == "status":
            await killed.wait()
            await asyncio.sleep(0.2)  # a daemon whose status comes late
            return Answer(True, 0, [], BEFORE)
        killed.set()
        await say("gate closed")
        return Answer(True, 0, ["quiet"], AFTER)

    with served(tmp_path, handle):
        assert run(tmp_path, "kill") == 0
    assert capsys.readouterr().out.splitlines() == [
        "  gate closed",
        "  quiet",
        "after:  guard hard_stop, kill switch quiet, position 0.5, 0 open orders",
    ]


@pytest.mark.parametrize("reason", [[], ["--reason"], ["--reason", ""], ["--reason", "  "]])
def test_resume_needs_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str], reason: list[str]) -> None:
    asked: list[Request] = []
    with served(tmp_path, daemon(asked, Answer(True, 0))):
        assert run(tmp_path, "resume", *reason) == 64
    assert asked == []
    assert "--reason" in capsys.readouterr().err


@pytest.mark.parametrize("reason", ["\N{ROCKET}" * 5_000, '"' * 5_000, "\udcff odd", "a\nb\x00"])
def test_no_reason_keeps_a_kill_from_going_out(tmp_path: Path, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    asked: list[Request] = []
    with served(tmp_path, daemon(asked, Answer(True, 0, [], AFTER))):
        assert run(tmp_path, "kill", "--reason", reason) == 0
    said = str(asked[0].args["reason"])
    assert said.isprintable()
    assert said == operate.plain(reason)[:500]
    capsys.readouterr()


def test_text_from_outside_steers_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path, daemon([], Answer(False, 2, ["\x1b[2Jvenue says [red]no[/]"], AFTER))):
        assert run(tmp_path, "flatten") == 2
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]no[/]" in out


def test_the_verbs_are_in_the_table_and_their_help_loads() -> None:
    for verb in ("status", "pause", "resume", "kill", "flatten"):
        assert VERBS[verb].target.endswith(f":{verb}")
    done = subprocess.run(
        [sys.executable, "-m", "mmdaemon", "kill", "--help"], capture_output=True, text=True, check=True
    )
    assert "--flatten" in done.stdout
    assert "--no-wait" not in done.stdout


def test_a_signal_is_one_json_object_of_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Request] = []
    with served(tmp_path, daemon(asked, Answer(False, 1, ["refused, stale: it was said too long ago"], BEFORE))):
        arguments = ["signal", "size_multiplier", "0.5", "--ttl", "30", "--confidence", "0.8", "--source", "desk"]
        assert run(tmp_path, *arguments) == 1
    (request,) = asked
    message = msgspec.json.decode(str(request.args["message"]))
    now_ns = time.time_ns()
    assert now_ns - 60 * 10**9 < message.pop("ts_ns") == message.pop("sequence") <= now_ns
    assert message == {
        "source": "desk", "kind": "size_multiplier", "value": 0.5, "confidence": 0.8, "ttl_s": 30.0, "version": 1,
    }  # fmt: skip
    assert "  refused, stale: it was said too long ago\n" in capsys.readouterr().out


def test_a_kind_that_is_none_is_refused_before_anybody_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, "signal", "gap", "1") == 64
    assert "there is no kind 'gap'; there are target_inventory, direction_hint" in capsys.readouterr().err
