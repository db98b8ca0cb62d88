"""Damaged frames, a bounded share. The large run is `python -m tests.bench.fuzz --frames 2000000`."""

from pathlib import Path

from tests.fuzz.frames import Tally, fuzz
from tests.fuzz.pushes import DAMAGE, HONEST


def assert_telling(tally: Tally) -> None:
    """A run that says something: every kind of damage came, books were lost and came back."""
    assert set(tally.kinds) == {*DAMAGE, *HONEST, "snapshot"}
    assert set(tally.facts) == {"BookUpdate", "TradePrint", "MarkPrice", "FundingRate", "OrderPush", "Fill"}
    assert min(tally.facts.values()) > tally.frames / 100
    assert {"malformed", "gap", "crossed", "checksum", "stale", "not_a_number", "no_sequence"} <= set(tally.lost)
    assert tally.damaged_told < tally.damaged / 5


def test_damaged_frames_by_structure() -> None:
    tally = fuzz(None, 1, 5_000)
    assert tally.damaged >= 5_000
    assert_telling(tally)


def test_damaged_frames_of_the_venues_own(shared_data: Path) -> None:
    tally = fuzz(shared_data / "bitget_messages", 2, 25_000)
    assert tally.damaged >= 25_000
    assert_telling(tally)
