"""`mmdaemon reconcile` against a served socket: what is asked, what is shown, and the exit codes."""

from pathlib import Path

import pytest

from mmdaemon.cli.main import VERBS, main
from mmdaemon.ops.control import Answer, Handler, Request, Say
from tests.ops.samples import served


def daemon(asked: list[Request], answer: Answer) -> Handler:
    async def handle(request: Request, _say: Say) -> Answer:
        asked.append(request)
        return answer

    return handle


def run(tmp_path: Path, *arguments: str) -> int:
    return main(["reconcile", *arguments, "--state-dir", str(tmp_path)])


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        ([], {"repair": False}),
        (["--repair", "--reason", " mine "], {"repair": True, "reason": "mine", "cancel": ""}),
        (
            ["--repair", "--reason", "x", "--cancel", "a-1", "--cancel", "venue:7"],
            {"repair": True, "reason": "x", "cancel": "a-1 venue:7"},
        ),
    ],
)
def test_what_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], args: dict[str, str | bool]
) -> None:
    asked: list[Request] = []
    with served(tmp_path, daemon(asked, Answer(True, 0, ["position  0.5", "clean"]))):
        assert run(tmp_path, *arguments) == 0
    assert [(request.verb, request.args) for request in asked] == [("reconcile", args)]
    assert capsys.readouterr().out.splitlines() == ["position  0.5", "clean"]


@pytest.mark.parametrize(("said", "code"), [(0, 0), (2, 2), (3, 3), (64, 64), (1, 3)])
def test_the_daemon_decides_the_exit_code_and_a_busy_one_is_no_clean_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], said: int, code: int
) -> None:
    with served(tmp_path, daemon([], Answer(said == 0, said, ["break     position (reconcile, hard): \x1b[2Joff"]))):
        assert run(tmp_path) == code
    out = capsys.readouterr().out
    assert "break     position" in out
    assert "\x1b" not in out


def test_no_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"no daemon answers at {tmp_path / 'control.sock'}" in err


def test_an_answer_that_cannot_be_read_is_not_clean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tmp_path, daemon([], Answer(True, 0, ["x" * (1 << 21)]))):
        assert run(tmp_path) == 3
    assert "nothing is known of the venue" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--repair"], ["--repair", "--reason", " "], ["--cancel", "a"], ["--cancel", "a", "--reason", "x"]]
)
def test_what_changes_something_needs_repair_and_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    asked: list[Request] = []
    with served(tmp_path, daemon(asked, Answer(True, 0))):
        assert run(tmp_path, *arguments) == 64
    assert asked == []
    assert "--reason" in capsys.readouterr().err


def test_the_verb_is_in_the_table() -> None:
    assert VERBS["reconcile"].target == "mmdaemon.cli.reconcile:reconcile"
