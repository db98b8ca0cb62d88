"""Who watches one seed: fills `Seen` from what happens at the venue, in the core and on the disk, evaluates the
invariants at their moments, and keeps the first violation."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from mmdaemon.clock import VirtualClock
from mmdaemon.core.commands import Command, Place
from mmdaemon.core.engine import Step
from mmdaemon.core.events import Event, KillChanged, OrderUpdate
from mmdaemon.core.types import NS, OrderStatus
from mmdaemon.ops.metrics import Reading, StatusCollector
from mmdaemon.ops.status import Status
from mmdaemon.research.simulation import invariants
from mmdaemon.research.simulation.plan import HISTORY_BEHIND_MAX_S, Plan
from mmdaemon.research.simulation.played import Played, Violation
from mmdaemon.research.simulation.seen import Invariant, Seen, When, key_of
from mmdaemon.research.simulation.setting import IN_FLIGHT_MAX_S, canary_of, refused_settings
from mmdaemon.venues.simulated.venue import SimulatedVenue

SETTLE_NS = 90 * NS


class Watch:
    """One per seed; `played` is what it has seen so far."""

    def __init__(
        self,
        venue: SimulatedVenue,
        clock: VirtualClock,
        plan: Plan,
        prefix: str,
        journal: Path,
        say: Callable[[str], None],
    ) -> None:
        self._venue, self._clock, self._say = venue, clock, say
        self._started_ns = clock.mono_ns()
        self._venue_offset_ns = clock.wall_offset_ns
        """Venue time less monotonic time, whatever the daemon's wall clock does."""
        self.played = Played(seed=plan.seed)
        self.seen = Seen(venue.exchange.instrument, prefix, journal, round(IN_FLIGHT_MAX_S * NS))
        self.seen.keeps(canary_of(plan))
        self.seen.hear(refused_settings(plan), "what is said of wrong settings")
        self.status: Callable[[], Status] | None = None
        """Of the daemon that is up, or was last."""
        self._checks: dict[When, list[Invariant]] = {when: [] for when in When}
        for invariant in invariants.INVARIANTS:
            self._checks[invariant.when].append(invariant)
        self.on_place: Callable[[], None] | None = None
        """Hears of each new order just before it leaves."""
        self._settled_since = 0
        self.is_up = False

    @property
    def now_ns(self) -> int:
        """Nanoseconds since the beginning of the seed."""
        return self._clock.mono_ns() - self._started_ns

    @property
    def venue_ns(self) -> int:
        return self._clock.mono_ns() + self._venue_offset_ns

    def count(self, kind: str, ordinal: int | None = None) -> None:
        """A fault happened. It counts as one only where there was a daemon to suffer it."""
        if self.is_up:
            self.played.faults[kind] = self.played.faults.get(kind, 0) + 1
        if ordinal is not None:
            self.played.happened.append((kind, ordinal))

    def check(self, when: When) -> None:
        if self.played.violation is not None:
            return
        self.seen.now_ns = self.venue_ns
        for invariant in self._checks[when]:
            self.played.checks[invariant.name] = self.played.checks.get(invariant.name, 0) + 1
            if what := invariant.check(self.seen):
                self.violate(invariant.number, invariant.name, what)
                return

    def violate(self, number: int, name: str, what: str) -> None:
        """Keep the first; the run ends before the next callback."""
        if self.played.violation is None:
            self.played.violation = Violation(number, name, self.now_ns / NS, what)
            self._say(f"VIOLATION {number} {name}: {what}")

    def look(self) -> None:
        """Bring what checks may look at up to date."""
        self.seen.truth = self._venue.truth()
        self.seen.venue_resting = self._venue.exchange.matching.live

    def on_request(self, _at_ns: int, command: Command) -> None:
        self.seen.truth = self._venue.exchange.truth()
        self.seen.venue_resting = self._venue.exchange.matching.live
        self.seen.command = command
        self.arrived(command)
        self.check(When.ARRIVAL)

    def arrived(self, command: Command) -> None:
        key = key_of(command)
        if key is not None:
            self.seen.arrived.add(key)

    def on_change(self, _at_ns: int) -> None:
        self.seen.truth = self._venue.exchange.truth()
        self.seen.venue_resting = self._venue.exchange.matching.live
        self.check(When.VENUE)

    def on_send(self, command: Command) -> None:
        self.played.sent += 1
        if self.on_place is not None and isinstance(command, Place):
            self.on_place()
        self.seen.now_ns = self.venue_ns
        self.seen.sending(command)

    @contextmanager
    def reading(self) -> Generator[None]:
        """The daemon reads the history of fills. A read that fails is none, and what is answered may be behind."""
        asked_ns, up_ns = self.venue_ns - round(HISTORY_BEHIND_MAX_S * NS), self.seen.up_ns
        yield
        if self.seen.up_ns == up_ns:
            self.seen.history_ns = asked_ns

    def on_disk_failure(self) -> None:
        seen = self.seen
        seen.disk_failed = True
        seen.latch_excused = seen.latch_excused or seen.kill is not None
        seen.expected_deaths.add("journal")

    def on_commit(self) -> None:
        self.check(When.COMMIT)

    def on_step(self, event: Event, step: Step) -> None:
        seen = self.seen
        seen.event, seen.step = event, step
        if type(event) is OrderUpdate and event.status is OrderStatus.UNKNOWN:
            self.played.unknowns += 1
        elif type(event) is KillChanged:
            seen.now_ns = self.venue_ns
            seen.killed(event.state)
        self.check(When.STEP)

    def unexpected(self, what: str) -> None:
        self.seen.errors.append(what)
        self.violate(19, "task_death", what)

    def _read_status(self) -> None:
        """As a person and a scrape would: both are looked through for the canary."""
        if self.status is None:
            return
        reading = Reading(self.status(), {}, 0)
        self.seen.hear(msgspec.json.encode(reading.status).decode(), "the status")
        self.seen.hear(" ".join(str(family) for family in StatusCollector(lambda: reading).collect()), "the metrics")

    def look_if_settled(self) -> None:
        """The checks of a daemon that nothing troubled for a while, once each time."""
        seen = self.seen
        since = max(seen.links_up_since_ns, seen.faults_ended_ns, seen.up_ns)
        due = bool(seen.links_up_since_ns) and self.venue_ns - since >= SETTLE_NS
        if due and self._settled_since != since:
            self._settled_since = since
            self.played.settled += 1
            self.look()
            self._read_status()
            self.check(When.SETTLED)
