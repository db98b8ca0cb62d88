"""The control socket under a small attack. The large one is `python -m tests.bench.fuzz --control 500000`."""

from pathlib import Path

from tests.fuzz.sockets import INPUTS, attack, verb_of


def test_a_small_attack(tmp_path: Path) -> None:
    tally = attack(tmp_path / "c.sock", 1, 3_000)
    assert tally.inputs == 3_000
    assert set(tally.kinds) == set(INPUTS)
    assert tally.honest >= 6
    assert tally.outcomes["malformed"] > 1_000
    assert tally.outcomes["oversized"] > 20
    assert tally.outcomes["closed_early"] > 100
    assert tally.reached < 60, "too much of it was a request after all"


def test_the_second_reading_of_a_request() -> None:
    """What the attack holds the server against."""
    assert verb_of(b'{"version":1,"verb":"kill","args":{"wait":true}}\nmore') == "kill"
    assert verb_of(b'{"version":1,"verb":"kill"}') is None
    assert verb_of(b'{"version":2,"verb":"kill"}\n') is None
    assert verb_of(b'{"version":1,"verb":"kill","args":{"wait":1}}\n') is None
    assert verb_of(b'{"version":1,"verb":"kill","who":"me"}\n') is None
    assert verb_of(b"[" * 4_000 + b"\n") is None
