"""What of all that the daemon says is told to a person by itself, wherever they are (`ops/notify.py`).

It hears what the log hears. Nothing here is asked of the core, and nothing waits.
"""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from mmdaemon.core.reasons import Reason
from mmdaemon.core.types import GuardState, KillState
from mmdaemon.ops.notify import Notice

BREAK_S: Final = 300.0
"""A break that is open for so long is not mended by itself."""
UNVERIFIED_MARGIN_S: Final = 15.0
"""A kill is verified within the in-flight window and this."""
UNCLEAN: Final = "began_after_unclean_end"
"""Word of the log for a start after an end that was none of an operator's."""
_STATUS: Final = "`mmdaemon status` says why; "
_RESUME: Final = "`mmdaemon resume --reason ...` goes on"
_DAY: Final = frozenset({Reason.DAILY_LOSS.value, Reason.DRAWDOWN.value})
_JOURNAL: Final = frozenset({Reason.JOURNAL_FAILED.value})


class Waiting(Protocol):
    """A call that is to come."""

    def cancel(self) -> None: ...


Later = Callable[[float, Callable[[], None]], Waiting]
"""(in so many seconds, what to call): the loop's."""


def _do(text: str, page: str) -> str:
    return f"{text}. docs/RUNBOOK.md#{page}"


class Notices:
    """Turns words of the log into notices. Called on the loop."""

    def __init__(self, say: Callable[[Notice], None], later: Later, in_flight_max_s: float) -> None:
        self._say = say
        self._later = later
        self._verify_s = in_flight_max_s + UNVERIFIED_MARGIN_S
        self._unverified: Waiting | None = None
        self._broken: Waiting | None = None
        self._breaks = ""
        self._told = ""
        """Why the guard stopped, as it was told: the kill that follows is no second piece of news."""

    def hear(self, name: str, fields: Mapping[str, object]) -> None:
        """A word of the daemon's log."""
        match name:
            case "guard" if fields.get("after") == GuardState.HARD_STOP.value:
                self._on_stop(str(fields.get("reasons", "")))
            case "kill_switch":
                self._on_kill(str(fields.get("state", "")), str(fields.get("reason", "")))
            case "breaks":
                self._on_breaks(str(fields.get("open", "")))
            case "task_died":
                why = f"{fields.get('task')}: {fields.get('error')}"
                self._tell("part_died", "A part of the daemon died.", why, _do("A defect: keep the log", "kill-fired"))
            case "journal_failed" | "latch_file_failed":
                why = str(fields.get("error") or fields.get("failure"))
                self._tell("journal_failing", "The journal or the latch cannot be written.", why, _JOURNAL_DO)
            case "orders_may_rest":
                what = f"It ends, and orders may rest at the venue in {fields.get('in')}."
                do = _do("Look at the venue's open orders; `mmdaemon kill --direct` cancels them", "kill-fired")
                self._tell("orders_may_rest", what, "the venue was not read empty", do)
            case "not_ended":
                what = "It ends, and parts of it did not stop."
                self._tell("unclean_stop", what, str(fields.get("parts")), _do("A defect: keep the log", "kill-fired"))
            case _ if name == UNCLEAN:
                what = "It began after an end that was not clean: a crash, or a machine that went away."
                do = _do("It recovers by itself; look whether it quotes: `mmdaemon status`", "disaster-recovery")
                self._tell("started_after_crash", what, f"unclean starts of late: {fields.get('starts')}", do)
            case _:
                pass

    def ended(self, exit_code: int, why: str) -> None:
        """The daemon's last words; an end with 0 needs none."""
        self.close()
        if exit_code:
            do = _do("systemd starts it again (not after 78); look at its log and at the venue", "stopped-trading")
            self._tell("unclean_stop", f"It ended with exit code {exit_code}.", why, do)

    def close(self) -> None:
        """Nothing is told later."""
        for each in (self._unverified, self._broken):
            if each is not None:
                each.cancel()
        self._unverified = self._broken = None

    def _tell(self, kind: str, what: str, why: str, do: str) -> None:
        self._say(Notice(kind, what, why, do))

    def _on_stop(self, reasons: str) -> None:
        said = set(reasons.split())
        if said == {Reason.KILL.value}:
            return  # the kill speaks for itself
        self._told = reasons
        if said & _DAY:
            what = "A loss limit stopped trading: everything is cancelled."
            self._tell("loss_limit", what, reasons, _do("Find the cause before you resume", "daily-loss"))
        elif said & _JOURNAL:
            self._tell("journal_failing", "The journal failed, so trading stopped.", reasons, _JOURNAL_DO)
        else:
            what = "HARD STOP: everything is cancelled, and it stays stopped."
            self._tell("hard_stop", what, reasons, _do(_STATUS + _RESUME, "kill-fired"))

    def _on_kill(self, state: str, reason: str) -> None:
        if state == KillState.KILLING.value:
            if self._unverified is None:
                self._unverified = self._later(self._verify_s, self._is_unverified)
            if reason != self._told:
                what = "KILLED: everything is cancelled, and it stays stopped."
                self._tell("killed", what, reason, _do(_STATUS + _RESUME, "kill-fired"))
        elif state in (KillState.VERIFIED.value, KillState.KILLED.value, KillState.ARMED.value):
            if self._unverified is not None:
                self._unverified.cancel()
            self._unverified = None
            if state == KillState.ARMED.value:
                self._told = ""

    def _is_unverified(self) -> None:
        self._unverified = None
        what = f"A kill is NOT VERIFIED after {self._verify_s:g} s: orders may rest at the venue."
        do = _do("Look at the venue and cancel there; `mmdaemon kill --direct` needs no daemon", "kill-fired")
        self._tell("kill_not_verified", what, "the venue could not be read empty throughout the in-flight window", do)

    def _on_breaks(self, names: str) -> None:
        self._breaks = names
        if names in ("", "none"):
            if self._broken is not None:
                self._broken.cancel()
            self._broken = None
        elif self._broken is None:
            self._broken = self._later(BREAK_S, self._is_unresolved)

    def _is_unresolved(self) -> None:
        self._broken = None
        what = f"Venue and books have not agreed for {BREAK_S / 60:g} minutes."
        self._tell(
            "break_open", what, self._breaks, _do("`mmdaemon reconcile` shows the breaks", "unexpected-position")
        )


_JOURNAL_DO: Final = _do("Look at the disk: room, read-only, permissions", "journal-trouble")
