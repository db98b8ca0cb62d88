"""What came of one seed, and the sums over many."""

from typing import Final

import msgspec

from mmdaemon.research.simulation.plan import CRASHES, Named


class Violation(msgspec.Struct, frozen=True):
    """`number` 0: of the harness, or an error nobody caught."""

    number: int
    name: str
    at_s: float
    what: str


class Figures(msgspec.Struct):
    """What is summed over seeds."""

    up_s: float = 0.0
    venue_s: float = 0.0
    running_s: float = 0.0
    two_sided_s: float = 0.0
    cpu_s: float = 0.0
    lives: int = 0
    crashes: int = 0
    fills: int = 0
    unknowns: int = 0
    sent: int = 0
    steps: int = 0
    settled: int = 0
    faults: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    checks: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    counted: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """What invariant 24 wants to have seen, besides faults."""


_COUNTED: Final = ("faults", "checks", "counted")
_SUMMED: Final = tuple(name for name in Figures.__struct_fields__ if name not in _COUNTED)


class Played(Figures):
    """What came of one seed."""

    seed: int = 0
    digest: str = ""
    violation: Violation | None = None
    happened: list[Named] = msgspec.field(default_factory=list[Named])
    """Every fault and fate, by name, in order."""


class Totals(Figures):
    """Sums over seeds. Rates are for each hour that a daemon was up."""

    seeds: int = 0
    digests: dict[int, str] = msgspec.field(default_factory=dict[int, str])
    failed: list[int] = msgspec.field(default_factory=list[int])

    def add(self, played: Played) -> None:
        self.seeds += 1
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(played, name))
        for name in _COUNTED:
            into: dict[str, int] = getattr(self, name)
            for key, number in getattr(played, name).items():
                into[key] = into.get(key, 0) + number
        self.digests[played.seed] = played.digest
        if played.violation is not None:
            self.failed.append(played.seed)

    @property
    def hours(self) -> float:
        return self.up_s / 3_600

    def an_hour(self, number: float) -> float:
        return number / self.hours if self.up_s else 0.0

    def share(self, seconds: float) -> float:
        return seconds / self.up_s if self.up_s else 0.0

    @property
    def faults_in_all(self) -> int:
        return sum(self.faults.values())

    @property
    def crashes_an_hour(self) -> float:
        return self.an_hour(sum(self.faults.get(kind.value, 0) for kind in CRASHES))
