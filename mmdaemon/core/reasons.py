"""Why the guard is not RUNNING: one table, a row a reason, with its owner, what it blocks, its condition and its cure.

A condition returns whether it holds now, and the next moment at which that may change with no event at all. "No
data" holds: what was never measured or never read is taken for bad. (Drift is the exception: without a mid 30 s ago
there is none, after every gap of the feed, and what a gap is worth is the book's reason to say.) `guard.py` turns what
holds into a state.
"""

from collections.abc import Callable
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

import msgspec

from mmdaemon.core import book as book_rules
from mmdaemon.core.derisk import is_day_ending
from mmdaemon.core.limits import VENUE_PAUSES_HARD
from mmdaemon.core.observe import blocked_why
from mmdaemon.core.params import Params
from mmdaemon.core.types import NEVER_NS, KillState, OrderStatus, Side

if TYPE_CHECKING:
    from mmdaemon.core.state import State


class Blocks(IntEnum):
    """What a reason takes away. The strongest active one decides the state."""

    INCREASE = 1
    ALL = 2
    HARD = 3


class Reason(StrEnum):
    """Why the guard is not RUNNING. Documented in `docs/GUARDS.md`, which a test compares with `RULES`."""

    DRIFT = "drift"
    TURNOVER = "turnover"
    CANCEL_BUDGET = "cancel_budget"
    MESSAGE_BUDGET = "message_budget"
    MARGIN_SOFT = "margin_soft"
    FUNDING_UNKNOWN = "funding_unknown"
    EDGE = "edge"
    DAY_ENDING = "day_ending"
    UNPROTECTED = "unprotected"
    SIGNAL_PAUSE = "signal_pause"
    BOOK = "book"
    MARK = "mark"
    FEES = "fees"
    POSITION = "position"
    CLOCK = "clock"
    LOOP_LAG = "loop_lag"
    JOURNAL_SLOW = "journal_slow"
    NO_FACTS = "no_facts"
    UNANSWERED = "unanswered"
    OPERATOR_PAUSE = "operator_pause"
    EXTERNAL_PAUSE = "external_pause"
    SOURCE_ENDED = "source_ended"
    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    MARGIN_HARD = "margin_hard"
    CANCEL_BREACHES = "cancel_breaches"
    REPEATED_EXECUTION = "repeated_execution"
    REJECT_STREAK = "reject_streak"
    BREAK = "break"
    ACCOUNT_FACTS = "account_facts"
    JOURNAL_FAILED = "journal_failed"
    TASK_DIED = "task_died"
    SECOND_INSTANCE = "second_instance"
    KILL = "kill"


Condition = Callable[["State", int, Params], tuple[bool, int]]
"""(state, now mono_ns, params) -> (holds now, moment it may flip with no event)."""


class Rule(msgspec.Struct, frozen=True):
    reason: Reason
    blocks: Blocks
    owner: str
    condition: Condition
    cure: str
    """The event that re-evaluates it."""
    because: str


_UNPROTECTED_MAX_S = 30.0
_UNANSWERED_MAX = 6
"""Orders that are UNKNOWN at once. One lost answer is the network; a ladder of them is a venue that does not speak, and
each order that is placed there may land at any time."""
_BAD_RECONCILES_HARD = 3


# --- conditions -------------------------------------------------------------------------------------------------------


def _drift(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    drift = s.detector.drift_bps
    return drift is not None and abs(drift) > p.guard.drift_max_bps, NEVER_NS


def _turnover(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    day = s.position.turnover_e10 - s.risk.day_turnover_start_e10
    return day > p.cost.turnover_cap * max(0, s.risk.equity_e10), NEVER_NS


def _cancel_budget(s: "State", now: int, _p: Params) -> tuple[bool, int]:
    until = s.budgets.cancel_pause_until_ns
    return now < until, until if now < until else NEVER_NS


def _message_budget(s: "State", now: int, _p: Params) -> tuple[bool, int]:
    until = s.budgets.message_pause_until_ns
    return now < until, until if now < until else NEVER_NS


def _margin_ratio(s: "State") -> float | None:
    account = s.venue.account
    if account is None or account.equity_e10 <= 0:
        return None
    return account.available_margin_e10 / account.equity_e10


def _margin_soft(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    ratio = _margin_ratio(s)
    return ratio is not None and ratio < p.guard.margin_soft, NEVER_NS


def _funding_unknown(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return s.venue.funding is None, NEVER_NS


def _edge(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    # One side alone is a missing quote, and no reason not to quote the other.
    return bool(blocked_why(s, Side.BUY) and blocked_why(s, Side.SELL)), NEVER_NS


def _day_ending(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return is_day_ending(s), NEVER_NS


def _unprotected(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    health = s.facts.health
    return health is not None and not health.unprotected_s <= _UNPROTECTED_MAX_S, NEVER_NS


def _book(s: "State", now: int, p: Params) -> tuple[bool, int]:
    # While the public link is down there is no book: `apply` drops it and takes none.
    limit_ns = p.guard.book_age_max_ns
    if not book_rules.is_healthy(s.book, now, limit_ns):
        return True, NEVER_NS
    return False, book_rules.stale_at_ns(s.book, limit_ns)


def _mark(s: "State", now: int, p: Params) -> tuple[bool, int]:
    # Equity is valued at the mark: while that stands still, no loss limit can see a loss.
    if not s.venue.mark_ns:
        return True, NEVER_NS
    stale_at = s.venue.mark_ns + p.guard.mark_age_max_ns + 1
    return now >= stale_at, stale_at if now < stale_at else NEVER_NS


def _fees(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return s.venue.fees is None, NEVER_NS


def _position(s: "State", now: int, p: Params) -> tuple[bool, int]:
    if s.facts.breaks or s.venue.account is None or not s.facts.reconciled_ns:
        return True, NEVER_NS
    unknown_at = s.facts.reconciled_ns + p.guard.unknown_position_ns
    return now >= unknown_at, unknown_at if now < unknown_at else NEVER_NS


def _clock(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    health = s.facts.health
    if health is None or health.clock_offset_s is None:
        return True, NEVER_NS
    return not _is_within(abs(health.clock_offset_s), p.guard.clock_offset_max_ns), NEVER_NS


def _loop_lag(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    health = s.facts.health
    if health is None or health.loop_lag_s is None:
        return True, NEVER_NS
    return not _is_within(health.loop_lag_s, p.guard.loop_lag_max_ns), NEVER_NS


def _journal_slow(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    health = s.facts.health
    if health is None or health.journal_age_s is None:
        return True, NEVER_NS
    return not _is_within(health.journal_age_s, p.guard.journal_age_max_ns), NEVER_NS


def _is_within(measured_s: float, most_ns: int) -> bool:
    # Asked as what is fine, so that NaN is not fine either.
    return measured_s * 1e9 <= most_ns


def _no_facts(s: "State", now: int, p: Params) -> tuple[bool, int]:
    health = s.facts.health
    if health is None or health.account_facts_ok is None:
        return True, NEVER_NS
    until = health.mono_ns + p.guard.facts_age_max_ns
    return now >= until, until if now < until else NEVER_NS


def _unanswered(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return sum(order.status is OrderStatus.UNKNOWN for order in s.orders.live.values()) > _UNANSWERED_MAX, NEVER_NS


def _operator_pause(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return bool(s.facts.pause_reason), NEVER_NS


def _signal_pause(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    holds = s.signals.effect.pause == "increase"
    return holds, s.signals.due_ns if holds else NEVER_NS


def _external_pause(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    holds = s.signals.effect.pause == "all"
    return holds, s.signals.due_ns if holds else NEVER_NS


def _source_ended(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return s.facts.source_ended, NEVER_NS


def _daily_loss(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    # Equity unknown to be positive at the open has nothing to lose a share of: any loss then counts.
    loss = s.risk.day_open_e10 - s.risk.equity_e10
    return s.risk.day >= 0 and loss > p.guard.daily_loss * max(0, s.risk.day_open_e10), NEVER_NS


def _drawdown(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    return s.risk.peak_e10 - s.risk.equity_e10 > p.guard.drawdown * max(0, s.risk.peak_e10), NEVER_NS


def _margin_hard(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    if s.venue.account is not None and s.venue.account.equity_e10 <= 0:
        return True, NEVER_NS
    ratio = _margin_ratio(s)
    return ratio is not None and ratio < p.guard.margin_hard, NEVER_NS


def _cancel_breaches(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    return s.budgets.cancel_breaches >= p.guard.cancel_breaches_hard, NEVER_NS


def _repeated_execution(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    return s.budgets.fills_peak > p.guard.fills_per_side_per_minute, NEVER_NS


def _reject_streak(s: "State", _now: int, p: Params) -> tuple[bool, int]:
    # Of refusals for rate the pauses count that they led to, so that a storm is sat out and a ban is not.
    return s.orders.reject_streak >= p.guard.rejects_in_a_row or _is_banned(s), NEVER_NS


def _is_banned(s: "State") -> bool:
    return s.budgets.fruitless_pauses >= VENUE_PAUSES_HARD


def _break(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return s.facts.bad_reconciles >= _BAD_RECONCILES_HARD, NEVER_NS


def _account_facts(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    health = s.facts.health
    return health is not None and health.account_facts_ok is False, NEVER_NS


def _journal_failed(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    health = s.facts.health
    return health is not None and health.journal_failed, NEVER_NS


def _task_died(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return bool(s.facts.dead_tasks), NEVER_NS


def _second_instance(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return any(b.startswith("second_instance") for b in s.facts.breaks), NEVER_NS


def _kill(s: "State", _now: int, _p: Params) -> tuple[bool, int]:
    return s.facts.kill is not KillState.ARMED, NEVER_NS


RULES: tuple[Rule, ...] = (
    Rule(Reason.DRIFT, Blocks.INCREASE, "regime", _drift, "TimerFired", "the mid moved too far in 30 s"),
    Rule(Reason.TURNOVER, Blocks.INCREASE, "cost", _turnover, "TimerFired", "the day's turnover reached its cap"),
    Rule(Reason.CANCEL_BUDGET, Blocks.INCREASE, "limits", _cancel_budget, "deadline", "too many cancels in a minute"),
    Rule(
        Reason.MESSAGE_BUDGET, Blocks.INCREASE, "limits", _message_budget, "deadline", "too many messages in a minute"
    ),
    Rule(Reason.MARGIN_SOFT, Blocks.INCREASE, "guard", _margin_soft, "AccountSnapshot", "available margin is low"),
    Rule(Reason.FUNDING_UNKNOWN, Blocks.INCREASE, "cost", _funding_unknown, "FundingRate", "no funding rate is known"),
    Rule(Reason.EDGE, Blocks.INCREASE, "cost", _edge, "TimerFired", "the market pays for neither side"),
    Rule(Reason.DAY_ENDING, Blocks.INCREASE, "risk", _day_ending, "TimerFired", "too much is held as the day ends"),
    Rule(
        Reason.UNPROTECTED,
        Blocks.INCREASE,
        "protect",
        _unprotected,
        "HealthFacts",
        "the venue keeps no stop, or no countdown, for us",
    ),
    Rule(Reason.SIGNAL_PAUSE, Blocks.INCREASE, "signals", _signal_pause, "deadline", "a signal says not to increase"),
    Rule(Reason.BOOK, Blocks.ALL, "book", _book, "BookUpdate", "no healthy book within its age limit"),
    Rule(Reason.MARK, Blocks.ALL, "market", _mark, "MarkPrice", "no mark price within its age limit"),
    Rule(Reason.FEES, Blocks.ALL, "cost", _fees, "FeeSchedule", "the account's fee rates are unknown"),
    Rule(
        Reason.POSITION, Blocks.ALL, "reconcile", _position, "Reconciled", "the position is unknown or does not agree"
    ),
    Rule(Reason.CLOCK, Blocks.ALL, "guard", _clock, "HealthFacts", "the clock is off, or was not measured"),
    Rule(Reason.LOOP_LAG, Blocks.ALL, "guard", _loop_lag, "HealthFacts", "the event loop is late"),
    Rule(Reason.JOURNAL_SLOW, Blocks.ALL, "guard", _journal_slow, "HealthFacts", "rows wait too long for the journal"),
    Rule(Reason.NO_FACTS, Blocks.ALL, "guard", _no_facts, "HealthFacts", "the guard's measurements stopped"),
    Rule(Reason.UNANSWERED, Blocks.ALL, "orders", _unanswered, "OrderUpdate", "too many orders went without an answer"),
    Rule(Reason.OPERATOR_PAUSE, Blocks.ALL, "operator", _operator_pause, "OperatorAction", "an operator paused it"),
    Rule(Reason.EXTERNAL_PAUSE, Blocks.ALL, "signals", _external_pause, "deadline", "a signal says not to quote"),
    Rule(Reason.SOURCE_ENDED, Blocks.ALL, "market", _source_ended, "none", "the recorded market is over"),
    Rule(Reason.DAILY_LOSS, Blocks.HARD, "guard", _daily_loss, "resume", "the day's loss passed its limit"),
    Rule(Reason.DRAWDOWN, Blocks.HARD, "guard", _drawdown, "resume", "equity fell too far from its peak"),
    Rule(Reason.MARGIN_HARD, Blocks.HARD, "guard", _margin_hard, "resume", "available margin is nearly gone"),
    Rule(
        Reason.CANCEL_BREACHES, Blocks.HARD, "limits", _cancel_breaches, "resume", "the cancel budget broke repeatedly"
    ),
    Rule(Reason.REPEATED_EXECUTION, Blocks.HARD, "limits", _repeated_execution, "resume", "one side fills too often"),
    Rule(
        Reason.REJECT_STREAK, Blocks.HARD, "orders", _reject_streak, "resume", "orders are rejected one after another"
    ),
    Rule(Reason.BREAK, Blocks.HARD, "reconcile", _break, "resume", "venue and journal do not agree, after repairs"),
    Rule(Reason.ACCOUNT_FACTS, Blocks.HARD, "guard", _account_facts, "resume", "the account is not as configured"),
    Rule(Reason.JOURNAL_FAILED, Blocks.HARD, "journal", _journal_failed, "restart", "the journal cannot be written"),
    Rule(Reason.TASK_DIED, Blocks.HARD, "wire", _task_died, "restart", "a part of the daemon ended"),
    Rule(
        Reason.SECOND_INSTANCE,
        Blocks.HARD,
        "reconcile",
        _second_instance,
        "resume",
        "another daemon uses our orders' tag",
    ),
    Rule(Reason.KILL, Blocks.HARD, "kill_switch", _kill, "resume", "the kill switch was thrown"),
)

BIT: dict[Reason, int] = {rule.reason: 1 << i for i, rule in enumerate(RULES)}
_MASK = {blocks: sum(BIT[r.reason] for r in RULES if r.blocks is blocks) for blocks in Blocks}
HARD_MASK = _MASK[Blocks.HARD]
ALL_MASK = _MASK[Blocks.ALL]
INCREASE_MASK = _MASK[Blocks.INCREASE]


def full(state: "State", now_ns: int, params: Params) -> tuple[int, int]:
    """Every condition, evaluated: (bits of those that hold, the next moment one may flip with no event)."""
    bits = 0
    deadline = NEVER_NS
    bit = 1
    for rule in RULES:
        holds, flips_ns = rule.condition(state, now_ns, params)
        if holds:
            bits |= bit
        if flips_ns < deadline:  # noqa: PLR1730 - a call of `min` for each of 30 rules, some 250,000 times a day
            deadline = flips_ns
        bit <<= 1
    return bits, deadline


def reasons_of(bits: int) -> tuple[Reason, ...]:
    """The reasons in a set of bits, in the order of the table."""
    return tuple(rule.reason for rule in RULES if bits & BIT[rule.reason])
