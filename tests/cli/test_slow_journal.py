"""`mmdaemon kill --direct` beside a journal that takes its time."""

from pathlib import Path
from threading import Event

import pytest

from mmdaemon.cli import direct, left
from mmdaemon.cli.left import remember
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.settings import load


@pytest.mark.parametrize("is_used", [False, True])
def test_a_journal_that_takes_too_long_hides_neither_the_venue_nor_a_daemon_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], is_used: bool
) -> None:
    """A cold journal, its log to be read first, a start that checks all of it meanwhile."""
    directory = StateDir(tmp_path, None)
    remember(directory, load(None, {"venue.remote": str(tmp_path / "venue.sock")}, {}).settings)
    monkeypatch.setattr(direct, "_LOOK_S", 0.3)
    read = Event()

    def slowly(*_: object) -> tuple[str, bool]:
        read.wait(30.0)
        return "", True

    monkeypatch.setattr(left, "_why_dirty", slowly)
    starting = StateDir(tmp_path, None)
    if is_used:
        starting.lock()
    code = direct.kill_direct(directory, venue=None, config=None, if_dirty=True, wait=False, reason="a test", for_s=0.5)
    starting.release()
    read.set()
    said = capfd.readouterr().err
    if is_used:
        assert (code, (tmp_path / "KILLED").exists()) == (direct.DONE, False)
        assert "starts or stops" in said
    else:
        assert code == direct.NOT_REACHED
        assert "given up after 0.5 s" in said
