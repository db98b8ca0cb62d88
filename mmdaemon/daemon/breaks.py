"""Breaks: where the venue and our books do not agree, or where the account does what we did not ask for.

Each is a row of the journal's `breaks` from the moment it is found until it is closed with a resolution, whatever
happens to the process meanwhile. `RULES` has one row a kind: who owns it, whether quoting is off while it is open, how
long the daemon may try to mend it, what it does to that end, and what is left to a person. A soft break whose time is
over is hard from then on; a hard one whose time is over counts towards the halt: the third round on end that finds it
is HARD_STOP.

`Ledger` is the memory of the open ones. It changes at events alone (in `Recorder.record`, and when an operator
accepts), so rows and memory never differ.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from mmdaemon.core import orders as order_rules
from mmdaemon.core import position
from mmdaemon.core.events import AccountSnapshot, Fill, Found, Reconciled
from mmdaemon.core.params import Params
from mmdaemon.core.state import State
from mmdaemon.core.types import E10, NS, ExecKind
from mmdaemon.daemon.sender import LATEST_NS
from mmdaemon.journal import rows
from mmdaemon.journal.records import Break
from mmdaemon.journal.statements import Row


class Kind(StrEnum):
    """What a break is about. Its name is the kind, and where there may be several of them `/` and of what."""

    POSITION = "position"
    EQUITY = "equity"
    SECOND_INSTANCE = "second_instance"
    FORCED_TRADE = "forced_trade"
    ORPHAN = "orphan"
    OVERDUE_ORDER = "overdue_order"
    FOREIGN_ORDER = "foreign_order"
    MANUAL_TRADE = "manual_trade"


class Rule(msgspec.Struct, frozen=True):
    kind: Kind
    owner: str
    """Who closes it: "reconcile", by a round that does not find it any more, or "operator", who accepts it."""
    hard: bool
    """Quoting is off from the first sight on."""
    mend_ns: int | None
    """How long it may be mended before it is hard and counts towards the halt. None: it waits for a person, and
    changes nothing meanwhile."""
    because: str
    mends: str
    """What the daemon does about it by itself."""
    person: str
    """What only a person may do."""


RULES: tuple[Rule, ...] = (
    Rule(
        Kind.POSITION,
        "reconcile",
        True,
        30 * NS,
        "the venue holds another position than our books",
        "reads fills again, an hour back, and compares each second",
        "find the trade that is missing; `resume` once they agree",
    ),
    Rule(
        Kind.EQUITY,
        "reconcile",
        True,
        30 * NS,
        "money came or went that no fill and no line of the ledger that we read explains",
        "reads fills and ledger again, an hour back, and compares each second",
        "find the payment that is missing; `resume` once they agree",
    ),
    Rule(
        Kind.SECOND_INSTANCE,
        "reconcile",
        True,
        0,
        "an order has a bot's tag and is not of this daemon",
        "stops",
        "end one of the two daemons; `resume` the other",
    ),
    Rule(
        Kind.FORCED_TRADE,
        "operator",
        True,
        0,
        "the venue liquidated or deleveraged the position",
        "books the trade, stops",
        "`reconcile --repair --reason ...`, then `resume`",
    ),
    Rule(
        Kind.ORPHAN,
        "reconcile",
        False,
        30 * NS,
        "an order of ours rests that the journal does not know",
        "reserves and cancels it, until it is read as gone",
        "cancel it at the venue",
    ),
    Rule(
        Kind.OVERDUE_ORDER,
        "reconcile",
        False,
        300 * NS,
        "what became of an order is not known long after it must have arrived",
        "keeps its quantity reserved and asks for it every 2 s",
        "look for it at the venue",
    ),
    Rule(
        Kind.FOREIGN_ORDER,
        "operator",
        False,
        None,
        "an order rests in the account that no mmdaemon sent",
        "leaves it alone",
        "`reconcile --repair --cancel ID`, or cancel it at the venue",
    ),
    Rule(
        Kind.MANUAL_TRADE,
        "operator",
        False,
        None,
        "a trade of the account is of no order of ours",
        "books it: position and equity are as the venue has them",
        "`reconcile --repair --reason ...` accepts it",
    ),
)
RULE: dict[str, Rule] = {rule.kind: rule for rule in RULES}
OF_FILLS = frozenset({Kind.MANUAL_TRADE, Kind.FORCED_TRADE})
"""Kinds that a fill opens and a person closes. Every other is opened and closed by rounds."""
EQUITY_TOLERANCE_E10 = E10 // 10_000
"""What venues round away. Anything larger is money that somebody has not told us of."""
_REMEMBERED = Rule(Kind.POSITION, "reconcile", True, 0, "of another version of the daemon", "", "")


def found(kind: Kind, detail: str, subject: str = "", *, hard: bool | None = None) -> Found:
    """A break as a round or a fill found it. `subject` tells several of one kind apart: an order's or a trade's id."""
    rule = RULE[kind]
    name = f"{kind}/{subject}" if subject else str(kind)
    return Found(name, rule.owner, rule.hard if hard is None else hard, detail)


def difference(state: State, params: Params, snapshot: AccountSnapshot) -> Found | None:
    """What of the account does not agree with our books, both values in it; None where all does. Both equities are at
    the venue's mark."""
    ours = state.position
    if abs(snapshot.position_lots - ours.position_lots) > params.guard.position_tolerance_lots:
        return found(Kind.POSITION, f"the venue says {snapshot.position_lots} lots, our books {ours.position_lots}")
    equity_e10 = position.equity_cash_e10(ours, snapshot.mark_px_ticks)
    if abs(snapshot.equity_e10 - equity_e10) > EQUITY_TOLERANCE_E10:
        said = f"the venue says {snapshot.equity_e10}, our books {equity_e10} (1e-10 of quote)"
        return found(Kind.EQUITY, said)
    return None


def overdue(state: State, params: Params, now_ns: int) -> list[Found]:
    """Orders whose fate should have been known long ago: twice the time in which everything sent must have arrived."""
    late: list[Found] = []
    for client_id in order_rules.overdue(state.orders, now_ns, 2 * (LATEST_NS + params.in_flight_max_ns) + 10 * NS):
        order = state.orders.live[client_id]
        age_s = (now_ns - order.created_ns) / NS
        detail = f"{order.status}, {order.reserved_lots} lots reserved, sent {age_s:.0f} s ago"
        late.append(found(Kind.OVERDUE_ORDER, detail, client_id))
    return late


def rule_of(name: str) -> Rule:
    """The rule of a break by its name. What an earlier version called otherwise is hard until a round is clean."""
    return RULE.get(name.partition("/")[0], _REMEMBERED)


def is_of_fills(name: str) -> bool:
    return rule_of(name).kind in OF_FILLS


class Open(msgspec.Struct):
    """One open break. `since_ns` is when this process first saw it (monotonic): time that nobody mended does not
    count."""

    found: Found
    opened_ts_ns: int
    since_ns: int


def text(each: Found) -> str:
    return f"{each.name}: {each.detail}"


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One whole round: what was compared, and what of it did not agree. Sizes are lots, money is 1e-10 of quote."""

    scope: str
    orders: int
    """Open at the venue, ours among them."""
    ours: int
    fills: int
    fills_new: int
    """Read, and not in the books before."""
    bills: int
    bills_new: int
    position_lots: int
    booked_lots: int
    equity_e10: int
    booked_equity_e10: int
    found: tuple[Found, ...]
    """All that is open, what waits for a person included."""

    @property
    def breaks(self) -> tuple[str, ...]:
        """Hard ones."""
        return tuple(text(each) for each in self.found if each.hard)


class Ledger:
    """Every open break by name."""

    def __init__(self, bot_tag: str, run_epoch: int, remembered: Iterable[Break], mono_ns: int) -> None:
        self._own = f"mm{bot_tag}-"
        self._epoch = run_epoch
        self._duplicates: int | None = None
        self.open: dict[str, Open] = {
            row.name: Open(Found(row.name, row.owner, row.hard, row.detail), row.opened_ts_ns, mono_ns)
            for row in remembered
        }

    @property
    def hard(self) -> tuple[str, ...]:
        """As `Facts.breaks` has them."""
        return tuple(text(each.found) for each in self.open.values() if each.found.hard)

    @property
    def is_mending(self) -> bool:
        """Something is open that the daemon mends by itself."""
        return any(rule_of(name).owner == "reconcile" for name in self.open)

    def acceptable(self) -> tuple[str, ...]:
        """Names of those that a person may accept as they are: what was traded."""
        return tuple(name for name in self.open if is_of_fills(name))

    def judge(self, seen: Sequence[Found], mono_ns: int) -> tuple[tuple[Found, ...], bool]:
        """What a round found and what waits for a person, each said hard if its time is over; and whether the daemon is
        still mending: no hard one has outlasted its time. Changes nothing."""
        waiting = [each.found for name, each in self.open.items() if is_of_fills(name)]
        judged: list[Found] = []
        mending = True
        for each in (*seen, *waiting):
            before, rule = self.open.get(each.name), rule_of(each.name)
            age_ns = mono_ns - before.since_ns if before is not None else 0
            over = rule.mend_ns is not None and age_ns >= rule.mend_ns
            hard = rule.hard or over
            mending = mending and not (hard and over)
            judged.append(msgspec.structs.replace(each, hard=hard))
        return tuple(judged), mending

    # --- at events --------------------------------------------------------------------------------------------------

    def on_fill(self, fill: Fill, duplicates: int, seq: int) -> list[Row]:
        """A trade that no order of ours made. `duplicates` is the books' count of fills that they had already: one of
        those opens nothing, least of all what a person has accepted."""
        is_new = self._duplicates is None or duplicates == self._duplicates
        self._duplicates = duplicates
        if not is_new:
            return []
        what = f"{fill.side.name.lower()} {fill.qty_lots} lots at {fill.px_ticks} ticks, order {fill.client_id!r}"
        if fill.exec_kind is not ExecKind.TRADE:
            each = found(Kind.FORCED_TRADE, f"{fill.exec_kind}: {what}", fill.trade_id)
        elif not fill.client_id.startswith(self._own):
            each = found(Kind.MANUAL_TRADE, what, fill.trade_id)
        else:
            return []
        return [self._seen(each, fill.mono_ns, fill.ts_ns, seq)]

    def on_reconciled(self, event: Reconciled, seq: int) -> list[Row]:
        """Those found are opened or seen again; of the others those that rounds close are closed."""
        # What was traded happened once: it is not seen again, and a round that was under way while a person accepted it
        # does not open it again.
        seen = [each for each in event.found if not is_of_fills(each.name)]
        made = [self._seen(each, event.mono_ns, event.ts_ns, seq) for each in seen]
        if event.mending and event.scope == "doubt":
            return made  # a first sight, not a whole round
        still = {each.name for each in seen}
        for name in [name for name in self.open if name not in still and not is_of_fills(name)]:
            del self.open[name]
            made.append(rows.break_closed_row(event.ts_ns, name, "a whole round did not find it any more"))
        return made

    def accept(self, names: Iterable[str], resolution: str, ts_ns: int) -> list[Row]:
        """Close them, by a person's word. They do not count from here on; the rows must follow at once."""
        return [
            rows.break_closed_row(ts_ns, name, resolution) for name in names if self.open.pop(name, None) is not None
        ]

    def _seen(self, each: Found, mono_ns: int, ts_ns: int, seq: int) -> Row:
        known = self.open.get(each.name)
        if known is None:
            self.open[each.name] = Open(each, ts_ns, mono_ns)
        else:
            known.found = each
        return rows.break_seen_row(self._epoch, seq, ts_ns, each.name, each.owner, each.hard, each.detail)
