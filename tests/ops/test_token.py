"""The token: who may have it, what needs it, and that nothing shows it."""

import os
import stat
from pathlib import Path

import pytest

from mmdaemon.core.types import GuardState, KillState
from mmdaemon.daemon.verbs import handler_of
from mmdaemon.ops.control import Answer, ControlServer, Request, Say
from mmdaemon.ops.control_client import call
from mmdaemon.ops.token import NAME, Token, TokenMissing, keep_token, read_token, unknown
from mmdaemon.secret import Secret
from tests.daemon.build import World, run_world, say_nothing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state directory that is not there yet."""
    return tmp_path / "state"


def test_it_is_for_its_owner_alone_and_kept_over_a_restart(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        first = keep_token(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert keep_token(tmp_path).secret.reveal() == first.secret.reveal()
    assert read_token(tmp_path).matches(first.secret.reveal())
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME]


def test_no_two_are_alike_and_none_is_shown(tmp_path: Path) -> None:
    token = keep_token(tmp_path)
    text = token.secret.reveal()
    assert unknown().secret.reveal() != text
    assert text not in f"{token} {token!r} {token.secret} {Request('resume', {}, 'uid 0', token.secret)!r}"


@pytest.mark.parametrize("spoilt", ["", "short", "x" * 44, "ü" * 43, "a b" + "c" * 40])
def test_what_is_no_token_is_refused_and_made_anew(tmp_path: Path, spoilt: str) -> None:
    (tmp_path / NAME).write_text(spoilt)
    (tmp_path / NAME).chmod(0o600)
    with pytest.raises(TokenMissing, match="holds no token"):
        read_token(tmp_path)
    made = keep_token(tmp_path)
    assert not made.matches(spoilt)
    assert read_token(tmp_path).matches(made.secret.reveal())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o700])
def test_one_that_lay_open_is_not_trusted_any_more(tmp_path: Path, mode: int) -> None:
    text = keep_token(tmp_path).secret.reveal()
    (tmp_path / NAME).chmod(mode)
    with pytest.raises(TokenMissing, match="of its owner alone"):
        read_token(tmp_path)
    assert not keep_token(tmp_path).matches(text)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_link_is_not_followed_and_a_pipe_not_waited_for(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("a" * 43)
    elsewhere.chmod(0o600)
    (tmp_path / NAME).symlink_to(elsewhere)
    with pytest.raises(TokenMissing):
        read_token(tmp_path)
    assert not keep_token(tmp_path).matches("a" * 43)
    assert elsewhere.read_text() == "a" * 43
    (tmp_path / NAME).unlink()
    os.mkfifo(tmp_path / NAME, 0o600)
    with pytest.raises(TokenMissing):
        read_token(tmp_path)


def test_one_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(TokenMissing, match="cannot be written"):
        keep_token(tmp_path)
    with pytest.raises(TokenMissing, match="cannot be read"):
        read_token(tmp_path / "nowhere")


def test_anything_may_be_shown_and_only_it_matches() -> None:
    token = unknown()
    text = token.secret.reveal()
    assert token.matches(text)
    for wrong in ("", text[:-1], text + "x", text.swapcase(), "ü", "\ud800", "\0"):
        assert not token.matches(wrong)


# --- what needs it ----------------------------------------------------------------------------------------------------

TOKEN = unknown()
WRONG = (Secret(""), unknown().secret)


@pytest.mark.parametrize("shown", WRONG)
def test_a_resume_without_it_resumes_nothing_and_is_journaled(path: Path, shown: Secret) -> None:
    async def script(world: World) -> None:
        await world.trade()
        assert world.state.position.position_lots
        assert world.venue.resting()
        handle = handler_of(world.daemon, TOKEN)
        assert (await handle(Request("kill", {"wait": True}, "uid 7"), say_nothing)).ok, "a kill needs none"
        await world.until(lambda: world.kill is KillState.KILLED, 60)
        refused = await handle(Request("resume", {"reason": "go on"}, "uid 7", shown), say_nothing)
        assert (refused.ok, refused.exit_code) == (False, 2)
        assert "needs the token" in refused.lines[0]
        await world.sleep(30)
        assert world.kill is KillState.KILLED
        assert world.guard is GuardState.HARD_STOP
        assert world.venue.resting() == []
        with world.journal() as journal:
            last = journal.operator_actions(1)[-1]
        assert (last.action, last.reason, last.who) == ("resume", "go on", "uid 7")
        assert last.outcome.startswith("refused: resume needs the token")
        assert (await handle(Request("resume", {"reason": "go on"}, "uid 7", TOKEN.secret), say_nothing)).ok
        await world.until(lambda: world.guard is GuardState.RUNNING, 60)

    run_world(script, path)


def test_a_repair_needs_it_and_a_look_does_not(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        handle = handler_of(world.daemon, TOKEN)
        looks: list[dict[str, str | bool]] = [{}, {"repair": False}]
        for args in looks:
            assert (await handle(Request("reconcile", args, "uid 0"), say_nothing)).exit_code == 0
        args = {"repair": True, "reason": "x"}
        assert "needs the token" in (await handle(Request("reconcile", args, "uid 0"), say_nothing)).lines[0]
        assert (await handle(Request("reconcile", args, "uid 0", TOKEN.secret), say_nothing)).ok

    run_world(script, path)


def test_what_narrows_needs_none(path: Path) -> None:
    async def script(world: World) -> None:
        await world.trade()
        handle = handler_of(world.daemon, TOKEN)
        for verb in ("status", "pause", "flatten", "kill", "stop"):
            assert (await handle(Request(verb, {}, "uid 0"), say_nothing)).ok, verb

    run_world(script, path)


async def test_the_client_shows_the_one_beside_the_socket_and_to_widening_verbs_alone(tmp_path: Path) -> None:
    shown: list[tuple[str, str]] = []

    async def handle(request: Request, _say: Say) -> Answer:
        shown.append((request.verb, request.token.reveal()))
        return Answer(True, 0)

    server = ControlServer(tmp_path / "control.sock", handle)
    await server.start()
    try:
        await call(server.path, "resume", {"reason": "x"})
        text = keep_token(tmp_path).secret.reveal()
        for verb in ("resume", "kill", "status", "reconcile"):
            await call(server.path, verb)
        await call(server.path, "reconcile", {"repair": True})
    finally:
        await server.close()
    assert shown == [
        ("resume", ""),
        ("resume", text),
        ("kill", ""),
        ("status", ""),
        ("reconcile", ""),
        ("reconcile", text),
    ]


def test_a_token_shows_nothing_of_itself() -> None:
    assert repr(Token("visible-text")) == "Token(<secret>)"
