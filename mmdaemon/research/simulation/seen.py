"""What an invariant may look at: the venue's own truth beside what the daemon believes, over the whole of one seed.

`world.py` fills it: it sets the public fields, and says what happened by `started`, `died`, `sending`, `killed` and
`hear`. It outlives the daemons of its seed. All times but those inside events and `State` are
nanoseconds of the venue's wall clock, which never steps.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mmdaemon.core.commands import Amend, Cancel, Command, Place
from mmdaemon.core.engine import NOTHING, Step
from mmdaemon.core.events import Event
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import NS, Instrument, KillState, Purpose
from mmdaemon.ops.logging import redactor
from mmdaemon.venues.simulated.records import Truth, VenueOrder
from mmdaemon.venues.simulated.wallet import Wallet

_OF_ONE_LIFE = (
    *("last orders", "lives seen", "last guard", "gap", "public", "kill state", "history", "held", "found"),
    *("phases", "wide"),
)
"""What the checks remember of one daemon only."""


class When(StrEnum):
    """At which moments an invariant is evaluated."""

    ARRIVAL = "arrival"
    """A command reached the venue: `seen.command`. Before or after the venue worked on it, either will do."""
    VENUE = "venue"
    """Anything happened at the venue: a fill, an order changed."""
    STEP = "step"
    """The core took `seen.event` and made `seen.step` of it."""
    COMMIT = "commit"
    """The journal committed."""
    SETTLED = "settled"
    """A daemon is up, and neither link nor fault troubled it for 90 s. As often as every few seconds."""
    END = "end"
    """The seed is over."""


class Check(Protocol):
    def __call__(self, seen: "Seen", /) -> str:
        """Empty, or what is violated, with figures."""
        ...


class Invariant(msgspec.Struct, frozen=True):
    """One check of one invariant. An invariant that is looked at in several moments has a row for each."""

    number: int
    name: str
    when: When
    check: Check


class Kill(msgspec.Struct):
    """One time the kill switch was thrown, until an operator resumed."""

    tripped_ns: int
    verified_ns: int | None = None
    resumed_ns: int | None = None


class Seen:
    """See the module's docstring. One per seed."""

    def __init__(self, instrument: Instrument, prefix: str, journal: Path, in_flight_max_ns: int) -> None:
        self.instrument = instrument
        self.prefix = prefix
        """`mm<bot>-`: what our orders begin with."""
        self.journal = journal
        self.in_flight_max_ns = in_flight_max_ns
        """The longest that a request can be on its way; the fault layer keeps below it."""

        self.now_ns = 0
        self.truth = Truth([], {}, [], [], Wallet(instrument, 0, Decimal(0), Decimal(0)), 0)
        self.venue_resting: Sequence[VenueOrder] = ()
        """What rests at the venue now, foreign orders included. Live objects."""
        self.state: State | None = None
        """None while no daemon is up."""
        self.params: Params
        """Of the daemon that is up, or was last."""
        self.command: Command | None = None
        self.event: Event | None = None
        self.step: Step = NOTHING
        self.up_ns = 0
        """Since when this daemon is up; 0 while none is."""
        self.down_ns = 0
        """Since when none is, or when the last one before this ended; 0: never."""
        self.links_up_since_ns = 0
        """Since when both streams, requests and reads get through, no window of faults being open; 0 while not."""
        self.faults_ended_ns = 0
        """When the last fault of any kind was over, faults of single requests and of the disk included; 0 while one is
        on."""
        self.restarts = 0
        self.kills: list[Kill] = []
        self.strangers: set[str] = set()
        """Orders under our prefix that no daemon of this seed sent."""
        self.durable_intents: set[tuple[str, int]] = set()
        """(client id, revision) of intents that are committed."""
        self.sent: dict[tuple[str, int], Command] = {}
        """Orders and amends as they were first handed to `venue.send`, by (client id, revision)."""
        self.sent_ns: dict[tuple[str, int], int] = {}
        self.arrived: set[tuple[str, int]] = set()
        """Orders and amends that reached the venue."""
        self.resent: list[str] = []
        """What was sent again under an id and revision that had been sent."""
        self.sent_killed: list[str] = []
        """What was sent after a kill and may increase a position."""
        self.meddled: list[str] = []
        """What of others was cancelled, though no kill emptied the symbol and no person had it flattened."""
        self.sends_ns: deque[int] = deque()
        """When orders and amends were sent, lately."""

        self.errors: list[str] = []
        """Anything unexpected: an exception of a task or callback, of the harness, a process that ended by itself."""
        self.expected_deaths: set[str] = set()
        """Tasks whose end a fault explains (`journal`, where the disk failed)."""
        self.history_ns = 0
        """When this daemon asked for the history of fills that it got last; 0: it got none."""
        self.leaks: list[str] = []
        """Where the secret was seen that must appear nowhere."""
        self.disk_failed = False
        """The disk of this daemon failed, so that nothing more can be journaled until it restarts."""
        self.latch_excused = False
        """The disk failed while a latch had to be written, so a restart may not find it."""
        self.facts_wrong_since_ns = 0
        """Since when the venue's account is not as configured; 0: it is."""
        self.untended_max_ns: int | None = None
        """Longest that orders may rest while no daemon is up (dead man, sweep after exit). None: nobody tends."""

        self.counted: dict[str, int] = {}
        """Of invariant 24: what happened how often."""
        self._blotted: Callable[[str], str] = str
        self.memory: dict[str, Any] = {}
        """What the checks keep from one moment to the next, each under its own name."""

    # --- what the world tells -----------------------------------------------------------------------------------------

    def started(self, state: State, params: Params) -> None:
        """A daemon is up."""
        self.restarts += self.down_ns != 0
        self.state, self.params, self.up_ns = state, params, self.now_ns
        self.disk_failed = False
        for name in _OF_ONE_LIFE:
            self.memory.pop(name, None)
        self.count("restart" if self.restarts else "start")

    def died(self) -> None:
        """It is not up any more, whatever ended it."""
        self.history_ns = 0
        self.state, self.up_ns, self.down_ns = None, 0, self.now_ns

    def sending(self, command: Command) -> None:
        """A daemon hands a command to `venue.send`."""
        key = key_of(command)
        if key is None:
            if not command.client_id.startswith(self.prefix) and self.kill is None and not self._is_asked_to_empty:
                self.meddled.append(f"{command}, which is not ours")
            return
        before = self.sent.setdefault(key, command)
        if key in self.sent_ns:
            self.resent.append(f"{command} after {before}" if before != command else f"{command} twice")
        else:
            self.sent_ns[key] = self.now_ns
        if not (isinstance(command, Place) and command.purpose is Purpose.FLATTEN):
            self.sends_ns.append(self.now_ns)  # the kill switch's slices come out of the share that is kept for it
        if self.kill is not None and not (isinstance(command, Place) and command.reduce_only):
            self.sent_killed.append(f"{command} {seconds(self.now_ns - self.kill.tripped_ns)} after the kill")

    def killed(self, state: KillState) -> None:
        """The kill switch says where it is."""
        before = self.memory.get("kill state", KillState.ARMED)
        self.count(f"kill {before} -> {state}")
        match state:
            case KillState.KILLING:
                self.tripped()
            case KillState.VERIFIED:
                self.verified()
            case KillState.ARMED:
                self.resumed()
            case KillState.QUIET | KillState.KILLED:
                pass
        self.memory["kill state"] = state

    def tripped(self) -> None:
        """The kill switch left ARMED, or a daemon began latched. Thrown again, it is the same kill."""
        self.memory["kill state"] = KillState.KILLING
        if self.kill is None:
            self.kills.append(Kill(self.now_ns))
            self.count("kill")

    def verified(self) -> None:
        """The kill switch is VERIFIED."""
        if self.kill is not None:
            self.kill.verified_ns = self.now_ns

    def resumed(self) -> None:
        """An operator's resume brought it back to ARMED."""
        if self.kill is not None:
            self.kill.resumed_ns = self.now_ns
            self.count("resume after kill")

    def keeps(self, secret: str) -> None:
        """From now on this must appear nowhere, in whatever writing."""
        self._blotted = redactor([secret])

    def hear(self, text: str, where: str) -> None:
        """Something was said: logged, shown, raised, written."""
        if self._blotted(text) != text:
            self.leaks.append(where)

    def count(self, what: str, times: int = 1) -> None:
        self.counted[what] = self.counted.get(what, 0) + times

    # --- what the checks ask ------------------------------------------------------------------------------------------

    @property
    def kill(self) -> Kill | None:
        """The one in force."""
        last = self.kills[-1] if self.kills else None
        return last if last is not None and last.resumed_ns is None else None

    @property
    def calm_ns(self) -> int:
        """For how long a daemon is up and untroubled; 0 while it is not."""
        if not (self.up_ns and self.links_up_since_ns and self.faults_ended_ns):
            return 0
        return max(0, self.now_ns - max(self.up_ns, self.links_up_since_ns, self.faults_ended_ns))

    @property
    def _is_asked_to_empty(self) -> bool:
        """Somebody flattens, which begins with a pause."""
        return self.state is not None and bool(self.state.facts.pause_reason)

    def is_own(self, client_id: str) -> bool:
        """Of a daemon of this seed."""
        return client_id.startswith(self.prefix) and client_id not in self.strangers

    def own_resting(self) -> Iterable[VenueOrder]:
        """What rests under our prefix, strangers included: they have to go as well."""
        return [o for o in self.venue_resting if o.client_id.startswith(self.prefix) and not o.status.is_terminal]

    def may_land(self, client_id: str, revision: int = 0) -> bool:
        """It was sent, has not arrived, and still can."""
        key = client_id, revision
        sent_ns = self.sent_ns.get(key)
        return sent_ns is not None and key not in self.arrived and self.now_ns - sent_ns < self.in_flight_max_ns

    def fate(self, client_id: str) -> str:
        """What became of an order in truth: `open`, `in flight`, `ended`, or `nothing`: it never was an order there,
        and cannot become one any more."""
        order = self.truth.orders.get(client_id)
        if order is not None:
            return "ended" if order.status.is_terminal else "open"
        return "in flight" if self.may_land(client_id) else "nothing"


def key_of(command: Command) -> tuple[str, int] | None:
    """(client id, revision) of what may rest; None of a cancel."""
    match command:
        case Place():
            return command.client_id, 0
        case Amend():
            return command.client_id, command.revision
        case Cancel():
            return None


def seconds(ns: int) -> str:
    """For messages."""
    return f"{ns / NS:.3f} s"
