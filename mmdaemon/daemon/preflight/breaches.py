"""The limits of a configuration, breached in a state that nobody trades with: the core's own `step`, its parameters."""

from collections.abc import Callable, Iterable
from typing import Final

from mmdaemon.core import limits
from mmdaemon.core.commands import Cancel
from mmdaemon.core.engine import step
from mmdaemon.core.events import (
    AccountSnapshot,
    Bill,
    BillKind,
    BookUpdate,
    Event,
    FeeSchedule,
    FundingRate,
    HealthFacts,
    LinkChanged,
    MarkPrice,
    Reconciled,
    Started,
    TimerFired,
)
from mmdaemon.core.params import Params
from mmdaemon.core.reasons import Reason, reasons_of
from mmdaemon.core.state import State, new_state
from mmdaemon.core.types import E10, NS, GuardState, Link
from mmdaemon.daemon.preflight.items import Finding
from mmdaemon.daemon.preflight.site import Site

EQUITY_E10: Final = 100_000 * E10
_BEGAN_NS: Final = 1_000 * NS
_WALL_NS: Final = 1_790_000_000 * NS + 7_200 * NS
"""A quiet hour, far from midnight and from a settlement."""
_HOURS_NS: Final = 72 * 3_600 * NS
Step = Callable[[State, Event, Params], object]


class Desk:
    """A state that is told everything it wants to know, and runs."""

    def __init__(self, params: Params, stepped: Step = step) -> None:
        self._params, self._step = params, stepped
        self.state = new_state(params, EQUITY_E10)
        self._now_ns = _BEGAN_NS
        self._px_ticks = max(1_000, 60_000 * E10 // params.instrument.tick_e10)
        self.equity_e10 = self.available_e10 = EQUITY_E10
        self.is_account_right = True
        now = self._now()
        self.feed(
            Started(*now, params.run_epoch, latched=False),
            LinkChanged(*now, Link.PUBLIC, up=True),
            LinkChanged(*now, Link.PRIVATE, up=True),
            FeeSchedule(*now, 0.0002, 0.0006, "made up"),
            FundingRate(*now, 0.0, now[1] + _HOURS_NS, 28_800),
        )
        for _ in range(3 + params.guard.soft_clear_ns // NS):
            self.second()

    @property
    def guard(self) -> GuardState:
        return self.state.guard.state

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return reasons_of(self.state.guard.active)

    def feed(self, *events: Event) -> None:
        for event in events:
            self._step(self.state, event, self._params)

    def second(self) -> None:
        """One in good health, but for what was made otherwise."""
        self._now_ns += NS
        now, px = self._now(), self._px_ticks
        bids, asks = (tuple((px + side * (5 + i), 1_000) for i in range(5)) for side in (-1, 1))
        self.feed(
            HealthFacts(
                *now, 0.0, 0.0, 0.0, journal_failed=False, account_facts_ok=self.is_account_right, unprotected_s=0.0
            ),
            MarkPrice(*now, px),
            AccountSnapshot(*now[:2], now[1], 0, self.equity_e10, 0, self.available_e10, px),
            BookUpdate(*now, bids, asks),
            TimerFired(*now, "sample"),
            Reconciled(*now, "periodic", (), 0),
        )

    def lose(self, fraction: float) -> None:
        """So much of the equity, by a line of the ledger, and the account with it."""
        lost_e10 = round(fraction * EQUITY_E10)
        self.equity_e10 -= lost_e10
        self.available_e10 = self.equity_e10
        self.feed(Bill(*self._now(), "lost", BillKind.FEE, -lost_e10))
        self.second()

    def cancel(self, times: int) -> None:
        """So many cancels go out at once."""
        for number in range(times):
            limits.on_command(
                self.state.budgets,
                Cancel(f"c{number}", risk=False),
                self._now_ns,
                self._params.limits,
                self._params.guard,
            )
        self.state.guard.dirty = True
        self.second()

    def _now(self) -> tuple[int, int, None]:
        return self._now_ns, self._now_ns + _WALL_NS, None


_LITTLE: Final = 1e-4


def breaches(params: Params, stepped: Step = step) -> Iterable[tuple[str, bool, str]]:
    """(guard, whether it stopped as it must and not before, what happened) of each limit: a little below it and a
    little beyond."""
    most = params.guard
    if (state := Desk(params, stepped)).guard is not GuardState.RUNNING:
        yield "start", False, f"a healthy state is {state.guard.value} ({' '.join(state.reasons)})"
        return

    def lost(fraction: float) -> Callable[[Desk], None]:
        return lambda desk: desk.lose(fraction)

    def margin(fraction: float) -> Callable[[Desk], None]:
        def change(desk: Desk) -> None:
            desk.available_e10 = round(fraction * desk.equity_e10)
            desk.second()

        return change

    def account(*, right: bool) -> Callable[[Desk], None]:
        def change(desk: Desk) -> None:
            desk.is_account_right = right
            desk.second()

        return change

    least = min(most.daily_loss, most.drawdown)
    for name, reason, state_then, below, beyond in (
        ("daily_loss", Reason.DAILY_LOSS, GuardState.HARD_STOP, lost(least - _LITTLE), lost(most.daily_loss + _LITTLE)),
        ("drawdown", Reason.DRAWDOWN, GuardState.HARD_STOP, lost(least - _LITTLE), lost(most.drawdown + _LITTLE)),
        ("leverage", Reason.ACCOUNT_FACTS, GuardState.HARD_STOP, account(right=True), account(right=False)),
        (
            "margin_soft",
            Reason.MARGIN_SOFT,
            GuardState.REDUCING,
            margin(most.margin_soft + _LITTLE),
            margin(most.margin_soft - _LITTLE),
        ),
        (
            "margin_hard",
            Reason.MARGIN_HARD,
            GuardState.HARD_STOP,
            margin(most.margin_soft + _LITTLE),
            margin(most.margin_hard - _LITTLE),
        ),
    ):
        within, past = Desk(params, stepped), Desk(params, stepped)
        below(within)
        beyond(past)
        if within.guard is not GuardState.RUNNING:
            yield name, False, f"{within.guard.value} below the limit ({' '.join(within.reasons)})"
        elif reason not in past.reasons or (past.guard is not state_then and past.guard is not GuardState.HARD_STOP):
            yield name, False, f"{past.guard.value} beyond the limit ({' '.join(past.reasons) or 'no reason'})"
        else:
            yield name, True, past.guard.value


def escalates(params: Params, stepped: Step = step) -> list[str]:
    """The guard's state after each breach of the cancel budget, up to the one that must stop it."""
    desk, states = Desk(params, stepped), list[str]()
    for _ in range(params.guard.cancel_breaches_hard):
        desk.cancel(params.limits.cancels_per_minute + 1)
        states.append(desk.guard.value)
    return states


async def guards(site: Site) -> Finding:
    """Each limit of this configuration, a little below and a little beyond it."""
    params = site.settings.to_params(site.hands.instrument, "pref", 1, can_amend=site.venue.can_amend)
    found = list(breaches(params))
    most = params.guard
    return Finding(
        {
            "daily_loss_fraction": most.daily_loss,
            "drawdown_fraction": most.drawdown,
            "margin_soft_fraction": most.margin_soft,
            "margin_hard_fraction": most.margin_hard,
            "stopped": sum(is_right for _, is_right, _ in found),
        },
        f"the core's step with this configuration: {', '.join(f'{name} {how}' for name, _, how in found)}",
        tuple(f"{name}: {how}" for name, is_right, how in found if not is_right),
    )
