"""The books beside the venue's statement, and what the venue was asked for."""

from collections.abc import Mapping
from typing import Final

from mmdaemon.core import position
from mmdaemon.core.events import Fill
from mmdaemon.core.position import Position
from mmdaemon.core.types import NS, Liquidity, Side
from mmdaemon.daemon.breaks import EQUITY_TOLERANCE_E10
from mmdaemon.daemon.preflight.account import mischarged
from mmdaemon.daemon.preflight.breaches import escalates
from mmdaemon.daemon.preflight.items import Finding
from mmdaemon.daemon.preflight.site import Site
from mmdaemon.daemon.preflight.trading import accept, pause, resume
from mmdaemon.journal.reader import JournalReader
from mmdaemon.journal.records import FillRow
from mmdaemon.venues.base import Cursor

_FIELDS: Final = ("position_lots", "realised_e10", "fees_e10", "funding_e10", "transfers_e10", "cash_flow_e10")
_SHOWN: Final = 3


async def pnl(site: Site) -> Finding:
    """A part of what is held is given back; then the journal is held against the venue's own fills, bills and equity,
    and once more after a restart."""
    await pause(site)
    lots = await site.least_lots()
    held = (await site.venue.snapshot()).position_lots
    await site.take(Side.SELL if held > 0 else Side.BUY, lots)
    await accept(site)
    figures, wrong = await _compared(site)
    before = _books(site)
    code = await site.end_daemon()
    await site.begin_daemon(site.daemon.state_dir.path.name)
    after = _books(site)
    wrong += ["the daemon did not stop cleanly"] * (code != 0)
    wrong += [
        f"{name} was {before[name]} and is {after[name]} after a restart"
        for name in _FIELDS
        if before[name] != after[name]
    ]
    await site.until(lambda: site.daemon.state.facts.reconciled_ns, "the restarted daemon did not reconcile")
    again, wrong_again = await _compared(site)
    figures["residual_after_restart_quote"] = again["residual_quote"]
    wrong += [f"after a restart: {each}" for each in wrong_again if each not in wrong]
    await resume(site)
    return Finding(
        figures,
        "the fills, the ledger and the equity that the venue states, before and after a restart",
        tuple(wrong),
    )


def _books(site: Site) -> Mapping[str, int]:
    return {name: getattr(site.daemon.state.position, name) for name in _FIELDS}


async def _compared(site: Site) -> tuple[dict[str, float | str | bool], list[str]]:
    daemon = site.daemon
    since = Cursor(site.trading_ns)
    stated = {fill.trade_id: fill for fill in await site.venue.fills(since) if fill.trade_id not in site.before}
    bills = {bill.bill_id for bill in await site.venue.bills(since)} - site.before
    snapshot = await site.venue.snapshot()
    await daemon.parts.journal.durable(daemon.parts.journal.put([]))
    with JournalReader(daemon.state_dir.journal_path) as journal:
        rows = {fill.trade_id: fill for run in journal.runs() for fill in journal.fills(run.epoch)}
        booked = {bill.bill_id for run in journal.runs() for bill in journal.bills(run.epoch)}
    ours = daemon.state.position
    rates = await site.venue.fees()
    wrong = [
        *_named("in the venue's history and not in the journal", stated.keys() - rows.keys()),
        *_named("in the journal and not in the venue's history", rows.keys() - stated.keys()),
        *_named(
            "booked with another fee than the history says",
            {each for each in stated.keys() & rows.keys() if stated[each].fee_e10 != rows[each].fee_e10},
        ),
        *_named("on the ledger and not booked", bills - booked),
        *(said for fill in stated.values() if (said := mischarged(site, fill, rates))),
    ]
    folded = _folded(site, ours, rows)
    wrong += [
        f"{name} of the fills one by one is {getattr(folded, name)}, the daemon's is {getattr(ours, name)}"
        for name in ("realised_e10", "position_lots", "cash_flow_e10")
        if getattr(folded, name) != getattr(ours, name)
    ]
    residual_e10 = snapshot.equity_e10 - position.equity_cash_e10(ours, snapshot.mark_px_ticks)
    if abs(residual_e10) > EQUITY_TOLERANCE_E10:
        wrong.append(f"the venue's equity is {residual_e10 / 1e10:+.8f} from our books")
    if snapshot.position_lots != ours.position_lots:
        wrong.append(f"the venue holds {snapshot.position_lots} lots, our books {ours.position_lots}")
    return {
        "fills": len(stated),
        "maker_fills": sum(fill.liquidity is Liquidity.MAKER for fill in stated.values()),
        "bills": len(bills),
        "missing": len(stated.keys() ^ rows.keys()),
        "realised_quote": round(ours.realised_e10 / 1e10, 8),
        "fees_quote": round(ours.fees_e10 / 1e10, 8),
        "residual_quote": round(residual_e10 / 1e10, 10),
    }, wrong


def _named(what: str, ids: set[str]) -> list[str]:
    named = ", ".join(sorted(ids)[:_SHOWN])
    return [f"{len(ids)} {what}: {named}"] if ids else []


def _folded(site: Site, ours: Position, rows: Mapping[str, FillRow]) -> Position:
    """Books made anew from the journal's fills alone, in their order."""
    instrument = site.daemon.params.instrument
    books = position.begin(instrument, ours.start_e10)
    for row in sorted(rows.values(), key=lambda each: (each.epoch, each.seq)):
        fill = Fill(
            *(row.mono_ns, row.ts_ns, row.venue_ts_ns, row.trade_id, row.client_id, row.side, row.px_ticks),
            *(row.qty_lots, row.fee_e10, row.liquidity, row.exec_kind),
        )
        position.on_fill(books, fill, instrument)
    return books


async def budgets(site: Site) -> Finding:
    """What all connections of this preflight asked for, the journal's busiest minute, and what breaches would do."""
    params = site.daemon.params
    sent, limited = site.asked()
    with JournalReader(site.daemon.state_dir.journal_path) as journal:
        messages = [ts for (ts,) in journal.db.execute("SELECT ts_ns FROM intents")]
        cancels = list(journal.db.execute("SELECT ts_ns, risk FROM cancels"))
    busiest = _busiest(messages + [ts for ts, _ in cancels])
    counted = _busiest([ts for ts, risk in cancels if not risk])
    states = escalates(params)
    most, most_cancels = params.limits.messages_per_minute, params.limits.cancels_per_minute
    wrong = [f"the venue answered {path} with too many, {count} times" for path, count in sorted(limited.items())]
    wrong += [f"{busiest} messages in a minute, the budget is {most}"] * (busiest >= most)
    wrong += [f"{counted} cancels in a minute, the budget is {most_cancels}"] * (counted > most_cancels)
    if states[0] != "reducing" or states[-1] != "hard_stop":
        wrong.append(f"breaches of the cancel budget led to {', '.join(states)}")
    return Finding(
        {
            "requests": sum(sent.values()),
            "too_many": sum(limited.values()),
            "busiest_minute": busiest,
            "headroom_fraction": round(1 - busiest / most, 4),
            "cancels_minute": counted,
            "cancel_headroom_fraction": round(1 - counted / most_cancels, 4),
            "escalation": " ".join(states),
        },
        "requests of every connection of this preflight, the journal's messages, and the core's own step",
        tuple(wrong),
    )


def _busiest(times_ns: list[int]) -> int:
    """Most within a minute."""
    times_ns.sort()
    first = most = 0
    for last, at_ns in enumerate(times_ns):
        while at_ns - times_ns[first] >= 60 * NS:
            first += 1
        most = max(most, last - first + 1)
    return most
