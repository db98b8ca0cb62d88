"""Fixtures of the daemon's tests; what they are made of is in `build.py`."""

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A state directory that is not there yet."""
    return tmp_path / "state"
