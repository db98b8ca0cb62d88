"""The state directory: where it is, who holds it, and the latch that is a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdaemon.journal.state_dir import InUse, StateDir, StateDirRefused, locate, open_dir


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        (Path("/a"), {"STATE_DIRECTORY": "/b", "XDG_STATE_HOME": "/c", "HOME": "/h"}, "/a"),
        (None, {"STATE_DIRECTORY": "/b:/x", "XDG_STATE_HOME": "/c", "HOME": "/h"}, "/b"),
        (None, {"STATE_DIRECTORY": "", "XDG_STATE_HOME": "/c", "HOME": "/h"}, "/c/mmdaemon/btc"),
        (None, {"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/mmdaemon/btc"),
        (None, {"HOME": "/h"}, "/h/.local/state/mmdaemon/btc"),
    ],
)
def test_where_it_is(given: Path | None, environ: dict[str, str], expected: str) -> None:
    assert locate(given, "btc", environ) == Path(expected)


def test_it_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    state = open_dir(tmp_path / "a" / "b", {})
    assert state.path.stat().st_mode & 0o777 == 0o700
    assert open_dir(state.path, {}).path == state.path


def test_what_anybody_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(StateDirRefused, match="chmod 700"):
        open_dir(tmp_path / "open", {})


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateDirRefused, match=f"state directory {path} cannot be used"):
            open_dir(path, {})


def test_what_may_not_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, whom tests may run as, has every access
    with pytest.raises(StateDirRefused, match="no permission"):
        open_dir(tmp_path / "sealed", {})


# --- lock -------------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from mmdaemon.journal.state_dir import open_dir
open_dir(Path(sys.argv[1]), {}).lock()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    state = open_dir(tmp_path, {})
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InUse, match=f"{tmp_path} is in use by process {holder.pid}") as refused:
            state.lock()
        assert refused.value.pid == holder.pid
        holder.kill()
        holder.wait()
    state.lock()  # the lock ended with the process, though its file stayed
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_held_until_released(tmp_path: Path) -> None:
    first, second = open_dir(tmp_path, {}).lock(), open_dir(tmp_path, {})
    with pytest.raises(InUse, match=f"process {os.getpid()}"):
        second.lock()
    first.release()
    first.release()
    second.lock().release()


def test_a_lock_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(StateDirRefused, match="cannot be used"):
        open_dir(tmp_path, {}).lock()


# --- latch ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    (tmp_path / "runtime").mkdir()
    return open_dir(tmp_path / "state", {"RUNTIME_DIRECTORY": str(tmp_path / "runtime")})


def test_the_latch_is_written_in_both_places_and_either_closes_it(state: StateDir, tmp_path: Path) -> None:
    assert state.latched() == ()
    assert state.write_latch("operator: by hand") == ()
    files = (tmp_path / "state" / "KILLED", tmp_path / "runtime" / "KILLED")
    assert state.latched() == files
    assert [path.read_text() for path in files] == ["operator: by hand\n"] * 2
    for path in files:
        path.unlink()
        assert state.latched() == tuple(other for other in files if other != path)
        path.touch()  # an empty file is a latch too


def test_the_reasons_add_up(state: StateDir) -> None:
    state.write_latch("daily loss")
    state.write_latch("operator")
    assert state.kill_files[0].read_text() == "daily loss\noperator\n"


def test_resume_clears_both(state: StateDir) -> None:
    state.write_latch("x")
    state.clear_latch()
    assert state.latched() == ()
    state.clear_latch()


def test_one_place_that_cannot_be_written_does_not_keep_the_other(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "runtime").rmdir()
    (failure,) = state.write_latch("x")
    assert failure.startswith(f"{tmp_path / 'runtime' / 'KILLED'}: ")
    assert state.latched() == (tmp_path / "state" / "KILLED",)


def test_what_cannot_be_looked_at_counts_as_killed(state: StateDir, tmp_path: Path) -> None:
    (tmp_path / "runtime").rmdir()
    (tmp_path / "runtime").symlink_to(tmp_path / "runtime")
    assert state.latched() == (tmp_path / "runtime" / "KILLED",)


def test_a_dangling_link_is_a_latch_and_is_not_followed(state: StateDir, tmp_path: Path) -> None:
    state.kill_files[0].symlink_to(tmp_path / "elsewhere")
    assert state.latched() == (state.kill_files[0],)
    assert len(state.write_latch("x")) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_latch_that_cannot_be_cleared_stays_closed_and_says_so(state: StateDir) -> None:
    state.kill_files[0].mkdir()
    with pytest.raises(StateDirRefused, match="the kill latch stays closed"):
        state.clear_latch()
    assert state.latched() == (state.kill_files[0],)


def test_without_a_runtime_directory_there_is_one_place(tmp_path: Path) -> None:
    assert open_dir(tmp_path, {"RUNTIME_DIRECTORY": ""}).kill_files == (tmp_path / "KILLED",)
