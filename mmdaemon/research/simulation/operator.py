"""The person at the desk: looks every few seconds, thinks for 10 to 120 s, and resumes what may be resumed; restarts
what only a restart mends. What they do is journaled as any operator's."""

from typing import Final

from mmdaemon.clock import Clock
from mmdaemon.core.reasons import BIT, Reason
from mmdaemon.core.types import NS, GuardState, KillState
from mmdaemon.daemon.pace import sleep_ns
from mmdaemon.daemon.supervisor import Daemon
from mmdaemon.research.simulation.plan import Plan

WHO: Final = "the operator (simulated)"
_LOOKS_NS: Final = 5 * NS
_RESTART_BITS: Final = BIT[Reason.JOURNAL_FAILED] | BIT[Reason.TASK_DIED] | BIT[Reason.SECOND_INSTANCE]
_PATIENCE: Final = 4
"""Refusals after which a restart is tried."""


class Person:
    """One operator for all lives of a seed. `hurried` once the end of the seed is near."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._acts = 0
        self.hurried = False
        self.resumed = 0
        self.refused: list[str] = []

    async def attend(self, daemon: Daemon) -> None:
        """While the daemon lives; until cancelled."""
        refusals = 0
        while True:
            await sleep_ns(self._clock, _LOOKS_NS)
            if not _needs_somebody(daemon):
                refusals = 0
                continue
            self._acts += 1
            thinks_ns = (10 + self._plan.draw("operator", self._acts, 111)) * NS
            await sleep_ns(self._clock, _LOOKS_NS if self.hurried else thinks_ns)
            if daemon.state.guard.raw & _RESTART_BITS or refusals >= _PATIENCE:
                daemon.stop("the operator restarts it")
                return
            if not _needs_somebody(daemon):
                continue
            outcome = await daemon.parts.operator.resume("looked at it (simulated)", WHO)
            self.resumed += outcome.ok
            refusals += not outcome.ok
            if not outcome.ok:
                self.refused.append(outcome.message)


def _needs_somebody(daemon: Daemon) -> bool:
    stopped = daemon.state.guard.state is GuardState.HARD_STOP
    killed = daemon.parts.kill_switch.kill_state is not KillState.ARMED
    return stopped or killed or bool(daemon.state.facts.pause_reason)
