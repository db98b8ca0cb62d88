"""What `mmdaemon kill --direct` says: the log of the sweep, under systemd."""

from pathlib import Path

import pytest

from mmdaemon.cli import direct
from mmdaemon.cli.left import remember
from mmdaemon.journal.state_dir import StateDir
from mmdaemon.secret import Credentials, Secret
from mmdaemon.settings import load
from mmdaemon.venues.base import VenueUnavailable


def test_what_a_venue_repeats_of_the_key_is_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under systemd stderr is the journal: there the sweep is held to what the daemon's log is."""
    canaries = ("canary-key-1", "canary-secret-2", "canary-phrase-3")
    key = Credentials(*map(Secret, canaries))
    said = "\x1b[2Jno such key: " + ", ".join(canaries)

    class Echo:
        why = said

        async def open(self, _deliver: object) -> None:
            raise VenueUnavailable(said)

        async def close(self) -> None: ...

    directory = StateDir(tmp_path, None)
    said_by = {"run.mode": "testnet", "journal.durability": "power", "venue.in_flight_max_s": 31.0}
    remember(directory, load(None, said_by, {}).settings)
    monkeypatch.setattr(direct, "_key", lambda _at: key)
    monkeypatch.setattr(direct, "_venue", lambda *_: Echo())
    code = direct.kill_direct(
        directory, venue=None, config=None, if_dirty=False, wait=False, reason="a test", for_s=0.3
    )
    shown = capfd.readouterr().err
    assert code == direct.NOT_REACHED
    assert "no such key: ***, ***, ***" in shown
    assert "\x1b" not in shown
    assert not any(canary in shown for canary in canaries)
