"""The 24 invariants of mmdaemon, each a named check. `docs/INVARIANTS.md` is made from this table.

An invariant has a row for each moment it is looked at, since truth shows at different places: what is sent, what
arrives, what rests, what the core concluded, what is on the disk. The checks themselves are in `invariants_orders.py`,
`invariants_account.py`, `invariants_guard.py` and `invariants_quality.py`; those that need no truth are
`daemon/assertions.py`, and run in production too.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from mmdaemon.daemon.assertions import IN_PRODUCTION
from mmdaemon.research.simulation import invariants_account as account
from mmdaemon.research.simulation import invariants_guard as guard
from mmdaemon.research.simulation import invariants_orders as orders
from mmdaemon.research.simulation import invariants_quality as quality
from mmdaemon.research.simulation.seen import Check, Invariant, Seen, When, key_of
from mmdaemon.research.simulation.sometimes import EXPECTED, NOT_HERE, never_seen

__all__ = ["INVARIANTS", "LAWS", "Check", "Invariant", "Law", "Seen", "When", "broken", "key_of", "markdown"]


class Law(msgspec.Struct, frozen=True):
    """What an invariant says, and what its checks cannot see."""

    name: str
    says: str
    blind: str


LAWS: Final[dict[int, Law]] = {
    1: Law(
        "exactly_once",
        "With the venue reachable for 90 s, journaled fills equal venue fills as sets; never a duplicate",
        "fills of the last 5 s; a disk that has failed, until the restart",
    ),
    2: Law(
        "worst_case",
        "No admitted command raises side * position + all that is open on that side, in flight and UNKNOWN included, "
        "beyond max(cap, what it was before); what is no quote is reduce-only, and with it that is at most 0; a quote "
        "on a pulled side is at most what is held against it",
        "trades of others that the daemon was not told of; slices of the kill switch, which only reduce; "
        "at the venue, a rise within what some "
        "decision of the last in-flight window allowed",
    ),
    3: Law(
        "reservations",
        "Quantity is freed only when the venue ended the order and its fills are booked, or it never landed and no "
        "longer can",
        "the sizes of orders taken over from an earlier daemon",
    ),
    4: Law(
        "durable_intent",
        "No order reaches the venue without a durable intent of that id",
        "the kill switch's own slices, which no disk may hold up and which only reduce; requests over the rate limit",
    ),
    5: Law(
        "one_meaning",
        "An (id, revision) is sent once, with one set of parameters; UNKNOWN never becomes an end without evidence",
        "in production: whether what the venue said was true",
    ),
    6: Law(
        "known_or_gone",
        "Every open order with our prefix is known, or gone 30 s after start; what is not ours is left alone",
        "orders that rest while faults go on; they count from the last one; what a kill or a flatten cancels",
    ),
    7: Law(
        "position",
        "Reconciled position = sum of fills = venue position, whatever is open as a break, once nothing troubles it; a "
        "round that is over has booked all that filled before it asked",
        "fills of the last 5 s",
    ),
    8: Law(
        "order_life",
        "Order life is monotone; cumulative filled never falls; filled <= sent",
        "an order that was freed and is taken in again begins anew",
    ),
    9: Law(
        "after_kill",
        "After a kill no new order but reduce-only; with the network up, 5 s later nothing that had landed rests, what "
        "lands later is gone in 2 s; nothing lands after VERIFIED",
        "2 s: calm is known to that; a kill begins here with its event, some microseconds after the gate closed",
    ),
    10: Law("own_cross", "No own bid at or above an own ask at the venue", "foreign orders in the account"),
    11: Law(
        "hard_break",
        "While a hard break is open quoting is off; what waits for a person is said until a person closes it",
        "breaks that nobody found: those are 1 and 7",
    ),
    12: Law(
        "account_facts",
        "Account facts match configuration, or the guard is not RUNNING",
        "the two minutes until they are read again",
    ),
    13: Law(
        "figures",
        "Every sent price and size is finite, positive, on tick and lot, within collar and caps",
        "the collar at the venue: the mark moves while a request travels",
    ),
    14: Law(
        "pnl_identity",
        "Cash flows, cost basis and the venue's wallet agree to the last digit",
        "the wallet, while a fill or a bill of the last 5 s is on its way",
    ),
    15: Law(
        "good_book",
        "No quote from a crossed, one-sided, gapped or pre-reconnect book",
        "books that are well-formed and wrong",
    ),
    16: Law(
        "not_blind",
        "No increasing order while book age, clock offset or loop lag exceed limits, or before the first reconcile "
        "after a gap over 5 s; no quoting on an old book, whether or not anything is sent",
        "a clock offset that was not measured yet (once a minute)",
    ),
    17: Law(
        "latches",
        "Guard transitions are in the table; HARD_STOP and KILLED end only by a journaled operator action, across "
        "restarts; RUNNING comes no sooner than the dwell after a soft reason",
        "a latch thrown in the last second before a crash, or onto a disk that had failed",
    ),
    18: Law(
        "budgets",
        "Budgets are sums over the journal by trading day; no restart, clock step or command changes one; breaches of "
        "the cancel budget count until a resume",
        "a day that turned, or a breach, in the last 10 s before a crash, and midnight once the disk had failed; the "
        "message and cancel windows of a minute",
    ),
    19: Law(
        "task_death",
        "No unhandled exception; no task ends unexpectedly; no input crashes the process",
        "what ends because its process was crashed on purpose",
    ),
    20: Law(
        "message_rates",
        "Message rates within budget; at least 30 % kept for cancels",
        "58 s of sending, not 60: a message is counted when it is decided; cancels, which are never held back",
    ),
    21: Law(
        "no_secret",
        "No secret in log, journal, metric or traceback",
        "what only an exchange has: the simulated venue has no keys, so the secret stands in settings and environment",
    ),
    22: Law(
        "tended",
        "Nothing rests longer than T without a live owner; a pause takes every quote out in its own step",
        "while no daemon is up: unless the world says what tends then; while faults go on, which hold T back",
    ),
    23: Law(
        "liveness",
        "60 s after faults end, with no break, no latch and no market reason, two-sided quotes exist; what must not be "
        "carried into the next day is gone when the day turns; a pulled side is back when its time is over",
        "a side of which the decision says that it cannot be quoted, for edge, inventory, pull or size, or that a jump "
        "put beyond the collar of the slow mid; budgets, whose pauses end; what of a pull came before a restart",
    ),
    24: Law(
        "sometimes",
        "Each fault kind, guard transition and UNKNOWN exit was seen in a run of seeds",
        "single seeds: it is looked at over all of them",
    ),
}


def _life(number: int) -> Check:
    """3, 5 or 8 of one evaluation: the first of them to be asked at a step makes it for all three."""

    def check(seen: Seen) -> str:
        at = seen.up_ns, seen.state.seq if seen.state is not None else 0
        known = seen.memory.get("lives")
        if known is None or known[0] != at:
            known = seen.memory["lives"] = at, orders.order_lives(seen)
        found, what = known[1]
        return what if found == number else ""

    check.__name__, check.__module__ = orders.order_lives.__name__, orders.__name__
    return check


_A, _V, _S, _D, _E = When.ARRIVAL, When.VENUE, When.STEP, When.SETTLED, When.END
INVARIANTS: Final[tuple[Invariant, ...]] = tuple(
    Invariant(number, LAWS[number].name, when, check)
    for number, when, check in (
        (1, _D, account.exactly_once),
        (1, _E, account.exactly_once),
        (2, _A, orders.only_quotes_increase),
        (2, _S, orders.worst_case_decided),
        (2, _S, quality.pulled_side_only_reduces),
        (2, _V, orders.worst_case_at_venue),
        (3, _S, _life(3)),
        (4, _A, orders.durable_intent),
        (5, _A, orders.one_set_of_parameters),
        (5, _S, _life(5)),
        (6, _S, orders.others_left_alone),
        (6, _V, orders.known_or_gone),
        (6, _D, orders.known_or_gone),
        (7, _S, account.history_is_booked),
        (7, _D, account.position_agrees),
        (7, _E, account.position_agrees),
        (8, _S, _life(8)),
        (8, _V, orders.filled_within_sent),
        (9, _A, guard.nothing_sent_after_kill),
        (9, _A, guard.nothing_lands_after_verified),
        (9, _V, guard.nothing_rests_after_kill),
        (9, _D, guard.nothing_rests_after_kill),
        (9, _S, guard.verified_is_true),
        (10, _V, orders.no_own_cross),
        (11, _S, guard.off_while_broken),
        (11, _D, guard.breaks_are_kept),
        (12, _S, guard.account_facts),
        (13, _A, orders.figures),
        (13, _S, orders.figures_decided),
        (14, _S, account.identity),
        (14, _D, account.wallet_agrees),
        (14, _E, account.wallet_agrees),
        (15, _S, guard.from_a_good_book),
        (16, _S, guard.not_blind),
        (17, _S, guard.transitions),
        (17, _E, guard.resumes_are_journaled),
        (18, _S, account.budgets_stand),
        (18, _D, account.turnover_is_journaled),
        (19, _S, guard.nothing_died),
        (19, _E, guard.nothing_died),
        (20, _A, orders.message_rates),
        (21, _E, guard.no_secret),
        (22, _V, guard.tended),
        (22, _S, guard.tended_each_second),
        (22, _S, guard.taken_out),
        (23, _S, guard.two_sided),
        (23, _S, guard.flat_at_day_end),
        (23, _S, quality.pull_ends),
    )
)
"""In the order of their numbers. Every row is evaluated at its moment; the first that speaks is the violation. 24 is
none of a moment: `sometimes.never_seen` looks at a whole run."""


def broken(when: When, seen: Seen) -> list[tuple[Invariant, str]]:
    """Everything that does not hold at this moment."""
    found = [(invariant, invariant.check(seen)) for invariant in INVARIANTS if invariant.when is when]
    return [(invariant, what) for invariant, what in found if what]


def markdown() -> str:
    """The text of docs/INVARIANTS.md."""
    lines = [
        "# Invariants",
        "",
        "What holds whatever happens. Made by `python -m mmdaemon.research.simulation.invariants`; a test compares.",
        "",
        "Each is evaluated by `mmdaemon simulate` at the moments named: *arrival* of a command at the venue, any event",
        "at the *venue*, each *step* of the core, *settled* (a daemon up, links up and no fault for 90 s), and the",
        "*end* of a seed; what a whole *run* of seeds must have seen, at its end. Those in production are asserted by",
        "`daemon/assertions.py` after each step, before anything of it is handed on; one that does not hold ends the",
        "controller, closes the gate and throws the kill switch.",
        "",
        "| # | name | says | evaluated | where | in production | cannot see |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number, law in LAWS.items():
        rows = [invariant for invariant in INVARIANTS if invariant.number == number]
        whens = ", ".join(dict.fromkeys(invariant.when.value for invariant in rows)) or "run"
        wheres = "<br>".join(dict.fromkeys(_where(invariant.check) for invariant in rows)) or _where(never_seen)
        produced = "in part" if number in IN_PRODUCTION else ""
        lines.append(f"| {number} | `{law.name}` | {law.says} | {whens} | {wheres} | {produced} | {law.blind} |")
    lines += ["", f"24 wants {len(EXPECTED)} things seen. What the tables allow and this level cannot bring about:", ""]
    lines += [f"- `{name}`: {why}" for name, why in NOT_HERE.items()]
    return "\n".join(lines) + "\n"


def _where(check: Callable[..., object]) -> str:
    module = inspect.getmodule(check)
    file = (module.__name__ if module is not None else "").rpartition(".")[2]
    return f"`{file}.py:{getattr(check, '__name__', '')}`"


if __name__ == "__main__":
    Path(__file__).resolve().parents[3].joinpath("docs", "INVARIANTS.md").write_text(markdown(), encoding="utf-8")
