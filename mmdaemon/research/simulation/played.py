"""What came of one seed."""

import msgspec

from mmdaemon.research.simulation.plan import Named


class Violation(msgspec.Struct, frozen=True):
    """`number` 0: of the harness, or an error nobody caught."""

    number: int
    name: str
    at_s: float
    what: str


class Played(msgspec.Struct):
    """What came of one seed."""

    seed: int
    digest: str = ""
    violation: Violation | None = None
    up_s: float = 0.0
    venue_s: float = 0.0
    running_s: float = 0.0
    two_sided_s: float = 0.0
    lives: int = 0
    crashes: int = 0
    fills: int = 0
    unknowns: int = 0
    sent: int = 0
    steps: int = 0
    settled: int = 0
    faults: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    transitions: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    checks: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    counted: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """What invariant 24 wants to have seen."""
    happened: list[Named] = msgspec.field(default_factory=list[Named])
    """Every fault and fate, by name, in order."""
    cpu_s: float = 0.0
