"""Invariants of the account: 1, 7, 14 and 18. Journal, memory and venue say the same, to the last digit.

The journal is read as it is in the file, by a connection of its own that is opened for the reading, and only what was
appended since the last time.
"""

import sqlite3
from contextlib import closing

import msgspec

from mmdaemon.core import position
from mmdaemon.core.events import Bill, Fill, OperatorAction, Reconciled, TimerFired
from mmdaemon.core.state import State
from mmdaemon.core.types import NS
from mmdaemon.daemon import assertions
from mmdaemon.research.simulation.seen import Seen, seconds

_GRACE_NS = 5 * NS
"""A fill of the last moments may still be on its way to the daemon or to its disk."""
_LOST_DAY_NS = 10 * NS
"""A day that turned so shortly before a crash may not have been committed."""


class Booked(msgspec.Struct):
    """What the journal holds of fills, up to `rowid`."""

    fills: dict[str, tuple[int, int, int, int]] = {}
    """trade id -> side, price, size, fee."""
    twice: list[str] = []
    turnover_e10: int = 0
    lots: int = 0
    rowid: int = 0


def booked(seen: Seen) -> Booked:
    """What is in the file now."""
    found = seen.memory.setdefault("booked", Booked())
    if not seen.journal.is_file():
        return found
    with closing(sqlite3.connect(f"{seen.journal.absolute().as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT rowid, trade_id, side, px_ticks, qty_lots, fee_e10, notional_e10 FROM fills WHERE rowid > ? "
            "ORDER BY rowid",
            (found.rowid,),
        )
        for rowid, trade_id, side, px, qty, fee, notional in rows:
            if trade_id in found.fills:
                found.twice.append(trade_id)
            found.fills[trade_id] = side, px, qty, fee
            found.turnover_e10 += notional
            found.lots += side * qty
            found.rowid = rowid
    return found


def fresh_fills(seen: Seen) -> list[Fill]:
    """Fills at the venue that are too young to be expected anywhere, or not yet booked in memory but still so young."""
    oldest = seen.now_ns - _GRACE_NS
    found: list[Fill] = []
    for fill in reversed(seen.truth.fills):
        if (fill.venue_ts_ns or 0) <= oldest:
            break
        found.append(fill)
    return found


def exactly_once(seen: Seen) -> str:
    """1: fills in the journal are the venue's fills, as sets, each once and with its own figures."""
    journal = booked(seen)
    if journal.twice:
        return f"fill {journal.twice[0]} is in the journal twice"
    there = {fill.trade_id: (int(fill.side), fill.px_ticks, fill.qty_lots, fill.fee_e10) for fill in seen.truth.fills}
    for trade_id, figures in journal.fills.items():
        if there.get(trade_id) != figures:
            return f"fill {trade_id} is journaled as {figures}, at the venue it is {there.get(trade_id)}"
    if seen.disk_failed or seen.state is None:
        return ""
    fresh = {fill.trade_id for fill in fresh_fills(seen)}
    missing = [trade_id for trade_id in there if trade_id not in journal.fills and trade_id not in fresh]
    return f"{len(missing)} fills of the venue are not journaled, the first is {missing[0]}" if missing else ""


def position_agrees(seen: Seen) -> str:
    """7: booked = sum of the journal's fills = the venue's. A break is no excuse: nothing troubled it for so long that
    it must be mended."""
    state = seen.state
    if state is None or seen.disk_failed:
        return ""
    ours, journal = state.position, booked(seen)
    fresh = fresh_fills(seen)
    there = seen.truth.position_lots - sum(f.side * f.qty_lots for f in fresh if f.trade_id not in ours.trade_ids)
    on_disk = journal.lots + sum(
        f.side * f.qty_lots for f in fresh if f.trade_id in ours.trade_ids and f.trade_id not in journal.fills
    )
    if there == ours.position_lots == on_disk:
        return ""
    return (
        f"position {ours.position_lots} in memory, {on_disk} in the journal, {there} at the venue; "
        f"{state.guard.state.value}, breaks {state.facts.breaks}"
    )


def history_is_booked(seen: Seen) -> str:
    """7: when a round is over, whatever filled before it asked for history is booked, however long ago that was."""
    state = seen.state
    if type(seen.event) is not Reconciled or state is None:
        return ""
    fills = seen.truth.fills
    at: int = seen.memory.get("history", 0)
    while at < len(fills) and (fills[at].venue_ts_ns or 0) < seen.history_ns:
        fill = fills[at]
        if fill.trade_id not in state.position.trade_ids:
            return (
                f"history was asked for {seconds(seen.now_ns - seen.history_ns)} ago, and fill {fill.trade_id} of "
                f"{seconds(seen.now_ns - (fill.venue_ts_ns or 0))} ago is not booked"
            )
        at += 1
    seen.memory["history"] = at
    return ""


def identity(seen: Seen) -> str:
    """14, both sides of the books."""
    if seen.state is None or type(seen.event) not in (Fill, Bill, TimerFired):
        return ""
    return assertions.identity(seen.state)


def wallet_agrees(seen: Seen) -> str:
    """14, against the venue's wallet, once all of its fills and bills that are not of this moment are booked."""
    state = seen.state
    if state is None or not state.venue.mark_px_ticks:
        return ""
    ours, mark, truth = state.position, state.venue.mark_px_ticks, seen.truth
    young = [*fresh_fills(seen), *(b for b in truth.bills if (b.venue_ts_ns or 0) > seen.now_ns - _GRACE_NS)]
    if any((x.trade_id if isinstance(x, Fill) else x.bill_id) not in _ids(state.position, x) for x in young):
        return ""  # something is on its way; the next look will do
    there = truth.wallet.balance_e10 + truth.wallet.unrealised_e10(mark)
    here = position.equity_basis_e10(ours, mark)
    if here != there:
        missing = [bill.bill_id for bill in truth.bills if bill.bill_id not in ours.bill_ids]
        return f"equity {here} in the books, {there} in the wallet (1e-10 quote); bills not booked: {missing}"
    return ""


def _ids(held: position.Position, what: Fill | Bill) -> dict[str, None]:
    return held.trade_ids if isinstance(what, Fill) else held.bill_ids


def budgets_stand(seen: Seen) -> str:
    """18: within a day its opening figures stand, across restarts too."""
    state, event = seen.state, seen.event
    if type(event) is OperatorAction and event.action == "resume":
        seen.count("resume")
    if state is None or type(event) is not TimerFired:
        return ""
    if lost := _breaches_lost(seen, state):
        return lost
    now = assertions.opening(state)
    before, turned_ns, untold = seen.memory.get("day", (None, 0, False))
    if before is None or now[0] > before[0]:
        # Once its disk has failed, a daemon that is stopped for good cannot journal that midnight passed.
        seen.memory["day"] = now, seen.now_ns, seen.disk_failed
        return ""
    if now == before:
        return ""
    seen.memory["day"] = now, seen.now_ns, seen.disk_failed
    if untold or (seen.down_ns and 0 <= seen.down_ns - turned_ns < _LOST_DAY_NS):
        return ""
    return f"(day, open less transfers, turnover at the open) was {before}, is {now}; {seen.restarts} restarts"


def _breaches_lost(seen: Seen, state: State) -> str:
    """Breaches of the cancel budget are counted until somebody resumes, whatever happens to the process."""
    now = state.budgets.cancel_breaches
    before, since_ns, resumes = seen.memory.get("breaches", (0, 0, 0))
    resumed = seen.counted.get("resume", 0)
    if now != before or resumed != resumes:
        seen.memory["breaches"] = now, seen.now_ns, resumed
    if now >= before or resumed != resumes or 0 <= seen.down_ns - since_ns < _LOST_DAY_NS:
        return ""
    return f"{before} breaches of the cancel budget, and now {now}; nobody resumed"


def turnover_is_journaled(seen: Seen) -> str:
    """18: the day's turnover is a sum over the journal."""
    if seen.state is None or seen.disk_failed:
        return ""
    journal, held = booked(seen), seen.state.position
    young = [f for f in fresh_fills(seen) if f.trade_id in held.trade_ids and f.trade_id not in journal.fills]
    there = journal.turnover_e10 + sum(seen.instrument.notional_e10(f.px_ticks, f.qty_lots) for f in young)
    return f"turnover {held.turnover_e10} in memory, {there} in the journal" if held.turnover_e10 != there else ""
