"""What goes wrong in a seed, and when. Pure: each decision is a hash of (seed, kind, ordinal), so that taking one fault
away moves no other.

The ordinal of a fault is the minute of the venue's time in which it may begin; that of the fate of a request, read or
message is its number. Seven minutes of each ten are bad and three are calm, so that what must hold once things settle
can be seen. Each seed has a mixture of its own: a kind may be absent, half as frequent, or twice as frequent as usual.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from mmdaemon.core.types import NS
from mmdaemon.venues.simulated.faults import SPOILED, WINDOWS, FaultRates
from mmdaemon.venues.simulated.latency import Draws

CYCLE_MINUTES: Final = 10
BAD_MINUTES: Final = 7
SETTLEMENT_NS: Final = 8 * 3_600 * NS
_DAYS: Final = 1_767_225_600 * NS
"""The first day of 2026; seeds begin in the year after it."""


class Kind(StrEnum):
    """What happens beyond the venue's own `FaultKind`s."""

    CRASH_STEP = "crash_step"
    """The process ends before the n-th callback of its loop from then on."""
    CRASH_BEFORE_COMMIT = "crash_before_commit"
    CRASH_AFTER_COMMIT = "crash_after_commit"
    STOP = "stop"
    """SIGTERM: it stops in order, and is started again."""
    DISK_SLOW = "disk_slow"
    DISK_FAILS = "disk_fails"
    WALL_STEP = "wall_step"
    """The wall clock jumps, and jumps back later."""
    MAINTENANCE = "maintenance"
    """Links down, reads fail and requests are refused, all at once."""
    FOREIGN_ORDER = "foreign_order"
    MANUAL_TRADE = "manual_trade"
    TRANSFER = "transfer"
    ACCOUNT_CHANGED = "account_changed"
    """Position mode, leverage or permissions, for a while."""
    STALL = "stall"
    """The machine stands still for up to a second, and with it everything on its way."""
    STALL_ALONE = "stall_alone"
    """The daemon does not run for up to 4 s. The venue does: its messages queue, and what was sent lands."""
    MACHINE_SLEEP = "machine_sleep"
    """For half a minute to an hour. The clocks go on, the timers of the loop do not, and the links are gone."""
    CRASH_LOOP = "crash_loop"
    """It ends, and again and again within seconds of each start."""
    CRASH_IN_START = "crash_in_start"
    """It ends, and the next ones end before they are up, or at their first commits."""
    DISK_IN_START = "disk_in_start"
    """It ends, and the disk of the next start is slow or full."""
    REPLICA_BEHIND = "replica_behind"
    """Three of four reads are answered with what was so a moment ago."""
    RULES_CHANGED = "rules_changed"
    """Tick, lot or minimum are coarser than the daemon knows."""
    TRADING_SUSPENDED = "trading_suspended"
    """No order is taken; cancels are. In half of them all that rests is cancelled first, as when delisted."""
    FEES_CHANGED = "fees_changed"
    SECOND_DAEMON = "second_daemon"
    """Another one on the same account, for up to two minutes."""
    DEAD_MAN_FIRES = "dead_man_fires"
    """The venue's countdown runs out though it was refreshed, and every order is cancelled."""
    BAN = "ban"
    """Over every rate limit, for minutes."""
    STRANGER = "stranger"
    """An order under our tag that no run of this journal sent, or of another bot."""
    OPERATOR_PAUSE = "operator_pause"
    OPERATOR_KILL = "operator_kill"
    OPERATOR_FLATTEN = "operator_flatten"
    SIGNAL_FLOOD = "signal_flood"
    """A source outside says anything at all, thousands of times a second."""
    LYING_SOURCE = "lying_source"
    """One says what is allowed, as far as it goes, to one side and then to the other, with pauses in between."""
    SKEW = "skew"
    """The wall clock is wrong from the beginning on. Ordinal 0."""


CRASHES: Final = (Kind.CRASH_STEP, Kind.CRASH_BEFORE_COMMIT, Kind.CRASH_AFTER_COMMIT)
A_MINUTE: Final[dict[str, float]] = {
    **{kind.value: 0.15 if kind in SPOILED else 0.3 for kind in WINDOWS},
    **{kind.value: 0.07 for kind in CRASHES},
    Kind.STOP: 0.02,
    Kind.DISK_SLOW: 0.10,
    Kind.DISK_FAILS: 0.01,
    Kind.WALL_STEP: 0.06,
    Kind.MAINTENANCE: 0.02,
    Kind.FOREIGN_ORDER: 0.03,
    Kind.MANUAL_TRADE: 0.03,
    Kind.TRANSFER: 0.04,
    Kind.ACCOUNT_CHANGED: 0.02,
    Kind.STALL: 0.15,
    Kind.STALL_ALONE: 0.05,
    Kind.MACHINE_SLEEP: 0.01,
    Kind.CRASH_LOOP: 0.01,
    Kind.CRASH_IN_START: 0.02,
    Kind.DISK_IN_START: 0.02,
    Kind.REPLICA_BEHIND: 0.10,
    Kind.RULES_CHANGED: 0.01,
    Kind.TRADING_SUSPENDED: 0.01,
    Kind.FEES_CHANGED: 0.02,
    Kind.DEAD_MAN_FIRES: 0.04,
    Kind.BAN: 0.01,
    Kind.STRANGER: 0.02,
    Kind.SECOND_DAEMON: 0.01,
    Kind.OPERATOR_PAUSE: 0.02,
    Kind.OPERATOR_KILL: 0.02,
    Kind.OPERATOR_FLATTEN: 0.01,
    Kind.SIGNAL_FLOOD: 0.02,
    Kind.LYING_SOURCE: 0.05,
}
"""Probability that a fault begins in a bad minute, at the middle of a seed's mixtures."""
LATE_MAX_S: Final = 2.5
STALL_MAX_S: Final = 1.0
BEHIND_MAX_S: Final = 1.2
"""How old an answer about orders may be. The three stay below `in_flight_max_s` with everything else that a request may
wait for."""
HISTORY_BEHIND_MAX_S: Final = 4.0
"""The same of fills, bills and the account, whose overlap covers more."""
SLEEP_S: Final = (30.0, 3_600.0)
RATES: Final = FaultRates(
    request_lost=0.07,
    ack_lost=0.07,
    late=0.08,
    late_max_s=LATE_MAX_S,
    request_twice=0.03,
    refused=0.02,
    read_fails=0.12,
    stream_lost=0.04,
    stream_again=0.06,
    stream_late=0.08,
    stream_vague=0.08,
    fill_late=0.03,
)
"""Fates of requests, reads and messages in bad minutes, at the middle of a seed's mixtures."""
FATES: Final = (
    *("request_lost", "ack_lost", "late", "request_twice", "refused", "read_fails"),
    *("stream_lost", "stream_again", "stream_late", "stream_vague", "fill_late"),
)
_MIXTURE: Final = (0.0, 0.5, 1.0, 2.0, 1.0, 2.0)
_LONGEST_S: Final[dict[str, float]] = {
    Kind.WALL_STEP: 40.0,
    Kind.DISK_FAILS: 5.0,
    Kind.MAINTENANCE: 60.0,
    Kind.ACCOUNT_CHANGED: 100.0,
    Kind.STALL: STALL_MAX_S - 0.05,
    Kind.STALL_ALONE: 4.0,
    Kind.REPLICA_BEHIND: 120.0,
    Kind.RULES_CHANGED: 60.0,
    Kind.TRADING_SUSPENDED: 100.0,
    Kind.FEES_CHANGED: 300.0,
    Kind.BAN: 200.0,
    Kind.SECOND_DAEMON: 100.0,
    Kind.DISK_IN_START: 10.0,
    Kind.SIGNAL_FLOOD: 10.0,
    Kind.LYING_SOURCE: 60.0,
}
_ALWAYS: Final = frozenset({kind.value for kind in CRASHES})
"""Kinds that no seed is without."""


class Fault(msgspec.Struct, frozen=True):
    """One planned fault. `seconds` and `number` mean what its kind says."""

    kind: str
    ordinal: int
    at_s: float
    """Of the venue's time, from the beginning of the seed."""
    seconds: float = 0.0
    number: int = 0


Named = tuple[str, int]
"""A fault or a fate by name: (kind, ordinal)."""


class Plan(msgspec.Struct, frozen=True):
    """One seed: how long its daemons are to be up, and which faults it keeps."""

    seed: int
    hours: float
    only: tuple[Named, ...] | None = None
    """None: everything that is drawn. Else nothing but these."""

    @property
    def start_ts_ns(self) -> int:
        """Half of the seeds begin shortly before a settlement or midnight, the others anywhere."""
        draws = Draws(self.seed, "start")
        ns = _DAYS + draws.below(1, 365 * 3) * SETTLEMENT_NS
        if self.seed % 2 == 0:
            return ns + draws.below(2, SETTLEMENT_NS // NS) * NS
        return ns - (60 + draws.below(3, max(1, round(self.hours * 1_800)))) * NS

    @property
    def rollover_hour_utc(self) -> int:
        """Midnight in half of the seeds. In the others the day turns at the settlement before which they begin, or at
        the next one."""
        if self.draw("rollover", 0, 2):
            return 0
        return -(-self.start_ts_ns // SETTLEMENT_NS) % 3 * 8

    def weight(self, kind: str) -> float:
        weight = _MIXTURE[Draws(self.seed, f"mixture/{kind}").below(0, len(_MIXTURE))]
        return weight or (0.5 if kind in _ALWAYS else 0.0)

    @property
    def rates(self) -> FaultRates:
        scaled = {kind: getattr(RATES, kind) * self.weight(kind) for kind in FATES}
        return msgspec.structs.replace(RATES, **scaled)

    @property
    def kept(self) -> frozenset[Named] | None:
        return None if self.only is None else frozenset(self.only)

    def keeps(self, kind: str, ordinal: int) -> bool:
        return self.only is None or (kind, ordinal) in self.only

    @property
    def skew_ns(self) -> int:
        """How wrong the wall clock is from the start: nothing in half of the seeds, else up to 0.4 s."""
        if not self.keeps(Kind.SKEW, 0) or self.draw(Kind.SKEW, 0, 2):
            return 0
        return self.draw(Kind.SKEW, 1, 800_000_000) - 400_000_000

    def draw(self, what: str, ordinal: int, bound: int) -> int:
        """Any other number of this seed, in [0, bound)."""
        return Draws(self.seed, what).below(ordinal, bound)

    def minute(self, minute: int) -> Iterator[Fault]:
        """The faults that begin in a minute."""
        if is_calm(minute):
            return
        for kind, probability in A_MINUTE.items():
            if self.only is not None and (kind, minute) not in self.only:
                continue
            if Draws(self.seed, kind).happens(minute, probability * self.weight(kind)):
                yield self._fault(str(kind), minute)

    def _fault(self, kind: str, minute: int) -> Fault:
        draws = Draws(self.seed, f"{kind}/details")
        at_s = 60 * minute + draws.below(4 * minute, 60_000) / 1_000
        share = draws.below(4 * minute + 1, 1_000_000) / 1_000_000
        number = draws.below(4 * minute + 2, 1 << 32)
        return Fault(kind, minute, at_s, 0.05 + _LONGEST_S.get(kind, 20.0) * share**2, number)

    def restart_after_s(self, life: int) -> float:
        """How long it stays down after its `life`-th life: 0.1 to 30 s, evenly by logarithm, and 30 s to 9 h in one of
        forty."""
        draws = Draws(self.seed, "restart")
        share = draws.below(2 * life, 1_000_000) / 1_000_000
        if draws.below(2 * life + 1, 40):
            return 0.1 * 300.0**share
        return 30.0 * 1_080.0**share


def is_calm(minute: int) -> bool:
    return minute % CYCLE_MINUTES >= BAD_MINUTES
